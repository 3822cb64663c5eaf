"""The database's bad days: it says nothing more, or not what became of a commit; a text that it
can't hold.

Between nodes and PostgreSQL stands a middleman that keeps every connection, takes new ones, and
passes nothing on: no error ever comes, so every wait must end by itself.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import socket
import sys
import textwrap
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import psycopg2
import pytest
from websockets.sync.client import ClientConnection

import rtapp
from postgres import Cluster
from support import (
    LONG,
    PATIENCE,
    Answer,
    Server,
    Stream,
    hear_io,
    join_io,
    number,
    open_ws,
    rows_of,
    run_program,
    say,
    wait_for,
)
from test_faults import told

DEADLINE = 90.0  # seconds for what may be several waits of about 15, one after the other

# The middleman


class Trap(NamedTuple):
    """When the middleman falls silent by itself: at the first bytes with which what a client has
    sent on a connection since its last commit matches `pattern`.

    These bytes are `lost`, `held` until it heals, or passed on and the answer is lost
    (`unanswered`). The others' connections go silent too with `everything`.
    """

    pattern: bytes
    fate: Literal["lost", "held", "unanswered"]
    everything: bool


class Link:
    """A connection through the middleman."""

    MEMORY = 100_000  # bytes of what its client has sent

    def __init__(self, client: socket.socket) -> None:
        self.sockets = [client]  # and the one to the database
        self.sent = b""  # by the client, since its last commit
        self.is_silent = False
        self.has_lost = False  # bytes: it can't go on
        self.is_cut = False


class Middleman:
    """Stands between nodes and the database. While it is silent, connections stay open, new ones
    are accepted, and not a byte passes, nor that an end has closed."""

    def __init__(self, port: int) -> None:
        """`port` is the database's."""
        self.trap: Trap | None = None  # None again when it has sprung
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.port = int(self._listener.getsockname()[1])
        self._changed = threading.Condition()  # guards what follows
        self._is_silent = False
        self._links: list[Link] = []
        self._threads: list[threading.Thread] = []
        self._spawn(self._accept)

    def url(self, database: str) -> str:
        """The URL by which a database is reached through it."""
        return database.replace(f":{self._target}/", f":{self.port}/")

    def fall_silent(self) -> None:
        """Pass nothing from now on."""
        with self._changed:
            self._is_silent = True

    def heal(self, deliver: bool) -> None:
        """Pass data again: what is held is delivered now, where nothing is missing in between, or
        all connections that it has are closed and those that come next work."""
        with self._changed:
            self._is_silent = False
            for link in self._links:
                if deliver and not link.has_lost:
                    link.is_silent = False
                else:
                    self._cut(link)
            self._changed.notify_all()

    def stop(self) -> None:
        """Close all connections and end."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes who accepts
        self._listener.close()
        self._threads[0].join(PATIENCE)  # no more come
        self.heal(deliver=False)
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive(), "a thread of the middleman goes on"

    def _spawn(self, run: Callable[..., None], *arguments: Any) -> threading.Thread:
        thread = threading.Thread(target=run, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()
        return thread

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # stopped
            while True:
                link = Link(self._listener.accept()[0])
                with self._changed:
                    self._links.append(link)
                self._spawn(self._carry, link)

    def _carry(self, link: Link) -> None:
        """A connection's life. The database doesn't hear of it while nothing passes."""
        (client,) = link.sockets
        with client, contextlib.suppress(ConnectionError):
            if self._may_pass(link):
                with socket.create_connection(("127.0.0.1", self._target)) as server:
                    self._connect(link, client, server)
        with self._changed:
            self._links.remove(link)

    def _connect(self, link: Link, client: socket.socket, server: socket.socket) -> None:
        with self._changed:
            link.sockets.append(server)
            if link.is_cut:  # while it was being made
                return
        back = self._spawn(self._pass_on, link, server, client, False)
        self._pass_on(link, client, server, True)
        back.join()

    def _pass_on(
        self, link: Link, source: socket.socket, target: socket.socket, is_client: bool
    ) -> None:
        try:
            while part := source.recv(65_536):
                if is_client and self._falls_into_trap(link, part, target):
                    continue
                if not self._may_pass(link):
                    return
                target.sendall(part)
            if self._may_pass(link):
                target.shutdown(socket.SHUT_WR)
        except OSError:
            with self._changed:
                self._cut(link)
                self._changed.notify_all()

    def _may_pass(self, link: Link) -> bool:
        """Wait while it is silent; whether the connection goes on."""
        with self._changed:
            self._changed.wait_for(lambda: link.is_cut or not (self._is_silent or link.is_silent))
            return not link.is_cut

    def _falls_into_trap(self, link: Link, part: bytes, target: socket.socket) -> bool:
        """Note what a client sends; whether it has been dealt with."""
        with self._changed:
            trap = self.trap
            sent = (link.sent + part)[-link.MEMORY :]
            is_caught = trap is not None and re.search(trap.pattern, sent, re.DOTALL)
            link.sent = b"" if b"COMMIT" in part else sent
            if not is_caught or self._is_silent or link.is_silent:
                return False
            assert trap is not None
            self.trap = None
            link.is_silent, link.has_lost = True, trap.fate != "held"
            self._is_silent = trap.everything
        if trap.fate == "unanswered":
            target.sendall(part)
        return trap.fate != "held"

    def _cut(self, link: Link) -> None:
        link.is_cut = True
        for sock in link.sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def make_middleman(postgres: Cluster) -> Iterator[Callable[[], Middleman]]:
    """Puts middlemen before the database and takes them away after the test."""
    made: list[Middleman] = []

    def make() -> Middleman:
        middleman = Middleman(postgres.port)
        made.append(middleman)
        return middleman

    yield make
    for middleman in made:
        middleman.stop()


def side_by_side(jobs: dict[str, Callable[[], None]]) -> None:
    """Do things at the same time, since each of them mostly waits; fails with all that failed."""
    with ThreadPoolExecutor(len(jobs)) as pool:
        running = {name: pool.submit(job) for name, job in jobs.items()}
    failed = {name: error for name, future in running.items() if (error := future.exception())}
    for name, error in failed.items():
        print(f"{name}:")
        traceback.print_exception(error, file=sys.stdout)
    assert not failed, f"failed: {', '.join(failed)}"


# What publishers are told, and what subscribers hear

CODES = ("storage_unavailable", "outcome_unknown")


def refused(answer: Answer) -> str:
    """The code with which a request was refused because the database is silent."""
    assert answer.status == 503, answer
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.code in CODES
    return answer.code


class Told:
    """What publishers to the channel `x` were told of each value; none is published twice but to
    try it again."""

    def __init__(self) -> None:
        self.stored: dict[int, str] = {}
        self.refused: set[str] = set()  # it was not stored
        self.unknown: set[str] = set()  # nobody could say

    def publish(self, server: Server, value: str, headers: dict[str, str] | None = None) -> Answer:
        """Publish a value; whatever comes of it."""
        answer = server.post("/api/broadcast?channel=x", value, headers=headers, seconds=DEADLINE)
        if answer.status == 200:
            self.acknowledged(answer.json["message"]["id"], value)
        else:
            self.failed(refused(answer), value)
        return answer

    def acknowledged(self, number_: int, value: str) -> None:
        """Its publisher has got an id."""
        self.refused.discard(value)
        self.unknown.discard(value)
        self.stored[number_] = value

    def failed(self, code: str, value: str) -> None:
        """Its publisher has got an error."""
        assert code in CODES
        (self.unknown if code == "outcome_unknown" else self.refused).add(value)

    def publish_until_refused(self, server: Server, name: str) -> None:
        """Publish one value after the other."""
        for n in range(5_000):
            if self.publish(server, f"{name}/{n}").status != 200:
                return
        raise AssertionError(f"{name} was never refused")

    def publish_again(self, server: Server, name: str) -> None:
        """Publish until it works again."""
        tries = itertools.count()
        wait_for(
            lambda: self.publish(server, f"{name}/{next(tries)}").status == 200, name, DEADLINE
        )

    def agree_with(self, heard: list[tuple[int, str]]) -> None:
        """All that was stored came, once, in order; what was refused never did."""
        numbers = [n for n, _ in heard]
        assert numbers == sorted(set(numbers)), "doubled or out of order"
        assert self.stored.items() <= dict(heard).items(), "lost"
        others = [value for n, value in heard if n not in self.stored]
        assert not self.refused.intersection(others), "what was not stored came all the same"
        assert len(others) == len(set(others)) and self.unknown.issuperset(others), others


class Heard(NamedTuple):
    """Something that a subscriber got."""

    kind: str
    id: int | None
    value: Any


def of_stream(stream: Stream) -> Heard:
    """The next event of an SSE stream."""
    event = stream.next()
    at = number(event["id"]) if "id" in event else None
    return Heard(event.get("event", "message"), at, json.loads(event["data"]))


def of_ws(ws: ClientConnection) -> Heard:
    """The next frame of `/ws`."""
    frame = json.loads(ws.recv(PATIENCE))
    at = number(frame["id"]) if frame["type"] == "message" and frame.get("id") else None
    return Heard(frame["type"], at, frame.get("data", frame))


class Ear:
    """A subscriber that keeps the messages that it got, but for volatile ones."""

    def __init__(self, next_: Callable[[], Heard]) -> None:
        self._next = next_
        self.messages: list[tuple[int, Any]] = []

    def listen(self, condition: Callable[[Heard], bool], what: str) -> Heard:
        """Listen until something comes."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            heard = self._next()
            if heard.kind == "message" and heard.id is not None:
                self.messages.append((heard.id, heard.value))
            if condition(heard):
                return heard
        raise AssertionError(f"waited in vain for: {what}")

    def hear_upto(self, last: int) -> None:
        """Listen until a message comes."""
        self.listen(lambda heard: (heard.kind, heard.id) == ("message", last), f"message {last}")

    def hear_ping(self) -> None:
        """Listen until a ping comes that was sent from now on."""
        now = rtapp.iso(rtapp.now_ms())
        self.listen(lambda heard: heard.kind == "ping" and heard.value["timestamp"] > now, "a ping")


# A database that says nothing

ADA = {"username": "ada", "password": "correct horse battery", "role": "user"}
GUEST = {"session": "g" * 22, "displayName": "Guest"}
Requests = list[Callable[[], Answer]]
ROUNDS = 3 if LONG else 1


class Bystander(NamedTuple):
    """A node on the same database that is not behind the middleman."""

    server: Server
    ear: Ear


def needing_the_database(server: Server, told: Told, token: str, key: str) -> Requests:
    """Requests that read or write; each would wait for ever if one wait had no end."""
    read = partial(server.get, "/api/messages", seconds=DEADLINE)
    return [
        partial(told.publish, server, f"with {key}", {"Idempotency-Key": key}),
        partial(server.post, "/api/auth/login", ADA, token=None, seconds=DEADLINE),
        partial(server.post, "/api/video/rooms/r/join", GUEST, token=None, seconds=DEADLINE),
        partial(server.get, "/api/auth/me", token=token, seconds=DEADLINE),
        partial(server.get, "/api/video/rooms", seconds=DEADLINE),
        *[read] * 12,  # more than there are connections to read by
    ]


def serves_without_the_database(server: Server, ear: Ear, value: str) -> None:
    """What needs no database works, also while all that does waits."""
    assert server.get("/healthz").status == 200
    assert server.get("/api/openapi.json").status == 200
    assert server.get("/socket.io/socket.io.js").status == 200
    server.publish(value, "channel=x&volatile=1")
    ear.listen(lambda heard: heard.id is None and heard.value == value, "a volatile message")
    with server.stream("channel=x") as late:
        assert late.hello["lastEventId"]


def is_silent_for_a_while(
    server: Server,
    other: Bystander,
    middleman: Middleman,
    ws: ClientConnection,
    ears: list[Ear],
    told: Told,
    requests: Requests,
    deliver: bool,
) -> None:
    """Publish while the database falls silent, ask for everything, and let it answer again. `ears`
    are of the stream and of `ws`."""
    start = len(told.stored)
    with ThreadPoolExecutor(len(requests) + 4) as pool:
        busy = [pool.submit(told.publish_until_refused, server, f"{start}.{n}") for n in range(3)]
        wait_for(lambda: len(told.stored) > start + 30, "some messages")
        middleman.fall_silent()
        say(ws, type="publish", channel="x", data=f"by ws, {start}", ref=start)
        waiting = [pool.submit(request) for request in requests]
        waiting.append(pool.submit(told.publish, server, f"without a key, {start}"))
        serves_without_the_database(server, ears[0], f"first, {start}")
        assert told.publish(other.server, f"first elsewhere, {start}").status == 200
        for future in waiting:
            refused(future.result())
        for future in busy:
            future.result()
    answer = ears[1].listen(lambda heard: heard.kind in ("ack", "error"), "its answer").value
    assert (answer["type"], answer["ref"]) == ("error", start), answer
    told.failed(answer["code"], f"by ws, {start}")
    wait_for(lambda: server.get("/readyz").status == 503, "/readyz to say no", DEADLINE)
    refused(server.get("/readyz"))
    for ear in (*ears, other.ear):
        ear.hear_ping()
    serves_without_the_database(server, ears[0], f"second, {start}")
    assert told.publish(other.server, f"second elsewhere, {start}").status == 200
    assert other.server.get("/readyz").status == 200
    middleman.heal(deliver)
    told.publish_again(server, f"again, {start}")
    wait_for(lambda: server.get("/readyz").status == 200, "/readyz", DEADLINE)
    assert {request().status for request in requests} == {200}


def test_a_database_that_says_nothing(
    postgres: Cluster,
    make_middleman: Callable[[], Middleman],
    start_node: Callable[..., Server],
) -> None:
    """Whoever needs it is told so and comes again; when it answers, late, or after the connections
    that were silent are closed, all goes on by itself. Another node never notices.

    Both ways wait side by side.
    """

    def check(here: Server, there: Server, middleman: Middleman, deliver: bool) -> None:
        told = Told()
        assert here.post("/api/users", ADA).status == 201
        assert here.post("/api/video/rooms", {"roomId": "r", "name": "R"}).status == 201
        made = here.post("/api/tokens", {"name": "t", "scopes": ["subscribe"]}).json
        with (
            here.stream("channel=x") as stream,
            there.stream("channel=x") as elsewhere,
            open_ws(here, "channel=x", max_queue=None) as ws,
        ):
            ears = [Ear(partial(of_stream, stream)), Ear(partial(of_ws, ws))]
            other = Bystander(there, Ear(partial(of_stream, elsewhere)))
            for round_ in range(ROUNDS):
                requests = needing_the_database(here, told, made["token"], f"key-{round_}")
                is_silent_for_a_while(here, other, middleman, ws, ears, told, requests, deliver)
            assert told.publish(there, "the end").status == 200
            for ear in (*ears, other.ear):
                ear.hear_upto(max(told.stored))
                told.agree_with(ear.messages)
            position = {"Last-Event-ID": stream.hello["lastEventId"]}
            with here.stream("channel=x", headers=position) as back:
                assert back.hello["recovered"] is True
                again = Ear(partial(of_stream, back))
                again.hear_upto(max(told.stored))
                assert again.messages == ears[0].messages
            wait_for(lambda: len(there.get("/api/connections").json) == 3, "all, on another node")
        for server in (here, there):
            assert not any("Traceback" in line for line in server.output), server.output

    jobs: dict[str, Callable[[], None]] = {}
    for deliver in (True, False):
        url, middleman = postgres.new_database(), make_middleman()
        nodes = [start_node(each, ping_interval=1) for each in (middleman.url(url), url)]
        name = "what it held comes late" if deliver else "what it held is gone"
        jobs[name] = partial(check, *nodes, middleman, deliver)
    side_by_side(jobs)


# A commit of unknown fate

# The writer stores messages and commits, be it in one statement or in several.
STORES = rb'INSERT INTO "?messages\b.*COMMIT'


def lose_commit(server: Server, url: str, middleman: Middleman, trap: Trap, keyed: bool) -> None:
    """Publish so that nobody can say whether it was stored, or so that it can be looked up."""
    told = Told()
    key = {"Idempotency-Key": "k"} if keyed else None
    with server.stream("channel=x") as stream, ThreadPoolExecutor(4) as pool:
        assert told.publish(server, "before").status == 200
        middleman.trap = trap
        doubtful = pool.submit(told.publish, server, "doubtful", key)
        wait_for(lambda: middleman.trap is None, "it to fall silent")
        behind = [pool.submit(told.publish, server, f"behind it {n}") for n in range(3)]
        answer = doubtful.result()
        rows = rows_of(url, "SELECT id FROM messages WHERE content = ?", '"doubtful"')
        if trap.everything:
            assert refused(answer) == "outcome_unknown"
            assert len(rows) == (trap.fate == "unanswered")
            middleman.heal(deliver=True)
        else:
            assert answer.status == 200, answer
        for future in behind:
            future.result()  # whatever it is: what it was told must be true
        if keyed:
            again = wait_for(
                lambda: (found := told.publish(server, "doubtful", key)).status == 200 and found,
                "the same request to be answered",
                DEADLINE,
            ).json["message"]["id"]
            assert not rows or [(again,)] == rows, "the first one's answer"
        told.publish_again(server, "after")
        ear = Ear(partial(of_stream, stream))
        ear.hear_upto(max(told.stored))
        told.agree_with(ear.messages)
        if rows or keyed:
            assert [value for _, value in ear.messages].count("doubtful") == 1
        assert stream.silent()
    sql = "SELECT id, content FROM messages WHERE topic = 'c/x' ORDER BY id"
    assert [(n, json.loads(text)) for n, text in rows_of(url, sql)] == ear.messages
    assert not any("Traceback" in line for line in server.output), server.output


def test_a_commit_of_unknown_fate(
    postgres: Cluster, make_middleman: Callable[[], Middleman], start_node: Callable[..., Server]
) -> None:
    """The connection falls silent at the commit: before it has arrived, or after. While nobody can
    be asked what became of it, the publisher hears just that, and with its Idempotency-Key may try
    again; where another connection works, the program asks there and gives the right answer.

    The cases wait side by side.
    """
    cases = [
        (Trap(STORES, "lost", everything=True), True),
        (Trap(STORES, "held", everything=True), True),
        (Trap(STORES, "unanswered", everything=True), True),
        (Trap(STORES, "unanswered", everything=True), False),
        (Trap(STORES, "lost", everything=False), True),
        (Trap(STORES, "unanswered", everything=False), False),
    ]
    if LONG:
        cases += [(trap, not keyed) for trap, keyed in cases if (trap, not keyed) not in cases]
    jobs: dict[str, Callable[[], None]] = {}
    for trap, keyed in cases:
        url, middleman = postgres.new_database(), make_middleman()
        server = start_node(middleman.url(url), ping_interval=1)
        which = "everything" if trap.everything else "one connection"
        name = f"{trap.fate}, {which}, {'with' if keyed else 'without'} a key"
        jobs[name] = partial(lose_commit, server, url, middleman, trap, keyed)
    side_by_side(jobs)


# A text that PostgreSQL can't hold

SPOILS = """
    from rtapp import emit, on

    @on("spoil")
    def spoil(client, event, options):
        client.emit("trying")
        try:
            emit(event, 1, **options)
        except Exception as error:
            client.emit("refused", type(error).__name__)
        else:
            client.emit("taken")
"""


@pytest.mark.parametrize(
    ("event", "options"),
    [
        ("x", {"to": "a\0b"}),
        ("x", {"to": ["all", "a\0b"]}),
        ("x", {"namespace": "/a\0b"}),
        ("x\0y", {}),
    ],
    ids=["room", "one of two rooms", "namespace", "event"],
)
def test_a_text_that_it_can_not_hold(
    postgres: Cluster,
    start_node: Callable[..., Server],
    tmp_path: Path,
    event: str,
    options: dict[str, Any],
) -> None:
    """It concerns only whoever sent it: what is committed together with it is stored."""
    (tmp_path / "handlers.py").write_text(textwrap.dedent(SPOILS))
    url, told = postgres.new_database(), Told()
    server = start_node(url, app=str(tmp_path / "handlers.py"))
    io, _ = join_io(server)
    with (
        io,
        server.stream("channel=x") as stream,
        contextlib.closing(psycopg2.connect(url)) as holder,
        ThreadPoolExecutor(20) as pool,
    ):
        # Whoever has the log's lock holds the writer up; what comes meanwhile is one transaction.
        holder.cursor().execute("SELECT pg_advisory_xact_lock(%s)", (rtapp.PostgresWriter.LOCK,))
        answers = [pool.submit(told.publish, server, "first")]
        waits = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'advisory' AND datname = ?"
        wait_for(lambda: rows_of(url, waits, url.rsplit("/", 1)[1]), "the writer to wait")
        answers += [pool.submit(told.publish, server, f"before {n}") for n in range(5)]
        time.sleep(0.2)
        io.send(f"42{json.dumps(['spoil', event, options])}")
        assert json.loads(hear_io(io)[2:])[0] == "trying"
        for n in range(10):
            key = {"Idempotency-Key": f"k{n}"} if n % 2 else None
            answers.append(pool.submit(told.publish, server, f"after {n}", key))
        time.sleep(0.3)
        holder.rollback()
        assert json.loads(hear_io(io)[2:])[0] == "refused"
        assert {answer.result().status for answer in answers} == {200}
        last = told.publish(server, "the end").json["message"]["id"]
        ear = Ear(partial(of_stream, stream))
        ear.hear_upto(last)
        assert len(ear.messages) == 17
        told.agree_with(ear.messages)
        assert server.get("/readyz").status == 200
        assert not rows_of(url, "SELECT 1 FROM messages WHERE topic LIKE 'i/%'")


# The start, and the end

START_MOMENTS = {
    "from the beginning": b"^",
    "at the first statement": rb"pg_advisory_xact_lock",
    "while the tables are made": rb"CREATE TABLE video_rooms",
    "at the first commit": rb"COMMIT",
    "while the settings are read": rb'FROM "?server_settings',
    "at the commit of the epoch": rb'INTO "?meta"?.*epoch.*COMMIT',
}


def test_a_database_that_falls_silent_while_it_starts(
    postgres: Cluster,
    make_middleman: Callable[[], Middleman],
    start_node: Callable[..., Server],
    tmp_path: Path,
) -> None:
    """It ends with a sentence, and what it has begun keeps no other node from publishing. The
    moments wait side by side."""

    def start(url: str, pattern: bytes, there: Server | None) -> None:
        middleman = make_middleman()
        middleman.trap = Trap(pattern, "held", everything=True)
        env: dict[str, str | None] = {"DATABASE_URL": middleman.url(url)}
        folder = str(tmp_path / str(middleman.port))
        with ThreadPoolExecutor(1) as pool:
            given = ("--port", "0", "--data", folder)
            starting = pool.submit(run_program, *given, env=env, seconds=120)
            if there is not None:
                wait_for(lambda: middleman.trap is None, "it to fall silent")
                Told().publish_again(there, "beside it")
            told(starting.result(), "database", url.rsplit("/", 1)[1])

    jobs = {
        moment: partial(start, postgres.new_database(), pattern, None)
        for moment, pattern in START_MOMENTS.items()
    }
    url = postgres.new_database()
    # When it looks at the schema, it has the log's lock.
    jobs["beside another node"] = partial(start, url, b"schema_version", start_node(url))
    side_by_side(jobs)


def test_it_ends_while_the_database_says_nothing(
    postgres: Cluster, make_middleman: Callable[[], Middleman], start_node: Callable[..., Server]
) -> None:
    middleman = make_middleman()
    server = start_node(middleman.url(postgres.new_database()))
    with server.stream() as stream:
        middleman.fall_silent()
        assert server.stop() == 0
        assert stream.ended()
