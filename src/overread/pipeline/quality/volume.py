"""Quality of a CT volume (Hounsfield units) or an MR volume (no unit), from a sample of its voxels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from overread.domain.modality import Modality
from overread.domain.volume import Floats, Volume, WarningCode
from overread.pipeline.quality import measures
from overread.pipeline.quality import volume_measures as measure
from overread.pipeline.quality.edges import edge_blur
from overread.pipeline.quality.score import Check, ImageQuality, IssueType, Scale
from overread.pipeline.quality.volume_measures import Overview

#: Length of the gaps, mm: a nodule of that size can lie in it unseen.
MISSING = Scale(clear=0.0, mild=0.5, moderate=5.0, severe=15.0)
#: Noise in soft tissue, HU. Diagnostic chest CT has 10 to 30 with a soft kernel, and 40 to 60 with a sharp one.
NOISE_HU = Scale(clear=45.0, mild=60.0, moderate=90.0, severe=140.0)
#: MR noise as a share of the signal (99th percentile).
NOISE_MR = Scale(clear=0.035, mild=0.05, moderate=0.075, severe=0.11)
#: How far a slice lies off its two neighbours, in terms of how far those lie from each other.
JUMPS = Scale(clear=1.0, mild=1.3, moderate=1.8, severe=2.5)
#: Share of the field of view's border that the body reaches in half of the slices (shoulders often do at the top).
BODY_CUT = Scale(clear=0.06, mild=0.1, moderate=0.25, severe=0.45)
#: Lung area of the first or last slice, as a share of the largest.
LUNG_CUT = Scale(clear=0.04, mild=0.08, moderate=0.2, severe=0.4)
#: Share of the slices with metal whose soft tissue is streaked.
METAL = Scale(clear=0.0, mild=0.02, moderate=0.15, severe=0.4)
#: Spread of 98% of the voxels, HU: air and soft tissue alone make 1000.
CONTRAST_HU = Scale(clear=500.0, mild=300.0, moderate=200.0, severe=100.0)
#: Value at the border of the slices, HU: air is -1000, a body that is cut off 0, exchanged values are 1000.
INVERTED_HU = Scale(clear=150.0, mild=250.0, moderate=350.0, severe=500.0)
#: Blur within slices, sigma in mm (CT), or in thousandths of the longer side (MR).
BLUR_MM = Scale(clear=1.2, mild=1.6, moderate=2.2, severe=3.2)
BLUR_MR = Scale(clear=6.0, mild=8.0, moderate=11.0, severe=15.0)
#: Share of the body's voxels at the end of the range of values.
CLIPPED = Scale(clear=0.005, mild=0.01, moderate=0.03, severe=0.1)
#: Share of slices without any content.
BLANK = Scale(clear=0.0, mild=0.005, moderate=0.02, severe=0.05)

_SEND_AGAIN = "Send the series again from the scanner, and repeat it if it is incomplete there too."
_STILL = "Repeat the affected part with the patient still and in one breath hold, or with a shorter rotation."


def assess_volume(
    volume: Volume, *, lungs: NDArray[np.bool_] | None = None, modality: Modality = Modality.CT
) -> ImageQuality:
    """Quality of `volume`. `lungs`, of the volume's shape and axes, says where the lungs are.

    Without `lungs`, air inside the body is taken for lung if there is half a litre of it. Small means of all slices,
    and a sample of slices, are looked at: 300 x 512 x 512 takes a second or two, and no copy of the volume.
    Raises ValueError for `lungs` of another shape.
    """
    if lungs is not None and lungs.shape != volume.hu.shape:
        raise ValueError(f"lungs are {lungs.shape}, the volume is {volume.hu.shape}")
    view = measure.overview(volume)
    notes: list[str] = []
    checks = [_missing(volume), _blank(view)]
    if modality is Modality.CT:
        checks.extend(_ct(volume, view, lungs))
    else:
        checks.extend(_mr(volume, view))
    if len(view.planes) < 5:
        notes.append("Motion between slices was not assessed: there are fewer than 5 slices.")
    return ImageQuality(
        modality=modality, uid=volume.series_instance_uid, checks=tuple(checks), notes=tuple(notes), is_volume=True
    )


def _ct(volume: Volume, view: Overview, lungs: NDArray[np.bool_] | None) -> list[Check]:
    slices, outline = measure.stack(volume), measure.body(view)
    at = measure.sample(len(slices))
    noise = [measure.soft_noise(slices[index]) for index in at]
    checks = [
        _noise_hu([value for value in noise if value is not None]),
        _jumps(measure.jumps(view.planes)),
        _blur_mm(volume, at),
        _metal(measure.streaks(slices, at, noise)),
        _clipped(measure.window_clipped(slices, at, outline, view.factor)),
        _contrast(view),
        _inverted(measure.border_level(view.planes)),
        _body_cut(measure.body_cut(slices, at)),
    ]
    if abs(volume.affine[2, volume.slice_axis]) > 0.7 * view.step_mm:
        areas = measure.lung_areas(view, outline) if lungs is None else _areas(volume, lungs)
        if areas is not None:
            upwards = bool(volume.affine[2, volume.slice_axis] > 0)
            checks.append(_lungs_cut(areas, measure.gap_beside(volume), upwards=upwards))
    return checks


def _areas(volume: Volume, lungs: NDArray[np.bool_]) -> Floats:
    others = tuple(axis for axis in range(3) if axis != volume.slice_axis)
    return np.asarray(np.count_nonzero(lungs, axis=others), np.float64)


def _mr(volume: Volume, view: Overview) -> list[Check]:
    top = max(float(np.percentile(view.planes, 99.0)), 1e-6)
    slices = measure.stack(volume)
    shown = [np.clip(slices[index] / np.float32(top), 0.0, 1.0) for index in measure.sample(len(slices))]
    share = float(np.median([measures.noise(plane) for plane in shown]))
    blurs = [1000 * max(edge_blur(plane)) / max(plane.shape) for plane in shown[::3]]
    blur = float(np.median(blurs))
    scaled = np.asarray(view.planes * np.float32(1000 / top) - np.float32(1000), np.float32)
    return [
        Check(
            type=IssueType.NOISE,
            grade=NOISE_MR.grade(share),
            description=f"Noise from pixel to pixel is {share:.1%} of the signal.",
            recommendation="Repeat with more averages, a larger voxel or a better fitting coil.",
        ),
        _jumps(measure.jumps(scaled)),
        Check(
            type=IssueType.MOTION,
            grade=BLUR_MR.grade(blur),
            description=f"Edges within slices are smeared by {blur / 1000:.1%} of the image's side, as by motion.",
            recommendation=_STILL,
        ),
    ]


def _missing(volume: Volume) -> Check:
    step = float(np.linalg.norm(volume.affine[:3, volume.slice_axis]))
    gap = volume.has(WarningCode.MISSING_SLICES)
    lost = max(sum(len(w.positions_mm) for w in volume.warnings if w.code is WarningCode.MISSING_SLICES), int(gap))
    length = max(lost * step, MISSING.mild) if gap else 0.0
    text = f"{lost} slices are missing, {length:.0f} mm of the body."
    if not gap and volume.has(WarningCode.VARIABLE_SPACING):
        length = MISSING.mild
        text = "The distance between slices changes within the series, so that it was cut into parts."
    return Check(
        type=IssueType.MISSING_SLICES, grade=MISSING.grade(length), description=text, recommendation=_SEND_AGAIN
    )


def _blank(view: Overview) -> Check:
    share = measure.blank(view.planes)
    return Check(
        type=IssueType.TRUNCATED,
        grade=BLANK.grade(share),
        description=f"{share:.1%} of the slices hold a single value.",
        recommendation=_SEND_AGAIN,
    )


def _noise_hu(noise: list[float]) -> Check:
    sigma = float(np.median(noise)) if noise else 0.0
    return Check(
        type=IssueType.NOISE,
        grade=NOISE_HU.grade(sigma),
        description=f"Noise in soft tissue is {sigma:.0f} HU (standard deviation).",
        recommendation="Reconstruct with a softer kernel or thicker slices, and check the dose.",
    )


def _jumps(figure: float) -> Check:
    return Check(
        type=IssueType.MOTION,
        grade=JUMPS.grade(figure),
        description=f"In the worst tenth of the slices edges lie {figure:.1f} times as far off their neighbours as "
        "those lie apart, as by breathing or movement.",
        recommendation=_STILL,
    )


def _blur_mm(volume: Volume, at: list[int]) -> Check:
    slices = measure.stack(volume)
    spacing = [mm for axis, mm in enumerate(volume.spacing_mm) if axis != volume.slice_axis]
    sigmas: list[float] = []
    for index in at[::3]:
        shown = np.clip((slices[index].astype(np.float32) + 1000) / 1400, 0.0, 1.0)
        down, along = edge_blur(shown)
        sigmas.append(max(down * spacing[0], along * spacing[1]))
    sigma = float(np.median(sigmas))
    return Check(
        type=IssueType.MOTION,
        grade=BLUR_MM.grade(sigma),
        description=f"Edges within slices are smeared by {sigma:.1f} mm, as by motion.",
        recommendation=_STILL,
    )


def _metal(share: float) -> Check:
    return Check(
        type=IssueType.METAL,
        grade=METAL.grade(share),
        description=f"Streaks from metal cross {share:.0%} of the slices.",
        recommendation="Take metal out of the field if it can be, and reconstruct with metal artefact reduction.",
    )


def _clipped(share: float) -> Check:
    return Check(
        type=IssueType.CLIPPING,
        grade=CLIPPED.grade(share),
        description=f"{share:.1%} of the body's voxels have the highest or lowest value that there is: "
        "values were cut.",
        recommendation="Send the original series, not one that was windowed or converted.",
    )


def _contrast(view: Overview) -> Check:
    low, high = np.percentile(view.planes[:, ::2, ::2], (1.0, 99.0))
    spread = float(high - low)
    return Check(
        type=IssueType.CONTRAST,
        grade=CONTRAST_HU.grade(spread),
        description=f"98% of the voxels lie within {spread:.0f} HU.",
        recommendation="Check that the rescale values are right and that the series shows a patient.",
    )


def _inverted(level: float) -> Check:
    return Check(
        type=IssueType.INVERTED,
        grade=INVERTED_HU.grade(level),
        description=f"The border of the slices has {level:.0f} HU, and air has -1000: values seem to be exchanged.",
        recommendation="Check the rescale values, and send the series again.",
    )


def _body_cut(share: float) -> Check:
    return Check(
        type=IssueType.CUT_OFF,
        grade=BODY_CUT.grade(share),
        description=f"The body reaches {share:.0%} of the border of the field of view and is cut off there.",
        recommendation="Reconstruct with a larger field of view, and centre the patient.",
    )


def _lungs_cut(areas: Floats, gaps: tuple[bool, bool], *, upwards: bool) -> Check:
    first, last = (0.0 if gap else share for share, gap in zip(measure.lungs_cut(areas), gaps, strict=True))
    top, bottom = (last, first) if upwards else (first, last)
    where, share = ("top", top) if top >= bottom else ("bottom", bottom)
    return Check(
        type=IssueType.CUT_OFF,
        grade=LUNG_CUT.grade(share),
        description=f"The lungs are cut off at the {where}: "
        f"the outermost slice still holds {share:.0%} of their largest area.",
        recommendation="Repeat with a range from above the apices to below the costophrenic angles.",
    )
