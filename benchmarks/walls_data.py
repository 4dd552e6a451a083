"""Many analyses in many hospitals, put in by COPY: rows as the product writes them, identifiers sealed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import orjson
import psycopg
from psycopg.types.json import Jsonb

from overread import bootstrap
from overread.config import Settings
from overread.domain.ids import uuid7
from overread.domain.study import TenantId
from overread.store import roles
from overread.store.cipher import Values
from overread.store.repositories.identifiers import seal_study

Connection = psycopg.Connection[tuple[object, ...]]

_NOW = datetime(2026, 11, 1, tzinfo=UTC)
_DAYS = 3 * 365
_MODALITIES = (("X-ray", 60), ("CT", 25), ("Ultrasound", 10), ("MRI", 5))
_STATUSES = (("completed", 96), ("failed", 2), ("cancelled", 1), ("pending", 1))
_PRIORITIES = ((0, 90), (1, 8), (2, 2))
_FINDINGS = ("pneumothorax", "pleural_effusion", "cardiomegaly", "consolidation")
_OUTCOME = {
    "modality": "X-ray",
    "body_part": "CHEST",
    "not_assessed": [{"finding_type": "rib_fracture", "name": "Rib fracture", "reason": "no model looks for it"}] * 8,
    "assessed": list(_FINDINGS),
    "triage": {"urgency": "routine", "reason": "Routine: no finding among those assessed"},
    "models": [{"name": "chest_xray", "version": "1.0.0", "sha256": "ab" * 32}],
    "problems": [],
}
_BATCH = 5000

_STUDY = (
    "id, study_instance_uid, study_datetime, modality, dicom_modalities, body_part, revision, instance_count,"
    " image_count, queue_priority, received_first, received_last, identifiers, patient_blind, patient_id_blind,"
    " accession_blind, words"
)
_ANALYSIS = (
    "id, study_id, revision, modality, status, queue_priority, urgency, reason, requested_by, requested_at, started_at,"
    " completed_at, processing_ms, model_version, error_code, error_message, superseded, outcome"
)
_FINDING = (
    "id, analysis_id, position, finding_type, severity, confidence_score, bounding_box, description, sop_instance_uid,"
    " details, tracking_uid"
)
_MEASUREMENT = "id, analysis_id, measurement_type, value, unit, method"
_QUALITY = "analysis_id, id, overall_quality, quality_score, issues, recommendations, flagged_for_repeat"


def _pick(rng: random.Random, choices: tuple[tuple[object, int], ...]) -> object:
    return rng.choices([c for c, _ in choices], [w for _, w in choices])[0]


def fill(owner: str, values: Values, tenant: TenantId, count: int, *, seed: int = 0) -> list[UUID]:
    """`count` analyses, one a study but for every twentieth; ids of a thousand of them."""
    rng, kept = random.Random(seed), []
    with psycopg.connect(owner) as connection:
        connection.execute(f"SET search_path = {roles.tenant_role(tenant)}".encode())
        connection.execute("SET synchronous_commit = off")
        for start in range(0, count, _BATCH):
            rows = [_study(rng, values, n) for n in range(start, min(start + _BATCH, count))]
            _copy(connection, "studies", _STUDY, (study for study, _ in rows))
            analyses = [analysis for _, found in rows for analysis in found]
            _copy(connection, "image_analyses", _ANALYSIS, iter(analyses))
            done = [a for a in analyses if a[4] == "completed"]
            _copy(connection, "analysis_findings", _FINDING, (f for a in done for f in _findings(rng, a)))
            _copy(connection, "analysis_measurements", _MEASUREMENT, (_measurement(rng, a) for a in done))
            _copy(connection, "quality_assessments", _QUALITY, (_quality(a) for a in done))
            kept += [a[0] for a in rng.sample(analyses, min(len(analyses), 20))]
            connection.commit()
    with psycopg.connect(owner, autocommit=True) as connection:
        connection.execute(f"SET search_path = {roles.tenant_role(tenant)}".encode())
        for table in ("studies", "image_analyses", "analysis_findings", "analysis_measurements", "quality_assessments"):
            connection.execute(f"VACUUM ANALYZE {table}".encode())
    return [UUID(str(i)) for i in rng.sample(kept, min(len(kept), 1000))]


def _copy(connection: Connection, table: str, columns: str, rows: Iterator[tuple[object, ...]]) -> None:
    with connection.cursor().copy(f"COPY {table} ({columns}) FROM STDIN".encode()) as copy:
        for row in rows:
            copy.write_row(row)


def _study(rng: random.Random, values: Values, number: int) -> tuple[tuple[object, ...], list[tuple[object, ...]]]:
    study = uuid7()
    at = _NOW - timedelta(seconds=rng.uniform(0, _DAYS * 86400))
    modality, priority = _pick(rng, _MODALITIES), _pick(rng, _PRIORITIES)
    sealed = seal_study(
        values,
        study,
        {
            "patient_id": f"P-{number // 3}",
            "issuer_of_patient_id": "",
            "patient_name": f"BENCH^{number // 3}",
            "patient_birth_date": "1960-02-29",
            "patient_sex": "F",
            "accession_number": f"A-{number}",
            "study_description": "Thorax",
        },
    )
    row = (study, f"2.25.{study.int}", at, modality, ["CR"], "CHEST", 1, 1, 1, priority, at, at)
    row += (sealed.identifiers, sealed.patient_blind, sealed.patient_id_blind, sealed.accession_blind, sealed.words)
    analyses = [_analysis(rng, study, at, modality, priority, superseded=False)]
    if number % 20 == 0:
        analyses.append(_analysis(rng, study, at - timedelta(minutes=5), modality, priority, superseded=True))
    return row, analyses


def _analysis(
    rng: random.Random, study: UUID, at: datetime, modality: object, priority: object, *, superseded: bool
) -> tuple[object, ...]:
    status = _pick(rng, _STATUSES)
    done = status in ("completed", "failed")
    return (
        uuid7(),
        study,
        1,
        modality,
        status,
        priority,
        _pick(rng, _PRIORITIES) if status == "completed" else None,
        "Routine: no finding among those assessed",
        "arrival",
        at,
        at if done else None,
        at + timedelta(seconds=2) if done else None,
        900 if status == "completed" else None,
        "chest_xray 1.0.0" if status == "completed" else "",
        "INFERENCE_ERROR" if status == "failed" else None,
        "The model failed on the image." if status == "failed" else None,
        superseded,
        Jsonb(_OUTCOME, dumps=orjson.dumps) if status == "completed" else None,
    )


def _findings(rng: random.Random, analysis: tuple[object, ...]) -> Iterator[tuple[object, ...]]:
    box = Jsonb({"x": 10, "y": 12, "width": 200, "height": 160}, dumps=orjson.dumps)
    details = Jsonb({"method": "", "exploratory": True}, dumps=orjson.dumps)
    for position in range(rng.choice((0, 1, 1, 2))):
        found = uuid7()
        yield (
            found,
            analysis[0],
            position,
            rng.choice(_FINDINGS),
            1,
            0.81,
            box,
            "Seen, confidence 0.81. Exploratory, changes no order.",
            f"2.25.{found.int}",
            details,
            f"2.25.{found.int + 1}",
        )


def _measurement(rng: random.Random, analysis: tuple[object, ...]) -> tuple[object, ...]:
    return (uuid7(), analysis[0], "cardiothoracic_ratio", round(rng.uniform(0.4, 0.6), 3), "1", "automated")


def _quality(analysis: tuple[object, ...]) -> tuple[object, ...]:
    return (analysis[0], uuid7(), "adequate", 0.9, Jsonb([], dumps=orjson.dumps), "", False)


def owner_login(settings: Settings) -> str:
    """Connection string of the owner."""
    return psycopg.conninfo.make_conninfo(
        bootstrap.embedded(settings).url, password=roles.password(settings.secret(), "owner")
    )
