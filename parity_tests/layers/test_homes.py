"""A type's family is imported when a net names it: the table that says where it is, and what is left alone."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from converters import layers
from converters.layers.homes import HOMES
from docs.generate.homes import HOMES as PLACE
from docs.generate.homes import homes_module
from parity_tests.test_architecture import ROOT

FAMILIES = set(HOMES.values())
OUTSIDE = """
from dataclasses import dataclass
from converters import Layer, register_layer
@register_layer("ReLU", "Strange")
class Ours(Layer):
    bottom_count = top_count = (1, 1)
"""


def imported_by(code: str) -> set[str]:
    """The families that a Python has after this code."""
    code += "\nimport sys; print(*(name for name in sys.modules if name.startswith('converters.layers.')))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return {name.removeprefix("converters.layers.") for name in done.stdout.split()} & FAMILIES


def test_the_table_is_that_of_the_modules() -> None:
    assert PLACE.read_text(encoding="utf-8") == homes_module(), "run `make docs-generated`"


def test_every_type_is_where_the_table_says() -> None:
    """Looked at from the other side: the modules are imported, and asked for the classes that they registered."""
    for path in Path(layers.__file__).parent.glob("*.py"):
        if "register_layer(" in path.read_text(encoding="utf-8"):
            __import__(f"{layers.__name__}.{path.stem}")
    ours = {name: each for name, each in layers.all_layers().items() if each.__module__.startswith(layers.__name__)}
    assert {name: each.__module__.rpartition(".")[2] for name, each in ours.items()} == HOMES
    assert len(HOMES) > 150


def test_a_type_that_is_new_or_elsewhere_makes_the_table_stale(tmp_path: Path) -> None:
    decorated = '@register_layer("One", "Python:Two")\nclass Both(Layer):\n    """register_layer("No")"""\n'
    (tmp_path / "pair.py").write_text(decorated, encoding="utf-8")
    (tmp_path / "none.py").write_text("def register_layer(name): ...\nregister_layer('Three')\n", encoding="utf-8")
    assert re.findall(r'    "(.*)": "(.*)",\n', homes_module(tmp_path)) == [("One", "pair"), ("Python:Two", "pair")]


@pytest.mark.parametrize(
    ("code", "families"),
    [
        (
            "import converters, converters.execution, converters.passes, converters.formats, converters.conversion",
            set(),
        ),
        ("import fcn_port.onnx_export, fcn_port.opencv, fcn_port.cli.program", set()),
        (
            "from converters.net.layer import known_types; from converters.net.spelling import similar_type; "
            "assert similar_type('convolutoin', known_types()) == 'Convolution'",
            set(),
        ),
        ("from converters.layers import Pooling", {"pooling"}),
    ],
)
def test_nothing_is_imported_that_no_net_names(code: str, families: set[str]) -> None:
    assert imported_by(code) == families


def test_a_net_that_is_exported_imports_the_families_of_its_own_types(tmp_path: Path) -> None:
    code = f"""
import numpy as np
from converters import parse_prototxt, write_caffemodel
from converters.formats import CaffeModel
from fcn_port.onnx_export import export_onnx
spec = parse_prototxt('''input: "data" input_shape {{ dim: 1 dim: 2 dim: 9 dim: 9 }}
layer {{ name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param {{ num_output: 2 kernel_size: 3 }} }}
layer {{ name: "r" type: "ReLU" bottom: "c" top: "c" }}
layer {{ name: "p" type: "Pooling" bottom: "c" top: "p" pooling_param {{ kernel_size: 2 }} }}''')
arrays = np.ones((2, 2, 3, 3), np.float32), np.ones(2, np.float32)
write_caffemodel(CaffeModel(spec, {{"c": arrays}}), r"{tmp_path / "a.caffemodel"}")
export_onnx(r"{tmp_path / "a.caffemodel"}", r"{tmp_path / "a.onnx"}", check=False)
"""
    assert imported_by(code) == {"source", "convolution", "neuron", "pooling"}


@pytest.mark.parametrize("first", ["", "import converters.layers.neuron"])
def test_a_type_from_outside_wins_whenever_ours_is_imported(first: str) -> None:
    """Before ours, as when a program's own file comes first, and after it."""
    code = (
        f"{first}\n{OUTSIDE}\nimport converters.layers.neuron\nfrom converters.layers import find_layer, all_layers\n"
    )
    code += "assert find_layer('ReLU') is find_layer('Strange') is all_layers()['ReLU'] is Ours\n"
    code += "assert find_layer('Sigmoid').__name__ == 'Sigmoid'"
    assert imported_by(code) >= {"neuron"}


def test_all_layers_has_every_type_and_cannot_be_changed() -> None:
    code = "from converters.layers import all_layers; from converters.layers.homes import HOMES\n"
    assert imported_by(code + "assert set(all_layers()) == set(HOMES), set(all_layers()) ^ set(HOMES)") == FAMILIES
    with pytest.raises(TypeError):
        layers.all_layers()["Mine"] = layers.Layer  # type: ignore[index]
