"""Database log-ins: one per tenant, one for the queue, one for the doors (API, receiver).

No serving log-in owns a table, is a member of another role, or may see the job table of the queue; a tenant's log-in
sees its own schema only (DESIGN.md 4.6). Passwords are derived from the installation's secret, so nothing is stored.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
from typing import Final

from psycopg.conninfo import make_conninfo

from overread.domain.study import TenantId

#: Runs the queue: reads and writes procrastinate's tables in schema `jobs`, lists tenants; no patient data.
WORKER = "overread_worker"
#: Opens the door: reads tenants and senders; no patient data.
DOOR = "overread_door"

#: PostgreSQL's own number.
_ITERATIONS: Final = 4096

SHARED_SCHEMA = "overread"
JOBS_SCHEMA = "jobs"

#: Connections that one tenant may hold, of all processes together: one hospital cannot take the server's last one.
TENANT_CONNECTIONS: Final = 60

#: Settings of a tenant's log-in. A statement that was injected can set the first two anew, but only for itself; the
#: number of connections and (where the owner is a superuser) the size of temporary files it cannot.
TENANT_LIMITS: Final[tuple[tuple[str, str], ...]] = (
    ("statement_timeout", "60s"),
    ("idle_in_transaction_session_timeout", "120s"),
)
#: May be set by a superuser only: left out, and named by `overread doctor`, where the owner is none.
TENANT_SUPERUSER_LIMITS: Final[tuple[tuple[str, str], ...]] = (("temp_file_limit", "1GB"),)


def tenant_role(tenant: TenantId) -> str:
    """Both the log-in and the schema of a tenant; the SQL functions rely on the prefix."""
    return f"t_{tenant.slug}"


def password(secret: bytes, role: str) -> str:
    """Hex, 64 characters."""
    return hmac.new(secret, f"overread database login {role}".encode(), hashlib.sha256).hexdigest()


def login(conninfo: str, secret: bytes, role: str) -> str:
    """Connection string of a log-in on the server and database that `conninfo` names."""
    return make_conninfo(conninfo, user=role, password=password(secret, role))


@functools.lru_cache(maxsize=4096)
def scram_secret(secret: bytes, role: str) -> str:
    """What the server keeps of a log-in's password (RFC 5803), with a salt that is the same each time.

    Setting a password in the clear makes a new salt at each start of the installation, and a pooler that hands log-ins
    through (SCRAM) would hold keys of the old one. Besides, no password is in a statement that the server may log.
    """
    salt = hmac.new(secret, f"overread database salt {role}".encode(), hashlib.sha256).digest()[:16]
    salted = hashlib.pbkdf2_hmac("sha256", password(secret, role).encode(), salt, _ITERATIONS)
    stored = hashlib.sha256(hmac.new(salted, b"Client Key", hashlib.sha256).digest()).digest()
    server = hmac.new(salted, b"Server Key", hashlib.sha256).digest()
    salt64, stored64, server64 = (base64.b64encode(part).decode() for part in (salt, stored, server))
    return f"SCRAM-SHA-256${_ITERATIONS}:{salt64}${stored64}:{server64}"


def make_login(role: str, secret: bytes, search_path: str, *, tenant: bool) -> tuple[str, ...]:
    """What sets a log-in's password, schema and limits; may be run again at any time.

    It never says LOGIN: a suspended tenant's log-in stays closed.
    """
    statements = [
        f"ALTER ROLE {role} NOINHERIT NOCREATEDB NOCREATEROLE PASSWORD '{scram_secret(secret, role)}'",
        f"ALTER ROLE {role} RESET ALL",
        f"ALTER ROLE {role} SET search_path = {search_path}",
    ]
    if tenant:
        statements.append(f"ALTER ROLE {role} CONNECTION LIMIT {TENANT_CONNECTIONS}")
        statements += [f"ALTER ROLE {role} SET {name} = '{value}'" for name, value in TENANT_LIMITS]
    return tuple(statements)


def superuser_limits(role: str) -> tuple[str, ...]:
    """What only a superuser may set on a tenant's log-in."""
    return tuple(f"ALTER ROLE {role} SET {name} = '{value}'" for name, value in TENANT_SUPERUSER_LIMITS)


#: Functions of PostgreSQL that everybody may call by default and that would let one tenant reach into what is shared:
#: advisory locks could be held against others, large objects fill a table of the whole database.
SHARED_FUNCTIONS: Final = (
    "SELECT DISTINCT oid::regprocedure::text FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace"
    " AND (proname ~ '^pg_(try_)?advisory' OR proname ~ '^lo_' OR proname IN ('loread', 'lowrite'))"
    " AND has_function_privilege('public', oid, 'EXECUTE')"
)
