"""`reasoning-fix watch`: what it prints, how it fits a terminal, and whom it follows."""

import itertools
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from reasoning_fix.cli.watch import follow, summary, table
from reasoning_fix.proxy.stats.counts import Line
from reasoning_fix.proxy.stats.recent import Entry, Page, Recent
from tests.clients import script_four_turns, through
from tests.console import Command, Home
from tests.mitmdump import Proxy
from tests.provider.simulator import DEEPSEEK, Simulator


def entries() -> list[Entry]:
    latest = Recent()
    for number in range(3):
        entry = latest.add(Line("", "openrouter", f"deepseek/deepseek-v4-pro-{number}", "opencode"), 1e9)
        entry.turns = entry.restored = number
        entry.is_done, entry.status, entry.prompt, entry.cached = True, 200, 100, 50
    return latest.after()


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120, 200])
def test_a_table_fits_its_terminal(width: int) -> None:
    lines = table(entries(), width)
    assert len(lines) == 4 and max(map(len, lines)) <= width
    assert lines[0].startswith("time") and ("model" in lines[0] or width < 30)
    assert ("delay" in lines[0], "client" in lines[0]) == (width >= 80, width >= 100)


def test_a_summary_of_all_of_them() -> None:
    said = "3 requests, 3 turns restored, 0 filled, 0 repaired, 50 % of prompts cached"
    assert summary(entries()) == said


def test_a_proxy_that_is_started_anew_is_followed() -> None:
    some = entries()
    anew = [Page(2, 4, []), Page(2, 4, some), Page(2, 4, [])]
    answers: Iterator[Page | str] = iter([Page(1, 9, some[:1]), "nothing listens there", *anew])
    asked: list[int] = []

    def ask(after: int) -> Page | str:
        asked.append(after)
        return next(answers)

    pages = list(itertools.islice(follow(Page(1, 7, []), ask), 5))
    assert [None if page is None else len(page.entries) for page in pages] == [0, 1, None, 3, 0]
    assert asked == [7, 9, 9, 0, 4]


def test_where_no_proxy_is(provider: Simulator, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = str(taken.getsockname()[1])
    ended = Home(tmp_path, provider).run("watch", "-p", port)
    assert (
        ended.returncode == 1 and f"127.0.0.1:{port}" in ended.stderr and "reasoning-fix run" in ended.stderr
    )


def test_lines_for_requests_as_they_are_answered(proxy: Proxy, provider: Simulator, tmp_path: Path) -> None:
    home = Home(tmp_path, provider)
    plain = Command(home, "watch", "-p", str(proxy.port))
    changes = Command(home, "watch", "--json", "-p", str(proxy.port))
    script_four_turns(provider)
    person = through(proxy, DEEPSEEK, "chat", "Is it dry, do you watch?", keeps=False)
    for _ in range(3):
        person.ask()
    plain.wait_for(r"\d\d:\d\d:\d\d  OpenAI/Python  \S+  restored 2 of 2  200")
    changes.wait_for(r'"restored":2[^\n]*"is_done":true')
    assert all(json.loads(line)["model"] for line in changes.lines)
    for command in (plain, changes):
        # Not by Ctrl-C, which a test run in the background has its children ignore.
        command.process.terminate()
        command.process.wait(15)
