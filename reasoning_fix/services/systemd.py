"""Linux: a systemd user unit, restarted when it ends or when its event loop no longer says so.

Directives: https://www.freedesktop.org/software/systemd/man/latest/systemd.service.html and systemd.exec.
"""

import os
from pathlib import Path

from reasoning_fix.machine.plan import Command, Delete, Run, Step, Write
from reasoning_fix.services import DESCRIPTION, WATCHDOG_SECONDS, Program, ServiceError, State

_UNIT = "reasoning-fix.service"
_SYSTEMCTL = ("systemctl", "--user")
# Hardening by seccomp and prctl only: what needs a mount namespace (ProtectSystem, PrivateTmp) fails in user
# units where unprivileged user namespaces are off, and MemoryDenyWriteExecute breaks libffi's callbacks.
_TEXT = """\
# Written by `reasoning-fix service install`; `reasoning-fix service remove` removes it.
[Unit]
Description={description}
StartLimitIntervalSec=0

[Service]
Type=notify
ExecStart={command}
Restart=always
RestartSec=2
WatchdogSec={watchdog}
TimeoutStartSec=120
TimeoutStopSec=20
Environment=PYTHONUNBUFFERED=1
StandardOutput=journal
StandardError=journal
SyslogIdentifier=reasoning-fix
LimitNOFILE=65536
UMask=0077
NoNewPrivileges=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM

[Install]
WantedBy=default.target
"""


class Systemd:
    manager = "the systemd user manager"
    logs = f"journalctl --user -u {_UNIT} -f"

    def __init__(self, units: Path) -> None:
        self._unit = units / _UNIT

    @classmethod
    def of_this_user(cls) -> "Systemd":
        config = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
        return cls(Path(config) / "systemd" / "user")

    def check(self, run: Run) -> None:
        ended = run((*_SYSTEMCTL, "show-environment"))
        if ended.code:
            raise ServiceError(
                f"No systemd user manager answers ({ended.complaint}). Log in to a session of your own, "
                "not by su or sudo, or have `reasoning-fix run` started in your system's own way at login."
            )

    def install(self, program: Program) -> list[Step]:
        return [
            Write(self._unit, unit(program).encode()),
            Command((*_SYSTEMCTL, "daemon-reload")),
            Command((*_SYSTEMCTL, "enable", _UNIT)),
            Command((*_SYSTEMCTL, "restart", _UNIT)),
        ]

    def remove(self) -> list[Step]:
        return [
            Command((*_SYSTEMCTL, "disable", "--now", _UNIT), may_fail=True),
            Delete(self._unit),
            Command((*_SYSTEMCTL, "daemon-reload")),
            Command((*_SYSTEMCTL, "reset-failed", _UNIT), may_fail=True),
        ]

    def state(self, run: Run) -> State:
        ended = run((*_SYSTEMCTL, "show", "-p", "ActiveState,SubState,MainPID,NRestarts,Result", _UNIT))
        said = dict(line.split("=", 1) for line in ended.text.splitlines() if "=" in line)
        detail = ", ".join(f"{name}={value}" for name, value in said.items()) or ended.complaint
        return State(self._unit.exists(), said.get("ActiveState") == "active", detail)


def unit(program: Program) -> str:
    """The unit file."""
    command = " ".join(_quoted(word) for word in program.argv)
    return _TEXT.format(description=DESCRIPTION, command=command, watchdog=WATCHDOG_SECONDS)


def _quoted(word: str) -> str:
    """One word of ExecStart: neither specifiers (%), variables ($) nor quotes mean anything in it."""
    if "\n" in word or "\r" in word:
        raise ServiceError(f"{word!r} holds a line break, which a unit file cannot carry.")
    plain = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    bare = plain == word and word and not set(word) & set(" \t'\";")
    return word if bare else f'"{plain}"'
