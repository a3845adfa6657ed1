"""What to do for a turn that nobody recorded, and when to turn thinking off: by rule, lesson and wish.

The rules are rows of providers.toml with their sources, the lessons are what refusals taught (lessons.py),
the preferences are the person's options. This file only weighs them; it knows no wire format but for the
parameters of a request, which all share.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

import msgspec

from reasoning_fix.dialects.splice import set_members
from reasoning_fix.dialects.wire import parameter
from reasoning_fix.providers.lessons import TURN_OFF, Lesson
from reasoning_fix.providers.rows import Endpoint, OffSwitch, Required, Rule
from reasoning_fix.providers.table import LONGEST_MODEL_NAME, NEUTRAL, TURN, Provider, Table

AUTO = "auto"
DISABLE = "disable-thinking"
NOTHING = "none"
MODES = (AUTO, DISABLE, NOTHING)

type Settings = dict[str, bytes | None]


class Preferences(msgspec.Struct, frozen=True):
    """What the person asked for: the mode for turns not on record, models (a regular expression, "" for
    none) whose thinking is turned off on every request, and whether reasoning is asked for apart."""

    mode: str = AUTO
    disable: str = ""
    split: bool = False


class Policy(msgspec.Struct):
    """How one request is treated. It is shared by all that are treated so, and stays as `policy` made it.

    `off` turns thinking off, `heeded` are the switches that do where the request has one. `is_refused`:
    reasoning is never sent. `forbidden` are fields never sent, and with a dot members of their items;
    `dropped` are parameters left out. `strict`: only reasoning that the provider can read counts as such.
    Of what is put back, the parts in `without` are left out, or all of it (`puts_nothing_back`).
    `only_demanded`: what is not demanded is left out. `padded`: thoughts have white space at their ends.
    """

    rule: Rule
    off: OffSwitch | None
    heeded: tuple[OffSwitch, ...]
    required: Required
    placeholder: str | None
    known_empty: str | None
    refuses: tuple[str, ...]
    is_refused: bool
    strict: bool = False
    forbidden: frozenset[str] = frozenset()
    dropped: tuple[str, ...] = ()
    without: frozenset[str] = frozenset()
    puts_nothing_back: bool = False
    only_demanded: bool = False
    padded: bool = False
    refuses_forced_tools: bool = False
    must_turn_off: bool = False

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


@lru_cache(maxsize=256)  # a conversation has the same one in each of its requests
def policy(
    table: Table, endpoint: Endpoint, rule: Rule, preferences: Preferences, lessons: tuple[Lesson, ...]
) -> Policy:
    """The rule of a model, as lessons amend it. What the person set themselves is not amended."""
    found = Policy(
        rule=rule,
        off=table.off_switch(endpoint, rule),
        heeded=table.heeded(endpoint, rule),
        required=rule.required,
        placeholder=rule.placeholder,
        known_empty=rule.known_empty,
        refuses=rule.refuses,
        is_refused=rule.forbidden,
    )
    is_own = rule in table.user_rules
    for lesson in lessons:
        match lesson.means:
            case "always_thinks":
                found.off, found.heeded = None, ()
            case "ignores_switch":
                found.heeded = tuple(switch for switch in found.heeded if switch.name != lesson.detail)
                if found.off is not None and found.off.name == lesson.detail:
                    found.off = None
            case "parameter":
                found.dropped += (lesson.detail,)
            case "tool_choice":
                found.refuses_forced_tools = True
            case "forbidden" if not is_own:
                found.forbidden |= {lesson.detail}
            case "signature" | "item_id" | "sealed":
                found.without |= {lesson.means}
            case "block":
                found.puts_nothing_back = True
            case "too_long":
                found.only_demanded = True
            case "padded":
                found.padded = True
            case "missing" if lesson.detail == TURN_OFF:
                found.must_turn_off = True
            case "missing" if not is_own:
                found.strict, found.is_refused = True, False
                if preferences.mode != NOTHING:
                    found.required = "always"
                    found.placeholder = found.known_empty = lesson.detail
            case _:
                pass
    return found


def filled_in(text: str, mark: bytes) -> str:
    """A placeholder for the turn with this fingerprint: the same turn always gets the same words."""
    return text.replace(TURN, mark[:4].hex())


class Model(msgspec.Struct, frozen=True):
    """What the table says about a model at an endpoint.

    `learns_as` is the name that lessons know it by: its family's if the table has one, else its own.
    `family` are the models that may see each other's reasoning.
    """

    rule: Rule
    learns_as: str
    family: str


def model_at(provider: Provider, endpoint: Endpoint, name: str) -> Model:
    """The model of this name. Longer names than LONGEST_MODEL_NAME are no models, and not kept in memory."""
    found = _model_at if len(name) <= LONGEST_MODEL_NAME else _model_at.__wrapped__
    return found(provider, endpoint, name)


@lru_cache(maxsize=1024)  # bounded: model names come from outside
def _model_at(provider: Provider, endpoint: Endpoint, name: str) -> Model:
    rule = provider.rule_at(endpoint, name)
    is_known = provider.rule(name, endpoint.dialect) is not NEUTRAL
    return Model(rule, (rule.name if is_known else "") or name, provider.family(name))


class Stance(msgspec.Struct, frozen=True):
    """How thinking stands in one request, by its parameters.

    `switch` is the one by which the client turns it off; `turn_off`: it is to be turned off here. `settings`
    are other members to set at the body's top, `ignored`: it has a switch that its model was seen to ignore.
    """

    switch: OffSwitch | None = None
    turn_off: bool = False
    settings: Settings = {}
    ignored: bool = False


def stance(
    found: Policy,
    table: Table,
    endpoint: Endpoint,
    preferences: Preferences,
    model: str,
    parameters: Mapping[str, msgspec.Raw],
    lessons: Sequence[Lesson],
) -> Stance:
    """How thinking stands in a request to this model, with these parameters."""
    switch = off_by(found, parameters)
    ignores = bool(lessons) and _ignored(table, lessons, parameters)
    if is_to_be_off(preferences, model) and found.off is not None:
        return Stance(switch, turn_off=True, ignored=ignores)
    if switch is not None:
        return Stance(switch, ignored=ignores)
    settings: Settings = {name: None for name in found.dropped if name in parameters}
    if preferences.split and endpoint.split and parameter(parameters, (endpoint.split,)) is None:
        settings[endpoint.split] = b"true"
    turn_off = found.must_turn_off
    if found.refuses_forced_tools and forces_a_tool(parameters):
        if found.off is not None:
            turn_off = True
        else:
            settings["tool_choice"] = None
    return Stance(None, turn_off and found.off is not None, settings, ignores)


def off_by(found: Policy, parameters: Mapping[str, msgspec.Raw]) -> OffSwitch | None:
    """The switch by which a request turns thinking off itself; None where thinking is on.

    A switch of another host, one that this model was seen to ignore, and any switch of a model that always
    thinks turn nothing off.
    """
    for switch in found.heeded:
        if switch.path[0] in parameters and parameter(parameters, switch.path) == switch.value:
            return switch
    return None


def _ignored(table: Table, lessons: Sequence[Lesson], parameters: Mapping[str, msgspec.Raw]) -> bool:
    names = {lesson.detail for lesson in lessons if lesson.means == "ignores_switch"}
    return bool(names) and any(
        parameter(parameters, switch.path) == switch.value
        for switch in table.off_switches
        if switch.name in names
    )


def is_to_be_off(preferences: Preferences, model: str) -> bool:
    """Whether the person wants thinking turned off for this model, whatever the request says."""
    return bool(preferences.disable) and re.search(preferences.disable, model, re.IGNORECASE) is not None


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


def forces_a_tool(parameters: Mapping[str, msgspec.Raw]) -> bool:
    """Whether a request demands a tool call, by name or not."""
    choice = parameter(parameters, ("tool_choice",))
    kind = choice.get("type") if isinstance(choice, dict) else choice
    return kind not in (None, "auto", "none")
