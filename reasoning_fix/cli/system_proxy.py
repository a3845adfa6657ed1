"""Send every program of this desktop through the proxy, and back to what was set before.

macOS: every network service. Windows: Internet Settings, and WinHTTP where an administrator runs this.
Linux: GNOME's settings (many desktops read them) or KDE's. Your bypass list is kept, loopback is added.
`on` remembers what was set before it changes anything; `off` restores that, also after a crash and any
number of times. What you change in between stays as you set it.

  reasoning-fix system-proxy on --dry-run      what would be changed
  reasoning-fix system-proxy off               what was set before

Exit codes: 0 done; 1 it did not work; 2 used wrongly. Of `status`: 0 on, 3 off.
"""

import argparse
import json
import sys
from pathlib import Path

import msgspec

from reasoning_fix.cli import shared
from reasoning_fix.machine import folders, plan, system_proxy
from reasoning_fix.machine.plan import Delete, StepError, Write
from reasoning_fix.machine.system_proxy import Desktop, DesktopError, Saved, Settings
from reasoning_fix.proxy.probing import ask_health

ON, OFF = 0, 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("on", "off", "status"))
    parser.add_argument("--dry-run", action="store_true", help="print the commands, do nothing")
    parser.add_argument("--json", action="store_true", help="status as JSON")
    shared.add_address(parser)
    parser.add_argument("--force", action="store_true", help="switch on although no proxy answers there")


def run(arguments: argparse.Namespace) -> int:
    saved = system_proxy.load(state_path())
    try:
        desktop = _desktop(saved)
        current = desktop.read(plan.run)
        if arguments.action == "status":
            return _status(desktop, current, saved, arguments)
        if arguments.action == "on":
            return _on(desktop, current, saved, arguments)
        return _off(desktop, current, saved, arguments)
    except StepError as error:
        print(f"reasoning-fix: {error}", file=sys.stderr)
        print("`reasoning-fix system-proxy off` restores what was set before.", file=sys.stderr)
        return 1


def state_path() -> Path:
    """Where `on` remembers what was set before."""
    return folders.state() / "system-proxy.json"


def _desktop(saved: Saved | None) -> Desktop:
    """The one that was remembered; where it is gone, that of this session."""
    try:
        return system_proxy.this_desktop(named=saved.desktop if saved else None)
    except DesktopError:
        return system_proxy.this_desktop()


def _on(desktop: Desktop, current: Settings, saved: Saved | None, arguments: argparse.Namespace) -> int:
    host, port = arguments.host, arguments.port
    answer = ask_health(host, port)
    if isinstance(answer, str) and not (arguments.force or arguments.dry_run):
        print(f"reasoning-fix: no proxy at {host}:{port}: {answer}.", file=sys.stderr)
        print("Start it first (`reasoning-fix service install`), or give --force.", file=sys.stderr)
        return 1
    saved = system_proxy.plan_on(desktop, current, saved, host, port)
    changes = system_proxy.changes_for(current, saved.ours)
    remember = Write(state_path(), msgspec.json.format(msgspec.json.encode(saved)))
    if not plan.carry_out([remember, *desktop.write(changes)], arguments.dry_run):
        return 0
    for name in system_proxy.changes_for(desktop.read(plan.run), saved.ours):
        print(f"  {name.replace(chr(9), ' of ')} was not changed (does it need an administrator?).")
    print(f"Programs of this desktop go to {host}:{port} now.")
    earlier = [entry for entry in desktop.proxies(saved.before) if entry != saved.address]
    if earlier:
        print(
            f"  Before, they went to {', '.join(earlier)}, which nobody asks now. If you need it, start the"
        )
        print("  proxy with it behind: `reasoning-fix run --mode upstream:http://HOST:PORT`.")
    print("  Programs must trust the CA: `reasoning-fix ca install`; `reasoning-fix doctor` checks it all.")
    print("  undo: reasoning-fix system-proxy off")
    return 0


def _off(desktop: Desktop, current: Settings, saved: Saved | None, arguments: argparse.Namespace) -> int:
    path = state_path()
    address = f"{arguments.host}:{arguments.port}"
    changes = system_proxy.plan_off(desktop, current, saved, address)
    commands = desktop.write(changes)
    if not commands and not path.exists():
        print("It is off: nothing points at the proxy.")
        return 0
    if not plan.carry_out([*commands, Delete(path)], arguments.dry_run):
        return 0
    after = desktop.proxies(desktop.read(plan.run))
    if address in after or (saved is not None and saved.address in after):
        print("reasoning-fix: the settings still point at the proxy.", file=sys.stderr)
        return 1
    print(f"Off: programs go to {', '.join(after)}." if after else "Off: programs go without a proxy.")
    return 0


def _status(desktop: Desktop, current: Settings, saved: Saved | None, arguments: argparse.Namespace) -> int:
    address = saved.address if saved else f"{arguments.host}:{arguments.port}"
    proxies = desktop.proxies(current)
    is_on = address in proxies
    if arguments.json:
        said = {"on": is_on, "address": address, "desktop": desktop.name, "proxies": proxies}
        print(json.dumps(said | {"remembered": saved is not None}))
    elif is_on:
        print(f"on: programs of this desktop ({desktop.name}) go to {address}")
        print("  undo: reasoning-fix system-proxy off")
    else:
        print(f"off: programs of this desktop ({desktop.name}) go to {', '.join(proxies) or 'no proxy'}")
    return ON if is_on else OFF
