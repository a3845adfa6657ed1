"""What clients do to a history, and that each turn gets back what the provider said, or nothing."""

import contextlib
import json

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from reasoning_fix.dialects.splice import SpliceError
from reasoning_fix.dialects.wire import NotChatError
from tests.conversations import TOOLS, Message, Scene, call, reasoning, tool, turn, user


def two_turns(scene: Scene, first_id: str = "call_00_aaaaaaaaaaaaaaaaaaaaaaaa") -> list[Message]:
    """user, call, result, answer: as a plain client keeps them. Reasoning was R1 and R2."""
    history = [user("What is the weather in Paris?")]
    asked = turn("Let me look.", [call(first_id, '{"city": "Paris", "n": 1.0}')], reasoning_content="R1 \n é")
    history.append(scene.say(history, asked))
    history.append(tool(first_id, "18 degrees"))
    history.append(scene.say(history, turn("It is mild.", reasoning_content="R2")))
    return [*history, user("Thanks. And tomorrow?")]


def edited(history: list[Message], index: int, **changes: object) -> list[Message]:
    copy = [dict(message) for message in history]
    copy[index] |= changes
    return copy


BOTH = ["R1 \n é", "R2"]


LONG = "I have looked at all of the files in this folder, as asked."


def test_dropped_reasoning_goes_back_to_every_turn() -> None:
    scene = Scene()
    history = two_turns(scene)
    restored = scene.restore(history)
    assert restored.is_changed
    assert reasoning(json.loads(restored.body)["messages"]) == BOTH
    assert restored.report.text() == "restored 2 of 2 turns: 2 by context"


@pytest.mark.parametrize(
    "changes",
    [
        {"content": "  Let me look.\n"},
        {"content": [{"type": "text", "text": "Let me look.", "cache_control": {"type": "ephemeral"}}]},
        {"tool_calls": [call("call_00_aaaaaaaaaaaaaaaaaaaaaaaa", '{"n":1,"city":"Paris"}')]},
        {"tool_calls": [call("x9y8z7w6v", '{"city": "Paris", "n": 1.0}')]},
        {"content": None},
        {"content": "<think>R1 \n é</think>Let me look."},
        {"content": "R1 \n é\n\nLet me look.", "reasoning_content": ""},
        {"reasoning_content": None},
        {"reasoning_content": ""},
        {"reasoning_content": " "},
        {"reasoning_content": "[reasoning unavailable]"},
    ],
)
def test_altered_turn_is_recognised(changes: Message) -> None:
    scene = Scene()
    history = two_turns(scene)
    assert reasoning(scene.sent(edited(history, 1, **changes))) == BOTH


def test_missing_content_is_recognised() -> None:
    scene = Scene()
    history = [user("go")]
    history.append(scene.say(history, turn("", [call("call_1_abcdefgh", '{"a":1}')], reasoning_content="R")))
    del history[1]["content"]
    assert reasoning(scene.sent([*history, tool("call_1_abcdefgh", "x")])) == ["R"]


def test_system_prompt_and_tools_may_change_on_each_request() -> None:
    scene = Scene()
    history = two_turns(scene)
    late = [{"role": "system", "content": "It is Tuesday."}, *history]
    assert reasoning(scene.sent(late, tools=[*TOOLS, *TOOLS])) == BOTH


def test_compacted_prefix_by_tool_call_id_and_neighbour() -> None:
    scene = Scene()
    history = two_turns(scene)
    assert reasoning(scene.sent([user("Summary: weather."), *history[1:]])) == BOTH


def test_compacted_prefix_with_ids_that_count_up() -> None:
    scene = Scene("api.moonshot.ai", "kimi-k2.6")
    history = two_turns(scene, "functions.f:0")
    assert reasoning(scene.sent([user("Summary: weather."), *history[1:]])) == BOTH


def test_turn_split_in_two_messages_gets_its_reasoning_once() -> None:
    scene = Scene()
    history = two_turns(scene)
    text = edited(history, 1)[1] | {"tool_calls": None}
    calls = edited(history, 1, content=None)[1]
    assert reasoning(scene.sent([history[0], text, calls, *history[2:]])) == [" ", *BOTH]


def test_the_reasoning_of_a_split_turn_stands_once_and_with_its_calls() -> None:
    """There each rule looks for it, wherever the client left it."""
    scene = Scene()
    history = two_turns(scene)
    text = edited(history, 1, reasoning_content="R1 \n é")[1] | {"tool_calls": None}
    calls = edited(history, 1, content=None)[1]
    restored = scene.restore([history[0], text, calls, *history[2:]])
    assert reasoning(json.loads(restored.body)["messages"]) == [" ", *BOTH]
    assert [turn.status for turn in restored.report.turns] == ["part", "restored", "restored"]


def test_merged_tool_turns_get_both_reasonings_in_order() -> None:
    scene = Scene()
    history = [user("Read both files")]
    for number, name in enumerate(("a", "b")):
        asked = turn(None, [call(f"call_00_{name * 24}", f'{{"path": "{name}.txt"}}')])
        history.append(scene.say(history, asked | {"reasoning_content": f"R{number}"}))
        history.append(tool(f"call_00_{name * 24}", name))
    merged = turn(None, history[1]["tool_calls"] + history[3]["tool_calls"])
    assert reasoning(scene.sent([history[0], merged, history[2], history[4]])) == ["R0R1"]


def test_done_twice_with_different_reasoning() -> None:
    scene = Scene()
    history = [user("one")]
    for number in range(2):
        history.append(scene.say(history, turn("Done.", reasoning_content=f"R{number}")))
        history.append(user("again"))
    assert reasoning(scene.sent(history)) == ["R0", "R1"]


def test_done_in_another_conversation_gets_nothing() -> None:
    scene = Scene()
    for name in ("first task", "second task"):
        scene.say([user(name)], turn("Done.", reasoning_content=name))
    assert reasoning(scene.sent([user("third task"), turn("Done."), user("next")])) == [" "]


def test_a_distinctive_turn_with_two_thoughts_gets_neither() -> None:
    scene = Scene()
    for task, thought in (("one task", "A"), ("another task", "B")):
        scene.say([user(task)], turn(LONG, reasoning_content=thought))
    assert reasoning(scene.sent([user("a third task"), turn(LONG), user("more")])) == [" "]


def test_a_distinctive_turn_of_a_conversation_with_another_header_is_another() -> None:
    scene = Scene()
    scene.say([user("one task")], turn(LONG, reasoning_content="A"), session="ses_1")
    said = [user("another task"), turn(LONG), user("more")]
    assert reasoning(scene.sent(said, session="ses_2")) == [" "]
    assert reasoning(scene.sent(said)) == ["A"]


def test_done_after_ok_is_said_in_every_conversation() -> None:
    scene = Scene()
    scene.say([user("one task"), turn("Well."), user("ok")], turn("Done.", reasoning_content="A"))
    said = [user("another task"), turn("Hm."), user("ok"), turn("Done."), user("more")]
    assert reasoning(scene.sent(said)) == [" ", " "]


def test_a_few_letters_are_no_turn_that_was_cut() -> None:
    scene = Scene()
    scene.say([user("go")], turn("So many words, as one says.", reasoning_content="A"))
    assert reasoning(scene.sent([user("go"), turn("So"), user("more")])) == [" "]
    assert reasoning(scene.sent([user("go"), turn("So many words"), user("more")])) == ["A"]


def test_another_call_in_the_same_place_is_another_turn() -> None:
    scene = Scene()
    scene.say([user("go")], turn("", [call("call_00_abcdefgh", '{"a": 1}')], reasoning_content="A"))
    other = turn("", [call("call_00_ijklmnop", '{"a": 2}')])
    assert reasoning(scene.sent([user("go"), other, tool("call_00_ijklmnop", "x")])) == [" "]


def test_same_counted_ids_in_two_conversations() -> None:
    scene = Scene("api.moonshot.ai", "kimi-k2.6")
    one, two = ([user(name)] for name in ("alpha", "beta"))
    for history, name in ((one, "A"), (two, "B")):
        asked = turn(None, [call("functions.f:0", '{"path": "x"}')], reasoning_content=name)
        history.append(scene.say(history, asked))
        history.append(tool("functions.f:0", "same"))
    assert reasoning(scene.sent(one)) == ["A"]
    assert reasoning(scene.sent(two)) == ["B"]
    strange = [user("gamma"), *one[1:]]
    assert reasoning(scene.sent(strange)) == [" "]


def test_answer_generated_again_goes_to_the_newest() -> None:
    scene = Scene()
    ask = [user("Say done")]
    for text in ("old", "new"):
        kept = scene.say(ask, turn("Done.", reasoning_content=text))
    assert reasoning(scene.sent([*ask, kept, user("more")])) == ["new"]


def test_branches() -> None:
    scene = Scene()
    ask = [user("Pick a colour")]
    red = scene.say(ask, turn("Red, as it is warm.", reasoning_content="R"))
    blue = scene.say(ask, turn("Blue, as it is calm.", reasoning_content="B"))
    assert reasoning(scene.sent([*ask, red, user("why")])) == ["R"]
    assert reasoning(scene.sent([*ask, blue, user("why")])) == ["B"]


def test_two_hundred_tool_turns() -> None:
    scene = Scene("api.moonshot.ai", "kimi-k2.6")
    history = [user("go")]
    for number in range(200):
        call_id = f"functions.f:{number}"
        asked = turn(None, [call(call_id, '{"poll": true}')], reasoning_content=f"R{number}")
        history += [scene.say(history, asked), tool(call_id, "pending")]
    assert reasoning(scene.sent(history)) == [f"R{number}" for number in range(200)]


def test_interrupted_turn_matches_the_partial_text() -> None:
    scene = Scene()
    ask = [user("Tell a story")]
    exchange = scene.restore(ask)
    scene.answer(exchange, turn("Once upon a ti", reasoning_content="half a tho"), finish=None)
    assert reasoning(scene.sent([*ask, turn("Once upon"), user("go on")])) == ["half a tho"]
    assert reasoning(scene.sent([*ask, turn("Once upon a ti [stopped]"), user("go on")])) == ["half a tho"]


def test_own_reasoning_is_left_alone_and_learned() -> None:
    scene = Scene()
    history = [user("hello there"), turn("Hi!", reasoning_content="mine"), user("next")]
    asked = scene.restore(history)
    assert not asked.is_changed
    scene.answer(asked, turn("Then this."))
    del history[1]["reasoning_content"]
    assert reasoning(scene.sent(history)) == ["mine"]


@pytest.mark.parametrize("defers", [False, True])
def test_own_reasoning_wins_over_what_is_on_record(defers: bool) -> None:
    scene = Scene()
    said = scene.say([user("hello there")], turn("Hi!", reasoning_content="recorded"))
    scene.defers = defers
    history = [user("hello there"), said | {"reasoning_content": "mine"}, user("next")]
    restored = scene.restore(history)
    assert not restored.is_changed
    restored.accept()
    assert [opened.fields for opened, _ in scene.records()] == [{"reasoning_content": b'"recorded"'}]


def test_placeholders_are_never_learned() -> None:
    scene = Scene()
    for stand_in in (" ", "", ".", "[reasoning unavailable]"):
        told = [user("hello there"), turn("Hi!", reasoning_content=stand_in), user("next")]
        scene.answer(scene.restore(told), turn("Then this."))
    assert reasoning(scene.sent([user("hello there"), turn("Hi!"), user("next")])) == [" "]


@pytest.mark.parametrize(
    "stand_in",
    [
        "(thinking omitted)",
        "(prior reasoning summary unavailable)",
        "<reasoning omitted>",
        "Thinking...",
        "n/a",
    ],
)
def test_placeholders_of_other_tools_give_way_to_the_thought(stand_in: str) -> None:
    scene = Scene()
    history = two_turns(scene)
    for index in (1, 3):
        history[index] |= {"reasoning_content": stand_in}
    assert reasoning(scene.sent(history)) == BOTH


def test_a_short_thought_that_a_client_brings_stays() -> None:
    scene = Scene()
    history = two_turns(scene)
    history[1] |= {"reasoning_content": "(Wait, the file is missing)"}
    assert reasoning(scene.sent(history)) == ["(Wait, the file is missing)", "R2"]


def test_never_across_credentials_or_providers() -> None:
    scene = Scene()
    history = two_turns(scene)
    assert reasoning(scene.sent(history, key="sk-two")) == [" ", " "]
    scene.host, scene.model = "api.xiaomimimo.com", "mimo-v2.5-pro"
    assert reasoning(scene.sent(history)) == [" ", ...]


def test_thinking_off_is_left_alone() -> None:
    scene = Scene()
    history = two_turns(scene)
    assert not scene.restore(history, thinking={"type": "disabled"}).is_changed


def test_prefix_message_is_left_alone() -> None:
    scene = Scene()
    history = two_turns(scene)
    sent = scene.sent([*history, turn("It will", prefix=True)])
    assert reasoning(sent) == [*BOTH, ...]


@pytest.mark.parametrize(
    ("host", "model", "tools", "expected"),
    [
        ("api.deepseek.com", "deepseek-flash", True, [" ", " "]),
        ("api.deepseek.com", "deepseek-flash", False, [..., ...]),
        ("api.deepseek.com", "deepseek-reasoner", True, [" ", " "]),
        ("api.deepseek.com", "deepseek-r1", True, [..., ...]),
        ("api.moonshot.ai", "kimi-k2.6", True, [" ", ...]),
        ("api.moonshot.ai", "kimi-k2.7-code", True, [" ", " "]),
        ("api.moonshot.ai", "moonshot-v1-8k", True, [..., ...]),
        ("api.xiaomimimo.com", "mimo-v2.6-pro", True, [" ", ...]),
        ("api.z.ai", "glm-5.3", True, [..., ...]),
        ("api.minimax.io", "MiniMax-M3", True, [..., ...]),
        ("openrouter.ai", "openai/gpt-6", True, [..., ...]),
    ],
)
def test_fill_by_rule(host: str, model: str, tools: bool, expected: list[object]) -> None:
    scene = Scene(host, model)
    history = [
        user("go"),
        turn(None, [call("c_1_zzzzzzzz")]),
        tool("c_1_zzzzzzzz", "x"),
        turn("Fine."),
        user("y"),
    ]
    assert reasoning(scene.sent(history, tools=TOOLS if tools else [])) == expected


def test_nothing_is_filled_when_told_so() -> None:
    scene = Scene()
    scene.mode = "none"
    assert not scene.restore([user("go"), turn("Fine."), user("y")]).is_changed


def test_empty_reasoning_goes_back_empty() -> None:
    scene = Scene("api.moonshot.ai", "kimi-k2.7-code")
    history = [user("go")]
    history.append(scene.say(history, turn("Done.", reasoning_content="")))
    assert reasoning(scene.sent([*history, user("more")])) == [""]


def test_every_other_byte_stays() -> None:
    scene = Scene()
    two_turns(scene)
    body = (
        b'{ "temperature":1.0,"seed":1e-7,"big":12345678901234567890123,"model":"deepseek-v4-pro","x":"\\u00e9\\/",'
        b'"messages":[{"role":"user","content":"What is the weather in Paris?"} ,\n'
        b'{"role":"assistant","zz":1.50,"content":"Let me look.","tool_calls":[{"id":"call_00_aaaaaaaaaaaaaaaaaaaaaaaa",'
        b'"type":"function","function":{"name":"f","arguments":"{\\"city\\": \\"Paris\\", \\"n\\": 1.0}"}}] },'
        b'{"role":"tool","tool_call_id":"call_00_aaaaaaaaaaaaaaaaaaaaaaaa","content":"18 degrees"}],"tools":[{"a":1}]}'
    )
    out = scene.restore((), body=body).body
    assert out is not None
    added = ',"reasoning_content":"R1 \\n é"'.encode()
    assert out.count(added) == 1
    assert out.replace(added, b"") == body


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"messages":3}',
        b'{"messages":["\\q"]}',
        b'{"messages":"\\ud800"}',
        b'{"a":' + b"[" * 100_000,
        b"\xff",
    ],
)
def test_what_is_no_chat_request_is_said_to_be_none(body: bytes) -> None:
    with pytest.raises(NotChatError):
        Scene().restore((), body=body)


def test_repeated_member_names_are_not_guessed_at() -> None:
    body = b'{"model":"deepseek-flash","tools":[1],"messages":[],"messages":[{"role":"assistant","content":"x"}]}'
    with pytest.raises(SpliceError):
        Scene().restore((), body=body)


def test_one_odd_message_does_not_hide_the_others() -> None:
    scene = Scene()
    history = two_turns(scene)
    odd: list[Message] = [{"role": "user", "content": 7}, {"role": 3, "content": [{"type": 1}]}]
    assert reasoning(scene.sent([*history, *odd])) == BOTH


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.text(min_size=1), st.text(), st.text()), min_size=1, max_size=8), st.booleans())
@example([("0", "think>", "")], False)
def test_stripped_conversation_is_restored_exactly(said: list[tuple[str, str, str]], tools: bool) -> None:
    scene = Scene()
    history: list[Message] = []
    expected = []
    # An echo of a placeholder is no thought, and is not recorded.
    assume(not any(thought.strip() and scene.table.is_placeholder(thought) for _, _, thought in said))
    for number, (question, answer, thought) in enumerate(said):
        history.append(user(f"{number} {question}"))
        history.append(scene.say(history, turn(answer, reasoning_content=thought)))
        expected.append(thought)
    history.append(user("end"))
    first = scene.restore(history)
    sent = json.loads(first.body)["messages"] if first.body else history
    assert reasoning(sent) == expected
    if first.body:
        again = scene.restore((), body=first.body)
        assert not again.is_changed


@settings(max_examples=100, deadline=None)
@given(st.binary())
def test_arbitrary_bytes_are_never_changed(body: bytes) -> None:
    with contextlib.suppress(NotChatError, SpliceError):
        assert not Scene().restore((), body=body).is_changed


def test_a_thousand_interleaved_conversations_keep_their_canaries() -> None:
    scene = Scene("api.moonshot.ai", "kimi-k2.6")
    histories = [[user(f"Task {n}")] for n in range(1000)]
    for step in range(2):
        for number, history in enumerate(histories):
            call_id = f"functions.f:{step}"
            asked = turn(None, [call(call_id, '{"same": 1}')], reasoning_content=f"canary-{number}-{step}.")
            history += [scene.say(history, asked), tool(call_id, "same")]
    for number, history in enumerate(histories):
        assert reasoning(scene.sent(history)) == [f"canary-{number}-{step}." for step in range(2)]


def test_choices_of_one_answer_that_look_alike_get_nothing() -> None:
    scene = Scene()
    ask = [user("Say done")]
    exchange = scene.restore(ask)
    scene.answer(exchange, turn("Done.", reasoning_content="A"), turn("Done.", reasoning_content="B"))
    assert reasoning(scene.sent([*ask, turn("Done."), user("more")])) == [" "]


def test_answers_under_way_at_the_same_time_get_nothing() -> None:
    scene = Scene()
    ask = [user("Say done")]
    one, two = scene.restore(ask), scene.restore(ask)
    for exchange, thought in ((one, "A"), (two, "B")):
        scene.answer(exchange, turn("Done.", reasoning_content=thought))
    assert reasoning(scene.sent([*ask, turn("Done."), user("more")])) == [" "]


def test_conversations_that_begin_alike_are_told_apart_by_their_header_and_then_by_who_followed() -> None:
    scene = Scene()
    ask = [user("Say done")]
    for session in ("ses_1", "ses_2"):
        scene.say(ask, turn("Done.", reasoning_content=session), session=session)
    for session in ("ses_1", "ses_2"):
        history = [*ask, turn("Done."), user("more")]
        assert reasoning(scene.sent(history, session=session)) == [session]
        history.append(scene.say(history, turn(f"I am {session}", reasoning_content="n"), session=session))
        assert reasoning(scene.sent([*history, user("and?")])) == [session, "n"]


def test_an_id_that_counts_up_proves_nothing_alone() -> None:
    scene = Scene("api.moonshot.ai", "kimi-k2.6")
    history = [user("alpha")]
    asked = turn(None, [call("functions.f:0", '{"path": "x"}')], reasoning_content="A")
    history += [scene.say(history, asked), tool("functions.f:0", "other result")]
    assert reasoning(scene.sent([user("beta"), *history[1:]])) == [" "]


def test_an_id_of_the_same_make_names_another_turn() -> None:
    scene = Scene()
    arguments = json.dumps({"path": "src/reasoning/main.py", "lines": [1, 200]})
    first = turn(None, [call("call_00_" + "a" * 24, arguments)], reasoning_content="A")
    scene.say([user("alpha")], first)
    for call_id, expected in (("call_00_" + "b" * 24, " "), ("x9y8z7w6v", "A")):
        other = [user("beta"), turn(None, [call(call_id, arguments)]), tool(call_id, "text")]
        assert reasoning(scene.sent(other)) == [expected]


def test_a_turn_after_an_altered_one_still_has_its_context() -> None:
    scene = Scene()
    history = [user("Say done, twice")]
    history.append(scene.say(history, turn("Well, it is done as you said.", reasoning_content="R0")))
    history.append(user("again"))
    history.append(scene.say(history, turn("Done.", reasoning_content="R1")))
    scene.say([user("other"), turn("x"), user("again")], turn("Done.", reasoning_content="else"))
    history[1]["content"] = "R0 Well, it is done as you said."
    assert reasoning(scene.sent([*history, user("more")])) == ["R0", "R1"]


@pytest.mark.parametrize(
    ("said", "sent"),
    [
        ('{"a": 1.0, "b": [2.0]}', '{"a":1,"b":[2]}'),
        ('{"a": 12345678901234567890}', '{"a":12345678901234567000}'),
        ('{"a": 1e2}', '{"a":100}'),
        ("", "{}"),
        ('{"b": 1, "a": "\\u00e9"}', '{"a":"é","b":1}'),
        ('{"a": nonsense', ' {"a": nonsense '),
    ],
)
def test_arguments_spelled_otherwise(said: str, sent: str) -> None:
    scene = Scene()
    ask = [user("go")]
    scene.say(ask, turn(None, [call("call_00_" + "a" * 24, said)], reasoning_content="R"))
    history = [*ask, turn(None, [call("rewritten", sent)]), tool("rewritten", "x")]
    assert reasoning(scene.sent(history)) == ["R"]


def test_a_placeholder_that_a_model_echoes_is_not_recorded() -> None:
    scene = Scene()
    history = [user("hello there")]
    history.append(scene.say(history, turn("Hi!", reasoning_content="[reasoning unavailable]")))
    assert reasoning(scene.sent([*history, user("next")])) == [" "]


def test_a_turn_known_to_have_had_no_reasoning() -> None:
    for host, model, expected in (
        ("api.deepseek.com", "deepseek-flash", [...]),
        ("api.moonshot.ai", "kimi-k2.7-code", [""]),
        ("api.moonshot.ai", "kimi-k2.6", [...]),
    ):
        scene = Scene(host, model)
        history = [user("hello there")]
        history.append(scene.say(history, turn("Hi!"), thinking={"type": "disabled"}))
        assert reasoning(scene.sent([*history, user("next")])) == expected


def test_what_a_prefix_began_belongs_to_the_turn() -> None:
    scene = Scene()
    ask = [user("Write a poem"), turn("Roses are", prefix=True)]
    scene.say(ask, turn(" red, my dear.", reasoning_content="R"))
    assert [opened.text for opened, _ in scene.records()] == ["Roses are red, my dear."]
    assert reasoning(scene.sent([ask[0], turn("Roses are red, my dear."), user("more")])) == ["R"]


def test_legacy_functions_are_restored_where_they_are() -> None:
    scene = Scene()
    ask = [user("go")]
    legacy = turn(None, function_call={"name": "f", "arguments": '{"a": 1}'})
    scene.say(ask, legacy | {"reasoning_content": "R"})
    sent = scene.sent([*ask, legacy, {"role": "function", "name": "f", "content": "x"}])
    assert sent[1] == legacy | {"reasoning_content": "R"}
    assert sent[2]["role"] == "function"


def test_reasoning_that_a_client_moved_to_another_field_fills_the_demanded_one() -> None:
    scene = Scene()
    history = [user("hello there"), turn("Hi!", reasoning="my own thought"), user("next")]
    sent = scene.sent(history)
    assert sent[1]["reasoning_content"] == sent[1]["reasoning"] == "my own thought"


def test_details_go_back_whole_to_a_gateway() -> None:
    scene = Scene("openrouter.ai", "moonshotai/kimi-k2.6")
    details = [{"type": "reasoning.text", "text": "Step", "signature": "s==", "z": {"y": 2.5}}]
    history = [user("go")]
    answer = turn("Fine, as you like it.", reasoning="Step", reasoning_details=details)
    history.append(scene.say(history, answer))
    sent = scene.sent([*history, user("more")])
    assert sent[1]["reasoning_details"] == details
    assert "reasoning" not in sent[1]
