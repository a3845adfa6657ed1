"""A headless Chromium on loopback, driven over its DevTools protocol with the web socket that mitmweb brings.

Protocol: https://chromedevtools.github.io/devtools-protocol/. Every name but loopback fails to resolve, so no
page reaches the network.
"""

import asyncio
import base64
import itertools
import json
import os
import shutil
import signal
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

from tornado.websocket import WebSocketClientConnection, websocket_connect

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--window-size=1500,1100",
    "--remote-debugging-port=0",
)
_START_SECONDS = 30.0


def find_chromium() -> str | None:
    """The path of a Chromium on this machine: $CHROMIUM, or one on PATH."""
    return os.environ.get("CHROMIUM") or next(
        (found for name in _NAMES if (found := shutil.which(name))), None
    )


async def _connected(url: str) -> WebSocketClientConnection:
    return await websocket_connect(url, max_message_size=64 * 1024 * 1024)


class Browser:
    """One Chromium with one page. `folder` is its own; nothing of another profile is touched."""

    def __init__(self, program: str, folder: Path) -> None:
        self._loop = asyncio.new_event_loop()
        self._ids = itertools.count(1)
        profile = folder / "profile"
        command = [program, *_FLAGS, f"--user-data-dir={profile}", "about:blank"]
        environment = os.environ | {"HOME": str(folder)}
        with (folder / "chromium.log").open("wb") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, env=environment, start_new_session=True
            )
        try:
            port = self._port(profile / "DevToolsActivePort")
            self._socket = self._loop.run_until_complete(_connected(self._page(port)))
        except BaseException:
            self._kill()
            raise

    def _port(self, path: Path) -> int:
        end = time.monotonic() + _START_SECONDS
        while time.monotonic() < end:
            lines = path.read_text().splitlines() if path.exists() else []
            if len(lines) > 1:
                return int(lines[0])
            assert self._process.poll() is None, "Chromium ended at once"
            time.sleep(0.05)
        raise AssertionError(f"Chromium was not ready within {_START_SECONDS} s")

    def _page(self, port: int) -> str:
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(f"http://127.0.0.1:{port}/json/list", timeout=10) as answer:
            pages = [page for page in json.load(answer) if page["type"] == "page"]
        return str(pages[0]["webSocketDebuggerUrl"])

    def _ask(self, method: str, **parameters: object) -> Any:
        return self._loop.run_until_complete(asyncio.wait_for(self._answer(method, parameters), 20))

    async def _answer(self, method: str, parameters: dict[str, object]) -> Any:
        number = next(self._ids)
        await self._socket.write_message(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = await self._socket.read_message()
            assert message is not None, "Chromium closed the connection"
            answer = json.loads(message)
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]

    def open(self, url: str) -> None:
        self._ask("Page.navigate", url=url)

    def size(self, width: int, height: int) -> None:
        """A window of so many pixels, as of a phone or a screen."""
        sizes = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self._ask("Emulation.setDeviceMetricsOverride", **sizes)

    def show_as(self, scheme: str) -> None:
        """The person prefers a "light" or a "dark" page."""
        self._ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression in the page."""
        result = self._ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait_for(self, text: str, where: str = "body", seconds: float = 15.0) -> str:
        """The visible text of an element, as soon as `text` is in it."""
        end = time.monotonic() + seconds
        while True:
            seen = str(self.run(f"document.querySelector({json.dumps(where)})?.innerText ?? ''"))
            if text in seen:
                return seen
            assert time.monotonic() < end, f"no {text!r} in {where} within {seconds} s, but:\n{seen}"
            time.sleep(0.05)

    def click(self, script: str) -> None:
        """Click on the element that a JavaScript expression gives."""
        assert self.run(f"(() => {{ const e = {script}; e?.click(); return !!e; }})()"), (
            f"nothing at {script}"
        )

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self._ask("Page.captureScreenshot")["data"]))

    def close(self) -> None:
        try:
            self._loop.run_until_complete(self._hang_up())
            self._loop.close()
        finally:
            self._kill()

    async def _hang_up(self) -> None:
        self._socket.close()

    def _kill(self) -> None:
        # A session of its own: the group is this Chromium and its children, and nothing else.
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGTERM)
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(5)
