"""Keeping the proxy running for one user: one file per platform, each a `Platform`.

Nothing here needs an administrator, and `remove` leaves nothing behind but the logs.
"""

import sys
from pathlib import Path
from typing import Protocol

import msgspec

from reasoning_fix import ReasoningFixError
from reasoning_fix.machine import plan
from reasoning_fix.machine.plan import Run, Step

DESCRIPTION = "reasoning-fix: gives reasoning models back their reasoning"
# How long the event loop may be silent before the proxy is started again.
WATCHDOG_SECONDS = 30


class ServiceError(ReasoningFixError):
    """There is no way to keep a program running here; the text says what to do instead."""


class Program(msgspec.Struct, frozen=True):
    """The interpreter and the arguments of `python -m reasoning_fix run`."""

    python: Path
    arguments: tuple[str, ...] = ()

    @property
    def argv(self) -> tuple[str, ...]:
        return (str(self.python), "-m", "reasoning_fix", "run", *self.arguments)


class State(msgspec.Struct, frozen=True):
    """`detail` is what the platform says, in its own words."""

    installed: bool
    running: bool
    detail: str = ""


class Platform(Protocol):
    """How one platform keeps a user's program running."""

    manager: str
    """What does it, with its article."""
    logs: str
    """Where a person reads the log: a command or a path."""

    def check(self, run: Run) -> None:
        """Raises ServiceError where this platform's manager is not to be had."""

    def install(self, program: Program) -> list[Step]:
        """Install and start; the same again for a service that is already there."""

    def remove(self) -> list[Step]:
        """Stop and remove; works also where nothing is installed."""

    def state(self, run: Run) -> State:
        """How it is now."""


def this_platform() -> Platform:
    """The platform this runs on. Only its own file is imported. Raises ServiceError."""
    if sys.platform == "darwin":
        from reasoning_fix.services.launchd import Launchd

        return Launchd.of_this_user()
    if sys.platform == "win32":
        from reasoning_fix.services.windows import TaskScheduler

        return TaskScheduler.of_this_user()
    if sys.platform.startswith("linux"):
        from reasoning_fix.services.systemd import Systemd

        return Systemd.of_this_user()
    raise ServiceError(f"No service manager is known for {sys.platform}; start `reasoning-fix run` at login.")


def supervised(program: Program, log: Path, python: str) -> list[str]:
    """The program under our own supervisor, for managers that neither watch nor bound a log."""
    return [python, "-m", "reasoning_fix.services.supervisor", str(log), *program.argv]


def importable_from_anywhere(python: Path) -> bool:
    """Whether this interpreter finds the package without the current folder and without PYTHONPATH."""
    return plan.run((str(python), "-I", "-c", "import reasoning_fix")).code == 0
