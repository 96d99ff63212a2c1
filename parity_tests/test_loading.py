"""load, segment and what a net carries."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import fcn_port
from converters import CaffeFormatError, CaffeNet, MismatchError, convert, parse_prototxt
from fcn_port.errors import ImageError
from fcn_port.nets import FCN8s, FCN32s, Widths
from parity_tests.goldens import formats
from weights import UnknownReleaseError, release
from weights.card import Card

NARROW = Widths(2, 2, 3, 3, 4, 5, 6)


@pytest.fixture
def sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> torch.nn.Module:
    monkeypatch.setenv("FCN_PORT_WEIGHTS", str(tmp_path))
    return fcn_port.load("sample")


def test_a_release_is_fetched_converted_and_knows_its_inputs(sample: torch.nn.Module, tmp_path: Path) -> None:
    assert (tmp_path / "sample.safetensors").is_file()
    assert isinstance(sample, FCN8s) and not sample.training
    assert sample.preprocessing == release("sample").preprocessing
    assert sample.classes["score"][0] == "background" and len(sample.classes["score"]) == 7
    assert sample.palette.shape == (256, 3) and tuple(sample.palette[15]) == (192, 128, 128)  # VOC's person


def test_segment_takes_files_pictures_and_arrays_alike(sample: torch.nn.Module, tmp_path: Path) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (41, 57, 3), np.uint8)
    picture = Image.fromarray(pixels)
    picture.save(tmp_path / "x.png")
    results = [fcn_port.segment(sample, source) for source in (pixels, picture, tmp_path / "x.png")]
    assert all(np.array_equal(results[0].scores, other.scores) for other in results[1:])
    assert results[0].labels.shape == (41, 57) and results[0].scores.shape == (7, 41, 57)
    assert np.array_equal(results[0].labels, results[0].scores.argmax(0))
    assert sum(results[0].share_of_classes().values()) == pytest.approx(1)


def test_segment_feeds_bgr_less_the_mean_as_the_release_does(sample: torch.nn.Module) -> None:
    """The release's own recipe, spelled out, and the same with red and blue exchanged, which must differ."""
    pixels = np.random.default_rng(4).integers(0, 256, (30, 40, 3), np.uint8)
    seen = fcn_port.segment(sample, pixels)
    for order, same in (([2, 1, 0], True), ([0, 1, 2], False)):
        values = np.array(pixels, np.float32)[:, :, order]
        values -= np.array((104.00698793, 116.66876762, 122.67891434))
        with torch.no_grad():
            scores = sample(torch.from_numpy(values.transpose(2, 0, 1)[None].copy()))[0].numpy()
        assert np.array_equal(scores, seen.scores) is same


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "I;16", "1"])
def test_pictures_of_every_mode_are_read(mode: str, tmp_path: Path) -> None:
    from fcn_port.predict.images import read_image

    grey = np.linspace(0, 255, 64).astype(np.uint8).reshape(8, 8)
    if mode == "I;16":
        picture = Image.fromarray(grey.astype(np.uint16) * 257)
    else:
        picture = Image.fromarray(grey).convert(mode)
    path = tmp_path / ("x.tif" if mode == "CMYK" else "x.png")
    picture.save(path)
    read = read_image(path)
    assert read.shape == (8, 8, 3) and read.dtype == np.uint8
    if mode in ("L", "P", "RGBA", "I;16"):
        assert np.abs(read[:, :, 0].astype(int) - grey).max() <= 1


def test_the_orientation_of_a_photograph_is_applied(tmp_path: Path) -> None:
    from fcn_port.predict.images import read_image

    picture = Image.new("RGB", (10, 4))
    exif = picture.getexif()
    exif[0x0112] = 6  # rotate by a quarter
    picture.save(tmp_path / "x.jpg", exif=exif)
    assert read_image(tmp_path / "x.jpg").shape == (10, 4, 3)


def test_damaged_pictures_are_named(tmp_path: Path) -> None:
    from fcn_port.predict.images import read_image

    (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 40)
    with pytest.raises(ImageError, match=r"x\.png"):
        read_image(tmp_path / "x.png")
    with pytest.raises(ImageError, match="uint8 RGB"):
        read_image(np.zeros((4, 4), np.float32))


@pytest.mark.parametrize(("net_class", "classes"), [(FCN8s, 7), (FCN32s, 3)])
def test_a_state_dict_of_any_width_and_number_of_classes_is_recognised(
    net_class: type, classes: int, tmp_path: Path
) -> None:
    net = net_class(classes, widths=NARROW)
    torch.save(net.state_dict(), tmp_path / "net.pth")
    loaded = fcn_port.load(tmp_path / "net.pth")
    assert type(loaded) is net_class
    assert all(torch.equal(a, b) for a, b in zip(loaded.state_dict().values(), net.state_dict().values(), strict=True))


def test_what_fits_no_net_says_what_to_do(tmp_path: Path) -> None:
    torch.save({"a.weight": torch.zeros(2)}, tmp_path / "a.pth")
    with pytest.raises(MismatchError, match="--prototxt"):
        fcn_port.load(tmp_path / "a.pth")


def test_pickles_are_not_executed(tmp_path: Path) -> None:
    import pickle

    class Evil:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "executed",))

    (tmp_path / "evil.pth").write_bytes(pickle.dumps(Evil(), protocol=2))
    torch.save(Evil(), tmp_path / "evil-zip.pth")
    for name in ("evil.pth", "evil-zip.pth"):
        with pytest.raises(CaffeFormatError, match="not a PyTorch state dict"):
            fcn_port.load(tmp_path / name)
    assert not (tmp_path / "executed").exists()


def test_names_and_paths_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(UnknownReleaseError, match="voc-fcn8s"):
        fcn_port.load("voc-fcn8")
    with pytest.raises(FileNotFoundError):
        fcn_port.load(tmp_path / "net.caffemodel")


def test_any_other_net_becomes_a_caffe_net_also_from_a_converted_file(tmp_path: Path) -> None:
    direct = fcn_port.load(formats("v1-mini.caffemodel"))
    convert(formats("v1-mini.caffemodel"), tmp_path / "v1.safetensors")
    converted = fcn_port.load(tmp_path / "v1.safetensors")
    assert isinstance(direct, CaffeNet) and isinstance(converted, CaffeNet)
    x = torch.randn(1, 3, 32, 40, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(direct(x), converted(x))


def test_a_file_without_a_net_is_loaded_with_its_prototxt() -> None:
    weights, prototxt = formats("layer-zoo-0.caffemodel.h5"), formats("layer-zoo-0.prototxt")
    with pytest.raises(MismatchError, match="no net definition"):
        fcn_port.load(weights)
    assert len(fcn_port.load(weights, prototxt=prototxt).outputs) == 27
    mini = fcn_port.load(formats("fcn8s-mini.caffemodel.h5"), prototxt=formats("fcn8s-mini.prototxt"))
    assert isinstance(mini, FCN8s)


def test_weights_of_another_net_are_told_by_layer(tmp_path: Path) -> None:
    """Torch's own words came out: a class of ours, a state_dict, and a list of keys."""
    convert(formats("v1-mini.caffemodel"), tmp_path / "v1.safetensors")
    with pytest.raises(MismatchError) as told:
        fcn_port.load(tmp_path / "v1.safetensors", prototxt=formats("fcn8s-mini.prototxt"))
    said = str(told.value)
    assert "the net has layers that the weights are not of: conv1_1, conv1_2, " in said and " more; " in said
    assert "the weights are of layers that the net has not: " in said and "state_dict" not in said


def test_blobs_of_another_shape_are_told(tmp_path: Path) -> None:
    text = (
        'input: "data" input_shape {{ dim: 1 dim: 3 dim: 8 dim: 8 }} layer {{ name: "conv" type: "Convolution" '
        'bottom: "data" top: "conv" convolution_param {{ num_output: {} kernel_size: 1 }} }}'
    )
    (tmp_path / "4.prototxt").write_text(text.format(4))
    save_file(CaffeNet(parse_prototxt(text.format(2))).state_dict(), tmp_path / "two.safetensors")
    with pytest.raises(MismatchError, match=r"conv\.weight is 2x3x1x1 and should be 4x3x1x1, conv\.bias is 2 "):
        fcn_port.load(tmp_path / "two.safetensors", prototxt=tmp_path / "4.prototxt")


def test_a_net_can_be_copied_with_all_that_it_carries(sample: torch.nn.Module) -> None:
    again = copy.deepcopy(sample)
    assert again.card == sample.card and again.classes == sample.classes


def test_a_damaged_converted_file_is_an_error_about_that_file(tmp_path: Path) -> None:
    convert(formats("v1-mini.caffemodel"), tmp_path / "v1.safetensors")
    data = (tmp_path / "v1.safetensors").read_bytes()
    for cut in (0, 5, 300, len(data) - 1):
        (tmp_path / "v1.safetensors").write_bytes(data[:cut])
        with pytest.raises(CaffeFormatError, match=r"v1\.safetensors"):
            fcn_port.load(tmp_path / "v1.safetensors")


def test_the_card_travels_in_the_metadata() -> None:
    card = Card.of(release("siftflow-fcn8s"))
    assert Card.from_metadata(card.to_metadata()) == card
    assert Card.from_metadata({"format": "pt"}) == Card()
