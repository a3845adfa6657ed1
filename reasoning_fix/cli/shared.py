"""Arguments that several commands take, what they stand for, and how results are printed."""

import argparse
from pathlib import Path

import msgspec

from reasoning_fix.machine import folders
from reasoning_fix.providers.table import Table, load_table


def add_address(parser: argparse.ArgumentParser) -> None:
    """`--host` and `--port`: a proxy as programs of this machine are sent to it."""
    parser.add_argument("--host", default="127.0.0.1", help="where the proxy listens (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8080, help="its port (default: 8080)")


def add_running_proxy(parser: argparse.ArgumentParser) -> None:
    """`--port` and `--confdir`: a proxy as `run` starts it."""
    parser.add_argument(
        "--port", type=int, help="where the proxy listens (default: config.yaml's, else 8080)"
    )
    add_confdir(parser)


def add_confdir(parser: argparse.ArgumentParser) -> None:
    usual = folders.shown(folders.configuration())
    parser.add_argument(
        "--confdir",
        type=Path,
        metavar="DIR",
        help=f"the configuration directory: CA, config.yaml (default: {usual})",
    )


def confdir(arguments: argparse.Namespace) -> Path:
    """The configuration directory that was named, or the usual one."""
    given: Path = arguments.confdir or folders.configuration()
    return given.expanduser().absolute()


def add_user_providers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--user-providers",
        type=Path,
        metavar="FILE",
        help="your own provider table (default: providers.toml in the configuration directory)",
    )


def user_providers(arguments: argparse.Namespace) -> Path | None:
    """The person's own provider table, if there is one."""
    given: Path | None = arguments.user_providers
    return given.expanduser() if given else folders.user_providers()


def table(arguments: argparse.Namespace) -> Table:
    """The provider table, with the person's own on top. Raises ProviderTableError."""
    return load_table(user_providers(arguments))


def add_store(parser: argparse.ArgumentParser) -> None:
    """`--store FILE`, for a proxy with a `reasoning_store` of its own."""
    parser.add_argument(
        "--store",
        type=Path,
        metavar="FILE",
        help=f"the proxy's `reasoning_store` (default: {folders.shown(folders.store())})",
    )


def store(arguments: argparse.Namespace) -> Path:
    """The store that was named, or the usual one; the files of counts and lessons lie beside it."""
    given: Path | None = arguments.store
    return given.expanduser().absolute() if given else folders.store()


def positive(text: str) -> int:
    """A whole number from 1 up."""
    if not text.isascii() or not text.isdecimal() or not 0 < int(text) < 100_000:
        raise argparse.ArgumentTypeError(f"{text!r} was given; a whole number from 1 up is allowed")
    return int(text)


def add_flow_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FLOWFILE", help="what `mitmdump -w` or mitmweb saved")
    add_user_providers(parser)


def counted(number: int, what: str) -> str:
    """ "1 turn", "2 turns"."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def print_json(value: object) -> None:
    print(msgspec.json.format(msgspec.json.encode(value, enc_hook=str)).decode())
