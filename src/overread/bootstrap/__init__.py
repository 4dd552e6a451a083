"""Wiring: the one place that knows every concrete class. Importing it loads what every process needs and no more."""

from overread.bootstrap.auditing import audit_keeper, audit_render, audit_sink, audit_xml
from overread.bootstrap.connections import DEMO_AE, DEMO_TENANT, database_url, embedded, now, owner_conninfo
from overread.bootstrap.keys import (
    ciphers,
    database,
    master_key_file,
    master_keys,
    owner_keys,
    reencryption,
    sealer,
    shred_keys,
)
from overread.bootstrap.serving import access, build_app, watch, works
from overread.bootstrap.shared import Overread, build
from overread.bootstrap.working import (
    ANALYSERS_GROUP,
    WorkerParts,
    analysers,
    build_worker,
    commitment_peer,
    custody,
    registry,
    retention,
    retention_keeper,
)

__all__ = [
    "ANALYSERS_GROUP",
    "DEMO_AE",
    "DEMO_TENANT",
    "Overread",
    "WorkerParts",
    "access",
    "analysers",
    "audit_keeper",
    "audit_render",
    "audit_sink",
    "audit_xml",
    "build",
    "build_app",
    "build_worker",
    "ciphers",
    "commitment_peer",
    "custody",
    "database",
    "database_url",
    "embedded",
    "master_key_file",
    "master_keys",
    "now",
    "owner_conninfo",
    "owner_keys",
    "reencryption",
    "registry",
    "retention",
    "retention_keeper",
    "sealer",
    "shred_keys",
    "watch",
    "works",
]
