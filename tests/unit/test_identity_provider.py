"""OpenID Connect: what an identity provider's tokens must be like, and what does not count. Keys are the test's own."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from tests.app_on_fakes import ALPHA, BETA, World, make_world

from overread.domain.errors import ProviderUnavailable
from overread.exchange.fetch import ProviderFetch
from overread.services.access.oidc import claim, role_of, secret_context
from overread.services.access.sealed import Sealer
from overread.services.identity_values import ProviderRow

ISSUER = "https://idp.alpha.example"
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
SMALL_RSA = rsa.generate_private_key(public_exponent=65537, key_size=1024)
EC_KEY = ec.generate_private_key(ec.SECP256R1())


def _jwk(key: Any, kid: str, **more: str) -> dict[str, Any]:
    algorithm = RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else ECAlgorithm
    return {**json.loads(algorithm.to_jwk(key.public_key())), "kid": kid, **more}


@pytest.fixture
def world() -> World:
    world = make_world()
    world.db.state(ALPHA).provider.append(
        ProviderRow(
            issuer=ISSUER,
            client_id="overread",
            client_secret=Sealer(b"s" * 32).seal("hush", secret_context(ALPHA)),
            audience="https://overread.alpha.example",
            role_claim="realm_access.roles",
            roles={"ov-rad": "radiologist", "ov-admin": "admin", "ov-tech": "technician"},
        )
    )
    world.provider.documents.update(
        {
            f"{ISSUER}/.well-known/openid-configuration": {
                "issuer": ISSUER,
                "authorization_endpoint": f"{ISSUER}/authorize",
                "token_endpoint": f"{ISSUER}/token",
                "jwks_uri": f"{ISSUER}/keys",
            },
            f"{ISSUER}/keys": {
                "keys": [
                    _jwk(RSA_KEY, "r1", use="sig"),
                    _jwk(EC_KEY, "e1"),
                    _jwk(SMALL_RSA, "small"),
                    _jwk(OTHER_RSA, "enc", use="enc"),
                    {"kty": "oct", "kid": "oct", "k": base64.urlsafe_b64encode(b"k" * 32).decode()},
                    {"kty": "RSA", "kid": "broken"},
                    "no key at all",
                ]
            },
        }
    )
    return world


def claims(world: World, **changes: Any) -> dict[str, Any]:
    now = int(world.clock().timestamp())
    made = {
        "iss": ISSUER,
        "aud": "overread",
        "sub": "kim-1",
        "iat": now,
        "exp": now + 300,
        "preferred_username": "kim",
        "name": "Dr. Kim",
        "realm_access": {"roles": ["ov-rad", "offline_access"]},
    } | changes
    return {k: v for k, v in made.items() if v is not None}


def token(world: World, key: Any = RSA_KEY, algorithm: str = "RS256", kid: str | None = "r1", **changes: Any) -> str:
    headers = {"kid": kid} if kid is not None else {}
    return jwt.encode(claims(world, **changes), key, algorithm=algorithm, headers=headers)


def call(world: World, bearer: str, tenant: str = "alpha", path: str = "/api/auth/session") -> Any:
    return world.client().get(path, headers={"Authorization": f"Bearer {bearer}", "X-Tenant-ID": tenant})


@pytest.mark.parametrize(("key", "algorithm", "kid"), [(RSA_KEY, "RS256", "r1"), (EC_KEY, "ES256", "e1")])
def test_its_tokens_open_the_api(world: World, key: Any, algorithm: str, kid: str) -> None:
    answer = call(world, token(world, key, algorithm, kid))
    body = answer.json()
    assert (answer.status_code, body["user"], body["role"]) == (200, "kim", "radiologist")
    assert (body["tenantId"], body["means"], body["displayName"]) == ("alpha", "provider", "Dr. Kim")
    user = world.db.state(ALPHA).users["kim"]
    assert (user.issuer, user.subject, user.password_hash) == (ISSUER, "kim-1", "")
    assert world.client().post("/api/auth/login", json={"username": "kim", "password": ""}).status_code in (400, 401)
    assert world.client().post("/api/auth/login", json={"username": "kim", "password": "x"}).status_code == 401


@pytest.mark.parametrize(
    "audience", ["https://overread.alpha.example", ["overread", "else"], ["else", "https://overread.alpha.example"]]
)
def test_audiences(world: World, audience: Any) -> None:
    assert call(world, token(world, aud=audience)).status_code == 200
    assert call(world, _by_hand(world, RSA_KEY, "r1", aud=audience)).status_code == 200


def _none(world: World) -> str:
    parts = [json.dumps({"alg": "none", "kid": "r1"}), json.dumps(claims(world))]
    return ".".join(base64.urlsafe_b64encode(p.encode()).rstrip(b"=").decode() for p in parts) + "."


def _hmac_by(secret: bytes, kid: str = "r1") -> Callable[[World], str]:
    def make(world: World) -> str:
        parts = [json.dumps({"alg": "HS256", "kid": kid}), json.dumps(claims(world))]
        text = ".".join(base64.urlsafe_b64encode(p.encode()).rstrip(b"=").decode() for p in parts)
        mac = hmac.new(secret, text.encode(), hashlib.sha256).digest()
        return f"{text}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"

    return make


def _by_hand(world: World, key: rsa.RSAPrivateKey, kid: str, **changes: Any) -> str:
    """RS256 of what PyJWT would not sign."""
    parts = [json.dumps({"alg": "RS256", "kid": kid}), json.dumps(claims(world, **changes))]
    text = ".".join(base64.urlsafe_b64encode(p.encode()).rstrip(b"=").decode() for p in parts)
    signature = key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
    return f"{text}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


_PEM = RSA_KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(_none, id="alg none"),
        pytest.param(_hmac_by(_PEM), id="HS256 by the public key"),
        pytest.param(_hmac_by(b"k" * 32, "oct"), id="HS256 by a symmetric key of the set"),
        pytest.param(lambda w: token(w, OTHER_RSA), id="another key"),
        pytest.param(lambda w: token(w, OTHER_RSA, kid="enc"), id="a key that encrypts"),
        pytest.param(lambda w: _by_hand(w, SMALL_RSA, "small"), id="a short key"),
        pytest.param(lambda w: token(w, kid="unknown"), id="unknown key id"),
        pytest.param(lambda w: token(w, algorithm="RS512"), id="another algorithm of the right key"),
        pytest.param(lambda w: token(w, algorithm="PS256"), id="PSS"),
        pytest.param(lambda w: token(w, EC_KEY, "ES256", "r1"), id="a key of another kind"),
        pytest.param(lambda w: token(w, iss="https://idp.beta.example"), id="another issuer"),
        pytest.param(lambda w: token(w, iss=ISSUER + "/"), id="nearly the issuer"),
        pytest.param(lambda w: _by_hand(w, RSA_KEY, "r1", iss=7), id="an issuer that is no text"),
        pytest.param(lambda w: token(w, aud="else"), id="another audience"),
        pytest.param(lambda w: token(w, aud=None), id="no audience"),
        pytest.param(lambda w: token(w, sub=None), id="no subject"),
        pytest.param(lambda w: token(w, sub=""), id="an empty subject"),
        pytest.param(lambda w: token(w, exp=None), id="no end"),
        pytest.param(lambda w: token(w, exp="soon"), id="an end that is no number"),
        pytest.param(lambda w: token(w, exp=1e300), id="an end beyond all time"),
        pytest.param(lambda w: token(w, exp=int(w.clock().timestamp()) - 61), id="expired beyond the skew"),
        pytest.param(lambda w: token(w, nbf=int(w.clock().timestamp()) + 61), id="not valid yet"),
        pytest.param(lambda w: token(w, iat=int(w.clock().timestamp()) + 61), id="from the future"),
        pytest.param(lambda w: token(w, aud=["overread", "b"], azp="b"), id="given to another client"),
    ],
)
def test_what_does_not_count(world: World, make: Callable[[World], str]) -> None:
    answer = call(world, make(world))
    assert (answer.status_code, answer.json()["code"]) == (401, "UNAUTHENTICATED")
    assert "kim" not in world.db.state(ALPHA).users


def test_clocks_may_differ_by_a_minute(world: World) -> None:
    now = int(world.clock().timestamp())
    for changes in ({"exp": now - 59}, {"nbf": now + 59}, {"iat": now + 59}):
        assert call(world, token(world, **changes)).status_code == 200, changes


def test_another_hospital_does_not_take_them(world: World) -> None:
    assert call(world, token(world), "beta").status_code == 401
    world.db.state(BETA).provider.append(
        ProviderRow(
            issuer=ISSUER, client_id="overread-beta", roles={"ov-rad": "admin"}, role_claim="realm_access.roles"
        )
    )
    world.clock.advance(seconds=5)
    assert call(world, token(world), "beta").status_code == 401
    assert set(world.db.state(BETA).users) == {"radiologist", "technician", "admin", "operator", "service", "victim"}


def test_hospitals_that_share_a_client_are_told_apart_by_a_claim(world: World) -> None:
    row = world.db.state(ALPHA).provider
    row[0] = ProviderRow(**{**vars(row[0]), "tenant_claim": "hospital", "tenant_value": "alpha"})
    for hospital, status in (("alpha", 200), (["x", "alpha"], 200), ("beta", 403), (None, 403), ({"alpha": 1}, 403)):
        assert call(world, token(world, hospital=hospital)).status_code == status, hospital


def test_no_role_no_entrance(world: World) -> None:
    for roles in ([], ["else"], "ov-rad-not", None, 7):
        answer = call(world, token(world, realm_access={"roles": roles}))
        assert answer.status_code == 403
        assert "has no role in Overread. Ask an administrator" in answer.json()["error"]
    assert "kim" not in world.db.state(ALPHA).users


def test_the_provider_says_the_role(world: World) -> None:
    assert call(world, token(world)).json()["role"] == "radiologist"
    more = token(world, realm_access={"roles": ["ov-tech", "ov-admin"]})
    assert call(world, more).json()["role"] == "admin"
    assert world.db.state(ALPHA).users["kim"].role == "admin"


def test_a_disabled_user_is_out_whatever_the_provider_says(world: World) -> None:
    bearer = token(world)
    assert call(world, bearer).status_code == 200
    user = world.db.state(ALPHA).users["kim"]
    world.services.access.accounts.set_disabled(ALPHA, user.id, True, actor="test")
    assert call(world, bearer).status_code == 401
    assert call(world, token(world, iat=int(world.clock().timestamp()) - 1)).status_code == 401


def test_a_token_can_be_logged_out(world: World) -> None:
    bearer = token(world)
    headers = {"Authorization": f"Bearer {bearer}"}
    assert world.client().post("/api/auth/logout", headers=headers).status_code == 204
    assert call(world, bearer).status_code == 401


def test_a_local_account_of_the_same_name_is_somebody_else(world: World) -> None:
    body = call(world, token(world, preferred_username="admin")).json()
    assert (body["user"], body["role"]) == ("admin (kim-1)", "radiologist")
    assert world.db.state(ALPHA).users["admin"].issuer is None


def test_keys_rotate(world: World) -> None:
    assert call(world, token(world)).status_code == 200
    new = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    asked = world.provider.asked.count(f"{ISSUER}/keys")
    for n in range(5):  # made up key ids do not make us ask again and again
        call(world, token(world, kid=f"made-up-{n}"))
    assert world.provider.asked.count(f"{ISSUER}/keys") == asked
    world.provider.documents[f"{ISSUER}/keys"] = {"keys": [_jwk(new, "r2")]}
    world.clock.advance(seconds=31)
    assert call(world, token(world, new, kid="r2")).status_code == 200
    assert call(world, token(world)).status_code == 401  # the old one is gone from the set


def test_known_keys_go_on_while_the_provider_is_away(world: World) -> None:
    assert call(world, token(world)).status_code == 200
    world.provider.down = True
    world.clock.advance(hours=2)
    assert call(world, token(world)).status_code == 200


def test_a_provider_that_never_answered_is_a_503(world: World) -> None:
    world.provider.down = True
    answer = call(world, token(world))
    assert (answer.status_code, answer.json()["code"]) == (503, "IDENTITY_PROVIDER_UNAVAILABLE")
    page = world.client().get("/login/oidc")
    assert page.status_code == 503 and "cannot be reached just now" in page.text


def test_a_document_that_names_another_issuer(world: World) -> None:
    world.provider.documents[f"{ISSUER}/.well-known/openid-configuration"] |= {"issuer": "https://evil.example"}  # type: ignore[operator]
    assert call(world, token(world)).status_code == 503


# --- pages ---------------------------------------------------------------------------------------------------


def _begin(world: World, target: str = "/?status=failed") -> tuple[Any, dict[str, str]]:
    client = world.client()
    answer = client.get("/login/oidc", params={"tenant": "alpha", "next": target})
    assert answer.status_code == 303
    address = urlsplit(answer.headers["location"])
    assert f"{address.scheme}://{address.netloc}{address.path}" == f"{ISSUER}/authorize"
    return client, {k: v[0] for k, v in parse_qs(address.query).items()}


def _answer(world: World, **changes: Any) -> None:
    world.provider.documents[f"{ISSUER}/token"] = {"id_token": token(world, **changes), "access_token": "opaque"}


def test_log_in_with_the_hospital(world: World) -> None:
    client, asked = _begin(world)
    assert (asked["response_type"], asked["client_id"], asked["code_challenge_method"]) == ("code", "overread", "S256")
    assert "openid" in asked["scope"].split()
    _answer(world, nonce=asked["nonce"])
    back = client.get("/login/oidc/callback", params={"code": "c", "state": asked["state"]})
    assert back.status_code == 200 and 'content="0;url=/?status=failed"' in back.text
    (url, form, basic) = world.provider.posted[0]
    assert (url, basic) == (f"{ISSUER}/token", ("overread", "hush"))
    challenge = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest()).rstrip(b"=").decode()
    assert challenge == asked["code_challenge"]
    assert form["redirect_uri"] == asked["redirect_uri"] == "http://testserver/login/oidc/callback"
    page = client.get("/")
    assert page.status_code == 200 and "Dr. Kim" in page.text
    assert "login" in [a for a, who, *_ in world.db.state(ALPHA).audit if who == "kim"]


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda w, c, a: {"state": "another"}, id="another state"),
        pytest.param(lambda w, c, a: {"state": a["state"], "error": "access_denied"}, id="denied at the provider"),
        pytest.param(lambda w, c, a: {"state": a["state"], "code": ""}, id="no code"),
        pytest.param(lambda w, c, a: c.cookies.clear() or {"state": a["state"]}, id="another browser"),
        pytest.param(lambda w, c, a: _answer(w, nonce="another") or {"state": a["state"]}, id="another nonce"),
        pytest.param(lambda w, c, a: _answer(w, nonce=None) or {"state": a["state"]}, id="no nonce"),
        pytest.param(lambda w, c, a: _answer(w, nonce=a["nonce"], aud="x") or {"state": a["state"]}, id="not for us"),
        pytest.param(lambda w, c, a: w.clock.advance(minutes=11) or {"state": a["state"]}, id="too late"),
        pytest.param(
            lambda w, c, a: (
                w.provider.documents.update({f"{ISSUER}/token": {"error": "invalid_grant"}}) or {"state": a["state"]}
            ),
            id="code refused",
        ),
    ],
)
def test_answers_that_open_nothing(world: World, spoil: Callable[[World, Any, dict[str, str]], dict[str, str]]) -> None:
    client, asked = _begin(world)
    _answer(world, nonce=asked["nonce"])
    parameters = {"code": "c", **spoil(world, client, asked)}
    back = client.get("/login/oidc/callback", params=parameters)
    assert back.status_code == 401 and 'role="alert"' in back.text
    assert "overread_session" not in client.cookies
    assert client.get("/").status_code == 401


def test_a_page_without_a_role_says_so(world: World) -> None:
    client, asked = _begin(world)
    _answer(world, nonce=asked["nonce"], realm_access={})
    back = client.get("/login/oidc/callback", params={"code": "c", "state": asked["state"]})
    assert back.status_code == 403 and "has no role in Overread" in back.text


def test_roles_that_only_userinfo_tells(world: World) -> None:
    documents = world.provider.documents
    documents[f"{ISSUER}/.well-known/openid-configuration"] |= {"userinfo_endpoint": f"{ISSUER}/me"}  # type: ignore[operator]
    for sub, status in (("kim-1", 200), ("somebody-else", 401)):
        documents[f"{ISSUER}/me"] = {"sub": sub, "realm_access": {"roles": ["ov-tech"]}}
        client, asked = _begin(world)
        _answer(world, nonce=asked["nonce"], realm_access=None)
        back = client.get("/login/oidc/callback", params={"code": "c", "state": asked["state"]})
        assert back.status_code == status, sub


def test_the_way_back_leads_nowhere_else(world: World) -> None:
    client, asked = _begin(world, "https://evil.example/")
    _answer(world, nonce=asked["nonce"])
    back = client.get("/login/oidc/callback", params={"code": "c", "state": asked["state"]})
    assert 'content="0;url=/"' in back.text and "evil" not in back.text


def test_the_log_in_page_offers_it_where_it_is(world: World) -> None:
    assert "Log in with your hospital" in world.client().get("/login").text
    assert "Log in with your hospital" not in world.client().get("/login?tenant=beta").text
    assert world.client().get("/login/oidc?tenant=beta").status_code == 404
    assert world.client().get("/login/oidc?tenant=nowhere").status_code == 404
    assert re.search(r"<input[^>]*name=\"password\"", world.client().get("/login").text)


def test_claims_and_roles() -> None:
    assert claim({"a": {"b": ["c"]}}, "a.b") == ["c"]
    assert claim({"https://x.example/roles": "r"}, "https://x.example/roles") == "r"
    assert claim({"a": "b"}, "a.b") is None
    row = ProviderRow(issuer="i", client_id="c", role_claim="g", roles={"x": "technician", "y": "admin"})
    assert role_of(row, {"g": ["x", "y", 7]}) == "admin"
    assert role_of(row, {"g": {"x": 1}}) is None


@pytest.mark.parametrize(
    "url", ["http://idp.example/", "file:///etc/passwd", "ftp://idp.example/", "gopher://x", "//x"]
)
def test_only_https_is_asked(url: str) -> None:
    with pytest.raises(ProviderUnavailable, match="https://"):
        ProviderFetch().get(url)
