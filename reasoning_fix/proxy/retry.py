"""A refusal that is known is repaired and sent again once, so that the client sees the answer.

What is sent is decided by the engine. mitmproxy itself sends the repaired request, with the same certificate
checks, over a connection of its own; its answer arrives whole.
"""

import logging

from mitmproxy import ctx, http
from mitmproxy.addons.clientplayback import ReplayHandler

from reasoning_fix.engine.exchange import Exchange
from reasoning_fix.engine.repairs import OURS
from reasoning_fix.providers.rows import Means
from reasoning_fix.proxy import background, metadata, passages
from reasoning_fix.proxy.passages import Passage

logger = logging.getLogger(__name__)

_WORDS: dict[Means, str] = {
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


async def retry(flow: http.HTTPFlow, refusal: bytes, refused: Exchange) -> Exchange | None:
    """Send a refused request again if its refusal is known; the flow then has the new answer.

    None if nothing was changed: the client then sees the refusal as it came.
    """
    again = await background.done_if_large(lambda: refused.retry(refusal), len(refused.received))
    if refused.refused is None:
        return None
    host, words = refused.caller.host, _WORDS[refused.refused]
    if again is None:
        logger.info("%s: refused (%s); nothing to repair", host, words)
        return None
    answer = await _send(flow, again)
    if answer is None or not _is_answer(answer, again):
        logger.info("%s: refused (%s), and again after a repair", host, words)
        again.was_refused(refused)
        return None
    flow.response = answer
    # What people see of the flow is what was answered.
    flow.request.content = again.body
    return again


def reason(means: Means) -> str:
    """Why a request was sent again, for people."""
    if means in OURS:
        return f"put back, refused ({_WORDS[means]}), sent again without it"
    return f"refused: {_WORDS[means]}; repaired and sent again"


def _is_answer(response: http.Response, exchange: Exchange) -> bool:
    """Whether a repaired request was answered, rather than refused once more."""
    if response.status_code != 200:
        return False
    try:
        return not exchange.is_refusal(response.content or b"")
    except ValueError:
        return True


async def _send(flow: http.HTTPFlow, exchange: Exchange) -> http.Response | None:
    copy: http.HTTPFlow = flow.copy()  # type: ignore[no-untyped-call]
    copy.response = copy.error = None
    copy.request.content = exchange.body
    copy.comment = "a refused request, repaired and sent again"
    copy.metadata[metadata.RESENT] = True
    passages.begin(copy, Passage(exchange, is_retry=True))
    await ReplayHandler(copy, ctx.options).replay()
    return copy.response if copy.error is None else None
