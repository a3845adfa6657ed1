"""Bytes in, values out: what event streams and content codings give, however their bytes are cut."""

import contextlib
import gzip
import itertools
import sys
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterable
from types import SimpleNamespace

import brotli
import pytest
import zstandard
from hypothesis import example, given
from hypothesis import strategies as st

from reasoning_fix.streams.coding import CodingError, decoder
from reasoning_fix.streams.events import EventReader, EventTooLong

BOM = b"\xef\xbb\xbf"

# ---- Server-sent events ----------------------------------------------------------------------------------


def payloads(chunks: Iterable[bytes], end: bool = True) -> list[bytes]:
    reader = EventReader()
    found = [payload for chunk in chunks for payload in reader.feed(chunk)]
    return found + (reader.end() if end else [])


def cut(body: bytes, places: Iterable[int]) -> list[bytes]:
    """The body in pieces, cut at these places (taken modulo its length); some pieces may be empty."""
    edges = [0, *sorted(place % (len(body) + 1) for place in places), len(body)]
    return [body[a:b] for a, b in itertools.pairwise(edges)]


def each_byte(body: bytes) -> list[bytes]:
    return [body[i : i + 1] for i in range(len(body))]


def interpreted(body: bytes) -> list[bytes]:
    """The standard's own steps, one byte at a time: the reader is compared with this."""
    body = body.removeprefix(BOM)
    lines: list[bytes] = []
    line, at = b"", 0
    while at < len(body):
        if body[at : at + 2] == b"\r\n":
            lines, line, at = [*lines, line], b"", at + 2
        elif body[at : at + 1] in (b"\r", b"\n"):
            lines, line, at = [*lines, line], b"", at + 1
        else:
            line, at = line + body[at : at + 1], at + 1
    found: list[bytes] = []
    buffer: bytes | None = None
    for text in [*lines, line, b""]:
        if text == b"":
            if buffer is not None:
                found.append(buffer[:-1])
            buffer = None
            continue
        name, _, value = text.partition(b":")
        if name == b"data":
            buffer = (buffer or b"") + (value[1:] if value[:1] == b" " else value) + b"\n"
    return found


EVENTS: dict[str, tuple[bytes, list[bytes]]] = {
    "nothing": (b"", []),
    "one event": (b"data: x\n\n", [b"x"]),
    "LF": (b"data: x\n\ndata: y\n\n", [b"x", b"y"]),
    "CRLF": (b"data: x\r\n\r\ndata: y\r\n\r\n", [b"x", b"y"]),
    "CR": (b"data: x\r\rdata: y\r\r", [b"x", b"y"]),
    "CR then LF make one line end": (b"data: x\r\ndata: y\r\n\r\n", [b"x\ny"]),
    "LF then CR make two": (b"data: x\n\rdata: y\n\r", [b"x", b"y"]),
    "CR, CRLF make two": (b"data: x\r\r\ndata: y\r\r\n", [b"x", b"y"]),
    "CRLF, CR make two": (b"data: x\r\n\rdata: y\n\n", [b"x", b"y"]),
    "a mix in one event": (b"data: a\rdata: b\ndata: c\r\ndata: d\n\r\n", [b"a\nb\nc\nd"]),
    "lines of an event are joined with LF": (b"data: a\ndata: b\n\n", [b"a\nb"]),
    "multi-line JSON": (b'data: {"a":\r\ndata: 1}\r\n\r\n', [b'{"a":\n1}']),
    "no space after the colon": (b"data:x\n\n", [b"x"]),
    "one space is taken off, no more": (b"data:  x \n\n", [b" x "]),
    "a tab is data": (b"data:\tx\n\n", [b"\tx"]),
    "colons in the value": (b"data: a: b:c\n\n", [b"a: b:c"]),
    "an empty data line": (b"data:\n\n", [b""]),
    "an empty data line with a space": (b"data: \n\n", [b""]),
    "data without a colon": (b"data\n\n", [b""]),
    "empty data lines": (b"data\ndata:\ndata: \n\n", [b"\n\n"]),
    "an empty line within the data": (b"data: a\ndata:\ndata: b\n\n", [b"a\n\nb"]),
    "a comment": (b": keep-alive\n\ndata: x\n\n", [b"x"]),
    "a comment within an event": (b"data: a\n: OPENROUTER PROCESSING\ndata: b\n\n", [b"a\nb"]),
    "only a colon": (b":\ndata: x\n\n", [b"x"]),
    "other fields": (b"event: delta\nid: 7\nretry: 10\ndata: x\n\n", [b"x"]),
    "an event without data": (b"event: ping\n\ndata: x\n\n", [b"x"]),
    "names that only begin with data": (b"database: x\ndata2: y\ndataset\n\n", []),
    "another case": (b"Data: x\nDATA: y\n\n", []),
    "a space before the name": (b" data: x\n\n", []),
    "a space before the colon": (b"data : x\n\n", []),
    "blank lines only": (b"\n\n\r\n\r\r\n", []),
    "blank lines between events": (b"data: x\n\n\n\n\r\ndata: y\n\n", [b"x", b"y"]),
    "no last blank line": (b"data: x\n\ndata: [DONE]\n", [b"x", b"[DONE]"]),
    "no last line end": (b"data: x\n\ndata: [DONE]", [b"x", b"[DONE]"]),
    "a CR at the very end": (b"data: x\r", [b"x"]),
    "a field other than data at the end": (b"data: x\nevent: e", [b"x"]),
    "NUL and bytes that are not UTF-8": (b"data: \0\xff\xfe\n\n", [b"\0\xff\xfe"]),
    "other Unicode line ends are data": (
        "data: a\u2028b\u0085c\x0b\n\n".encode(),
        ["a\u2028b\u0085c\x0b".encode()],
    ),
    "BOM before a data line": (BOM + b"data: x\n\n", [b"x"]),
    "BOM before a comment": (BOM + b": hi\ndata: x\n\n", [b"x"]),
    "BOM before a blank line": (BOM + b"\ndata: x\n\n", [b"x"]),
    "BOM alone": (BOM, []),
    "the begin of a BOM": (BOM[:2], []),
    "a begin of a BOM that goes on otherwise": (BOM[:2] + b"data: x\ndata: y\n\n", [b"y"]),
    "two BOMs": (BOM + BOM + b"data: x\n\n", []),
    "BOM before a later line hides its name": (b"data: x\n\n" + BOM + b"data: y\n\n", [b"x"]),
    "BOM in the value": (b"data: " + BOM + b"x\n\n", [BOM + b"x"]),
    "BOM as the whole value": (b"data:" + BOM + b"\n\n", [BOM]),
}


@pytest.mark.parametrize(("body", "expected"), EVENTS.values(), ids=EVENTS)
def test_events(body: bytes, expected: list[bytes]) -> None:
    assert interpreted(body) == expected
    assert payloads([body]) == expected
    assert payloads(each_byte(body)) == expected
    for first in range(len(body) + 1):
        for second in range(first, len(body) + 1):
            assert payloads([body[:first], body[first:second], body[second:]]) == expected


PIECES = st.sampled_from(
    [
        b"data:",
        b"data",
        b"data: ",
        b":",
        b" ",
        b"x",
        b"event: e",
        b"\r",
        b"\n",
        b"\r\n",
        b"\n\n",
        BOM,
        BOM[:1],
    ]
)
BODIES = st.lists(PIECES, max_size=30).map(b"".join) | st.binary(max_size=60)
CUTS = st.lists(st.integers(0, 10**6), max_size=8)


@given(BODIES, CUTS)
@example(b"data: a\r\ndata: b\r\n\r\n", [8])
@example(BOM + b"data: x\n\n", [1, 2, 3])
def test_any_split_of_any_bytes_gives_what_the_standard_says(body: bytes, places: list[int]) -> None:
    expected = interpreted(body)
    assert payloads([body]) == expected
    assert payloads(cut(body, places)) == expected


@given(st.lists(st.text(alphabet=st.characters(exclude_categories=["Cs"])), max_size=8), CUTS)
def test_whatever_is_sent_as_events_arrives(texts: list[str], places: list[int]) -> None:
    sent = ["\n".join(text.splitlines()) for text in texts]
    lines = [b"".join(b"data: %b\n" % line.encode() for line in text.split("\n")) for text in sent]
    assert payloads(cut(b"\n".join([*lines, b""]), places)) == [text.encode() for text in sent]


def test_an_event_is_handed_out_with_the_byte_that_ends_it() -> None:
    for body in (b"data: x\n\n", b"data: x\r\r", b"data: x\r\n\r"):
        reader = EventReader()
        assert [reader.feed(byte) for byte in each_byte(body)] == [[]] * (len(body) - 1) + [[b"x"]]


def test_an_event_whose_blank_line_is_missing_waits_for_the_end() -> None:
    reader = EventReader()
    assert reader.feed(b"data: x\n") == []
    assert reader.end() == [b"x"]
    assert reader.end() == []


def outcome(chunks: Iterable[bytes], limit: int) -> tuple[list[bytes], bool]:
    """The payloads up to the end or to EventTooLong, and whether that was raised."""
    reader = EventReader(limit)
    found: list[bytes] = []
    try:
        for chunk in chunks:
            found += reader.feed(chunk)
        found += reader.end()
    except EventTooLong:
        # It stays so, whatever comes.
        for again in (lambda: reader.feed(b""), lambda: reader.feed(b"data: x\n\n"), reader.end):
            with pytest.raises(EventTooLong, match=f"longer than {limit} bytes"):
                again()
        return found, True
    return found, False


LIMITS: dict[str, tuple[bytes, int]] = {
    "one line, its name too": (b"data: 12345678\n\n", 14),
    "a line without an end": (b"data: 12345678", 14),
    "two lines: data, its line end, the line that is read": (b"data: 1234\ndata: 1234\n\n", 15),
    "empty data lines": (b"data\n" * 8 + b"\n", 7 + 4),
    "a comment": (b":1234567890\n\n", 11),
    "a comment within an event": (b"data: 1234\n:67890123\n\n", 5 + 9),
    "CRLF": (b"data: 1234\r\ndata: 1234\r\n\r\n", 15),
    "a BOM does not count": (BOM + b"data: 12345678\n\n", 14),
    "each event by itself": (b"data: 12345678\n\n" * 3, 14),
}


@pytest.mark.parametrize(("body", "size"), LIMITS.values(), ids=LIMITS)
def test_the_bound_on_an_event_is_exact(body: bytes, size: int) -> None:
    for chunks in ([body], each_byte(body)):
        assert outcome(chunks, size) == (interpreted(body), False)
        assert outcome(chunks, size - 1)[1]


@given(BODIES, CUTS, st.integers(1, 24))
def test_any_split_meets_the_bound_at_the_same_event(body: bytes, places: list[int], limit: int) -> None:
    assert outcome(cut(body, places), limit) == outcome([body], limit)


def test_a_too_long_line_is_noticed_at_the_very_byte() -> None:
    for before in (b"", b"data: a\n\n", b": comment\n"):
        reader = EventReader(14)
        for byte in each_byte(before + b"data: 12345678"):
            reader.feed(byte)
        with pytest.raises(EventTooLong):
            reader.feed(b"9")


def test_what_came_before_a_too_long_event_is_handed_out() -> None:
    body = b"data: a\n\ndata: b\n\ndata: " + b"x" * 100 + b"\n\ndata: c\n\n"
    assert outcome([body], 50) == ([b"a", b"b"], True)


def test_a_too_long_event_is_let_go() -> None:
    for line in (b"data: " + b"x" * 1000, b"data: " + b"x" * 1000 + b"\n"):
        tracemalloc.start()
        try:
            reader = EventReader(2_000_000)
            with pytest.raises(EventTooLong):
                for _ in range(4000):
                    reader.feed(bytes(bytearray(line)))
            assert tracemalloc.get_traced_memory()[1] > 1_500_000
            assert tracemalloc.get_traced_memory()[0] < 100_000
        finally:
            tracemalloc.stop()
        with pytest.raises(EventTooLong):
            reader.end()


def test_events_that_have_gone_by_are_let_go() -> None:
    reader = EventReader()
    tracemalloc.start()
    try:
        for _ in range(2000):
            reader.feed(b"data: " + b"x" * 1000)
            reader.feed(b"\ndata: y\n\n: z\n")
        assert tracemalloc.get_traced_memory()[0] < 100_000
    finally:
        tracemalloc.stop()


SHAPES: dict[str, Callable[[int], list[bytes]]] = {
    "one line in many pieces": lambda n: [b"data: ", *[b"x" * 1000] * n, b"\n\n"],
    "one event of many lines": lambda n: [b"data: " + b"x" * 1000 + b"\n"] * n + [b"\n"],
    "many events in one chunk": lambda n: [b"data: x\n\n" * (20 * n)],
    "many events, CRLF, in one chunk": lambda n: [b"data: x\r\n\r\n" * (20 * n)],
    "one long comment": lambda n: [b":", *[b"x" * 1000] * n, b"\n\n"],
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_cost_grows_with_the_bytes_only(shape: Callable[[int], list[bytes]]) -> None:
    """1 MB in 1,000 pieces, then four times that: quadratic work would take sixteen times as long."""

    def seconds(chunks: list[bytes]) -> float:
        best = 1e9
        for _ in range(5):
            began = time.process_time()
            payloads(chunks)
            best = min(best, time.process_time() - began)
        return best

    assert seconds(shape(4000)) < 10 * seconds(shape(1000)) + 0.002


# ---- Content codings -------------------------------------------------------------------------------------

type Piecewise = Callable[[list[bytes]], list[bytes]]

EVENT_TEXTS = [b"data: %d %b\n\n" % (i, b"thought " * (i % 7)) for i in range(40)]
PLAIN = b"".join(EVENT_TEXTS)


def zlib_pieces(wbits: int, mode: int = zlib.Z_SYNC_FLUSH) -> Piecewise:
    def compress(pieces: list[bytes]) -> list[bytes]:
        maker = zlib.compressobj(wbits=wbits)
        return [maker.compress(piece) + maker.flush(mode) for piece in pieces] + [maker.flush()]

    return compress


def brotli_pieces(pieces: list[bytes]) -> list[bytes]:
    maker = brotli.Compressor()
    return [maker.process(piece) + maker.flush() for piece in pieces] + [maker.finish()]


def zstd_pieces(pieces: list[bytes]) -> list[bytes]:
    maker = zstandard.ZstdCompressor().compressobj()
    flushed = [maker.compress(p) + maker.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK) for p in pieces]
    return [*flushed, maker.flush()]


def members(compress: Callable[[bytes], bytes], between: bytes = b"") -> Piecewise:
    return lambda pieces: [compress(piece) + between for piece in pieces]


def skippable(pieces: list[bytes]) -> list[bytes]:
    return [b"\x5a\x2a\x4d\x18\x03\0\0\0abc" + zstandard.compress(piece) for piece in pieces]


def chain(*codings: Piecewise) -> Piecewise:
    def compress(pieces: list[bytes]) -> list[bytes]:
        for coding in codings:
            pieces = coding(pieces)
        return pieces

    return compress


GZIP, DEFLATE, RAW_DEFLATE = zlib_pieces(31), zlib_pieces(15), zlib_pieces(-15)

CODINGS: dict[str, tuple[str, Piecewise]] = {
    "none": ("", list),
    "identity": ("identity", list),
    "gzip": ("gzip", GZIP),
    "gzip, fully flushed": ("gzip", zlib_pieces(31, zlib.Z_FULL_FLUSH)),
    "x-gzip": ("x-gzip", GZIP),
    "any case": ("GZip", GZIP),
    "a gzip member for each event": ("gzip", members(gzip.compress)),
    "gzip members padded with zeros": ("gzip", members(gzip.compress, b"\0\0\0")),
    "deflate": ("deflate", DEFLATE),
    "deflate with a small window": ("deflate", zlib_pieces(9)),
    "raw deflate": ("deflate", RAW_DEFLATE),
    "br": ("br", brotli_pieces),
    "zstd": ("zstd", zstd_pieces),
    "a zstd frame for each event": ("zstd", members(zstandard.compress)),
    "zstd with skippable frames": ("zstd", skippable),
    "gzip, then br": ("gzip, br", chain(GZIP, brotli_pieces)),
    "br, then gzip": ("br,gzip", chain(brotli_pieces, GZIP)),
    "gzip and identity": ("identity, gzip", GZIP),
    "an empty place in the list": (" gzip ,", GZIP),
    "all of them": ("deflate, zstd, br, gzip", chain(DEFLATE, zstd_pieces, brotli_pieces, GZIP)),
}
PLAIN_CODINGS = {name: CODINGS[name] for name in ("gzip", "deflate", "br", "zstd")}
LIBRARIES = ["zstandard", "compression.zstd", "backports.zstd"]
OLD_BROTLI = "brotli before 1.2"


class OldDecompressor:
    """`brotli.Decompressor` as mitmproxy 12.2.0 brings it: no bound, and nothing may follow the end."""

    def __init__(self) -> None:
        self._inner = brotli.Decompressor()

    def process(self, data: bytes) -> bytes:
        if self.is_finished():
            raise brotli.error("BrotliDecoderDecompressStream failed while processing the stream")
        piece: bytes = self._inner.process(data)
        return piece

    def is_finished(self) -> bool:
        return bool(self._inner.is_finished())


def by_library[Case](cases: dict[str, tuple[str, Case]]) -> pytest.MarkDecorator:
    """Each case, and those with zstd or br once for each module that it may come from."""
    rows = []
    for title, (name, case) in cases.items():
        libraries = LIBRARIES if "zstd" in name else LIBRARIES[:1]
        rows += [
            pytest.param(name, case, library, id=f"{title} ({library})" if "zstd" in name else title)
            for library in libraries
        ]
        if "br" in name:
            rows.append(pytest.param(name, case, OLD_BROTLI, id=f"{title} ({OLD_BROTLI})"))
    return pytest.mark.parametrize(("name", "case", "library"), rows)


def only(monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    """Leave this module as the only one for zstd there is, or for br."""
    if library == OLD_BROTLI:
        monkeypatch.setitem(sys.modules, "brotli", SimpleNamespace(Decompressor=OldDecompressor))
        return
    pytest.importorskip(library)
    for other in LIBRARIES:
        if other != library:
            monkeypatch.setitem(sys.modules, other, None)


def decoded(name: str, chunks: Iterable[bytes]) -> bytes:
    undo = decoder(name)
    assert undo is not None
    return b"".join(map(undo.feed, chunks)) + undo.end()


@by_library(CODINGS)
def test_each_event_is_readable_as_soon_as_its_bytes_are_there(
    name: str, case: Piecewise, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch, library)
    for split in (lambda piece: [piece], each_byte):
        undo = decoder(name)
        assert undo is not None
        for piece, event in zip(case(EVENT_TEXTS), [*EVENT_TEXTS, b""], strict=False):
            assert b"".join(map(undo.feed, split(piece))) == event
        assert undo.end() == b""
    assert decoded(name, [b"".join(case(EVENT_TEXTS))]) == PLAIN


@pytest.mark.parametrize(("name", "compress"), CODINGS.values(), ids=CODINGS)
@given(places=CUTS, pieces=st.lists(st.binary(max_size=200), min_size=1, max_size=4))
def test_any_split_of_a_coded_body_gives_the_same(
    name: str, compress: Piecewise, places: list[int], pieces: list[bytes]
) -> None:
    body = b"".join(compress(pieces))
    assert decoded(name, [body]) == b"".join(pieces)
    assert decoded(name, cut(body, places)) == b"".join(pieces)


@pytest.mark.parametrize(("name", "compress"), CODINGS.values(), ids=CODINGS)
def test_a_body_that_is_cut_gives_a_begin_of_the_whole(name: str, compress: Piecewise) -> None:
    body = b"".join(compress(EVENT_TEXTS))
    for end in range(0, len(body), max(1, len(body) // 150)):
        assert PLAIN.startswith(decoded(name, [body[:end]]))
    assert decoded(name, []) == b""


def test_raw_deflate_that_begins_almost_like_zlib() -> None:
    """A stored block whose padding bits are not zero: only the header's check digits tell."""
    assert decoded("deflate", [b"\x08\x05\x00\xfa\xffhello\x03\x00"]) == b"hello"


def test_codings_that_are_not_known_are_no_decoder() -> None:
    for name in ("compress", "gzip2", "dcb", "gzip, compress", "compress, gzip", "*", "gzip;q=1"):
        assert decoder(name) is None
    assert decoder(None) is not None
    assert decoder(", ".join(["gzip"] * 4)) is not None
    assert decoder(", ".join(["gzip"] * 5)) is None, "each would take memory"


@by_library(PLAIN_CODINGS)
def test_garbage_is_a_coding_error(
    name: str, case: Piecewise, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch, library)
    for garbage in (b"data: not compressed at all\n\n", b"\xff" * 40):
        for chunks in ([garbage], each_byte(garbage)):
            with pytest.raises(CodingError, match="does not decompress"):
                decoded(name, chunks)


@pytest.mark.parametrize("name", ["gzip", "deflate", "br", "zstd"])
@given(garbage=st.binary(max_size=100), places=CUTS)
def test_any_bytes_are_a_body_or_a_coding_error(name: str, garbage: bytes, places: list[int]) -> None:
    for chunks in ([garbage], cut(garbage, places)):
        with contextlib.suppress(CodingError):
            decoded(name, chunks)


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("gzip", gzip.compress(PLAIN)),
        ("deflate", zlib.compress(PLAIN)),
        ("deflate", b"".join(RAW_DEFLATE([PLAIN]))),
        ("zstd", zstandard.compress(PLAIN)),
    ],
    ids=["gzip", "deflate", "raw deflate", "zstd"],
)
def test_what_follows_a_whole_body_is_ignored_and_not_kept(name: str, body: bytes) -> None:
    for rest in (b"\0" * 8, b"x", b"\0\0x\x1f\x8b", b"<html>"):
        for chunks in ([body + rest], [body, rest], each_byte(body + rest)):
            assert decoded(name, chunks) == PLAIN
    undo = decoder(name)
    assert undo is not None
    undo.feed(body)
    for filler in (b"\0", b"x"):
        tracemalloc.start()
        try:
            for _ in range(200):
                assert undo.feed(filler * 10_000) == b""
            assert tracemalloc.get_traced_memory()[0] < 100_000
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("library", ["zstandard", OLD_BROTLI])
def test_bytes_after_a_whole_br_body_are_no_part_of_it(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, library)
    body = brotli.compress(PLAIN)
    assert decoded("br", [body, b"x", b"y"]) == PLAIN


def test_a_second_member_that_is_broken_is_a_coding_error() -> None:
    for chunks in ([gzip.compress(b"a") + b"\x1fnot gzip"], [gzip.compress(b"a"), b"\x1f", b"not gzip"]):
        with pytest.raises(CodingError):
            decoded("gzip", chunks)


HUGE = 100_000_000
BOMBS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "gzip": ("gzip", lambda: gzip.compress(bytes(HUGE))),
    "deflate": ("deflate", lambda: zlib.compress(bytes(HUGE))),
    "raw deflate": ("deflate", lambda: b"".join(RAW_DEFLATE([bytes(HUGE)]))),
    "br": ("br", lambda: brotli.compress(bytes(HUGE), quality=5)),
    "zstd": ("zstd", lambda: zstandard.compress(bytes(HUGE))),
    "gzip of gzip": ("gzip, gzip", lambda: gzip.compress(gzip.compress(bytes(HUGE)))),
    "many gzip members": ("gzip", lambda: gzip.compress(bytes(1_000_000)) * 100),
    "many zstd frames": ("zstd", lambda: zstandard.compress(bytes(1_000_000)) * 100),
}


@by_library(BOMBS)
def test_a_decompression_bomb_is_bounded(
    name: str, case: Callable[[], bytes], library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch, library)
    body = case()
    undo = decoder(name, max_output=1_000_000)
    assert undo is not None
    tracemalloc.start()
    try:
        with pytest.raises(CodingError, match="too many bytes"):
            for start in range(0, len(body), 65536):
                undo.feed(body[start : start + 65536])
        # One step of `zstandard` may give 8 MB, one of old brotli 16; the joined output stands beside its
        # pieces for a moment.
        assert tracemalloc.get_traced_memory()[1] < 40_000_000
    finally:
        tracemalloc.stop()


@by_library(PLAIN_CODINGS)
def test_the_bound_on_the_output_is_exact(
    name: str, case: Piecewise, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch, library)
    body = b"".join(case([PLAIN]))
    for chunks in ([body], each_byte(body)):
        undo = decoder(name, max_output=len(PLAIN))
        assert undo is not None
        assert b"".join(map(undo.feed, chunks)) == PLAIN
        undo = decoder(name, max_output=len(PLAIN) - 1)
        assert undo is not None
        with pytest.raises(CodingError, match="too many bytes"):
            list(map(undo.feed, chunks))


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_zstd_frame_that_wants_a_large_window_is_refused(
    library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RFC 9659 allows 8 MB: a frame of ten bytes could claim 128 MB."""
    only(monkeypatch, library)
    for log, fits in ((23, True), (24, False)):
        parameters = zstandard.ZstdCompressionParameters(window_log=log)
        maker = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
        body = maker.compress(PLAIN) + maker.flush()
        if fits:
            assert decoded("zstd", [body]) == PLAIN
        else:
            with pytest.raises(CodingError):
                decoded("zstd", [body])


def test_a_coding_whose_library_is_missing_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("compression.zstd", "backports.zstd", "zstandard", "brotli"):
        monkeypatch.setitem(sys.modules, module, None)
    assert decoder("zstd") is None
    assert decoder("br") is None
    assert decoder("gzip, br") is None
    assert decoder("gzip") is not None
