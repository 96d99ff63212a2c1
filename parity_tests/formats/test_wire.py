"""The wire format and BlobProto, against the protobuf library's own parse of the same bytes."""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from converters.errors import LimitError, WireError
from converters.formats import wire
from converters.formats.blob import read_blob
from converters.formats.wire import BYTES, FIXED32, FIXED64, START_GROUP, VARINT, Field, Message
from converters.schema import BlobProto

DATA, DIFF, SHAPE, DOUBLE_DATA, RAW_TYPE, RAW_DATA = 5, 6, 7, 8, 10, 12


def tag(number: int, wire_type: int) -> bytes:
    return wire.write_varint(number << 3 | wire_type)


def length_delimited(number: int, payload: bytes) -> bytes:
    return wire.write_tag(number, len(payload)) + payload


def packed(number: int, values: Sequence[float], code: str) -> bytes:
    return length_delimited(number, struct.pack(f"<{len(values)}{code}", *values))


def unpacked(number: int, values: Sequence[float], code: str) -> bytes:
    wire_type = {"f": FIXED32, "d": FIXED64}[code]
    return b"".join(tag(number, wire_type) + struct.pack(f"<{code}", value) for value in values)


def packed_shape(dims: Sequence[int]) -> bytes:
    return BlobProto(shape={"dim": dims}).SerializeToString()


def unpacked_shape(dims: Sequence[int]) -> bytes:
    return length_delimited(SHAPE, b"".join(tag(1, VARINT) + wire.write_varint(dim % (1 << 64)) for dim in dims))


def split_shape(dims: Sequence[int]) -> bytes:
    return packed_shape(dims[:1]) + unpacked_shape(dims[1:])


def blob(raw: bytes) -> np.ndarray:
    return read_blob(Message.whole(raw))


# Varints and fields


@given(st.integers(0, (1 << 64) - 1))
def test_a_varint_survives(value: int) -> None:
    raw = wire.write_varint(value)
    assert wire.read_varint(raw, 0, len(raw)) == (value, len(raw))
    with pytest.raises(WireError, match="end inside a varint"):
        wire.read_varint(raw, 0, len(raw) - 1)


@pytest.mark.parametrize("raw", [b"\xff" * 10, b"\xff" * 9 + b"\x02", b"\x80" * 11 + b"\x01"])
def test_a_varint_of_more_than_64_bits_is_refused(raw: bytes) -> None:
    with pytest.raises(WireError, match="64 bits"):
        wire.read_varint(raw, 0, len(raw))


def test_a_varint_may_be_longer_than_it_need_be() -> None:
    raw = b"\x8c\x80\x80\x00" + b"rest"
    assert wire.read_varint(raw, 0, len(raw)) == (12, 4)


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (tag(1, BYTES) + b"\x05abcd", "5 bytes at offset 2 run past the end"),
        (tag(1, BYTES) + wire.write_varint((1 << 63) - 1), "run past the end"),
        (tag(1, BYTES) + wire.write_varint((1 << 64) - 1), "run past the end"),
        (tag(1, FIXED64) + bytes(7), "8 bytes at offset 1 run past the end"),
        (tag(1, FIXED32) + bytes(3), "run past the end"),
        (tag(1, VARINT) + b"\x80", "end inside a varint"),
        (b"\x00", "field number 0"),
        (wire.write_varint(1 << 32 | VARINT) + b"\x00", "field number"),
        (tag(9, START_GROUP) * 1000, r"field 9 has wire type 3 \(group start\)"),
        (tag(9, 6), r"wire type 6 \(unused\)"),
    ],
)
def test_a_lying_field_is_refused_with_its_place(raw: bytes, problem: str) -> None:
    with pytest.raises(WireError, match=problem):
        list(Message.whole(raw).fields())


def test_an_inner_message_may_not_reach_beyond_the_outer_one() -> None:
    outer = length_delimited(1, tag(2, BYTES) + b"\x09abc") + b"12345678901234567890"
    message = Message.whole(outer)
    inner = message.inside(next(message.fields()))
    with pytest.raises(WireError, match=r"9 bytes at offset 4 run past the end of the message \(7\)"):
        list(inner.fields())


def test_a_file_of_nothing_but_fields_ends_soon() -> None:
    """250 million fields of two bytes in half a gigabyte would otherwise take minutes and gigabytes."""
    raw = (tag(1, VARINT) + b"\x00") * (1 << 20)
    message = Message.whole(raw)
    with pytest.raises(LimitError, match="the records of so many fields take"):
        list(message.fields())
    with pytest.raises(LimitError, match="so many fields"):  # the limit is the file's, not each message's
        next(message.inside(Field(1, BYTES, 0, 0, 2)).fields())


def test_values_that_follow_each_other_are_one_step() -> None:
    count = 3 << 18
    raw = (tag(DATA, FIXED32) + struct.pack("<f", 1.5)) * count + packed_shape([count])
    found = blob(raw)
    assert found.shape == (count,) and (found == 1.5).all()


# Blobs


def floats(code: str) -> st.SearchStrategy[list[float]]:
    return st.lists(st.floats(width={"f": 32, "d": 64}[code]), max_size=40)  # type: ignore[arg-type]


def parts(*, doubles: bool, legacy: bool) -> st.SearchStrategy[list[bytes]]:
    """Fields of a BlobProto in any order: packed, unpacked and both, diffs between them, unknown ones, dims twice."""
    choices = [
        st.builds(packed, st.sampled_from([DATA, DIFF]), floats("f"), st.just("f")),
        st.builds(unpacked, st.sampled_from([DATA, DIFF]), floats("f"), st.just("f")),
        st.builds(length_delimited, st.just(99), st.binary(max_size=9)),
    ]
    if doubles:
        choices += [st.builds(write, st.just(DOUBLE_DATA), floats("d"), st.just("d")) for write in (packed, unpacked)]
    if legacy:
        choices += [st.builds(lambda n: BlobProto(height=n).SerializeToString(), st.integers(0, 2))]
    return st.lists(st.one_of(choices), max_size=7)


@st.composite
def blobs(draw: st.DrawFn) -> bytes:
    """A BlobProto as some writer might leave it; mostly one whose shape and values belong together."""
    written = draw(st.builds(b"".join, parts(doubles=draw(st.booleans()), legacy=draw(st.booleans()))))
    message = BlobProto.FromString(written)
    count = len(message.double_data) or len(message.data)
    if message.HasField("height") or draw(st.booleans()):
        dims = BlobProto(num=1, channels=count, width=1, height=1).SerializeToString()
        return written + draw(st.sampled_from([dims, packed_shape([count]) + dims, b""]))
    first = draw(st.sampled_from([d for d in range(1, count + 1) if count % d == 0] or [0]))
    dims = draw(st.sampled_from([packed_shape, unpacked_shape, split_shape]))([first, count // first if first else 3])
    return dims + written if draw(st.booleans()) else written + dims


def from_proto(message: Any) -> np.ndarray:
    """blob.cpp, FromProto, on what the protobuf library has parsed."""
    legacy = ("num", "channels", "height", "width")
    dims = [getattr(message, d) for d in legacy] if any(map(message.HasField, legacy)) else list(message.shape.dim)
    flat = np.array(message.double_data, "<f8") if message.double_data else np.array(message.data, "<f4")
    if flat.size != math.prod(dims):
        raise ValueError("Check failed: count_ == proto.data_size()")
    return flat.reshape(dims)


@given(blobs())
def test_a_blob_is_what_the_protobuf_library_and_caffes_rule_make_of_it(raw: bytes) -> None:
    try:
        expected = from_proto(BlobProto.FromString(raw))
    except ValueError:
        with pytest.raises(WireError, match="needs"):
            blob(raw)
        return
    found = blob(raw)
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    assert found.tobytes() == expected.tobytes()  # NaN and -0.0 too
    assert not found.flags.writeable


def test_legacy_dims_win_over_shape_and_missing_ones_are_0() -> None:
    legacy = BlobProto(num=1, channels=2, height=1, width=3).SerializeToString()
    values = packed(DATA, range(6), "f")
    assert blob(legacy + packed_shape([6]) + values).shape == (1, 2, 1, 3)
    assert blob(BlobProto(channels=2).SerializeToString() + packed_shape([6])).shape == (0, 2, 0, 0)
    with pytest.raises(WireError, match="0x2x0x0 needs 0 values; found 6"):
        blob(BlobProto(channels=2).SerializeToString() + packed_shape([6]) + values)


def test_double_data_wins_over_data() -> None:
    found = blob(packed_shape([2]) + packed(DATA, [1, 2], "f") + packed(DOUBLE_DATA, [0.1, 0.2], "d"))
    assert found.dtype == np.float64 and found.tolist() == [0.1, 0.2]
    assert blob(packed_shape([1]) + packed(DATA, [1], "f") + packed(DOUBLE_DATA, [], "d")).dtype == np.float32


def test_a_blob_without_axes_is_one_number() -> None:
    assert blob(packed(DATA, [2.5], "f")).shape == ()
    assert blob(b":\x00" + packed(DATA, [2.5], "f")) == np.float32(2.5)
    with pytest.raises(WireError, match=r"shape \(\) needs 1 values; found 0"):
        blob(b"")


def test_an_empty_blob() -> None:
    assert blob(packed_shape([0])).shape == (0,)
    assert blob(packed_shape([3, 0, 5]) + packed(DATA, [], "f")).shape == (3, 0, 5)


@pytest.mark.parametrize(("number", "dtype"), [(0, "<f8"), (1, "<f4"), (2, "<f2"), (3, "<i4"), (4, "<u4")], ids=str)
def test_raw_data_keeps_its_type(number: int, dtype: str) -> None:
    expected = np.array([[1, 2, 3], [4, 5, 60000]], dtype)
    raw = BlobProto(raw_data=expected.tobytes(), raw_data_type=number).SerializeToString() + packed_shape([2, 3])
    found = blob(raw)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)
    assert np.shares_memory(found, np.frombuffer(raw, np.uint8))


def test_raw_data_of_unknown_type_or_odd_length_is_refused() -> None:
    raw = packed_shape([2]) + length_delimited(RAW_DATA, bytes(5))
    with pytest.raises(WireError, match="5 bytes are not a whole number of 2-byte values"):
        blob(raw + tag(RAW_TYPE, VARINT) + b"\x02")
    with pytest.raises(WireError, match="raw_data_type 7; expected 0 to 4"):
        blob(raw + tag(RAW_TYPE, VARINT) + b"\x07")


@pytest.mark.parametrize("write", [packed, unpacked])
@pytest.mark.parametrize("between", [b"", length_delimited(99, b"x")], ids=["alone", "with another field between"])
def test_values_in_one_run_are_not_copied(tmp_path: Path, write: Any, between: bytes) -> None:
    path = tmp_path / "blob"
    path.write_bytes(packed_shape([2, 50]) + between + write(DATA, range(100), "f"))
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    found = read_blob(Message.whole(mapped))
    np.testing.assert_array_equal(found, np.arange(100).reshape(2, 50))
    assert np.shares_memory(found, np.frombuffer(mapped, np.uint8))


@pytest.mark.parametrize(
    ("dims", "problem"),
    [
        ([-1, 2], "impossible shape: -1x2"),
        ([1 << 32, 1 << 31], "impossible shape"),
        ([1 << 62, 0], "impossible shape"),
        ([1 << 31, 1 << 31, 0], "impossible shape"),
        ([1] * 33, "33 axes or more"),
        ([2] * 50_000, "33 axes or more"),
        ([7], "shape 7 needs 7 values; found 1"),
    ],
    ids=["negative", "product-2^63", "zero-but-huge", "zero-but-overflows", "33-axes", "many-axes", "too-few-values"],
)
@pytest.mark.parametrize("write", [packed_shape, unpacked_shape])
def test_an_impossible_shape_is_refused(write: Any, dims: list[int], problem: str) -> None:
    with pytest.raises(WireError, match=problem):
        blob(write(dims) + packed(DATA, [1], "f"))


def test_32_axes_are_fine() -> None:
    assert blob(packed_shape([1] * 32) + packed(DATA, [1], "f")).shape == (1,) * 32


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (tag(DATA, VARINT) + b"\x01", "field 5 is varint; expected length-delimited or 32-bit"),
        (tag(DATA, FIXED64) + bytes(8), "field 5 is 64-bit; expected length-delimited or 32-bit"),
        (tag(DOUBLE_DATA, FIXED32) + bytes(4), "field 8 is 32-bit; expected length-delimited or 64-bit"),
        (tag(SHAPE, VARINT) + b"\x01", "field 7 is varint; expected length-delimited"),
        (length_delimited(1, b""), "field 1 is length-delimited; expected varint"),
        (length_delimited(SHAPE, b"\x0d1234"), "field 1 is 32-bit; expected varint or length-delimited"),
        (length_delimited(DATA, bytes(7)), "7 bytes are not a whole number of 4-byte values"),
    ],
)
def test_a_field_of_another_type_is_refused(raw: bytes, problem: str) -> None:
    with pytest.raises(WireError, match=problem):
        blob(raw)
