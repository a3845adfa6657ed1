"""The door for mitmproxy: hooks and commands, each a few lines; what they decide is decided elsewhere."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from mitmproxy import contentviews, ctx, http, tls
from mitmproxy.addonmanager import Loader
from mitmproxy.log import ALERT

from reasoning_fix.dialects.splice import SpliceError
from reasoning_fix.dialects.wire import KeptByServer, NotChatError
from reasoning_fix.engine.exchange import Exchange
from reasoning_fix.engine.tap import Tap
from reasoning_fix.providers import refusals
from reasoning_fix.providers.refusals import PASSED_ON, STATUSES
from reasoning_fix.providers.table import Table, load_table
from reasoning_fix.proxy import background, callers, metadata, options, passages, shown
from reasoning_fix.proxy.callers import Route, host_of
from reasoning_fix.proxy.commands import Commands
from reasoning_fix.proxy.health import StoreState, counts
from reasoning_fix.proxy.held_back import HeldBack
from reasoning_fix.proxy.inspection.view import ChatView
from reasoning_fix.proxy.leaves import PermittedLeaves
from reasoning_fix.proxy.options import Options
from reasoning_fix.proxy.pages import is_own_page
from reasoning_fix.proxy.passages import Passage
from reasoning_fix.proxy.resources import Resources
from reasoning_fix.proxy.retry import reason, retry
from reasoning_fix.proxy.stats import counting
from reasoning_fix.proxy.stats.book import Book
from reasoning_fix.store.memory import MemoryStore
from reasoning_fix.streams.copies import Kept

logger = logging.getLogger(__name__)

MARK = ":adhesive_bandage:"
# An answer in one document of known length is no use to a client before its end: up to so many bytes it is
# left to mitmproxy, which passes it on whole (a streamed body costs it 0.4 ms more).
_WHOLE = 256 * 1024
# So is a stream of a length that is known and short: most are refusals.
_WHOLE_STREAM = 8 * 1024
# What a request need not wait for is done while the provider thinks; none answers as fast as this.
_SOON_SECONDS = 0.005


class Interceptor:
    """Records the reasoning in answers of known providers and restores it in later requests."""

    name = "reasoning_fix"

    def __init__(self) -> None:
        # Part of this addon wherever it is loaded: without it a constrained CA's certificates are refused.
        self.addons = [PermittedLeaves(), HeldBack(), Commands(self._open)]
        self._table: Table = load_table()
        self._given: Options | None = None
        self._resources: Resources | None = None
        self._view = ChatView(self._table)

    def load(self, loader: Loader) -> None:
        options.declare(loader)
        contentviews.add(self._view)

    def configure(self, updated: set[str]) -> None:
        before, self._given = self._given, options.read()
        if self._given.decrypt_all and "reasoning_decrypt" in updated:
            logger.log(ALERT, "reasoning_decrypt=all: connections to every host are decrypted.")
        if "reasoning_providers" in updated:
            self._table = self._view.table = options.table()
        if self._resources is not None:
            self._resources.engine.change(table=self._table, preferences=self._given.preferences)
            if before is not None and not self._given.keeps_as(before):
                self._close()
                self._open()
        if "stream_large_bodies" in updated and ctx.options.stream_large_bodies:
            logger.log(ALERT, "stream_large_bodies is set: requests larger than it cannot be repaired.")

    def running(self) -> None:
        store = self._open().engine.knowledge.store
        logger.info(
            "reasoning-fix is ready: %d provider hosts, fallback %s, turns in %s.",
            len(self._table.hosts()),
            self._options.preferences.mode,
            "memory" if isinstance(store, MemoryStore) else self._options.store,
        )

    def done(self) -> None:
        self._close()

    def tls_clienthello(self, data: tls.ClientHelloData) -> None:
        if self._options.decrypt_all:
            return
        address = data.context.server.address
        asked = address[0] if address else ""
        mode = data.context.client.proxy_mode.type_name
        name = asked if mode == "reverse" else data.client_hello.sni or asked
        if self._table.provider(name) is None:
            data.ignore_connection = True

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        if flow.response or flow.error or self._options.decrypt_all:
            return
        if self._route(flow) is None and not _is_own_page(flow):
            flow.request.stream = True

    def request(self, flow: http.HTTPFlow) -> Awaitable[None] | None:
        """Large requests are worked on in a thread, which mitmproxy awaits; all others at once."""
        if flow.response or flow.error or not flow.live or flow.request.raw_content is None:
            return None
        if passages.of(flow) is not None:
            return None  # ours already, and never repaired twice
        route = self._route(flow)
        if route is None:
            return None
        counts.requests += 1
        came = time.perf_counter()
        if len(flow.request.raw_content) > background.LARGE:
            return self._restore_large(flow, route, came)
        try:
            self._send_on(flow, self._work(flow, route)(), came)
        except Exception as fault:
            _forward_untouched(route.host, fault)
        return None

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        if flow.response is None:
            return
        try:
            if (passage := passages.of(flow)) is not None:
                self._watch(flow.response, passage)
            elif _is_stream(flow.response) or self._is_foreign(flow):
                flow.response.stream = True
        except Exception as fault:
            logger.warning("%s: an answer is not recorded: %s", host_of(flow), _named(fault))

    async def response(self, flow: http.HTTPFlow) -> None:
        passage = self._finish(flow, complete=True)
        if passage is None or passage.is_retry:
            return
        again = None
        try:
            if flow.live and (refusal := self._refusal(flow, passage)):
                again = await self._retry(flow, passage, refusal)
        except Exception as fault:
            logger.warning("%s: refusal passed on: %s in reasoning-fix", host_of(flow), type(fault).__name__)
            logger.debug("fault while repairing", exc_info=fault)
        if again is None:
            self._count(flow, passage)

    def error(self, flow: http.HTTPFlow) -> None:
        passage = self._finish(flow, complete=False)
        if passage is not None:
            self._count(flow, passage)

    def _watch(self, response: http.Response, passage: Passage) -> None:
        """Have an answer pass through a tap, or have it whole where that costs the client nothing."""
        length = response.headers.get("content-length", "")
        size = int(length) if length.isdecimal() else None
        coding = response.headers.get("content-encoding", "")
        streamed = _is_stream(response)
        if passage.is_retry:
            passage.tap = passage.exchange.tap(coding, streamed=streamed, length=size)
        elif response.status_code in (*STATUSES, *PASSED_ON) and (size or 0) <= refusals.LONGEST:
            pass  # `response` looks at it before the client does
        elif response.status_code != 200:
            passage.is_given_up = True
            response.stream = response.stream or streamed
        elif streamed or _content_type(response).endswith("json"):
            keep = self._options.view_bytes
            passage.tap = passage.exchange.tap(
                coding, streamed=streamed, length=size, keep=keep, may_refuse=size is None
            )
            is_short = size is not None and size <= (_WHOLE_STREAM if streamed else _WHOLE)
            if self._options.show is not None:
                passage.showing = shown.showing(self._options, passage.exchange)
            if passage.showing is not None:
                as_it_comes = streamed and not coding and size is None
                passage.tap.showing = passage.showing if as_it_comes else None
                response.stream = passage.tap if as_it_comes else False
            elif response.stream or not is_short:
                response.stream = passage.tap

    async def _retry(self, flow: http.HTTPFlow, passage: Passage, refusal: bytes) -> Exchange | None:
        refused, first = passage.exchange, flow.response
        again = await retry(flow, refusal, refused)
        if again is None or refused.refused is None:
            return None
        taught = again.was_answered()
        if flow.response is not None and (how := shown.showing(self._options, again)) is not None:
            shown.show_whole(flow.response, how, _is_stream(flow.response))
        if first is not None and isinstance(tap := first.stream, Tap):
            tap.put_in_place(_in_coding_of(first, flow.response))
        if passage.counted is not None:
            counting.repaired(self._open().book, passage.counted, refused, again, taught)
        flow.metadata[metadata.KEY] = _notes(again)
        _tell(flow, again, reason(refused.refused))
        return again

    def _refusal(self, flow: http.HTTPFlow, passage: Passage) -> bytes | None:
        """The body of a response that may be a refusal; None for an answer, and for what has passed on."""
        response = flow.response
        if response is None or passage.is_given_up:
            return None
        if isinstance(response.stream, Tap):
            return response.stream.refusal
        try:
            body = response.content or b""
        except ValueError:
            return None
        return refusals.in_place_of_answer(body) if response.status_code == 200 else body

    def _count(self, flow: http.HTTPFlow, passage: Passage) -> None:
        if passage.counted is not None:
            status = flow.response.status_code if flow.response else 0
            counting.answered(self._open().book, passage.counted, passage.exchange, status)

    def store_state(self) -> StoreState:
        """Where turns are kept now, for the health page."""
        return self._open().state(self._options)

    def book(self) -> Book:
        """What was counted, for the pages."""
        return self._open().book

    def _finish(self, flow: http.HTTPFlow, complete: bool) -> Passage | None:
        """A flow has come to its end: so has the answer that its tap saw."""
        passage = passages.end(flow)
        if passage is None:
            return None
        try:
            passage.exchange.settle()
            _finish_tap(flow, passage, complete)
            if passage.showing is not None and flow.response is not None and flow.response.stream is False:
                shown.show_whole(flow.response, passage.showing, _is_stream(flow.response))
            if not passage.is_retry:
                metadata.answered(flow, passage.exchange.recorder.answered)
        except Exception as fault:
            logger.warning("%s: the end of an answer: %s in reasoning-fix", host_of(flow), _named(fault))
        counts.recorded += passage.exchange.recorder.recorded
        return passage

    def _work(self, flow: http.HTTPFlow, route: Route) -> Callable[[], Exchange]:
        """The work to be done for a request, which touches nothing of the flow."""
        engine = self._open().engine
        try:
            body = flow.request.content or b""
        except ValueError:
            raise NotChatError("its body does not decompress") from None
        caller = callers.caller(flow, route, engine.installation)
        if self._options.show is not None:
            return lambda: shown.restored_without(engine, body, caller)
        return lambda: engine.restore(body, caller, defers=True)

    def _send_on(self, flow: http.HTTPFlow, exchange: Exchange, came: float) -> None:
        """Send a request on that `came` then, as it was restored, and say so."""
        delay = time.perf_counter() - came
        passage = Passage(exchange)
        passages.begin(flow, passage)
        client = flow.request.headers.get("user-agent", "")
        book = self._open().book

        def account() -> None:
            passage.counted = counting.asked(book, exchange, client, delay)
            flow.metadata[metadata.KEY] = _notes(exchange)

        if exchange.is_deferred:
            exchange.when_settled(account)
            _settle_soon(exchange)
        else:
            account()
        report = exchange.report
        if self._options.show is not None and shown.showing(self._options, exchange) is not None:
            # Nobody could add to an answer that is compressed as it streams.
            flow.request.headers["accept-encoding"] = "identity"
        if exchange.is_changed:
            flow.request.content = exchange.body
            counts.restored += report.restored
            counts.filled += report.filled
            _tell(flow, exchange)
        elif report.thinking_off:
            _comment(flow, "not touched: thinking is off")

    async def _restore_large(self, flow: http.HTTPFlow, route: Route, came: float) -> None:
        try:
            self._send_on(flow, await background.done(self._work(flow, route)), came)
        except Exception as fault:
            _forward_untouched(route.host, fault)

    def _route(self, flow: http.HTTPFlow) -> Route | None:
        return callers.route(flow, self._table)

    def _is_foreign(self, flow: http.HTTPFlow) -> bool:
        """Whether a flow is not for people to look at here: it passes as it comes."""
        return not (self._options.decrypt_all or _is_own_page(flow) or self._route(flow))

    @property
    def _options(self) -> Options:
        if self._given is None:
            self._given = options.read()
        return self._given

    def _open(self) -> Resources:
        if self._resources is None:
            self._resources = Resources.open(self._options, self._table)
        return self._resources

    def _close(self) -> None:
        if self._resources is not None:
            self._resources.close()
            self._resources = None


def _notes(exchange: Exchange) -> dict[str, Any]:
    refused = exchange.refused or ""
    return metadata.written(
        exchange.report,
        exchange.caller.endpoint,
        exchange.preferences,
        refused=refused,
        tried=exchange.tried,
    )


def _content_type(response: http.Response) -> str:
    given: str = response.headers.get("content-type", "")
    return given.partition(";")[0].strip().lower()


def _is_stream(response: http.Response) -> bool:
    return _content_type(response) == "text/event-stream"


def _named(fault: Exception) -> str:
    logger.debug("fault while an answer passed", exc_info=fault)
    return f"{type(fault).__name__} in reasoning-fix"


def _finish_tap(flow: http.HTTPFlow, passage: Passage, complete: bool) -> None:
    """The answer has ended that passed through a tap, or is here as a whole and passes through it now."""
    response, tap = flow.response, passage.tap
    if response is None or tap is None:
        return
    if response.stream is not tap:
        if response.status_code == 200:
            tap(response.raw_content or b"")
            tap.finish(complete)
        return
    tap.finish(complete)
    if response.raw_content is None and (kept := tap.kept(complete)) is not None:
        response.raw_content = _as_coded(response, kept)


def _is_own_page(flow: http.HTTPFlow) -> bool:
    if is_own_page(flow):
        return True
    if "onboarding" not in ctx.options:
        return False
    return bool(ctx.options.onboarding) and flow.request.pretty_host == ctx.options.onboarding_host


def _forward_untouched(host: str, fault: Exception) -> None:
    """Say why a request goes on as it came."""
    if isinstance(fault, KeptByServer):
        logger.debug("%s: request forwarded untouched: %s", host, fault)
    elif isinstance(fault, NotChatError | SpliceError):
        logger.info("%s: request forwarded untouched: %s", host, fault)
    else:
        logger.warning("%s: request forwarded untouched: %s in reasoning-fix", host, type(fault).__name__)
        logger.debug("fault while restoring", exc_info=fault)


def _settle_soon(exchange: Exchange) -> None:
    """When the request is on its way; a turn that is answered before that does it first, or waits for it."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        exchange.settle()
        return
    if len(exchange.received) > background.LARGE:
        background.begin(exchange.settle)
    else:
        loop.call_later(_SOON_SECONDS, exchange.settle)


def _as_coded(response: http.Response, kept: Kept) -> bytes:
    """A copy in the content coding that the headers name: the headers stay those that were sent."""
    if not kept.decoded:
        return kept.data
    coding = response.headers.get("content-encoding", "")
    return http.Response.make(200, kept.data, {"content-encoding": coding}).raw_content or b""


def _in_coding_of(first: http.Response, answer: http.Response | None) -> bytes:
    """An answer's body in the content coding that the client was told of before it came."""
    body = (answer.content if answer is not None else None) or b""
    coding = first.headers.get("content-encoding", "")
    return http.Response.make(200, body, {"content-encoding": coding} if coding else {}).raw_content or b""


def _tell(flow: http.HTTPFlow, exchange: Exchange, why: str = "") -> None:
    """Say what was done to a flow: in the log, and on the flow for people who look at it."""
    host, report = exchange.caller.host, exchange.report
    text = f"{why}: {report.text()}" if why else report.text()
    logger.info("%s %s: %s", host, report.model, text, extra={"client": flow.client_conn.peername})
    _comment(flow, text)
    flow.marked = flow.marked or MARK


def _comment(flow: http.HTTPFlow, text: str) -> None:
    flow.comment = f"{flow.comment}; {text}" if flow.comment else text
