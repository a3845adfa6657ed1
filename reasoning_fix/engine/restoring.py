"""Request bytes -> request bytes and a report of what was done.

The body is read once; where nothing is to be restored it is not touched at all, and where something is, only
the reasoning fields change. Reasoning that the client sends itself always wins. Turns that a client brings
complete and that are not on record in their context are learned from the request, once it is answered.

What is done to the turns is done in one_pass.py; this file knows about the request around them.
"""

from collections.abc import Sequence

import msgspec

from reasoning_fix.dialects.splice import LeftError, set_members
from reasoning_fix.dialects.turns import Other
from reasoning_fix.dialects.wire import read_request
from reasoning_fix.engine import policy as policies
from reasoning_fix.engine.caller import Caller
from reasoning_fix.engine.history import NONE
from reasoning_fix.engine.knowledge import Knowledge
from reasoning_fix.engine.matching.verdicts import Contradiction, Observer
from reasoning_fix.engine.one_pass import Pass
from reasoning_fix.engine.originals import Before, was_at_top
from reasoning_fix.engine.recording import Recorder, Rest, now
from reasoning_fix.engine.report import Report
from reasoning_fix.providers.lessons import Lesson


class Restored(msgspec.Struct):
    """A request that was `received`, and its `body` as it is to be sent; None: as it came."""

    caller: Caller
    knowledge: Knowledge
    received: bytes
    body: bytes | None
    report: Report
    recorder: Recorder

    @property
    def sent(self) -> bytes:
        return self.received if self.body is None else self.body


def restore(
    body: bytes,
    caller: Caller,
    knowledge: Knowledge,
    *,
    taught: Sequence[Lesson] = (),
    observer: Observer | None = None,
    defers: bool = False,
) -> Restored:
    """Restore what is on record, fill by rule what is demanded and is not.

    `taught` are lessons to try that are not learned yet; `observer` looks on for people who ask why. If it
    `defers`, a request in which nothing can be missing comes back at once, and what is left to do is its
    recorder's `rest`. Raises NotChatError if the body is not a chat request, SpliceError if it repeats member
    names.
    """
    try:
        return _restore(body, caller, knowledge, taught, observer, defers)
    except (Contradiction, LeftError):
        pass
    left: frozenset[int] = frozenset()
    while True:
        try:
            return _restore(body, caller, knowledge, taught, observer, False, left)
        except LeftError as odd:
            if odd.items <= left:
                raise
            left |= odd.items


def _restore(
    body: bytes,
    caller: Caller,
    knowledge: Knowledge,
    taught: Sequence[Lesson],
    observer: Observer | None,
    defers: bool,
    left: frozenset[int] | None = None,
) -> Restored:
    """`left`: messages that stay as they came, by position; then nothing that is remembered is used.

    Raises Contradiction, and LeftError for messages that are to be left, with nothing done yet.
    """
    request = caller.dialect.open_request(body)
    model = policies.model_at(caller.provider, caller.endpoint, request.model)
    lessons = (*_lessons(body, caller, knowledge, model.learns_as, request.model), *taught)
    policy = policies.policy(knowledge.table, caller.endpoint, model.rule, knowledge.preferences, lessons)
    stance = policies.stance(
        policy,
        knowledge.table,
        caller.endpoint,
        knowledge.preferences,
        request.model,
        request.parameters,
        lessons,
    )
    switch = stance.switch.name if stance.switch is not None else ""
    is_off = stance.turn_off or stance.switch is not None
    report = Report(
        model=request.model,
        family=model.learns_as,
        thinking_off=is_off,
        switch=switch,
        asked=now(),
        lessons=lessons,
    )
    if stance.ignored:
        report.remarks = ("thinking is on: its last answer carried reasoning",)
    recorder = Recorder(caller, knowledge, request.model, report.asked, switch)
    # What is only tried out, or looked into, is not remembered.
    remembers = not taught and observer is None
    work = Pass(request, recorder, policy, model.family, report, observer)
    work.treats = not is_off and not policy.is_refused
    if remembers and not stance.turn_off and knowledge.prefix_cache is not None:
        work.remember(knowledge.prefix_cache, goes_on=left is None)
    turn_off, settings = stance.turn_off, dict(stance.settings)
    written = body
    if defers and not (turn_off or work.is_resumed) and work.changes_nothing():
        recorder.rest = Rest(work.run)
    else:
        written = work.run(left or frozenset())
        turn_off = turn_off or work.lacks
    if turn_off and policy.off is not None:
        # Nothing is demanded then, and what is not demanded stays as the client sent it.
        written = body
        report.go_on(Report())
        report.thinking_off = True
        work.before = {}
        off = policies.turned_off(policy.off, request.parameters)
        report.turned_off = bool(off)
        recorder.off = policy.off.name
        settings |= off
    elif settings:
        report.settings = tuple(settings)
    if settings:
        written = set_members(written, settings)
    if settings or work.before:
        before = {index: dict(was) for index, was in work.before.items()}
        report.before = Before(before, was_at_top(request, settings) if settings else {}, work.cuts)
    report.grown = len(written) - len(body)
    return Restored(caller, knowledge, body, written if written != body else None, report, recorder)


def _lessons(body: bytes, caller: Caller, knowledge: Knowledge, name: str, model: str) -> list[Lesson]:
    """The lessons that hold for a request."""
    known = knowledge.lessons.about(caller.host, caller.endpoint.dialect, name, model)
    known = [lesson for lesson in known if lesson.means != "tried"]
    if any(lesson.conversation for lesson in known):
        conversation = conversation_of(body, caller)
        known = [lesson for lesson in known if lesson.conversation in ("", conversation)]
    return known


def conversation_of(body: bytes, caller: Caller) -> str:
    """A name for a conversation that says nothing to others: a keyed fingerprint of how it begins."""
    request = read_request(caller.dialect, body)
    first = next((message for message in request.messages if isinstance(message, Other)), None)
    fingerprints = caller.fingerprints
    return fingerprints.of("conversation", fingerprints.other(first) if first is not None else NONE).hex()
