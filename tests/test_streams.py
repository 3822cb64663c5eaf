"""The SSE stream: bytes, order, resume, and what a socket can do to it."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import Certificate
from support import (
    ADMIN,
    NDJSON,
    PATIENCE,
    PROGRAM,
    Publisher,
    Server,
    Stream,
    get_request,
    keep_alive,
    number,
    wait_for,
)

SESSION = "s" * 22

# Every test here runs with both backings of the poller.
pytestmark = pytest.mark.usefixtures("poller")


def test_first_bytes_are_exact(server: Server) -> None:
    with Stream(server.port, "channel=a&channel=b") as stream:
        assert stream.status == 200
        head = stream.head.lower()
        assert "content-type: text/event-stream" in head
        assert "cache-control: no-store, no-transform" in head
        assert "x-accel-buffering: no" in head
        assert "content-length" not in head and "connection" not in head
        assert "transfer-encoding: chunked" in head
        block = stream.next_raw().decode()
        match = re.fullmatch(r"retry: (\d+)\nid: ([0-9a-f]{8}-0)\ndata: (\{.*\})", block)
        assert match and 2000 <= int(match[1]) <= 4000
        hello = json.loads(match[3])
        assert hello["type"] == "connection"
        assert hello["message"] == "Connected to SSE"
        assert hello["lastEventId"] == match[2]
        assert hello["recovered"] is False
        assert hello["channels"] == ["a", "b"]
        assert len(hello["clientId"]) == 21


def test_a_channel_asked_for_twice_is_one(server: Server) -> None:
    with server.stream("channel=b&channel=a&channel=b") as stream:
        assert stream.hello["channels"] == ["a", "b"]


def test_each_event_is_a_chunk(server: Server) -> None:
    """RFC 9112, 7.1. Over HTTP/1.0, which has no chunks, the stream is plain."""
    request = get_request("/api/events", {"Connection": "close"})
    with (
        socket.create_connection(("127.0.0.1", server.port), PATIENCE) as new,
        socket.create_connection(("127.0.0.1", server.port), PATIENCE) as old,
    ):
        new.sendall(request)
        old.sendall(request.replace(b"HTTP/1.1", b"HTTP/1.0"))
        chunked, plain = read_until(new, b"\n\n\r\n"), read_until(old, b"\n\n")
        assert re.search(rb"chunked\r\n(.+\r\n)*\r\n[0-9a-f]+\r\nretry: \d+\n\r\n", chunked)
        assert re.search(rb"\r\n\r\nretry: \d+\nid: ", plain) and b"chunked" not in plain
        server.publish([1])
        event = read_until(old, b"\n\n")
        assert event.endswith(b"\ndata: [1]\n\n")
        assert read_until(new, b"\n\n\r\n") == b"%x\r\n%b\r\n" % (len(event), event)


def test_pings_are_chunks_where_there_are_chunks(make_server: Callable[..., Server]) -> None:
    """Also where a stream of the other form is pinged at the same time."""
    server = make_server(ping_interval=0.5)
    request = get_request("/api/events", {"Connection": "close"})
    with (
        socket.create_connection(("127.0.0.1", server.port), PATIENCE) as old,
        socket.create_connection(("127.0.0.1", server.port), PATIENCE) as new,
    ):
        old.sendall(request.replace(b"HTTP/1.1", b"HTTP/1.0"))
        new.sendall(request)
        plain, chunked = read_until(old, b"\n\n"), read_until(new, b"\n\n\r\n")
        while plain.count(b"event: ping") < 3:
            plain += read_until(old, b"\n\n")
        while chunked.count(b"event: ping") < 3:
            chunked += read_until(new, b"\n\n\r\n")
        assert b"\r" not in plain.partition(b"\r\n\r\n")[2]
        found = re.findall(rb"\n([0-9a-f]+)\r\n(id: \S+\nevent: ping\ndata: .+\n\n)\r", chunked)
        assert len(found) == chunked.count(b"event: ping")
        assert all(int(size, 16) == len(event) for size, event in found)


def read_until(sock: socket.socket, end: bytes) -> bytes:
    """What comes until it ends so."""
    data, until = b"", time.monotonic() + PATIENCE
    while not data.endswith(end):
        part = sock.recv(65_536)
        assert part and time.monotonic() < until, data
        data += part
    return data


@pytest.mark.parametrize("how", ["disconnect", "stop", "kill", "slow"])
def test_only_an_end_on_purpose_has_a_last_chunk(
    make_server: Callable[..., Server], how: str
) -> None:
    """Who reads by fetch knows a lost connection from the last word."""
    server = make_server(slow_consumer_seconds=1 if how == "slow" else 30)
    with server.stream(rcvbuf=8_192) as stream:
        if how == "disconnect":
            server.request("DELETE", f"/api/connections/{stream.hello['clientId']}")
        elif how == "slow":
            for _ in range(100):
                server.publish("x" * 100_000)
            wait_for(lambda: not server.get("/api/connections").json, "its end")
        else:
            getattr(server, how)()
        with pytest.raises((EOFError, ConnectionResetError)):
            while stream.next():
                pass
        assert stream.response.is_complete is (how == "disconnect")


READ_BY_FETCH = """
const response = await fetch(process.argv[1], { headers: { authorization: process.argv[2] } });
const reader = response.body.getReader();
console.log('open');
try {
  while (!(await reader.read()).done);
  console.log('end');
} catch (error) {
  console.log('lost');
}
"""


@pytest.mark.parametrize(
    ("how", "seen"), [("disconnect", "end"), ("stop", "lost"), ("kill", "lost")]
)
def test_what_a_reader_by_fetch_sees(server: Server, how: str, seen: str) -> None:
    """Node's takes whatever end for the last one where the head says `Connection: close`."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node (Debian: nodejs)")
    command = [node, "--input-type=module", "-e", READ_BY_FETCH]
    arguments = [f"http://127.0.0.1:{server.port}/api/events", f"Bearer {ADMIN}"]
    with subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout is not None and reader.stdout.readline() == "open\n"
        if how == "disconnect":
            client = server.get("/api/connections").json[0]["clientId"]
            server.request("DELETE", f"/api/connections/{client}")
        else:
            getattr(server, how)()
        assert reader.communicate(timeout=PATIENCE)[0] == f"{seen}\n"


def test_messages_are_exact(server: Server) -> None:
    with server.stream("channel=x") as stream:
        epoch = stream.hello["lastEventId"].split("-")[0]
        first = server.publish({"message": "Hello!"}).json["message"]
        server.publish([1, 2.50, None, "ş"], "channel=x&event=chat")
        server.publish({"id": "mine", "timestamp": 5}, "channel=x")
        server.publish({}, "")
        sent = first["sentAt"]
        assert stream.next_raw().decode() == (
            f'id: {epoch}-1\ndata: {{"message":"Hello!","id":1,"timestamp":"{sent}"}}'
        )
        text = '[1,2.5,null,"\\u015f"]'  # as json.dumps wrote it: the sender's text is kept
        assert stream.next_raw().decode() == f"id: {epoch}-2\nevent: chat\ndata: {text}"
        assert stream.next_raw().decode() == f'id: {epoch}-3\ndata: {{"id":"mine","timestamp":5}}'
        assert set(stream.values(1)[0]) == {"id", "timestamp"}


def test_answer_counts_subscribers_and_comes_after_the_commit(server: Server) -> None:
    with server.stream(), server.stream("channel=x"), server.stream("channel=x"):
        assert server.publish(1).json["recipientCount"] == 3
        answer = server.publish({"type": "note"}, "channel=x").json
        assert answer["success"] is True and answer["recipientCount"] == 2
        message = answer["message"]
        assert message["type"] == "note" and message["channel"] == "x"
        assert message["content"] == {"type": "note"}
        assert server.get("/api/messages?channel=x").json == [message]


def test_pages_of_the_history(server: Server) -> None:
    """The total is of all pages; nobody's direct messages are among them."""
    for n in range(5):
        server.publish(n, "channel=x")
    server.publish("all")
    server.publish("secret", "to=somebody")
    whole = server.get("/api/messages?limit=6")
    assert [row["content"] for row in whole.json] == ["all", 4, 3, 2, 1, 0]
    assert whole.headers["x-total-count"] == "6"
    for side, pages in (("before", [[4, 3], [2, 1], [0]]), ("after", [[0, 1], [2, 3], [4]])):
        query = f"channel=x&limit=2&{side}={0 if side == 'after' else 99}"
        for page in pages:
            answer = server.get(f"/api/messages?{query}")
            assert [row["content"] for row in answer.json] == page
            assert answer.headers["x-total-count"] == "5"
            query = answer.headers.get("link", "").partition("<?")[2].partition(">")[0]
        assert not query


def test_a_large_batch_is_one_piece_while_others_publish(server: Server) -> None:
    """It is prepared in parts, and stored and heard as a whole."""
    other = Publisher(server.port, "other", "channel=x")
    with server.stream("channel=x") as stream:
        answer = server.publish_lines(range(10_000), "channel=x").json
        bad = b"1\n" * 9_999 + b"{"
        refused = server.post("/api/broadcast?channel=x", bad, headers=NDJSON)
        assert refused.code == "malformed_json" and "line 10000" in str(refused.json["errors"])
        other.enough.set()
        other.join(PATIENCE)
        server.publish("end", "channel=x")
        heard = list(iter(lambda: json.loads(stream.next()["data"]), "end"))
    assert [value for value in heard if isinstance(value, int)] == list(range(10_000))
    assert heard.index(9_999) - heard.index(0) == 9_999
    assert answer["lastId"] - answer["firstId"] == 9_999
    ids = sorted(other.acknowledged)
    assert ids and not set(ids) & set(range(answer["firstId"], answer["lastId"] + 1))


def test_channels_direct_messages_and_exclude(server: Server) -> None:
    with (
        server.stream("channel=x", headers={"X-Session": "a" * 22}) as first,
        server.stream("channel=x&session=" + "b" * 22) as second,
        server.stream("channel=y") as third,
    ):
        a, b = first.hello["clientId"], second.hello["clientId"]
        assert server.publish("x", "channel=x").json["recipientCount"] == 2
        assert server.publish("not a", f"channel=x&exclude={a}").json["recipientCount"] == 1
        assert server.publish("only a", f"to={a}").json["recipientCount"] == 1
        assert server.publish("only b", f"to={b}").json["recipientCount"] == 1
        assert server.publish("to nobody", "to=nobody").json["recipientCount"] == 0
        assert server.publish("all").json["recipientCount"] == 3
        assert first.values(3) == ["x", "only a", "all"]
        assert second.values(4) == ["x", "not a", "only b", "all"]
        assert third.values(1) == ["all"]
        assert all(stream.silent(0.1) for stream in (first, second, third))


def test_who_is_excluded_gets_nothing_that_is_ready_for_the_others(server: Server) -> None:
    """Whatever its place among them: the others' bytes may be put together already."""
    with (
        server.stream("channel=x") as a,
        server.stream("channel=x") as b,
        server.stream("channel=x") as c,
    ):
        streams = (a, b, c)
        for stream in streams:
            server.publish(
                stream.hello["clientId"], f"channel=x&exclude={stream.hello['clientId']}"
            )
        server.publish("end", "channel=x")
        names = [stream.hello["clientId"] for stream in streams]
        for stream, own in zip(streams, names, strict=True):
            assert stream.values(3) == [name for name in names if name != own] + ["end"]


def test_session_gives_the_client_its_id(server: Server) -> None:
    with server.stream(f"session={SESSION}") as stream:
        first = stream.hello["clientId"]
        assert "session" not in stream.hello
    with server.stream() as stream:
        given = stream.hello["session"]
        client = stream.hello["clientId"]
        assert re.fullmatch(r"[A-Za-z0-9_-]{22,64}", given)
    with server.stream(headers={"X-Session": given}) as stream:
        assert stream.hello["clientId"] == client != first


def test_resume_is_complete_and_exact(server: Server) -> None:
    with server.stream("channel=x") as stream:
        server.publish(1, "channel=x")
        server.publish(2)
        stream.take(2)
        position = stream.last_id
    server.publish(3, "channel=x")
    server.publish("elsewhere", "channel=y")
    server.publish(4)
    for resume in (
        {"headers": {"Last-Event-ID": position}},
        {"query": f"&lastEventId={position}"},
    ):
        query = "channel=x" + str(resume.get("query", ""))
        with server.stream(query, headers=resume.get("headers")) as stream:  # type: ignore[arg-type]
            assert stream.hello["recovered"] is True
            assert stream.hello["lastEventId"] == position
            assert stream.values(2) == [3, 4]
            server.publish(5)
            assert stream.values(1) == [5]


def test_own_messages_wait_for_a_client_that_is_away(server: Server) -> None:
    query = f"session={SESSION}"
    with server.stream(query) as stream:
        client, position = stream.hello["clientId"], stream.hello["lastEventId"]
    server.publish("for you", f"to={client}")
    server.publish("for the others", f"exclude={client}")
    server.publish("for all")
    with server.stream(query, headers={"Last-Event-ID": position}) as stream:
        assert stream.values(2) == ["for you", "for all"]
        assert stream.silent(0.1)


@pytest.mark.parametrize("position", ["00000000-1", "nonsense", "{epoch}-999", "{epoch}--1"])
def test_unknown_position_is_told(server: Server, position: str) -> None:
    server.publish("before")
    with server.stream() as stream:
        epoch = stream.hello["lastEventId"].split("-")[0]
    asked = position.format(epoch=epoch)
    with server.stream(headers={"Last-Event-ID": asked}) as stream:
        assert stream.hello["recovered"] is False
        reset = stream.next()
        assert reset["event"] == "reset" and reset["id"] == f"{epoch}-1"
        assert json.loads(reset["data"])["type"] == "reset"
        server.publish("after")
        assert stream.values(1) == ["after"]


def test_ping_is_visible_and_moves_the_position(make_server: Callable[..., Server]) -> None:
    server = make_server(ping_interval=0.2)
    with server.stream("channel=quiet") as stream:
        server.publish("elsewhere", "channel=busy")
        wait_for(lambda: number(stream.next()["id"]) == 1, "a ping at the head")
        ping = stream.events[-1]
        assert ping["event"] == "ping"
        assert json.loads(ping["data"])["type"] == "ping"


def test_volatile_has_no_id_and_is_not_stored(server: Server) -> None:
    with server.stream("channel=x") as stream, server.stream() as other:
        answer = server.publish({"t": 1}, "channel=x&event=typing&volatile=1").json
        assert answer["recipientCount"] == 1 and answer["message"]["id"] is None
        assert stream.next_raw() == b'event: typing\ndata: {"t":1}'
        assert other.silent(0.1)
        client = stream.hello["clientId"]
        server.publish("direct", f"to={client}&volatile=true")
        assert stream.next_raw() == b'data: "direct"'
        server.publish("not you", f"channel=x&exclude={client}&volatile=1")
        assert stream.silent(0.1)
    assert server.get("/api/messages").json == []


def test_topics_change_has_a_place_in_the_log(server: Server) -> None:
    with server.stream("channel=a", headers={"X-Session": SESSION}) as stream:
        server.publish(1, "channel=b")
        answer = server.post(
            "/api/events/topics", {"session": SESSION, "add": ["b"], "remove": ["a"]}
        )
        assert answer.json["channels"] == ["b"]
        server.publish(2, "channel=a")
        server.publish(3, "channel=b")
        assert stream.values(1) == [3]
        assert stream.silent(0.1)
        body = {"session": SESSION, "add": [f"c{n}" for n in range(256)]}
        assert server.post("/api/events/topics", body).code == "invalid"
        assert server.post("/api/events/topics", {**body, "remove": ["b"]}).status == 200
    body = {"session": "n" * 22, "add": ["b"]}
    assert server.post("/api/events/topics", body).code == "not_found"


def test_an_added_channel_may_begin_earlier(make_server: Callable[..., Server]) -> None:
    """What came on it comes first and whole, also from before the ring; nothing that the stream
    had comes again, and its position doesn't go back, or a resumed stream would repeat it."""
    server = make_server(ring_bytes=65_536)
    with server.stream("channel=a", headers={"X-Session": SESSION}) as stream:
        server.publish("before", "channel=b")
        epoch = stream.hello["lastEventId"].split("-")[0]
        since = f"{epoch}-{server.get('/api/messages?channel=b').json[0]['id']}"
        server.publish_lines((f"{n:04} {'x' * 100}" for n in range(1_500)), "channel=b")
        server.publish("seen", "channel=a")
        assert stream.values(1) == ["seen"]
        position = number(stream.last_id)
        change = {"session": SESSION, "add": ["a", "b"], "since": since}
        assert server.post("/api/events/topics", change).json["channels"] == ["a", "b"]
        server.publish("after", "channel=a")
        found = stream.take(1_501)
        assert [json.loads(event["data"])[:4] for event in found[:-1]] == [
            f"{n:04}" for n in range(1_500)
        ]
        assert json.loads(found[-1]["data"]) == "after"
        ids = [number(event["id"]) for event in found]
        assert ids == sorted(ids) and position <= ids[0]
        # A change on its heels comes into force behind it.
        again = {"session": SESSION, "remove": ["b"]}
        assert server.post("/api/events/topics", again).status == 200
        assert server.post("/api/events/topics", change).status == 200
        assert server.post("/api/events/topics", again).status == 200
        server.publish("not wanted", "channel=b")
        server.publish("last", "channel=a")
        assert stream.values(1_501)[-1] == "last"


@pytest.mark.parametrize("since", ["00000000-1", "nonsense"])
def test_a_channel_that_begins_at_no_known_position_says_reset(server: Server, since: str) -> None:
    with server.stream(headers={"X-Session": SESSION}) as stream:
        server.publish("before", "channel=b")
        change = {"session": SESSION, "add": ["b"], "since": since}
        assert server.post("/api/events/topics", change).status == 200
        assert stream.next()["event"] == "reset"
        server.publish("after", "channel=b")
        assert stream.values(1) == ["after"]


def test_kick_ends_the_stream_and_says_so(server: Server) -> None:
    with server.stream("channel=x") as stream, server.stream() as other:
        client = stream.hello["clientId"]
        row = next(c for c in server.get("/api/connections").json if c["clientId"] == client)
        assert row["channels"] == ["x"] and row["transport"] == "sse"
        assert row["status"] == "connected" and row["lag"] == 0
        assert server.request("DELETE", f"/api/connections/{client}").json == {"success": True}
        assert stream.ended()
        assert stream.events[-1]["event"] == "disconnect"
        server.publish("still here")
        assert other.values(1) == ["still here"]
        assert server.request("DELETE", f"/api/connections/{client}").code == "not_found"


def test_head_and_options(server: Server) -> None:
    head = server.request("HEAD", "/api/events")
    assert head.status == 200 and head.headers["content-type"] == "text/event-stream"
    options = server.request("OPTIONS", "/api/events", token=None)
    assert options.status == 204 and "GET" in options.headers["allow"]
    wrong = server.request("PUT", "/api/broadcast", {})
    assert wrong.code == "method_not_allowed" and "POST" in wrong.headers["allow"]


def test_limits_of_connections(make_server: Callable[..., Server]) -> None:
    server = make_server(max_connections=2)
    with server.stream(), server.stream():
        full = server.get("/api/events")
        assert full.code == "too_many_connections" and int(full.headers["retry-after"]) >= 2
    wait_for(lambda: Stream(server.port).status == 200, "room for another")


def test_early_bytes_and_pipelining_do_no_harm(server: Server) -> None:
    stream = Stream(server.port, extra=b"GET / HTTP/1.1\r\n\r\n" + b"x" * 10_000)
    stream.next()
    server.publish("fine")
    assert stream.values(1) == ["fine"]


def test_plain_and_tls_on_one_port(
    make_server: Callable[..., Server], certificate: Certificate
) -> None:
    server = make_server(**certificate.settings)
    with (
        server.stream(tls=certificate.trusting) as safe,
        server.stream() as plain,  # loopback may stay plain
        server.stream(tls=certificate.trusting, extra=b"early") as early,
    ):
        for n in range(200):
            server.publish({"n": n, "pad": "x" * 5_000}, tls=certificate.trusting)
        for stream in (safe, plain, early):
            assert [value["n"] for value in stream.values(200)] == list(range(200))
    refused = socket.create_connection(("127.0.0.1", server.port))
    refused.sendall(b"\x16\x03\x01\x00\x05hello")
    refused.settimeout(PATIENCE)
    refused.recv(1000)
    assert server.get("/healthz").status == 200
    assert not any("Traceback" in line for line in server.output)


@pytest.mark.parametrize("encrypted", [False, True])
def test_slow_reader_gets_everything_in_order(
    make_server: Callable[..., Server], certificate: Certificate, encrypted: bool
) -> None:
    """Its socket fills, the rest stays in the log, pinned bytes are offered again."""
    server = make_server(**(certificate.settings if encrypted else {}))
    tls = certificate.trusting if encrypted else None
    with server.stream(tls=tls, rcvbuf=8_192) as slow, server.stream(tls=tls) as quick:
        for n in range(150):
            server.publish({"n": n, "pad": "x" * 50_000}, tls=tls)
        assert [value["n"] for value in quick.values(150)] == list(range(150))
        lag = {c["clientId"]: c["lag"] for c in server.get("/api/connections", tls=tls).json}
        assert lag[slow.hello["clientId"]] > 0
        assert [value["n"] for value in slow.values(150)] == list(range(150))


def test_stalled_reader_is_closed_and_resumes(make_server: Callable[..., Server]) -> None:
    server = make_server(slow_consumer_seconds=1, ring_bytes=1_000_000)
    with server.stream(rcvbuf=8_192) as stalled, server.stream() as quick:
        for n in range(200):
            server.publish({"n": n, "pad": "x" * 50_000})
            assert quick.values(1)[0]["n"] == n
        client = stalled.hello["clientId"]
        wait_for(
            lambda: client not in str(server.get("/api/connections").json), "the stalled to go"
        )
        assert stalled.ended()
        heard = [e for e in stalled.events[1:] if "event" not in e]
        got = [json.loads(event["data"])["n"] for event in heard]
        position = stalled.last_id
    with server.stream(headers={"Last-Event-ID": position}) as stream:
        assert stream.hello["recovered"] is True
        rest = [value["n"] for value in stream.values(200 - len(got))]
        assert got + rest == list(range(200))


def test_works_without_what_only_linux_has(tmp_path: Path) -> None:
    """People double-click on Windows and macOS: no epoll, fcntl, resource, pwd, fork there."""
    launcher = tmp_path / "bare.py"
    launcher.write_text(
        "import os, runpy, select, sys\n"
        "del select.epoll\n"
        "from gevent import monkey\n"
        "monkey.patch_all()\n"  # gevent and psutil know that this is Linux
        "import psutil\n"
        "for name in ('fcntl', 'resource', 'pwd'):\n"
        "    sys.modules[name] = None\n"
        "del os.fork\n"
        f"sys.argv = [{str(PROGRAM)!r}] + sys.argv[1:]\n"
        f"runpy.run_path({str(PROGRAM)!r}, run_name='__main__')\n"
    )
    with (
        Server(tmp_path / "data", launcher=[sys.executable, str(launcher)]) as server,
        server.stream("channel=x") as stream,
    ):
        server.publish(1, "channel=x")
        assert stream.values(1) == [1]
        assert server.stop() == 0


def test_importing_patches_nothing() -> None:
    code = (
        "import socket, threading, rtapp; from gevent import monkey;"
        "assert not monkey.is_module_patched('socket'); assert rtapp.__version__"
    )
    subprocess.run([sys.executable, "-c", code], cwd=PROGRAM.parent, check=True, timeout=60)


def test_graceful_stop(server: Server) -> None:
    with server.stream() as stream:
        server.publish("last words")
        assert server.stop() == 0
        assert stream.ended()
        assert stream.events[1]["data"].startswith('"last words"')
        assert 1000 <= int(stream.events[-1]["retry"]) <= 5000


def test_a_kept_connection_does_not_wait_for_a_delayed_ack(server: Server) -> None:
    """With Nagle's algorithm (RFC 1122, 4.2.3.4) such an ACK would cost 40 ms a request."""
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {ADMIN}"}

    def seconds(connection: http.client.HTTPConnection) -> float:
        started = time.monotonic()
        connection.request("POST", "/api/broadcast", b"1", headers)
        assert connection.getresponse().read()
        return time.monotonic() - started

    with keep_alive(server.port) as connection:
        # On a busy machine many may take that long, but not most of them every time.
        wait_for(
            lambda: statistics.median(seconds(connection) for _ in range(21)) < 0.03,
            "most requests to take less",
        )


def test_messages_say_their_channel_to_who_asks(server: Server) -> None:
    """By a field that every EventSource ignores (WHATWG HTML 9.2.6)."""
    with server.stream("channel=a&labels=1") as labeled, server.stream("channel=a") as plain:
        server.publish([1], "channel=a&event=chat")
        server.publish("to all")
        server.publish(2, "channel=a&volatile=1")
        blocks = [labeled.next_raw() for _ in range(3)]
        first = blocks[0].split(b"\n")
        assert first[0].startswith(b"id: ") and blocks[1].split(b"\n")[1:] == [b'data: "to all"']
        assert first[1:] == [b"channel: a", b"event: chat", b"data: [1]"]
        assert blocks[2] == b"channel: a\ndata: 2"
        assert plain.next_raw().split(b"\n")[1:] == [b"event: chat", b"data: [1]"]
        rows = server.get("/api/connections").json
        assert {row["transport"] for row in rows} == {"sse"}
