"""Request limits of several API processes, counted in a real Redis."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from overread.domain.errors import RateLimited, StoreUnavailable
from overread.http.limits import RateLimiter, SharedLimiter
from overread.store.buckets import RedisBuckets
from tests.app_on_fakes import make_world


@dataclass
class Redis:
    """A server of its own, without a disk."""

    port: int
    folder: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        program = shutil.which("redis-server")
        if program is None:
            if os.environ.get("CI"):
                pytest.fail("redis-server is missing: deploy/install-peers")
            pytest.skip("redis-server is missing: deploy/install-peers")
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self.folder)]
        self.process = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL)
        buckets = RedisBuckets(self.url)
        for _ in range(200):
            if buckets.answers():
                buckets.close()
                return
            time.sleep(0.05)
        pytest.fail("redis-server does not start")

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(10)
            self.process = None


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = Redis(port=port, folder=tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def buckets(redis: Redis) -> Iterator[RedisBuckets]:
    made = RedisBuckets(redis.url)
    yield made
    made.close()


def _limiter(buckets: RedisBuckets, per_minute: int) -> SharedLimiter:
    return SharedLimiter(RateLimiter(per_minute), buckets, "api")


def test_processes_share_a_bucket(buckets: RedisBuckets) -> None:
    one, other = _limiter(buckets, 4), _limiter(buckets, 4)
    for n in range(4):
        (one, other)[n % 2].take("kim")
    for limiter in (one, other):
        with pytest.raises(RateLimited) as refused:
            limiter.take("kim")
        assert 1 <= refused.value.details["retryAfterSeconds"] <= 15
    one.take("somebody else")
    other.give_back("kim")
    one.take("kim")


def test_a_bucket_fills_again(buckets: RedisBuckets) -> None:
    assert buckets.take("k", 2, 20) == 0
    assert buckets.take("k", 2, 20) == 0
    wait = buckets.take("k", 2, 20)
    assert 0 < wait <= 0.05
    time.sleep(wait + 0.01)
    assert buckets.take("k", 2, 20) == 0


def test_taking_is_one_step(buckets: RedisBuckets, redis: Redis) -> None:
    """Many at once take no more than there is."""
    taken: list[float] = []

    def take() -> None:
        own = RedisBuckets(redis.url)
        taken.extend(own.take("crowd", 50, 0.001) for _ in range(25))
        own.close()

    crowd = [threading.Thread(target=take) for _ in range(8)]
    for one in crowd:
        one.start()
    for one in crowd:
        one.join()
    assert (len(taken), taken.count(0.0)) == (200, 50)


def test_nothing_readable_stays_in_redis(buckets: RedisBuckets, redis: Redis) -> None:
    import redis as client

    buckets.take("login:alpha:kim", 5, 1)
    connection = client.Redis.from_url(redis.url)
    (key,) = connection.keys("*")
    assert b"kim" not in key and 0 < int(connection.ttl(key)) <= 6
    connection.close()


def test_without_redis_each_process_counts_for_itself(buckets: RedisBuckets, redis: Redis) -> None:
    now = 0.0
    limiter = SharedLimiter(RateLimiter(3, clock=lambda: now), buckets, "api", clock=lambda: now)
    limiter.take("kim")
    redis.stop()
    with pytest.raises(StoreUnavailable):
        buckets.take("kim", 3, 1)
    with capture_logs() as logs:
        for _ in range(3):
            limiter.take("kim")  # the process's own bucket is full yet
        with pytest.raises(RateLimited):
            limiter.take("kim")
    assert [entry["log_level"] for entry in logs] == ["warning"]  # once, not for each request
    redis.start()
    now = 6.0
    for _ in range(3):
        limiter.take("kim")  # Redis again, which has forgotten
    with pytest.raises(RateLimited):
        limiter.take("kim")


def test_requests_go_on_without_redis(buckets: RedisBuckets, redis: Redis) -> None:
    """Two applications, one bucket; then none."""
    worlds = [make_world(buckets=buckets, api_per_minute=3) for _ in range(2)]
    headers = worlds[0].bearer()
    codes = [w.client().get("/api/studies", headers=headers).status_code for w in (*worlds, *worlds)]
    assert codes == [200, 200, 200, 429]
    redis.stop()
    codes = [worlds[0].client().get("/api/studies", headers=headers).status_code for _ in range(4)]
    assert codes == [200, 200, 200, 429]
