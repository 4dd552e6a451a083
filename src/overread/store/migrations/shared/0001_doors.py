"""Tenants, senders, and the two functions through which a tenant's log-in reaches what is shared."""

from alembic import op

revision = "shared_0001"
down_revision = None
branch_labels = ("shared",)
depends_on = None

_SQL = """
CREATE TABLE overread.tenants (
    slug        text PRIMARY KEY CHECK (slug ~ '^[a-z][a-z0-9_]{0,39}$'),
    name        text NOT NULL,
    suspended   boolean NOT NULL DEFAULT false,
    created_at  timestamptz NOT NULL DEFAULT now()
);

-- A DICOM peer: the called AE title together with where it calls from. An AE title alone is no identity.
CREATE TABLE overread.senders (
    id                  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant              text NOT NULL REFERENCES overread.tenants (slug) ON DELETE CASCADE,
    called_ae           text NOT NULL,
    calling_ae          text,              -- NULL: any calling AE title from that address
    network             inet,
    certificate_sha256  text,
    created_at          timestamptz NOT NULL DEFAULT now(),
    CHECK (network IS NOT NULL OR certificate_sha256 IS NOT NULL)
);
CREATE INDEX senders_called_ae ON overread.senders (called_ae);
CREATE UNIQUE INDEX senders_once ON overread.senders
    (tenant, called_ae, coalesce(calling_ae, ''), coalesce(network, '0.0.0.0/0'), coalesce(certificate_sha256, ''));

-- Enqueue a job in the caller's own transaction. The tenant is the session's log-in, whatever the arguments say.
CREATE FUNCTION overread.enqueue(task text, args jsonb, priority integer, lock text, delay_s double precision)
    RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = jobs, pg_temp AS $$
DECLARE
    tenant text := substr(session_user, 3);
    job_id bigint;
BEGIN
    IF left(session_user, 2) <> 't_' THEN
        RAISE EXCEPTION 'only a tenant''s log-in may enqueue';
    END IF;
    INSERT INTO procrastinate_jobs (queue_name, task_name, priority, lock, args, scheduled_at)
    VALUES (
        session_user, task, priority, CASE WHEN lock IS NULL THEN NULL ELSE tenant || ':' || lock END,
        args || jsonb_build_object('tenant', tenant),
        CASE WHEN delay_s > 0 THEN now() + make_interval(secs => delay_s) END
    ) RETURNING id INTO job_id;
    RETURN job_id;
END
$$;
REVOKE ALL ON FUNCTION overread.enqueue FROM PUBLIC;

-- Announce a change when the transaction commits: ids only.
CREATE FUNCTION overread.publish(kind text, ids jsonb)
    RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF left(session_user, 2) <> 't_' THEN
        RAISE EXCEPTION 'only a tenant''s log-in may publish';
    END IF;
    PERFORM pg_notify(
        'overread_events',
        jsonb_build_object('tenant', substr(session_user, 3), 'kind', kind, 'ids', ids)::text
    );
END
$$;
REVOKE ALL ON FUNCTION overread.publish FROM PUBLIC;

GRANT USAGE ON SCHEMA overread TO overread_worker, overread_door;
GRANT SELECT ON overread.tenants TO overread_worker, overread_door;
GRANT SELECT ON overread.senders TO overread_door;

GRANT USAGE ON SCHEMA jobs TO overread_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA jobs TO overread_worker;
GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA jobs TO overread_worker;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA jobs TO overread_worker;
"""


def upgrade() -> None:
    op.execute(_SQL.replace(":", r"\:"))


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead: dropping tenants is never a migration")
