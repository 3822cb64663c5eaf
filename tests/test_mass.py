"""Many at once: two thousand who come back after a crash, and some who never read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from support import (
    Publisher,
    Server,
    Stream,
    Swarm,
    many_open_files,
    query_database,
    wait_for,
)

SUBSCRIBERS = 2_000
CHANNELS = ("north", "east", "south", "west")


@pytest.fixture
def many_files() -> Iterator[None]:
    """Lets this process open a socket for each subscriber; the server does so by itself."""
    with many_open_files(SUBSCRIBERS + 500):
        yield


def channel_of(key: int) -> str:
    """The channel of a subscriber."""
    return CHANNELS[key % len(CHANNELS)]


def open_all(swarm: Swarm) -> None:
    """Open every subscriber's stream, from its last id if it has one, and wait for all."""
    last_ids = dict(swarm.last_ids)
    for key in range(SUBSCRIBERS):
        swarm.open(key, f"channel={channel_of(key)}", last_ids.get(key))
        if key % 50 == 49:
            swarm.pump(0)
    swarm.pump_until(lambda: len(swarm.last_ids) == SUBSCRIBERS, "all to be connected")


def expected(data: Path, channel: str) -> list[tuple[int, str]]:
    """What a subscriber of a channel must have got, by the table."""
    sql = "SELECT id, content FROM messages WHERE topic IN ('*', ?) ORDER BY id"
    return [(number, text) for number, text in query_database(data, sql, f"c/{channel}")]


def catch_up_reads(server: Server) -> int:
    """How often the server has read the table for those behind the ring."""
    return int(server.get("/api/stats").json["catchUpReads"])


def test_two_thousand_resume_after_a_crash(
    make_server: Callable[..., Server], tmp_path: Path, many_files: None
) -> None:
    """Nothing is missing, nothing comes twice, all is in order; and the crowd costs few reads."""
    server = make_server(data=tmp_path / "data")
    swarm = Swarm(server.port)
    open_all(swarm)
    publishers = [Publisher(server.port, name, f"channel={name}") for name in CHANNELS]
    publishers.append(Publisher(server.port, "all"))
    swarm.pump_until(
        lambda: all(len(publisher.acknowledged) >= 20 for publisher in publishers),
        "some messages to be acknowledged",
    )
    server.kill()
    swarm.pump_until(lambda: len(swarm.closed) == SUBSCRIBERS, "all to be disconnected")
    assert len(set(swarm.last_ids.values())) > 1, "they were at different places"

    again = make_server(data=tmp_path / "data", ring_bytes=65_536)
    for name in CHANNELS:
        again.publish_lines(
            (f"{name} missed {n} {'x' * 200}" for n in range(150)), f"channel={name}"
        )
    reads = catch_up_reads(again)
    swarm.port = again.port
    open_all(swarm)
    last = again.publish("the last").json["message"]["id"]
    swarm.pump_until(
        lambda: all(got[-1:] and got[-1][0] == last for got in swarm.messages.values()),
        "the last message to be everywhere",
        120,
    )
    assert catch_up_reads(again) - reads < 100
    assert not swarm.resets
    for channel in CHANNELS:
        wanted = expected(again.data, channel)
        for key in range(SUBSCRIBERS):
            if channel_of(key) == channel:
                assert swarm.messages[key] == wanted, f"subscriber {key}"
    stored = {number for name in CHANNELS for number, _ in expected(again.data, name)}
    for publisher in publishers:
        assert set(publisher.acknowledged) <= stored
    swarm.close_all()


def resident(server: Server) -> float:
    """The megabytes of memory that the server's process holds."""
    return float(psutil.Process(server.pid).memory_info().rss / 1e6)


def publish_megabytes(server: Server, swarm: Swarm, count: int) -> float:
    """Publish about so many megabytes while the swarm reads; the most memory held meanwhile."""
    most = 0.0
    have = len(swarm.messages[0])
    for n in range(1, count + 1):
        server.publish_lines(["x" * 50_000] * 20, "channel=big")
        swarm.pump_until(
            lambda upto=have + n * 20: all(len(m) == upto for m in swarm.messages.values()),
            "the readers to have it",
        )
        most = max(most, resident(server))
    return most


def test_those_who_never_read_cost_little(make_server: Callable[..., Server]) -> None:
    """Under 1 MB each while 20 MB pass them by, and the others nothing; later they resume."""
    server = make_server(ring_bytes=1_000_000, slow_consumer_seconds=600)
    swarm = Swarm(server.port)
    for key in range(10):
        swarm.open(key, "channel=big")
    swarm.pump_until(lambda: len(swarm.last_ids) == 10, "the readers to be connected")
    usual = publish_megabytes(server, swarm, 10)
    idle = [Stream(server.port, "channel=big", rcvbuf=4_096) for _ in range(20)]
    positions = [stream.next()["id"] for stream in idle]
    most = publish_megabytes(server, swarm, 20)
    print(f"{usual:.1f} MB before, at most {most:.1f} MB with 20 who never read")
    assert most - usual < 20 * 1.0
    waiting = [c for c in server.get("/api/connections").json if c["lag"] > 0]
    assert len(waiting) == 20
    wanted = [number for number, _ in swarm.messages[0][200:]]
    for stream in idle:
        stream.close()
    swarm.close_all()
    late = Swarm(server.port)
    for key, position in enumerate(positions):
        late.open(key, "channel=big", position)
    late.pump_until(
        lambda: all(len(late.messages.get(key, ())) == len(wanted) for key in range(20)),
        "those who had not read to have everything",
    )
    assert all([number for number, _ in got] == wanted for got in late.messages.values())
    assert not late.resets
    late.close_all()
    wait_for(lambda: server.get("/api/stats").json["activeConnections"] == 0, "all to be gone")
