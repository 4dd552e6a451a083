"""`overread analyze`: the pipeline on files, without server or database."""

from __future__ import annotations

from overread.cli_analyze.command import EPILOG, analyze

__all__ = ["EPILOG", "analyze"]
