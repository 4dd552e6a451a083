"""Which AI runs, per feature and modality, and who changed it and why; patients who object; studies not analysed."""

from alembic import op

revision = "tenant_0005"
down_revision = "tenant_0004"
branch_labels = None
depends_on = None

# The specification's columns. Its tenant_id is this schema; its integer user ids are names of users, who may come from
# an identity provider. The features that are there start switched on (docs/decisions/0014).
_SQL = """
CREATE TABLE ai_features (
    id                      integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    feature_key             varchar(100) NOT NULL UNIQUE,
    feature_name            varchar(255) NOT NULL,
    description             text NOT NULL,
    category                varchar(50) NOT NULL,
    created_at              timestamptz NOT NULL DEFAULT now()
);
INSERT INTO ai_features (feature_key, feature_name, description, category) VALUES
    ('abnormality_detection', 'Abnormality detection', 'Looks for findings.', 'detection'),
    ('priority_flagging', 'Priority flagging', 'Lets findings move a study up.', 'detection'),
    ('automated_measurements', 'Automated measurements', 'Sizes, volumes, densities.', 'measurement'),
    ('prior_comparison', 'Prior comparison', 'Compares a study with the patient''s earlier ones.', 'detection'),
    ('report_generation', 'Report generation', 'Drafts the radiologist''s report.', 'reporting'),
    ('quality_assessment', 'Quality assessment', 'Judges images and suggests repeats.', 'quality');

-- enabled NULL, with a modality only: follows the general row again.
CREATE TABLE tenant_ai_features (
    id                      integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    feature_id              integer NOT NULL REFERENCES ai_features (id),
    modality                varchar(50),
    enabled                 boolean DEFAULT false CHECK (enabled IS NOT NULL OR modality IS NOT NULL),
    enabled_at              timestamptz,
    enabled_by              text,
    disabled_at             timestamptz,
    disabled_by             text,
    reason                  text NOT NULL CHECK (reason <> ''),
    changed_by              text NOT NULL,
    created_at              timestamptz NOT NULL DEFAULT now(),
    updated_at              timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX tenant_ai_features_modality ON tenant_ai_features (feature_id, modality)
    WHERE modality IS NOT NULL;
CREATE UNIQUE INDEX tenant_ai_features_general ON tenant_ai_features (feature_id) WHERE modality IS NULL;

CREATE TABLE ai_feature_audit_log (
    id                      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    feature_id              integer NOT NULL REFERENCES ai_features (id),
    modality                varchar(50),
    action                  varchar(50) NOT NULL CHECK (action IN ('enabled', 'disabled', 'inherited')),
    performed_by            text NOT NULL,
    reason                  text NOT NULL CHECK (reason <> ''),
    performed_at            timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX feature_audit_time ON ai_feature_audit_log (performed_at DESC, id DESC);

INSERT INTO tenant_ai_features (feature_id, enabled, enabled_at, enabled_by, reason, changed_by)
    SELECT id, true, now(), 'installation', 'On from the start.', 'installation' FROM ai_features
    WHERE feature_key NOT IN ('prior_comparison', 'report_generation') ORDER BY id;
INSERT INTO tenant_ai_features (feature_id, enabled, disabled_at, disabled_by, reason, changed_by)
    SELECT id, false, now(), 'installation', 'Not in this version yet.', 'installation' FROM ai_features
    WHERE feature_key IN ('prior_comparison', 'report_generation') ORDER BY id;
INSERT INTO ai_feature_audit_log (feature_id, action, performed_by, reason)
    SELECT feature_id, CASE WHEN enabled THEN 'enabled' ELSE 'disabled' END, 'installation', reason
    FROM tenant_ai_features ORDER BY feature_id;

-- Patients who object to AI, by blind indexes of their identifier: one with the issuer as given, one without any.
CREATE TABLE patient_opt_outs (
    id                      uuid PRIMARY KEY,
    patient_index           bytea NOT NULL,
    number_index            bytea NOT NULL,
    any_issuer              boolean NOT NULL,
    reason                  text NOT NULL CHECK (reason <> ''),
    added_by                text NOT NULL,
    added_at                timestamptz NOT NULL,
    removed_by              text,
    removed_at              timestamptz,
    removal_reason          text
);
CREATE UNIQUE INDEX opt_outs_once ON patient_opt_outs (patient_index) WHERE removed_at IS NULL;
CREATE INDEX opt_outs_number ON patient_opt_outs (number_index) WHERE removed_at IS NULL;

-- Studies that the AI did not read on purpose: since when, why, and whether no analysis stands for them in the list.
ALTER TABLE studies
    ADD COLUMN not_analysed_since timestamptz,
    ADD COLUMN not_analysed_why jsonb,
    ADD COLUMN not_analysed_alone boolean NOT NULL DEFAULT false;
CREATE INDEX studies_not_analysed ON studies (queue_priority DESC, not_analysed_since, id) WHERE not_analysed_alone;
CREATE INDEX studies_unread ON studies (not_analysed_alone, id) WHERE not_analysed_since IS NOT NULL;

-- The worklist counts and sorts suggested repeats on every page.
ALTER TABLE image_analyses ADD COLUMN repeat_flagged boolean NOT NULL DEFAULT false;
UPDATE image_analyses a SET repeat_flagged = true FROM quality_assessments q
    WHERE q.analysis_id = a.id AND q.flagged_for_repeat;
CREATE INDEX analyses_repeats ON image_analyses (completed_at DESC, id) WHERE repeat_flagged AND NOT superseded;
"""


def upgrade() -> None:
    op.execute(_SQL.replace(":", r"\:"))


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead")
