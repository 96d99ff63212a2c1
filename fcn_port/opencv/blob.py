"""blob_from_image: the blob that `cv2.dnn.blobFromImage` makes of an image of bytes, without OpenCV.

The pixels are interpolated as OpenCV does it for 8 bits (`..predict.resizing`); what follows is arithmetic in float32
(modules/dnn/src/dnn_utils.cpp, blobFromImagesWithParams), as OpenCV 4.11 and newer do it: older ones round it
otherwise, and 4.8 takes the mean in the order of the image.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..predict.resizing import resize


def blob_from_image(
    image: np.ndarray,
    *,
    scalefactor: float = 1.0,
    size: tuple[int, int] | None = None,
    mean: float | Sequence[float] = (0.0, 0.0, 0.0),
    swap_rb: bool = False,
    crop: bool = False,
) -> np.ndarray:
    """The float32 blob (1, c, h, w) of an image (h, w) or (h, w, c) of uint8, as cv2.dnn.blobFromImage gives it.

    `size` is (w, h), in OpenCV's order; (0, 0) stands for the image's own, as there. With `crop` the image keeps its
    proportions, covers the size and is cut to it in the middle. `mean` is in the order of the blob's channels, after
    `swap_rb`; one number is the first channel's, as there. ValueError for another kind of image or size.
    """
    if not isinstance(image, np.ndarray):
        from converters.given import found_in_words

        said = "; cv2.imread gives None where it cannot read the file" if image is None else ""
        raise ValueError(f"found {found_in_words(image)}; expected an image (h, w) or (h, w, c) of uint8{said}")
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or not image.size:
        raise ValueError(f"an image of {image.dtype} and shape {image.shape}; expected (h, w) or (h, w, c) of uint8")
    if size is not None and (len(size) != 2 or (min(size) < 1 and any(size))):
        raise ValueError(f"size {size}; expected (width, height) in pixels")
    pixels = image if image.ndim == 3 else image[:, :, None]
    if size is not None and any(size) and size != (pixels.shape[1], pixels.shape[0]):
        pixels = _covering(pixels, size) if crop else resize(pixels, size[::-1])
    values = pixels[:, :, [2, 1, 0, 3][: pixels.shape[2]]] if swap_rb and pixels.shape[2] in (3, 4) else pixels
    shift = np.zeros(values.shape[2], np.float32)
    given = np.atleast_1d(np.asarray(mean, np.float32))[: values.shape[2]]
    shift[: len(given)] = given
    blob = (values.astype(np.float32) - shift) * np.float32(scalefactor)
    return np.ascontiguousarray(blob.transpose(2, 0, 1)[None])


def _covering(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The middle of the image at the smallest size that covers `size` (w, h)."""
    height, width = pixels.shape[:2]
    factor = float(max(np.float32(size[0]) / np.float32(width), np.float32(size[1]) / np.float32(height)))
    wide = int(np.rint(width * factor)), int(np.rint(height * factor))
    large = resize(pixels, wide[::-1], factor=factor)
    left, top = int(0.5 * (wide[0] - size[0])), int(0.5 * (wide[1] - size[1]))
    return large[top : top + size[1], left : left + size[0]]
