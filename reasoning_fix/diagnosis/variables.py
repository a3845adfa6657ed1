"""The environment of this shell: variables that send programs elsewhere, or leave them without trust."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Literal
from urllib.parse import SplitResult, urlsplit

import msgspec

from reasoning_fix.diagnosis import Finding, fail, ok, skip
from reasoning_fix.diagnosis.authority import certificates_in

_FIX = 'eval "$(reasoning-fix env)"'
_PROXIES = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Variable(msgspec.Struct, frozen=True):
    """A variable that names a file of CAs: does it add to a program's store, or take its place?"""

    name: str
    effect: Literal["adds", "replaces"]


TRUST = (
    Variable("SSL_CERT_FILE", "replaces"),
    Variable("REQUESTS_CA_BUNDLE", "replaces"),
    Variable("CURL_CA_BUNDLE", "replaces"),
    Variable("GIT_SSL_CAINFO", "replaces"),
    Variable("AWS_CA_BUNDLE", "replaces"),
    Variable("CARGO_HTTP_CAINFO", "replaces"),
    Variable("PIP_CERT", "replaces"),
    Variable("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", "replaces"),
    Variable("NODE_EXTRA_CA_CERTS", "adds"),
    Variable("DENO_CERT", "adds"),
)


def goes_through(environ: Mapping[str, str], host: str, port: int) -> bool:
    """Whether programs started from this shell are sent to host:port."""
    return any(_is_at(_parsed(environ[name]), host, port) for name in _PROXIES if environ.get(name))


def foreign_proxy(environ: Mapping[str, str]) -> str:
    """The person's own proxy beyond this machine, as `host:port`; empty if there is none."""
    for name in _PROXIES:
        parsed = _parsed(environ.get(name, ""))
        if parsed.hostname and parsed.hostname not in _LOOPBACK:
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
        if parsed.hostname in _LOOPBACK and not _is_at(parsed, host, port):
            return fail(check, f"{name}={_shown(value)} is not this proxy ({host}:{port})", _FIX)
        if not parsed.hostname:
            return fail(check, f"{name}={_shown(value)} names no proxy", _FIX)
    here = [name for name in found if _is_at(_parsed(found[name]), host, port)]
    if not here:
        return skip(check, f"this shell's programs go to {foreign_proxy(environ)}, not through here")
    return ok(check, f"{', '.join(here)} point here")


def bypass(environ: Mapping[str, str], hosts: Collection[str]) -> Finding:
    """NO_PROXY must not name a host that is to be repaired; programs match the ends of names."""
    check = "NO_PROXY"
    for name in ("NO_PROXY", "no_proxy"):
        for entry in environ.get(name, "").replace(",", " ").split():
            suffix = entry.lower().partition(":")[0].lstrip("*").lstrip(".")
            for host in hosts:
                plain = host.removeprefix("*.")
                if entry == "*" or (suffix and (plain == suffix or plain.endswith(f".{suffix}"))):
                    fix = f"take {entry} out of {name}"
                    return fail(check, f"{name} has {entry}, so {host} does not come through the proxy", fix)
    if not (environ.get("NO_PROXY") or environ.get("no_proxy")):
        return skip(check, "not set")
    return ok(check, "no provider host is in it")


def stores(
    environ: Mapping[str, str],
    roots: Collection[bytes],
    bundle: Path,
    through_here: bool,
    table: Sequence[Variable] = TRUST,
) -> list[Finding]:
    """One finding per variable that is wrong, else one for all. `roots` are the CA's certificates (DER)."""
    found = []
    named = [variable for variable in table if environ.get(variable.name)]
    for variable in named:
        if finding := _store(variable, environ[variable.name], roots, bundle, through_here):
            found.append(finding)
    if environ.get("NODE_TLS_REJECT_UNAUTHORIZED") == "0":
        said = "NODE_TLS_REJECT_UNAUTHORIZED=0 lets Node accept anybody"
        found.append(fail("trust variables", said, "unset NODE_TLS_REJECT_UNAUTHORIZED"))
    if found:
        return found
    if not named:
        return [skip("trust variables", "none is set in this shell")]
    return [ok("trust variables", ", ".join(variable.name for variable in named))]


def _store(
    variable: Variable, value: str, roots: Collection[bytes], bundle: Path, through_here: bool
) -> Finding | None:
    check = "trust variables"
    content = certificates_in(Path(value).expanduser())
    fix = _FIX if through_here else f"unset {variable.name}"
    if isinstance(content, str):
        return fail(check, f"{variable.name}={value}: {content}", fix)
    if variable.effect == "replaces" and content <= set(roots):
        said = f"{variable.name}={value} has this CA alone and replaces the store: every other host fails"
        return fail(check, said, f"export {variable.name}={bundle}")
    if through_here and not content & set(roots):
        return fail(check, f"{variable.name}={value} does not have this CA", _FIX)
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
    same = parsed.hostname == host or (parsed.hostname in _LOOPBACK and host in _LOOPBACK)
    return same and _port(parsed) == port


def _shown(value: str) -> str:
    """Without the password."""
    parsed = _parsed(value)
    return value if "@" not in parsed.netloc else value.replace(parsed.netloc.rpartition("@")[0], "...")
