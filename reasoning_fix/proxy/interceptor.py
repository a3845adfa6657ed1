"""The door for mitmproxy: hooks and commands, each a few lines; what they decide is decided elsewhere."""

import asyncio
import logging
import weakref
from collections.abc import Awaitable, Callable, Sequence

from mitmproxy import command, contentviews, ctx, flow, http, tls
from mitmproxy.addonmanager import Loader
from mitmproxy.log import ALERT

from reasoning_fix.dialects.splice import SpliceError
from reasoning_fix.dialects.wire import KeptByServer, NotChatError
from reasoning_fix.engine.recording import Rest
from reasoning_fix.engine.repairs import Sent
from reasoning_fix.engine.report import Report
from reasoning_fix.engine.restoring import Caller, Restored, restore
from reasoning_fix.engine.tap import Tap
from reasoning_fix.providers import refusals
from reasoning_fix.providers.refusals import PASSED_ON, STATUSES
from reasoning_fix.providers.table import Table, load_table
from reasoning_fix.proxy import background, callers, metadata, options
from reasoning_fix.proxy.callers import Route, host_of
from reasoning_fix.proxy.explain import OnRecord
from reasoning_fix.proxy.health import StoreState, counts
from reasoning_fix.proxy.held_back import HeldBack
from reasoning_fix.proxy.inspection.view import ChatView
from reasoning_fix.proxy.leaves import PermittedLeaves
from reasoning_fix.proxy.options import Options
from reasoning_fix.proxy.pages import is_own_page
from reasoning_fix.proxy.resources import Belongings
from reasoning_fix.proxy.retry import repair, resent
from reasoning_fix.proxy.stats import counting, tables
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

# Requests on their way, what is left to do for them, and the taps for answers that come whole. Keyed by the
# flow itself and kept here, so that they outlive a reload of the script.
_sent: "weakref.WeakKeyDictionary[http.HTTPFlow, Sent]" = weakref.WeakKeyDictionary()
_rests: "weakref.WeakKeyDictionary[http.HTTPFlow, Rest]" = weakref.WeakKeyDictionary()
_taps: "weakref.WeakKeyDictionary[http.HTTPFlow, Tap]" = weakref.WeakKeyDictionary()


class Interceptor:
    """Records the reasoning in answers of known providers and restores it in later requests."""

    name = "reasoning_fix"

    def __init__(self) -> None:
        # Part of this addon wherever it is loaded: without it a constrained CA's certificates are refused.
        self.addons = [PermittedLeaves(), HeldBack()]
        self._table: Table = load_table()
        self._given: Options | None = None
        self._belongings: Belongings | None = None
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
        if self._belongings is not None and before is not None and not self._given.keeps_as(before):
            self._close()
            self._open()
        if "stream_large_bodies" in updated and ctx.options.stream_large_bodies:
            logger.log(ALERT, "stream_large_bodies is set: requests larger than it cannot be repaired.")

    def running(self) -> None:
        belongings = self._open()
        logger.info(
            "reasoning-fix is ready: %d provider hosts, fallback %s, turns in %s.",
            len(self._table.hosts()),
            self._options.preferences.mode,
            "memory" if isinstance(belongings.store, MemoryStore) else self._options.store,
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
        if flow in resent:
            return None  # ours already, and never repaired twice
        route = self._route(flow)
        if route is None:
            return None
        counts.requests += 1
        if len(flow.request.raw_content) > background.LARGE:
            return self._repair_large(flow, route)
        try:
            body, caller, work = self._begin(flow, route)
            self._end(flow, route, body, caller, work())
        except Exception as fault:
            _forward_untouched(route.host, fault)
        return None

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        if flow.response is None:
            return
        content_type = flow.response.headers.get("content-type", "").partition(";")[0].strip().lower()
        streamed = content_type == "text/event-stream"
        again, sent = resent.get(flow), _sent.get(flow)
        if again is None and sent is None:
            if streamed or not (self._options.decrypt_all or _is_own_page(flow) or self._route(flow)):
                flow.response.stream = True
            return
        length = flow.response.headers.get("content-length", "")
        size = int(length) if length.isdecimal() else None
        coding = flow.response.headers.get("content-encoding", "")
        if again is not None:
            again.tap = Tap(again.exchange, coding, streamed, size)
            return
        assert sent is not None
        if flow.response.status_code in (*STATUSES, *PASSED_ON) and (size or 0) <= refusals.LONGEST:
            return  # `response` looks at it before the client does
        if flow.response.status_code != 200:
            _sent.pop(flow, None)
            flow.response.stream = flow.response.stream or streamed
            return
        if streamed or content_type.endswith("json"):
            is_short = size is not None and size <= (_WHOLE_STREAM if streamed else _WHOLE)
            refuses = self._refuses if size is None else None
            tap = Tap(sent.exchange, coding, streamed, size, self._options.view_bytes, refuses)
            if is_short and not flow.response.stream:
                _taps[flow] = tap
            else:
                flow.response.stream = tap

    def _refuses(self, payload: bytes) -> bool:
        """Whether what comes in place of an answer is a refusal that is known."""
        return (
            refusals.is_in_place_of_answer(payload) and refusals.recognise(payload, self._table) is not None
        )

    async def response(self, flow: http.HTTPFlow) -> None:
        self._finish(flow, complete=True)
        sent = _sent.pop(flow, None)
        try:
            if sent is not None and flow.live and (refusal := _refusal(flow)):
                await self._repair_refused(flow, refusal, sent)
        except Exception as fault:
            logger.warning("%s: refusal passed on: %s in reasoning-fix", host_of(flow), type(fault).__name__)
            logger.debug("fault while repairing", exc_info=fault)
        self._count_answer(flow, sent.refused if sent is not None else "")

    def error(self, flow: http.HTTPFlow) -> None:
        _sent.pop(flow, None)
        self._finish(flow, complete=False)
        self._count_answer(flow)

    async def _repair_refused(self, flow: http.HTTPFlow, refusal: bytes, sent: Sent) -> None:
        belongings = self._open()
        first = flow.response
        told = await repair(flow, refusal, sent, self._table, belongings.lessons)
        if told is not None:
            if first is not None and isinstance(tap := first.stream, Tap):
                tap.put_in_place(_in_coding_of(first, flow.response))
            counting.repaired(belongings.book, flow, sent.refused, told.report, told.exchange, told.taught)
            flow.metadata[metadata.KEY] = metadata.written(
                told.report,
                sent.caller.endpoint,
                sent.preferences,
                refused=told.means,
                tried=told.tried,
            )
            _tell(flow, host_of(flow), told.report, told.reason)

    def _count_answer(self, flow: http.HTTPFlow, refused: str = "") -> None:
        status = flow.response.status_code if flow.response else 0
        counting.answered(self._open().book, flow, status, refused)

    def store_state(self) -> StoreState:
        """Where turns are kept now, for the health page."""
        return self._open().state(self._options)

    def _finish(self, flow: http.HTTPFlow, complete: bool) -> None:
        if (rest := _rests.pop(flow, None)) is not None:
            rest()
        if flow.response is None:
            return
        if (again := resent.pop(flow, None)) and again.tap is not None:
            if flow.response.status_code == 200:
                again.tap(flow.response.raw_content or b"")
                again.tap.finish(complete)
            return
        if (tap := _taps.pop(flow, None)) is not None:
            tap(flow.response.raw_content or b"")
            tap.finish(complete)
            metadata.answered(flow, tap.answered)
            return
        if not isinstance(flow.response.stream, Tap):
            return
        tap = flow.response.stream
        tap.finish(complete)
        metadata.answered(flow, tap.answered)
        if flow.response.raw_content is None and (kept := tap.kept(complete)) is not None:
            flow.response.raw_content = _as_coded(flow.response, kept)

    def _begin(self, flow: http.HTTPFlow, route: Route) -> tuple[bytes, Caller, Callable[[], Restored]]:
        """Who asks, and the work to be done for it, which touches nothing of the flow."""
        kept = self._open()
        try:
            body = flow.request.content or b""
        except ValueError:
            raise NotChatError("its body does not decompress") from None
        caller = callers.caller(flow, route, kept.installation)
        table, preferences = self._table, self._options.preferences

        def work() -> Restored:
            return restore(
                body, caller, table, kept.store, preferences, kept.lessons, memory=kept.memory, defers=True
            )

        return body, caller, work

    def _end(
        self, flow: http.HTTPFlow, route: Route, body: bytes, caller: Caller, restored: Restored
    ) -> None:
        """Send a request on as it was restored, and say so."""
        kept, preferences, report = self._open(), self._options.preferences, restored.report
        _sent[flow] = Sent(caller, body, restored, kept.store, preferences, kept.memory)
        client = flow.request.headers.get("user-agent", "")

        def account() -> None:
            counting.asked(kept.book, flow, route.provider.name, client, report, restored.exchange)
            flow.metadata[metadata.KEY] = metadata.written(report, route.endpoint, preferences)

        if (rest := restored.exchange.rest) is None:
            account()
        else:
            rest.then(account)
            _rests[flow] = rest
            _do_soon(rest, large=len(body) > background.LARGE)
        if restored.body is not None:
            flow.request.content = restored.body
            counts.restored += report.restored
            counts.filled += report.filled
            _tell(flow, route.host, report)
        elif report.thinking_off:
            _comment(flow, "not touched: thinking is off")

    async def _repair_large(self, flow: http.HTTPFlow, route: Route) -> None:
        try:
            body, caller, work = self._begin(flow, route)
            self._end(flow, route, body, caller, await background.done(work))
        except Exception as fault:
            _forward_untouched(route.host, fault)

    def _route(self, flow: http.HTTPFlow) -> Route | None:
        return callers.route(flow, self._table)

    @command.command("reasoning_fix.learned")  # type: ignore[untyped-decorator]
    def learned(self) -> Sequence[str]:
        """What refusals taught about hosts and models, oldest first."""
        return [lesson.text() for lesson in self._open().lessons.all()]

    @command.command("reasoning_fix.stats")  # type: ignore[untyped-decorator]
    def stats(self, days: int = 7) -> Sequence[str]:
        """What happened in the last days: requests, turns, refusals, cache hits, clients."""
        return tables.report(self._open().book.counts(max(1, days)))

    @command.command("reasoning_fix.forget")  # type: ignore[untyped-decorator]
    def forget(self, host: str = "") -> None:
        """Forget what refusals taught about a host, or about all of them."""
        count = self._open().lessons.forget(host)
        logger.log(ALERT, "Forgot %d lesson%s.", count, "" if count == 1 else "s")

    @command.command("reasoning_fix.explain")  # type: ignore[untyped-decorator]
    def explain(self, flows: Sequence[flow.Flow], texts: bool = True) -> Sequence[str]:
        """Why each turn of these requests was or was not restored; texts: with the first line of each."""
        kept = self._open()
        preferences = self._options.preferences
        record = OnRecord(kept.store, kept.installation, kept.lessons, self._table, preferences)
        return [line for one in flows for line in record.explain(one, texts)]

    @property
    def _options(self) -> Options:
        if self._given is None:
            self._given = options.read()
        return self._given

    def _open(self) -> Belongings:
        if self._belongings is None:
            self._belongings = Belongings.open(self._options)
        return self._belongings

    def _close(self) -> None:
        if self._belongings is not None:
            self._belongings.close()
            self._belongings = None


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


def _do_soon(rest: Rest, large: bool) -> None:
    """When the request is on its way; a turn that is answered before that does it first, or waits for it."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        rest()
        return
    if large:
        background.begin(rest)
    else:
        loop.call_later(_SOON_SECONDS, rest)


def _as_coded(response: http.Response, kept: Kept) -> bytes:
    """A copy in the content coding that the headers name: the headers stay those that were sent."""
    if not kept.decoded:
        return kept.data
    coding = response.headers.get("content-encoding", "")
    return http.Response.make(200, kept.data, {"content-encoding": coding}).raw_content or b""


def _refusal(flow: http.HTTPFlow) -> bytes | None:
    """The body of a response that may be a refusal; None for an answer, and for what is not here any more."""
    response = flow.response
    if response is None:
        return None
    if isinstance(response.stream, Tap):
        return response.stream.refusal
    try:
        body = response.content or b""
    except ValueError:
        return None
    return refusals.in_place_of_answer(body) if response.status_code == 200 else body


def _in_coding_of(first: http.Response, answer: http.Response | None) -> bytes:
    """An answer's body in the content coding that the client was told of before it came."""
    body = (answer.content if answer is not None else None) or b""
    coding = first.headers.get("content-encoding", "")
    return http.Response.make(200, body, {"content-encoding": coding} if coding else {}).raw_content or b""


def _tell(flow: http.HTTPFlow, host: str, report: Report, reason: str = "") -> None:
    """Say what was done to a flow: in the log, and on the flow for people who look at it."""
    text = f"{reason}: {report.text()}" if reason else report.text()
    logger.info("%s %s: %s", host, report.model, text, extra={"client": flow.client_conn.peername})
    _comment(flow, text)
    flow.marked = flow.marked or MARK


def _comment(flow: http.HTTPFlow, text: str) -> None:
    flow.comment = f"{flow.comment}; {text}" if flow.comment else text
