"""The last seal of each tenant in a file of the state folder: who cuts the chain in the database does not reach it."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

from overread.domain.errors import StorageFull
from overread.domain.study import TenantId
from overread.services.audit_chain import Anchor
from overread.store.durable import write_durably


class FileAnchors:
    """Implements `services.audit_ports.Anchors`: `TENANT.json` with `last` and `lost`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def last(self, tenant: TenantId) -> Anchor | None:
        """None if nothing was sealed from this state folder yet."""
        kept = self._read(tenant).get("last")
        return Anchor(**kept) if kept else None

    def lost(self, tenant: TenantId) -> tuple[Anchor, ...]:
        """Oldest first."""
        return tuple(Anchor(**kept) for kept in self._read(tenant).get("lost", ()))

    def put(self, tenant: TenantId, anchor: Anchor) -> None:
        """Raises `StorageFull`."""
        with self._locked():
            kept = self._read(tenant)
            last = kept.get("last")
            if not last or last["number"] < anchor.number:
                self._write(tenant, {**kept, "last": asdict(anchor)})

    def lose(self, tenant: TenantId, anchor: Anchor) -> None:
        """Raises `StorageFull`."""
        with self._locked():
            kept = self._read(tenant)
            if kept.get("last") == asdict(anchor):
                self._write(tenant, {"last": None, "lost": [*kept.get("lost", ()), asdict(anchor)]})

    def _read(self, tenant: TenantId) -> dict[str, Any]:
        try:
            kept: dict[str, Any] = orjson.loads((self._folder / f"{tenant.slug}.json").read_bytes())
        except FileNotFoundError:
            return {}
        return kept

    def _write(self, tenant: TenantId, kept: dict[str, Any]) -> None:
        try:
            write_durably(self._folder / f"{tenant.slug}.json", orjson.dumps(kept, option=orjson.OPT_INDENT_2))
        except OSError as error:
            raise StorageFull(f"The audit anchor cannot be written: {error.strerror or error}.") from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (self._folder / "lock").open("a") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
