"""Scopes and sealing: what one credential may see, and only it.

A scope's id and keys come from HKDF (RFC 5869) over the credential and a random secret of this installation,
so the store holds no credential, and without it nothing can be opened. Content is compressed and sealed with
AES-256-GCM under the scope's key, bound to its record.
"""

import base64
import hashlib
import logging
import os
import re
import zlib
from collections import OrderedDict
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from reasoning_fix import ReasoningFixError
from reasoning_fix.store import StoreError, private_files

logger = logging.getLogger(__name__)

SECRET_BYTES = 32
_NONCE_BYTES = 12
_SCOPES_KEPT = 256
# Most thoughts are shorter; opening one of them takes ten times as long where it is compressed.
_WORTH_COMPRESSING = 4096
_MAX_OPENED = 64 * 1024 * 1024
_JWT = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]+")
_PLAIN, _DEFLATED = b"\0", b"\1"


class SealError(ReasoningFixError, ValueError):
    """Sealed content was made by another scope, for another record, or was changed."""


class Scope:
    """What one credential may see. `id` is 16 bytes, `fingerprint_key` 32."""

    def __init__(self, scope_id: bytes, fingerprint_key: bytes, sealing_key: bytes) -> None:
        self.id = scope_id
        self.fingerprint_key = fingerprint_key
        self._cipher = AESGCM(sealing_key)

    def seal(self, plain: bytes, key: bytes) -> bytes:
        """Compress and encrypt, bound to the record with this key."""
        flag = _PLAIN
        if len(plain) > _WORTH_COMPRESSING:
            packed = zlib.compress(plain, 1)
            if len(packed) < len(plain):
                flag, plain = _DEFLATED, packed
        nonce = os.urandom(_NONCE_BYTES)
        return flag + nonce + self._cipher.encrypt(nonce, plain, flag + key)

    def open(self, sealed: bytes, key: bytes) -> bytes:
        """Undo `seal`. Raises SealError."""
        flag, nonce = sealed[:1], sealed[1 : 1 + _NONCE_BYTES]
        try:
            plain = self._cipher.decrypt(nonce, sealed[1 + _NONCE_BYTES :], flag + key)
            if flag == _DEFLATED:
                opener = zlib.decompressobj()
                plain = opener.decompress(plain, _MAX_OPENED)
                if not opener.eof:
                    raise SealError(f"sealed content is longer than {_MAX_OPENED} bytes")
        except SealError:
            raise
        except (InvalidTag, ValueError, zlib.error) as error:
            raise SealError(f"sealed content cannot be opened ({type(error).__name__})") from None
        return plain


class Installation:
    """The random secret of this installation, and the scopes that come from it."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._scopes: OrderedDict[bytes, Scope] = OrderedDict()

    def scope(self, credential: str) -> Scope:
        """The scope of a credential (about 20 microseconds the first time, then from memory)."""
        name = hashlib.sha256(self._secret + lasting(credential)).digest()
        scope = self._scopes.get(name)
        if scope is None:
            hkdf = HKDF(SHA256(), 80, salt=self._secret, info=b"reasoning-fix scope 1")
            material = hkdf.derive(lasting(credential))
            scope = self._scopes[name] = Scope(material[:16], material[16:48], material[48:])
            if len(self._scopes) > _SCOPES_KEPT:
                self._scopes.popitem(last=False)
        else:
            self._scopes.move_to_end(name)
        return scope


def load_secret(directory: Path) -> bytes:
    """Read the secret of an installation from `directory`, or make it. Several processes may do so at once.

    Raises StoreError for a secret that is damaged: what it sealed can no longer be read.
    """
    path = directory / "secret"
    try:
        if not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            private_files.place(path, os.urandom(SECRET_BYTES))
        secret = path.read_bytes()
    except OSError as error:
        logger.warning(
            "The secret %s cannot be read or written (%s): turns are kept only while the proxy runs.",
            path,
            error.strerror or error,
        )
        return os.urandom(SECRET_BYTES)
    if len(secret) != SECRET_BYTES:
        raise StoreError(
            f"{path} holds {len(secret)} bytes where {SECRET_BYTES} are expected; "
            "delete it together with the store beside it to begin anew."
        )
    return secret


def lasting(credential: str) -> bytes:
    """The part of a credential that stays: JWTs are renewed, their issuer and subject are not.

    Only what is a JWT in all its parts (RFC 7519, RFC 7515) is read as one: a string that merely holds a
    payload must not reach the scope of the person named there.
    """
    if jwt := _JWT.fullmatch(credential):
        try:
            decoded = (base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in jwt.groups())
            header, claims = map(msgspec.json.decode, decoded)
        except (msgspec.MsgspecError, ValueError):
            header = claims = None
        if isinstance(header, dict) and isinstance(claims, dict):
            issuer, subject = claims.get("iss"), claims.get("sub")
            if isinstance(subject, str) and subject and isinstance(issuer, str | None):
                return b"jwt" + msgspec.msgpack.encode([issuer, subject])
    return b"key" + credential.encode("utf-8", "surrogatepass")
