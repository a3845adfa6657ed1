"""Start the proxy: mitmdump with the addon, on 127.0.0.1:8080, for this machine only.

It makes its CA at the first start, and says what to do next. Every option of mitmdump is taken too and wins
over what is set here, as does config.yaml in the configuration directory (~/.config/reasoning-fix on Linux):
--listen-port 8888, --mode socks5, -s my_addon.py, --set reasoning_fallback=none, a filter expression.

A client that only takes a base URL gets a port of its own with --reverse, which needs no certificate. Behind
a tunnel that opens such a port to the world, add --set reasoning_reverse_secret=WORD: the word becomes part
of the base URL. The proxy's own port belongs behind no tunnel without --proxyauth NAME:PASSWORD.

  reasoning-fix run --port 8888
  reasoning-fix run --reverse api.deepseek.com --reverse api.moonshot.ai=9000

Exit codes: 0 it was stopped; 1 mitmproxy could not start; 2 used wrongly, or the port is taken.
"""

import argparse
from collections.abc import Sequence

from reasoning_fix.cli import proxy
from reasoning_fix.running.masters import MITMDUMP

OWN_HELP = True


def split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    return proxy.split(words)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    proxy.add_arguments(parser, MITMDUMP)


def run(arguments: argparse.Namespace) -> int:
    return proxy.run(arguments, MITMDUMP)
