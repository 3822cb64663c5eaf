"""A database of the first version that people could have is opened with all that it holds."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support import Server

FIRST = Path(__file__).with_name("data") / "first.sql"  # `.dump` of its rtapp.db
READER = "vQ-YFj3RsZVLqqA-obsYROaYBSyjW82fO3yDnA1aiFI"  # an API token for the channel news


@pytest.fixture
def upgraded(tmp_path: Path, make_server: Callable[..., Server]) -> Server:
    """A server of today on that database, as if it had been left a moment ago."""
    data = tmp_path / "old"
    data.mkdir()
    with contextlib.closing(sqlite3.connect(data / "rtapp.db")) as database:
        database.executescript(FIRST.read_text("utf-8"))
        now = time.time_ns() // 1_000_000
        database.execute("UPDATE messages SET sent_at = ?", (now,))
        database.execute("UPDATE event_logs SET timestamp = ?", (now,))
        database.execute("UPDATE access_tokens SET expires_at = ?", (now + 3_600_000,))
        database.commit()
    return make_server(data=data)


def as_ada(server: Server) -> dict[str, str]:
    body = {"username": "ada", "password": "correct horse 9"}
    answer = server.post("/api/auth/login", body, token=None)
    assert answer.status == 200, answer
    return {"Cookie": answer.headers["set-cookie"].split(";")[0]}


def test_all_that_it_held_is_there(upgraded: Server) -> None:
    messages: list[dict[str, Any]] = upgraded.get("/api/messages").json
    assert [m["id"] for m in messages] == [7, 4, 3, 2, 1]
    assert messages[1]["content"] == {"type": "notification", "message": "to all"}
    settings = {s["key"]: s for s in upgraded.get("/api/settings").json}
    assert settings["max_connections"]["value"] == 1000 and settings["x-color"]["value"] == "blue"
    assert "User made" in [entry["message"] for entry in upgraded.get("/api/logs").json]
    me = upgraded.get("/api/auth/me", headers=as_ada(upgraded), token=None).json
    assert (me["username"], me["role"]) == ("ada", "admin")


def test_its_clients_go_on(upgraded: Server) -> None:
    stream = upgraded.stream(
        "channel=news", token=READER, headers={"Last-Event-ID": "3d9440db-00000001"}
    )
    assert stream.hello["recovered"] is True
    assert [stream.next()["data"][:21] for _ in range(2)] == [
        '{"message":"hello 1",',
        '{"message":"hello 2",',
    ]
    assert upgraded.publish({"message": "new"}, "channel=news").json["message"]["id"] > 7
    assert '"new"' in stream.next()["data"]


def test_there_is_a_copy_and_what_is_new_works(upgraded: Server) -> None:
    assert (upgraded.data / "rtapp.db.v2.bak").exists()
    assert upgraded.post("/api/video/rooms", {"name": "Team"}).status == 201
    assert upgraded.stop() == 0
    upgraded.start()
    assert [room["name"] for room in upgraded.get("/api/video/rooms").json] == ["Team"]
