"""Whether a CT shows a chest, by its voxels alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from tests.unit.ct_bodies import abdomen, chest_volume, head, slices_of, volume_of

from overread.dicom.series import volumes_of
from overread.domain.volume import Volume
from overread.pipeline.analysers.chest_ct import recognise as module
from overread.pipeline.analysers.chest_ct.recognise import Recognition, recognise
from overread.pipeline.analysers.chest_ct.survey import NotAChest, survey


def see(volume: Volume) -> Recognition:
    return recognise(survey(volume))


def test_a_chest_is_one_and_whole() -> None:
    known = see(chest_volume())
    assert (known.refused, known.body_part, known.cut_off) == ("", "CHEST", "")
    assert known.thickness_mm == pytest.approx(4.0)
    assert known.contrast is False
    assert known.notes == ()


@pytest.mark.parametrize("other", [head, abdomen])
def test_other_parts_of_the_body_are_refused(other: object) -> None:
    assert callable(other)
    known = see(other())
    assert known.refused == module.OTHER_PART
    assert known.body_part is None


def test_water_and_air_are_no_chest() -> None:
    shape = (20, 60, 60)
    for hu in (np.zeros(shape), np.full(shape, -1000.0)):
        assert see(volume_of(hu)).refused == module.OTHER_PART


def test_one_slice_is_too_few() -> None:
    with pytest.raises(NotAChest, match=r"only 1 slice"):
        survey(slices_of(chest_volume(), 40, 41))


def test_pydicoms_single_slice_makes_no_volume_and_three_of_it_no_chest() -> None:
    path = Path(str(get_testdata_file("CT_small.dcm")))
    assert volumes_of([(path.name, path.read_bytes())]).volumes == ()
    one = dcmread(path)
    hu = one.pixel_array.astype(float) * float(one.RescaleSlope) + float(one.RescaleIntercept)
    known = see(volume_of(np.stack([hu] * 6), mm=(5.0, 0.66, 0.66)))
    assert known.refused


def test_where_lungs_are_cut_off_is_said() -> None:
    volume = chest_volume()
    slices = len(volume.hu)
    assert see(slices_of(volume, 0, slices * 3 // 5)).cut_off == "the lungs are cut off at the top"
    assert see(slices_of(volume, slices * 2 // 5, slices)).cut_off == "the lungs are cut off at the bottom"
    middle = see(slices_of(volume, slices * 2 // 5, slices * 3 // 5))
    assert middle.cut_off == "the lungs are cut off at the top and the bottom"
    assert not middle.whole
    assert "No trachea was found" in middle.notes[0]


def test_bases_under_an_abdomen_are_no_chest() -> None:
    """Slices of the lower lungs over twice as many of the abdomen."""
    volume = chest_volume()
    low = slices_of(volume, 0, len(volume.hu) * 2 // 5)
    below = np.repeat(low.hu[:1], 2 * len(low.hu), axis=0)
    assert (below[0, 60] > -400).any()
    assert see(volume_of(np.concatenate([below, low.hu]), mm=volume.spacing_mm)).refused in (
        module.ONLY_BASES,
        module.OTHER_PART,
    )


def test_a_volume_whose_positions_lie_is_refused() -> None:
    volume = chest_volume()
    upside_down = replace(volume, hu=volume.hu[::-1].copy())
    assert see(upside_down).refused == module.UPSIDE_DOWN
    back_to_front = replace(volume, hu=volume.hu[:, ::-1].copy())
    assert see(back_to_front).refused == module.BACK_TO_FRONT


def test_contrast_medium_is_seen() -> None:
    volume = chest_volume()
    hu = volume.hu.astype(float)
    blood = (hu > 20) & (hu < 70)
    assert see(volume_of(np.where(blood, hu + 180, hu), mm=volume.spacing_mm)).contrast is True
