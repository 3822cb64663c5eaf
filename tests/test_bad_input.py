"""What bad input gets: a problem that names what is wrong, nothing half done, a log that says who.

Requests that are refused leave nothing behind, so most tests here share one server; the fixture
`shared` looks after each of them that it is alive, has stored nothing and has shown no traceback.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import select
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.exceptions import InvalidStatus

from support import (
    ADMIN,
    NDJSON,
    PATIENCE,
    POLLING,
    UPGRADE,
    Answer,
    Response,
    Server,
    Stream,
    cookie_of,
    get_request,
    hear,
    hear_io,
    join_io,
    open_io,
    open_ws,
    parse_answer,
    query_database,
    rows_of,
    say,
    setup_token,
    wait_for,
)

MEBIBYTE = 1024 * 1024
JSON = {"Content-Type": "application/json"}
SESSION = "s" * 22
AUTH = f"Authorization: Bearer {ADMIN}"

# Every route that takes a JSON body.
BODIES = ["/api/broadcast", "/api/events/topics", "/api/auth/setup"]


@pytest.fixture
def shared(running: Server) -> Iterator[Server]:
    """The shared server; looks afterwards that what it refused left no trace."""
    before, lines = stored(running), len(running.output)
    yield running
    assert running.get("/healthz").status == 200
    assert stored(running) == before
    assert_no_traceback(running, lines)


def stored(server: Server) -> int:
    """How many rows the log has."""
    return int(query_database(server.data, "SELECT count(*) FROM messages")[0][0])


def assert_no_traceback(server: Server, since: int = 0) -> None:
    """Bad input is the client's fault: the server has nothing to explain."""
    said = server.output[since:]
    assert not [line for line in said if "Traceback" in line or "failed" in line]


def fields(answer: Answer) -> set[str]:
    """The names of the fields that a problem finds wrong; each with a message."""
    errors = answer.json["errors"]
    assert all(error["message"] and "regex" not in error["message"] for error in errors), errors
    return {error["field"] for error in errors}


def head(*lines: str, method: str = "POST", path: str = "/api/broadcast") -> bytes:
    """A request's head that asks to close the connection after the answer."""
    first = [f"{method} {path} HTTP/1.1", "Connection: close"]
    if not any(line.lower().startswith("host:") for line in lines):
        first.append("Host: 127.0.0.1")
    return "\r\n".join([*first, *lines, "", ""]).encode("latin-1")


# Fields

CHOICES = "must be one of subscribe, publish, emit, admin"
LETTERS = "must be 1-64 letters (A-Z, a-z), digits and _.-"


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("/api/tokens", {}, {"name": "is required"}),
        (
            "/api/tokens",
            {"name": 7, "scopes": ["publish", "x"]},
            {"name": LETTERS, "scopes": f"[1] {CHOICES}"},
        ),
        ("/api/tokens", {"name": "a", "scopes": []}, {"scopes": "must be a list of at least one"}),
        ("/api/tokens", {"name": "a", "scopes": "x"}, {"scopes": "must be a list of at least one"}),
        (
            "/api/tokens",
            {"name": "a", "days": 0},
            {"days": "must be a number above 0, at most 36500"},
        ),
        (
            "/api/tokens",
            {"name": "a", "channels": ["a", "b c", None]},
            {"channels": "[1] must be 1-128 characters without a space"},
        ),
        (
            "/api/video/rooms",
            {"name": "a", "maxParticipants": 1, "lobby": 1, "hostId": [], "password": ""},
            {
                "maxParticipants": "must be a whole number from 2 to 100",
                "lobby": "must be true or false",
                "hostId": "must be 1-128 characters in one line or a whole number",
                "password": "must be 1 to 1024 characters",
            },
        ),
        (
            "/api/events/topics",
            {"session": "s" * 22, "add": ["a"] * 257, "since": "1" * 65},
            {"add": "must be a list of at most 256", "since": "must be at most 64 characters"},
        ),
        (
            "/api/messages?limit=0&before=x",
            None,
            {
                "limit": "must be a whole number from 1 to 1000",
                "before": "must be an id, which is a whole number",
            },
        ),
        (
            "/api/logs?since=x&level=LOUD",
            None,
            {
                "since": "must be a time such as 2026-01-31T12:00:00Z",
                "level": "must be one of INFO, CONN, MSG, WARN, ERROR",
            },
        ),
    ],
)
def test_what_a_field_must_be_is_said(
    shared: Server, path: str, body: Any, said: dict[str, str]
) -> None:
    """Of every wrong field at once, and of a list of its first wrong element."""
    answer = shared.request("POST" if body is not None else "GET", path, body)
    assert (answer.status, answer.code) == (422, "invalid")
    assert {error["field"]: error["message"] for error in answer.json["errors"]} == said


# JSON

BAD_JSON = {
    "truncated": b'{"a":',
    "trailing comma": b'{"a":1,}',
    "NaN": b"NaN",
    "Infinity": b'{"a":Infinity}',
    "a minus": b"-",
    "leading zero": b"[01]",
    "too large a number": b"1e999",
    "two values": b"1 2",
    "single quotes": b"{'a':1}",
    "key without quotes": b"{a:1}",
    "a raw control character": b'"a\x01b"',
    "a raw NUL": b'"a\x00b"',
    "a bad escape": b'"\\x41"',
    "invalid UTF-8": b'"\xff"',
    "cut UTF-8": b'"\xe2\x82"',
    "an overlong form": b'"\xc0\xaf"',
    "an encoded surrogate": b'"\xed\xa0\x80"',
    "two BOMs": b"\xef\xbb\xbf" * 2 + b"{}",
    "a BOM alone": b"\xef\xbb\xbf",
    "UTF-16": '{"a":1}'.encode("utf-16"),
    "201 arrays": b"[" * 201 + b"]" * 201,
    "201 objects": b'{"a":' * 201 + b"1" + b"}" * 201,
    "100,000 arrays": b"[" * 100_000 + b"]" * 100_000,
    "100,000 open objects": b'{"a":' * 100_000,
}
EMPTY = {"nothing": b"", "blanks": b" \t "}


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("name", [*BAD_JSON, *EMPTY])
def test_malformed_json(shared: Server, path: str, name: str) -> None:
    answer = shared.post(path, {**BAD_JSON, **EMPTY}[name])
    if path == "/api/auth/setup" and name.startswith("100,000"):
        assert answer.status == 413 and answer.code == "too_large"  # it takes 10,000 bytes
    else:
        assert answer.status == 400 and answer.code == "malformed_json"
    assert answer.json["detail"]


@pytest.mark.parametrize("name", [name for name in BAD_JSON if name != "UTF-16"])
def test_malformed_line_is_named_and_nothing_of_the_batch_is_stored(
    shared: Server, name: str
) -> None:
    answer = shared.post("/api/broadcast", b"1\n\n" + BAD_JSON[name] + b"\n2\n", headers=NDJSON)
    assert answer.status == 400 and answer.code == "malformed_json"
    assert "line 3" in str(answer.json["errors"])


# What JavaScript makes of a text that was cut in the middle of a character, and what it becomes.
HALVES = {
    "a high one": (r'"hi \ud83d"', "hi \ufffd"),
    "a low one": (r'"\uDE00 hi"', "\ufffd hi"),
    "before a letter": (r'"\ud83dxyzxyz"', "\ufffdxyzxyz"),
    "before another escape": (r'"\ud83d\n\u0041"', "\ufffd\nA"),
    "two high ones": (r'"\ud83d\uD83D"', "\ufffd\ufffd"),
    "a high one before a whole one": (r'"\ud83d\ud83d\ude00"', "\ufffd😀"),
    "a low one behind a whole one": (r'"\ud83d\ude00\ude00"', "😀\ufffd"),
    "in a key": (r'{"\ud83d": 1}', {"\ufffd": 1}),
    "none": (r'"\ud83d\ude00 \\ud83d \\\\ud83d"', r"😀 \ud83d \\ud83d"),
    "behind a backslash": (r'"\\\ud83d"', "\\\ufffd"),
}


@pytest.mark.parametrize("name", HALVES)
def test_half_a_character_is_taken_as_the_replacement_character(server: Server, name: str) -> None:
    sent, value = HALVES[name]
    with server.stream() as stream:
        answer = server.post("/api/broadcast", sent.encode())
        assert answer.status == 200 and answer.json["message"]["content"] == value
        assert server.post("/api/broadcast", sent.encode(), headers=NDJSON).status == 200
        heard = stream.values(2)
    for found in [*heard, *(row["content"] for row in server.get("/api/messages").json)]:
        if isinstance(value, dict):
            assert found.items() >= value.items()  # it has its stamps
        else:
            assert found == value


def test_json_may_be_200_levels_deep(server: Server) -> None:
    deepest = b"[" * 200 + b"]" * 200
    assert server.publish(deepest).json["message"]["content"]
    assert server.post("/api/broadcast", deepest, headers=NDJSON).json["count"] == 1
    assert len(server.get("/api/messages").json) == 2


def test_brackets_in_texts_are_not_depth(server: Server) -> None:
    with server.stream() as stream:
        server.publish(["[" * 1000, {"{" * 1000: 1}])
        assert stream.values(1) == [["[" * 1000, {"{" * 1000: 1}]]


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(
    "kind",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/json",
        "application/jsonx",
        "",
    ],
)
def test_other_content_types_are_refused(shared: Server, path: str, kind: str) -> None:
    """They are what a foreign form can send without asking first."""
    answer = shared.post(path, b"{}", headers={"Content-Type": kind})
    assert answer.status == 415 and answer.code == "not_json"


def test_what_is_no_utf8_is_told_where(shared: Server) -> None:
    for body, where in ((b'"\xff"', 1), (b'\xef\xbb\xbf{"a":"\xc3\xbc \xe2\x82"}', 12)):
        answer = shared.post("/api/broadcast", body)
        assert answer.code == "malformed_json" and f"at byte {where} " in answer.json["detail"]
    body = b'{"a":"\\ud83d \xff"}'  # half a character before it, which is taken otherwise
    assert "at byte 13 " in shared.post("/api/broadcast", body).json["detail"]
    answer = shared.post("/api/broadcast", b'1\n["\xff"]\n', headers=NDJSON)
    assert [error["field"] for error in answer.json["errors"]] == ["line 2"]
    assert "at byte 2 " in answer.json["errors"][0]["message"]
    answer = shared.get("/api/messages?limit=5&channel=a%FF")
    assert answer.code == "malformed" and "channel" in answer.json["detail"]
    with open_ws(shared) as ws:
        say(ws, type="subscribe", channels=["ok", "not ok"], ref=4)
        refusal = hear(ws, "error")
        assert refusal["ref"] == 4 and "channels [1]" in refusal["message"]


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("coding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"])
@pytest.mark.parametrize("text", ['{"a":1}', "1"])
def test_other_codings_are_told(shared: Server, path: str, coding: str, text: str) -> None:
    answer = shared.post(path, text.encode(coding))
    assert answer.status == 400 and answer.code == "malformed_json"
    assert "UTF-16" in answer.json["detail"] and "UTF-8" in answer.json["detail"]


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(
    "given",
    ["iso-8859-1", '"ISO-8859-9"', "utf-16", "utf-8; charset=latin1", '"', "utf-80", ' "utf-7"'],
)
def test_other_charsets_are_refused_by_name(shared: Server, path: str, given: str) -> None:
    kinds = ["application/json"] + ["application/x-ndjson"] * (path == "/api/broadcast")
    for kind in kinds:
        answer = shared.post(path, b"{}", headers={"Content-Type": f"{kind}; charset={given}"})
        assert answer.status == 415 and answer.code == "not_json"
        assert given.rsplit("=", maxsplit=1)[-1].strip(' "') in answer.json["detail"]


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("coding", ["gzip", "GZIP", "br", "deflate", "gzip, identity"])
def test_a_packed_body_is_refused_by_name(shared: Server, path: str, coding: str) -> None:
    """RFC 9110, 15.5.16; unpacked, a little one can be a very large one."""
    packed = {**JSON, "Content-Encoding": coding}
    answer = shared.post(path, gzip.compress(b"{}"), headers=packed)
    assert (answer.status, answer.code) == (415, "not_json")
    assert "Content-Encoding" in answer.json["detail"]
    assert answer.headers["accept-encoding"] == "identity"


def test_a_body_that_is_as_it_is_may_say_so(server: Server) -> None:
    for coding in ("identity", "Identity", ""):
        server.publish({}, headers={**JSON, "Content-Encoding": coding})


@pytest.mark.parametrize("path", BODIES)
def test_no_json_is_called_empty(shared: Server, path: str) -> None:
    for body in (b"", b" \n", b"\xef\xbb\xbf"):
        assert shared.post(path, body).json["detail"] == "It is empty."


@pytest.mark.parametrize("path", BODIES)
def test_no_content_type_is_refused(shared: Server, path: str) -> None:
    raw = shared.raw(head(AUTH, "Content-Length: 2", path=path) + b"{}")
    assert parse_answer(raw).code == "not_json"


def test_content_type_may_have_parameters_and_capitals(server: Server) -> None:
    for kind in (
        "application/json; charset=utf-8",
        "Application/JSON;charset=UTF-8",
        'application/json ; x="a" ; Charset="Utf-8"',
        "application/json;charset=utf8",
        "application/json; version=1",
    ):
        server.publish({"ok": "ş"}, headers={"Content-Type": kind})
    lines = server.post(
        "/api/broadcast", b"1\n", headers={"Content-Type": 'application/x-ndjson;charset="UTF-8"'}
    )
    assert lines.status == 200


def test_a_byte_order_mark_is_no_part_of_the_json(server: Server) -> None:
    """Windows' editors and PowerShell write one (RFC 8259, 8.1)."""
    mark = b"\xef\xbb\xbf"
    with server.stream() as stream:
        server.publish(mark + b' {"a": "\xc5\x9f"}')
        assert server.post("/api/broadcast", mark + b"1\n2\n", headers=NDJSON).json["count"] == 2
        first, *others = stream.values(3)
        assert first["a"] == "ş" and others == [1, 2]
    body = mark + json.dumps({"session": SESSION, "add": ["x"]}).encode()
    assert server.post("/api/events/topics", body).code == "not_found"


@pytest.mark.parametrize("path", BODIES[1:])
@pytest.mark.parametrize("body", [[], 1, "x", None, True])
def test_body_that_is_no_object(shared: Server, path: str, body: Any) -> None:
    answer = shared.post(path, json.dumps(body).encode())
    assert answer.status == 422 and answer.code == "invalid"


# Size


def send_slowly_reading(sock: socket.socket, parts: Iterator[bytes]) -> bytes:
    """Send until the parts end or the server answers; all that it says, then."""
    received = b""
    with contextlib.suppress(ConnectionError):
        for part in parts:
            if select.select([sock], [], [], 0)[0]:
                break
            sock.sendall(part)
    with contextlib.suppress(ConnectionError):
        sock.shutdown(socket.SHUT_WR)  # or the server waits for the rest for some seconds
        while part := sock.recv(65_536):
            received += part
    return received


@pytest.mark.parametrize("framing", ["content-length", "chunked"])
def test_20_megabytes_are_refused_and_the_answer_arrives(shared: Server, framing: str) -> None:
    """The client sends all of it before it reads: the server must drop what it doesn't want."""
    total = 20 * MEBIBYTE
    body = b'"' + b"x" * (total - 2) + b'"'
    lines = [AUTH, "Content-Type: application/json"]
    if framing == "chunked":
        lines.append("Transfer-Encoding: chunked")
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (total, body)
    else:
        lines.append(f"Content-Length: {total}")
    answer = parse_answer(shared.raw(head(*lines) + body))
    assert answer.status == 413 and answer.code == "too_large"
    assert str(MEBIBYTE) in answer.json["detail"]


def test_expect_100_continue_gets_the_refusal_at_once(shared: Server) -> None:
    """Not one byte of the body was asked for, nor sent."""
    with socket.create_connection(("127.0.0.1", shared.port), timeout=PATIENCE) as sock:
        sock.sendall(
            head(AUTH, *lines_of(JSON), f"Content-Length: {20 * MEBIBYTE}", "Expect: 100-continue")
        )
        got = sock.recv(65_536)
        assert got.startswith(b"HTTP/1.1 413 ")


def test_expect_100_continue_is_answered_for_a_body_that_is_wanted(server: Server) -> None:
    framings = [
        ("Content-Length: 2", b"{}"),
        ("Transfer-Encoding: chunked", b"2\r\n{}\r\n0\r\n\r\n"),
    ]
    for words in ("100-continue", "100-Continue", " 100-CONTINUE\t", "100-continue, 100-continue"):
        for framing, body in framings:
            with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as sock:
                sock.sendall(head(AUTH, *lines_of(JSON), framing, f"Expect: {words}"))
                assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
                sock.sendall(body)
                assert sock.recv(100).startswith(b"HTTP/1.1 200 ")


def test_no_100_continue_where_nobody_waits_for_it(server: Server) -> None:
    """HTTP/1.0 has none (RFC 9110, 10.1.1); without a body there is nothing to go on with."""
    lines = [AUTH, *lines_of(JSON), "Expect: 100-continue"]
    old = head(*lines, "Content-Length: 2").replace(b"HTTP/1.1", b"HTTP/1.0") + b"{}"
    assert server.raw(old).startswith(b"HTTP/1.1 200 ")
    odd = head(*lines, "Content-Length: 2", "Expect: x").replace(b"HTTP/1.1", b"HTTP/1.0") + b"{}"
    assert server.raw(odd).startswith(b"HTTP/1.1 200 ")
    assert server.raw(head(*lines, "Content-Length: 0")).startswith(b"HTTP/1.1 400 ")
    none = head(*lines, method="GET", path="/api/messages")
    assert server.raw(none).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("path", "lines", "status"),
    [
        ("/api/broadcast", [], 401),
        ("/api/nothing", [AUTH], 404),
        ("/healthz", [AUTH], 405),
        ("/api/broadcast", [AUTH, "Content-Type: text/plain"], 415),
        ("/api/broadcast", [AUTH, "Host: evil.example"], 421),
        ("/api/broadcast?channel=%20", [AUTH], 422),
    ],
)
def test_a_head_is_refused_without_100_continue(
    shared: Server, path: str, lines: list[str], status: int
) -> None:
    """Nobody knows whether the body comes then, so no other request may follow."""
    if not any(line.startswith("Content-Type") for line in lines):
        lines = [*lines, *lines_of(JSON)]
    request = head(*lines, "Content-Length: 2", "Expect: 100-Continue", path=path)
    with socket.create_connection(("127.0.0.1", shared.port), timeout=PATIENCE) as sock:
        sock.sendall(request.replace(b"Connection: close\r\n", b""))
        answer = parse_answer(sock.recv(65_536))
        assert answer.status == status and answer.headers["connection"] == "close"
        sock.sendall(request + b"{}")
        with contextlib.suppress(ConnectionError):
            assert sock.recv(1) == b""


@pytest.mark.parametrize(
    "lines",
    [
        ["Expect: 200-ok"],
        ["Expect: 100-continue, more"],
        ["Expect: 100-continue", "Expect: x"],
        ["Expect: 100-continue=1"],
    ],
    ids=str,
)
def test_other_expectations_fail(shared: Server, lines: list[str]) -> None:
    raw = shared.raw(head(AUTH, *lines_of(JSON), "Content-Length: 2", *lines))
    assert parse_answer(raw).status == 417


def lines_of(headers: dict[str, str]) -> list[str]:
    """Headers as lines."""
    return [f"{name}: {value}" for name, value in headers.items()]


def test_a_client_that_goes_on_sending_gets_the_refusal(shared: Server) -> None:
    """It reads only when there is something to read; 500 MB would be its end."""
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    with socket.create_connection(("127.0.0.1", shared.port), timeout=PATIENCE) as sock:
        sock.sendall(head(AUTH, *lines_of(JSON), "Transfer-Encoding: chunked"))
        answer = send_slowly_reading(sock, (chunk for _ in range(8_000)))
    assert parse_answer(answer).code == "too_large"


def test_the_limit_itself(make_server: Callable[..., Server]) -> None:
    server = make_server(max_message_bytes=1_000, max_batch_bytes=3_000)
    assert server.post("/api/broadcast", b'"' + b"x" * 998 + b'"').status == 200
    assert server.post("/api/broadcast", b'"' + b"x" * 999 + b'"').code == "too_large"
    line = b'"' + b"x" * 997 + b'"\n'
    assert server.post("/api/broadcast", line * 3, headers=NDJSON).status == 200
    assert server.post("/api/broadcast", line * 3 + b"1", headers=NDJSON).code == "too_large"
    long = server.post("/api/broadcast", b"1\n" + b'"' + b"x" * 999 + b'"\n', headers=NDJSON)
    assert long.code == "too_large" and "line 2" in str(long.json["errors"])
    assert stored(server) == 4


class Drip:
    """Connections that send a byte of `bytes` every now and then, for ever."""

    def __init__(self, port: int, begin: bytes, drop: bytes, count: int) -> None:
        self._drop = drop
        self._stop = threading.Event()
        self.sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(count)]
        for sock in self.sockets:
            sock.sendall(begin)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(0.5):
            for sock in self.sockets:
                with contextlib.suppress(OSError):
                    sock.sendall(self._drop)

    def __enter__(self) -> Drip:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        for sock in self.sockets:
            sock.close()

    def ended(self) -> bool:
        """Whether the server has closed or answered all of them."""
        return len(select.select(self.sockets, [], [], 0)[0]) == len(self.sockets)


def test_those_who_never_finish_hold_nobody_up(server: Server) -> None:
    """A head and a body at a byte now and then, and a refused body without end; and those who fall
    silent before, in and after a head."""
    chunked = head(AUTH, *lines_of(JSON), "Transfer-Encoding: chunked")
    endless = head(AUTH, *lines_of(JSON), f"Content-Length: {10**12}")
    with (
        Drip(server.port, b"GET /healthz HTTP/1.1\r\nX: ", b"x", 30) as slow_heads,
        Drip(server.port, chunked, b"1\r\n \r\n", 30),
        Drip(server.port, endless, b"x", 10) as refused,
        Drip(server.port, b"GET /api/events HTTP/1.1\r\nHost: x", b"", 30) as half_heads,
        Drip(server.port, b"", b"", 30),
        Drip(server.port, head(AUTH, *lines_of(JSON), "Content-Length: 100") + b'{"a', b"", 30),
        server.stream() as stream,
    ):
        for n in range(20):
            server.publish(n)
        assert stream.values(20) == list(range(20))
        wait_for(refused.ended, "the answer to the bodies without end")
        wait_for(slow_heads.ended, "an end to the heads without end")
        wait_for(half_heads.ended, "an end to the half heads")
        server.publish("still fine")
    assert_no_traceback(server)


# Framing


@pytest.mark.parametrize(
    "chunks",
    [
        b"zz\r\n{}\r\n0\r\n\r\n",
        b"-2\r\n{}\r\n0\r\n\r\n",
        b"0x2\r\n{}\r\n0\r\n\r\n",
        b"2\r\n{}XX0\r\n\r\n",
        b"\r\n{}\r\n0\r\n\r\n",
        b"F" * 40 + b"\r\n{}\r\n",
        b"2;" + b"x" * 20_000 + b"\r\n{}\r\n0\r\n\r\n",
        b"2 \r\n{}\r\n0\r\n\r\n",
        b"2\n{}\r\n0\r\n\r\n",
        b"2\r\n{}\n0\r\n\r\n\r\n",
        b"2;a\rb\r\n{}\r\n0\r\n\r\n",
        b"2\r\n{}\r\n0\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"2\r\n{}\r\n0\r\nX: " + b"y" * 20_000 + b"\r\n\r\n",
    ],
)
def test_wrong_chunks(shared: Server, chunks: bytes) -> None:
    """A client that is still there is told; silence would look like a broken network."""
    raw = shared.raw(head(AUTH, *lines_of(JSON), "Transfer-Encoding: chunked") + chunks)
    assert parse_answer(raw).status == 400


@pytest.mark.parametrize(
    "chunks",
    [
        b"2\r\n{}\r\n0\r\n\r\n",
        b"0002\r\n{}\r\n00\r\n\r\n",
        b"1\r\n{\r\n1\r\n}\r\n0\r\n\r\n",
        b'2 ; a=b;c="d"\r\n{}\r\n0;last\r\n\r\n',
        b"2\r\n{}\r\n0\r\nContent-Length: 9\r\nHost: evil.example\r\n\r\n",
    ],
)
def test_right_chunks(shared: Server, chunks: bytes) -> None:
    """RFC 9112, 7.1: extensions and trailers are read past, and a next request follows."""
    path = "/api/broadcast?volatile=1"
    first = head(AUTH, *lines_of(JSON), "Transfer-Encoding: chunked", path=path)
    first = first.replace(b"Connection: close\r\n", b"")
    raw = shared.raw(first + chunks + head(method="GET", path="/healthz"))
    assert raw.count(b"HTTP/1.1 200 OK") == 2


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_body_of_a_request_that_offers_http_2(shared: Server, framing: str) -> None:
    """It is not taken up (RFC 9110, 7.8), and two more requests follow on the connection."""
    body = json.dumps({"pad": "x" * 100_000}).encode()
    lines = [AUTH, *lines_of(JSON), "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA"]
    if framing == "chunked":
        lines.append("Transfer-Encoding: chunked")
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    else:
        lines.append(f"Content-Length: {len(body)}")
    first = head(*lines, path="/api/broadcast?volatile=1")
    first = first.replace(b"Connection: close", b"Connection: Upgrade, HTTP2-Settings")
    more = head(method="GET", path="/healthz")
    raw = shared.raw(first + body + more.replace(b"Connection: close\r\n", b"") + more)
    assert raw.count(b"HTTP/1.1 200 OK") == 3


def test_many_requests_in_one_segment_are_answered_in_order(shared: Server) -> None:
    """RFC 9112, 9.3.2."""
    paths = ["/healthz", "/api/nothing"] * 400
    requests = [head(method="GET", path=path) for path in paths]
    requests[:-1] = [each.replace(b"Connection: close\r\n", b"") for each in requests[:-1]]
    raw = shared.raw(b"".join(requests))
    found = re.findall(rb"HTTP/1\.1 (\d+) ", raw)
    assert found == [b"200", b"404"] * 400


SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
LENGTH = f"Content-Length: {len(SMUGGLED)}"


@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Length: abc"],
        ["Content-Length: -1"],
        ["Content-Length: +2"],
        ["Content-Length: 0_2"],
        ["Content-Length: 2, 3"],
        [LENGTH, "Content-Length: 3"],
        ["Content-Length: 3", LENGTH],
        ["Content-Length:"],
        ["Transfer-Encoding: gzip, chunked"],
        ["Transfer-Encoding: identity"],
        ["Transfer-Encoding: xchunked"],
        ["a line without a colon", LENGTH],
        [LENGTH.replace(":", " :")],
        [LENGTH, "Transfer-Encoding: chunked"],
        [LENGTH, "X-Long: one", " two"],
        [LENGTH, "X-Bare: one\rX-Two: two"],
        [LENGTH, "Host: localhost"],
    ],
    ids=" + ".join,
)
def test_a_body_whose_length_is_in_doubt(shared: Server, lines: list[str]) -> None:
    """Where two programs read two lengths, one smuggles requests past the other (RFC 9112, 6.3)."""
    first = ["POST /api/broadcast HTTP/1.1", "Host: localhost", AUTH, *lines_of(JSON), *lines]
    raw = shared.raw("\r\n".join([*first, "", ""]).encode() + SMUGGLED, 10)
    assert raw.count(b"HTTP/1.1 ") == 1, "the body was read as a second request"
    assert parse_answer(raw).status in (400, 501)


def test_chunks_over_1_0(shared: Server) -> None:
    """A proxy of that time doesn't know them and reads another body (RFC 9112, 6.1)."""
    lines = [AUTH, *lines_of(JSON), "Transfer-Encoding: chunked"]
    raw = shared.raw(head(*lines).replace(b"HTTP/1.1", b"HTTP/1.0") + b"2\r\n{}\r\n0\r\n\r\n")
    assert parse_answer(raw).status == 400


def test_a_body_cut_short_is_not_taken(shared: Server) -> None:
    with socket.create_connection(("127.0.0.1", shared.port), timeout=PATIENCE) as sock:
        sock.sendall(head(AUTH, *lines_of(JSON), "Content-Length: 100") + b"[1]")
        sock.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            assert not sock.recv(1_000).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "request_bytes",
    [
        head(AUTH, "X-Long: " + "x" * 70_000, method="GET", path="/healthz"),
        head(AUTH, *[f"X-{n}: {'x' * 1000}" for n in range(90)], method="GET", path="/healthz"),
        head(AUTH, *[f"X-{n}: 1" for n in range(200)], method="GET", path="/healthz"),
        head(method="GET", path="/healthz?" + "x" * 70_000),
        b"GET /" + b"x" * 200_000,
        b"GET /healthz HTTP/1.1\r\n" + b"X-A: " + b"x" * 200_000,
        head(" : empty name", method="GET", path="/healthz"),
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET\r\n\r\n",
        b"\r\n" * 6,
        b"\x00\x01\x02\x03\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",  # TLS, to a server without
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
    ids=[
        "a line of 70 KB",
        "90 KB in lines",
        "200 lines",
        "a query of 70 KB",
        "a request line without end",
        "a header without end",
        "no name",
        "another version",
        "one word",
        "empty lines",
        "bytes",
        "TLS",
        "HTTP/2",
    ],
)
def test_heads_that_are_none(shared: Server, request_bytes: bytes) -> None:
    """A 4xx or a closed connection, at once; never a 5xx, a hang or a traceback."""
    raw = shared.raw(request_bytes)
    assert not raw or 400 <= parse_answer(raw).status < 500 or parse_answer(raw).status == 505


# Large heads


def padded(size: int) -> bytes:
    """A head of that many bytes, in fields of a kilobyte."""
    request, field = head(method="GET", path="/healthz")[:-2], b"X-Pad: "
    while (left := size - 2 - len(request)) > 0:
        value = min(left, 1_024 if left > 2_048 else left) - len(field) - 2
        request += field + b"x" * value + b"\r\n"
    return request + b"\r\n"


def test_a_head_may_have_64_kilobytes(shared: Server) -> None:
    assert len(padded(65_536)) == 65_536
    assert parse_answer(shared.raw(padded(65_536))).status == 200
    assert parse_answer(shared.raw(padded(65_600))).status == 431
    query = "&".join(f"channel={n:03}{'/' * 125}" for n in range(256))
    with shared.stream(query) as stream:
        assert len(stream.hello["channels"]) == 256
    line = head(method="GET", path="/healthz?" + "x" * 65_000)
    assert parse_answer(shared.raw(line)).status == 200


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (head("Cookie: " + "x" * 70_000, method="GET", path="/healthz"), 431),
        (head("Cookie: " + "x" * 500_000, method="GET", path="/healthz"), 431),
        (padded(200_000), 431),
        (head(*["X-Same: x" * 100] * 90, method="GET", path="/healthz?" + "x" * 60_000), 431),
        (head(*[f"X-{n}: 1" for n in range(98)], method="GET", path="/healthz"), 200),
        (head(*[f"X-{n}: 1" for n in range(99)], method="GET", path="/healthz"), 431),
        (head(method="GET", path="/healthz?" + "x" * 70_000), 414),  # RFC 9112, 3
        (b"G" * 70_000, 414),
    ],
    ids=range(8),
)
def test_heads_that_are_too_large(shared: Server, request_bytes: bytes, status: int) -> None:
    """The answer arrives, whatever the client still had to send."""
    assert parse_answer(shared.raw(request_bytes)).status == status


# Request targets (RFC 9112, 3.2)


@pytest.mark.parametrize(
    ("method", "target", "host", "status"),
    [
        ("GET", "http://127.0.0.1:8000/healthz", "127.0.0.1", 200),
        ("GET", "HTTP://localhost/healthz?x=/", "127.0.0.1", 200),
        ("GET", "https://[::1]:1/healthz", "127.0.0.1", 200),
        ("GET", "http://127.0.0.1/healthz", "evil.example", 200),  # 3.2.2: Host doesn't count
        ("GET", "http://evil.example/healthz", "127.0.0.1", 421),
        ("GET", "http://127.0.0.1.evil.example:80/healthz", "127.0.0.1", 421),
        ("GET", "http://127.0.0.1", "127.0.0.1", 200),
        ("GET", "http://127.0.0.1?x=1", "127.0.0.1", 200),
        ("HEAD", "http://127.0.0.1/healthz", "127.0.0.1", 200),
        ("OPTIONS", "http://127.0.0.1", "127.0.0.1", 204),
        ("OPTIONS", "*", "127.0.0.1", 204),
        ("GET", "*", "127.0.0.1", 400),
        ("GET", "http:///healthz", "127.0.0.1", 400),
        ("GET", "http://127.0.0.1@evil.example/healthz", "127.0.0.1", 400),
        ("GET", "http://user:secret@127.0.0.1/healthz", "127.0.0.1", 400),
        ("GET", "ftp://127.0.0.1/healthz", "127.0.0.1", 400),
        ("GET", "healthz", "127.0.0.1", 400),
        ("GET", "127.0.0.1:8000", "127.0.0.1", 400),
        ("CONNECT", "127.0.0.1:8000", "127.0.0.1:8000", 501),
        ("CONNECT", "/healthz", "127.0.0.1", 400),
        ("CONNECT", "http://127.0.0.1/", "127.0.0.1", 400),
        ("GET", "/healthz#top", "127.0.0.1", 400),
        ("GET", "http://127.0.0.1/healthz#top", "127.0.0.1", 400),
        ("GET", "/healthz\0", "127.0.0.1", 400),
        ("GET", "/healthz\x0b", "127.0.0.1", 400),
        ("GET", "/healthz?\x7f", "127.0.0.1", 400),
        ("GET", "/healthz?\r", "127.0.0.1", 400),
        ("GET", "/healthz\tx", "127.0.0.1", 400),
        ("GET", "\x0b/healthz", "127.0.0.1", 400),
        ("G\x01T", "/healthz", "127.0.0.1", 400),
    ],
)
def test_targets(shared: Server, method: str, target: str, host: str, status: int) -> None:
    answer = parse_answer(shared.raw(head(f"Host: {host}", method=method, path=target)))
    assert answer.status == status
    if status == 421:
        assert answer.code == "wrong_host"
    if status == 204:
        assert {"DELETE", "GET", "HEAD", "PATCH", "POST"} < set(answer.headers["allow"].split(", "))


@pytest.mark.parametrize("target", ["event=g\xc3\xbcn", "event=g%C3%BCn", "event=g%c3\xbcn"])
def test_letters_of_a_query_may_come_as_they_are(server: Server, target: str) -> None:
    """curl sends what it is given; the bytes are UTF-8, encoded or not."""
    lines = [AUTH, *lines_of(JSON), "Content-Length: 2"]
    answer = parse_answer(server.raw(head(*lines, path=f"/api/broadcast?{target}") + b"{}"))
    assert answer.status == 200 and answer.json["message"]["event"] == "g\xfcn"
    assert server.get("/api/messages").json[0]["event"] == "g\xfcn"


def test_a_name_in_another_alphabet_is_taken_as_it_came(shared: Server) -> None:
    """Some clients don't encode a path; each of its bytes is part of it (0xa0 is no space)."""
    raw = shared.raw(head(AUTH, method="GET", path="/api/messages?channel=\xc3\xa0\xc2\x85"))
    assert fields(parse_answer(raw)) == {"channel"}


@pytest.mark.parametrize(
    ("first", "status"),
    [
        ("GET /healthz HTTP/1.1", 400),  # RFC 9112, 3.2: 1.1 without Host
        ("GET /healthz HTTP/1.0", 200),
        ("GET http://127.0.0.1/healthz HTTP/1.0", 200),
        ("GET http://evil.example/healthz HTTP/1.0", 421),
        ("GET /healthz", 400),
        ("GET /healthz HTTP/0.9", 505),
        ("GET /healthz HTTP/2.0", 505),
        ("GET /healthz http/1.1", 400),
        ("GET /healthz HTTP/1.1 x", 400),
        ("GET  /healthz HTTP/1.1", 400),
    ],
)
def test_request_lines_without_a_host(shared: Server, first: str, status: int) -> None:
    assert parse_answer(shared.raw(first.encode() + b"\r\n\r\n")).status == status


def test_a_later_minor_version_is_spoken_as_1_1(shared: Server) -> None:
    """RFC 9110, 2.5."""
    request = head(method="GET", path="/healthz").replace(b"HTTP/1.1", b"HTTP/1.9")
    assert parse_answer(shared.raw(request)).status == 200


def test_empty_lines_before_a_request(shared: Server) -> None:
    """Some clients send one behind a body (RFC 9112, 2.2); many are no request."""
    request = head(method="GET", path="/healthz")
    kept = request.replace(b"Connection: close\r\n", b"")
    raw = shared.raw(b"\r\n\r\n" + kept + b"\r\n" + kept + b"\n" + request)
    assert raw.count(b"HTTP/1.1 200 OK") == 3
    assert parse_answer(shared.raw(b"\r\n" * 1_000 + request)).status == 400


# Connection (RFC 9110, 7.6.1; RFC 9112, 9.3)


@pytest.mark.parametrize(
    ("version", "lines", "kept"),
    [
        ("1.1", [], True),
        ("1.1", ["Connection: close"], False),
        ("1.1", ["Connection: Close, foo"], False),
        ("1.1", ["Connection: foo ,\tCLOSE"], False),
        ("1.1", ["Connection: foo", "Connection: close"], False),
        ("1.1", ["Connection: keep-alive, close"], False),
        ("1.1", ["Connection: keep-alive, Upgrade", "Upgrade: h2c"], True),
        ("1.1", ["Connection: closed"], True),
        ("1.1", ["Connection: ,,"], True),
        ("1.0", [], False),
        ("1.0", ["Connection: Keep-Alive"], True),
        ("1.0", ["Connection: Keep-Alive, TE"], True),
        ("1.0", ["Connection: TE", "Connection: keep-alive"], True),
        ("1.0", ["Connection: keep-alive, close"], False),
        ("1.0", ["Connection: xkeep-alive"], False),
    ],
)
def test_whether_a_connection_is_kept(
    shared: Server, version: str, lines: list[str], kept: bool
) -> None:
    """Who asks to close is told that it is done; who doesn't gets a second answer."""
    first = "\r\n".join([f"GET /healthz HTTP/{version}", "Host: localhost", *lines, "", ""])
    last = f"GET /healthz HTTP/{version}\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    raw = shared.raw((first + last).encode())
    assert raw.count(b"HTTP/1.1 200 OK") == 1 + kept
    said = parse_answer(raw).headers.get("connection")
    assert said == ("close" if not kept else "keep-alive" if version == "1.0" else None)


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (["Connection: keep-alive, Upgrade", "Upgrade: websocket"], 101),
        (["Connection: keep-alive", "Connection: UPGRADE", "Upgrade: WebSocket"], 101),
        (["Connection: Upgrade", "Upgrade: h2c, websocket"], 101),
        (["Connection: upgraded", "Upgrade: websocket"], 426),
        (["Connection: Upgrade", "Upgrade: websockets"], 426),
        (["Connection: keep-alive", "Upgrade: websocket"], 426),
    ],
    ids=str,
)
def test_upgrade_is_read_from_lists(shared: Server, lines: list[str], status: int) -> None:
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
    request = ["GET /ws HTTP/1.1", "Host: localhost", AUTH, key, "Sec-WebSocket-Version: 13"]
    with socket.create_connection(("127.0.0.1", shared.port), timeout=PATIENCE) as sock:
        sock.sendall("\r\n".join([*request, *lines, "", ""]).encode())
        got = sock.recv(1_000)
        assert got.startswith(f"HTTP/1.1 {status} ".encode())
        assert got.lower().count(b"\r\nconnection:") == (status == 101)


def test_no_upgrade_over_1_0(shared: Server) -> None:
    """RFC 9110, 7.8: it must be ignored."""
    request = get_request("/ws", UPGRADE).replace(b"HTTP/1.1", b"HTTP/1.0")
    assert parse_answer(shared.raw(request)).status == 426


# Names

CONTROLS = ["%00", "a%00b", "a%0Ab", "a%0A", "%0D", "a%1Bb", "a%7F", "a%C2%85b", "a%E2%80%A8b"]
BAD = {
    "channel": [*CONTROLS, "", "a%20b", "%C5%9F", "a" * 129, "a%2Cb", "a%3Fb", "%EF%BC%A1"],
    "event": [*CONTROLS, "", "e" * 129],
    "to": [*CONTROLS, "", "a%20b", "a%2Fb", "t" * 65],
    "exclude": [*CONTROLS, "", "a%20b", "t" * 65],
}


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, values in BAD.items() for value in values]
)
def test_names_of_a_publish(shared: Server, field: str, value: str) -> None:
    answer = shared.post(f"/api/broadcast?{field}={value}", 1)
    assert answer.status == 422 and answer.code == "invalid" and fields(answer) == {field}
    batch = shared.post(f"/api/broadcast?{field}={value}", b"1\n", headers=NDJSON)
    assert batch.status == 422 and batch.code == "invalid"


@pytest.mark.parametrize("value", BAD["channel"])
def test_channel_names_elsewhere(shared: Server, value: str) -> None:
    assert fields(shared.get(f"/api/messages?channel={value}")) == {"channel"}
    assert fields(shared.get(f"/api/events?channel=fine&channel={value}")) == {"channel"}


@pytest.mark.parametrize("value", ["a\x00b", "a\nb", "a\n", "", "a b", "ş", "a" * 129, "\u2028"])
def test_channel_names_in_a_change_of_topics(shared: Server, value: str) -> None:
    body = {"session": SESSION, "add": ["fine", value], "remove": [value]}
    answer = shared.post("/api/events/topics", body)
    assert answer.code == "invalid" and fields(answer) == {"add", "remove"}


@pytest.mark.parametrize(
    "value", ["", "short", "s" * 21, "s" * 65, "s" * 22 + "%0A", "s" * 22 + "%00", "ş" * 22]
)
def test_sessions(shared: Server, value: str) -> None:
    assert fields(shared.get(f"/api/events?session={quote(value, safe='%')}")) == {"session"}
    body = {"session": value.replace("%0A", "\n").replace("%00", "\0")}
    assert fields(shared.post("/api/events/topics", body)) == {"session"}


@pytest.mark.parametrize("value", [b"", b"short", b"s" * 65, b"s" * 22 + b"\x00", b"\xc5" * 22])
@pytest.mark.parametrize(("method", "path"), [("POST", "/api/broadcast"), ("GET", "/api/events")])
def test_session_header(shared: Server, method: str, path: str, value: bytes) -> None:
    lines = [AUTH, *lines_of(JSON), "Content-Length: 2", "X-Session: \x01"]
    raw = shared.raw(head(*lines, method=method, path=path).replace(b"\x01", value) + b"{}")
    assert 400 <= parse_answer(raw).status < 500


@pytest.mark.parametrize(
    "value", [b"", b" ", b"a b", b"k" * 256, b"a\x00b", b"a\x0bb", b"\x85", b"\xc5\x9f", b"a\x7f"]
)
def test_idempotency_keys(shared: Server, value: bytes) -> None:
    lines = [AUTH, *lines_of(JSON), "Content-Length: 2", "Idempotency-Key: \x01"]
    raw = shared.raw(head(*lines).replace(b"\x01", value) + b"{}")
    assert 400 <= parse_answer(raw).status < 500


@pytest.mark.parametrize(
    "value",
    [b"a\x00b", b"\x01", b"\xff\xfe", b"x" * 5_000, b"-1", b"00000000-" + b"9" * 40, b"%00"],
)
def test_last_event_ids(shared: Server, value: bytes) -> None:
    """Refused, or an unknown position, which is told; never served from somewhere."""
    lines = [AUTH, "Last-Event-ID: \x02"]
    request = head(*lines, method="GET", path="/api/events").replace(b"\x02", value)
    with socket.create_connection(("127.0.0.1", shared.port), timeout=PATIENCE) as sock:
        sock.sendall(request)
        response, got = Response(), b""
        while b"event: reset" not in got and b"problem+json" not in response.head:
            part = sock.recv(65_536)
            assert part or response.head.startswith(b"HTTP/1.1 400"), (response.head, got)
            if not part:
                break
            got += response.feed(part)
        assert b'"recovered":true' not in got


@pytest.mark.parametrize("value", ["x" * 65, "%00", "a%0Ab", "00000000-%D9%A3"])
def test_last_event_ids_in_the_query(shared: Server, value: str) -> None:
    stream = Stream(shared.port, f"lastEventId={value}")
    with stream:
        if stream.status == 200:
            assert '"recovered":false' in stream.next()["data"]
            assert stream.next()["event"] == "reset"
        else:
            assert stream.status == 422


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        ("/api/messages?limit=0", {"limit"}),
        ("/api/messages?limit=1001", {"limit"}),
        ("/api/messages?limit=-1", {"limit"}),
        ("/api/messages?limit=ten", {"limit"}),
        ("/api/messages?limit=1.5", {"limit"}),
        ("/api/messages?limit=", {"limit"}),
        ("/api/messages?before=-1", {"before"}),
        ("/api/messages?before=9223372036854775808", {"before"}),
        ("/api/messages?after=" + "9" * 400, {"after"}),
        (
            "/api/messages?after=x&before=y&limit=z&channel=a%20b",
            {"after", "before", "limit", "channel"},
        ),
        ("/api/connections?transport=pigeon&limit=0&cursor=-1", {"transport", "limit", "cursor"}),
        ("/api/connections?q=" + "q" * 201, {"q"}),
        (
            "/api/events?channel=a%20b&session=x&lastEventId=" + "x" * 65,
            {"channel", "session", "lastEventId"},
        ),
        ("/api/events?" + "&".join(f"channel=c{n}" for n in range(257)), {"channel"}),
    ],
)
def test_values_out_of_range_are_all_named(shared: Server, path: str, wrong: set[str]) -> None:
    answer = shared.get(path)
    assert answer.status == 422 and answer.code == "invalid" and fields(answer) == wrong


def test_all_wrong_fields_of_a_publish_are_named_at_once(shared: Server) -> None:
    query = "channel=a%20b&to=%0A&event=%00&exclude=%20&volatile=maybe"
    answer = shared.post(f"/api/broadcast?{query}", 1)
    assert answer.status == 422
    assert fields(answer) == {"channel", "to", "event", "exclude", "volatile"}


def test_all_wrong_fields_of_a_body_are_named_at_once(shared: Server) -> None:
    answer = shared.post("/api/events/topics", {"add": "no list", "remove": [5]})
    assert fields(answer) == {"session", "add", "remove"}
    everything = {"token", "username", "password"}
    assert fields(shared.post("/api/auth/setup", {})) == everything
    wrong = {"token": 5, "username": "", "password": None}
    assert fields(shared.post("/api/auth/setup", wrong)) == everything


def test_to_and_channel_exclude_each_other(shared: Server) -> None:
    answer = shared.post("/api/broadcast?to=someone&channel=x", 1)
    assert answer.status == 422 and answer.code == "invalid" and "to" in fields(answer)


def test_to_and_channel_exclude_each_other_on_a_batch(shared: Server) -> None:
    """The query is wrong, not line 1: the answer names what to change."""
    answer = shared.post("/api/broadcast?to=someone&channel=x", b"1\n2\n", headers=NDJSON)
    assert answer.status == 422 and answer.code == "invalid"
    assert "channel" in str(answer.json["errors"])


@pytest.mark.parametrize("query", ["%FF", "channel=%FF", "event=%C3", "event=%ED%A0%80"])
def test_query_that_is_not_utf8(shared: Server, query: str) -> None:
    answer = shared.post(f"/api/broadcast?{query}", 1)
    assert answer.status == 400 and answer.code == "malformed"


# What only the server may say

PREFIXES = ["client:", "room:", "sys:"]
TYPES = [
    "connection",
    "ping",
    "reset",
    "disconnect",
    "webrtc-signal",
    "participant-joined",
    "participant-",
    "room-ended",
    "room-updated",
]
EVENTS = [
    *TYPES,
    "presence-join",
    "presence-leave",
    "connect",
    "connect_error",
    "disconnecting",
    "newListener",
    "removeListener",
]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_reserved_channels(shared: Server, prefix: str) -> None:
    name = prefix + "x"
    topics = {"session": SESSION}
    with shared.stream(f"session={SESSION}") as stream:
        answers = [
            shared.get(f"/api/events?channel={name}"),
            shared.get(f"/api/events?channel=fine&channel={name}"),
            shared.request("HEAD", f"/api/events?channel={prefix}"),
            shared.post(f"/api/broadcast?channel={name}", 1),
            shared.post(f"/api/broadcast?channel={name}&volatile=1", 1),
            shared.post(f"/api/broadcast?channel={name}", b"1\n", headers=NDJSON),
            shared.get(f"/api/messages?channel={name}"),
            shared.post("/api/events/topics", {**topics, "add": [name]}),
            shared.post("/api/events/topics", {**topics, "remove": ["fine", name]}),
        ]
        assert stream.silent(0.1)
    assert [answer.status for answer in answers] == [403] * len(answers)
    assert {a.code for a in answers if a.body} == {"reserved_channel"}


@pytest.mark.parametrize("kind", TYPES)
def test_reserved_types(shared: Server, kind: str) -> None:
    forged = {"type": kind, "roomId": "x"}
    for answer in (
        shared.post("/api/broadcast", forged),
        shared.post("/api/broadcast?channel=x&event=fine", forged),
        shared.post("/api/broadcast?to=someone&volatile=1", forged),
        shared.post("/api/broadcast", json.dumps(forged).replace("type", "\\u0074ype").encode()),
        shared.post("/api/broadcast", {**forged}, headers={"Idempotency-Key": "k"}),
    ):
        assert answer.status == 422 and answer.code == "reserved_type"
    lines = b'{"type":"fine"}\n' + json.dumps(forged).encode() + b"\n"
    batch = shared.post("/api/broadcast", lines, headers=NDJSON)
    assert batch.code == "reserved_type" and "line 2" in str(batch.json["errors"])


def test_reserved_type_given_twice(shared: Server) -> None:
    """The text is kept as it came; of two equal keys every browser takes the last."""
    answer = shared.post("/api/broadcast", b'{"type":"fine","type":"reset"}')
    assert answer.code == "reserved_type"


@pytest.mark.parametrize("event", EVENTS)
def test_reserved_events(shared: Server, event: str) -> None:
    for query in (f"event={event}", f"channel=x&event={event}", f"event={event}&volatile=1"):
        answer = shared.post(f"/api/broadcast?{query}", {})
        assert answer.status == 422 and answer.code == "reserved_event"
    batch = shared.post(f"/api/broadcast?event={event}", b"1\n2\n", headers=NDJSON)
    assert batch.status == 422 and batch.code == "reserved_event"


def test_what_only_looks_reserved_is_free(server: Server) -> None:
    with server.stream("channel=clients&channel=x:room:") as stream:
        server.publish({"type": "pinger"}, "channel=clients")
        server.publish({"type": 5}, "event=participants")
        server.publish([{"type": "reset"}], "channel=x:room:")
        server.publish("reset", "event=Reset")
        assert len(stream.values(4)) == 4


# Batches


def test_a_batch_may_have_blank_lines_and_carriage_returns(server: Server) -> None:
    with server.stream() as stream:
        body = b'\r\n1\r\n\n  \n{"a":2}\r\n\t3 \r\n4'
        answer = server.post("/api/broadcast", body, headers=NDJSON).json
        assert answer["count"] == 4 and answer["lastId"] - answer["firstId"] == 3
        assert [v if isinstance(v, int) else v["a"] for v in stream.values(4)] == [1, 2, 3, 4]


def test_how_many_lines_a_batch_has(server: Server) -> None:
    many = server.post("/api/broadcast", b"1\n" * 10_001, headers=NDJSON)
    assert many.status == 422 and "10,000" in many.json["detail"]
    for none in (b"", b"\n\r\n  \n"):
        assert server.post("/api/broadcast", none, headers=NDJSON).status == 422
    assert stored(server) == 0
    answer = server.post("/api/broadcast", b"1\n" * 10_000, headers=NDJSON).json
    assert answer["count"] == 10_000
    assert answer["lastId"] - answer["firstId"] == 9_999
    assert stored(server) == 10_000


def test_idempotency_key_holds_for_a_batch(server: Server) -> None:
    """A batch that is sent again because its answer was lost must not be there twice."""
    headers = {**NDJSON, "Idempotency-Key": "batch-1"}
    first = server.post("/api/broadcast", b"1\n2\n", headers=headers)
    second = server.post("/api/broadcast", b"1\n2\n", headers=headers)
    assert first.status == second.status == 200
    assert stored(server) == 2 and first.json == second.json
    other = server.post("/api/broadcast", b"1\n3\n", headers=headers)
    assert other.code == "idempotency_mismatch"


def test_volatile_batch_is_not_stored(server: Server) -> None:
    """`volatile` is not dropped in silence: the batch is volatile, or refused."""
    answer = server.post("/api/broadcast?volatile=1", b"1\n2\n", headers=NDJSON)
    assert answer.status in (200, 422)
    assert stored(server) == 0


# Where a request comes from


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example:80",
        "evil.example.",
        "",
        "[",
        "]",
        "a]b",
        "x y",
        "127.0.0.1@evil.example",
        "\xbd",
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/"), ("GET", "/healthz"), ("GET", "/api/messages"), ("OPTIONS", "/api/messages")],
)
def test_other_hosts(shared: Server, host: str, method: str, path: str) -> None:
    """A name that leads here by DNS rebinding has the visitor's cookies."""
    raw = shared.raw(head(AUTH, f"Host: {host}", method=method, path=path))
    answer = parse_answer(raw)
    assert answer.status in (400, 421)
    if host == "evil.example":
        assert answer.code == "wrong_host" and "allowed_hosts" in answer.json["detail"]


def test_missing_host(shared: Server) -> None:
    new = shared.raw(f"GET /healthz HTTP/1.1\r\nConnection: close\r\n{AUTH}\r\n\r\n".encode())
    assert parse_answer(new).status in (400, 421)
    old = shared.raw(b"GET /healthz HTTP/1.0\r\n\r\n")
    assert parse_answer(old).status == 200


def test_own_hosts(make_server: Callable[..., Server]) -> None:
    server = make_server(
        allowed_hosts="Chat.Test, other.test., b\u00fccher.test",
        public_url="https://Public.Test:8443/x",
    )
    names = ["127.0.0.1", "localhost", "LOCALHOST:1", "[::1]", "192.168.1.5:80", "me.local"]
    names += [socket.gethostname(), "chat.test:8000", "other.test", "public.test"]
    names += ["CHAT.test.", "xn--bcher-kva.test:1", "public.test.:8443", "me.local.", "localhost."]
    for name in names:
        answer = server.get("/healthz", headers={"Host": name})
        assert answer.status == 200, name
    assert server.get("/healthz", headers={"Host": "x.chat.test"}).code == "wrong_host"


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://["},
        {"Origin": "evil"},
        {"Origin": "http://127.0.0.1:1"},  # another port is another program
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "something new"},
        {"Origin": "https://evil.example", "Sec-Fetch-Site": "none"},
        {"Origin": "http://127.0.0.1"},
        {"Origin": "http://127.0.0.1:{port}.evil.example"},
        {"Origin": "http://127.0.0.1:{port}@evil.example"},
        {"Origin": "http://127.0.0.1:{port}/"},
        {"Origin": "ftp://127.0.0.1:{port}"},
        {"Origin": "http://127.0.0.1:{port}", "Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example", "X-Forwarded-Host": "evil.example"},
    ],
    ids=str,
)
def test_other_origins(shared: Server, headers: dict[str, str]) -> None:
    headers = {name: value.format(port=shared.port) for name, value in headers.items()}
    answers = [
        shared.post("/api/broadcast", 1, headers=headers),
        shared.post("/api/broadcast", b"1\n", headers={**NDJSON, **headers}),
        shared.get("/api/events", headers=headers),
        shared.get("/api/messages", headers=headers),
        shared.request("DELETE", "/api/connections/x", headers=headers),
    ]
    assert [a.code for a in answers] == ["foreign_origin"] * len(answers)
    assert all("access-control-allow-origin" not in a.headers for a in answers)
    for setting in ("allowed_origins", "public_url"):
        assert setting in answers[0].json["detail"]


def test_own_origin(server: Server) -> None:
    own = f"http://127.0.0.1:{server.port}"
    for headers in (
        {"Origin": own},
        {"Origin": own.upper()},
        {"Origin": own, "Sec-Fetch-Site": "same-origin"},
        # A proxy rewrote Host: the browser knows better, and lets no page say so (Fetch, 4.6).
        {"Origin": "https://chat.example.org", "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
        {"Host": "localhost", "Origin": "http://localhost:80"},
        {"Host": "LocalHost:80", "Origin": "http://localhost"},
        {"Host": "[0:0::1]:8000", "Origin": "http://[::1]:8000"},
        # Who ended TLS may be a proxy that nobody told of; pages of https can't call plain http.
        {"Host": "localhost", "Origin": "https://localhost"},
        {"Host": "localhost:443", "Origin": "https://localhost"},
    ):
        server.publish(1, headers=headers)


def test_allowed_origin(make_server: Callable[..., Server]) -> None:
    origin = "https://app.example.org"
    server = make_server(allowed_origins=f"{origin}, https://b.example.org")
    page = {"Origin": origin, "Sec-Fetch-Site": "cross-site"}
    answers = [
        server.publish(1, headers=page),
        server.get("/api/messages", headers=page),
        server.get("/api/messages?limit=0", headers=page),
        server.get("/api/messages", headers=page, token=None),
    ]
    assert [answer.status for answer in answers] == [200, 200, 422, 401]
    for answer in answers:
        assert answer.headers["access-control-allow-origin"] == origin
        assert answer.headers["vary"] == "Origin"
    with server.stream(headers=page) as stream:
        assert f"access-control-allow-origin: {origin}" in stream.head.lower()
    for foreign in ("https://app.example.org.evil.example", "http://app.example.org"):
        assert server.get("/api/messages", headers={"Origin": foreign}).code == "foreign_origin"


def test_origins_are_compared_as_origins(make_server: Callable[..., Server]) -> None:
    server = make_server(allowed_origins="https://B\u00fccher.example:443, App://Main")
    for origin, code in (
        ("https://xn--bcher-kva.example", 200),
        ("https://XN--bcher-kva.example:443", 200),
        ("app://main", 200),
        ("http://xn--bcher-kva.example", 403),
        ("https://xn--bcher-kva.example:444", 403),
        ("https://xn--bcher-kva.example/", 403),
    ):
        answer = server.get("/api/messages", headers={"Origin": origin})
        assert answer.status == code, origin
        assert answer.headers.get("access-control-allow-origin") == (
            origin if code == 200 else None
        )


def test_preflight(make_server: Callable[..., Server]) -> None:
    """A browser asks before it sends JSON or a token to another site (Fetch, 4.8)."""
    origin = "https://app.example.org"
    server = make_server(allowed_origins=origin)

    def asked(names: str | None, origin: str = origin, path: str = "/api/broadcast") -> Answer:
        headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        if names is not None:
            headers["Access-Control-Request-Headers"] = names
        answer = server.request("OPTIONS", path, token=None, headers=headers)
        assert answer.status == 204 and not answer.body
        return answer

    for names in ("authorization", "x-agent,traceparent", "x-a, x-b ,content-type", "x_y.z~1"):
        for path in ("/api/broadcast", "/api/events", "/socket.io/"):
            yes = asked(names, path=path)
            assert yes.headers["access-control-allow-origin"] == origin
            assert "OPTIONS" in yes.headers["access-control-allow-methods"]
            assert yes.headers["access-control-allow-headers"] == names
            assert yes.headers["vary"] == "Origin, Access-Control-Request-Headers"
    assert "POST" in yes.headers["access-control-allow-methods"]
    for names in (None, "", "*", "x-a, *", "a b", "x-a,,x-b", "x-a;", "x-\xe9", "x" * 5_000):
        assert "access-control-allow-headers" not in asked(names).headers, names
    for foreign in ("https://evil.example", "null", origin + ".evil.example"):
        no = asked("x-agent", origin=foreign)
        assert not [name for name in no.headers if name.startswith("access-control-")]


def test_a_page_hears_that_there_is_no_such_path(make_server: Callable[..., Server]) -> None:
    """Without the header its console speaks of CORS, and somebody looks in the wrong place."""
    origin = "https://app.example.org"
    server = make_server(allowed_origins=origin)
    for method, path, status in (("GET", "/api/nothing", 404), ("GET", "/api/broadcast", 405)):
        for page, seen in ((origin, origin), ("https://evil.example", None)):
            answer = server.request(method, path, headers={"Origin": page}, token=None)
            assert answer.status == status and answer.headers["vary"] == "Origin"
            assert answer.headers.get("access-control-allow-origin") == seen


@pytest.mark.parametrize("method", ["get", "Get", "head", "options", "post", "M-search"])
def test_methods_are_told_apart_by_case(shared: Server, method: str) -> None:
    """RFC 9110, 9.1."""
    for path in ("/healthz", "/api/broadcast"):
        answer = parse_answer(shared.raw(head(AUTH, method=method, path=path)))
        assert answer.status == 405 and "OPTIONS" in answer.headers["allow"]


def test_answers_vary_by_origin(make_server: Callable[..., Server]) -> None:
    """A cache must not give a page of an allowed origin what it kept for one without."""
    path = "/socket.io/socket.io.min.js"
    allowing = make_server(allowed_origins="https://app.example.org")
    for headers in ({}, {"Origin": "https://app.example.org"}, {"Origin": "https://evil.example"}):
        answer = allowing.get(path, headers=headers)
        assert "Origin" in answer.headers["vary"].split(", ")
    assert "Origin" not in make_server().get(path).headers.get("vary", "")


ANY_PAGE = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
NEIGHBOR = {"Sec-Fetch-Site": "same-site"}  # a page of another port may send our cookie along


def signed_in(server: Server) -> dict[str, str]:
    """The cookie of an administrator."""
    login = {"username": "ada", "password": "correct horse"}
    assert server.post("/api/users", {**login, "role": "admin"}).status == 201
    return cookie_of(server.post("/api/auth/login", login, token=None))


def test_any_origin(make_server: Callable[..., Server]) -> None:
    """`*` lets any site's pages call with what they know themselves, a token or a session."""
    named = "https://app.example.org"
    server = make_server(allowed_origins=f"*,{named}")
    pages = (ANY_PAGE, NEIGHBOR, {"Origin": "null"}, {"Origin": "http://127.0.0.1:1"})
    for page in pages:
        answers = [
            server.publish(1, headers=page),
            server.get("/api/messages", headers=page),
            server.get("/api/messages?limit=0", headers=page),
            server.get("/api/messages", headers=page, token=None),
            server.get("/healthz", headers=page, token=None),
        ]
        assert [answer.status for answer in answers] == [200, 200, 422, 401, 200]
        for answer in answers:
            assert answer.headers["access-control-allow-origin"] == "*"
            assert "access-control-allow-credentials" not in answer.headers
            assert "Retry-After" in answer.headers["access-control-expose-headers"]
            assert answer.headers["vary"] == "Origin"
        with server.stream(f"token={ADMIN}", headers=page, token=None) as stream:
            assert "access-control-allow-origin: *\r\n" in stream.head.lower()
        ticket = server.post("/api/auth/ticket", {}, headers=page).json["ticket"]
        with open_ws(server, f"ticket={ticket}", headers=page, token=None) as ws:
            assert hear(ws, "connection")
        ws, _ = join_io(server, headers=page)
        ws.close()
    answer = server.get("/api/messages", headers={"Origin": named})
    assert answer.headers["access-control-allow-origin"] == named
    assert answer.headers["access-control-allow-credentials"] == "true"
    own = server.get("/api/messages", headers={"Origin": f"http://127.0.0.1:{server.port}"})
    assert own.status == 200 and "access-control-allow-origin" not in own.headers


def test_any_origin_never_has_the_cookie(make_server: Callable[..., Server]) -> None:
    server = make_server(allowed_origins="*,https://app.example.org")
    cookie = signed_in(server)

    def statuses(page: dict[str, str]) -> list[int]:
        headers = {**cookie, **page}
        form = {**headers, "Content-Type": "text/plain"}
        answers = [
            server.get("/api/users", headers=headers, token=None),
            server.get("/metrics", headers=headers, token=None),
            server.get("/api/events?presence=x", headers=headers, token=None),
            server.post("/api/broadcast", 1, headers=headers, token=None),
            server.post("/api/broadcast", b"1\n", headers={**headers, **NDJSON}, token=None),
            server.post("/api/auth/ticket", {}, headers=headers, token=None),
            server.request("DELETE", "/api/auth/sessions", headers=headers, token=None),
            server.request("DELETE", "/api/logs", headers=headers, token=None),
        ]
        assert server.post("/api/broadcast", b"1", headers=form, token=None).status in (401, 415)
        return [answer.status for answer in answers]

    for page in (ANY_PAGE, NEIGHBOR, {"Origin": "null"}):
        assert statuses(page) == [401] * 8, page
        me = server.get("/api/auth/me", headers={**cookie, **page}, token=None)
        assert me.json["role"] == "anonymous"
        assert me.headers["access-control-allow-origin"] == "*"
    for page in ({}, {"Sec-Fetch-Site": "same-origin"}, {"Origin": "https://app.example.org"}):
        expected = [200, 200, 422, 200, 200, 200, 200, 200]
        assert statuses(page) == expected, page


def test_any_origin_opens_no_stream_by_the_cookie(make_server: Callable[..., Server]) -> None:
    server = make_server(allowed_origins="*")
    cookie = signed_in(server)
    for page in (ANY_PAGE, NEIGHBOR, {"Origin": "null"}):
        with pytest.raises(InvalidStatus) as refused:
            open_ws(server, headers={**cookie, **page}, token=None)
        assert refused.value.response.status_code == 401
        with open_io(server, headers={**cookie, **page}) as ws:
            ws.send("40")
            assert hear_io(ws) == '44{"message":"unauthorized"}'
        opened = server.get(POLLING, headers={**cookie, **page}, token=None)
        assert opened.status == 200 and "access-control-allow-credentials" not in opened.headers
        path = f"{POLLING}&sid={json.loads(opened.body[1:])['sid']}"
        text = {**cookie, **page, "Content-Type": "text/plain;charset=UTF-8"}
        assert server.post(path, b"40", headers=text, token=None).status == 200
        got = server.get(path, headers={**cookie, **page}, token=None)
        assert got.body == b'44{"message":"unauthorized"}'
    own = {**cookie, "Origin": f"http://127.0.0.1:{server.port}"}
    with open_ws(server, headers=own, token=None) as ws:
        assert hear(ws, "connection")
    ws, _ = join_io(server, {}, headers=own)
    ws.close()


def test_any_origin_signs_nobody_in_or_out(make_server: Callable[..., Server]) -> None:
    server = make_server(allowed_origins="*")
    cookie = signed_in(server)
    login = {"username": "ada", "password": "correct horse"}
    for page in (ANY_PAGE, NEIGHBOR, {"Origin": "null"}):
        for name, body in (
            ("login", login),
            ("setup", {**login, "token": "x"}),
            ("redeem", {"token": "x"}),
            ("logout", None),
        ):
            headers = {**cookie, **page}
            answer = server.post(f"/api/auth/{name}", body, headers=headers, token=None)
            assert answer.code == "foreign_origin", name
            assert "set-cookie" not in answer.headers
            assert "access-control-allow-origin" not in answer.headers
        change = {"current": login["password"], "password": "another horse"}
        answer = server.post("/api/auth/password", change, headers={**cookie, **page}, token=None)
        assert answer.code == "unauthorized" and "set-cookie" not in answer.headers
    me = server.get("/api/auth/me", headers=cookie, token=None).json
    assert me["username"] == "ada"


def test_preflight_of_any_origin(make_server: Callable[..., Server]) -> None:
    server = make_server(allowed_origins="*")
    asked = {"Access-Control-Request-Method": "POST", "Origin": "https://evil.example"}
    asked["Access-Control-Request-Headers"] = "authorization,content-type"

    def found(path: str) -> dict[str, str]:
        answer = server.request("OPTIONS", path, token=None, headers=asked)
        start = "access-control-"
        return {k.removeprefix(start): v for k, v in answer.headers.items() if k.startswith(start)}

    told = found("/api/broadcast")
    assert told["allow-origin"] == "*" and "POST" in told["allow-methods"]
    assert told["allow-headers"] == "authorization,content-type"
    assert "allow-credentials" not in told
    assert found("/api/auth/login") == {}


# Credentials

GUARDED = [
    ("GET", "/api/events"),
    ("POST", "/api/broadcast"),
    ("POST", "/api/events/topics"),
    ("GET", "/api/messages"),
    ("GET", "/api/connections"),
    ("DELETE", "/api/connections/x"),
]


@pytest.mark.parametrize(("method", "path"), GUARDED)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer " + "x" * 30},
        {"Authorization": "Bearer "},
        {"Authorization": f"Bearer {ADMIN}x"},
        {"Authorization": f"Bearer {ADMIN[:-1]}"},
        {"Authorization": "Bearer \xe9"},
        {"Authorization": f"Basic {ADMIN}"},
        {"Authorization": ADMIN},
        {"Cookie": "rtapp_{id}=nonsense"},
        {"Cookie": 'rtapp_{id}="\\"; a(b@c=d; =; ;;; [x]=1'},
    ],
    ids=str,
)
def test_no_or_a_wrong_credential(
    shared: Server, method: str, path: str, headers: dict[str, str]
) -> None:
    (own,) = rows_of(shared.database_url, "SELECT value FROM meta WHERE key = 'id'")
    headers = {name: value.replace("{id}", own[0]) for name, value in headers.items()}
    body = {} if method == "POST" else None
    answer = shared.request(method, path, body, headers=headers, token=None)
    assert answer.status == 401 and answer.code == "unauthorized"
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_token_in_the_query_of_a_stream_stays_secret(make_server: Callable[..., Server]) -> None:
    """For EventSource, which sends no headers; it is nowhere to be read afterwards."""
    server = make_server(ping_interval=0.2)
    with server.stream(f"channel=x&token={ADMIN}", token=None) as stream:
        server.publish(1, "channel=x")
        assert stream.values(1) == [1]
        assert ADMIN not in stream.head
        assert ADMIN not in server.get("/api/connections").body.decode()
    assert server.get("/api/events?token=wrong-token-in-a-query", token=None).status == 401
    assert server.get(f"/api/events?token={ADMIN}&channel=a%20b", token=None).status == 422
    assert server.post(f"/api/broadcast?token={ADMIN}", 1, token=None).status == 401
    wait_for(lambda: "Stream closed" in str(event_log(server)), "the event log")
    assert ADMIN not in "".join(server.output)
    assert server.stop() == 0
    for path in server.data.iterdir():
        content = path.read_bytes()
        assert ADMIN.encode() not in content and b"wrong-token-in-a-query" not in content, path


def event_log(server: Server) -> list[dict[str, Any]]:
    """The entries of the event log, oldest first, their metadata merged in."""
    rows = query_database(
        server.data, "SELECT level, message, metadata FROM event_logs ORDER BY id"
    )
    return [
        {"level": level, "message": message, **json.loads(text)} for level, message, text in rows
    ]


def test_the_event_log_says_who_sent_what_was_refused(server: Server) -> None:
    refused = [
        server.post("/api/broadcast", b"{"),
        server.post("/api/broadcast", b"1", headers={"Content-Type": "text/plain"}),
        server.post("/api/broadcast", {"type": "reset"}),
        server.get("/api/messages?limit=0"),
        server.get("/api/messages", headers={"Host": "evil.example"}),
        server.get("/api/messages", headers={"Origin": "https://evil.example"}),
    ]
    codes = {answer.code for answer in refused}
    entries = wait_for(
        lambda: (
            [e for e in event_log(server) if e.get("code") in codes][len(codes) - 1 :]
            and event_log(server)
        ),
        "the event log",
    )
    found = {entry["code"]: entry for entry in entries if "code" in entry}
    assert set(found) == codes
    assert all(entry["ipAddress"] == "127.0.0.1" for entry in found.values())
    assert found["malformed_json"]["path"] == "/api/broadcast"
    server.raw(b"nonsense\r\n\r\n")
    wait_for(
        lambda: [e for e in event_log(server) if "not a request" in e["message"]],
        "what is no request, in the event log",
    )


# Paths


@pytest.mark.parametrize(
    "path",
    [
        "/static/../rtapp.py",
        "/static/%2e%2e/rtapp.py",
        "/static/..%2frtapp.py",
        "/static/%2e%2e%2f%2e%2e%2fetc/passwd",
        "/static/..\\rtapp.py",
        "/static/..%5crtapp.py",
        "/static/%252e%252e/rtapp.py",
        "/static//etc/passwd",
        "/static/x/../../rtapp.py",
        "/static/%00",
        "/static/css/%00.css",
        "/static/",
        "/static",
        "/rtapp.py",
        "/rtapp.db",
        "/nothing",
        "/api/nothing",
        "/api/broadcast/",
        "/API/broadcast",
        "/%FF",
        "/%0A",
        "//healthz",
    ],
)
def test_paths_that_lead_nowhere(shared: Server, path: str) -> None:
    answer = parse_answer(shared.raw(head(AUTH, method="GET", path=path)))
    assert answer.status == 404 and answer.code == "not_found"
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("method", ["PUT", "PATCH", "TRACE", "CONNECT", "post", "FOO"])
def test_other_methods(shared: Server, method: str) -> None:
    answer = parse_answer(shared.raw(head(AUTH, method=method)))
    assert 400 <= answer.status < 500


# The printed link


def set_up(server: Server, token: str) -> Answer:
    """What the start page sends when somebody comes by the printed link."""
    body = {"token": token, "username": "Ada", "password": "a loom of one's own"}
    return server.post("/api/auth/setup", body, token=None)


def sign_in(server: Server) -> dict[str, str]:
    """Use the printed link; the headers of a signed-in browser."""
    answer = set_up(server, setup_token(server))
    cookie = cookie_of(answer)
    attributes = answer.headers["set-cookie"]
    assert "HttpOnly" in attributes and "SameSite=Lax" in attributes and "Path=/" in attributes
    return cookie


def test_the_link_works_once(fresh: Server) -> None:
    server = fresh
    assert server.get("/api/auth/me", token=None).json["authenticated"] is False
    cookie = sign_in(server)
    again = set_up(server, setup_token(server))
    assert again.code == "already_set_up"
    wrong = set_up(server, "x" * 43)
    assert wrong.code == "already_set_up"
    with server.stream(headers=cookie, token=None) as stream:
        server.publish("hi", headers=cookie, token=None)
        assert stream.values(1) == ["hi"]
    assert server.get("/api/auth/me", headers=cookie, token=None).json["role"] == "admin"
    assert server.get("/api/connections", headers=cookie, token=None).status == 200


def test_two_who_open_the_link_at_once(fresh: Server) -> None:
    token = setup_token(fresh)
    answers: list[Answer] = []
    threads = [
        threading.Thread(target=lambda: answers.append(set_up(fresh, token))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    statuses = sorted(answer.status for answer in answers)
    assert statuses[0] == 200 and set(statuses[1:]) <= {403, 409}


def test_signing_out_ends_the_session(fresh: Server) -> None:
    cookie = sign_in(fresh)
    out = fresh.post("/api/auth/logout", {}, headers=cookie, token=None)
    assert out.status == 200 and "Max-Age=0" in out.headers["set-cookie"]
    assert fresh.post("/api/broadcast", 1, headers=cookie, token=None).status == 401
    assert fresh.get("/api/events", headers=cookie, token=None).status == 401


def test_a_session_survives_a_restart(fresh: Server) -> None:
    server = fresh
    old_link = setup_token(server)
    cookie = sign_in(server)
    assert server.stop() == 0
    server.start()
    server.publish("back", headers=cookie, token=None)
    used = set_up(server, old_link)
    assert used.code == "already_set_up"
    server.kill()
    server.start()
    server.publish("again", headers=cookie, token=None)


def test_a_foreign_page_can_not_use_the_session(fresh: Server) -> None:
    cookie = sign_in(fresh)
    for headers in (
        {**cookie, "Origin": "https://evil.example"},
        {**cookie, "Sec-Fetch-Site": "cross-site"},
    ):
        answer = fresh.post("/api/broadcast", 1, headers=headers, token=None)
        assert answer.code == "foreign_origin"
    form = {**cookie, "Content-Type": "text/plain"}
    assert fresh.post("/api/broadcast", b"1", headers=form, token=None).code == "not_json"


def test_secrets_are_not_in_the_data_folder(fresh: Server) -> None:
    token = setup_token(fresh)
    secret = sign_in(fresh)["Cookie"].split("=")[1]
    assert fresh.stop() == 0
    for path in fresh.data.iterdir():
        content = path.read_bytes()
        assert token.encode() not in content and secret.encode() not in content, path


# Open access


def test_open_access_is_for_messages_only(make_server: Callable[..., Server]) -> None:
    server = make_server(access="open")
    with server.stream("channel=x", token=None) as stream:
        server.publish("from anybody", "channel=x", token=None)
        assert stream.values(1) == ["from anybody"]
        client = stream.hello["clientId"]
        assert server.get("/api/connections", token=None).status == 401
        assert server.request("DELETE", f"/api/connections/{client}", token=None).status == 401
        assert server.get("/api/messages", token=None).status == 401
        server.publish("still here", token=None)
        assert stream.values(1) == ["still here"]
    assert server.post("/api/broadcast", {"type": "reset"}, token=None).code == "reserved_type"
    assert server.get("/api/messages", token="x" * 30).status == 401


# Anything at all

ANYTHING = settings(
    max_examples=120,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
ROUTES = [
    ("GET", "/api/events"),
    ("HEAD", "/api/events"),
    ("POST", "/api/broadcast"),
    ("GET", "/api/messages"),
    ("GET", "/api/connections"),
    ("GET", "/static/"),
    ("OPTIONS", "/api/broadcast"),
]


def answer_to(server: Server, request: bytes) -> int:
    """The status that a raw request gets; 0 when the connection is just closed."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as sock:
        sock.sendall(request)
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_WR)
        got = b""
        with contextlib.suppress(ConnectionError):
            while len(got) < 12 and (part := sock.recv(65_536)):
                got += part
        return int(got.split()[1]) if got else 0


@ANYTHING
@given(
    body=st.one_of(
        st.binary(max_size=300),
        st.text(max_size=100).map(lambda text: json.dumps(text).encode()),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
            lambda inner: (
                st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4)
            ),
            max_leaves=10,
        ).map(lambda value: json.dumps(value).encode()),
    ),
    kind=st.sampled_from(["application/json", "application/x-ndjson"]),
    path=st.sampled_from(BODIES),
)
def test_any_body(running: Server, body: bytes, kind: str, path: str) -> None:
    """Whatever is posted: an answer, and not that the server failed."""
    answer = running.post(path, body, headers={"Content-Type": kind})
    assert answer.status < 500, answer
    if answer.status == 200 and path == "/api/broadcast" and kind == "application/json":
        assert answer.json["message"]["content"] == json.loads(body)


@ANYTHING
@given(
    route=st.sampled_from(ROUTES),
    query=st.one_of(
        st.binary(max_size=80).map(quote),
        st.text(alphabet="abcdefghijklmnopqrstuvwxyz=&%+;0123456789.:/-_?[]'\"", max_size=80),
        st.lists(
            st.tuples(
                st.sampled_from(
                    [
                        "channel",
                        "to",
                        "event",
                        "exclude",
                        "volatile",
                        "session",
                        "lastEventId",
                        "token",
                        "before",
                        "after",
                        "limit",
                        "q",
                        "transport",
                        "cursor",
                    ]
                ),
                st.text(max_size=20) | st.integers().map(str),
            ),
            max_size=5,
        ).map(lambda pairs: "&".join(f"{k}={quote(v, errors='replace')}" for k, v in pairs)),
    ),
)
def test_any_query(running: Server, route: tuple[str, str], query: str) -> None:
    method, path = route
    request = head(
        AUTH, *lines_of(JSON), "Content-Length: 1", method=method, path=f"{path}?{query}"
    )
    if method == "HEAD":
        request = request.replace(b"Content-Length: 1\r\n", b"")
    assert 0 < answer_to(running, request + b"1") < 500


@ANYTHING
@given(
    name=st.sampled_from(
        [
            "Host",
            "Origin",
            "Cookie",
            "Authorization",
            "X-Session",
            "Last-Event-ID",
            "Idempotency-Key",
            "Content-Type",
            "Content-Length",
            "Transfer-Encoding",
            "Sec-Fetch-Site",
            "Expect",
            "Connection",
        ]
    ),
    value=st.one_of(
        st.binary(max_size=60),
        st.text(alphabet="[]()@:;,=\"'\\ %abc019.-/{}<>\t", max_size=40).map(str.encode),
    ),
    route=st.sampled_from(ROUTES),
)
def test_any_header(running: Server, name: str, value: bytes, route: tuple[str, str]) -> None:
    method, path = route
    lines = [AUTH, *lines_of(JSON), f"{name}: \x01"]
    request = head(*lines, method=method, path=path).replace(b"\x01", value)
    assert answer_to(running, request + b"{}\r\n\r\n") < 500


def test_the_server_survived_it_all(shared: Server) -> None:
    """Last in this file: everything above went to one process."""
    with shared.stream() as stream:
        shared.publish("alive", "volatile=1")
        assert stream.values(1) == ["alive"]
