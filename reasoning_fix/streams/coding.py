"""Content codings undone chunk by chunk, for our own reading: the bytes to the client stay as they are.

Sources: RFC 9110 section 8.4.1 (gzip, deflate), RFC 7932 (br), RFC 8878 (zstd). What a compressor flushed
comes out at once, so an event is seen before its chunk is forwarded. Output is bounded: a small body may
unfold to any size.
"""

import importlib
import zlib
from collections.abc import Callable
from typing import Protocol, cast

MAX_OUTPUT = 64 * 1024 * 1024


class CodingError(ValueError):
    """The body does not decompress, or unfolds to more than the bound."""


class Decoder(Protocol):
    """Undoes a coding. `feed` and `end` raise CodingError."""

    def feed(self, data: bytes) -> bytes: ...

    def end(self) -> bytes: ...


class _Zstd(Protocol):
    def decompress(self, data: bytes) -> bytes: ...


class _Brotli(Protocol):
    def process(self, data: bytes) -> bytes: ...


class _Identity:
    def feed(self, data: bytes) -> bytes:
        return data

    def end(self) -> bytes:
        return b""


class _Gzip:
    """gzip of one or more members; deflate with or without its zlib header."""

    def __init__(self, deflate: bool, max_output: int) -> None:
        self._deflate = deflate
        self._left = max_output
        self._head = b""
        self._inner = None if deflate else zlib.decompressobj(wbits=31)

    def feed(self, data: bytes) -> bytes:
        if self._inner is None:
            data = self._head + data
            if len(data) < 2:
                self._head = data
                return b""
            has_header = data[0] & 0x0F == 8 and (data[0] << 8 | data[1]) % 31 == 0
            self._inner = zlib.decompressobj(wbits=15 if has_header else -15)
        pieces = []
        try:
            while data:
                piece = self._inner.decompress(data, self._left + 1)
                self._left -= len(piece)
                if self._left < 0:
                    raise CodingError("the answer unfolds to too many bytes")
                pieces.append(piece)
                data = b""
                if self._inner.eof and not self._deflate and self._inner.unused_data.strip(b"\0"):
                    data = self._inner.unused_data
                    self._inner = zlib.decompressobj(wbits=31)
        except zlib.error as error:
            raise CodingError(f"the answer does not decompress ({error})") from None
        return b"".join(pieces)

    def end(self) -> bytes:
        return b""


class _Bounded:
    """A library's decompressor, its errors made ours and its output bounded."""

    def __init__(self, decompress: Callable[[bytes], bytes], max_output: int) -> None:
        self._decompress = decompress
        self._left = max_output

    def feed(self, data: bytes) -> bytes:
        pieces = []
        # Small steps keep one step's output small too, before the bound is looked at.
        for start in range(0, len(data), 65536):
            try:
                piece = self._decompress(data[start : start + 65536])
            except Exception as error:
                raise CodingError(f"the answer does not decompress ({error})") from None
            self._left -= len(piece)
            if self._left < 0:
                raise CodingError("the answer unfolds to too many bytes")
            pieces.append(piece)
        return b"".join(pieces)

    def end(self) -> bytes:
        return b""


class _Chain:
    def __init__(self, decoders: list[Decoder]) -> None:
        self._decoders = decoders

    def feed(self, data: bytes) -> bytes:
        for decoder in self._decoders:
            data = decoder.feed(data)
        return data

    def end(self) -> bytes:
        data = b""
        for decoder in self._decoders:
            data = decoder.feed(data) + decoder.end()
        return data


def decoder(content_encoding: str | None, max_output: int = MAX_OUTPUT) -> Decoder | None:
    """The decoder for a Content-Encoding header; None for a coding that is not known here."""
    decoders: list[Decoder] = []
    for name in reversed((content_encoding or "").lower().split(",")):
        one = _one(name.strip(), max_output)
        if one is None:
            return None
        decoders.append(one)
    return decoders[0] if len(decoders) == 1 else _Chain(decoders)


def _one(name: str, max_output: int) -> Decoder | None:
    match name:
        case "" | "identity":
            return _Identity()
        case "gzip" | "x-gzip":
            return _Gzip(False, max_output)
        case "deflate":
            return _Gzip(True, max_output)
        case "br":
            make_brotli = _find(("brotli", "brotlicffi"), "Decompressor")
            if make_brotli is None:
                return None
            return _Bounded(cast(_Brotli, make_brotli()).process, max_output)
        case "zstd":
            return _zstd(max_output)
        case _:
            return None


def _zstd(max_output: int) -> Decoder | None:
    """mitmproxy brings `zstandard` (12.2), `backports.zstd` (12.3) or uses Python's own (3.14)."""
    if make := _find(("compression.zstd", "backports.zstd"), "ZstdDecompressor"):
        return _Bounded(cast(_Zstd, make()).decompress, max_output)
    if make := _find(("zstandard",), "ZstdDecompressor"):
        make_object = cast(Callable[[], _Zstd], getattr(make(), "decompressobj"))  # noqa: B009
        return _Bounded(make_object().decompress, max_output)
    return None


def _find(modules: tuple[str, ...], name: str) -> Callable[[], object] | None:
    for module in modules:
        try:
            return cast(Callable[[], object], getattr(importlib.import_module(module), name))
        except (ImportError, AttributeError):
            continue
    return None
