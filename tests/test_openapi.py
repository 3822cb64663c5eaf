"""What `/api/openapi.json` says is what the server does: every call is made, and each answer held
against its schema."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

import rtapp
from support import ADMIN, NDJSON, Answer, Described, Server, Stream, cookie_of, setup_token

PASSWORD = "saffron-lantern-42"
ADA, BOB = "session-of-ada-0123456789", "session-of-bob-0123456789"
DESKTOP = "/api/desktop"


def described(server: Server) -> Described:
    return Described(server.get("/api/openapi.json", token=None).json)


def test_every_answer_is_as_described(
    make_server: Callable[..., Server], database_url: str
) -> None:
    server = make_server(env={"RTAPP_ADMIN_TOKEN": None}, turn_url="turn:turn.example.org")
    found = described(server)
    token: str | None = None
    cookie: dict[str, str] = {}

    def call(method: str, path: str, /, body: Any = None, query: str = "", **more: Any) -> Any:
        """A call as an administrator, its answer held against the document."""
        about = {n: more.pop(n) for n in ("headers", "token") if n in more}
        about.setdefault("token", token)
        where = path.format_map(more) + (f"?{query}" if query else "")
        answer = server.request(method, where, body, **about)
        found.check(method, path, answer)
        is_json = answer.headers.get("content-type") == "application/json"
        return answer.json if is_json else answer

    def sign_in(path: str, **body: Any) -> None:
        answer = server.post(path, body, token=None)
        found.check("POST", path, answer)
        cookie.update(cookie_of(answer))

    sign_in("/api/auth/setup", token=setup_token(server), username="ada", password=PASSWORD)
    sign_in("/api/auth/login", username="ada", password=PASSWORD)
    call("GET", "/api/auth/me", headers=cookie)
    made = server.post(
        "/api/tokens", {"name": "tests", "scopes": ["admin"]}, headers=cookie, token=None
    )
    found.check("POST", "/api/tokens", made)
    token = made.json["token"]
    assert call("GET", "/api/tokens")[0]["channels"] is None
    call("POST", "/api/tokens", {"name": "narrow", "channels": ["a/*"]})
    call("DELETE", "/api/tokens/{token_id}", token_id="narrow")

    call("GET", "/api/auth/sessions", headers=cookie, token=None)
    call("DELETE", "/api/auth/sessions", headers=cookie, token=None)
    other = cookie_of(
        server.post("/api/auth/login", {"username": "ada", "password": PASSWORD}, token=None)
    )
    listed = call("GET", "/api/auth/sessions", headers=other, token=None)
    mine = next(row["id"] for row in listed if not row["current"])
    call("DELETE", "/api/auth/sessions/{session_id}", session_id=mine, headers=other, token=None)
    body = {"current": PASSWORD, "password": PASSWORD + "3"}
    answer = server.post("/api/auth/password", body, headers=other, token=None)
    found.check("POST", "/api/auth/password", answer)
    call("POST", "/api/auth/logout", {}, headers=cookie_of(answer), token=None)
    user = call("POST", "/api/users", {"username": "bob", "password": PASSWORD})["id"]
    assert {row["username"] for row in call("GET", "/api/users")} == {"ada", "bob"}
    call("PATCH", "/api/users/{user_id}", {"role": "admin"}, user_id=user)
    call("DELETE", "/api/users/{user_id}", user_id=user)
    call("POST", "/api/auth/ticket", {})

    with Stream(
        server.port, "channel=a&presence=1", token=token, headers={"X-Session": ADA}
    ) as stream:
        stream.next()
        call("POST", "/api/events/topics", {"session": ADA, "add": ["b"]})
        assert call("GET", "/api/presence", query="channel=a")[0]["username"] is not None
        client = call("GET", "/api/connections", query="channel=a")[0]["clientId"]
        assert {row["name"] for row in call("GET", "/api/channels")} == {"a", "b"}
        call("POST", "/api/broadcast", {"type": "hello"}, "channel=a&event=e")
        call("POST", "/api/broadcast", 1, "volatile=1")
        call("POST", "/api/broadcast", [1], headers={"Idempotency-Key": "k"})
        call("POST", "/api/broadcast", b"1\n2", headers=NDJSON)
        call("POST", "/api/broadcast", b"1\n2", "volatile=1", headers=NDJSON)
        assert len(call("GET", "/api/messages")) == 4
        call("DELETE", "/api/connections/{client_id}", client_id=client)

    room = {"room_id": "stand-up"}
    body = {"roomId": "stand-up", "name": "Stand-up", "hostId": 7, "session": ADA, "lobby": True}
    body |= {"listed": True}
    call("POST", "/api/video/rooms", body)
    where = "/api/video/rooms/{room_id}"
    call("POST", f"{where}/join", {"session": ADA, "displayName": "Ada", "userId": "7"}, **room)
    waits = call("POST", f"{where}/join", {"session": BOB}, **room, token=None)
    assert waits["code"] == "waiting"
    whole = call("GET", where, headers={"X-Session": ADA}, **room)
    assert len(whole["waiting"]) == len(whole["participants"]) == 1
    assert "id" not in call("GET", where, **room, token=None)
    assert len(call("GET", "/api/video/rooms/listed", token=None)) == 1
    number = waits["participant"]["id"]
    act = {"session": ADA, "action": "admit"}
    call("POST", where + "/participants/{number}", act, number=number, **room)
    call("POST", f"{where}/state", {"session": BOB, "hand": True}, **room, token=None)
    call("POST", f"{where}/chat", {"session": BOB, "text": "Hello"}, **room, token=None)
    call("POST", f"{where}/reactions", {"session": BOB, "emoji": "👍"}, **room, token=None)
    assert len(call("GET", f"{where}/chat", headers={"X-Session": ADA}, **room)) == 1
    signal = {
        "type": "offer",
        "signal": {},
        "roomId": "stand-up",
        "targetClientId": waits["participant"]["clientId"],
    }
    call("POST", "/api/webrtc/signal", {"session": ADA, **signal})
    assert call("GET", "/api/ice")["iceServers"]
    call("POST", "/api/settings", {"key": "turn_secret", "value": "turn-secret-0123456789"})
    assert call("GET", "/api/ice")["iceTtl"]
    call("GET", f"{where}/qr.svg", **room)
    call("GET", "/api/video/rooms")
    call("PATCH", where, {"session": ADA, "locked": True}, **room)
    call("GET", "/api/admin/dashboard")
    call("POST", f"{where}/leave", {"session": BOB}, **room, token=None)
    call("DELETE", where, headers={"X-Session": ADA}, **room)

    call("GET", "/api/stats")
    assert "recent" in call("GET", "/api/stats", query="recent=1")
    call("GET", "/api/stats/history")
    assert call("GET", "/api/logs")
    assert call("GET", "/api/logs/histogram")["buckets"]
    call("GET", "/api/logs/export")
    call("GET", "/api/logs/export", query="format=ndjson")
    call("DELETE", "/api/logs")
    call("POST", "/api/settings", {"key": "x-theme", "value": {"dark": True}, "description": "y"})
    call("POST", "/api/settings", {"key": "history_hours", "value": 48})
    assert len(call("GET", "/api/settings")) == len(rtapp.SETTINGS) + 1
    call("DELETE", "/api/settings/{key}", key="history_hours")
    call("DELETE", "/api/settings/{key}", key="x-theme")
    call("GET", "/api/nodes")
    call("GET", "/api/network")
    call("GET", "/api/network/qr.svg")
    for path in ("/healthz", "/readyz", "/metrics", "/", "/admin", "/test", "/api/docs"):
        call("GET", path)
    call("GET", "/docs")
    call("GET", "/docs/{name}", name="operator")
    call("GET", "/api/openapi.json")
    call("GET", "/room/{room_id}", room_id="stand-up")
    call("GET", "/static/{path}", path="css/base.css")
    call("GET", "/socket.io/{name}", name="socket.io.js")
    handshake = call("GET", "/socket.io/", query="EIO=4&transport=polling")
    sid = json.loads(handshake.body[1:])["sid"]
    call("POST", "/socket.io/", b"3", f"EIO=4&transport=polling&sid={sid}")
    found.check("GET", "/api/events", server.request("HEAD", "/api/events", token=token))

    if not database_url:
        call("GET", "/api/backup")
        call("POST", "/api/network", {"address": None})
    made = {(m.upper(), path) for path, item in found.paths.items() for m in item}
    # Elsewhere: the desktop program, links, TLS, WebSockets; PUT, which is refused.
    rest = {path for _, path in made - found.seen if not path.startswith(("/desktop", DESKTOP))}
    rest -= {"/api/auth/redeem", "/open/{key}", "/ca.crt", "/ws", "/socket.io/"}
    assert rest == ({"/api/backup", "/api/network"} if database_url else set())


def test_every_example_is_true(server: Server) -> None:
    found = described(server)
    for path, item in found.paths.items():
        for method, operation in item.items():
            bodies = [*operation["responses"].values(), operation.get("requestBody", {})]
            for kind, given in (
                pair for body in bodies for pair in body.get("content", {}).items()
            ):
                if kind == "application/json" and given["schema"]:
                    wrong = list(found.faults(given["example"], given["schema"]))
                    assert wrong == [], (method, path)
    for name, schema in found.schemas.items():
        assert schema.get("description"), name


def test_every_json_answer_has_a_schema(server: Server) -> None:
    """But Engine.IO's own errors."""
    bare = {
        path
        for path, item in described(server).paths.items()
        for operation in item.values()
        for answer in operation["responses"].values()
        if answer["content"].get("application/json", {"schema": True})["schema"] == {}
    }
    assert bare == {"/socket.io/"}


def test_every_refusal_is_as_described(server: Server) -> None:
    found = described(server)
    for method, path, body in (
        ("GET", "/api/users", None),
        ("POST", "/api/tokens", {}),
        ("POST", "/api/broadcast", b"{"),
        ("DELETE", "/api/users/999", None),
        ("GET", "/nowhere", None),
    ):
        answer = server.request(method, path, body, token=None if path == "/api/users" else ADMIN)
        assert answer.status >= 400 and answer.code
        schema = {"$ref": "#/components/schemas/ProblemView"}
        assert list(found.faults(answer.json, schema)) == [], answer


SCHEMA = {
    "type": "object",
    "properties": {
        "id": {"type": "integer", "minimum": 1},
        "name": {"anyOf": [{"type": "string", "pattern": "^[a-z]+$"}, {"type": "null"}]},
        "at": {"type": "string", "format": "date-time"},
        "all": {"type": "array", "items": {"enum": ["a", "b"]}},
        "is": {"type": "boolean"},
        "more": {"type": "object", "additionalProperties": {"type": "number"}},
    },
    "required": ["id"],
}


@pytest.mark.parametrize(
    ("value", "at"),
    [
        ({}, "$.id"),
        ({"id": "1"}, "$.id"),
        ({"id": True}, "$.id"),
        ({"id": 0}, "$.id"),
        ({"id": 1, "name": "A"}, "$.name"),
        ({"id": 1, "name": 1}, "$.name"),
        ({"id": 1, "at": "2026-01-31"}, "$.at"),
        ({"id": 1, "all": ["a", "c"]}, "$.all[1]"),
        ({"id": 1, "is": 1}, "$.is"),
        ({"id": 1, "more": {"x": "1"}}, "$.more.x"),
        ({"id": 1, "unknown": 1}, "$.unknown"),
        ([], "$"),
    ],
)
def test_what_is_otherwise_is_found(value: Any, at: str) -> None:
    """The check itself can fail."""
    check = Described({"paths": {}, "components": {"schemas": {"X": SCHEMA}}})
    good = {"id": 1, "name": None, "at": "2026-01-31T12:00:00.000Z", "all": ["a"], "more": {"x": 1}}
    assert list(check.faults(good, {"$ref": "#/components/schemas/X"})) == []
    (said,) = check.faults(value, {"$ref": "#/components/schemas/X"})
    assert re.match(re.escape(at) + r"\b|" + re.escape(at) + ":", said), said


def test_another_status_or_media_type_is_found() -> None:
    content = {"application/json": {"schema": {"type": "integer"}}}
    check = Described(
        {
            "paths": {"/x": {"get": {"responses": {"200": {"content": content}}}}},
            "components": {"schemas": {}},
        }
    )
    check.check("GET", "/x", Answer(200, {"content-type": "application/json"}, b"1"))
    for status, kind, body in (
        (201, "application/json", b"1"),
        (200, "text/html", b"1"),
        (200, "application/json", b'"1"'),
    ):
        with pytest.raises(AssertionError):
            check.check("GET", "/x", Answer(status, {"content-type": kind}, body))
