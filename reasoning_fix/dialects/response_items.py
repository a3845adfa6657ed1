"""Items of the Responses API, in an input or an output, and the turn that they make.

Source of the format: https://platform.openai.com/docs/api-reference/responses.
"""

from collections.abc import Callable, Mapping

import msgspec

from reasoning_fix.dialects import values
from reasoning_fix.dialects.turns import Call, Turn
from reasoning_fix.dialects.values import encoded, opened, string

Raw = msgspec.Raw
# What names an item or says how far it is, and no more: clients drop or change it.
_VOLATILE = ("id", "status", "created_by")
# Texts of a reasoning item: https://api-docs.deepseek.com/guides/responses_api (content), Kimi (summary).
_TEXTS = ("content", "summary")

_OUTPUT = {"output_text", "refusal"}


class Item:
    """One item of an input or an output, and what deltas added to it.

    `read` reads its texts: `values.string`, or for a request `values.said`, which raises.
    """

    def __init__(self, raw: bytes, read: Callable[[Raw | None], str | None] = string) -> None:
        self.raw = raw
        self.members = opened(raw)
        self._read = read
        self.kind = string(self.members.get("type")) or _kind(self.members)
        self.thinks = self.kind == "reasoning"
        self.added: dict[str, list[str]] = {}
        self.done = False

    @property
    def role(self) -> str:
        if self.kind == "message":
            role = string(self.members.get("role")) or self._said_by()
            return "system" if role == "developer" else role
        if self.thinks or self.kind.endswith("_call"):
            return "assistant"
        return "tool" if self.kind.endswith("_output") else self.kind or "?"

    def said(self) -> tuple[str, bytes]:
        """Text of a message or a tool result, and the bytes of whatever in it is not text."""
        content = self.members.get("output" if self.kind.endswith("_output") else "content")
        if content is None:
            if self.kind == "message":
                return "", b""
            return "", self._constant() if self.members else self.raw
        if (text := self._read(content)) is not None:
            return text, b""
        if bytes(content)[:1] != b"[":
            return "", b"" if bytes(content) == b"null" else bytes(content)
        texts: list[str] = []
        attached: list[bytes] = []
        for raw in values.items(content):
            part = opened(raw)
            text = self._read(part.get("text"))
            text = self._read(part.get("refusal")) if text is None else text
            if text is None:
                made = self.role == "assistant"
                attached.append(values.constant(raw).encode() if made else values.opaque(raw))
            else:
                texts.append(text)
        return "".join(texts), b"".join(attached)

    def call(self) -> Call:
        """The call that this item is; of a kind that is not known, all that is constant in it."""
        call_id = self._text("call_id")
        for name in ("arguments", "input"):
            if name in self.members or name in self.added:
                return Call(call_id, self._text("name"), self._text(name))
        return Call(call_id, self.kind, self._constant().decode("utf-8", "replace"))

    def message(self) -> str:
        text, attached = self.said()
        text = values.spelled(text, "".join(self.added.get("text", ())))
        return text + attached.decode("utf-8", "replace")

    def lacks(self, name: str) -> bool:
        """Whether what deltas call by this name is not in the item itself."""
        if name == "text":
            return not self.said()[0]
        if name in _TEXTS:
            return not thoughts(self.members, (name,))
        return not self._text(name)

    def is_again(self, other: "Item") -> bool:
        """Whether another item is this one, sent again."""
        mine = string(self.members.get("id"))
        return self.kind == other.kind and bool(mine) and mine == string(other.members.get("id"))

    def written(self) -> bytes:
        """A reasoning item as it came; one that was cut short, with the text that came so far."""
        parts: dict[str, bytes | Raw] = {}
        for name, kind in (("content", "reasoning_text"), ("summary", "summary_text")):
            if name in self.added:
                begun = "".join(thoughts(self.members, (name,)))
                text = encoded(values.spelled(begun, "".join(self.added[name])))
                parts[name] = b'[{"type":"%b","text":%b}]' % (kind.encode(), text)
        return values.closed({**self.members, **parts}) if parts else self.raw

    def so_far(self) -> bytes:
        """Any item with all that deltas added to it."""
        if self.thinks or not self.added:
            return self.written()
        if self.kind == "message":
            return values.closed({**self.members, "content": encoded(self.message())})
        texts: dict[str, bytes | Raw] = dict(self.members)
        texts |= {name: encoded(self._text(name)) for name in ("arguments", "input") if name in self.added}
        return values.closed(texts)

    def _text(self, name: str) -> str:
        given = self.members.get(name)
        text = self._read(given)
        if text is None and given is not None and name not in self.added and bytes(given) != b"null":
            # Arguments that are not text: what they say is the same.
            text = bytes(given).decode("utf-8", "replace")
        return values.joined(values.spelled(text or "", "".join(self.added.get(name, ()))))

    def _said_by(self) -> str:
        """Whose a message without a role is: the model's where it is laid out as an output is."""
        content = self.members.get("content")
        kinds = {string(opened(part).get("type")) for part in values.items(content)}
        made = bool(kinds & _OUTPUT) or content is None or bytes(content) == b"[]"
        return "assistant" if made and "role" not in self.members else "?"

    def _constant(self) -> bytes:
        return values.closed({name: v for name, v in self.members.items() if name not in _VOLATILE})


def _kind(members: Mapping[str, Raw]) -> str:
    """What an item without a type is: a message, or the name of one that the server keeps."""
    if "role" in members:
        return "message"
    return "item_reference" if members.keys() == {"id"} else ""


def turn_of(parts: list[Item]) -> Turn:
    """What items make visible."""
    text = "".join(item.message() for item in parts if item.kind == "message")
    calls = tuple(item.call() for item in parts if item.kind != "message" and not item.thinks)
    return Turn(values.joined(text), calls)


def layout_of(parts: list[Item]) -> bytes:
    return values.layout([item.written() if item.thinks else None for item in parts])


def thoughts(item: Mapping[str, Raw], names: tuple[str, ...] = _TEXTS) -> list[str]:
    """The texts of a reasoning item, in these of its members."""
    found = [
        values.mended_string(opened(part).get("text")) or ""
        for name in names
        for part in values.items(item.get(name))
    ]
    return [text for text in found if text]
