"""The door for mitmproxy: options and hooks, each a few lines; what they decide is decided elsewhere."""

import logging
import os
import re
import weakref
from collections.abc import Sequence
from pathlib import Path

from mitmproxy import command, contentviews, ctx, exceptions, flow, http, tls
from mitmproxy.addonmanager import Loader
from mitmproxy.log import ALERT

from reasoning_fix import callers, fallback, notes, places, providers, recording, refusals
from reasoning_fix.callers import host_of
from reasoning_fix.dialects.splice import SpliceError
from reasoning_fix.dialects.wire import KeptByServer, NotChatError
from reasoning_fix.fallback import Wishes
from reasoning_fix.health import StoreState, counts
from reasoning_fix.inspection.view import ChatView
from reasoning_fix.lessons import Lessons
from reasoning_fix.on_record import OnRecord
from reasoning_fix.pages import is_own_page
from reasoning_fix.provider_files import ProviderTableError
from reasoning_fix.provider_rows import Endpoint
from reasoning_fix.providers import Provider, Table
from reasoning_fix.recording import Tap
from reasoning_fix.refusals import STATUSES
from reasoning_fix.repairing import Sent, repair, resent
from reasoning_fix.restoring import Report, restore
from reasoning_fix.store import Store, StoreError
from reasoning_fix.store.memory import MemoryStore
from reasoning_fix.store.sealing import Installation
from reasoning_fix.store.sqlite import SqliteStore, open_store
from reasoning_fix.streams.copies import Kept
from reasoning_fix.tally import book, counting, tables
from reasoning_fix.tally.book import Book
from reasoning_fix.trust.leaves import PermittedLeaves

logger = logging.getLogger(__name__)

MARK = ":adhesive_bandage:"
_DECRYPT_MODES = ("providers", "all")

# Requests on their way. Keyed by the flow itself and kept here, so that it outlives a reload of the script.
_sent: "weakref.WeakKeyDictionary[http.HTTPFlow, Sent]" = weakref.WeakKeyDictionary()


class Interceptor:
    """Records the reasoning in answers of known providers and restores it in later requests."""

    name = "reasoning_fix"

    def __init__(self) -> None:
        # Part of this addon wherever it is loaded: without it a constrained CA's certificates are refused.
        self.addons = [PermittedLeaves()]
        self._table: Table = providers.load()
        self._store: Store | None = None
        self._installation: Installation | None = None
        self._lessons = Lessons(None)
        self._book = Book(None)
        self._decrypt_all = False
        self._view = ChatView(self._table)

    def load(self, loader: Loader) -> None:
        loader.add_option(
            "reasoning_fallback",
            str,
            fallback.AUTO,
            "What to do where a provider demands reasoning that nobody recorded: auto (put what the rule of "
            "the provider accepts), disable-thinking (turn thinking off for that request, where it can be) "
            "or none.",
        )
        loader.add_option(
            "reasoning_disable",
            str,
            "",
            "Models (a regular expression, looked for in the model's name) whose thinking is turned off on "
            "every request. Default: no model.",
        )
        loader.add_option(
            "reasoning_split",
            bool,
            False,
            "Ask MiniMax for reasoning apart from the content (adds reasoning_split: true to requests).",
        )
        loader.add_option(
            "reasoning_store",
            str,
            "",
            "Path of the file that keeps recorded turns; memory keeps them only while the proxy runs. "
            "Default: turns.sqlite3 in the user data directory.",
        )
        loader.add_option(
            "reasoning_keep_days", str, "30", "Recorded turns older than this are erased (days)."
        )
        loader.add_option(
            "reasoning_keep_megabytes",
            str,
            "512",
            "When the store is larger than this (megabytes), its oldest turns are erased.",
        )
        loader.add_option(
            "reasoning_providers",
            str,
            "",
            "TOML file with providers and gateways of your own. Default: providers.toml in the user config "
            "directory, where there is one.",
        )
        loader.add_option(
            "reasoning_decrypt",
            str,
            "providers",
            "Which TLS connections are decrypted: providers (only hosts of the provider table) or all.",
        )
        loader.add_option(
            "reasoning_view_kilobytes",
            str,
            "2048",
            "How much of a streamed answer is kept to look at after it ended (kilobytes); of a longer one "
            "its beginning and its end. 0 keeps nothing.",
        )
        contentviews.add(self._view)

    def configure(self, updated: set[str]) -> None:
        if "reasoning_fallback" in updated:
            _one_of("reasoning_fallback", ctx.options.reasoning_fallback, fallback.MODES)
        if "reasoning_decrypt" in updated:
            _one_of("reasoning_decrypt", ctx.options.reasoning_decrypt, _DECRYPT_MODES)
            self._decrypt_all = ctx.options.reasoning_decrypt == "all"
            if self._decrypt_all:
                logger.log(ALERT, "reasoning_decrypt=all: connections to every host are decrypted.")
        if "reasoning_disable" in updated:
            _pattern("reasoning_disable", ctx.options.reasoning_disable)
        for name in ("reasoning_keep_days", "reasoning_keep_megabytes"):
            if name in updated:
                _positive(name, getattr(ctx.options, name))
        if "reasoning_view_kilobytes" in updated:
            _whole("reasoning_view_kilobytes", ctx.options.reasoning_view_kilobytes, 0)
        if "reasoning_providers" in updated:
            self._table = self._view.table = _load_table(ctx.options.reasoning_providers)
        if self._store is not None and updated & {
            "reasoning_store",
            "reasoning_keep_days",
            "reasoning_keep_megabytes",
        }:
            self._close()
            self._open()
        if "stream_large_bodies" in updated and ctx.options.stream_large_bodies:
            logger.log(ALERT, "stream_large_bodies is set: requests larger than it cannot be repaired.")

    def running(self) -> None:
        if self._store is None:
            self._open()
        logger.info(
            "reasoning-fix is ready: %d provider hosts, fallback %s, turns in %s.",
            len(self._table.hosts()),
            ctx.options.reasoning_fallback,
            "memory" if isinstance(self._store, MemoryStore) else _store_path(),
        )

    def done(self) -> None:
        self._close()

    def tls_clienthello(self, data: tls.ClientHelloData) -> None:
        if self._decrypt_all:
            return
        address = data.context.server.address
        asked = address[0] if address else ""
        mode = data.context.client.proxy_mode.type_name
        name = asked if mode == "reverse" else data.client_hello.sni or asked
        if self._table.provider(name) is None:
            data.ignore_connection = True

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        if flow.response or flow.error or self._decrypt_all or self._is_own_page(flow):
            return
        if self._route(flow) is None:
            flow.request.stream = True

    def request(self, flow: http.HTTPFlow) -> None:
        if flow.response or flow.error or not flow.live or flow.request.raw_content is None:
            return
        if flow in resent:
            return  # ours already, and never repaired twice
        route = self._route(flow)
        if route is None:
            return
        host = host_of(flow)
        counts.requests += 1
        try:
            self._repair(flow, *route, host)
        except KeptByServer as reason:
            logger.debug("%s: request forwarded untouched: %s", host, reason)
        except (NotChatError, SpliceError) as error:
            logger.info("%s: request forwarded untouched: %s", host, error)
        except Exception as fault:
            logger.warning("%s: request forwarded untouched: %s in reasoning-fix", host, type(fault).__name__)
            logger.debug("fault while restoring", exc_info=fault)

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        if flow.response is None:
            return
        content_type = flow.response.headers.get("content-type", "").partition(";")[0].strip().lower()
        streamed = content_type == "text/event-stream"
        length = flow.response.headers.get("content-length", "")
        size = int(length) if length.isdecimal() else None
        coding = flow.response.headers.get("content-encoding", "")
        if again := resent.get(flow):
            again.tap = Tap(again.exchange, coding, streamed, size)
            return
        sent = _sent.get(flow)
        if sent is not None and flow.response.status_code in STATUSES and (size or 0) <= refusals.LONGEST:
            return  # `response` looks at it before the client does
        _sent.pop(flow, None)
        if sent is not None and flow.response.status_code == 200:
            if streamed or content_type.endswith("json"):
                keep = 1024 * int(ctx.options.reasoning_view_kilobytes)
                flow.response.stream = Tap(sent.exchange, coding, streamed, size, keep)
        elif streamed or (
            not self._decrypt_all and not self._is_own_page(flow) and self._route(flow) is None
        ):
            flow.response.stream = True

    async def response(self, flow: http.HTTPFlow) -> None:
        self._finish(flow, complete=True)
        sent = _sent.pop(flow, None)
        try:
            if sent is not None and flow.response is not None and flow.live:
                await self._repair_refused(flow, sent)
        except Exception as fault:
            logger.warning("%s: refusal passed on: %s in reasoning-fix", host_of(flow), type(fault).__name__)
            logger.debug("fault while repairing", exc_info=fault)
        self._count_answer(flow, sent.refused if sent is not None else "")

    def error(self, flow: http.HTTPFlow) -> None:
        _sent.pop(flow, None)
        self._finish(flow, complete=False)
        self._count_answer(flow)

    async def _repair_refused(self, flow: http.HTTPFlow, sent: Sent) -> None:
        told = await repair(flow, sent, self._table, self._lessons)
        if told is not None:
            counting.repaired(self._book, flow, sent.refused, told.report, told.exchange, told.taught)
            flow.metadata[notes.KEY] = notes.written(
                told.report,
                sent.caller.endpoint,
                sent.wishes,
                only_demanded=told.only_demanded,
                refused=told.means,
            )
            _tell(flow, host_of(flow), told.report, told.reason)

    def _count_answer(self, flow: http.HTTPFlow, refused: str = "") -> None:
        counting.answered(self._book, flow, flow.response.status_code if flow.response else 0, refused)

    def store_state(self) -> StoreState:
        """Where turns are kept now, for the health page."""
        path = _store_path()
        if isinstance(self._store, SqliteStore):
            return StoreState("sqlite", str(path), self._store.is_sound())
        return StoreState("memory", str(path or ""), path is None)

    def _finish(self, flow: http.HTTPFlow, complete: bool) -> None:
        if flow.response is None:
            return
        if (again := resent.pop(flow, None)) and again.tap is not None:
            if flow.response.status_code == 200:
                again.tap(flow.response.raw_content or b"")
                again.tap.finish(complete)
            return
        if not isinstance(flow.response.stream, Tap):
            return
        tap = flow.response.stream
        tap.finish(complete)
        notes.answered(flow, tap.answered)
        if flow.response.raw_content is None and (kept := tap.kept(complete)) is not None:
            flow.response.raw_content = _as_coded(flow.response, kept)

    def _repair(self, flow: http.HTTPFlow, provider: Provider, endpoint: Endpoint, host: str) -> None:
        if self._store is None:
            self._open()
        assert self._store is not None and self._installation is not None
        try:
            body = flow.request.content or b""
        except ValueError:
            raise NotChatError("its body does not decompress") from None
        caller = callers.caller(flow, provider, endpoint, self._installation)
        wishes = self._wishes()
        restored = restore(body, caller, self._table, self._store, wishes, self._lessons)
        _sent[flow] = Sent(caller, body, restored, self._store, wishes)
        client = flow.request.headers.get("user-agent", "")
        counting.asked(self._book, flow, provider.name, client, restored.report, restored.exchange)
        flow.metadata[notes.KEY] = notes.written(restored.report, endpoint, wishes)
        if restored.body is not None:
            flow.request.content = restored.body
            counts.restored += restored.report.restored
            counts.filled += restored.report.filled
            _tell(flow, host, restored.report)
        elif restored.report.thinking_off:
            _comment(flow, "not touched: thinking is off")

    def _route(self, flow: http.HTTPFlow) -> tuple[Provider, Endpoint] | None:
        return callers.route(flow, self._table)

    def _is_own_page(self, flow: http.HTTPFlow) -> bool:
        if is_own_page(flow):
            return True
        if "onboarding" not in ctx.options:
            return False
        return bool(ctx.options.onboarding) and flow.request.pretty_host == ctx.options.onboarding_host

    @command.command("reasoning_fix.learned")  # type: ignore[untyped-decorator]
    def learned(self) -> Sequence[str]:
        """What refusals taught about hosts and models, oldest first."""
        return [lesson.text() for lesson in self._lessons.all()]

    @command.command("reasoning_fix.stats")  # type: ignore[untyped-decorator]
    def stats(self, days: int = 7) -> Sequence[str]:
        """What happened in the last days: requests, turns, refusals, cache hits, clients."""
        return tables.report(self._book.counts(max(1, days)))

    @command.command("reasoning_fix.forget")  # type: ignore[untyped-decorator]
    def forget(self, host: str = "") -> None:
        """Forget what refusals taught about a host, or about all of them."""
        count = self._lessons.forget(host)
        logger.log(ALERT, "Forgot %d lesson%s.", count, "" if count == 1 else "s")

    @command.command("reasoning_fix.explain")  # type: ignore[untyped-decorator]
    def explain(self, flows: Sequence[flow.Flow], texts: bool = True) -> Sequence[str]:
        """Why each turn of these requests was or was not restored; texts: with the first line of each."""
        if self._store is None:
            self._open()
        assert self._store is not None and self._installation is not None
        record = OnRecord(self._store, self._installation, self._lessons, self._table, self._wishes())
        return [line for one in flows for line in record.explain(one, texts)]

    def _wishes(self) -> Wishes:
        return Wishes(
            ctx.options.reasoning_fallback, ctx.options.reasoning_disable, ctx.options.reasoning_split
        )

    def _open(self) -> None:
        directory = places.data()
        path = _store_path()
        if path is None:
            self._store = MemoryStore()
        else:
            directory = path.parent
            self._store = open_store(
                path,
                keep_days=_positive("reasoning_keep_days", ctx.options.reasoning_keep_days),
                keep_megabytes=_positive("reasoning_keep_megabytes", ctx.options.reasoning_keep_megabytes),
            )
        try:
            self._installation = Installation.load(directory)
        except StoreError as error:
            logger.warning("%s Until then turns are kept only while the proxy runs.", error)
            self._store.close()
            self._store = MemoryStore()
            self._installation = Installation(os.urandom(32))
        if isinstance(self._store, SqliteStore):
            recording.now.go_on_after(self._store.newest())
        self._lessons = Lessons(None if path is None else path.with_name("lessons.json"))
        self._book = Book(
            None if path is None else path.with_name(book.FILE),
            keep_days=_positive("reasoning_keep_days", ctx.options.reasoning_keep_days),
        )

    def _close(self) -> None:
        self._book.close()
        if self._store is not None:
            self._store.close()
            self._store = None


def _store_path() -> Path | None:
    given: str = ctx.options.reasoning_store
    if given == "memory":
        return None
    if given:
        return Path(given).expanduser()
    return places.data() / "turns.sqlite3"


def _load_table(given: str) -> Table:
    path = Path(given).expanduser() if given else places.user_providers()
    if path is None:
        return providers.load()
    if not path.is_file():
        raise _options_error(f"reasoning_providers: there is no file {given!r}; give a TOML file.")
    try:
        return providers.load(path)
    except (ProviderTableError, OSError) as error:
        raise _options_error(f"reasoning_providers: {error}") from error


def _options_error(text: str) -> exceptions.OptionsError:
    return exceptions.OptionsError(text)  # type: ignore[no-untyped-call]


def _one_of(name: str, given: str, allowed: tuple[str, ...]) -> None:
    if given not in allowed:
        raise _options_error(f"{name}: {given!r} was given; allowed are {', '.join(allowed)}.")


def _positive(name: str, given: str) -> int:
    return _whole(name, given, 1)


def _whole(name: str, given: str, least: int) -> int:
    if not (given.isascii() and given.isdecimal() and len(given) < 10) or int(given) < least:
        raise _options_error(f"{name}: {given!r} was given; a whole number from {least} up is allowed.")
    return int(given)


def _pattern(name: str, given: str) -> None:
    try:
        re.compile(given)
    except re.error as error:
        raise _options_error(
            f"{name}: {given!r} was given; a regular expression is allowed ({error})."
        ) from error


def _as_coded(response: http.Response, kept: Kept) -> bytes:
    """A copy in the content coding that the headers name: the headers stay those that were sent."""
    if not kept.decoded:
        return kept.data
    coding = response.headers.get("content-encoding", "")
    return http.Response.make(200, kept.data, {"content-encoding": coding}).raw_content or b""


def _tell(flow: http.HTTPFlow, host: str, report: Report, reason: str = "") -> None:
    """Say what was done to a flow: in the log, and on the flow for people who look at it."""
    text = f"{reason}: {report.text()}" if reason else report.text()
    logger.info("%s %s: %s", host, report.model, text, extra={"client": flow.client_conn.peername})
    _comment(flow, text)
    flow.marked = flow.marked or MARK


def _comment(flow: http.HTTPFlow, text: str) -> None:
    flow.comment = f"{flow.comment}; {text}" if flow.comment else text
