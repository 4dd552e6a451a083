"""Accounts, second factors, API keys, revoked sessions."""

from alembic import op

revision = "tenant_0006"
down_revision = "tenant_0005"
branch_labels = None
depends_on = None

_SQL = """
ALTER TABLE users
    ADD COLUMN epoch                integer NOT NULL DEFAULT 0,     -- grows when all tokens of the user end
    ADD COLUMN not_before           timestamptz,                    -- the same for tokens of the identity provider
    ADD COLUMN must_change_password boolean NOT NULL DEFAULT false,
    ADD COLUMN totp_secret          text,                           -- sealed
    ADD COLUMN totp_offered         text,                           -- sealed; not yet confirmed by a code
    ADD COLUMN totp_last_step       bigint NOT NULL DEFAULT 0,      -- RFC 6238 5.2: a code works once
    ADD COLUMN issuer               text,
    ADD COLUMN subject              text,
    ADD COLUMN created_at           timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN last_login_at        timestamptz,
    ADD CONSTRAINT users_of_provider CHECK ((issuer IS NULL) = (subject IS NULL));
CREATE UNIQUE INDEX users_subject ON users (issuer, subject);

CREATE TABLE recovery_codes (
    user_id     uuid NOT NULL REFERENCES users (id),
    code_hash   text NOT NULL,
    used_at     timestamptz,
    PRIMARY KEY (user_id, code_hash)
);

-- Sessions that were ended before their tokens expire.
CREATE TABLE revoked_sessions (
    session     text PRIMARY KEY,
    user_id     uuid NOT NULL,
    expires_at  timestamptz NOT NULL
);
CREATE INDEX revoked_sessions_user ON revoked_sessions (user_id);

-- Failed attempts of an address for a name (a digest: it need not be one of ours, so that both answer alike).
CREATE TABLE login_failures (
    account         text NOT NULL,
    address         text NOT NULL,
    failures        integer NOT NULL,
    last_at         timestamptz NOT NULL,
    locked_until    timestamptz,
    PRIMARY KEY (account, address)
);
CREATE INDEX login_failures_time ON login_failures (last_at);

CREATE TABLE api_keys (
    id              text PRIMARY KEY,
    name            text NOT NULL,
    secret_sha256   text NOT NULL,
    permissions     text[],                 -- NULL: all of the role service
    networks        text[] NOT NULL,        -- CIDR; empty: from anywhere
    created_at      timestamptz NOT NULL,
    created_by      text NOT NULL,
    expires_at      timestamptz NOT NULL,
    revoked_at      timestamptz,
    last_used_at    timestamptz,
    last_used_from  text
);
CREATE UNIQUE INDEX api_keys_name ON api_keys (name) WHERE revoked_at IS NULL;

CREATE TABLE identity_provider (
    one             boolean PRIMARY KEY DEFAULT true CHECK (one),
    issuer          text NOT NULL,
    client_id       text NOT NULL,
    client_secret   text,                   -- sealed
    audience        text,
    scopes          text NOT NULL,
    role_claim      text NOT NULL,
    roles           jsonb NOT NULL,
    tenant_claim    text,
    tenant_value    text,
    local_accounts  boolean NOT NULL
);
"""


def upgrade() -> None:
    op.execute(_SQL.replace(":", r"\:"))


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead")
