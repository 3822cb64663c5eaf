"""Run the tests: ``python3 tests/run.py [--quick] [--no-system] [pytest arguments]``.

Makes ``.venv`` beside the project, installs both requirement files into it when they changed, and
runs pytest there; pytest's exit code is passed on, 2 means that it could not be started. As root on
Debian it also installs the packages that some tests need (``--no-system`` leaves that out).
Elsewhere those tests skip by name. ``--quick`` is the verdict on the server in three minutes: over
the wire, on SQLite, without a browser and without such packages. All tests, and the quick ones, run
side by side, one worker more than cores; tests that are named run one after the other.

Only the standard library is used, since this runs before anything is installed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
REQUIREMENTS = (ROOT / "requirements.txt", ROOT / "tests" / "requirements.txt")
OLDEST_PYTHON = (3, 10)

# Commands that some tests need, and the Debian package that has each.
DEBIAN = {
    "caddy": "caddy",
    "certutil": "libnss3-tools",
    "chromium": "chromium",
    "chromium-headless-shell": "chromium-headless-shell",
    "nginx": "nginx-light",
    "node": "nodejs",
    "objcopy": "binutils",
    "pg_createcluster": "postgresql",  # psql alone is a client
    "pgbouncer": "pgbouncer",
    "php": "php-cli",
    "bridge": "iproute2",
    "nft": "nftables",
    "openssl": "openssl",
    "turnserver": "coturn",
    "firefox-esr": "firefox-esr",
}
APT_SECONDS = 600

# pytest-xdist's options, one worker more than cores, in the order of conftest.py; and what took
# longest.
WORKERS = (os.cpu_count() or 1) + 1
SIDE_BY_SIDE = (f"--numprocesses={WORKERS}", "--no-loadscope-reorder", "--durations=30")


class SetupError(Exception):
    """The tests can't be started; the message is one sentence for the person who tried."""


def check_python(version: tuple[int, ...] = sys.version_info[:3]) -> None:
    """Raise `SetupError` unless the Python is one that rtapp runs on."""
    if version < OLDEST_PYTHON:
        oldest, found = (".".join(map(str, v)) for v in (OLDEST_PYTHON, version))
        raise SetupError(f"rtapp needs Python {oldest} or newer, and this is Python {found}.")


def may_use_apt() -> bool:
    """Whether this is root on a Debian-like system."""
    return hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("apt-get") is not None


def quietly(command: Sequence[str], seconds: int | None = None, **variables: str) -> bool:
    """Run a command, and show what it printed only if it fails; whether it succeeded."""
    try:
        result = subprocess.run(
            command,
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        print(error, file=sys.stderr)
        return False
    if result.returncode:
        print(result.stdout, file=sys.stderr)
    return result.returncode == 0


def apt(*arguments: str) -> bool:
    """Run apt-get without a question, after any other that runs; whether it succeeded."""
    command = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=120", *arguments]
    return quietly(command, APT_SECONDS, DEBIAN_FRONTEND="noninteractive")


def apt_install(packages: Iterable[str]) -> list[str]:
    """Install Debian packages after one update of the lists; returns those that failed."""
    apt("update")  # Old lists name files that are gone.
    return [package for package in packages if not apt_install_one(package)]


def apt_install_one(package: str) -> bool:
    """Install one package: an unknown name (Ubuntu's differ) must not keep the others out."""
    print(f"Installing {package} with apt-get ...", flush=True)
    return apt("install", "--yes", "--no-install-recommends", package)


def install_system_packages() -> None:
    """Install what `DEBIAN` lists and this machine lacks; a failure is a warning: tests skip."""
    missing = [package for command, package in DEBIAN.items() if not shutil.which(command)]
    if missing and may_use_apt():
        for package in apt_install(missing):
            print(f"Warning: {package} could not be installed; tests skip.", file=sys.stderr)


def venv_package(version: tuple[int, ...] = sys.version_info[:3]) -> str:
    """The Debian package without which ``python3 -m venv`` has no pip to put in."""
    return f"python{version[0]}.{version[1]}-venv"


def can_make_venv() -> bool:
    """Whether ``venv`` and the pip that it installs are there; Debian packs them apart."""
    importlib.invalidate_caches()
    return all(importlib.util.find_spec(name) for name in ("venv", "ensurepip"))


def ensure_venv_module() -> None:
    """Raise `SetupError` if no environment can be made here, after trying to install what lacks."""
    if can_make_venv():
        return
    if may_use_apt():
        apt_install([venv_package()])
    if not can_make_venv():
        raise SetupError(
            "This Python can't make virtual environments: "
            f"install the package {venv_package()} (or python3-venv), then try again."
        )


def venv_python(venv: Path) -> Path:
    """The interpreter inside a virtual environment."""
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def stamp(files: Sequence[Path], version: str = sys.version) -> str:
    """A text that changes when a requirement file or the Python changes."""
    digest = hashlib.sha256(version.encode())
    for file in files:
        # The length in front keeps a line moved from one file to the other from going unnoticed.
        content = file.read_bytes()
        digest.update(b"%d " % len(content) + content)
    return digest.hexdigest()


def is_usable(venv: Path) -> bool:
    """Whether an environment is of this Python and has a pip (an interrupted one has none)."""
    ask = "import sys, pip; print(sys.version)"
    try:
        result = subprocess.run(
            [venv_python(venv), "-c", ask], capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return result.returncode == 0 and result.stdout.strip() == sys.version.strip()


def make_venv(venv: Path) -> None:
    """Make an empty virtual environment, in place of whatever is there."""
    ensure_venv_module()
    print(f"Making {venv.name} ...", flush=True)
    if not quietly([sys.executable, "-m", "venv", "--clear", str(venv)]):
        raise SetupError(f"The virtual environment {venv} could not be made.")


def install(venv: Path, files: Sequence[Path]) -> None:
    """Install requirement files into a virtual environment."""
    print("Installing the requirements ...", flush=True)
    command = [str(venv_python(venv)), "-m", "pip", "install", "--quiet", "--no-input"]
    command.append("--disable-pip-version-check")
    for file in files:
        command += ["--requirement", str(file)]
    if not quietly(command):
        raise SetupError(
            "The requirements could not be installed: see pip's message above, "
            "and whether the package registry can be reached from here."
        )


def ensure_venv(venv: Path = VENV, files: Sequence[Path] = REQUIREMENTS) -> None:
    """Make the environment what the requirement files say, unless its stamp says that it is."""
    mark = venv / "requirements.stamp"
    wanted = stamp(files)
    if venv_python(venv).exists() and mark.exists() and mark.read_text("ascii") == wanted:
        return
    if not is_usable(venv):
        make_venv(venv)
    # Removed first and written last: an interrupted installation isn't taken for a whole one.
    mark.unlink(missing_ok=True)
    install(venv, files)
    mark.write_text(wanted, "ascii")


def names_tests(argument: str) -> bool:
    """Whether a pytest argument says which tests to run (a path, perhaps with ``::name``)."""
    path = argument.split("::", 1)[0]
    return not argument.startswith("-") and (ROOT / path).exists()


def pytest_command(venv: Path, arguments: Sequence[str]) -> list[str]:
    """The command line for pytest: the whole folder by several workers, unless the arguments name
    tests."""
    which = [] if any(map(names_tests, arguments)) else [*SIDE_BY_SIDE, "tests"]
    return [str(venv_python(venv)), "-m", "pytest", *which, *arguments]


def run(arguments: Sequence[str]) -> int:
    """Prepare this machine, run pytest, and return its exit code."""
    check_python()
    if not {"--no-system", "--quick"} & set(arguments):
        install_system_packages()
    ensure_venv()
    command = pytest_command(VENV, [a for a in arguments if a != "--no-system"])
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def main() -> int:
    """Run the tests; 2 with one sentence if that can't be done here."""
    try:
        return run(sys.argv[1:])
    except SetupError as error:
        print(error, file=sys.stderr)
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
