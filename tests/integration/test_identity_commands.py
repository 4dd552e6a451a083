"""`overread user`, `apikey`, `oidc`, `keys rotate-tokens` as an operator types them."""

from __future__ import annotations

import re

import pytest
from typer.testing import CliRunner, Result

from overread import bootstrap
from overread.cli import app
from overread.config import Settings
from overread.domain.errors import Conflict, InvalidRequest, NotFound, OverreadError, Unauthenticated
from overread.domain.study import TenantId
from overread.services.access import Role
from tests.integration.conftest import make_tenant


@pytest.fixture(scope="module")
def hospital(settings: Settings) -> TenantId:
    return make_tenant(settings)


class Shell:
    """The commands, on the installation of the tests."""

    def __init__(self, settings: Settings) -> None:
        self._env = {"OVERREAD_STATE": str(settings.state_dir), "COLUMNS": "200"}
        if settings.database_url:
            self._env["OVERREAD_DATABASE_URL"] = settings.database_url
            self._env["OVERREAD_DATABASE_DIRECT_URL"] = settings.database_direct_url

    def __call__(self, *words: object, typed: str = "") -> Result:
        answer = CliRunner().invoke(app, [str(w) for w in words], env=self._env, input=typed, catch_exceptions=True)
        if isinstance(answer.exception, OverreadError):
            raise answer.exception
        assert answer.exit_code == 0, answer.output
        return answer


@pytest.fixture
def shell(settings: Settings) -> Shell:
    return Shell(settings)


def test_users(shell: Shell, hospital: TenantId, overread: bootstrap.Overread) -> None:
    access = bootstrap.access(overread)

    def enter(password: str) -> object:
        return access.log_in(hospital.slug, "kim", password, address="10.0.0.1")

    added = shell("user", "add", hospital, "kim", "--role", "radiologist", "--generate").stdout
    made = re.search(r"shown this once: (\S+)", added)
    assert made is not None and enter(made[1])
    shell("user", "add", hospital, "boss", "--role", "admin", typed="a long password indeed\n")
    assert access.log_in(hospital.slug, "boss", "a long password indeed", address="")
    listed = shell("user", "list", hospital).stdout
    assert "kim" in listed and "radiologist" in listed and "boss" in listed and made[1] not in listed
    shell("user", "set-role", hospital, "kim", "operator")
    assert access.accounts.named(hospital, "kim").role == "operator"
    shell("user", "disable", hospital, "kim")
    with pytest.raises(Unauthenticated):
        enter(made[1])
    shell("user", "enable", hospital, "kim")
    reset = shell("user", "reset-password", hospital, "kim", typed="an entirely new password\n").stdout
    assert "an entirely" not in reset and enter("an entirely new password")
    shell("user", "reset-totp", hospital, "kim")
    shell("user", "log-out", hospital, "kim")
    with pytest.raises(Conflict):
        shell("user", "add", hospital, "kim", "--role", "admin", "--generate")
    with pytest.raises(InvalidRequest, match="is no role"):
        shell("user", "add", hospital, "lee", "--role", "king", "--generate")
    with pytest.raises(InvalidRequest, match="12 characters"):
        shell("user", "add", hospital, "lee", "--role", "admin", typed="short\n")
    with pytest.raises(NotFound, match="no user"):
        shell("user", "disable", hospital, "nobody")
    with pytest.raises(NotFound, match="no tenant"):
        shell("user", "list", "nowhere")


def test_api_keys(shell: Shell, hospital: TenantId, overread: bootstrap.Overread) -> None:
    access = bootstrap.access(overread)
    words = ("apikey", "create", hospital, "--name", "ris", "--expires", "12w", "--permissions", "upload")
    key = shell(*words, "--network", "10.1.0.0/16").stdout.splitlines()[0]
    assert access.identify(key, address="10.1.2.3").name == "key:ris"
    listed = shell("apikey", "list", hospital).stdout
    key_id, secret = key.split(".")[1:]
    assert key_id in listed and "10.1.0.0/16" in listed and secret not in listed
    shell("apikey", "revoke", hospital, key_id)
    with pytest.raises(Unauthenticated):
        bootstrap.access(overread).identify(key, address="10.1.2.3")
    for wrong in (("--expires", "soon"), ("--expires", "9999w"), ("--permissions", "manage_users"), ("--network", "x")):
        with pytest.raises(InvalidRequest):
            shell("apikey", "create", hospital, "--name", "other", *wrong)


def test_provider(shell: Shell, hospital: TenantId) -> None:
    words = ["oidc", "set", hospital, "--issuer", "https://idp.example", "--client-id", "overread", "--no-check"]
    words += ["--role-claim", "groups", "--role", "cn=rad,ou=x=radiologist", "--tenant-claim", "hospital=st_mary"]
    shell(*words, typed="hush\n")
    shown = shell("oidc", "show", hospital).stdout
    assert "cn=rad,ou=x is radiologist" in shown and "hospital is st_mary" in shown and "hush" not in shown
    shell("oidc", "remove", hospital)
    assert "local accounts only" in shell("oidc", "show", hospital).stdout
    with pytest.raises(InvalidRequest, match="VALUE=ROLE"):
        shell(*words[:-2], "--role", "nonsense", typed="hush\n")


def test_token_keys(shell: Shell, hospital: TenantId, overread: bootstrap.Overread) -> None:
    access = bootstrap.access(overread)
    access.accounts.add(hospital, name="lee", role=Role.TECHNICIAN, password="a long password indeed", actor="test")
    token = access.log_in(hospital.slug, "lee", "a long password indeed", address="").token
    shell("keys", "rotate-tokens")
    assert bootstrap.access(overread).identify(token).name == "lee"
    shell("keys", "rotate-tokens", "--at-once")
    with pytest.raises(Unauthenticated):
        bootstrap.access(overread).identify(token)
