"""Index records for tests that need no real DICOM file."""

from __future__ import annotations

from typing import Any

from overread.domain.study import InstanceRecord, Sender

SENDER = Sender(channel="dicom", name="TESTER", address="127.0.0.1")


def record(number: int = 1, **changes: Any) -> InstanceRecord:
    """A chest radiograph's record; every number is another instance of the same study."""
    values: dict[str, Any] = {
        "sop_instance_uid": f"1.2.3.{number}",
        "sop_class_uid": "1.2.840.10008.5.1.4.1.1.1.1",
        "transfer_syntax_uid": "1.2.840.10008.1.2.1",
        "series_instance_uid": "1.2.3",
        "study_instance_uid": "1.2",
        "patient_id": "P1",
        "issuer_of_patient_id": "",
        "patient_name": "TEST^PATIENT",
        "patient_birth_date": None,
        "patient_sex": "O",
        "modality": "DX",
        "body_part": "CHEST",
        "view_position": "PA",
        "study_description": "Chest",
        "series_description": "PA",
        "accession_number": "A1",
        "study_datetime": None,
        "series_number": 1,
        "instance_number": number,
        "rows": 64,
        "columns": 64,
        "number_of_frames": 1,
        "file_sha256": f"{number:064x}",
        "pixel_sha256": f"{number:064x}",
        "size_bytes": 1000,
    }
    return InstanceRecord(**(values | changes))
