"""Moving from Flask-SocketIO or python-socketio: the guide's table, line by line, with
python-socketio's clients."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support import PATIENCE, ROOT, Server

PACKAGES = ("python-socketio==5.18.1", "requests", "websocket-client", "aiohttp")
GUIDE = (ROOT / "static" / "docs" / "moving-python.md").read_text()
HEAD = """import asyncio
import gevent
from rtapp import Refused, emit, on, sockets_leave, use
"""


def rows() -> list[tuple[str, str, str]]:
    """Of each line of the table: our code, what a client does, and what that gives as JSON."""
    found = []
    for line in re.findall(r"^\| (.+) \|$", GUIDE, re.MULTILINE)[1:]:
        ours, client = (re.findall(r"`([^`]+)`", cell) for cell in line.split(" | ")[2:4])
        if client:
            found.append(("\n".join(ours), client[0], client[1]))
    return found


SYNC = """
import json, queue, socketio, sys
url, transports, lines = sys.argv[1], sys.argv[2].split(","), json.load(sys.stdin)

def connected(auth, **more):
    client = socketio.Client(reconnection=False, **more)
    client.heard = {}
    def note(event, *values): client.heard.setdefault(event, queue.Queue()).put(list(values))
    for event in ("welcome", "said", "now", "disconnect"):
        client.heard[event] = queue.Queue()
        client.on(event, lambda *values, event=event: note(event, *values))
    client.connect(f"{url}?page=7", auth=auth, transports=transports, namespaces=["/", "/chat"])
    return client

def heard(client, event): return client.heard[event].get(timeout=20)

def refusal(auth):
    client, said = socketio.Client(reconnection=False), queue.Queue()
    client.on("connect_error", said.put)
    try:
        client.connect(url, auth=auth, transports=transports)
    except socketio.exceptions.ConnectionError:
        return said.get(timeout=20)["message"]

for line in lines:
    sio, other = connected({"name": "sio"}), connected({"name": "other"})
    print(json.dumps(eval(line)), flush=True)
    sio.disconnect()
    other.disconnect()
"""

ASYNC = """
import asyncio, json, socketio, sys
url, transports = sys.argv[1], sys.argv[2].split(",")

async def main():
    sio = socketio.AsyncClient(reconnection=False)
    said = asyncio.Queue()
    sio.on("said", said.put)
    sio.on("question", lambda n: n + 1)
    await sio.connect(url, auth={"name": "async"}, transports=transports)
    found = [await sio.call("add", (1, 2)), await sio.call("ask"), await sio.call("slow")]
    await sio.emit("echo", b"\\x01\\x02")
    found.append((await asyncio.wait_for(said.get(), 20)).hex())
    await sio.disconnect()
    print(json.dumps(found))

asyncio.run(main())
"""


@pytest.fixture
def guide_server(make_server: Callable[..., Server], tmp_path: Path) -> Server:
    """A server with all handlers of the table."""
    (tmp_path / "handlers.py").write_text(HEAD + "\n\n".join(ours for ours, _, _ in rows()))
    return make_server("--app", str(tmp_path / "handlers.py"), access="open")


def run_python(folder: Path, script: str, *arguments: str, given: Any = None) -> list[Any]:
    """What a script prints, as JSON, a line each."""
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        input=json.dumps(given),
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=PATIENCE * 5,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("transports", ["websocket", "polling", "polling,websocket"])
def test_the_guides_lines(
    pip_folder: Callable[..., Path], guide_server: Server, transports: str
) -> None:
    folder, url = pip_folder(*PACKAGES), f"http://127.0.0.1:{guide_server.port}"
    lines = rows()
    assert len(lines) >= 20
    codes, expected = [code for _, code, _ in lines], [json.loads(gives) for _, _, gives in lines]
    assert run_python(folder, SYNC, url, transports, given=codes) == expected
    [found] = run_python(folder, ASYNC, url, transports)
    assert found == [3, 21, "done", "0102"]


def test_handlers_are_tested_in_five_lines(pip_folder: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "handlers.py").write_text(HEAD + rows()[0][0])
    [code] = re.findall(r"```python\n(.+?)```", GUIDE, re.DOTALL)
    (tmp_path / "test_mine.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_mine.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{pip_folder(*PACKAGES)}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        timeout=PATIENCE * 5,
        check=False,
    )
    assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout + done.stderr
