"""Token buckets in Redis, for several API processes: one Lua script, so that reading and taking are one step."""

from __future__ import annotations

import hashlib
from typing import Final

import redis

from overread.domain.errors import StoreUnavailable

_TIMEOUT_S: Final = 0.25
#: The clock is Redis's own, so that processes on several machines agree. Times are seconds with fractions.
_TAKE: Final = """
local capacity, rate = tonumber(ARGV[1]), tonumber(ARGV[2])
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1e6
local kept = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens = capacity
if kept[1] then
    tokens = math.min(capacity, tonumber(kept[1]) + math.max(0, now - tonumber(kept[2])) * rate)
end
local wait = 0
if tokens >= 1 then
    tokens = tokens - 1
else
    wait = (1 - tokens) / rate
end
redis.call('HSET', KEYS[1], 'tokens', string.format('%.6f', tokens), 'at', string.format('%.6f', now))
redis.call('EXPIRE', KEYS[1], math.ceil(capacity / rate) + 1)
return string.format('%.6f', wait)
"""


class RedisBuckets:
    """Implements `services.identity_ports.SharedBuckets`. Keys are digests: who asks is not written there."""

    def __init__(self, url: str) -> None:
        """`url` as redis://host:6379/0, or rediss:// for TLS."""
        self._redis = redis.Redis.from_url(
            url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S, decode_responses=True
        )
        self._take = self._redis.register_script(_TAKE)

    def take(self, key: str, capacity: float, per_second: float) -> float:
        """Seconds to wait, 0 if a token was taken. Raises `StoreUnavailable`."""
        try:
            return float(str(self._take(keys=[_name(key)], args=[capacity, per_second])))
        except redis.RedisError as error:
            raise StoreUnavailable("Redis does not answer.") from error

    def drop(self, key: str) -> None:
        """Fill the bucket. Raises `StoreUnavailable`."""
        try:
            self._redis.delete(_name(key))
        except redis.RedisError as error:
            raise StoreUnavailable("Redis does not answer.") from error

    def answers(self) -> bool:
        """For /readyz and doctor."""
        try:
            return bool(self._redis.ping())
        except redis.RedisError:
            return False

    def close(self) -> None:
        """Give connections back."""
        self._redis.close()


def _name(key: str) -> str:
    return "overread:bucket:" + hashlib.sha256(key.encode()).hexdigest()
