"""CAs of every kind, made on the spot: as the proxy's should be, and wrong in one way each."""

import datetime
from collections.abc import Sequence
from pathlib import Path

import certifi
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

DAY = datetime.timedelta(days=1)


def make_authority(
    folder: Path,
    hosts: Sequence[str] | None,
    start: datetime.timedelta = -DAY,
    end: datetime.timedelta = 365 * DAY,
    intermediate: bool = False,
    critical: bool = True,
) -> None:
    """The confdir's files. `hosts` None leaves the name constraints out; times count from now.

    With `intermediate`, the root signs another CA, which signs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    root_key = ec.generate_private_key(ec.SECP256R1())
    root = _certificate("root", root_key, None, root_key, hosts, start, end, critical)
    key, chain = root_key, [root]
    if intermediate:
        key = ec.generate_private_key(ec.SECP256R1())
        chain = [_certificate("signer", key, root, root_key, hosts, start, end, critical), root]
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    texts = [certificate.public_bytes(Encoding.PEM) for certificate in chain]
    (folder / "mitmproxy-ca.pem").write_bytes(secret + b"".join(texts))
    (folder / "mitmproxy-ca.pem").chmod(0o600)
    (folder / "mitmproxy-ca-cert.pem").write_bytes(texts[-1])
    public = Path(certifi.where()).read_bytes()
    (folder / "reasoning-fix-bundle.pem").write_bytes(public + b"\n" + texts[-1])


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Certificate | None,
    issuer_key: ec.EllipticCurvePrivateKey,
    hosts: Sequence[str] | None,
    start: datetime.timedelta,
    end: datetime.timedelta,
    critical: bool,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"reasoning-fix test {name}")])
    now = datetime.datetime.now(datetime.UTC)
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    issuer_public = issuer_key.public_key()
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + start)
        .not_valid_after(now + end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_public), critical=False)
    )
    if hosts is not None:
        permitted = [x509.DNSName(host.removeprefix("*.")) for host in hosts]
        builder = builder.add_extension(x509.NameConstraints(permitted, None), critical=critical)
    return builder.sign(issuer_key, SHA256())
