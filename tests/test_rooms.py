"""Video rooms, through the wire: who gets in, what they hear of each other, what they may do."""

from __future__ import annotations

import secrets
from typing import Any

from support import ADMIN, Answer, Server, Stream

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

    def signal(self, other: Person, room: str, signal: Any = "sdp", **more: Any) -> Answer:
        body = {"type": "offer", "signal": signal, "roomId": room}
        target = {"targetClientId": other.me["clientId"]}
        return self.post("/api/webrtc/signal", **body, **target, **more)


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
