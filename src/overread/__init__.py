"""Overread reads every imaging study before the radiologist does."""

from importlib.metadata import version

__version__ = version("overread")
