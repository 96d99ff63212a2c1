"""PyTorch's own files of weights (.pth): judged from their pickle first, then read by torch.load.

`torch.load(weights_only=True)` runs no code of a stranger's, but it does make what the pickle asks for: a bytearray of
4 GB, a tensor of 10^9 values that all are one, an OrderedDict copied ten thousand times. So the pickle is walked here,
making nothing: what is in it beside plain values must be tensors that lie within storages, these within the file.
Both forms are known, the zip archive and what PyTorch wrote before 1.6, five pickles and then the storages.
"""

from __future__ import annotations

import io
import pickletools
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from converters.errors import CaffeFormatError
from converters.formats import sniff
from converters.safety import entries_share_bytes

ALLOWANCE = 64 << 20
"""Bytes beyond the file's own size that its tensors may take: some share memory, some records are compressed."""
MOST_STEPS = 1_000_000
"""Of the pickle; a tensor takes about 40."""

CHECKPOINTS = ("model_state_dict", "state_dict", "model", "net")
"""The names under which training programs keep the state dict in a checkpoint; torchfcn's is the first."""
_WRAPPERS = ("module.", "_orig_mod.")
"""The words that nn.DataParallel and torch.compile put before every key, in any order."""

_HINT = "save one with torch.save(net.state_dict(), path)"
_ZIP_HINT = "if it is a download, unpack it first"
_NUMPY_HINT = (
    "where you trust the file: torch.save(torch.load(path, weights_only=False)[KEY], new), and read that; KEY is where "
    f"its weights are, such as {' or '.join(CHECKPOINTS[:2])}"
)
_LEGACY_PICKLES = 5
_MOST_AXES = 64
"""Of a tensor in PyTorch."""
_SIZES: Mapping[str, int] = {
    **dict.fromkeys(("DoubleStorage", "LongStorage"), 8),
    **dict.fromkeys(("FloatStorage", "IntStorage"), 4),
    **dict.fromkeys(("HalfStorage", "BFloat16Storage", "ShortStorage"), 2),
    **dict.fromkeys(("CharStorage", "ByteStorage", "BoolStorage", "UntypedStorage"), 1),
}
"""Bytes of one value by the name of its storage; the complex and quantized ones are no weights of Caffe's."""
_REFUSED = {
    "_rebuild_qtensor": "a quantized tensor",
    "_rebuild_sparse_tensor": "a sparse tensor",
    "_get_layout": "a sparse tensor",
    "_rebuild_nested_tensor": "a nested tensor",
    "_rebuild_meta_tensor_no_storage": "a tensor without values",
    "_rebuild_from_type_v2": "a tensor of a class of its own",
    "_rebuild_tensor_v3": "a tensor of a type that Caffe does not know",
}


def read_pth(path: Path, kind: str) -> dict[str, Tensor]:
    """The tensors of a state dict, or of a checkpoint that has one (`CHECKPOINTS`); `kind` is sniff's.

    What nn.DataParallel and torch.compile put before every key is taken off.

    Dense tensors of real numbers, without gradients. Raises CaffeFormatError.
    """
    try:
        _judge_file(path, kind)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except CaffeFormatError as error:
        raise error.in_file(path) from None
    except MemoryError:
        raise
    except Exception as error:  # zipfile, pickletools and torch raise many kinds for a damaged file
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CaffeFormatError(
            f"this {kind} is not a PyTorch state dict: {reason:.200}", path=path, hint=_HINT
        ) from error
    state = _state_of(state)
    if not isinstance(state, dict) or not all(type(key) is str for key in state):
        raise CaffeFormatError("there is no state dict in it", path=path, hint=_HINT)
    for key, value in state.items():
        if not isinstance(value, Tensor):
            problem = f"there is no state dict in it: {key[:80]!a} is of type {type(value).__name__}"
            raise CaffeFormatError(problem, path=path, hint=_HINT)
    return {key: value.detach() for key, value in _unwrapped(state).items()}


def _state_of(found: Any) -> Any:
    """The state dict in a checkpoint; anything else as it is."""
    if isinstance(found, dict):
        for name in CHECKPOINTS:
            if isinstance(found.get(name), dict):
                return found[name]
    return found


def _unwrapped(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    for _ in _WRAPPERS:
        for wrapper in _WRAPPERS:
            if state and all(key.startswith(wrapper) for key in state):
                state = {key.removeprefix(wrapper): value for key, value in state.items()}
    return state


# The file


def _judge_file(path: Path, kind: str) -> None:
    """Raise CaffeFormatError where reading the file would take much more memory than its size."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if kind == sniff.PICKLE:
            judge = _Judge()
            inside = _Inside(file, size)
            for _ in range(_LEGACY_PICKLES):
                judge.walk(inside)
        else:
            judge = _judge_zip(file, size)
    if judge.stored > size + ALLOWANCE or judge.taken > size + ALLOWANCE:
        raise CaffeFormatError(
            f"its tensors take {max(judge.stored, judge.taken):,} bytes and the file has {size:,}; the limit is "
            f"{ALLOWANCE >> 20} MiB more than the file (fcn_port.pth.ALLOWANCE)"
        )


def _judge_zip(file: BinaryIO, size: int) -> _Judge:
    with zipfile.ZipFile(file) as archive:
        records = archive.infolist()
        names = {record.filename.lower() for record in records}
        if len(names) < len(records) or min((record.header_offset for record in records), default=1) != 0:
            raise CaffeFormatError("a zip archive in which other programs find other files", hint=_HINT)
        if entries_share_bytes(archive):
            raise CaffeFormatError("the entries of the archive share bytes", hint=_HINT)
        total = sum(record.file_size for record in records)
        if total > size + ALLOWANCE:
            raise CaffeFormatError(
                f"the archive unpacks to {total:,} bytes and has {size:,}; the limit is {ALLOWANCE >> 20} MiB more "
                "than the file (fcn_port.pth.ALLOWANCE)"
            )
        pickles = [record for record in records if record.filename.partition("/")[2] == "data.pkl"]
        if len(pickles) != 1:
            raise CaffeFormatError("this zip archive is not of PyTorch: it has no data.pkl", hint=_ZIP_HINT)
        judge = _Judge()
        judge.walk(io.BytesIO(archive.read(pickles[0])))
        return judge


@dataclass(frozen=True)
class _Inside:
    """A file whose `read` asks for no more than there is: Python takes the memory first, whatever length a lie says."""

    file: BinaryIO
    size: int

    def read(self, count: int) -> bytes:
        return self.file.read(max(0, min(count, self.size - self.file.tell())))

    def readline(self) -> bytes:
        return self.file.readline()


# The pickle

_MARK = object()
_CONTAINER = object()
"""Any list or table; what is in it has been judged when it was made."""
_TENSOR = object()


@dataclass(frozen=True)
class _Name:
    """A class or a function, as GLOBAL names it."""

    module: str
    name: str


@dataclass(frozen=True)
class _SavedStorage:
    """A storage of `count` values of `size` bytes."""

    count: int
    size: int


class _Judge:
    """Walks pickles as torch's reader does, with stand-ins for what that would make.

    `stored` are the bytes of all storages, `taken` those of all tensors.
    """

    def __init__(self) -> None:
        self.stored = 0
        self.taken = 0
        self._steps = 0
        self._builds = 0
        self._keys: set[str] = set()

    def walk(self, file: Any) -> None:
        """Walk one pickle and stand behind it; CaffeFormatError for what no state dict has."""
        stack: list[Any] = []
        memo: dict[int, Any] = {}
        for step, argument, _ in _steps(file):
            self._steps += 1
            if self._steps > MOST_STEPS:
                raise CaffeFormatError(f"its pickle has more than {MOST_STEPS:,} steps (fcn_port.pth.MOST_STEPS)")
            if step in ("BINPUT", "LONG_BINPUT"):
                memo[argument] = stack[-1]
            elif step in ("BINGET", "LONG_BINGET"):
                stack.append(memo[argument])
            else:
                self._do(step, argument, stack)

    def _do(self, step: str, argument: Any, stack: list[Any]) -> None:
        if step in _VALUES:
            stack.append(argument)
        elif step in _CONSTANTS:
            stack.append(_CONSTANTS[step])
        elif step == "GLOBAL":
            stack.append(_Name(*argument.split(" ", 1)))
        elif step == "TUPLE":
            stack.append(_above_mark(stack))
        elif step in _TUPLES:
            count = _TUPLES[step]
            stack[-count:] = [tuple(stack[-count:])]
        elif step in ("SETITEMS", "APPENDS"):
            _above_mark(stack)
        elif step in ("SETITEM", "APPEND"):
            del stack[-2 if step == "SETITEM" else -1 :]
        elif step == "BINPERSID":
            stack.append(self._storage(stack.pop()))
        elif step == "REDUCE":
            arguments = stack.pop()
            stack[-1] = self._call(stack[-1], arguments)
        elif step == "BUILD":
            self._build(stack)
        elif step not in ("PROTO", "STOP"):
            raise CaffeFormatError(f"its pickle has the step {step}, which no state dict needs", hint=_HINT)

    def _build(self, stack: list[Any]) -> None:
        """Attributes of a dict: a state dict has `_metadata`. Each copies a table, so there may be few."""
        stack.pop()
        self._builds += 1
        if stack[-1] is not _CONTAINER or self._builds > 4:
            raise CaffeFormatError("its pickle sets attributes, which no state dict needs", hint=_HINT)

    def _storage(self, saved: Any) -> _SavedStorage:
        if type(saved) is not tuple or not 5 <= len(saved) <= 6:
            raise CaffeFormatError("a storage that torch.save does not write", hint=_HINT)
        kind, key, count = saved[1], saved[2], saved[4]
        is_kind = isinstance(kind, _Name) and kind.module in ("torch", "torch.storage")
        if not is_kind or type(key) is not str or not _is_count(count):
            raise CaffeFormatError("a storage that torch.save does not write", hint=_HINT)
        if kind.name not in _SIZES:
            raise CaffeFormatError(f"tensors of type {kind.name.removesuffix('Storage'):.40}; expected real numbers")
        found = _SavedStorage(count, _SIZES[kind.name])
        if key not in self._keys:
            self._keys.add(key)
            self.stored += found.count * found.size
        return found

    def _call(self, function: Any, arguments: Any) -> Any:
        name = f"{function.module} {function.name}" if isinstance(function, _Name) else ""
        if name == "collections OrderedDict" and arguments == ():
            return _CONTAINER
        if name == "torch._utils _rebuild_tensor_v2" and type(arguments) is tuple and len(arguments) == 6:
            return self._tensor(*arguments[:4])
        if name == "torch._utils _rebuild_tensor" and type(arguments) is tuple and len(arguments) == 4:
            return self._tensor(*arguments)
        if name == "torch._utils _rebuild_parameter" and type(arguments) is tuple and arguments[:1] == (_TENSOR,):
            return _TENSOR
        if name.startswith("numpy"):
            problem = "this is a checkpoint with values of numpy's beside the tensors, which only unpickling reads"
            raise CaffeFormatError(problem, hint=_NUMPY_HINT)
        what = _REFUSED.get(name.rpartition(" ")[2], f"a call of {name:.80}")
        raise CaffeFormatError(f"this is not a PyTorch state dict: {what}; expected dense tensors", hint=_HINT)

    def _tensor(self, storage: Any, offset: Any, size: Any, stride: Any) -> Any:
        whole = type(size) is type(stride) is tuple and len(size) == len(stride) <= _MOST_AXES
        if not whole or not isinstance(storage, _SavedStorage) or not all(map(_is_count, (*size, *stride, offset))):
            raise CaffeFormatError("a tensor that torch.save does not write", hint=_HINT)
        values = prod(size)
        last = offset + sum((count - 1) * step for count, step in zip(size, stride, strict=True))
        if values > storage.count or (values and last >= storage.count):
            problem = f"a tensor of {values:,} values in a storage of {storage.count:,}"
            raise CaffeFormatError(problem, hint="save tensors with memory of their own: tensor.contiguous()")
        self.taken += values * storage.size
        return _TENSOR


_VALUES = ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINSTRING")
_CONSTANTS: Mapping[str, Any] = {
    "MARK": _MARK,
    "NONE": None,
    "NEWTRUE": True,
    "NEWFALSE": False,
    "EMPTY_TUPLE": (),
    **dict.fromkeys(("EMPTY_LIST", "EMPTY_DICT", "EMPTY_SET"), _CONTAINER),
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def _steps(file: Any) -> Iterator[tuple[str, Any, int | None]]:
    return ((step.name, argument, place) for step, argument, place in pickletools.genops(file))


def _above_mark(stack: list[Any]) -> tuple[Any, ...]:
    """Take the values down to the last mark off the stack, and the mark."""
    above = []
    while (value := stack.pop()) is not _MARK:
        above.append(value)
    return tuple(reversed(above))


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 48
