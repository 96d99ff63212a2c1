"""Archives for VOC's test server: what is written is acceptable, and what is not is said."""

from __future__ import annotations

import gzip
import io
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file

from fcn_port.cli import run
from fcn_port.data import DataError
from fcn_port.evaluation.labels import indexed_image
from fcn_port.evaluation.submission import check_submission, member_name, write_submission
from fcn_port.nets import FCN8s
from parity_tests.datasets import make_voc, noise, save
from parity_tests.evaluation.test_evaluate import NARROW, filled

SIZES = {"2008_000001": (20, 30), "2008_000002": (21, 29)}
PREFIX = "results/VOC2012/Segmentation/comp6_test_cls"


def png(size: tuple[int, int], *, labels: np.ndarray | None = None) -> bytes:
    """An acceptable label map."""
    out = io.BytesIO()
    indexed_image(noise(1, size) % 21 if labels is None else labels).save(out, "PNG")
    return out.getvalue()


def saved(image: Image.Image, kind: str = "PNG") -> bytes:
    """An image's file."""
    out = io.BytesIO()
    image.save(out, kind)
    return out.getvalue()


def good() -> dict[str, bytes]:
    """The members of an acceptable archive."""
    return {f"{PREFIX}/{id_}.png": png(size) for id_, size in SIZES.items()}


def packed(path: Path, members: dict[str, bytes]) -> Path:
    """A .tar.gz of members."""
    with tarfile.open(path, "w:gz") as archive:
        for name, body in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            archive.addfile(info, io.BytesIO(body))
    return path


def test_the_name_that_the_server_wants() -> None:
    assert member_name("2008_000001", year=2012) == f"{PREFIX}/2008_000001.png"
    assert member_name("x", year=2011, competition="comp5") == "results/VOC2011/Segmentation/comp5_test_cls/x.png"


def test_what_is_written_is_acceptable_and_always_the_same(tmp_path: Path) -> None:
    for id_, size in SIZES.items():
        (tmp_path / f"{id_}.png").write_bytes(png(size))
    archives = [tmp_path / "one.tar.gz", tmp_path / "two.tar.gz"]
    for archive, ids in zip(archives, (list(SIZES), list(reversed(SIZES))), strict=True):
        write_submission(archive, lambda id_: tmp_path / f"{id_}.png", ids, year=2012)
        assert check_submission(archive, sizes=SIZES, year=2012) == []
    assert archives[0].read_bytes() == archives[1].read_bytes()
    with tarfile.open(archives[0]) as archive:
        assert archive.getnames() == [f"{PREFIX}/{id_}.png" for id_ in sorted(SIZES)]
    (tmp_path / f"{min(SIZES)}.png").unlink()
    with pytest.raises(DataError, match="no label map for the archive"):
        write_submission(tmp_path / "three.tar.gz", lambda id_: tmp_path / f"{id_}.png", list(SIZES), year=2012)
    assert not list(tmp_path.glob("three*"))


def _with(name: str, body: bytes) -> Callable[[dict[str, bytes]], dict[str, bytes]]:
    return lambda members: {**members, name: body}


FIRST = f"{PREFIX}/2008_000001.png"
WRONG: dict[str, tuple[Callable[[dict[str, bytes]], dict[str, bytes]], str]] = {
    "missing": (lambda members: {FIRST: members[FIRST]}, "1 images are missing: 2008_000002"),
    "extra": (_with(f"{PREFIX}/2008_000009.png", png((5, 5))), "1 are not in the test set: 2008_000009"),
    "elsewhere": (_with("2008_000001.png", b""), "2008_000001.png: only results/VOC"),
    "a mac's": (_with(f"{PREFIX}/._2008_000001.png.txt", b""), "only results/VOC"),
    "two folders": (_with(FIRST.replace("comp6", "comp5"), png(SIZES["2008_000001"])), "the image is there twice"),
    "size": (_with(FIRST, png((20, 31))), "20x31 pixels, and the image has 20x30"),
    "grey": (_with(FIRST, saved(Image.fromarray(noise(1, (20, 30)) % 21))), "mode L; the server takes indexed"),
    "colours": (_with(FIRST, saved(Image.fromarray(noise(1, (20, 30, 3))))), "mode RGB"),
    "jpeg": (_with(FIRST, saved(Image.fromarray(noise(1, (20, 30))), "JPEG")), "JPEG instead of PNG"),
    "ignored": (_with(FIRST, png((20, 30), labels=np.full((20, 30), 255, np.uint8))), "label 255; predictions are 0"),
    "damaged": (_with(FIRST, png((20, 30))[:90]), "not an image that can be read"),
    "year": (
        lambda members: {name.replace("2012", "2011"): body for name, body in members.items()},
        "label maps for VOC2011 instead of VOC2012",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_the_server_would_refuse(tmp_path: Path, case: str) -> None:
    change, says = WRONG[case]
    problems = check_submission(packed(tmp_path / "a.tar.gz", change(good())), sizes=SIZES, year=2012)
    assert any(says in problem for problem in problems), problems
    assert check_submission(packed(tmp_path / "a.tar.gz", good()), sizes=SIZES, year=2012) == []


def test_another_palette(tmp_path: Path) -> None:
    image = Image.fromarray(noise(1, (20, 30)) % 21)
    image.putpalette(bytes(range(256)) * 3)
    problems = check_submission(packed(tmp_path / "a.tar.gz", {**good(), FIRST: saved(image)}), sizes=SIZES)
    assert problems == [f"{FIRST}: its palette is not VOC's"]


def test_archives_that_are_none(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.tar.gz", good())
    whole = path.read_bytes()
    for body in (b"", b"PK\3\4", whole[: len(whole) // 2], whole[:-4], gzip.decompress(whole), gzip.compress(b"text")):
        path.write_bytes(body)
        assert check_submission(path, sizes=SIZES), body[:10]
    with pytest.raises(FileNotFoundError):
        check_submission(tmp_path / "none.tar.gz")
    path.write_bytes(gzip.compress(b"", mtime=0))
    assert check_submission(packed(path, {}), sizes=SIZES)


def test_a_bomb_ends_the_check(tmp_path: Path) -> None:
    info = tarfile.TarInfo(FIRST)
    info.size = 2 << 30
    with gzip.open(tmp_path / "a.tar.gz", "wb", compresslevel=1) as out:
        out.write(info.tobuf())
    assert "unpacked it has at least 2147" in check_submission(tmp_path / "a.tar.gz")[-1]


def bombs(folder: Path) -> list[Path]:
    """Archives of less than a megabyte: 150 MB behind a name, in a header, in one picture, and in many pictures."""
    zeros = bytes(150_000_000)
    paths = [packed(folder / "member.tar.gz", {FIRST: zeros}), folder / "header.tar.gz"]
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, len(zeros)
    with tarfile.open(paths[1], "w:gz") as archive:
        archive.addfile(info, io.BytesIO(zeros))
    paths.append(packed(folder / "picture.tar.gz", {FIRST: saved(indexed_image(np.zeros((15_000, 10_000), np.uint8)))}))
    many = saved(indexed_image(np.zeros((4000, 4000), np.uint8)))
    paths.append(packed(folder / "many.tar.gz", {f"{PREFIX}/{i}.png": many for i in range(100)}))
    assert all(path.stat().st_size < 1_000_000 for path in paths)
    return paths


LIMITED = """
import resource, sys
from pathlib import Path
from fcn_port.evaluation.submission import check_submission
now = int(next(line for line in open("/proc/self/status") if line.startswith("VmSize")).split()[1]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (now + (200 << 20), now + (200 << 20)))
for path in sys.argv[1:]:
    print(Path(path).name, check_submission(Path(path)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS and /proc are Linux's")
def test_bombs_take_no_memory(tmp_path: Path) -> None:
    command = [sys.executable, "-c", LIMITED, *bombs(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    said = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert "unpacked it has at least 150" in said["member.tar.gz"]
    assert "a header of 150" in said["header.tar.gz"]
    assert "the label maps have at least 150" in said["picture.tar.gz"]
    assert "the label maps have at least" in said["many.tar.gz"]


def test_from_weights_to_an_archive(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A private test set: images without labels, a checked archive, and the checker of the command line."""
    folder = make_voc(tmp_path / "VOC2012", list(SIZES), split="test", labels=False)
    weights, archive = tmp_path / "narrow.safetensors", tmp_path / "results.tar.gz"
    save_file(filled(FCN8s(21, widths=NARROW)).state_dict(), weights)
    common = ["evaluate", str(weights), "--data", str(folder), "--cache", str(tmp_path / "cache")]
    assert run([*common, "--split", "test", "--submission", str(archive)]) == 0
    assert "2 label maps; checked: the server takes it" in capsys.readouterr().err
    assert check_submission(archive, sizes=SIZES, year=2012) == []
    check = ["evaluate", "--check-submission", str(archive)]
    assert run([*check, "--data", str(folder)]) == 0
    assert capsys.readouterr().out.startswith("ok")
    save(folder / "JPEGImages" / "2008_000002.jpg", noise(5, (22, 29, 3)))
    assert run([*check, "--data", str(folder)]) == 1
    assert "21x29 pixels, and the image has 22x29" in capsys.readouterr().out
    assert run(["evaluate", "--check-submission", str(tmp_path / "none.tar.gz")]) == 2
