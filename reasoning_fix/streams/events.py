"""Server-sent events: bytes in, `data` payloads out.

Rules: https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation. Lines end
with LF, CRLF or CR; a payload is handed out at the blank line that ends its event. A line that spans many
chunks is kept as fragments and joined once, else it would cost O(n squared). What comes out, faults included,
does not depend on how the bytes were split.
"""

import re

from reasoning_fix import ReasoningFixError

_BOM = b"\xef\xbb\xbf"
_LINE_END = re.compile(rb"\r\n|\n|\r")


class EventTooLong(ReasoningFixError, ValueError):
    """An event is longer than the reader may keep."""


class EventReader:
    """Reads one body, split at any byte.

    `max_event` bounds what is kept of an event, in bytes: its data so far, each line with its end, and the
    line that is being read (also one that will turn out to be a comment).
    """

    def __init__(self, max_event: int = 16 * 1024 * 1024) -> None:
        self._max_event = max_event
        self._fragments: list[bytes] = []
        self._fragments_size = 0
        self._data: list[bytes] = []
        self._data_size = 0
        self._after_cr = False
        self._head = b""
        self._begun = False
        self._is_too_long = False

    def feed(self, data: bytes) -> list[bytes]:
        """The payloads of the events that this chunk completes.

        Raises EventTooLong, then and in every later call; payloads that came before it are handed out first.
        """
        if not self._begun:
            data = self._strip_bom(data)
        if self._after_cr and data:
            # The LF of a CRLF that was split between two chunks ends no second line.
            self._after_cr = False
            if data[:1] == b"\n":
                data = data[1:]
        if data[-1:] == b"\r":
            self._after_cr = True
        # Few streams use CR at all, and a split at LF alone takes a fraction of the time.
        return self._take(_LINE_END.split(data) if b"\r" in data else data.split(b"\n"))

    @property
    def pending(self) -> bytes:
        """What came of an event that is not whole yet, a comment included."""
        return b"\n".join((*self._data, b"".join(self._fragments)))

    def end(self) -> list[bytes]:
        """At the end of the body: the payload of an event whose blank line never came."""
        return self._take([b"", b"", b""])

    def _strip_bom(self, data: bytes) -> bytes:
        # Shorter ones hold no event, so nothing comes late for having waited.
        data = self._head + data
        if len(data) < len(_BOM):
            self._head = data
            return b""
        self._begun = True
        return data.removeprefix(_BOM)

    def _take(self, lines: list[bytes]) -> list[bytes]:
        """Take whole lines and, as the last one, the begin of a line whose end is yet to come."""
        payloads: list[bytes] = []
        if not self._is_too_long:
            try:
                self._read(lines, payloads)
            except EventTooLong:
                self._is_too_long = True
                self._fragments, self._data = [], []
        if self._is_too_long and not payloads:
            raise EventTooLong(f"an event is longer than {self._max_event} bytes")
        return payloads

    def _read(self, lines: list[bytes], payloads: list[bytes]) -> None:
        rest = lines.pop()
        if lines and self._fragments:
            lines[0] = b"".join((*self._fragments, lines[0]))
            self._fragments, self._fragments_size = [], 0
        for line in lines:
            if line.startswith(b"data: ") and not self._data and len(line) <= self._max_event:
                # As nearly all events are: two calls less.
                self._data.append(line[6:])
                self._data_size = len(line) - 5
            elif line:
                self._line(line)
            elif self._data:
                payloads.append(self._data[0] if len(self._data) == 1 else b"\n".join(self._data))
                self._data, self._data_size = [], 0
        if rest:
            self._fragments.append(rest)
            self._fragments_size += len(rest)
            self._bound(self._fragments_size)

    def _line(self, line: bytes) -> None:
        self._bound(len(line))
        if line.startswith(b"data:"):
            value = line[6:] if line[5:6] == b" " else line[5:]
        elif line == b"data":
            value = b""
        else:
            return
        self._data.append(value)
        self._data_size += len(value) + 1

    def _bound(self, line_size: int) -> None:
        if self._data_size + line_size > self._max_event:
            raise EventTooLong
