"""The image in a request: its bytes within the limits, and its pixels by the project's one opener of pictures."""

from __future__ import annotations

import io
import math
from collections.abc import AsyncGenerator

import numpy as np
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from ..errors import ImageError
from ..predict.images import picture_of
from ..predict.pictures import opened_picture
from .records import RefusedRequest, ServerLimits

_NPY = b"\x93NUMPY"
_FIELD = "image"
"""The field of a form that holds the image."""


async def image_bytes(request: Request, limits: ServerLimits) -> bytes:
    """The image in a request's body, sent as it is or as a form's field `image`; a file's name is passed over."""
    body = await _body(request, limits)
    kind = request.headers.get("content-type", "")
    if kind.partition(";")[0].strip().lower() == "multipart/form-data":
        body = await _field_of_form(request, body)
    if not body:
        raise RefusedRequest(400, "no image: send its bytes as the body, or as the field 'image' of a form")
    return body


async def _body(request: Request, limits: ServerLimits) -> bytes:
    """The whole body, never more than the limit in memory, whatever its length is said to be."""
    said = request.headers.get("content-length", "")
    if said.isdigit() and (len(said) > 18 or int(said) > limits.most_bytes):
        raise _too_large(limits)
    pieces, size = [], 0
    async for piece in request.stream():
        size += len(piece)
        if size > limits.most_bytes:
            raise _too_large(limits)
        pieces.append(piece)
    return b"".join(pieces)


def _too_large(limits: ServerLimits) -> RefusedRequest:
    return RefusedRequest(413, f"more than {limits.most_bytes:,} bytes")


class _InMemory(MultiPartParser):
    """A parser that keeps files in memory: the body, which holds them all, is there already."""

    spool_max_size = 1 << 62


async def _field_of_form(request: Request, body: bytes) -> bytes:
    async def pieces() -> AsyncGenerator[bytes, None]:
        yield body

    # A field without a file's name, as some programs send the image, is a text to the parser: of latin-1, any byte is.
    headers = Headers({"content-type": f"{request.headers['content-type']}; charset=latin-1"})
    try:
        form = await _InMemory(headers, pieces(), max_files=1, max_fields=8, max_part_size=len(body)).parse()
    except (MultiPartException, ValueError, KeyError) as error:
        raise RefusedRequest(400, f"not a form that can be read: {error}") from error
    try:
        found = form.get(_FIELD)
        if found is None and not body.rstrip(b"\r\n").endswith(b"--"):  # RFC 2046: how each ends
            raise RefusedRequest(400, "not a form that can be read: it was cut short")
        return await found.read() if isinstance(found, UploadFile) else (found or "").encode("latin-1")
    finally:
        await form.close()


def pixels_of(body: bytes, limits: ServerLimits, *, kind: str = "color") -> np.ndarray:
    """The image (h, w, 3) uint8 RGB in bytes, of another `kind` as `read_image` gives it.

    Its size is judged before its pixels are decoded. For bands the bytes may also be those of an .npy file.
    """
    if kind == "bands" and body.startswith(_NPY):
        return _array_of(body, limits)
    try:
        with opened_picture(body, pixels=False) as picture:
            width, height = picture.size
    except ImageError as error:
        raise RefusedRequest(400, _one_line(error)) from error
    if width * height > limits.most_pixels:
        raise RefusedRequest(413, f"{width} x {height} pixels; at most {limits.most_pixels:,} are taken")
    try:
        return picture_of(body, kind=kind)
    except ImageError as error:
        raise RefusedRequest(400, _one_line(error)) from error


def _array_of(body: bytes, limits: ServerLimits) -> np.ndarray:
    """The array (h, w, channels) uint8 of an .npy file's bytes, whose header is judged before room is made for it."""
    file = io.BytesIO(body)
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
    except Exception as error:  # NumPy's reader raises whatever it stumbles over
        raise RefusedRequest(400, f"not an array that can be read: {_one_line(error)[:120]}") from error
    whole = dtype == np.uint8 and len(shape) in (2, 3) and not fortran and math.prod(shape) == len(body) - file.tell()
    if not whole or not math.prod(shape):
        raise RefusedRequest(400, f"an array of {dtype} {shape}; expected (h, w, channels) uint8, whole and row by row")
    if shape[0] * shape[1] > limits.most_pixels:
        raise RefusedRequest(413, f"{shape[1]} x {shape[0]} pixels; at most {limits.most_pixels:,} are taken")
    return np.frombuffer(body, np.uint8, offset=file.tell()).reshape(*shape[:2], -1)


def _one_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
