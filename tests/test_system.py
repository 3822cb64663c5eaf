"""The rest of the guide's API: settings, logs, statistics, presence, documents, commands."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import rtapp
from postgres import free_port
from support import (
    ADMIN,
    PATIENCE,
    ROOT,
    Server,
    change,
    hear_io,
    join_io,
    rows_of,
    run_program,
    setup_token,
    wait_for,
)

METRICS_TOKEN = "metrics-token-0123456789"


def setting(server: Server, key: str) -> dict[str, Any]:
    return next(row for row in server.get("/api/settings").json if row["key"] == key)


# Settings


def test_the_guides_settings_call_works_and_acts_at_once(server: Server) -> None:
    body = {
        "key": "max_connections",
        "value": "1",
        "description": "Maximum concurrent connections",
    }
    changed = server.post("/api/settings", body)
    assert changed.status == 200
    assert changed.json["value"] == 1 and changed.json["source"] == "saved"
    with server.stream():
        assert server.get("/api/events").code == "too_many_connections"
    back = server.request("DELETE", "/api/settings/max_connections").json
    assert back["value"] == 10_000 and back["source"] == "default"
    with server.stream(), server.stream():
        pass


def test_settings_survive_a_restart(server: Server) -> None:
    server.post("/api/settings", {"key": "history_hours", "value": 48})
    server.post("/api/settings", {"key": "x-theme", "value": {"dark": True}})
    server.kill()
    server.start()
    assert setting(server, "history_hours")["value"] == 48
    assert setting(server, "x-theme")["value"] == {"dark": True}
    assert server.request("DELETE", "/api/settings/x-theme").json == {"success": True}
    assert server.request("DELETE", "/api/settings/x-theme").code == "not_found"


def test_settings_take_effect_at_the_next_start(server: Server) -> None:
    """Also those by which its parts are built; not those that only the start may give."""
    for key, value in {"durability": "normal", "socketio_recovery_seconds": 0}.items():
        assert server.post("/api/settings", {"key": key, "value": value}).json["restart"] is True
    sql = "INSERT INTO server_settings (key, value, updated_at) VALUES ('public', '/nowhere', 0)"
    change(server.database_url, sql)
    server.stop()
    server.start()
    assert setting(server, "public")["source"] == "default"
    written = rows_of(server.database_url, "SELECT value FROM meta WHERE key = 'durability'")
    assert written == [("full" if server.database_url.startswith("postgres") else "normal",)]
    client, told = join_io(server)
    with client:
        assert list(told) == ["sid"]
        server.publish("no offset")
        assert hear_io(client) == '42["message","no offset"]'


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("max_connections", "many"),
        ("max_connections", 0),
        ("max_connections", None),
        ("access", "ajar"),
        ("ping_interval", "nan"),
        ("ping_interval", "inf"),
        ("history_hours", True),
        ("max_connections", {"a": 1}),
        ("public_url", {"a": 1}),
        ("public_url", "chat.example.org"),
        ("public_url", "https://ada:secret@chat.example.org"),
        ("public_url", "https://chat.example.org:65536"),
        ("public_url", "https://chat.example.org/?x"),
        ("public_url", "ftp://chat.example.org"),
        ("allowed_origins", "https://app.example.org/"),
        ("allowed_origins", "https://app.example.org:port"),
        ("allowed_origins", "https://*.example.org"),
        ("allowed_origins", "*:443"),
        ("allowed_origins", "https://\u2100.example.org"),  # a/c, once it is normalized
        ("allowed_hosts", ["chat.example.org", "*.example.org"]),
        ("allowed_hosts", "https://chat.example.org"),
        ("allowed_hosts", "chat example org"),
        ("allowed_hosts", "x" * 254),
        ("trusted_proxies", ["10.0.0.0/8", "proxy"]),
        ("trusted_proxies", "::ffff:a00:1"),
        ("ice_servers", "turn:turn.example.org"),
        ("turn_url", "stun:stun.example.org"),
        ("jwt_key", "too short"),
    ],
)
def test_bad_values_are_refused(running: Server, key: str, value: Any) -> None:
    answer = running.post("/api/settings", {"key": key, "value": value})
    assert answer.status == 422 and answer.code == "invalid"
    assert answer.json["errors"][0]["field"] == "value"
    assert setting(running, key)["source"] == "default"


@pytest.mark.parametrize(
    ("key", "value", "kept"),
    [
        ("public_url", "HTTPS://Chat.Example.org.:443", "https://chat.example.org"),
        (
            "public_url",
            "http://B\u00fccher.example:8080/Sub/",
            "http://xn--bcher-kva.example:8080/Sub/",
        ),
        ("public_url", "https://[2001:DB8:0::1]:0443", "https://[2001:db8::1]"),
        ("allowed_origins", "HTTP://App.example.org:80", ["http://app.example.org"]),
        ("allowed_origins", "https://app.example.org:80", ["https://app.example.org:80"]),
        ("allowed_origins", "https://stra\u00dfe.example", ["https://xn--strae-oqa.example"]),
        ("allowed_origins", "Capacitor://localhost,app://.", ["capacitor://localhost", "app://."]),
        ("allowed_origins", "*, App://Main", ["*", "app://main"]),
        ("allowed_hosts", "Chat.Example.org., b:8443", ["chat.example.org", "b"]),
        ("allowed_hosts", "b\u00fccher\u3002example, [::1]:80", ["xn--bcher-kva.example", "::1"]),
        ("trusted_proxies", "::FFFF:10.0.0.1, 2001:DB8::/32", ["10.0.0.1", "2001:db8::/32"]),
    ],
)
def test_hosts_and_origins_are_kept_as_they_are_compared(
    running: Server, key: str, value: str, kept: Any
) -> None:
    answer = running.post("/api/settings", {"key": key, "value": value})
    assert answer.status == 200 and answer.json["value"] == kept, answer
    assert running.request("DELETE", f"/api/settings/{key}").status == 200


def test_null_is_no_value(server: Server) -> None:
    for value in ("a token of the metrics", None):
        assert server.post("/api/settings", {"key": "metrics_token", "value": value}).status == 200
    for token in ("a token of the metrics", "None", "null"):
        assert server.get("/metrics", token=token).status == 401


def test_unknown_and_fixed_settings(make_server: Callable[..., Server]) -> None:
    server = make_server(ping_interval=30)
    unknown = server.post("/api/settings", {"key": "max_conections", "value": 1})
    assert unknown.code == "unknown_setting" and "max_connections" in unknown.json["detail"]
    fixed = server.post("/api/settings", {"key": "ping_interval", "value": 10})
    assert fixed.status == 409 and fixed.code == "setting_fixed"
    assert setting(server, "ping_interval")["editable"] is False
    assert server.post("/api/settings", {"key": "port", "value": 1}).code == "setting_fixed"
    for key in ("ping_interval", "port", "lan"):
        assert server.request("DELETE", f"/api/settings/{key}").code == "setting_fixed", key


def test_secrets_are_masked(make_server: Callable[..., Server]) -> None:
    server = make_server(metrics_token=METRICS_TOKEN)
    assert METRICS_TOKEN not in server.get("/api/settings").body.decode()
    assert setting(server, "metrics_token")["value"] == "********"


def test_a_metrics_token_is_one_that_a_header_can_bring(running: Server) -> None:
    for value in ("ölçümler için gizli", "a\nb", "a\x7f"):
        answer = running.post("/api/settings", {"key": "metrics_token", "value": value})
        assert answer.code == "invalid" and value not in answer.body.decode()


def test_what_is_shown_for_a_secret_does_not_replace_it(server: Server) -> None:
    """A program that reads all settings and sends them back keeps them."""
    for value, status in ((METRICS_TOKEN, 200), ("********", 422)):
        answer = server.post("/api/settings", {"key": "metrics_token", "value": value})
        assert answer.status == status
    assert "metrics_token" in answer.json["errors"][0]["message"]
    assert server.get("/metrics", token=METRICS_TOKEN).status == 200


@pytest.mark.parametrize("key", ["allowed_hosts", "jwt_audience", "rate_limit"])
@pytest.mark.parametrize(
    "value", [[None], [True], [1], [["a"]], [{}], {}, "a\0b", ["a\0b"]], ids=str
)
def test_what_no_setting_takes(running: Server, key: str, value: Any) -> None:
    answer = running.post("/api/settings", {"key": key, "value": value})
    assert answer.code == "invalid"
    assert answer.json["errors"][0]["message"].startswith("must be a text without NUL")


# Logs


def test_logs_filter_export_and_clear(server: Server) -> None:
    with server.stream():
        pass
    server.post("/api/settings", {"key": "x-note", "value": "=1+1"})
    server.request("GET", "/api/events?channel=sys:x")
    rows = server.get("/api/logs").json
    assert rows == sorted(rows, key=lambda row: -row["id"])
    assert {"id", "timestamp", "level", "message", "metadata"} == set(rows[0])
    connected = server.get("/api/logs?level=CONN").json
    assert connected and all(row["level"] == "CONN" for row in connected)
    changed = server.get("/api/logs?q=Setting").json
    assert [row["message"] for row in changed] == ["Setting changed"]
    assert changed[0]["metadata"]["by"] == "admin-token"
    page = server.get("/api/logs?limit=1")
    assert len(page.json) == 1 and 'rel="next"' in page.headers["link"]
    assert int(page.headers["x-total-count"]) >= len(rows)
    lines = server.get("/api/logs/export?format=ndjson").body.splitlines()
    assert {row["id"] for row in rows} <= {json.loads(line)["id"] for line in lines}
    table = list(csv.reader(io.StringIO(server.get("/api/logs/export").body.decode())))
    assert table[0] == ["id", "timestamp", "level", "message", "metadata"]
    assert len(table) >= len(rows) + 1
    assert server.request("DELETE", "/api/logs").json == {"success": True}
    left = server.get("/api/logs").json
    assert [row["message"] for row in left if row["level"] == "INFO"] == ["Event log cleared"]


def test_event_log_is_capped(tmp_path: Path) -> None:
    """Five thousand connects a second don't cost five thousand writes; the rest is counted."""
    import rtapp

    storage = rtapp.Storage(rtapp.SqliteEngine(tmp_path / "rtapp.db"))
    storage.start(lambda entries: None)
    journal = rtapp.Journal(storage)
    for n in range(5_000):
        journal.add("CONN", "Stream opened", n=n)
    journal.flush()
    rows = storage.read("SELECT message, metadata FROM event_logs ORDER BY id")
    assert len(rows) == rtapp.Journal.BUFFER + 1
    assert json.loads(rows[-1][1])["skipped"] == 5_000 - rtapp.Journal.BUFFER
    storage.stop()


# Statistics


def test_stats_count(server: Server) -> None:
    with server.stream("channel=x") as stream, server.stream():
        for n in range(5):
            server.publish(n, "channel=x")
        stream.take(5)
        found = server.get("/api/stats").json
        assert found["activeConnections"] == 2 and found["totalConnections"] == 2
        assert found["messagesSent"] == 5 and found["deliveries"] == 5
        assert found["publishLatencyMs"]["p99"] >= found["publishLatencyMs"]["p50"] > 0
        assert found["memoryBytes"] > 1e6 and found["databaseBytes"] > 0
        assert found["version"] and found["uptime"] >= 0
        assert found["nodes"][0]["connections"] == 2
        assert {"bytesSent", "messagesPerSecond", "deliveriesPerSecond", "cpuPercent"} <= set(found)
        assert {"videoParticipants", "activeVideoRooms"} <= set(found)
        assert found["maxConnections"] == 10_000 and found["errors"] == 0
        assert found["diskFreeBytes"] > 0 and (found["walBytes"] is None or found["walBytes"] > 0)
        assert "recent" not in found

        def recent() -> Any:
            return server.get("/api/stats?recent=1").json["recent"]

        wait_for(lambda: recent()[-1:] and recent()[-1]["messagesSent"] == 5, "a second after it")
        rows = recent()
        times = [row["timestamp"] for row in rows]
        assert times == sorted(set(times)) and rows[-1]["deliveries"] == 5
        assert rows[-1]["transports"] == {"sse": 2}
        assert rows[-1]["nodes"] == server.get("/api/stats").json["nodes"]
    assert isinstance(server.get("/api/stats/history?minutes=5").json, list)
    assert server.get("/api/stats/history?minutes=0").code == "invalid"


def test_every_minute_has_a_row_and_so_has_the_last_one(server: Server) -> None:
    server.publish(1)
    assert server.stop() == 0
    server.start()
    rows = server.get("/api/stats/history?minutes=5").json
    assert len(rows) == 1 and rows[0]["messagesSent"] == 1
    assert {"minute", "node", "activeConnections", "memoryBytes", "transports"} <= set(rows[0])
    (entry,) = server.get("/api/logs?level=MSG").json
    assert entry["metadata"] == {"messages": 1, "deliveries": 0}


def test_two_weeks_of_statistics(server: Server) -> None:
    import rtapp

    minute = int(time.time()) // 60 * 60_000
    change(
        server.database_url,
        "INSERT INTO stats_minutes WITH RECURSIVE n(i) AS"
        " (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 20999)"
        " SELECT ? - i * 60000, 'a \"node\"', '{\"messagesSent\":' || i || '}' FROM n",
        minute,
    )
    found = server.get("/api/stats/history?minutes=20160").json
    rows = [row for row in found if row["node"] == 'a "node"']
    assert 20_150 < len(rows) <= 20_160 and rows[-1]["minute"] == rtapp.iso(minute)
    assert [row["messagesSent"] for row in rows] == list(range(len(rows)))[::-1]
    assert rows[0].keys() == {"minute", "node", "messagesSent"}
    assert rows == sorted(rows, key=lambda row: row["minute"])


def test_dashboard_is_one_call(server: Server) -> None:
    with server.stream():
        server.publish({"a": 1})
        found = server.get("/api/admin/dashboard").json
    assert set(found) == {"stats", "connections", "messages", "logs", "rooms", "settings"}
    assert len(found["connections"]) == len(found["messages"]) == 1


def test_nodes(server: Server) -> None:
    with server.stream():
        (node,) = server.get("/api/nodes").json
    assert node["current"] is True and node["connections"] == 1 and node["name"]
    assert node["id"] == server.get("/api/stats").json["nodes"][0]["node"]
    assert node["startedAt"] <= node["heartbeatAt"]


def test_metrics(make_server: Callable[..., Server]) -> None:
    server = make_server(metrics_token=METRICS_TOKEN)
    with server.stream():
        server.publish(1)
        text = server.get("/metrics").body.decode()
        assert 'rtapp_live_connections{transport="sse"} 1.0' in text
        assert "rtapp_messages_total 1.0" in text
    assert server.get("/metrics", token=METRICS_TOKEN).status == 200
    assert server.get("/metrics", token=None).code == "unauthorized"
    assert server.get("/api/logs", token=METRICS_TOKEN).code == "forbidden"


# Presence


def test_presence(server: Server) -> None:
    with server.stream("channel=x&presence=1") as watcher:
        assert json.loads(watcher.next()["data"])["clientId"] == watcher.hello["clientId"]
        with server.stream("channel=x", headers={"X-Session": "p" * 22}) as first:
            client = first.hello["clientId"]
            joined = watcher.next()
            assert joined["event"] == "presence-join"
            assert json.loads(joined["data"]) == {
                "type": "presence-join",
                "channel": "x",
                "clientId": client,
                "username": "admin-token",
            }
            with server.stream("channel=x", headers={"X-Session": "p" * 22}):
                listed = server.get("/api/presence?channel=x").json
                assert [row["clientId"] for row in listed].count(client) == 1
                assert len(listed) == 2
            assert watcher.silent(0.4)  # a second connection of the same client is nobody new
        left = watcher.next()
        assert left["event"] == "presence-leave" and client in left["data"]
    assert server.get("/api/presence").code == "invalid"
    assert server.get("/api/presence?channel=room:x").code == "reserved_channel"


# Documents and pages


def test_openapi_describes_every_route(server: Server) -> None:
    import rtapp

    document = server.get("/api/openapi.json", token=None).json
    assert document["openapi"].startswith("3.1")
    assert rtapp.openapi() is rtapp.openapi(), "it is made once"
    for row in rtapp.ROUTES:
        path = re.sub(r"<(\w+)(:\w+)?>", r"{\1}", row.path)
        found = document["paths"][path][row.method.lower()]
        assert found["summary"] and found["x-role"] == row.role
    taken = document["paths"]["/api/events"]["get"]["parameters"]
    names = {"channel", "session", "lastEventId", "token", "Last-Event-ID"}
    assert names <= {p["name"] for p in taken}
    publish = document["paths"]["/api/broadcast"]["post"]
    assert set(publish["requestBody"]["content"]) == {"application/json", "application/x-ndjson"}
    for method, path, answer in (
        ("get", "/api/stats", server.get("/api/stats")),
        ("get", "/metrics", server.get("/metrics")),
        ("get", "/api/logs/export", server.get("/api/logs/export")),
        ("post", "/api/video/rooms", server.post("/api/video/rooms", {"name": "x"})),
    ):
        described = document["paths"][path][method]["responses"][str(answer.status)]["content"]
        assert answer.headers["content-type"].partition(";")[0] in described
    wrong = server.request("PUT", "/api/events", {})
    assert (wrong.code, wrong.headers["allow"]) == ("method_not_allowed", "GET, HEAD, OPTIONS")


def test_pages_and_immutable_files(server: Server) -> None:
    page = server.get("/", token=None)
    assert page.headers["cache-control"] == "no-cache"
    policy = page.headers["content-security-policy"]
    assert "unsafe" not in policy and "default-src 'none'" in policy
    found = re.search(rb'"(static/[0-9a-f]{12}/css/base.css)"', page.body)
    assert found
    style = server.get("/" + found[1].decode(), token=None)
    assert "immutable" in style.headers["cache-control"]
    assert style.headers["content-type"].startswith("text/css")
    docs = server.get("/api/docs", token=None)
    assert b'"../static/' in docs.body


@pytest.mark.parametrize("path", ["/static/js/rt.js", "/socket.io/socket.io.js"])
def test_a_file_that_the_client_has_is_not_sent_again(running: Server, path: str) -> None:
    whole = running.get(path, token=None, headers={"Accept-Encoding": "gzip"})
    tag = whole.headers["etag"]
    assert whole.headers["cache-control"] == "no-cache" and tag.startswith('W/"')
    for known in (tag, tag[2:], f'"x", {tag}', "*"):
        again = running.get(path, token=None, headers={"If-None-Match": known})
        assert (again.status, again.body) == (304, b""), known
        assert (again.headers["etag"], again.headers["vary"]) == (tag, "Accept-Encoding")
        assert {"content-length", "content-type"}.isdisjoint(again.headers)
    for known in ('W/"x"', tag[3:-1], ""):
        assert running.get(path, token=None, headers={"If-None-Match": known}).body


@pytest.mark.parametrize(
    ("accepted", "packed"),
    [
        ("gzip, deflate, br", True),
        ("br;q=1, GZIP;q=0.5", True),
        ("*", True),
        ("gzip;q=0, *", False),
        ("*;q=0.000", False),
        ("br, deflate", False),
        ("", False),
    ],
)
def test_files_are_gzipped_for_who_takes_that(running: Server, accepted: str, packed: bool) -> None:
    for path in ("/", "/static/js/rt.js", "/socket.io/socket.io.js"):
        plain = running.get(path, token=None)
        found = running.get(path, token=None, headers={"Accept-Encoding": accepted})
        assert found.headers["vary"] == plain.headers["vary"] == "Accept-Encoding"
        assert (found.headers.get("content-encoding") == "gzip") is packed
        body = gzip.decompress(found.body) if packed else found.body
        assert body == plain.body and int(found.headers["content-length"]) == len(found.body)
    takes = {"Accept-Encoding": "gzip"}
    for path in ("/static/img/icon.png", "/api/stats"):  # packed already; may hold a secret
        assert "content-encoding" not in running.get(path, headers=takes).headers


# Commands


@pytest.mark.sqlite
def test_a_backup_is_made_while_it_runs_and_restored_while_not(
    server: Server, tmp_path: Path
) -> None:
    server.publish("kept")
    copy = tmp_path / "copy.db"
    made = server.command("backup", str(copy))
    assert made.code == 0, made
    again = server.command("backup", str(copy))
    assert again.code == 2 and "exists already" in again.stderr
    server.publish("lost by the restore")
    with server.stream() as stream:
        refused = server.command("restore", str(copy))
        assert refused.code == 2 and len(refused.stderr.splitlines()) == 1, refused
        assert "in use by another rtapp" in refused.stderr
        contents = [row["content"] for row in server.get("/api/messages").json]
        assert contents == ["lost by the restore", "kept"], "the database is untouched"
        server.publish("goes on")
        assert stream.values(1) == ["goes on"]
    assert server.stop() == 0
    itself = server.command("restore", str(server.data / "rtapp.db"))
    assert itself.code == 2 and "is the database itself" in itself.stderr, itself
    done = server.command("restore", str(copy))
    assert done.code == 0, done
    server.start()
    with server.stream(headers={"Last-Event-ID": stream.last_id}) as stream:
        assert stream.hello["recovered"] is False
        assert stream.next()["event"] == "reset"
        assert [row["content"] for row in server.get("/api/messages").json] == ["kept"]
        assert server.publish("new").json["message"]["id"] == 2
        assert stream.values(1) == ["new"]
    server.kill()
    server.start()
    with server.stream(headers={"Last-Event-ID": stream.last_id}) as stream:
        assert stream.hello["recovered"] is True


@pytest.mark.sqlite
def test_a_backup_over_http(server: Server, tmp_path: Path) -> None:
    server.publish("kept")
    copy = tmp_path / "copy.db"
    copy.write_bytes(server.get("/api/backup").body)
    assert rows_of(f"sqlite:///{copy}", "SELECT COUNT(*) FROM messages") == [(1,)]
    assert server.stop() == 0
    assert not list(server.data.glob("*.tmp"))
    done = server.command("restore", str(copy))
    assert done.code == 0, done
    server.start()
    assert [row["content"] for row in server.get("/api/messages").json] == ["kept"]


def test_who_has_not_installed_its_packages_is_told_how() -> None:
    bare = [sys.executable, "-S", "-E", "rtapp.py"]  # without what is installed beside Python
    done = subprocess.run(bare, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert "No module named 'gevent'" in line and "pip install -r requirements.txt" in line


def test_restore_refuses_what_is_no_backup(tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    other.write_bytes(b"this is no database, however long it may be" * 100)
    for path in (other, tmp_path / "missing.db"):
        done = run_program("restore", str(path), "--data", str(tmp_path / "data"))
        assert done.code == 2 and len(done.stderr.splitlines()) == 1, done


def test_a_folder_or_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    for name in ("public", "app"):
        given = (f"--{name}", "nowhere", "--port", "0", "--data", str(tmp_path))
        done = run_program("serve", *given)
        assert done.code == 2 and done.stderr.startswith(f"rtapp: {name}: there is no"), done
        assert len(done.stderr.splitlines()) == 1


def test_nothing_is_copied_from_a_database_that_is_not_there(tmp_path: Path) -> None:
    source, given = tmp_path / "none.db", {"RTAPP_DATA": str(tmp_path)}
    told = ("--from", f"sqlite:///{source}", "--to", "postgresql://127.0.0.1:1/none")
    done = run_program("migrate", *told, env=given)
    assert done.code == 2 and f"There is no database at {source}" in done.stderr, done
    assert not source.exists()


def test_a_command_takes_its_own_options_only(tmp_path: Path) -> None:
    for given in (
        ("user", "list", "--port", "3"),
        ("user", "list", "--role", "admin"),
        ("token", "revoke", "x", "--days", "3"),
        ("backup", "x.db", "--lan"),
        ("serve", "extra"),
    ):
        done = run_program(*given, env={"RTAPP_DATA": str(tmp_path)})
        assert done.code == 2 and "unrecognized arguments: " in done.stderr, done
    listed = run_program("--data", str(tmp_path), "user", "list")  # a command behind its options
    assert listed.stderr.startswith("rtapp: There is no database"), listed
    for given in (("user",), ("user", "ad"), ("tokens",)):
        done = run_program(*given)
        assert done.code == 2 and done.stderr.startswith("usage: rtapp"), done


@pytest.mark.parametrize(
    "number", ["１", "٣", "1e3", "1.5", "0x10", "1_0", "+1", "- 1", "one", "", "65536", "-1"]
)
def test_a_number_is_of_plain_digits_and_within_its_bounds(tmp_path: Path, number: str) -> None:
    done = run_program("serve", f"--port={number}", "--data", str(tmp_path))
    assert done.code == 2 and re.fullmatch(r"rtapp: port: .* is not .*\.\n", done.stderr), done


@pytest.mark.parametrize("number", ["３", "1_0", "+1", "1e2", "nan", "inf", "9" * 400])
def test_a_fraction_is_of_plain_digits(tmp_path: Path, number: str) -> None:
    given = ("--port=0", f"--set=ping_interval={number}", "--data", str(tmp_path))
    done = run_program("serve", *given)
    assert done.code == 2 and "is not a number in plain digits" in done.stderr, done


@pytest.mark.skipif(sys.platform != "linux", reason="how signals are given on")
@pytest.mark.parametrize("module", ["gevent.server", "websockets"])
def test_an_early_end_is_without_a_word(tmp_path: Path, module: str) -> None:
    """As by Ctrl-C while the program is still imported; `-v` names each module that is."""
    program = (sys.executable, "-v", str(ROOT / "rtapp.py"), "doctor", "--data", str(tmp_path))
    process = subprocess.Popen(
        ["env", "--default-signal=INT", *program],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert any(line.startswith(f"import '{module}'") for line in process.stderr)
    process.send_signal(signal.SIGINT)
    rest = process.communicate(timeout=PATIENCE)[1]
    assert "Traceback" not in rest and "KeyboardInterrupt" not in rest, rest[-2_000:]
    assert process.returncode == -signal.SIGINT


@pytest.mark.parametrize(
    "name, near", [("RTAPP_PROT", "RTAPP_PORT"), ("RTAPP_ACCES", "RTAPP_ACCESS")]
)
def test_an_unknown_name_in_the_environment_is_told(tmp_path: Path, name: str, near: str) -> None:
    done = run_program("serve", "--data", str(tmp_path), env={name: "0"})
    assert done.code == 2, done
    what = f"rtapp: {name} in the environment: there is no such setting; {near} is the nearest."
    assert done.stderr.splitlines() == [what]
    # What Docker and Kubernetes say of a service of that name, and a client's own token.
    for known in ("RTAPP_PORT_8000_TCP", "RTAPP_SERVICE_HOST", "RTAPP_TOKEN"):
        given = {known: "tcp://10.0.0.1:8000", "RTAPP_PORT": "tcp://10.0.0.1:8000"}
        told = run_program("user", "list", "--data", str(tmp_path), env=given).stderr
        assert told.startswith("rtapp: There is no database"), told


@pytest.mark.sqlite
def test_tokens(server: Server) -> None:
    command = server.command
    full = command("token", "create", "--name", "full").stdout.strip()
    news = ("--scope", "subscribe", "--channel", "news/*")
    narrow = command("token", "create", "--name", "narrow", *news).stdout.strip()
    assert server.publish(1, token=full).status == 200
    assert server.get("/api/logs", token=full).code == "forbidden"
    assert server.post("/api/broadcast", 1, token=narrow).code == "forbidden"
    assert server.get("/api/messages", token=narrow).code == "forbidden"
    assert server.get("/api/messages?channel=other", token=narrow).code == "forbidden"
    assert server.get("/api/events?channel=other", token=narrow).code == "forbidden"
    with server.stream("channel=news/a", token=narrow) as stream:
        server.publish("global: not for a narrow token")
        server.publish("news", "channel=news/a")
        assert stream.values(1) == ["news"]
    listed = command("token", "list").stdout
    assert "narrow: subscribe; news/*" in listed and narrow not in listed
    assert command("token", "create", "--name", "full").code == 2
    for days in ("0", "-1", "nan", "1e300"):
        refused = command("token", "create", "--name", "new", "--days", days)
        assert refused.code == 2 and "--days" in refused.stderr
    assert command("token", "revoke", "full").code == 0
    assert server.get("/api/messages", token=full).code == "unauthorized"
    assert command("token", "revoke", "full").code == 2
    assert narrow not in str(rows_of(server.database_url, "SELECT * FROM access_tokens"))


def test_doctor(server: Server, tmp_path: Path) -> None:
    fine = server.command("doctor", "--port", str(server.port))
    assert fine.code == 0, fine
    assert "an rtapp is listening" in fine.stdout and "FAIL" not in fine.stdout
    fresh = run_program("doctor", "--data", str(tmp_path / "new"), "--port", "0")
    assert fresh.code == 0 and "The first start makes it." in fresh.stdout
    assert not (tmp_path / "new").exists()
    exposed = run_program("doctor", "--host", "0.0.0.0", "--set", "access=open", "--port", "0")
    assert "warn  exposure: whoever reaches" in exposed.stdout
    server.post("/api/settings", {"key": "access", "value": "open"}, token=ADMIN)
    saved = server.command("doctor", "--host", "0.0.0.0", "--port", "0")
    assert "warn  exposure: whoever reaches" in saved.stdout, saved


@pytest.mark.sqlite
@pytest.mark.skipif(os.name == "nt", reason="the shell's redirections")
@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        ("doctor | true", 141, ""),  # output that nobody reads on
        ("user add eve <&-", 2, "rtapp: The password is read from the input, which is closed.\n"),
        ("user list >&-", 0, ""),
        ("doctor --port 0 >/dev/full", 2, "rtapp: The output: No space left on device.\n"),
        ("restore pipe", 2, "rtapp: There is no file pipe.\n"),
    ],
)
def test_commands_whose_input_or_output_is_closed(
    server: Server, command: str, code: int, said: str
) -> None:
    os.mkfifo(server.data / "pipe")
    given, mark, rest = command.partition(" |")
    run = f'{sys.executable} {ROOT / "rtapp.py"} {given} --data "{server.data}"'
    script = f"{run}{mark}{rest}; exit ${{PIPESTATUS[0]}}"
    shell = ["bash", "-c", script]
    ended = subprocess.run(
        shell,
        env=server.env,
        cwd=server.data,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert (ended.returncode, ended.stderr) == (code, said)


@pytest.mark.sqlite
@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_an_output_that_lacks_letters_has_their_numbers(server: Server, encoding: str) -> None:
    """As where Windows writes to a file, or a service has no locale."""
    given = {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    target = server.data / "yedek ş.db"
    told = ("backup", str(target), "--data", str(server.data))
    done = run_program(*told, env=given, cold=True)
    assert done.code == 0 and "yedek \\u015f.db" in done.stdout and target.exists(), done


@pytest.mark.sqlite
@pytest.mark.skipif(os.name == "nt", reason="links, and what a name may be")
@pytest.mark.parametrize("odd", ["loop", "n" * 300, "loop/within"])
def test_commands_say_what_is_wrong_with_a_path(server: Server, odd: str) -> None:
    path = server.data / odd
    (server.data / "loop").symlink_to("loop")
    for given in (
        ["restore", str(path)],
        ["backup", str(path)],
        ["user", "list"],
        ["token", "list"],
    ):
        of = str(path if len(given) == 2 and given[1] == "list" else server.data)
        ended = run_program(*given, "--data", of, env=server.env)
        assert ended.code == 2 and re.fullmatch(r"rtapp: .*\.\n", ended.stderr), (given, ended)


def test_a_database_url_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    for url in ("postgresql://[::1", "postgresql://user:secret@[/name"):
        ended = run_program("user", "list", "--data", str(tmp_path), "--database", url)
        said = "rtapp: The database URL is not of the form postgresql://USER@HOST/NAME.\n"
        assert (ended.code, ended.stderr) == (2, said)


@pytest.mark.sqlite
def test_doctor_on_broken_installations(server: Server, tmp_path: Path) -> None:
    server.publish("x" * 50_000)
    server.stop()
    path = server.data / "rtapp.db"
    whole = path.read_bytes()
    path.write_bytes(b"garbage!" * 1000 + whole[8000:])
    broken = server.command("doctor", "--port", "0")
    assert broken.code == 1 and "restore BACKUP" in broken.stdout, broken
    path.write_bytes(whole)
    log = server.data / "rtapp.db-wal"
    log.touch()
    os.truncate(log, 300_000_000)  # sparse
    grown = server.command("doctor", "--port", "0")
    assert grown.code == 0 and "write-ahead log" in grown.stdout, grown
    log.unlink()
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        foreign = server.command("doctor", "--port", port)
        assert foreign.code == 1 and "--port 0" in foreign.stdout
    os.utime(path, (4e9, 4e9))
    clock = server.command("doctor", "--port", "0")
    assert clock.code == 1 and "time synchronization" in clock.stdout
    files = run_program(
        "doctor", "--data", str(tmp_path), "--port", "0", "--set", "max_connections=1000000"
    )
    import resource

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < 1_000_000:
        assert files.code == 1 and "ulimit -n" in files.stdout
    wrong = run_program("doctor", "--set", "nonsense=1")
    assert wrong.code == 1 and "no such setting" in wrong.stdout
    file = tmp_path / "file"
    file.write_text("")
    folder = run_program("doctor", "--data", str(file / "sub"), "--port", "0")
    assert folder.code == 1 and "FAIL" in folder.stdout


def test_help_names_every_command() -> None:
    text = run_program("--help", cold=True).stdout
    for name in ("serve", "backup", "restore", "token", "doctor"):
        assert name in text
    assert ADMIN not in text


def test_first_start_prints_a_link(make_server: Callable[..., Server]) -> None:
    server = make_server(env={"RTAPP_ADMIN_TOKEN": None})
    assert setup_token(server)
    assert any("30 minutes" in line for line in server.output if "#setup=" in line)


# What is downloaded


@pytest.mark.sqlite
def test_a_head_of_a_backup_leaves_no_file(server: Server) -> None:
    """RFC 9110, 9.3.2: the same head, and nothing else."""
    head = server.request("HEAD", "/api/backup")
    assert head.status == 200 and int(head.headers["content-length"]) > 0 and not head.body
    assert server.get("/api/backup").status == 200
    wait_for(lambda: not [*server.data.glob("backup-*.tmp")], "no file left")


# Loopback


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_localhost_is_either_loopback(make_server: Callable[..., Server], host: str) -> None:
    """Some programs take the one address of the name `localhost`, some the other."""
    server = make_server(host=host)
    for address in ("127.0.0.1", "::1"):
        with socket.create_connection((address, server.port), PATIENCE) as sock:
            sock.sendall(f"GET /healthz HTTP/1.1\r\nHost: localhost:{server.port}\r\n\r\n".encode())
            assert sock.recv(1_000).startswith(b"HTTP/1.1 200 ")
    assert server.stop() == 0


def test_what_needs_a_look_is_told_with_the_statistics() -> None:
    """The rules; that a page and a channel tell of them is test_dashboard's."""

    def told(errors: int = 2, disk: float = 5e9, wal: int | None = 4_000_000, **now: int) -> Any:
        nodes = [rtapp.NodeLoad(*each) for each in now.items()]
        fields = {"errors": errors, "disk_free_bytes": disk, "wal_bytes": wal, "nodes": nodes}
        moment: Any = SimpleNamespace(max_connections=100, **fields)
        found = rtapp.warnings_of(moment, recent)
        return [tuple(filter(None, (one.kind, one.value, one.node))) for one in found]

    recent: list[Any] = []
    assert told(one=89, errors=9) == told(one=89, wal=None) == []  # it has just begun
    for errors in (2, 4):
        recent.append(SimpleNamespace(errors=errors, nodes=[rtapp.NodeLoad("two", 5)]))
    assert told(two=1) == []
    assert told(two=89, three=90) == [("connections", 0.9, "three")]
    assert told(two=1, errors=5) == [("errors", 3)]
    assert told(two=1, disk=9e8) == [("disk", 9e8)]
    assert told(two=1, wal=300_000_000) == [("wal", 300_000_000)]
    assert told(one=1) == [("node", "two")]


def test_another_program_on_the_second_loopback(make_server: Callable[..., Server]) -> None:
    port = free_port()
    with socket.create_server(("::1", port), family=socket.AF_INET6):
        server = make_server(port=port)
        assert server.port == port and server.get("/healthz").status == 200


def test_a_saved_certificate_is_used_from_the_next_start_on(
    make_server: Callable[..., Server], certificate: Any
) -> None:
    server = make_server()
    for key, value in certificate.settings.items():
        saved = server.post("/api/settings", {"key": key, "value": value})
        assert saved.json["restart"] is True and saved.json["value"] == value
    assert server.get("/healthz").status == 200
    assert server.stop() == 0
    server.start()
    assert server.request("GET", "/healthz", tls=certificate.trusting).status == 200
