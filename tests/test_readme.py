"""The README's short paths, run as they stand, in both languages."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import Certificate
from support import PATIENCE, PROGRAM, ROOT, Server

READMES = ("README.md", "README.tr.md")
TRY, SERVER, DESKTOP, LAN = (
    ("## Try it", "## Deneyin"),
    ("## Run it as a server", "## Sunucu olarak"),
    ("## As a desktop program", "## Masaüstü programı"),
    ("## On your network (LAN)", "## Ağınızda"),
)
both = pytest.mark.parametrize("language", [0, 1], ids=["en", "tr"])


def commands(titles: tuple[str, str], language: int) -> str:
    """The first block of commands below a title."""
    text = (ROOT / READMES[language]).read_text("utf-8")
    section = re.split(r"^## ", text.split(titles[language] + "\n", 1)[1], flags=re.M)[0]
    found = re.search(r"```sh\n(.*?)```", section, re.S)
    assert found, titles
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
@pytest.mark.parametrize("titles", [LAN, DESKTOP], ids=["lan", "desktop"])
def test_begin_with_one_command(tmp_path: Path, language: int, titles: tuple[str, str]) -> None:
    """It listens and says what to do next; without a screen the desktop says so."""
    process = shell(commands(titles, language).strip(), tmp_path, RTAPP_PORT="0")
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


def test_both_readmes_say_the_same() -> None:
    """The Turkish one is shorter, but its commands are those of the English one."""
    english, turkish = ((ROOT / name).read_text("utf-8") for name in READMES)
    blocks = re.findall(r"```(?:sh|python|js)\n(.*?)```", turkish, re.S)
    assert len(blocks) >= 8
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
