"""/privacy: the notice for patients, in English and German. Nobody needs to log in for it."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Query, Request, Response

from overread.domain.texts import PATIENT_NOTICE
from overread.http.auth import visitor
from overread.web.templates import page

router = APIRouter(include_in_schema=False)

_LANGUAGES: Final = {"en": "English", "de": "Deutsch"}


@router.get("/privacy")
def privacy(request: Request, lang: Annotated[str, Query(max_length=20)] = "") -> Response:
    """In the language that is asked for, else in the browser's if it is one of them, else in English."""
    asked = lang if lang in _LANGUAGES else _preferred(request.headers.get("accept-language", ""))
    return page(
        request, "privacy.html", visitor(request), notice=PATIENT_NOTICE[asked], lang=asked, languages=_LANGUAGES
    )


def _preferred(header: str) -> str:
    """The first language of Accept-Language that there is; browsers name them by preference."""
    for part in header[:500].split(","):
        tag = part.split(";")[0].strip().lower()[:2]
        if tag in _LANGUAGES:
            return tag
    return "en"
