"""What a hospital decides for itself: keys, values, reasons; and that the pipeline obeys."""

from __future__ import annotations

import pytest
from tests.fakes import FakeClock, FakeDatabase

from overread.domain.errors import InvalidRequest
from overread.domain.evidence import EvidenceBar, Interval, ModelIdentity, OutputEvidence
from overread.domain.modality import Modality
from overread.domain.study import TenantId
from overread.pipeline.ports import Model
from overread.services.tenant_models import ChosenModels
from overread.services.tenant_settings import (
    DISABLED,
    TenantSettings,
    TenantSettingsService,
    key_of,
    settings_of,
    shown,
)

ALPHA, BETA = TenantId(slug="alpha"), TenantId(slug="beta")


class Ticks:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def database() -> FakeDatabase:
    return FakeDatabase()


@pytest.fixture
def service(database: FakeDatabase) -> TenantSettingsService:
    return TenantSettingsService(database, FakeClock(), monotonic=Ticks())


def test_nothing_set_is_the_default(service: TenantSettingsService) -> None:
    assert service.current(ALPHA) == TenantSettings()
    assert service.current(ALPHA).bar == EvidenceBar(sensitivity=0.90, specificity=0.85)
    assert (service.current(ALPHA).derived_hours, service.current(ALPHA).page_idle_minutes) == (24, None)


@pytest.mark.parametrize(
    ("key", "text", "attribute", "value"),
    [
        ("derived_hours", "0", "derived_hours", 0),
        ("derived_hours", "72", "derived_hours", 72),
        ("page_idle_minutes", "5", "page_idle_minutes", 5),
        ("api_per_minute", "600", "api_per_minute", 600),
        ("models.chest_xray", "1.2.3", "models", {"chest_xray": "1.2.3"}),
        ("models.chest_ct", DISABLED, "models", {"chest_ct": DISABLED}),
        ("evidence_bar", "0.7,0.6", "bar", EvidenceBar(sensitivity=0.7, specificity=0.6)),
    ],
)
def test_a_setting_counts_for_its_hospital_only(
    service: TenantSettingsService, key: str, text: str, attribute: str, value: object
) -> None:
    service.set(ALPHA, key, text, reason="because", actor="admin")
    assert getattr(service.current(ALPHA), attribute) == value
    assert service.current(BETA) == TenantSettings()
    service.set(ALPHA, key, "default", reason="not any more", actor="admin")
    assert service.current(ALPHA) == TenantSettings()


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("derived_hours", "-1"),
        ("derived_hours", "1.5"),
        ("derived_hours", "99999999999"),
        ("page_idle_minutes", "0"),
        ("api_per_minute", "1"),
        ("models.chest_xray", "newest"),
        ("models.chest_xray", "1.0.0; DROP"),
        ("models.Chest", "1.0.0"),
        ("models.", "1.0.0"),
        ("evidence_bar", "0.9"),
        ("evidence_bar", "0.9,1.1"),
        ("evidence_bar", "nan,0.5"),
        ("evidence_bar", "always"),
        ("evidence_bar.fever", "0.9,0.9"),
        ("evidence_bar.pneumothorax", "sometimes"),
        ("colour", "red"),
    ],
)
def test_what_cannot_be_set(service: TenantSettingsService, key: str, text: str) -> None:
    with pytest.raises(InvalidRequest):
        service.set(ALPHA, key, text, reason="because", actor="admin")
    assert service.stored(ALPHA) == ()


@pytest.mark.parametrize("reason", ["", "  \n "])
def test_a_reason_is_required(service: TenantSettingsService, reason: str) -> None:
    with pytest.raises(InvalidRequest, match="why"):
        service.set(ALPHA, "derived_hours", "48", reason=reason, actor="admin")


def test_every_change_is_on_record_with_what_was_before(service: TenantSettingsService, database: FakeDatabase) -> None:
    service.set(ALPHA, "evidence_bar.pneumothorax", "always", reason="we looked", actor="dr. a")
    service.set(ALPHA, "evidence_bar.pneumothorax", "0.8,0.75", reason="less", actor="dr. b")
    facts = [facts for action, _, _, facts in database.state(ALPHA).audit if action == "setting.changed"]
    assert [(f["before"], f["value"], f["reason"]) for f in facts] == [
        ("default", "always", "we looked"),
        ("always", "0.8,0.75", "less"),
    ]
    (row,) = service.stored(ALPHA)
    assert (row.key, shown(row.value), row.changed_by) == ("evidence_bar.pneumothorax", "0.8,0.75", "dr. b")


def test_a_process_follows_within_seconds(database: FakeDatabase) -> None:
    ticks = Ticks()
    reader = TenantSettingsService(database, FakeClock(), monotonic=ticks)
    writer = TenantSettingsService(database, FakeClock())
    assert reader.current(ALPHA).derived_hours == 24
    writer.set(ALPHA, "derived_hours", "1", reason="r", actor="a")
    assert reader.current(ALPHA).derived_hours == 24
    ticks.now = 5.1
    assert reader.current(ALPHA).derived_hours == 1


def test_rows_of_a_newer_version_do_no_harm() -> None:
    assert settings_of({"brightness": 7, "models.chest_xray": None}) == TenantSettings()
    assert key_of("models.chest_xray").name == "models."


def _output(low: float) -> OutputEvidence:
    measured = Interval(value=0.95, low=low, high=0.99)
    return OutputEvidence(
        finding="pneumothorax",
        threshold_show=0.3,
        threshold_raise=0.5,
        slope=1.0,
        intercept=0.0,
        sensitivity=measured,
        specificity=measured,
        auc=measured,
        cues_auc=0.5,
        patients=100,
        images=100,
        positives=20,
    )


@pytest.mark.parametrize(
    ("key", "text", "weak", "strong"),
    [
        ("derived_hours", "24", False, True),
        ("evidence_bar", "0.5,0.5", True, True),
        ("evidence_bar.pneumothorax", "0.5,0.5", True, True),
        ("evidence_bar.pneumothorax", "always", True, True),
        ("evidence_bar.pneumothorax", "never", False, False),
        ("evidence_bar.cardiomegaly", "always", False, True),
    ],
)
def test_which_findings_may_raise_urgency(
    service: TenantSettingsService, key: str, text: str, weak: bool, strong: bool
) -> None:
    service.set(ALPHA, key, text, reason="r", actor="a")
    bar = service.current(ALPHA).bar
    assert (_output(0.6).may_raise(bar), _output(0.93).may_raise(bar)) == (weak, strong)


class Shelf:
    """Two versions of one model."""

    def find(self, task: str) -> Model | None:
        return "newest" if task == "chest_xray" else None  # type: ignore[return-value]

    def pinned(self, task: str, version: str) -> Model | None:
        return version if task == "chest_xray" and version == "1.0.0" else None  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("choice", "found", "why"),
    [
        ({}, "newest", ""),
        ({"radiograph_view": DISABLED}, "newest", ""),
        ({"chest_xray": "1.0.0"}, "1.0.0", "this hospital chose version 1.0.0 of the model, which is not installed"),
        ({"chest_xray": "9.0.0"}, None, "this hospital chose version 9.0.0 of the model, which is not installed"),
        ({"chest_xray": DISABLED}, None, "this hospital has switched the model off"),
    ],
)
def test_which_model_reads(choice: dict[str, str], found: str | None, why: str) -> None:
    models = ChosenModels(shelf=Shelf(), choice=choice)
    assert models.find("chest_xray") == found
    assert models.why_none("chest_xray") == why


class Analyser:
    """A reader of volumes by name."""

    modality = Modality.CT
    identity = ModelIdentity(name="chest_ct", version="1.0.0")

    def read(self, *_: object) -> None: ...


def test_readers_of_volumes_are_chosen_too() -> None:
    installed = (Analyser(),)
    for choice, left in (({}, 1), ({"chest_ct": DISABLED}, 0), ({"chest_ct": "2.0.0"}, 0), ({"chest_ct": "1.0.0"}, 1)):
        assert len(ChosenModels(shelf=Shelf(), choice=choice).analysers(installed)) == left  # type: ignore[arg-type]
