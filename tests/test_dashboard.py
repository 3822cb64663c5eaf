"""The dashboard: what it asks of the API, and the page in a real Chromium on a real server."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from support import PATIENCE, ROOT, Server, Stream, wait_for

VENDOR = ROOT / "static" / "vendor"


# ---- what it asks of the API ---------------------------------------------------------------------


def stats_of(stream: Stream, seconds: float = PATIENCE) -> dict[str, object]:
    """The next statistics on a stream."""
    event = stream.take(1, seconds)[0]
    while event.get("event") != "stats":
        event = stream.take(1, seconds)[0]
    found: dict[str, object] = json.loads(event["data"])
    return found


def test_statistics_come_each_second_to_who_may_read_them(server: Server) -> None:
    with server.stream("channel=sys:stats&labels=1") as stream:
        first = stats_of(stream)
        assert first["activeConnections"] == 1 and first["transports"] == {"sse": 1}
        server.publish("counted")
        wait_for(lambda: stats_of(stream)["messagesSent"] == 1, "the message to be counted")
        assert stream.events[-1]["channel"] == "sys:stats" and "id" not in stream.events[-1]
    narrow = server.post("/api/tokens", {"name": "narrow", "scopes": ["publish"]}).json["token"]
    assert server.get("/api/events?channel=sys:stats", token=narrow).status == 403
    assert server.get("/api/events?channel=sys:stats", token=None).status == 401
    assert server.get("/api/events?channel=sys:other").code == "reserved_channel"
    assert server.post("/api/broadcast?channel=sys:stats", 1).code == "reserved_channel"


def test_an_open_server_tells_its_statistics_to_no_stranger(
    make_server: Callable[..., Server],
) -> None:
    server = make_server(access="open")
    assert server.get("/api/events?channel=sys:stats", token=None).status == 401


def test_the_event_log_is_counted_over_time(server: Server) -> None:
    for number in range(3):
        server.post("/api/settings", {"key": "x-note", "value": number})
    whole = server.get("/api/logs/histogram?buckets=4&q=Setting").json
    assert sum(span.get("INFO", 0) for span in whole["buckets"]) == 3
    assert 1 <= len(whole["buckets"]) <= 4 and whole["width"] >= 1
    entries = server.get("/api/logs?q=Setting").json
    assert len(entries) == 3
    newest = entries[0]["timestamp"]
    later = server.get(f"/api/logs?q=Setting&since={newest}").json
    assert entries[0] in later
    earlier = server.get(f"/api/logs?q=Setting&until={newest}").json
    assert entries[0] not in earlier and len(later) + len(earlier) == 3
    assert server.get("/api/logs/histogram?level=ERROR").json["buckets"] == []
    assert server.get("/api/logs?since=yesterday").code == "invalid"


def test_network_settings_change_only_on_the_servers_own_computer(server: Server) -> None:
    through = {"X-Forwarded-For": "192.0.2.7"}
    body = {"key": "public_url", "value": "https://chat.example.org"}
    refused = server.post("/api/settings", body, headers=through)
    assert refused.code == "only_from_here"
    where = "/api/settings/public_url"
    assert server.request("DELETE", where, headers=through).code == "only_from_here"
    rows = {row["key"]: row for row in server.get("/api/settings", headers=through).json}
    assert not rows["public_url"]["editable"] and rows["rate_limit"]["editable"]
    assert server.post("/api/settings", body).json["editable"]
    assert server.request("DELETE", where).status == 200


# ---- what is not ours ----------------------------------------------------------------------------


def checksums() -> dict[str, str]:
    """The files that others wrote, with what they must hash to."""
    lines = (VENDOR / "SHA256SUMS").read_text().splitlines()
    return {name: digest for digest, name in (line.split("  ", 1) for line in lines)}


def test_vendored_files_are_what_their_makers_published() -> None:
    found = {
        path.relative_to(VENDOR).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in VENDOR.glob("*/*")
        if path.name != "VERSION" and path.suffix != ".mts"
    }
    assert found == checksums()
    for folder in filter(Path.is_dir, VENDOR.iterdir()):
        assert (folder / "VERSION").is_file() and (folder / "LICENSE").is_file(), folder


def test_vendored_files_are_those_of_npm(npm_folder: Callable[..., Path]) -> None:
    packages = {
        "preact": "preact",
        "htm": "htm",
        "signals-core": "@preact/signals-core",
        "uplot": "uplot",
    }
    versions = {name: (VENDOR / name / "VERSION").read_text().strip() for name in packages}
    folder = npm_folder(*(f"{packages[name]}@{versions[name]}" for name in packages))
    for name, package in packages.items():
        for path in (VENDOR / name).iterdir():
            if path.name == "VERSION" or path.suffix == ".mts":
                continue
            own = folder / "node_modules" / package
            theirs = own / path.name if path.name == "LICENSE" else own / "dist" / path.name
            assert path.read_bytes() == theirs.read_bytes(), path
