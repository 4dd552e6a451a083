"""Tracking UIDs (112040, DCM): what names the same finding over re-analyses and priors (PS3.16 TID 1501)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from uuid import UUID, uuid5

from overread.domain.analysis import Finding
from overread.domain.ids import uid_from_uuid


def tracking_uids(study_id: UUID, findings: Sequence[Finding]) -> dict[UUID, str]:
    """The tracking UID of each finding, by finding id.

    It follows from the study, the image, the finding type and, where several of this type are in this image, their
    order from the top, so that a second reading of the same images gives the same, in whatever order it lists them.
    """
    seen: Counter[tuple[str, str]] = Counter()
    uids: dict[UUID, str] = {}
    for finding in sorted(findings, key=_place):
        key = (finding.sop_instance_uid, finding.finding_type)
        seen[key] += 1
        name = " ".join(key) if seen[key] == 1 else f"{' '.join(key)} {seen[key]}"
        uids[finding.id] = uid_from_uuid(uuid5(study_id, name))
    return uids


def _place(finding: Finding) -> tuple[int, int, int]:
    """Slice, row and column; those without a box come first."""
    box = finding.bounding_box
    return finding.slice_number or 0, box.y if box else -1, box.x if box else -1
