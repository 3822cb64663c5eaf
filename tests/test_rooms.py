"""Video rooms, through the wire: who gets in, what they hear of each other, what they may do."""

from __future__ import annotations

import base64
import contextlib
import hmac
import json
import os
import re
import secrets
import signal
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection

import rtapp
from postgres import Cluster
from support import (
    ADMIN,
    LONG,
    POLLING,
    ROOT,
    Answer,
    Event,
    Server,
    Stream,
    change,
    cookie_of,
    hear,
    hear_io,
    join_io,
    kill_node,
    open_ws,
    rows_of,
    say,
    wait_for,
)

ROOMS = "/api/video/rooms"


class Person:
    """Somebody with a `session` of their own, without a credential unless `token` is given."""

    def __init__(self, server: Server, name: str, token: str | None = None) -> None:
        self.server = server
        self.name = name
        self.token = token
        self.session = secrets.token_urlsafe(16)
        self.joined: dict[str, Any] = {}

    def post(self, path: str, **body: Any) -> Answer:
        """A call with this session in its body."""
        return self.server.post(path, {"session": self.session, **body}, token=self.token)

    def get(self, path: str) -> Answer:
        headers = {"X-Session": self.session}
        return self.server.get(path, headers=headers, token=self.token)

    def join(self, room: str, **body: Any) -> Answer:
        answer = self.post(f"{ROOMS}/{room}/join", displayName=self.name, **body)
        if answer.status in (200, 202):
            self.joined = answer.json
        return answer

    def enter(self, room: str, **body: Any) -> Person:
        """Join; fails unless let in."""
        answer = self.join(room, **body)
        assert answer.status == 200, answer
        return self

    @property
    def me(self) -> dict[str, Any]:
        return dict(self.joined["participant"])

    def stream(self, **more: Any) -> Stream:
        """The stream that misses nothing since the join."""
        query = f"session={self.session}&lastEventId={self.joined['lastEventId']}"
        return self.server.stream(query, token=self.token, **more)

    def open_ws(self) -> ClientConnection:
        return open_ws(self.server, f"session={self.session}", token=self.token)

    def signal(self, other: Person, room: str, signal: Any = "sdp", **more: Any) -> Answer:
        body = {"type": "offer", "signal": signal, "roomId": room}
        target = {"targetClientId": other.me["clientId"]}
        return self.post("/api/webrtc/signal", **{**body, **target, **more})


def make_room(server: Server, token: str | None = ADMIN, **body: Any) -> str:
    answer = server.post(ROOMS, {"name": "Standup", **body}, token=token)
    assert answer.status == 201, answer
    return str(answer.json["roomId"])


def heard(stream: Stream, kind: str) -> dict[str, Any]:
    """The next event of that type; others are passed over."""
    while True:
        value = stream.values(1)[0]
        if value["type"] == kind:
            return dict(value)


def test_two_meet_signal_and_part(server: Server) -> None:
    room = make_room(server)
    assert len(room) == 12
    ada, bob = Person(server, "Ada").enter(room), Person(server, "Bob")
    with ada.stream() as at_ada:
        bob.enter(room)
        joined = heard(at_ada, "participant-joined")
        assert joined["participant"]["displayName"] == "Bob" and joined["roomId"] == room
        assert [p["displayName"] for p in bob.joined["participants"]] == ["Ada", "Bob"]
        assert bob.joined["room"]["participantCount"] == 2
        assert bob.joined["iceServers"] == [{"urls": ["stun:stun.l.google.com:19302"]}]
        with bob.stream() as at_bob:
            sdp = {"type": "offer", "sdp": "v=0\r\n"}
            assert bob.signal(ada, room, sdp).json == {"success": True}
            got = heard(at_ada, "webrtc-signal")
            assert got["signal"] == sdp and got["signalType"] == "offer"
            assert got["fromClientId"] == bob.me["clientId"]
            assert got["fromConnectionId"] == bob.me["connectionId"]
            assert got["toConnectionId"] == ada.me["connectionId"]
            assert bob.post(f"{ROOMS}/{room}/leave").json == {"success": True}
            left = heard(at_ada, "participant-left")
            assert left["reason"] == "left" and left["clientId"] == bob.me["clientId"]
            assert heard(at_bob, "room-left")["reason"] == "left"
    assert ada.signal(bob, room).code == "peer_gone"


# Rooms


def test_rooms_are_made_listed_changed_and_ended(server: Server) -> None:
    made = server.post(
        ROOMS, {"roomId": "daily", "name": "Daily", "hostId": 7, "password": "open sesame"}
    )
    assert made.status == 201
    room = made.json
    assert room["roomId"] == "daily" and room["hostId"] == 7 and room["isActive"] is True
    assert room["maxParticipants"] == 10 and room["hasPassword"] is True and not room["locked"]
    assert room["joinUrl"] == f"http://127.0.0.1:{server.port}/room/daily"
    assert room["participantCount"] == 0 and room["endedAt"] is None and room["createdAt"]
    assert b"scrypt" not in made.body and b"sesame" not in made.body
    assert server.post(ROOMS, {"roomId": "daily", "name": "x"}).code == "room_exists"
    assert [r["roomId"] for r in server.get(ROOMS).json] == ["daily"]
    url = f"{ROOMS}/daily"
    changes = {"name": "Weekly", "locked": True, "maxParticipants": 3, "password": None}
    changed = server.request("PATCH", url, changes).json
    assert changed["name"] == "Weekly" and changed["locked"] and changed["maxParticipants"] == 3
    assert changed["hasPassword"] is False and changed["hostId"] == 7
    code = server.get(f"{url}/qr.svg", token=None)
    assert code.headers["content-type"] == "image/svg+xml" and b"<svg" in code.body
    assert server.request("DELETE", url).json == {"success": True}
    assert server.get(url).code == "not_found" and server.get(ROOMS).json == []
    assert server.post(ROOMS, {"roomId": "daily", "name": "anew"}).status == 201


def test_the_list_of_rooms_is_paged(server: Server) -> None:
    names = [make_room(server) for _ in range(3)]
    first = server.get(f"{ROOMS}?limit=2")
    assert [room["roomId"] for room in first.json] == names[:2]
    assert first.headers["x-total-count"] == "3"
    rest = server.get(ROOMS + first.headers["link"].split(">")[0].removeprefix("<"))
    assert [room["roomId"] for room in rest.json] == names[2:] and "link" not in rest.headers


SEEN = [
    "Ada L\u00f3pez",
    "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",  # Persian, with a joiner that parts
    "\u0dc1\u0dca\u200d\u0dbb\u0dd3",  # Sinhala, with one that joins
    "\U0001f468\u200d\U0001f469\u200d\U0001f467",  # a family
    "\U0001f9d1\U0001f3fd\u200d\U0001f680 and \u2764\ufe0f",
    "\U0001f3f3\ufe0f\u200d\U0001f308",  # a rainbow
    "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",  # Scotland
    "1\ufe0f\u20e3 \U0001f1f9\U0001f1f7",
    "\u8fbb\U000e0100\u3055\u3093",  # a variant of a Chinese letter, as in names
    "\u05e9\u05dc\u05d5\u05dd \u0627\u0628\u0646",
    "e\u0301",
]
UNSEEN = [
    *("\u200b", "\u2060", "\ufeff", "\xad", "\u034f", "\u180e"),  # no width
    *("\u200e", "\u200f", "\u061c", "\u202a", "\u202e", "\u2066", "\u2069"),  # direction
    *("\u200c", "\u200d", "\ufe0f", "\U000e0100", "\u180b"),  # nothing to join or to vary
    *("\u115f", "\u1160", "\u3164", "\uffa0", "\u2800"),  # blank letters
    *("\U000e0041", "\U000e007f", "\U000e0001", "\U000e0fff"),  # tags
    *("\x85", "\u2028", "\u2029", "\ufff9", "\U0001d173", "\u17b4", "\u206a"),
]


@pytest.mark.parametrize("name", SEEN)
def test_names_are_taken_as_they_are(running: Server, name: str) -> None:
    ada, room = Person(running, name), make_room(running, name=name)
    assert ada.enter(room).me["displayName"] == name
    assert running.get(f"{ROOMS}/{room}").json["name"] == name
    assert running.request("DELETE", f"{ROOMS}/{room}").status == 200


def test_names_have_nothing_invisible(running: Server) -> None:
    """A room's is refused, a person's is taken without."""
    room = make_room(running)
    for sign in UNSEEN:
        for name in (sign, f"Ada{sign}", f"{sign}Ada", f"A{sign}da", f"Ada {sign} B"):
            made, code = running.post(ROOMS, {"name": name}), ascii(name)
            assert made.code == "invalid" and "visible" in made.json["errors"][0]["message"], code
            joined = Person(running, name).enter(room)
            assert joined.me["displayName"] == name.replace(f" {sign} ", " ").replace(
                sign, "" if name != sign else "Guest"
            ), code
            joined.post(f"{ROOMS}/{room}/leave")
        changed = running.request("PATCH", f"{ROOMS}/{room}", {"name": f"Ada{sign}"})
        assert changed.code == "invalid", ascii(sign)
    for blank in (" ", "\xa0", "\u3000 \u2003"):
        assert running.post(ROOMS, {"name": blank}).code == "invalid"
        assert Person(running, blank).enter(room).me["displayName"] == "Guest"
    ada = Person(running, " Ada \u3000 B ").enter(room)
    assert ada.me["displayName"] == "Ada B"
    ada.name = "\u200b"
    assert ada.enter(room).me["displayName"] == "Ada B"  # it is as if none had been given
    assert running.request("DELETE", f"{ROOMS}/{room}").status == 200


def test_the_name_of_a_json_web_token_is_cut_by_characters(
    make_server: Callable[..., Server],
) -> None:
    """No limit of the API is before it."""
    server = make_server(jwt_algorithm="HS256", jwt_key="k" * 32)
    family, room = SEEN[3], make_room(server)
    for sub, shown in (
        ("x" * 120, "x" * 100),
        ("x" * 97 + family, "x" * 97),
        ("x" * 99 + "e\u0301", "x" * 99),
        ("x" * 99 + "\U0001f1f9\U0001f1f7", "x" * 99),
        ("x" * 98 + "\U0001f1f9\U0001f1f7" * 2, "x" * 98 + "\U0001f1f9\U0001f1f7"),
        ("x" * 99 + "\U0001f44d\U0001f3fd", "x" * 99),
        ("\u202eeve", "eve"),
        ("\u200b", "Guest"),
    ):
        claims = {"sub": sub, "exp": time.time() + 600}
        token = jwt.encode(claims, "k" * 32, algorithm="HS256")
        body = {"session": secrets.token_urlsafe(16)}
        joined = server.post(f"{ROOMS}/{room}/join", body, token=token)
        assert joined.json["participant"]["displayName"] == shown


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": 1}, "name"),
        ({"name": "x", "roomId": "a b"}, "roomId"),
        ({"name": "x", "roomId": "../x"}, "roomId"),
        ({"name": "x", "roomId": "x" * 65}, "roomId"),
        ({"name": "x", "maxParticipants": 1}, "maxParticipants"),
        ({"name": "x", "maxParticipants": 101}, "maxParticipants"),
        ({"name": "x", "maxParticipants": 2.5}, "maxParticipants"),
        ({"name": "x", "hostId": [1]}, "hostId"),
        ({"name": "x", "password": ""}, "password"),
        ({"name": "x", "lobby": "yes"}, "lobby"),
        ({"name": "x", "session": "short"}, "session"),
        ({"name": "x", "description": "x" * 501}, "description"),
    ],
)
def test_a_bad_room_is_refused(running: Server, body: dict[str, Any], field: str) -> None:
    answer = running.post(ROOMS, body)
    assert answer.code == "invalid"
    assert [error["field"] for error in answer.json["errors"]] == [field]
    assert running.get(ROOMS).json == []


def test_bad_calls_in_a_room_are_refused(server: Server) -> None:
    room = make_room(server)
    ada = Person(server, "Ada")
    assert ada.post(f"{ROOMS}/{room}/join", displayName="").code == "invalid"
    assert server.post(f"{ROOMS}/{room}/join", {}, token=None).code == "invalid"
    assert server.post(f"{ROOMS}/{room}/join", [], token=None).code == "invalid"
    form = server.post(f"{ROOMS}/{room}/join", b"{}", headers={"Content-Type": "text/plain"})
    assert form.code == "not_json"
    ada.enter(room)
    me = ada.me["id"]
    for path, body in (
        ("state", {"audio": 1}),
        ("chat", {"text": ""}),
        ("chat", {"text": "x" * 2001}),
        ("chat", {}),
        (f"participants/{me}", {"action": "explode"}),
    ):
        assert ada.post(f"{ROOMS}/{room}/{path}", **body).code == "invalid", path
    assert ada.post(f"{ROOMS}/{room}/participants/x", action="mute").status == 404
    huge = f"{ROOMS}/{room}/participants/{'9' * 40}"
    assert server.post(huge, {"action": "mute"}).code == "not_found"
    signal = {"type": "offer", "signal": 1, "roomId": room}
    assert ada.post("/api/webrtc/signal", **signal).code == "invalid"
    assert ada.post("/api/webrtc/signal", **{**signal, "type": "shout"}).code == "invalid"
    big = {**signal, "targetClientId": "x", "signal": "x" * 70_000}
    assert ada.post("/api/webrtc/signal", **big).code == "too_large"


# Who gets in


def test_a_stranger_learns_only_what_the_page_needs(server: Server) -> None:
    room = make_room(server, password="secret word", hostId="ada", description="about us")
    shown = server.get(f"{ROOMS}/{room}", token=None).json
    assert shown == {
        "roomId": room,
        "name": "Standup",
        "isActive": True,
        "hasPassword": True,
        "locked": False,
        "lobby": False,
        "full": False,
        "joinUrl": f"http://127.0.0.1:{server.port}/room/{room}",
        "kioskJoin": False,
        "participantCount": 0,
    }
    assert server.get(ROOMS, token=None).code == "unauthorized"
    bob = Person(server, "Bob").enter(room, password="secret word")
    inside = bob.get(f"{ROOMS}/{room}").json
    assert inside["description"] == "about us" and len(inside["participants"]) == 1
    assert "waiting" not in inside
    assert server.get(f"{ROOMS}/{room}").json["waiting"] == []


def test_what_a_stranger_sees_of_who_is_inside(make_server: Callable[..., Server]) -> None:
    server = make_server()
    rooms = make_room(server), make_room(server, password="secret word")
    for name in "Ada", "Bob":
        for room in rooms:
            Person(server, name).enter(room, password="secret word")
    names = [{"displayName": "Ada"}, {"displayName": "Bob"}]
    for preview, *wanted in (
        ("count", {"participantCount": 2}, {"participantCount": 2}),
        ("names", {"participantCount": 2, "participants": names}, {"participantCount": 2}),
        ("nothing", {}, {}),
    ):
        server.post("/api/settings", {"key": "room_preview", "value": preview})
        for room, seen in zip(rooms, wanted, strict=True):
            shown = server.get(f"{ROOMS}/{room}", token=None).json
            about = {key: shown[key] for key in shown if key.startswith("participant")}
            assert about == seen, (preview, room)
    refused = server.post("/api/settings", {"key": "room_preview", "value": "all"})
    assert refused.status == 422 and "names, count, nothing" in refused.body.decode()


def test_guests_find_rooms_that_are_listed(server: Server) -> None:
    def found(**headers: str) -> list[dict[str, Any]]:
        answer = server.get(f"{ROOMS}/listed", token=None, headers=headers)
        assert answer.status == 200, answer
        return list(answer.json)

    assert found() == []
    hidden, first = make_room(server), make_room(server, listed=True)
    second = make_room(server, listed=True, password="secret word")
    Person(server, "Ada").enter(first)
    assert [room["roomId"] for room in found()] == [second, first]
    shown = found()[1]
    assert shown["participantCount"] == 1 and "participants" not in shown and "id" not in shown
    assert shown["name"] == "Standup" and shown["joinUrl"].endswith(f"/room/{first}")
    assert server.get(f"{ROOMS}/{first}").json["listed"] is True
    assert server.get(f"{ROOMS}/{hidden}").json["listed"] is False
    for changed, wanted in (
        ({"locked": True}, [second]),
        ({"locked": False, "listed": False}, [second]),
        ({"listed": True}, [second, first]),
    ):
        assert server.request("PATCH", f"{ROOMS}/{first}", changed).status == 200
        assert [room["roomId"] for room in found()] == wanted, changed
    server.request("DELETE", f"{ROOMS}/{second}")
    assert [room["roomId"] for room in found()] == [first]
    refused = server.post(ROOMS, {"name": "x", "roomId": "listed"})
    assert refused.code == "invalid" and "roomId" in refused.body.decode()
    assert server.post(ROOMS, {"name": "x", "listed": "yes"}).code == "invalid"
    server.post("/api/settings", {"key": "guests", "value": "false"})
    assert server.get(f"{ROOMS}/listed", token=None).code == "unauthorized"
    assert server.get(f"{ROOMS}/listed").status == 200


def test_many_listed_rooms_are_shown_in_part(server: Server) -> None:
    names = [make_room(server, listed=True) for _ in range(53)]
    listed = server.get(f"{ROOMS}/listed", token=None).json
    assert [room["roomId"] for room in listed] == names[:2:-1]


def test_passwords_locks_and_limits(server: Server) -> None:
    room = make_room(server, password="secret word", maxParticipants=2)
    ada, bob, eve = (Person(server, name) for name in ("Ada", "Bob", "Eve"))
    assert ada.join(room).code == "wrong_password"
    assert ada.join(room, password="wrong word").code == "wrong_password"
    ada.enter(room, password="secret word")
    assert ada.join(room).status == 200  # who is in comes back without it
    server.request("PATCH", f"{ROOMS}/{room}", {"locked": True, "password": None})
    assert bob.join(room).code == "room_locked"
    server.request("PATCH", f"{ROOMS}/{room}", {"locked": False})
    bob.enter(room)
    assert eve.join(room).code == "room_full"
    assert server.get(f"{ROOMS}/{room}", token=None).json["full"] is True
    bob.post(f"{ROOMS}/{room}/leave")
    eve.enter(room)


def test_a_rooms_password_is_kept_as_scrypt(server: Server) -> None:
    """As accounts' passwords are; the same word in two rooms is stored as two."""
    for _ in range(2):
        make_room(server, password="secret word")
    kept = [row[0] for row in rows_of(server.database_url, "SELECT password_hash FROM video_rooms")]
    assert len(kept) == 2
    assert all(rtapp.verify_password("secret word", each) for each in kept)
    assert kept[0] != kept[1] and "secret" not in "".join(kept)
    assert all(re.fullmatch(r"scrypt\$[0-9a-f]{32}\$[0-9a-f]{64}", each) for each in kept)


def test_those_who_come_at_once_do_not_overfill_a_room(server: Server) -> None:
    room = make_room(server, maxParticipants=3)
    people = [Person(server, f"P{n}") for n in range(12)]
    with ThreadPoolExecutor(12) as pool:
        statuses = list(pool.map(lambda person: person.join(room).status, people))
    assert sorted(statuses) == [200] * 3 + [409] * 9
    assert server.get(f"{ROOMS}/{room}").json["participantCount"] == 3


@pytest.mark.waits
def test_guessing_names_and_passwords_is_slowed_down(server: Server) -> None:
    room = make_room(server, password="secret word")
    eve = Person(server, "Eve")
    codes = [eve.join(room, password=f"guess {n}").code for n in range(12)]
    assert codes[:10] == ["wrong_password"] * 10 and codes[-1] == "too_many_attempts"
    right = eve.join(room, password="secret word")
    assert right.code == "too_many_attempts" and int(right.headers["retry-after"]) >= 1
    codes = [server.get(f"{ROOMS}/guess{n}", token=None).code for n in range(32)]
    assert codes[:30] == ["not_found"] * 30 and codes[-1] == "too_many_attempts"
    # Not even that a room exists is learned now, and a participant's calls tell as little.
    for name in (room, "nowhere"):
        assert server.get(f"{ROOMS}/{name}", token=None).code == "too_many_attempts"
        assert eve.post(f"{ROOMS}/{name}/state").code == "not_in_room"
    assert server.get(f"{ROOMS}/{room}").status == 200


def test_guests_can_be_kept_out(make_server: Callable[..., Server]) -> None:
    server = make_server(guests="false")
    room = make_room(server)
    ada = Person(server, "Ada")
    assert ada.join(room).code == "unauthorized"
    assert ada.get(f"{ROOMS}/{room}").code == "unauthorized"
    Person(server, "Bob", token=ADMIN).enter(room)


def test_open_access_lets_anybody_make_rooms(make_server: Callable[..., Server]) -> None:
    private = make_server()
    assert private.post(ROOMS, {"name": "x"}, token=None).code == "unauthorized"
    server = make_server(access="open")
    ada, bob = Person(server, "Ada"), Person(server, "Bob")
    room = ada.post(ROOMS, name="Ours").json["roomId"]
    assert ada.post(ROOMS, name="Ours", pinned=True).code == "forbidden"
    assert ada.enter(room).me["isHost"] is True and bob.enter(room).me["isHost"] is False
    with bob.stream() as stream:
        server.publish("for all", token=None)
        assert stream.values(1) == ["for all"]
    assert bob.post(f"{ROOMS}/{room}/leave").status == 200


# What a guest can't do


def test_a_guest_has_its_room_and_nothing_else(server: Server) -> None:
    room, other = make_room(server), make_room(server)
    ada, eve = Person(server, "Ada").enter(room), Person(server, "Eve").enter(other)
    for path in ("messages", "connections", "presence?channel=x", "stats", "logs", "settings"):
        assert eve.get(f"/api/{path}").status == 401, path
    assert [r["roomId"] for r in eve.get(ROOMS).json] == [other]
    assert eve.post("/api/broadcast", x=1).code == "unauthorized"
    assert eve.post(ROOMS, name="mine").code == "unauthorized"
    assert eve.post("/api/events/topics", add=["x"]).code == "unauthorized"
    channel = f"/api/events?session={eve.session}&channel=news"
    assert eve.get(channel).code == "forbidden"
    assert eve.get(f"{ROOMS}/{room}/chat").code == "not_in_room"
    assert (
        server.get("/api/auth/me", headers={"X-Session": eve.session}, token=None).json[
            "authenticated"
        ]
        is False
    )
    with eve.stream() as stream:
        server.publish("for all")
        server.publish("a channel", "channel=news")
        ada.post(f"{ROOMS}/{room}/chat", text="not for Eve")
        server.publish("for Ada", f"to={ada.me['clientId']}")
        eve.post(f"{ROOMS}/{other}/chat", text="mine")
        assert stream.values(1)[0]["text"] == "mine"
        assert eve.post(f"{ROOMS}/{other}/leave").status == 200
        assert stream.ended()  # its right has ended
        assert "mine" not in stream.events[-1]["data"]
    assert eve.get(f"/api/events?session={eve.session}").code == "unauthorized"
    assert eve.get("/api/ice").code == "unauthorized" and ada.get("/api/ice").status == 200


def test_signals_stay_in_the_room(server: Server) -> None:
    room, other = make_room(server), make_room(server)
    ada, bob = Person(server, "Ada").enter(room), Person(server, "Bob").enter(room)
    eve, mallory = Person(server, "Eve").enter(other), Person(server, "Mallory")
    assert eve.signal(ada, room).code == "not_in_room"
    assert mallory.signal(ada, room).code == "not_in_room"
    assert eve.signal(ada, other).code == "peer_gone"
    assert ada.signal(eve, room).code == "peer_gone"
    # Somebody else's name is not taken: neither as the sender's clientId nor in the signal.
    body = {"type": "offer", "signal": "x", "roomId": room, "clientId": bob.me["clientId"]}
    forged = server.post(
        "/api/webrtc/signal", {**body, "targetClientId": ada.me["clientId"]}, token=None
    )
    assert forged.code == "forbidden"
    with ada.stream() as stream:
        lie = {"fromClientId": bob.me["clientId"], "type": "webrtc-signal"}
        eve.join(room)
        assert eve.signal(ada, room, lie, clientId=bob.me["clientId"]).status == 200
        got = heard(stream, "webrtc-signal")
        assert got["fromClientId"] == eve.me["clientId"] and got["signal"] == lie
        assert server.post("/api/broadcast", got).code == "reserved_type"


def test_a_signal_finds_its_receiver_by_user_id(server: Server) -> None:
    room = make_room(server)
    ada = Person(server, "Ada").enter(room, userId=7)
    bob = Person(server, "Bob").enter(room, userId="bob")
    with ada.stream() as stream:
        body = {"type": "answer", "signal": None, "roomId": room, "targetUserId": 7}
        assert bob.post("/api/webrtc/signal", **body).status == 200
        got = heard(stream, "webrtc-signal")
        assert got["fromUserId"] == "bob" and got["signalType"] == "answer"


def stored_signals(server: Server) -> int:
    sql = "SELECT count(*) FROM messages WHERE event = 'webrtc-signal'"
    return int(rows_of(server.database_url, sql)[0][0])


@pytest.mark.waits
def test_a_signal_to_all_is_charged_for_each(server: Server) -> None:
    """By receivers, and by their bytes; who waits as long as is said is taken."""
    room = make_room(server)
    people = [Person(server, str(number)).enter(room) for number in range(8)]

    def send(size: int, times: int) -> list[str]:
        """What was answered to each signal."""
        with people[0].open_ws() as ws:
            for ref in range(times):
                say(ws, type="webrtc-signal", roomId=room, signal="x" * size, ref=ref)
            frames = []
            while len(frames) < times:
                frame = hear(ws)
                if frame["type"] in ("ack", "error"):
                    assert frame.get("code", "rate_limited") == "rate_limited"
                    frames.append(frame.get("message", "ack"))
        return frames

    began = time.monotonic()
    answers = send(60_000, 40)  # 420 KB each: there are 2 MB, and 200 KB a second
    taken = answers.count("ack")
    assert answers[:4] == ["ack"] * 4
    assert taken * 420_000 <= 2_000_000 + 200_000 * (time.monotonic() - began)
    assert stored_signals(server) == taken * 7
    time.sleep(int(re.findall("Wait (\\d+) seconds", " ".join(answers))[-1]))
    assert send(60_000, 1) == ["ack"]
    few = send(1, 100).count("ack")  # seven each: there are 300, and 30 a second
    assert taken + 1 + few >= 300 // 7
    assert (taken + 1 + few) * 7 <= 300 + 30 * (time.monotonic() - began)


@pytest.mark.waits
def test_signals_to_one_are_bounded_by_their_bytes(server: Server) -> None:
    room = make_room(server)
    ada, bob = Person(server, "Ada").enter(room), Person(server, "Bob").enter(room)
    answers = [ada.signal(bob, room, "x" * 60_000) for _ in range(60)]
    refused = [answer for answer in answers if answer.status == 429]
    assert refused and 33 <= len(answers) - len(refused) <= 55
    assert {answer.code for answer in refused} == {"rate_limited"}
    assert bob.signal(ada, room, "x" * 60_000).status == 200
    time.sleep(int(refused[-1].headers["retry-after"]))
    assert ada.signal(bob, room, "x" * 60_000).status == 200


def test_a_call_of_ten_starts_at_once(server: Server) -> None:
    """Who comes last brings everybody a large description and all candidates, in one go."""
    room = make_room(server)
    people = [Person(server, str(number)).enter(room) for number in range(10)]
    with people[9].open_ws() as ws:
        for other in people[:9]:
            target = {"roomId": room, "targetClientId": other.me["clientId"], "ref": 1}
            say(ws, type="webrtc-signal", signal={"type": "offer", "sdp": "x" * 30_000}, **target)
            for _ in range(30):
                say(ws, type="webrtc-signal", signal={"candidate": "x" * 200}, **target)
        assert [hear(ws)["type"] for _ in range(280)][1:] == ["ack"] * 279


@pytest.mark.waits
def test_signals_have_a_bucket_of_their_own(make_server: Callable[..., Server]) -> None:
    server = make_server(rate_limit=50)
    room = make_room(server)
    ada, bob = Person(server, "Ada").enter(room), Person(server, "Bob").enter(room)
    assert [ada.signal(bob, room).status for _ in range(100)] == [200] * 100
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda _: ada.signal(bob, room).status, range(900)))
    assert 429 in statuses and bob.signal(ada, room).status == 200
    eve = Person(server, "Eve")
    codes = {eve.signal(bob, room).code for _ in range(60)}
    assert codes == {"not_in_room", "rate_limited"}  # who isn't in a room is counted by address


# The same person again


def test_the_newer_page_takes_over(server: Server) -> None:
    room = make_room(server)
    ada, bob = Person(server, "Ada").enter(room), Person(server, "Bob").enter(room)
    old = bob.me
    with ada.stream() as at_ada, bob.stream() as at_old_page:
        bob.enter(room)
        assert bob.me["id"] == old["id"] and bob.me["connectionId"] != old["connectionId"]
        told = heard(at_old_page, "room-left")
        assert told["reason"] == "opened elsewhere"
        assert told["connectionId"] == old["connectionId"]
        assert heard(at_ada, "participant-joined")["participant"] == old
        again = heard(at_ada, "participant-joined")["participant"]
        assert again["id"] == old["id"] and again["connectionId"] == bob.me["connectionId"]
        stale = {"connectionId": old["connectionId"]}
        assert bob.signal(ada, room, **stale).code == "not_in_room"
        assert bob.post(f"{ROOMS}/{room}/state", audio=True, **stale).code == "not_in_room"
        assert bob.post(f"{ROOMS}/{room}/leave", **stale).code == "not_in_room"
        gone = {"targetConnectionId": old["connectionId"]}
        assert ada.signal(bob, room, **gone).code == "peer_gone"
        fresh = {"targetConnectionId": bob.me["connectionId"]}
        assert ada.signal(bob, room, **fresh).status == 200
    assert server.get(f"{ROOMS}/{room}").json["participantCount"] == 2


def test_a_credential_joins_for_the_client_of_its_stream(server: Server) -> None:
    room = make_room(server)
    for name in ("one", "two"):
        server.post("/api/users", {"username": name, "password": "correct horse", "role": "user"})
    tokens = [server.post("/api/tokens", {"name": n}).json["token"] for n in ("a", "b")]
    with server.stream(token=tokens[0]) as stream:
        body = {"clientId": stream.hello["clientId"], "displayName": "Bridge"}
        assert server.post(f"{ROOMS}/{room}/join", body, token=None).code == "forbidden"
        assert server.post(f"{ROOMS}/{room}/join", body, token=tokens[1]).code == "forbidden"
        joined = server.post(f"{ROOMS}/{room}/join", body, token=tokens[0])
        assert joined.status == 200
        Person(server, "Ada").enter(room)
        assert heard(stream, "participant-joined")["participant"]["displayName"] == "Ada"
        left = server.post(f"{ROOMS}/{room}/leave", {}, token=tokens[0])
        assert left.json == {"success": True}


def test_a_call_over_web_sockets(make_server: Callable[..., Server]) -> None:
    server = make_server(access="open")
    room = make_room(server, maxParticipants=2)
    ada, bob = Person(server, "Ada"), Person(server, "Bob")
    with ada.open_ws() as a, bob.open_ws() as b:
        say(a, type="join-room", roomId=room, displayName="Ada", ref=1)
        joined = hear(a, "room-joined")
        assert joined["ref"] == 1 and joined["participantCount"] == 1 and not joined["isHost"]
        assert joined["iceServers"] and joined["participants"][0]["displayName"] == "Ada"
        say(b, type="join-room", roomId=room)
        assert hear(b, "room-joined")["participantCount"] == 2
        come = hear(a, "participant-joined")
        assert come["participant"]["displayName"] == "Guest" and "-" in come["id"]
        to_bob = {"targetClientId": come["participant"]["clientId"]}
        say(a, type="webrtc-signal", signal={"type": "offer", "sdp": "v=0"}, **to_bob)
        got = hear(b, "webrtc-signal")
        assert got["signalType"] == "offer" and got["signal"] == {"type": "offer", "sdp": "v=0"}
        say(b, type="join-room", roomId="nowhere")  # and is still where it was
        assert hear(b, "error")["code"] == "not_found"
        say(b, type="webrtc-signal", signal={"candidate": "x"}, ref="s")
        assert hear(a, "webrtc-signal")["signalType"] == "ice-candidate"
        assert hear(b, "ack") == {"type": "ack", "ref": "s"}
        assert ada.post(f"{ROOMS}/{room}/reactions", emoji="😮").status == 200
        assert hear(b, "room-reaction")["emoji"] == "😮"
        say(b, type="webrtc-signal", signal="x" * 70_000)
        assert hear(b, "error")["code"] == "too_large"
        say(b, type="leave-room")
        assert hear(b, "room-left")["reason"] == "left"
        assert hear(a, "participant-left")["reason"] == "left"
        say(a, type="webrtc-signal", signal=1, **to_bob)
        assert hear(a, "error")["code"] == "peer_gone"
        say(b, type="webrtc-signal", signal=1, roomId=room, **to_bob)
        assert hear(b, "error")["code"] == "not_in_room"
        say(b, type="join-room")
        assert hear(b, "error")["code"] == "not_found"


def test_a_guest_opens_a_web_socket(server: Server) -> None:
    room = make_room(server)
    ada = Person(server, "Ada")
    with pytest.raises(InvalidStatus):
        ada.open_ws()
    ada.enter(room)
    with ada.open_ws() as ws:
        for frame in ({"type": "subscribe", "channels": ["x"]}, {"type": "publish", "data": 1}):
            say(ws, **frame)
            assert hear(ws, "error")["code"] in ("forbidden", "unauthorized")
        Person(server, "Bob").enter(room)
        assert hear(ws, "participant-joined")["participant"]["displayName"] == "Bob"


# Changes


def test_a_change_of_nothing_changes_nothing(server: Server) -> None:
    room = make_room(server)
    before = server.get(f"{ROOMS}/{room}").json
    for body in ({}, {"session": "s" * 22}, {"roomId": "other"}):  # the last is not to be changed
        answer = server.request("PATCH", f"{ROOMS}/{room}", body)
        assert answer.status == 200 and before.items() >= answer.json.items(), answer


# ICE


def test_turn_credentials_are_those_that_coturn_checks(
    make_server: Callable[..., Server],
) -> None:
    secret = "a secret shared with coturn"
    urls = "turn:turn.example.org,turns:turn.example.org:5349"
    server = make_server(turn_url=urls, turn_secret=secret, ice_servers="stun:s.example.org")
    ada = Person(server, "Ada").enter(make_room(server))
    for shown in (ada.joined, ada.get("/api/ice").json):
        assert shown["iceTtl"] == 43_200
        stun, turn = shown["iceServers"]
        assert stun == {"urls": ["stun:s.example.org"]}
        assert turn["urls"] == urls.split(",")
        ends, _, client = turn["username"].partition(":")
        assert client == ada.me["clientId"] and 0 < int(ends) - time.time() <= 43_200
        digest = hmac.digest(secret.encode(), turn["username"].encode(), "sha1")
        assert base64.b64decode(turn["credential"]) == digest
    assert server.get("/api/ice", token=None).code == "unauthorized"
    listed = {row["key"]: row["value"] for row in server.get("/api/settings").json}
    assert listed["turn_secret"] == "********"
    without = make_server(turn_url=urls, ice_servers="none")
    assert without.get("/api/ice").json == {"iceServers": []}


def test_fixed_turn_credentials_are_for_who_is_in_a_room(
    make_server: Callable[..., Server],
) -> None:
    urls, password = "turn:turn.example.org", "a password of a provider"
    fixed = {"turn_url": urls, "turn_username": "ada", "turn_password": password}
    server = make_server(**fixed, ice_servers="none")
    ada = Person(server, "Ada").enter(make_room(server))
    turn = {"urls": [urls], "username": "ada", "credential": password}
    for shown in (ada.joined, ada.get("/api/ice").json):
        assert shown["iceServers"] == [turn] and "iceTtl" not in shown
    assert server.get("/api/ice").json == {"iceServers": []}  # an administrator who isn't in one
    assert server.get("/api/ice", token=None).code == "unauthorized"
    lobby = make_room(server, lobby=True)
    bob = Person(server, "Bob")
    assert "iceServers" not in bob.join(lobby).json  # waits
    assert bob.get("/api/ice").code == "not_in_room"
    listed = {row["key"]: row["value"] for row in server.get("/api/settings").json}
    assert listed["turn_password"] == "********"
    both = make_server(**fixed, turn_secret="a secret shared with coturn")
    assert both.get("/api/ice").json["iceTtl"] == 43_200


def test_a_turn_server_that_cant_be_used_is_named(make_server: Callable[..., Server]) -> None:
    advice = "turn_url is not used. Set turn_secret, or turn_username and turn_password."
    for half in ({}, {"turn_username": "ada"}):
        server = make_server(turn_url="turn:turn.example.org", **half)
        logs = server.get("/api/logs?level=WARN").json
        assert f"turn: {advice}" in [row["message"] for row in logs]


HIDDEN = "candidate:1 1 udp 2113937151 4f1c2d3e-aaaa-4bbb-8ccc-123456789abc.local 50123 typ host"


def test_hidden_candidates_get_a_sibling() -> None:
    shown = "candidate:1 1 udp 2113937150 192.168.1.7 50123 typ host"
    init = {"candidate": HIDDEN, "sdpMid": "0", "sdpMLineIndex": 0}
    assert rtapp.with_siblings(init, "192.168.1.7") == [init, {**init, "candidate": shown}]
    relayed = {"candidate": HIDDEN.replace("typ host", "typ relay")}
    several = rtapp.with_siblings([init, relayed, [init], None], "192.168.1.7")
    assert several == [[init, {**init, "candidate": shown}, relayed, [init], None]]
    sdp = f"v=0\r\na={HIDDEN} generation 0\r\na=end-of-candidates\r\n"
    more = f"v=0\r\na={HIDDEN} generation 0\r\na={shown} generation 0\r\na=end-of-candidates\r\n"
    found = rtapp.with_siblings({"type": "offer", "sdp": sdp}, "192.168.1.7")
    assert found == [{"type": "offer", "sdp": more}]
    for other in (
        {"candidate": shown},
        {"candidate": HIDDEN.replace("typ host", "typ relay")},
        {"candidate": HIDDEN.replace("udp", "tcp")},
        {"candidate": ""},
        {"sdp": 1},
        "text",
        None,
    ):
        assert rtapp.with_siblings(other, "192.168.1.7") == [other]


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("192.168.1.7", True),
        ("10.0.0.1", True),
        ("100.64.0.1", True),
        ("fd00::1", True),
        ("127.0.0.1", False),
        ("8.8.8.8", False),
        ("fe80::1", False),
        ("::", False),
        ("evil.example", False),
        ("", False),
    ],
)
def test_only_addresses_of_a_local_network_are_told(address: str, expected: bool) -> None:
    assert rtapp.is_local_network(address) is expected


def test_siblings_carry_the_address_that_the_server_sees(
    make_server: Callable[..., Server],
) -> None:
    server = make_server(candidate_siblings="true", trusted_proxies="127.0.0.1")
    room = make_room(server)
    ada, bob = Person(server, "Ada").enter(room), Person(server, "Bob").enter(room)
    body = {"type": "ice-candidate", "signal": {"candidate": HIDDEN}, "roomId": room}
    body |= {"session": ada.session, "targetClientId": bob.me["clientId"]}
    with bob.stream() as stream:
        for forwarded, seen in (("192.168.7.9", "192.168.7.9"), ("8.8.8.8", None)):
            headers = {"X-Forwarded-For": forwarded}
            sent = server.post("/api/webrtc/signal", body, headers=headers, token=None)
            assert sent.status == 200
            assert heard(stream, "webrtc-signal")["signal"]["candidate"] == HIDDEN
            if seen:
                assert seen in heard(stream, "webrtc-signal")["signal"]["candidate"]
        ada.signal(bob, room, "last")
        assert heard(stream, "webrtc-signal")["signal"] == "last"


def test_who_fetches_by_polling_has_no_address_of_its_own(
    make_server: Callable[..., Server],
) -> None:
    """The sender is on this machine, so its address is looked for at the receiver's connections."""
    server = make_server(candidate_siblings="true")
    room = make_room(server)
    ada, bob = Person(server, "Ada").enter(room), Person(server, "Bob").enter(room)
    assert server.get(f"{POLLING}&session={bob.session}", token=None).status == 200
    with bob.stream() as stream:
        signal = {"candidate": HIDDEN}
        assert ada.signal(bob, room, signal, type="ice-candidate").status == 200
        assert heard(stream, "webrtc-signal")["signal"] == signal
        assert ada.signal(bob, room, "last").status == 200
        assert heard(stream, "webrtc-signal")["signal"] == "last"


# The host


@pytest.fixture
def hosted(make_server: Callable[..., Server]) -> tuple[str, Person, Person, Person]:
    """A room with its host Ada, and with Bob and Cem."""
    server = make_server()
    ada, bob, cem = (Person(server, name) for name in ("Ada", "Bob", "Cem"))
    room = make_room(server, session=ada.session)
    for person in (ada, bob, cem):
        person.enter(room)
    return room, ada, bob, cem


def act(host: Person, room: str, other: Person, action: str) -> Answer:
    return host.post(f"{ROOMS}/{room}/participants/{other.me['id']}", action=action)


def test_what_a_host_may_do_nobody_else_may(
    hosted: tuple[str, Person, Person, Person],
) -> None:
    room, ada, bob, cem = hosted
    assert ada.me["isHost"] and not bob.me["isHost"]
    for action in ("mute", "camera-off", "remove", "make-host"):
        assert act(bob, room, cem, action).code == "not_host"
    headers = {"X-Session": bob.session}
    url = f"{ROOMS}/{room}"
    for method, body in (("PATCH", {"locked": True}), ("DELETE", None)):
        answer = bob.server.request(method, url, body, headers, token=None)
        assert answer.code == "not_host"
    with bob.stream() as stream:
        assert act(ada, room, cem, "mute").status == 200
        state = heard(stream, "participant-state")["participant"]
        assert state["id"] == cem.me["id"] and state["muted"] is True
        cem.post(f"{url}/state", audio=True, muted=False)
        state = heard(stream, "participant-state")["participant"]
        assert state["muted"] is True and state["audio"] is True  # only the host lifts it
        act(ada, room, cem, "unmute")
        assert heard(stream, "participant-state")["participant"]["muted"] is False
        act(ada, room, bob, "camera-off")
        assert heard(stream, "participant-state")["participant"]["cameraOff"] is True
        ada.server.request("PATCH", url, {"name": "New"}, {"X-Session": ada.session}, token=None)
        assert heard(stream, "room-updated")["room"]["name"] == "New"
        ada.server.request("DELETE", url, None, {"X-Session": ada.session}, token=None)
        assert heard(stream, "room-ended")["reason"] == "ended by the host"
        assert stream.ended()
    assert bob.post(f"{url}/state").code == "not_in_room"


def test_each_act_of_a_host_is_told(hosted: tuple[str, Person, Person, Person]) -> None:
    """Also one that changes nothing: whoever acts waits for its echo."""
    room, ada, bob, cem = hosted
    with cem.stream() as stream:
        for action, name, value in (
            ("mute", "muted", True),
            ("camera-on", "cameraOff", False),
            ("make-host", "isHost", True),
        ):
            for _ in range(2):
                url = f"{ROOMS}/{room}/participants/{bob.me['id']}"
                assert ada.server.post(url, {"action": action}).status == 200  # an administrator
                told = heard(stream, "participant-state")["participant"]
                if told["id"] == ada.me["id"]:
                    told = heard(stream, "participant-state")["participant"]  # no host any more
                assert told["id"] == bob.me["id"] and told[name] is value


def test_what_a_host_forbade_lasts_as_long_as_the_call(
    hosted: tuple[str, Person, Person, Person],
) -> None:
    room, ada, bob, cem = hosted

    def after(*leaving: Person, **how: Any) -> tuple[bool, bool]:
        for person in leaving:
            assert person.post(f"{ROOMS}/{room}/leave", **how).status == 200
        bob.enter(room)
        return bob.me["muted"], bob.me["cameraOff"]

    act(ada, room, bob, "mute")
    assert after() == after(bob, soon=True) == after(bob) == after(bob) == (True, False)
    act(ada, room, bob, "camera-off")
    assert after(bob) == (True, True)
    act(ada, room, bob, "unmute")
    assert after(bob) == (False, True)
    assert after(bob, ada, cem) == (False, False)  # another call


def test_who_is_removed_stays_outside(hosted: tuple[str, Person, Person, Person]) -> None:
    room, ada, bob, cem = hosted
    headers = {"X-Session": bob.session}
    made = bob.server.post("/api/auth/ticket", {}, headers=headers, token=None)
    query = f"/api/events?session={bob.session}&ticket={made.json['ticket']}"
    with bob.stream() as at_bob, cem.stream() as at_cem:
        assert act(ada, room, bob, "remove").status == 200
        left = heard(at_cem, "participant-left")
        assert left["reason"] == "removed" and left["clientId"] == bob.me["clientId"]
        assert heard(at_bob, "room-left")["reason"] == "removed"
        assert at_bob.ended() and at_bob.events[-1]["event"] == "disconnect"
    assert bob.join(room).code == "removed"
    assert bob.signal(cem, room).code == "not_in_room"
    assert bob.get(f"/api/events?session={bob.session}").code == "unauthorized"
    assert bob.server.request("HEAD", query, token=None).status == 401  # nor by a ticket of before
    assert act(ada, room, bob, "mute").code == "not_found"
    bob.server.request("DELETE", f"{ROOMS}/{room}")
    make_room(bob.server, roomId=room)
    bob.enter(room)  # another room of that name


def test_a_removed_account_is_barred_with_any_session(server: Server) -> None:
    body = {"username": "bob", "password": "correct horse", "role": "user"}
    assert server.post("/api/users", body).status == 201
    login = {"username": "bob", "password": "correct horse"}
    cookie = cookie_of(server.post("/api/auth/login", login, token=None))
    ada = Person(server, "Ada")
    room = make_room(server, session=ada.session)
    ada.enter(room)

    def join() -> Answer:
        body = {"session": secrets.token_urlsafe(16)}
        return server.post(f"{ROOMS}/{room}/join", body, headers=cookie, token=None)

    joined = join()
    assert joined.json["participant"]["displayName"] == "bob"
    number = joined.json["participant"]["id"]
    ada.post(f"{ROOMS}/{room}/participants/{number}", action="remove")
    assert join().code == "removed"


def test_a_removed_programs_token_bars_nobody_else(server: Server) -> None:
    """It may stand for many: only the session that was removed stays outside."""
    secret = server.post("/api/tokens", {"name": "bot"}).json["token"]
    ada, one, other = Person(server, "Ada"), *(Person(server, "", token=secret) for _ in range(2))
    room = make_room(server, session=ada.session)
    ada.enter(room)
    joined = one.post(f"{ROOMS}/{room}/join").json["participant"]
    assert joined["displayName"] == "token:bot"
    ada.post(f"{ROOMS}/{room}/participants/{joined['id']}", action="remove")
    assert one.post(f"{ROOMS}/{room}/join").code == "removed"
    assert other.post(f"{ROOMS}/{room}/join").status == 200


def test_the_host_is_handed_over(hosted: tuple[str, Person, Person, Person]) -> None:
    room, ada, bob, cem = hosted
    with cem.stream() as stream:
        ada.post(f"{ROOMS}/{room}/leave")
        state = heard(stream, "participant-state")["participant"]
        assert state["id"] == bob.me["id"] and state["isHost"] is True
    assert act(bob, room, cem, "make-host").status == 200
    assert act(bob, room, cem, "mute").code == "not_host"
    assert act(cem, room, bob, "mute").status == 200
    ada.enter(room)
    assert ada.me["isHost"] is False  # what was handed over stays so
    cem.post(f"{ROOMS}/{room}/leave")
    cem.enter(room)
    assert cem.me["isHost"] is True


def test_the_account_that_host_id_names_is_host(make_server: Callable[..., Server]) -> None:
    key = "a shared secret of at least 32 bytes!"
    server = make_server(jwt_algorithm="HS256", jwt_key=key)
    claims = {"sub": "42", "exp": time.time() + 600}
    token = jwt.encode(claims, key, "HS256")
    room = make_room(server, hostId=42)
    guest = Person(server, "Guest")
    guest.enter(room, userId=42)
    assert guest.me["isHost"] is False  # a label gives no right
    assert Person(server, "Host", token=token).enter(room).me["isHost"] is True


def test_nobody_is_host_by_the_name_of_nothing(make_server: Callable[..., Server]) -> None:
    """A room without `hostId` names nobody, whatever somebody is called."""
    key = "a shared secret of at least 32 bytes!"
    server = make_server(jwt_algorithm="HS256", jwt_key=key)
    rooms = [make_room(server, password="open sesame"), make_room(server, hostId=None)]
    people = []
    for name in ("None", "null", "NULL", "undefined", "False", "0"):
        claims = {"sub": name, "exp": time.time() + 600}
        people.append(Person(server, name, token=jwt.encode(claims, key, "HS256")))
    for name in ("None", "null"):
        user = {"username": name, "password": key}
        assert server.post("/api/users", user).status == 201
        answer = server.post("/api/auth/login", user, token=None)
        cookie = {"token": None, "headers": cookie_of(answer)}
        for room in rooms:
            changed = server.request("PATCH", f"{ROOMS}/{room}", {"name": "x"}, **cookie)
            assert changed.code == "not_host"
    for person in people:
        assert person.join(rooms[0]).code == "wrong_password"
        assert person.enter(rooms[1]).me["isHost"] is False
        for room in rooms:
            for method, body in (("PATCH", {"name": "x"}), ("DELETE", None)):
                answer = server.request(method, f"{ROOMS}/{room}", body, token=person.token)
                assert answer.code == "not_host"


# The lobby


def test_a_host_lets_in_from_the_lobby(make_server: Callable[..., Server]) -> None:
    server = make_server()
    ada, bob, eve = (Person(server, name) for name in ("Ada", "Bob", "Eve"))
    room = make_room(server, session=ada.session, lobby=True)
    ada.enter(room)
    with ada.stream() as at_ada:
        waits = bob.join(room)
        assert waits.status == 202 and waits.json["code"] == "waiting"
        assert waits.json["participants"] == [] and "iceServers" not in waits.json
        asked = heard(at_ada, "participant-waiting")["participant"]
        assert asked["displayName"] == "Bob" and asked["status"] == "waiting"
        with bob.stream() as at_bob:
            for path, body in (("chat", {"text": "x"}), ("leave", {"connectionId": "x"})):
                assert bob.post(f"{ROOMS}/{room}/{path}", **body).code == "not_in_room"
            assert bob.signal(ada, room).code == "not_in_room"
            assert ada.signal(bob, room).code == "peer_gone"
            assert bob.get(f"{ROOMS}/{room}/chat").code == "not_in_room"
            assert "participants" not in bob.get(f"{ROOMS}/{room}").json
            ada.post(f"{ROOMS}/{room}/chat", text="not for the lobby")
            assert bob.join(room).status == 202  # no way around by asking again
            assert heard(at_bob, "room-left")["reason"] == "opened elsewhere"
            assert act(ada, room, bob, "mute").code == "not_found"
            assert act(bob, room, bob, "admit").code == "not_host"
            assert act(ada, room, bob, "admit").status == 200
            assert heard(at_bob, "room-admitted")["participantId"] == bob.me["id"]
            assert heard(at_ada, "participant-joined")["participant"]["id"] == bob.me["id"]
            ada.post(f"{ROOMS}/{room}/chat", text="welcome")
            assert heard(at_bob, "room-chat")["text"] == "welcome"
            bob.enter(room)
        assert eve.join(room).status == 202
        with eve.stream() as at_eve:
            assert act(ada, room, eve, "deny").status == 200
            assert heard(at_eve, "room-left")["reason"] == "denied" and at_eve.ended()
        left = heard(at_ada, "participant-left")
        assert left["participantId"] == eve.me["id"] and left["reason"] == "denied"
        assert eve.get(f"/api/events?session={eve.session}").code == "unauthorized"
        assert eve.join(room).status == 202


def test_nobody_waits_once_the_lobby_is_off(server: Server) -> None:
    room = make_room(server, lobby=True, maxParticipants=3)
    people = [Person(server, f"P{n}") for n in range(4)]
    assert [person.join(room).status for person in people] == [202] * 4

    def waiting(**changed: Any) -> list[str]:
        assert server.request("PATCH", f"{ROOMS}/{room}", changed).status == 200
        shown = server.get(f"{ROOMS}/{room}").json
        assert shown["participantCount"] == len(shown["participants"]) == 4 - len(shown["waiting"])
        return [person["displayName"] for person in shown["waiting"]]

    assert waiting(locked=True) == ["P0", "P1", "P2", "P3"]
    with people[0].stream() as stream:
        assert waiting(lobby=False) == ["P0", "P1", "P2", "P3"]  # locked for them
        assert waiting(locked=False) == ["P3"]  # there is no place more
        assert heard(stream, "room-admitted")["participantId"] == people[0].me["id"]
        assert heard(stream, "room-updated")["room"]["participantCount"] == 3
    assert waiting(maxParticipants=4) == []


def test_a_lobby_is_bounded_in_people_and_time(make_server: Callable[..., Server]) -> None:
    server = make_server()
    room = make_room(server, lobby=True)
    people = [Person(server, f"P{n}") for n in range(21)]
    assert [person.join(room).status for person in people] == [202] * 20 + [409]
    with people[0].stream() as stream:
        body = {"key": "room_waiting_seconds", "value": 0.5}
        assert server.post("/api/settings", body).status == 200
        left = heard(stream, "room-left")
        assert left["reason"] == "not admitted" and stream.ended()
    wait_for(lambda: server.get(f"{ROOMS}/{room}").json["waiting"] == [], "an empty lobby")


# Chat


def test_chat_is_heard_kept_and_plain(server: Server) -> None:
    room = make_room(server)
    ada, bob = Person(server, "Ada").enter(room), Person(server, "Bob").enter(room)
    text = "<b>çğış</b>\n\u2028 " + "x" * 1900
    with ada.stream() as stream:
        number = bob.post(f"{ROOMS}/{room}/chat", text=text).json["id"]
        said = heard(stream, "room-chat")
        assert said["text"] == text and said["displayName"] == "Bob"
        assert said["messageId"] == number
        assert stream.last_id.split("-")[1] == str(number)
    for n in range(3):
        ada.post(f"{ROOMS}/{room}/chat", text=str(n))
    found = bob.get(f"{ROOMS}/{room}/chat").json
    assert [line["text"] for line in found] == [text, "0", "1", "2"]
    assert found[0]["id"] == found[0]["messageId"] == number
    page = bob.get(f"{ROOMS}/{room}/chat?limit=1&before={found[-1]['id']}").json
    assert [line["text"] for line in page] == ["1"]
    assert server.get("/api/messages").json == []


def test_an_answer_in_the_chat_names_what_it_answers(server: Server) -> None:
    room, other = make_room(server), make_room(server)
    ada, bob = Person(server, "Ada").enter(room), Person(server, "Bob").enter(room)
    first = ada.post(f"{ROOMS}/{room}/chat", text="Shall we?").json["id"]
    elsewhere = (
        Person(server, "Cem").enter(other).post(f"{ROOMS}/{other}/chat", text="x").json["id"]
    )
    with ada.stream() as stream:
        assert heard(stream, "room-chat")["replyTo"] is None
        assert bob.post(f"{ROOMS}/{room}/chat", text="Yes", replyTo=first).status == 200
        assert heard(stream, "room-chat")["replyTo"] == first
    joined = int(ada.joined["lastEventId"].split("-")[1])  # a message, but nothing that was said
    for wrong in (elsewhere, joined, 0, 2**62, -1, "first"):
        answer = bob.post(f"{ROOMS}/{room}/chat", text="Yes", replyTo=wrong)
        assert answer.status == 422 and answer.json["errors"][0]["field"] == "replyTo", wrong
    assert [line["replyTo"] for line in bob.get(f"{ROOMS}/{room}/chat").json] == [None, first]


def test_a_reaction_is_seen_by_the_others_and_kept_nowhere(server: Server) -> None:
    room = make_room(server)
    ada, bob, eve = (Person(server, name) for name in ("Ada", "Bob", "Eve"))
    ada.enter(room)
    bob.enter(room)
    path = f"{ROOMS}/{room}/reactions"
    with ada.stream() as at_ada, bob.stream() as at_bob:
        assert bob.post(path, emoji="🎉").status == 200
        told = {"type": "room-reaction", "roomId": room}
        assert heard(at_ada, "room-reaction") == {
            **told,
            "clientId": bob.me["clientId"],
            "emoji": "🎉",
        }
        for wrong in ("🐈", "", None, ["👍"]):
            answer = bob.post(path, emoji=wrong)
            assert answer.status == 422 and answer.json["errors"][0]["field"] == "emoji", wrong
        assert eve.post(path, emoji="👍").code == "not_in_room"
        for _ in range(4):
            assert bob.post(path, emoji="❤️").status == 200
        refused = bob.post(path, emoji="👍")
        assert refused.status == 429 and 1 <= int(refused.headers["retry-after"]) <= 3
        assert ada.post(path, emoji="😂").status == 200  # each has their own
        assert heard(at_bob, "room-reaction")["emoji"] == "😂"  # and hears none of their own
    assert server.get("/api/messages").json == []
    sql = "SELECT count(*) FROM messages WHERE event = 'room-reaction'"
    rows = rows_of(server.database_url, sql)
    assert rows == [(0,)]
    late = Person(server, "Cem").enter(room)
    assert late.get(f"{ROOMS}/{room}/chat").json == []


def test_hands_keep_the_order_in_which_they_went_up(server: Server) -> None:
    """Also for who joins later; a hand that goes up again is the last."""
    room = make_room(server)
    ada, bob = Person(server, "Ada").enter(room), Person(server, "Bob").enter(room)

    def tell(person: Person, **state: bool) -> str | None:
        answer = person.post(f"{ROOMS}/{room}/state", **state)
        return answer.json["participant"]["handAt"]  # type: ignore[no-any-return]

    assert ada.me["handAt"] is None
    with ada.stream() as stream:
        first = tell(bob, hand=True)
        assert heard(stream, "participant-state")["participant"]["handAt"] == first
    wait_for(lambda: rtapp.iso(rtapp.now_ms()) > str(first), "another millisecond")
    second = tell(ada, hand=True)
    assert first and second and first < second
    assert tell(bob, hand=True, audio=True) == first
    late = Person(server, "Late").enter(room)
    assert {one["handAt"] for one in late.joined["participants"]} == {first, second, None}
    assert tell(bob, hand=False) is None
    assert str(tell(bob, hand=True)) >= second


# Grace


QUICK = {"room_silent_seconds": 1, "room_gone_seconds": 2.5}


def status_of(person: Person, room: str) -> str | None:
    """How the room sees somebody; None when gone."""
    rows = person.server.get(f"{ROOMS}/{room}").json["participants"]
    return next((row["status"] for row in rows if row["id"] == person.me["id"]), None)


@pytest.mark.waits
def test_a_lost_connection_has_grace(make_server: Callable[..., Server]) -> None:
    server = make_server(**QUICK)
    room = make_room(server)
    ada, bob = Person(server, "Ada").enter(room), Person(server, "Bob").enter(room)
    with ada.stream() as at_ada:
        bob.stream().close()
        assert heard(at_ada, "participant-state")["participant"]["status"] == "reconnecting"
        left = heard(at_ada, "participant-left")
        assert left["clientId"] == bob.me["clientId"] and left["reason"] == "connection lost"
        # An open stream is enough for whoever never said more.
        assert status_of(ada, room) == "connected"
    assert bob.signal(ada, room).code == "not_in_room"


@pytest.mark.waits
def test_a_page_that_goes_is_gone_soon_unless_it_comes_back(server: Server) -> None:
    room = make_room(server)
    ada, bob, eve = (Person(server, name).enter(room) for name in ("Ada", "Bob", "Eve"))
    for person in (ada, bob):
        assert person.post(f"{ROOMS}/{room}/leave", soon=True).json == {"success": True}
    ada.enter(room)
    with eve.stream() as at_eve:
        sooner = {"key": "room_gone_seconds", "value": 48}  # instead of 55
        assert server.post("/api/settings", sooner).status == 200
        left = heard(at_eve, "participant-left")
    assert left["clientId"] == bob.me["clientId"] and left["reason"] == "connection lost"
    shown = eve.get(f"{ROOMS}/{room}").json["participants"]
    assert {one["displayName"]: one["status"] for one in shown} == {
        "Ada": "connected",
        "Eve": "connected",
    }


@pytest.mark.waits
def test_who_beats_is_not_heard_by_a_stream(make_server: Callable[..., Server]) -> None:
    """A phone that vanished leaves an open connection behind."""
    server = make_server(**QUICK)
    room = make_room(server)
    ada = Person(server, "Ada").enter(room)
    with ada.stream() as stream:
        for _ in range(2):
            told = ada.post(f"{ROOMS}/{room}/state", audio=True).json
            assert told["participant"]["status"] == "connected"
            while heard(stream, "participant-state")["participant"]["status"] == "connected":
                pass
        assert heard(stream, "room-left")["reason"] == "connection lost"
    assert status_of(ada, room) is None


def last_writes(server: Server) -> list[Any]:
    """What differs once a row of participants is written, even as it was."""
    if server.database_url.startswith("sqlite"):
        return rows_of(server.database_url, "SELECT count(*) FROM written")
    return rows_of(server.database_url, "SELECT id, xmin::text FROM video_participants ORDER BY id")


@pytest.mark.waits
def test_nothing_is_written_while_nothing_changes(make_server: Callable[..., Server]) -> None:
    """Whoever is heard stays, for longer than the silent do, without a write."""
    server = make_server(room_silent_seconds=3, room_gone_seconds=4)
    room = make_room(server)
    ada, bob = Person(server, "Ada").enter(room), Person(server, "Bob").enter(room)
    if server.database_url.startswith("sqlite"):
        change(server.database_url, "CREATE TABLE written (id INTEGER)")
        change(
            server.database_url,
            "CREATE TRIGGER noted AFTER UPDATE ON video_participants"
            " BEGIN INSERT INTO written VALUES (new.id); END",
        )
    with ada.stream() as stream:
        bob.post(f"{ROOMS}/{room}/state", audio=True)
        before = last_writes(server)
        until = time.monotonic() + 6
        while time.monotonic() < until:
            assert bob.post(f"{ROOMS}/{room}/state", audio=True).status == 200
            time.sleep(0.1)
        assert last_writes(server) == before
        assert status_of(ada, room) == status_of(bob, room) == "connected"
        bob.post(f"{ROOMS}/{room}/state", audio=False)
        assert last_writes(server) != before
        states = [heard(stream, "participant-state")["participant"] for _ in range(2)]
        assert [(one["id"], one["audio"]) for one in states] == [
            (bob.me["id"], True),
            (bob.me["id"], False),
        ]


@pytest.mark.waits
def test_a_pause_of_the_server_is_nobodys_silence(make_server: Callable[..., Server]) -> None:
    """As when its machine sleeps: whoever is still there afterwards was never away."""
    server = make_server(room_silent_seconds=3, room_gone_seconds=4)
    room = make_room(server)
    ada, bob = Person(server, "Ada").enter(room), Person(server, "Bob").enter(room)
    with ada.stream() as stream:
        bob.post(f"{ROOMS}/{room}/state", audio=True)
        os.kill(server.pid, signal.SIGSTOP)
        time.sleep(5)
        os.kill(server.pid, signal.SIGCONT)
        bob.post(f"{ROOMS}/{room}/state", audio=False)
        for audio in (True, False):
            state = heard(stream, "participant-state")["participant"]
            assert (state["status"], state["audio"]) == ("connected", audio)


COUNTING = """
import peewee
from pathlib import Path

statements = Path(__file__).with_name("statements").open("a", buffering=1)
execute_sql = peewee.Database.execute_sql


def noted(database, sql, *parameters, **more):
    statements.write(sql.replace("\\n", " ") + "\\n")
    return execute_sql(database, sql, *parameters, **more)


peewee.Database.execute_sql = noted
"""


def test_a_signal_reads_nothing(make_server: Callable[..., Server], tmp_path: Path) -> None:
    """Whoever sends it, in whatever way: no statement runs once for each of them."""
    (tmp_path / "handlers.py").write_text(COUNTING, "utf-8")
    server = make_server(app=str(tmp_path / "handlers.py"))
    room = make_room(server)
    ada, bob = Person(server, "Ada").enter(room), Person(server, "Bob").enter(room)

    def statements() -> Counter[str]:
        return Counter((tmp_path / "statements").read_text("utf-8").splitlines())

    with bob.stream() as stream, ada.open_ws() as ws:
        before = statements()
        assert max(before.values()) > 0
        for number in range(50):
            assert ada.signal(bob, room, number).status == 200
        for number in range(50, 100):
            say(ws, type="webrtc-signal", roomId=room, signal=number)
        assert [heard(stream, "webrtc-signal")["signal"] for _ in range(100)] == list(range(100))
    reads = {sql: n for sql, n in (statements() - before).items() if n >= 40}
    writes = ("BEGIN", "COMMIT", "SAVEPOINT", "RELEASE", "INSERT INTO messages", "SELECT pg_adv")
    lasts = "FROM messages UNION ALL"  # the writer asks for the log's last id
    assert [sql for sql in reads if not sql.startswith(writes) and lasts not in sql] == []


def test_signals_wait_for_who_reconnects(server: Server) -> None:
    room = make_room(server)
    ada, bob = Person(server, "Ada").enter(room), Person(server, "Bob").enter(room)
    stream = bob.stream()
    ada.signal(bob, room, "first")
    assert heard(stream, "webrtc-signal")["signal"] == "first"
    last = stream.last_id
    stream.close()
    ada.signal(bob, room, "second")
    with server.stream(f"session={bob.session}&lastEventId={last}", token=None) as again:
        assert again.hello["recovered"] is True
        assert heard(again, "webrtc-signal")["signal"] == "second"


def test_empty_rooms_end_unless_pinned(make_server: Callable[..., Server]) -> None:
    server = make_server(room_empty_seconds=1)
    make_room(server, roomId="brief"), make_room(server, roomId="kept", pinned=True)
    busy = make_room(server, roomId="busy")
    ada = Person(server, "Ada").enter(busy)
    wait_for(lambda: server.get(f"{ROOMS}/brief").status == 404, "the empty room to end")
    assert {r["roomId"] for r in server.get(ROOMS).json} == {"kept", "busy"}
    ada.post(f"{ROOMS}/busy/leave")
    wait_for(lambda: server.get(f"{ROOMS}/busy").status == 404, "the room to end once empty")
    assert server.get(f"{ROOMS}/kept").status == 200


def test_a_call_outlives_the_server(make_server: Callable[..., Server]) -> None:
    server = make_server()
    ada, bob = Person(server, "Ada"), Person(server, "Bob")
    room = make_room(server, session=ada.session)
    ada.enter(room)
    bob.enter(room)
    stream = bob.stream()
    ada.signal(bob, room, "before")
    heard(stream, "webrtc-signal")
    last = stream.last_id
    ada.signal(bob, room, "unheard")
    kill_node(server)
    server.start()
    wait_for(lambda: status_of(bob, room) == "reconnecting", "nobody to be heard")
    assert ada.post(f"{ROOMS}/{room}/state", audio=True).status == 200
    assert status_of(ada, room) == "connected"
    assert ada.signal(bob, room, "after").status == 200
    resumed = f"session={bob.session}&lastEventId={last}"
    with server.stream(resumed, token=None) as again:
        assert again.hello["recovered"] is True
        got = [heard(again, "webrtc-signal")["signal"] for _ in range(2)]
        assert got == ["unheard", "after"]
        wait_for(lambda: status_of(bob, room) == "connected", "Bob to be heard")
        assert heard(again, "participant-state")
        cem = Person(server, "Cem").enter(room)
        assert heard(again, "participant-joined")["participant"]["id"] == cem.me["id"]
        assert act(ada, room, cem, "mute").status == 200  # still the host


@pytest.mark.waits
def test_who_does_not_come_back_after_a_restart_is_gone(
    make_server: Callable[..., Server],
) -> None:
    server = make_server(**QUICK)
    room = make_room(server)
    ada = Person(server, "Ada").enter(room)
    server.kill()
    server.start()
    wait_for(lambda: status_of(ada, room) is None, "Ada to be gone")


# Several nodes


def reaction_of(person: Person, room: str, stream: Stream) -> Event | None:
    """What somebody hears of a reaction: nothing where that node doesn't listen yet."""
    assert person.post(f"{ROOMS}/{room}/reactions", emoji="👏").status in (200, 429)
    with contextlib.suppress(TimeoutError):
        while event := stream.take(1, 2)[0]:
            if json.loads(event["data"])["type"] == "room-reaction":
                return event
    return None


def test_a_room_spans_nodes(postgres: Cluster, start_node: Callable[..., Server]) -> None:
    url = postgres.new_database()
    first, second = start_node(url), start_node(url)
    ada, bob, cem = Person(first, "Ada"), Person(second, "Bob"), Person(second, "Cem")
    room = make_room(first, session=ada.session)
    ada.enter(room)
    with ada.stream() as at_ada:
        bob.enter(room)
        assert heard(at_ada, "participant-joined")["participant"]["id"] == bob.me["id"]
        with bob.stream() as at_bob:
            for number in range(20):
                assert ada.signal(bob, room, number).status == 200
            got = [heard(at_bob, "webrtc-signal")["signal"] for _ in range(20)]
            assert got == list(range(20))
            event = wait_for(lambda: reaction_of(bob, room, at_ada), "the reaction")
            assert "event" not in event  # a page hears it as every other of a room
            # Who joined on one node opens the stream on the other one, which hasn't heard of it.
            postgres.mute()
            cem.enter(room)
            cem.server = first
            with cem.stream() as at_cem:
                assert at_cem.hello["recovered"] is True
                bob.post(f"{ROOMS}/{room}/chat", text="hello")
                assert heard(at_cem, "room-chat")["text"] == "hello"
                assert act(ada, room, cem, "remove").status == 200
                assert at_cem.ended()
            cem.server = second
            assert cem.join(room).code == "removed"
            # The guest's stream is on another node than the request by which it leaves.
            bob.server = first
            assert bob.post(f"{ROOMS}/{room}/leave").status == 200
            assert heard(at_bob, "room-left")["reason"] == "left"
            assert at_bob.ended()
        assert heard(at_ada, "participant-left")["reason"] == "removed"
        assert heard(at_ada, "participant-left")["reason"] == "left"


@pytest.mark.waits
def test_who_is_heard_on_another_node_stays(
    postgres: Cluster, start_node: Callable[..., Server]
) -> None:
    """Each joined on the first node; one says on the second that it is there, one has its stream
    there, and one is heard on either in turn."""
    url = postgres.new_database()
    limits = {"room_silent_seconds": 7, "room_gone_seconds": 9}  # a heartbeat takes 5
    first, second = start_node(url, **limits), start_node(url, **limits)
    wait_for(lambda: len(first.get("/api/nodes").json) == 2, "the nodes to know each other")
    room = make_room(first)
    ada, bob, cem, eve = (Person(first, name).enter(room) for name in ("Ada", "Bob", "Cem", "Eve"))
    ada.post(f"{ROOMS}/{room}/state", audio=True)
    eve.post(f"{ROOMS}/{room}/state", audio=True)
    ada.server = bob.server = second
    with bob.stream() as at_bob, cem.stream():
        before = last_writes(first)
        until = time.monotonic() + 2 * limits["room_gone_seconds"]
        turn = 0
        while time.monotonic() < until:
            turn += 1
            eve.server = (first, second)[turn % 2]
            for person in (ada, eve):
                assert person.post(f"{ROOMS}/{room}/state", audio=True).status == 200
            time.sleep(1)
        assert last_writes(first) == before
        ada.post(f"{ROOMS}/{room}/chat", text="the end")
        kinds = []
        while (event := at_bob.values(1)[0])["type"] != "room-chat":
            kinds.append((event["type"], event.get("participant", {}).get("status")))
        assert set(kinds) <= {
            ("participant-joined", "connected"),
            ("participant-state", "connected"),
        }


def test_who_has_just_come_on_another_node_is_found(
    postgres: Cluster, start_node: Callable[..., Server]
) -> None:
    """By a signal, and as who sends one, though no node was told of it."""
    url = postgres.new_database()
    first, second = start_node(url), start_node(url)
    room = make_room(first)
    ada = Person(first, "Ada").enter(room)
    for number in range(5):
        postgres.mute()
        bob = Person(second, f"Bob {number}").enter(room)
        assert ada.signal(bob, room).status == 200
        postgres.mute()
        cem = Person(second, f"Cem {number}").enter(room)
        cem.server = first
        assert cem.signal(ada, room).status == 200
        postgres.mute()
        cem.server = second
        cem.enter(room)
        cem.server = first
        mine = {"connectionId": cem.me["connectionId"]}
        assert cem.signal(ada, room, **mine).status == 200
        for person in (bob, cem):
            assert person.post(f"{ROOMS}/{room}/leave").status == 200


def test_who_was_on_a_dead_node_gets_grace(
    postgres: Cluster, start_node: Callable[..., Server]
) -> None:
    url = postgres.new_database()
    first, second = start_node(url), start_node(url)
    room = make_room(first)
    ada, bob = Person(first, "Ada").enter(room), Person(second, "Bob").enter(room)
    stream = bob.stream()
    with ada.stream() as at_ada:
        kill_node(second)
        stream.close()
        while (state := heard(at_ada, "participant-state")["participant"])["id"] != bob.me["id"]:
            pass
        assert state["status"] == "reconnecting"
        bob.server = first
        bob.post(f"{ROOMS}/{room}/state", audio=True)
        state = heard(at_ada, "participant-state")["participant"]
        assert state["status"] == "connected" and state["audio"] is True


def test_those_who_come_at_once_on_two_nodes_do_not_overfill_a_room(
    postgres: Cluster, start_node: Callable[..., Server]
) -> None:
    url = postgres.new_database()
    nodes = start_node(url), start_node(url)
    room = make_room(nodes[0], maxParticipants=4)
    people = [Person(nodes[n % 2], f"P{n}") for n in range(12)]
    with ThreadPoolExecutor(12) as pool:
        statuses = list(pool.map(lambda person: person.join(room).status, people))
    assert sorted(statuses) == [200] * 4 + [409] * 8


# Other ways to hear and see


def test_system_messages_in_socket_io(make_server: Callable[..., Server]) -> None:
    server = make_server(socketio_recovery_seconds=0)
    room = make_room(server)
    ws, answer = join_io(server)
    with ws:
        sid = answer["sid"]
        body = {"clientId": sid, "displayName": "Old client"}
        assert server.post(f"{ROOMS}/{room}/join", body).status == 200
        ada = Person(server, "Ada").enter(room)
        name, value = json.loads(hear_io(ws)[2:])
        assert name == value["type"] == "participant-joined"
        signal = {"type": "offer", "signal": 1, "roomId": room, "targetClientId": sid}
        assert ada.post("/api/webrtc/signal", **signal).status == 200
        name, value = json.loads(hear_io(ws)[2:])
        assert name == "webrtc-signal" and value["fromClientId"] == ada.me["clientId"]
        assert ada.post(f"{ROOMS}/{room}/reactions", emoji="🤔").status == 200
        name, value = json.loads(hear_io(ws)[2:])
        assert name == value["type"] == "room-reaction" and value["emoji"] == "🤔"


def test_the_description_names_what_answers_and_events_carry(server: Server) -> None:
    described = json.dumps(server.get("/api/openapi.json", token=None).json)
    guide = (ROOT / "static" / "docs" / "developer.md").read_text("utf-8")
    for name in ("iceTtl", "handAt", "messageId"):
        assert f"`{name}`" in described and f"`{name}`" in guide


def test_rooms_are_counted_and_logged(hosted: tuple[str, Person, Person, Person]) -> None:
    room, ada, bob, _ = hosted
    server = ada.server
    stats = server.get("/api/stats").json
    assert stats["videoParticipants"] == 3 and stats["activeVideoRooms"] == 1
    shown = server.get("/api/admin/dashboard").json
    assert shown["rooms"][0]["participantCount"] == 3 and shown["rooms"][0]["roomId"] == room
    assert b"rtapp_video_participants 3.0" in server.get("/metrics").body
    act(ada, room, bob, "remove")
    ada.server.request("DELETE", f"{ROOMS}/{room}")
    logged = [row["message"] for row in server.get("/api/logs?q=oom").json]
    for message in ("Room made", "Joined a room", "Host's action: remove", "Room ended"):
        assert message in logged


def test_an_admin_removes_whoever_made_the_room(
    hosted: tuple[str, Person, Person, Person],
) -> None:
    room, ada, bob, _ = hosted
    number = ada.me["id"]
    server = ada.server
    answer = server.post(f"{ROOMS}/{room}/participants/{number}", {"action": "remove"})
    assert answer.status == 200
    assert act(ada, room, bob, "mute").code == "not_host"
    headers = {"X-Session": ada.session}
    assert server.request("DELETE", f"{ROOMS}/{room}", headers=headers, token=None).code == (
        "not_host"
    )
    rows = server.get(f"{ROOMS}/{room}").json["participants"]
    assert [row["displayName"] for row in rows if row["isHost"]] == ["Bob"]


# Any order of joins and leaves

ACTS = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from(["join", "leave", "state", "remove", "hand"])),
    max_size=30,
)


def test_whatever_people_do_a_room_stays_sound(server: Server) -> None:
    """After each act: as many as are told, never too many, a host as long as anybody is there,
    the stream's story is the database's."""

    @settings(max_examples=60 if LONG else 12, deadline=None)
    @given(ACTS)
    def one(acts: list[tuple[int, str]]) -> None:
        people = [Person(server, f"P{n}") for n in range(4)]
        room = make_room(server, session=people[0].session, maxParticipants=3)
        watcher = people[0].enter(room)
        with watcher.stream() as stream:
            present, removed = {0}, set()
            for n, what in acts:
                person = people[n]
                if what == "join":
                    status = person.join(room).status
                    full = len(present) >= 3 and n not in present
                    assert status == (403 if n in removed else 409 if full else 200)
                    present |= {n} if status == 200 else set()
                elif what == "state":
                    status = person.post(f"{ROOMS}/{room}/state", hand=True).status
                    assert status == (200 if n in present else 403)
                elif n == 0:
                    continue
                elif what == "leave":
                    status = person.post(f"{ROOMS}/{room}/leave").status
                    assert status == (200 if n in present else 403)
                    present.discard(n)
                elif n in present:
                    action = "remove" if what == "remove" else "make-host"
                    path = f"{ROOMS}/{room}/participants/{person.me['id']}"
                    assert server.post(path, {"action": action}).status == 200
                    present -= {n} if what == "remove" else set()
                    removed |= {n} if what == "remove" else set()
                rows = server.get(f"{ROOMS}/{room}").json["participants"]
                assert {row["clientId"] for row in rows} == {
                    people[n].me["clientId"] for n in present
                }
                assert any(row["isHost"] for row in rows)
            watcher.post(f"{ROOMS}/{room}/chat", text="the end")
            told = {watcher.me["clientId"]}
            while (event := stream.values(1)[0])["type"] != "room-chat":
                if event["type"] == "participant-joined":
                    told.add(event["participant"]["clientId"])
                elif event["type"] == "participant-left":
                    told.remove(event["clientId"])
            assert told == {people[n].me["clientId"] for n in present}
        server.request("DELETE", f"{ROOMS}/{room}")

    one()
