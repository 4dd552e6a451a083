"""May this study be analysed? Asked before an analysis is made, when it is claimed, and when its result is saved.

Two may say no: the hospital, which has switched detection off, and the patient, who objects. The study is then stored,
shown and read by people as any other, and says why the AI did not read it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

from overread.domain.analysis import AnalysisStatus
from overread.domain.audit import AuditAction, AuditOutcome
from overread.domain.errors import FeatureDisabled, OverreadError, PatientObjected
from overread.domain.features import Feature, Features, NotAnalysed, WhyNot, entry
from overread.domain.modality import Modality, modality_of
from overread.domain.study import StoredInstance, TenantId
from overread.services.ports import UnitOfWork
from overread.services.values import OptOut, StudyRow

#: A switch works within this time in every process.
CACHE_S = 5.0


@dataclass(kw_only=True)
class FeatureCache:
    """The switches of each tenant as they were at most `CACHE_S` seconds ago: arrivals ask for them by the thousand."""

    seconds: float = CACHE_S
    monotonic: Callable[[], float] = time.monotonic
    _kept: dict[TenantId, tuple[float, Features]] = field(default_factory=dict, repr=False)

    def of(self, unit: UnitOfWork) -> Features:
        """From memory, else by the unit's connection."""
        kept = self._kept.get(unit.tenant)
        now = self.monotonic()
        if kept is not None and now - kept[0] < self.seconds:
            return kept[1]
        features = unit.features.switches()
        self._kept[unit.tenant] = now, features
        return features

    def forget(self, tenant: TenantId) -> None:
        """After a change in this process."""
        self._kept.pop(tenant, None)


def modalities_of(study: StudyRow) -> tuple[Modality | None, ...]:
    """Those that the product has a word for; (None,) if there is none."""
    known = {m for m in map(modality_of, study.dicom_modalities) if m is not None} | ({study.modality} - {None})
    return tuple(sorted(known, key=str)) or (None,)


def not_analysed(
    unit: UnitOfWork,
    study: StudyRow,
    features: Features,
    now: datetime,
    images: Iterable[StoredInstance] | None = None,
    *,
    lost: Collection[Feature] = (),
) -> NotAnalysed | None:
    """Why the study may not be analysed; None if it may.

    `images` are those of the study, where the caller has them: a study of two patients is not read if one of them
    objects. A study of several modalities is read if detection is on for one; the pipeline leaves the others out. Once
    its result is there, detection must not be among what was `lost` meanwhile for any of them.
    """
    opt_out = _objection(unit, study, images)
    if opt_out is not None:
        return objected(opt_out, now)
    off = [m for m in modalities_of(study) if not features.on(Feature.ABNORMALITY_DETECTION, m)]
    if not off or (len(off) < len(modalities_of(study)) and Feature.ABNORMALITY_DETECTION not in lost):
        return None
    modality = study.modality if study.modality in off else off[0]
    return NotAnalysed(
        why=WhyNot.FEATURE_DISABLED,
        sentence=switched_off(features, Feature.ABNORMALITY_DETECTION, modality),
        since=now,
        feature=Feature.ABNORMALITY_DETECTION,
        modality=modality,
    )


def switched_off(features: Features, feature: Feature, modality: Modality | None) -> str:
    """Which feature, by whom, when and why, in one sentence."""
    where = "" if modality is None else f" for {modality.value}"
    switch = features.decided_by(feature, modality)
    if switch is None:
        return f"{entry(feature).name} is off{where}: nobody has switched it on."
    day = switch.changed_at.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f"{entry(feature).name} is off{where}, switched by {switch.changed_by} on {day}: {switch.reason}"


def refusal(tenant: TenantId, why: NotAnalysed) -> OverreadError:
    """The error for somebody who asks for an analysis all the same."""
    if why.why is WhyNot.PATIENT_OBJECTED:
        return PatientObjected("The patient objected to being read by AI.", remedy="Read the study without it.")
    feature = why.feature or Feature.ABNORMALITY_DETECTION
    where = "" if why.modality is None else f" for {why.modality.value}"
    return FeatureDisabled(
        f"Feature not enabled for tenant: {entry(feature).name.lower()} is off{where}.",
        remedy="An administrator can switch it on.",
        feature=feature.value,
        modality=None if why.modality is None else why.modality.value,
        tenantId=tenant.slug,
    )


def turn_away(unit: UnitOfWork, study: StudyRow, why: NotAnalysed, *, actor: str, analysis: UUID | None = None) -> None:
    """Keep the reason with the study and on record; cancel the analysis, if there is one already."""
    if analysis is not None:
        unit.analyses.withdraw(analysis, code_of(why), why.sentence, why.since)
    unit.studies.set_not_analysed(study.id, why)
    _record(unit, study, why, actor, analysis)
    ids = {"study": str(study.id)}
    unit.events.publish("analysis", ids | ({"analysis": str(analysis)} if analysis is not None else {}))


def turn_away_request(unit: UnitOfWork, study: StudyRow, why: NotAnalysed, *, actor: str) -> None:
    """Put on record that somebody asked in vain; a study that nothing else speaks for gets its reason."""
    latest = unit.analyses.latest_for_study(study.id)
    read = latest is not None and latest.revision == study.revision and latest.status is not AnalysisStatus.CANCELLED
    if not read and study.not_analysed is None:
        unit.studies.set_not_analysed(study.id, why)
    _record(unit, study, why, actor, None)


def _record(unit: UnitOfWork, study: StudyRow, why: NotAnalysed, actor: str, analysis: UUID | None) -> None:
    unit.audit.record(
        AuditAction.FEATURE_DENIED,
        actor=actor,
        study_id=study.id,
        outcome=AuditOutcome.DENIED,
        code=code_of(why),
        feature=why.feature.value if why.feature else None,
        modality=why.modality.value if why.modality else None,
        analysis=str(analysis) if analysis else None,
    )


def code_of(why: NotAnalysed) -> str:
    """The error's code that says the same."""
    return PatientObjected.code if why.why is WhyNot.PATIENT_OBJECTED else FeatureDisabled.code


def objected(opt_out: OptOut, now: datetime) -> NotAnalysed:
    """What a study says whose patient objects."""
    day = opt_out.added_at.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
    sentence = f"Not analysed: the patient objected (recorded by {opt_out.added_by}, {day})."
    return NotAnalysed(why=WhyNot.PATIENT_OBJECTED, sentence=sentence, since=now)


def _objection(unit: UnitOfWork, study: StudyRow, images: Iterable[StoredInstance] | None) -> OptOut | None:
    """Of one of the study's patients. Who has no patient id cannot be found on the list."""
    patients = {(study.patient_id, study.issuer_of_patient_id)}
    if study.patient_conflict:
        stored = unit.studies.instances(study.id) if images is None else images
        patients |= {(i.record.patient_id, i.record.issuer_of_patient_id) for i in stored}
    found = (unit.opt_outs.find(number, issuer) for number, issuer in sorted(patients) if number)
    return next((opt_out for opt_out in found if opt_out is not None), None)
