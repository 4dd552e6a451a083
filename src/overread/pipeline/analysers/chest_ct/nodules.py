"""Lung nodule candidates by classical methods: blobs, then bodies, then what their shape says. See `find_nodules`."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from overread.domain.catalogue import MASS_MM
from overread.domain.segment import Mask
from overread.domain.tissue import Tissue
from overread.pipeline.analysers.chest_ct.anatomy import ChestAnatomy
from overread.pipeline.analysers.chest_ct.nodule_measure import NoduleDensity, measure
from overread.pipeline.analysers.chest_ct.nodule_pleura import push_out
from overread.pipeline.analysers.chest_ct.nodule_score import LEAST_SCORE, score_of
from overread.pipeline.analysers.chest_ct.nodule_seeds import Seed, Sides, Spacing, find_seeds, median_hu
from overread.pipeline.analysers.chest_ct.nodule_shape import Body, body_of, distance_to

__all__ = ["METHOD", "Nodule", "NoduleDensity", "find_nodules"]

METHOD = "Laplacian of Gaussian blobs, opened at half contrast, scored by shape"
#: Nothing shorter is reported, mm: it is no more than a micronodule, which is not measured (Fleischner Society 2017,
#: Radiology 2017;285:584), and as thin as the vessels are that cannot be told from it.
LEAST_MM = 4.0
#: It must span so many pixels, and so many slices, or its shape is not told from a vessel's. With pixels up to 0.8 mm
#: and slices up to 2.5 mm, which is what the method was fitted and proven on, `LEAST_MM` decides.
_LEAST_PIXELS, _LEAST_SLICES = 5.0, 1.6
#: Shorter than this, sub-solid ones need no follow-up (Fleischner 2017), and thin vessels cut across look alike: they
#: must score more.
SUBSOLID_MM, LEAST_SUBSOLID_SCORE = 6.0, 0.8
#: How near to the airways, mm, a larger share of a body's shell makes it a part of the hilum.
_HILUM_MM, _MOST_HILUM = 2.5, 0.03
#: Share of the shell around it from which a nodule touches the pleura, and a vessel.
_TOUCHES_PLEURA, _TOUCHES_VESSEL = 0.08, 0.01
#: Share of ground glass from which something seen among faint values is part-solid; with less it is found elsewhere.
_LEAST_GLASS = 0.5
#: The pleura is looked at closely under what scores at least this.
_WORTH_A_LOOK = 0.1
#: What scores less than this goes behind the others, unless it is ground glass: its core scores more than the whole.
_SURE = 0.75


@dataclass(frozen=True, kw_only=True, eq=False)
class Nodule:
    """A nodule candidate. Frozen: `mask` is made read-only."""

    #: Middle, (x, y, z) mm, LPS+.
    centre_mm: tuple[float, float, float]
    #: Longest axial diameter, where it is longest, and the longest at right angles in the same slice, mm.
    longest_mm: float
    perpendicular_mm: float
    #: With partial volume counted, mL; of a part-solid nodule with its ground glass.
    volume_ml: float
    #: Index along axis 0 of the anatomy's volume of the slice of the diameters.
    slice_index: int
    #: Index ranges along axes 0, 1, 2 of the anatomy's volume; `mask` is bool of their shape.
    box: Sides
    mask: Mask
    density: NoduleDensity
    #: Longest axial diameter of the solid part, mm: 0 for ground glass, `longest_mm` for a solid nodule.
    core_mm: float
    touches_pleura: bool
    touches_vessel: bool
    #: The lung that it lies in: `Tissue.RIGHT_LUNG` or `Tissue.LEFT_LUNG`.
    lung: Tissue
    #: How nodule-like its shape is, 0..1; see `nodule_score`. Not a probability of disease.
    score: float

    def __post_init__(self) -> None:
        self.mask.flags.writeable = False

    @property
    def effective_mm(self) -> float:
        """Diameter of the ball of the same volume, mm."""
        return float((6000 * self.volume_ml / np.pi) ** (1 / 3))

    @property
    def is_mass(self) -> bool:
        """Whether it is longer than `MASS_MM`."""
        return self.longest_mm > MASS_MM


def find_nodules(anatomy: ChestAnatomy, *, exclude: Mask | None = None) -> tuple[Nodule, ...]:
    """Nodule candidates of 4 to about 60 mm in both lungs, from the highest score down.

    ``exclude``, bool of the volume's shape, is lung in which nodules cannot be told, as consolidation. Seeds are blobs
    (`nodule_seeds`), each becomes a body or nothing (`nodule_shape`), is measured (`nodule_measure`) and scored by its
    shape (`nodule_score`); what scores less than `LEAST_SCORE` is a vessel, a fissure or noise, and is left out.
    Raises ValueError for an ``exclude`` of another shape.
    """
    if exclude is not None and exclude.shape != anatomy.labels.shape:
        raise ValueError(f"exclude has the shape {exclude.shape}, the volume {anatomy.labels.shape}")
    least = least_mm(anatomy.volume.spacing_mm)
    lungs = (Tissue.RIGHT_LUNG, Tissue.LEFT_LUNG)
    # numpy and scipy let the other thread run; in the order of `lungs` whichever is done first
    with ThreadPoolExecutor(len(lungs), "nodules") as pool:
        likely = list(pool.map(lambda lung: _likely(anatomy, lung, exclude), lungs))
    found = [(score, lung, body) for lung, some in zip(lungs, likely, strict=True) for score, body in some]
    # of those that are the same thing, the one that holds the largest ball: the whole and not the core or an end of it
    found.sort(key=lambda entry: (entry[0] < _SURE and not entry[2].seed.is_faint, -entry[2].ball_mm))
    kept: list[tuple[Nodule, Body]] = []
    for score, lung, body in found:
        if any(_same(body, other) for _, other in kept) or _in_hilum(anatomy, body):
            continue
        nodule = _nodule(anatomy, lung, body, score)
        if nodule is not None and _worth_saying(nodule, least):
            kept.append((nodule, body))
    return tuple(sorted((nodule for nodule, _ in kept), key=lambda nodule: -nodule.score))


def _likely(anatomy: ChestAnatomy, lung: Tissue, exclude: Mask | None) -> list[tuple[float, Body]]:
    """Scores and bodies of one lung that score enough."""
    scored = [(score_of(body), body) for body in bodies(anatomy, lung, exclude)]
    return [(score, body) for score, body in scored if score >= LEAST_SCORE]


def bodies(anatomy: ChestAnatomy, lung: Tissue, exclude: Mask | None = None) -> Iterator[Body]:
    """What the blobs of one lung turn out to be, scored or not; several may be the same thing."""
    hu, spacing = anatomy.volume.hu, anatomy.volume.spacing_mm
    inside = anatomy.labels == lung
    seen: list[Body] = []
    patched: Mask | None = None
    seeds = find_seeds(hu, inside, spacing)
    air = median_hu(hu, inside) if seeds else 0.0
    for seed in seeds:
        place = np.asarray(seed.index)
        if any(_covers(body, place, seed) for body in seen):
            continue
        if exclude is not None and exclude[_nearest(place, exclude.shape)]:
            continue
        body = body_of(hu, inside, spacing, seed, air)
        if body is not None and body.wall >= _TOUCHES_PLEURA and score_of(body) >= _WORTH_A_LOOK:
            patched = inside.copy() if patched is None else patched
            if push_out(patched, hu, spacing, body):
                body = body_of(hu, patched, spacing, seed, air)
        if seed.is_faint and (body is None or score_of(body) < LEAST_SCORE):
            bare = body_of(hu, inside, spacing, seed, air, without_vessels=True)
            body = body if bare is None or (body is not None and score_of(bare) <= score_of(body)) else bare
        if body is None or (seed.is_faint and body.glass < _LEAST_GLASS):
            continue
        if exclude is None or not exclude[_nearest(body.centre, exclude.shape)]:
            seen.append(body)
            yield body


def least_mm(spacing_mm: Spacing) -> float:
    """The shortest nodule that is reported in a volume with this spacing (slices, rows, columns), mm."""
    between, down, along = spacing_mm
    return max(LEAST_MM, _LEAST_PIXELS * max(down, along), _LEAST_SLICES * between)


def _worth_saying(nodule: Nodule, least: float) -> bool:
    """Whether it is long enough for the volume and for what it is made of, and for its score."""
    if nodule.density is not NoduleDensity.SOLID and nodule.longest_mm < SUBSOLID_MM:
        return nodule.longest_mm >= least and nodule.score >= LEAST_SUBSOLID_SCORE
    return nodule.longest_mm >= least


def _nearest(index: NDArray[np.float64], shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(np.clip(round(float(i)), 0, n - 1)) for i, n in zip(index, shape, strict=True))


def _covers(body: Body, place: NDArray[np.float64], seed: Seed) -> bool:
    """Whether a seed there would only find ``body`` again."""
    away = float(np.linalg.norm((body.centre - place) * np.asarray(body.crop.spacing)))
    alike = 0.6 * seed.diameter_mm < body.diameter_mm < 1.6 * seed.diameter_mm
    return alike and away < 0.4 * body.ball_mm and seed.is_faint == body.seed.is_faint


def _same(one: Body, other: Body) -> bool:
    away = float(np.linalg.norm((one.centre - other.centre) * np.asarray(one.crop.spacing)))
    return away < 0.45 * max(one.diameter_mm, other.diameter_mm)


def _nodule(anatomy: ChestAnatomy, lung: Tissue, body: Body, score: float) -> Nodule | None:
    size = measure(body, anatomy.volume.hu)
    if size is None:
        return None
    box, mask = _on_voxels(body, anatomy.labels.shape)
    x, y, z = (float(value) for value in anatomy.volume.to_mm(body.centre))
    return Nodule(
        centre_mm=(x, y, z),
        longest_mm=size.axial.longest_mm,
        perpendicular_mm=size.axial.perpendicular_mm,
        volume_ml=size.volume_ml,
        slice_index=size.axial.slice_index,
        box=box,
        mask=mask,
        density=size.density,
        core_mm=size.core_mm,
        touches_pleura=body.wall >= _TOUCHES_PLEURA,
        touches_vessel=body.attached >= _TOUCHES_VESSEL,
        lung=lung,
        score=score,
    )


def _in_hilum(anatomy: ChestAnatomy, body: Body) -> bool:
    """Whether it lies against the airways that were followed, as the vessels of the hilum do."""
    out = distance_to(body.mask, _HILUM_MM / body.crop.step_mm) * body.crop.step_mm
    shell = np.argwhere((out > 0) & (out <= _HILUM_MM))
    index = np.rint(body.crop.index(shell.astype(np.float64))).astype(int)
    inside = ((index >= 0) & (index < anatomy.labels.shape)).all(axis=1)
    labels = anatomy.labels[tuple(index[inside].T)]
    return int(np.count_nonzero(labels == Tissue.AIRWAYS)) > _MOST_HILUM * max(len(shell), 1)


def _on_voxels(body: Body, shape: tuple[int, ...]) -> tuple[Sides, Mask]:
    """The body's mask on the volume's own voxels, and their index ranges; at least one voxel."""
    crop = body.crop
    cells = np.argwhere(body.mask)
    low, high = crop.index(cells.min(axis=0) - 0.5), crop.index(cells.max(axis=0) + 0.5)
    sides, places = [], []
    for axis in range(3):
        start = int(np.clip(np.floor(low[axis]), 0, shape[axis] - 1))
        stop = int(np.clip(np.ceil(high[axis]) + 1, start + 1, shape[axis]))
        sides.append(slice(start, stop))
        places.append((np.arange(start, stop) - crop.origin[axis]) * crop.spacing[axis] / crop.step_mm)
    grid = np.meshgrid(*places, indexing="ij")
    share = ndimage.map_coordinates(body.mask.astype(np.float32), grid, order=1, mode="constant")
    mask = share >= min(0.5, float(share.max()))
    ranges = [np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
    inner = tuple(slice(int(r[0]), int(r[-1]) + 1) for r in ranges)
    box = tuple(slice(s.start + i.start, s.start + i.stop) for s, i in zip(sides, inner, strict=True))
    return (box[0], box[1], box[2]), np.array(mask[inner])
