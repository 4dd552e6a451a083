"""Pleural fluid and free air against phantoms of known volume."""

from __future__ import annotations

import numpy as np
import pytest
from tests.unit.ct_pleura_cases import LEFT, RIGHT, airy, anatomy, before, healthy, truth_ml, wet

from overread.domain.catalogue import entry
from overread.domain.tissue import Tissue
from overread.domain.volume import Volume
from overread.pipeline.analysers.chest_ct.anatomy import ChestAnatomy
from overread.pipeline.analysers.chest_ct.cavity import half_chests
from overread.pipeline.analysers.chest_ct.grid import coarsen
from overread.pipeline.analysers.chest_ct.pleura import complete, fluid_and_air
from overread.pipeline.analysers.chest_ct.pleura_region import region_of


def _block(air: slice, fluid: slice) -> ChestAnatomy:
    """A body of 2 mm voxels, both lungs in it, and in the right half the rows given of pleural air and fluid."""
    labels = np.full((20, 60, 80), Tissue.BODY, np.uint8)
    labels[:, 5:55, 5:35], labels[:, 5:55, 45:75] = Tissue.RIGHT_LUNG, Tissue.LEFT_LUNG
    labels[4:14, air, 8:30] = Tissue.PLEURAL_AIR
    labels[4:14, fluid, 8:30] = Tissue.PLEURAL_FLUID
    hu = np.array([-1000, 40, -850, -850, -1000, -1000, 12], np.int16)[labels]
    volume = Volume(
        hu=hu,
        affine=np.array([[0, 0, 2, 0], [0, 2, 0, 0], [2, 0, 0, 0], [0, 0, 0, 1]], np.float64),
        series_instance_uid="1.2.3",
        frame_of_reference_uid="",
        sop_instance_uids=("1.2",) * 20,
        frame_numbers=(1,) * 20,
    )
    return ChestAnatomy(volume=volume, labels=labels)


def test_a_chest_without_findings_has_none() -> None:
    done = anatomy(healthy())
    assert fluid_and_air(done) == ()
    assert done.ml(Tissue.PLEURAL_FLUID) < 5
    assert done.ml(Tissue.PLEURAL_AIR) < 5
    for tissue in (Tissue.RIGHT_LUNG, Tissue.LEFT_LUNG):
        assert done.ml(tissue) == pytest.approx(before(healthy()).ml(tissue), rel=0.002)


def test_fluid_is_measured_within_ten_percent_on_each_side() -> None:
    found = fluid_and_air(anatomy(wet()))
    assert [(c.kind, c.side) for c in found] == [("pleural_effusion", "right"), ("pleural_effusion", "left")]
    for collection, side in zip(found, (RIGHT, LEFT), strict=True):
        assert collection.volume_ml == pytest.approx(truth_ml(wet(), "pleural_effusion", side), rel=0.1)
        assert -25 < collection.mean_hu < 30
        assert collection.score == 1.0
        assert not collection.air_fluid_level


def test_free_air_is_measured_and_taken_out_of_the_lung() -> None:
    (air,) = fluid_and_air(anatomy(airy()))
    assert (air.kind, air.side) == ("pneumothorax", "left")
    assert air.volume_ml == pytest.approx(truth_ml(airy(), "pneumothorax", LEFT), rel=0.1)
    lung = airy().truth().lung_ml[LEFT]
    assert before(airy()).ml(Tissue.LEFT_LUNG) > 1.1 * lung
    assert anatomy(airy()).ml(Tissue.LEFT_LUNG) == pytest.approx(lung, rel=0.04)


def test_completing_leaves_the_given_labels_alone() -> None:
    given = before(airy()).labels.copy()
    complete(before(airy()))
    np.testing.assert_array_equal(before(airy()).labels, given)


def test_a_collection_is_cut_out_in_its_place() -> None:
    done = anatomy(airy())
    (air,) = fluid_and_air(done)
    segment = air.region.segment(done.volume, key=air.kind, name="Pneumothorax, left", code=entry("pneumothorax").code)
    assert segment.volume_ml == pytest.approx(air.volume_ml)
    whole = done.labels[air.slice_index] == Tissue.PLEURAL_AIR
    local = segment.mask[air.slice_index - air.region.box[0].start]
    np.testing.assert_array_equal(whole[air.region.box[1:]], local)
    np.testing.assert_allclose(segment.affine[:3, 3], done.volume.to_mm([s.start for s in air.region.box]))


def test_thickness_level_and_slice_of_what_was_drawn() -> None:
    air, fluid = sorted(fluid_and_air(_block(slice(8, 14), slice(14, 40))), key=lambda c: c.volume_ml)
    assert (air.kind, fluid.kind) == ("pneumothorax", "pleural_effusion")
    assert air.volume_ml == pytest.approx(10 * 6 * 22 * 8 / 1000)
    assert fluid.thickness_mm == pytest.approx(44, abs=2.5)
    assert air.thickness_mm == pytest.approx(12, abs=2.5)
    assert (air.side, fluid.side) == ("right", "right")
    assert 4 <= fluid.slice_index < 14
    assert air.air_fluid_level
    assert fluid.air_fluid_level


def test_no_level_where_lung_lies_between_air_and_fluid() -> None:
    assert not any(c.air_fluid_level for c in fluid_and_air(_block(slice(8, 20), slice(28, 45))))


def test_a_trace_is_no_finding() -> None:
    assert fluid_and_air(_block(slice(8, 10), slice(14, 16))) == ()


def test_the_rib_cage_is_found_where_fluid_hides_it() -> None:
    case = wet()
    done = anatomy(case)
    grid = coarsen(done.volume)
    factors = grid.factors
    labels = before(case).labels[:: factors[0], :: factors[1], :: factors[2]]
    halves = half_chests(grid, labels == Tissue.RIGHT_LUNG, labels == Tissue.LEFT_LUNG)
    assert halves is not None
    fluid = done.labels[:: factors[0], :: factors[1], :: factors[2]] == Tissue.PLEURAL_FLUID
    inside = halves[0].inside(-4.0) | halves[1].inside(-4.0)
    assert float(inside[fluid].mean()) > 0.97


def test_without_lungs_there_is_no_rib_cage() -> None:
    grid = coarsen(_block(slice(0, 0), slice(0, 0)).volume)
    nothing = np.zeros(grid.hu.shape, np.bool_)
    assert half_chests(grid, nothing, nothing) is None
    assert region_of(nothing) is None
