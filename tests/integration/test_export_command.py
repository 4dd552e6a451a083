"""`overread export` on a real installation: out of the database and the encrypted object store, without names."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest

from overread import bootstrap
from overread.config import Settings
from overread.domain.audit import AuditAction, AuditFilter
from overread.domain.errors import Conflict, InvalidRequest, StudyNotFound
from overread.domain.study import Sender, TenantId
from tests.app_on_fakes import SECRET_NAME, make_dicom
from tests.integration.test_identity_commands import Shell


def test_a_study_leaves_without_names_and_on_record(
    settings: Settings, tenant: TenantId, overread: bootstrap.Overread, tmp_path: Path
) -> None:
    shell, sender = Shell(settings), Sender(channel="dicom", name="CT1", address="10.0.0.9")
    data = make_dicom(SOPClassUID="1.2.840.10008.5.1.4.1.1.2", Modality="CT", StudyInstanceUID="1.2.826.77.1")
    study = overread.receive.receive(tenant, data, sender, name="x.dcm").study_id
    assert study is not None
    with pytest.raises(Conflict, match="still coming in"):
        shell("export", tenant.slug, "1.2.826.77.1", "--deidentified", "--to", tmp_path / "early")
    with overread.database.unit(tenant) as unit:
        unit.studies.assemble(study)
    with pytest.raises(InvalidRequest, match="without names only"):
        shell("export", tenant.slug, "1.2.826.77.1", "--to", tmp_path / "a")
    with pytest.raises(StudyNotFound):
        shell("export", tenant.slug, "1.2.826.77.2", "--deidentified", "--to", tmp_path / "b")
    shell("export", tenant.slug, "1.2.826.77.1", "--deidentified", "--to", tmp_path / "c")
    [file] = (tmp_path / "c").rglob("*.dcm")
    assert SECRET_NAME.split("^")[0].encode() not in file.read_bytes()
    assert pydicom.dcmread(file).PatientIdentityRemoved == "YES"
    with overread.database.unit(tenant) as unit:
        rows = unit.audit_log.search(AuditFilter())
    [row] = [row for row in rows if row.action == AuditAction.EXPORT_MADE]
    assert row.actor.name == "command line"
