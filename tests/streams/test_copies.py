"""A bounded copy of a body: exact where it fits, both its ends where it does not, readable where coded."""

import gzip
import itertools
import tracemalloc
import zlib
from collections.abc import Callable

import brotli
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from reasoning_fix.streams.copies import CUT, Copy

EVENTS = [b'data: {"n":%d}\n\n' % n for n in range(5000)]
STREAM = b"".join(EVENTS)
CODINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstandard.compress,
}


def copied(chunks: list[bytes], limit: int, coding: str = "", complete: bool = True) -> tuple[bytes, bool]:
    copy = Copy(limit, coding)
    for chunk in chunks:
        copy.add(chunk)
    kept = copy.kept(complete)
    assert kept is not None
    return kept.data, kept.decoded


def chunks(data: bytes, size: int) -> list[bytes]:
    return [bytes(piece) for piece in itertools.batched(data, size)]


@pytest.mark.parametrize("coding", ["", "identity", *CODINGS, "unheard-of"])
def test_what_fits_is_kept_as_it_came(coding: str) -> None:
    data = CODINGS.get(coding, bytes)(STREAM)
    assert copied(chunks(data, 1000), len(data), coding) == (data, False)


@pytest.mark.parametrize("coding", ["", *CODINGS])
@pytest.mark.parametrize("size", [7, 1000, 10**6])
def test_of_longer_ones_both_ends_are_kept_in_whole_events(coding: str, size: int) -> None:
    data = CODINGS.get(coding, bytes)(STREAM)
    limit = 4000 if not coding else len(data) - 1
    kept, decoded = copied(chunks(data, size), limit, coding)
    assert decoded is bool(coding) and len(kept) <= limit + 100
    head, left_out, tail = CUT.split(kept)
    events = (head + b"\n\n" + tail).split(b"\n\n")
    assert set(events) <= {event.strip() for event in EVENTS} | {b""}
    assert STREAM.startswith(head) and STREAM.endswith(tail) and len(head) > limit // 4 < len(tail)
    # What is left out, and the blank line after the head, which the mark brings along itself.
    assert len(head) + 2 + int(left_out) + len(tail) == len(STREAM)


def flushed(coding: str) -> list[bytes]:
    """The stream as servers send it: what is said so far can be read."""
    match coding:
        case "br":
            brotli_one = brotli.Compressor()
            return [brotli_one.process(event) + brotli_one.flush() for event in EVENTS]
        case "zstd":
            zstd_one = zstandard.ZstdCompressor().compressobj()
            block = zstandard.COMPRESSOBJ_FLUSH_BLOCK
            return [zstd_one.compress(event) + zstd_one.flush(block) for event in EVENTS]
        case _:
            one = zlib.compressobj(wbits=31 if coding == "gzip" else 15)
            return [one.compress(event) + one.flush(zlib.Z_SYNC_FLUSH) for event in EVENTS]


@pytest.mark.parametrize("coding", CODINGS)
def test_a_coded_stream_that_was_cut_is_kept_decoded(coding: str) -> None:
    assert copied(flushed(coding)[:100], 10**6, coding, complete=False) == (b"".join(EVENTS[:100]), True)


def test_a_damaged_stream_keeps_what_could_be_read() -> None:
    data = gzip.compress(STREAM)
    kept, _ = copied([data[:3000], b"\xff" * 3000, data], 4000, "gzip")
    assert STREAM.startswith(kept[:1000])


def test_a_coding_that_is_not_known_is_kept_while_it_fits_and_else_not_at_all() -> None:
    assert copied([b"abc"], 10, "unheard-of", complete=False) == (b"abc", False)
    copy = Copy(10, "unheard-of")
    copy.add(b"x" * 11)
    assert copy.kept(complete=True) is None
    assert Copy(10, "").kept(complete=True) is None


@settings(deadline=None)
@given(
    st.lists(st.binary(max_size=40)), st.integers(1, 60), st.sampled_from(["", "gzip", "br"]), st.booleans()
)
def test_any_bytes_stay_within_the_bound(parts: list[bytes], limit: int, coding: str, complete: bool) -> None:
    copy = Copy(limit, coding)
    for part in parts:
        copy.add(part)
    kept = copy.kept(complete)
    if kept is not None:
        assert len(kept.data) <= max(limit, 2) + 100
        if not coding:
            assert b"".join(parts).startswith(CUT.split(kept.data)[0])


def test_memory_stays_within_the_bound() -> None:
    copy = Copy(64 * 1024, "")
    tracemalloc.start()
    for number in range(20_000):
        copy.add(b"%01000d" % number)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 4 * 64 * 1024
