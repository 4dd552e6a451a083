"""`overread analyze`: the pipeline on files, without server or database."""

from __future__ import annotations

from overread.cli_analyze.command import analyze

__all__ = ["analyze"]
