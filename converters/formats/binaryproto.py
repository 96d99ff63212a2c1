"""The .binaryproto: one BlobProto, which is how Caffe keeps the mean of a data set."""

from __future__ import annotations

import mmap
import os

import numpy as np

from ..errors import CaffeFormatError, WireError
from ..safety.opening import open_file
from . import sniff
from .blob import read_blob
from .wire import Message


def read_mean(path: str | os.PathLike[str]) -> np.ndarray:
    """The mean image of a .binaryproto: a read-only array in the file's own shape, mostly (1, channels, h, w), BGR.

    Raises FileNotFoundError, and CaffeFormatError for everything that is wrong with the file.
    """
    with open_file(path) as file:
        kind = sniff.sniff(file.read(4096))
        try:
            if kind == sniff.PROTOBUF:
                buffer = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                kind = sniff.kind_of_message(Message.whole(buffer))
            if kind != sniff.MEAN:
                raise sniff.not_a("a mean (.binaryproto)", kind)
            mean = read_blob(Message.whole(buffer))
            if not mean.size:
                raise WireError("a blob without values; expected a mean", hint="the file was cut short: get it again")
            return mean
        except CaffeFormatError as error:
            error.in_file(path)
            raise
