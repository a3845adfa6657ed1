"""The provider table: which hosts are ours, which paths are chat requests, what each model wants back.

The facts are rows of `providers.toml`, and of the user's own file in the same format. files.py reads and
checks them, this file answers questions about them. Looking up a host is O(1), or O(labels) for wildcards;
rules are cached by provider and model. It knows nothing of requests, mitmproxy and the store.
"""

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from reasoning_fix.providers import rows
from reasoning_fix.providers.files import copied, normal, read
from reasoning_fix.providers.placeholders import LONGEST, is_mark, says_nothing
from reasoning_fix.providers.rows import File, ProviderRow, Rule

BUILT_IN = Path(__file__).with_name("providers.toml")
# A model's name comes from the request body; anything longer is not a name, and is not worth caching.
LONGEST_MODEL_NAME = 200
# In a placeholder this stands for a few hexadecimal digits that differ from turn to turn.
TURN = "{turn}"
_LONGEST_TURN = 64
_DIGITS = rf"[0-9a-f]{{1,{_LONGEST_TURN}}}"
NEUTRAL = Rule(name="unknown")


class Provider(ProviderRow, frozen=True, eq=False):
    """One provider and its hosts; `rules` are its own rules followed by the families."""

    def snapshots(self, host: str) -> bool:
        """Whether a stream fragment from this host may repeat all that came before it."""
        return any(pattern in self.snapshot_hosts for pattern in _patterns(host))

    def rule(self, model: str, dialect: rows.Dialect = "chat_completions") -> Rule:
        """The rule for this model; NEUTRAL (nothing required, nothing forbidden) if there is none."""
        return _rule(self, model, dialect) if len(model) <= LONGEST_MODEL_NAME else NEUTRAL

    def rule_at(self, endpoint: rows.Endpoint, model: str) -> Rule:
        """The rule for this model at this endpoint, which may refuse what is accepted elsewhere."""
        rule = self.rule(model, endpoint.dialect)
        return _forbidding(rule) if endpoint.forbidden else rule

    def family(self, model: str) -> str:
        """The model's family: one for all models of a maker; elsewhere by its rule, or else by its name."""
        if self.maker:
            return self.name
        known = self.rule(model).name.partition("-")[0]
        if known and known != NEUTRAL.name:
            return known
        head = re.match(r"[a-z]+", model.lower().rpartition("/")[2])
        return head[0] if head else model


@lru_cache(maxsize=1024)  # bounded: model names come from outside
def _rule(provider: Provider, model: str, dialect: rows.Dialect) -> Rule:
    for rule in provider.rules:
        if (not rule.dialects or dialect in rule.dialects) and re.search(rule.models, model, re.IGNORECASE):
            return rule
    return NEUTRAL


@lru_cache(maxsize=256)
def _forbidding(rule: Rule) -> Rule:
    none: dict[str, Any] = {"required": "never", "placeholder": None, "known_empty": None, "forbidden": True}
    return msgspec.structs.replace(rule, **none)


class Table(msgspec.Struct, frozen=True, eq=False):
    """All providers. `by_host` has exact hosts and wildcards ("*.example.com") side by side.

    No placeholder has more than `longest` characters.
    """

    placeholders: frozenset[str]
    words: rows.PlaceholderWords
    longest: int
    stand_in: str
    off_switches: tuple[rows.OffSwitch, ...]
    refusals: tuple[rows.Refusal, ...]
    by_host: dict[str, Provider]
    user_rules: frozenset[Rule] = frozenset()

    def provider(self, host: str) -> Provider | None:
        """The provider of a host, exact names before wildcards, longer wildcards before shorter ones.

        Case, a trailing dot and a port do not matter. None: not ours, so leave the connection alone.
        """
        for pattern in _patterns(host):
            if (found := self.by_host.get(pattern)) is not None:
                return found
        return None

    def endpoint(self, provider: Provider, method: str, path: str) -> rows.Endpoint | None:
        """The endpoint of a request, or None if it is not a chat request; `path` may carry a query."""
        if method.upper() != "POST":
            return None
        path = path.partition("?")[0].partition("#")[0].removesuffix("/")
        for endpoint in provider.endpoints:
            if re.fullmatch(endpoint.path, path):
                return endpoint
        return None

    def off_switch(self, endpoint: rows.Endpoint, rule: Rule) -> rows.OffSwitch | None:
        """How to turn thinking off for this request; None if it cannot be, or if nobody knows how."""
        name = endpoint.off if rule.off is None else rule.off
        return next((switch for switch in self.off_switches if name and switch.name == name), None)

    def heeded(self, endpoint: rows.Endpoint, rule: Rule) -> tuple[rows.OffSwitch, ...]:
        """The switches that are known to turn thinking off for this request; none if none does.

        A switch without a name is the user's own, and works everywhere.
        """
        if rule.off == "":
            return ()
        names = {endpoint.off if rule.off is None else rule.off, *endpoint.also_off, ""}
        return tuple(switch for switch in self.off_switches if switch.name in names)

    def is_placeholder(self, text: str) -> bool:
        """Whether this text only stands in for reasoning: blank, a known placeholder, or a text like those.

        For nearly all real reasoning this costs one comparison of lengths, since that is longer.
        """
        if len(text) > self.longest:
            return text.isspace()
        text = text.strip()
        return is_mark(text) or _is_of_words(self, text)

    def is_echo(self, text: str) -> bool:
        """Whether a model's reasoning only repeats a placeholder from its history.

        Punctuation alone is not one: it may be all that the model thought.
        """
        return len(text) <= self.longest and bool(text.strip()) and _is_of_words(self, text.strip())

    def hosts(self) -> tuple[str, ...]:
        """All host patterns, sorted; a wildcard starts with "*."."""
        return tuple(sorted(self.by_host))


@lru_cache(maxsize=1024)  # the same few words stand on many turns
def _is_of_words(table: Table, text: str) -> bool:
    return (
        text.casefold() in table.placeholders
        or _stand_in(table.stand_in).fullmatch(text) is not None
        or (len(text) <= LONGEST and says_nothing(text, table.words))
    )


@lru_cache(maxsize=16)
def _stand_in(pattern: str) -> re.Pattern[str]:
    before, turn, after = map(re.escape, pattern.partition(TURN))
    return re.compile(f"{before}{_DIGITS if turn else ''}{after}")


def read_files(user_file: Path | None) -> list[File]:
    """The built-in file, and the user's before it. Raises ProviderTableError."""
    built_in = read(BUILT_IN, frozenset())
    if user_file is None:
        return [built_in]
    return [read(user_file, frozenset(switch.name for switch in built_in.off), built_in.family), built_in]


def load_table(user_file: Path | None = None) -> Table:
    """The built-in table, and the user's on top of it.

    A user's provider replaces a built-in one of the same name and takes the hosts it names from any other;
    a user's families are asked before the built-in ones, also for models that a built-in provider has no
    rule for. Raises ProviderTableError.
    """
    files = read_files(user_file)
    families = tuple(rule for file in files for rule in file.family)
    by_name: dict[str, Provider] = {}
    by_host: dict[str, Provider] = {}
    for file in files:  # the user's first: what is taken stays taken
        for row in file.provider:
            if row.name in by_name:
                continue
            by_name[row.name] = provider = listed(row, families)
            for host in provider.hosts:
                by_host.setdefault(host, provider)
    own = files[0] if user_file is not None else File()
    placeholders = frozenset(text.strip().casefold() for file in files for text in file.placeholders)
    stand_in = next((file.stand_in for file in files if file.stand_in), "")
    return Table(
        placeholders=placeholders,
        words=_joined(file.words for file in files),
        longest=max(LONGEST, len(stand_in) + _LONGEST_TURN, *map(len, placeholders)),
        stand_in=stand_in,
        off_switches=tuple(switch for file in files for switch in file.off),
        refusals=tuple(refusal for file in files for refusal in file.refusal),
        by_host=by_host,
        user_rules=frozenset((*own.family, *(rule for row in own.provider for rule in row.rules))),
    )


def _joined(lists: Iterable[rows.PlaceholderWords]) -> rows.PlaceholderWords:
    """The words of all files."""
    some = list(lists)
    return rows.PlaceholderWords(
        *(tuple(word for one in some for word in getattr(one, name)) for name in some[0].__struct_fields__)
    )


def listed(row: ProviderRow, families: tuple[Rule, ...] = ()) -> Provider:
    """The provider that a row describes."""
    return copied(
        row,
        Provider,
        title=row.title or row.name,
        hosts=tuple(normal(host) for host in row.hosts),
        snapshot_hosts=tuple(normal(host) for host in row.snapshot_hosts),
        rules=row.rules + families,
    )


def _patterns(host: str) -> Iterator[str]:
    """The names a row may have for this host, exact first, then a wildcard for each parent domain."""
    host = host.strip()
    if host.startswith("["):  # [::1]:8000
        host = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        host = host.partition(":")[0]
    host = normal(host)
    yield host
    while "." in host:
        host = host.partition(".")[2]
        yield f"*.{host}"
