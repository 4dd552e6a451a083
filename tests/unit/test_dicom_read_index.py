"""The index record: text, UIDs, dates, hashes, and what is filed only."""

from __future__ import annotations

from datetime import UTC, date, datetime

import numpy as np
import pytest
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian
from tests.odd_files import SC_CLASS, SR_CLASS, dataset, radiograph, ramp, to_bytes

from overread.dicom.read import PydicomParser, image, index
from overread.domain.ids import is_valid_uid
from overread.services.ports import DicomParser

PARSER: DicomParser = PydicomParser()


def test_record_of_a_plain_radiograph() -> None:
    data = radiograph(
        PatientBirthDate="19500203",
        PatientSex="f",
        AccessionNumber="A7",
        StudyDescription="  Chest  PA\n",
        BodyPartExamined="chest",
        ViewPosition="pa",
        SeriesNumber=2,
        InstanceNumber=5,
        NumberOfFrames=1,
    )
    record = PARSER.index(data, name="a.dcm")
    assert record.patient_id == "P1"
    assert record.patient_name == "Doe^Jane"
    assert record.patient_birth_date == date(1950, 2, 3)
    assert record.patient_sex == "F"
    assert record.study_description == "Chest PA"
    assert (record.body_part, record.view_position) == ("CHEST", "PA")
    assert (record.series_number, record.instance_number) == (2, 5)
    assert (record.rows, record.columns, record.number_of_frames) == (16, 16, 1)
    assert record.study_datetime == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert record.size_bytes == len(data)
    assert record.filed_only_reason is None
    assert record.warnings == ()


def test_memoryview_gives_the_same_record() -> None:
    data = radiograph()
    assert index(memoryview(data), name="a") == index(data, name="a")


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, "1.2.840.10008.1.2.1.99"])
def test_every_native_syntax_reads_alike(syntax: str) -> None:
    pixels = ramp(dtype=">u2" if syntax == ExplicitVRBigEndian else "<u2")
    record = index(radiograph(pixels, syntax, PatientName="Doe^Jane", SeriesNumber=3), name="a")
    assert (record.patient_name, record.series_number, record.rows) == ("Doe^Jane", 3, 16)
    assert record.transfer_syntax_uid == syntax


@pytest.mark.parametrize(
    ("day", "time", "zone", "expected"),
    [
        ("20260102", "030405.5", None, datetime(2026, 1, 2, 3, 4, 5, 500000, tzinfo=UTC)),
        ("20260102", "03", None, datetime(2026, 1, 2, 3, tzinfo=UTC)),
        ("2026.01.02", "03:04:05", None, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("20260102", "030405", "+0200", datetime(2026, 1, 2, 1, 4, 5, tzinfo=UTC)),
        ("20260102", "030405", "-0530", datetime(2026, 1, 2, 8, 34, 5, tzinfo=UTC)),
        ("20260102", "995959", None, datetime(2026, 1, 2, tzinfo=UTC)),
        ("20260102", "235960", None, datetime(2026, 1, 2, 23, 59, 59, tzinfo=UTC)),
        ("20261302", "030405", None, None),
        ("soon", "030405", None, None),
        ("", "", None, None),
        ("00010101", "000000", "+1400", datetime(1, 1, 1, tzinfo=UTC)),
    ],
)
def test_study_time(day: str, time: str, zone: str | None, expected: datetime | None) -> None:
    more = {"TimezoneOffsetFromUTC": zone} if zone else {}
    assert index(radiograph(StudyDate=day, StudyTime=time, **more), name="a").study_datetime == expected


def test_series_date_stands_in_for_a_missing_study_date() -> None:
    record = index(radiograph(StudyDate="", SeriesDate="20250607", SeriesTime="08"), name="a")
    assert record.study_datetime == datetime(2025, 6, 7, 8, tzinfo=UTC)


@pytest.mark.parametrize(
    ("charset", "raw", "expected"),
    [
        ("ISO_IR 100", "Jérôme".encode("latin-1"), "Jérôme"),
        ("ISO_IR 192", "山田^太郎".encode(), "山田^太郎"),
        ("GB18030", "王^小東".encode("gb18030"), "王^小東"),
        # The second byte of each is a backslash, or the sign that parts name components.
        ("GB18030", "誠^郳".encode("gb18030"), "誠^郳"),
        ("GBK", "王^小东".encode("gbk"), "王^小东"),
        ("ISO_IR 144", "Люкceмбypг".encode("iso8859_5"), "Люкceмбypг"),
        ("\\ISO 2022 IR 87", b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B", "Yamada^Tarou=山田^太郎"),
        ("\\ISO 2022 IR 149", b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7", "Hong^Gildong=洪^吉洞"),
        ("\\ISO 2022 IR 58", b"Zhang=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab", "Zhang=张^小东"),
        ("ISO 2022 IR 100\\ISO 2022 IR 126", b"Dionysios\x1b-F\xc4\xe9", "DionysiosΔι"),
        # None declared: UTF-8 if it is that, else what Windows writes.
        ("", "Müller".encode(), "Müller"),
        ("", b"M\xfcller \x96 x", "Müller – x"),
        # Declared, but wrong, misspelt or unknown: nothing is lost and nothing raised.
        ("ISO_IR 192", b"M\xfcller", "Müller"),
        ("ISO-IR 100", b"M\xfcller", "Müller"),
        ("UTF-8", "Müller".encode(), "Müller"),
        ("KLINGON", b"M\xfcller", "Müller"),
        ("GB18030", b"\xff\xff", "ÿÿ"),
        ("ISO 2022 IR 87", b"A\x1b$Zb", "A$Zb"),
        ("ISO_IR 100", b"A\x00\x07B\x9bC", "A B C"),
        ("ISO_IR 192", "A\u202eB\u2028C".encode(), "A B C"),
    ],
)
def test_character_sets(charset: str, raw: bytes, expected: str) -> None:
    ds = dataset(ramp())
    ds.PatientName = "X" * len(raw)
    data = to_bytes(ds)
    # Written by hand: pydicom will not write what it thinks is wrong.
    value = raw + b" " * (len(raw) % 2)
    old = b"PN" + (len(raw) + len(raw) % 2).to_bytes(2, "little") + b"X" * len(raw)
    data = data.replace(old + b" " * (len(raw) % 2), b"PN" + len(value).to_bytes(2, "little") + value)
    if charset:
        declared = charset.encode() + b" " * (len(charset) % 2)
        start = 144 + int.from_bytes(data[140:144], "little")
        head = b"\x08\x00\x05\x00CS" + len(declared).to_bytes(2, "little") + declared
        data = data[:start] + head + data[start:]
    assert index(data, name="a").patient_name == expected


@pytest.mark.parametrize("keyword", ["PatientID", "Modality"])
def test_missing_patient_id_or_modality_is_still_a_record(keyword: str) -> None:
    record = index(radiograph(remove=(keyword,)), name="a")
    assert (record.patient_id, record.modality) == (("", "CR") if keyword == "PatientID" else ("P1", None))


def test_long_text_fits_a_database_index() -> None:
    record = index(radiograph(PatientID="P" * 5000, StudyDescription="é" * 9000), name="a")
    assert record.patient_id == "P" * 256
    assert record.study_description == "é" * 256


# --- UIDs --------------------------------------------------------------------------------------------------


def test_unusable_uids_are_replaced_by_stable_ones() -> None:
    guid = "7afb0d48-ec01-4941-9a58-66d15cab76fb"
    data = radiograph(SeriesInstanceUID=guid, StudyInstanceUID=guid)
    record = index(data, name="a")
    assert is_valid_uid(record.series_instance_uid)
    assert record.series_instance_uid.startswith("2.25.")
    assert record.series_instance_uid != record.study_instance_uid
    assert [w.split()[0] for w in record.warnings] == ["SeriesInstanceUID", "StudyInstanceUID"]
    # Another image of the series, whatever else differs, belongs to the same series and study.
    other = index(radiograph(SeriesInstanceUID=guid, StudyInstanceUID=guid, PatientID="P9"), name="b")
    assert other.series_instance_uid == record.series_instance_uid
    assert other.study_instance_uid == record.study_instance_uid


@pytest.mark.parametrize("uid", ["", "no uid", "1." * 40 + "1", "dccc9599087131742838cc1162a630fe", "1", "1..2"])
def test_sop_instance_uid(uid: str) -> None:
    data = radiograph(SOPInstanceUID=uid)
    record = index(data, name="a")
    assert is_valid_uid(record.sop_instance_uid)
    assert "SOPInstanceUID" in record.warnings[0]
    assert index(data, name="another name").sop_instance_uid == record.sop_instance_uid
    assert image(data, name="a").header.sop_instance_uid == record.sop_instance_uid


def test_leading_zeros_are_kept_for_the_archive() -> None:
    record = index(radiograph(SOPInstanceUID="1.2.0840.03"), name="a")
    assert record.sop_instance_uid == "1.2.0840.03"
    assert record.warnings == ()


def test_images_without_sop_instance_uid_stay_apart() -> None:
    records = [
        index(radiograph(remove=("SOPInstanceUID",)), name="a"),
        index(radiograph(ramp(start=9), remove=("SOPInstanceUID",)), name="a"),
        index(radiograph(remove=("SOPInstanceUID",), InstanceNumber=2), name="a"),
        index(radiograph(remove=("SOPInstanceUID",), SeriesInstanceUID="1.2.3"), name="a"),
        index(to_bytes(dataset(None, remove=("SOPInstanceUID",))), name="a"),
        index(to_bytes(dataset(None, remove=("SOPInstanceUID",), PatientComments="x")), name="a"),
    ]
    assert len({record.sop_instance_uid for record in records}) == len(records)


def test_missing_study_uid_follows_patient_and_visit() -> None:
    def study(**attributes: object) -> str:
        return index(radiograph(remove=("StudyInstanceUID",), **attributes), name="a").study_instance_uid

    assert study(SOPInstanceUID="1.2.3") == study(SOPInstanceUID="1.2.4", SeriesInstanceUID="1.2.5")
    assert study(AccessionNumber="1") != study(AccessionNumber="2")
    assert study(PatientID="P1") != study(PatientID="P2")
    # Nothing but the series, or not even that.
    bare = {"PatientID": "", "StudyDate": ""}
    assert study(**bare, SOPInstanceUID="1.2.3") == study(**bare, SOPInstanceUID="1.2.4")
    assert study(**bare, SeriesInstanceUID="") != study(**bare, SeriesInstanceUID="", SOPInstanceUID="1.2.4")


def test_missing_series_uid_never_joins_strangers() -> None:
    nothing = {"PatientID": "", "StudyDate": "", "SeriesInstanceUID": "", "StudyInstanceUID": ""}
    one, two = (index(radiograph(**nothing, SOPInstanceUID=uid), name="a") for uid in ("1.2.3", "1.2.4"))
    assert one.series_instance_uid != two.series_instance_uid
    assert one.study_instance_uid != two.study_instance_uid


# --- hashes ------------------------------------------------------------------------------------------------


def test_pixel_hash_is_of_pixels_and_of_what_decides_how_they_read() -> None:
    def pixel_hash(data: bytes) -> str:
        return index(data, name="a").pixel_sha256

    plain = pixel_hash(radiograph())
    assert pixel_hash(radiograph(PatientName="Other^Name", WindowCenter=5)) == plain
    assert pixel_hash(radiograph(ramp(start=1))) != plain
    assert pixel_hash(radiograph(PhotometricInterpretation="MONOCHROME1")) != plain
    assert pixel_hash(radiograph(BitsStored=16, HighBit=15)) != plain
    assert pixel_hash(radiograph(ramp(8, 32))) != plain
    assert (
        index(radiograph(PatientName="Other^Name"), name="a").file_sha256 != index(radiograph(), name="a").file_sha256
    )


# --- filed only --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({}, None),
        ({"SOPClassUID": SC_CLASS, "remove": ("ImageType",)}, None),
        ({"ImageType": ["DERIVED", "PRIMARY"]}, None),
        ({"SOPClassUID": SC_CLASS, "ImageType": ["DERIVED", "SECONDARY"]}, "a derived secondary capture"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "a localizer"),
        ({"ImageType": ["DERIVED", "SECONDARY", "MPR"]}, "an image computed from others"),
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, "a dose report"),
        ({"SeriesDescription": "Dose Report"}, "a dose report"),
        ({"ManufacturerModelName": "Overread", "ImageType": ["DERIVED", "SECONDARY"]}, "our own output"),
        ({"ManufacturerModelName": "Overread", "ImageType": ["ORIGINAL", "PRIMARY"]}, None),
        ({"Modality": "PR"}, "PR is no image"),
        ({"Modality": "SEG"}, "SEG is no image"),
    ],
)
def test_filed_only(attributes: dict[str, object], reason: str | None) -> None:
    assert index(radiograph(None, **attributes), name="a").filed_only_reason == reason  # type: ignore[arg-type]


def test_report_without_pixels_is_filed() -> None:
    sr = to_bytes(dataset(None, SOPClassUID=SR_CLASS, Modality="SR"))
    assert index(sr, name="a").filed_only_reason == "SR is no image"
    document = to_bytes(dataset(None, SOPClassUID="1.2.840.10008.5.1.4.1.1.104.1", Modality="OT"))
    assert index(document, name="a").filed_only_reason == "Encapsulated PDF Storage is no image"


def test_image_class_without_pixels_is_no_report() -> None:
    """It is analysed, and the analysis says that there are no pixels: nobody may think that it was read."""
    assert index(to_bytes(dataset(None)), name="a").filed_only_reason is None


def test_header_of_an_image() -> None:
    data = radiograph(BodyPartExamined="chest", BurnedInAnnotation="YES", SeriesDescription="a\tb", NumberOfFrames="1")
    header = image(data, name="a").header
    assert header.modality == "CR"
    assert header.body_part == "CHEST"
    assert header.burned_in
    assert header.series_description == "a b"
    assert header.image_type == ("ORIGINAL", "PRIMARY")
    assert header.photometric == "MONOCHROME2"


def test_no_preamble_is_accepted_with_a_sop_class() -> None:
    data = radiograph()
    start = 144 + int.from_bytes(data[140:144], "little")
    for bare in (data[start:], data[128:], data[132:]):
        record = index(bare, name="a")
        assert record.patient_id == "P1"
        assert np.array_equal(image(bare, name="a").image.pixels, image(data, name="a").image.pixels)


def test_the_place_of_a_slice_is_kept_and_a_senseless_one_is_not() -> None:
    placed = radiograph(ImagePositionPatient=[-120.5, 3.25, -88.75], ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
    record = index(placed, name="a")
    assert record.position_mm == (-120.5, 3.25, -88.75)
    assert record.orientation == (1, 0, 0, 0, 1, 0)
    odd = radiograph(ImagePositionPatient=[1, 2, 9e6], ImageOrientationPatient=[1, 0, 0, 1, 0, 0])
    record = index(odd, name="a")
    assert (record.position_mm, record.orientation) == (None, None)
    assert index(radiograph(), name="a").position_mm is None
