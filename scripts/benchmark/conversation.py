"""Chat requests of any length, the same ones every time: an agent that reads files with a tool."""

import json
import random
from typing import Any

type Message = dict[str, Any]

_SENTENCES = (
    "The value of this function is read twice before it is written",
    "a caller who holds an older version keeps working",
    "naïve checks in Zürich return None",
    "数据 import class self",
    'if x is None: return "nothing"',
    "\n    index += 1\n",
)
TOOLS = [{"type": "function", "function": {"name": "read_file", "parameters": {"type": "object"}}}]
_REASONING = 800


class Conversation:
    """A request of `turns` assistant turns and about `size` bytes.

    `sent` is what a client that drops reasoning sends, `complete` the same with all of it, `plain` one of
    that size in which no assistant has spoken.
    """

    def __init__(self, turns: int, size: int) -> None:
        self._random = random.Random(turns * 1_000_003 + size)
        each = max(60, size // turns - 620)
        messages: list[Message] = [
            {"role": "system", "content": self._text(2000)},
            {"role": "user", "content": self._text(200)},
        ]
        for i in range(turns):
            messages += self._round(i, each)
        self._kept = [{k: v for k, v in message.items() if k != "reasoning_content"} for message in messages]
        self.complete = _body(messages)
        self.sent = _body(self._kept)
        self.plain = _body([{"role": "user", "content": m.get("content") or "-"} for m in self._kept])

    def before(self, rounds: int) -> bytes:
        """What the same client sent so many rounds earlier."""
        return _body(self._kept[: len(self._kept) - 2 * rounds])

    def _text(self, length: int) -> str:
        text = ""
        while len(text) < length:
            text += self._random.choice(_SENTENCES) + self._random.choice((". ", ".\n", " "))
        return text[:length]

    def _round(self, number: int, size: int) -> list[Message]:
        call_id = f"call_{number:02}_{self._random.getrandbits(96):024x}"
        arguments = json.dumps({"path": f"src/module_{number}.py", "query": self._text(60), "limit": number})
        call = {"id": call_id, "type": "function", "function": {"name": "read_file", "arguments": arguments}}
        return [
            {
                "role": "assistant",
                "content": self._text(100),
                "reasoning_content": self._text(_REASONING),
                "tool_calls": [call],
            },
            {"role": "tool", "tool_call_id": call_id, "content": self._text(size)},
        ]


def _body(messages: list[Message]) -> bytes:
    whole = {"model": "deepseek-v4-pro", "messages": messages, "tools": TOOLS, "stream": True}
    return json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode()
