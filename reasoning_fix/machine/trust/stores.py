"""Which trust stores this computer has: those of its platform, and what each answers."""

from collections.abc import Callable

from reasoning_fix.machine.trust import linux, macos, nss, windows
from reasoning_fix.machine.trust.authority import Authority
from reasoning_fix.machine.trust.machine import Machine, Store

type Look = Callable[[Machine, Authority], tuple[Store, ...]]

PLATFORMS: dict[str, tuple[Look, ...]] = {
    "Linux": (linux.stores, nss.stores),
    "Darwin": (macos.stores,),
    "Windows": (windows.stores,),
}
NOTHING_KNOWN = (
    "No trust store that reasoning-fix knows is here. `reasoning-fix exec -- PROGRAM` needs none, and "
    "certs.md says how to trust the CA for one program."
)


def find(machine: Machine, ca: Authority) -> tuple[Store, ...]:
    """Every trust store here, and whether it trusts this CA. Only looks."""
    return tuple(store for look in PLATFORMS.get(machine.system, ()) for store in look(machine, ca))
