"""A company's proxy: leads every CONNECT to the simulator, and remembers what it was asked."""

import contextlib
import socket
import threading


class Corporate:
    """An HTTP proxy on a free port of loopback. `asked` has each target and its credentials, in order."""

    def __init__(self, target: int) -> None:
        self.asked: list[tuple[str, str]] = []
        self.refused: set[str] = set()
        self._target = target
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._serve, name="corporate proxy", daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                threading.Thread(target=self._answer, args=(client,), daemon=True).start()

    def _answer(self, client: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(65536)
        lines = head.decode().split("\r\n")
        credentials = next((line for line in lines if line.lower().startswith("proxy-authorization:")), "")
        self.asked.append((lines[0].split()[1], credentials.partition(": ")[2]))
        if lines[0].split()[1] in self.refused:
            client.sendall(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n")
            client.close()
            return
        upstream = socket.create_connection(("127.0.0.1", self._target))
        client.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
        threading.Thread(target=self._copy, args=(upstream, client), daemon=True).start()
        self._copy(client, upstream)

    @staticmethod
    def _copy(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._server.close()
