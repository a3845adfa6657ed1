"""What the proxy says once it listens: the next steps, and a warning when strangers can reach it."""

import ipaddress
import logging
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
from mitmproxy import ctx
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.proxy.mode_specs import ReverseMode

from reasoning_fix.machine import folders
from reasoning_fix.machine.trust.authority import Authority
from reasoning_fix.running.command_line import LISTEN_PORT
from reasoning_fix.running.prepared import Prepared
from reasoning_fix.running.probe import reachable
from reasoning_fix.running.reverse import base_urls

logger = logging.getLogger(__name__)

_SCHEMES = {"regular": "http", "upstream": "http", "socks5": "socks5h"}
_GUIDE = Path(__file__).resolve().parents[2] / "certs.md"


class Door(msgspec.Struct, frozen=True):
    """One address the proxy listens on; `target` is the provider's host in reverse mode."""

    kind: str
    host: str
    port: int
    target: str = ""

    @property
    def reachable(self) -> str:
        """The address for a program on this machine."""
        return reachable(self.host, self.port)

    @property
    def is_local(self) -> bool:
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


class Welcome:
    """Prints the next steps when the proxy listens; `quiet` leaves only the warning."""

    name = "reasoning_fix_welcome"

    def __init__(self, ready: Prepared) -> None:
        self._ready = ready

    def running(self) -> None:
        for remark in self._ready.remarks:
            logger.warning(remark)
        doors = list(_doors(ctx.master.addons.lookup["proxyserver"]))
        for door in doors:
            if text := exposure(
                door, bool(ctx.options.proxyauth), bool(ctx.options.reasoning_reverse_secret)
            ):
                logger.warning(text)
        if doors and ctx.options.termlog_verbosity not in ("error", "warn"):
            secret: str = ctx.options.reasoning_reverse_secret
            print(next_steps(doors, self._ready, secret, command()), flush=True)


def _doors(server: Proxyserver) -> Iterator[Door]:
    for instance in server.servers:
        mode = instance.mode
        target = str(mode.address[0]) if isinstance(mode, ReverseMode) else ""
        seen: set[int] = set()
        for address in instance.listen_addrs:
            if address[1] not in seen:  # "" listens on both kinds of IP addresses
                seen.add(address[1])
                yield Door(mode.type_name, str(address[0]), int(address[1]), target)


def exposure(door: Door, has_password: bool, has_secret: bool) -> str:
    """The warning for a door that others than this machine can reach, or ""."""
    if door.is_local:
        return ""
    where = f"{door.host or '*'}:{door.port}"
    if door.kind == "reverse":
        if has_secret:
            return ""
        return (
            f"Everybody who can reach {where} can send requests to {door.target} through this machine. "
            "Listen on 127.0.0.1, or ask for a secret: --set reasoning_reverse_secret=WORD."
        )
    if door.kind not in _SCHEMES or has_password:
        return ""
    return (
        f"Everybody who can reach {where} can use this proxy, also into your own network. Listen on "
        "127.0.0.1 (leave out --listen-host), or ask for a password: --proxyauth NAME:PASSWORD."
    )


def next_steps(doors: list[Door], ready: Prepared, secret: str, command: str) -> str:
    """The text for a person: how programs get to the proxy that was just started."""
    authority, table = ready.authority, ready.table
    lines = []
    proxy = next((door for door in doors if door.kind in _SCHEMES), None)
    if proxy is not None:
        address = f"{_SCHEMES[proxy.kind]}://{proxy.reachable}"
        lines += [f"reasoning-fix: the proxy listens at {address} (stop it with Ctrl-C)", ""]
        if proxy.kind != "socks5":
            where = _where(proxy, authority)
            lines += [
                f"  One program:     {command} exec{where} -- opencode",
                f'  One shell:       eval "$({command} env{where})"',
                f"  System-wide:     {command} ca install; {command} system-proxy on{_port(proxy)}",
                "  By hand:",
            ]
        else:
            lines += ["  For every program started from a shell:"]
        lines += [
            f"    export HTTPS_PROXY={address} NODE_USE_ENV_PROXY=1",
            f"    export NODE_EXTRA_CA_CERTS={shlex.quote(str(authority.certificate))}",
            f"    export SSL_CERT_FILE={shlex.quote(str(authority.bundle))}",
            f"    export REQUESTS_CA_BUNDLE={shlex.quote(str(authority.bundle))}",
            "",
        ]
    for door in doors:
        if door.kind == "reverse":
            first, *others = base_urls(f"http://{door.reachable}", door.target, secret, table)
            more = f" (also {', '.join(others)})" if others else ""
            lines.append(f"  Base URL for {door.target}, no certificate needed: {first}{more}")
    if any(door.kind == "reverse" for door in doors):
        lines.append("")
    if any(door.kind != "reverse" for door in doors):
        lines.append(f"  CA file: {authority.certificate}")
        lines.append(
            "  SSL_CERT_FILE and REQUESTS_CA_BUNDLE replace a program's trust store, so they name a bundle of"
        )
        lines.append("  the public CAs and this one; NODE_EXTRA_CA_CERTS adds to it.")
        if _GUIDE.exists():
            lines.append(f"  How to trust the CA, per system and runtime, and how to undo it: {_GUIDE}")
        lines.append("")
    return "\n".join(lines)


def _port(proxy: Door) -> str:
    """The option by which commands find a proxy that is not at the port where they look by themselves."""
    return "" if proxy.port == LISTEN_PORT else f" --port {proxy.port}"


def _where(proxy: Door, authority: Authority) -> str:
    """The options by which `exec` and `env` find a proxy that is not where they look by themselves."""
    directory = authority.certificate.parent
    return _port(proxy) + (
        "" if directory == folders.configuration() else f" --confdir {shlex.quote(str(directory))}"
    )


def command() -> str:
    """How a person calls the console command from where they are."""
    found = shutil.which("reasoning-fix")
    beside = Path(sys.executable).with_name("reasoning-fix")
    if found is not None:
        return "reasoning-fix"
    return shlex.quote(str(beside)) if beside.exists() else f"{shlex.quote(sys.executable)} -m reasoning_fix"
