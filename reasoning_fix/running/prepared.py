"""What must be there before a program can go through the proxy: provider table, CA and bundle."""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from reasoning_fix import ReasoningFixError
from reasoning_fix.machine import folders
from reasoning_fix.machine.trust import authority
from reasoning_fix.machine.trust.authority import Authority, AuthorityError
from reasoning_fix.providers.files import ProviderTableError
from reasoning_fix.providers.table import Table, load_table
from reasoning_fix.running.command_line import Given


class NotPreparedError(ReasoningFixError):
    """The table or the CA is not as it must be; the text says what to do."""


class Prepared(msgspec.Struct, frozen=True):
    """`remarks` are sentences that a person should read: what is not right with the CA."""

    table: Table
    authority: Authority
    remarks: tuple[str, ...]


def prepare(given: Given, person: Mapping[str, str]) -> Prepared:
    """Reads the table, with the person's own on top, and makes the CA where there is none.

    The bundle also gets the CAs that the `person`'s variables name. Raises NotPreparedError.
    """
    named = given.text("reasoning_providers")
    try:
        table = load_table(Path(named).expanduser() if named else folders.user_providers())
        ca = authority.ensure(given.confdir, table.hosts(), person)
    except (ProviderTableError, AuthorityError) as error:
        raise NotPreparedError(str(error)) from error
    return Prepared(table, ca, ca.remarks(table.hosts()))
