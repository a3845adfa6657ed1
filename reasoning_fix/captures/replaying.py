"""Run a capture through recording and restoring again, offline and in an empty store.

Requests are restored and answers recorded in the order in which they came and went. What applied then, by the
flow's own notes, applies again: the options, and what refusals had taught. Nothing is sent anywhere.
"""

import os
from collections import Counter
from collections.abc import Sequence

import msgspec
from mitmproxy import flow, http

from reasoning_fix.captures import flow_files
from reasoning_fix.engine.explaining import UNTOUCHED, Explanation, explain
from reasoning_fix.engine.knowledge import Knowledge
from reasoning_fix.engine.policy import Preferences
from reasoning_fix.engine.recording import Recorder
from reasoning_fix.engine.restoring import Restored
from reasoning_fix.engine.tap import Tap
from reasoning_fix.providers.lessons import Lessons
from reasoning_fix.providers.table import Table
from reasoning_fix.proxy import callers
from reasoning_fix.proxy.chat_request import ChatRequest, chat_request
from reasoning_fix.store.memory import MemoryStore
from reasoning_fix.store.sealing import Installation

_ROOM = 2**40


class Played(msgspec.Struct):
    """One chat request of a capture; `number` counts the flows of the file from 1.

    `then` are the statuses of its turns by its own notes, None if it has none; `remarks` is what could not
    be done, or came out otherwise than then.
    """

    number: int
    status: int
    explanation: Explanation
    answer: str
    then: list[str] | None
    remarks: list[str]

    @property
    def now(self) -> list[str]:
        return [turn.status for turn in self.explanation.turns]


class Summary(msgspec.Struct):
    """Counts of a whole capture: turns by status, restored ones by evidence, answers by their fate."""

    flows: int
    requests: int
    turns: dict[str, int]
    evidence: dict[str, int]
    answers: dict[str, int]
    differing: int

    def text(self) -> str:
        """One line for a person."""
        turns = ", ".join(f"{count} {status}" for status, count in self.turns.items())
        ways = ", ".join(f"{count} by {way}" for way, count in self.evidence.items())
        answers = ", ".join(f"{count} {fate}" for fate, count in self.answers.items())
        told = f"{self.requests} chat requests in {self.flows} flows; turns: {turns or 'none'}"
        told += f" (restored {ways})" if ways else ""
        told += f"; answers: {answers or 'none'}"
        return told + (f"; {self.differing} requests came out otherwise than then" if self.differing else "")


class Replay(msgspec.Struct):
    """What would be restored, request by request in the order of the file."""

    requests: list[Played]
    summary: Summary


def replay(flows: Sequence[flow.Flow], table: Table, preferences: Preferences | None = None) -> Replay:
    """Play flows again; `preferences` in place of the options that were in force."""
    requests = [found for number, one in enumerate(flows, 1) if (found := chat_request(number, one, table))]
    player = _Player(table, preferences)
    for one, is_answer in flow_files.in_order(requests):
        (player.answer if is_answer else player.request)(one)
    played = [player.played[one.number] for one in requests]
    return Replay(played, _summary(played, len(flows)))


class _Player:
    def __init__(self, table: Table, preferences: Preferences | None) -> None:
        self.table = table
        self.preferences = preferences
        self.store = MemoryStore(_ROOM)
        self.installation = Installation(os.urandom(32))
        self.recorders: dict[int, Recorder] = {}
        self.played: dict[int, Played] = {}

    def request(self, one: ChatRequest) -> None:
        noted = one.notes
        if noted is not None and noted.refused:
            # What was refused had been restored without what was tried then, and had been learned from.
            self._restored(one, known=noted.known)
        told, restored = self._restored(one, known=None)
        response = one.flow.response
        then = [turn.status for turn in noted.treated] if noted is not None and not one.altered else None
        played = Played(one.number, response.status_code if response else 0, told, "none", then, [])
        if one.altered:
            played.remarks.append(
                "the file holds this request as it was repaired, without what it takes to undo that: what is "
                'in it counts as "sent" by the client'
            )
        if noted is not None and noted.refused:
            played.remarks.append("it was refused at first, repaired and sent again")
        now = [status for status in played.now if status != UNTOUCHED]
        if then is not None and then != now:
            played.remarks.append(f"then it was: {', '.join(then) or 'not touched'}")
        self.played[one.number] = played
        if restored is not None:
            self.recorders[one.number] = restored.recorder

    def _restored(self, one: ChatRequest, known: int | None) -> tuple[Explanation, Restored | None]:
        """Restore a request by the first so many of the lessons that it was sent by (None: all)."""
        caller = callers.caller(one.flow, one.route, self.installation)
        taught = one.notes.taught(caller.host, one.endpoint.dialect, "") if one.notes is not None else []
        preferences = self.preferences or one.preferences
        knowledge = Knowledge(self.table, self.store, Lessons(None), preferences)
        return explain(one.body, caller, knowledge, taught=taught[:known])

    def answer(self, one: ChatRequest) -> None:
        recorder = self.recorders.pop(one.number, None)
        played, response = self.played[one.number], one.flow.response
        if recorder is None or response is None:
            return
        played.answer = _record(recorder, response, complete=one.flow.error is None)


def _record(recorder: Recorder, response: http.Response, complete: bool) -> str:
    """Record an answer as it would be while it passes; what became of it."""
    if response.status_code != 200:
        return "refused"
    body = response.raw_content
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    streamed = kind == "text/event-stream"
    if body is None:
        return "not in the file"
    if not streamed and not kind.endswith("json"):
        return "not read"
    tap = Tap(recorder, response.headers.get("content-encoding", ""), streamed, None)
    tap(body)
    tap.finish(complete)
    return "recorded" if recorder.answered else "not recorded"


def _summary(played: list[Played], flows: int) -> Summary:
    turns = [turn for one in played for turn in one.explanation.turns]
    return Summary(
        flows=flows,
        requests=len(played),
        turns=dict(Counter(turn.status for turn in turns).most_common()),
        evidence=dict(Counter(turn.evidence for turn in turns if turn.status == "restored").most_common()),
        answers=dict(Counter(one.answer for one in played).most_common()),
        differing=sum(any(r.startswith("then it was") for r in one.remarks) for one in played),
    )
