"""A strict provider simulator: real TLS on loopback, each provider's own stream, each provider's refusals.

Strategy: one asyncio HTTP/1.1 server in a thread answers for every host below, told by the Host header.
A test scripts the answers; the simulator keeps a ledger of every turn it issued and judges every assistant
message that comes back. It knows nothing of the proxy. Sources of shapes and texts: the links per provider.
"""

import asyncio
import gzip
import itertools
import json
import re
import ssl
import tempfile
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import trustme

type Verdict = Literal["exact", "missing", "blank", "wrong", "unknown"]
type Event = dict[str, Any]

FOREIGN_HOST = "files.example.org"
CREATED = 1795000001


class Provider(msgspec.Struct, frozen=True):
    """One provider as a client names it: host, base URL of its SDK, a model that thinks."""

    name: str
    host: str
    base_url: str
    model: str

    @property
    def chat_path(self) -> str:
        return self.base_url.removeprefix(f"https://{self.host}") + "/chat/completions"


DEEPSEEK = Provider("deepseek", "api.deepseek.com", "https://api.deepseek.com", "deepseek-flash")
KIMI = Provider("kimi", "api.moonshot.ai", "https://api.moonshot.ai/v1", "kimi-k2.6")
GLM = Provider("glm", "api.z.ai", "https://api.z.ai/api/paas/v4", "glm-5.3-flash")
MIMO = Provider("mimo", "api.xiaomimimo.com", "https://api.xiaomimimo.com/v1", "mimo-v2.5-pro")
MINIMAX = Provider("minimax", "api.minimax.io", "https://api.minimax.io/v1", "MiniMax-M2.7")
PROVIDERS = (DEEPSEEK, KIMI, GLM, MIMO, MINIMAX)
BY_HOST = {provider.host: provider for provider in PROVIDERS}


class Call(msgspec.Struct, frozen=True):
    id: str
    name: str
    arguments: str


class Answer(msgspec.Struct, frozen=True):
    """One scripted turn. `reasoning` None means that the model did not think at all.

    `pause` seconds lie between events; `cut_after` events the connection drops; `hold_open` seconds it stays
    open after `[DONE]` without the end of the body; `coding` names what `compress` does to the stream.
    """

    reasoning: str | None = None
    text: str = ""
    calls: tuple[Call, ...] = ()
    pause: float = 0.0
    cut_after: int | None = None
    hold_open: float = 0.0
    coding: str = ""
    compress: Callable[[bytes], bytes] = bytes


class RawAnswer(msgspec.Struct, frozen=True):
    """An answer given as bytes: chunks of a chunked body, or a plain body if there is a content-length."""

    status: int
    headers: tuple[tuple[str, str], ...]
    chunks: tuple[bytes, ...]
    hold_open: float = 0.0
    cut: bool = False


class Issued(msgspec.Struct, frozen=True):
    """One turn in the ledger: who said it, where in which conversation, and what."""

    host: str
    conversation: str
    position: int
    reasoning: str | None
    text: str
    calls: tuple[Call, ...]


class Request(msgspec.Struct):
    """One request as it came in; `status` is what it was answered with."""

    host: str
    path: str
    headers: dict[str, str]
    body: bytes
    verdicts: list[Verdict] = []
    conversation: str = ""
    status: int = 0

    @property
    def json(self) -> Any:
        body = gzip.decompress(self.body) if self.headers.get("content-encoding") == "gzip" else self.body
        return json.loads(body)


def dump(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


# --- refusals -----------------------------------------------------------------------------------------------

DEEPSEEK_MISSING = "The `reasoning_content` in the thinking mode must be passed back to the API."
DEEPSEEK_EMPTY_TURN = "Invalid assistant message: content or tool_calls must be set"
KIMI_MISSING = (
    "thinking is enabled but reasoning_content is missing in assistant tool call message at index {}"
)
KIMI_ALWAYS_THINKS = "invalid thinking: only type=enabled is allowed for this model"
MIMO_MISSING = "The reasoning_content in the thinking mode must be passed back to the API."
MIMO_NULL_CONTENT = "`text` is not set"
MINIMAX_PAIRING = "invalid params, tool call result does not follow tool call (2013)"


def refusal(provider: Provider, body: Event, had_none: Callable[[int], bool]) -> bytes | None:
    """The body of the 400 this provider answers, or None. `had_none`: was a turn issued without thought?"""
    messages: list[Event] = body["messages"]
    turns = [(index, message) for index, message in enumerate(messages) if message.get("role") == "assistant"]
    thinking_off = (body.get("thinking") or {}).get("type") == "disabled"
    if provider is DEEPSEEK:
        return _refused_by_deepseek(body, turns, thinking_off, had_none)
    if provider is KIMI:
        return _refused_by_kimi(body.get("model", ""), turns, thinking_off)
    if provider is MIMO:
        return _refused_by_mimo(turns, thinking_off)
    if provider is MINIMAX:
        return _refused_by_minimax(messages)
    return None  # GLM: no 400 for missing reasoning was ever seen; https://docs.z.ai/guides/capabilities/thinking-mode


def _absent(message: Event) -> bool:
    return message.get("reasoning_content") is None


def _refused_by_deepseek(
    body: Event, turns: list[tuple[int, Event]], thinking_off: bool, had_none: Callable[[int], bool]
) -> bytes | None:
    """A request with tools carries every turn's reasoning: https://api-docs.deepseek.com/guides/thinking_mode."""
    text = ""
    if any(
        not message.get("content") and not message.get("tool_calls") and message.get("content") != ""
        for _, message in turns
    ):
        text = DEEPSEEK_EMPTY_TURN
    elif (
        body.get("tools")
        and not thinking_off
        and any(
            _absent(message) and not message.get("prefix") and not had_none(index) for index, message in turns
        )
    ):
        text = DEEPSEEK_MISSING
    kind = "invalid_request_error"
    return dump({"error": {"message": text, "type": kind, "param": None, "code": kind}}) if text else None


def _refused_by_kimi(model: str, turns: list[tuple[int, Event]], thinking_off: bool) -> bytes | None:
    """K2.7 wants the key on every turn, K3 on none.

    https://platform.kimi.ai/docs/guide/use-kimi-k2-thinking-model
    """
    text = ""
    every = "k2.7" in model
    if every and thinking_off:
        text = KIMI_ALWAYS_THINKS
    elif (every or "k2.5" in model or "k2.6" in model) and not thinking_off:
        missing = (index for index, turn in turns if (every or turn.get("tool_calls")) and _absent(turn))
        index = next(missing, None)
        text = "" if index is None else KIMI_MISSING.format(index)
    return dump({"error": {"message": text, "type": "invalid_request_error"}}) if text else None


def _refused_by_mimo(turns: list[tuple[int, Event]], thinking_off: bool) -> bytes | None:
    """The body begins with `data:`.

    https://mimo.mi.com/docs/en-US/usage-guide/passing-back-reasoning_content
    """
    called = [turn for _, turn in turns if turn.get("tool_calls")]
    text = ""
    if any(turn.get("content") is None for turn in called):
        text = MIMO_NULL_CONTENT
    elif not thinking_off and any(_absent(turn) for turn in called):
        text = MIMO_MISSING
    error = {"error": {"code": "400", "message": "Param Incorrect", "param": text, "type": ""}}
    return b"data:" + dump(error) if text else None


def _refused_by_minimax(messages: list[Event]) -> bytes | None:
    """Missing reasoning is never refused; a tool result without its call is."""
    open_ids: set[str] = set()
    for message in messages:
        if message.get("role") == "tool" and message.get("tool_call_id") not in open_ids:
            error = {"type": "bad_request_error", "message": MINIMAX_PAIRING, "http_code": "400"}
            return dump({"type": "error", "error": error})
        if message.get("role") == "assistant":
            open_ids = {call["id"] for call in message.get("tool_calls") or ()}
    return None


# --- answers ------------------------------------------------------------------------------------------------


def pieces(text: str) -> list[str]:
    """Tokens, roughly: words with the white space before them, and CJK text character by character."""
    return re.findall(r"\s*[\u3000-\u9fff]|\s*[^\s\u3000-\u9fff]+|\s+", text)


def halves(arguments: str) -> tuple[str, str]:
    middle = len(arguments) // 2
    return arguments[:middle], arguments[middle:]


def usage(answer: Answer) -> Event:
    thought, said = len(pieces(answer.reasoning or "")), len(pieces(answer.text)) + 12 * len(answer.calls)
    return {
        "prompt_tokens": 64,
        "completion_tokens": thought + said,
        "total_tokens": 64 + thought + said,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": thought},
    }


def finish(answer: Answer) -> str:
    return "tool_calls" if answer.calls else "stop"


def _wire(call: Call) -> Event:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}


def stream(provider: Provider, body: Event, answer: Answer) -> list[bytes]:
    """The server-sent events of one answer, one item per event, in the provider's own shape."""
    model = body.get("model", provider.model)
    include_usage = bool((body.get("stream_options") or {}).get("include_usage"))
    if provider is DEEPSEEK:
        payloads = _deepseek_stream(model, answer, include_usage)
    elif provider is KIMI:
        payloads = _kimi_stream(model, answer)
    elif provider is GLM:
        payloads = _glm_stream(model, answer)
    elif provider is MIMO:
        payloads = _mimo_stream(model, answer)
    else:
        payloads = _minimax_stream(model, answer, bool(body.get("reasoning_split")))
    comments = [b": keep-alive\n\n", b": keep-alive\n\n"] if provider is DEEPSEEK else []
    return [*comments, *(b"data: " + dump(payload) + b"\n\n" for payload in payloads), b"data: [DONE]\n\n"]


def _deepseek_stream(model: str, answer: Answer, include_usage: bool) -> Iterator[Event]:
    def event(delta: Event, done: str | None = None, **more: Any) -> Event:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": done}
        return {**head, "choices": [choice], "usage": None, **more}

    head: Event = {"id": "5f0c1b6e-3a53-4a57-9d6a-0d7a5c1e2b11", "object": "chat.completion.chunk"}
    head |= {"created": CREATED, "model": model, "system_fingerprint": "fp_9b1f3d2c7a_prod1017_fp8_kvcache"}
    yield event({"role": "assistant", "content": None, "reasoning_content": ""})
    for piece in pieces(answer.reasoning or ""):
        yield event({"content": None, "reasoning_content": piece})
    for piece in pieces(answer.text):
        yield event({"content": piece, "reasoning_content": None})
    for index, call in enumerate(answer.calls):
        named = {"index": index, "id": call.id, "type": "function"}
        yield event({"tool_calls": [{**named, "function": {"name": call.name, "arguments": ""}}]})
        for half in halves(call.arguments):
            yield event({"tool_calls": [{"index": index, "function": {"arguments": half}}]})
    figures = usage(answer) | {"prompt_cache_hit_tokens": 0, "prompt_cache_miss_tokens": 64}
    last = {"content": "", "reasoning_content": None}
    if include_usage:
        yield event(last, finish(answer))
        yield {**head, "choices": [], "usage": figures}
    else:
        yield event(last, finish(answer), usage=figures)


def _kimi_stream(model: str, answer: Answer) -> Iterator[Event]:
    def event(delta: Event, done: str | None = None, **more: Any) -> Event:
        choice = {"index": 0, "delta": delta, "finish_reason": done, **more}
        return {**head, "choices": [choice], "system_fingerprint": "fpv0_5de57c9a"}

    head: Event = {"id": "chatcmpl-6a996bee5039906008340e92", "object": "chat.completion.chunk"}
    head |= {"created": CREATED, "model": model}
    yield event({"role": "assistant", "content": ""})
    if answer.reasoning is not None:
        for piece in pieces(answer.reasoning):
            yield event({"reasoning_content": piece})
        yield event({"reasoning_content": ""})
    for piece in pieces(answer.text):
        yield event({"content": piece})
    for index, call in enumerate(answer.calls):
        named = {"index": index, "id": call.id, "type": "function"}
        yield event({"tool_calls": [{**named, "function": {"name": call.name, "arguments": ""}}]})
        for half in halves(call.arguments):
            yield event({"tool_calls": [{"index": index, "function": {"arguments": half}}]})
    figures = usage(answer) | {"cached_tokens": 0}
    yield event({}, finish(answer), usage=figures)
    yield {**head, "choices": [], "usage": figures}


def _glm_stream(model: str, answer: Answer) -> Iterator[Event]:
    def event(delta: Event) -> Event:
        return {**head, "choices": [{"index": 0, "delta": {"role": "assistant", **delta}}]}

    head: Event = {
        "id": "202611201051426204143a950c4c50",
        "created": CREATED,
        "object": "chat.completion.chunk",
    }
    head |= {"model": model}
    yield from (event({"reasoning_content": piece}) for piece in pieces(answer.reasoning or ""))
    yield from (event({"content": piece}) for piece in pieces(answer.text))
    for index, call in enumerate(answer.calls):
        function = {"name": call.name, "arguments": call.arguments}
        yield event(
            {"tool_calls": [{"id": call.id, "index": index, "type": "function", "function": function}]}
        )
    last = {"index": 0, "finish_reason": finish(answer), "delta": {"role": "assistant", "content": ""}}
    yield {**head, "choices": [last], "usage": usage(answer)}


def _mimo_stream(model: str, answer: Answer) -> Iterator[Event]:
    def event(done: str | None = None, **delta: Any) -> Event:
        empty = {"content": None, "role": None, "tool_calls": None, "reasoning_content": None}
        choice = {"index": 0, "delta": empty | delta, "finish_reason": done}
        return {**head, "choices": [choice], "usage": None}

    head: Event = {"id": "d1f0a9a2b7c94c0d8f4e", "object": "chat.completion.chunk"}
    head |= {"created": CREATED, "model": model}
    yield event(content="", role="assistant")
    yield from (event(reasoning_content=piece) for piece in pieces(answer.reasoning or ""))
    yield from (event(content=piece) for piece in pieces(answer.text))
    for index, call in enumerate(answer.calls):
        call_head = {"index": index, "type": "function"}
        yield event(
            tool_calls=[{**call_head, "id": call.id, "function": {"name": call.name, "arguments": ""}}]
        )
        for half in halves(call.arguments):
            yield event(tool_calls=[{**call_head, "id": None, "function": {"name": None, "arguments": half}}])
    yield event(finish(answer))
    yield {**head, "choices": [], "usage": usage(answer)}


def _details(text: str) -> list[Event]:
    item = {"type": "reasoning.text", "id": "reasoning-text-1", "format": "MiniMax-response-v1"}
    return [{**item, "index": 0, "text": text}]


def tagged(reasoning: str | None, text: str) -> str:
    return text if reasoning is None else f"<think>\n{reasoning}\n</think>\n\n{text}"


def _minimax_stream(model: str, answer: Answer, split: bool) -> Iterator[Event]:
    def event(delta: Event, done: str | None = None) -> Event:
        whole = {"role": "assistant", "name": "MiniMax AI", "audio_content": "", "content": "", **delta}
        choice = {"index": 0, "delta": whole, "finish_reason": done}
        return {**head, "choices": [choice], "usage": None, **flags}

    head: Event = {"id": "05b81ca0f4650e5d7a3c9e1f2b4d6a80", "created": CREATED, "model": model}
    head |= {"object": "chat.completion.chunk"}
    flags = {"input_sensitive": False, "output_sensitive": False, "input_sensitive_type": 0}
    if split:
        for piece in pieces(answer.reasoning or ""):
            yield event({"reasoning_content": piece, "reasoning_details": _details(piece)})
        yield from (event({"content": piece}) for piece in pieces(answer.text))
    else:  # the tags arrive in two halves, as they do on the wire
        for piece in re.findall(r"(?s).{1,5}", tagged(answer.reasoning, answer.text)):
            yield event({"content": piece})
    for index, call in enumerate(answer.calls):
        function = {"name": call.name, "arguments": call.arguments}
        yield event(
            {"tool_calls": [{"id": call.id, "index": index, "type": "function", "function": function}]}
        )
    yield event({}, finish(answer))
    yield {
        **head,
        "choices": [],
        "usage": usage(answer),
        **flags,
        "base_resp": {"status_code": 0, "status_msg": ""},
    }


def whole(provider: Provider, body: Event, answer: Answer) -> bytes:
    """The body of an answer that is not streamed, in the provider's own shape."""
    message: Event = {"role": "assistant", "content": answer.text}
    if provider is MINIMAX:
        message |= {"name": "MiniMax AI", "audio_content": ""}
        if not body.get("reasoning_split"):
            message["content"] = tagged(answer.reasoning, answer.text)
        elif answer.reasoning is not None:
            message |= {
                "reasoning_content": answer.reasoning,
                "reasoning_details": _details(answer.reasoning),
            }
    elif answer.reasoning is not None:
        message["reasoning_content"] = answer.reasoning
    if answer.calls:
        index = itertools.count()
        message["tool_calls"] = [
            ({} if provider is MIMO else {"index": next(index)})
            | {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in answer.calls
        ]
    choice = {"index": 0, "message": message, "finish_reason": finish(answer)}
    result: Event = {
        "id": "7a630f5b-b7e6-4878-82f8-d77db164d42b",
        "object": "chat.completion",
        "created": CREATED,
    }
    result |= {"model": body.get("model"), "choices": [choice], "usage": usage(answer)}
    if provider is MINIMAX:
        result["base_resp"] = {"status_code": 0, "status_msg": ""}
    # Blank lines are DeepSeek's keep-alive of answers that are not streamed.
    return (b"\n\n\n\n" if provider is DEEPSEEK else b"") + dump(result)


# --- the ledger ---------------------------------------------------------------------------------------------


def visible(text: str) -> str:
    return re.sub(r"(?s)<think>.*?</think>", "", text).strip()


def content_text(message: Event) -> str:
    content = message.get("content") or ""
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def conversation_of(messages: Sequence[Event]) -> str:
    """A conversation is known by its first user message: tests give each its own."""
    return next((content_text(message) for message in messages if message.get("role") == "user"), "")


class Ledger:
    """Every turn the simulator issued, found again by tool-call id or by text."""

    def __init__(self) -> None:
        self.turns: list[Issued] = []

    def find(self, host: str, conversation: str, position: int, message: Event) -> list[Issued]:
        ids = {call.get("id") for call in message.get("tool_calls") or ()}
        text = visible(content_text(message))
        here = [turn for turn in self.turns if turn.host == host]
        if ids:
            found = [turn for turn in here if ids & {call.id for call in turn.calls}]
        else:
            found = [turn for turn in here if not turn.calls and visible(turn.text) == text]
            # A turn whose stream was broken off comes back as its beginning.
            found = found or [turn for turn in here if text and visible(turn.text).startswith(text)]
        found = [turn for turn in found if turn.conversation == conversation] or found
        return [turn for turn in found if turn.position == position] or found

    def judge(self, host: str, conversation: str, position: int, message: Event) -> Verdict:
        found = self.find(host, conversation, position, message)
        if not found:
            return "unknown"
        sent = _reasoning_of(message)
        if any(sent == turn.reasoning or (not sent and not turn.reasoning) for turn in found):
            return "exact"
        if sent is None:
            return "missing"
        return "wrong" if sent.strip() else "blank"


def _reasoning_of(message: Event) -> str | None:
    """The reasoning a message carries, in the field its provider reads."""
    if details := message.get("reasoning_details"):
        return "".join(item.get("text", "") for item in details)
    if (tags := re.search(r"(?s)<think>\n(.*?)\n</think>\n\n", content_text(message))) is not None:
        return tags[1]
    return message.get("reasoning_content")


# --- the server ---------------------------------------------------------------------------------------------


class Simulator:
    """`say` and `answer_raw` script answers, `requests` is what came in, `ledger` what was said.

    A request without a scripted answer gets 599, which no test expects.
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="provider-")
        self._authority = trustme.CA(organization_name="provider simulator")
        self.ca = Path(self._folder.name) / "ca.pem"
        self._authority.cert_pem.write_to_path(self.ca)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._authority.issue_cert(*BY_HOST, FOREIGN_HOST).configure_cert(self._context)
        self._context.set_alpn_protocols(["http/1.1"])
        self.port = 0
        self.connections = 0
        self.reset()

    def reset(self) -> None:
        self.ledger = Ledger()
        self.requests: list[Request] = []
        self._script: defaultdict[str | None, deque[Answer | RawAnswer]] = defaultdict(deque)

    # script

    def say(
        self,
        *,
        reasoning: str | None = None,
        text: str = "",
        calls: Sequence[tuple[str, str, str]] = (),
        conversation: str | None = None,
        pause: float = 0.0,
        cut_after: int | None = None,
        hold_open: float = 0.0,
    ) -> None:
        """Queue one turn; with `conversation` only for requests whose first user message is that text."""
        made = tuple(Call(*call) for call in calls)
        self._script[conversation].append(Answer(reasoning, text, made, pause, cut_after, hold_open))

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

    def script_coding(self, coding: str, compress: Callable[[bytes], bytes]) -> None:
        """Compress every turn queued so far."""
        for queue in self._script.values():
            turns = [turn for turn in queue if isinstance(turn, Answer)]
            queue.clear()
            queue.extend(msgspec.structs.replace(turn, coding=coding, compress=compress) for turn in turns)

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
            while (request := await _read(reader)) is not None:
                self.requests.append(request)
                if not await self._answer(request, writer):
                    break
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError, ssl.SSLError):
            pass  # the other side went away, or the simulator is closing
        finally:
            writer.close()

    async def _answer(self, request: Request, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; False when the connection is over."""
        provider = BY_HOST.get(request.host)
        body = _chat_body(request)
        if provider is None:
            return await self._send_raw(request, _plain(200, b"foreign"), writer)
        if body is not None:
            self._judge(request, body)
        script = (
            self._script[request.conversation]
            if self._script.get(request.conversation)
            else self._script[None]
        )
        if script and isinstance(raw := script[0], RawAnswer):
            script.popleft()
            return await self._send_raw(request, raw, writer)
        if body is None:
            error = dump({"error": {"message": "Failed to parse the request body as JSON"}})
            return await self._send_raw(request, _plain(400, error), writer)

        def had_none(index: int) -> bool:
            found = self.ledger.find(request.host, request.conversation, index, body["messages"][index])
            return bool(found) and all(not turn.reasoning for turn in found)

        if (refused := refusal(provider, body, had_none)) is not None:
            return await self._send_raw(request, _plain(400, refused), writer)
        if not script:
            return await self._send_raw(request, _plain(599, b"no answer is scripted"), writer)
        answer = script.popleft()
        assert isinstance(answer, Answer)
        position = len(body["messages"])
        told = Issued(
            request.host, request.conversation, position, answer.reasoning, answer.text, answer.calls
        )
        self.ledger.turns.append(told)
        if not body.get("stream"):
            return await self._send_raw(request, _plain(200, whole(provider, body, answer)), writer)
        return await self._send_stream(request, stream(provider, body, answer), answer, writer)

    def _judge(self, request: Request, body: Event) -> None:
        request.conversation = conversation_of(body["messages"])
        request.verdicts = [
            self.ledger.judge(request.host, request.conversation, index, message)
            for index, message in enumerate(body["messages"])
            if message.get("role") == "assistant"
        ]

    async def _send_raw(self, request: Request, answer: RawAnswer, writer: asyncio.StreamWriter) -> bool:
        request.status = answer.status
        plain = any(name.lower() == "content-length" for name, _ in answer.headers)
        headers = list(answer.headers) + ([] if plain else [("transfer-encoding", "chunked")])
        writer.write(_head(answer.status, headers))
        for chunk in answer.chunks:
            writer.write(chunk if plain else _chunk(chunk))
            await writer.drain()
        await asyncio.sleep(answer.hold_open)
        if answer.cut:
            return False
        writer.write(b"" if plain else b"0\r\n\r\n")
        await writer.drain()
        return True

    async def _send_stream(
        self, request: Request, events: list[bytes], answer: Answer, writer: asyncio.StreamWriter
    ) -> bool:
        request.status = 200
        headers = [("content-type", "text/event-stream"), ("transfer-encoding", "chunked")]
        if answer.coding:
            headers.append(("content-encoding", answer.coding))
            squeeze = answer.compress(b"".join(events))
            events = [squeeze[at : at + 37] for at in range(0, len(squeeze), 37)]
        writer.write(_head(200, headers))
        for number, event in enumerate(events):
            if number == answer.cut_after:
                return False
            writer.write(_chunk(event))
            await writer.drain()
            if answer.pause:
                await asyncio.sleep(answer.pause)
        if answer.hold_open:
            await asyncio.sleep(answer.hold_open)
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True


def _chat_body(request: Request) -> Event | None:
    try:
        body = request.json
    except (ValueError, EOFError, OSError, RecursionError):
        return None
    messages = body.get("messages") if isinstance(body, dict) else None
    fine = isinstance(messages, list) and all(isinstance(message, dict) for message in messages)
    return body if fine and request.path.endswith("/chat/completions") else None


def _plain(status: int, body: bytes) -> RawAnswer:
    headers = (("content-type", "application/json"), ("content-length", str(len(body))))
    return RawAnswer(status, headers, (body,))


def _head(status: int, headers: Sequence[tuple[str, str]]) -> bytes:
    lines = [f"HTTP/1.1 {status} Said", *(f"{name}: {value}" for name, value in headers)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data) if data else b""


async def _read(reader: asyncio.StreamReader) -> Request | None:
    """One request, its body as it was sent; None when the connection ended between requests."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.rstrip("\r\n").split("\r\n")
    headers = {
        name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
    }
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = b""
        while size := int((await reader.readline()).split(b";")[0], 16):
            body += (await reader.readexactly(size + 2))[:size]
        await reader.readline()
    else:
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    host = headers.get("host", "").partition(":")[0].lower()
    return Request(host, first.split(" ")[1], headers, body)
