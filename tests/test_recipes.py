"""The recipes of static/docs/publish.md: each runs, and asks again when its answer was lost."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from support import ROOT, Server

TEXT = (ROOT / "static" / "docs" / "publish.md").read_text("utf-8")
RECIPES = dict(re.findall(r"^```(sh|python|js|php|go|java)\n(.*?)^```", TEXT, re.S | re.M))
# How the file of a recipe is run, by its language.
COMMANDS = {
    "sh": ["bash", "recipe.sh"],
    "python": [sys.executable, "recipe.py"],
    "js": ["node", "recipe.js"],
    "php": ["php", "recipe.php"],
    "go": ["go", "run", "recipe.go"],
    "java": ["java", "recipe.java"],
}


class Unlucky(BaseHTTPRequestHandler):
    """Passes requests on; the first one's answer is lost, the second one is refused for now."""

    protocol_version = "HTTP/1.1"
    server: Lossy

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        asked = self.server.asked
        wanted = ("Authorization", "Content-Type", "Idempotency-Key")
        asked.append({name: self.headers[name] for name in wanted})
        if len(asked) == 2:
            self.send_response(503)
            self.send_header("Retry-After", "1")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        answer = self.server.behind.post(self.path, body, headers=asked[-1], token=None)
        if len(asked) == 1:
            self.close_connection = True
            return
        self.send_response(answer.status)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class Lossy(ThreadingHTTPServer):
    def __init__(self, behind: Server) -> None:
        super().__init__(("127.0.0.1", 0), Unlucky)
        self.behind = behind
        self.asked: list[dict[str, str]] = []


@pytest.fixture
def lossy(server: Server) -> Iterator[Lossy]:
    """What stands before a server and has a bad day."""
    with Lossy(server) as made:
        Thread(target=made.serve_forever, daemon=True).start()
        yield made
        made.shutdown()


@pytest.fixture
def token(server: Server) -> str:
    """As the page says it: one that may publish there and nothing else."""
    wanted = {"name": "shop", "scopes": ["publish"], "channels": ["orders/*"]}
    return str(server.post("/api/tokens", wanted).json["token"])


def test_the_page_has_a_recipe_for_each() -> None:
    assert [*RECIPES] == [*COMMANDS]


def run(
    language: str, folder: Path, port: int, token: str, recipe: str
) -> subprocess.CompletedProcess[str]:
    """Run a recipe as its reader would, with the address and the token in the environment."""
    command = COMMANDS[language]
    if not shutil.which(command[0]):
        pytest.skip(f"{command[0]} is not installed")
    (folder / command[-1]).write_text(recipe)
    known = {"RTAPP_URL": f"http://127.0.0.1:{port}", "RTAPP_TOKEN": token}
    known["JDK_JAVA_OPTIONS"] = "-XX:TieredStopAtLevel=1"  # it compiles the recipe, and ends
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **known, "HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.mark.parametrize("language", COMMANDS)
def test_a_message_whose_answer_was_lost_is_stored_once(
    server: Server, lossy: Lossy, token: str, tmp_path: Path, language: str
) -> None:
    ended = run(language, tmp_path, lossy.server_port, token, RECIPES[language])
    assert ended.returncode == 0, ended.stderr
    assert re.search(r"success\W+true", ended.stdout, re.I)
    keys = [request["Idempotency-Key"] for request in lossy.asked]
    assert keys == ["order-4711-paid"] * 3
    stored = server.get("/api/messages?channel=orders/4711").json
    assert [message["content"] for message in stored] == [{"status": "paid"}]


@pytest.mark.parametrize("language", COMMANDS)
def test_a_refusal_is_told_and_not_asked_again(
    server: Server, token: str, tmp_path: Path, language: str
) -> None:
    recipe = RECIPES[language].replace("orders/4711", "others/1")
    recipe = recipe.replace("--retry 5", "--retry 0")  # curl can't tell; the page says so
    ended = run(language, tmp_path, server.port, token, recipe)
    assert ended.returncode != 0
    assert "forbidden" in ended.stdout + ended.stderr


def test_the_jdk_s_client_waits_for_100_continue(
    server: Server, token: str, tmp_path: Path
) -> None:
    ended = run("java", tmp_path, server.port, token, RECIPES["java"])
    assert ended.returncode == 0, ended.stderr
    assert len(server.get("/api/messages?channel=orders/4711").json) == 1
