"""`overread validate`: what a model package is worth on a folder of labelled images."""

from __future__ import annotations

from overread.cli_validate.command import EPILOG, validate

__all__ = ["EPILOG", "validate"]
