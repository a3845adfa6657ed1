"""Real captures: conversations through a mitmdump that saves its flows, and what the provider got of them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mitmproxy import flow
from mitmproxy.io import FlowWriter

from reasoning_fix import captures
from reasoning_fix.replaying import Played
from tests.provider.http import Request
from tests.provider.simulator import Simulator
from tests.proxy import Proxy

type Save = Callable[..., "Capture"]


class Capture:
    """A proxy that saves what passes; after `end` its file is whole."""

    def __init__(self, proxy: Proxy, path: Path) -> None:
        self.proxy = proxy
        self.path = path

    def end(self) -> list[flow.Flow]:
        self.proxy.stop()
        return captures.load(self.path)


def write(path: Path, flows: list[flow.Flow]) -> Path:
    with path.open("wb") as file:
        writer = FlowWriter(file)
        for one in flows:
            writer.add(one)
    return path


def agrees(played: Played, request: Request) -> None:
    """What the explanation says became of each turn is what the provider got."""
    statuses = played.now
    assert len(statuses) == len(request.verdicts), (statuses, request.verdicts)
    for status, verdict in zip(statuses, request.verdicts, strict=True):
        assert verdict in FITTING[status], (status, verdict, played.explanation.lines())


# What a strict provider says about a turn of each status.
FITTING: dict[str, tuple[str, ...]] = {
    "restored": ("exact",),
    "sent": ("exact", "wrong", "unknown"),
    "empty": ("exact", "missing", "blank"),
    "part": ("exact", "missing", "blank", "wrong", "unknown"),
    "filled": ("blank", "wrong", "unknown"),
    "left out": ("missing", "unknown"),
    "absent": ("missing", "unknown"),
    "untouched": ("missing", "unknown", "exact"),
}


@contextmanager
def saving(start: Callable[..., Proxy], path: Path, *arguments: str) -> Iterator[Capture]:
    yield Capture(start("-w", str(path), *arguments), path)


def requests_of(provider: Simulator) -> list[Request]:
    """The requests that were answered, in order: a refused one that was sent again counts as its repair."""
    return [request for request in provider.requests if request.status == 200]
