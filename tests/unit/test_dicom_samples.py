"""The demo's samples: what pydicom ships, and what it would fetch."""

from __future__ import annotations

import pytest

from overread.dicom import samples
from overread.dicom.read import index
from overread.domain.errors import SetupError


def test_what_ships_is_there_and_can_be_indexed() -> None:
    modalities = {index(path.read_bytes(), name=path.name).modality for path in samples.shipped()}
    assert modalities == {"CT", "MR", "US"}


def test_without_internet_it_is_one_clear_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(name: str, *, download: bool) -> None:
        raise RuntimeError("An error occurred downloading")

    monkeypatch.setattr(samples, "get_testdata_file", offline)
    with pytest.raises(SetupError, match="without --download"):
        samples.download()


def test_pydicom_knows_the_sha256_of_what_is_fetched() -> None:
    from pydicom.data.download import get_cached_filehash

    for name in samples.PUBLIC:
        assert len(get_cached_filehash(name)) == 64
