"""Storage Commitment (PS3.4 Annex J): the PACS says for each instance that it keeps it, or nothing goes.

We ask for instances that were received some hours ago (N-ACTION), and remember which ones under a Transaction UID of
ours. The answer (N-EVENT-REPORT) counts only if the AE that was asked gives it, for this hospital, while the request is
open, and only for instances that the request named. Whatever else happens, everything stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final

import structlog

from overread.domain.audit import AuditAction
from overread.domain.errors import InPacs, InvalidRequest, PacsUnavailable, UnknownTransaction
from overread.domain.ids import new_uid
from overread.domain.study import StoredInstance, TenantId
from overread.services.custody_ports import CommitmentPeer, CustodyReport, CustodyRequest, Pacs, RequestState
from overread.services.object_ports import ObjectStore
from overread.services.ports import Clock, Database

log = structlog.get_logger(__name__)

#: Instances named in one request.
BATCH: Final = 500
#: Requests sent in one run for one hospital: an hour's work.
REQUESTS_A_RUN: Final = 200
#: A request that was not answered after this is over.
PATIENCE: Final = timedelta(hours=24)
#: What was not confirmed is asked about again after this.
AGAIN: Final = timedelta(hours=24)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What one run did."""

    requests: int = 0
    instances: int = 0
    #: Requests that could not be sent.
    failed: int = 0
    #: Requests that got no answer in time.
    expired: int = 0


@dataclass(frozen=True, kw_only=True)
class CustodyService:
    """`peer` is None where nobody is asked (a receiver only takes answers)."""

    database: Database
    clock: Clock
    peer: CommitmentPeer | None = None
    uid_root: str = "2.25"

    def pacs(self, tenant: TenantId) -> Pacs | None:
        """The hospital's PACS, if one is set."""
        with self.database.unit(tenant) as unit:
            return unit.custody.pacs()

    def set_pacs(self, tenant: TenantId, pacs: Pacs | None, *, by: str) -> None:
        """Raises `InvalidRequest` for what cannot be a DICOM peer. None takes it away; then nothing goes any more."""
        if pacs is not None:
            _check(pacs)
        with self.database.unit(tenant) as unit:
            before = unit.custody.pacs()
            unit.custody.set_pacs(pacs, by=by, now=self.clock())
            unit.audit.record(
                AuditAction.SETTING_CHANGED, actor=by, key="pacs", before=shown(before), value=shown(pacs)
            )

    def ask(self, tenant: TenantId, *, requests: int = REQUESTS_A_RUN) -> Asked:
        """Ask about all that is due. Never raises for what the PACS does: it is asked again another time."""
        if self.peer is None:
            raise RuntimeError("this process asks nobody")
        now = self.clock()
        with self.database.unit(tenant) as unit:
            expired = unit.custody.expire(now - PATIENCE, now)
            pacs = unit.custody.pacs()
        if pacs is None:
            return Asked(expired=expired)
        sent = instances = 0
        while sent < requests:
            uid = new_uid(self.uid_root)
            with self.database.unit(tenant) as unit:
                items = unit.custody.take_unconfirmed(
                    pacs.ae_title,
                    received_before=now - timedelta(hours=pacs.ask_after_hours),
                    asked_before=now - AGAIN,
                    now=now,
                    limit=BATCH,
                )
                if not items:
                    break
                # On record before it is sent: the answer may come while we still wait for the N-ACTION's.
                request = CustodyRequest(
                    transaction_uid=uid, ae_title=pacs.ae_title, asked_at=now, state=RequestState.ASKED
                )
                unit.custody.begin(request, items)
            try:
                self.peer.ask(pacs, uid, items, partial(self.report, tenant, pacs.ae_title))
            except PacsUnavailable as error:
                log.warning("custody.not_asked", tenant=tenant.slug, code=error.code, reason=str(error))
                with self.database.unit(tenant) as unit:
                    unit.custody.end(uid, RequestState.FAILED, self.clock(), str(error)[:500])
                return Asked(requests=sent, instances=instances, failed=1, expired=expired)
            sent += 1
            instances += len(items)
            log.info("custody.asked", tenant=tenant.slug, instances=len(items))
        return Asked(requests=sent, instances=instances, expired=expired)

    def report(self, tenant: TenantId, calling_ae: str, report: CustodyReport) -> None:
        """Take an answer. Raises `UnknownTransaction`: no open request of this hospital to this AE; `StoreUnavailable`.

        An answer that was taken already is taken again, and changes nothing.
        """
        now = self.clock()
        with self.database.unit(tenant) as unit:
            request = unit.custody.request(report.transaction_uid)
            if request is None or request.ae_title != calling_ae:
                raise UnknownTransaction("This AE was asked nothing under that Transaction UID.")
            if request.state is RequestState.ANSWERED:
                return
            if request.state is not RequestState.ASKED or now - request.asked_at > PATIENCE:
                raise UnknownTransaction("The request of that Transaction UID is over.")
            confirmed, refused = unit.custody.settle(request, report, now)
            unit.custody.end(request.transaction_uid, RequestState.ANSWERED, now)
            unit.audit.record(
                AuditAction.CUSTODY_REPORTED,
                actor="retention",
                pacs=calling_ae,
                transaction=report.transaction_uid,
                confirmed=confirmed,
                refused=refused,
            )
        log.info("custody.reported", tenant=tenant.slug, confirmed=confirmed, refused=refused)


def shown(pacs: Pacs | None) -> str:
    """For the trail and the command line."""
    if pacs is None:
        return "none"
    tls = " over TLS" if pacs.tls else ""
    return f"{pacs.ae_title} at {pacs.host}:{pacs.port}{tls}, as {pacs.own_ae_title}, after {pacs.ask_after_hours} h"


def read_instance(objects: ObjectStore, tenant: TenantId, stored: StoredInstance) -> bytes:
    """The bytes of a received instance. Raises `InPacs` if they went there, `ObjectMissing` and the like."""
    if stored.in_pacs is not None:
        raise InPacs(
            f"This image is in the PACS {stored.in_pacs.ae_title} since {stored.in_pacs.since:%Y-%m-%d %H:%M} UTC and"
            " no longer here.",
            remedy="Have the PACS send it again to look at it here.",
            pacs=stored.in_pacs.ae_title,
        )
    return objects.get(tenant, stored.object_key)


def _check(pacs: Pacs) -> None:
    for name, title in (("ae", pacs.ae_title), ("own-ae", pacs.own_ae_title)):
        if not 0 < len(title) <= 16 or title != title.strip() or not title.isascii() or not title.isprintable():
            raise InvalidRequest(f"{title!r} is no AE title: 1 to 16 ASCII characters.", parameter=name)
        if "\\" in title:
            raise InvalidRequest("An AE title has no backslash.", parameter=name)
    if not pacs.host.strip() or pacs.host != pacs.host.strip() or len(pacs.host) > 253:
        raise InvalidRequest("The host must be a name or an address.", parameter="host")
    if not 0 < pacs.port < 65536:
        raise InvalidRequest("The port must be from 1 to 65535.", parameter="port")
    if not 0 <= pacs.ask_after_hours <= 24 * 366:
        raise InvalidRequest("It must be from 0 to 8784 hours.", parameter="ask-after")
