"""Server-sent events: bytes in, `data` payloads out.

Rules: https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation. Lines end
with LF, CRLF or CR; a payload is handed out at the blank line that ends its event. A line that spans many
chunks is kept as fragments and joined once, else it would cost O(n squared).
"""

import re

_BOM = b"\xef\xbb\xbf"
_LINE_END = re.compile(rb"\r\n|\n|\r")


class EventTooLong(ValueError):
    """An event is longer than the reader may keep."""


class EventReader:
    """Reads one body, split at any byte. `max_event` bounds what is kept, in bytes."""

    def __init__(self, max_event: int = 16 * 1024 * 1024) -> None:
        self._max_event = max_event
        self._fragments: list[bytes] = []
        self._fragments_size = 0
        self._data: list[bytes] = []
        self._data_size = 0
        self._after_cr = False
        self._head = b""
        self._begun = False

    def feed(self, data: bytes) -> list[bytes]:
        """The payloads of the events that this chunk completes. Raises EventTooLong."""
        if not data:
            return []
        if not self._begun:
            data = self._strip_bom(data)
        if self._after_cr and data:
            # The LF of a CRLF that was split between two chunks ends no second line.
            self._after_cr = False
            if data[:1] == b"\n":
                data = data[1:]
        payloads: list[bytes] = []
        start = 0
        for end in _LINE_END.finditer(data):
            line = data[start : end.start()]
            start = end.end()
            if self._fragments:
                line = b"".join((*self._fragments, line))
                self._fragments = []
                self._fragments_size = 0
            self._line(line, payloads)
        if data[-1:] == b"\r":
            self._after_cr = True
        if start < len(data):
            self._fragments.append(data[start:])
            self._fragments_size += len(data) - start
            self._bound()
        return payloads

    def end(self) -> list[bytes]:
        """At the end of the body: the payload of an event whose blank line never came."""
        payloads: list[bytes] = []
        rest = self._head + b"".join(self._fragments)
        self._head, self._fragments, self._fragments_size = b"", [], 0
        if rest:
            self._line(rest, payloads)
        self._line(b"", payloads)
        return payloads

    def _strip_bom(self, data: bytes) -> bytes:
        data = self._head + data
        self._head = b""
        if len(data) < len(_BOM) and _BOM.startswith(data):
            self._head = data
            return b""
        self._begun = True
        return data.removeprefix(_BOM)

    def _line(self, line: bytes, payloads: list[bytes]) -> None:
        if not line:
            if self._data:
                payloads.append(self._data[0] if len(self._data) == 1 else b"\n".join(self._data))
                self._data = []
                self._data_size = 0
            return
        if line.startswith(b"data:"):
            value = line[6:] if line[5:6] == b" " else line[5:]
        elif line == b"data":
            value = b""
        else:
            return
        self._data.append(value)
        self._data_size += len(value)
        self._bound()

    def _bound(self) -> None:
        if self._fragments_size + self._data_size > self._max_event:
            raise EventTooLong(f"an event is longer than {self._max_event} bytes")
