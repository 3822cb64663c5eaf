"""The built program in an empty environment. RTAPP_LONG=1 also builds the one-file form."""

from __future__ import annotations

import ast
import contextlib
import http.client
import importlib
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

import rtapp
from support import ADMIN, LONG, PATIENCE, PROGRAM, ROOT, Server, wait_for


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


@pytest.mark.skipif(sys.platform != "linux", reason="its loader's variable is Linux's")
@pytest.mark.parametrize("own", ["", "/opt/lib"])
def test_the_browser_finds_the_systems_libraries(program: Path, tmp_path: Path, own: str) -> None:
    """Not the program's: GTK and Qt would take the wrong ones."""
    noted, browser = tmp_path / "noted", tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "<${{LD_LIBRARY_PATH-none}}>" > {noted}\n')
    browser.chmod(0o755)
    environ = {"HOME": str(tmp_path), "RTAPP_PORT": "0", "DISPLAY": ":987", "BROWSER": str(browser)}
    environ |= {"LD_LIBRARY_PATH": own} if own else {}
    with subprocess.Popen([program, "desktop"], env=environ) as process:
        wait_for(lambda: noted.exists() and noted.read_text().endswith(">\n"), "the browser")
        process.terminate()
        assert process.wait(PATIENCE) == 0
    assert noted.read_text() == f"<{own or 'none'}>\n"


def test_what_is_imported_late_is_known() -> None:
    """A one-file program imports it at its start, while its files are there."""
    late = set()
    for function in ast.walk(ast.parse(PROGRAM.read_text("utf-8"))):
        for node in ast.walk(function) if isinstance(function, ast.FunctionDef) else ():
            if isinstance(node, ast.Import):
                late |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                late |= {f"{node.module}.{alias.name}" for alias in node.names}
    others = {"resource", "select", "datetime"}  # needed at the start by others
    own = "webview"  # of the window's process, which has it from its start
    for name in late - others:
        near = (name, name.rpartition(".")[0])
        known = [each for each in rtapp.LATE if each in near or each.startswith(near[1] + ".")]
        assert known or name.startswith(own), name
    for name in rtapp.LATE:
        importlib.import_module(name)


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


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program in one file."""
    return build(tmp_path_factory.mktemp("onefile"), "onefile")


@pytest.mark.long
@pytest.mark.skipif(not LONG, reason="builds once more: RTAPP_LONG=1")
@pytest.mark.skipif(os.name != "posix", reason="files in use can't be deleted")
def test_it_outlives_what_it_has_unpacked(file: Path, tmp_path: Path) -> None:
    """Systems clean their temporary folders up."""
    launcher = ["env", "-i", "RTAPP_ADMIN_TOKEN=" + ADMIN, str(file)]
    with Server(tmp_path / "data", "serve", launcher=launcher) as server:
        inner = wait_for(lambda: psutil.Process(server.pid).children(), "the unpacked program")[0]
        unpacked = Path(inner.environ().get("_PYI_APPLICATION_HOME_DIR", ""))
        assert unpacked.name.startswith("_MEI")
        shutil.rmtree(unpacked)
        for path in ("/", "/metrics", "/api/openapi.json", "/api/network/qr.svg"):
            assert server.get(path).status == 200, path
        assert server.post("/api/network", {"share": True}).json["state"] == "on"
        assert server.get("/ca.crt").status == 200
        assert server.get("/healthz", headers={"Host": "b\u00fccher.example"}).status == 421
        assert server.stop() == 0


@pytest.mark.long
@pytest.mark.skipif(not LONG, reason="builds once more: RTAPP_LONG=1")
@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_killed_parent_leaves_no_orphan(file: Path, tmp_path: Path) -> None:
    server = bare(file, tmp_path / "data")
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
