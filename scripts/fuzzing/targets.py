"""What hostile bytes are tried on, each with the promise that must hold for any of them.

A target takes one input and returns, or raises where a promise is broken. It keeps nothing from one input to
the next.
"""

import gzip
import json
import tempfile
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

import msgspec
from mitmproxy import connection, http
from mitmproxy.proxy.mode_specs import ProxyMode

from reasoning_fix.captures.flow_files import CaptureError, load
from reasoning_fix.dialects import DIALECTS
from reasoning_fix.dialects.splice import SpliceError
from reasoning_fix.dialects.wire import NotChatError
from reasoning_fix.engine import tap as tap_room
from reasoning_fix.engine.engine import Engine
from reasoning_fix.engine.history import visible
from reasoning_fix.engine.originals import undone
from reasoning_fix.providers import refusals
from reasoning_fix.providers.files import ProviderTableError
from reasoning_fix.providers.lessons import Lessons
from reasoning_fix.providers.table import load_table
from reasoning_fix.proxy import callers, metadata
from reasoning_fix.proxy.chat_request import chat_request
from reasoning_fix.proxy.explain import explain
from reasoning_fix.proxy.inspection.requests import Told
from reasoning_fix.proxy.inspection.transcript import Ended, answer_text, request_text
from reasoning_fix.proxy.stats.book import Book
from reasoning_fix.store import Record
from reasoning_fix.store.memory import MemoryStore
from reasoning_fix.store.sealing import Installation, lasting
from reasoning_fix.streams.coding import CodingError, decoder
from reasoning_fix.streams.copies import Copy
from reasoning_fix.streams.events import EventReader, EventTooLong
from scripts.fuzzing.mutations import Pairs
from scripts.fuzzing.worlds import World, pieces, worlds
from tests.conversations import SECRET

type Target = Callable[[bytes], None]

CODINGS = ("gzip", "deflate", "br", "zstd", "gzip, br", "zstd, zstd, gzip, deflate", "identity", "unknown")
_REASONING = ("reasoning_content", "reasoning", "reasoning_details")
_UNFOLDED = 1 << 16
_EVENT = 200


# ---- Streams -----------------------------------------------------------------------------------------------


def events(data: bytes) -> None:
    """Any split gives the same events and the same fault, and what is kept of an event is bounded."""
    seed, body = data[:2], data[2:]
    for most in (_EVENT, 1 << 24):
        whole = _events([body], most)
        assert _events(pieces(body, int.from_bytes(seed)), most) == whole
    assert _events([body[at : at + 1] for at in range(min(len(body), 400))], most) == _events(
        [body[:400]], most
    )


def _events(chunks: Iterable[bytes], most: int) -> tuple[list[bytes], bool]:
    reader = EventReader(most)
    found: list[bytes] = []
    too_long = False
    for chunk in chunks:
        try:
            found += reader.feed(chunk)
        except EventTooLong:
            too_long = True
        kept = sum(map(len, reader._fragments)) + sum(len(line) + 1 for line in reader._data)
        assert kept <= most + 1, "more is kept of an event than the bound allows"
    try:
        found += reader.end()
        # A fault behind the last payload is said by the call after it.
        reader.feed(b"")
    except EventTooLong:
        too_long = True
    return found, too_long


def codings(data: bytes) -> None:
    """A body unfolds to no more than the bound, or is refused; a copy of it stays in its own bound."""
    coding, body = CODINGS[data[0] % len(CODINGS)] if data else "", data[2:]
    chunks = pieces(body, data[1] if len(data) > 1 else 0)
    if (opener := decoder(coding, _UNFOLDED)) is not None:
        size = 0
        for chunk in chunks:
            try:
                size += len(opener.feed(chunk))
            except CodingError:
                break
            assert size <= _UNFOLDED or coding == "identity", "the body unfolds beyond the bound"
    copy = Copy(1000, coding)
    for chunk in chunks:
        copy.add(chunk)
    for complete in (True, False):
        kept = copy.kept(complete)
        assert kept is None or len(kept.data) <= 1000 + 100, "the copy is larger than its bound"


# ---- Answers -----------------------------------------------------------------------------------------------


def answers(data: bytes) -> None:
    """A tap hands on every chunk, at any split, never fails, and records the same, which can be sent back."""
    name, flags, seed, body = _world(data[:1]), data[1:2], data[2:4], data[4:]
    flag = flags[0] if flags else 0
    coding = "gzip" if flag & 2 else ""
    if coding:
        body = gzip.compress(body, 1, mtime=0)
    streamed, length = not flag & 1, len(body) if flag & 4 else None
    chunks = pieces(body, int.from_bytes(seed))
    complete = not flag & 8
    recorded = _recorded(name, chunks, coding, streamed, length, complete, bool(flag & 16))
    if complete or not coding:
        assert _recorded(name, [body], coding, streamed, length, complete, bool(flag & 16)) == recorded


def _recorded(
    name: str,
    chunks: list[bytes],
    coding: str,
    streamed: bool,
    length: int | None,
    complete: bool,
    snapshots: bool,
) -> list[tuple[object, bool]]:
    world = worlds()[name]
    exchange = world.exchange()
    exchange.recorder.caller = msgspec.structs.replace(exchange.caller, snapshots=snapshots)
    store = world.scene.store
    assert isinstance(store, MemoryStore)
    known = {record.key for _, record in store.take()}
    said: list[str] = []
    was, tap_room._say = tap_room._say, said.append
    try:
        tap = exchange.tap(coding, streamed=streamed, length=length, keep=1000)
        for chunk in chunks:
            assert tap(chunk) is chunk or not chunk, "a chunk was changed"
        if complete:
            assert not tap(b""), "the end was changed"
        tap.finish(complete)
        tap.kept(complete)
    finally:
        tap_room._say = was
    assert not any("in reasoning-fix" in line for line in said), said
    records = [record for _, record in store.take() if record.key not in known]
    for record in records:
        _send_back(world, record)
    return [(_opened(world, record), record.complete) for record in records]


def _opened(world: World, record: Record) -> object:
    return msgspec.msgpack.decode(world.caller.scope.open(record.sealed, record.key))


def _send_back(world: World, record: Record) -> None:
    """A client sends back what it saw of an answer: the request stays JSON that a provider can read."""
    opened = _opened(world, record)
    assert isinstance(opened, dict)
    text: str = opened.get("text", "")
    history = [*msgspec.json.decode(world.first)[world.scene.member], {"role": "assistant", "content": text}]
    body = json.dumps({"model": world.scene.model, world.scene.member: history})
    restored = world.scene.restore_body(body.encode(), world.caller)
    if restored.is_changed:
        msgspec.json.decode(restored.body)


def _world(chosen: bytes) -> str:
    names = list(worlds())
    return names[chosen[0] % len(names)] if chosen else names[0]


# ---- Requests ----------------------------------------------------------------------------------------------


def _requests(*names: str) -> Target:
    def target(data: bytes) -> None:
        for name in names:
            _restored(worlds()[name], data)

    target.__doc__ = "A body goes on as it came, or with nothing changed but the reasoning; twice is once."
    return target


def _restored(world: World, body: bytes) -> None:
    try:
        restored = world.fresh().restore_body(body, world.caller)
    except (NotChatError, SpliceError):
        return
    if not restored.is_changed:
        return
    dialect, was = world.caller.endpoint.dialect, restored.report.before
    assert was is not None, "a body was changed, and nothing says how to undo it"
    assert world.fresh().restore_body(body, world.caller).body == restored.body, "not the same twice"
    again = world.fresh().restore_body(restored.body, world.caller).body
    assert again == restored.body, "what was restored is restored again"
    try:
        came, went = _bare(body, dialect, was.settings), _bare(restored.body, dialect, was.settings)
        is_same = came == went
    except RecursionError:
        return  # too deep to be compared
    assert is_same, "more than the reasoning was changed"
    undo = undone(restored.body, dialect, was)
    if undo is None:
        assert _is_doubtful(body), "what was changed cannot be undone"
        return
    assert _bare(undo, dialect, {}) == _bare(body, dialect, {}), "undone is not what the client sent"


def _is_doubtful(body: bytes) -> bool:
    """Whether members cannot be placed without doubt: a name comes twice, or a text is not UTF-8."""
    repeats = []

    def look(members: list[tuple[str, object]]) -> None:
        repeats.append(len(dict(members)) < len(members))

    try:
        json.loads(body.decode(), object_pairs_hook=look)
    except UnicodeDecodeError:
        return True
    return any(repeats)


def _bare(body: bytes, dialect: str, settings: Iterable[str]) -> object:
    """A request without reasoning, in one spelling, repeated names and odd numbers as they came."""
    top = json.loads(
        body.decode("latin-1"), object_pairs_hook=Pairs, parse_int=str, parse_float=str, parse_constant=str
    )
    array = "input" if dialect == "responses" else "messages"
    bare = []
    for name, value in top:
        if name in settings:
            continue
        if name == array and isinstance(value, list) and not isinstance(value, Pairs):
            if dialect == "responses":
                value = [one for one in value if not _has_type(one, "reasoning")]
            value = [_message(one, dialect) for one in value]
        bare.append((name, value))
    return bare


def _has_type(one: object, *types: str) -> bool:
    return isinstance(one, Pairs) and any(("type", kind) in one for kind in types)


def _message(one: object, dialect: str) -> object:
    if dialect == "responses" or not isinstance(one, Pairs) or ("role", "assistant") not in one:
        return one
    rest = [pair for pair in one if pair[0] not in (*_REASONING, "content")]
    bare = _chat_content if dialect == "chat_completions" else _blocks
    said = [bare(value) for name, value in one if name == "content"]
    # No content, null, and none but reasoning are one.
    return rest, [value for value in said if value not in (None, "", [])]


def _chat_content(value: object) -> object:
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, list) and not isinstance(value, Pairs):
        return [_part(part) for part in value]
    return value


def _part(part: object) -> object:
    if not isinstance(part, Pairs):
        return part
    return [(name, visible(value) if name == "text" and isinstance(value, str) else value)
            for name, value in part]  # fmt: skip


def _blocks(value: object) -> object:
    if isinstance(value, str):
        return [Pairs([("type", "text"), ("text", value)])] if value.strip() else []
    if isinstance(value, list) and not isinstance(value, Pairs):
        return [part for part in value if not _has_type(part, "thinking", "redacted_thinking")]
    return value


# ---- Files and notes ---------------------------------------------------------------------------------------


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    """A folder for files that are read; it goes with the process."""
    return tempfile.TemporaryDirectory(prefix="fuzz-")


def _file(name: str, data: bytes) -> Path:
    path = Path(_folder().name) / name
    path.write_bytes(data)
    return path


def provider_table(data: bytes) -> None:
    """Any file is a table, or is refused with its own error, which names a line of the file."""
    path = _file("providers.toml", data)
    try:
        load_table(path)
    except ProviderTableError as error:
        assert 1 <= error.line <= data.count(b"\n") + data.count(b"\r") + 1, error


def lessons(data: bytes) -> None:
    """Any file of lessons is read or forgotten, and no lesson in it breaks a request."""
    path = _file("lessons.json", data)
    found = Lessons(path)
    for lesson in found.all():
        lesson.text()
    world = worlds()["chat"]
    scene = world.fresh()
    scene.lessons = found
    try:
        restored = scene.restore_body(world.body, world.caller)
    finally:
        scene.lessons = Lessons(None)
    if restored.is_changed:
        msgspec.json.decode(restored.body)


def counts(data: bytes) -> None:
    """Any file of counts is read or set aside."""
    path = _file("counts.sqlite3", data)
    Book(path).counts()


def refusal(data: bytes) -> None:
    """Any body is a refusal that is known, or none."""
    refusals.recognise(data, worlds()["chat"].scene.table)


def flow_notes(data: bytes) -> None:
    """Notes from anywhere are notes, or none, and undoing by them gives a body or nothing."""
    try:
        given = msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return
    known = metadata.read({metadata.KEY: given})
    if known is None:
        return
    assert isinstance(known.altered, bool)
    assert len(known.treated) == len(known.turns)
    known.taught("h", "d", "f")
    for name, world in worlds().items():
        was = known.before
        if was is not None and name in ("chat", "messages", "responses"):
            undone(world.body, known.dialect if known.dialect in DIALECTS else name, was)


def flow_files(data: bytes) -> None:
    """Any file is flows that can be explained, or is refused with its own error."""
    path = _file("flows.mitm", data)
    world = worlds()["chat"]
    scene = world.fresh()
    try:
        flows = load(path)
    except CaptureError:
        return
    engine = Engine(scene.table, scene.store, secret=SECRET)
    for number, one in enumerate(flows):
        chat_request(number, one, scene.table)
        explain(one, engine, True)


def credentials(data: bytes) -> None:
    """Any headers name a caller; what reads as a JWT is one in all its parts."""
    headers = http.Headers(
        [(name.strip(), value) for name, _, value in (line.partition(b":") for line in data.split(b"\n"))]
    )
    world = worlds()["chat"]
    flow = _flow(headers)
    found = callers.route(flow, world.scene.table)
    to = found or callers.Route(world.caller.provider, world.caller.endpoint, world.caller.host)
    installation = Installation(b"s" * 32)
    one = callers.caller(flow, to, installation)
    assert callers.caller(flow, to, installation).scope.id == one.scope.id
    said = callers.credential(flow, to.provider, one.session)
    if lasting(said).startswith(b"jwt"):
        assert said.count(".") == 2, "no JWT at all"


def _flow(headers: http.Headers) -> http.HTTPFlow:
    client = connection.Client(peername=("127.0.0.1", 1), sockname=("127.0.0.1", 2))
    client.proxy_mode = ProxyMode.parse("regular")
    flow = http.HTTPFlow(client, connection.Server(address=("api.deepseek.com", 443)))
    flow.request = http.Request.make("POST", "https://api.deepseek.com/chat/completions", b"", headers)
    return flow


def views(data: bytes) -> None:
    """Any bytes can be looked at, as a request and as an answer of each wire."""
    for dialect in ("", *DIALECTS):
        request_text(data, dialect, Told())
        answer_text(data, dialect, Ended(), snapshots=bool(data[:1] and data[0] & 1))


TARGETS: dict[str, Target] = {
    "events": events,
    "codings": codings,
    "answers": answers,
    "requests-chat": _requests("chat", "tags", "details"),
    "requests-messages": _requests("messages"),
    "requests-responses": _requests("responses"),
    "refusals": refusal,
    "provider-table": provider_table,
    "lessons": lessons,
    "counts": counts,
    "flow-notes": flow_notes,
    "flow-files": flow_files,
    "credentials": credentials,
    "views": views,
}
