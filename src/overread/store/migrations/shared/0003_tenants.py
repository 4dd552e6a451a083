"""Tenants that are suspended or deleted, resumable work on them, and a fair queue."""

from alembic import op

revision = "shared_0003"
down_revision = "shared_0002"
branch_labels = None
depends_on = None

_SQL = """
-- Where a tenant is in its life. Served are those that are ready, not suspended, and whose last migration went well.
ALTER TABLE overread.tenants
    ADD COLUMN phase text NOT NULL DEFAULT 'ready' CHECK (phase IN ('creating', 'ready', 'deleting')),
    ADD COLUMN out_of_service text,     -- why the last migration failed; NULL: it went well
    ADD COLUMN prepared text;           -- fingerprint of schema, log-in and rights as they were last made

-- A deleted slug is never used again: tokens, objects and the archived audit trail name it.
CREATE TABLE overread.tenants_deleted (
    slug        text PRIMARY KEY,
    deleted_at  timestamptz NOT NULL DEFAULT now()
);

-- What the operator did with tenants: outlives the tenant, and no serving log-in may read or write it.
CREATE TABLE overread.tenant_log (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    tenant      text NOT NULL,
    action      text NOT NULL,
    actor       text NOT NULL,
    reason      text NOT NULL,
    facts       jsonb NOT NULL
);

-- LISTEN and NOTIFY need no right in PostgreSQL, so the names of the channels are the secret: a tenant's log-in that
-- does not know them can neither hear others nor speak in their name.
CREATE TABLE overread.channels (
    purpose     text PRIMARY KEY,
    name        text NOT NULL
);
INSERT INTO overread.channels (purpose, name)
    SELECT purpose, 'c_' || replace(gen_random_uuid()::text, '-', '') FROM unnest(ARRAY['events', 'jobs']) AS purpose;
GRANT SELECT ON overread.channels TO overread_door, overread_worker;

CREATE OR REPLACE FUNCTION overread.publish(kind text, ids jsonb)
    RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF left(session_user, 2) <> 't_' THEN
        RAISE EXCEPTION 'only a tenant''s log-in may publish';
    END IF;
    PERFORM pg_notify(
        (SELECT name FROM overread.channels WHERE purpose = 'events'),
        jsonb_build_object('tenant', substr(session_user, 3), 'kind', kind, 'ids', ids)::text
    );
END
$$;

-- Slugs of served tenants with images that no revision covers yet: one question a sweep instead of one a tenant.
CREATE FUNCTION overread.tenants_to_assemble() RETURNS SETOF text
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    tenant text;
    waits boolean;
BEGIN
    FOR tenant IN
        SELECT slug FROM overread.tenants
        WHERE NOT suspended AND phase = 'ready' AND out_of_service IS NULL ORDER BY slug
    LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM %I.instances WHERE NOT assembled)', 't_' || tenant) INTO waits;
        IF waits THEN
            RETURN NEXT tenant;
        END IF;
    END LOOP;
END
$$;
REVOKE ALL ON FUNCTION overread.tenants_to_assemble FROM PUBLIC;
GRANT EXECUTE ON FUNCTION overread.tenants_to_assemble TO overread_worker;

-- As before, and no priority beyond critical: it would stand above every other tenant's critical study.
CREATE OR REPLACE FUNCTION overread.enqueue(
    task text, args jsonb, priority integer, lock text, delay_s double precision
) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = jobs, pg_temp AS $$
DECLARE
    tenant text := substr(session_user, 3);
    job_id bigint;
BEGIN
    IF left(session_user, 2) <> 't_' THEN
        RAISE EXCEPTION 'only a tenant''s log-in may enqueue';
    END IF;
    INSERT INTO procrastinate_jobs (queue_name, task_name, priority, lock, args, scheduled_at)
    VALUES (
        session_user, task, least(priority, 200), CASE WHEN lock IS NULL THEN NULL ELSE tenant || ':' || lock END,
        args || jsonb_build_object('tenant', tenant),
        CASE WHEN delay_s > 0 THEN now() + make_interval(secs => delay_s) END
    ) RETURNING id INTO job_id;
    RETURN job_id;
END
$$;

-- The audit trails of deleted tenants with their seals, so that they can still be checked. Only the owner reads them;
-- the key that stood for patients is gone with the tenant. Filled by store.audit_archive.
CREATE TABLE overread.audit_archive (
    tenant      text NOT NULL,
    tx          xid8 NOT NULL,
    id          bigint NOT NULL,
    at          timestamptz NOT NULL,
    action      text NOT NULL,
    outcome     text NOT NULL,
    code        text NOT NULL,
    actor_kind  text NOT NULL,
    actor       text NOT NULL,
    user_id     uuid,
    role        text NOT NULL,
    session     text NOT NULL,
    address     text NOT NULL,
    channel     text NOT NULL,
    patient     text,
    study_id    uuid,
    facts       jsonb NOT NULL,
    PRIMARY KEY (tenant, id)
);
CREATE TABLE overread.audit_archive_seals (
    tenant      text NOT NULL,
    number      bigint NOT NULL,
    kind        text NOT NULL,
    sealed_at   timestamptz NOT NULL,
    first_at    timestamptz NOT NULL,
    last_at     timestamptz NOT NULL,
    row_count   bigint NOT NULL,
    ids         int8multirange NOT NULL,
    seen        bigint NOT NULL,
    next_tx     xid8 NOT NULL,
    settled     bigint NOT NULL,
    sha256      bytea NOT NULL,
    digests     bytea NOT NULL,
    previous    bytea NOT NULL,
    hash        bytea NOT NULL,
    key_id      text NOT NULL,
    signature   bytea NOT NULL,
    PRIMARY KEY (tenant, number)
);

-- --- the queue ------------------------------------------------------------------------------------------------------
-- procrastinate's own tables and functions, where ours differ. The worker rings on a secret channel, with no payload:
-- what a forged one could do is wake the worker. Jobs are never aborted from outside, so nothing is announced for that.
CREATE OR REPLACE FUNCTION jobs.procrastinate_notify_queue_job_inserted_v1() RETURNS trigger
    LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify((SELECT name FROM overread.channels WHERE purpose = 'jobs'), '');
    RETURN NEW;
END
$$;
CREATE OR REPLACE FUNCTION jobs.procrastinate_notify_queue_abort_job_v1() RETURNS trigger
    LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;

ALTER TABLE jobs.procrastinate_jobs ADD COLUMN enqueued_at timestamptz NOT NULL DEFAULT now();
-- In the place of procrastinate's index by priority alone: a queue without jobs would look through all the others'.
DROP INDEX jobs.procrastinate_jobs_priority_idx_v1;
CREATE INDEX overread_jobs_of_queue ON jobs.procrastinate_jobs (queue_name, priority DESC, id) WHERE status = 'todo';
CREATE INDEX overread_jobs_of_lock ON jobs.procrastinate_jobs (lock, priority DESC, id) WHERE status = 'todo';
CREATE INDEX overread_jobs_running ON jobs.procrastinate_jobs (queue_name) WHERE status = 'doing';

-- How often jobs were handed out, and when each queue was last served. The one row of `overread_turn` is also the gate
-- through which workers fetch one after the other: an advisory lock could be held by any log-in, this row cannot.
CREATE TABLE jobs.overread_turn (
    one         boolean PRIMARY KEY DEFAULT true CHECK (one),
    turn        bigint NOT NULL
) WITH (fillfactor = 10);
INSERT INTO jobs.overread_turn (turn) VALUES (0);
CREATE TABLE jobs.overread_turns (
    queue_name  character varying(128) PRIMARY KEY,
    last_turn   bigint NOT NULL
) WITH (fillfactor = 50);
GRANT SELECT, INSERT, UPDATE, DELETE ON jobs.overread_turn, jobs.overread_turns TO overread_worker;

-- Who is next (docs/explanation/tenants.md, "The queue"). Among the best waiting job of each served tenant: the higher
-- priority, then the tenant with the fewest running jobs, then the one served longest ago. Every eighth turn goes to
-- the tenant served longest ago whose best job has waited five minutes, whatever its priority: none starves.
-- Locks as procrastinate has them: one job of a lock at a time, the most pressing first.
CREATE OR REPLACE FUNCTION jobs.procrastinate_fetch_job_v2(target_queue_names character varying[], p_worker_id bigint)
    RETURNS jobs.procrastinate_jobs
    LANGUAGE plpgsql
    SET search_path = jobs, pg_temp
    -- Only the ways along our indexes: a plan that was made while the table was small must not outlive its growth.
    SET enable_seqscan = off
    SET enable_bitmapscan = off
    SET enable_sort = off
AS $$
DECLARE
    found_jobs procrastinate_jobs;
    this_turn bigint;
    chosen record;
BEGIN
    IF NOT EXISTS (SELECT FROM procrastinate_jobs WHERE status = 'todo') THEN
        RETURN found_jobs;
    END IF;
    SELECT turn + 1 INTO this_turn FROM overread_turn FOR UPDATE;
    FOR chosen IN
        SELECT queues.queue_name
        FROM (
            SELECT ('t_' || slug)::character varying AS queue_name FROM overread.tenants
            WHERE NOT suspended AND phase = 'ready' AND out_of_service IS NULL
            UNION ALL SELECT 'default'
        ) AS queues
        CROSS JOIN LATERAL (
            SELECT job.priority, job.enqueued_at
            FROM procrastinate_jobs AS job
            WHERE job.queue_name = queues.queue_name AND job.status = 'todo'
                AND (job.scheduled_at IS NULL OR job.scheduled_at <= now())
                AND (job.lock IS NULL OR (
                    NOT EXISTS (SELECT FROM procrastinate_jobs AS other
                                WHERE other.lock = job.lock AND other.status = 'doing')
                    AND job.id = (SELECT other.id FROM procrastinate_jobs AS other
                                  WHERE other.lock = job.lock AND other.status = 'todo'
                                  ORDER BY other.priority DESC, other.id LIMIT 1)
                ))
            ORDER BY job.priority DESC, job.id LIMIT 1
        ) AS best
        CROSS JOIN LATERAL (
            SELECT count(*) AS running FROM procrastinate_jobs AS job
            WHERE job.queue_name = queues.queue_name AND job.status = 'doing'
        ) AS busy
        LEFT JOIN overread_turns AS served ON served.queue_name = queues.queue_name
        CROSS JOIN LATERAL (
            SELECT this_turn % 8 = 0 AND best.enqueued_at < now() - interval '5 minutes' AS overdue,
                   coalesce(served.last_turn, 0) AS last_turn
        ) AS due
        WHERE target_queue_names IS NULL OR queues.queue_name = ANY (target_queue_names)
        ORDER BY due.overdue DESC, CASE WHEN due.overdue THEN due.last_turn END,
                 best.priority DESC, busy.running, due.last_turn, best.enqueued_at
    LOOP
        UPDATE procrastinate_jobs SET status = 'doing', worker_id = p_worker_id
        WHERE id = (
            SELECT job.id
            FROM procrastinate_jobs AS job
            WHERE job.queue_name = chosen.queue_name AND job.status = 'todo'
                AND (job.scheduled_at IS NULL OR job.scheduled_at <= now())
                AND (job.lock IS NULL OR (
                    NOT EXISTS (SELECT FROM procrastinate_jobs AS other
                                WHERE other.lock = job.lock AND other.status = 'doing')
                    AND job.id = (SELECT other.id FROM procrastinate_jobs AS other
                                  WHERE other.lock = job.lock AND other.status = 'todo'
                                  ORDER BY other.priority DESC, other.id LIMIT 1)
                ))
            ORDER BY job.priority DESC, job.id LIMIT 1
            FOR UPDATE OF job SKIP LOCKED
        )
        RETURNING * INTO found_jobs;
        IF found_jobs.id IS NOT NULL THEN
            UPDATE overread_turn SET turn = this_turn;
            INSERT INTO overread_turns (queue_name, last_turn) VALUES (chosen.queue_name, this_turn)
                ON CONFLICT (queue_name) DO UPDATE SET last_turn = excluded.last_turn;
            RETURN found_jobs;
        END IF;
    END LOOP;
    RETURN found_jobs;
END
$$;
"""


def upgrade() -> None:
    op.execute(_SQL.replace(":", r"\:"))


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead")
