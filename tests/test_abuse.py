"""What a hostile client sends: the server stays up for the others, and its memory bounded."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

import rtapp
from conftest import Certificate
from support import (
    LONG,
    NDJSON,
    PATIENCE,
    POLLING,
    Answer,
    Server,
    Stream,
    change,
    cookie_of,
    cursor_of,
    get_request,
    hear,
    hear_io,
    join_io,
    keep_alive,
    open_io,
    open_ws,
    parse_answer,
    say,
    wait_for,
)

MEBIBYTE = 1024 * 1024
PASSWORD = "correct-horse-battery"


def memory(server: Server) -> int:
    """The server's resident memory, in bytes."""
    return int(server.get("/api/stats").json["memoryBytes"])


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server for all tests of this file that leave nothing behind which others would see."""
    with Server(tmp_path_factory.mktemp("abuse") / "data") as server:
        yield server


# Socket.IO's attachments

PLACEHOLDER = '{"_placeholder":true,"num":%s}'


@pytest.mark.parametrize("numbers", [[7], [-1], [0, 0], [], ["true"], [0, 1]])
def test_attachments_that_do_not_match_their_placeholders(
    plain: Server, numbers: list[object]
) -> None:
    """The event is refused, and nobody gets it."""
    with join_io(plain)[0] as ws, plain.stream() as stream:
        ws.send(f'451-7["file",{",".join(PLACEHOLDER % n for n in numbers) or 1}]')
        ws.send(b"abc")
        answer = str(hear_io(ws))
        assert answer.startswith("437[") and json.loads(answer[3:])[0]["code"] == "invalid"
        plain.publish("next")  # the log goes on for everybody
        assert stream.values(1) == ["next"] and hear_io(ws) == '42["message","next"]'


def test_a_row_with_a_wrong_placeholder_is_read(make_server: Callable[..., Server]) -> None:
    """One that an earlier version took must not keep the log from advancing for ever."""
    server = make_server()
    server.publish([1])
    server.stop()
    content = f"[{PLACEHOLDER % 7},{PLACEHOLDER % 0},{PLACEHOLDER % 0}]"
    packed = b"\x92\xa0\x91\xc4\x03abc"  # msgpack: no namespace, one attachment
    sql = "UPDATE messages SET content = ?, attachments = ?"
    change(server.database_url, sql, content, packed)
    server.start()
    with server.stream() as stream:
        begin = stream.hello["lastEventId"].replace("-1", "-0")
    with server.stream(headers={"Last-Event-ID": begin}) as stream:
        whole = {"_placeholder": True, "num": 0, "base64": "YWJj"}
        bare = [{"_placeholder": True, "num": n} for n in (7, 0)]
        assert stream.values(1) == [[bare[0], whole, bare[1]]]


# What piles up


def test_streams_of_credentials_that_expire_leave_nothing(plain: Server) -> None:
    """A browser's session lasts a month: what a stream of it leaves would stay as long."""
    plain.post("/api/users", {"username": "mary", "password": PASSWORD})
    login = {"username": "mary", "password": PASSWORD}
    cookie = cookie_of(plain.post("/api/auth/login", login, token=None))

    def come_and_go(times: int) -> int:
        for number in range(times):
            names = "&".join(f"channel={each}.{number}{'x' * 90}" for each in range(60))
            request = get_request(f"/api/events?{names}", cookie, token=None)
            with socket.create_connection(("127.0.0.1", plain.port), timeout=PATIENCE) as sock:
                sock.sendall(request)
                assert b" 200 " in sock.recv(100)
        wait_for(lambda: plain.get("/api/stats").json["activeConnections"] == 0, "all are gone")
        return memory(plain)

    before = come_and_go(200)
    assert come_and_go(600) - before < 5 * MEBIBYTE


def test_sign_ins_that_wait_are_bounded(make_server: Callable[..., Server]) -> None:
    """A password's hash takes 16 MiB and a while: of a flood 50 have their turn."""
    server = make_server(trusted_proxies="127.0.0.1")
    with contextlib.ExitStack() as stack:
        flood = []
        for number in range(120):
            login = {"username": f"nobody{number}", "password": PASSWORD}
            body = json.dumps(login).encode()
            head = "POST /api/auth/login HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            head += f"X-Forwarded-For: 10.0.0.{number}\r\n"  # an address has ten attempts
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            address = "127.0.0.1", server.port
            sock = stack.enter_context(socket.create_connection(address, PATIENCE))
            sock.sendall(head.encode() + body[:-1])
            flood.append(sock)
        for sock in flood:
            sock.sendall(body[-1:])
        answers = [parse_answer(sock.recv(65_536)) for sock in flood]
    refused = [answer for answer in answers if answer.status == 503]
    assert {answer.code for answer in answers} == {"wrong_login", "overloaded"}
    assert 0 < len(refused) <= 70
    assert all(int(answer.headers["retry-after"]) > 0 for answer in refused)


def test_channels_of_a_running_stream_are_bounded(plain: Server) -> None:
    session = "q" * 22
    path = "/api/events/topics"
    names = [f"c{number}" for number in range(256)]
    with plain.stream(f"session={session}"):
        made = plain.post(path, {"session": session, "add": names}).json
        assert len(made["channels"]) == 256
        assert plain.post(path, {"session": session, "add": ["more"]}).code == "invalid"
        changed = {"session": session, "add": ["more"], "remove": ["c0"]}
        assert len(plain.post(path, changed).json["channels"]) == 256


def test_long_names_are_not_remembered(plain: Server) -> None:
    """Names of header fields and hosts are kept, parsed, for the next request."""
    before = memory(plain)
    with keep_alive(plain.port) as connection:
        for number in range(300):
            name = f"{number}.{'a' * 60_000}.local"
            connection.request("GET", "/healthz", headers={"Host": name})
            answer = connection.getresponse()
            assert answer.read() and answer.status == 421
    for number in range(300):
        field = f"x{number}{'a' * 60_000}"
        raw = plain.raw(get_request("/healthz", {field: "1"}, token=None))
        assert b" 400 " in raw[:20]
    assert memory(plain) - before < 25 * MEBIBYTE


# Who passes for somebody else


@pytest.mark.parametrize("name", ["guest", "Anonymous", "admin-token", "metrics-token"])
def test_nobody_is_named_as_those_without_an_account(plain: Server, name: str) -> None:
    """Streams are told apart by such names: a user `guest` could act for every guest."""
    answer = plain.post("/api/users", {"username": name, "password": PASSWORD})
    assert answer.code == "invalid" and answer.json["errors"][0]["field"] == "username"


def test_a_ticket_ends_with_what_it_was_made_with(plain: Server) -> None:
    """Whoever keeps one in reserve must not come back with it after a revocation."""
    token = plain.post("/api/tokens", {"name": "reserve"}).json["token"]
    tickets = [plain.post("/api/auth/ticket", {}, token=token).json["ticket"] for _ in range(2)]
    with plain.stream(f"ticket={tickets[0]}", token=None):
        assert plain.request("DELETE", "/api/tokens/reserve").status == 200
    assert Stream(plain.port, f"ticket={tickets[1]}", token=None).status == 401


def test_who_waits_in_a_lobby_gets_no_turn_credentials(make_server: Callable[..., Server]) -> None:
    server = make_server(turn_url="turn:turn.example.org", turn_secret="s" * 20)
    server.post("/api/video/rooms", {"name": "a", "roomId": "a", "lobby": True})
    session = {"X-Session": "w" * 22}
    answer = server.post("/api/video/rooms/a/join", {}, headers=session, token=None)
    assert answer.status == 202
    assert server.get("/api/ice", headers=session, token=None).code == "not_in_room"
    act = {"action": "admit"}
    number = answer.json["participant"]["id"]
    assert server.post(f"/api/video/rooms/a/participants/{number}", act).status == 200
    assert server.get("/api/ice", headers=session, token=None).json["iceTtl"] > 0


def test_a_candidate_with_an_endless_number(make_server: Callable[..., Server]) -> None:
    server = make_server(candidate_siblings="yes", trusted_proxies="127.0.0.1")
    server.post("/api/video/rooms", {"name": "a", "roomId": "a"})
    sessions = ["a" * 22, "b" * 22]
    ids = [
        server.post("/api/video/rooms/a/join", {"session": each}).json["participant"]["clientId"]
        for each in sessions
    ]
    candidate = f"candidate:1 1 udp {'9' * 5_000} x.local 9 typ host"
    body = {"type": "ice-candidate", "roomId": "a", "targetClientId": ids[1]}
    signal = {**body, "session": sessions[0], "signal": {"candidate": candidate}}
    away = {"X-Forwarded-For": "192.168.1.7"}
    assert server.post("/api/webrtc/signal", signal, headers=away).status == 200


@pytest.mark.parametrize(
    ("path", "body"),
    [("/api/video/rooms", {"name": "a", "description": "a\0"}), ("/api/logs?q=%00", None)],
)
def test_text_that_postgresql_would_not_take(plain: Server, path: str, body: object) -> None:
    answer = plain.request("POST" if body else "GET", path, body)
    assert answer.code == "invalid"


# What holds everybody up


@pytest.mark.parametrize(("packet", "status"), [(b"3", 200), (b"40", 400)])
def test_a_body_of_many_packets_holds_nobody_up(
    make_server: Callable[..., Server], packet: bytes, status: int
) -> None:
    """Nobody has to be signed in for it. Who asks to join too often is put out."""
    server = make_server(rate_limit=50)
    with keep_alive(server.port) as connection:
        connection.request("GET", POLLING)
        sid = json.loads(connection.getresponse().read()[1:])["sid"]
        body = b"\x1e".join([packet] * (1_000_000 // (len(packet) + 1)))
        over, answers = threading.Event(), list[int]()

        def post() -> None:
            connection.request("POST", f"{POLLING}&sid={sid}", body, {"Content-Type": "text/plain"})
            answer = connection.getresponse()
            assert answer.read()
            answers.append(answer.status)
            over.set()

        thread = threading.Thread(target=post)
        thread.start()
        answered = 0
        while not over.is_set() and answered < 10:
            assert server.get("/healthz", token=None).status == 200
            answered += 1
        thread.join(PATIENCE)
        assert answers == [status]
        assert answered == 10 or status == 400  # then it is soon over


def test_a_batch_of_empty_lines_holds_nobody_up(server: Server) -> None:
    """16 MiB of them take seconds to look through."""
    answers: list[Answer] = []
    body = b"\n" * 16_000_000

    def post() -> None:
        answers.append(server.post("/api/broadcast", body, headers=NDJSON))

    thread = threading.Thread(target=post)
    thread.start()
    answered = 0
    while not answers and answered < 20:
        assert server.get("/healthz", token=None).status == 200
        answered += 1
    thread.join(PATIENCE)
    assert [answer.status for answer in answers] == [422]
    assert answered == 20


def test_a_tls_client_that_never_pauses_is_read_in_turn() -> None:
    class Endless:
        """What OpenSSL is to who sends as fast as it is read."""

        reads = 0

        def read(self, size: int) -> bytes:
            self.reads += 1
            assert self.reads < 1_000
            return bytes(16_384)

    transport = object.__new__(rtapp.TlsTransport)
    transport._ssl = Endless()
    assert transport.receive()


@pytest.mark.skipif(not LONG, reason="takes 12 s (RTAPP_LONG=1)")
def test_a_handshake_byte_by_byte_ends(
    make_server: Callable[..., Server], certificate: Certificate
) -> None:
    server = make_server(tls_cert=certificate.cert, tls_key=certificate.key)
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as sock:
        for byte in b"\x16\x03\x01\x02\x00\x01\x00":
            sock.sendall(bytes([byte]))
            sock.settimeout(4)
            with contextlib.suppress(TimeoutError):
                assert sock.recv(100) == b""
                return
    raise AssertionError("it may go on for ever")


# What is counted


def test_refused_connects_end_a_connection(make_server: Callable[..., Server]) -> None:
    """Tokens can't be tried by the thousand where no request is made for each."""
    server = make_server(rate_limit=20)
    with open_io(server) as ws:
        refused = 0
        with pytest.raises(ConnectionClosed):
            while True:
                ws.send(f"40{json.dumps({'token': 'guess'})}")
                refused += str(hear_io(ws)).startswith("44")
    assert 20 <= refused <= 25


def test_joining_by_websocket_counts_as_by_http(make_server: Callable[..., Server]) -> None:
    server = make_server(rate_limit=20)
    server.post("/api/video/rooms", {"name": "a", "roomId": "a"})
    session = {"session": "k" * 22}
    assert server.post("/api/video/rooms/a/join", session, token=None).status == 200
    with open_ws(server, f"session={session['session']}", token=None) as ws:
        for _ in range(30):
            say(ws, type="join-room", roomId="a")
        assert hear(ws, "error")["code"] == "rate_limited"


@pytest.fixture
def behind(make_server: Callable[..., Server]) -> Server:
    """A server that believes where requests say that they come from, with a user."""
    server = make_server(trusted_proxies="127.0.0.1")
    server.post("/api/users", {"username": "mary", "password": PASSWORD})
    return server


def log_in(server: Server, address: str, password: str, name: str = "mary") -> int:
    """The answer to a sign-in from an address."""
    body = {"username": name, "password": password}
    return server.post(
        "/api/auth/login", body, token=None, headers={"X-Forwarded-For": address}
    ).status


def test_nobody_alone_keeps_a_user_out(behind: Server) -> None:
    assert {log_in(behind, "192.0.2.1", "wrong password") for _ in range(40)} == {401, 429}
    assert log_in(behind, "192.0.2.2", PASSWORD) == 200
    assert log_in(behind, "192.0.2.1", PASSWORD) == 429


def test_the_addresses_of_an_ipv6_network_count_as_one(behind: Server) -> None:
    codes = [
        log_in(behind, f"2001:db8:0:1::{number:x}", "wrong password", f"user{number}")
        for number in range(1, 13)
    ]
    assert codes[0] == 401 and codes[-1] == 429
    assert log_in(behind, "2001:db8:0:2::1", PASSWORD) == 200


def test_a_users_sessions_and_rooms_are_bounded(behind: Server) -> None:
    row = (
        "INSERT INTO access_tokens (token_hash, kind, grants, user_id, password_tag, name, address,"
        " agent, created_at, expires_at) SELECT ?, 'session', '{}', id, '', '', '', '', ?, ?"
        " FROM users WHERE username = 'mary'"
    )
    now = int(time.time() * 1000)
    rows = [
        (f"{number:016x}{'0' * 48}", now - 1_000 + number, now + 10**8) for number in range(120)
    ]
    with cursor_of(behind.database_url) as cursor:
        cursor.executemany(row, rows)
    answer = behind.post("/api/auth/login", {"username": "mary", "password": PASSWORD}, token=None)
    mary = cookie_of(answer)
    assert len(behind.get("/api/auth/sessions", token=None, headers=mary).json) == 100
    made = [
        behind.post("/api/video/rooms", {"name": "a", "pinned": True}, token=None, headers=mary)
        for _ in range(201)
    ]
    assert made[199].status == 201 and made[200].code == "overloaded"


# What others on the machine may read


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_a_backup_is_for_its_owner_alone(plain: Server, tmp_path: Path) -> None:
    """It holds what the database does: hashes of passwords, secrets of the settings."""
    target = tmp_path / "copy.db"
    assert plain.command("backup", str(target)).code == 0
    assert target.stat().st_mode & 0o077 == 0
