"""Every node delivers every committed message of a topic once, in the order of ids, whatever comes
between nodes, rollbacks, lost bells, lost connections and crashes.

hypothesis drives two nodes and the hand of a third: a connection of the test that takes the log's
lock, writes rows as a node would, and then commits without ringing, rolls back or breaks off, while
the others' publishes wait for the lock. What is committed is read from the database itself.
"""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Iterator
from http.client import HTTPException
from typing import Any, NamedTuple

import psycopg2
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import rtapp
from postgres import Cluster
from support import LONG, NDJSON, PATIENCE, Server, Stream, number, rows_of, wait_for

TOPICS = ("*", "c/a", "c/b")
NODES = st.sampled_from((0, 1))
READERS = ("one", "two", "three")
PLACES = st.tuples(NODES, st.sampled_from(TOPICS))


class Row(NamedTuple):
    """A committed message."""

    id: int
    topic: str
    value: Any


class Hand:
    """What a node does to the database, a step at a time."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._database: Any = None
        self._next = 0

    @property
    def holds(self) -> bool:
        """Whether it has the log's lock."""
        return self._database is not None

    def take(self) -> None:
        """Begin a transaction that writes: take the lock, then look where the log ends."""
        self._database = psycopg2.connect(self._url, application_name="hand")
        cursor = self._database.cursor()
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", (rtapp.PostgresWriter.LOCK,))
        cursor.execute(f"SELECT {rtapp.LAST_ID} + 1")
        (self._next,) = cursor.fetchone()

    def write(self, topic: str, value: Any) -> None:
        """Store a message that nobody sees yet."""
        cursor = self._database.cursor()
        cursor.execute(
            "INSERT INTO messages (id, topic, kind, content, batch, recipient_count, sent_at)"
            " VALUES (%s, %s, 'message', %s, 'hand', 0, %s)",
            (self._next, topic, json.dumps(value), rtapp.now_ms()),
        )
        self._next += 1

    def let_go(self, how: str) -> None:
        """`commit`, `rollback`, or `break` off."""
        if how == "commit":
            self._database.commit()
        elif how == "rollback":
            self._database.rollback()
        self._database.close()
        self._database = None


class Reader:
    """A client that resumes wherever it is sent, and what it got."""

    def __init__(self, channels: frozenset[str]) -> None:
        self.channels = channels
        self.stream: Stream | None = None
        self.node = 0
        self.since: int | None = None
        self.position: str | None = None
        self.got: list[Row] = []

    def wants(self, row: Row) -> bool:
        """Whether a message is one of those that it must get."""
        assert self.since is not None
        return row.id > self.since and row.topic in {"*", *self.channels}

    def open(self, node: int, server: Server) -> None:
        """Begin, or go on, on a node."""
        self.close()
        query = "&".join(["labels=1", *(f"channel={topic[2:]}" for topic in sorted(self.channels))])
        headers = {"Last-Event-ID": self.position} if self.position else {}
        self.stream, self.node = server.stream(query, headers=headers), node
        assert self.stream.hello["recovered"] is (self.position is not None)
        self.position = self.stream.last_id
        if self.since is None:
            self.since = number(self.position)

    def take(self) -> None:
        """Read an event; at the end of the stream, let it go."""
        assert self.stream is not None
        try:
            event = self.stream.next()
        except (EOFError, ConnectionResetError):
            self.close()
            return
        assert event.get("event") in (None, "ping"), event
        self.position = event.get("id", self.position)
        if "event" not in event:
            self.got.append(Row(number(event["id"]), "", json.loads(event["data"])))

    def close(self) -> None:
        """Lose the connection."""
        if self.stream is not None:
            self.stream.close()
            self.stream = None


class Machine(RuleBasedStateMachine):
    """The rules; nodes and database are shared by all histories, each has readers of its own."""

    nodes: tuple[Server, Server]
    url: str
    cut: Callable[[str], None]
    counter = itertools.count()

    @initialize(channels=st.tuples(*[st.frozensets(st.sampled_from(TOPICS[1:]))] * len(READERS)))
    def begin(self, channels: tuple[frozenset[str], ...]) -> None:
        self.hand = Hand(self.url)
        self.dead: set[int] = set()
        self.waiting: list[threading.Thread] = []
        self.acknowledged: dict[int, Any] = {}
        self.refused: list[Any] = []  # nobody may ever get these
        self.committed: list[Any] = []  # by the hand
        self.written: list[Any] = []
        self.readers = {
            name: Reader(wanted) for name, wanted in zip(READERS, channels, strict=True)
        }
        for at, reader in enumerate(self.readers.values()):
            reader.open(at % 2, self.nodes[at % 2])

    def teardown(self) -> None:
        if not hasattr(self, "hand"):
            return
        try:
            self.come_to_rest()
        finally:
            for reader in self.readers.values():
                reader.close()

    def value(self) -> list[int]:
        """One that no other message has."""
        return [next(self.counter)]

    def stored(self) -> list[Row]:
        """What is committed."""
        sql = "SELECT id, topic, content FROM messages WHERE kind = 'message'"
        return sorted(Row(i, topic, json.loads(text)) for i, topic, text in rows_of(self.url, sql))

    # Publishing

    def publish(self, node: int, topic: str, values: list[Any]) -> None:
        """One message, or a batch in one transaction; keep what was acknowledged."""
        query = f"?channel={topic[2:]}" if topic != "*" else ""
        body, headers = json.dumps(values[0]).encode(), {"Content-Type": "application/json"}
        if len(values) > 1:
            body = b"\n".join(json.dumps(value).encode() for value in values)
            headers = NDJSON
        try:
            answer = self.nodes[node].post("/api/broadcast" + query, body, headers=headers)
        except (OSError, HTTPException):
            assert node in self.dead
            return
        if answer.status == 503:
            return
        assert answer.status == 200, answer
        first = answer.json["firstId"] if len(values) > 1 else answer.json["message"]["id"]
        self.acknowledged.update(enumerate(values, first))

    def conflict(self, node: int) -> None:
        """A unit that fails after it has written: the key was used for another message."""
        key = {"Idempotency-Key": f"key {self.nodes[0].port}"}
        self.nodes[node].post("/api/broadcast", "the first", headers=key)
        value = self.value()
        self.refused.append(value)
        assert self.nodes[node].post("/api/broadcast", value, headers=key).status in (422, 503)

    def at_once(self, *jobs: tuple[Any, ...]) -> None:
        """Do things side by side; as long as the hand has the lock, they wait for it."""
        threads = [threading.Thread(target=job, args=more) for job, *more in jobs]
        for thread in threads:
            thread.start()
        self.waiting += threads
        if not self.hand.holds:
            self.join()

    def join(self) -> None:
        for thread in self.waiting:
            thread.join(PATIENCE)
            assert not thread.is_alive(), "a publish that is never answered"
        self.waiting.clear()

    @rule(places=st.lists(PLACES, min_size=1, max_size=6), count=st.sampled_from((1, 1, 1, 3, 40)))
    def publish_at_once(self, places: list[tuple[int, str]], count: int) -> None:
        """Through both nodes at the same time."""
        jobs = [
            (self.publish, node, topic, [self.value() for _ in range(count)])
            for node, topic in places
            if node not in self.dead
        ]
        self.at_once(*jobs)

    @precondition(lambda self: not self.hand.holds)
    @rule(node=NODES, topic=st.sampled_from(TOPICS))
    def roll_back_a_part(self, node: int, topic: str) -> None:
        """A refused unit in the same transaction as others."""
        if node not in self.dead:
            others = [(self.publish, node, topic, [self.value()]) for _ in range(3)]
            self.at_once(*others[:2], (self.conflict, node), others[2])

    # The hand

    @precondition(lambda self: not self.hand.holds)
    @rule(topics=st.lists(st.sampled_from(TOPICS), max_size=4))
    def take_the_lock(self, topics: list[str]) -> None:
        """Write, and leave it open."""
        self.hand.take()
        for topic in topics:
            self.written.append(self.value())
            self.hand.write(topic, self.written[-1])

    @precondition(lambda self: self.hand.holds)
    @rule(how=st.sampled_from(("commit", "commit", "rollback", "break")))
    def let_go(self, how: str) -> None:
        """Nobody is told: a bell that was lost."""
        self.hand.let_go(how)
        (self.committed if how == "commit" else self.refused).extend(self.written)
        self.written.clear()
        self.join()

    # Faults

    @rule(whose=st.sampled_from(("listeners", "writers", "all")))
    def lose_connections(self, whose: str) -> None:
        """The database's server ends connections of the nodes."""
        type(self).cut(whose)

    @rule(node=NODES)
    def kill(self, node: int) -> None:
        """SIGKILL, perhaps while it waits for the lock or between commit and answer."""
        if node not in self.dead:
            self.dead.add(node)
            self.nodes[node].kill()
            for reader in self.readers.values():
                while reader.node == node and reader.stream is not None:
                    reader.take()

    @precondition(lambda self: self.dead and not self.hand.holds)
    @rule()
    def start_again(self) -> None:
        for node in self.dead:
            self.nodes[node].start()
        self.dead.clear()

    # Reading

    @rule(name=st.sampled_from(READERS), node=NODES)
    def move(self, name: str, node: int) -> None:
        """A reader loses its connection and comes back, perhaps to the other node."""
        if node not in self.dead:
            self.readers[name].open(node, self.nodes[node])

    @rule(name=st.sampled_from(READERS))
    def read(self, name: str) -> None:
        """All that is committed arrives by itself."""
        reader = self.readers[name]
        if reader.stream is not None:
            self.read_all(reader)

    def read_all(self, reader: Reader) -> None:
        due = [row.id for row in self.stored() if reader.wants(row)]
        while reader.stream is not None and due and (not reader.got or reader.got[-1].id < due[-1]):
            reader.take()
        self.check(reader)

    def check(self, reader: Reader) -> None:
        """It has got what is committed, as far as it has got, once, in order."""
        last = reader.got[-1].id if reader.got else 0
        expected = [
            (row.id, row.value) for row in self.stored() if reader.wants(row) and row.id <= last
        ]
        assert [(row.id, row.value) for row in reader.got] == expected

    @invariant()
    def nothing_twice_or_out_of_order(self) -> None:
        for reader in getattr(self, "readers", {}).values():
            ids = [row.id for row in reader.got]
            assert ids == sorted(set(ids))

    def come_to_rest(self) -> None:
        """All nodes run, everybody reads to the end; nothing is lost, doubled or made up."""
        if self.hand.holds:
            self.let_go("commit")
        self.start_again()
        wait_for(
            lambda: self.nodes[0].post("/api/broadcast", self.value()).status == 200, "the end"
        )
        stored = self.stored()
        by_id = {row.id: row.value for row in stored}
        assert {i: by_id.get(i) for i in self.acknowledged} == self.acknowledged
        values = [row.value for row in stored if isinstance(row.value, list)]
        assert len(values) == len({value[0] for value in values}), "stored twice"
        assert not [value for value in self.refused if value in values]
        assert all(value in values for value in self.committed)
        for reader in self.readers.values():
            if reader.stream is None:
                reader.open(0, self.nodes[0])
            self.read_all(reader)
            assert reader.got[-1].id >= stored[-1].id


BACKENDS = {
    "listeners": "query LIKE 'LISTEN%' OR query LIKE 'NOTIFY%'",
    "writers": "query LIKE '%pg_advisory%' OR query LIKE '%SAVEPOINT%' OR query = 'COMMIT'",
    "all": "true",
}


@pytest.fixture
def machine(postgres: Cluster, start_node: Callable[..., Server]) -> Iterator[type[Machine]]:
    """The rules on two nodes of a new database."""

    def cut(whose: str) -> None:
        postgres.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name ="
            f" 'rtapp' AND datname = '{name}' AND ({BACKENDS[whose]})"
        )

    database_url = postgres.new_database()
    name = database_url.rsplit("/", 1)[1]

    class OnTwoNodes(Machine):
        """The rules, on these nodes."""

    OnTwoNodes.url = database_url
    OnTwoNodes.nodes = start_node(database_url), start_node(database_url)
    OnTwoNodes.cut = staticmethod(cut)
    yield OnTwoNodes
    for node in OnTwoNodes.nodes:
        assert not [line for line in node.output if "Traceback" in line]


@pytest.mark.timeout(3_600 if LONG else 300)
def test_every_node_delivers_every_committed_message_once_in_order(machine: type[Machine]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=150 if LONG else 8,
            stateful_step_count=50 if LONG else 20,
            deadline=None,
            print_blob=True,
            phases=[Phase.generate],  # making a failing history shorter takes minutes
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
