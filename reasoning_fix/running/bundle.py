"""The bundle for a program: the public CAs, ours, the machine's, and those the person named before us.

Variables such as SSL_CERT_FILE replace a program's trust store. Whoever set one before us did so for a reason
(a company's CA), and without one the program used the machine's store, which may hold such a CA too; so both
are joined to ours. The file is named after its content: shells with different variables do not fight over it.
"""

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import certifi

from reasoning_fix.environment import store_files
from reasoning_fix.trust.authority import Authority

# Debian and Arch, Fedora, SUSE, Alpine and macOS: the first that is there. https://go.dev/src/crypto/x509/root_linux.go
MACHINE_STORES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----\s.*?-----END CERTIFICATE-----", re.DOTALL)


def for_program(authority: Authority, person: Mapping[str, str]) -> Path:
    """The authority's bundle, or one beside it that holds the person's and the machine's CAs too."""
    machine = next((Path(path) for path in MACHINE_STORES if Path(path).is_file()), None)
    files = [*store_files(person), *([machine] if machine is not None else [])]
    return _joined(authority.bundle, files, authority.bundle)


def of_person(person: Mapping[str, str], directory: Path) -> Path | None:
    """The public CAs and those of the person's own variables: what the proxy itself trusts.

    None: the person names none."""
    files = store_files(person)
    base = Path(certifi.where())
    joined = _joined(base, files, directory / "upstream-bundle.pem")
    return None if joined == base else joined


def _joined(base: Path, files: Iterable[Path], like: Path) -> Path:
    """The base itself where the files add nothing; else a file named after `like` and the content."""
    start = _read(base)
    have = {_body(block) for block in _CERTIFICATE.findall(start)}
    added = []
    for file in files:
        for block in _CERTIFICATE.findall(_read(file)):
            if (body := _body(block)) not in have:
                have.add(body)
                added.append(block)
    if not added:
        return base
    content = start.rstrip(b"\n") + b"\n" + b"\n".join(added) + b"\n"
    path = like.with_name(f"{like.stem}-{hashlib.sha256(content).hexdigest()[:12]}.pem")
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f"{path.name}.{os.getpid()}")
        unfinished.write_bytes(content)
        unfinished.replace(path)  # running programs read it
    return path


def _read(path: Path) -> bytes:
    """A file that cannot be read adds nothing: the program could not have read it either."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _body(block: bytes) -> bytes:
    return b"".join(block.split())
