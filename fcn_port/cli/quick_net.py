"""The net of `predict` on NumPy arrays, where its answer is there sooner than PyTorch's: that alone takes a second.

It takes less memory, too: PyTorch alone takes 200 MB.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from converters.net import NetSpec

if TYPE_CHECKING:
    from ..fastpath.numpy_net import NumpyNet
    from .engine import RunOptions

ENDINGS = (".caffemodel", ".h5", ".safetensors")
"""The files that are read without PyTorch."""
FEW = 4
"""Images up to which a net with a wide first padding is quicker without PyTorch, though it computes the padding."""


def quick_net(path: Path, options: RunOptions, *, prototxt: Path | None, images: int | None) -> NumpyNet | None:
    """The net of a file for so many images (None: nobody knows how many), on the CPU.

    None where the options or a layer need PyTorch, where that is installed and `fast` saves more than its import takes,
    and where something is wrong with the file: the other way says what, or, where there is no PyTorch, this one, which
    raises it: what is missing then is not PyTorch.
    """
    from converters.errors import CaffeFormatError

    from ..detection.detecting import detects
    from ..errors import EngineError
    from ..fastpath.numpy_net import numpy_net

    as_usual = options.engine == "auto" and options.precision == "fp32" and not options.padded
    has_torch = find_spec("torch") is not None
    if not as_usual or (has_torch and not (path.suffix in ENDINGS and path.is_file())):
        return None
    try:
        if not has_torch and _is_for_torch(path):
            return None
        net = numpy_net(path, prototxt=prototxt, low_memory=options.low_memory)
        net.card  # noqa: B018 - may be damaged, too
        if net.needs_torch() is not None or detects(net.spec):
            return None
    except (CaffeFormatError, OSError):
        if not has_torch:
            raise
        return None
    except (ArithmeticError, EngineError, LookupError, NotImplementedError, ValueError):
        return None
    are_few = images is not None and images <= FEW and not options.low_memory  # the padding's blobs are large
    is_quicker = are_few or not is_padded_widely(net.spec)
    return net if is_quicker or not has_torch else None


def _is_for_torch(path: Path) -> bool:
    """True for what only PyTorch's way reads, whatever it is called: its own files, folders, and nets on a hub."""
    from converters.formats import sniff

    if not path.is_file():
        return path.exists() or str(path).startswith("hf:")
    return sniff.sniff_file(path) in (sniff.ZIP, sniff.PICKLE)


def is_padded_widely(spec: NetSpec) -> bool:
    """True where convolutions of an input see nothing but padding at some places, as those of FCNs do."""
    first = [layer for layer in spec.layers if layer.type == "Convolution" and {*layer.bottoms} & {*spec.inputs}]
    along = [layer.params.along(2) for layer in first if layer.params is not None]  # type: ignore[attr-defined]
    return any(pad >= window for windows, _, pads, _ in along for window, pad in zip(windows, pads, strict=True))
