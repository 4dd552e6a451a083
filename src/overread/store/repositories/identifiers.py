"""What identifies a patient, encrypted on its way into a row and opened on its way out.

Each row has one sealed value with all of it, bound to its table and id: it opens nowhere else. Beside it lie blind
indexes, which only equal values share. Rows that an older version wrote have none (NULL) and are read as they are,
until `store.keys_reencrypt` has been over them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import orjson

from overread.domain.study import InstanceRecord, Sender
from overread.services.values import Rejection
from overread.store.cipher import Values
from overread.store.codec import from_json, to_json

Row = Mapping[str, Any]

#: Of a study. The description is free text, in which people write names.
STUDY_FIELDS: Final = (
    "patient_id",
    "issuer_of_patient_id",
    "patient_name",
    "patient_birth_date",
    "patient_sex",
    "accession_number",
    "study_description",
)
#: Of an instance's record. A file's hash identifies it to everybody who has the file.
RECORD_FIELDS: Final = (*STUDY_FIELDS, "series_description", "file_sha256", "pixel_sha256", "warnings")
#: What the search finds a study by.
_SEARCHED: Final = ("patient_name", "patient_id", "accession_number", "study_description")


@dataclass(frozen=True, kw_only=True)
class SealedStudy:
    """The columns of a study that come from its identifiers."""

    identifiers: bytes
    patient_blind: bytes
    patient_id_blind: bytes
    accession_blind: bytes | None
    words: list[bytes]


def seal_study(values: Values, study_id: UUID, fields: Mapping[str, Any]) -> SealedStudy:
    """`fields` has STUDY_FIELDS as plain JSON types, the birth date as ISO 8601 or None."""
    index = values.index
    return SealedStudy(
        identifiers=_seal(values, "studies", study_id, {name: fields[name] for name in STUDY_FIELDS}),
        patient_blind=index.blind(fields["issuer_of_patient_id"], fields["patient_id"]),
        patient_id_blind=index.patient_id(fields["patient_id"]),
        accession_blind=index.accession(fields["accession_number"]),
        words=index.tokens(fields[name] for name in _SEARCHED),
    )


def open_study(values: Values, row: Row) -> dict[str, Any]:
    """STUDY_FIELDS of a row of STUDY_COLUMNS; the birth date as ISO 8601 or ''."""
    if row["identifiers"] is None:
        born = row["patient_birth_date"]
        return {name: row[name] for name in STUDY_FIELDS} | {"patient_birth_date": born.isoformat() if born else ""}
    found = _open(values, "studies", row["s_id"], row["identifiers"])
    return found | {"patient_birth_date": found["patient_birth_date"] or ""}


@dataclass(frozen=True, kw_only=True)
class SealedRecord:
    """The columns of an instance, or a header revision, that come from its record and sender."""

    #: Without RECORD_FIELDS.
    record: dict[str, Any]
    identifiers: bytes
    patient_blind: bytes
    file_sha256: str
    pixel_sha256: str


def seal_record(
    values: Values, table: str, row_id: UUID, record: Mapping[str, Any], sender: Mapping[str, Any]
) -> SealedRecord:
    """`record` and `sender` as plain JSON types."""
    index = values.index
    hidden = {name: record[name] for name in RECORD_FIELDS if name in record}
    return SealedRecord(
        record={name: value for name, value in record.items() if name not in RECORD_FIELDS},
        identifiers=_seal(values, table, row_id, {"record": hidden, "sender": sender}),
        patient_blind=index.blind(record["issuer_of_patient_id"], record["patient_id"]),
        file_sha256=index.content(record["file_sha256"]),
        pixel_sha256=index.content(record["pixel_sha256"]),
    )


def open_record(values: Values, table: str, row_id: UUID, record: Row, identifiers: bytes | None) -> InstanceRecord:
    """As it was filed."""
    hidden = {} if identifiers is None else _open(values, table, row_id, identifiers)["record"]
    return from_json(InstanceRecord, {**record, **hidden})


def seal_rejection(values: Values, row_id: UUID, rejection: Rejection) -> bytes:
    """What it says, from whom, and the hash of what was refused."""
    told = {
        "message": rejection.message,
        "sender": to_json(rejection.sender),
        "file_sha256": rejection.file_sha256,
    }
    return _seal(values, "rejections", row_id, told)


def open_rejection(values: Values, row: Row) -> Rejection:
    """From all columns of `rejections`."""
    told = {"message": row["message"], "sender": row["received_from"], "file_sha256": row["file_sha256"]}
    if row["identifiers"] is not None:
        told = _open(values, "rejections", row["id"], row["identifiers"])
    return Rejection(
        code=row["code"],
        message=told["message"],
        sender=from_json(Sender, told["sender"]),
        received_at=row["received_at"],
        object_key=row["object_key"],
        file_sha256=told["file_sha256"],
    )


def seal_again(values: Values, table: str, row_id: UUID, identifiers: bytes) -> bytes:
    """The same, by the active data key."""
    place = _place(table, row_id)
    return values.seal(values.open(identifiers, place), place)


def same_content(values: Values, stored: str, sha256: str) -> bool:
    """Whether a column that stands for a file's content (blind, or plain from an older version) means this one."""
    return stored in (values.content(sha256), sha256)


def text_clause(values: Values, text: str) -> tuple[str, list[Any]]:
    """The clause of a free text over studies `s`, and its values: every word of it, or the beginning of a UID."""
    wanted = values.index.wanted(text)
    clauses: list[str] = ["s.words @> %s::bytea[]"] if wanted else []
    parameters: list[Any] = [wanted] if wanted else []
    uid = text.strip()
    if uid and len(uid) <= 64 and not uid.strip("0123456789."):
        clauses.append("s.study_instance_uid LIKE %s")
        parameters.append(f"{uid}%")
    return f"({' OR '.join(clauses) or 'false'})", parameters


def _seal(values: Values, table: str, row_id: UUID, told: Mapping[str, Any]) -> bytes:
    return values.seal(orjson.dumps(told), _place(table, row_id))


def _open(values: Values, table: str, row_id: UUID, sealed: bytes) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(values.open(bytes(sealed), _place(table, row_id)))
    return found


def _place(table: str, row_id: UUID) -> str:
    return f"{table}/identifiers/{row_id}"
