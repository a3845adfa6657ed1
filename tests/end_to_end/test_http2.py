"""HTTP/2 on both sides: the same turns are recorded and restored, and chunks pass at once."""

import asyncio
import json
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
from hypercorn.asyncio import serve
from hypercorn.config import Config

from tests import SAMPLES
from tests.conversations import TOOLS, user
from tests.mitmdump import Proxy

SAMPLE = SAMPLES / "deepseek-chat-plain-usage-event.sse"
REFUSAL = (SAMPLE.parent / "errors" / "deepseek-chat-error.400.json").read_bytes()


class Http2Provider:
    """Answers every request with the sample, over HTTP/2 only; keeps the bodies it got.

    A request without reasoning in a turn with calls is refused where `strict`.
    """

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        leaf = authority.issue_cert("api.deepseek.com")
        self.ca = folder / "ca.pem"
        authority.cert_pem.write_to_path(self.ca)
        leaf.private_key_and_cert_chain_pem.write_to_path(folder / "leaf.pem")
        self.bodies: list[dict[str, Any]] = []
        self.versions: list[str] = []
        self.port = 0
        self.strict = False
        self._config = Config()
        self._config.bind = ["127.0.0.1:0"]
        self._config.certfile = self._config.keyfile = str(folder / "leaf.pem")
        self._config.alpn_protocols = ["h2"]
        self._config.errorlog = None
        self._stop = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        sockets = self._config.create_sockets()
        for one in sockets.secure_sockets:
            self.port = one.getsockname()[1]
        self._config.create_sockets = lambda: sockets  # type: ignore[method-assign]
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self._loop.run_until_complete(serve(self._app, self._config, shutdown_trigger=self._stop.wait))  # type: ignore[arg-type]

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    async def _app(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        self.bodies.append(json.loads(body))
        self.versions.append(scope["http_version"])
        if self.strict and any(m.get("reasoning_content") == " " for m in self.bodies[-1]["messages"]):
            headers = [(b"content-type", b"application/octet-stream")]
            await send({"type": "http.response.start", "status": 400, "headers": headers})
            await send({"type": "http.response.body", "body": REFUSAL})
            return
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for event in SAMPLE.read_bytes().split(b"\n\n")[:-1]:
            await send({"type": "http.response.body", "body": event + b"\n\n", "more_body": True})
        await send({"type": "http.response.body", "body": b""})


@pytest.fixture
def http2(tmp_path: Path) -> Iterator[tuple[Http2Provider, Proxy]]:
    provider = Http2Provider(tmp_path)
    proxy = Proxy(provider, tmp_path / "home")
    yield provider, proxy
    proxy.stop()
    provider.close()


def test_http2_from_end_to_end(http2: tuple[Http2Provider, Proxy]) -> None:
    provider, proxy = http2
    context = ssl.create_default_context(cafile=str(proxy.ca))
    ask = {"model": "deepseek-flash", "stream": True, "tools": TOOLS, "messages": [user("Which is greater?")]}
    answer = {"role": "assistant", "content": "9.8 is greater 👍"}
    follow = ask | {"messages": [user("Which is greater?"), answer, user("Sure?")]}
    with httpx.Client(http1=False, http2=True, proxy=proxy.url, verify=context, trust_env=False) as client:
        for body in (ask, follow):
            headers = {"authorization": "Bearer sk-one"}
            response = client.post("https://api.deepseek.com/chat/completions", json=body, headers=headers)
            assert (response.http_version, response.content) == ("HTTP/2", SAMPLE.read_bytes())
    assert provider.versions == ["2", "2"]
    assert provider.bodies[1]["messages"][1]["reasoning_content"] == "9.11 < 9.8 → 答案"


def test_a_refusal_is_repaired_over_http2(http2: tuple[Http2Provider, Proxy]) -> None:
    provider, proxy = http2
    provider.strict = True
    context = ssl.create_default_context(cafile=str(proxy.ca))
    stranger = {"role": "assistant", "content": "Hello."}
    ask = {"model": "deepseek-flash", "stream": True, "tools": TOOLS}
    body = ask | {"messages": [user("Hi"), stranger, user("Which is greater?")]}
    with httpx.Client(http1=False, http2=True, proxy=proxy.url, verify=context, trust_env=False) as client:
        headers = {"authorization": "Bearer sk-one"}
        response = client.post("https://api.deepseek.com/chat/completions", json=body, headers=headers)
    assert (response.status_code, response.content) == (200, SAMPLE.read_bytes())
    sent = [body["messages"][1]["reasoning_content"] for body in provider.bodies]
    assert sent[0] == " " and sent[1].startswith("[reasoning not on record ") and len(sent) == 2
