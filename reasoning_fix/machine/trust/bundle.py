"""The bundle: every CA that programs here trust already, and ours.

Variables like SSL_CERT_FILE replace a program's trust store. So that it loses nothing, the bundle holds the
public CAs, those of this machine's own store (a company's, say) and those of a bundle that the person had set
before, each certificate once.

A person's own files are remembered in the bundle (`# from PATH`): a later start without the variable, or in a
shell where it names our bundle, reads them again, until they are gone.
"""

import base64
import contextlib
import re
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path

import certifi

from reasoning_fix.machine.environment import table
from reasoning_fix.store import private_files

# Variables by which a person may have given programs further CAs.
VARIABLES = tuple(row.name for row in table() if row.effect)
# Where systems keep their own bundle (the list of Go's crypto/x509, root_linux.go and root_bsd.go).
SYSTEM_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/usr/local/etc/ssl/cert.pem",
    "/usr/local/share/certs/ca-root-nss.crt",
)
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----\s+([A-Za-z0-9+/=\s]+?)-----END CERTIFICATE-----")
_FROM = "# from "
# A bundle or certificate of this or another proxy folder, and the certifi of this or another environment.
_NOT_PERSONAL = ("reasoning-fix-bundle.pem", "mitmproxy-ca-cert.pem", "cacert.pem")


def write(path: Path, own: str, environment: Mapping[str, str]) -> None:
    """Write the bundle with our certificate (PEM text), renamed into place: running programs read it."""
    content = _content(path, own, environment)
    if path.is_file() and path.read_bytes() == content:
        return
    private_files.replace(path, content, 0o644, syncs=False)


def holds(content: bytes, pem: str) -> bool:
    """Whether a bundle holds this certificate, however its lines are broken."""
    return not set(certificates(pem.encode())).isdisjoint(certificates(content))


def _content(path: Path, own: str, environment: Mapping[str, str]) -> bytes:
    sources = [Path(certifi.where()), *_system(), *_personal(path, environment)]
    seen = set(certificates(own.encode()))
    parts = []
    for source in sources:
        blocks = []
        with contextlib.suppress(OSError):
            for certificate in certificates(source.read_bytes()):
                if certificate not in seen:
                    seen.add(certificate)
                    blocks.append(ssl.DER_cert_to_PEM_cert(certificate))
        # A personal file stays remembered though another has all of it.
        parts.append(f"{_FROM}{source}\n{''.join(blocks)}")
    parts.append(f"# reasoning-fix\n{own}")
    return "\n".join(parts).encode()


def _system() -> list[Path]:
    return [path for path in map(Path, SYSTEM_BUNDLES) if path.is_file()][:1]


def _personal(bundle: Path, environment: Mapping[str, str]) -> list[Path]:
    """The person's files: named in the environment now, or when the bundle was written."""
    named = [Path(value) for name in VARIABLES if (value := environment.get(name))]
    if bundle.is_file():
        lines = bundle.read_text(errors="replace").splitlines()
        named += [Path(line.removeprefix(_FROM)) for line in lines if line.startswith(_FROM)]
    paths = dict.fromkeys(path.absolute() for path in named if path.is_file())
    return [path for path in paths if path.name not in _NOT_PERSONAL and path not in _system()]


def certificates(content: bytes) -> Iterator[bytes]:
    """The certificates of a PEM file in DER form."""
    for match in _CERTIFICATE.finditer(content):
        with contextlib.suppress(ValueError):
            yield base64.b64decode(match[1])
