"""Files that appear whole or not at all, and that nobody else can read before they do."""

import os
import tempfile
from pathlib import Path

PRIVATE = 0o600


def replace(path: Path, content: bytes, mode: int = PRIVATE, *, syncs: bool = True) -> None:
    """Put a file in the place of what is there, in one moment. Raises OSError.

    It `syncs` with the disk, which can take some milliseconds, so that it is whole after a power cut too.
    """
    draft = _draft(path, content, mode, syncs)
    try:
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise


def place(path: Path, content: bytes, mode: int = PRIVATE) -> bool:
    """Write a file; False, and nothing written, if there is one already. Raises OSError."""
    draft = _draft(path, content, mode, syncs=True)
    try:
        os.link(draft, path)
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links: never over another, though not in one moment
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        except FileExistsError:
            return False
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
    finally:
        draft.unlink()
    return True


def _draft(path: Path, content: bytes, mode: int, syncs: bool) -> Path:
    """The content under another name beside `path`."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    draft = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            if syncs:
                file.flush()
                os.fsync(file.fileno())
        draft.chmod(mode)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    return draft
