"""Tracking UIDs: the same finding keeps its own, and no two findings of a reading share one."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID, uuid5

from tests.segmented import found

from overread.domain.ids import uid_from_uuid
from overread.services.tracking import tracking_uids

STUDY = UUID(int=77)
BOX = found("1.2.3").bounding_box
assert BOX is not None


def test_equal_findings_in_one_image_are_told_apart_by_their_place():
    one = found("1.2.3")
    findings = [one, replace(one, id=UUID(int=6)), replace(one, id=UUID(int=7), sop_instance_uid="1.2.4")]
    uids = tracking_uids(STUDY, findings)
    assert len(set(uids.values())) == 3
    again = tracking_uids(STUDY, [replace(f, id=UUID(int=f.id.int + 100)) for f in findings])
    assert list(again.values()) == list(uids.values()), "a second reading has other ids and the same tracking UIDs"
    below = replace(one, id=UUID(int=8), bounding_box=replace(BOX, y=BOX.y + 30))
    for order in ([one, below], [below, one]):
        assert tracking_uids(STUDY, order)[one.id] == uids[one.id], "from the top, however they are listed"
    assert set(tracking_uids(UUID(int=78), findings).values()).isdisjoint(uids.values())


def test_the_first_of_its_kind_keeps_the_uid_that_earlier_versions_gave_it():
    one = found("1.2.3")
    assert tracking_uids(STUDY, [one]) == {one.id: uid_from_uuid(uuid5(STUDY, "1.2.3 lung_nodule"))}
