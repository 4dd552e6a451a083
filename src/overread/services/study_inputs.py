"""What of a stored study the pipeline must see: images to decode, series to read as volumes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from overread.domain.analysis import InstanceProblem
from overread.domain.errors import OverreadError
from overread.domain.image import ImageHeader, ImageInstance
from overread.domain.modality import Modality, is_ct, modality_of
from overread.domain.series import SeriesToRead, StackedSeries
from overread.domain.study import InstanceRecord, StoredInstance, TenantId
from overread.services.custody import read_instance
from overread.services.object_ports import ObjectStore
from overread.services.ports import DicomParser, VolumeReader

#: Of a series that no analyser reads yet, so many images are looked at, spread evenly: kind and quality.
_SAMPLES = 3
#: Fewer CT slices are images, not a volume.
SLICES_AT_LEAST = 3


@dataclass(frozen=True, kw_only=True)
class StudyInputs:
    """Decoded images, what could not be decoded, and series that are decoded when they are read."""

    images: tuple[ImageInstance, ...]
    problems: tuple[InstanceProblem, ...]
    series: tuple[SeriesToRead, ...]


def inputs_of(
    stored: Sequence[StoredInstance],
    tenant: TenantId,
    *,
    objects: ObjectStore,
    parser: DicomParser,
    volumes: VolumeReader,
) -> StudyInputs:
    """Decode what is read image by image. Transient errors are raised; the others become problems."""
    images: list[ImageInstance] = []
    problems: list[InstanceProblem] = []
    series: list[SeriesToRead] = []
    for members in _by_series(stored):
        first = members[0].record
        slices = sum(max(1, m.record.number_of_frames) for m in members)
        if is_ct(first.modality, first.sop_class_uid) and slices >= SLICES_AT_LEAST:
            read = partial(_stack, tuple(members), tenant, objects, volumes)
            series.append(SeriesToRead(header=header_of(first), number=first.series_number, slices=slices, load=read))
            continue
        for instance in _to_decode(members):
            uid = instance.record.sop_instance_uid
            try:
                images.append(parser.image(read_instance(objects, tenant, instance), name=f"instance {uid}"))
            except OverreadError as error:
                if error.transient:
                    raise
                problems.append(InstanceProblem(instance=uid, code=error.code, message=str(error)))
    return StudyInputs(images=tuple(images), problems=tuple(problems), series=tuple(series))


def header_of(record: InstanceRecord) -> ImageHeader:
    """What an analyser may use of the index' entry; nothing in it identifies the patient."""
    return ImageHeader(
        sop_instance_uid=record.sop_instance_uid,
        series_instance_uid=record.series_instance_uid,
        sop_class_uid=record.sop_class_uid,
        modality=record.modality,
        body_part=record.body_part,
        view_position=record.view_position,
        series_description=record.series_description or None,
        instance_number=record.instance_number,
        number_of_frames=record.number_of_frames,
    )


def _by_series(stored: Sequence[StoredInstance]) -> list[list[StoredInstance]]:
    found: dict[str, list[StoredInstance]] = {}
    for instance in stored:
        if instance.record.filed_only_reason is None:
            found.setdefault(instance.record.series_instance_uid, []).append(instance)
    return list(found.values())


def _stack(
    members: tuple[StoredInstance, ...], tenant: TenantId, objects: ObjectStore, volumes: VolumeReader
) -> StackedSeries:
    files: list[tuple[str, Callable[[], bytes]]] = [
        (f"instance {m.record.sop_instance_uid}", partial(read_instance, objects, tenant, m)) for m in members
    ]
    return volumes.stack(files)


def _to_decode(members: Sequence[StoredInstance]) -> Sequence[StoredInstance]:
    """All that may be radiographs; a few of any other series."""
    if modality_of(members[0].record.modality) in (None, Modality.XRAY) or len(members) <= _SAMPLES:
        return members
    return [members[round(at * (len(members) - 1) / (_SAMPLES - 1))] for at in range(_SAMPLES)]
