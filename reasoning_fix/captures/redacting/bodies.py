"""Which string of a request or an answer is what: a text, an id, a signature, a word of the wire format.

What is not known here counts as text. Names of members stay; those in arguments stay if a tool declares them.
A name that means the same in all three dialects has one rule.
"""

import re
from collections.abc import Sequence

from reasoning_fix.captures.redacting.documents import Document, Node, Streams, objects
from reasoning_fix.captures.redacting.pseudonyms import Pseudonyms
from reasoning_fix.dialects.chat_answers import CallDelta, CallParts, FunctionDelta, open_call

_WIRE_WORD = re.compile(r"[A-Za-z0-9][\w./:+-]{0,79}")
# Members whose values are words of the wire formats.
_WIRE = frozenset(
    (
        *("type", "role", "object", "status", "phase", "code", "model", "tool_choice", "service_tier"),
        *("finish_reason", "native_finish_reason", "stop_reason", "effort", "reasoning_effort"),
        *("format", "media_type", "detail", "truncation", "verbosity"),
    )
)
_IDS = frozenset(
    ("id", "user", "session", "conversation", "prompt_cache_key", "safety_identifier", "system_fingerprint")
)
_BLOBS = frozenset(
    (
        *("signature", "thought_signature", "reasoning_signature"),
        *("encrypted_content", "data", "file_data", "b64_json"),
    )
)
# Arguments in full: a JSON text, or a value whose names need not be those of a wire format.
_ARGUMENTS = frozenset(("arguments", "input", "partial_json"))
_FREE = frozenset(("metadata", "headers", "logit_bias", "prediction", "user_location", "variables"))
_TOOL_ROLES = frozenset(("tool", "function"))
_CALL_TYPES = frozenset(
    (
        *("function", "tool", "tool_use", "server_tool_use", "function_call"),
        *("custom", "custom_tool_call", "mcp_call"),
    )
)
_CALL_MEMBERS = frozenset(("arguments", "input", "parameters", "input_schema", "custom"))
_SAID = frozenset(("", "text", "input_text", "output_text", "refusal"))
_SCHEMAS = frozenset(("parameters", "input_schema", "schema"))


class Bodies:
    """Redacts bodies with the pseudonyms of one file."""

    def __init__(self, pseudonyms: Pseudonyms) -> None:
        self.pseudonyms = pseudonyms

    def request(self, body: bytes) -> bytes:
        """The body of a request."""
        return self._whole(body, refused=False)

    def answer(self, body: bytes, dialect: str, streamed: bool, snapshots: bool) -> bytes:
        """The body of an answer; `snapshots`: its fragments may repeat all that came before."""
        if not streamed:
            return self._whole(body, dialect=dialect, snapshots=snapshots)
        return self._events(body, dialect, snapshots)

    def refusal(self, body: bytes) -> bytes:
        """The body of an error."""
        head = b"data:" if body.startswith(b"data:") else b""
        return head + self._whole(body[len(head) :], refused=True)

    def _whole(self, body: bytes, dialect: str = "", snapshots: bool = False, refused: bool = False) -> bytes:
        text = body.decode("utf-8", "surrogateescape")
        document = _document(text)
        if document is None:
            written = (self.pseudonyms.error if refused else self.pseudonyms.text)(text)
        else:
            streams = Streams()
            if dialect:
                _answer(dialect)(streams, self.pseudonyms, snapshots).take([document])
            _Reader(self.pseudonyms, document, streams, refused).value(document.root)
            streams.flow()
            written = document.written()
        return written.encode("utf-8", "surrogateescape")

    def _events(self, body: bytes, dialect: str, snapshots: bool) -> bytes:
        """An event stream: its payloads are changed together, its other lines as texts."""
        lines = body.decode("utf-8", "surrogateescape").splitlines(keepends=True)
        lines = _joined_lines(lines)
        payloads: list[tuple[list[int], str]] = []
        open_event: list[int] = []
        for number, line in enumerate([*lines, "\n"]):
            bare = line.rstrip("\r\n").removeprefix("\ufeff")
            if bare.startswith("data:"):
                open_event.append(number)
            elif not bare and open_event:
                payloads.append((open_event, "\n".join(_data(lines[n]) for n in open_event)))
                open_event = []
        streams = Streams()
        documents = [(numbers, text, _document(text)) for numbers, text in payloads]
        found = [document for _, _, document in documents if document is not None]
        _answer(dialect)(streams, self.pseudonyms, snapshots).take(found)
        for one in found:
            _Reader(self.pseudonyms, one, streams, _is_error(one)).value(one.root)
        streams.flow()
        for numbers, text, document in documents:
            if document is not None:
                new = document.written()
            else:
                new = text if text.strip() == "[DONE]" else self.pseudonyms.text(text)
            for number, piece in zip(numbers, new.split("\n"), strict=True):
                lines[number] = _with_data(lines[number], piece)
        told = {number for numbers, _, _ in documents for number in numbers}
        written = [line if n in told else self._line(line) for n, line in enumerate(lines)]
        return "".join(written).encode("utf-8", "surrogateescape")

    def _line(self, line: str) -> str:
        name, colon, value = line.partition(":")
        if name == "event" and _WIRE_WORD.fullmatch(value.strip()):
            return line
        if name in ("event", "id", "retry", "data"):
            return name + colon + self.pseudonyms.id(value)
        return self.pseudonyms.text(line)


def _joined_lines(lines: list[str]) -> list[str]:
    """Lines as event streams know them: `splitlines` also ends them where JSON texts go on."""
    joined: list[str] = []
    for line in lines:
        if joined and not joined[-1].endswith(("\n", "\r")):
            joined[-1] += line
        else:
            joined.append(line)
    return joined


def _data(line: str) -> str:
    value = line.rstrip("\r\n").removeprefix("\ufeff").removeprefix("data:")
    return value.removeprefix(" ")


def _with_data(line: str, new: str) -> str:
    end = len(line.rstrip("\r\n"))
    return line[: end - len(_data(line))] + new + line[end:]


def _document(text: str) -> Document | None:
    try:
        document = Document(text)
    except (ValueError, RecursionError):
        return None
    return document if document.root.kind in ("object", "array") else None


def _is_error(document: Document) -> bool:
    members = document.root.members
    return document.string(members.get("type")) in ("error", "response.failed") or "error" in members


class _Reader:
    """Goes through one document: every string that no dialect has claimed is a stream of its own."""

    def __init__(self, pseudonyms: Pseudonyms, document: Document, streams: Streams, refused: bool) -> None:
        self.to = pseudonyms
        self.document = document
        self.streams = streams
        self.say = pseudonyms.error if refused else pseudonyms.text

    def value(self, node: Node, key: str = "", parent: Node | None = None, parent_key: str = "") -> None:
        if node.kind == "object":
            for name, value in self.document.pairs(node):
                self._member(name, value, node, key)
        elif node.kind == "array":
            if key in ("content", "output"):
                self._parts(node, parent)
            for item in node.items:
                self.value(item, key, parent, parent_key)
        elif node.kind == "string":
            self._string(node, key, parent, parent_key)
        elif _is_id(key) and node.kind == "scalar":
            self.document.exchange(node, self.to.number(self.document.scalar(node)))

    def _member(self, name: str, value: Node, parent: Node, parent_key: str) -> None:
        # Beside a model, `input` is what a person says (Responses), not an argument.
        if name in _ARGUMENTS and value.kind == "string" and "model" not in parent.members:
            self.streams.alone(self.document, value, self.to.arguments)
        elif (name in _ARGUMENTS and value.kind == "object") or name in _FREE:
            self._free(value)
        elif name in _SCHEMAS and value.kind == "object":
            self._schema(value)
        elif name == "error" and value.kind in ("object", "string"):
            _Reader(self.to, self.document, self.streams, True).value(value, name, parent, parent_key)
        else:
            self.value(value, name, parent, parent_key)

    def _string(self, node: Node, key: str, parent: Node | None, parent_key: str) -> None:
        text = self.document.string(node) or ""
        if key in _WIRE and _WIRE_WORD.fullmatch(text):
            return
        if key == "name" and parent is not None and self._names_tool(parent, parent_key):
            self.to.name_tool(text)
            return
        if _is_id(key):
            self.streams.alone(self.document, node, self.to.id)
        elif key in _BLOBS or text.startswith("data:"):
            self.streams.alone(self.document, node, self.to.blob)
        else:
            self.streams.alone(self.document, node, self.say)

    def _names_tool(self, parent: Node, parent_key: str) -> bool:
        members = parent.members
        return (
            parent_key in ("function", "function_call", "custom", "tool_choice")
            or bool(_CALL_MEMBERS & members.keys())
            or self.document.string(members.get("type")) in _CALL_TYPES
            or self.document.string(members.get("role")) in _TOOL_ROLES
        )

    def _parts(self, content: Node, parent: Node | None) -> None:
        """The texts of a message's parts are one text: a client may cut it anywhere."""
        if parent is not None and self.document.string(parent.members.get("type")) == "reasoning":
            return
        stream = (id(self.document), content.begin)
        for part in content.items:
            if part.kind == "string":
                self.streams.add(stream, self.document, part, self.say)
            elif (self.document.string(part.members.get("type")) or "") in _SAID:
                for name in ("text", "refusal"):
                    self.streams.add(stream, self.document, part.members.get(name), self.say)

    def _free(self, node: Node) -> None:
        """A value whose names and texts may all be personal."""
        match node.kind:
            case "object":
                for key, value in node.keys:
                    self.streams.alone(self.document, key, self.to.property_name)
                    self._free(value)
            case "array":
                for item in node.items:
                    self._free(item)
            case "string":
                self.streams.alone(self.document, node, self.to.text)
            case _:
                self.document.exchange(node, self.to.number(self.document.scalar(node)))

    def _schema(self, node: Node, key: str = "") -> None:
        """A JSON schema: the names of properties stay, descriptions and examples do not."""
        if key == "properties":
            self.to.property_names.update(node.members)
        for name, value in self.document.pairs(node):
            if name in _EXAMPLES and key != "properties":
                self._free(value)
            elif value.kind == "object":
                self._schema(value, name)
            elif value.kind == "array" and name != "required":
                for item in value.items:
                    if item.kind == "object":
                        self._schema(item)
                    elif name != "type":
                        self._free(item)
            elif value.kind == "string" and name not in ("type", "$ref", "$schema", "format"):
                self.streams.alone(self.document, value, self.to.text)


# The keywords of a schema whose values are not schemas
# (https://json-schema.org/draft/2020-12/json-schema-validation).
_EXAMPLES = ("enum", "const", "default", "examples", "example")


def _is_id(key: str) -> bool:
    return key in _IDS or key.endswith("_id") or key.endswith("Id")


# ---- Answers: fragments ------------------------------------------------------------------------------------


class _Answer:
    """Puts fragments into their streams; with `snapshots` each may repeat all that came before."""

    def __init__(self, streams: Streams, pseudonyms: Pseudonyms, snapshots: bool) -> None:
        self.streams = streams
        self.to = pseudonyms
        self.snapshots = snapshots


class _ChatAnswer(_Answer):
    """The deltas of each choice, or its message."""

    def __init__(self, streams: Streams, pseudonyms: Pseudonyms, snapshots: bool) -> None:
        super().__init__(streams, pseudonyms, snapshots)
        self.calls: dict[int, list[CallParts]] = {}
        # Of each choice its fragments of text, to see whether each repeats the one before it.
        self.texts: dict[int, list[tuple[str, Document, Node]]] = {}

    def take(self, documents: Sequence[Document]) -> None:
        for document in documents:
            for position, choice in enumerate(objects(document.root.members.get("choices"))):
                index = document.index(choice.members.get("index"))
                for name in ("delta", "message"):
                    said = choice.members.get(name)
                    if said is not None and said.kind == "object":
                        self._said(document, position if index is None else index, said)
        for index, fragments in self.texts.items():
            cumulative = self.snapshots and _repeats(fragments)
            for name, document, node in fragments:
                if cumulative:
                    self.streams.alone(document, node, self.to.text)
                else:
                    self.streams.add((index, name), document, node, self.to.text)

    def _said(self, document: Document, choice: int, said: Node) -> None:
        texts = self.texts.setdefault(choice, [])
        for name in ("reasoning_content", "reasoning", "content"):
            value = said.members.get(name)
            if value is None:
                continue
            if value.kind == "string":
                texts.append((name, document, value))
            for part in objects(value):
                if (text := part.members.get("text")) is not None:
                    texts.append((name, document, text))
                for thought in objects(part.members.get("thinking")):
                    if (text := thought.members.get("text")) is not None:
                        texts.append(("thinking", document, text))
        for detail in objects(said.members.get("reasoning_details")):
            self._detail(document, choice, detail)
        for call in objects(said.members.get("tool_calls")):
            self._call(document, choice, call)
        legacy = said.members.get("function_call")
        if legacy is not None and legacy.kind == "object":
            node = legacy.members.get("arguments")
            self.streams.add((choice, "function_call"), document, node, self.to.arguments)

    def _detail(self, document: Document, choice: int, detail: Node) -> None:
        members = detail.members
        key = (choice, "detail", *(_written(document, members.get(name)) for name in ("index", "type", "id")))
        if "index" in members:
            key = key[:-1]
        for name in ("text", "summary"):
            if (node := members.get(name)) is not None:
                if self.snapshots:
                    self.texts.setdefault(choice, []).append((f"{key} {name}", document, node))
                else:
                    self.streams.add((*key, name), document, node, self.to.text)
        for name in ("signature", "data"):
            self.streams.add((*key, name), document, members.get(name), self.to.blob)

    def _call(self, document: Document, choice: int, call: Node) -> None:
        given = call.members.get("function")
        members = given.members if given is not None else {}
        node = members.get("arguments")
        function = FunctionDelta(document.string(members.get("name")), document.string(node))
        delta = CallDelta(
            document.index(call.members.get("index")), document.string(call.members.get("id")), function
        )
        known = self.calls.setdefault(choice, [])
        parts = open_call(known, delta, function)
        if parts is None:
            parts = CallParts(delta.index, delta.id or "")
            known.append(parts)
        parts.id = parts.id or delta.id or ""
        parts.name = parts.name or function.name or ""
        if function.arguments:
            parts.arguments.append(function.arguments)
        self.streams.add((choice, "call", known.index(parts)), document, node, self.to.arguments)


def _repeats(fragments: list[tuple[str, Document, Node]]) -> bool:
    """Whether fragments are ever longer snapshots: the second one of a text tells."""
    first: dict[str, str] = {}
    for name, document, node in fragments:
        text = document.string(node) or ""
        if not text:
            continue
        if name in first:
            return len(text) > len(first[name]) and text.startswith(first[name])
        first[name] = text
    return False


def _written(document: Document, node: Node | None) -> str:
    return "" if node is None else document.text[node.begin : node.end]


class _MessagesAnswer(_Answer):
    """Content blocks, whole or in deltas."""

    def take(self, documents: Sequence[Document]) -> None:
        last = 0
        for document in documents:
            members = document.root.members
            index = document.index(members.get("index"))
            last = last if index is None else index
            for name in ("content_block", "delta"):
                part = members.get(name)
                if part is not None and part.kind == "object":
                    self._part(document, last, part)

    def _part(self, document: Document, index: int, part: Node) -> None:
        # All texts of a turn are one: it is compared so.
        self.streams.add("text", document, part.members.get("text"), self.to.text)
        for name, change in (
            ("thinking", self.to.text),
            ("signature", self.to.blob),
            ("partial_json", self.to.arguments),
        ):
            self.streams.add((index, name), document, part.members.get(name), change)


class _ResponsesAnswer(_Answer):
    """Deltas of items; an item that is whole is read by itself."""

    def take(self, documents: Sequence[Document]) -> None:
        for document in documents:
            members = document.root.members
            kind = document.string(members.get("type")) or ""
            if not kind.endswith(".delta"):
                continue
            item = _written(document, members.get("output_index")) or _written(
                document, members.get("item_id")
            )
            part = (
                ""
                if "_text" in kind and "reasoning" not in kind
                else _written(document, members.get("content_index") or members.get("summary_index"))
            )
            is_arguments = "arguments" in kind or "input" in kind
            change = self.to.arguments if is_arguments else self.to.text
            self.streams.add((kind, item, part), document, members.get("delta"), change)


def _answer(dialect: str) -> type[_ChatAnswer | _MessagesAnswer | _ResponsesAnswer]:
    if dialect == "messages":
        return _MessagesAnswer
    return _ResponsesAnswer if dialect == "responses" else _ChatAnswer
