"""Explain a flow in a proxy that runs: from what is on record there, as it was when the request came."""

import msgspec
from mitmproxy import flow, http

from reasoning_fix.engine.engine import Engine
from reasoning_fix.engine.explaining import Earlier
from reasoning_fix.engine.explaining import explain as explain_request
from reasoning_fix.providers.lessons import Lessons
from reasoning_fix.proxy import callers
from reasoning_fix.proxy.chat_request import chat_request


def explain(one: flow.Flow, engine: Engine, texts: bool) -> list[str]:
    """For a person, why each turn of this request was or was not restored, with its first line if `texts`."""
    knowledge = engine.knowledge
    asked = chat_request(0, one, knowledge.table)
    if asked is None:
        return [_other(one)]
    caller = callers.caller(asked.flow, asked.route, engine.installation)
    knowledge = msgspec.structs.replace(knowledge, store=Earlier(knowledge.store, int(asked.begun * 1000)))
    taught, then = [], []
    if (noted := asked.notes) is not None:
        knowledge = msgspec.structs.replace(
            knowledge,
            preferences=knowledge.preferences if noted.preferences is None else asked.preferences,
            lessons=Lessons(None),
        )
        family = asked.provider.rule(noted.model, asked.endpoint.dialect).name
        taught = noted.taught(caller.host, asked.endpoint.dialect, family)
        then = [turn.status for turn in noted.treated]
    told, _ = explain_request(asked.body, caller, knowledge, taught=taught)
    lines = told.lines(texts)
    if asked.altered:
        lines.append("  note: this request was repaired, and what it takes to undo that is not known here")
    if then and then != [turn.status for turn in told.turns]:
        lines.append(f"  note: then it was: {', '.join(then)}; the record has changed since")
    return lines


def _other(one: flow.Flow) -> str:
    if not isinstance(one, http.HTTPFlow):
        return "not a chat request: this is not an HTTP flow"
    return f"{callers.host_of(one)}: not a chat request of a known provider, or its body is not here"
