"""Why a turn was or was not restored: in a scene, in a proxy that runs, in a saved file."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from mitmproxy import flow, http
from mitmproxy.test import taddons, tflow, tutils

from reasoning_fix import cli
from reasoning_fix.engine.explaining import LINE_LENGTH, Earlier, Explained, Explanation, explain
from reasoning_fix.providers.lessons import Lesson
from reasoning_fix.proxy.commands import Commands
from reasoning_fix.proxy.interceptor import Interceptor
from tests.captured import Studio, write
from tests.conversations import TOOLS, Message, Scene, call, tool, turn, user
from tests.end_to_end import test_chat as test_end_to_end
from tests.end_to_end import test_dialects as test_dialects_end_to_end
from tests.provider.simulator import Simulator


class Told(Scene):
    """A scene that says why."""

    def explain(self, messages: list[Message], key: str = "sk-one", **parameters: Any) -> Explanation:
        body = self.body(messages, **parameters)
        caller = self.caller(key)
        told, restored = explain(body, caller, self.knowledge)
        sent = self.restore(messages, key=key, **parameters)
        assert restored is not None and restored.sent == sent.body
        return told

    def only(self, messages: list[Message], **parameters: Any) -> Explained:
        (found,) = self.explain(messages, **parameters).turns
        return found


GO = [user("Weather in Paris, please?")]
LOOKS = turn("Let me look it up for you.", [call("call_00_abcdefgh", '{"city":"Paris"}')])
LATER = [*GO, LOOKS, tool("call_00_abcdefgh", "mild")]


@pytest.fixture
def scene() -> Told:
    found = Told()
    found.say(GO, LOOKS | {"reasoning_content": "Look."})
    return found


def test_a_turn_under_its_own_context(scene: Told) -> None:
    found = scene.only(LATER)
    assert (found.status, found.evidence, found.ties) == ("restored", "context", [])
    assert found.on_record == {"place": 1, "context": 1, "tool-call id": 1, "same turn": 1, "neighbour": 1}
    (candidate,) = found.candidates
    assert candidate.chosen and candidate.thought and candidate.lacks == ()
    assert candidate.has == (
        "same context",
        "same turn",
        "same tool-call id",
        "calls that agree",
        "the message before",
    )
    assert found.line == "Let me look it up for you. [calls f]"


def test_a_turn_by_its_call_id(scene: Told) -> None:
    found = scene.only([user("Another opening"), *LATER[1:]])
    assert (found.status, found.evidence) == ("restored", "tool-call id")
    assert found.on_record["place"] == 0 and found.on_record["tool-call id"] == 1
    assert "same context" in found.candidates[0].lacks


def test_a_turn_by_its_neighbour() -> None:
    scene = Told()
    scene.say([user("A long enough question, is it not?")], turn("Yes.", reasoning_content="Hm."))
    history = [user("New."), turn("x" * 50), user("A long enough question, is it not?"), turn("Yes."), *GO]
    first, second = scene.explain(history).turns
    assert (second.status, second.evidence) == ("restored", "neighbouring turn")
    assert second.on_record["neighbour"] == 1
    assert (first.status, first.candidates) == ("filled", [])
    assert first.why == (
        "nothing like it is on record; the rule 'deepseek' demands reasoning on every turn of a request with "
        "tools, so it is filled"
    )


def test_too_little_evidence(scene: Told) -> None:
    scene.say([user("a")], turn("Done.", reasoning_content="A."))
    found = scene.only([user("b"), turn("Done."), user("c")])
    assert found.status == "filled"
    assert found.why.startswith("what is on record has too little evidence")
    (candidate,) = found.candidates
    assert candidate.has == ("same turn",)
    assert candidate.lacks == ("same context", "the message before")


def test_a_tie_that_the_newest_wins(scene: Told) -> None:
    scene.say(GO, LOOKS | {"reasoning_content": "Look again."})
    found = scene.only(LATER)
    assert [(tie.among, tie.by, tie.settled) for tie in found.ties] == [
        (2, "the newest, generated again", True)
    ]
    assert [candidate.chosen for candidate in found.candidates] == [True, False]


def test_a_tie_that_nothing_settles() -> None:
    scene = Told()
    first, second = scene.restore(GO), scene.restore(GO)
    scene.answer(first, turn("Sunny.", reasoning_content="One."))
    scene.answer(second, turn("Sunny.", reasoning_content="Two."))
    found = scene.only([*GO, turn("Sunny."), user("more")])
    assert found.status == "filled"
    assert "several turns on record fit it alike" in found.why
    assert {tie.by for tie in found.ties} == {
        "not settled: different reasonings that were under way at the same time",
        "not settled: different reasonings",
    }


def test_a_tie_that_a_system_prompt_settles() -> None:
    scene = Told()
    ways = {
        name: scene.restore([{"role": "system", "content": name}, *GO]) for name in ("You are Ada.", "Bob")
    }
    for name, restored in ways.items():
        scene.answer(restored, turn("Sunny.", reasoning_content=name))
    found = scene.only([{"role": "system", "content": "You are Ada."}, *GO, turn("Sunny."), user("more")])
    assert found.status == "restored" and [tie.by for tie in found.ties] == ["system prompt"]
    assert "the system prompt" in found.candidates[0].has
    assert "the system prompt" in found.candidates[1].lacks


def test_two_places_for_one_turn(scene: Told) -> None:
    said = "A long answer about the weather in Paris, said twice."
    scene.say(GO, turn(said, reasoning_content="Once."))
    first, second = scene.explain([*GO, turn(said), user("again"), turn(said), user("x")]).turns
    assert (first.status, second.status) == ("restored", "filled")
    assert "being free (it is another turn of this request)" in second.candidates[0].lacks


def test_statuses_without_anything_restored(scene: Told) -> None:
    sent = scene.explain([*GO, LOOKS | {"reasoning_content": "Mine."}, *LATER[2:]])
    assert sent.turns[0].status == "sent"
    assert sent.untouched == "the client sends the reasoning of every turn itself"
    scene.say([user("no thought")], turn("A plain answer without any."))
    empty = scene.only([user("no thought"), turn("A plain answer without any."), user("x")])
    assert (empty.status, empty.why) == ("empty", "it is on record as having had no reasoning")
    scene.mode = "none"
    left = scene.explain([user("new"), turn("Never seen."), user("x")])
    assert left.turns[0].status == "absent"
    assert left.untouched == "nothing to restore is on record, and the option reasoning_fallback is none"


def test_what_is_learned_from_a_request_is_no_candidate_in_it() -> None:
    found = Told().only([user("new"), turn("Mine.", reasoning_content="My own thought."), user("x")])
    assert (found.status, found.candidates, set(found.on_record.values())) == ("sent", [], {0})


UNTOUCHED = {
    "thinking off": (
        {"thinking": {"type": "disabled"}},
        "thinking is off in this request (switch 'thinking')",
    ),
    "nothing said": ({"messages": GO}, "the model has said nothing in it yet"),
    "no messages": ({"messages": 3}, "messages is not an array (ValidationError)"),
}


@pytest.mark.parametrize(("parameters", "reason"), UNTOUCHED.values(), ids=UNTOUCHED)
def test_why_nothing_was_touched(scene: Told, parameters: dict[str, object], reason: str) -> None:
    body = json.dumps(json.loads(scene.body(LATER)) | parameters).encode()
    told, _ = explain(body, scene.caller(), scene.knowledge)
    assert told.untouched == reason
    assert f"nothing was changed: {reason}" in "\n".join(told.lines())
    assert {turn.status for turn in told.turns} <= {"untouched"}


def test_a_conversation_that_the_server_keeps() -> None:
    scene = Told(path="/responses")
    body = scene.body(GO, previous_response_id="resp_1")
    told, restored = explain(body, scene.caller(), scene.knowledge)
    assert restored is None
    assert told.untouched == "the server keeps this conversation itself (previous_response_id)"


def test_reasoning_that_a_rule_forbids(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text(
        '[[provider]]\nname = "mine"\nhosts = ["llm.example"]\n'
        '[[provider.rule]]\nname = "shy"\nmodels = "shy"\nforbidden = true\n'
    )
    scene = Told(host="llm.example", model="shy-1")
    scene.use_table(own)
    told = scene.explain(LATER)
    assert told.untouched == "the rule 'shy' forbids reasoning in requests"
    assert told.turns[0].why == told.untouched


def test_another_provider_said_it(scene: Told) -> None:
    other = Told(host="opencode.ai", path="/zen/v1/chat/completions")
    other.store, other.installation = scene.store, scene.installation
    found = other.only(LATER)
    assert found.why.startswith("only another provider, or another family of models, said it")
    assert found.candidates == []


def test_a_lesson_is_named(scene: Told) -> None:
    scene.model = "deepseek-v9"
    family = scene.restore(GO).report.family
    scene.lessons.learn(Lesson(scene.host, "chat_completions", family, "missing", "words"))
    found = scene.only([user("new"), turn("Never seen."), user("x")])
    assert "demands reasoning on every turn (a refusal taught that), so it is filled" in found.why


def test_no_text_but_a_short_first_line(scene: Told) -> None:
    scene.say([user("long")], turn("word " * 40 + "\nsecret", reasoning_content="Hidden thought."))
    told = scene.explain([user("long"), turn("word " * 40 + "\nsecret"), user("my own words")])
    shown = "\n".join(told.lines())
    assert len(told.turns[0].line) == LINE_LENGTH and told.turns[0].line.endswith("…")
    bare = "\n".join(told.lines(texts=False)) + msgspec.json.encode(told.without_texts()).decode()
    for private in ("secret", "Hidden thought", "my own words", "sk-one"):
        assert private not in shown + bare
    assert "word" in shown and "word" not in bare


def test_looking_on_changes_nothing(scene: Told) -> None:
    """Not even what a client's own reasoning would teach, and later records are not seen."""
    before = len(scene.records())
    body = scene.body([*GO, turn("Mine.", reasoning_content="My own thought."), user("x")])
    past = msgspec.structs.replace(scene.knowledge, store=Earlier(scene.store, 0))
    told, _ = explain(body, scene.caller(), past)
    assert len(scene.records()) == before
    told, _ = explain(scene.body(LATER), scene.caller(), past)
    assert told.turns[0].status == "filled" and told.turns[0].candidates == []


def test_nothing_is_collected_in_everyday_use(scene: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*given: object) -> None:
        raise AssertionError("the observer was made")

    monkeypatch.setattr("reasoning_fix.engine.explaining._Watcher.tied", never)
    scene.say(GO, LOOKS | {"reasoning_content": "Look again."})
    assert scene.restore(LATER).report.restored == 1


# ---- In a proxy that runs ----------------------------------------------------------------------------------


class Running:
    """The addon in a mitmproxy without a network."""

    def __init__(self, context: taddons.context, addon: Interceptor) -> None:
        self.context, self.addon = context, addon

    def ask(self, messages: list[Message], **more: Any) -> http.HTTPFlow:
        made = tflow.tflow(
            req=tutils.treq(host="api.deepseek.com", path=b"/chat/completions", method=b"POST")
        )
        made.request.headers = http.Headers(authorization="Bearer sk-one", content_type="application/json")
        body = {"model": "deepseek-flash", "messages": messages, "tools": TOOLS} | more
        made.request.raw_content = json.dumps(body).encode()
        self.addon.request(made)
        return made

    def answer(self, made: http.HTTPFlow, message: Message) -> None:
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        body = json.dumps({"choices": [choice]}).encode()
        made.response = http.Response.make(200, body, {"content-type": "application/json"})
        self.addon.responseheaders(made)
        asyncio.run(self.addon.response(made))

    def explain(self, made: flow.Flow, *more: str) -> list[str]:
        commands = Commands(self.addon._open)
        return list(commands.explain([made], *[one == "true" for one in more]))


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    addon = Interceptor()
    with taddons.context(addon) as context:
        yield Running(context, addon)
        addon.done()


def test_a_flow_is_explained_as_it_was_when_it_passed(running: Running) -> None:
    running.answer(running.ask(GO), LOOKS | {"reasoning_content": "Look."})
    flow = running.ask(LATER)
    running.answer(flow, turn("Mild.", reasoning_content="So it is."))
    told = running.explain(flow)
    assert told[0] == (
        "api.deepseek.com deepseek-flash (deepseek, chat_completions): restored 1 of 1 turns: 1 by context"
    )
    # An answer that was generated again later, and would win today.
    running.answer(running.ask(GO), LOOKS | {"reasoning_content": "Look once more."})
    assert running.explain(flow) == told
    assert not [line for line in running.explain(flow, "false") if "Let me look" in line]
    assert [line for line in told if "Let me look" in line]


def test_a_flow_is_explained_by_the_options_of_its_time(running: Running) -> None:
    flow = running.ask([user("new"), turn("Never seen."), user("x")])
    told = running.explain(flow)
    assert "filled" in told[1]
    running.context.configure(running.addon, reasoning_fallback="none")
    assert running.explain(flow) == told


def test_a_record_that_changed_since_is_said_so(running: Running) -> None:
    running.answer(running.ask(GO), LOOKS | {"reasoning_content": "Look."})
    flow = running.ask(LATER)
    running.context.configure(running.addon, reasoning_store="memory")
    assert running.explain(flow)[-1] == "  note: then it was: restored; the record has changed since"


def test_a_flow_that_is_no_chat_request(running: Running) -> None:
    assert running.explain(tflow.tflow()) == [
        "address: not a chat request of a known provider, or its body is not here"
    ]
    assert running.explain(tflow.ttcpflow()) == ["not a chat request: this is not an HTTP flow"]


def test_mitmproxy_finds_the_command(running: Running) -> None:
    flow = running.ask(GO)
    commands = running.context.master.commands
    assert commands.commands["reasoning_fix.explain"].help
    (first, second) = commands.call("reasoning_fix.explain", [flow], False)
    assert first.endswith("not touched")
    assert second == "  nothing was changed: the model has said nothing in it yet"


# ---- Through a real proxy, from a real file ----------------------------------------------------------------


@pytest.fixture(scope="module")
def capture(_simulator: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Path:
    studio = Studio(_simulator, tmp_path_factory.mktemp("explain"))
    which = test_end_to_end.DEEPSEEK
    studio.take(test_end_to_end.test_three_turns_with_tools_work, which=which, streamed=True)
    return studio.files[0]


def test_the_file_is_explained(capture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["explain", str(capture), "--flow", "3"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("#3 api.deepseek.com deepseek-flash (deepseek, chat_completions): restored 2 of 2")
    assert told.count("-> has same context, same turn") == 2
    assert "Let me look at Oslo too. [calls get_weather]" in told
    assert cli.main(["explain", str(capture), "--no-texts"]) == 0
    told = capsys.readouterr().out
    assert told.count("#") == 4 and "Let me look" not in told
    assert cli.main(["explain", str(capture), "--flow", "2", "--json", "--no-texts"]) == 0
    (one,) = json.loads(capsys.readouterr().out)
    assert one["number"] == 2 and one["explanation"]["turns"][0]["status"] == "restored"
    assert one["explanation"]["turns"][0]["line"] == ""


def test_a_file_without_chat_requests(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "other.mitm", [tflow.tflow(resp=True), tflow.ttcpflow()])
    assert cli.main(["explain", str(path)]) == 0
    assert capsys.readouterr().out == "no chat request of a known provider in 2 flows\n"
    assert cli.main(["explain", str(path), "--flow", "1"]) == 2
    assert "flow 1" in capsys.readouterr().err


def test_own_providers_are_known(
    _simulator: Simulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    studio = Studio(_simulator, tmp_path)
    studio.take(test_dialects_end_to_end.test_a_server_of_ones_own, dialect="messages", streamed=True)
    assert cli.main(["explain", str(studio.files[0])]) == 0
    assert "no chat request" in capsys.readouterr().out
    own = str(tmp_path / "own.toml")
    assert cli.main(["explain", str(studio.files[0]), "--user-providers", own, "--flow", "4"]) == 0
    assert "restored 3 of 3" in capsys.readouterr().out
    assert cli.main(["explain", str(studio.files[0]), "--user-providers", str(tmp_path / "none")]) == 2
