"""A plan done by Ray Data: one net in each worker, one worker for each core, and blocks handed out as they are free.

The blocks are all that Ray moves: places of images one way, names and problems the other. An actor has two blocks at
most, so nothing piles up however slow the disks are.
"""

from __future__ import annotations

import logging
import os
import socket
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from converters.errors import CaffeFormatError
from converters.export import require

from ..errors import EngineError, ImageError
from ..predictor import Predictor
from .planning import ImageRef, as_columns, blocks_of
from .results import Results, Settings

_ANSWER_SECONDS = 5.0


def run_on_ray(
    items: Sequence[ImageRef],
    predictor: Predictor,
    out: Path,
    *,
    address: str = "auto",
    settings: Settings,
    begun: Callable[[int, int], None] = lambda before, workers: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[str]:
    """Do every image that `out` has no result of, and write the table of all; the problems of those that failed.

    `address` is that of a cluster, "local" for one on this machine alone, or "auto" for the cluster that is running
    here, else "local". Each of its cores (its GPUs, for a predictor on one) is given a worker with a net of its own.
    `begun` is told how many images were done before, and how many workers there are. Raises ExportError where the
    extra is missing, EngineError where there is no cluster, ValueError where `out` is another run's.
    """
    require("ray", "pyarrow")
    results = Results(out.absolute())
    with results.alone(settings):
        before = results.done()
        left = [item for item in items if item.name not in before]
        problems: list[str] = []
        if left:
            gpus = int(predictor.device not in (None, "cpu"))
            with _cluster(address) as ray:
                workers = _count(ray, "GPU" if gpus else "CPU")
                begun(len(items) - len(left), workers)
                problems = _run(ray, blocks_of(left, workers=workers), predictor, results, workers, gpus, progress)
        results.gather()
    return problems


def _run(
    ray: Any, blocks: Sequence[Sequence[ImageRef]], predictor: Predictor, results: Results, workers: int, gpus: int,
    progress: Callable[[int, int], None],
) -> list[str]:  # fmt: skip
    import pyarrow as pa

    from .worker import Worker

    tables = [pa.table(as_columns(block)) for block in blocks]
    done = ray.data.from_arrow(tables).map_batches(
        Worker,
        fn_constructor_kwargs={"predictor": predictor, "out": str(results.out), "run": results.next_run()},
        batch_size=None,
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=workers, initial_size=workers),
        num_cpus=1,
        num_gpus=gpus,
    )
    total, count = sum(map(len, blocks)), 0
    problems: list[str] = []
    try:
        for batch in done.iter_batches(batch_size=None, prefetch_batches=0):
            count += len(batch["name"])
            problems += [str(problem) for problem in batch["problem"] if problem]
            progress(count, total)
    except ray.exceptions.RayError as error:
        raise _plain(error) from error
    return problems


def _plain(error: Any) -> Exception:
    """The error that a worker raised, out of what Ray wraps it in; EngineError for what befell the cluster."""
    cause = error
    while getattr(cause, "cause", None) is not None:
        cause = cause.cause
    if isinstance(cause, CaffeFormatError | ImageError | OSError | MemoryError):
        return cause
    said = (str(cause).strip().splitlines() or [type(cause).__name__])[-1]
    return EngineError(f"a worker of the Ray cluster failed: {said}")


@contextmanager
def _cluster(address: str) -> Iterator[Any]:
    """The package ray, connected; what was begun here ends with the block."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # asks on the terminal, else, and reports to its makers
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # says on standard error that workers will be made again
    import ray
    import ray.data

    how: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    there = ray.is_initialized()
    try:
        if not there:
            _connect(ray, address, how)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.enable_operator_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        yield ray
    finally:
        if not there:
            ray.shutdown()


def _connect(ray: Any, address: str, how: dict[str, Any]) -> None:
    wanted = (_running_here() or "local") if address == "auto" else address
    if wanted == "local":
        how = how | {"include_dashboard": False}
    try:
        ray.init(address=wanted, **how)
    except Exception as error:  # Ray raises plain ones, of a cluster that does not begin, too
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise EngineError(f"no Ray cluster at '{address}': {said}") from error


def _running_here() -> str | None:
    """The address of the cluster that runs here: Ray's variable, else what `ray start` left, where somebody answers.

    A cluster that was killed leaves its address behind, for which Ray itself waits many minutes.
    """
    named = os.environ.get("RAY_ADDRESS")
    if named:
        return named
    left = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()) / "ray" / "ray_current_cluster"
    address = left.read_text(encoding="utf-8").strip() if left.is_file() else ""
    host, _, port = address.rpartition(":")
    if not port.isdigit():
        return None
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_SECONDS).close()
    except OSError:
        return None
    return address


def _count(ray: Any, resource: str) -> int:
    """The number of workers that a cluster has room for; EngineError for none."""
    found = int(ray.cluster_resources().get(resource, 0))
    if found < 1:
        raise EngineError(f"the Ray cluster has no {resource}")
    return found
