"""De-identified copies: nothing planted is found in any byte, and what is left still is the image."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom.datadict import DicomDictionary, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from typer.testing import CliRunner

from overread.cli import app
from overread.dicom.create import Syntax, encode
from overread.dicom.deidentify import allowed
from overread.dicom.deidentify.burned_in import Box, Word, may_stay
from overread.dicom.deidentify.file import CleanFile, deidentify_file
from overread.dicom.deidentify.options import Dates, Options
from overread.dicom.deidentify.pseudonyms import Pseudonyms
from overread.dicom.deidentify.table import Action, basic_profile
from overread.dicom.quiet import quiet
from overread.domain.errors import BurnedInText, InvalidRequest, NotDeidentified

CT, SC, US = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.6.1"
KEY = b"k" * 32
PLANTED = "ZZPLANT"


def image(**changes: Any) -> Dataset:
    """A CT slice of 32 x 48 pixels, its attributes changed or (None) missing."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID, ds.SOPInstanceUID = CT, "1.2.3.1"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = "1.2.3.2", "1.2.3.3", "1.2.3.4"
    ds.PatientID, ds.PatientName, ds.PatientBirthDate, ds.PatientSex = "4711-0815", "Doe^Jane", "19610312", "F"
    ds.StudyDate, ds.StudyTime, ds.ContentDate, ds.Modality = "20240105", "101500", "20240106", "CT"
    ds.Manufacturer, ds.ConvolutionKernel, ds.KVP, ds.ImageType = "ACME", "B30f", "120", ["ORIGINAL", "PRIMARY"]
    ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = 32, 48, 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.PixelData = pixels().tobytes()
    for keyword, value in changes.items():
        if value is None:
            delattr(ds, keyword)
        else:
            setattr(ds, keyword, value)
    return ds


def pixels() -> NDArray[np.uint16]:
    return (np.arange(32 * 48, dtype=np.uint16) * 2 % 4096).reshape(32, 48)


def clean(
    ds: Dataset, *, finder: Any = None, key: bytes = KEY, syntax: Syntax = Syntax.EXPLICIT_LE, **kw: Any
) -> CleanFile:
    with quiet:
        data = encode(ds, syntax)
    return deidentify_file(data, name="File 1", options=Options(**kw), pseudonyms=Pseudonyms(key), finder=finder)


def read(file: CleanFile) -> Dataset:
    return pydicom.dcmread(io.BytesIO(file.data))


# --- the header ---------------------------------------------------------------------------------------------


def planted_everywhere() -> Dataset:
    """Identity in every text VR, in attributes on the table and on none, nested, private, retired, in binary data."""
    ds = image(PatientName=f"{PLANTED}^Jane", PatientID=f"{PLANTED}77", StudyDescription=f"for {PLANTED}")
    ds.ReferringPhysicianName, ds.AccessionNumber, ds.InstitutionName = (
        f"Dr {PLANTED}",
        f"{PLANTED}1",
        f"{PLANTED} Hosp",
    )
    ds.PatientComments, ds.PatientAddress = f"{PLANTED} lives here", f"{PLANTED} street"
    ds.Manufacturer, ds.SoftwareVersions = f"ACME {PLANTED}", PLANTED.lower()
    ds.StationAETitle, ds.RetrieveURL = PLANTED, f"http://{PLANTED}/x"
    ds.BodyPartExamined = "CHEST"
    for keyword in ("UnformattedTextValue", "TextValue", "LabelText", "FrameComments", "FrameLabel", "RTPlanLabel"):
        tag = tag_for_keyword(keyword)
        if tag:
            ds.add_new(tag, DicomDictionary[tag][0], f"{PLANTED}")
    nested = Dataset()
    nested.PersonName, nested.TextValue, nested.CodeMeaning = f"{PLANTED}^X", f"seen by {PLANTED}", PLANTED
    nested.CodeValue, nested.CodingSchemeDesignator = PLANTED, "99HOSP"
    nested.add_new(0x00091001, "LO", PLANTED)
    inner = Dataset()
    inner.AlgorithmName, inner.PersonName = f"tool of {PLANTED}", PLANTED
    nested.ContentSequence = Items([inner])
    ds.ContentSequence = Items([nested])
    ds.SourceImageSequence = Items([nested])
    ds.ConceptNameCodeSequence = Items([nested])
    ds.add_new(0x00090010, "LO", PLANTED)
    ds.add_new(0x00091001, "UN", PLANTED.encode() + b" ")
    ds.add_new(0x60003000, "OW", PLANTED.encode() + b" ")
    ds.add_new(0x60000022, "LO", PLANTED)
    ds.add_new(0x50000030, "SH", PLANTED)
    ds.add_new(0x00282000, "OB", PLANTED.encode() + b" ")
    ds.add_new(0xFFFCFFFC, "OB", PLANTED.encode() + b" ")
    ds.PixelData = ds.PixelData + PLANTED.encode() + b" "
    return ds


@pytest.mark.parametrize("syntax", [Syntax.EXPLICIT_LE, Syntax.IMPLICIT_LE])
@pytest.mark.parametrize("dates", list(Dates))
def test_nothing_planted_is_in_any_byte(syntax: Syntax, dates: Dates) -> None:
    ds = planted_everywhere()
    if syntax is Syntax.IMPLICIT_LE:
        ds.PixelData = ds.PixelData[: 32 * 48 * 2]
    else:
        ds.Rows = 32
    file = clean(
        ds, syntax=syntax, dates=dates, keep_characteristics=True, clean_descriptions=True, keep_safe_private=True
    )
    lower = file.data.lower()
    for form in (PLANTED.lower().encode(), PLANTED.lower().encode("utf-16-le"), b"4711-0815", b"19610312", b"1.2.3."):
        assert form not in lower
    assert np.array_equal(read(file).pixel_array, pixels())


_TEXT_TAGS = sorted(
    tag
    for tag, entry in DicomDictionary.items()
    if entry[0] in ("PN", "LO", "SH", "ST", "LT", "UT", "UC", "UI", "AE", "UR")
    and tag not in allowed.TEXT
    and 0x0008 <= tag >> 16 < 0x7FE0
    and tag not in (0x00080016, 0x00080018, 0x0020000D, 0x0020000E, 0x00080005, 0x00280008)
)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.sampled_from(_TEXT_TAGS), min_size=1, max_size=12, unique=True),
    st.integers(0, 3),
    st.sampled_from(list(Dates)),
)
def test_no_random_text_leaks(tags: list[int], depth: int, dates: Dates) -> None:
    """In any attribute that is not on our own list, at any depth, whatever its value representation."""
    item = Dataset()
    with quiet:
        for number, tag in enumerate(tags):
            vr = DicomDictionary[tag][0]
            item.add(DataElement(tag, vr, f"1.2.826.777{number}.5" if vr == "UI" else f"SECRET{number}"))
        for _level in range(depth):
            outer = Dataset()
            outer.add_new(0x0040A730, "SQ", Items([item]))
            item = outer
        ds = image()
        ds.update(item)
    data = clean(ds, dates=dates).data
    assert b"SECRET" not in data
    assert b"1.2.826.777" not in data


def test_a_word_of_the_identity_is_taken_out_of_what_may_stay() -> None:
    made = read(clean(image(Manufacturer="Built for Jane", SoftwareVersions="v4711-0815", ConvolutionKernel="B30f")))
    assert made.Manufacturer == "REMOVED"
    assert made.SoftwareVersions == "REMOVED"
    assert made.ConvolutionKernel == "B30f"


def test_what_is_needed_to_read_the_image_stays() -> None:
    made = read(clean(image()))
    assert (made.KVP, made.Modality, made.Manufacturer, made.ConvolutionKernel) == (120, "CT", "ACME", "B30f")
    assert made.PatientIdentityRemoved == "YES"
    assert made.PatientSex in ("", None)
    codes = [item.CodeValue for item in made.DeidentificationMethodCodeSequence]
    assert codes == ["113100", "113103", "113104", "113107"]
    assert all(len(item.CodeMeaning) <= 64 for item in made.DeidentificationMethodCodeSequence)
    assert made.file_meta.MediaStorageSOPInstanceUID == made.SOPInstanceUID != "1.2.3.1"


def test_uids_refer_to_each_other_as_before() -> None:
    report = image(SOPInstanceUID="1.2.3.9")
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = CT, "1.2.3.1"
    report.ReferencedSeriesSequence = Items([reference])
    first, second = read(clean(image())), read(clean(report))
    [referred] = second.ReferencedSeriesSequence
    assert referred.ReferencedSOPInstanceUID == first.SOPInstanceUID
    assert referred.ReferencedSOPClassUID == CT
    assert second.StudyInstanceUID == first.StudyInstanceUID
    assert first.SOPInstanceUID.startswith("2.25.")
    assert read(clean(image(), key=b"o" * 32)).SOPInstanceUID != first.SOPInstanceUID, "another export, no link"


def test_dates_move_together_and_intervals_stay() -> None:
    made = read(clean(image()))
    later = read(clean(image(StudyDate="20240115", SOPInstanceUID="1.2.3.77")))
    days = [date.fromisoformat(x) for x in (made.StudyDate, made.ContentDate, later.StudyDate)]
    assert [(d - days[0]).days for d in days] == [0, 1, 10]
    assert 30 <= (date(2024, 1, 5) - days[0]).days < 3650
    other = read(clean(image(PatientID="someone else")))
    assert other.StudyDate != made.StudyDate
    assert made.LongitudinalTemporalInformationModified == "MODIFIED"


def test_dates_can_be_removed_or_kept() -> None:
    removed, kept = read(clean(image(), dates=Dates.REMOVE)), read(clean(image(), dates=Dates.KEEP))
    assert (removed.StudyDate, removed.ContentDate) == ("", "19000101"), "type 2 is emptied, Z/D gets a date"
    assert (kept.StudyDate, kept.ContentDate) == ("20240105", "20240106")
    assert not kept.PatientBirthDate


def test_characteristics_stay_on_request_and_great_age_does_not_name_anybody() -> None:
    made = read(clean(image(PatientAge="097Y", PatientWeight="70"), keep_characteristics=True))
    assert (made.PatientSex, made.PatientAge, made.PatientWeight) == ("F", "090Y", 70)
    assert "PatientAge" not in read(clean(image(PatientAge="097Y")))


def test_descriptions_keep_words_of_radiology_only() -> None:
    text = "CT CHEST with contrast for Mrs Doe, ward 7B"
    assert (
        read(clean(image(StudyDescription=text), clean_descriptions=True)).StudyDescription == "CT CHEST with contrast"
    )
    assert "StudyDescription" not in read(clean(image(StudyDescription=text)))


def test_codes_of_standard_schemes_stay_and_a_hospitals_own_go() -> None:
    ds = image()
    for scheme, value in (("SCT", "51185008"), ("99HOSP", "DOE"), ("SCT", "Jane Doe")):
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, "Chest"
        ds.AnatomicRegionSequence = Items([*ds.get("AnatomicRegionSequence", []), item])
    found = [(i.CodeValue, i.CodeMeaning) for i in read(clean(ds)).AnatomicRegionSequence]
    assert found == [("51185008", "Chest"), ("REMOVED", "REMOVED"), ("REMOVED", "REMOVED")]


def test_safe_private_numbers_stay_on_request() -> None:
    ds = image()
    ds.add_new(0x70530010, "LO", "Philips PET Private Group")
    ds.add_new(0x70531000, "DS", "1.5")
    ds.add_new(0x70531008, "LO", "Doe")
    made = read(clean(ds, keep_safe_private=True))
    assert made[0x70531000].value == 1.5
    assert 0x70531008 not in made
    assert 0x70530010 not in read(clean(ds))


def test_the_table_is_the_standards() -> None:
    table = basic_profile()
    assert len(table) > 640
    assert table[0x00100010] is Action.ZERO
    assert table[0x00080018] is Action.UID
    assert table[0x00101040] is Action.REMOVE


# --- the pixels ---------------------------------------------------------------------------------------------


def test_text_in_unused_bits_goes() -> None:
    hidden = pixels() | (np.uint16(0xA000) * (np.arange(48) % 2).astype(np.uint16))
    ds = image(PixelData=hidden.tobytes())
    made = read(clean(ds))
    assert np.array_equal(np.frombuffer(made.PixelData, np.uint16).reshape(32, 48), pixels())


@pytest.mark.parametrize("syntax", [Syntax.RLE, Syntax.JPEG_2000, Syntax.JPEG_LOSSLESS])
def test_compressed_pixels_are_written_anew_without_loss(syntax: Syntax) -> None:
    made = read(clean(image(), syntax=syntax))
    assert made.file_meta.TransferSyntaxUID == Syntax.EXPLICIT_LE.value
    assert np.array_equal(made.pixel_array, pixels())


class Reader:
    """Reads a white bar at the top left as a name, until it is black, and always the letter at the bottom."""

    def __init__(self, *, stubborn: bool = False) -> None:
        self.stubborn = stubborn

    def find(self, picture: NDArray[Any]) -> Sequence[Word]:
        marker = Word(box=Box(top=28, bottom=31, left=40, right=44), text="R", confidence=0.99)
        bar = Word(box=Box(top=4, bottom=8, left=5, right=20), text="DOE JANE", confidence=0.5)
        return [marker, bar] if self.stubborn or picture[4:8, 5:20].any() else [marker]


def test_words_are_blackened_in_all_frames_and_markers_stay() -> None:
    frames = np.stack([pixels(), pixels() + np.uint16(1)])
    frames[0, 4:8, 5:20] = 4095
    ds = image(SOPClassUID=US, Modality="US", NumberOfFrames="2", PixelData=frames.tobytes())
    file = clean(ds, finder=Reader())
    made = read(file)
    assert file.boxes == (Box(top=1, bottom=11, left=2, right=23),)
    assert not (made.pixel_array[:, 1:11, 2:23] > 1).any()
    assert np.array_equal(made.pixel_array[1, 12:], frames[1, 12:])
    assert made.BurnedInAnnotation == "NO"
    assert "113101" in [item.CodeValue for item in made.DeidentificationMethodCodeSequence]


def test_what_stays_readable_is_refused() -> None:
    with pytest.raises(BurnedInText, match="still shows text"):
        clean(image(SOPClassUID=SC, Modality="OT"), finder=Reader(stubborn=True))


@pytest.mark.parametrize(
    "changes",
    [
        {"Modality": "US", "SOPClassUID": US},
        {"SOPClassUID": SC},
        {"Modality": "DX"},
        {"BurnedInAnnotation": "YES"},
        {"Modality": "ES"},
        {"Modality": ""},
        {"ImageType": ["ORIGINAL", "SECONDARY", "SCREEN SAVE"]},
    ],
)
def test_without_a_reader_a_picture_that_may_carry_words_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(BurnedInText, match="may have words in the picture"):
        clean(image(**changes))


def test_a_radiograph_that_says_that_nothing_is_burned_in_passes_without_a_reader() -> None:
    assert not clean(image(Modality="DX", BurnedInAnnotation="NO")).looked


def test_only_sure_markers_and_scales_stay() -> None:
    def word(text: str, confidence: float = 0.95) -> Word:
        return Word(box=Box(top=0, bottom=1, left=0, right=1), text=text, confidence=confidence)

    assert all(may_stay(word(text)) for text in ("R", "L", "PA", "10 cm", "7.5", "12 MHz"))
    assert not any(may_stay(word(text)) for text in ("DOE", "12.03.1961", "4711", "R DOE", "19610312", "10:15", ""))
    assert not may_stay(word("R", 0.5))


# --- what is refused ----------------------------------------------------------------------------------------


def test_documents_and_private_objects_are_refused() -> None:
    with pytest.raises(NotDeidentified, match="document"):
        clean(image(SOPClassUID="1.2.840.10008.5.1.4.1.1.104.1"))
    with pytest.raises(NotDeidentified, match="private object"):
        clean(image(SOPClassUID="1.2.840.113619.4.30"))


def test_a_key_is_long_enough() -> None:
    with pytest.raises(InvalidRequest):
        Pseudonyms(b"short")


# --- the command --------------------------------------------------------------------------------------------


def test_the_command_writes_copies_and_a_report_without_values(tmp_path: Path) -> None:
    source, to, key = tmp_path / "DOE_JANE", tmp_path / "out", tmp_path / "project.key"
    source.mkdir()
    for number in (1, 2):
        (source / f"{PLANTED}{number}.dcm").write_bytes(encode(image(SOPInstanceUID=f"1.2.3.1.{number}")))
    (source / f"{PLANTED}3.dcm").write_bytes(
        encode(image(Modality="SEG", SOPInstanceUID="1.2.3.1.3", SOPClassUID="1.2.840.10008.5.1.4.1.1.104.1"))
    )
    (source / "readme.txt").write_text("of the viewer")
    done = CliRunner().invoke(app, ["deidentify", str(source), "--to", str(to), "--key-file", str(key)])
    assert done.exit_code == 1, done.output
    report = json.loads((to / "deidentification.json").read_text())
    assert (report["totals"]["files"], report["totals"]["refused"]) == (2, 1)
    assert report["refusedFiles"][0]["code"] == "NOT_DEIDENTIFIED"
    assert report["totals"]["patients"] == 1
    assert report["attributes"]["emptied"]["(0010,0010) PatientName"] >= 2
    everything = b"".join(str(p).encode() + p.read_bytes() for p in to.rglob("*") if p.is_file())
    relative = everything.replace(str(tmp_path).encode(), b"")
    for secret in (PLANTED.encode(), b"Doe", b"DOE", b"4711-0815", b"1.2.3.1"):
        assert secret not in relative
    first = {p.name for p in to.rglob("*.dcm")}
    again = CliRunner().invoke(app, ["deidentify", str(source), "--to", str(tmp_path / "two"), "--key-file", str(key)])
    assert {p.name for p in (tmp_path / "two").rglob("*.dcm")} == first, again.output
    assert key.stat().st_mode & 0o077 == 0


def test_an_export_joins_no_other(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "1.dcm").write_bytes(encode(image()))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").write_text("x")
    done = CliRunner().invoke(app, ["deidentify", str(tmp_path / "in"), "--to", str(tmp_path / "out")])
    assert isinstance(done.exception, InvalidRequest)
