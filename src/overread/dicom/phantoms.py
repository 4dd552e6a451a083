"""Phantoms as DICOM files: those of the demo, rendered once and kept; and CT series, good ones and bad ones."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from overread.dicom.create import (
    CtAttributes,
    ImageIdentity,
    RadiographAttributes,
    Syntax,
    create_ct,
    create_dx,
    stable_uid,
    write,
)
from overread.phantom.anatomy import Side
from overread.phantom.ct_case import CtCase, ct_case
from overread.phantom.ct_noise import Kernel
from overread.phantom.nodules import Contact, Nodule
from overread.phantom.radiograph import View
from overread.phantom.study import RadiographCase, demo_studies

_ACQUIRED = datetime(2026, 1, 15, 8, 30, tzinfo=UTC)
_VIEW_POSITION = {View.PA: "PA", View.AP: "AP", View.LATERAL: "LL"}


def write_demo_phantoms(folder: Path, made: Callable[[int, int], None] = lambda _done, _total: None) -> list[Path]:
    """Write what is missing in `folder`: the radiographs and one CT series. `made` hears of (done, total)."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    cases = demo_studies()
    paths = []
    for number, case in enumerate(cases, start=1):
        path = folder / f"{case.key}.dcm"
        if not path.exists():
            unfinished = path.with_suffix(".part")
            write_phantom(case, number, unfinished)
            unfinished.rename(path)
        paths.append(path)
        made(number, len(cases) + 1)
    series = folder / "ct-1"
    if not series.exists():
        unfinished = folder / "ct-1.part"
        shutil.rmtree(unfinished, ignore_errors=True)
        write_ct_series(_demo_ct(), unfinished)
        unfinished.rename(series)
    made(len(cases) + 1, len(cases) + 1)
    return paths + sorted(series.glob("*.dcm"))


def _demo_ct() -> CtCase:
    """Two nodules and an effusion; coarse enough to be rendered in a few seconds."""
    nodules = (
        Nodule(diameter_mm=14.0, flatness=(0.9, 0.8), lobulation=0.15, shape_seed=4, side=Side.RIGHT),
        Nodule(diameter_mm=9.0, contact=Contact.PLEURA, side=Side.LEFT),
    )
    return ct_case(50, nodules=nodules, effusion_ml={Side.LEFT: 350.0}, size=256, slice_mm=3.0)


def write_phantom(case: RadiographCase, number: int, path: Path) -> None:
    """Render one case and write it as a DX image that says of itself that it is a phantom."""
    image = case.render()
    identity = ImageIdentity(
        study_uid=stable_uid(case.key, "study"),
        series_uid=stable_uid(case.key, "series"),
        sop_uid=stable_uid(case.key, "image"),
        patient_id=case.patient.patient_id,
        patient_name=case.patient.name,
        patient_sex=case.patient.sex,
        birth_date=date(_ACQUIRED.year - case.patient.age, 1, 1),
        acquired=_ACQUIRED.replace(minute=number),
        accession_number=f"PHANTOM{number:03d}",
        study_description="Chest",
        series_description=f"Chest {_VIEW_POSITION[image.view]}",
    )
    attributes = RadiographAttributes(
        view=_VIEW_POSITION[image.view], pixel_mm=image.pixel_mm, bits=image.bits, inverted=image.inverted
    )
    write(create_dx(image.pixels, identity, attributes), path)


_KERNEL_NAME = {Kernel.SOFT: "SOFT", Kernel.SHARP: "LUNG"}


def write_ct_series(
    case: CtCase,
    folder: Path,
    *,
    missing: Sequence[int] = (),
    shuffle_seed: int | None = None,
    localizer: bool = False,
    strip: Sequence[str] = (),
    syntax: Syntax = Syntax.EXPLICIT_LE,
) -> list[Path]:
    """Write a scan as CT images that say of themselves that they are a phantom, one file a slice, from the feet up.

    For tests of bad series: the slices ``missing`` (from 0) are left out; ``shuffle_seed`` mixes files and instance
    numbers; ``localizer`` adds a scout view to the series; the attributes ``strip`` (keywords) are taken out of each.
    Returns the paths in the order of their names.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    left_out = set(missing)
    numbers = np.arange(1, case.geometry.slices + 1)
    if shuffle_seed is not None:
        np.random.default_rng(shuffle_seed).shuffle(numbers)
    paths = []
    for index, ds in enumerate(_ct_images(case, numbers.tolist(), localizer=localizer)):
        if index in left_out:
            continue
        for keyword in strip:
            if keyword in ds:
                delattr(ds, keyword)
        path = folder / f"{int(ds.get('InstanceNumber', index + 1)):04d}.dcm"
        write(ds, path, syntax)
        paths.append(path)
    return sorted(paths)


def _ct_images(case: CtCase, numbers: Sequence[int], *, localizer: bool) -> Iterator[Dataset]:
    """The slices, and then the scout view."""
    geometry = case.geometry
    shadows = []
    attributes = None
    for image in case.slices():
        attributes = CtAttributes(
            position=image.position,
            pixel_mm=geometry.pixel_mm,
            slice_mm=geometry.slice_mm,
            frame_uid=case.uids[2],
            kernel=_KERNEL_NAME[case.kernel],
        )
        identity = _ct_identity(case, case.uids[3][image.index], numbers[image.index])
        yield create_ct(image.hu, identity, attributes)
        shadows.append(image.hu.mean(axis=0))
    if localizer and attributes is not None:
        yield _scout(case, np.stack(shadows), attributes)


def _scout(case: CtCase, shadows: npt.NDArray[np.float64], attributes: CtAttributes) -> Dataset:
    """A frontal view from the mean of each line through the patient, head up, rows as far apart as columns."""
    pixel, step, count = case.geometry.pixel_mm, case.geometry.slice_mm, len(shadows)
    rows = max(2, round(count * step / pixel))
    at = np.clip((rows - 0.5 - np.arange(rows)) * pixel / step, 0, count - 1).astype(int)
    view = np.rint(shadows[at]).astype(np.int16)
    number = case.geometry.slices + 1
    ds = create_ct(view, _ct_identity(case, stable_uid(case.uids[1], "localizer"), number), attributes)
    x, _y, z = attributes.position
    ds.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    ds.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    ds.ImagePositionPatient = [f"{v:.3f}" for v in (x, 0.0, z)]
    return ds


def _ct_identity(case: CtCase, sop_uid: str, number: int) -> ImageIdentity:
    """A patient who is made up from the seed."""
    study, series, _frame, _slices = case.uids
    return ImageIdentity(
        study_uid=study,
        series_uid=series,
        sop_uid=sop_uid,
        patient_id=f"PHANTOM-CT-{case.seed}",
        patient_name=f"PHANTOM^CT{case.seed}",
        patient_sex="F" if case.scene.anatomy.breast_mm else "M",
        birth_date=date(_ACQUIRED.year - 24 - case.seed % 60, 1, 1),
        acquired=_ACQUIRED,
        accession_number=f"PHANTOMCT{case.seed:05d}",
        study_description="Chest CT",
        series_description=f"Chest {case.geometry.slice_mm:g} mm {_KERNEL_NAME[case.kernel]}",
        instance_number=number,
    )
