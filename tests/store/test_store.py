"""The store: what is put can be found again, by its own credential only."""

import base64
import json
import logging
import multiprocessing
import os
import sqlite3
import stat
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from reasoning_fix.store import RELATED_LIMIT, Record, Store, StoreError
from reasoning_fix.store import sealing as sealing_room
from reasoning_fix.store.memory import MemoryStore
from reasoning_fix.store.sealing import Installation, Scope, SealError, load_secret
from reasoning_fix.store.sqlite import SqliteStore, open_store

SCOPE, OTHER = b"S" * 16, b"O" * 16
DAY_MS = 86_400_000


def mark(name: str) -> bytes:
    return name.encode().ljust(16, b".")


def record(name: str = "one", /, **changes: Any) -> Record:
    now = int(time.time() * 1000)
    plain = Record(
        key=mark(name),
        issuer="deepseek",
        model="deepseek-reasoner",
        place=mark("place"),
        context=mark("context"),
        turn=mark("turn"),
        before=mark("before"),
        thought=b"",
        system=mark("system"),
        session=b"",
        parent=b"",
        thread=mark(name),
        calls=((mark("id"), mark("call")),),
        complete=True,
        asked=now,
        created=now,
        sealed=b"sealed " + name.encode(),
    )
    return msgspec.structs.replace(plain, **changes)


def names(records: list[Record]) -> list[str]:
    return [found.key.rstrip(b".").decode() for found in records]


def eventually(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 5
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.02)
    return holds()


def prune(store: SqliteStore) -> int:
    """Erase now what maintenance erases by itself."""
    return store._retention.prune(store._link.catch_up())


def related(store: Store, **keys: object) -> list[str]:
    wanted: dict[str, object] = {"contexts": (), "turns": (), "ids": (), **keys}
    return names(store.related(SCOPE, **wanted))  # type: ignore[arg-type]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "turns.sqlite3"


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, path: Path) -> Iterator[Store]:
    store: Store = MemoryStore() if request.param == "memory" else SqliteStore(path, clock=lambda: 0)
    yield store
    store.close()


@pytest.fixture
def file_store(path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(path)
    yield store
    store.close()


# ---- Both stores -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="a plain turn"),
        pytest.param({"calls": ()}, id="no tool call"),
        pytest.param({"calls": ((b"", mark("a")), (mark("b"), mark("c")))}, id="a call without an id"),
        pytest.param({"calls": ((mark("a"), b""), (b"", b""), (mark("b"), mark("c")))}, id="bare ids"),
        pytest.param({"calls": ((mark("a"), mark("b")),) * 2}, id="one id twice"),
        pytest.param({"complete": False}, id="an incomplete turn"),
        pytest.param({"sealed": b""}, id="nothing sealed"),
        pytest.param({"sealed": bytes(range(256)) * 4000}, id="a long thought"),
        pytest.param({"model": "模型 ☃"}, id="a model named in other letters"),
    ],
)
def test_what_is_put_comes_back_as_it_was(store: Store, changes: dict[str, Any]) -> None:
    put = record(**changes)
    store.put(SCOPE, [put])
    assert store.at(SCOPE, [put.place]) == [put]
    assert store.by_key(SCOPE, [put.key]) == [put]


@pytest.mark.parametrize(
    ("keys", "found"),
    [
        pytest.param({"contexts": [mark("c1")]}, ["a"], id="by context"),
        pytest.param({"turns": [mark("t2")]}, ["b", "c"], id="by turn"),
        pytest.param({"ids": {mark("i3")}}, ["c"], id="by tool-call id"),
        pytest.param(
            {"contexts": [mark("c2")], "turns": [mark("t2")], "ids": [mark("i3")]}, ["b", "c"], id="once"
        ),
        pytest.param({"contexts": [mark("c1")], "ids": [mark("i3")]}, ["a", "c"], id="any key is enough"),
        pytest.param({"contexts": [mark("nowhere")]}, [], id="an unknown key"),
        pytest.param({"contexts": [mark("t2")]}, [], id="a key of another kind"),
        pytest.param({}, [], id="no keys"),
    ],
)
def test_related_turns_are_found(store: Store, keys: dict[str, object], found: list[str]) -> None:
    for number, name in ((1, "a"), (2, "b"), (3, "c")):
        turn = mark(f"t{min(number, 2)}")
        calls = ((mark(f"i{number}"), mark("call")),)
        store.put(SCOPE, [record(name, context=mark(f"c{number}"), turn=turn, calls=calls)])
    assert related(store, **keys) == found


def test_turns_come_oldest_first_and_those_of_one_millisecond_as_they_were_put(store: Store) -> None:
    put = [record(name, created=made) for name, made in (("c", 7), ("z", 5), ("a", 5), ("m", 5), ("b", 6))]
    store.put(SCOPE, put)
    assert names(store.at(SCOPE, [mark("place")])) == ["z", "a", "m", "b", "c"]
    assert related(store, turns=[mark("turn")]) == ["z", "a", "m", "b", "c"]


def test_only_the_newest_related_turns_are_looked_at(store: Store) -> None:
    store.put(SCOPE, [record(f"r{n}", created=n) for n in range(RELATED_LIMIT + 3)])
    found = related(store, turns=[mark("turn")])
    assert (len(found), found[0], found[-1]) == (RELATED_LIMIT, "r3", f"r{RELATED_LIMIT + 2}")


def test_more_places_than_one_query_takes(store: Store) -> None:
    store.put(SCOPE, [record(f"r{n}", place=mark(f"p{n}"), created=n) for n in range(1203)])
    assert names(store.at(SCOPE, {mark(f"p{n}") for n in range(1203)})) == [f"r{n}" for n in range(1203)]


def test_a_turn_put_again_replaces_the_old_one(store: Store) -> None:
    store.put(SCOPE, [record(place=mark("old"), calls=((mark("old id"), mark("call")),))])
    store.put(SCOPE, [record(place=mark("new"))])
    assert store.at(SCOPE, [mark("old")]) == []
    assert related(store, ids=[mark("old id")]) == []
    assert names(store.at(SCOPE, [mark("new")])) == ["one"]


def test_another_scope_finds_nothing(store: Store) -> None:
    store.put(SCOPE, [record()])
    assert store.at(OTHER, [mark("place")]) == store.by_key(OTHER, [mark("one")]) == []
    assert store.related(OTHER, contexts=[mark("context")], turns=[mark("turn")], ids=[mark("id")]) == []


def test_memory_is_bounded_and_the_oldest_go_first() -> None:
    store = MemoryStore(max_bytes=10_000)
    for number in range(20):
        store.put(SCOPE, [record(f"r{number}", created=number, sealed=b"x" * 1500)])
    assert names(store.at(SCOPE, [mark("place")])) == ["r15", "r16", "r17", "r18", "r19"]


# ---- The file --------------------------------------------------------------------------------------------


def test_turns_outlive_a_restart(path: Path) -> None:
    put = record()
    for expected in ([], [put]):
        store = SqliteStore(path)
        assert store.at(SCOPE, [mark("place")]) == expected
        store.put(SCOPE, [put])
        store.close()


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_nobody_else_can_read_the_files(path: Path) -> None:
    before = os.umask(0)
    try:
        store = SqliteStore(path)
        store.put(SCOPE, [record()])
    finally:
        os.umask(before)
    files = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    store.close()
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert files == {path.name + ending: 0o600 for ending in ("", "-wal", "-shm")}


def write_and_die(path: Path, who: str, count: int) -> None:
    """In a process of its own, which ends as suddenly as after kill -9."""
    store = SqliteStore(path)
    for number in range(count):
        store.put(SCOPE, [record(f"{who}{number}")])
    while len(store._waiting):
        time.sleep(0.01)
    os._exit(0)


def test_two_processes_write_one_file_and_die(path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=write_and_die, args=(path, who, 200)) for who in ("a", "b")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(30)
    assert [writer.exitcode for writer in writers] == [0, 0]
    store = SqliteStore(path)
    found = set(names(store.at(SCOPE, [mark("place")])))
    store.close()
    assert found == {f"{who}{number}" for who in ("a", "b") for number in range(200)}


def test_what_is_too_old_is_erased(path: Path) -> None:
    now = 100 * DAY_MS
    store = SqliteStore(path, keep_days=30, clock=lambda: now / 1000)
    ages = {"new": 0, "kept": 29, "old": 31, "older": 90}
    store.put(SCOPE, [record(name, created=now - days * DAY_MS) for name, days in ages.items()])
    prune(store)
    assert names(store.at(SCOPE, [mark("place")])) == ["kept", "new"]
    assert related(store, ids=[mark("id")]) == ["kept", "new"]
    store.close()


@pytest.mark.parametrize(
    "size", [pytest.param(3_000, id="small turns"), pytest.param(100_000, id="large turns")]
)
def test_the_oldest_beyond_the_size_are_erased_and_no_more(path: Path, size: int) -> None:
    store = SqliteStore(path, keep_megabytes=1)
    count = 3_000_000 // size
    now = int(time.time() * 1000)
    store.put(SCOPE, [record(f"r{n}", created=now + n, sealed=os.urandom(size)) for n in range(count)])
    prune(store)
    left = names(store.at(SCOPE, [mark("place")]))
    assert left == [f"r{n}" for n in range(count - len(left), count)]
    assert 500_000 < len(left) * size < 1_048_576
    store._link.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    assert path.stat().st_size < 1_200_000
    store.close()


def test_maintenance_erases_at_the_start(path: Path) -> None:
    store = SqliteStore(path)
    store.put(SCOPE, [record("old", created=5)])
    store.close()
    store = SqliteStore(path)
    assert eventually(lambda: store.at(SCOPE, [mark("place")]) == [])
    store.close()


@pytest.mark.parametrize(
    ("puts", "size"),
    [pytest.param(1500, 100, id="many turns"), pytest.param(60, 1_000_000, id="large turns")],
)
def test_the_log_beside_the_file_stays_short_under_load(path: Path, puts: int, size: int) -> None:
    """Without a checkpoint it has more than 35 MB by then; one comes for each 8 MB, and takes its time."""
    store = SqliteStore(path)
    log = path.with_name(path.name + "-wal")
    for number in range(puts):
        store.put(SCOPE, [record(f"r{number}", context=os.urandom(16), sealed=os.urandom(size))])
        if store._upkeep._logged >= 8 * 1024 * 1024:
            assert eventually(lambda: store._upkeep._logged < 8 * 1024 * 1024)
    assert log.stat().st_size < 24_000_000
    store.close()


def test_a_file_of_a_newer_version_is_left_alone(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as newer:
        newer.execute("PRAGMA user_version = 99")
    newer.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="newer version"):
        SqliteStore(path)
    assert isinstance(open_store(path), MemoryStore)
    assert path.read_bytes() == before
    assert len(caplog.records) == 1 and str(path) in caplog.text


# ---- A file that cannot be used --------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"not a database " * 500, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_corrupt_file_is_set_aside(path: Path, caplog: pytest.LogCaptureFixture, content: bytes) -> None:
    path.parent.mkdir()
    for times in (1, 2):
        path.write_bytes(content)
        store = open_store(path)
        store.put(SCOPE, [record()])
        assert isinstance(store, SqliteStore) and names(store.at(SCOPE, [mark("place")])) == ["one"]
        store.close()
        aside = [file for file in path.parent.iterdir() if ".corrupt-" in file.name]
        assert [file.read_bytes() for file in aside] == [content] * times
    assert [entry.levelno for entry in caplog.records] == [logging.WARNING] * 2
    assert str(path) in caplog.text


def damage(path: Path) -> None:
    """Write the file anew from its second page on: the schema stays, the tables do not."""
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    connection.close()
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))


@pytest.mark.parametrize("noticed_by", ["put", "at", "related"])
def test_damage_while_running_is_set_aside(
    path: Path, caplog: pytest.LogCaptureFixture, noticed_by: str
) -> None:
    store = SqliteStore(path)
    store.put(SCOPE, [record(f"r{n}") for n in range(100)])
    store.close()
    store = SqliteStore(path)
    assert eventually(lambda: len(store.at(SCOPE, [mark("place")])) == 100)
    damage(path)
    # The maintenance thread may be about to set it aside: the connection belongs to whoever holds the lock.
    with store._link.lock:
        store._link.connection.execute("PRAGMA shrink_memory").fetchall()
    if noticed_by == "put":
        store.put(SCOPE, [record()])
        assert names(store.at(SCOPE, [mark("place")])) == ["one"]
    elif noticed_by == "at":
        assert store.at(SCOPE, [mark("place")]) == []
    else:
        assert related(store, turns=[mark("turn")]) == []
    store.put(SCOPE, [record("two")])
    assert eventually(lambda: not len(store._waiting))
    assert "two" in names(store.at(SCOPE, [mark("place")]))
    store.close()
    assert sum(".corrupt-" in file.name for file in path.parent.glob("*sqlite3.corrupt*")) >= 1
    assert sum("set aside" in entry.getMessage() for entry in caplog.records) == 1


def test_a_file_is_set_aside_by_one_process_only(path: Path) -> None:
    ours, theirs = SqliteStore(path), SqliteStore(path)
    ours.put(SCOPE, [record(f"r{n}") for n in range(100)])
    fault = sqlite3.DatabaseError("database disk image is malformed")
    fault.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    for store in (theirs, ours):
        store._link.cannot(fault)
        store.put(SCOPE, [record(str(id(store)))])
        assert eventually(lambda store=store: not len(store._waiting))  # type: ignore[misc]
    assert len(list(path.parent.glob("*.corrupt-*"))) == len(list(path.parent.glob("*.corrupt-*[0-9]*")))
    asides = [file for file in path.parent.glob("*.corrupt-*") if not file.name.endswith(("-wal", "-shm"))]
    assert len(asides) == 1
    assert set(names(ours.at(SCOPE, [mark("place")]))) == {str(id(ours)), str(id(theirs))}
    ours.close()
    theirs.close()


def test_a_file_replaced_by_another_process_is_followed(path: Path, file_store: SqliteStore) -> None:
    for ending in ("", "-wal", "-shm"):
        path.with_name(path.name + ending).rename(path.with_name("aside" + ending))
    SqliteStore(path).close()
    file_store.put(SCOPE, [record()])
    beside = SqliteStore(path)
    assert names(beside.at(SCOPE, [mark("place")])) == ["one"]
    beside.close()


def test_where_no_file_can_be_the_store_is_in_memory(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    store = open_store(tmp_path / "file" / "turns.sqlite3")
    store.put(SCOPE, [record()])
    assert isinstance(store, MemoryStore) and names(store.at(SCOPE, [mark("place")])) == ["one"]
    assert len(caplog.records) == 1 and str(tmp_path / "file") in caplog.text


def test_a_read_only_place_makes_a_store_in_memory(
    path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Root cannot be refused by permissions.
    monkeypatch.setattr("os.access", lambda place, mode: False)
    assert isinstance(open_store(path), MemoryStore)
    assert len(caplog.records) == 1 and "cannot be written" in caplog.text


# ---- Waiting in memory -----------------------------------------------------------------------------------


def test_while_the_file_is_locked_turns_wait_in_memory(
    path: Path, file_store: SqliteStore, caplog: pytest.LogCaptureFixture
) -> None:
    file_store.put(SCOPE, [record("before", created=1 << 41)])
    locker = sqlite3.connect(path, isolation_level=None)
    locker.execute("BEGIN IMMEDIATE")
    began = time.monotonic()
    file_store.put(SCOPE, [record("during", created=(1 << 41) + 1)])
    file_store.put(SCOPE, [record("before", created=(1 << 41) + 2, model="newer")])
    assert time.monotonic() - began < 1
    found = file_store.at(SCOPE, [mark("place")])
    assert names(found) == related(file_store, ids=[mark("id")]) == ["during", "before"]
    assert found[1].model == "newer"
    assert names(file_store.by_key(SCOPE, [mark("during")])) == ["during"]
    assert eventually(lambda: len(caplog.records) == 1)
    locker.execute("ROLLBACK")
    locker.close()
    assert eventually(lambda: not len(file_store._waiting))
    assert file_store.at(SCOPE, [mark("place")]) == found


def test_a_turn_that_waited_does_not_overwrite_a_newer_one(path: Path, file_store: SqliteStore) -> None:
    locker = sqlite3.connect(path, isolation_level=None)
    locker.execute("BEGIN IMMEDIATE")
    file_store.put(SCOPE, [record(model="older")])
    locker.execute("ROLLBACK")
    locker.close()
    file_store.put(SCOPE, [record(model="newer")])
    assert eventually(lambda: not len(file_store._waiting))
    assert [found.model for found in file_store.at(SCOPE, [mark("place")])] == ["newer"]


def test_what_waits_at_the_end_is_delivered(path: Path) -> None:
    store = SqliteStore(path)
    locker = sqlite3.connect(path, isolation_level=None)
    locker.execute("BEGIN IMMEDIATE")
    store.put(SCOPE, [record()])
    locker.execute("ROLLBACK")
    locker.close()
    store.close()
    store = SqliteStore(path)
    assert names(store.at(SCOPE, [mark("place")])) == ["one"]
    store.close()


def let_wait(store: SqliteStore, records: Sequence[Record]) -> None:
    """Put these in memory, for the maintenance thread to deliver."""
    store._waiting.put(SCOPE, records)
    store._link.wake.set()


def test_turns_that_wait_are_seen_at_once_and_kept(path: Path) -> None:
    store = SqliteStore(path)
    let_wait(store, [record(f"r{n}") for n in range(1000)])
    assert len(store.at(SCOPE, [mark("place")])) == 1000
    assert eventually(lambda: not len(store._waiting))
    assert len(store.at(SCOPE, [mark("place")])) == 1000
    store.close()


@pytest.mark.parametrize("changes", [{"created": 1 << 70}, {"model": "\udc80"}, {"sealed": None}])
def test_a_turn_that_no_file_can_hold_does_no_harm(file_store: SqliteStore, changes: dict[str, Any]) -> None:
    file_store.put(SCOPE, [record("bad", **changes)])
    let_wait(file_store, [record("bad", sealed=b"", **{k: v for k, v in changes.items() if k != "sealed"})])
    assert eventually(lambda: not len(file_store._waiting))
    file_store.put(SCOPE, [record()])
    assert "one" in names(file_store.at(SCOPE, [mark("place")]))


def test_a_closed_store_raises_nothing(path: Path) -> None:
    store = SqliteStore(path)
    began = time.monotonic()
    store.close()
    assert time.monotonic() - began < 2
    store.put(SCOPE, [record()])
    assert names(store.at(SCOPE, [mark("place")])) == ["one"]


# ---- Sealing ---------------------------------------------------------------------------------------------

INSTALLATION = Installation(b"s" * 32)
MINE = INSTALLATION.scope("sk-mine")


@pytest.mark.parametrize("plain", [b"", b"x", b"short" * 40, b"long and dull " * 5000, os.urandom(5000)])
def test_what_is_sealed_opens(plain: bytes) -> None:
    sealed = MINE.seal(plain, mark("key"))
    assert MINE.open(sealed, mark("key")) == plain
    assert len(sealed) <= len(plain) + 1 + 12 + 16
    assert sealed != MINE.seal(plain, mark("key"))


@pytest.mark.parametrize("place", [0, 1, 12, 13, 20, -1])
def test_a_changed_byte_is_noticed(place: int) -> None:
    sealed = bytearray(MINE.seal(b"a thought " * 100, mark("key")))
    sealed[place] ^= 1
    with pytest.raises(SealError):
        MINE.open(bytes(sealed), mark("key"))


@pytest.mark.parametrize(
    ("scope", "key", "length"),
    [
        pytest.param(INSTALLATION.scope("sk-other"), mark("key"), None, id="another credential"),
        pytest.param(Installation(b"t" * 32).scope("sk-mine"), mark("key"), None, id="another installation"),
        pytest.param(MINE, mark("other key"), None, id="another record"),
        pytest.param(MINE, mark("key"), 0, id="nothing"),
        pytest.param(MINE, mark("key"), 5, id="cut within the nonce"),
        pytest.param(MINE, mark("key"), -1, id="cut at the end"),
    ],
)
def test_nobody_else_can_open_it(scope: Scope, key: bytes, length: int | None) -> None:
    with pytest.raises(SealError):
        scope.open(MINE.seal(b"a thought", mark("key"))[:length], key)


def test_a_bomb_is_not_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing_room, "_MAX_OPENED", 10_000)
    assert MINE.open(MINE.seal(b"x" * 10_000, mark("key")), mark("key")) == b"x" * 10_000
    bomb = MINE.seal(b"x" * 10_001, mark("key"))
    assert len(bomb) < len(zlib.compress(b"x" * 10_001)) + 100
    with pytest.raises(SealError, match="longer"):
        MINE.open(bomb, mark("key"))


def part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def jwt(claims: object, *, header: object = None, signature: str = "c2ln") -> str:
    return f"{part(header or {'alg': 'RS256'})}.{part(claims)}.{signature}"


ME = {"iss": "https://login", "sub": "me"}


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        pytest.param("sk-1", "sk-1", True, id="one key"),
        pytest.param("sk-1", "sk-2", False, id="two keys"),
        pytest.param(jwt(ME | {"exp": 1}), jwt(ME | {"exp": 2}, signature="bmV3"), True, id="a renewed JWT"),
        pytest.param(jwt(ME), jwt(ME | {"sub": "you"}), False, id="another subject"),
        pytest.param(jwt(ME), jwt(ME | {"iss": "https://other"}), False, id="another issuer"),
        pytest.param(
            jwt({"iss": "a", "sub": "bc"}), jwt({"iss": "ab", "sub": "c"}), False, id="moved border"
        ),
        pytest.param(jwt({"sub": "me"}), jwt({"iss": "", "sub": "me"}), False, id="no issuer, an empty one"),
        pytest.param(
            jwt({"iss": 1, "sub": "me"}), jwt({"iss": "1", "sub": "me"}), False, id="a number as issuer"
        ),
        pytest.param(
            jwt({"iss": 1, "sub": "me"}),
            jwt({"iss": 1, "sub": "me", "exp": 2}),
            False,
            id="nothing is renewed for a number",
        ),
        pytest.param(jwt({"exp": 1}), jwt({"exp": 2}), False, id="JWTs without a subject"),
        pytest.param(jwt({"sub": ""}), jwt({"sub": "", "exp": 2}), False, id="JWTs with an empty subject"),
        pytest.param(jwt(ME), "anonymous\nkimi\n" + jwt(ME), False, id="a JWT within another text"),
        pytest.param(jwt(ME), f"x.{part(ME)}.y", False, id="a payload without a header"),
        pytest.param(jwt(ME), jwt(ME) + ".more", False, id="four parts"),
        pytest.param("a.b.c", "a.b.d", False, id="three parts that are no JWT"),
        pytest.param("sk-\udc80", "sk-", False, id="bytes that are not text"),
    ],
)
def test_who_shares_a_scope(one: str, other: str, same: bool) -> None:
    first, second = INSTALLATION.scope(one), INSTALLATION.scope(other)
    assert (first.id == second.id) is same
    assert (first.fingerprint_key == second.fingerprint_key) is same


def test_a_scope_is_the_same_after_a_restart_and_its_keys_are_apart(tmp_path: Path) -> None:
    one, again = (Installation(load_secret(tmp_path)).scope("sk") for _ in range(2))
    assert (one.id, one.fingerprint_key) == (again.id, again.fingerprint_key)
    assert (len(one.id), len(one.fingerprint_key)) == (16, 32)
    assert again.open(one.seal(b"a thought", mark("key")), mark("key")) == b"a thought"


def test_scopes_in_memory_are_bounded_and_hold_no_credential() -> None:
    installation = Installation(b"s" * 32)
    first = installation.scope("sk-0")
    assert installation.scope("sk-0") is first
    for number in range(1, 257):
        installation.scope(f"sk-{number}")
    assert len(installation._scopes) == 256
    assert installation.scope("sk-0") is not first
    assert not any(b"sk-" in name for name in installation._scopes)


# ---- The secret ------------------------------------------------------------------------------------------


def test_the_secret_is_private_and_leaves_nothing_behind(tmp_path: Path) -> None:
    Installation(load_secret(tmp_path / "new"))
    (secret,) = (tmp_path / "new").iterdir()
    assert (secret.name, secret.stat().st_size) == ("secret", 32)
    if os.name != "nt":
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600
        assert stat.S_IMODE(secret.parent.stat().st_mode) == 0o700


def test_a_secret_that_another_process_makes_meanwhile_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link_too_late(draft: Path, path: Path) -> None:
        path.write_bytes(b"t" * 32)
        raise FileExistsError

    monkeypatch.setattr("os.link", link_too_late)
    assert Installation(load_secret(tmp_path)).scope("sk").id == Installation(b"t" * 32).scope("sk").id
    assert [file.name for file in tmp_path.iterdir()] == ["secret"]


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_damaged_secret_is_told_with_the_way_out(tmp_path: Path, size: int) -> None:
    (tmp_path / "secret").write_bytes(b"s" * size)
    with pytest.raises(StoreError, match=f"holds {size} bytes where 32 are expected; delete it"):
        Installation(load_secret(tmp_path))


def test_without_a_place_for_it_the_secret_lasts_while_the_proxy_runs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    one, two = (Installation(load_secret(tmp_path / "file" / "data")) for _ in range(2))
    assert one.scope("sk").id != two.scope("sk").id
    assert [entry.levelno for entry in caplog.records] == [logging.WARNING] * 2
