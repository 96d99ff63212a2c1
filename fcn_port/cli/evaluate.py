"""`fcn-port evaluate`"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from converters.safety import write_whole
from weights.card import Card
from weights.catalogue import release as find_release
from weights.catalogue import releases
from weights.errors import WeightsError

from ..data.places import data_dir
from .bringing import here, looks_like_a_name
from .device import device_option, find_device
from .engine import RunOptions, engine_option, padded_option, precision_option, run_as_told
from .failures import CHECK_FAILED, failure
from .given_net import changed_for, prototxt_option
from .input_options import input_change, input_options
from .like import card_like
from .names import classes_option, with_classes
from .net_choice import net_options, tell_idle_shapes
from .numbers import WORKERS
from .output import echo, echo_lines, json_option, note, refuse_to_replace, write_columns, write_json
from .own_data import DATA_PATH, describe_option, looked_at, refuse_to_replace_files, strict_option, void_option
from .progress import GOES_ON, NO_CACHE, progress_bar
from .refining import check_crf, refine_options, refinement
from .registering import register_option
from .threshold import check_threshold, threshold_option
from .together import only_without

if TYPE_CHECKING:
    from ..data.inputs import InputChange
    from ..data.records import DataSet
    from ..evaluation.predicting import Refinement
    from ..evaluation.processes import Processes
    from ..evaluation.results import Evaluation

_Folder = click.Path(file_okay=False, path_type=Path)
_File = click.Path(dir_okay=False, path_type=Path)


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(RunOptions):
    like: str | None
    prototxt: Path | None
    limit: int | None
    workers: int
    skip_bad: bool
    inputs: InputChange
    refinement: Refinement
    classes: Path | None
    void: tuple[int, ...]
    strict: bool
    threshold: float | None
    save_labels: Path | None
    submission: Path | None
    cache: Path | None
    no_cache: bool
    markdown: Path | None
    as_csv: bool
    as_json: bool
    device: str


@click.command("evaluate")
@click.argument("weights", nargs=-1)
@click.option("--data", "folder", type=DATA_PATH, help="The data set: a folder, such as VOCdevkit/VOC2011, or a .toml.")
@describe_option
@click.option("--split", help="A list in the data set, or the path of one; else the one that was published.")
@click.option("--like", metavar="RELEASE", help="Make inputs as for RELEASE, and compare with its published numbers.")
@prototxt_option
@click.option("--limit", type=click.IntRange(min=1), help="Only the first images of the split.")
@click.option("--workers", type=WORKERS, default=2, show_default=True, help="Threads that decode ahead.")
@click.option("--skip-bad", is_flag=True, help="Count and list missing or damaged files instead of stopping.")
@threshold_option
@click.option("--save-labels", type=_Folder, help="Write the predicted label maps there.")
@click.option("--submission", type=_File, help="Write an archive for VOC's test server (.tar.gz).")
@click.option("--check-submission", type=_File, help="Say whether VOC's test server would take an archive, and stop.")
@click.option("--cache", type=_Folder, help="Where results are kept for the next run.")
@click.option("--no-cache", is_flag=True, help="Compute every image, and keep nothing.")
@input_options
@refine_options
@classes_option
@void_option
@strict_option
@engine_option
@padded_option
@precision_option
@click.option("--markdown", type=_File, help="Write the comparison with the published numbers as Markdown, too.")
@click.option("--csv", "as_csv", is_flag=True, help="Write CSV for spreadsheets to read.")
@device_option
@json_option
@register_option
@net_options
def command(
    weights: tuple[str, ...], folder: Path | None, split: str | None, check_submission: Path | None, **given: Any
) -> int:
    """Score WEIGHTS, releases or files, on a data set with labels, beside the published numbers.

    What was computed is kept, so that an interrupted run goes on where it was. Exit status 1 where all images of the
    published split were scored and mean IU is off by more than 0.1 point. Several processes share the work with
    `torchrun --nproc-per-node N -m fcn_port evaluate ...`.
    """
    if check_submission is not None:
        only_without("--check-submission", {"weights", "describe", *given})
        return _check(check_submission, folder, split)
    options = EvaluateOptions(inputs=input_change(given), refinement=refinement(given), **given)
    _refuse_nonsense(weights, options, folder)
    from ..evaluation.processes import device_of_process, joined

    device = device_of_process(options.device)
    with joined(device) as processes:
        work = _Evaluations(folder, split, find_device(device), processes, options)
        found, missing = work.all(weights)
        if not processes.first:
            return 0
        return _report(found, missing, options)


class _Evaluations:
    """The work that the options ask for, done for one net after the other."""

    def __init__(
        self, folder: Path | None, split: str | None, device: Any, processes: Processes, options: EvaluateOptions
    ) -> None:
        self.folder, self.split, self.device, self.processes, self.options = folder, split, device, processes, options
        self.checked: set[tuple[Path, str]] = set()

    def all(self, weights: tuple[str, ...]) -> tuple[list[Evaluation], dict[str, tuple[str, int]]]:
        """The evaluations, and where several were asked for, what went wrong with a net, and its exit status.

        An error with the first net may be one of all of them, and ends the work, unless it is a release that is not to
        be had.
        """
        found: list[Evaluation] = []
        missing: dict[str, tuple[str, int]] = {}
        for name in weights:
            try:
                found.append(self.one(name, several=len(weights) > 1))
            except Exception as error:
                told = failure(error)
                of_this_net = isinstance(error, WeightsError) or (found and self.processes.size == 1)
                if told is None or len(weights) == 1 or not of_this_net:
                    raise
                missing[name] = told
                note(f"fcn-port: {told[0]}")
        return found, missing

    def one(self, name: str, *, several: bool) -> Evaluation:
        """Load a net, find its data set, and run."""
        from ..any_net import attach
        from ..evaluation.running import EvaluationPlan, evaluate
        from ..loading import load
        from ..nets import definition

        like = self.options.like
        if like is not None or looks_like_a_name(name):
            find_release(like or name)
        known = releases().get(like or name)
        data = self._data(known.dataset.name if known else None)
        if self.options.submission is not None:
            _submitted_year(data)
        labels = self._labels_folder(name, several)
        refuse_to_replace_files(labels, replace(data, ids=data.ids[: self.options.limit]))
        net = load(here(name, active=self.processes.first), self.device, prototxt=self.options.prototxt)
        if like is not None:
            attach(net, card_like(like, definition(net), own=net.card))
        data = self._counted(data, net)
        if self.processes.first:
            tell_idle_shapes(net)
        check_threshold(net, self.options.threshold)
        check_crf(net, wanted=self.options.refinement.crf is not None)
        net = run_as_told(net, self.options)
        release = getattr(net, "release", None) if known is None else known.name
        plan = EvaluationPlan(
            limit=self.options.limit,
            workers=self.options.workers,
            cache=self._cache(),
            save_labels=labels,
            skip_bad=self.options.skip_bad,
            threshold=self.options.threshold,
            refinement=self.options.refinement,
        )
        if net.preprocessing is None and self.processes.first:
            said = "--mean, or --like RELEASE, whose names are taken only where the classes are as many"
            note(f"{name} does not say how its inputs are made; taking those of {data.title} (or say {said})")
        changed_for(net, data, self.options.inputs)
        kept = NO_CACHE if self.options.no_cache else GOES_ON
        with progress_bar(name, active=self.processes.first, kept=kept) as progress:
            result = evaluate(
                net, data, name=name, release=release, plan=plan, processes=self.processes, progress=progress
            )
        if self.options.submission is not None and self.processes.first:
            assert labels is not None
            _submit(self.options.submission, labels, data, result)
        return result

    def _data(self, dataset: str | None) -> DataSet:
        from ..data.opening import open_dataset

        if self.folder is None and not data_dir().is_dir():
            raise click.UsageError(
                "where are the images? Say --data FOLDER, such as VOCdevkit/VOC2011; `fcn-port data` says where data "
                "sets are published"
            )
        data = open_dataset(self.folder or data_dir(), split=self.split, dataset=dataset)
        data = with_classes(data, self.options.classes).with_void(*self.options.void)
        if not data.labels and self.options.submission is None and self.options.save_labels is None:
            raise click.UsageError(
                f"{data.title} has no labels for {data.split}; use --save-labels DIR or --submission FILE.tar.gz"
            )
        return data

    def _counted(self, data: DataSet, net: Any) -> DataSet:
        """The data set without what did not count when the net was trained; its labels are looked at once."""
        data = data.with_void(*getattr(net, "card", Card()).void)
        if self.processes.first and (data.root, data.kind) not in self.checked:
            self.checked.add((data.root, data.kind))
            looked_at(data, strict=self.options.strict)
        return data

    def _cache(self) -> Path | None:
        from ..evaluation.cache import cache_dir

        return None if self.options.no_cache else self.options.cache or cache_dir()

    def _labels_folder(self, name: str, several: bool) -> Path | None:
        chosen, archive = self.options.save_labels, self.options.submission
        if chosen is not None:
            return chosen / Path(name).stem if several else chosen
        return None if archive is None else archive.with_name(archive.name + ".labels")


def _refuse_nonsense(weights: tuple[str, ...], options: EvaluateOptions, folder: Path | None) -> None:
    if not weights:
        raise click.UsageError("which weights? Name a release, such as voc-fcn8s, or a file")
    for name in filter(looks_like_a_name, weights):  # before any of them is scored
        find_release(name)
    if options.prototxt is not None and len(weights) > 1:
        raise click.UsageError("--prototxt is the net of one file; give one")
    stems = [Path(name).stem for name in weights]
    if options.save_labels is not None and len(set(stems)) < len(stems):
        twice = next(stem for stem in stems if stems.count(stem) > 1)
        raise click.UsageError(
            f"--save-labels: several weights are called {twice}, and their label maps would be one folder's; "
            "give them one by one, each its own folder"
        )
    for option, out in (("--markdown", options.markdown), ("--submission", options.submission)):
        refuse_to_replace(out, (*weights, options.prototxt, options.classes), option=option, data=folder)
    if options.as_csv and options.as_json:
        raise click.UsageError("--csv and --json: one of them")
    if options.no_cache and options.cache is not None:
        raise click.UsageError("--cache and --no-cache: one of them")
    if options.submission is not None:
        if len(weights) > 1:
            raise click.UsageError("an archive is of one net; give one")
        if options.limit is not None:
            raise click.UsageError("the server wants every image; --submission goes without --limit")


def _report(found: list[Evaluation], missing: dict[str, tuple[str, int]], options: EvaluateOptions) -> int:
    from ..evaluation.comparison import verdict
    from ..evaluation.tables import to_csv, to_markdown

    scored = [each for each in found if each.tasks]
    if options.as_json:
        documents = [_as_json(each) for each in found]
        write_json(documents[0] if len(documents) == 1 and not missing else documents)
    elif options.as_csv:
        echo_lines(to_csv(scored))
    else:
        for each in scored:
            _print(each)
    for each in found:
        _say_skipped(each)
    if options.markdown is not None:
        write_whole(options.markdown, to_markdown(scored, {name: said for name, (said, _) in missing.items()}).encode())
        note(f"-> {options.markdown}")
    said = [verdict(each) for each in found]
    failed = any(each is not None and not each.ok for each in said)
    return max((status for _, status in missing.values()), default=CHECK_FAILED if failed else 0)


def _print(evaluation: Evaluation) -> None:
    from ..evaluation.comparison import published_scores, verdict
    from ..evaluation.tables import CLASS_HEADER, class_rows, metric_table

    for task in evaluation.tasks:
        echo(
            f"{evaluation.weights} on {evaluation.title}, {evaluation.split}: {len(evaluation.images)} images, "
            f"{task.title}, in percent"
        )
        echo()
        write_columns(class_rows(evaluation, task), header=CLASS_HEADER, right=(1, 2, 3, 4))
        echo()
        header, rows = metric_table(evaluation, task)
        write_columns(rows, header=header, right=(1, 2, 3))
        echo()
    said = verdict(evaluation)
    if said is not None:
        echo(said.text)
    elif published_scores(evaluation, evaluation.tasks[0]):
        echo("no verdict: these are not all the images of the published split")


def _say_skipped(evaluation: Evaluation) -> None:
    if evaluation.skipped:
        note(f"{len(evaluation.skipped)} images of {evaluation.weights} were skipped:")
        for reason in evaluation.skipped.values():
            note(f"  {reason.splitlines()[0]}")


def _as_json(evaluation: Evaluation) -> dict[str, Any]:
    from ..evaluation.comparison import published_scores, verdict

    said = verdict(evaluation)
    published = [score for task in evaluation.tasks for score in published_scores(evaluation, task)]
    return {
        **evaluation.to_json(),
        "published": [vars(score) for score in published],
        "verdict": None if said is None else {"ok": said.ok, "text": said.text},
    }


def _submitted_year(data: DataSet) -> int:
    """The year of a PASCAL VOC; DataError for another data set, which the server does not take."""
    from ..data.errors import DataError
    from ..data.sets.voc import voc_year

    year = voc_year(data.root)
    if year is None or data.name != "voc":
        raise DataError("a folder VOC2011 or VOC2012 is expected: the server takes PASCAL VOC only", path=data.root)
    return year


def _submit(archive: Path, labels: Path, data: DataSet, result: Evaluation) -> None:
    from ..data.errors import DataError
    from ..evaluation.labels import saved_path
    from ..evaluation.submission import check_submission, image_sizes, write_submission

    year = _submitted_year(data)
    if result.skipped:
        raise DataError(f"{len(result.skipped)} images could not be read, and the server wants all", path=data.root)
    heads = list(data.classes)
    write_submission(archive, lambda id_: saved_path(labels, id_, heads[0], heads), data.ids, year=year)
    problems = check_submission(archive, sizes=image_sizes({id_: data.image_path(id_) for id_ in data.ids}), year=year)
    if problems:
        raise DataError("; ".join(problems[:3]), path=archive)
    note(f"-> {archive}, {len(data.ids)} label maps; checked: the server takes it")


def _check(archive: Path, folder: Path | None, split: str | None) -> int:
    from ..evaluation.submission import check_submission, image_sizes

    sizes, year = None, None
    if folder is not None:
        from ..data.opening import open_dataset
        from ..data.sets.voc import voc_year

        data = open_dataset(folder, split=split or "test", kind="voc")
        sizes, year = image_sizes({id_: data.image_path(id_) for id_ in data.ids}), voc_year(data.root)
    problems = check_submission(archive, sizes=sizes, year=year)
    for problem in problems:
        echo(f"FAIL  {problem}")
    if not problems:
        beyond = "" if sizes is not None else "; with --data, it is also checked that every image is in it"
        echo(f"ok    {archive}{beyond}")
    return 1 if problems else 0
