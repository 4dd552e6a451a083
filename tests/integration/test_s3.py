"""Objects in S3 (moto's server): a study from reception to its SR; the bucket away and back."""

from __future__ import annotations

import contextlib
import io
import os
import socket
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer
from pydicom import dcmread
from starlette.testclient import TestClient

from overread import bootstrap
from overread.config import Settings
from overread.dicom.listener import listen
from overread.dicom.receive import ReceiveOptions, StorageScp
from overread.dicom.send import Sent, send_files
from overread.dicom.sr import HighdicomSrWriter
from overread.domain.errors import ObjectMissing, ObjectStoreUnavailable
from overread.domain.study import TenantId
from overread.services.retention import RetentionService
from overread.services.structured_report import StructuredReportService
from overread.store import objects_s3
from overread.store.encrypted_objects import MAGIC
from overread.store.objects_s3 import S3Objects
from tests.integration.test_analyses import Bench, ChestModel, now, radiograph
from tests.integration.test_api_store import _DICOM, _add_users, _bearer
from tests.receiving import KnownSenders

BUCKET = "overread-test"


class Bucket:
    """A server that can go away and come back on its port, with what it holds."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._server: ThreadedMotoServer | None = None
        self.back()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def away(self) -> None:
        if self._server is not None:
            self._server.stop()
            self._server = None

    def back(self) -> None:
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=self.port, verbose=False)
        self._server.start()

    def names(self) -> list[str]:
        found = boto3.client("s3", endpoint_url=self.address).list_objects_v2(Bucket=BUCKET)
        return [each["Key"] for each in found.get("Contents", ())]

    def raw(self, key: str) -> bytes:
        data: bytes = boto3.client("s3", endpoint_url=self.address).get_object(Bucket=BUCKET, Key=key)["Body"].read()
        return data


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    made = Bucket()
    for name, value in {
        "AWS_ENDPOINT_URL": made.address,
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "eu-central-1",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setitem(objects_s3.PATIENCE, "max_retries", 1)
    monkeypatch.setitem(objects_s3.PATIENCE, "retry_timeout", timedelta(seconds=1))
    place: Any = {"LocationConstraint": "eu-central-1"}
    with contextlib.suppress(Exception):  # moto keeps it between tests of one process
        boto3.client("s3", endpoint_url=made.address).create_bucket(Bucket=BUCKET, CreateBucketConfiguration=place)
    yield made
    made.away()


@pytest.fixture
def on_s3(settings: Settings, bucket: Bucket) -> Iterator[bootstrap.Overread]:
    built = bootstrap.build(settings.model_copy(update={"objects_url": f"s3://{BUCKET}/installation"}))
    assert isinstance(built.stored, S3Objects)
    yield built
    built.close()


@contextlib.contextmanager
def receiver(overread: bootstrap.Overread, tenant: TenantId) -> Iterator[int]:
    with listen("127.0.0.1", 0) as listening:
        scp = StorageScp(overread.receive, KnownSenders(known={("OVERREAD", "127.0.0.1"): tenant}), ReceiveOptions())
        scp.start(listening)
        try:
            yield listening.getsockname()[1]
        finally:
            scp.stop(5.0)


def send(port: int, data: bytes) -> Sent:
    ((_, _, sent),) = send_files([("x", data)], host="127.0.0.1", port=port, called_ae="OVERREAD")
    return sent


def indexed(overread: bootstrap.Overread, tenant: TenantId) -> list[str]:
    with overread.database.unit(tenant) as unit:
        return list(unit.custody.object_keys())


def test_a_study_from_reception_to_its_report_and_back(
    on_s3: bootstrap.Overread, bucket: Bucket, tenant: TenantId
) -> None:
    sent = radiograph(1, "s3", "a")
    with receiver(on_s3, tenant) as port:
        assert send(port, sent).accepted
    bench = Bench(overread=on_s3, tenant=tenant, model=ChestModel())
    with on_s3.database.unit(tenant) as unit:
        study = unit.studies.find(str(dcmread(io.BytesIO(sent)).StudyInstanceUID))
        assert study is not None
        (stored,) = unit.studies.instances(study.id)
    analysis = bench.latest(study.id).id
    bench.service.run(tenant, analysis)
    StructuredReportService(database=on_s3.database, objects=on_s3.objects, writer=HighdicomSrWriter(), clock=now).run(
        tenant, analysis
    )
    row = bench.latest(study.id)
    assert row.outcome is not None and row.outcome.findings[0].finding_type == "pneumothorax"
    assert row.sr_object_key is not None
    back = on_s3.objects.get(tenant, stored.object_key)
    assert dcmread(io.BytesIO(back)).PixelData == dcmread(io.BytesIO(sent)).PixelData
    assert dcmread(io.BytesIO(on_s3.objects.get(tenant, row.sr_object_key))).Modality == "SR"
    assert indexed(on_s3, tenant) and {f"installation/{tenant.slug}/{key}" for key in indexed(on_s3, tenant)} == {
        key for key in bucket.names() if f"/{tenant.slug}/" in key
    }
    for key in bucket.names():
        assert bucket.raw(key).startswith(MAGIC), "what lies in the bucket is encrypted"
    listed = {kept.key: kept for kept in on_s3.objects.list(tenant)}
    assert set(listed) == set(indexed(on_s3, tenant))
    assert {kept.key for kept in on_s3.objects.list(tenant, "instances/")} == {stored.object_key}
    assert {kept.key for kept in on_s3.objects.list(tenant, "sr/")} == {row.sr_object_key}
    assert all(abs((kept.modified - now()).total_seconds()) < 300 for kept in listed.values())
    plan = RetentionService(
        database=on_s3.database, objects=on_s3.objects, clock=now, choices=on_s3.tenant_settings.current
    ).plan(tenant)
    assert not plan.goes and plan.missing_count == 0
    on_s3.objects.move(tenant, row.sr_object_key, f"trash/{row.sr_object_key}")
    on_s3.objects.move(tenant, f"trash/{row.sr_object_key}", row.sr_object_key)
    assert dcmread(io.BytesIO(on_s3.objects.get(tenant, row.sr_object_key))).Modality == "SR"
    on_s3.objects.delete(tenant, row.sr_object_key)
    on_s3.objects.delete(tenant, row.sr_object_key)  # what is not there is fine
    with pytest.raises(ObjectMissing):
        on_s3.objects.get(tenant, row.sr_object_key)


def test_while_the_bucket_is_away_nothing_is_acknowledged_and_the_sender_comes_again(
    on_s3: bootstrap.Overread, bucket: Bucket, tenant: TenantId
) -> None:
    _add_users(on_s3, tenant)
    first, second, third = (radiograph(number, "away", "a") for number in (1, 2, 3))
    client = TestClient(bootstrap.build_app(on_s3), follow_redirects=False)
    me = _bearer(client, tenant)
    with receiver(on_s3, tenant) as port:
        assert send(port, first).accepted
        before = indexed(on_s3, tenant)
        bucket.away()
        refused = send(port, second)
        assert not refused.accepted
        assert refused.reason.startswith("0xA700"), refused.reason
        assert indexed(on_s3, tenant) == before  # no row without its object
        with pytest.raises(ObjectStoreUnavailable):
            on_s3.objects.get(tenant, before[0])
        answer = client.post("/api/studies", content=third, headers={**me, **_DICOM})
        assert (answer.status_code, answer.json()["code"]) == (503, "OBJECT_STORE_UNAVAILABLE"), answer.text
        (listed,) = client.get("/api/image-analysis", headers=me).json()["analyses"]  # the worklist stays readable
        study = client.get(f"/api/studies/{listed['studyId']}", headers=me).json()
        picture = client.get(study["instances"][0]["image"], headers=me)
        assert (picture.status_code, picture.json()["code"]) == (503, "OBJECT_STORE_UNAVAILABLE")
        bucket.back()
        assert send(port, second).accepted
        answer = client.post("/api/studies", content=third, headers={**me, **_DICOM})
        assert answer.status_code == 200, answer.text
        assert client.get(study["instances"][0]["image"], headers=me).headers["content-type"] == "image/png"
    assert len(indexed(on_s3, tenant)) == 3
    for key in indexed(on_s3, tenant):
        assert on_s3.objects.get(tenant, key)


def test_what_is_given_is_what_the_environment_says(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials and server come from AWS_* alone; with none of them nothing is sent anywhere by accident."""
    stored = S3Objects.from_url(f"s3://{BUCKET}/elsewhere")
    tenant = TenantId(slug="demo")
    stored.put(tenant, "instances/a.dcm", b"x" * (6 << 20))  # more than one part
    assert stored.get(tenant, "instances/a.dcm") == b"x" * (6 << 20)
    assert [kept.size for kept in stored.list(tenant)] == [6 << 20]
    stored.delete_all(tenant)
    assert not list(stored.list(tenant))
    assert os.environ["AWS_ENDPOINT_URL"] == bucket.address
