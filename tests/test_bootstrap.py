"""tests/run.py, which has to work where nothing is installed yet. No test needs the network."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
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


class Commands:
    """The only commands there are, in a folder of their own: `apt-get` notes what it is asked, and
    fails."""

    def __init__(self, folder: Path, *names: str) -> None:
        self._folder, self._asked = folder, folder / "asked"
        folder.mkdir()
        self.add("apt-get", f"echo $* >> {self._asked}\nexit 1")
        for name in names:
            self.add(name, "exit 0")

    def add(self, name: str, script: str) -> None:
        path = self._folder / name
        path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        path.chmod(0o755)

    @property
    def path(self) -> str:
        """What PATH says when there are no others."""
        return str(self._folder)

    def asked(self) -> list[list[str]]:
        """What apt-get was asked to do, without its options."""
        lines = self._asked.read_text("utf-8").splitlines() if self._asked.exists() else []
        return [re.findall(r"(?<!\S)[a-z][\w.-]*(?!\S)", line) for line in lines]


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    """A machine with apt-get and nothing else; skips by name for who may not use it."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("only root installs packages")
    made = Commands(tmp_path / "bin")
    monkeypatch.setenv("PATH", made.path)
    return made


@pytest.fixture
def _no_ensurepip(monkeypatch: pytest.MonkeyPatch) -> None:
    """This Python is like Debian's without its venv package."""
    monkeypatch.setitem(sys.modules, "ensurepip", None)  # it can't be imported


def test_an_old_python_gets_one_sentence() -> None:
    with pytest.raises(run.SetupError) as error:
        run.check_python((3, 9, 18))
    assert str(error.value) == "rtapp needs Python 3.10 or newer, and this is Python 3.9.18."


def test_the_oldest_python_will_do() -> None:
    run.check_python((3, 10, 0))


def test_an_old_python_can_read_the_file_to_say_so() -> None:
    ast.parse(Path(run.__file__).read_text(encoding="utf-8"), feature_version=(3, 7))


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


NO_SUCH = "--no-index\nrtapp-needs-no-such-package==1\n"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that was made in place of one whose Python is gone; tests have copies of it."""
    folder = tmp_path_factory.mktemp("environment")
    wanted, venv = folder / "program.txt", folder / "venv"
    wanted.touch()
    venv.mkdir()
    (venv / "requirements.stamp").write_text(run.stamp([wanted]), "ascii")
    (venv / "leftover").touch()
    run.ensure_venv(venv, [wanted])
    return venv


def test_the_environment_is_made_once_and_mended(
    tmp_path: Path, environment: Path, files: list[Path], capfd: pytest.CaptureFixture[str]
) -> None:
    """And a failed installation says what to look at, and is not taken for a whole one."""
    venv, leftover = tmp_path / "venv", tmp_path / "venv" / "leftover"
    assert run.is_usable(environment) and not (environment / "leftover").exists()
    shutil.copytree(environment, venv, symlinks=True)
    leftover.touch()
    run.ensure_venv(venv, files)
    assert leftover.exists(), "made again for other requirements"
    run.ensure_venv(venv, files)
    assert leftover.exists(), "made again though nothing had changed"
    files[0].write_text(NO_SUCH, encoding="utf-8")
    for _ in range(2):
        with pytest.raises(run.SetupError, match="package registry"):
            run.ensure_venv(venv, files)
        assert not (venv / "requirements.stamp").exists()
        assert "rtapp-needs-no-such-package" in capfd.readouterr().err
    files[0].write_text("# nothing\n", encoding="utf-8")
    run.ensure_venv(venv, files)
    assert (venv / "requirements.stamp").exists() and leftover.exists()


@pytest.mark.usefixtures("_no_ensurepip")
def test_without_ensurepip_the_package_is_named(
    commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(run.SetupError) as error:
        run.ensure_venv_module()
    assert f"install the package {run.venv_package()} (or python3-venv)" in str(error.value)
    assert commands.asked() == []


@pytest.mark.usefixtures("_no_ensurepip")
def test_without_ensurepip_root_tries_to_install_it(
    commands: Commands, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(run.SetupError):
        run.ensure_venv_module()
    assert commands.asked() == [["update"], ["install", run.venv_package()]]


def test_the_venv_package_is_that_of_this_python() -> None:
    assert run.venv_package((3, 11, 2)) == "python3.11-venv"


def test_a_missing_system_package_is_only_a_warning(
    commands: Commands, capsys: pytest.CaptureFixture[str]
) -> None:
    run.install_system_packages()
    wanted = [["install", package] for package in run.DEBIAN.values()]
    assert commands.asked() == [["update"], *wanted]
    assert "nodejs could not be installed" in capsys.readouterr().err


def test_nothing_is_installed_that_is_there(commands: Commands) -> None:
    for name in run.DEBIAN:
        commands.add(name, "exit 0")
    run.install_system_packages()
    assert commands.asked() == []


def test_nothing_is_installed_without_apt(
    commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    run.install_system_packages()
    assert commands.asked() == []


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose tests ask for no package, and whose pytest is a file that ends with 5."""
    tests = tmp_path / "project" / "tests"
    tests.mkdir(parents=True)
    for path in (tests / "requirements.txt", tests.parent / "requirements.txt"):
        path.write_text("# nothing\n", encoding="utf-8")
    shutil.copy(run.__file__, tests / "run.py")
    (tests.parent / "pytest.py").write_text("import sys\nsys.exit(5)\n", encoding="utf-8")
    return tests.parent


def run_tests(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command as people give it."""
    command = [sys.executable, str(project / "tests" / "run.py"), *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=240)


@pytest.mark.parametrize("leaves_debian_alone", ["--no-system", "--quick"])
def test_exit_codes_pass_and_debian_is_left_alone(
    project: Path, commands: Commands, leaves_debian_alone: str
) -> None:
    venv = project / ".venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True, timeout=60)
    wanted = [project / "requirements.txt", project / "tests" / "requirements.txt"]
    (venv / "requirements.stamp").write_text(run.stamp(wanted), "ascii")
    assert run_tests(project, leaves_debian_alone, "-q").returncode == 5
    assert commands.asked() == []


def test_a_failed_setup_exits_with_2(project: Path, environment: Path) -> None:
    shutil.copytree(environment, project / ".venv", symlinks=True)
    (project / "requirements.txt").write_text(NO_SUCH, encoding="utf-8")
    done = run_tests(project, "--no-system")
    assert done.returncode == 2
    assert "package registry" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "tail"),
    [
        ([], [*run.SIDE_BY_SIDE, "tests"]),
        (["-k", "stamp", "-x"], [*run.SIDE_BY_SIDE, "tests", "-k", "stamp", "-x"]),
        (["tests/test_bootstrap.py"], ["tests/test_bootstrap.py"]),
        (["-q", "tests/test_bootstrap.py::test_x"], ["-q", "tests/test_bootstrap.py::test_x"]),
    ],
)
def test_all_tests_run_unless_some_are_named(arguments: list[str], tail: list[str]) -> None:
    command = run.pytest_command(run.VENV, arguments)
    assert command == [str(run.venv_python(run.VENV)), "-m", "pytest", *tail]
