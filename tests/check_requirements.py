"""Do the pins install as binary wheels on every Python and platform that we promise?

pip can look for the wheels of another platform (``--platform``, ``--python-version``), but it
evaluates environment markers, those of our files and those of the packages, against the
interpreter that runs it. So the markers are evaluated here, for each target; pip is then asked
with ``--no-deps`` for exactly the pins that apply there, and what their metadata asks for is
compared with the pins. Nothing is installed. For each target it shows that

* a name that has several lines has exactly one that applies,
* every pin has a wheel that the target accepts,
* everything that a pinned package requires is pinned too, at a version that satisfies it.

The short form takes the program's file, the oldest and the newest Python on Linux, one of them on
each other system, and the odd targets. ``RTAPP_LONG=1`` takes every target and the tests' file too
(its wheels are big).

    python tests/check_requirements.py
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

TESTS = Path(__file__).resolve().parent
PROGRAM = TESTS.parent / "requirements.txt"
TOOLS = TESTS / "requirements.txt"

PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")

# The only packages without a wheel. pip builds one on the spot, which needs no compiler as long as
# they are pure Python; `sdist_problems` looks whether they are.
SDIST_ONLY = frozenset({"proxy-tools"})

COMPILED = frozenset({".c", ".cc", ".cpp", ".f", ".f90", ".go", ".pxd", ".pyx", ".rs"})

Pins = dict[str, Requirement]


class RegistryUnreachable(Exception):
    """The package registry doesn't answer, so nothing can be said about the pins."""


@dataclass(frozen=True)
class Platform:
    """A system as pip's tags and as the values that environment markers see."""

    name: str
    tags: tuple[str, ...]
    os_name: str
    sys_platform: str
    platform_system: str
    platform_machine: str


def _manylinux(machine: str, oldest: int, aliases: dict[str, int]) -> tuple[str, ...]:
    """Tags for glibc 2.`oldest` to 2.28; pip takes them literally, none implies an older one."""
    tags = [f"manylinux_2_{minor}_{machine}" for minor in range(28, oldest - 1, -1)]
    return (*tags, *(f"{alias}_{machine}" for alias, minor in aliases.items() if minor >= oldest))


_ALIASES = {"manylinux2014": 17, "manylinux2010": 12, "manylinux1": 5}

# macOS 11 is the oldest that gevent's wheels accept; pip adds the older and universal2 tags itself.
PLATFORMS = (
    Platform(
        "linux-x86_64", _manylinux("x86_64", 5, _ALIASES), "posix", "linux", "Linux", "x86_64"
    ),
    Platform(
        "linux-aarch64", _manylinux("aarch64", 17, _ALIASES), "posix", "linux", "Linux", "aarch64"
    ),
    Platform("macos-arm64", ("macosx_11_0_arm64",), "posix", "darwin", "Darwin", "arm64"),
    Platform("macos-x86_64", ("macosx_11_0_x86_64",), "posix", "darwin", "Darwin", "x86_64"),
    Platform("windows-amd64", ("win_amd64",), "nt", "win32", "Windows", "AMD64"),
)


@dataclass(frozen=True)
class Target:
    """One Python on one platform."""

    python: str
    platform: Platform

    def __str__(self) -> str:
        return f"{self.platform.name}-py{self.python}"

    def environment(self) -> dict[str, str]:
        """Every variable that a marker may name, so that none is taken from this interpreter."""
        return {
            "extra": "",
            "implementation_name": "cpython",
            "implementation_version": f"{self.python}.0",
            "os_name": self.platform.os_name,
            "platform_machine": self.platform.platform_machine,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": self.platform.platform_system,
            "platform_version": "",
            "python_full_version": f"{self.python}.0",
            "python_version": self.python,
            "sys_platform": self.platform.sys_platform,
        }

    def applies(self, requirement: Requirement) -> bool:
        """Whether the requirement's marker, if any, is true on this target."""
        return requirement.marker is None or requirement.marker.evaluate(self.environment())


ALL_TARGETS = tuple(Target(python, platform) for platform in PLATFORMS for python in PYTHONS)

# Oldest and newest of Linux, one of them elsewhere, and where a marker chooses: gevent (ARM Linux
# with 3.10, macOS below 3.12) and cryptography (Intel Mac).
_SHORT = {
    "linux-x86_64": ("3.10", "3.14"),
    "linux-aarch64": ("3.10",),
    "macos-arm64": ("3.14",),
    "macos-x86_64": ("3.11",),
    "windows-amd64": ("3.10",),
}
SHORT_TARGETS = tuple(
    target for target in ALL_TARGETS if target.python in _SHORT[target.platform.name]
)


LONG = os.environ.get("RTAPP_LONG") == "1"
TARGETS = ALL_TARGETS if LONG else SHORT_TARGETS


def read_pins(path: Path) -> list[Requirement]:
    """The requirements in a file, in order; comments and blank lines left out."""
    lines = (
        line.split("#", 1)[0].strip() for line in path.read_text(encoding="utf-8").splitlines()
    )
    return [Requirement(line) for line in lines if line]


def name_of(requirement: Requirement) -> str:
    """The package's name in the form in which names are compared."""
    return canonicalize_name(requirement.name)


def version_of(pin: Requirement) -> str:
    """The version of an exact pin."""
    return next(iter(pin.specifier)).version


def inexact(pins: Iterable[Requirement]) -> list[str]:
    """A sentence for each requirement that isn't pinned to one version."""
    return [
        f"{pin.name}: not pinned by =="
        for pin in pins
        if [s.operator for s in pin.specifier] != ["=="]
    ]


def pins_on(target: Target, pins: Iterable[Requirement]) -> Pins:
    """The pins that apply on a target, by name."""
    return {name_of(pin): pin for pin in pins if target.applies(pin)}


def choice_problems(target: Target, pins: Iterable[Requirement]) -> Iterator[str]:
    """A sentence for each name with several lines of which not exactly one applies."""
    lines: dict[str, list[Requirement]] = {}
    for pin in pins:
        lines.setdefault(name_of(pin), []).append(pin)
    for name, choice in lines.items():
        applying = sum(target.applies(pin) for pin in choice)
        if applying > 1 or (len(choice) > 1 and not applying):
            yield f"{target}: {applying} of the {len(choice)} lines for {name} apply, not one"


def closure_problems(
    target: Target, metadata: Iterable[dict[str, Any]], pins: Pins
) -> Iterator[str]:
    """A sentence for each requirement of a package, as its metadata says, that no pin satisfies."""
    for package in metadata:
        for needed in map(Requirement, package.get("requires_dist", ())):
            if target.applies(needed):
                yield from _unsatisfied(
                    f"{target}: {package['name']} {package['version']}", needed, pins
                )


def _unsatisfied(who: str, needed: Requirement, pins: Pins) -> Iterator[str]:
    pin = pins.get(name_of(needed))
    if needed.extras:
        yield f"{who} needs {needed}: this check can't follow extras"
    elif pin is None:
        yield f"{who} needs {needed.name}, which isn't pinned"
    elif not needed.specifier.contains(version_of(pin), prereleases=True):
        yield f"{who} needs {needed}, but the pin is {pin}"


def _pip(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pip", "--no-input", "--disable-pip-version-check", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=240, check=False
    )


def ensure_reachable() -> None:
    """Raise `RegistryUnreachable` unless pip, as configured, gets an answer from its registry."""
    with tempfile.TemporaryDirectory() as folder:
        quick = ("--no-cache-dir", "--retries", "0", "--timeout", "15")
        probe = _pip(
            "install",
            "--dry-run",
            "--no-deps",
            "--only-binary=:all:",
            "--target",
            folder,
            *quick,
            "pip",
        )
    if probe.returncode:
        raise RegistryUnreachable("the package registry can't be reached")


def _complaint(result: subprocess.CompletedProcess[str]) -> str:
    """pip's verdict, the last of its errors, once it's sure that they are about the pins."""
    ensure_reachable()
    errors = [line for line in result.stderr.splitlines() if line.startswith("ERROR:")]
    return errors[-1] if errors else result.stderr.strip()


def find_wheels(target: Target, pins: Pins) -> tuple[list[dict[str, Any]], list[str]]:
    """Ask pip for a wheel of each pin: the metadata of all, or a word on the first missing."""
    wanted = [f"{name}=={version_of(pin)}" for name, pin in pins.items() if name not in SDIST_ONLY]
    tags = [f"--platform={tag}" for tag in target.platform.tags]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        result = _pip(
            *("install", "--dry-run", "--ignore-installed", "--no-deps", "--only-binary=:all:"),
            *(*tags, "--implementation=cp", f"--python-version={target.python}"),
            *("--target", folder, "--report", str(report), *wanted),
        )
        if result.returncode:
            return [], [f"{target}: {_complaint(result)}"]
        found = json.loads(report.read_text(encoding="utf-8"))["install"]
    return [item["metadata"] for item in found], []


def sdist_problems(pins: Iterable[Requirement]) -> Iterator[str]:
    """A sentence for each package of `SDIST_ONLY` that would need more than Python to be built."""
    for pin in pins:
        if name_of(pin) in SDIST_ONLY:
            yield from _build_problems(f"{pin.name}=={version_of(pin)}")


def _build_problems(wanted: str) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        result = _pip("download", "--no-deps", "--no-binary=:all:", "--dest", folder, wanted)
        if result.returncode:
            yield f"{wanted}: {_complaint(result)}"
            return
        with tarfile.open(next(Path(folder).glob("*.tar.gz"))) as archive:
            sources = [name for name in archive.getnames() if Path(name).suffix in COMPILED]
    if sources:
        yield f"{wanted}: not pure Python: {', '.join(sources)}"


def check(target: Target, program: list[Requirement], tools: list[Requirement]) -> list[str]:
    """All that is wrong on one target. The program's pins must be complete without the tests'."""
    problems = [*choice_problems(target, [*program, *tools])]
    everything = pins_on(target, [*program, *tools])
    metadata, missing = find_wheels(target, everything)
    alone = pins_on(target, program)
    ours = [package for package in metadata if canonicalize_name(package["name"]) in alone]
    theirs = [package for package in metadata if canonicalize_name(package["name"]) not in alone]
    problems += missing
    problems += closure_problems(target, ours, alone)
    problems += closure_problems(target, theirs, everything)
    return problems


def main() -> int:
    """Check every target: 0 if all is well, 1 if a pin is wrong, 2 if the registry is away."""
    program, tools = read_pins(PROGRAM), read_pins(TOOLS) if LONG else []
    problems = inexact([*program, *tools])
    try:
        ensure_reachable()
        problems += sdist_problems(program)
        for target in TARGETS:
            found = check(target, program, tools)
            print(f"{target}: {'wrong' if found else 'ok'}", flush=True)
            problems += found
    except RegistryUnreachable as error:
        print(error, file=sys.stderr)
        return 2
    print("\n".join(problems) or "every pin has its wheel and every requirement its pin")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
