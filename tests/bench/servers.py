"""The servers that tests/bench.py measures: how each is found, started, read and ended.

`KINDS` is the table of them. A kind that can't run here says why (`missing`), and the benchmark
goes on without it. Only processes started here are ever ended, each by its own handle.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import psutil

from postgres import free_port

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
GUIDE = HERE / "guide-server"
SOCKETIO = HERE / "socketio-server"
START_SECONDS = 20.0
STOP_SECONDS = 12.0
READY = re.compile(rb"listening on http://127\.0\.0\.1:(\d+)")


class BenchError(Exception):
    """The benchmark can't go on; the text says why."""


class Postgres:
    """A throwaway PostgreSQL with its default durability: fsync stays on, for a fair comparison."""

    def __init__(self, folder: Path) -> None:
        self.bin = postgres_folder()
        if self.bin is None:
            raise BenchError("no PostgreSQL")
        # initdb refuses to run as root, and its user must own the folder.
        self.prefix = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        self.folder = Path(tempfile.mkdtemp(prefix="bench-pg-", dir=folder))
        self.port = free_port()
        if self.prefix:
            shutil.chown(self.folder, "postgres")

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def new_database(self) -> str:
        """The URL of a new, empty database."""
        name = f"bench{secrets.token_hex(4)}"
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", name)
        return f"{self.url.rpartition('/')[0]}/{name}"

    def start(self) -> None:
        data = str(self.folder / "data")
        self._run("initdb", "-D", data, "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C")
        options = (
            f"-c listen_addresses=127.0.0.1 -c port={self.port} "
            f"-c unix_socket_directories={self.folder}"
        )
        log = str(self.folder / "log")
        self._run("pg_ctl", "-D", data, "-w", "-l", log, "-o", options, "start")

    def stop(self) -> None:
        with contextlib.suppress(BenchError):
            self._run("pg_ctl", "-D", str(self.folder / "data"), "-m", "fast", "stop")

    def _run(self, program: str, *arguments: str) -> None:
        # The server inherits these files, so a pipe would never end; hence a file, opened here.
        with (self.folder / f"{program}.out").open("wb") as out:
            command = [*self.prefix, f"{self.bin}/{program}", *arguments]
            code = subprocess.run(command, check=False, stdout=out, stderr=out, cwd="/").returncode
        if code:
            raise BenchError(f"{program} ended with {code}: {tail(self.folder / f'{program}.out')}")


@dataclass
class Workbench:
    """What all servers of a run share: a folder, the compiled programs, one PostgreSQL."""

    folder: Path
    python: str = sys.executable
    max_connections: int = 12000
    _postgres: Postgres | None = None

    def compile(self, name: str, *flags: str) -> Path:
        """The program built from tests/bench/<name>.c; built once a run."""
        program = self.folder / name
        if not program.exists():
            compiler = find_compiler()
            if compiler is None:
                raise BenchError("no C compiler (cc, gcc or clang): the load driver can't be built")
            source = str(HERE / f"{name}.c")
            subprocess.run([compiler, "-O2", "-o", str(program), source, *flags], check=True)
        return program

    def postgres(self) -> Postgres:
        """The one PostgreSQL of the run, started when first asked for."""
        if self._postgres is None:
            self._postgres = Postgres(self.folder)
            self._postgres.start()
        return self._postgres

    def new_folder(self, name: str) -> Path:
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.folder))

    def close(self) -> None:
        if self._postgres is not None:
            self._postgres.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass
class Server:
    """A running server, and what its process has used."""

    process: subprocess.Popen[bytes]
    port: int
    header: str
    first_answer_seconds: float

    def cpu_seconds(self) -> float:
        """User and system time of the process and its children so far."""
        times = [process.cpu_times() for process in self._processes()]
        return float(sum(one.user + one.system for one in times))

    def rss_bytes(self) -> int:
        return int(sum(process.memory_info().rss for process in self._processes()))

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _processes(self) -> list[psutil.Process]:
        own = psutil.Process(self.process.pid)
        return [own, *own.children(recursive=True)]


@dataclass(frozen=True)
class Launch:
    """A command to start; `port` is given where the server doesn't print its own."""

    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    token: str = ""
    port: int | None = None


@dataclass(frozen=True)
class Kind:
    """A sort of server: its name in the table, how to start it, and why it may be missing.

    `paths` maps a transport of the load driver to the path of its handshake. `ordered_ids` is true
    where an event's id is `<epoch>-<n>` with an n that grows.
    """

    title: str
    launch: Callable[[Workbench, Path], Launch]
    missing: Callable[[], str | None] = lambda: None
    ordered_ids: bool = False
    paths: Mapping[str, str] = field(default_factory=lambda: {"sse": "/api/events"})

    @contextlib.contextmanager
    def running(self, workbench: Workbench, name: str) -> Iterator[Server]:
        """A fresh server with its own data folder, ended at the exit."""
        folder = workbench.new_folder(name)
        server = start(self.launch(workbench, folder), folder)
        try:
            yield server
        finally:
            server.stop()
            shutil.rmtree(folder, ignore_errors=True)


def start(launch: Launch, folder: Path) -> Server:
    """Start a process and wait until it has answered a request."""
    log = folder / "output"
    began = time.perf_counter()
    with log.open("wb") as out:
        process = subprocess.Popen(
            launch.command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            cwd=folder,
            env={**clean_environment(), **launch.environment},
        )
    header = f"Authorization: Bearer {launch.token or 'none'}"
    server = Server(process, launch.port or 0, header, 0.0)
    try:
        wait_until(lambda: has_answered(server, log), process, log)
    except BaseException:
        server.stop()
        raise
    server.first_answer_seconds = time.perf_counter() - began
    return server


def clean_environment() -> dict[str, str]:
    """Ours without what would configure a server behind the benchmark's back."""
    return {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("RTAPP_", "PG")) and key != "DATABASE_URL"
    }


def has_answered(server: Server, log: Path) -> bool:
    """Whether the server listens and answers a first request, whatever it says."""
    if not server.port:
        found = READY.search(log.read_bytes())
        if found is None:
            return False
        server.port = int(found[1])
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=START_SECONDS)
    try:
        connection.request("GET", "/healthz", headers={"Content-Length": "0"})
        connection.getresponse().read()
    except ConnectionRefusedError:
        return False
    finally:
        connection.close()
    return True


def wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait for a condition with a deadline; an ended process is an error at once."""
    deadline = time.monotonic() + START_SECONDS
    while not ready():
        if process.poll() is not None:
            raise BenchError(f"the server ended with {process.returncode}: {tail(log)}")
        if time.monotonic() > deadline:
            raise BenchError(f"the server didn't listen within {START_SECONDS:g} s: {tail(log)}")
        time.sleep(0.005)


def tail(path: Path, size: int = 600) -> str:
    return path.read_bytes()[-size:].decode(errors="replace").strip()


def output_of(command: Sequence[str]) -> str:
    """What a program prints on both of its streams."""
    both = subprocess.STDOUT
    result = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=both, text=True)
    return result.stdout


# What is installed here


@cache
def find_compiler() -> str | None:
    return next((path for name in ("cc", "gcc", "clang") if (path := shutil.which(name))), None)


@cache
def postgres_folder() -> Path | None:
    """The folder of initdb and pg_ctl; distributions keep it off the PATH."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    versions = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    newest = max(versions, key=lambda path: float(path.parts[-3]), default=None)
    return newest.parent if newest else None


@cache
def node_version() -> tuple[int, ...]:
    """Node's version, () where it isn't installed."""
    if not shutil.which("node"):
        return ()
    return tuple(int(part) for part in re.findall(r"\d+", output_of(["node", "--version"])))


@cache
def missing_guide() -> str | None:
    """None when the guide's server can run."""
    return install(GUIDE, "express")


@cache
def missing_socketio() -> str | None:
    """None when Node's Socket.IO can run."""
    return install(SOCKETIO, "socket.io")


def install(folder: Path, last: str) -> str | None:
    """Install a Node server's packages once, of which `last` is the last; None when it can run."""
    if not node_version() or not shutil.which("npm"):
        return "node and npm aren't installed"
    if (folder / "node_modules" / last).exists():
        return None
    # No lock file: it would hold the registry's address. The pins in package.json are exact.
    command = ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error"]
    result = subprocess.run(command, check=False, cwd=folder, capture_output=True, text=True)
    return None if result.returncode == 0 else f"npm install failed: {result.stderr.strip()[-200:]}"


def missing_guide_pg() -> str | None:
    return missing_guide() or (None if postgres_folder() else "PostgreSQL isn't installed")


def missing_guide_sqlite() -> str | None:
    if missing := missing_guide():
        return missing
    there = node_version() >= (22, 13) or (GUIDE / "node_modules" / "better-sqlite3").exists()
    return None if there else "neither better-sqlite3 nor a Node with SQLite (22.13) is there"


@cache
def nginx_modules() -> Path | None:
    """The folder with nginx's Nchan module."""
    nginx = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if nginx is None:
        return None
    found = re.search(r"--modules-path=(\S+)", output_of([nginx, "-V"]))
    folder = Path(found[1]) if found else Path("/usr/lib/nginx/modules")
    return folder if (folder / "ngx_nchan_module.so").exists() else None


def missing_nchan() -> str | None:
    return None if nginx_modules() else "nginx with libnginx-mod-nchan isn't installed"


def missing_rtapp_pg() -> str | None:
    return missing_rtapp() or (None if postgres_folder() else "PostgreSQL isn't installed")


def missing_rtapp() -> str | None:
    return None if (ROOT / "rtapp.py").exists() else "rtapp.py isn't there"


# How each is started


def launch_rtapp(workbench: Workbench, folder: Path, url: str = "", token: str = "") -> Launch:
    """On SQLite, or with `url` one of several nodes that know the same `token`."""
    token = token or secrets.token_urlsafe(24)
    settings = {"history_messages": 1_000_000, "max_connections": workbench.max_connections}
    command = [workbench.python, str(ROOT / "rtapp.py"), "--port", "0", "--no-browser"]
    command += ["--data", str(folder / "data")]
    for key, value in settings.items():
        command += ["--set", f"{key}={value}"]
    environment = {"RTAPP_ADMIN_TOKEN": token, **({"DATABASE_URL": url} if url else {})}
    return Launch(command, environment, token)


def launch_rtapp_pg(workbench: Workbench, folder: Path) -> Launch:
    return launch_rtapp(workbench, folder, workbench.postgres().new_database())


@contextlib.contextmanager
def two_nodes(workbench: Workbench) -> Iterator[tuple[Server, Server]]:
    """Two nodes of rtapp on one new database."""
    url, token = workbench.postgres().new_database(), secrets.token_urlsafe(24)
    node = Kind("node", lambda bench, folder: launch_rtapp(bench, folder, url, token))
    with node.running(workbench, "node") as here, node.running(workbench, "node") as there:
        yield here, there


def launch_guide(store: str) -> Callable[[Workbench, Path], Launch]:
    def launch(workbench: Workbench, folder: Path) -> Launch:
        environment = {"PORT": "0", "STORE": store, "SQLITE_FILE": str(folder / "guide.db")}
        environment["NODE_ENV"] = "production"
        if store == "pg":
            environment["DATABASE_URL"] = workbench.postgres().url
        return Launch(["node", str(GUIDE / "server.js")], environment)

    return launch


def launch_socketio(_workbench: Workbench, _folder: Path) -> Launch:
    environment = {"PORT": "0", "NODE_ENV": "production"}
    return Launch(["node", str(SOCKETIO / "server.js")], environment)


def launch_ceiling(workbench: Workbench, _folder: Path) -> Launch:
    return Launch([str(workbench.compile("ceiling"))])


NCHAN_CONFIG = """\
load_module {modules}/ngx_nchan_module.so;
{user}
daemon off;
pid {folder}/pid;
error_log stderr error;
worker_processes 1;  # the others use one core too
worker_rlimit_nofile {files};
events {{ worker_connections {files}; }}
http {{
  access_log off;
  tcp_nodelay on;
  keepalive_requests 100000000;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  nchan_shared_memory_size 256M;
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    location = /api/broadcast {{
      nchan_publisher;
      nchan_channel_id bench;
      nchan_message_buffer_length 1000;
      nchan_message_timeout 60s;
    }}
    location = /api/events {{
      nchan_subscriber eventsource;
      nchan_channel_id bench;
      nchan_subscriber_first_message newest;
    }}
  }}
}}
"""


def launch_nchan(workbench: Workbench, folder: Path) -> Launch:
    port = free_port()
    config = folder / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    config.write_text(
        NCHAN_CONFIG.format(
            modules=nginx_modules(),
            user=user,
            folder=folder,
            port=port,
            files=workbench.max_connections + 100,
        )
    )
    nginx = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin") or "nginx"
    command = [nginx, "-p", str(folder), "-c", str(config), "-e", "stderr"]
    return Launch(command, port=port)


PATHS = {"sse": "/api/events", "socket.io": "/socket.io/?EIO=4&transport=websocket"}
KINDS: dict[str, Kind] = {
    "rtapp": Kind("rtapp", launch_rtapp, missing_rtapp, ordered_ids=True, paths=PATHS),
    "rtapp-pg": Kind(
        "rtapp, PostgreSQL", launch_rtapp_pg, missing_rtapp_pg, ordered_ids=True, paths=PATHS
    ),
    "guide-pg": Kind("guide, PostgreSQL", launch_guide("pg"), missing_guide_pg),
    "guide-sqlite": Kind("guide, SQLite", launch_guide("sqlite"), missing_guide_sqlite),
    "guide-memory": Kind("guide, in memory", launch_guide("memory"), missing_guide),
    "nchan": Kind("Nchan", launch_nchan, missing_nchan),
    "socketio": Kind("socket.io, in memory", launch_socketio, missing_socketio, paths=PATHS),
    "ceiling": Kind("bare C loop", launch_ceiling, ordered_ids=True),
}
