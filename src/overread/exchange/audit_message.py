"""Rows of the audit trail as DICOM audit messages (PS3.15 A.5: RFC 3881 as DICOM has it).

Patients are named by their pseudonym only, so a message tells no more than the trail does.
"""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Mapping
from typing import Any, Final
from xml.etree import ElementTree as ET

import orjson

from overread.domain.audit import (
    EVENTS,
    EXPORT,
    IMPORT,
    INSTANCES_TRANSFERRED,
    Actor,
    ActorKind,
    AuditAction,
    AuditEvent,
    AuditOutcome,
    Code,
    DicomEvent,
    Does,
)

#: What a later version recorded and this one does not know, is told as an activity.
_UNKNOWN: Final = DicomEvent(id=Code(value="110100", meaning="Application Activity"), does=Does.EXECUTE)
#: Our own terms: actions, roles, kinds of ids.
_OURS: Final = "99OVERREAD"
#: EventOutcomeIndicator: success, minor failure, serious failure.
_OUTCOMES: Final[Mapping[str, str]] = {
    AuditOutcome.SUCCESS.value: "0",
    AuditOutcome.FAILED.value: "4",
    AuditOutcome.DENIED.value: "8",
}

_APPLICATION: Final = Code(value="110150", meaning="Application")
_DESTINATION: Final = Code(value="110152", meaning="Destination Role ID")
_SOURCE: Final = Code(value="110153", meaning="Source Role ID")
_STUDY_UID: Final = Code(value="110180", meaning="Study Instance UID")
_PATIENT_NUMBER: Final = Code(value="2", meaning="Patient Number", scheme="RFC-3881")

#: What XML 1.0 has no way to say (W3C XML 1.0, 2.2).
_NOT_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def audit_message(event: AuditEvent, *, tenant: str, source: str, study_uid: str | None = None) -> bytes:
    """The message of a row as UTF-8 XML.

    `tenant` is the AuditEnterpriseSiteID, `source` the AuditSourceID, `study_uid` StudyInstanceUID (0020,000D) of the
    row's study if it is still there; else our own id of it is told.
    """
    dicom = EVENTS[AuditAction(event.action)] if event.action in set(AuditAction) else _UNKNOWN
    message = ET.Element("AuditMessage")
    _identification(message, event, dicom)
    _participants(message, event, dicom, source)
    audit_source = ET.SubElement(
        message, "AuditSourceIdentification", AuditEnterpriseSiteID=_text(tenant), AuditSourceID=_text(source)
    )
    # Application server process.
    ET.SubElement(audit_source, "AuditSourceTypeCode", {"csd-code": "4"})
    _objects(message, event, study_uid)
    text: bytes = ET.tostring(message, encoding="UTF-8", xml_declaration=True)
    return text


def _identification(message: ET.Element, event: AuditEvent, dicom: DicomEvent) -> None:
    identification = ET.SubElement(
        message,
        "EventIdentification",
        EventActionCode=dicom.does.value,
        EventDateTime=event.at.isoformat(timespec="microseconds"),
        EventOutcomeIndicator=_OUTCOMES.get(event.outcome, "12"),
    )
    _coded(identification, "EventID", dicom.id)
    if dicom.type is not None:
        _coded(identification, "EventTypeCode", dicom.type)
    _coded(identification, "EventTypeCode", Code(value=event.action, meaning=event.action, scheme=_OURS))
    if event.code:
        ET.SubElement(identification, "EventOutcomeDescription").text = _text(event.code)


def _participants(message: ET.Element, event: AuditEvent, dicom: DicomEvent, source: str) -> None:
    """Who asked, and we; who gives and who takes where something moves (PS3.15 A.5.3.7, 8 and 11)."""
    roles: tuple[Code | None, Code] = (None, _APPLICATION)
    if dicom.id == EXPORT:
        roles = (_DESTINATION, _SOURCE)
    elif dicom.id in (IMPORT, INSTANCES_TRANSFERRED):
        roles = (_SOURCE, _DESTINATION)
    _participant(message, event.actor, roles[0])
    ours = ET.SubElement(
        message, "ActiveParticipant", UserID=_text(source), UserName="Overread", UserIsRequestor="false"
    )
    _coded(ours, "RoleIDCode", roles[1])


def _participant(message: ET.Element, actor: Actor, role: Code | None) -> None:
    participant = ET.SubElement(
        message,
        "ActiveParticipant",
        UserID=_text(str(actor.user_id) if actor.user_id is not None else actor.name) or "unknown",
        UserIsRequestor="true",
    )
    if actor.kind is ActorKind.PEER:
        participant.set("AlternativeUserID", f"AETITLES={_text(actor.name)}")
    elif actor.session:
        participant.set("AlternativeUserID", _text(actor.session))
    if actor.name:
        participant.set("UserName", _text(actor.name))
    if actor.address:
        participant.set("NetworkAccessPointID", _text(actor.address))
        participant.set("NetworkAccessPointTypeCode", "2" if _is_ip(actor.address) else "1")
    if role is not None:
        _coded(participant, "RoleIDCode", role)
    if actor.role:
        _coded(participant, "RoleIDCode", Code(value=actor.role, meaning=actor.role, scheme=_OURS))


def _objects(message: ET.Element, event: AuditEvent, study_uid: str | None) -> None:
    if event.patient is not None:
        _object(message, event.patient, _PATIENT_NUMBER, type_code="1", role="1", name="pseudonym")
    if event.study_id is not None:
        kind = _STUDY_UID if study_uid else Code(value="study", meaning="Study of Overread", scheme=_OURS)
        _object(message, study_uid or str(event.study_id), kind, type_code="2", role="3", name=str(event.study_id))
    # The row itself: who gets it twice can tell.
    row = _object(
        message,
        str(event.id),
        Code(value="audit-event", meaning="Row of the audit trail", scheme=_OURS),
        type_code="2",
        role="13",
        name=event.action,
    )
    details: dict[str, Any] = {"channel": event.actor.channel, "kind": event.actor.kind.value, **event.facts}
    for key, value in details.items():
        raw = value.encode("utf-8", "replace") if isinstance(value, str) else orjson.dumps(value)
        ET.SubElement(
            row, "ParticipantObjectDetail", type=_text(key) or "-", value=base64.b64encode(raw).decode("ascii")
        )


def _object(message: ET.Element, id: str, kind: Code, *, type_code: str, role: str, name: str) -> ET.Element:
    found = ET.SubElement(
        message,
        "ParticipantObjectIdentification",
        ParticipantObjectID=_text(id),
        ParticipantObjectTypeCode=type_code,
        ParticipantObjectTypeCodeRole=role,
    )
    _coded(found, "ParticipantObjectIDTypeCode", kind)
    ET.SubElement(found, "ParticipantObjectName").text = _text(name)
    return found


def _coded(parent: ET.Element, name: str, code: Code) -> None:
    ET.SubElement(
        parent,
        name,
        {"csd-code": _text(code.value), "codeSystemName": code.scheme, "originalText": _text(code.meaning)},
    )


def _text(value: str) -> str:
    return _NOT_XML.sub("\ufffd", value)


def _is_ip(address: str) -> bool:
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return False
    return True
