"""The rules of DICOM PS3.15 A.5.1 (RELAX NG there, written out here), and a row of the trail to try them on."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID
from xml.etree import ElementTree as ET

from overread.domain.audit import Actor, ActorKind, AuditEvent

STUDY = UUID("01890000-0000-7000-8000-000000000001")
EVENT = AuditEvent(
    id=7,
    at=datetime(2026, 1, 15, 3, 4, 5, 678, tzinfo=UTC),
    action="image.view",
    outcome="success",
    code="",
    actor=Actor(
        kind=ActorKind.PERSON,
        name="radiologist",
        user_id=UUID("01890000-0000-7000-8000-000000000002"),
        role="radiologist",
        session="s-1",
        address="10.0.0.7",
        channel="page",
    ),
    patient="ab" * 32,
    study_id=STUDY,
    facts={"count": 12, "first": "2026-01-15T03:04:05+00:00", "names": ["a", "b"]},
)


# --- PS3.15 A.5.1: (attributes: name -> (required, check); children: name -> (least, most) in this order) ------------


def _token(value: str) -> bool:
    return value == value.strip() and "\n" not in value and "  " not in value


def _one_of(*values: str) -> Callable[[str], bool]:
    return lambda value: value in values


def _base64(value: str) -> bool:
    return base64.b64encode(base64.b64decode(value, validate=True)).decode() == value


def _instant(value: str) -> bool:
    return bool(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", value))


def _anything(_value: str) -> bool:
    return True


MANY = 10_000
Rules = tuple[dict[str, tuple[bool, Callable[[str], bool]]], list[tuple[str, int, int]]]
CODED: Rules = (
    {
        "csd-code": (True, _token),
        "codeSystemName": (True, _token),
        "displayName": (False, _token),
        "originalText": (True, _token),
    },
    [],
)
SCHEMA: dict[str, Rules] = {
    "AuditMessage": (
        {},
        [
            ("EventIdentification", 1, 1),
            ("ActiveParticipant", 1, MANY),
            ("AuditSourceIdentification", 1, 1),
            ("ParticipantObjectIdentification", 0, MANY),
        ],
    ),
    "EventIdentification": (
        {
            "EventActionCode": (False, _one_of("C", "R", "U", "D", "E")),
            "EventDateTime": (True, _instant),
            "EventOutcomeIndicator": (True, _one_of("0", "4", "8", "12")),
        },
        [("EventID", 1, 1), ("EventTypeCode", 0, MANY), ("EventOutcomeDescription", 0, 1)],
    ),
    "ActiveParticipant": (
        {
            "UserID": (True, _anything),
            "AlternativeUserID": (False, _anything),
            "UserName": (False, _anything),
            "UserIsRequestor": (True, _one_of("true", "false")),
            "NetworkAccessPointID": (False, _token),
            "NetworkAccessPointTypeCode": (False, _one_of("1", "2", "3", "4", "5")),
        },
        [("RoleIDCode", 0, MANY), ("MediaIdentifier", 0, 1)],
    ),
    "AuditSourceIdentification": (
        {"AuditEnterpriseSiteID": (False, _token), "AuditSourceID": (True, _token)},
        [("AuditSourceTypeCode", 0, MANY)],
    ),
    "AuditSourceTypeCode": ({"csd-code": (True, _one_of(*"123456789"))}, []),
    "ParticipantObjectIdentification": (
        {
            "ParticipantObjectID": (True, _token),
            "ParticipantObjectTypeCode": (False, _one_of("1", "2", "3", "4")),
            "ParticipantObjectTypeCodeRole": (False, _one_of(*map(str, range(1, 27)))),
            "ParticipantObjectDataLifeCycle": (False, _one_of(*map(str, range(1, 16)))),
            "ParticipantObjectSensitivity": (False, _token),
        },
        [
            ("ParticipantObjectIDTypeCode", 1, 1),
            # or ParticipantObjectQuery, which we never write
            ("ParticipantObjectName", 1, 1),
            ("ParticipantObjectDetail", 0, MANY),
            ("ParticipantObjectDescription", 0, MANY),
        ],
    ),
    "ParticipantObjectDetail": ({"type": (True, _token), "value": (True, _base64)}, []),
    "EventOutcomeDescription": ({}, []),
    "ParticipantObjectName": ({}, []),
    **dict.fromkeys(("EventID", "EventTypeCode", "RoleIDCode", "ParticipantObjectIDTypeCode"), CODED),
}


def check(element: ET.Element) -> None:
    """Raises AssertionError where `element` breaks a rule."""
    attributes, children = SCHEMA[element.tag]
    assert set(element.attrib) <= set(attributes), element.tag
    for name, (required, fits) in attributes.items():
        if name in element.attrib:
            assert fits(element.attrib[name]), (element.tag, name, element.attrib[name])
        else:
            assert not required, (element.tag, name)
    order = [name for name, _, _ in children]
    places = [order.index(child.tag) for child in element]
    assert places == sorted(places), (element.tag, "order")
    for name, least, most in children:
        assert least <= sum(child.tag == name for child in element) <= most, (element.tag, name)
    for child in element:
        check(child)
