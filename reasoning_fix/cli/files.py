"""What the commands that look at the store's files have in common: which store, and whole numbers."""

import argparse
from pathlib import Path

from reasoning_fix.machine import folders


def add_store_argument(parser: argparse.ArgumentParser) -> None:
    """`--store FILE`, for those who gave the proxy a `reasoning_store` of their own."""
    parser.add_argument(
        "--store",
        type=Path,
        metavar="FILE",
        help=f"the proxy's `reasoning_store` (default: {folders.store()})",
    )


def store(arguments: argparse.Namespace) -> Path:
    """The store that was asked for; the files of counts and lessons lie beside it."""
    given: Path | None = arguments.store
    return given.expanduser().absolute() if given else folders.store()


def positive(text: str) -> int:
    """A whole number from 1 up."""
    if not text.isascii() or not text.isdecimal() or not 0 < int(text) < 100_000:
        raise argparse.ArgumentTypeError(f"{text!r} was given; a whole number from 1 up is allowed")
    return int(text)
