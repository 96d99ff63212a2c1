"""Bad input: whatever the bytes, our own error with file and place, in bounded time and memory, and nothing written."""

from __future__ import annotations

import random
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from converters import CaffeFormatError, convert, read_caffemodel, read_mean
from converters.formats.blob import read_blob
from converters.formats.caffemodel import parse_caffemodel
from converters.formats.wire import Message, write_tag, write_varint
from parity_tests.formats.test_caffemodel import blobs_by_protobuf
from parity_tests.small_files import blob_proto, small_blobs, small_h5, small_v0, small_v1, small_v2

SMALL = {"v2": small_v2, "v1": small_v1, "v0": small_v0}
PLACE = re.compile(r"offset \d+|layer \d+|layer '|after \d+ layers|without layers|input_dim")


def halves() -> dict[str, tuple[np.ndarray, ...]]:
    return {name: tuple(b.astype(np.float16) for b in own) for name, own in small_blobs().items()}


# Cut short


@pytest.mark.parametrize(("form", "whole"), [("v2", 3), ("v1", 4), ("v0", 1)])
def test_cut_at_every_byte(form: str, whole: int) -> None:
    """Either an error with a place, or a shorter net that the protobuf library finds in these bytes too.

    `whole` is how many cuts leave a net: at the end of each layer, in V1 also before and behind `input`; the upgrade of
    V0 needs every bottom to be made.
    """
    raw = SMALL[form]().SerializeToString()
    shorter = 0
    for length in range(len(raw)):
        cut = raw[:length]
        try:
            model = parse_caffemodel(cut)
        except CaffeFormatError as error:
            assert PLACE.search(str(error)), f"{length}: {error}"
            continue
        expected = blobs_by_protobuf(cut)
        assert model.blobs.keys() == expected.keys()
        for name, own in expected.items():
            assert [(b.shape, b.tobytes()) for b in model.blobs[name]] == [(b.shape, b.tobytes()) for b in own]
        shorter += 1
    assert shorter == whole


@pytest.mark.parametrize("form", SMALL)
def test_a_file_cut_short_is_not_converted(tmp_path: Path, form: str) -> None:
    """But where the cut is at the end of a layer, for what is left is a net, and all of its blobs are there."""
    raw = SMALL[form]().SerializeToString()
    for length in range(0, len(raw), 5):
        (tmp_path / "cut").write_bytes(raw[:length])
        try:
            report = convert(tmp_path / "cut", tmp_path / "out")
        except CaffeFormatError as error:
            assert str(tmp_path / "cut") in str(error)
            assert not (tmp_path / "out").exists()
        else:
            assert len(report.entries) == sum(map(len, blobs_by_protobuf(raw[:length]).values()))
            (tmp_path / "out").unlink()


def test_a_truncated_download_names_file_layer_and_offset(tmp_path: Path) -> None:
    path = tmp_path / "fcn.caffemodel"
    path.write_bytes(small_v2().SerializeToString()[:-500])
    with pytest.raises(CaffeFormatError) as caught:
        read_caffemodel(path)
    assert re.fullmatch(
        rf"{re.escape(str(path))}: after 3 layers: field 100: \d+ bytes at offset \d+ run past the end of the message "
        r"\(\d+\)\n  the file is damaged or was cut short: get it again and compare its size and checksum",
        str(caught.value),
    )


# Lies


def layer_with(blob: bytes) -> bytes:
    """A net of one layer whose only blob is these bytes."""
    layer = b"\x0a\x01c" + write_tag(7, len(blob)) + blob
    return b"\x0a\x01n" + write_tag(100, len(layer)) + layer


def shape(*dims: int) -> bytes:
    return packed_shape(b"".join(write_varint(dim % (1 << 64)) for dim in dims))


def packed_shape(packed: bytes) -> bytes:
    inner = write_tag(1, len(packed)) + packed
    return write_tag(7, len(inner)) + inner


def net_with(layers: bytes) -> bytes:
    return b"\x0a\x01n" + layers


THIRD = (1 << 64) // 3
"""Three of it are -1 modulo 2^64, so that the product of 3, THIRD, 3 and THIRD is 1."""

LIES = {
    "a length beyond the file": (net_with(write_tag(100, 1 << 40)), "field 100: 1099511627776 bytes"),
    "a length of 2^63": (net_with(write_tag(100, 1 << 63)), "field 100: 9223372036854775808 bytes"),
    "a length of 2^64 - 1": (net_with(write_tag(100, (1 << 64) - 1)), "field 100: 18446744073709551615 bytes"),
    "a varint without end": (net_with(b"\xa2\x06" + b"\xff" * 5000), "a varint of more than 64 bits"),
    "a blob beyond its layer": (net_with(write_tag(100, 4) + write_tag(7, 100) + bytes(200)), "layer 0: field 7: 100"),
    "values beyond their blob": (layer_with(write_tag(5, 4000) + bytes(8)), "'c' blob 0: field 5: 4000 bytes"),
    "a product over 2^63": (layer_with(shape(1 << 31, 1 << 31, 4) + write_tag(5, 4) + bytes(4)), "impossible shape"),
    "a product that is 0 modulo 2^64": (layer_with(shape(1 << 32, 1 << 32) + write_tag(5, 0)), "impossible shape"),
    "a product that is 1 modulo 2^64": (
        layer_with(shape(3, THIRD, 3, THIRD) + write_tag(5, 4) + bytes(4)),
        "impossible shape",
    ),
    "a trillion values": (
        layer_with(shape(1_000_000, 1_000_000) + write_tag(5, 4) + bytes(4)),
        "needs 1000000000000 values; found 1",
    ),
    "negative dims": (layer_with(shape(-2, -2) + write_tag(5, 16) + bytes(16)), "impossible shape: -2x-2"),
    "33 axes": (layer_with(shape(*[1] * 33) + write_tag(5, 4) + bytes(4)), "33 axes or more"),
    "a million axes": (layer_with(packed_shape(b"\x01" * 1_000_000) + write_tag(5, 4) + bytes(4)), "33 axes or more"),
    "half a value": (layer_with(shape(1) + write_tag(5, 3) + bytes(3)), "3 bytes are not a whole number of 4-byte"),
    "groups in groups": (net_with(write_tag(100, 5000) + b"\xcb\x06" * 2500), "wire type 3"),
    "a layer that is a number": (net_with(b"\xa0\x06\x01"), "field 100 is varint; expected length-delimited"),
    "a field without a number": (net_with(b"\x00\x00"), "field number 0"),
    "nets inside nets": (
        net_with(b"".join(write_tag(100, 3 * n) for n in range(20_000, 0, -1))),
        "layer 0: field 100: 59997 bytes",
    ),
    "nothing but names": (net_with(b"\x0a\x01n" * 100_000), "without layers"),
    "nothing but numbers": (net_with(b"\x50\x00" * 2_000_000), "the records of so many fields take"),
    "a million layers": (net_with(b"\xa2\x06\x00" * 1_000_000), "the records of so many fields take"),
    "a million blobs": (
        net_with(write_tag(100, 4_000_000) + b"\x3a\x02\x08\x00" * 1_000_000),
        "the records of so many fields take",
    ),
    "settings of a hundred million bytes": (
        net_with(write_tag(100, 100_000_006) + write_tag(45, 100_000_000) + bytes(100_000_000)),
        "what is not in blobs, the net's settings, has 100000009 bytes",
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_told_soon(tmp_path: Path, lie: str) -> None:
    raw, problem = LIES[lie]
    path = tmp_path / "lie.caffemodel"
    path.write_bytes(raw)
    started = time.monotonic()
    with pytest.raises(CaffeFormatError, match=problem) as caught:
        read_caffemodel(path)
    assert time.monotonic() - started < 30
    assert str(caught.value).startswith(f"{path}: ")


LIMITED = """
import resource, sys, time
import converters
from pathlib import Path
import converters.formats.hdf5
now = int(next(line for line in open("/proc/self/status") if line.startswith("VmSize")).split()[1]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (now + {more}, now + {more}))
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        converters.read_caffemodel(path)
    except converters.CaffeFormatError as error:
        assert "MemoryError" not in repr(error.__cause__), path
    else:
        raise SystemExit(f"{{path}} was read")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS and /proc are Linux's")
def test_lies_cost_no_memory(tmp_path: Path) -> None:
    """All of them in one process that may take 450 MB more, 100 of which are the mapping of the largest file."""
    for number, (raw, _) in enumerate(LIES.values()):
        (tmp_path / str(number)).write_bytes(raw)
    command = [sys.executable, "-c", LIMITED.format(more=450 << 20), str(tmp_path)]
    subprocess.run(command, check=True, timeout=120)


# Damage at random


def mutate(r: random.Random, raw: bytes) -> bytes:
    """`raw` with one to eight changes: bits, bytes, runs lost, doubled, moved or made up, and lengths that lie."""
    damaged = bytearray(raw)
    for _ in range(r.choice([1, 1, 1, 2, 3, 8])):
        here, there = r.randrange(len(damaged)), r.randrange(len(damaged))
        run = r.choice([1, 2, 5, 20, 300])
        match r.randrange(7):
            case 0:
                damaged[here] = r.randrange(256)
            case 1:
                damaged[here] ^= 1 << r.randrange(8)
            case 2 if len(damaged) > run:
                del damaged[here : here + run]
            case 3:
                damaged[here:here] = r.randbytes(run)
            case 4:
                damaged[here:here] = damaged[there : there + run]
            case 5:
                damaged[here : here + run] = damaged[there : there + run]
            case _:
                damaged[here:here] = r.choice([b"\xff" * 9 + b"\x01", b"\xff\xff\xff\xff\x0f", b"\x80" * 9 + b"\x01"])
        damaged = damaged or bytearray(1)
    return bytes(damaged)


def skeleton(net: Any) -> bytes:
    """The net with hardly a value in it: changes of it hit names, shapes and lengths."""
    for layer in [*net.layer, *net.layers]:
        for blob in [*layer.blobs, *(layer.layer.blobs if net.layers else [])]:
            del blob.data[3:]
    return net.SerializeToString()


SOUND = {
    **{form: make().SerializeToString() for form, make in SMALL.items()},
    **{f"{form} skeleton": skeleton(make()) for form, make in SMALL.items()},
    "v2 halves": small_v2(halves()).SerializeToString(),
}


@pytest.mark.parametrize("form", SOUND)
def test_damage_is_told_or_harmless(tmp_path: Path, form: str) -> None:
    """What is still read is what the protobuf library reads; all else is our error with the file's name."""
    source, out = tmp_path / "damaged", tmp_path / "out"
    read = 0
    for seed in range(400):
        raw = mutate(random.Random(seed), SOUND[form])
        source.write_bytes(raw)
        started = time.monotonic()
        try:
            model = read_caffemodel(source)
            read += 1
            assert_as_protobuf(model.blobs, raw)
            convert(source, out)
        except CaffeFormatError as error:
            assert str(error).startswith(str(source)), f"seed {seed}: {error}"
            assert not out.exists(), f"seed {seed}"
        assert time.monotonic() - started < 10, f"seed {seed}"
        out.unlink(missing_ok=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["damaged"]
    assert 0 < read < 400 or "skeleton" in form


def assert_as_protobuf(found: Mapping[str, tuple[np.ndarray, ...]], raw: bytes) -> None:
    try:
        expected = blobs_by_protobuf(raw)
    except DecodeError:  # a parameter of a layer that we take for a fork's; our reading is the more patient one
        return
    assert found.keys() == expected.keys()
    for name, own in expected.items():
        assert [(b.shape, b.tobytes()) for b in found[name]] == [(b.shape, b.tobytes()) for b in own]


@given(st.lists(st.one_of(st.binary(max_size=30), st.sampled_from([b"\x0a", b"\xa2\x06", b"\x3a", b"\x12", b"\x2a"]))))
def test_made_up_bytes(pieces: list[bytes]) -> None:
    raw = b"".join(pieces)
    for read in (parse_caffemodel, lambda raw: read_blob(Message.whole(raw))):
        try:
            read(raw)
        except CaffeFormatError as error:
            assert str(error)


def test_a_damaged_mean(tmp_path: Path) -> None:
    sound = blob_proto(np.full((1, 3, 2, 2), 104, np.float32), legacy=True).SerializeToString()
    path = tmp_path / "mean.binaryproto"
    for length in range(len(sound)):
        path.write_bytes(sound[:length])
        with pytest.raises(CaffeFormatError, match=re.escape(str(path))):
            read_mean(path)
    for seed in range(1000):
        path.write_bytes(mutate(random.Random(seed), sound))
        try:
            read_mean(path)
        except CaffeFormatError as error:
            assert str(error).startswith(str(path))


# HDF5


def read_h5(name: str, path: Path) -> None:
    """What the child does: read every damaged file that there is, and say which it is at."""
    sound = small_h5()
    files = {
        "cut": (sound[:length] for length in range(len(sound))),
        "damaged": (mutate_metadata(random.Random(seed), sound) for seed in range(4000)),
    }[name]
    for number, raw in enumerate(files):
        path.write_bytes(raw)
        print(number, flush=True)
        started = time.monotonic()
        try:
            for own in read_caffemodel(path).blobs.values():
                for blob in own:
                    float(blob.sum())
        except CaffeFormatError as error:
            assert str(error).startswith(str(path)), error
        else:
            assert name != "cut", f"{number} of {len(sound)} bytes were read"
        assert time.monotonic() - started < 10
    print("done")


def mutate_metadata(r: random.Random, raw: bytes) -> bytes:
    """Changes of bytes and of the 8-byte addresses and sizes of HDF5, in place, so that the rest stays where it is."""
    damaged = bytearray(raw)
    for _ in range(r.choice([1, 1, 2, 4, 16])):
        here = r.randrange(len(damaged) - 8)
        damaged[here] = r.choice([0, 1, 127, 128, 255, r.randrange(256), damaged[here] ^ (1 << r.randrange(8))])
        if r.random() < 0.2:
            sizes = [(1 << 64) - 1, 1 << 62, 1 << 32, r.randrange(len(damaged)), 0]
            damaged[here : here + 8] = r.choice(sizes).to_bytes(8, "little")
    return bytes(damaged)


CHILD = """
import resource, sys
from pathlib import Path
from parity_tests.formats.test_bad_files import read_h5
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
read_h5(sys.argv[1], Path(sys.argv[2]))
"""


@pytest.mark.parametrize("name", ["cut", "damaged"])
def test_a_damaged_h5_is_told_or_harmless(tmp_path: Path, name: str) -> None:
    """In a process of its own: a crash inside libhdf5 would take this one with it."""
    command = [sys.executable, "-c", CHILD, name, str(tmp_path / "damaged.h5")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    progress = done.stdout.split()
    assert (done.returncode, progress[-1]) == (0, "done"), f"at number {progress[-1:]}: {done.stderr[-2000:]}"
