"""What becomes of an answer: a request on its way knows where its answer will stand, and turns go on record.

It knows the store and the scope, and no stream (tap.py).
"""

import logging
import os
import threading
import time
from collections.abc import Callable

import msgspec

from reasoning_fix.dialects.turns import Turn
from reasoning_fix.dialects.twins import mended
from reasoning_fix.dialects.wire import Answered, AnswerError, NotChatError
from reasoning_fix.engine.caller import Caller
from reasoning_fix.engine.history import NONE, Fingerprints, Slot, slot
from reasoning_fix.engine.knowledge import Knowledge
from reasoning_fix.engine.matching.verdicts import Content, Conversation
from reasoning_fix.engine.usage import Usage
from reasoning_fix.store import Record

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


class Rest:
    """What is left to do for a request that was sent on already. It is done once, when it is first needed."""

    def __init__(self, work: Callable[[], object]) -> None:
        self._work: Callable[[], object] | None = work
        self._then: list[Callable[[], None]] = []
        # Another thread that comes meanwhile waits for it.
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
    """Where the turn that answers a request will stand, and for whom it is recorded.

    The place is known once the `rest` is done, if there is one. `brought` are turns that the client itself
    sent complete. They go on record with the first turn of the answer: a request that the provider refuses
    must teach nothing, its credential may be forged. `off` names the switch by which the request turns
    thinking off, else it is "".

    What came of it, once it is answered: `recorded` and `learned` turns, when the last one was recorded
    (`answered`, milliseconds since the epoch), and the tokens it cost.
    """

    caller: Caller
    knowledge: Knowledge
    model: str
    asked: int
    off: str = ""
    conversation: Conversation = Conversation()
    context: bytes = NONE
    before: bytes = NONE
    parent: bytes = NONE
    thread: bytes = NONE
    lead: str = ""
    rest: Rest | None = None
    brought: list[Record] = []
    recorded: int = 0
    learned: int = 0
    answered: int = 0
    cost: Usage = Usage()

    def settle(self) -> None:
        """Do what was left to do when the request was sent on."""
        if self.rest is not None:
            self.rest()

    def learn(self) -> None:
        """Put on record what the client taught, now that the provider has answered."""
        self.settle()
        brought, self.brought = self.brought, []
        if brought:
            self._put(brought)
            self.learned += len(brought)

    def record(self, answer: Answered) -> None:
        """Put one choice of an answer on record. A placeholder that a model echoes is never recorded.

        Raises AnswerError if it could not be sent back.
        """
        self.settle()
        if self.rest is not None and self.rest.failed:
            return
        fields = {name: value for name, value in answer.fields.items() if not self._is_echo(name, value)}
        if len(fields) != len(answer.fields) and not fields:
            return
        if not all(map(is_text, fields.values())):
            # No provider could parse the request.
            raise AnswerError("the reasoning is not UTF-8")
        if not (answer.complete or fields or answer.turn.text or answer.turn.calls):
            return
        turn = Turn(self.lead + answer.turn.text, answer.turn.calls)
        said = slot(turn, 0, (), 0, self.caller.fingerprints)
        said.before = self.before
        answer = Answered(turn, fields, answer.complete)
        try:
            record = make_record(self, said, self.context, self.parent, self.thread, answer)
        except UnicodeEncodeError:
            # Half a character, as an id say: only a lenient reader takes it for text.
            raise AnswerError("the answer holds what is not UTF-8") from None
        self.learn()
        self._put([record])
        self.recorded += 1
        self.answered = record.created
        self._teach(answer)

    def _put(self, records: list[Record]) -> None:
        self.knowledge.store.put(self.caller.scope.id, records)
        if self.knowledge.prefix_cache is not None:
            self.knowledge.prefix_cache.recorded(self.caller.scope.id, records)

    def _teach(self, answer: Answered) -> None:
        """What a thought says besides: that thinking is on here whatever a switch says; how it is spelled."""
        texts, name = self.caller.dialect.texts, self.caller.dialect.NAME
        thoughts = [text for field, value in answer.fields.items() for text in texts(field, value) or ()]
        about = (self.caller.host, name, self.model)
        if self.off and (any(map(str.strip, thoughts)) or "</think>" in answer.turn.text):
            self.knowledge.lessons.note(*about, "ignores_switch", self.off)
        if any(text != text.strip() for text in thoughts if text.strip()):
            self.knowledge.lessons.note(*about, "padded")

    def _is_echo(self, name: str, value: bytes) -> bool:
        """A placeholder that carries words (blank ones are values of their own)."""
        texts = self.caller.dialect.texts(name, value) or ()
        said = [text for text in texts if text.strip()]
        return bool(said) and all(map(self.knowledge.table.is_echo, said))


def thought_of(fingerprints: Fingerprints, fields: dict[str, bytes], whole: str = "") -> bytes:
    """The fingerprint of a reasoning, whatever carries it; empty if there is none."""
    said = [(value[:1] != b'"', name, value) for name, value in fields.items() if value != b"null"]
    if said:
        # Plain text is the same thought whatever its field is called.
        structured, name, value = min(said)
        return fingerprints.of("thought", structured and name, value)
    return fingerprints.of("thought", "text", whole) if whole else NONE


def make_record(
    recorder: Recorder, said: Slot, context: bytes, parent: bytes, thread: bytes, answer: Answered
) -> Record:
    """A turn in a context, as a record sealed for the scope of its caller."""
    key = os.urandom(16)
    whole = answer.turn.text if "think>" in answer.turn.text else ""
    opened = Content(answer.fields, said.text, said.ids, whole)
    return Record(
        key=key,
        issuer=recorder.caller.issuer,
        model=recorder.model,
        place=recorder.caller.fingerprints.place(context, said.turn),
        context=context,
        turn=said.turn,
        before=said.before,
        thought=thought_of(recorder.caller.fingerprints, answer.fields, whole),
        system=recorder.conversation.system,
        session=recorder.conversation.session,
        parent=parent,
        thread=thread or key,
        calls=said.calls,
        complete=answer.complete,
        asked=recorder.asked,
        created=now(),
        sealed=recorder.caller.scope.seal(_encode(opened), key),
    )


def is_text(value: bytes) -> bool:
    """Whether it may be sent: no provider could parse bytes that are not UTF-8, or half a character."""
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return b"\\u" not in value or mended(value) == value
