"""Response bytes -> turns in the store: the tap that watches a response pass by.

A turn is in the store before the chunk that ends it is forwarded: clients send the next request at once. The
tap returns each chunk as it came, whatever happens; a fault of ours only makes it blind.
"""

import logging
from collections.abc import Callable

from reasoning_fix.dialects.wire import AnswerError
from reasoning_fix.engine import usage
from reasoning_fix.engine.recording import Recorder
from reasoning_fix.engine.showing import Showing
from reasoning_fix.providers import refusals
from reasoning_fix.streams.coding import CodingError, decoder
from reasoning_fix.streams.copies import Copy, Kept
from reasoning_fix.streams.events import EventReader, EventTooLong

logger = logging.getLogger(__name__)

# Whole events are read so many chunks at a time, which takes a third less than one by one.
_HELD_CHUNKS = 32
_HELD_AT_MOST = 4096
_EVENT_ENDS = (b"\n\n", b"\r\n\r\n")
_ANSWER_LIMIT = 64 * 1024 * 1024


class Tap:
    """A stream callable for mitmproxy: sees every chunk, returns it unchanged, never raises.

    It outlives a reload of the script, so it holds all that recording needs. `streamed` says whether the body
    is an event stream or one JSON document; up to `keep` bytes are kept for people to look at. Chunks of
    whole events are held (they go on at once) and read together: when there are enough of them, when one may
    end a turn, and at the end, however it comes.
    """

    def __init__(
        self,
        recorder: Recorder,
        content_encoding: str,
        streamed: bool,
        length: int | None,
        keep: int = 0,
        refuses: Callable[[bytes], bool] | None = None,
    ) -> None:
        self.may_hold_back = False
        self.refusal: bytes | None = None
        # What shows the thoughts of this answer to a client that hides them, if anything does.
        self.showing: Showing | None = None
        self._refuses = refuses
        # Whether an answer has begun: what came so far decides nothing.
        self._is_open = refuses is not None
        self._late: list[bytes] = []
        self._begin = b""
        self._is_coded = content_encoding.strip().lower() not in ("", "identity")
        self._recorder = recorder
        dialect = recorder.caller.dialect
        self._folder = dialect.folder(recorder.caller.snapshots)
        self._may_end = dialect.may_end
        self._events = EventReader() if streamed else None
        self._body: list[bytes] = []
        self._body_size = 0
        self._length = length
        self._passed = 0
        self._done = False
        # Whether all that came so far are whole events that need not be decoded first.
        self._is_whole = streamed and content_encoding.strip().lower() in ("", "identity")
        self._may_hold = self._is_whole
        self._held: list[bytes] = []
        self._copy = Copy(keep, content_encoding) if keep else None
        self._decoder = decoder(content_encoding)
        if self._decoder is None:
            self._give_up(f"content coding {content_encoding!r} is not known here")

    def __call__(self, chunk: bytes) -> bytes | list[bytes]:
        if not chunk:
            # The end, or an empty frame of HTTP/2: which of them, only `finish` tells. Passed on, the latter
            # would end the answer of a client that speaks HTTP/1.
            return [] if self.showing is None else self._left_to_show()
        if self._is_open and self.may_hold_back:
            return self._before_answer(chunk)
        try:
            ends = self._may_hold and chunk.endswith(_EVENT_ENDS)
            if ends and self._is_whole and len(chunk) <= _HELD_AT_MOST and not self._may_end(chunk):
                self._held.append(chunk)
                if len(self._held) == _HELD_CHUNKS:
                    self._read_held()
            else:
                self._is_whole = ends
                self._held.append(chunk)
                self._read_held()
        except Exception as fault:
            self._fault(fault)
        return chunk if self.showing is None else self.showing.feed(chunk)

    def _left_to_show(self) -> list[bytes]:
        assert self.showing is not None
        rest = self.showing.end()
        return [rest] if rest else []

    def finish(self, complete: bool) -> None:
        """The response has ended; `complete` is False where it was cut. Called any number of times."""
        try:
            self._read_held()
            if not self._done:
                self._end(complete)
        except Exception as fault:
            self._fault(fault)
        self._done = True

    def _before_answer(self, chunk: bytes) -> bytes | list[bytes]:
        """Whether a chunk goes on while it is not known yet that this is an answer: all but refusals do.

        What may become a refusal waits until it is whole; comments and whatever begins otherwise do not.
        """
        try:
            self._held.append(chunk)
            self._read_held()
        except Exception as fault:
            self._fault(fault)
        if self.refusal is None and self._is_open:
            begin = self._begin if self._events is None else self._events.pending
            may_be = refusals.may_be_in_place_of_answer(begin + chunk) and len(begin) < refusals.LONGEST
            only_comments = self._events is not None and begin[:1] in (b"", b":") and not self._is_coded
            self._is_open = (may_be or only_comments or not begin.strip()) and not self._done
            if not may_be and not self._late:
                return chunk
        if self.refusal is not None or self._is_open:
            self._late.append(chunk)
            return []
        return self._released(chunk)

    def _released(self, chunk: bytes) -> bytes:
        late, self._late = self._late, []
        whole = b"".join((*late, chunk)) if late else chunk
        return whole if self.showing is None else self.showing.feed(whole)

    def take_late(self) -> bytes:
        """What was held back, or was put in its place, to be sent on now."""
        late, self._late = self._late, []
        return b"".join(late)

    def put_in_place(self, body: bytes) -> None:
        """What goes on instead of what was held back."""
        self._late = [body]

    @property
    def answered(self) -> int:
        """When a turn was last recorded, in milliseconds since the epoch; 0 where none was."""
        return self._recorder.answered

    def kept(self, complete: bool) -> Kept | None:
        """A copy of the response, for people to look at; None where none is kept."""
        return None if self._copy is None else self._copy.kept(complete)

    def _read_held(self) -> None:
        if self._held:
            data, self._held = b"".join(self._held), []
            if self._copy is not None:
                self._copy.add(data)
            if not self._done:
                self._feed(data)

    def _feed(self, chunk: bytes) -> None:
        assert self._decoder is not None
        self._passed += len(chunk)
        data = self._decoder.feed(chunk) if self._is_coded else chunk
        if self._events is not None:
            for payload in self._events.feed(data):
                self._take(payload)
                if self._done:
                    break
            return
        self._body.append(data)
        self._body_size += len(data)
        if self._is_open:
            self._begin += data
        if self._body_size > _ANSWER_LIMIT:
            raise AnswerError("the answer is too long")
        # The client can use a body of known length as soon as its last byte is there.
        if self._length is not None and self._passed >= self._length:
            self.finish(complete=True)

    def _end(self, complete: bool) -> None:
        assert self._decoder is not None
        rest = self._decoder.end() if complete else b""
        if self._events is None:
            body = b"".join(self._body) + rest
            if complete and body.strip():
                self._take(body.strip())
        else:
            for payload in self._events.feed(rest) + (self._events.end() if complete else []):
                self._take(payload)
        # An event stream that just stops was cut, however politely the connection was closed.
        for answer in self._folder.end(complete=complete and self._events is None):
            self._recorder.record(answer)

    def _take(self, payload: bytes) -> None:
        if self._is_open and payload.strip() and not refusals.decides_nothing(payload):
            self._is_open = False
            if self._refuses is not None and self._refuses(payload):
                self.refusal, self._done = payload, True
                return
        if usage.NAME in payload and (cost := usage.read(payload)) is not None:
            self._recorder.cost = self._recorder.cost.with_later(cost)
        for answer in self._folder.feed(payload):
            self._recorder.record(answer)

    def _fault(self, fault: Exception) -> None:
        if isinstance(fault, AnswerError | CodingError | EventTooLong):
            self._give_up(str(fault))
        else:
            self._give_up(f"{type(fault).__name__} in reasoning-fix")
            logger.debug("fault while recording", exc_info=fault)

    def _give_up(self, reason: str) -> None:
        self._done = True
        self._body.clear()
        _say(f"{self._recorder.caller.host}: an answer was forwarded but not recorded: {reason}")


_say: Callable[[str], None] = logger.info
