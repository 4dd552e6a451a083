"""Which packages are installed: those that ship, and those a site added. Implements `pipeline.ports.ModelShelf`."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from overread.domain.errors import InvalidPackage
from overread.inference.card import Card
from overread.inference.package import CARD_FILE, Package, open_package
from overread.inference.runtime_onnx import MEMORY_BYTES, TIMEOUT_S, OnnxModel


@dataclass(frozen=True, kw_only=True)
class Refused:
    """A package that is there and cannot be used."""

    path: Path
    reason: str


def shipped_folder() -> Path:
    """Where the packages lie that come with the product: inside the wheel, or in the repository."""
    here = Path(__file__).resolve()
    inside = here.parents[1] / "models"
    return inside if inside.is_dir() else here.parents[3] / "models"


class Registry:
    """Packages found in `folders` (each NAME/VERSION/ or a .zip). Weights are read only when a model is run.

    Of several packages for one task the newest version counts, and of the same version the one in the later folder, so
    that a site's own package takes the place of the shipped one.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        *,
        threads: int | None = None,
        memory_bytes: int = MEMORY_BYTES,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._folders = tuple(folders)
        self._threads = threads
        self._memory_bytes = memory_bytes
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._packages: dict[str, Package] = {}
        self._models: dict[str, OnnxModel] = {}
        self._pinned: dict[tuple[str, str], OnnxModel] = {}
        self._refused: tuple[Refused, ...] = ()
        self._all: tuple[Package, ...] = ()
        self.reload()

    @property
    def packages(self) -> tuple[Package, ...]:
        """All usable packages, also older versions."""
        return self._all

    @property
    def refused(self) -> tuple[Refused, ...]:
        """Packages that cannot be used, with the reason."""
        return self._refused

    def cards(self) -> tuple[Card, ...]:
        """The cards of the packages that answer, one a task."""
        return tuple(package.card for package in self._packages.values())

    def find(self, task: str) -> OnnxModel | None:
        """The model for a task ("chest_xray", "radiograph_view"); None if no package does it."""
        with self._lock:
            if task not in self._packages:
                return None
            if task not in self._models:
                self._models[task] = self._model(self._packages[task])
            return self._models[task]

    def pinned(self, task: str, version: str) -> OnnxModel | None:
        """That version of the model for a task, of the later folder if two have it; None if it is not installed."""
        newest = self.find(task)
        if newest is not None and newest.identity.version == version:
            return newest
        with self._lock:
            found = [p for p in self._all if (p.card.task, p.card.identity.version) == (task, version)]
            if not found:
                return None
            kept = self._pinned.get((task, version))
            if kept is None or kept.identity != found[-1].card.identity:
                kept = self._pinned[(task, version)] = self._model(found[-1])
            return kept

    def _model(self, package: Package) -> OnnxModel:
        return OnnxModel(package, threads=self._threads, memory_bytes=self._memory_bytes, timeout_s=self._timeout_s)

    def reload(self) -> None:
        """Look again what is installed. Models whose package is still the chosen one go on running."""
        found, refused = [], []
        for path in (p for folder in self._folders for p in _candidates(folder)):
            try:
                found.append(open_package(path))
            except InvalidPackage as e:
                refused.append(Refused(path=path, reason=str(e)))
        chosen: dict[str, Package] = {}
        for package in found:
            best = chosen.get(package.card.task)
            if best is None or package.card.sort_key >= best.card.sort_key:
                chosen[package.card.task] = package
        with self._lock:
            kept = {t: m for t, m in self._models.items() if t in chosen and chosen[t].card.identity == m.identity}
            gone = [m for t, m in self._models.items() if t not in kept]
            self._packages, self._models = chosen, kept
            self._all, self._refused = tuple(found), tuple(refused)
        for model in gone:
            model.close()

    def close(self) -> None:
        """End all processes."""
        with self._lock:
            models = [*self._models.values(), *self._pinned.values()]
        for model in models:
            model.close()


def _candidates(folder: Path) -> list[Path]:
    """NAME/VERSION folders with a card or a model, and ZIP files, in a stable order."""
    if not folder.is_dir():
        return []
    inside = {card.parent for card in folder.glob(f"*/*/{CARD_FILE}")} | {
        m.parent for m in folder.glob("*/*/model.onnx")
    }
    return sorted(inside) + sorted(folder.glob("*.zip"))
