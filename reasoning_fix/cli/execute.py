"""Run one program through the proxy; nothing else on the machine is changed.

A proxy that runs already is used; else one is started on a free port, and ends with the program. It writes
its log to exec.log in the user log directory (~/.local/state/reasoning-fix/log on Linux). The program has the
terminal, gets the signals and gives the exit code as if it were started directly; it sees some
more variables, which `reasoning-fix env --json` shows. When the proxy started here has repaired the first
request, one line on the terminal says so (not into a full screen, and not with --quiet).

If HTTPS_PROXY, ALL_PROXY or HTTP_PROXY is set, the proxy started here goes through that one (http or https,
not socks), with its name and password, and reaches the hosts in NO_PROXY directly.

  reasoning-fix exec -- opencode
  reasoning-fix exec -- python my_agent.py --verbose
  reasoning-fix exec                     your shell: what you start in it goes through the proxy

Exit codes: those of the program. Its own: 2 used wrongly, 125 the proxy did not start, 126 the program cannot
be run, 127 it is not there.
"""

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from reasoning_fix import ReasoningFixError
from reasoning_fix.cli import shared
from reasoning_fix.cli.words import leading
from reasoning_fix.machine import folders, upstream
from reasoning_fix.machine.environment import undone
from reasoning_fix.running import probe
from reasoning_fix.running.command_line import Given, look_ahead
from reasoning_fix.running.prepared import prepare

_FLAGS = ("--fresh", "--quiet", "-h", "--help")
_VALUED = ("--set", "--port", "--confdir")
_LOG_BYTES = 1_000_000
_NOT_STARTED, _NOT_RUNNABLE, _NOT_FOUND = 125, 126, 127
# -P -c and not -m: a module in the folder the person is in must not take the place of one of ours.
_OURSELVES = (
    "import sys; sys.path.append(sys.argv.pop(1)); from reasoning_fix.cli import main; sys.exit(main())"
)
_ROOT = Path(__file__).resolve().parents[2]


class NotStartedError(ReasoningFixError):
    """The proxy did not start; the text is what it said."""


def split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    return leading(words, _FLAGS, _VALUED)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "reasoning-fix exec [options] [--] [PROGRAM [ARGUMENT ...]]"
    parser.add_argument(
        "--fresh", action="store_true", help="start a proxy for this program even if one runs already"
    )
    parser.add_argument("--quiet", action="store_true", help="do not say when the proxy was first of use")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="OPTION=VALUE",
        help="an option for that proxy, as for mitmproxy; with one of these it is always a fresh one",
    )
    shared.add_running_proxy(parser)


def run(arguments: argparse.Namespace) -> int:
    command: list[str] = arguments.others or [_shell(os.environ)]
    if not arguments.others and sys.stdin.isatty():
        print("reasoning-fix: what is started in this shell goes through the proxy; `exit` ends it.")
    if shutil.which(command[0]) is None:
        there = os.path.exists(command[0])
        print(f"reasoning-fix: {command[0]}: {'cannot be run' if there else 'not found'}", file=sys.stderr)
        return _NOT_RUNNABLE if there else _NOT_FOUND
    person = undone(os.environ)
    given = look_ahead([word for spec in arguments.set for word in ("--set", spec)], arguments.confdir)
    ready = prepare(given, person)
    for remark in ready.remarks:
        print(f"reasoning-fix: {remark}", file=sys.stderr)
    running = probe.address(given, arguments.port)
    if arguments.fresh or arguments.set or not probe.answers(running, ready.authority.fingerprint):
        try:
            running = f"127.0.0.1:{_start(given, arguments, _without_us(person, running))}"
        except (NotStartedError, upstream.UpstreamError) as error:
            print(f"reasoning-fix: the proxy did not start: {error}", file=sys.stderr)
            return _NOT_STARTED
    return _become(command, person | ready.variables(person, running))


def _shell(environment: Mapping[str, str]) -> str:
    """The person's own shell."""
    if sys.platform == "win32":
        return environment.get("COMSPEC", "cmd.exe")
    return environment.get("SHELL") or "/bin/sh"


def _without_us(person: Mapping[str, str], ours: str) -> dict[str, str]:
    """The person's variables without a proxy that is this one, set by hand while it ran."""
    ports = {f"http://{host}:{ours.rpartition(':')[2]}" for host in ("127.0.0.1", "localhost")}
    return {
        name: value
        for name, value in person.items()
        if name not in upstream.VARIABLES or value.rstrip("/") not in ports
    }


# ---- A proxy for this program ----------------------------------------------------------------------------


def _start(given: Given, arguments: argparse.Namespace, person: Mapping[str, str]) -> int:
    """Starts a proxy that ends with this process, whatever program that becomes; returns its port."""
    words = ["run", "--attached", str(os.getpid()), "--listen-host", "127.0.0.1", "--listen-port", "0"]
    words += ["--set", f"confdir={given.confdir}"]
    words += [word for spec in arguments.set if not spec.startswith("confdir=") for word in ("--set", spec)]
    if upstream.find(person) is not None:
        words.append("--upstream")
    terminal = None if arguments.quiet or sys.platform == "win32" or not sys.stderr.isatty() else os.dup(2)
    if terminal is not None:
        words += ["--terminal", str(terminal)]
    command = ourselves(words)
    log = _log_file()
    with log.open("ab") as errors:
        before = errors.tell()
        reading, writing = os.pipe()
        with os.fdopen(reading, "r", errors="replace") as said:
            with os.fdopen(writing, "wb") as output:
                _spawn(command, person, output, errors, terminal)
            if terminal is not None:
                os.close(terminal)
            lines = []
            for line in said:
                if line.startswith(probe.READY):
                    return int(line.removeprefix(probe.READY))
                lines.append(line)
    with log.open(errors="replace") as told:
        told.seek(before)
        raise NotStartedError("".join([*lines, told.read()]).strip() or "it ended without a word")


def ourselves(words: Sequence[str]) -> list[str]:
    """A command that runs reasoning-fix with these words."""
    return [sys.executable, "-u", "-P", "-c", _OURSELVES, str(_ROOT), *words]


def _spawn(
    command: list[str],
    person: Mapping[str, str],
    output: IO[bytes],
    errors: IO[bytes],
    terminal: int | None,
) -> None:
    """A session of its own, so that Ctrl-C at the terminal is for the program alone.

    And a grandchild: the program that this process becomes has no child it does not know of.
    """
    if sys.platform == "win32":
        flags = subprocess.CREATE_NEW_PROCESS_GROUP
        _held.append(
            subprocess.Popen(
                command, env=person, stdin=subprocess.PIPE, stdout=output, stderr=errors, creationflags=flags
            )
        )
        return
    child = os.fork()
    if child == 0:
        try:
            subprocess.Popen(
                command,
                env=person,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                start_new_session=True,
                pass_fds=() if terminal is None else (terminal,),
            )
        finally:
            os._exit(0)
    os.waitpid(child, 0)


# On Windows: the proxy, whose standard input ends with us.
_held: list["subprocess.Popen[bytes]"] = []


def _log_file() -> Path:
    """exec.log, private to the person; it starts over when it is large."""
    path = folders.logs() / "exec.log"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size > _LOG_BYTES:
            path.replace(path.with_name("exec.log.1"))
    path.touch(0o600)
    return path


# ---- The program -----------------------------------------------------------------------------------------


def _become(command: list[str], environment: dict[str, str]) -> int:
    """This process becomes the program, so that terminal, signals and exit code are its own."""
    if sys.platform == "win32":
        return _accompany(command, environment)
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and a program would inherit that
        signal.signal(ignored, signal.SIG_DFL)
    sys.stdout.flush()
    try:
        os.execvpe(command[0], command, environment)
    except OSError as error:
        print(f"reasoning-fix: {command[0]}: {error.strerror}", file=sys.stderr)
        return _NOT_FOUND if isinstance(error, FileNotFoundError) else _NOT_RUNNABLE


def _accompany(command: list[str], environment: dict[str, str]) -> int:
    """Windows: no process becomes another there; Ctrl-C reaches the program by itself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    program = shutil.which(command[0]) or command[0]
    return subprocess.run([program, *command[1:]], env=environment, check=False).returncode
