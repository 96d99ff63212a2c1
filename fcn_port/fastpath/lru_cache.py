"""A small cache: what was asked for last, as much of it as is allowed; threads may share it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from operator import attrgetter
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Lock:
    """A lock whose copy is another lock, so that what holds one can be copied and pickled.

    Its methods are those of the lock inside and no functions of Python's, in which a Ctrl-C may come after the lock is
    taken or before it is let go: it would stay locked, and the next who wants it wait for ever.
    """

    __enter__ = property(attrgetter("_lock.__enter__"))
    __exit__ = property(attrgetter("_lock.__exit__"))

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return Lock, ()


class _Slot(Generic[T]):
    """The place where a value is, or will be."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.value: T | None = None
        self.is_made = False


class LRUCache(Generic[T]):
    """At most `limit` values by key, those that were used last. A copy is empty.

    Each value is made once, whoever asks: others who want the same one wait for it, and nobody else does.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()  # not Lock, which takes three times as long: a copy has another one anyway
        self._slots: OrderedDict[Hashable, _Slot[T]] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The value for `key`, made now if it is not there; what `make` raises is not kept."""
        with self._lock:
            slot = self._touch(key)
        if not slot.is_made:
            with slot.lock:
                if not slot.is_made:
                    try:
                        slot.value = make()
                    except BaseException:
                        self._forget(key, slot)
                        raise
                    slot.is_made = True
        return slot.value  # type: ignore[return-value]  # T may be None

    def add(self, key: Hashable) -> bool:
        """Take note of `key`; True where nobody has asked for it yet, or it is forgotten."""
        with self._lock:
            is_new = key not in self._slots
            self._touch(key)
            return is_new

    def _touch(self, key: Hashable) -> _Slot[T]:
        """The slot of `key` as the one that was used last; the caller has the lock."""
        slot = self._slots.get(key)
        if slot is None:
            while len(self._slots) >= self._limit:
                self._slots.popitem(last=False)
            slot = self._slots[key] = _Slot()
        self._slots.move_to_end(key)
        return slot

    def _forget(self, key: Hashable, slot: _Slot[T]) -> None:
        with self._lock:
            if self._slots.get(key) is slot:
                del self._slots[key]

    def __len__(self) -> int:
        return len(self._slots)

    def __reduce__(self) -> tuple[Any, ...]:
        return LRUCache, (self._limit,)
