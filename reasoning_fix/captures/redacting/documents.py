"""JSON documents whose strings and numbers can be exchanged in place; every other byte stays as it came.

Strings belong to *streams*: what was cut into fragments (deltas of an answer, parts of a message) is joined,
changed as a whole, and cut again at the same places, since a word may lie across a cut.
"""

import re
from collections.abc import Callable, Hashable, Iterator

from reasoning_fix.captures.redacting.pseudonyms import spelled, units_of

_SPACE = re.compile(r"[ \t\r\n]*")
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_SCALAR = re.compile(r"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?|true|false|null|NaN|-?Infinity")
_TOKEN = re.compile(rf"(?:[ \t\r\n,:]|{_SCALAR.pattern})*+(?:({_STRING.pattern})|([\[{{])|[\]}}])", re.DOTALL)
# No value is read level by level below this.
_DEEPEST = 200


class Node:
    """A value and where it lies: `kind` is object, array, string or scalar."""

    __slots__ = ("begin", "end", "items", "keys", "kind", "members")

    def __init__(self, kind: str, begin: int, end: int = 0) -> None:
        self.kind = kind
        self.begin = begin
        self.end = end
        self.items: list[Node] = []
        # Of an object: its names as nodes, and its values by name (the last one where a name is repeated).
        self.keys: list[tuple[Node, Node]] = []
        self.members: dict[str, Node] = {}


class Document:
    """One JSON text. Raises ValueError if it is not one."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._edits: list[tuple[int, int, str]] = []
        self.root, end = self._read(0)
        if _space(text, end) != len(text):
            raise ValueError("something follows the document")

    def string(self, node: "Node | None") -> str | None:
        """The text of a string node; None for any other."""
        if node is None or node.kind != "string":
            return None
        return "".join(units_of(self._inner(node))[1])

    def scalar(self, node: "Node | None") -> str:
        return self.text[node.begin : node.end] if node is not None and node.kind == "scalar" else ""

    def pairs(self, node: "Node") -> "Iterator[tuple[str, Node]]":
        """The members of an object, repeated ones too."""
        for key, value in node.keys:
            yield self.string(key) or "", value

    def index(self, node: "Node | None") -> int | None:
        """The whole number that a node is; None if it is not one."""
        written = self.scalar(node)
        return int(written) if written.isdecimal() and written.isascii() else None

    def respell(self, node: "Node", new: str) -> None:
        """Another text for a string, each character spelled as the one it stands for."""
        units, chars = units_of(self._inner(node))
        self._edits.append((node.begin + 1, node.end - 1, spelled(units, chars, new)))

    def exchange(self, node: "Node", new: str) -> None:
        """Another number."""
        self._edits.append((node.begin, node.end, new))

    def written(self) -> str:
        pieces: list[str] = []
        at = 0
        for begin, end, new in sorted(self._edits):
            pieces += (self.text[at:begin], new)
            at = end
        return "".join((*pieces, self.text[at:]))

    def _inner(self, node: "Node") -> str:
        return self.text[node.begin + 1 : node.end - 1]

    def _read(self, at: int, depth: int = 0) -> "tuple[Node, int]":
        at = _space(self.text, at)
        match self.text[at : at + 1]:
            case "{" | "[" if depth == _DEEPEST:
                return self._flat(at)
            case "{":
                return self._container("object", "}", at, depth + 1)
            case "[":
                return self._container("array", "]", at, depth + 1)
            case '"':
                return self._leaf("string", _STRING, at)
            case _:
                return self._leaf("scalar", _SCALAR, at)

    def _leaf(self, kind: str, pattern: re.Pattern[str], at: int) -> "tuple[Node, int]":
        found = pattern.match(self.text, at)
        if found is None:
            raise ValueError(f"no {kind} at {at}")
        return Node(kind, at, found.end()), found.end()

    def _flat(self, at: int) -> "tuple[Node, int]":
        """All strings of a value, its names too, as those of one array."""
        node = Node("array", at)
        depth = 0
        while (token := _TOKEN.match(self.text, at)) is not None:
            at = token.end()
            if token[1] is not None:
                node.items.append(Node("string", *token.span(1)))
                continue
            depth += 1 if token[3] is not None else -1
            if depth == 0:
                node.end = at
                return node, at
        raise ValueError(f"no value at {at}")

    def _container(self, kind: str, closing: str, at: int, depth: int) -> "tuple[Node, int]":
        node = Node(kind, at)
        at = _space(self.text, at + 1)
        while self.text[at : at + 1] != closing:
            key = None
            if kind == "object":
                key, at = self._leaf("string", _STRING, at)
                at = self._skip(":", at)
            value, at = self._read(at, depth)
            if key is None:
                node.items.append(value)
            else:
                node.keys.append((key, value))
                node.members[self.string(key) or ""] = value
            at = self._next(closing, at)
        node.end = at + 1
        return node, node.end

    def _skip(self, char: str, at: int) -> int:
        at = _space(self.text, at)
        if self.text[at : at + 1] != char:
            raise ValueError(f"no {char!r} at {at}")
        return at + 1

    def _next(self, closing: str, at: int) -> int:
        """Where the next element begins, or the bracket that ends them all."""
        at = _space(self.text, at)
        if self.text[at : at + 1] == closing:
            return at
        return _space(self.text, self._skip(",", at))


def _space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    assert found is not None
    return found.end()


type Change = Callable[[str], str]


class Streams:
    """The fragments of each stream in order, and how the whole is to be changed."""

    def __init__(self) -> None:
        self._streams: dict[Hashable, tuple[Change, list[tuple[Document, Node]]]] = {}
        self._taken: set[tuple[int, int]] = set()
        self._alone = 0

    def add(self, stream: Hashable, document: Document, node: "Node | None", change: Change) -> None:
        """Put a string at the end of a stream, unless it is in one already or is not a string."""
        if node is None or node.kind != "string" or (id(document), node.begin) in self._taken:
            return
        self._taken.add((id(document), node.begin))
        self._streams.setdefault(stream, (change, []))[1].append((document, node))

    def alone(self, document: Document, node: "Node | None", change: Change) -> None:
        """A string that belongs to no other."""
        self._alone += 1
        self.add(("alone", self._alone), document, node, change)

    def flow(self) -> None:
        """Change every stream and cut it again where it was cut."""
        for change, fragments in self._streams.values():
            texts = [document.string(node) or "" for document, node in fragments]
            new = change("".join(texts))
            at = 0
            for (document, node), text in zip(fragments, texts, strict=True):
                document.respell(node, new[at : at + len(text)])
                at += len(text)


def objects(node: "Node | None") -> Iterator["Node"]:
    """The objects in an array."""
    if node is not None and node.kind == "array":
        yield from (item for item in node.items if item.kind == "object")
