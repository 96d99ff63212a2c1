"""The notebooks as they are committed: they show what they gave, pictures too, and nothing of a machine.

`make notebooks` runs them in kernels, and so does .ci/run.
"""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from parity_tests.test_architecture import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def cells_of(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text(encoding="utf-8"))["cells"]  # type: ignore[no-any-return]


def test_there_are_the_four() -> None:
    assert {path.stem for path in NOTEBOOKS} == {
        "segment_and_look_inside",
        "port_your_own_net",
        "evaluate_and_compare",
        "train_on_your_own_classes",
    }


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_shows_what_it_gave(path: Path) -> None:
    cells = cells_of(path)
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert "".join(cells[0]["source"]).startswith("# ") and cells[0]["cell_type"] == "markdown"
    counts = [cell["execution_count"] for cell in code]
    assert counts == list(range(1, len(code) + 1)), "run from the first cell to the last: make notebooks WRITE=--write"
    outputs = [output for cell in code for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    pictures = [output["data"]["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    assert pictures
    for picture in pictures:
        with Image.open(io.BytesIO(base64.b64decode("".join(picture)))) as image:
            extrema = image.convert("L").getextrema()
        assert extrema[0] != extrema[1], "a picture of one colour shows nothing"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_names_no_place_of_a_machine_and_stays_small(path: Path) -> None:
    text = re.sub(r'"image/png": "[^"]*"', "", path.read_text(encoding="utf-8"))
    assert not re.search(r"/(?:tmp|home|root|work|Users)/", text)
    assert path.stat().st_size < 700_000


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_its_code_is_python_and_its_links_lead_somewhere(path: Path) -> None:
    for cell in cells_of(path):
        source = "".join(cell["source"])
        if cell["cell_type"] == "code":
            compile(source, path.name, "exec")
        for link in re.findall(r"\]\(([^)#]+)", source if cell["cell_type"] == "markdown" else ""):
            assert (path.parent / link).exists(), link
