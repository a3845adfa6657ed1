"""What must be there before a program can go through the proxy: provider table, CA and bundle."""

from pathlib import Path

import msgspec

from reasoning_fix import providers
from reasoning_fix.providers import Table
from reasoning_fix.running.given import Given, default_confdir
from reasoning_fix.trust import authority
from reasoning_fix.trust.authority import Authority


class Prepared(msgspec.Struct, frozen=True):
    table: Table
    authority: Authority


def prepare(given: Given) -> Prepared:
    """Reads the table, the person's own file on top, and makes the CA where there is none.

    Raises ProviderTableError.
    """
    named = given.text("reasoning_providers")
    path = Path(named).expanduser() if named else default_confdir() / "providers.toml"
    table = providers.load(path) if path.is_file() else providers.load()
    return Prepared(table, authority.ensure(given.confdir, table.hosts()))
