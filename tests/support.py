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
import select
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from warm import IS_COLD, WarmProcess

ROOT = Path(__file__).resolve().parent.parent
# A changed copy can be tested too, to see that a test notices.
PROGRAM = Path(os.environ.get("RTAPP_TEST_PROGRAM", ROOT / "rtapp.py")).absolute()
ADMIN = "test-admin-token-0123456789"
PATIENCE = 30.0  # seconds that a condition gets on a busy machine
LONG = os.environ.get("RTAPP_LONG") == "1"  # the thorough form of the tests that have one


# What servers must never print, gathered as tests use it, and the lines that held any of it.
SECRETS = {ADMIN}
LEAKS: list[str] = []
SECRET_FIELDS = (
    "password",
    "current",
    "token",
    "session",
    "jwt_key",
    "metrics_token",
    "turn_secret",
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
        **settings: Any,
    ) -> None:
        """`settings` are given by --set; `env` adds to the environment, None removes."""
        remember_secrets(settings)
        self.data = data
        self.arguments = list(arguments)
        for key, value in settings.items():
            self.arguments += ["--set", f"{key}={value}"]
        self.env = {"RTAPP_ADMIN_TOKEN": ADMIN, **(env or {})}
        self.launcher = launcher
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
        arguments = ["--port", str(self.port), "--data", str(self.data), *self.arguments]
        if self.launcher is None and not IS_COLD:
            self.process = WarmProcess(PROGRAM, arguments, self.environment())
        else:
            self.process = subprocess.Popen(
                [*(self.launcher or [sys.executable, str(PROGRAM)]), *arguments],
                env=self.environment(),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        threading.Thread(target=self._collect, args=(self.process,), daemon=True).start()
        line = wait_for(self._listening, f"server to listen: {self.output}")
        self.port = int(line.rsplit(":", 1)[1])
        return self

    def _collect(self, process: subprocess.Popen[str] | WarmProcess) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self.output.append(line.rstrip())
            is_link = "#setup=" in line  # it is printed for whoever started the program
            if not is_link and any(secret in line for secret in list(SECRETS)):
                LEAKS.append(line)

    def _listening(self) -> str | None:
        assert self.process is not None
        found = [line for line in self.output if line.startswith("rtapp listening on ")]
        if not found and self.process.poll() is not None:
            raise AssertionError(f"the server ended: {self.output}")
        return found[-1].removeprefix("rtapp listening on ") if found else None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def stop(self, seconds: float = 20) -> int:
        """SIGTERM; the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(seconds)
        self.output.clear()
        return code

    def kill(self) -> None:
        """SIGKILL, if it still runs."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            self.process.wait(20)
            self.output.clear()

    # Requests

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
        token: str | None = ADMIN,
        tls: ssl.SSLContext | None = None,
    ) -> Answer:
        """A request; `body` is bytes as they are, or a value that is sent as JSON."""
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
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        else:
            connection = http.client.HTTPSConnection(
                "127.0.0.1", self.port, timeout=PATIENCE, context=tls
            )
        try:
            connection.request(method, path, body, sent)
            got = connection.getresponse()
            found = {name.lower(): value for name, value in got.getheaders()}
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
        self.buffer = b""
        self.events: list[Event] = []
        plain = socket.socket()
        if rcvbuf:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        plain.settimeout(PATIENCE)
        plain.connect((host, port))
        self.sock = tls.wrap_socket(plain, server_hostname="127.0.0.1") if tls else plain
        lines = [f"GET /api/events{'?' + query if query else ''} HTTP/1.1", f"Host: {host}:{port}"]
        if token:
            lines.append(f"Authorization: Bearer {token}")
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        self.sock.sendall("\r\n".join([*lines, "", ""]).encode() + extra)
        self.head = self._until(b"\r\n\r\n").decode()
        self.status = int(self.head.split()[1])

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.sock.close()

    def _until(self, mark: bytes) -> bytes:
        while mark not in self.buffer:
            part = self.sock.recv(65_536)
            if not part:
                raise EOFError(self.buffer)
            self.buffer += part
        block, _, self.buffer = self.buffer.partition(mark)
        return block

    def next_raw(self, seconds: float = PATIENCE) -> bytes:
        """The next block as it came, without its blank line. EOFError at the end."""
        self.sock.settimeout(seconds)
        return self._until(b"\n\n")

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

    def __init__(self, port: int, token: str = ADMIN, http: str = "1.1") -> None:
        """Of a proxy, ask with `http` 1.0: it doesn't cut the answer into chunks."""
        self.port = port
        self.token = token
        self.http = http
        self.buffers: dict[int, bytes] = {}
        self.messages: dict[int, list[tuple[int, str]]] = {}
        self.last_ids: dict[int, str] = {}
        self.resets: set[int] = set()
        self.closed: set[int] = set()
        self._sockets: dict[int, socket.socket] = {}
        self._keys: dict[int, int] = {}
        self._epoll = select.epoll()

    def open(self, key: int, query: str, last_id: str | None = None) -> None:
        """Send a stream's request without waiting for its answer."""
        sock = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
        resume = f"Last-Event-ID: {last_id}\r\n" if last_id else ""
        sock.sendall(
            f"GET /api/events?{query} HTTP/{self.http}\r\nHost: 127.0.0.1\r\n"
            f"Authorization: Bearer {self.token}\r\n{resume}\r\n".encode()
        )
        sock.setblocking(False)
        self.closed.discard(key)
        self.buffers[key] = b""
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
            *blocks, self.buffers[key] = (self.buffers[key] + part).split(b"\n\n")
            for block in blocks:
                self._take(key, block.decode())

    def _take(self, key: int, block: str) -> None:
        event = parse_event(block.rsplit("\r\n\r\n", maxsplit=1)[-1])
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
def keep_alive(port: int) -> Iterator[http.client.HTTPConnection]:
    """One connection for many requests."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        yield connection
    finally:
        connection.close()


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


class Ended(NamedTuple):
    """How the program ended by itself."""

    code: int
    stdout: str
    stderr: str


def run_program(*arguments: str, env: dict[str, str | None] | None = None) -> Ended:
    """Run the program to its end; fails when it goes on."""
    environment = Server(Path(), env=env).environment()
    done = subprocess.run(
        [sys.executable, str(PROGRAM), *arguments],
        check=False,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE * 2,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def query_database(data: Path, sql: str, *parameters: Any) -> list[Any]:
    """Rows of the SQLite database in a data folder, read beside a running server."""
    with contextlib.closing(sqlite3.connect(data / "rtapp.db", timeout=PATIENCE)) as database:
        return database.execute(sql, parameters).fetchall()
