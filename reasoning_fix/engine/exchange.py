"""One request and its answer, from the first byte to the record."""

from collections.abc import Callable
from typing import Self

from reasoning_fix.engine import repairs
from reasoning_fix.engine.caller import Caller
from reasoning_fix.engine.policy import Preferences
from reasoning_fix.engine.recording import Recorder
from reasoning_fix.engine.repairs import Attempt
from reasoning_fix.engine.report import Report
from reasoning_fix.engine.restoring import Restored
from reasoning_fix.engine.tap import Tap
from reasoning_fix.providers import refusals
from reasoning_fix.providers.rows import Means


class Exchange:
    """A request as it is to be sent, and what becomes of its answer.

    Send `body`, let the answer pass through a `tap`, chunk by chunk: what the provider said is on record
    before the chunk that ends it goes on. If the provider refuses the request, `retry` may know a better one.

    `received` is the body as the client sent it; the `report` says what was done to it, and `is_changed`
    whether anything was. `recorder` keeps what came of the answer. `refused` is what its refusal means; None
    until it is refused in words that are known. `preferences` are the person's when it was sent; `tried` is
    how many lessons it tries out: 0, unless it is a retry. `is_deferred`: work was left to do that the
    request need not wait for.
    """

    def __init__(self, restored: Restored, attempt: Attempt | None = None) -> None:
        self._restored = restored
        self._attempt = attempt
        self.caller: Caller = restored.caller
        self.received: bytes = restored.received
        self.body: bytes = restored.received if restored.body is None else restored.body
        self.is_changed: bool = restored.body is not None
        self.report: Report = restored.report
        self.recorder: Recorder = restored.recorder
        self.refused: Means | None = None
        self.preferences: Preferences = restored.knowledge.preferences
        self.tried: int = len(attempt.tried) if attempt is not None else 0
        self.is_deferred: bool = restored.recorder.rest is not None

    def when_settled(self, work: Callable[[], None]) -> None:
        """Have this done when there is nothing left to do: at once, unless the exchange is deferred."""
        if self.recorder.rest is None:
            work()
        else:
            self.recorder.rest.then(work)

    def settle(self) -> None:
        """Do what was left to do when the request was sent on. The answer does that by itself."""
        self.recorder.settle()

    def accept(self) -> None:
        """The request was taken: what the client itself brought goes on record, if no turn is to follow."""
        self.recorder.learn()

    def tap(
        self,
        content_encoding: str = "",
        *,
        streamed: bool = True,
        length: int | None = None,
        keep: int = 0,
        may_refuse: bool = False,
    ) -> Tap:
        """What the answer is to pass through: a callable that returns each chunk as it came.

        `streamed`: the body is an event stream, else one JSON document, of `length` bytes if that is known.
        Up to `keep` bytes are kept to look at. With `may_refuse`, a refusal that comes in place of an answer
        is kept apart. Call the tap's `finish` when the answer has ended.
        """
        refuses = self._refuses if may_refuse else None
        return Tap(self.recorder, content_encoding, streamed, length, keep, refuses)

    def retry(self, refusal: bytes) -> "Exchange | None":
        """What to send in place of this request, which was refused with that body.

        None if the refusal is not known, or there is nothing more to try: it is the client's then. A retry is
        sent once, and itself has none. Tell it what came of it: `was_answered` or `was_refused`.
        """
        if self._attempt is not None:
            return None
        known = refusals.recognise(refusal, self._restored.knowledge.table)
        if known is None:
            return None
        self.refused = known.means
        attempt = repairs.attempt(known, refusals.said(refusal), self._restored)
        if attempt is None:
            return None
        again = Exchange(attempt.restored, attempt)
        again.refused = known.means
        return again

    def is_refusal(self, body: bytes) -> bool:
        """Whether the body of a response with status 200 is a refusal that is known."""
        return refusals.in_place_of_answer(body) is not None and self._is_known(body)

    def was_answered(self) -> bool:
        """This retry was answered: what it tried is learned. Returns whether there was anything to learn."""
        return self._attempt is not None and repairs.keep(self._attempt)

    def was_refused(self, first: Self) -> None:
        """This retry of `first` was refused as well: another idea is next."""
        if self._attempt is not None:
            repairs.note_failure(self._attempt, first._restored)

    def _refuses(self, payload: bytes) -> bool:
        return refusals.is_in_place_of_answer(payload) and self._is_known(payload)

    def _is_known(self, body: bytes) -> bool:
        return refusals.recognise(body, self._restored.knowledge.table) is not None
