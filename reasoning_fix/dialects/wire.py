"""What every wire format has in common: a request as read, an answer as folded, and what a dialect can do.

Reasoning is handled as named fields, each with a JSON value: the members `reasoning_content`, `reasoning` and
`reasoning_details` of a chat message, the thinking `blocks` of an Anthropic message, the reasoning `items` of
a Responses turn. What a field's value looks like is its dialect's business; the rest of the house compares,
stores and hands back bytes.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

import msgspec

from reasoning_fix import ReasoningFixError
from reasoning_fix.dialects.splice import Written, with_history
from reasoning_fix.dialects.turns import Other, Turn
from reasoning_fix.dialects.twins import loosely
from reasoning_fix.providers.table import Provider

# The changes to one turn: a field's new value, or None where the field is to go.
type Change = Mapping[str, bytes | None]


class NotChatError(ReasoningFixError, ValueError):
    """The body is not a chat request that can be read; the text says why."""


class KeptByServer(NotChatError):
    """The server itself keeps this conversation: nothing is to be restored or recorded."""


class AnswerError(ReasoningFixError, ValueError):
    """The answer cannot be recorded; the text says why."""


class Request(msgspec.Struct):
    """A request as read.

    `array` is the history as JSON; its first `stands_in` items (0 or 1) stand for a part of the history that
    was read before and is not read again; `opened` is what a dialect made of it so far.

    `messages` has one entry per turn or other message, None for system messages. By index in it: `systems`
    holds the texts of system messages, where `system` is made of these; `own` the reasoning fields that a
    client sent; `spans` the positions of a turn in the array (where they are not its index); `in_parts` the
    content of chat turns that is a list, `null_content` those without any. `cuts` are positions in the array
    at which a turn begins although nothing was said before it. `continued` is the index of a last
    assistant message that the model is asked to continue, or None; `parameters` the body's members.

    A message that cannot be read as it is, is read by its twin (twins.py), also its `own` fields: `as_came`
    has the members of such turns as they came. By position in the array, `odd` says what is odd about it.
    """

    body: bytes
    parameters: dict[str, msgspec.Raw]
    model: str = ""
    has_tools: bool = False
    system: str = ""
    systems: dict[int, str] = {}
    array: bytes | msgspec.Raw = b""
    stands_in: int = 0
    opened: object = None
    messages: list[Turn | Other | None] = []
    own: dict[int, dict[str, bytes]] = {}
    in_parts: dict[int, bytes] = {}
    spans: dict[int, tuple[int, ...]] = {}
    null_content: set[int] = set()
    cuts: frozenset[int] = frozenset()
    continued: int | None = None
    odd: dict[int, str] = {}
    as_came: dict[int, dict[str, bytes]] = {}

    def own_is_whole(self, index: int) -> bool:
        """Whether the reasoning that came with a turn holds no half of a character."""
        came = self.as_came.get(index, {})
        return all(came.get(name, value) == value for name, value in self.own.get(index, {}).items())


class Answered(msgspec.Struct, frozen=True, gc=False):
    """A choice as the provider said it. `fields` are the reasoning fields that came, as JSON values."""

    turn: Turn
    fields: dict[str, bytes]
    complete: bool


class Folder(Protocol):
    """Folds the payloads of one answer, streamed or whole, into turns."""

    def feed(self, payload: bytes) -> list[Answered]:
        """Take one JSON payload; the turns that it finished. Raises AnswerError."""

    def end(self, complete: bool) -> list[Answered]:
        """The turns not handed out yet; `complete`: the provider ended the answer itself."""


class Dialect(Protocol):
    """One wire format; each is a module of this folder with these functions.

    `NAME` is what endpoints in the provider table call it, `HISTORY` names its array. `PER_MESSAGE`:
    reasoning is looked for in each message, so that of a turn in two the one with the tool calls carries it.
    """

    NAME: str
    HISTORY: str
    PER_MESSAGE: bool

    def open_request(self, body: bytes) -> Request:
        """The members of a request body, its messages not read yet. Raises NotChatError if it is not one."""

    def read_history(self, request: Request) -> None:
        """Read the messages in the request's array. Raises NotChatError."""

    def brought(self, request: Request) -> list[dict[str, bytes]] | None:
        """The reasoning fields that each turn came with, where that alone decides whether one can be missing.

        Much faster than reading the history; None if that is needed. Raises NotChatError.
        """

    def write_history(self, request: Request, changes: Mapping[int, Change]) -> Written:
        """The request's array with reasoning set in some turns; every other byte as it came.

        Raises LeftError where a repeated member name leaves doubt in some messages.
        """

    def joints(self, request: Request, indices: Sequence[int]) -> list[int]:
        """Where in the array these turns may each be several that stand side by side (see `Request.cuts`)."""

    def position(self, request: Request, index: int) -> int:
        """Where in the array the turn with this index begins."""

    def tagged(self, request: Request, index: int, whole: str) -> dict[str, bytes]:
        """The change that gives a turn back the text with the `<think>` block that a client stripped."""

    def may_end(self, events: bytes) -> bool:
        """Whether whole events of a stream may finish a turn: a scan; where it is in doubt, they may."""

    def folder(self, snapshots: bool) -> Folder:
        """A reader for one answer; `snapshots`: its fragments may repeat all that came before."""

    def fields(self, provider: Provider) -> tuple[str, ...]:
        """The reasoning fields that this provider reads on this wire, first choice first."""

    def stand_in(self, field: str, text: str) -> bytes | None:
        """A placeholder as the value of a field; None where the field cannot carry one."""

    def fitted(self, provider: Provider, value: bytes) -> bytes:
        """A value of ours in the form in which this provider takes it."""

    def texts(self, field: str, value: bytes) -> list[str] | None:
        """The reasoning texts in a value; None if it holds reasoning that is not plain text."""

    def readable(self, field: str, value: bytes) -> list[str]:
        """The reasoning texts in a value that stand where a provider reads them; sealed ones it may not."""

    def words(self, field: str, value: bytes) -> str:
        """All that a value says in plain text, wherever in it that stands."""

    def completed(self, field: str, sent: bytes, recorded: bytes) -> bytes | None:
        """The recorded value, where a client sent a part of it, trimmed it, or wrote it in another form.

        None if it sent what was recorded, or something else.
        """

    def without(self, field: str, value: bytes, parts: Collection[str]) -> bytes | None:
        """A value without some parts; None if nothing is left of it.

        Parts are "signature", "item_id", "sealed", and names of members of its items.
        """

    def join(self, field: str, first: bytes, second: bytes) -> bytes:
        """The reasoning of two turns that a client merged into one, in order."""

    def tidy(self, field: str, value: bytes) -> bytes:
        """A value that a client sent, in the one spelling that records use."""


def read_request(dialect: Dialect, body: bytes) -> Request:
    """A request body, read whole. Raises NotChatError if it is not one."""
    request = dialect.open_request(body)
    dialect.read_history(request)
    return request


def write_request(
    dialect: Dialect,
    request: Request,
    changes: Mapping[int, Change],
    settings: Mapping[str, bytes | None],
) -> bytes:
    """The body with reasoning set in some turns and members at its top. Raises SpliceError."""
    written = dialect.write_history(request, changes)
    return with_history(request.body, request.parameters, dialect.HISTORY, settings, written)


def parameter(parameters: Mapping[str, msgspec.Raw], path: tuple[str, ...]) -> object:
    """The value at a path of keys in the request's parameters; None if there is none."""
    raw = parameters.get(path[0])
    if raw is None:
        return None
    try:
        value: object = loosely(msgspec.json.decode, raw)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    for key in path[1:]:
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value
