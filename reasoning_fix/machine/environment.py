"""The variables that send a program through the proxy: reads the facts, and works out their values.

It reads `environment.toml` and knows no process, proxy or shell. Every change can be undone: `REPLACED`
carries the values from before, for `env --unset` and for programs started from a shell that has our variables
already.
"""

import base64
import binascii
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Literal

import msgspec

from reasoning_fix import ReasoningFixError
from reasoning_fix.machine.upstream import client_no_proxy

type Kind = Literal["proxy", "no_proxy", "ca", "bundle", "flag"]
type Effect = Literal["", "adds", "replaces"]

TABLE = Path(__file__).with_name("environment.toml")
REPLACED = "REASONING_FIX_REPLACED"
# A bundle may stand where a program adds to its store; a single CA may not stand where it replaces the store.
_EFFECTS: dict[str, Effect] = {"ca": "adds", "bundle": "replaces"}


class EnvironmentTableError(ReasoningFixError, ValueError):
    """The table is wrong: which row, what was found and what is allowed."""


class Variable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One row; the columns are described in environment.toml."""

    name: str
    kind: Kind
    runtimes: str
    does: str
    source: str
    effect: Effect = ""
    value: str = ""


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    variable: tuple[Variable, ...]


class Values(msgspec.Struct, frozen=True):
    """What the kinds stand for: the proxy's URL, the two files, and the provider hosts of the table."""

    proxy: str
    certificate: Path
    bundle: Path
    hosts: tuple[str, ...] = ()


@cache
def table() -> tuple[Variable, ...]:
    """The built-in rows. Raises EnvironmentTableError."""
    return read(TABLE.read_text("utf-8"))


def read(text: str) -> tuple[Variable, ...]:
    """The rows of a table, checked."""
    try:
        rows = msgspec.convert(tomllib.loads(text), _File).variable
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise EnvironmentTableError(f"{TABLE.name}: {error}") from error
    names: set[str] = set()
    for row in rows:
        if fault := _fault(row, names):
            raise EnvironmentTableError(f"{TABLE.name}: {row.name}: {fault}")
        names.add(row.name)
    return rows


def _fault(row: Variable, names: set[str]) -> str:
    if row.name in names:
        return "found twice"
    if not row.name.replace("_", "").isalnum() or not row.name.isascii() or row.name[:1].isdigit():
        return "not a name that a shell can set; letters, digits and _ are allowed"
    if row.effect != _EFFECTS.get(row.kind, ""):
        return f"found effect {row.effect!r}; a {row.kind} row has {_EFFECTS.get(row.kind, '')!r}"
    if (row.kind == "flag") != bool(row.value):
        return f"found value {row.value!r}; flag rows have one, others none"
    if not row.source.startswith("https://"):
        return f"found source {row.source!r}; expected an https address"
    return ""


def variables(person: Mapping[str, str], values: Values) -> dict[str, str]:
    """The variables to set for a program that so far has `person`'s, with `REPLACED` to undo them."""
    person = undone(person)
    made = {row.name: _value(row, person, values) for row in table()}
    before = {name: person[name] for name in made if name in person}
    made[REPLACED] = base64.urlsafe_b64encode(msgspec.json.encode(before)).decode()
    return made


def _value(row: Variable, person: Mapping[str, str], values: Values) -> str:
    match row.kind:
        case "proxy":
            return values.proxy
        case "no_proxy":
            return client_no_proxy(person, values.hosts)
        case "ca":
            # The person's own additions are in the bundle, and would be lost with the CA alone.
            return str(values.bundle if person.get(row.name) else values.certificate)
        case "bundle":
            return str(values.bundle)
        case "flag":
            return row.value


def undone(environment: Mapping[str, str]) -> dict[str, str]:
    """The person's own variables: ours taken out, and what they replaced put back."""
    person = dict(environment)
    mark = person.pop(REPLACED, None)
    if mark is None:
        return person
    for row in table():
        person.pop(row.name, None)
    return person | _decode(mark)


def removal(environment: Mapping[str, str]) -> dict[str, str | None]:
    """What takes our variables out of a shell: the value each had before, or None if it had none."""
    person = undone(environment)
    names = [row.name for row in table()]
    if REPLACED in environment:
        return {name: person.get(name) for name in names} | {REPLACED: None}
    return dict.fromkeys([*names, REPLACED])


def _decode(mark: str) -> dict[str, str]:
    try:
        before = msgspec.json.decode(base64.urlsafe_b64decode(mark), type=dict[str, str])
    except (binascii.Error, ValueError, msgspec.MsgspecError):
        return {}
    known = {row.name for row in table()}
    return {name: value for name, value in before.items() if name in known}
