"""The short paths of the README and the guides, run as they stand, in both languages."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from conftest import Certificate
from support import GUIDES, PATIENCE, PROGRAM, ROOT, Server

ENDINGS = (".md", ".tr.md")
# Where commands stand: the file, and the title in each language.
TRY, SERVER, DESKTOP, LAN = (
    ("README", "## Try it", "## Deneyin"),
    ("static/docs/operator", "## Run it as a server", "## Sunucu olarak"),
    ("static/docs/call-host", "## As a desktop program", "## Masaüstü programı"),
    ("static/docs/call-host", "## On your network (LAN)", "## Ağınızda"),
)
# What is there in both languages.
PAIRS = ["README.md", *(f"static/docs/{path.name}" for path in GUIDES)]
both = pytest.mark.parametrize("language", [0, 1], ids=["en", "tr"])


def commands(place: tuple[str, str, str], language: int) -> str:
    """The first block of commands below a title."""
    text = (ROOT / (place[0] + ENDINGS[language])).read_text("utf-8")
    section = re.split(r"^## ", text.split(place[language + 1] + "\n", 1)[1], flags=re.M)[0]
    found = re.search(r"```sh\n(.*?)```", section, re.S)
    assert found, place
    return found[1]


def here(block: str) -> str:
    """Commands as they run on this machine: by the Python that runs the tests."""
    for theirs in (".venv/bin/python rtapp.py", "python rtapp.py"):
        block = block.replace(theirs, f"{sys.executable} {PROGRAM}")
    return block


def shell(block: str, folder: Path, **env: str) -> subprocess.Popen[str]:
    """Commands under way; what they print comes line by line."""
    environment = {name: value for name, value in os.environ.items() if "DISPLAY" not in name}
    # A browser that prints where it is sent, so that nothing opens here.
    environment |= {"RTAPP_DATA": str(folder / "data"), "BROWSER": "echo opened %s", **env}
    return subprocess.Popen(
        ["bash", "-c", "exec 2>&1\n" + here(block)],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def end(process: subprocess.Popen[str]) -> None:
    """End commands and all that they started."""
    os.killpg(process.pid, 15)
    process.communicate(timeout=PATIENCE)


@both
def test_start_try_publish(tmp_path: Path, language: int) -> None:
    """A token by the command line, a stream by curl, a message through it."""
    with Server(tmp_path / "data") as server:
        block = commands(TRY, language)
        assert "8000" in block
        block = block.replace("8000", str(server.port)) + "\nwait"
        process = shell(block, tmp_path)
        try:
            assert process.stdout is not None
            lines: list[str] = []
            while not re.search(r'data: \{"message":"(Hello|Merhaba)!"', "".join(lines)):
                line = process.stdout.readline()
                assert line, lines
                lines.append(line)
        finally:
            end(process)


@both
def test_serve_to_others(tmp_path: Path, language: int, certificate: Certificate) -> None:
    """A user, then TLS on all addresses; here only the port and the certificate are others."""
    first, second = here(commands(SERVER, language)).strip().splitlines()
    assert "user add ada" in first and "--host 0.0.0.0" in second
    environment = {**os.environ, "RTAPP_DATA": str(tmp_path / "data")}
    done = subprocess.run(
        first.split(),
        env=environment,
        input="correct horse battery staple\n" * 2,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done
    second = second.replace("--port 8443", "--port 0")
    second = second.replace("fullchain.pem", str(certificate.cert))
    second = second.replace("privkey.pem", str(certificate.key))
    process = shell(second, tmp_path)
    try:
        assert process.stdout is not None
        while "listening on https://" not in (line := process.stdout.readline()):
            assert line, "it ended"
    finally:
        end(process)


@both
@pytest.mark.parametrize("place", [LAN, DESKTOP], ids=["lan", "desktop"])
def test_begin_with_one_command(tmp_path: Path, language: int, place: tuple[str, str, str]) -> None:
    """It listens and says what to do next; without a screen the desktop says so."""
    process = shell(commands(place, language).strip(), tmp_path, RTAPP_PORT="0")
    try:
        assert process.stdout is not None
        text = ""
        while "listening on" not in text:
            line = process.stdout.readline()
            assert line, text
            text += line
        assert "Traceback" not in text
    finally:
        end(process)


def contributors(beginning: str) -> str:
    """A block of code of the contributor's guide, by its first line."""
    text = (ROOT / "static" / "docs" / "contributor.md").read_text("utf-8")
    blocks = [textwrap.dedent(block) for block in re.findall(r"```python\n(.*?)```", text, re.S)]
    return next(block for block in blocks if block.startswith(beginning))


def test_the_contributors_test(server: Server) -> None:
    code: dict[str, Any] = {}
    exec(contributors("def test_a_message_is_kept"), code)
    code["test_a_message_is_kept"](server)


# What joins a room and waves in it, with a program that can.
WAVING = """
import json, sys, urllib.request
import rtapp

session = "session-of-ada-0123456789"
with rtapp.create_server(data=sys.argv[1], access="open", port=0) as server:
    def ask(path, **body):
        data = json.dumps({"session": session, **body}).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(server.url + path, data, headers)
        return json.load(urllib.request.urlopen(request))
    ask("/api/video/rooms", name="Tea", roomId="tea")
    where = ask("/api/video/rooms/tea/join", displayName="Ada")["lastEventId"]
    ask("/api/video/rooms/tea/wave")
    url = f"{server.url}/api/events?session={session}&lastEventId={where}"
    for line in urllib.request.urlopen(url):
        if b"room-wave" in line and line.startswith(b"data:"):
            print(json.loads(line[5:])["text"])
            break
"""


def test_the_contributors_setting_route_and_event(tmp_path: Path) -> None:
    """The lines of the guide, put where it says, are all that it takes."""
    guide = (ROOT / "static" / "docs" / "contributor.md").read_text("utf-8")
    row = "Setting(" + guide.split("`Setting(")[1].split("`")[0]
    text = PROGRAM.read_text("utf-8")
    for before, added in (
        ('    Setting("kiosk_join"', f"    {row},\n"),
        ('@route("GET", f"{ROOM}/chat"', contributors("@route") + "\n\n"),
    ):
        assert text.count(before) == 1
        text = text.replace(before, added + before)
    (tmp_path / "rtapp.py").write_text(text, "utf-8")
    (tmp_path / "static").symlink_to(ROOT / "static")
    done = subprocess.run(
        [sys.executable, "-c", WAVING, str(tmp_path / "data")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.stdout.splitlines()[-1:] == ["Hello"], done.stdout + done.stderr


@pytest.mark.parametrize("name", PAIRS)
def test_both_languages_say_the_same(name: str) -> None:
    """The Turkish one may be shorter, but its commands are those of the English one."""
    english = (ROOT / name).read_text("utf-8")
    turkish = (ROOT / name.replace(".md", ".tr.md")).read_text("utf-8")
    blocks = re.findall(r"```(?:sh|python|js)\n(.*?)```", turkish, re.S)
    assert len(blocks) == len(re.findall(r"```(?:sh|python|js)\n", english))
    for block in blocks:
        for line in block.strip().splitlines():
            code = line.split("  #")[0].rstrip()
            for theirs, ours in (
                ("Merhaba!", "Hello!"),
                ("Hoş geldiniz!", "Welcome!"),
                ("--name ben", "--name me"),
                ("channel=haber", "channel=news"),
            ):
                code = code.replace(theirs, ours)
            assert code in english, line
