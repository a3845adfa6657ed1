"""The system's trust store on Linux: a folder for certificates, and a command that takes them in.

Facts are the rows of `FAMILIES`; the first whose folder and command are both here is this system's. The store
belongs to the machine, so both commands need an administrator.
"""

from pathlib import Path

import msgspec

from reasoning_fix.machine.plan import Command
from reasoning_fix.machine.trust import bundle
from reasoning_fix.machine.trust.authority import Authority
from reasoning_fix.machine.trust.machine import Machine, Store


class Family(msgspec.Struct, frozen=True, kw_only=True):
    """How one family of distributions takes in a certificate. Paths are below the system's root.

    `update` follows a new file, `afresh` a changed or a removed one. `elsewhere` are the command's own
    options, each with the path it stands for, that make it work in another folder than the system's.
    """

    title: str
    anchors: str
    suffix: str
    command: str
    update: tuple[str, ...] = ()
    afresh: tuple[str, ...] = ()
    bundle: str
    elsewhere: tuple[tuple[str, str], ...] = ()
    source: str


FAMILIES = (
    Family(
        title="openSUSE, SUSE",
        anchors="etc/pki/trust/anchors",
        suffix=".pem",
        command="update-ca-certificates",
        bundle="var/lib/ca-certificates/ca-bundle.pem",
        source="https://github.com/openSUSE/ca-certificates#readme",
    ),
    Family(
        title="Debian, Ubuntu, Alpine, Gentoo",
        anchors="usr/local/share/ca-certificates",
        suffix=".crt",  # other files are passed over
        command="update-ca-certificates",
        afresh=("--fresh",),  # else the links by hash stay those of the file before
        bundle="etc/ssl/certs/ca-certificates.crt",
        elsewhere=(
            ("--certsconf", "etc/ca-certificates.conf"),
            ("--certsdir", "usr/share/ca-certificates"),
            ("--localcertsdir", "usr/local/share/ca-certificates"),
            ("--etccertsdir", "etc/ssl/certs"),
            ("--hooksdir", "etc/ca-certificates/update.d"),
        ),
        source="https://manpages.debian.org/bookworm/ca-certificates/update-ca-certificates.8.en.html",
    ),
    Family(
        title="Fedora, RHEL",
        anchors="etc/pki/ca-trust/source/anchors",
        suffix=".pem",
        command="update-ca-trust",
        update=("extract",),
        afresh=("extract",),
        bundle="etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
        source="https://docs.fedoraproject.org/en-US/quick-docs/using-shared-system-certificates/",
    ),
    Family(
        title="Arch",
        anchors="etc/ca-certificates/trust-source/anchors",
        suffix=".crt",
        command="update-ca-trust",
        bundle="etc/ca-certificates/extracted/tls-ca-bundle.pem",
        source="https://man.archlinux.org/man/update-ca-trust.8",
    ),
)


def stores(machine: Machine, ca: Authority) -> tuple[Store, ...]:
    """The system's store, as one or, on a system that is not known here, none."""
    for family in FAMILIES:
        command = machine.find(family.command)
        if command is not None and machine.is_folder(machine.root / family.anchors):
            return (_store(machine, ca, family, command),)
    return ()


def _store(machine: Machine, ca: Authority, family: Family, command: str) -> Store:
    anchor = machine.root / family.anchors / f"reasoning-fix{family.suffix}"
    before = machine.read(anchor)
    lies_there = bundle.holds(before or b"", ca.pem)
    taken_in = bundle.holds(machine.read(machine.root / family.bundle) or b"", ca.pem)
    below = () if machine.root == Path("/") else family.elsewhere
    update = (command, *(word for option, path in below for word in (option, str(machine.root / path))))
    return Store(
        kind="system",
        title=f"the system's store ({family.title})",
        place=str(anchor),
        state="present" if lies_there and taken_in else "absent",
        install=(
            Command(("install", "-m", "0644", str(ca.certificate), str(anchor)), administrator=True),
            Command((*update, *(family.update if before is None else family.afresh)), administrator=True),
        ),
        # One file name for every CA of ours: a later one takes its place, and a file of another stays.
        uninstall=(
            Command(("rm", "-f", str(anchor)), administrator=True),
            Command((*update, *family.afresh), administrator=True),
        )
        if lies_there or taken_in
        else (),
    )
