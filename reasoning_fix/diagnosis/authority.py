"""The CA: its files, what it may sign, and who trusts it.

Trust is tried, not guessed: a certificate for a provider host is made with the CA's own key, in a folder that
is gone afterwards, and OpenSSL and Node are asked to accept it.
"""

import contextlib
import datetime
import ssl
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from mitmproxy import certs

from reasoning_fix.diagnosis import Finding, fail, ok, skip
from reasoning_fix.machine.plan import Done, Run
from reasoning_fix.machine.trust.authority import CERTIFICATE_FILE, KEY_FILE, permits, permitted_by
from reasoning_fix.machine.trust.bundle import SYSTEM_BUNDLES, certificates

FOREIGN = "not-a-provider.example"
_SOON = datetime.timedelta(days=30)
_MAKE = "`reasoning-fix run` makes it, or `reasoning-fix ca create`"
_RENEW = "`reasoning-fix ca create --renew`, then `reasoning-fix ca install` where it was installed"


class Authority(msgspec.Struct, frozen=True):
    """What lies in the confdir: `root` is what programs trust, `signer` what signs (often the same)."""

    confdir: Path
    root: x509.Certificate
    signer: x509.Certificate
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
    chain: tuple[x509.Certificate, ...]

    @property
    def fingerprint(self) -> str:
        return self.root.fingerprint(SHA256()).hex(":").upper()


def load(confdir: Path) -> Authority | Finding:
    """The CA, or the failure that says why there is none to look at."""
    for name in (KEY_FILE, CERTIFICATE_FILE):
        if not (confdir / name).is_file():
            return fail("CA", f"there is no {confdir / name}", _MAKE)
    try:
        material = (confdir / KEY_FILE).read_bytes()
        chain = x509.load_pem_x509_certificates(material)
        key = load_pem_private_key(material, None)
        root = x509.load_pem_x509_certificates((confdir / CERTIFICATE_FILE).read_bytes())[0]
    except (OSError, ValueError, TypeError) as error:
        return fail("CA", f"{confdir / KEY_FILE} or its certificate cannot be read: {error}", _RENEW)
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        return fail("CA", f"the key in {confdir / KEY_FILE} is neither RSA nor elliptic", _RENEW)
    signers = [certificate for certificate in chain if certificate.public_key() == key.public_key()]
    if not signers:
        return fail("CA", f"the key in {confdir / KEY_FILE} belongs to no certificate there", _RENEW)
    if not _leads_to(root, signers[0], chain):
        return fail("CA", f"{confdir / CERTIFICATE_FILE} is not the root of the CA that signs", _RENEW)
    return Authority(confdir, root, signers[0], key, tuple(chain))


def dates(authority: Authority, now: datetime.datetime) -> Finding:
    certificates = {authority.root, authority.signer}
    start = max(certificate.not_valid_before_utc for certificate in certificates)
    end = min(certificate.not_valid_after_utc for certificate in certificates)
    if now < start:
        return fail("CA dates", f"it is valid only from {start:%Y-%m-%d} on", "set this machine's clock")
    if now > end:
        return fail("CA dates", f"it expired on {end:%Y-%m-%d}", _RENEW)
    if now > end - _SOON:
        return fail("CA dates", f"it expires soon, on {end:%Y-%m-%d}", _RENEW)
    return ok("CA dates", f"valid until {end:%Y-%m-%d}")


def constraints(authority: Authority, hosts: Sequence[str]) -> Finding:
    """Whether it can speak for the provider hosts and for no others: by its text, and by OpenSSL."""
    try:
        found = authority.signer.extensions.get_extension_for_class(x509.NameConstraints)
    except x509.ExtensionNotFound:
        return fail("CA constraints", "whoever has its key can speak for every host", _RENEW)
    if not found.critical or not found.value.permitted_subtrees:
        return fail("CA constraints", "its name constraints do not bind every program", _RENEW)
    permitted = permitted_by(authority.signer) or ()
    if missing := [host for host in hosts if not permits(permitted, host)]:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        return fail("CA constraints", f"it may not speak for {missing[0]}{more}", _RENEW)
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trust.load_verify_locations(cadata=authority.root.public_bytes(Encoding.PEM).decode())
    with specimen(authority, FOREIGN) as files:
        if trusted_by_openssl(files, FOREIGN, trust) is True:
            return fail("CA constraints", f"OpenSSL accepts it for {FOREIGN}", _RENEW)
    return ok("CA constraints", f"{len(hosts)} provider hosts and no others")


def key_file(path: Path, mode: int | None) -> Finding:
    """`mode` is None where files have none (Windows)."""
    if mode is None:
        return skip("CA key", "file permissions are not looked at on this platform")
    if mode & 0o077:
        return fail("CA key", f"{path} can be read by others (mode {mode & 0o777:04o})", f"chmod 600 {path}")
    return ok("CA key", f"{path} is readable by you alone")


def bundle(path: Path, authority: Authority) -> Finding:
    """The file for variables that replace a trust store."""
    found, fix = certificates_in(path), "`reasoning-fix run` writes it anew"
    if isinstance(found, str):
        return fail("CA bundle", f"{path}: {found}", fix)
    if der(authority.root) not in found:
        return fail("CA bundle", f"{path} does not hold this CA", fix)
    if len(found) == 1:
        return fail("CA bundle", f"{path} holds no public CA", fix)
    return ok("CA bundle", f"{path}: {len(found)} CAs, this one among them")


def openssl(
    verdict: bool | str, cafile: str, needed: bool, version: str = ssl.OPENSSL_VERSION.partition("  ")[0]
) -> Finding:
    """`verdict` on a specimen with the trust of this shell; `needed` where programs come through here."""
    check = "trust: OpenSSL"
    if verdict is True:
        return ok(check, f"{version} trusts it by {cafile or 'its own store'}")
    if not needed:
        # Also where a company's store is set: only what comes through here must trust it.
        return skip(check, "not by this shell's store; `reasoning-fix exec` and `env` set SSL_CERT_FILE")
    if cafile:
        return fail(check, f"SSL_CERT_FILE={cafile} does not make it trusted: {verdict}", _ENVIRONMENT)
    return fail(check, "programs come through the proxy and do not trust it", _ENVIRONMENT)


def node(
    version: str | None, extra: str, certificate: Path, ask: Callable[[str], bool | str], needed: bool
) -> Finding:
    """`extra` is NODE_EXTRA_CA_CERTS; `ask` shows Node a specimen with another value of it."""
    check = "trust: Node"
    if version is None:
        return skip(check, "Node is not installed")
    extra = extra if needed else ""
    verdict = ask(extra or str(certificate))
    if verdict is not True and extra:
        return fail(check, f"NODE_EXTRA_CA_CERTS={extra} does not make it trusted: {verdict}", _ENVIRONMENT)
    if verdict is not True:
        return fail(check, f"{version} refuses this CA: {verdict}", _RENEW)
    if needed and not extra:
        return fail(
            check, "programs come through the proxy, and NODE_EXTRA_CA_CERTS is not set", _ENVIRONMENT
        )
    by = "NODE_EXTRA_CA_CERTS" if extra else "NODE_EXTRA_CA_CERTS, which `reasoning-fix exec` and `env` set"
    return ok(check, f"{version} trusts it by {by}")


_ENVIRONMENT = 'start programs by `reasoning-fix exec`, or `eval "$(reasoning-fix env)"` in this shell'


def by_platform(trusted: bool | None, needed: bool) -> Finding:
    """`trusted` is None if it cannot be found out; `needed` where the system proxy points here."""
    check = "trust: platform"
    if trusted:
        return ok(check, "this platform's store has it")
    if needed:
        return fail(
            check, "programs of this desktop are sent here and do not trust it", "`reasoning-fix ca install`"
        )
    if trusted is None:
        return skip(check, "this platform's store cannot be asked")
    return skip(check, "not in its store; only programs that are not started by `exec` need that")


def platform_trusts(
    platform: str, authority: Authority, certificate: Path, run: Run, stores: Sequence[str] = SYSTEM_BUNDLES
) -> bool | None:
    """Whether the platform's own store has the CA; None if it cannot be asked."""
    if platform == "darwin":
        return run(("security", "verify-cert", "-c", str(certificate), "-p", "basic", "-l", "-L")).code == 0
    if platform == "win32":
        sha1 = authority.root.fingerprint(SHA1()).hex()
        asked = (run(("certutil", *where, "-store", "Root", sha1)) for where in (("-user",), ()))
        return any(ended.code == 0 for ended in asked)
    found = [certificates_in(Path(store)) for store in stores]
    if all(isinstance(content, str) for content in found):
        return None
    return any(der(authority.root) in content for content in found if not isinstance(content, str))


class Specimen(msgspec.Struct, frozen=True):
    """A server's certificate chain and its key, as files."""

    chain: Path
    key: Path


@contextlib.contextmanager
def specimen(authority: Authority, host: str) -> Iterator[Specimen]:
    """A certificate for a host as mitmproxy makes it, with the CA's own key; its file is gone afterwards."""
    leaf = certs.dummy_cert(authority.key, authority.signer, host, [x509.DNSName(host)])
    between = [entry for entry in authority.chain if entry.subject != entry.issuer]
    with tempfile.TemporaryDirectory(prefix="reasoning-fix-") as folder:
        chain = Path(folder, "chain.pem")
        chain.write_bytes(leaf.to_pem() + b"".join(entry.public_bytes(Encoding.PEM) for entry in between))
        yield Specimen(chain, authority.confdir / KEY_FILE)


def trusted_by_openssl(files: Specimen, host: str, trust: ssl.SSLContext) -> bool | str:
    """A handshake in memory: True, or why the client refuses."""
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(files.chain, files.key)
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trust.wrap_bio(to_client, to_server, server_hostname=host)
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(10):
        try:
            client.do_handshake()
            return True
        except ssl.SSLWantReadError:
            with contextlib.suppress(ssl.SSLWantReadError):
                server.do_handshake()
        except ssl.SSLError as error:
            return getattr(error, "verify_message", "") or str(error)
    return "the handshake does not end"


_NODE_PROGRAM = """
const fs = require("fs"), tls = require("tls");
const [chain, key, servername] = process.argv.slice(1);
const options = {cert: fs.readFileSync(chain), key: fs.readFileSync(key)};
const server = tls.createServer(options, (socket) => socket.end());
server.on("tlsClientError", () => {});
server.listen(0, "127.0.0.1", () => {
  const client = tls.connect({port: server.address().port, host: "127.0.0.1", servername});
  client.on("secureConnect", () => process.exit(0));
  client.on("error", (error) => { console.error(error.code || error.message); process.exit(1); });
});
"""


def trusted_by_node(node: str, files: Specimen, host: str, run: Run) -> bool | str:
    """Node connects to itself: True, or why it refuses. `run` gives it the environment."""
    ended: Done = run((node, "-e", _NODE_PROGRAM, str(files.chain), str(files.key), host))
    return True if ended.code == 0 else ended.complaint.splitlines()[0]


def certificates_in(path: Path) -> set[bytes] | str:
    """The certificates of a PEM file in DER form, or why there are none."""
    try:
        return set(certificates(path.read_bytes())) or "it holds no certificate"
    except OSError as error:
        return error.strerror or str(error)


def der(certificate: x509.Certificate) -> bytes:
    """What a trust store holds of it."""
    return certificate.public_bytes(Encoding.DER)


def _leads_to(root: x509.Certificate, signer: x509.Certificate, chain: Sequence[x509.Certificate]) -> bool:
    """Whether the signer is the root, or was signed by it, over any of the chain."""
    for _ in range(len(chain) + 1):
        if signer == root:
            return True
        issuers = [entry for entry in (*chain, root) if entry.subject == signer.issuer and entry != signer]
        if not issuers:
            return False
        try:
            signer.verify_directly_issued_by(issuers[0])
        except (InvalidSignature, ValueError, TypeError):
            return False
        signer = issuers[0]
    return False
