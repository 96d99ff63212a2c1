"""`Predictor`: a net that is sent to where images are, as a few words, and is loaded there once."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import nn

from converters.errors import NetError
from converters.escaping import terminal
from converters.given import found_in_words, whole_number
from converters.safety import refused_memory
from weights.card import Card

from ..any_net import attach
from ..errors import ImageError, one_line
from ..loading import load
from ..predict.images import ImageLike
from ..predict.seeing import Seeing, see

_LOADING = threading.Lock()
"""Held while a net is loaded, so that threads that share a predictor load it once."""


@dataclass(frozen=True)
class Prediction:
    """The outputs of a net for one image, by name ("" for the only one), or why it could not be done.

    `image` is the path, None for an array. `seen` holds a Segmentation, ValueMap, Classification or Detections.
    """

    image: str | None
    seen: Mapping[str, Seeing] | None
    problem: str | None = None


@dataclass(frozen=True)
class Predictor:
    """A net that can be pickled and sent to another process or machine: paths or arrays in, records out.

    `weights` and `prototxt` are what `load` takes, a release's name or a file that is there on every machine. The net
    is loaded at the first call, once in each process, however often the predictor was sent; what is pickled is its
    settings alone. `threads` is the number of threads that PyTorch takes in a process whose work this is: 1, for
    several processes on one machine would fight over its cores; None leaves PyTorch's own choice. `fast` runs what
    `fast` makes of the net, with the same numbers. `threshold` and `tile` are those of `see`. `card` says how inputs
    are made and what classes are called, in place of what the file says.

    A call gives a Prediction for each image, in order. An image that cannot be read, or that the net does not take or
    has no memory for, says so in its own, and the others are done; anything else is raised, as what `load` raises.
    """

    weights: str | os.PathLike[str]
    prototxt: str | os.PathLike[str] | None = field(default=None, kw_only=True)
    device: str | None = field(default=None, kw_only=True)
    threads: int | None = field(default=1, kw_only=True)
    fast: bool = field(default=True, kw_only=True)
    threshold: float | None = field(default=None, kw_only=True)
    tile: int | None = field(default=None, kw_only=True)
    card: Card | None = field(default=None, kw_only=True)

    def __call__(self, images: Iterable[ImageLike]) -> list[Prediction]:
        if isinstance(images, str | os.PathLike | np.ndarray):
            raise TypeError("expected a list of images; give one image as [image]")
        if not (hasattr(images, "__iter__") or hasattr(images, "__getitem__")):
            raise TypeError(f"expected a list of images; found {found_in_words(images)}")
        net = self.net
        return [self._of(net, image) for image in images]

    @property
    def net(self) -> nn.Module:
        """The net, loaded where it is not yet."""
        found: nn.Module | None = self.__dict__.get("_net")
        if found is None:
            with _LOADING:
                found = self.__dict__.get("_net") or self._loaded()
                self.__dict__["_net"] = found
        return found

    def __getstate__(self) -> dict[str, Any]:
        """The settings, without the net: each process loads its own."""
        return {name: value for name, value in self.__dict__.items() if name != "_net"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def _loaded(self) -> nn.Module:
        if self.threads is not None:
            import torch

            torch.set_num_threads(whole_number(self.threads, "threads"))
        net = load(self.weights, self.device, prototxt=self.prototxt)
        if self.card is not None:
            attach(net, self.card)
        if not self.fast or self.device not in (None, "cpu"):
            return net
        from ..fastpath.lossless import fast

        return fast(net)

    def _of(self, net: nn.Module, image: ImageLike) -> Prediction:
        path = os.fspath(image) if isinstance(image, str | os.PathLike) else None
        try:
            return Prediction(path, see(net, image, threshold=self.threshold, tile=self.tile))
        except (ImageError, NetError, OSError, RuntimeError, MemoryError) as error:
            asked = refused_memory(error)
            if asked is not None:
                problem = f"not enough memory: {asked} asked for"
            elif isinstance(error, OSError):
                problem = (error.strerror or str(error)).lower()
            elif isinstance(error, ImageError | NetError):
                problem = str(error).splitlines()[0] if path is None else one_line(error, path)
            else:
                raise
        told = path is None or problem.startswith(f"{terminal(path)}: ")
        return Prediction(path, None, problem if told else f"{path}: {problem}")
