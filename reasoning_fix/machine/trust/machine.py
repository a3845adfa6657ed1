"""All that the files of the trust stores may see of a computer, and may ask of it.

They look through a `Machine` and answer with `Store`s: what was found, and the exact commands that install
and uninstall. Only `run` does anything. A test gives them a computer of its own.
"""

import os
import platform
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol

import msgspec

type Kind = Literal["system", "nss", "keychain", "windows"]
# present: nothing to do; unreachable: it is there, but a tool is missing (the note says which).
type State = Literal["absent", "present", "unreachable"]

# Where administrators' commands lie, which a person's PATH may leave out (Debian).
_MORE_PATH = ("/usr/local/sbin", "/usr/sbin", "/sbin")
_SECONDS = 120.0


class Root(msgspec.Struct, frozen=True):
    """The certificate that programs are to trust: its file, unique name, PEM text and SHA-1 (capitals)."""

    file: Path
    name: str
    pem: str
    sha1: str


class Step(msgspec.Struct, frozen=True):
    """One command; `administrator` where only an administrator may."""

    words: tuple[str, ...]
    administrator: bool = False


class Store(msgspec.Struct, frozen=True, kw_only=True):
    """One trust store as it was found, and the steps either way."""

    kind: Kind
    title: str
    place: str
    state: State
    install: tuple[Step, ...] = ()
    uninstall: tuple[Step, ...] = ()
    note: str = ""


class Result(msgspec.Struct, frozen=True):
    """What a command answered: exit code, and both outputs as one text."""

    code: int
    output: str


class Machine(Protocol):
    """A computer. `root` is "/" outside of tests; paths of the system are looked for below it."""

    @property
    def system(self) -> str: ...
    @property
    def home(self) -> Path: ...
    @property
    def root(self) -> Path: ...
    @property
    def administrator(self) -> bool: ...

    def find(self, command: str) -> str | None:
        """The path of a command, or None."""

    def variable(self, name: str) -> str:
        """An environment variable, "" when it is not set."""

    def read(self, path: Path) -> bytes | None:
        """A file's content; None if there is none, or it cannot be read."""

    def folders(self, pattern: str) -> tuple[Path, ...]:
        """Folders below the home that match a glob pattern, sorted."""

    def is_folder(self, path: Path) -> bool:
        """Whether there is a folder."""

    def run(self, words: Sequence[str]) -> Result:
        """Run a command to its end."""


class ThisMachine:
    """The computer we run on; tests give another home and root."""

    def __init__(self, home: Path | None = None, root: Path = Path("/")) -> None:
        self.system = platform.system()
        self.home = home or Path.home()
        self.root = root
        # Below a folder of one's own nothing needs an administrator.
        self.administrator = root != Path("/") or (hasattr(os, "geteuid") and os.geteuid() == 0)

    def find(self, command: str) -> str | None:
        path = os.pathsep.join((os.environ.get("PATH", os.defpath), *_MORE_PATH))
        return shutil.which(command, path=path)

    def variable(self, name: str) -> str:
        return os.environ.get(name, "")

    def read(self, path: Path) -> bytes | None:
        try:
            return path.read_bytes()
        except OSError:
            return None

    def folders(self, pattern: str) -> tuple[Path, ...]:
        try:
            return tuple(sorted(path for path in self.home.glob(pattern) if path.is_dir()))
        except OSError:
            return ()

    def is_folder(self, path: Path) -> bool:
        return path.is_dir()

    def run(self, words: Sequence[str]) -> Result:
        try:
            done = subprocess.run(
                words,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=_SECONDS,
                check=False,
            )
        except OSError as error:
            return Result(127, f"{words[0]}: {error.strerror or error}")
        except subprocess.TimeoutExpired:
            return Result(124, f"{words[0]}: no answer within {_SECONDS:.0f} seconds")
        return Result(done.returncode, done.stdout.strip())


def words_of(step: Step, machine: Machine) -> tuple[str, ...]:
    """The command as it is run: with sudo where the person is no administrator."""
    if step.administrator and not machine.administrator:
        return ("sudo", *step.words)
    return step.words


def line_of(step: Step, machine: Machine) -> str:
    """The command as a person would type it."""
    words = words_of(step, machine)
    return subprocess.list2cmdline(words) if machine.system == "Windows" else shlex.join(words)
