"""The client library in a real Chromium: reconnects, as the server sees them, and shared tabs."""

from __future__ import annotations

import contextlib
import gzip
import itertools
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import BrowserContext, Page, Route
from playwright.sync_api import Error as PlaywrightError

from browsers import hold, stop_clock, until
from gate import Gate
from support import ADMIN, PATIENCE, ROOT, Server, wait_for
from test_units import found_node

JS = ROOT / "static" / "js"
# What tabs need is loaded before there is no server any more.
PAGE = """<!doctype html><title>rt</title><link rel="modulepreload" href="static/js/rt-tabs.js">
<script type="module" src="page.js"></script>"""
SCRIPT = """
import { connect } from './static/js/rt.js';
window.connect = connect;
window.start = (options, url) => {
  const made = url ? connect(url, options) : connect(options);
  const rt = Object.assign(window, { rt: made, got: [], all: [], said: [], waits: [] }).rt;
  for (const name of ['message', 'chat']) rt.on(name, (data, meta) => got.push({ data, ...meta }));
  rt.on('*', (data) => all.push(data));
  rt.on('reconnecting', ({ delay }) => waits.push(delay));
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


def open_page(context: BrowserContext, port: int, url: str = "") -> Page:
    """A new tab with the page, not yet connected."""
    page = context.new_page()
    page.goto(url or f"http://127.0.0.1:{port}/")
    until(page, "() => document.title === 'ready'")
    return page


def visit(context: BrowserContext, port: int, **options: Any) -> Page:
    """A new tab with the page, connected."""
    page = open_page(context, port)
    page.evaluate("(options) => start(options)", options)
    wait_state(page, "open")
    return page


def wait_state(page: Page, state: str) -> None:
    until(page, "(state) => rt.state === state", state)


def wait_said(page: Page, name: str, times: int = 1) -> None:
    """Wait until the page was told that so often."""
    count = "([name, times]) => said.filter(([said]) => said === name).length >= times"
    until(page, count, [name, times])


def asked_since(gate: Gate, before: int, *pages: Page) -> list[str]:
    """What was asked of a gate since there were so many: what pages ask now comes behind what they
    asked before."""
    for page in pages:
        page.evaluate("fetch('healthz?last').catch(() => {})")
    wait_for(
        lambda: sum("?last" in one.path for one in gate.asked[before:]) == len(pages),
        "what is asked last",
    )
    return [one.path for one in gate.asked[before:] if "?last" not in one.path]


def said(page: Page, name: str) -> list[list[Any]]:
    """What the page was told under one of the connection's own events."""
    return [entry for entry in page.evaluate("said") if entry[0] == name]


def received(page: Page) -> list[Any]:
    return [message["data"] for message in page.evaluate("got")]


def wait_received(page: Page, wanted: list[Any]) -> None:
    """Wait for the last one; all must have come once, in order."""
    until(page, "(last) => got.some(({data}) => data === last)", wanted[-1])
    assert received(page) == wanted


# Where a test lets time pass at once, no tab can answer in time: who isn't looked at doesn't ask.
UNSEEN = "Object.defineProperty(document, 'visibilityState', { value: 'hidden' })"


@contextlib.contextmanager
def publishing(server: Server, query: str = "", every: float = 0.01) -> Iterator[list[int]]:
    """Numbers published all the while, in the order in which they were accepted."""
    sent: list[int] = []
    over = threading.Event()

    def publish() -> None:
        for number in itertools.count():
            server.publish(number, query)
            sent.append(number)
            if over.wait(every):
                return

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        yield sent
    finally:
        over.set()
        thread.join(PATIENCE)


both_transports = pytest.mark.parametrize("transport", ["sse", "websocket"])


def test_the_files_are_small() -> None:
    """As they stand; with what tabs need, and without. Nothing else is loaded before the page can
    connect."""
    alone, tabs = (len(gzip.compress((JS / f).read_bytes(), 9)) for f in ("rt.js", "rt-tabs.js"))
    assert alone <= 7 * 1024 and alone + tabs <= 12 * 1024
    loaded = {
        name: re.findall(r"^import .*?'(.*?)'", (JS / name).read_text("utf-8"), re.M)
        for name in ("rt.js", "rt-tabs.js")
    }
    assert loaded == {"rt.js": [], "rt-tabs.js": ["./rt.js"]}


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
    until(one, "() => got.some(({data}) => data === 'joined')")
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
def test_a_message_does_not_pass_for_news_of_the_connection(
    context: BrowserContext, site: Server, transport: str
) -> None:
    one = visit(context, site.port, transport=transport, shared=False)
    before = one.evaluate("said")
    names = ["connecting", "open", "reconnecting", "closed", "recovered", "buffering", "*"]
    for name in names:
        site.publish({"reason": "invented"}, f"event={quote(name)}")
    until(one, "(count) => got.length === count", len(names))
    assert [message["event"] for message in one.evaluate("got")] == names
    assert len(one.evaluate("all")) == len(names)
    assert one.evaluate("said") == before


TRANSPORTS = ("sse", "websocket")
# In milliseconds, before each of the first two attempts: the server's `retry:` and the jitter.
LONGEST_WAIT = 5_000


def visit_with_each(context: BrowserContext, port: int, **options: Any) -> list[Page]:
    """A page for each transport: what takes long is waited for once."""
    return [visit(context, port, transport=each, **options) for each in TRANSPORTS]


def test_a_server_that_is_killed_and_comes_back(
    context: BrowserContext, site: Server, gate: Gate
) -> None:
    context.clock.install()
    pages = visit_with_each(context, gate.port, shared=False)
    site.publish(1)
    for page in pages:
        wait_received(page, [1])
    stop_clock(pages[0])
    site.kill()
    for attempt in (1, 2):
        for page in pages:
            wait_said(page, "reconnecting", attempt)
        if attempt == 2:
            site.start()
            site.publish(2)
        context.clock.run_for(LONGEST_WAIT)
    for page in pages:
        wait_state(page, "open")
    site.publish(3)
    for page in pages:
        wait_received(page, [1, 2, 3])
        assert len(said(page, "recovered")) == 1 and said(page, "reset") == []
        assert said(page, "reconnecting")[0][1] == 1


def test_a_server_that_forgot_says_so(context: BrowserContext, site: Server, gate: Gate) -> None:
    """The database was deleted: what was missed can't be known."""
    context.clock.install()
    pages = visit_with_each(context, gate.port, shared=False)
    site.publish(1)
    for page in pages:
        wait_received(page, [1])
    stop_clock(pages[0])
    site.kill()
    for path in site.data.glob("rtapp.db*"):
        path.unlink()
    site.start()
    for page in pages:
        wait_said(page, "reconnecting")
    context.clock.run_for(LONGEST_WAIT)
    for page in pages:
        wait_said(page, "reset")
        wait_state(page, "open")
    site.publish(2)
    for page in pages:
        wait_received(page, [1, 2])
        assert said(page, "recovered") == []


def test_a_server_that_is_gone_for_good(context: BrowserContext, site: Server, gate: Gate) -> None:
    """Five attempts, each after a jittered wait that doubles; then `closed`, and `retryNow`."""
    context.add_init_script("Math.random = () => 0.15")
    context.clock.install()
    pages = visit_with_each(context, gate.port, shared=False)
    stop_clock(pages[0])
    gate.mode = "down"
    gate.asked.clear()
    gate.cut()
    for attempt in range(1, 6):
        for page in pages:
            wait_said(page, "reconnecting", attempt)
        waits = [page.evaluate("waits.at(-1)") for page in pages]
        if attempt > 1:  # before the first one as long as the server wanted, too
            assert waits == [150 * 2 ** (attempt - 1)] * 2
        before = len(gate.asked)
        context.clock.run_for(min(waits) - 1)
        assert asked_since(gate, before, *pages) == []
        before = len(gate.asked)
        gate.closes.clear()  # both fail at the same time of theirs, or one were an attempt ahead
        context.clock.run_for(max(waits) - min(waits) + 1)
        wait_for(lambda: len(gate.asked) == before + 2, "both attempts")  # noqa: B023
        gate.closes.set()
    for page in pages:
        wait_state(page, "closed")
        assert said(page, "closed") == [["closed", "gave up", "unreachable"]]
        assert [entry[1] for entry in said(page, "reconnecting")] == [1, 2, 3, 4, 5]
    # A WebSocket's refusal would tell no reason, so HTTP is asked first.
    assert len(gate.asked_by("GET")) == len(gate.asked_by("HEAD")) == 5
    gate.mode = "pass"
    site.publish("meanwhile")
    for page in pages:
        page.evaluate("rt.retryNow()")
        wait_received(page, ["meanwhile"])


def test_a_busy_server_says_when(context: BrowserContext, gate: Gate) -> None:
    """Neither a tab that follows nor one that is looked at comes sooner."""
    gate.mode, gate.retry_after = "busy", 9
    context.add_init_script(UNSEEN)
    context.clock.install()
    pages = [open_page(context, gate.port) for _ in range(2)]
    stop_clock(pages[0])
    pages[0].evaluate("start({})")
    until(pages[0], "() => said.some(([, , code]) => code === 'http_503')")
    pages[1].evaluate("start({})")
    wait_state(pages[1], "reconnecting")
    gate.mode = "pass"
    before = len(gate.asked)
    for page in pages:
        page.evaluate("dispatchEvent(new Event('online'))")
    context.clock.run_for(8_999)
    assert asked_since(gate, before, *pages) == [], "Retry-After is the least wait"
    context.clock.run_for(1_001)
    for page in pages:
        wait_state(page, "open")
    assert len(gate.streams()) == 2


def test_a_revoked_token_ends_it(
    make_server: Callable[..., Server], public: Path, context: BrowserContext
) -> None:
    site = make_server("--public", str(public))
    gate = Gate(site.port)
    new_token = {"name": "page", "scopes": ["subscribe", "publish"]}
    made = site.post("/api/tokens", new_token).json
    context.clock.install()
    pages = visit_with_each(context, gate.port, token=made["token"])
    pages[0].evaluate("rt.emit('message', 'hello')")
    for page in pages:
        wait_received(page, ["hello"])
    assert site.request("DELETE", f"/api/tokens/{made['id']}").status == 200
    for page in pages:
        wait_state(page, "closed")
    before = len(gate.asked)
    context.clock.run_for(2 * LONGEST_WAIT)
    assert asked_since(gate, before, *pages) == [], "it came back"
    site.publish("meanwhile")
    token = site.post("/api/tokens", new_token).json["token"]
    for page in pages:
        page.evaluate("rt.retryNow()")
        until(page, "() => said.at(-1)[0] === 'closed' && said.at(-1)[1] === 'refused'")
        # Another token is another connection, which goes on where this one stopped.
        page.evaluate(
            "(token) => start({ ...rt.options, token, since: rt.lastEventId })",
            token,
        )
        wait_received(page, ["meanwhile"])
    gate.close()


def test_a_proxy_that_holds_the_stream_back(context: BrowserContext, gate: Gate) -> None:
    gate.mode = "hold"
    context.clock.install()
    page = open_page(context, gate.port)
    stop_clock(page)
    page.evaluate("start({shared: false})")
    wait_for(gate.streams, "the page to ask")
    context.clock.run_for(4_000)
    assert said(page, "buffering") == []
    context.clock.run_for(2_000)
    wait_said(page, "buffering")
    assert page.evaluate("all") == [], "it is no message"


def test_a_silent_connection_is_given_up(context: BrowserContext, site: Server, gate: Gate) -> None:
    """The network swallows everything, and nobody says so."""
    context.clock.install()
    pages = visit_with_each(context, gate.port, shared=False)
    assert site.process is not None
    site.process.send_signal(signal.SIGSTOP)
    stop_clock(pages[0])
    context.clock.run_for(4_000)
    assert [said(page, "reconnecting") for page in pages] == [[], []]
    context.clock.run_for(4_000)  # two missed pings, and five seconds
    for page in pages:
        until(page, "() => said.some(([, , code]) => code === 'silent')")
    site.process.send_signal(signal.SIGCONT)
    context.clock.run_for(LONGEST_WAIT)
    for page in pages:
        wait_state(page, "open")
    site.publish("again")
    for page in pages:
        wait_received(page, ["again"])


def test_looking_at_a_page_tries_at_once(context: BrowserContext, gate: Gate) -> None:
    """And uses up no attempt; whichever tab it is."""
    context.add_init_script("Math.random = () => 0.99")
    leader, follower = (visit(context, gate.port, attempts=3) for _ in range(2))
    gate.mode = "down"
    gate.cut()
    for page in (leader, follower):
        wait_state(page, "reconnecting")
    for looks in range(1, 6):
        before = len(gate.streams())
        (leader if looks % 2 else follower).evaluate("dispatchEvent(new Event('online'))")
        wait_for(lambda least=before: len(gate.streams()) > least, "an attempt at once")
        wait_said(leader, "reconnecting", looks + 1)
    gate.mode = "pass"
    follower.evaluate("dispatchEvent(new Event('online'))")
    for page in (leader, follower):
        wait_state(page, "open")
        assert said(page, "closed") == []


def test_behind_a_proxy_with_a_base_path(context: BrowserContext, site: Server) -> None:
    gate = Gate(site.port, prefix="/apps/chat")
    for transport in TRANSPORTS:
        page = open_page(context, 0, f"http://127.0.0.1:{gate.port}/apps/chat/")
        page.evaluate("(transport) => start({ transport })", transport)
        wait_state(page, "open")
        page.evaluate("rt.subscribe('a')")
        page.evaluate("rt.emit('message', 'by prefix', { channel: 'a' })")
        wait_received(page, ["by prefix"])
    gate.close()


def test_a_page_of_another_site(
    make_server: Callable[..., Server], context: BrowserContext, site: Server
) -> None:
    origin = f"http://localhost:{site.port}"
    other = make_server(allowed_origins=origin)
    for transport in TRANSPORTS:
        page = open_page(context, 0, origin)
        options = {"transport": transport, "token": ADMIN, "channels": ["a"]}
        where = f"http://127.0.0.1:{other.port}"
        page.evaluate("([options, url]) => start(options, url)", [options, where])
        wait_state(page, "open")
        page.evaluate("rt.subscribe('b')")
        other.publish(transport, "channel=b")
        wait_received(page, [transport])


def test_what_is_called_while_it_begins(context: BrowserContext, site: Server) -> None:
    """Whatever is called at once, in the end there is one connection, or none."""
    page = open_page(context, site.port)
    for options in ("{}", "{ shared: false }"):
        page.evaluate(f"start({options}); rt.close()")
        page.wait_for_timeout(200)
        assert site.get("/api/connections").json == []
        assert [entry[0] for entry in page.evaluate("said")] == ["closed"]
        for calls in (
            "rt.retryNow(); rt.retryNow();",
            "rt.close(); rt.retryNow();",
            "await null; rt.retryNow(); await null; rt.close(); rt.retryNow(); rt.retryNow();",
        ):
            page.evaluate(f"async () => {{ start({options}); {calls} }}")
            wait_state(page, "open")
            page.evaluate("rt.emit('message', 'once')")
            wait_received(page, ["once"])
            wait_for(lambda: len(site.get("/api/connections").json) == 1, "one to be left")
            page.evaluate("rt.close()")
            wait_for(lambda: site.get("/api/connections").json == [], "it to end")
    page.evaluate("start({})")
    wait_state(page, "open")
    page.evaluate("rt.emit('chat')")
    until(page, "() => got.length === 1 && got[0].data === null")


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
    """While messages are published: no other tab lacks one or has one twice. They are on the
    channel of two tabs, of which the leading ones must learn from them."""
    channels: list[list[str]] = [["x"], [], ["a"], ["a"]]
    pages = [visit(context, site.port, channels=names) for names in channels]
    with publishing(site, "channel=a") as sent:
        for leader in pages[:2]:
            until(pages[2], "(least) => got.length > least", len(sent) + 20)
            if way == "closed":
                leader.close()
            else:
                with contextlib.suppress(PlaywrightError):
                    leader.goto("chrome://crash", timeout=5000)
            sent_before = len(sent)
            wait_for(
                lambda least=sent_before + 30: len(received(pages[3])) > least,
                "the next tab to go on",
            )
    for page in pages[2:]:
        last = "(last) => got.some(({data}) => data === last) && got"
        got = until(page, last, sent[-1]).json_value()
        numbers = [message["data"] for message in got]
        assert numbers == list(range(numbers[0], sent[-1] + 1))
    assert len(site.get("/api/connections").json) == 1


SLEEP = "const now = Date.now; window.slept = 0; Date.now = () => now() + slept;"
# A script that waits for an answer, and nothing else happens in the tab meanwhile.
HANG = """() => void setTimeout(() => {
  const request = new XMLHttpRequest();
  request.open('GET', 'held', false);
  request.send();
})"""


def test_a_mute_leader_is_replaced(context: BrowserContext, site: Server) -> None:
    """It lives, holds the lock, and does nothing; when it wakes it follows."""
    context.add_init_script(SLEEP)
    leader, follower = visit(context, site.port), visit(context, site.port)
    site.publish(1)
    for page in (leader, follower):
        wait_received(page, [1])
    held = hold(leader, "**/held")
    leader.evaluate(HANG)
    wait_for(lambda: follower.evaluate("1") and held, "the leading tab to hang")
    follower.evaluate("slept = 10_000")
    site.publish(2)
    wait_received(follower, [1, 2])
    site.publish(3)
    wait_received(follower, [1, 2, 3])
    held[0].fulfill()
    for page in (follower, leader):
        wait_received(page, [1, 2, 3])
    wait_for(lambda: len(site.get("/api/connections").json) == 1, "one stream to be left")
    site.publish(4)
    for page in (follower, leader):
        wait_received(page, [1, 2, 3, 4])


def freeze(context: BrowserContext, page: Page, way: str) -> Callable[[], None]:
    """Let nothing happen in a page any more; what lets it go on."""
    if way == "alert":
        dialogs: list[Any] = []
        page.on("dialog", lambda one: dialogs.append(one))  # noqa: PLW0108 - a builtin is refused
        page.evaluate("setTimeout(() => alert('Look at me.'))")
        wait_for(lambda: page.context.pages[-1].evaluate("1") and dialogs, "the question")
        return dialogs[0].accept  # type: ignore[no-any-return]
    debugger = context.new_cdp_session(page)
    debugger.send("Debugger.enable")
    debugger.send("Debugger.pause")
    return debugger.detach


def test_a_leader_that_is_stopped_is_replaced_within_three_seconds(
    make_server: Callable[..., Server], public: Path, context: BrowserContext
) -> None:
    """With pings as far apart as they are; what waits for it goes on, and a new tab opens."""
    server = make_server("--public", str(public), access="open")
    pages = [visit(context, server.port, channels=["a"]) for _ in range(3)]
    last = pages[-1]
    with publishing(server, "channel=a", every=0.1) as sent:
        until(last, "() => got.length > 3")
        thaws = []
        for leader, way in zip(pages[:2], ("alert", "debugger"), strict=True):
            thaws.append(freeze(context, leader, way))
            frozen_at, before = time.monotonic(), sent[-1]
            last.evaluate(f"void rt.subscribe('{way}').then(() => (window.done = '{way}'))")
            until(last, "(before) => got.some(({data}) => data > before + 2)", before)
            until(last, "(way) => window.done === way", way)
            assert time.monotonic() - frozen_at < 4, "three seconds, and to connect"
        new = visit(context, server.port, channels=["a"])
        for thaw in thaws:
            thaw()
        wait_for(lambda: len(server.get("/api/connections").json) == 1, "one stream to be left")
        until(new, "() => got.length > 10")
    for page in (*pages, new):
        until(page, "(last) => got.some(({data}) => data === last)", sent[-1])
        numbers = received(page)
        assert numbers == list(range(numbers[0], sent[-1] + 1))


def busy_seconds() -> dict[int, float]:
    """What the processes of this run's pages have worked, by their ids."""
    parents, worked = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            pid = int(path.parent.name)
            parents[pid] = int(fields[1])
            if b"--type=renderer" in (path.parent / "cmdline").read_bytes():
                worked[pid] = int(fields[11]) / os.sysconf("SC_CLK_TCK")

    def is_ours(pid: int) -> bool:
        return pid == os.getpid() or (pid in parents and is_ours(parents[pid]))

    return {pid: seconds for pid, seconds in worked.items() if is_ours(pid)}


def process_of(page: Page) -> int:
    """The process that runs a page: the one that works while it does."""
    before = busy_seconds()
    page.evaluate("for (const end = performance.now() + 400; performance.now() < end; );")
    worked = {pid: seconds - before.get(pid, 0) for pid, seconds in busy_seconds().items()}
    return max(worked, key=lambda pid: worked[pid])


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_leader_whose_process_is_stopped(
    make_server: Callable[..., Server], public: Path, context: BrowserContext
) -> None:
    """As by a system that is short of memory: nothing of it runs, until it is woken."""
    server = make_server("--public", str(public), access="open")
    leader, follower = pages = [visit(context, server.port, channels=["a"]) for _ in range(2)]
    stopped = process_of(leader)
    assert process_of(follower) != stopped, "both in one process"
    with publishing(server, "channel=a", every=0.1) as sent:
        until(follower, "() => got.length > 3")
        os.kill(stopped, signal.SIGSTOP)
        try:
            stopped_at, before = time.monotonic(), sent[-1]
            until(follower, "(before) => got.some(({data}) => data > before + 2)", before)
            assert time.monotonic() - stopped_at < 4, "three seconds, and to connect"
            until(follower, "(before) => got.some(({data}) => data > before + 30)", before)
        finally:
            os.kill(stopped, signal.SIGCONT)
        until(leader, "(before) => got.some(({data}) => data > before + 30)", before)
        wait_for(lambda: len(server.get("/api/connections").json) == 1, "one stream to be left")
    for page in pages:
        until(page, "(last) => got.some(({data}) => data === last)", sent[-1])
        numbers = received(page)
        assert numbers == list(range(numbers[0], sent[-1] + 1))


WORKER = """
import { connect } from './static/js/rt.js';
const rt = connect({ channels: ['a'] });
const tell = (port) => {
  rt.on('message', (data) => port.postMessage(data));
  rt.ready.then(() => port.postMessage('ready'));
};
if ('onconnect' in globalThis) onconnect = ({ ports: [port] }) => tell(port);
else tell(globalThis);
"""


def test_in_a_worker_and_in_a_shared_one(
    context: BrowserContext, site: Server, public: Path
) -> None:
    (public / "worker.js").write_text(WORKER)
    page = open_page(context, site.port)
    page.evaluate("""() => {
        window.heard = [[], []];
        const kind = { type: 'module' };
        const ports = [new Worker('worker.js', kind), new SharedWorker('worker.js', kind).port];
        ports.forEach((port, at) => (port.onmessage = ({ data }) => heard[at].push(data)));
    }""")
    until(page, "() => heard.every((each) => each.includes('ready'))")
    site.publish("to both", "channel=a")
    until(page, "() => heard.every((each) => each.includes('to both'))")


NODE = """
import { connect } from '%s';
const [, , url, token] = process.argv;
const rt = connect(url, { token, channels: ['a'], attempts: Infinity });
rt.on('message', (data) => {
  console.log(data);
  if (data === 'end') rt.close();
});
await rt.ready;
await rt.emit('message', 'hello', { channel: 'a', timeout: 10_000, retries: 2 });
"""


def test_in_node(server: Server, tmp_path: Path) -> None:
    """Without a page; it ends when it is closed."""
    script = tmp_path / "script.mjs"
    script.write_text(NODE % (JS / "rt.js").as_uri())
    gate = Gate(server.port)
    command = [found_node(), str(script), f"http://127.0.0.1:{gate.port}", ADMIN]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "hello\n"
            gate.cut()
            server.publish("meanwhile", "channel=a")
            server.publish("end", "channel=a")
            assert process.stdout.read() == "meanwhile\nend\n"
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()
            gate.close()


@both_transports
def test_a_refused_subscription_is_told_and_harms_nothing(
    context: BrowserContext, site: Server, transport: str
) -> None:
    """Also one of before there is a connection."""
    page = open_page(context, site.port)
    page.evaluate("(transport) => start({ transport, channels: ['a'] })", transport)
    refused = "rt.subscribe('room:x').catch(({ code }) => code)"
    assert page.evaluate(f"Promise.all([rt.subscribe('b'), {refused}])")[1] == "reserved_channel"
    assert page.evaluate("[rt.state, ...rt.channels]") == ["open", "a", "b"]
    for name in "ab":
        site.publish(name, f"channel={name}")
    wait_received(page, ["a", "b"])


def test_a_refusal_while_the_tabs_meet_ends_nothing(context: BrowserContext, site: Server) -> None:
    """Whenever it is asked for: what leads the tabs takes some milliseconds to be found."""
    page = open_page(context, site.port)
    ended = page.evaluate("""async () => {
      const refused = [];
      for (let ms = 0; ms <= 24; ms += 2) {
        start({ channels: ['a'] });
        const mine = rt;
        await new Promise((rise) => setTimeout(rise, ms));
        const why = mine.subscribe('room:x').catch(({ code }) => code);
        refused.push([(await Promise.all([why, mine.subscribe('b')]))[0], mine.state]);
        mine.close();
      }
      return refused;
    }""")
    assert ended == [["reserved_channel", "open"]] * 13


def test_no_secret_stands_in_an_address(context: BrowserContext, site: Server, gate: Gate) -> None:
    session = "a-secret-of-somebody-0123456789"
    pages = visit_with_each(context, gate.port, session=session, shared=False, token=ADMIN)
    assert len({page.evaluate("rt.clientId") for page in pages}) == 1
    gate.cut()
    for page in pages:
        wait_said(page, "recovered")
    assert gate.asked and not [one.path for one in gate.asked if session in one.path]
    assert not [one.path for one in gate.asked if ADMIN in one.path]


def test_a_channel_from_a_position_on(context: BrowserContext, site: Server) -> None:
    for transport in TRANSPORTS:
        page = visit(context, site.port, transport=transport)
        stored = [site.publish(n, f"channel={transport}").json["message"]["id"] for n in range(4)]
        site.publish("to all")
        until(page, "() => got.length === 1")
        epoch = page.evaluate("rt.lastEventId").split("-")[0]
        query = [transport, f"{epoch}-{stored[1]}"]
        page.evaluate("([name, since]) => rt.subscribe(name, { since })", query)
        site.publish("now", f"channel={transport}")
        wait_received(page, ["to all", 2, 3, "now"])
        page.evaluate("rt.close()")


# The first connection is lost amid the messages of a channel, which has the transport's name.
LOSE = """(transport) => {
  let isLost = false;
  const lose = (answer) => {
    const cut = new TransformStream({
      transform(bytes, controller) {
        if (isLost) return;
        isLost = new TextDecoder().decode(bytes).includes(`channel: ${transport}`);
        controller.enqueue(isLost ? bytes.slice(0, bytes.length / 2) : bytes);
        if (isLost) setTimeout(() => controller.error(new TypeError('lost')), 50);
      },
    });
    return new Response(answer.body.pipeThrough(cut), answer);
  };
  const get = async (url, init) => {
    const answer = await fetch(url, init);
    return url.pathname.endsWith('/events') && answer.body && !isLost ? lose(answer) : answer;
  };
  class Lost extends WebSocket {
    set onmessage(hear) {
      super.onmessage = (event) => {
        hear(event);
        if (isLost || !event.data.includes(`"channel":"${transport}"`)) return;
        isLost = true;
        this.close();
      };
    }
  }
  start({ transport, shared: false, fetch: get, WebSocket: Lost });
}"""


def test_older_messages_of_a_connection_that_is_lost(context: BrowserContext, site: Server) -> None:
    """All come, and once."""
    for transport in TRANSPORTS:
        page = open_page(context, site.port)
        page.evaluate(LOSE, transport)
        wait_state(page, "open")
        query = f"channel={transport}"
        stored = [site.publish(n, query).json["message"]["id"] for n in range(9)]
        site.publish("to all")
        until(page, "() => got.length === 1")
        since = f"{page.evaluate('rt.lastEventId').split('-')[0]}-{stored[1]}"
        page.evaluate("([name, since]) => rt.subscribe(name, { since })", [transport, since])
        wait_said(page, "reconnecting")
        site.publish("meanwhile", query)
        page.evaluate("dispatchEvent(new Event('online'))")
        wait_said(page, "recovered")
        site.publish("now", query)
        wait_received(page, ["to all", *range(2, 9), "meanwhile", "now"])
        page.evaluate("rt.close()")


def test_a_tab_that_is_opened_while_there_is_no_connection(
    context: BrowserContext, site: Server, gate: Gate
) -> None:
    context.add_init_script(UNSEEN)
    context.clock.install()
    leader, late = visit(context, gate.port, channels=["a"]), open_page(context, gate.port)
    stop_clock(leader)
    gate.mode = "down"
    gate.cut()
    wait_state(leader, "reconnecting")
    late.evaluate("start({ channels: ['b'] })")
    wait_state(late, "reconnecting")
    late.evaluate("void rt.subscribe('c').then(() => (window.subscribed = true))")
    gate.mode = "pass"
    context.clock.run_for(LONGEST_WAIT)
    for page in (leader, late):
        wait_state(page, "open")
    for name in "abc":
        site.publish(name, f"channel={name}")
    site.publish("end")
    wait_received(leader, ["a", "end"])
    wait_received(late, ["b", "c", "end"])
    until(late, "() => window.subscribed")
    assert len(site.get("/api/connections").json) == 1


def test_a_tab_whose_channel_is_refused_leaves_alone(
    context: BrowserContext, site: Server, gate: Gate
) -> None:
    """Whether it comes first, later, or while there is no connection."""
    context.add_init_script(UNSEEN)
    context.clock.install()
    first = open_page(context, gate.port)
    first.evaluate("start({ channels: ['room:a'] })")
    wait_state(first, "closed")
    good = [visit(context, gate.port, channels=[name]) for name in "ab"]
    later = open_page(context, gate.port)
    later.evaluate("start({ channels: ['room:b'] })")
    wait_state(later, "closed")
    meanwhile = open_page(context, gate.port)
    stop_clock(meanwhile)
    gate.mode = "down"
    gate.cut()
    for page in good:
        wait_state(page, "reconnecting")
    meanwhile.evaluate("start({ channels: ['room:c'] })")
    wait_state(meanwhile, "reconnecting")
    site.publish("for b", "channel=b")
    gate.mode = "pass"
    context.clock.run_for(LONGEST_WAIT)
    wait_state(meanwhile, "closed")
    for page in (first, later, meanwhile):
        assert said(page, "closed") == [["closed", "refused", "reserved_channel"]]
    site.publish("for a", "channel=a")
    site.publish("end")
    wait_received(good[0], ["for a", "end"])
    wait_received(good[1], ["for b", "end"])
    for page in good:
        wait_state(page, "open")
        assert said(page, "closed") == []
    wait_for(lambda: len(site.get("/api/connections").json) == 1, "one stream to be left")


def test_who_was_put_out_stays_out(context: BrowserContext, site: Server) -> None:
    """In all tabs, also when the leading one goes; a new tab is a new beginning."""
    pages = [visit(context, site.port) for _ in range(3)]
    client = pages[0].evaluate("rt.clientId")
    assert site.request("DELETE", f"/api/connections/{client}", {}).status == 200
    for page in pages:
        wait_state(page, "closed")
        assert said(page, "closed")[0][1] == "disconnected"
    pages[1].evaluate("rt.subscribe('a')")
    pages[0].close()
    pages[1].wait_for_timeout(500)
    assert site.get("/api/connections").json == []
    assert pages[1].evaluate("rt.state") == "closed"
    new = visit(context, site.port)
    for page in pages[1:]:
        wait_state(page, "open")
    site.publish("on", "channel=a")
    site.publish("end")
    wait_received(pages[1], ["on", "end"])
    wait_received(pages[2], ["end"])
    wait_received(new, ["end"])


def test_a_machine_that_slept(context: BrowserContext, site: Server, gate: Gate) -> None:
    """Every tab has heard nothing for an hour: the leading one connects anew, nobody else."""
    context.clock.install()
    context.add_init_script(SLEEP)
    pages = [visit(context, gate.port) for _ in range(4)]
    assert site.process is not None
    site.process.send_signal(signal.SIGSTOP)  # it would be heard meanwhile
    for page in pages:
        page.evaluate("slept = 3600e3")
    wait_said(pages[0], "reconnecting")
    site.process.send_signal(signal.SIGCONT)
    context.clock.run_for(LONGEST_WAIT)
    wait_for(lambda: len(gate.streams()) > 1, "the leading tab to connect anew")
    site.publish("awake")
    for page in pages:
        wait_received(page, ["awake"])
    wait_for(lambda: len(site.get("/api/connections").json) == 1, "one stream to be left")


def test_what_is_asked_while_the_leading_tab_goes(context: BrowserContext, site: Server) -> None:
    """The next one answers it."""
    pages = [visit(context, site.port) for _ in range(3)]
    pages[1].evaluate(
        """() => setTimeout(async () => {
        for (const name of 'abcdefgh') await rt.subscribe(name);
        window.done = true;
    })"""
    )
    pages[0].close()
    pages[2].evaluate("rt.subscribe('z')")
    until(pages[1], "() => window.done")
    for page in pages[1:]:
        wait_state(page, "open")
    # Without a connection it is "at once": who has the channel is seen on the server.
    wait_for(
        lambda: {"a", "h", "z"} <= set(site.get("/api/connections").json[0]["channels"]),
        "the channels to be heard",
    )
    site.publish(1, "channel=h")
    site.publish(2, "channel=z")
    site.publish("end")
    wait_received(pages[1], [1, "end"])
    wait_received(pages[2], [2, "end"])


NO_CHANNEL = "BroadcastChannel = class { constructor() { throw new DOMException('no') } }"


@pytest.mark.parametrize(
    "denied",
    [
        "delete Navigator.prototype.locks",
        "navigator.locks.query = () => Promise.reject(new DOMException('no', 'SecurityError'))",
        NO_CHANNEL,
    ],
    ids=["no locks", "locks denied", "no channel"],
)
def test_tabs_that_can_not_share_have_a_stream_each(
    context: BrowserContext, site: Server, denied: str
) -> None:
    """Browsers give no Web Locks on plain HTTP from elsewhere, nor where they give no storage."""
    context.add_init_script(denied)
    pages = [visit(context, site.port) for _ in range(2)]
    assert len(site.get("/api/connections").json) == 2
    site.publish("to each")
    for page in pages:
        wait_received(page, ["to each"])


@pytest.mark.parametrize("status", [0, 404], ids=["unreachable", "not found"])
def test_a_tab_that_can_not_have_its_part_goes_on_alone(
    context: BrowserContext, site: Server, status: int
) -> None:
    """And says so to whoever looks for it."""
    context.route(
        "**/rt-tabs.js",
        lambda route: route.fulfill(status=status) if status else route.abort(),
    )
    page = open_page(context, site.port)
    page.evaluate("start({ channels: ['a'], debug: (text) => (window.words ??= []).push(text) })")
    wait_state(page, "open")
    site.publish("alone", "channel=a")
    wait_received(page, ["alone"])
    told = [text for text in page.evaluate("words") if "rt-tabs.js" in text]
    assert len(told) == 1 and "a stream of its own" in told[0]


def test_what_is_needed_by_a_change_of_channels_is_loaded_then_and_tried_for_again(
    context: BrowserContext, site: Server
) -> None:
    """Some browsers keep for ever that a part could not be had: it waits for the connection."""
    asked: list[str] = []

    def lose_once(route: Route) -> None:
        asked.append(route.request.url)
        if len(asked) == 1:
            route.abort()
        else:
            route.continue_()

    context.route("**/rt-more.js", lose_once)
    page = open_page(context, site.port)
    page.route("**/api/events?*", lambda route: route.abort())
    page.evaluate("start({ channels: ['a'], shared: false, attempts: 0 })")
    wait_state(page, "closed")
    assert page.evaluate("rt.subscribe('a')") is None, "kept for the next connection"
    assert asked == []
    page.unroute("**/api/events?*")
    page.evaluate("rt.retryNow()")
    wait_state(page, "open")
    failed = page.evaluate("rt.subscribe('b').catch(({ code }) => code)")
    assert (failed, page.evaluate("[...rt.channels]")) == ("unreachable", ["a"])
    site.publish("first", "channel=a")
    page.evaluate("rt.subscribe('b')")
    site.publish("second", "channel=b")
    wait_received(page, ["first", "second"])
    assert len(asked) == 2 and page.evaluate("rt.state") == "open"


@pytest.mark.parametrize(
    ("options", "parts"),
    [({"shared": False}, set()), ({}, {"rt-tabs.js"}), ({"token": ADMIN}, {"rt-tabs.js"})],
    ids=["alone", "with other tabs", "by a token"],
)
def test_who_listens_loads_no_more_than_that(
    context: BrowserContext, site: Server, public: Path, options: dict[str, Any], parts: set[str]
) -> None:
    """Also where the connection is lost meanwhile."""
    (public / "bare.html").write_text(PAGE.rpartition("\n")[2])
    page = context.new_page()
    loaded: set[str] = set()
    page.on("request", lambda request: loaded.add(request.url.rpartition("/")[2]))
    page.goto(f"http://127.0.0.1:{site.port}/bare.html")
    until(page, "() => document.title === 'ready'")
    page.evaluate("(options) => start(options)", {"channels": ["a"], **options})
    wait_state(page, "open")
    site.publish("one", "channel=a")
    wait_received(page, ["one"])
    site.stop()
    site.start()
    wait_said(page, "open", 2)
    site.publish("two", "channel=a")
    wait_received(page, ["one", "two"])
    assert {name for name in loaded if name.startswith("rt")} == {"rt.js", *parts}
    page.evaluate("rt.emit('chat', 'three', { channel: 'a' })")
    wait_received(page, ["one", "two", "three"])
    assert "rt-more.js" in loaded
