"""Figures that anyone can repeat: rtapp beside the guide's own design, Nchan and a bare C loop.

    python tests/bench.py [--quick] [--rounds 3] [--only fanout16,post1] [--json FILE] [--check]

Starts every server itself on a free port of loopback, drives it with tests/bench/load.c, and
prints two tables in markdown: the ratios with their targets, and the medians behind them. Runs
interleave (ours, theirs, theirs, ours ...) and a ratio is the median of the rounds' own ratios, so
that a machine which is slower for a minute is slower for both. A server that isn't installed is
named and left out. Needs Linux, a C compiler and psutil; node, npm, PostgreSQL and nginx with Nchan
where they are to be compared. Ends only what it started. Exit code 1: a fault in rtapp's
deliveries, a run that failed, or with `--check` a target that was missed; 2: it couldn't start.

A new comparison is an entry in `SCENARIOS`, a new server one in `servers.KINDS`, a new transport
one in `TRANSPORTS` of load.c, named by `Scenario.transport` and `Kind.paths`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent / "bench"))

import psutil
import servers
from servers import KINDS, BenchError, Server, Workbench

OURS = "rtapp"
SETTLE_SECONDS = 1.0
SPARE_FILES = 500
Sample = dict[str, float]


@dataclass(frozen=True)
class Scale:
    """How long and how large the runs are."""

    rounds: int
    seconds: float = 4.0
    subscribers: int = 1000
    idle: int = 10000


@dataclass(frozen=True)
class Row:
    """A line of the first table: one metric of ours against a server, a scenario or a bound.

    `at_least` and `at_most` bound the ratio ours/theirs, or the value itself where `against` is
    empty. Without either, the line is information.
    """

    title: str
    metric: str
    against: str = ""
    at_least: float | None = None
    at_most: float | None = None
    scenario: str = ""  # where the other value comes from; empty: from the same scenario


@dataclass(frozen=True)
class Scenario:
    """One way to load a server, the servers that are loaded so, and the lines that come of it."""

    name: str
    title: str
    servers: tuple[str, ...]
    measure: Callable[[Scenario, str, Workbench, Scale], Sample]
    rows: tuple[Row, ...] = ()
    load: dict[str, float] = field(default_factory=dict)
    subscribers: bool = True
    transport: str = "sse"
    rounds: int = 0  # at least so many, where the issue asks for it
    ours: str = OURS  # the server whose figures are compared with the others'
    stretch: float = 1.0  # times as long as the others


# Driving one server


class Load:
    """A run of load.c: it connects, waits for `go`, publishes, and says what it saw."""

    def __init__(self, workbench: Workbench, server: Server, **options: Any) -> None:
        command = [str(workbench.compile("load", "-lpthread")), "--port", str(server.port)]
        command += ["--header", server.header]
        for name, value in options.items():
            flag = f"--{name.replace('_', '-')}"
            command += [flag] if value is True else [flag, str(value)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()

    def read(self) -> dict[str, Any]:
        """The next line of its report; it ends itself (alarm) when it takes too long."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise BenchError(f"the load driver ended with {self.process.wait()}")
        report: dict[str, Any] = json.loads(line)
        return report

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()


@contextlib.contextmanager
def loading(workbench: Workbench, server: Server, **options: Any) -> Iterator[Load]:
    """A load driver that has ended when the block has."""
    load = Load(workbench, server, **options)
    try:
        yield load
    finally:
        load.end()


def per(amount: float, count: float) -> float:
    """amount / count, 0 where there is nothing to divide by."""
    return amount / count if count else 0.0


def warm_up(workbench: Workbench, server: Server) -> None:
    """A moment of publishing, so that no first use of a path is in the figures."""
    with loading(workbench, server, publishers=4, seconds=0.4) as load:
        load.read()
        load.go()
        load.read()


def stream_options(scenario: Scenario, name: str, scale: Scale) -> dict[str, Any]:
    kind = KINDS[name]
    options: dict[str, Any] = {"seconds": scale.seconds * scenario.stretch}
    options |= scenario.load
    if scenario.subscribers:
        options |= {"subscribers": scale.subscribers, "transport": scenario.transport}
        options |= {"events_path": kind.paths[scenario.transport]}
        if kind.ordered_ids:
            options["check_ids"] = True
    return options


def to_sample(connected: dict[str, Any], done: dict[str, Any], cpu_seconds: float) -> Sample:
    """What the tables need from the two lines of load.c and the server's CPU time."""
    deliveries = done["deliveries"]
    faults = ("lost", "doubled", "disordered", "id_errors", "dropped", "post_errors")
    return {
        "deliveries_per_s": per(deliveries, done["delivery_seconds"]),
        "messages_per_s": per(done["accepted"], done["post_seconds"]),
        "p50_ms": done["p50_ms"],
        "p99_ms": done["p99_ms"],
        "post_p99_ms": done["post_p99_ms"],
        "cpu_us_per_delivery": per(cpu_seconds * 1e6, deliveries),
        "cpu_us_per_message": per(cpu_seconds * 1e6, done["accepted"]),
        "load_cpu_seconds": done["load_cpu_seconds"],
        **{name: done[name] for name in faults},
        "faults": connected["failed"] + sum(done[name] for name in faults),
    }


def measure_publishing(scenario: Scenario, name: str, bench: Workbench, scale: Scale) -> Sample:
    """Subscribers and publishers: rates, latency, faults and the server's CPU time."""
    with KINDS[name].running(bench, name) as server:
        warm_up(bench, server)
        with loading(bench, server, **stream_options(scenario, name, scale)) as load:
            connected = load.read()
            time.sleep(SETTLE_SECONDS / 4)
            before = server.cpu_seconds()
            load.go()
            done = load.read()
            return to_sample(connected, done, server.cpu_seconds() - before)


def measure_nodes(scenario: Scenario, _name: str, bench: Workbench, scale: Scale) -> Sample:
    """Publishing on one node, half of the subscribers on another: what the way across costs."""
    with servers.two_nodes(bench) as (here, there):
        for node in (here, there):
            warm_up(bench, node)
        options = stream_options(scenario, scenario.ours, scale) | {"other_port": there.port}
        with loading(bench, here, **options) as load:
            connected = load.read()
            time.sleep(SETTLE_SECONDS * 6)  # a heartbeat: each knows the other's audience
            before = here.cpu_seconds() + there.cpu_seconds()
            load.go()
            done = load.read()
            used = here.cpu_seconds() + there.cpu_seconds() - before
    names = ("other_p50_ms", "other_p99_ms")
    ratio = per(done["other_p99_ms"], done["p99_ms"])
    return to_sample(connected, done, used) | {n: done[n] for n in names} | {"other_to_own": ratio}


def open_idle(
    bench: Workbench, server: Server, count: int, path: str, transport: str
) -> tuple[Sample, int]:
    """Open `count` streams; what load.c says, and the server's resident bytes with them open."""
    options = {"subscribers": count, "events_path": path, "transport": transport}
    with loading(bench, server, **options) as load:
        connected = load.read()
        time.sleep(SETTLE_SECONDS)
        resident = server.rss_bytes()
        load.go()
        return {**connected, **load.read()}, resident


def measure_idle(scenario: Scenario, name: str, bench: Workbench, scale: Scale) -> Sample:
    """Idle streams: resident memory of each and how fast they connect."""
    how = KINDS[name].paths[scenario.transport], scenario.transport
    with KINDS[name].running(bench, name) as server:
        open_idle(bench, server, 200, *how)  # what the first ones load isn't a connection's cost
        time.sleep(SETTLE_SECONDS)
        before = server.rss_bytes()
        report, resident = open_idle(bench, server, scale.idle, *how)
    return {
        "rss_per_connection": per(resident - before, report["connected"]),
        "connects_per_s": per(report["connected"], report["connect_seconds"]),
        "faults": report["failed"] + report["dropped"],
    }


def measure_start(_scenario: Scenario, name: str, bench: Workbench, _scale: Scale) -> Sample:
    """From starting the process, with an empty data folder, to its first answer."""
    with KINDS[name].running(bench, name) as server:
        return {"first_answer_seconds": server.first_answer_seconds}


GUIDE_DATABASES = ("guide-pg", "guide-sqlite")
SCENARIOS = (
    Scenario(
        "fanout16",
        "{subscribers:,} SSE, 16 publishers, 200 B",
        (OURS, *GUIDE_DATABASES, "guide-memory", "nchan", "ceiling"),
        measure_publishing,
        (
            Row("deliveries/s", "deliveries_per_s", "guide-pg", at_least=12),
            Row("deliveries/s", "deliveries_per_s", "guide-sqlite", at_least=12),
            Row("deliveries/s", "deliveries_per_s", "guide-memory"),
            Row("deliveries/s", "deliveries_per_s", "nchan", at_least=7),
            Row("deliveries/s", "deliveries_per_s", "ceiling"),
            Row("p99, ms", "p99_ms", "nchan", at_most=0.25),
            Row("p99, ms", "p99_ms", "guide-pg"),
            Row("lost, doubled, out of order", "faults", at_most=0),
        ),
        {"publishers": 16},
    ),
    Scenario(
        "fanout1",
        "{subscribers:,} SSE, 1 publisher, 200 B",
        (OURS, "ceiling", "guide-pg", "guide-memory", "nchan"),
        measure_publishing,
        (
            Row("server CPU per delivery, us", "cpu_us_per_delivery", "ceiling", at_most=1.5),
            Row("server CPU per delivery, us", "cpu_us_per_delivery", "guide-memory"),
            Row("deliveries/s", "deliveries_per_s", "ceiling"),
            Row("deliveries/s", "deliveries_per_s", "guide-pg"),
            Row("lost, doubled, out of order", "faults", at_most=0),
        ),
        {"publishers": 1},
    ),
    Scenario(
        "steady",
        "{subscribers:,} SSE, 10 msg/s, 200 B",
        (OURS, "ceiling"),
        measure_publishing,
        (
            Row("p99, ms", "p99_ms", "ceiling", at_most=1.3),
            Row("p50, ms", "p50_ms", "ceiling"),
            Row("lost, doubled, out of order", "faults", at_most=0),
        ),
        {"publishers": 1, "rate": 10},
        rounds=7,
        stretch=1.5,  # so that its p99 is not one message's
    ),
    Scenario(
        "idle",
        "{idle:,} idle SSE connections",
        (OURS, "guide-memory", "ceiling"),
        measure_idle,
        (
            Row("resident bytes each", "rss_per_connection", at_most=2048),
            Row("resident bytes each", "rss_per_connection", "guide-memory"),
            Row("connects/s", "connects_per_s", "guide-memory", at_least=0.6),
            Row("refused or dropped", "faults", at_most=0),
        ),
    ),
    Scenario(
        "socketio16",
        "{subscribers:,} Socket.IO, 16 publishers, 200 B",
        (OURS, "socketio"),
        measure_publishing,
        (
            Row("deliveries/s", "deliveries_per_s", "socketio", at_least=8),
            Row("p99, ms", "p99_ms", "socketio"),
            Row("lost, doubled, out of order", "faults", at_most=0),
        ),
        {"publishers": 16},
        transport="socket.io",
    ),
    Scenario(
        "socketio1",
        "{subscribers:,} Socket.IO, 1 publisher, 200 B",
        (OURS, "socketio"),
        measure_publishing,
        (
            Row("deliveries/s", "deliveries_per_s", "socketio", at_least=1.5),
            Row("lost, doubled, out of order", "faults", at_most=0),
        ),
        {"publishers": 1},
        transport="socket.io",
    ),
    Scenario(
        "socketioidle",
        "{idle:,} idle Socket.IO connections",
        (OURS, "socketio"),
        measure_idle,
        (
            Row("resident bytes each", "rss_per_connection", "socketio", at_most=0.5),
            Row("connects/s", "connects_per_s", "socketio"),
            Row("refused or dropped", "faults", at_most=0),
        ),
        transport="socket.io",
    ),
    Scenario(
        "post16",
        "durable POST, 16 clients, 200 B",
        (OURS, *GUIDE_DATABASES),
        measure_publishing,
        (
            Row("messages/s", "messages_per_s", "guide-pg", at_least=1.2),
            Row("messages/s", "messages_per_s", "guide-sqlite", at_least=1.2),
        ),
        {"publishers": 16},
        subscribers=False,
    ),
    Scenario(
        "post1",
        "durable POST, 1 client, 200 B",
        (OURS, *GUIDE_DATABASES),
        measure_publishing,
        (
            Row("messages/s", "messages_per_s", "guide-pg", at_least=0.8),
            Row("messages/s", "messages_per_s", "guide-sqlite", at_least=0.8),
        ),
        {"publishers": 1},
        subscribers=False,
    ),
    Scenario(
        "pgfanout16",
        "{subscribers:,} SSE, 16 publishers, 200 B, both on PostgreSQL",
        ("rtapp-pg", "guide-pg"),
        measure_publishing,
        (
            Row("deliveries/s", "deliveries_per_s", "guide-pg", at_least=12),
            Row("p99, ms", "p99_ms", "guide-pg"),
            Row("lost, doubled, out of order", "faults", at_most=0),
        ),
        {"publishers": 16},
        ours="rtapp-pg",
    ),
    Scenario(
        "pgpost16",
        "durable POST, 16 clients, 200 B, both on PostgreSQL",
        ("rtapp-pg", "guide-pg"),
        measure_publishing,
        (Row("messages/s", "messages_per_s", "guide-pg", at_least=1.2),),
        {"publishers": 16},
        subscribers=False,
        ours="rtapp-pg",
    ),
    Scenario(
        "pgpost1",
        "durable POST, 1 client, 200 B, both on PostgreSQL",
        ("rtapp-pg", "guide-pg"),
        measure_publishing,
        (Row("messages/s", "messages_per_s", "guide-pg"),),
        {"publishers": 1},
        subscribers=False,
        ours="rtapp-pg",
    ),
    Scenario(
        "nodes",
        "two nodes, {subscribers:,} SSE, half on each, 100 msg/s on one",
        ("rtapp-pg",),
        measure_nodes,
        (
            Row("p99 across to p99 on the spot", "other_to_own", at_most=3),
            Row("p99 on the spot, ms", "p99_ms"),
            Row("p99 across, ms", "other_p99_ms"),
            Row("lost, doubled, out of order", "faults", at_most=0),
        ),
        {"publishers": 1, "rate": 100},
        ours="rtapp-pg",
    ),
    Scenario(
        "nodes16",
        "two nodes, {subscribers:,} SSE, half on each, 16 publishers on one",
        ("rtapp-pg",),
        measure_nodes,
        (
            Row("p99 across to p99 on the spot", "other_to_own", at_most=3),
            Row("deliveries/s", "deliveries_per_s"),
            Row("lost, doubled, out of order", "faults", at_most=0),
        ),
        {"publishers": 16},
        ours="rtapp-pg",
    ),
    Scenario(
        "batch",
        "NDJSON batches of 500, 16 clients",
        (OURS,),
        measure_publishing,
        # The harder of the two: single posts of 16 clients share commits, those of one can't.
        (Row("messages/s, to single posts", "messages_per_s", OURS, 10, scenario="post16"),),
        {"publishers": 16, "batch": 500, "max_messages": 5_000_000},
        subscribers=False,
    ),
    Scenario(
        "batch1",
        "NDJSON batches of 500, 1 client",
        (OURS,),
        measure_publishing,
        (Row("messages/s, to single posts", "messages_per_s", OURS, 10, scenario="post1"),),
        {"publishers": 1, "batch": 500, "max_messages": 5_000_000},
        subscribers=False,
    ),
    Scenario(
        "start",
        "start with an empty data folder",
        (OURS, "guide-memory"),
        measure_start,
        (Row("seconds to the first answer", "first_answer_seconds", at_most=1),),
    ),
)


# Many runs


@dataclass
class Results:
    """Samples by scenario and server, in the order of the rounds, and what couldn't be measured."""

    samples: dict[str, dict[str, list[Sample]]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def values(self, scenario: str, server: str, metric: str) -> list[float]:
        samples = self.samples.get(scenario, {}).get(server, [])
        return [sample[metric] for sample in samples if metric in sample]

    def add(self, scenario: str, server: str, sample: Sample) -> None:
        self.samples.setdefault(scenario, {}).setdefault(server, []).append(sample)


def available(scenario: Scenario, wanted: set[str], results: Results) -> list[str]:
    """The scenario's servers that can run here; why another can't is noted once."""
    names = []
    for name in scenario.servers:
        reason = None if not wanted or name in wanted else "left out by --servers"
        reason = reason or KINDS[name].missing()
        if reason:
            results.missing[name] = reason
        else:
            names.append(name)
    return names


def run_scenario(
    scenario: Scenario, names: Sequence[str], bench: Workbench, scale: Scale, results: Results
) -> None:
    """All rounds of a scenario; every second one backwards, so that no one is always first."""
    for number in range(max(scale.rounds, scenario.rounds)):
        for name in names if number % 2 == 0 else reversed(names):
            say(f"{scenario.name} round {number + 1}: {name}")
            try:
                results.add(scenario.name, name, scenario.measure(scenario, name, bench, scale))
            except (BenchError, OSError, psutil.Error) as error:
                results.failures.append(f"{scenario.name}, {name}: {error}")
                say(results.failures[-1])


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# The tables


@dataclass(frozen=True)
class Line:
    """A row with its values; `reached` is None where there is no target or no value."""

    scenario: str
    metric: str
    ours: float | None
    against: str
    theirs: float | None
    ratio: float | None
    target: str
    reached: bool | None
    note: str = ""


def judge(row: Row, value: float | None) -> bool | None:
    if value is None or (row.at_least is None and row.at_most is None):
        return None
    enough = row.at_least is None or value >= row.at_least
    return enough and (row.at_most is None or value <= row.at_most)


def target_text(row: Row) -> str:
    times = " times" if row.against else ""
    if row.at_least is not None:
        return f"at least {row.at_least:g}{times}"
    return "" if row.at_most is None else f"at most {row.at_most:g}{times}"


def why_empty(row: Row, scenario: Scenario, results: Results) -> str:
    other = row.against or scenario.ours
    return results.missing.get(other) or results.missing.get(scenario.ours) or "no run succeeded"


def to_line(row: Row, scenario: Scenario, results: Results, scale: Scale) -> Line:
    """Compare the rounds pairwise and take the median."""
    ours = results.values(scenario.name, scenario.ours, row.metric)
    theirs = results.values(row.scenario or scenario.name, row.against, row.metric)
    ratios = [per(mine, other) for mine, other in zip(ours, theirs, strict=False) if other]
    ratio = statistics.median(ratios) if ratios else None
    # A count of faults is worth no median: one is one too many.
    middle = max if row.metric == "faults" else statistics.median
    value = middle(ours) if ours else None
    judged = ratio if row.against else value
    return Line(
        scenario.title.format(**asdict(scale)),
        row.title,
        value,
        against_text(row),
        statistics.median(theirs) if theirs else None,
        ratio,
        target_text(row),
        judge(row, judged),
        why_empty(row, scenario, results) if judged is None else "",
    )


def against_text(row: Row) -> str:
    """The server, or the other scenario of our own, that a row compares with."""
    if not row.scenario:
        return KINDS[row.against].title if row.against else ""
    return next(one.title for one in SCENARIOS if one.name == row.scenario)


def number(value: float | None) -> str:
    """Three digits are all that such runs are worth."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print()


def reached_text(line: Line) -> str:
    if line.note:
        return f"not measured: {line.note}"
    return {True: "yes", False: "**no**", None: ""}[line.reached]


def print_lines(lines: Sequence[Line]) -> None:
    head = ("scenario", "measure", "rtapp", "against", "its value", "ratio", "target", "reached")
    rows = []
    for line in lines:
        values = (number(line.ours), line.against, number(line.theirs), number(line.ratio))
        rows.append((line.scenario, line.metric, *values, line.target, reached_text(line)))
    print_table(head, rows)


DETAILS = {
    "deliveries/s": "deliveries_per_s",
    "messages/s": "messages_per_s",
    "p50 ms": "p50_ms",
    "p99 ms": "p99_ms",
    "answer p99 ms": "post_p99_ms",
    "CPU us/delivery": "cpu_us_per_delivery",
    "bytes/connection": "rss_per_connection",
    "connects/s": "connects_per_s",
    "start s": "first_answer_seconds",
    "faults": "faults",
}


def print_details(results: Results) -> None:
    """The medians of everything measured, by scenario and server."""
    rows = []
    for scenario, by_server in results.samples.items():
        for server, samples in by_server.items():
            cells = [detail(results.values(scenario, server, m), m) for m in DETAILS.values()]
            rows.append((scenario, KINDS[server].title, str(len(samples)), *cells))
    print_table(("scenario", "server", "rounds", *DETAILS), rows)


def detail(values: Sequence[float], metric: str) -> str:
    if not values or (metric != "faults" and not any(values)):
        return ""
    return number(max(values) if metric == "faults" else statistics.median(values))


# The machine


def cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def fsync_ms(folder: Path) -> float:
    """A median write and fsync of 4 KiB where the databases lie: durable rates hang on it."""
    times = []
    with (folder / "fsync").open("wb") as file:
        for _ in range(50):
            began = time.perf_counter()
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())
            times.append(time.perf_counter() - began)
    return statistics.median(times) * 1000


def postgres_version() -> str:
    folder = servers.postgres_folder()
    if folder is None:
        return "none"
    command = [str(folder / "postgres"), "--version"]
    return servers.output_of(command).split()[2]


def describe_machine(folder: Path) -> dict[str, str]:
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "CPU": cpu_model(),
        "cores": str(os.cpu_count()),
        "kernel": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        "Node": ".".join(map(str, servers.node_version())) or "none",
        "PostgreSQL": postgres_version(),
        "write and fsync of 4 KiB": f"{fsync_ms(folder):.2f} ms",
        "load at start": f"{os.getloadavg()[0]:.1f}",
    }


def print_machine(machine: dict[str, str], scale: Scale) -> None:
    print("; ".join(f"{name}: {value}" for name, value in machine.items()) + ".")
    print(
        f"Medians of {scale.rounds} interleaved rounds (more where the scenario asks), "
        f"{scale.seconds:g} s each; all on one machine, over loopback. A ratio is the median of "
        "the rounds' own ratios, so it may differ from that of the two medians beside it."
    )


# Command line


def parse_arguments() -> argparse.Namespace:
    names = ", ".join(scenario.name for scenario in SCENARIOS)
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", default="", help=f"scenarios, by comma: {names}")
    parser.add_argument("--servers", default="", help=f"servers, by comma: {', '.join(KINDS)}")
    parser.add_argument("--rounds", type=int, help="interleaved rounds (3)")
    parser.add_argument("--quick", action="store_true", help="short runs, one round: a smoke test")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample there")
    parser.add_argument("--check", action="store_true", help="exit 1 when a target is missed")
    parser.add_argument("--work-dir", type=Path, help="where databases lie (the temporary folder)")
    parser.add_argument("--python", default=sys.executable, help="the Python that runs rtapp.py")
    return parser.parse_args()


def choose(text: str, known: Sequence[str]) -> set[str]:
    """The names in a comma-separated option."""
    names = {name for name in text.split(",") if name}
    unknown = names - set(known)
    if unknown:
        raise BenchError(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(known)}")
    return names


def choose_scale(options: argparse.Namespace) -> Scale:
    """The sizes of the runs, no larger than the limit of open files allows."""
    room = raise_file_limit() - SPARE_FILES
    if options.quick:
        return Scale(options.rounds or 1, 1.5, min(1000, room), min(10000, room))
    return Scale(options.rounds or 3, 4.0, min(1000, room), min(10000, room))


def raise_file_limit() -> int:
    """Raise the soft limit, which the servers inherit, to the hard one."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard == resource.RLIM_INFINITY:
        hard = 65536
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def choose_scenarios(options: argparse.Namespace) -> list[Scenario]:
    wanted = choose(options.only, [scenario.name for scenario in SCENARIOS])
    chosen = [scenario for scenario in SCENARIOS if not wanted or scenario.name in wanted]
    if not options.quick:
        return chosen
    return [with_rounds(scenario, min(scenario.rounds, 3)) for scenario in chosen]


def with_rounds(scenario: Scenario, rounds: int) -> Scenario:
    return Scenario(**{**vars(scenario), "rounds": rounds})


def run(options: argparse.Namespace, bench: Workbench) -> int:
    """Measure, print, and say by the exit code whether all was well."""
    scale = choose_scale(options)
    scenarios = choose_scenarios(options)
    wanted = choose(options.servers, list(KINDS))
    bench.compile("load", "-lpthread")
    machine = describe_machine(bench.folder)
    results = Results()
    for scenario in scenarios:
        run_scenario(scenario, available(scenario, wanted, results), bench, scale, results)
    lines = [to_line(row, one, results, scale) for one in scenarios for row in one.rows]
    print_lines(lines)
    print_details(results)
    print_machine(machine, scale)
    for failure in results.failures:
        print(f"\nFailed: {failure}")
    if options.json:
        write_json(options.json, machine, scale, results, lines)
    return exit_code(results, lines, options.check)


def write_json(
    path: Path, machine: dict[str, str], scale: Scale, results: Results, lines: Sequence[Line]
) -> None:
    report = {
        "machine": machine,
        "scale": asdict(scale),
        **asdict(results),
        "lines": [asdict(line) for line in lines],
    }
    path.write_text(json.dumps(report, indent=1) + "\n")


def exit_code(results: Results, lines: Sequence[Line], check: bool) -> int:
    faulty = any(
        sample.get("faults")
        for by_server in results.samples.values()
        for server, samples in by_server.items()
        if server.startswith(OURS)
        for sample in samples
    )
    missed = check and any(line.reached is False for line in lines)
    return 1 if faulty or missed or results.failures else 0


def main() -> int:
    options = parse_arguments()
    if not sys.platform.startswith("linux"):
        say("bench: the load driver needs Linux (epoll)")
        return 2
    # Ended from outside, it still ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = Path(tempfile.mkdtemp(prefix="rtapp-bench-", dir=options.work_dir))
    folder.chmod(0o755)  # PostgreSQL runs as another user below it
    bench = Workbench(folder, options.python)
    try:
        return run(options, bench)
    except BenchError as error:
        say(f"bench: {error}")
        return 2
    finally:
        bench.close()


if __name__ == "__main__":
    sys.exit(main())
