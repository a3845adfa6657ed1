"""The CA that the proxy signs with: make it, show it, let this computer's programs trust it, undo that.

The CA can speak for the provider hosts only: programs that trust it refuse what it signs for any other host.
`run` and `exec` make one by themselves. A program started by `exec` needs nothing else; `install` is for
programs that are started in other ways, browsers among them.

  reasoning-fix ca show                  what it may sign, until when, and which trust stores have it
  reasoning-fix ca install --dry-run     the exact commands, without running them
  reasoning-fix ca install               let this computer trust it
  reasoning-fix ca uninstall             take that back, for earlier CAs too
  reasoning-fix ca create --renew        a new CA, when the provider table has grown or the old one expires

Exit codes: 0 done; 1 something is wrong or did not work; 2 used wrongly, nothing was changed.
"""

import argparse
import shlex
import sys
from pathlib import Path
from typing import get_args

import msgspec

from reasoning_fix.cli import UsageError, shared
from reasoning_fix.machine import folders
from reasoning_fix.machine.plan import Command
from reasoning_fix.machine.trust import authority, stores
from reasoning_fix.machine.trust.authority import Authority, AuthorityError
from reasoning_fix.machine.trust.machine import Kind, Machine, Store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    common = argparse.ArgumentParser(add_help=False)
    shared.add_confdir(common)
    shared.add_user_providers(common)
    actions = parser.add_subparsers(title="actions", metavar="ACTION", dest="action", required=True)
    create = actions.add_parser("create", parents=[common], help="make the CA; refuses if there is one")
    create.add_argument(
        "--renew", action="store_true", help="make a new one and move the old one into a folder beside it"
    )
    show = actions.add_parser("show", parents=[common], help="what it may sign, until when, who trusts it")
    show.add_argument("--json", action="store_true", help="the same for scripts")
    for name, line in (
        ("install", "let this computer's trust stores have it"),
        ("uninstall", "remove it, and those before it, from every trust store"),
    ):
        action = actions.add_parser(name, parents=[common], help=line)
        action.add_argument("--dry-run", action="store_true", help="print the commands and do nothing")
        action.add_argument(
            "--store",
            action="append",
            choices=get_args(Kind.__value__),
            help="only this kind of trust store (may be given several times)",
        )


def run(arguments: argparse.Namespace) -> int:
    """Do the action that was asked for; returns the exit code."""
    confdir = shared.confdir(arguments)
    hosts = shared.table(arguments).hosts()
    try:
        if arguments.action == "create":
            return _create(confdir, hosts, arguments.renew)
        if arguments.action == "show":
            return _show(confdir, hosts, arguments.json)
        change = _Change(arguments.dry_run, arguments.store)
        if arguments.action == "install":
            return _install(confdir, hosts, change)
        return _uninstall(confdir, change)
    except AuthorityError as error:
        print(f"reasoning-fix: {error}", file=sys.stderr)
        return 1


# ---- create, show ----------------------------------------------------------------------------------------


def _create(confdir: Path, hosts: tuple[str, ...], renew: bool) -> int:
    old = authority.load(confdir)
    if old is not None and not renew:
        raise UsageError(
            f"there is a CA in {confdir} already ({old.name}, valid until {old.expiry:%Y-%m-%d}); nothing "
            f"was changed. `{_command('create --renew', confdir)}` makes a new one and keeps the old one "
            "beside it."
        )
    if old is None:
        _describe_new(authority.ensure(confdir, hosts))
        return 0
    trusted = [store.title for store in stores.find(Machine(), old) if store.state == "present"]
    new = authority.renew(confdir, hosts)
    _describe_new(new)
    print(f"  the old one: {authority.former(confdir)[0].directory}")
    print("\nStart the proxy again: until then it signs with the old one.")
    if trusted:
        print(
            f"The old one is still trusted by {_joined(trusted)}: "
            f"`{_command('install', confdir)}` changes that."
        )
    return 0


def _describe_new(ca: Authority) -> None:
    print(
        f"{'Made' if ca.made else 'Found'} a CA that can speak for {len(ca.permitted)} domains and no other:"
    )
    print(f"  for programs:  {ca.certificate}")
    print(f"  for programs whose trust store it replaces:  {ca.bundle}")
    print(f"  the private key, for this machine only:  {ca.key_file}")


def _show(confdir: Path, hosts: tuple[str, ...], json: bool) -> int:
    ca = authority.load(confdir)
    if ca is None:
        message = (
            f"There is no CA in {confdir} yet: `{_command('create', confdir)}` makes it, and so does `run`."
        )
        print(msgspec.json.encode({"error": message}).decode() if json else message)
        return 1
    remarks = ca.remarks(hosts)
    found = stores.find(Machine(), ca)
    if json:
        shared.print_json(
            {
                "certificate": ca.certificate,
                "bundle": ca.bundle,
                "subject": ca.subject,
                "sha256": ca.fingerprint,
                "not_before": ca.start.isoformat(),
                "not_after": ca.expiry.isoformat(),
                "constrained": ca.constrained,
                "permitted": ca.permitted,
                "outgrown": ca.outgrown(hosts),
                "remarks": remarks,
                "stores": [
                    {name: getattr(store, name) for name in ("kind", "title", "place", "state")}
                    for store in found
                ],
            }
        )
        return 1 if remarks else 0
    print(f"certificate  {ca.certificate}")
    print(f"bundle       {ca.bundle}")
    print(f"subject      {ca.subject}")
    print(f"SHA-256      {':'.join(ca.fingerprint[i : i + 2] for i in range(0, len(ca.fingerprint), 2))}")
    print(f"valid        {ca.start:%Y-%m-%d} to {ca.expiry:%Y-%m-%d}")
    if ca.constrained:
        print("may sign for these domains, and what is below them:")
        for name in ca.permitted:
            print(f"  {name}")
    else:
        print("may sign for every host")
    print("trust stores:")
    for store in found:
        print(f"  {_STATES[store.state]}  {store.title}" + (f" ({store.note})" if store.note else ""))
    if not found:
        print(f"  none. {stores.NOTHING_KNOWN}")
    for remark in remarks:
        print(f"\n{remark}")
    return 1 if remarks else 0


_STATES = {"present": "trusts it        ", "absent": "does not trust it", "unreachable": "not known        "}


# ---- install, uninstall ----------------------------------------------------------------------------------

type _Work = list[tuple[Store, tuple[Command, ...]]]


class _Change:
    """One install or uninstall: which stores, what was said and done, and the exit code."""

    def __init__(self, dry_run: bool, kinds: list[str] | None) -> None:
        self.dry_run = dry_run
        self.code = 0
        self._machine = Machine()
        self._kinds = kinds

    def stores(self, ca: Authority) -> list[Store]:
        found = stores.find(self._machine, ca)
        return [store for store in found if not self._kinds or store.kind in self._kinds]

    def say(self, text: str) -> None:
        print(f"# {text}" if self.dry_run else text)

    def do(self, work: _Work) -> None:
        """Run, or only print, the commands for each store."""
        asks = any(map(_asks, work)) and not self._machine.administrator and not self.dry_run
        if asks and self._machine.find("sudo") is None:
            print("These lines need an administrator, and there is no sudo here: run them as root.")
            for _, commands in filter(_asks, work):
                for command in commands:
                    print(f"  {' '.join(command.argv)}")
            work = [each for each in work if not _asks(each)]
            self.code = 1
        elif asks:
            print("The lines that start with sudo need an administrator: sudo may ask for your password.")
        for store, commands in work:
            self.say(f"{store.title} ({store.place})")
            for command in commands:
                print(f"{'' if self.dry_run else '  '}{self._machine.line(command)}", flush=True)
                if not self.dry_run and not self._did(command):
                    break

    def _did(self, command: Command) -> bool:
        ended = self._machine.run(self._machine.words(command))
        if ended.code:
            message = (ended.error or ended.text).strip() or "no message"
            print(f"  failed with exit code {ended.code}: {message}")
            self.code = 1
        return not ended.code


def _asks(work: tuple[Store, tuple[Command, ...]]) -> bool:
    return any(command.administrator for command in work[1])


def _install(confdir: Path, hosts: tuple[str, ...], change: _Change) -> int:
    ca = authority.load(confdir)
    if ca is None and change.dry_run:
        raise UsageError(f"there is no CA in {confdir} yet; `{_command('create', confdir)}` makes it.")
    if ca is None:
        ca = authority.ensure(confdir, hosts)
        _describe_new(ca)
    found = change.stores(ca)
    if not found:
        print(stores.NOTHING_KNOWN)
        return 1
    for remark in ca.remarks(hosts):
        print(f"Note: {remark}")
    work: _Work = []
    for store in found:
        if store.state == "present":
            change.say(f"{store.title}: trusts the CA already")
        elif store.state == "unreachable":
            change.say(f"{store.title}: {store.note}")
            change.code = 1
        else:
            work.append((store, store.install))
    # One CA at a time: what an earlier one is trusted for ends here.
    for old in authority.former(confdir):
        for store in change.stores(old):
            # The system's file has one name, so the new one has taken its place.
            if store.state == "present" and store.kind != "system":
                title = f"{store.title}, {old.name}"
                work.append((msgspec.structs.replace(store, title=title), store.uninstall))
    change.do(work)
    if work and not change.dry_run:
        missing = {store.place for store in found if store.state == "absent"}
        for store in change.stores(ca):
            if store.place in missing:
                done = store.state == "present"
                print(f"{store.title}: {'trusts the CA now' if done else 'does not trust the CA'}")
                change.code = change.code or int(not done)
        print(f"\nUndo all of it with: {_command('uninstall', confdir)}")
        print(
            "Start browsers again. Node, Java, and Python's own packages have stores of their own: start "
            "such programs with `reasoning-fix exec -- PROGRAM`, or see certs.md."
        )
    return change.code


def _uninstall(confdir: Path, change: _Change) -> int:
    every = [ca for ca in (authority.load(confdir), *authority.former(confdir)) if ca is not None]
    work: _Work = []
    for ca in every:
        for store in change.stores(ca):
            if store.state == "unreachable":
                change.say(f"{store.title}: {store.note}")
            elif store.uninstall:
                work.append((store, store.uninstall))
    if not work:
        print("No trust store here has the CA: nothing to undo.")
        return 0
    change.do(work)
    if change.dry_run:
        return change.code
    for ca in every:
        for store in change.stores(ca):
            if store.state == "present":
                print(f"{store.title}: still trusts {ca.name}")
                change.code = 1
    if change.code == 0:
        print("\nNo trust store here trusts the CA any more. Programs that are running may until they end.")
        print(f"Trust it again with: {_command('install', confdir)}")
    return change.code


def _command(action: str, confdir: Path) -> str:
    """A command of this file for the same folder, as a person would type it."""
    folder = "" if confdir == folders.configuration() else f" --confdir {shlex.quote(str(confdir))}"
    return f"reasoning-fix ca {action}{folder}"


def _joined(words: list[str]) -> str:
    return " and ".join(words) if len(words) < 3 else f"{', '.join(words[:-1])} and {words[-1]}"
