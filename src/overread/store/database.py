"""Units of work on PostgreSQL: one transaction of one tenant's own log-in."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self
from uuid import UUID
from weakref import WeakKeyDictionary

import psycopg
import structlog
from psycopg.conninfo import make_conninfo
from psycopg.types.json import set_json_dumps, set_json_loads
from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout

from overread.domain.audit import PatientRef
from overread.domain.errors import StoreUnavailable, TenantSuspended
from overread.domain.study import TenantId
from overread.store import roles
from overread.store.audit_log import AuditLog
from overread.store.cipher import Ciphers
from overread.store.codec import dumps, loads
from overread.store.queue import TransactionalQueue
from overread.store.repositories.analyses import Analyses
from overread.store.repositories.audit import Audit
from overread.store.repositories.custody import Custody
from overread.store.repositories.events import Events
from overread.store.repositories.features import FeatureSwitches
from overread.store.repositories.machines import ApiKeys, Providers
from overread.store.repositories.optouts import OptOuts
from overread.store.repositories.outlines import Outlines
from overread.store.repositories.patient_trail import PatientTrail
from overread.store.repositories.sessions import Sessions
from overread.store.repositories.settings import Settings
from overread.store.repositories.studies import Studies
from overread.store.repositories.users import Users
from overread.store.repositories.worklist import Worklist

log = structlog.get_logger(__name__)

Connection = psycopg.Connection[tuple[Any, ...]]

#: Of this process. A pool has two threads, a connection a process of the server: the least recently used pools are
#: closed when a new one would make more of either.
_POOLS_KEPT = 128
_CONNECTIONS_KEPT = 100
#: Seconds after which a connection that nobody needs is given back.
_IDLE_S = 60.0
_POOL_WAIT_S = 5.0


#: A connection that was used within this many seconds is taken without asking whether it still lives.
_FRESH_S = 1.0
_last_used: WeakKeyDictionary[Connection, float] = WeakKeyDictionary()


def _check_if_idle(connection: Connection) -> None:
    """A round trip less for each of many short units; one that broke within a second raises `StoreUnavailable`."""
    if time.monotonic() - _last_used.get(connection, 0.0) > _FRESH_S:
        ConnectionPool.check_connection(connection)


class Postgres:
    """Implements `services.ports.Database`. Small lazy pools, one per tenant; the least recently used one is closed."""

    def __init__(
        self,
        conninfo: str,
        secret: bytes,
        ciphers: Ciphers,
        *,
        pool_size: int = 6,
        pooled: bool = False,
        gate: Callable[[TenantId], None] = lambda _tenant: None,
    ) -> None:
        """`conninfo` names the server and database; user and password are set per tenant.

        `pooled`: a pooler in transaction mode is between, so no statement is prepared.
        `gate` raises for a tenant that is not worked for (`directory.TenantGate.check`).
        """
        self._gate = gate
        self._ciphers = ciphers
        self._conninfo = conninfo
        self._secret = secret
        self._pool_size = pool_size
        self._connect: dict[str, Any] = {"prepare_threshold": None} if pooled else {}
        self._pools: OrderedDict[TenantId, ConnectionPool[Connection]] = OrderedDict()
        self._lock = threading.Lock()
        set_json_dumps(dumps)
        set_json_loads(loads)

    def unit(self, tenant: TenantId) -> PostgresUnit:
        """One transaction of this tenant; raises `StoreUnavailable` on entry if there is no server.

        Raises `TenantSuspended` or `TenantUnavailable` at once for a tenant that is not worked for.
        """
        try:
            self._gate(tenant)
        except TenantSuspended:
            self.forget(tenant)
            raise
        return PostgresUnit(self._pool, tenant, self._ciphers)

    def forget(self, tenant: TenantId) -> None:
        """Close a tenant's connections; a unit that is under way keeps its own until it ends."""
        with self._lock:
            pool = self._pools.pop(tenant, None)
        if pool is not None:
            pool.close()

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            pools, self._pools = list(self._pools.values()), OrderedDict()
        for pool in pools:
            pool.close()

    def login(self, role: str) -> str:
        """Connection string of another log-in (`roles.DOOR`, `roles.WORKER`) on the same server."""
        return make_conninfo(self._conninfo, user=role, password=roles.password(self._secret, role))

    def _pool(self, tenant: TenantId) -> ConnectionPool[Connection]:
        with self._lock:
            pool = self._pools.get(tenant)
            stale = []
            if pool is None:
                stale = self._too_many()
                pool = ConnectionPool(
                    self.login(roles.tenant_role(tenant)),
                    min_size=0,
                    max_size=self._pool_size,
                    max_idle=_IDLE_S,
                    reconnect_timeout=_POOL_WAIT_S,
                    num_workers=1,
                    check=_check_if_idle,
                    open=True,
                    name=roles.tenant_role(tenant),
                    kwargs=self._connect,
                )
                self._pools[tenant] = pool
            self._pools.move_to_end(tenant)
        for closing in stale:
            closing.close()
        return pool

    def _too_many(self) -> list[ConnectionPool[Connection]]:
        """Take out the least recently used pools, so that there is room for another one."""
        taken = []
        connections = sum(pool.get_stats().get("pool_size", 0) for pool in self._pools.values())
        while self._pools and (len(self._pools) >= _POOLS_KEPT or connections >= _CONNECTIONS_KEPT):
            _, pool = self._pools.popitem(last=False)
            connections -= pool.get_stats().get("pool_size", 0)
            taken.append(pool)
        return taken


class PostgresUnit:
    """Implements `services.ports.UnitOfWork`."""

    def __init__(
        self, pool_of: Callable[[TenantId], ConnectionPool[Connection]], tenant: TenantId, ciphers: Ciphers
    ) -> None:
        self._pool_of = pool_of
        self.patient_index = ciphers.values(tenant)
        self._connection: Connection | None = None
        self.tenant = tenant

    def __enter__(self) -> Self:
        try:
            try:
                self._pool = self._pool_of(self.tenant)
                connection = self._pool.getconn(timeout=_POOL_WAIT_S)
            except PoolClosed:  # it made room for another tenant's just then
                self._pool = self._pool_of(self.tenant)
                connection = self._pool.getconn(timeout=_POOL_WAIT_S)
        except (PoolTimeout, PoolClosed, psycopg.OperationalError) as error:
            raise StoreUnavailable("The database cannot be reached just now.", remedy="Try again shortly.") from error
        self._connection = connection
        self.studies = Studies(connection, self.patient_index)
        self.analyses = Analyses(connection, self.patient_index)
        self.outlines = Outlines(connection)
        self.worklist = Worklist(connection, self.analyses, self.patient_index)
        self.features = FeatureSwitches(connection)
        self.opt_outs = OptOuts(connection, self.patient_index)
        self.patient_trail = PatientTrail(connection, self.patient_index)
        self.settings = Settings(connection)
        self.custody = Custody(connection)
        self.jobs = TransactionalQueue(connection)
        self.events = Events(connection)
        self.audit_log = AuditLog(connection)
        self.audit = Audit(connection, self.tenant, self.patient_index, self._patient_of)
        self.users = Users(connection, self.tenant)
        self.sessions = Sessions(connection)
        self.api_keys = ApiKeys(connection)
        self.provider = Providers(connection)
        return self

    @property
    def connection(self) -> Connection:
        """Of this transaction, for other modules of `store`; only inside the block."""
        if self._connection is None:
            raise RuntimeError("the unit of work is over")
        return self._connection

    def _patient_of(self, study_id: UUID) -> PatientRef | None:
        row = self.studies.get(study_id)
        return PatientRef(issuer=row.issuer_of_patient_id, patient_id=row.patient_id) if row is not None else None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            if kind is None:
                connection.commit()
            elif not connection.closed:
                connection.rollback()
        except psycopg.OperationalError as failure:
            if kind is None:
                raise StoreUnavailable("The database went away; nothing was saved.") from failure
            log.warning("rollback failed", tenant=self.tenant.slug)
        finally:
            _last_used[connection] = time.monotonic()
            self._pool.putconn(connection)
        if isinstance(error, psycopg.OperationalError):
            raise StoreUnavailable("The database went away; nothing was saved.") from error
