"""The developer's guide, "From your own page": its lines in a real Chromium, beside them those of
the guide that this project is built from."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page

from browsers import until
from gate import Gate
from support import ADMIN, ROOT, Server, wait_for

GUIDE = (ROOT / "static" / "docs" / "developer.md").read_text("utf-8")
SECTION = GUIDE.split("## From your own page")[1].split("\n## ")[0]
PAGE = """<!doctype html><title>mine</title><script type="module" src="page.js"></script>"""
EXAMPLE = re.findall(r"```js\n(.+?)```", SECTION, re.DOTALL)[0]
SOCKET = re.findall(r"```js\n(.+?)```", GUIDE.split("## WebSocket")[1], re.DOTALL)[0]
SCRIPT = """import { connect } from './static/js/rt.js';
Object.assign(window, { connect, userId: 7 });
document.title = 'ready';
"""
WAYS = ("guide", "rt")


def table() -> dict[str, dict[str, str]]:
    """The code of each row's columns by the row's name; the guide's where it is the same."""
    rows = {}
    for line in re.findall(r"^\| (\w.+) \|$", SECTION, re.MULTILINE):
        name, *cells = line.split(" | ")
        guide, rt = ("\n".join(re.findall(r"`([^`]+)`", cell)) for cell in cells)
        rows[name] = {"guide": guide, "rt": guide if cells[1] == "the same" else rt}
    return rows


ROWS = table()


@pytest.fixture
def site(make_server: Callable[..., Server], tmp_path: Path) -> Server:
    """A server of the developer's own page, open to whoever reaches it, as the guide's."""
    folder = tmp_path / "pages"
    folder.mkdir()
    (folder / "index.html").write_text(PAGE)
    (folder / "page.js").write_text(SCRIPT)
    (folder / "example.html").write_text(f"<script type=module>{EXAMPLE}</script>")
    return make_server("--public", str(folder), access="open")


def visit(context: BrowserContext, port: int, code: str = "") -> tuple[Page, list[str]]:
    """A page of the site in which some code runs, and what it prints."""
    page = context.new_page()
    printed: list[str] = []
    page.on("console", lambda message: printed.append(message.text))
    page.goto(f"http://127.0.0.1:{port}/")
    until(page, "() => document.title === 'ready'")
    if code:
        page.evaluate(f"async () => {{ {code} }}")
    return page, printed


def test_the_table_is_read_as_a_whole() -> None:
    assert [*ROWS] == [
        "listen",
        "send",
        "notify",
        "make a room",
        "change a setting",
        "reconnect, at most 5 attempts",
    ]


def test_the_example(context: BrowserContext, site: Server) -> None:
    page = context.new_page()
    printed: list[str] = []
    page.on("console", lambda message: printed.append(message.text))
    page.goto(f"http://127.0.0.1:{site.port}/example.html")
    wait_for(lambda: pumped(page, printed, "Hello!"), "the page to hear itself")


def test_a_websocket(context: BrowserContext, site: Server) -> None:
    code = SOCKET.replace("127.0.0.1:8000", f"127.0.0.1:{site.port}")
    page, printed = visit(context, site.port, code)
    heard = "JSON.stringify(JSON.parse(event.data))"  # a console shows what is in an object
    page.evaluate(f"async () => {{ {code.replace('JSON.parse(event.data)', heard)} }}")
    wait_for(lambda: pumped(page, printed, '"Hello!"'), "the page to hear itself")


def pumped(page: Page, printed: list[str], text: str) -> bool:
    """Whether a page has printed a text; the browser's events come while Playwright is asked."""
    page.wait_for_timeout(20)
    return any(text in line for line in printed)


@pytest.mark.parametrize("sender", WAYS)
@pytest.mark.parametrize("listener", WAYS)
def test_sending_and_listening(
    context: BrowserContext, site: Server, listener: str, sender: str
) -> None:
    page, printed = visit(context, site.port, ROWS["listen"][listener])
    wait_for(lambda: len(site.get("/api/connections").json) == 1, "it to listen")
    for row, text in (("send", "Hello!"), ("notify", "A new update is available!")):
        visit(context, site.port, ROWS[row][sender])
        wait_for(lambda text=text: pumped(page, printed, text), f"{text} to be printed")
        line = next(line for line in printed if text in line)
        assert line.startswith("received: {"), line


def test_a_room_and_a_setting(context: BrowserContext, site: Server) -> None:
    page, _ = visit(context, site.port)
    status = page.evaluate(f"async () => {{ {ROWS['make a room']['guide']}; return room.status; }}")
    assert status == 201
    room = site.get("/api/video/rooms/meeting-123").json
    assert (room["name"], room["maxParticipants"], room["hostId"]) == ("Team meeting", 10, 7)
    # Settings are an administrator's, also where everybody may publish.
    admin = context.new_page()
    admin.set_extra_http_headers({"Authorization": f"Bearer {ADMIN}"})
    admin.goto(f"http://127.0.0.1:{site.port}/")
    admin.evaluate(f"async () => {{ {ROWS['change a setting']['guide']} }}")
    found = {one["key"]: one["value"] for one in site.get("/api/settings").json}
    assert found["max_connections"] == 1000


def test_reconnecting_at_most_five_times(context: BrowserContext, site: Server) -> None:
    context.clock.install()
    gate = Gate(site.port)
    page, printed = visit(context, gate.port, ROWS["reconnect, at most 5 attempts"]["rt"])
    wait_for(lambda: pumped(page, printed, "open"), "it to connect")
    gate.mode = "down"
    gate.cut()
    for attempt in range(1, 6):
        wait_for(lambda text=f"reconnecting {attempt}": pumped(page, printed, text), "an attempt")
        context.clock.fast_forward(40_000)  # longer than the longest wait
    wait_for(lambda: pumped(page, printed, "closed"), "it to give up")
    states = [line.strip() for line in printed if re.match(r"connect|open|reconn|closed", line)]
    tries = [f"reconnecting {n}" for n in range(1, 6)]
    assert states == ["connecting", "open", *tries, "closed"]
    gate.close()
