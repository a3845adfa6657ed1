"""The ways traffic takes: the desktop's proxy, a proxy behind ours, and real requests through ours."""

import datetime
import email.utils
import http.client
import ssl
from collections.abc import Sequence
from pathlib import Path

import msgspec
from cryptography import x509

from reasoning_fix.diagnosis import Finding, fail, ok, skip
from reasoning_fix.proxy.health import Health

_START = "`reasoning-fix service install` (it stays), or `reasoning-fix run` (in this terminal)"
_SKEW = datetime.timedelta(minutes=5)
_SECONDS = 20.0


class Answered(msgspec.Struct, frozen=True):
    """A real answer of a host through the proxy: whose certificate it was, and the host's clock."""

    host: str
    status: int
    issuer: str
    date: datetime.datetime | None


def system_proxy(proxies: Sequence[str], remembered: str, address: str, answer: Health | str) -> Finding:
    """`remembered` is what `system-proxy on` set, empty if it is off; `proxies` what holds now."""
    check = "system proxy"
    if address in proxies:
        if isinstance(answer, Health):
            return ok(check, f"programs of this desktop are sent to {address}")
        fix = f"start the proxy: {_START}; or `reasoning-fix system-proxy off`"
        return fail(check, f"programs of this desktop are sent to {address}, where no proxy answers", fix)
    if remembered:
        said = f"it was switched on, but programs of this desktop go to {', '.join(proxies) or 'no proxy'}"
        return fail(check, said, "`reasoning-fix system-proxy on` again, or `off`")
    return skip(check, f"off: programs of this desktop go to {', '.join(proxies) or 'no proxy'}")


def upstream(needed: str, answer: Health | str, reached: bool | None) -> Finding:
    """`needed` is the person's own proxy, which ours must ask; `reached` whether it takes connections."""
    check = "upstream proxy"
    if not needed:
        return skip(check, "there is none")
    if reached is False:
        return fail(check, f"{needed} takes no connections", "see whether that proxy runs, or unset it")
    if not isinstance(answer, Health):
        return skip(check, f"{needed}: the proxy does not run")
    if not any(entry.startswith("upstream@") for entry in answer.listening):
        fix = f"`reasoning-fix run --mode upstream:http://{needed}`"
        return fail(check, f"{needed} is set up on this machine, but the proxy does not ask it", fix)
    return ok(check, f"{needed} is asked")


def request(answer: Health | str, address: str, version: str, fingerprint: str) -> Finding:
    """The health page, asked for through the proxy; `fingerprint` is that of the CA in the confdir."""
    check = "request"
    if not isinstance(answer, Health):
        return fail(check, f"no proxy at {address}: {answer}", _START)
    if answer.version != version:
        said = f"the running proxy is version {answer.version}, this is {version}"
        return fail(check, said, "start the proxy again")
    if fingerprint and answer.ca_sha256 != fingerprint:
        said = "the running proxy has another CA than the confdir"
        return fail(check, said, "start the proxy again, or give its folder with --confdir")
    if not answer.store.healthy:
        return fail(check, "the running proxy cannot use its store", "see its log and the store above")
    minutes = answer.uptime_seconds / 60
    done = answer.counts
    said = f"up {minutes:.0f} min, {done.requests} chat requests, {done.restored} turns restored"
    return ok(check, said)


def handshake(answer: Answered | str, host: str, is_provider: bool, ca_name: str) -> Finding:
    """A provider's host must come with our CA's certificate, any other with its own."""
    check = f"TLS to {host}"
    if isinstance(answer, str):
        return fail(
            check, answer, "see the lines above; without the proxy, does this machine reach the host?"
        )
    ours = answer.issuer == ca_name
    if is_provider and not ours:
        said = f"its certificate is by {answer.issuer}, so the proxy does not read it"
        return fail(check, said, "start the proxy again; is the host in its provider table?")
    if not is_provider and ours:
        said = "the proxy decrypts it, although it is no provider"
        return fail(check, said, "start the proxy without reasoning_decrypt=all")
    through = "read by the proxy" if ours else "passed through untouched"
    return ok(check, f"HTTP {answer.status}, certificate by {answer.issuer}: {through}")


def clock(now: datetime.datetime, heard: datetime.datetime | None, earliest: datetime.datetime) -> Finding:
    """Against a host's clock where one was heard, else against what cannot be in the future."""
    check = "clock"
    fix = "set this machine's clock (and switch on its synchronisation)"
    if heard is not None:
        apart = abs(now - heard)
        if apart > _SKEW:
            return fail(check, f"{apart.total_seconds():.0f} s apart from the host's", fix)
        return ok(check, f"within {apart.total_seconds():.0f} s of the host's")
    if now < earliest:
        return fail(
            check, f"it says {now:%Y-%m-%d %H:%M}, before {earliest:%Y-%m-%d %H:%M}, which is past", fix
        )
    return ok(check, "plausible (--online HOST compares it with that host's)")


def ask_host(host: str, address: tuple[str, int], bundle: Path) -> Answered | str:
    """A HEAD request to a host through the proxy, trusting the bundle; or why there is no answer."""
    try:
        trust = ssl.create_default_context(cafile=str(bundle))
    except OSError as error:
        return f"{bundle} cannot be read: {error}"
    connection = http.client.HTTPSConnection(*address, timeout=_SECONDS, context=trust)
    try:
        connection.set_tunnel(host, 443)
        connection.connect()
        assert isinstance(connection.sock, ssl.SSLSocket)
        encoded = connection.sock.getpeercert(binary_form=True)
        assert encoded is not None
        connection.request("HEAD", "/")
        answer = connection.getresponse()
        date = answer.getheader("date")
    except ssl.SSLCertVerificationError as error:
        return f"its certificate is refused: {error.verify_message}"
    except (OSError, http.client.HTTPException) as error:
        return f"no answer through the proxy: {error}"
    finally:
        connection.close()
    issuer = x509.load_der_x509_certificate(encoded).issuer.rfc4514_string()
    return Answered(host, answer.status, issuer, _parsed(date))


def _parsed(date: str | None) -> datetime.datetime | None:
    try:
        parsed = email.utils.parsedate_to_datetime(date) if date else None
    except ValueError:
        return None
    return parsed if parsed is None or parsed.tzinfo else parsed.replace(tzinfo=datetime.UTC)
