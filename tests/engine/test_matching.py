"""Turns that clients changed, recognised all the same; and never on the words of another conversation."""

import json
from collections.abc import Callable

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from reasoning_fix.engine.history import bare
from tests.conversations import Message, Scene, call, reasoning, tool, turn, user
from tests.dialects import test_responses as items

LONG = "The user wants the file a.py. First look at it, then decide what to change, and how."


def opened(
    scene: Scene, thought: str = LONG, call_id: str = "call_00_aB3dEf9hIjKl", path: str = "a.py"
) -> list[Message]:
    """A conversation in which a file was read, as a plain client keeps it."""
    asked = [user("Please look at a.py")]
    said = turn(
        "I look.", [call(call_id, json.dumps({"path": path}), "read_file")], reasoning_content=thought
    )
    return [*asked, scene.say(asked, said), tool(call_id, "text of the file")]


def with_ids(history: list[Message], change: Callable[[str], str]) -> list[Message]:
    """The same history with other tool-call ids."""
    text = json.dumps(history)
    for message in history:
        for one in message.get("tool_calls", ()):
            text = text.replace(one["id"], change(one["id"]))
    return list(json.loads(text))


# ---- Ids without punctuation, a thought in the text, calls written out -------------------------------------


@pytest.mark.parametrize(
    ("call_id", "change"),
    [
        ("call_00_aB3dEf9hIjKl", bare),
        ("toolu_01-XyZ.9876543210", bare),
        ("chatcmpl-tool-0a1b2c3d", lambda call_id: call_id.replace("-", "_")),
        ("call_00_aB3dEf9hIjKl", lambda call_id: call_id.replace("_", "-")),
    ],
    ids=["DeepSeek's", "Claude's", "with other punctuation", "with dashes"],
)
def test_ids_without_their_punctuation_are_evidence(call_id: str, change: Callable[[str], str]) -> None:
    """After a model switch OpenClaw changes ids, text and the first user message at once."""
    scene = Scene()
    history = with_ids(opened(scene, call_id=call_id), change)
    history[0] = user("[earlier messages were summed up] " + history[0]["content"])
    history[1]["content"] = "Looking at the file now."
    restored = scene.restore(history)
    assert reasoning(json.loads(restored.body)["messages"]) == [LONG]
    assert restored.report.evidence == {"tool-call id": 1}


def test_counted_ids_without_punctuation_prove_nothing() -> None:
    scene = Scene("api.moonshot.ai", "kimi-k2.6")
    opened(scene, call_id="functions.read_file:0")
    other = with_ids(
        [
            user("Something else entirely"),
            turn("", [call("functions.read_file:0", '{"path": "a.py"}', "read_file")]),
            tool("functions.read_file:0", "x"),
        ],
        bare,
    )
    assert reasoning(scene.sent(other)) == [" "]


@pytest.mark.parametrize("content", [f"{LONG}\n\nI look.", f"<b>{LONG}</b>\nI look.", LONG])
@pytest.mark.parametrize("with_calls", [True, False])
def test_the_whole_thought_in_a_text_is_evidence(content: str, with_calls: bool) -> None:
    """A client that writes reasoning into the text at a model switch, with other ids and words."""
    scene = Scene()
    said = turn("I look." if "I look" in content else "", reasoning_content=LONG)
    if with_calls:
        said["tool_calls"] = [call("call_00_aaaaaaaaaaaa", '{"path": "a.py"}', "read_file")]
    scene.say([user("Please look at a.py")], said)
    kept = turn(content)
    if with_calls:
        kept["tool_calls"] = [call("call_1", '{"path": "a.py"}', "read_file")]
    history = [user("Go on, please."), kept, user("and?")]
    restored = scene.restore(history)
    assert reasoning(json.loads(restored.body)["messages"]) == [LONG]
    assert restored.report.evidence == {"the thought in its text": 1}


def test_a_short_thought_in_a_text_is_no_evidence() -> None:
    scene = Scene()
    scene.say([user("a")], turn("I look.", reasoning_content="Fine."))
    assert reasoning(scene.sent([user("b"), turn("Fine. Now\nI look."), user("c")])) == [" "]


def test_calls_written_out_as_text_are_the_turn() -> None:
    """smolagents sends no calls back, but the list of them as text, and the results as the user's words."""
    scene = Scene()
    history: list[Message] = [user("New task: find it")]
    thoughts = [f"{LONG} Step {step}" for step in range(3)]
    for step, thought in enumerate(thoughts):
        made = call(f"call_00_{step}aB3dEf9hIjKl", json.dumps({"path": f"{step}.py"}), "read_file")
        said = scene.say(history, turn("", [made], reasoning_content=thought))
        assert reasoning(scene.sent(history)) == thoughts[:step]
        written = [{"id": made["id"], "type": "function", "function": said["tool_calls"][0]["function"]}]
        history += [turn(f"Calling tools:\n{written}"), user(f"Observation:\nfound {step}")]
    restored = scene.restore(history)
    assert reasoning(json.loads(restored.body)["messages"]) == thoughts
    assert restored.report.evidence == {"calls written out as text": 3}


# ---- The neighbour's thought -------------------------------------------------------------------------------


def near(number: int, call_id: str) -> list[Message]:
    """A conversation that ends like any other one."""
    return [
        user(f"Task {number}"),
        turn(f"Of {number}.", reasoning_content=f"own {number}"),
        user("continue"),
        turn(None, [call(call_id, '{"path": "a.py"}', "read_file")]),
        tool(call_id, "x"),
    ]


@pytest.mark.parametrize(
    ("known", "unknown"),
    [
        ("call_5da1ba331c06325f17", "call_9e022e0b33ff5b0732"),
        ("call_00_aB3dEf9hIjKl", "call_00_zZ3dEf9hIjKl"),
        ("toolu_2bb97a31fa8555dd", "toolu_154cc1f7f9ba42e5"),
    ],
)
def test_the_same_call_after_the_same_words_in_another_conversation_gets_nothing(
    known: str, unknown: str
) -> None:
    scene = Scene()
    first, second = near(1, known), near(2, unknown)
    scene.say(first[:3], first[3] | {"reasoning_content": LONG})
    assert reasoning(scene.sent(second)) == ["own 2", " "]
    assert reasoning(scene.sent(first)) == ["own 1", LONG]


def test_another_id_beside_the_recorded_neighbour_is_no_veto() -> None:
    """A client that makes ids of its own: the recorded turn before it says which conversation this is."""
    scene = Scene()
    history = [
        user("Task"),
        scene.say(
            [user("Task")],
            turn("A plan that is long enough to be like no other one.", reasoning_content="R1"),
        ),
    ]
    history.append(user("continue"))
    made = call("call_5da1ba331c06325f17", '{"path": "a.py"}', "read_file")
    said = scene.say(history, turn(None, [made], reasoning_content=LONG))
    changed = json.loads(json.dumps([*history, said]).replace("5da1ba331c06325f17", "9e022e0b33ff5b0732"))
    changed[0] = user("Another beginning")
    assert reasoning(scene.sent(changed)) == ["R1", LONG]


@pytest.mark.parametrize("neighbours", [("Done.", "I look."), ("Done.", "I look.", "Done.", "Hm.")])
def test_short_turns_in_a_row_are_said_in_many_conversations(neighbours: tuple[str, ...]) -> None:
    scene = Scene()
    history = [user("One task")]
    for text in neighbours:
        history += [scene.say(history, turn(text, reasoning_content=LONG + text)), user("go")]
    assert reasoning(scene.sent([user("Another task"), *history[1:]])) == [" "] * len(neighbours)


def test_turns_in_a_row_that_say_enough_together_are_known_anywhere() -> None:
    scene = Scene()
    history = [user("One task")]
    for text in ("The tests all pass now.", "I look at the parser next."):
        history += [scene.say(history, turn(text, reasoning_content=LONG + text)), user("go")]
    sent = scene.sent([user("Another task"), *history[1:]])
    assert reasoning(sent) == [LONG + "The tests all pass now.", LONG + "I look at the parser next."]


def test_a_short_turn_beside_a_known_one_is_known() -> None:
    scene = Scene()
    history = [user("One task")]
    for text in ("A plan that is long enough to be like no other one.", "Done."):
        history += [scene.say(history, turn(text, reasoning_content=LONG + text)), user("go")]
    sent = scene.sent([user("Another task"), *history[1:]])
    assert reasoning(sent)[1] == LONG + "Done."


# Too little, together with the texts below, to be evidence across conversations.
WORDS = st.sampled_from(["continue", "go", "yes", "run the tests please"])
STEP = st.tuples(WORDS, st.sampled_from(["Done.", "I look.", ""]), st.sampled_from(["a.py", "b.py", None]))


@pytest.mark.in_full("pairs", [60], [10_000])
def test_no_thought_of_one_conversation_is_ever_in_another(pairs: int) -> None:
    @settings(max_examples=pairs, deadline=None, phases=(Phase.generate,))
    @given(
        st.lists(STEP, min_size=1, max_size=5),
        st.lists(STEP, min_size=1, max_size=5),
        st.booleans(),
        st.booleans(),
    )
    def check(
        one: list[tuple[str, str, str | None]],
        other: list[tuple[str, str, str | None]],
        fork: bool,
        known: bool,
    ) -> None:
        scene = Scene()
        if fork:
            other = [*one[: len(one) // 2], *other]
        recorded = _played(scene, "one", one, record=True)
        played = _played(scene, "other", other, record=known)
        for history, own in ((recorded, "one"), (played, "other")):
            bare_history = [{k: v for k, v in m.items() if k != "reasoning_content"} for m in history]
            for thought in reasoning(scene.sent(bare_history)):
                assert thought in (..., " ") or f" {own} " in str(thought)

    check()


def _played(scene: Scene, name: str, steps: list[tuple[str, str, str | None]], record: bool) -> list[Message]:
    """A conversation of these steps, its thoughts saying whose they are; the first words are its own."""
    history: list[Message] = []
    for number, (words, text, path) in enumerate(steps):
        history.append(user(f"{name}: {words}" if number == 0 else words))
        calls = []
        if path is not None:
            calls = [call(f"call_00_{name:z<8}{number:08d}", json.dumps({"path": path}), "read_file")]
        said = turn(
            text or ("" if calls else "Hm."), calls, reasoning_content=f"Of {name} at {number}: {LONG}"
        )
        history.append(scene.say(history, said) if record else said)
        history += [tool(one["id"], "x") for one in calls]
    return [*history, user("end")]


# ---- Turns that stand side by side on the Responses wire ---------------------------------------------------


def test_two_turns_side_by_side_get_both_thoughts() -> None:
    scene = items.scene_at()
    first = items.say(
        scene, [items.user("a")], items.reason("R1"), items.says("The first answer, long enough.")
    )
    asked = [items.user("a"), *first, items.user("b")]
    second = items.say(scene, asked, items.reason("R2"), items.says("The second answer, long enough."))
    sent = scene.sent([items.user("a"), *first, *second, items.user("c")])
    assert items.shape(sent) == "uRmRmu"
    assert [sent[1], sent[3]] == [items.reason("R1"), items.reason("R2")]


def test_an_answer_and_the_calls_of_the_next_turn_get_both_thoughts() -> None:
    scene = items.scene_at()
    first = items.say(
        scene, [items.user("a")], items.reason("R1"), items.says("The first answer, long enough.")
    )
    asked = [items.user("a"), *first, items.user("b")]
    second = items.say(scene, asked, items.reason("R2"), items.calls())
    sent = scene.sent([items.user("a"), *first, *second, items.output()])
    assert items.shape(sent) == "uRmRco"
    assert [sent[1], sent[3]] == [items.reason("R1"), items.reason("R2")]


def test_two_messages_of_one_turn_stay_one_turn() -> None:
    scene = items.scene_at()
    said = items.say(scene, [items.user("a")], items.reason("R"), items.says("One."), items.says("Two."))
    sent = scene.sent([items.user("a"), *said, items.user("b")])
    assert items.shape(sent) == "uRmmu" and sent[1] == items.reason("R")


# ---- By what a turn is recognised: a row each --------------------------------------------------------------

CALL_ID = "call_00_Ab3dEf6hIj9lMn2p"
PLAN = "First I read the parser, then I change the grammar."


def _recorded(scene: Scene, *, calls: bool, text: str) -> list[Message]:
    """A conversation of one recorded turn, as a plain client keeps it."""
    made = [call(CALL_ID, '{"path": "src/parser.py"}', "read_file")] if calls else []
    said = scene.say([user("Change the grammar")], turn(text, made, reasoning_content=LONG))
    return [user("Change the grammar"), said, tool(CALL_ID, "x") if calls else user("go on")]


@pytest.mark.parametrize(
    ("calls", "text", "change", "evidence"),
    [
        (True, PLAN, {}, "context"),
        (True, PLAN, {"Change the grammar": "Change it"}, "tool-call id"),
        (True, PLAN, {"Change the grammar": "Change it", CALL_ID: CALL_ID.replace("_", "")}, "tool-call id"),
        (True, PLAN, {"Change the grammar": "Change it", CALL_ID: "toolu_1"}, "distinctive turn"),
        (True, PLAN, {"Change the grammar": "Change it", CALL_ID: "call_00_zzzzzzzzzzzzzzzz"}, ""),
        (True, "", {"Change the grammar": "Change it", CALL_ID: "toolu_1"}, "distinctive turn"),
        (True, PLAN, {'\\"path\\": \\"src': '\\"path\\":\\"src'}, "context"),
        (True, PLAN, {"src/parser.py": "src/other.py"}, "context"),
        (True, PLAN, {"src/parser.py": "src/other.py", CALL_ID: "toolu_1"}, ""),
        (False, PLAN, {}, "context"),
        (False, PLAN, {PLAN: f"  {PLAN}\\n"}, "context"),
        (False, PLAN, {PLAN: PLAN[:30]}, "context"),
        (False, PLAN, {"Change the grammar": "Change it"}, "distinctive turn"),
        (False, PLAN, {"Change the grammar": "Change it", PLAN: PLAN[:30]}, ""),
        (
            False,
            PLAN,
            {"Change the grammar": "Change it", PLAN: f"{LONG}\\n\\n{PLAN}"},
            "the thought in its text",
        ),
        (False, "Done.", {}, "context"),
        (False, "Done.", {"Change the grammar": "Change it"}, ""),
    ],
    ids=str,
)
def test_what_a_turn_is_recognised_by(calls: bool, text: str, change: dict[str, str], evidence: str) -> None:
    scene = Scene()
    written = json.dumps(_recorded(scene, calls=calls, text=text))
    for old, new in change.items():
        assert old in written
        written = written.replace(old, new)
    (found,) = scene.restore(json.loads(written)).report.turns
    assert (found.evidence, found.status) == (evidence, "restored" if evidence else "filled")
