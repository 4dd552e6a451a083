"""`overread user`, `overread apikey`, `overread oidc`, `overread keys rotate-tokens`: who may come in."""

from __future__ import annotations

import re
import sys
from datetime import timedelta
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from overread.config import Settings
from overread.domain.errors import InvalidRequest

user = typer.Typer(no_args_is_help=True, help="Accounts of a hospital.")
apikey = typer.Typer(no_args_is_help=True, help="Keys of machines (a RIS, a script).")
provider = typer.Typer(no_args_is_help=True, help="The identity provider of a hospital (OpenID Connect).")

Tenant = Annotated[str, typer.Argument(help="The hospital's short name, as in `overread tenant list`.")]
Name = Annotated[str, typer.Argument(help="User name.")]
Generate = Annotated[bool, typer.Option("--generate", help="Make a password up and show it once.")]


def _password(generate: bool) -> str | None:
    """By prompt, twice; from a pipe as one line; None to make one up."""
    if generate:
        return None
    if sys.stdin.isatty():
        return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))
    return sys.stdin.readline().rstrip("\n")


def _show(password: str | None) -> None:
    if password is not None:
        typer.echo(f"Password, shown this once: {password}")
        typer.echo("It must be changed at the first log-in.")


@user.command("add", epilog="Example: `overread user add st_mary kim --role radiologist --generate`")
def add(
    tenant: Tenant,
    name: Name,
    role: Annotated[str, typer.Option(help="radiologist, technician, admin, operator or service.")],
    display_name: Annotated[str, typer.Option(help="Shown on pages; left out: the user name.")] = "",
    generate: Generate = False,
) -> None:
    """Make an account. The password is asked for, or made up with --generate."""
    from overread.admin import identity

    password = _password(generate)
    made = identity.add_user(Settings(), tenant, name, display_name=display_name, role=role, password=password)
    typer.echo(f"{name} may log in to {tenant} as {role}.")
    _show(made)


@user.command("list", epilog="Example: `overread user list st_mary`")
def list_users(tenant: Tenant) -> None:
    """Show all accounts of a hospital."""
    from overread.admin import identity

    table = Table("name", "shown as", "role", "may log in", "second factor", "from", "last log-in", box=None)
    for row in identity.users(Settings(), tenant):
        table.add_row(
            row.name,
            row.display_name,
            row.role,
            "no" if row.disabled else "yes",
            "on" if row.totp_secret else "off",
            "identity provider" if row.issuer else "local",
            f"{row.last_login_at:%Y-%m-%d %H:%M} UTC" if row.last_login_at else "never",
        )
    Console().print(table)


@user.command("disable", epilog="Example: `overread user disable st_mary kim`")
def disable(tenant: Tenant, name: Name) -> None:
    """Lock a user out: open sessions end within 5 seconds."""
    from overread.admin import identity

    identity.set_disabled(Settings(), tenant, name, True)
    typer.echo(f"{name} is disabled.")


@user.command("enable", epilog="Example: `overread user enable st_mary kim`")
def enable(tenant: Tenant, name: Name) -> None:
    """Let a disabled user log in again."""
    from overread.admin import identity

    identity.set_disabled(Settings(), tenant, name, False)
    typer.echo(f"{name} may log in.")


@user.command("set-role", epilog="Example: `overread user set-role st_mary kim admin`")
def set_role(tenant: Tenant, name: Name, role: Annotated[str, typer.Argument(help="The new role.")]) -> None:
    """Give another role; the user's sessions end."""
    from overread.admin import identity

    identity.set_role(Settings(), tenant, name, role)
    typer.echo(f"{name} is {role} now.")


@user.command("reset-password", epilog="Example: `overread user reset-password st_mary kim --generate`")
def reset_password(tenant: Tenant, name: Name, generate: Generate = False) -> None:
    """Set a new password and lift locks; the user's sessions end."""
    from overread.admin import identity

    made = identity.reset_password(Settings(), tenant, name, _password(generate))
    typer.echo(f"{name} has a new password.")
    _show(made)


@user.command("reset-totp", epilog="Example: `overread user reset-totp st_mary kim`")
def reset_totp(tenant: Tenant, name: Name) -> None:
    """Take the second factor away, after a telephone was lost."""
    from overread.admin import identity

    identity.reset_totp(Settings(), tenant, name)
    typer.echo(f"{name} logs in with the password alone until a new second factor is set up.")


@user.command("log-out", epilog="Example: `overread user log-out st_mary kim`")
def log_out(tenant: Tenant, name: Name) -> None:
    """End all sessions of a user."""
    from overread.admin import identity

    identity.log_out(Settings(), tenant, name)
    typer.echo(f"All sessions of {name} end within 5 seconds.")


@apikey.command("create", epilog="Example: `overread apikey create st_mary --name ris --network 10.1.2.0/24`")
def create_key(
    tenant: Tenant,
    name: Annotated[str, typer.Option(help="What it is for.")],
    expires: Annotated[str, typer.Option(help="How long it lives, as 365d, 12w or 24h.")] = "365d",
    permissions: Annotated[
        list[str] | None, typer.Option(help="Only this: read_studies, request_analysis, upload. Repeat it for more.")
    ] = None,
    network: Annotated[
        list[str] | None, typer.Option(help="Only from this address or network. Repeat it for more.")
    ] = None,
) -> None:
    """Make a key of the role service and show it once."""
    from overread.admin import identity

    made = identity.create_key(
        Settings(),
        tenant,
        name=name,
        lifetime=_lifetime(expires),
        permissions=permissions or None,
        networks=network or [],
    )
    typer.echo(made.key)
    Console(stderr=True).print(
        f"Shown this once. Expires {made.row.expires_at:%Y-%m-%d}. Id for `overread apikey revoke`: {made.row.id}",
        highlight=False,
    )


@apikey.command("list", epilog="Example: `overread apikey list st_mary`")
def list_keys(tenant: Tenant) -> None:
    """Show all keys of a hospital: who made them, where they may come from, when they were last used."""
    from overread.admin import identity

    table = Table("id", "name", "may", "from", "expires", "last used", "state", box=None)
    for row in identity.api_keys(Settings(), tenant):
        used = f"{row.last_used_at:%Y-%m-%d %H:%M} UTC, {row.last_used_from}" if row.last_used_at else "never"
        table.add_row(
            row.id,
            row.name,
            ", ".join(row.permissions) if row.permissions is not None else "all of service",
            ", ".join(row.networks) or "anywhere",
            f"{row.expires_at:%Y-%m-%d}",
            used,
            f"revoked {row.revoked_at:%Y-%m-%d}" if row.revoked_at else "alive",
        )
    Console().print(table)


@apikey.command("revoke", epilog="Example: `overread apikey revoke st_mary abcdefgh2345`")
def revoke_key(tenant: Tenant, key_id: Annotated[str, typer.Argument(help="From `overread apikey list`.")]) -> None:
    """Void a key; every process refuses it within 5 seconds."""
    from overread.admin import identity

    identity.revoke_key(Settings(), tenant, key_id)
    typer.echo("Revoked.")


@provider.command(
    "set",
    epilog="Example: `overread oidc set st_mary --issuer https://idp.st-mary.example --client-id overread "
    "--role-claim groups --role ov-radiologists=radiologist --role ov-admins=admin`",
)
def set_provider(
    tenant: Tenant,
    issuer: Annotated[str, typer.Option(help="As the discovery document names it.")],
    client_id: Annotated[str, typer.Option(help="Of the client that the provider has for Overread.")],
    role: Annotated[list[str], typer.Option(help="VALUE=ROLE: who has this value in the claim gets this role.")],
    role_claim: Annotated[str, typer.Option(help="Claim with groups or roles; dots go into objects.")] = "roles",
    public: Annotated[bool, typer.Option("--public", help="The client has no secret (PKCE alone).")] = False,
    audience: Annotated[
        str | None, typer.Option(help="`aud` of access tokens for the API, beside the client id.")
    ] = None,
    scopes: Annotated[str, typer.Option(help="What is asked of the provider.")] = "openid profile email",
    tenant_claim: Annotated[
        str | None, typer.Option(help="CLAIM=VALUE that people of this hospital have, where several share a provider.")
    ] = None,
    local_accounts: Annotated[bool, typer.Option(help="Whether passwords of Overread go on working.")] = True,
    check: Annotated[bool, typer.Option(help="Whether to read the discovery document now.")] = True,
) -> None:
    """Let people log in with the hospital's accounts. The client's secret is asked for (or read from a pipe)."""
    from overread.admin import identity
    from overread.services.identity_values import ProviderRow

    secret = None
    if not public:
        secret = (
            str(typer.prompt("Client secret", hide_input=True)) if sys.stdin.isatty() else sys.stdin.readline().strip()
        )
    claim, _, value = (tenant_claim or "").partition("=")
    row = ProviderRow(
        issuer=issuer,
        client_id=client_id,
        client_secret=secret,
        audience=audience,
        scopes=scopes,
        role_claim=role_claim,
        roles=dict(_pair(text) for text in role),
        tenant_claim=claim or None,
        tenant_value=value or None,
        local_accounts=local_accounts,
    )
    identity.set_provider(Settings(), tenant, row, check=check)
    typer.echo(f"People of {tenant} can log in at {issuer}.")


@provider.command("show", epilog="Example: `overread oidc show st_mary`")
def show_provider(tenant: Tenant) -> None:
    """Show what is set; never the secret."""
    from overread.admin import identity

    row = identity.provider(Settings(), tenant)
    if row is None:
        typer.echo(f"{tenant} has local accounts only.")
        return
    for name, text in (
        ("issuer", row.issuer),
        ("client id", row.client_id),
        ("client secret", "set" if row.client_secret else "none (public client)"),
        ("audience", row.audience or row.client_id),
        ("scopes", row.scopes),
        ("roles", f"{row.role_claim}: " + ", ".join(f"{k} is {v}" for k, v in sorted(row.roles.items()))),
        ("hospital", f"{row.tenant_claim} is {row.tenant_value}" if row.tenant_claim else "whoever has a role"),
        ("local accounts", "allowed" if row.local_accounts else "not allowed"),
    ):
        typer.echo(f"{name:15} {text}")


@provider.command("remove", epilog="Example: `overread oidc remove st_mary`")
def remove_provider(tenant: Tenant) -> None:
    """Forget the provider: local accounts only, again."""
    from overread.admin import identity

    identity.remove_provider(Settings(), tenant)
    typer.echo("Removed.")


def rotate_tokens(
    at_once: Annotated[
        bool, typer.Option("--at-once", help="Void all tokens of older keys now: everybody logs in again.")
    ] = False,
) -> None:
    """Sign log-ins with a new key. Tokens of the old one count until the last of them has expired."""
    from overread.admin import identity

    kid = identity.rotate_token_keys(Settings(), at_once=at_once)
    typer.echo(f"New tokens are signed with key {kid}; every process knows it within seconds.")


def _pair(text: str) -> tuple[str, str]:
    value, sign, role = text.rpartition("=")
    if not sign or not value:
        raise InvalidRequest(f"{text!r} is not VALUE=ROLE.")
    return value, role


def _lifetime(text: str) -> timedelta:
    match = re.fullmatch(r"(\d{1,5})([hdw])", text.strip())
    if match is None:
        raise InvalidRequest(f"{text!r} is no span of time.", remedy="Examples: 365d, 12w, 24h.")
    return int(match[1]) * {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}[match[2]]
