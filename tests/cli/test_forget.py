"""`forget` and `learned`: what is erased is gone, also under a running proxy; what is not named stays."""

import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from reasoning_fix.cli import main
from reasoning_fix.providers.lessons import Lesson, Lessons
from reasoning_fix.proxy.stats import book
from reasoning_fix.proxy.stats.book import Book
from reasoning_fix.proxy.stats.counts import Line
from reasoning_fix.store import Store, retention
from reasoning_fix.store.memory import MemoryStore
from reasoning_fix.store.sqlite import SqliteStore
from tests.clients import through
from tests.conftest import StartProxy
from tests.provider.simulator import DEEPSEEK, Simulator
from tests.store.test_store import OTHER, SCOPE, mark, record

DAY_MS = 86_400_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "turns.sqlite3"


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, path: Path) -> Iterator[Store]:
    store: Store = MemoryStore() if request.param == "memory" else SqliteStore(path)
    yield store
    store.close()


def fill(store: Store, count: int = 450) -> None:
    """As many turns now, and one of a week ago, in two scopes."""
    now = int(time.time() * 1000)
    store.put(SCOPE, [record(f"new{number}", created=now) for number in range(count)])
    store.put(OTHER, [record("old", created=now - 7 * DAY_MS)])


def has(store: Store) -> tuple[int, int]:
    return len(store.at(SCOPE, [mark("place")])), len(store.at(OTHER, [mark("place")]))


# --- the store ----------------------------------------------------------------------------------------------


def test_every_scope_is_forgotten(store: Store) -> None:
    fill(store)
    assert store.forget() == 451
    assert has(store) == (0, 0)
    assert store.related(SCOPE, contexts=[mark("context")], turns=[mark("turn")], ids=[mark("id")]) == []
    assert store.by_key(SCOPE, [mark("new1")]) == []
    assert store.forget() == 0


def test_only_what_is_older_is_forgotten(store: Store) -> None:
    fill(store)
    now = int(time.time() * 1000)
    assert store.forget(now - 8 * DAY_MS) == 0
    assert store.forget(now - 3 * DAY_MS) == 1
    assert has(store) == (450, 0)


def test_what_comes_later_is_kept(store: Store) -> None:
    fill(store, 3)
    store.forget()
    store.put(SCOPE, [record("later")])
    assert has(store) == (1, 0)


def test_what_still_waits_in_memory_is_forgotten_too(path: Path) -> None:
    store = SqliteStore(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    store.put(SCOPE, [record("waits")])
    assert has(store) == (1, 0)
    other.execute("ROLLBACK")
    other.close()
    store.forget()
    store.close()
    assert retention.measure(path).turns == 0


def test_nothing_of_it_stays_on_disk(path: Path) -> None:
    store = SqliteStore(path)
    secret = b"sealed, and not to be found again " * 2000
    store.put(SCOPE, [record(f"r{number}", sealed=secret) for number in range(50)])
    assert secret[:30] in b"".join(found.read_bytes() for found in path.parent.glob("turns.sqlite3*"))
    grown = retention.measure(path).bytes
    assert retention.erase(path) == 50
    assert secret[:30] not in b"".join(found.read_bytes() for found in path.parent.glob("turns.sqlite3*"))
    assert retention.measure(path).bytes < grown / 10
    store.close()


def test_a_store_that_is_in_use_is_erased_all_the_same(path: Path) -> None:
    """Another thread puts and reads all the while; nothing it put before is left, nothing raises."""
    store = SqliteStore(path)
    fill(store, 2000)
    stop = threading.Event()
    faults: list[BaseException] = []

    def use() -> None:
        number = 0
        try:
            while not stop.is_set():
                number += 1
                store.put(SCOPE, [record(f"while{number % 50}", place=mark("elsewhere"))])
                store.at(SCOPE, [mark("elsewhere")])
        except BaseException as fault:
            faults.append(fault)

    thread = threading.Thread(target=use)
    thread.start()
    try:
        erased = retention.erase(path)
    finally:
        stop.set()
        thread.join()
    assert not faults and erased >= 2001
    assert has(store) == (0, 0)
    store.close()


def test_retention_is_left_to_the_proxy(path: Path) -> None:
    """Looking and forgetting never prune: a proxy may keep turns longer than the default."""
    store = SqliteStore(path, keep_days=3650)
    store.put(SCOPE, [record("old", created=int(time.time() * 1000) - 100 * DAY_MS)])
    assert retention.measure(path).turns == 1
    assert retention.erase(path, int(time.time() * 1000) - 200 * DAY_MS) == 0
    assert retention.measure(path).turns == 1
    store.close()


def test_a_store_that_is_not_there_is_not_made(path: Path) -> None:
    assert retention.erase(path) == 0
    assert retention.measure(path).turns == 0
    assert not path.exists()


# --- the commands -------------------------------------------------------------------------------------------


@pytest.fixture
def kept(path: Path) -> Path:
    """A store with turns, lessons about two hosts, counts, and a damaged store set aside."""
    store = SqliteStore(path)
    fill(store, 3)
    store.close()
    lessons = Lessons(path.with_name("lessons.json"))
    for host in ("llm.example", "other.example"):
        lessons.learn(Lesson(host, "chat_completions", "deepseek", "missing", " "))
    counted = Book(path.with_name(book.FILE), flush_seconds=1e6)
    counted.add(Line("2026-11-18", "deepseek", "m", "c"), {"requests": 1})
    counted.close()
    path.with_name("turns.sqlite3.corrupt-20261118-120000").write_bytes(b"old turns")
    return path


def left(path: Path) -> tuple[int, list[str], int, int]:
    """Turns, hosts of lessons, lines of counts, damaged stores."""
    lessons = Lessons(path.with_name("lessons.json")).all()
    return (
        retention.measure(path).turns,
        [lesson.host for lesson in lessons],
        len(book.read(path.with_name(book.FILE))),
        len(list(path.parent.glob("*.corrupt-*"))),
    )


BOTH = ["llm.example", "other.example"]


@pytest.mark.parametrize(
    ("words", "expected", "said"),
    [
        (["--all"], (0, BOTH, 1, 0), "Erased 4 turns from "),
        (["--older-than", "3"], (3, BOTH, 1, 1), "Erased 1 turn older than 3 days from "),
        (["--older-than", "30"], (4, BOTH, 1, 1), "Erased 0 turns older than 30 days from "),
        (["--lessons"], (4, [], 1, 1), "Forgot 2 lessons."),
        (["--lessons", "LLM.example"], (4, ["other.example"], 1, 1), "Forgot 1 lesson about LLM.example."),
        (["--lessons", "x.example"], (4, BOTH, 1, 1), "Forgot 0 lessons about x.example."),
        (["--counts"], (4, BOTH, 0, 1), "Erased the counts of 1 day."),
        (["--all", "--lessons", "--counts"], (0, [], 0, 0), "Erased 1 file of damaged stores"),
    ],
)
def test_forget(
    kept: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    expected: tuple[int, list[str], int, int],
    said: str,
) -> None:
    assert left(kept) == (4, BOTH, 1, 1)
    assert main(["forget", *words, "--store", str(kept)]) == 0
    assert said in capsys.readouterr().out
    assert left(kept) == expected


@pytest.mark.parametrize(
    "words", [[], ["--older-than", "0"], ["--older-than", "x"], ["--all", "--older-than", "3"]]
)
def test_forget_used_wrongly_erases_nothing(kept: Path, words: list[str]) -> None:
    try:
        code: object = main(["forget", *words, "--store", str(kept)])
    except SystemExit as ended:
        code = ended.code
    assert code == 2
    assert left(kept) == (4, BOTH, 1, 1)


def test_a_store_that_cannot_be_read_is_said(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path.parent.mkdir()
    path.write_bytes(b"no store " * 1000)
    assert main(["forget", "--all", "--store", str(path)]) == 1
    assert "cannot be erased from" in capsys.readouterr().err


def test_learned(kept: Path, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["learned", "--store", str(kept)]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("llm.example deepseek (chat_completions): reasoning is demanded on every turn; ")
    assert first.endswith(", for 14 more days)") and second.startswith("other.example ")
    assert main(["learned", "--json", "--store", str(kept)]) == 0
    assert [lesson["host"] for lesson in json.loads(capsys.readouterr().out)] == BOTH
    assert main(["learned", "--store", str(path.parent.parent / "none" / "turns.sqlite3")]) == 0
    assert capsys.readouterr().out == "No refusal has taught anything so far.\n"


def test_forget_while_a_proxy_runs(
    start_proxy: StartProxy, provider: Simulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The proxy goes on: what it knew is gone at once, what comes later is kept."""
    proxy = start_proxy(home=tmp_path / "home")
    store = proxy.home / ".local/share/reasoning-fix/turns.sqlite3"
    provider.say(reasoning="Look outside.", calls=[("call_00_a", "get_weather", "{}")])
    provider.say(reasoning="More.", text="Dry.")
    provider.say(reasoning="Polite.", text="Welcome.")
    person = through(proxy, DEEPSEEK, "chat", "Weather?", keeps=False)
    person.ask()
    assert main(["forget", "--all", "--store", str(store)]) == 0
    assert capsys.readouterr().out.startswith("Erased 1 turn from ")
    person.ask()
    person.says("Thanks.")
    assert person.ask() == "Welcome."
    # The first turn was filled from then on, the second is restored.
    assert [request.verdicts for request in provider.requests] == [[], ["blank"], ["blank", "exact"]]
    proxy.stop()
    assert retention.measure(store).turns == 2
