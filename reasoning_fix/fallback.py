"""What to do for a turn that nobody recorded, and when to turn thinking off: by rule, lesson and wish.

The rules are rows of providers.toml with their sources, the lessons are what refusals taught (lessons.py),
the wishes are the person's options. This file only weighs them; it knows no wire format but for the
parameters of a request, which all share.
"""

import re
from collections.abc import Mapping, Sequence

import msgspec

from reasoning_fix.dialects.splice import set_members
from reasoning_fix.dialects.wire import parameter
from reasoning_fix.lessons import Lesson
from reasoning_fix.provider_rows import Endpoint, OffSwitch, Required, Rule
from reasoning_fix.providers import TURN, Table

AUTO = "auto"
DISABLE = "disable-thinking"
NOTHING = "none"
MODES = (AUTO, DISABLE, NOTHING)
# A lesson that thinking must be turned off for a request, in place of what is missing.
TURN_OFF = "off"

type Settings = dict[str, bytes | None]


class Wishes(msgspec.Struct, frozen=True):
    """What the person asked for: the mode for turns not on record, models (a regular expression, "" for
    none) whose thinking is turned off on every request, and whether reasoning is asked for apart."""

    mode: str = AUTO
    disable: str = ""
    split: bool = False


class Policy(msgspec.Struct):
    """How one request is treated. `forbidden` are fields never sent, `dropped` parameters left out."""

    rule: Rule
    off: OffSwitch | None
    always_thinks: bool
    required: Required
    placeholder: str | None
    known_empty: str | None
    refuses: tuple[str, ...]
    strict: bool
    forbidden: frozenset[str]
    dropped: tuple[str, ...]
    refuses_forced_tools: bool
    must_turn_off: bool

    def demands(self, has_calls: bool, has_tools: bool) -> bool:
        """Whether a turn without reasoning is refused; `has_tools`: the request carries tools."""
        match self.required:
            case "tool_calls":
                return has_calls
            case "with_tools":
                return has_tools
            case "always":
                return True
            case _:
                return False

    def accepts(self, texts: Sequence[str] | None) -> bool:
        """Whether the blank or placeholder that a client sent may stay; None: it sent nothing."""
        if texts is None or not texts:
            return False
        return not self.strict and not any(text in self.refuses for text in texts)


def policy(table: Table, endpoint: Endpoint, rule: Rule, wishes: Wishes, lessons: Sequence[Lesson]) -> Policy:
    """The rule of a model, as lessons amend it. What the person set themselves is not amended."""
    found = Policy(
        rule=rule,
        off=table.off_switch(endpoint, rule),
        always_thinks=rule.off == "",
        required=rule.required,
        placeholder=rule.placeholder,
        known_empty=rule.known_empty,
        refuses=rule.refuses,
        strict=False,
        forbidden=frozenset(),
        dropped=(),
        refuses_forced_tools=False,
        must_turn_off=False,
    )
    for lesson in lessons:
        match lesson.means:
            case "always_thinks":
                found.off, found.always_thinks = None, True
            case "parameter":
                found.dropped += (lesson.detail,)
            case "tool_choice":
                found.refuses_forced_tools = True
            case "forbidden" if rule not in table.user_rules:
                found.forbidden |= {lesson.detail}
            case "missing" if lesson.detail == TURN_OFF:
                found.must_turn_off = True
            case "missing" if rule not in table.user_rules and wishes.mode != NOTHING:
                found.required = "always"
                found.placeholder = found.known_empty = lesson.detail
                found.strict = True
    return found


def filled_in(text: str, mark: bytes) -> str:
    """A placeholder for the turn with this fingerprint: the same turn always gets the same words."""
    return text.replace(TURN, mark[:4].hex())


def is_off(table: Table, found: Policy, parameters: Mapping[str, msgspec.Raw]) -> bool:
    """Whether a request turns thinking off itself. A model that always thinks does not listen."""
    return not found.always_thinks and any(
        parameter(parameters, switch.path) == switch.value for switch in table.off_switches
    )


def is_to_be_off(wishes: Wishes, model: str) -> bool:
    """Whether the person wants thinking turned off for this model, whatever the request says."""
    return bool(wishes.disable) and re.search(wishes.disable, model, re.IGNORECASE) is not None


def turned_off(switch: OffSwitch, parameters: Mapping[str, msgspec.Raw]) -> Settings:
    """The members to set so that thinking is off, and those to leave out since they contradict it."""
    settings: Settings = {}
    for name in switch.clears:
        top, _, inner = name.partition(".")
        if parameter(parameters, tuple(name.split("."))) is not None:
            settings[top] = set_members(bytes(parameters[top]), {inner: None}) if inner else None
    value = msgspec.json.encode(switch.value)
    for key in reversed(switch.path[1:]):
        value = b"{%b:%b}" % (msgspec.json.encode(key), value)
    top = switch.path[0]
    before = bytes(parameters.get(top, b""))
    if switch.joins and before[:1] == b"{" and len(switch.path) == 2:
        value = set_members(before, {switch.path[1]: msgspec.json.encode(switch.value)})
    if parameter(parameters, switch.path) != switch.value:
        settings[top] = value
    return settings


def conflicts(found: Policy, parameters: Mapping[str, msgspec.Raw]) -> Settings:
    """Parameters that this host refuses beside thinking, as refusals taught."""
    return {name: None for name in found.dropped if name in parameters}


def forces_a_tool(parameters: Mapping[str, msgspec.Raw]) -> bool:
    """Whether a request demands a tool call, by name or not."""
    choice = parameter(parameters, ("tool_choice",))
    kind = choice.get("type") if isinstance(choice, dict) else choice
    return kind not in (None, "auto", "none")
