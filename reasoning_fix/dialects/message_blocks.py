"""Content blocks of Anthropic messages, in a request or an answer, and the turn that they make.

Source of the format: https://docs.anthropic.com/en/api/messages.
"""

from collections.abc import Callable

import msgspec

from reasoning_fix.dialects import values
from reasoning_fix.dialects.turns import Call, Turn
from reasoning_fix.dialects.values import encoded

Raw = msgspec.Raw
THINKING = ("thinking", "redacted_thinking")


class Block:
    """One content block: its members as they came, and what deltas added to its texts.

    `string` reads them: `values.string`, or for a request `values.said`, which raises.
    """

    def __init__(
        self,
        start: dict[str, Raw],
        raw: bytes,
        string: Callable[[Raw | None], str | None] = values.string,
    ) -> None:
        self.members = start
        self.raw = raw
        self.kind = values.string(start.get("type")) or ""
        self._string = string
        self.added: dict[str, list[str]] = {}

    @property
    def thinks(self) -> bool:
        return self.kind in THINKING

    def add(self, name: str, fragment: str) -> None:
        self.added.setdefault(name, []).append(fragment)

    def text(self, name: str) -> str:
        begun = self._string(self.members.get(name)) or ""
        return values.spelled(begun, "".join(self.added.get(name, ())))

    def arguments(self) -> str:
        written = values.joined("".join(self.added.get("partial_json", ())))
        if written.strip():
            return written
        return bytes(self.members.get("input", b"")).decode("utf-8", "replace")

    def written(self) -> bytes:
        if not self.added:
            return self.raw
        texts = {name: Raw(encoded(self.text(name))) for name in self.added}
        return values.closed(self.members | texts)


def turn_of(parts: list[Block]) -> Turn:
    """What blocks make visible."""
    said: list[str] = []
    calls: list[Call] = []
    for part in parts:
        if part.kind == "text":
            said.append(part.text("text"))
        elif part.kind in ("tool_use", "server_tool_use"):
            calls.append(Call(part.text("id"), part.text("name"), part.arguments()))
        elif not part.thinks:
            said.append(values.constant(part.raw))
    return Turn(values.joined("".join(said)), tuple(calls))


def layout_of(parts: list[Block]) -> bytes:
    return values.layout([part.written() if part.thinks else None for part in parts])
