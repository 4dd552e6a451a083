"""Custody by the PACS, instances that went there, segmentations with an end."""

from alembic import op

revision = "tenant_0008"
down_revision = "tenant_0007"
branch_labels = None
depends_on = None

_SQL = """
-- The hospital's PACS: none or one.
CREATE TABLE pacs (
    one                     boolean PRIMARY KEY DEFAULT true CHECK (one),
    ae_title                text,           -- NULL: taken away again
    host                    text NOT NULL,
    port                    integer NOT NULL CHECK (port BETWEEN 1 AND 65535),
    tls                     boolean NOT NULL,
    own_ae_title            text NOT NULL,  -- ours, as the PACS knows it
    ask_after_hours         integer NOT NULL CHECK (ask_after_hours >= 0),
    changed_at              timestamptz NOT NULL,
    changed_by              text NOT NULL
);

ALTER TABLE instances
    ALTER COLUMN object_key DROP NOT NULL,
    ADD COLUMN custody_asked_at     timestamptz,    -- last time
    ADD COLUMN custody_ae           text,           -- who confirmed
    ADD COLUMN custody_confirmed_at timestamptz,
    ADD COLUMN contested            boolean NOT NULL DEFAULT false, -- another object came under this UID
    ADD COLUMN removed_at           timestamptz,    -- the object went; the PACS has it
    ADD COLUMN returned_at          timestamptz,    -- it was sent again after that
    ADD CONSTRAINT instances_custody_whole CHECK ((custody_ae IS NULL) = (custody_confirmed_at IS NULL)) NOT VALID,
    ADD CONSTRAINT instances_here_or_removed CHECK ((object_key IS NULL) = (removed_at IS NOT NULL)) NOT VALID,
    ADD CONSTRAINT instances_removed_in_custody
        CHECK (removed_at IS NULL OR custody_confirmed_at IS NOT NULL) NOT VALID;
CREATE INDEX instances_in_custody ON instances (id) WHERE custody_confirmed_at IS NOT NULL AND removed_at IS NULL;
CREATE INDEX instances_removed ON instances (id) WHERE removed_at IS NOT NULL;

-- Storage Commitment (PS3.4 Annex J): what was asked for, and what was answered.
CREATE TABLE custody_requests (
    transaction_uid         text PRIMARY KEY,
    ae_title                text NOT NULL,
    asked_at                timestamptz NOT NULL,
    state                   text NOT NULL CHECK (state IN ('asked', 'answered', 'failed', 'expired')),
    ended_at                timestamptz,
    reason                  text NOT NULL DEFAULT ''
);
CREATE INDEX custody_requests_open ON custody_requests (asked_at) WHERE state = 'asked';
CREATE INDEX custody_requests_time ON custody_requests (asked_at);
CREATE TABLE custody_items (
    transaction_uid         text NOT NULL REFERENCES custody_requests (transaction_uid),
    instance_id             uuid NOT NULL REFERENCES instances (id),
    sop_instance_uid        text NOT NULL,
    confirmed               boolean,        -- NULL: nothing was said of it
    failure_reason          integer,        -- (0008,1197)
    PRIMARY KEY (transaction_uid, instance_id)
);

ALTER TABLE image_analyses ADD COLUMN seg_removed_at timestamptz;
"""


def upgrade() -> None:
    op.execute(_SQL.replace(":", r"\:"))


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead")
