"""Which branches of the package no test took, from `coverage json`; exit 1 if they are too many."""

import json
import sys
from pathlib import Path

EXPECTED = 95.0


def _percent(taken: int, branches: int) -> float:
    return 100 * taken / branches if branches else 100.0


def main(report: Path) -> int:
    measured = json.loads(report.read_text())
    below = []
    for room, found in measured["files"].items():
        summary = found["summary"]
        percent = _percent(summary["covered_branches"], summary["num_branches"])
        if percent < EXPECTED:
            below.append((percent, room, found["missing_branches"]))
    for percent, room, missing in sorted(below, reverse=True):
        # coverage.py has a negative number for the end of the function.
        steps = ", ".join(f"{line} to {then if then > 0 else 'the end'}" for line, then in missing)
        print(f"{percent:5.1f} %  {room}: {steps}")
    totals = measured["totals"]
    total = _percent(totals["covered_branches"], totals["num_branches"])
    print(f"{total:5.1f} %  of {totals['num_branches']} branches in all; expected at least {EXPECTED:.0f} %")
    return total < EXPECTED


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
