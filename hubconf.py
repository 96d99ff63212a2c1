"""Entry points for torch.hub: each release and each net by its name, with _ for -.

    net = torch.hub.load("OWNER/fcn-port", "voc_fcn8s")                        # with the published weights
    net = torch.hub.load("OWNER/fcn-port", "voc_fcn8s", pretrained=False, num_classes=5)
    net = torch.hub.load("OWNER/fcn-port", "load", "hf:OWNER/NAME")            # whatever fcn_port.load takes

OWNER/fcn-port is wherever this repository is; a folder with source="local" does as well.
"""

from collections.abc import Callable
from typing import Any

from fcn_port import load
from fcn_port.nets import NETS, build
from weights import releases
from weights.catalogue import bundled

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


def _entry(name: str) -> Callable[..., Any]:
    def entry(pretrained: bool = True, num_classes: Any = None) -> Any:
        if not pretrained:
            return build(name, num_classes)
        if num_classes is not None:
            raise ValueError(
                f"the weights of {name} have their own number of classes: pretrained=False for another one"
            )
        return load(name)

    entry.__doc__ = f"The net {name} in eval mode, with the published weights unless pretrained=False."
    return entry


globals().update(
    {name.replace("-", "_"): _entry(name) for name in sorted({*NETS, *releases(), *bundled()})}, load=load
)  # fmt: skip
__all__ = ["dependencies", "load"]
