"""Images in, the way the nets were fed: RGB by Pillow, then BGR float32 less the mean, never resized."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from weights.records import InputRecipe

from ..errors import ImageError
from .greys import GreyBeside, beside, grey_of_colours, grey_of_picture
from .image_lists import ImageSource
from .pictures import array_in, bands_of_picture, color_of_picture, opened_picture, pillow_errors

if TYPE_CHECKING:
    from torch import Tensor

_ORIENTATION = 0x0112
"""The EXIF tag of how a camera was held."""
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The orientations that turn or mirror, and what makes them upright (Exif 2.3, 4.6.4)."""

ImageLike = str | os.PathLike[str] | Image.Image | np.ndarray


class StoredValues(np.ndarray):
    """An image (h, w, c) with values as a data set stores them: HDF5 files and databases hold not only bytes."""


def read_image(image: ImageLike, *, frame: int = 0, kind: str = "color") -> np.ndarray:
    """An image as (h, w, 3) uint8 RGB, as a viewer would show it, or of `kind` "bands" with every channel it holds.

    A file is of one of `pictures.FORMATS`, in any mode; its EXIF orientation is applied, 16 bits become 8,
    fractions up to 1 become 0 to 255, transparency is dropped; or it is an .npy of bytes. Of `kind` "grey" a picture's
    file also gives, as a fourth channel, the grey that OpenCV reads of it (`greys.py`). An array is taken as it is,
    (h, w, 3) uint8 RGB, for "bands" (h, w, channels). `frame` is the number of a picture in a file of several.
    Raises ImageError, and FileNotFoundError.
    """
    bands = kind == "bands"
    if isinstance(image, np.ndarray):
        bytes_wanted = not isinstance(image, StoredValues | GreyBeside)
        counts = bands or isinstance(image, GreyBeside) or image.shape[2:] == (3,)
        if (bytes_wanted and image.dtype != np.uint8) or image.ndim != 3 or not counts or not image.size:
            raise ImageError(f"an array of {image.dtype} {image.shape}; expected {_EXPECTED[bands]}")
        return image
    if isinstance(image, Image.Image):
        with pillow_errors():
            return _turned(image, bands=bands)
    if not isinstance(image, str | os.PathLike):
        found = "a tensor, which a net takes as it is: net(x)" if hasattr(image, "requires_grad") else _kind(image)
        raise ImageError(f"{found}; expected an image file's path, a Pillow image or an {_EXPECTED[bands]} array")
    if Path(image).suffix.lower() == ".npy":
        return _of_array(Path(image), bands=bands)
    return picture_of(image, frame=frame, kind=kind)


def picture_of(source: str | os.PathLike[str] | bytes, *, frame: int = 0, kind: str = "color") -> np.ndarray:
    """The pixels of a picture's file, or of the bytes of one, as `read_image` gives them."""
    with opened_picture(source, frame=frame) as opened:
        pixels = _turned(opened, bands=kind == "bands")
    if kind != "grey":
        return pixels
    with opened_picture(source, frame=frame, grey=True) as opened:
        turn = _turn_of(opened)
        plane = Image.fromarray(grey_of_picture(opened))
        return beside(pixels, np.asarray(plane if turn is None else plane.transpose(turn)))


def read_source(source: ImageSource, *, kind: str = "color") -> np.ndarray:
    """The pixels of a source, as `read_image` gives them; of a data set's image as that has them."""
    if source.stored is not None:
        found = source.stored(kind)
        return found if isinstance(found, GreyBeside) else found.view(StoredValues)
    return read_image(source.path, frame=source.frame or 0, kind=kind)


_EXPECTED = {False: "(h, w, 3) uint8 RGB", True: "(h, w, channels) uint8"}


def rgb_of(pixels: np.ndarray) -> np.ndarray:
    """An image of any channels (h, w, c) as (h, w, 3) uint8 to look at: its first three, or its first one as grey.

    Values that are no bytes, which HDF5 files and databases may hold, are taken as 0 to 255 or, where they are not
    between these, stretched to that.
    """
    if pixels.dtype != np.uint8:
        values = np.nan_to_num(pixels.astype(np.float64))
        least, largest = float(values.min(initial=0)), float(values.max(initial=0))
        if least < 0 or largest > 255:
            values = (values - least) * (255 / max(largest - least, 1e-12))
        pixels = values.round().astype(np.uint8)
    planes = pixels[:, :, :3] if pixels.shape[2] > 2 else np.repeat(pixels[:, :, :1], 3, axis=2)
    return np.ascontiguousarray(planes)


def _of_array(path: Path, *, bands: bool) -> np.ndarray:
    values = array_in(path)
    values = values[:, :, None] if values.ndim == 2 else values
    if values.dtype != np.uint8 or values.ndim != 3 or not values.size or not (bands or values.shape[2] in (1, 3, 4)):
        raise ImageError(f"{path}: an array of {values.dtype} {values.shape}; expected {_EXPECTED[bands]}")
    return np.ascontiguousarray(values) if bands else rgb_of(values)


def _kind(value: object) -> str:
    name = type(value).__name__
    return "nothing" if value is None else f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def is_turned(image: Image.Image) -> bool:
    """True for a picture that its EXIF orientation turns or mirrors."""
    return _turn_of(image) is not None


def _turn_of(image: Image.Image) -> Image.Transpose | None:
    """The turn that shows a picture as it was taken; None also for damaged EXIF data, which viewers pass over."""
    try:
        return _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # Pillow's reader raises whatever it stumbles over
        return None


def _turned(image: Image.Image, *, bands: bool) -> np.ndarray:
    turn = _turn_of(image)
    if not bands:
        return color_of_picture(image, turn)
    return bands_of_picture(image if turn is None else image.transpose(turn))


def grey_of(image_hwc: np.ndarray) -> np.ndarray:
    """The grey (h, w, 1) of colours: the fourth channel of a `GreyBeside`, else that of the three (`greys.py`)."""
    if image_hwc.shape[2] == 4:
        return image_hwc[:, :, 3:]
    if image_hwc.dtype == np.uint8:
        return grey_of_colours(image_hwc)[:, :, None]
    equal = (image_hwc == image_hwc[:, :, :1]).all()
    weighed: np.ndarray = image_hwc[:, :, :1] if equal else image_hwc @ np.array([[0.299], [0.587], [0.114]])
    return weighed


def to_array(image_hwc: np.ndarray, recipe: InputRecipe) -> NDArray[np.float32]:
    """The input blob (1, c, h, w) float32 of an image (h, w, c) with values as stored (RGB for colour).

    The mean is subtracted in double precision and the result rounded once, as the release's infer.py does. A net of one
    channel gets the grey of a colour image, as Caffe's data layers do (`greys.py`).
    """
    if image_hwc.shape[2] in (3, 4) and recipe.image == "grey":
        image_hwc = grey_of(image_hwc)
    values = image_hwc.astype(np.float32)
    if recipe.log:
        values = np.log(values)
    if recipe.channels == "bgr":
        values = values[:, :, ::-1]
    if values.shape[2] != len(recipe.mean):
        raise ImageError(f"{values.shape[2]} channels; input '{recipe.name}' has {len(recipe.mean)}")
    centred = ((values.astype(np.float64) - np.array(recipe.mean)) * recipe.scale).astype(np.float32)
    return np.ascontiguousarray(centred.transpose(2, 0, 1))[None]


def to_input(image_hwc: np.ndarray, recipe: InputRecipe) -> Tensor:
    """The input blob of `to_array` as a tensor."""
    import torch

    return torch.from_numpy(to_array(image_hwc, recipe))
