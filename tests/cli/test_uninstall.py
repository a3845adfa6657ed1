"""`reasoning-fix uninstall`: what it takes back, what it leaves, and that it says so."""

from pathlib import Path

import pytest

from tests.console import Command, Home, free_ports
from tests.provider.simulator import Simulator


@pytest.fixture
def home(provider: Simulator, tmp_path: Path) -> Home:
    """A home in which a proxy has run."""
    home = Home(tmp_path, provider)
    (port,) = free_ports(1)
    running = Command(home, "run", "--listen-port", str(port))
    running.wait_for("is ready")
    running.stop()
    return home


def files(home: Home) -> set[Path]:
    return {path for path in home.folder.rglob("*") if path.is_file() and "reasoning-fix" in str(path)}


def test_a_dry_run_changes_nothing(home: Home) -> None:
    before = files(home)
    ended = home.run("uninstall", "--data", "--dry-run")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "These files would go" in ended.stdout and "~/.config/reasoning-fix" in ended.stdout
    assert files(home) == before


def test_the_data_is_left_unless_it_is_to_go(home: Home) -> None:
    before = files(home)
    ended = home.run("uninstall")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "These files are left" in ended.stdout and "uninstall --data" in ended.stdout
    assert files(home) == before
    ended = home.run("uninstall", "--data")
    assert ended.returncode == 0 and "Deleted" in ended.stdout
    assert not files(home)
    assert "No files are left" in home.run("uninstall").stdout


def test_nothing_is_deleted_under_a_proxy_that_runs(home: Home) -> None:
    (port,) = free_ports(1)
    running = Command(home, "run", "--listen-port", str(port))
    running.wait_for("is ready")
    before = {path.name for path in files(home)}
    ended = home.run("uninstall", "--data", "--port", str(port))
    assert ended.returncode == 1 and "end it first" in ended.stdout
    assert {path.name for path in files(home)} >= before - {"turns.sqlite3-wal", "turns.sqlite3-shm"}
    running.stop()


def test_the_ca_stays_while_something_may_trust_it(home: Home) -> None:
    """Without its certificate nobody could take the trust back."""
    programs = home.folder / "bin"
    programs.mkdir()
    database = home.folder / ".pki" / "nssdb"
    database.mkdir(parents=True)
    (database / "cert9.db").touch()
    certutil = programs / "certutil"
    # One that has the CA and does not let go of it.
    certutil.write_text('#!/bin/sh\ncase "$*" in *-D*) exit 1;; esac\ncat $CA\n')
    certutil.chmod(0o755)
    ended = home.run("uninstall", "--data", PATH=f"{programs}:/usr/bin:/bin", CA=str(home.ca))
    assert ended.returncode == 1 and "since not all was taken back" in ended.stdout, ended.stdout
    assert home.ca.exists()
