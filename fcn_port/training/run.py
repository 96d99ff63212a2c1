"""A run from beginning to end: updates, validation, snapshots; it can be stopped and go on to the same weights."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from converters import Cancelled, stop_when
from converters.errors import NetError
from converters.safety import make_folder
from converters.wording import shape_text
from weights.card import Card
from weights.records import METRICS

from ..data.errors import DataError
from ..data.records import DataSet
from ..evaluation.predicting import Refinement
from ..evaluation.running import EvaluationPlan, evaluate
from ..predict.views import Views
from .best import Best, read_best, save_best
from .checkpoints import (
    RandomStates,
    RunProgress,
    Snapshot,
    prune,
    random_states,
    restore,
    save,
    set_random_states,
    snapshot_path,
)
from .choices import Precision
from .distributed import DistributedGroup
from .events import Begun, Improved, Report, Saved, Tested, Updated, Validated
from .feed import Batch, Feed
from .folder import locked_folder
from .losses import SigmoidCrossEntropyLoss
from .solver import CaffeSolver
from .task import TrainingTask
from .testing import TestSchedule
from .update import Update


@dataclass(frozen=True)
class TrainingPlan:
    """The plan of a run: how long it is, and what it does on the way, in updates.

    Snapshots are written to `folder` as `name`_iter_N every `snapshot_every` updates and at the end (0: only then), all
    kept or the `keep` latest. `validation` is scored every `test_every` updates and at the end (0: only then), its
    first `test_limit` images, with `skip_bad` without those that cannot be read; the weights of the best one, by mean
    IU, stay as `name`_best. The draws of dropout begin at `seed`. `tests` are those of a Caffe solver's TEST nets.
    """

    folder: Path
    name: str
    max_iter: int
    snapshot_every: int = 0
    keep: int | None = None
    validation: DataSet | None = None
    test_every: int = 0
    test_limit: int | None = None
    average_loss: int = 1
    seed: int = 1337
    precision: Precision = "float32"
    skip_bad: bool = False
    tests: TestSchedule = TestSchedule()  # noqa: RUF009 - frozen
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """The end of a run: after how many updates, whether it was stopped before its end, and its last snapshot.

    The snapshot is None in all but the first of several processes.
    """

    iteration: int
    stopped: bool
    snapshot: Path | None


def train(
    task: TrainingTask,
    solver: CaffeSolver,
    feed: Feed,
    plan: TrainingPlan,
    *,
    resume: Snapshot | None = None,
    group: DistributedGroup = DistributedGroup(),  # noqa: B008
    report: Report = lambda event: None,
    stop: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Train until `plan.max_iter`, or until `stop` says so; in both cases a snapshot is written.

    `stop` is asked after each update, and after each image of a validation, which then gives no score.

    A run that is resumed from a snapshot of a run goes on to the weights that it would have had, on a CPU to the last
    bit. Only the first of several processes reports and writes. Raises TrainingError, DataError for a damaged image and
    CaffeFormatError for a snapshot that does not fit; TrainingError, too, where another run writes into the folder.
    A run that was over already is saved where its last snapshot is not there.
    """
    with locked_folder(plan.folder) if group.processes.first else nullcontext():
        return _train(task, solver, feed, plan, resume, group, report, stop)


def _train(
    task: TrainingTask,
    solver: CaffeSolver,
    feed: Feed,
    plan: TrainingPlan,
    resume: Snapshot | None,
    group: DistributedGroup,
    report: Report,
    stop: Callable[[], bool],
) -> Outcome:
    torch.manual_seed(plan.seed + group.processes.rank)
    if resume is not None:
        restore(resume, task, solver)
        if resume.progress.random is not None and len(resume.progress.random.cpu) == group.size:
            set_random_states(resume.progress.random, rank=group.processes.rank)
    run = _TrainingRun(task, solver, feed, plan, group, report if group.processes.first else lambda event: None)
    if resume is not None:
        run.best.extend(filter(None, [read_best(plan.folder, plan.name, until=solver.iteration)]))
    run.report(Begun(solver.iteration, plan.max_iter, None if resume is None else resume.path))
    return run.until_the_end(stop, losses=() if resume is None else resume.progress.losses)


@dataclass(frozen=True, eq=False)
class _TrainingRun:
    """One run in one process."""

    task: TrainingTask
    solver: CaffeSolver
    feed: Feed
    plan: TrainingPlan
    group: DistributedGroup
    report: Report
    best: list[Best] = field(default_factory=list)

    def until_the_end(self, stop: Callable[[], bool], *, losses: tuple[float, ...]) -> Outcome:
        solver, plan = self.solver, self.plan
        wrapped = self.group.wrap(self.task.net, partly=self.task.partly)
        update = Update(self.task, solver, self.group, wrapped, plan.precision)
        batches = self.feed.batches(solver.iteration * solver.spec.iter_size)
        latest = deque(losses, maxlen=plan.average_loss)
        clock = _Clock()
        saved: Path | None = None
        stopped, first = False, solver.iteration
        self.task.net.train()
        try:
            while solver.iteration < plan.max_iter and not stopped:
                self._test()
                passes = list(islice(batches, solver.spec.iter_size))
                names = tuple(name for batch in passes for name in batch.names)
                parts = self._taken(update, passes, names)
                latest.append(sum(parts.values()))
                self.report(self._updated(parts, latest, names, clock.lap(), clock))
                stopped = self.group.any(stop())
                now = self._at_intervals(latest, last=stopped or solver.iteration == plan.max_iter)
                if not stopped and self._is_due(plan.test_every) and not self._validated(stop):
                    stopped, now = True, now or self._at_intervals(latest, last=True)
                saved = now or saved
                clock.skip()
        except DataError:  # what was learned is not lost with an image that cannot be read
            if self.group.size == 1 and solver.iteration > first and saved is None:
                self._at_intervals(latest, last=True)
            raise
        finally:
            batches.close()
        if solver.iteration > first and solver.iteration == plan.max_iter and not stopped:
            self._test()
        if solver.iteration == first:
            saved = self._already_over(latest)
        return Outcome(solver.iteration, stopped, saved)

    def _taken(self, update: Update, passes: Sequence[Batch], names: Sequence[str]) -> Mapping[str, float]:
        """The losses of an update; DataError names the images that the net does not take."""
        try:
            return update(passes)
        except NetError as error:
            sizes = {shape_text(blob.shape[-2:]) for batch in passes for blob in batch.blobs.values()}
            named = f"{', '.join(names[:4])} of {' and '.join(sorted(sizes))} pixels"
            place = f"{error.where}: " if error.where else ""
            raise DataError(
                f"the net does not take {named}: {place}{error.problem}",
                path=self.feed.data.root,
                hint=error.hint or "--resize brings images to a size, --crop cuts them",
            ) from error

    def _updated(
        self, parts: Mapping[str, float], latest: deque[float], names: tuple[str, ...], seconds: float, clock: _Clock
    ) -> Updated:
        return Updated(
            iteration=self.solver.iteration,
            max_iter=self.plan.max_iter,
            loss=latest[-1],
            smoothed=sum(latest) / len(latest),
            losses=parts,
            rate=self.solver.rate,
            images=names,
            seconds=seconds,
            seconds_left=clock.typical * (self.plan.max_iter - self.solver.iteration),
        )

    def _is_due(self, every: int) -> bool:
        iteration = self.solver.iteration
        return iteration == self.plan.max_iter or (every > 0 and iteration % every == 0)

    # Snapshots

    def _already_over(self, latest: deque[float]) -> Path | None:
        """The snapshot of a run that has nothing left to do, made again where it is missing."""
        there = snapshot_path(self.plan.folder, self.plan.name, self.solver.iteration)
        if self.group.processes.from_first(there.exists()):
            return there if self.group.processes.first else None
        return self._at_intervals(latest, last=True)

    def _at_intervals(self, latest: deque[float], *, last: bool) -> Path | None:
        """Save where a snapshot is due; its .json, or None."""
        if not last and not self._is_due(self.plan.snapshot_every):
            return None
        gathered = self.group.processes.to_first(random_states())
        if not self.group.processes.first:
            return None
        cpu, cuda = zip(*gathered, strict=True)
        states = RandomStates(tuple(cpu), tuple(cuda) if None not in cuda else ())
        progress = RunProgress(states, tuple(latest), self.plan.settings, self._card())
        make_folder(self.plan.folder)
        snapshot = save(self.plan.folder, self.plan.name, self.task, self.solver, progress)
        if self.plan.keep is not None:
            prune(self.plan.folder, self.plan.name, keep=self.plan.keep)
        self.report(Saved(snapshot.iteration, snapshot.path))
        return snapshot.path

    def _card(self) -> Card:
        data = self.feed.data
        return Card(
            preprocessing=self.feed.preprocessing,
            classes=data.classes,
            palette=data.colours,
            void=data.void,
            augmentation=self.feed.augmentation,
        )

    # Tests and validation

    def _test(self) -> None:
        """Run the solver's TEST nets where they are due; Caffe's root solver alone does."""
        if not self.group.processes.first or not self.plan.tests.is_due(self.solver.iteration):
            return
        weights = self.task.net.state_dict()
        for number, each in enumerate(self.plan.tests.nets):
            found = each.run(weights, self.group.device)
            self.report(Tested(self.solver.iteration, number, each.count, found, each.loss(found)))

    def _validated(self, stop: Callable[[], bool]) -> bool:
        """Score on the validation set, where there is one; False where `stop` ended it, of one process."""
        with suppress(Cancelled):
            self._validate(stop_when(stop) if self.group.size == 1 else None)
            return True
        return False

    def _validate(self, progress: Callable[[int, int], None] | None) -> None:
        data = self.plan.validation
        if data is None:
            return
        net = self.task.net
        net.eval()
        try:
            plan = EvaluationPlan(
                limit=self.plan.test_limit,
                workers=self.feed.workers,
                skip_bad=self.plan.skip_bad,
                refinement=Refinement(Views(size=self.feed.variation.size or self.feed.reading.size)),
                threshold=0.0 if any(isinstance(each, SigmoidCrossEntropyLoss) for each in self.task.losses) else None,
            )
            found = evaluate(net, data, plan=plan, processes=self.group.processes, progress=progress)
        finally:
            net.train()
        if not self.group.processes.first:
            return
        scores = {task.title: {name: getattr(found.scores(task), name) for name in METRICS} for task in found.tasks}
        self.report(Validated(self.solver.iteration, len(found.images), scores, found.seconds))
        now = Best(self.solver.iteration, next(iter(scores.values()), {}).get("mean_iu", math.nan))
        if now.mean_iu > max((each.mean_iu for each in self.best), default=-1.0):
            self.best.append(now)
            path = save_best(self.plan.folder, self.plan.name, self.task, now, self._card())
            self.report(Improved(now.iteration, now.mean_iu, path))


class _Clock:
    """The time of updates, without what comes between them."""

    def __init__(self) -> None:
        self._begin = time.monotonic()
        self.typical = 0.0

    def lap(self) -> float:
        """The seconds of the update that has just ended."""
        seconds = time.monotonic() - self._begin
        self.typical = seconds if self.typical == 0 else 0.98 * self.typical + 0.02 * seconds
        return seconds

    def skip(self) -> None:
        """The next update begins now."""
        self._begin = time.monotonic()
