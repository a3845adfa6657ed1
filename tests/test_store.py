"""What is kept, for how long, for whom, and what happens when the file cannot be used."""

import base64
import json
import logging
import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from reasoning_fix.store import Record, Store, StoreError
from reasoning_fix.store.memory import MemoryStore
from reasoning_fix.store.sealing import Installation, SealError
from reasoning_fix.store.sqlite import SqliteStore, open_store

SCOPE, OTHER = b"s" * 16, b"o" * 16


def record(number: int, *, created: int | None = None, size: int = 10, ids: tuple[bytes, ...] = ()) -> Record:
    mark = b"%016d" % number
    return Record(
        key=mark,
        issuer="deepseek",
        model="deepseek-v4-pro",
        place=b"p" + mark[1:],
        context=b"c" + mark[1:],
        turn=b"t" + mark[1:],
        before=b"",
        thought=b"h" * 16,
        system=b"",
        session=b"",
        parent=b"",
        thread=mark,
        calls=tuple((call_id, b"k" * 16) for call_id in ids),
        complete=True,
        asked=1,
        created=number if created is None else created,
        sealed=os.urandom(size),
    )


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return (
        MemoryStore()
        if request.param == "memory"
        else SqliteStore(tmp_path / "turns.sqlite3", keep_days=36500)
    )


def test_what_was_put_is_found_by_each_of_its_keys(store: Store) -> None:
    one, two = record(1, ids=(b"i" * 16, b"")), record(2)
    store.put(SCOPE, [two, one])
    assert store.at(SCOPE, [one.place, two.place, b"x" * 16]) == [one, two]
    assert store.related(SCOPE, contexts=[one.context], turns=[], ids=[]) == [one]
    assert store.related(SCOPE, contexts=[], turns=[two.turn], ids=[]) == [two]
    assert store.related(SCOPE, contexts=[], turns=[], ids=[b"i" * 16]) == [one]
    assert store.related(SCOPE, contexts=[], turns=[], ids=[b""]) == []


def test_scopes_do_not_see_each_other(store: Store) -> None:
    one = record(1, ids=(b"i" * 16,))
    store.put(SCOPE, [one])
    assert store.at(OTHER, [one.place]) == []
    assert store.related(OTHER, contexts=[one.context], turns=[one.turn], ids=[b"i" * 16]) == []


def test_the_same_key_replaces(store: Store) -> None:
    store.put(SCOPE, [record(1)])
    again = record(1)
    store.put(SCOPE, [again])
    assert store.at(SCOPE, [again.place]) == [again]


def test_more_keys_than_one_statement_takes(store: Store) -> None:
    records = [record(number) for number in range(1200)]
    store.put(SCOPE, records)
    assert store.at(SCOPE, [one.place for one in records]) == records


def test_memory_is_bounded() -> None:
    store = MemoryStore(max_bytes=10_000)
    store.put(SCOPE, [record(number, size=600) for number in range(50)])
    assert 5 <= len(store) <= 10
    assert store.at(SCOPE, [record(49).place])


def test_turns_survive_a_restart_and_files_are_private(tmp_path: Path) -> None:
    path = tmp_path / "data" / "turns.sqlite3"
    first = SqliteStore(path, keep_days=36500)
    one = record(1)
    first.put(SCOPE, [one])
    for file in (path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    first.close()
    assert SqliteStore(path, keep_days=36500).at(SCOPE, [one.place]) == [one]


def test_old_turns_are_erased(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "t.sqlite3", keep_days=30, clock=lambda: 100 * 86400.0)
    old, new = record(1, created=69 * 86_400_000, ids=(b"i" * 16,)), record(2, created=71 * 86_400_000)
    store.put(SCOPE, [old, new])
    store.prune()
    assert store.at(SCOPE, [old.place, new.place]) == [new]
    assert store.related(SCOPE, contexts=[], turns=[], ids=[b"i" * 16]) == []


def test_the_oldest_turns_go_when_the_store_is_too_large(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "t.sqlite3", keep_days=36500, keep_megabytes=1)
    records = [record(number, size=4000) for number in range(1000)]
    store.put(SCOPE, records)
    store.prune()
    left = store.at(SCOPE, [one.place for one in records])
    assert 100 < len(left) < 400
    assert left == records[-len(left) :]


WRITER = """
import sys
from pathlib import Path
from reasoning_fix.store.sqlite import SqliteStore
from tests.test_store import SCOPE, record
store = SqliteStore(Path(sys.argv[1]), keep_days=36500)
for number in range(int(sys.argv[2]), int(sys.argv[2]) + 200):
    store.put(SCOPE, [record(number)])
store.close()
"""


def test_several_processes_share_a_store(tmp_path: Path) -> None:
    path = tmp_path / "t.sqlite3"
    store = SqliteStore(path, keep_days=36500)
    command = [sys.executable, "-c", WRITER, str(path)]
    writers = [subprocess.Popen([*command, str(start)]) for start in (0, 200, 400)]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    assert len(store.at(SCOPE, [record(number).place for number in range(600)])) == 600


def test_a_locked_store_keeps_turns_in_memory_until_it_can_write(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "t.sqlite3"
    store = SqliteStore(path, keep_days=36500)
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    one = record(1)
    store.put(SCOPE, [one])
    assert store.at(SCOPE, [one.place]) == [one]
    assert "waits in memory" in caplog.text
    blocker.execute("ROLLBACK")
    with sqlite3.connect(path, isolation_level=None) as own:
        own.execute("PRAGMA busy_timeout = 1000")
        store._deliver(own)
    assert len(store._waiting) == 0
    assert store.at(SCOPE, [one.place]) == [one]


def test_a_damaged_store_is_set_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "turns.sqlite3"
    path.write_bytes(b"this is no database, whatever its name says" * 100)
    store = open_store(path, keep_days=36500)
    one = record(1)
    store.put(SCOPE, [one])
    assert store.at(SCOPE, [one.place]) == [one]
    assert "is damaged; it was set aside as" in caplog.text
    assert [file.read_bytes()[:4] for file in tmp_path.glob("*.corrupt-*")] == [b"this"]


def test_a_store_damaged_while_in_use_is_set_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "turns.sqlite3"
    store = SqliteStore(path, keep_days=36500)
    store._connection.execute("DROP TABLE turns")
    one = record(1)
    store.put(SCOPE, [one])
    assert store.at(SCOPE, [one.place]) == [one]
    assert "is damaged; it was set aside as" in caplog.text


@pytest.mark.parametrize("reason", ["a file in the way", "a newer format"])
def test_a_store_that_cannot_be_used_leaves_turns_in_memory(
    reason: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "turns.sqlite3"
    if reason == "a newer format":
        with sqlite3.connect(path) as newer:
            newer.execute("PRAGMA user_version = 99")
    else:
        (tmp_path / "data").write_text("")
        path = tmp_path / "data" / "turns.sqlite3"
    store = open_store(path)
    assert isinstance(store, MemoryStore)
    assert "turns are kept only while the proxy runs" in caplog.text
    assert [entry.levelno for entry in caplog.records] == [logging.WARNING]


def test_the_secret_is_made_once_and_private(tmp_path: Path) -> None:
    one = Installation.load(tmp_path / "data").scope("sk-key")
    again = Installation.load(tmp_path / "data").scope("sk-key")
    assert (one.id, one.fingerprint_key) == (again.id, again.fingerprint_key)
    assert again.open(one.seal(b"thought", b"k"), b"k") == b"thought"
    assert stat.S_IMODE((tmp_path / "data" / "secret").stat().st_mode) == 0o600
    assert [file.name for file in (tmp_path / "data").iterdir()] == ["secret"]


def test_a_damaged_secret_is_said_to_be_one(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"short")
    with pytest.raises(StoreError, match=r"holds 5 bytes where 32 are expected; delete it"):
        Installation.load(tmp_path)


def test_an_installation_that_cannot_write_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "data").write_text("")
    assert Installation.load(tmp_path / "data").scope("sk-key").id
    assert "turns are kept only while the proxy runs" in caplog.text


@pytest.mark.parametrize("plain", [b"", b"short", b"long " * 1000, os.urandom(1000)])
def test_sealing(plain: bytes) -> None:
    installation = Installation(b"s" * 32)
    mine, theirs = installation.scope("sk-1"), installation.scope("sk-2")
    sealed = mine.seal(plain, b"key")
    assert mine.open(sealed, b"key") == plain
    assert not plain or plain not in sealed
    with pytest.raises(SealError):
        theirs.open(sealed, b"key")
    with pytest.raises(SealError):
        mine.open(sealed, b"other")
    for at in range(0, len(sealed), max(1, len(sealed) // 50)):
        with pytest.raises(SealError):
            mine.open(sealed[:at] + bytes((sealed[at] ^ 1,)) + sealed[at + 1 :], b"key")
    with pytest.raises(SealError):
        mine.open(b"", b"key")


def token(**claims: object) -> str:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    return f"{part({'alg': 'x'})}.{part(claims)}.{os.urandom(8).hex()}"


def test_renewed_tokens_of_one_person_are_one_scope() -> None:
    scope = Installation(b"s" * 32).scope
    assert scope(token(iss="a", sub="me", exp=1)).id == scope(token(iss="a", sub="me", exp=2)).id
    assert scope(token(iss="a", sub="me")).id != scope(token(iss="a", sub="you")).id
    assert scope(token(iss="a", sub="me")).id != scope(token(iss="b", sub="me")).id
    assert scope(token(iss="a")).id != scope(token(iss="a")).id
    assert scope("a.b.c").id != scope("a.b.d").id
