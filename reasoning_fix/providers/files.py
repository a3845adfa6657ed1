"""Reads a provider table file, and says where it is wrong.

The structs of rows.py check the shape, `_faults` the rest: patterns, hosts, contradictions. Every error names
the file, the line, the key, what was found and what is allowed. Rules that point at a family are filled in
here; no other module sees them.
"""

import re
import tomllib
from collections.abc import Collection, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, get_args

import msgspec

from reasoning_fix import ReasoningFixError
from reasoning_fix.providers import rows
from reasoning_fix.providers.rows import Dialect, File, ProviderRow, Rule, RuleRow

# The way to a value in a table file: keys and positions, outermost first.
type Where = tuple[str | int, ...]
# For each provider and each of its rules, the complete rules that it stands for: itself, or one for each row
# of its family.
type FilledIn = list[list[list[Rule]]]


class ProviderTableError(ReasoningFixError, ValueError):
    """A table file is wrong: `file`, `line` (from 1), `key` ("" for a syntax error) and the reason."""

    def __init__(self, file: Path, line: int, key: str, reason: str) -> None:
        super().__init__(f"{file}, line {line}: {key + ': ' if key else ''}{reason}")
        self.file, self.line, self.key, self.reason = file, line, key, reason


def normal(host: str) -> str:
    """A host name as it is compared."""
    return host.strip().lower().removesuffix(".")


_HOST = re.compile(r"(?:\*\.)?[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|[0-9a-f]*:[0-9a-f]*:[0-9a-f:.]*")
_HEADER = re.compile(r"\s*(\[\[?)\s*([\w.\"' -]+?)\s*\]\]?\s*(?:#.*)?")
_ROWS: dict[tuple[str, ...], type[msgspec.Struct]] = {
    (): File,
    ("off",): rows.OffSwitch,
    ("words",): rows.PlaceholderWords,
    ("refusal",): rows.Refusal,
    ("family",): Rule,
    ("provider",): ProviderRow,
    ("provider", "endpoint"): rows.Endpoint,
    ("provider", "rule"): RuleRow,
}
_WORDS: dict[str, tuple[str, ...]] = {
    "required": get_args(rows.Required.__value__),
    "thinks": get_args(rows.Thinks.__value__),
    "dialect": get_args(Dialect.__value__),
    "dialects": get_args(Dialect.__value__),
    "means": get_args(rows.Means.__value__),
    "reads": get_args(rows.ReasoningField.__value__),
    "writes": get_args(rows.Writes.__value__),
    "null_content": get_args(rows.NullContent.__value__),
    "summary": get_args(rows.Summary.__value__),
}


def read(path: Path, switches: frozenset[str], families: Sequence[Rule] = ()) -> File:
    """Read and check one file, and complete the rules that point at a family.

    `switches` are the names of another file's off switches, `families` are its families, which count where
    this file has none of that name. Raises ProviderTableError.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ProviderTableError(path, 1, "", f"cannot be read: {error.strerror or error}") from error
    try:
        text = raw.decode("utf-8-sig")
        document: dict[str, Any] = tomllib.loads(text)
        file = msgspec.convert(document, _File)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ProviderTableError(path, line, "", "expected UTF-8 text, found other bytes") from error
    except tomllib.TOMLDecodeError as error:
        at = re.search(r"at line (\d+)", str(error))
        line = int(at[1]) if at else text.rstrip("\n").count("\n") + 1
        raise ProviderTableError(path, line, "", f"not valid TOML: {error}") from error
    except RecursionError:
        raise ProviderTableError(path, 1, "", "its values are nested too deep") from None
    except msgspec.ValidationError as error:
        where, reason = _explain(str(error), document)
        raise ProviderTableError(path, _line(text, where), _spell(where), reason) from error
    rules = _filled_in(file, document, families)
    for where, reason in _faults(file, rules, switches, families):
        raise ProviderTableError(path, _line(text, where), _spell(where), reason)
    providers = (
        copied(row, ProviderRow, rules=tuple(chain.from_iterable(filled_in)))
        for row, filled_in in zip(file.provider, rules, strict=True)
    )
    return copied(file, File, provider=tuple(providers))


class _ProviderRow(ProviderRow, frozen=True, forbid_unknown_fields=True):
    rules: tuple[RuleRow, ...] = msgspec.field(default=(), name="rule")


class _File(File, frozen=True, forbid_unknown_fields=True):
    """A file as it is written, with rules that point at families."""

    provider: tuple[_ProviderRow, ...] = ()


def copied[T: msgspec.Struct](row: msgspec.Struct, kind: type[T], **differs: object) -> T:
    """The row as another kind of row with the same fields, some of them with other values."""
    return kind(**{name: getattr(row, name) for name in kind.__struct_fields__} | differs)


def _filled_in(file: _File, document: dict[str, Any], families: Sequence[Rule]) -> FilledIn:
    found: FilledIn = []
    for row, written in zip(file.provider, document.get("provider", ()), strict=True):
        found.append([])
        for rule, stated in zip(row.rules, written.get("rule", ()), strict=True):
            family = _named(rule.family, file.family) or _named(rule.family, families)
            stands_for = _from_rows(rule, stated, family if rule.family else [Rule()])
            found[-1].append(
                [msgspec.structs.replace(one, source=one.source or row.source) for one in stands_for]
            )
    return found


def _from_rows(rule: RuleRow, stated: Collection[str], family: Sequence[Rule]) -> list[Rule]:
    """The rows for the rule's wires, with what the rule states (its keys in the file) in place of theirs."""
    differs = {key: getattr(rule, key) for key in stated if key != "family"}
    if rule.forbidden or rule.thinks == "no":
        # Such a model gets nothing, whatever its family gets.
        differs = {"required": "never", "placeholder": None, "known_empty": None} | differs
    return [
        msgspec.structs.replace(row, **differs | {"dialects": dialects})
        for row in family
        if (dialects := _in_both(row.dialects, rule.dialects)) is not None
    ]


def _in_both(some: tuple[Dialect, ...], others: tuple[Dialect, ...]) -> tuple[Dialect, ...] | None:
    """The wires that two rows are both for, () for all; None if they share none."""
    if not some or not others:
        return some or others
    return tuple(dialect for dialect in some if dialect in others) or None


def _named(name: str, families: Sequence[Rule]) -> list[Rule]:
    return [row for row in families if row.name == name]


def _explain(message: str, document: dict[str, object]) -> tuple[Where, str]:
    """msgspec's message -> the way to the wrong value, and a reason that a person can act on."""
    reason, _, at = message.partition(" - at `$")
    where: Where = tuple(
        key if key else int(index) for key, index in re.findall(r"\.(\w+)|\[(\d+)\]", at.removesuffix("`"))
    )
    columns = tuple(step for step in where if isinstance(step, str))
    if unknown := re.fullmatch(r"Object contains unknown field `(.*)`", reason, re.DOTALL):
        allowed = ", ".join(_ROWS[columns].__struct_encode_fields__)
        return (*where, unknown[1]), f"unknown key; allowed here: {allowed}"
    if missing := re.fullmatch(r"Object missing required field `(.*)`", reason):
        return (*where, missing[1]), "missing, and it has no default"
    found = _value(document, where)
    if columns and (words := _WORDS.get(columns[-1])):
        return where, f"found {found!r}; allowed: {', '.join(words)}"
    return where, f"{reason}, found {found!r}" if isinstance(found, str | int | float) else reason


def _value(document: object, where: Where) -> object:
    for step in where:
        if isinstance(document, dict):
            document = document.get(step)
        elif isinstance(document, list) and isinstance(step, int):
            document = document[step]
    return document


def _faults(
    file: _File, rules: FilledIn, switches: frozenset[str], families: Sequence[Rule]
) -> Iterator[tuple[Where, str]]:
    """What types cannot check: patterns, hosts, names, rows that contradict themselves or their family."""
    switches |= {switch.name for switch in file.off}
    for i, switch in enumerate(file.off):
        if not switch.path:
            yield ("off", i, "path"), "found an empty list; expected the keys that lead to the switch"
    for i, refusal in enumerate(file.refusal):
        yield from _pattern_faults(("refusal", i, "text"), refusal.text)
    for i, rule in enumerate(file.family):
        yield from _rule_faults(("family", i), rule, switches)
    names: set[str] = set()
    hosts: dict[str, str] = {}
    for i, row in enumerate(file.provider):
        here = ("provider", i)
        if not row.name.strip() or row.name in names:
            yield (*here, "name"), f"found {row.name!r}; expected a name no other provider here has"
        names.add(row.name)
        if not row.hosts:
            yield (*here, "hosts"), "found an empty list; expected at least one host"
        for host in map(normal, row.hosts):
            if not _HOST.fullmatch(host):
                allowed = "a host name like api.example.com or *.example.com, without scheme, port or path"
                yield (*here, "hosts"), f"found {host!r}; expected {allowed}"
            if host in hosts:
                yield (*here, "hosts"), f"found {host!r}, which provider {hosts[host]!r} here has already"
            hosts[host] = row.name
        for host in row.snapshot_hosts:
            if normal(host) not in map(normal, row.hosts):
                allowed = ", ".join(row.hosts)
                yield (*here, "snapshot_hosts"), f"found {host!r}; allowed: the provider's hosts ({allowed})"
        for j, endpoint in enumerate(row.endpoints):
            yield from _pattern_faults((*here, "endpoint", j, "path"), endpoint.path)
            yield from _switch_faults((*here, "endpoint", j, "off"), endpoint.off, switches)
            for name in endpoint.also_off:
                yield from _switch_faults((*here, "endpoint", j, "also_off"), name, switches)
        for base in row.bases:
            if not re.fullmatch(r"|/.*[^/]", base):
                yield (*here, "bases"), f"found {base!r}; expected a path like /api/v1, or an empty one"
        for j, rule in enumerate(row.rules):
            if not rules[i][j]:
                yield (*here, "rule", j, "family"), _no_family(rule, (*file.family, *families))
            for filled_in in rules[i][j]:
                yield from _rule_faults((*here, "rule", j), filled_in, switches)


def _no_family(rule: RuleRow, families: Sequence[Rule]) -> str:
    if _named(rule.family, families):
        return f"found {rule.family!r}, which has no row for these `dialects`"
    allowed = ", ".join(sorted({row.name for row in families} - {""}))
    return f"found {rule.family!r}; expected the name of a family ({allowed})"


def _switch_faults(where: Where, name: str, switches: frozenset[str]) -> Iterator[tuple[Where, str]]:
    if name and name not in switches:
        allowed = ", ".join(sorted(filter(None, switches)))
        yield where, f"found {name!r}; expected the name of a row of `off` ({allowed}), or nothing"


def _rule_faults(here: Where, rule: Rule, switches: frozenset[str]) -> Iterator[tuple[Where, str]]:
    yield from _pattern_faults((*here, "models"), rule.models)
    yield from _switch_faults((*here, "off"), rule.off or "", switches)
    if rule.thinks == "no" or rule.forbidden:
        because = "forbidden = true" if rule.forbidden else 'thinks = "no"'
        if rule.required != "never":
            yield (*here, "required"), f"found {rule.required!r}; only 'never' goes with {because}"
        for key, text in (("placeholder", rule.placeholder), ("known_empty", rule.known_empty)):
            if text is not None:
                yield (*here, key), f"found {text!r}; a row with {because} has none"
    for key, text in (("placeholder", rule.placeholder), ("known_empty", rule.known_empty)):
        if text is not None and text in rule.refuses:
            yield (*here, key), f"found {text!r}, which this row's `refuses` says is refused"


def _pattern_faults(where: Where, pattern: str) -> Iterator[tuple[Where, str]]:
    try:
        re.compile(pattern, re.IGNORECASE)
    except (re.error, OverflowError, RecursionError) as error:
        yield where, f"found {pattern!r}; expected a regular expression ({error})"


def _spell(where: Where) -> str:
    """("provider", 0, "reads", 1) -> provider[0].reads[1]"""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in where).removeprefix(".")


def _line(text: str, where: Where) -> int:
    """The line of the key that `where` leads to; else of its table's header, or of a table around that.

    TOML parsers keep no positions, so this counts headers. It finds the line in files laid out like the
    built-in one, and elsewhere at least the nearest header.
    """
    best, depth = 1, 0
    table: Where = ()
    counts: dict[Where, int] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if header := _HEADER.fullmatch(line):
            table = _enter(header[2], header[1] == "[[", counts)
            if table[: len(where)] == where:
                return number
        if where[: len(table)] != table:
            continue
        if header and len(table) > depth:
            best, depth = number, len(table)
        key = next((step for step in where[len(table) :] if isinstance(step, str)), None)
        if key is not None and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*[.=]", line):
            return number
    return best


def _enter(name: str, array: bool, counts: dict[Where, int]) -> Where:
    """The way to the table that a header opens: [[provider]], then [[provider.rule]] -> provider 0 rule 0."""
    table: Where = ()
    steps = [step.strip(" \"'") for step in name.split(".")]
    for position, step in enumerate(steps):
        table = (*table, step)
        if array and position == len(steps) - 1:
            counts[table] = counts.get(table, -1) + 1
        if table in counts:
            table = (*table, counts[table])
    return table
