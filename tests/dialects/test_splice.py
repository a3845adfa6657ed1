"""Edits inside a JSON body: what is edited parses as asked for, every other byte stays as it came."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from reasoning_fix.dialects import splice
from reasoning_fix.dialects.splice import (
    SpliceError,
    item_ends,
    members,
    set_in_items,
    set_items,
    set_members,
    with_history,
)

# ---- Any JSON, in any spelling: white space, escapes, numbers ----------------------------------------------

BLANKS = st.sampled_from([b"", b"", b" ", b"\n", b"\t", b"\r\n", b" \n\t "])
NUMBERS = [b"0", b"-0", b"1.0", b"2.50", b"1e3", b"-1E-7", b"12345678901234567890123"]
CONSTANTS = [b"null", b"true", b"false", b"{}", b"[]", b"{ }", b"[\n]"]


@st.composite
def strings(draw: st.DrawFn) -> bytes:
    text = draw(st.text(st.characters(codec="utf-8"), max_size=6) | st.sampled_from(list('"\\/,:{}[] é🙂')))
    match draw(st.sampled_from(["plain", "ascii", "units"])):
        case "plain":
            return json.dumps(text, ensure_ascii=False).encode()
        case "ascii":
            return json.dumps(text).replace("/", "\\/").encode()
        case _:
            units = text.encode("utf-16-be")
            return b'"%b"' % b"".join(
                b"\\u%04X" % (a << 8 | b) for a, b in zip(*[iter(units)] * 2, strict=True)
            )


def padded(draw: st.DrawFn, piece: bytes) -> bytes:
    return draw(BLANKS) + piece + draw(BLANKS)


def positions(count: int, values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[int, Any]]:
    """Some of so many positions, each with a value."""
    return st.dictionaries(st.integers(0, max(count - 1, 0)), values, max_size=3 if count else 0)


@st.composite
def arrays(draw: st.DrawFn, elements: st.SearchStrategy[bytes]) -> bytes:
    pieces = [padded(draw, piece) for piece in draw(st.lists(elements, max_size=4))]
    return b"[%b]" % (b",".join(pieces) or draw(BLANKS))


@st.composite
def objects(draw: st.DrawFn, elements: st.SearchStrategy[bytes]) -> bytes:
    pairs = draw(
        st.lists(st.tuples(strings(), elements), max_size=4, unique_by=lambda pair: json.loads(pair[0]))
    )
    pieces = [padded(draw, name) + b":" + padded(draw, value) for name, value in pairs]
    return b"{%b}" % (b",".join(pieces) or draw(BLANKS))


# What is inside an element is no business of the splice, so nesting comes from a list.
NESTED = [b'{"a":[1 ,{"b":"]}"}],"a":1}', b'[ [] ,","  ,{"]":"["} ]', b'"{\\"a\\":1}"']
VALUES = strings() | st.sampled_from(NUMBERS + CONSTANTS + NESTED)


@st.composite
def documents(draw: st.DrawFn, kind: Any) -> bytes:
    return padded(draw, draw(kind(VALUES)))


def spelled_members(data: bytes) -> dict[str, bytes]:
    """The bytes of each value, by msgspec's own reading."""
    return {name: bytes(raw) for name, raw in msgspec.json.decode(data, type=dict[str, msgspec.Raw]).items()}


def spelled_items(data: bytes) -> list[bytes]:
    return [bytes(raw) for raw in msgspec.json.decode(data, type=list[msgspec.Raw])]


# ---- set_members -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "values", "expected"),
    [
        (b'{"a":1,"b":2,"c":3}', {"a": None}, b'{"b":2,"c":3}'),
        (b'{"a":1,"b":2,"c":3}', {"b": None}, b'{"a":1,"c":3}'),
        (b'{"a":1,"b":2,"c":3}', {"c": None}, b'{"a":1,"b":2}'),
        (b'{"a":1,"b":2,"c":3}', {"a": None, "b": None}, b'{"c":3}'),
        (b'{"a":1,"b":2,"c":3}', {"a": None, "b": None, "c": None}, b"{}"),
        (b'{ "a" : 1 ,\n "b" : 2 }', {"a": None}, b'{ "b" : 2 }'),
        (b'{ "a" : 1 ,\n "b" : 2 }', {"b": None}, b'{ "a" : 1 }'),
        (b'{ "a" : 1 ,\n "b" : 2 }', {"a": None, "z": b"3"}, b'{ "b" : 2,"z":3 }'),
        (b'{ "a" : 1 }', {"a": None, "z": b"3"}, b'{ "z":3 }'),
        (b'{ "a" : 1.0 }', {"a": b"[2]"}, b'{ "a" : [2] }'),
        (b'{"a":1}', {"b": b"2", "c": b"3"}, b'{"a":1,"b":2,"c":3}'),
        (b"{}", {"a": b"1"}, b'{"a":1}'),
        (b" { } ", {"a": b"1"}, b' {"a":1 } '),
        (b"{}", {"a": None}, b"{}"),
        (b'{"\\u0061":1}', {"a": b"2"}, b'{"\\u0061":2}'),
        (b'{"a\\"}":1,"b":2}', {"b": None}, b'{"a\\"}":1}'),
        (b'{"a":1}', {'"\n': b"2"}, b'{"a":1,"\\"\\n":2}'),
        (b'{"x":1,"a":1}', {"a": b"1"}, b'{"x":1,"a":1}'),
        (b'{"a": {"b": 1}, "b": 2}', {"b": b"3"}, b'{"a": {"b": 1}, "b": 3}'),
    ],
)
def test_set_members(data: bytes, values: Mapping[str, bytes | None], expected: bytes) -> None:
    assert set_members(data, values) == expected


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":1,"a":1}',
        b'{"a":1,"a":12}',
        b'{"a":12,"a":1}',
        b'{"a":1,"b":2,"a":1}',
        b'{"a":1,"b":2,"a":3}',
        b'{"b":2,"a":1,"a":1}',
        b'{"a":1,"b":1,"b":1,"c":1}',
        b'{"a":1,"\\u0061":1}',
        b'{"a":"x","a":"x\\",\\"a\\":\\"y"}',
        b'{"a":[],"a":[],"b":1}',
        b'{"a":1,"b":2,"a":1,"b":2}',
    ],
)
@pytest.mark.parametrize("values", [{}, {"a": b"2"}, {"z": b"2"}, {"a": None}])
def test_repeated_names_are_not_guessed_at(data: bytes, values: Mapping[str, bytes | None]) -> None:
    with pytest.raises(SpliceError):
        set_members(data, values)


@settings(deadline=None)
@given(documents(objects), st.data())
def test_a_repeated_name_anywhere_is_refused(data: bytes, draw: st.DataObject) -> None:
    names = list(spelled_members(data))
    assume(names)
    again = b"%b:%b" % (json.dumps(draw.draw(st.sampled_from(names))).encode(), draw.draw(VALUES))
    at = draw.draw(st.sampled_from(["first", "last"]))
    inside = data.index(b"{") + 1 if at == "first" else data.rindex(b"}")
    pieces = (again, b",") if at == "first" else (b",", again)
    with pytest.raises(SpliceError):
        members(data[:inside] + b"".join(pieces) + data[inside:])


@settings(max_examples=200, deadline=None)
@given(documents(objects), st.data())
def test_any_change_of_members(data: bytes, draw: st.DataObject) -> None:
    before = spelled_members(data)
    names = st.text(st.characters(codec="utf-8"), max_size=3)
    names = names | st.sampled_from(sorted(before)) if before else names
    values = draw.draw(st.dictionaries(names, VALUES | st.none(), max_size=4))
    after = set_members(data, values)
    expected = {name: values.get(name, value) for name, value in before.items()} | values
    assert list(spelled_members(after).items()) == [(n, v) for n, v in expected.items() if v is not None]
    # Unless something is taken out, nothing between the values changes either.
    if all(name in before and value is not None for name, value in values.items()):
        end, out = 0, b""
        for name, place in members(data).items():
            out += data[end : place.begin] + (values.get(name) or before[name])
            end = place.end
        assert after == out + data[end:]


@settings(deadline=None)
@given(documents(objects))
def test_members_lie_where_they_are_said_to(data: bytes) -> None:
    for name, place in members(data).items():
        assert json.loads(data[place.start : place.begin].rstrip().removesuffix(b":")) == name
        assert data[place.begin : place.end] == spelled_members(data)[name]
    assert set_members(data, {}) == data


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b'{"a":1', b'{"a":1}}', b"{'a':1}"])
def test_what_is_no_object_is_refused(data: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        set_members(data, {"a": b"1"})


# ---- set_items ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "put", "replaced", "expected"),
    [
        (b"[1,2,3]", {0: [b"0"]}, {}, b"[0,1,2,3]"),
        (b"[1,2,3]", {1: [b"0", b"9"]}, {}, b"[1,0,9,2,3]"),
        (b"[1,2,3]", {3: [b"4"]}, {}, b"[1,2,3,4]"),
        (b"[1,2,3]", {}, {0: None}, b"[2,3]"),
        (b"[1,2,3]", {}, {1: None}, b"[1,3]"),
        (b"[1,2,3]", {}, {2: None}, b"[1,2]"),
        (b"[1,2,3]", {}, {0: None, 1: None, 2: None}, b"[]"),
        (b"[1,2,3]", {0: [b"9"]}, {0: None, 1: None, 2: None}, b"[9]"),
        (b"[1,2,3]", {3: [b"9"]}, {0: None, 1: None, 2: None}, b"[9]"),
        (b"[1,2,3]", {1: [b"9"]}, {0: None}, b"[9,2,3]"),
        (b"[1,2,3]", {0: [b"8"], 3: [b"9"]}, {1: b"7"}, b"[8,1,7,3,9]"),
        (b"[ 1 ,\n2 ]", {0: [b"0"]}, {}, b"[ 0,1 ,\n2 ]"),
        (b"[ 1 ,\n2 ]", {1: [b"0"]}, {}, b"[ 1,0 ,\n2 ]"),
        (b"[ 1 ,\n2 ]", {}, {0: None}, b"[ 2 ]"),
        (b"[ 1 ,\n2 ]", {}, {1: None}, b"[ 1 ]"),
        (b"[]", {0: [b"1", b"2"]}, {}, b"[1,2]"),
        (b" [ ] ", {0: [b"1"]}, {}, b" [1 ] "),
        (b"[]", {}, {}, b"[]"),
        (b"[]", {0: []}, {}, b"[]"),
        (b'["[",",","]"]', {1: [b"0"]}, {2: None}, b'["[",0,","]'),
    ],
)
def test_set_items(
    data: bytes, put: Mapping[int, Sequence[bytes]], replaced: Mapping[int, bytes | None], expected: bytes
) -> None:
    assert set_items(data, put, replaced).data == expected


@settings(max_examples=200, deadline=None)
@given(documents(arrays), st.data())
def test_any_change_of_items(data: bytes, draw: st.DataObject) -> None:
    before = spelled_items(data)
    put = draw.draw(st.dictionaries(st.integers(0, len(before)), st.lists(VALUES, max_size=2), max_size=3))
    replaced = draw.draw(positions(len(before), VALUES | st.none()))
    expected = []
    for index, item in enumerate(before):
        expected += put.get(index, [])
        new = replaced.get(index, item)
        expected += [] if new is None else [new]
    expected += put.get(len(before), [])
    after, ends, came = set_items(data, put, replaced)
    assert spelled_items(after) == expected == splice.items(after)
    assert came == item_ends(data)
    if not replaced and not any(put.values()):
        assert after == data
        assert ends == item_ends(data)
    for index, end in enumerate(ends):
        # Where an item ends the array is what it would be without all that follows.
        first = {at: new for at, new in put.items() if at <= index}
        changed = {at: new for at, new in replaced.items() if at <= index}
        part = set_items(data[: item_ends(data)[index]] + b"]", first, changed)
        assert part.data == after[:end] + b"]"


# ---- set_in_items ------------------------------------------------------------------------------------------


def set_in_array(
    body: bytes,
    changes: Mapping[int, Mapping[str, bytes | None]],
    settings: Mapping[str, bytes | None],
    present: Mapping[int, Sequence[str]] | None = None,
) -> bytes:
    opened = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    return with_history(body, opened, "m", settings, set_in_items(bytes(opened["m"]), changes, present))


def test_set_in_array() -> None:
    body = b'{ "m" : [ {"a":1} , {"a":1,"b":2},{ } ], "x":1.0 }'
    changes: dict[int, dict[str, bytes | None]] = {1: {"b": None, "c": b"3"}, 2: {"d": b"4"}}
    expected = b'{ "m" : [ {"a":1} , {"a":1,"c":3},{"d":4 } ], "x":1.0 }'
    assert set_in_array(body, changes, {}) == expected
    assert set_in_array(body, {}, {"x": b"2"}) == body.replace(b"1.0", b"2")
    assert set_in_array(body, changes, {"x": None}) == expected.replace(b', "x":1.0', b"")
    assert set_in_array(body, {}, {}) == body


def test_items_whose_members_are_known_are_not_opened() -> None:
    items = b'[{"a":1}, {"b":2 }]'
    written = set_in_items(items, {1: {"c": b"3"}}, {1: ["b"]})
    assert written.data == b'[{"a":1}, {"b":2,"c":3 }]'
    assert written.ends == [8, 24]


@pytest.mark.parametrize(
    "body",
    [
        b'{"m":[{"a":1}],"m":[{"a":2}]}',
        b'{"m":[{"a":1,"a":1}]}',
        b'{"m":[{"a":1}],"x":1,"x":1}',
    ],
)
def test_set_in_array_refuses_repeated_names(body: bytes) -> None:
    with pytest.raises(SpliceError):
        set_in_array(body, {0: {"a": b"2"}}, {})


@settings(max_examples=100, deadline=None)
@given(documents(objects), st.lists(objects(VALUES), max_size=4), st.data())
def test_any_change_in_an_array(rest: bytes, items: list[bytes], draw: st.DataObject) -> None:
    array = b"[%b]" % b",".join(draw.draw(BLANKS) + item + draw.draw(BLANKS) for item in items)
    body = set_members(rest, {"m": array})
    names = st.sampled_from(["a", "b", ""])
    change = st.dictionaries(names, VALUES | st.none(), min_size=1, max_size=2)
    changes = draw.draw(positions(len(items), change))
    after = set_in_array(body, changes, {"z": b"0"})
    out = spelled_members(after)
    assert out == spelled_members(set_members(body, {"m": out["m"], "z": b"0"}))
    expected = [set_members(item, changes[i]) if i in changes else item for i, item in enumerate(items)]
    assert spelled_items(out["m"]) == expected
