"""Windows: a scheduled task at logon that runs our supervisor.

The scheduler restarts a task after a minute at the earliest and keeps no output, so the supervisor restarts
the proxy and writes the log. Schema: https://learn.microsoft.com/windows/win32/taskschd/task-scheduler-schema
"""

import getpass
import os
import subprocess
from pathlib import Path
from xml.sax.saxutils import escape

from reasoning_fix.machine import folders
from reasoning_fix.machine.plan import Command, Delete, Run, Step, Write
from reasoning_fix.services import DESCRIPTION, Program, State, supervised

_TASK = "reasoning-fix"
_XML = """\
<?xml version="1.0" encoding="UTF-16"?>
<Task version="1.2" xmlns="http://schemas.microsoft.com/windows/2004/02/mit/task">
  <RegistrationInfo>
    <Description>{description}</Description>
  </RegistrationInfo>
  <Triggers>
    <LogonTrigger>
      <Enabled>true</Enabled>
      <UserId>{user}</UserId>
    </LogonTrigger>
  </Triggers>
  <Principals>
    <Principal id="Author">
      <UserId>{user}</UserId>
      <LogonType>InteractiveToken</LogonType>
      <RunLevel>LeastPrivilege</RunLevel>
    </Principal>
  </Principals>
  <Settings>
    <MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>
    <DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>
    <StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>
    <ExecutionTimeLimit>PT0S</ExecutionTimeLimit>
    <Priority>5</Priority>
    <RestartOnFailure>
      <Interval>PT1M</Interval>
      <Count>999</Count>
    </RestartOnFailure>
  </Settings>
  <Actions Context="Author">
    <Exec>
      <Command>{command}</Command>
      <Arguments>{arguments}</Arguments>
    </Exec>
  </Actions>
</Task>
"""


class TaskScheduler:
    manager = "the Task Scheduler"

    def __init__(self, folder: Path, log: Path, user: str) -> None:
        self._file = folder / "service.xml"
        self._log = log
        self._user = user
        self.logs = str(log)

    @classmethod
    def of_this_user(cls) -> "TaskScheduler":
        domain = os.environ.get("USERDOMAIN", "")
        user = f"{domain}\\{getpass.getuser()}" if domain else getpass.getuser()
        return cls(folders.configuration(), folders.logs() / "reasoning-fix.log", user)

    def check(self, run: Run) -> None:
        return None

    def install(self, program: Program) -> list[Step]:
        return [
            Write(self._file, self._task(program)),
            Command(("schtasks", "/End", "/TN", _TASK), may_fail=True),
            Command(("schtasks", "/Create", "/TN", _TASK, "/XML", str(self._file), "/F")),
            Command(("schtasks", "/Run", "/TN", _TASK)),
        ]

    def remove(self) -> list[Step]:
        return [
            Command(("schtasks", "/End", "/TN", _TASK), may_fail=True),
            Command(("schtasks", "/Delete", "/TN", _TASK, "/F"), may_fail=True),
            Delete(self._file),
        ]

    def state(self, run: Run) -> State:
        # Not `schtasks /Query`: its words are translated, these are names of an enumeration.
        ask = f"(Get-ScheduledTask -TaskName '{_TASK}' -ErrorAction Stop).State"
        ended = run(("powershell", "-NoProfile", "-NonInteractive", "-Command", ask))
        word = ended.text.strip()
        return State(ended.code == 0, word == "Running", word if ended.code == 0 else ended.complaint)

    def _task(self, program: Program) -> bytes:
        # pythonw opens no console window.
        windowed = program.python.with_name("pythonw.exe")
        command, *arguments = supervised(program, self._log, str(windowed))
        text = _XML.format(
            description=escape(DESCRIPTION),
            user=escape(self._user),
            command=escape(command),
            arguments=escape(subprocess.list2cmdline(arguments)),
        )
        return text.replace("\n", "\r\n").encode("utf-16")
