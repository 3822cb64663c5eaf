"""A handlers file (`--app`): what its functions are called with, what they may call, and what a
client can't do to them."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from support import (
    ADMIN,
    PATIENCE,
    POLLING,
    ROOT,
    Server,
    hear_io,
    join_io,
    open_io,
    wait_for,
)

Serve = Callable[..., Server]
HEADER = "from rtapp import on, use, emit, Refused\n"


@pytest.fixture
def serve(make_server: Callable[..., Server], tmp_path: Path) -> Serve:
    """Starts a server with handlers, open to everybody."""

    def make(code: str, **more: Any) -> Server:
        path = tmp_path / "handlers.py"
        path.write_text(HEADER + textwrap.dedent(code))
        return make_server("--app", str(path), **{"access": "open", **more})

    return make


def join(server: Server, auth: Any = None) -> ClientConnection:
    """A client that has joined."""
    return join_io(server, auth or {})[0]


def cut(ws: ClientConnection) -> None:
    """Lose a link without a word; a `close` of the socket would wait for who reads from it."""
    ws.socket.shutdown(socket.SHUT_RDWR)


def say(ws: ClientConnection, event: str | int, *values: Any, ack: int | str = "") -> None:
    """Send an event."""
    ws.send(f"42{ack}{json.dumps([event, *values])}")


def ask(ws: ClientConnection, event: str | int, *values: Any) -> Any:
    """The values of the acknowledgement; what comes before it is skipped."""
    say(ws, event, *values, ack=7)
    while not (heard := hear_io(ws)).startswith("437"):
        pass
    return json.loads(heard[3:])


def logged(server: Server, text: str) -> None:
    """Wait until the event log says something."""
    wait_for(lambda: text in json.dumps(server.get("/api/logs").json), f"the log to say {text}")


ANSWERS = """
    kept = {}

    @on("two")
    def two(client, a, b):
        return [a, b]

    @on("none")
    def none():
        return "called"

    @on("defaults")
    def defaults(client, a=1, b=2):
        return [a, b]

    @on("rest")
    def rest(client, a, *more):
        return [a, more]

    @on("save")
    def save(client, data):
        raise OSError("disk full")

    @on("quiet")
    def quiet(client):
        pass

    @on("pair")
    def pair(client):
        return 1, 2

    @on("later")
    def later(client, value, ack):
        kept["ack"] = ack
        return "not this"

    @on("now")
    def now(client):
        kept["ack"]("late", 2)
        kept["ack"]("twice")

    @on("asks")
    def asks(client, *values, ack):
        ack(*values)

    @on("many")
    def first(client):
        kept["order"] = ["first"]

    @on("many")
    def second(client):
        kept["order"].append("second")
        return kept["order"]

    @on("half")
    def fine(client):
        return "fine"

    @on("half")
    def fails(client):
        raise OSError("half of it")

    @on("*")
    def other(client, event, *values):
        return ["other", event, *values] if event != "nothing" else None

    @on("connection")
    def connection(client):
        kept["connections"] = kept.get("connections", 0) + 1

    @on("connections")
    def connections(client):
        return kept["connections"]
"""


def test_what_is_acknowledged(serve: Serve) -> None:
    server = serve(ANSWERS)
    with join(server) as ws:
        assert ask(ws, "two", 1) == [[1, None]]
        assert ask(ws, "two", 1, 2, 3) == [[1, 2]]
        assert ask(ws, "none", 1, 2) == ["called"]
        assert ask(ws, "defaults") == [[1, 2]]
        assert ask(ws, "defaults", 5) == [[5, 2]]
        assert ask(ws, "rest") == [[None, []]]
        assert ask(ws, "rest", 1, 2, 3) == [[1, [2, 3]]]
        assert ask(ws, "quiet") == []
        assert ask(ws, "pair") == [1, 2]
        assert ask(ws, "asks", 1, "b") == [1, "b"]
        assert ask(ws, "many") == [["first", "second"]]
        assert ask(ws, 7, {"x": 1}) == [["other", "7", {"x": 1}]]
        assert ask(ws, 1.5) == [["other", "1.5"]]
        assert ask(ws, "*", 1) == [["other", "*", 1]]
        say(ws, "save", 1, ack=1)  # fails, and so does half of the next
        say(ws, "half", ack=2)
        say(ws, "later", 1, ack=3)
        say(ws, "now")
        assert hear_io(ws) == '433["late",2]'
        for event in ("connection", "connection"):
            assert ask(ws, event) == [["other", "connection"]]
        assert ask(ws, "connections") == [1]
        say(ws, "asks", 1)  # who asks for no answer is sent none
        assert ask(ws, "quiet") == []
    logged(server, "disk full")
    logged(server, "half of it")


def test_what_nobody_handles_is_not_acknowledged(serve: Serve) -> None:
    server = serve('@on("known")\ndef known(client): return "known"')
    with join(server) as ws:
        say(ws, "unknown", ack=1)
        say(ws, "connection", ack=2)
        say(ws, "known", ack=3)
        assert hear_io(ws) == '433["known"]'


SENDS = """
    @on("say")
    def say(client, room, text):
        emit("said", text, to=room)

    @on("say others")
    def say_others(client, room, text):
        client.broadcast("said", text, to=room)

    @on("say all")
    def say_all(client, text):
        emit("said", text)

    @on("enter")
    def enter(client, room):
        client.join(room)
        return sorted(client.rooms - {client.id})

    @on("exit")
    def exit(client, room):
        client.leave(room)
        return sorted(client.rooms - {client.id})

    @on("reserved")
    def reserved(client, event, how):
        try:
            if how == "all":
                emit(event, 1)
            elif how == "others":
                client.broadcast(event, 1)
            elif how == "call":
                client.call(event)
            else:
                client.emit(event, 1)
        except ValueError as error:
            return str(error)
"""


def test_to_whom(serve: Serve) -> None:
    server = serve(SENDS)
    with join(server) as one, join(server) as two:
        for nobody in ("", None, [], [None, ""], "unknown"):
            assert ask(one, "say", nobody, "secret") == []
            assert ask(one, "say others", nobody, "secret") == []
        for nonsense in (True, 1.5, [["a"]], [{"a": 1}]):  # that fails, and reaches nobody
            say(one, "say", nonsense, "secret", ack=1)
        assert ask(two, "enter", 7) == [["7"]]
        assert ask(two, "enter", ["a", "b"]) == [["7", "a", "b"]]
        assert ask(two, "exit", ["a", "c"]) == [["7", "b"]]
        for room in (7, "7", ["b", 7]):
            ask(one, "say", room, room)
            assert hear_io(two) == f'42["said",{json.dumps(room, separators=(",", ":"))}]'
        ask(one, "say all", "everybody")
        assert hear_io(two) == '42["said","everybody"]'


@pytest.mark.parametrize("how", ["all", "others", "one", "call"])
def test_reserved_events_are_refused_at_the_call(serve: Serve, how: str) -> None:
    server = serve(SENDS)
    with join(server) as ws:
        for event in ("connect", "disconnect", "disconnecting", "connect_error", "newListener"):
            [words] = ask(ws, "reserved", event, how)
            assert words == f"The event {event} is Socket.IO's own; choose another name."


ODD = """
    from rtapp import call, fetch_sockets, sockets_join

    kept = {}

    def fails(function, *values, **named):
        try:
            function(*values, **named)
        except TypeError:
            return True
        return False

    @on("enter")
    def enter(client, *rooms):
        client.join(rooms)

    @on("say")
    def say(client, room):
        return [fails(emit, "said", to=room), fails(client.broadcast, "said", exclude=room)]

    @on("names")
    def names(client, name):
        ways = emit, client.emit, client.broadcast, client.call, call
        return [fails(way, name, 1) for way in ways]

    @on("hello", namespace="chat")
    def hello(client):
        emit("all", 1, namespace="chat")
        sockets_join("red", namespace="chat")
        emit("red", 2, to="red", namespace="chat")
        return len(fetch_sockets(namespace="chat")), fails(fetch_sockets, namespace=None)

    @on("ask")
    def ask(client, volatile):
        client.emit("q", volatile=volatile, ack=lambda value: client.emit("heard", value))

    @on("binary")
    def binary(client, *values):
        return len(values)

    @on("exit")
    async def exit(client):
        raise SystemExit(3)

    @on("interrupt")
    async def interrupt(client):
        raise KeyboardInterrupt("of a coroutine")

    @on("interrupt")
    def interrupt_too(client):
        raise KeyboardInterrupt("of a handler")

    @use(namespace="/interrupt")
    def interrupted(client):
        raise KeyboardInterrupt("of a gate")

    @on("*")
    def other(client, event):
        raise OSError("x" * 100_000)

    @use(namespace="/gate")
    async def gate(client):
        how = client.auth.get("how")
        if how == "data":
            raise Refused("no", data=object())
        if how == "keyword":
            raise Refused("no", data={"code": 1})
        if how == "half":
            raise ValueError("no \\ud83d")
        if how == "wordless":
            raise Wordless
        if how == "heir":
            raise Heir(object(), 2, 3)
        return how

    class Wordless(Exception):
        def __str__(self):
            raise OSError

    class Heir(Refused):
        def __init__(self, *values):
            pass

    @on("wordless")
    def wordless(client):
        raise Wordless

    @on("declare")
    def declare(client, name):
        def there():
            pass
        ways = lambda: on(name), lambda: on_server_side(name), lambda: on("x", namespace=name)
        ways = [fails(lambda: way()(there)) for way in ways]
        return [*ways, fails(client.on, name, there), fails(server_side_emit, name)]

    from rtapp import on_server_side, server_side_emit
"""


def test_what_is_no_room_is_nobodys(serve: Serve) -> None:
    server = serve(ODD)
    with join(server) as one, join(server) as two:
        say(two, "enter", "red", *b"red")
        assert ask(one, "say", {"red": 1}) == [[True, True]]
        one.send('451-7["say",{"_placeholder":true,"num":0}]')
        one.send(b"red")  # an attachment is not the rooms 114, 101 and 100
        assert hear_io(one) == "437[[true,true]]"
        assert ask(one, "say", ["red"]) == [[False, False]]
        assert hear_io(two) == '42["said"]'


def test_what_is_no_name_is_refused_at_the_call(serve: Serve) -> None:
    server = serve(ODD)
    with join(server) as ws:
        for name in (5, True, None, 1.5, ["a"], {"a": 1}):
            assert ask(ws, "names", name) == [[True] * 5]
            assert ask(ws, "declare", name) == [[True] * 5]
        assert ask(ws, "declare", "name") == [[False] * 5]


def test_a_namespace_needs_no_slash(serve: Serve) -> None:
    server = serve(ODD)
    with join(server) as ws:
        ws.send("40/chat,")
        assert hear_io(ws).startswith("40/chat")
        ws.send('42/chat,1["hello"]')
        assert [hear_io(ws) for _ in range(3)] == [
            '42/chat,["all",1]',
            '42/chat,["red",2]',
            "43/chat,1[1,true]",
        ]


VALUES = """
    import enum, sys
    from dataclasses import dataclass
    from datetime import date
    from decimal import Decimal
    from uuid import UUID
    from rtapp import call

    class Text(str):
        pass

    class Whole(int):
        pass

    class Real(float):
        pass

    class Room(str, enum.Enum):
        RED = "red"

    class Level(enum.IntEnum):
        HIGH = 3

    @dataclass
    class Point:
        x: int
        image: bytes = b"of it"

    PLAIN = [
        Text("a"), Whole(1), Real(0.5), Room.RED, Level.HIGH, {Text("k"): [Whole(2)]}, {1: 2},
        Decimal("1.50"), date(2026, 12, 1), UUID(int=0), (1, 2), {3}, frozenset([4]),
    ]

    @on("plain")
    def plain(client):
        client.emit(Text("said"), *PLAIN)
        emit(Room.RED, *PLAIN)
        return tuple(PLAIN)

    @on("binary")
    def binary(client):
        return [bytearray(b"a"), memoryview(b"b"), {b"c"}, Point(1)]

    @on("half")
    def half(client):
        client.emit("said", {"a\\ud83d": ["b\\ude00 \U0001f600"]}, float("nan"))
        return "c\\ud83d"

    @on("no data")
    def no_data(client):
        said = []
        for value in (object(), 1j, range(3), open, {(1, 2): 3}):
            for way in (client.emit, emit, call, client.call):
                try:
                    way("said", value)
                except TypeError as error:
                    said.append(str(error))
        return said

    @on("enter")
    def enter(client):
        client.join([Room.RED, Level.HIGH])
        emit("said", to="red")
        emit("said", to=3)
        emit("said", to=[Room.RED, Level.HIGH])
        return sorted(client.rooms - {client.id})

    @on("poll")
    def poll(client, ack):
        ack(call("q", *PLAIN, to=Room.RED))
"""


def test_which_values_are_sent(serve: Serve) -> None:
    server = serve(VALUES)
    plain = '"a",1,0.5,"red",3,{"k":[2]},{"1":2},"1.50","2026-12-01",'
    plain += '"00000000-0000-0000-0000-000000000000",[1,2],[3],[4]'
    with join(server) as ws:
        say(ws, "plain", ack=7)
        heard = sorted(hear_io(ws) for _ in range(3))
        assert heard == [f'42["red",{plain}]', f'42["said",{plain}]', f"437[{plain}]"]
        say(ws, "binary", ack=7)
        head = hear_io(ws)
        assert head.startswith("464-7[[") and head.count("_placeholder") == 4
        assert '{"x":1,"image":{"_placeholder":true,"num":3}}' in head
        assert [ws.recv() for _ in range(4)] == [b"a", b"b", b"c", b"of it"]
        say(ws, "half", ack=7)
        assert hear_io(ws) == '42["said",{"a\ufffd":["b\ufffd \U0001f600"]},null]'
        assert hear_io(ws) == '437["c\ufffd"]'
        [words] = ask(ws, "no data")
        assert len(words) == 20, words
        assert (
            words[0] == "Encoding objects of type object is unsupported" and len({*words}) == 5
        ), words
        say(ws, "enter", ack=7)
        assert [hear_io(ws) for _ in range(4)] == ['42["said"]'] * 3 + ['437[["3","red"]]']
        say(ws, "poll", ack=7)
        assert (question := hear_io(ws)).endswith(f'["q",{plain}]')
        ws.send("43" + question[2 : question.index("[")] + '["answer"]')
        assert hear_io(ws) == '437[["answer"]]'


def test_how_long_one_may_wait(serve: Serve) -> None:
    """What is no number of seconds is refused where it is said, on each way to wait."""
    server = serve("""
        from rtapp import call, fetch_sockets, server_side_call

        @on("wait")
        def wait(client):
            said = set()
            for timeout in (None, "5", -1, float("nan"), float("inf")):
                for way in (
                    lambda: client.call("q", timeout=timeout),
                    lambda: call("q", timeout=timeout),
                    lambda: fetch_sockets(timeout=timeout),
                    lambda: server_side_call("q", timeout=timeout),
                ):
                    try:
                        said.add(repr(way()))
                    except TypeError as error:
                        said.add(str(error))
            return sorted(said)
    """)
    with join(server) as ws:
        none = ["None", "'5'", "-1", "nan", "inf"]
        words = sorted(f"timeout is a number of seconds, not {each}." for each in none)
        assert ask(ws, "wait") == [words]


@pytest.mark.parametrize("seconds", [0, 60])
def test_a_question_may_be_said_to_be_volatile(serve: Serve, seconds: int) -> None:
    server = serve(ODD, socketio_recovery_seconds=seconds)
    with join(server) as ws:
        say(ws, "ask", True)
        assert hear_io(ws) == '420["q"]'
        ws.send("430[5]")
        assert hear_io(ws).startswith('42["heard",5')


def test_an_answer_is_not_another_connections(serve: Serve) -> None:
    """A client's function that is called late answers on the connection that there is then."""
    server = serve(ODD)
    with join(server) as ws:
        say(ws, "ask", False)
        assert hear_io(ws) == '420["q"]'
        cut(ws)
    with join(server) as ws:
        say(ws, "ask", False)
        assert hear_io(ws) == '421["q"]'
        ws.send('430["the first one\'s"]')
        ws.send('431["its own"]')
        assert hear_io(ws) == '42["heard","its own"]'


def test_a_placeholder_before_the_first_attachment(serve: Serve) -> None:
    server = serve(ODD)
    with join(server) as ws:
        ws.send('451-7["binary",{"_placeholder":true,"num":-1}]')
        ws.send(b"x")
        assert ask(ws, "binary", 1, 2) == [2]  # the first one is not acknowledged


def test_nobody_ends_the_server_or_fills_its_log(serve: Serve) -> None:
    server = serve(ODD)
    with join(server) as ws:
        say(ws, "exit", ack=1)
        say(ws, "e" * 500_000, ack=1)
        say(ws, "interrupt", ack=1)
        ws.send("40/interrupt,")
        assert hear_io(ws) == '44/interrupt,{"message":"internal error"}'
        assert ask(ws, "binary") == [0]
    logged(server, "SystemExit(3)")
    for who in ("coroutine", "handler", "gate"):
        logged(server, f"KeyboardInterrupt('of a {who}')")
    logged(server, "The handler of eeee")
    assert len(server.get("/api/logs").body) < 50_000


def test_how_a_middleware_refuses(serve: Serve) -> None:
    server = serve(ODD)
    with join(server) as ws:
        for how, answer in (
            ("data", '{"message":"Encoding objects of type object is unsupported"}'),
            ("keyword", '{"message":"no","data":{"code":1}}'),
            (False, '{"message":"refused"}'),
            ("half", '{"message":"no \ufffd"}'),
            ("wordless", '{"message":"Wordless, whose words fail with OSError"}'),
            ("heir", '{"message":"(<object object'),
        ):
            ws.send(f"40/gate,{json.dumps({'how': how})}")
            assert hear_io(ws).startswith(f"44/gate,{answer}")
        ws.send("40/gate,")
        assert hear_io(ws).startswith('40/gate,{"sid"')
        say(ws, "wordless", ack=1)
        assert ask(ws, "binary") == [0]


WAITS = """
    import gevent, gevent.event

    @on("event")
    def event(client):
        answered = gevent.event.Event()
        client.emit("q", ack=answered.set)
        answered.wait()
        return "answered"

    @on("call")
    def call(client, timeout):
        try:
            return [client.call("q", 1, timeout=timeout)]
        except TimeoutError as error:
            return str(error)

    gone = []

    @on("forever")
    def forever(client):
        try:
            client.call("q")
        except TimeoutError as error:
            gone.append(str(error))

    @on("gone")
    def who_is_gone(client):
        return gone
"""


def test_a_handler_may_wait_for_its_client(serve: Serve) -> None:
    server = serve(WAITS)
    with join(server) as ws, join(server) as other:
        say(ws, "event", ack=1)
        assert hear_io(ws) == '420["q"]'
        ws.send("430[1,2]")
        assert hear_io(ws) == '431["answered"]'
        for number, (answer, value) in enumerate(
            [("[]", None), ("[5]", 5), ("[5,6]", [5, 6]), ('["é"]', "é")], 1
        ):
            say(ws, "call", 60, ack=1)
            assert hear_io(ws) == f'42{number}["q",1]'
            ws.send(f"43{number}{answer}")
            assert json.loads(hear_io(ws)[3:]) == [[value]]
        say(ws, "call", 0.01, ack=1)
        assert hear_io(ws) == '425["q",1]'
        assert hear_io(ws) == '431["No answer to q within 0.01 seconds."]'
        ws.send("435[1]")  # too late
        say(ws, "forever")
        assert hear_io(ws) == '426["q"]'
        ws.close()
        wait_for(lambda: ask(other, "gone") == [["The client is gone."]], "the call to end")


THREADS = """
    import asyncio, threading
    import gevent
    from gevent.monkey import get_original

    def in_thread(function):
        done = threading.Event()
        ended = []

        def run():
            try:
                ended.append(function())
            except BaseException as error:
                ended.append(repr(error))

        get_original("_thread", "start_new_thread")(run, ())
        while not ended:
            gevent.sleep(0.01)
        return ended[0]

    @on("thread")
    def thread(client):
        def work():
            emit("tick", 1)
            client.emit("tick", 2)
            client.join("room")
            emit("tick", 3, to="room")
            return sorted(client.rooms - {client.id})
        return in_thread(work)

    @on("fails")
    def fails(client):
        return in_thread(lambda: emit("connect"))

    @on("pool")
    def pool(client):
        return gevent.get_hub().threadpool.apply(lambda: emit("tick", 4))

    @on("async")
    async def coroutine(client, seconds):
        await asyncio.sleep(seconds)
        client.emit("tick", seconds)
        return seconds

    @on("call async")
    async def calls(client):
        return await asyncio.to_thread(client.call, "q")

    @on("async fails")
    async def coroutine_fails(client):
        raise OSError("of a coroutine")

    @use(namespace="/gate")
    async def gate(client):
        await asyncio.sleep(0)
        if client.auth.get("name") != "ada":
            raise Refused("not you", {"name": 1})
"""


def test_threads_and_coroutines(serve: Serve) -> None:
    server = serve(THREADS)
    with join(server) as ws:
        say(ws, "thread", ack=1)
        heard = [hear_io(ws) for _ in range(4)]
        assert heard == ['42["tick",1]', '42["tick",2]', '42["tick",3]', '431[["room"]]']
        [words] = ask(ws, "fails")
        assert words.startswith('ValueError("The event connect')
        say(ws, "pool", ack=1)
        assert {hear_io(ws), hear_io(ws)} == {'42["tick",4]', "431[]"}
        with join(server) as other:  # one waits while another is served
            say(ws, "async", 3600, ack=1)
            assert ask(other, "async", 0) == [0]
        with join(server) as other:
            say(other, "call async", ack=1)
            assert hear_io(other) == '420["q"]'
            other.send("430[3]")
            assert hear_io(other) == "431[3]"
        with join(server) as other:
            say(other, "async fails", ack=1)
            other.send("40/gate,")
            assert hear_io(other) == '44/gate,{"message":"not you","data":{"name":1}}'
            other.send('40/gate,{"name":"ada"}')
            assert hear_io(other).startswith('40/gate,{"sid"')
    logged(server, "of a coroutine")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("emit('x')", r"emit is for when the server runs: call it in a handler, as of @on"),
        ("@on('x')\ndef f(ack, client): pass", "ack must be the last parameter"),
        ("@on('x')\ndef f(client, ack, *values): pass", "ack must be the last parameter"),
        ("@on('x')\ndef f(client, *ack): pass", "ack must be the last parameter"),
        ("on('x')(5)", "TypeError"),
        ("@on\ndef connection(client): pass", "name is a text, not <function"),
        (
            "from rtapp import on_server_side\n@on_server_side\ndef reload(): pass",
            "name is a text, not <function",
        ),
        (
            "@on('connect')\ndef connect(client): pass",
            r'no event connect ever comes: @on\("connection"\) is for who has joined, @use for',
        ),
        ("@on('connect_error')\ndef f(client): pass", "no event connect_error ever comes"),
        ("@on('newListener')\ndef f(client): pass", "no event newListener ever comes"),
        (
            "@on('x', namespace='*')\ndef f(client): pass",
            r'all namespaces are re.compile\("\.\*"\)',
        ),
        ("@use(namespace='*')\ndef f(client): pass", "all namespaces are re.compile"),
    ],
)
def test_a_file_that_can_never_work_stops_the_start(serve: Serve, code: str, words: str) -> None:
    with pytest.raises(AssertionError, match=words):
        serve(textwrap.dedent(code))


def test_a_file_may_hold_what_looks_for_its_module(serve: Serve) -> None:
    server = serve("""
        import pickle
        from dataclasses import asdict, dataclass

        @dataclass
        class Point:
            x: "int"

        @on("point")
        def point(client, x):
            return asdict(pickle.loads(pickle.dumps(Point(x))))
    """)
    with join(server) as ws:
        assert ask(ws, "point", 3) == [{"x": 3}]


LISTENS = """
    @on("connection")
    def connection(client):
        heard = []
        client.on("mine", lambda a, b: ["mine", a, b])
        client.once("single", lambda: heard.append("once") or "once")
        client.on("disconnecting", lambda reason: emit("bye", reason, len(client.rooms), to="ops"))
        client.on("disconnect", lambda reason: emit("gone", reason, to="ops"))
        client.on_any(lambda event, *values: heard.append(event))
        client.on("heard", lambda: list(heard))
        client.on("forget", lambda: client.off("mine"))
        client.on("forget all", lambda: (client.off_any(), None)[1])
        client.use(check)

    def check(event, *values):
        if event == "forbidden":
            raise Refused("no")
        if event == "broken":
            raise OSError("the middleware broke")

    @on("watch")
    def watch(client):
        client.join("ops")

    @on("mine")
    def mine(client, a, b):
        pass

    @on("forbidden")
    @on("broken")
    def never(client):
        emit("it was called")

    @on("put me out")
    def put_out(client, close):
        client.disconnect(close)

    @on("flags")
    def flags(client):
        client.emit("now", 1, volatile=True)
        return client.connected
"""


def test_a_clients_own_listeners(serve: Serve) -> None:
    server = serve(LISTENS)
    with join(server) as ws, join(server) as watcher:
        ask(watcher, "watch")
        assert ask(ws, "mine", 1) == [["mine", 1, None]]
        assert ask(ws, "single") == ["once"]
        say(ws, "single", ack=1)
        say(ws, "forbidden", ack=2)
        say(ws, "broken", ack=3)
        assert ask(ws, "heard") == [["mine", "single", "once", "single", "heard"]]
        ask(ws, "forget")
        assert ask(ws, "mine", 1) == []
        ask(ws, "forget all")
        assert "mine" in ask(ws, "heard")[0]
        say(ws, "flags", ack=4)
        assert {hear_io(ws), hear_io(ws)} == {'42["now",1]', "434[true]"}
        cut(ws)
        assert hear_io(watcher) == '42["bye","transport close",1]'
        assert hear_io(watcher) == '42["gone","transport close"]'
        logged(server, "the middleware broke")


@pytest.mark.parametrize(
    ("last", "reason"),
    [
        ("41", "client namespace disconnect"),
        ("1", "transport close"),
        ('42["put me out"]', "server namespace disconnect"),
        ('42["put me out",true]', "server namespace disconnect"),
        ("4x", "parse error"),
        ("40", "forced server close"),  # a second CONNECT, as Node has it
    ],
)
def test_why_a_client_is_gone(serve: Serve, last: str, reason: str) -> None:
    server = serve(LISTENS)
    with join(server) as ws, join(server) as watcher:
        ask(watcher, "watch")
        ws.send(last)
        assert hear_io(watcher) == f'42["bye","{reason}",1]'
        assert hear_io(watcher) == f'42["gone","{reason}"]'
        if "true" in last:
            assert hear_io(ws) == "41"
            with pytest.raises(ConnectionClosed):
                hear_io(ws)


NAMESPACES = """
    import re

    @on("connection", namespace=re.compile(r"^/dyn-\\d+$"))
    def dynamic(client):
        client.join("room")
        client.emit("hello", client.namespace)

    @on("all", namespace=re.compile(r"^/dyn-\\d+$"))
    def to_all(client):
        emit("all", namespace=client.namespace)
        emit("room", to="room", namespace=client.namespace)

    @on("connection", namespace=lambda name, auth: auth.get("door") == name)
    def door(client):
        client.emit("welcome", client.namespace)

    @on("connection", namespace="plain")
    def plain(client):
        client.emit("plain")
"""


def test_namespaces_by_pattern_and_by_function(serve: Serve) -> None:
    server = serve(NAMESPACES)
    with join(server) as one, join(server) as two:
        for ws, name in ((one, "/dyn-1"), (two, "/dyn-2"), (two, "/dyn-1")):
            ws.send(f"40{name},")
            assert hear_io(ws).startswith(f"40{name},")
            assert hear_io(ws) == f'42{name},["hello","{name}"]'
        two.send('42/dyn-2,["all"]')
        assert hear_io(two) == '42/dyn-2,["all"]'
        assert hear_io(two) == '42/dyn-2,["room"]'
        one.send('42/dyn-1,["all"]')
        for ws in (one, two):
            assert hear_io(ws) == '42/dyn-1,["all"]'
            assert hear_io(ws) == '42/dyn-1,["room"]'
        one.send('40/x,{"door":"/x"}')
        assert hear_io(one).startswith("40/x,")
        assert hear_io(one) == '42/x,["welcome","/x"]'
        one.send("40/plain,")
        assert hear_io(one).startswith("40/plain,")
        assert hear_io(one) == '42/plain,["plain"]'
        for name in ("/dyn-", "/y", f"/dyn-1#{'x'}", f"/dyn-{'1' * 300}"):
            one.send(f"40{name},")
            assert hear_io(one) == f'44{name},{{"message":"Invalid namespace"}}'
        for number in range(10, 106):
            one.send(f"40/dyn-{number},")
        answers = [hear_io(one) for _ in range(96 * 2)]
        assert answers[-2].startswith("40/dyn-105,")  # and "/", /dyn-1, /x, /plain: a hundred
        one.send("40/dyn-106,")
        assert hear_io(one) == '44/dyn-106,{"message":"Invalid namespace"}'


GATE = """
    @use
    def gate(client):
        if client.auth.get("token") != "x":
            raise ValueError("no")
"""


@pytest.mark.parametrize("access", ["private", "open"])
def test_a_middleware_alone_decides(serve: Serve, access: str) -> None:
    server = serve(GATE, access=access)
    ws = open_io(server)
    with ws:
        ws.send("40")
        assert hear_io(ws) == '44{"message":"no"}'
        ws.send('40{"token":"y"}')
        assert hear_io(ws) == '44{"message":"no"}'
    with join(server, {"token": "x"}) as ws, server.stream() as stream:
        if access == "open":
            for query in ("event=chat", "volatile=1"):
                posted = server.request("POST", f"/api/broadcast?{query}", 1, token=None)
                assert posted.status == 200, posted.text
        server.publish("from the admin", "event=chat")
        assert hear_io(ws) == '42["chat","from the admin"]'
        if access == "open":  # a stream is not a socket of the application's
            assert [event["data"] for event in stream.take(3)] == ["1", "1", '"from the admin"']
            say(ws, "hello", "friends")
            assert hear_io(ws) == '42["hello","friends"]'


def test_a_direct_message_of_a_stranger_is_kept_out_too(serve: Serve) -> None:
    server = serve(GATE)
    ws, answer = join_io(server, {"token": "x"})
    with ws:
        server.request("POST", f"/api/broadcast?to={answer['sid']}", 1, token=None)
        server.publish(2, f"to={answer['sid']}")
        assert hear_io(ws) == '42["message",2]'


COUNTS = """
    seen = []

    @use
    def gate(client):
        seen.append(client.auth.get("name"))
        if client.auth.get("name") == "nobody":
            raise Refused("no")

    @on("seen")
    def count(client):
        return seen, client.recovered
"""


@pytest.mark.parametrize("skips", [False, True])
def test_middlewares_may_be_skipped_on_recovery(serve: Serve, skips: bool) -> None:
    settings = {"socketio_recovery_seconds": 60, "socketio_recovery_skips_middlewares": skips}
    server = serve(COUNTS, **settings)
    ws, answer = join_io(server, {"name": "ada"})
    with ws:
        cut(ws)
    again, new = join_io(server, {"name": "bob", "pid": answer["pid"], "offset": ""})
    with again:
        assert new["sid"] == answer["sid"]
        expected = ["ada"] if skips else ["ada", "bob"]
        assert ask(again, "seen")[:2] == [expected, True]
    for refused in ({"name": "nobody"}, {"name": "nobody", "pid": "x" * 32, "offset": ""}):
        with open_io(server) as ws:  # who has nothing to recover is looked at
            ws.send(f"40{json.dumps(refused)}")
            assert hear_io(ws) == '44{"message":"no"}'


DATA = """
    @on("set")
    def set(client, how):
        try:
            if how == "item":
                client.data["u"] = object()
            elif how == "update":
                client.data.update(a=1, u=object())
            elif how == "default":
                client.data.setdefault("u", object())
            elif how == "or":
                client.data |= {"u": object()}
        except TypeError:
            return "refused"
        if how == "inside":
            client.data["list"] = []
            client.data["list"].append(object())
        return "taken"

    @on("echo")
    def echo(client, value):
        return value
"""


@pytest.mark.parametrize("seconds", [0, 60])
def test_what_cant_be_kept_is_refused_where_it_is_set(serve: Serve, seconds: int) -> None:
    server = serve(DATA, socketio_recovery_seconds=seconds)
    with join(server) as ws:
        for how in ("item", "update", "default", "or"):
            assert ask(ws, "set", how) == ["refused" if seconds else "taken"]
            assert ask(ws, "echo", how) == [how]
        assert ask(ws, "set", "inside") == ["taken"]
        assert ask(ws, "echo", 1) == [1]


MIXED = """
    @on("six")
    def six(client):
        for n in range(0, 6, 2):
            client.emit("own", n)
            emit("all", n + 1)
"""


def test_what_one_client_is_sent_is_recovered_too(serve: Serve) -> None:
    server = serve(MIXED, socketio_recovery_seconds=60)
    ws, answer = join_io(server, {})
    with ws:
        say(ws, "six")
        first = json.loads(hear_io(ws)[2:])
        assert first[:2] == ["own", 0]
        cut(ws)
    again, new = join_io(server, {"pid": answer["pid"], "offset": first[2]})
    with again:
        assert new["sid"] == answer["sid"]
        events = [json.loads(hear_io(again)[2:])[:2] for _ in range(5)]
        assert events == [["all", 1], ["own", 2], ["all", 3], ["own", 4], ["all", 5]]


def test_force_base64_and_the_first_request(serve: Serve) -> None:
    server = serve("""
        @on("b")
        def b(client, data):
            return data.hex(), data

        @on("shake")
        def shake(client):
            return client.handshake
    """)
    ws = open_io(server, "&a=&b=1")
    with ws:
        ws.send("40")
        assert hear_io(ws).startswith("40")
        ws.send('451-1["b",{"_placeholder":true,"num":0}]')
        ws.send("bAQI=")
        assert hear_io(ws) == '461-1["0102",{"_placeholder":true,"num":0}]'
        assert hear_io(ws) == b"\x01\x02"
        [shake] = ask(ws, "shake")
        assert shake["query"] | {"a": "", "b": "1"} == shake["query"]
        named = {
            "address",
            "auth",
            "headers",
            "issued",
            "query",
            "secure",
            "time",
            "url",
            "xdomain",
        }
        assert set(shake) == named
        assert shake["url"].startswith("/socket.io/?") and not shake["secure"]
        ws.send('451-1["b",{"_placeholder":true,"num":0}]')
        ws.send("b!!")
        with pytest.raises(ConnectionClosed):
            hear_io(ws)


def test_other_paths_and_protocols(serve: Serve) -> None:
    server = serve("")
    assert server.get("/socket.io?EIO=4&transport=polling").body.decode().startswith("0{")
    query = "EIO=4&transport=polling"
    foreign = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    for path in ("/socket.io", "/socket.io/"):
        assert server.request("GET", f"{path}?{query}", headers=foreign).status == 403
        assert server.request("GET", f"{path}?{query}", headers={"Host": "x.test"}).status == 421
    from websockets.sync.client import connect

    url = f"ws://127.0.0.1:{server.port}/socket.io?EIO=4&transport=websocket"
    with connect(url, subprotocols=["my.proto", "other"], compression=None) as ws:  # type: ignore[list-item]
        assert ws.subprotocol == "my.proto"
        assert str(ws.recv(PATIENCE)).startswith("0{")


IN_MSGPACK = """
    @on("echo")
    def echo(client, *values):
        return values

    @on("tell")
    def tell(client, value):
        emit("told", value, 2**70, {"n": 2**60})
        emit("told", volatile=True)

    @on("rogue")
    def rogue(client):
        emit("rogue", *[{"_placeholder": True, "num": 0}] * 2, b"x")

    @on("connection", namespace="/chat")
    def chat(client):
        client.emit("hello", client.auth["name"])
"""


def pack(ws: ClientConnection, kind: Any, data: Any = None, nsp: str = "/", **more: Any) -> None:
    """Send a packet in MessagePack, as socket.io-msgpack-parser does."""
    body = {"type": kind, "nsp": nsp, "options": {"compress": True}, **more}
    ws.send(msgspec.msgpack.encode(body if data is None else {**body, "data": data}))


def unpack(ws: ClientConnection) -> Any:
    """The next packet in MessagePack."""
    return msgspec.msgpack.decode(hear_io(ws))


def test_msgpack(serve: Serve) -> None:
    server = serve(IN_MSGPACK)
    with open_io(server) as ws, join(server) as other:
        pack(ws, 0)
        pack(ws, 0, {"name": "ada"}, nsp="/chat")
        joined = unpack(ws)
        assert joined == {"type": 0, "nsp": "/", "data": {"sid": joined["data"]["sid"]}}
        assert unpack(ws)["nsp"] == "/chat"
        assert unpack(ws) == {"type": 2, "nsp": "/chat", "data": ["hello", "ada"]}
        undefined, date = msgspec.msgpack.Ext(0, b"\0"), msgspec.msgpack.Ext(0, bytes(8))
        typed = msgspec.msgpack.Ext(0, b"ab")
        values = [b"x", [{"y": b"z"}], 1.5, None, "é", undefined, date, typed]
        pack(ws, 2, ["echo", *values], id=0)
        expected = [*values[:5], None, "1970-01-01T00:00:00.000Z", b"ab"]
        assert unpack(ws) == {"type": 3, "nsp": "/", "id": 0, "data": expected}
        pack(ws, 2, ["rogue"])
        assert unpack(ws)["data"] == ["rogue", b"x", None, None]  # not as often as it is named
        assert [hear_io(other), hear_io(other)][1] == b"x"
        pack(ws, 2, ["tell", b"x"])
        told = unpack(ws)
        assert told == {"type": 2, "nsp": "/", "data": ["told", b"x", float(2**70), {"n": 2**60}]}
        assert unpack(ws) == {"type": 2, "nsp": "/", "data": ["told"]}
        n = f'{{"n":{2**60}}}'
        assert hear_io(other) == f'451-["told",{{"_placeholder":true,"num":0}},{2**70},{n}]'
        assert hear_io(other) == b"x"
        assert hear_io(other) == '42["told"]'
        pack(ws, 1, nsp="/chat")
        pack(ws, 2, ["echo"], id=2**53)
        assert unpack(ws) == {"type": 3, "nsp": "/", "id": 2**53, "data": []}
        pack(ws, 0, nsp="/wrong")
        words = {"message": "Invalid namespace"}
        assert unpack(ws) == {"type": 4, "nsp": "/wrong", "data": words}


def test_a_bad_msgpack_packet_costs_its_sender_the_connection(serve: Serve) -> None:
    server = serve(IN_MSGPACK)
    cases: list[tuple[Any, Any, dict[str, Any]]] = [
        *((kind, [], {}) for kind in (2, 5, 4, "2", -1)),
        *((2, data, {}) for data in (None, {}, "echo", ["disconnect"], [["echo"]], [None])),
        *((2, ["echo"], more) for more in ({"nsp": "x"}, {"nsp": 1}, {"id": -1}, {"id": "1"})),
        (2, ["echo"], {"nsp": "/a,b"}),
        (3, [1], {}),
        (1, {}, {}),
    ]
    deep = b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data" + b"\x91" * 20_000 + b"\xa1x"
    for raw in (deep, b"", '42["echo"]', *cases):  # a text is of another parser
        with open_io(server) as ws:
            pack(ws, 0)
            unpack(ws)
            if isinstance(raw, tuple):
                pack(ws, *raw[:2], **raw[2])
            else:
                ws.send(raw)
            with pytest.raises(ConnectionClosed):
                hear_io(ws)


def test_msgpack_without_handlers(make_server: Callable[..., Server]) -> None:
    server = make_server(access="open")
    with open_io(server) as ws, join(server) as other:
        pack(ws, 0)
        unpack(ws)
        pack(ws, 2, ["chat", [None] * 300_000], id=1)  # which JSON makes five times as long
        assert unpack(ws)["data"][0]["code"] == "too_large"
        pack(ws, 2, ["chat", {"_placeholder": True, "num": 0}, b"x"], id=2)
        assert unpack(ws)["data"][0]["code"] == "invalid"
        pack(ws, 2, ["chat", {"n": 1}, b"x"])
        assert unpack(ws) == {"type": 2, "nsp": "/", "data": ["chat", {"n": 1}, b"x"]}
        assert hear_io(other) == '451-["chat",{"n":1},{"_placeholder":true,"num":0}]'
        assert hear_io(other) == b"x"
        pack(ws, 2, ["join", "news"], id=3)
        assert unpack(ws) == {"type": 3, "nsp": "/", "id": 3, "data": [{"success": True}]}


def test_who_cant_be_served_is_told_of_in_the_log(serve: Serve) -> None:
    server = serve("")
    for _ in range(3):
        assert server.get("/socket.io/?EIO=3&transport=polling").status == 400
    ws = open_io(server)
    with ws, pytest.raises(ConnectionClosed):
        ws.send(b"\x83\xa4type\x00")
        hear_io(ws)
    logged(server, "it speaks EIO 3; use socket.io-client 3 or 4")
    logged(server, "it has a parser of its own; there are the default one and msgpack")
    assert json.dumps(server.get("/api/logs").json).count("it speaks EIO 3") == 1


def test_a_packet_that_cant_be_taken_costs_itself_alone(serve: Serve) -> None:
    server = serve('@on("echo")\ndef echo(client, value): return value')
    deep = "[" * 20_000 + "]" * 20_000
    with join(server) as ws:
        ws.send(f'421["echo",{deep}]')
        ws.send('451-2["echo",{"_placeholder":true,"num":4}]')
        ws.send(b"\x01")
        assert ask(ws, "echo", 1) == [1]


def test_the_same_over_polling(serve: Serve) -> None:
    server = serve(ANSWERS)
    opened = json.loads(server.get(POLLING).body.decode()[1:])
    url = f"{POLLING}&sid={opened['sid']}"
    for packet in ("40", '421["two",1]', '422["save"]', '423["none"]'):
        assert server.request("POST", url, packet.encode(), token=None).status == 200
    heard = ""
    while "433" not in heard:
        heard += server.get(url).body.decode() + "\x1e"
    assert [p for p in heard.split("\x1e") if p[:2] == "43"] == ["431[[1,null]]", '433["called"]']


ENDS = """
    import gevent, re
    from rtapp import NotAnswered, fetch_sockets

    kept = {}

    @on("cut short")
    def cut_short(client):
        with gevent.Timeout(0.01, False):
            client.call("q")
        for send in (client.call, lambda *values: client.emit(*values, ack=print)):
            try:
                send("q", object())
            except TypeError:
                pass
        for number in range(1_000):
            client.join(f"room {number}")
        return len(client._acks), len(client.session._waiting)

    @on("keep")
    def keep(client):
        kept["client"], [kept["remote"]] = client, fetch_sockets(to=client.id)

    @on("put out")
    def put_out(client):
        kept["client"].disconnect()
        return kept["client"].id == client.id

    @on("ask who is gone")
    def ask_who_is_gone(client):
        try:
            kept["remote"].call("q")
        except NotAnswered as error:
            return str(error)

    async def door(name, auth):
        await asyncio.sleep(0)
        return name == "/door"

    def declares(name, auth):
        on("hello", namespace=f"{name}/below")(print)
        return False

    import asyncio
    on("hello", namespace=declares)(print)
    on("hello", namespace=door)(print)
"""


def test_nothing_is_left_of_what_was_cut_short(serve: Serve) -> None:
    server = serve(ENDS, socketio_recovery_seconds=60)
    with join(server) as ws:
        assert ask(ws, "cut short") == [0, 1]  # what is stored once, not a thousand times


def test_who_has_left_is_not_put_out_again(serve: Serve) -> None:
    server = serve(ENDS)
    with join(server) as ws:
        assert ask(ws, "keep") == []
        ws.send("41")
        ws.send("40")
        assert hear_io(ws).startswith("40")
        say(ws, "put out", ack=1)
        assert hear_io(ws) == "431[true]"  # nothing came before
    with join(server) as ws:
        wait_for(
            lambda: (
                ask(ws, "ask who is gone") == ["1 of those who were asked gave no answer in time."]
            ),
            "the other one to be gone",
        )


def test_a_namespaces_function_may_wait_and_declare(serve: Serve) -> None:
    server = serve(ENDS)
    with join(server) as ws:
        for name in ("/wrong", "/door"):
            ws.send(f"40{name},")
        assert hear_io(ws) == '44/wrong,{"message":"Invalid namespace"}'
        assert hear_io(ws).startswith('40/door,{"sid"')


MANY = """
    from rtapp import (
        NotAnswered, call, disconnect_sockets, fetch_sockets, on_server_side, server_side_emit,
        server_side_call, sockets_join, sockets_leave,
    )

    told = []

    @on("connection")
    def connection(client):
        client.data["name"] = client.auth.get("name")
        client.data["object"] = object()

    @on("who")
    def who(client, room):
        found = fetch_sockets() if room is None else fetch_sockets(to=room)
        return sorted([one.data["name"], sorted(one.rooms - {one.id})] for one in found)

    @on("move")
    def move(client, act, room, to):
        {"join": sockets_join, "leave": sockets_leave}[act](room, to=to)
        emit("moved", to=room)

    @on("ask")
    def ask(client, to, timeout):
        try:
            return sorted(call("q", 1, b"x", to=to, exclude="shy", timeout=timeout))
        except NotAnswered as error:
            return [str(error), *error.answers]

    @on("describe")
    def describe(client, digits):
        client.data["number"] = 10 ** digits
        try:
            return len(fetch_sockets(timeout=60))
        except NotAnswered as error:
            return [str(error), *(row["data"]["name"] for row in error.answers)]

    @on("ask everybody")
    def ask_everybody(client):
        return len(call("q"))

    @on("one by one")
    def one_by_one(client, name):
        [one] = [one for one in fetch_sockets() if one.data["name"] == name]
        one.join("alone")
        one.emit("hello", name)
        return one.call("q"), one.handshake["query"]["EIO"]

    @on("put out")
    def put_out(client, room, close):
        disconnect_sockets(close, to=room)

    @on("tell servers")
    def tell_servers(client, word):
        server_side_emit("word", word)

    @on_server_side("word")
    def word(word):
        told.append(word)
        emit("a server was told", word)

    @on("ask servers")
    def ask_servers(client, event, timeout):
        try:
            return server_side_call(event, 20, timeout=timeout)
        except NotAnswered as error:
            return str(error)

    @on_server_side("add")
    def add(n):
        return n + 1

    @on_server_side("slow")
    async def slow(n):
        await asyncio.sleep(3600)

    @on_server_side("fails")
    def fails(n):
        raise OSError("of a server")

    import asyncio
"""


def answer_q(ws: ClientConnection, answer: str) -> None:
    """Answer the next question."""
    heard = hear_io(ws)
    binary = heard.startswith("451-")
    number = heard.partition("[")[0].removeprefix("451-" if binary else "42")
    assert '["q"' in heard
    if binary:
        assert hear_io(ws) == b"x"
    ws.send(f"43{number}[{answer}]")


def check_many(one: ClientConnection, two: ClientConnection) -> None:
    """`one` and `two` are ada and bob, perhaps on different nodes."""
    assert ask(one, "who", None) == [[["ada", []], ["bob", []]]]
    assert ask(one, "who", "red") == [[]] and ask(one, "who", []) == [[]]
    say(one, "move", "join", ["red", 7], None)  # nobody
    ada, bob = ask(one, "who", None)[0]
    assert ada[1] == bob[1] == []


@pytest.mark.parametrize("nodes", [1, 2])
def test_many_clients_of_all_nodes(
    serve: Serve, nodes: int, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    (tmp_path / "handlers.py").write_text(HEADER + textwrap.dedent(MANY))
    if nodes == 1:
        first = second = serve(MANY)
    else:
        postgres, start = (request.getfixturevalue(name) for name in ("postgres", "start_node"))
        url, app = postgres.new_database(), str(tmp_path / "handlers.py")
        first, second = (start(url, app=app, access="open") for _ in range(2))
        wait_for(lambda: len(first.get("/api/nodes").json) == 2, "the nodes to know each other")
    one, me = join_io(first, {"name": "ada"})
    two, other = join_io(second, {"name": "bob"})
    with one, two:
        check_many(one, two)
        everybody = [me["sid"], other["sid"]]
        say(one, "move", "join", ["red", 7], everybody)
        assert hear_io(one) == hear_io(two) == '42["moved"]'
        assert ask(one, "who", "red") == [[["ada", ["7", "red"]], ["bob", ["7", "red"]]]]
        say(two, "move", "leave", "7", me["sid"])
        assert hear_io(two) == '42["moved"]'  # ada has left the room before
        assert ask(one, "who", 7) == [[["bob", ["7", "red"]]]]
        say(one, "ask", "red", 30, ack=1)
        answer_q(two, '"bob\'s"')
        answer_q(one, '"ada\'s"')
        assert json.loads(hear_io(one)[3:]) == [["ada's", "bob's"]]
        words = "1 of those who were asked gave no answer in time."
        say(one, "ask", "red", 30, ack=1)
        answer_q(two, "9" * 60)  # what can't be sent to a node is one client's silence
        answer_q(one, "5")
        assert json.loads(hear_io(one)[3:]) == [[words, 5]]
        assert ask(one, "describe", 60) == [[words, "bob"]]
        assert ask(one, "describe", 2) == [2]
        say(one, "move", "join", "shy", other["sid"])
        assert hear_io(two) == '42["moved"]'
        say(one, "ask", "red", 30, ack=1)
        answer_q(one, "5")
        assert json.loads(hear_io(one)[3:]) == [[5]]
        say(two, "ask", "red", 0.05, ack=1)  # whom ada doesn't answer
        assert '["q"' in hear_io(one) and hear_io(one) == b"x"
        assert json.loads(hear_io(two)[3:]) == [[words]]
        say(one, "ask everybody", ack=1)
        answer_q(one, "")
        answer_q(two, "1,2")
        assert json.loads(hear_io(one)[3:]) == [2]
        say(one, "one by one", "bob", ack=1)
        assert hear_io(two) == '42["hello","bob"]'
        answer_q(two, "3")
        assert json.loads(hear_io(one)[3:]) == [3, "4"]
        say(one, "tell servers", "reload")
        if nodes == 2:
            assert hear_io(one) == hear_io(two) == '42["a server was told","reload"]'
        assert ask(one, "ask servers", "add", 30) == [[21] if nodes == 2 else []]
        for event, timeout in (("fails", 30), ("none", 30), ("slow", 0.05)):
            assert ask(one, "ask servers", event, timeout) == [words if nodes == 2 else []]
        say(one, "put out", "alone", False)
        assert hear_io(two) == "41"
        assert ask(one, "who", None) == [[["ada", ["red"]]]]
        say(one, "put out", me["sid"], True)
        assert hear_io(one) == "41"
        with pytest.raises(ConnectionClosed):
            hear_io(one)


def test_other_processes_send_to_rooms_with_the_scope(serve: Serve) -> None:
    server = serve(SENDS + '\n    @on("x", namespace="/other")\n    def x(client): pass\n')

    def token(*scopes: str, **more: Any) -> str:
        body = {"name": "-".join(scopes), "scopes": scopes, **more}
        return str(server.post("/api/tokens", body).json["token"])

    def send(query: str, body: Any = 1, who: str | None = ADMIN) -> Any:
        return server.request("POST", f"/api/broadcast?{query}", body, token=who)

    emits, publishes = token("emit"), token("publish")
    with join(server) as one, join(server) as two, server.stream() as stream:
        ask(one, "enter", "red")
        two.send("40/other,")
        assert hear_io(two).startswith("40/other")
        assert send("room=red&event=order", {"id": 7}, emits).status == 200
        assert hear_io(one) == '42["order",{"id":7}]'
        assert send("namespace=/", 1, emits).status == 200
        assert hear_io(one) == hear_io(two) == '42["message",1]'
        assert send("namespace=/other&event=a&volatile=1", 2, emits).status == 200
        assert hear_io(two) == '42/other,["a",2]'
        lines = {"Content-Type": "application/x-ndjson"}
        batch = server.request("POST", "/api/broadcast?room=red", b"1\n2\n", lines, emits)
        assert batch.status == 200 and [hear_io(one), hear_io(one)] == [
            '42["message",1]',
            '42["message",2]',
        ]
        for who, status in ((publishes, 403), (None, 401), ("wrong", 401)):
            assert send("room=red", 1, who).status == status, who
        assert send("", 1, emits).status == 403  # and nowhere else
        assert send("channel=x", 1, emits).status == 403
        for query in (
            "room=red&channel=x",
            "room=red&to=x",
            "room=",
            "namespace=x",
            "namespace=/%23",
        ):
            assert send(query).status == 422, query
        for event in ("connect", "disconnecting", "room-joined"):
            assert send(f"room=red&event={event}").code == "reserved_event"
        server.publish("last")
        assert stream.values(1) == ["last"]


# ---- static/docs/socketio-api.md -----------------------------------------------------------------

GUIDE = (ROOT / "static" / "docs" / "socketio-api.md").read_text()


def test_the_table_of_the_api_is_whole() -> None:
    """Each row says what is here, by names that there are, or why it isn't."""
    import rtapp

    known = {*dir(rtapp), *dir(rtapp.Client), *rtapp.SETTINGS}
    rows = [
        line.strip("| ").split(" | ") for line in re.findall(r"^\| .+ \|$", GUIDE, re.MULTILINE)
    ]
    assert len(rows) > 60
    for row in rows:
        assert len(row) == 3 and row[2], row
        for reason in re.findall("– (.+)", row[2]):
            assert len(reason.split()) >= 4, row
        for name in re.findall(r"`@?(?:client\.|rtapp\.)?(\w+)\(", row[2]):
            assert name in known, (name, row)
    for name in re.findall(r"`([a-z]+_\w+)`", " ".join(row[2] for row in rows)):
        assert name in known, name


@pytest.mark.parametrize("command", ["python", "node"])
def test_the_guides_lines_send_to_a_room(serve: Serve, command: str) -> None:
    if not shutil.which(command := {"python": sys.executable}.get(command, command)):
        pytest.skip(f"needs {command}")
    python, node = re.findall(r"```(?:python|js)\n(.+?)```", GUIDE, re.DOTALL)
    flags = ["--input-type=module", "-e", node] if command == "node" else ["-c", python]
    server = serve(SENDS)
    token = server.post("/api/tokens", {"name": "shop", "scopes": ["emit"]}).json["token"]
    env = {"RTAPP_URL": f"http://127.0.0.1:{server.port}", "RTAPP_TOKEN": token}
    with join(server) as ws:
        ask(ws, "enter", "red")
        subprocess.run([command, *flags], env={**os.environ, **env}, check=True, timeout=PATIENCE)
        assert hear_io(ws) == '42["order",{"id":7}]'


def test_an_order_of_an_earlier_version_is_for_everybody() -> None:
    """Nodes of two versions share a log while they are replaced one by one."""
    import rtapp

    for exclude, is_for in (([], True), (["a"], False)):
        old = {"act": "disconnect", "arguments": [False], "rooms": [""], "exclude": exclude}
        order = msgspec.msgpack.decode(msgspec.msgpack.encode(old), type=rtapp.Order)
        client = SimpleNamespace(rooms={"a", "b"})
        assert order.is_for(cast(rtapp.Client, client)) is is_for
