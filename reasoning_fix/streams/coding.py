"""Content codings undone chunk by chunk, for our own reading: the bytes to the client stay as they are.

Sources: RFC 9110 section 8.4.1 (gzip, deflate), RFC 7932 (br), RFC 8878 and RFC 9659 (zstd). What a
compressor flushed comes out at once, so an event is seen before its chunk is forwarded. Output is bounded,
and so is what one step may unfold to before the bound is looked at: 500 bytes of br can hold 300 MB.
"""

import importlib
import zlib
from collections.abc import Callable
from typing import Any, Protocol

from reasoning_fix import ReasoningFixError

MAX_OUTPUT = 64 * 1024 * 1024
# More codings on one body than anyone has a use for.
_MAX_CODINGS = 4
# RFC 9659: a zstd content coding needs a window of at most 8 MB.
_ZSTD_WINDOW_LOG = 23
# 4 bytes of zstd can hold a block of 128 KB, so one step can hold 8 MB.
_ZSTD_STEP = 256
# What a further gzip member, a further zstd frame begins with (RFC 1952; RFC 8878, 3.1 with skippable ones).
_GZIP_BEGINS = b"\x1f"
_ZSTD_BEGINS = b"\x28" + bytes(range(0x50, 0x60))


class CodingError(ReasoningFixError, ValueError):
    """The body does not decompress, or unfolds to more than the bound."""


class Decoder(Protocol):
    """Undoes a coding. `feed` raises CodingError. A body that is cut gives what could be read.

    Nothing is held back for the end: `end` is there for a coding that has to.
    """

    def feed(self, data: bytes) -> bytes: ...

    def end(self) -> bytes: ...


class _Decompressor(Protocol):
    """One member or frame, as zlib and Python's zstd have it. `max_length` bytes or a little more come out;
    all input is consumed unless they are reached.
    """

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Bounded:
    """One member after the other, the library's errors made ours and the output bounded.

    `begins` are the first bytes that a further member may have; anything else after the first one is ignored,
    as gzip(1) and browsers do, and never kept.
    """

    def __init__(self, make: Callable[[], _Decompressor], max_output: int, begins: bytes = b"") -> None:
        self._make = make
        self._begins = begins
        self._left = max_output
        self._inner: _Decompressor | None = make()
        self._between = False

    def feed(self, data: bytes) -> bytes:
        pieces = []
        while data and self._inner is not None:
            if self._between:
                data = data.lstrip(b"\0")
                if not data:
                    break
                self._between = False
                self._inner = self._make() if data[0] in self._begins else None
                continue
            try:
                piece = self._inner.decompress(data, self._left + 1)
            except Exception as error:
                raise CodingError(f"the answer does not decompress ({error})") from None
            self._left -= len(piece)
            if self._left < 0:
                raise CodingError("the answer unfolds to too many bytes")
            pieces.append(piece)
            self._between = self._inner.eof
            data = self._inner.unused_data if self._between else b""
        return b"".join(pieces)

    def end(self) -> bytes:
        return b""


class _Deflate:
    """deflate with or without its zlib header: both are sent (RFC 9110, 8.4.1.2)."""

    eof = False
    unused_data = b""

    def __init__(self) -> None:
        self._head = b""
        self._inner: _Decompressor | None = None

    def decompress(self, data: bytes, max_length: int) -> bytes:
        if self._inner is None:
            data = self._head + data
            if len(data) < 2:
                self._head = data
                return b""
            has_header = data[0] & 0x0F == 8 and (data[0] << 8 | data[1]) % 31 == 0
            self._inner = zlib.decompressobj(wbits=15 if has_header else -15)
        piece = self._inner.decompress(data, max_length)
        self.eof = self._inner.eof
        return piece


class _Brotli:
    unused_data = b""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.eof = False

    def decompress(self, data: bytes, max_length: int) -> bytes:
        piece: bytes = self._inner.process(data, output_buffer_limit=max_length)
        self.eof = self._inner.is_finished()
        return piece


class _Stepwise:
    """A library without a bound on the output of one call: small steps keep it small."""

    def __init__(
        self,
        step: int,
        work: Callable[[bytes], bytes],
        is_done: Callable[[], bool],
        left: Callable[[], bytes],
    ) -> None:
        self._step = step
        self._work = work
        self._is_done = is_done
        self._left = left
        self.eof = False
        self.unused_data = b""

    def decompress(self, data: bytes, max_length: int) -> bytes:
        pieces = []
        size = 0
        for start in range(0, len(data), self._step):
            piece = self._work(data[start : start + self._step])
            pieces.append(piece)
            size += len(piece)
            self.eof = self._is_done()
            if self.eof:
                self.unused_data = self._left() + data[start + self._step :]
            if self.eof or size >= max_length:
                break
        return b"".join(pieces)


class _Chain:
    """Codings one over the other; none of them is identity."""

    def __init__(self, decoders: list[Decoder]) -> None:
        self._decoders = decoders

    def feed(self, data: bytes) -> bytes:
        for decoder in self._decoders:
            data = decoder.feed(data)
        return data

    def end(self) -> bytes:
        return b""


def decoder(content_encoding: str | None, max_output: int = MAX_OUTPUT) -> Decoder | None:
    """The decoder for a Content-Encoding header; None for a coding that is not known here."""
    names = [name.strip() for name in (content_encoding or "").lower().split(",")]
    if len(names) > _MAX_CODINGS:
        return None
    decoders: list[Decoder] = []
    for name in reversed(names):
        if name in ("", "identity"):
            continue
        one = _one(name, max_output)
        if one is None:
            return None
        decoders.append(one)
    return decoders[0] if len(decoders) == 1 else _Chain(decoders)


def _one(name: str, max_output: int) -> Decoder | None:
    match name:
        case "gzip" | "x-gzip":
            return _Bounded(lambda: zlib.decompressobj(wbits=31), max_output, _GZIP_BEGINS)
        case "deflate":
            return _Bounded(_Deflate, max_output)
        case "br":
            make = _brotli()
            return make and _Bounded(make, max_output)
        case "zstd":
            make = _zstd()
            return make and _Bounded(make, max_output, _ZSTD_BEGINS)
        case _:
            return None


def _brotli() -> Callable[[], _Decompressor] | None:
    """mitmproxy brings `brotli`; 12.2.0 has one of before 1.2, where output could not be bounded."""
    module = _find("brotli")
    if module is None:
        return None
    if hasattr(module.Decompressor, "can_accept_more_data"):
        return lambda: _Brotli(module.Decompressor())

    def old() -> _Decompressor:
        # One byte may hold 16 MB, and what follows the end is refused: so byte by byte, a microsecond each.
        inner = module.Decompressor()
        return _Stepwise(1, inner.process, inner.is_finished, bytes)

    return old


def _zstd() -> Callable[[], _Decompressor] | None:
    """mitmproxy brings `zstandard` (12.2), `backports.zstd` (12.3) or uses Python's own (3.14)."""
    if module := _find("compression.zstd", "backports.zstd"):
        options = {module.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG}
        return lambda: module.ZstdDecompressor(options=options)
    if module := _find("zstandard"):
        opener = module.ZstdDecompressor(max_window_size=1 << _ZSTD_WINDOW_LOG)

        def made() -> _Decompressor:
            inner = opener.decompressobj()
            return _Stepwise(_ZSTD_STEP, inner.decompress, lambda: inner.eof, lambda: inner.unused_data)

        return made
    return None


def _find(*names: str) -> Any:
    for name in names:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None
