"""choosing: the part of a net that is wanted, for nets that somebody else prepares."""

from __future__ import annotations

from converters import parse_prototxt
from converters.passes import choosing, prepare
from parity_tests.cli.test_net_choice import NET


def test_choices_nest_and_end() -> None:
    spec = parse_prototxt(NET)
    with choosing(stages=("deploy",)):
        with choosing(input_shapes={"data": (1, 3, 9, 9)}):
            assert dict(prepare(spec).inputs) == {"data": (1, 3, 9, 9)}
        assert prepare(spec).layers[0].name == "deploy" and prepare(spec).assumed == ("data",)
