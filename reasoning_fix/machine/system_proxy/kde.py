"""KDE Plasma: the file kioslaverc, group "Proxy Settings", by kreadconfig and kwriteconfig.

Keys: https://invent.kde.org/frameworks/kio (kprotocolmanager). ProxyType 0 is none, 1 manual, 2 PAC by URL,
3 PAC found by itself, 4 environment variables.
"""

from reasoning_fix.machine.plan import Command, Run
from reasoning_fix.machine.system_proxy import DesktopError, Settings, with_loopback

_FILE = ("--file", "kioslaverc", "--group", "Proxy Settings")
_UNSET = "<unset>"
_TYPE = "ProxyType"
_KEYS = ("httpProxy", "httpsProxy", "socksProxy", "NoProxyFor", "ReversedException", _TYPE)
_OTHER = {
    "2": "an automatic configuration (PAC)",
    "3": "an automatic configuration (PAC)",
    "4": "environment variables",
}


class Kde:
    name = "kde"

    def __init__(self, version: str) -> None:
        self._read = f"kreadconfig{version}"
        self._write = f"kwriteconfig{version}"

    def read(self, run: Run) -> Settings:
        found: Settings = {}
        for key in _KEYS:
            ended = run((self._read, *_FILE, "--key", key, "--default", _UNSET))
            if ended.code:
                raise DesktopError(f"{self._read} does not tell {key}: {ended.complaint}")
            value = ended.text.rstrip("\n")
            found[key] = None if value == _UNSET else value
        return found

    def pointing(self, before: Settings, host: str, port: int) -> Settings:
        bypass = [entry.strip() for entry in (before["NoProxyFor"] or "").split(",") if entry.strip()]
        if before["ReversedException"] == "true":
            # The list then names the only hosts that are sent to the proxy: the opposite of a bypass list.
            bypass = []
        return {
            "httpProxy": f"http://{host} {port}",
            "httpsProxy": f"http://{host} {port}",
            "socksProxy": "",
            "NoProxyFor": ",".join(with_loopback(bypass)),
            "ReversedException": "false",
            _TYPE: "1",
        }

    def neutral(self, current: Settings) -> Settings:
        return {_TYPE: "0"}

    def proxies(self, current: Settings) -> list[str]:
        kind = current[_TYPE] or "0"
        if kind != "1":
            return [_OTHER[kind]] if kind in _OTHER else []
        # `http://host port`, or `http://host:port` from older versions.
        found = [(current[key] or "").partition("://")[2] for key in ("httpsProxy", "httpProxy")]
        return list(dict.fromkeys(entry.strip("/ ").replace(" ", ":") for entry in found if entry))

    def write(self, changes: Settings) -> list[Command]:
        if not changes:
            return []
        commands = []
        for key, value in changes.items():
            end = ("--delete",) if value is None else (value,)
            commands.append(Command((self._write, *_FILE, "--key", key, *end)))
        # Running programs read the file again.
        signal = ("/KIO/Scheduler", "org.kde.KIO.Scheduler.reparseSlaveConfiguration", "string:")
        return [*commands, Command(("dbus-send", "--type=signal", *signal), may_fail=True)]
