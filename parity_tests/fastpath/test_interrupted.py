"""Locks after an interrupt, and what is copied or kept while other threads change it."""

from __future__ import annotations

import copy
import pickle
import threading
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from fcn_port.fastpath.flow import Flow, FlowLayer, FlowStep
from fcn_port.fastpath.lru_cache import Lock
from fcn_port.fastpath.native.memory import address
from fcn_port.fastpath.program.kept_weights import KeptWeights
from fcn_port.fastpath.program.runner import Arenas, Runner
from fcn_port.fastpath.program.weights import Packed, PackedWeights


def test_a_lock_is_free_after_an_interrupt_at_any_moment() -> None:
    """No code of ours runs between the lock and `with`: a Ctrl-C in it left the lock taken, and the next pass hung."""
    for name in ("__enter__", "__exit__"):
        assert type(getattr(Lock(), name)) is type(threading.Lock().__enter__), name
    lock, inside = Lock(), []
    with lock:
        inside.append(lock.__enter__.__self__.locked())
    assert inside == [True] and not lock.__enter__.__self__.locked()


def test_arenas_that_threads_use_can_be_copied() -> None:
    """A NumpyNet was copied with its arenas: while other threads had passes, that raised RuntimeError."""
    arenas = Arenas()
    arenas.give_back(arenas.take(1 << 10))
    assert not copy.deepcopy(arenas)._idle and not pickle.loads(pickle.dumps(arenas))._idle


def test_packed_weights_are_kept_while_other_threads_pack_more() -> None:
    """The dictionary that one thread went through grew under its hands: RuntimeError out of a pass."""
    kept: dict[str, Any] = {}
    weights = PackedWeights({}, cast(KeptWeights, SimpleNamespace(add=kept.update)))
    new = weights._new
    new["first"] = Packed()

    class Late(Packed):
        """Pieces during whose reading another thread puts down some of its own."""

        def __getattribute__(self, name: str) -> Any:
            new.setdefault("of another thread", Packed())
            return super().__getattribute__(name)

    new["second"] = Late()
    weights.keep()
    weights.keep()
    assert set(kept) == {"first", "second", "of another thread"}
    assert not copy.deepcopy(PackedWeights({}))._new


def test_what_is_computed_when_first_asked_for_does_not_disturb_a_copy() -> None:
    """Copying went through the very dictionary in which a cached property of another thread's pass then appeared."""
    flow = Flow((), ())
    layer = FlowLayer("a", "", "ReLU", cast(Any, None), ("x",), ("y",))
    for each in (flow, Runner(flow, {}), FlowStep(layer, (layer,)), Packed()):
        state = each.__reduce_ex__(4)[2]
        assert state == vars(each) and state is not vars(each)


def test_a_copy_of_packed_weights_lies_elsewhere() -> None:
    """Steps of its own plan would read the first one's memory, which may be gone by then."""
    kernels = np.ones(64, np.float32)
    packed = Packed(kernels)
    assert packed.addresses == (address(kernels), 0, 0)
    for other in (copy.deepcopy(packed), pickle.loads(pickle.dumps(packed))):
        assert other.kernels is not None and other.addresses[0] == address(other.kernels) != address(kernels)
