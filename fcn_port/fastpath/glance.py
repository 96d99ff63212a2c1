"""Glance: a look whether a net's modules and tensors are what they were, at the words in memory that say so.

PyTorch keeps records of a tensor: where its numbers lie, and where it counts how often they were written into. Their
words are read here as they lie, since asking PyTorch takes a microsecond for each tensor when nothing is in a cache, a
twentieth of a small net's pass. Nobody promises where in a record a word lies: that is found with tensors made for it,
and where a word is not found, in one place, or a change of these tensors would not be seen, there are no glances.

A glance may take for changed what is the same, and then PyTorch is asked (watch.py); the other way round never.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .native.build import library

WORD, COUNT = 8, 4
"""Bytes of an address, and of a count of writings."""
RECORD, STORAGE, COUNTER = 160, 64, 24
"""Bytes that are read of the records of a tensor, of its storage and of its count; PyTorch's are no smaller."""
INSIDE = 5
"""Strides that a tensor's record has room for."""


@dataclass(frozen=True)
class RecordLayout:
    """The places of words that change with a tensor: bytes from the beginning of what holds each."""

    record: int
    """In the Python object: the address of the tensor's record."""
    storage: int
    """In the record: that of its storage's."""
    start: int
    """In the record: its first number in the storage."""
    strides: int
    """In the record: its strides, where it has no more than `INSIDE` of them; others lie elsewhere."""
    counter: int
    """In the record: the address of the count of its writings, which views share."""
    numbers: int
    """In the storage's record: where numbers lie."""
    count: int
    """In the counter: the count."""

    def words(self, x: Tensor) -> list[int]:
        """The addresses of the words that say what a tensor is, those first that say where others lie."""
        record, storage = x._cdata, x.untyped_storage()._cdata
        inside = (self.storage, self.counter, self.start, *range(self.strides, self.strides + WORD * x.dim(), WORD))
        return [id(x) + self.record, *(record + offset for offset in inside), storage + self.numbers]

    def count_of(self, x: Tensor) -> int:
        """The address of the count of a tensor's writings."""
        return _read(x._cdata + self.counter, WORD)[0] + self.count


class _NativeGlance(ctypes.Structure):
    """`struct glance` of glance.c."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("next", "dictionaries", "values")),
        *((name, ctypes.c_int64) for name in ("dictionary_count", "value_count")),
        *((name, ctypes.c_void_p) for name in ("words", "expected", "counts", "expected_counts")),
        *((name, ctypes.c_int64) for name in ("word_count", "count_count")),
    )


class Glance:
    """A look at dictionaries of Python's and at tensors that PyTorch counts writings into."""

    def __init__(self, dicts: Sequence[dict[str, Any]], tensors: Sequence[Tensor], layout: RecordLayout) -> None:
        values = list(chain.from_iterable(map(dict.values, dicts)))
        words = [address for each in tensors for address in layout.words(each)]
        counts = [layout.count_of(each) for each in tensors]
        self._held = dicts, tensors, values  # as long as they are, their records may be read
        self._arrays = [
            _array(ctypes.c_void_p, map(id, dicts)), _array(ctypes.c_void_p, map(id, values)),
            _array(ctypes.c_void_p, words), _array(ctypes.c_uint64, (_read(each, WORD)[0] for each in words)),
            _array(ctypes.c_void_p, counts), _array(ctypes.c_uint32, (_read(each, COUNT, COUNT)[0] for each in counts)),
        ]  # fmt: skip
        places = [ctypes.addressof(each) for each in self._arrays]
        self._native = _NativeGlance(
            ctypes.cast(ctypes.pythonapi.PyDict_Next, ctypes.c_void_p).value,
            *places[:2], len(dicts), len(values), *places[2:], len(words), len(counts),
        )  # fmt: skip
        self._address = ctypes.addressof(self._native)
        keeping_lock = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p)
        self._is_unchanged = ctypes.cast(library().is_unchanged, keeping_lock)

    def is_same(self) -> bool:
        """True where nothing was changed."""
        return bool(self._is_unchanged(self._address))


def _array(of: Any, values: Iterable[int]) -> Any:
    listed = list(values)
    return (of * len(listed))(*listed)


def _read(address: int, size: int, width: int = WORD) -> list[int]:
    """The words of memory that a record takes, `size` bytes from its address on."""
    of: Any = ctypes.c_uint64 if width == WORD else ctypes.c_uint32
    return list((of * (size // width)).from_address(address))


@cache
def record_layout() -> RecordLayout | None:
    """The places of words in this PyTorch's records; None where they cannot be found out."""
    is_read_so = sys.implementation.name == "cpython" and sys.maxsize > 1 << 32 and sys.byteorder == "little"
    if not is_read_so or not getattr(sys, "_is_gil_enabled", lambda: True)():
        return None
    try:
        with torch.inference_mode(False), torch.no_grad():
            layout = _found()
            return layout if all(_is_seen(change, layout) for change in CHANGES) else None
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError):
        return None


def _found() -> RecordLayout:
    """The places of words in the records of some tensors, by what is known of these. LookupError where one has none."""
    base, other = torch.zeros(64, device="cpu"), torch.zeros(6, device="cpu")
    one, two = base[3:9], base[5:11]
    first, second, apart = (_read(each._cdata, RECORD) for each in (one, two, other))
    together = list(zip(first, second, apart, strict=True))
    storage = _only(word == one.untyped_storage()._cdata for word in first)
    counter = _only(a == b != c and place != storage for place, (a, b, c) in enumerate(together))
    counts = []
    for _ in range(3):
        base.add_(1)
        counts.append([count == base._version for count in _read(first[counter], COUNTER, COUNT)])
    strides = (1, 3, 2, 5, 4)
    turned = _read(base.as_strided((2,) * INSIDE, strides)._cdata, RECORD)
    lent = torch.from_numpy(np.zeros(6)).untyped_storage()  # whose owner lies elsewhere than its numbers
    return RecordLayout(
        record=WORD * _only(word == one._cdata for word in _read(id(one), object.__sizeof__(one))),
        storage=WORD * storage,
        start=WORD * _only(words == (3, 5, 0) for words in together),
        strides=WORD * _only(tuple(turned[place : place + INSIDE]) == strides for place in range(len(turned))),
        counter=WORD * counter,
        numbers=WORD * _only(word == lent.data_ptr() for word in _read(lent._cdata, STORAGE)),
        count=COUNT * _only(map(all, zip(*counts, strict=True))),
    )


def _only(found: Iterable[bool]) -> int:
    """The place of the only one that is true."""
    places = [place for place, is_true in enumerate(found) if is_true]
    if len(places) != 1:
        raise LookupError(f"{len(places)} such words")
    return places[0]


def _is_seen(change: Callable[[Tensor], object], layout: RecordLayout) -> bool:
    """True where a glance at a tensor tells whether it was changed so."""
    x = torch.zeros(8, device="cpu")[:6]
    glance = Glance([{"x": x}], [x], layout)
    was_same = glance.is_same()
    change(x)
    return was_same and not glance.is_same()


def _put_data(x: Tensor) -> None:
    x.data = torch.zeros(6, device="cpu")


def _shift(x: Tensor) -> None:
    x.data = x.detach().as_strided((6,), (1,), 2)


def _turn(x: Tensor) -> None:
    x.data = x.detach().as_strided((6,), (0,))


def _swap(x: Tensor) -> None:
    torch.utils.swap_tensors(x, torch.zeros(6, device="cpu"))


def _move(x: Tensor) -> None:
    x.untyped_storage().resize_(1 << 16)


CHANGES: tuple[Callable[[Tensor], object], ...] = (lambda x: x.add_(1), _put_data, _shift, _turn, _swap, _move)
