"""Pages of a list, as the specification's `PaginationInfo`."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import Query
from pydantic import BaseModel

MAX_LIMIT: Final = 200
DEFAULT_LIMIT: Final = 50
#: Beyond it, filter: nobody pages through so many.
MAX_PAGE: Final = 100_000

Page = Annotated[int, Query(ge=1, le=MAX_PAGE, description="From 1.")]
Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT, description="Entries a page.")]


class PaginationInfo(BaseModel):
    """Where in the list a page stands."""

    page: int
    limit: int
    #: Entries in all, under the same filters.
    total: int
    pages: int


def pagination(page: int, limit: int, total: int) -> PaginationInfo:
    """`pages` is at least 1: an empty list has one empty page."""
    return PaginationInfo(page=page, limit=limit, total=total, pages=max(1, -(-total // limit)))
