"""Print the variables that send programs through the proxy, as lines for a shell to evaluate.

  eval "$(reasoning-fix env)"                                              bash, zsh
  reasoning-fix env | source                                               fish
  reasoning-fix env | Out-String | Invoke-Expression                       PowerShell
  for /f "delims=" %i in ('reasoning-fix env') do @%i                      cmd
  reasoning-fix env --unset                                                what stood there before

The proxy itself is started by `reasoning-fix run` or by the service; without it nothing in that shell reaches
the network.

Exit codes: 0 done; 2 used wrongly.
"""

import argparse
import json
import os
import re
import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from reasoning_fix.cli import shared
from reasoning_fix.machine import plan
from reasoning_fix.machine.environment import removal, undone
from reasoning_fix.running import probe
from reasoning_fix.running.command_line import look_ahead
from reasoning_fix.running.prepared import prepare

type Lines = Callable[[str, str | None], str]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--shell", choices=sorted(SHELLS), help="the shell to write for (default: the one that asks)"
    )
    parser.add_argument("--unset", action="store_true", help="take the variables out again")
    parser.add_argument(
        "--json", action="store_true", help="one JSON object: name to value, null to remove it"
    )
    shared.add_running_proxy(parser)


def run(arguments: argparse.Namespace) -> int:
    changes: Mapping[str, str | None]
    if arguments.unset:
        changes = removal(os.environ)
    else:
        person = undone(os.environ)
        given = look_ahead((), arguments.confdir)
        address = probe.address(given, arguments.port)
        ready = prepare(given, person)
        for remark in ready.remarks:
            print(f"reasoning-fix: {remark}", file=sys.stderr)
        changes = ready.variables(person, address)
        if not probe.answers(address, ready.authority.fingerprint):
            told = f"no proxy with this CA answers at {address} yet; start it with `reasoning-fix run`."
            print(f"reasoning-fix: {told}", file=sys.stderr)
    if arguments.json:
        print(json.dumps(changes, indent=2))
        return 0
    line = SHELLS[arguments.shell or asking_shell()]
    for name, value in changes.items():
        print(line(name, value))
    return 0


# ---- Shells ----------------------------------------------------------------------------------------------


def posix(name: str, value: str | None) -> str:
    """Everything but a single quote stands for itself between single quotes."""
    return f"unset {name}" if value is None else f"export {name}={shlex.quote(value)}"


def fish(name: str, value: str | None) -> str:
    """Between single quotes only \\ and ' are special.

    https://fishshell.com/docs/current/language.html#quotes
    """
    if value is None:
        return f"set -e {name}"
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"set -gx {name} '{escaped}'"


def powershell(name: str, value: str | None) -> str:
    """A single quote is doubled, and so are the typographic ones, which PowerShell takes for the same.

    https://learn.microsoft.com/powershell/module/microsoft.powershell.core/about/about_quoting_rules
    """
    if value is None:
        return f"Remove-Item Env:{name} -ErrorAction SilentlyContinue"
    doubled = re.sub("(['‘’‚‛])", r"\1\1", value)
    return f"$env:{name} = '{doubled}'"


def cmd(name: str, value: str | None) -> str:
    """Quotes around name and value together keep & | < > ^ plain; a value of ours holds no quote itself.

    https://learn.microsoft.com/windows-server/administration/windows-commands/set_1
    """
    return f'set "{name}={"" if value is None else value}"'


SHELLS: dict[str, Lines] = {"bash": posix, "zsh": posix, "fish": fish, "powershell": powershell, "cmd": cmd}
_NAMES = {name: name for name in SHELLS} | {"pwsh": "powershell"}


def asking_shell() -> str:
    """The shell that called us: our parent, else $SHELL; "bash" stands for every shell of that family."""
    for candidate in (_parent_name(), os.environ.get("SHELL", "")):
        name = re.split(r"[/\\]", candidate.strip())[-1].lower().removeprefix("-").removesuffix(".exe")
        if name in _NAMES:
            return _NAMES[name]
    if os.name == "nt":
        return "powershell" if os.environ.get("PSMODULEPATH") else "cmd"
    return "bash"


def _parent_name() -> str:
    parent = os.getppid()
    try:
        return Path(f"/proc/{parent}/comm").read_text("utf-8", "replace")
    except OSError:
        return plan.run(("ps", "-o", "comm=", "-p", str(parent))).text
