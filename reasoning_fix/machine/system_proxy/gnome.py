"""GNOME and the desktops that read its settings (Cinnamon, MATE, Budgie, Pantheon), by gsettings.

Schema: https://gitlab.gnome.org/GNOME/gsettings-desktop-schemas, org.gnome.system.proxy. Values are GVariant
text, kept as gsettings prints it.
"""

import ast

from reasoning_fix.machine.plan import Command, Run
from reasoning_fix.machine.system_proxy import DesktopError, Settings, with_loopback

_ROOT = "org.gnome.system.proxy"
_LOOPBACK = ("localhost", "127.0.0.0/8", "::1")
_MODE = f"{_ROOT} mode"
_KEYS = (
    f"{_ROOT}.http host",
    f"{_ROOT}.http port",
    f"{_ROOT}.http use-authentication",
    f"{_ROOT}.https host",
    f"{_ROOT}.https port",
    f"{_ROOT}.socks host",
    f"{_ROOT} ignore-hosts",
    _MODE,
)


class Gnome:
    name = "gnome"

    def read(self, run: Run) -> Settings:
        found: Settings = {}
        for key in _KEYS:
            ended = run(("gsettings", "get", *key.split()))
            if ended.code:
                raise DesktopError(f"gsettings does not tell {key}: {ended.complaint}")
            found[key] = ended.text.strip()
        return found

    def pointing(self, before: Settings, host: str, port: int) -> Settings:
        bypass = with_loopback(_strings(before[f"{_ROOT} ignore-hosts"] or "[]"), _LOOPBACK)
        return {
            f"{_ROOT}.http host": f"'{host}'",
            f"{_ROOT}.http port": str(port),
            f"{_ROOT}.http use-authentication": "false",
            f"{_ROOT}.https host": f"'{host}'",
            f"{_ROOT}.https port": str(port),
            # Mode manual would bring an old SOCKS host back to life.
            f"{_ROOT}.socks host": "''",
            f"{_ROOT} ignore-hosts": str(bypass),
            _MODE: "'manual'",
        }

    def neutral(self, current: Settings) -> Settings:
        return {_MODE: "'none'"}

    def proxies(self, current: Settings) -> list[str]:
        if current[_MODE] == "'auto'":
            return ["an automatic configuration (PAC)"]
        if current[_MODE] != "'manual'":
            return []
        found = [
            (current[f"{_ROOT}.{kind} host"], current[f"{_ROOT}.{kind} port"]) for kind in ("https", "http")
        ]
        return list(dict.fromkeys(f"{_string(host)}:{port}" for host, port in found if _string(host)))

    def write(self, changes: Settings) -> list[Command]:
        return [
            Command(("gsettings", "set", *key.split(), value))
            for key, value in changes.items()
            if value is not None
        ]


def _string(text: str | None) -> str:
    return (text or "").strip("'\"")


def _strings(text: str) -> list[str]:
    """`['a', 'b']`, or `@as []` for an empty one."""
    try:
        return [str(entry) for entry in ast.literal_eval(text.removeprefix("@as "))]
    except (ValueError, SyntaxError):
        return []
