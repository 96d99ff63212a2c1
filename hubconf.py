"""Entry points for torch.hub: each release and each net by its name, with _ for -.

    net = torch.hub.load("OWNER/fcn-port", "voc_fcn8s")                        # with the published weights
    net = torch.hub.load("OWNER/fcn-port", "voc_fcn8s", pretrained=False, num_classes=5)
    net = torch.hub.load("OWNER/fcn-port", "load", "hf:OWNER/NAME")            # whatever fcn_port.load takes

OWNER/fcn-port is wherever this repository is; a folder with source="local" does as well.
"""

from typing import Any as _Any  # torch.hub.list takes every name without _ that can be called for an entry point

import weights as _weights
from fcn_port import load
from fcn_port import nets as _nets
from weights import catalogue as _catalogue

dependencies = [
    "cattrs",
    "click",
    "filelock",
    "h5py",
    "numpy",
    "PIL",
    "platformdirs",
    "requests",
    "safetensors",
    "torch",
]


def _entry(name: str) -> _Any:
    def entry(pretrained: bool = True, num_classes: _Any = None) -> _Any:
        if not pretrained and name in _catalogue.bundled():
            raise ValueError(f"{name} is there with its weights alone; voc_fcn8s is the net with pretrained=False")
        if not pretrained:
            return _nets.build(name, num_classes)
        if num_classes is not None:
            raise ValueError(
                f"the weights of {name} have their own number of classes: pretrained=False for another one"
            )
        return load(name)

    entry.__doc__ = f"The net {name} in eval mode, with the published weights unless pretrained=False."
    return entry


_NAMES = sorted({*_nets.NETS, *_weights.releases(), *_catalogue.bundled()})
globals().update({name.replace("-", "_"): _entry(name) for name in _NAMES}, load=load)
__all__ = ["dependencies", "load"]
