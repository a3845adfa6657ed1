"""Windows: the user's Internet Settings (WinINET: browsers, Electron, .NET) and WinHTTP (services).

https://learn.microsoft.com/windows/win32/wininet/setting-and-retrieving-internet-options and
https://learn.microsoft.com/windows-server/administration/windows-commands/netsh-winhttp. WinHTTP is the
machine's and needs an administrator; without one it stays as it is.
"""

import re
import sys

from reasoning_fix.machine.plan import Command, Run
from reasoning_fix.machine.system_proxy import Settings, with_loopback

_KEY = r"HKCU\Software\Microsoft\Windows\CurrentVersion\Internet Settings"
_TYPES = {
    "ProxyServer": "REG_SZ",
    "ProxyOverride": "REG_SZ",
    "AutoConfigURL": "REG_SZ",
    "ProxyEnable": "REG_DWORD",
}
_WINHTTP = "WinHTTP"
_LOOPBACK = ("localhost", "127.*", "[::1]", "<local>")
_REFRESH = "import ctypes; [ctypes.windll.wininet.InternetSetOptionW(0, option, 0, 0) for option in (39, 37)]"


class Windows:
    name = "windows"

    def read(self, run: Run) -> Settings:
        found: Settings = {}
        for name, kind in _TYPES.items():
            ended = run(("reg", "query", _KEY, "/v", name))
            match = re.search(rf"^\s*{name}\s+{kind}\s*(.*?)\s*$", ended.text, re.MULTILINE)
            value = match[1] if match and not ended.code else None
            found[name] = str(int(value, 0)) if value and kind == "REG_DWORD" else value
        # The dump is a script; what `show proxy` prints is translated.
        dumped = run(("netsh", "winhttp", "dump"))
        match = re.search(r"^\s*set proxy (.*?)\s*$", dumped.text, re.MULTILINE)
        found[_WINHTTP] = match[1] if match else None
        return found

    def pointing(self, before: Settings, host: str, port: int) -> Settings:
        bypass = [entry for entry in re.split(r"[;\s]+", before["ProxyOverride"] or "") if entry]
        listed = ";".join(with_loopback(bypass, _LOOPBACK))
        return {
            _WINHTTP: f'proxy-server="{host}:{port}" bypass-list="{listed}"',
            "ProxyServer": f"{host}:{port}",
            "ProxyOverride": listed,
            "AutoConfigURL": None,
            "ProxyEnable": "1",
        }

    def neutral(self, current: Settings) -> Settings:
        return {"ProxyEnable": "0", _WINHTTP: None}

    def proxies(self, current: Settings) -> list[str]:
        found = []
        if current["AutoConfigURL"]:
            found.append("an automatic configuration (PAC)")
        if current["ProxyEnable"] == "1":
            # `host:port`, or `http=host:port;https=host:port`.
            entries = [entry.rpartition("=")[2] for entry in (current["ProxyServer"] or "").split(";")]
            found += [entry.rpartition("//")[2] for entry in entries if entry]
        if match := re.search(r'proxy-server="([^"]*)"', current[_WINHTTP] or ""):
            found += [entry.rpartition("=")[2] for entry in match[1].split(";") if entry]
        return list(dict.fromkeys(found))

    def write(self, changes: Settings) -> list[Command]:
        commands = [_command(name, value) for name, value in changes.items()]
        # Running programs read the settings again.
        return [*commands, Command((sys.executable, "-c", _REFRESH), may_fail=True)] if commands else []


def _command(name: str, value: str | None) -> Command:
    if name == _WINHTTP:
        if value is None:
            return Command(("netsh", "winhttp", "reset", "proxy"), may_fail=True)
        words = [f"{word}={text}" for word, text in re.findall(r'([\w-]+)="([^"]*)"', value)]
        return Command(("netsh", "winhttp", "set", "proxy", *words), may_fail=True)
    if value is None:
        return Command(("reg", "delete", _KEY, "/v", name, "/f"), may_fail=True)
    return Command(("reg", "add", _KEY, "/v", name, "/t", _TYPES[name], "/d", value, "/f"))
