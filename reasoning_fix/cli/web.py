"""Start the proxy with mitmproxy's page in the browser, where each repaired request can be looked at.

As `reasoning-fix run`, with mitmweb in the place of mitmdump: every option of mitmweb is taken too. It keeps
the last flows only, so that it can be left on.

  reasoning-fix web
  reasoning-fix web --keep 100 --web-port 9001

Exit codes: 0 it was stopped; 1 mitmproxy could not start; 2 used wrongly, or the port is taken.
"""

import argparse
from collections.abc import Sequence

from reasoning_fix.cli import UsageError, proxy
from reasoning_fix.running.keep_last import KeepLast
from reasoning_fix.running.masters import MITMWEB

OWN_HELP = True


def split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    return proxy.split(words, ("--keep",))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    proxy.add_arguments(parser, MITMWEB)
    parser.add_argument(
        "--keep",
        type=int,
        default=1000,
        metavar="N",
        help="keep the last N flows (default 1000; 0 keeps all)",
    )


def run(arguments: argparse.Namespace) -> int:
    if arguments.keep < 0:
        raise UsageError(f"--keep {arguments.keep}: expected 0 or more.")
    return proxy.run(arguments, MITMWEB, (KeepLast(arguments.keep),))
