"""The master key in AWS KMS, against moto's server."""

from __future__ import annotations

from collections.abc import Iterator

import boto3
import pytest

from overread.domain.errors import KeyUnavailable, SetupError
from overread.store.keys_kms import AwsKms
from overread.store.keys_master import SeveralKeys, from_environment

KEY = bytes(range(32))


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    yield f"http://{host}:{port}"
    moto.stop()


@pytest.fixture
def key(server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in {
        "AWS_ENDPOINT_URL_KMS": server,
        "AWS_REGION": "eu-central-1",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }.items():
        monkeypatch.setenv(name, value)
    found: str = boto3.client("kms").create_key()["KeyMetadata"]["KeyId"]
    return found


def test_a_data_key_is_wrapped_and_bound_to_its_context(key: str) -> None:
    kms = from_environment(f"aws-kms:{key}")
    assert isinstance(kms, AwsKms)
    assert kms.key_id == f"aws-kms:{key}"
    wrapped = kms.wrap(KEY, "tenant a")
    assert KEY not in wrapped
    assert kms.unwrap(wrapped, kms.key_id, "tenant a") == KEY
    with pytest.raises(KeyUnavailable, match="does not decrypt"):
        kms.unwrap(wrapped, kms.key_id, "tenant b")


def test_what_kms_refuses_is_one_clear_sentence(key: str) -> None:
    missing = from_environment("aws-kms:00000000-0000-0000-0000-000000000000")
    with pytest.raises(KeyUnavailable, match=r"does not encrypt with the master key \(NotFoundException\)"):
        missing.wrap(KEY, "c")
    kms = from_environment(f"aws-kms:{key}")
    wrapped = kms.wrap(KEY, "c")
    with pytest.raises(KeyUnavailable, match="does not decrypt"):
        kms.unwrap(wrapped[:-1] + bytes([wrapped[-1] ^ 1]), kms.key_id, "c")


def test_from_a_local_key_to_kms(key: str) -> None:
    local = from_environment("0b" * 32)
    wrapped = local.wrap(KEY, "c")
    both = from_environment(f"aws-kms:{key},{'0b' * 32}")
    assert isinstance(both, SeveralKeys)
    assert both.unwrap(wrapped, local.key_id, "c") == KEY
    anew = both.wrap(KEY, "c")
    assert both.key_id == f"aws-kms:{key}"
    assert from_environment(f"aws-kms:{key}").unwrap(anew, both.key_id, "c") == KEY
    back = from_environment(f"{'0b' * 32},aws-kms:{key}")
    assert back.key_id == local.key_id
    assert back.unwrap(anew, both.key_id, "c") == KEY


def test_without_a_region(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    with pytest.raises(SetupError, match="AWS KMS cannot be used"):
        AwsKms("k")


def test_a_server_that_is_away(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", "http://127.0.0.1:9")
    with pytest.raises(KeyUnavailable, match="EndpointConnectionError"):
        AwsKms(key).wrap(KEY, "c")
