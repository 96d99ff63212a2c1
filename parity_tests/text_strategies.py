"""Made-up prototxts for hypothesis: random messages of Caffe's schema, and texts with a few things wrong."""

from __future__ import annotations

import re
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from hypothesis import strategies as st

from converters.formats.text_format import is_repeated

_FLOATS = st.one_of(
    st.floats(width=32),
    st.sampled_from([0.0, -0.0, 1.0, 0.1, 1e-5, 1e-45, 3.4028234663852886e38, 16777217.0, 0.9990000128746033]),
)
_SCALARS = {
    FieldDescriptor.CPPTYPE_INT32: st.integers(-(1 << 31), (1 << 31) - 1),
    FieldDescriptor.CPPTYPE_INT64: st.integers(-(1 << 63), (1 << 63) - 1),
    FieldDescriptor.CPPTYPE_UINT32: st.integers(0, (1 << 32) - 1),
    FieldDescriptor.CPPTYPE_BOOL: st.booleans(),
    FieldDescriptor.CPPTYPE_FLOAT: _FLOATS,
    FieldDescriptor.CPPTYPE_DOUBLE: st.floats(),
}


def _scalars(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    if field.enum_type is not None:
        return st.sampled_from([value.number for value in field.enum_type.values])
    if field.type == FieldDescriptor.TYPE_BYTES:
        return st.binary(max_size=5)
    return _SCALARS.get(field.cpp_type, st.text(st.characters(codec="utf-8"), max_size=5))


@st.composite
def messages(draw: st.DrawFn, message_class: Any, *, depth: int = 3) -> Any:
    """A message of the schema with up to five of its fields set, and theirs, and theirs."""
    message = message_class()
    fields = [f for f in message.DESCRIPTOR.fields if depth or f.message_type is None]
    for field in draw(st.lists(st.sampled_from(fields), max_size=5, unique_by=lambda f: f.name)) if fields else ():
        place = getattr(message, field.name)
        for _ in range(draw(st.integers(1, 2)) if is_repeated(field) else 1):
            if field.message_type is not None:
                child = place.add() if is_repeated(field) else place
                child.SetInParent()
                child.CopyFrom(draw(messages(type(child), depth=depth - 1)))
            elif is_repeated(field):
                place.append(draw(_scalars(field)))
            else:
                setattr(message, field.name, draw(_scalars(field)))
    return message


_TOKENS = re.compile(r"""\s+ | \#[^\n]* | "[^"\n]*" | '[^'\n]*' | [A-Za-z_]\w* | [-+.\w]+ | .""", re.X | re.DOTALL)
FRAGMENTS = (
    *"{}<>[]:;,-+.\"'/#\0\1\x0b\x7f\r\n \t$\\",
    *("0", "1", "08", "00", "010", "0x", "0x1F", "1e", "1e5", "1.5.2", ".5", "5f", "1.F", "1e40", "-1", "2147483648"),
    *("-2147483649", "4294967296", "18446744073709551616", "64x", "1_0", "inf", "-inf", "INF", "nan", "true", "F"),
    *("TRUE", "MAX", "TEST", "SOFTMAX", "a.5", "\u00e9", "[1, 2]", "[]", "[1,]", "{}", "<>", "1;", "1,,", "# word\n"),
    *('"\\q"', '"\\x"', '"\\101\\x41\\n"', '"\\\n"', '"a\nb"', '"\u00e9"', '"a" "b"', "'\"'", 'name: "z"', "dim: 3"),
    *("pad: 1", "level: 1", "input_dim: 3", 'type: "X"', "type: CROP", "layer { }", "layer: < >", "fork { a: 1 }"),
)


@st.composite
def mutations(draw: st.DrawFn, texts: tuple[str, ...]) -> str:
    """One of the texts with up to three of its tokens cut, doubled, swapped, bitten, or replaced by a fragment."""
    tokens = _TOKENS.findall(draw(st.sampled_from(texts)))
    places = st.integers(0, len(tokens) - 1)
    for _ in range(draw(st.integers(0, 3))):
        index, change = draw(places), draw(st.integers(0, 5))
        if change == 0:
            tokens[index] = ""
        elif change == 1:
            tokens[index] = draw(st.sampled_from(FRAGMENTS))
        elif change == 2:
            tokens[index] += draw(st.sampled_from(FRAGMENTS))
        elif change == 3:
            other = draw(places)
            tokens[index], tokens[other] = tokens[other], tokens[index]
        elif change == 4:
            tokens[index] += tokens[draw(places)]
        else:
            cut = draw(st.integers(0, len(tokens[index])))
            tokens[index] = tokens[index][:cut] + tokens[index][cut + 1 :]
    return "".join(tokens)
