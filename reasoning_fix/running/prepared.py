"""What must be there before a program can go through the proxy: provider table, CA and bundle."""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from reasoning_fix.machine import environment, folders
from reasoning_fix.machine.trust import authority
from reasoning_fix.machine.trust.authority import Authority
from reasoning_fix.providers.table import Table, load_table
from reasoning_fix.running.command_line import Given


class Prepared(msgspec.Struct, frozen=True):
    """`remarks` are sentences that a person should read: what is not right with the CA."""

    table: Table
    authority: Authority
    remarks: tuple[str, ...]

    def variables(self, person: Mapping[str, str], address: str) -> dict[str, str]:
        """What sends a program with the `person`'s variables through the proxy at this address."""
        ca = self.authority
        values = environment.Values(f"http://{address}", ca.certificate, ca.bundle, self.table.hosts())
        return environment.variables(person, values)


def prepare(given: Given, person: Mapping[str, str]) -> Prepared:
    """Read the table, with the person's own on top, and make the CA if there is none.

    The bundle also gets the CAs that the `person`'s variables name. Raises ProviderTableError and
    AuthorityError.
    """
    named = given.text("reasoning_providers")
    table = load_table(Path(named).expanduser() if named else folders.user_providers())
    ca = authority.ensure(given.confdir, table.hosts(), person)
    return Prepared(table, ca, ca.remarks(table.hosts()))
