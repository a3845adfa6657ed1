"""What a message is made of, for people: reasoning, text, calls, results, attachments.

Messages, content blocks and items of all three wires are read alike, and loosely: unknown parts and values of
an unexpected type are shown as they came. A part keeps up to `LONGEST` characters of a text; the bound of the
whole transcript is elsewhere.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

import msgspec

from reasoning_fix.dialects.twins import loosely
from reasoning_fix.proxy.stats.tables import size

type Members = Mapping[str, object]

# Kept of one text, beginning and end; tool results are what fills histories, so they get less.
LONGEST = 24_000
LONGEST_RESULT = 2_000
LONGEST_ARGUMENTS = 8_000
REASONING_FIELDS = ("reasoning_content", "reasoning", "reasoning_details")
_THINK = re.compile(r"<(?:mm:)?think>(.*?)(?:</(?:mm:)?think>|\Z)", re.DOTALL)
_UNOPENED = re.compile(r"\A(.*?)</(?:mm:)?think>", re.DOTALL)
_DATA_URL = re.compile(r"data:([^;,]{0,100})[^,]{0,100},")
_NEVER_PRETTY = 1_000_000
# `<think>` blocks in one text, and parts of a tool result.
_MOST_BLOCKS = 50
_MOST_ITEMS = 1_000


class Part(msgspec.Struct, frozen=True):
    """A piece of a message. `title` stands above `text`; either may be empty."""

    title: str
    text: str = ""
    thought: bool = False


def decoded(data: bytes) -> object:
    """The JSON value, also of a document that msgspec refuses (half characters). Raises ValueError."""
    try:
        value: object = loosely(msgspec.json.decode, data)
        return value
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        pass
    try:
        value = json.loads(data)
        return value
    except (ValueError, RecursionError) as error:
        raise ValueError(f"no JSON ({type(error).__name__})") from None


def members(value: object) -> Members:
    """A JSON object; an empty one in place of anything else."""
    return value if isinstance(value, dict) else {}


def array(value: object) -> list[object]:
    """A JSON array; an empty one in place of anything else."""
    return value if isinstance(value, list) else []


def text(value: object) -> str:
    """A JSON string; an empty one in place of anything else."""
    return value if isinstance(value, str) else ""


def compact(value: object, longest: int = 400) -> str:
    """A JSON value on one line; strings inside it are cut, so that a file in it costs nothing."""
    return shortened(_dumped(_trimmed(value, longest, 0)), longest, line=True)


def _dumped(value: object, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _trimmed(value: object, longest: int, depth: int) -> object:
    if depth > 20:
        return "…"
    if isinstance(value, str):
        return shortened(value, longest, line=True)
    if isinstance(value, dict):
        return {name: _trimmed(item, longest, depth + 1) for name, item in list(value.items())[:200]}
    if isinstance(value, list):
        return [_trimmed(item, longest, depth + 1) for item in value[:200]]
    return value


def shortened(value: str, longest: int, line: bool = False) -> str:
    """The text, or its beginning and its end with how much is left out between."""
    if len(value) <= longest:
        return value
    head, tail = longest * 3 // 4, longest // 4
    left_out = f"… {len(value) - head - tail:,} characters left out …"
    between = f" {left_out} " if line else f"\n[{left_out}]\n"
    return value[:head] + between + value[-tail:]


def pretty(arguments: object) -> str:
    """Arguments of a call, laid out; as they came if they are not JSON."""
    value = arguments
    if isinstance(arguments, str):
        if len(arguments) > _NEVER_PRETTY or not arguments.strip():
            return shortened(arguments, LONGEST_ARGUMENTS)
        try:
            value = json.loads(arguments)
        except (ValueError, RecursionError):
            return shortened(arguments, LONGEST_ARGUMENTS)
    try:
        return shortened(_dumped(_trimmed(value, LONGEST_ARGUMENTS, 0), indent=2), LONGEST_ARGUMENTS)
    except (ValueError, RecursionError):
        return shortened(str(arguments), LONGEST_ARGUMENTS)


# ---- Reasoning ---------------------------------------------------------------------------------------------


def thought(title: str, said: str) -> Part:
    """A reasoning; where it is blank, the blank in quotes, since it is a value that providers look at."""
    return Part(title, shortened(said, LONGEST) if said.strip() else _dumped(said[:100]), thought=True)


def said(value: str) -> list[Part]:
    """A text, the `<think>` blocks in it set apart; one of white space alone in quotes."""
    if value and value[:200].isspace() and value.isspace():
        return [Part("", _dumped(value[:100]))]
    if "think>" not in value:
        return [Part("", shortened(value, LONGEST))] if value else []
    found: list[Part] = []
    at = 0
    opened = list(islice(_THINK.finditer(value), _MOST_BLOCKS))
    if not opened and (unopened := _UNOPENED.match(value)):
        opened = [unopened]
    for block in opened:
        found += _visible(value[at : block.start()])
        found.append(thought("reasoning (in the content):", block[1].strip("\n")))
        at = block.end()
    return found + _visible(value[at:])


def _visible(value: str) -> list[Part]:
    return [Part("", shortened(value.strip("\n"), LONGEST))] if value.strip() else []


def _fields(message: Members) -> list[Part]:
    """The reasoning members of a chat message; what two of them say alike is shown once."""
    found: dict[str, list[str]] = {}
    for name in REASONING_FIELDS:
        value = message.get(name)
        if isinstance(value, str):
            found.setdefault(value, []).append(name)
        elif value is not None:
            found.setdefault(_details(value), []).append(name)
    return [thought(f"reasoning ({', '.join(names)}):", value) for value, names in found.items()]


def _details(value: object) -> str:
    """The texts of `reasoning_details`, and what of it is not text."""
    if not isinstance(value, list):
        return compact(value)
    lines = []
    for item in value[:_MOST_ITEMS]:
        one = members(item)
        lines.append(text(one.get("text")) or text(one.get("summary")) or _sealed(item))
    return "\n".join(lines)


def _sealed(item: object) -> str:
    one = members(item)
    data = text(one.get("data")) or text(one.get("encrypted_content"))
    if data:
        return f"[{text(one.get('type')) or 'reasoning'}, {size(len(data))} that only the provider can read]"
    return compact(item)


def _thinking_block(block: Members) -> Part:
    if text(block.get("type")) == "redacted_thinking":
        return thought("reasoning (redacted_thinking):", _sealed(block))
    signed = "signed" if text(block.get("signature")) else "not signed"
    return thought(f"reasoning (thinking, {signed}):", text(block.get("thinking")))


def _reasoning_item(item: Members) -> list[Part]:
    found = []
    for name in ("summary", "content"):
        texts = [text(members(part).get("text")) for part in array(item.get(name))[:_MOST_ITEMS]]
        if any(texts):
            found.append(thought(f"reasoning ({name}):", "\n".join(texts)))
    if text(item.get("encrypted_content")):
        found.append(thought("reasoning (encrypted_content):", _sealed(item)))
    return found or [thought("reasoning:", "")]


# ---- Everything else ---------------------------------------------------------------------------------------


def call(call_id: object, name: object, arguments: object) -> Part:
    """A tool call."""
    return Part(f"call {text(name) or '?'}{_named(call_id)}:", pretty(arguments))


def _named(call_id: object) -> str:
    return f" ({shortened(text(call_id), 200, line=True)})" if text(call_id) else ""


def _result(call_id: object, content: object, note: str = "") -> list[Part]:
    title = f"result{_named(call_id)}{note}:"
    if isinstance(content, str):
        return [Part(title, shortened(content, LONGEST_RESULT))]
    parts = list(islice(content_parts(content), _MOST_BLOCKS))
    texts = "".join(part.text for part in parts if not part.title)
    others = [part for part in parts if part.title]
    return [Part(title, shortened(texts, LONGEST_RESULT)), *others]


def content_parts(content: object) -> Iterator[Part]:
    """The content of a message of any wire: a text or an array of blocks."""
    if isinstance(content, str):
        yield from said(content)
    elif isinstance(content, list):
        for block in content:
            yield from [Part("", shortened(block, LONGEST))] if isinstance(block, str) else _block(block)
    elif content is not None:
        yield Part("", compact(content))


def _block(raw: object) -> Iterable[Part]:
    block = members(raw)
    kind = text(block.get("type"))
    match kind:
        case "text" | "input_text" | "output_text" | "":
            if isinstance(block.get("text"), str):
                return said(text(block["text"]))
        case "thinking" | "redacted_thinking":
            return [_thinking_block(block)]
        case "reasoning":
            return _reasoning_item(block)
        case "tool_use" | "server_tool_use":
            return [call(block.get("id"), block.get("name"), block.get("partial_json", block.get("input")))]
        case "tool_result":
            note = ", an error" if block.get("is_error") is True else ""
            return _result(block.get("tool_use_id"), block.get("content", ""), note)
        case "refusal":
            return [Part("refusal:", shortened(text(block.get("refusal")), LONGEST))]
    if (attached := _attachment(kind, block)) is not None:
        return [attached]
    return [Part(f"{kind or 'part'}: {compact(raw)}")]


def _attachment(kind: str, block: Members) -> Part | None:
    """A placeholder for an image or a file, with its size."""
    holder: object = block
    for name in ("source", "image_url", "input_audio", "file", "video_url"):
        if block.get(name) is not None:
            holder = block[name]
            break
    one = {"url": holder} if isinstance(holder, str) else members(holder)
    media = text(one.get("media_type")) or text(one.get("format"))
    name = text(one.get("filename")) or text(one.get("file_id"))
    data = text(one.get("data")) or text(one.get("file_data"))
    url = text(one.get("url")) or text(one.get("file_url"))
    if not data and (found := _DATA_URL.match(url)):
        media, data, url = media or found[1], url[found.end() :], ""
    elif data and (found := _DATA_URL.match(data)):
        media, data = media or found[1], data[found.end() :]
    if not (data or url or name):
        return None
    about = [shortened(fact, 200, line=True) for fact in (media, name, url) if fact]
    if data:
        plain = text(one.get("type")) == "text"
        about.append(size(len(data.encode("utf-8", "replace")) if plain else len(data) * 3 // 4))
    return Part(f"[{kind or 'attachment'}: {', '.join(about)}]")


def chat_parts(message: Members) -> Iterator[Part]:
    """A message of chat completions."""
    if text(message.get("role")) in ("tool", "function"):
        yield from _result(message.get("tool_call_id") or message.get("name"), message.get("content"))
        return
    yield from _fields(message)
    yield from content_parts(message.get("content"))
    if text(message.get("refusal")):
        yield Part("refusal:", shortened(text(message["refusal"]), LONGEST))
    for raw in array(message.get("tool_calls")):
        one = members(raw)
        function = members(one.get("function") or one.get("custom"))
        yield call(one.get("id"), function.get("name"), function.get("arguments", function.get("input")))
    if legacy := members(message.get("function_call")):
        yield call("", legacy.get("name"), legacy.get("arguments"))


def item_parts(item: Members) -> list[Part]:
    """An item of the Responses API."""
    kind = text(item.get("type")) or ("message" if "role" in item else "")
    if kind == "message":
        return list(content_parts(item.get("content")))
    if kind == "reasoning":
        return _reasoning_item(item)
    if kind.endswith("_output"):
        return _result(item.get("call_id"), item.get("output"))
    if kind.endswith("_call"):
        named = item.get("name") or kind
        given = next((item[name] for name in ("arguments", "input", "action") if name in item), item)
        return [call(item.get("call_id"), named, given)]
    return [Part(f"{kind or 'item'}: {compact(item)}")]
