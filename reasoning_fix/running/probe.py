"""Whether a proxy of ours runs at an address: it answers for a host that only it knows.

https://reasoning.fix is nobody's; a request for it through any other proxy, or to any other server, does not
answer with our JSON.
"""

from reasoning_fix.machine.upstream import address_of
from reasoning_fix.proxy.health import Health
from reasoning_fix.proxy.probing import ask_health
from reasoning_fix.running.command_line import LISTEN_HOST, Given

# How a proxy that `exec` starts says that it listens; the port follows.
READY = "reasoning-fix ready "
_SECONDS = 2.0


def address(given: Given, port: int | None = None) -> str:
    """HOST:PORT where programs of this machine reach the proxy that these options would start."""
    return reachable(given.text("listen_host"), port or given.port())


def reachable(host: str, port: int) -> str:
    """Where programs of this machine reach what listens at this address."""
    return address_of(LISTEN_HOST if host in ("", "0.0.0.0", "::") else host, port)


def answers(address: str, fingerprint: str = "") -> bool:
    """Whether our health page answers through this address; False for everything else that may be there.

    With the SHA-256 `fingerprint` of a CA (hexadecimal): and whether that is the CA it signs with.
    """
    host, _, port = address.rpartition(":")
    health = ask_health(host.strip("[]"), int(port), _SECONDS)
    if not isinstance(health, Health):
        return False
    told = health.ca_sha256.replace(":", "")
    return not fingerprint or not told or told.upper() == fingerprint.upper()
