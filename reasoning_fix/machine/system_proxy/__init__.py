"""The proxy of a whole desktop: switched on, and switched off to what was there before.

A platform is a set of named settings that can be read and written; what is common to all is here. What was
set before is in the state file before anything is changed, so `off` works also after a crash in the middle.
A setting that somebody changed in the meantime is theirs and stays.
"""

import os
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import msgspec

from reasoning_fix import ReasoningFixError
from reasoning_fix.machine.plan import Command, Run

type Settings = dict[str, str | None]
"""What is set, by the platform's own names; None if nothing is."""

LOOPBACK = ("localhost", "127.0.0.1", "::1")


class DesktopError(ReasoningFixError):
    """The settings of this desktop cannot be read or are not known; the text says what to do instead."""


class Desktop(Protocol):
    """One platform's proxy settings."""

    name: str

    def read(self, run: Run) -> Settings:
        """Everything that `pointing` may change. Raises DesktopError."""

    def pointing(self, before: Settings, host: str, port: int) -> Settings:
        """What sends programs to host:port: the switch comes last. A person's bypass list is kept."""

    def neutral(self, current: Settings) -> Settings:
        """What switches any proxy off and changes nothing else."""

    def proxies(self, current: Settings) -> list[str]:
        """Where programs are sent now: `host:port` or what else is used, in plain words; [] for nowhere."""

    def write(self, changes: Settings) -> list[Command]:
        """The commands that make these changes, in their order."""


class Saved(msgspec.Struct, frozen=True):
    """The state file: what was set before, what was set instead."""

    desktop: str
    address: str
    before: Settings
    ours: Settings


def load(path: Path) -> Saved | None:
    """What `on` remembered; None if it did not, or if the file cannot be read any more."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Saved)
    except (OSError, msgspec.MsgspecError):
        return None


def plan_on(desktop: Desktop, current: Settings, saved: Saved | None, host: str, port: int) -> Saved:
    """What to remember and to set. What an earlier `on` set counts as what it replaced."""
    address = f"{host}:{port}"
    before = dict(current)
    if saved is not None and saved.desktop == desktop.name:
        for name, value in current.items():
            if name in saved.before and value == saved.ours.get(name):
                before[name] = saved.before[name]
    elif address in desktop.proxies(current):
        before |= desktop.neutral(current)
    return Saved(desktop.name, address, before, desktop.pointing(before, host, port))


def changes_for(current: Settings, wanted: Mapping[str, str | None]) -> Settings:
    """What has to be written so that `wanted` holds, in its order."""
    return {name: value for name, value in wanted.items() if current.get(name) != value}


def plan_off(desktop: Desktop, current: Settings, saved: Saved | None, address: str) -> Settings:
    """What to write so that nothing is sent to the proxy any more; the switch comes first."""
    wanted: Settings = {}
    if saved is not None and saved.desktop == desktop.name:
        address = saved.address
        for name, ours in reversed(saved.ours.items()):
            if name in current and current[name] == ours:
                wanted[name] = saved.before.get(name)
    if address in desktop.proxies(current | wanted):
        wanted |= desktop.neutral(current | wanted)
    return changes_for(current, wanted)


def with_loopback(given: list[str], more: tuple[str, ...] = LOOPBACK) -> list[str]:
    """A bypass list with loopback in it, whatever it had first."""
    return [*given, *(name for name in more if name not in given)]


def this_desktop(
    platform: str = sys.platform,
    environ: Mapping[str, str] = os.environ,
    which: Callable[[str], str | None] = shutil.which,
    named: str | None = None,
) -> Desktop:
    """The desktop of this session, or the one that was remembered by name. Raises DesktopError."""
    from reasoning_fix.machine.system_proxy.gnome import Gnome
    from reasoning_fix.machine.system_proxy.kde import Kde
    from reasoning_fix.machine.system_proxy.macos import MacOS
    from reasoning_fix.machine.system_proxy.windows import Windows

    if platform == "darwin":
        return MacOS()
    if platform == "win32":
        return Windows()
    version = next((number for number in ("6", "5") if which(f"kwriteconfig{number}")), None)
    on_kde = "KDE" in environ.get("XDG_CURRENT_DESKTOP", "").upper().split(":")
    if version is not None and (named == Kde.name or (on_kde and named is None)):
        return Kde(version)
    if which("gsettings") and named in (None, Gnome.name):
        return Gnome()
    raise DesktopError(
        "No proxy settings of a desktop are known here (looked for kwriteconfig6, kwriteconfig5, gsettings). "
        "Give programs the proxy by variables instead: `reasoning-fix env`."
    )
