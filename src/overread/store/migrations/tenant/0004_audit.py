"""The audit trail: partitioned by year, sealed in a hash chain."""

from alembic import op

revision = "tenant_0004"
down_revision = "tenant_0003"
branch_labels = None
depends_on = None

# `tx` stands first on purpose: a transaction then has its number before its row has an id, so that who knows that all
# transactions up to a number are over knows that no id of theirs will come any more (store.audit_seals).
# The partitions of the years are made by store.audit_partitions, which also moves there what lies in the default one.
_SQL = """
ALTER TABLE audit_events RENAME TO audit_events_before;
ALTER INDEX audit_time RENAME TO audit_time_before;
ALTER INDEX audit_events_pkey RENAME TO audit_events_before_pkey;
CREATE SEQUENCE audit_numbers AS bigint;

CREATE TABLE audit_events (
    tx          xid8 NOT NULL DEFAULT pg_current_xact_id(),
    id          bigint NOT NULL DEFAULT nextval('audit_numbers'),
    at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    action      text NOT NULL,
    outcome     text NOT NULL DEFAULT 'success' CHECK (outcome IN ('success', 'denied', 'failed')),
    code        text NOT NULL DEFAULT '',
    actor_kind  text NOT NULL CHECK (actor_kind IN ('person', 'machine', 'peer', 'system')),
    actor       text NOT NULL,
    user_id     uuid,
    role        text NOT NULL DEFAULT '',
    session     text NOT NULL DEFAULT '',
    address     text NOT NULL DEFAULT '',
    channel     text NOT NULL DEFAULT '',
    patient     text,              -- keyed hash of issuer and patient id, hexadecimal
    study_id    uuid,              -- no foreign key: the row outlives the study
    facts       jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (id, at)
) PARTITION BY RANGE (at);
CREATE TABLE audit_events_other PARTITION OF audit_events DEFAULT;
CREATE INDEX audit_events_time ON audit_events (at DESC, id DESC);
CREATE INDEX audit_events_actor ON audit_events (actor, at DESC, id DESC);
CREATE INDEX audit_events_action ON audit_events (action, at DESC, id DESC);
CREATE INDEX audit_events_study ON audit_events (study_id, at DESC, id DESC) WHERE study_id IS NOT NULL;
CREATE INDEX audit_events_patient ON audit_events (patient, at DESC, id DESC) WHERE patient IS NOT NULL;
CREATE INDEX audit_events_trouble ON audit_events (outcome, at DESC, id DESC) WHERE outcome <> 'success';

INSERT INTO audit_events (id, at, action, outcome, actor_kind, actor, address, channel, study_id, facts)
    SELECT id, at, action, CASE WHEN action IN ('login.failed', 'analysis.failed') THEN 'failed' ELSE 'success' END,
        CASE WHEN actor IN ('worker', 'arrival') THEN 'system' ELSE 'person' END, actor,
        coalesce(facts->>'address', ''), coalesce(facts->>'channel', ''), study_id, facts - 'address' - 'channel'
    FROM audit_events_before ORDER BY id;
SELECT setval('audit_numbers', coalesce((SELECT max(id) FROM audit_events), 0) + 1, false);
DROP TABLE audit_events_before;

-- A link of the chain: which rows (`ids`), their hash, and the hash of the link before; signed by a key that the
-- database does not have. kind 'rows' seals rows, 'expiry' remembers rows that were deleted after their time.
CREATE TABLE audit_seals (
    number      bigint PRIMARY KEY CHECK (number > 0),
    kind        text NOT NULL CHECK (kind IN ('rows', 'expiry')),
    sealed_at   timestamptz NOT NULL,
    first_at    timestamptz NOT NULL,
    last_at     timestamptz NOT NULL,
    row_count   bigint NOT NULL CHECK (row_count > 0),
    ids         int8multirange NOT NULL,
    seen        bigint NOT NULL,      -- greatest id so far
    next_tx     xid8 NOT NULL,        -- transactions from this number on had not begun
    settled     bigint NOT NULL,      -- up to this id nothing can come any more
    sha256      bytea NOT NULL,
    digests     bytea NOT NULL,       -- 8 bytes of each row's hash, in order of id: says which row was changed
    previous    bytea NOT NULL,
    hash        bytea NOT NULL,
    key_id      text NOT NULL,
    signature   bytea NOT NULL
);

CREATE INDEX audit_seals_seen ON audit_seals (seen);

-- How far the trail was forwarded, and until when somebody does that just now.
CREATE TABLE audit_cursors (
    name            text PRIMARY KEY,
    seal            bigint NOT NULL,
    updated_at      timestamptz NOT NULL,
    leased_until    timestamptz
);
"""


def upgrade() -> None:
    op.execute(_SQL.replace(":", r"\:"))


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead: a trail is never rewritten")
