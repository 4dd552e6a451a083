"""Proof of accuracy: what each analyser finds where the truth is known. `python -m benchmarks.accuracy`."""
