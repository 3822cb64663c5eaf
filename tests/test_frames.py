"""Random bytes on each way in: frames of `/ws`, packets of Engine.IO and Socket.IO, lines of NDJSON
and of what a stream asks. Whoever sends them may lose its own connection and nothing else: no 500,
no traceback, and everybody else goes on. `RTAPP_LONG=1` tries forty times as many."""

from __future__ import annotations

import contextlib
import json
import socket
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.frames import Opcode

from support import (
    LONG,
    NDJSON,
    PATIENCE,
    POLLING,
    UPGRADE,
    Response,
    Server,
    get_request,
    hear_io,
    join_io,
    masked,
    open_ws,
)

EXAMPLES = 4_000 if LONG else 100
HANDLERS = """
from rtapp import emit, on

@on("take")
def take(client, *values):
    client.broadcast("taken", *values)
    return values

@on("take", namespace="/other")
def other(client, *values):
    emit("taken", *values, namespace="/other")
"""
fuzz = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

# ---- what is sent --------------------------------------------------------------------------------

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
deep = st.integers(100, 4_000).map(lambda n: "[" * n) | st.just("[" * 900 + "]" * 900)
jsons = values.map(json.dumps) | deep | st.just('{"a":1e999}') | st.just('"\\ud800"')
placeholders = st.builds(lambda n: {"_placeholder": True, "num": n}, scalars)
names = st.sampled_from(["/", "/other", "/none", "/" + "n" * 300, "/a,b"]) | st.text(max_size=5)


@st.composite
def ws_texts(draw: st.DrawFn) -> str:
    """What is more or less an object of `/ws`."""
    if draw(st.booleans()):
        return draw(st.text(max_size=80) | jsons)
    kind = draw(
        st.sampled_from(
            ["subscribe", "unsubscribe", "publish", "ping", "join-room", "webrtc-signal"]
        )
        | st.text(max_size=5)
    )
    keys = st.sampled_from(
        ["channels", "channel", "event", "to", "data", "ref", "signal", "roomId"]
    )
    body = {"type": kind, **draw(st.dictionaries(keys, values, max_size=4))}
    if "channels" in body and draw(st.booleans()):
        body["channels"] = draw(st.lists(st.text(max_size=9), max_size=5))
    return json.dumps(body)


@st.composite
def raw_frames(draw: st.DrawFn, texts: st.SearchStrategy[str]) -> bytes:
    """A frame: a right one, one with a wrong head, or noise."""
    kind = draw(st.sampled_from(["right", "right", "split", "head", "noise"]))
    if kind == "noise":
        return draw(st.binary(max_size=60))
    payload = draw(texts.map(lambda text: text.encode("utf-8", "surrogatepass")) | st.binary())
    if kind == "head":
        first, length = draw(st.integers(0, 255)), draw(st.integers(0, 255))
        return bytes([first, length]) + draw(st.binary(max_size=12)) + payload
    opcode = draw(st.sampled_from([Opcode.TEXT, Opcode.TEXT, Opcode.BINARY, *Opcode]))
    if kind == "split":
        cut = len(payload) // 2
        return masked(opcode, payload[:cut], fin=False) + masked(Opcode.CONT, payload[cut:])
    return masked(opcode, payload)


@st.composite
def packets(draw: st.DrawFn) -> str:
    """What is more or less a packet of Socket.IO in one of Engine.IO."""
    if draw(st.integers(0, 4)) == 0:
        return draw(st.text(max_size=40))
    engine = draw(st.sampled_from("4444401235b6"))
    kind = draw(st.sampled_from("00122222345567") | st.characters())
    count = draw(st.sampled_from(["", "", "", "1-", "2-", "0-", "99999-", "-"]))
    where = draw(names) + "," if draw(st.booleans()) else ""
    ack = draw(st.sampled_from(["", "", "1", "0", "9" * 30, "-1"]))
    name = draw(st.sampled_from(["take", "join", "leave", "connect", "disconnect", "x"]))
    event = [name, *draw(st.lists(values | placeholders, max_size=3))]
    payload = draw(st.just(json.dumps(event)) | jsons | st.just(""))
    return f"{engine}{kind}{count}{where}{ack}{payload}"


# ---- who suffers ---------------------------------------------------------------------------------


class Bystanders:
    """A client on each transport that must hear of everything whatever others send."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.count = 0
        self.sse = server.stream("channel=watch")
        self.ws = open_ws(server, "channel=watch")
        self.io, _ = join_io(server)

    def check(self) -> None:
        """They are all connected, and hear what is sent now, behind all that came before."""
        self.count += 1
        mark = f"mark{self.count}."
        self.server.publish(mark)
        while mark not in self.sse.next()["data"]:
            pass
        while mark not in str(self.ws.recv(PATIENCE)):
            pass
        while mark not in str(hear_io(self.io)):
            pass

    def close(self) -> None:
        for each in (self.sse, self.ws, self.io):
            each.close()


@pytest.fixture(params=["handlers", "none"])
def watched(
    make_server: Callable[..., Server], tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Bystanders]:
    """A server whose log has no failure after the test, and whose other clients are well."""
    arguments: list[str] = []
    if request.param == "handlers":
        path = tmp_path / "handlers.py"
        path.write_text(HANDLERS)
        arguments = ["--app", str(path)]
    server = make_server(*arguments, max_message_bytes=20_000, ping_interval=600)
    bystanders = Bystanders(server)
    yield bystanders
    bystanders.check()
    bystanders.close()
    assert server.get("/api/logs?level=ERROR").json == []
    assert not [line for line in server.output if "Traceback" in line or "failed" in line]


def open_raw(server: Server, path: str) -> socket.socket:
    """A WebSocket as a bare socket, after its handshake."""
    sock = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
    sock.sendall(get_request(path, UPGRADE))
    response = Response()
    while not response.head:
        part = sock.recv(4096)
        assert part, "no answer to the handshake"
        response.feed(part)
    assert response.head.startswith(b"HTTP/1.1 101"), response.head
    return sock


def send_and_leave(server: Server, path: str, data: bytes) -> None:
    """Say something, and wait until the server has taken it all."""
    with open_raw(server, path) as sock, contextlib.suppress(OSError):
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(65_536):
            pass


@pytest.mark.parametrize("watched", ["none"], indirect=True)
def test_frames_of_ws(watched: Bystanders) -> None:
    @fuzz
    @given(st.lists(raw_frames(ws_texts()), min_size=1, max_size=4))
    def one(frames: list[bytes]) -> None:
        send_and_leave(watched.server, "/ws?channel=fuzzed", b"".join(frames))

    one()


def test_packets_of_socket_io(watched: Bystanders) -> None:
    path = "/socket.io/?EIO=4&transport=websocket"
    joined = masked(Opcode.TEXT, b"40")

    @fuzz
    @given(st.booleans(), st.lists(raw_frames(packets()), min_size=1, max_size=4))
    def one(join: bool, frames: list[bytes]) -> None:
        data = [joined, *frames] if join else frames
        send_and_leave(watched.server, path, b"".join(data))

    one()


def test_payloads_of_engine_io(watched: Bystanders) -> None:
    server = watched.server

    def begin() -> str:
        sid = json.loads(server.get(POLLING).body[1:])["sid"]
        assert server.request("POST", f"{POLLING}&sid={sid}", b"40").status == 200
        return str(sid)

    @fuzz
    @given(
        st.lists(packets() | st.text(max_size=9), max_size=4), st.binary(max_size=9), st.booleans()
    )
    def one(parts: list[str], tail: bytes, noise: bool) -> None:
        body = "\x1e".join(parts).encode("utf-8", "surrogatepass") + (tail if noise else b"")
        where = f"{POLLING}&sid={begin()}"
        assert server.request("POST", where, body).status in (200, 400, 413)
        server.request("POST", where, b"1")

    one()


@pytest.mark.parametrize("watched", ["none"], indirect=True)
def test_what_is_asked_of_a_handshake(watched: Bystanders) -> None:
    server = watched.server
    keys = st.sampled_from(
        ["EIO", "transport", "sid", "session", "t", "channel", "lastEventId", "j"]
    )
    near = st.sampled_from(["4", "3", "polling", "websocket", "0", "00000000-9", "a" * 300])

    @fuzz
    @given(
        st.sampled_from(["/socket.io/", "/ws", "/api/events"]),
        st.lists(st.tuples(keys, near | st.text(max_size=12)), max_size=4),
        st.sampled_from(["GET", "POST", "PUT", "HEAD", "OPTIONS"]),
    )
    def one(path: str, pairs: list[tuple[str, str]], method: str) -> None:
        if path == "/api/events" and method == "GET":
            method = "HEAD"  # a stream would not end
        query = urllib.parse.urlencode(pairs, errors="surrogatepass")
        answer = server.request(method, f"{path}?{query}", b"" if method != "GET" else None)
        assert answer.status < 500, answer

    one()


@pytest.mark.parametrize("watched", ["none"], indirect=True)
def test_lines_of_ndjson(watched: Bystanders) -> None:
    server = watched.server
    lines = (values.map(json.dumps) | jsons).map(str.encode) | st.binary(max_size=40)

    @fuzz
    @given(st.lists(lines, max_size=5), st.sampled_from([b"\n", b"\r\n", b"\n\n", b"\x1e", b""]))
    def one(some: list[bytes], end: bytes) -> None:
        path = "/api/broadcast?channel=fuzzed"
        answer = server.request("POST", path, end.join(some), headers=NDJSON)
        assert answer.status in (200, 400, 413, 422), answer
        if answer.status != 200:
            assert answer.code

    one()


@pytest.mark.parametrize("watched", ["none"], indirect=True)
def test_whatever_is_published_is_one_event(watched: Bystanders) -> None:
    """No value and no event name breaks the lines of a stream or the frames beside it."""
    server = watched.server
    texts = st.text(max_size=30)

    @fuzz
    @given(values.filter(lambda v: "NaN" not in json.dumps(v)) | texts, st.none() | texts)
    def one(value: Any, event: str | None) -> None:
        query = {"channel": "watch", **({"event": event} if event else {})}
        where = "/api/broadcast?" + urllib.parse.urlencode(query, errors="surrogatepass")
        answer = server.post(where, json.dumps(value).encode())
        assert answer.status in (200, 400, 422), answer
        if answer.status == 200:
            (heard,) = watched.sse.take(1)
            assert set(heard) <= {"id", "event", "data"} and heard.get("event") == (event or None)
            assert same(json.loads(heard["data"]), value)

    one()


def same(heard: Any, value: Any) -> bool:
    """Whether it is what was posted; an object also gets `id` and `timestamp`."""
    if isinstance(value, dict):
        return all(repr(heard[key]) == repr(json.loads(json.dumps(value))[key]) for key in value)
    return repr(heard) == repr(json.loads(json.dumps(value)))
