"""Text from a caller that is text: no NUL and nothing that UTF-8 has no bytes for, which no database takes."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator


def is_clean(text: str) -> bool:
    """Whether it can be stored and searched for."""
    return "\x00" not in text and not any("\ud800" <= c <= "\udfff" for c in text)


def _clean(text: str) -> str:
    if not is_clean(text):
        raise ValueError("holds characters that no text has")
    return text


CleanText = Annotated[str, AfterValidator(_clean)]
