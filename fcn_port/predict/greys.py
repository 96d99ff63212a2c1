"""The grey of a picture, as OpenCV's imread(IMREAD_GRAYSCALE) reads it of a file, and Caffe with that (`force_gray`).

A JPEG's is the luminance that it holds, before colours are made of it: libjpeg is asked for grey
(modules/imgcodecs/src/grfmt_jpeg.cpp of opencv/opencv). A PNG's is libpng's (grfmt_png.cpp: png_set_rgb_to_gray with
0.299 and 0.587; pngrtran.c: png_do_rgb_to_gray), which cuts fractions off and, where the file says a gamma, adds up
light. Others are a weighted sum of colours: with 14 bits (utils.cpp: icvCvt_BGR2Gray_8u_C3C1R), or cvtColor's with 15
(modules/imgproc/src/color_rgb.simd.hpp: RGB2Gray), which an image in memory gets, too.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from .pictures import color_of_picture, eight_bits, is_deep

_OF_PNG = (9797, 19234, 3737)
"""libpng's weights of red, green and blue, of 32768."""
_OF_FILES = (4899, 9617, 1868)
"""Those of OpenCV's readers, of 16384."""
_IN_MEMORY = (9798, 19235, 3735)
"""Those of cv2.cvtColor, of 32768."""
_SUMS = ("BMP", "TIFF", "PPM")
"""Formats whose readers add up colours themselves."""
_SRGB_GAMMA = 45455
"""The gamma of a PNG that says it is sRGB, as gAMA chunks have it."""
_GAMMAS = (16, 625_000_000)
"""Those that libpng takes."""
_LINEAR = 5000
"""A gamma this near to 100000 is none (libpng's PNG_GAMMA_THRESHOLD_FIXED)."""


class GreyBeside(np.ndarray):
    """An image (h, w, 4): its colours RGB, and the grey of its file, which is not always that of the colours."""


def beside(colours: np.ndarray, grey: np.ndarray) -> np.ndarray:
    """Colours (h, w, 3) with the grey (h, w) of their file as a fourth channel."""
    return np.dstack([colours, grey]).view(GreyBeside)


def grey_of_picture(image: Image.Image) -> np.ndarray:
    """The grey (h, w) uint8 of a picture that was opened with `grey=True`, within 1 for colours of 16 bits."""
    if is_deep(image):
        return eight_bits(image)
    if image.mode in ("L", "LA", "La", "1"):
        return np.asarray(image.convert("L"))
    if image.mode == "CMYK":
        return _weighed(_colours_of_inks(image), _OF_FILES, bits=14)
    colours = color_of_picture(image)
    if image.format == "PNG":
        return _of_png(colours, _gamma(image))
    return _weighed(colours, _OF_FILES, bits=14) if image.format in _SUMS else grey_of_colours(colours)


def grey_of_colours(colours: np.ndarray) -> np.ndarray:
    """The grey (h, w) uint8 of an image (h, w, 3) uint8 RGB in memory, as cv2.cvtColor makes it."""
    return _weighed(colours, _IN_MEMORY, bits=15)


def _weighed(colours: np.ndarray, weights: tuple[int, int, int], *, bits: int, rounded: bool = True) -> np.ndarray:
    total: np.ndarray = np.zeros(colours.shape[:2], np.uint32)
    for channel, weight in enumerate(weights):  # NumPy 1 has a weight times bytes as no more than 16 bits
        total += np.multiply(colours[:, :, channel], weight, dtype=np.uint32)
    if rounded:
        total += np.uint32(1 << (bits - 1))
    total >>= np.uint32(bits)
    return total.astype(np.uint8)


def _of_png(colours: np.ndarray, gamma: int) -> np.ndarray:
    """libpng's grey: of greys themselves, and of colours by their light where a gamma (of 100000) says what that is."""
    if abs(gamma - 100000) < _LINEAR:
        return _weighed(colours, _OF_PNG, bits=15, rounded=False)
    steps = np.arange(256) / 255
    light, back = (np.floor(255 * steps**power + 0.5).astype(np.uint8) for power in (100000 / gamma, gamma / 100000))
    of_light = back[_weighed(light[colours], _OF_PNG, bits=15)]
    equal = (colours[:, :, 0] == colours[:, :, 1]) & (colours[:, :, 1] == colours[:, :, 2])
    return np.where(equal, colours[:, :, 0], of_light)


def _gamma(image: Image.Image) -> int:
    """The gamma of a PNG, of 100000, which is none where the file says none that can be used."""
    if "srgb" in image.info:
        return _SRGB_GAMMA
    said = round(float(image.info.get("gamma", 1.0)) * 100000)
    return said if _GAMMAS[0] <= said <= _GAMMAS[1] else 100000


def _colours_of_inks(image: Image.Image) -> np.ndarray:
    """The colours of a CMYK picture as OpenCV has them (utils.cpp: icvCvt_CMYK2BGR_8u_C4C3R), within 1 of Pillow's."""
    inks = 255 - np.asarray(image).astype(np.uint32)
    black = inks[:, :, 3:]
    colours: np.ndarray = black - ((255 - inks[:, :, :3]) * black >> np.uint32(8))
    return colours
