"""What the tests share: a real server in a process of its own, raw clients, waiting.

Nothing here mocks anything. A `Server` is `python rtapp.py` on a free port with a data folder of
its own; a `Stream` is a socket that reads Server-Sent Events byte by byte as they are sent.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import resource
import select
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import psycopg2
import pytest
from websockets.sync.client import ClientConnection, connect

from postgres import free_port
from warm import IS_COLD, WarmProcess, run_warm

ROOT = Path(__file__).resolve().parent.parent
# The guides in English; each is there in Turkish too, as NAME.tr.md.
GUIDES = [path for path in sorted((ROOT / "static" / "docs").glob("*.md")) if "." not in path.stem]
# A changed copy can be tested too, to see that a test notices.
PROGRAM = Path(os.environ.get("RTAPP_TEST_PROGRAM", ROOT / "rtapp.py")).absolute()
ADMIN = "test-admin-token-0123456789"
PATIENCE = 30.0  # seconds that a condition gets on a busy machine
STOPPED = 50.0  # seconds that an end gets: five times the ten within which the program promises it
LONG = os.environ.get("RTAPP_LONG") == "1"  # the thorough form of the tests that have one


# What servers must never print, gathered as tests use it, and the lines that held any of it.
SECRETS = {ADMIN}
LEAKS: list[str] = []  # lines that no server may print, whatever a test does
SECRET_FIELDS = (
    "password",
    "current",
    "token",
    "session",
    "jwt_key",
    "metrics_token",
    "turn_secret",
    "turn_password",
)


def remember_secrets(fields: Any) -> None:
    """Note what is secret in a request or in settings; short words could stand in any line."""
    if isinstance(fields, dict):
        found = [fields.get(name) for name in SECRET_FIELDS]
        SECRETS.update(value for value in found if isinstance(value, str) and len(value) >= 12)


def wait_for(
    condition: Callable[[], Any], what: str = "condition", seconds: float = PATIENCE
) -> Any:
    """The first true value of `condition`; fails when none comes within `seconds`."""
    deadline = time.monotonic() + seconds
    pause = 0.001
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s for: {what}")
        time.sleep(pause)
        pause = min(0.02, pause * 1.5)


class Answer(NamedTuple):
    """An HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The problem's code; fails when the answer is no problem+json."""
        assert self.headers["content-type"] == "application/problem+json", self
        assert self.json["status"] == self.status
        return str(self.json["code"])


class Server:
    """A server process. `with Server(folder) as server:` ends it, whatever happened."""

    def __init__(
        self,
        data: Path,
        *arguments: str,
        env: dict[str, str | None] | None = None,
        launcher: list[str] | None = None,
        program: Path = PROGRAM,
        namespace: str = "",
        hostname: str = "",
        **settings: Any,
    ) -> None:
        """`settings` are given by --set; `env` adds to the environment, None removes. It runs in a
        `namespace` of the network, by a `hostname` of its own."""
        remember_secrets(settings)
        self.data = data
        self.arguments = list(arguments)
        for key, value in settings.items():
            self.arguments += ["--set", f"{key}={value}"]
        self.env = {"RTAPP_ADMIN_TOKEN": ADMIN, **(env or {})}
        self.launcher = launcher
        self.program, self.namespace, self.hostname = program, namespace, hostname
        self.output: list[str] = []
        self.port = 0
        self.process: subprocess.Popen[str] | WarmProcess | None = None

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()

    def environment(self) -> dict[str, str]:
        """The process's environment: ours without what belongs to rtapp, and `env`."""
        base = {k: v for k, v in os.environ.items() if not k.startswith(("RTAPP_", "DATABASE_"))}
        if "RTAPP_POLLER" in os.environ:
            base["RTAPP_POLLER"] = os.environ["RTAPP_POLLER"]
        base["PYTHONDONTWRITEBYTECODE"] = "1"
        base.update({key: value for key, value in self.env.items() if value is not None})
        return {k: v for k, v in base.items() if k not in self.env or self.env[k] is not None}

    def start(self) -> Server:
        """Start it on its port of before, a free one at first, and wait until it listens."""
        arguments = [
            "--port",
            str(self.port or free_port()),
            "--data",
            str(self.data),
            *self.arguments,
        ]
        # What Python finds first would come too late for a program that is imported already.
        is_warm = self.program == PROGRAM and not IS_COLD and "PYTHONPATH" not in self.env
        if self.launcher is None and is_warm:
            self.process = WarmProcess(
                PROGRAM,
                arguments,
                self.environment(),
                namespace=self.namespace,
                hostname=self.hostname,
            )
        else:
            self.process = subprocess.Popen(
                [*(self.launcher or self._cold_launcher()), *arguments],
                env=self.environment(),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        threading.Thread(target=self._collect, args=(self.process,), daemon=True).start()
        line = wait_for(self._listening, f"server to listen: {self.output}")
        self.port = int(line.rsplit(":", 1)[1])
        return self

    def _cold_launcher(self) -> list[str]:
        inside = ["ip", "netns", "exec", self.namespace] if self.namespace else []
        if self.hostname:
            rename = f'hostname {self.hostname} && exec "$@"'
            inside += ["unshare", "--uts", "sh", "-c", rename, "sh"]
        return [*inside, sys.executable, str(self.program)]

    def _collect(self, process: subprocess.Popen[str] | WarmProcess) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self.output.append(line.rstrip())
            is_link = "#setup=" in line  # it is printed for whoever started the program
            is_leak = not is_link and any(secret in line for secret in list(SECRETS))
            if is_leak or "The control entry" in line:  # that of a node which isn't understood
                LEAKS.append(line)

    def _listening(self) -> str | None:
        assert self.process is not None
        found = [line for line in self.output if line.startswith("rtapp listening on ")]
        if not found and self.process.poll() is not None:
            raise AssertionError(f"the server ended: {self.output}")
        return found[-1].removeprefix("rtapp listening on ") if found else None

    @property
    def database_url(self) -> str:
        return self.env.get("DATABASE_URL") or sqlite_url(self.data)

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(STOPPED)
        self.output.clear()
        return code

    def kill(self) -> None:
        """SIGKILL, if it still runs."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            self.process.wait(PATIENCE)
            self.output.clear()

    def command(self, *arguments: str, text: str = "") -> Ended:
        """Run a command of the program on the data folder, in the server's environment."""
        return run_program(*arguments, "--data", str(self.data), env=self.env, text=text)

    # Requests

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
        token: str | None = ADMIN,
        tls: ssl.SSLContext | None = None,
        seconds: float = PATIENCE,
    ) -> Answer:
        """A request; `body` is bytes as they are, or a value that is sent as JSON. Each step of the
        answer may take some `seconds`."""
        sent = dict(headers or {})
        remember_secrets(body)
        remember_secrets({"token": token, "session": sent.get("X-Session")})
        if token:
            sent.setdefault("Authorization", f"Bearer {token}")
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        if body is not None:
            sent.setdefault("Content-Type", "application/json")
        if tls is None:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds)
        else:
            connection = http.client.HTTPSConnection(
                "127.0.0.1", self.port, timeout=seconds, context=tls
            )
        try:
            connection.request(method, path, body, sent)
            got = connection.getresponse()
            # Of several alike the first: a proxy adds its own cookie behind.
            found = {name.lower(): value for name, value in reversed(got.getheaders())}
            return Answer(got.status, found, got.read())
        finally:
            connection.close()

    def get(self, path: str, **more: Any) -> Answer:
        return self.request("GET", path, **more)

    def post(self, path: str, body: Any, **more: Any) -> Answer:
        return self.request("POST", path, body, **more)

    def publish(self, value: Any, query: str = "", **more: Any) -> Answer:
        """POST /api/broadcast; fails unless it is accepted."""
        answer = self.post(f"/api/broadcast{'?' + query if query else ''}", value, **more)
        assert answer.status == 200, answer
        return answer

    def publish_lines(self, values: Iterable[Any], query: str = "", **more: Any) -> Answer:
        """POST /api/broadcast with a line for each value; fails unless it is accepted."""
        lines = b"\n".join(json.dumps(value).encode() for value in values)
        return self.publish(lines, query, headers=NDJSON, **more)

    def stream(self, query: str = "", **more: Any) -> Stream:
        """An open SSE stream that has seen its connection event."""
        stream = Stream(self.port, query, **more)
        stream.hello = json.loads(stream.next()["data"])
        return stream

    def raw(self, data: bytes, seconds: float = PATIENCE) -> bytes:
        """Send bytes on a new connection; all that comes back until the server closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=seconds) as sock:
            sock.sendall(data)
            parts = []
            with contextlib.suppress(ConnectionResetError):
                while part := sock.recv(65_536):
                    parts.append(part)
            return b"".join(parts)


# What clients send


NDJSON = {"Content-Type": "application/x-ndjson"}

# The opening handshake of a WebSocket, with the key of RFC 6455, 1.3.
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


def get_request(
    path: str,
    headers: dict[str, str] | None = None,
    token: str | None = ADMIN,
    host: str = "127.0.0.1",
) -> bytes:
    """A GET request as its bytes."""
    lines = [f"GET {path} HTTP/1.1", f"Host: {host}"]
    if token:
        lines.append(f"Authorization: Bearer {token}")
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode()


def masked(opcode: int, payload: bytes, fin: bool = True) -> bytes:
    """A client's frame (RFC 6455, 5.2), also one that is not allowed; the mask is of zeros."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    return bytes([fin << 7 | opcode]) + length + bytes(4) + payload


# Server-Sent Events


class Response:
    """A response as its bytes come: its head, then its body out of its framing (RFC 9112, 6, 7.1).

    `head` is empty until it is whole. `is_complete` says that the last chunk and the trailer have
    come; a body that isn't chunked ends with the connection.
    """

    _CHUNKED = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked[ \t]*(?:\r\n|$)", re.IGNORECASE)
    _CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]+)[ \t]*(?:;.*)?")

    def __init__(self) -> None:
        self.head = b""
        self.is_complete = False
        self._is_chunked = False
        self._rest = b""  # a line, or a head, of which there is more to come
        self._missing = 0  # bytes of a chunk's data
        self._take_line = self._take_size

    def feed(self, data: bytes) -> bytes:
        """The body's part of the connection's next bytes; ValueError where they are no chunks."""
        if not self.head:
            head, end, data = (self._rest + data).partition(b"\r\n\r\n")
            if not end:
                self._rest = head
                return b""
            self.head, self._rest = head, b""
            self._is_chunked = self._CHUNKED.search(head) is not None
        return self._unchunk(data) if self._is_chunked else data

    def _unchunk(self, data: bytes) -> bytes:
        data, at, parts = self._rest + data, 0, []
        while not self.is_complete:
            if self._missing:
                part = data[at : at + self._missing]
                parts.append(part)
                at += len(part)
                self._missing -= len(part)
                if self._missing:
                    break
            end = data.find(b"\r\n", at)
            if end < 0:
                break
            self._take_line(data[at:end])
            at = end + 2
        self._rest = data[at:]
        return b"".join(parts)

    def _take_size(self, line: bytes) -> None:
        found = self._CHUNK_SIZE.fullmatch(line)
        if not found:
            raise ValueError(f"no size of a chunk: {line[:100]!r}")
        self._missing = int(found[1], 16)
        self._take_line = self._take_end if self._missing else self._take_trailer

    def _take_end(self, line: bytes) -> None:
        if line:
            raise ValueError(f"a chunk is longer than its size: {line[:100]!r}")
        self._take_line = self._take_size

    def _take_trailer(self, line: bytes) -> None:
        self.is_complete = not line


Event = dict[str, str]


def parse_event(block: str) -> Event:
    """A block of a stream as its fields; `data` lines joined (WHATWG HTML 9.2.6)."""
    event: Event = {}
    for line in block.split("\n"):
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        event[field] = f"{event[field]}\n{value}" if field == "data" and "data" in event else value
    return event


class Stream:
    """An SSE connection on a raw socket."""

    def __init__(
        self,
        port: int,
        query: str = "",
        headers: dict[str, str] | None = None,
        token: str | None = ADMIN,
        tls: ssl.SSLContext | None = None,
        rcvbuf: int | None = None,
        extra: bytes = b"",
        host: str = "127.0.0.1",
    ) -> None:
        """`extra` goes out in the same segment as the request."""
        self.hello: dict[str, Any] = {}
        self.response = Response()
        self.events: list[Event] = []
        self._blocks: deque[bytes] = deque()
        self._rest = b""  # a block of which there is more to come
        plain = socket.socket()
        if rcvbuf:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        plain.settimeout(PATIENCE)
        plain.connect((host, port))
        self.sock = tls.wrap_socket(plain, server_hostname="127.0.0.1") if tls else plain
        path = f"/api/events{'?' + query if query else ''}"
        self.sock.sendall(get_request(path, headers, token, f"{host}:{port}") + extra)
        while not self.response.head:
            self._receive()
        self.head = self.response.head.decode()
        self.status = int(self.head.split()[1])

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.sock.close()

    def _receive(self) -> None:
        part = b"" if self.response.is_complete else self.sock.recv(65_536)
        if not part:
            raise EOFError(self._rest)
        *blocks, self._rest = (self._rest + self.response.feed(part)).split(b"\n\n")
        self._blocks += blocks

    def next_raw(self, seconds: float = PATIENCE) -> bytes:
        """The next block as it came, without its blank line. EOFError at the end."""
        self.sock.settimeout(seconds)
        while not self._blocks:
            self._receive()
        return self._blocks.popleft()

    def next(self, seconds: float = PATIENCE) -> Event:
        """The next event, whatever it is."""
        event = parse_event(self.next_raw(seconds).decode())
        self.events.append(event)
        return event

    def take(self, count: int, seconds: float = PATIENCE) -> list[Event]:
        """The next `count` events that are messages, not pings."""
        deadline = time.monotonic() + seconds
        found: list[Event] = []
        while len(found) < count:
            event = self.next(max(0.01, deadline - time.monotonic()))
            if event.get("event") != "ping":
                found.append(event)
        return found

    def values(self, count: int, seconds: float = PATIENCE) -> list[Any]:
        """The JSON values of the next `count` messages."""
        return [json.loads(event["data"]) for event in self.take(count, seconds)]

    def silent(self, seconds: float = 0.3) -> bool:
        """Whether no message comes within a while."""
        try:
            self.take(1, seconds)
        except TimeoutError:
            return True
        return False

    def ended(self, seconds: float = PATIENCE) -> bool:
        """Whether the server closes the stream; what comes before is kept in `events`."""
        deadline = time.monotonic() + seconds
        with contextlib.suppress(EOFError, ConnectionResetError, ssl.SSLError):
            while time.monotonic() < deadline:
                self.next(deadline - time.monotonic())
            return False
        return True

    @property
    def last_id(self) -> str:
        """What a client would send as Last-Event-ID."""
        return next(event["id"] for event in reversed(self.events) if "id" in event)


def number(position: str) -> int:
    """The id in a position."""
    match = re.fullmatch(r"[0-9a-f]{8}-(\d+)", position)
    assert match, position
    return int(match[1])


class Swarm:
    """Many streams read by one thread; what each got is kept as (id, data) pairs."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.messages: dict[int, list[tuple[int, str]]] = {}
        self.last_ids: dict[int, str] = {}
        self.resets: set[int] = set()
        self.closed: set[int] = set()
        self._sockets: dict[int, socket.socket] = {}
        self._responses: dict[int, Response] = {}
        self._rests: dict[int, bytes] = {}  # blocks of which there is more to come
        self._keys: dict[int, int] = {}
        self._epoll = select.epoll()

    def open(self, key: int, query: str, last_id: str | None = None) -> None:
        """Send a stream's request without waiting for its answer."""
        sock = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
        resume = {"Last-Event-ID": last_id} if last_id else {}
        sock.sendall(get_request(f"/api/events?{query}", resume))
        sock.setblocking(False)
        self.closed.discard(key)
        self._responses[key], self._rests[key] = Response(), b""
        self.messages.setdefault(key, [])
        self._sockets[key] = sock
        self._keys[sock.fileno()] = key
        self._epoll.register(sock, select.EPOLLIN)

    def close(self, key: int) -> None:
        sock = self._sockets.pop(key, None)
        if sock is not None:
            self._epoll.unregister(sock)
            del self._keys[sock.fileno()]
            sock.close()
        self.closed.add(key)

    def close_all(self) -> None:
        for key in list(self._sockets):
            self.close(key)
        self._epoll.close()

    def pump(self, seconds: float = 0.1) -> None:
        """Read what has come."""
        for fd, _ in self._epoll.poll(seconds):
            key = self._keys[fd]
            try:
                part = self._sockets[key].recv(262_144)
            except ConnectionResetError:
                part = b""
            if not part:
                self.close(key)
                continue
            response = self._responses[key]
            *blocks, self._rests[key] = (self._rests[key] + response.feed(part)).split(b"\n\n")
            for block in blocks:
                self._take(key, block.decode())
            if response.is_complete:
                self.close(key)

    def _take(self, key: int, block: str) -> None:
        event = parse_event(block)
        if "id" in event:
            self.last_ids[key] = event["id"]
        if event.get("event") == "reset":
            self.resets.add(key)
        elif (
            "id" in event
            and event.get("event") != "ping"
            and '"type":"connection"' not in event["data"]
        ):
            self.messages[key].append((number(event["id"]), event["data"]))

    def pump_until(self, condition: Callable[[], Any], what: str, seconds: float = 60) -> None:
        """Read until `condition` holds; fails after `seconds`."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"waited {seconds:g} s for: {what}")
            self.pump()


@contextlib.contextmanager
def many_open_files(count: int) -> Iterator[None]:
    """Lets this process open so many files; skips by name where the system doesn't."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        pytest.skip(f"the system allows only {hard} open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextlib.contextmanager
def keep_alive(port: int) -> Iterator[http.client.HTTPConnection]:
    """One connection for many requests."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        yield connection
    finally:
        connection.close()


class Publisher(threading.Thread):
    """Publishes one message after the other on a kept connection, until it is told to end or the
    connection breaks, unless it `comes_back`; keeps what was acknowledged, and what was refused."""

    def __init__(self, port: int, name: str, query: str = "", comes_back: bool = False) -> None:
        super().__init__(daemon=True)
        self.port = port
        self.label = name
        self.query = query
        self.comes_back = comes_back
        self.sent = 0
        self.acknowledged: dict[int, str] = {}
        self.refused: list[int] = []
        self.enough = threading.Event()
        self.start()

    def run(self) -> None:
        self._publish_until_cut()
        while self.comes_back and not self.enough.wait(0.05):
            self._publish_until_cut()

    def _publish_until_cut(self) -> None:
        with (
            keep_alive(self.port) as connection,
            contextlib.suppress(OSError, http.client.HTTPException),
        ):
            while not self.enough.is_set():
                self._publish(connection)

    def _publish(self, connection: http.client.HTTPConnection) -> None:
        value = f"{self.label}/{self.sent}"
        self.sent += 1
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {ADMIN}"}
        connection.request("POST", f"/api/broadcast?{self.query}", json.dumps(value), headers)
        answer = connection.getresponse()
        body = answer.read()
        if answer.status == 200:
            self.acknowledged[json.loads(body)["message"]["id"]] = value
        else:
            self.refused.append(answer.status)
            self.enough.wait(0.02)


# WebSockets


class OneAtATime(ssl.SSLSocket):
    """A socket that one thread at a time reads from or writes to.

    The client below reads in a thread of its own. CPython before 3.13.4 lets two threads into one
    TLS object at once, which then loses what one of them sent or says "internal error".
    """

    turn: threading.Lock

    def __new__(cls, *args: Any, **more: Any) -> OneAtATime:
        made = super().__new__(cls)
        made.turn = threading.Lock()
        return made

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        """Wait for bytes outside the TLS object, so that who writes meanwhile can."""
        while True:
            with self.turn:
                seconds = self.gettimeout()
                self.setblocking(False)
                try:
                    return super().recv(buflen, flags)
                except ssl.SSLWantReadError:
                    pass
                finally:
                    self.settimeout(seconds)
            if not any(select.select([self], [], [], seconds)):
                raise TimeoutError("nothing came")

    def send(self, data: Any, flags: int = 0) -> int:
        """Write in turn."""
        with self.turn:
            return super().send(data, flags)


def open_ws(
    server: Server,
    query: str = "",
    path: str = "/ws",
    headers: dict[str, str] | None = None,
    token: str | None = ADMIN,
    tls: ssl.SSLContext | None = None,
    **more: Any,
) -> ClientConnection:
    """A connection as the client of the library `websockets` makes it; `more` is for that."""
    sent = dict(headers or {})
    if token:
        sent["Authorization"] = f"Bearer {token}"
    address = f"{'wss' if tls else 'ws'}://127.0.0.1:{server.port}{path}?{query}"
    more = {"compression": None, "open_timeout": PATIENCE, "ssl": tls, **more}
    if tls:
        tls.sslsocket_class = OneAtATime
    return connect(address, additional_headers=sent, **more)


def say(ws: ClientConnection, **frame: Any) -> None:
    """Send a frame of `/ws`."""
    ws.send(json.dumps(frame))


def hear(ws: ClientConnection, kind: str | None = None) -> dict[str, Any]:
    """The next frame of `/ws` of that type, or the next one that is no ping."""
    while True:
        found = json.loads(ws.recv(PATIENCE))
        if found["type"] == kind or (kind is None and found["type"] != "ping"):
            return dict(found)


POLLING = "/socket.io/?EIO=4&transport=polling"
AUTH = {"token": ADMIN}  # what a Socket.IO client says when it joins a namespace


def open_io(server: Server, query: str = "", **more: Any) -> ClientConnection:
    """An Engine.IO WebSocket that has seen its opening packet."""
    query = f"EIO=4&transport=websocket{query}"
    ws = open_ws(server, query, "/socket.io/", token=None, max_size=None, **more)
    opening = hear_io(ws)
    assert opening.startswith("0") and json.loads(opening[1:])["upgrades"] == []
    return ws


def hear_io(ws: ClientConnection) -> Any:
    """The next Engine.IO packet that is no ping, which is answered."""
    while True:
        found = ws.recv(PATIENCE)
        if found != "2":
            return found
        ws.send("3")


def join_io(
    server: Server, auth: dict[str, Any] = AUTH, **more: Any
) -> tuple[ClientConnection, dict[str, Any]]:
    """A Socket.IO client that has joined the main namespace, and what it was told."""
    ws = open_io(server, **more)
    ws.send(f"40{json.dumps(auth)}")
    answer = hear_io(ws)
    assert answer.startswith("40"), answer
    return ws, json.loads(answer[2:])


# Raw answers, the program's end, the database beside a running server


def parse_answer(raw: bytes) -> Answer:
    """The first answer in raw bytes that is not `100 Continue`; its body as it came."""
    head, _, rest = raw.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    assert first.startswith("HTTP/1.1 "), raw[:200]
    if first.split()[1] == "100":
        return parse_answer(rest)
    headers = dict(line.lower().split(": ", 1)[:1] + line.split(": ", 1)[1:] for line in lines)
    return Answer(int(first.split()[1]), headers, rest)


def setup_token(server: Server) -> str:
    """The token of the link that a server without an administrator has printed."""
    found = wait_for(lambda: re.search(r"/#setup=(\S+)", "\n".join(server.output)), "the link")
    return str(found[1])


def cookie_of(answer: Answer) -> dict[str, str]:
    """The header with which a browser comes back that was signed in."""
    assert answer.status == 200, answer
    return {"Cookie": answer.headers["set-cookie"].split(";")[0]}


class Described:
    """The OpenAPI document of a server, and whether what it answers is what that says."""

    KINDS: ClassVar[dict[str, Any]] = {
        "object": dict,
        "array": list,
        "string": str,
        "integer": int,
        "number": (int, float),
        "boolean": bool,
        "null": type(None),
    }

    def __init__(self, document: dict[str, Any]) -> None:
        self.paths: dict[str, Any] = document["paths"]
        self.schemas: dict[str, Any] = document["components"]["schemas"]
        self.seen: set[tuple[str, str]] = set()

    def check(self, method: str, path: str, answer: Answer) -> None:
        """The status, the media type and each value of an answer are as described; `path` with its
        `{names}`. HEAD and streams have a head alone."""
        self.seen.add((method, path))
        responses = self.paths[path][method.lower()]["responses"]
        assert str(answer.status) in responses, (method, path, answer)
        content = responses[str(answer.status)]["content"]
        kind = answer.headers.get("content-type", "").partition(";")[0]
        assert content == {} or kind in content or "*/*" in content, (method, path, kind)
        if kind == "application/json":
            assert content[kind]["schema"], (method, path)
            assert list(self.faults(answer.json, content[kind]["schema"])) == [], (method, path)

    def faults(self, value: Any, schema: dict[str, Any], at: str = "$") -> Iterator[str]:
        """What a value lacks, has besides, or has otherwise than its schema says: the part of JSON
        Schema that msgspec writes."""
        while "$ref" in schema:
            schema = self.schemas[schema["$ref"].rpartition("/")[2]]
        if "anyOf" in schema:
            ways = [list(self.faults(value, each, at)) for each in schema["anyOf"]]
            yield from () if [] in ways else min(ways, key=len)
        if "enum" in schema and value not in schema["enum"]:
            yield f"{at}: {value!r} is none of {schema['enum']}"
        kind = schema.get("type")
        if kind is None:
            return
        is_bool = isinstance(value, bool)
        if not isinstance(value, self.KINDS[kind]) or is_bool != (kind == "boolean"):
            yield f"{at}: {value!r} is no {kind}"
        elif kind == "object":
            yield from self._object_faults(value, schema, at)
        elif kind == "array":
            for number, each in enumerate(value):
                yield from self.faults(each, schema.get("items", {}), f"{at}[{number}]")
            if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", 1e9):
                yield f"{at} has {len(value)} elements"
        elif kind == "string":
            if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", 1e9):
                yield f"{at} has {len(value)} characters"
            if not re.search(schema.get("pattern", ""), value):
                yield f"{at}: {value!r} is not like {schema['pattern']}"
            if schema.get("format") == "date-time" and not TIME.fullmatch(value):
                yield f"{at}: {value!r} is no time"
        elif kind in ("integer", "number") and not (
            schema.get("minimum", value) <= value <= schema.get("maximum", value)
        ):
            yield f"{at}: {value} is out of bounds"

    def _object_faults(self, value: Any, schema: dict[str, Any], at: str) -> Iterator[str]:
        named = schema.get("properties", {})
        for name in schema.get("required", ()):
            if name not in value:
                yield f"{at}.{name} is missing"
        for name, each in value.items():
            more = schema.get("additionalProperties", "properties" not in schema)
            if name not in named and more is False:
                yield f"{at}.{name} is not described"
            inner = named.get(name, more if isinstance(more, dict) else {})
            yield from self.faults(each, inner, f"{at}.{name}")


TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


class Ended(NamedTuple):
    """How the program ended by itself."""

    code: int
    stdout: str
    stderr: str


def run_program(
    *arguments: str,
    env: dict[str, str | None] | None = None,
    text: str = "",
    seconds: float = PATIENCE * 2,
    cold: bool = IS_COLD,
) -> Ended:
    """Run the program to its end, with a text as its input; fails when it goes on. `cold` is by
    Python from its file, as people start it, and not as a fork of what has imported it."""
    environment = Server(Path(), env=env).environment()
    if not cold:
        return Ended(*run_warm(PROGRAM, list(arguments), environment, text, seconds))
    done = subprocess.run(
        [sys.executable, str(PROGRAM), *arguments],
        check=False,
        env=environment,
        input=text,
        capture_output=True,
        text=True,
        timeout=seconds,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def sqlite_url(data: Path) -> str:
    """The database in a data folder."""
    return f"sqlite:///{data / 'rtapp.db'}"


@contextlib.contextmanager
def cursor_of(url: str) -> Iterator[Any]:
    """A cursor of a transaction of its own, as another program has it beside a running server."""
    if url.startswith("sqlite"):
        path = url.removeprefix("sqlite:///")
        with contextlib.closing(sqlite3.connect(path, timeout=PATIENCE)) as database, database:
            yield database.cursor()
    else:
        with contextlib.closing(psycopg2.connect(url)) as other, other, other.cursor() as cursor:
            yield cursor


def execute(cursor: Any, sql: str, parameters: tuple[Any, ...]) -> None:
    """Run a statement; on each database a parameter is `?`."""
    if isinstance(cursor, sqlite3.Cursor):
        cursor.execute(sql, parameters)
    else:
        cursor.execute(sql.replace("?", "%s") if parameters else sql, parameters or None)


def change(url: str, sql: str, *parameters: Any) -> None:
    """A change by somebody else."""
    with cursor_of(url) as cursor:
        execute(cursor, sql, parameters)


def rows_of(url: str, sql: str, *parameters: Any) -> list[Any]:
    """Rows as somebody else reads them."""
    with cursor_of(url) as cursor:
        execute(cursor, sql, parameters)
        return list(cursor.fetchall())


def kill_node(server: Server) -> None:
    """Kill a server; of several, it counts as dead at once, not when its last heartbeat is old."""
    (node,) = (row["id"] for row in server.get("/api/nodes").json if row["current"])
    server.kill()
    sql = "UPDATE nodes SET heartbeat = heartbeat - 12001 WHERE id = ?"
    change(server.database_url, sql, node)


def query_database(data: Path, sql: str, *parameters: Any) -> list[Any]:
    """Rows of the SQLite database in a data folder."""
    return rows_of(sqlite_url(data), sql, *parameters)
