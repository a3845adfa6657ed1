"""What refusals taught is kept, shared, replaced, forgotten; and changes how requests are treated."""

import json
import os
import stat
from pathlib import Path

import pytest

from reasoning_fix.engine.policy import Preferences
from reasoning_fix.providers.lessons import KEEP_DAYS, TURN_OFF, Lesson, Lessons
from tests.conversations import Scene, call, reasoning, tool, turn, user

HOST = "llm.example"
WANTS = Lesson(HOST, "chat_completions", "deepseek", "missing", " ")
REFUSES = Lesson(HOST, "chat_completions", "deepseek", "forbidden", "reasoning_content")
DAY = 86400


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def details(lessons: Lessons, host: str = HOST, family: str = "deepseek") -> list[tuple[str, str]]:
    return [(lesson.means, lesson.detail) for lesson in lessons.about(host, "chat_completions", family)]


def test_lessons_are_about_one_host_wire_and_family(clock: Clock) -> None:
    lessons = Lessons(None, clock)
    lessons.learn(WANTS)
    assert details(lessons) == [("missing", " ")]
    assert not details(lessons, "other.example") and not details(lessons, family="kimi")
    assert not lessons.about(HOST, "messages", "deepseek")


def test_a_newer_lesson_replaces_an_older_one_on_the_same_topic(clock: Clock) -> None:
    lessons = Lessons(None, clock)
    for lesson in (WANTS, Lesson(HOST, "chat_completions", "deepseek", "missing", "words"), REFUSES):
        lessons.learn(lesson)
    lessons.learn(Lesson(HOST, "chat_completions", "deepseek", "forbidden", "reasoning"))
    assert details(lessons) == [
        ("missing", "words"),
        ("forbidden", "reasoning_content"),
        ("forbidden", "reasoning"),
    ]


def test_lessons_expire(clock: Clock) -> None:
    lessons = Lessons(None, clock)
    lessons.learn(WANTS)
    clock.now += KEEP_DAYS * DAY
    assert details(lessons) and lessons.all()
    clock.now += 1
    assert not details(lessons) and not lessons.all()


def test_processes_share_a_file(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "data" / "lessons.json"
    one, other = Lessons(path, clock), Lessons(path, clock)
    assert not details(other)
    one.learn(WANTS)
    assert details(other) == [("missing", " ")]
    other.learn(REFUSES)
    assert len(details(one)) == 2
    assert one.forget("other.example") == 0
    assert one.forget(HOST) == 2
    assert not details(other)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["lessons.json"]


@pytest.mark.parametrize("damaged", [b"\xff[{]", b"[" * 100_000], ids=["no JSON", "deep"])
def test_a_damaged_file_is_no_fault(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture, damaged: bytes
) -> None:
    path = tmp_path / "lessons.json"
    path.write_bytes(damaged)
    lessons = Lessons(path, clock)
    assert not details(lessons)
    assert "cannot be read" in caplog.text
    lessons.learn(WANTS)
    assert details(Lessons(path, clock)) == [("missing", " ")]


def test_without_a_place_to_write_lessons_stay_in_memory(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "file").write_text("")
    lessons = Lessons(tmp_path / "file" / "lessons.json", clock)
    lessons.learn(WANTS)
    assert details(lessons) == [("missing", " ")]


def test_a_place_that_can_be_written_again_has_all_of_them(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "folder" / "lessons.json"
    lessons = Lessons(path, clock)
    # A file in the place of the folder: not even root can write there.
    path.parent.write_text("")
    lessons.learn(WANTS)
    lessons.learn(REFUSES)
    assert len(details(lessons)) == 2 and not path.exists()
    assert len(caplog.records) == 1 and "until it can" in caplog.text
    path.parent.unlink()
    lessons.learn(Lesson("other.example", "messages", "kimi", "missing", " "))
    assert len(Lessons(path, clock).all()) == 3


def test_a_disk_that_is_full_leaves_no_draft_and_the_file_as_it_was(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lessons.json"
    lessons = Lessons(path, clock)
    lessons.learn(WANTS)

    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", full)
        lessons.learn(REFUSES)
    assert [file.name for file in tmp_path.iterdir()] == ["lessons.json"]
    assert details(Lessons(path, clock)) == [("missing", " ")]
    assert len(details(lessons)) == 2


def test_a_lesson_from_the_future_is_none_until_its_time(tmp_path: Path, clock: Clock) -> None:
    """Else a clock that was ahead for once would make it hold for ever."""
    path = tmp_path / "lessons.json"
    lessons = Lessons(path, clock)
    lessons.learn(WANTS)
    clock.now -= DAY
    assert details(lessons) and lessons.all()
    clock.now -= 1
    assert not details(lessons) and not lessons.all()
    lessons.learn(REFUSES)
    clock.now += DAY
    assert len(details(Lessons(path, clock))) == 2


def test_what_a_newer_version_learned_is_left_as_it_is(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "lessons.json"
    newer = {"host": HOST, "means": "of tomorrow", "more": [1, {"a": None}]}
    path.write_text(json.dumps([newer, {"host": 7}]))
    lessons = Lessons(path, clock)
    assert lessons.all() == []
    lessons.learn(WANTS)
    assert lessons.forget(HOST) == 1
    assert json.loads(path.read_bytes()) == [newer, {"host": 7}]
    assert lessons.forget() == 0
    assert json.loads(path.read_bytes()) == []


def test_a_deleted_file_is_forgotten(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "lessons.json"
    lessons = Lessons(path, clock)
    lessons.learn(WANTS)
    path.unlink()
    assert not details(lessons)


def test_lessons_hold_no_text_of_anybodys(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "lessons.json"
    Lessons(path, clock).learn(WANTS)
    (lesson,) = json.loads(path.read_text())
    assert set(lesson) == {"host", "dialect", "family", "means", "detail", "learned", "conversation"}


# ---- What they change -------------------------------------------------------------------------------------

HISTORY = [user("go"), turn("", [call("c1")]), tool("c1", "sunny"), turn("It is sunny."), user("more")]


def taught(scene: Scene, means: str, detail: str = "") -> Scene:
    family = scene.restore(HISTORY).report.family
    scene.lessons.learn(Lesson(scene.host, "chat_completions", family, means, detail))  # type: ignore[arg-type]
    return scene


def test_missing_fills_every_turn() -> None:
    scene = Scene("api.moonshot.ai", "kimi-k2.6")
    assert reasoning(scene.sent(HISTORY)) == [" ", ...]
    taught(scene, "missing", " ")
    assert reasoning(scene.sent(HISTORY)) == [" ", " "]


def test_missing_replaces_what_a_client_put_there() -> None:
    scene = taught(Scene("api.moonshot.ai", "kimi-k2.6"), "missing", "[reasoning not on record {turn}]")
    blank = [turn("a", reasoning_content=""), user("x"), turn("a", reasoning_content=" "), user("y")]
    first, second = reasoning(scene.sent([user("go"), *blank]))
    assert isinstance(first, str) and first.startswith("[reasoning not on record ")
    assert isinstance(second, str) and second != first
    assert reasoning(scene.sent([user("go"), *blank])) == [first, second]


def test_missing_leaves_real_reasoning_alone() -> None:
    scene = taught(Scene("api.moonshot.ai", "kimi-k2.6"), "missing", " ")
    assert not scene.restore([user("go"), turn("a", reasoning_content="mine"), user("x")]).is_changed


def test_forbidden_takes_the_field_out_everywhere() -> None:
    scene = taught(Scene("api.groq.com", "qwen/qwen3-32b"), "forbidden", "reasoning_content")
    history = [user("go"), turn("a", reasoning_content="R", name="x"), user("x")]
    restored = scene.restore(history)
    assert restored.is_changed and b"reasoning_content" not in restored.body
    assert json.loads(restored.body)["messages"][1] == {"role": "assistant", "content": "a", "name": "x"}
    assert restored.report.text() == "took reasoning that is refused here out of 1 turn"


def test_words_that_are_refused_are_not_replaced_by_ours() -> None:
    scene = taught(Scene("openrouter.ai", "deepseek/deepseek-v4-pro"), "forbidden", "reasoning_content")
    restored = scene.restore([user("go"), turn("a", reasoning_content="mine"), user("x")])
    assert restored.is_changed
    assert json.loads(restored.body)["messages"][1] == {"role": "assistant", "content": "a"}
    assert restored.report.text() == "took reasoning that is refused here out of 1 turn"


def test_what_is_refused_does_not_go_out_first_and_is_looked_at_later() -> None:
    scene = taught(Scene("api.groq.com", "qwen/qwen3-32b"), "forbidden", "reasoning_content")
    scene.defers = True
    sent = scene.sent([user("go"), turn("a", reasoning="R", reasoning_content="R"), user("x")])
    assert sent[1] == {"role": "assistant", "content": "a", "reasoning": "R"}


def test_a_parameter_is_left_out_only_where_it_is_refused() -> None:
    scene = taught(Scene("api.moonshot.ai", "kimi-k2.6"), "parameter", "temperature")
    restored = scene.restore([user("go")], temperature=0.3, top_p=0.5)
    assert restored.is_changed
    sent = json.loads(restored.body)
    assert "temperature" not in sent and sent["top_p"] == 0.5
    assert restored.report.text() == "changed temperature"
    off = scene.restore([user("go")], temperature=0.3, thinking={"type": "disabled"})
    assert not off.is_changed


def test_a_forced_tool_turns_thinking_off() -> None:
    scene = taught(Scene("api.moonshot.ai", "kimi-k2.6"), "tool_choice")
    restored = scene.restore([user("go")], tool_choice="required", reasoning_effort="high")
    assert restored.is_changed
    sent = json.loads(restored.body)
    assert sent["thinking"] == {"type": "disabled"} and sent["tool_choice"] == "required"
    assert "reasoning_effort" not in sent
    assert restored.report.text() == "turned thinking off"
    assert not scene.restore([user("go")], tool_choice="auto").is_changed


def test_a_forced_tool_is_only_asked_for_where_thinking_cannot_be_turned_off() -> None:
    scene = taught(Scene("api.moonshot.ai", "kimi-k2.7-code"), "tool_choice")
    restored = scene.restore([user("go")], tool_choice={"type": "function", "function": {"name": "f"}})
    assert restored.is_changed
    assert "tool_choice" not in json.loads(restored.body)


def test_always_thinks_takes_the_switch_away() -> None:
    scene = Scene()
    scene.preferences = Preferences(disable="deepseek")
    assert b'"disabled"' in (scene.restore([user("go")]).body)
    taught(scene, "always_thinks")
    assert not scene.restore([user("go")]).is_changed


def test_what_a_person_set_is_not_amended(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(
        '[[provider]]\nname = "deepseek"\nhosts = ["api.deepseek.com"]\n'
        '[[provider.rule]]\nname = "mine"\nrequired = "never"\n'
    )
    scene = Scene()
    scene.use_table(path)
    taught(scene, "missing", " ")
    assert not scene.restore(HISTORY).is_changed


def test_mode_none_never_fills() -> None:
    scene = taught(Scene(), "missing", " ")
    scene.mode = "none"
    assert not scene.restore(HISTORY).is_changed


def test_a_lesson_to_turn_off_is_for_one_request() -> None:
    scene = Scene()
    lesson = Lesson(scene.host, "chat_completions", "deepseek", "missing", TURN_OFF)
    body = json.dumps({"model": "deepseek-flash", "messages": HISTORY, "tools": [{}]}).encode()
    restored = scene.restore_body(body, scene.caller(), lesson)
    assert restored.is_changed and json.loads(restored.body)["thinking"] == {"type": "disabled"}
    assert json.loads(restored.body)["messages"] == HISTORY
