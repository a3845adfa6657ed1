"""The door for mitmproxy: options and hooks, each a few lines; what they decide is decided elsewhere."""

import asyncio
import logging
import os
import re
import weakref
from collections.abc import Sequence
from pathlib import Path

from mitmproxy import command, ctx, exceptions, http, tls
from mitmproxy.addonmanager import Loader
from mitmproxy.log import ALERT

from reasoning_fix import fallback, places, providers, refusals
from reasoning_fix.dialects.splice import SpliceError
from reasoning_fix.dialects.wire import KeptByServer, NotChatError
from reasoning_fix.fallback import Wishes
from reasoning_fix.health import StoreState, counts
from reasoning_fix.lessons import Lessons
from reasoning_fix.pages import is_own_page
from reasoning_fix.provider_files import ProviderTableError
from reasoning_fix.provider_rows import Endpoint
from reasoning_fix.providers import Provider, Table
from reasoning_fix.recording import Rest, Tap
from reasoning_fix.refusals import STATUSES
from reasoning_fix.remembering import Memory
from reasoning_fix.repairing import Sent, repair, resent
from reasoning_fix.restoring import Caller, Remembering, Report, restore
from reasoning_fix.store import Store, StoreError
from reasoning_fix.store.memory import MemoryStore
from reasoning_fix.store.sealing import Installation
from reasoning_fix.store.sqlite import SqliteStore, open_store
from reasoning_fix.trust.leaves import PermittedLeaves

logger = logging.getLogger(__name__)

MARK = ":adhesive_bandage:"
_DECRYPT_MODES = ("providers", "all")
_CREDENTIALS = ("authorization", "x-api-key", "api-key")
_ANONYMOUS = ("", "public")
# Headers by which clients name a conversation: evidence where they come, never identity.
_SESSION_HEADERS = ("x-opencode-session", "x-claude-code-session-id", "x-session-id", "session-id")
_AGENT_HEADER = "x-claude-code-agent-id"

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
        self._memory: Remembering = Memory()
        self._decrypt_all = False

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
        if "reasoning_providers" in updated:
            self._table = _load_table(ctx.options.reasoning_providers)
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
        host = _host(flow)
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
                flow.response.stream = Tap(sent.exchange, coding, streamed, size)
        elif streamed or (
            not self._decrypt_all and not self._is_own_page(flow) and self._route(flow) is None
        ):
            flow.response.stream = True

    async def response(self, flow: http.HTTPFlow) -> None:
        self._finish(flow, complete=True)
        sent = _sent.pop(flow, None)
        if sent is None or flow.response is None or not flow.live:
            return
        try:
            told = await repair(flow, sent, self._table, self._lessons)
        except Exception as fault:
            logger.warning("%s: refusal passed on: %s in reasoning-fix", _host(flow), type(fault).__name__)
            logger.debug("fault while repairing", exc_info=fault)
            return
        if told is not None:
            _note(flow, told.report, sent.caller.endpoint)
            _tell(flow, _host(flow), told.report, told.reason)

    def error(self, flow: http.HTTPFlow) -> None:
        _sent.pop(flow, None)
        self._finish(flow, complete=False)

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
        view = tap.view()
        if view is not None and flow.response.raw_content is None:
            flow.response.raw_content = view

    def _repair(self, flow: http.HTTPFlow, provider: Provider, endpoint: Endpoint, host: str) -> None:
        if self._store is None:
            self._open()
        assert self._store is not None and self._installation is not None
        try:
            body = flow.request.content or b""
        except ValueError:
            raise NotChatError("its body does not decompress") from None
        session = _session(flow.request.headers)
        credential = _credential(flow, provider, session)
        caller = Caller(self._installation.scope(credential), provider, endpoint, host, session)
        wishes = Wishes(
            ctx.options.reasoning_fallback, ctx.options.reasoning_disable, ctx.options.reasoning_split
        )
        restored = restore(
            body, caller, self._table, self._store, wishes, self._lessons, memory=self._memory, defers=True
        )
        _sent[flow] = Sent(caller, body, restored, self._store, wishes, self._memory)
        _note(flow, restored.report, endpoint)
        if (rest := restored.exchange.rest) is not None:
            rest.then(lambda: _note(flow, restored.report, endpoint))
            _do_soon(rest)
        if restored.body is not None:
            flow.request.content = restored.body
            counts.restored += restored.report.restored
            counts.filled += restored.report.filled
            _tell(flow, host, restored.report)
        elif restored.report.thinking_off:
            _comment(flow, "not touched: thinking is off")

    def _route(self, flow: http.HTTPFlow) -> tuple[Provider, Endpoint] | None:
        """The provider and endpoint that a chat request goes to; None for all other traffic."""
        for host in (flow.request.pretty_host, flow.request.host):
            provider = self._table.provider(host)
            if provider is not None:
                endpoint = self._table.endpoint(provider, flow.request.method, flow.request.path)
                return (provider, endpoint) if endpoint is not None else None
        return None

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

    @command.command("reasoning_fix.forget")  # type: ignore[untyped-decorator]
    def forget(self, host: str = "") -> None:
        """Forget what refusals taught about a host, or about all of them."""
        self._memory.clear()
        count = self._lessons.forget(host)
        logger.log(ALERT, "Forgot %d lesson%s.", count, "" if count == 1 else "s")

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
        self._lessons = Lessons(None if path is None else path.with_name("lessons.json"))

    def _close(self) -> None:
        self._memory.clear()
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
    if not given.isdecimal() or int(given) < 1:
        raise _options_error(f"{name}: {given!r} was given; a whole number from 1 up is allowed.")
    return int(given)


def _pattern(name: str, given: str) -> None:
    try:
        re.compile(given)
    except re.error as error:
        raise _options_error(
            f"{name}: {given!r} was given; a regular expression is allowed ({error})."
        ) from error


def _do_soon(rest: Rest) -> None:
    """When the request is on its way; an answer that comes before that does it first."""
    try:
        asyncio.get_running_loop().call_soon(rest)
    except RuntimeError:
        rest()


def _host(flow: http.HTTPFlow) -> str:
    return flow.request.pretty_host.lower()


def _session(headers: http.Headers) -> str:
    named = [headers[name] for name in _SESSION_HEADERS if headers.get(name)]
    if named and headers.get(_AGENT_HEADER):
        named.append(headers[_AGENT_HEADER])
    return "\n".join(named)


def _credential(flow: http.HTTPFlow, provider: Provider, session: str) -> str:
    """What a scope is made of: the key itself, whichever header carries it.

    Without one (free tiers), the conversation or the client's address keeps people apart.
    """
    for name in _CREDENTIALS:
        value = flow.request.headers.get(name, "").strip()
        if value.lower().startswith("bearer "):
            value = value[7:].strip()
        if value.lower() not in _ANONYMOUS:
            return str(value)
    peer = flow.client_conn.peername
    return f"anonymous\n{provider.name}\n{session or (peer[0] if peer else '')}"


def _tell(flow: http.HTTPFlow, host: str, report: Report, reason: str = "") -> None:
    """Say what was done to a flow: in the log, and on the flow for people who look at it."""
    text = f"{reason}: {report.text()}" if reason else report.text()
    logger.info("%s %s: %s", host, report.model, text, extra={"client": flow.client_conn.peername})
    _comment(flow, text)
    flow.marked = flow.marked or MARK


def _comment(flow: http.HTTPFlow, text: str) -> None:
    flow.comment = f"{flow.comment}; {text}" if flow.comment else text


def _note(flow: http.HTTPFlow, report: Report, endpoint: Endpoint) -> None:
    """What was done, as saved with the flow: plain values that any mitmproxy can read."""
    flow.metadata["reasoning_fix"] = {
        "dialect": endpoint.dialect,
        "model": report.model,
        "restored": report.restored,
        "wanted": report.wanted,
        "filled": report.filled,
        "evidence": dict(report.evidence),
        "grown": report.grown,
        "turns": [[turn.index, turn.status, turn.evidence, turn.recorded] for turn in report.turns],
    }
