"""Many streams at once through real proxies: every turn comes back exact, to its owner only, without a stall.

In short in every run. With --soak 1,000 conversations at a time, for 10,000 turns and a minute at least; -rP
shows the figures.
"""

import asyncio
import contextlib
import os
import signal
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from scripts.benchmark.setting import resident_megabytes
from tests.load import STREAMS, Crowd
from tests.mitmdump import Proxy
from tests.provider.examiner import ExaminerProcess

# Says what Python holds, when asked by a signal. Unlike the memory in RAM that is the same to within a few
# thousand blocks for the same work, so a short run finds what is kept of each request. What the C library
# keeps for later is given back first: mitmdump without this addon grew by 9 MB in 6,000 such turns.
_PROBE = """
import ctypes, gc, logging, signal, sys

def tell(*_):
    gc.collect()
    if hasattr(library := ctypes.CDLL(None), "malloc_trim"):
        library.malloc_trim(0)
    logging.getLogger(__name__).info("Python holds %d blocks.", sys.getallocatedblocks())

signal.signal(signal.SIGUSR1, tell)
"""
LINUX = sys.platform.startswith("linux")


class Load(msgspec.Struct, frozen=True):
    """How many conversations are open at a time, and when their turns are enough.

    The provider pauses before each event. The first turns are `few` streams', so that the proxy remembers
    their conversations from turn to turn. What it holds must be flat once there were `warm` turns. No chunk
    may be later than `latest` (seconds): generous, for other tests run beside the short form.
    """

    conversations: int
    turns_each: int
    pause: float
    few: int
    warm: int
    turns: int
    seconds: float
    latest: float


class Held(msgspec.Struct, frozen=True):
    """What a proxy holds: memory in RAM (MB), and blocks of Python's own."""

    megabytes: float
    blocks: int


SHORT = Load(conversations=160, turns_each=6, pause=0.005, few=100, warm=200, turns=420, seconds=0, latest=30)
FULL = Load(
    conversations=1000, turns_each=10, pause=0.05, few=500, warm=1000, turns=10_000, seconds=60, latest=10
)
GROWTH_MEGABYTES = 10
# An open connection holds about 500, and there may be more of them at the end than before.
GROWTH_BLOCKS = 20_000


@pytest.fixture
def load(soak: bool) -> Load:
    return FULL if soak else SHORT


@pytest.fixture
def examiner(load: Load) -> Iterator[ExaminerProcess]:
    started = ExaminerProcess(load.pause)
    yield started
    started.close()


@pytest.mark.parametrize("processes", [1, 2])
def test_every_turn_of_a_crowd_is_restored_exactly(
    processes: int, load: Load, examiner: ExaminerProcess, tmp_path: Path
) -> None:
    """With two, on one store, conversations hop between them: each knows at once what the other recorded."""
    probe = tmp_path / "probe.py"
    probe.write_text(_PROBE if LINUX else "")
    proxies: list[Proxy] = []
    with contextlib.ExitStack() as running:
        for _ in range(processes):
            proxies.append(Proxy(examiner, tmp_path / "home", "-s", str(probe)))
            running.callback(proxies[-1].stop)
        crowd = Crowd(proxies, load.conversations, load.turns_each)
        warm, full = asyncio.run(_talk(crowd, load, proxies, examiner))
    findings = examiner.findings()
    cuts = statistics.quantiles(crowd.delays, n=100)
    print(
        f"{processes} of mitmdump, {STREAMS} streams: {crowd.turns} turns in {crowd.seconds:.0f} s\n"
        f"turns that came back exact {findings.exact}, missing {findings.missing}, wrong {findings.wrong}\n"
        f"{len(crowd.delays)} chunks, late by {cuts[49]:.3f} s (50 %), {cuts[98]:.3f} s (99 %), "
        f"{max(crowd.delays):.3f} s (the latest)\n"
        f"held after {load.warm} turns {warm}, at the end {full}"
    )
    assert (findings.wrong, findings.missing, findings.refused) == (0, 0, 0), findings.details
    assert findings.requests == crowd.turns
    assert findings.exact == crowd.carried > load.turns
    assert max(crowd.delays) < load.latest
    for before, after in zip(warm, full, strict=True):
        assert after.blocks - before.blocks < GROWTH_BLOCKS
        assert after.megabytes - before.megabytes < GROWTH_MEGABYTES


async def _talk(
    crowd: Crowd, load: Load, proxies: list[Proxy], examiner: ExaminerProcess
) -> tuple[list[Held], list[Held]]:
    """What each proxy holds when it is warm, and at the end."""
    try:
        async with crowd:
            await crowd.talk(load.few, streams=STREAMS // 4, in_a_row=load.turns_each)
            await crowd.talk(load.warm)
            warm = await _held(proxies)
            await crowd.talk(load.turns, load.seconds)
            return warm, await _held(proxies)
    except BaseExceptionGroup as errors:
        said = [f"{error!r} after {crowd.turns} turns" for error in errors.exceptions]
        said += [f"proxy {number} ended with {proxy.ended}" for number, proxy in enumerate(proxies)]
        raise AssertionError("\n".join(said + examiner.findings().details)) from None


async def _held(proxies: list[Proxy]) -> list[Held]:
    if not LINUX:
        return []
    await asyncio.sleep(0.5)  # the clients have the end of their streams a little before mitmproxy is done
    held = []
    for proxy in proxies:
        told = len(proxy.lines)
        os.kill(proxy.pid, signal.SIGUSR1)
        blocks = proxy.wait_for(r"Python holds (\d+) blocks", 20, after=told)[1]
        held.append(Held(resident_megabytes(proxy.pid), int(blocks)))
    return held
