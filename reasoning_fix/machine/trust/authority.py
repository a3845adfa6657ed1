"""The CA that the proxy signs with: it can speak for the providers' hosts, and for no other.

Strategy: two certificates. The root is what programs trust; its key exists only while the CA is made and is
never written anywhere. It signs one signing CA, whose key mitmproxy uses. Both carry the same critical name
constraints. The root alone would not do: RFC 5280 (6.1.1) lets a verifier ignore what a trust anchor's own
certificate says, and Java does; constraints of a CA below the root bind every verifier.

Rules: a file that exists is never written over; `mitmproxy-ca.pem` is the truth and appears whole or not at
all; every other file is derived from it. A CA of someone else's making that lies there is used as it is.
"""

import datetime
import ipaddress
import os
import stat
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from mitmproxy.certs import DEFAULT_DHPARAM

from reasoning_fix import ReasoningFixError
from reasoning_fix.machine.trust import bundle
from reasoning_fix.store import private_files

type Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# mitmproxy's own names (mitmproxy/certs.py, CertStore.from_store); mitm.it serves the last three.
KEY_FILE = "mitmproxy-ca.pem"
DH_FILE = "mitmproxy-dhparam.pem"
CERTIFICATE_FILE = "mitmproxy-ca-cert.pem"
ANDROID_FILE = "mitmproxy-ca-cert.cer"
WINDOWS_FILE = "mitmproxy-ca-cert.p12"
BUNDLE_FILE = "reasoning-fix-bundle.pem"
DERIVED_FILES = (CERTIFICATE_FILE, ANDROID_FILE, WINDOWS_FILE, DH_FILE)
# mitmproxy writes the key a second time in this form, which nothing reads; here it is not made.
SECOND_KEY_FILE = "mitmproxy-ca.p12"
FORMER_PREFIX = "former-"

# Hosts that the proxy itself answers for: the health page. No public domain has this ending.
OWN_HOSTS = ("reasoning.fix",)

# The start lies back by as much as mitmproxy's leaves do (CERT_VALIDITY_OFFSET): clocks differ.
BACKDATED = datetime.timedelta(days=2)
LIFETIME = datetime.timedelta(days=5 * 365)
SOON = datetime.timedelta(days=60)
# mitmproxy signs with RSA, and its leaves carry this very key: 2048 bits, mitmproxy's default, because every
# handshake of every client pays for it.
KEY_BITS = 2048
_ALL_ADDRESSES: tuple[Network, ...] = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))


class AuthorityError(ReasoningFixError):
    """The CA cannot be made or read; the text says why and what to do."""


class Authority(msgspec.Struct, frozen=True, kw_only=True):
    """A CA as it lies in a folder.

    `permitted` holds domains (each with everything below it) and networks; it means nothing where
    `constrained` is False: such a CA can speak for every host. `fingerprint` and `sha1` are those of the
    certificate that programs trust, in capitals and without colons. `made` is True when this call made it.
    """

    directory: Path
    name: str
    subject: str
    fingerprint: str
    sha1: str
    start: datetime.datetime
    expiry: datetime.datetime
    constrained: bool
    permitted: tuple[str, ...]
    pem: str
    made: bool = False

    @property
    def key_file(self) -> Path:
        return self.directory / KEY_FILE

    @property
    def certificate(self) -> Path:
        return self.directory / CERTIFICATE_FILE

    @property
    def bundle(self) -> Path:
        return self.directory / BUNDLE_FILE

    def permits(self, host: str) -> bool:
        """Whether programs that trust this CA accept it for a host, or for all hosts of "*.example.com"."""
        return not self.constrained or permits(self.permitted, host)

    def outgrown(self, hosts: Iterable[str]) -> tuple[str, ...]:
        """The hosts of the table that this CA cannot speak for, because it is older than they are."""
        return tuple(host for host in hosts if not self.permits(host))

    def remarks(self, hosts: Iterable[str] = (), now: datetime.datetime | None = None) -> tuple[str, ...]:
        """What a person should know about this CA: one sentence each, none when all is well."""
        now = now or datetime.datetime.now(datetime.UTC)
        remarks = []
        if not self.constrained:
            remarks.append(
                f"{self.key_file} is a CA for every host, not made by reasoning-fix: it is used as it is. "
                "`reasoning-fix ca create --renew` moves it aside and makes one for the provider hosts only."
            )
        if now >= self.expiry:
            remarks.append(
                f"The CA expired on {self.expiry:%Y-%m-%d}: run `reasoning-fix ca create --renew`."
            )
        elif now >= self.expiry - SOON:
            remarks.append(
                f"The CA expires on {self.expiry:%Y-%m-%d}: run `reasoning-fix ca create --renew` before."
            )
        elif now < self.start:
            remarks.append(f"The CA is valid only from {self.start:%Y-%m-%d} on: check this machine's clock.")
        if missing := self.outgrown(hosts):
            remarks.append(
                f"The provider table has hosts that the CA does not cover: {', '.join(missing)}. Programs "
                "will refuse them until `reasoning-fix ca create --renew`."
            )
        if self.certificate.is_file() and _text(_certificates(self.certificate)[0]) != self.pem:
            remarks.append(
                f"{self.certificate} is not the certificate of {self.key_file}: programs that trust it "
                "refuse what the proxy signs. Move it away; the next start writes the right one."
            )
        if os.name == "posix" and stat.S_IMODE(self.key_file.stat().st_mode) & 0o077:
            remarks.append(f"Others can read the CA's private key: run `chmod 600 {self.key_file}`.")
        return tuple(remarks)


def ensure(directory: Path, hosts: Iterable[str], environment: Mapping[str, str] | None = None) -> Authority:
    """The CA in this folder, made for these hosts of the provider table if there is none.

    Safe in several processes at once: all return the one CA. Also writes the bundle, of the public CAs, this
    one and those that `environment` (default: this process's) names as the person's own. Raises
    AuthorityError.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        made = not (directory / KEY_FILE).exists() and _create(directory, hosts)
        authority = msgspec.structs.replace(_read(directory), made=made)
        bundle.write(authority.bundle, authority.pem, os.environ if environment is None else environment)
    except OSError as error:
        raise AuthorityError(
            f"{directory}: {error.strerror or error}; the CA has to be kept there."
        ) from error
    return authority


def load(directory: Path) -> Authority | None:
    """The CA in this folder, changing nothing; None if there is none. Raises AuthorityError."""
    return _read(directory, complete=False) if (directory / KEY_FILE).is_file() else None


def renew(directory: Path, hosts: Iterable[str], environment: Mapping[str, str] | None = None) -> Authority:
    """A new CA in place of the one in this folder, which is kept in a folder `former-...` below it.

    At no moment is there none: the old files are copied aside, then replaced. Raises AuthorityError.
    """
    try:
        now = datetime.datetime.now(datetime.UTC)
        aside = Path(tempfile.mkdtemp(prefix=f"{FORMER_PREFIX}{now:%Y%m%d-%H%M%S}-", dir=directory))
        for name in (KEY_FILE, *DERIVED_FILES):
            if (directory / name).exists():
                private_files.place(aside / name, (directory / name).read_bytes(), 0o600)
        if (directory / SECOND_KEY_FILE).exists():
            (directory / SECOND_KEY_FILE).replace(aside / SECOND_KEY_FILE)
        contents = _make(hosts, now)
        for name, content in contents.items():
            private_files.replace(directory / name, content, 0o600 if name == KEY_FILE else 0o644)
    except OSError as error:
        raise AuthorityError(f"{directory}: {error.strerror or error}; nothing was renewed.") from error
    return msgspec.structs.replace(ensure(directory, hosts, environment), made=True)


def former(directory: Path) -> tuple[Authority, ...]:
    """The CAs that `renew` moved aside, newest first: they may still be trusted somewhere."""
    found = sorted(directory.glob(f"{FORMER_PREFIX}*/{KEY_FILE}"), reverse=True)
    return tuple(_read(path.parent, complete=False) for path in found)


def subtrees(hosts: Iterable[str]) -> tuple[str, ...]:
    """Hosts of the provider table -> what a certificate must permit: domains, then networks of one address.

    A permitted domain includes everything below it, so "*.example.com" is "example.com", and what lies below
    another entry is left out.
    """
    named = {_domain(host) for host in hosts}
    networks = {str(network) for name in named if (network := _network(name)) is not None}
    domains = {name for name in named if _network(name) is None}
    kept = sorted(domain for domain in domains if domains.isdisjoint(_above(domain)))
    return (*kept, *sorted(networks))


def permits(permitted: Iterable[str], host: str) -> bool:
    """Whether a CA with these domains and networks may speak for a host, or for all of "*.example.com"."""
    domain = _domain(host)
    if (address := _network(domain)) is None:
        return any(domain == subtree or domain.endswith(f".{subtree}") for subtree in permitted)
    return any(address[0] in network for network in map(_network, permitted) if network is not None)


def permitted_by(certificate: x509.Certificate) -> tuple[str, ...] | None:
    """The domains and networks a CA may speak for; None when nothing limits its domains."""
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return None
    names = constraints.permitted_subtrees or []
    domains = tuple(name.value.removeprefix(".") for name in names if isinstance(name, x509.DNSName))
    networks = tuple(str(name.value) for name in names if isinstance(name, x509.IPAddress))
    return (*domains, *networks) if domains else None


# ---- Making ----------------------------------------------------------------------------------------------


def _create(directory: Path, hosts: Iterable[str]) -> bool:
    """Make the CA; False when another process was first."""
    for name in (CERTIFICATE_FILE, ANDROID_FILE, WINDOWS_FILE):
        if (stale := directory / name).exists() and not (directory / KEY_FILE).exists():
            raise AuthorityError(
                f"{stale} is there, but its key {KEY_FILE} is not: a new CA would need that name. "
                "Move it away (and no longer trust it), then start again."
            )
    contents = _make(hosts, datetime.datetime.now(datetime.UTC))
    return private_files.place(directory / KEY_FILE, contents[KEY_FILE], 0o600)


def _make(hosts: Iterable[str], now: datetime.datetime) -> dict[str, bytes]:
    """A new CA: name and content of each of its files."""
    permitted = subtrees((*hosts, *OWN_HOSTS))
    root_key = rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)
    key = rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)
    identity = x509.SubjectKeyIdentifier.from_public_key(root_key.public_key()).digest.hex()[:8]
    # Each CA has a name of its own: trust stores tell certificates apart by it.
    root_name, name = (
        x509.Name.from_rfc4514_string(f"O=reasoning-fix,CN=reasoning-fix {kind} {identity}")
        for kind in ("CA", "proxy CA")
    )
    root = _certificate(root_name, root_key, root_name, root_key, 1, permitted, now)
    certificate = _certificate(name, key, root_name, root_key, 0, permitted, now)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    key_file = private + (_text(certificate) + _text(root)).encode()
    return {KEY_FILE: key_file, **_derived(root)}


def _derived(root: x509.Certificate) -> dict[str, bytes]:
    """The files beside the key, which follow from it."""
    text = _text(root).encode()
    p12 = pkcs12.serialize_key_and_certificates(
        b"reasoning-fix", None, root, None, serialization.NoEncryption()
    )
    return dict(zip(DERIVED_FILES, (text, text, p12, DEFAULT_DHPARAM), strict=True))


def _certificate(
    subject: x509.Name,
    key: rsa.RSAPrivateKey,
    issuer: x509.Name,
    issuer_key: rsa.RSAPrivateKey,
    path_length: int,
    permitted: tuple[str, ...],
    now: datetime.datetime,
) -> x509.Certificate:
    usage = x509.KeyUsage(
        key_cert_sign=True,
        crl_sign=True,
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    issuers = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(own, critical=False)
        .add_extension(issuers, critical=False)
        .add_extension(_constraints(permitted), critical=True)
        .sign(issuer_key, hashes.SHA256())
    )


def _constraints(permitted: tuple[str, ...]) -> x509.NameConstraints:
    """Domains and networks -> the extension.

    Excluding beats permitting, so a family of addresses is excluded as a whole only where none of it is
    permitted; else permitting some refuses the others (RFC 5280, 4.2.1.10).
    """
    networks = [network for subtree in permitted if (network := _network(subtree)) is not None]
    domains = [subtree for subtree in permitted if _network(subtree) is None]
    versions = {network.version for network in networks}
    excluded = [network for network in _ALL_ADDRESSES if network.version not in versions]
    return x509.NameConstraints(
        permitted_subtrees=[*map(x509.DNSName, domains), *map(x509.IPAddress, networks)],
        excluded_subtrees=[x509.IPAddress(network) for network in excluded] or None,
    )


# ---- Reading ---------------------------------------------------------------------------------------------


def _read(directory: Path, complete: bool = True) -> Authority:
    """The CA of `mitmproxy-ca.pem`; `complete` writes the files that follow from it and are missing."""
    chain = _certificates(directory / KEY_FILE)
    # Programs trust the last one: a root below which there may be the one that signs.
    signing, root = chain[0], chain[-1]
    if complete:
        for name, content in _derived(root).items():
            if not (directory / name).exists():
                private_files.place(directory / name, content, 0o644)
    permitted = permitted_by(signing)
    names = root.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return Authority(
        directory=directory,
        name=str(names[0].value) if names else "mitmproxy",
        subject=root.subject.rfc4514_string(),
        fingerprint=root.fingerprint(hashes.SHA256()).hex().upper(),
        sha1=root.fingerprint(hashes.SHA1()).hex().upper(),
        start=signing.not_valid_before_utc,
        expiry=min(certificate.not_valid_after_utc for certificate in chain),
        constrained=permitted is not None,
        permitted=permitted or (),
        pem=_text(root),
    )


def _certificates(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except OSError as error:
        raise AuthorityError(f"{path}: {error.strerror or error}; it has to be readable.") from error
    except ValueError as error:
        raise AuthorityError(
            f"{path} holds no certificate ({error}). Move it away, and the next start makes a new CA."
        ) from error


def _text(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


# ---- Hosts -----------------------------------------------------------------------------------------------


def _domain(host: str) -> str:
    return host.strip().lower().removesuffix(".").removeprefix("*.")


def _above(domain: str) -> Iterable[str]:
    while "." in domain:
        domain = domain.partition(".")[2]
        yield domain


def _network(text: str) -> Network | None:
    """The network that a text names, an address by itself being one; None if it is a name."""
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        return None
