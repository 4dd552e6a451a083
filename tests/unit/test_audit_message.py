"""DICOM audit messages against the rules of PS3.15 A.5.1, and their syslog frames."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest
from tests.audit_schema import EVENT, check

from overread.domain.audit import EVENTS, Actor, ActorKind, AuditAction, AuditEvent, AuditOutcome
from overread.domain.errors import InvalidRequest
from overread.exchange.audit_message import audit_message
from overread.exchange.syslog import TlsSyslog, syslog_message


def parsed(event: AuditEvent, **changes: object) -> ET.Element:
    xml = audit_message(event, tenant="alpha", source="overread@host", **changes)  # type: ignore[arg-type]
    root = ET.fromstring(xml)
    check(root)
    return root


def test_the_rules_can_fail() -> None:
    root = parsed(EVENT)
    root[0].set("EventOutcomeIndicator", "3")
    with pytest.raises(AssertionError):
        check(root)
    other = parsed(EVENT)
    other.remove(other[1])
    other.remove(other[1])
    with pytest.raises(AssertionError):
        check(other)


def test_images_that_were_looked_at() -> None:
    root = parsed(EVENT, study_uid="1.2.840.7")
    event = root.find("EventIdentification")
    assert event is not None
    code = event.find("EventID")
    assert code is not None and code.attrib == {
        "csd-code": "110103",
        "codeSystemName": "DCM",
        "originalText": "DICOM Instances Accessed",
    }
    assert (event.get("EventActionCode"), event.get("EventOutcomeIndicator")) == ("R", "0")
    assert event.get("EventDateTime") == "2026-01-15T03:04:05.000678+00:00"
    who = root.find("ActiveParticipant")
    assert who is not None
    assert (who.get("UserName"), who.get("UserIsRequestor"), who.get("NetworkAccessPointID")) == (
        "radiologist",
        "true",
        "10.0.0.7",
    )
    source = root.find("AuditSourceIdentification")
    assert source is not None and source.get("AuditEnterpriseSiteID") == "alpha"
    objects = {o.get("ParticipantObjectTypeCodeRole"): o for o in root.findall("ParticipantObjectIdentification")}
    # PS3.15 A.5.3.6: at least one study and one patient.
    assert objects["1"].get("ParticipantObjectID") == "ab" * 32
    assert objects["3"].get("ParticipantObjectID") == "1.2.840.7"
    details = {
        d.get("type"): base64.b64decode(d.get("value") or "") for d in objects["13"].iter("ParticipantObjectDetail")
    }
    assert details["count"] == b"12" and details["channel"] == b"page" and details["names"] == b'["a","b"]'


@pytest.mark.parametrize("action", AuditAction, ids=lambda a: a.value)
@pytest.mark.parametrize("kind", ActorKind, ids=lambda k: k.value)
def test_every_action_fits_the_schema(action: AuditAction, kind: ActorKind) -> None:
    for outcome in AuditOutcome:
        root = parsed(
            replace(
                EVENT,
                action=action.value,
                outcome=outcome.value,
                code="" if outcome is AuditOutcome.SUCCESS else "FORBIDDEN",
                actor=replace(EVENT.actor, kind=kind, address="ct-room"),
                patient=None,
                study_id=None,
            )
        )
        event = root.find("EventIdentification/EventID")
        assert event is not None and event.get("csd-code") == EVENTS[action].id.value
        assert root[0].get("EventOutcomeIndicator") == {"success": "0", "failed": "4", "denied": "8"}[outcome.value]


def test_every_action_has_its_event() -> None:
    assert set(EVENTS) == set(AuditAction)
    assert {e.id.value for e in EVENTS.values()} >= {
        "110100", "110101", "110103", "110104", "110105", "110106", "110107", "110110", "110112", "110114",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["<x>&\"'", "a\x00b\x1fc", "\ud800", "Ünï\u2028", "]]>", "", "a\nb"])
def test_any_name_makes_good_xml(name: str) -> None:
    actor = Actor(kind=ActorKind.PEER, name=name, address="fe80::1", channel="dicom")
    root = parsed(replace(EVENT, actor=actor, facts={"x": name.replace("\ud800", "?"), "": name and 1}))
    who = root.find("ActiveParticipant")
    assert who is not None and who.get("UserID") is not None


def test_an_action_of_a_later_version_is_an_activity() -> None:
    root = parsed(replace(EVENT, action="teleported"))
    code = root.find("EventIdentification/EventID")
    assert code is not None and code.get("csd-code") == "110100"


def test_a_syslog_message() -> None:
    xml = audit_message(EVENT, tenant="alpha", source="overread@host")
    message = syslog_message(xml, at=EVENT.at, host='a "host]', version="0.1.0")
    match = re.fullmatch(
        rb"<85>1 2026-01-15T03:04:05\.000678\+00:00 ahost overread \d+ DICOM\+RFC3881"
        rb' \[origin software="overread" swVersion="0\.1\.0"\] \xef\xbb\xbf(<\?xml.*</AuditMessage>)',
        message,
    )
    assert match is not None
    check(ET.fromstring(match[1]))


@pytest.mark.parametrize("url", ["udp://x:514", "tls://", "tls://x:port", "tls://x/path", "x:6514"])
def test_no_address_of_a_syslog_server(url: str) -> None:
    with pytest.raises(InvalidRequest):
        TlsSyslog(url)
