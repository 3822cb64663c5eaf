"""A throwaway PostgreSQL server for a run of the tests, and a database for each test.

Tests kill its processes and look what is left. They never take the system's cache from it as a
power cut would, so it doesn't wait for the disk (`fsync` off).
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psycopg2

USER = "postgres"


def server_binaries() -> Path | None:
    """The folder of the newest installed server's programs."""
    named = os.environ.get("RTAPP_TEST_POSTGRES_BIN")
    folders = [Path(named)] if named else list(Path("/usr/lib/postgresql").glob("*/bin"))
    found = [folder for folder in folders if (folder / "initdb").exists()]
    if not found and (command := shutil.which("initdb")):
        found = [Path(command).resolve().parent]
    return max(
        found, key=lambda f: float(f.parent.name) if f.parent.name.isdigit() else 0, default=None
    )


def roomy_folder() -> str | None:
    """Where thousands of small files are made and deleted soonest: in memory, if that has room.
    None is the temporary folder."""
    memory = "/dev/shm"
    has_room = os.path.isdir(memory) and shutil.disk_usage(memory).free > 8_000_000_000
    return memory if has_room else None


def free_port() -> int:
    """A port that nobody has, and that the system gives to nobody by itself: below those of
    outgoing connections (RFC 6335, 6), one of which could have it by the time it is bound."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_768)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


class Cluster:
    """A server of its own on a free port. `stop` ends it and deletes its files."""

    def __init__(
        self,
        binaries: Path,
        primary: Cluster | None = None,
        namespace: str | None = None,
        address: str = "127.0.0.1",
    ) -> None:
        """With `primary` it is that server's standby, which follows it asynchronously; with
        `namespace` it runs in that network namespace, at an `address` there."""
        self._binaries = binaries
        self._inside = ["ip", "netns", "exec", namespace] if namespace else []
        self.address = address
        self._as_root = hasattr(os, "geteuid") and os.geteuid() == 0
        self.folder = Path(tempfile.mkdtemp(prefix="rtapp-pg-", dir=roomy_folder()))
        self.port = free_port()
        self._made = 0
        self._cleared: list[str] = []  # the URLs of databases that are empty again
        if self._as_root:  # the server refuses to run as root
            shutil.chown(self.folder, USER, USER)
        where = ["-D", str(self.data), "-U", USER, "--no-sync"]
        if primary is None:
            self._run("initdb", *where, "-A", "trust", "-E", "UTF8", "--locale=C")
        else:
            of = ["-h", "127.0.0.1", "-p", str(primary.port)]
            self._run("pg_basebackup", *where, *of, "-R", "-c", "fast")
        if namespace:
            with open(self.data / "pg_hba.conf", "a") as file:
                file.write(f"host all all {address}/24 trust\n")
        self.start()

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._binaries / program), *arguments]
        if self._as_root:
            command = [*self._inside, "runuser", "-u", USER, "--", *command]
        with open(self.folder.parent / f"{self.folder.name}.log", "ab") as log:
            subprocess.run(command, stdout=log, stderr=log, cwd="/", check=True, timeout=60)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = (
            f"-c listen_addresses={self.address} -c port={self.port} -c max_connections=200"
            f" -c unix_socket_directories={self.folder} -c fsync=off"
            " -c autovacuum=off"  # of hundreds of databases that live for seconds
        )
        log = str(self.folder / "log")
        self._run("pg_ctl", "-D", str(self.data), "-w", "-l", log, "-o", options, "start")

    def standby(self) -> Cluster:
        """A server that follows this one."""
        return Cluster(self._binaries, self)

    def promote(self) -> None:
        """Become the primary, on a timeline of its own."""
        self._run("pg_ctl", "-D", str(self.data), "-w", "promote")

    def crash(self) -> None:
        """End it at once, without a last word."""
        self._run("pg_ctl", "-D", str(self.data), "-m", "immediate", "-w", "stop")

    def kill(self) -> None:
        """SIGKILL the main process; the others notice and end."""
        pid = int((self.data / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGKILL)

    def restart(self, seconds: float = 30) -> None:
        """Start it after a `kill`: it refuses while processes of the old one remain."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                return self.start()
            except subprocess.CalledProcessError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.3)

    def url(self, database: str = USER) -> str:
        """The URL of one of its databases."""
        return f"postgresql://{USER}@{self.address}:{self.port}/{database}"

    def mute(self) -> None:
        """End the connections on which nodes hear of each other's messages: they have to poll."""
        self.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'rtapp' AND query LIKE 'LISTEN%'"
        )

    def sql(self, statement: str, database: str = USER) -> list[Any]:
        """Run a statement by itself; its rows."""
        connection = psycopg2.connect(self.url(database))
        try:
            connection.autocommit = True
            cursor = connection.cursor()
            cursor.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []
        finally:
            connection.close()

    def new_database(self) -> str:
        """The URL of an empty database."""
        if self._cleared:
            return self._cleared.pop()
        self._made += 1
        name = f"rtapp{self._made}"
        self.sql(f"CREATE DATABASE {name}")
        return self.url(name)

    def clear(self, url: str) -> None:
        """Empty a database for another test: its files are three hundred to make, and to delete."""
        name = url.rsplit("/", 1)[1]
        self.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
        self.sql("DROP SCHEMA public CASCADE", name)
        self.sql("CREATE SCHEMA public", name)
        self._cleared.append(url)

    def stop(self) -> None:
        """End it and delete its files."""
        with contextlib.suppress(subprocess.SubprocessError):
            self.crash()
        shutil.rmtree(self.folder, ignore_errors=True)
        (self.folder.parent / f"{self.folder.name}.log").unlink(missing_ok=True)


class Proxy(threading.Thread):
    """Between a node and the database: it can lose the connection around a commit."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.lose: str | None = None  # the next commit: "before" it arrives, or its answer "after"
        self.start()

    def run(self) -> None:
        with contextlib.suppress(OSError):  # stopped
            while True:
                client = self._listener.accept()[0]
                server = socket.create_connection(("127.0.0.1", self._target))
                for pair in ((client, server, True), (server, client, False)):
                    threading.Thread(target=self._pass_on, args=pair, daemon=True).start()

    def stop(self) -> None:
        """Accept no more."""
        self._listener.close()

    def _pass_on(self, source: socket.socket, target: socket.socket, is_client: bool) -> None:
        with contextlib.suppress(OSError), source, target:
            while part := source.recv(65_536):
                if is_client and self.lose and b"COMMIT" in part:
                    self._lose_commit(part, source, target)
                    return
                target.sendall(part)
            target.shutdown(socket.SHUT_WR)

    def _lose_commit(self, part: bytes, client: socket.socket, server: socket.socket) -> None:
        how, self.lose = self.lose, None
        client.shutdown(socket.SHUT_RDWR)
        if how == "after":
            server.sendall(part)
        server.shutdown(socket.SHUT_WR)  # what was sent is read, and done, before the end is
