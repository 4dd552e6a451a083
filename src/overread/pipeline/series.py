"""Read cross-sectional series as volumes: find an analyser for each, and say why the others were not read.

Series are tried with the thinnest slices first, and each is shown to every analyser. An analyser reads one series of a
study: the other reconstructions of the same scan would give the same findings again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from overread.domain.analysis import Finding, InstanceProblem, Measurement, NotAssessed
from overread.domain.errors import InferenceError, ModelOutOfMemory, OverreadError
from overread.domain.evidence import ModelIdentity
from overread.domain.features import ALL_ON, Feature, Features, unmeasured
from overread.domain.modality import Modality
from overread.domain.series import SeriesToRead
from overread.domain.volume import Volume
from overread.pipeline import quality
from overread.pipeline.analysers.contract import ReadingContext, VolumeAnalyser, VolumeReading

_NO_ANALYSER = "no analyser is installed for CT yet"


@dataclass(frozen=True, kw_only=True, eq=False)
class VolumeRead:
    """A volume that an analyser read."""

    #: As `dicom.series` made it from the files.
    volume: Volume
    analyser: ModelIdentity
    reading: VolumeReading


@dataclass
class SeriesResult:
    """What the series of a study gave together."""

    findings: list[Finding] = field(default_factory=list)
    measurements: list[Measurement] = field(default_factory=list)
    assessed: list[str] = field(default_factory=list)
    not_assessed: list[NotAssessed] = field(default_factory=list)
    problems: list[InstanceProblem] = field(default_factory=list)
    models: list[ModelIdentity] = field(default_factory=list)
    qualities: list[quality.ImageQuality] = field(default_factory=list)
    body_part: str | None = None
    #: Whether a volume was not judged because quality assessment is off.
    quality_off: bool = False
    #: The error of a series whose analyser failed, if none was read.
    error: OverreadError | None = None


def read_all(
    series: Sequence[SeriesToRead],
    analysers: Sequence[VolumeAnalyser],
    context: ReadingContext,
    on_volume: Callable[[VolumeRead], None] | None = None,
    *,
    features: Features = ALL_ON,
) -> SeriesResult:
    """Read the series of one study; one volume is in memory at a time.

    `on_volume` hears of each volume that was read, before it is given back. `features` says what runs for CT. Raises
    transient errors.
    """
    result = SeriesResult()
    if series and (off := features.why_off(Feature.ABNORMALITY_DETECTION, Modality.CT)):
        result.not_assessed.append(NotAssessed(finding_type="", name="Series", reason=off))
        return result
    waiting = [a for a in analysers if a.modality is Modality.CT]
    read: SeriesToRead | None = None
    for one in sorted(series, key=lambda s: (-s.slices, s.number or 0)):
        if not analysers:
            result.not_assessed.append(NotAssessed(finding_type="", name="Study", reason=_NO_ANALYSER))
            break
        if not waiting:
            reason = f"{one.name} was not measured: {read.name if read else 'another series'} of the same study was"
            result.not_assessed.append(NotAssessed(finding_type="", name="Series", reason=reason))
            continue
        done = _read(one, waiting, context, result, on_volume, features)
        if done:
            waiting = [a for a in waiting if a not in done]
            read = one
    result.body_part = result.body_part or next((s.header.body_part for s in series if s.header.body_part), None)
    return result


def _read(
    series: SeriesToRead,
    analysers: Sequence[VolumeAnalyser],
    context: ReadingContext,
    result: SeriesResult,
    on_volume: Callable[[VolumeRead], None] | None,
    features: Features,
) -> list[VolumeAnalyser]:
    """The analysers that read the series; if there is none, `result` says why."""
    stacked = series.load()
    result.problems.extend(stacked.unusable)
    if not stacked.volumes:
        reason = f"{series.name} makes no volume that can be measured"
        if stacked.problems:
            first = stacked.problems[0]
            result.problems.append(InstanceProblem(instance=series.name, code=first.code, message=str(first)))
            reason += f": {first}"
        result.not_assessed.append(NotAssessed(finding_type="", name="Series", reason=reason))
        return []
    volume = stacked.volumes[0]
    if features.on(Feature.QUALITY_ASSESSMENT, Modality.CT):
        result.qualities.append(quality.assess_volume(volume))
    else:
        result.quality_off = True
    refused: list[str] = []
    done: list[VolumeAnalyser] = []
    for analyser in analysers:
        try:
            reading = analyser.read(volume, series.header, context)
        except MemoryError as error:
            raise ModelOutOfMemory(f"{analyser.identity} ran out of memory on {volume.shape} voxels.") from error
        except InferenceError as error:
            if error.transient:
                raise
            result.problems.append(InstanceProblem(instance=series.name, code=error.code, message=str(error)))
            result.error = error
            continue
        result.body_part = result.body_part or reading.body_part
        if reading.refused:
            refused.append(reading.refused)
            continue
        if not features.on(Feature.AUTOMATED_MEASUREMENTS, Modality.CT):
            findings = tuple(unmeasured(finding) for finding in reading.findings)
            reading = replace(reading, measurements=(), findings=findings)
        _keep(result, reading, analyser.identity)
        if on_volume is not None:
            on_volume(VolumeRead(volume=volume, analyser=analyser.identity, reading=reading))
        done.append(analyser)
    if done:  # that a chest is no head, says the analyser of heads, and nobody needs to hear it
        return done
    result.not_assessed.extend(
        NotAssessed(finding_type="", name="Series", reason=f"{series.name}: {reason}")
        for reason in dict.fromkeys(refused)
    )
    return []


def _keep(result: SeriesResult, reading: VolumeReading, identity: ModelIdentity) -> None:
    result.findings.extend(reading.findings)
    result.measurements.extend(reading.measurements)
    result.assessed.extend(key for key in reading.assessed if key not in result.assessed)
    result.not_assessed.extend(reading.not_assessed)
    result.models.append(identity)
