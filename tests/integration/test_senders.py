"""Who may send: the operator's commands, and the directory that the receiver asks."""

from __future__ import annotations

import pytest

from overread import admin
from overread.bootstrap import Overread
from overread.config import Settings
from overread.domain.errors import InvalidRequest, NotFound, StoreUnavailable, UnknownSender
from overread.domain.study import TenantId


def add(settings: Settings, tenant: TenantId, **changes: str | None) -> None:
    values: dict[str, str | None] = {"network": None, "calling_ae": None, "certificate_sha256": None}
    values |= changes
    admin.add_sender(settings, tenant=tenant.slug, **values)  # type: ignore[arg-type]


def who(overread: Overread, called: str, calling: str, address: str, certificate: str | None = None) -> TenantId:
    return overread.directory.tenant_of(
        called_ae=called, calling_ae=calling, address=address, certificate_sha256=certificate
    )


def test_title_and_address_together_decide(
    settings: Settings, overread: Overread, tenant: TenantId, other_tenant: TenantId
) -> None:
    called = f"A_{tenant.slug[-8:]}".upper()
    add(settings, tenant, called_ae=called, network="10.0.0.0/8")
    add(settings, other_tenant, called_ae=called, network="10.1.2.3")
    assert who(overread, called, "CT", "10.9.9.9") == tenant
    assert who(overread, called, "CT", "10.1.2.3") == other_tenant, "the smaller network is the more specific one"
    for stranger in (("OTHER", "10.9.9.9"), (called, "192.0.2.1")):
        with pytest.raises(UnknownSender):
            who(overread, stranger[0], "CT", stranger[1])


def test_a_certificate_counts_more_than_an_address(
    settings: Settings, overread: Overread, tenant: TenantId, other_tenant: TenantId
) -> None:
    called = f"B_{tenant.slug[-8:]}".upper()
    add(settings, tenant, called_ae=called, network="10.1.2.3")
    add(settings, other_tenant, called_ae=called, certificate_sha256="ab" * 32)
    assert who(overread, called, "CT", "10.1.2.3", "ab" * 32) == other_tenant
    assert who(overread, called, "CT", "10.1.2.3", "cd" * 32) == tenant


def test_two_tenants_that_claim_the_same_peer_contradict_each_other(
    settings: Settings, overread: Overread, tenant: TenantId, other_tenant: TenantId
) -> None:
    called = f"C_{tenant.slug[-8:]}".upper()
    for owner in (tenant, other_tenant):
        add(settings, owner, called_ae=called, network="10.1.2.3")
    with pytest.raises(UnknownSender, match="Several"):
        who(overread, called, "CT", "10.1.2.3")


def test_list_and_remove(settings: Settings, overread: Overread, tenant: TenantId) -> None:
    called = f"D_{tenant.slug[-8:]}".upper()
    add(settings, tenant, called_ae=called, network="10.1.2.3", calling_ae="CT_1")
    add(settings, tenant, called_ae=called, network="10.1.2.3", calling_ae="CT_1")
    (mine,) = [row for row in admin.senders(settings) if row[2] == called]
    assert mine[1:] == (tenant.slug, called, "10.1.2.3", "CT_1", "")
    admin.remove_sender(settings, int(mine[0]))
    with pytest.raises(UnknownSender):
        who(overread, called, "CT_1", "10.1.2.3")
    with pytest.raises(NotFound):
        admin.remove_sender(settings, int(mine[0]))


@pytest.mark.parametrize(
    "wrong",
    [
        {"called_ae": "OVERREAD"},
        {"called_ae": "", "network": "10.0.0.1"},
        {"called_ae": "A" * 17, "network": "10.0.0.1"},
        {"called_ae": "A\\B", "network": "10.0.0.1"},
        {"called_ae": "OVERREAD", "network": "10.0.0.1; DROP TABLE"},
        {"called_ae": "OVERREAD", "certificate_sha256": "AB"},
        {"called_ae": "OVERREAD", "network": "10.0.0.1", "calling_ae": " "},
    ],
)
def test_what_cannot_be_used_is_named(settings: Settings, tenant: TenantId, wrong: dict[str, str]) -> None:
    with pytest.raises(InvalidRequest):
        add(settings, tenant, **wrong)


def test_an_unknown_tenant(settings: Settings) -> None:
    with pytest.raises(NotFound, match="no tenant"):
        add(settings, TenantId(slug="nobody"), called_ae="X", network="10.0.0.1")


def test_without_a_database_it_says_so(tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(StoreUnavailable, match="overread serve"):
        admin.senders(Settings(_env_file=None, state=tmp_path_factory.mktemp("none")))
