"""The Python form of every layer type that has one: the source computes what CaffeNet does, to the last bit."""

from __future__ import annotations

import pytest

from converters import NetSpec, read_prototxt
from converters.errors import NetError
from converters.export.python import python_source
from converters.layers import im2col as columns
from converters.net import Layer
from converters.net.shapes import known_params
from converters.passes import prepare
from parity_tests.export.onnx_models import inputs_for, with_drawn_weights
from parity_tests.export.test_export_python import assert_same, made_from, outputs
from parity_tests.goldens import GOLDEN

NONE = {
    *("Cascade", "Decoder", "DetectionOutput", "DetectionOutputExtended", "MIL", "MaskPooling", "MaskResize", "Masked"),
    *(
        "DenseBlock",
        "DenseCRF",
        "ICNetSubgraph",
        "Meanfield",
        "PSROIAlign",
        "PSROIPooling",
        "PriorBox",
        "PriorBoxClustered",
        "Proposal",
        "ROIAlign",
        "ROIPooling",
    ),
    *("ImResize", "Nms", "ROIWarping", "Recurrent", "Resize"),
    *("Input", "Parameter"),  # nothing to compute
}
"""Examples none of whose types has a form."""
FILES = {path.stem: path for path in sorted((GOLDEN / "layers").glob("*.prototxt"))}


def in_python(spec: NetSpec) -> NetSpec | None:
    """The net down to its layers that have forms; None where nothing is left of it."""
    spec = prepare(spec)
    have, left = set(spec.inputs), []
    for layer in spec.layers:
        written = layer.type == "Input" or type(known_params(layer)).to_python is not Layer.to_python
        if written and have.issuperset(layer.bottoms):
            try:
                python_source(spec.replace_layers((*left, layer)))
            except NetError as error:
                assert "has no form" in str(error), error
                continue
            left.append(layer)
            have.update(layer.tops)
    return spec.replace_layers(tuple(left)) if any(each.tops and each.bottoms for each in left) else None


@pytest.mark.parametrize("name", FILES)
def test_a_form_is_the_layer(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "is_faster_by_im2col", lambda *layer: False)
    spec = in_python(read_prototxt(FILES[name]))
    assert (spec is None) == (name in NONE)
    if spec is None:
        return
    net = with_drawn_weights(spec)
    made = made_from(spec)
    made.load_state_dict(net.state_dict())
    inputs = inputs_for(spec, dict(net.inputs))
    assert_same(outputs(made, inputs), outputs(net, inputs))


def test_types_with_forms_are_many() -> None:
    found = {layer.type for path in FILES.values() if (spec := in_python(read_prototxt(path))) for layer in spec.layers}
    assert len(found) > 80
