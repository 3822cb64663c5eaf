"""The pins in both requirement files, and that the check of them notices a wrong one.

The short form asks the registry about the program's pins on a few targets, RTAPP_LONG=1 about all.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from packaging.requirements import Requirement

import check_requirements as check

PROGRAM = check.read_pins(check.PROGRAM)
TOOLS = check.read_pins(check.TOOLS)

# Neither the Python nor the platform of most machines that run this.
ELSEWHERE = check.Target("3.10", check.PLATFORMS[-1])


def pins(*lines: str) -> list[Requirement]:
    return [Requirement(line) for line in lines]


def closure(*requires: str, pinned: list[Requirement]) -> list[str]:
    """The problems of one package that requires these, when those are pinned."""
    metadata: dict[str, Any] = {"name": "a", "version": "1", "requires_dist": requires}
    applying = check.pins_on(ELSEWHERE, pinned)
    return list(check.closure_problems(ELSEWHERE, [metadata], applying))


@pytest.fixture(scope="module")
def registry() -> None:
    """Skip what asks the registry where it can't be reached."""
    try:
        check.ensure_reachable()
    except check.RegistryUnreachable as error:
        pytest.skip(str(error))


def test_every_pin_is_exact() -> None:
    assert check.inexact([*PROGRAM, *TOOLS]) == []


def test_no_file_names_an_index_or_an_option() -> None:
    for path in (check.PROGRAM, check.TOOLS):
        text = path.read_text(encoding="utf-8")
        assert "://" not in text
        assert not [line for line in text.splitlines() if line.startswith("-")]


@pytest.mark.parametrize("target", check.ALL_TARGETS, ids=str)
def test_of_several_lines_for_a_package_one_applies(target: check.Target) -> None:
    assert list(check.choice_problems(target, [*PROGRAM, *TOOLS])) == []


def test_a_gap_and_an_overlap_between_lines_are_noticed() -> None:
    gap = pins("a==1 ; python_version > '3.11'", "a==2 ; python_version == '3.11'")
    overlap = pins("a==1", "a==2 ; sys_platform == 'win32'")
    assert list(check.choice_problems(ELSEWHERE, gap))
    assert list(check.choice_problems(ELSEWHERE, overlap))


def test_markers_are_those_of_the_target() -> None:
    lines = "platform_machine == 'AMD64' and os_name == 'nt' and platform_system == 'Windows'"
    assert ELSEWHERE.applies(Requirement(f"a ; {lines} and python_full_version < '3.11'"))
    assert not ELSEWHERE.applies(Requirement("a ; sys_platform == 'linux'"))
    assert not ELSEWHERE.applies(Requirement("a ; extra == 'docs'"))


def test_a_loose_pin_is_noticed() -> None:
    assert len(check.inexact(pins("a", "b>=1", "c==1,<2", "d==1"))) == 3


def test_what_a_package_requires_must_be_pinned() -> None:
    assert closure("b>=2", "c; sys_platform == 'linux'", pinned=pins("b==2")) == []
    assert "isn't pinned" in closure("b", pinned=[])[0]
    assert "but the pin is" in closure("b>=2", pinned=pins("b==1.9"))[0]
    assert "isn't pinned" in closure("b", pinned=pins("b==1 ; sys_platform == 'linux'"))[0]
    assert "extras" in closure("b[x]", pinned=pins("b==1"))[0]


@pytest.fixture(scope="module")
def verdicts(registry: None) -> Iterator[dict[check.Target, Future[list[str]]]]:
    """What is wrong on each target; pip asks for several at a time, for it waits more than it
    works."""
    tools = TOOLS if check.LONG else []
    with ThreadPoolExecutor(4) as pool:
        yield {target: pool.submit(check.check, target, PROGRAM, tools) for target in check.TARGETS}


@pytest.mark.parametrize("target", check.TARGETS, ids=str)
def test_every_pin_has_a_wheel(
    verdicts: dict[check.Target, Future[list[str]]], target: check.Target
) -> None:
    try:
        assert verdicts[target].result() == []
    except check.RegistryUnreachable as error:
        pytest.skip(str(error))


@pytest.mark.usefixtures("registry")
def test_what_has_no_wheel_is_pure_python() -> None:
    assert list(check.sdist_problems(PROGRAM)) == []


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ("segno==999", "No matching distribution"),  # no such version
        ("websockets==17.0", "No matching distribution"),  # not for Python 3.10
        ("gevent==25.5.1", "needs greenlet"),  # a wheel, but not all that it requires
    ],
)
def test_a_wrong_pin_is_noticed(wrong: str, complaint: str) -> None:
    problems = check.check(ELSEWHERE, pins(wrong), [])
    assert any(complaint in problem for problem in problems), problems
