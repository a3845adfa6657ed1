"""What `run` and `web` share: looks ahead at the words, makes the CA, hands on to mitmproxy."""

import argparse
import os
from collections.abc import Sequence

from reasoning_fix.cli import UsageError
from reasoning_fix.cli.words import anywhere
from reasoning_fix.machine import upstream
from reasoning_fix.machine.environment import undone
from reasoning_fix.machine.upstream import Upstream
from reasoning_fix.running import masters, ports, probe, reverse
from reasoning_fix.running.attached import Attached
from reasoning_fix.running.command_line import Given, look_ahead
from reasoning_fix.running.direct_hosts import DirectHosts
from reasoning_fix.running.masters import Tool
from reasoning_fix.running.prepared import prepare
from reasoning_fix.running.welcome import Welcome

_FLAGS = ("--upstream", "-h", "--help")
_VALUED = ("--reverse", "--port", "--attached", "--terminal")
# With these mitmproxy prints something and ends: nothing is to be made for it.
_ONLY_PRINT = frozenset(("--version", "--options", "--commands"))


def add_arguments(parser: argparse.ArgumentParser, tool: Tool) -> None:
    parser.usage = f"reasoning-fix {tool.command} [our options] [options of {tool.name}]"
    parser.add_argument(
        "--reverse",
        action="append",
        default=[],
        metavar="HOST[=PORT]",
        help="open a local port for one provider beside the proxy, for a client that takes a base URL; "
        "can be repeated; ports that are not given count up from 8082",
    )
    parser.add_argument(
        "--upstream",
        action="store_true",
        help="go through the proxy that HTTPS_PROXY, ALL_PROXY or HTTP_PROXY names (http or https), except "
        "to the hosts in NO_PROXY",
    )
    parser.add_argument("--port", type=int, help="where to listen (default: 8080); the same as -p")
    parser.add_argument("--attached", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--terminal", type=int, help=argparse.SUPPRESS)
    parser.add_argument("-h", "--help", action=_help(tool), nargs=0, help="show this, and end")


def split(words: Sequence[str], valued: Sequence[str] = ()) -> tuple[list[str], list[str]]:
    """Our words, and the ones for mitmproxy."""
    return anywhere(words, _FLAGS, (*_VALUED, *valued))


def run(arguments: argparse.Namespace, tool: Tool, addons: Sequence[object] = ()) -> int:
    """Starts the tool and stays until it is stopped. `addons` are the command's own."""
    words: list[str] = arguments.others
    if arguments.port is not None:
        words = [*words, "--listen-port", str(arguments.port)]
    if not _ONLY_PRINT.isdisjoint(words):
        masters.start(masters.Start(tool, tuple(words), before=(reverse.ReverseSecret(),)))
        return 0
    given = look_ahead(words)
    person = undone(os.environ)
    ready = prepare(given, person)
    table, ca = ready.table, ready.authority
    through = _upstream(person, given) if arguments.upstream else None
    targets = reverse.targets(arguments.reverse, table, given.port())
    # The bundle is for this proxy too: where a company's CA signs what its own proxy lets in, programs had to
    # trust it so far, and now it is this one that must.
    defaults = {"confdir": str(given.confdir), "ssl_verify_upstream_trusted_ca": str(ca.bundle)}
    if through is not None and through.auth:
        defaults["upstream_auth"] = through.auth
    before: list[object] = [reverse.ReverseSecret()]
    if through is not None and through.direct:
        before.append(DirectHosts(through))
    _see_that_it_is_free(given, tool)
    door = Welcome(ready) if arguments.attached is None else Attached(arguments.attached, arguments.terminal)
    masters.start(
        masters.Start(
            tool,
            (*words, *_modes(given, targets, through)),
            frozenset(given.file),
            defaults,
            tuple(before),
            (*addons, door),
        )
    )
    return 0


def _see_that_it_is_free(given: Given, tool: Tool) -> None:
    """Raises UsageError if somebody else has the port, which says who."""
    modes = given.every("mode") or ["regular"]
    if not given.port() or not any(mode.partition(":")[0] in ("regular", "upstream") for mode in modes):
        return
    host, _, port = probe.address(given).rpartition(":")
    host = host.strip("[]")
    if not ports.is_taken(host, int(port)):
        return
    free = ports.next_free(host, int(port))
    other = f" `reasoning-fix {tool.command} --port {free}` takes the next free port." if free else ""
    raise UsageError(f"{host}:{port} is taken by {ports.holder(host, int(port))}.{other}")


def _modes(given: Given, ports: Sequence[reverse.Target], through: Upstream | None) -> list[str]:
    """The --mode words that ours need; those on the command line stay, those of config.yaml are repeated."""
    added = [target.mode() for target in ports]
    if "mode" in given.flagged:
        if through is not None and any(_is_regular(mode) for mode in given.every("mode")):
            raise UsageError("--upstream takes the place of --mode regular; leave that out.")
    elif added or through is not None:
        modes = given.every("mode") or ["regular"]
        if through is not None:
            modes = [
                through.mode + mode.removeprefix("regular") if _is_regular(mode) else mode for mode in modes
            ]
        added = modes + added
    return [word for mode in added for word in ("--mode", mode)]


def _is_regular(mode: str) -> bool:
    return mode.partition("@")[0] == "regular"


def _upstream(person: dict[str, str], given: Given) -> Upstream | None:
    found = upstream.find(person)
    if found is not None and found.port == given.port() and found.host in upstream.LOOPBACK:
        raise UsageError(
            f"--upstream: the environment's proxy is {found.host}:{found.port}, which is this one itself."
        )
    return found


def _help(tool: Tool) -> type[argparse.Action]:
    class Help(argparse.Action):
        """Our help, and mitmproxy's options below it."""

        def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
            theirs = masters.help_text(tool).partition("\n\n")[2]
            print(f"{parser.format_help()}\nOptions of {tool.name}:\n\n{theirs}", end="")
            parser.exit(0)

    return Help
