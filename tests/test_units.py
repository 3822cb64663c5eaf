"""What the pages compute without a browser, under `node --test`: each of its tests is one here."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

from support import PROGRAM

STATIC = PROGRAM.with_name("static")  # of a changed copy too, to see that a test notices
UNITS = Path(__file__).with_name("units")
FILES = sorted(path.name for path in UNITS.glob("*.test.mjs"))
OLDEST_NODE = (18, 15)  # its runner takes a reporter
SECONDS = 120
NAMED = re.compile(r"^test\((['\"])(.+)\1, ", re.MULTILINE)
TESTS = [
    (file, name) for file in FILES for _, name in NAMED.findall((UNITS / file).read_text("utf-8"))
]


class Run(NamedTuple):
    """What was wrong in each test that ran, empty where nothing was; and what Node said beside."""

    faults: dict[tuple[str, str], str]
    said: str


def found_node() -> str:
    """The command; skips by name where there is none, or an older one."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node (Debian: nodejs)")
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    version = tuple(map(int, re.findall(r"\d+", said)[:2]))
    if version < OLDEST_NODE:
        pytest.skip(
            f"needs node {'.'.join(map(str, OLDEST_NODE))} or newer, this is {said.strip()}"
        )
    return node


def copied(folder: Path) -> Path:
    """The pages and their tests, in a folder that says that its scripts are modules: Node would
    take them for CommonJS before 20.19, and browsers need no such file."""
    shutil.copytree(STATIC, folder / "static")
    shutil.copytree(UNITS, folder / "tests" / "units")
    (folder / "package.json").write_text('{"type": "module"}')
    return folder


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """All of them, by one command."""
    command = [found_node(), "--test", "--test-reporter=./tests/units/reporter.mjs"]
    done = subprocess.run(
        [*command, *(f"tests/units/{file}" for file in FILES)],
        cwd=copied(tmp_path_factory.mktemp("units")),
        capture_output=True,
        encoding="utf-8",
        timeout=SECONDS,
        check=False,
    )
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return Run({(row["file"], row["name"]): row["fault"] for row in rows}, done.stderr)


@pytest.mark.parametrize(("file", "name"), TESTS, ids=lambda text: text.removesuffix(".test.mjs"))
def test_of_the_pages(ran: Run, file: str, name: str) -> None:
    fault = ran.faults.get((file, name), f"it was not run:\n{ran.said}")
    if fault:
        pytest.fail(fault, pytrace=False)


def test_every_test_of_the_pages_is_one_here(ran: Run) -> None:
    """Whatever ran, and nothing else."""
    assert set(ran.faults) == set(TESTS)
