"""Where values lie: concatenations in place, slices and crops as views, and memory that is used again."""

from __future__ import annotations

import random
import time

import pytest

from fcn_port.fastpath.flow import merge
from fcn_port.fastpath.program import arena, places
from fcn_port.fastpath.program.arena import arrange
from fcn_port.fastpath.program.places import BlobPlace, of_product, place_values
from fcn_port.fastpath.program.shapes import shapes_of
from parity_tests.fastpath.flows import flow_of, net_of


def placed(*layers: str):
    net = net_of(*layers)
    flow = merge(flow_of(net))
    shapes = shapes_of(flow, dict(net.inputs))
    return place_values(flow, shapes)


def test_what_is_concatenated_is_written_where_it_belongs() -> None:
    found = placed(
        "Convolution a: data -> a", "Convolution b: a -> b", "Concat c: a b -> c", "Convolution d: c -> d",
        "Concat e: c d -> e",
    )  # fmt: skip
    assert {found.values[name].buffer for name in "abcde"} == {found.values["e"].buffer}
    assert [found.values[name].offset for name in "abcde"] == [0, 4, 0, 8, 0]
    assert not any(found.copies.values())


def test_what_is_in_two_places_is_copied_to_one() -> None:
    found = placed("Convolution a: data -> a", "Concat c: a data -> c", "Concat d: data a -> d")
    assert [name for copies in found.copies.values() for name, _ in copies] == ["a", "data"]
    assert placed("Convolution a: data -> a", "Concat c: a a -> c").copies["c"][0][1].offset == 4


def test_parts_of_values_are_views() -> None:
    found = placed(
        "Slice s: data -> a b | slice_param { slice_point: 1 }", "Convolution c: b -> c", "Concat d: a c -> d"
    )
    assert found.values["a"].buffer == found.values["b"].buffer == found.values["data"].buffer
    assert (found.values["b"].offset, found.values["b"].shape) == (1, (1, 3, 8, 8))
    assert [name for name, _ in found.copies["d"]] == ["a"]
    found = placed(
        "Pooling p: data -> p | pooling_param { kernel_size: 4 stride: 4 }",
        "Crop c: data p -> c | crop_param { offset: [1, 3] }",
    )
    assert (found.values["c"].offset, found.values["c"].shape) == ((8 + 3) * 4, (1, 4, 2, 2))


def test_flat_images_of_one_pixel_are_views() -> None:
    found = placed("Pooling p: data -> p | pooling_param { global_pooling: true }", "Flatten f: p -> f")
    assert found.values["f"].buffer == found.values["p"].buffer and found.values["f"].shape == (1, 4)
    assert placed("Flatten f: data -> f").values["f"].buffer != 0


def test_only_channels_are_written_where_a_concatenation_wants_them() -> None:
    found = placed("Convolution a: data -> a", "Concat c: a data -> c | concat_param { axis: 2 }")
    assert len({found.values[name].buffer for name in ("a", "data", "c")}) == 3
    assert [(name, goal.offset, goal.shape) for name, goal in found.copies["c"]] == [
        ("a", 0, (1, 4, 8, 8)), ("data", 4 * 8 * 8, (1, 4, 8, 8)),
    ]  # fmt: skip


def test_a_blob_that_no_other_is_read_for_has_a_place() -> None:
    parameter = "Parameter p: -> p | parameter_param { shape { dim: [1, 4, 8, 8] } }"
    found = placed(parameter, "Eltwise e: data p -> e")
    assert found.values["p"].is_image and not found.views


def test_numbers_in_another_order_are_no_operand_and_no_rows_of_a_product() -> None:
    """One number for each channel, a part of a blob whose axes were exchanged; and rows whose columns lie apart."""
    apart = BlobPlace(0, 0, (2, 3, 1, 1), (30, 5, 1, 1))
    assert apart.spread((2, 3, 4, 4)) is None
    turned, top = BlobPlace(0, 0, (2, 6, 5, 4), (120, 1, 6, 30)), BlobPlace(1, 0, (2, 6, 7), (42, 7, 1))
    assert of_product(2, turned, top) is None
    assert not BlobPlace(0, 0, (1, 2, 2, 2), (8, 1, 4, 2)).is_in_order
    assert BlobPlace(0, 0, (2, 1, 4), (24, 1, 6)).by_last_axis is None


@pytest.mark.parametrize("seed", range(20))
def test_buffers_that_live_at_once_do_not_overlap(seed: int) -> None:
    r = random.Random(seed)
    sizes = [r.randrange(1, 1000) for _ in range(40)]
    lives = [(start, start + r.randrange(8)) for start in (r.randrange(60) for _ in sizes)]
    offsets, size = arrange(sizes, lives)
    for i in range(40):
        assert offsets[i] + sizes[i] <= size and offsets[i] % 16 == 0
        for j in range(i):
            at_once = lives[i][0] <= lives[j][1] and lives[j][0] <= lives[i][1]
            assert not at_once or offsets[i] + sizes[i] <= offsets[j] or offsets[j] + sizes[j] <= offsets[i]
    assert size < sum(sizes)


@pytest.mark.parametrize("few", [0, arena.FEW], ids=["by NumPy", "in a loop"])
@pytest.mark.parametrize("seed", range(20))
def test_each_buffer_lies_as_low_as_it_can(seed: int, few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """At 0 or behind one that lives at the same time, the largest first; beside the definition, place by place."""
    monkeypatch.setattr(arena, "FEW", few)
    r = random.Random(seed)
    sizes = [r.randrange(1, 1000) for _ in range(30)]
    lives = [(start, start + r.randrange(20)) for start in (r.randrange(60) for _ in sizes)]
    offsets, total = arrange(sizes, lives)
    there: list[tuple[int, range]] = []
    for number in sorted(range(30), key=lambda n: -sizes[n]):
        (first, last), length = lives[number], -(-(sizes[number] + 32) // 16) * 16
        near = [place for each, place in there if lives[each][0] <= last and first <= lives[each][1]]
        starts = sorted({0, *(place.stop for place in near)})
        free = [at for at in starts if all(at >= place.stop or at + length <= place.start for place in near)]
        assert offsets[number] == free[0]
        there.append((number, range(free[0], free[0] + length)))
    assert total == max(place.stop for _, place in there)


def test_many_buffers_that_live_at_once() -> None:
    """A Slice into 12,000 tops took 8 seconds of them."""
    began = time.process_time()
    offsets, size = arrange([1] * 20_000, [(0, number) for number in range(20_000)])
    assert sorted(offsets) == list(range(0, size, 48))
    assert time.process_time() - began < 10


def test_an_operation_of_many_tops_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not once for each top that a Concat reads: 3,000 took 19 seconds before the first pass."""
    looks = []
    view_of = places.view_of
    monkeypatch.setattr(places, "view_of", lambda *about: looks.append(about[0].name) or view_of(*about))
    tops = " ".join(f"t{number}" for number in range(4))
    found = placed(f"Slice s: data -> {tops}", f"Concat c: {tops} -> c")
    assert [name for name, _ in found.copies["c"]] == tops.split()
    assert looks.count("s") == 2  # whether its tops are written into the Concat, and where they lie
