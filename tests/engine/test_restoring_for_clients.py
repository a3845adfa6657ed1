"""What clients do at their seams, and what other repairs of this kind learned the hard way: a test each.

The links are public threads. Everything runs in process; the wires themselves are tested end to end.
"""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from reasoning_fix.engine.history import Fingerprints
from reasoning_fix.store.sqlite import open_store
from tests.conversations import Scene, call, reasoning, tool, turn, user

MESSAGES = "/anthropic/v1/messages"


def talk(scene: Scene, *answers: dict[str, Any], **options: Any) -> list[dict[str, Any]]:
    """A conversation in which the model gives these answers; what a plain client has of it afterwards."""
    history = [user("go")]
    for number, answer in enumerate(answers):
        said = scene.say(history, answer, **options)
        history.append(said)
        history += [tool(c["id"], f"result {number}") for c in said.get("tool_calls", ())] or [
            user(f"and {number}?")
        ]
    return history


# ---- What clients do at their seams ------------------------------------------------------------------------


def test_opencode_moves_reasoning_into_the_content_after_a_model_switch() -> None:
    scene = Scene(model="deepseek-v4-flash")
    history = talk(scene, turn("Looking.", [call("call_00_a")], reasoning_content="I should look."))
    history[1] |= {"content": "I should look.\n\nLooking.", "reasoning_content": ""}
    scene.model = "deepseek-v4-pro"
    sent = scene.sent(history)
    assert reasoning(sent) == ["I should look."]
    assert sent[1]["content"] == "I should look.\n\nLooking."


def test_copilot_loses_turns_in_a_continued_conversation() -> None:
    scene = Scene()
    history = talk(
        scene,
        turn("", [call("call_00_a", '{"q": 1}')], reasoning_content="R1"),
        turn("The first thing is done, on to the second.", reasoning_content="R2"),
        turn("", [call("call_00_b", '{"q": 2}')], reasoning_content="R3"),
    )
    del history[3:5]
    assert reasoning(scene.sent(history)) == ["R1", "R3"]


def test_qwen_code_puts_turns_of_its_own_in_between() -> None:
    scene = Scene()
    history = talk(scene, turn("", [call("call_00_a")], reasoning_content="R1"))
    history.insert(1, turn("Got it. Thanks for the context!"))
    history.insert(2, user("go on"))
    assert reasoning(scene.sent(history)) == [" ", "R1"]


def test_title_requests_with_the_same_key_at_the_same_moment() -> None:
    scene = Scene()
    asked = scene.restore([user("go")])
    title = scene.restore([user("Title for: go")], body=b'{"messages":[{"role":"user","content":"go"}]}')
    scene.answer(title, turn("A title", reasoning_content="short"))
    scene.answer(asked, turn("It is sunny.", reasoning_content="R"))
    assert reasoning(scene.sent([user("go"), turn("It is sunny."), user("more")])) == ["R"]


def test_system_prompts_and_session_headers_change_between_write_and_read() -> None:
    """https://github.com/mnfst/llm-gateway/pull/2859"""
    scene = Scene()
    said = scene.say(
        [{"role": "system", "content": "Monday"}, user("go")], turn("Hi", reasoning_content="R"), session="a"
    )
    later = [{"role": "system", "content": "Tuesday"}, user("go"), said, user("more")]
    assert reasoning(scene.sent(later)) == ["R"]
    assert reasoning(scene.sent(later, session="b")) == ["R"]


def test_claude_code_drops_all_thinking_after_a_model_switch() -> None:
    scene = Scene(path=MESSAGES, model="claude-opus-5")
    block = {"type": "thinking", "thinking": "R", "signature": "65b06a43"}
    use = {"type": "tool_use", "id": "call_00_a", "name": "f", "input": {"q": 1}}
    scene.reply(scene.restore([user("go")]), [block, use])
    result = {"type": "tool_result", "tool_use_id": "call_00_a", "content": "dry"}
    history = [user("go"), {"role": "assistant", "content": [use]}, {"role": "user", "content": [result]}]
    scene.model = "claude-sonnet-5"
    assert scene.sent(history)[1]["content"] == [block, use]


def test_notes_that_claude_code_adds_and_moves_are_no_context() -> None:
    scene = Scene(path=MESSAGES)
    note = {"type": "text", "text": "<system-reminder>\nToday is Monday.\n</system-reminder>"}
    asked = {"type": "text", "text": "go"}
    block = {"type": "thinking", "thinking": "R", "signature": "s"}
    said = {"type": "text", "text": "Hi."}
    scene.reply(scene.restore([{"role": "user", "content": [note, asked]}]), [block, said])
    mark = {"cache_control": {"type": "ephemeral"}}
    history = [
        {"role": "user", "content": [asked | mark]},
        {"role": "assistant", "content": [said | mark]},
        user("x"),
    ]
    assert scene.sent(history)[1]["content"] == [block, said | mark]


def test_a_turn_with_reasoning_and_nothing_else_comes_back_bare() -> None:
    """`content or tool_calls must be set`: jcode issue 321."""
    scene = Scene()
    exchange = scene.restore([user("go")])
    scene.answer(exchange, turn(None, reasoning_content="Hm, so"), finish=None)
    sent = scene.sent([user("go"), turn(None), user("go on")])
    assert sent[1] == {"role": "assistant", "content": "", "reasoning_content": "Hm, so"}


def test_mimo_refuses_null_content_beside_calls() -> None:
    """https://github.com/XiaomiMiMo/MiMo/issues/44"""
    scene = Scene("api.xiaomimimo.com", "mimo-v2.5-pro")
    history = talk(scene, turn("", [call("call_a")], reasoning_content="R"))
    history[1]["content"] = None
    sent = scene.sent(history)
    assert (sent[1]["content"], sent[1]["reasoning_content"]) == ("", "R")


def test_null_content_stays_where_it_is_allowed_or_nothing_changes() -> None:
    scene = Scene()
    history = talk(scene, turn(None, [call("call_00_a")], reasoning_content="R"))
    assert scene.sent(history)[1]["content"] is None
    history[1]["reasoning_content"] = "R"
    assert not scene.restore(history).is_changed


# ---- Keys --------------------------------------------------------------------------------------------------


def test_ids_that_repeat_do_not_lend_their_reasoning() -> None:
    """https://github.com/mnfst/llm-gateway/pull/2339"""
    scene = Scene("api.moonshot.ai", "kimi-k2.6")
    for city in ("Oslo", "Bern"):
        answer = turn("", [call("functions.f:0", json.dumps({"city": city}))], reasoning_content=city)
        scene.say([user(f"Weather in {city}?")], answer)
    elsewhere = [
        user("Weather in Rome?"),
        turn("", [call("functions.f:0", '{"city": "Rome"}')]),
        tool("functions.f:0", "x"),
    ]
    assert reasoning(scene.sent(elsewhere)) == [" "]


def test_ids_cut_to_nine_characters_collide() -> None:
    """https://github.com/vercel/ai/issues/16183"""
    scene = Scene()
    one = talk(scene, turn("", [call("call_00_abcdef1", '{"n": 1}')], reasoning_content="R1"))
    scene.say([user("other")], turn("", [call("call_00_abcdef2", '{"n": 2}')], reasoning_content="R2"))
    one[1]["tool_calls"][0]["id"] = one[2]["tool_call_id"] = "call_00_a"
    assert reasoning(scene.sent(one)) == ["R1"]


def test_keys_are_injective() -> None:
    """`a,b` + `c` is not `a` + `b,c`: https://github.com/Vizards/deepseek-v4-for-copilot/issues/39"""
    fingerprints = Fingerprints(b"k" * 32)
    assert fingerprints.of("a,b", "c") != fingerprints.of("a", "b,c") != fingerprints.of("a", "b", "c")
    assert fingerprints.of("ab", "") != fingerprints.of("a", "b") != fingerprints.of("", "ab")


def test_a_bare_id_of_another_credential_is_nobodys() -> None:
    """https://github.com/lidge-jun/opencodex/pull/971"""
    scene = Scene()
    history = talk(scene, turn("", [call("call_00_a")], reasoning_content="R"), key="sk-one")
    assert reasoning(scene.sent(history, key="sk-two")) == [" "]


def test_subagents_that_share_a_session_header_are_told_apart() -> None:
    """https://github.com/router-for-me/CLIProxyAPI/issues/4352"""
    scene = Scene()
    for agent, canary in (("1", "R1"), ("2", "R2")):
        exchange = scene.restore([user("go")], session=f"s\n{agent}")
        scene.answer(exchange, turn("Done.", reasoning_content=canary))
    history = [user("go"), turn("Done."), user("more")]
    assert reasoning(scene.sent(history, session="s\n1")) == ["R1"]
    assert reasoning(scene.sent(history, session="s\n2")) == ["R2"]


def test_done_is_said_in_every_conversation() -> None:
    scene = Scene()
    for number in range(3):
        scene.say([user(f"task {number}")], turn("Done.", reasoning_content=f"R{number}"))
    history = [user("task 1"), turn("Done."), user("task 9"), turn("Done."), user("more")]
    assert reasoning(scene.sent(history)) == ["R1", " "]


# ---- What goes back ----------------------------------------------------------------------------------------


def test_plain_turns_are_covered_like_those_with_calls() -> None:
    """https://github.com/diegosouzapw/OmniRoute/issues/1682"""
    scene = Scene()
    history = talk(scene, turn("Hello.", reasoning_content="R1"), turn("Fine.", reasoning_content="R2"))
    assert reasoning(scene.sent(history)) == ["R1", "R2"]


def test_reasoning_that_comes_after_content_is_kept() -> None:
    """GLM-5 and MiniMax M3; https://github.com/MiniMax-AI/MiniMax-M2/issues/105"""
    scene = Scene("api.z.ai", "glm-5")
    exchange = scene.restore([user("go")])
    folder = exchange.caller.dialect.folder(False)
    for delta in ({"reasoning_content": "a"}, {"content": "Hi"}, {"reasoning_content": "b"}):
        folder.feed(json.dumps({"choices": [{"index": 0, "delta": delta}]}).encode())
    (answer,) = folder.end(complete=True)
    assert answer.fields == {"reasoning_content": b'"ab"'} and answer.turn.text == "Hi"


def test_long_reasoning_is_never_cut() -> None:
    scene = Scene()
    thought = "x" * 300_000
    history = talk(scene, turn("Hello.", reasoning_content=thought))
    assert reasoning(scene.sent(history)) == [thought]


def test_a_placeholder_that_a_model_echoes_poisons_nothing() -> None:
    """https://github.com/diegosouzapw/OmniRoute/issues/9573"""
    scene = Scene()
    for echo in ("(no reasoning)", "[reasoning not on record 0123abcd]"):
        history = talk(scene, turn(f"Hello {echo}.", reasoning_content=echo))
        assert reasoning(scene.sent(history)) == [" "]


def test_placeholders_with_words_differ_from_turn_to_turn_and_stay_the_same() -> None:
    """https://github.com/Lingtai-AI/lingtai-kernel/issues/9"""
    scene = Scene(path=MESSAGES)
    history = [user("a"), turn("Done."), user("b"), turn("Done."), user("c")]
    first = [m["content"][0]["thinking"] for m in scene.sent(history) if m["role"] == "assistant"]
    longer = [*history, turn("Done."), user("d")]
    second = [m["content"][0]["thinking"] for m in scene.sent(longer) if m["role"] == "assistant"]
    assert len(set(second)) == 3 and second[:2] == first


def test_turns_without_reasoning_do_not_change_the_prefix() -> None:
    """https://github.com/anomalyco/opencode/pull/28352"""
    scene = Scene()
    history = talk(scene, turn("Hello."), turn("Fine."))
    assert not scene.restore(history).is_changed


def test_a_miss_is_never_final() -> None:
    """Laurent00TT/deepseek-v4-vscode-chat issue 7: one miss meant 400 for ever in that conversation."""
    scene = Scene()
    history = [user("go"), turn("A long plain turn that was said before the proxy ran."), user("more")]
    assert reasoning(scene.sent(history)) == [" "]
    known = [history[0], history[1] | {"reasoning_content": "R"}, history[2]]
    asked = scene.restore(known)
    assert not asked.is_changed
    scene.answer(asked, turn("And more."))
    assert reasoning(scene.sent(history)) == ["R"]


def test_merged_messages_keep_their_thoughts_first() -> None:
    """https://github.com/esengine/DeepSeek-Reasonix/issues/9762"""
    scene = Scene(path=MESSAGES)
    parts: list[dict[str, Any]] = []
    history: list[dict[str, Any]] = [user("go")]
    results = []
    for number in range(2):
        block = {"type": "thinking", "thinking": f"R{number}", "signature": "s"}
        use = {"type": "tool_use", "id": f"call_00_{'ab'[number]}xyz", "name": "f", "input": {"n": number}}
        scene.reply(scene.restore(history), [block, use])
        result = {"type": "tool_result", "tool_use_id": use["id"], "content": f"result {number}"}
        history += [{"role": "assistant", "content": [use]}, {"role": "user", "content": [result]}]
        parts.append(use)
        results.append(result)
    merged = [user("go"), {"role": "assistant", "content": parts}, {"role": "user", "content": results}]
    content = scene.sent(merged)[1]["content"]
    assert [block.get("thinking") for block in content[:1]] == ["R0"]
    assert [block["thinking"] for block in content if block["type"] == "thinking"] == ["R0", "R1"]
    assert [block for block in content if block["type"] != "thinking"] == parts


def test_parallel_calls_in_messages_of_their_own_get_the_thought_once() -> None:
    """https://github.com/block/goose/issues/7921"""
    scene = Scene("api.z.ai", "glm-5")
    calls = [call("call_7cf82e40309b4cc1", '{"n": 1}'), call("call_7cf82e40309b4cc2", '{"n": 2}')]
    scene.say([user("go")], turn("", calls, reasoning_content="R"))
    split = [
        user("go"),
        turn("", calls[:1]),
        turn("", calls[1:]),
        tool(calls[0]["id"], "x"),
        tool(calls[1]["id"], "y"),
    ]
    assert reasoning(scene.sent(split)) == ["R", ...]


def test_half_a_character_is_never_sent_back() -> None:
    """https://github.com/esengine/DeepSeek-Reasonix/issues/1906"""
    scene = Scene()
    exchange = scene.restore([user("go")])
    folder = exchange.caller.dialect.folder(False)
    folder.feed(b'{"choices":[{"index":0,"delta":{"reasoning_content":"a\\ud83d"}}]}')
    with pytest.raises(ValueError, match="half a character"):
        folder.end(complete=True)


def test_compaction_leaves_results_without_calls() -> None:
    """https://github.com/esengine/DeepSeek-Reasonix/pull/4022"""
    scene = Scene()
    history = talk(
        scene,
        turn("", [call("call_00_a", '{"q": 1}')], reasoning_content="R1"),
        turn("", [call("call_00_b", '{"q": 2}')], reasoning_content="R2"),
    )
    compacted = [user("Summary: we looked at many things."), tool("call_00_a", "result 0"), *history[3:]]
    assert reasoning(scene.sent(compacted)) == ["R2"]


def test_a_provider_switched_in_mid_conversation() -> None:
    """https://github.com/RooCodeInc/Roo-Code/issues/10171"""
    scene = Scene("api.moonshot.ai", "kimi-k2.6")
    history = talk(scene, turn("", [call("functions.f:0")], reasoning_content="from Kimi"))
    scene.host, scene.model = "api.deepseek.com", "deepseek-flash"
    assert reasoning(scene.sent(history)) == [" "]
    scene.host, scene.model = "api.moonshot.ai", "kimi-k2.6"
    assert reasoning(scene.sent(history)) == ["from Kimi"]


def test_a_cache_that_is_cold_after_a_restart(tmp_path: Path) -> None:
    """https://github.com/mnfst/llm-gateway/pull/2008"""
    scene = Scene()
    scene.store = open_store(tmp_path / "turns.sqlite3", keep_days=1, keep_megabytes=1)
    history = talk(scene, turn("Hello.", reasoning_content="R"))
    scene.store.close()
    scene.store = open_store(tmp_path / "turns.sqlite3", keep_days=1, keep_megabytes=1)
    assert reasoning(scene.sent(history)) == ["R"]
    scene.store.close()


def test_hashing_grows_with_the_history_and_not_with_its_square(monkeypatch: pytest.MonkeyPatch) -> None:
    """A careful peer needed 42 s for 400 turns: https://github.com/mnfst/llm-gateway/pull/2859"""
    counted: list[int] = []
    original = Fingerprints._hash

    def hashed(self: Fingerprints, *pieces: bytes) -> bytes:
        counted.append(sum(map(len, pieces)))
        return original(self, *pieces)

    monkeypatch.setattr(Fingerprints, "_hash", hashed)
    work = []
    for turns in (50, 100, 200):
        history = [m for n in range(turns) for m in (user(f"question {n:04}"), turn(f"answer {n:04}"))]
        counted.clear()
        Scene().restore([*history, user("last")])
        work.append((len(counted), sum(counted)))
    for small, large in itertools.pairwise(work):
        assert large[0] < 2.1 * small[0] and large[1] < 2.1 * small[1]
