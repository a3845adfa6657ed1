"""The environment of this shell: variables that send programs elsewhere, or leave them without trust."""

from collections.abc import Collection, Mapping
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from reasoning_fix.diagnosis import Finding, fail, ok, skip
from reasoning_fix.diagnosis.authority import certificates_in
from reasoning_fix.machine.environment import Effect, table
from reasoning_fix.machine.upstream import LOOPBACK, covers

_FIX = 'eval "$(reasoning-fix env)"'
_PROXIES = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")


# What names a file of CAs: does it add to a program's store, or take its place?
TRUST: Mapping[str, Effect] = {row.name: row.effect for row in table() if row.effect} | {
    "PIP_CERT": "replaces"
}


def goes_through(environ: Mapping[str, str], host: str, port: int) -> bool:
    """Whether programs started from this shell are sent to host:port."""
    return any(_is_at(_parsed(environ[name]), host, port) for name in _PROXIES if environ.get(name))


def foreign_proxy(environ: Mapping[str, str]) -> str:
    """The person's own proxy beyond this machine, as `host:port`; empty if there is none."""
    for name in _PROXIES:
        parsed = _parsed(environ.get(name, ""))
        if parsed.hostname and parsed.hostname not in LOOPBACK:
            return f"{parsed.hostname}:{_port(parsed)}"
    return ""


def proxies(environ: Mapping[str, str], host: str, port: int) -> Finding:
    check = "proxy variables"
    found = {name: environ[name] for name in _PROXIES if environ.get(name)}
    for upper, lower in (("HTTPS_PROXY", "https_proxy"), ("ALL_PROXY", "all_proxy")):
        if upper in found and lower in found and _parsed(found[upper]) != _parsed(found[lower]):
            said = f"{upper}={_shown(found[upper])} and {lower}={_shown(found[lower])} contradict each other"
            return fail(check, said, _FIX)
    if not found:
        return skip(check, "none is set in this shell; `reasoning-fix exec` and `env` set them")
    for name, value in found.items():
        parsed = _parsed(value)
        if parsed.hostname in LOOPBACK and not _is_at(parsed, host, port):
            return fail(check, f"{name}={_shown(value)} is not this proxy ({host}:{port})", _FIX)
        if not parsed.hostname:
            return fail(check, f"{name}={_shown(value)} names no proxy", _FIX)
    here = [name for name in found if _is_at(_parsed(found[name]), host, port)]
    if not here:
        return skip(check, f"this shell's programs go to {foreign_proxy(environ)}, not through here")
    return ok(check, f"{', '.join(here)} point here")


def bypass(environ: Mapping[str, str], hosts: Collection[str]) -> Finding:
    """NO_PROXY must not name a host that is to be repaired."""
    check = "NO_PROXY"
    for name in ("NO_PROXY", "no_proxy"):
        for entry in environ.get(name, "").replace(",", " ").split():
            if hidden := [host for host in hosts if covers(entry, host)]:
                said = f"{name} has {entry}, so {hidden[0]} does not come through the proxy"
                return fail(check, said, f"take {entry} out of {name}")
    if not (environ.get("NO_PROXY") or environ.get("no_proxy")):
        return skip(check, "not set")
    return ok(check, "no provider host is in it")


def stores(
    environ: Mapping[str, str], roots: Collection[bytes], bundle: Path, through_here: bool
) -> list[Finding]:
    """One finding per variable that is wrong, else one for all. `roots` are the CA's certificates (DER)."""
    named = [name for name in TRUST if environ.get(name)]
    looked_at = (_store(name, environ[name], roots, bundle, through_here) for name in named)
    found = [finding for finding in looked_at if finding is not None]
    if environ.get("NODE_TLS_REJECT_UNAUTHORIZED") == "0":
        said = "NODE_TLS_REJECT_UNAUTHORIZED=0 lets Node accept anybody"
        found.append(fail("trust variables", said, "unset NODE_TLS_REJECT_UNAUTHORIZED"))
    if found:
        return found
    if not named:
        return [skip("trust variables", "none is set in this shell")]
    return [ok("trust variables", ", ".join(named))]


def _store(
    name: str, value: str, roots: Collection[bytes], bundle: Path, through_here: bool
) -> Finding | None:
    check = "trust variables"
    content = certificates_in(Path(value).expanduser())
    fix = _FIX if through_here else f"unset {name}"
    if isinstance(content, str):
        return fail(check, f"{name}={value}: {content}", fix)
    if TRUST[name] == "replaces" and content <= set(roots):
        said = f"{name}={value} has this CA alone and replaces the store: every other host fails"
        return fail(check, said, f"export {name}={bundle}")
    if through_here and not content & set(roots):
        return fail(check, f"{name}={value} does not have this CA", _FIX)
    return None


def _parsed(value: str) -> SplitResult:
    try:
        return urlsplit(value if "://" in value else f"http://{value}")
    except ValueError:
        return urlsplit("")


def _port(parsed: SplitResult) -> int:
    try:
        return parsed.port or (443 if parsed.scheme == "https" else 80)
    except ValueError:
        return 0


def _is_at(parsed: SplitResult, host: str, port: int) -> bool:
    same = parsed.hostname == host or (parsed.hostname in LOOPBACK and host in LOOPBACK)
    return same and _port(parsed) == port


def _shown(value: str) -> str:
    """Without the password."""
    parsed = _parsed(value)
    return value if "@" not in parsed.netloc else value.replace(parsed.netloc.rpartition("@")[0], "...")
