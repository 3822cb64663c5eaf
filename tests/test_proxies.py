"""What stands before the nodes, as the operator's guide sets it up, and behind: PgBouncer."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from playwright.sync_api import BrowserContext, expect
from websockets.exceptions import InvalidStatus

from browsers import NAME, PASSWORD, until
from conftest import Certificate
from postgres import USER, Cluster, free_port
from support import (
    AUTH,
    LONG,
    PATIENCE,
    POLLING,
    ROOT,
    Server,
    Swarm,
    cookie_of,
    hear,
    join_io,
    open_ws,
    say,
    wait_for,
)
from test_rooms import Person, heard, make_room

NGINX = """
daemon off;
pid {folder}/pid;
{user}
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {sample}
}}
"""
GUIDE = (ROOT / "static" / "docs" / "operator.md").read_text("utf-8")
CADDY = """
{{
    admin off
    auto_https off
    default_bind 127.0.0.1
    grace_period 1s
}}
{sample}
"""


def program(name: str) -> str:
    """A command's path; skips by name where it isn't installed."""
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin")
    if path is None:
        pytest.skip(f"{name} is not installed (Debian: {name})")
    return path


@contextlib.contextmanager
def running(command: list[str], port: int, **more: Any) -> Iterator[None]:
    """A process that listens on a port of its own, with those that it starts."""
    pipe, merged = subprocess.PIPE, subprocess.STDOUT
    process = subprocess.Popen(
        command, stdout=pipe, stderr=merged, text=True, start_new_session=True, **more
    )
    try:
        wait_for(lambda: process.poll() is not None or listens(port), command[0])
        if process.poll() is not None:
            raise AssertionError(process.stdout.read() if process.stdout else "")
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):  # it has ended by itself
            os.killpg(process.pid, signal.SIGKILL)  # Apache takes ten seconds to end kindly
        process.communicate()


def listens(port: int) -> bool:
    """Whether somebody accepts connections on a port."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


class Front(NamedTuple):
    """A reverse proxy and the nodes behind it."""

    proxy: Server  # no process of its own: what a client asks
    nodes: tuple[Server, Server]
    tls_port: int  # 0 where TLS isn't tried


def sample(language: str, nodes: tuple[Server, Server]) -> str:
    """The guide's sample with the addresses of the nodes."""
    found = re.search(rf"```{language}\n(.*?)```", GUIDE, re.S)
    assert found
    text = found[1]
    for address, node in zip(("10.0.0.11:8001", "10.0.0.12:8001"), nodes, strict=True):
        assert address in text
        text = text.replace(address, f"127.0.0.1:{node.port}")
    return text


@contextlib.contextmanager
def nginx(
    nodes: tuple[Server, Server], folder: Path, certificate: Certificate
) -> Iterator[tuple[int, int]]:
    """nginx before the nodes: its ports for plain HTTP and TLS."""
    path, port, tls_port = program("nginx"), free_port(), free_port()
    text = sample("nginx", nodes)
    for ours, theirs in (
        ("listen 443 ssl;", f"listen 127.0.0.1:{port}; listen 127.0.0.1:{tls_port} ssl;"),
        ("/etc/ssl/rtapp.pem", str(certificate.cert)),
        ("/etc/ssl/rtapp.key", str(certificate.key)),
    ):
        assert ours in text
        text = text.replace(ours, theirs)
    user = "user root;" if os.geteuid() == 0 else ""
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, user=user, sample=text))
    with running([path, "-p", str(folder), "-c", str(config), "-e", "stderr"], port):
        yield port, tls_port


@contextlib.contextmanager
def caddy(
    nodes: tuple[Server, Server], folder: Path, certificate: Certificate
) -> Iterator[tuple[int, int]]:
    """Caddy before the nodes; it would want a certificate from outside, so without TLS."""
    path, port = program("caddy"), free_port()
    text = sample("caddy", nodes).replace("rtapp.example.org", f"http://127.0.0.1:{port}")
    config = folder / "Caddyfile"
    config.write_text(CADDY.format(sample=text))
    home = {**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder)}
    home |= {"XDG_CONFIG_HOME": str(folder)}
    command = [path, "run", "--config", str(config), "--adapter", "caddyfile"]
    with running(command, port, env=home):
        yield port, 0


APACHE = """
ServerRoot {folder}
ServerName 127.0.0.1
PidFile {folder}/pid
DefaultRuntimeDir {folder}
Listen 127.0.0.1:{port}
ErrorLog {folder}/error.log
{modules}
{sample}
"""
APACHE_MODULES = (
    *("mpm_event", "authz_core", "env", "headers", "proxy", "proxy_http", "proxy_wstunnel"),
    *("proxy_balancer", "slotmem_shm", "lbmethod_byrequests"),
)


@contextlib.contextmanager
def run_apache(text: str, folder: Path) -> Iterator[tuple[int, int]]:
    """Apache with some lines of configuration: its port."""
    path, port = program("apache2"), free_port()
    modules = "\n".join(
        f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so"
        for name in APACHE_MODULES
    )
    config = folder / "apache.conf"
    config.write_text(APACHE.format(folder=folder, port=port, modules=modules, sample=text))
    with running([path, "-DFOREGROUND", "-f", str(config)], port):
        yield port, 0


@contextlib.contextmanager
def apache2(
    nodes: tuple[Server, Server], folder: Path, certificate: Certificate
) -> Iterator[tuple[int, int]]:
    """Apache before the nodes, without TLS: the sample has none."""
    with run_apache(sample("apache", nodes), folder) as ports:
        yield ports


@contextlib.contextmanager
def run_haproxy(text: str, folder: Path, port: int) -> Iterator[tuple[int, int]]:
    """HAProxy with a configuration that listens on a port."""
    config = folder / "haproxy.cfg"
    config.write_text(text)
    with running([program("haproxy"), "-f", str(config), "-db"], port):
        yield port, 0


@contextlib.contextmanager
def haproxy(
    nodes: tuple[Server, Server], folder: Path, certificate: Certificate
) -> Iterator[tuple[int, int]]:
    """HAProxy before the nodes: its ports for plain HTTP and TLS."""
    port, tls_port, both = free_port(), free_port(), folder / "both.pem"
    both.write_text(certificate.cert.read_text() + certificate.key.read_text())
    text, line = sample("haproxy", nodes), "    bind :443 ssl crt /etc/haproxy/rtapp.pem\n"
    assert line in text
    binds = f"    bind 127.0.0.1:{port}\n    bind 127.0.0.1:{tls_port} ssl crt {both}\n"
    with run_haproxy(text.replace(line, binds), folder, port):
        yield port, tls_port


@pytest.fixture(params=[nginx, caddy, apache2, haproxy], ids=lambda way: way.__name__)
def front(
    request: pytest.FixtureRequest,
    postgres: Cluster,
    start_node: Callable[..., Server],
    tmp_path: Path,
    certificate: Certificate,
) -> Iterator[Front]:
    """Two nodes behind a reverse proxy."""
    program(request.param.__name__)  # before anything is started
    url = postgres.new_database()
    nodes = tuple(start_node(url, trusted_proxies="127.0.0.1") for _ in range(2))
    folder = tmp_path / "proxy"
    folder.mkdir()
    with request.param(nodes, folder, certificate) as (port, tls_port):
        proxy = Server(folder)
        proxy.port = port
        yield Front(proxy, (nodes[0], nodes[1]), tls_port)


def ways_in(
    front: Front, certificate: Certificate
) -> Iterator[tuple[Server, ssl.SSLContext | None]]:
    """The proxy in plain HTTP, and in TLS where that is tried."""
    yield front.proxy, None
    if front.tls_port:
        by_tls = Server(front.proxy.data)
        by_tls.port = front.tls_port
        yield by_tls, certificate.trusting


def test_streams_come_through_at_once(front: Front, certificate: Certificate) -> None:
    """Nothing is buffered on the way, and each node hears who really asks, and how."""
    for asked, tls in ways_in(front, certificate):
        with asked.stream("channel=x", tls=tls) as one, asked.stream("channel=x", tls=tls) as two:
            for n in range(3):
                assert asked.post("/api/broadcast?channel=x", n, tls=tls).status == 200
                assert one.values(1) == two.values(1) == [n]
            rows = asked.get("/api/connections", tls=tls).json
            assert {row["ipAddress"] for row in rows} == {"127.0.0.1"}
        answer = asked.get("/healthz", tls=tls, headers={"X-Forwarded-For": "203.0.113.9"})
        assert answer.status == 200
        answer = asked.post("/api/video/rooms", {"name": "x"}, tls=tls)
        assert answer.json["joinUrl"].startswith("https:" if tls else "http:"), answer


def test_a_session_is_known_to_every_node(front: Front, certificate: Certificate) -> None:
    body = {"username": "ada", "password": "correct horse", "role": "user"}
    assert front.proxy.post("/api/users", body).status == 201
    del body["role"]
    for asked, tls in ways_in(front, certificate):
        scheme = "https" if tls else "http"
        page = {"Origin": f"{scheme}://127.0.0.1:{asked.port}"}
        made = asked.post("/api/auth/login", body, token=None, tls=tls, headers=page)
        cookie = {**cookie_of(made), **page}
        for _ in range(20):
            me = asked.get("/api/auth/me", token=None, tls=tls, headers=cookie)
            assert me.json["authenticated"], me


def test_websockets_come_through(front: Front, certificate: Certificate) -> None:
    for asked, tls in ways_in(front, certificate):
        with open_ws(asked, "channel=x", tls=tls) as ws:
            assert hear(ws)["type"] == "connection"
            say(ws, type="publish", channel="x", data=1, ref=7)
            kinds = set()
            # The node may just hear of what another one published: that comes as well.
            while kinds != {"message", "ack"}:
                kinds.add(hear(ws)["type"])
        with join_io(asked, tls=tls)[0]:
            pass


def test_calls_and_the_dashboard_come_through(front: Front, context: BrowserContext) -> None:
    """Whoever is on which node."""
    person = {"username": NAME, "password": PASSWORD, "role": "admin"}
    assert front.proxy.post("/api/users", person).status == 201
    sign_in_by_the_page(context, front.proxy.port)
    for _ in range(3):
        signals(front.proxy)


def test_long_polling_stays_on_its_node(front: Front) -> None:
    """Socket.IO's polling is a conversation in requests, which one node holds."""
    for _ in range(3):
        opened = front.proxy.get(POLLING, token=None)
        assert opened.status == 200, opened
        plain = {"Content-Type": "text/plain"}
        if "set-cookie" in opened.headers:
            plain |= cookie_of(opened)
        session = f"{POLLING}&sid={json.loads(opened.body[1:])['sid']}"
        body = b"40" + json.dumps(AUTH).encode()
        sent = front.proxy.post(session, body, token=None, headers=plain)
        assert sent.body == b"ok"
        assert front.proxy.get(session, token=None, headers=plain).body.startswith(b"40{")
        front.proxy.publish(5)
        while b'["message",5' not in front.proxy.get(session, token=None, headers=plain).body:
            front.proxy.post(session, b"3", token=None, headers=plain)  # it was a ping


class Publisher(threading.Thread):
    """Publishes through the proxy, again with the same key until it is acknowledged."""

    def __init__(self, front: Front) -> None:
        super().__init__(daemon=True)
        self.proxy = front.proxy
        self.ended = False
        self.failures = 0
        self.acknowledged: list[tuple[int, int]] = []

    def run(self) -> None:
        while not self.ended:
            value = len(self.acknowledged)
            key = {"Idempotency-Key": str(uuid.uuid4())}
            while not self.publish(value, key):
                self.failures += 1
                time.sleep(0.05)
            time.sleep(0.01)  # as fast as the servers can takes both cores from them

    def publish(self, value: int, key: dict[str, str]) -> bool:
        try:
            answer = self.proxy.post("/api/broadcast?channel=x", value, headers=key)
        except (OSError, HTTPException):
            return False
        if answer.status == 200:
            self.acknowledged.append((answer.json["message"]["id"], value))
        return answer.status == 200


def pump(swarm: Swarm, readers: int) -> None:
    """Read; who was cut off comes back."""
    for key in range(readers):
        if key not in swarm.messages or key in swarm.closed:
            with contextlib.suppress(OSError):
                swarm.open(key, "channel=x", swarm.last_ids.get(key))
    swarm.pump(0.05)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_a_node_is_taken_out(front: Front, how: str) -> None:
    """Everybody comes back to the other one, and nobody misses or gets twice anything."""
    swarm, publisher, readers = Swarm(front.proxy.port), Publisher(front), 6
    while not all(swarm.last_ids.get(key) for key in range(readers)):
        pump(swarm, readers)
    publisher.start()
    # One after the other; each comes back, and is taken in again before the other one goes.
    for node, pause in zip(front.nodes, (3, 0), strict=True):
        before = len(publisher.acknowledged)
        if how == "stopped":
            node.stop()
        else:
            node.kill()
        deadline = time.monotonic() + 4 * PATIENCE  # a request that hangs takes one of them
        while len(publisher.acknowledged) < before + 50 or len(swarm.closed) > 0:
            done = len(publisher.acknowledged) - before, publisher.failures, swarm.closed
            assert time.monotonic() < deadline, f"published, failed, closed: {done}"
            pump(swarm, readers)
        node.start()
        until = time.monotonic() + pause
        while time.monotonic() < until:
            pump(swarm, readers)
    publisher.ended = True
    publisher.join(PATIENCE)
    deadline = time.monotonic() + PATIENCE
    expected = [(number, str(value)) for number, value in publisher.acknowledged]
    while not all(swarm.messages[key][-1:] == expected[-1:] for key in range(readers)):
        behind = [swarm.messages[key][-1:] for key in range(readers)]
        assert time.monotonic() < deadline, (expected[-1:], behind)
        pump(swarm, readers)
    for key in range(readers):
        assert swarm.messages[key] == expected
    assert not swarm.resets
    print(f"{len(expected)} published, {publisher.failures} tried again")
    swarm.close_all()


# The least that a proxy is told


LEAST = {
    name.split()[0].lower(): line
    for name, line in re.findall(
        r"^\| (\w[\w .]*) \| `([^`]+127\.0\.0\.1:8000[^`]*)` \|", GUIDE, re.M
    )
}
BARE_NGINX = """
daemon off;
pid {folder}/pid;
events {{ }}
http {{ access_log off; server {{ listen 127.0.0.1:{port}; {line} }} }}
"""
BARE_HAPROXY = """
defaults
    mode http
    timeout connect 3s
    timeout client 30s
    timeout server 30s
listen web
    bind 127.0.0.1:{port}
    {line}
"""


@contextlib.contextmanager
def told_the_least(name: str, folder: Path, line: str) -> Iterator[int]:
    """A proxy with one line of the guide and nothing that it can do without: its port."""
    port = free_port()
    if name == "apache":
        with run_apache(line, folder) as (port, _):
            yield port
        return
    if name == "haproxy":
        with run_haproxy(BARE_HAPROXY.format(port=port, line=line), folder, port):
            yield port
        return
    if name == "nginx":
        text = BARE_NGINX.format(folder=folder, port=port, line=line)
        command = ["nginx", "-p", str(folder), "-e", "stderr", "-c"]
    else:
        text = CADDY.format(sample=f"http://127.0.0.1:{port} {{\n{line}\n}}")
        command = ["caddy", "run", "--adapter", "caddyfile", "--config"]
    config = folder / "config"
    config.write_text(text)
    command[0] = program(name)
    home = {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    with running([*command, str(config)], port, env={**os.environ, **home}):
        yield port


def test_the_guide_has_a_line_for_each() -> None:
    assert [*LEAST] == ["nginx", "apache", "caddy", "haproxy"]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", ["nginx", "apache", "caddy", "haproxy"])
def test_one_line_suffices(
    make_server: Callable[..., Server], tmp_path: Path, context: BrowserContext, name: str
) -> None:
    """A browser signs in; streams, WebSockets, Socket.IO and a call come through."""
    server = make_server(trusted_proxies="127.0.0.1")
    person = {"username": NAME, "password": PASSWORD, "role": "admin"}
    assert server.post("/api/users", person).status == 201
    line = LEAST[name].replace("127.0.0.1:8000", f"127.0.0.1:{server.port}")
    folder = tmp_path / "proxy"
    folder.mkdir()
    with told_the_least(name, folder, line) as port:
        proxy = Server(folder)
        proxy.port = port
        with proxy.stream("channel=x") as quiet:  # all the time, as each of them lets it
            started = time.monotonic()
            sign_in_by_the_page(context, port)
            carries(proxy, upgrades=name != "nginx")
            if LONG:
                time.sleep(max(0.0, 120 - (time.monotonic() - started)))
            proxy.publish("still here", "channel=x")
            while quiet.values(1) != ["still here"]:
                pass


def sign_in_by_the_page(context: BrowserContext, port: int) -> None:
    """Sign in to the dashboard as a person does."""
    page = context.new_page()
    page.goto(f"http://127.0.0.1:{port}/admin")
    page.click("#app a.button")
    page.fill("#login-username", NAME)
    page.fill("#login-password", PASSWORD)
    page.press("#login-password", "Enter")
    expect(page.locator("#section-title")).to_have_text("Overview")
    until(page, """async () => (await (await fetch('/api/auth/me')).json()).authenticated""")


def carries(proxy: Server, upgrades: bool = True) -> None:
    """Each way of the server through a proxy."""
    if upgrades:
        with open_ws(proxy, "channel=x") as ws:
            assert hear(ws)["type"] == "connection"
            say(ws, type="publish", channel="x", data=1, ref=7)
            assert hear(ws, "ack")["ref"] == 7
        with join_io(proxy)[0]:
            pass
    opened = proxy.get(POLLING, token=None)
    session = f"{POLLING}&sid={json.loads(opened.body[1:])['sid']}"
    plain = {"Content-Type": "text/plain"}
    body = b"40" + json.dumps(AUTH).encode()
    assert proxy.post(session, body, token=None, headers=plain).body == b"ok"
    assert proxy.get(session, token=None).body.startswith(b"40{")
    signals(proxy)


def signals(proxy: Server) -> None:
    """A call's signalling through a proxy, both ways."""
    room = make_room(proxy)
    ada, bob = (Person(proxy, name).enter(room) for name in ("Ada", "Bob"))
    with ada.stream() as hers, bob.stream() as stream:
        assert ada.signal(bob, room).status == 200
        assert heard(stream, "webrtc-signal")["signal"] == "sdp"
        assert bob.signal(ada, room, "answer").status == 200
        assert heard(hers, "webrtc-signal")["signal"] == "answer"


def as_traefik_writes(head: bytes, peer: str, spelt: Callable[[str], str]) -> bytes:
    """The head of a request as Traefik 3 passes it on (its `forwardedheaders`, and Go's `http`)."""
    first, *lines = head.decode("latin-1").strip().split("\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)}
    upgrades = fields.pop("connection", "").lower() == "upgrade"
    if upgrades:
        fields["connection"] = "upgrade"
    fields |= {
        "x-real-ip": peer,
        "x-forwarded-for": peer,
        "x-forwarded-host": fields["host"],
        "x-forwarded-port": fields["host"].rpartition(":")[2],
        "x-forwarded-proto": "ws" if upgrades else "http",
        "x-forwarded-server": socket.gethostname(),
    }
    return "\r\n".join([first, *(f"{spelt(k)}: {v}" for k, v in fields.items()), "", ""]).encode()


class Middleman(threading.Thread):
    """A connection through a proxy that writes as Traefik does."""

    def __init__(self, client: socket.socket, port: int, spelt: Callable[[str], str]) -> None:
        super().__init__(daemon=True)
        self.client, self.spelt = client, spelt
        self.node = socket.create_connection(("127.0.0.1", port))

    def run(self) -> None:
        threading.Thread(target=self.answer, daemon=True).start()
        with contextlib.suppress(OSError), self.client.makefile("rb") as reader:
            lines = iter(reader.readline, b"")
            while head := b"".join(itertools.takewhile(lambda line: line != b"\r\n", lines)):
                self.node.sendall(as_traefik_writes(head, "127.0.0.1", self.spelt))
                length = re.search(rb"(?i)\ncontent-length: *(\d+)", head)
                self.node.sendall(reader.read(int(length[1]) if length else 0))
                while re.search(rb"(?i)\nupgrade:", head) and (data := reader.read1(65_536)):
                    self.node.sendall(data)
        self.end()

    def answer(self) -> None:
        with contextlib.suppress(OSError):
            while data := self.node.recv(65_536):
                self.client.sendall(data)
        self.end()

    def end(self) -> None:
        for sock in (self.client, self.node):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("spelt", [str.title, str.lower], ids=["Title", "lower"])
def test_as_traefik_writes(
    make_server: Callable[..., Server],
    tmp_path: Path,
    context: BrowserContext,
    spelt: Callable[[str], str],
) -> None:
    """Traefik itself is no package of any system here: what it tells of a client is."""
    server = make_server(trusted_proxies="127.0.0.1")
    person = {"username": NAME, "password": PASSWORD, "role": "admin"}
    assert server.post("/api/users", person).status == 201
    proxy = Server(tmp_path)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                Middleman(listener.accept()[0], server.port, spelt).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy.port = listener.getsockname()[1]
        threading.Thread(target=accept, daemon=True).start()
        with proxy.stream("channel=x") as quiet:
            sign_in_by_the_page(context, proxy.port)
            carries(proxy)
            page = {"Origin": f"http://127.0.0.1:{proxy.port}"}  # a browser's WebSocket names it
            with open_ws(proxy, headers=page) as ws:
                assert hear(ws)["type"] == "connection"
            with pytest.raises(InvalidStatus):
                open_ws(proxy, headers={"Origin": "http://127.0.0.1:1"})
            room = proxy.post("/api/video/rooms", {"name": "x"}).json
            assert room["joinUrl"].startswith(f"http://127.0.0.1:{proxy.port}/"), room
            proxy.publish("still here", "channel=x")
            while quiet.values(1) != ["still here"]:
                pass
        listener.shutdown(socket.SHUT_RDWR)


# PgBouncer

PGBOUNCER = """
[databases]
* = host=127.0.0.1 port={postgres}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {folder}/users
pool_mode = transaction
default_pool_size = 8
ignore_startup_parameters = extra_float_digits
"""


@pytest.fixture
def bouncer(postgres: Cluster) -> Iterator[int]:
    """The port of a PgBouncer in transaction mode before the database."""
    path, port, folder = program("pgbouncer"), free_port(), postgres.folder / "bouncer"
    folder.mkdir(exist_ok=True)
    (folder / "users").write_text(f'"{USER}" ""\n')
    config = folder / "pgbouncer.ini"
    config.write_text(PGBOUNCER.format(postgres=postgres.port, port=port, folder=folder))
    as_root = os.geteuid() == 0
    with running([path, *(["-u", USER] if as_root else []), str(config)], port):
        yield port


def test_pgbouncer_costs_latency_only(
    postgres: Cluster, bouncer: int, start_node: Callable[..., Server]
) -> None:
    """In transaction mode no bell arrives: polling brings everything, once and in order."""
    url = postgres.new_database().replace(str(postgres.port), str(bouncer))
    here, there = start_node(url), start_node(url)
    with here.stream("channel=x") as one, there.stream("channel=x") as two:
        threads = [
            threading.Thread(
                target=lambda node=node: [node.publish(n, "channel=x") for n in range(40)]
            )
            for node in (here, there)
            for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        first, second = (
            [(event["id"], event["data"]) for event in stream.take(160)] for stream in (one, two)
        )
        for thread in threads:
            thread.join()
        assert first == second and len(set(first)) == 160
        assert one.silent(0.1) and two.silent(0.1)
        waits = []
        for n in range(5):
            started = time.monotonic()
            here.publish(n, "channel=x")
            assert two.values(1) == [n]
            waits.append(time.monotonic() - started)
        print(f"publish to delivery on the other node: at most {max(waits):.2f} s")
        key = {"Idempotency-Key": "k"}
        answers = [node.publish("once", headers=key).json for node in (here, there)]
        assert answers[0] == answers[1]
        body = {"key": "history_hours", "value": 5}
        assert here.post("/api/settings", body).status == 200
        client = two.hello["clientId"]
        wait_for(lambda: len(here.get("/api/connections").json) == 2, "both connections")
        assert here.request("DELETE", f"/api/connections/{client}").status == 200
        assert two.ended() and two.events[-1]["event"] == "disconnect"
    assert not [line for node in (here, there) for line in node.output if "Traceback" in line]
