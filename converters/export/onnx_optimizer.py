"""The graph that torch.onnx.export traces made smaller, without a change of what it computes.

PyTorch's own optimisation takes each addition of 1e-8 or less for one of 0 and leaves it out, and Caffe's layers have
such epsilons: what they keep from being divided by 0 came out as NaN.
"""

from __future__ import annotations

from typing import Any

_RULES = (
    "cast_cast_rule",
    "collapse_slice2_rule",
    "collapse_slice_rule",
    "fuse_batchnorm_into_conv_rule",
    "fuse_batchnorm_into_conv_transpose_rule",
    "fuse_batchnorm_into_gemm_rule",
    "materialize_reshape_shape_rule",
    "no_op_cast_rule",
    "no_op_expand_rule",
    "no_op_transpose_rule",
    "reshape_reshape_rule",
    "slice_split_rule",
    "squeeze_reshape_1d_rule",
    "transpose_transpose_rule",
    "unsqueeze_unsqueeze_rule",
)
"""onnxscript's rules that compare no constant with a tolerance; its older versions have some of them only."""


def optimize(model: Any) -> None:
    """Fold the constants of an onnx_ir model, in place, and leave out what does exactly nothing."""
    from onnx_ir.passes import common
    from onnxscript import optimizer
    from onnxscript.rewriter import rewrite

    common.InlinePass()(model)
    rules = _rules()
    for _ in range(2):  # folding finds more to rewrite, and rewriting more to fold
        optimizer.fold_constants_ir(model)
        rewrite(model, rules)
        common.RemoveUnusedNodesPass()(model)
    for tidy in (
        common.RemoveUnusedFunctionsPass(),
        common.RemoveUnusedOpsetsPass(),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.DeduplicateInitializersPass(),
        common.CommonSubexpressionEliminationPass(),
        common.OutputFixPass(),
        common.NameFixPass(),
    ):
        tidy(model)


def _rules() -> list[Any]:
    from onnxscript.rewriter.pattern import RewriteRule
    from onnxscript.rewriter.rules import common

    times_one = RewriteRule(lambda op, x, c: op.Mul(x, c), _nothing, _constant(1))
    plus_zero = RewriteRule(lambda op, x, c: op.Add(x, c), _nothing, _constant(0))
    return [
        *times_one.commute(),
        *plus_zero.commute(),
        *(getattr(common, name) for name in _RULES if hasattr(common, name)),
    ]


def _nothing(op: Any, x: Any, **_: Any) -> Any:
    return op.Identity(x)


def _constant(number: int) -> Any:
    """The condition that `c` is this very number, of no axes: others could change the shape."""

    def holds(context: Any, *, c: Any, **_: Any) -> bool:
        value = None if c.const_value is None else c.const_value.numpy()
        return value is not None and value.ndim == 0 and value == number

    return holds
