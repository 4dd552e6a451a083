"""Domain values to JSON columns and back."""

from __future__ import annotations

from collections.abc import Hashable
from functools import cache
from typing import Any, TypeVar, cast

import orjson
from pydantic import TypeAdapter

T = TypeVar("T")


def dumps(value: Any) -> bytes:
    """JSON for a jsonb parameter."""
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


def loads(data: str | bytes) -> Any:
    """JSON of a jsonb column."""
    return orjson.loads(data)


@cache
def _adapter(kind: Hashable) -> TypeAdapter[Any]:
    """The reader and writer of a domain dataclass; making one takes milliseconds, so they are kept."""
    return TypeAdapter(cast(Any, kind))


def to_json(value: Any) -> Any:
    """A frozen domain dataclass as plain JSON types."""
    return _adapter(cast(Hashable, type(value))).dump_python(value, mode="json")


def from_json(kind: type[T], value: Any) -> T:
    """Back again. Raises pydantic's ValidationError if a column holds what the code does not know."""
    value_of_kind: T = _adapter(cast(Hashable, kind)).validate_python(value)
    return value_of_kind
