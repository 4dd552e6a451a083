"""A series for the pipeline: its volumes, and what could not be used of it as problems of the study."""

from __future__ import annotations

from collections.abc import Sequence

from overread.dicom.series import File, volumes_of
from overread.dicom.series_values import LeftOut
from overread.domain.analysis import InstanceProblem
from overread.domain.series import StackedSeries

#: Why an image is in no volume although nothing is wrong with it.
_EXPECTED = frozenset({"LOCALIZER", "NOT_CT", "DUPLICATE"})


class DicomVolumes:
    """Reads series; stateless."""

    def stack(self, files: Sequence[File]) -> StackedSeries:
        """The volumes of `files`, (name, bytes or what reads them), in any order. Never raises for what is in a file.

        What a reader of bytes raises goes through if it is transient; see `dicom.series.volumes_of`.
        """
        made = volumes_of(files)
        return StackedSeries(
            volumes=made.volumes,
            problems=made.problems,
            unusable=tuple(_problem(item) for item in made.left_out if item.code not in _EXPECTED),
        )


def _problem(item: LeftOut) -> InstanceProblem:
    frame = "" if item.frame_number is None else f", frame {item.frame_number}"
    return InstanceProblem(instance=f"{item.sop_instance_uid or item.name}{frame}", code=item.code, message=item.reason)
