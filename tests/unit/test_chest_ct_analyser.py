"""The whole reading of a chest CT: what is said, in which words, units and pixels."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import count
from uuid import UUID

import numpy as np
import pytest
from tests.unit.ct_bodies import chest, chest_anatomy, chest_volume, head, slices_of, with_holes

from overread.domain import catalogue
from overread.domain.evidence import EvidenceBar
from overread.domain.image import ImageHeader
from overread.domain.modality import Modality
from overread.domain.priority import Level
from overread.domain.tissue import Tissue
from overread.domain.volume import Volume, VolumeWarning, WarningCode
from overread.phantom.anatomy import Side
from overread.pipeline.analysers.chest_ct.analyser import IDENTITY, ChestCt
from overread.pipeline.analysers.chest_ct.anatomy import ChestAnatomy
from overread.pipeline.analysers.chest_ct.consolidation import Consolidation
from overread.pipeline.analysers.chest_ct.lesions import nodule_lesions, pleural_lesions, told_apart
from overread.pipeline.analysers.chest_ct.nodules import Nodule, NoduleDensity
from overread.pipeline.analysers.chest_ct.pleura import fluid_and_air
from overread.pipeline.analysers.chest_ct.pleura_region import Region
from overread.pipeline.analysers.contract import ReadingContext, VolumeAnalyser, VolumeReading
from overread.pipeline.triage import TriageTable

#: Slices in which nodules are not looked for.
THICK_MM = 8.0


def read(volume: Volume, *, body_part: str | None = None, **severities: Level) -> VolumeReading:
    numbers = count(1)
    context = ReadingContext(
        bar=EvidenceBar(),
        table=TriageTable.from_catalogue().with_severities(severities),
        new_id=lambda: UUID(int=next(numbers)),
    )
    return ChestCt().read(volume, ImageHeader(sop_instance_uid="1.2.3", body_part=body_part), context)


def emphysematous() -> Volume:
    """The phantom chest with emphysema in about a sixth of its lungs; too thick for nodules, which take long."""
    return replace(with_holes(15.0)[0], slice_thickness_mm=THICK_MM)


@cache
def plain() -> VolumeReading:
    return read(chest_volume())


@cache
def ill() -> VolumeReading:
    return read(emphysematous(), emphysema=Level.CRITICAL)


def value(reading: VolumeReading, kind: str) -> float:
    (one,) = (m.value for m in reading.measurements if m.measurement_type == kind)
    return one


def test_it_is_an_analyser_of_ct() -> None:
    analyser: VolumeAnalyser = ChestCt()
    assert (str(analyser.identity), analyser.modality) == ("chest_ct 1.0.0", Modality.CT)


def test_every_type_is_assessed_or_not_with_its_reason() -> None:
    reading = plain()
    assert (reading.refused, reading.body_part) == ("", "CHEST")
    wanted = [e.key for e in catalogue.findings_for(Modality.CT, "CHEST")]
    types = [n for n in reading.not_assessed if n.finding_type]
    assert sorted([*reading.assessed, *(n.finding_type for n in types)]) == sorted(wanted)
    assert set(reading.assessed) == {
        "emphysema", "pneumothorax", "pleural_effusion", "consolidation", "lung_nodule", "lung_mass",
    }  # fmt: skip
    assert {n.reason for n in types} == {"no method for it is installed"}


def test_nodules_that_pixels_are_too_coarse_for_are_named() -> None:
    (named,) = (n for n in plain().not_assessed if not n.finding_type)
    volume = chest_volume()
    assert named.name == f"Nodules shorter than {5 * volume.spacing_mm[2]:.1f} mm"
    assert volume.spacing_mm[2] > 0.8


def test_a_chest_without_findings_has_none_that_would_alarm() -> None:
    assert {f.finding_type for f in plain().findings} <= {"lung_nodule"}


def test_volumes_are_given_in_ml_and_add_up() -> None:
    truth = chest().truth().lung_ml
    right, left = value(plain(), "lung_volume_right"), value(plain(), "lung_volume_left")
    assert right == pytest.approx(truth[Side.RIGHT], rel=0.03)
    assert left == pytest.approx(truth[Side.LEFT], rel=0.03)
    assert value(plain(), "lung_volume_total") == pytest.approx(right + left)
    units = {m.measurement_type: m.unit for m in plain().measurements if m.finding_id is None}
    assert units["lung_volume_total"] == "mL"
    assert units["lung_density_total"] == "[hnsf'U]"
    assert units["laa_950_right"] == units["haa_left"] == "%"
    assert all(m.method for m in plain().measurements)


def test_lungs_and_airways_are_outlined() -> None:
    organs = {s.key: s for s in plain().segments if s.finding_id is None}
    assert set(organs) == {"lung_right", "lung_left", "airways"}
    assert organs["lung_right"].volume_ml == pytest.approx(value(plain(), "lung_volume_right"))
    assert organs["lung_right"].code.value == "3341006"
    # where they are: the right lung at smaller x
    middles = {key: float((s.affine @ [*(np.argwhere(s.mask).mean(axis=0)), 1])[0]) for key, s in organs.items()}
    assert middles["lung_right"] < middles["airways"] < middles["lung_left"]


def test_emphysema_is_a_finding_with_all_that_belongs_to_one() -> None:
    (finding,) = (f for f in ill().findings if f.finding_type == "emphysema")
    share = value(ill(), "laa_950_total")
    assert share > 8
    assert f"{share:.1f} %" in finding.description
    assert "tested on phantoms, not on patients" in finding.description
    assert (finding.model, finding.exploratory, finding.above_raise_threshold) == (IDENTITY, True, False)
    assert finding.severity is Level.CRITICAL, "the tenant's table decides"
    assert 0.5 < finding.confidence < 0.96
    assert finding.slice_number is not None
    assert finding.sop_instance_uid == emphysematous().sop_instance_uids[finding.slice_number - 1]
    assert finding.bounding_box is not None
    box = finding.bounding_box
    (outline,) = (s for s in ill().segments if s.finding_id == finding.id)
    points = np.argwhere(outline.mask) @ outline.affine[:3, :3].T + outline.affine[:3, 3]
    slices, rows, columns = np.rint(emphysematous().to_index(points)).astype(int).T
    here = slices == finding.slice_number - 1
    assert np.count_nonzero(here) == np.bincount(slices).max(), "the slice with most of it"
    assert (rows[here].min(), rows[here].max() + 1) == (box.y, box.y + box.height)
    assert (columns[here].min(), columns[here].max() + 1) == (box.x, box.x + box.width)
    assert outline.key == "emphysema"


def test_findings_point_into_the_stored_slices_from_the_head_down() -> None:
    """The same images listed from the head: numbers run the other way, the image and the box are the same."""
    volume = emphysematous()
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, 0] * (len(volume.hu) - 1)
    affine[:, 0] *= -1
    down = replace(volume, hu=volume.hu[::-1].copy(), affine=affine, sop_instance_uids=volume.sop_instance_uids[::-1])
    (one,) = (f for f in read(down).findings if f.finding_type == "emphysema")
    (other,) = (f for f in ill().findings if f.finding_type == "emphysema")
    assert one.sop_instance_uid == other.sop_instance_uid
    assert one.bounding_box == other.bounding_box
    assert one.slice_number == len(volume.hu) + 1 - (other.slice_number or 0)


def test_what_is_no_chest_is_refused_whatever_the_tags_say() -> None:
    reading = read(head(), body_part="CHEST")
    assert reading.refused == "no lungs in it: a CT of another part of the body"
    assert not (reading.findings or reading.measurements or reading.assessed)
    assert "too few" in read(slices_of(chest_volume(), 30, 31)).refused


def test_lungs_that_are_cut_off_get_no_volume_and_nothing_counts_as_assessed() -> None:
    volume = replace(chest_volume(), slice_thickness_mm=THICK_MM)
    reading = read(slices_of(volume, len(volume.hu) * 2 // 5, len(volume.hu)))
    assert reading.refused == ""
    assert reading.assessed == ()
    assert not [m for m in reading.measurements if m.finding_id is None]
    reasons = {n.finding_type: n.reason for n in reading.not_assessed}
    assert reasons["pneumothorax"].startswith("the lungs are cut off at the bottom")


def test_gaps_and_thick_slices_say_what_they_hide() -> None:
    volume = chest_volume()
    gap = VolumeWarning(code=WarningCode.MISSING_SLICES, message="3 slices are missing.")
    reading = read(replace(volume, warnings=(gap,), slice_thickness_mm=THICK_MM))
    reasons = {n.finding_type: n.reason for n in reading.not_assessed}
    assert reasons["lung_nodule"] == "slices of 8.0 mm are too thick, at most 5 mm are usable"
    assert reasons["pleural_effusion"].startswith("slices are missing")
    assert not [f for f in reading.findings if f.finding_type == "lung_nodule"]
    between = VolumeWarning(code=WarningCode.NOT_CONTIGUOUS, message="")
    reading = read(replace(volume, warnings=(between,)))
    reasons = {n.finding_type: n.reason for n in reading.not_assessed}
    assert "between them was not imaged" in reasons["lung_mass"]
    assert "emphysema" in reading.assessed


# --- what several steps found -------------------------------------------------------------------------------------


def region(first: int, last: int) -> Region:
    """A cube of voxels."""
    side = slice(first, last)
    return Region(box=(side, side, side), mask=np.ones((last - first,) * 3, np.bool_))


def dense(first: int, last: int, compactness: float = 0.9) -> Consolidation:
    return Consolidation(
        side="left",
        volume_ml=20.0,
        mean_hu=-40.0,
        slice_index=first,
        region=region(first, last),
        score=0.7,
        compactness=compactness,
    )


def nodule(first: int, last: int, longest_mm: float = 12.0) -> Nodule:
    cube = region(first, last)
    return Nodule(
        centre_mm=(0.0, 0.0, 0.0),
        longest_mm=longest_mm,
        perpendicular_mm=8.0,
        volume_ml=0.5,
        slice_index=first,
        box=cube.box,
        mask=cube.mask,
        density=NoduleDensity.PART_SOLID,
        core_mm=5.0,
        touches_pleura=True,
        touches_vessel=False,
        lung=Tissue.LEFT_LUNG,
        score=0.9,
    )


def test_a_dense_ball_is_a_nodule_once_and_a_round_part_of_a_consolidation_is_none() -> None:
    ball, large, beside = nodule(2, 10), dense(20, 40), nodule(50, 55)
    nodules, regions = told_apart((ball, nodule(25, 30), beside), (dense(2, 11), large))
    assert nodules == (ball, beside)
    assert regions == (large,)


def test_what_is_as_long_as_a_mass_is_one_only_if_it_is_compact() -> None:
    mass, lump, ragged = nodule(2, 40, longest_mm=60.0), dense(2, 42), dense(2, 42, compactness=0.5)
    assert told_apart((mass,), (lump,)) == ((mass,), ())
    assert told_apart((mass,), (ragged,)) == ((), (ragged,))
    small = nodule(2, 40, longest_mm=25.0)  # a nodule on the pleura is flat
    assert told_apart((small,), (ragged,)) == ((small,), ())


def test_a_long_nodule_is_a_mass_and_says_how_it_looks() -> None:
    small, large = nodule_lesions((nodule(2, 10), nodule(2, 10, longest_mm=31.0)))
    assert (small.key, large.key) == ("lung_nodule", "lung_mass")
    assert small.sentence == "Part-solid nodule of 12.0 x 8.0 mm (0.50 mL) in the left lung on the pleura."
    assert large.name == "Mass 2, left"
    assert {(kind, unit) for kind, _, unit in small.sizes} == {
        ("nodule_longest_diameter", "mm"), ("nodule_perpendicular_diameter", "mm"), ("nodule_volume", "mL"),
    }  # fmt: skip


def test_fluid_behind_a_lung_is_named_by_its_side() -> None:
    labels = chest_anatomy().labels.copy()
    middle = labels.shape[2] // 2
    behind = np.zeros(labels.shape, np.bool_)
    behind[20:40, 80:, middle:] = True
    behind &= labels == Tissue.LEFT_LUNG
    labels[behind] = Tissue.PLEURAL_FLUID
    anatomy = ChestAnatomy(volume=chest_volume(), labels=labels)
    (fluid,) = pleural_lesions(fluid_and_air(anatomy))
    assert (fluid.key, fluid.name, fluid.site) == ("pleural_effusion", "Pleural fluid, left", "pleura_left")
    assert fluid.sizes[0][0] == "pleural_effusion_volume_left"
    assert fluid.sizes[0][1] == pytest.approx(np.count_nonzero(behind) * chest_volume().voxel_ml)
    assert behind[fluid.slice_index].sum() == behind.sum(axis=(1, 2)).max()


def test_notes_go_with_the_numbers() -> None:
    volume = replace(chest_volume(), slice_thickness_mm=THICK_MM)
    hu = volume.hu.astype(float)
    blood = (hu > 20) & (hu < 70)
    reading = read(replace(volume, hu=np.where(blood, hu + 180, hu).astype(np.int16)))
    (right,) = (m for m in reading.measurements if m.measurement_type == "laa_950_right")
    assert right.metadata["note"] == "With contrast medium: lung looks denser than without."
