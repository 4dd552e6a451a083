"""Outlines of segments on the stored slices: where they lie, whatever copy of the volume the segment was found in."""

from __future__ import annotations

import numpy as np
import pytest
from tests.segmented import TILTED, ball, grid, lung, nodule

from overread.domain.volume import Volume, straighten, to_lps
from overread.render.outlines import TOLERANCE_PX, SliceOutline, outlines
from overread.render.segment_slices import segment_slices

STEPS = {
    "upright": ((0.0, 0.0, 2.5), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)),
    "from the head, prone": ((0.0, 0.0, -2.5), (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0)),
    "coronal": ((0.0, 2.5, 0.0), (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)),
    "tilted gantry": (TILTED, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)),
}


def ring_mm(outline: SliceOutline, stored: Volume) -> np.ndarray:
    """Points of the first ring in mm."""
    ring = np.array(outline.rings[0])
    return stored.to_mm(np.column_stack([np.full(len(ring), outline.slice_index), ring[:, 1], ring[:, 0]]))


@pytest.mark.parametrize("kind", STEPS)
@pytest.mark.parametrize("copy", [lambda v: v, to_lps, lambda v: to_lps(straighten(v))], ids=["as is", "lps", "both"])
def test_a_ball_is_a_circle_of_its_radius_on_each_slice(kind, copy):
    step, orientation = STEPS[kind]
    stored = grid(step, orientation=orientation)
    seen = copy(stored)
    centre = stored.to_mm((10.0, 30.0, 30.0))
    made = list(outlines([nodule(seen, ball(seen, centre, 10.0))], stored))
    indices = [outline.slice_index for outline in made]
    assert indices == list(range(indices[0], indices[-1] + 1))
    normal = np.cross(orientation[:3], orientation[3:])
    for outline in made:
        points = ring_mm(outline, stored)
        # The slice cuts the ball at this height: what it shows is a circle of this radius.
        height = float((points[0] - centre) @ normal)
        radius = np.sqrt(max(100.0 - height**2, 0.0))
        distances = np.linalg.norm(points - centre, axis=1)
        if radius > 4:
            # Voxels of 0.8 mm and simplified by at most half a pixel.
            assert abs(distances - 10.0).max() < 0.9, (outline.slice_index, radius)
        assert outline.sop_instance_uid == stored.sop_instance_uids[outline.slice_index]
        assert (outline.segment_number, outline.key, outline.frame_number) == (1, "lung_nodule", 1)
    middle = next(o for o in made if o.slice_index == 10)
    assert middle.area_px * 0.8 * 0.6 == pytest.approx(np.pi * 100, rel=0.02)


def test_pixels_have_their_centre_at_whole_numbers_and_their_border_between_them():
    stored = grid()
    mask = np.zeros(stored.shape, np.bool_)
    mask[3, 10:20, 30:34] = True
    (outline,) = outlines([lung(stored, mask)], stored)
    x, y = np.array(outline.rings[0]).T
    # Corners are cut, and then at most half a pixel goes.
    assert [x.min(), x.max(), y.min(), y.max()] == pytest.approx([29.5, 33.5, 9.5, 19.5], abs=TOLERANCE_PX)
    assert [(x.min() + x.max()) / 2, (y.min() + y.max()) / 2] == pytest.approx([31.5, 14.5], abs=TOLERANCE_PX / 2)
    assert 29.5 in x, "half way to the neighbour that does not belong to it"
    assert outline.slice_index == 3


def test_a_single_pixel_is_still_drawn():
    stored = grid()
    mask = np.zeros(stored.shape, np.bool_)
    mask[3, 10, 30] = True
    (outline,) = outlines([lung(stored, mask)], stored)
    (ring,) = outline.rings
    assert np.array(ring).mean(axis=0).tolist() == [30.0, 10.0]
    assert outline.area_px == pytest.approx(0.5)


def test_holes_and_separate_parts_are_rings_of_their_own():
    stored = grid(shape=(5, 256, 256))
    mask = np.zeros(stored.shape, np.bool_)
    mask[3, 20:100, 20:100] = True
    mask[3, 40:80, 40:80] = False
    mask[3, 160:200, 160:200] = True
    (outline,) = outlines([lung(stored, mask)], stored)
    assert len(outline.rings) == 3
    assert outline.area_px == pytest.approx(6400 - 1600 + 1600, rel=0.02)


def test_a_simplified_outline_stays_within_half_a_pixel():
    stored = grid(shape=(3, 200, 200))
    mask = np.zeros(stored.shape, np.bool_)
    rows, columns = np.mgrid[:200, :200]
    angle = np.arctan2(rows - 100, columns - 100)
    mask[1] = np.hypot(rows - 100, columns - 100) < 70 + 8 * np.sin(7 * angle)
    (outline,) = outlines([lung(stored, mask)], stored)
    ring = np.array(outline.rings[0])
    inner = mask[1].copy()
    inner[1:-1, 1:-1] &= ~(mask[1][:-2, 1:-1] & mask[1][2:, 1:-1] & mask[1][1:-1, :-2] & mask[1][1:-1, 2:])
    border = np.argwhere(inner)[:, ::-1].astype(float)
    start, end = ring, np.roll(ring, -1, axis=0)
    along = end - start
    share = np.clip(((border[:, None] - start) * along).sum(-1) / (along**2).sum(-1), 0, 1)
    distance = np.linalg.norm(border[:, None] - (start + share[..., None] * along), axis=-1).min(axis=1)
    # The exact line runs half a pixel outside the centres of the border's pixels.
    assert distance.max() <= 0.5 + TOLERANCE_PX + 0.01
    assert len(ring) < len(border) / 3
    assert outline.area_px == pytest.approx(mask.sum(), rel=0.005)


def test_segments_are_numbered_and_can_go_on_from_another_volume():
    stored = grid()
    mask = ball(stored, stored.to_mm((10, 30, 30)), 6.0)
    made = list(outlines([lung(stored, mask), nodule(stored, mask)], stored, first_number=4))
    assert {(o.segment_number, o.key, o.finding_id is None) for o in made} == {
        (4, "lung_right", True),
        (5, "lung_nodule", False),
    }


def test_what_lies_outside_the_stored_slices_is_left_out():
    stored, larger = grid(), grid(shape=(26, 80, 80))
    whole = np.ones(larger.shape, np.bool_)
    parts = list(segment_slices(lung(larger, whole), stored))
    assert [part.index for part in parts] == list(range(20))
    assert all(part.share.shape == stored.shape[1:] and (part.row, part.column) == (0, 0) for part in parts)
    elsewhere = np.zeros(larger.shape, np.bool_)
    elsewhere[22:, 70:, 70:] = True
    assert list(segment_slices(lung(larger, elsewhere), stored)) == []


def test_voxels_of_the_same_grid_are_not_changed():
    stored = grid()
    rng = np.random.default_rng(3)
    mask = rng.random(stored.shape) < 0.3
    turned = to_lps(grid((0.0, 0.0, -2.5), orientation=(-1.0, 0.0, 0.0, 0.0, -1.0, 0.0)))
    for volume in (stored, turned):
        source = stored if volume is stored else grid((0.0, 0.0, -2.5), orientation=(-1.0, 0.0, 0.0, 0.0, -1.0, 0.0))
        back = np.zeros(source.shape, np.bool_)
        for part in segment_slices(lung(volume, mask), source):
            height, width = part.share.shape
            assert set(np.unique(part.share)) <= {0.0, 1.0}
            back[part.index, part.row : part.row + height, part.column : part.column + width] = part.share > 0
        expected = mask if volume is stored else mask[::-1, ::-1, ::-1]
        assert (back == expected).all()


def test_stored_slices_must_lie_along_the_first_axis():
    coronal = to_lps(grid((0.0, 2.5, 0.0), orientation=(1.0, 0.0, 0.0, 0.0, 0.0, -1.0)))
    assert coronal.slice_axis != 0
    mask = np.ones(coronal.shape, np.bool_)
    with pytest.raises(ValueError, match="axis 0"):
        list(outlines([lung(coronal, mask)], coronal))
