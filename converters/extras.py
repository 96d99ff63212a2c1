"""The packages that come with an extra of this one: what they are called, and the line that installs a missing one."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

EXTRAS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "av": ("PyAV", "video"),
        "cv2": ("OpenCV", "opencv"),
        "huggingface_hub": ("huggingface_hub", "hub"),
        "model_explorer": ("Model Explorer", "view"),
        "netron": ("Netron", "view"),
        "onnx": ("onnx", "onnx"),
        "onnxruntime": ("onnxruntime", "onnx"),
        "prometheus_client": ("prometheus-client", "serve"),
        "pyarrow": ("pyarrow", "ray"),
        "python_multipart": ("python-multipart", "serve"),
        "rasterio": ("rasterio", "geo"),
        "ray": ("Ray", "ray"),
        "skimage": ("scikit-image", "edges"),
        "starlette": ("starlette", "serve"),
        "torch": ("PyTorch", "torch"),
        "uvicorn": ("uvicorn", "serve"),
    }
)
"""By the name that is imported: the package's own name, and the extra that brings it."""


def package_of(error: ModuleNotFoundError) -> str | None:
    """The package of an extra whose absence this error tells of, None for a module of another kind."""
    name = (error.name or "").partition(".")[0]
    return name if name in EXTRAS else None


def how_to_install(*packages: str) -> str:
    """The command, quoted for every shell, that brings these packages of extras."""
    return f"pip install 'fcn-port[{','.join(sorted({EXTRAS[name][1] for name in packages}))}]'"


def which_are_missing(*packages: str) -> str:
    """The sentence of a verb that needs these packages, as it ends."""
    *before, last = (EXTRAS[name][0] for name in packages)
    named = f"{', '.join(before)} and {last}" if before else last
    return f"needs {named}, which {'are' if before else 'is'} not installed: {how_to_install(*packages)}"
