"""The program as somebody at a desk has it: one instance, a window or the browser, no login.

Most tests have a screen that isn't there, so that no window opens, and for the default browser a
script that notes what it is given. The tests of the window itself need a web view (PySide6), Xvfb
and xdotool, and skip by name without.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from playwright.sync_api import Page, expect
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

import rtapp
from browsers import choose
from postgres import free_port
from support import (
    ADMIN,
    PATIENCE,
    PROGRAM,
    Answer,
    Described,
    Server,
    query_database,
    run_program,
    wait_for,
)
from warm import IS_COLD, WarmProcess

TOKEN = re.compile(r"signin=([\w-]+)")


class Desk:
    """A data folder, a browser that notes what it is to open, and the programs started there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.opened = folder / "opened"
        self.program = PROGRAM
        self.env: dict[str, str | None] = {"DISPLAY": ":987", "WAYLAND_DISPLAY": None}
        self.env["RTAPP_ADMIN_TOKEN"] = None
        self.running: list[subprocess.Popen[str] | WarmProcess] = []
        self._outputs: list[list[str]] = []
        self.opened.mkdir()
        browser = folder / "browser"
        note = f"{self.opened}/$$"
        browser.write_text(f'#!/bin/sh\nprintf %s "$1" > {note}; mv {note} {note}.url\n')
        browser.chmod(0o755)
        self.env["BROWSER"] = str(browser)
        self.lack("webview")

    def lack(self, *modules: str) -> None:
        """From now on its programs can't import these."""
        folder = self.folder / ("no-" + "-".join(modules))
        folder.mkdir()
        for name in modules:
            (folder / f"{name}.py").write_text("raise ImportError('there is none')\n")
        self.env["PYTHONPATH"] = str(folder)

    def start(self) -> subprocess.Popen[str] | WarmProcess:
        """Start the program, and gather what it prints."""
        command = [str(self.program), "desktop", "--data", str(self.data)]
        environment = Server(self.data, env=self.env).environment()
        process: subprocess.Popen[str] | WarmProcess
        if self.program == PROGRAM and not IS_COLD:
            process = WarmProcess(PROGRAM, command[1:], environment)
        else:
            process = subprocess.Popen(
                [sys.executable, *command],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        lines: list[str] = []

        def gather() -> None:
            for line in process.stdout or ():
                lines.append(line)

        threading.Thread(target=gather, daemon=True).start()
        self._outputs.append(lines)
        self.running.append(process)
        return process

    def output(self) -> str:
        """What the last start has printed."""
        return "".join(self._outputs[-1])

    def prints(self, text: str) -> None:
        """Wait until the last start prints that."""
        wait_for(lambda: text in self.output(), f"the program to print {text}")

    def begin(self) -> Server:
        """Start the program and wait until it listens; a client of it."""
        self.start()
        self.prints("rtapp listening on")
        return self.client()

    def client(self) -> Server:
        """A client of the program that runs."""
        server = Server(self.data)
        server.port = self.runtime["port"]
        return server

    @property
    def runtime(self) -> Any:
        return json.loads((self.data / "runtime.json").read_bytes())

    def address(self) -> str:
        """What the browser was opened with; waits for it."""
        note = wait_for(lambda: next(iter(self.opened.glob("*.url")), None), "the browser")
        text = str(note.read_text())
        note.unlink()
        return text

    def link(self) -> str:
        """Where the browser was led to."""
        path = "/" + self.address().split("/", 3)[3]
        answer = self.client().get(path, token=None)
        assert answer.status == 303, answer
        return answer.headers["location"]

    def owner(self, link: str = "") -> Callable[..., Answer]:
        """Requests as by the browser that was opened, or by who was given a link."""
        server = self.client()
        answer = server.post(
            "/api/auth/redeem", {"token": token_in(link or self.link())}, token=None
        )
        assert answer.status == 200, answer
        cookie = {"Cookie": answer.headers["set-cookie"].split(";")[0]}

        def ask(method: str, path: str, body: Any = None) -> Answer:
            return server.request(method, path, body, headers=cookie, token=None)

        return ask

    def windows(self) -> list[int]:
        """The processes of its windows: one may outlive the server and the screen."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                parts = path.read_bytes().split(b"\0")
                if b"--window" in parts and str(self.data / "window").encode() in parts:
                    found.append(int(path.parent.name))
        return found

    def end(self) -> None:
        """SIGKILL for what is left."""
        for process in self.running:
            process.kill()
            process.wait(PATIENCE)
        for number in self.windows():
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """A desk without a window."""
    made = Desk(tmp_path)
    yield made
    made.end()


def token_in(link: str) -> str:
    """What the program signs its owner in with."""
    found = TOKEN.search(link)
    assert found, link
    return found[1]


def copied_program(folder: Path, version: str = rtapp.__version__) -> Path:
    """A copy of the program, perhaps of another version, in a folder of its own below this one."""
    folder /= f"program-{version}"
    folder.mkdir()
    (folder / "static").symlink_to(PROGRAM.parent / "static")
    text = PROGRAM.read_text("utf-8").replace(
        f'__version__ = "{rtapp.__version__}"', f'__version__ = "{version}"'
    )
    (folder / "rtapp.py").write_text(text, "utf-8")
    return folder / "rtapp.py"


def join_call(server: Server, ask: Callable[..., Answer]) -> str:
    """A call in which somebody is; its room."""
    room = ask("POST", "/api/video/rooms", {"name": "Call"}).json["roomId"]
    body = {"session": "s" * 22, "displayName": "Ada"}
    assert server.post(f"/api/video/rooms/{room}/join", body, token=None).status == 200
    return str(room)


# ---- who may -------------------------------------------------------------------------------------


def test_the_browser_it_opens_is_signed_in_once(desk: Desk) -> None:
    server = desk.begin()
    link = desk.link()
    ask = desk.owner(link)
    answer = ask("GET", "/api/desktop")
    Described(server.get("/api/openapi.json", token=None).json).check("GET", "/api/desktop", answer)
    view = answer.json
    assert (view["inWindow"], view["why"], view["port"]) == (False, "none", server.port)
    me = ask("GET", "/api/auth/me").json
    assert me["role"] == "admin"
    assert me["username"] is None
    assert not me["setupNeeded"]
    again = server.post("/api/auth/redeem", {"token": token_in(link)}, token=None)
    assert again.code == "invalid_link"
    body = {"current": "x", "password": "saffron-lantern-42"}
    assert ask("POST", "/api/auth/password", body).code == "forbidden"
    assert ask("POST", "/api/auth/logout", {}).status == 200
    assert ask("GET", "/api/desktop").status == 401


def test_no_secret_is_in_a_list_of_processes(desk: Desk) -> None:
    """Neither of the browser's process nor of the window's, nor in the log file."""
    spy = desk.folder / "spied"
    browser = Path(str(desk.env["BROWSER"]))
    browser.write_text(
        browser.read_text() + f"cat /proc/[0-9]*/cmdline > {spy}.part; mv {spy}.part {spy}\n"
    )
    desk.begin()
    token = token_in(desk.link())
    wait_for(spy.exists, "the list of processes")
    assert token.encode() not in spy.read_bytes()
    assert token not in (desk.data / "rtapp.log").read_text() + desk.output()
    assert stat.S_IMODE((desk.data / "runtime.json").stat().st_mode) == 0o600


def test_what_a_browser_is_opened_with_is_of_use_to_this_user_once(desk: Desk) -> None:
    """Any user of the computer can read what is on a command line."""
    server = desk.begin()
    path = "/" + desk.address().split("/", 3)[3]
    if os.geteuid() == 0:
        os.seteuid(65_534)
        try:
            assert server.get(path, token=None).status == 404
        finally:
            os.seteuid(0)
    proxied = {"X-Forwarded-For": "192.0.2.1"}
    assert server.get(path, token=None, headers=proxied).status == 404
    assert server.get(path + "x", token=None).status == 404
    assert server.request("HEAD", path, token=None).status == 303
    answer = server.get(path, token=None)
    assert (answer.status, answer.headers["cache-control"]) == (303, "no-store")
    assert desk.owner(answer.headers["location"])("GET", "/api/desktop").status == 200
    assert server.get(path, token=None).status == 404


def test_this_user_is_known_by_ipv4_at_a_socket_of_ipv6() -> None:
    """Of `--host ::`: the browser's end is in the table of IPv4."""
    with contextlib.ExitStack() as open_until:
        own = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
        open_until.enter_context(own)
        open_until.enter_context(socket.create_connection(("127.0.0.1", own.getsockname()[1])))
        transport = open_until.enter_context(own.accept()[0])
        connection = SimpleNamespace(transport=transport)
        call = SimpleNamespace(address="127.0.0.1", headers={}, connection=connection)
        assert rtapp.is_own_program(cast(rtapp.Call, call))


def test_a_browser_that_reads_no_hidden_files_arrives_signed_in(desk: Desk, page: Page) -> None:
    """As those of Ubuntu's snaps: it is opened with a link of http."""
    server = desk.begin()
    address = desk.address()
    assert address.startswith(f"http://127.0.0.1:{server.port}/open/")
    page.goto(address)
    expect(page.locator("#quit")).to_be_visible()
    assert page.url == f"http://127.0.0.1:{server.port}/desktop"


def test_only_the_owner_ends_it(desk: Desk) -> None:
    desk.env["RTAPP_ADMIN_TOKEN"] = "test-admin-token-0123456789"
    server = desk.begin()
    for path, body in (("quit", {"force": True}), ("open", {"path": "/"})):
        assert server.post(f"/api/desktop/{path}", body, token=None).status == 401
        assert server.post(f"/api/desktop/{path}", body).code == "forbidden"
    wrong = {"key": "wrong"}
    assert server.post("/api/desktop/show", wrong, token=None).code == "forbidden"
    assert server.get("/desktop", token=None).status == 200


def test_only_own_pages_are_opened(desk: Desk) -> None:
    desk.begin()
    ask = desk.owner()
    for path in ("//elsewhere.example", "https://elsewhere.example", "", "/a\\b", "/a\n"):
        assert ask("POST", "/api/desktop/open", {"path": path}).code == "invalid"


def test_the_owners_cookie_is_worth_nothing_to_a_plain_server(desk: Desk) -> None:
    server = desk.begin()
    ask = desk.owner()
    assert ask("GET", "/api/users").status == 200
    assert ask("POST", "/api/desktop/quit", {}).status == 200
    assert desk.running[-1].wait(PATIENCE) == 0
    plain = Server(desk.data)
    plain.port = server.port
    with plain:
        assert ask("GET", "/api/users").status == 401
        assert plain.get("/desktop", token=None).status == 404
        assert plain.get("/api/desktop").status == 404


def test_a_page_opened_from_it_has_its_identity(desk: Desk) -> None:
    """So whoever starts a call is its host in the browser too."""
    desk.begin()
    ask = desk.owner()
    room = ask("POST", "/api/video/rooms", {"name": "Call"}).json["roomId"]
    assert ask("POST", "/api/desktop/open", {"path": f"/room/{room}"}).status == 200
    link = desk.link()
    assert link.startswith(f"http://127.0.0.1:{desk.runtime['port']}/desktop#signin=")
    assert link.endswith(f"&to=%2Froom%2F{room}")
    joined = desk.owner(link)("POST", f"/api/video/rooms/{room}/join", {"session": "b" * 22})
    assert joined.json["participant"]["isHost"]


def test_a_forgotten_password_can_be_changed(desk: Desk) -> None:
    desk.begin()
    ask = desk.owner()
    user = {"username": "ada", "password": "saffron-lantern-42", "role": "admin"}
    number = ask("POST", "/api/users", user).json["id"]
    changed = {"password": "walnut-harbour-17"}
    assert ask("PATCH", f"/api/users/{number}", changed).status == 200
    login = {"username": "ada", **changed}
    assert desk.client().post("/api/auth/login", login, token=None).status == 200


# ---- one instance --------------------------------------------------------------------------------


def test_a_second_start_shows_the_first_and_ends(desk: Desk) -> None:
    desk.begin()
    first = desk.link()
    assert desk.start().wait(PATIENCE) == 0
    assert desk.link() != first
    desk.prints("running already")
    assert desk.running[0].poll() is None
    assert desk.runtime["pid"] == desk.running[0].pid
    assert desk.runtime["version"] == rtapp.__version__


def test_two_starts_at_once_are_one_program(desk: Desk) -> None:
    first, second = desk.start(), desk.start()
    wait_for(lambda: first.poll() is not None or second.poll() is not None, "one of them to end")
    ended, lives = (first, second) if first.poll() is not None else (second, first)
    assert ended.returncode == 0
    assert desk.runtime["pid"] == lives.pid


def test_a_server_that_runs_is_named(desk: Desk) -> None:
    with Server(desk.data) as server:
        assert desk.start().wait(PATIENCE) == 0
        desk.prints(f"http://127.0.0.1:{server.port}")


def test_the_port_stays_and_a_change_is_told(desk: Desk, page: Page) -> None:
    port = free_port()
    desk.env["RTAPP_PORT"] = str(port)
    desk.begin()
    desk.env["RTAPP_PORT"] = None
    for moved in (False, True):
        desk.running[-1].terminate()
        assert desk.running[-1].wait(PATIENCE) == 0
        blocker = rtapp.listen("127.0.0.1", port) if moved else None
        for opened in desk.opened.glob("*"):
            opened.unlink()
        desk.begin()
        ask = desk.owner()
        view = ask("GET", "/api/desktop").json
        assert view["movedFrom"] == (port if moved else None)
        assert (view["port"] == port) != moved
        if blocker:
            blocker.close()
    assert ask("POST", "/api/desktop/open", {"path": "/desktop"}).status == 200
    page.goto(desk.link())
    words = f"uses port {port}, so rtapp is now on port {view['port']}"
    expect(page.locator("#notices")).to_contain_text(words)


def test_a_newer_second_start_shows_the_first_too(desk: Desk) -> None:
    desk.begin()
    first = desk.link()
    desk.program = copied_program(desk.folder, "9.10.0")
    assert desk.start().wait(PATIENCE) == 0
    assert desk.link() != first
    desk.prints(f"rtapp {rtapp.__version__} is running already")
    assert desk.running[0].poll() is None


def test_a_start_while_the_first_ends_takes_over(desk: Desk) -> None:
    """On the same port, though that was taken when it began."""
    server = desk.begin()
    desk.running[0].send_signal(signal.SIGSTOP)
    desk.start()
    time.sleep(0.5)  # it may have looked once or twice
    desk.running[0].kill()
    desk.prints("rtapp listening on")
    assert desk.runtime["pid"] == desk.running[1].pid
    assert desk.runtime["port"] == server.port


# ---- the end -------------------------------------------------------------------------------------


def test_quit_asks_while_a_call_is_running(desk: Desk) -> None:
    server = desk.begin()
    ask = desk.owner()
    room = join_call(server, ask)
    assert ask("GET", "/api/desktop").json["people"] == 1
    assert ask("POST", "/api/desktop/quit", {}).code == "call_running"
    assert ask("POST", "/api/desktop/quit", {"force": True}).status == 200
    assert desk.running[-1].wait(PATIENCE) == 0
    desk.begin()
    assert desk.owner()("GET", f"/api/video/rooms/{room}").status == 200


def test_a_damaged_database_is_told_on_a_page(desk: Desk) -> None:
    desk.data.mkdir()
    (desk.data / "rtapp.db").write_bytes(b"not a database " * 1000)
    desk.env["LANG"] = "tr_TR.UTF-8"
    desk.env["LC_ALL"] = None
    failed = desk.start()
    with urllib.request.urlopen(desk.address(), timeout=PATIENCE) as answer:
        text = answer.read().decode()
    assert "rtapp başlatılamıyor" in text
    assert f"{desk.data / 'rtapp.db'} is damaged" in text
    assert "<link" not in text  # it is whole in itself
    assert failed.wait(PATIENCE) == 2
    desk.prints("is damaged")


# A web view without a screen: it shows its page, and is closed by who looks at it.
CLOSED_WEB_VIEW = """
import threading, types

class Event(list):
    def wait(self):
        pass

    def __iadd__(self, heard):
        self.append(heard)
        return self

window = types.SimpleNamespace(events=types.SimpleNamespace())
for name in ("initialized", "loaded", "closing", "shown"):
    setattr(window.events, name, Event())
settings = {}

def create_window(title, **given):
    return window

def start(func, **given):
    if func:
        threading.Thread(target=func).start()  # as pywebview does: it outlives the loop
    for event in (window.events.loaded, window.events.closing):
        for heard in event:
            heard()
"""


def test_a_failures_window_that_is_closed_ends_the_program(desk: Desk) -> None:
    package = desk.folder / "view" / "webview"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(CLOSED_WEB_VIEW)
    (package / "menu.py").write_text("Menu = MenuAction = print\n")
    desk.env["PYTHONPATH"] = str(package.parent)
    desk.data.mkdir()
    (desk.data / "rtapp.db").write_bytes(b"not a database " * 1000)
    assert desk.start().wait(PATIENCE) == 2
    desk.prints("is damaged")
    assert list(desk.opened.iterdir()) == []


# ---- the machine ---------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="systemd's way")
def test_the_machine_stays_awake_while_somebody_is_in_a_call(desk: Desk) -> None:
    tools, noted = desk.folder / "tools", desk.folder / "awake"
    tools.mkdir()
    inhibit = tools / "systemd-inhibit"
    inhibit.write_text(f'#!/bin/sh\necho "$@" > {noted}\ncat\nrm {noted}\n')
    inhibit.chmod(0o755)
    desk.env["PATH"] = f"{tools}:{os.environ['PATH']}"
    server = desk.begin()
    ask = desk.owner()
    assert not noted.exists()
    room = join_call(server, ask)
    wait_for(noted.exists, "the machine to be kept awake")
    assert "--what=idle:sleep" in wait_for(noted.read_text, "what is inhibited")
    assert ask("GET", "/api/desktop").json["awake"]
    assert ask("DELETE", f"/api/video/rooms/{room}").status == 200
    wait_for(lambda: not noted.exists(), "the machine to be let asleep")


def test_the_log_file_is_bounded(tmp_path: Path) -> None:
    log = rtapp.Printed(rtapp.LogFile(tmp_path / "rtapp.log", maxBytes=1_000, backupCount=3), None)
    for number in range(200):
        print("line", number, file=log)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["rtapp.log", "rtapp.log.1", "rtapp.log.2", "rtapp.log.3"]
    assert all(path.stat().st_size < 1_100 for path in tmp_path.iterdir())
    lines = (tmp_path / "rtapp.log.1").read_text().splitlines()
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z line \d+", line) for line in lines)


def test_a_log_file_that_takes_nothing_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A disk is full; a file to be put aside is held, on Windows by whoever reads it."""
    full, path = Path("/dev/full"), tmp_path / "rtapp.log"
    if full.exists():
        print("lost", file=rtapp.Printed(rtapp.LogFile(full), None))

    def refuse(source: str, target: str) -> None:
        raise PermissionError(target)

    monkeypatch.setattr(os, "rename", refuse)
    log = rtapp.Printed(rtapp.LogFile(path, maxBytes=1_000, backupCount=3), None)
    for _ in range(3):
        print("x" * 1_000, file=log)
    assert path.stat().st_size > 3_000
    assert capfd.readouterr() == ("", "")


def test_a_portable_program_keeps_everything_beside_it(desk: Desk) -> None:
    desk.program = copied_program(desk.folder)
    folder = desk.program.parent
    (folder / "portable").touch()
    desk.env["HOME"] = str(desk.folder / "home")
    with Server(folder, launcher=[sys.executable, str(desk.program)]) as server:
        server.stop()
    environment = Server(folder, env=desk.env).environment()
    command = [sys.executable, str(desk.program), "desktop", "--port", "0"]
    with subprocess.Popen(command, env=environment) as process:
        data = folder / "rtapp-data"
        wait_for((data / "runtime.json").exists, "the portable folder")
        process.terminate()
        assert process.wait(PATIENCE) == 0
    assert {"rtapp.db", "rtapp.log"} <= {path.name for path in data.iterdir()}
    assert not (desk.folder / "home").exists()


def test_without_a_screen_it_prints_the_link(desk: Desk) -> None:
    desk.env["DISPLAY"] = None
    desk.begin()
    token = wait_for(lambda: TOKEN.search(desk.output()), "the link")
    assert token[1] not in (desk.data / "rtapp.log").read_text()


def test_without_a_web_view_it_says_so_in_a_line(desk: Desk) -> None:
    desk.lack("gi", "qtpy", "PyQt5")
    desk.begin()
    ask = desk.owner()
    desk.prints("No window")
    start, first, *rest = desk.output().splitlines()
    assert start.startswith(f"rtapp {rtapp.__version__}, data in")
    assert first.startswith("rtapp listening on")
    assert len(rest) == 1 and "QT or GTK" in rest[0], rest
    assert ask("GET", "/api/desktop").json["why"] == "none"


def test_help_names_it() -> None:
    assert re.search(r"desktop +Serve with a window", run_program("--help").stdout)


# ---- its page in a browser -----------------------------------------------------------------------


def test_the_page_says_why_and_quits(desk: Desk, page: Page) -> None:
    server = desk.begin()
    page.goto(desk.link())
    expect(page.locator("#notices")).to_contain_text("There is no web view on this computer")
    assert "signin" not in page.url
    expect(page.locator("#open-browser")).to_be_hidden()
    choose(page, "language", "tr")
    expect(page.locator("h1")).to_have_text("rtapp bu bilgisayarda çalışıyor")
    expect(page.locator("[data-reveal=share-password]")).to_have_text("Göster")
    choose(page, "language", "en")
    expect(page.locator("[data-reveal=share-password]")).to_have_text("Show")
    body = {"session": "s" * 22, "displayName": "Ada"}
    room = page.evaluate(
        """fetch('/api/video/rooms', { method: 'POST', body: '{"name": "Team"}',
           headers: { 'Content-Type': 'application/json' } }).then((answer) => answer.json())"""
    )
    assert server.post(f"/api/video/rooms/{room['roomId']}/join", body, token=None).status == 200
    page.click("#quit")
    dialog = page.locator("#ask-dialog")
    expect(dialog).to_contain_text("1 person is in a call")
    page.click("#ask-no")
    expect(dialog).to_be_hidden()
    page.click("#quit")
    page.click("#ask-yes")
    expect(page.locator("#notices")).to_contain_text("rtapp has quit")
    expect(page.locator("#workspace")).to_be_hidden()
    assert desk.running[-1].wait(PATIENCE) == 0


def test_a_call_opens_in_the_browser_with_its_host(desk: Desk, page: Page) -> None:
    desk.begin()
    page.goto(desk.link())
    page.click("#start-call")
    expect(page.locator("#call-result")).to_have_text("Opened in your browser")
    link = desk.link()
    page.goto("about:blank")
    page.goto(link)
    page.wait_for_url("**/room/*")
    assert "signin" not in page.url
    page.fill("#name", "Ada")
    page.click("#join")
    expect(page.locator("#invite-dialog")).to_be_visible()


def test_sharing_asks_for_an_account_once(desk: Desk, page: Page) -> None:
    server = desk.begin()
    page.goto(desk.link())
    expect(page.locator("#share")).to_be_hidden()
    expect(page.locator("#firewall")).to_be_hidden()
    page.click("#share-start")
    expect(page.locator("#firewall")).to_contain_text("Allow it for private networks")
    page.fill("#share-username", "ada lovelace")
    page.fill("#share-password", "short")
    page.press("#share-password", "Enter")
    expect(page.locator("#share-username-error")).to_contain_text("1 to 64 characters")
    expect(page.locator("#share-password-error")).to_contain_text("at least 8 characters")
    page.fill("#share-username", "ada")
    page.fill("#share-password", "saffron-lantern-42")
    page.press("#share-password", "Enter")
    expect(page.locator("#share [role=switch]")).to_have_attribute("aria-checked", "true")
    expect(page.locator("#share-first")).to_be_hidden()
    login = {"username": "ada", "password": "saffron-lantern-42"}
    assert server.post("/api/auth/login", login, token=None).json["role"] == "admin"
    page.click("#share [role=switch]")
    expect(page.locator("#share [role=switch]")).to_have_attribute("aria-checked", "false")
    expect(page.locator("#firewall")).to_be_visible()
    page.reload()
    expect(page.locator("#share [role=switch]")).to_be_visible()
    expect(page.locator("#share-first")).to_be_hidden()


def test_nothing_is_shared_without_an_account(desk: Desk) -> None:
    desk.begin()
    ask = desk.owner()
    assert ask("POST", "/api/network", {"share": True}).json["state"] == "waiting"


def test_the_page_follows_the_program(desk: Desk, page: Page) -> None:
    """It says when the program is gone, and goes on when it is back."""
    page.clock.install()
    desk.begin()
    page.goto(desk.link())
    expect(page.locator("#quit")).to_be_visible()
    desk.running[-1].kill()
    desk.running[-1].wait(PATIENCE)
    page.clock.fast_forward(3_000)
    trouble = page.locator("#notices .banner", has_text="rtapp does not answer")
    trouble.evaluate("(banner) => { banner.dataset.seen = 'yes'; }")
    for _ in range(2):  # it looks again and again
        with page.expect_event("requestfailed"):
            page.clock.fast_forward(3_000)
    expect(trouble).to_have_attribute("data-seen", "yes")  # but isn't said aloud each time
    desk.begin()
    page.clock.fast_forward(3_000)
    expect(page.locator("#notices")).not_to_contain_text("rtapp does not answer")


def test_a_stranger_is_told_where_the_page_comes_from(desk: Desk, page: Page) -> None:
    server = desk.begin()
    page.goto(f"http://127.0.0.1:{server.port}/desktop")
    expect(page.locator("#notices")).to_contain_text("This page opens from the program")
    expect(page.locator("#quit")).to_be_hidden()


def test_the_page_sets_a_new_password(desk: Desk, page: Page) -> None:
    server = desk.begin()
    ask = desk.owner()
    user = {"username": "ada", "password": "saffron-lantern-42", "role": "admin"}
    assert ask("POST", "/api/users", user).status == 201
    assert ask("POST", "/api/desktop/open", {"path": "/desktop"}).status == 200
    page.goto(desk.link())
    page.click("#password-part summary")
    page.fill("#password-new", "short")
    page.press("#password-new", "Enter")
    expect(page.locator("#password-new-error")).to_contain_text("at least 8 characters")
    page.fill("#password-new", "walnut-harbour-17")
    page.press("#password-new", "Enter")
    expect(page.locator("#notices")).to_contain_text("ada has a new password")
    login = {"username": "ada", "password": "walnut-harbour-17"}
    assert server.post("/api/auth/login", login, token=None).status == 200


# ---- the window ----------------------------------------------------------------------------------


class Screen:
    """An Xvfb, and what is on it."""

    def __init__(self, folder: Path) -> None:
        read, write = os.pipe()
        self.folder = folder
        # Else it begins anew, and refuses windows meanwhile, whenever nobody is left on it: as
        # between two looks of xdotool.
        screen = ["-noreset", "-screen", "0", "1200x860x24", "-nolisten", "tcp"]
        self._process = subprocess.Popen(
            ["Xvfb", "-displayfd", str(write), *screen],
            pass_fds=[write],
            stderr=subprocess.DEVNULL,
        )
        os.close(write)
        with open(read) as file:
            self.display = f":{file.readline().strip()}"

    def run(self, *command: str) -> str:
        """What a command prints that works on this screen."""
        environment = {**os.environ, "DISPLAY": self.display}
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        return done.stdout

    def windows(self, name: str = "^rtapp$") -> list[str]:
        """The windows of the program, or all that have another name, by number."""
        return self.run("xdotool", "search", "--onlyvisible", "--name", name).split()

    def click(self, x: float, y: float) -> None:
        self.run("xdotool", "mousemove", f"{x:.0f}", f"{y:.0f}", "click", "1")

    def press_close(self) -> None:
        """What a window manager does when its button is pressed (ICCCM, 4.2.8.1)."""
        (window,) = self.windows()[:1]
        tool = [sys.executable, "-c", ASK_TO_CLOSE, window]
        subprocess.run(tool, env={**os.environ, "DISPLAY": self.display}, check=True)

    def shot(self, name: str) -> None:
        """A picture to look at, in the folder RTAPP_TEST_SHOTS."""
        if folder := os.environ.get("RTAPP_TEST_SHOTS"):
            time.sleep(1)
            self.run("import", "-window", "root", f"{folder}/window-{name}.png")

    def end(self) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE)


# Sends the message WM_DELETE_WINDOW to the window whose number it is given.
ASK_TO_CLOSE = """
import ctypes, sys

class Message(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int), ("serial", ctypes.c_ulong), ("sent", ctypes.c_int),
        ("display", ctypes.c_void_p), ("window", ctypes.c_ulong), ("kind", ctypes.c_ulong),
        ("format", ctypes.c_int), ("data", ctypes.c_long * 5), ("rest", ctypes.c_char * 200),
    ]

x = ctypes.CDLL("libX11.so.6")
x.XOpenDisplay.restype = ctypes.c_void_p
x.XInternAtom.restype = ctypes.c_ulong
x.XInternAtom.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int]
display, window = x.XOpenDisplay(None), int(sys.argv[1])
protocols, delete = (x.XInternAtom(display, n, 0) for n in (b"WM_PROTOCOLS", b"WM_DELETE_WINDOW"))
data = (ctypes.c_long * 5)(delete)
message = Message(33, 0, 1, display, window, protocols, 32, data)  # 33: ClientMessage
x.XSendEvent.argtypes = [ctypes.c_void_p, ctypes.c_ulong, ctypes.c_int, ctypes.c_long]
x.XSendEvent.argtypes += [ctypes.c_void_p]
x.XSendEvent(display, window, 0, 0, ctypes.byref(message))
x.XCloseDisplay.argtypes = [ctypes.c_void_p]
x.XCloseDisplay(display)
"""


MIDDLE = """(selector) => {
  const element = document.querySelector(selector);
  element.scrollIntoView({ block: 'center', behavior: 'instant' });
  const { x, y, width, height } = element.getBoundingClientRect();
  return [x + width / 2, y + height / 2];
}"""


class Inside:
    """What happens in the window's page, by the web view's debugging port."""

    def __init__(self, desk: Desk, screen: Screen) -> None:
        self._screen = screen
        self._port = free_port()
        desk.env["QTWEBENGINE_REMOTE_DEBUGGING"] = f"127.0.0.1:{self._port}"

    def _address(self) -> str:
        with contextlib.suppress(OSError, ValueError):
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/json", timeout=5) as answer:
                pages = json.load(answer)
            return next((p["webSocketDebuggerUrl"] for p in pages if p["type"] == "page"), "")
        return ""

    def evaluate(self, source: str) -> Any:
        """What an expression, or its promise, comes to; None where the page is on its way."""
        address = wait_for(self._address, "the window's page")
        given = {"expression": source, "awaitPromise": True, "returnByValue": True}
        with (
            contextlib.suppress(WebSocketException, OSError),
            connect(address, max_size=None) as ws,
        ):
            ws.send(json.dumps({"id": 1, "method": "Runtime.evaluate", "params": given}))
            while (answer := json.loads(ws.recv(PATIENCE))).get("id") != 1:
                pass
            return answer.get("result", {}).get("result", {}).get("value")
        return None

    def until(self, source: str) -> None:
        """Wait until an expression is true."""
        wait_for(lambda: self.evaluate(source), source)

    def goto(self, path: str) -> None:
        """Another page of the program's."""
        self.evaluate(f"void (location.href = {json.dumps(path)})")
        here = f"(location.pathname + location.hash).startsWith({json.dumps(path)})"
        self.until(f"{here} && document.readyState === 'complete'")

    def click(self, selector: str) -> None:
        """By the mouse, where the page says that the element is."""
        self.until(f"!!document.querySelector({json.dumps(selector)})?.checkVisibility()")
        x, y = self.evaluate(f"({MIDDLE})({json.dumps(selector)})")
        left, top, bar = self._place()
        self._screen.click(left + x, top + bar + y)

    def _place(self) -> list[float]:
        """Where the window is, and how high the menu bar above its page is."""
        return list(self.evaluate("[screenX, screenY, outerHeight - innerHeight]"))

    def choose_last(self) -> None:
        """Open the window's menu by the mouse, and take its last line by the keyboard."""
        left, top, bar = self._place()
        before = self._screen.windows(".*")
        self._screen.click(left + bar, top + bar / 2)
        wait_for(lambda: set(self._screen.windows(".*")) - set(before), "the menu")
        self._screen.run("xdotool", "key", "Up", "Return")


@pytest.fixture
def screen(desk: Desk) -> Iterator[Screen]:
    """A screen for the desk's window."""
    for tool in ("Xvfb", "xdotool"):
        if not shutil.which(tool):
            pytest.skip(f"{tool} is not installed")
    pytest.importorskip("PySide6.QtWebEngineCore", reason="no web view (PySide6) is installed")
    made = Screen(desk.folder)
    desk.env |= {
        "DISPLAY": made.display,
        "PYTHONPATH": None,
        "PYWEBVIEW_GUI": "qt",
        "QT_API": "pyside6",
        "QTWEBENGINE_DISABLE_SANDBOX": "1",  # for root
    }
    yield made
    made.end()


@pytest.fixture
def inside(desk: Desk, screen: Screen) -> Inside:
    """The page of the desk's window."""
    return Inside(desk, screen)


def window_process(desk: Desk) -> int:
    """The process of the window; waits for it."""

    return wait_for(desk.windows, "the window's process")[0]


def opens(screen: Screen) -> None:
    wait_for(screen.windows, "the window", 3 * PATIENCE)  # Qt's web view is large


def loaded(desk: Desk) -> None:
    """Wait until the window has signed in: its page asks with the owner's session."""
    where = "SELECT count(*) FROM access_tokens WHERE kind = 'session' AND name = 'this computer'"
    wait_for(lambda: query_database(desk.data, where)[0][0], "the window to sign in")


def test_the_window_opens_signed_in_and_comes_forward(desk: Desk, screen: Screen) -> None:
    desk.begin()
    opens(screen)
    loaded(desk)
    number = window_process(desk)
    assert b"signin" not in Path(f"/proc/{number}/cmdline").read_bytes()
    (only,) = screen.windows()[:1]
    screen.run("xdotool", "windowunmap", only)
    wait_for(lambda: not screen.windows(), "the window to be away")
    assert desk.start().wait(PATIENCE) == 0
    opens(screen)
    assert window_process(desk) == number
    assert list(desk.opened.iterdir()) == []


def test_a_killed_window_leaves_the_server_and_opens_the_browser(
    desk: Desk, screen: Screen, inside: Inside
) -> None:
    server = desk.begin()
    opens(screen)
    loaded(desk)
    inside.until("!!window.pywebview?.api")
    time.sleep(0.5)  # "loaded" is said a moment later, and heard by nobody else
    os.kill(window_process(desk), signal.SIGKILL)
    ask = desk.owner()
    assert ask("GET", "/api/desktop").json["why"] == "died"
    assert server.get("/healthz", token=None).status == 200
    assert desk.start().wait(PATIENCE) == 0  # tries a window again
    opens(screen)


def test_a_killed_server_leaves_a_page_that_starts_it_again(
    desk: Desk, screen: Screen, inside: Inside
) -> None:
    desk.begin()
    opens(screen)
    loaded(desk)
    first, number = desk.runtime, window_process(desk)
    desk.running[0].kill()
    desk.running[0].wait(PATIENCE)
    try:
        inside.until("!!window.pywebview?.api?.start_again")
        inside.click("#again")
        wait_for(lambda: desk.runtime["pid"] != first["pid"], "the program to be started again")
        wait_for(lambda: not Path(f"/proc/{number}").exists(), "the old window to be gone")
        opens(screen)
        assert desk.runtime["port"] == first["port"]
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(desk.runtime["pid"], signal.SIGTERM)


def test_quitting_closes_the_window(desk: Desk, screen: Screen) -> None:
    desk.begin()
    opens(screen)
    number = window_process(desk)
    desk.running[0].terminate()
    assert desk.running[0].wait(PATIENCE) == 0
    wait_for(lambda: not Path(f"/proc/{number}").exists(), "the window to be gone")
    assert list(desk.opened.iterdir()) == []


@pytest.mark.parametrize("way", ["its menu", "its own button"])
def test_quitting_by_the_window_asks_during_a_call(
    desk: Desk, screen: Screen, inside: Inside, way: str
) -> None:
    desk.env["RTAPP_ADMIN_TOKEN"] = ADMIN
    server = desk.begin()
    opens(screen)
    loaded(desk)
    quit_program = inside.choose_last if way == "its menu" else screen.press_close
    room = join_call(server, server.request)
    quit_program()
    inside.until("document.querySelector('#ask-dialog')?.open")
    screen.shot("quit")
    assert desk.running[0].poll() is None and screen.windows()
    inside.click("#ask-no")
    inside.until("!document.querySelector('#ask-dialog')")
    assert server.request("DELETE", f"/api/video/rooms/{room}").status == 200
    quit_program()
    assert desk.running[0].wait(PATIENCE) == 0
    wait_for(lambda: not screen.windows(), "the window to be gone")
    assert list(desk.opened.iterdir()) == []


def test_a_room_in_the_window_opens_in_the_browser(
    desk: Desk, screen: Screen, inside: Inside
) -> None:
    """Wherever it is led to: the start page of calls, and a link on another page."""
    desk.begin()
    opens(screen)
    inside.click("#start-call")
    assert "&to=%2Froom%2F" in desk.link()
    inside.goto("/")
    inside.evaluate("void (document.querySelector('#room-name').value = 'Tea')")
    inside.click("#make-room button")
    link = desk.link()
    inside.until("location.pathname === '/desktop'")
    room = link.rpartition("%2Froom%2F")[2].partition("%23")[0]
    assert desk.owner(link)("GET", f"/api/video/rooms/{room}").json["name"] == "Tea"


def test_a_download_in_the_window_is_saved(desk: Desk, screen: Screen, inside: Inside) -> None:
    downloads = desk.folder / "downloads"
    downloads.mkdir()
    desk.env["XDG_DOWNLOAD_DIR"] = str(downloads)
    desk.begin()
    opens(screen)
    loaded(desk)
    before = screen.windows(".*")
    inside.evaluate(
        "void Object.assign(document.createElement('a'), { href: '/api/logs/export' }).click()"
    )
    wait_for(lambda: set(screen.windows(".*")) - set(before), "the question where to")
    screen.shot("download")
    screen.run("xdotool", "key", "Return")
    saved = wait_for(lambda: next(iter(downloads.glob("*.csv")), None), "the file")
    wait_for(lambda: saved.read_text().startswith("id,timestamp"), "what is in it")


DARK = """
const choice = document.querySelector('[data-theme-switch]');
choice.value = 'dark';
void choice.dispatchEvent(new Event('change', { bubbles: true }));
"""


def test_a_broadcast_appears_in_the_window(desk: Desk, screen: Screen, inside: Inside) -> None:
    desk.env |= {"RTAPP_ADMIN_TOKEN": ADMIN, "LANG": "tr_TR.UTF-8", "LC_ALL": None}
    server = desk.begin()
    opens(screen)
    loaded(desk)
    inside.until("document.querySelector('h1').innerText.length > 5")
    screen.shot("start")
    inside.goto("/#console")
    inside.until("document.querySelector('#state').dataset.state === 'open'")
    server.publish({"text": "Herkese merhaba"})
    inside.until("document.querySelector('#messages').innerText.includes('Herkese merhaba')")
    assert inside.evaluate("document.querySelector('#sign-out').hidden")  # no other way in
    screen.shot("message")
    for path, name in (("/desktop", "start"), ("/#console", "message"), ("/admin", "admin")):
        inside.goto(path)
        inside.evaluate(DARK)
        screen.shot(f"{name}-dark")
        (window,) = screen.windows()[:1]
        screen.run("xdotool", "windowsize", "--sync", window, "400", "760")
        screen.shot(f"{name}-narrow")
        assert inside.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
        screen.run("xdotool", "windowsize", "--sync", window, "1160", "760")


def test_a_damaged_database_is_told_in_a_window(desk: Desk, screen: Screen) -> None:
    desk.data.mkdir()
    (desk.data / "rtapp.db").write_bytes(b"not a database " * 1000)
    failed = desk.start()
    opens(screen)
    assert failed.poll() is None
    desk.prints("is damaged")
