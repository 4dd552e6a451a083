"""The demo's phantoms as DICOM files: rendered once, kept, and the same objects each time they are sent."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

from overread.dicom.create import ImageIdentity, RadiographAttributes, create_dx, stable_uid, write
from overread.phantom.radiograph import View
from overread.phantom.study import RadiographCase, demo_studies

_ACQUIRED = datetime(2026, 1, 15, 8, 30, tzinfo=UTC)
_VIEW_POSITION = {View.PA: "PA", View.AP: "AP", View.LATERAL: "LL"}


def write_demo_phantoms(folder: Path, made: Callable[[int, int], None] = lambda _done, _total: None) -> list[Path]:
    """Write what is missing in `folder`; `made` hears of (done, total)."""
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
        made(number, len(cases))
    return paths


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
