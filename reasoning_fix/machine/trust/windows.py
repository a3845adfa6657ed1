r"""The person's own store of trusted roots on Windows (Cert:\CurrentUser\Root).

Windows asks in a window of its own whether to add and whether to remove.
https://learn.microsoft.com/windows-server/administration/windows-commands/certutil
"""

from reasoning_fix.machine.plan import Command
from reasoning_fix.machine.trust.authority import Authority
from reasoning_fix.machine.trust.machine import Machine, Store


def stores(machine: Machine, ca: Authority) -> tuple[Store, ...]:
    """The store of trusted roots."""
    # By its full path: NSS has a command of the same name.
    certutil = rf"{machine.variable('SystemRoot') or r'C:\Windows'}\System32\certutil.exe"
    listed = machine.run((certutil, "-user", "-store", "Root", ca.sha1))
    present = listed.code == 0
    return (
        Store(
            kind="windows",
            title="your trusted root certificates",
            place=r"Cert:\CurrentUser\Root",
            state="present" if present else "absent",
            install=(Command((certutil, "-user", "-addstore", "Root", str(ca.certificate))),),
            uninstall=(Command((certutil, "-user", "-delstore", "Root", ca.sha1)),) if present else (),
        ),
    )
