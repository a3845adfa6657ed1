"""macOS: the proxies of every network service that is switched on, by networksetup (`man networksetup`).

Names are `kind<TAB>service`. A password of an earlier proxy is in the keychain and cannot be carried over.
"""

import re

from reasoning_fix.machine.plan import Command, Run
from reasoning_fix.machine.system_proxy import DesktopError, Settings, with_loopback

_WEB = {"web": "webproxy", "secure": "securewebproxy"}
_SWITCHES = {"discovery": "proxyautodiscovery", "pac": "autoproxy"}
_LOOPBACK = ("localhost", "127.0.0.1", "::1", "*.local", "169.254/16")


class MacOS:
    name = "macos"

    def read(self, run: Run) -> Settings:
        found: Settings = {}
        listed = _ask(run, "-listallnetworkservices").splitlines()
        # The first line explains the asterisk of services that are switched off.
        for service in (line for line in listed[1:] if line and not line.startswith("*")):
            for kind, word in _WEB.items():
                said = _fields(_ask(run, f"-get{word}", service))
                state = "on" if said.get("Enabled") == "Yes" else "off"
                found[f"{kind}\t{service}"] = f"{state} {said.get('Server', '')} {said.get('Port', '0')}"
            said = _fields(_ask(run, "-getautoproxyurl", service))
            found[f"pac\t{service}"] = "on" if said.get("Enabled") == "Yes" else "off"
            said = _fields(_ask(run, "-getproxyautodiscovery", service))
            found[f"discovery\t{service}"] = "on" if said.get("Auto Proxy Discovery") == "On" else "off"
            bypass = _ask(run, "-getproxybypassdomains", service)
            found[f"bypass\t{service}"] = "" if "any bypass domains" in bypass else bypass.strip()
        return found

    def pointing(self, before: Settings, host: str, port: int) -> Settings:
        wanted: Settings = {}
        for name in before:
            if name.startswith("bypass\t"):
                listed = with_loopback((before[name] or "").splitlines(), _LOOPBACK[:3])
                wanted[name] = "\n".join(listed)
        for name in before:
            kind = name.partition("\t")[0]
            if kind in _SWITCHES:
                wanted[name] = "off"
            elif kind in _WEB:
                wanted[name] = f"on {host} {port}"
        return wanted

    def neutral(self, current: Settings) -> Settings:
        return {
            name: (value or "").replace("on ", "off ", 1)
            for name, value in current.items()
            if name.partition("\t")[0] in _WEB
        }

    def proxies(self, current: Settings) -> list[str]:
        found = []
        for name, value in current.items():
            kind = name.partition("\t")[0]
            if kind in _WEB and (match := re.fullmatch(r"on (\S+) (\d+)", value or "")):
                found.append(f"{match[1]}:{match[2]}")
            elif kind in _SWITCHES and value == "on":
                found.append("an automatic configuration (PAC)")
        return list(dict.fromkeys(found))

    def write(self, changes: Settings) -> list[Command]:
        return [command for name, value in changes.items() for command in _commands(name, value or "")]


def _commands(name: str, value: str) -> list[Command]:
    kind, _, service = name.partition("\t")
    if kind == "bypass":
        return [_set("proxybypassdomains", service, *(value.splitlines() or ["Empty"]))]
    if kind in _SWITCHES:
        word = "autoproxystate" if kind == "pac" else "proxyautodiscovery"
        return [_set(word, service, value)]
    state, server, port = value.split(" ")
    commands = []
    if server:
        # This switches it on as well.
        commands.append(_set(_WEB[kind], service, server, port))
    if state == "off":
        commands.append(_set(f"{_WEB[kind]}state", service, "off"))
    return commands


def _set(word: str, service: str, *values: str) -> Command:
    return Command(("networksetup", f"-set{word}", service, *values))


def _ask(run: Run, *words: str) -> str:
    ended = run(("networksetup", *words))
    if ended.code:
        raise DesktopError(f"networksetup {' '.join(words)} failed: {ended.complaint}")
    return ended.text


def _fields(text: str) -> dict[str, str]:
    pairs = (line.partition(": ") for line in text.splitlines() if ":" in line)
    return {name.strip().rstrip(":"): value.strip() for name, _, value in pairs}
