"""Data keys of each tenant, wrapped by the installation's master key, and the two doors through which its log-in
reaches its own: read them, and make the first ones."""

from alembic import op

revision = "shared_0004"
down_revision = "shared_0003"
branch_labels = None
depends_on = None

# purpose 'data' encrypts and is rotated; 'index' finds (blind index, object names) and must stay as it is.
# A retired or shredded key keeps its row, without the key: its version is never given out again, and a tenant whose
# keys were shredded never gets new ones.
_SQL = """
CREATE TABLE overread.data_keys (
    tenant          text NOT NULL REFERENCES overread.tenants (slug) ON DELETE CASCADE,
    purpose         text NOT NULL CHECK (purpose IN ('data', 'index')),
    version         integer NOT NULL CHECK (version > 0),
    state           text NOT NULL CHECK (state IN ('active', 'reading', 'retired', 'shredded')),
    master          text NOT NULL,
    wrapped         bytea,
    plain_readable  boolean NOT NULL DEFAULT false,
    created_at      timestamptz NOT NULL DEFAULT now(),
    changed_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, purpose, version),
    CHECK ((wrapped IS NULL) = (state IN ('retired', 'shredded')))
);
CREATE UNIQUE INDEX data_keys_one_active ON overread.data_keys (tenant, purpose) WHERE state = 'active';

CREATE FUNCTION overread.own_data_keys()
    RETURNS TABLE (purpose text, version integer, state text, master text, wrapped bytea, plain_readable boolean)
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF left(session_user, 2) <> 't_' THEN
        RAISE EXCEPTION 'only a tenant''s log-in may read data keys' USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN QUERY SELECT k.purpose, k.version, k.state, k.master, k.wrapped, k.plain_readable
        FROM overread.data_keys k WHERE k.tenant = substr(session_user, 3) ORDER BY k.purpose, k.version;
END
$$;
REVOKE ALL ON FUNCTION overread.own_data_keys FROM PUBLIC;

-- The first keys of a tenant that has none and never had any. What an older version left unencrypted may still be read.
CREATE FUNCTION overread.first_data_keys(wrapped_data bytea, wrapped_index bytea, wrapped_by text)
    RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    own text := substr(session_user, 3);
    holds_plain boolean;
BEGIN
    IF left(session_user, 2) <> 't_' THEN
        RAISE EXCEPTION 'only a tenant''s log-in may make its data keys' USING ERRCODE = 'insufficient_privilege';
    END IF;
    PERFORM 1 FROM overread.tenants t WHERE t.slug = own FOR NO KEY UPDATE;
    IF EXISTS (SELECT FROM overread.data_keys k WHERE k.tenant = own) THEN
        RETURN false;
    END IF;
    EXECUTE format('SELECT EXISTS (SELECT FROM %I.instances)', session_user) INTO holds_plain;
    INSERT INTO overread.data_keys (tenant, purpose, version, state, master, wrapped, plain_readable) VALUES
        (own, 'data', 1, 'active', wrapped_by, wrapped_data, holds_plain),
        (own, 'index', 1, 'active', wrapped_by, wrapped_index, holds_plain);
    RETURN true;
END
$$;
REVOKE ALL ON FUNCTION overread.first_data_keys FROM PUBLIC;
"""


def upgrade() -> None:
    op.execute(_SQL.replace(":", r"\:"))


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead")
