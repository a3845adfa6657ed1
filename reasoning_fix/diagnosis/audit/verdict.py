"""From findings to a rule of the provider table, and its row as TOML that the table can load."""

import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from reasoning_fix.diagnosis.audit.checklist import ABSENT, EMPTY, SPACE, WORDS, Findings
from reasoning_fix.diagnosis.audit.spelling import TAGS
from reasoning_fix.diagnosis.audit.targets import Target
from reasoning_fix.providers import rows
from reasoning_fix.providers.rows import Endpoint, ProviderRow, Rule
from reasoning_fix.providers.table import NEUTRAL, Table, load_table, read_files

_COMPARED = ("required", "placeholder", "known_empty", "thinks", "forbidden", "off")


def rule_of(found: Findings, table: Table, target: Target, source: str) -> Rule:
    """The rule that these findings make for exactly this model on this wire."""
    required = _required(found)
    placeholder = known_empty = None
    refuses: tuple[str, ...] = ()
    if required != "never":
        old = target.provider.rule(target.model, target.dialect)
        texts = {EMPTY: "", SPACE: " ", WORDS: table.stand_in}
        outcomes = {text: found.tool_turn.get(name) for name, text in texts.items()}
        accepted = [text for text in _preferred(old, table, target) if outcomes.get(text) == "accepted"]
        refuses = tuple(text for text, outcome in outcomes.items() if outcome == "refused")
        refuses += tuple(text for text in old.refuses if text not in outcomes)
        placeholder = accepted[0] if accepted else None
        # Turns without any thought cannot be asked about: the table's word stands, where nothing refutes it.
        known_empty = "" if outcomes[""] == "accepted" else placeholder
        if old.required == required and old.known_empty not in refuses:
            known_empty = old.known_empty
    return Rule(
        name=_name(target),
        models=f"^{re.escape(target.model)}$",
        dialects=(target.dialect,),
        required=required,
        placeholder=placeholder,
        known_empty=known_empty,
        refuses=refuses,
        thinks="yes" if found.thinks else "no",
        forbidden=found.forbidden,
        off=_off(found, table, target),
        source=source,
    )


def _preferred(old: Rule, table: Table, target: Target) -> tuple[str, ...]:
    """Placeholders, best first: the table's own; then, on the chat wire, a space, which the fewest reports
    contradict, and on the others words, since their blocks and items should say something.
    """
    order = (" ", table.stand_in, "") if target.dialect == "chat_completions" else (table.stand_in, " ", "")
    return order if old.placeholder is None else (old.placeholder, *order)


def _required(found: Findings) -> rows.Required:
    if found.plain_turn.get(ABSENT) == "refused":
        return "always"
    if found.plain_turn_with_tools.get(ABSENT) == "refused":
        return "with_tools"
    return "tool_calls" if found.tool_turn.get(ABSENT) == "refused" else "never"


def _off(found: Findings, table: Table, target: Target) -> str | None:
    """The switch: None for the endpoint's own, "" for none."""
    if not found.switches or "failed" in found.switches.values():
        # Nothing new is known about it.
        return target.provider.rule(target.model, target.dialect).off
    works = next((name for name, outcome in found.switches.items() if outcome == "off"), "")
    return None if works == target.endpoint.off else works


def _name(target: Target) -> str:
    """As the table's, which says what models may see each other's reasoning."""
    known = target.provider.rule(target.model, target.dialect)
    return target.provider.family(target.model) if known is NEUTRAL else known.name


def differences(new: Rule, target: Target, table: Table) -> list[str]:
    """Where the table said otherwise; a switch counts by what it does there, not by where it is named."""
    old = target.provider.rule(target.model, target.dialect)
    said = []
    for name in _COMPARED:
        before, now = getattr(old, name), getattr(new, name)
        if name == "off":
            before, now = (_switch(table, target, rule) for rule in (old, new))
        if before != now and not (name in ("placeholder", "known_empty") and now is None):
            said.append(f"{name}: {before!r} in the table, {now!r} here")
    return said


def _switch(table: Table, target: Target, rule: Rule) -> str:
    switch = table.off_switch(target.endpoint, rule)
    return "" if switch is None else switch.name


def reads(found: Findings, target: Target) -> tuple[rows.ReasoningField, ...]:
    """The fields of a chat message that reasoning is taken from, as far as was seen."""
    came = [name for name in rows.CHAT_REASONING_FIELDS if name in found.place.split(", ")]
    if found.tool_turn.get(ABSENT) == "refused":
        came += [name for name, outcome in found.fields.items() if outcome == "accepted"]
    return msgspec.convert(came, tuple[rows.ReasoningField, ...])


def row_of(rule: Rule, found: Findings, target: Target, user_file: Path | None) -> ProviderRow:
    """The provider's whole row, with the new rule before its others."""
    if not target.known:
        endpoints = ProviderRow("", ()).endpoints
        if target.endpoint not in endpoints:
            # A path of its own: the usual ones stay beside it.
            endpoints = (Endpoint(target.endpoint.path, target.dialect), *endpoints)
        fields = reads(found, target) if target.dialect == "chat_completions" else target.provider.reads
        return ProviderRow(
            name=target.host,
            hosts=(target.host,),
            endpoints=endpoints,
            reads=fields or target.provider.reads,
            rules=(rule,),
            source=rule.source,
        )
    for row in (row for file in read_files(user_file) for row in file.provider):
        if row.name == target.provider.name:
            known = target.endpoint in row.endpoints
            endpoints = row.endpoints if known else (target.endpoint, *row.endpoints)
            return msgspec.structs.replace(row, rules=(rule, *row.rules), endpoints=endpoints)
    raise AssertionError(f"{target.provider.name} is in no file")


def toml_of(row: ProviderRow) -> str:
    """A provider's row as a table file spells it; what has its default is left out."""
    return "\n".join(_table("provider", row)) + "\n"


def _table(name: str, row: msgspec.Struct) -> Iterator[str]:
    yield f"[[{name}]]"
    below: list[tuple[str, Sequence[msgspec.Struct]]] = []
    for field in msgspec.structs.fields(row):
        value = getattr(row, field.name)
        if value == field.default:
            continue
        if isinstance(value, tuple) and value and isinstance(value[0], msgspec.Struct):
            below.append((field.encode_name, value))
        else:
            yield f"{field.encode_name} = {_toml(value)}"
    for key, inner in below:
        for one in inner:
            yield ""
            yield from _table(f"{name}.{key}", one)


def _toml(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            if "\\" in value and "'" not in value and value.isprintable():
                return f"'{value}'"
            # JSON's strings are TOML's, but for one character.
            return msgspec.json.encode(value).decode().replace("\x7f", "\\u007f")
        case tuple():
            return f"[{', '.join(map(_toml, value))}]"
    raise AssertionError(f"no column holds {value!r}")


def says_what_it_should(toml: str, rule: Rule, target: Target) -> bool:
    """Whether a table file with this text gives that very rule to the model at that host.

    Raises ProviderTableError.
    """
    with tempfile.TemporaryDirectory(prefix="reasoning-fix-") as folder:
        path = Path(folder) / "rule.toml"
        path.write_text(toml, encoding="utf-8")
        provider = load_table(path).provider(target.host)
    return provider is not None and provider.rule(target.model, target.dialect) == rule


def summary(found: Findings) -> list[str]:
    """What came of it, in words."""
    if not found.thinks:
        return ["the model does not reason: nothing is to be restored"]
    lines = [f"reasoning comes in {found.place}"]
    if found.streamed_place and found.streamed_place != found.place:
        lines.append(f"streamed, it comes in {found.streamed_place}")
    if found.place == TAGS:
        lines.append("clients that keep the content whole keep it, those that clean it lose it")
    return lines
