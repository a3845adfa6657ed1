"""Tries hostile input on everything that reads what others wrote, and says what broke.

Each target runs in a process of its own, guided by coverage, until it has had its share of the cases or of
the time. An input that breaks a promise is saved, with the command that tries it again. Exit status 1 then.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from reasoning_fix.proxy.stats.tables import rows
from scripts.fuzzing.seeds import seeds
from scripts.fuzzing.targets import TARGETS

# Targets that go through files or whole transcripts take many times as long a case as the others.
_SHARES = {"provider-table": 0.1, "views": 0.15, "events": 0.4, "flow-files": 0.7, "counts": 0.5}
_CASE_SECONDS = 20
_MEGABYTES = 2048
_LONGEST = 200_000
_STATUS = re.compile(r"^#(\d+)\t.*?\bft: (\d+)", re.MULTILINE)
_DONE = re.compile(r"^Done (\d+) runs", re.MULTILINE)


class Result(msgspec.Struct):
    """What came of one target; `paths` are what was reached beyond what the first inputs reach."""

    target: str
    cases: int
    seconds: float
    paths: int
    failures: list[Path]

    def cells(self) -> list[str]:
        speed = self.cases / self.seconds if self.seconds else 0.0
        return [self.target, f"{self.cases:,}", f"{speed:,.0f}", f"{self.paths:,}", str(len(self.failures))]


def run(target: str, cases: int, seconds: float, seed: int, failures: Path) -> Result:
    """One target for so many cases (0: any number) or seconds (0: any time)."""
    # In memory if possible: some targets write a file for each case.
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=shared if shared.is_dir() else None) as folder:
        corpus = Path(folder) / "corpus"
        corpus.mkdir()
        first = seeds(target)
        for number, data in enumerate(first):
            (corpus / f"seed-{number:03}").write_bytes(data)
        command = [sys.executable, "-m", "scripts.fuzzing.one", target, f"-seed={seed}", str(corpus)]
        command += [f"-artifact_prefix={failures / target}-", f"-max_len={_LONGEST}", "-len_control=0"]
        command += [f"-timeout={_CASE_SECONDS}", f"-rss_limit_mb={_MEGABYTES}"]
        command += [f"-runs={cases}"] if cases else []
        command += [f"-max_total_time={max(1, int(seconds))}"] if seconds else []
        before = set(failures.glob(f"{target}-*"))
        log = Path(folder) / "log"
        began = time.monotonic()
        with log.open("wb") as file:
            environment = os.environ | {"TMPDIR": folder}
            status = subprocess.run(command, stdout=file, stderr=file, env=environment).returncode
        took = time.monotonic() - began
        said = log.read_text(errors="replace")
    reached = [(int(number), int(paths)) for number, paths in _STATUS.findall(said)]
    done = _DONE.search(said)
    count = int(done[1]) if done else max((number for number, _ in reached), default=0)
    paths = [paths for number, paths in reached if number > len(first)] or [0]
    failed = sorted(set(failures.glob(f"{target}-*")) - before)
    if status and not failed:
        failed = [failures / f"{target}-log"]
        failed[0].write_text(said)
    if failed:
        say(said[said.find("=== Uncaught Python exception") :][:4000])
    return Result(target, count, took, max(0, paths[-1] - paths[0]), failed)


def again(path: Path, targets: list[str]) -> int:
    """Try one input again on these targets."""
    for target in targets:
        TARGETS[target](path.read_bytes())
        say(f"{target}: every promise holds")
    return 0


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=0, help="so many cases in total (default: 100,000)")
    parser.add_argument("--minutes", type=float, default=0.0, help="up to this long in total")
    parser.add_argument(
        "--target", action="append", choices=[*TARGETS], metavar="NAME", help=", ".join(TARGETS)
    )
    parser.add_argument("--seed", type=int, default=1, help="the same seed tries the same inputs")
    parser.add_argument("--input", type=Path, metavar="FILE", help="try this one input again")
    parser.add_argument("--failures", type=Path, default=Path("build/fuzz"), help="where failing inputs go")
    given = parser.parse_args()
    targets: list[str] = given.target or [*TARGETS]
    if given.input is not None:
        return again(given.input, targets)
    given.failures.mkdir(parents=True, exist_ok=True)
    cases = given.cases or (0 if given.minutes else 100_000)
    whole = sum(_SHARES.get(target, 1.0) for target in targets)
    results = []
    began = time.monotonic()
    for number, target in enumerate(targets):
        share = _SHARES.get(target, 1.0) / whole
        # What one target leaves of its time is for those behind it.
        left = max(1.0, given.minutes * 60 - (time.monotonic() - began))
        seconds = left / (len(targets) - number) if given.minutes else 0.0
        say(f"{target} ...")
        results.append(run(target, round(cases * share), seconds, given.seed, given.failures))
    head = ["target", "cases", "cases/s", "new paths", "failures"]
    print("\n".join(rows(head, [one.cells() for one in results])))
    failed = [(one.target, path) for one in results for path in one.failures]
    total = sum(one.cases for one in results)
    print(f"\n{total:,} cases, {len(failed)} failure{'s'[: len(failed) != 1]}.")
    for target, path in failed:
        print(f"again: ./scripts/fuzz --target {target} --input {path}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
