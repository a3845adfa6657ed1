"""Explain a flow in a proxy that runs: from what is on record there, as it was when the request came."""

import msgspec
from mitmproxy import flow, http

from reasoning_fix.engine.explaining import Earlier, explain
from reasoning_fix.engine.policy import Preferences
from reasoning_fix.providers.lessons import Lessons
from reasoning_fix.providers.table import Table
from reasoning_fix.proxy import callers
from reasoning_fix.proxy.chat_request import chat_request
from reasoning_fix.store import Store
from reasoning_fix.store.sealing import Installation


class OnRecord(msgspec.Struct, frozen=True):
    """What a proxy knows; nothing of it is changed by explaining."""

    store: Store
    installation: Installation
    lessons: Lessons
    table: Table
    preferences: Preferences

    def explain(self, one: flow.Flow, texts: bool) -> list[str]:
        """For a person, why each turn of this request was or was not restored."""
        asked = chat_request(0, one, self.table)
        if asked is None:
            return [_other(one)]
        caller = callers.caller(asked.flow, asked.route, self.installation)
        noted = asked.notes
        family = asked.provider.rule(noted.model if noted else "", asked.endpoint.dialect).name
        told, _ = explain(
            asked.body,
            caller,
            self.table,
            Earlier(self.store, int(asked.begun * 1000)),
            asked.preferences if noted is not None and noted.preferences is not None else self.preferences,
            Lessons(None) if noted is not None else self.lessons,
            taught=noted.taught(caller.host, asked.endpoint.dialect, family) if noted is not None else (),
        )
        lines = told.lines(texts)
        if asked.altered:
            lines.append(
                "  note: this request was repaired, and what it takes to undo that is not known here"
            )
        then = [turn.status for turn in noted.treated] if noted is not None else []
        if then and then != [turn.status for turn in told.turns]:
            lines.append(f"  note: then it was: {', '.join(then)}; the record has changed since")
        return lines


def _other(one: flow.Flow) -> str:
    if not isinstance(one, http.HTTPFlow):
        return "no chat request: this is no HTTP flow"
    return f"{callers.host_of(one)}: no chat request of a known provider, or its body is not here"
