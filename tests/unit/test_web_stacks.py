"""The order in which a series is looked through, and what its numbers say."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from tests.integration.records import record

from overread.api.images import parse_window
from overread.domain.study import StoredInstance
from overread.web.stacks import MAX_FRAMES, sides_of, stacks_of
from overread.web.stage import WINDOWS, default_window, position_text

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)


def stored(number: int, **changes: Any) -> StoredInstance:
    values = {"modality": "CT", "instance_number": number, **changes}
    return StoredInstance(id=uuid4(), study_id=uuid4(), record=record(number, **values), object_key=f"k{number}")


def at(number: int, place: float, orientation: tuple[float, ...] = AXIAL, **changes: Any) -> StoredInstance:
    axis = {AXIAL: 2, CORONAL: 1, SAGITTAL: 0}.get(orientation, 2)
    position = [-100.0, -100.0, 50.0]
    position[axis] = place
    return stored(number, position_mm=tuple(position), orientation=orientation, **changes)


def test_axial_slices_run_from_head_to_feet_and_count_from_the_feet_as_volumes_do() -> None:
    (stack,) = stacks_of([at(1, 5.0), at(2, -5.0), at(3, 0.0)])
    assert [p.place_mm for p in stack.pictures] == [5.0, 0.0, -5.0]
    assert [p.slice_number for p in stack.pictures] == [3, 2, 1]
    assert [p.number for p in stack.pictures] == [1, 2, 3]
    assert position_text(stack, stack.pictures[2], 3) == "Slice 1 of 3 · z −5.0 mm"


def test_slices_stored_upside_down_are_shown_from_the_head_too() -> None:
    """Rows to the right: the normal points to the feet, and so does the volume's order."""
    flipped = (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    (stack,) = stacks_of([at(n, z, flipped) for n, z in ((1, 5.0), (2, -5.0), (3, 0.0))])
    assert [p.place_mm for p in stack.pictures] == [5.0, 0.0, -5.0]
    assert [p.slice_number for p in stack.pictures] == [1, 2, 3]


@pytest.mark.parametrize(("orientation", "axis"), [(CORONAL, "y"), (SAGITTAL, "x")])
def test_other_planes_keep_the_volumes_order(orientation: tuple[float, ...], axis: str) -> None:
    (stack,) = stacks_of([at(n, place, orientation) for n, place in ((1, 5.0), (2, -5.0), (3, 0.0))])
    numbers = [p.slice_number for p in stack.pictures]
    assert numbers == [1, 2, 3] and stack.axis == axis
    assert sorted(p.place_mm or 0 for p in stack.pictures) in (
        [p.place_mm for p in stack.pictures],
        [p.place_mm for p in reversed(stack.pictures)],
    )
    assert {p.place_mm for p in stack.pictures} == {-5.0, 0.0, 5.0}


def test_a_localizer_within_the_series_comes_last() -> None:
    (stack,) = stacks_of([at(1, 0.0, CORONAL), at(2, -5.0), at(3, 0.0), at(4, 5.0)])
    assert [p.record.instance_number for p in stack.pictures] == [4, 3, 2, 1]
    assert [p.slice_number for p in stack.pictures] == [3, 2, 1, 4]
    assert stack.pictures[-1].place_mm is None


@pytest.mark.parametrize(
    "images",
    [
        [stored(1), stored(2), stored(3)],
        # Two phases of one region: sorted by place they would be mixed.
        [at(1, 0.0), at(2, 5.0), at(3, 0.0), at(4, 5.0)],
    ],
)
def test_without_an_order_in_space_instance_numbers_are_followed(images: list[StoredInstance]) -> None:
    (stack,) = stacks_of(images)
    assert [p.record.instance_number for p in stack.pictures] == [i.record.instance_number for i in images]
    assert [p.slice_number for p in stack.pictures] == list(range(1, len(images) + 1))
    assert all(p.place_mm is None for p in stack.pictures)


def test_frames_are_pictures_and_a_declared_million_is_not_offered() -> None:
    (stack,) = stacks_of([stored(1, modality="US", number_of_frames=3)])
    assert [p.frame for p in stack.pictures] == [1, 2, 3]
    assert position_text(stack, stack.pictures[1], 3) == "Frame 2 of 3"
    (stack,) = stacks_of([stored(1, number_of_frames=1_000_000)])
    assert len(stack.pictures) == MAX_FRAMES


def test_pictures_are_numbered_over_all_series() -> None:
    stacks = stacks_of(
        [at(1, 0.0), at(2, 5.0), stored(3, series_instance_uid="1.2.4", series_description="x"), at(4, 9.0)]
    )
    assert [[p.number for p in s.pictures] for s in stacks] == [[1, 2, 3], [4]]
    assert position_text(stacks[1], stacks[1].pictures[0], 4) == "Image 4 of 4"


def test_what_lies_at_the_edges() -> None:
    sides = sides_of(at(1, 0.0).record)
    assert sides is not None and (sides.left, sides.right, sides.top, sides.bottom) == ("R", "L", "A", "P")
    sides = sides_of(at(1, 0.0, CORONAL).record)
    assert sides is not None and (sides.left, sides.right, sides.top, sides.bottom) == ("R", "L", "H", "F")
    oblique = (0.8, 0.6, 0.0, 0.0, 0.0, -1.0)
    sides = sides_of(stored(1, orientation=oblique).record)
    assert sides is not None and sides.right == "LP"
    assert sides_of(stored(1).record) is None


@pytest.mark.parametrize(
    ("description", "body_part", "window"),
    [
        ("Lung 1.0", "CHEST", "lung"),
        ("Thorax 5.0 Weichteil", "CHEST", "mediastinum"),
        ("Chest 3.0", "CHEST", "lung"),
        ("BONE 2.0", "HEAD", "bone"),
        ("Head 3.0", "HEAD", ""),
    ],
)
def test_the_window_in_which_a_series_opens(description: str, body_part: str, window: str) -> None:
    (stack,) = stacks_of([stored(1, series_description=description)])
    assert default_window(stack, body_part, ()) == window
    (mr,) = stacks_of([stored(1, series_description=description, modality="MR")])
    assert default_window(mr, body_part, ()) == ""


def test_every_window_offered_is_one_that_pictures_know() -> None:
    for name, _, key in WINDOWS:
        assert len(key) == 1
        assert not name or parse_window(name) is not None
