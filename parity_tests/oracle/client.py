"""Questions to real Caffe: each is answered by a process of its own inside the oracle's folder (server.py)."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from parity_tests import fill
from parity_tests.oracle.folder import oracle_folder, why_not_ready
from parity_tests.oracle.server import Server

Weights = bytes | Path
Blobs = dict[str, np.ndarray]


class OracleError(RuntimeError):
    """The oracle could not answer; `stderr` is what its process said."""

    def __init__(self, message: str, stderr: str = "") -> None:
        super().__init__(message)
        self.stderr = stderr


class CaffeAborted(OracleError):
    """A CHECK of Caffe failed, which ends its process; the message is Caffe's own."""


@dataclass(frozen=True)
class Pass:
    """One forward pass: each blob as Caffe holds it afterwards, float32, and the names of those that no layer reads."""

    blobs: Blobs
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Solved:
    """What Caffe's solver did: each loss at each step, and the .caffemodel and .solverstate that it wrote after."""

    losses: dict[str, np.ndarray]
    model: bytes
    state: bytes


@dataclass(frozen=True)
class Oracle:
    """Real Caffe in `folder`. Every call is bounded by `timeout` seconds and raises `OracleError`.

    `prototxt` is the text of a net in any of Caffe's versions; `weights` the bytes or the path of a .caffemodel or
    .caffemodel.h5; `filling` a rule of parity_tests/fill.py instead of weights: ``bilinear``, ``random`` or ``zoo``.
    """

    folder: Path
    timeout: float = 900

    def forward(
        self,
        prototxt: str,
        *,
        weights: Weights | None = None,
        filling: str | None = None,
        inputs: Mapping[str, np.ndarray] | None = None,
        size: tuple[int, int] | None = None,
        input_scale: float = fill.INPUT_SCALE,
        blobs: Sequence[str] | None = None,
        phase: str = "TEST",
    ) -> Pass:
        """One forward pass, with every blob or those in `blobs`.

        `inputs` by blob name, of any shape that the net takes; an input that is not given is filled by the rule,
        `input_scale` wide, in the net's own shape or at `size` (h, w).
        """
        request = {
            "shapes": {name: list(array.shape) for name, array in (inputs or {}).items()},
            "size": size,
            "blobs": list(blobs or ()),
            "input_scale": input_scale,
        }
        with self._ask(
            "forward", prototxt, weights=weights, filling=filling, phase=phase, inputs=inputs, request=request
        ) as job:
            return Pass(_read_blobs(job), tuple(json.loads((job / "answer").read_text())))

    def load(self, prototxt: str, weights: Weights) -> dict[str, tuple[np.ndarray, ...]]:
        """The blobs of each layer as Caffe holds them once it has read `weights` into the net."""
        with self._ask("load", prototxt, weights=weights) as job:
            layers: dict[str, tuple[np.ndarray, ...]] = {}
            for key, array in _read_blobs(job).items():
                layer = key.rpartition("/")[0]
                layers[layer] = (*layers.get(layer, ()), array)
            return layers

    def shapes(self, prototxt: str, sizes: Sequence[tuple[int, int]]) -> dict:
        """``{"params", "crops", "blobs"}`` of a net as in golden/caffe/shapes.json, every input at each size (h, w)."""
        with self._ask("shapes", prototxt, request={"sizes": [list(size) for size in sizes]}) as job:
            return json.loads((job / "answer").read_text())

    def save(
        self, prototxt: str, *, weights: Weights | None = None, filling: str | None = None, hdf5: bool = False
    ) -> bytes:
        """The .caffemodel (or .caffemodel.h5) that Caffe writes of the net."""
        request = {"hdf5": hdf5}
        with self._ask("save", prototxt, weights=weights, filling=filling, request=request) as job:
            return (job / "answer").read_bytes()

    def save_legacy(self, prototxt: str, *, weights: Weights | None = None, filling: str | None = None) -> bytes:
        """A caffemodel as Caffe wrote it up to 2014, of a V1 or V0 net: layers as in the text, 4-D blob dims."""
        with self._ask("save_legacy", prototxt, weights=weights, filling=filling) as job:
            return (job / "answer").read_bytes()

    def solve(
        self,
        solver: str,
        prototxt: str,
        inputs: Mapping[str, np.ndarray],
        *,
        losses: Sequence[str] = ("loss",),
        weights: Weights | None = None,
        filling: str | None = None,
        restore: bytes | None = None,
        hdf5: bool = False,
        files: Mapping[str, bytes] | None = None,
    ) -> Solved:
        """Train a net: `inputs` have one row more in front, one for each step.

        `solver` is the text of a solver, without its net and without snapshots. `restore` is a .solverstate whose
        learned_net is called "weights"; `hdf5` says that it is an .h5, and that Caffe shall write one. `files` are put
        beside the net, by name.
        """
        state = None if restore is None else "state.h5" if hdf5 else "state"
        format_ = "HDF5" if hdf5 else "BINARYPROTO"
        text = f'{solver}\ntrain_net: "net.prototxt" snapshot_prefix: "snapshot" snapshot_format: {format_}\n'
        states = {state: restore} if state and restore is not None else {}
        files = {"solver.prototxt": text.encode(), **states, **(files or {})}
        request = {"losses": list(losses), "restore": state}
        with self._ask(
            "solve", prototxt, weights=weights, filling=filling, inputs=inputs, request=request, files=files
        ) as job:
            rows = json.loads((job / "answer").read_text())
            ending = ".h5" if hdf5 else ""
            return Solved(
                losses={name: np.array([row[name] for row in rows]) for name in losses},
                model=next(job.glob(f"snapshot_iter_*.caffemodel{ending}")).read_bytes(),
                state=next(job.glob(f"snapshot_iter_*.solverstate{ending}")).read_bytes(),
            )

    def upgrade(self, prototxt: str) -> str:
        """The net as Caffe's own ``upgrade_net_proto_text`` rewrites it."""
        with self._job() as job:
            (job / "old").write_text(prototxt)
            self._run(job, ["upgrade_net_proto_text", "old", "new"])
            return (job / "new").read_text()

    def descriptor(self) -> bytes:
        """Caffe's compiled schema: a serialized FileDescriptorProto."""
        with self._ask("descriptor", "") as job:
            return (job / "answer").read_bytes()

    def version(self) -> str:
        """Version that pycaffe reports."""
        with self._ask("version", "") as job:
            return (job / "answer").read_text()

    @contextmanager
    def _ask(
        self,
        operation: str,
        prototxt: str,
        *,
        weights: Weights | None = None,
        filling: str | None = None,
        inputs: Mapping[str, np.ndarray] | None = None,
        phase: str = "TEST",
        request: Mapping | None = None,
        files: Mapping[str, bytes] | None = None,
    ) -> Iterator[Path]:
        """Run one operation of the worker; gives its job folder, with the answer, while the context is open."""
        with self._job() as job:
            (job / "net.prototxt").write_text(prototxt)
            if isinstance(weights, Path):
                shutil.copyfile(weights, job / "weights")
            elif weights is not None:
                (job / "weights").write_bytes(weights)
            for name, content in (files or {}).items():
                (job / name).write_bytes(content)
            if inputs:
                np.savez(job / "inputs.npz", **inputs)  # type: ignore[arg-type]
            whole = {"operation": operation, "fill": filling, "phase": phase, **(request or {})}
            (job / "request.json").write_text(json.dumps(whole))
            done = _server(self.folder, tuple(_environment().items())).ask(job, self.timeout)
            if done is None:
                raise OracleError(f"Caffe gave no answer within {self.timeout:g} s ({operation})")
            if done[0]:
                raise _failure(*done)
            yield job

    @contextmanager
    def _job(self) -> Iterator[Path]:
        """A folder inside the oracle for one question."""
        with tempfile.TemporaryDirectory(dir=self.folder / "tmp", prefix="ask-") as job:
            yield Path(job)

    def _run(self, job: Path, command: Sequence[str]) -> None:
        inside = f"/tmp/{job.name}"
        try:
            done = subprocess.run(
                ["chroot", str(self.folder), "/usr/bin/env", "-C", inside, *command],
                env=_environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=self.timeout,
                check=False,
            )
        except subprocess.TimeoutExpired as expired:
            raise OracleError(f"Caffe gave no answer within {self.timeout:g} s ({' '.join(command)})") from expired
        if done.returncode:
            raise _failure(done.returncode, done.stderr.decode(errors="replace"))


def open_oracle() -> Oracle:
    """The installed oracle; `OracleError` says what is missing where there is none."""
    folder = oracle_folder()
    reason = why_not_ready(folder)
    if reason:
        raise OracleError(reason)
    return Oracle(folder)


@cache
def _server(folder: Path, environment: tuple[tuple[str, str], ...]) -> Server:
    return Server(folder, dict(environment))


def _environment() -> dict[str, str]:
    """A clean environment: Caffe's warnings off (2 leaves errors), threads as in ours."""
    threads = {name: os.environ[name] for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS") if name in os.environ}
    return {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/tmp",
        "LC_ALL": "C.UTF-8",
        "GLOG_minloglevel": "2",
        "GLOG_logtostderr": "1",
        **threads,
    }


_GLOG_FATAL = re.compile(r"^F\d{4,8} [\d:.]+\s+\d+ (?P<where>[\w.]+:\d+)\] (?P<message>.*)$", re.MULTILINE)


def _failure(returncode: int, stderr: str) -> OracleError:
    fatal = _GLOG_FATAL.search(stderr)
    if fatal:
        parser = [line for line in stderr.splitlines() if line.startswith("[libprotobuf ERROR")]
        return CaffeAborted("\n".join([f"{fatal['where']}: {fatal['message']}", *parser]), stderr)
    tail = "\n".join(stderr.strip().splitlines()[-5:])
    return OracleError(f"the oracle's process ended with status {returncode}: {tail}", stderr)


def _read_blobs(job: Path) -> Blobs:
    with np.load(job / "blobs.npz") as arrays:
        return {name: arrays[name] for name in arrays.files}
