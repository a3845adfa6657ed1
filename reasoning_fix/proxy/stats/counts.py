"""What is counted, and for whom: the names in the file and in `stats --json`.

A count belongs to a line: a day, provider, model and client. Names of models and clients come from outside,
so they are made short and plain here.
"""

import re
import time
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple


class Count(StrEnum):
    """What is counted, in the order of `stats --json`."""

    # Requests that were read, turns recorded from answers, and from what clients themselves sent back.
    REQUESTS = "requests"
    RECORDED = "recorded"
    LEARNED = "learned_turns"
    # Turns given back their reasoning (by what evidence), and those filled by rule.
    RESTORED = "restored"
    FILLED = "filled"
    # Requests that the provider's rule would have refused, and that were answered.
    AVOIDED = "avoided_refusals"
    # Refusals that came (by what they mean), those repaired, and lessons learned from them.
    REFUSED = "refused"
    REPAIRED = "repaired"
    LESSONS = "lessons"
    # Bytes that requests grew by.
    ADDED = "added_bytes"
    # Tokens as the providers report them.
    PROMPT = "prompt_tokens"
    CACHED = "cached_tokens"
    ANSWER = "answer_tokens"
    THOUGHT = "thought_tokens"
    # Requests by what the client did with recorded reasoning: sent it back, blanked it, or dropped it.
    KEPT = "kept"
    BLANKED = "blanked"
    DROPPED = "dropped"


TREATMENTS = (Count.DROPPED, Count.BLANKED, Count.KEPT)
# Counted by kind: "restored: context", "refused: missing".
BY_KIND = (Count.RESTORED, Count.REFUSED)
OTHER = "other"
_LONGEST_MODEL = 100
_PRODUCT = re.compile(r"([A-Za-z][A-Za-z0-9_.@!#$%&'*+^`|~-]{0,39})(?:/([A-Za-z0-9_.+-]{1,40}))?")
_COMMENT = re.compile(r"\([^()]*\)")
# Keys look like this, products do not.
_SECRET = re.compile(r"(?=[A-Za-z]*\d)[A-Za-z0-9]{16}")
# Browsers and what is built on them name these before or after themselves.
_ENGINES = frozenset(
    ("mozilla", "applewebkit", "gecko", "chrome", "safari", "version", "mobile", "electron", "edg", "firefox")
)


class Line(NamedTuple):
    """What a count belongs to; `day` is the local date, as 2026-11-21."""

    day: str
    provider: str
    model: str
    client: str


def by(name: str, kind: str) -> str:
    """The name of a count by kind."""
    return f"{name}: {kind}"


def day_of(seconds: float) -> str:
    """The local date of a time in seconds since the epoch."""
    return time.strftime("%Y-%m-%d", time.localtime(seconds))


def line(seconds: float, provider: str, model: str, user_agent: str) -> Line:
    """The line of a request that came at this time."""
    return Line(day_of(seconds), provider, model_name(model), product(user_agent))


def model_name(model: str) -> str:
    """A model's name as it may be kept and printed."""
    return model if 0 < len(model) <= _LONGEST_MODEL and model.isprintable() else OTHER


@lru_cache(maxsize=256)  # a client says the same with each of its requests
def product(user_agent: str) -> str:
    """The product that a User-Agent names, without versions and comments (RFC 9110, 10.1.5).

    "opencode/1.2.3 (linux)" is opencode, "OpenAI/Python 1.3" is OpenAI/Python; of what a browser says, it is
    the first name that is not an engine's.
    """
    if not user_agent.strip():
        return "unnamed"
    words = _COMMENT.sub(" ", user_agent[:500]).split()
    matches = [
        match for word in words if (match := _PRODUCT.fullmatch(word)) and not _SECRET.search(match[1])
    ]
    for name, version in (match.groups() for match in matches):
        if name.lower() not in _ENGINES:
            return f"{name}/{version}" if version and version.isalpha() else str(name)
    return matches[0][1] if matches else OTHER
