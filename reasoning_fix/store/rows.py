"""Records as rows: how they are written, found by their keys, and read again.

A damaged file may answer anything: what is not a record that was asked for is left out here. This file knows
open connections; it knows nothing of paths, threads, or what to do about a fault.
"""

import sqlite3
from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Any, Literal

import msgspec

from reasoning_fix.store import RELATED_LIMIT, Record

_NO_CALL = 0x80
_KEYS_AT_ONCE = 500
_FIELDS = Record.__struct_fields__
_INSERT = f"INSERT INTO turns (scope, {', '.join(_FIELDS)}) VALUES ({','.join('?' * 18)})"
# What SQLite cannot hold, however often it is tried.
UNFIT = (OverflowError, UnicodeEncodeError, sqlite3.IntegrityError)

# With the number of its row: records of one millisecond stay in the order they were put.
type Found = tuple[int, Record]

type Kind = Literal["key", "place", "context", "turn", "id"]

_TYPES = (bytes, str, str, *[bytes] * 10, int, int, int, bytes)


def write(connection: sqlite3.Connection, records: Sequence[tuple[bytes, Record]]) -> None:
    """Each with its scope, within the caller's transaction. Raises UNFIT, sqlite3.Error."""
    for scope, record in records:
        values = (scope, *_row(record))
        try:
            row = connection.execute(_INSERT, values).lastrowid
        except sqlite3.IntegrityError:
            # Nearly no key is known already.
            connection.execute("DELETE FROM turns WHERE key = ?", (record.key,))
            row = connection.execute(_INSERT, values).lastrowid
        ids = [(scope, call_id, row) for call_id, _ in record.calls if call_id]
        if ids:
            connection.executemany("INSERT OR IGNORE INTO call_ids VALUES (?, ?, ?)", ids)


def read(connection: sqlite3.Connection, kind: Kind, scope: bytes, keys: Collection[bytes]) -> list[Found]:
    """For each 500 keys at most the newest RELATED_LIMIT records, in no order."""
    wanted = list(keys)
    found: list[Found] = []
    for start in range(0, len(wanted), _KEYS_AT_ONCE):
        some = wanted[start : start + _KEYS_AT_ONCE]
        rows = connection.execute(_query(kind, len(some)), (scope, *some)).fetchall()
        found += [(row[0], record) for row in rows if (record := _record(row[1:])) is not None]
    # A damaged index leads to other turns, and SQLite does not compare them with what was asked for.
    asked = set(wanted)
    return [(row, record) for row, record in found if not asked.isdisjoint(_keys(kind, record))]


@lru_cache(maxsize=256)
def _query(kind: Kind, count: int) -> str:
    """For so many keys. The newest are found by their rows: contents are not carried through a sort."""
    table = "turns" if kind != "id" else "call_ids JOIN turns USING (row)"
    column = f"turns.{kind}" if kind != "id" else "call_ids.id"
    owner = "turns.scope" if kind != "id" else "call_ids.scope"
    columns = ", ".join(f"turns.{name}" for name in _FIELDS)
    return (
        f"SELECT turns.row, {columns} FROM turns WHERE row IN ("
        f"SELECT turns.row FROM {table} WHERE {owner} = ? AND {column} IN ({','.join('?' * count)}) "
        f"ORDER BY turns.created DESC, turns.row DESC LIMIT {RELATED_LIMIT})"
    )


def merged(read: list[Found], waiting: list[Record]) -> list[Record]:
    """Oldest first; of one millisecond in the order they were put."""
    if not waiting and len(read) < 2:
        return [record for _, record in read]
    found = {record.key: record for _, record in sorted(read, key=lambda pair: (pair[1].created, pair[0]))}
    for record in waiting:
        found.pop(record.key, None)
        found[record.key] = record
    return sorted(found.values(), key=lambda record: record.created)


def _row(record: Record) -> tuple[Any, ...]:
    # Either fingerprint may be empty: the id's length goes first, with a mark if there is no call's.
    calls = b"".join(
        bytes((len(call_id) | (0 if call else _NO_CALL),)) + call_id + call for call_id, call in record.calls
    )
    values = msgspec.structs.asdict(record) | {"calls": calls, "complete": int(record.complete)}
    return tuple(values.values())


def _record(row: tuple[Any, ...]) -> Record | None:
    """None if a column is not what it was when it was written."""
    if tuple(map(type, row)) != _TYPES:
        return None
    values = dict(zip(_FIELDS, row, strict=True))
    packed = values["calls"]
    calls = []
    at = 0
    while at < len(packed):
        middle = at + 1 + (packed[at] & ~_NO_CALL)
        end = middle + (0 if packed[at] & _NO_CALL else 16)
        calls.append((packed[at + 1 : middle], packed[middle:end]))
        at = end
    return Record(**values | {"calls": tuple(calls), "complete": bool(values["complete"])})


def _keys(kind: Kind, record: Record) -> Collection[bytes]:
    """What a record is found by."""
    if kind == "id":
        return [call_id for call_id, _ in record.calls]
    key: bytes = getattr(record, kind)
    return (key,)
