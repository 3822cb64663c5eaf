"""Faults, injected: a killed process, a full disk, a damaged file, a start that can't be.

What a publisher got an answer for is there afterwards, once, for everybody.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from websockets.exceptions import ConnectionClosed

import rtapp
from conftest import Certificate
from support import (
    ADMIN,
    AUTH,
    LONG,
    NDJSON,
    PATIENCE,
    STOPPED,
    Ended,
    Publisher,
    Server,
    Stream,
    Swarm,
    change,
    get_request,
    hear_io,
    join_io,
    keep_alive,
    number,
    open_io,
    query_database,
    rows_of,
    run_program,
    sqlite_url,
    wait_for,
)

# SIGKILL


class Listener:
    """A subscriber that survives the server: it resumes from the last id that it got."""

    def __init__(self, server: Server, query: str) -> None:
        self.server = server
        self.query = query
        self.got: list[tuple[int, Any]] = []
        self.position: str | None = None
        self.recovered: list[bool] = []
        self.thread: threading.Thread | None = None

    def listen(self) -> None:
        """Read until the connection ends."""
        headers = {"Last-Event-ID": self.position} if self.position else {}
        stream = Stream(self.server.port, self.query, headers=headers)
        hello = stream.next()
        self.position = self.position or hello["id"]
        self.recovered.append(json.loads(hello["data"])["recovered"])
        self.thread = threading.Thread(target=self._read, args=(stream,), daemon=True)
        self.thread.start()

    def _read(self, stream: Stream) -> None:
        with stream, contextlib.suppress(OSError, EOFError):
            while True:
                event = stream.next()
                assert event.get("event") in (None, "ping"), event
                self.position = event["id"]
                if event.get("event") is None:
                    self.got.append((number(event["id"]), json.loads(event["data"])))


def test_killed_while_publishing(make_server: Callable[..., Server]) -> None:
    """Every acknowledged message arrives once, in order; others perhaps, but alike for all."""
    server = make_server()
    listeners = [Listener(server, "channel=x") for _ in range(3)]
    acknowledged: dict[int, str] = {}
    for round_ in range(50 if LONG else 5):
        for listener in listeners:
            listener.listen()
        publishers = [Publisher(server.port, f"{round_}.{n}", "channel=x") for n in range(4)]
        wait_for(
            lambda some=publishers: all(len(p.acknowledged) >= 15 for p in some),
            "some messages to be acknowledged",
        )
        server.kill()
        for publisher in publishers:
            publisher.join(PATIENCE)
            assert not set(acknowledged) & set(publisher.acknowledged), "an id was used again"
            assert not publisher.refused
            acknowledged.update(publisher.acknowledged)
        for listener in listeners:
            assert listener.thread is not None
            listener.thread.join(PATIENCE)
        server.start()
    for listener in listeners:
        listener.listen()
    last = server.publish("the last", "channel=x").json["message"]["id"]
    for listener in listeners:
        wait_for(lambda one=listener: one.got and one.got[-1][0] == last, "the last message")
    first = listeners[0]
    ids = [i for i, _ in first.got]
    assert ids == sorted(set(ids)), "once, in order"
    assert acknowledged.items() <= dict(first.got).items()
    assert len({value for _, value in first.got}) == len(first.got), "a message came twice"
    for listener in listeners:
        assert listener.got == first.got
        assert listener.recovered == [False] + [True] * (len(listener.recovered) - 1)


@pytest.mark.sqlite
def test_killed_while_a_backup_is_downloaded(server: Server) -> None:
    """The copy, which holds everything, is gone after the next start."""
    server.publish_lines(["x" * 500_000] * 20)
    (server.data / "backup-mine.db").touch()
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        sock.settimeout(PATIENCE)
        sock.connect(("127.0.0.1", server.port))
        sock.sendall(get_request("/api/backup"))
        assert sock.recv(100).startswith(b"HTTP/1.1 200 ")
        assert list(server.data.glob("backup-*.tmp"))
        server.kill()
    server.start()
    assert [path.name for path in server.data.glob("backup-*")] == ["backup-mine.db"]


# SIGTERM and SIGINT


def test_terminated_while_publishing(make_server: Callable[..., Server]) -> None:
    """Exit 0 in time, and all that was acknowledged is there."""
    server = make_server()
    publishers = [Publisher(server.port, str(n)) for n in range(4)]
    with server.stream(), Stream(server.port, rcvbuf=4_096):
        wait_for(lambda: all(len(p.acknowledged) > 10 for p in publishers), "some messages")
        assert server.stop() == 0
    for publisher in publishers:
        publisher.join(PATIENCE)
    stored = dict(query_database(server.data, "SELECT id, content FROM messages"))
    for publisher in publishers:
        for number_, value in publisher.acknowledged.items():
            assert json.loads(stored[number_]) == value
    assert query_database(server.data, "SELECT value FROM meta WHERE key = 'clean'") == [("1",)]
    assert not (server.data / "rtapp.db-wal").exists(), "the log was written back"


def refuses_connections(port: int) -> bool:
    """Whether nobody listens on a port."""
    with socket.socket() as sock:
        sock.settimeout(PATIENCE)
        return sock.connect_ex(("127.0.0.1", port)) != 0


@contextlib.contextmanager
def database_locked(server: Server) -> Iterator[None]:
    """Another program holds the database's write lock."""
    with contextlib.closing(
        sqlite3.connect(server.data / "rtapp.db", timeout=PATIENCE, isolation_level=None)
    ) as database:
        database.execute("BEGIN IMMEDIATE")
        yield


def test_a_second_interrupt_ends_at_once(server: Server) -> None:
    """The first one waits for a database that another program holds."""
    with database_locked(server):
        assert server.process is not None
        server.process.send_signal(signal.SIGINT)
        wait_for(lambda: refuses_connections(server.port), "the listener to close")
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(PATIENCE) == 130


def test_a_database_that_is_held_does_not_hold_up_the_end(server: Server) -> None:
    with database_locked(server), server.stream() as stream:
        assert server.stop() == 0
        assert stream.ended()


def test_idle_connections_do_not_hold_up_the_end(
    make_server: Callable[..., Server], certificate: Certificate
) -> None:
    """They are let go at once, not when the time of those who are being answered is over. The
    first one hasn't even said whether it speaks TLS."""
    server = make_server(**certificate.settings)

    def sent(data: bytes) -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
        sock.sendall(data)
        return sock

    post = f"POST /api/broadcast HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {ADMIN}\r\n"
    post += "Content-Type: application/json\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
    get = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(sent(get if n else b"")) for n in range(21)]
        assert all(sock.recv(1_000).startswith(b"HTTP/1.1 200 ") for sock in idle[1:])
        streams = [stack.enter_context(server.stream()) for _ in range(3)]
        busy = stack.enter_context(sent(post.encode()))
        assert busy.recv(100).startswith(b"HTTP/1.1 100 ")  # it is at its body
        assert server.process is not None
        server.process.send_signal(signal.SIGTERM)
        assert all(sock.recv(1) == b"" for sock in idle)
        busy.sendall(b"12345")
        assert busy.recv(100).startswith(b"HTTP/1.1 200 ")
        assert server.process.wait(STOPPED) == 0
        for stream in streams:
            assert stream.values(1) == [12345]
            assert stream.ended() and "retry" in stream.events[-1]
    written = "SELECT count(*) FROM event_logs WHERE message = 'Server stopped'"
    assert rows_of(server.database_url, written) == [(1,)]


def test_interrupted_it_ends_as_it_should(server: Server) -> None:
    with server.stream() as stream:
        assert server.process is not None
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(PATIENCE) == 0
        assert stream.ended() and "retry" in stream.events[-1]


# A full disk


@contextlib.contextmanager
def no_room_for(server: Server) -> Iterator[None]:
    """The system lets the server write no file beyond 1 KB: for it the disk is full."""
    limit = resource.RLIMIT_FSIZE
    before = resource.prlimit(server.pid, limit)
    resource.prlimit(server.pid, limit, (1_024, before[1]))
    try:
        yield
    finally:
        resource.prlimit(server.pid, limit, before)


def fill(server: Server) -> int:
    """Publish until it is refused; how many were taken."""
    taken = 0
    while True:
        answer = server.post("/api/broadcast", f"fill {taken}")
        if answer.status != 200:
            assert answer.status == 503 and answer.code == "storage_unavailable"
            assert int(answer.headers["retry-after"]) >= 1
            return taken
        taken += 1
        assert taken < 100_000, "the disk never filled up"


def test_full_disk(server: Server) -> None:
    """Publishers are told to come again, subscribers stay, and nothing acknowledged is lost."""
    with server.stream() as stream:
        server.publish("before")
        with no_room_for(server):
            taken = fill(server)
            assert server.get("/readyz").status == 503
            assert server.get("/healthz").status == 200
            batch = server.post("/api/broadcast", b"1\n2\n", headers=NDJSON)
            once = server.post("/api/broadcast", 1, headers={"Idempotency-Key": "k"})
            topics = server.post(
                "/api/events/topics", {"session": stream.hello["session"], "add": ["x"]}
            )
            assert [a.code for a in (batch, once, topics)] == ["storage_unavailable"] * 3
            assert server.get("/api/messages").status == 200, "what is there can be read"
            with server.stream(headers={"Last-Event-ID": stream.hello["lastEventId"]}) as late:
                assert late.values(1 + taken)[0] == "before"
            server.publish("never stored", "volatile=1")
        server.publish("after")
        again = server.post("/api/broadcast", 1, headers={"Idempotency-Key": "k"})
        assert again.status == 200
        assert server.get("/readyz").status == 200
        fills = [f"fill {n}" for n in range(taken)]
        assert stream.values(4 + taken) == ["before", *fills, "never stored", "after", 1]
    server.kill()
    server.start()
    contents = [message["content"] for message in server.get("/api/messages?limit=1000").json]
    assert contents[::-1] == ["before", *fills, "after", 1]


def test_what_recovery_could_not_write_is_written_later(
    make_server: Callable[..., Server],
) -> None:
    """Rooms that were joined, and when the connection was lost, while the disk was full."""
    server = make_server(socketio_recovery_seconds=120)
    ws, answer = join_io(server)

    def row() -> Any:
        sql = "SELECT state, left_at FROM socket_sessions WHERE client_id = ?"
        state, left_at = query_database(server.data, sql, answer["sid"])[0]
        return json.loads(state)["channels"], left_at

    with no_room_for(server):
        fill(server)
        ws.send('42["join","news"]')
        wait_for(lambda: server.get("/api/presence?channel=news").json, "the room")
        with open_io(server) as late:
            late.send(f"40{json.dumps(AUTH)}")
            with pytest.raises(ConnectionClosed):  # so that it comes back by itself
                late.recv(PATIENCE)
        ws.close()
        wait_for(lambda: not server.get("/api/connections").json, "its end")
        time.sleep(3)  # it is tried every second
        assert row() == (["*"], None)
    wait_for(lambda: server.get("/readyz").status == 200, "the disk")
    wait_for(lambda: row()[1], "the loss to be written")
    assert sorted(row()[0]) == ["*", "c/news"]
    ws, again = join_io(server, {**AUTH, "pid": answer["pid"]})
    assert again == answer
    server.publish("missed", "channel=news")
    while "missed" not in hear_io(ws):
        pass
    ws.close()


def test_full_disk_is_told_to_the_operator(server: Server) -> None:
    """Whoever looks at the output or the event log learns why publishing fails."""
    said = len(server.output)
    with no_room_for(server):
        fill(server)
        wait_for(lambda: server.output[said:], "a word on the output")
    server.publish("it works again")
    wait_for(
        lambda: query_database(
            server.data, "SELECT 1 FROM event_logs WHERE level IN ('WARN', 'ERROR')"
        ),
        "a word in the event log",
    )


def test_ready_again_by_itself(server: Server) -> None:
    """A load balancer sends nothing while /readyz says no, so that can't wait for a publish."""
    with server.stream():
        wait_for(
            lambda: query_database(
                server.data, "SELECT 1 FROM event_logs WHERE message = 'Stream opened'"
            ),
            "the event log to be written: nothing waits",
        )
        with no_room_for(server):
            fill(server)
            assert server.get("/readyz").status == 503
        wait_for(lambda: server.get("/readyz").status == 200, "/readyz")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root, and a system that permits it")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_small_disk_fills_up(small_disk: Path) -> None:
    """A real one: it fills by publishing; with room again, publishing goes on."""
    with Server(small_disk / "data") as server:
        ballast = small_disk / "ballast"
        ballast.write_bytes(b"x" * 1_300_000)  # the room that the start needs to copy the log
        with server.stream() as stream:
            values = []
            while (answer := server.post("/api/broadcast", "x" * 20_000)).status == 200:
                values.append(answer.json["message"]["id"])
            assert answer.code == "storage_unavailable"
            assert server.get("/readyz").status == 503
            ballast.unlink()
            wait_for(lambda: server.post("/api/broadcast", "after").status == 200, "room")
            got = [number(event["id"]) for event in stream.take(len(values) + 1)]
            assert got[:-1] == values and got[-1] > values[-1]
        server.kill()
        server.start()
        stored = query_database(server.data, "SELECT id FROM messages ORDER BY id")
        assert [i for (i,) in stored] == got


# A start that can't be


def told(ended: Ended, *words: str) -> str:
    """The one sentence of a start that failed; fails unless it holds the words."""
    assert ended.code == 2, ended
    lines = ended.stderr.strip().split("\n")
    assert len(lines) == 1, ended.stderr
    sentence = lines[0]
    assert sentence.startswith("rtapp: ") and sentence.endswith("."), sentence
    assert "Traceback" not in sentence and "Errno" not in sentence, sentence
    for word in words:
        assert word in sentence, sentence
    print(sentence)
    return sentence


@pytest.fixture
def used(tmp_path: Path) -> Path:
    """A data folder that a server has used, with 2,000 messages in it."""
    with Server(tmp_path / "used") as server:
        server.publish_lines(f"message {n}" * 10 for n in range(2_000))
        assert server.stop() == 0
    return tmp_path / "used"


def start(folder: Path, *arguments: str, **env: str | None) -> Ended:
    """Start the program on a free port; it must end by itself."""
    return run_program("--port", "0", "--data", str(folder), *arguments, env=env or None)


@pytest.mark.parametrize("where", ["header", "middle", "cut", "text"])
def test_damaged_database(used: Path, where: str) -> None:
    path = used / "rtapp.db"
    content = bytearray(path.read_bytes())
    if where == "header":
        content[:100] = os.urandom(100)
    elif where == "middle":
        half = len(content) // 2
        content[half : half + 20_000] = os.urandom(20_000)
    elif where == "cut":
        del content[len(content) // 2 :]
    else:
        content = bytearray(b"This is not a database.\n" * 100)
    path.write_bytes(content)
    told(start(used), str(path), "damaged", "restore a backup")
    assert path.read_bytes() == bytes(content), "it is left as it was, for whoever mends it"


def change_meta(folder: Path, key: str, value: str | None) -> None:
    """Change a fact about a database that nobody uses."""
    if value is None:
        change(sqlite_url(folder), "DELETE FROM meta WHERE key = ?", key)
    else:
        change(sqlite_url(folder), "UPDATE meta SET value = ? WHERE key = ?", value, key)


def test_newer_database(used: Path) -> None:
    change_meta(used, "schema_version", "99")
    assert ".bak" not in told(start(used), str(used / "rtapp.db"), "99", "newer")
    copy = used / f"rtapp.db.v{len(rtapp.MIGRATIONS)}.bak"
    copy.touch()
    told(start(used), "99", str(copy))
    assert query_database(used, "SELECT value FROM meta WHERE key = 'schema_version'") == [("99",)]


@pytest.mark.parametrize("version", [None, "", "one", "-1"])
def test_database_without_a_sensible_version(used: Path, version: str | None) -> None:
    change_meta(used, "schema_version", version)
    told(start(used), str(used / "rtapp.db"))


def test_another_programs_database(tmp_path: Path) -> None:
    change(sqlite_url(tmp_path), "CREATE TABLE messages (theirs TEXT)")
    told(start(tmp_path), str(tmp_path / "rtapp.db"))
    assert query_database(tmp_path, "SELECT count(*) FROM sqlite_master") == [(1,)]


def test_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    told(start(tmp_path / "file"), str(tmp_path / "file"))
    told(start(tmp_path / "file" / "below"), str(tmp_path / "file"))


def test_database_that_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "rtapp.db").mkdir()
    told(start(tmp_path), str(tmp_path / "rtapp.db"))


def test_lock_that_can_not_be_made(tmp_path: Path) -> None:
    """It isn't another rtapp that is in the way, so the sentence must not say so."""
    (tmp_path / "rtapp.lock").mkdir()
    sentence = told(start(tmp_path), str(tmp_path))
    assert "another rtapp" not in sentence


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_that_is_not_writable(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    told(start(tmp_path), str(tmp_path))


def test_disk_that_is_full_at_the_start(small_disk: Path) -> None:
    """The database isn't damaged then, and moving it away would not help."""
    with contextlib.suppress(OSError), open(small_disk / "ballast", "wb") as ballast:
        while True:
            ballast.write(b"x" * 4_096)
            ballast.flush()
    sentence = told(start(small_disk), str(small_disk)).replace(str(small_disk), "")
    assert "full" in sentence or "space" in sentence
    assert "damaged" not in sentence and "another rtapp" not in sentence


def test_port_in_use(server: Server, tmp_path: Path) -> None:
    given = ("--port", str(server.port), "--data", str(tmp_path / "other"))
    ended = run_program(*given, cold=True)
    told(ended, str(server.port), "--port")
    assert server.get("/healthz").status == 200


def test_second_server_on_the_same_folder(server: Server) -> None:
    told(start(server.data), str(server.data), "--data")
    server.publish("undisturbed")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--port", "many"], ["port", "many"]),
        (["--port", "65536"], ["port", "65536", "65535"]),
        (["--port", "-1"], ["port"]),
        (["--set", "ping_interval=soon"], ["ping_interval", "soon"]),
        (["--set", "ping_interval=nan"], ["ping_interval", "nan"]),
        (["--set", "ping_interval=inf"], ["ping_interval", "inf"]),
        (["--set", "ring_bytes=1"], ["ring_bytes", "65536"]),
        (["--set", "ring_bytes=1e6"], ["ring_bytes", "1e6"]),
        (["--set", "access=public"], ["access", "public", "private", "open"]),
        (["--set", "durability="], ["durability", "full", "normal"]),
        (["--set", "insecure_http=maybe"], ["insecure_http", "maybe"]),
        (["--set", "ping_intervall=5"], ["ping_intervall", "ping_interval"]),
        (["--set", "nonsense=1"], ["nonsense"]),
        (["--set", "=1"], ["--set"]),
        (["--set", "ping_interval"], ["key=value"]),
        (["--database", "mysql://me:secret@host/db"], ["mysql"]),
        (["--database", "nonsense"], ["database"]),
        (["--host", "192.0.2.1", "--insecure-http"], ["192.0.2.1", "--host", "0.0.0.0"]),
        (["--host", "no such host"], ["no such host"]),
        (["--host", "ü..b", "--insecure-http"], ["ü..b", "not an address of this machine"]),
        (["--database", "postgresql://db..internal/rtapp"], ["db..internal", "no address"]),
        (["--host", "0.0.0.0"], ["0.0.0.0", "tls_cert", "--insecure-http"]),
        (["--host", "::"], ["::", "tls_cert", "--insecure-http"]),
        (["--set", "tls_cert=/no/such/file.pem"], ["/no/such/file.pem", "tls_cert"]),
        (["--set", "tls_key=/no/such/key.pem"], ["tls_cert"]),
    ],
    ids=" ".join,
)
def test_bad_settings(tmp_path: Path, arguments: list[str], words: list[str]) -> None:
    env: dict[str, str | None] = {"RTAPP_ADMIN_TOKEN": ADMIN}
    ended = run_program("--port", "0", "--data", str(tmp_path / "data"), *arguments, env=env)
    assert "me:secret" not in told(ended, *words)


@pytest.mark.parametrize("arguments", [["--nonsense"], ["nonsense"], ["--port"], ["serve", "80"]])
def test_bad_options(arguments: list[str]) -> None:
    """argparse says how the program is used; its last line names what is wrong."""
    ended = run_program(*arguments)
    assert ended.code == 2 and "Traceback" not in ended.stderr
    assert arguments[0] in ended.stderr.strip().split("\n")[-1]


def test_bad_setting_in_the_environment(tmp_path: Path) -> None:
    """The sentence names the variable, which is what has to be changed."""
    told(start(tmp_path, RTAPP_PING_INTERVAL="soon"), "RTAPP_PING_INTERVAL", "soon")


@pytest.mark.parametrize("token", ["", "short", "x" * 23])
def test_short_admin_token(tmp_path: Path, token: str) -> None:
    told(start(tmp_path / "data", RTAPP_ADMIN_TOKEN=token), "RTAPP_ADMIN_TOKEN", "24")
    assert not (tmp_path / "data" / "rtapp.db").exists(), "nothing was made before it was checked"


def test_leaving_loopback_needs_an_administrator(tmp_path: Path) -> None:
    told(start(tmp_path, "--host", "0.0.0.0", RTAPP_ADMIN_TOKEN=None), "RTAPP_ADMIN_TOKEN")


@pytest.mark.parametrize("wrong", ["swapped", "text", "folder", "other key"])
def test_bad_certificate(tmp_path: Path, certificate: Certificate, wrong: str) -> None:
    cert, key = str(certificate.cert), str(certificate.key)
    text = tmp_path / "text.pem"
    text.write_text("no certificate")
    if wrong == "swapped":
        cert, key = key, cert
    elif wrong == "text":
        cert = str(text)
    elif wrong == "folder":
        cert = str(tmp_path)
    else:
        other = tmp_path / "other"
        other.mkdir()
        key = str(Certificate(other).key)
    ended = start(tmp_path, "--set", f"tls_cert={cert}", "--set", f"tls_key={key}")
    told(ended, cert)


def test_a_key_with_a_password(tmp_path: Path, certificate: Certificate) -> None:
    """OpenSSL asks the terminal for it: at a renewal that would stop the server."""
    pem = serialization.load_pem_private_key(certificate.key.read_bytes(), None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    (tmp_path / "locked.pem").write_bytes(pem)
    files = ("--set", f"tls_cert={certificate.cert}", "--set", f"tls_key={tmp_path}/locked.pem")
    told(start(tmp_path / "data", *files), "locked.pem", "password", "openssl pkey")


def test_the_program_by_itself_says_where_it_is(tmp_path: Path) -> None:
    """The first lines of a good start, to compare with the bad ones."""
    with Server(tmp_path / "data", env={"RTAPP_ADMIN_TOKEN": None}) as server:
        assert any("/#setup=" in line for line in server.output)
        assert not any("Traceback" in line for line in server.output)


# What clients are told after a crash


@pytest.mark.parametrize(
    ("durability", "boot", "kept"),
    [("normal", "another boot", False), ("full", "another boot", True), ("normal", None, True)],
)
def test_epoch_after_a_crash(
    make_server: Callable[..., Server], durability: str, boot: str | None, kept: bool
) -> None:
    """Only where ids that clients have seen may be gone they are told to reset."""
    server = make_server(durability=durability)
    with server.stream() as stream:
        server.publish("before")
        stream.take(1)
        position = stream.last_id
    server.kill()
    assert query_database(server.data, "SELECT value FROM meta WHERE key = 'clean'") == [("0",)]
    if boot:
        change_meta(server.data, "boot", boot)
    server.start()
    server.publish("missed")
    with server.stream(headers={"Last-Event-ID": position}) as stream:
        assert stream.hello["recovered"] is kept
        if kept:
            assert stream.values(1) == ["missed"]
        else:
            assert stream.next()["event"] == "reset"
            assert stream.last_id.split("-")[0] != position.split("-")[0]
        server.publish("after")
        assert stream.values(1) == ["after"]


def test_retention_across_a_restart(make_server: Callable[..., Server]) -> None:
    """What was trimmed while nobody listened is told to who asks for it; a quiet channel is not
    concerned. Retention itself is in test_storage.py: here its traces are what a restart reads."""
    server = make_server()
    with server.stream("channel=quiet") as quiet, server.stream("channel=busy") as busy:
        server.publish("q", "channel=quiet")
        quiet.take(1)
        positions = quiet.last_id, busy.last_id
        for n in range(3):
            server.publish(n, "channel=busy")
    assert server.stop() == 0
    for sql in (
        "DELETE FROM messages WHERE id <= 3",
        "INSERT INTO topics (topic, trimmed_id) VALUES ('c/quiet', 1), ('c/busy', 3)",
    ):
        change(server.database_url, sql)
    server.start()
    with server.stream("channel=quiet", headers={"Last-Event-ID": positions[0]}) as stream:
        assert stream.hello["recovered"] is True
    with server.stream("channel=busy", headers={"Last-Event-ID": positions[1]}) as stream:
        assert stream.hello["recovered"] is False
        assert stream.next()["event"] == "reset"
    swarm = Swarm(server.port)
    swarm.open(1, "channel=busy", positions[1].rsplit("-", 1)[0] + "-3")
    swarm.pump_until(lambda: swarm.messages[1], "the message that is still held")
    assert [value for _, value in swarm.messages[1]] == ["2"] and not swarm.resets
    swarm.close_all()


# Too many connections


def test_too_many_sockets_are_told(make_server: Callable[..., Server]) -> None:
    """Those that are there are served; who comes is told at once, without having asked."""
    server = make_server(max_sockets=12)
    request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with contextlib.ExitStack() as stack:
        stream = stack.enter_context(server.stream())

        def opened() -> socket.socket:
            return stack.enter_context(
                socket.create_connection(("127.0.0.1", server.port), PATIENCE)
            )

        idle = [opened() for _ in range(11)]
        for sock in idle:
            sock.sendall(request)
            assert sock.recv(1_000).startswith(b"HTTP/1.1 200 ")
        told = [opened() for _ in range(30)]
        for sock in told:
            answer = b"".join(iter(partial(sock.recv, 65_536), b""))
            assert answer.startswith(b"HTTP/1.1 503 "), "it is told and closed"
            assert b"too_many_connections" in answer and b"max_sockets" in answer
            assert b"\r\nRetry-After: " in answer
        idle[0].sendall(request)
        assert idle[0].recv(1_000).startswith(b"HTTP/1.1 200 ")
        idle[1].close()
        wait_for(lambda: server.get("/healthz").status == 200, "room for another")
        server.publish("still")
        assert stream.values(1) == ["still"]
        assert sum("Connections are refused" in line for line in server.output) == 1


def test_a_polling_client_takes_no_socket_while_it_is_silent(
    make_server: Callable[..., Server],
) -> None:
    server = make_server(max_sockets=10)
    with keep_alive(server.port) as ask:
        for _ in range(30):
            ask.request("GET", "/socket.io/?EIO=4&transport=polling", headers={"Host": "localhost"})
            opened = ask.getresponse()
            assert opened.status == 200, opened.read()
            opened.read()


def test_a_flood_of_sockets_is_closed(make_server: Callable[..., Server]) -> None:
    """A few of those who are too many are told why; none of them stays."""
    server = make_server(max_sockets=5)
    with contextlib.ExitStack() as stack:
        flood = [
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port), PATIENCE))
            for _ in range(400)
        ]
        answers = []
        for sock in flood[5:]:
            answer = b""
            with contextlib.suppress(ConnectionResetError):
                answer = b"".join(iter(partial(sock.recv, 65_536), b""))
            answers.append(answer[:13])
        assert set(answers) == {b"", b"HTTP/1.1 503 "}, "some are told, at once only so many"
    wait_for(lambda: server.get("/healthz").status == 200, "room")
