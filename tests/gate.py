"""A reverse proxy that misbehaves on command, between a browser and a server, and counts."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import NamedTuple

HELD_BYTES = 16_384


class Asked(NamedTuple):
    """A request that came, whatever became of it."""

    at: float  # time.monotonic()
    method: str
    path: str
    headers: dict[str, str]


@dataclass
class Gate:
    """Forwards each request on a connection of its own to `127.0.0.1:upstream`.

    `mode`: `pass`; `down` closes every connection, as soon as `closes` is set; `busy` answers
    streams 503; `hold` keeps a stream's bytes back until there are 16 KiB of them. With a
    `prefix` it serves the server under a base path, as a reverse proxy that strips it.
    """

    upstream: int
    mode: str = "pass"
    prefix: str = ""
    retry_after: int = 2  # seconds, where it is busy
    asked: list[Asked] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._sock = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._sock.getsockname()[1]
        self._open: list[socket.socket] = []
        self.closes = threading.Event()
        self.closes.set()
        threading.Thread(target=self._accept, daemon=True).start()

    def streams(self) -> list[Asked]:
        """The requests for a stream, in order."""
        return [one for one in self.asked if one.path.startswith(("/api/events?", "/ws?"))]

    def asked_by(self, method: str) -> list[Asked]:
        """The requests with a method for a stream, in order."""
        return [one for one in self.asked if one.method == method and "/api/events" in one.path]

    def cut(self) -> None:
        """End all connections, as when a cable is pulled and the system notices."""
        for sock in self._open:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._sock.close()
        self.cut()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._sock.accept()
                self._open.append(client)
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            head, rest = self._read_head(client)
            if not head:
                return
            first, *lines = head.split("\r\n")
            headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines)}
            if not first.split(" ")[1].startswith(self.prefix):
                return
            head = head.replace(self.prefix, "", 1)
            method, path, _ = head.split(" ", 2)
            self.asked.append(Asked(time.monotonic(), method, path, headers))
            is_stream = path.startswith(("/api/events", "/ws"))
            if self.mode == "down":
                self.closes.wait(30)
                return
            if self.mode == "busy" and is_stream:
                client.sendall(
                    f"HTTP/1.1 503 Busy\r\nRetry-After: {self.retry_after}\r\n"
                    "Content-Length: 0\r\nConnection: close\r\n\r\n".encode()
                )
                return
            self._forward(client, head, rest, self.mode == "hold" and is_stream)

    @staticmethod
    def _read_head(client: socket.socket) -> tuple[str, bytes]:
        data = b""
        while b"\r\n\r\n" not in data:
            part = client.recv(65_536)
            if not part:
                return "", b""
            data += part
        head, _, rest = data.partition(b"\r\n\r\n")
        return head.decode("latin-1"), rest

    def _forward(self, client: socket.socket, head: str, rest: bytes, hold: bool) -> None:
        if "upgrade: websocket" not in head.lower():
            head = head.replace("Connection: keep-alive", "Connection: close")
        with socket.create_connection(("127.0.0.1", self.upstream), timeout=10) as server:
            server.settimeout(None)
            self._open.append(server)
            server.sendall(head.encode("latin-1") + b"\r\n\r\n" + rest)
            threading.Thread(target=pump, args=(client, server, 0), daemon=True).start()
            pump(server, client, HELD_BYTES if hold else 0)


def pump(source: socket.socket, target: socket.socket, held: int) -> None:
    """Copy until the end; with `held` only whole pieces of so many bytes."""
    data = b""
    with contextlib.suppress(OSError):
        while part := source.recv(65_536):
            data += part
            if len(data) >= held:
                target.sendall(data)
                data = b""
    for sock in (source, target):
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
