"""The generated pages say what the commands and the docstrings say, and every option says what it does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest

from docs.generate.__main__ import COMMAND, DOCS, main
from docs.generate.commands import cli_page
from fcn_port.cli import program

ROOT = Path(__file__).resolve().parent
while not (ROOT / "pyproject.toml").is_file():
    ROOT = ROOT.parent


def test_the_page_of_the_program_is_fresh() -> None:
    assert (DOCS / "cli.md").read_text(encoding="utf-8") == cli_page(), f"docs/cli.md is stale: run `{COMMAND}`"


def test_the_page_of_the_python_interface_is_fresh() -> None:
    pytest.importorskip("griffe")
    from docs.generate.api import api_page

    assert (DOCS / "api.md").read_text(encoding="utf-8") == api_page(), f"docs/api.md is stale: run `{COMMAND}`"


def test_the_page_of_the_layers_is_fresh_and_has_every_type() -> None:
    from docs.generate.layers import layers_page

    page = layers_page()
    assert (DOCS / "layers.md").read_text(encoding="utf-8") == page, f"docs/layers.md is stale: run `{COMMAND}`"
    assert all(f"`{kind}`" in page for kind in ("Convolution", "LSTM", "Python:TensorShape", "Correlation1D"))


def test_a_stale_page_is_told_with_the_command_that_mends_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("griffe")
    monkeypatch.setattr("docs.generate.__main__.due", lambda: iter([(DOCS / "cli.md", cli_page())]))  # others are slow
    assert main(["--out", str(tmp_path)]) == 0
    assert main(["--out", str(tmp_path), "--check"]) == 0
    page = tmp_path / "cli.md"
    page.write_text(page.read_text(encoding="utf-8").replace("--json", "--jsn", 1), encoding="utf-8")
    capsys.readouterr()
    assert main(["--out", str(tmp_path), "--check"]) == 1
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1 and str(page) in told[0] and COMMAND in told[0]


def test_the_page_of_the_program_needs_no_torch() -> None:
    code = "import sys; from docs.generate.commands import cli_page; cli_page(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60).returncode == 0


def test_every_verb_and_every_option_is_on_the_page_with_what_it_does() -> None:
    page = cli_page()
    context = click.Context(program.cli, info_name="fcn-port")
    without = []
    for verb in program.VERBS:
        command = program.cli.get_command(context, verb)
        assert command is not None and command.help and f"\n## fcn-port {verb}\n" in page
        section = page.split(f"\n## fcn-port {verb}\n")[1].split("\n## ")[0]
        for option in command.params:
            if isinstance(option, click.Option):
                assert all(f"`{name}`" in section for name in option.opts), option.name
                without += [] if option.help else [f"{verb} {option.opts[0]}"]
    assert without == []
