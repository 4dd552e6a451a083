"""Analyse each study of a path and hand on its result; write files where asked to."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar
from uuid import UUID, uuid5

from overread.cli_analyze.files import FileStudy, Plan, Refused, Tags, studies
from overread.cli_analyze.volumes import VolumeFiles, WrittenVolume
from overread.dicom.read import PydicomParser
from overread.domain import catalogue
from overread.domain.analysis import AnalysisOutcome, QualityAssessment, TriageDecision
from overread.domain.errors import OverreadError
from overread.domain.evidence import EvidenceBar
from overread.domain.ids import uid_from_uuid, uuid7
from overread.domain.modality import modality_of
from overread.domain.priority import Level
from overread.http.results import result_from_outcome, scores_of
from overread.http.wire import AnalysisResult, ImageScores
from overread.pipeline.analyse import ImageReading, analyse
from overread.pipeline.analysers.contract import VolumeAnalyser
from overread.pipeline.ports import ModelShelf
from overread.pipeline.triage import TriageTable
from overread.render import LabelledBox, render_png
from overread.services.ports import SrWriter
from overread.services.values import DisplayWindow, SrRequest

#: Hounsfield units, as radiologists look at lungs.
LUNG_WINDOW = DisplayWindow(center=-600, width=1500)
_T = TypeVar("_T")
_UNFIT = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, kw_only=True)
class Analysed:
    """A study with its result."""

    study: FileStudy
    result: AnalysisResult
    #: None if the study failed as a whole.
    outcome: AnalysisOutcome | None
    #: The DICOM SEG of a study with a volume that was read, as a file; None if there is none.
    seg: WrittenVolume | None = None


def analyse_all(
    the_plan: Plan,
    refused: Refused,
    shelf: ModelShelf,
    analysers: Sequence[VolumeAnalyser] = (),
    *,
    tags: Tags,
    keep_evidence: bool = False,
    on_file: Callable[[int], None] = lambda _count: None,
) -> Iterator[Analysed]:
    """Every study of the plan, in the order in which they become whole. The next is decoded while one is analysed."""
    for study in _one_ahead(studies(the_plan, refused, tags=tags, keep_evidence=keep_evidence)):
        yield _analyse(study, shelf, analysers, keep_evidence=keep_evidence)
        on_file(len(study.names))


def _analyse(
    study: FileStudy, shelf: ModelShelf, analysers: Sequence[VolumeAnalyser], *, keep_evidence: bool
) -> Analysed:
    began = time.perf_counter()
    analysis_id = uuid7()
    volumes = VolumeFiles(study, analysis_id)
    started = datetime.now(UTC)
    readings: list[ImageReading] = []
    error: OverreadError | None = None
    outcome: AnalysisOutcome | None = None
    try:
        outcome = analyse(
            study.images,
            study.problems,
            shelf,
            bar=EvidenceBar(),
            triage_table=TriageTable.from_catalogue(),
            new_id=uuid7,
            series=study.series,
            analysers=analysers,
            on_image=readings.append,
            on_volume=volumes.add if keep_evidence else None,
        )
    except OverreadError as caught:
        error = caught
    seconds = study.seconds + time.perf_counter() - began
    result = result_from_outcome(
        outcome or _failed(study, str(error)),
        analysis_id=analysis_id,
        study_id=study.study_id,
        patient_id=study.patient_id,
        processing_seconds=round(seconds, 3),
        requested_at=started,
        started_at=started,
        completed_at=datetime.now(UTC),
        images=[_scores(reading, study) for reading in readings],
        error=None if error is None else (error.code, str(error)),
    )
    return Analysed(study=study, result=result, outcome=outcome, seg=volumes.written)


def _failed(study: FileStudy, why: str) -> AnalysisOutcome:
    tagged = [i.header.modality for i in study.images]
    return AnalysisOutcome(
        modality=next((m for tag in tagged if (m := modality_of(tag))), None),
        body_part=None,
        findings=(),
        not_assessed=(),
        assessed=(),
        quality=QualityAssessment(level=None, score=None, recommendations="Image quality was not assessed."),
        triage=TriageDecision(urgency=Level.ROUTINE, reason=f"Routine: not assessed, {why}"),
        problems=study.problems,
    )


def _scores(reading: ImageReading, study: FileStudy) -> ImageScores:
    return ImageScores(
        sop_instance_uid=reading.sop_instance_uid,
        file=study.names.get(reading.sop_instance_uid),
        view=reading.view,
        view_confidence=None if reading.view_confidence is None else round(reading.view_confidence, 4),
        not_assessed=reading.not_assessed or None,
        scores=scores_of(reading.scores),
    )


def _one_ahead(source: Iterator[_T]) -> Iterator[_T]:
    """`source`, whose next item is made in a thread while the present one is used."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="decode") as pool:
        upcoming = pool.submit(next, source, None)
        while (item := upcoming.result()) is not None:
            upcoming = pool.submit(next, source, None)
            yield item


# --- files -------------------------------------------------------------------------------------------------


class Output:
    """The folder of `--out`: for each study its images with boxes as PNG, and its DICOM SR.

    Raises OSError from any method if the folder cannot be written to.
    """

    def __init__(self, folder: Path, sr_writer: SrWriter) -> None:
        self.folder = folder
        self._sr_writer = sr_writer
        self._parser = PydicomParser()
        self._taken: set[str] = set()
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, analysed: Analysed) -> None:
        """Overlays of the images that were read, and the SR of a DICOM study. A picture has no study to belong to."""
        outcome = analysed.outcome
        if outcome is None:
            return
        read = {i.sop_instance_uid for i in analysed.result.images or () if i.scores}
        for image in analysed.study.images:
            uid = image.header.sop_instance_uid
            if uid in read:
                name = self._name(analysed.study.names.get(uid, uid), ".png")
                (self.folder / name).write_bytes(render_png(image.image, boxes=_boxes(outcome, uid)))
        self._write_slices(analysed.study, outcome)
        if analysed.seg is not None:
            (self.folder / self._name(analysed.study.study_id, ".seg.dcm")).write_bytes(analysed.seg.document)
        if analysed.study.is_dicom and (analysed.study.evidence or analysed.study.slices):
            name = self._name(analysed.study.study_id, ".sr.dcm")
            (self.folder / name).write_bytes(self._sr_writer.write(_sr_request(analysed, outcome)))

    def _write_slices(self, study: FileStudy, outcome: AnalysisOutcome) -> None:
        """The CT slices that findings are shown on, in the lung window."""
        for uid in dict.fromkeys(f.sop_instance_uid for f in outcome.findings if f.sop_instance_uid in study.slices):
            image = self._parser.image(study.slices[uid], name=study.names[uid], window=LUNG_WINDOW)
            name = self._name(study.names[uid], ".png")
            (self.folder / name).write_bytes(render_png(image.image, boxes=_boxes(outcome, uid)))

    def write_result(self, text: str) -> None:
        """result.json."""
        (self.folder / "result.json").write_text(text + "\n", encoding="utf-8")

    def _name(self, name: str, suffix: str) -> str:
        """A safe file name that no earlier file of this folder has."""
        stem = _UNFIT.sub("_", name).strip("._")[-120:] or "image"
        stem = re.sub(r"\.(png|jpe?g|dcm)$", "", stem, flags=re.IGNORECASE)
        candidate, number = f"{stem}{suffix}", 1
        while candidate in self._taken:
            number += 1
            candidate = f"{stem}_{number}{suffix}"
        self._taken.add(candidate)
        return candidate


def _boxes(outcome: AnalysisOutcome, uid: str) -> list[LabelledBox]:
    return [
        LabelledBox(
            box=f.bounding_box,
            label=f"{catalogue.entry(f.finding_type).name if catalogue.is_known(f.finding_type) else f.finding_type} "
            f"{min(f.confidence, 0.99):.2f}",
            severity=f.severity,
            exploratory=f.exploratory,
        )
        for f in outcome.findings
        if f.sop_instance_uid == uid and f.bounding_box is not None
    ]


def _sr_request(analysed: Analysed, outcome: AnalysisOutcome) -> SrRequest:
    analysis_id: UUID = analysed.result.analysis_id
    return SrRequest(
        analysis_id=analysis_id,
        outcome=outcome,
        evidence=analysed.study.evidence or _cited(analysed.study, outcome),
        sop_instance_uid=uid_from_uuid(uuid5(analysis_id, "sr instance")),
        series_instance_uid=uid_from_uuid(uuid5(analysis_id, "sr series")),
        completed_at=analysed.result.completed_at or datetime.now(UTC),
        tracking_uids={} if analysed.seg is None else analysed.seg.tracking_uids,
        segmentation=None if analysed.seg is None else analysed.seg.reference,
    )


def _cited(study: FileStudy, outcome: AnalysisOutcome) -> list[bytes]:
    """The slices that findings are shown on, else one that stands for the series."""
    cited = [study.slices[uid] for uid in dict.fromkeys(f.sop_instance_uid for f in outcome.findings)]
    return cited or list(study.slices.values())[:1]
