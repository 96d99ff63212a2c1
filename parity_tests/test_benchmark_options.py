"""The benchmarks refuse numbers that they cannot measure by, in words and before anything is measured."""

from __future__ import annotations

import runpy

import pytest

from benchmarks.options import above_zero, positive

COUNTED = {
    "builds": ("--rounds", "--threads"),
    "conversion": ("--rounds",),
    "coverage": ("--jobs",),
    "engines": ("--rounds", "--threads", "--sizes"),
    "evaluation_cost": ("--repetitions",),
    "famous_nets": ("--rounds", "--threads", "--batch"),
    "first_result": ("--rounds", "--threads"),
    "gpu": ("--rounds", "--sizes", "--batches"),
    "onnx_export": ("--rounds",),
    "public_nets": ("--rounds", "--threads", "--every"),
    "serving": ("--clients",),
    "training": ("--rounds", "--threads", "--batch", "--size"),
}


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
@pytest.mark.parametrize(
    ("module", "option"), [(module, option) for module, options in COUNTED.items() for option in options]
)
def test_no_rounds(
    module: str, option: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was a traceback of statistics.median, after minutes."""
    monkeypatch.setattr("sys.argv", [module, option, "0"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(f"benchmarks.{module}", run_name="__main__")
    assert ended.value.code == 2
    assert f"argument {option}: expected a whole number from 1 up; found '0'" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "x", ""])
def test_what_is_no_count(text: str) -> None:
    with pytest.raises(Exception, match=f"expected a whole number from 1 up; found '{text}'"):
        positive(text)


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "x"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(Exception, match=f"expected a number above 0; found '{text}'"):
        above_zero(text)


def test_what_is_one() -> None:
    assert positive("12") == 12
    assert above_zero("0.5") == 0.5
