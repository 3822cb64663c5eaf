"""What is written about the program is true. `python tests/test_docs.py --write` writes the
settings table of README.md."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import rtapp
from support import ROOT

README = ROOT / "README.md"
MARKED = re.compile(r"(<!-- settings: [^>]*-->\n).*?(<!-- /settings -->)", re.S)


def settings_table() -> str:
    """The table of settings as Markdown."""
    lines = ["| setting | default | what it does |", "|---|---|---|"]
    for row in rtapp.SETTINGS.values():
        name = f"`{row.key}`" + (f" (`--{row.key.replace('_', '-')}`)" if row.has_option else "")
        default = ",".join(row.default) if row.kind == "list" else str(row.default)
        default = {"True": "true", "False": "false", "": "none"}.get(default, f"{default}")
        later = " Takes effect at the next start." if row.next_start else ""
        lines.append(f"| {name} | {default} | {row.description}{later} |")
    return "\n".join(lines) + "\n"


def test_readme_has_the_settings_table() -> None:
    found = MARKED.search(README.read_text())
    assert found and found[0] == found[1] + settings_table() + found[2], (
        "run: python tests/test_docs.py --write"
    )


def test_readme_names_every_command_and_api_path_exists() -> None:
    text = README.read_text()
    (commands,) = (a.choices for a in rtapp.make_parser()._actions if a.dest == "==SUPPRESS==")
    for name in commands:
        assert re.search(rf"rtapp\.py \[?{name}|· `{name}", text), name
    known = {re.sub(r"<\w+(:\w+)?>", ":x", row.path) for row in rtapp.ROUTES}
    for path in re.findall(r"/api/[a-z./:A-Z]+[a-zA-Z]", text):
        assert re.sub(r":\w+", ":x", path) in known, path


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
    README.write_text(MARKED.sub(lambda m: m[1] + settings_table() + m[2], README.read_text()))
