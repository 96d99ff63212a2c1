"""Archives for PASCAL VOC's evaluation server: written, and checked before anybody waits for the server's answer.

The server takes (devkit, section 5.3) a gzipped tar with one indexed PNG in VOC's colours for each image of the test
set, of the image's own size: results/VOC2012/Segmentation/comp6_test_cls/<id>.png. comp6 is for methods that saw more
than VOC's images, as every FCN did (ImageNet); comp5 for those that did not.
"""

from __future__ import annotations

import gzip
import io
import re
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from converters.errors import CaffeFormatError
from converters.escaping import terminal
from converters.safety import check_limit, check_memory, memory_limit, open_file, whole_file

from ..data.errors import DataError
from ..data.tars import TarMember, tar_members
from ..errors import ImageError
from ..predict.palettes import voc_palette
from ..predict.pictures import opened_picture

Size = tuple[int, int]

_EXPANSION = 8
"""Bytes of the tar for each byte of the archive, beyond the first 64 MiB: label maps are packed already."""
_PIXELS = 1024
"""Pixels for each byte of the archive, beyond 64 million: one label map of one class has up to 1000."""

_MEMBER = re.compile(r"(?:\./)?results/VOC(20\d\d)/Segmentation/(comp[56]_test_cls)/([^/]+)\.png")


def member_name(id_: str, *, year: int, competition: str = "comp6") -> str:
    """The name under which the server looks for the label map of an image."""
    return f"results/VOC{year}/Segmentation/{competition}_test_cls/{id_}.png"


def write_submission(
    archive: Path, labels: Callable[[str], Path], ids: Sequence[str], *, year: int, competition: str = "comp6"
) -> None:
    """Pack the label PNGs of `ids` (`labels` gives their files); the same labels give the same bytes.

    The archive is whole under its name or not there. DataError names a label map that is missing.
    """
    with (
        whole_file(archive) as file,
        gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for id_ in sorted(ids):
            _add(tar, member_name(id_, year=year, competition=competition), labels(id_))


def check_submission(archive: Path, *, sizes: Mapping[str, Size] | None = None, year: int | None = None) -> list[str]:
    """The reasons why the server would refuse an archive or score it wrongly; nothing if it is acceptable.

    `sizes` (h, w) by id are the images of the test set: with them, missing, extra and resized label maps are found.
    FileNotFoundError if there is no archive; whatever is in it, it is a finding.
    """
    found: list[str] = []
    look = _Look(archive.stat().st_size, sizes)
    try:
        with open_file(archive) as file, gzip.open(file) as unpacked:
            for member in tar_members(unpacked, within=look.within):
                found += _look_at(member, look)
    except CaffeFormatError as error:
        return [*found, f"not an archive that can be taken: {str(error).replace(chr(10), ';')}"]
    return [*found, *_look_at_all(look, year)]


@dataclass
class _Look:
    """The known facts of an archive of so many bytes, and what was seen in it so far."""

    archive_size: int
    sizes: Mapping[str, Size] | None
    seen: dict[str, str] = field(default_factory=dict)
    folders: set[tuple[str, str]] = field(default_factory=set)
    pixels: int = 0

    def within(self, size: int) -> None:
        """LimitError if so many bytes are more than come out of an archive of this size."""
        check_memory(size, file_size=self.archive_size, expansion=_EXPANSION, what="unpacked it has at least")

    def count(self, height: int, width: int) -> None:
        """LimitError if the label maps have more pixels than in an archive of this size."""
        self.pixels += height * width
        most = memory_limit(self.archive_size, expansion=_PIXELS)
        check_limit(self.pixels, most, what="the label maps have at least", unit="pixels")


def image_sizes(paths: Mapping[str, Path]) -> dict[str, Size]:
    """The size (h, w) of images by id, from their headers; DataError names a file that is missing or no image."""
    sizes = {}
    for id_, path in paths.items():
        try:
            with opened_picture(path, pixels=False) as image:
                sizes[id_] = (image.height, image.width)
        except FileNotFoundError:
            raise DataError("there is no such file", path=path) from None
        except ImageError as error:
            raise DataError(str(error).removeprefix(f"{path}: "), path=path) from error
    return sizes


def _add(tar: tarfile.TarFile, name: str, path: Path) -> None:
    try:
        body = path.read_bytes()
    except FileNotFoundError:
        raise DataError("there is no label map for the archive", path=path) from None
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(body), 0o644
    tar.addfile(info, io.BytesIO(body))


def _look_at(member: TarMember, look: _Look) -> list[str]:
    """The faults of one member."""
    info = member.info
    shown = terminal(info.name[:200])
    if info.isdir():
        return []
    place = _MEMBER.fullmatch(info.name)
    if place is None:
        return [f"{shown}: only results/VOC<year>/Segmentation/comp<5 or 6>_test_cls/<id>.png belongs in it"]
    if not info.isfile() or info.issparse():
        return [f"{shown}: a link or device instead of a file"]
    look.folders.add((place[1], place[2]))
    id_ = place[3]
    if id_ in look.seen:
        return [f"{shown}: the image is there twice"]
    look.seen[id_] = info.name
    wanted = None if look.sizes is None else look.sizes.get(id_)
    return [f"{shown}: {problem}" for problem in _look_at_labels(b"".join(member.pieces()), wanted, look)]


def _look_at_labels(body: bytes, size: Size | None, look: _Look) -> list[str]:
    try:
        with opened_picture(body, pixels=False) as image:
            found_size = (image.height, image.width)
            if image.format != "PNG":
                return [f"{image.format} instead of PNG"]
            if image.mode != "P":
                return [f"a PNG of mode {image.mode}; the server takes indexed ones"]
        if size is not None and found_size != size:
            return [f"{found_size[0]}x{found_size[1]} pixels, and the image has {size[0]}x{size[1]}"]
        look.count(*found_size)
        with opened_picture(body) as image:
            labels, palette = np.asarray(image), image.getpalette("RGB") or []
    except ImageError as error:
        return [str(error)]
    problems = []
    if labels.size and labels.max() > 20:
        problems.append(f"label {labels.max()}; predictions are 0 to 20, also on borders")
    used = int(labels.max()) + 1 if labels.size else 0
    if palette[: 3 * used] != voc_palette()[:used].ravel().tolist():
        problems.append("its palette is not VOC's")
    return problems


def _look_at_all(look: _Look, year: int | None) -> list[str]:
    """The faults of the archive as a whole."""
    seen, folders, sizes = look.seen, look.folders, look.sizes
    problems = []
    if not seen:
        problems.append("there is no label map in it")
    if len(folders) > 1:
        problems.append(f"several folders: {', '.join('/'.join(each) for each in sorted(folders))}")
    if year is not None and any(int(each) != year for each, _ in folders):
        problems.append(f"label maps for VOC{'/'.join(sorted(each for each, _ in folders))} instead of VOC{year}")
    if sizes is not None:
        missing, extra = sorted(set(sizes) - set(seen)), sorted(set(seen) - set(sizes))
        if missing:
            problems.append(f"{len(missing)} images are missing: {_few(missing)}")
        if extra:
            problems.append(f"{len(extra)} are not in the test set: {_few(extra)}")
    return problems


def _few(names: Sequence[str]) -> str:
    return ", ".join(terminal(name[:80]) for name in names[:5]) + (" ..." if len(names) > 5 else "")
