"""`fcn-port train`"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import click

from ..training.choices import LossName, Normalization, Order, Precision
from .device import device_option, find_device
from .engine import PrecisionParam, PrecisionWord, tell_of_bfloat16
from .input_options import input_change, input_options
from .names import classes_option, with_classes
from .net_choice import training_net_options
from .numbers import WORKERS, Number
from .output import echo, json_option, note, write_json
from .own_data import DATA_PATH, SMALL, describe_option, looked_at, scored_on_learned, strict_option, void_option
from .registering import register_option
from .training_options import loss_options, refuse_idle, seed_option, variation_options

if TYPE_CHECKING:
    from ..data.inputs import InputChange
    from ..data.records import DataSet
    from ..training.distributed import DistributedGroup
    from ..training.prepare import Prepared
    from ..training.run import Outcome, TrainingPlan
    from ..training.source import TrainingSource
    from ..training.testing import TestSchedule

_Folder = click.Path(file_okay=False, path_type=Path)
_File = click.Path(dir_okay=False, path_type=Path)
_Count = click.IntRange(min=1)


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    folder: Path
    split: str | None
    val_data: Path | None
    val_split: str | None
    init: tuple[str, ...]
    expand_scores: bool
    out: Path | None
    resume: str | None
    batch_size: int | None
    iter_size: int | None
    normalization: Normalization | None
    lr: float | None
    max_iter: int | None
    loss: LossName | None
    class_weights: tuple[float, ...] | Literal["median"] | None
    gamma: float | None
    balance: bool
    mirror: bool | None
    crop: int | None
    scales: tuple[float, float] | None
    resize: tuple[int, int] | None
    inputs: InputChange
    classes: Path | None
    order: Order | None
    seed: int | None
    snapshot: int | None
    keep: int | None
    val_every: int | None
    val_limit: int | None
    display: int | None
    workers: int
    check: bool | None
    skip_bad: bool
    void: tuple[int, ...]
    strict: bool
    precision: PrecisionWord
    tensorboard: bool
    device: str
    as_json: bool


@click.command("train")
@click.argument("recipe", required=False)
@click.option("--solver", type=_File, help="A solver.prototxt; without RECIPE it trains the net that it names.")
@click.option("--data", "folder", type=DATA_PATH, help="The data set: a folder, laid out like VOC or so, or a .toml.")
@describe_option
@click.option("--split", help="What to learn from: a list in the data set, or the path of one.")
@click.option("--val-data", type=DATA_PATH, help="Where to score, if in another folder.")
@click.option("--val-split", help="What to score on; 'none' for nothing.")
@click.option(
    "--init", multiple=True,
    help="Weights to begin with: a release, file or 'none'. Twice for late fusion's streams. Else a solver's weights.",
)  # fmt: skip
@click.option("--expand-scores", is_flag=True, help="Let the classes of --init be the first ones of more.")
@click.option("-o", "--out", type=_Folder, help="Where snapshots and the log go; else runs/RECIPE.")
@click.option("--resume", is_flag=False, flag_value="latest", help="Go on from a snapshot (default: the latest).")
@click.option("--batch-size", type=_Count, help="Images in a pass, of each process.")
@click.option("--iter-size", type=_Count, help="Passes in an update.")
@click.option("--normalization", type=click.Choice(get_args(Normalization)), help="What the loss is divided by.")
@click.option("--lr", type=Number(0), help="The learning rate as it is; else the recipe's, translated.")
@click.option("--max-iter", type=_Count, help="How many updates.")
@loss_options
@variation_options
@click.option("--order", type=click.Choice(get_args(Order)), help="In which order images are drawn.")
@seed_option
@click.option("--snapshot", type=click.IntRange(min=0), help="Save every so many updates; 0 for only at the end.")
@click.option("--keep", type=_Count, help="Keep only the latest snapshots, this many.")
@click.option("--val-every", type=click.IntRange(min=0), help="Score every so many updates; 0 for only at the end.")
@click.option("--val-limit", type=_Count, help="Score only the first images of the split.")
@click.option("--display", type=_Count, help="Print a line every so many updates.")
@click.option("--workers", type=WORKERS, default=2, show_default=True, help="Threads that decode ahead.")
@click.option("--check/--no-check", default=None, help=f"Read every image once first; done for up to {SMALL} images.")
@click.option("--skip-bad", is_flag=True, help="Leave out what --check finds unusable.")
@input_options
@classes_option
@void_option
@strict_option
@click.option(
    "--precision", type=PrecisionParam(), default="fp32", show_default=True,
    help="bf16 computes convolutions in bfloat16; weights, gradients and losses stay float32.",
)  # fmt: skip
@click.option("--tensorboard", is_flag=True, help="Write TensorBoard's files, too.")
@device_option
@json_option
@register_option
@training_net_options
def command(recipe: str | None, solver: Path | None, folder: Path | None, **given: Any) -> int:
    """Train a net as RECIPE says, or as a solver.prototxt says, on a data set.

    RECIPE is one of the release's (`--solver` replaces how it learns, and keeps its net) or a .toml file of your own,
    such as a changed copy of one; a wrong name gets the list. A learning rate that is meant for another batch or
    normalisation is translated. Ctrl-C saves and stops; --resume goes on. Several processes or machines train one net
    with `torchrun --nproc-per-node N -m fcn_port train ...`. An image that cannot be read once a run has begun is
    told of, and the next one takes its place; with --strict the run stops there.
    """
    if recipe is None and solver is None:
        from ..training.recipe import recipe_names

        raise click.UsageError(f"what to train? Name a recipe, or give --solver. Recipes: {', '.join(recipe_names())}")
    if folder is None:
        raise click.UsageError("what to learn from? Say --data FOLDER; `fcn-port data` tells of the published ones")
    refuse_idle(val_split=given["val_split"], check=given["check"])
    options = TrainOptions(folder=folder, inputs=input_change(given), **given)
    from ..evaluation.processes import device_of_process, joined
    from ..training.distributed import DistributedGroup
    from ..training.errors import TrainingError
    from ..training.folder import locked_folder

    device = device_of_process(options.device)
    try:
        with joined(device) as processes:
            training = _Training(recipe, solver, DistributedGroup(processes, find_device(device)), options)
            with locked_folder(training.folder) if processes.first else nullcontext():
                return training.run()
    except TrainingError as error:
        note(f"fcn-port: {error}")
        return 1


class _Training:
    """A training that the options ask for; only the first of several processes speaks."""

    def __init__(self, recipe: str | None, solver: Path | None, group: DistributedGroup, options: TrainOptions) -> None:
        self.options, self.group = options, group
        self.source = _source(recipe, solver)
        self.folder: Path = options.out or Path("runs") / self.source.name

    def say(self, message: str) -> None:
        if self.group.processes.first:
            note(message)

    def run(self) -> int:
        from ..training.checkpoints import read_snapshot
        from ..training.prepare import prepare
        from ..training.run import train
        from .signals import stopping
        from .training_output import reporting

        snapshot = self.group.processes.from_first(self._snapshot() if self.group.processes.first else None)
        given = self._data()
        data = self._looked_at(given)
        resume = None if snapshot is None else read_snapshot(snapshot)
        prepared = prepare(
            self.source,
            data,
            sources=() if resume is not None else self._init(),
            expand_scores=self.options.expand_scores,
            changes=self._changes(),
            group=self.group,
            workers=self.options.workers,
            skip_bad=not self.options.strict,
            resume=resume,
        )
        plan = self._plan(prepared, self._validation(data, given))
        tell_of_bfloat16(self.options.precision, self.group.device, "takes many times fp32's time", self.say)
        if resume is not None and resume.iteration > plan.max_iter:
            raise click.UsageError(
                f"{resume.path} is of iteration {resume.iteration}, and the run ends at {plan.max_iter}: --max-iter "
                "lets it go on, --resume FILE goes on from an earlier snapshot"
            )
        self._announce(prepared, data, resume)
        active = self.group.processes.first
        display = self.options.display or prepared.solver.spec.display or 20
        with (
            reporting(self.folder, display=display, tensorboard=self.options.tensorboard, active=active) as report,
            stopping(self.say) as stop,
        ):
            outcome = train(
                prepared.task, prepared.solver, prepared.feed, plan,
                resume=resume, group=self.group, report=report, stop=stop,
            )  # fmt: skip
        return self._finish(prepared, plan, outcome)

    # Before

    def _data(self) -> DataSet:
        from ..data.opening import open_dataset
        from ..training.source import ignored_labels

        recipe = self.source.recipe
        split = self.options.split or (recipe.split if recipe else "train")
        found = open_dataset(self.options.folder, split=split, dataset=self._dataset())
        return with_classes(found, self.options.classes).with_void(*self.options.void, *ignored_labels(self.source))

    def _looked_at(self, data: DataSet) -> DataSet:
        """The data, of which some images or all were read; then without those that cannot be."""
        options = self.options
        wanted = options.skip_bad or len(data.ids) <= SMALL if options.check is None else options.check
        return looked_at(data, strict=options.strict, whole=wanted, skip_bad=options.skip_bad, say=self.say)

    def _dataset(self) -> str | None:
        from weights.catalogue import releases

        recipe = self.source.recipe
        release = releases().get(recipe.net) if recipe else None
        return release.dataset.name if release else None

    def _validation(self, data: DataSet, given: DataSet) -> DataSet | None:
        """The split to score on, which may be missing where a recipe names it; `data` is what is kept of `given`."""
        from ..data.opening import open_dataset

        chosen = self.options.val_split
        if chosen == "none":
            return None
        recipe = self.source.recipe
        split = chosen or (recipe.val_split if recipe else "val")
        try:
            found = open_dataset(self.options.val_data or self.options.folder, split=split, dataset=data.name)
            found = with_classes(found, self.options.classes).with_void(*data.void)
            return scored_on_learned(found, given, data, say=self.say) or self._looked_at(found)
        except FileNotFoundError as error:
            if chosen or self.options.val_data:
                raise
            self.say(f"not scored on the way: {str(error).splitlines()[0]} (say --val-data or --val-split)")
            return None

    def _snapshot(self) -> Path | None:
        """The snapshot to go on from. Without --resume a folder that has some is left alone."""
        from ..training.checkpoints import snapshots

        found = snapshots(self.folder, self.source.name)
        wanted = self.options.resume
        if wanted is None:
            if found:
                raise click.UsageError(
                    f"{found[-1]} is there already: --resume goes on from it, and --out begins elsewhere"
                )
            elsewhere = [self.folder / "log.jsonl", *sorted(self.folder.glob("*_iter_*.json"))]
            if there := [path for path in elsewhere if path.exists()]:
                raise click.UsageError(
                    f"{there[-1]}: another run wrote here; --resume goes on in this folder, --out begins elsewhere"
                )
            return None
        if wanted != "latest":
            if not Path(wanted).is_file():
                raise FileNotFoundError(2, "there is no such snapshot", wanted)
            return Path(wanted)
        if not found:
            self.say(f"{self.folder}: no snapshot to go on from; beginning")
            return None
        return found[-1]

    def _init(self) -> list[Any]:
        """The state dicts of the nets to begin with: those of --init, else a solver's `weights`, else a recipe's."""
        from .surgery import file_of, states_to_begin_with

        recipe = self.source.recipe
        if not self.options.init and self.source.solver.weights:
            return states_to_begin_with(self.source.solver.weights_files())
        wanted = self.options.init or ((recipe.init,) if recipe else ("none",))
        if wanted == ("",):
            raise click.UsageError("what to begin with? Say --init FILE, or --init none to begin from nothing")
        if wanted == ("none",):
            if self.options.expand_scores:
                raise click.UsageError("--expand-scores needs the classes of another net: name one with --init")
            return []
        first = self.group.processes.first
        files = self.group.processes.from_first([file_of(name) for name in wanted] if first else [])
        return states_to_begin_with(files)

    def _changes(self) -> Any:
        from ..training.changes import Changes

        return Changes(**{each.name: getattr(self.options, each.name) for each in fields(Changes)})

    def _plan(self, prepared: Prepared, validation: DataSet | None) -> TrainingPlan:
        from ..training.run import TrainingPlan

        spec = prepared.solver.spec
        precision: Precision = "bfloat16" if self.options.precision == "bf16" else "float32"
        every = spec.snapshot if self.options.snapshot is None else self.options.snapshot
        return TrainingPlan(
            folder=self.folder,
            name=prepared.name,
            max_iter=spec.max_iter,
            snapshot_every=every,
            keep=self.options.keep,
            validation=self._scored(prepared, validation),
            test_every=every if self.options.val_every is None else self.options.val_every,
            test_limit=self.options.val_limit,
            average_loss=spec.average_loss,
            seed=prepared.feed.seed,
            skip_bad=not self.options.strict,
            tests=self._tests(prepared, validation),
            precision=precision,
            settings={**prepared.settings, "precision": precision},
        )

    def _scored(self, prepared: Prepared, validation: DataSet | None) -> DataSet | None:
        """The split to score on; None, which is said, for a net whose losses tell no classes."""
        if any(each.labelled and each.scores_classes for each in prepared.task.losses) or validation is None:
            return validation
        self.say("no classes are scored on the way: no loss of the net compares them with labels")
        return None

    def _tests(self, prepared: Prepared, validation: DataSet | None) -> TestSchedule:
        """The TEST nets of the solver, on the split that is scored; none, which is said, where there is none."""
        from ..training.testing import TestSchedule, tests_of

        if validation is None and self.source.net is not None and prepared.solver.spec.test_iter:
            self.say("the solver's TEST net is not run: there is no split to run it on (say --val-data or --val-split)")
        if validation is None or self.source.net is None or not self.group.processes.first:
            return TestSchedule()
        seed, workers = prepared.feed.seed, self.options.workers
        return tests_of(prepared.solver.spec, prepared.task, validation, workers=workers, seed=seed)

    def _announce(self, prepared: Prepared, data: DataSet, resume: Any) -> None:
        from ..training.prepare import differences
        from .training_output import describe

        for line in describe(prepared, data, self.source, resumed=resume is not None):
            self.say(line)
        for line in differences(resume.progress.settings, prepared.settings) if resume is not None else ():
            self.say(f"note: the weights will not be those of an unbroken run: {line}")

    # After

    def _finish(self, prepared: Prepared, plan: TrainingPlan, outcome: Outcome) -> int:
        from ..training.best import best_path
        from ..training.checkpoints import read_snapshot

        if not self.group.processes.first:
            return 130 if outcome.stopped else 0
        if outcome.stopped:
            self.say(f"stopped after {outcome.iteration} of {plan.max_iter} updates; --resume goes on")
        path, best = outcome.snapshot, best_path(self.folder, prepared.name)
        weights = None
        if path is not None and not outcome.stopped:
            from converters.conversion import convert
            from converters.safety import unlinked

            snapshot = read_snapshot(path)
            weights = self.folder / f"{prepared.name}.safetensors"
            convert(snapshot.weights, unlinked(weights), metadata=snapshot.progress.card.to_metadata())
        if self.options.as_json:
            told = {
                "iteration": outcome.iteration,
                "max_iter": plan.max_iter,
                "stopped": outcome.stopped,
                "snapshot": path,
                "weights": weights,
                "best": best if best.is_file() else None,
                "log": self.folder / "log.jsonl",
            }
            write_json(told)
        elif weights is not None:
            echo(weights)
        return 130 if outcome.stopped else 0


def _source(recipe: str | None, solver: Path | None) -> TrainingSource:
    from converters.formats import read_solver

    from ..training.recipe import find_recipe
    from ..training.source import source_of_recipe, source_of_solver

    found = None if recipe is None else find_recipe(recipe)
    if solver is not None:
        return source_of_solver(read_solver(solver), found)
    assert found is not None
    return source_of_recipe(found)
