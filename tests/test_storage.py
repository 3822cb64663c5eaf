"""The log inside the process: one writer, group commit, ids, retention, epoch, what is complete.

On SQLite and on PostgreSQL. Nothing is patched for gevent: SQLite's writer is a real thread,
PostgreSQL's a greenlet; the rest runs in the test's own.
"""

from __future__ import annotations

import contextlib
import gc
import json
import socket
import sqlite3
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import gevent
import gevent.event
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support import (
    PATIENCE,
    PROGRAM,
    Answer,
    Server,
    change,
    cookie_of,
    cursor_of,
    rows_of,
    setup_token,
    sqlite_url,
    wait_for,
)

sys.path.insert(0, str(PROGRAM.parent))
import rtapp
from postgres import Cluster

HOUR = 3_600_000


@pytest.fixture
def own_garbage() -> Iterator[rtapp.Garbage]:
    """One that has taken over, for this test."""
    thresholds = gc.get_threshold()
    garbage = rtapp.Garbage(rtapp.Stats())
    yield garbage
    gc.set_threshold(*thresholds)
    gc.unfreeze()


def old_cycle() -> weakref.ref[Any]:
    """Something that only a full collection finds: a cycle, let go of when it is old."""

    class Node:
        itself: Any

    node = Node()
    node.itself = node
    gc.collect(1)  # now it is among the old
    return weakref.ref(node)


def test_garbage_waits_for_a_quiet_moment(own_garbage: rtapp.Garbage) -> None:
    """A full collection holds everybody up, so none comes while there is work."""
    own_garbage.tick()
    cycle = old_cycle()
    for _ in range(10):
        own_garbage.stats.published(1, 0.0)
        _ = [[] for _ in range(100_000)]  # Python's own rule would have begun one meanwhile
        own_garbage.tick()
    assert cycle() is not None
    own_garbage.tick()
    assert cycle() is None


def test_garbage_does_not_wait_for_ever(
    own_garbage: rtapp.Garbage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a server that is never quiet it comes all the same."""
    cycle = old_cycle()
    own_garbage.stats.published(1, 0.0)
    own_garbage.tick()
    assert cycle() is not None
    monkeypatch.setattr(own_garbage, "LATEST", 0.0)
    own_garbage.stats.published(1, 0.0)
    own_garbage.tick()
    assert cycle() is None


@pytest.fixture
def log_url(database_url: str, tmp_path: Path) -> str:
    """An empty database of each kind."""
    return database_url or sqlite_url(tmp_path)


def path_of(url: str) -> Path:
    """The file of an SQLite database."""
    return Path(url.removeprefix("sqlite:///"))


NOT_ORDERS = f"topic <> '{rtapp.HUB_TOPIC}'"  # by which nodes tell each other of retention


def kept(url: str) -> list[int]:
    """The ids of the messages that are stored."""
    sql = f"SELECT id FROM messages WHERE {NOT_ORDERS} ORDER BY id"
    return [number for (number,) in rows_of(url, sql)]


def engine_of(url: str, durability: str = "full") -> rtapp.Engine:
    """The engine of a database."""
    if url.startswith("sqlite"):
        return rtapp.SqliteEngine(path_of(url), durability)
    return rtapp.PostgresEngine(url, Path())


class Opened:
    """A storage and its log, and what the log's listener has heard."""

    def __init__(self, url: str, durability: str = "full") -> None:
        self.url = url
        self.storage = rtapp.Storage(engine_of(url, durability))
        self.log = rtapp.Log(self.storage)
        self.heard: list[rtapp.Entry] = []
        self.listener: Callable[[list[rtapp.Entry]], None] = self.heard.extend
        self.storage.start(self.log.committed)
        self.log.start(self._listen)

    def _listen(self, entries: list[rtapp.Entry]) -> None:
        self.listener(entries)

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *_: object) -> None:
        self.storage.stop()

    def publish(self, topic: str, *contents: Any, sent_at: int | None = None) -> list[int]:
        """Append messages to a topic."""
        sent = rtapp.now_ms() if sent_at is None else sent_at
        drafts = [draft(topic, content, sent_at=sent) for content in contents]
        return list(self.log.store(drafts))

    @contextlib.contextmanager
    def writer_held(self) -> Iterator[None]:
        """While this lasts, what is given to the writer waits; then it is one transaction."""
        event = gevent.event.Event if self.storage.engine.shared else threading.Event
        begun, go_on = event(), event()

        def unit(_: rtapp.Transaction) -> None:
            begun.set()
            go_on.wait(PATIENCE)

        holder = gevent.spawn(self.storage.write, unit)
        until(begun.is_set, "the writer to be held")
        try:
            yield
            gevent.sleep(0.01)  # those who were spawned give what they have
        finally:
            go_on.set()
        holder.get(timeout=PATIENCE)

    @property
    def ids(self) -> list[int]:
        """The ids that the listener has heard of, in this order."""
        return [entry.id for entry in self.heard]


def draft(topic: str, content: Any, **more: Any) -> rtapp.Entry:
    """A message to store."""
    more.setdefault("sent_at", rtapp.now_ms())
    text = json.dumps(content, ensure_ascii=False)
    return rtapp.Entry(topic, more.pop("kind", rtapp.MESSAGE), None, text, **more)


def until(condition: Callable[[], Any], what: str) -> None:
    """Let the loop turn until a condition holds."""
    with gevent.Timeout(PATIENCE, AssertionError(f"waited {PATIENCE:g} s for: {what}")):
        while not condition():
            gevent.sleep(0.005)


# The writer


def test_a_failing_unit_hurts_only_itself(log_url: str) -> None:
    """In one transaction with it, its neighbours are stored, and its rows got no id."""

    def failing(tx: rtapp.Transaction) -> None:
        tx.append([draft("c/x", "never"), draft("c/x", "never")])
        rtapp.Fact.insert(key="half", value="done").execute(tx.database)
        raise ValueError("on purpose")

    def doubled(tx: rtapp.Transaction) -> None:
        tx.append([draft("c/x", "never")])
        for _ in range(2):
            rtapp.Fact.insert(key="twice", value="").execute(tx.database)

    with Opened(log_url) as opened:
        with opened.writer_held():
            before = gevent.spawn(opened.publish, "c/x", "before")
            first = gevent.spawn(opened.storage.write, failing)
            second = gevent.spawn(opened.storage.write, doubled)
            after = gevent.spawn(opened.publish, "c/x", "after")
        gevent.joinall([before, first, second, after], timeout=PATIENCE)
        assert before.value == [1] and after.value == [2]
        assert isinstance(first.exception, ValueError)
        assert isinstance(second.exception, rtapp.peewee.IntegrityError)
        assert opened.ids == [1, 2]
        assert opened.publish("c/x", "next") == [3]
    stored = rows_of(log_url, "SELECT content, batch FROM messages ORDER BY id")
    assert [content for content, _ in stored] == ['"before"', '"after"', '"next"']
    assert stored[0][1] == stored[1][1] != stored[2][1], "one transaction, then another"
    assert not rows_of(log_url, "SELECT 1 FROM meta WHERE key IN ('half', 'twice')")


def test_a_connection_that_can_not_be_opened_is_tried_again(
    log_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever writes meanwhile is told, and waits for nothing."""
    engine = type(engine_of(log_url))
    opens = engine.open_writer
    given = iter([rtapp.peewee.OperationalError("too many open files")])

    def open_writer(self: rtapp.Engine) -> Any:
        for error in given:
            raise error
        return opens(self)

    monkeypatch.setattr(engine, "open_writer", open_writer)
    storage = rtapp.Storage(engine_of(log_url))
    storage.start(lambda entries: None)
    with gevent.Timeout(PATIENCE):
        with pytest.raises(rtapp.Problem, match="try again"):
            storage.write(lambda tx: tx.append([draft("c/x", 1)]))
        numbers = storage.write(lambda tx: tx.append([draft("c/x", 1)]))
        assert numbers == [1] and not list(given)
    storage.stop()


def test_a_unit_sees_what_came_before_it_in_the_transaction(log_url: str) -> None:
    with Opened(log_url) as opened:
        with opened.writer_held():
            gevent.spawn(opened.publish, "c/x", 1, 2, 3)
            counting = gevent.spawn(
                opened.storage.write, lambda tx: rtapp.Message.select().count(tx.database)
            )
        assert counting.get(timeout=PATIENCE) == 3


def test_group_commit(log_url: str) -> None:
    """Whatever waits goes into one transaction, and each giver gets the ids of its own rows."""
    with Opened(log_url) as opened:
        givers = {n: gevent.spawn(opened.publish, "c/x", n) for n in range(1_000)}
        gevent.joinall(list(givers.values()), timeout=PATIENCE)
        assert opened.ids == list(range(1, 1_001))
    stored = rows_of(log_url, "SELECT content, id FROM messages")
    assert {n: giver.value for n, giver in givers.items()} == {int(c): [i] for c, i in stored}
    assert rows_of(log_url, "SELECT count(DISTINCT batch) FROM messages")[0][0] < 50


def test_store_first_then_tell(log_url: str) -> None:
    """What the listener hears of, another connection can read; its giver is told afterwards."""
    with Opened(log_url) as opened:
        seen: list[tuple[list[Any], bool]] = []

        def listener(entries: list[rtapp.Entry]) -> None:
            stored = [
                rows_of(log_url, "SELECT id FROM messages WHERE id = ?", e.id) for e in entries
            ]
            seen.append((stored, giver.ready()))

        opened.listener = listener
        giver = gevent.spawn(opened.publish, "c/x", 1, 2)
        assert giver.get(timeout=PATIENCE) == [1, 2]
        assert seen == [([[(1,)], [(2,)]], False)]


def test_rows_of_another_node_are_heard_of_in_their_place(log_url: str) -> None:
    """A hole before the rows just committed is read first."""
    sql = (
        "INSERT INTO messages (id, topic, kind, content, batch, recipient_count, sent_at)"
        " VALUES (?, 'c/x', 'message', ?, 'elsewhere', 0, ?)"
    )
    with Opened(log_url) as opened:
        opened.publish("c/x", "own 1")
        for n in (2, 3):
            change(log_url, sql, n, f'"other {n}"', rtapp.now_ms())
        assert opened.publish("c/x", "own 4", "own 5") == [4, 5]
        assert opened.ids == [1, 2, 3, 4, 5]
        assert [json.loads(entry.content) for entry in opened.heard] == [
            "own 1", "other 2", "other 3", "own 4", "own 5",
        ]  # fmt: skip
        assert opened.log.head == 5


def test_ids_are_never_used_again(log_url: str) -> None:
    """Not even after retention has deleted every row and the program was started again."""
    with Opened(log_url) as opened:
        opened.publish("c/x", *range(5))
        opened.log.trim(24, 0)
        assert not kept(log_url)
        (more,) = opened.publish("c/x", "more")
        assert more > 5
        opened.log.trim(24, 0)
    with Opened(log_url) as opened:
        assert opened.log.head >= more
        assert opened.publish("c/x", "after the restart") == [opened.log.head]
        assert kept(log_url) == [opened.log.head] and opened.log.head > more


def test_all_that_was_given_is_written_at_the_end(log_url: str) -> None:
    with Opened(log_url) as opened:
        givers = [gevent.spawn(opened.publish, "c/x", n) for n in range(200)]
        gevent.sleep(0)
    gevent.joinall(givers, timeout=PATIENCE)
    assert sorted(giver.value[0] for giver in givers) == list(range(1, 201))
    assert rows_of(log_url, "SELECT count(*) FROM messages") == [(200,)]


# The epoch


@pytest.mark.sqlite
@pytest.mark.parametrize(
    ("durability", "clean", "same_boot", "kept"),
    [
        ("full", True, True, True),
        ("full", False, True, True),
        ("full", False, False, True),  # a power cut takes nothing that was acknowledged
        ("normal", True, False, True),
        ("normal", False, True, True),  # the program died, the system didn't
        ("normal", False, False, False),  # ids that clients have seen may be gone
    ],
)
def test_epoch(log_url: str, durability: str, clean: bool, same_boot: bool, kept: bool) -> None:
    with Opened(log_url, durability) as opened:
        opened.publish("c/x", 1, 2, 3)
        epoch, position = opened.log.epoch, opened.log.position(2)
        if clean:
            opened.log.stop()
    if not same_boot:
        change(log_url, "UPDATE meta SET value = 'another boot' WHERE key = 'boot'")
    with Opened(log_url) as opened:
        assert (opened.log.epoch == epoch) is kept
        assert opened.log.find(position) == (2 if kept else None)
        assert opened.log.find(opened.log.position(3)) == 3
        assert opened.log.find(opened.log.position(4)) is None, "above the head"
        new = opened.log.epoch
    with Opened(log_url) as opened:
        assert opened.log.epoch == new, "the new epoch was stored"


# Retention


def test_retention_by_age(log_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rtapp.Log, "TRIM_PAGE", 10)
    with Opened(log_url) as opened:
        opened.publish("c/x", *range(35), sent_at=rtapp.now_ms() - 2 * HOUR)
        opened.publish("c/x", "a", "b")
        opened.log.trim(1, 1_000)
        assert kept(log_url) == [36, 37]
        opened.log.trim(1, 1_000)
        assert kept(log_url) == [36, 37]


def test_retention_by_count(log_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rtapp.Log, "TRIM_PAGE", 10)
    with Opened(log_url) as opened:
        opened.publish("c/x", *range(35))
        opened.log.trim(24, 4)
        assert kept(log_url) == [32, 33, 34, 35]


def test_a_retention_that_fails_takes_nothing(
    log_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nobody is told to reset for it."""
    with Opened(log_url) as opened:
        opened.publish("c/x", *range(3))

        def fails(*_: object) -> int:
            raise rtapp.peewee.OperationalError("disk I/O error")

        with monkeypatch.context() as patch, pytest.raises(rtapp.Problem):
            patch.setattr(rtapp.Log, "_forget_topics", fails)
            opened.log.trim(24, 0)
        assert kept(log_url) == [1, 2, 3] and opened.log.complete(0, ["c/x"])
        opened.log.trim(24, 0)
        assert not kept(log_url) and not opened.log.complete(0, ["c/x"])


def test_a_clock_that_goes_backwards(log_url: str) -> None:
    """Changes no order, and loses nothing that is younger than the limit or stands behind it."""
    now = rtapp.now_ms()
    with Opened(log_url) as opened:
        opened.publish("c/x", "first", sent_at=now)
        opened.publish("c/x", "a day before", sent_at=now - 24 * HOUR)
        opened.publish("c/x", "third", sent_at=now - HOUR)
        assert opened.ids == [1, 2, 3]
        opened.log.trim(2, 1_000)
        assert opened.log.complete(0, ["c/x"])
        assert len(rows_of(log_url, "SELECT id FROM messages")) == 3
        assert [entry.id for entry in opened.log.page(0, 3, ["c/x"], 10)[0]] == [1, 2, 3]


def test_the_table_of_topics(log_url: str) -> None:
    """Says of each topic of which something went which id was the last. Nothing else is in it."""
    sql = f"SELECT topic, trimmed_id FROM topics WHERE {NOT_ORDERS} ORDER BY topic"
    with Opened(log_url) as opened:
        opened.publish("c/a", 1)
        opened.publish("c/b", 2, 3)
        opened.publish("c/a", 4)
        assert rows_of(log_url, sql) == []
        opened.log.trim(24, 2)
        assert rows_of(log_url, sql) == [("c/a", 1), ("c/b", 2)]
        opened.log.trim(24, 0)
        assert rows_of(log_url, sql) == [("c/a", 4), ("c/b", 3)]
        opened.publish("c/a", 5)
        assert rows_of(log_url, sql) == [("c/a", 4), ("c/b", 3)]


def test_a_quiet_position_does_not_age(log_url: str) -> None:
    """What retention took of others is no loss to a channel that lost nothing itself."""
    with Opened(log_url) as opened:
        opened.publish("c/quiet", "one")
        opened.publish("c/busy", *range(10))
        opened.log.trim(24, 5)  # 1 to 6 go

    def check(log: rtapp.Log) -> None:
        assert log.complete(1, ["c/quiet"]) and not log.complete(0, ["c/quiet"])
        assert log.complete(6, ["c/busy"]) and not log.complete(5, ["c/busy"])
        assert log.complete(1, ["c/unknown"]) and log.complete(0, [])
        assert not log.complete(1, ["c/quiet", "c/busy"])

    check(opened.log)
    with Opened(log_url) as opened:
        check(opened.log)


def test_what_expires_is_no_gap(log_url: str) -> None:
    """Orders to the hub and signals are meant to go."""
    gone = rtapp.now_ms() - 1
    with Opened(log_url) as opened:
        opened.publish("c/x", 1)
        opened.log.store([draft("u/me", "signal", kind=rtapp.SIGNAL, expires_at=gone)])
        opened.log.store([draft(rtapp.HUB_TOPIC, {}, kind=rtapp.CONTROL, expires_at=gone)])
        opened.log.trim(24, 1_000)
        assert rows_of(log_url, "SELECT id FROM messages") == [(1,)]
        assert opened.log.complete(0, ["c/x", "u/me", rtapp.HUB_TOPIC])
        assert opened.publish("c/x", 2) == [4]


def test_topics_are_forgotten_in_the_end(log_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table stays small; a position from before then is not complete, for any topic."""
    monkeypatch.setattr(rtapp.Log, "TOPICS", 3)
    with Opened(log_url) as opened:
        for n in range(1, 11):
            opened.publish(f"c/{n}", n)
        opened.publish("c/alive", "kept")
        opened.log.trim(24, 1)
        sql = f"SELECT topic FROM topics WHERE {NOT_ORDERS} ORDER BY trimmed_id"
        assert rows_of(log_url, sql) == [("c/8",), ("c/9",), ("c/10",)]
        assert rows_of(log_url, "SELECT value FROM meta WHERE key = 'floor'") == [("7",)]
        other = rtapp.Log(opened.storage)
        other.begin_at(other.read_stand())
        for log in (opened.log, other):
            assert not log.complete(6, ["c/never"]) and log.complete(7, ["c/never"])
            assert not log.complete(6, ["c/3"]) and log.complete(7, ["c/3"])
            assert not log.complete(7, ["c/8"]) and log.complete(8, ["c/8"])
        opened.publish("c/3", "back")
        assert opened.log.complete(7, ["c/3"]) and not opened.log.complete(2, ["c/3"])


def test_topics_of_signals_are_not_remembered(log_url: str) -> None:
    """Each client of a call has one. What expires makes no position incomplete."""
    gone = rtapp.now_ms() - 1
    with Opened(log_url) as opened:
        opened.publish("u/1", "a message before the signal")
        for n in range(1, 11):
            opened.log.store([draft(f"u/{n}", {}, kind=rtapp.SIGNAL, expires_at=gone)])
        opened.publish("c/alive", "kept")
        opened.log.trim(24, 1)
        assert rows_of(log_url, f"SELECT topic FROM topics WHERE {NOT_ORDERS}") == [("u/1",)]
        assert opened.log.complete(1, ["u/1", "u/5"]) and not opened.log.complete(0, ["u/1"])


def test_orders_wait_for_a_node_that_was_away(
    postgres: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database was away from it for some minutes, and another one's retention went on."""
    url = postgres.new_database()
    with Opened(url) as there, Opened(url) as here:
        there.log.control("revoke", credentials=["x"])
        later = rtapp.now_ms() + 10 * 60_000
        monkeypatch.setattr(rtapp, "now_ms", lambda: later)
        there.log.trim(24, 1_000)
        here.log.poll()
        assert [entry.event for entry in here.heard] == ["revoke"]


def test_only_messages_are_held_back_by_the_count(log_url: str) -> None:
    """`history_messages` promises so many messages; orders to the hub are none."""
    with Opened(log_url) as opened:
        opened.publish("c/x", *range(5))
        for _ in range(20):
            opened.log.control("kick", clientId="nobody", reason="")
        opened.log.trim(24, 5)
        assert opened.log.complete(0, ["c/x"])
        assert rows_of(log_url, "SELECT count(*) FROM messages WHERE topic = 'c/x'") == [(5,)]


@pytest.mark.parametrize("letters", ["xx", "ş"])  # as many bytes
def test_a_page_of_the_log_is_bounded_in_bytes(
    log_url: str, monkeypatch: pytest.MonkeyPatch, letters: str
) -> None:
    """A thousand messages may be a gigabyte. However large one is, a page has at least one."""
    monkeypatch.setattr(rtapp, "PAGE_BYTES", 1_000)
    with Opened(log_url) as opened:
        opened.publish("c/x", *[letters * 200] * 7, letters * 1_000, "z")
        found = [(0, [0])]
        while found[-1][0] < 9:
            entries, upto = opened.log.page(found[-1][0], 9, ["c/x"], 100)
            found.append((upto, [entry.id for entry in entries]))
        assert found[1:] == [(3, [1, 2, 3]), (6, [4, 5, 6]), (8, [7, 8]), (9, [9])]
        assert opened.log.page(0, 9, ["c/none"], 100) == ([], 9)
        entries, start = opened.log.newest(9, 1_000_000)
        assert [entry.id for entry in entries] == [*range(1, 10)] and start == 0
        entries, start = opened.log.newest(9, 4_000)
        assert [entry.id for entry in entries] == [8, 9] and start == 7


@pytest.mark.sqlite
def test_the_write_ahead_log_shrinks_again(log_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads for long, such as a program that copies the database, makes it grow."""
    monkeypatch.setattr(rtapp.SqliteEngine, "LOG_BYTES", 200_000)
    log = Path(f"{path_of(log_url)}-wal")
    with Opened(log_url) as opened, contextlib.closing(sqlite3.connect(path_of(log_url))) as other:
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM messages").fetchone()
        opened.publish("c/x", *["x" * 10_000] * 200)
        opened.storage.engine.tidy()
        opened.publish("c/x", "while it is read")
        assert log.stat().st_size > 2_000_000
        other.rollback()
        opened.storage.engine.tidy()
        opened.publish("c/x", "afterwards")
        assert log.stat().st_size <= 200_000
        assert len(kept(log_url)) == 202


# Migrations


def make_database(url: str, version: int) -> None:
    """A database as a release of that version left it, with a message in it."""
    with cursor_of(url) as cursor:
        for statement in sum(rtapp.MIGRATIONS[:version], ()):
            cursor.execute(statement.format(**engine_of(url).types))
        cursor.execute(f"INSERT INTO meta VALUES ('schema_version', '{version}')")
        cursor.execute("INSERT INTO meta VALUES ('epoch', '0123abcd')")
        cursor.execute(
            "INSERT INTO messages (id, topic, kind, content, batch, recipient_count, sent_at)"
            f" VALUES (1, '*', 'message', '\"old\"', 'b', 0, {rtapp.now_ms()})"
        )


@pytest.mark.parametrize("version", range(1, len(rtapp.MIGRATIONS) + 1))
def test_every_earlier_database_is_opened(log_url: str, version: int) -> None:
    make_database(log_url, version)
    with Opened(log_url) as opened:
        assert opened.log.epoch == "0123abcd" and opened.log.head == 1
        assert opened.publish("*", "new") == [2]
    if log_url.startswith("sqlite"):
        copy = path_of(log_url).with_name(f"rtapp.db.v{version}.bak")
        assert copy.exists() is (version < len(rtapp.MIGRATIONS))


@pytest.mark.sqlite
def test_a_migration_begins_with_a_copy(log_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    version = len(rtapp.MIGRATIONS)
    with Opened(log_url) as opened:
        opened.publish("c/x", "kept")
    extra = ("CREATE TABLE later (a TEXT)", "INSERT INTO later VALUES ('new')")
    monkeypatch.setattr(rtapp, "MIGRATIONS", (*rtapp.MIGRATIONS, extra))
    with Opened(log_url) as opened:
        assert opened.publish("c/x", "more") == [2]
    assert rows_of(log_url, "SELECT a FROM later") == [("new",)]
    copy = f"{log_url}.v{version}.bak"
    assert rows_of(copy, "SELECT content FROM messages") == [('"kept"',)]
    versions = "SELECT value FROM meta WHERE key = 'schema_version'"
    assert rows_of(copy, versions) == [(str(version),)]
    assert rows_of(log_url, versions) == [(str(version + 1),)]


def test_a_migration_that_fails_changes_nothing(
    log_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Opened(log_url) as opened:
        opened.publish("c/x", "kept")
    extra = ("CREATE TABLE later (a TEXT)", "INSERT INTO nowhere VALUES (1)")
    with monkeypatch.context() as patch:
        patch.setattr(rtapp, "MIGRATIONS", (*rtapp.MIGRATIONS, extra))
        with pytest.raises(rtapp.StartError):
            Opened(log_url)
    gc.collect()  # the one that failed holds the folder until it is gone
    database = engine_of(log_url).connect()
    assert "later" not in database.get_tables()
    database.close()
    with Opened(log_url) as opened:
        assert opened.publish("c/x", "more") == [2]


# The hub's parts


def entry(number: int) -> rtapp.Entry:
    """An entry of the log."""
    return rtapp.Entry("c/x", rtapp.MESSAGE, None, "1", id=number)


@settings(max_examples=100, deadline=None, database=None)
@given(
    steps=st.lists(st.sampled_from(["append", "append", "evict"]), max_size=300),
    gap=st.integers(1, 5),
    limit=st.integers(1, 20),
)
def test_topic_ring(steps: list[str], gap: int, limit: int) -> None:
    """The ring's entries of one topic, against a plain list."""
    ring, model, number = rtapp.TopicRing(0), [], 0
    for step in steps:
        if step == "append":
            number += gap
            ring.entries = [*ring.entries, entry(number)]
            model.append(number)
        elif model:
            ring.evict()
            assert ring.evicted == model.pop(0)
    assert ring.last == (model[-1] if model else 0)
    for cursor in range(ring.evicted, number + 2):
        expected = [n for n in model if n > cursor][:limit]
        assert [found.id for found in ring.after(cursor, limit)] == expected


@pytest.mark.parametrize("kind", [rtapp.EpollPoller, rtapp.Poller])
def test_pollers(kind: Callable[[Callable[[int, int], None]], rtapp.Poller]) -> None:
    """Both tell the same: what came, what can be sent, an end; and nothing once removed."""
    found: dict[int, int] = {}
    poller = kind(found.__setitem__)
    left, right = socket.socketpair()
    left.setblocking(False)
    fd = left.fileno()
    try:
        poller.watch(fd, rtapp.READ)
        gevent.sleep(0.05)
        assert not found
        right.send(b"x")
        until(lambda: found.get(fd, 0) & rtapp.READ, "something to read")
        left.recv(10)
        found.clear()
        poller.watch(fd, rtapp.READ | rtapp.WRITE)
        until(lambda: found.get(fd, 0) & rtapp.WRITE, "room to write")
        poller.watch(fd, rtapp.READ)
        gevent.sleep(0.02)
        found.clear()
        gevent.sleep(0.05)
        assert not found, "writing is watched no more"
        right.close()
        until(lambda: found.get(fd, 0) & rtapp.READ, "the end")
        poller.remove(fd)
        gevent.sleep(0.02)
        found.clear()
        gevent.sleep(0.05)
        assert not found
        poller.remove(fd)  # a second time does no harm
    finally:
        left.close()
        poller.close()


class Listening:
    """A hub on a log, and one subscriber of it at the other end of a socket pair."""

    def __init__(self, opened: Opened, *channels: str, **given: str) -> None:
        self.journal = rtapp.Journal(opened.storage)
        self.hub = rtapp.Hub(opened.log, rtapp.Stats(), self.journal, rtapp.Settings(given, {}))
        opened.listener = self.hub.advance
        self.hub.start()
        self.ours, theirs = socket.socketpair()
        self.ours.setblocking(False)
        self.subscriber = rtapp.Subscriber("me", rtapp.SSE[False, True], opened.log.head, "", "")
        topics = frozenset(rtapp.CHANNEL + name for name in channels)
        transport = rtapp.PlainTransport(theirs.detach())
        self.hub.attach(self.subscriber, topics, transport, b":\n\n", b"")
        self._received = b""

    def __enter__(self) -> Listening:
        return self

    def __exit__(self, *_: object) -> None:
        self.hub.drain()
        self.ours.close()

    def is_behind(self) -> None:
        """Nothing is in the ring, and the subscriber has had nothing of the log."""
        ring, subscriber = self.hub._ring, self.subscriber
        ring.floor = self.hub.head
        for topic_ring in ring.by_topic.values():
            topic_ring.evicted = ring.floor
        subscriber.view.newest = ring.floor
        subscriber.cursor, subscriber.own_last = 0, ring.floor
        self.hub._serve_soon(subscriber)

    def has(self, count: int) -> bool:
        """Whether so many messages have been sent so far."""
        return self.received().count("data: ") >= count

    def received(self) -> str:
        """All that has been sent so far."""
        with contextlib.suppress(BlockingIOError):
            self._received += self.ours.recv(65_536)
        return self._received.decode()


def test_a_ping_does_not_overtake_a_change_of_topics(log_url: str) -> None:
    """A message to a channel that was just added stands in the log behind the change. A ping that
    comes between the commit and the sweep must not move the subscriber past it."""
    order = {"clientId": "me", "add": ["c/new"], "remove": []}
    with Opened(log_url) as opened, Listening(opened, "old") as listening:

        def advance_then_ping(entries: list[rtapp.Entry]) -> None:
            listening.hub.advance(entries)
            listening.subscriber.pinged_at = 0
            listening.hub._ping()

        opened.listener = advance_then_ping
        opened.log.store([
            rtapp.Entry(rtapp.HUB_TOPIC, rtapp.CONTROL, "topics", json.dumps(order)),
            draft("c/new", "just after the change"),
        ])  # fmt: skip
        until(lambda: "just after the change" in listening.received(), "the message")


def test_an_order_that_fails_holds_nothing_up(log_url: str) -> None:
    """A node of another version may have written it; what comes behind it is brought."""
    with Opened(log_url) as opened, Listening(opened, "x") as listening:
        order = rtapp.Entry(rtapp.HUB_TOPIC, rtapp.CONTROL, "kick", "{}")
        gevent.spawn(opened.log.store, [order, draft("c/x", "behind it")])
        until(lambda: "behind it" in listening.received(), "the message")


def test_text_that_postgresql_can_not_hold(postgres: Cluster) -> None:
    with Opened(postgres.new_database()) as opened:
        with pytest.raises(rtapp.Problem, match="U\\+0000"):
            opened.storage.read("SELECT ?", ("a\0b",))
        with pytest.raises(rtapp.Problem, match="U\\+0000"):
            opened.storage.write(lambda tx: rtapp.note_facts(tx.database, {"key": "a\0b"}))
        assert opened.publish("c/x", "goes on") == [1]


@pytest.mark.parametrize("bad", ["\ud800", "a\0b"])
def test_a_text_that_can_not_be_held_hurts_only_itself(log_url: str, bad: str) -> None:
    """In one transaction with others, whether among plain messages or in a unit."""
    if bad == "a\0b" and log_url.startswith("sqlite"):
        pytest.skip("SQLite can hold it")
    with Opened(log_url) as opened:
        with opened.writer_held():
            refused = [
                gevent.spawn(opened.log.store, [draft("c/x", "a"), draft(bad, "b")]),
                gevent.spawn(opened.storage.write, lambda tx: tx.append([draft(bad, "c")])),
            ]
            others = [gevent.spawn(opened.publish, "c/x", n) for n in range(3)]
        gevent.joinall([*refused, *others], timeout=PATIENCE)
        assert [giver.exception.code for giver in refused] == ["invalid"] * 2  # type: ignore[union-attr]
        assert sorted(giver.value[0] for giver in others) == opened.ids == kept(log_url)
        assert opened.publish("c/x", "goes on") == [4]


def test_what_was_joined_for_a_send_is_not_kept(log_url: str) -> None:
    """Each set of topics has its own, of up to 64 KB, and there may be thousands of them."""
    with Opened(log_url) as opened, Listening(opened, "x") as listening:
        opened.publish("c/x", *range(100))
        until(partial(listening.has, 100), "all of them")
        until(lambda: not listening.hub._dirty, "the end of the sweep")
        assert not any(view.bursts for view in listening.hub.audience.views.values())


def test_a_clock_that_is_set_ends_no_stream(log_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pings go on where it was set back, and nobody counts as gone where it was set forward."""
    real = rtapp.now_ms

    def pings() -> int:
        return listening.received().count("event: ping")

    with Opened(log_url) as opened, Listening(opened, ping_interval="0.2") as listening:
        listening.subscriber.session = Silent()
        for jump in (-HOUR, HOUR):
            monkeypatch.setattr(rtapp, "now_ms", lambda: real() + jump)  # noqa: B023
            enough = pings() + 2
            until(lambda: pings() >= enough, "more pings")  # noqa: B023
        assert listening.hub.count == 1


def test_a_server_by_its_name(postgres: Cluster) -> None:
    """It is tried at each of the name's addresses: here it listens at one of two."""
    url = postgres.new_database().replace("127.0.0.1", "localhost")
    with Opened(url) as opened:
        assert opened.publish("c/x", 1) == [1]
    assert set(rtapp.looked_up("postgresql://u@localhost/x")) == {"host", "hostaddr"}
    for other in ("postgresql://u@[::1]/x", "postgresql:///x?host=/tmp", "postgresql://a,b/x"):
        assert rtapp.looked_up(other) == {}


class Silent:
    """A client that says nothing."""

    def received(self, subscriber: Any, data: bytes) -> None: ...

    def connection_ended(self, subscriber: Any, reason: str) -> None: ...

    def revoked(self, credentials: set[str]) -> None: ...


def test_the_ring_keeps_within_its_bytes(log_url: str) -> None:
    """What an entry cost when it came is what it gives back when it goes, though its text has been
    stamped meanwhile."""
    with Opened(log_url) as opened, Listening(opened, "x", ring_bytes="65536") as listening:
        for n in range(1, 6):
            opened.publish("c/x", *[{"n": n}] * 200)
            until(partial(listening.has, 200 * n), "all of them")
            memory = listening.hub.memory()
            assert 0 < memory["bytes"] <= 65_536 and memory["entries"] < 100, memory


def test_a_connection_that_is_gone_is_forgotten(log_url: str) -> None:
    """Long before the credential expires that it was opened with."""
    with Opened(log_url) as opened, Listening(opened, "x") as listening:
        listening.subscriber.session = Silent()
        gone = weakref.ref(listening.subscriber.session)
        listening.subscriber.expires_at = rtapp.now_ms() + 1_000 * HOUR
        listening.ours.shutdown(socket.SHUT_WR)
        until(lambda: not listening.hub.count, "its end")
        del listening.subscriber
        gc.collect()
        assert gone() is None


def test_a_page_is_only_for_whom_it_was_read(log_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new connection that is behind the ring, and becomes meanwhile one that recovers at an
    earlier place with other topics: the page read for what it was must not move it past what it
    has missed."""
    with Opened(log_url) as opened:
        opened.publish("c/x", *range(5))
        with Listening(opened) as listening:
            hub, subscriber, page = listening.hub, listening.subscriber, opened.log.page

            def page_after_recovery(*arguments: Any) -> tuple[list[rtapp.Entry], int]:
                monkeypatch.setattr(opened.log, "page", page)
                found = page(*arguments)
                hub.rewind(subscriber, frozenset(["c/x"]), 0)
                return found

            monkeypatch.setattr(opened.log, "page", page_after_recovery)
            listening.is_behind()
            until(lambda: listening.received().count("data: ") == 5, "all that it missed")


def test_retention_during_a_catch_up_is_told(log_url: str) -> None:
    """Rows that go just before a catch-up's read, while the loop has not heard of it yet: the
    subscriber is told `reset`, and not left without them in silence."""
    with Opened(log_url) as opened:
        opened.publish("c/x", *range(5))
        page = opened.log.page
        late: list[bool] = []

        def gone() -> bool:
            return not kept(log_url)

        def page_after_retention(*arguments: Any) -> tuple[list[rtapp.Entry], int]:
            gevent.spawn(opened.log.trim, 24, 0)
            until(gone, "retention")
            return page(*arguments)

        class Late(deque[Any]):
            """What is done, of which nothing is told at first once the rows are gone."""

            def __bool__(self) -> bool:
                return len(self) > 0 and (bool(late) or not gone())

        opened.storage._done, opened.log.page = Late(), page_after_retention
        with Listening(opened, "x") as listening:
            listening.is_behind()
            until(lambda: "event: reset" in listening.received(), "a reset")
            late.append(True)
            opened.storage._bell.set()


@pytest.mark.parametrize("forget", [False, True])
def test_retention_of_another_node_is_told(
    postgres: Cluster, monkeypatch: pytest.MonkeyPatch, forget: bool
) -> None:
    """This node has not heard of it yet, and reads from the database what isn't there any more."""
    monkeypatch.setattr(rtapp.Log, "TOPICS", 0 if forget else 100)
    url = postgres.new_database()
    with Opened(url) as there:
        there.publish("c/x", *range(5))
        with Opened(url) as here, Listening(here, "x") as listening:
            there.log.trim(24, 0)
            assert here.log.complete(0, ["c/x"]), "as far as it knows"
            listening.is_behind()
            until(lambda: "event: reset" in listening.received(), "a reset")
            assert not here.log.complete(0, ["c/x"])
            here.log.poll()
            assert not here.log.complete(0, ["c/x"]) and here.log.complete(5, ["c/x"])


def test_a_node_hears_of_anothers_retention(postgres: Cluster, tmp_path: Path) -> None:
    """So it knows, before it has read anything, that who comes back has lost something."""
    url = postgres.new_database()
    with Server(tmp_path, env={"DATABASE_URL": url}) as server, Opened(url) as there:
        with server.stream("channel=x") as stream:
            position = stream.last_id
            server.publish("lost", "channel=x")
            stream.take(1)
        there.log.poll()
        there.log.trim(24, 0)

        def recovers() -> bool:
            with server.stream("channel=x", headers={"Last-Event-ID": position}) as back:
                return bool(back.hello["recovered"])

        wait_for(lambda: not recovers(), "it to be heard of")
        assert server.get("/api/logs?level=ERROR").json == []


# Idempotency keys


def once(server: Server, key: str, body: Any = "x", query: str = "", **more: Any) -> Answer:
    """A publish with a key."""
    headers = {"Idempotency-Key": key, **more.pop("headers", {})}
    return server.post(f"/api/broadcast?{query}", body, headers=headers, **more)


def count_messages(server: Server) -> int:
    """How many messages are stored."""
    return int(rows_of(server.database_url, "SELECT count(*) FROM messages")[0][0])


def test_the_same_key_is_the_same_message(server: Server) -> None:
    with server.stream() as stream:
        first = once(server, "k-1", {"a": 1})
        again = once(server, "k-1", {"a": 1})
        assert first.status == again.status == 200 and first.body == again.body
        for other in (once(server, "k-1", {"a": 2}), once(server, "k-1", {"a": 1}, "channel=x")):
            assert other.status == 422 and other.code == "idempotency_mismatch"
        assert once(server, "k-2", {"a": 1}).json["message"]["id"] == 2
        assert [value["id"] for value in stream.values(2)] == [1, 2]
        assert stream.silent(0.1)
    server.kill()
    server.start()
    assert once(server, "k-1", {"a": 1}).body == first.body
    assert count_messages(server) == 2


def test_the_same_key_at_the_same_time(server: Server) -> None:
    answers: list[Answer] = []
    threads = [
        threading.Thread(target=lambda: answers.append(once(server, "k", {"a": 1})))
        for _ in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status for answer in answers} == {200}
    assert len({answer.body for answer in answers}) == 1
    assert count_messages(server) == 1


def test_a_refused_message_leaves_its_key_free(server: Server) -> None:
    assert once(server, "k", {"type": "reset"}).code == "reserved_type"
    assert once(server, "k", {"type": "fine"}).status == 200


def test_a_key_belongs_to_who_uses_it(make_server: Callable[..., Server]) -> None:
    """The administrator's token and a browser's session are two; so is who is anonymous."""
    first = make_server(env={"RTAPP_ADMIN_TOKEN": None}, access="open")
    body = {"token": setup_token(first), "username": "Ada", "password": "a loom of one's own"}
    signed_in = cookie_of(first.post("/api/auth/setup", body, token=None))
    assert once(first, "k", "mine", headers=signed_in, token=None).status == 200
    assert once(first, "k", "somebody else's", token=None).status == 200
    assert count_messages(first) == 2


def test_a_key_of_the_anonymous_is_their_sessions(make_server: Callable[..., Server]) -> None:
    server = make_server(access="open", trusted_proxies="127.0.0.1")
    ways: list[dict[str, Any]] = [
        *({"headers": {"X-Session": letter * 22}} for letter in "ab"),
        {"query": f"session={'c' * 22}"},
        *({"headers": {"X-Forwarded-For": f"203.0.113.{number}"}} for number in (7, 8)),
    ]
    for many, way in enumerate(ways, 1):
        answer = once(server, "1", f"of {many}", token=None, **way)
        assert answer.status == 200 and count_messages(server) == many
        assert once(server, "1", f"of {many}", token=None, **way).body == answer.body
        assert once(server, "1", "other", token=None, **way).code == "idempotency_mismatch"
    # The session is the client's, by whichever way it is told and wherever it comes from.
    moved = {"X-Session": "c" * 22, "X-Forwarded-For": "203.0.113.9"}
    again = once(server, "1", "of 3", ways[2]["query"], headers=moved, token=None)
    assert again.status == 200
    assert once(server, "1", "of 3", headers=moved, token=None).code == "idempotency_mismatch"
    # It stays the same client's in a room; with an account the session says nothing.
    first = once(server, "1", "of 1", token=None, **ways[0])
    server.post("/api/video/rooms", {"name": "a", "roomId": "a"})
    joined = server.post("/api/video/rooms/a/join", {"session": "a" * 22}, token=None)
    assert joined.status == 200
    assert once(server, "1", "of 1", token=None, **ways[0]).body == first.body
    mine = once(server, "1", "an administrator's", **ways[0])
    assert (
        mine.status == 200 and once(server, "1", "an administrator's", **ways[1]).body == mine.body
    )


def test_a_bad_session_is_no_space_for_keys(make_server: Callable[..., Server]) -> None:
    server = make_server(access="open")
    for session in ("", "short", "x" * 65, "a" * 21 + "=", "a" * 21 + "%0A"):
        assert once(server, "1", "x", f"session={session}", token=None).code == "invalid"
        headers = {"X-Session": session}
        assert once(server, "1", "x", headers=headers, token=None).code == "invalid"
    assert count_messages(server) == 0


def test_a_key_is_forgotten_after_a_day(server: Server) -> None:
    assert once(server, "k", 1).status == 200
    change(server.database_url, "UPDATE idempotency_keys SET created_at = created_at - 86400001")
    assert once(server, "k", 2).status == 200
    assert once(server, "k", 1).code == "idempotency_mismatch"
    assert count_messages(server) == 2
