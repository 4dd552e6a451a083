"""Accounts, sessions, locks and keys on the real database, with the tenant's own log-in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from overread import bootstrap
from overread.config import Settings
from overread.domain.errors import Conflict, RateLimited, SecondFactorRequired, SessionEnded, Unauthenticated
from overread.domain.study import TenantId
from overread.services.access import AccessService, KeyRing, Means, Permission, Role, Sealer, totp
from overread.services.access.service import AccessService as _Service
from overread.services.identity_values import ProviderRow
from overread.store import migrate, roles, token_keys
from overread.store.repositories.sessions import FOR_ALL, PER_ADDRESS, lock_after
from tests.fake_identity import FakeProviderWeb
from tests.fakes import FakeClock
from tests.integration.conftest import make_tenant

PASSWORD = "a long enough password"


class Process:
    """One API process: its own memory, the same database."""

    def __init__(self, overread: bootstrap.Overread, clock: FakeClock) -> None:
        self.access: AccessService = _Service(
            overread.database,
            ring=KeyRing.fixed({"1": b"k" * 32}, "1"),
            sealer=Sealer(b"s" * 32),
            clock=clock,
            web=FakeProviderWeb(),
            ticks=lambda: clock().timestamp(),
        )


@pytest.fixture(scope="module")
def hospital(settings: Settings) -> TenantId:
    return make_tenant(settings)


@pytest.fixture
def tenant(settings: Settings, hospital: TenantId) -> TenantId:
    """One tenant for all tests of this file, empty each time: making one takes seconds."""
    owner = migrate.owner_engine(bootstrap.owner_conninfo(settings))
    with owner.begin() as connection:
        tables = ("users", "recovery_codes", "revoked_sessions", "login_failures", "api_keys", "identity_provider")
        names = ", ".join(f"{roles.tenant_role(hospital)}.{table}" for table in tables)
        connection.exec_driver_sql(f"TRUNCATE {names} CASCADE")
    owner.dispose()
    return hospital


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(datetime.now(UTC).replace(microsecond=0))


@pytest.fixture
def here(overread: bootstrap.Overread, clock: FakeClock) -> Process:
    return Process(overread, clock)


@pytest.fixture
def there(overread: bootstrap.Overread, clock: FakeClock) -> Process:
    return Process(overread, clock)


def add(process: Process, tenant: TenantId, name: str = "kim", role: Role = Role.RADIOLOGIST) -> None:
    assert process.access.accounts.add(tenant, name=name, role=role, password=PASSWORD, actor="test") is None


def enter(process: Process, tenant: TenantId, name: str = "kim", *, address: str = "10.0.0.1", **more: object) -> str:
    return process.access.log_in(tenant.slug, name, PASSWORD, address=address, **more).token  # type: ignore[arg-type]


def fail(process: Process, tenant: TenantId, name: str = "kim", *, address: str = "10.0.0.1") -> None:
    with pytest.raises(Unauthenticated, match="User name or password is wrong"):
        process.access.log_in(tenant.slug, name, "wrong", address=address)


# --- what is taken away is gone in every process within five seconds -----------------------------------------


@pytest.mark.parametrize("what", ["disable", "role", "log out", "everywhere", "password", "reset totp"])
def test_revocation_reaches_other_processes(
    here: Process, there: Process, tenant: TenantId, clock: FakeClock, what: str
) -> None:
    add(here, tenant)
    token = enter(here, tenant)
    who = there.access.identify(token)
    assert who.role is Role.RADIOLOGIST and who.user_id is not None
    accounts = here.access.accounts
    match what:
        case "disable":
            accounts.set_disabled(tenant, who.user_id, True, actor="test")
        case "role":
            accounts.set_role(tenant, who.user_id, Role.TECHNICIAN, actor="test")
        case "log out":
            here.access.log_out(who, address="")
        case "everywhere":
            here.access.log_out_everywhere(tenant, who.user_id, actor="test")
        case "password":
            accounts.change_password(who, PASSWORD, "another long password", address="")
        case "reset totp":
            accounts.reset_totp(tenant, who.user_id, actor="test")
    with pytest.raises(Unauthenticated):
        here.access.identify(token)
    clock.advance(seconds=5)
    with pytest.raises(Unauthenticated):
        there.access.identify(token)


def test_a_log_out_ends_one_session_only(here: Process, tenant: TenantId) -> None:
    add(here, tenant)
    one, other = enter(here, tenant), enter(here, tenant)
    here.access.log_out(here.access.identify(one), address="")
    with pytest.raises(Unauthenticated):
        here.access.identify(one)
    assert here.access.identify(other).name == "kim"


def test_the_last_administrator_stays(here: Process, tenant: TenantId) -> None:
    add(here, tenant, "first", Role.ADMIN)
    accounts = here.access.accounts
    first = accounts.named(tenant, "first")
    with pytest.raises(Conflict, match="last administrator"):
        accounts.set_disabled(tenant, first.id, True, actor="test")
    with pytest.raises(Conflict, match="last administrator"):
        accounts.set_role(tenant, first.id, Role.TECHNICIAN, actor="test")
    add(here, tenant, "second", Role.ADMIN)
    accounts.set_disabled(tenant, first.id, True, actor="test")
    with pytest.raises(Conflict, match="last administrator"):
        accounts.set_disabled(tenant, accounts.named(tenant, "second").id, True, actor="test")


# --- locks ---------------------------------------------------------------------------------------------------


def test_waits_double() -> None:
    minutes = [(wait := lock_after(n)) and wait / timedelta(minutes=1) for n in range(3, 12)]
    assert minutes == [None, None, 1, 2, 4, 8, 15, 15, 15]


def test_an_address_that_guesses_is_locked_in_all_processes(
    here: Process, there: Process, tenant: TenantId, clock: FakeClock
) -> None:
    add(here, tenant)
    for n in range(PER_ADDRESS):
        fail((here, there)[n % 2], tenant)
    for process in (here, there):
        with pytest.raises(RateLimited, match="60 s"):
            enter(process, tenant)  # the right password does not help
    assert there.access.identify(enter(here, tenant, address="10.0.0.2"))  # and the owner elsewhere is not locked
    clock.advance(seconds=61)
    fail(here, tenant)
    with pytest.raises(RateLimited, match="2 min"):
        enter(here, tenant)
    clock.advance(seconds=121)
    enter(here, tenant)
    fail(here, tenant)  # a log-in that worked begins anew
    enter(here, tenant)


def test_names_that_nobody_has_answer_alike(here: Process, tenant: TenantId) -> None:
    for _ in range(PER_ADDRESS):
        fail(here, tenant, "nobody")
    with pytest.raises(RateLimited):
        here.access.log_in(tenant.slug, "nobody", "x", address="10.0.0.1")


def test_a_flood_from_one_address_locks_nobody_out(here: Process, tenant: TenantId, clock: FakeClock) -> None:
    """Hours of guessing every time that it may: the owner at another address comes in all the same."""
    names = ["ann", "bob", "cyd"]
    for name in names:
        add(here, tenant, name)
    for _ in range(PER_ADDRESS + 12):
        for name in names:
            fail(here, tenant, name, address="203.0.113.9")
        clock.advance(minutes=15, seconds=1)
    for name in names:
        assert enter(here, tenant, name, address="10.0.0.2")


def test_many_addresses_lock_an_account_for_a_while(here: Process, tenant: TenantId, clock: FakeClock) -> None:
    add(here, tenant)
    for n in range(FOR_ALL // PER_ADDRESS):
        for _ in range(PER_ADDRESS):
            fail(here, tenant, address=f"203.0.113.{n}")
    with pytest.raises(RateLimited, match="15 min"):
        enter(here, tenant, address="10.0.0.2")
    clock.advance(minutes=15, seconds=1)
    enter(here, tenant, address="10.0.0.2")


def test_ipv6_neighbours_are_one_address(here: Process, tenant: TenantId) -> None:
    add(here, tenant)
    for n in range(PER_ADDRESS):
        fail(here, tenant, address=f"2001:db8:1:2::{n}")
    with pytest.raises(RateLimited):
        enter(here, tenant, address="2001:db8:1:2:ffff::1")
    assert enter(here, tenant, address="2001:db8:1:3::1")


def test_an_administrator_lifts_locks(here: Process, tenant: TenantId) -> None:
    add(here, tenant)
    for _ in range(PER_ADDRESS):
        fail(here, tenant)
    user = here.access.accounts.named(tenant, "kim")
    made_up = here.access.accounts.reset_password(tenant, user.id, actor="test")
    assert made_up is not None
    session = here.access.log_in(tenant.slug, "kim", made_up, address="10.0.0.1")
    assert here.access.identify(session.token).must_change_password


# --- second factor -------------------------------------------------------------------------------------------


def test_second_factor(here: Process, there: Process, tenant: TenantId, clock: FakeClock) -> None:
    add(here, tenant)
    who = here.access.identify(enter(here, tenant))
    offer = here.access.accounts.offer_totp(who, PASSWORD, address="")
    step = totp.step_of(clock())
    codes = here.access.accounts.confirm_totp(who, totp.code_at(offer.secret, step), address="")
    assert len(codes) == len(set(codes)) == 10
    assert here.access.accounts.own(who).recovery_codes_left == 10
    with pytest.raises(SecondFactorRequired):
        enter(here, tenant)
    with pytest.raises(Unauthenticated, match="used before"):  # that of the enrolment is spent
        enter(here, tenant, code=totp.code_at(offer.secret, step))
    clock.advance(seconds=30)
    code = totp.code_at(offer.secret, step + 1)
    assert enter(here, tenant, code=code)
    with pytest.raises(Unauthenticated, match="used before"):
        enter(there, tenant, code=code)
    assert enter(there, tenant, code=codes[0].upper())
    with pytest.raises(Unauthenticated, match="used before"):
        enter(here, tenant, code=codes[0])
    assert here.access.accounts.own(who).recovery_codes_left == 9
    with here_unit(here, tenant) as uow:
        row = uow.users.by_name("kim")
        assert row is not None and row.totp_secret is not None and offer.secret not in row.totp_secret


def here_unit(process: Process, tenant: TenantId):
    return process.access._db.unit(tenant)


def test_wrong_codes_lock_too(here: Process, tenant: TenantId, clock: FakeClock) -> None:
    add(here, tenant)
    who = here.access.identify(enter(here, tenant))
    offer = here.access.accounts.offer_totp(who, PASSWORD, address="")
    here.access.accounts.confirm_totp(who, totp.code_at(offer.secret, totp.step_of(clock())), address="")
    with pytest.raises(SecondFactorRequired) as wanted:
        enter(here, tenant, means=Means.PAGE)
    pending = str(wanted.value.details["pending"])
    for _ in range(PER_ADDRESS):
        with pytest.raises(Unauthenticated):
            here.access.second_factor(pending, "000000", address="10.0.0.1")
    clock.advance(seconds=30)
    code = totp.code_at(offer.secret, totp.step_of(clock()))
    with pytest.raises(RateLimited):
        here.access.second_factor(pending, code, address="10.0.0.1")
    session = here.access.second_factor(pending, code, address="10.0.0.2")
    assert here.access.identify(session.token, by_cookie=True).means is Means.PAGE
    with pytest.raises(Unauthenticated):  # what waits for a code is no session
        here.access.identify(pending)


# --- pages that nobody uses ----------------------------------------------------------------------------------


def test_a_page_ends_that_nobody_uses(here: Process, tenant: TenantId, clock: FakeClock) -> None:
    add(here, tenant)
    token = enter(here, tenant, means=Means.PAGE)
    for _ in range(4):  # looked at, but by a machine
        clock.advance(minutes=3)
        who = here.access.identify(token, by_cookie=True)
    renewed = here.access.used(who)
    assert renewed is not None and renewed.identity.session == who.session
    clock.advance(minutes=3)
    with pytest.raises(SessionEnded, match="15 minutes"):
        here.access.identify(token, by_cookie=True)
    for _ in range(100):  # somebody works: until the session's own end, and no longer
        clock.advance(minutes=7)
        try:
            who = here.access.identify(renewed.token, by_cookie=True)
        except Unauthenticated as error:
            assert not isinstance(error, SessionEnded)
            break
        renewed = here.access.used(who) or renewed
    else:
        pytest.fail("a session went on for ever")
    assert timedelta(hours=9) < clock() - who.expires_at + timedelta(hours=10) < timedelta(hours=11)


def test_a_pages_cookie_is_no_key_for_programs(here: Process, tenant: TenantId) -> None:
    add(here, tenant)
    with pytest.raises(Unauthenticated):
        here.access.identify(enter(here, tenant, means=Means.PAGE))
    with pytest.raises(Unauthenticated):
        here.access.identify(enter(here, tenant), by_cookie=True)


# --- keys of machines ----------------------------------------------------------------------------------------


def test_api_keys(here: Process, there: Process, tenant: TenantId, clock: FakeClock) -> None:
    keys = here.access.api_keys
    made = keys.create(
        tenant,
        name="ris",
        lifetime=timedelta(days=1),
        permissions=["upload"],
        networks=["10.1.0.0/16"],
        actor="test",
    )
    with here_unit(here, tenant) as uow:
        assert made.key.rpartition(".")[2] not in str(uow.api_keys.all())
    who = there.access.identify(made.key, address="10.1.2.3")
    assert (who.role, who.tenant, who.name) == (Role.SERVICE, tenant, "key:ris")
    assert who.may(Permission.UPLOAD) and not who.may(Permission.READ_STUDIES)
    (row,) = keys.all(tenant)
    assert (row.last_used_at, row.last_used_from) == (clock(), "10.1.2.3")
    for refused in (made.key[:-4] + "xxxx", made.key + "x", made.key[:-1], "ovr_x", "ovr_"):
        with pytest.raises(Unauthenticated):
            here.access.identify(refused, address="10.1.2.3")
    with pytest.raises(Unauthenticated):
        here.access.identify(made.key, address="10.2.2.3")
    with pytest.raises(Unauthenticated):
        here.access.identify(made.key, by_cookie=True, address="10.1.2.3")
    with pytest.raises(Conflict):
        keys.create(tenant, name="ris", lifetime=timedelta(days=1), actor="test")
    keys.revoke(tenant, row.id, actor="test")
    clock.advance(seconds=5)
    for process in (here, there):
        with pytest.raises(Unauthenticated):
            process.access.identify(made.key, address="10.1.2.3")
    again = keys.create(tenant, name="ris", lifetime=timedelta(days=1), actor="test")
    assert here.access.identify(again.key).only is None
    clock.advance(days=1)
    with pytest.raises(Unauthenticated):
        here.access.identify(again.key)


def test_a_key_of_one_hospital_is_none_of_another(here: Process, tenant: TenantId, other_tenant: TenantId) -> None:
    made = here.access.api_keys.create(tenant, name="ris", lifetime=timedelta(days=1), actor="test")
    with pytest.raises(Unauthenticated):
        here.access.identify(made.key.replace(f"ovr_{tenant.slug}.", f"ovr_{other_tenant.slug}."))


# --- keys that sign ------------------------------------------------------------------------------------------


def test_token_keys_rotate(settings: Settings, overread: bootstrap.Overread, tenant: TenantId) -> None:
    owner = migrate.owner_engine(bootstrap.owner_conninfo(settings))
    here, there = bootstrap.access(overread), bootstrap.access(overread)
    here.accounts.add(tenant, name="kim", role=Role.RADIOLOGIST, password=PASSWORD, actor="test")
    old = here.log_in(tenant.slug, "kim", PASSWORD, address="").token
    assert there.identify(old).name == "kim"
    token_keys.rotate(owner, old_verify_for=timedelta(hours=8))
    fresh = bootstrap.access(overread)
    new = fresh.log_in(tenant.slug, "kim", PASSWORD, address="").token
    assert old.split(".")[0] != new.split(".")[0]
    for process in (fresh, bootstrap.access(overread)):
        assert process.identify(old).name == process.identify(new).name == "kim"
    token_keys.rotate(owner, old_verify_for=timedelta(0))
    with pytest.raises(Unauthenticated):
        bootstrap.access(overread).identify(new)
    owner.dispose()


def test_a_tenants_log_in_sees_no_token_keys(overread: bootstrap.Overread, tenant: TenantId) -> None:
    import psycopg

    url = overread.database.login(roles.tenant_role(tenant))
    with psycopg.connect(url) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("SELECT * FROM overread.token_keys")


def test_provider_row(here: Process, tenant: TenantId) -> None:
    row = ProviderRow(
        issuer="https://idp.example",
        client_id="overread",
        client_secret="v1.x",
        audience="api",
        roles={"rad": "radiologist"},
        tenant_claim="hospital",
        tenant_value="alpha",
        local_accounts=False,
    )
    with here_unit(here, tenant) as uow:
        assert uow.provider.get() is None
        uow.provider.put(row)
        uow.provider.put(row)
        assert uow.provider.get() == row
    add(here, tenant)
    with pytest.raises(Unauthenticated, match="identity provider only"):
        enter(here, tenant)
    with here_unit(here, tenant) as uow:
        assert uow.provider.remove() and not uow.provider.remove()
    enter(here, tenant)
