"""What each hospital decides for itself: models, retention, limits."""

from alembic import op

revision = "tenant_0003"
down_revision = "tenant_0002"
branch_labels = None
depends_on = None

_SQL = """
-- One row a setting; what it was before stands in the audit trail. A value of JSON null means the default.
CREATE TABLE tenant_settings (
    key             text PRIMARY KEY,
    value           jsonb NOT NULL,
    changed_by      text NOT NULL,
    changed_at      timestamptz NOT NULL,
    reason          text NOT NULL CHECK (reason ~ '[^[:space:]]')
);

-- The list of the API, with superseded analyses and its filters, in its order: nothing is sorted that is not shown.
CREATE INDEX analyses_listed ON image_analyses (priority DESC, requested_at, id);
CREATE INDEX analyses_listed_status ON image_analyses (status, priority DESC, requested_at, id);
CREATE INDEX analyses_listed_modality ON image_analyses (modality, priority DESC, requested_at, id);
CREATE INDEX analyses_requested ON image_analyses (requested_at);
"""


def upgrade() -> None:
    op.execute(_SQL.replace(":", r"\:"))


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead")
