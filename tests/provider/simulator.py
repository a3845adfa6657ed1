"""A strict provider simulator: real TLS on loopback, every provider's hosts, dialects, streams and refusals.

Strategy: one asyncio HTTP/1.1 server in a thread answers for every host of `table.py`, told by the Host
header and the path. A test scripts the answers; the simulator keeps a ledger of every turn it issued and
judges every assistant turn that comes back. It knows nothing of the proxy.
"""

import asyncio
import ssl
import tempfile
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import trustme

from tests.provider import responses
from tests.provider.http import Request, chunk, head, plain, read
from tests.provider.ledger import Ledger
from tests.provider.providers import (
    BY_HOST,
    DEEPSEEK,
    FOREIGN_HOST,
    FOREIGN_HOSTS,
    GLM,
    KIMI,
    MIMO,
    MINIMAX,
    PROVIDERS,
    Provider,
    at,
)
from tests.provider.refusals import (
    DEEPSEEK_MISSING,
    DIALECTS,
    KIMI_MISSING,
    MIMO_MISSING,
    NO_SUCH_RESPONSE,
    Asked,
    refusal,
    refused,
)
from tests.provider.settings import Settings
from tests.provider.turns import Answer, Call, Event, Issued, Part, RawAnswer, Text, Thought, dump

__all__ = [
    "BY_HOST",
    "DEEPSEEK",
    "DEEPSEEK_MISSING",
    "FOREIGN_HOST",
    "GLM",
    "KIMI",
    "KIMI_MISSING",
    "MIMO",
    "MIMO_MISSING",
    "MINIMAX",
    "PROVIDERS",
    "Provider",
    "Simulator",
    "dump",
    "refusal",
]


NO_JSON = "Failed to parse the request body as JSON"


class Simulator:
    """`say`, `answer_raw` and `refuse` script answers, `requests` is what came in, `ledger` what was said.

    `settings[host]` makes a host stricter or looser than its rule. All of it lasts until `reset`.
    A request without a scripted answer gets what `improvise` says, or 599, which no test expects.
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="provider-")
        self._authority = trustme.CA(organization_name="provider simulator")
        self.ca = Path(self._folder.name) / "ca.pem"
        self._authority.cert_pem.write_to_path(self.ca)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._authority.issue_cert(*BY_HOST, *FOREIGN_HOSTS).configure_cert(self._context)
        self._context.set_alpn_protocols(["http/1.1"])
        self.port = 0
        self.connections = 0
        self.reset()

    def reset(self) -> None:
        self.ledger = Ledger()
        self.requests: list[Request] = []
        self.settings: defaultdict[str, Settings] = defaultdict(Settings)
        self.improvise: Callable[[Asked], Answer | RawAnswer] | None = None
        self._script: defaultdict[str | None, deque[Answer | RawAnswer]] = defaultdict(deque)
        # Responses by id, as the items that a request which names one continues.
        self._kept: dict[str, list[Event]] = {}

    # script

    def say(
        self,
        *parts: Part,
        reasoning: str | None = None,
        text: str = "",
        calls: Sequence[tuple[str, str, str]] = (),
        details: Sequence[Event] = (),
        cached: int = 0,
        conversation: str | None = None,
        pause: float = 0.0,
        cut_after: int | None = None,
        hold_open: float = 0.0,
    ) -> None:
        """Queue one turn; with `conversation` only for requests whose first user message is that text.

        A turn is its reasoning, its text and its calls, or, in any other order, `parts`.
        """
        if not parts:
            thoughts = () if reasoning is None else (Thought(reasoning),)
            parts = (*thoughts, *((Text(text),) if text else ()), *(Call(*call) for call in calls))
        answer = Answer(parts, tuple(details), cached, pause, cut_after, hold_open)
        self._script[conversation].append(answer)

    def answer_raw(
        self,
        status: int,
        headers: Sequence[tuple[str, str]],
        chunks: Sequence[bytes],
        *,
        hold_open: float = 0.0,
        cut: bool = False,
        conversation: str | None = None,
    ) -> None:
        """Queue an answer given as bytes. `cut` drops the connection after the last chunk."""
        self._script[conversation].append(RawAnswer(status, tuple(headers), tuple(chunks), hold_open, cut))

    def refuse(
        self,
        body: bytes,
        status: int = 400,
        content_type: str = "application/json",
        conversation: str | None = None,
    ) -> None:
        """Queue one refusal, whatever the request is."""
        self._script[conversation].append(plain(status, body, content_type))

    def script_coding(self, coding: str, compress: Callable[[bytes], bytes]) -> None:
        """Compress every turn queued so far."""
        for queue in self._script.values():
            turns = [turn for turn in queue if isinstance(turn, Answer)]
            queue.clear()
            queue.extend(msgspec.structs.replace(turn, coding=coding, compress=compress) for turn in turns)

    # account

    def asked(self, conversation: str | None = None, host: str | None = None) -> list[Request]:
        """The requests of a conversation (its first user message), of a host, or of both."""
        return [
            request
            for request in self.requests
            if conversation in (None, request.conversation) and host in (None, request.host)
        ]

    def statuses(self, conversation: str | None = None, host: str | None = None) -> list[int]:
        """What those were answered with, in order: [200, 400, 200] is one refusal and one retry."""
        return [request.status for request in self.asked(conversation, host)]

    # life

    def start(self) -> "Simulator":
        ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, args=(ready,), name="provider", daemon=True)
        self._thread.start()
        if not ready.wait(10):
            raise RuntimeError("the provider simulator did not start within 10 s")
        return self

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._folder.cleanup()

    def _run(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        starting = asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._context, limit=2**26)
        server = self._loop.run_until_complete(starting)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while (request := await read(reader)) is not None:
                self.requests.append(request)
                if not await self._answer(request, writer):
                    break
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError, ssl.SSLError):
            pass  # the other side went away, or the simulator is closing
        finally:
            writer.close()

    async def _answer(self, request: Request, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; False when the connection is over."""
        provider = at(request.host, request.path)
        if provider is None:
            return await self._send_raw(request, plain(200, b"foreign"), writer)
        asked = self._read(request, provider)
        script = self._script.get(request.conversation) or self._script[None]
        if script and isinstance(raw := script[0], RawAnswer):
            script.popleft()
            return await self._send_raw(request, raw, writer)
        if isinstance(asked, RawAnswer):
            return await self._send_raw(request, asked, writer)
        if (no := refused(asked)) is not None:
            return await self._send_raw(request, plain(no.status, no.body, no.content_type), writer)
        if script:
            answer = script.popleft()
        elif self.improvise is not None:
            answer = self.improvise(asked)
        else:
            return await self._send_raw(request, plain(599, b"no answer is scripted"), writer)
        if isinstance(answer, RawAnswer):
            return await self._send_raw(request, answer, writer)
        return await self._say(request, asked, answer, writer)

    def _read(self, request: Request, provider: Provider) -> Asked | RawAnswer:
        """The request as its dialect understands it, judged; or the answer to what no dialect does."""
        settings = self.settings[request.host]
        if field := settings.writes:
            provider = msgspec.structs.replace(provider, writes=field, reads=(field,))
        dialect = provider.dialect(request.path)
        try:
            body = request.json
        except (ValueError, EOFError, OSError, RecursionError):
            return _broken(NO_JSON)
        if dialect is None or not isinstance(body, dict) or not DIALECTS[dialect].fits(body):
            return _broken(NO_JSON)
        speaks = DIALECTS[dialect]
        kept: list[Event] = []
        if (previous := body.get("previous_response_id")) is not None:
            if previous not in self._kept:
                return _broken(NO_SUCH_RESPONSE.format(previous))
            kept = self._kept[previous]
            body = body | {"input": [*kept, *responses.items(body)]}
        request.conversation = speaks.opening(body)
        turns = speaks.turns(provider, body)
        known = speaks.position({"input": kept}) if kept else 0
        request.verdicts = [
            self.ledger.judge(request.host, request.conversation, sent)
            for sent in turns
            if sent.index >= known
        ]
        return Asked(
            provider,
            request.host,
            request.path,
            request.headers,
            dialect,
            body,
            turns,
            request.conversation,
            self.ledger,
            settings,
        )

    async def _say(
        self, request: Request, asked: Asked, answer: Answer, writer: asyncio.StreamWriter
    ) -> bool:
        speaks = DIALECTS[asked.dialect]
        number = len(self.ledger.turns)
        said = speaks.render(asked.provider, asked.body, answer, asked.settings, number)
        place = speaks.position(asked.body)
        self.ledger.turns.append(Issued(request.host, request.conversation, place, answer, said.pieces))
        if said.kept is not None:
            name, items = said.kept
            self._kept[name] = items
        if not asked.body.get("stream"):
            return await self._send_raw(request, plain(200, said.chunks[0]), writer)
        return await self._send_stream(request, said.chunks, answer, writer)

    async def _send_raw(self, request: Request, answer: RawAnswer, writer: asyncio.StreamWriter) -> bool:
        request.status = answer.status
        sized = any(name.lower() == "content-length" for name, _ in answer.headers)
        headers = list(answer.headers) + ([] if sized else [("transfer-encoding", "chunked")])
        writer.write(head(answer.status, headers))
        for part in answer.chunks:
            writer.write(part if sized else chunk(part))
            await writer.drain()
        await asyncio.sleep(answer.hold_open)
        if answer.cut:
            return False
        writer.write(b"" if sized else b"0\r\n\r\n")
        await writer.drain()
        return True

    async def _send_stream(
        self, request: Request, events: list[bytes], answer: Answer, writer: asyncio.StreamWriter
    ) -> bool:
        request.status = 200
        headers = [("content-type", "text/event-stream"), ("transfer-encoding", "chunked")]
        if answer.coding:
            headers.append(("content-encoding", answer.coding))
            squeezed = answer.compress(b"".join(events))
            events = [squeezed[start : start + 37] for start in range(0, len(squeezed), 37)]
        writer.write(head(200, headers))
        for number, event in enumerate(events):
            if number == answer.cut_after:
                return False
            sent = b": sent %d\n" % time.monotonic_ns() if self.settings[request.host].clock else b""
            writer.write(chunk(sent + event))
            await writer.drain()
            if answer.pause:
                await asyncio.sleep(answer.pause)
        if answer.hold_open:
            await asyncio.sleep(answer.hold_open)
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True


def _broken(message: str) -> RawAnswer:
    return plain(400, dump({"error": {"message": message, "type": "invalid_request_error"}}))
