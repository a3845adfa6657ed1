"""macOS: a launchd agent that runs our supervisor, which bounds the log and watches the event loop.

Keys: `man launchd.plist`; commands: `man launchctl` (the domain is that of the logged-in user, gui/UID).
"""

import os
import plistlib
from pathlib import Path

from reasoning_fix.machine.plan import Command, Delete, Run, Step, Write
from reasoning_fix.services import Program, State, supervised

_LABEL = "fix.reasoning.proxy"


class Launchd:
    manager = "launchd"

    def __init__(self, home: Path, user: int) -> None:
        self._plist = home / "Library" / "LaunchAgents" / f"{_LABEL}.plist"
        self._log = home / "Library" / "Logs" / "reasoning-fix.log"
        self._domain = f"gui/{user}"
        self.logs = str(self._log)

    @classmethod
    def of_this_user(cls) -> "Launchd":
        # No getuid on Windows, whose type checker reads this too.
        return cls(Path.home(), getattr(os, "getuid", lambda: 0)())

    def check(self, run: Run) -> None:
        return None

    def install(self, program: Program) -> list[Step]:
        return [
            Write(self._plist, self._agent(program)),
            # A loaded agent keeps its old definition until it is booted out.
            Command(("launchctl", "bootout", f"{self._domain}/{_LABEL}"), may_fail=True),
            Command(("launchctl", "enable", f"{self._domain}/{_LABEL}")),
            Command(("launchctl", "bootstrap", self._domain, str(self._plist))),
        ]

    def remove(self) -> list[Step]:
        return [
            Command(("launchctl", "bootout", f"{self._domain}/{_LABEL}"), may_fail=True),
            Delete(self._plist),
        ]

    def state(self, run: Run) -> State:
        ended = run(("launchctl", "print", f"{self._domain}/{_LABEL}"))
        told = [line.strip() for line in ended.text.splitlines()]
        detail = [line for line in told if line.startswith(("state = ", "pid = ", "last exit code = "))]
        said = ", ".join(detail) if not ended.code else ended.complaint
        return State(self._plist.exists(), "state = running" in told, said)

    def _agent(self, program: Program) -> bytes:
        return plistlib.dumps(
            {
                "Label": _LABEL,
                "ProgramArguments": supervised(program, self._log, str(program.python)),
                "RunAtLoad": True,
                "KeepAlive": True,
                "ThrottleInterval": 1,
                # The default is throttled when the machine is busy.
                "ProcessType": "Interactive",
                # The default of 256 open files is few for a proxy of a whole system.
                "SoftResourceLimits": {"NumberOfFiles": 8192},
                "EnvironmentVariables": {"PYTHONUNBUFFERED": "1"},
                "Umask": 0o077,
            },
            sort_keys=False,
        )
