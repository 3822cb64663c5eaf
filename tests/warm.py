"""Servers from a process that has imported the program already.

Importing takes ten times as long as all the rest of a start, and most tests want a server of their
own. So one process imports the program, as `python rtapp.py` does with gevent's patches first, and
a server is a fork of it: same code, same arguments, environment and output, 0.05 s for 0.4.
`RTAPP_TEST_COLD=1` starts each by itself; so do, in any case, the tests about starting.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any

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

    def __init__(self, program: Path, arguments: list[str], env: dict[str, str]) -> None:
        """Both outputs go to `stdout`."""
        self._nursery = nursery(program)
        self.returncode: int | None = None
        reads, writes = os.pipe()
        self.stdout: IO[str] = os.fdopen(reads)
        question = {"argv": [str(program), *arguments], "env": env, "cwd": os.getcwd()}
        self.pid: int = self._nursery.ask(question, writes)
        os.close(writes)

    def poll(self) -> int | None:
        """The exit code, or minus the signal's number; None while it runs."""
        if self.returncode is None:
            self.returncode = self._nursery.ask({"pid": self.pid})
        return self.returncode

    def wait(self, timeout: float) -> int:
        """The exit code, when it has ended; `subprocess.TimeoutExpired` after so many seconds."""
        deadline = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("rtapp", timeout)
            time.sleep(0.002)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:  # until it is asked for, its number is nobody else's
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


# ---- in the process itself -----------------------------------------------------------------------


def question(control: socket.socket, buffer: bytearray) -> tuple[dict[str, Any], list[int]] | None:
    """The next question, with the files that came with it; None at the end."""
    fds: list[int] = []
    while b"\n" not in buffer:
        part, more, _, _ = socket.recv_fds(control, 65_536, 1)
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
                for output in (1, 2):
                    os.dup2(fds[0], output)
                os.close(fds[0])
                control.close()
                return wish
            running.add(answer)
            os.close(fds[0])
        control.sendall(json.dumps(answer).encode() + b"\n")
    for pid in running:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        waitpid(pid, 0)
    return None


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
    original = functools.partial(monkey.get_original, "os")
    control = monkey.get_original("socket", "socket")(fileno=int(sys.argv[1]))
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's is for the tests
    wish = serve(control, original("fork"), original("waitpid"))
    if wish is None:
        return 0
    signal.signal(signal.SIGINT, handler)
    os.chdir(wish["cwd"])
    os.environ.clear()
    os.environ.update(wish["env"])
    sys.argv = wish["argv"]
    rtapp.STARTED_BY = os.getppid()
    return int(rtapp.main())


if __name__ == "__main__":
    sys.exit(main())
