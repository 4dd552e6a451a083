"""How dense the lungs are: volume, mean, emphysema (LAA-950) and high attenuation, of each lung.

Shares are of blocks of voxels of about 2 mm, not of the voxels themselves. A voxel's HU hold the noise of the scan,
which sharp kernels and thin slices raise, and noise pushes voxels below -950 HU that are no emphysema (Madani et al.,
Radiology 2007;243:250; Gierada et al., Acad Radiol 2010;17:146). The mean of a block holds far less; what is left is
measured in the trachea, and if it is too much the shares are refused.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from overread.domain.segment import Mask
from overread.domain.tissue import Tissue
from overread.domain.volume import AIR_HU
from overread.pipeline.analysers.chest_ct.anatomy import ChestAnatomy
from overread.pipeline.analysers.chest_ct.grid import CoarseGrid, coarsen, deeper

#: Low attenuation, HU: emphysema. Gevenois et al. (Am J Respir Crit Care Med 1996;154:187).
LOW_HU = -950.0
#: High attenuation, HU: ground glass, interstitial lung. Lederer et al. (Am J Respir Crit Care Med 2009;180:407).
HIGH_HU = (-600.0, -250.0)
#: Share of both lungs from which emphysema is said to be there, percent: the CT criterion of COPDGene 2019 (Lowe et
#: al., Chronic Obstr Pulm Dis 2019;6:384).
EMPHYSEMA_PERCENT = 5.0
#: Most that noise alone may put below -950 HU for shares to be given, percent of the lung.
MOST_BY_NOISE_PERCENT = 1.0
#: How far from its wall the trachea is looked at, mm, and how many blocks that must leave, in a slice and in all.
_LUMEN_MM, _FEWEST_IN_SLICE, _FEWEST_BLOCKS = 3.0, 5, 40
#: Where one standard deviation above the middle lies among normally distributed values.
_ONE_SIGMA_PERCENTILE = 84.134
_BINS = 4096
_SLAB = 16


@dataclass(frozen=True, kw_only=True)
class LungDensity:
    """Numbers of one lung, or of both."""

    volume_ml: float
    #: Mean of all its voxels, HU, and what 15% of its blocks lie below.
    mean_hu: float
    percentile_15_hu: float
    #: Median of its blocks, HU.
    median_hu: float
    #: Share of its blocks below -950 HU, and between -600 and -250 HU; percent.
    low_percent: float
    high_percent: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Density:
    """Both lungs."""

    right: LungDensity | None
    left: LungDensity | None
    both: LungDensity
    #: Standard deviation of blocks in the trachea, HU; None if there is no trachea wide enough.
    noise_hu: float | None
    #: Size of a block along the axes, mm.
    block_mm: tuple[float, float, float]
    #: Blocks below -950 HU wholly in a lung, and their grid.
    low: Mask
    grid: CoarseGrid

    @property
    def too_noisy(self) -> str:
        """Why shares cannot be trusted, one sentence part; "" if they can."""
        if self.noise_hu is None:
            return "the noise could not be measured without a trachea, and noise looks like emphysema"
        if self.by_noise_percent > MOST_BY_NOISE_PERCENT:
            return f"too noisy ({self.noise_hu:.0f} HU in blocks of 2 mm), and noise looks like emphysema"
        return ""

    @property
    def by_noise_percent(self) -> float:
        """Share of a lung of this median that noise alone puts below -950 HU, percent."""
        if not self.noise_hu:
            return 0.0
        return 100.0 * float(ndtr((LOW_HU - self.both.median_hu) / self.noise_hu))

    @property
    def method(self) -> str:
        """How the shares were made."""
        size = " x ".join(f"{mm:.1f}" for mm in self.block_mm)
        return f"share of blocks of {size} mm (means of voxels, against noise) in the lung, airways taken out"


def measure_density(anatomy: ChestAnatomy, grid: CoarseGrid | None = None) -> Density | None:
    """Density of the lungs of `anatomy`; None if it has none. `grid` is that of its volume, if it is at hand."""
    grid = coarsen(anatomy.volume) if grid is None else grid
    inside = {tissue: grid.whole(anatomy.labels, tissue) for tissue in (Tissue.RIGHT_LUNG, Tissue.LEFT_LUNG)}
    counts = _histograms(anatomy)
    right, left = (
        _lung(counts[tissue], grid.hu[inside[tissue]], anatomy.volume.voxel_ml)
        for tissue in (Tissue.RIGHT_LUNG, Tissue.LEFT_LUNG)
    )
    lungs = inside[Tissue.RIGHT_LUNG] | inside[Tissue.LEFT_LUNG]
    both = _lung(counts[Tissue.RIGHT_LUNG] + counts[Tissue.LEFT_LUNG], grid.hu[lungs], anatomy.volume.voxel_ml)
    if both is None:
        return None
    return Density(
        right=right,
        left=left,
        both=both,
        noise_hu=_noise(anatomy, grid),
        block_mm=grid.spacing_mm,
        low=lungs & (grid.hu < LOW_HU),
        grid=grid,
    )


def _histograms(anatomy: ChestAnatomy) -> dict[Tissue, NDArray[np.int64]]:
    """Voxels of each lung by HU, from -1024."""
    found = {tissue: np.zeros(_BINS, np.int64) for tissue in (Tissue.RIGHT_LUNG, Tissue.LEFT_LUNG)}
    for first in range(0, len(anatomy.labels), _SLAB):
        hu, labels = anatomy.volume.hu[first : first + _SLAB], anatomy.labels[first : first + _SLAB]
        for tissue, counts in found.items():
            values = hu[labels == tissue]
            bins = np.clip(np.rint(values).astype(np.int32) - (AIR_HU - 24), 0, _BINS - 1)
            counts += np.bincount(bins, minlength=_BINS)
    return found


def _lung(counts: NDArray[np.int64], blocks: NDArray[np.float32], voxel_ml: float) -> LungDensity | None:
    voxels = int(counts.sum())
    if voxels == 0 or blocks.size == 0:
        return None
    mean = float((counts * np.arange(_BINS)).sum() / voxels) + AIR_HU - 24
    high = (blocks >= HIGH_HU[0]) & (blocks <= HIGH_HU[1])
    return LungDensity(
        volume_ml=voxels * voxel_ml,
        mean_hu=mean,
        median_hu=float(np.median(blocks)),
        percentile_15_hu=float(np.percentile(blocks, 15)),
        low_percent=100.0 * float(np.mean(blocks < LOW_HU)),
        high_percent=100.0 * float(np.mean(high)),
    )


def _noise(anatomy: ChestAnatomy, grid: CoarseGrid) -> float | None:
    """Standard deviation of blocks inside the trachea and the main bronchi, within slices, HU.

    From the brighter half, since files end at -1024 HU and cut the darker one.
    """
    lumen = deeper(grid.whole(anatomy.labels, Tissue.AIRWAYS), grid.spacing_mm, _LUMEN_MM)
    planes = (grid.hu[index][lumen[index]] for index in np.flatnonzero(lumen.any(axis=(1, 2))))
    rest = [values - np.median(values) for values in planes if values.size >= _FEWEST_IN_SLICE]
    if sum(values.size for values in rest) < _FEWEST_BLOCKS:
        return None
    return float(np.percentile(np.concatenate(rest), _ONE_SIGMA_PERCENTILE))
