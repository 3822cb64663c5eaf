"""What is written about the program is true. `python tests/test_docs.py --write` writes the
settings tables of the operator's guide."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import rtapp
from support import GUIDES, ROOT

DOCS = ROOT / "static" / "docs"
PAGES = [ROOT / "README.md", ROOT / "README.tr.md", *sorted(DOCS.glob("*.md"))]
ENGLISH = [ROOT / "README.md", *GUIDES]
MARKED = re.compile(r"(<!-- settings: [^>]*-->\n).*?(<!-- /settings -->)", re.S)


def settings_table(language: str) -> str:
    """The table of settings as Markdown."""
    texts = json.loads((ROOT / "static" / "i18n" / "settings.tr.json").read_text("utf-8"))
    turkish = language == "tr"
    head = "| ayar | varsayılan | ne yapar |" if turkish else "| setting | default | what it does |"
    lines = [head, "|---|---|---|"]
    for row in rtapp.SETTINGS.values():
        name = f"`{row.key}`" + (f" (`--{row.key.replace('_', '-')}`)" if row.has_option else "")
        default = ",".join(row.default) if row.kind == "list" else str(row.default)
        none = "yok" if turkish else "none"
        default = {"True": "true", "False": "false", "": none}.get(default, f"{default}")
        text = texts[row.key] if turkish else row.description
        later = "Sonraki başlatmada geçerli olur." if turkish else "Takes effect at the next start."
        lines.append(f"| {name} | {default} | {text}{f' {later}' if row.next_start else ''} |")
    return "\n".join(lines) + "\n"


def with_settings(language: str) -> tuple[Path, str, str]:
    """The operator's guide in a language, as it is and as it should be."""
    path = DOCS / {"en": "operator.md", "tr": "operator.tr.md"}[language]
    text = path.read_text("utf-8")
    assert MARKED.search(text), path
    return path, text, MARKED.sub(lambda m: m[1] + settings_table(language) + m[2], text)


@pytest.mark.parametrize("language", ["en", "tr"])
def test_the_guide_has_the_settings_table(language: str) -> None:
    _, text, wanted = with_settings(language)
    assert text == wanted, "run: python tests/test_docs.py --write"


def test_the_guides_name_every_command_and_api_paths_exist() -> None:
    text = "".join(path.read_text("utf-8") for path in PAGES)
    (commands,) = (a.choices for a in rtapp.make_parser()._actions if a.dest == "==SUPPRESS==")
    operator = (DOCS / "operator.md").read_text("utf-8")
    for name in commands:
        assert re.search(rf"rtapp\.py \[?{name}|· `{name}", operator), name
    known = {re.sub(r"<\w+(:\w+)?>", ":x", row.path) for row in rtapp.ROUTES}
    found = re.findall(r"/api/[a-z./:A-Z]+[a-zA-Z]", text)
    assert len(found) > 60
    for path in found:
        assert re.sub(r":\w+", ":x", path) in known, path


def test_the_readme_is_a_front_door() -> None:
    """Whoever comes by reads it whole; what is for some of them stands in their guide."""
    for path in PAGES[:2]:
        assert len(path.read_text("utf-8").splitlines()) <= 260, path


def test_both_readmes_have_the_same_figures() -> None:
    """Measured once, written twice."""
    found = []
    for path, title in zip(PAGES, ("## How fast", "## Ne kadar hızlı"), strict=False):
        section = path.read_text("utf-8").split(title)[1].split("\n## ")[0]
        rows = re.findall(r"^\|[^|]*\|(.+)\|$", section, re.MULTILINE)
        found.append([re.findall(r"\d+", row) for row in rows])
    assert found[0] == found[1] and len(found[0]) > 10


# ---- links ---------------------------------------------------------------------------------------


def without_code(text: str) -> str:
    text = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", "`", text)


def anchors(path: Path) -> set[str]:
    """The titles of a page as a code host and /docs name them in addresses."""
    text = re.sub(r"^```.*?^```$", "", path.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    named = [re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles]
    assert len(named) == len(set(named)), (path, named)
    return set(named)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_each_link_leads_somewhere(path: Path) -> None:
    """On a code host by its file; at /docs, where only the guides and pictures are, too."""
    links = re.findall(r"\]\(([^)\s]*)\)", without_code(path.read_text("utf-8")))
    assert links
    for link in links:
        assert not re.match(r"[a-z]+:|/", link), link
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.is_file(), link
        if anchor:
            assert anchor in anchors(target), link
        if path.parent == DOCS:  # at /docs the front door is the list of guides
            inside = target.is_relative_to(ROOT / "static")
            assert inside or (name in ("../../README.md", "../../README.tr.md") and not anchor)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_both_languages_lead_to_each_other(path: Path) -> None:
    """And a page's links stay in its language."""
    turkish = path.stem.endswith(".tr")
    other = path.name.replace(".tr", "") if turkish else path.name.replace(".md", ".tr.md")
    text = path.read_text("utf-8")
    first = f"[English]({other})" if turkish else f"[Türkçe]({other})"
    assert first in text.split("\n## ")[0]
    for link in re.findall(r"\]\(([^)#\s]+\.md)", without_code(text).replace(first, "")):
        assert link.endswith(".tr.md") == turkish or link == "CHANGELOG.md", link


# ---- what is run ---------------------------------------------------------------------------------

# Which file of tests runs each block of code, by what it says first; in Turkish it is the same one.
RUN = {
    "README.md": {
        "python3 -m venv": "test_system.py",  # on a machine that has all of it already
        "python3 tests/run.py": "test_bootstrap.py",
        "const eventSource": "test_pages.py",
        "await fetch('/api/broadcast'": "test_own_page.py",
        "TOKEN=": "test_readme.py",
        "const io =": "test_moving.py",
        "from rtapp import emit": "test_moving.py",
    },
    "call-host.md": {
        "python rtapp.py --lan": "test_readme.py",
        ".venv/bin/python rtapp.py desktop": "test_readme.py",
        ".venv/bin/python -m PyInstaller": "test_build.py",
    },
    "client.md": dict.fromkeys(
        (
            *("<!doctype html>", "import { useEffect", "import { onScopeDispose"),
            *("import { readFile", "import { connect, RtError }", "import json, os, time"),
        ),
        "test_rt_guide.py",
    ),
    "contributor.md": {
        "def test_a_message_is_kept": "test_readme.py",
        '@route("POST", f"{ROOM}/wave"': "test_readme.py",
    },
    "developer.md": {
        "const ws =": "test_own_page.py",
        "import { connect } from": "test_own_page.py",
    },
    "moving-python.md": {"import rtapp, socketio": "test_moving_python.py"},
    "operator.md": {
        ".venv/bin/python rtapp.py user add": "test_readme.py",
        "[Unit]": "test_docs.py",
        "$action = New-ScheduledTaskAction": "",  # there is no Windows here
        "export DATABASE_URL": "test_nodes.py",
        **dict.fromkeys(
            ("map $http_upgrade", "rtapp.example.org {", "<Proxy", "defaults"), "test_proxies.py"
        ),
    },
    "publish.md": dict.fromkeys(
        (
            *("publish() {", "import json\nimport os", "async function publish", "<?php"),
            *("package main", "import java.net.URI"),
        ),
        "test_recipes.py",
    ),
    "README.md in docs": {},
    "socketio-api.md": dict.fromkeys(("import json, os", "const url ="), "test_handlers.py"),
    "socketio.md": {
        "const io =": "test_moving.py",
        "from rtapp import emit": "test_moving.py",
        "import sqlite3": "test_socketio.py",
    },
}


@pytest.mark.parametrize("path", ENGLISH, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_block_of_code_is_run(path: Path) -> None:
    """A new one needs a test that runs it, and a line above."""
    name = "README.md in docs" if path == DOCS / "README.md" else path.name
    text = textwrap.dedent(path.read_text("utf-8").replace("\n   ", "\n"))
    blocks = re.findall(r"^```\w+\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert len(blocks) == len(RUN[name])
    for block, (beginning, tests) in zip(blocks, RUN[name].items(), strict=True):
        assert block.startswith(beginning), block
        assert not tests or (ROOT / "tests" / tests).is_file()
    other = path.with_name(path.name.replace(".md", ".tr.md")).read_text("utf-8")
    assert len(re.findall(r"^ *```\w+$", other, re.MULTILINE)) == len(blocks)


def test_the_unit_of_systemd_names_what_there_is() -> None:
    """Its options are those of the program; systemd isn't here to start it."""
    unit = re.findall(r"```ini\n(.*?)```", (DOCS / "operator.md").read_text("utf-8"), re.DOTALL)[0]
    command = re.findall(r"^ExecStart=\S+ \S+ (.+)$", unit, re.MULTILINE)[0]
    given = rtapp.make_parser().parse_args(command.split())
    assert given.parser.prog.endswith(" serve") and given.data == "/var/lib/rtapp"


# ---- the diagrams --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["message", "join"])
def test_a_diagram_names_what_the_code_has(name: str) -> None:
    found = []
    for file in (f"{name}.svg", f"{name}.tr.svg"):
        text = (ROOT / "static" / "img" / file).read_text("utf-8")
        names = re.findall(r"\b([A-Z]\w+)\.(_?\w+)\b", re.sub("Socket.IO|<[^>]*>", " ", text))
        found.append(names)
        for owner, part in names:
            assert hasattr(getattr(rtapp, owner), part), (owner, part)
        for function in re.findall(r"\b(make_draft|pack_arguments|append|join_\w+)\b", text):
            assert hasattr(rtapp, function), function
    assert found[0] == found[1] and len(found[0]) > 4


def test_the_map_has_every_part_in_order() -> None:
    listed = re.findall(r"^    ([A-Z][A-Za-z]*(?: line)?)  +\S", rtapp.__doc__ or "", re.MULTILINE)
    assert len(listed) == 17, listed
    for name in ("contributor.md", "contributor.tr.md"):
        text = (DOCS / name).read_text("utf-8").split("\n## ")[1]
        rows = re.findall(r"^\| ([A-Z][\w ]*) \|", text, re.MULTILINE)
        assert rows == listed


def test_changelog_names_the_version() -> None:
    assert f"## {rtapp.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_code_is_clean() -> None:
    """ruff and mypy find nothing."""
    for tool in (
        ["ruff", "check", "rtapp.py", "tests"],
        ["ruff", "format", "--check", "rtapp.py", "tests"],
        ["mypy", "--config-file", "tests/mypy.ini", "rtapp.py"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", *tool], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_nothing_of_a_machine_is_in_the_project() -> None:
    """No absolute path of somebody's home or checkout in what is committed."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    for name in filter(None, listed.split("\0")):
        text = (ROOT / name).read_bytes()
        assert str(ROOT).encode() + b"/" not in text, name


if __name__ == "__main__" and "--write" in sys.argv:
    for each in ("en", "tr"):
        file, _, wanted = with_settings(each)
        file.write_text(wanted, "utf-8")
