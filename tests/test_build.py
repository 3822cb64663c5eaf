"""The built program in an empty environment. RTAPP_LONG=1 also builds the one-file form."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from support import LONG, PATIENCE, ROOT, Server, wait_for


def build(folder: Path, variant: str = "onedir") -> Path:
    """Build the program; skips by name where PyInstaller can't."""
    for tool in ("objdump", "objcopy", "ldd"):
        if sys.platform == "linux" and not shutil.which(tool):
            pytest.skip(f"PyInstaller needs {tool} (Debian: binutils, libc-bin)")
    done = subprocess.run(
        [sys.executable, "-m", "PyInstaller", "--noconfirm", "--distpath", str(folder / "dist")]
        + ["--workpath", str(folder / "work"), str(ROOT / "build.spec")],
        env={**os.environ, "RTAPP_BUILD": variant},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    if "Python library not found" in done.stderr or "built without a shared library" in done.stderr:
        pytest.skip("this Python has no shared library for PyInstaller (Debian: libpython3)")
    assert done.returncode == 0, done.stderr[-3000:]
    path = {"onedir": "rtapp/rtapp", "onefile": "onefile/rtapp"}[variant]
    return folder / "dist" / path


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built folder's program."""
    return build(tmp_path_factory.mktemp("build"))


def bare(program: Path, data: Path) -> Server:
    """The built program with nothing in its environment."""
    return Server(data, "serve", launcher=["env", "-i", str(program)])


def run_bare(program: Path, *arguments: str, **environ: str) -> str:
    """What the built program prints; fails unless it ends well."""
    command = [str(program), *arguments]
    done = subprocess.run(
        command, env=environ, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_it_serves_and_loses_nothing_over_a_restart(program: Path, tmp_path: Path) -> None:
    with bare(program, tmp_path) as server:
        token = run_bare(program, "token", "create", "--name", "a", "--data", str(tmp_path))
        with server.stream("channel=a", token=token) as stream:
            for number in range(3):
                server.publish({"n": number}, "channel=a", token=token)
            assert [value["n"] for value in stream.values(3)] == [0, 1, 2]
            last = stream.last_id
        server.publish({"n": 3}, "channel=a", token=token)
        assert server.stop() == 0
        server.start()
        server.publish({"n": 4}, "channel=a", token=token)
        with server.stream("channel=a", token=token, headers={"Last-Event-ID": last}) as stream:
            assert stream.hello["recovered"]
            assert [value["n"] for value in stream.values(2)] == [3, 4]
        page = server.get("/", token=None).body.decode()
        script = re.search(r'src="(static/\w+/js/index\.js)"', page)
        assert script
        assert server.get(f"/{script[1]}", token=None).status == 200
        assert "sound" in run_bare(program, "doctor", "--data", str(tmp_path))
        assert server.stop() == 0


def test_without_arguments_it_is_the_desktop_program(program: Path, tmp_path: Path) -> None:
    """Here without a screen: it prints what the browser would open."""
    output = tmp_path / "output"
    environ = {"HOME": str(tmp_path), "RTAPP_PORT": "0"}
    with output.open("w") as file, subprocess.Popen([program], env=environ, stdout=file) as process:
        link = wait_for(lambda: re.search(r"open: (http\S+)/desktop#", output.read_text()), "it")
        connection = http.client.HTTPConnection(link[1].removeprefix("http://"), timeout=PATIENCE)
        with contextlib.closing(connection):
            connection.request("GET", "/desktop")
            assert connection.getresponse().status == 200
        process.terminate()
        assert process.wait(PATIENCE) == 0
    data = tmp_path / ".local" / "share" / "rtapp"
    assert (data / "rtapp.db").exists()


def test_every_licence_is_inside(program: Path) -> None:
    text = (program.parent / "_internal" / "THIRD-PARTY.txt").read_text("utf-8")
    names = re.findall(r"^=+\n(.+)\n=+$", text, re.M)
    packages = {name.split()[0].lower().replace("_", "-") for name in names}
    wanted = "bottle cryptography gevent greenlet msgspec peewee psycopg2-binary websockets"
    assert {*wanted.split(), "python", "pyinstaller", "socket.io"} <= packages
    assert "PERMISSION" in text.upper()
    libraries = [path.name for path in (program.parent / "_internal").glob("lib*.so*")]
    assert not [name for name in libraries if "readline" in name]  # it is under the GPL
    assert [name for name in libraries if name.split(".")[0] not in text] == []


def test_nothing_of_a_window_is_in_the_servers_build(program: Path) -> None:
    names = {path.name for path in (program.parent / "_internal").iterdir()}
    assert names & {"PySide6", "PyQt6", "webview", "gi", "tcl", "tk"} == set()


@pytest.mark.long
@pytest.mark.skipif(not LONG, reason="builds once more: RTAPP_LONG=1")
@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_killed_parent_leaves_no_orphan(tmp_path: Path) -> None:
    program = build(tmp_path, "onefile")
    server = bare(program, tmp_path / "data")
    with server:
        inner = wait_for(lambda: psutil.Process(server.pid).children(), "the unpacked program")[0]
        unpacked = Path(inner.environ().get("_PYI_APPLICATION_HOME_DIR", ""))
        os.kill(server.pid, signal.SIGKILL)
        wait_for(lambda: not inner.is_running(), "the unpacked program to end")
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=1)
                connection.request("GET", "/healthz")
                continue
            break
        else:
            pytest.fail("something answers on the port")
        assert unpacked.name.startswith("_MEI")
        assert not unpacked.exists()
