"""What happens to a store whose file is locked, full, gone, damaged, of another version, or killed at.

Always: reads and writes raise nothing and soon return, what is put can be found at once, what was put before
is there again afterwards, and nothing is found that was not asked for.
"""

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from reasoning_fix.engine.recording import _Clock
from reasoning_fix.proxy.stats.book import Book
from reasoning_fix.proxy.stats.counts import Line, day_of
from reasoning_fix.store import link as link_room
from reasoning_fix.store import opening
from reasoning_fix.store import upkeep as upkeep_room
from reasoning_fix.store.memory import MemoryStore
from reasoning_fix.store.opening import NewerFormat
from reasoning_fix.store.sealing import Installation, SealError
from reasoning_fix.store.sqlite import SqliteStore, open_store
from reasoning_fix.store.upkeep import Upkeep
from tests.store.test_store import DAY_MS, SCOPE, eventually, let_wait, mark, names, prune, record

ENDINGS = ("", "-wal", "-shm")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "turns.sqlite3"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(path)
    yield store
    store.close()


def all_names(store: SqliteStore | MemoryStore) -> list[str]:
    return names(store.at(SCOPE, [mark("place")]))


def after_a_restart(path: Path) -> list[str]:
    store = SqliteStore(path)
    try:
        return all_names(store)
    finally:
        store.close()


def lock(path: Path, how: str = "IMMEDIATE") -> sqlite3.Connection:
    """Another program that has the file for itself until this connection is closed."""
    locker = sqlite3.connect(path, isolation_level=None)
    if how == "ALONE":
        locker.execute("PRAGMA locking_mode = EXCLUSIVE").fetchall()
        how = "IMMEDIATE"
    locker.execute(f"BEGIN {how}")
    return locker


def settled(*stores: SqliteStore) -> None:
    """Wait until the maintenance at the start is over."""
    for store in stores:
        let_wait(store, [record("waits for maintenance", place=mark("elsewhere"))])
        assert drained(store)
    time.sleep(0.05)


def drained(store: SqliteStore) -> bool:
    return eventually(lambda: not len(store._waiting))


# ---- Killed ----------------------------------------------------------------------------------------------

# Says the name of each turn once it was put.
_WRITES = """
import sys
from pathlib import Path
from reasoning_fix.store.sqlite import SqliteStore
from tests.store.test_store import SCOPE, record
store = SqliteStore(Path(sys.argv[1]))
for number in range(1_000_000):
    name = f"{sys.argv[2]}-{number}"
    store.put(SCOPE, [record(name, sealed=bytes(number * 37 % 30_000))])
    print(name, flush=True)
"""


@pytest.mark.in_full("kills", [4], [60])
def test_nothing_that_was_put_is_lost_when_the_process_is_killed(path: Path, kills: int) -> None:
    put: list[str] = []
    for life in range(kills):
        command = [sys.executable, "-c", _WRITES, str(path), str(life)]
        writer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        for line in writer.stdout:
            put.append(line.strip())
            # In the middle of what comes next.
            if len(put) % 97 == 0:
                writer.send_signal(signal.SIGKILL)
                break
        put += [line.strip() for line in writer.stdout if line.endswith("\n")]
        writer.wait(10)
        assert writer.returncode == -signal.SIGKILL
        writer.stdout.close()
    store = SqliteStore(path)
    assert isinstance(store, SqliteStore) and store.is_sound()
    assert set(names(store.by_key(SCOPE, [mark(name) for name in put]))) == set(put)
    assert store._link.connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    store.close()


# ---- Locked ----------------------------------------------------------------------------------------------


@pytest.mark.in_full("seconds", [1.0], [30.0])
def test_a_file_that_another_process_holds_for_long(
    path: Path, store: SqliteStore, caplog: pytest.LogCaptureFixture, seconds: float
) -> None:
    store.put(SCOPE, [record("before")])
    locker = lock(path)
    began = time.monotonic()
    put: list[str] = []
    slowest = 0.0
    while time.monotonic() < began + seconds or len(put) < 200:
        started = time.monotonic()
        put.append(f"r{len(put)}")
        store.put(SCOPE, [record(put[-1])])
        slowest = max(slowest, time.monotonic() - started)
        assert names(store.by_key(SCOPE, [mark("before"), mark(put[-1])])) == ["before", put[-1]]
        time.sleep(seconds / 1000)
    assert slowest < 0.5
    # A lock is waited for once, and not by every turn: 200 of them would wait for 4 seconds.
    assert store._link.connection.execute("PRAGMA busy_timeout").fetchone() == (0,)
    assert len(caplog.records) == 1
    assert str(path) in caplog.text and "Another program has locked it" in caplog.text
    locker.close()
    settled(store)
    store.put(SCOPE, [record("after")])
    assert store._link.connection.execute("PRAGMA busy_timeout").fetchone() == (opening.BUSY_MS,)
    assert after_a_restart(path) == ["before", *put, "after"]


def test_delivery_is_tried_ever_less_often(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[float] = []
    connect = opening.connect

    def counted(path: Path, busy_ms: int = 20) -> sqlite3.Connection:
        if threading.current_thread() is not threading.main_thread():
            tries.append(time.monotonic())
        return connect(path, min(busy_ms, 20))

    monkeypatch.setattr(upkeep_room, "_RETRY_SECONDS", 0.02)
    monkeypatch.setattr(opening, "connect", counted)
    store = SqliteStore(path)
    settled(store)
    tries.clear()
    locker = lock(path)
    for number in range(100):
        store.put(SCOPE, [record(f"r{number}")])
        time.sleep(0.01)
    # After 0.02 seconds, 0.04, 0.08, ...: after each put, or each 0.02 seconds, there were 20 and more.
    assert 2 <= len(tries) <= 10
    locker.close()
    store.close()


@pytest.mark.parametrize("told_by", ["a put that works again", "the end"])
def test_delivery_is_tried_at_once_when_it_is_told(
    path: Path, monkeypatch: pytest.MonkeyPatch, told_by: str
) -> None:
    monkeypatch.setattr(upkeep_room, "_RETRY_SECONDS", 600.0)
    store = SqliteStore(path)
    settled(store)
    locker = lock(path)
    store.put(SCOPE, [record("waits")])
    # Tried once, and not again for long.
    assert eventually(lambda: store._link.in_trouble)
    locker.close()
    if told_by == "a put that works again":
        store.put(SCOPE, [record("works")])
        assert drained(store)
    store.close()
    assert "waits" in after_a_restart(path)


@pytest.mark.parametrize("how", ["ALONE", "new"])
def test_a_file_that_is_held_when_the_proxy_starts(
    path: Path, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    if how == "ALONE":
        first = SqliteStore(path)
        first.put(SCOPE, [record("before")])
        first.close()
    else:
        path.parent.mkdir()
    locker = lock(path, "ALONE" if how == "ALONE" else "EXCLUSIVE")
    began = time.monotonic()
    store = open_store(path)
    assert time.monotonic() - began < 2
    store.put(SCOPE, [record("during")])
    assert all_names(store) == ["during"]  # type: ignore[arg-type]
    assert len(caplog.records) == 1 and "has locked it" in caplog.text
    assert isinstance(store, SqliteStore) and not store.is_sound()
    locker.close()
    assert drained(store) and store.is_sound()
    expected = ["before", "during"] if how == "ALONE" else ["during"]
    assert all_names(store) == expected
    store.close()
    assert after_a_restart(path) == expected


# ---- No room, no leave -----------------------------------------------------------------------------------


def test_a_full_disk(path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """SQLite says itself that there is no room, as it does where the disk has none."""
    pages = [1_000_000]
    connect = opening.connect

    def within_bounds(path: Path, busy_ms: int = 20) -> sqlite3.Connection:
        connection = connect(path, busy_ms)
        connection.execute(f"PRAGMA max_page_count = {pages[0]}").fetchall()
        return connection

    monkeypatch.setattr(opening, "connect", within_bounds)
    store = SqliteStore(path)
    store.put(SCOPE, [record("before")])
    pages[0] = 1
    store._link.connection.execute("PRAGMA max_page_count = 1").fetchall()
    during = [f"r{number}" for number in range(20)]
    for name in during:
        store.put(SCOPE, [record(name, sealed=bytes(10_000))])
    assert all_names(store) == ["before", *during]
    assert len(store._waiting) >= 15
    lines = [entry.getMessage() for entry in caplog.records]
    assert len(lines) == 1 and "full" in lines[0] and "has room" in lines[0] and str(path) in lines[0]
    pages[0] = 1_000_000
    assert drained(store)
    assert all_names(store) == ["before", *during]
    store.close()
    monkeypatch.undo()
    assert after_a_restart(path) == ["before", *during]


def test_trouble_that_comes_again_is_said_again_after_a_while(
    path: Path, store: SqliteStore, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO")
    said: list[list[str]] = []
    for after in (600.0, 600.0, 0.0):
        monkeypatch.setattr(link_room, "_SAID_AGAIN_SECONDS", after)
        caplog.clear()
        locker = lock(path)
        store.put(SCOPE, [record(str(len(said)))])
        assert eventually(lambda: store._link.in_trouble)
        locker.close()
        assert eventually(lambda: not store._link.in_trouble)
        said.append([entry.levelname for entry in caplog.records])
    assert said == [["WARNING", "INFO"], ["INFO"], ["WARNING", "INFO"]]
    assert "it has all that waited" in caplog.text


# ---- Gone ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["file", "files", "folder", "moved"])
def test_a_file_that_is_deleted_in_use(
    path: Path, store: SqliteStore, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    store.put(SCOPE, [record("before")])
    settled(store)
    if what == "folder":
        shutil.rmtree(path.parent)
    elif what == "moved":
        path.parent.rename(path.parent.with_name("elsewhere"))
    else:
        for ending in ENDINGS if what == "files" else ENDINGS[:1]:
            path.with_name(path.name + ending).unlink()
    store.put(SCOPE, [record("after")])
    assert all_names(store) == ["after"]
    assert drained(store)
    store.put(SCOPE, [record("later")])
    assert all_names(store) == ["after", "later"]
    assert len(caplog.records) == 1 and f"{path} is gone" in caplog.text
    assert store.is_sound()
    assert after_a_restart(path) == ["after", "later"]
    if what == "moved":
        assert after_a_restart(path.parent.with_name("elsewhere") / path.name) == ["before"]


def test_two_proxies_go_on_in_one_file_after_it_was_deleted(path: Path) -> None:
    ours, theirs = SqliteStore(path), SqliteStore(path)
    ours.put(SCOPE, [record("before")])
    settled(ours, theirs)
    for ending in ENDINGS:
        path.with_name(path.name + ending).unlink()
    ours.put(SCOPE, [record("ours")])
    theirs.put(SCOPE, [record("theirs")])
    assert drained(ours) and drained(theirs)
    assert sorted(all_names(ours)) == sorted(all_names(theirs)) == ["ours", "theirs"]
    ours.close()
    theirs.close()
    assert sorted(after_a_restart(path)) == ["ours", "theirs"]


# ---- Damaged ---------------------------------------------------------------------------------------------

MINE = Installation(b"s" * 32).scope("sk-mine")


def thought(number: int) -> bytes:
    return f"What was thought in turn {number}. ".encode() * (1 + number % 40)


def whole_store(path: Path, turns: int = 120) -> None:
    store = SqliteStore(path)
    for number in range(turns):
        key = mark(f"key {number}")
        numbered = {name: mark(f"{name} {number}") for name in ("place", "context", "turn", "thread")}
        calls = ((mark(f"id {number}"), mark(f"call {number}")),)
        sealed = MINE.seal(thought(number), key)
        store.put(MINE.id, [record(f"key {number}", calls=calls, sealed=sealed, **numbered)])
    store.close()


def flip(path: Path, chance: random.Random, count: int) -> None:
    with path.open("r+b") as file:
        size = path.stat().st_size
        for _ in range(count):
            place = chance.randrange(size)
            file.seek(place)
            (byte,) = file.read(1)
            file.seek(place)
            file.write(bytes((byte ^ 1 << chance.randrange(8),)))


def found_thoughts(store: SqliteStore | MemoryStore, turns: int = 120) -> int:
    """How many turns are found by each of their marks; each of them must have the thought of that turn."""
    count = 0
    for number in range(turns):
        found = store.at(MINE.id, [mark(f"place {number}")])
        found += store.by_key(MINE.id, [mark(f"key {number}")])
        for kind, name in (("contexts", "context"), ("turns", "turn"), ("ids", "id")):
            keys: dict[str, list[bytes]] = {"contexts": [], "turns": [], "ids": []}
            keys[kind].append(mark(f"{name} {number}"))
            found += store.related(MINE.id, **keys)
        for one in found:
            try:
                assert MINE.open(one.sealed, one.key) == thought(number)
            except SealError:
                continue
            count += 1
    return count


@pytest.mark.parametrize("count", [1, 10, 200])
@pytest.mark.in_full("seeds", [range(6)], [range(300)])
def test_flipped_bits_give_no_wrong_thought_and_no_fault(
    tmp_path: Path, count: int, seeds: range, caplog: pytest.LogCaptureFixture
) -> None:
    sound = tmp_path / "sound.sqlite3"
    whole_store(sound)
    for seed in seeds:
        caplog.clear()
        path = tmp_path / f"{seed}" / "turns.sqlite3"
        path.parent.mkdir(mode=0o700)
        shutil.copy(sound, path)
        flip(path, random.Random(seed), count)
        store = open_store(path)
        assert isinstance(store, SqliteStore | MemoryStore)
        assert found_thoughts(store) <= 600
        store.put(MINE.id, [record("new", sealed=MINE.seal(b"new", mark("new")))])
        if not store.by_key(MINE.id, [mark("new")]):
            # Written beside damage that only the search for it met.
            assert "set aside" in caplog.text, seed
            store.put(MINE.id, [record("new", sealed=MINE.seal(b"new", mark("new")))])
        (new,) = store.by_key(MINE.id, [mark("new")])
        assert MINE.open(new.sealed, new.key) == b"new"
        store.close()
        # Set aside, and the like if damage comes to light in two places: never a line per turn.
        assert len(caplog.records) <= 2, caplog.text
        again = open_store(path)
        # What comes to light only now costs the file, but never in silence.
        assert names(again.by_key(MINE.id, [mark("new")])) == ["new"] or caplog.records
        again.close()
        shutil.rmtree(path.parent)


@pytest.mark.in_full("seeds", [range(4)], [range(100)])
def test_bits_flipped_in_use(tmp_path: Path, seeds: range) -> None:
    sound = tmp_path / "sound.sqlite3"
    whole_store(sound)
    for seed in seeds:
        path = tmp_path / f"{seed}" / "turns.sqlite3"
        path.parent.mkdir(mode=0o700)
        shutil.copy(sound, path)
        store = open_store(path)
        assert isinstance(store, SqliteStore)
        assert found_thoughts(store) == 600
        flip(path, random.Random(seed), 50)
        with store._link.lock:
            store._link.connection.execute("PRAGMA shrink_memory").fetchall()
        assert found_thoughts(store) <= 600
        store.put(MINE.id, [record("new", sealed=MINE.seal(b"new", mark("new")))])
        assert names(store.by_key(MINE.id, [mark("new")])) == ["new"]
        store.close()
        shutil.rmtree(path.parent)


@pytest.mark.in_full("seeds", [range(20)], [range(600)])
def test_bits_flipped_in_the_counts_beside_it(
    tmp_path: Path, seeds: range, caplog: pytest.LogCaptureFixture
) -> None:
    sound = tmp_path / "sound.sqlite3"
    line = Line(day_of(time.time()), "deepseek", "deepseek-flash", "client")
    book = Book(sound)
    book.add(line, {f"count {number}": number for number in range(50)})
    book.close()
    for seed in seeds:
        path = tmp_path / f"{seed}" / "counts.sqlite3"
        path.parent.mkdir(mode=0o700)
        shutil.copy(sound, path)
        flip(path, random.Random(seed), 1 + seed % 60)
        caplog.clear()
        book = Book(path)
        for _ in range(2):
            book.add(line, {"new": 1})
            book.flush()
            found = book.counts(7)
        assert (line in found and found[line]["new"] == 2) or "set aside" in caplog.text, seed
        book.close()
        shutil.rmtree(path.parent)


def corrupt() -> sqlite3.DatabaseError:
    """What SQLite says when it meets damage."""
    fault = sqlite3.DatabaseError("database disk image is malformed")
    fault.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return fault


def by_hand(path: Path, *statements: str, **values: object) -> None:
    """What another program, or a fault, did to the file."""
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        connection.execute(statement, values if ":" in statement else {})
    connection.close()


@pytest.mark.parametrize("then", ["goes on", "is closed"])
def test_a_damaged_file_is_set_aside_while_maintenance_has_no_connection_to_it(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, then: str
) -> None:
    """It might find, or begin, the new files by their names while the old ones are being renamed.

    What it delivers meanwhile goes into the damaged file, and then into the new one.
    """
    whole_store(path)
    store = SqliteStore(path)
    settled(store)
    looking, seen = threading.Event(), threading.Event()
    deliver = Upkeep.deliver

    def slowly(upkeep: Upkeep, connection: sqlite3.Connection) -> None:
        looking.set()
        assert seen.wait(10)
        deliver(upkeep, connection)

    monkeypatch.setattr(Upkeep, "deliver", slowly)
    store._link.wake.set()
    assert looking.wait(10)
    damaged = path.read_bytes()
    store._link.cannot(corrupt())
    store.put(MINE.id, [record("new")])
    assert names(store.by_key(MINE.id, [mark("new")])) == ["new"]
    # Whoever sees the damage; the file stays where it is while it is in use.
    assert path.read_bytes() == damaged and not store.is_sound()
    store._link.stopped = then == "is closed"
    seen.set()
    if then == "goes on":
        assert drained(store) and store.is_sound()
    store.close()
    store = SqliteStore(path)
    assert names(store.by_key(MINE.id, [mark("key 7"), mark("new")])) == ["new"]
    store.close()
    assert [entry.getMessage().count("set aside") for entry in caplog.records] == [1]


def test_a_damaged_index_leads_to_no_other_turn(path: Path) -> None:
    """SQLite compares the key with the index only; what the index leads to may be any turn."""
    whole_store(path)
    by_hand(path, "DROP INDEX turns_place", "CREATE INDEX turns_place ON turns (scope, context)")
    change = "UPDATE sqlite_schema SET sql = replace(sql, 'context', 'place') WHERE name = 'turns_place'"
    by_hand(path, "PRAGMA writable_schema = ON", change)
    store = SqliteStore(path)
    assert store.at(MINE.id, [mark("context 7")]) == []
    assert names(store.by_key(MINE.id, [mark("key 7")])) == ["key 7"]
    store.close()


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param("created = 1 << 62", id="a date beyond all time"),
        pytest.param("calls = x'7f00ff'", id="calls cut short"),
        pytest.param("model = CAST(x'ff80' AS TEXT)", id="a name that is not text"),
    ],
)
def test_a_damaged_column_hides_no_other_turn(path: Path, damage: str) -> None:
    store = SqliteStore(path)
    store.put(SCOPE, [record("sound"), record("damaged")])
    by_hand(path, f"UPDATE turns SET {damage} WHERE key = :key", key=mark("damaged"))
    assert "sound" in all_names(store)
    store.close()
    assert "sound" in after_a_restart(path)


@pytest.mark.parametrize("column", ["key", "model", "calls", "created", "sealed"])
def test_a_column_of_another_type_is_no_turn(path: Path, column: str) -> None:
    """The type is a byte like any other; SQLite looks at it when it writes only."""
    store = SqliteStore(path)
    store.put(SCOPE, [record("sound"), record("damaged")])
    store.close()
    by_hand(
        path,
        "PRAGMA writable_schema = ON",
        "UPDATE sqlite_schema SET sql = replace(replace(sql, ') STRICT', ')'), 'NOT NULL', '') "
        "WHERE name = 'turns'",
    )
    for value in ("NULL", "1.5", "'text'", "x'00'"):
        by_hand(path, f"UPDATE turns SET {column} = {value} WHERE row = 2")
        assert "sound" in after_a_restart(path)


def test_a_schema_that_cannot_even_be_told_is_damage(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """SQLite's own words about it hold its bytes, which Python takes for text."""
    whole_store(path)
    with path.open("r+b") as file:
        at = file.read(8192).index(b"CREATE INDEX turns_place")
        file.seek(at)
        file.write(b"CREATE \xcf\xce\xee")
    store = open_store(path)
    store.put(SCOPE, [record()])
    assert isinstance(store, SqliteStore) and all_names(store) == ["one"]
    store.close()
    assert [entry.getMessage().count("set aside") for entry in caplog.records] == [1]


@pytest.mark.parametrize("version", [0, -1])
def test_a_damaged_format_number_is_damage(
    path: Path, version: int, caplog: pytest.LogCaptureFixture
) -> None:
    whole_store(path)
    by_hand(path, f"PRAGMA user_version = {version}")
    store = open_store(path)
    store.put(SCOPE, [record()])
    assert isinstance(store, SqliteStore) and all_names(store) == ["one"]
    store.close()
    assert [entry.getMessage().count("set aside") for entry in caplog.records] == [1]


# ---- Another version -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "upgrade",
    [
        pytest.param([], id="the number only"),
        pytest.param(["ALTER TABLE turns RENAME TO answers"], id="a table renamed"),
        pytest.param(["ALTER TABLE turns ADD COLUMN more INTEGER"], id="a column added"),
    ],
)
@pytest.mark.parametrize("noticed_by", ["put", "at", "maintenance"])
def test_a_file_that_a_newer_version_takes_over_in_use(
    path: Path, caplog: pytest.LogCaptureFixture, upgrade: list[str], noticed_by: str
) -> None:
    store = SqliteStore(path)
    store.put(SCOPE, [record("before")])
    settled(store)
    by_hand(path, "BEGIN IMMEDIATE", *upgrade, "PRAGMA user_version = 2", "COMMIT")
    before = list(sqlite3.connect(path).iterdump())
    if noticed_by == "put":
        store.put(SCOPE, [record("after")])
    elif noticed_by == "at":
        assert all_names(store) == []
    let_wait(store, [record("after")])
    store._link.wake.set()
    assert eventually(lambda: len(caplog.records) > 0)
    assert all_names(store) == ["after"]
    store.close()
    assert list(sqlite3.connect(path).iterdump()) == before
    assert [file.name for file in path.parent.iterdir() if "corrupt" in file.name] == []
    assert len(caplog.records) == 1 and "newer version" in caplog.text and "Run that version" in caplog.text


def test_a_newer_version_that_comes_between_the_look_and_the_deed(path: Path, store: SqliteStore) -> None:
    """Every transaction looks again, under the lock."""
    store.put(SCOPE, [record("before")])
    settled(store)
    by_hand(path, "PRAGMA user_version = 2")
    fault = sqlite3.OperationalError("no such table: turns")
    fault.sqlite_errorcode = sqlite3.SQLITE_ERROR
    store._link.cannot(fault)
    store._link.mend()
    assert not list(path.parent.glob("*.corrupt-*"))
    connection = sqlite3.connect(path, isolation_level=None)
    for deed in (
        lambda: store._upkeep.deliver(connection),
        lambda: store._retention.prune(connection),
        lambda: store._retention.erase_oldest(connection),
    ):
        store._waiting.put(SCOPE, [record("late")])
        with pytest.raises(NewerFormat):
            deed()
        assert not connection.in_transaction
    connection.close()


# ---- The clock -------------------------------------------------------------------------------------------


class Wall:
    """A clock on the wall that a test can set, in milliseconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = int(time.time() * 1000)
        monkeypatch.setattr("reasoning_fix.engine.recording.time.time_ns", lambda: self.now * 1_000_000)

    def __call__(self) -> float:
        return self.now / 1000


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> Wall:
    return Wall(monkeypatch)


@pytest.mark.parametrize("back", [1, 3_600_000, DAY_MS - 1000])
def test_turns_stay_in_order_when_the_clock_is_set_back(path: Path, wall: Wall, back: int) -> None:
    first = _Clock()
    times = [first()]
    store = SqliteStore(path, clock=wall)
    wall.now -= back
    times.append(first())
    store.put(SCOPE, [record("older", created=times[0]), record("newer", created=times[1])])
    store.close()
    store = SqliteStore(path, clock=wall)
    after_restart = _Clock()
    after_restart.go_on_after(store.newest())
    times.append(after_restart())
    store.put(SCOPE, [record("newest", created=times[2])])
    assert times == sorted(set(times))
    assert all_names(store) == ["older", "newer", "newest"]
    store.close()


def test_a_clock_that_was_far_ahead_once_is_not_followed(path: Path, wall: Wall) -> None:
    clock = _Clock()
    clock.go_on_after(wall.now + 30 * 365 * DAY_MS)
    assert clock() == wall.now


def test_no_two_threads_are_told_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def still() -> int:
        time.sleep(0)  # another thread goes on here
        return 0

    monkeypatch.setattr("reasoning_fix.engine.recording.time.time_ns", still)
    clock, told = _Clock(), list[int]()
    threads = [threading.Thread(target=lambda: told.extend(clock() for _ in range(500))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(told) == list(range(1, 2001))


def test_turns_of_a_clock_that_was_ahead_are_erased_in_their_time(path: Path, wall: Wall) -> None:
    store = SqliteStore(path, keep_days=30, clock=wall)
    ahead = wall.now + 30 * 365 * DAY_MS
    for name, made in (("first", wall.now), ("ahead", ahead), ("second", wall.now + 1)):
        store.put(SCOPE, [record(name, created=made)])
    settled(store)
    assert (prune(store), len(all_names(store))) == (0, 3)
    wall.now += 29 * DAY_MS
    store.put(SCOPE, [record("later", created=wall.now)])
    assert prune(store) == 0
    wall.now += 2 * DAY_MS
    prune(store)
    assert all_names(store) == ["later"]
    store.close()


def test_a_clock_that_is_behind_erases_nothing(path: Path, wall: Wall) -> None:
    store = SqliteStore(path, keep_days=30, clock=wall)
    store.put(SCOPE, [record("before", created=wall.now)])
    wall.now = 5_000
    store.put(SCOPE, [record("at the beginning of time", created=wall.now)])
    settled(store)
    assert prune(store) == 0
    store.close()


def test_the_size_takes_what_was_put_first_whatever_its_date(path: Path, wall: Wall) -> None:
    store = SqliteStore(path, keep_megabytes=1, clock=wall)
    names_put = [f"r{number}" for number in range(30)]
    for number, name in enumerate(names_put):
        # The first half was put when the clock was ahead.
        made = wall.now + (DAY_MS * 400 if number < 15 else 0) + number
        store.put(SCOPE, [record(name, created=made, sealed=os.urandom(100_000))])
    prune(store)
    left = set(all_names(store))
    assert left == set(names_put[-len(left) :]) and 5 < len(left) < 15
    store.close()


# ---- Closed ----------------------------------------------------------------------------------------------


def test_a_stream_that_outlives_its_store_is_recorded_all_the_same(path: Path) -> None:
    """The script was loaded again in mid-stream: the store it began with is closed by then."""
    old = SqliteStore(path)
    old.put(SCOPE, [record("before")])
    old.close()
    new = SqliteStore(path)
    old.put(SCOPE, [record("late")])
    assert all_names(new) == ["before", "late"]
    assert not old._link.connected
    new.close()


def test_only_a_turn_that_comes_after_the_end_is_said_to_be_lost(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A look at the file that fails then, by a reader or by maintenance on its way out, loses nothing."""
    store = SqliteStore(path)
    store.close()
    by_hand(path, "PRAGMA user_version = 2")
    assert all_names(store) == []
    store._link.cannot(NewerFormat("it is newer"), waited=True)
    assert not caplog.records
    for name in ("late", "later"):
        store.put(SCOPE, [record(name)])
    assert len(caplog.records) == 1 and "was closed and cannot take a turn (it was written by" in caplog.text


def test_one_turn_that_no_file_can_hold_takes_no_others_along(path: Path, store: SqliteStore) -> None:
    locker = lock(path)
    store.put(SCOPE, [record("one"), record("bad", created=1 << 70), record("two")])
    locker.close()
    assert drained(store)
    assert all_names(store) == ["one", "two"]
