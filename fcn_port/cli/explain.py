"""An explanation, in words and numbers, of why a crop is where it is."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from converters.escaping import terminal
from converters.layers import Convolution, Deconvolution, Pooling
from converters.net import Derivation, PathLayer, Shape, layer_map


def explain_crop(derivation: Derivation, shapes: Mapping[str, Shape]) -> str:
    """A paragraph: both ways from the common blob, where its pixel 0 ends up, and the offset that lines them up.

    Only rows are followed where columns behave the same.
    """
    layer = derivation.layer
    cropped, reference = layer.bottoms
    lines = [f"{layer.name}: where does {reference} lie in {cropped}?"]
    lines += _describe_way(derivation.origin, cropped, derivation.cropped)
    lines += _describe_way(derivation.origin, reference, derivation.reference)
    h, w = derivation.derived
    offset = str(h) if h == w else f"{h} (rows) and {w} (columns)"
    first, second = (
        path[-1].so_far.shift[0] if path else Fraction(0) for path in (derivation.cropped, derivation.reference)
    )
    is_whole = all(side.denominator == 1 for side in derivation.exact)
    result = offset if is_whole else _number(derivation.exact[0])
    lines.append(f"  so the offset is {_number(first)} - {_number(second, bracket=True)} = {result}")
    lines.append("" if is_whole else f"  which is no whole number of pixels; rounded, {offset}")
    lines.append(_compare(derivation))
    start = (derivation.written or (0, 0))[0]
    size, wanted = shapes[cropped][-2], shapes[layer.tops[0]][-2]
    centre = (size - wanted) // 2
    if centre != start:
        off = _pixels(abs(centre - start))
        lines += [
            f"  (a crop in the middle would begin at {centre} for this size, {off} off: more",
            "  is left over below and to the right than above and to the left, because sizes are rounded up, and how",
            "  much more depends on the size)",
        ]
    return "\n".join(terminal(line) for line in lines if line)


def _compare(derivation: Derivation) -> str:
    if derivation.written is None:
        return "  the net gives no offset; Caffe 1.0 takes 0 (--auto-crop uses the derived one)"
    if derivation.written == derivation.derived:
        return "  and that is what the net says"
    return f"  BUT the net says {' and '.join(map(str, dict.fromkeys(derivation.written)))}"


def _describe_way(origin: str, blob: str, path: tuple[PathLayer, ...]) -> list[str]:
    """The layers on the way that move pixels, with where each leaves the origin's pixel 0."""
    if not path:
        return [f"  {blob} is where we look from"]
    lines = [f"  from {origin} to {blob}:"]
    for step in path:
        own = layer_map(step.layer)
        if own is None or (own.scale == (Fraction(1),) * 2 and own.shift == (Fraction(0),) * 2):
            continue
        lines.append(
            f"    {step.layer.name:16}{_geometry(step):38}x -> {_linear(step.so_far.scale[0], step.so_far.shift[0])}"
        )
    last = path[-1].so_far
    lines.append(f"    pixel x of {origin} lies at {_linear(last.scale[0], last.shift[0])} of {blob}")
    return lines


def _geometry(step: PathLayer) -> str:
    params = step.layer.params
    if isinstance(params, (Convolution, Pooling)):
        kind = "deconvolution" if isinstance(params, Deconvolution) else step.layer.type.lower()
        words = [f"kernel {params.kernel[0]}"]
        words += [f"stride {params.stride[0]}"] if params.stride[0] != 1 else []
        words += [f"pad {params.pad[0]}"] if params.pad[0] else []
        return f"{kind}, {', '.join(words)}"
    return step.layer.type.lower()


def _pixels(count: int) -> str:
    return "1 pixel" if count == 1 else f"{count} pixels"


def _linear(scale: Fraction, shift: Fraction) -> str:
    x = "x" if scale == 1 else f"{_number(scale)} x" if scale.denominator == 1 else f"x/{1 / scale}"
    if not shift:
        return x
    return f"{x} {'+' if shift > 0 else '-'} {_number(abs(shift))}"


def _number(value: Fraction, *, bracket: bool = False) -> str:
    text = str(value.numerator) if value.denominator == 1 else f"{float(value):.6g}"
    return f"({text})" if bracket and value < 0 else text
