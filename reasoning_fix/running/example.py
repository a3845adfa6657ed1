"""An example of a provider, on this machine: it thinks, calls a tool, and wants its reasoning back.

It speaks TLS for one host with a certificate of a CA of its own, and knows one conversation. What it demands
and how it says so is DeepSeek's way: https://api-docs.deepseek.com/guides/thinking_mode.
"""

import http.server
import ssl
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from mitmproxy.certs import CertStore

HOST = "api.deepseek.com"
PATH = "/chat/completions"
MODEL = "deepseek-v4-pro"
REFUSAL = "The `reasoning_content` in the thinking mode must be passed back to the API."
THOUGHTS = ("The user wants the weather in Zürich: call the tool.", "21 °C and dry, so no umbrella.")
CALL: dict[str, Any] = {
    "id": "call_00_9V0vrf86Pc9aelHCJMZqnJBo",
    "type": "function",
    "function": {"name": "get_weather", "arguments": '{"city": "Zürich"}'},
}
ANSWER = "21 °C and dry. Leave the umbrella."


class Example:
    """The provider, from its making on; `ca` is the certificate that its clients must trust.

    `received` are the messages of each request that it answered.
    """

    def __init__(self, folder: Path) -> None:
        store = CertStore.from_store(folder, "example", 2048)
        made = store.get_cert(HOST, [x509.DNSName(HOST)])
        self.ca = folder / "example-ca-cert.pem"
        chain = folder / "example.pem"
        chain.write_bytes(_private(made.privatekey) + made.cert.to_pem())
        self.received: list[list[dict[str, Any]]] = []
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain)
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, name="example provider", daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        received = self.received

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                messages = msgspec.json.decode(body)["messages"]
                refusal = refused(messages)
                if not refusal:
                    received.append(messages)
                said = msgspec.json.encode(refusal or answered(messages))
                self.send_response(400 if refusal else 200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

            def log_message(self, *_: object) -> None:
                """It says nothing on the terminal."""

        return Handler


def refused(messages: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The body of the refusal, if a turn comes back without its reasoning."""
    if all(message.get("reasoning_content") for message in messages if message["role"] == "assistant"):
        return None
    error = {
        "message": REFUSAL,
        "type": "invalid_request_error",
        "param": None,
        "code": "invalid_request_error",
    }
    return {"error": error}


def answered(messages: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A tool call first, and an answer when its result is there."""
    is_first = not any(message["role"] == "assistant" for message in messages)
    message: dict[str, Any] = {"role": "assistant", "content": "" if is_first else ANSWER}
    message["reasoning_content"] = THOUGHTS[0] if is_first else THOUGHTS[1]
    if is_first:
        message["tool_calls"] = [CALL]
    reason = "tool_calls" if is_first else "stop"
    choice = {"index": 0, "message": message, "finish_reason": reason}
    usage = {"prompt_tokens": 64, "completion_tokens": 16, "total_tokens": 80}
    return {"id": "example", "object": "chat.completion", "model": MODEL, "choices": [choice], "usage": usage}


def _private(key: Any) -> bytes:
    made: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    return made
