"""Video calls of real browsers on hosts of a local network."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Playwright

import lan as network
from browsers import hurry, stop_clock, until
from calls import (
    BRIEF_CAMERA,
    COLOURS,
    DEAD_CAMERA,
    ENCODER,
    LATE_ANSWERS,
    OFTEN,
    REAR_CAMERA,
    RESTART,
    RESTARTS,
    FirefoxPerson,
    Home,
    Homes,
    Person,
    api,
    figures,
    flow,
    make_room,
    pairs,
    wait_first_picture,
)
from conftest import Certificate
from lan import Host, Lan
from support import LONG, PATIENCE, Answer, Server, wait_for

Note = Callable[[str, float], None]
SECRET = "a-secret-of-this-test"
FIRST = f"{network.NETWORK}.1"


@pytest.fixture(scope="module")
def lan() -> Iterator[Lan]:
    if reason := network.obstacle():
        pytest.skip(reason)
    with Lan("server") as made:
        yield made


@pytest.fixture(scope="module")
def homes(
    playwright: Playwright, lan: Lan, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Homes]:
    made = Homes(playwright, lan, tmp_path_factory.mktemp("homes"))
    yield made
    made.close()


class Office:
    """A server on a network, and the people who meet there."""

    def __init__(self, homes: Homes, lan: Lan, folder: Path) -> None:
        self.homes = homes
        self.lan = lan
        self.folder = folder
        self.certificate = Certificate(folder, FIRST)
        self.people: list[Person] = []
        self.own: list[Home] = []
        self.server = Server(folder / "data")

    def serve(self, **settings: object) -> Office:
        more = {"ice_servers": "", **self.certificate.settings, **settings}
        more["namespace"] = self.lan["server"].namespace
        self.server = Server(self.folder / "data", "--host", "0.0.0.0", **more)
        self.server.start()
        return self

    def room(self, **body: object) -> str:
        """A new room; its page's address."""
        tls = self.certificate.trusting
        room = make_room(self.server, self.lan["server"], tls, **body)
        return f"https://{FIRST}:{self.server.port}/room/{room}"

    def person(self, colour: str, own: bool = False, **size: int) -> Person:
        """Somebody; with an `own` home where the test does something to the host."""
        home = self.homes.new(colour) if own else self.homes.common(colour, **size)
        if own:
            self.own.append(home)
        person = Person(home)
        self.people.append(person)
        return person

    def some(self, count: int, own: bool = False, **size: int) -> list[Person]:
        return [self.person(colour, own, **size) for colour in list(COLOURS)[:count]]

    def two(self, url: str, own: bool = False) -> list[Person]:
        """Two who see and hear each other."""
        people = self.some(2, own)
        for person in people:
            person.join(url)
        flow(people, 10)
        return people

    def call(self, method: str, path: str, body: object = None) -> Answer:
        """By the administrator."""
        path = f"/api/video/rooms/{path}"
        tls = self.certificate.trusting
        return api(self.server, self.lan["server"], tls, method, path, body)

    def number(self, room: str, name: str) -> int:
        """A participant's, by name."""
        found = self.call("GET", room).json["participants"]
        return next(int(one["id"]) for one in found if one["displayName"] == name)

    def act(self, room: str, number: int, action: str) -> None:
        answer = self.call("POST", f"{room}/participants/{number}", {"action": action})
        assert answer.status == 200, answer

    def close(self) -> None:
        for person in self.people:
            person.close()
        for home in self.own:
            self.homes.remove(home)
        self.server.kill()


@pytest.fixture
def office(homes: Homes, lan: Lan, tmp_path: Path) -> Iterator[Office]:
    made = Office(homes, lan, tmp_path)
    yield made
    made.close()
    assert [trouble for person in made.people for trouble in person.troubles] == []


@contextlib.contextmanager
def relay(host: Host, *more: str) -> Iterator[None]:
    """A TURN server (coturn) with the server's secret."""
    if not shutil.which("turnserver"):
        pytest.skip("no TURN server is installed (Debian: coturn)")
    address = [f"--listening-ip={host.address}", f"--relay-ip={host.address}"]
    secret = ["--use-auth-secret", f"--static-auth-secret={SECRET}", "--realm=test"]
    rest = ["--no-cli", "--no-tls", "--no-dtls", "--fingerprint", "--log-file=stdout", "--pidfile="]
    command = [*host.command, "turnserver", "-n", *address, *secret, *rest, *more]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.kill()
        process.wait(PATIENCE)


both_transports = pytest.mark.parametrize("transport", ["sse", "websocket"])


over_sse = pytest.param("sse")
in_the_long_run = pytest.mark.skipif(not LONG, reason="long: RTAPP_LONG=1 runs it")
over_websocket = pytest.param("websocket", marks=in_the_long_run)
each_transport = pytest.mark.parametrize("transport", [over_sse, over_websocket])

BACK_ONLINE = "dispatchEvent(new Event('online'))"


@both_transports
def test_two_meet(office: Office, transport: str, note: Note) -> None:
    url = f"{office.serve().room()}?transport={transport}"
    one, other = office.some(2)
    one.join(url)
    other.join(url)
    note("first picture", wait_first_picture([one, other]))
    note("30 frames", flow([one, other], 30))
    for seer, seen in pairs([one, other]):
        wait_for(lambda: seer.sees_colour(seen) == seen.colour, f"{seer.name} to see {seen.name}")  # noqa: B023


@pytest.mark.parametrize(
    ("count", "transport"),
    [(3, "sse"), pytest.param(4, "websocket", marks=in_the_long_run)],
    ids=["three", "four"],
)
def test_more_meet(office: Office, count: int, transport: str, note: Note) -> None:
    url = f"{office.serve().room()}?transport={transport}"
    people = office.some(count)
    for person in people:
        person.join(url)
    note("first pictures", wait_first_picture(people, PATIENCE * 2))
    note("30 frames", flow(people, 30, PATIENCE * 2))
    for seer, seen in pairs(people):
        wait_for(lambda: seer.sees_colour(seen) == seen.colour, f"{seer.name} to see {seen.name}")  # noqa: B023


LATENESS = """
window.lateness = 0;
let before = performance.now();
setInterval(() => {
  const now = performance.now();
  lateness = Math.max(lateness, now - before - 250);
  before = now;
}, 250);
"""
UNPAINTED = """
() => {
  const sheet = new CSSStyleSheet();
  sheet.replaceSync('video { visibility: hidden }');
  document.adoptedStyleSheets = [sheet];
}
"""


@in_the_long_run
def test_six_meet(office: Office, note: Note) -> None:
    """Nothing is painted: six software decoders and encoders are enough for two cores."""
    url = office.serve().room()
    people = office.some(6, width=160, height=90, fps=5)
    for person in people:
        person.open(url)
        person.page.evaluate(UNPAINTED)
        person.ask()
    note("first pictures", wait_first_picture(people, PATIENCE * 8))
    note("10 frames", flow(people, 10, PATIENCE * 8, concealed=1))
    assert [person.streams for person in people] == [1] * 6, "none was taken for dead"


@contextlib.contextmanager
def starved(times: int) -> Iterator[None]:
    """So many programs for each core that never pause, each with as much right to it as a whole
    browser: a session of its own is a group of the scheduler's."""
    spin = [sys.executable, "-c", "while True: pass"]
    count = times * (os.cpu_count() or 1)
    spinning = [subprocess.Popen(spin, start_new_session=True) for _ in range(count)]
    try:
        yield
    finally:
        for process in spinning:
            process.kill()
        for process in spinning:
            process.wait(PATIENCE)


@in_the_long_run
def test_six_on_starved_cores(office: Office, note: Note) -> None:
    """Late is not dead: no stream is opened anew, though each page hears of its pings, and acts on
    its own timers, seconds after they were due."""
    url = office.serve(ping_interval=2).room()
    people = office.some(6)
    for person in people:
        person.page.add_init_script(LATENESS)
        person.open(url)
    with starved(7):
        for person in people:
            person.ask()
        people[0].page.wait_for_timeout(60_000)  # six times the silence that ends a stream
    late = [person.page.evaluate("lateness") for person in people]
    note("latest timer in ms", max(late))
    flow(people, 5, PATIENCE * 2, concealed=1)
    assert [person.streams for person in people] == [1] * 6, late


def test_those_who_join_at_once(office: Office, note: Note) -> None:
    """One connection a pair, whoever comes first; also where one's signals are so late that the
    other's first offer crosses them."""
    url = office.serve().room()
    one, other = office.some(2)
    for person in (one, other):
        person.context.add_init_script(hurry(3))
    other.delay_signals(300)
    crossed = 0
    for round_ in range(20 if LONG else 3):
        if round_ == 1:
            for person in (one, other):
                person.delay_signals(6_000)
        if round_ == 2:
            for person in (one, other):
                person.delay_signals(0)
        for person in (one, other):
            person.open(url)
        for person in (one, other):
            person.ask()
        note("first picture", wait_first_picture([one, other], PATIENCE * 2))
        for person in (one, other):
            assert person.tiles() == ["Green", "Red"]
            assert person.connections() == 1
            crossed += person.crossed()
        for person in (one, other):
            person.press("leave")
            person.phase("left")
    assert crossed


PULLED = {"its own": (Host.unplug, Host.plug), "one behind": (Host.cut_off, Host.join)}


@pytest.mark.parametrize(
    ("transport", "which"),
    [
        ("sse", "its own"),
        pytest.param("websocket", "one behind", marks=in_the_long_run),
        pytest.param("websocket", "its own", marks=in_the_long_run),
        pytest.param("sse", "one behind", marks=in_the_long_run),
    ],
)
def test_a_cable_is_pulled(office: Office, transport: str, which: str, note: Note) -> None:
    """A browser is told of its own computer's cable only."""
    pull, put = PULLED[which]
    url = f"{office.serve().room()}?transport={transport}"
    one, other = office.two(url, own=True)
    number = one.tile(other)["tile"]
    pull(other.host)

    def stands_still() -> list[int]:
        """The frames decoded, once nothing is on its way any longer."""
        before = [figures(pair)[0] for pair in pairs([one, other])]
        time.sleep(0.3)
        return before if before == [figures(pair)[0] for pair in pairs([one, other])] else []

    before = wait_for(stands_still, "the pictures to stand still")
    for seer, seen in pairs([one, other]):
        wait_for(lambda: seer.tile(seen)["link"] == "interrupted", "the tile to say so")  # noqa: B023
    assert [figures(pair)[0] for pair in pairs([one, other])] == before
    put(other.host)
    note("flows again", flow([one, other], 10, PATIENCE * 2, concealed=1))
    flow([one, other], 10)
    assert one.tile(other)["tile"] == number
    wait_for(lambda: one.tile(other)["link"] == "connected", "the tile to say so")


@each_transport
def test_an_address_changes(office: Office, transport: str, note: Note) -> None:
    url = f"{office.serve().room()}?transport={transport}"
    one, other = office.two(url, own=True)
    other.host.move(99)
    # What the silence cost stays in the statistics of the sound.
    note("flows again", flow([one, other], 10, PATIENCE * 4, concealed=1))


@in_the_long_run
def test_a_phone_vanishes(office: Office, note: Note) -> None:
    url = office.serve().room()
    one, other = office.two(url, own=True)
    other.host.unplug()
    start = time.monotonic()
    wait_for(lambda: one.tile(other)["status"] == "reconnecting", "connection lost", 150)
    note("connection lost", time.monotonic() - start)
    wait_for(lambda: one.tiles() == [one.name], "the tile to go", 300)
    note("gone", time.monotonic() - start)


@each_transport
def test_the_server_is_killed_in_a_call(office: Office, transport: str, note: Note) -> None:
    url = f"{office.serve().room()}?transport={transport}"
    *early, late = office.some(4 if LONG else 3)
    for person in early:
        person.join(url)
    flow(early, 10, PATIENCE * 2)
    office.server.kill()
    note("30 frames without a server", flow(early, 30, PATIENCE * 2))
    office.server.start()
    late.join(url)
    note("one more after the restart", wait_first_picture([*early, late], PATIENCE * 2))
    flow([*early, late], 10, PATIENCE * 2)


@each_transport
def test_a_page_is_loaded_anew_in_a_call(office: Office, transport: str, note: Note) -> None:
    url = f"{office.serve().room()}?transport={transport}"
    one, other = office.two(url)
    number = one.tile(other)["tile"]
    other.join(url)
    note("first picture", wait_first_picture([one, other]))
    flow([one, other], 10)
    assert one.tile(other)["tile"] == number
    assert one.tiles() == other.tiles() == ["Green", "Red"]


def test_a_link_in_two_tabs(office: Office) -> None:
    url = office.serve().room()
    one, other = office.two(url)
    first = other.page
    other.tab()
    other.join(url)
    first.wait_for_selector('main[data-phase="left"][data-reason="elsewhere"]', state="attached")
    flow([one, other], 10)
    assert one.tiles() == ["Green", "Red"]


TURN = {"turn_url": f"turn:{FIRST}:3478", "turn_secret": SECRET, "turn_seconds": 10}


def credentials_are_renewed(*people: Person) -> None:
    """When the first ones have ended, new ways by the relay are found all the same."""

    def end(person: Person) -> int:
        (sent,) = person.sends()
        return int(sent["user"].partition(":")[0])

    first = max(end(person) for person in people)
    wait_for(
        lambda: time.time() > first + 1 and min(map(end, people)) > time.time(),
        "other credentials when the first ones have ended",
        PATIENCE * 2,
    )
    for person in people:
        person.page.evaluate(RESTART)


@pytest.mark.parametrize("relayed", [False, True], ids=["no way", "by a relay"])
def test_hosts_that_may_not_reach_each_other(office: Office, relayed: bool, note: Note) -> None:
    url = office.serve(**(TURN if relayed else {})).room()
    one, other = office.some(2, own=True)
    for person in (one, other):
        person.host.isolate()
        if not relayed:
            person.page.clock.install()
    with relay(office.lan["server"]) if relayed else contextlib.nullcontext():
        for person in (one, other):
            person.join(url)
        if relayed:
            note("first picture", wait_first_picture([one, other], PATIENCE * 2))
            flow([one, other], 10)
            pair = one.hears(other)["pair"]
            assert "relay" in (pair["local"], pair["remote"])
            credentials_are_renewed(one, other)
            flow([one, other], 10)
            return
        for person in (one, other):
            until(person.page, DESCRIBED)
            for seconds in (1, 16):  # it looks once a second
                person.page.clock.fast_forward(seconds * 1_000)
        for seer, seen in pairs([one, other]):
            wait_for(lambda: seer.tile(seen)["link"] == "failed", "no way")  # noqa: B023
            assert "each other" in seer.tile(seen)["trouble"]


# Both know of each other.
DESCRIBED = """
() => made.some((connection) => connection.localDescription && connection.remoteDescription)
"""


@in_the_long_run
def test_an_allocation_outlives_its_credentials(office: Office) -> None:
    """A browser refreshes what it has at the TURN server by the credentials that made it."""
    url = office.serve(**TURN).room()
    one, other = office.some(2, own=True)
    for person in (one, other):
        person.host.isolate()
    with relay(office.lan["server"], "--max-allocate-lifetime=20"):
        for person in (one, other):
            person.join(url)
        flow([one, other], 10, PATIENCE * 2)
        time.sleep(60)  # three lifetimes, six of the credentials
        flow([one, other], 10)
        pair = one.hears(other)["pair"]
        assert "relay" in (pair["local"], pair["remote"])


@pytest.mark.skipif(not Path("/dev/net/tun").exists(), reason="no /dev/net/tun to delay by")
def test_a_poor_connection_is_told_while_it_is_poor(office: Office, note: Note) -> None:
    url = office.serve().room()
    one, other = office.some(2)
    one.context.add_init_script(OFTEN.replace("100", "500"))
    for person in (one, other):
        person.join(url)
    flow([one, other], 10)

    def is_good() -> bool:
        return one.tile(other)["qualityReason"] in ("", "jitter")  # that is this machine's, if busy

    wait_for(is_good, "a good connection")

    def is_told() -> bool:
        tile = one.tile(other)
        return tile["qualityReason"] == "loss" and "poor" in tile["trouble"].lower()

    with other.host.impaired(delay_ms=50, loss=3):
        start = time.monotonic()
        wait_for(is_told, "the loss to be told", PATIENCE * 4)
        note("told", time.monotonic() - start)
        flow([one, other], 10)
        # The browser measures the way every few seconds: by then the loss may have been told.
        wait_for(lambda: one.hears(other)["pair"]["rtt"] >= 0.1, "the delay to be measured")
    start = time.monotonic()
    wait_for(is_good, "the end to be told", PATIENCE * 4)
    note("no longer told", time.monotonic() - start)


# Kilobits a second, by lines.
LADDER = {1080: 4_000, 720: 2_000, 540: 900, 360: 500, 270: 250, 180: 120, 90: 50}


def rung(lines: float, top: int) -> int:
    """The smallest picture that fills a tile, up to the largest that is sent."""
    return min((each for each in LADDER if lines <= each <= top), default=top)


SOUND = """
() => made.filter((connection) => connection.connectionState === 'connected')
  .map((connection) => connection.getSenders().find(({ track }) => track?.kind === 'audio'))
  .map((sender) => sender.getParameters().encodings[0])
"""


@pytest.mark.parametrize(
    ("more", "top", "lower"),
    [({}, 720, 270), pytest.param({"video_max_height": 1080}, 1080, 360, marks=in_the_long_run)],
    ids=["720", "1080"],
)
def test_what_is_sent_follows_the_viewers_tile_and_the_processor(
    office: Office, more: dict[str, int], top: int, lower: int
) -> None:
    """The browsers' statistics are doctored for this one: they say what limits the encoder."""
    url = office.serve(**more).room()
    one, other = office.some(2)
    for script in (OFTEN.replace("100", "50"), ENCODER):
        one.context.add_init_script(script)
    for person in (one, other):
        person.join(url)
    flow([one, other], 10)
    sound = one.page.evaluate(SOUND)
    assert [(each["priority"], each["networkPriority"]) for each in sound] == [("high", "high")]
    assert one.sends()[0]["networkPriority"] == "low"  # what is short is the picture's

    def wait_sent(lines: int) -> None:
        """Until that many are shown, and as much is sent as they need."""

        def is_so() -> bool:
            bits = one.sends()[0]["maxBitrate"]
            return rung(other.lines_for(one), top) == lines and bits == LADDER[lines] * 1_000

        wait_for(is_so, f"{lines} lines")

    large, small = {"width": 1600, "height": 1100}, {"width": 300, "height": 120}
    other.page.set_viewport_size(large)
    wait_sent(top)
    other.page.set_viewport_size(small)
    wait_sent(90)
    wait_for(lambda: other.hears(one)["video"]["frameHeight"] == 90, "smaller pictures")
    other.page.set_viewport_size(large)
    wait_sent(top)
    one.page.evaluate("limitedBy = 'cpu'")
    wait_for(lambda: one.sends()[0]["maxBitrate"] == LADDER[lower] * 1_000, "three steps down")
    wait_for(lambda: one.tile(one)["trouble"], "the limit to be told")
    one.page.evaluate("limitedBy = 'none'")
    wait_sent(top)
    wait_for(lambda: not one.tile(one)["trouble"], "its end to be told")


# Two peers in one page, connected in earnest; then what the browser says of one's connection is
# doctored, with the clock in the test's hands.
TWO_PEERS = """
async () => {
  const { Peer } = await import('/static/js/peer.js');
  window.restarts = 0;
  window.said = '';
  const doctored = RTCPeerConnection.prototype;
  const real = Object.getPrototypeOf(doctored);
  doctored.restartIce = function () {
    if (this === window.first) restarts += 1;
    real.restartIce.call(this);
  };
  Object.defineProperty(doctored, 'connectionState', {
    get() { return (this === window.first && said) || Reflect.get(real, 'connectionState', this); },
  });
  window.peers = [];
  const names = ['onLink', 'onStreams', 'onChannel', 'onView', 'onUnanswered', 'onData'];
  const hooks = (other) => ({
    ...Object.fromEntries(names.map((name) => [name, () => {}])),
    signal: async (type, signal) => peers[other].take(JSON.parse(JSON.stringify(signal))),
    canSignal: () => true,
  });
  for (const at of [0, 1]) {
    peers.push(new Peer({ polite: at === 1, iceServers: [], hooks: hooks(1 - at) }));
  }
  window.first = made.find((connection) => connection.onconnectionstatechange);
}
"""
SAY = """(state) => {
  said = state;
  first.dispatchEvent(new Event('connectionstatechange'));
}"""
# What the first one last agreed upon with the other: until then a restart repeats the offer.
AGREED = """() => first.signalingState === 'stable'
  && first.currentLocalDescription.sdp.match(/ice-ufrag:(.*)/)[1]"""


def test_a_connection_is_restarted_when_it_fails_and_when_it_stays_away(office: Office) -> None:
    """At once on `failed`; on `disconnected`, from which it often comes back, after five seconds.
    Nothing else is wrong: no stream is opened anew, no network returns."""
    page = office.person("red").page
    page.clock.install()
    page.goto(office.serve().room().replace("/room/", "/?"))
    page.evaluate(TWO_PEERS)
    linked = "() => peers.every((peer) => peer.link === 'connected')"
    wait_for(lambda: page.evaluate(linked), "both to be connected")
    stop_clock(page)
    assert page.evaluate("restarts") == 0
    agreed = page.evaluate(AGREED)
    assert agreed

    page.evaluate(SAY, "disconnected")
    page.clock.run_for(4_000)
    assert page.evaluate("[restarts, peers[0].link]") == [0, "interrupted"]
    page.clock.run_for(2_000)
    assert page.evaluate("restarts") == 1
    wait_for(lambda: page.evaluate(AGREED) not in (False, agreed), "the new ways to be agreed upon")

    page.evaluate(SAY, "")
    assert page.evaluate("peers[0].link") == "connected"
    page.evaluate(SAY, "failed")
    assert page.evaluate("restarts") == 2


def test_a_crowd_is_told(office: Office) -> None:
    """Of people without a browser, who come and go at the server only."""
    url = office.serve().room()
    room = url.rsplit("/", 1)[1]
    person = office.person("red").join(url)
    notice = person.page.locator('[data-notice="load"]')
    sessions = [f"somebody-without-a-page-{number}" for number in range(8)]

    def come(*some: str) -> None:
        for session in some:
            there = office.call("POST", f"{room}/join", {"session": session})
            assert there.status == 200, there
        wait_for(lambda: len(person.tiles()) == len(there.json["participants"]), "their tiles")

    come(*sessions[:4])
    assert notice.count() == 0
    come(sessions[4])
    notice.filter(has_text="smaller").wait_for()
    come(*sessions[5:])
    notice.filter(has_text="More than eight").wait_for()
    assert office.call("POST", f"{room}/leave", {"session": sessions[0]}).status == 200
    notice.filter(has_text="smaller").wait_for()


def test_a_network_that_is_back_is_tried_soon(office: Office) -> None:
    """When the browser says so, and neither the connection nor the stream is back by itself."""
    if not shutil.which("nft"):
        pytest.skip("needs nft (Debian: nftables)")
    url = office.serve().room()
    one, other = office.two(url, own=True)
    one.page.evaluate(RESTARTS)
    one.page.route("**/api/events?*", lambda _: None)  # not answered
    one.host.filter("udp dport 1024-65535 drop")
    wait_for(lambda: one.tile(other)["link"] == "interrupted", "the tile to say so")
    assert one.page.evaluate("restarts") == 0
    one.page.evaluate(BACK_ONLINE)
    wait_for(lambda: one.page.evaluate("restarts") == 1, "a look for new ways")
    one.page.unroute("**/api/events?*")
    one.host.filter()
    one.page.evaluate(BACK_ONLINE)
    flow([one, other], 10, PATIENCE * 2, concealed=1)


def goes_on_sending(person: Person) -> None:
    """Wait until more pictures and more sound have left somebody's browser."""
    before = person.left()

    def has_sent() -> bool:
        now = person.left()
        return now["frames"] > before["frames"] + 5 and now["energy"] > before["energy"] + 0.01

    wait_for(has_sent, "more to leave the browser")


def test_a_client_that_never_obeys_is_neither_heard_nor_seen(office: Office) -> None:
    """It goes on sending whatever the host does to it; everybody else obeys."""
    url = office.serve().room()
    host, guest = office.some(2)
    guest.deafen()
    for person in (host, guest):
        person.join(url)
    flow([host, guest], 10)
    room = url.rsplit("/", 1)[1]
    number = office.number(room, guest.name)
    office.act(room, number, "mute")
    wait_for(lambda: not host.hears(guest)["audio"], "silence")
    goes_on_sending(guest)
    office.act(room, number, "camera-off")
    wait_for(lambda: not host.hears(guest)["video"], "no picture")
    goes_on_sending(guest)
    assert not host.hears(guest)["audio"] and not host.hears(guest)["video"]
    office.act(room, number, "unmute")
    office.act(room, number, "camera-on")
    flow([host, guest], 10)
    office.act(room, number, "remove")
    wait_for(lambda: host.tiles() == [host.name], "the tile to go")
    assert host.connections() == 0
    guest.page.reload()
    guest.page.wait_for_selector("main[data-ready]", state="attached")
    guest.ask()
    guest.page.wait_for_selector("text=/removed/i")


def test_who_may_speak_again_is_heard_as_their_button_says(office: Office) -> None:
    url = office.serve().room()
    host, guest = office.two(url)
    room = url.rsplit("/", 1)[1]
    number = office.number(room, guest.name)
    office.act(room, number, "mute")
    wait_for(lambda: not host.hears(guest)["audio"], "silence")
    office.act(room, number, "unmute")
    flow([host, guest], 10)
    assert guest.page.get_attribute("#audio", "aria-pressed") == "true"


def test_a_stream_that_lives_is_not_opened_anew(office: Office) -> None:
    """Where the server's word on an offer comes after its answer."""
    url = office.serve().room()
    people = office.some(2)
    for person in people:
        person.context.add_init_script(hurry(3))
        person.context.add_init_script(LATE_ANSWERS)
        person.join(url)
    flow(people, 10)
    opened = [person.streams for person in people]
    people[0].page.wait_for_timeout(4_000)  # twelve seconds: more than twice what was too long
    assert [person.streams for person in people] == opened == [1, 1]


def test_a_dead_camera_that_is_remembered_is_no_trap(office: Office) -> None:
    url = office.serve().room()
    one, other = office.some(2)
    one.context.add_init_script(DEAD_CAMERA)
    for person in (one, other):
        person.join(url)
    flow([one, other], 10)
    assert one.page.evaluate("asked.filter((id) => id === 'dead').length") == 2
    assert one.page.evaluate("localStorage['rtapp.call.devices']").count("dead") == 1


def test_a_camera_that_ends_at_once_is_not_asked_for_for_ever(office: Office) -> None:
    url = office.serve().room()
    person = office.person("red")
    person.context.add_init_script(hurry(3))
    person.context.add_init_script(BRIEF_CAMERA)
    person.join(url)
    notice = person.page.locator('[data-notice="video"][data-fault="ends"]')
    notice.wait_for()
    asked = person.page.evaluate("asked")
    assert asked <= 6
    person.page.wait_for_timeout(1_000)
    assert person.page.evaluate("asked") == asked
    notice.locator("button").click()
    until(person.page, "(before) => asked > before", asked)


def test_ones_own_rear_camera_is_not_mirrored(office: Office) -> None:
    url = office.serve().room()
    one, other = office.some(2)
    one.context.add_init_script(REAR_CAMERA)
    for person in (one, other):
        person.join(url)
    flow([one, other], 10)
    mirrored = "document.querySelector('[data-self]').classList.contains('mirrored')"
    assert [person.page.evaluate(mirrored) for person in (one, other)] == [False, True]


def test_who_loads_the_page_anew_records_no_longer(office: Office) -> None:
    url = office.serve().room()
    one, other = office.two(url)
    one.page.click("#more")
    one.page.click("#more-menu [data-item=record]")
    other.page.locator("#call-marks", has_text="recording").wait_for()
    one.join(url)
    wait_for(lambda: not other.page.inner_text("#call-marks"), "the mark to go")


def test_what_is_said_while_one_sleeps_is_there_afterwards(office: Office) -> None:
    quick = {"room_silent_seconds": 2, "room_gone_seconds": 4, "ping_interval": 1}
    url = office.serve(**quick).room()
    one, other = office.two(url, own=True)
    other.host.unplug()
    wait_for(lambda: one.tiles() == [one.name], "the tile to go", PATIENCE * 4)
    one.page.click("#open-chat")
    one.page.fill("#chat-text", "Lunch?")
    one.page.keyboard.press("Enter")
    other.host.plug()
    other.page.locator("#messages", has_text="Lunch?").wait_for(state="attached")


def test_who_may_not_come_back_is_told_why(office: Office) -> None:
    url = office.serve().room(maxParticipants=2)
    one, other, third = office.some(3)
    for person in (one, other):
        person.join(url)
    other.press("leave")
    other.phase("left")
    third.join(url)
    other.page.click("#rejoin")
    other.page.locator("#join-form .banner", has_text="full").wait_for()


@pytest.fixture
def firefox(office: Office, npm_folder: Callable[..., Path]) -> FirefoxPerson:
    found = shutil.which("firefox-esr") or shutil.which("firefox")
    if not found:
        pytest.skip("no Firefox is installed (Debian: firefox-esr)")
    person = FirefoxPerson(office.lan.add("fox"), "Fox", npm_folder("puppeteer-core@24"), found)
    office.people.append(person)
    return person


def test_firefox_and_chromium_meet(office: Office, firefox: FirefoxPerson, note: Note) -> None:
    """In both orders: it is loaded anew in the call."""
    url = office.serve().room()
    firefox.join(url)
    person = office.person("red").join(url)
    people = [person, firefox]
    note("first picture", wait_first_picture(people, PATIENCE * 2))
    flow(people, 10, PATIENCE * 2, concealed=1)
    firefox.join(url)
    note("first picture after Firefox's reload", wait_first_picture(people, PATIENCE * 2))
    flow(people, 10, PATIENCE * 2, concealed=1)
    person.join(url)
    note("first picture after Chromium's reload", wait_first_picture(people, PATIENCE * 2))
    flow(people, 10, PATIENCE * 2, concealed=1)
    assert person.tiles() == firefox.tiles() == ["Fox", "Red"]
