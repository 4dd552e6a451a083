"""Patient identifiers encrypted, with blind indexes to find them by.

The columns that held them in the clear stay, empty: `store.keys_reencrypt` encrypts and empties what an older version
wrote, since that takes a key which SQL does not have.
"""

from alembic import op

revision = "tenant_0007"
down_revision = "tenant_0006"
branch_labels = None
depends_on = None

_SQL = """
ALTER TABLE studies
    ALTER COLUMN patient_id SET DEFAULT '',
    ALTER COLUMN issuer_of_patient_id SET DEFAULT '',
    ALTER COLUMN patient_name SET DEFAULT '',
    ALTER COLUMN patient_sex SET DEFAULT '',
    ALTER COLUMN accession_number SET DEFAULT '',
    ALTER COLUMN study_description SET DEFAULT '',
    ADD COLUMN identifiers      bytea,      -- NULL: not yet encrypted
    ADD COLUMN patient_blind    bytea,      -- issuer and id
    ADD COLUMN patient_id_blind bytea,
    ADD COLUMN accession_blind  bytea,
    ADD COLUMN words            bytea[];    -- of name, id, accession number, description: for the worklist's search
DROP INDEX studies_patient;
CREATE INDEX studies_patient ON studies (patient_blind);
CREATE INDEX studies_patient_id ON studies (patient_id_blind);
CREATE INDEX studies_accession ON studies (accession_blind) WHERE accession_blind IS NOT NULL;
CREATE INDEX studies_words ON studies USING gin (words);
CREATE INDEX studies_uid_begins ON studies (study_instance_uid text_pattern_ops);
CREATE INDEX studies_plain ON studies (id) WHERE identifiers IS NULL;

ALTER TABLE series ALTER COLUMN series_description SET DEFAULT '';

ALTER TABLE instances
    ALTER COLUMN received_from SET DEFAULT '{}',
    ADD COLUMN identifiers      bytea,
    ADD COLUMN patient_blind    bytea;
CREATE INDEX instances_plain ON instances (id) WHERE identifiers IS NULL;

ALTER TABLE instance_revisions
    ALTER COLUMN received_from SET DEFAULT '{}',
    ADD COLUMN identifiers      bytea;
CREATE INDEX instance_revisions_plain ON instance_revisions (id) WHERE identifiers IS NULL;

ALTER TABLE rejections
    ALTER COLUMN message SET DEFAULT '',
    ALTER COLUMN received_from SET DEFAULT '{}',
    ADD COLUMN identifiers      bytea;
CREATE INDEX rejections_plain ON rejections (id) WHERE identifiers IS NULL;

-- How far `overread keys reencrypt` is: what is up to `last_id` has the version of the data key that is named.
CREATE TABLE reencryption (
    item                    text PRIMARY KEY,
    version                 integer NOT NULL,
    last_id                 uuid NOT NULL
);
"""


def upgrade() -> None:
    op.execute(_SQL.replace(":", r"\:"))


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead")
