"""What README says is so: its tables have a source, its paths exist, and its first part is short."""

import re
from pathlib import Path

import pytest

from reasoning_fix.cli import COMMANDS
from reasoning_fix.providers.table import load_table
from reasoning_fix.proxy import options
from tests import ROOT

README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "certs.md", *sorted((ROOT / ".github").glob("*.md"))]
MOST_WORDS = 2000


def table(heading: str) -> list[list[str]]:
    """The rows of the first table under a heading, without its head."""
    part = README.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = [line.strip("|").split("|") for line in part.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def test_the_first_part_is_short() -> None:
    assert len(README.partition("\n# Reference\n")[0].split()) < MOST_WORDS


def test_every_command_is_named() -> None:
    named = [re.findall(r"`([\w-]+)`", row[0])[0] for row in table("Commands")]
    assert named == list(COMMANDS)


def test_every_option_is_named_with_its_default() -> None:
    written = {row[0].strip("`"): row[1] for row in table("Options")}
    ours = {name: default for name, _, default, _ in options._OPTIONS}
    assert set(written) == set(ours) | {"reasoning_reverse_secret"}
    for name, default in ours.items():
        if default not in ("", False):
            assert written[name] == f"`{default}`"


def test_every_provider_is_named_and_no_other() -> None:
    known = load_table()
    rows = table("Providers")
    written = set()
    for row in rows:
        for name in re.findall(r"[\w-]+(?:\{[\w,]+\})?(?:\.[\w-]+)+", row[0]):
            head, brace, tail = name.partition("{")
            inside, _, end = tail.partition("}")
            written |= {f"{head}{one}{end}" for one in inside.split(",")} if brace else {name}
    assert written and written <= set(known.hosts())
    titles = " ".join(row[0] for row in rows).lower()
    for host in known.hosts():
        provider = known.provider(host)
        assert provider is not None
        words = re.findall(r"[a-z]{4,}", f"{provider.name} {provider.title}".lower())
        assert host in written or any(word in titles for word in words), host


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_exists(page: Path) -> None:
    text = page.read_text()
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if "://" not in target:
            assert (page.parent / target).exists(), target
    for path in re.findall(r"`((?:reasoning_fix|tests|scripts)/[\w./-]+)`", text):
        assert (ROOT / path).exists(), path


def test_the_picture_is_small_and_is_text() -> None:
    picture = (ROOT / ".github" / "demo.svg").read_text()
    assert len(picture) < 100_000
    assert "<script" not in picture and "href" not in picture and "<text" in picture
