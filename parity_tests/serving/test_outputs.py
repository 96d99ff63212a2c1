"""`?output=NAME`: the answer of one output of a net that has several, in every form; JSON passed over it before."""

from __future__ import annotations

import pytest

from fcn_port.predict import see
from parity_tests.predict.output_nets import net_of
from parity_tests.serving.nets import stripes

pytest.importorskip("starlette", reason="the extra `serve`")

from fcn_port.serving import answers
from fcn_port.serving.records import RefusedRequest

SEEN = see(net_of("two"), stripes((8, 8)))


def test_one_output_alone_is_told() -> None:
    assert {each["output"] for each in answers.to_json(SEEN)["outputs"]} == {"score", "edge"}
    for name in ("score", "edge"):
        alone = answers.of_output(SEEN, name)
        assert [each["output"] for each in answers.to_json(alone)["outputs"]] == [name]
        assert answers.overlay_picture(alone).tobytes() == SEEN[name].picture().tobytes()  # type: ignore[union-attr]
    assert answers.of_output(SEEN, None) is SEEN


@pytest.mark.parametrize(
    "kind, there", [("two", "'score', 'edge'"), ("scores", "one, which"), ("classes", "one, which")]
)
def test_an_output_that_is_not_there(kind: str, there: str) -> None:
    with pytest.raises(RefusedRequest, match=f"no output 'x'; it has {there}"):
        answers.of_output(see(net_of(kind), stripes((8, 8))), "x")  # type: ignore[arg-type]
