"""The order in which C++'s std::sort and std::partial_sort leave elements of equal keys, as in libstdc++.

Caffe keeps the best detections with std::sort, which is not stable; where many scores are the same, which of them stay
is decided by how it swaps. OpenCV, which took over the code, was compiled against the same library (bits/stl_algo.h,
bits/stl_heap.h).
"""

from __future__ import annotations

from collections.abc import Sequence

_SHORT = 16
"""Elements below which a part is left to the insertion sort at the end (_S_threshold)."""


def descending(keys: Sequence[float]) -> list[int]:
    """The indices of `keys` as std::sort with `a > b` orders them; no key may be NaN.

    Where its recursion is cut off by a heap sort, which takes keys made for it, equal keys stay in their order.
    """
    order = list(range(len(keys)))
    if not _introsort(order, keys):
        return sorted(range(len(keys)), key=lambda index: -keys[index])
    for index in range(1, len(order)):
        _insert(order, keys, index)
    return order


def _introsort(order: list[int], keys: Sequence[float]) -> bool:
    waiting = [(0, len(order), 2 * (len(order).bit_length() - 1))]
    while waiting:
        first, last, depth = waiting.pop()
        while last - first > _SHORT:
            if depth == 0:
                return False
            depth -= 1
            cut = _partition(order, keys, first, last)
            waiting.append((cut, last, depth))
            last = cut
    return True


def _partition(order: list[int], keys: Sequence[float], first: int, last: int) -> int:
    """Swap what is above the median of three before what is below; returns where the second part begins."""
    a, b, c = first + 1, first + (last - first) // 2, last - 1
    above_ab, above_bc, above_ac = (keys[order[i]] > keys[order[j]] for i, j in ((a, b), (b, c), (a, c)))
    median = (b if above_bc else c if above_ac else a) if above_ab else a if above_ac else c if above_bc else b
    order[first], order[median] = order[median], order[first]
    pivot, low, high = keys[order[first]], first + 1, last
    while True:
        while keys[order[low]] > pivot:
            low += 1
        high -= 1
        while pivot > keys[order[high]]:
            high -= 1
        if low >= high:
            return low
        order[low], order[high] = order[high], order[low]
        low += 1


def _insert(order: list[int], keys: Sequence[float], index: int) -> None:
    element, place = order[index], index
    while place and keys[element] > keys[order[place - 1]]:
        order[place] = order[place - 1]
        place -= 1
    order[place] = element


def best(keys: Sequence[float], count: int) -> list[int]:
    """The indices of the `count` largest keys as std::partial_sort with `a > b` orders them; no key may be NaN."""
    order = list(range(len(keys)))
    if count < 1 or count > len(order):
        return descending(keys)[: max(count, 0)]
    for parent in range((count - 2) // 2, -1, -1):
        _sift(order, keys, parent, count, order[parent])
    for index in range(count, len(order)):
        if keys[order[index]] > keys[order[0]]:
            element, order[index] = order[index], order[0]
            _sift(order, keys, 0, count, element)
    for last in range(count - 1, 0, -1):
        element, order[last] = order[last], order[0]
        _sift(order, keys, 0, last, element)
    return order[:count]


def _sift(order: list[int], keys: Sequence[float], hole: int, count: int, element: int) -> None:
    """Put an element into the heap at `hole`, whose root is the smallest key (__adjust_heap)."""
    top, child = hole, hole
    while child < (count - 1) // 2:
        child = 2 * (child + 1)
        if keys[order[child]] > keys[order[child - 1]]:
            child -= 1
        order[hole] = order[child]
        hole = child
    if count % 2 == 0 and child == (count - 2) // 2:
        child = 2 * (child + 1)
        order[hole] = order[child - 1]
        hole = child - 1
    parent = (hole - 1) // 2
    while hole > top and keys[order[parent]] > keys[element]:
        order[hole] = order[parent]
        hole, parent = parent, (parent - 1) // 2
    order[hole] = element
