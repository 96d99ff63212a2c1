"""Threads of a team are moved off the first one's processor, and may use all of theirs again afterwards."""

from __future__ import annotations

import ctypes
import hashlib
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fcn_port.fastpath.native import why_not
from fcn_port.fastpath.native.build import library

ALLOWED = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
pytestmark = pytest.mark.skipif(
    why_not() is not None or sys.platform != "linux" or len(ALLOWED) < 2,
    reason="no compiler, Linux or two processors",
)


class Member(ctypes.Structure):
    _fields_ = (("thread", ctypes.c_int), ("is_placed", ctypes.c_int))


class Team(ctypes.Structure):
    """`struct team` of processors.h."""

    _fields_ = (("threads", ctypes.c_int), ("processor", ctypes.c_int), ("members", Member * 64))


@contextmanager
def only(processor: int) -> Iterator[None]:
    """This thread is on one processor."""
    os.sched_setaffinity(0, {processor})
    try:
        yield
    finally:
        os.sched_setaffinity(0, ALLOWED)


def processor_of(thread: int) -> int:
    """The processor that a thread is on, or in whose queue it waits (proc(5))."""
    return int(Path(f"/proc/self/task/{thread}/stat").read_text().rpartition(")")[2].split()[36])


@contextmanager
def busy_thread(processor: int) -> Iterator[int]:
    """A thread that computes without Python's lock, on one processor as long as nobody says otherwise."""
    began, ends, number = threading.Event(), threading.Event(), []

    def compute() -> None:
        number.append(threading.get_native_id())
        os.sched_setaffinity(0, {processor})
        began.set()
        while not ends.is_set():
            hashlib.pbkdf2_hmac("sha256", b"", b"", 20_000)

    thread = threading.Thread(target=compute)
    thread.start()
    try:
        assert began.wait(30)
        yield number[0]
    finally:
        ends.set()
        thread.join()


def test_a_thread_leaves_a_processor() -> None:
    first = min(ALLOWED)
    with only(first):
        os.sched_setaffinity(0, ALLOWED)
        assert library().leave(0, first) in ALLOWED - {first}
        assert os.sched_getaffinity(0) == ALLOWED


def test_it_stays_where_it_may_be_nowhere_else() -> None:
    first = min(ALLOWED)
    with only(first):
        assert library().leave(0, first) == -1
        assert os.sched_getaffinity(0) == {first}


def test_who_is_late_gets_another_processor() -> None:
    """A thread waits for the processor that the first one computes on; nobody who is there already is moved."""
    first = min(ALLOWED)
    with busy_thread(first) as thread, only(first):
        team = Team(threads=2, processor=first)
        team.members[1] = Member(thread=thread, is_placed=1)
        library().call_late_members(ctypes.byref(team))
        assert os.sched_getaffinity(thread) == {first}
        os.sched_setaffinity(thread, ALLOWED)
        team.members[1].is_placed = 0
        library().call_late_members(ctypes.byref(team))
        assert processor_of(thread) != first
        assert os.sched_getaffinity(thread) == ALLOWED
        assert team.members[1].is_placed == 1, "it does not move itself at the same time"


def test_a_team_larger_than_the_processors_is_left_alone() -> None:
    team = Team(threads=0, processor=0)
    library().gather_team(ctypes.byref(team), len(ALLOWED) + 1)
    assert team.processor == -1
    library().gather_team(ctypes.byref(team), 2)
    assert team.processor in ALLOWED


def test_who_joins_is_known_and_leaves_the_first_one_s_processor() -> None:
    team, here = Team(threads=2, processor=min(ALLOWED)), threading.get_native_id()
    with only(min(ALLOWED)):
        library().join_team(ctypes.byref(team), 1)
        assert (team.members[1].thread, team.members[1].is_placed) == (here, 1)
        assert os.sched_getaffinity(0) == {min(ALLOWED)}
