"""The parts of `http` by themselves: events, limits, fields, pictures; and the words of `web`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import StreamingResponse
from tests.fakes import FakeClock, FakeDatabase

from overread.domain.analysis import NotAssessed
from overread.domain.errors import InvalidRequest, RateLimited
from overread.domain.evidence import Interval
from overread.domain.study import TenantId
from overread.http.limits import RateLimiter
from overread.http.paging import pagination
from overread.http.pictures import PictureCache
from overread.http.replies import choose, parse_fields
from overread.http.sse import Streams, event_stream
from overread.services.values import Event
from overread.web import words
from overread.web.docs import describe
from overread.web.templates import safe_next
from overread.web.worklist import parse_filters

ALPHA, BETA = TenantId(slug="alpha"), TenantId(slug="beta")


# --- events ------------------------------------------------------------------------------------------------


async def _read(response: StreamingResponse, wanted: int) -> list[str]:
    chunks: list[str] = []
    iterator: AsyncIterator[object] = response.body_iterator.__aiter__()
    while len(chunks) < wanted:
        chunk = await asyncio.wait_for(anext(iterator), 5)
        chunks.append(chunk.decode() if isinstance(chunk, bytes) else str(chunk))
    await iterator.aclose()  # type: ignore[attr-defined]
    return chunks


def _stream(db: FakeDatabase, clock: FakeClock, heartbeat_s: float = 30.0) -> StreamingResponse:
    until = clock() + timedelta(minutes=1)
    response = event_stream(db.events, ALPHA, streams=Streams(), clock=clock, until=until, heartbeat_s=heartbeat_s)
    assert isinstance(response, StreamingResponse)
    return response


def test_events_of_one_tenant_after_commit() -> None:
    db, clock = FakeDatabase(), FakeClock()

    async def scene() -> list[str]:
        reading = asyncio.create_task(_read(_stream(db, clock), 3))
        while not db.events.listeners(ALPHA):
            await asyncio.sleep(0.01)
        with pytest.raises(KeyError), db.unit(ALPHA) as uow:
            uow.publish("analysis", {"analysis": "rolled back"})
            raise KeyError
        with db.unit(BETA) as uow:
            uow.publish("analysis", {"analysis": "another hospital's"})
        with db.unit(ALPHA) as uow:
            uow.publish("analysis", {"analysis": "7"})
        return await reading

    retry, hello, event = asyncio.run(scene())
    assert retry == "retry: 2000\n\n"
    assert hello == "event: hello\ndata: {}\n\n"
    assert event == 'event: analysis\ndata: {"analysis":"7"}\n\n'
    assert db.events.listeners(ALPHA) == 0


def test_heartbeat_and_end_with_the_session() -> None:
    db, clock = FakeDatabase(), FakeClock()

    async def scene() -> list[str]:
        chunks: list[str] = []
        async for chunk in _stream(db, clock, heartbeat_s=0.02).body_iterator:
            chunks.append(bytes(chunk).decode())  # type: ignore[arg-type]
            if len(chunks) == 4:
                clock.advance(minutes=2)
        return chunks

    chunks = asyncio.run(scene())
    assert chunks[2:4] == ["event: beat\ndata: {}\n\n"] * 2
    assert len(chunks) == 4


def test_a_store_that_cannot_listen_ends_the_stream_with_a_word() -> None:
    from overread.domain.errors import StoreUnavailable

    class Down:
        def subscribe(self, tenant: TenantId) -> object:
            raise StoreUnavailable("secret")

    async def scene() -> list[str]:
        response = event_stream(
            Down(),  # type: ignore[arg-type]
            ALPHA,
            streams=Streams(),
            clock=FakeClock(),
            until=datetime(2030, 1, 1, tzinfo=UTC),
            heartbeat_s=1,
        )
        assert isinstance(response, StreamingResponse)
        return [bytes(c).decode() async for c in response.body_iterator]  # type: ignore[arg-type]

    assert asyncio.run(scene())[1] == "event: unavailable\ndata: {}\n\n"


def test_a_source_that_ends_ends_the_stream() -> None:
    from contextlib import asynccontextmanager

    class Short:
        @asynccontextmanager
        async def subscribe(self, tenant: TenantId) -> AsyncIterator[AsyncIterator[Event]]:
            async def one() -> AsyncIterator[Event]:
                yield Event(kind="study", ids={"study": "1"})

            yield one()

    async def scene() -> int:
        response = event_stream(
            Short(), ALPHA, streams=Streams(), clock=FakeClock(), until=datetime(2030, 1, 1, tzinfo=UTC), heartbeat_s=1
        )
        assert isinstance(response, StreamingResponse)
        return len([c async for c in response.body_iterator])

    assert asyncio.run(scene()) == 3


def test_a_server_that_stops_ends_its_streams() -> None:
    db, clock, streams = FakeDatabase(), FakeClock(), Streams()

    async def scene() -> int:
        until = clock() + timedelta(minutes=1)
        response = event_stream(db.events, ALPHA, streams=streams, clock=clock, until=until, heartbeat_s=60)
        assert isinstance(response, StreamingResponse)
        reading = asyncio.create_task(_all(response))
        while not db.events.listeners(ALPHA):
            await asyncio.sleep(0.01)
        streams.close()
        late = event_stream(db.events, ALPHA, streams=streams, clock=clock, until=until, heartbeat_s=60)
        assert isinstance(late, StreamingResponse)
        return await asyncio.wait_for(reading, 5) + await asyncio.wait_for(_all(late), 5)

    async def _all(response: StreamingResponse) -> int:
        return len([c async for c in response.body_iterator])

    assert asyncio.run(scene()) == 4
    assert db.events.listeners(ALPHA) == 0


# --- limits, fields, pages, pictures -----------------------------------------------------------------------


def test_token_bucket() -> None:
    now = [0.0]
    limiter = RateLimiter(60, clock=lambda: now[0])
    for _ in range(60):
        limiter.take("a")
    with pytest.raises(RateLimited) as error:
        limiter.take("a")
    assert error.value.details["retryAfterSeconds"] == 1
    limiter.take("b")
    now[0] = 2.0
    limiter.take("a")
    limiter.take("a")
    with pytest.raises(RateLimited):
        limiter.take("a")
    limiter.give_back("a")
    limiter.take("a")
    with pytest.raises(ValueError, match="positive"):
        RateLimiter(0)


def test_fields_go_into_lists_and_objects() -> None:
    payload = {"a": 1, "b": [{"c": 2, "d": 3}], "e": {"f": {"g": 4, "h": 5}}, "n": None}
    assert choose(payload, None) == payload
    assert choose(payload, ("b.d", "e.f.h", "n.x")) == {"b": [{"d": 3}], "e": {"f": {"h": 5}}, "n": None}
    assert choose(payload, ("b", "b.d")) == {"b": [{"c": 2, "d": 3}]}
    assert parse_fields(None, ("a",)) is None
    assert parse_fields(" a , a.b,a ", ("a",)) == ("a", "a.b")
    with pytest.raises(InvalidRequest):
        parse_fields("a,z", ("a",))


@given(total=st.integers(0, 10_000), limit=st.integers(1, 200))
def test_every_entry_is_on_exactly_one_page(total: int, limit: int) -> None:
    pages = pagination(1, limit, total).pages
    assert pages >= 1
    assert (pages - 1) * limit < max(total, 1) <= pages * limit


def test_pictures_are_kept_within_bounds() -> None:
    made: list[int] = []

    def make(n: int, size: int = 40) -> bytes:
        made.append(n)
        return bytes(size)

    cache = PictureCache(room=100)
    for n in (1, 2, 1, 3, 1, 2):
        cache.get(n, lambda n=n: make(n))  # type: ignore[misc]
    # 3 pushes out 2, which was not looked at as lately as 1.
    assert made == [1, 2, 3, 2]
    assert len(cache.get("large", lambda: make(9, 1000))) == 1000
    with pytest.raises(ZeroDivisionError):
        cache.get("broken", lambda: bytes(1 // 0))


# --- words -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Doe^John", "Doe, John"),
        ("Doe^John^Q^Dr^Jr", "Doe, Dr John Q Jr"),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "Yamada, Tarou (山田, 太郎)"),
        ("=山田^太郎", "山田, 太郎"),
        ("Doe", "Doe"),
        ("^John", "John"),
        ("", "(no name)"),
        ("^^^^", "(no name)"),
        ("a^b^c^d^e^f^g", "a, d b c e"),
    ],
)
def test_person_names(name: str, shown: str) -> None:
    assert words.person_name(name) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "0 %"), (0.004, "<1 %"), (0.824, "82 %"), (0.996, ">99 %"), (1.0, "100 %"), (0.01, "1 %")],
)
def test_percent(value: float, shown: str) -> None:
    assert words.percent(value) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(-5, "0 s"), (59.9, "59 s"), (60, "1 min"), (3599, "59 min"), (3660, "1 h 01"), (90000, "1 d 1 h")],
)
def test_duration(seconds: float, shown: str) -> None:
    assert words.duration(seconds) == shown


@pytest.mark.parametrize(
    ("born", "on", "shown"),
    [
        ("1960-02-29", datetime(2026, 2, 28, tzinfo=UTC), "65 y"),
        ("1960-02-29", datetime(2026, 3, 1, tzinfo=UTC), "66 y"),
        ("2024-12-15", datetime(2026, 1, 14, tzinfo=UTC), "12 mo"),
        ("2026-02-01", datetime(2026, 1, 14, tzinfo=UTC), ""),
        ("", datetime(2026, 1, 14, tzinfo=UTC), ""),
        ("1960-02-29", None, ""),
    ],
)
def test_age(born: str, on: datetime | None, shown: str) -> None:
    assert words.age(born, on) == shown


def test_other_words() -> None:
    share = Interval(value=0.84, low=0.80, high=0.87)
    assert words.interval(share) == "84 % (80 to 87)"
    assert words.interval(words.complement(share)) == "16 % (13 to 20)"
    assert words.finding_name("pleural_effusion") == "Pleural effusion"
    assert words.finding_name("not_in_catalogue") == "Not in catalogue"
    assert words.body_part("CHEST") == "Chest" and words.body_part(None) == "–"
    assert words.moment(None) == "" and words.iso(None) == ""
    items = [NotAssessed(finding_type=k, name=k, reason=r) for k, r in (("a", "x"), ("b", "y"), ("c", "x"), ("a", "x"))]
    assert [(g.reason, g.names) for g in words.by_reason(items)] == [("x", ("a", "c")), ("y", ("b",))]


def test_filters_of_an_old_or_odd_address() -> None:
    odd = parse_filters("stat", "PET", "gone", page="0")
    assert (odd.priority, odd.modality, odd.status, odd.text, odd.page, odd.any) == (None, None, None, "", 1, False)
    assert odd.query() == ""
    full = replace(parse_filters("critical", "X-ray", "failed", page="3"), text="a&b")
    assert full.query() == "?priority=critical&modality=X-ray&status=failed&page=3", "the search is in no address"
    assert full.query(1) == "?priority=critical&modality=X-ray&status=failed"
    assert parse_filters("", "", "", page="²").page == 1
    assert not parse_filters("", "", "", "").any


@given(st.text())
def test_next_address_stays_here(target: str) -> None:
    safe = safe_next(target)
    assert safe.startswith("/") and not safe.startswith(("//", "/\\"))
    assert safe.isprintable()


def test_schemas_in_words() -> None:
    assert describe(None) == ""
    assert describe({"$ref": "#/components/schemas/Finding"}) == "Finding"
    assert describe({"type": "array", "items": {"type": "string", "format": "uuid"}}) == "string (uuid)[]"
    assert describe({"anyOf": [{"type": "string"}, {"type": "null"}]}) == "string or null"
    assert describe({"enum": ["a", "b"]}) == "a | b"
    assert describe({}) == "" and describe({"title": "x"}) == "any"
