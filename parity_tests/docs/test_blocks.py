"""Every block of code in README and docs: the program takes the shell lines, and Python runs with small stand-ins."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fcn_port
from fcn_port.cli import run
from parity_tests.detection.nets import ssd
from parity_tests.detection.test_cascade import nets as cascade
from parity_tests.docs.blocks import BLOCKS, PAGES, Block, lines_in_text
from parity_tests.docs.commands import commands_in, problem_of
from parity_tests.predict.output_nets import net_of
from parity_tests.test_architecture import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SAMPLE = ROOT / "weights" / "sample" / "shapes-fcn8s.caffemodel"
POSE = """
input: "data" input_shape { dim: 1 dim: 3 dim: 64 dim: 64 }
layer { name: "net_output" type: "Convolution" bottom: "data" top: "net_output"
        convolution_param { num_output: 57 kernel_size: 8 stride: 8 } }
"""
HED = """
input: "data" input_shape { dim: 1 dim: 3 dim: 40 dim: 40 }
layer { name: "fuse" type: "Convolution" bottom: "data" top: "fuse" convolution_param { num_output: 1 kernel_size: 1 } }
layer { name: "sigmoid" type: "Sigmoid" bottom: "fuse" top: "sigmoid-fuse" }
"""
SOLVER = 'net: "net.prototxt" base_lr: 0.0000001 lr_policy: "fixed" momentum: 0.9 max_iter: 10'


def by_language(*languages: str) -> list[Any]:
    return [pytest.param(block, id=block.place) for block in BLOCKS if block.language in languages]


def test_no_block_is_of_a_kind_that_nobody_looks_at() -> None:
    assert {block.language for block in BLOCKS} <= {"", "python", "toml", "text"}
    assert len(BLOCKS) > 60


@pytest.mark.parametrize("block", by_language(""))
def test_shell_lines_are_ones_that_the_program_takes(block: Block) -> None:
    problems = {line: problem for line in commands_in(block.text) if (problem := problem_of(line))}
    assert block.reason or problems == {}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_lines_in_text_and_tables_are_ones_that_the_program_takes(page: Path) -> None:
    """But for a verb's name alone, and a word in capitals at the end that stands for one of several."""
    lines = {place: re.sub(r" --\S+ [A-Z]{4,}$", " ...", line) for place, line in lines_in_text(page).items()}
    problems = {place: (line, problem_of(line)) for place, line in lines.items() if len(line.split()) > 2}
    assert {place: said for place, said in problems.items() if said[1]} == {}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("fcn-port predikt sample a.jpg", "no verb"),
        ("fcn-port predict sample a.jpg --overlays", "No such option"),
        ("fcn-port edges sample", "Missing"),
        ("fcn-port export sample --to onix", "onix"),
        ("fcn-port predict sample a.jpg --batch many", "many"),
        ("make demos", "no target"),
        ("make demo RELEASES=a", "no variable"),
        ("python -m parity_tests.prof", "no module"),
        ("pip install 'fcn-port[torhc]'", "no extra"),
        ("data            100", "```text"),
    ],
)
def test_wrong_lines_are_noticed(line: str, said: str) -> None:
    assert said in (problem_of(line) or "")


@pytest.mark.skipif(shutil.which("make") is None, reason="no make here")
def test_the_lines_of_the_makefile_are_ones_that_the_program_takes() -> None:
    """Those that show a person's own images; `make -n` says them and does nothing."""
    for target in ("gallery", "voc-numbers", "convert"):
        command = ["make", "-n", target, "VOC=VOCdevkit/VOC2011", "SPLIT=val"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
        lines = [line for line in done.stdout.replace("\\\n", " ").splitlines() if "bin/fcn-port" in line[:20]]
        assert lines and [problem_of(line) for line in lines if problem_of(line)] == [], done.stderr


@pytest.mark.parametrize("block", by_language("toml"))
def test_tables_are_toml(block: Block) -> None:
    assert tomllib.loads(block.text)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small file for every name that the blocks have."""
    import torch

    from converters import CaffeNet, from_state_dict, parse_prototxt, write_caffemodel

    folder = tmp_path_factory.mktemp("blocks")
    for name, text in (("pose_deploy_linevec", POSE), ("deploy", HED)):
        spec = parse_prototxt(text)
        (folder / f"{name}.prototxt").write_text(text)
        net = CaffeNet(spec)
        net.load_state_dict({key: torch.zeros_like(value) for key, value in net.state_dict().items()})
        model = from_state_dict(net.state_dict(), spec)
        write_caffemodel(model, folder / ("pose_iter_440000" if name != "deploy" else "hed_pretrained_bsds.caffemodel"))
    (folder / "pose_iter_440000").rename(folder / "pose_iter_440000.caffemodel")
    shutil.copy(folder / "hed_pretrained_bsds.caffemodel", folder / "mobilenet_ssd.caffemodel")
    for name in ("mine", "fcn8s-heavy-pascal"):
        shutil.copy(SAMPLE, folder / f"{name}.caffemodel")
    rng = np.random.default_rng(0)
    for name in ("street.jpg", "group.jpg", "image.jpg", "image.png", "cat.jpg"):
        Image.fromarray(rng.integers(0, 256, (40, 56, 3), np.uint8)).save(folder / name)
    pixels = np.zeros((40, 56, 3), np.uint8)
    pixels[:20, :28, 0] = 255  # what the small SSD finds
    Image.fromarray(pixels).save(folder / "street.jpg")
    (folder / "solver.prototxt").write_text(SOLVER)
    shutil.copy(SAMPLE.with_suffix(".prototxt"), folder / "fcn8s.prototxt")
    assert run(["export", str(SAMPLE), "--to", "onnx", "-o", str(folder / "net.onnx"), "--no-check"]) == 0
    return folder


@pytest.fixture
def stand_ins(workplace: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """Releases are the bundled one; the names that pages take for granted are there."""
    import torch

    from fcn_port.loading import load
    from fcn_port.nets import build

    monkeypatch.chdir(workplace)
    monkeypatch.setenv("FCN_PORT_WEIGHTS", str(tmp_path / "weights"))
    threads = torch.get_num_threads()

    def small(name: str, *arguments: Any, **options: Any) -> Any:
        return load(name if Path(name).is_file() else str(SAMPLE), *arguments, **options)

    def without_numbers(name: str, **options: Any) -> Any:
        with torch.device("meta"):  # the real widths, and no time for weights
            return build(name, **options)

    monkeypatch.setattr(fcn_port, "load", small, raising=False)
    monkeypatch.setattr(fcn_port, "build", without_numbers, raising=False)
    labels = np.zeros((4, 5), np.uint8)
    yield {
        **dict(zip(("pnet", "rnet", "onet"), cascade(), strict=True)),
        "edges": net_of("sigmoid"),
        "vgg": net_of("classes"),
        "anything": net_of("map"),
        "fcn_port": fcn_port,
        "ThreadPoolExecutor": ThreadPoolExecutor,
        "image": "street.jpg",
        "paths": ["street.jpg", "group.jpg"],
        "x": torch.zeros(1, 3, 40, 56),
        "labels": labels,
        "predictions": labels,
        "total": np.zeros((21, 21), np.int64),
        "image_bgr": np.zeros((40, 56, 3), np.uint8),
        "batches": [(torch.zeros(1, 3, 40, 56), torch.zeros(1, 40, 56, dtype=torch.long))],
    }
    torch.set_num_threads(threads)


PYTHON_PAGES = [page for page in PAGES if any(b.page == page and b.language == "python" for b in BLOCKS)]


@pytest.mark.parametrize("page", PYTHON_PAGES, ids=lambda page: page.name)
def test_python_runs(page: Path, stand_ins: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    """The blocks of a page in one namespace, in order."""
    names = {**stand_ins, "net": ssd() if page.name == "detection.md" else fcn_port.load("sample")}
    names["__name__"] = "a_page"
    for block in BLOCKS:
        if block.page != page or block.language != "python" or block.reason:
            continue
        code = compile("\n" * block.line + block.text, str(block.page), "exec")
        exec(code, names)


def test_a_pth_of_torchfcn_segments_an_image_by_the_line_of_its_table(workplace: Path, tmp_path: Path) -> None:
    """It holds tensors alone: by the line for other nets it was "this net does not say how its input is made"."""
    import torch

    import weights

    torch.save(fcn_port.load(str(SAMPLE)).state_dict(), tmp_path / "fcn8s_from_caffe.pth")
    net = fcn_port.load(tmp_path / "fcn8s_from_caffe.pth")
    page = (ROOT / "docs" / "coming-from.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"`(fcn_port\.segment\(net, image[^`]*)`", page.partition("## OpenCV's DNN module")[0])
    image = workplace / "image.jpg"
    assert eval(line, {"fcn_port": fcn_port, "weights": weights, "net": net, "image": image}).labels.shape == (40, 56)


def test_a_block_that_does_not_run_is_noticed(stand_ins: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        exec('fcn_port.segment(fcn_port.load("voc-fcn8s"), "street.jpg", tiles=3)', dict(stand_ins))


def test_reasons_are_given_where_blocks_are_not_run() -> None:
    assert all(len(block.reason) > 15 for block in BLOCKS if block.reason is not None)
    assert sum(1 for block in BLOCKS if block.reason and block.page.name != "opencv5.md") <= 8
