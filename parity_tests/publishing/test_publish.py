"""A published folder: what is in it, what its card says, and that nothing else passes for it."""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fcn_port
from converters import CaffeFormatError, CaffeNet, from_state_dict, parse_prototxt
from converters.errors import MismatchError
from converters.escaping import terminal
from converters.export import ExportError
from converters.formats import format_prototxt, read_caffemodel, write_caffemodel
from fcn_port import onnx_export
from fcn_port.cli import run
from fcn_port.nets import NETS
from fcn_port.nets.net import as_net
from fcn_port.publishing import publish, writing
from parity_tests.detection.nets import ssd
from parity_tests.serving.nets import (
    largest_channel,
    of_values,
    of_whole_images,
    png_of,
    stripes,
    write_largest_channel,
)
from parity_tests.test_architecture import ROOT
from parity_tests.verbs import SAMPLE
from weights import releases
from weights.card import Card
from weights.catalogue import bundled
from weights.records import Preprocessing

HOSTILE = "](javascript:alert(1)) | <script>`x`\n# y"


@pytest.fixture(scope="module")
def caffemodel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Caffe file that says nothing of classes, called so that a card must be careful."""
    path = tmp_path_factory.mktemp("given") / "a|b<i>.caffemodel"
    write_largest_channel(path)
    return path


@pytest.fixture(scope="module")
def published(caffemodel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published") / "net"
    card = replace(largest_channel().card, classes={"score": ("a", HOSTILE, "c")})
    publish(caffemodel, folder, card=card, licence="MIT", repository="me/net", onnx=True)
    return folder


def test_a_net_without_onnx_names_the_option_that_publish_has(
    caffemodel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*given: Any, **more: Any) -> None:
        raise ExportError("layer 'x' has no form\n  end the net before it with --outputs")

    monkeypatch.setattr(onnx_export, "export_onnx", refuse)
    assert run(["publish", str(caffemodel), str(tmp_path / "net")]) == 1
    said = capsys.readouterr().err
    assert "with --outputs (--outputs is an option of export)\n  --no-onnx publishes the net without" in said
    assert not (tmp_path / "net").exists()


@pytest.fixture
def copy(published: Path, tmp_path: Path) -> Path:
    shutil.copytree(published, tmp_path / "copy")
    return tmp_path / "copy"


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_it_has_what_a_hub_expects(published: Path, caffemodel: Path) -> None:
    found = {path.relative_to(published).as_posix() for path in published.rglob("*") if path.is_file()}
    assert found == {"README.md", "config.json", "golden.npz", "model.safetensors", "onnx/model.onnx"}
    config = json.loads((published / "config.json").read_text())
    assert config["files"].keys() == found - {"README.md", "config.json"}
    for name, said in config["files"].items():
        path = published / name
        assert said == {"size": path.stat().st_size, "sha256": digest(path)}
    assert config["source"] == {"file": caffemodel.name, "sha256": digest(caffemodel), "urls": []}
    assert (config["inputs"], config["any_size"], config["parameters"]) == ({"data": [1, 3, 16, 16]}, True, 12)
    assert config["preprocessing"]["inputs"][0]["channels"] == "bgr" and config["classes"]["score"][1] == HOSTILE


def test_it_loads_as_the_net_that_it_was(published: Path) -> None:
    net, x = fcn_port.load(published), torch.randn(1, 3, 5, 7)
    assert torch.equal(net(x), largest_channel()(x))
    assert net.classes == {"score": ("a", HOSTILE, "c")} and net.card.licence == "MIT"


def test_predict_takes_the_folder(published: Path, tmp_path: Path) -> None:
    """A folder with a config.json is a published net; another one may hold MTCNN's three."""
    (tmp_path / "a.png").write_bytes(png_of(stripes()))
    argv = ["predict", str(published), str(tmp_path / "a.png"), "--padded", "-o", str(tmp_path / "out")]
    assert run(argv) == 0 and (tmp_path / "out" / "a.labels.png").exists()


@pytest.mark.parametrize(
    "verb", [["inspect"], ["trace"], ["convert", "-o", "x.safetensors"], ["export", "--to", "onnx"]]
)
def test_verbs_that_take_a_file_name_the_one_in_the_folder(
    verb: list[str], published: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([verb[0], str(published), *verb[1:]]) == 3
    assert f"the weights in it are {published / 'model.safetensors'}" in capsys.readouterr().err


def test_the_card_says_where_from_and_what_was_verified_and_harms_nobody(published: Path, caffemodel: Path) -> None:
    text = (published / "README.md").read_text()
    front, _, body = text.removeprefix("---\n").partition("\n---\n")
    assert "license: mit" in front and "pipeline_tag: image-segmentation" in front
    assert digest(caffemodel) in body and 'fcn_port.load("hf:me/net")' in body
    assert "* blobs: holds; 2 blobs, 12 values, all equal" in body and "* ONNX: run beside the net" in body
    assert "<script>" not in body and not re.search(r"(?<!\\)\]\(", body) and "\n# y" not in body
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in body.splitlines() if line.startswith("| ")]
    assert {len(row) for row in rows} == {2}, "no bar in a name makes another cell"


def test_every_card_s_lines_run_and_say_how_an_image_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One net of each task, the lines as they stand, but for the address and the photograph."""
    monkeypatch.chdir(tmp_path)
    for name in ("street.jpg", "cat.jpg"):
        (tmp_path / name).write_bytes(png_of(stripes()))
    resized = replace(of_whole_images().card.preprocessing.inputs[0], resize=(20,))  # type: ignore[union-attr]
    cropped = replace(of_whole_images().card, preprocessing=Preprocessing((resized,)))
    nets = {
        "image-segmentation": (largest_channel(), None, "; never resized"),
        "image-classification": (of_whole_images(), cropped, "; the shorter side scaled to 20, then 16x16 cut from"),
        "object-detection": (as_net(ssd()), None, "; both sides scaled to 32x32"),
        "": (of_values(), None, "; never resized"),
        "untold": (largest_channel(), Card(), ""),
    }
    for task, (net, card, made) in nets.items():
        folder = tmp_path / f"net-{task}"
        write_caffemodel(from_state_dict(net.state_dict(), net.spec), tmp_path / "x.caffemodel")
        publish(
            tmp_path / "x.caffemodel", folder, card=card or net.card, licence="MIT", repository="me/net", onnx=False
        )
        text = (folder / "README.md").read_text()
        assert (f"pipeline_tag: {task}\n" in text) is ("-" in task) and made in text
        (code,) = re.findall(r"(?s)```python\n(.*?)```", text)
        found: dict[str, object] = {}
        exec(code.replace("hf:me/net", str(folder)), found)
        assert found.keys() & {"seen", "found", "blobs"}


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def change(folder: Path, edit: Callable[[dict], None]) -> None:  # type: ignore[type-arg]
    config = json.loads((folder / "config.json").read_text())
    edit(config)
    (folder / "config.json").write_text(json.dumps(config))


def other_recording(folder: Path) -> None:
    """Another output, with its digest put right: only the pass itself tells."""
    with np.load(folder / "golden.npz") as file:
        kept = {name: file[name] for name in file.files}
    kept["score"][0, 0, 0, 0] += 1e-2 * np.abs(kept["score"]).max()
    np.savez_compressed(folder / "golden.npz", **kept)
    put_right(folder, "golden.npz")


def only_the_input(folder: Path) -> None:
    with np.load(folder / "golden.npz") as file:
        kept = {"data": file["data"]}
    np.savez_compressed(folder / "golden.npz", **kept)
    put_right(folder, "golden.npz")


def put_right(folder: Path, name: str) -> None:
    path = folder / name
    change(folder, lambda c: c["files"][name].update(size=path.stat().st_size, sha256=digest(path)))


WRONG: dict[str, tuple[Callable[[Path], object], type[Exception], str]] = {
    "other weights": (lambda f: flip(f / "model.safetensors"), MismatchError, "its sha256 is"),
    "cut weights": (lambda f: (f / "model.safetensors").write_bytes(b"x" * 2000), MismatchError, "2,000 bytes; config"),
    "a pointer": (lambda f: change(f, lambda c: c["files"]["golden.npz"].update(size=9000)), MismatchError, "bytes"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), FileNotFoundError, "model.safetensors"),
    "another recording": (other_recording, MismatchError, "gives 'score' with an error of"),
    "a recording without outputs": (only_the_input, CaffeFormatError, "no output 'score'"),
    "no config": (lambda f: (f / "config.json").unlink(), CaffeFormatError, "a folder without config.json"),
    "a config of others": (lambda f: (f / "config.json").write_text("{}"), CaffeFormatError, "its format is None"),
    "a config that is none": (lambda f: (f / "config.json").write_text("["), CaffeFormatError, "config.json"),
    "other classes": (lambda f: change(f, lambda c: c["classes"].update(score=["b"] * 3)), MismatchError, "classes"),
    "no digest": (lambda f: change(f, lambda c: c["files"].pop("golden.npz")), CaffeFormatError, "npz is missing"),
    "a size that is text": (
        lambda f: change(f, lambda c: c["files"]["golden.npz"].update(size="9")), CaffeFormatError, "golden.npz.*size"),
    "a tolerance beyond numbers": (
        lambda f: change(f, lambda c: c.update(tolerance="1e999")), CaffeFormatError, "tolerance"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_nothing_else_passes_for_it(copy: Path, name: str) -> None:
    harm, error, said = WRONG[name]
    harm(copy)
    with pytest.raises(error, match=said):
        fcn_port.load(copy)


def test_a_name_in_config_leads_nowhere(copy: Path) -> None:
    """Only the files that this project writes are opened, whatever others config.json names."""
    change(copy, lambda c: c["files"].update({"../../etc/passwd": {"size": 1, "sha256": "0"}}))
    assert fcn_port.load(copy) is not None


def test_a_failure_leaves_nothing(caffemodel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "no space left on device", "x")

    monkeypatch.setattr(writing, "to_markdown", fail)
    with pytest.raises(OSError, match="no space"):
        publish(caffemodel, tmp_path / "out" / "net", onnx=False)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_famous_net_is_published_as_it_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the definition that its authors published beside the file, which holds the net that it was trained with."""
    monkeypatch.setenv("FCN_PORT_WEIGHTS", str(tmp_path))
    write_largest_channel(tmp_path / "fcn-8s-cityscapes.caffemodel")
    spec = largest_channel().spec
    deploy = format_prototxt(spec) + f'layer {{ name: "p" type: "Softmax" bottom: "{spec.outputs[0]}" top: "prob" }}'
    (tmp_path / "fcn-8s-cityscapes.prototxt").write_text(deploy)
    loaded = as_net(fcn_port.load("fcn-8s-cityscapes"))
    first = publish("fcn-8s-cityscapes", tmp_path / "net", onnx=False)
    assert tuple(first.net.outputs) == loaded.outputs == as_net(fcn_port.load(tmp_path / "net")).outputs == ("prob",)
    assert publish("fcn-8s-cityscapes", tmp_path / "net", onnx=False).already_there


PEAKS = """input: "data" input_shape { dim: 1 dim: 3 dim: 9 dim: 8 }
layer { name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param { num_output: 2 kernel_size: 3 } }
layer { name: "n" type: "Nms" bottom: "c" top: "n" nms_param { threshold: 0.1 max_peaks: 4 num_parts: 1 } }"""
"""A net without an ONNX form."""


@pytest.mark.parametrize("stem", ["peaks", "a b", "\x1b[1m", "\u65e5"])
def test_errors_name_the_file_that_was_given(stem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights, prototxt = tmp_path / f"{stem}.pth", tmp_path / "net.prototxt"
    prototxt.write_text(PEAKS)
    torch.save(dict(CaffeNet(parse_prototxt(PEAKS)).state_dict()), weights)
    assert run(["publish", str(weights), str(tmp_path / stem), "--prototxt", str(prototxt)]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"fcn-port: {terminal(str(weights))}, its prototxt: layer 'n'") and ".part" not in said


def test_a_full_disk_names_the_folder_that_is_written(
    caffemodel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "no space left on device", str(path))

    monkeypatch.setattr(writing, "write_whole", full)
    assert run(["publish", str(caffemodel), str(tmp_path / "net"), "--no-onnx"]) == 1
    assert f"{tmp_path / 'net' / 'config.json'}: no space" in (said := capsys.readouterr().err) and ".part" not in said


def test_what_is_there_stays(caffemodel: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = tmp_path / "net"
    net.mkdir()
    argv = ["publish", str(caffemodel), str(net), "--no-onnx"]
    assert run(argv) == 0
    before = {path: path.read_bytes() for path in net.rglob("*")}
    assert run(argv) == 0 and "is there already" in capsys.readouterr().err
    assert run(["publish", SAMPLE, str(net), "--no-onnx"]) == 2
    assert "something else is there" in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in net.rglob("*")}


@pytest.mark.parametrize("given, status, said", [
    (["--repository", "a b"], 2, "expected OWNER/NAME"),
    (["--like", "no-such"], 2, "no release called"),
    (["--prototxt", "missing"], 2, "missing"),
])  # fmt: skip
def test_wrong_use_is_told(
    given: list[str], status: int, said: str, caffemodel: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["publish", str(caffemodel), str(tmp_path / "x"), "--no-onnx", *given]) == status
    assert said in capsys.readouterr().err and not (tmp_path / "x").exists()


def test_the_command_that_uploads_is_printed(
    caffemodel: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "a net"
    assert run(["publish", str(caffemodel), str(folder), "--no-onnx", "--repository", "me/net", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["upload"] == f"hf upload me/net '{folder}'" and told["config"]["made_by"].startswith("fcn-port")


def test_torch_hub_finds_the_nets() -> None:
    root = str(ROOT)
    net = torch.hub.load(root, "sample", source="local", trust_repo=True)
    assert net.release == "sample" and not net.training
    small = torch.hub.load(root, "voc_fcn_alexnet", source="local", trust_repo=True, pretrained=False, num_classes=3)
    assert small.classes == {} and small.spec.outputs == ("score",)
    with pytest.raises(ValueError, match="pretrained=False"):
        torch.hub.load(root, "voc_fcn8s", source="local", trust_repo=True, num_classes=3)


def test_torch_hub_lists_nets_alone() -> None:
    """As torch.hub.list asks: what can be called and has no underscore."""
    spec = importlib.util.spec_from_file_location("hubconf_listed", ROOT / "hubconf.py")
    assert spec is not None and spec.loader is not None
    hubconf = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hubconf)
    listed = {name for name in dir(hubconf) if callable(getattr(hubconf, name)) and not name.startswith("_")}
    assert listed == {each.replace("-", "_") for each in (*NETS, *releases(), *bundled(), "load")}
    with pytest.raises(ValueError, match="with its weights alone"):
        hubconf.sample(pretrained=False)


def test_who_publishes_the_same_at_the_same_time_is_told(
    caffemodel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was "directory not empty", of a folder that was not there when the work began."""
    target = tmp_path / "net"

    def there(*given: object, **more: object) -> str:
        target.mkdir()
        (target / "another").write_text("")
        return ""

    monkeypatch.setattr(writing, "to_markdown", there)
    assert run(["publish", str(caffemodel), str(target), "--no-onnx"]) == 2
    assert "something else is there; choose another folder" in capsys.readouterr().err
    assert [path.name for path in target.iterdir()] == ["another"] and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    "option",
    [
        {"licence": "GPL"},
        {"repository": "you/net"},
        {"card": Card(classes={"score": ("a",)})},
        {"prototxt": "net.prototxt"},
    ],
    ids=str,
)
def test_another_card_or_definition_is_not_there_already(
    option: dict[str, Any], caffemodel: Path, tmp_path: Path
) -> None:
    """Whoever gave it would upload a folder that says otherwise."""
    target = tmp_path / "net"
    publish(caffemodel, target, licence="MIT", onnx=False)
    before = {path: path.read_bytes() for path in target.rglob("*")}
    assert publish(caffemodel, target, licence="MIT", onnx=False).already_there
    if "prototxt" in option:
        definition = tmp_path / "net.prototxt"
        definition.write_text(format_prototxt(read_caffemodel(caffemodel).spec))
        option = {"prototxt": definition}
    with pytest.raises(FileExistsError, match="the same weights are there with another --prototxt, --like, --licence"):
        publish(caffemodel, target, onnx=False, **{"licence": "MIT", **option})
    assert before == {path: path.read_bytes() for path in target.rglob("*")}


def test_who_publishes_the_same_net_at_the_same_time_is_done(
    caffemodel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one who comes afterwards is; it was "something else is there"."""
    target = tmp_path / "net"
    made = writing.to_markdown
    monkeypatch.setattr(writing, "to_markdown", lambda *_: "")
    publish(caffemodel, tmp_path / "other", onnx=False)

    def meanwhile(*given: object, **more: object) -> str:
        (tmp_path / "other").rename(target)
        return made(*given, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(writing, "to_markdown", meanwhile)
    assert publish(caffemodel, target, onnx=False).already_there
    assert [path.name for path in tmp_path.iterdir()] == ["net"]
