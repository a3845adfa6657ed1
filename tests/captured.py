"""Real captures: end-to-end scenarios run once more through a mitmdump that saves its flows.

A scenario is an end-to-end test and one row of its tables. What it captured is played again, flow by flow
beside the request that the simulator got of it.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest
from mitmproxy import flow, http
from mitmproxy.io import FlowWriter

from reasoning_fix.captures import flow_files, replaying
from reasoning_fix.captures.replaying import Played, Replay
from reasoning_fix.engine.explaining import Explanation, explain
from reasoning_fix.engine.restoring import Restored
from reasoning_fix.providers.table import Table, load_table
from reasoning_fix.proxy import metadata
from tests.mitmdump import Proxy
from tests.provider.http import Request
from tests.provider.simulator import Simulator

# What the simulator may say about a turn of each status.
FITTING: dict[str, tuple[str, ...]] = {
    "restored": ("exact",),
    "sent": ("exact", "wrong", "unknown"),
    "empty": ("exact", "missing", "blank", "unknown"),
    "part": ("exact", "missing", "blank", "wrong", "unknown"),
    "filled": ("blank", "wrong", "unknown"),
    "left out": ("missing", "unknown"),
    "absent": ("missing", "unknown", "blank"),
    "untouched": ("missing", "unknown", "exact", "blank"),
}


class Captured(msgspec.Struct):
    """The flows of one scenario, and every request that the simulator got in it, in order."""

    flows: list[flow.Flow]
    requests: list[Request]
    table: Table


class Match(msgspec.Struct):
    """One chat request: what the replay says, would send, and what was sent."""

    played: Played
    body: bytes | None
    flow: http.HTTPFlow
    request: Request | None


def write(path: Path, flows: Sequence[flow.Flow]) -> Path:
    with path.open("wb") as file:
        writer = FlowWriter(file)
        for one in flows:
            writer.add(one)
    return path


class Studio:
    """Runs scenarios, each with proxies that save what passes."""

    def __init__(self, simulator: Simulator, folder: Path) -> None:
        self.simulator = simulator
        self.folder = folder
        self.proxies: list[Proxy] = []
        self.files: list[Path] = []

    def start(self, *arguments: str, home: Path | None = None) -> Proxy:
        path = self.folder / f"{len(self.files)}.mitm"
        self.files.append(path)
        home = home or self.folder / f"home-{len(self.files)}"
        proxy = Proxy(self.simulator, home, "-w", str(path), *arguments)
        self.proxies.append(proxy)
        return proxy

    def take(self, scenario: Callable[..., None], **row: Any) -> Captured:
        self.simulator.reset()
        self.folder.mkdir(parents=True, exist_ok=True)
        given: dict[str, Callable[[], Any]] = {
            "proxy": self.start,
            "provider": lambda: self.simulator,
            "start_proxy": lambda: self.start,
            "tmp_path": lambda: self.folder,
        }
        wanted = inspect.signature(scenario).parameters
        scenario(**{name: make() for name, make in given.items() if name in wanted}, **row)
        return self.end()

    def end(self) -> Captured:
        for proxy in self.proxies:
            proxy.stop()
        flows = [one for path in self.files for one in flow_files.load(path)]
        own = self.folder / "own.toml"
        table = load_table(own if own.exists() else None)
        return Captured(flows, list(self.simulator.requests), table)


def row(scenario: Callable[..., None], last: bool) -> dict[str, Any]:
    """The first or the last row of a test's tables."""
    found: dict[str, Any] = {}
    for mark in getattr(scenario, "pytestmark", ()):
        names = mark.args[0] if isinstance(mark.args[0], tuple) else tuple(mark.args[0].split(","))
        values = list(mark.args[1])[-last]
        found |= dict(zip(names, values if len(names) > 1 else (values,), strict=True))
    return found


def scenarios(*modules: ModuleType, left_out: Sequence[str] = ()) -> Iterator[Any]:
    """Every end-to-end test of these modules that goes through a proxy, as parameters of a test.

    With the first row of its tables or the last one, by turns.
    """
    last = False
    for module in modules:
        for name, scenario in vars(module).items():
            if not name.startswith("test_") or name.removeprefix("test_") in left_out:
                continue
            if {"proxy", "start_proxy"} & inspect.signature(scenario).parameters.keys():
                yield pytest.param(scenario, row(scenario, last), id=name.removeprefix("test_"))
                last = not last


def play(captured: Captured, monkeypatch: pytest.MonkeyPatch) -> tuple[Replay, list[Match]]:
    """Replay a capture; each chat request beside what would be sent and what the simulator got."""
    sent: dict[int, bytes | None] = {}

    def watched(body: bytes, *given: Any, **options: Any) -> tuple[Explanation, Restored | None]:
        told, restored = explain(body, *given, **options)
        sent[id(told)] = None if restored is None else restored.body or body
        return told, restored

    monkeypatch.setattr(replaying, "explain", watched)
    played = replaying.replay(captured.flows, captured.table)
    left = list(captured.requests)
    matches = []
    for one in played.requests:
        found = captured.flows[one.number - 1]
        assert isinstance(found, http.HTTPFlow)
        request = next((r for r in reversed(left) if r.body == found.request.raw_content), None)
        if request is not None and found.metadata.get(metadata.RESENT) is None:
            request = next(r for r in left if r.body == found.request.raw_content)
            left.remove(request)
        matches.append(Match(one, sent[id(one.explanation)], found, request))
    return played, matches


def agrees(match: Match) -> None:
    """What the explanation says became of each turn is what the provider got."""
    told = match.played.explanation
    assert match.request is not None, told
    statuses = match.played.now
    if not match.request.verdicts:
        return
    assert len(statuses) == len(match.request.verdicts), (statuses, match.request.verdicts)
    for status, verdict in zip(statuses, match.request.verdicts, strict=True):
        assert verdict in FITTING[status], (status, verdict, told.lines())


def told(played: Replay) -> list[Any]:
    """All that a replay says, without texts."""
    return [
        (
            one.answer,
            one.explanation.untouched,
            one.explanation.done,
            [(t.status, t.evidence, t.why, t.on_record, t.candidates, t.ties) for t in one.explanation.turns],
        )
        for one in played.requests
    ]
