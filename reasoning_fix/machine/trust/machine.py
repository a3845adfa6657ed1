"""All that the files of the trust stores may see of a computer, and may ask of it.

They look through a `Machine` and answer with `Store`s: what was found, and the exact commands that install
and uninstall. Only `run` does anything. A test describes a machine of its own.
"""

import os
import platform
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec

from reasoning_fix.machine import plan
from reasoning_fix.machine.plan import Command, Done

type Kind = Literal["system", "nss", "keychain", "windows"]
# present: nothing to do; unreachable: it is there, but a tool is missing (the note says which).
type State = Literal["absent", "present", "unreachable"]

# Where administrators' commands lie, which a person's PATH may leave out (Debian).
_MORE_PATH = ("/usr/local/sbin", "/usr/sbin", "/sbin")


class Store(msgspec.Struct, frozen=True, kw_only=True):
    """One trust store as it was found, and the commands either way."""

    kind: Kind
    title: str
    place: str
    state: State
    install: tuple[Command, ...] = ()
    uninstall: tuple[Command, ...] = ()
    note: str = ""


class Machine:
    """The computer we run on. `root` is "/" outside of tests; paths of the system are looked for below it."""

    def __init__(self, home: Path | None = None, root: Path = Path("/")) -> None:
        self.system = platform.system()
        self.home = home or Path.home()
        self.root = root
        # Below a folder of one's own nothing needs an administrator.
        self.administrator = root != Path("/") or (hasattr(os, "geteuid") and os.geteuid() == 0)

    def find(self, command: str) -> str | None:
        """The path of a command, or None."""
        path = os.pathsep.join((os.environ.get("PATH", os.defpath), *_MORE_PATH))
        return shutil.which(command, path=path)

    def variable(self, name: str) -> str:
        """An environment variable, "" if it is not set."""
        return os.environ.get(name, "")

    def read(self, path: Path) -> bytes | None:
        """A file's content; None if there is none, or it cannot be read."""
        try:
            return path.read_bytes()
        except OSError:
            return None

    def folders(self, pattern: str) -> tuple[Path, ...]:
        """Folders below the home that match a glob pattern, sorted."""
        try:
            return tuple(sorted(path for path in self.home.glob(pattern) if path.is_dir()))
        except OSError:
            return ()

    def is_folder(self, path: Path) -> bool:
        return path.is_dir()

    def run(self, words: Sequence[str]) -> Done:
        return plan.run(words)

    def words(self, command: Command) -> tuple[str, ...]:
        """The command as it is run: with sudo where the person is not an administrator."""
        needs_sudo = command.administrator and not self.administrator
        return ("sudo", *command.argv) if needs_sudo else command.argv

    def line(self, command: Command) -> str:
        """The command as a person types it."""
        return plan.shown(self.words(command), on_windows=self.system == "Windows")
