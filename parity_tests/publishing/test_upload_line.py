"""The line that uploads a published folder: a person pastes it into a shell."""

from __future__ import annotations

from pathlib import Path

import pytest

from converters.escaping import shell_word
from fcn_port.cli import run
from parity_tests.serving.nets import write_largest_channel


@pytest.fixture
def caffemodel(tmp_path: Path) -> Path:
    path = tmp_path / "net.caffemodel"
    write_largest_channel(path)
    return path


@pytest.mark.parametrize(
    "folder, name",
    [
        ("alt net \u65e5", "alt-net"), ("\u65e5", "NAME"), ("a.b_c-1", "a.b_c-1"), ("new\nline", "new-line"),
        ("a--b..-c.git", "a-b-c"), ("n" * 99, "n" * 96),
    ],
)  # fmt: skip
def test_the_line_that_uploads_names_a_repository_that_a_hub_takes(
    folder: str, name: str, caffemodel: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["publish", str(caffemodel), str(tmp_path / folder), "--no-onnx"]) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith(f"hf upload OWNER/{name} ") and line.endswith(shell_word(str(tmp_path / folder)))
    assert f"hf:OWNER/{name}" in (tmp_path / folder / "README.md").read_text(encoding="utf-8")


def test_the_line_that_uploads_takes_no_folder_for_an_option(
    caffemodel: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["publish", str(caffemodel), "--no-onnx", "--", "-net"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "hf upload OWNER/net ./-net"
