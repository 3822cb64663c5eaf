"""`/ws`: JSON frames, the close codes of RFC 6455, and what a client may not do."""

from __future__ import annotations

import json
import socket
import tracemalloc
from collections.abc import Callable

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.sync.client import ClientConnection

from rtapp import Framing
from support import (
    ADMIN,
    PATIENCE,
    UPGRADE,
    Server,
    get_request,
    hear,
    masked,
    open_ws,
    say,
    wait_for,
)

# Every test here runs with both backings of the poller.
pytestmark = pytest.mark.usefixtures("poller")


def close_code(ws: ClientConnection) -> int:
    """The code with which the server closes."""
    with pytest.raises(ConnectionClosed) as closed:
        while True:
            ws.recv(PATIENCE)
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code


def test_messages_reach_every_transport_and_come_from_each(server: Server) -> None:
    with open_ws(server, "channel=a") as ws, server.stream("channel=a") as stream:
        hello = hear(ws)
        assert hello["type"] == "connection" and hello["message"] == "Connected to WebSocket"
        server.publish([1, 2.5], "channel=a&event=chat")
        got = hear(ws)
        assert got.pop("id") == f"{hello['lastEventId'].split('-')[0]}-1"
        assert got == {"type": "message", "channel": "a", "event": "chat", "data": [1, 2.5]}
        say(ws, type="publish", channel="a", event="e", data={"id": 1, "timestamp": 2}, ref="r")
        heard = sorted((hear(ws) for _ in range(2)), key=lambda got: got["type"])  # in either order
        assert heard[0] == {"type": "ack", "ref": "r", "id": 2}
        assert heard[1]["data"] == {"id": 1, "timestamp": 2}
        assert stream.values(2) == [[1, 2.5], {"id": 1, "timestamp": 2}]
        server.publish(3, "channel=a&volatile=1")
        assert hear(ws) == {"type": "message", "channel": "a", "event": None, "data": 3}
        say(ws, type="publish", channel="a", data=4, volatile=True, ref=1)
        heard = sorted((hear(ws) for _ in range(2)), key=lambda got: got["type"])
        assert heard[0] == {"type": "ack", "ref": 1, "id": None}
        assert heard[1] == {"type": "message", "channel": "a", "event": None, "data": 4}


def test_subscribe_and_unsubscribe_change_only_this_connection(server: Server) -> None:
    with (
        open_ws(server, "session=" + "s" * 22) as one,
        open_ws(server, "session=" + "s" * 22) as two,
    ):
        hear(one), hear(two)
        say(one, type="subscribe", channels=["x"], ref=1)
        assert hear(one) == {"type": "ack", "ref": 1}
        server.publish("for x", "channel=x")
        server.publish("for all")
        assert [hear(one)["data"], hear(one)["data"]] == ["for x", "for all"]
        assert hear(two)["data"] == "for all"
        say(one, type="unsubscribe", channels=["x"], ref=2)
        hear(one)
        server.publish("for x", "channel=x")
        say(one, type="ping")
        assert hear(one)["type"] == "pong"


def test_resume_by_last_event_id(server: Server) -> None:
    with open_ws(server, "channel=a") as ws:
        last = hear(ws)["lastEventId"]
    for n in range(3):
        server.publish(n, "channel=a")
    with open_ws(server, f"channel=a&lastEventId={last}") as ws:
        assert hear(ws)["recovered"] is True
        assert [hear(ws)["data"] for _ in range(3)] == [0, 1, 2]
    with open_ws(server, "channel=a&lastEventId=00000000-7") as ws:
        assert [hear(ws)["type"], hear(ws)["type"]] == ["connection", "reset"]


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ("x", "malformed_json"),
        ("[1]", "invalid"),
        ('{"type":"nonsense","ref":7}', "unknown_type"),
        ('{"type":"subscribe","channels":["sys:x"]}', "reserved_channel"),
        ('{"type":"subscribe","channels":["\\u0000"]}', "invalid"),
        ('{"type":"publish","event":"disconnect","data":1}', "reserved_event"),
        ('{"type":"publish","data":{"type":"webrtc-signal"}}', "reserved_type"),
        ('{"type":"publish"}', "invalid"),
        ('{"type":"publish","ref":7,"event":"a\\nb","data":1}', "invalid"),
        ('{"type":"publish","data":' + "[" * 300 + "]" * 300 + "}", "malformed_json"),
    ],
)
def test_refusals_are_named_and_cost_nothing_else(server: Server, frame: str, code: str) -> None:
    with open_ws(server) as ws:
        hear(ws)
        ws.send(frame)
        refused = hear(ws)
        assert (refused["type"], refused["code"]) == ("error", code)
        assert refused.get("ref") == (7 if "ref" in frame else None)
        say(ws, type="ping")
        assert hear(ws)["type"] == "pong"


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        ("", "It is empty."),
        ("[1]", "must be an object."),
        ('{"type":"publish","to":"a","channel":"b","data":1}', "to can't be given together with "),
        ('{"type":"subscribe","channels":["a b"],"to":7}', "channels [0] must be 1-128 letters"),
    ],
)
def test_what_is_wrong_is_said(server: Server, frame: str, said: str) -> None:
    with open_ws(server) as ws:
        hear(ws)
        ws.send(frame)
        assert hear(ws, "error")["message"].startswith(said)


def test_a_byte_order_mark_is_no_part_of_a_frame(server: Server) -> None:
    """As in the body of a request (RFC 8259, 8.1)."""
    with open_ws(server) as ws:
        hear(ws)
        ws.send('\ufeff{"type":"publish","data":"\ufeff","ref":1}')
        told = {frame["type"]: frame for frame in (hear(ws), hear(ws))}
        assert told["ack"]["ref"] == 1 and told["message"]["data"] == "\ufeff"


def test_half_a_character_is_taken_and_answered(server: Server) -> None:
    with open_ws(server, "channel=x") as ws:
        hear(ws, "connection")
        ws.send(r'{"type":"publish","channel":"x","data":"hi \ud83d","ref":1}')
        told = {frame["type"]: frame for frame in (hear(ws), hear(ws))}
        assert told["ack"]["ref"] == 1 and told["message"]["data"] == "hi \ufffd"
        ws.send(r'{"type":"publish","channel":"x\udc00","data":1,"ref":"\ud800"}')
        assert hear(ws, "error")["ref"] == "\ufffd"


def test_three_bad_frames_close(server: Server) -> None:
    with open_ws(server) as ws:
        hear(ws)
        for frame in ("x", "y", '{"type":"ping"}', "x", "y", "z"):
            ws.send(frame)
        assert close_code(ws) == 1008


def test_close_codes(make_server: Callable[..., Server]) -> None:
    server = make_server(max_message_bytes=1000)
    with open_ws(server) as ws:
        ws.send("x" * 1001)
        assert close_code(ws) == 1009
    with open_ws(server) as ws:
        ws.socket.sendall(masked(Opcode.TEXT, b"\xff\xfe"))
        assert close_code(ws) == 1007
    with open_ws(server) as ws:
        ws.socket.sendall(Frame(Opcode.TEXT, b"not masked").serialize(mask=False))
        assert close_code(ws) == 1002
    with open_ws(server) as ws:
        ws.close(1000)
        assert ws.protocol.close_rcvd is not None and ws.protocol.close_rcvd.code == 1000
    with open_ws(server) as ws:
        client = hear(ws)["clientId"]
        assert server.request("DELETE", f"/api/connections/{client}", {}).status == 200
        assert hear(ws)["type"] == "disconnect"
        assert close_code(ws) == 1008
    with open_ws(server) as ws:
        hear(ws)
        server.stop()
        assert close_code(ws) == 1001


def test_fragments_and_pings(server: Server) -> None:
    with open_ws(server) as ws:
        hear(ws)
        ws.send(iter(['{"type":', '"ping"', "}"]))
        assert hear(ws)["type"] == "pong"
        assert ws.ping().wait(PATIENCE)


def test_empty_fragments_are_not_kept() -> None:
    """Each costs its sender six bytes; a message may have as many as there is patience."""
    framing = Framing(1_000)
    more = masked(Opcode.CONT, b"", fin=False)
    assert framing.take(masked(Opcode.TEXT, b"a", fin=False)) == []
    tracemalloc.start()
    for _ in range(100):
        assert framing.take(more * 100) == []
    grown = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert grown < 200_000
    assert framing.take(masked(Opcode.CONT, b"b")) == ["ab"]


def test_joins_count_as_requests(make_server: Callable[..., Server]) -> None:
    """Everybody in the room hears of each."""
    server = make_server(rate_limit=30, access="open")
    assert server.post("/api/video/rooms", {"name": "x", "roomId": "r"}).status == 201
    with open_ws(server, token=None) as ws:
        for _ in range(40):
            say(ws, type="join-room", roomId="r")
        assert hear(ws, "error")["code"] == "rate_limited"


def test_frames_in_the_segment_of_the_handshake(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as sock:
        sock.sendall(get_request("/ws", UPGRADE) + masked(Opcode.TEXT, b'{"type":"ping"}'))
        found = b""
        while b'"pong"' not in found:
            found += sock.recv(65_536)
        assert found.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
        assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in found


def test_who_may_not_open_one(server: Server) -> None:
    for headers, status in (
        ({}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": f"Bearer {ADMIN}", "Origin": "https://evil.example"}, 403),
        ({"Authorization": f"Bearer {ADMIN}", "Host": "evil.example"}, 400),  # a second one
    ):
        with pytest.raises(InvalidStatus) as refused:
            open_ws(server, headers=headers, token=None)
        assert refused.value.response.status_code == status
    assert server.get("/ws", headers={"Host": "evil.example"}).status == 421
    assert server.get("/ws").status == 426


def test_a_flood_is_taken_in_order(server: Server) -> None:
    with open_ws(server, "channel=f") as ws:
        hear(ws)
        for n in range(2_000):
            say(ws, type="publish", channel="f", data=n)
        assert [hear(ws)["data"] for _ in range(2_000)] == list(range(2_000))


def test_who_does_not_read_is_told_to_come_back(make_server: Callable[..., Server]) -> None:
    server = make_server(slow_consumer_seconds=3)  # as long it has to read the last words
    with (
        open_ws(server, "channel=s", max_size=None, max_queue=1) as ws,
        server.stream("channel=s") as reader,
    ):
        last = hear(ws)["lastEventId"]
        for _ in range(40):
            server.publish("x" * 500_000, "channel=s")
            reader.take(1)
        wait_for(lambda: len(server.get("/api/connections").json) == 1, "the one to be closed")
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                last = json.loads(ws.recv(PATIENCE)).get("id", last)
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1013
    with open_ws(server, f"channel=s&lastEventId={last}", max_size=None) as ws:
        assert hear(ws)["recovered"] is True
        done = int(last.split("-")[1])
        assert len([hear(ws) for _ in range(done, 40)]) == 40 - done


def test_who_answers_no_ping_is_closed(make_server: Callable[..., Server]) -> None:
    server = make_server(ping_interval=0.3, ping_timeout=1.5)  # a busy client may take a second
    with open_ws(server) as answering:
        found = server.raw(get_request("/ws", UPGRADE))  # until the server closes
        assert b'"type":"ping"' in found and Frame(Opcode.PING, b"").serialize(mask=False) in found
        say(answering, type="ping")
        hear(answering)
        assert hear(answering)["type"] == "pong"
    reason = '"reason": "ping timeout"'
    wait_for(lambda: reason in json.dumps(server.get("/api/logs").json), "the log to say why")


def test_a_bad_frame_costs_only_its_sender_the_connection(server: Server) -> None:
    with open_ws(server) as good:
        hear(good)
        for data in (
            b"\xff" * 50,
            b"\x8f\x80abcd",
            b"\x81\xff" + b"\xff" * 12,
            b"\x89\x7e\x10\x00",
        ):
            with open_ws(server) as bad:
                bad.socket.sendall(data)
                assert close_code(bad) in (1002, 1009)
        server.publish("on")
        assert hear(good)["data"] == "on"
