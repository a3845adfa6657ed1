"""How the house is laid out: what may import what, and that the tests mirror it."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import reasoning_fix
from tests import ROOT, TESTS

PACKAGE = ROOT / "reasoning_fix"
# From the ground up: a floor knows those before it only.
FLOORS = (
    ("streams", "store"),
    ("providers",),
    ("dialects",),
    ("engine",),
    ("machine",),
    ("proxy", "services"),
    ("captures",),
    ("addon",),
    ("running",),
    ("diagnosis",),
    ("cli",),
    ("__main__",),
)
# Rooms that must be of use where there is no mitmproxy.
WITHOUT_MITMPROXY = ("streams", "store", "providers", "dialects", "engine")
MOST_AT_THE_TOP = 16
# Folders of the tests that mirror no package: whole programs, the simulator, the scripts, data.
OF_THEIR_OWN = ("end_to_end", "provider", "scripts", "samples")


def modules() -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path, ast.parse(path.read_text())


def imported(tree: ast.Module) -> Iterator[str]:
    """What a module imports, by full name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def floor_of(room: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if room in rooms)


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def test_imports_point_inward() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path, tree in modules()
        for name in imported(tree)
        if name.startswith("reasoning_fix.")
        and (room := name.split(".")[1]) not in ("__version__", room_of(path))
        and (PACKAGE / room).exists()
        and room_of(path) != "__init__"  # which hands names on
        and floor_of(room) >= floor_of(room_of(path))
    ]
    assert not wrong


def test_the_engine_knows_no_mitmproxy() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path, tree in modules()
        for name in imported(tree)
        if name.split(".")[0] == "mitmproxy" and room_of(path) in WITHOUT_MITMPROXY
    ]
    assert not wrong


def test_a_person_can_take_in_the_top_at_a_glance() -> None:
    there = [path.name for path in PACKAGE.iterdir() if path.is_file() or (path / "__init__.py").exists()]
    assert len(there) <= MOST_AT_THE_TOP, there


@pytest.mark.parametrize("folder", [p for p in sorted(TESTS.rglob("*")) if (p / "__init__.py").exists()])
def test_the_tests_mirror_the_house(folder: Path) -> None:
    """A test file is named after the room that it tests, or after one and what about it."""
    inside = folder.relative_to(TESTS)
    if inside.parts[0] in OF_THEIR_OWN:
        return
    mirrored = PACKAGE / inside
    assert mirrored.is_dir()
    rooms = {folder.name} | {path.stem for path in mirrored.iterdir()}
    for path in folder.glob("test_*.py"):
        subject = path.stem.removeprefix("test_")
        assert any(subject == room or subject.startswith(f"{room}_") for room in rooms), path


def test_every_package_has_tests() -> None:
    packages = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert packages == {path.name for path in TESTS.iterdir() if path.is_dir()} & packages


def test_errors_have_one_root_that_draws_them_all() -> None:
    tree = reasoning_fix.ReasoningFixError.__doc__ or ""
    found = {
        node.name
        for _, module in modules()
        for node in ast.walk(module)
        if isinstance(node, ast.ClassDef)
        and any(
            isinstance(base, ast.Name) and base.id.endswith(("Error", "Exception")) for base in node.bases
        )
    }
    inside = {"Contradiction"}  # which never leaves the engine
    assert {name for name in found - inside if not re.search(rf"\b{name}\b", tree)} == set()
