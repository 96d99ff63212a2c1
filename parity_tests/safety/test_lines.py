"""Lines of a text end where a system ends them, and nowhere within the name of a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from converters.safety import lines_of, read_lines
from fcn_port.predict.image_lists import gather


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", []), ("a", ["a"]), ("a\n", ["a"]), ("\n", [""]), ("a\n\nb\n", ["a", "", "b"]),
        ("a\r\nb\rc", ["a", "b", "c"]),
        ("a\x85b\u2028c\x0b\x0c\x1cd\n", ["a\x85b\u2028c\x0b\x0c\x1cd"]),
    ],
)  # fmt: skip
def test_lines(text: str, lines: list[str], tmp_path: Path) -> None:
    assert lines_of(text) == lines
    (tmp_path / "x").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert read_lines(tmp_path / "x") == lines


@pytest.mark.parametrize("letter", ["\x85", "\u2028", "\x0c"])
def test_a_list_names_files_with_such_letters(letter: str, tmp_path: Path) -> None:
    (tmp_path / f"a{letter}b.png").touch()
    (tmp_path / "list.txt").write_text(f"a{letter}b.png\n", encoding="utf-8")
    assert [source.path for source in gather([tmp_path / "list.txt"])] == [tmp_path / f"a{letter}b.png"]
