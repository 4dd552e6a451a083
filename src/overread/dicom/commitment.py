"""Storage Commitment Push Model (PS3.4 Annex J): N-ACTION to the PACS, and its N-EVENT-REPORT.

The PACS answers on the association that we asked on, or, as most do, on one of its own to the receiver's port, where it
proposes to be the SCP by role selection (PS3.7 D.3.3.4). Both ways end in `report_of`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import structlog
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import AE, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
)

from overread.dicom.send import SenderTls
from overread.domain.errors import InvalidDicom, OverreadError, PacsUnavailable, UnknownTransaction
from overread.domain.ids import is_valid_uid
from overread.domain.study import TenantId
from overread.services.custody_ports import CustodyItem, CustodyReport, Pacs

log = structlog.get_logger(__name__)

SUCCESS: Final = 0x0000
#: PS3.7 Annex C.
PROCESSING_FAILURE: Final = 0x0110
NO_SUCH_EVENT: Final = 0x0113
INVALID_ARGUMENT: Final = 0x0115
RESOURCE_LIMITATION: Final = 0x0213
#: Event types (PS3.4 J.3.3): all committed; some failed.
_EVENT_TYPES: Final = frozenset({1, 2})
_REQUEST: Final = 1
#: Instances that one report may name.
_MOST: Final = 100_000


class CustodySink(Protocol):
    """`services.custody.CustodyService`."""

    def report(self, tenant: TenantId, calling_ae: str, report: CustodyReport) -> None:
        """Raises `UnknownTransaction`, `StoreUnavailable`."""
        ...


def report_of(information: Dataset) -> CustodyReport:
    """The Event Information of an N-EVENT-REPORT. Raises `InvalidDicom` if it is not what PS3.4 J.3.3.1 says."""
    transaction = str(information.get("TransactionUID", "") or "")
    if not is_valid_uid(transaction):
        raise InvalidDicom("The report names no Transaction UID (0008,1195).")
    done = information.get("ReferencedSOPSequence") or []
    failed = information.get("FailedSOPSequence") or []
    if len(done) + len(failed) > _MOST:
        raise InvalidDicom("The report names more instances than were ever asked for.")
    try:
        confirmed = frozenset(str(item.ReferencedSOPInstanceUID) for item in done)
        refused = {str(i.ReferencedSOPInstanceUID): int(i.get("FailureReason", 0x0110) or 0x0110) for i in failed}
    except (AttributeError, TypeError, ValueError) as error:
        raise InvalidDicom("The report has an item without ReferencedSOPInstanceUID (0008,1155).") from error
    return CustodyReport(transaction_uid=transaction, confirmed=confirmed, refused=refused)


def answer_to(event: evt.Event, take: Callable[[CustodyReport], None], calling_ae: str) -> int:
    """The status that answers an N-EVENT-REPORT, which `take` takes. Never raises."""
    try:
        if event.event_type not in _EVENT_TYPES:
            return NO_SUCH_EVENT
        take(report_of(event.event_information))
    except (UnknownTransaction, InvalidDicom) as error:
        log.warning("custody.report_refused", calling_ae=calling_ae, reason=str(error))
        return INVALID_ARGUMENT
    except OverreadError as error:
        log.warning("custody.report_postponed", calling_ae=calling_ae, code=error.code)
        return RESOURCE_LIMITATION if error.transient else PROCESSING_FAILURE
    except Exception as error:  # noqa: BLE001 - whatever a peer sends must not end the receiver
        log.error("custody.report_failed", calling_ae=calling_ae, error=type(error).__name__)
        return PROCESSING_FAILURE
    return SUCCESS


class CommitmentScu:
    """Implements `services.custody_ports.CommitmentPeer`."""

    def __init__(
        self, tls: Callable[[], SenderTls] | None = None, *, timeout_s: float = 30.0, linger_s: float = 1.0
    ) -> None:
        """`tls` makes what speaks TLS to PACS that are set so; without it those cannot be asked."""
        self._linger_s = linger_s
        self._tls = tls
        self._timeout_s = timeout_s

    def ask(
        self, pacs: Pacs, transaction_uid: str, items: Sequence[CustodyItem], take: Callable[[CustodyReport], None]
    ) -> None:
        """One association, one N-ACTION; a moment longer, for a PACS that answers on it. Raises `PacsUnavailable`."""
        answered = threading.Event()

        def on_report(event: evt.Event) -> tuple[int, None]:
            try:
                return answer_to(event, take, pacs.ae_title), None
            finally:
                answered.set()

        entity = AE(ae_title=pacs.own_ae_title)
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = entity.connection_timeout = (
            self._timeout_s
        )
        entity.add_requested_context(StorageCommitmentPushModel)
        where = f"{pacs.ae_title} at {pacs.host}:{pacs.port}"
        try:
            association = entity.associate(
                pacs.host,
                pacs.port,
                ae_title=pacs.ae_title,
                tls_args=self._tls_arguments(pacs),
                evt_handlers=[(evt.EVT_N_EVENT_REPORT, on_report)],
            )
        except (OSError, ValueError) as error:
            raise PacsUnavailable(f"The PACS {where} cannot be asked: {error}.") from error
        if not association.is_established:
            raise PacsUnavailable(
                f"The PACS {where} cannot be reached, or refused the association.",
                remedy=f"Register {pacs.own_ae_title} there with this machine's address and the receiver's port.",
            )
        try:
            status = self._action(association, transaction_uid, items)
            if status == SUCCESS:
                answered.wait(self._linger_s)
        except ValueError as error:  # the context was not accepted
            raise PacsUnavailable(f"The PACS {where} offers no Storage Commitment.") from error
        finally:
            _release(association)
        if status is None:
            raise PacsUnavailable(f"The PACS {where} gave no answer.")
        if status != SUCCESS:
            raise PacsUnavailable(f"The PACS {where} refused the request: 0x{status:04X}.")

    @staticmethod
    def _action(association: Any, transaction_uid: str, items: Sequence[CustodyItem]) -> int | None:
        information = Dataset()
        information.TransactionUID = UID(transaction_uid)
        information.ReferencedSOPSequence = []
        for item in items:
            named = Dataset()
            named.ReferencedSOPClassUID = UID(item.sop_class_uid)
            named.ReferencedSOPInstanceUID = UID(item.sop_instance_uid)
            information.ReferencedSOPSequence.append(named)
        answer, _ = association.send_n_action(
            information, _REQUEST, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        )
        status: int | None = answer.get("Status") if answer else None
        return status

    def _tls_arguments(self, pacs: Pacs) -> Any:
        if not pacs.tls:
            return None
        if self._tls is None:
            raise PacsUnavailable(
                "The PACS is to be asked over TLS, and this installation has no DICOM certificates.",
                remedy="Set OVERREAD_DICOM_TLS_CERTIFICATE, _KEY and _SENDERS.",
            )
        made = self._tls()
        return made.context, made.name or pacs.host


def _release(association: Any) -> None:
    """A peer that does not answer must not keep us: pynetdicom waits for its release."""
    done = threading.Thread(target=association.release, daemon=True)
    done.start()
    done.join(5.0)
    if done.is_alive():
        association.abort()
