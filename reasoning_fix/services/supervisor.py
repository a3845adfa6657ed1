"""Keeps one program running where the platform's service manager is not enough (macOS, Windows).

    python -m reasoning_fix.services.supervisor LOG PROGRAM ARGUMENTS...

Starts the program again when it ends, and ends it when its event loop is silent for too long (by the protocol
of systemd's watchdog, on systems with Unix sockets). Its output goes to LOG, up to 5 MB and one older file;
`-` leaves it as it is.
"""

import contextlib
import ctypes
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import IO

from reasoning_fix.services import WATCHDOG_SECONDS

_LOG_BYTES = 5 * 1024 * 1024
_FIRST_DELAY = 1.0
_LONGEST_DELAY = 30.0
# A program that lives this long has started: the next delay is the first one again.
_LIVED_SECONDS = 20.0
_STOPPING_SECONDS = 15.0
_LOOK_SECONDS = 0.5


class Log:
    """A file that starts over when it is full; the full one is kept as NAME.1."""

    def __init__(self, path: Path, limit: int = _LOG_BYTES) -> None:
        self._path = path
        self._limit = limit
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab")
        self._lock = threading.Lock()

    def write(self, line: bytes) -> None:
        with self._lock:
            if self._file.tell() + len(line) > self._limit:
                self._file.close()
                os.replace(self._path, self._path.with_name(f"{self._path.name}.1"))
                self._file = self._path.open("ab")
            self._file.write(line)
            self._file.flush()

    def copy(self, source: IO[bytes]) -> None:
        """Copy until `source` ends; a full disk must not stop the program that writes."""
        for line in iter(lambda: source.readline(65536), b""):
            with contextlib.suppress(OSError):
                self.write(line)


class Supervisor:
    """Runs the command again and again until `stop`; its event loop may be silent for `silence` seconds."""

    def __init__(self, log: Log | None, command: Sequence[str], silence: float = WATCHDOG_SECONDS) -> None:
        self._log = log
        self._command = command
        self._silence = silence
        self._stopping = False

    def stop(self, *_: int | FrameType | None) -> None:
        """A signal handler, which may interrupt anything: it only sets a flag."""
        self._stopping = True

    def run(self) -> None:
        delay = _FIRST_DELAY
        with _listener() as beats:
            while not self._stopping:
                started = time.monotonic()
                child = _start(self._command, self._log, beats, self._silence)
                reason = self._watch(child, beats)
                if self._stopping:
                    _end(child)
                    return
                lived = time.monotonic() - started
                delay = _FIRST_DELAY if lived > _LIVED_SECONDS else delay
                _say(self._log, f"the proxy {reason} after {lived:.0f} s; again in {delay:.0f} s")
                until = time.monotonic() + delay
                while not self._stopping and time.monotonic() < until:
                    time.sleep(min(_LOOK_SECONDS, delay))
                delay = min(delay * 2, _LONGEST_DELAY)

    def _watch(self, child: subprocess.Popen[bytes], beats: socket.socket | None) -> str:
        """Wait for its end, or end it if it hangs after a first sign of life; returns what happened."""
        deadline: float | None = None
        while child.poll() is None and not self._stopping:
            if beats is None:
                time.sleep(_LOOK_SECONDS)
                continue
            with contextlib.suppress(TimeoutError):
                beats.recv(4096)
                deadline = time.monotonic() + self._silence
            if deadline is not None and time.monotonic() > deadline:
                child.kill()
                child.wait()
                return f"was silent for {self._silence:.0f} s and was ended"
        return f"ended with exit code {child.returncode}"


def _end(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(_STOPPING_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _start(
    command: Sequence[str], log: Log | None, beats: socket.socket | None, silence: float
) -> subprocess.Popen[bytes]:
    environment = dict(os.environ)
    if beats is not None:
        environment |= {
            "NOTIFY_SOCKET": beats.getsockname(),
            "WATCHDOG_USEC": str(int(silence * 1_000_000)),
        }
        environment.pop("WATCHDOG_PID", None)
    output = None if log is None else subprocess.PIPE
    child = subprocess.Popen(
        list(command),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=None if log is None else subprocess.STDOUT,
        env=environment,
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
    )
    if log is not None:
        threading.Thread(target=log.copy, args=(child.stdout,), name="log", daemon=True).start()
    return child


@contextlib.contextmanager
def _listener() -> Iterator[socket.socket | None]:
    """Where the program reports that it is alive; None if there are no Unix sockets."""
    if not hasattr(socket, "AF_UNIX"):
        yield None
        return
    with (
        tempfile.TemporaryDirectory(prefix="reasoning-fix-", ignore_cleanup_errors=True) as folder,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as beats,
    ):
        beats.bind(f"{folder}/notify")
        beats.settimeout(_LOOK_SECONDS)
        yield beats


def _say(log: Log | None, text: str) -> None:
    line = f"{time.strftime('%Y-%m-%d %H:%M:%S')} reasoning-fix supervisor: {text}\n".encode()
    if log is None:
        sys.stdout.buffer.write(line)
        sys.stdout.flush()
    else:
        with contextlib.suppress(OSError):
            log.write(line)


def _die_together() -> None:
    """Windows: the program ends when we do, however suddenly, by a job object that kills when it closes.

    https://learn.microsoft.com/windows/win32/api/winnt/ns-winnt-jobobject_extended_limit_information
    """
    if sys.platform == "win32":
        kernel = ctypes.WinDLL("kernel32", use_last_error=True)
        for function in (kernel.CreateJobObjectW, kernel.GetCurrentProcess):
            function.restype = ctypes.c_void_p
        job = ctypes.c_void_p(kernel.CreateJobObjectW(None, None))
        limits = bytearray(144)
        kill_on_close, extended = 0x2000, 9
        struct.pack_into("<I", limits, 16, kill_on_close)
        buffer = (ctypes.c_char * len(limits)).from_buffer(limits)
        kernel.SetInformationJobObject(job, extended, buffer, len(limits))
        kernel.AssignProcessToJobObject(job, ctypes.c_void_p(kernel.GetCurrentProcess()))


def main(given: Sequence[str]) -> int:
    if len(given) < 2:
        print(
            "usage: python -m reasoning_fix.services.supervisor LOG PROGRAM [ARGUMENTS...]", file=sys.stderr
        )
        return 2
    _die_together()
    supervisor = Supervisor(None if given[0] == "-" else Log(Path(given[0])), given[1:])
    for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), supervisor.stop)
    supervisor.run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
