"""Chest CT by numbers: recognise -> anatomy -> pleura -> density -> consolidation -> nodules -> what is said of it."""

from __future__ import annotations

from overread.domain.evidence import ModelIdentity
from overread.domain.image import ImageHeader
from overread.domain.modality import Modality
from overread.domain.volume import Volume, WarningCode
from overread.pipeline.analysers.chest_ct import consolidation, pleura
from overread.pipeline.analysers.chest_ct.anatomy import ChestAnatomy, outline
from overread.pipeline.analysers.chest_ct.density import measure_density
from overread.pipeline.analysers.chest_ct.lesions import (
    consolidation_lesions,
    emphysema,
    nodule_lesions,
    pleural_lesions,
    told_apart,
)
from overread.pipeline.analysers.chest_ct.nodules import LEAST_MM, find_nodules, least_mm
from overread.pipeline.analysers.chest_ct.recognise import THICKEST_MM, Recognition, recognise
from overread.pipeline.analysers.chest_ct.report import Report
from overread.pipeline.analysers.chest_ct.survey import NotAChest, Survey, survey
from overread.pipeline.analysers.contract import ReadingContext, VolumeReading

IDENTITY = ModelIdentity(name="chest_ct", version="1.0.0")
_NODULES = ("lung_nodule", "lung_mass")
_PLEURA = ("pneumothorax", "pleural_effusion")
_EMPHYSEMA = ("emphysema",)
_CONSOLIDATION = ("consolidation",)


class ChestCt:
    """The analyser of chest CT volumes. It has no state."""

    @property
    def identity(self) -> ModelIdentity:
        """Name and version."""
        return IDENTITY

    @property
    def modality(self) -> Modality:
        """CT."""
        return Modality.CT

    def read(self, volume: Volume, header: ImageHeader, context: ReadingContext) -> VolumeReading:
        """Read `volume`. Tags in `header` are not believed: the voxels say what it is.

        Where lungs are cut off or slices are missing, findings are still given, but no type counts as assessed: what
        lies outside may hold one. Their volumes and shares are then not given either.
        """
        del header
        try:
            seen = survey(volume)
        except NotAChest as error:
            return VolumeReading(refused=error.message)
        known = recognise(seen)
        if known.refused:
            return VolumeReading(refused=known.refused, body_part=known.body_part)
        anatomy = pleura.complete(outline(seen))
        report = Report(
            stored=volume, upright=seen.volume, identity=IDENTITY, context=context, note=" ".join(known.notes)
        )
        report.organs(anatomy)
        partly = _only_partly(volume, known)
        _density(report, anatomy, seen, partly)
        for lesion in pleural_lesions(pleura.fluid_and_air(anatomy)):
            report.lesion(lesion)
        report.looked_for(_PLEURA, partly)
        dense = consolidation.find(anatomy)
        if not partly:
            report.dense(dense)
        regions = dense.regions
        too_thick = _too_thick(volume, known)
        if not too_thick:
            nodules, regions = told_apart(find_nodules(anatomy), regions)
            for lesion in nodule_lesions(nodules):
                report.lesion(lesion)
        for lesion in consolidation_lesions(regions):
            report.lesion(lesion)
        report.looked_for(_CONSOLIDATION, partly)
        report.looked_for(_NODULES, too_thick or partly)
        if not too_thick and (least := least_mm(seen.volume.spacing_mm)) > LEAST_MM:
            report.left_out(f"Nodules shorter than {least:.1f} mm", "pixels or slices are too coarse to tell them")
        return report.done()


def _density(report: Report, anatomy: ChestAnatomy, seen: Survey, partly: str) -> None:
    density = measure_density(anatomy, seen.grid)
    if density is None:
        report.looked_for(_EMPHYSEMA, "the lungs hold no air to measure")
        return
    if not partly:
        report.volumes(density)
        if not density.too_noisy:
            report.shares(density)
            found = emphysema(density)
            if found is not None:
                report.lesion(found)
    report.looked_for(_EMPHYSEMA, partly or density.too_noisy)


def _only_partly(volume: Volume, known: Recognition) -> str:
    """Why the volume does not show all of the lungs; "" if it does."""
    if known.cut_off:
        return f"{known.cut_off}, and only what is in the slices could be looked at"
    if volume.has(WarningCode.MISSING_SLICES):
        return "slices are missing, and only what is in the others could be looked at"
    return ""


def _too_thick(volume: Volume, known: Recognition) -> str:
    """Why nodules cannot be looked for; "" if they can."""
    if known.thickness_mm > THICKEST_MM:
        return f"slices of {known.thickness_mm:.1f} mm are too thick, at most {THICKEST_MM:.0f} mm are usable"
    if volume.has(WarningCode.NOT_CONTIGUOUS):
        return "slices are thinner than their distance, and what lies between them was not imaged"
    return ""
