"""What becomes of an answer: a request on its way knows where its answer will stand, and turns go on record.

It knows the store and the scope, and no stream (tap.py).
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence

import msgspec

from reasoning_fix.dialects.turns import NONE, Fingerprints, Slot, Turn, slot
from reasoning_fix.dialects.wire import Answered, AnswerError, Dialect, NotChatError
from reasoning_fix.engine.matching.verdicts import Conversation, Opened
from reasoning_fix.engine.usage import Usage
from reasoning_fix.providers.lessons import Lessons
from reasoning_fix.providers.table import Table
from reasoning_fix.proxy.health import counts
from reasoning_fix.store import Record, Store
from reasoning_fix.store.sealing import Scope

logger = logging.getLogger(__name__)

_DAY_MS = 86_400_000
_encode = msgspec.msgpack.Encoder().encode


class _Clock:
    """Milliseconds since the epoch, never the same twice, in any thread: the order of turns is evidence."""

    def __init__(self) -> None:
        self._last = 0
        self._lock = threading.Lock()

    def __call__(self) -> int:
        with self._lock:
            self._last = max(self._last + 1, time.time_ns() // 1_000_000)
            return self._last

    def go_on_after(self, recorded: int) -> None:
        """The clock may have been set back since; by more than a day, it was wrong then and is right now."""
        if recorded <= time.time_ns() // 1_000_000 + _DAY_MS:
            with self._lock:
                self._last = max(self._last, recorded)


now = _Clock()


def nobody(scope: bytes, records: Sequence[Record]) -> None:
    """Nobody is to be told."""


class Rest:
    """What is left to do for a request that was already sent on. It is done once, by whoever comes first."""

    def __init__(self, work: Callable[[], object]) -> None:
        self._work: Callable[[], object] | None = work
        self._then: list[Callable[[], None]] = []
        # Whoever comes while another thread is at it waits for it.
        self._lock = threading.Lock()
        self.failed = False

    def then(self, work: Callable[[], None]) -> None:
        """Have this done after it."""
        self._then.append(work)

    def __call__(self) -> None:
        with self._lock:
            work, self._work = self._work, None
            if work is not None:
                self._do(work)

    def _do(self, work: Callable[[], object]) -> None:
        try:
            work()
        except NotChatError as error:
            self.failed = True
            logger.info("An answer will not be recorded: %s", error)
        except Exception as fault:
            self.failed = True
            logger.warning("An answer will not be recorded: %s in reasoning-fix", type(fault).__name__)
            logger.debug("fault after a request was sent on", exc_info=fault)
        then, self._then = self._then, []
        for one in then:
            try:
                one()
            except Exception as fault:
                logger.warning("%s in reasoning-fix, after a request was sent on", type(fault).__name__)
                logger.debug("fault after a request was sent on", exc_info=fault)


class Recorder(msgspec.Struct):
    """One request on its way: where the turn that answers it will stand, and for whom it is recorded.

    The place is known once the `rest` is done, if there is one. `brought` are turns that the client itself
    sent complete. They go on record with the first turn of the answer: a request that the provider refuses
    must teach nothing, its credential may be forged. `told` is told of every record that came to the store.
    Answers teach `lessons`; `off` names the switch by which the request turns thinking off, else is "".
    What came of it, once it is answered: `recorded` and `learned` turns, the last recorded one `answered`
    (milliseconds since the epoch), and the tokens it cost.
    """

    store: Store
    scope: Scope
    marks: Fingerprints
    table: Table
    dialect: Dialect
    host: str
    issuer: str
    model: str
    asked: int
    conversation: Conversation = Conversation()
    context: bytes = NONE
    before: bytes = NONE
    parent: bytes = NONE
    thread: bytes = NONE
    lead: str = ""
    snapshots: bool = False
    rest: Rest | None = None
    told: Callable[[bytes, Sequence[Record]], None] = nobody
    lessons: Lessons | None = None
    off: str = ""
    brought: list[Record] = []
    recorded: int = 0
    learned: int = 0
    answered: int = 0
    cost: Usage = Usage()


def thought_of(marks: Fingerprints, fields: dict[str, bytes], whole: str = "") -> bytes:
    """The fingerprint of a reasoning, whatever carries it; empty where there is none."""
    said = [(value[:1] != b'"', name, value) for name, value in fields.items() if value != b"null"]
    if said:
        # Plain text is the same thought whatever its field is called.
        structured, name, value = min(said)
        return marks.of("thought", structured and name, value)
    return marks.of("thought", "text", whole) if whole else NONE


def make_record(
    exchange: Recorder, said: Slot, context: bytes, parent: bytes, thread: bytes, answer: Answered
) -> Record:
    """A turn in a context, as a record sealed for the exchange's scope."""
    key = os.urandom(16)
    whole = answer.turn.text if "think>" in answer.turn.text else ""
    opened = Opened(answer.fields, said.text, said.ids, whole)
    return Record(
        key=key,
        issuer=exchange.issuer,
        model=exchange.model,
        place=exchange.marks.place(context, said.turn),
        context=context,
        turn=said.turn,
        before=said.before,
        thought=thought_of(exchange.marks, answer.fields, whole),
        system=exchange.conversation.system,
        session=exchange.conversation.session,
        parent=parent,
        thread=thread or key,
        calls=said.calls,
        complete=answer.complete,
        asked=exchange.asked,
        created=now(),
        sealed=exchange.scope.seal(_encode(opened), key),
    )


def learn(exchange: Recorder) -> None:
    """Put on record what the client taught, now that the provider has answered."""
    if exchange.rest is not None:
        exchange.rest()
    if exchange.brought:
        brought, exchange.brought = exchange.brought, []
        exchange.store.put(exchange.scope.id, brought)
        exchange.learned += len(brought)
        exchange.told(exchange.scope.id, brought)


def record_answer(exchange: Recorder, answer: Answered) -> None:
    """Put one choice of an answer into the store. A placeholder that a model echoes is never recorded."""
    if exchange.rest is not None:
        exchange.rest()
        if exchange.rest.failed:
            return
    fields = {name: value for name, value in answer.fields.items() if not _is_echo(exchange, name, value)}
    if len(fields) != len(answer.fields) and not fields:
        return
    if not all(map(is_text, fields.values())):
        # It could not be sent back: no provider could parse the request.
        raise AnswerError("the reasoning is no UTF-8")
    if not (answer.complete or fields or answer.turn.text or answer.turn.calls):
        return
    turn = Turn(exchange.lead + answer.turn.text, answer.turn.calls)
    said = slot(turn, 0, (), 0, exchange.marks)
    said.before = exchange.before
    answer = Answered(turn, fields, answer.complete)
    try:
        record = make_record(exchange, said, exchange.context, exchange.parent, exchange.thread, answer)
    except UnicodeEncodeError:
        # Half a character, as an id say: only a lenient reader takes it for text.
        raise AnswerError("the answer holds what is no UTF-8") from None
    learn(exchange)
    exchange.store.put(exchange.scope.id, [record])
    exchange.recorded += 1
    exchange.answered = record.created
    exchange.told(exchange.scope.id, [record])
    counts.recorded += 1
    _teach(exchange, answer)


def _teach(exchange: Recorder, answer: Answered) -> None:
    """What a thought says besides: that thinking is on here whatever a switch says, and how it is spelled."""
    if exchange.lessons is None:
        return
    thoughts = [
        text for name, value in answer.fields.items() for text in exchange.dialect.texts(name, value) or ()
    ]
    if exchange.off and (any(map(str.strip, thoughts)) or "</think>" in answer.turn.text):
        exchange.lessons.note(
            exchange.host, exchange.dialect.NAME, exchange.model, "ignores_switch", exchange.off
        )
    if any(text != text.strip() for text in thoughts if text.strip()):
        exchange.lessons.note(exchange.host, exchange.dialect.NAME, exchange.model, "padded")


def is_text(value: bytes) -> bool:
    """Whether it may be sent: no provider could parse a request with bytes that are no UTF-8."""
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_echo(exchange: Recorder, name: str, value: bytes) -> bool:
    """A placeholder that carries words (blank ones are values of their own)."""
    texts = exchange.dialect.texts(name, value) or ()
    said = [text for text in texts if text.strip()]
    return bool(said) and all(map(exchange.table.is_echo, said))
