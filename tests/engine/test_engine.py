"""The engine as another program uses it: by the public names, and without mitmproxy."""

import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

import reasoning_fix
from reasoning_fix import Engine, Exchange, MemoryStore, Preferences, load_secret, load_table, open_store
from reasoning_fix.dialects.wire import NotChatError
from tests import ROOT

HOST, PATH = "api.deepseek.com", "/chat/completions"
THOUGHT = "The user wants the weather: call the tool."
CALL = {"id": "call_00_a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
MISSING = (
    b'{"error":{"message":"The `reasoning_content` in the thinking mode must be passed back to the API."}}'
)


def body(*more: dict[str, Any]) -> bytes:
    messages = [{"role": "user", "content": "Weather?"}, *more]
    return json.dumps({"model": "deepseek-v4-pro", "tools": [{}], "messages": messages}).encode()


def spoken() -> list[bytes]:
    """An answer as a stream."""
    deltas: list[dict[str, Any]] = [{"reasoning_content": THOUGHT}, {"tool_calls": [CALL | {"index": 0}]}]
    events = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}
    return [b"data: %b\n\n" % json.dumps(event).encode() for event in (*events, end)] + [b"data: [DONE]\n\n"]


NEXT = body(
    {"role": "assistant", "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "call_00_a", "content": "dry"},
)


def begun(engine: Engine, request: bytes = body(), credential: str = "sk-one") -> Exchange:
    caller = engine.caller(HOST, PATH, credential)
    assert caller is not None
    return engine.restore(request, caller)


def watched(exchange: Exchange) -> None:
    tap = exchange.tap()
    for chunk in spoken():
        assert tap(chunk) is chunk
    tap.finish(complete=True)


def test_what_was_said_goes_back() -> None:
    engine = Engine(load_table(), MemoryStore())
    first = begun(engine)
    assert (first.body, first.is_changed) == (body(), False)
    watched(first)
    again = begun(engine, NEXT)
    assert again.is_changed and again.received == NEXT
    assert json.loads(again.body)["messages"][1]["reasoning_content"] == THOUGHT
    assert again.report.text() == "restored 1 of 1 turns: 1 by context"


def test_never_to_another_credential() -> None:
    engine = Engine(load_table(), MemoryStore())
    watched(begun(engine))
    assert THOUGHT.encode() not in begun(engine, NEXT, "sk-two").body


def test_the_file_and_the_secret_together_outlive_the_engine(tmp_path: Path) -> None:
    def engine(folder: Path) -> Engine:
        return Engine(load_table(), open_store(tmp_path / "turns.sqlite3"), secret=load_secret(folder))

    first = engine(tmp_path)
    watched(begun(first))
    first.close()
    same, other = engine(tmp_path), engine(tmp_path / "other")
    assert THOUGHT.encode() in begun(same, NEXT).body
    assert THOUGHT.encode() not in begun(other, NEXT).body
    same.close()
    other.close()


@pytest.mark.parametrize(
    ("host", "path", "method"),
    [("api.example.com", PATH, "POST"), (HOST, "/v1/files", "POST"), (HOST, PATH, "GET")],
)
def test_what_the_table_does_not_know_has_no_caller(host: str, path: str, method: str) -> None:
    assert Engine(load_table(), MemoryStore()).caller(host, path, "sk", method=method) is None


def test_a_body_that_is_not_a_chat_request_says_so() -> None:
    with pytest.raises(NotChatError) as raised:
        begun(Engine(load_table(), MemoryStore()), b"[]")
    assert isinstance(raised.value, reasoning_fix.ReasoningFixError)


def test_a_refusal_is_answered_by_another_request_once() -> None:
    engine = Engine(load_table(), MemoryStore())
    refused = begun(engine, NEXT)
    assert b'"reasoning_content":" "' in refused.body
    again = refused.retry(MISSING)
    assert again is not None and refused.refused == again.refused == "missing"
    assert b'"reasoning_content":"[reasoning not on record ' in again.body
    assert again.retry(MISSING) is None
    assert again.was_answered()
    # It was learned: the next request is sent so at once.
    assert begun(engine, NEXT).body == again.body


@pytest.mark.parametrize("refusal", [b"", b"{}", b'{"error":{"message":"out of money"}}', b"\xff"])
def test_a_refusal_that_is_not_known_stays(refusal: bytes) -> None:
    refused = begun(Engine(load_table(), MemoryStore()), NEXT)
    assert refused.retry(refusal) is None and refused.refused is None


def test_a_change_of_mind_holds_for_what_comes() -> None:
    engine = Engine(load_table(), MemoryStore())
    before = begun(engine, NEXT)
    engine.change(preferences=Preferences("none"))
    assert before.preferences.mode == "auto" and not begun(engine, NEXT).is_changed


def test_it_explains_itself() -> None:
    engine = Engine(load_table(), MemoryStore())
    watched(begun(engine))
    caller = engine.caller(HOST, PATH, "sk-one")
    assert caller is not None
    (told,) = engine.explain(NEXT, caller).turns
    assert (told.status, told.evidence) == ("restored", "context")


def test_every_public_name_is_there() -> None:
    for name in reasoning_fix._ROOMS:
        assert getattr(reasoning_fix, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Motor'"):
        _ = reasoning_fix.Motor


def test_it_needs_no_mitmproxy() -> None:
    program = """
        import sys
        sys.modules["mitmproxy"] = None
        from tests.engine.test_engine import *
        test_what_was_said_goes_back()
        test_a_refusal_is_answered_by_another_request_once()
        assert not [name for name in sys.modules if name.startswith("reasoning_fix.proxy")]
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_example_of_the_readme_runs(tmp_path: Path) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(example.strip().splitlines()) <= 10
    passed: list[bytes] = []
    given: dict[str, Any] = {"folder": tmp_path, "pass_on": passed.append, "answer": spoken()}
    exec(example, given | {"body": body()})
    assert passed == spoken()
    exec(example, given | {"body": NEXT})
    engine = Engine(load_table(), open_store(tmp_path / "turns.sqlite3"), secret=load_secret(tmp_path))
    assert THOUGHT.encode() in begun(engine, NEXT, "sk-...").body
    engine.close()
