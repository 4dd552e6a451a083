"""A model package: a folder or ZIP file with `model.onnx` and `card.toml`.

Everything in it is untrusted: the card must be whole, the model must be the one that the card's sha256 names, with no
data outside its file and no custom operators. It runs only in a subprocess (`overread.inference.host`).
"""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path

from overread.domain.errors import InvalidPackage
from overread.inference import card as cards
from overread.inference import onnx_check

CARD_FILE, MODEL_FILE = "card.toml", "model.onnx"
#: Larger files are refused unread: a card is a page of text, and ONNX files end at 2 GiB.
MOST_CARD_BYTES = 1 << 20
MOST_MODEL_BYTES = 2 << 30


@dataclass(frozen=True, kw_only=True)
class Package:
    """A package whose card was read; the model file was not."""

    #: The folder or ZIP file.
    path: Path
    card: cards.Card

    def read_model(self) -> bytes:
        """The model file, checked. Raises `InvalidPackage`."""
        model = _read(self.path, MODEL_FILE, MOST_MODEL_BYTES)
        digest = hashlib.sha256(model).hexdigest()
        if digest != self.card.identity.sha256:
            raise InvalidPackage(
                f"The model file of {self.card.identity} is not the one that its card describes: "
                f"its sha256 is {digest}, the card says {self.card.identity.sha256}."
            )
        onnx_check.check(model)
        return model


def open_package(path: Path) -> Package:
    """The package at `path`, a folder or ZIP file. Raises `InvalidPackage`; reads no weights."""
    text = _read(path, CARD_FILE, MOST_CARD_BYTES)
    try:
        return Package(path=path, card=cards.parse(text.decode("utf-8")))
    except UnicodeDecodeError as e:
        raise InvalidPackage(f"The card in {path} is not UTF-8 text.") from e


def install(source: Path, into: Path, *, sha256: str | None = None) -> Package:
    """Check a package and copy it to `into`/NAME/VERSION; only its two files are taken.

    `sha256` is that of the ZIP file, or of model.onnx if `source` is a folder. Raises `InvalidPackage`, also if this
    version is there already with another model.
    """
    package = open_package(source)
    model = package.read_model()
    if sha256 is not None:
        found = _file_sha256(source) if source.is_file() else package.card.identity.sha256
        if found != sha256.lower():
            raise InvalidPackage(f"The sha256 of {source.name} is {found}, not {sha256.lower()}.")
    identity = package.card.identity
    folder = into / identity.name / identity.version
    if (folder / CARD_FILE).exists() and open_package(folder).card.identity != identity:
        raise InvalidPackage(
            f"{identity} is installed already, with another model.", remedy="Give the new model a new version."
        )
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / MODEL_FILE, model)
    _write(folder / CARD_FILE, _read(source, CARD_FILE, MOST_CARD_BYTES))
    return open_package(folder)


def _read(path: Path, name: str, most: int) -> bytes:
    """One file of the package, no larger than `most` bytes."""
    try:
        if path.is_dir():
            file = path / name
            if file.stat().st_size > most:
                raise InvalidPackage(f"{name} in {path} is larger than {most} bytes.")
            return file.read_bytes()
        with zipfile.ZipFile(path) as archive:
            return _read_zipped(archive, name, most)
    except FileNotFoundError as e:
        raise InvalidPackage(f"The package {path} has no {name}.") from e
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as e:
        raise InvalidPackage(f"The package {path} cannot be read: {e}.") from e


def _read_zipped(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    """`name` at the top of the archive or in its one folder; unpacks at most `most` bytes, whatever is declared."""
    found = [i for i in archive.infolist() if i.filename == name or i.filename.endswith(f"/{name}")]
    if not found:
        raise InvalidPackage(f"The package {archive.filename} has no {name}.")
    if len(found) > 1:
        raise InvalidPackage(f"The package {archive.filename} has several {name}.")
    with archive.open(found[0]) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise InvalidPackage(f"{name} in {archive.filename} is larger than {most} bytes.")
    return data


def _write(path: Path, data: bytes) -> None:
    new = path.with_name(path.name + ".new")
    new.write_bytes(data)
    new.replace(path)


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
