"""The sum of two values (Eltwise) becomes part of the convolution that makes one of them.

Needs `affine` to have run, so that convolutions have their final weights. Ensures that the other value is there when
the convolution runs.
"""

from __future__ import annotations

from dataclasses import replace

from converters.layers import eltwise

from .flow import Flow, FlowStep


def merge_sums(flow: Flow) -> Flow:
    """The flow in which convolutions add another value to their result where the net does so next."""
    operations: list[FlowStep | None] = list(flow.operations)
    for number, operation in enumerate(flow.operations):
        found = _maker(flow, operation)
        if found is None:
            continue
        before = operations[found]
        assert before is not None
        (addend,) = [name for name in operation.main.bottoms if name != before.tops[0]]
        operations[found], operations[number] = None, replace(before.followed_by(operation.main), addend=addend)
    return replace(flow, operations=tuple(each for each in operations if each is not None))


def _maker(flow: Flow, operation: FlowStep) -> int | None:
    """The number of the convolution that can add the other bottom of a sum, the last one made of two."""
    params, bottoms = operation.main.params, operation.main.bottoms
    if type(params) is not eltwise.Eltwise or params.operation != "SUM" or len(bottoms) != 2:
        return None
    if set(params.coefficients) != {1.0} or bottoms[0] == bottoms[1]:
        return None
    makers = sorted((flow.makers[name] for name in bottoms if name in flow.makers), reverse=True)
    for number in makers:
        made = flow.operations[number]
        is_convolution = made.convolution is not None and len(made.main.bottoms) == 1
        if is_convolution and made.is_open and flow.only_reader(made.tops[0]):
            return number
    return None
