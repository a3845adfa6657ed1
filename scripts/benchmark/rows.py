"""The rows of the budget: what is run, how often, and what is divided by what."""

import gc
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec

from reasoning_fix import Exchange
from scripts.benchmark.conversation import Conversation
from scripts.benchmark.figures import Cost, Figure, costs
from scripts.benchmark.provider import event, thought
from scripts.benchmark.rooms import Rooms
from scripts.benchmark.setting import Kind, Setting, cpu_seconds, resident_megabytes

MEGABYTE = 1_000_000


# ---- Through mitmdump ------------------------------------------------------------------------------------


def stream(setting: Setting, rounds: int) -> list[Figure]:
    times = 4

    def streamed(kind: Kind) -> tuple[float, float]:
        return _with_cpu(kind, lambda: setting.do("stream", kind, times=times))

    rows = _in_turns([setting.addon, setting.pass_through], rounds, streamed)
    made = f"{1e6 * statistics.median(theirs for _, (theirs, _) in rows) / times / 2000:.0f} us per chunk"
    took = [ours / theirs for (ours, _), (theirs, _) in rows]
    cpu = [ours / theirs for (_, ours), (_, theirs) in rows if ours and theirs]
    return [
        Figure("stream of 2,000 chunks: time", took, 1.15, note=made),
        Figure("stream of 2,000 chunks: CPU", cpu, 1.15, note="of the proxy's process"),
    ]


def first_byte(setting: Setting, rounds: int) -> list[Figure]:
    """By a provider that thinks for a moment (real ones think longer), and by one that does not think."""
    figures = []
    for what, late, times in (("50 ms of thinking", 50, 8), ("no thinking", 0, 40)):

        def waited(kind: Kind, late: int = late, times: int = times) -> float:
            found: list[float] = setting.do("first_byte", kind, times=times, late=late)
            return statistics.median(found)

        rows = _in_turns([setting.addon, setting.pass_through], rounds, waited)
        floor = statistics.median(theirs for _, theirs in rows)
        more = statistics.median(ours - theirs for ours, theirs in rows)
        made = f"{1e3 * floor:.2f} ms and {1e3 * more:+.2f} ms"
        ratios = [ours / theirs for ours, theirs in rows]
        figures.append(Figure(f"first byte of a stream, {what}", ratios, 1.05, note=made))
    return figures


def small(setting: Setting, rounds: int) -> list[Figure]:
    figures = []
    for connections in (1, 8):

        def conversed(kind: Kind, connections: int = connections) -> tuple[float, float]:
            given = {"connections": connections, "times": 80, "restored": kind is setting.addon}
            return _with_cpu(kind, lambda: setting.do("small", kind, **given))

        rows = _in_turns([setting.addon, setting.bare], rounds, conversed)
        what = f"small requests, {connections} connection{'s' * (connections > 1)}"
        made = f"of {statistics.median(theirs for _, (theirs, _) in rows):.0f} a second"
        rates = [ours / theirs for (ours, _), (theirs, _) in rows]
        figures.append(Figure(what, rates, 0.95, at_least=True, note=made))
        # The same where the machine has other things to do: what a second of the proxy's CPU is good for.
        spared = [theirs / ours for (_, ours), (_, theirs) in rows if ours and theirs]
        figures.append(Figure(f"{what}: CPU", spared, 0.95, at_least=True, note="requests per CPU second"))
    return figures


def _with_cpu(kind: Kind, work: Callable[[], float]) -> tuple[float, float]:
    """What the work measures, and the CPU that the proxy's process used for it (0: not known)."""
    before = cpu_seconds(kind.pid)
    measured = work()
    after = cpu_seconds(kind.pid)
    return measured, 0.0 if before is None or after is None else after - before


def delay(setting: Setting, rounds: int) -> list[Figure]:
    """Large requests of one conversation again and again, then of so many that none of them is remembered."""
    bodies = []
    kinds = [setting.addon, setting.pass_through]
    for number in range(4):
        conversation = Conversation(2000, 10 * MEGABYTE + number)
        sent, complete = setting.home / f"sent-{number}.json", setting.home / f"complete-{number}.json"
        sent.write_bytes(conversation.sent)
        complete.write_bytes(conversation.complete)
        for kind in kinds:
            setting.do("teach", kind, body=str(complete))
        bodies.append(str(sent))
    what = "other streams' delay at a 10 MB request, p99"
    return [
        _delayed(setting, max(3, rounds // 2), bodies[:1], what),
        _delayed(setting, max(3, rounds // 2), bodies, f"{what}, cold"),
    ]


def _delayed(setting: Setting, rounds: int, bodies: list[str], what: str) -> Figure:
    kinds = [setting.addon, setting.pass_through]

    def sent(kind: Kind) -> dict[str, list[float]]:
        given = {"streams": 4, "seconds": 2.0, "bodies": bodies, "large": 4}
        measured: dict[str, list[float]] = setting.do("delays", kind, **given, restored=kind is setting.addon)
        return measured

    rows = _in_turns(kinds, rounds, sent)
    high = [[statistics.quantiles(one["delays"], n=100)[98] for one in pair] for pair in rows]
    floor = 1e3 * statistics.median(theirs for _, theirs in high)
    took = [1e3 * statistics.median(statistics.median(pair[i]["large"]) for pair in rows) for i in (0, 1)]
    made = f"of {floor:.0f} ms; the request itself {took[0]:.0f} against {took[1]:.0f} ms"
    return Figure(what, [ours / theirs for ours, theirs in high], 1.5, note=made)


def memory(setting: Setting, rounds: int) -> list[Figure]:
    """10,000 recorded turns, of them 5,000 restored in a later request, after a first 1,000."""
    del rounds
    kind = setting.fresh()
    sizes = []
    for conversations in (500, 5000):
        setting.do("small", kind, connections=8, times=conversations, restored=True)
        sizes.append(resident_megabytes(kind.pid))
    return [
        Figure(
            "memory over 10,000 turns",
            [sizes[1] - sizes[0]],
            10,
            unit=" MB",
            note=f"from {sizes[0]:.0f} MB, 5,000 restored requests",
        )
    ]


# ---- In this process -------------------------------------------------------------------------------------


def restore(home: Path, rounds: int) -> list[Figure]:
    """Complete work: rooms that remember nothing yet, opened anew for every round on a store that does.

    Then the usual case: each request of a conversation after the one before it.
    """
    figures = []
    each: list[list[float]] = []
    for turns, size in ((200, MEGABYTE), (2000, 10 * MEGABYTE)):
        conversation = Conversation(turns, size)
        directory = _taught(home / f"restore-{turns}", conversation)
        what = f"{turns:,} turns, {size // MEGABYTE} MB"
        pairs = [_beside_json(Rooms(directory), conversation.sent) for _ in range(rounds * 2)]
        figures.append(_figure(f"restore {what}, cold", pairs, 0.8))
        each.append([ours / len(conversation.sent) for ours, _ in pairs])
        rooms = Rooms(directory)
        bodies = [conversation.before(rounds - number) for number in range(rounds + 1)]
        pairs = [_beside_json(rooms, body, close=False) for body in bodies][1:]
        figures.append(_figure(f"restore {what}, as it grows", pairs, 0.8))
        rooms.close()
    growth = [large / small for small, large in zip(*each, strict=True)]
    return [*figures, Figure("restore, cold, 1 MB to 10 MB: time per byte", growth, 1.15)]


def idle(home: Path, rounds: int) -> list[Figure]:
    """Requests with nothing to restore: the client sent all reasoning itself, or there are no turns.

    What such a request waits for; the rest, which is done when it is on its way, is in the note.
    """
    conversation = Conversation(200, MEGABYTE)
    directory = _taught(home / "idle", conversation)
    figures = []
    for what, body in (("all there", conversation.complete), ("no turns", conversation.plain)):
        rooms = Rooms(directory)
        if rooms.restore(body) != body:
            raise RuntimeError(f"a request with nothing to restore ({what}) was changed")
        rooms.close()
        pairs, later = [], []
        for _ in range(rounds * 2):
            rooms = Rooms(directory)
            theirs = _seconds(lambda body=body: json.dumps(json.loads(body)))  # type: ignore[misc]
            forwarded: list[Exchange] = []
            ours = _seconds(lambda: forwarded.append(rooms.forward(body)))  # noqa: B023
            pairs.append((ours, theirs))
            later.append(_seconds(lambda: forwarded[0].accept()))  # noqa: B023
            rooms.close()
        figure = _figure(f"nothing to restore, 1 MB, {what}", pairs, 0.4)
        note = f"{figure.note}, and {1e3 * statistics.median(later):.2f} ms when it is on its way"
        figures.append(msgspec.structs.replace(figure, note=note))
    return figures


def size(home: Path, rounds: int) -> list[Cost]:
    found = []
    for messages in (200, 2_000, 20_000):
        conversation = Conversation(messages // 2, messages * 1000)
        directory = _taught(home / f"size-{messages}", conversation)
        often = 2 if messages > 10_000 else rounds
        seconds = min(_beside_json(Rooms(directory), conversation.sent)[0] for _ in range(often))
        found.append((f"{messages:,} messages", float(messages), seconds))
    rows = costs("restore, 1 KB a message", found)
    rooms = Rooms(home / "size-200")
    for what, pieces in (("one event, 5 KB a piece", _one_event), ("tiny events, one a chunk", _tiny_events)):
        found = []
        for count in (100, 1_000) if pieces is _one_event else (1_000, 10_000, 100_000):
            chunks = pieces(count)
            seconds = min(_seconds(partial(rooms.record, chunks)) for _ in range(min(rounds, 3)))
            found.append((f"{count:,} pieces", float(count), seconds))
        rows += costs(what, found)
    rooms.close()
    return rows


def _one_event(pieces: int) -> list[bytes]:
    body = event(thought("thought " * (pieces * 5000 // 8)))
    return [body[i : i + 5000] for i in range(0, len(body), 5000)] + [event({"content": "."}, "stop")]


def _tiny_events(count: int) -> list[bytes]:
    one = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'
    return [one] * count + [event({"content": "."}, "stop"), b"data: [DONE]\n\n"]


def _taught(directory: Path, conversation: Conversation) -> Path:
    """Put a conversation on record, and see that its reasoning really comes back."""
    directory.mkdir(parents=True)
    rooms = Rooms(directory)
    rooms.restore(conversation.complete)
    restored = len(rooms.restore(conversation.sent))
    rooms.close()
    if restored != len(conversation.complete):
        raise RuntimeError(f"restored {restored} bytes where {len(conversation.complete)} were on record")
    return directory


def _beside_json(rooms: Rooms, body: bytes, close: bool = True) -> tuple[float, float]:
    """Seconds of CPU for restoring a body, and for json to read and write it."""
    theirs = _seconds(lambda: json.dumps(json.loads(body)))
    ours = _seconds(lambda: rooms.restore(body))
    if close:
        rooms.close()
    return ours, theirs


def _figure(what: str, pairs: list[tuple[float, float]], budget: float) -> Figure:
    ours, theirs = (1e3 * statistics.median(pair[i] for pair in pairs) for i in (0, 1))
    return Figure(what, [a / b for a, b in pairs], budget, note=f"{ours:.2f} of {theirs:.2f} ms")


def _seconds(work: Callable[[], object]) -> float:
    gc.collect()
    began = time.thread_time()
    work()
    return time.thread_time() - began


def _in_turns[Found](kinds: list[Kind], rounds: int, measure: Callable[[Kind], Found]) -> list[list[Found]]:
    """What is measured with each kind, round by round; they take turns, and a first round only warms up."""
    rows = []
    for number in range(rounds + 1):
        turn = -1 if number % 2 else 1
        rows.append([measure(kind) for kind in kinds[::turn]][::turn])
    return rows[1:]


THROUGH_MITMDUMP = {
    "stream": stream,
    "first-byte": first_byte,
    "small": small,
    "delay": delay,
    "memory": memory,
}
IN_PROCESS = {"restore": restore, "idle": idle}
COSTS = {"size": size}
