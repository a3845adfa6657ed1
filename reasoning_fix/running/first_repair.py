"""Says once, on the terminal of the program that a proxy belongs to, that it has been of use.

A program that draws on its whole terminal (it takes keys one by one) is not written over: the line waits
until it reads lines again, or has ended.
"""

import contextlib
import os
import threading
from collections.abc import Iterable

from reasoning_fix.proxy.stats.recent import Entry, recent

_SECONDS = 0.25


class FirstRepair:
    """Looks for the first request that was changed and answered. `terminal` is a file descriptor of ours."""

    def __init__(self, terminal: int, port: int) -> None:
        self._terminal = terminal
        self._port = port
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="first repair", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """The program has ended: say now what there is to say."""
        self._ended.set()
        self._thread.join(2)

    def _watch(self) -> None:
        while True:
            is_over = self._ended.wait(_SECONDS)
            said = line(recent.after(), self._port)
            if said and (is_over or reads_lines(self._terminal)):
                # Behind the end of the program, its shell may have asked for the next one already.
                start = "\n" if is_over else ""
                with contextlib.suppress(OSError):
                    os.write(self._terminal, f"{start}{said}".encode())
                break
            if is_over:
                break
        with contextlib.suppress(OSError):
            os.close(self._terminal)


def line(entries: Iterable[Entry], port: int) -> str:
    """What is said of the first one that was changed and answered; "" if there is none."""
    for entry in entries:
        if entry.status == 200 and (entry.restored or entry.filled or entry.moved or entry.is_repaired):
            turns = entry.restored or entry.filled or entry.moved
            what = f"{turns} turn{'' if turns == 1 else 's'}" if turns else "a refused request"
            did = "gave back the reasoning of" if entry.restored else "filled in for" if turns else "repaired"
            more = f"`reasoning-fix watch -p {port}` shows more"
            return f"reasoning-fix: {did} {what} for {entry.model}; {more}.\n"
    return ""


def reads_lines(terminal: int) -> bool:
    """Whether the program at this terminal reads whole lines; False also if the terminal is gone."""
    try:
        import termios  # not on Windows
    except ImportError:
        return True
    try:
        return bool(termios.tcgetattr(terminal)[3] & termios.ICANON)
    except termios.error:
        return False
