"""The hub against a model: random histories of commits, orders, clients and faults.

Whatever happens, each subscriber's bytes are exactly the frames of its topics after its position,
once, in order, until its end; and no position that it hears is beyond what it was sent. The hub is
the real one; the log is a list, and a transport takes as much as the history lets it. A history is
made from a seed, and one that fails is cut down to a short one before it is shown.

    python tests/test_hub.py SEED     runs one, and says what happened
"""

from __future__ import annotations

import json
import random
import re
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import gevent
import msgspec
import pytest

from support import LONG, PROGRAM

sys.path.insert(0, str(PROGRAM.parent))
import rtapp

SECONDS = 600 if LONG else 10
STEPS = 40  # of a history, at most
CLIENTS = ["ann", "bob", "cy"]
TOPICS = ["c/a", "c/b", "c/d", rtapp.EVERYONE]
CREDENTIALS = ["key", "lock"]

wait = gevent.sleep  # the real one; the hub's own waits are cut short


# ---- what the hub is given -----------------------------------------------------------------------


class Frames:
    """An encoding that a test can read again: `M12@12....;` is entry 12 at position 12."""

    def __init__(self, key: str) -> None:
        self.name = self.key = key

    def message(self, entry: rtapp.Entry, position: str) -> bytes:
        if not entry.id:
            return f"V@{position};".encode()
        return f"M{entry.id}@{position}{'.' * (entry.id * 37 % 60)};".encode()

    def notice(self, event: str | None, body: dict[str, Any], position: str | None) -> bytes:
        return f"{event}@{position or 0};".encode()

    def farewell(self, retry_ms: int, code: int = 1001) -> bytes:
        return b"farewell@0;"


ENCODINGS = [Frames("one"), Frames("two")]


def fresh(row: rtapp.Entry) -> rtapp.Entry:
    """A row as it is read from a table: nothing is made of it yet."""
    return msgspec.structs.replace(row, frames={})


class MemoryLog:
    """The log as the hub knows it. Its reads yield, and may fail."""

    def __init__(self) -> None:
        self.rows: list[rtapp.Entry] = []
        self.head = 0
        self.trimmed: dict[str, int] = {}
        self.faults = 0  # so many reads fail
        self.slowness = 1  # turns of the loop that a read takes

    def run(self) -> None:
        """A read takes a while."""
        for _ in range(self.slowness):
            wait(0)

    def position(self, number: int) -> str:
        return str(number)

    def newest(self, upto: int, size: int) -> tuple[list[rtapp.Entry], int]:
        found: list[rtapp.Entry] = []
        for row in reversed(self.rows):
            if row.kind == rtapp.CONTROL or row.id > upto:
                continue
            entry = fresh(row)
            size -= entry.cost
            if size < 0:
                return found[::-1], entry.id
            found.append(entry)
        return found[::-1], 0

    def page(self, after: int, upto: int, topics: Any, limit: int) -> tuple[list[rtapp.Entry], int]:
        assert topics, "IN () is an error of PostgreSQL"
        self.run()
        if self.faults:
            self.faults -= 1
            raise rtapp.Problem("storage_unavailable")
        rows = [row for row in self.rows if after < row.id <= upto and row.topic in topics]
        more = len(rows) > limit
        rows = rows[:limit]
        self.run()
        return [fresh(row) for row in rows], rows[-1].id if more else upto

    def complete(self, after: int, topics: Any) -> bool:
        return all(self.trimmed.get(topic, 0) <= after for topic in topics)

    def begin_at(self, stand: rtapp.Stand) -> None:
        self.head = stand.head

    def trim(self, count: int) -> None:
        """Retention: the oldest rows go."""
        gone, self.rows = self.rows[:count], self.rows[count:]
        for row in gone:
            if row.kind != rtapp.CONTROL:
                self.trimmed[row.topic] = row.id


class Nowhere:
    """The event log, unread."""

    def add(self, level: str, message: str, **metadata: Any) -> None:
        if level == "ERROR":
            raise AssertionError(f"{message}: {metadata}")


class Wire:
    """A transport that takes `room` bytes more; like TLS it wants what it refused offered again."""

    numbers = iter(range(1_000, sys.maxsize))

    def __init__(self, room: float) -> None:
        self.fd = next(self.numbers)
        self.room = room
        self.refused: bytes | None = None
        self.taken = b""
        self.is_broken = self.is_closed = self.has_left = False

    def send(self, data: bytes) -> int:
        assert not self.is_closed, "sent after the end"
        if self.is_broken:
            raise ConnectionResetError("broken")
        assert self.refused is None or data is self.refused, "other bytes than those refused"
        size = min(len(data), int(min(self.room, 1e9)))
        if data and not size:
            self.refused = data
            raise BlockingIOError
        self.refused = None
        self.taken += data[:size]
        self.room -= size
        return size

    def receive(self) -> bytes | None:
        return b"" if self.has_left else None

    def fileno(self) -> int:
        return self.fd

    def end_output(self) -> None: ...

    def close(self) -> None:
        self.is_closed = True


class Readiness:
    """A poller whose news come from the history: only those are told that were asked for."""

    def __init__(self, ready: Callable[[int, int], None]) -> None:
        self.ready = ready
        self.wanted: dict[int, int] = {}

    def watch(self, fd: int, events: int) -> None:
        assert fd >= 0, "it is gone"
        self.wanted[fd] = events

    def remove(self, fd: int) -> None:
        self.wanted.pop(fd, None)

    def tell(self, fd: int, events: int) -> None:
        if events := events & self.wanted.get(fd, 0):
            self.ready(fd, events)

    def close(self) -> None: ...


class Soon:
    """A timer that doesn't wait."""

    def start(self, act: Callable[[], None], update: bool) -> None:
        gevent.get_hub().loop.run_callback(act)


class Client:
    """What somebody who says nothing stands behind."""

    def received(self, subscriber: Any, data: bytes) -> None: ...

    def connection_ended(self, subscriber: Any, reason: str) -> None: ...

    def revoked(self, credentials: set[str]) -> None: ...


# ---- the model -----------------------------------------------------------------------------------


class Step(NamedTuple):
    """What happens next; the number chooses among those there are at that time."""

    what: str
    number: int
    more: Any = None


class Due(NamedTuple):
    """What a subscriber is to be sent: an entry, in its place or earlier ones at a change."""

    place: int  # the id in whose turn it comes
    number: int
    is_earlier: bool = False  # than the topics are its own


class Listener:
    """A subscriber beside what is known of it from the history alone."""

    def __init__(self, subscriber: rtapp.Subscriber, wire: Wire, topics: frozenset[str]) -> None:
        self.subscriber, self.wire = subscriber, wire
        self.start = subscriber.cursor
        self.turns: list[tuple[int, frozenset[str], int | None]] = [(self.start, topics, None)]
        self.ended_at: int | None = None  # the entry that ended it
        self.is_over = False  # it may have ended for another reason
        self.answers = 0
        self.skip = 0  # bytes that it had of another log
        self.gained: dict[int, int] = {}  # when topics came by themselves: bytes it had or has due
        self.gone: set[int] = set()  # changes of topics before which something may be gone

    def may_lack(self, due: Due) -> bool:
        """Whether it was told that earlier ones on a new topic are gone."""
        return due.is_earlier and due.place in self.gone

    def is_past(self, due: Due, position: int, end: int) -> bool:
        """Whether a position, in what ends after so many bytes, says that it had this."""
        is_asked = not due.is_earlier or end > self.gained.get(due.place, 0)
        return due.place <= position and is_asked

    @property
    def own(self) -> str:
        return self.subscriber.own_topic

    @property
    def topics(self) -> frozenset[str]:
        return self.turns[-1][1]

    def turn(self, number: int, topics: frozenset[str], since: int | None = None) -> None:
        """Other topics from an id on."""
        if self.turns[-1][0] == number and self.turns[-1][2] is None and len(self.turns) > 1:
            self.turns.pop()
        self.turns.append((number, topics, since))

    def due(self, rows: list[rtapp.Entry]) -> list[Due]:
        """All that is for it, in order."""
        found = []
        ends = [turn[0] for turn in self.turns[1:]] + [2**62]
        topics: frozenset[str] = frozenset()
        for (number, after, since), end in zip(self.turns, ends, strict=True):
            if since is not None:
                both, added = topics | after, after - topics
                found += [
                    Due(number, row.id, True)
                    for row in rows
                    if since < row.id <= number and row.topic in added and self._hears(row, both)
                ]
            topics = after
            found += [
                Due(row.id, row.id)
                for row in rows
                if number < row.id <= end
                and (row.topic in topics or row.topic == self.own)
                and self._hears(row, topics)
            ]
        return [one for one in found if self.ended_at is None or one.place <= self.ended_at]

    def _hears(self, row: rtapp.Entry, topics: frozenset[str]) -> bool:
        left_out = rtapp.excluded_topics(row.exclude)
        return row.kind != rtapp.CONTROL and self.own not in left_out and not left_out & topics


TOKEN = re.compile(rb"(\w+?)(\d*)@(\d+)\.*;")
MESSAGE_TOKEN = re.compile(rb"(?:M\d+|V)@")


class World:
    """A hub, its log and everybody on it."""

    def __init__(self) -> None:
        self.log = MemoryLog()
        self.all_rows: list[rtapp.Entry] = []  # what retention took, too
        self.lowest = 0  # of them in the log, when the hub began with it
        self.everybody: list[Listener] = []
        settings = {
            "ring_bytes": 6_000,
            "ping_interval": 10.0,
            "ping_timeout": 10.0,
            "slow_consumer_seconds": 60.0,
        }
        stats = rtapp.Stats.__new__(rtapp.Stats)  # without a look at the process
        stats.total_connections = stats.deliveries = stats.bytes_sent = 0
        stats.topics = rtapp.Counter()
        self.hub = hub = rtapp.Hub(self.log, stats, Nowhere(), settings)  # type: ignore[arg-type]
        # Every bound is so low that a short history meets it.
        hub.SLICE, hub.TOGETHER = 0.0, 2
        hub._ring.BURST_BYTES, hub._ring.BURST_ENTRIES = 150, 4
        hub._catch_up.PAGE, hub._catch_up.OWN_TOPICS = 3, 2
        hub._timer = Soon()
        self.jobs = gevent.spawn(hub._catch_up.run)

    def close(self) -> None:
        self.jobs.kill()
        self.hub.drain()

    # What happens

    def do(self, step: Step) -> None:
        getattr(self, step.what)(step.number, step.more)

    def alive(self) -> list[Listener]:
        return [one for one in self.everybody if one.subscriber.fd >= 0]

    def one(self, number: int) -> Listener | None:
        some = [one for one in self.alive() if one.subscriber.is_open]
        return some[number % len(some)] if some else None

    def come(self, number: int, more: Any) -> None:
        """A connection, at the head or at an earlier position that is held."""
        encoding, topics, back, room = more
        topics = frozenset(topics)
        client = CLIENTS[number % len(CLIENTS)]
        cursor = max(0, self.hub.head - back)
        if not self.log.complete(cursor, topics | {rtapp.DIRECT + client}):
            cursor = self.hub.head
        made = rtapp.Subscriber(client, ENCODINGS[encoding], cursor, "", "")
        made.credential = CREDENTIALS[number % 2]
        if number % 3 == 0:
            made.session = Client()
        wire = Wire(room)
        listener = Listener(made, wire, topics)
        self.everybody.append(listener)
        self.hub.attach(made, topics, wire, b"hello@0;", b"")  # type: ignore[arg-type]

    def commit(self, number: int, drafts: Any) -> None:
        """Entries of one transaction."""
        rows = []
        for draft in drafts:
            rows.append(self._stored(self.log.head + len(rows) + 1 + number % 2, draft))
        self.log.rows += rows
        self.all_rows += rows
        self.log.head = rows[-1].id  # at the end before the hub has heard of the first
        for row in rows:
            self._expect(row)
        self.hub.advance([fresh(row) for row in rows])

    @staticmethod
    def _stored(number: int, draft: tuple[str, str, str | None, str, str | None]) -> rtapp.Entry:
        topic, kind, event, content, exclude = draft
        return rtapp.Entry(topic, kind, event, content, exclude=exclude, id=number)

    def _expect(self, row: rtapp.Entry) -> None:
        """What an order will have done, once it is applied."""
        if row.kind != rtapp.CONTROL:
            return
        order = json.loads(row.content)
        for one in self.alive():
            subscriber = one.subscriber
            if not subscriber.is_open or one.ended_at is not None:
                continue
            if row.event == "revoke" and subscriber.credential in order["credentials"]:
                one.ended_at = row.id
            if subscriber.client_id != order.get("clientId"):
                continue
            if row.event == "kick":
                one.ended_at = row.id
            if row.event == "topics":
                topics = (one.topics | set(order["add"])) - set(order["remove"])
                one.turn(row.id, topics, order.get("since"))

    def choose(self, number: int, topics: Any) -> None:
        """Somebody on a WebSocket changes its own topics."""
        if one := self.one(number):
            one.turn(self.hub.head, frozenset(topics))
            self.hub.set_topics(one.subscriber, topics)

    def room(self, number: int, size: Any) -> None:
        """A client reads."""
        if some := self.alive():  # also who has yet to take its last words
            one = some[number % len(some)]
            one.wire.room += size
            self._ready(one)

    def _ready(self, one: Listener, events: int = rtapp.WRITE) -> None:
        poller: Any = self.hub._poller
        if one.wire.room or events != rtapp.WRITE:
            poller.tell(one.subscriber.fd, events)

    def stall(self, number: int, _: Any) -> None:
        """The time is up of those who take nothing; who has room would take what is pinned."""
        for one in self.alive():
            if one.subscriber.pending is not None and not one.wire.room:
                one.is_over = True
            one.subscriber.blocked_at = -1e9
        self.hub._close_stalled()

    def leave(self, number: int, _: Any) -> None:
        """A client closes its connection."""
        if one := self.one(number):
            one.wire.has_left = one.is_over = True
            self._ready(one, rtapp.READ)

    def break_off(self, number: int, _: Any) -> None:
        """A connection is lost, which shows when something is sent."""
        if one := self.one(number):
            one.wire.is_broken = one.is_over = True

    def say(self, number: int, _: Any) -> None:
        """An answer for one client alone."""
        if one := self.one(number):
            one.answers += 1
            self.hub.reply(one.subscriber, b"answer@0;")

    def finish(self, number: int, _: Any) -> None:
        """The last words to somebody."""
        if one := self.one(number):
            one.is_over = True
            self.hub.close_after(one.subscriber, b"last@0;", "enough")

    def pause(self, number: int, _: Any) -> None:
        if one := self.one(number):
            self.hub.pause(one.subscriber)

    def unpause(self, number: int, _: Any) -> None:
        if one := self.one(number):
            self.hub.pause(one.subscriber, False)

    def volatile(self, number: int, _: Any) -> None:
        self.hub.volatile(rtapp.Entry(TOPICS[number % len(TOPICS)], rtapp.MESSAGE, None, "1"))

    def ping(self, number: int, _: Any) -> None:
        for one in self.alive():
            one.subscriber.pinged_at = 0
        self.hub._ping()

    def trim(self, count: int, _: Any) -> None:
        self.log.trim(count)

    def fault(self, count: int, _: Any) -> None:
        self.log.faults = count

    def slow(self, count: int, _: Any) -> None:
        self.log.slowness = count

    def recover(self, number: int, more: Any) -> None:
        """A new connection turns out to be one that goes on at an earlier position."""
        one = self.one(number)
        if one is None or b"@" in one.wire.taken.replace(b"hello@0;", b"") or one.ended_at:
            return
        back, topics = more
        topics = frozenset(topics)
        cursor = max(0, self.hub.head - back)
        if one.subscriber.pending is None and self.log.complete(cursor, topics | {one.own}):
            one.turns = [(cursor, topics, None)]
            self.hub.rewind(one.subscriber, topics, cursor)

    def gain(self, number: int, more: Any) -> None:
        """Somebody gains topics, and what came on them after an earlier position."""
        back, topics = more
        one = self.one(number)
        if one is None or one.ended_at is not None or one.turns[-1][0] == self.hub.head:
            return
        topics, since = one.topics | set(topics), max(0, self.hub.head - back)
        one.turn(self.hub.head, topics, since)
        pinned = one.subscriber.pending
        waiting = (pinned.data if pinned else b"") + (one.subscriber.queue or b"")
        one.gained[self.hub.head] = len(one.wire.taken + waiting)
        self.hub.set_topics(one.subscriber, topics, since)

    def expire(self, number: int, _: Any) -> None:
        """Somebody's credential ends, and with it the connection."""
        one = self.one(number)
        if one is not None and one.ended_at is None:
            one.ended_at = self.hub.head
            one.subscriber.expires_at = 1
            self.hub._ping()

    def fail_over(self, count: int, _: Any) -> None:
        """The database is another one, which lacks the newest rows: their ids come again."""
        self.check()
        self.log.rows = self.log.rows[: -count or None]
        head = self.log.rows[-1].id if self.log.rows else 0
        self.all_rows = [row for row in self.all_rows if row.id <= head]
        self.lowest = self.log.rows[0].id if self.log.rows else 0
        everybody = [one for one in self.alive() if one.subscriber.is_open]
        self.hub.restart(rtapp.Stand(head, "", "", {}, 0))
        self.everybody = [one for one in everybody if one.subscriber.is_open]
        for one in self.everybody:  # whoever was sent half of something has to come back
            found = one.wire.taken.rpartition(b"reset@%d;" % head)
            is_told = found[1] and not found[2]
            assert is_told or one.subscriber.pending or one.wire.is_broken, "it was not told"
            one.skip = len(found[0] if is_told else one.wire.taken)
            one.turns = [(head, one.topics, None)]
            one.ended_at, one.gone = None, set()
            if not is_told:  # what was pinned is the notice, or the end of it
                one.is_over = True
                self.hub.disconnect([one.subscriber], "cut off here")

    def run(self, count: int, _: Any) -> None:
        """Let the loop go round."""
        for _ in range(count):
            wait(0)

    def settle(self) -> None:
        """Everybody reads, nothing fails any more: all comes to rest."""
        self.log.faults = 0
        for one in self.alive():
            self.hub.pause(one.subscriber, False)
            one.wire.room = float("inf")
        for _ in range(2_000):
            for one in self.alive():
                self._ready(one)
            wait(0)
            busy = self.hub._scheduled or self.hub._catch_up.waiting
            if not busy and not any(self._waits(one.subscriber) for one in self.alive()):
                return
        raise AssertionError(
            ["no rest", [(s.state, s.pending, s.later) for s in self._subscribers()]]
        )

    def _subscribers(self) -> list[rtapp.Subscriber]:
        return [one.subscriber for one in self.alive()]

    @staticmethod
    def _waits(subscriber: rtapp.Subscriber) -> bool:
        to_come = subscriber.state is rtapp.State.BEHIND or subscriber.later
        return subscriber.pending is not None or bool(subscriber.is_open and to_come)

    # What must hold: the numbers are those of the comment of `Hub`. That what is pinned is offered
    # again as it is (2) is seen by `Wire`, and what was sent by `_check` (2, 3).

    def check(self, at_rest: bool = False) -> None:
        for one in self.everybody:
            self._check(one, at_rest)
        self._check_ring()
        self._check_audience()
        for subscriber in self.hub._by_fd.values():
            self._check_state(subscriber)

    def _check_ring(self) -> None:
        """Invariant 4, and that nothing is held by a topic that nobody would miss."""
        ring = self.hub._ring
        held = [entry.id for entry in ring.entries if entry.kind != rtapp.CONTROL]
        rows = [row.id for row in self.all_rows if row.kind != rtapp.CONTROL]
        lowest = max(ring.floor + 1, self.lowest)
        rows = [number for number in rows if lowest <= number <= self.hub.head]
        assert held == rows, "not all is in the ring"
        assert ring.size == sum(entry.cost for entry in ring.entries), "the ring's size is wrong"
        excluding = {0, *(entry.id for entry in ring.entries if entry.left_out)}
        for topic, its in ring.by_topic.items():
            is_used = its.last or its.excluded or its.views or its.owners
            assert is_used and its.excluded in excluding, f"{topic} is kept for nothing"

    def _check_audience(self) -> None:
        """Invariant 5, and of 6 what concerns a view."""
        topics, views = self.hub._ring.by_topic, self.hub.audience.views.values()
        owners = [(owner.id, topic) for topic, its in topics.items() for owner in its.owners]
        members = sorted(member.id for view in views for member in view.members)
        everybody = self.hub.subscribers()
        assert sorted(owners) == [(one.id, one.own_topic) for one in everybody], "whose are these?"
        assert members == [one.id for one in everybody], "who is where?"
        for view in views:
            assert view.members, "a view of nobody"
            assert all(member.view is view for member in view.members)
            assert all(view in topics[topic].views for topic in view.topics)
            is_due = view.is_marked or view.waiting
            assert not is_due or view in self.hub._dirty, "nobody will serve it"
            assert not view.bursts or view in self.hub._dirty, "nobody will clear them"

    def _check_state(self, subscriber: rtapp.Subscriber) -> None:
        """Invariants 1, 3, 6 and 7: of each subscriber."""
        hub, state = self.hub, subscriber.state
        assert state is not rtapp.State.GONE
        assert subscriber.cursor <= hub.head or not subscriber.is_open
        is_blocked = subscriber.pending is not None
        may_be_pinned = (rtapp.State.BLOCKED, rtapp.State.ENDING)
        assert (state in may_be_pinned) if is_blocked else state is not rtapp.State.BLOCKED
        if state is rtapp.State.BEHIND:
            waiting = hub._catch_up.waiting.values()
            assert any(subscriber in group for group in waiting), "nobody will read for it"
        if state is rtapp.State.LIVE and subscriber not in hub._urgent:
            assert subscriber in subscriber.view.members
            assert not subscriber.later and subscriber.own_last <= subscriber.cursor
            view = subscriber.view
            is_coming = view.is_marked or subscriber in view.waiting
            assert is_coming or subscriber.cursor >= view.newest, "nobody will serve it"

    def _check(self, one: Listener, at_rest: bool) -> None:
        subscriber, due = one.subscriber, one.due(self.all_rows)
        at = 0  # of what is due, the next
        end, last = one.skip, 0
        is_ended = False
        for found in TOKEN.finditer(one.wire.taken, end):
            assert found.start() == end and not is_ended, one.wire.taken[end:]
            end = found.end()
            kind, number, position = found[1].decode(), int(found[2] or 0), int(found[3])
            assert position >= last or not position, f"{found[0]!r} goes back from {last}"
            last = max(position, last)
            if kind == "M":
                while at < len(due) and due[at].number != number and one.may_lack(due[at]):
                    at += 1
                assert at < len(due) and due[at].number == number, f"{found[0]!r}: {due[at:][:3]}"
                at += 1
            elif kind == "reset":
                if found.start() != one.skip:  # else it is told of another log
                    at = self._after_reset(one, due, at, position, end)
            elif kind in ("ping", "V"):
                left = [r for r in due[at:] if one.is_past(r, position, end)]
                left = [r for r in left if not one.may_lack(r)]
                assert not left, f"{found[0]!r} skips {left[:3]}"
            is_ended = kind in ("disconnect", "last")
        assert subscriber.bytes_sent == len(one.wire.taken)
        if subscriber.is_open and subscriber.pending is None:
            assert subscriber.messages == len(MESSAGE_TOKEN.findall(one.wire.taken))
        if subscriber.is_open and end == len(one.wire.taken):
            assert one.ended_at is None, "it goes on after its end"
            left = [row for row in due[at:] if row.place <= subscriber.cursor]
            left = [row for row in left if not row.is_earlier]  # these don't move its position
            assert not left, f"its position {subscriber.cursor} skips {left[:3]}"
            if at_rest:
                assert one.wire.taken.count(b"answer") == one.answers, "an answer is lost"
                left = [row for row in due[at:] if not one.may_lack(row)]
                assert not left, f"it lacks {left[:3]}"
        if at_rest and subscriber.fd < 0:
            assert one.is_over or one.ended_at is not None, "it ended for no reason"

    def _after_reset(self, one: Listener, due: list[Due], at: int, position: int, end: int) -> int:
        """What is due next; a reset is right only where something was lost."""
        trimmed = self.log.trimmed
        topics = {one.own}.union(*(turn[1] for turn in one.turns))
        assert any(map(trimmed.get, topics)), "a reset though nothing was lost"
        while at < len(due) and one.is_past(due[at], position, end):
            at += 1
        # Of new topics it may only be what came on them before they were its own.
        if at < len(due) and due[at].is_earlier:
            one.gone.add(due[at].place)
        return at


# ---- histories -----------------------------------------------------------------------------------


def message(chance: random.Random) -> tuple[str, str, str | None, str, str | None]:
    """A message: on a topic, to one client, or to all but some."""
    topic = chance.choice([*TOPICS, *TOPICS, *(rtapp.DIRECT + client for client in CLIENTS)])
    exclude = chance.choice(
        [None, None, None, chance.choice(CLIENTS), json.dumps([chance.choice(TOPICS)])]
    )
    return topic, rtapp.MESSAGE, None, "1", exclude


def order(chance: random.Random) -> tuple[str, str, str | None, str, str | None]:
    """A control entry."""
    kind = chance.choice(["kick", "revoke", "topics", "topics", "topics", "unknown"])
    body: dict[str, Any] = {"clientId": chance.choice(CLIENTS), "reason": "told to"}
    if kind == "revoke":
        body = {"credentials": [chance.choice(CREDENTIALS)]}
    if kind == "topics":
        body["add"] = chance.sample(TOPICS, chance.randrange(3))
        body["remove"] = chance.sample(TOPICS, chance.randrange(2))
        if chance.random() < 0.3:
            body["since"] = chance.randrange(20)
    return rtapp.HUB_TOPIC, rtapp.CONTROL, kind, json.dumps(body), None


def commit(chance: random.Random) -> list[Any]:
    """What one transaction brings: a few of each, or something for somebody alone around an order
    that concerns the same, and then what others are waiting for."""
    size = chance.choice([1, 1, 1, 2, 3, 5, 12])
    some = [order(chance) if chance.random() < 0.12 else message(chance) for _ in range(size)]
    if chance.random() < 0.8:
        return some
    client = chance.choice(CLIENTS)
    kind = chance.choice(["kick", "topics"])
    body = {"clientId": client, "reason": "told to", "add": [chance.choice(TOPICS)], "remove": []}
    own = [(rtapp.DIRECT + client, rtapp.MESSAGE, None, "1", None)]
    left_out = [(chance.choice(TOPICS), rtapp.MESSAGE, None, "1", client)]
    told = (rtapp.HUB_TOPIC, rtapp.CONTROL, kind, json.dumps(body), None)
    return [*chance.choice([own, left_out, []]), told, *some]


def come(chance: random.Random) -> Any:
    """A connection's encoding, topics, how far back it begins, and what its socket takes."""
    topics = chance.choice([TOPICS[:1], TOPICS[:2], TOPICS, TOPICS, [], TOPICS[3:]])
    room = chance.choice([float("inf"), float("inf"), float("inf"), 0, 40, 100, 300])
    return chance.choice([0, 0, 1]), topics, chance.choice([0, 0, 0, 2, 9, 40]), room


MAKERS: dict[str, tuple[int, Callable[[random.Random], Any]]] = {
    "come": (6, come),
    "commit": (14, commit),
    "run": (8, lambda chance: None),
    "room": (4, lambda chance: chance.choice([20, 100, 1_000, float("inf")])),
    "choose": (2, lambda chance: chance.sample(TOPICS, chance.randrange(4))),
    "recover": (1, lambda chance: (chance.randrange(30), chance.sample(TOPICS, 2))),
    "gain": (1, lambda chance: (chance.randrange(30), chance.sample(TOPICS, 2))),
    "expire": (1, lambda chance: None),
    "fail_over": (1, lambda chance: None),
    "slow": (1, lambda chance: None),
    "say": (2, lambda chance: None),
    "ping": (2, lambda chance: None),
    "volatile": (1, lambda chance: None),
    "pause": (1, lambda chance: None),
    "unpause": (1, lambda chance: None),
    "stall": (1, lambda chance: None),
    "finish": (1, lambda chance: None),
    "leave": (1, lambda chance: None),
    "break_off": (1, lambda chance: None),
    "trim": (2, lambda chance: None),
    "fault": (1, lambda chance: None),
}


def history(seed: int) -> list[Step]:
    """What happens, from a seed."""
    chance = random.Random(seed)
    names, weights = list(MAKERS), [weight for weight, _ in MAKERS.values()]
    steps = [Step("come", chance.randrange(100), come(chance)) for _ in range(2)]
    for name in chance.choices(names, weights, k=chance.randrange(4, STEPS)):
        steps.append(Step(name, chance.randrange(6), MAKERS[name][1](chance)))
        if chance.random() < 0.02:
            steps += catching_up(chance)
    return steps


def catching_up(chance: random.Random) -> list[Step]:
    """Somebody comes who is behind the ring; while a page is read for it something happens."""
    far_back = (chance.randrange(2), TOPICS, 40, chance.choice([30, 60, 200, float("inf")]))
    meanwhile = chance.sample(["say", "trim", "finish", "recover", "ping", "room", "commit"], 2)
    return [
        *(Step("commit", 0, [message(chance) for _ in range(12)]) for _ in range(2)),
        Step("slow", chance.randrange(2, 6)),
        Step("come", chance.randrange(100), far_back),
        Step("run", chance.randrange(1, 6)),
        *(Step(name, 30 if name == "trim" else -1, MAKERS[name][1](chance)) for name in meanwhile),
    ]


def trouble(steps: list[Step]) -> str | None:
    """What is wrong with how the hub takes a history; None if nothing is."""
    world = World()
    at: Step | str = "at the end"
    try:
        for at in steps:
            world.do(at)
            world.check()
        at = "at rest"
        world.settle()
        world.check(at_rest=True)
    except Exception as error:
        return f"{type(error).__name__} at {at}: {error}"
    finally:
        world.close()
    return None


def shortest(steps: list[Step]) -> list[Step]:
    """A part of a history that still fails, without a step that it doesn't need."""
    size = len(steps) // 2
    while size:
        for start in range(0, len(steps), size):
            fewer = steps[:start] + steps[start + size :]
            if fewer and trouble(fewer):
                steps = fewer
                break
        else:
            size //= 2
    return steps


def told(seed: int, steps: list[Step]) -> str:
    """A failing history for who has to mend it."""
    steps = shortest(steps)
    return "\n".join([f"seed {seed}: {trouble(steps)}", *map(str, steps)])


@pytest.fixture
def swift(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No wait of the hub takes time, and readiness comes from the history."""
    monkeypatch.setattr(gevent, "sleep", lambda seconds=0: wait(0))
    monkeypatch.setattr(rtapp, "make_poller", Readiness)
    yield


@pytest.mark.timeout(SECONDS + 120)
def test_histories(swift: None) -> None:
    seed, end = random.randrange(2**32), time.monotonic() + SECONDS
    count = 0
    while time.monotonic() < end:
        steps = history(seed + count)
        assert not trouble(steps), told(seed + count, steps)
        count += 1
    print(f"{count} histories from seed {seed}")
    assert count > 100


ON_A = ("c/a", rtapp.MESSAGE, None, "1", None)
ON_B = ("c/b", rtapp.MESSAGE, None, "1", None)
FREE, FULL = float("inf"), len(b"hello@0;")  # what a socket takes
IDLE = [Step("come", n, (0, ["c/a"], 0, FREE)) for n in (0, 1)] + [Step("run", 5)]  # ann and bob


def ends(event: str, **body: Any) -> tuple[str, str, str | None, str, str | None]:
    """An order that ends bob's connection."""
    told = {"clientId": "bob", "reason": "told to", **body}
    return rtapp.HUB_TOPIC, rtapp.CONTROL, event, json.dumps(told), None


TO_BOB = ("u/bob", rtapp.MESSAGE, None, "1", None)
KNOWN = {  # by what went wrong once
    "a kick's bystander lacks what follows it": [
        *IDLE,
        Step("commit", 0, [TO_BOB, ends("kick"), ON_A]),
    ],
    "a revocation's bystander lacks what follows it": [
        *IDLE,
        Step("commit", 0, [TO_BOB, ends("revoke", credentials=[CREDENTIALS[1]]), ON_A]),
    ],
    "a group of nobody behind the ring is served for ever": [
        Step("come", 0, (0, ["c/a"], 0, FULL + 92)),
        Step("run", 2),
        Step("commit", 0, [ON_A] * 5),
        Step("run", 2),
    ],
    "a page that was begun in another log": [
        Step("commit", 0, [ON_A] * 11 + [ON_B]),
        Step("commit", 0, [ON_A] * 12),
        Step("slow", 20),
        Step("come", 0, (0, ["c/b"], 40, FREE)),
        Step("run", 28),  # the page is read, and on its way
        Step("fail_over", 15),
        Step("commit", 0, [ON_B] + [ON_A] * 11),  # the first is gone from the ring when asked for
        Step("commit", 0, [ON_A] * 12),
    ],
    "an entry that comes while others of its view are served": [
        *(Step("come", n, (0, ["c/a"], 0, FREE)) for n in range(3)),
        Step("run", 5),
        Step("commit", 0, [ON_A]),
        Step("run", 1),
        Step("commit", 0, [ON_A]),
    ],
    "who leaves a view that is being served": [
        *(Step("come", n, (0, ["c/a"], 0, FREE)) for n in range(3)),
        Step("run", 5),
        Step("commit", 0, [ON_A]),
        Step("run", 1),
        Step("choose", 0, ["c/b"]),
        Step("commit", 0, [ON_A]),
    ],
    "last words that are taken in pieces": [
        Step("come", 0, (0, ["c/a"], 0, FULL + 4)),
        Step("say", 0),
        Step("finish", 0),
        Step("room", 0, 6),
        Step("commit", 0, [ON_A]),
        Step("room", 0, FREE),
    ],
    "nothing is new on a channel that begins earlier": [
        *IDLE,
        Step("commit", 0, [ON_A, ends("topics", add=["c/a"], remove=[], since=0), ON_A]),
    ],
    "a ping tells who waits for what is older on a new topic that it had this": [
        *[Step("commit", 0, [ON_B] * 12)] * 2,
        *IDLE,
        Step("commit", 0, [ON_A]),
        Step("run", 5),
        Step("slow", 9),
        Step("gain", 0, (40, ["c/b"])),
        Step("run", 4),
        Step("ping", 0),
        Step("run", 40),
        Step("ping", 0),
    ],
    "who is paused is not told of room, and counts as stalled": [
        Step("come", 1, (0, ["c/a"], 0, FULL)),
        Step("commit", 0, [ON_A]),
        Step("run", 3),
        Step("pause", 0),
        Step("room", 0, FREE),
        Step("stall", 0),
    ],
}


@pytest.mark.parametrize("history", KNOWN.values(), ids=KNOWN)
def test_what_went_wrong_once(swift: None, history: list[Step]) -> None:
    assert trouble(history) is None


@pytest.mark.parametrize("turns", range(1, 7))
def test_an_answer_that_is_pinned_while_a_page_is_read(swift: None, turns: int) -> None:
    """What the page has, or that something is gone, comes behind the rest of the answer."""
    steps = [
        *[Step("commit", 0, [ON_A] * 12)] * 2,
        Step("slow", 3),
        Step("come", 0, (0, ["c/a"], 40, FULL + 4)),
        Step("run", turns),
        Step("say", 0),
        Step("trim", 20),
        Step("run", 9),
    ]
    assert trouble(steps) is None


def test_what_is_volatile_overtakes_nothing(swift: None) -> None:
    """Also not for who lacks more than one turn brings, and so lacks some of it afterwards."""
    world = World()
    world.hub._settings["ring_bytes"] = 600_000  # type: ignore[index]
    for step in [*IDLE, Step("commit", 0, [ON_A] * 90), Step("volatile", 0), Step("run", 9)]:
        world.do(step)
        world.check()
    world.settle()
    world.check(at_rest=True)
    world.close()


@pytest.mark.parametrize("event", ["kick", "revoke"])
def test_who_is_put_out_has_had_what_came_before(swift: None, event: str) -> None:
    world = World()
    put_out = ends(event, credentials=[CREDENTIALS[1]])
    for step in [*IDLE, Step("commit", 0, [ON_A, put_out])]:
        world.do(step)
        world.check()
    assert world.everybody[1].wire.taken == b"hello@0;M1@1" + b"." * 37 + b";disconnect@0;"
    world.close()


def test_a_stream_that_cannot_be_served_is_closed(swift: None) -> None:
    """Alone, and its client comes back: open, it would lack a message until the next one."""
    world = World()
    for step in IDLE:
        world.do(step)
    one, *others = world.everybody
    make = world.hub._ring._burst

    def burst(encoding: rtapp.Encoding, entries: list[rtapp.Entry], *more: Any) -> rtapp.Burst:
        if any(entry.topic == one.subscriber.own_topic for entry in entries):
            raise RuntimeError
        return make(encoding, entries, *more)

    world.hub._ring._burst = burst  # type: ignore[method-assign]
    told: list[str] = []
    world.hub._journal.add = lambda *said, **_: told.extend(said)  # type: ignore[method-assign]
    own = (one.subscriber.own_topic, rtapp.MESSAGE, None, "1", None)
    world.do(Step("commit", 0, [ON_A, own, ON_A]))
    world.do(Step("run", 9))
    assert one.subscriber.reason == "internal error" and one.wire.is_closed
    assert "A stream failed" in told
    assert all(other.subscriber.cursor == world.hub.head for other in others)
    world.close()


def test_who_waits_for_the_database_is_pinged(swift: None) -> None:
    """With where it is; the head's position would skip what it has not had."""
    world = World()
    for step in [
        *[Step("commit", 0, [ON_A] * 12)] * 2,
        Step("fault", 1_000),
        Step("come", 0, (0, ["c/a"], 40, FREE)),
        Step("run", 9),
        Step("ping", 0),
    ]:
        world.do(step)
        world.check()
    assert world.everybody[0].wire.taken == b"hello@0;ping@0;"
    world.settle()
    world.check(at_rest=True)
    world.close()


class Pages:
    """A log whose pages are empty and go some way."""

    def __init__(self, upto: int) -> None:
        self.upto, self.asked = upto, list[tuple[int, set[str]]]()

    def page(self, after: int, upto: int, topics: set[str], limit: int) -> rtapp.Page:
        self.asked.append((after, set(topics)))
        return [], min(upto, self.upto)


class Waiting:
    """Those who are behind on one channel, and who of them is served of pages of a log."""

    def __init__(self, log: Pages, *people: tuple[str, int, rtapp.State]) -> None:
        self.served: list[str] = []
        ring = rtapp.Ring(str)
        ring.floor = 100
        self.view = rtapp.View(rtapp.WEBSOCKET, frozenset({"c/a"}), 90)
        arguments: Any = log, ring, None, lambda one, _: self.served.append(one.client_id)
        self.catch_up = rtapp.CatchUp(*arguments)
        self.catch_up.OWN_TOPICS = 2
        for one in people:
            self.come(*one)

    def come(self, name: str, cursor: int, state: rtapp.State = rtapp.State.BEHIND) -> None:
        one = rtapp.Subscriber(name, rtapp.WEBSOCKET, cursor, "", "", state=state, view=self.view)
        span = rtapp.Span(self.view.topics | {one.own_topic}, cursor, 100, False)
        self.catch_up.add(one, span)

    def read(self, in_order: bool = False) -> list[str]:
        """Read one page; who waits on."""
        ((wanted, group),) = self.catch_up.waiting.items()
        self.catch_up._is_in_order = in_order
        self.catch_up._read_for(wanted, group)
        return [one.client_id for one in group]


def test_nothing_is_read_for_who_is_gone() -> None:
    """Nor for all time kept, where the database is away."""
    log = Pages(100)
    group = Waiting(log, ("ada", 1, rtapp.State.GONE), ("bob", 50, rtapp.State.BEHIND))
    assert group.read() == []
    assert (group.served[-1], log.asked) == ("bob", [(50, {"c/a", "u/bob"})])


def test_many_who_are_behind_take_turns() -> None:
    """Who waits for a page further on is not for long in the way of who could be served."""
    people = [("ada", 1), ("bob", 60), ("cem", 2)]
    group = Waiting(Pages(10), *((*one, rtapp.State.BEHIND) for one in people))
    assert (group.read(), group.served) == (["bob", "cem"], ["ada"])
    assert (group.read(), group.served) == (["bob"], ["ada", "cem"])


def test_newcomers_do_not_keep_others_behind() -> None:
    """Who has waited longest is served in its turn, and of its page nobody else."""
    for upto in (70, 100):  # a page in the middle, and the one that reaches the ring
        log = Pages(upto)
        group = Waiting(log, ("bob", 60, rtapp.State.BEHIND), ("new", 1, rtapp.State.BEHIND))
        assert (group.read(in_order=True), group.served) == (["new"], ["bob"])
        assert log.asked[0][0] == 60


def test_pages_are_of_both_in_turn() -> None:
    """However many come who lack more: of 20 pages at least one is of who has waited longest."""
    log = Pages(10)
    behind = rtapp.State.BEHIND
    group = Waiting(log, ("bob", 60, behind), ("first", 1, behind))

    def page(*asked: Any) -> rtapp.Page:
        log.upto = asked[0] + 10
        if "bob" not in group.served and len(log.asked) < 20:
            group.come(f"new {len(log.asked)}", 1)
        return Pages.page(log, *asked)

    log.page = page  # type: ignore[method-assign]
    job = gevent.spawn(group.catch_up.run)
    with gevent.Timeout(30):
        while group.catch_up.waiting:
            gevent.sleep(0.01)
    job.kill()
    assert "bob" in group.served and len(log.asked) < 20


if __name__ == "__main__":
    gevent.sleep = lambda seconds=0: wait(0)
    rtapp.make_poller = Readiness
    for one in map(int, sys.argv[1:]):
        print(told(one, history(one)) if trouble(history(one)) else f"seed {one}: fine")
