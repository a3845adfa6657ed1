"""Find what is wrong and say the fix: one line per check.

Nothing is changed, and nothing leaves this machine, unless --online names a host: then one HEAD request goes
to it through the proxy, without a key. `ok`: fine. `skip`: nothing to look at, or not needed. `FAIL`: with
what to do about it.

  reasoning-fix doctor
  reasoning-fix doctor --online api.deepseek.com

Exit codes: 0 nothing failed; 1 something did; 2 used wrongly.
"""

import argparse
import contextlib
import datetime
import functools
import json
import os
import shutil
import socket
import ssl
import stat
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
from mitmproxy import version as mitmproxy

from reasoning_fix import __version__
from reasoning_fix.cli import shared
from reasoning_fix.cli.system_proxy import state_path
from reasoning_fix.diagnosis import Finding, authority, fail, ok, programs, skip, storage, variables, ways
from reasoning_fix.diagnosis.authority import Authority
from reasoning_fix.machine import folders, plan, system_proxy
from reasoning_fix.machine.plan import Done
from reasoning_fix.machine.system_proxy import DesktopError
from reasoning_fix.machine.trust.authority import BUNDLE_FILE, CERTIFICATE_FILE, KEY_FILE
from reasoning_fix.providers.files import ProviderTableError
from reasoning_fix.providers.table import Table, load_table
from reasoning_fix.proxy.health import Health
from reasoning_fix.proxy.probing import ask_health

_SHOWN = {"ok": "ok  ", "skip": "skip", "fail": "FAIL"}
_PROBED_SECONDS = 3.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    shared.add_address(parser)
    shared.add_confdir(parser)
    parser.add_argument("--online", metavar="HOST", help="also ask this host through the proxy")
    parser.add_argument("--json", action="store_true", help="the findings as a JSON array")


def run(arguments: argparse.Namespace) -> int:
    failed = False
    found = []
    for finding in examine(arguments):
        failed |= finding.verdict == "fail"
        found.append(finding)
        if not arguments.json:
            print(f"{_SHOWN[finding.verdict]}  {finding.check}: {finding.said}", flush=True)
            if finding.fix:
                print(f"      fix: {finding.fix}", flush=True)
    if arguments.json:
        print(json.dumps([msgspec.structs.asdict(finding) for finding in found], indent=2))
    return 1 if failed else 0


def examine(arguments: argparse.Namespace) -> Iterator[Finding]:
    """Every check, in an order in which each explains the next."""
    host, port = arguments.host, arguments.port
    address = f"{host}:{port}"
    table, told = _table()
    hosts = sorted(table.hosts())
    answer = ask_health(host, port)
    desktop_proxies, remembered, earlier = _desktop()
    by_desktop = address in desktop_proxies
    through_here = variables.goes_through(os.environ, host, port)
    yield programs.python_version(sys.version_info[:3])
    yield programs.mitmproxy_version(mitmproxy.VERSION)
    yield programs.port(address, answer, [] if isinstance(answer, Health) else _owners(port))
    yield told
    confdir = shared.confdir(arguments)
    found = authority.load(confdir)
    if isinstance(found, Finding):
        yield found
    else:
        yield from _about_authority(found, confdir, hosts, by_desktop, through_here)
    yield variables.proxies(os.environ, host, port)
    yield variables.bypass(os.environ, hosts)
    if isinstance(found, Authority):
        bundle = confdir / BUNDLE_FILE
        roots = {authority.der(found.root), authority.der(found.signer)}
        yield from variables.stores(os.environ, roots, bundle, through_here)
    yield ways.system_proxy(desktop_proxies, remembered, address, answer)
    upstream = variables.foreign_proxy(os.environ) or earlier
    yield ways.upstream(upstream, answer, _takes_connections(upstream) if upstream else None)
    path = _store_path(answer)
    if path is None:
        yield skip("store", "the running proxy keeps turns in memory, as it was told")
    else:
        yield storage.store(path)
        yield storage.secret(path.parent)
    heard = None
    fingerprint = found.fingerprint if isinstance(found, Authority) else ""
    yield ways.request(answer, address, __version__, fingerprint)
    if arguments.online and isinstance(found, Authority) and isinstance(answer, Health):
        bundle = confdir / BUNDLE_FILE
        reply = ways.ask_host(arguments.online, (host, port), bundle)
        heard = reply.date if isinstance(reply, ways.Answered) else None
        is_provider = table.provider(arguments.online) is not None
        name = found.signer.subject.rfc4514_string()
        yield ways.handshake(reply, arguments.online, is_provider, name)
    elif arguments.online:
        yield skip(f"TLS to {arguments.online}", "not without the proxy and its CA")
    yield ways.clock(datetime.datetime.now(datetime.UTC), heard, _newest_file())


def _about_authority(
    found: Authority, confdir: Path, hosts: Sequence[str], by_desktop: bool, through_here: bool
) -> Iterator[Finding]:
    certificate = confdir / CERTIFICATE_FILE
    yield ok("CA", f"{certificate}, SHA-256 {found.fingerprint}")
    yield authority.dates(found, datetime.datetime.now(datetime.UTC))
    yield authority.constraints(found, hosts)
    key = confdir / KEY_FILE
    yield authority.key_file(key, stat.S_IMODE(key.stat().st_mode) if os.name == "posix" else None)
    yield authority.bundle(confdir / BUNDLE_FILE, found)
    trusted = authority.platform_trusts(sys.platform, found, certificate, plan.run)
    yield authority.by_platform(trusted, by_desktop)
    specimen_host = hosts[0].removeprefix("*.")
    with authority.specimen(found, specimen_host) as files:
        # The default context reads SSL_CERT_FILE and SSL_CERT_DIR itself, even if that file is missing.
        verdict = authority.trusted_by_openssl(files, specimen_host, ssl.create_default_context())
        yield authority.openssl(verdict, os.environ.get("SSL_CERT_FILE", ""), through_here)
        node = shutil.which("node")
        version = plan.run((node, "--version")).text.strip() if node else None

        def ask(extra: str) -> bool | str:
            run = functools.partial(_run_with_extra, extra)
            return authority.trusted_by_node(node or "node", files, specimen_host, run)

        extra = os.environ.get("NODE_EXTRA_CA_CERTS", "")
        yield authority.node(version, extra, certificate, ask, through_here)


def _run_with_extra(extra: str, argv: Sequence[str]) -> Done:
    """Node's own variables only: NODE_OPTIONS may load code that speaks, NODE_TLS_... may accept anybody."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("NODE_")}
    return plan.run(argv, environ | {"NODE_EXTRA_CA_CERTS": extra})


def _table() -> tuple[Table, Finding]:
    """The provider table with the person's own, and how that is; the built-in one where theirs is wrong."""
    own = folders.user_providers()
    try:
        table = load_table(own)
    except ProviderTableError as error:
        return load_table(), fail("providers", str(error), f"correct {own}")
    return table, ok("providers", f"{len(table.hosts())} hosts{f', with those of {own}' if own else ''}")


def _owners(port: int) -> list[programs.Owner]:
    if sys.platform == "darwin":
        return programs.owners_by_lsof(port, plan.run)
    if sys.platform == "win32":
        return programs.owners_by_netstat(port, plan.run)
    return programs.owners_by_proc(port)


def _desktop() -> tuple[list[str], str, str]:
    """Where the desktop sends programs, what `system-proxy on` set, and where they went before that."""
    saved = system_proxy.load(state_path())
    remembered = saved.address if saved else ""
    try:
        desktop = system_proxy.this_desktop(named=saved.desktop if saved else None)
        earlier = desktop.proxies(saved.before) if saved else []
        return desktop.proxies(desktop.read(plan.run)), remembered, next(iter(earlier), "")
    except DesktopError:
        return [], remembered, ""


def _takes_connections(address: str) -> bool | None:
    host, _, port = address.rpartition(":")
    if not port.isdecimal():
        return None
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), _PROBED_SECONDS):
        return True
    return False


def _store_path(answer: Health | str) -> Path | None:
    """The running proxy's file, else the one that it would have; None if it has none."""
    if isinstance(answer, Health):
        return Path(answer.store.path) if answer.store.path else None
    return folders.store()


def _newest_file() -> datetime.datetime:
    """When this program was put here: what came before that is past."""
    package = Path(__file__).parent.parent
    newest = max(file.stat().st_mtime for file in package.glob("*.py"))
    return datetime.datetime.fromtimestamp(newest, datetime.UTC)
