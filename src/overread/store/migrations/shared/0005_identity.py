"""Which keys sign the tokens of all tenants: salts only, the installation's secret makes keys of them."""

from alembic import op

revision = "shared_0005"
down_revision = "shared_0004"
branch_labels = None
depends_on = None

_SQL = """
CREATE TABLE overread.token_keys (
    kid             text PRIMARY KEY,
    salt            text NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    verifies_until  timestamptz             -- NULL: it signs; else when the last token that it signed has expired
);
-- What tokens were signed with before there was this table.
INSERT INTO overread.token_keys (kid, salt) VALUES ('1', '');
GRANT SELECT ON overread.token_keys TO overread_door;
"""


def upgrade() -> None:
    op.execute(_SQL.replace(":", r"\:"))


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead")
