"""The tests' own readers of streams: each takes a body by its framing, however the bytes come."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from support import PATIENCE, Response, Stream, Swarm, wait_for
from test_soak import Sse

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\nCache-Control: no-store\r\n\r\n"
PLAIN = HEAD + b"\r\n"
TRAILER = b"0;last\r\nX-Checksum: 1\r\nX-Other: 2\r\n\r\n"
DATA = [b"hello", b"4\r\nfour\r\n0\r\n\r\n", b"x" * 300]  # the second one looks like chunks
DATA_IN_CHUNKS = (
    b'5;name="a;b";other\r\nhello\r\n' + b"%x\r\n%b\r\n" % (len(DATA[1]), DATA[1])
    # Sizes are hexadecimal in either case, with zeros before them.
    + b"0012C\r\n" + DATA[2] + b"\r\n"
)  # fmt: skip


def test_chunks_are_taken_apart_wherever_they_are_cut() -> None:
    whole = CHUNKED + DATA_IN_CHUNKS + TRAILER
    for cut in range(len(whole) + 1):
        response = Response()
        body = response.feed(whole[:cut])
        assert response.is_complete is (cut == len(whole))
        body += response.feed(whole[cut:])
        assert body == b"".join(DATA) and response.is_complete
        assert response.head == CHUNKED.removesuffix(b"\r\n\r\n")


def test_chunks_are_taken_apart_byte_by_byte() -> None:
    response = Response()
    body = b"".join(response.feed(bytes([byte])) for byte in CHUNKED + DATA_IN_CHUNKS + TRAILER)
    assert body == b"".join(DATA) and response.is_complete
    assert response.feed(b"HTTP/1.1 200 OK\r\n\r\n") == b"", "the next response is another one's"


def test_what_there_is_of_a_chunk_is_not_held_back() -> None:
    response = Response()
    assert response.feed(CHUNKED + b"5\r\nhel") == b"hel"
    assert response.feed(b"l") == b"l"
    assert response.feed(b"o") == b"o"
    assert not response.is_complete


@pytest.mark.parametrize(
    ("line", "is_chunked"),
    [
        (b"transfer-encoding:CHUNKED", True),
        (b"Transfer-Encoding: \t chunked ", True),
        (b"X-Transfer-Encoding: chunked", False),
        (b"Content-Length: 12", False),
    ],
)
def test_only_a_head_that_says_so_is_followed_by_chunks(line: bytes, is_chunked: bool) -> None:
    response = Response()
    body = response.feed(HEAD + line + b"\r\n\r\n2\r\nab\r\n0\r\n\r\n")
    assert body == (b"ab" if is_chunked else b"2\r\nab\r\n0\r\n\r\n")
    assert response.is_complete is is_chunked


@pytest.mark.parametrize(
    "wrong", [b"2\r\nabc\r\n", b"4\r\nabc\r\n0\r\n\r\n", b"0x2\r\nab\r\n", b"-1\r\n", b"\r\n"]
)
def test_what_are_no_chunks_is_an_error(wrong: bytes) -> None:
    with pytest.raises(ValueError, match="chunk"):
        Response().feed(CHUNKED + wrong)


# The readers, on a connection that is cut anywhere

EVENTS = [
    b'retry: 2000\nid: 00000000-7\ndata: {"type":"connection","recovered":false}\n\n',
    b'id: 00000000-8\nevent: ping\ndata: {"type":"ping"}\n\n',
    b'id: 00000000-9\ndata: {"n":0,"text":"\xc5\x9f"}\n\n',
    b'id: 00000000-10\ndata: {"n":1,"text":"\xc5\x9f"}\n\n',
]


class Sent(NamedTuple):
    """What a server answers, and whether it keeps the connection afterwards."""

    data: bytes
    is_kept: bool


FRAMINGS = {
    "chunks": Sent(
        CHUNKED + b"".join(b"%x\r\n%b\r\n" % (len(e), e) for e in EVENTS) + TRAILER, True
    ),
    "chunks of any size": Sent(
        CHUNKED + b"".join(b"1\r\n%c\r\n" % byte for byte in b"".join(EVENTS)) + TRAILER, True
    ),
    "chunks that are cut off": Sent(CHUNKED + b"%x\r\n" % 10_000 + b"".join(EVENTS), False),
    "bytes": Sent(PLAIN + b"".join(EVENTS), False),
}


@pytest.fixture(params=FRAMINGS)
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    """Where a server answers everybody the same, a byte at a time."""
    sent, over = FRAMINGS[request.param], threading.Event()

    def answer(sock: socket.socket) -> None:
        with sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.recv(65_536)
            for byte in sent.data:
                sock.send(bytes([byte]))
            if sent.is_kept:
                over.wait(PATIENCE)

    def accept() -> None:
        with contextlib.suppress(OSError):  # it is closed
            while True:
                threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        over.set()
        listener.shutdown(socket.SHUT_RDWR)


def test_a_stream_reads_by_the_framing(port: int) -> None:
    with Stream(port) as stream:
        assert stream.status == 200
        assert [stream.next_raw() + b"\n\n" for _ in EVENTS] == EVENTS
        assert stream.ended()
    with Stream(port) as stream:
        assert stream.next()["id"] == "00000000-7"
        assert stream.values(2) == [{"n": 0, "text": "ş"}, {"n": 1, "text": "ş"}]
        with pytest.raises(EOFError):
            stream.next()
        assert stream.last_id == "00000000-10"


def test_a_swarm_reads_by_the_framing(port: int) -> None:
    swarm = Swarm(port)
    for key in range(3):
        swarm.open(key, "channel=x")
    swarm.pump_until(lambda: len(swarm.closed) == 3, "the end of all")
    messages = [(9, '{"n":0,"text":"ş"}'), (10, '{"n":1,"text":"ş"}')]
    assert swarm.messages == dict.fromkeys(range(3), messages)
    swarm.close_all()


def test_a_subscriber_of_the_soak_reads_by_the_framing(port: int) -> None:
    one, faults = Sse("one"), list[str]()
    one.open(port)

    def has_ended() -> bool:
        assert one.sock is not None
        with contextlib.suppress(BlockingIOError):
            data = one.sock.recv(65_536)
            faults.extend(one.take(data))
            return not data or one.response.is_complete
        return False

    wait_for(has_ended, "the end")
    assert (one.last, one.position, faults) == (1, "00000000-10", [])
    one.close()
