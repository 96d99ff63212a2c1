"""ReLU and PReLU are applied where results are made, before they are stored.

Needs `affine` and `sums` to have run. Ensures that no such layer follows a convolution, a product, a sum or an affine
operation whose result nobody else reads.
"""

from __future__ import annotations

from dataclasses import replace

from converters.layers import convolution, eltwise, inner_product, neuron

from .flow import Flow, FlowStep

BEFORE = (convolution.Convolution, inner_product.InnerProduct)


def merge_activations(flow: Flow) -> Flow:
    """The flow with its ReLUs and PReLUs merged into what is before them."""
    operations: list[FlowStep | None] = list(flow.operations)
    for number, operation in enumerate(flow.operations):
        part = operation.main
        if type(part.params) not in (neuron.ReLU, neuron.PReLU) or part.bottoms[0] not in flow.makers:
            continue
        found = flow.makers[part.bottoms[0]]
        before = operations[found]
        if before is not None and _takes(before) and flow.only_reader(part.bottoms[0]):
            operations[found], operations[number] = None, replace(before.followed_by(part), activation=part)
    return replace(flow, operations=tuple(each for each in operations if each is not None))


def _takes(operation: FlowStep) -> bool:
    if operation.activation is not None or len(operation.tops) != 1:
        return False
    params = operation.main.params
    is_sum = type(params) is eltwise.Eltwise and params.operation == "SUM"
    return is_sum or bool(operation.affine) or (type(params) in BEFORE and len(operation.main.bottoms) == 1)
