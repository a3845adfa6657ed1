"""A desktop's proxy, switched on and off: fake GNOME and KDE, and macOS and Windows word for word."""

import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest

from reasoning_fix.machine import plan, system_proxy
from reasoning_fix.machine.plan import Done, perform, shown
from reasoning_fix.machine.system_proxy import Desktop, DesktopError, Saved, this_desktop
from reasoning_fix.machine.system_proxy.gnome import Gnome
from reasoning_fix.machine.system_proxy.kde import Kde
from reasoning_fix.machine.system_proxy.macos import MacOS
from reasoning_fix.machine.system_proxy.windows import Windows
from tests import ROOT
from tests.console import measured
from tests.mitmdump import Proxy

# --- Linux: the real command, with programs that keep the settings in files -----------------------------

# Ends the command that called it without warning at the write that CRASH_AT counts down to.
CRASH = """
if [ -n "$CRASH_AT" ]; then
    echo x >>"$SETTINGS/.writes"
    if [ "$(wc -l <"$SETTINGS/.writes")" -eq "$CRASH_AT" ]; then kill -9 "$PPID"; exit 1; fi
fi
"""
GSETTINGS = f"""#!/bin/sh
case "$1" in
    get) cat "$SETTINGS/$2 $3" ;;
    set) {CRASH}
        printf '%s\\n' "$4" >"$SETTINGS/$2 $3" ;;
esac
"""
KREADCONFIG = """#!/bin/sh
if [ -f "$SETTINGS/$6" ]; then cat "$SETTINGS/$6"; else printf '%s\\n' "$8"; fi
"""
KWRITECONFIG = f"""#!/bin/sh
{CRASH}
if [ "$7" = --delete ]; then rm -f "$SETTINGS/$6"; else printf '%s\\n' "$7" >"$SETTINGS/$6"; fi
"""
PROGRAMS = {
    "gsettings": GSETTINGS,
    "kreadconfig6": KREADCONFIG,
    "kwriteconfig6": KWRITECONFIG,
    "dbus-send": "#!/bin/sh\n",
}
GNOME = {
    "org.gnome.system.proxy.http host": "'old.example'",
    "org.gnome.system.proxy.http port": "3128",
    "org.gnome.system.proxy.http use-authentication": "true",
    "org.gnome.system.proxy.https host": "''",
    "org.gnome.system.proxy.https port": "0",
    "org.gnome.system.proxy.socks host": "'socks.example'",
    "org.gnome.system.proxy ignore-hosts": "['*.corp.example', 'localhost']",
    "org.gnome.system.proxy mode": "'none'",
}
GNOME_ON = {
    "org.gnome.system.proxy.http host": "'127.0.0.1'",
    "org.gnome.system.proxy.http port": "8080",
    "org.gnome.system.proxy.http use-authentication": "false",
    "org.gnome.system.proxy.https host": "'127.0.0.1'",
    "org.gnome.system.proxy.https port": "8080",
    "org.gnome.system.proxy.socks host": "''",
    "org.gnome.system.proxy ignore-hosts": "['*.corp.example', 'localhost', '127.0.0.0/8', '::1']",
    "org.gnome.system.proxy mode": "'manual'",
}
KDE = {"ProxyType": "2", "NoProxyFor": "*.corp.example", "httpProxy": "http://old.example 3128"}
KDE_ON = {
    "httpProxy": "http://127.0.0.1 8080",
    "httpsProxy": "http://127.0.0.1 8080",
    "socksProxy": "",
    "NoProxyFor": "*.corp.example,localhost,127.0.0.1,::1",
    "ReversedException": "false",
    "ProxyType": "1",
}


class Session:
    """A desktop session of its own: HOME, settings, and the programs that change them."""

    def __init__(self, home: Path, desktop: str) -> None:
        self.home = home
        self.desktop = desktop
        self.folder = home / "settings"
        self.state = home / "state" / "reasoning-fix" / "system-proxy.json"
        self.folder.mkdir()
        (home / "bin").mkdir()
        for name, text in PROGRAMS.items():
            program = home / "bin" / name
            program.write_text(text)
            program.chmod(0o755)
        for name, value in (GNOME if desktop == "GNOME" else KDE).items():
            (self.folder / name).write_text(value + "\n")

    @property
    def settings(self) -> dict[str, str]:
        return {
            file.name: file.read_text().rstrip("\n")
            for file in self.folder.iterdir()
            if not file.name.startswith(".")
        }

    def __call__(self, *words: str, **more: str) -> tuple[int, str]:
        environ = {
            "HOME": str(self.home),
            "XDG_STATE_HOME": str(self.home / "state"),
            "XDG_CURRENT_DESKTOP": self.desktop,
            "PATH": f"{self.home / 'bin'}:/usr/bin:/bin",
            "SETTINGS": str(self.folder),
            **measured(),
            **more,
        }
        command = [sys.executable, "-m", "reasoning_fix", "system-proxy", *words]
        ended = subprocess.run(command, capture_output=True, text=True, env=environ)
        return ended.returncode, ended.stdout + ended.stderr


@pytest.fixture(params=["GNOME", "KDE"])
def session(request: pytest.FixtureRequest, tmp_path: Path) -> Session:
    return Session(tmp_path, request.param)


@pytest.fixture
def gnome(tmp_path: Path) -> Session:
    return Session(tmp_path, "GNOME")


def test_on_and_off_leave_everything_as_it_was(session: Session) -> None:
    before = session.settings
    assert session("status")[0] == 3
    assert session("on", "--force")[0] == 0
    assert session.settings == (GNOME_ON if session.desktop == "GNOME" else KDE_ON)
    assert stat.S_IMODE(session.state.stat().st_mode) == 0o600
    assert session("status")[0] == 0
    code, said = session("off")
    assert code == 0 and "Off" in said
    assert session.settings == before
    assert not session.state.exists()
    assert session("status")[0] == 3


def test_twice_is_as_good_as_once(session: Session) -> None:
    before = session.settings
    for _ in range(2):
        assert session("on", "--force")[0] == 0
    for _ in range(2):
        assert session("off")[0] == 0
        assert session.settings == before


@pytest.mark.parametrize("at", [1, 2, 4])
def test_off_works_after_a_crash_at_any_write(session: Session, at: int) -> None:
    before = session.settings
    assert session("on", "--force", CRASH_AT=str(at))[0] == -9
    assert session.state.exists()
    assert session("off")[0] == 0
    assert session.settings == before


def test_on_after_a_crash_remembers_what_was_there_first(session: Session) -> None:
    before = session.settings
    session("on", "--force", CRASH_AT="3")
    assert session("on", "--force")[0] == 0
    assert session("off", CRASH_AT="99")[0] == 0
    assert session.settings == before


def test_off_works_after_a_crash_of_off(gnome: Session) -> None:
    before = gnome.settings
    gnome("on", "--force")
    assert gnome("off", CRASH_AT="3")[0] == -9
    assert gnome.settings["org.gnome.system.proxy mode"] == "'none'"
    assert gnome("off")[0] == 0
    assert gnome.settings == before


def test_nothing_is_changed_before_it_is_remembered(session: Session) -> None:
    before = session.settings
    (session.home / "state").write_text("in the way")
    code, said = session("on", "--force")
    assert code == 1 and "system-proxy.json cannot be changed" in said
    assert session.settings == before


def test_off_works_without_the_state_file(session: Session) -> None:
    session("on", "--force")
    session.state.unlink()
    assert session("status")[0] == 0
    assert session("off")[0] == 0
    switch = session.settings.get("org.gnome.system.proxy mode") or session.settings.get("ProxyType")
    assert switch in ("'none'", "0")
    assert session("status")[0] == 3


def test_off_works_with_a_state_file_that_cannot_be_read(session: Session) -> None:
    session("on", "--force")
    session.state.write_text("{")
    assert session("off")[0] == 0
    assert session("status")[0] == 3
    assert not session.state.exists()


def test_off_leaves_what_the_person_changed_meanwhile(gnome: Session) -> None:
    gnome("on", "--force")
    (gnome.folder / "org.gnome.system.proxy ignore-hosts").write_text("['mine.example']\n")
    assert gnome("off")[0] == 0
    assert gnome.settings == GNOME | {"org.gnome.system.proxy ignore-hosts": "['mine.example']"}


def test_off_does_not_touch_another_proxy(gnome: Session) -> None:
    (gnome.folder / "org.gnome.system.proxy mode").write_text("'manual'\n")
    before = gnome.settings
    assert gnome("off")[0] == 0
    assert gnome.settings == before


def test_the_proxy_that_was_set_before_is_named(gnome: Session) -> None:
    (gnome.folder / "org.gnome.system.proxy mode").write_text("'manual'\n")
    code, said = gnome("on", "--force")
    assert code == 0 and "old.example:3128" in said and "--mode upstream:" in said
    code, said = gnome("off")
    assert code == 0 and "old.example:3128" in said


def test_dry_run_changes_nothing(session: Session) -> None:
    before = session.settings
    code, said = session("on", "--dry-run")
    assert code == 0 and "run     " in said and "write   " in said
    assert session.settings == before and not session.state.exists()
    session("on", "--force")
    during = session.settings
    code, said = session("off", "--dry-run")
    assert code == 0 and "run     " in said
    assert session.settings == during and session.state.exists()


def test_on_refuses_where_no_proxy_answers(gnome: Session, proxy: Proxy) -> None:
    before = gnome.settings
    code, said = gnome("on", "--port", "1")
    assert code == 1 and "nothing listens there" in said and gnome.settings == before
    assert gnome("on", "--port", str(proxy.port))[0] == 0
    assert gnome.settings["org.gnome.system.proxy.https port"] == str(proxy.port)
    code, said = gnome("status", "--json")
    assert code == 0 and msgspec.json.decode(said)["proxies"] == [f"127.0.0.1:{proxy.port}"]
    # Also from another default port: what was set is remembered.
    assert gnome("off")[0] == 0 and gnome.settings == before


def test_a_reversed_list_of_kde_is_no_bypass_list(tmp_path: Path) -> None:
    session = Session(tmp_path, "KDE")
    (session.folder / "ReversedException").write_text("true\n")
    before = session.settings
    session("on", "--force")
    assert session.settings["NoProxyFor"] == "localhost,127.0.0.1,::1"
    session("off")
    assert session.settings == before


def test_the_script_does_the_same(gnome: Session) -> None:
    script = ROOT / "scripts" / "system-proxy"
    environ = {
        "HOME": str(gnome.home),
        "PATH": f"{gnome.home / 'bin'}:{os.environ['PATH']}",
        "SETTINGS": str(gnome.folder),
    }
    ended = subprocess.run([script, "status"], capture_output=True, text=True, env=environ, cwd=gnome.home)
    assert (ended.returncode, ended.stderr) == (3, "") and "off" in ended.stdout


# --- which desktop --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("platform", "desktop", "programs", "named", "kind"),
    [
        ("darwin", "", [], None, MacOS),
        ("win32", "", [], None, Windows),
        ("linux", "GNOME", ["gsettings"], None, Gnome),
        ("linux", "ubuntu:GNOME", ["gsettings", "kwriteconfig5"], None, Gnome),
        ("linux", "KDE", ["gsettings", "kwriteconfig5"], None, Kde),
        ("linux", "KDE", ["gsettings"], None, Gnome),
        ("linux", "GNOME", ["gsettings", "kwriteconfig6"], "kde", Kde),
        ("linux", "KDE", ["gsettings", "kwriteconfig6"], "gnome", Gnome),
        ("linux", "sway", [], None, DesktopError),
        ("linux", "KDE", ["gsettings"], "kde", DesktopError),
    ],
)
def test_the_desktop_is_found(
    platform: str, desktop: str, programs: list[str], named: str | None, kind: type
) -> None:
    def find() -> Desktop:
        environ = {"XDG_CURRENT_DESKTOP": desktop}
        return this_desktop(platform, environ, lambda name: name if name in programs else None, named)

    if kind is DesktopError:
        with pytest.raises(DesktopError, match="reasoning-fix env"):
            find()
    else:
        assert isinstance(find(), kind)


# --- macOS and Windows: what is asked and what is run ---------------------------------------------------


def on_and_off(
    desktop: Desktop, run: Callable[[Sequence[str]], Done]
) -> tuple[list[str], list[str], list[str]]:
    """The commands of `on` and of `off`, done by `run`, and where programs go in between."""
    saved = system_proxy.plan_on(desktop, desktop.read(run), None, "127.0.0.1", 8080)
    switching_on = desktop.write(system_proxy.changes_for(desktop.read(run), saved.ours))
    perform(switching_on, run)
    between = desktop.proxies(desktop.read(run))
    saved = msgspec.json.decode(msgspec.json.encode(saved), type=Saved)
    switching_off = desktop.write(system_proxy.plan_off(desktop, desktop.read(run), saved, "127.0.0.1:8080"))
    perform(switching_off, run)
    return [shown(step.argv) for step in switching_on], [shown(step.argv) for step in switching_off], between


class Mac:
    """networksetup with two services; `web` and `secure` are (on, server, port)."""

    def __init__(self) -> None:
        self.web = {"Wi-Fi": (False, "", "0"), "USB LAN": (True, "old.example", "3128")}
        self.secure = {"Wi-Fi": (False, "", "0"), "USB LAN": (False, "old.example", "3128")}
        self.pac = {"Wi-Fi": True, "USB LAN": False}
        self.discovery = {"Wi-Fi": False, "USB LAN": False}
        self.bypass: dict[str, list[str]] = {"Wi-Fi": [], "USB LAN": ["*.corp.example", "localhost"]}

    def __call__(self, argv: Sequence[str]) -> Done:
        assert argv[0] == "networksetup"
        verb, given = argv[1], list(argv[2:])
        if verb == "-listallnetworkservices":
            lines = ["An asterisk (*) denotes that a network service is disabled.", "Wi-Fi", "USB LAN"]
            return Done(0, "\n".join([*lines, "*Thunderbolt Bridge"]) + "\n")
        service, values = given[0], given[1:]
        assert service in self.web, "a service that is switched off, or none"
        if verb in ("-getwebproxy", "-getsecurewebproxy"):
            on, server, port = (self.web if verb == "-getwebproxy" else self.secure)[service]
            state = "Yes" if on else "No"
            told = f"Enabled: {state}\nServer: {server}\nPort: {port}\nAuthenticated Proxy Enabled: 0\n"
            return Done(0, told)
        if verb == "-getautoproxyurl":
            return Done(0, f"URL: (null)\nEnabled: {'Yes' if self.pac[service] else 'No'}\n")
        if verb == "-getproxyautodiscovery":
            return Done(0, f"Auto Proxy Discovery: {'On' if self.discovery[service] else 'Off'}\n")
        if verb == "-getproxybypassdomains":
            none = f"There aren't any bypass domains set on {service}."
            return Done(0, "\n".join(self.bypass[service] or [none]) + "\n")
        if verb in ("-setwebproxy", "-setsecurewebproxy"):
            (self.web if verb == "-setwebproxy" else self.secure)[service] = (True, values[0], values[1])
        elif verb in ("-setwebproxystate", "-setsecurewebproxystate"):
            table = self.web if verb == "-setwebproxystate" else self.secure
            table[service] = (values[0] == "on", *table[service][1:])
        elif verb == "-setautoproxystate":
            self.pac[service] = values[0] == "on"
        elif verb == "-setproxybypassdomains":
            self.bypass[service] = [] if values == ["Empty"] else values
        else:
            return Done(1, "", f"unknown: {verb}")
        return Done(0)


def test_macos() -> None:
    mac = Mac()
    switching_on, switching_off, between = on_and_off(MacOS(), mac)
    assert switching_on == [
        "networksetup -setproxybypassdomains Wi-Fi localhost 127.0.0.1 ::1",
        "networksetup -setproxybypassdomains 'USB LAN' '*.corp.example' localhost 127.0.0.1 ::1",
        "networksetup -setwebproxy Wi-Fi 127.0.0.1 8080",
        "networksetup -setsecurewebproxy Wi-Fi 127.0.0.1 8080",
        "networksetup -setautoproxystate Wi-Fi off",
        "networksetup -setwebproxy 'USB LAN' 127.0.0.1 8080",
        "networksetup -setsecurewebproxy 'USB LAN' 127.0.0.1 8080",
    ]
    assert between == ["127.0.0.1:8080"]
    assert switching_off == [
        "networksetup -setsecurewebproxy 'USB LAN' old.example 3128",
        "networksetup -setsecurewebproxystate 'USB LAN' off",
        "networksetup -setwebproxy 'USB LAN' old.example 3128",
        "networksetup -setautoproxystate Wi-Fi on",
        "networksetup -setsecurewebproxystate Wi-Fi off",
        "networksetup -setwebproxystate Wi-Fi off",
        "networksetup -setproxybypassdomains 'USB LAN' '*.corp.example' localhost",
        "networksetup -setproxybypassdomains Wi-Fi Empty",
    ]
    fresh = Mac()
    assert (mac.pac, mac.bypass) == (fresh.pac, fresh.bypass)
    assert mac.web == {"Wi-Fi": (False, "127.0.0.1", "8080"), "USB LAN": (True, "old.example", "3128")}
    assert mac.secure["USB LAN"] == (False, "old.example", "3128")


def test_macos_with_the_state_lost() -> None:
    mac = Mac()
    mac.web["Wi-Fi"] = mac.secure["Wi-Fi"] = (True, "127.0.0.1", "8080")
    desktop = MacOS()
    perform(desktop.write(system_proxy.plan_off(desktop, desktop.read(mac), None, "127.0.0.1:8080")), mac)
    assert "127.0.0.1:8080" not in desktop.proxies(desktop.read(mac))


def test_macos_with_a_service_that_is_gone() -> None:
    mac = Mac()
    desktop = MacOS()
    saved = system_proxy.plan_on(desktop, desktop.read(mac), None, "127.0.0.1", 8080)
    perform(desktop.write(system_proxy.changes_for(desktop.read(mac), saved.ours)), mac)
    current = {name: value for name, value in desktop.read(mac).items() if "USB" not in name}
    assert not [name for name in system_proxy.plan_off(desktop, current, saved, "") if "USB" in name]


class Pc:
    """reg and netsh on a machine whose person is, or is not, an administrator."""

    key = r"HKCU\Software\Microsoft\Windows\CurrentVersion\Internet Settings"

    def __init__(self, administrator: bool) -> None:
        self.administrator = administrator
        self.registry = {
            "ProxyEnable": "0",
            "ProxyOverride": "*.corp.example;<local>",
            "AutoConfigURL": "http://pac.example/x",
        }
        self.winhttp: str | None = None

    def __call__(self, argv: Sequence[str]) -> Done:
        if argv[0] == sys.executable:
            assert "InternetSetOptionW" in argv[2]
            return Done(0)
        if argv[:2] == ("reg", "query"):
            assert argv[2] == self.key
            value = self.registry.get(argv[4])
            if value is None:
                return Done(
                    1, "", "ERROR: The system was unable to find the specified registry key or value."
                )
            kind, value = ("REG_DWORD", hex(int(value))) if argv[4] == "ProxyEnable" else ("REG_SZ", value)
            return Done(0, f"\r\n{self.key}\r\n    {argv[4]}    {kind}    {value}\r\n\r\n")
        if argv[:2] == ("reg", "add"):
            self.registry[argv[4]] = argv[8]
        elif argv[:2] == ("reg", "delete"):
            if self.registry.pop(argv[4], None) is None:
                return Done(1)
        elif argv[:3] == ("netsh", "winhttp", "dump"):
            line = "reset proxy" if self.winhttp is None else f"set proxy {self.winhttp}"
            return Done(0, f"pushd winhttp\r\n\r\n{line}\r\n\r\npopd\r\n")
        elif not self.administrator:
            return Done(1, "The requested operation requires elevation.")
        elif argv[:4] == ("netsh", "winhttp", "set", "proxy"):
            self.winhttp = " ".join(re.sub("=(.*)", r'="\1"', word) for word in argv[4:])
        elif argv[:4] == ("netsh", "winhttp", "reset", "proxy"):
            self.winhttp = None
        else:
            raise AssertionError(argv)
        return Done(0)


@pytest.mark.parametrize("administrator", [True, False])
def test_windows(administrator: bool) -> None:
    pc = Pc(administrator)
    bypass = "*.corp.example;<local>;localhost;127.*;[::1]"
    key = f"'{pc.key}'"
    refresh = shown((sys.executable, "-c", _refresh()))
    switching_on, switching_off, between = on_and_off(Windows(), pc)
    assert switching_on == [
        f"netsh winhttp set proxy proxy-server=127.0.0.1:8080 'bypass-list={bypass}'",
        f"reg add {key} /v ProxyServer /t REG_SZ /d 127.0.0.1:8080 /f",
        f"reg add {key} /v ProxyOverride /t REG_SZ /d '{bypass}' /f",
        f"reg delete {key} /v AutoConfigURL /f",
        f"reg add {key} /v ProxyEnable /t REG_DWORD /d 1 /f",
        refresh,
    ]
    assert between == ["127.0.0.1:8080"]
    assert switching_off == [
        f"reg add {key} /v ProxyEnable /t REG_DWORD /d 0 /f",
        f"reg add {key} /v AutoConfigURL /t REG_SZ /d http://pac.example/x /f",
        f"reg add {key} /v ProxyOverride /t REG_SZ /d '*.corp.example;<local>' /f",
        f"reg delete {key} /v ProxyServer /f",
        *(["netsh winhttp reset proxy"] if administrator else []),
        refresh,
    ]
    assert (pc.registry, pc.winhttp) == (Pc(administrator).registry, None)


def test_windows_restores_the_proxy_of_winhttp() -> None:
    pc = Pc(True)
    pc.winhttp = before = 'proxy-server="http=old.example:80;https=old.example:80" bypass-list="*.a;<local>"'
    on_and_off(Windows(), pc)
    assert pc.winhttp == before


@pytest.mark.parametrize(
    ("server", "proxies"),
    [
        ("127.0.0.1:8080", ["127.0.0.1:8080"]),
        ("http=a.example:1;https=127.0.0.1:8080", ["a.example:1", "127.0.0.1:8080"]),
        ("http://127.0.0.1:8080", ["127.0.0.1:8080"]),
    ],
)
def test_windows_proxy_servers(server: str, proxies: list[str]) -> None:
    pc = Pc(False)
    pc.registry = {"ProxyEnable": "1", "ProxyServer": server}
    assert Windows().proxies(Windows().read(pc)) == proxies


def _refresh() -> str:
    (*_, last) = Windows().write({"ProxyEnable": "0"})
    assert isinstance(last, plan.Command) and last.may_fail
    return last.argv[2]
