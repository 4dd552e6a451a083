"""Database log-ins: one per tenant, one for the queue, one for the doors (API, receiver).

No serving log-in owns a table, is a member of another role, or may see the job table of the queue; a tenant's log-in
sees its own schema only (DESIGN.md 4.6). Passwords are derived from the installation's secret, so nothing is stored.
"""

from __future__ import annotations

import hashlib
import hmac

from overread.domain.study import TenantId

#: Runs the queue: reads and writes procrastinate's tables in schema `jobs`, lists tenants; no patient data.
WORKER = "overread_worker"
#: Opens the door: reads tenants and senders; no patient data.
DOOR = "overread_door"

SHARED_SCHEMA = "overread"
JOBS_SCHEMA = "jobs"


def tenant_role(tenant: TenantId) -> str:
    """Both the log-in and the schema of a tenant; the SQL functions rely on the prefix."""
    return f"t_{tenant.slug}"


def password(secret: bytes, role: str) -> str:
    """Hex, 64 characters."""
    return hmac.new(secret, f"overread database login {role}".encode(), hashlib.sha256).hexdigest()
