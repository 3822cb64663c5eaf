"""The client library in a real Chromium: reconnects, as the server sees them, and shared tabs."""

from __future__ import annotations

import contextlib
import gzip
import itertools
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page
from playwright.sync_api import Error as PlaywrightError

from gate import Gate
from support import PATIENCE, ROOT, Server, wait_for

RT = ROOT / "static" / "js" / "rt.js"
PAGE = '<!doctype html><title>rt</title><script type="module" src="page.js"></script>'
SCRIPT = """
import { connect } from './static/js/rt.js';
window.start = (options) => {
  const rt = Object.assign(window, { rt: connect(options), got: [], all: [], said: [] }).rt;
  for (const name of ['message', 'chat']) rt.on(name, (data, meta) => got.push({ data, ...meta }));
  rt.on('*', (data) => all.push(data));
  const states = ['connecting', 'open', 'reconnecting', 'closed'];
  for (const name of [...states, 'recovered', 'reset', 'buffering'])
    rt.on(name, ({ reason, attempt, error }) =>
      said.push([name, reason ?? attempt ?? '', error?.code ?? '']));
};
document.title = 'ready';
"""


@pytest.fixture
def public(tmp_path: Path) -> Path:
    """A developer's own page that imports the library."""
    folder = tmp_path / "public"
    folder.mkdir()
    (folder / "index.html").write_text(PAGE)
    (folder / "page.js").write_text(SCRIPT)
    return folder


@pytest.fixture
def site(make_server: Callable[..., Server], public: Path) -> Server:
    return make_server("--public", str(public), access="open", ping_interval=1)


@pytest.fixture
def gate(site: Server) -> Iterator[Gate]:
    made = Gate(site.port)
    yield made
    made.close()


def visit(context: BrowserContext, port: int, **options: Any) -> Page:
    """A new tab with the page, connected."""
    page = context.new_page()
    page.goto(f"http://127.0.0.1:{port}/")
    page.wait_for_function("document.title === 'ready'")
    page.evaluate("(options) => start(options)", options)
    wait_state(page, "open")
    return page


def wait_state(page: Page, state: str, seconds: float = PATIENCE) -> None:
    page.wait_for_function("(state) => rt.state === state", arg=state, timeout=seconds * 1000)


def said(page: Page, name: str) -> list[list[Any]]:
    """What the page was told under one of the connection's own events."""
    return [entry for entry in page.evaluate("said") if entry[0] == name]


def received(page: Page) -> list[Any]:
    return [message["data"] for message in page.evaluate("got")]


def wait_received(page: Page, wanted: list[Any]) -> None:
    """Wait for the last one; all must have come once, in order."""
    last = wanted[-1]
    page.wait_for_function(
        "(last) => got.some(({data}) => data === last)", arg=last, timeout=PATIENCE * 1000
    )
    assert received(page) == wanted


@contextlib.contextmanager
def publishing(server: Server) -> Iterator[list[int]]:
    """Numbers published all the while, in the order in which they were accepted."""
    sent: list[int] = []
    over = threading.Event()

    def publish() -> None:
        for number in itertools.count():
            server.publish(number)
            sent.append(number)
            if over.wait(0.01):
                return

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        yield sent
    finally:
        over.set()
        thread.join(PATIENCE)


both_transports = pytest.mark.parametrize("transport", ["sse", "websocket"])


def test_the_file_is_small() -> None:
    """With its comments, as it is served."""
    assert len(gzip.compress(RT.read_bytes(), 9)) <= 9 * 1024


@both_transports
def test_publishing_and_listening(context: BrowserContext, site: Server, transport: str) -> None:
    one = visit(context, site.port, transport=transport, channels=["a"], shared=False)
    stored = one.evaluate("rt.emit('chat', [1], {channel: 'a'})")
    assert isinstance(stored["id"], int)
    one.evaluate("rt.emit('message', 'to me', {to: rt.clientId})")
    one.evaluate("rt.emit('chat', 'volatile', {channel: 'a', volatile: true})")
    one.evaluate("rt.emit('chat', 'elsewhere', {channel: 'b'})")
    one.evaluate("rt.subscribe('b')")
    one.evaluate("rt.unsubscribe('a')")
    one.evaluate("rt.emit('chat', 'left', {channel: 'a'})")
    one.evaluate("rt.emit('chat', 'joined', {channel: 'b'})")
    one.wait_for_function("got.some(({data}) => data === 'joined')")
    got = one.evaluate("got")
    assert [message["data"] for message in got] == [[1], "to me", "volatile", "joined"]
    assert (got[0]["channel"], got[0]["event"]) == ("a", "chat") and got[0]["id"].endswith("-1")
    assert "id" not in got[2] or got[2]["id"] is None
    assert (
        one.evaluate("rt.emit('ping', 1).catch((e) => [e.status, e.code])")[1] == "reserved_event"
    )
    assert one.evaluate("rt.subscribe('room:x').catch((e) => e.code)") == "reserved_channel"
    assert one.evaluate("rt.state") == "open"
    one.evaluate("rt.close()")
    wait_for(lambda: site.get("/api/connections").json == [], "the stream to end")
    assert said(one, "closed") == [["closed", "closed", ""]]


@both_transports
def test_listeners_come_and_go(context: BrowserContext, site: Server, transport: str) -> None:
    one = visit(context, site.port, transport=transport, shared=False)
    one.evaluate(
        """() => {
        window.seen = [];
        rt.once('a', () => seen.push('once'));
        const gone = () => seen.push('gone');
        rt.on('a', gone).off('a', gone);
        rt.on('a', () => { throw new Error('a listener of its own'); });
        rt.on('a', (data) => seen.push(data));
    }"""
    )
    site.publish(1, "event=a")
    site.publish(2, "event=a")
    one.wait_for_function("seen.length === 3")
    assert one.evaluate("seen") == ["once", 1, 2]


@both_transports
def test_a_server_that_is_killed_and_comes_back(
    context: BrowserContext, site: Server, gate: Gate, transport: str
) -> None:
    page = visit(context, gate.port, transport=transport, shared=False)
    site.publish(1)
    wait_received(page, [1])
    site.kill()
    wait_state(page, "reconnecting")
    page.wait_for_timeout(3000)
    site.start()
    site.publish(2)
    wait_state(page, "open")
    site.publish(3)
    wait_received(page, [1, 2, 3])
    assert len(said(page, "recovered")) == 1 and said(page, "reset") == []
    assert page.evaluate("all") == received(page)
    assert said(page, "reconnecting")[0][1] == 1


def test_a_server_that_is_gone_for_good(context: BrowserContext, site: Server, gate: Gate) -> None:
    """Five attempts, each after a jittered wait that doubles; then `closed`, and `retryNow`."""
    context.add_init_script("Math.random = () => 0.2")
    page = visit(context, gate.port, shared=False)
    gate.mode = "down"
    gate.cut()
    page.wait_for_function("rt.state === 'closed'", timeout=5 * PATIENCE * 1000)
    assert said(page, "closed") == [["closed", "gave up", "unreachable"]]
    assert [entry[1] for entry in said(page, "reconnecting")] == [1, 2, 3, 4, 5]
    asked = [one.at for one in gate.streams()]
    assert len(asked) == 1 + 5
    waits = [after - before for before, after in itertools.pairwise(asked[1:])]
    assert all(wait >= 0.2 * 2**n for n, wait in enumerate(waits, 1)), waits
    gate.mode = "pass"
    site.publish("meanwhile")
    page.evaluate("rt.retryNow()")
    wait_received(page, ["meanwhile"])


def test_a_busy_server_says_when(context: BrowserContext, site: Server, gate: Gate) -> None:
    page = visit(context, gate.port, shared=False)
    gate.mode = "busy"
    gate.cut()
    wait_for(lambda: len(gate.streams()) >= 3, "two refusals", 2 * PATIENCE)
    gate.mode = "pass"
    wait_state(page, "open")
    one, two, three = (asked.at for asked in gate.streams()[1:4])
    assert two - one >= 2 and three - two >= 2, "Retry-After is the least wait"
    assert ["reconnecting", 2, "http_503"] in said(page, "reconnecting")


@both_transports
def test_a_revoked_token_ends_it(
    make_server: Callable[..., Server], public: Path, context: BrowserContext, transport: str
) -> None:
    site = make_server("--public", str(public))
    gate = Gate(site.port)
    made = site.post("/api/tokens", {"name": "page", "scopes": ["subscribe", "publish"]}).json
    page = visit(context, gate.port, transport=transport, token=made["token"])
    page.evaluate("rt.emit('message', 'hello')")
    wait_received(page, ["hello"])
    assert site.request("DELETE", f"/api/tokens/{made['id']}").status == 200
    wait_state(page, "closed")
    asked = len(gate.asked)
    page.wait_for_timeout(4500)  # longer than any `retry:` that the server sends
    assert len(gate.asked) == asked, "it came back"
    page.evaluate("rt.retryNow()")
    page.wait_for_function("said.at(-1)[0] === 'closed' && said.at(-1)[1] === 'refused'")
    gate.close()


def test_a_proxy_that_holds_the_stream_back(
    context: BrowserContext, site: Server, gate: Gate
) -> None:
    gate.mode = "hold"
    page = context.new_page()
    page.goto(f"http://127.0.0.1:{gate.port}/")
    page.wait_for_function("document.title === 'ready'")
    page.evaluate("start({shared: false})")
    page.wait_for_function("said.some(([name]) => name === 'buffering')")


@both_transports
def test_a_silent_connection_is_given_up(
    context: BrowserContext, site: Server, gate: Gate, transport: str
) -> None:
    """The network swallows everything, and nobody says so."""
    page = visit(context, gate.port, transport=transport, shared=False)
    assert site.process is not None
    site.process.send_signal(signal.SIGSTOP)
    page.wait_for_function("said.some(([, , code]) => code === 'silent')", timeout=60_000)
    site.process.send_signal(signal.SIGCONT)
    wait_state(page, "open", 2 * PATIENCE)
    site.publish("again")
    wait_received(page, ["again"])


def test_ten_tabs_share_one_stream(context: BrowserContext, site: Server) -> None:
    """Six is what a browser allows on HTTP/1.1: the seventh tab would hang."""
    pages = [visit(context, site.port) for _ in range(10)]
    assert len(site.get("/api/connections").json) == 1
    assert len({page.evaluate("rt.clientId") for page in pages}) == 1
    site.publish("to all")
    for page in pages:
        wait_received(page, ["to all"])
    pages[4].evaluate("rt.emit('chat', 'from the fifth')")
    for page in pages:
        wait_received(page, ["to all", "from the fifth"])


def test_each_tab_has_its_own_channels(context: BrowserContext, site: Server) -> None:
    one, two = (visit(context, site.port, channels=[name]) for name in "ab")
    two.evaluate("rt.subscribe('c')")
    for name in "abc":
        site.publish(name, f"channel={name}")
    site.publish("end")
    wait_received(one, ["a", "end"])
    wait_received(two, ["b", "c", "end"])
    assert one.evaluate("rt.subscribe('sys:x').catch((e) => e.name)") == "RtError"
    assert two.evaluate("rt.subscribe('sys:x').catch((e) => e.name)") == "RtError"
    two.close()
    wait_for(
        lambda: site.get("/api/connections").json[0]["channels"] == ["a"],
        "the closed tab's channels to go",
    )
    site.publish("still")
    wait_received(one, ["a", "end", "still"])


@pytest.mark.parametrize("way", ["closed", "crashed"])
def test_the_leading_tab_goes(context: BrowserContext, site: Server, way: str) -> None:
    """While messages are published: no other tab lacks one or has one twice."""
    pages = [visit(context, site.port) for _ in range(4)]
    with publishing(site) as sent:
        for leader in pages[:2]:
            pages[2].wait_for_function(f"got.length > {len(sent) + 20}")
            if way == "closed":
                leader.close()
            else:
                with contextlib.suppress(PlaywrightError):
                    leader.goto("chrome://crash", timeout=5000)
            sent_before = len(sent)
            wait_for(
                lambda least=sent_before + 30: len(received(pages[3])) > least,
                "the next tab to go on",
                2 * PATIENCE,
            )
    for page in pages[2:]:
        got = page.wait_for_function(
            "(last) => got.some(({data}) => data === last) && got", arg=sent[-1]
        ).json_value()
        numbers = [message["data"] for message in got]
        assert numbers == list(range(numbers[0], sent[-1] + 1))
    assert len(site.get("/api/connections").json) == 1


def test_a_mute_leader_is_replaced(context: BrowserContext, site: Server) -> None:
    """It lives, holds the lock, and does nothing; when it wakes it follows."""
    leader, follower = visit(context, site.port), visit(context, site.port)
    site.publish(1)
    for page in (leader, follower):
        wait_received(page, [1])
    leader.evaluate(
        "setTimeout(() => { const end = Date.now() + 15000; while (Date.now() < end); })"
    )
    site.publish(2)
    wait_received(follower, [1, 2])
    site.publish(3)
    for page in (follower, leader):
        wait_received(page, [1, 2, 3])
    wait_for(lambda: len(site.get("/api/connections").json) == 1, "one stream to be left")
    site.publish(4)
    for page in (follower, leader):
        wait_received(page, [1, 2, 3, 4])


def test_tabs_without_locks_have_a_stream_each(context: BrowserContext, site: Server) -> None:
    """On plain HTTP from another machine a browser has no Web Locks."""
    context.add_init_script("delete Navigator.prototype.locks")
    pages = [visit(context, site.port) for _ in range(2)]
    assert len(site.get("/api/connections").json) == 2
    site.publish("to each")
    for page in pages:
        wait_received(page, ["to each"])
