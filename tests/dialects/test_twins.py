"""Messages that cannot be read as they are, or are not as the schema says: they cost nothing but themselves.

Each wire has a conversation of four turns on record. One message of it is made odd; every turn beside it gets
its reasoning back, and every byte that came goes on as it came.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reasoning_fix.dialects.turns import Call
from reasoning_fix.dialects.twins import mended, readable, shallow
from reasoning_fix.dialects.wire import NotChatError
from reasoning_fix.engine.exchange import Exchange
from reasoning_fix.engine.explaining import explain
from reasoning_fix.engine.history import Fingerprints
from reasoning_fix.engine.originals import undone
from reasoning_fix.proxy.inspection.requests import Told
from reasoning_fix.proxy.inspection.transcript import request_text
from reasoning_fix.store.memory import MemoryStore
from tests.conversations import Message, Scene

IDS = ("call_00_aaaaaaaaaaaaaaaaaaaaaaaa", "call_01_bbbbbbbbbbbbbbbbbbbbbbbb")
SAID = (
    "Let me look at the weather in Paris.",
    "It is mild in Paris, with a little rain towards the evening.",
    "Then let me look at the weather in Rome.",
    "Rome is hot and dry today, and tomorrow it will be hotter.",
)
THOUGHTS = tuple(f"The thought behind answer {number}." for number in range(4))
PART = b'{"type": "reasoning_text", "text": "The thought behind answer %d."}'
ITEM = b'{"type": "reasoning", "summary": [], "content": [' + PART + b"]}"
THINKING = b'{"type": "thinking", "thinking": "The thought behind answer %d.", "signature": "s"}'


class Wire(ABC):
    """One wire: what it says, how a turn is answered, and the bytes that bring a thought back.

    `messages` are the raw messages or items of the request, `turns` which of them begin the four turns.
    """

    path = ""
    turns = (1, 3, 5, 7)

    def __init__(self) -> None:
        self.scene = Scene(path=self.path)
        # Nothing but what is on record is put in.
        self.scene.mode = "none"
        self.caller = self.scene.caller()
        self.messages = [json.dumps(message).encode() for message in self.conversation()]
        for number, at in enumerate(self.turns):
            self.answer(self.messages[:at], number)
        assert isinstance(self.scene.store, MemoryStore)
        self.kept = self.scene.store.take()

    @abstractmethod
    def conversation(self) -> list[Message]:
        """The messages or items of a request with four turns."""

    @abstractmethod
    def answered(self, number: int) -> Message:
        """The body of the answer that a turn was."""

    @abstractmethod
    def give_back(self, messages: list[bytes], at: int, number: int) -> None:
        """Put the thought of a turn where it belongs."""

    def answer(self, messages: list[bytes], number: int, **top: bytes) -> None:
        """Send these messages and let the provider answer with this turn."""
        exchange = self.restore(self.body(messages, **top))
        self.scene.watch(exchange, [json.dumps(self.answered(number)).encode()], streamed=False)

    def body(self, messages: list[bytes], **top: bytes) -> bytes:
        members = {"model": b'"deepseek-v4-pro"', "tools": b'[{"type": "function"}]', **top}
        head = b", ".join(b'"%b": %b' % (name.encode(), value) for name, value in members.items())
        return b'{%b, "%b" : [ %b ] }' % (head, self.scene.member.encode(), b" ,\n".join(messages))

    def expected(self, messages: list[bytes], left: tuple[int, ...] = (), **top: bytes) -> bytes:
        """The body with the thought of every turn but those (by number) that are left."""
        sent = list(messages)
        for number, at in enumerate(self.turns):
            if number not in left and at < len(messages):
                self.give_back(sent, at, number)
        return self.body(sent, **top)

    def restore(self, body: bytes) -> Exchange:
        return self.scene.restore_body(body, self.caller)

    def fresh(self) -> None:
        """As it was when the conversation was on record, with nothing remembered but the records."""
        store = MemoryStore()
        for scope, record in self.kept:
            store.put(scope, [record])
        self.scene.store = store
        assert self.scene.memory is not None
        self.scene.memory.clear()

    def sent(self, body: bytes) -> bytes:
        restored = self.restore(body)
        return body if restored.body is None else restored.body


class Chat(Wire):
    def conversation(self) -> list[Message]:
        found: list[Message] = [{"role": "user", "content": "What is the weather in Paris?"}]
        for number in (0, 2):
            arguments = json.dumps({"city": f"City {number}"})
            function = {"name": "f", "arguments": arguments}
            call = {"id": IDS[number // 2], "type": "function", "function": function}
            found.append({"role": "assistant", "content": SAID[number], "tool_calls": [call]})
            found.append({"role": "tool", "tool_call_id": IDS[number // 2], "content": f"mild {number}"})
            found.append({"role": "assistant", "content": SAID[number + 1]})
            found.append({"role": "user", "content": f"Thanks, mild is good. And now? {number}"})
        return found

    def answered(self, number: int) -> Message:
        message = json.loads(self.messages[self.turns[number]]) | {"reasoning_content": THOUGHTS[number]}
        return {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}

    def give_back(self, messages: list[bytes], at: int, number: int) -> None:
        messages[at] = messages[at][:-1] + b',"reasoning_content":"%b"}' % THOUGHTS[number].encode()


class Messages(Wire):
    path = "/anthropic/v1/messages"

    def conversation(self) -> list[Message]:
        found: list[Message] = [{"role": "user", "content": "What is the weather in Paris?"}]
        for number in (0, 2):
            given = {"city": f"City {number}"}
            use = {"type": "tool_use", "id": IDS[number // 2], "name": "f", "input": given}
            text = {"type": "text", "text": SAID[number]}
            found.append({"content": [text, use], "role": "assistant"})
            result = {"type": "tool_result", "tool_use_id": IDS[number // 2], "content": f"mild {number}"}
            found.append({"role": "user", "content": [result]})
            found.append({"content": [{"type": "text", "text": SAID[number + 1]}], "role": "assistant"})
            found.append({"role": "user", "content": f"Thanks, mild is good. And now? {number}"})
        return found

    def answered(self, number: int) -> Message:
        content = json.loads(self.messages[self.turns[number]])["content"]
        blocks = [json.loads(THINKING % number), *content]
        return {"type": "message", "role": "assistant", "content": blocks, "stop_reason": "end_turn"}

    def give_back(self, messages: list[bytes], at: int, number: int) -> None:
        put = b'"content": [%b,' % (THINKING % number)
        messages[at] = messages[at].replace(b'"content": [', put, 1)


class Responses(Wire):
    path = "/v1/responses"
    turns = (1, 4, 6, 9)

    def conversation(self) -> list[Message]:
        found: list[Message] = [{"role": "user", "content": "What is the weather in Paris?"}]
        for number in (0, 2):
            arguments = json.dumps({"city": f"City {number}"})
            call = {"type": "function_call", "call_id": IDS[number // 2], "name": "f", "arguments": arguments}
            result = {"type": "function_call_output", "call_id": IDS[number // 2], "output": f"mild {number}"}
            found += [self.says(number), call, result, self.says(number + 1)]
            found.append({"role": "user", "content": f"Thanks, mild is good. And now? {number}"})
        return found

    def says(self, number: int) -> Message:
        content = [{"type": "output_text", "text": SAID[number]}]
        return {"type": "message", "role": "assistant", "content": content}

    def answered(self, number: int) -> Message:
        at = self.turns[number]
        items = [json.loads(raw) for raw in self.messages[at : at + 2 - number % 2]]
        output = [json.loads(ITEM % number), *items]
        return {"object": "response", "status": "completed", "output": output}

    def give_back(self, messages: list[bytes], at: int, number: int) -> None:
        messages[at - 1] += b"," + ITEM % number


KINDS: dict[str, Callable[[], Wire]] = {
    "chat completions": Chat,
    "messages": Messages,
    "responses": Responses,
}
_made: dict[str, Wire] = {}


def wire_of(name: str) -> Wire:
    if name not in _made:
        _made[name] = KINDS[name]()
    _made[name].fresh()
    return _made[name]


@pytest.fixture(params=KINDS)
def wire(request: pytest.FixtureRequest) -> Wire:
    return wire_of(request.param)


def test_the_conversation_itself(wire: Wire) -> None:
    assert wire.sent(wire.body(wire.messages)) == wire.expected(wire.messages)


# ---- Messages that are not a turn ------------------------------------------------------------------------

HALVES = {
    "the first half of a character": rb"\ud83d",
    "the second half": rb"\ude00 ",
    "in capitals": rb"\uD83D",
    "the halves in the wrong order": rb"\ude00\ud83d",
    "half a character as bytes": b"\xed\xa0\xbd",
    "bytes of another encoding": b"M\xfcnchen \xff",
    "a character cut as bytes": "🙂".encode()[:3],
}
DEEP = b"[" * 20_000 + b'"]\\"[", 1' + b"]" * 20_000


def add(member: bytes) -> Callable[[bytes], bytes]:
    return lambda raw: raw[:-1] + b", " + member + b"}"


def put(name: bytes, value: bytes) -> Callable[[bytes], bytes]:
    """The message with another value in one of its members, if it has it."""

    def change(raw: bytes) -> bytes:
        members = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
        written = {n: value if n.encode() == name else bytes(v) for n, v in members.items()}
        return b"{%b}" % b", ".join(b'"%b": %b' % (n.encode(), v) for n, v in written.items())

    return change


def without(name: str) -> Callable[[bytes], bytes]:
    return lambda raw: json.dumps({n: v for n, v in json.loads(raw).items() if n != name}).encode()


def swap(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    return lambda raw: raw.replace(old, new)


def instead(raw: bytes) -> Callable[[bytes], bytes]:
    return lambda _: raw


ODD: dict[str, Callable[[bytes], bytes]] = {
    **{f"{name} in its text": swap(b"mild", b"mi" + x) for name, x in HALVES.items()},
    **{f"{name} in a member's name": add(b'"x%b": 1' % x) for name, x in HALVES.items()},
    **{f"{name} deep in it": add(b'"x": {"y": [1, {"z": "a%b"}]}' % x) for name, x in HALVES.items()},
    "half a character in a part": put(b"content", rb'[{"type": "text", "text": "a\ud83d"}, {"type": "x"}]'),
    "half a character in an image": put(b"content", rb'[{"type": "image", "source": {"data": "\ud83d"}}]'),
    "a number for content": put(b"content", b"7"),
    "an object for content": put(b"content", b'{"a": [1]}'),
    "nested lists for content": put(b"content", b'[[["a"]], []]'),
    "parts of unknown types": put(b"content", b'[{"type": "odd"}, {"text": 7}, null, 7, "a", {"type": 1}]'),
    "content nested too deep": put(b"content", DEEP),
    "an unknown member nested too deep": add(b'"x": ' + DEEP),
    "no role": without("role"),
    "no type": without("type"),
    "a number for a role": put(b"role", b"7"),
    "an object for a role": put(b"role", b"{}"),
    "a number for a type": put(b"type", b"7"),
    "an unknown type": add(b'"kind": "odd"'),
    "null": instead(b"null"),
    "a text": instead(b'"a text"'),
    "a text with half a character": instead(rb'"a text\ud83d"'),
    "a text of another encoding": instead(b'"a text\xff"'),
    "a list with a text of another encoding": instead(b'["a text\xff", {"text": "\xff"}]'),
    "a number": instead(b"-1.50"),
    "an array": instead(b'[1, {"role": "assistant"}]'),
    "an empty object": instead(b"{}"),
    "a member twice": add(b'"content": "again", "content": "and again"'),
    "an unknown member twice": add(b'"x": 1, "x": 2'),
}  # fmt: skip
# The turn that it stands before; none: behind all of them.
PLACES = {"before all turns": 0, "a question": 2, "a result": 3, "at the end": None}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("odd", ODD)
def test_an_odd_message_beside_the_turns(wire: Wire, odd: str, place: str) -> None:
    messages = list(wire.messages)
    turn = PLACES[place]
    at = -1 if turn is None else wire.turns[turn] - 1
    messages[at] = ODD[odd](messages[at])
    body = wire.body(messages)
    assert wire.sent(body) == wire.expected(messages)


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_message_that_was_there_from_the_beginning(wire: Wire, odd: str) -> None:
    """What it says is the same in every request, so it is a context like others."""
    wire.scene.store = MemoryStore()
    messages = [ODD[odd](wire.messages[0]), *wire.messages[1:]]
    for number, at in enumerate(wire.turns):
        assert wire.sent(wire.body(messages[:at])) == wire.expected(messages[:at])
        wire.answer(messages[:at], number)
    restored = wire.restore(wire.body(messages))
    assert restored.body == wire.expected(messages)
    assert restored.report.evidence == {"context": 4}


@pytest.mark.parametrize("half", HALVES)
def test_the_same_half_in_another_spelling_is_the_same_message(wire: Wire, half: str) -> None:
    wire.scene.store = MemoryStore()
    spelled = {rb"\ud83d": b"\xed\xa0\xbd", rb"\ude00 ": rb"\uDE00 ", rb"\uD83D": rb"\uFFFD"}
    if HALVES[half] not in spelled:
        pytest.skip("there is no other spelling of it")
    first, *rest = wire.messages
    odd = first.replace(b"Paris", HALVES[half])
    again = first.replace(b"Paris", spelled[HALVES[half]])
    wire.answer([odd], 0)
    assert wire.restore(wire.body([again, *rest])).report.evidence == {"context": 1}


# ---- The turns themselves ----------------------------------------------------------------------------------

TEXT, ARGUMENTS = SAID[2].encode(), b"City 2"
# For each: the wires that have such a thing, the change, and whether the turn still gets its thought.
TURNS: dict[str, tuple[str, Callable[[bytes], bytes], bool]] = {
    **{f"{name} in its text": ("cmr", swap(b"Rome.", x), True)
       for name, x in HALVES.items()},
    **{f"{name} in a member's name": ("cmr", add(b'"x%b": 1' % x), True) for name, x in HALVES.items()},
    **{f"{name} in the arguments of a call": ("cm", swap(ARGUMENTS, x), True)
       for name, x in HALVES.items()},
    "half a character in the id of a call": (
        "cm", lambda raw: raw.replace(IDS[1].encode(), rb"call\ud83d"), True),
    "half a character in the name of a call": (
        "cm", lambda raw: raw.replace(b'"name": "f"', rb'"name": "f\ud83d"'), True),
    "half a character in its own reasoning": ("c", add(rb'"reasoning_content": "mine\ud83d"'), False),
    "bytes of another encoding in its own reasoning": ("c", add(b'"reasoning_content": "mine\xff"'), False),
    "bytes of another encoding where nobody reads them": ("c", add(b'"reasoning": "mine\xff"'), True),
    "half a character in its own thinking": ("m", lambda raw: raw.replace(
        b"[", rb'[{"type": "thinking", "thinking": "mine\ud83d", "signature": "s"}, ', 1), False),
    "bytes of another encoding in its own thinking": ("m", lambda raw: raw.replace(
        b"[", b'[{"type": "thinking", "thinking": "mine\xff", "signature": "s"}, ', 1), False),
    "half a character in a part": ("c", put(
        b"content", rb'[{"type": "text", "text": "a\ud83d"}, {"type": "x", "x": "\ud83d"}]'), True),
    "an object for its calls": ("c", put(b"tool_calls", b'{"id": "x"}'), False),
    "a text for its calls": ("c", put(b"tool_calls", b'"none"'), False),
    "an odd entry among its calls": ("c", lambda raw: raw.replace(
        b'"tool_calls": [', b'"tool_calls": [7, null, {"id": 7}, '), False),
    "a number for reasoning": ("c", add(b'"reasoning": 7'), True),
    "a member twice": ("cr", add(b'"x": 1, "x": 2'), True),
    "a member twice, where it would have to be opened": ("m", add(b'"x": 1, "x": 2'), False),
    "its reasoning twice, both blank": ("c", add(b'"reasoning_content": "", "reasoning_content": ""'), False),
    "a member nested too deep": ("cmr", add(b'"x": ' + DEEP), True),
    "a number for content": ("m", put(b"content", b"7"), False),
    "a block of thinking without its text": ("m", lambda raw: raw.replace(
        b"[", b'[{"type": "thinking"}, ', 1), False),
    "null": ("cm", instead(b"null"), False),
    "a text": ("cm", instead(b'"Then let me look"'), False),
    "no role": ("cm", without("role"), False),
}  # fmt: skip
WIRES = {"c": "chat completions", "m": "messages", "r": "responses"}
CASES = [
    pytest.param(WIRES[letter], odd, id=f"{WIRES[letter]}-{odd}")
    for odd, (wires, _, _) in TURNS.items()
    for letter in wires
]


@pytest.mark.parametrize(("name", "odd"), CASES)
def test_an_odd_turn(name: str, odd: str) -> None:
    _, change, is_restored = TURNS[odd]
    wire = wire_of(name)
    messages = list(wire.messages)
    at = wire.turns[2]
    messages[at] = change(messages[at])
    if odd == "a block of thinking without its text":
        # It is taken for the recorded block, whose text was dropped.
        expected = wire.expected(messages, (2,)).replace(b'{"type": "thinking"}', THINKING % 2)
        assert wire.sent(wire.body(messages)) == expected
        return
    left = () if is_restored else (2,)
    assert wire.sent(wire.body(messages)) == wire.expected(messages, left)


@pytest.mark.parametrize("sent", [rb"\ud83d", rb"\ufffd", b"\xef\xbf\xbd", b"\xed\xa0\xbd"])
@pytest.mark.parametrize("said", [r"\ud83d", r"\ufffd"])
def test_an_answer_with_half_a_character_is_the_turn_that_a_client_sends(said: str, sent: bytes) -> None:
    """Whatever a client makes of it."""
    scene = Scene()
    asked = [{"role": "user", "content": "Half of what?"}]
    events = [
        b'data: {"choices":[{"index":0,"delta":{"role":"assistant","reasoning_content":"R"}}]}\n\n',
        b'data: {"choices":[{"index":0,"delta":{"content":"Half %b."}}]}\n\n' % said.encode(),
        b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n',
    ]
    scene.watch(scene.restore(asked), events)
    answer = b'{"role": "assistant", "content": "Half %b."}' % sent
    body = b'{"tools": [1], "model": "deepseek-v4-pro", "messages": [%b, %b, %b]}' % (
        json.dumps(asked[0]).encode(), answer, b'{"role": "user", "content": "Aha."}'
    )  # fmt: skip
    restored = scene.restore_body(body, scene.caller())
    assert restored.body == body.replace(b'."}, {', b'.","reasoning_content":"R"}, {')
    assert restored.report.evidence == {"context": 1}


# ---- What stands around the messages -----------------------------------------------------------------------

TOPS: dict[str, dict[str, bytes]] = {
    "half a character in the model's name": {"model": rb'"deepseek-v4-pro\ud83d"'},
    "half a character in a tool's description": {"tools": rb'[{"description": "a\ud83d"}]'},
    "bytes of another encoding in a tool's description": {"tools": b'[{"type": "function", "x": "\xff"}]'},
    "half a character in the system prompt": {"system": rb'"You are\ud83d"', "instructions": rb'"You\ud83d"'},
    "half a character in a part of the system prompt": {"system": rb'[{"text": "\ud83d"}, 7]'},
    "half a character in the metadata": {"metadata": rb'{"user_id": "\ud83d", "x\ud83d": [{"\udc00": 1}]}'},
    "half a character in a name": {r"x\ud83d": b"1"},
    "half a character in a name, in other letters": {r"\u0078\uDE00": rb'"\uDE00"'},
    "half a character in a list": {"stop": rb'["a", "\ud83d"]'},
    "an object for tools": {"tools": b'{"a": 1}'},
    "a text for tools": {"tools": b'"all"'},
    "odd entries among the tools": {"tools": rb'[7, null, "a\ud83d", {"function": {"name": 1}}]'},
    "a number for the system prompt": {"system": b"7", "instructions": b"7"},
    "an object for the model": {"model": b"{}"},
    "a list for metadata": {"metadata": b"[[], 7]"},
    "metadata nested too deep": {"metadata": DEEP},
    "tools nested too deep": {"tools": b"[" + DEEP + b"]"},
    "odd values for what turns thinking off": {"thinking": b"[]", "enable_thinking": b'"\xff"'},
    "half a character beside what turns thinking on": {"thinking": rb'{"type": "enabled", "x": "\ud83d"}'},
}  # fmt: skip


@pytest.mark.parametrize("odd", TOPS)
def test_odd_values_beside_the_messages(wire: Wire, odd: str) -> None:
    top = TOPS[odd]
    got = wire.sent(wire.body(wire.messages, **top))
    assert got == wire.expected(wire.messages, (), **top)


@pytest.mark.parametrize(
    "switch", [rb'{"type": "disabled", "x": "\ud83d"}', b'{"type": "disabled", "x": "\xff"}']
)
def test_thinking_that_is_off_beside_half_a_character_is_off(switch: bytes) -> None:
    wire = wire_of("chat completions")
    restored = wire.restore(wire.body(wire.messages, thinking=switch))
    assert (restored.is_changed, restored.report.thinking_off) == (False, True)


def test_half_an_input_is_a_question() -> None:
    wire = wire_of("responses")
    body = rb'{"model": "deepseek-v4-pro", "input": "What\ud83d"}'
    assert not wire.restore(body).is_changed


@pytest.mark.parametrize(
    "body",
    [
        rb'{"NAME": [{"role": "user", "content": "\ud83d}]}',
        rb'{"NAME": [{"role": "user", "content": "\ud83"}]}',
        rb'{"NAME": {"a": "\ud83d"}}',
        rb'{"other": "\ud83d"}',
        rb'["\ud83d"]',
        rb'"\ud83d"',
        b'{"NAME": [NaN]}',
        b'{"NAME": ' + b"[" * 20_000 + b"]" * 19_999,
        b'{"NAME": [' + b"[" * 20_000 + b"}" * 20_000 + b"]}",
        b"\xff\xfe",
        rb'{"\ud83d": 1, "\ud83d": 2, "NAME": []}',
    ],
)
def test_what_is_no_chat_request_still_is_none(wire: Wire, body: bytes) -> None:
    with pytest.raises(NotChatError):
        wire.restore(body.replace(b"NAME", wire.scene.member.encode()))


# ---- Any conversation --------------------------------------------------------------------------------------


@st.composite
def oddities(draw: st.DrawFn) -> tuple[str, int, str]:
    name = draw(st.sampled_from(sorted(KINDS)))
    messages = wire_of(name).messages
    return name, draw(st.integers(0, len(messages) - 1)), draw(st.sampled_from(sorted(ODD)))


def thoughts_in(body: bytes) -> list[int]:
    """Which thoughts are in a body, in order."""
    return [int(piece[:1]) for piece in body.split(b"The thought behind answer ")[1:]]


@settings(max_examples=80, deadline=None)
@given(oddities(), st.booleans())
def test_one_oddity_anywhere_costs_no_other_turn(drawn: tuple[str, int, str], with_memory: bool) -> None:
    name, at, odd = drawn
    wire = wire_of(name)
    if with_memory:
        first = wire.messages[: wire.turns[3]]
        assert wire.sent(wire.body(first)) == wire.expected(first)
    messages = list(wire.messages)
    messages[at] = ODD[odd](messages[at])
    got = wire.sent(wire.body(messages))
    mine = [number for number in range(4) if at in own_positions(wire, number)]
    others = [number for number in range(4) if number not in mine]
    found = thoughts_in(got)
    assert [number for number in found if number in others] == others
    if name != "responses" or not mine:
        assert got == wire.expected(messages, tuple(number for number in mine if number not in found))
        return
    # What is left of the turn may still be one, elsewhere in it.
    for number in found:
        got = got.replace(b"," + ITEM % number, b"", 1)
    assert got == wire.body(messages)


def own_positions(wire: Wire, number: int) -> range:
    """Where the messages or items of a turn are."""
    start = wire.turns[number]
    return range(start, start + (2 if isinstance(wire, Responses) and number % 2 == 0 else 1))


@settings(max_examples=60, deadline=None)
@given(oddities(), st.integers(1, 10))
def test_what_is_remembered_changes_nothing(drawn: tuple[str, int, str], last: int) -> None:
    """The bytes, what became of each turn, and what is said of it: with the memory as without it."""
    name, at, odd = drawn
    wire = wire_of(name)
    messages = list(wire.messages)
    messages[at] = ODD[odd](messages[at])
    told = []
    for memory in (wire.scene.memory, None):
        wire.fresh()
        kept, wire.scene.memory = wire.scene.memory, memory
        for end in (last, last + 1, len(messages), len(messages)):
            restored = wire.restore(wire.body(messages[:end]))
        wire.scene.memory = kept
        report = restored.report
        turns = [(turn.index, turn.status, turn.evidence) for turn in report.turns]
        told.append((restored.body, turns, report.odd, report.text()))
    assert told[0] == told[1]


@pytest.mark.parametrize("odd", ["the first half of a character in its text", "null", "a number for a role"])
def test_a_request_that_waits_for_nothing_is_recorded_all_the_same(wire: Wire, odd: str) -> None:
    messages = list(wire.messages)
    messages[0] = ODD[odd](messages[0])
    wire.scene.store = MemoryStore()
    wire.scene.defers = True
    try:
        exchange = wire.restore(wire.expected(messages, metadata=rb'"\ud83d"'))
        assert (exchange.recorder.rest is None) == (wire.path != "")
        wire.scene.watch(exchange, [json.dumps(wire.answered(1)).encode()], streamed=False)
        assert wire.scene.records()[-1][0].text == SAID[1]
        assert exchange.recorder.rest is None or not exchange.recorder.rest.failed
    finally:
        wire.scene.defers = False


# ---- What people see ---------------------------------------------------------------------------------------

TOLD = {
    "the first half of a character in its text": "holds half a character",
    "bytes of another encoding in its text": "holds half a character",
    "content nested too deep": "is nested too deep",
    "null": "is not as the schema says",
}


@pytest.mark.parametrize("odd", TOLD)
def test_the_report_the_explanation_and_the_view_say_what_is_odd(wire: Wire, odd: str) -> None:
    messages = list(wire.messages)
    messages[0] = ODD[odd](messages[0])
    if messages[0] == wire.messages[0]:
        pytest.skip("this wire has no such thing")
    body = wire.body(messages)
    report = wire.restore(body).report
    assert report.odd == {TOLD[odd]: 1}
    assert report.text().endswith(f"; 1 message {TOLD[odd]}")
    scene = wire.scene
    told, _ = explain(body, wire.caller, scene.knowledge)
    assert told.lines()[-1] == f"  note: {scene.member}[0] {TOLD[odd]}"
    shown = request_text(body, wire.caller.endpoint.dialect, Told(tuple(report.turns)))
    assert f": {TOLD[odd]}\n" in shown and shown.count("reasoning restored") == 4


@pytest.mark.parametrize("odd", ODD)
def test_every_oddity_can_be_explained_and_shown(wire: Wire, odd: str) -> None:
    scene = wire.scene
    for at in range(len(wire.messages)):
        messages = list(wire.messages)
        messages[at] = ODD[odd](messages[at])
        body = wire.body(messages)
        told, _ = explain(body, wire.caller, scene.knowledge)
        assert told.turns
        shown = request_text(body, wire.caller.endpoint.dialect, Told())
        assert "cannot be shown" not in shown and "[0]" in shown


# A member that comes twice leaves doubt about which one was put in.
@pytest.mark.parametrize(("name", "odd"), [case for case in CASES if "twice" not in str(case.id)])
def test_what_was_changed_can_be_taken_back(name: str, odd: str) -> None:
    wire = wire_of(name)
    messages = list(wire.messages)
    messages[wire.turns[2]] = TURNS[odd][1](messages[wire.turns[2]])
    body = wire.body(messages)
    restored = wire.restore(body)
    assert restored.is_changed and restored.report.before is not None
    assert undone(restored.body, wire.caller.endpoint.dialect, restored.report.before) == body


# ---- Reasoning with half a character is never written ------------------------------------------------------


@pytest.mark.parametrize("half", [rb"\ud83d", b"\xff", b"\xed\xa0\xbd"])
def test_own_reasoning_with_half_a_character_is_not_learned(wire: Wire, half: bytes) -> None:
    wire.scene.store = MemoryStore()
    body = wire.expected(wire.messages)
    assert wire.sent(body.replace(b"answer 2", b"answer " + half)) == body.replace(
        b"answer 2", b"answer " + half
    )
    learned = [opened for opened, _ in wire.scene.records()]
    assert [b"".join(opened.fields.values())[-60:].count(b"behind") for opened in learned] == [1, 1, 1]


@pytest.mark.parametrize("half", [rb"\ud83d", b"\xff", b"\xed\xa0\xbd"])
def test_own_words_with_half_a_character_are_moved_without_it(half: bytes) -> None:
    """To the field that the provider reads; where they were they stay as they came."""
    scene = Scene()
    body = b"""{"tools": [1], "model": "deepseek-v4-pro", "messages": [{"role": "user", "content": "a"},
        {"role": "assistant", "content": "b", "reasoning": "mine%b"}, {"role": "user", "content": "c"}]}"""
    got = scene.restore_body(body % half, scene.caller()).body
    assert got is not None
    start, _, rest = got.partition(b',"reasoning_content":')
    moved, _, end = rest.partition(b"}")
    assert start + b"}" + end == body % half
    assert msgspec.json.decode(moved)[:4] == "mine" and half not in moved


# ---- Twins -------------------------------------------------------------------------------------------------

PIECES = st.lists(
    st.sampled_from([rb"\ud83d", rb"\ude00", rb"\uD83D", rb"\\", rb"\"", "🙂".encode(), b"\xed\xa0\xbd",
                     b"\xff", b"a", rb"\u00e9", "é".encode(), b"ud83d", b"\xf0\x9f"]),
    max_size=8,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(PIECES)
def test_any_text_has_a_twin(pieces: list[bytes]) -> None:
    data = b'"%b"' % b"".join(pieces)
    view = mended(data)
    assert len(view) == len(data)
    said = msgspec.json.decode(view)
    try:
        assert msgspec.json.decode(data) == said
        assert view == data
    except (msgspec.DecodeError, UnicodeDecodeError):
        # As a lenient reader takes it, where there is one.
        text = json.loads(data.decode("utf-8", "surrogateescape"))
        assert len(said) <= len(text)
    assert mended(view) == view


@pytest.mark.parametrize("depth", [1, 100, 200, 201, 202, 1000, 50_000])
@pytest.mark.parametrize(
    "kind", [(b"[", b"]", b"1"), (b'{"a":', b"}", b'"]}\\""'), (b"[{}, [", b"], 2]", b'"["')]
)
def test_any_nesting_has_a_twin(depth: int, kind: tuple[bytes, bytes, bytes]) -> None:
    begin, end, inside = kind
    data = b'{"x": [1, %b, 2], "y": "]"}' % (begin * depth + inside + end * depth)
    view = shallow(data)
    assert len(view) == len(data)
    assert msgspec.json.decode(view)["x"][2] == 2
    assert view == data or depth >= 100
    assert readable(msgspec.json.Decoder(dict[str, msgspec.Raw]).decode, data)[1].keys() == {"x", "y"}


def test_half_a_character_in_arguments_is_one_in_every_spelling() -> None:
    marks = Fingerprints(b"k" * 32)
    spelled = [
        r'{"a":"x\ud83d","b":1}',
        r'{"b":1.0, "a":"x\ufffd"}',
        '{"a":"x\ufffd","b":1}',
        '{"a":"x\ud83d","b":1}',
    ]
    assert len({marks.call(Call("", "f", arguments)) for arguments in spelled}) == 1
