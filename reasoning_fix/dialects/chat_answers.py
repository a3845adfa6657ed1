"""Chat completions answers: streamed or whole, folded into one turn with its reasoning per choice.

Deltas are folded as they come: text appended, tool calls assembled, reasoning kept per field. Traps seen in
real recordings, each with its branch below: fragments that repeat `"id": ""`; fragments without `index`; ids
that change in mid-stream; parallel calls that all carry index 0; `choices: null` or `[]`; reasoning after
content; the whole message once more at the end (MiniMax M3, https://github.com/ENTERPILOT/GoModel/pull/1068);
snapshots in place of increments (MiniMax, https://github.com/MiniMax-AI/MiniMax-M2/issues/95).
"""

import json

import msgspec

from reasoning_fix.dialects.turns import Call, Turn
from reasoning_fix.dialects.values import encoded, joined
from reasoning_fix.dialects.wire import Answered, AnswerError

Raw = msgspec.Raw


class FunctionDelta(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: str | None = None


class CallDelta(msgspec.Struct, gc=False):
    index: int | None = None
    id: str | None = None
    function: FunctionDelta | None = None


class _Delta(msgspec.Struct, gc=False):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    reasoning_details: list[Raw] | None = None
    tool_calls: list[CallDelta] | None = None
    function_call: FunctionDelta | None = None


class _Choice(msgspec.Struct, gc=False):
    index: int | None = None
    delta: _Delta | None = None
    message: _Delta | None = None
    finish_reason: str | None = None


class _Event(msgspec.Struct, gc=False):
    choices: list[_Choice] | None = None
    error: Raw | None = None


_decode_event = msgspec.json.Decoder(_Event).decode
_decode_item = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_str = msgspec.json.Decoder(str).decode
_encode = msgspec.json.Encoder().encode
# OpenAI's own bound on `n`, and many times what a model calls at once: such as say nothing are bounded too.
_MOST_CHOICES = 128
_MOST_CALLS = 1000


class _Text:
    """Text that comes in increments or, where `snapshots` allows it, in ever longer snapshots of itself."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.seen = 0

    def add(self, fragment: str, mode: "_Mode") -> int:
        self.seen += 1
        if fragment and self.pieces and mode.possible and mode.cumulative is None:
            so_far = self.value()
            mode.cumulative = len(fragment) > len(so_far) and fragment.startswith(so_far)
        if mode.cumulative and fragment:
            grown = len(fragment)
            self.pieces = [fragment]
            return grown
        if fragment:
            self.pieces.append(fragment)
        return len(fragment)

    def value(self) -> str:
        if len(self.pieces) > 1:
            self.pieces = ["".join(self.pieces)]
        return self.pieces[0] if self.pieces else ""


class _Mode:
    """Whether a stream's fragments are snapshots: None until the second fragment tells."""

    def __init__(self, possible: bool) -> None:
        self.possible = possible
        self.cumulative: bool | None = None


class CallParts:
    def __init__(self, index: int | None, call_id: str) -> None:
        self.index = index
        self.id = call_id
        self.name = ""
        self.arguments: list[str] = []

    def has_whole_arguments(self) -> bool:
        try:
            msgspec.json.decode("".join(self.arguments))
        except msgspec.MsgspecError:
            return False
        return True


class _ChoiceParts:
    def __init__(self, snapshots: bool) -> None:
        self.mode = _Mode(snapshots)
        self.content = _Text()
        self.texts: dict[str, _Text] = {}
        # By number, in the order in which they began; an item that came whole also as it came.
        self.details: dict[int, dict[str, Raw]] = {}
        self.detail_texts: dict[int, dict[str, _Text]] = {}
        self.latest_detail: dict[tuple[str, bytes], int] = {}
        self.single: dict[int, bytes] = {}
        self.calls: list[CallParts] = []
        self.finished = False
        self.changed = False
        self.size = 0


class AnswerFolder:
    """Folds the events of one answer. `limit` bounds the characters kept, of all its choices."""

    def __init__(self, snapshots: bool = False, limit: int = 16 * 1024 * 1024) -> None:
        self._snapshots = snapshots
        self._limit = limit
        self._choices: dict[int, _ChoiceParts] = {}
        self._size = 0

    def feed(self, payload: bytes) -> list[Answered]:
        """Take one JSON payload; the choices that it finished. `[DONE]` finishes all that are open.

        Raises AnswerError for an error in the answer or one over the limit; nothing of it may be kept then.
        """
        if payload[:1] != b"{":
            said = payload.strip()
            if said == b"[DONE]":
                return self.end(complete=True)
            if not said:
                return []
        event = _read_event(payload)
        if event.error is not None and bytes(event.error) not in (b"null", b'""', b"{}"):
            raise AnswerError("the answer carries an error")
        finished: list[Answered] = []
        for position, choice in enumerate(event.choices or ()):
            index = position if choice.index is None else choice.index
            parts = self._choices.get(index)
            if parts is None:
                parts = self._choices[index] = _ChoiceParts(self._snapshots)
                if len(self._choices) > _MOST_CHOICES:
                    raise AnswerError(f"an answer has more than {_MOST_CHOICES} choices")
            before = parts.size
            if choice.delta is not None:
                _fold(parts, choice.delta)
            if choice.message is not None:
                _take(parts, choice.message)
            self._size += parts.size - before
            if self._size > self._limit:
                raise AnswerError(f"a turn is longer than {self._limit} characters")
            if choice.finish_reason:
                if choice.finish_reason == "error":
                    raise AnswerError("the answer carries an error")
                parts.finished = True
                if parts.changed:
                    finished.append(_answered(parts, True))
        return finished

    def seen(self) -> dict[int, Answered]:
        """Every choice as far as it came, by its index: for people to look at."""
        return {index: _answered(parts, parts.finished) for index, parts in self._choices.items()}

    def end(self, complete: bool) -> list[Answered]:
        """The choices not handed out yet; `complete` says whether the provider ended the answer itself."""
        answers = []
        for parts in self._choices.values():
            if parts.changed:
                answers.append(_answered(parts, complete or parts.finished))
        return answers


def _read_event(payload: bytes) -> _Event:
    try:
        return _decode_event(payload)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        pass
    # Rare: a surrogate pair split over two fragments (msgspec refuses it), or values of unexpected types.
    try:
        loose = json.loads(payload)
        for choice in loose.get("choices") or ():
            for part in (choice.get("delta"), choice.get("message")):
                for name in ("content", "reasoning_content", "reasoning"):
                    if part and not isinstance(part.get(name), str | None):
                        part[name] = _loose_text(part[name])
        return _loose_event(loose)
    except (ValueError, AttributeError, TypeError, KeyError, RecursionError) as error:
        raise AnswerError(f"an event that cannot be read ({type(error).__name__})") from None


def _loose_text(value: object) -> str:
    if isinstance(value, list):
        return "".join(str(part.get("text") or "") for part in value if isinstance(part, dict))
    return ""


def _loose_event(loose: dict[str, object]) -> _Event:
    choices = loose.get("choices")
    event = _Event([], Raw(_encode(loose["error"])) if loose.get("error") else None)
    for item in choices if isinstance(choices, list) else ():
        index = item.get("index")
        choice = _Choice(
            index=index if isinstance(index, int) else None, finish_reason=_str(item.get("finish_reason"))
        )
        choice.delta = _loose_delta(item.get("delta"))
        choice.message = _loose_delta(item.get("message"))
        assert event.choices is not None
        event.choices.append(choice)
    return event


def _loose_delta(item: dict[str, object] | None) -> _Delta | None:
    if not isinstance(item, dict):
        return None
    details = item.get("reasoning_details")
    calls = item.get("tool_calls")
    return _Delta(
        content=_str(item.get("content")),
        reasoning_content=_str(item.get("reasoning_content")),
        reasoning=_str(item.get("reasoning")),
        reasoning_details=(
            [Raw(json.dumps(part).encode()) for part in details] if isinstance(details, list) else None
        ),
        tool_calls=[_loose_call(call) for call in calls] if isinstance(calls, list) else None,
    )


def _loose_call(call: dict[str, object]) -> CallDelta:
    index = call.get("index")
    function = call.get("function")
    delta = FunctionDelta()
    if isinstance(function, dict):
        arguments = function.get("arguments")
        delta.name = _str(function.get("name"))
        delta.arguments = json.dumps(arguments) if isinstance(arguments, dict | list) else _str(arguments)
    return CallDelta(index if isinstance(index, int) else None, _str(call.get("id")), delta)


def _str(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _fold(parts: _ChoiceParts, delta: _Delta) -> None:
    # What follows the finish reason is usually empty (usage events); it is no other turn then.
    parts.changed = parts.changed or not parts.finished or bool(delta.content or delta.reasoning_content)
    for name, fragment in (
        ("reasoning_content", delta.reasoning_content),
        ("reasoning", delta.reasoning),
    ):
        if fragment is not None:
            text = parts.texts.get(name)
            if text is None:
                text = parts.texts[name] = _Text()
            parts.size += text.add(fragment, parts.mode)
    for item in delta.reasoning_details or ():
        _fold_detail(parts, item)
    if delta.content:
        parts.size += parts.content.add(delta.content, parts.mode)
    for call in delta.tool_calls or ():
        _fold_call(parts, call)
    if delta.function_call is not None:
        _fold_call(parts, CallDelta(0, None, delta.function_call))


def _take(parts: _ChoiceParts, message: _Delta) -> None:
    """A whole message: all there is, or what deltas spelled before, which it then takes the place of."""
    if not (parts.content.pieces or parts.texts or parts.details or parts.calls):
        _fold(parts, message)
        return
    if parts.finished:
        return  # what was handed out is on record
    whole = _ChoiceParts(False)
    _fold(whole, message)
    parts.size += whole.size
    if whole.content.pieces:
        parts.content = whole.content
    parts.texts |= {name: text for name, text in whole.texts.items() if text.pieces}
    if whole.details:
        parts.details, parts.detail_texts, parts.single = whole.details, whole.detail_texts, whole.single
        parts.latest_detail = whole.latest_detail
    if len(whole.calls) >= len(parts.calls):
        for call, before in zip(whole.calls, parts.calls, strict=False):
            call.id, call.name = call.id or before.id, call.name or before.name
            call.arguments = call.arguments or before.arguments
        parts.calls = whole.calls


def _fold_call(parts: _ChoiceParts, delta: CallDelta) -> None:
    function = delta.function or FunctionDelta()
    call = open_call(parts.calls, delta, function)
    if call is None:
        call = CallParts(delta.index, delta.id or "")
        parts.calls.append(call)
        parts.size += len(call.id)
        if len(parts.calls) > _MOST_CALLS:
            raise AnswerError(f"a turn has more than {_MOST_CALLS} calls")
    elif not call.id and delta.id:
        call.id = delta.id
        parts.size += len(call.id)
    if function.name and not call.name:
        call.name = function.name
        parts.size += len(call.name)
    if function.arguments:
        call.arguments.append(function.arguments)
        parts.size += len(function.arguments)


def open_call(calls: list[CallParts], delta: CallDelta, function: FunctionDelta) -> CallParts | None:
    """The call that a fragment continues; None if it begins a new one."""
    if delta.index is None:
        if delta.id:
            return next((call for call in reversed(calls) if call.id == delta.id), None)
        if function.name and calls and calls[-1].name and calls[-1].has_whole_arguments():
            return None
        return calls[-1] if calls else None
    call = next((call for call in reversed(calls) if call.index == delta.index), None)
    if call is None or not delta.id or not call.id or delta.id == call.id:
        return call
    # An index used again: another call if it brings its own name and the one before is whole, else the same
    # call whose id changed in mid-stream.
    return None if function.name and call.has_whole_arguments() else call


def _fold_detail(parts: _ChoiceParts, item: Raw) -> None:
    """Its text grows with each fragment, other values of it are kept."""
    raw = bytes(item)
    try:
        members = _decode_item(raw)
    except (msgspec.MsgspecError, UnicodeError):
        number = len(parts.details)
        parts.details[number], parts.single[number] = {}, raw
        parts.size += len(raw)
        return
    parts.size += len(raw)
    number = _open_detail(parts, members)
    known = parts.details.get(number)
    if known is None:
        parts.details[number], parts.single[number] = members, raw
        parts.detail_texts[number] = {}
        for name in ("text", "summary"):
            if (text := _text(members.get(name))) is not None:
                parts.detail_texts[number][name] = _Text()
                parts.detail_texts[number][name].add(text, parts.mode)
        return
    texts = parts.detail_texts[number]
    before = {name: text.value() for name, text in texts.items()}
    for name, value in members.items():
        fragment = _text(value) if name in ("text", "summary") else None
        if fragment is not None:
            texts.setdefault(name, _Text()).add(fragment, parts.mode)
            known.setdefault(name, value)
        elif name not in known or bytes(known[name]) == b"null":
            known[name] = value
    if {name: text.value() for name, text in texts.items()} != before or raw != parts.single.get(number):
        parts.single.pop(number, None)


def _open_detail(parts: _ChoiceParts, members: dict[str, Raw]) -> int:
    """The number of the item that a fragment continues, or of the new one that it begins.

    It continues the latest item of its index, or of its id where it has no index, if it is of the same type;
    sealed data comes whole, so that other data is another item. (OpenRouter may number all items 0.)
    """
    index, kind, name = (bytes(members.get(name, b"null")) for name in ("index", "type", "id"))
    lane = ("id", name) if index == b"null" else ("index", index)
    latest = parts.latest_detail.get(lane)
    if latest is not None:
        known = parts.details[latest]
        sealed, data = (bytes(one.get("data", b"null")) for one in (known, members))
        if kind in (b"null", bytes(known.get("type", b"null"))) and (
            b"null" in (sealed, data) or sealed == data
        ):
            return latest
    parts.latest_detail[lane] = len(parts.details)
    return len(parts.details)


def _text(value: Raw | None) -> str | None:
    if value is None:
        return None
    try:
        return _decode_str(value)
    except (msgspec.MsgspecError, UnicodeError):
        return None


def _answered(parts: _ChoiceParts, complete: bool) -> Answered:
    parts.changed = False
    fields = {name: encoded(text.value()) for name, text in parts.texts.items()}
    if parts.details:
        details = (_detail(parts, number) for number in parts.details)
        fields["reasoning_details"] = b"[%b]" % b",".join(details)
    calls = tuple(Call(call.id, call.name, "".join(call.arguments)) for call in parts.calls)
    return Answered(Turn(joined(parts.content.value()), calls), fields, complete)


def _detail(parts: _ChoiceParts, number: int) -> bytes:
    if number in parts.single:
        return parts.single[number]
    texts = parts.detail_texts[number]
    members = (
        b"%b:%b" % (_encode(name), encoded(texts[name].value()) if name in texts else bytes(value))
        for name, value in parts.details[number].items()
    )
    return b"{%b}" % b",".join(members)
