"""Files of the version before go on to be of use: the store, the secret, lessons, counts, captures.

`tests/samples/before` was written by the package as it was before it was laid out anew.
"""

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from reasoning_fix import Engine, load_secret, load_table, open_store
from reasoning_fix.captures import flow_files
from reasoning_fix.captures.replaying import replay
from reasoning_fix.providers.lessons import Lesson, Lessons
from reasoning_fix.proxy.chat_request import chat_request
from reasoning_fix.proxy.stats import book
from tests import SAMPLES

KEEPS = 100 * 365
LEARNED = 1795801568
CALL = {"id": "call_00_a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
HISTORY: list[dict[str, Any]] = [
    {"role": "user", "content": "Weather?"},
    {"role": "assistant", "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "call_00_a", "content": "dry"},
]


@pytest.fixture
def before(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SAMPLES / "before", tmp_path / "data"))


def test_what_was_recorded_before_goes_back(before: Path) -> None:
    store = open_store(before / "turns.sqlite3", keep_days=KEEPS)
    engine = Engine(load_table(), store, secret=load_secret(before))
    caller = engine.caller("api.deepseek.com", "/chat/completions", "sk-before")
    assert caller is not None
    body = {"model": "deepseek-v4-pro", "tools": [{}], "messages": HISTORY}
    exchange = engine.restore(json.dumps(body).encode(), caller)
    assert json.loads(exchange.body)["messages"][1]["reasoning_content"] == "A thought of before."
    engine.close()


def test_lessons_and_counts_of_before_hold(before: Path) -> None:
    (lesson,) = Lessons(before / "lessons.json", lambda: LEARNED + 60.0).all()
    known = Lesson("api.deepseek.com", "chat_completions", "deepseek", "missing", "[words]", LEARNED)
    assert lesson == known
    assert list(book.read(before / "counts.sqlite3").values()) == [Counter({"requests": 2, "recorded": 2})]


def test_a_capture_of_before_is_replayed_as_it_was(before: Path) -> None:
    flows = flow_files.load(before / "flows.mitm")
    found = [chat_request(number, one, load_table()) for number, one in enumerate(flows, 1)]
    noted = [one.notes for one in found if one is not None and one.notes is not None]
    assert [one.preferences for one in noted] == [("auto", "", False)] * 2
    played = replay(flows, load_table())
    assert [one.now for one in played.requests] == [[], ["restored"]]
    assert played.summary.differing == 0
    # The notes undo what was put in.
    assert found[1] is not None and json.loads(found[1].body)["messages"] == HISTORY
