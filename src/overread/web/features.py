"""/admin/features: a matrix of features and modalities, each cell a switch, and the log under it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import RedirectResponse

from overread.domain.errors import InvalidRequest, NotFound, OverreadError
from overread.domain.features import Feature, Switch
from overread.domain.modality import Modality
from overread.http.auth import FeatureManager, FeatureReader
from overread.http.errors import status_of
from overread.http.wiring import services_of
from overread.services.access import Identity
from overread.services.features import REASON_AT_MOST, FeatureStatus, known_feature
from overread.web.templates import page

router = APIRouter(include_in_schema=False)

_SHOWN: Final = 200
_STATES: Final = {"on": True, "off": False, "inherit": None}
_Word = Annotated[str, Query(max_length=100)]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One switch of the matrix."""

    feature: Feature
    #: None: the general switch.
    modality: Modality | None
    on: bool
    #: The modality has no switch of its own.
    inherited: bool
    #: Who set it last; None where nobody did.
    switch: Switch | None
    #: Why it cannot be turned on; "" where it can.
    missing: str

    @property
    def where(self) -> str:
        """ "CT", "All modalities"."""
        return self.modality.value if self.modality is not None else "All modalities"

    @property
    def state(self) -> str:
        """What is chosen: on, off, inherit."""
        return "inherit" if self.inherited else "on" if self.on else "off"

    @property
    def address(self) -> str:
        """Opens the cell."""
        values = {"feature": self.feature.value, "modality": self.modality.value if self.modality else ""}
        return f"?{urlencode({k: v for k, v in values.items() if v})}#change"


def _cells(status: FeatureStatus) -> list[Cell]:
    return [
        Cell(
            feature=status.entry.key,
            modality=modality,
            on=status.enabled if modality is None else status.on(modality),
            inherited=modality is not None and status.own(modality) is None,
            switch=status.switch(modality),
            missing=status.entry.missing,
        )
        for modality in (None, *Modality)
    ]


def _modality(text: str) -> Modality | None:
    """Raises `NotFound` for what is none."""
    if not text:
        return None
    try:
        return Modality(text)
    except ValueError as error:
        raise NotFound("There is no such modality.") from error


@router.get("/admin/features")
def features_page(
    request: Request,
    who: FeatureReader,
    feature: _Word = "",
    modality: _Word = "",
    log: _Word = "",
    saved: Annotated[str, Query(max_length=1)] = "",
) -> Response:
    """`feature` and `modality` open a cell; `log` filters the history by feature."""
    return _page(request, who, feature=feature, modality=modality, log=log, saved=saved == "1")


@router.post("/admin/features")
def change(
    request: Request,
    who: FeatureManager,
    feature: Annotated[str, Form(max_length=100)],
    state: Annotated[str, Form(max_length=10)] = "",
    modality: Annotated[str, Form(max_length=20)] = "",
    reason: Annotated[str, Form(max_length=2000)] = "",
) -> Response:
    """Turn one switch; what cannot be done is said beside the form, and what was typed stays."""
    try:
        if state not in _STATES:
            raise InvalidRequest("Choose what the switch shall be.", parameter="state")
        services_of(request).features.set(
            who, feature, modality=_modality(modality), enabled=_STATES[state], reason=reason
        )
    except (InvalidRequest, NotFound) as error:
        return _page(request, who, feature=feature, modality=modality, chosen=state, reason=reason, error=error)
    values = {"feature": feature, "modality": modality, "saved": "1"}
    return RedirectResponse(f"/admin/features?{urlencode({k: v for k, v in values.items() if v})}", status_code=303)


def _page(
    request: Request,
    who: Identity,
    *,
    feature: str,
    modality: str,
    log: str = "",
    saved: bool = False,
    chosen: str = "",
    reason: str = "",
    error: OverreadError | None = None,
) -> Response:
    service = services_of(request).features
    matrix = [(status.entry, _cells(status)) for status in service.statuses(who.tenant)]
    opened = known_feature(feature) if feature else None
    wanted = _modality(modality)
    cell = next((c for _, cells in matrix for c in cells if (c.feature, c.modality) == (opened, wanted)), None)
    general = next((c.on for _, cells in matrix for c in cells if (c.feature, c.modality) == (opened, None)), False)
    filtered = known_feature(log).value if log else None
    return page(
        request,
        "features.html",
        who,
        status=200 if error is None else status_of(error),
        matrix=matrix,
        modalities=list(Modality),
        cell=cell,
        general=general,
        entry=next((e for e, _ in matrix if e.key is opened), None),
        chosen=chosen or (cell.state if cell else ""),
        reason=reason,
        reason_at_most=REASON_AT_MOST,
        error="" if error is None else error.message,
        saved=saved,
        history=service.history(who, feature=filtered, limit=_SHOWN),
        shown=_SHOWN,
        log=filtered or "",
        names={e.key: e.name for e, _ in matrix},
    )
