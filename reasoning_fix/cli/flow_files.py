"""What the subcommands that read a flow file share: their arguments, and the file itself."""

import argparse
from pathlib import Path

from mitmproxy import flow

from reasoning_fix.captures import flow_files
from reasoning_fix.captures.flow_files import CaptureError
from reasoning_fix.cli import UsageError
from reasoning_fix.machine import folders
from reasoning_fix.providers.files import ProviderTableError
from reasoning_fix.providers.table import Table, load_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FLOWFILE", help="what `mitmdump -w` or mitmweb saved")
    parser.add_argument(
        "--user-providers",
        type=Path,
        metavar="FILE",
        help="your own provider table (default: providers.toml in the config directory, where there is one)",
    )


def flows(arguments: argparse.Namespace) -> list[flow.Flow]:
    """Every flow of the file. Raises UsageError."""
    try:
        return flow_files.load(arguments.file.expanduser())
    except CaptureError as error:
        raise UsageError(str(error)) from error


def table(arguments: argparse.Namespace) -> Table:
    """The provider table. Raises UsageError."""
    given: Path | None = arguments.user_providers
    try:
        return load_table(given.expanduser() if given else folders.user_providers())
    except (ProviderTableError, OSError) as error:
        raise UsageError(str(error)) from error
