"""tests/run.py, which has to work where nothing is installed yet. No test needs the network."""

from __future__ import annotations

import ast
import importlib.util
import sys
from pathlib import Path

import pytest

import run


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Two requirement files that ask for nothing."""
    names = [tmp_path / "program.txt", tmp_path / "tests.txt"]
    for name in names:
        name.write_text("# nothing\n", encoding="utf-8")
    return names


@pytest.fixture
def apt_calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """What apt-get would be asked to do, as root on Debian; it is never run, and always fails."""
    calls: list[tuple[str, ...]] = []

    def record(*arguments: str) -> bool:
        calls.append(arguments)
        return False

    monkeypatch.setattr(run, "apt", record)
    monkeypatch.setattr(run, "may_use_apt", lambda: True)
    return calls


def hide_ensurepip(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make this Python look like Debian's without its venv package."""
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "ensurepip" else find(name)
    )


def test_an_old_python_gets_one_sentence() -> None:
    with pytest.raises(run.SetupError) as error:
        run.check_python((3, 9, 18))
    assert str(error.value) == "rtapp needs Python 3.10 or newer, and this is Python 3.9.18."


def test_the_oldest_python_will_do() -> None:
    run.check_python((3, 10, 0))


def test_an_old_python_can_read_the_file_to_say_so() -> None:
    ast.parse(Path(run.__file__).read_text(encoding="utf-8"), feature_version=(3, 7))


def test_a_failed_setup_exits_with_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse() -> None:
        raise run.SetupError("one sentence.")

    monkeypatch.setattr(run, "check_python", refuse)
    assert run.main() == 2
    assert capsys.readouterr().err == "one sentence.\n"


def test_the_stamp_follows_the_files_and_the_python(files: list[Path]) -> None:
    first = run.stamp(files)
    assert run.stamp(files) == first
    assert run.stamp(files, "3.99.0") != first
    files[1].write_text("bottle==0.13.4\n", encoding="utf-8")
    assert run.stamp(files) != first


def test_the_stamp_tells_the_files_apart(files: list[Path]) -> None:
    files[0].write_text("a\nb\n", encoding="utf-8")
    files[1].write_text("c\n", encoding="utf-8")
    first = run.stamp(files)
    files[0].write_text("a\n", encoding="utf-8")
    files[1].write_text("b\nc\n", encoding="utf-8")
    assert run.stamp(files) != first


def test_the_environment_is_made_once_and_mended(tmp_path: Path, files: list[Path]) -> None:
    venv = tmp_path / "venv"
    run.ensure_venv(venv, files)
    assert run.is_usable(venv)
    leftover = venv / "leftover"
    leftover.touch()
    run.ensure_venv(venv, files)
    assert leftover.exists(), "made again though nothing had changed"
    run.venv_python(venv).unlink()
    run.ensure_venv(venv, files)
    assert run.is_usable(venv)
    assert not leftover.exists()


def test_an_unfinished_installation_is_not_taken_for_a_whole_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, files: list[Path]
) -> None:
    installed: list[Path] = []
    monkeypatch.setattr(run, "is_usable", lambda venv: True)
    monkeypatch.setattr(run, "install", lambda venv, files: installed.append(venv))
    run.venv_python(tmp_path).parent.mkdir()
    run.venv_python(tmp_path).touch()

    run.ensure_venv(tmp_path, files)
    run.ensure_venv(tmp_path, files)
    assert len(installed) == 1

    def fail(venv: Path, files: list[Path]) -> None:
        raise run.SetupError("no registry")

    monkeypatch.setattr(run, "stamp", lambda files: "another")
    monkeypatch.setattr(run, "install", fail)
    with pytest.raises(run.SetupError):
        run.ensure_venv(tmp_path, files)
    assert not (tmp_path / "requirements.stamp").exists()


def test_a_failed_installation_says_what_to_look_at(
    files: list[Path], capfd: pytest.CaptureFixture[str]
) -> None:
    files[0].write_text("--no-index\nrtapp-needs-no-such-package==1\n", encoding="utf-8")
    with pytest.raises(run.SetupError, match="package registry"):
        run.install(Path(sys.prefix), files)
    assert "rtapp-needs-no-such-package" in capfd.readouterr().err


def test_without_ensurepip_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    hide_ensurepip(monkeypatch)
    monkeypatch.setattr(run, "may_use_apt", lambda: False)
    with pytest.raises(run.SetupError) as error:
        run.ensure_venv_module()
    assert f"install the package {run.venv_package()} (or python3-venv)" in str(error.value)


def test_without_ensurepip_root_tries_to_install_it(
    monkeypatch: pytest.MonkeyPatch, apt_calls: list[tuple[str, ...]]
) -> None:
    hide_ensurepip(monkeypatch)
    with pytest.raises(run.SetupError):
        run.ensure_venv_module()
    assert [(call[0], call[-1]) for call in apt_calls] == [
        ("update", "update"),
        ("install", run.venv_package()),
    ]


def test_the_venv_package_is_that_of_this_python() -> None:
    assert run.venv_package((3, 11, 2)) == "python3.11-venv"


def test_a_missing_system_package_is_only_a_warning(
    monkeypatch: pytest.MonkeyPatch,
    apt_calls: list[tuple[str, ...]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(run, "DEBIAN", {"no-such-command": "a-package", "no-such-other": "another"})
    run.install_system_packages()
    assert [call[-1] for call in apt_calls] == ["update", "a-package", "another"]
    assert "another could not be installed" in capsys.readouterr().err


def test_nothing_is_installed_that_is_there(
    monkeypatch: pytest.MonkeyPatch, apt_calls: list[tuple[str, ...]]
) -> None:
    monkeypatch.setattr(run, "DEBIAN", {Path(sys.executable).as_posix(): "python3"})
    run.install_system_packages()
    assert apt_calls == []


def test_nothing_is_installed_without_the_right_to(
    monkeypatch: pytest.MonkeyPatch, apt_calls: list[tuple[str, ...]]
) -> None:
    monkeypatch.setattr(run, "DEBIAN", {"no-such-command": "a-package"})
    monkeypatch.setattr(run, "may_use_apt", lambda: False)
    run.install_system_packages()
    assert apt_calls == []


def test_no_system_leaves_debian_alone_and_exit_codes_pass(
    monkeypatch: pytest.MonkeyPatch, apt_calls: list[tuple[str, ...]]
) -> None:
    monkeypatch.setattr(run, "DEBIAN", {"no-such-command": "a-package"})
    monkeypatch.setattr(run, "ensure_venv", lambda: None)
    exits = [sys.executable, "-c", "import sys; sys.exit(5)"]
    monkeypatch.setattr(run, "pytest_command", lambda venv, arguments: [*exits, *arguments])
    assert run.run(["--no-system", "-q"]) == 5
    assert apt_calls == []


@pytest.mark.parametrize(
    ("arguments", "tail"),
    [
        ([], ["tests"]),
        (["-k", "stamp", "-x"], ["tests", "-k", "stamp", "-x"]),
        (["tests/test_bootstrap.py"], ["tests/test_bootstrap.py"]),
        (["-q", "tests/test_bootstrap.py::test_x"], ["-q", "tests/test_bootstrap.py::test_x"]),
    ],
)
def test_all_tests_run_unless_some_are_named(arguments: list[str], tail: list[str]) -> None:
    command = run.pytest_command(run.VENV, arguments)
    assert command == [str(run.venv_python(run.VENV)), "-m", "pytest", *tail]
