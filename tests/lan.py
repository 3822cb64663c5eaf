"""A local network on one machine: hosts and a switch as network namespaces (Linux, root).

with Lan("server", "ada", "bob") as lan:
    lan["ada"].address  # 10.77.0.2
    subprocess.run([*lan["ada"].command, "ip", "address"])
    lan["ada"].unplug()
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import os
import random
import secrets
import select
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

CLONE_NEWNET = 0x40000000
NETWORK = "10.77.0"


def obstacle() -> str | None:
    """Why there can be no such network here; None where it can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "needs root on Linux for network namespaces"
    if not shutil.which("ip") or not shutil.which("bridge"):
        return "needs ip and bridge (Debian: iproute2)"
    name = f"rt{secrets.token_hex(3)}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False)
    if made.returncode:
        return "may make no network namespace here"
    run("ip", "netns", "delete", name)
    return None


def run(*command: str) -> str:
    """Run a command to its end; its output. Fails with what it said."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, (command, done.stderr)
    return done.stdout


class Host:
    """A computer on the network, with one cable (`eth0`)."""

    def __init__(self, lan: Lan, name: str, number: int) -> None:
        self.lan = lan
        self.name = name
        self.number = number
        self.namespace = f"{lan.prefix}{number}"
        self.port = f"p{number}"  # of the switch

    @property
    def address(self) -> str:
        return f"{NETWORK}.{self.number}"

    @property
    def command(self) -> list[str]:
        """What a command line begins with to run on this host."""
        return ["ip", "netns", "exec", self.namespace]

    def ip(self, *arguments: str) -> str:
        return run("ip", "-n", self.namespace, *arguments)

    def connect(self) -> None:
        """Make the host and plug it in."""
        switch = self.lan.switch
        run("ip", "netns", "add", self.namespace)
        self.ip("link", "set", "lo", "up")
        self.ip("link", "add", "eth0", "type", "veth", "peer", "name", self.port, "netns", switch)
        # An IPv6 address that comes seconds later is a network change, which aborts requests.
        self.ip("link", "set", "eth0", "addrgenmode", "none")
        self.join()
        run("ip", "-n", switch, "link", "set", self.port, "up")
        self.ip("address", "add", f"{self.address}/24", "dev", "eth0")
        self.plug()

    def plug(self) -> None:
        """Put the cable in."""
        self.ip("link", "set", "eth0", "up")
        self.ip("route", "replace", "default", "via", f"{NETWORK}.254")

    def unplug(self) -> None:
        """Pull the cable."""
        self.ip("link", "set", "eth0", "down")

    def cut_off(self) -> None:
        """Pull another cable behind the switch: nothing here tells of it."""
        run("ip", "-n", self.lan.switch, "link", "set", self.port, "nomaster")

    def join(self) -> None:
        """Put that one in."""
        run("ip", "-n", self.lan.switch, "link", "set", self.port, "master", "br0")

    def move(self, number: int) -> None:
        """Another address, as from another access point."""
        self.number = number
        self.ip("address", "flush", "dev", "eth0")
        self.ip("address", "add", f"{self.address}/24", "dev", "eth0")
        self.plug()

    def isolate(self) -> None:
        """It reaches only hosts that are not isolated, as on many a guest Wi-Fi."""
        isolated = ["link", "set", "dev", self.port, "isolated", "on"]
        run("bridge", "-n", self.lan.switch, *isolated)

    def filter(self, *rules: str) -> None:
        """Let nft rules judge what comes in; none takes them away."""
        lines = ["table ip lan", "delete table ip lan"]
        if rules:
            hook = "type filter hook input priority 0;"
            lines += ["table ip lan {", "chain input {", hook, *rules, "}", "}"]
        run(*self.command, "nft", "\n".join(lines))

    @contextlib.contextmanager
    def impaired(self, delay_ms: float, loss: float) -> Iterator[None]:
        """Its cable is long and bad meanwhile: each frame is so late, some percent are lost."""
        switch, bridge, near, far = self.lan.switch, f"b{self.number}", "near", "far"
        arguments = [near, far, str(delay_ms), str(loss)]
        command = ["ip", "netns", "exec", switch, sys.executable, __file__, *arguments]
        cable = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert cable.stdout is not None and cable.stdout.readline() == "ready\n"
            run("ip", "-n", switch, "link", "add", bridge, "type", "bridge")
            for link, master in ((near, bridge), (far, "br0"), (self.port, bridge)):
                for up in (bridge, link):
                    run("ip", "-n", switch, "link", "set", up, "up")
                run("ip", "-n", switch, "link", "set", link, "master", master)
            yield
        finally:
            cable.kill()
            cable.wait(30)
            self.join()
            run("ip", "-n", switch, "link", "delete", bridge)

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """What this thread connects meanwhile, it connects from this host."""
        with Path("/proc/thread-self/ns/net").open() as home:
            with Path(f"/run/netns/{self.namespace}").open() as there:
                enter(there.fileno())
            try:
                yield
            finally:
                enter(home.fileno())


def enter(namespace: int) -> None:
    """Move this thread to a network namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


class Cable:
    """A long and bad cable between two TAP devices that it makes: frames come late, or not.

    The kernel's own `netem` is not everywhere.
    """

    TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000  # linux/if_tun.h

    def __init__(self, one: str, other: str, delay: float, loss: float) -> None:
        """`delay` in seconds, `loss` from 0 to 1."""
        self.delay = delay
        self.loss = loss
        ends = [self.open(name) for name in (one, other)]
        self.far = dict(zip(ends, reversed(ends), strict=True))
        self.late: collections.deque[tuple[float, int, bytes]] = collections.deque()

    def open(self, name: str) -> int:
        import fcntl  # not on Windows

        device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        request = struct.pack("16sH", name.encode(), self.IFF_TAP | self.IFF_NO_PI)
        fcntl.ioctl(device, self.TUNSETIFF, request)
        return device

    def carry(self) -> None:
        """Until the process is ended."""
        while True:
            wait = max(0, self.late[0][0] - time.monotonic()) if self.late else None
            for end in select.select(list(self.far), [], [], wait)[0]:
                frame = os.read(end, 65_536)
                if random.random() >= self.loss:
                    self.late.append((time.monotonic() + self.delay, self.far[end], frame))
            while self.late and self.late[0][0] <= time.monotonic():
                _, end, frame = self.late.popleft()
                with contextlib.suppress(OSError):  # that side is down
                    os.write(end, frame)


class Lan:
    """Hosts on a switch. The first one is 10.77.0.1; there is no way out."""

    def __init__(self, *names: str) -> None:
        self.prefix = f"rt{secrets.token_hex(3)}"
        self.switch = f"{self.prefix}sw"
        self.hosts = {name: Host(self, name, at) for at, name in enumerate(names, 1)}
        self._count = len(names)

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]

    def __enter__(self) -> Lan:
        try:
            run("ip", "netns", "add", self.switch)
            run("ip", "-n", self.switch, "link", "set", "lo", "up")
            run("ip", "-n", self.switch, "link", "add", "br0", "type", "bridge")
            run("ip", "-n", self.switch, "link", "set", "br0", "up")
            for host in self.hosts.values():
                host.connect()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def add(self, name: str) -> Host:
        """One more host."""
        self._count += 1
        host = self.hosts[name] = Host(self, name, self._count)
        host.connect()
        return host

    def remove(self, host: Host) -> None:
        """Take one away, on which nothing runs any longer."""
        run("ip", "netns", "delete", self.hosts.pop(host.name).namespace)

    def close(self) -> None:
        """Take it down; what runs on its hosts is to be ended before."""
        for name in [host.namespace for host in self.hosts.values()] + [self.switch]:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


if __name__ == "__main__":
    cable = Cable(sys.argv[1], sys.argv[2], float(sys.argv[3]) / 1000, float(sys.argv[4]) / 100)
    print("ready", flush=True)
    cable.carry()
