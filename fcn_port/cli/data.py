"""`fcn-port data`"""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict

import click

from weights.download import is_offline, shown

from ..data.archives import ARCHIVES, Archive, find_archives
from ..data.places import DATA_VARIABLE, data_dir
from .bringing import telling
from .inspect import SizeParam
from .numbers import Number
from .output import echo, human_bytes, json_option, note, write_columns, write_json
from .own_data import DATA_PATH, describe_option, report_check, strict_option, void_option
from .together import only_with, only_without


@click.command("data")
@click.argument("name", required=False)
@click.option("--root", type=click.Path(file_okay=False, path_type=Path), help=f"The folder for data sets, else "
              f"${DATA_VARIABLE}, else the user's cache folder.")  # fmt: skip
@click.option("--fetch", is_flag=True, help="Download and unpack what is missing.")
@click.option("--from-file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Take a file obtained "
              "elsewhere, through the same checks.")  # fmt: skip
@click.option("--keep-archive", is_flag=True, help="Do not delete a downloaded archive once it is unpacked.")
@click.option("--make", "folder", type=click.Path(file_okay=False, path_type=Path), help="Draw the data set shapes "
              "there.")  # fmt: skip
@click.option("--count", type=click.IntRange(min=1), default=100, show_default=True, help="Images of shapes to draw.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the shapes.")
@click.option("--size", type=SizeParam(), default="240x320", show_default=True, help="Of the images, height first.")
@click.option("--val", type=Number(0, 1), default=0.25, show_default=True, help="Share of them for val.")
@describe_option
@click.option("--check", "checked", type=DATA_PATH, help="Say what the labels of a data set hold, and what looks off; "
              "a folder or a .toml.")  # fmt: skip
@click.option("--split", help="With --check: a list in the data set, or the path of one.")
@void_option
@strict_option
@json_option
def command(
    name: str | None,
    root: Path | None,
    fetch: bool,
    from_file: Path | None,
    keep_archive: bool,
    folder: Path | None,
    count: int,
    seed: int,
    size: tuple[int, int],
    val: float,
    checked: Path | None,
    split: str | None,
    void: tuple[int, ...],
    strict: bool,
    as_json: bool,
) -> int:
    """Say which data sets are here, which are missing, and where each is published; with NAME, of one.

    `--fetch` brings what is missing of NAME: resumed where it was interrupted, verified where a checksum was published,
    and unpacked so that nothing lands outside of its folder.

    `shapes` is in no archive: `fcn-port data shapes --make FOLDER` draws it, the same from the same seed.

    `--check FOLDER` reads a data set, published or your own, once: the pixels of each class, what is ignored, files
    that are damaged or have no partner, and what looks off; with --strict the exit status is then 1.
    """
    _refuse_idle(checked=checked is not None, made=folder is not None, fetched=fetch or from_file is not None)
    if checked is not None:
        return report_check(checked, split=split, void=void, strict=strict, as_json=as_json)
    if (name == "shapes") != (folder is not None):
        raise click.UsageError("`fcn-port data shapes --make FOLDER` draws that set; others are fetched")
    if folder is not None:
        _draw(folder, _ShapesWanted(count=count, seed=seed, size=size, val=val), as_json=as_json)
        return 0
    base = (root or data_dir()).expanduser().absolute()
    if name is None and (fetch or from_file is not None):
        raise click.UsageError(f"which one? Name it: {', '.join(ARCHIVES)}")
    chosen = tuple(ARCHIVES.values()) if name is None else _find(name)
    if from_file is not None:
        _bring((ARCHIVES[str(name)],), base, from_file, keep_archive)
    elif fetch:
        _bring(chosen, base, None, keep_archive)
    if as_json:
        write_json([_as_json(each, base) for each in chosen])
    elif name is None:
        _list(chosen, base)
    else:
        _describe(chosen, base)
    return 0


def _refuse_idle(*, checked: bool, made: bool, fetched: bool) -> None:
    """UsageError for options that do nothing in what is asked for: a look, a drawing, a download or a list."""
    if checked:
        only_without("--check", {"name", "fetch", "from_file", "keep_archive", "root", "folder", *_OF_SHAPES})
        return
    only_with("--check", {"split", "void", "strict", "describe"})
    if made:
        only_without("--make", {"fetch", "from_file", "keep_archive", "root"})
        return
    only_with("shapes --make", _OF_SHAPES)
    if not fetched:
        only_with("--fetch or --from-file", {"keep_archive"})


_OF_SHAPES = frozenset({"count", "seed", "size", "val"})


class _ShapesWanted(TypedDict):
    """The settings by which shapes are drawn."""

    count: int
    seed: int
    size: tuple[int, int]
    val: float


def _draw(folder: Path, drawing: _ShapesWanted, *, as_json: bool) -> None:
    from ..data.shapes import make_shapes, state_of

    state = state_of(folder, **drawing)
    if state == "other":
        raise click.UsageError(f"{folder} is not empty; shapes are drawn into a folder of their own")
    if state != "whole":
        make_shapes(folder, **drawing)
    if as_json:
        write_json({"name": "shapes", "path": folder, **drawing})
    else:
        note(f"{drawing['count']} images of shapes, seed {drawing['seed']}, are in {folder}")


def _find(name: str) -> tuple[Archive, ...]:
    try:
        return find_archives(name)
    except KeyError as error:
        raise click.UsageError(error.args[0]) from None


def _bring(chosen: tuple[Archive, ...], base: Path, from_file: Path | None, keep: bool) -> None:
    from ..data.fetching import fetch_archive

    for archive in chosen:
        if archive.here(base):
            note(f"{archive.name} is there already: {base / archive.home}")
            continue
        if from_file is None and not is_offline():
            note(
                f"{archive.name} is not here: {archive.file}, up to {human_bytes(archive.largest)}, "
                f"from {shown(archive.urls[0])}"
            )
        last = [0]

        def unpacked(files: int, done: int, last: list[int] = last, name: str = archive.name) -> None:
            if files - last[0] >= 5000:
                last[0] = files
                note(f"unpacking {name}: {files} files, {human_bytes(done)}")

        with telling(archive.file) as told:
            home = fetch_archive(
                archive, root=base, from_file=from_file, keep=keep, progress=told.fetched, unpacked=unpacked
            )
        checked = f"it had the published {archive.checksum}" if archive.checksum else "no checksum was published for it"
        note(f"{archive.name} is in {home}; {checked}")


def _list(chosen: tuple[Archive, ...], base: Path) -> None:
    write_columns([(each.name, each.title, _here(each, base)) for each in chosen], header=("name", "what", "here"))
    missing = [each.name for each in chosen if not each.here(base)]
    note("")
    note(f"looked in {base} ({DATA_VARIABLE} or --root names another folder)")
    if missing:
        note("`fcn-port data NAME` says where one is published, `fcn-port data NAME --fetch` brings it")


def _describe(chosen: tuple[Archive, ...], base: Path) -> None:
    for number, archive in enumerate(chosen):
        if number:
            echo()
        echo(f"{archive.name}: {archive.title}")
        rows = [("here", _here(archive, base)), ("place", str(base / archive.home)), ("file", archive.file)]
        rows += [("address", url) for url in archive.urls]
        rows += [("checksum", str(archive.checksum or "none was ever published")), ("announced at", archive.page)]
        write_columns(rows)
    _say_splits(chosen, base)


def _say_splits(chosen: tuple[Archive, ...], base: Path) -> None:
    """The number of images in each list, and how many of them are not there."""
    home = next((base / each.home for each in chosen if each.unpacked and each.here(base)), None)
    if home is None:
        return
    from ..data.lists import lists_in
    from ..data.opening import open_dataset

    places = (home / "ImageSets" / "Segmentation", home)
    lists = [path for place in places for path in lists_in(place)]
    rows = []
    for path in lists:
        data = open_dataset(home, split=str(path))
        missing = sum(not all(file.exists() for file in data.files(id_, kinds=("color",))) for id_ in data.ids)
        state = "all there" if not missing else f"{missing} lack an image or a label map"
        rows.append((path.stem, str(len(data.ids)), state + (", the published split" if data.complete else "")))
    if rows:
        echo()
        write_columns(rows, header=("split", "images", ""), right=(1,))


def _here(archive: Archive, base: Path) -> str:
    if archive.here(base):
        return "yes"
    home = base / archive.home
    if not home.exists():
        return "-"
    if home.is_file():
        return "another file of this name"
    return "in part: " + ", ".join(f"no {each}" for each in archive.holds if not (home / each).exists())


def _as_json(archive: Archive, base: Path) -> dict[str, object]:
    return {
        "name": archive.name,
        "title": archive.title,
        "here": archive.here(base),
        "path": base / archive.home,
        "file": archive.file,
        "urls": archive.urls,
        "checksum": str(archive.checksum) if archive.checksum else None,
        "page": archive.page,
    }
