"""What a person sees: mitmweb in a headless Chromium, and the console in a terminal, both for real.

Without a Chromium (or tmux) these tests are skipped; `.ci/run` installs them where it can.
"""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser import Browser, find_chromium
from tests.clients import script_four_turns, through
from tests.conftest import StartProxy
from tests.console import free_ports
from tests.mitmdump import ADDON, Proxy
from tests.provider.simulator import DEEPSEEK, Simulator
from tests.proxy.test_pages import page_of

PASSWORD = "a-word-for-this-test"
ROWS = ".flow-table tbody tr[class]"


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    program = find_chromium()
    if program is None:
        pytest.skip("there is no Chromium here: install one, or name it in $CHROMIUM")
    folder = tmp_path / "chromium"
    folder.mkdir()
    with contextlib.closing(Browser(program, folder)) as browser:
        yield browser


def options(**values: object) -> list[str]:
    return [part for name, value in values.items() for part in ("--set", f"{name}={value}")]


@pytest.fixture
def web(provider: Simulator, tmp_path: Path) -> Iterator[tuple[Proxy, str]]:
    """A mitmweb with the addon, and the address of its page."""
    (port,) = free_ports(1)
    columns = [part for name in ("icon", "path", "status", "comment") for part in options(web_columns=name)]
    given = options(web_open_browser="false", web_password=PASSWORD, web_port=port)
    proxy = Proxy(provider, tmp_path / "home", *given, *columns, program="mitmweb")
    try:
        yield proxy, f"http://127.0.0.1:{port}/?token={PASSWORD}"
    finally:
        proxy.stop()


def converse(proxy: Proxy, provider: Simulator) -> None:
    """Three requests of a client that drops reasoning."""
    script_four_turns(provider)
    person = through(proxy, DEEPSEEK, "chat", "Is it dry in Zürich and in Oslo?", keeps=False)
    for _ in range(3):
        person.ask()


def show(browser: Browser, row: int, tab: str) -> None:
    browser.click(f"document.querySelectorAll('{ROWS}')[{row}]")
    browser.wait_for("Response", ".flow-detail")
    browser.click(
        f"[...document.querySelectorAll('.flow-detail nav a')].find(e => e.innerText.trim() === '{tab}')"
    )


def test_mitmweb_shows_the_conversation(
    web: tuple[Proxy, str], browser: Browser, provider: Simulator, tmp_path: Path
) -> None:
    proxy, url = web
    converse(proxy, provider)
    browser.open(url)
    # The flow list: comment and mark.
    seen = browser.wait_for("restored 2 of 2 turns: 2 by context", ".flow-table")
    assert "restored 1 of 1 turns: 1 by context" in seen
    assert seen.count("\N{ADHESIVE BANDAGE}") == 2
    # A request: the turns that were restored, by what, and the text of the conversation.
    show(browser, 2, "Request")
    seen = browser.wait_for("Chat completions request", ".contentview")
    assert "LLM chat" in seen
    assert "reasoning-fix: 2 turns: 2 restored (2 by context)" in seen
    assert seen.count("] assistant: reasoning restored by context, recorded ") == 2
    assert "+     Zürich first.\n+     Then Oslo (奥斯陆).\n" in seen
    assert '    call get_weather (call_00_a):\n      {\n        "city": "Zürich"\n      }\n' in seen
    assert "    result (call_00_a):\n      21 °C, dry\n" in seen
    browser.screenshot(tmp_path / "request.png")
    # A streamed answer, after it ended.
    show(browser, 2, "Response")
    seen = browser.wait_for("Chat completions answer, streamed in ", ".contentview")
    assert "[assistant]\n|   reasoning (reasoning_content):\n|     All dry. 好。\n    All are dry." in seen
    assert "finish: stop\n" in seen and "\nusage: " in seen
    browser.screenshot(tmp_path / "response.png")
    show(browser, 0, "Response")
    seen = browser.wait_for("finish: tool_calls", ".contentview")
    assert "|     Zürich first.\n" in seen and "    call get_weather (call_01_b):\n" in seen


class Terminal:
    """A program in a terminal of its own: a tmux server that nobody else uses."""

    def __init__(self, command: list[str], home: Path, columns: int = 140) -> None:
        self._tmux = ["tmux", "-u", "-S", str(home / "tmux"), "-f", os.devnull]
        environment = {
            "HOME": str(home),
            "PATH": os.environ["PATH"],
            "LC_ALL": "C.UTF-8",
            "TERM": "xterm-256color",
        }
        size = ["-x", str(columns), "-y", "70"]
        subprocess.run([*self._tmux, "new-session", "-d", *size, *command], env=environment, check=True)

    def press(self, key: str) -> None:
        subprocess.run([*self._tmux, "send-keys", key], check=True)

    def wait_for(self, text: str, seconds: float = 20.0) -> str:
        end = time.monotonic() + seconds
        while True:
            seen = subprocess.run([*self._tmux, "capture-pane", "-p"], capture_output=True, text=True).stdout
            if text in seen:
                return seen
            assert time.monotonic() < end, f"no {text!r} on the screen within {seconds} s, but:\n{seen}"
            time.sleep(0.1)

    def wait_for_end(self, seconds: float = 20.0) -> None:
        """Until the program, and with it its terminal, is gone."""
        end = time.monotonic() + seconds
        while subprocess.run([*self._tmux, "has-session"], capture_output=True).returncode == 0:
            assert time.monotonic() < end, f"it did not end within {seconds} s"
            time.sleep(0.1)

    def close(self) -> None:
        subprocess.run([*self._tmux, "kill-server"], capture_output=True)


@pytest.mark.skipif(shutil.which("tmux") is None, reason="there is no tmux here to hold a terminal")
def test_the_console_shows_a_saved_conversation(
    provider: Simulator, start_proxy: StartProxy, tmp_path: Path
) -> None:
    path = tmp_path / "capture.flows"
    proxy = start_proxy("-w", str(path))
    converse(proxy, provider)
    proxy.stop()
    start = "from mitmproxy.tools.main import mitmproxy; mitmproxy()"
    command = [sys.executable, "-c", start, "-n", "-s", str(ADDON), "-r", str(path)]
    with contextlib.closing(Terminal(command, tmp_path)) as terminal:
        terminal.wait_for("[1/3]")
        terminal.press("G")
        terminal.wait_for("[3/3]")
        terminal.press("Enter")
        seen = terminal.wait_for("LLM chat")
        assert "[1] assistant: reasoning restored by context, recorded " in seen
        assert "+     Zürich first.\n" in seen and "    call get_weather (call_00_a):\n" in seen
        terminal.press("Tab")
        assert "|     All dry. 好。\n" in terminal.wait_for("Chat completions answer, streamed in ")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_page_of_the_proxy_fits_every_screen(
    proxy: Proxy, browser: Browser, provider: Simulator, tmp_path: Path, dark: bool
) -> None:
    converse(proxy, provider)
    saved = tmp_path / "page.html"
    saved.write_text(page_of(proxy, "/?still"))
    browser.show_as("dark" if dark else "light")
    for width in (360, 800, 1400):
        browser.size(width, 900)
        browser.open(saved.as_uri())
        browser.wait_for("restored 2 of 2")
        assert browser.run("document.documentElement.scrollWidth") <= width
        drawn = browser.run(
            "[...document.querySelectorAll('rect')].filter(r => r.getBBox().width > 0).length"
        )
        assert drawn >= 14 + 3
        page, text = browser.run(
            "['backgroundColor', 'color'].map(n => getComputedStyle(document.documentElement)[n])"
        )
        assert (sum(colours(text)[:3]) > 380) is dark, (page, text)


def colours(style: str) -> list[float]:
    return [float(number) for number in re.findall(r"[0-9.]+", style)]


@pytest.mark.skipif(shutil.which("tmux") is None, reason="there is no tmux here to hold a terminal")
@pytest.mark.parametrize("columns", [50, 90, 150])
def test_watch_in_a_terminal(proxy: Proxy, provider: Simulator, tmp_path: Path, columns: int) -> None:
    command = [sys.executable, "-m", "reasoning_fix", "watch", "-p", str(proxy.port)]
    with contextlib.closing(Terminal(command, tmp_path, columns)) as terminal:
        terminal.wait_for("requests,")
        converse(proxy, provider)
        seen = terminal.wait_for("restored 2 of 2")
        assert "deepseek" in seen and ("delay" in seen) == (columns > 60)
        terminal.press("q")
        terminal.wait_for_end()
