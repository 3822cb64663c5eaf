"""A throwaway PostgreSQL server for a run of the tests, and a database for each test.

It keeps its promises (`fsync` on, unless RTAPP_TEST_FAST_POSTGRES=1): tests kill it and look what
is left.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

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


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Cluster:
    """A server of its own on a free port. `stop` ends it and deletes its files."""

    def __init__(self, binaries: Path) -> None:
        self._binaries = binaries
        self._as_root = hasattr(os, "geteuid") and os.geteuid() == 0
        self.folder = Path(tempfile.mkdtemp(prefix="rtapp-pg-"))
        self.port = free_port()
        self._made = 0
        if self._as_root:  # the server refuses to run as root
            shutil.chown(self.folder, USER, USER)
        self._run(
            "initdb",
            "-D",
            str(self.data),
            "-A",
            "trust",
            "-U",
            USER,
            "-E",
            "UTF8",
            "--locale=C",
            "--no-sync",
        )
        self.start()

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._binaries / program), *arguments]
        if self._as_root:
            command = ["runuser", "-u", USER, "--", *command]
        with open(self.folder.parent / f"{self.folder.name}.log", "ab") as log:
            subprocess.run(command, stdout=log, stderr=log, cwd="/", check=True, timeout=60)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = (
            f"-c listen_addresses=127.0.0.1 -c port={self.port} -c max_connections=200"
            f" -c unix_socket_directories={self.folder} -c fsync=off"
        )
        self._run(
            "pg_ctl",
            "-D",
            str(self.data),
            "-w",
            "-l",
            str(self.folder / "log"),
            "-o",
            options,
            "start",
        )

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
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{database}"

    def sql(self, statement: str, database: str = USER) -> None:
        """Run a statement by itself."""
        connection = psycopg2.connect(self.url(database))
        try:
            connection.autocommit = True
            connection.cursor().execute(statement)
        finally:
            connection.close()

    def new_database(self) -> str:
        """The URL of a new, empty database."""
        self._made += 1
        name = f"rtapp{self._made}"
        self.sql(f"CREATE DATABASE {name}")
        return self.url(name)

    def stop(self) -> None:
        """End it and delete its files."""
        with contextlib.suppress(subprocess.SubprocessError):
            self.crash()
        shutil.rmtree(self.folder, ignore_errors=True)
        (self.folder.parent / f"{self.folder.name}.log").unlink(missing_ok=True)
