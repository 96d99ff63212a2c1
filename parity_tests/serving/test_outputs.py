"""`?output=NAME`: the answer of one output of a net that has several, in every form; JSON passed over it before."""

from __future__ import annotations

import pytest

from fcn_port.predict import see
from parity_tests.predict.output_nets import net_of
from parity_tests.serving.nets import stripes

pytest.importorskip("starlette", reason="the extra `serve`")

from fcn_port.serving import answers
from fcn_port.serving.records import RefusedRequest
from fcn_port.serving.seeing import look_through, served_net

SEEN = see(net_of("two"), stripes((8, 8)))


def test_one_output_alone_is_told() -> None:
    assert {each["output"] for each in answers.to_json(SEEN)["outputs"]} == {"score", "edge"}
    for name in ("score", "edge"):
        alone = answers.of_output(SEEN, name)
        assert [each["output"] for each in answers.to_json(alone)["outputs"]] == [name]
        assert answers.overlay_picture(alone).tobytes() == SEEN[name].picture().tobytes()  # type: ignore[union-attr]
    assert answers.of_output(SEEN, None) is SEEN


@pytest.mark.parametrize("kind, there", [("two", "'score', 'edge'"), ("scores", "'score'"), ("classes", "'prob'")])
def test_an_output_that_is_not_there(kind: str, there: str) -> None:
    net = net_of(kind)
    with pytest.raises(RefusedRequest, match=f"no output 'x'; it has {there}"):
        answers.of_output(look_through(net)([stripes((8, 8))])[0], "x", served_net(net, kind).outputs)


@pytest.mark.parametrize("kind, name", [("scores", "score"), ("map", "one"), ("classes", "prob")])
def test_the_only_output_may_be_named(kind: str, name: str) -> None:
    net = net_of(kind)
    (sight,) = look_through(net)([stripes((8, 8))])
    assert answers.of_output(sight, name, served_net(net, kind).outputs) is sight
