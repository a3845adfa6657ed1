"""Keeping the proxy running: unit files, agents and tasks word for word, and a proxy that is killed."""

import http.client
import os
import plistlib
import shutil
import signal
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest

from reasoning_fix.machine.plan import Command, Delete, Done, Step, StepError, Write, describe, perform
from reasoning_fix.proxy.health import Health
from reasoning_fix.services import Platform, Program, ServiceError, State, importable_from_anywhere
from reasoning_fix.services.launchd import Launchd
from reasoning_fix.services.supervisor import Log, Supervisor
from reasoning_fix.services.systemd import Systemd, unit
from reasoning_fix.services.windows import TaskScheduler
from tests.conftest import StartProxy
from tests.console import measured
from tests.end_to_end.test_chat import KEY, Person, script_three_turns
from tests.mitmdump import Proxy, client
from tests.provider.simulator import DEEPSEEK, Simulator

PATIENCE = 30.0
PROGRAM = Program(Path("/opt/reasoning fix/bin/python"), ("--set", "reasoning_fallback=none"))


def commands(planned: Sequence[Step]) -> list[str]:
    return [" ".join(step.argv) for step in planned if isinstance(step, Command)]


def written(planned: Sequence[Step]) -> Write:
    (file,) = (step for step in planned if isinstance(step, Write))
    return file


# --- Linux ----------------------------------------------------------------------------------------------


def test_the_unit_file() -> None:
    assert unit(PROGRAM) == (
        "# Written by `reasoning-fix service install`; `reasoning-fix service remove` removes it.\n"
        "[Unit]\n"
        "Description=reasoning-fix: gives reasoning models back their reasoning\n"
        "StartLimitIntervalSec=0\n"
        "\n"
        "[Service]\n"
        "Type=notify\n"
        'ExecStart="/opt/reasoning fix/bin/python" -m reasoning_fix run --set reasoning_fallback=none\n'
        "Restart=always\n"
        "RestartSec=2\n"
        "WatchdogSec=30\n"
        "TimeoutStartSec=120\n"
        "TimeoutStopSec=20\n"
        "Environment=PYTHONUNBUFFERED=1\n"
        "StandardOutput=journal\n"
        "StandardError=journal\n"
        "SyslogIdentifier=reasoning-fix\n"
        "LimitNOFILE=65536\n"
        "UMask=0077\n"
        "NoNewPrivileges=yes\n"
        "LockPersonality=yes\n"
        "RestrictRealtime=yes\n"
        "RestrictSUIDSGID=yes\n"
        "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK\n"
        "SystemCallArchitectures=native\n"
        "SystemCallFilter=@system-service\n"
        "SystemCallErrorNumber=EPERM\n"
        "\n"
        "[Install]\n"
        "WantedBy=default.target\n"
    )


@pytest.mark.parametrize(
    ("word", "written"),
    [
        ("plain=1", "plain=1"),
        ("two words", '"two words"'),
        ("100%", '"100%%"'),
        ("$HOME", '"$$HOME"'),
        ('say "x"', '"say \\"x\\""'),
        ("back\\slash", '"back\\\\slash"'),
        ("it's", '"it\'s"'),
        ("", '""'),
        (";", '";"'),
    ],
)
def test_a_word_of_the_unit_means_itself(word: str, written: str) -> None:
    assert f"run {written}\n" in unit(Program(Path("/usr/bin/python3"), (word,)))


def test_a_line_break_cannot_smuggle_a_directive() -> None:
    with pytest.raises(ServiceError, match="line break"):
        unit(Program(Path("/usr/bin/python3"), ("x\nExecStartPre=/bin/evil",)))


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
@pytest.mark.parametrize("argument", ["--quiet", "two words", "100%", "$HOME;'", 'say "x"'])
def test_systemd_accepts_the_unit(tmp_path: Path, argument: str) -> None:
    file = tmp_path / "reasoning-fix.service"
    file.write_text(unit(Program(Path(sys.executable), (argument,))))
    checked = subprocess.run(
        ["systemd-analyze", "verify", "--user", "--man=no", str(file)],
        capture_output=True,
        text=True,
        env={**os.environ, "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)},
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_refuses_a_unit_that_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "reasoning-fix.service"
    file.write_text(unit(Program(Path(sys.executable))).replace("WatchdogSec=30", "WatchdogSecs=30"))
    environ = {**os.environ, "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}
    checked = subprocess.run(
        ["systemd-analyze", "verify", "--user", "--man=no", str(file)], capture_output=True, env=environ
    )
    assert b"WatchdogSecs" in checked.stdout + checked.stderr


def test_systemd_commands() -> None:
    manager = Systemd(Path("/home/me/.config/systemd/user"))
    installing, removing = manager.install(PROGRAM), manager.remove()
    assert written(installing).path == Path("/home/me/.config/systemd/user/reasoning-fix.service")
    assert commands(installing) == [
        "systemctl --user daemon-reload",
        "systemctl --user enable reasoning-fix.service",
        "systemctl --user restart reasoning-fix.service",
    ]
    assert commands(removing) == [
        "systemctl --user disable --now reasoning-fix.service",
        "systemctl --user daemon-reload",
        "systemctl --user reset-failed reasoning-fix.service",
    ]
    assert Delete(Path("/home/me/.config/systemd/user/reasoning-fix.service")) in removing


SYSTEMCTL = """#!/bin/sh
# A user manager that remembers in $STATE what it was told.
shift
echo "$@" >>"$STATE/calls"
case "$1" in
    enable) touch "$STATE/enabled" ;;
    restart) [ -f "$HOME/.config/systemd/user/reasoning-fix.service" ] || exit 5; touch "$STATE/active" ;;
    disable) [ -f "$STATE/enabled" ] || exit 1; rm -f "$STATE/enabled" "$STATE/active" ;;
    show) if [ -f "$STATE/active" ]; then echo ActiveState=active; else echo ActiveState=inactive; fi ;;
    reset-failed) exit 1 ;;
esac
"""


def test_install_status_and_remove_with_a_user_manager(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "systemctl").write_text(SYSTEMCTL)
    (tmp_path / "bin" / "systemctl").chmod(0o755)
    file = tmp_path / ".config" / "systemd" / "user" / "reasoning-fix.service"

    def service(*words: str) -> tuple[int, str]:
        environ = {
            "HOME": str(tmp_path),
            "STATE": str(tmp_path),
            "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin",
            **measured(),
        }
        ended = subprocess.run(
            [sys.executable, "-m", "reasoning_fix", "service", *words],
            capture_output=True,
            text=True,
            env=environ,
        )
        return ended.returncode, ended.stdout + ended.stderr

    assert service("status")[0] == 4
    code, shown = service("install", "--dry-run")
    assert code == 0 and "Type=notify" in shown and "systemctl --user daemon-reload" in shown
    assert not file.exists()
    code, said = service("install", "--run=--listen-port 9090")
    assert code == 0 and "journalctl --user -u reasoning-fix.service" in said and "service remove" in said
    assert "run --listen-port 9090\n" in file.read_text()
    assert service("install")[0] == 0 and "run\n" in file.read_text()
    assert service("status")[0] == 0
    (tmp_path / "active").unlink()
    code, said = service("status")
    assert code == 3 and "installed but not running" in said
    code, said = service("status", "--json")
    assert code == 3 and msgspec.json.decode(said)["installed"] is True
    for _ in range(2):
        assert service("remove")[0] == 0
        assert not file.exists()
    assert service("status")[0] == 4
    assert service("install", "--run='")[0] == 2
    assert service("explode")[0] == 2


def test_without_a_user_manager_the_person_is_told() -> None:
    with pytest.raises(ServiceError, match=r"no bus.*reasoning-fix run"):
        Systemd(Path("/nowhere")).check(lambda argv: Done(1, "", "no bus"))


# --- macOS ----------------------------------------------------------------------------------------------


def test_the_launchd_agent(tmp_path: Path) -> None:
    manager = Launchd(Path("/Users/me"), 501)
    installing = manager.install(PROGRAM)
    file = written(installing)
    assert file.path == Path("/Users/me/Library/LaunchAgents/fix.reasoning.proxy.plist")
    assert plistlib.loads(file.content) == {
        "Label": "fix.reasoning.proxy",
        "ProgramArguments": [
            "/opt/reasoning fix/bin/python",
            "-m",
            "reasoning_fix.services.supervisor",
            "/Users/me/Library/Logs/reasoning-fix.log",
            "/opt/reasoning fix/bin/python",
            "-m",
            "reasoning_fix",
            "run",
            "--set",
            "reasoning_fallback=none",
        ],
        "RunAtLoad": True,
        "KeepAlive": True,
        "ThrottleInterval": 1,
        "ProcessType": "Interactive",
        "SoftResourceLimits": {"NumberOfFiles": 8192},
        "EnvironmentVariables": {"PYTHONUNBUFFERED": "1"},
        "Umask": 0o077,
    }
    assert commands(installing) == [
        "launchctl bootout gui/501/fix.reasoning.proxy",
        "launchctl enable gui/501/fix.reasoning.proxy",
        "launchctl bootstrap gui/501 /Users/me/Library/LaunchAgents/fix.reasoning.proxy.plist",
    ]
    assert commands(manager.remove()) == ["launchctl bootout gui/501/fix.reasoning.proxy"]
    assert Delete(file.path) in manager.remove()
    assert manager.logs == "/Users/me/Library/Logs/reasoning-fix.log"


def test_what_launchd_says(tmp_path: Path) -> None:
    manager = Launchd(tmp_path, 501)
    assert manager.state(lambda argv: Done(113, "", "Could not find service")) == State(
        False, False, "Could not find service"
    )
    perform([written(manager.install(PROGRAM))])
    said = "gui/501/fix.reasoning.proxy = {\n\tstate = running\n\tpid = 42\n\tlast exit code = 0\n}"
    assert manager.state(lambda argv: Done(0, said)) == State(
        True, True, "state = running, pid = 42, last exit code = 0"
    )
    assert not manager.state(lambda argv: Done(0, said.replace("running", "not running"))).running


# --- Windows --------------------------------------------------------------------------------------------

_NAMES = {"t": "http://schemas.microsoft.com/windows/2004/02/mit/task"}


def test_the_windows_task(tmp_path: Path) -> None:
    program = Program(Path("/py/python.exe"), ("--set", "a=<b> & c"))
    manager = TaskScheduler(tmp_path, Path("/logs/reasoning-fix.log"), "PC\\me")
    installing = manager.install(program)
    file = written(installing)
    assert file.path == tmp_path / "service.xml"
    assert file.content.decode("utf-16").splitlines()[0] == '<?xml version="1.0" encoding="UTF-16"?>'
    task = ElementTree.fromstring(file.content)

    def said(path: str) -> str | None:
        return task.findtext("/".join(f"t:{part}" for part in path.split("/")), namespaces=_NAMES)

    assert said("Triggers/LogonTrigger/UserId") == "PC\\me"
    assert said("Principals/Principal/RunLevel") == "LeastPrivilege"
    assert said("Principals/Principal/LogonType") == "InteractiveToken"
    assert said("Settings/ExecutionTimeLimit") == "PT0S"
    assert said("Settings/DisallowStartIfOnBatteries") == "false"
    assert said("Settings/StopIfGoingOnBatteries") == "false"
    assert said("Settings/MultipleInstancesPolicy") == "IgnoreNew"
    assert said("Settings/RestartOnFailure/Interval") == "PT1M"
    assert said("Actions/Exec/Command") == "/py/pythonw.exe"
    assert said("Actions/Exec/Arguments") == (
        "-m reasoning_fix.services.supervisor /logs/reasoning-fix.log "
        '/py/python.exe -m reasoning_fix run --set "a=<b> & c"'
    )
    assert commands(installing) == [
        "schtasks /End /TN reasoning-fix",
        f"schtasks /Create /TN reasoning-fix /XML {tmp_path / 'service.xml'} /F",
        "schtasks /Run /TN reasoning-fix",
    ]
    assert commands(manager.remove()) == [
        "schtasks /End /TN reasoning-fix",
        "schtasks /Delete /TN reasoning-fix /F",
    ]


@pytest.mark.parametrize(
    ("ended", "state"),
    [
        (Done(0, "Running\r\n"), State(True, True, "Running")),
        (Done(0, "Ready\r\n"), State(True, False, "Ready")),
        (Done(1, "", "not found"), State(False, False, "not found")),
    ],
)
def test_what_the_task_scheduler_says(tmp_path: Path, ended: Done, state: State) -> None:
    assert TaskScheduler(tmp_path, tmp_path / "log", "me").state(lambda argv: ended) == state


# --- doing steps ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "platform", [Systemd(Path("/u")), Launchd(Path("/u"), 1), TaskScheduler(Path("/u"), Path("/l"), "me")]
)
def test_removing_what_is_not_there_works(platform: Platform) -> None:
    for step in platform.remove():
        if isinstance(step, Command) and step.argv[-1] != "daemon-reload":
            assert step.may_fail


def test_a_step_that_fails_stops_the_rest(tmp_path: Path) -> None:
    done: list[Sequence[str]] = []

    def fail(argv: Sequence[str]) -> Done:
        done.append(argv)
        return Done(1, "", "it is raining")

    planned: list[Step] = [
        Write(tmp_path / "a" / "b", b"x"),
        Command(("first",), may_fail=True),
        Command(("second", "two words")),
        Command(("third",)),
    ]
    with pytest.raises(StepError, match="`second 'two words'` failed: it is raining"):
        perform(planned, fail)
    assert done == [("first",), ("second", "two words")]
    assert (tmp_path / "a" / "b").read_bytes() == b"x"
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o600
    assert "two words" in describe(planned) and "    x" in describe(planned)
    with pytest.raises(StepError, match="cannot be changed"):
        perform([Write(tmp_path / "a" / "b" / "c", b"")])


def test_a_package_that_only_this_folder_has_is_noticed(tmp_path: Path) -> None:
    assert importable_from_anywhere(Path(sys.executable))
    assert not importable_from_anywhere(tmp_path / "python")


# --- the supervisor -------------------------------------------------------------------------------------


def health_of(port: int) -> Health | None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "http://reasoning.fix/health")
        return msgspec.json.decode(connection.getresponse().read(), type=Health)
    except OSError:
        return None
    finally:
        connection.close()


def wait_for[T](ask: Callable[[], T | None]) -> T:
    end = time.monotonic() + PATIENCE
    while (found := ask()) is None:
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)
    return found


@pytest.fixture
def supervised(start_proxy: StartProxy) -> Proxy:
    return start_proxy(under=(sys.executable, "-m", "reasoning_fix.services.supervisor", "-"))


def killed(proxy: Proxy) -> Health:
    """The proxy's health after it was killed without warning and came back."""
    before = wait_for(lambda: health_of(proxy.port))
    os.kill(before.pid, signal.SIGKILL)

    def back() -> Health | None:
        now = health_of(proxy.port)
        return now if now is not None and now.pid != before.pid else None

    return wait_for(back)


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
def test_a_killed_proxy_comes_back_and_no_turn_is_lost(
    supervised: Proxy, provider: Simulator, streamed: bool
) -> None:
    script_three_turns(provider, DEEPSEEK)
    person = Person(client(supervised, DEEPSEEK.host, KEY), DEEPSEEK, "killed", streamed)
    for _ in range(2):
        person.ask()
        killed(supervised)
        person.api = client(supervised, DEEPSEEK.host, KEY)
    person.ask()
    person.says("Thanks!")
    provider.say(reasoning="Polite.", text="Welcome.")
    person.ask()
    assert [request.verdicts for request in provider.requests] == [[], *(["exact"] * n for n in (1, 2, 3))]
    assert "ended with exit code -9" in "".join(supervised.lines)


HANGING = """
import os, socket, sys, time
from pathlib import Path
starts = Path(sys.argv[1])
starts.write_text(starts.read_text() + "x" if starts.exists() else "x")
out = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
assert os.environ["WATCHDOG_USEC"] == "300000"
out.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
print("started", flush=True)
time.sleep(3600)
"""


def test_a_program_that_hangs_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reasoning_fix.services.supervisor._FIRST_DELAY", 0.01)
    script, starts = tmp_path / "hanging.py", tmp_path / "starts"
    script.write_text(HANGING)
    log = Log(tmp_path / "logs" / "log")
    supervisor = Supervisor(log, [sys.executable, str(script), str(starts)], silence=0.3)

    def enough() -> None:
        wait_for(lambda: True if starts.exists() and len(starts.read_text()) >= 2 else None)
        supervisor.stop()

    watcher = threading.Thread(target=enough)
    watcher.start()
    supervisor.run()
    watcher.join()
    text = (tmp_path / "logs" / "log").read_text()
    assert "started\n" in text and "was silent for 0 s and was ended" in text


def test_the_supervisor_takes_its_program_along(tmp_path: Path) -> None:
    script = tmp_path / "waiting.py"
    script.write_text("import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(3600)\n")
    command = [sys.executable, "-m", "reasoning_fix.services.supervisor", "-", sys.executable, str(script)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        child = int(running.stdout.readline())
        running.send_signal(signal.SIGTERM)
        assert running.wait(PATIENCE) == 0
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


def test_the_log_has_a_bound(tmp_path: Path) -> None:
    log = Log(tmp_path / "log", limit=1000)
    for number in range(100):
        log.write(f"line {number:03} {'.' * 30}\n".encode())
    now, before = (tmp_path / name for name in ("log", "log.1"))
    assert now.stat().st_size <= 1000 and before.stat().st_size <= 1000
    assert now.read_bytes().endswith(b"line 099 " + b"." * 30 + b"\n")
    assert len(list(tmp_path.iterdir())) == 2
