"""A refusal that is known is repaired and sent again once, so that the client sees the answer.

What is sent is decided in repairs.py. mitmproxy itself sends the repaired request, with the same certificate
checks, over a connection of its own; its answer arrives whole.
"""

import logging
import weakref

import msgspec
from mitmproxy import ctx, http
from mitmproxy.addons.clientplayback import ReplayHandler

from reasoning_fix.engine import repairs
from reasoning_fix.engine.recording import Recorder
from reasoning_fix.engine.repairs import Attempt, Sent
from reasoning_fix.engine.report import Report
from reasoning_fix.engine.tap import Tap
from reasoning_fix.providers import refusals
from reasoning_fix.providers.lessons import Lessons
from reasoning_fix.providers.rows import Means
from reasoning_fix.providers.table import Table
from reasoning_fix.proxy import background, metadata

logger = logging.getLogger(__name__)

_WORDS = {
    "missing": "reasoning missing",
    "forbidden": "reasoning not allowed",
    "parameter": "a parameter not allowed while thinking",
    "tool_choice": "a forced tool not allowed while thinking",
    "always_thinks": "thinking cannot be turned off",
    "too_long": "too long",
    "signature": "its signature",
    "item_id": "its id",
    "sealed": "its sealed part",
    "block": "as it stood",
}


class Again(msgspec.Struct):
    """A request that is sent again, and the tap for its answer."""

    exchange: Recorder
    tap: Tap | None = None


class Repaired(msgspec.Struct, frozen=True):
    """What was done to a refused request, and why: in words, and as refusals are named.

    `exchange` is the one that was answered, `tried` how many lessons were tried for it.
    """

    report: Report
    reason: str
    means: str
    exchange: Recorder
    tried: int
    taught: bool


# Flows of ours on their way: they are not repaired again.
resent: "weakref.WeakKeyDictionary[http.HTTPFlow, Again]" = weakref.WeakKeyDictionary()


async def repair(
    flow: http.HTTPFlow, body: bytes, sent: Sent, table: Table, lessons: Lessons
) -> Repaired | None:
    """Send a refused request again where its refusal is known; the flow then has the new answer.

    `body` is the refusal's. None where nothing was changed: the client then sees the refusal as it came.
    """
    refusal = refusals.recognise(body, table)
    if refusal is None:
        return None
    sent.refused = refusal.means
    said, host = refusals.said(body), sent.caller.host
    attempt = await background.done_if_large(
        lambda: repairs.attempt(refusal, said, sent, table, lessons), len(sent.body)
    )
    if attempt is None:
        logger.info("%s: refused (%s); nothing to repair", host, _WORDS[refusal.means])
        return None
    answer = await _send_again(flow, attempt)
    if answer is None or not _is_answer(answer, table):
        logger.info("%s: refused (%s), and again after a repair", host, _WORDS[refusal.means])
        repairs.note_failure(attempt, sent, lessons)
        return None
    taught = repairs.keep(attempt, lessons)
    flow.response = answer
    # What people see of the flow is what was answered.
    flow.request.content = attempt.body
    return Repaired(
        attempt.restored.report,
        _reason(refusal.means),
        refusal.means,
        attempt.restored.exchange,
        len(attempt.tried),
        taught,
    )


def _reason(means: Means) -> str:
    if means in repairs.OURS:
        return f"put back, refused ({_WORDS[means]}), sent again without it"
    return f"refused: {_WORDS[means]}; repaired and sent again"


def _is_answer(response: http.Response, table: Table) -> bool:
    """Whether a repaired request was answered, rather than refused once more."""
    if response.status_code != 200:
        return False
    try:
        body = response.content or b""
    except ValueError:
        return True
    return refusals.in_place_of_answer(body) is None or refusals.recognise(body, table) is None


async def _send_again(flow: http.HTTPFlow, attempt: Attempt) -> http.Response | None:
    copy: http.HTTPFlow = flow.copy()  # type: ignore[no-untyped-call]
    copy.response = copy.error = None
    copy.request.content = attempt.body
    copy.comment = "a refused request, repaired and sent again"
    copy.metadata[metadata.RESENT] = True
    resent[copy] = Again(attempt.restored.exchange)
    await ReplayHandler(copy, ctx.options).replay()
    return copy.response if copy.error is None else None
