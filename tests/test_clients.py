"""Other people's SSE clients: each is cut off five times, and nothing is lost or doubled."""

from __future__ import annotations

import contextlib
import importlib.util
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from calls import FirefoxPage
from gate import Asked, Gate
from support import PATIENCE, Server, wait_for

DROPS = 5
BURST = 50  # messages of half a kilobyte
PACKAGES = (
    "eventsource@4.1.1",
    "event-source-polyfill@1.0.31",
    "@microsoft/fetch-event-source@2.0.1",
    "htmx.org@2.0.11",
    "htmx-ext-sse@2.2.4",
    "htmx4@npm:htmx.org@4.0.1",
)
MODULES = {  # where a page finds a package's file
    "polyfill.js": "event-source-polyfill/src/eventsource.js",
    "htmx2.js": "htmx.org/dist/htmx.js",
    "htmx2-sse.js": "htmx-ext-sse/sse.js",
    "htmx4.js": "htmx4/dist/htmx.js",
    "htmx4-sse.js": "htmx4/dist/ext/hx-sse.js",
}
EVENT_SOURCE = """<!doctype html><title>mine</title><div></div><script>
new {kind}('api/events?channel=news').onmessage = (event) => {{
  document.querySelector('div').append(event.data);
}};
</script>"""
PAGES = {
    "native.html": EVENT_SOURCE.format(kind="EventSource"),
    "polyfill.html": '<script src="polyfill.js"></script>'
    + EVENT_SOURCE.format(kind="EventSourcePolyfill"),
    "htmx2.html": """<!doctype html>
        <script src="htmx2.js"></script><script src="htmx2-sse.js"></script>
        <div hx-ext="sse" sse-connect="api/events?channel=news" sse-swap="message"
             hx-swap="beforeend"></div>""",
    "htmx4.html": """<!doctype html>
        <script src="htmx4.js"></script><script src="htmx4-sse.js"></script>
        <div hx-sse:connect="api/events?channel=news" hx-swap="beforeend"></div>""",
}
# Scripts for Node; the second stands in for the page that its package asks for.
SCRIPTS = {
    "eventsource": """
const { EventSource } = require('eventsource');
new EventSource(process.argv[1]).onmessage = (event) => console.log(event.data);
""",
    "fetch-event-source": """
Object.assign(globalThis, {
  window: globalThis,
  document: { hidden: false, addEventListener() {}, removeEventListener() {} },
});
const { fetchEventSource } = require('@microsoft/fetch-event-source');
fetchEventSource(process.argv[1], { onmessage: (event) => console.log(event.data) });
""",
}
# As each of these packages shows it for services: a loop that resumes by the last id.
SERVICES = {
    "httpx-sse": """
import sys, time
import httpx
from httpx_sse import connect_sse

last_id, pause = "", 1.0
with httpx.Client(timeout=httpx.Timeout(10, read=120)) as client:
    while True:
        headers = {"Last-Event-ID": last_id} if last_id else {}
        try:
            with connect_sse(client, "GET", sys.argv[1], headers=headers) as source:
                for event in source.iter_sse():
                    last_id, pause = event.id or last_id, int(event.retry or 1000) / 1000
                    print(event.data, flush=True)
        except httpx.TransportError:
            pass
        time.sleep(pause)
""",
    "sseclient-py": """
import sys, time
import httpx
from sseclient import SSEClient

class Bytes:
    def __init__(self, response):
        self.response = response
    def __iter__(self):
        return self.response.iter_bytes()
    def close(self):
        self.response.close()

last_id, pause = "", 1.0
with httpx.Client(timeout=httpx.Timeout(10, read=120)) as client:
    while True:
        headers = {"Last-Event-ID": last_id} if last_id else {}
        try:
            with client.stream("GET", sys.argv[1], headers=headers) as response:
                for event in SSEClient(Bytes(response)).events():
                    last_id, pause = event.id or last_id, int(event.retry or 1000) / 1000
                    print(event.data, flush=True)
        except httpx.TransportError:
            pass
        time.sleep(pause)
""",
}
# By what each of them names the last event that it has.
QUERY, HEADER = "lastEventId", "last-event-id"
RESUMES_BY = {
    "Chromium": HEADER,
    "Firefox": HEADER,
    "event-source-polyfill": QUERY,
    "htmx 2": HEADER,
    "htmx 4": HEADER,
    "eventsource": HEADER,
    "fetch-event-source": HEADER,
    "httpx-sse": HEADER,
    "sseclient-py": HEADER,
}


class Program:
    """A client in a process of its own, which prints what it hears."""

    def __init__(self, command: list[str], **more: Any) -> None:
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **more)
        self.lines: list[str] = []
        threading.Thread(target=self._collect, daemon=True).start()

    def _collect(self) -> None:
        assert self.process.stdout is not None
        self.lines.extend(self.process.stdout)

    def heard(self) -> str:
        return "".join(self.lines)

    def close(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)


class Clients:
    """One client of each kind behind a gate of its own; the gates are cut together."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.gates: dict[str, Gate] = {}
        self.heard: dict[str, Callable[[], str]] = {}

    def gate(self, name: str) -> Gate:
        return self.gates.setdefault(name, Gate(self.server.port))

    def add(self, name: str, heard: Callable[[], str]) -> None:
        self.heard[name] = heard

    def numbers(self, name: str) -> list[int]:
        """What a client has heard, in its order."""
        return [int(number) for number in re.findall(r'"n":\s*(\d+)', self.heard[name]())]

    def drop(self) -> None:
        """Five times: more than a socket takes at once, a cut in the middle of it, and one more
        while nobody is connected."""
        self.published = 0
        self._wait_for_streams(1)
        for round_ in range(1, DROPS + 1):
            self._publish(BURST)
            for gate in self.gates.values():
                gate.cut()
            self._publish(1)
            self._wait_for_streams(round_ + 1)
        self._publish(1)
        last = self.published - 1
        for name in self.heard:
            wait_for(lambda name=name: last in self.numbers(name), f"{name} to hear the last", 90)

    def _publish(self, count: int) -> None:
        lines = [{"n": self.published + n, "text": "x" * 400} for n in range(count)]
        self.server.publish_lines(lines, "channel=news")
        self.published += count

    def _wait_for_streams(self, count: int) -> None:
        """Until each client has asked for a stream so many times, and all are connected."""
        for name, gate in self.gates.items():
            wait_for(lambda gate=gate: len(gate.streams()) >= count, f"{name} to come {count}", 90)
        connections = lambda: len(self.server.get("/api/connections").json)  # noqa: E731
        wait_for(lambda: connections() == len(self.heard), "all to be connected", 90)


def install(folder: Path, packages: Path) -> None:
    """The pages, and what they load, in a folder that a server shows."""
    for name, page in PAGES.items():
        (folder / name).write_text(page)
    for name, module in MODULES.items():
        shutil.copy(packages / "node_modules" / module, folder / name)


@pytest.fixture(scope="module")
def clients(
    tmp_path_factory: pytest.TempPathFactory,
    browser: Browser,
    npm_folder: Callable[..., Path],
) -> Iterator[Clients]:
    """All clients after their five drops; those that can't be had here are left out."""
    packages, folder = npm_folder(*PACKAGES), tmp_path_factory.mktemp("pages")
    install(folder, packages)
    data = tmp_path_factory.mktemp("data")
    with contextlib.ExitStack() as ends:
        server = ends.enter_context(Server(data, "--public", str(folder), access="open"))
        clients = Clients(server)
        context = browser.new_context()
        ends.callback(context.close)
        for name, path in (
            ("Chromium", "native.html"),
            ("event-source-polyfill", "polyfill.html"),
            ("htmx 2", "htmx2.html"),
            ("htmx 4", "htmx4.html"),
        ):
            page = context.new_page()
            page.goto(f"http://127.0.0.1:{clients.gate(name).port}/{path}")
            clients.add(name, lambda page=page: page.inner_text("div"))
        if firefox := shutil.which("firefox-esr") or shutil.which("firefox"):
            fox = FirefoxPage(None, npm_folder("puppeteer-core@24"), firefox)
            ends.callback(fox.close)
            fox.goto(f"http://127.0.0.1:{clients.gate('Firefox').port}/native.html")
            clients.add("Firefox", lambda: str(fox.evaluate("document.body.innerText")))
        for name, code in {**SCRIPTS, **SERVICES}.items():
            package = name.removesuffix("-py").replace("-", "_")
            if name in SERVICES and not importlib.util.find_spec(package):
                continue
            command = ["node", "-e"] if name in SCRIPTS else [sys.executable, "-c"]
            url = f"http://127.0.0.1:{clients.gate(name).port}/api/events?channel=news"
            program = Program([*command, code, url], cwd=packages)
            ends.callback(program.close)
            clients.add(name, program.heard)
        clients.drop()
        yield clients
        for gate in clients.gates.values():
            gate.close()


@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", RESUMES_BY)
def test_five_drops_lose_and_double_nothing(clients: Clients, name: str) -> None:
    if name not in clients.heard:
        pytest.skip(f"{name} can't be had here")
    assert clients.numbers(name) == list(range(clients.published))
    first, *later = clients.gates[name].streams()
    assert len(later) >= DROPS
    assert not resumed_by(first)
    assert {resumed_by(request) for request in later} == {RESUMES_BY[name]}


def resumed_by(request: Asked) -> str:
    """How a request names the last event that its client has; empty where it doesn't."""
    if HEADER in request.headers:
        return HEADER
    return QUERY if f"{QUERY}=" in request.path else ""
