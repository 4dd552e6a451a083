"""Switches of the AI's features: what they mean, and that services and pipeline obey them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from tests.app_on_fakes import ALPHA, BETA, World, make_finding, make_outcome, make_world

from overread.domain.analysis import AnalysisStatus
from overread.domain.errors import FeatureDisabled, FeatureUnavailable, Forbidden, InvalidRequest, NotFound
from overread.domain.features import ALL_ON, CATALOGUE, Feature, Features, Switch, WhyNot, unmeasured, without
from overread.domain.modality import Modality
from overread.domain.priority import Level
from overread.services.access import Identity, Role
from overread.services.features import FeatureService
from overread.services.gate import CACHE_S, FeatureCache

NOW = datetime(2026, 1, 15, tzinfo=UTC)
DETECTION, MEASUREMENTS = Feature.ABNORMALITY_DETECTION, Feature.AUTOMATED_MEASUREMENTS
CT, XRAY = Modality.CT, Modality.XRAY


def switch(feature: Feature, modality: Modality | None, enabled: bool | None) -> Switch:
    return Switch(
        feature=feature, modality=modality, enabled=enabled, changed_by="admin", changed_at=NOW, reason="Because."
    )


def identity(role: Role = Role.ADMIN) -> Identity:
    return Identity(
        user_id=UUID(int=1),
        name=role.value,
        display_name=role.value,
        role=role,
        tenant=ALPHA,
        session="s",
        expires_at=NOW + timedelta(days=999),
    )


def turn(
    world: World, feature: Feature, enabled: bool | None, modality: Modality | None = None, reason: str = "Under review"
) -> str:
    return world.services.features.set(identity(), feature.value, modality=modality, enabled=enabled, reason=reason)


@pytest.fixture
def world() -> World:
    return make_world()


# --- what a switch means -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("general", "own", "expected"),
    [(True, None, True), (False, None, False), (True, False, False), (False, True, True), (None, None, False)],
)
def test_a_modalitys_switch_overrides_the_general_one(general: bool | None, own: bool | None, expected: bool) -> None:
    switches = [switch(DETECTION, CT, own)]
    if general is not None:
        switches.append(switch(DETECTION, None, general))
    features = Features.of(switches)
    assert features.on(DETECTION, CT) is expected
    assert features.on(DETECTION, None) is bool(general)
    assert features.on(DETECTION, XRAY) is bool(general)


def test_what_this_version_lacks_is_never_on() -> None:
    absent = {e.key for e in CATALOGUE if not e.exists}
    assert absent == {Feature.PRIOR_COMPARISON, Feature.REPORT_GENERATION}
    forced = Features.of([switch(f, None, True) for f in Feature])
    assert {f for f in Feature if not forced.on(f, None)} == absent
    assert all(ALL_ON.on(f, m) for f in Feature if f not in absent for m in (None, *Modality))


def test_what_was_lost_meanwhile() -> None:
    before = ALL_ON
    now = Features(switches={(MEASUREMENTS, CT): switch(MEASUREMENTS, CT, False)}, otherwise=True)
    assert now.lost_since(before, [XRAY]) == frozenset()
    assert now.lost_since(before, [XRAY, CT]) == {MEASUREMENTS}
    assert before.lost_since(now, [CT]) == frozenset()


def test_a_description_without_its_sizes() -> None:
    finding = make_finding("pneumothorax", "1.2")
    text = "Solid nodule of 6.1 x 5.2 mm (0.12 mL) in the right lung. Measured on 300 patients: sensitivity 0.81."
    assert unmeasured(replace(finding, description=text)).description == "Measured on 300 patients: sensitivity 0.81."
    assert unmeasured(replace(finding, description="Air in the left pleura.")).description == "Air in the left pleura."


def test_a_result_without_what_was_switched_off() -> None:
    outcome = make_outcome((make_finding("pneumothorax", "1.2"),), Level.CRITICAL, "Critical: pneumothorax")
    less = without(outcome, {MEASUREMENTS, Feature.QUALITY_ASSESSMENT, Feature.PRIORITY_FLAGGING})
    assert less.measurements == ()
    assert (less.quality.level, less.quality.issues, less.quality.flagged_for_repeat) == (None, (), False)
    assert "switched off" in less.quality.recommendations
    assert less.triage.urgency is Level.ROUTINE and "priority flagging is switched off" in less.triage.reason
    assert less.findings == outcome.findings
    assert without(outcome, ()) == outcome


# --- turning them ------------------------------------------------------------------------------------------


def test_only_admins_turn_switches_and_only_with_a_reason(world: World) -> None:
    service = FeatureService(database=world.db, clock=world.clock)
    for role in set(Role) - {Role.ADMIN}:
        with pytest.raises(Forbidden):
            service.set(identity(role), DETECTION.value, modality=None, enabled=False, reason="x")
        with pytest.raises(Forbidden):
            service.history(identity(role))
    for reason in ("", "  \n\t", "x" * 501):
        with pytest.raises(InvalidRequest):
            service.set(identity(), DETECTION.value, modality=None, enabled=False, reason=reason)
    with pytest.raises(NotFound):
        service.set(identity(), "mind_reading", modality=None, enabled=True, reason="x")
    with pytest.raises(FeatureUnavailable, match="does not compare"):
        service.set(identity(), "prior_comparison", modality=None, enabled=True, reason="x")
    with pytest.raises(InvalidRequest):
        service.set(identity(), DETECTION.value, modality=None, enabled=None, reason="x")
    assert service.history(identity()) == ()
    assert service.is_enabled(ALPHA, DETECTION, CT)


def test_a_change_says_what_holds_now_and_is_kept(world: World) -> None:
    assert turn(world, DETECTION, False, CT) == "Abnormality detection for CT is disabled."
    assert turn(world, DETECTION, False) == "Abnormality detection is disabled."
    assert turn(world, DETECTION, True, CT, " Validated \n locally ") == "Abnormality detection for CT is enabled."
    assert turn(world, DETECTION, False) == "Abnormality detection is disabled. CT stay enabled by their own switch."
    assert turn(world, DETECTION, None, CT).endswith("again follows the general switch and is disabled.")
    log = FeatureService(database=world.db, clock=world.clock).history(identity(), feature="abnormality_detection")
    assert [(c.action, c.modality) for c in log] == [
        ("inherited", "CT"),
        ("disabled", None),
        ("enabled", "CT"),
        ("disabled", None),
        ("disabled", "CT"),
    ]
    assert log[2].reason == "Validated locally" and log[2].performed_by == "admin"
    assert FeatureService(database=world.db, clock=world.clock).history(identity(), feature="quality_assessment") == ()
    assert [a for a, *_ in world.db.state(ALPHA).audit].count("feature.changed") == 5
    assert FeatureService(database=world.db, clock=world.clock).is_enabled(BETA, DETECTION, CT)


def test_another_process_hears_of_it_within_five_seconds(world: World) -> None:
    ticks = 100.0
    cache = FeatureCache(monotonic=lambda: ticks)
    service = FeatureService(database=world.db, clock=world.clock, cache=cache)
    assert service.is_enabled(ALPHA, DETECTION)
    FeatureService(database=world.db, clock=world.clock).set(
        identity(), DETECTION.value, modality=None, enabled=False, reason="x"
    )
    assert service.is_enabled(ALPHA, DETECTION)
    ticks += CACHE_S
    assert CACHE_S <= 5.0
    assert not service.is_enabled(ALPHA, DETECTION)


# --- arrival and request -----------------------------------------------------------------------------------


def test_detection_off_a_study_is_stored_shown_and_not_analysed(world: World) -> None:
    turn(world, DETECTION, False, XRAY, "No approval yet")
    study_id, analysis, _ = world.receive_only()
    assert analysis is None
    with world.db.unit(ALPHA) as unit:
        study = unit.studies.get(study_id)
        rows, total = unit.worklist.search(_any())
    assert study is not None and study.not_analysed is not None
    assert (study.not_analysed.why, study.not_analysed.feature, study.not_analysed.modality) == (
        WhyNot.FEATURE_DISABLED,
        DETECTION,
        XRAY,
    )
    assert "admin" in study.not_analysed.sentence and "No approval yet" in study.not_analysed.sentence
    assert (total, rows[0].analysis, rows[0].study.id) == (1, None, study_id)
    assert not [job for job in world.db.state(ALPHA).jobs if job[0] == "overread.analyse"]
    # A CT is another matter.
    assert world.receive_only(Modality="CT", StudyInstanceUID="1.2.3")[0] != study_id


def test_detection_off_a_request_is_refused_and_on_record(world: World) -> None:
    turn(world, DETECTION, False)
    study_id, _, _ = world.receive_only()
    with pytest.raises(FeatureDisabled) as caught:
        world.services.requests.create(
            ALPHA, study=str(study_id), modality=XRAY, priority=None, requested_by="radiologist"
        )
    assert caught.value.details == {"feature": "abnormality_detection", "modality": "X-ray", "tenantId": "alpha"}
    denied = [(actor, facts) for action, actor, _, facts in world.db.state(ALPHA).audit if action == "feature.denied"]
    assert [actor for actor, _ in denied] == ["arrival", "radiologist"]
    # Switched on again: nothing happens by itself, but now it can be asked for.
    turn(world, DETECTION, True)
    assert not world.db.state(ALPHA).jobs
    made = world.services.requests.create(
        ALPHA, study=str(study_id), modality=XRAY, priority=None, requested_by="radiologist"
    )
    with world.db.unit(ALPHA) as unit:
        study, row = unit.studies.get(study_id), unit.analyses.get(made.analysis_id)
    assert study is not None and study.not_analysed is None
    assert row is not None and row.status is AnalysisStatus.PENDING


def test_detection_off_a_failed_one_is_not_retried(world: World) -> None:
    _, analysis, _ = world.receive()
    with world.db.unit(ALPHA) as unit:
        unit.analyses.fail(analysis, "INFERENCE_ERROR", "x", world.clock())
    turn(world, DETECTION, False)
    with pytest.raises(FeatureDisabled):
        world.services.requests.retry(ALPHA, analysis, "radiologist")
    with world.db.unit(ALPHA) as unit:
        row = unit.analyses.get(analysis)
    assert row is not None and row.status is AnalysisStatus.FAILED


def test_results_that_are_there_stay(world: World) -> None:
    study_id, analysis, _ = world.read_study()
    turn(world, DETECTION, False)
    with pytest.raises(FeatureDisabled):
        world.services.requests.create(ALPHA, study=str(study_id), modality=None, priority=None, requested_by="r")
    with world.db.unit(ALPHA) as unit:
        study, row = unit.studies.get(study_id), unit.analyses.get(analysis)
    assert study is not None and study.not_analysed is None
    assert row is not None and row.outcome is not None and row.outcome.findings


def _any():
    from overread.services.values import AnalysisFilter

    return AnalysisFilter(with_superseded=False)
