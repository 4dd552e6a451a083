"""How the queue does, in numbers, for pages and /readyz: the door's log-in may not read the job tables."""

from alembic import op

revision = "shared_0006"
down_revision = "shared_0005"
branch_labels = None
depends_on = None

# Counted to ten thousand: a flood must not make the question slow.
_SQL = """
CREATE FUNCTION overread.queue_health(
    OUT workers integer, OUT silent_s double precision, OUT waiting bigint, OUT pressing bigint, OUT running bigint,
    OUT failed bigint, OUT oldest_s double precision
) LANGUAGE sql STABLE SECURITY DEFINER SET search_path = jobs, pg_temp AS $$
    SELECT
        (SELECT count(*)::integer FROM procrastinate_workers WHERE last_heartbeat > now() - interval '10 seconds'),
        (SELECT extract(epoch FROM now() - max(last_heartbeat)) FROM procrastinate_workers),
        (SELECT count(*) FROM (SELECT FROM procrastinate_jobs WHERE status = 'todo' LIMIT 10000) j),
        (SELECT count(*) FROM (SELECT FROM procrastinate_jobs WHERE status = 'todo' AND priority >= 100 LIMIT 10000) j),
        (SELECT count(*) FROM procrastinate_jobs WHERE status = 'doing'),
        (SELECT count(*) FROM (SELECT FROM procrastinate_jobs WHERE status = 'failed' LIMIT 10000) j),
        (SELECT extract(epoch FROM now() - min(coalesce(j.scheduled_at, j.enqueued_at)))
         FROM (SELECT scheduled_at, enqueued_at FROM procrastinate_jobs WHERE status = 'todo'
               AND (scheduled_at IS NULL OR scheduled_at <= now()) LIMIT 10000) j)
$$;
REVOKE ALL ON FUNCTION overread.queue_health FROM PUBLIC;
GRANT EXECUTE ON FUNCTION overread.queue_health TO overread_door, overread_worker;
"""


def upgrade() -> None:
    op.execute(_SQL.replace(":", r"\:"))


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead")
