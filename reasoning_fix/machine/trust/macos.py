"""The login keychain of macOS: trust for this person only, and for TLS only.

macOS asks for the person's password in a window of its own. `man security` describes every option.
"""

from reasoning_fix.machine.plan import Command
from reasoning_fix.machine.trust.authority import Authority
from reasoning_fix.machine.trust.machine import Machine, Store

KEYCHAIN = "Library/Keychains/login.keychain-db"


def stores(machine: Machine, ca: Authority) -> tuple[Store, ...]:
    """The login keychain."""
    keychain = str(machine.home / KEYCHAIN)
    listed = machine.run(("security", "find-certificate", "-a", "-Z", "-c", ca.name, keychain))
    kept = listed.code == 0 and ca.sha1 in listed.text.upper()
    # A person who closes the window leaves a certificate that is kept but not trusted.
    settings = machine.run(("security", "dump-trust-settings")) if kept else None
    trusted = settings is not None and settings.code == 0 and ca.name in settings.text
    add = ("security", "add-trusted-cert", "-r", "trustRoot", "-p", "ssl", "-p", "basic", "-k", keychain)
    return (
        Store(
            kind="keychain",
            title="the login keychain",
            place=keychain,
            state="present" if trusted else "absent",
            install=(Command((*add, str(ca.certificate))),),
            # -t takes the trust settings along.
            uninstall=(Command(("security", "delete-certificate", "-Z", ca.sha1, "-t", keychain)),)
            if kept
            else (),
        ),
    )
