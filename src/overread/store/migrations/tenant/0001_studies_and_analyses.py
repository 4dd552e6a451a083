"""A tenant's schema: studies, series, instances; analyses, findings, measurements, quality; users; audit."""

from alembic import op

revision = "tenant_0001"
down_revision = None
branch_labels = ("tenant",)
depends_on = None

# Levels (routine, urgent, critical) are stored as 0, 1, 2, so that "the higher of both" is GREATEST.
_SQL = """
CREATE TABLE studies (
    id                      uuid PRIMARY KEY,
    study_instance_uid      text NOT NULL UNIQUE,
    patient_id              text NOT NULL,
    issuer_of_patient_id    text NOT NULL,
    patient_name            text NOT NULL,
    patient_birth_date      date,
    patient_sex             text NOT NULL,
    accession_number        text NOT NULL,
    study_description       text NOT NULL,
    study_datetime          timestamptz,
    modality                text,
    dicom_modalities        text[] NOT NULL DEFAULT '{}',
    body_part               text,
    revision                integer NOT NULL DEFAULT 0,
    instance_count          integer NOT NULL DEFAULT 0,
    image_count             integer NOT NULL DEFAULT 0,
    queue_priority          smallint NOT NULL DEFAULT 0,
    patient_conflict        boolean NOT NULL DEFAULT false,
    received_first          timestamptz NOT NULL,
    received_last           timestamptz NOT NULL
);
CREATE INDEX studies_patient ON studies (patient_id, issuer_of_patient_id);

CREATE TABLE series (
    id                      uuid PRIMARY KEY,
    study_id                uuid NOT NULL REFERENCES studies (id),
    series_instance_uid     text NOT NULL,
    modality                text,
    series_number           integer,
    series_description      text NOT NULL,
    UNIQUE (study_id, series_instance_uid)
);

CREATE TABLE instances (
    id                      uuid PRIMARY KEY,
    study_id                uuid NOT NULL REFERENCES studies (id),
    series_id               uuid NOT NULL REFERENCES series (id),
    sop_instance_uid        text NOT NULL UNIQUE,
    file_sha256             text NOT NULL,
    pixel_sha256            text NOT NULL,
    object_key              text NOT NULL,
    record                  jsonb NOT NULL,
    is_image                boolean NOT NULL,
    assembled               boolean NOT NULL DEFAULT false,
    received_at             timestamptz NOT NULL,
    received_from           jsonb NOT NULL
);
CREATE INDEX instances_study ON instances (study_id);
CREATE INDEX instances_series ON instances (series_id);
CREATE INDEX instances_waiting ON instances (study_id, received_at) WHERE NOT assembled;

-- Same UID and pixels, another header: the newer header is kept beside the first, which stays as it came.
CREATE TABLE instance_revisions (
    id                      uuid PRIMARY KEY,
    instance_id             uuid NOT NULL REFERENCES instances (id),
    file_sha256             text NOT NULL,
    object_key              text NOT NULL,
    record                  jsonb NOT NULL,
    received_at             timestamptz NOT NULL,
    received_from           jsonb NOT NULL,
    UNIQUE (instance_id, file_sha256)
);

-- Refused or quarantined objects: what, from where, why.
CREATE TABLE rejections (
    id                      uuid PRIMARY KEY,
    code                    text NOT NULL,
    message                 text NOT NULL,
    object_key              text,
    file_sha256             text,
    received_at             timestamptz NOT NULL,
    received_from           jsonb NOT NULL
);
CREATE INDEX rejections_time ON rejections (received_at DESC);
CREATE UNIQUE INDEX rejections_once ON rejections (code, file_sha256) WHERE file_sha256 IS NOT NULL;

CREATE TABLE image_analyses (
    id                      uuid PRIMARY KEY,
    study_id                uuid NOT NULL REFERENCES studies (id),
    revision                integer NOT NULL,
    modality                text,
    status                  text NOT NULL CHECK (status IN ('pending','processing','completed','failed','cancelled')),
    queue_priority          smallint NOT NULL,
    urgency                 smallint,
    priority                smallint NOT NULL
                            GENERATED ALWAYS AS (greatest(queue_priority, coalesce(urgency, 0))) STORED,
    reason                  text NOT NULL DEFAULT '',
    requested_by            text NOT NULL,
    requested_at            timestamptz NOT NULL,
    started_at              timestamptz,
    completed_at            timestamptz,
    processing_ms           integer,
    model_version           text NOT NULL DEFAULT '',
    error_code              text,
    error_message           text,
    attempts                integer NOT NULL DEFAULT 0,
    claim                   uuid,
    superseded              boolean NOT NULL DEFAULT false,
    sr_object_key           text,
    outcome                 jsonb,
    updated_at              timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX analyses_one_live ON image_analyses (study_id) WHERE status IN ('pending', 'processing')
    AND NOT superseded;
CREATE INDEX analyses_study ON image_analyses (study_id, requested_at DESC);
CREATE INDEX analyses_worklist ON image_analyses (priority DESC, requested_at, id) WHERE NOT superseded;
CREATE INDEX analyses_status ON image_analyses (status, requested_at);
CREATE INDEX analyses_times ON image_analyses (modality, completed_at DESC) WHERE status = 'completed';

CREATE TABLE analysis_findings (
    id                      uuid PRIMARY KEY,
    analysis_id             uuid NOT NULL REFERENCES image_analyses (id) ON DELETE CASCADE,
    position                smallint NOT NULL,
    finding_type            text NOT NULL,
    severity                smallint NOT NULL,
    confidence_score        numeric(5,4) NOT NULL CHECK (confidence_score BETWEEN 0 AND 1),
    bounding_box            jsonb,
    slice_number            integer,
    description             text NOT NULL,
    sop_instance_uid        text NOT NULL,
    details                 jsonb NOT NULL,
    tracking_uid            text NOT NULL
);
CREATE INDEX findings_analysis ON analysis_findings (analysis_id);
CREATE INDEX findings_type ON analysis_findings (finding_type);

CREATE TABLE analysis_measurements (
    id                      uuid PRIMARY KEY,
    analysis_id             uuid NOT NULL REFERENCES image_analyses (id) ON DELETE CASCADE,
    finding_id              uuid REFERENCES analysis_findings (id) ON DELETE CASCADE,
    measurement_type        text NOT NULL,
    value                   numeric(14,4) NOT NULL,
    unit                    text NOT NULL,
    method                  text NOT NULL
);
CREATE INDEX measurements_analysis ON analysis_measurements (analysis_id);

CREATE TABLE quality_assessments (
    analysis_id             uuid PRIMARY KEY REFERENCES image_analyses (id) ON DELETE CASCADE,
    id                      uuid NOT NULL,
    overall_quality         text,
    quality_score           numeric(5,4),
    issues                  jsonb NOT NULL,
    recommendations         text NOT NULL,
    flagged_for_repeat      boolean NOT NULL
);

CREATE TABLE users (
    id                      uuid PRIMARY KEY,
    name                    text NOT NULL UNIQUE,
    display_name            text NOT NULL,
    role                    text NOT NULL CHECK (role IN ('radiologist','technician','admin','operator','service')),
    password_hash           text NOT NULL,
    disabled                boolean NOT NULL DEFAULT false
);

CREATE TABLE audit_events (
    id                      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at                      timestamptz NOT NULL DEFAULT clock_timestamp(),
    action                  text NOT NULL,
    actor                   text NOT NULL,
    study_id                uuid,
    facts                   jsonb NOT NULL
);
CREATE INDEX audit_time ON audit_events (at);
"""


def upgrade() -> None:
    op.execute(_SQL.replace(":", r"\:"))


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead: dropping results is never a migration")
