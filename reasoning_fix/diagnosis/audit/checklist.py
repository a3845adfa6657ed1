"""The questions, in their order: each request differs from one that was answered in one thing only.

So what a refusal is worded like does not matter, and a gateway that hides the reason is understood all the
same. Turns that lack something are asked about in conversations that the server has not seen: some servers
still hold what they said a moment ago. Bytes are sent by a callable; nothing here knows the network.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

import msgspec

from reasoning_fix.diagnosis.audit import spelling
from reasoning_fix.diagnosis.audit.asking import Asker, NoAnswer, Reply, said
from reasoning_fix.diagnosis.audit.spelling import TAGS, Answer, Results, Said, Step, User
from reasoning_fix.diagnosis.audit.targets import Target
from reasoning_fix.dialects import DIALECTS
from reasoning_fix.dialects.wire import AnswerError
from reasoning_fix.engine import policy
from reasoning_fix.engine.usage import Usage
from reasoning_fix.providers.refusals import STATUSES, recognise
from reasoning_fix.providers.rows import CHAT_REASONING_FIELDS, OffSwitch
from reasoning_fix.providers.table import TURN, Table

# What became of a request that was asked for its acceptance only. "failed": neither, a server's fault.
type Outcome = Literal["accepted", "refused", "failed"]

ABSENT = "absent"
EMPTY = "an empty text"
SPACE = "a space"
WORDS = "a placeholder with words"
OTHER = "another text"
# A whole answer, thought and all; enough of one to see whether it thinks; and to see that it is not refused.
_WHOLE, _SOME, _LITTLE = 4000, 200, 32
_FAILURES = 3
_KEY_STATUSES = (401, 403)
_QUESTION = "A bat and a ball cost 1.10 together, the bat 1.00 more than the ball. What costs the ball?"
_COLD_QUESTION = "A pen and a cap cost 2.20 together, the pen 2.00 more than the cap. What costs the cap?"
_NEXT = "Is that more than 0.20? Answer in one word."
_TOOL_QUESTION = "What is the weather in Oslo? Call get_weather to find out."
_INSISTING = "Call the tool get_weather now, with the city Oslo. Do not answer in words before that."
_COLD_TOOL_QUESTION = "Tell me the weather in Bergen. Call get_weather to find out."
_SECOND_TOOL_QUESTION = "And in Rome? Call get_weather again, with the city Rome."
# How thinking is turned on where a model does not think by itself, by wire.
_TURN_ON: dict[str, tuple[dict[str, object], ...]] = {
    "chat_completions": (
        {"thinking": {"type": "enabled"}},
        {"reasoning": {"enabled": True}},
        {"enable_thinking": True},
    ),
    "messages": ({"thinking": {"type": "enabled", "budget_tokens": 1024}},),
    "responses": ({"reasoning": {"effort": "medium"}},),
}
# The switches that make sense on a wire; on chat completions every one does.
_SWITCHES: dict[str, tuple[str, ...]] = {"messages": ("thinking",), "responses": ("effort", "thinking")}


class Check(msgspec.Struct, frozen=True):
    """One line for a person: what was asked, what came out, and a remark."""

    name: str
    outcome: str
    note: str = ""


class Findings(msgspec.Struct):
    """What is known by now; outcomes are None or missing where nothing was asked or nothing came of it."""

    thinks: bool | None = None
    by_default: bool = False
    turned_on_by: dict[str, object] = {}
    place: str = ""
    streamed_place: str = ""
    turns: int = 0
    tool_turn: dict[str, Outcome] = {}
    plain_turn_with_tools: dict[str, Outcome] = {}
    plain_turn: dict[str, Outcome] = {}
    fields: dict[str, Outcome] = {}
    forbidden: bool = False
    switches: dict[str, str] = {}
    cost: Usage = Usage()


def most_requests(table: Table, target: Target) -> int:
    """As many requests as the checklist can need, with three to spare for rate limits."""
    on = len(_TURN_ON[target.dialect])
    fields = len(CHAT_REASONING_FIELDS) - 1 if target.dialect == "chat_completions" else 0
    # The opening, the tool turns and those after them, what can stand for reasoning there and at plain turns.
    return (1 + on) + 2 + 1 + 2 + 5 + fields + 2 + 4 + len(_switches(table, target)) + 1 + 3


def _switches(table: Table, target: Target) -> list[OffSwitch]:
    """The switches to try, the one of the table first."""
    rule = target.provider.rule(target.model, target.dialect)
    first = table.off_switch(target.endpoint, rule)
    names = _SWITCHES.get(target.dialect)
    found = [switch for switch in table.off_switches if names is None or switch.name in names]
    named = [switch for switch in found if switch.name]
    return sorted({switch.name: switch for switch in named}.values(), key=lambda switch: switch != first)


class Checklist:
    """One run. `tell` is called with each line as it is known; `findings` holds what is known so far."""

    def __init__(
        self, table: Table, target: Target, asker: Asker, key: str, tell: Callable[[Check], None]
    ) -> None:
        self._table = table
        self._target = target
        self._asker = asker
        self._key = key
        self._tell = tell
        self._wire = DIALECTS[target.dialect]
        self._failures = 0
        self._words = table.stand_in.replace(TURN, "0a1b2c3d")
        self.findings = Findings()

    def run(self) -> Findings:
        """Ask everything. Raises NoAnswer where nothing more can be learned."""
        plain = self._opening()
        if not self.findings.thinks:
            return self.findings
        called = self._tool_turn(plain)
        if not self.findings.forbidden:
            self._longer(called)
            self._tool_turn_without(called)
            if self._target.dialect == "chat_completions":
                self._other_fields(called)
            self._plain_turns(plain)
        self._turning_off(called)
        return self.findings

    # --- whole answers --------------------------------------------------------------------------------------

    def _opening(self) -> Said:
        found = self.findings
        answer = self._answer([User(_QUESTION)], first=True)
        if answer.place:
            found.thinks = found.by_default = True
            self._line("thinks by default", "yes", f"in {_named(answer.place)}")
        else:
            self._line("thinks by default", "no")
            for more in _TURN_ON[self._target.dialect]:
                again = self._read(self._reply([User(_QUESTION)], more=more))
                if again is not None and again.place:
                    found.turned_on_by = more
                    answer = again
                    break
            found.thinks = bool(found.turned_on_by)
            shown = msgspec.json.encode(found.turned_on_by).decode()
            on = f"yes, by {shown}, in {_named(answer.place)}" if found.thinks else "by nothing known here"
            self._line("thinks when asked to", on)
        found.place = answer.place
        return answer.said

    def _tool_turn(self, plain: Said) -> Said:
        """A turn with a call, and whether it is accepted as it came."""
        for question in (_TOOL_QUESTION, _INSISTING):
            answer = self._answer([User(question)], tools=True)
            if answer.said.turn.calls:
                break
        called = answer.said
        if called.turn.calls:
            note = "with reasoning" if answer.place else "without reasoning"
            self._line("calls a tool", "yes", note)
        else:
            self._line("calls a tool", "no", "a made-up call stands in for it")
            made_up = spelling.made_up_answer(self._target.dialect, calls=True)
            example = spelling.answer(self._target.dialect, made_up, streamed=False, snapshots=False)
            assert example is not None
            called = Said(example.said.turn, plain.fields)
        if not (called.fields or self.findings.place == TAGS):
            called = Said(called.turn, plain.fields)
        steps: list[Step] = [User(question), called, Results(called.turn)]
        reply = self._reply(steps, tools=True)
        outcome = self._told("tool turn, its own reasoning", reply)
        if outcome == "refused":
            refusal = recognise(reply.body, self._table)
            if refusal is None or refusal.means != "forbidden":
                raise NoAnswer("a turn was refused with its own reasoning: nothing more can be concluded.")
            self.findings.forbidden = True
            return called
        self._steps = steps
        self.findings.turns = 1
        if (answered := self._read(reply)) is not None:
            self._steps = [*steps, answered.said]
            self.findings.turns = 2
        return called

    def _longer(self, called: Said) -> None:
        """On to a third turn with a call, streamed, and the request after it, with all that was said."""
        if self.findings.turns < 2:
            return
        steps: list[Step] = [*self._steps, User(_SECOND_TOOL_QUESTION)]
        reply = self._reply(steps, tools=True, stream=True)
        answer = self._read(reply)
        if answer is None:
            self._line("streamed", _outcome(reply), self._note(reply) or "no answer that can be read")
            return
        self.findings.streamed_place = answer.place
        self.findings.turns = 3
        note = f"reasoning in {_named(answer.place)}" if answer.place else "no reasoning"
        self._line("streamed", "accepted", note)
        steps.append(answer.said)
        steps.append(Results(answer.said.turn) if answer.said.turn.calls else User(_NEXT))
        self._try("three turns, all reasoning kept", steps)

    # --- what may be missing --------------------------------------------------------------------------------

    def _tool_turn_without(self, called: Said) -> None:
        cold = called.elsewhere()
        for name, fields in self._variants():
            steps: list[Step] = [User(_COLD_TOOL_QUESTION), cold.carrying(fields), Results(cold.turn)]
            self.findings.tool_turn[name] = self._try(f"tool turn, {name}", steps)

    def _other_fields(self, called: Said) -> None:
        cold = called.elsewhere()
        for name in CHAT_REASONING_FIELDS:
            value = self._wire.stand_in(name, self._words)
            if name in self.findings.place.split(", ") or value is None:
                continue
            steps: list[Step] = [User(_COLD_TOOL_QUESTION), cold.carrying({name: value}), Results(cold.turn)]
            self.findings.fields[name] = self._try(f"tool turn, {name}", steps)

    def _plain_turns(self, plain: Said) -> None:
        found = self.findings
        plain = plain.elsewhere()
        steps: list[Step] = [User(_COLD_QUESTION), plain.without(), User(_NEXT)]
        found.plain_turn_with_tools[ABSENT] = self._try(f"plain turn, tools in the request, {ABSENT}", steps)
        found.plain_turn[ABSENT] = self._try(f"plain turn, no tools, {ABSENT}", steps, tools=False)
        demanded = "refused" in (*found.plain_turn.values(), *found.plain_turn_with_tools.values())
        if demanded and found.tool_turn.get(ABSENT) != "refused":
            tools = found.plain_turn_with_tools.get(ABSENT) == "refused"
            for name, fields in self._variants():
                if name not in (ABSENT, OTHER):
                    steps = [User(_COLD_QUESTION), plain.carrying(fields), User(_NEXT)]
                    found.tool_turn[name] = self._try(f"plain turn, {name}", steps, tools=tools)

    def _variants(self) -> Iterator[tuple[str, Mapping[str, bytes]]]:
        """What may stand in the place of reasoning, each with its fields."""
        yield ABSENT, {}
        texts = ((EMPTY, ""), (SPACE, " "), (WORDS, self._words), (OTHER, "The person wants to know that."))
        for name, text in texts:
            for field in self._fields():
                value = self._wire.stand_in(field, text)
                if value is not None:
                    yield name, {field: value}
                    break

    def _fields(self) -> tuple[str, ...]:
        """The fields that reasoning came in here; else those that this provider reads."""
        found = tuple(name for name in self.findings.place.split(", ") if name and name != TAGS)
        plain = [name for name in found if self._wire.stand_in(name, "") is not None]
        return tuple(plain) or (
            () if self.findings.place == TAGS else self._wire.fields(self._target.provider)
        )

    def _try(
        self,
        name: str,
        steps: Sequence[Step],
        *,
        tools: bool = True,
        more: Mapping[str, object] | None = None,
    ) -> Outcome:
        """Ask whether this history is accepted, and tell."""
        return self._told(name, self._reply(steps, tools=tools, most=_LITTLE, more=more))

    # --- the switches ---------------------------------------------------------------------------------------

    def _turning_off(self, called: Said) -> None:
        found = self.findings
        if not found.by_default:
            return
        for switch in _switches(self._table, self._target):
            reply = self._reply([User(_QUESTION)], most=_SOME, more=_parameters(switch))
            answer = self._read(reply)
            if answer is None:
                outcome: str = "failed" if reply.status == 200 else _outcome(reply)
            else:
                outcome = "still thinks" if answer.place else "off"
            found.switches[switch.name] = outcome
            self._line(
                f"{'.'.join(switch.path)} = {msgspec.json.encode(switch.value).decode()}",
                outcome,
                self._note(reply),
            )
        off = next((s for s in _switches(self._table, self._target) if found.switches[s.name] == "off"), None)
        if off is not None and found.tool_turn.get(ABSENT) == "refused":
            cold = called.elsewhere().without()
            steps: list[Step] = [User(_COLD_TOOL_QUESTION), cold, Results(cold.turn)]
            self._try("tool turn, absent, thinking off", steps, more=_parameters(off))

    # --- asking ---------------------------------------------------------------------------------------------

    def _answer(self, steps: Sequence[Step], *, tools: bool = False, first: bool = False) -> Answer:
        """A whole answer that the rest depends on. Raises NoAnswer where none comes."""
        reply = self._reply(steps, tools=tools)
        if reply.status in (400, 404, 422):
            hint = f" Is {self._target.model!r} the name of a model there?" if first else ""
            raise NoAnswer(f"{self._target.host} refused a plain request ({self._note(reply)}).{hint}")
        answer = self._read(reply)
        if answer is None:
            url, dialect = self._target.url, self._target.dialect
            raise NoAnswer(
                f"{url} gave no {dialect} answer that can be read ({self._note(reply) or 'status 200'})."
            )
        return answer

    def _reply(
        self,
        steps: Sequence[Step],
        *,
        tools: bool = False,
        stream: bool = False,
        most: int = _WHOLE,
        more: Mapping[str, object] | None = None,
    ) -> Reply:
        """The reply; its cost is added up. Raises NoAnswer for what makes all further requests useless."""
        parameters = self.findings.turned_on_by | dict(more or {})
        if "budget_tokens" in msgspec.json.encode(parameters).decode():
            most += 1024
        target = self._target
        body = spelling.request(
            target.dialect, target.model, steps, tools=tools, stream=stream, most=most, more=parameters
        )
        reply = self._asker.ask(body)
        host, text = target.host, said(reply, self._key)
        if reply.status in _KEY_STATUSES:
            raise NoAnswer(f"{host} refused the key ({reply.status}: {text}).")
        if reply.status == 402:
            raise NoAnswer(f"{host} wants to be paid first ({text}).")
        if reply.status == 429:
            raise NoAnswer(f"{host} limits the rate ({text}); try again later, or with --pause SECONDS.")
        self._failures = self._failures + 1 if _outcome(reply) == "failed" else 0
        if self._failures >= _FAILURES:
            raise NoAnswer(f"{host} failed {_FAILURES} times in a row ({reply.status}: {text}).")
        if (answer := self._read(reply)) is not None:
            self.findings.cost = self.findings.cost.plus(answer.cost)
        return reply

    def _read(self, reply: Reply) -> Answer | None:
        """The answer; None if the request was not accepted, or its answer cannot be read."""
        if reply.status != 200:
            return None
        snapshots = self._target.provider.snapshots(self._target.host)
        try:
            return spelling.answer(self._target.dialect, reply.body, reply.streamed, snapshots)
        except AnswerError:
            return None

    def _told(self, name: str, reply: Reply) -> Outcome:
        outcome = _outcome(reply)
        self._line(name, outcome, self._note(reply))
        return outcome

    def _note(self, reply: Reply) -> str:
        return "" if reply.status == 200 else f"{reply.status}: {said(reply, self._key)}"

    def _line(self, name: str, outcome: str, note: str = "") -> None:
        self._tell(Check(name, outcome, note))


def _outcome(reply: Reply) -> Outcome:
    if reply.status == 200:
        return "accepted"
    return "refused" if reply.status in STATUSES else "failed"


def _named(place: str) -> str:
    return {"blocks": "thinking blocks", "items": "reasoning items"}.get(place, place)


def _parameters(switch: OffSwitch) -> dict[str, object]:
    settings = policy.turned_off(switch, {})
    return {name: msgspec.json.decode(value) for name, value in settings.items() if value is not None}
