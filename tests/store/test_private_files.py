"""Private files: whole, never over another by `create`, and nothing left behind where it fails."""

import os
import stat
from pathlib import Path

import pytest

from reasoning_fix.store import private_files


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_replaces_the_one_before_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content in (b"one", b"two"):
        private_files.replace(path, content)
        assert path.read_bytes() == content
    assert names(tmp_path) == ["file"]


def test_only_its_owner_reads_it_unless_a_mode_says_so(tmp_path: Path) -> None:
    private_files.replace(tmp_path / "private", b"")
    private_files.place(tmp_path / "public", b"", 0o644)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("private", "public")]
    assert modes == [0o600, 0o644]


@pytest.mark.parametrize("has_links", [True, False])
def test_a_file_is_never_created_over_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_links: bool
) -> None:
    def link(*_: object) -> None:
        raise PermissionError

    if not has_links:
        monkeypatch.setattr(os, "link", link)
    path = tmp_path / "file"
    assert private_files.place(path, b"one")
    assert not private_files.place(path, b"two")
    assert path.read_bytes() == b"one" and names(tmp_path) == ["file"]


def test_nothing_is_left_behind_where_it_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "folder" / "inside").mkdir(parents=True)
    with pytest.raises(OSError):
        private_files.replace(tmp_path / "folder", b"")
    assert names(tmp_path) == ["folder"]
