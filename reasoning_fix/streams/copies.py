"""A bounded copy of a body that passes by, for people who look at it later.

A chunk costs a list append. Beyond the bound the beginning and the end are kept, half of it each, with a mark
between them that is a comment in an event stream. A coded body (gzip, br) has no middle that could be taken
out, and without its end most readers refuse it: such a body is decoded then, and the copy is of what it says.
"""

import re
from collections import deque

import msgspec

from reasoning_fix.streams.coding import CodingError, decoder

CUT = re.compile(rb"\n\n: reasoning-fix kept no copy of (\d{1,18}) bytes here\n\n")
_EVENT_END = re.compile(rb"\r?\n\r?\n|\r\r")
# How far from the cut the border of an event is looked for.
_NEAR = 65536


class Kept(msgspec.Struct, frozen=True):
    """A copy: as the bytes passed by, or `decoded`, its content coding undone."""

    data: bytes
    decoded: bool = False


class Copy:
    """Keeps up to `limit` bytes (from 1 up) of the chunks of one body, and a chunk more in passing."""

    def __init__(self, limit: int, content_encoding: str) -> None:
        self._limit = limit
        self._half = max(1, limit // 2)
        coding = content_encoding.strip().lower()
        self._coded = coding not in ("", "identity")
        self._decoder = decoder(coding) if self._coded else None
        self._head: list[bytes] = []
        self._head_size = 0
        # None as long as all that came is in the head, as it came.
        self._tail: deque[bytes] | None = None
        self._tail_size = 0
        self._left_out = 0

    def add(self, chunk: bytes) -> None:
        """Keep a chunk, or what there is room for."""
        if self._tail is not None:
            self._end_with(chunk)
            return
        self._head.append(chunk)
        self._head_size += len(chunk)
        if self._head_size > self._limit:
            self._split()

    def kept(self, complete: bool) -> Kept | None:
        """The copy; None if there is none that can be read. `complete`: the body came to its end."""
        if self._tail is None and self._coded and not complete and self._decoder is not None:
            self._split()
        if self._tail is None:
            return Kept(b"".join(self._head)) if self._head else None
        head, tail = b"".join(self._head), b"".join(self._tail)[-self._half :]
        left_out = self._left_out + self._tail_size - len(tail)
        if not head:
            return None
        if left_out <= 0:
            return Kept(head + tail, self._coded)
        # Whole events on both sides of the cut, where it is an event stream.
        ends = [border.end() for border in _EVENT_END.finditer(head, max(0, len(head) - _NEAR))]
        begins = _EVENT_END.search(tail, 0, _NEAR)
        end, begin = ends[-1] if ends else len(head), begins.end() if begins else 0
        left_out += len(head) - end + begin
        mark = b"\n\n: reasoning-fix kept no copy of %d bytes here\n\n" % left_out
        return Kept(b"".join((head[:end].rstrip(b"\r\n"), mark, tail[begin:])), self._coded)

    def _split(self) -> None:
        """From now on the beginning and the end are kept, decoded."""
        chunks, self._head, self._head_size = self._head, [], 0
        self._tail = deque()
        for chunk in chunks:
            self._end_with(chunk)

    def _end_with(self, chunk: bytes) -> None:
        assert self._tail is not None
        data = self._decoded(chunk) if self._coded else chunk
        room = self._half - self._head_size
        if room > 0:
            self._head.append(data[:room])
            self._head_size += min(room, len(data))
            data = data[room:]
        if not data:
            return
        if len(data) > self._half:
            self._left_out += len(data) - self._half
            data = data[-self._half :]
        self._tail.append(data)
        self._tail_size += len(data)
        while self._tail_size - len(self._tail[0]) >= self._half:
            dropped = len(self._tail.popleft())
            self._tail_size -= dropped
            self._left_out += dropped

    def _decoded(self, chunk: bytes) -> bytes:
        if self._decoder is None:
            return b""
        try:
            return self._decoder.feed(chunk)
        except CodingError:
            self._decoder = None
            return b""
