"""The data keys of a tenant, read by the owner: a suspended tenant's own log-in is closed."""

from __future__ import annotations

import sqlalchemy

from overread.domain.study import TenantId
from overread.services.key_ports import KeyManagement
from overread.services.values import TenantKeys
from overread.store.keys import DatabaseKeyRing


class OwnerKeyRing(DatabaseKeyRing):
    """Implements `services.key_ports.KeyRing`. Makes no keys."""

    def __init__(self, engine: sqlalchemy.Engine, master: KeyManagement) -> None:
        super().__init__(lambda _tenant: "", master)
        self._engine = engine
        self._known: dict[TenantId, TenantKeys] = {}

    def keys(self, tenant: TenantId) -> TenantKeys:
        """Raises `KeyUnavailable`, `KeyShredded`."""
        return self._known.get(tenant) or self.reload(tenant)

    def reload(self, tenant: TenantId) -> TenantKeys:
        """As `keys`, and not from memory."""
        with self._engine.connect() as connection:
            rows = connection.exec_driver_sql(
                "SELECT purpose, version, state, master, wrapped, plain_readable FROM overread.data_keys"
                " WHERE tenant = %s ORDER BY purpose, version",
                (tenant.slug,),
            ).fetchall()
        self._known[tenant] = self._unwrap(tenant, [tuple(row) for row in rows])
        return self._known[tenant]
