"""Socket.IO: the protocol as bytes, and the clients that people have, from npm."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import sqlite3
import ssl
import subprocess
import textwrap
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.frames import Opcode
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from postgres import Cluster
from support import (
    ADMIN,
    AUTH,
    LONG,
    PATIENCE,
    POLLING,
    ROOT,
    Server,
    change,
    get_request,
    hear,
    hear_io,
    join_io,
    masked,
    open_io,
    open_ws,
    query_database,
    rows_of,
    wait_for,
)

TOKEN = json.dumps(AUTH)
CLOSE = masked(Opcode.CLOSE, b"\x03\xe8")


def ended(ws: ClientConnection) -> bool:
    """Whether the server closes."""
    with pytest.raises(ConnectionClosed):
        while True:
            ws.recv(PATIENCE)
    return True


RECOVERY = {"socketio_recovery_seconds": 120}


@pytest.fixture
def server(make_server: Callable[..., Server]) -> Server:
    """A server with recovery, so that events end with an offset."""
    return make_server(**RECOVERY)


@pytest.fixture
def plain(make_server: Callable[..., Server]) -> Server:
    """A server as it is by default: without recovery."""
    return make_server()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The same, for tests that only send what is refused."""
    data = tmp_path_factory.mktemp("shared") / "data"
    with Server(data) as server:
        yield server


@pytest.fixture
def with_handlers(make_server: Callable[..., Server], tmp_path: Path) -> Callable[..., Server]:
    """Starts a server with handlers, and with recovery unless it is told otherwise."""

    def make(code: str, **more: Any) -> Server:
        path = tmp_path / "handlers.py"
        path.write_text("from rtapp import on, use, emit, Refused\n" + textwrap.dedent(code))
        return make_server("--app", str(path), **{**RECOVERY, **more})

    return make


# The wire


def test_broadcasts_arrive_as_events(plain: Server) -> None:
    ws, answer = join_io(plain)
    assert set(answer) == {"sid"}
    with ws:
        plain.publish(5)
        plain.publish([1, 2], "event=chat")
        plain.publish(7, f"to={answer['sid']}")
        plain.publish(8, "volatile=1")
        assert [hear_io(ws) for _ in range(4)] == [
            '42["message",5]',
            '42["chat",[1,2]]',
            '42["message",7]',
            '42["message",8]',
        ]


def test_relay_without_handlers(plain: Server) -> None:
    first, _ = join_io(plain)
    second, _ = join_io(plain)
    with first, second, plain.stream() as stream:
        first.send('421["chat",{"id":1,"timestamp":2}]')
        first.send('42["pair",1,"b"]')
        first.send('451-["file",{"_placeholder":true,"num":0}]')
        first.send(b"\x01\x02")
        expected = [
            '42["chat",{"id":1,"timestamp":2}]',
            '42["pair",1,"b"]',
            '451-["file",{"_placeholder":true,"num":0}]',
            b"\x01\x02",
        ]
        assert [hear_io(second) for _ in range(4)] == expected
        assert sorted(map(str, [hear_io(first) for _ in range(5)])) == sorted(
            map(str, [*expected, '431[{"success":true}]'])
        )
        values = stream.take(3)
        assert values[1]["event"] == "pair" and json.loads(values[1]["data"]) == [1, "b"]
        placeholder = {"_placeholder": True, "num": 0, "base64": "AQI="}
        assert json.loads(values[2]["data"]) == [placeholder]


def test_half_a_character_arrives(plain: Server) -> None:
    with join_io(plain)[0] as one:
        one.send(r'42["chat","hi \ud83d"]')
        assert json.loads(hear_io(one)[2:])[:2] == ["chat", "hi \ufffd"]
        opened = plain.get(POLLING, token=None)
        session = f"{POLLING}&sid={json.loads(opened.body[1:])['sid']}"
        for packet in (b"40" + json.dumps(AUTH).encode(), rb'42["chat",{"\udc00":"\ud83d\ude00"}]'):
            sent = plain.post(session, packet, token=None, headers={"Content-Type": "text/plain"})
            assert sent.body == b"ok"
        assert json.loads(hear_io(one)[2:])[1]["\ufffd"] == "\U0001f600"


def test_channels_without_handlers(plain: Server) -> None:
    ws, _ = join_io(plain)
    with ws:
        ws.send('421["join","news"]')
        assert hear_io(ws) == '431[{"success":true}]'
        plain.publish(1, "channel=news")
        assert hear_io(ws) == '42["message",1]'
        ws.send('422["leave","news"]')
        assert hear_io(ws) == '432[{"success":true}]'
        plain.publish(2, "channel=news")
        ws.send('423["join","sys:x"]')
        assert "reserved_channel" in hear_io(ws)
        ws.send('424["disconnect-now",{"type":"reset"}]')
        assert "reserved_type" in hear_io(ws)


def test_connect_needs_a_credential(server: Server) -> None:
    with open_io(server) as ws:
        ws.send("40")
        assert hear_io(ws) == '44{"message":"unauthorized"}'
        ws.send('40{"token":"wrong"}')
        assert hear_io(ws) == '44{"message":"unauthorized"}'
        ws.send("40/other," + TOKEN)
        assert hear_io(ws) == '44/other,{"message":"Invalid namespace"}'
        ws.send("40" + TOKEN)
        assert hear_io(ws).startswith('40{"sid":')
    logs = wait_for(lambda: server.get("/api/logs?q=CONNECT").json, "the log to name the setting")
    assert "access=open" in logs[0]["message"]


@pytest.mark.parametrize("first", ["/", "/admin"])
def test_each_namespace_has_a_credential_of_its_own(
    with_handlers: Callable[..., Server], first: str
) -> None:
    """Revoking the one, whichever was used last, ends its namespace at once, and no other."""
    server = with_handlers(ROOMS_OF_TWO, socketio_recovery_seconds=0)
    tokens = {
        namespace: server.post("/api/tokens", {"name": namespace.strip("/") or "main"}).json
        for namespace in ("/", "/admin")
    }

    def told(namespace: str, text: str) -> str:
        return f'42{"" if namespace == "/" else namespace + ","}["said","{text}"]'

    second = "/admin" if first == "/" else "/"
    with open_io(server) as ws, join_io(server)[0] as other:
        for namespace in ("/", "/admin"):
            ws.send(f"40{namespace},{json.dumps({'token': tokens[namespace]['token']})}")
            assert hear_io(ws).startswith("40")
        other.send('42["say","both"]')
        assert [hear_io(ws), hear_io(ws)] == [told("/", "both"), told("/admin", "both")]
        for namespace in (first, second):
            name = namespace.strip("/") or "main"
            assert server.request("DELETE", f"/api/tokens/{name}").status == 200
            if namespace == first:
                assert hear_io(ws) == ("41" if first == "/" else f"41{first}")
                other.send('42["say","one"]')
                assert hear_io(ws) == told(second, "one")
                ws.send(f"40{first},{json.dumps({'token': tokens[first]['token']})}")
                assert hear_io(ws).startswith("44")
        assert ended(ws)


ROOMS_OF_TWO = """
    @on("say")
    def say(client, text):
        emit("said", text)
        emit("said", text, namespace="/admin")

    @on("connection", namespace="/admin")
    def admin(client):
        pass
"""


def test_engine_io_3_and_foreign_origins_are_refused(server: Server) -> None:
    answer = server.get("/socket.io/?EIO=3&transport=polling")
    assert answer.status == 400
    assert answer.json == {"code": 5, "message": "Unsupported protocol version"}
    origin = {"Origin": "https://evil.example"}
    assert server.get(POLLING, headers=origin).status == 403
    logs = wait_for(lambda: server.get("/api/logs?q=another").json, "a log entry")
    assert "allowed_origins" in logs[0]["metadata"]["detail"]


@pytest.mark.parametrize(
    "packet",
    [
        "4abc",
        "42{}",
        "42abc[1]",
        "42[]",
        '42["connect"]',
        "49",
        "x",
        "43[1]",
        "4999999-[1]",
        '42["a",' + "[" * 5000,
        "451-[]",
    ],
)
def test_a_bad_packet_costs_its_sender_the_connection(shared: Server, packet: str) -> None:
    bad, _ = join_io(shared)
    good, _ = join_io(shared)
    with bad, good:
        bad.send(packet)
        if packet.startswith("451"):
            with contextlib.suppress(ConnectionClosed):  # the first may have been enough
                bad.send("42[1]")
        assert ended(bad)
        shared.publish(1)
        assert hear_io(good) == '42["message",1]'


def poll(
    server: Server,
    sid: str = "",
    body: bytes | None = None,
    tls: ssl.SSLContext | None = None,
) -> str:
    """A polling request; the body of its answer."""
    path = f"{POLLING}&sid={sid}" if sid else POLLING
    answer = server.request("POST" if body else "GET", path, body, token=None, tls=tls)
    assert answer.status == 200, answer
    return answer.body.decode()


def test_polling(plain: Server) -> None:
    opening = json.loads(poll(plain)[1:])
    sid = opening["sid"]
    assert opening["upgrades"] == ["websocket"] and opening["pingInterval"] == 25_000
    assert poll(plain, sid, b"40" + TOKEN.encode()) == "ok"
    assert poll(plain, sid).startswith('40{"sid"')
    body = b'451-["file",{"_placeholder":true,"num":0}]\x1ebAQI=\x1e42["two"]'
    assert poll(plain, sid, body) == "ok"
    found = ""
    while "two" not in found:
        found += "\x1e" + poll(plain, sid)
    assert found[1:].split("\x1e") == [
        '451-["file",{"_placeholder":true,"num":0}]',
        "bAQI=",
        '42["two"]',
    ]
    connections = plain.get("/api/connections").json
    assert [c["transport"] for c in connections] == ["socket.io"]
    assert plain.post(f"{POLLING}&sid={sid}", b"x").status == 400
    assert plain.get(f"{POLLING}&sid={sid}").status == 400
    assert plain.get("/api/connections").json == []


def test_last_words_of_many_bytes_are_fetched(with_handlers: Callable[..., Server]) -> None:
    """More than waits for one poll, while one is under way; then the server ends the connection."""
    server = with_handlers(
        """
        @on("go")
        def go(client):
            client.emit("first", "x" * 700_000)
            client.emit("second", "y" * 700_000)
            client.disconnect(close=True)
    """,
        socketio_recovery_seconds=0,
    )
    sid = json.loads(poll(server)[1:])["sid"]
    assert poll(server, sid, b"40" + TOKEN.encode()) == "ok"
    assert poll(server, sid).startswith('40{"sid"')
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(poll, server, sid)
        wait_for(lambda: server.get("/api/connections").json, "the connection to be listed")
        assert poll(server, sid, b'42["go"]') == "ok"
        found = [waiting.result()]
    while (more := server.get(f"{POLLING}&sid={sid}")).status == 200:
        found.append(more.body.decode())
    packets = "\x1e".join(found).split("\x1e")
    assert [packet[:12] for packet in packets] == ['42["first","', '42["second",', "41", "1"]


def test_on_the_loop_of_windows(with_handlers: Callable[..., Server]) -> None:
    """Clients come and go on libuv, which wants everything closed that it watches."""
    server = with_handlers(
        """
        from gevent import get_hub

        @on("loop")
        def loop(client):
            return str(get_hub().loop)
    """,
        env={"GEVENT_LOOP": "libuv"},
        socketio_connect_seconds=0.2,
    )
    until = time.monotonic() + 1  # several times as long as one may take for a CONNECT
    while time.monotonic() < until:
        several = [join_io(server)[0] for _ in range(10)]
        silent = [open_io(server) for _ in range(5)]
        for ws in several + silent:
            ws.close()
    wait_for(lambda: not server.get("/api/connections").json, "all to be gone")
    with join_io(server)[0] as ws:
        ws.send('420["loop"]')
        assert "libuv" in hear_io(ws)


def test_a_poll_that_is_cut_ends_the_session(plain: Server) -> None:
    sid = json.loads(poll(plain)[1:])["sid"]
    connection = http.client.HTTPConnection("127.0.0.1", plain.port)
    connection.request("GET", f"{POLLING}&sid={sid}")
    time.sleep(0.1)
    connection.close()
    wait_for(lambda: not plain.get("/api/connections").json, "the session to end")


@pytest.mark.parametrize("cut", [0, 9], ids=["at once", "in two parts"])
def test_a_poll_ends_with_its_session_of_tls(
    make_server: Callable[..., Server], certificate: Any, cut: int
) -> None:
    """By `close_notify` (RFC 8446, 6.1), however its record comes, while TCP stays open."""
    server = make_server(**certificate.settings)
    trusting = certificate.trusting
    sid = json.loads(poll(server, tls=trusting)[1:])["sid"]
    assert poll(server, sid, b"40" + TOKEN.encode(), trusting) == "ok"
    assert poll(server, sid, tls=trusting).startswith('40{"sid"')
    assert len(server.get("/api/connections", tls=trusting).json) == 1
    comes, goes = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = trusting.wrap_bio(comes, goes, server_hostname="127.0.0.1")
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as sock:

        def step(act: Callable[..., Any], *arguments: bytes) -> None:
            """Do something of TLS, with as many answers as it wants."""
            while True:
                try:
                    act(*arguments)
                except ssl.SSLWantReadError:
                    sock.sendall(goes.read())
                    comes.write(sock.recv(65_536))
                else:
                    return sock.sendall(goes.read())

        step(tls.do_handshake)
        step(tls.write, get_request(f"{POLLING}&sid={sid}", token=None))
        time.sleep(0.1)
        with contextlib.suppress(ssl.SSLWantReadError):
            tls.unwrap()
        end = goes.read()
        for part in (end[:cut], end[cut:]):
            sock.sendall(part)
            time.sleep(0.1)
        wait_for(lambda: not server.get("/api/connections", tls=trusting).json, "its end", 20)


def test_a_polling_client_fetches_why_the_server_closed(plain: Server) -> None:
    sid = json.loads(poll(plain)[1:])["sid"]
    poll(plain, sid, b"40" + TOKEN.encode())
    client = json.loads(poll(plain, sid)[2:])["sid"]
    plain.publish(1)
    assert plain.request("DELETE", f"/api/connections/{client}", {}).status == 200
    assert plain.get("/api/connections").json == []
    assert poll(plain, sid).split("\x1e") == ['42["message",1]', "41", "1"]
    gone = plain.get(f"{POLLING}&sid={sid}")
    assert gone.json == {"code": 1, "message": "Session ID unknown"}


def probe(server: Server, sid: str, **more: Any) -> ClientConnection:
    """A WebSocket to which a polling client may upgrade."""
    query = f"EIO=4&transport=websocket&sid={sid}"
    ws = open_ws(server, query, "/socket.io/", token=None, **more)
    ws.send("2probe")
    assert ws.recv(PATIENCE) == "3probe"
    return ws


def test_upgrade_keeps_what_was_waiting(plain: Server) -> None:
    sid = json.loads(poll(plain)[1:])["sid"]
    poll(plain, sid, b"40" + TOKEN.encode())
    poll(plain, sid)
    with probe(plain, sid) as ws:
        plain.publish(1)
        ws.send("5")
        plain.publish(2)
        assert [hear_io(ws), hear_io(ws)] == ['42["message",1]', '42["message",2]']
        ws.send('421["chat"]')
        assert hear_io(ws) == '42["chat"]'


def test_a_probe_is_answered_with_the_end_of_the_poll(plain: Server) -> None:
    """Between the two the client says nothing; and it has said what it says first by then."""
    sid = json.loads(poll(plain)[1:])["sid"]
    with ThreadPoolExecutor() as pool:
        waits = pool.submit(poll, plain, sid)
        time.sleep(0.2)  # so that it waits there
        began = time.monotonic()
        with probe(plain, sid) as ws:
            assert time.monotonic() - began > 0.09
            assert waits.result(PATIENCE) == "6"
            assert poll(plain, sid, b"40" + TOKEN.encode()) == "ok"
            while not poll(plain, sid).startswith("40"):
                pass
            assert poll(plain, sid) == "6"  # one that was begun beside it
            ws.send("5")
            plain.publish(1)
            assert hear_io(ws) == '42["message",1]'


def test_a_close_right_after_the_upgrade_is_answered(plain: Server) -> None:
    sid = json.loads(poll(plain)[1:])["sid"]
    with probe(plain, sid) as ws:
        ws.socket.sendall(masked(Opcode.TEXT, b"5") + CLOSE)
        assert ended(ws)
    wait_for(lambda: plain.get("/api/connections").json == [], "both to be gone")


def test_ping_timeout_and_silence(make_server: Callable[..., Server]) -> None:
    server = make_server(ping_interval=0.3, ping_timeout=1, socketio_connect_seconds=0.5)
    with open_io(server) as ws:
        assert ended(ws)  # no CONNECT
    ws, _ = join_io(server)
    with ws:
        for _ in range(4):
            assert ws.recv(PATIENCE) == "2"
            ws.send("3")
        assert ended(ws)  # no more pongs


# Handlers

GUIDE = """
    @on("message")
    def message(client, data):
        client.broadcast("message", data)
        return "got", data

    @on("enter")
    def enter(client, room):
        client.join(room)
        client.data["name"] = room
        client.broadcast("joined", client.id, to=room)

    @on("say")
    def say(client, room, text):
        emit("said", text, to=room)

    @on("whisper", namespace="/admin")
    def whisper(client):
        emit("psst", 1, to=client.id, namespace="/admin")

    @on("fail")
    def fail(client):
        raise RuntimeError("on purpose")

    @on("ask")
    def ask(client):
        client.emit("question", 1, ack=lambda answer: client.emit("answered", answer))

    @on("kick")
    def kick(client):
        client.disconnect()

    @on("connection", namespace="/admin")
    def admin(client):
        client.emit("hello", client.auth["name"])

    @use(namespace="/admin")
    def gate(client):
        if "name" not in client.auth:
            raise Refused("who are you?", {"field": "name"})
"""


def test_handlers(with_handlers: Callable[..., Server]) -> None:
    server = with_handlers(GUIDE, access="open", socketio_recovery_seconds=0)
    one, _ = join_io(server, {})
    two, answer = join_io(server, {})
    with one, two:
        one.send('427["message",{"a":1}]')
        assert hear_io(one) == '437["got",{"a":1}]'
        assert hear_io(two) == '42["message",{"a":1}]'
        one.send('421["enter","r"]')
        assert hear_io(one) == "431[]"
        two.send('42["enter","r"]')
        assert hear_io(one) == f'42["joined","{answer["sid"]}"]'
        one.send('42["say","r",{"type":"x"}]')
        assert hear_io(one) == hear_io(two) == '42["said",{"type":"x"}]'
        one.send('422["fail"]')  # is not acknowledged
        one.send('42["nobody takes this"]')
        one.send('42["ask"]')
        assert hear_io(one) == '420["question",1]'
        one.send('430["yes"]')
        assert hear_io(one) == '42["answered","yes"]'
        one.send("40/admin,")
        assert hear_io(one) == '44/admin,{"message":"who are you?","data":{"field":"name"}}'
        one.send('40/admin,{"name":"ada"}')
        assert hear_io(one).startswith('40/admin,{"sid"')
        assert hear_io(one) == '42/admin,["hello","ada"]'
        one.send('42/admin,["whisper"]')
        assert hear_io(one) == '42/admin,["psst",1]'
        one.send('42["kick"]')
        assert hear_io(one) == "41"
    wait_for(lambda: server.get("/api/logs?level=ERROR&q=purpose").json, "the error in the log")


FAULTS = """
    import gevent, sys

    @use(namespace="/exit")
    def leaving(client):
        sys.exit("on purpose")

    @use(namespace="/wrong")
    def wrong(client):
        raise ValueError("a fault of the application's own")

    @use(namespace="/silent")
    def silent(client):
        raise Refused

    @use(namespace="/slow")
    def slow(client):
        with gevent.Timeout(0.001):
            gevent.sleep(60)

    @on("exit")
    def leave(client):
        sys.exit(1)

    @on("late")
    def late(client):
        with gevent.Timeout(0.001):
            gevent.sleep(60)

    @on("killed")
    def killed(client):
        gevent.getcurrent().kill()

    @on("deep")
    def deep(client):
        return deep(client)

    @on("object")
    def unsendable(client):
        return object()

    @on("ask")
    def ask(client):
        client.emit("question", ack=lambda: 1 / 0)

    @on("disconnect")
    def gone(client, reason):
        raise RuntimeError("at the end")

    @on("echo")
    def echo(client, value):
        return value
"""


def test_a_handlers_faults_stop_nobody(with_handlers: Callable[..., Server]) -> None:
    server = with_handlers(FAULTS, access="open", socketio_recovery_seconds=0)
    one, _ = join_io(server, {})
    with one:
        for namespace, message in (
            ("/exit", "internal error"),
            ("/wrong", "a fault of the application's own"),
            ("/silent", "refused"),
            ("/slow", "internal error"),
        ):
            one.send(f"40{namespace},")
            assert hear_io(one) == f'44{namespace},{{"message":"{message}"}}'
        for event in ("exit", "deep", "late", "killed"):
            one.send(f'421["{event}"]')  # is not acknowledged, as what fails never is
        one.send('422["object"]')
        one.send('42["ask"]')
        assert hear_io(one) == '420["question"]'
        one.send("430[]")
        one.send('423["echo","still here"]')
        assert hear_io(one) == '433["still here"]'
    two, _ = join_io(server, {})
    with two:
        two.send('421["echo",1]')
        assert hear_io(two) == "431[1]"
    assert server.process is not None and server.process.poll() is None
    text = "at the end"
    wait_for(lambda: server.get(f"/api/logs?level=ERROR&q={text[-3:]}").json, "the log to say it")


SLOW = """
    import time
    import gevent
    from gevent.monkey import get_original

    hold = get_original("time", "sleep")  # as what knows nothing of gevent waits

    @on("fast")
    def fast(client):
        return 1

    @on("waits")
    def waits(client):
        gevent.sleep(1.6)

    @on("in turns")
    def in_turns(client):
        for _ in range(3):
            hold(0.5)
            gevent.sleep(0.01)

    @on("sleeps")
    def sleeps(client):
        hold(1.2)

    @on("computes")
    def computes(client):
        gevent.sleep(0.01)
        end = time.monotonic() + 1.2
        while time.monotonic() < end:
            pass
        gevent.sleep(0.01)

    @on("cut short")
    def cut_short(client):
        with gevent.Timeout(0.1, False):
            gevent.sleep(5)
        hold(1.1)

    @on("asks")
    def asks(client):
        client.emit("how are you", ack=lambda: hold(1.2))

    @use(namespace="/door")
    def door(client):
        hold(1.2)

    @on("connection", namespace="/hello")
    def hello(client):
        hold(1.2)

    @on("disconnect", namespace="/hello")
    def bye(client, reason):
        hold(1.2)

    @on("puts out")
    def puts_out(client):
        client.disconnect()

    @on("disconnect")
    def gone(client, reason):
        hold(1.2)
"""


def test_a_handler_that_holds_everybody_up_is_named(with_handlers: Callable[..., Server]) -> None:
    """Not one that waits meanwhile, beside one that holds or before."""
    server = with_handlers(SLOW, access="open", socketio_recovery_seconds=0)
    (one, _), (two, _) = join_io(server, {}), join_io(server, {})
    with one, two:
        two.send('421["waits"]')
        assert ask_io(one, "fast") == [1]
        for event in ("sleeps", "sleeps", "computes", "cut short", "in turns"):
            assert ask_io(one, event) == []
        assert hear_io(two) == "431[]"
        one.send('42["asks"]')
        assert hear_io(one) == '420["how are you"]'
        one.send("430[]")
        one.send("40/door,")
        one.send("40/hello,")
        assert [hear_io(one)[:3] for _ in range(2)] == ["40/", "40/"]
        one.send("41/hello,")
        one.send('42["puts out"]')
        assert hear_io(one) == "41"

    def named() -> list[tuple[str, str, float]]:
        rows = server.get("/api/logs?level=WARN&q=held").json
        about = [row["metadata"] for row in reversed(rows)]
        return [(row["event"], row["namespace"], row["seconds"]) for row in about]

    wait_for(lambda: ("disconnect", "/") in [row[:2] for row in named()], "the last one")
    assert [row[:2] for row in named()] == [
        ("sleeps", "/"),
        ("computes", "/"),
        ("cut short", "/"),
        ("how are you", "/"),
        ("use", "/door"),
        ("connection", "/hello"),
        ("disconnect", "/hello"),
        ("disconnect", "/"),
    ]
    assert all(1 < row[2] < 3 for row in named()), named()
    said = [line for line in server.output if line.startswith("rtapp warn: ")]
    assert re.fullmatch(r"rtapp warn: The handler of sleeps held .* for 1\.\d s: .*", said[0]), said


def test_the_guides_way_out_of_the_loop(make_server: Callable[..., Server], tmp_path: Path) -> None:
    """A handler's own database is locked, and others are served meanwhile."""
    guide = (ROOT / "static" / "docs" / "socketio.md").read_text("utf-8")
    database = tmp_path / "shop.db"
    blocks = re.findall(r"```python\n(.*?)```", guide, re.S)
    code = next(block for block in blocks if "threadpool" in block)
    path = tmp_path / "handlers.py"
    path.write_text(code.replace('"shop.db"', repr(str(database))))
    server = make_server("--app", str(path), access="open", socketio_recovery_seconds=0)
    ws, _ = join_io(server, {})
    with ws, contextlib.closing(sqlite3.connect(database, isolation_level=None)) as db:
        db.execute("CREATE TABLE orders (id INTEGER, state TEXT)")
        db.execute("INSERT INTO orders VALUES (7, 'paid')")
        db.execute("BEGIN EXCLUSIVE")
        ws.send('421["order",7]')
        ended = time.monotonic() + 1.5
        while time.monotonic() < ended:  # a held loop would answer when the query has failed
            assert server.get("/healthz").status == 200
        db.execute("ROLLBACK")
        assert hear_io(ws) == '431["paid"]'
    assert not [line for line in server.output if line.startswith("rtapp warn: ")]


HELD = """
    import gevent.event

    go = gevent.event.Event()
    held = []

    @on("hold")
    def hold(client, *values):
        held.append(client.id)
        go.wait()
        return len(values)

    @on("release")
    def release(client):
        go.set()

    @on("held")
    def is_held(client):
        return len(held)

    @on("count")
    def count(client, *values):
        return len(values)
"""


def sent_until_held_up(ws: ClientConnection, data: bytes, most: int) -> int:
    """Send the same bytes again and again until the other side reads no more, or so many times; how
    many bytes were taken."""
    sent = 0
    ws.socket.settimeout(2)
    with contextlib.suppress(TimeoutError):
        while sent < most * len(data):
            sent += ws.socket.send(data[sent % len(data) :])
    ws.socket.settimeout(None)
    return sent


def ask_io(ws: ClientConnection, *event: Any) -> Any:
    """What an event is acknowledged with."""
    ws.send("42777" + json.dumps(event))
    return json.loads(hear_io(ws).removeprefix("43777"))


def test_what_waits_is_bounded_in_bytes(with_handlers: Callable[..., Server]) -> None:
    """A hundred messages of 600 KB, of which none is done yet; all are done in the end."""
    server = with_handlers(HELD, access="open", socketio_recovery_seconds=0)
    (ws, _), (other, _) = join_io(server, {}), join_io(server, {})
    with ws, other:
        ws.send('421["hold"]')
        text = b'421["count","' + b"x" * 600_000 + b'"]'
        data = b"\x81\xff" + len(text).to_bytes(8, "big") + bytes(4) + text
        sent = sent_until_held_up(ws, data, 100)
        assert sent < 40_000_000  # what systems hold on the way is some of it
        other.send('42["release"]')
        ws.socket.sendall(data[sent % len(data) :])
        assert hear_io(ws) == "431[0]"
        for _ in range(sent // len(data) + 1):
            assert hear_io(ws) == "431[1]"


def test_who_is_not_read_from_need_not_answer(with_handlers: Callable[..., Server]) -> None:
    """Its pong waits behind what is too much at the moment."""
    server = with_handlers(
        HELD, access="open", socketio_recovery_seconds=0, ping_interval=0.3, ping_timeout=1
    )
    ws, _ = join_io(server, {})
    with ws:
        ws.socket.sendall(masked(Opcode.TEXT, b'421["hold"]') * 400)  # before the first ping
        pings = 0
        while pings < 15:  # more than three times as long as a client that is heard may be silent
            assert ws.recv(PATIENCE) == "2"
            ws.send("3")
            pings += 1
        other, _ = join_io(server, {})
        other.send('42["release"]')
        other.close()
        for _ in range(400):
            assert hear_io(ws) == "431[0]"
        ws.send('421["count",1]')
        assert hear_io(ws) == "431[1]"


def test_who_is_not_read_from_is_not_after_the_upgrade(
    with_handlers: Callable[..., Server],
) -> None:
    server = with_handlers(HELD, access="open", socketio_recovery_seconds=0)
    sid = json.loads(poll(server)[1:])["sid"]
    poll(server, sid, b"40")
    poll(server, sid)
    with ThreadPoolExecutor() as pool, join_io(server, {})[0] as other, probe(server, sid) as ws:
        posted = pool.submit(poll, server, sid, b"\x1e".join([b'421["hold"]'] * 300))
        listed = "/api/connections?transport=socket.io"
        wait_for(lambda: ask_io(other, "held") == [1], "the first one to be held")
        ws.send("5")
        wait_for(lambda: len(server.get(listed).json) == 2, "the upgrade")
        text = b'421["count","' + b"x" * 60_000 + b'"]'
        data = b"\x81\xfe" + len(text).to_bytes(2, "big") + bytes(4) + text
        sent = sent_until_held_up(ws, data, 1_000)
        assert sent < 40_000_000
        other.send('42["release"]')
        assert posted.result() == "ok"
        ws.socket.sendall(data[sent % len(data) :])
        heard = [hear_io(ws) for _ in range(300 + sent // len(data) + 1)]
        assert heard.count("431[0]") == 300


def test_two_posts_at_once_end_the_session(with_handlers: Callable[..., Server]) -> None:
    """Else as many bodies would wait as there are sockets."""
    server = with_handlers(HELD, access="open", socketio_recovery_seconds=0)
    sid = json.loads(poll(server)[1:])["sid"]
    poll(server, sid, b"40")
    with ThreadPoolExecutor() as pool:
        body = b"\x1e".join([b'421["hold"]'] * 300)
        path = f"{POLLING}&sid={sid}"
        posted = pool.submit(server.post, path, body, token=None)
        with join_io(server, {})[0] as other:
            wait_for(lambda: ask_io(other, "held") == [1], "the first one to be held")
        assert server.post(path, b"3", token=None).status == 400
        assert posted.result().status == 400
    wait_for(lambda: server.get("/api/connections").json == [], "it to be gone")


ROOMS = """
    @on("enter")
    def enter(client, *rooms):
        for room in rooms:
            client.join(room)
        return list(client.rooms)

    @on("say")
    def say(client, options, *values):
        emit("said", *values, **options)
        return True

    @on("tell")
    def tell(client, options, *values):
        client.broadcast("said", *values, **options)
        return True
"""


@pytest.mark.parametrize("volatile", [False, True])
def test_several_rooms_and_exceptions(with_handlers: Callable[..., Server], volatile: bool) -> None:
    server = with_handlers(ROOMS, access="open", socketio_recovery_seconds=0)
    members = {"r": ["red"], "b": ["blue"], "rb": ["red", "blue"], "none": []}
    sockets, sids = {}, {}
    for name, rooms in members.items():
        sockets[name], answer = join_io(server, {})
        sids[name] = answer["sid"]
        sockets[name].send("421" + json.dumps(["enter", *rooms]))
        assert hear_io(sockets[name]).startswith("431[")
    cases: list[tuple[str, dict[str, Any], set[str]]] = [
        ("say", {"to": ["red", "blue", "red"]}, {"r", "b", "rb"}),
        ("say", {"to": "red", "exclude": "blue"}, {"r"}),
        ("say", {"exclude": ["red", "blue"]}, {"none"}),
        ("say", {"exclude": [sids["none"], "blue"]}, {"r"}),
        ("say", {"to": [sids["none"], "red", sids["rb"]]}, {"none", "r", "rb"}),
        ("say", {"to": ["red", "blue"], "exclude": sids["rb"]}, {"r", "b"}),
        ("say", {"to": ["nobody"]}, set()),
        ("tell", {"to": ["red", "blue"], "exclude": [sids["b"]]}, {"r"}),
        ("tell", {"exclude": "red"}, {"b", "none"}),
    ]
    for number, (how, options, _) in enumerate(cases):
        sockets["rb"].send("42" + json.dumps([how, {**options, "volatile": volatile}, number]))
    sockets["rb"].send('42["say",{},"end"]')
    for name, ws in sockets.items():
        with ws:
            heard = list(iter(lambda: hear_io(ws), '42["said","end"]'))  # noqa: B023
        expected = [f'42["said",{n}]' for n, case in enumerate(cases) if name in case[2]]
        assert heard == expected, name


def test_binary_volatile_is_written_for_each_transport(
    with_handlers: Callable[..., Server],
) -> None:
    server = with_handlers(ROOMS, access="open", socketio_recovery_seconds=0)
    ws, answer = join_io(server, {})
    session = "session=" + "v" * 22
    with ws, server.stream(session) as stream, open_ws(server, session) as other:
        client = stream.hello["clientId"]
        for to in (client, answer["sid"]):
            given = json.dumps({"to": to, "volatile": True})
            ws.send(f'451-["say",{given},{{"_placeholder":true,"num":0}},"b"]')
            ws.send(b"\x01\x02")
        assert hear_io(ws) == '451-["said",{"_placeholder":true,"num":0},"b"]'
        assert hear_io(ws) == b"\x01\x02"
        inlined = [{"_placeholder": True, "num": 0, "base64": "AQI="}, "b"]
        event = stream.take(1)[0]
        assert (event["event"], json.loads(event["data"])) == ("said", inlined)
        said = {"type": "message", "channel": None, "event": "said", "data": inlined}
        assert hear(other, "message") == said


# Recovery


def offset_of(event: str) -> str:
    """The offset with which an event ends."""
    return str(json.loads(event[2:])[-1])


def test_recovery_from_the_log(server: Server) -> None:
    ws, answer = join_io(server)
    server.publish("a")
    offset = offset_of(hear_io(ws))
    ws.send('421["join","news"]')
    hear_io(ws)
    server.kill()
    server.start()
    server.publish("b")
    server.publish("c", "channel=news")
    back = come_back(server, answer, offset)
    assert [json.loads(hear_io(back)[2:])[1] for _ in range(2)] == ["b", "c"]
    server.publish("d", f"to={answer['sid']}")
    assert json.loads(hear_io(back)[2:])[1] == "d"
    back.send("41")
    back.close()
    count = "SELECT COUNT(*) FROM socket_sessions"
    wait_for(lambda: query_database(server.data, count) == [(0,)], "the client to be forgotten")
    other, new = join_io(server, {**AUTH, "pid": answer["pid"], "offset": offset})
    assert new["pid"] != answer["pid"] and new["sid"] != answer["sid"]
    other.close()


def test_who_comes_back_is_present_again(server: Server) -> None:
    ws, answer = join_io(server)
    ws.send('421["join","news"]')
    hear_io(ws)
    with server.stream("channel=news&presence=1") as watcher:
        own = watcher.next()
        ws.close()
        heard = [own, watcher.next()]
        with come_back(server, answer):
            heard.append(watcher.next())
    events = ["presence-join", "presence-leave", "presence-join"]
    assert [event["event"] for event in heard] == events
    assert json.loads(heard[2]["data"])["clientId"] == answer["sid"]


def test_recovery_on_the_other_node(postgres: Cluster, start_node: Callable[..., Server]) -> None:
    """It may not have read yet what the client has heard, and what it was made of."""
    url = postgres.new_database()
    nodes = start_node(url, **RECOVERY), start_node(url, **RECOVERY)
    ws, answer = join_io(nodes[0])
    for n in range(20 if LONG else 8):
        here, there = nodes[n % 2], nodes[1 - n % 2]
        ws.send(json.dumps(["join", f"room{n}"]).join(("421", "")))
        assert hear_io(ws).startswith("431")
        postgres.mute()
        for number in range(3):
            here.publish([n, number], f"channel=room{n}")
        offset = [offset_of(hear_io(ws)) for _ in range(3)][1]
        ws.close()
        ws = come_back(there, answer, offset)  # the third one did not arrive
        here.publish([n, 3], f"channel=room{n}")
        assert [json.loads(hear_io(ws)[2:])[1] for _ in range(2)] == [[n, 2], [n, 3]]
    ws.close()


def test_who_came_back_is_put_out_from_another_node(
    postgres: Cluster, start_node: Callable[..., Server]
) -> None:
    """Its connection was listed as another client's before it said whose it is."""
    url = postgres.new_database()
    here, there = (start_node(url, **RECOVERY) for _ in range(2))
    ws, answer = join_io(here)
    ws.close()
    ws = open_io(here)
    listed = "/api/connections?transport=socket.io"
    wait_for(lambda: len(there.get(listed).json) == 1, "the connection")
    ws.send(f"40{json.dumps({**AUTH, 'pid': answer['pid']})}")
    assert json.loads(hear_io(ws)[2:]) == answer
    kick = f"/api/connections/{answer['sid']}"
    wait_for(lambda: there.request("DELETE", kick).status == 200, "its name")
    with pytest.raises(ConnectionClosed):
        while True:
            hear_io(ws)


def test_who_came_back_on_another_node_is_not_lost_by_the_first(
    postgres: Cluster, start_node: Callable[..., Server]
) -> None:
    url = postgres.new_database()
    nodes = [start_node(url, **RECOVERY) for _ in range(2)]
    ws, answer = join_io(nodes[0])
    back = come_back(nodes[1], answer)
    other, seen = join_io(nodes[0])
    ws.close()
    other.close()

    def lost(client: dict[str, Any]) -> bool:
        sql = "SELECT left_at FROM socket_sessions WHERE client_id = ?"
        return bool(rows_of(url, sql, client["sid"])[0][0])

    wait_for(lambda: lost(seen), "the first node to have written who is lost")
    assert not lost(answer)
    back.close()


def test_nothing_is_kept_of_who_left_while_joining(server: Server) -> None:
    with open_io(server) as ws:
        ws.socket.sendall(masked(Opcode.TEXT, b"40" + TOKEN.encode()) + CLOSE)
        assert ended(ws)
    sql = "SELECT left_at > 0 FROM socket_sessions"
    wait_for(lambda: query_database(server.data, sql) == [(1,)], "it to be noted as lost")


def test_nothing_is_kept_of_who_is_put_out(with_handlers: Callable[..., Server]) -> None:
    server = with_handlers("""
        @on("connection")
        def connection(client):
            client.data["seen"] = True
            client.disconnect()
    """)
    with open_io(server) as ws:
        ws.send("40" + TOKEN)
        assert hear_io(ws).startswith("40") and hear_io(ws) == "41"
        ws.send('42["late"]')
        assert ended(ws)
    assert query_database(server.data, "SELECT * FROM socket_sessions") == []


def test_a_room_may_be_named_like_a_client(with_handlers: Callable[..., Server]) -> None:
    """Names of 21 URL-safe characters are what nanoid makes. Who is away gets it afterwards."""
    server = with_handlers(
        MOMENTS
        + """
    @on("tell")
    def tell(client, room, text):
        emit("told", text, to=room)
    """
    )
    room = "V1StGXR8_Z5jdHi6B-myT"
    (ws, answer), (other, about) = join_io(server), join_io(server)
    for client in (ws, other):
        client.send("421" + json.dumps(["enter", room]))
        assert hear_io(client) == "431[]"
    ws.send("42" + json.dumps(["tell", room, "all"]))
    offset = [offset_of(hear_io(each)) for each in (other, ws)][1]
    other.send("421" + json.dumps(["exit", room]))
    assert hear_io(other) == "431[]"
    ws.close()
    wait_for(lambda: len(server.get("/api/connections").json) == 1, "it to be gone")
    other.send("42" + json.dumps(["tell", room, "missed"]))
    other.send("42" + json.dumps(["tell", about["sid"], "own"]))
    assert json.loads(hear_io(other)[2:])[1] == "own"
    ws = come_back(server, answer, offset)
    assert json.loads(hear_io(ws)[2:])[1] == "missed"
    ws.send("421" + json.dumps(["enter", about["sid"]]))
    assert hear_io(ws) == "431[]"
    ws.send("42" + json.dumps(["tell", about["sid"], "both"]))
    assert [json.loads(hear_io(each)[2:])[1] for each in (ws, other)] == ["both", "both"]


def test_recovery_without_an_offset_and_after_its_time(make_server: Callable[..., Server]) -> None:
    server = make_server(socketio_recovery_seconds=60)
    ws, answer = join_io(server)
    ws.close()
    server.publish("missed")
    ws = come_back(server, answer)
    assert json.loads(hear_io(ws)[2:])[1] == "missed"
    ws.close()
    left = "SELECT 1 FROM socket_sessions WHERE left_at IS NOT NULL"
    wait_for(lambda: rows_of(server.database_url, left), "the loss to be noted")
    change(server.database_url, "UPDATE socket_sessions SET left_at = left_at - 60001")
    ws, found = join_io(server, {**AUTH, "pid": answer["pid"]})
    assert found["pid"] != answer["pid"]
    ws.close()


def come_back(server: Server, answer: dict[str, Any], offset: str = "") -> ClientConnection:
    """The same client on a new connection; fails unless it is recovered."""
    auth = {**AUTH, "pid": answer["pid"], **({"offset": offset} if offset else {})}
    ws, again = join_io(server, auth)
    assert again == answer
    return ws


MOMENTS = """
    clients = {}

    @on("connection")
    def connection(client):
        clients[client.auth.get("name", client.id)] = client

    @on("enter")
    def enter(client, room):
        client.join(room)

    @on("exit")
    def leave(client, room):
        client.leave(room)

    @on("name")
    def name(client, value):
        client.data["name"] = value

    @on("pull")
    def pull(client, name, room):
        clients[name].join(room)

    @on("ask")
    def ask(client):
        def answered(value):
            client.data["answer"] = value
            client.join("answered")
        client.emit("question", ack=answered)
"""


def test_what_a_client_is_is_stored_when_it_changes(with_handlers: Callable[..., Server]) -> None:
    """At CONNECT, when it joins, leaves or its data changes; also by another client's handler."""
    server = with_handlers(MOMENTS)

    def stored(sid: str) -> tuple[set[str], dict[str, Any]]:
        sql = "SELECT state FROM socket_sessions WHERE client_id = ?"
        rows = query_database(server.data, sql, sid)
        state = json.loads(rows[0][0]) if rows else {"rooms": ["nobody"], "data": {}}
        return set(state["rooms"]), state["data"]

    ws, answer = join_io(server, {**AUTH, "name": "ada"})
    other, _ = join_io(server)
    sid = answer["sid"]
    with other:
        assert stored(sid) == (set(), {})
        for event, state in (
            (["enter", "red"], ({"red"}, {})),
            (["enter", "blue"], ({"red", "blue"}, {})),
            (["exit", "red"], ({"blue"}, {})),
            (["name", "x"], ({"blue"}, {"name": "x"})),
        ):
            ws.send("421" + json.dumps(event))
            assert hear_io(ws) == "431[]"
            assert stored(sid) == state, event
        other.send('421["pull","ada","green"]')
        assert hear_io(other) == "431[]"
        wait_for(lambda: "green" in stored(sid)[0], "another's handler to be stored")
        ws.send('42["ask"]')
        assert hear_io(ws).startswith('420["question"')
        ws.send("430[7]")
        state = {"blue", "green", "answered"}, {"name": "x", "answer": 7}
        wait_for(lambda: stored(sid) == state, "what an acknowledgement changed to be stored")
        ws.close()
        wait_for(lambda: len(server.get("/api/connections").json) == 1, "it to be gone")
        other.send('421["pull","ada","late"]')
        assert hear_io(other) == "431[]"
        server.kill()
        server.start()
    auth = {**AUTH, "name": "ada", "pid": answer["pid"]}
    ws, again = join_io(server, auth)
    assert again == answer
    ws.close()


@pytest.mark.parametrize(
    "offset", [None, "", "00000000-1", "zz", 5, [1], {}, True, "9" * 400], ids=repr
)
def test_recovery_with_a_foreign_offset(server: Server, offset: Any) -> None:
    """It goes on at the row's position."""
    ws, answer = join_io(server)
    ws.close()
    server.publish("missed")
    auth = {**AUTH, "pid": answer["pid"], "offset": offset}
    ws, again = join_io(server, auth)
    assert again == answer and json.loads(hear_io(ws)[2:])[1] == "missed"
    ws.close()


@pytest.mark.parametrize("pid", ["", "x" * 5000, 5, None, [1], "\u0000"], ids=repr)
def test_a_foreign_pid_begins_anew(server: Server, pid: Any) -> None:
    server.publish("before")
    ws, answer = join_io(server, {**AUTH, "pid": pid, "offset": "x-1"})
    assert answer["pid"] != pid
    server.publish("after")
    assert json.loads(hear_io(ws)[2:])[1] == "after"
    ws.close()


def test_what_was_sent_and_did_not_arrive_is_sent_again(server: Server) -> None:
    """The client changed rooms after it was sent something that it never got."""
    ws, answer = join_io(server)
    server.publish("lost on its way")
    connections = "/api/connections"
    wait_for(lambda: server.get(connections).json[0]["messageCount"] == 1, "it to be sent")
    ws.send('421["join","news"]')
    while not hear_io(ws).startswith("431"):
        pass
    ws.close()
    ws = come_back(server, answer)
    assert json.loads(hear_io(ws)[2:])[1] == "lost on its way"
    ws.close()


def test_a_volatile_event_ends_with_the_offset_too(server: Server) -> None:
    """Else its last argument, when it is text, would be taken for one."""
    ws, answer = join_io(server)
    server.publish("kept")
    kept = offset_of(hear_io(ws))
    server.publish("volatile", "volatile=1")
    event = json.loads(hear_io(ws)[2:])
    assert event[:2] == ["message", "volatile"] and event[2] == kept
    ws.close()
    server.publish("missed")
    ws = come_back(server, answer, event[2])
    assert json.loads(hear_io(ws)[2:])[1] == "missed"
    ws.close()


def test_who_comes_back_before_the_loss_is_noticed(server: Server) -> None:
    ws, answer = join_io(server)
    server.publish(1)
    offset = offset_of(hear_io(ws))
    with come_back(server, answer, offset) as back:
        assert ended(ws)
        assert len(server.get("/api/connections").json) == 1
        server.publish(2)
        assert json.loads(hear_io(back)[2:])[1] == 2
    with come_back(server, answer, offset) as back:
        assert json.loads(hear_io(back)[2:])[1] == 2


def test_of_two_that_come_back_at_once_one_goes_on(server: Server) -> None:
    """Both are stored before either has said whose connection it is."""
    ws, answer = join_io(server)
    ws.close()
    wait_for(lambda: not server.get("/api/connections").json, "it to be gone")
    auth = json.dumps({**AUTH, "pid": answer["pid"]})
    with open_io(server) as one, open_io(server) as two:
        with contextlib.closing(sqlite3.connect(server.data / "rtapp.db")) as database:
            database.isolation_level = None
            database.execute("BEGIN IMMEDIATE")
            for ws in (one, two):
                ws.send(f"40{auth}")
            for _ in range(3):
                assert server.get("/healthz").status == 200
            database.execute("ROLLBACK")
        assert hear_io(one).startswith("40") and hear_io(two).startswith("40")
        listed = "/api/connections?transport=socket.io"
        wait_for(lambda: len(server.get(listed).json) == 1, "one of them to be ended")


@pytest.mark.parametrize("others", [0, 200], ids=["ring", "table"])
def test_recovery_of_a_second_namespace(with_handlers: Callable[..., Server], others: int) -> None:
    """What it missed comes from memory, or, where others' messages have taken its place there, from
    the database."""
    server = with_handlers(
        """
        @on("connection", namespace="/admin")
        def admin(client):
            client.join("staff")

        @on("shift", namespace="/admin")
        def shift(client, n):
            emit("shift", n, to="staff", namespace="/admin")
            emit("seen", n)
    """,
        ring_bytes=65_536,
    )
    ws, main = join_io(server)
    ws.send("40/admin," + TOKEN)
    admin = json.loads(hear_io(ws).removeprefix("40/admin,"))
    other, _ = join_io(server)
    with other:
        other.send("40/admin," + TOKEN)
        hear_io(other)
        for n in (1, 2):
            other.send(f'42/admin,["shift",{n}]')
            found = [hear_io(ws), hear_io(ws)]
            assert found[0].startswith(f'42/admin,["shift",{n},"')
            assert found[1].startswith(f'42["seen",{n},"')
    server.kill()
    server.start()
    with join_io(server)[0] as other:
        other.send("40/admin," + TOKEN)
        hear_io(other)
        other.send('42/admin,1["shift",3]')
        while not hear_io(other).startswith("43"):
            pass
    for _ in range(others):
        server.publish("x" * 1_000, "channel=elsewhere")
    shift, seen = (offset_of(text[text.index("[") - 2 :]) for text in found)
    ws = come_back(server, main, seen)
    assert hear_io(ws).startswith('42["seen",3,')
    auth = json.dumps({**AUTH, "pid": admin["pid"], "offset": shift})
    ws.send("40/admin," + auth)
    assert json.loads(hear_io(ws).removeprefix("40/admin,")) == admin
    assert hear_io(ws).startswith('42/admin,["shift",3,')
    ws.close()


def test_recovery_again_and_again(server: Server) -> None:
    ws, answer = join_io(server)
    offset = ""
    for n in range(6):
        ws.close()
        if n % 3 == 2:
            server.kill()
            server.start()
        server.publish(f"missed {n}")
        ws = come_back(server, answer, offset)
        server.publish(f"heard {n}")
        for text in (f"missed {n}", f"heard {n}"):
            event = hear_io(ws)
            assert json.loads(event[2:])[1] == text
            offset = offset_of(event)
    ws.close()


@pytest.mark.parametrize("heard", [False, True])
def test_recovery_after_a_long_quiet(make_server: Callable[..., Server], heard: bool) -> None:
    """Much that is no business of a client comes and goes while it is connected."""
    server = make_server(history_messages=5, ring_bytes=65_536, **RECOVERY)
    ws, answer = join_io(server)
    offset = ""
    if heard:
        server.publish("heard")
        offset = offset_of(hear_io(ws))
    for n in range(150):
        server.publish("x" * 500, f"channel=elsewhere{n % 3}")
    server.kill()
    server.start()
    if LONG:  # the retention comes once a minute
        count = "SELECT COUNT(*) FROM messages"
        wait_for(lambda: query_database(server.data, count)[0][0] <= 10, "the retention", 100)
    server.publish("missed")
    with come_back(server, answer, offset) as ws:
        assert json.loads(hear_io(ws)[2:])[1] == "missed"


def test_relay_can_be_switched_off(make_server: Callable[..., Server]) -> None:
    server = make_server(relay_events="false")
    one, _ = join_io(server)
    two, _ = join_io(server)
    with one, two:
        one.send('421["chat","hidden"]')
        assert "relay_events" in json.loads(hear_io(one)[3:])[0]["message"]
        one.send('422["join","news"]')
        assert hear_io(one) == '432[{"success":true}]'
        server.publish("shown")
        assert hear_io(two) == '42["message","shown"]'


def test_over_tls(make_server: Callable[..., Server], certificate: Any) -> None:
    server = make_server(**certificate.settings)
    tls = certificate.trusting
    sid = json.loads(poll(server, tls=tls)[1:])["sid"]
    assert poll(server, sid, b"40" + TOKEN.encode(), tls) == "ok"
    assert poll(server, sid, tls=tls).startswith('40{"sid"')
    with probe(server, sid, tls=tls, max_size=None) as ws:
        ws.send("5")
        large = json.dumps(["chat", "x" * 300_000])
        ws.send("421" + large)
        assert sorted([hear_io(ws), hear_io(ws)]) == [
            "42" + json.dumps(["chat", "x" * 300_000], separators=(",", ":")),
            '431[{"success":true}]',
        ]
        ws.send('451-["file",{"_placeholder":true,"num":0}]')
        ws.send(bytes(100_000))
        assert hear_io(ws).startswith("451-")
        assert hear_io(ws) == bytes(100_000)


# The clients from npm


@pytest.fixture
def modules(npm_folder: Callable[..., Path]) -> Path:
    """A folder where socket.io-client is installed."""
    return npm_folder("socket.io-client@4", "socket.io-msgpack-parser@3")


PRELUDE = """
import { io } from "socket.io-client";
const [url, token, transports] = process.argv.slice(2);
const out = (...values) => console.log(JSON.stringify(values));
const once = (socket, event) => new Promise(done => socket.once(event, (...a) => done(a)));
const options = { auth: { token }, transports: transports.split(","), reconnectionDelay: 50,
                  reconnectionDelayMax: 200, forceNew: true };
"""
MSGPACK = 'import parser from "socket.io-msgpack-parser"; options.parser = parser;'


class Node:
    """A script in node that prints JSON lines."""

    def __init__(
        self, folder: Path, script: str, server: Server, transports: str, prelude: str = PRELUDE
    ) -> None:
        path = folder / f"script{time.monotonic_ns()}.mjs"
        path.write_text(prelude + textwrap.dedent(script))
        command = ["node", str(path), f"http://127.0.0.1:{server.port}", ADMIN, transports]
        self.process = subprocess.Popen(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def __enter__(self) -> Iterator[Any]:
        assert self.process.stdout is not None
        return (json.loads(line) for line in self.process.stdout)

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)


TRANSPORTS = ["polling", "websocket", "polling,websocket"]


@pytest.mark.parametrize("parser", ["", MSGPACK], ids=["json", "msgpack"])
@pytest.mark.parametrize("transports", TRANSPORTS)
def test_real_client(
    with_handlers: Callable[..., Server], modules: Path, transports: str, parser: str
) -> None:
    server = with_handlers(GUIDE)
    script = """
    const a = io(url, options), b = io(url, options);
    await Promise.all([once(a, "connect"), once(b, "connect")]);
    if (transports.includes(",")) {
      while (a.io.engine.transport.name !== "websocket") await new Promise(r => setTimeout(r, 20));
    }
    out("transport", a.io.engine.transport.name);
    const heard = once(b, "message");
    out("ack", await a.timeout(5000).emitWithAck("message", Buffer.from([1, 2])));
    out("heard", Array.from((await heard)[0]));
    await b.timeout(5000).emitWithAck("enter", "room");
    const said = once(b, "said");
    a.emit("say", "room", "é");
    out("said", (await said)[0]);
    a.once("question", (n, answer) => answer(n + 1));
    const answered = once(a, "answered");
    a.emit("ask");
    out("answered", (await answered)[0]);
    const admin = io(url + "/admin", { ...options, auth: { token, name: "x" } });
    out("namespace", (await once(admin, "hello"))[0]);
    const refused = io(url + "/admin", options);
    out("refused", (await once(refused, "connect_error"))[0].message);
    a.emit("kick");
    out("reason", (await once(a, "disconnect"))[0]);
    process.exit(0);
    """
    with Node(modules, script, server, transports, PRELUDE + parser) as lines:
        found = dict(line for line in lines)
    assert found == {
        "transport": transports.rsplit(",", maxsplit=1)[-1],
        "ack": found["ack"],
        "heard": [1, 2],
        "said": "é",
        "answered": 2,
        "namespace": "x",
        "refused": "who are you?",
        "reason": "io server disconnect",
    }


@pytest.mark.parametrize(
    ("transports", "parser"), [*((each, "") for each in TRANSPORTS), ("polling,websocket", MSGPACK)]
)
def test_real_client_recovers_after_sigkill(
    server: Server, modules: Path, transports: str, parser: str
) -> None:
    script = """
    const socket = io(url, options);
    socket.on("connect", () => out("connect", socket.id, socket.recovered));
    socket.on("message", value => out("message", value));
    """
    with Node(modules, script, server, transports, PRELUDE + parser) as lines:
        _, sid, recovered = next(lines)
        assert recovered is False
        server.publish(1)
        assert next(lines) == ["message", 1]
        for n in (2, 3):
            server.kill()
            server.start()
            server.publish(n)
            assert sorted([next(lines), next(lines)]) == [["connect", sid, True], ["message", n]]


EARLIER = """
import { createRequire } from "node:module";
const [url, token, transports] = process.argv.slice(2);
const { io } = createRequire(import.meta.url)("socket.io-client");
const out = (...values) => console.log(JSON.stringify(values));
const once = (socket, event) => new Promise(done => socket.once(event, (...a) => done(a)));
const ask = (socket, ...values) => new Promise(done => socket.emit(...values, done));
const options = { auth: { token }, transports: transports.split(","), forceNew: true };
"""


@pytest.mark.parametrize("version", ["3.1", "4.0"])
@pytest.mark.parametrize("transports", TRANSPORTS)
def test_earlier_clients(
    with_handlers: Callable[..., Server],
    npm_folder: Callable[..., Path],
    transports: str,
    version: str,
) -> None:
    server = with_handlers(GUIDE, socketio_recovery_seconds=0)
    script = """
    const a = io(url, options), b = io(url, options);
    await Promise.all([once(a, "connect"), once(b, "connect")]);
    await ask(b, "enter", "room");
    const said = once(b, "said"), heard = once(b, "message");
    a.emit("say", "room", "é");
    out("said", (await said)[0]);
    a.emit("message", Buffer.from([1, 2]));
    out("heard", Array.from((await heard)[0]));
    const refused = io(url + "/admin", options);
    out("refused", (await once(refused, "connect_error"))[0].message);
    a.emit("kick");
    out("reason", (await once(a, "disconnect"))[0]);
    process.exit(0);
    """
    folder = npm_folder(f"socket.io-client@{version}")
    with Node(folder, script, server, transports, EARLIER) as lines:
        found = dict(line for line in lines)
    expected = {"said": "é", "heard": [1, 2], "refused": "who are you?"}
    assert found == {**expected, "reason": "io server disconnect"}


OLD = """
import io from "socket.io-client";
const [url, token, transports] = process.argv.slice(2);
const socket = io(url, { transports: transports.split(","), forceNew: true, reconnection: false });
for (const event of ["connect", "connect_error"])
  socket.on(event, () => { console.log(JSON.stringify(event)); process.exit(0); });
"""


@pytest.mark.parametrize("transports", ["polling", "websocket"])
def test_socket_io_client_2_is_refused(
    server: Server, npm_folder: Callable[..., Path], transports: str
) -> None:
    folder = npm_folder("socket.io-client@2")
    with Node(folder, OLD, server, transports, prelude="") as lines:
        assert next(lines) == "connect_error"
    assert server.get("/api/connections").json == []


# Beside it


def test_browser_client_and_own_pages(make_server: Callable[..., Server], tmp_path: Path) -> None:
    pages = tmp_path / "pages"
    (pages / "sub").mkdir(parents=True)
    (pages / "index.html").write_text("own")
    (pages / "sub" / "index.html").write_text("deeper")
    (tmp_path / "secret.txt").write_text("secret")
    server = make_server("--public", str(pages))
    assert server.get("/", token=None).body == b"own"
    assert server.get("/sub/", token=None).body == b"deeper"
    for path in ("/../secret.txt", "/%2e%2e/secret.txt", "/none", "/sub/%00"):
        assert server.get(path, token=None).status == 404, path
    assert server.get("/api/stats").status == 200
    for kind in ("js", "min.js", "esm.min.js", "msgpack.min.js"):
        answer = server.get(f"/socket.io/socket.io.{kind}", token=None)
        assert answer.status == 200 and b"Socket.IO v4." in answer.body
        assert answer.headers["content-type"].startswith("text/javascript")
    assert server.get("/socket.io/other.js").status == 404


def test_create_server(tmp_path: Path) -> None:
    import rtapp

    with rtapp.create_server(data=tmp_path, access="open") as server:
        port = int(server.url.rsplit(":", 1)[1])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        connection.request("GET", "/healthz")
        assert connection.getresponse().status == 200
        connection.close()
    with pytest.raises(rtapp.StartError):
        rtapp.create_server(data=tmp_path, port=-1).start()
    with pytest.raises(rtapp.StartError, match="prot: there is no such setting; port is"):
        rtapp.create_server(data=tmp_path, prot=0)


def test_what_the_handlers_of_an_embedded_server_print(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """More than a pipe holds, which nobody would read."""
    import rtapp

    handlers = tmp_path / "handlers"  # by any name
    handlers.write_text("""
from rtapp import on

@on("say")
def say(client):
    for _ in range(100):
        print("y" * 1_000)
""")
    given = {"data": tmp_path / "data", "access": "open", "app": handlers}
    with rtapp.create_server(**given, allowed_origins=["https://a.example", "https://b"]) as server:
        address = server.url.replace("http", "ws") + "/socket.io/?EIO=4&transport=websocket"
        with connect(address, compression=None, origin=Origin("https://b")) as ws:
            ws.recv(PATIENCE)
            ws.send("40")
            assert hear_io(ws).startswith("40")
            ws.send('421["say"]')
            assert hear_io(ws) == "431[]"
    assert "yyyy" in capfd.readouterr().out


def test_a_file_of_handlers_that_fails_is_named(
    with_handlers: Callable[..., Server],
) -> None:
    with pytest.raises(AssertionError, match=r"handlers\.py can't be loaded: ZeroDivisionError"):
        with_handlers("1 / 0")
