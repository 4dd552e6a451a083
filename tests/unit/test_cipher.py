"""Values sealed to their place, words found without being read, keys that a process knows for a short time."""

from __future__ import annotations

import os
import threading
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from overread.domain.errors import IdentifiersDamaged, KeyShredded, KeyUnavailable, StoreUnavailable
from overread.domain.study import TenantId
from overread.services.values import TenantKeys
from overread.store import keys as keys_module
from overread.store.cipher import BlindIndex, Ciphers, Values, derive, version_of, words_of
from overread.store.keys import FRESH_S, STALE_S, DatabaseKeyRing, context
from overread.store.keys_master import from_environment

ALPHA, BETA = TenantId(slug="alpha"), TenantId(slug="beta")


class Ring:
    """Keys that a test chooses."""

    def __init__(self) -> None:
        self.data = {1: os.urandom(32)}
        self.index = os.urandom(32)
        self.made: dict[TenantId, TenantKeys] = {}
        self.reloads = 0

    def keys(self, tenant: TenantId) -> TenantKeys:
        if tenant not in self.made:
            self.made[tenant] = TenantKeys(
                tenant=tenant, active=max(self.data), data=dict(self.data), index=self.index, plain_readable=False
            )
        return self.made[tenant]

    def reload(self, tenant: TenantId) -> TenantKeys:
        self.reloads += 1
        self.made.clear()
        return self.keys(tenant)


@pytest.fixture
def ring() -> Ring:
    return Ring()


@pytest.fixture
def values(ring: Ring) -> Values:
    return Ciphers(ring).values(ALPHA)


def test_one_key_serves_one_purpose() -> None:
    secret = os.urandom(32)
    made = {derive(secret, purpose) for purpose in ("values", "objects", "patient", "word")}
    assert len(made) == 4 and all(len(key) == 32 for key in made)
    assert derive(secret, "values") == derive(secret, "values") != derive(os.urandom(32), "values")


# --- values -----------------------------------------------------------------------------------------------------------


def test_a_value_opens_where_it_was_put_and_nowhere_else(ring: Ring, values: Values) -> None:
    sealed = values.seal(b"DOE^JANE", "studies/identifiers/1")
    assert values.open(sealed, "studies/identifiers/1") == b"DOE^JANE"
    assert b"DOE" not in sealed and values.seal(b"DOE^JANE", "studies/identifiers/1") != sealed
    with pytest.raises(IdentifiersDamaged):
        values.open(sealed, "studies/identifiers/2")
    with pytest.raises(IdentifiersDamaged):
        Ciphers(ring).values(BETA).open(sealed, "studies/identifiers/1")


@given(st.integers(0, 60), st.integers(1, 255))
def test_no_byte_can_be_changed(position: int, change: int) -> None:
    values = Ciphers(Ring()).values(ALPHA)
    sealed = bytearray(values.seal(b"x" * 28, "p"))
    assert len(sealed) == 61
    sealed[position] ^= change
    with pytest.raises((IdentifiersDamaged, KeyUnavailable)):  # another version is no known one
        values.open(bytes(sealed), "p")


@pytest.mark.parametrize("cut", [0, 10, 16, 17, 30])
def test_a_value_that_is_cut_off(values: Values, cut: int) -> None:
    with pytest.raises(IdentifiersDamaged):
        values.open(values.seal(b"x" * 20, "p")[:cut], "p")


def test_a_value_of_a_newer_key_makes_the_process_look_again(ring: Ring, values: Values) -> None:
    old = values.seal(b"old", "p")
    ring.data[2] = os.urandom(32)
    other = Ciphers(Ring())
    other.ring.data, other.ring.index = ring.data, ring.index  # type: ignore[attr-defined]
    new = other.values(ALPHA).seal(b"new", "p")
    assert (version_of(old), version_of(new)) == (1, 2)
    assert (values.version, ring.reloads) == (1, 0)
    assert values.open(new, "p") == b"new"
    assert (values.version, ring.reloads) == (2, 1)
    assert values.open(old, "p") == b"old"
    del ring.data[1]
    ring.reload(ALPHA)
    with pytest.raises(KeyUnavailable, match=r"Version 1 .* retired"):
        values.open(old, "p")


# --- blind index ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Müller^Jürgen^^Dr.", ["muller", "jurgen", "dr"]),
        ("O'BRIEN%_^A", ["o", "brien", "a"]),
        ("STRASSE straße", ["strasse"]),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", ["yamada", "tarou", "山田", "太郎", "やまた", "たろう"]),
        ("A-77/2026", ["a", "77", "2026"]),
        ("  \t\n ^^=", []),
        ("ﬁne Ⅷ ①", ["fine", "viii", "1"]),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert words_of(text) == words


def index() -> BlindIndex:
    return BlindIndex(b"i" * 32)


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("doe", True),
        ("DOE^JANE", True),
        ("jane doe", True),
        ("jan", True),
        ("ja", False),
        ("ane", False),
        ("doe john", False),
        ("4711", True),
        ("471", True),
        ("711", False),
        ("%", False),
        ("", False),
    ],
)
def test_search(typed: str, found: bool) -> None:
    blind = index()
    there = set(blind.tokens(["Doe^Jane", "4711", "", "Chest PA"]))
    wanted = blind.wanted(typed)
    assert (bool(wanted) and set(wanted) <= there) is found


@given(st.text(max_size=500))
def test_any_text_has_few_tokens_and_finds_itself(text: str) -> None:
    blind = index()
    tokens = blind.tokens([text])
    assert len(tokens) <= 400 and all(len(token) == 8 for token in tokens)
    if len(tokens) < 400:
        assert set(blind.wanted(text)) <= set(tokens)


def test_a_patient_is_issuer_and_id() -> None:
    blind = index()
    one = blind.blind("Hospital A", "P1")
    assert one == blind.blind(" hospital a ", " P1 ") and len(one) == 32
    others = [blind.blind("", "P1"), blind.blind("Hospital A", "p1"), blind.blind("Hospital", "AP1")]
    others += [
        blind.blind("Hospital A\0P1", ""),
        blind.patient_id("P1"),
        BlindIndex(b"j" * 32).blind("Hospital A", "P1"),
    ]
    assert len({one, *others}) == 1 + len(others)
    assert blind.accession(" ") is None and blind.accession("A1") == blind.accession("A1 ")
    assert blind.blind("", "\ud800")  # what is no text is somebody too


# --- the ring ---------------------------------------------------------------------------------------------------------

MASTER = from_environment("0b" * 32)


def rows(*versions: int, active: int, state: str = "reading") -> list[tuple[Any, ...]]:
    found = [("index", 1, "active", MASTER.key_id, MASTER.wrap(b"i" * 32, context(ALPHA, "index", 1)), False)]
    for version in versions:
        wrapped = MASTER.wrap(bytes([version]) * 32, context(ALPHA, "data", version))
        found.append(("data", version, "active" if version == active else state, MASTER.key_id, wrapped, False))
    return found


class Table:
    """The table of keys, its database, and the time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows: list[tuple[Any, ...]] = rows(1, active=1)
        self.asked, self.now, self.down = 0, 1000.0, False
        self.hold = threading.Event()
        self.hold.set()
        monkeypatch.setattr(psycopg, "connect", self.connect)
        monkeypatch.setattr(keys_module, "_ask", self.ask)
        self.ring = DatabaseKeyRing(lambda _tenant: "", MASTER, monotonic=lambda: self.now)

    def connect(self, *_: Any, **__: Any) -> Any:
        if self.down:
            raise psycopg.OperationalError("no server")
        return _Nothing()

    def ask(self, _connection: Any) -> list[tuple[Any, ...]]:
        self.asked += 1
        assert self.hold.wait(10)
        return self.rows


class _Nothing:
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> Table:
    return Table(monkeypatch)


def test_keys_are_known_for_a_short_time(table: Table) -> None:
    first = table.ring.keys(ALPHA)
    assert (first.active, first.data, first.index) == (1, {1: b"\1" * 32}, b"i" * 32)
    table.rows = rows(1, 2, active=2)
    assert table.ring.keys(ALPHA) is first and table.asked == 1
    table.now += FRESH_S
    second = table.ring.keys(ALPHA)
    assert (second.active, sorted(second.data)) == (2, [1, 2])
    table.now += FRESH_S
    assert table.ring.keys(ALPHA) is second, "the same object while nothing changed"
    assert "\\x01" not in repr(second) and "iiii" not in repr(second)


def test_while_the_database_is_away_they_are_used_on_and_not_for_ever(table: Table) -> None:
    first = table.ring.keys(ALPHA)
    table.down = True
    table.now += STALE_S - 1
    assert table.ring.keys(ALPHA) is first
    table.now += 2
    with pytest.raises(StoreUnavailable):
        table.ring.keys(ALPHA)
    with pytest.raises(StoreUnavailable):
        table.ring.keys(BETA)


def test_one_thread_looks_and_the_others_go_on(table: Table) -> None:
    first = table.ring.keys(ALPHA)
    table.now += FRESH_S
    table.hold.clear()
    looking = threading.Thread(target=table.ring.keys, args=(ALPHA,))
    looking.start()
    while table.asked < 2:
        pass
    assert table.ring.keys(ALPHA) is first, "not waiting"
    table.hold.set()
    looking.join(10)
    assert table.asked == 2


def test_shredded_keys_are_forgotten_at_the_next_look(table: Table) -> None:
    table.ring.keys(ALPHA)
    table.rows = [("data", 1, "shredded", MASTER.key_id, None, False)]
    table.now += FRESH_S
    for _ in range(2):
        with pytest.raises(KeyShredded):
            table.ring.keys(ALPHA)


@pytest.mark.parametrize("broken", [rows(1, active=2), rows(1, active=1)[1:]])
def test_incomplete_keys_are_none(table: Table, broken: list[tuple[Any, ...]]) -> None:
    table.rows = broken
    with pytest.raises(KeyUnavailable, match="incomplete"):
        table.ring.keys(ALPHA)


def test_a_key_of_another_tenant_or_version_does_not_stand_in(table: Table) -> None:
    with pytest.raises(KeyUnavailable, match="damaged"):
        table.ring.keys(BETA)
    stolen = rows(1, active=1)
    table.rows = [stolen[0], ("data", 2, *stolen[1][2:])]
    with pytest.raises(KeyUnavailable, match="damaged"):
        table.ring.keys(ALPHA)
