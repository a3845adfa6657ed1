"""The memory of the latest conversations changes nothing but the time that a request takes."""

import itertools
import json
import sqlite3
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reasoning_fix.engine import one_pass, prefix_cache
from reasoning_fix.engine.exchange import Exchange
from reasoning_fix.engine.history import read_history
from reasoning_fix.engine.prefix_cache import PrefixCache
from reasoning_fix.providers.lessons import Lesson
from reasoning_fix.providers.rows import Means
from reasoning_fix.store import Record
from reasoning_fix.store.memory import MemoryStore
from reasoning_fix.store.sqlite import open_store
from tests.conversations import TOOLS, Message, Scene, reasoning, turn, user

# ---- Any sequence of requests and answers, twice -----------------------------------------------------------
#
# A history is a list of plain values, which each dialect spells in its own way: ("user", text),
# ("system", text), ("result", id, text), ("turn", text, calls, reasoning or None).

type Said = tuple[Any, ...]


def chat(history: Sequence[Said]) -> list[Message]:
    messages: list[Message] = []
    for kind, *rest in history:
        match kind:
            case "turn":
                text, calls, thought = rest
                message: Message = {"role": "assistant", "content": text}
                if calls:
                    message["tool_calls"] = [
                        {"id": i, "type": "function", "function": {"name": "f", "arguments": a}}
                        for i, a in calls
                    ]
                if thought is not None:
                    message["reasoning_content"] = thought
                messages.append(message)
            case "result":
                messages.append({"role": "tool", "tool_call_id": rest[0], "content": rest[1]})
            case _:
                messages.append({"role": kind, "content": rest[0]})
    return messages


def blocks(text: str, calls: Sequence[tuple[str, str]], thought: str | None) -> list[Message]:
    found: list[Message] = []
    if thought is not None:
        found.append({"type": "thinking", "thinking": thought, "signature": f"s-{thought}"})
    if text:
        found.append({"type": "text", "text": text})
    return found + [{"type": "tool_use", "id": i, "name": "f", "input": json.loads(a)} for i, a in calls]


def anthropic(history: Sequence[Said]) -> list[Message]:
    messages: list[Message] = []
    for kind, *rest in history:
        match kind:
            case "turn":
                messages.append({"role": "assistant", "content": blocks(*rest)})
            case "result":
                result = {"type": "tool_result", "tool_use_id": rest[0], "content": rest[1]}
                messages.append({"role": "user", "content": [result]})
            case "system":
                note = f"<system-reminder>{rest[0]}</system-reminder>"
                messages.append({"role": "user", "content": [{"type": "text", "text": note}]})
            case _:
                messages.append({"role": kind, "content": rest[0]})
    return messages


def output(text: str, calls: Sequence[tuple[str, str]], thought: str | None) -> list[Message]:
    found: list[Message] = []
    if thought is not None:
        part = {"type": "reasoning_text", "text": thought}
        found.append({"type": "reasoning", "id": f"rs_{thought}", "summary": [], "content": [part]})
    if text:
        part = {"type": "output_text", "text": text}
        found.append({"type": "message", "role": "assistant", "content": [part]})
    return found + [{"type": "function_call", "call_id": i, "name": "f", "arguments": a} for i, a in calls]


def responses(history: Sequence[Said]) -> list[Message]:
    items: list[Message] = []
    for kind, *rest in history:
        match kind:
            case "turn":
                items += output(*rest)
            case "result":
                items.append({"type": "function_call_output", "call_id": rest[0], "output": rest[1]})
            case _:
                items.append({"role": kind, "content": rest[0]})
    return items


WIRES = {
    "/chat/completions": ("messages", chat),
    "/anthropic/v1/messages": ("messages", anthropic),
    "/v1/responses": ("input", responses),
}


def answer(path: str, text: str, calls: Sequence[tuple[str, str]], thought: str | None, cut: bool) -> bytes:
    """An answer as JSON; one that was cut is a stream of which the end is missing."""
    if path == "/chat/completions":
        (message,) = chat([("turn", text, calls, thought)])
        return _json(
            {"choices": [{"index": 0, "message": message, "finish_reason": None if cut else "stop"}]}
        )
    if path == "/v1/responses":
        return _json({"object": "response", "status": "completed", "output": output(text, calls, thought)})
    return _json({"type": "message", "role": "assistant", "content": blocks(text, calls, thought)})


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


class World:
    """A proxy's rooms, and what went through them."""

    def __init__(self, path: str, memory: bool, defers: bool = False) -> None:
        self.scene = Scene(path=path)
        if not memory:
            self.scene.memory = None
        self.scene.defers = defers
        self.path = path

    def restore(self, body: bytes, key: str, session: str) -> Exchange:
        return self.scene.restore((), key=key, session=session, body=body)

    def reply(self, restored: Exchange, payload: bytes) -> None:
        folder = restored.caller.dialect.folder(False)
        for one in folder.feed(payload) + folder.end(complete=False):
            restored.recorder.record(one)

    def numbers(self) -> tuple[dict[bytes, int], dict[int, int]]:
        """Keys by the order in which they came to the store, and times by theirs."""
        assert isinstance(self.scene.store, MemoryStore)
        records = [record for _, record in self.scene.store.take()]
        times = sorted({t for record in records for t in (record.created, record.asked)})
        keys = {record.key: number for number, record in enumerate(records)}
        return keys | {b"": -1}, {t: number for number, t in enumerate(times)} | {0: -1}

    def on_record(self) -> list[tuple[object, ...]]:
        """Every record, with numbers in place of what differs from one run to the next."""
        assert isinstance(self.scene.store, MemoryStore)
        keys, times = self.numbers()
        return [
            (
                scope,
                keys[r.parent],
                keys[r.thread],
                times[r.created],
                times[r.asked],
                msgspec.structs.replace(r, key=b"", parent=b"", thread=b"", created=0, asked=0, sealed=b""),
            )
            for scope, r in self.scene.store.take()
        ]

    def said(self, restored: Exchange) -> tuple[object, ...]:
        """What was sent and reported, and where the answer will stand."""
        keys, times = self.numbers()
        report, exchange = restored.report, restored
        turns = [(t.index, t.status, t.evidence, times[t.recorded]) for t in report.turns]
        rest = msgspec.structs.replace(
            report,
            turns=[],
            asked=0,
            lessons=tuple(msgspec.structs.replace(lesson, learned=0) for lesson in report.lessons),
        )
        place = (
            exchange.recorder.context,
            exchange.recorder.before,
            keys[exchange.recorder.parent],
            keys[exchange.recorder.thread],
        )
        return (
            restored.body,
            rest,
            report.text(),
            turns,
            place,
            exchange.recorder.conversation,
            exchange.recorder.lead,
        )


# Few words, so that turns, calls and ids meet again; some that are distinctive.
TEXTS = st.sampled_from(["", "Done.", "ok", "I have looked at all of the files in this folder, as asked."])
IDS = st.sampled_from(["functions.f:0", "functions.f:1", "call_00_aaaaaaaaaaaa", "call_00_bbbbbbbbbbbb", ""])
ARGUMENTS = st.sampled_from(["{}", '{"path": "src/some/file/or/other.py"}'])
CALLS = st.lists(st.tuples(IDS, ARGUMENTS), max_size=2).map(tuple)
THOUGHTS = st.sampled_from([None, "A", "B", "", " "])
INDEX = st.integers(0, 7)
# From the end, where the latest turn is.
TURN = st.tuples(st.integers(-4, -1))
ASKED: Said = ("ask", "I have looked at all of the files in this folder, as asked.", (), "B", False, False)

ASK = st.tuples(st.just("ask"), TEXTS, CALLS, THOUGHTS, st.just(False), st.just(False))
STEPS = st.one_of(
    st.tuples(st.just("ask"), TEXTS, CALLS, THOUGHTS, st.booleans(), st.booleans()),
    ASK,
    st.tuples(st.just("again"), TEXTS, CALLS, THOUGHTS),
    st.tuples(st.just("said again"), INDEX, THOUGHTS),
    st.tuples(st.just("said again"), INDEX, THOUGHTS),
    st.tuples(st.just("copied"), INDEX, INDEX),
    st.tuples(st.just("send")),
    st.tuples(st.just("user"), st.sampled_from(["go on", "and then?"])),
    st.tuples(st.just("system"), st.sampled_from(["be terse", "it is Monday"])),
    st.tuples(st.just("turn"), TEXTS, CALLS, THOUGHTS),
    st.tuples(st.just("branch"), INDEX),
    st.tuples(st.just("switch"), INDEX),
    st.tuples(st.just("text"), INDEX, TEXTS),
    st.tuples(st.just("thought"), INDEX, THOUGHTS),
    st.tuples(st.just("drop"), INDEX),
    st.tuples(st.just("swap"), INDEX),
    st.tuples(st.just("session"), st.sampled_from(["", "one", "two"])),
    st.tuples(st.just("key"), st.sampled_from(["sk-one", "sk-two"])),
    st.tuples(st.just("model"), st.sampled_from(["deepseek-v4-pro", "deepseek-reasoner", "deepseek-flash"])),
    st.tuples(st.just("tools")),
    st.tuples(st.just("mode"), st.sampled_from(["auto", "none", "disable-thinking"])),
    st.tuples(st.just("thinking")),
    st.tuples(st.just("spaces")),
    st.tuples(st.just("mark")),
    st.tuples(st.just("lesson"), st.sampled_from(["[nothing]", "off"])),
    st.tuples(st.just("lesson"), st.just("temperature")),
    st.tuples(st.just("temperature")),
    st.tuples(st.just("repaired")),
)

# What chance alone would seldom do in this order.
GO_ON: list[Said] = [("user", "go on"), ("send",)]
PLOTS = st.one_of(
    # A turn that is remembered is said again, or again elsewhere, or brought along elsewhere.
    st.builds(
        lambda ask, turn, new: [ask, *GO_ON, ("said again", *turn, new), ("send",)], ASK, TURN, THOUGHTS
    ),
    st.builds(lambda ask, turn, to: [ask, *GO_ON, ("copied", *turn, to), *GO_ON], ASK, TURN, INDEX),
    st.builds(lambda ask, step, to: [ask, *GO_ON, step, ("copied", -2, to), *GO_ON], ASK, STEPS, INDEX),
    # A conversation loses its beginning, so that turns are known by their ids or more weakly, and goes on.
    st.builds(lambda ask, more: [ask, ("text", 0, "ok"), *GO_ON, more, ("send",)], ASK, STEPS),
    st.builds(lambda ask, more: [ask, ASKED, ("drop", 0), *GO_ON, more, *GO_ON], ASK, STEPS),
    STEPS.map(lambda step: [step]),
    STEPS.map(lambda step: [step]),
)


class Client:
    """Someone who says the same to both worlds, and sees that they answer alike."""

    def __init__(self, path: str) -> None:
        self.worlds = [World(path, memory, defers) for defers in (False, True) for memory in (True, False)]
        self.path = path
        self.histories: list[list[Said]] = [[("user", "hello there, my friend")]]
        self.current = 0
        self.key, self.session, self.model = "sk-one", "", "deepseek-v4-pro"
        self.tools = self.thinking = True
        self.separators = (", ", ": ")
        self.mark = self.temperature = False

    @property
    def history(self) -> list[Said]:
        return self.histories[self.current]

    def body(self) -> bytes:
        member, spell = WIRES[self.path]
        messages = spell(self.history)
        if self.mark and messages:
            # Clients move this mark along with every request.
            messages[-1]["cache_control"] = {"type": "ephemeral"}
        body: dict[str, Any] = {"model": self.model, member: messages, "tools": TOOLS if self.tools else []}
        if self.temperature:
            body["temperature"] = 0.5
        if not self.thinking:
            body["thinking"] = {"type": "disabled"}
        return json.dumps(body, separators=self.separators).encode()

    def send(self, compare: bool = True) -> list[Exchange]:
        body = self.body()
        restored = [world.restore(body, self.key, self.session) for world in self.worlds]
        assert len({one.body for one in restored}) == 1
        if compare:
            self.compare(restored)
        return restored

    def compare(self, restored: Sequence[Exchange]) -> None:
        for one in restored:
            one.accept()
        said = [world.said(one) for world, one in zip(self.worlds, restored, strict=True)]
        recorded = [world.on_record() for world in self.worlds]
        for number in range(1, len(self.worlds)):
            assert said[number] == said[0]
            assert recorded[number] == recorded[0]

    def ask(
        self, text: str, calls: Sequence[tuple[str, str]], thought: str | None, cut: bool, keeps: bool
    ) -> None:
        if self.history[-1][0] == "turn":
            self.history.append(("user", "go on"))
        restored = self.send(compare=False)
        for world, one in zip(self.worlds, restored, strict=True):
            world.reply(one, answer(self.path, text, calls, thought, cut))
        self.compare(restored)
        self.history.append(("turn", text, calls, thought if keeps else None))
        self.history.extend(("result", call_id, "it is mild there, 18 degrees") for call_id, _ in calls)

    def step(self, name: str, *given: Any) -> None:
        history = self.history
        at = given[0] % len(history) if given and isinstance(given[0], int) else 0
        match name:
            case "ask":
                self.ask(*given)
            case "again":
                # The same request once more, and another answer.
                asked = len(history)
                text, calls, thought = given
                self.ask(text, calls, thought, cut=False, keeps=False)
                del self.history[asked:]
            case "said again" if at and history[at][0] == "turn":
                # The answer that a turn was comes once more, of another thought.
                _, text, calls, _ = history[at]
                self.histories.append(history[:at])
                before, self.current = self.current, len(self.histories) - 1
                self.ask(text, calls, given[1], cut=False, keeps=False)
                self.current = before
            case "copied":
                history.insert(given[1] % (len(history) + 1), history[at])
            case "send":
                self.send()
            case "user" | "system":
                history.append((name, given[0]))
            case "turn":
                history.append((name, *given))
            case "branch":
                self.histories.append(history[: at + 1])
                self.current = len(self.histories) - 1
            case "switch":
                self.current = given[0] % len(self.histories)
            case "text" | "thought" if history[at][0] == "turn":
                _, text, calls, thought = history[at]
                new = (given[1], calls, thought) if name == "text" else (text, calls, given[1])
                history[at] = ("turn", *new)
            case "text":
                history[at] = (*history[at][:-1], given[1])
            case "drop" if len(history) > 1:
                del history[at]
            case "swap" if at:
                history[at - 1], history[at] = history[at], history[at - 1]
            case "session" | "key" | "model":
                setattr(self, name, given[0])
            case "tools":
                self.tools = not self.tools
            case "thinking":
                self.thinking = not self.thinking
            case "spaces":
                self.separators = (",", ":") if self.separators[0] == ", " else (", ", ": ")
            case "mark":
                self.mark = not self.mark
            case "mode":
                for world in self.worlds:
                    world.scene.mode = given[0]
            case "lesson":
                means: Means = "parameter" if given[0] == "temperature" else "missing"
                for world in self.worlds:
                    for family in ("deepseek", "deepseek-r1"):
                        lesson = Lesson("api.deepseek.com", self.dialect, family, means, given[0])
                        world.scene.lessons.learn(lesson)
            case "temperature":
                self.temperature = not self.temperature
            case "repaired":
                self.repaired()

    @property
    def dialect(self) -> str:
        return self.worlds[0].scene.caller().endpoint.dialect

    def repaired(self) -> None:
        """A refused request, tried again with no more than is demanded."""
        body = self.body()
        shorter = Lesson("api.deepseek.com", self.dialect, "deepseek", "too_long")
        restored = [
            world.scene.restore_body(body, world.scene.caller(self.key, self.session), shorter)
            for world in self.worlds
        ]
        self.compare(restored)


# ---- What is left for later --------------------------------------------------------------------------------


def test_where_nothing_can_be_missing_only_the_answer_waits_for_the_rest() -> None:
    scene = Scene()
    scene.defers = True
    history = [user("hello there"), turn("Hi!", reasoning_content="A"), user("next")]
    restored = scene.restore(history)
    assert (restored.is_changed, restored.report.turns, scene.records()) == (False, [], [])
    assert restored.recorder.rest is not None
    scene.answer(restored, turn("Well.", reasoning_content="B"))
    assert [opened.text for opened, _ in scene.records()] == ["Hi!", "Well."]
    assert [one.status for one in restored.report.turns] == ["sent"]
    restored.recorder.rest()
    assert len(scene.records()) == 2
    stripped = [*history[:1], turn("Hi!"), user("next"), turn("Well."), user("more")]
    assert reasoning(scene.sent(stripped)) == ["A", "B"]


@pytest.mark.parametrize(
    ("messages", "left"),
    [
        ([user("hi")], True),
        ([user("hi"), turn("x", reasoning_content="A"), user("more")], True),
        ([user("hi"), turn("x", reasoning_content=" "), user("more")], False),
        ([user("hi"), turn("x", reasoning_content=None), user("more")], False),
        ([user("hi"), turn("x", reasoning="A"), user("more")], False),
        ([user("hi"), turn("x"), user("more")], False),
        ([user("hi"), turn("x", reasoning_content="A"), turn("y"), user("more")], False),
        ([user("hi"), turn("x", reasoning_content="A", prefix=True)], False),
    ],
)
def test_what_can_be_missing_is_looked_for_at_once(messages: list[Message], left: bool) -> None:
    scene = Scene()
    scene.defers = True
    assert (scene.restore(messages).recorder.rest is not None) is left


def test_an_answer_whose_place_could_not_be_found_is_not_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene()
    scene.defers = True
    restored = scene.restore([user("hello there")])
    monkeypatch.setattr(one_pass, "match", None)
    scene.answer(restored, turn("Hi!", reasoning_content="A"))
    assert scene.records() == []


# ---- What it saves, and what ends it -----------------------------------------------------------------------


def read_of(client: Client, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many messages of the next request are read, with the memory."""
    counts: list[int] = []
    whole = read_history

    def counted(messages: list[Any], *more: Any) -> Any:
        counts.append(len(messages))
        return whole(messages, *more)

    monkeypatch.setattr(one_pass, "read_history", counted)
    client.send()
    monkeypatch.setattr(one_pass, "read_history", whole)
    return counts[0] if len(counts) == len(client.worlds) else -1


def talk(path: str, turns: int = 6) -> Client:
    client = Client(path)
    for number in range(turns):
        calls = ((f"call_{number:02}_abcdefghijkl", '{"n": 1}'),)
        client.ask(f"This is answer {number}.", calls, "AB"[number % 2], False, False)
    return client


@pytest.mark.parametrize("path", WIRES)
def test_a_request_that_goes_on_is_read_from_what_is_new(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    client = talk(path)
    assert read_of(client, monkeypatch) == 2
    assert read_of(client, monkeypatch) == 0
    client.history.append(("user", "thanks"))
    assert read_of(client, monkeypatch) == 1


@pytest.mark.parametrize("path", WIRES)
def test_the_newest_messages_may_change_from_request_to_request(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = talk(path)
    client.mark = True
    client.send()
    client.ask("And so on.", (), "A", False, False)
    client.history.append(("user", "thanks"))
    assert read_of(client, monkeypatch) <= 4


def test_a_conversation_known_by_its_ids_only_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    client = talk("/chat/completions")
    client.step("text", 0, "A summary of what was said so far.")
    client.send()
    assert client.worlds[0].restore(client.body(), "sk-one", "").report.evidence == {"tool-call id": 6}
    assert read_of(client, monkeypatch) == 0


def test_branches_are_remembered_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    client = talk("/chat/completions", 20)
    client.send()
    client.histories.append(client.history[:5])
    client.current = 1
    client.ask("Now for something else.", (), "B", False, False)
    client.history.append(("user", "thanks"))
    client.send()
    assert read_of(client, monkeypatch) == 0
    client.current = 0
    assert read_of(client, monkeypatch) == 0


def test_an_answer_given_again_ends_what_was_remembered_from_there(monkeypatch: pytest.MonkeyPatch) -> None:
    client = talk("/chat/completions", 20)
    client.send()
    assert client.history[11][1] == "This is answer 5."
    client.step("said again", 11, "another thought")
    assert 2 * 15 <= read_of(client, monkeypatch) <= 2 * 20


def test_a_copy_gets_nothing_that_its_original_before_the_point_has() -> None:
    client = talk("/chat/completions")
    client.send()
    client.history.extend([*client.history[1:3], ("user", "and now?")])
    (restored, *_) = client.send()
    assert [turn.status for turn in restored.report.turns] == ["restored"] * 6 + ["filled"]


def test_what_was_said_since_the_last_turn_may_be_another_thing_of_the_same_length() -> None:
    client = talk("/chat/completions", 1)
    for tail in (["this"], ["this", "one thing"], ["this", "two thing", "and more"], ["this", "two thing"]):
        del client.history[3:]
        client.history.extend(("user", text) for text in tail)
        client.send()


def test_a_call_that_another_turn_makes_too_ends_what_was_known_by_it() -> None:
    client = talk("/chat/completions")
    client.step("text", 0, "A summary of what was said so far.")
    client.send()
    first = client.history[1]
    client.histories.append([("user", "Something else altogether")])
    client.current = 1
    _, text, calls, *_ = first
    client.ask(text, calls, "another thought", False, False)
    client.current = 0
    client.send()


class Busy(MemoryStore):
    """Something else happens while a request looks its turns up."""

    meanwhile: Callable[[], object] | None = None

    def at(self, scope: bytes, places: Collection[bytes]) -> list[Record]:
        found = super().at(scope, places)
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        return found


def busy() -> tuple[Scene, Busy, PrefixCache, list[Message]]:
    """A scene that remembers one conversation at most, and one that is not remembered yet."""
    scene, store, memory = Scene(), Busy(), PrefixCache(conversations=1)
    scene.store, scene.memory = store, memory
    history = [user("What is the weather?")]
    return scene, store, memory, [*history, scene.say(history, turn("It is mild.", reasoning_content="A"))]


def test_what_an_answer_overtook_is_not_remembered() -> None:
    scene, store, _, said = busy()
    again = scene.restore(said[:1])
    store.meanwhile = lambda: scene.answer(again, turn("It is mild.", reasoning_content="B"))
    history = [*said, user("Thanks")]
    assert reasoning(scene.sent(history)) == ["A"]
    assert reasoning(scene.sent(history)) == ["B"]


def test_what_is_cleared_meanwhile_does_not_come_back() -> None:
    scene, store, memory, said = busy()
    memory.clear()
    store.meanwhile = memory.clear
    assert reasoning(scene.sent([*said, user("Thanks")])) == ["A"]
    assert len(memory) == 0


def test_a_conversation_that_had_to_go_meanwhile_is_worked_out_all_the_same() -> None:
    scene, store, memory, said = busy()
    history = [*said, user("Thanks")]
    history.append(scene.say(history, turn("You are welcome.", reasoning_content="B")))
    store.meanwhile = lambda: scene.restore([user("Something else")])
    assert reasoning(scene.sent([*history, user("Bye")])) == ["A", "B"]
    assert len(memory) == 1


def test_another_process_that_writes_ends_it(tmp_path: Path) -> None:
    memory = PrefixCache()
    scenes = [Scene(), Scene()]
    for scene in scenes:
        scene.store, scene.memory = open_store(tmp_path / "turns.sqlite3"), None
    one, two = scenes
    one.memory = memory
    history = [user("What is the weather?")]
    history.append(one.say(history, turn("It is mild.", reasoning_content="A")))
    history.append(user("Thanks"))
    for _ in range(2):
        assert reasoning(one.sent(history)) == ["A"]
        assert len(memory) == 1
    two.say(history[:1], turn("It is mild.", reasoning_content="B"))
    assert reasoning(one.sent(history)) == ["B"]
    for scene in scenes:
        scene.store.close()


def test_what_was_erased_is_not_remembered(tmp_path: Path) -> None:
    scene = Scene()
    scene.store = open_store(tmp_path / "turns.sqlite3")
    history = [user("What is the weather?")]
    history.append(scene.say(history, turn("It is mild.", reasoning_content="A")))
    history.append(user("Thanks"))
    assert reasoning(scene.sent(history)) == ["A"]
    with sqlite3.connect(tmp_path / "turns.sqlite3") as other:
        other.execute("DELETE FROM turns")
    assert reasoning(scene.sent(history)) == [" "]
    scene.store.close()


def test_looking_after_the_store_ends_nothing(tmp_path: Path) -> None:
    store = open_store(tmp_path / "turns.sqlite3")
    before = store.version()
    open_store(tmp_path / "turns.sqlite3").close()
    assert store.version() == before
    store.close()


def test_numbers_in_place_of_messages_are_not_taken_for_one_another() -> None:
    client = Client("/chat/completions")
    for last in (1, 12, 1):
        body = _json({"model": "deepseek-v4-pro", "messages": [{"role": "user", "content": "hi"}, last]})
        body = body.replace(b" ", b"")
        client.compare([world.restore(body, "sk-one", "") for world in client.worlds])


def test_it_is_bounded_in_conversations_and_bytes() -> None:
    memory = PrefixCache(conversations=3, max_bytes=4000)
    scene = Scene()
    scene.memory = memory
    for number in range(5):
        scene.restore([user(f"Task {number}")])
        assert len(memory) == min(number + 1, 3)
    scene.restore([user("x" * 3700)])
    assert len(memory) < 3 and memory.size <= 4000
    held = len(memory), memory.size
    scene.restore([user("x" * 5000)])
    assert (len(memory), memory.size) == held
    memory.clear()
    assert (len(memory), memory.size) == (0, 0)


@pytest.mark.parametrize("path", WIRES)
@settings(max_examples=80, deadline=None)
@given(plots=st.lists(PLOTS, max_size=12), within=st.sampled_from([0, 1, 8]))
def test_requests_and_records_are_the_same_with_the_memory_as_without(
    path: str, plots: list[list[Said]], within: int
) -> None:
    client = Client(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefix_cache, "_BRANCHES_WITHIN", within)
        for step in itertools.chain.from_iterable(plots):
            client.step(*step)
        client.send()
        client.history.append(("user", "the end"))
        client.send()


def test_an_edit_far_from_every_point_is_seen() -> None:
    """Of the same length, and nowhere near what is glanced at first: the client's words go out, not those
    that are remembered.
    """
    scene = Scene()
    history = [user("A" + "x" * 500)]
    for number in range(6):
        answer = turn(f"This is answer number {number}.", reasoning_content=f"R{number}")
        history += [scene.say(history, answer), user(f"And then, after {number}?")]
    scene.restore(history)
    edited = [user("B" + "x" * 500), *history[1:]]
    assert scene.sent(edited)[0] == edited[0]
    assert reasoning(scene.sent(edited)) == [f"R{number}" for number in range(6)]


def _forbid(scene: Scene) -> None:
    caller = scene.caller()
    scene.lessons.learn(
        Lesson(caller.host, caller.endpoint.dialect, "deepseek", "forbidden", "reasoning_content")
    )


def _elsewhere(scene: Scene) -> None:
    scene.host = "api.moonshot.ai"


def _other_wire(scene: Scene) -> None:
    scene.path = "/anthropic/v1/messages"


def _other_family(scene: Scene) -> None:
    scene.model = "moonshotai/kimi-k2.6"


def _nothing(scene: Scene) -> None:
    pass


@pytest.mark.parametrize(
    ("host", "model", "change", "parameters"),
    [
        ("api.deepseek.com", "deepseek-v4-pro", _forbid, {}),
        ("api.deepseek.com", "deepseek-v4-pro", _elsewhere, {}),
        ("api.deepseek.com", "deepseek-v4-pro", _other_wire, {}),
        ("api.deepseek.com", "deepseek-v4-pro", _nothing, {"thinking": {"type": "disabled"}}),
        ("openrouter.ai", "deepseek/deepseek-v4-pro", _other_family, {}),
    ],
)
def test_what_is_remembered_holds_in_the_same_circumstances_only(
    host: str, model: str, change: Callable[[Scene], None], parameters: dict[str, Any]
) -> None:
    """The same bytes of a history may be treated otherwise."""
    scene = Scene(host, model)
    history = [user("hello there")]
    for number in range(4):
        answer = turn(f"This is answer number {number}.", reasoning_content=f"R{number}")
        history += [scene.say(history, answer), user(f"And then, after {number}?")]
    usual = scene.restore(history)
    assert usual.report.restored == 4
    change(scene)
    remembered, scene.memory = scene.restore(history, **parameters), None
    afresh = scene.restore(history, **parameters)
    assert afresh.report.restored == 0
    assert (remembered.body, remembered.report.text()) == (afresh.body, afresh.report.text())


def test_parameters_of_one_request_are_not_reported_of_the_next() -> None:
    """What is left to do for a request is done when its parameters are already changed."""
    scene = Scene()
    scene.defers = True
    caller = scene.caller()
    scene.lessons.learn(Lesson(caller.host, caller.endpoint.dialect, "deepseek", "parameter", "temperature"))
    history = [user("hello there")]
    first = scene.restore(history, temperature=0.5)
    assert first.report.settings == ("temperature",)
    scene.answer(first, turn("Hi!", reasoning_content="A"))
    second = scene.restore([*history, turn("Hi!"), user("next")])
    assert (second.report.restored, second.report.settings) == (1, ())
    assert second.report.before is not None
    assert not second.report.before.settings
