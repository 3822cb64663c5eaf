"""Moving from Socket.IO: an old application's page in a real browser, and the guide's table line by
line, with Node's own server beside ours."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from browsers import new_context, watch
from support import ADMIN, PATIENCE, ROOT, Server, wait_for

# ---- a page of an old application ----------------------------------------------------------------

PAGE = """<!doctype html>
<meta charset="utf-8"><title>Chat</title>
<p id="state">connecting</p><p id="error"></p>
<ul id="messages"></ul>
<form id="form"><input id="input" autocomplete="off"><button>Send</button></form>
<script src="SERVER/socket.io/SCRIPT"></script>
<script>
  const query = new URLSearchParams(location.search);
  const socket = io(OPTIONS);
  const show = (id, text) => { document.getElementById(id).textContent = text; };
  socket.on("connect", () => show("state", socket.recovered ? "recovered" : "connected"));
  socket.on("disconnect", () => show("state", "disconnected"));
  socket.on("connect_error", (error) => show("error", error.message));
  socket.on("chat message", (message) => {
    const item = document.createElement("li");
    item.textContent = message;
    document.getElementById("messages").appendChild(item);
  });
  document.getElementById("form").addEventListener("submit", (event) => {
    event.preventDefault();
    socket.emit("chat message", document.getElementById("input").value);
  });
</script>
"""
OPTIONS = """{
    transports: query.get("transports").split(","), auth: { token: query.get("token") },
    reconnectionDelay: 100, reconnectionDelayMax: 400, randomizationFactor: 0 }"""
HANDLERS = """
from rtapp import emit, on

@on("chat message")
def chat(client, message):
    emit("chat message", message)
"""
TRANSPORTS = ["websocket", "polling", "polling,websocket"]


@pytest.fixture
def old_application(make_server: Callable[..., Server], tmp_path: Path) -> Callable[..., Server]:
    """Starts a server with the page and its handler; `to` is whose Socket.IO the page uses."""

    def make(to: str = "", script: str = "socket.io.js", **settings: Any) -> Server:
        pages = tmp_path / f"pages{len(to)}"
        pages.mkdir()
        options = f'"{to}", {OPTIONS}' if to else OPTIONS
        page = PAGE.replace("SERVER", to).replace("OPTIONS", options).replace("SCRIPT", script)
        (pages / "index.html").write_text(page)
        handlers = tmp_path / "chat.py"
        handlers.write_text(HANDLERS)
        return make_server("--public", str(pages), "--app", str(handlers), **settings)

    return make


def visit(
    context: BrowserContext, server: Server, transports: str = "websocket", token: str = ADMIN
) -> Page:
    page = context.new_page()
    page.goto(f"http://localhost:{server.port}/?transports={transports}&token={token}")
    return page


def messages(page: Page, *expected: str) -> None:
    expect(page.locator("#messages li")).to_have_text(list(expected))


def say(page: Page, text: str) -> None:
    page.fill("#input", text)
    page.click("#form button")


def logged(server: Server, text: str) -> Any:
    """An entry of the event log that has a text in it."""
    return wait_for(
        lambda: [entry for entry in server.get("/api/logs").json if text in json.dumps(entry)],
        f"the log to say {text}",
    )


@pytest.mark.parametrize(
    ("transports", "script"),
    [
        *((each, "socket.io.js") for each in TRANSPORTS),
        *((each, "socket.io.msgpack.min.js") for each in TRANSPORTS[1:]),
    ],
)
def test_an_old_page_chats_and_recovers(
    old_application: Callable[..., Server], context: BrowserContext, transports: str, script: str
) -> None:
    server = old_application(script=script, socketio_recovery_seconds=60)
    one, two = visit(context, server, transports), visit(context, server, transports)
    for page in (one, two):
        expect(page.locator("#state")).to_have_text("connected")
    say(one, "hello")
    say(two, "ğ <b>")
    for page in (one, two):
        expect(page.locator("#messages li")).to_have_count(2)
    server.kill()
    for page in (one, two):
        expect(page.locator("#state")).to_have_text("disconnected")
    server.start()
    server.publish("while you were away", "event=chat%20message")
    for page in (one, two):
        expect(page.locator("#state")).to_have_text("recovered")
        expect(page.locator("#messages li")).to_have_count(3)
    say(one, "again")
    for page in (one, two):
        expect(page.locator("#messages li")).to_have_count(4)
        assert sorted(page.locator("#messages li").all_inner_texts()[:2]) == ["hello", "ğ <b>"]
        assert page.locator("#messages li").all_inner_texts()[2:] == [
            "while you were away",
            "again",
        ]


def test_a_refused_token_names_the_setting(
    old_application: Callable[..., Server], context: BrowserContext
) -> None:
    server = old_application()
    page = visit(context, server, token="wrong")
    expect(page.locator("#error")).to_have_text("unauthorized")
    assert "access=open" in logged(server, "Socket.IO CONNECT refused")[0]["message"]
    assert server.post("/api/settings", {"key": "access", "value": "open"}).status == 200
    page.reload()
    expect(page.locator("#state")).to_have_text("connected")


@pytest.mark.parametrize("transports", TRANSPORTS)
def test_a_refused_origin_names_the_setting(
    old_application: Callable[..., Server],
    context: BrowserContext,
    transports: str,
) -> None:
    server = old_application()
    elsewhere = old_application(to=f"http://localhost:{server.port}")
    page = visit(context, elsewhere, transports)
    expect(page.locator("#error")).not_to_be_empty()
    logged(server, "setting allowed_origins")
    origin = f"http://localhost:{elsewhere.port}"
    assert server.post("/api/settings", {"key": "allowed_origins", "value": origin}).status == 200
    page.reload()
    expect(page.locator("#state")).to_have_text("connected")
    say(page, "from elsewhere")
    messages(page, "from elsewhere")


# ---- Socket.IO's own examples, as somebody who moves would write them ----------------------------

EXAMPLES = Path(__file__).parent / "examples"
Show = Callable[[str], Page]


@pytest.fixture
def show(make_server: Callable[..., Server], browser: Browser) -> Iterator[Show]:
    """Shows an example's page to one more person, who has a profile of their own."""
    servers: dict[str, Server] = {}
    contexts: list[BrowserContext] = []
    troubles: list[str] = []

    def make(name: str) -> Page:
        if name not in servers:
            app, pages = str(EXAMPLES / f"{name}.py"), str(EXAMPLES / "pages")
            servers[name] = make_server("--app", app, "--public", pages, access="open")
        contexts.append(new_context(browser))
        page = watch(contexts[-1].new_page(), troubles)
        page.goto(f"http://localhost:{servers[name].port}/{name}.html")
        return page

    yield make
    for context in contexts:
        context.close()
    assert troubles == []


def enter(page: Page, name: str) -> None:
    page.fill("#name", name)
    page.click("#door button")


def lines(page: Page, *expected: str) -> None:
    expect(page.locator("#lines li")).to_have_text(list(expected))


def send(page: Page, text: str) -> None:
    page.fill("#text", text)
    page.press("#text", "Enter")


def test_the_chat(show: Show) -> None:
    ada = show("chat")
    enter(ada, "ada")
    lines(ada, "1 here")
    bob = show("chat")
    enter(bob, "bob")
    lines(ada, "1 here", "bob joined, 2 here")
    lines(bob, "2 here")  # sooner there is nothing to type in
    bob.type("#text", "hi")
    expect(ada.locator("#typing")).to_have_text("bob is typing")
    expect(ada.locator("#typing")).to_have_text("")
    bob.press("#text", "Enter")
    lines(ada, "1 here", "bob joined, 2 here", "bob: hi")
    lines(bob, "2 here", "me: hi")
    bob.reload()
    lines(ada, "1 here", "bob joined, 2 here", "bob: hi", "bob left, 1 here")
    enter(bob, "bob")
    send(ada, "again?")
    # The new connection may be there before the end of the old one is told.
    others = bob.locator("#lines li", has_not_text="bob left")
    expect(others).to_have_text(["2 here", "ada: again?"])


def test_private_messages(show: Show) -> None:
    ada, bob, eve = (show("private") for _ in range(3))
    enter(ada, "")
    expect(ada.locator("#error")).to_have_text("Who are you?")
    for page, name in ((ada, "ada"), (bob, "bob"), (eve, "eve")):
        enter(page, name)
        expect(page.locator("h1")).to_have_text(name)
    expect(ada.locator("#people li")).to_have_text(["bob", "eve"])
    ada.click("#people li >> text=bob")
    send(ada, "for you alone")
    expect(bob.locator("#people li")).to_have_text(["ada *", "eve"])
    bob.click("#people li >> text=ada")
    lines(bob, "ada: for you alone")
    tab = bob.context.new_page()  # the same person
    tab.goto(bob.url)
    expect(tab.locator("h1")).to_have_text("bob")
    tab.click("#people li >> text=ada")
    lines(tab, "ada: for you alone")
    send(bob, "thank you")
    for page in (ada, bob, tab):
        expect(page.locator("#lines li").last).to_contain_text("thank you")
    tab.close()
    address = bob.url
    bob.goto("about:blank")  # the last tab
    expect(ada.locator("#people li")).to_have_text(["bob (away)", "eve"])
    send(ada, "are you there?")
    lines(ada, "me: for you alone", "bob: thank you", "me: are you there?")
    bob.goto(address)
    expect(ada.locator("#people li")).to_have_text(["bob", "eve"])
    bob.click("#people li >> text=ada")
    lines(bob, "ada: for you alone", "me: thank you", "ada: are you there?")
    expect(eve.locator("#people li")).to_have_text(["ada", "bob"])  # nothing for her
    for name in ("ada", "bob"):
        eve.click(f"#people li >> text={name}")
        lines(eve)


def black(page: Page, x: float, y: float) -> bool:
    """Whether a part of the whiteboard is drawn on."""
    return bool(
        page.evaluate(
            "([x, y]) => document.querySelector('canvas').getContext('2d').getImageData("
            "x * innerWidth, y * innerHeight, 1, 1).data[3] > 0",
            [x, y],
        )
    )


def stroke(page: Page, y: float) -> None:
    """From left to right."""
    width, height = page.evaluate("[innerWidth, innerHeight]")
    page.mouse.move(0.2 * width, y * height)
    page.mouse.down()
    page.mouse.move(0.8 * width, y * height, steps=4)
    page.mouse.up()


def test_the_whiteboard(show: Show) -> None:
    pages = one, two, three = [show("whiteboard") for _ in range(3)]
    two.set_viewport_size({"width": 400, "height": 300})
    for page in pages:
        expect(page).to_have_title("Connected")
    stroke(one, 0.25)
    for page in pages:
        wait_for(lambda page=page: black(page, 0.5, 0.25), "the stroke to be there")
        assert not black(page, 0.5, 0.75)
    three.reload()
    expect(three).to_have_title("Connected")
    stroke(three, 0.75)
    for page in pages:
        wait_for(lambda page=page: black(page, 0.5, 0.75), "the stroke to be there")
    assert black(two, 0.5, 0.25) and not black(three, 0.5, 0.25)  # nothing is kept


# ---- the guide's table ---------------------------------------------------------------------------

GUIDE = (ROOT / "static" / "docs" / "socketio.md").read_text("utf-8")
Row = tuple[list[str], list[str], list[str]]  # the code of theirs, ours, the client's


def table() -> dict[str, Row]:
    """The rows of the guide, each by what its first cell says."""
    lines = re.findall(r"^\| (.+) \|$", GUIDE, re.MULTILINE)[1:]
    rows = {}
    for line in lines:
        cells = [cell.replace("\\|", "|") for cell in re.split(r" \| ", line)]
        assert len(cells) == 3, line
        theirs, ours, client = (re.findall(r"`([^`]+)`", cell) for cell in cells)
        rows[cells[0]] = theirs, ours, client
    return rows


BOTH = {name: row for name, row in table().items() if row[1] and row[1][0].startswith("@")}
OTHERS = {name: row for name, row in table().items() if name not in BOTH}

NODE_SERVER = """
import { Server } from "socket.io";
const io = new Server();
%s
io.on("connection", (socket) => {
%s
});
io.listen(0);
console.log(JSON.stringify(io.httpServer.address().port));
"""
CLIENT = """
import { io as connect } from "socket.io-client";
const [url, token] = process.argv.slice(2);
const opened = [];
const io = (where, options = {}) => {
  const socket = connect(where, { forceNew: true, reconnectionDelay: 20, ...options });
  opened.push(socket);
  return socket;
};
const once = (socket, event) => new Promise((done) => socket.once(event, done));
let lines = [], changed = () => {};
const print = (...values) => { lines.push(values); changed(); };
const rows = %s;
for (const [name, code, count, settle] of rows) {
  lines = [];
  const socket = io(url, AUTH), other = io(url, AUTH);
  await Promise.all([once(socket, "connect"), once(other, "connect")]);
  // What is volatile is dropped, by Node's server too, while a connection goes over to a WebSocket:
  // an answer that comes over that tells when the server's side is there as well.
  for (const { io: manager } of [socket, other]) {
    while (manager.engine.transport.name !== "websocket")
      await new Promise((done) => setTimeout(done, 10));
    const probe = manager.socket("/not-there");
    await Promise.race([once(probe, "connect"), once(probe, "connect_error")]);
    probe.disconnect();
  }
  const enough = new Promise((done) => { changed = () => lines.length >= count && done(); });
  new Function("io", "url", "token", "socket", "other", "print", code)(
    io, url, token, socket, other, print);
  await enough;
  await new Promise((done) => setTimeout(done, settle));
  console.log(JSON.stringify([name, lines]));
  opened.splice(0).forEach((each) => each.disconnect());
}
process.exit(0);
"""
AUTH, NO_AUTH = "{ auth: { token } }", "{}"


def run_client(
    folder: Path, url: str, rows: dict[str, Row], counts: dict[str, int], auth: str = NO_AUTH
) -> dict[str, Any]:
    """What the client's code of each row prints; it must print at least `counts` lines."""
    listed = [[name, "\n".join(row[2]), counts[name], 60] for name, row in rows.items()]
    script = folder / "rows.mjs"
    script.write_text((CLIENT % json.dumps(listed)).replace("AUTH", auth))
    done = subprocess.run(
        ["node", str(script), url, ADMIN],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE * 2,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(json.loads(line) for line in done.stdout.splitlines())


@pytest.fixture(scope="module")
def theirs(npm_folder: Callable[..., Path]) -> Iterator[tuple[Path, str]]:
    """Node's own server with the code of the table's first column."""
    folder = npm_folder("socket.io-client@4", "socket.io@4")
    code = [line for row in BOTH.values() for line in row[0]]
    top = [line for line in code if line.startswith("io.")]
    inner = [line for line in code if line.startswith("socket.")]
    script = folder / "server.mjs"
    script.write_text(NODE_SERVER % ("\n".join(top), "\n".join(inner)))
    process = subprocess.Popen(["node", str(script)], cwd=folder, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield folder, f"http://127.0.0.1:{json.loads(process.stdout.readline())}"
    process.kill()
    process.wait(PATIENCE)


def test_the_tables_lines_do_the_same_on_both(
    theirs: tuple[Path, str], make_server: Callable[..., Server], tmp_path: Path
) -> None:
    folder, url = theirs
    expected = run_client(folder, url, BOTH, dict.fromkeys(BOTH, 1))
    handlers = tmp_path / "handlers.py"
    code = ["import asyncio, re", "import gevent", "from rtapp import Refused, call, emit, on, use"]
    code += ["from rtapp import disconnect_sockets, fetch_sockets, sockets_join, sockets_leave"]
    code += ["def refuse(words): raise Refused(words)"]
    handlers.write_text("\n\n".join([*code, *("\n".join(row[1]) for row in BOTH.values())]))
    server = make_server("--app", str(handlers), access="open")
    counts = {name: len(lines) for name, lines in expected.items()}
    ours = run_client(folder, f"http://127.0.0.1:{server.port}", BOTH, counts)
    assert ours == expected
    assert len(ours) >= 15


GUIDE_CLIENT = """
const one = io(url, AUTH), two = io(url, AUTH);
const heard = [once(one, "welcome"), once(two, "welcome")];
print("welcome", ...await Promise.all(heard));
const both = [once(one, "broadcast"), once(two, "broadcast")];
one.emit("message", { text: "ğ" });
print("broadcast", ...await Promise.all(both));
console.log(JSON.stringify(lines));
process.exit(0);
"""


def test_the_guides_example_does_the_same_on_both(
    npm_folder: Callable[..., Path], make_server: Callable[..., Server], tmp_path: Path
) -> None:
    folder = npm_folder("socket.io-client@4", "socket.io@4")
    readme = (ROOT / "README.md").read_text().split("## From Socket.IO")[1]
    theirs, ours = (
        re.findall(rf"```{lang}\n(.+?)```", GUIDE, re.S)[0] for lang in ("js", "python")
    )
    assert theirs in readme and ours in readme
    script = folder / "guide.cjs"
    script.write_text(
        "const server = require('http').createServer();\n" + theirs + "\nserver.listen(0, () => "
        "console.log(server.address().port));"
    )
    handlers = tmp_path / "guide.py"
    handlers.write_text(ours)
    server = make_server("--app", str(handlers), access="open")
    client = folder / "guide_client.mjs"
    client.write_text(CLIENT.partition("const rows")[0] + GUIDE_CLIENT.replace("AUTH", "{}"))

    def run(port: str) -> str:
        command = ["node", str(client), f"http://127.0.0.1:{port}", ADMIN]
        return subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE * 2, check=True
        ).stdout

    with subprocess.Popen(["node", str(script)], stdout=subprocess.PIPE, text=True) as node:
        assert node.stdout is not None
        expected = run(node.stdout.readline().strip())
        node.kill()
    assert json.loads(expected) == [
        ["welcome", "Welcome!", "Welcome!"],
        ["broadcast", {"text": "ğ"}, {"text": "ğ"}],
    ]
    assert run(str(server.port)) == expected


def test_what_the_table_says_without_handlers(
    theirs: tuple[Path, str], make_server: Callable[..., Server]
) -> None:
    folder, _ = theirs
    server = make_server(socketio_recovery_seconds=120)
    rows = {name: row for name, row in OTHERS.items() if row[2]}
    assert len(rows) >= 3
    found = run_client(
        folder, f"http://127.0.0.1:{server.port}", rows, dict.fromkeys(rows, 1), AUTH
    )
    assert all(lines[0][0] == "it works" for lines in found.values()), found
