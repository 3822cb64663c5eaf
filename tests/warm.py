"""Servers from a process that has imported the program already.

Importing takes ten times as long as all the rest of a start, and most tests want a server of their
own. So one process imports the program, as `python rtapp.py` does with gevent's patches first, and
a server or a command is a fork of it: same code, same arguments, environment and output, 0.05 s for
0.4. `RTAPP_TEST_COLD=1` starts each by itself; so do, in any case, some tests about starting.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import IO, Any

CLONE_NEWUTS, CLONE_NEWNET = 0x0400_0000, 0x4000_0000  # linux/sched.h
IS_COLD = not hasattr(os, "fork") or os.environ.get("RTAPP_TEST_COLD") == "1"


class Nursery:
    """The process that has imported a program, as its parent sees it."""

    def __init__(self, program: Path) -> None:
        self._asking = threading.Lock()  # tests start servers in threads, too
        self._control, theirs = socket.socketpair()
        command = [sys.executable, __file__, str(theirs.fileno()), str(program)]
        self._process = subprocess.Popen(
            command,
            pass_fds=[theirs.fileno()],
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        )
        theirs.close()
        self._answers = self._control.makefile("r")
        atexit.register(self.close)

    def ask(self, question: dict[str, Any], *fds: int) -> Any:
        """The answer to a question; files go with it."""
        with self._asking:
            line = json.dumps(question).encode() + b"\n"
            if fds:
                socket.send_fds(self._control, [line[:1]], fds)
                line = line[1:]
            self._control.sendall(line)
            return json.loads(self._answers.readline())

    def close(self) -> None:
        """End it; it ends what it has forked."""
        self._control.shutdown(socket.SHUT_RDWR)
        self._process.wait(20)


@functools.cache
def nursery(program: Path) -> Nursery:
    """The one for a program."""
    return Nursery(program)


class WarmProcess:
    """A forked process, used like a `subprocess.Popen`."""

    def __init__(
        self,
        program: Path,
        arguments: list[str],
        env: dict[str, str],
        files: tuple[int, int, int] | None = None,
        namespace: str = "",
        hostname: str = "",
    ) -> None:
        """`files` are its input, its output and that for errors; without, it has no input, and both
        outputs go to `stdout`. It runs in a `namespace` of the network, by a `hostname` of its
        own."""
        self._nursery = nursery(program)
        self.returncode: int | None = None
        question = {"argv": [str(program), *arguments], "env": env, "cwd": os.getcwd()}
        question |= {"namespace": namespace, "hostname": hostname}
        if files is not None:
            self.pid: int = self._nursery.ask(question, *files)
            return
        reads, writes = os.pipe()
        self.stdout: IO[str] = os.fdopen(reads)
        with open(os.devnull) as nothing:
            self.pid = self._nursery.ask(question, nothing.fileno(), writes, writes)
        os.close(writes)

    def poll(self) -> int | None:
        """The exit code, or minus the signal's number; None while it runs."""
        if self.returncode is None:
            self.returncode = self._nursery.ask({"pid": self.pid})
        return self.returncode

    def wait(self, timeout: float) -> int:
        """The exit code, when it has ended; `subprocess.TimeoutExpired` after so many seconds."""
        deadline, pause = time.monotonic() + timeout, 0.002
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("rtapp", timeout)
            time.sleep(pause)
            pause = min(0.02, pause * 1.2)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:  # until it is asked for, its number is nobody else's
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def run_warm(
    program: Path, arguments: list[str], env: dict[str, str], text: str, seconds: float
) -> tuple[int, str, str]:
    """Run the program to its end with a text as its input; its exit code and both outputs, as of
    `subprocess.run`."""
    with contextlib.ExitStack() as stack:
        said, *told = (stack.enter_context(tempfile.TemporaryFile("w+")) for _ in range(3))
        said.write(text)
        said.seek(0)
        files = (said.fileno(), told[0].fileno(), told[1].fileno())
        process = WarmProcess(program, arguments, env, files)
        try:
            code = process.wait(seconds)
        finally:
            process.kill()
        for output in told:
            output.seek(0)
        return code, told[0].read(), told[1].read()


# ---- in the process itself -----------------------------------------------------------------------


def question(control: socket.socket, buffer: bytearray) -> tuple[dict[str, Any], list[int]] | None:
    """The next question, with the files that came with it; None at the end."""
    fds: list[int] = []
    while b"\n" not in buffer:
        part, more, _, _ = socket.recv_fds(control, 65_536, 3)
        if not part:
            return None
        buffer += part
        fds += more
    line, _, rest = bytes(buffer).partition(b"\n")
    buffer[:] = rest
    return json.loads(line), fds


def serve(control: socket.socket, fork: Any, waitpid: Any) -> dict[str, Any] | None:
    """Fork when asked to. Returns in each fork what it is to be, and None at the end."""
    running: set[int] = set()
    buffer = bytearray()
    while asked := question(control, buffer):
        wish, fds = asked
        answer = None
        if "pid" in wish:
            pid, status = waitpid(wish["pid"], os.WNOHANG)
            if pid:
                running.discard(pid)
                answer = os.waitstatus_to_exitcode(status)
        else:
            answer = fork()
            if answer == 0:
                for number, fd in enumerate(fds):
                    os.dup2(fd, number)
                    os.close(fd)
                # The ones that were opened on other files believe that these can be sought in.
                sys.stdout = os.fdopen(1, "w", closefd=False)
                sys.stderr = os.fdopen(2, "w", 1, closefd=False)
                control.close()
                return wish
            running.add(answer)
            for fd in fds:
                os.close(fd)
        control.sendall(json.dumps(answer).encode() + b"\n")
    for pid in running:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        waitpid(pid, 0)
    return None


def move(namespace: str, hostname: str) -> None:
    """Go where `ip netns exec` and `unshare --uts` lead to, where that is named."""
    library = ctypes.CDLL(None, use_errno=True)
    if namespace:
        with open(f"/run/netns/{namespace}") as file:
            if library.setns(file.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), namespace)
    if hostname:
        if library.unshare(CLONE_NEWUTS):
            raise OSError(ctypes.get_errno(), hostname)
        socket.sethostname(hostname)


def prepare(rtapp: ModuleType) -> None:
    """Do what each start does anew, and always alike: the expressions of the routes stay in the
    cache of `re`, the command line is known, the files of `static/` are read and compressed. And
    look once through all objects that the program, at its start, would look through and keep."""
    for name in (*rtapp.LATE, "gevent.threadpool", "gevent.resolver.thread"):
        importlib.import_module(name)
    for name in ("make_parser", "Static"):
        setattr(rtapp, name, functools.cache(getattr(rtapp, name)))
    rtapp.make_parser()
    rtapp.Web(SimpleNamespace(settings={"public": None}))
    rtapp.landing_page()
    static = rtapp.Static(rtapp.STATIC)
    for name in static._files:
        answer = static.page(name) if name.endswith(".html") else static.file(name)
        rtapp.gzipped(answer.body)
    gc.collect()
    gc.freeze()


def main() -> int:
    """Import the program, then fork; in a fork, run it."""
    from gevent import monkey

    monkey.patch_all()
    import importlib.util

    program = Path(sys.argv[2])
    sys.path[0] = str(program.parent)
    spec = importlib.util.spec_from_file_location("rtapp", program)
    assert spec is not None and spec.loader is not None
    rtapp = sys.modules["rtapp"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(rtapp)
    prepare(rtapp)
    original = functools.partial(monkey.get_original, "os")
    control = monkey.get_original("socket", "socket")(fileno=int(sys.argv[1]))
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's is for the tests
    wish = serve(control, original("fork"), original("waitpid"))
    if wish is None:
        return 0
    signal.signal(signal.SIGINT, handler)
    move(wish["namespace"], wish["hostname"])
    os.chdir(wish["cwd"])
    os.environ.clear()
    os.environ.update(wish["env"])
    sys.argv = wish["argv"]
    rtapp.STARTED_BY = os.getppid()
    return int(rtapp.main())


if __name__ == "__main__":
    sys.exit(main())
