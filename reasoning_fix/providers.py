"""The provider table: which hosts are ours, which paths are chat requests, what each model wants back.

Strategy: facts are rows of `providers.toml` (and of the user's own file, same format); this file reads and
checks them and answers questions. Structs take the shape, `_faults` the rest (patterns, hosts,
contradictions); every fault names the file, the line, the key, what was found and what is allowed. Host
lookups are O(1) for exact hosts and O(labels) for wildcards; rules are remembered per provider and model.
It knows no request, no mitmproxy and no store.
"""

import re
import tomllib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Literal, get_args

import msgspec

type Required = Literal["never", "tool_calls", "with_tools", "always"]
type ReasoningField = Literal["reasoning_content", "reasoning", "reasoning_details"]
type Writes = Literal["as_received", "first"]
type Dialect = Literal["chat_completions"]
type Thinks = Literal["yes", "no"]
# The way to a value in a table file: keys and positions, outermost first.
type Where = tuple[str | int, ...]

# The fields of an assistant message that carry reasoning on the chat completions wire.
CHAT_REASONING_FIELDS: tuple[str, ...] = get_args(ReasoningField.__value__)
BUILT_IN = Path(__file__).with_name("providers.toml")
# A model's name comes from the request body; what is longer is no name, and is not worth remembering.
LONGEST_MODEL_NAME = 200


class ProviderTableError(ValueError):
    """A table file is wrong: `file`, `line` (from 1), `key` ("" for a syntax error) and the reason."""

    def __init__(self, file: Path, line: int, key: str, reason: str) -> None:
        super().__init__(f"{file}, line {line}: {key + ': ' if key else ''}{reason}")
        self.file, self.line, self.key, self.reason = file, line, key, reason


class OffSwitch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A request whose value at `path` (keys, outermost first) is `value` turns thinking off."""

    path: tuple[str, ...]
    value: str | bool
    source: str = ""


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What models whose name contains `models` want back; the columns are described in providers.toml."""

    name: str = ""
    models: str = ""
    required: Required = "never"
    placeholder: str | None = None
    known_empty: str | None = None
    refuses: tuple[str, ...] = ()
    thinks: Thinks = "yes"
    forbidden: bool = False
    source: str = ""


class Endpoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Paths (a regular expression for the whole path, without query) that speak one dialect."""

    path: str = ".*/chat/completions"
    dialect: Dialect = "chat_completions"
    source: str = ""


NEUTRAL = Rule(name="unknown")


class Provider(msgspec.Struct, frozen=True, eq=False):
    """One provider and its hosts; `rules` are its own rules followed by the families."""

    name: str
    title: str
    hosts: tuple[str, ...]
    snapshot_hosts: tuple[str, ...]
    endpoints: tuple[Endpoint, ...]
    bases: tuple[str, ...]
    reads: tuple[ReasoningField, ...]
    writes: Writes
    rules: tuple[Rule, ...]
    source: str

    def snapshots(self, host: str) -> bool:
        """Whether a stream fragment from this host may repeat all that came before it."""
        return any(pattern in self.snapshot_hosts for pattern in _patterns(host))

    def rule(self, model: str) -> Rule:
        """The rule for this model; a neutral one (`never`, nothing forbidden) when no row knows it."""
        return _rule(self, model) if len(model) <= LONGEST_MODEL_NAME else NEUTRAL

    @property
    def placeholder_field(self) -> ReasoningField | None:
        """The field a placeholder goes to: the first one read that is plain text."""
        return next((field for field in self.reads if field != "reasoning_details"), None)


@lru_cache(maxsize=1024)  # bounded: model names come from outside
def _rule(provider: Provider, model: str) -> Rule:
    for rule in provider.rules:
        if re.search(rule.models, model, re.IGNORECASE):
            return rule
    return NEUTRAL


class Table(msgspec.Struct, frozen=True, eq=False):
    """All providers. `by_host` holds exact hosts and wildcards ("*.example.com") side by side."""

    placeholders: frozenset[str]
    off_switches: tuple[OffSwitch, ...]
    by_host: dict[str, Provider]

    def provider(self, host: str) -> Provider | None:
        """The provider of a host, exact rows before wildcards, longer wildcards before shorter ones.

        Case, a trailing dot and a port do not matter. None: not ours, leave the connection alone.
        """
        for pattern in _patterns(host):
            if (found := self.by_host.get(pattern)) is not None:
                return found
        return None

    def dialect(self, provider: Provider, method: str, path: str) -> Dialect | None:
        """The wire format of a request, or None when it is no chat request; `path` may carry a query."""
        if method.upper() != "POST":
            return None
        path = path.partition("?")[0].partition("#")[0].removesuffix("/")
        for endpoint in provider.endpoints:
            if re.fullmatch(endpoint.path, path):
                return endpoint.dialect
        return None

    def is_placeholder(self, text: str) -> bool:
        """Whether this text only stands in for reasoning: blank, or a known placeholder."""
        text = text.strip()
        return not text or text in self.placeholders

    def hosts(self) -> tuple[str, ...]:
        """All host patterns, sorted; a wildcard starts with "*."."""
        return tuple(sorted(self.by_host))


def load(user_file: Path | None = None) -> Table:
    """The built-in table, and the user's on top of it.

    A user's provider replaces a built-in one of the same name and takes the hosts it names from any other;
    a user's families are asked before the built-in ones, also for built-in providers without a rule that
    matches. Raises ProviderTableError.
    """
    files = [_read(BUILT_IN)]
    if user_file is not None:
        files.insert(0, _read(user_file))
    families = tuple(rule for file in files for rule in file.family)
    by_name: dict[str, Provider] = {}
    by_host: dict[str, Provider] = {}
    for file in files:  # the user's first: what is taken stays taken
        for row in file.provider:
            if row.name in by_name:
                continue
            by_name[row.name] = provider = row.provider(families)
            for host in provider.hosts:
                by_host.setdefault(host, provider)
    return Table(
        placeholders=frozenset(text.strip() for file in files for text in file.placeholders),
        off_switches=tuple(switch for file in files for switch in file.off),
        by_host=by_host,
    )


class _ProviderRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    hosts: tuple[str, ...]
    title: str = ""
    snapshot_hosts: tuple[str, ...] = ()
    endpoint: tuple[Endpoint, ...] = (Endpoint(),)
    bases: tuple[str, ...] = ()
    reads: tuple[ReasoningField, ...] = get_args(ReasoningField.__value__)
    writes: Writes = "as_received"
    rule: tuple[Rule, ...] = ()
    source: str = ""

    def provider(self, families: tuple[Rule, ...]) -> Provider:
        return Provider(
            name=self.name,
            title=self.title or self.name,
            hosts=tuple(_normal(host) for host in self.hosts),
            snapshot_hosts=tuple(_normal(host) for host in self.snapshot_hosts),
            endpoints=self.endpoint,
            bases=self.bases,
            reads=self.reads,
            writes=self.writes,
            rules=self.rule + families,
            source=self.source,
        )


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    placeholders: tuple[str, ...] = ()
    off: tuple[OffSwitch, ...] = ()
    family: tuple[Rule, ...] = ()
    provider: tuple[_ProviderRow, ...] = ()


# ---- Hosts -----------------------------------------------------------------------------------------------


def _normal(host: str) -> str:
    return host.strip().lower().removesuffix(".")


def _patterns(host: str) -> Iterator[str]:
    """The rows that may name this host, most specific first: itself, then a wildcard per parent domain."""
    host = host.strip()
    if host.startswith("["):  # [::1]:8000
        host = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        host = host.partition(":")[0]
    host = _normal(host)
    yield host
    while "." in host:
        host = host.partition(".")[2]
        yield f"*.{host}"


# ---- Reading a file, and saying where it is wrong --------------------------------------------------------

_HOST = re.compile(r"(?:\*\.)?[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|[0-9a-f]*:[0-9a-f]*:[0-9a-f:.]*")
_HEADER = re.compile(r"\s*(\[\[?)\s*([\w.\"' -]+?)\s*\]\]?\s*(?:#.*)?")
_ROWS: dict[tuple[str, ...], type[msgspec.Struct]] = {
    (): _File,
    ("off",): OffSwitch,
    ("family",): Rule,
    ("provider",): _ProviderRow,
    ("provider", "endpoint"): Endpoint,
    ("provider", "rule"): Rule,
}
_WORDS: dict[str, tuple[str, ...]] = {
    "required": get_args(Required.__value__),
    "thinks": get_args(Thinks.__value__),
    "dialect": get_args(Dialect.__value__),
    "reads": get_args(ReasoningField.__value__),
    "writes": get_args(Writes.__value__),
}


def _read(path: Path) -> _File:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ProviderTableError(path, 1, "", f"cannot be read: {error.strerror or error}") from error
    try:
        text = raw.decode("utf-8-sig")
        file = msgspec.convert(document := tomllib.loads(text), _File)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ProviderTableError(path, line, "", "expected UTF-8 text, found other bytes") from error
    except tomllib.TOMLDecodeError as error:
        at = re.search(r"at line (\d+)", str(error))
        line = int(at[1]) if at else text.rstrip("\n").count("\n") + 1
        raise ProviderTableError(path, line, "", f"not valid TOML: {error}") from error
    except msgspec.ValidationError as error:
        where, reason = _explain(str(error), document)
        raise ProviderTableError(path, _line(text, where), _spell(where), reason) from error
    for where, reason in _faults(file):
        raise ProviderTableError(path, _line(text, where), _spell(where), reason)
    return file


def _explain(message: str, document: dict[str, object]) -> tuple[Where, str]:
    """msgspec's message -> the way to the faulty value, and the reason in words a person can act on."""
    reason, _, at = message.partition(" - at `$")
    where: Where = tuple(
        key if key else int(index) for key, index in re.findall(r"\.(\w+)|\[(\d+)\]", at.removesuffix("`"))
    )
    columns = tuple(step for step in where if isinstance(step, str))
    if unknown := re.fullmatch(r"Object contains unknown field `(.*)`", reason, re.DOTALL):
        allowed = ", ".join(_ROWS[columns].__struct_fields__)
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


def _faults(file: _File) -> Iterator[tuple[Where, str]]:
    """What types cannot say: patterns, hosts, names, and rows that contradict themselves."""
    for i, switch in enumerate(file.off):
        if not switch.path:
            yield ("off", i, "path"), "found an empty list; expected the keys that lead to the switch"
    for i, rule in enumerate(file.family):
        yield from _rule_faults(("family", i), rule)
    names: set[str] = set()
    hosts: dict[str, str] = {}
    for i, row in enumerate(file.provider):
        here = ("provider", i)
        if not row.name.strip() or row.name in names:
            yield (*here, "name"), f"found {row.name!r}; expected a name no other provider here has"
        names.add(row.name)
        if not row.hosts:
            yield (*here, "hosts"), "found an empty list; expected at least one host"
        for host in map(_normal, row.hosts):
            if not _HOST.fullmatch(host):
                allowed = "a host name like api.example.com or *.example.com, without scheme, port or path"
                yield (*here, "hosts"), f"found {host!r}; expected {allowed}"
            if host in hosts:
                yield (*here, "hosts"), f"found {host!r}, which provider {hosts[host]!r} here has already"
            hosts[host] = row.name
        for host in row.snapshot_hosts:
            if _normal(host) not in map(_normal, row.hosts):
                allowed = ", ".join(row.hosts)
                yield (*here, "snapshot_hosts"), f"found {host!r}; allowed: the provider's hosts ({allowed})"
        for j, endpoint in enumerate(row.endpoint):
            yield from _pattern_faults((*here, "endpoint", j, "path"), endpoint.path)
        for base in row.bases:
            if not re.fullmatch(r"|/.*[^/]", base):
                yield (*here, "bases"), f"found {base!r}; expected a path like /api/v1, or an empty one"
        for j, rule in enumerate(row.rule):
            yield from _rule_faults((*here, "rule", j), rule)


def _rule_faults(here: Where, rule: Rule) -> Iterator[tuple[Where, str]]:
    yield from _pattern_faults((*here, "models"), rule.models)
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
    """The line of the key that `where` leads to; else of its table's header, or that of a table around it.

    TOML readers keep no positions, so this counts headers: good for files laid out as the built-in one is,
    and never further off than the nearest header it can find.
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
