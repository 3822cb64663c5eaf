"""Each subscriber gets exactly the messages of its topics after its position, once, in order.

hypothesis drives one server over the wire: clients come and go, stall, resume and change topics,
messages of every kind are published, clients are kicked, the server is killed and started again.
Beside it the test keeps the log as it should be; at the end of each history every client is brought
up to date and must hold exactly what the model says.
"""

from __future__ import annotations

import itertools
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from hypothesis import HealthCheck, Phase, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from support import LONG, Server, Stream, number

CHANNELS = ("a", "b", "c")
CLIENTS = ("one", "two", "three")
NAMES = st.sampled_from(CLIENTS)
SETS = st.frozensets(st.sampled_from(CHANNELS))
WAIT = 15.0  # seconds for the next event: a failing history has to wait for one that never comes
POSTS = st.lists(
    st.tuples(
        st.sampled_from(["all", "channel", "channel", "direct", "others"]),
        st.sampled_from(CHANNELS),
        NAMES,
        st.sampled_from([0, 0, 3_000, 60_000]),
    ),
    min_size=1,
    max_size=10,
)


class Posted(NamedTuple):
    """A message of the model's log."""

    id: int
    topic: str  # *, c/<channel>, u/<client's name>
    value: Any
    exclude: str | None


class Client:
    """A client of the test: what it wants, what it got, and its stream while it has one."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.session = (name * 22)[:22]
        self.client_id = ""
        self.stream: Stream | None = None
        self.position: str | None = None
        self.stalled = False
        self.may_be_closed = False  # it stalled once on this stream
        self.got: list[tuple[int, Any]] = []
        self.wanted: list[tuple[int, frozenset[str]]] = []  # from an id on, these channels

    def wants(self, message: Posted) -> bool:
        """Whether the model says that it must get a message."""
        if message.exclude == self.name or not self.wanted or message.id <= self.wanted[0][0]:
            return False
        channels = [channels for since, channels in self.wanted if since < message.id][-1]
        return message.topic in ("*", f"u/{self.name}") or message.topic[2:] in (
            channels if message.topic.startswith("c/") else ()
        )

    @property
    def channels(self) -> frozenset[str]:
        """What it is subscribed to now."""
        return self.wanted[-1][1] if self.wanted else frozenset()


class Machine(RuleBasedStateMachine):
    """The rules. `server` is shared by all histories of a run; each has clients of its own."""

    server: Server
    impatient = False  # the server soon closes who takes nothing, and nobody reads all the time
    counter = itertools.count()

    @initialize(wanted=st.tuples(SETS, SETS))
    def begin(self, wanted: tuple[frozenset[str], ...]) -> None:
        """Two are there from the beginning, so that the first rules meet somebody."""
        self.clients = {name: Client(f"{name}{next(self.counter)}x") for name in CLIENTS}
        self.log: list[Posted] = []
        self.serial = itertools.count()
        for name, channels in zip(CLIENTS, wanted, strict=False):
            self.connect(self.clients[name], channels)

    def teardown(self) -> None:
        try:
            if hasattr(self, "clients"):
                self.bring_up_to_date()
        finally:
            for client in getattr(self, "clients", {}).values():
                self.close(client)

    # Clients

    def connect(self, client: Client, channels: frozenset[str], stalled: bool = False) -> None:
        query = "&".join([f"session={client.session}", *(f"channel={c}" for c in sorted(channels))])
        headers = {"Last-Event-ID": client.position} if client.position else {}
        stream = Stream(self.server.port, query, headers=headers, rcvbuf=2_048 if stalled else None)
        hello = stream.next()
        first = json.loads(hello["data"])
        assert first["recovered"] is (client.position is not None)
        client.client_id = first["clientId"]
        # A stream has its channels from its position on, whatever they were before.
        since = number(hello["id"])
        client.wanted = [item for item in client.wanted if item[0] < since]
        client.wanted.append((since, channels))
        client.position, client.stream = hello["id"], stream
        client.stalled = client.may_be_closed = stalled

    def take(self, client: Client) -> None:
        """Read one event of a client's stream; only one that stalled may find it closed."""
        assert client.stream is not None
        try:
            event = client.stream.next(WAIT)
        except (EOFError, ConnectionResetError):
            assert client.may_be_closed or self.impatient, client.name
            self.close(client)
            return
        kind = event.get("event")
        assert kind in (None, "ping", "disconnect"), event
        client.position = event.get("id", client.position)
        if kind == "disconnect":
            self.close(client)
        elif kind is None:
            client.got.append((number(event["id"]), json.loads(event["data"])))

    @staticmethod
    def close(client: Client) -> None:
        """Let a client's stream go, if it has one."""
        if client.stream is not None:
            client.stream.close()
            client.stream = None

    def catch_up(self, client: Client, upto: int) -> None:
        """Read until a client has had the message with an id."""
        while client.stream is not None and (not client.got or client.got[-1][0] < upto):
            self.take(client)

    def check(self, client: Client, upto: int) -> None:
        """What a client has got is what the model says, as far as it can know."""
        expected = [(m.id, m.value) for m in self.log if m.id <= upto and client.wants(m)]
        assert client.got == expected, client.name

    @precondition(lambda self: any(c.stream is None for c in self.clients.values()))
    @rule(name=NAMES, channels=SETS, stalled=st.booleans())
    def connect_or_resume(self, name: str, channels: frozenset[str], stalled: bool) -> None:
        """A client comes, or comes back with its last id and the channels it had."""
        client = self.clients[name]
        if client.stream is None:
            self.connect(client, client.channels if client.position else channels, stalled)

    @rule(name=NAMES)
    def disconnect(self, name: str) -> None:
        """The connection breaks, wherever the client is."""
        self.close(self.clients[name])

    @rule(name=NAMES, stalled=st.booleans())
    def stall(self, name: str, stalled: bool) -> None:
        """It reads nothing for a while, or reads again."""
        client = self.clients[name]
        client.stalled = stalled
        client.may_be_closed |= stalled

    def change_topics(self, name: str, add: frozenset[str], remove: frozenset[str]) -> None:
        """Of a stream that runs, if it does."""
        client = self.clients[name]
        if client.stream is None:
            return
        body = {"session": client.session, "add": sorted(add), "remove": sorted(remove)}
        answer = self.server.post("/api/events/topics", body)
        if answer.status == 404:
            return  # it was closed meanwhile
        channels = (client.channels | add) - remove
        assert answer.status == 200 and answer.json["channels"] == sorted(channels)
        # Its place in the log lies between what was published before and after the call.
        client.wanted.append((self.last_id(), channels))

    @rule(name=NAMES, add=SETS, remove=SETS)
    def change_topics_at_rest(self, name: str, add: frozenset[str], remove: frozenset[str]) -> None:
        """A change that nothing stands in the way of."""
        self.change_topics(name, add, remove)

    @rule(name=NAMES)
    def kick(self, name: str) -> None:
        """It is told to go, unless its socket is full; it may come back all the same."""
        client = self.clients[name]
        if client.stream is None:
            return
        answer = self.server.request("DELETE", f"/api/connections/{client.client_id}")
        assert answer.status in (200, 404)
        client.may_be_closed = True
        while client.stream is not None:
            self.take(client)

    # Messages

    def last_id(self) -> int:
        return self.log[-1].id if self.log else self.first

    @property
    def first(self) -> int:
        """An id below all of this history's."""
        return min((c.wanted[0][0] for c in self.clients.values() if c.wanted), default=0)

    def post(self, query: str, topic: str, exclude: str | None = None, size: int = 0) -> None:
        value = [next(self.serial), "x" * size]
        answer = self.server.publish(value, query)
        self.log.append(Posted(answer.json["message"]["id"], topic, value, exclude))

    @rule(posts=POSTS)
    def publish(self, posts: list[tuple[str, str, str, int]]) -> None:
        """Some messages: to all, to a channel, to one client, to a channel but not to one."""
        for kind, channel, name, size in posts:
            client = self.clients[name]
            if kind == "all":
                self.post("", "*", size=size)
            elif kind == "channel" or not client.client_id:
                self.post(f"channel={channel}", f"c/{channel}", size=size)
            elif kind == "direct":
                self.post(f"to={client.client_id}", f"u/{client.name}", size=size)
            else:
                query = f"channel={channel}&exclude={client.client_id}"
                self.post(query, f"c/{channel}", exclude=client.name, size=size)

    def post_batch(self, channel: str, count: int, size: int = 0) -> None:
        values = [[next(self.serial), "x" * size] for _ in range(count)]
        answer = self.server.publish_lines(values, f"channel={channel}").json
        assert answer["lastId"] - answer["firstId"] == count - 1
        ids = range(answer["firstId"], answer["lastId"] + 1)
        self.log += [Posted(i, f"c/{channel}", v, None) for i, v in zip(ids, values, strict=True)]

    @rule(channel=st.sampled_from(CHANNELS), count=st.sampled_from([1, 30, 600, 1_500]))
    def publish_batch(self, channel: str, count: int) -> None:
        """A few at once, or more than one read of the catch-up takes."""
        self.post_batch(channel, count)

    @rule(name=NAMES, add=SETS, remove=SETS, posts=POSTS)
    def change_topics_under_load(
        self, name: str, add: frozenset[str], remove: frozenset[str], posts: Any
    ) -> None:
        """The sockets of those who don't read are full; so the change waits behind messages of
        the old channels, and messages of the new ones wait behind the change."""
        client = self.clients[name]
        channel = min(client.channels, default="a")
        self.post_batch(channel, 40, 60_000)
        self.change_topics(name, add, remove)
        self.publish(posts)

    # The server

    @rule()
    def kill_and_start(self) -> None:
        self.server.kill()
        self.server.start()
        for client in self.clients.values():
            if client.stream is not None:
                self.drain(client)

    def drain(self, client: Client) -> None:
        """Read what a dead server still sent, or lose it with the socket if it was stalled."""
        client.may_be_closed = True
        while client.stream is not None and not client.stalled:
            self.take(client)
        self.close(client)

    @invariant()
    def nobody_got_anything_twice(self) -> None:
        """At any time; whether all is there is looked at when somebody has read to the end."""
        for client in getattr(self, "clients", {}).values():
            ids = [i for i, _ in client.got]
            assert ids == sorted(set(ids)), client.name

    @rule(name=NAMES)
    def read(self, name: str) -> None:
        """A client that isn't stalled reads up to the last message that is for it."""
        client = self.clients[name]
        due = [m.id for m in self.log if client.wants(m)]
        if due and not client.stalled:
            self.catch_up(client, due[-1])
            if client.stream is not None:
                self.check(client, due[-1])

    def bring_up_to_date(self) -> None:
        """Everybody resumes and reads a last message that is for all."""
        for client in self.clients.values():
            if client.stream is None:
                self.connect(client, client.channels)
        self.post("", "*")
        note(f"{len(self.log)} messages, ids {self.log[0].id} to {self.log[-1].id}")
        for client in self.clients.values():
            while client.stream is None or client.got[-1:] != [self.log[-1][0:3:2]]:
                if client.stream is None:
                    self.connect(client, client.channels)
                self.take(client)
            self.check(client, self.log[-1].id)


def run(folder: Path, examples: int, **given: Any) -> None:
    """Run so many histories on one server; its data stays when it is started again."""
    with Server(folder, **given) as server:

        class WithServer(Machine):
            """The rules, on this server."""

        WithServer.server = server
        WithServer.impatient = "slow_consumer_seconds" in given
        run_state_machine_as_test(
            WithServer,
            settings=settings(
                max_examples=150 if LONG else examples,
                stateful_step_count=60 if LONG else 25,
                deadline=None,
                print_blob=True,
                # Making a failing history shorter takes minutes; the blob printed repeats it.
                phases=list(Phase) if LONG else [Phase.generate],
                database=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
        assert not [line for line in server.output if "Traceback" in line]


def test_everybody_gets_exactly_what_is_theirs(poller: str) -> None:
    """With the ring as it is: nearly all is served from memory."""
    folder = Path(tempfile.mkdtemp())
    try:
        run(folder, 4)
    finally:
        shutil.rmtree(folder)


def test_the_same_from_the_database(tmp_path: Path) -> None:
    """With a ring so small that most is served by the catch-up; and stalls are cut short."""
    run(tmp_path, 3, ring_bytes=65_536, slow_consumer_seconds=1, ping_interval=0.5)
