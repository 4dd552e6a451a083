"""Where the database is and who asks it; the clock; what a first installation is called."""

from __future__ import annotations

from datetime import UTC, datetime

from psycopg.conninfo import make_conninfo

from overread.config import Settings
from overread.domain.study import TenantId
from overread.store import roles
from overread.store.engine import EmbeddedPostgres

DEMO_TENANT = TenantId(slug="demo")
DEMO_AE = "OVERREAD"


def now() -> datetime:
    """The one clock: aware, UTC."""
    return datetime.now(UTC)


def embedded(settings: Settings) -> EmbeddedPostgres:
    """The embedded server of this installation (not started)."""
    return EmbeddedPostgres(settings.prepare_state(), roles.password(settings.secret(), "owner"))


def database_url(settings: Settings) -> str:
    """Connection string of the serving processes; `store.database` adds user and password."""
    return settings.database_url or embedded(settings).url


def owner_conninfo(settings: Settings) -> str:
    """Connection string of the owner, past any pooler: for commands and migrations, never for a serving process."""
    if settings.database_url:
        return settings.database_direct_url or settings.database_url
    return make_conninfo(embedded(settings).url, password=roles.password(settings.secret(), "owner"))
