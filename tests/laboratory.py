"""A laboratory: one real mitmdump, strict providers behind it, and a client that sends exact bytes.

Behind every host name stands one server on loopback, whose answers are a function of the request (strict.py).
What refusals taught is forgotten between tests, so that each begins with a proxy that knows nothing.
"""

import http.client
import itertools
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from reasoning_fix.providers.lessons import Lessons
from tests.mitmdump import Proxy, open_connection
from tests.strict import DONE, Answer, Asked, Place, Rule, Servers, unique
from tests.wires import MESSAGES, Entry, Said

# A request that reached the provider as the client sent it.
NOTHING = (b"", b"")

either_way = pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])


def named(places: Sequence[Place]) -> dict[str, Place]:
    return {str(place): place for place in places}


def by_turns(**tables: Mapping[str, Any]) -> pytest.MarkDecorator:
    """Every combination of cases of these tables, streamed and whole by turns."""
    cases = []
    for picked in itertools.product(*(enumerate(table.items()) for table in tables.values())):
        streamed = sum(number for number, _ in picked) % 2 == 0
        name = ", ".join([*(name for _, (name, _) in picked), "streamed" if streamed else "whole"])
        cases.append(pytest.param(*(case for _, (_, case) in picked), streamed, id=name))
    return pytest.mark.parametrize([*tables, "streamed"], cases)


class Seen(msgspec.Struct):
    """What the client saw."""

    status: int
    body: bytes


class Talk:
    """One conversation of a client that drops the thoughts it was given.

    `sent` is the request that it sent last, `got` what reached the provider of it.
    """

    def __init__(self, lab: "Lab", place: Place, streamed: bool, key: str, members: Entry) -> None:
        self._lab, self.place, self.key, self._streamed = lab, place, key, streamed
        self.members = members
        self.parts: list[list[Entry]] = [place.wire.user(f"Look into {next(unique)}")]
        self.sent = b""
        self.got: list[Asked] = []

    @property
    def accepted(self) -> Asked:
        """The last request that the provider got."""
        return self.got[-1]

    @property
    def changes(self) -> list[tuple[bytes, bytes]]:
        """What each request that reached the provider lacked and had of the client's bytes."""
        return [difference(self.sent, asked.body) for asked in self.got]

    def body(self) -> bytes:
        stream = {"stream": True} if self._streamed else {}
        return self.place.wire.body(self.place.model, self.parts, **stream, **self.members)

    def brings(self, turn: Said, *entries: Entry) -> None:
        """Go on from a turn that the provider never said: as the client writes it, or as `entries` are."""
        self.parts.append(list(entries) or self.place.wire.said(turn))
        self._reacts(turn)

    def send(self, turn: Said | Answer = DONE) -> Seen:
        """Send the conversation as it stands; the provider says `turn`, where it does not refuse."""
        lab, before = self._lab, len(self._lab.servers.ledger)
        lab.servers.field = self.place.field
        lab.servers.script = deque([turn])
        self.sent = self.body()
        seen = lab.post(self.place, self.sent, self.key)
        self.got = lab.servers.ledger[before:]
        if seen.status == 200 and isinstance(turn, Said):
            self.parts.append(self.place.wire.said(turn))
            self._reacts(turn)
        return seen

    def _reacts(self, turn: Said) -> None:
        wire = self.place.wire
        self.parts.append(wire.result(turn.call) if turn.call else wire.user("And?"))


class Lab:
    """The proxy, what stands behind it, and connections through it."""

    def __init__(self, servers: Servers, home: Path) -> None:
        self.servers = servers
        self._home = home
        self._connections: dict[str, http.client.HTTPSConnection] = {}
        self.proxy = Proxy(servers, home)
        # Hosts that the proxy does not know are seen as they are.
        self._trusted = home / "trusted.pem"
        self._trusted.write_bytes(self.proxy.ca.read_bytes() + servers.ca.read_bytes())

    def begin(self) -> None:
        """Forget what other tests taught and asked."""
        self.servers.reset()
        for path in self._home.rglob("lessons.json"):
            Lessons(path).forget()

    def behaves(self, *rules: Rule) -> None:
        """The provider refuses by the first of these rules that applies."""
        self.servers.rules = rules

    def talk(self, place: Place, streamed: bool, key: str = "", **members: Any) -> Talk:
        return Talk(self, place, streamed, key or f"sk-lab-{next(unique):032d}", members)

    def post(self, place: Place, body: bytes, key: str) -> Seen:
        response = self.open(place, body, key)
        return Seen(response.status, response.read())

    def open(self, place: Place, body: bytes, key: str) -> http.client.HTTPResponse:
        """An answer of which only the head was read."""
        connection = self._connections.get(place.host)
        if connection is None:
            connection = open_connection(self.proxy, place.host, self._trusted)
            self._connections[place.host] = connection
        credential = {"x-api-key": key} if place.wire is MESSAGES else {"authorization": f"Bearer {key}"}
        connection.request("POST", place.path, body, {"content-type": "application/json", **credential})
        return connection.getresponse()

    def restart(self) -> None:
        """Another process in the same home: what was recorded and learned is all it knows."""
        self.stop()
        self.proxy = Proxy(self.servers, self._home)

    def stop(self) -> None:
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()
        self.proxy.stop()


# --- what a test looks at -----------------------------------------------------------------------------------


def difference(before: bytes, after: bytes) -> tuple[bytes, bytes]:
    """What was taken out of a body, and what stands there now: the one place where they differ."""
    start = next((i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), None)
    if start is None:
        start = min(len(before), len(after))
    most = min(len(before), len(after)) - start
    end = next((i for i in range(most) if before[-1 - i] != after[-1 - i]), most)
    return before[start : len(before) - end], after[start : len(after) - end]


def only_added(change: tuple[bytes, bytes]) -> bool:
    """Whether nothing of the client's own bytes is gone, and something is put in at one place."""
    taken, added = change
    return not taken and bool(added)
