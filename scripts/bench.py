"""Measures the performance budget and says which of it is met.

Every figure is a ratio of two things measured in turns within this run: absolute times say more about the
machine than about the program. Exit status 1 when a budget is missed by more than the rounds spread.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import msgspec

from scripts.benchmark.figures import COST_HEAD, FIGURE_HEAD, Cost, Figure, table
from scripts.benchmark.rows import COSTS, IN_PROCESS, THROUGH_MITMDUMP
from scripts.benchmark.setting import Setting

NAMES = [*IN_PROCESS, *COSTS, *THROUGH_MITMDUMP]


def machine() -> str:
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    packages = ", ".join(f"{name} {version(name)}" for name in ("mitmproxy", "msgspec"))
    return f"{os.cpu_count()} x {model}, {platform.system()}, Python {platform.python_version()}, {packages}"


def warn_when_busy() -> None:
    busy = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if busy > (os.cpu_count() or 1) / 2:
        say(f"The machine is busy (load {busy:.1f}): trust the rows of CPU more than those of time.")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def measure(names: list[str], rounds: int) -> tuple[list[Figure], list[Cost]]:
    figures: list[Figure] = []
    found: list[Cost] = []
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        home = Path(folder)
        for name in names:
            if name in IN_PROCESS:
                say(f"{name} ...")
                figures += IN_PROCESS[name](home, rounds)
            elif name in COSTS:
                say(f"{name} ...")
                found += COSTS[name](home, rounds)
        through = [name for name in names if name in THROUGH_MITMDUMP]
        if through:
            say("starting mitmdump with the addon, with a pass-through callable, and bare ...")
            with Setting(home) as setting:
                for name in through:
                    say(f"{name} ...")
                    figures += THROUGH_MITMDUMP[name](setting, rounds)
    return figures, found


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--only", action="append", choices=NAMES, metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--quick", action="store_true", help="fewer rounds: a look, not a proof")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    given = parser.parse_args()
    warn_when_busy()
    began = time.monotonic()
    figures, found = measure(given.only or NAMES, 4 if given.quick else 12)
    missed = [figure.what for figure in figures if figure.verdict == "MISSED"]
    if given.json:
        whole = {
            "machine": machine(),
            "figures": [
                msgspec.to_builtins(f) | {"median": f.median, "spread": f.spread, "verdict": f.verdict}
                for f in figures
                if f.values
            ],
            "costs": msgspec.to_builtins(found),
            "missed": missed,
        }
        print(json.dumps(whole, indent=2))
    else:
        print(machine())
        for head, rows in ((FIGURE_HEAD, figures), (COST_HEAD, found)):
            if rows:
                print("\n" + table(head, [row.cells() for row in rows]))
        print(
            f"\n{time.monotonic() - began:.0f} s. "
            + ("MISSED: " + "; ".join(missed) if missed else "All met.")
        )
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
