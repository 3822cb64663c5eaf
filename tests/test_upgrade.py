"""A database that an older version left is opened with all that it holds, and its clients go on.

Each dump was left by the real server of its time, stopped as it should be. In those of the third
and the seventh schema, retention has taken the first four messages, two channels' beginning, and
the newest entries of the log have expired: the highest id that was ever given is of no row any
more.
"""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import rtapp
from support import AUTH, Server, change, cookie_of, hear_io, join_io, rows_of

DATA = Path(__file__).with_name("data")
ROOMS = "/api/video/rooms"
# The sessions of who is in the third schema's room Team, of who was removed from it, and of who was
# sent a direct message.
ADA, BEN, CLEO = "session-of-ada-in-team-1", "session-of-ben-in-team-2", "session-of-cleo-direct-3"


class Old(NamedTuple):
    """A dump, and what is known of its database."""

    name: str
    version: int  # of its schema
    epoch: str
    digits: int  # that an id has at least in a client's position
    reader: str  # an API token for the channel news
    held: list[int]  # the messages that are listed, newest first
    hello: int  # the id of news' message hello 0, before hello 1 and hello 2
    complete: dict[int, bool]  # whether all of news after an id is still held
    highest: int  # the highest id that was ever given
    rooms: list[str]
    socket: dict[str, str]  # what a Socket.IO client was told that has just lost its connection

    @property
    def on_postgresql(self) -> bool:
        return self.name.endswith(".postgres.sql")

    @property
    def text(self) -> str:
        return (DATA / self.name).read_text("utf-8")

    def position(self, number: int) -> str:
        """An id as clients know it."""
        return f"{self.epoch}-{number:0{self.digits}}"

    def resume(self, number: int) -> dict[str, str]:
        """The header with which a client comes back that has seen a message."""
        return {"Last-Event-ID": self.position(number)}


FIRST = Old(
    name="first.sql",
    version=2,
    epoch="3d9440db",
    digits=8,
    reader="vQ-YFj3RsZVLqqA-obsYROaYBSyjW82fO3yDnA1aiFI",
    held=[7, 4, 3, 2, 1],
    hello=1,
    complete={0: True, 1: True, 7: True, 1007: False},
    highest=7,
    rooms=[],
    socket={},
)
THIRD = Old(
    name="third.sql",
    version=3,
    epoch="1b92deb2",
    digits=1,
    reader="N91h7qGhbh1Q7d_7SFB9YIl-dvuXbNBld_BiE8qkdRw",
    held=[12, 11, 10, 8, 7, 6, 5],
    hello=6,
    complete={0: False, 1: False, 3: False, 4: True, 12: True, 26: True, 1026: False},
    highest=26,
    rooms=["Team"],
    socket={"sid": "S2BuQ2Q-6XtdlGLjWeKg7", "pid": "Yh5vJ4ePg1yH0XguIE6NLh7xrCQGULTi"},
)
SEVENTH = THIRD._replace(
    name="seventh.sql",
    version=7,
    epoch="7e01b344",
    reader="p4DLOwBCylpwbxP-74w11d2cChFmZIexh46Cm9Gbfz8",
    socket={"sid": "V54l8Ko_nYCeoFk3Ma1Io", "pid": "G5u_-JGMo-0poSnMWJcTLCXGxYB8hDqz"},
)
OLD = (
    FIRST,
    THIRD,
    THIRD._replace(
        name="third.postgres.sql",
        epoch="df132e3c",
        reader="S1tPTljo6fYi8rDPDodVJS32t10CRoKwa79Z6HbfLvE",
        socket={"sid": "Pd7rkH4_nc4Ff_0iFUqyW", "pid": "miJrG--9ZM0nV23_s_EKqVXzsbXAwy4M"},
    ),
    SEVENTH,
    SEVENTH._replace(
        name="seventh.postgres.sql",
        epoch="d3010ad5",
        reader="L-a_VFz8irU518lDyJ9iI5A2u2psp2dX6z91XP9Zv_c",
        highest=27,
        complete={**SEVENTH.complete, 27: True, 1027: False},
        socket={"sid": "pBUkL5wcwRJDAG3AQTj4T", "pid": "My7Do05qKfyHagJlUU7J-9mvZJYOa6To"},
    ),
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test on each dump that has what it is about; in the quick verdict without
    PostgreSQL."""
    names, is_quick = metafunc.fixturenames, metafunc.config.getoption("quick")
    if "old" in names:
        chosen = [old for old in OLD if old.version >= 3 or "third" not in names]
        chosen = [old for old in chosen if old.version < 5 or "ticketed" not in names]
        chosen = [old for old in chosen if not (is_quick and old.on_postgresql)]
        metafunc.parametrize("old", chosen, ids=[old.name.removesuffix(".sql") for old in chosen])


@pytest.fixture
def third(old: Old) -> Old:
    """A database with what the third schema brought, and the second one's dump lacks."""
    return old


@pytest.fixture
def ticketed(old: Old) -> Old:
    """A database of the time when tickets were kept in another form."""
    return old


TICKET = (
    "INSERT INTO access_tokens (token_hash, kind, name, grants, address, agent, created_at,"
    f" expires_at) VALUES ('{rtapp.sha256('ticket-of-ada')}', 'ticket', 'ada',"
    ' \'{"grants":{"role":"admin"},"credential":"","expires_at":null}\', \'\', \'\', 1,'
    " 9999999999999);"
)


def of_now(dump: str) -> str:
    """A dump as if its server had been stopped just now: all times, which are milliseconds, are
    later by as much; whole minutes, which statistics have, by whole minutes."""
    stopped = re.search(r"(\d{13}), ?'INFO', ?'Server stopped'", dump)
    assert stopped, dump
    later = time.time_ns() // 1_000_000 - int(stopped[1])

    def moved(match: re.Match[str]) -> str:
        then = int(match[0])
        return str(then + (later if then % 60_000 else later // 60_000 * 60_000))

    return re.sub(r"\b1[78]\d{11}\b", moved, dump)


@pytest.fixture
def upgraded(old: Old, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server of today on that database."""
    server = Server(tmp_path / "old", socketio_recovery_seconds=120)
    server.data.mkdir()
    dump = of_now(old.text) + (TICKET if old.version < 5 else "")
    if old.on_postgresql:
        server.env["DATABASE_URL"] = request.getfixturevalue("postgres").new_database()
        change(server.database_url, dump)
    else:
        with contextlib.closing(sqlite3.connect(server.data / "rtapp.db")) as database:
            database.executescript(dump)
    with server:
        yield server


def listed(server: Server) -> list[int]:
    """The ids of the messages that are listed."""
    return [message["id"] for message in server.get("/api/messages").json]


def test_all_that_it_held_is_there(old: Old, upgraded: Server) -> None:
    messages: dict[int, dict[str, Any]] = {m["id"]: m for m in upgraded.get("/api/messages").json}
    assert list(messages) == old.held
    contents = [message["content"] for message in messages.values()]
    assert {"type": "notification", "message": "to all"} in contents
    assert messages[old.hello]["channel"] == "news"
    assert messages[old.hello]["content"] == {"message": "hello 0"}
    settings = {s["key"]: s for s in upgraded.get("/api/settings").json}
    assert settings["max_connections"]["value"] == 1000 and settings["x-color"]["value"] == "blue"
    assert "User made" in [entry["message"] for entry in upgraded.get("/api/logs").json]
    assert upgraded.get("/api/stats/history?minutes=60").json[0]["messagesSent"] > 0
    body = {"username": "ada", "password": "correct horse 9"}
    signed_in = cookie_of(upgraded.post("/api/auth/login", body, token=None))
    me = upgraded.get("/api/auth/me", headers=signed_in, token=None).json
    assert (me["username"], me["role"]) == ("ada", "admin")


def test_its_clients_go_on(old: Old, upgraded: Server) -> None:
    headers = old.resume(old.hello)
    with upgraded.stream("channel=news", token=old.reader, headers=headers) as stream:
        assert stream.hello["recovered"] is True
        assert [value["message"] for value in stream.values(2)] == ["hello 1", "hello 2"]
        upgraded.publish({"message": "new"}, "channel=news")
        assert stream.values(1)[0]["message"] == "new"


def test_who_missed_what_is_gone_is_told(old: Old, upgraded: Server) -> None:
    """Also who comes from an id that was never given; not who has seen the log's newest entry,
    though that is gone."""
    for number, is_complete in old.complete.items():
        headers = old.resume(number)
        with upgraded.stream("channel=news", token=old.reader, headers=headers) as stream:
            assert stream.hello["recovered"] is is_complete, number
            assert is_complete or stream.next()["event"] == "reset"


def test_no_id_is_given_twice(old: Old, upgraded: Server) -> None:
    """Not even one that is of no row any more."""
    given = [old.highest]
    for number in range(2):
        given.append(upgraded.publish(number).json["message"]["id"])
        assert given[-1] > given[-2]
        assert upgraded.stop() == 0
        upgraded.start()
    assert listed(upgraded) == [*given[:0:-1], *old.held]


def test_what_was_sent_once_is_not_sent_again(old: Old, upgraded: Server) -> None:
    key = {"Idempotency-Key": "k1"}
    again = upgraded.post("/api/broadcast", {"a": 1}, headers=key)
    assert again.status == 200 and f"'{again.body.decode()}'" in old.text
    assert upgraded.post("/api/broadcast", {"a": 2}, headers=key).code == "idempotency_mismatch"
    assert listed(upgraded) == old.held


def test_a_ticket_of_before_is_none(ticketed: Old, upgraded: Server) -> None:
    assert upgraded.get("/api/events?ticket=ticket-of-ada", token=None).status == 401
    assert rows_of(upgraded.database_url, "SELECT 1 FROM access_tokens WHERE kind = 'ticket'") == []


def test_a_copy_is_made_before_a_migration(old: Old, upgraded: Server) -> None:
    """Of a file, and of that alone: on PostgreSQL a migration happens or doesn't."""
    is_copied = old.version < len(rtapp.MIGRATIONS) and not old.on_postgresql
    copies = [upgraded.data / f"rtapp.db.v{old.version}.bak"] if is_copied else []
    for _ in range(2):
        assert list(upgraded.data.glob("*.bak")) == copies
        for copy in copies:
            sql = "SELECT value FROM meta WHERE key = 'schema_version'"
            assert rows_of(f"sqlite:///{copy}", sql) == [(str(old.version),)]
            rows = rows_of(f"sqlite:///{copy}", "SELECT id FROM messages")
            assert {(number,) for number in old.held} <= set(rows)
        assert upgraded.stop() == 0
        upgraded.start()


def test_what_is_new_works_and_stays(old: Old, upgraded: Server) -> None:
    assert upgraded.post(ROOMS, {"name": "Later"}).status == 201
    assert upgraded.stop() == 0
    upgraded.start()
    assert [room["name"] for room in upgraded.get(ROOMS).json] == [*old.rooms, "Later"]


# What came with the third schema


def test_its_rooms_go_on(third: Old, upgraded: Server) -> None:
    people = upgraded.get(f"{ROOMS}/team").json["participants"]
    assert [(person["id"], person["displayName"]) for person in people] == [(1, "Ada")]
    back = upgraded.post(f"{ROOMS}/team/join", {"session": ADA}, token=None)
    assert back.status == 200 and back.json["participant"]["id"] == 1
    assert back.json["participant"]["displayName"] == "Ada"
    body = {"session": BEN, "displayName": "Ben"}
    assert upgraded.post(f"{ROOMS}/team/join", body, token=None).code == "removed"
    other = upgraded.post(f"{ROOMS}/team/join", {**body, "session": CLEO}, token=None)
    assert other.status == 200 and other.json["participant"]["id"] > 2


def test_a_channel_is_not_concerned_with_what_others_lost(third: Old, upgraded: Server) -> None:
    with upgraded.stream("channel=weather", headers=third.resume(1)) as stream:
        assert stream.hello["recovered"] is True
        assert stream.values(1)[0]["message"] == "to all" and stream.values(1) == ["rain"]
    with upgraded.stream("channel=old", headers=third.resume(2)) as stream:
        assert stream.hello["recovered"] is False


def test_a_direct_message_is_still_to_be_had(third: Old, upgraded: Server) -> None:
    with upgraded.stream(f"session={CLEO}", headers=third.resume(8)) as stream:
        assert stream.hello["recovered"] is True
        assert stream.values(1)[0]["message"] == "for you"


def test_a_socketio_client_recovers(third: Old, upgraded: Server) -> None:
    """From where it was when it left, the log's end of then, and from what it had seen before."""
    auth = {**AUTH, "pid": third.socket["pid"]}
    ws, answer = join_io(upgraded, auth)
    assert answer == third.socket
    ws.close()
    ws, answer = join_io(upgraded, {**auth, "offset": third.position(9)})
    assert answer == third.socket
    picture = '451-["picture",{"_placeholder":true,"num":0},"a dot",'
    assert hear_io(ws).startswith(picture) and hear_io(ws) == b"\x01\x02\xff"
    heard = [json.loads(hear_io(ws)[2:]) for _ in range(2)]
    assert [event[0] for event in heard] == ["message", "message"]
    assert heard[0][1]["a"] == 1 and heard[1][1]["message"] == "hello 2"
    upgraded.publish("new", "channel=news")
    assert json.loads(hear_io(ws)[2:])[:2] == ["message", "new"]
    ws.close()


def test_its_rows_get_new_ids(third: Old, upgraded: Server) -> None:
    """Those of the tables that have ids of their own."""
    body = {"username": "ben", "password": "correct horse 9"}
    assert upgraded.post("/api/users", body).status == 201
    assert len(upgraded.get("/api/users").json) == 2
    assert upgraded.stop() == 0  # the event log is written
    upgraded.start()
    logged = [entry["message"] for entry in upgraded.get("/api/logs?limit=500").json]
    assert logged.count("User made") == 2 and logged.count("Server stopped") == 2
