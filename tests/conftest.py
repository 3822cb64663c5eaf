"""Fixtures: each test has a server and a data folder of its own."""

from __future__ import annotations

import base64
import contextlib
import datetime
import functools
import hashlib
import ipaddress
import os
import shutil
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from _pytest.runner import runtestprotocol
from pytest_timeout import _get_item_settings as timeout_settings

from postgres import Cluster, server_binaries
from support import LEAKS, LONG, ROOT, Server

sys.path.insert(0, str(ROOT))  # for the tests that `import rtapp`
pytest_plugins = ["browsers"]


# The quick verdict is on the server over the wire, on one database: these files, but for the tests
# that want a browser, PostgreSQL or packages of npm.
QUICK = {
    *("test_abuse", "test_access", "test_bad_input", "test_docs", "test_faults", "test_frames"),
    *("test_fuzz", "test_hub", "test_property", "test_rooms", "test_socketio"),
    *("test_static", "test_storage", "test_streams", "test_support", "test_system", "test_units"),
    *("test_upgrade", "test_websocket"),
}
NOT_QUICK = {"browser", "chromium", "npm_folder", "own_postgres", "postgres"}
# Files whose tests run on one worker, one after the other: several calls at once are too much for
# two cores. They begin, so that no worker is left alone with them at the end.
CALLS = ("test_calls", "test_lan", "test_roompage", "test_moving")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--quick`, which tests/run.py passes on."""
    parser.addoption("--quick", action="store_true", help="the server over the wire, in minutes")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave the other files out of the quick verdict."""
    is_other = collection_path.suffix == ".py" and collection_path.stem not in QUICK
    return True if is_other and config.getoption("quick") else None


def is_quick(item: pytest.Item) -> bool:
    """Whether a test of those files is part of the quick verdict."""
    return NOT_QUICK.isdisjoint(getattr(item, "fixturenames", ()))


def group_of(path: str) -> str:
    """What a test's file runs together with, by its path or node id."""
    name = Path(path.partition("::")[0]).stem
    return "calls" if name in CALLS else name


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Choose what is run, and what is run first."""
    if config.getoption("quick"):
        config.hook.pytest_deselected(items=[item for item in items if not is_quick(item)])
        items[:] = [item for item in items if is_quick(item)]
    # The longest, which ends alone where it begins late; the crowd reads best in a new process.
    first = {"calls": 0, "test_soak": 1}
    items.sort(key=lambda item: first.get(group_of(item.nodeid), 2))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each worker a file after the other, and all calls to one. The last worker, one more
    than there are cores, begins when the calls have ended: what remains waits more than it works.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

        def _is_held(self, node: Any) -> bool:
            *others, last = self.assigned_work
            units = (self.assigned_work[other].get("calls", {}) for other in others)
            return node is last and any(False in unit.values() for unit in units)

        def _assign_work_unit(self, node: Any) -> None:
            if not self._is_held(node):
                super()._assign_work_unit(node)

        def _reschedule(self, node: Any) -> None:
            if not self._is_held(node):
                super()._reschedule(node)

        def mark_test_complete(self, node: Any, item_index: int, duration: float = 0) -> None:
            last = self.nodes[-1]
            was_held = self._is_held(last)
            super().mark_test_complete(node, item_index, duration)
            if was_held and not self._is_held(last):
                self._reschedule(last)
                self._reschedule(last)  # a worker runs what it has when it knows what comes next

    return ByFile(config, log)


# The tests of these files run on each of these databases.
DATABASES = os.environ.get("RTAPP_TEST_DATABASES", "sqlite,postgresql").split(",")
ON_EACH_DATABASE = {
    "test_openapi",
    "test_streams",
    "test_system",
    "test_access",
    "test_rooms",
    "test_storage",
}


POLLERS = ("epoll", "watchers")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what needs a server, in the chosen files, once on each database, and what asks for a
    poller once with each of its backings; in the long form with both on both."""
    config, names = metafunc.config, metafunc.fixturenames
    wanted: dict[str, Sequence[str]] = {}
    if "database_url" in names:
        several = metafunc.module.__name__ in ON_EACH_DATABASE and not config.getoption("quick")
        several &= metafunc.definition.get_closest_marker("sqlite") is None
        several &= LONG or metafunc.definition.get_closest_marker("waits") is None
        wanted["database_url"] = DATABASES if several else ["sqlite"]
    if "poller" in names:
        wanted["poller"] = POLLERS
    if LONG or len(wanted) < 2:
        for name, values in wanted.items():
            metafunc.parametrize(name, values, indirect=True)
    else:
        longest = max(map(len, wanted.values()))
        pairs = [[values[n % len(values)] for values in wanted.values()] for n in range(longest)]
        metafunc.parametrize(list(wanted), pairs, indirect=True)


@pytest.fixture(autouse=True)
def nothing_is_printed_that_may_not() -> Iterator[None]:
    """Whatever a test does, no server prints a secret that was used, or fails to obey a node."""
    LEAKS.clear()
    yield
    assert not LEAKS, LEAKS


# What browsers, media and other programs do depends on how busy the machine is: the tests of these
# files get a second try. The run says at its end which ones took it, and fails where more than a
# few did: each hides a race, in the test or in the program.
SECOND_TRY = {
    *("test_build", "test_calls", "test_dashboard", "test_desktop", "test_lan", "test_moving"),
    *("test_nodes", "test_own_page", "test_pages", "test_proxies", "test_roompage", "test_rt"),
}
SECOND_TRIES_AT_MOST = 2
second_tries: list[str] = []


def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Run a test of those files once more where it fails."""
    if not isinstance(item, pytest.Function) or item.module.__name__ not in SECOND_TRY:
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    reports = runtestprotocol(item, log=False, nextitem=nextitem)
    failed = [report for report in reports if report.failed]
    if failed:
        crash = getattr(failed[0].longrepr, "reprcrash", None)
        timer = item.config.hook
        timer.pytest_timeout_cancel_timer(item=item)
        timer.pytest_timeout_set_timer(item=item, settings=timeout_settings(item))
        item._initrequest()
        reports = runtestprotocol(item, log=False, nextitem=nextitem)
        # With the report it comes to the process that sums up, whichever ran the test.
        reports[0].user_properties.append((TRIED, str(getattr(crash, "message", crash))[:300]))
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


TRIED = "second try"


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note what took a second try."""
    second_tries.extend(
        f"{report.nodeid}: {why}" for name, why in report.user_properties if name == TRIED
    )


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail where too many did."""
    if len(second_tries) > SECOND_TRIES_AT_MOST and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name what took a second try."""
    if second_tries:
        terminalreporter.section(f"second tries (at most {SECOND_TRIES_AT_MOST})")
        for line in second_tries:
            terminalreporter.line(line)


def running_cluster() -> Iterator[Cluster]:
    """A PostgreSQL server; skips by name where none is installed."""
    binaries = server_binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL server is installed (Debian: postgresql)")
    cluster = Cluster(binaries)
    yield cluster
    cluster.stop()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    """A PostgreSQL server that the whole run shares."""
    yield from running_cluster()


@pytest.fixture
def own_postgres() -> Iterator[Cluster]:
    """A PostgreSQL server for a test that breaks it."""
    yield from running_cluster()


@pytest.fixture
def database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of an empty database; empty for SQLite's file in the data folder."""
    if request.param == "sqlite":
        yield ""
        return
    cluster: Cluster = request.getfixturevalue("postgres")
    url = cluster.new_database()
    yield url
    cluster.clear(url)


@pytest.fixture
def make_server(tmp_path: Path, database_url: str) -> Iterator[Callable[..., Server]]:
    """Starts servers and ends them after the test."""
    made: list[Server] = []

    def make(*arguments: str, data: Path | None = None, **more: Any) -> Server:
        if database_url:
            more["env"] = {"DATABASE_URL": database_url, **(more.get("env") or {})}
        server = Server(data or tmp_path / f"data{len(made)}", *arguments, **more)
        made.append(server)
        return server.start()

    yield make
    for server in made:
        server.kill()


@pytest.fixture
def server(make_server: Callable[..., Server]) -> Server:
    """A server with its defaults."""
    return make_server()


@pytest.fixture
def fresh(make_server: Callable[..., Server]) -> Server:
    """A server without any administrator, so it prints a link."""
    return make_server(env={"RTAPP_ADMIN_TOKEN": None})


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server for the tests of a file that leave nothing behind."""
    with Server(tmp_path_factory.mktemp("running") / "data") as server:
        yield server


@pytest.fixture
def start_node(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Starts nodes on a database and ends them after the test."""
    made: list[Server] = []

    def start(url: str, **more: Any) -> Server:
        server = Server(tmp_path / f"node{len(made)}", env={"DATABASE_URL": url}, **more)
        made.append(server)
        return server.start()

    yield start
    for server in made:
        server.kill()


@pytest.fixture
def poller(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The backing of the poller in all servers of a test."""
    monkeypatch.setenv("RTAPP_POLLER", request.param)
    return str(request.param)


class Certificate:
    """A self-signed certificate for 127.0.0.1 and other addresses, and a client's context that
    trusts it."""

    def __init__(self, folder: Path, *others: str) -> None:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        self.cert, self.key = folder / "cert.pem", folder / "key.pem"
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "rtapp test")])
        now = datetime.datetime.now(datetime.timezone.utc)
        names = [x509.IPAddress(ipaddress.ip_address(one)) for one in ("127.0.0.1", *others)]
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=2))
            .not_valid_after(now + datetime.timedelta(days=30))
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(key, hashes.SHA256())
        )
        self.cert.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        self.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        self.trusting = ssl.create_default_context(cafile=str(self.cert))
        spki = key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self.fingerprint = base64.b64encode(hashlib.sha256(spki).digest()).decode()

    @property
    def settings(self) -> dict[str, str]:
        return {"tls_cert": str(self.cert), "tls_key": str(self.key)}


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """A certificate that the whole run shares."""
    return Certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="session")
def npm_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes a folder where packages from npm are installed, once for each set of them."""
    return folders_of("npm", install_from_npm, tmp_path_factory)


@pytest.fixture(scope="session")
def pip_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes a folder where packages of Python are installed apart from this one's environment."""
    return folders_of("pip", install_from_pip, tmp_path_factory)


def folders_of(
    tool: str,
    install: Callable[[Path, Sequence[str]], bool],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., Path]:
    """Makes a folder with packages, once for each set of them; skips by name where it can't."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent  # of all workers

    @functools.cache
    def make(*packages: str) -> Path:
        folder = shared / f"{tool}-{hashlib.sha256(' '.join(packages).encode()).hexdigest()[:12]}"
        with only_one(folder.with_suffix(".lock")):
            if not folder.exists() and not install(folder, packages):
                pytest.skip(f"{tool} can't install {' '.join(packages)}")
        return folder

    return make


@contextlib.contextmanager
def only_one(lock: Path) -> Iterator[None]:
    """Wait for other workers that do the same."""
    if not hasattr(os, "fork"):  # no workers beside this one where there is no fcntl
        yield
        return
    import fcntl

    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def install_from_npm(folder: Path, packages: Sequence[str]) -> bool:
    """Make a folder with packages; whether it could be done."""
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip("needs node and npm")
    making = folder.with_suffix(".making")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir()
    (making / "package.json").write_text('{"private": true}')
    command = ["npm", "install", "--silent", "--no-audit", "--no-fund", *packages]
    done = subprocess.run(command, cwd=making, capture_output=True, timeout=180, check=False)
    if done.returncode == 0:
        making.rename(folder)
    return done.returncode == 0


def install_from_pip(folder: Path, packages: Sequence[str]) -> bool:
    """The same with packages of Python."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder)]
    done = subprocess.run([*command, *packages], capture_output=True, timeout=180, check=False)
    if done.returncode:
        shutil.rmtree(folder, ignore_errors=True)
    return done.returncode == 0


@pytest.fixture
def note(request: pytest.FixtureRequest) -> Callable[[str, float], None]:
    """Notes a figure that a test measures; the summary of `-rP`, and RTAPP_FIGURES, show them."""

    def write(what: str, value: float) -> None:
        line = f"{request.node.name}: {what} {value:.2f}"
        print(line)
        if path := os.environ.get("RTAPP_FIGURES"):
            with Path(path).open("a") as file:
                file.write(line + "\n")

    return write
