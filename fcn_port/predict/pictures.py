"""Pictures opened by Pillow: a closed list of formats, and one kind of error whatever is wrong with the file.

Pillow knows forty formats, and starts other programs for some of them (Ghostscript for an EPS, whatever it is called).
The ones here are those that photographs and label maps come in, each decoded inside the process by a library that is
maintained against hostile files. Nothing else in the project calls `Image.open`.
"""

from __future__ import annotations

import io
import os
import re
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from converters.errors import CaffeFormatError, LimitError
from converters.safety import check_memory, file_version, open_file

from ..errors import ImageError, ImageMemoryError
from .animations import Animation, LastAnimation

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
"""Pillow's names of the formats that are read; a JPEG may hold several pictures (MPO), of which the first counts."""
_SEVERAL = ("GIF", "TIFF", "WEBP", "PNG")
"""Formats in which further pictures are no thumbnails of the first."""

_PAGED = ("TIFF", "MPO")
"""Formats whose pictures have sizes of their own, and are found without the ones before."""

_JPEGS = ("JPEG", "MPO")

_AS_NPY = "an .npy (h, w, channels) holds any"
SMALLER = "give the image in pieces, or scaled down, or use a machine with more memory"
"""The advice where an image is too large for the machine."""
_EXPANSION = 64
"""Bytes of pixels for each byte of a file, beyond the first 64 MiB: photographs have up to about 30."""
_PIXEL_BYTES = 4
"""The bytes that Pillow takes for a pixel in colours, which every picture becomes."""
_DEEP = ("F", "I", "I;16", "I;16B", "I;16L", "I;16N")
_DEEP_PIXEL_BYTES = 32
"""Modes of more than 8 bits, and what a pixel of one takes on its way to 8 (27 bytes seen)."""
_STORED = "fcn-port: as stored"
"""The key of a picture's `info` under which `_stored` is kept: Pillow forgets it when it decodes."""
_TURN = Image.Transpose
_ASIDE = (_TURN.TRANSPOSE, _TURN.TRANSVERSE, _TURN.ROTATE_90, _TURN.ROTATE_270)
"""Turns whose rows are the picture's columns."""
_FROM_BELOW = (_TURN.FLIP_TOP_BOTTOM, _TURN.ROTATE_180, _TURN.TRANSVERSE, _TURN.ROTATE_270)
_FROM_RIGHT = (_TURN.FLIP_LEFT_RIGHT, _TURN.ROTATE_180, _TURN.TRANSVERSE, _TURN.ROTATE_90)
"""Turns behind which the picture's first row, or first column, is a last one."""
_UNKNOWN = ("", 0, 0)
"""The same of a picture that did not come from a file, as `_stored` gives it."""
_TIFFS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_LAST = LastAnimation()
_BITS, _CHANNELS, _PLANES = 258, 277, 284
"""TIFF's tags BitsPerSample, SamplesPerPixel and PlanarConfiguration, which is 2 for one channel after the other."""
_STRIP_PIXELS = 1 << 20
"""About as many are copied at a time: of less than that the C library would keep what is free again."""
_ROW_BYTES = 64
"""The bytes of a row beside its pixels, in Pillow's tables and to be aligned (48 bytes seen): most of a tall strip."""


@contextmanager
def opened_picture(
    source: str | os.PathLike[str] | bytes, *, pixels: bool = True, frame: int = 0, grey: bool = False
) -> Iterator[Image.Image]:
    """The picture in a file, or in the bytes of one, decoded unless `pixels` is False, for the time of the block.

    `frame` is which one of several, from 0 on. `grey` asks a JPEG for its luminance alone, where it has one.

    Whatever Pillow raises, also inside the block, becomes an ImageError that names the file: it is no picture, of a
    format that is not read, damaged, cut, or larger than a file of its size may be. FileNotFoundError passes.
    """
    name = "" if isinstance(source, bytes) else f"{Path(source)}: "
    with pillow_errors(name), _picture_at(source, frame, name) as (image, size):
        if grey and image.format in _JPEGS:
            image.draft("L", None)
        if pixels:
            _check_size(image, size)
            _check_planes(image)
            if getattr(image, "tile", ()):  # else it is decoded, and what it was has been noted
                image.info[_STORED] = _stored(image)
            image.load()
        yield image


def frames_of(path: str | os.PathLike[str]) -> int:
    """The number of pictures in a file, of which the first is read: more in animations and documents."""
    with opened_picture(path, pixels=False) as image:
        return int(getattr(image, "n_frames", 1)) if image.format in _SEVERAL else 1


def is_deep(image: Image.Image) -> bool:
    """True for a picture of one channel of more than 8 bits, of which Pillow's conversions keep what is below 256."""
    return image.mode[0] in "IF"


def eight_bits(image: Image.Image) -> np.ndarray:
    """8 bits (h, w) of a picture that is open and is deep: the upper ones of 16, as OpenCV takes them.

    Fractions up to 1 become 0 to 255; other numbers that are not whole are rounded.
    """
    if image.mode != "F":
        return (np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8)
    whole: np.ndarray = np.nan_to_num(np.asarray(image))
    if whole.max(initial=0) <= 1:
        whole *= 255
    np.rint(whole.clip(0, 255, out=whole), out=whole)
    return whole.astype(np.uint8)


def strips_of(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """Some rows of a picture at a time, and the first one's number: Pillow copies the whole of one several times."""
    rows = max(_STRIP_PIXELS // max(image.width, 1), 1)
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def color_of_picture(image: Image.Image, turn: Image.Transpose | None = None) -> np.ndarray:
    """The colours (h, w, 3) uint8 RGB of a picture that is open, turned; 16 bits and fractions become 8."""
    if is_deep(image):
        image = Image.fromarray(eight_bits(image))
    upright = (image.width, image.height) if turn in _ASIDE else (image.height, image.width)
    pixels = np.empty((*upright, 3), np.uint8)
    as_stored = _turned_back(pixels, turn)
    for top, strip in strips_of(image):
        as_stored[top : top + strip.height] = np.asarray(strip.convert("RGB"))
    return pixels


def _turned_back(pixels: np.ndarray, turn: Image.Transpose | None) -> np.ndarray:
    """A view of what a turn makes, with rows and columns as they were before."""
    if turn in _ASIDE:
        pixels = pixels.swapaxes(0, 1)
    return pixels[:: -1 if turn in _FROM_BELOW else 1, :: -1 if turn in _FROM_RIGHT else 1]


def values_of_picture(image: Image.Image) -> np.ndarray:
    """The values (h, w) or (h, w, 3) of a picture from `opened_picture` as its file has them, which labels are.

    Pillow spreads greys of 2 and 4 bits, and values of a PGM or PPM whose largest is another than 255, over 8 bits.
    """
    values = np.asarray(image)
    rawmode, largest, _ = image.info.get(_STORED, _UNKNOWN)
    if found := re.fullmatch(r"L;([24])R?", rawmode):
        return np.asarray(values // np.uint8(255 // ((1 << int(found[1])) - 1)))
    if largest:
        return np.asarray(np.rint(values * (largest / (255 if largest < 256 else 65535)))).astype(values.dtype)
    return values


def deeper_than_shown(image: Image.Image) -> bool:
    """True for a picture of several channels of 16 bits from `opened_picture`, of which Pillow keeps the upper 8."""
    rawmode, largest, _ = image.info.get(_STORED, _UNKNOWN)
    return len(image.getbands()) > 1 and (";16" in rawmode or largest > 255)


def bands_of_picture(image: Image.Image) -> np.ndarray:
    """Every channel (h, w, c) uint8 of a picture that is open, in its order; a palette gives its colours.

    ValueError where a TIFF has channels of which Pillow makes nothing.
    """
    _, _, channels = image.info.get(_STORED, _UNKNOWN)
    if channels > len(image.getbands()):
        raise ValueError(f"a TIFF of {channels} channels, of which {len(image.getbands())} can be read; {_AS_NPY}")
    if is_deep(image):
        return eight_bits(image)[:, :, None]
    direct = image.mode in ("L", "LA", "RGB", "RGBA", "RGBX", "CMYK")
    found = np.asarray(image if direct else image.convert("L" if image.mode == "1" else "RGB"))
    return found.reshape(*found.shape[:2], -1)


def array_in(path: Path) -> np.ndarray:
    """The array of an .npy file, nothing unpickled; ImageError names the file, FileNotFoundError passes."""
    try:
        with open_file(path):  # a pipe would be waited for
            return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except (FileNotFoundError, CaffeFormatError):
        raise
    except Exception as error:  # NumPy's reader raises whatever it stumbles over, also tokenize.TokenError
        raise ImageError(f"{path}: not an array that can be read: {error!s:.120}") from None


@contextmanager
def pillow_errors(name: str = "") -> Iterator[None]:
    """Whatever Pillow raises inside the block becomes an ImageError that begins with `name`; the project's own pass."""
    try:
        yield
    except LimitError as error:
        raise ImageError(f"{name}{error}") from None
    except (FileNotFoundError, ImageError, CaffeFormatError):
        raise
    except UnidentifiedImageError as error:
        raise ImageError(f"{name}not an image that can be read: none of {', '.join(FORMATS)}") from error
    except Image.DecompressionBombError as error:
        raise ImageError(
            f"{name}not an image that can be read: {error}\n  if you trust the file, `predict --tile N` takes it, or "
            "set PIL.Image.MAX_IMAGE_PIXELS in Python"
        ) from error
    except MemoryError as error:
        raise ImageMemoryError(f"{name}not enough memory for its pixels\n  {SMALLER}") from error
    except Exception as error:  # Pillow's decoders raise whatever they stumble over
        raise ImageError(f"{name}not an image that can be read: {_described(error)}") from error


@contextmanager
def _room_for(image: Image.Image, name: str) -> Iterator[None]:
    """A MemoryError inside the block becomes one that says how large the picture is."""
    try:
        yield
    except MemoryError as error:
        said = f"{name}not enough memory for {image.width} x {image.height} pixels"
        raise ImageMemoryError(f"{said}\n  {SMALLER}") from error


def _bytes_of(path: Path) -> bytes:
    """The whole file: Pillow asks a file for as many bytes as a header says, and it makes room for them all."""
    if stat.S_ISFIFO(path.stat().st_mode) or stat.S_ISCHR(path.stat().st_mode):
        raise ImageError(f"{path}: not an image that can be read: a pipe or a device")
    return path.read_bytes()


@contextmanager
def _picture_at(source: str | os.PathLike[str] | bytes, frame: int, name: str) -> Iterator[tuple[Image.Image, int]]:
    """Picture `frame` of a file, not decoded yet, and the bytes of its file, which goes on where it was read last."""
    if isinstance(source, bytes) or not frame:
        raw = source if isinstance(source, bytes) else _bytes_of(Path(source))
        if not raw:
            raise ImageError(f"{name}not an image that can be read: {'the file is empty' if name else 'no bytes'}")
        with _identified(raw) as image, _room_for(image, name):
            if frame:
                _seek(image, frame, len(raw))
            yield image, len(raw)
        return
    animation = _LAST.take(Path(source), frame) or _opened(Path(source))
    with ExitStack() as stack:
        image = stack.enter_context(animation.image)
        with _room_for(image, name):
            _seek(image, frame, animation.size)
            yield image, animation.size
        stack.pop_all()  # it stays open
        _LAST.put(animation)


def _opened(path: Path) -> Animation:
    """A file of several pictures, open at the first."""
    file = file_version(path)
    raw = _bytes_of(path)
    return Animation(file, len(raw), _identified(raw))


def _seek(image: Image.Image, frame: int, size: int) -> None:
    if image.format not in _PAGED:  # the pictures before it are decoded on the way
        _check_size(image, size)
    image.seek(frame)


def _identified(raw: bytes) -> Image.Image:
    """The picture in a file's bytes, of which no pixel is decoded."""
    try:
        return Image.open(io.BytesIO(raw), formats=FORMATS)
    except UnidentifiedImageError:
        if raw[:4] not in _TIFFS:
            raise
        kinds = "one to four channels of 8 or 16 bits, or one of 32"
        raise ValueError(f"a damaged TIFF, or one that is not of {kinds}; {_AS_NPY}") from None


def _check_planes(image: Image.Image) -> None:
    """ValueError for a TIFF of which Pillow would take one channel for the whole, or numbers of 16 bits for bytes."""
    if image.format != "TIFF":
        return
    tags: Any = image.tag_v2  # type: ignore[attr-defined]
    channels = tags.get(_CHANNELS, 1)
    if channels > 2 and len(image.getbands()) == 1 and image.mode != "P":
        raise ValueError(f"a TIFF of {channels} channels, of which one would be read; {_AS_NPY}")
    is_raw = any(codec == "raw" for codec, *_ in getattr(image, "tile", ()))
    if is_raw and tags.get(_PLANES) == 2 and 16 in tags.get(_BITS, ()):
        raise ValueError(
            "a TIFF of 16 bits with one channel after the other, not compressed, which Pillow cannot read; "
            "store it by pixels, or compressed"
        )


def _check_size(image: Image.Image, file_size: int) -> None:
    """LimitError if the pixels would take more memory than a file of this size may ask for."""
    pixel = _PIXEL_BYTES if image.mode not in _DEEP else _DEEP_PIXEL_BYTES
    needed = image.height * (image.width * pixel + _ROW_BYTES)
    check_memory(
        needed, file_size=file_size, expansion=_EXPANSION, what=f"{image.width} x {image.height} pixels would take"
    )


def _stored(image: Image.Image) -> tuple[str, int, int]:
    """Pillow's name of the form in which the pixels are stored, the largest value of a PGM or PPM, a TIFF's channels.

    The numbers are 0 where nothing says them.
    """
    codec, _, _, args = next(iter(getattr(image, "tile", ())), ("", None, 0, ()))
    parts = args if isinstance(args, tuple) else (args,)
    says_largest = codec.startswith("ppm") and len(parts) > 1  # a PBM has none, or Pillow 10 has None
    channels = int(image.tag_v2.get(_CHANNELS, 1)) if image.format == "TIFF" else 0  # type: ignore[attr-defined]
    return str(parts[0] if parts else ""), int(parts[1] or 0) if says_largest else 0, channels


def _described(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__
