"""NSS databases: the trust stores of Firefox, and of Chromium and Chrome on Linux.

They do not look at the system's store on Linux. On macOS and Windows Firefox (120 and later) takes over what
the system trusts, so nothing is done there: https://support.mozilla.org/kb/automatically-trust-third-party-certificates
"""

from pathlib import Path

from reasoning_fix.machine.plan import Command
from reasoning_fix.machine.trust import bundle
from reasoning_fix.machine.trust.authority import Authority
from reasoning_fix.machine.trust.machine import Machine, Store

# Folders below the home that may hold a database, and whose it is.
PLACES = (
    (".pki/nssdb", "Chromium, Chrome"),
    (".local/share/pki/nssdb", "Chromium, Chrome"),
    ("snap/*/current/.pki/nssdb", "Chromium (snap)"),
    (".var/app/*/.pki/nssdb", "Chromium (flatpak)"),
    (".var/app/*/data/pki/nssdb", "Chromium (flatpak)"),
    (".mozilla/firefox/*", "Firefox"),
    (".config/mozilla/firefox/*", "Firefox"),
    ("snap/firefox/common/.mozilla/firefox/*", "Firefox (snap)"),
    (".var/app/*/.mozilla/firefox/*", "Firefox (flatpak)"),
    (".var/app/*/config/mozilla/firefox/*", "Firefox (flatpak)"),
    (".thunderbird/*", "Thunderbird"),
)
_PACKAGES = "libnss3-tools (Debian), nss-tools (Fedora), mozilla-nss-tools (openSUSE) or nss (Arch)"


def stores(machine: Machine, ca: Authority) -> tuple[Store, ...]:
    """Every database below this home."""
    command = machine.find("certutil")
    found = [
        (folder, owner)
        for pattern, owner in PLACES
        for folder in machine.folders(pattern)
        if machine.read(folder / "cert9.db") is not None
    ]
    return tuple(_store(machine, ca, folder, owner, command) for folder, owner in found)


def _store(machine: Machine, ca: Authority, folder: Path, owner: str, command: str | None) -> Store:
    title = f"{owner}: {folder.name}" if folder.name != "nssdb" else owner
    if command is None:
        note = f"`certutil` is needed for it: install {_PACKAGES}, then run this again"
        return Store(kind="nss", title=title, place=str(folder), state="unreachable", note=note)
    database = ("-d", f"sql:{folder}")
    listed = machine.run((command, *database, "-L", "-n", ca.name, "-a"))
    present = listed.code == 0 and bundle.holds(listed.text.encode(), ca.pem)
    return Store(
        kind="nss",
        title=title,
        place=str(folder),
        state="present" if present else "absent",
        # "C": a CA for servers; nothing for mail, nothing for code.
        install=(Command((command, *database, "-A", "-t", "C,,", "-n", ca.name, "-i", str(ca.certificate))),),
        uninstall=(Command((command, *database, "-D", "-n", ca.name)),) if present else (),
    )
