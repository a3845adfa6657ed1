"""What a command does to the machine, as values: shown before (`--dry-run`), then done in order."""

import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from reasoning_fix import ReasoningFixError
from reasoning_fix.store import private_files

_SECONDS = 120.0
_NOT_FOUND = 127


class Done(msgspec.Struct, frozen=True):
    """How a program ended. `text` is its output, `error` what it complained of."""

    code: int
    text: str = ""
    error: str = ""

    @property
    def complaint(self) -> str:
        return self.error.strip() or self.text.strip() or f"it ended with exit code {self.code}"


type Run = Callable[[Sequence[str]], Done]


class Write(msgspec.Struct, frozen=True):
    """A private file with this content, in place of what was there."""

    path: Path
    content: bytes


class Delete(msgspec.Struct, frozen=True):
    """No file at this path."""

    path: Path


class Command(msgspec.Struct, frozen=True):
    """A program to run, by an `administrator` if so; if it `may_fail`, there may have been nothing to do."""

    argv: tuple[str, ...]
    may_fail: bool = False
    administrator: bool = False


type Step = Write | Delete | Command


class StepError(ReasoningFixError):
    """A step could not be done; the text names it and what its program said."""


def run(argv: Sequence[str], environment: Mapping[str, str] | None = None) -> Done:
    """Run a program to its end, at most two minutes; a missing one ends with 127, as in a shell."""
    try:
        ended = subprocess.run(
            list(argv),
            capture_output=True,
            timeout=_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
            env=environment,
        )
    except FileNotFoundError:
        return Done(_NOT_FOUND, "", f"{argv[0]} is not installed")
    except (OSError, subprocess.TimeoutExpired) as error:
        return Done(126, "", str(error))
    return Done(
        ended.returncode, ended.stdout.decode(errors="replace"), ended.stderr.decode(errors="replace")
    )


def perform(steps: Sequence[Step], run: Run = run) -> None:
    """Do the steps in order, saying nothing. Raises StepError at the first that cannot be done."""
    for step in steps:
        if isinstance(step, Command):
            ended = run(step.argv)
            if ended.code and not step.may_fail:
                raise StepError(f"`{shown(step.argv)}` failed: {ended.complaint}")
        else:
            try:
                if isinstance(step, Write):
                    step.path.parent.mkdir(parents=True, exist_ok=True)
                    private_files.replace(step.path, step.content)
                else:
                    step.path.unlink(missing_ok=True)
            except OSError as error:
                raise StepError(f"{step.path} cannot be changed: {error.strerror or error}") from error


def carry_out(steps: Sequence[Step], dry_run: bool) -> bool:
    """Do the steps, or only print them; whether they were done. Raises StepError."""
    if dry_run:
        print(describe(steps))
    else:
        perform(steps)
    return not dry_run


def describe(steps: Sequence[Step], with_content: bool = True) -> str:
    """The steps as a person reads them."""
    lines = []
    for step in steps:
        if isinstance(step, Command):
            lines.append(f"run     {shown(step.argv)}")
        elif isinstance(step, Delete):
            lines.append(f"delete  {step.path}")
        else:
            lines.append(f"write   {step.path}")
            if with_content:
                encoding = "utf-16" if step.content.startswith(b"\xff\xfe") else "utf-8"
                lines += [f"    {line}" for line in step.content.decode(encoding).splitlines()]
    return "\n".join(lines)


def shown(argv: Sequence[str], on_windows: bool = sys.platform == "win32") -> str:
    """A command as it is typed into the platform's shell."""
    return subprocess.list2cmdline(argv) if on_windows else shlex.join(argv)
