"""`make bench`: speed as ratios, taken side by side in one run. `--report FILE` also writes it down."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from benchmarks import latency


def main() -> int:
    """Exit status 0 whatever the figures are: they are for people to judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--report", type=Path)
    options = parser.parse_args()
    lines = ["# Speed", "", "From one run of `make bench`; machines are noisy, so the ratios are the claims.", ""]
    lines += ["## Analysis", "", *latency.table(latency.measure()), ""]
    print("\n".join(lines), flush=True)
    received = subprocess.run(
        [sys.executable, "-m", "benchmarks.receiver"], stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    print(received)
    if options.report:
        options.report.write_text("\n".join([*lines, "## Receiver", "", "```text", received.strip(), "```", ""]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
