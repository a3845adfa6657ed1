"""The rows of the budget: what is run, how often, and what is divided by what."""

import gc
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from scripts.benchmark.conversation import Conversation
from scripts.benchmark.figures import Cost, Figure, costs
from scripts.benchmark.provider import event, thought
from scripts.benchmark.rooms import Rooms
from scripts.benchmark.setting import Kind, Setting, cpu_seconds, resident_megabytes

MEGABYTE = 1_000_000


# ---- Through mitmdump ------------------------------------------------------------------------------------


def stream(setting: Setting, rounds: int) -> list[Figure]:
    times = 4
    kinds = [setting.addon, setting.pass_through]
    took: list[list[float]] = []
    used: list[list[float]] = []
    for number in range(rounds + 1):
        pair = [_streamed(setting, kind, times) for kind in _turned(kinds, number)]
        if number:
            took.append([seconds for seconds, _ in _turned(pair, number)])
            used.append([cpu for _, cpu in _turned(pair, number)])
    made = f"{1e6 * statistics.median(pair[1] for pair in took) / times / 2000:.0f} us per chunk"
    figures = [Figure("stream of 2,000 chunks: time", [a / b for a, b in took], 1.15, note=made)]
    cpu = [a / b for a, b in used if a and b]
    return [*figures, Figure("stream of 2,000 chunks: CPU", cpu, 1.15, note="of the proxy's process")]


def _streamed(setting: Setting, kind: Kind, times: int) -> tuple[float, float]:
    before = cpu_seconds(kind.pid)
    seconds: float = setting.do("stream", kind, times=times)
    after = cpu_seconds(kind.pid)
    return seconds, 0.0 if before is None or after is None else after - before


def first_byte(setting: Setting, rounds: int) -> list[Figure]:
    ratios, floors, extra = [], [], []
    for number in range(rounds + 1):
        kinds = _turned([setting.addon, setting.pass_through], number)
        pair = [statistics.median(setting.do("first_byte", kind, times=40)) for kind in kinds]
        ours, theirs = _turned(pair, number)
        if number:
            ratios.append(ours / theirs)
            floors.append(theirs)
            extra.append(ours - theirs)
    floor, more = statistics.median(floors), statistics.median(extra)
    made = f"{1e3 * floor:.2f} ms and {1e3 * more:+.2f} ms, by a provider that answers at once"
    return [Figure("first byte of a stream", ratios, 1.05, note=made)]


def small(setting: Setting, rounds: int) -> list[Figure]:
    figures = []
    for connections in (1, 8):
        ratios, floors = [], []
        for number in range(rounds + 1):
            pair = [
                setting.do("small", kind, connections=connections, times=80, restored=kind is setting.addon)
                for kind in _turned([setting.addon, setting.bare], number)
            ]
            ours, theirs = _turned(pair, number)
            if number:
                ratios.append(ours / theirs)
                floors.append(theirs)
        made = f"of {statistics.median(floors):.0f} requests/s"
        what = f"small requests, {connections} connection{'s' * (connections > 1)}"
        figures.append(Figure(what, ratios, 0.95, at_least=True, note=made))
    return figures


def delay(setting: Setting, rounds: int) -> list[Figure]:
    conversation = Conversation(2000, 10 * MEGABYTE)
    sent, complete = setting.home / "sent.json", setting.home / "complete.json"
    sent.write_bytes(conversation.sent)
    complete.write_bytes(conversation.complete)
    kinds = [setting.addon, setting.pass_through]
    for kind in kinds:
        setting.do("teach", kind, body=str(complete))
    ratios, floors, large = [], [], []
    for number in range(rounds + 1):
        pair = [
            setting.do(
                "delays",
                kind,
                streams=4,
                seconds=2.0,
                body=str(sent),
                large=4,
                restored=kind is setting.addon,
            )
            for kind in _turned(kinds, number)
        ]
        if number:
            ours, theirs = _turned(pair, number)
            high = [statistics.quantiles(one["delays"], n=100)[98] for one in (ours, theirs)]
            ratios.append(high[0] / high[1])
            floors.append(high[1])
            large.append([statistics.median(one["large"]) for one in (ours, theirs)])
    took = [1e3 * statistics.median(pair[i] for pair in large) for i in (0, 1)]
    floor = 1e3 * statistics.median(floors)
    made = f"of {floor:.0f} ms; the request itself {took[0]:.0f} against {took[1]:.0f} ms"
    return [Figure("other streams' delay at a 10 MB request, p99", ratios, 1.5, note=made)]


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
    figures = []
    each: list[list[float]] = []
    for turns, size in ((200, MEGABYTE), (2000, 10 * MEGABYTE)):
        conversation = Conversation(turns, size)
        rooms = Rooms(_made(home / f"restore-{turns}"))
        _taught(rooms, conversation)
        ratios, seconds, floor = _against_json(conversation.sent, rooms, rounds)
        made = f"{1e3 * statistics.median(seconds):.1f} of {1e3 * floor:.1f} ms"
        figures.append(Figure(f"restore {turns:,} turns, {size // MEGABYTE} MB", ratios, 0.8, note=made))
        each.append([value / len(conversation.sent) for value in seconds])
        rooms.close()
    growth = [large / small for small, large in zip(*each, strict=True)]
    return [*figures, Figure("restore, 1 MB to 10 MB: time per byte", growth, 1.15)]


def idle(home: Path, rounds: int) -> list[Figure]:
    """Requests with nothing to restore: the client sent all reasoning itself, or there are no turns."""
    conversation = Conversation(200, MEGABYTE)
    rooms = Rooms(_made(home / "idle"))
    _taught(rooms, conversation)
    figures = []
    for what, body in (("all there", conversation.complete), ("no turns", conversation.plain)):
        assert rooms.restore(body) == body
        ratios, seconds, floor = _against_json(body, rooms, rounds)
        made = f"{1e3 * statistics.median(seconds):.2f} of {1e3 * floor:.1f} ms"
        figures.append(Figure(f"nothing to restore, 1 MB, {what}", ratios, 0.4, note=made))
    rooms.close()
    return figures


def size(home: Path, rounds: int) -> list[Cost]:
    found = []
    for messages in (200, 2_000, 20_000):
        conversation = Conversation(messages // 2, messages * 1000)
        rooms = Rooms(_made(home / f"size-{messages}"))
        _taught(rooms, conversation)
        often = 1 if messages > 10_000 else rounds
        seconds = _least(lambda rooms=rooms, body=conversation.sent: rooms.restore(body), often)  # type: ignore[misc]
        found.append((f"{messages:,} messages", float(messages), seconds))
        rooms.close()
    rows = costs("restore, 1 KB a message", found)
    rooms = Rooms(_made(home / "size"))
    for what, pieces in (("one event, 5 KB a piece", _one_event), ("tiny events, one a chunk", _tiny_events)):
        found = []
        for count in (100, 1_000) if pieces is _one_event else (1_000, 10_000, 100_000):
            chunks = pieces(count)
            seconds = _least(lambda chunks=chunks: rooms.record(chunks), min(rounds, 3))  # type: ignore[misc]
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


def _taught(rooms: Rooms, conversation: Conversation) -> None:
    """Put a conversation on record, and see that its reasoning really comes back."""
    rooms.restore(conversation.complete)
    restored = rooms.restore(conversation.sent)
    if len(restored) != len(conversation.complete):
        raise RuntimeError(
            f"of {len(conversation.complete)} bytes with reasoning, {len(restored)} were restored"
        )


def _against_json(body: bytes, rooms: Rooms, rounds: int) -> tuple[list[float], list[float], float]:
    """Per round the ratio and the seconds of a restore, and the seconds of json, all in CPU time."""
    ours, theirs = [], []
    for _ in range(rounds * 2):
        theirs.append(_seconds(lambda: json.dumps(json.loads(body))))
        ours.append(_seconds(lambda: rooms.restore(body)))
    return [a / b for a, b in zip(ours, theirs, strict=True)], ours, statistics.median(theirs)


def _least(work: Callable[[], object], times: int) -> float:
    return min(_seconds(work) for _ in range(times))


def _seconds(work: Callable[[], object]) -> float:
    gc.collect()
    began = time.thread_time()
    work()
    return time.thread_time() - began


def _made(directory: Path) -> Path:
    directory.mkdir(parents=True)
    return directory


def _turned[Item](pair: list[Item], number: int) -> list[Item]:
    """In every other round the other one goes first; applied twice it gives the pair as it was."""
    return pair[::-1] if number % 2 else pair


THROUGH_MITMDUMP = {
    "stream": stream,
    "first-byte": first_byte,
    "small": small,
    "delay": delay,
    "memory": memory,
}
IN_PROCESS = {"restore": restore, "idle": idle}
COSTS = {"size": size}
