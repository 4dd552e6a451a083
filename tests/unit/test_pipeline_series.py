"""Which series of a study is read as a volume and by whom, and what is said of the others."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from uuid import UUID

import numpy as np
import pytest

from overread.domain.analysis import Finding, InstanceProblem, Measurement, NotAssessed
from overread.domain.errors import InferenceError, ModelOutOfMemory, OverreadError, StoreUnavailable
from overread.domain.evidence import EvidenceBar, ModelIdentity
from overread.domain.image import ImageHeader
from overread.domain.modality import Modality
from overread.domain.priority import Level
from overread.domain.series import SeriesToRead, StackedSeries
from overread.domain.volume import MissingRescale, Volume
from overread.pipeline.analyse import analyse
from overread.pipeline.analysers.contract import ReadingContext, VolumeReading
from overread.pipeline.series import VolumeRead
from overread.pipeline.triage import TriageTable


def volume(slices: int, value: int = 0) -> Volume:
    return Volume(
        hu=np.full((slices, 16, 16), value, np.int16),
        affine=np.diag([2.0, 1.0, 1.0, 1.0])[[2, 1, 0, 3]],
        series_instance_uid="1.2.3",
        frame_of_reference_uid="1.2.4",
        sop_instance_uids=tuple(f"1.2.3.{n}" for n in range(slices)),
        frame_numbers=(1,) * slices,
    )


class Loads:
    """A series that counts how often it was decoded."""

    def __init__(self, stacked: StackedSeries | OverreadError) -> None:
        self.stacked = stacked
        self.calls = 0

    def __call__(self) -> StackedSeries:
        self.calls += 1
        if isinstance(self.stacked, OverreadError):
            raise self.stacked
        return self.stacked


def series(load: Loads, number: int = 1, slices: int = 20, **header: str) -> SeriesToRead:
    return SeriesToRead(
        header=ImageHeader(sop_instance_uid="1.2.3.0", modality="CT", **header), number=number, slices=slices, load=load
    )


class Analyser:
    """Reads volumes of its value, refuses others."""

    modality = Modality.CT

    def __init__(self, value: int = 0, name: str = "fake_ct", error: Exception | None = None) -> None:
        self.identity = ModelIdentity(name=name, version="1.0.0")
        self.value = value
        self.error = error

    def read(self, volume: Volume, header: ImageHeader, context: ReadingContext) -> VolumeReading:
        if self.error is not None:
            raise self.error
        if volume.hu[0, 0, 0] != self.value:
            return VolumeReading(refused="no lungs in it")
        finding = Finding(
            id=context.new_id(),
            finding_type="lung_nodule",
            severity=Level.ROUTINE,
            confidence=0.8,
            sop_instance_uid=volume.sop_instance_uids[3],
            slice_number=4,
        )
        size = Measurement(
            id=context.new_id(),
            measurement_type="long_axis",
            value=7.5,
            unit="mm",
            method="fake",
            finding_id=finding.id,
        )
        return VolumeReading(
            body_part="CHEST",
            findings=(finding,),
            measurements=(size,),
            assessed=("lung_nodule",),
            not_assessed=(NotAssessed(finding_type="emphysema", name="Emphysema", reason="no method"),),
        )


class NoModels:
    def find(self, task: str) -> None:
        return None


def run(found: Sequence[SeriesToRead], *analysers: Analyser, **changes: object):
    ids = (UUID(int=n) for n in itertools.count(1))
    return analyse(
        (),
        (),
        NoModels(),
        bar=EvidenceBar(),
        triage_table=TriageTable.from_catalogue(),
        new_id=lambda: next(ids),
        series=found,
        analysers=analysers,
        **changes,
    )


def stacked(slices: int = 20, value: int = 0, **changes: object) -> Loads:
    return Loads(StackedSeries(volumes=(volume(slices, value),), **changes))


def test_a_series_is_read_as_a_volume():
    told: list[VolumeRead] = []
    outcome = run([series(stacked())], Analyser(), on_volume=told.append)
    assert (outcome.modality, outcome.body_part) == (Modality.CT, "CHEST")
    assert [(f.finding_type, f.slice_number) for f in outcome.findings] == [("lung_nodule", 4)]
    assert [(m.measurement_type, m.value, m.unit) for m in outcome.measurements] == [("long_axis", 7.5, "mm")]
    assert outcome.measurements[0].finding_id == outcome.findings[0].id
    assert outcome.assessed == ("lung_nodule",)
    assert [n.finding_type for n in outcome.not_assessed] == ["emphysema"]
    assert [str(m) for m in outcome.models] == ["fake_ct 1.0.0"]
    assert told[0].volume.shape == (20, 16, 16)
    assert outcome.triage.urgency is Level.ROUTINE


def test_the_thinner_series_is_read_and_the_other_one_named():
    thin, thick = stacked(40), stacked(20)
    outcome = run([series(thick, 2, 20), series(thin, 3, 40, series_description="Lung 1.0")], Analyser())
    assert (thin.calls, thick.calls) == (1, 0), "what is not read is not decoded"
    assert len(outcome.findings) == 1
    assert any(
        n.name == "Series" and n.reason == "series 2 was not measured: series 3 (Lung 1.0) of the same study was"
        for n in outcome.not_assessed
    )


def test_a_series_that_is_refused_leaves_the_next_one_unharmed():
    outcome = run([series(stacked(40, 7), 1, 40), series(stacked(20), 2)], Analyser())
    assert len(outcome.findings) == 1
    assert "series 1: no lungs in it" in [n.reason for n in outcome.not_assessed]


def test_a_series_that_makes_no_volume_says_why():
    bad = Loads(
        StackedSeries(
            volumes=(),
            problems=(MissingRescale("There is no RescaleSlope."),),
            unusable=(InstanceProblem(instance="1.2", code="INVALID_DICOM", message="cut off"),),
        )
    )
    outcome = run([series(bad)], Analyser())
    assert [p.code for p in outcome.problems] == ["INVALID_DICOM", "MISSING_RESCALE"]
    assert "There is no RescaleSlope." in outcome.not_assessed[0].reason
    assert outcome.triage.reason.startswith("Routine: not assessed")
    assert not outcome.assessed


def test_without_an_analyser_nothing_is_decoded():
    load = stacked()
    outcome = run([series(load, body_part="HEAD")])
    assert load.calls == 0
    assert [n.reason for n in outcome.not_assessed] == ["no analyser is installed for CT yet"]
    assert (outcome.modality, outcome.body_part) == (Modality.CT, "HEAD")


def test_two_analysers_read_one_series():
    outcome = run([series(stacked())], Analyser(0, "one"), Analyser(7, "other kind"), Analyser(0, "two"))
    assert [str(m) for m in outcome.models] == ["one 1.0.0", "two 1.0.0"]
    assert len(outcome.findings) == 2
    assert not [n for n in outcome.not_assessed if n.name == "Series"], "who refused is not asked"


def test_what_was_only_measured_says_so():
    class Measures(Analyser):
        def read(self, volume: Volume, header: ImageHeader, context: ReadingContext) -> VolumeReading:
            reading = super().read(volume, header, context)
            return VolumeReading(measurements=reading.measurements)

    outcome = run([series(stacked())], Measures())
    assert outcome.triage.reason == "Routine: not assessed, measured only: nothing was looked for"


def test_two_analysers_read_two_series():
    outcome = run([series(stacked(40, 5), 1, 40), series(stacked(20), 2)], Analyser(0, "one"), Analyser(5, "two"))
    assert [str(m) for m in outcome.models] == ["two 1.0.0", "one 1.0.0"]
    assert len(outcome.findings) == 2


def test_an_analyser_that_fails_is_a_problem_and_fails_the_study_only_if_nothing_else_was_read():
    broken = Analyser(error=InferenceError("It broke."))
    with pytest.raises(InferenceError, match="It broke"):
        run([series(stacked())], broken)
    outcome = run([series(stacked())], broken, Analyser())
    assert [p.message for p in outcome.problems] == ["It broke."]
    assert len(outcome.findings) == 1


@pytest.mark.parametrize(
    ("load", "analyser", "expected"),
    [
        (Loads(StoreUnavailable("The store is away.")), Analyser(), StoreUnavailable),
        (stacked(), Analyser(error=MemoryError()), ModelOutOfMemory),
    ],
)
def test_what_may_pass_is_tried_again(load, analyser, expected):
    with pytest.raises(expected):
        run([series(load)], analyser)
