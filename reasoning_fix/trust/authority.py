"""The CA in a directory, and the bundle of the public CAs with it."""

import os
from collections.abc import Iterable
from pathlib import Path

import certifi
import msgspec
from mitmproxy.certs import CertStore


class Authority(msgspec.Struct, frozen=True):
    """`certificate` is the CA's own; `bundle` holds the public CAs and this one. Both are PEM files."""

    certificate: Path
    bundle: Path


def ensure(directory: Path, hosts: Iterable[str]) -> Authority:
    """The CA of this directory, made where there is none; the bundle is written where it is out of date."""
    store = CertStore.from_store(directory, "mitmproxy", 2048)
    certificate, bundle = directory / "mitmproxy-ca-cert.pem", directory / "reasoning-fix-bundle.pem"
    content = Path(certifi.where()).read_bytes() + b"\n" + store.default_ca.to_pem()
    if not bundle.exists() or bundle.read_bytes() != content:
        unfinished = bundle.with_name(f"{bundle.name}.{os.getpid()}")
        unfinished.write_bytes(content)
        unfinished.replace(bundle)
    return Authority(certificate, bundle)
