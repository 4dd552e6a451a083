"""Sentences that must read the same wherever they stand: pages, reports, exported objects."""

DISCLAIMER = (
    "AI assistance is not diagnostic. Final interpretation by a qualified radiologist required. "
    "Not a substitute for clinical judgment."
)

NO_FINDING = "No finding among those assessed."
"""Never "normal": the product only knows what its installed models look for."""
