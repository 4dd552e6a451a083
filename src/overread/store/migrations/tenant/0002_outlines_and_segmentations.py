"""Outlines of segments on slices, the SEG of an analysis, and what is known of a measurement besides its value."""

from alembic import op

revision = "tenant_0002"
down_revision = "tenant_0001"
branch_labels = None
depends_on = None

_SQL = """
CREATE TABLE analysis_outlines (
    analysis_id             uuid NOT NULL REFERENCES image_analyses (id) ON DELETE CASCADE,
    segment_number          smallint NOT NULL,
    slice_index             integer NOT NULL,
    key                     text NOT NULL,
    name                    text NOT NULL,
    finding_id              uuid REFERENCES analysis_findings (id) ON DELETE CASCADE,
    sop_instance_uid        text NOT NULL,
    frame_number            integer NOT NULL,
    area_px                 real NOT NULL,
    rings                   jsonb NOT NULL,
    PRIMARY KEY (analysis_id, segment_number, slice_index)
);
CREATE INDEX outlines_image ON analysis_outlines (analysis_id, sop_instance_uid, frame_number);

ALTER TABLE image_analyses ADD COLUMN seg_object_key text;
ALTER TABLE image_analyses ADD COLUMN seg_segment_count smallint NOT NULL DEFAULT 0;
ALTER TABLE analysis_measurements ADD COLUMN metadata jsonb NOT NULL DEFAULT '{}';
-- As the analyser ordered them: ids of one millisecond have no order.
ALTER TABLE analysis_measurements ADD COLUMN position smallint NOT NULL DEFAULT 0;
"""


def upgrade() -> None:
    op.execute(_SQL.replace(":", r"\:"))


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead: dropping results is never a migration")
