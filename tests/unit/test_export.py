"""A tenant's study as a ZIP without names, on record before the first image leaves."""

from __future__ import annotations

import io
import zipfile

import pydicom
from tests.app_on_fakes import ALPHA, SECRET_NAME, World, make_world

from overread.domain.audit import AuditAction


def exported(world: World, study: object) -> tuple[int, bytes]:
    answer = world.client().post(f"/api/studies/{study}/export", headers=world.bearer("admin"))
    return answer.status_code, answer.content


def test_a_study_leaves_without_names() -> None:
    world = make_world()
    study, _, _ = world.receive(BurnedInAnnotation="NO")
    status, data = exported(world, study)
    assert status == 200
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = archive.namelist()
        files = {name: archive.read(name) for name in names}
    assert {"deidentification.json", "deidentification.html"} < set(names)
    [copy] = [pydicom.dcmread(io.BytesIO(body)) for name, body in files.items() if name.endswith(".dcm")]
    assert copy.PatientIdentityRemoved == "YES"
    assert copy.Rows == 64
    surname, first = SECRET_NAME.split("^")
    everything = b"".join(name.encode() + body for name, body in files.items())
    for secret in (surname, first, "A-77", "19600229", "P-1"):
        assert secret.encode() not in everything, secret


def test_it_is_on_record_with_who_and_how_many() -> None:
    world = make_world()
    study, _, _ = world.receive(BurnedInAnnotation="NO")
    assert exported(world, study)[0] == 200
    rows = [row for row in world.db.state(ALPHA).audit if row[0] == AuditAction.EXPORT_MADE.value]
    assert [(who, about, facts) for _, who, about, facts in rows] == [
        ("admin", study, {"instances": 1, "deidentified": True})
    ]


def test_an_image_that_may_carry_words_stays_here_and_the_report_says_so() -> None:
    world = make_world()
    study, _, _ = world.receive()
    status, data = exported(world, study)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert [name for name in archive.namelist() if name.endswith(".dcm")] == []
        assert b"BURNED_IN_TEXT" in archive.read("deidentification.json")
    assert status == 200


def test_an_unknown_study_is_not_found_and_the_attempt_is_on_record() -> None:
    world = make_world()
    assert exported(world, "1.2.3.4.5")[0] == 404
    [(action, who, study, facts)] = world.db.state(ALPHA).audit
    assert (action, who, study) == (AuditAction.EXPORT_MADE.value, "admin", None)
    assert "instances" not in facts
