"""Whether a CT shows a chest, and how much of it, by its voxels alone: tags may be stripped or lie."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from overread.domain.segment import Mask
from overread.domain.volume import WarningCode
from overread.pipeline.analysers.chest_ct.lungs import CoarseLungs
from overread.pipeline.analysers.chest_ct.survey import Survey

OTHER_PART = "no lungs in it: a CT of another part of the body"
ONLY_BASES = "only the lower ends of the lungs are in it: a CT of the abdomen, or a chest that is cut off"
ONLY_APICES = "only the upper ends of the lungs are in it: a CT of the neck, or a chest that is cut off"
UPSIDE_DOWN = "the trachea lies below the lungs: the positions of its slices cannot be right"
BACK_TO_FRONT = "the spine lies in front: the orientation of its slices cannot be right"

#: Lungs smaller than this are none, unless slices above or below are missing; both together, mL.
_BOTH_ML = 500.0
#: Median HU that lung can have; between bullae and lungs without air.
_MEDIAN_HU = (-970.0, -450.0)
#: Share of the body's cross-section that lungs reach in some slice. Bowel gas does not.
_CROSS_SECTION = 0.12
#: Share of the volume's height that lungs must have if they are cut off.
_HEIGHT_SHARE = 0.5
#: What is left of a lung where it ends within the volume, share of its largest cross-section.
_ENDED = 0.08
#: Thickest slices on which nodules are looked for, mm: MacMahon et al. (Radiology 2017;284:228) ask for thin sections.
THICKEST_MM = 5.0
#: Blood in front of the carina: about 40 HU without contrast medium.
_CONTRAST_HU = 90.0
_BONE_HU = 200.0


@dataclass(frozen=True, kw_only=True)
class Recognition:
    """What a volume was taken for."""

    #: Why it is not read; "" if it is.
    refused: str = ""
    #: BodyPartExamined term by the voxels; None if it is not known.
    body_part: str | None = None
    #: Whether the lungs end within the volume.
    whole_above: bool = True
    whole_below: bool = True
    #: Distance of slices or their thickness, whichever is larger, mm.
    thickness_mm: float = 0.0
    #: Whether blood is brighter than it is without contrast medium; None if it could not be looked at.
    contrast: bool | None = None
    #: What a reader should know, each a sentence.
    notes: tuple[str, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether both ends of the lungs are in it."""
        return self.whole_above and self.whole_below

    @property
    def cut_off(self) -> str:
        """Where the lungs are cut off, as part of a sentence; "" if nowhere."""
        ends = [name for name, whole in (("top", self.whole_above), ("bottom", self.whole_below)) if not whole]
        return f"the lungs are cut off at the {' and the '.join(ends)}" if ends else ""


def recognise(seen: Survey) -> Recognition:
    """Judge what a survey found."""
    if seen.lungs is None:
        return Recognition(refused=OTHER_PART)
    lungs = seen.lungs.both
    areas = lungs.sum(axis=(1, 2))
    above, below = _ends(areas)
    refused = _implausible(seen, seen.lungs, areas, cut=not (above and below))
    if not refused and not (above and below):
        refused = _too_little(areas, above=above, below=below, trachea=seen.airways is not None)
    if not refused:
        refused = _turned(seen, lungs)
    thickness = max(seen.volume.spacing_mm[0], seen.volume.slice_thickness_mm or 0.0)
    if refused:
        return Recognition(refused=refused, thickness_mm=thickness)
    contrast = _contrast(seen)
    return Recognition(
        body_part="CHEST",
        whole_above=above,
        whole_below=below,
        thickness_mm=thickness,
        contrast=contrast,
        notes=_notes(seen, seen.lungs, contrast),
    )


def _ends(areas: np.ndarray[tuple[int], np.dtype[np.intp]]) -> tuple[bool, bool]:
    """Whether the lungs end above and below, from their cross-section in each slice (from the feet)."""
    small = _ENDED * float(areas.max())
    return bool(areas[-1] <= small), bool(areas[0] <= small)


def _implausible(
    seen: Survey, lungs: CoarseLungs, areas: np.ndarray[tuple[int], np.dtype[np.intp]], *, cut: bool
) -> str:
    body = seen.body.sum(axis=(1, 2))
    share = float((areas / np.maximum(body, 1)).max())
    too_small = not cut and seen.grid.ml(lungs.both) < _BOTH_ML
    if too_small or share < _CROSS_SECTION or not _MEDIAN_HU[0] <= lungs.median_hu <= _MEDIAN_HU[1]:
        return OTHER_PART
    alone = not lungs.right.any() or not lungs.left.any()
    if alone and seen.airways is None:
        return OTHER_PART
    return ""


def _too_little(areas: np.ndarray[tuple[int], np.dtype[np.intp]], *, above: bool, below: bool, trachea: bool) -> str:
    share = int(np.count_nonzero(areas)) / len(areas)
    if share >= _HEIGHT_SHARE:
        return ""
    if not above and below and not trachea:
        return ONLY_BASES
    return ONLY_APICES if above and not below else ""


def _turned(seen: Survey, lungs: Mask) -> str:
    levels = np.flatnonzero(lungs.any(axis=(1, 2)))
    if seen.airways is not None and sum(seen.airways.trachea) / 2 < float(np.median(levels)):
        return UPSIDE_DOWN
    if _spine_in_front(seen, levels):
        return BACK_TO_FRONT
    return ""


def _spine_in_front(seen: Survey, levels: np.ndarray[tuple[int], np.dtype[np.intp]]) -> bool:
    """Whether bone near the midline is in the front third of the body and not in the back third."""
    body = seen.body[levels]
    rows, columns = np.flatnonzero(body.any(axis=(0, 2))), np.flatnonzero(body.any(axis=(0, 1)))
    middle = round(float(columns.mean()))
    half = max(1, round(25.0 / seen.grid.spacing_mm[2]))
    strip = seen.grid.hu[levels, rows[0] : rows[-1] + 1, max(0, middle - half) : middle + half + 1] > _BONE_HU
    third = strip.shape[1] // 3
    front, back = float(strip[:, :third].mean()), float(strip[:, -third:].mean())
    return back < 0.05 and front > 2 * back and front > 0.12


def _contrast(seen: Survey) -> bool | None:
    """Whether the blood in heart and great vessels, in front of the carina and below, is bright."""
    if seen.airways is None:
        return None
    deep, high, wide = seen.grid.spacing_mm
    carina = seen.airways.trachea[0]
    middle, row = round(seen.airways.middle_column), round(seen.airways.carina_row)
    part = (
        slice(max(0, carina - round(60.0 / deep)), carina),
        slice(max(0, row - round(60.0 / high)), max(1, row - round(12.0 / high))),
        slice(max(0, middle - round(30.0 / wide)), middle + round(30.0 / wide)),
    )
    values = seen.grid.hu[part][seen.body[part]]
    soft = values[(values > 0.0) & (values < 700.0)]
    return bool(np.median(soft) > _CONTRAST_HU) if soft.size >= 50 else None


def _notes(seen: Survey, lungs: CoarseLungs, contrast: bool | None) -> tuple[str, ...]:
    notes = []
    if not lungs.right.any() or not lungs.left.any():
        notes.append(f"Only the {'right' if lungs.right.any() else 'left'} lung holds air.")
    if seen.airways is None:
        notes.append("No trachea was found: airways are counted with the lungs.")
    elif not seen.airways.followed:
        notes.append("The bronchi could not be followed: they are counted with the lungs.")
    if lungs.touching:
        notes.append("The lungs touch each other; where they do, their border is an estimate.")
    if contrast:
        notes.append("With contrast medium: lung looks denser than without.")
    notes.extend(w.message for w in seen.volume.warnings if w.code is WarningCode.GANTRY_TILT)
    return tuple(notes)
