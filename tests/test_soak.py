"""Many mixed subscribers for a while: they break off, stall, are kicked and come back, the
settings change, the server is killed; nobody misses anything or gets it twice.

Five hundred for a minute; with RTAPP_LONG=1 two thousand, for twenty without kills, for the
slope of memory, and ten with.
RTAPP_SOAK gives both so many seconds.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import os
import random
import re
import select
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from typing import ClassVar

import psutil
import pytest
from websockets.frames import Opcode

from support import (
    ADMIN,
    LONG,
    PATIENCE,
    UPGRADE,
    Response,
    Server,
    get_request,
    many_open_files,
    masked,
    wait_for,
)

# More than one process of Python reads in time would show its own slowness, not the server's.
SUBSCRIBERS = 2_000 if LONG else 500
SECONDS = int(os.environ.get("RTAPP_SOAK", "0"))
QUIET_SECONDS, KILL_SECONDS = (SECONDS,) * 2 if SECONDS else (1_200, 600) if LONG else (45, 20)
LIFE = 20 if LONG else 10  # seconds of the server between two kills, at most
STEEPEST = 1.05 if QUIET_SECONDS >= 1_200 else 1.25  # last third of a run to its middle third
RATE = 20  # messages a second
FURTHEST = 100  # messages that half of the subscribers may be behind before the next one comes
SIZES = (10, 10, 10, 10, 10, 200, 200, 200, 2_000, 20_000)


class Subscriber:
    """One that comes back where it was. `last` is the number of its last message."""

    pattern: ClassVar[re.Pattern[bytes]]  # a whole message: its position and its number

    def __init__(self, name: str) -> None:
        self.session = base64.urlsafe_b64encode(name.encode().ljust(18, b"-")).decode()
        self.sock: socket.socket | None = None
        self.position = ""
        self.last: int | None = None
        self.response = Response()
        self.buffer = b""
        self.silent_until = 0.0  # it reads nothing until then

    @property
    def client_id(self) -> str:
        digest = hashlib.sha256(self.session.encode()).digest()
        return base64.urlsafe_b64encode(digest).decode()[:21]

    def request(self) -> bytes:
        raise NotImplementedError

    def hears(self, data: bytes) -> None:
        """Answer what has to be answered."""

    def take(self, data: bytes) -> list[str]:
        """Read on; what is wrong with it."""
        data = self.response.feed(data)
        self.buffer += data
        self.hears(data)
        faults, end = [], 0
        if b'"type":"reset"' in data:
            faults.append(f"{type(self).__name__} was reset at {self.position}")
        for found in self.pattern.finditer(self.buffer):
            number = int(found["number"])
            if self.last is not None and number != self.last + 1:
                faults.append(f"{type(self).__name__}: {number} after {self.last}")
            self.last, self.position, end = number, found["position"].decode(), found.end()
        if b'"recovered":false' in self.buffer[end:] and self.position:
            faults.append(f"{type(self).__name__} not recovered at {self.position}")
        self.buffer = self.buffer[end:][-65_536:]
        return faults

    def open(self, port: int) -> None:
        """Connect; raises OSError when nobody listens."""
        self.sock = socket.socket()
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)  # to be full soon
        self.sock.settimeout(PATIENCE)
        self.sock.connect(("127.0.0.1", port))
        self.sock.sendall(self.request())
        self.sock.setblocking(False)
        self.response, self.buffer, self.silent_until = Response(), b"", 0.0

    def close(self) -> None:
        assert self.sock is not None
        self.sock.close()
        self.sock = None


class Sse(Subscriber):
    pattern = re.compile(rb'id: (?P<position>[0-9a-f]{8}-\d+)\ndata: \{"n":(?P<number>\d+),.*\n\n')

    def request(self) -> bytes:
        headers = {"Last-Event-ID": self.position} if self.position else {}
        return get_request(f"/api/events?session={self.session}", headers)


class WebSocket(Subscriber):
    pattern = re.compile(
        rb'"id":"(?P<position>[0-9a-f]{8}-\d+)","channel":null,"event":null,"data":\{"n":'
        rb"(?P<number>\d+),[^}]*\}\}"
    )

    def request(self) -> bytes:
        return get_request(f"/ws?session={self.session}&lastEventId={self.position}", UPGRADE)

    def hears(self, data: bytes) -> None:
        if b"\x89\x00" in data and self.sock is not None:
            self.sock.sendall(masked(Opcode.PONG, b""))


class SocketIo(Subscriber):
    pattern = re.compile(
        rb'42\["message",\{"n":(?P<number>\d+),[^\]]*?\},"(?P<position>[0-9a-f]{8}-\d+)"\]'
    )

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.pid = ""

    def request(self) -> bytes:
        return get_request("/socket.io/?EIO=4&transport=websocket", UPGRADE)

    def hears(self, data: bytes) -> None:
        assert self.sock is not None
        if b'0{"sid"' in data and b"pingInterval" in data:
            auth = {"token": ADMIN}
            if self.position:
                auth |= {"pid": self.pid, "offset": self.position}
            self.sock.sendall(masked(Opcode.TEXT, b"40" + json.dumps(auth).encode()))
        elif found := re.search(rb'40\{"sid":"[^"]+","pid":"([^"]+)"', data):
            if self.position and found[1].decode() != self.pid:
                self.position, self.last = "", -1  # not recovered: the next number tells
            self.pid = found[1].decode()
        if b"\x81\x012" in data:
            self.sock.sendall(masked(Opcode.TEXT, b"3"))


class Crowd:
    """All of them, and what is done to them."""

    def __init__(self, server: Server, seed: int) -> None:
        self.server = server
        self.random = random.Random(seed)
        kinds = (Sse, WebSocket, SocketIo)
        self.all = [kinds[n % 3](f"{n} of {seed}") for n in range(SUBSCRIBERS)]
        self.by_fd: dict[int, Subscriber] = {}
        self.away: list[tuple[float, Subscriber]] = [(0.0, one) for one in self.all]
        self.poll = select.epoll()
        self.faults: list[str] = []
        self.published = 0
        self.resting = threading.Event()  # nothing is published, kicked or changed
        self.over = threading.Event()
        self.publishing = threading.Lock()
        self.acts = threading.Thread(target=self._act, daemon=True)

    # What others do, in a thread of its own: it waits for answers

    def _act(self) -> None:
        while not self.over.is_set():
            if self.resting.wait(0 if not self.resting.is_set() else 0.1):
                continue
            if self.published - self.reached() > FURTHEST:
                time.sleep(0.1)  # this process reads more slowly than the server writes
                continue
            self.publish()
            if self.random.random() < 0.05:
                self._ask("DELETE", f"/api/connections/{self._somebody().client_id}")
            if self.random.random() < 0.02:
                value = self.random.choice([4, 5, 6])
                self._ask("POST", "/api/settings", {"key": "ping_interval", "value": value})
            time.sleep(1 / RATE)

    def all_are_here(self) -> bool:
        """Publish to them, until each has had one: from there on it may miss none."""
        self.publish()
        for _ in range(20):
            self.pump()
        return all(one.last is not None for one in self.all)

    def reached(self) -> float:
        """The number to which half of them have come."""
        return statistics.median(one.last or 0 for one in self.all)

    def _somebody(self) -> Subscriber:
        return self.random.choice(self.all)

    def _ask(self, method: str, path: str, body: object = None, **headers: str) -> int:
        try:
            return self.server.request(method, path, body, headers=headers).status
        except (OSError, http.client.HTTPException):
            return 0  # it is being killed

    def publish(self) -> None:
        """The next number, once: repeated with its key until it is acknowledged."""
        with self.publishing:
            self._publish()

    def _publish(self) -> None:
        body = {"n": self.published, "text": "x" * self.random.choice(SIZES)}
        key = {"Idempotency-Key": f"{id(self)}-{self.published}"}
        while not self.over.is_set():
            if self._ask("POST", "/api/broadcast", body, **key) == 200:
                self.published += 1
                return
            time.sleep(0.1)

    # Reading

    def pump(self) -> None:
        """Read what has come, and let those come back whose time it is."""
        now = time.monotonic()
        for fd, _ in self.poll.poll(0.02, 2_000):
            one = self.by_fd[fd]
            if one.silent_until > now:
                self.poll.modify(fd, 0)  # level-triggered: it would be told for ever
            else:
                self._read(one)
        back = [one for at, one in self.away if at <= now][:100]
        self.away = [entry for entry in self.away if entry[1] not in back]
        for one in back:
            self._open(one)

    def _open(self, one: Subscriber) -> None:
        try:
            one.open(self.server.port)
        except OSError:
            self.away.append((time.monotonic() + 0.5, one))
            return
        assert one.sock is not None
        self.by_fd[one.sock.fileno()] = one
        self.poll.register(one.sock.fileno(), select.EPOLLIN)

    def _read(self, one: Subscriber) -> None:
        assert one.sock is not None
        try:
            data = one.sock.recv(65_536)
            if data:
                self.faults += one.take(data)
                if not one.response.is_complete:
                    return
        except BlockingIOError:
            return
        except OSError:
            pass
        self.drop(one)

    def drop(self, one: Subscriber) -> None:
        """It breaks off, and comes back after a while."""
        assert one.sock is not None
        self.poll.unregister(one.sock.fileno())
        del self.by_fd[one.sock.fileno()]
        one.close()
        self.away.append((time.monotonic() + self.random.uniform(0.1, 3), one))

    def wake(self) -> None:
        """Those whose silence is over read again."""
        now = time.monotonic()
        for fd, one in self.by_fd.items():
            if one.silent_until and one.silent_until <= now:
                one.silent_until = 0.0
                self.poll.modify(fd, select.EPOLLIN)

    def disturb(self) -> None:
        """Somebody breaks off; somebody reads nothing for longer than the server bears."""
        some = list(self.by_fd.values())
        if some and self.random.random() < 0.5:
            self.drop(self.random.choice(some))
        if some and self.random.random() < 0.05:
            one = self.random.choice(some)
            if one.sock is not None:
                one.silent_until = time.monotonic() + 8
        self.wake()

    def run(self, seconds: float, each_second: Callable[[], None] = lambda: None) -> None:
        """Disturb and read for so long."""
        end, second = time.monotonic() + seconds, 0.0
        while time.monotonic() < end:
            self.pump()
            if time.monotonic() > second:
                second = time.monotonic() + 1
                for _ in range(10):
                    self.disturb()
                each_second()

    def settle(self) -> None:
        """All come to the last message; however slowly they read, some message comes to some."""
        self.resting.set()
        time.sleep(1.0)  # what is being published or changed now
        self.publish()
        last, gained, came = self.published - 1, time.monotonic(), -1
        while late := [one for one in self.all if one.last != last]:
            self.pump()
            self.wake()
            if (sum_of := sum(one.last or 0 for one in self.all)) != came:
                gained, came = time.monotonic(), sum_of
            some = [(type(one).__name__, one.last, one.sock is not None) for one in late[:5]]
            waited = time.monotonic() - gained
            assert waited < PATIENCE * 2, f"of {last}: {len(late)} lack it, such as {some}"


@pytest.fixture
def crowd(make_server: Callable[..., Server]) -> Iterator[Crowd]:
    """Everybody connected to a server whose ring is full."""
    with many_open_files(SUBSCRIBERS + 500):
        server = make_server(
            ring_bytes=65_536,
            slow_consumer_seconds=5,
            rate_limit=0,
            ping_interval=5,
            socketio_recovery_seconds=120,
        )
        made = Crowd(server, seed=random.randrange(2**32))
        for _ in range(200):
            made.publish()
        wait_for(made.all_are_here, "each to have had a message", 240)
        made.acts.start()
        yield made
        made.over.set()
        made.acts.join(PATIENCE)
        for one in made.by_fd.values():
            one.close()


def check(crowd: Crowd) -> None:
    """Nothing was missed or came twice, and the log holds no error."""
    crowd.settle()
    assert not crowd.faults, crowd.faults[:10]
    assert crowd.server.get("/api/logs?level=ERROR").json == []
    assert not [line for line in crowd.server.output if "Traceback" in line]


@pytest.mark.timeout(QUIET_SECONDS + 400)
def test_memory_stays(crowd: Crowd) -> None:
    process, sizes = psutil.Process(crowd.server.pid), list[int]()
    crowd.run(QUIET_SECONDS, lambda: sizes.append(process.memory_info().rss))
    check(crowd)
    third = len(sizes) // 3
    middle, last = (statistics.median(part) for part in (sizes[third:-third], sizes[-third:]))
    print(f"middle third {middle / 1e6:.1f} MB, last {last / 1e6:.1f} MB")
    assert last < middle * STEEPEST


@pytest.mark.timeout(KILL_SECONDS + 400)
def test_kills_lose_nothing(crowd: Crowd) -> None:
    for _ in range(KILL_SECONDS // LIFE):
        crowd.run(LIFE * crowd.random.uniform(0.5, 1))
        crowd.server.kill()
        crowd.server.start()
    crowd.run(5)
    check(crowd)
