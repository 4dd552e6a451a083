"""Jobs that failed for good, for the operator's page: the door's log-in may not read the job table itself."""

from alembic import op

revision = "shared_0002"
down_revision = "shared_0001"
branch_labels = None
depends_on = None

_SQL = """
CREATE FUNCTION overread.dead_letters(most integer)
    RETURNS TABLE (job bigint, task text, args jsonb, attempts integer, at timestamptz)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = jobs, pg_temp AS $$
    SELECT j.id, j.task_name, j.args, j.attempts,
           (SELECT max(e.at) FROM procrastinate_events e WHERE e.job_id = j.id)
    FROM procrastinate_jobs j WHERE j.status = 'failed' ORDER BY j.id DESC LIMIT most
$$;
REVOKE ALL ON FUNCTION overread.dead_letters FROM PUBLIC;
GRANT EXECUTE ON FUNCTION overread.dead_letters TO overread_door, overread_worker;
"""


def upgrade() -> None:
    op.execute(_SQL.replace(":", r"\:"))


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead")
