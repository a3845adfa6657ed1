"""Files that appear whole or not at all, and that by default only their owner may read."""

import os
import tempfile
from pathlib import Path


def replace(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Write a file in place of what is there. Raises OSError, and then leaves nothing behind."""
    draft = _draft(path, content, mode)
    try:
        draft.replace(path)
    except OSError:
        draft.unlink()
        raise


def create(path: Path, content: bytes, mode: int = 0o600) -> bool:
    """Write a file; False, and nothing is written, if there is one already. Raises OSError."""
    draft = _draft(path, content, mode)
    try:
        os.link(draft, path)
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links: still never over another file, but not in one step
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        except FileExistsError:
            return False
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
    finally:
        draft.unlink()
    return True


def _draft(path: Path, content: bytes, mode: int) -> Path:
    """The content under another name beside `path`, on the disk and not yet readable by anybody else."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    draft = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if mode != 0o600:
            draft.chmod(mode)
    except BaseException:
        draft.unlink()
        raise
    return draft
