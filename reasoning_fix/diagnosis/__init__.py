"""What `doctor` looks at: one file per subject, each check a function from facts to findings.

The facts are arguments, so that a test breaks one at a time; the command gathers them.
"""

from typing import Literal

import msgspec

type Verdict = Literal["ok", "fail", "skip"]


class Finding(msgspec.Struct, frozen=True):
    """One line: what was looked at, how it is, and for a failure what to do. `skip`: nothing to look at."""

    check: str
    verdict: Verdict
    said: str
    fix: str = ""


def ok(check: str, said: str) -> Finding:
    return Finding(check, "ok", said)


def skip(check: str, said: str) -> Finding:
    return Finding(check, "skip", said)


def fail(check: str, said: str, fix: str) -> Finding:
    return Finding(check, "fail", said, fix)
