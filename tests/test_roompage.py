"""The room page in real browsers: before the call, in it, its panels, its faults, its looks.

Cameras and microphones are Chromium's fake ones, asked for small pictures (two cores). What those
can't do (a camera in use, silence, a plug pulled) is stubbed in the page at the browser's own
interface, and the test says so. The media is real: connections, tracks, data channels.
"""

# ruff: noqa: E501 - what runs in the page stays on its own lines

from __future__ import annotations

import base64
import json
import re
import secrets
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    Dialog,
    Download,
    Page,
    Playwright,
    Request,
    Route,
    expect,
)
from typing_extensions import Self

from browsers import (
    ALLOW,
    CALL_FLAGS,
    DEVICES,
    FLAGS,
    KEEP,
    NAME,
    PASSWORD,
    Visitor,
    fits,
    focused,
    hold,
    new_context,
    serious,
    sign_in,
    start_chromium,
    until,
    watch,
)
from conftest import Certificate
from support import LONG, Server, wait_for

LOOPBACK = "--allow-loopback-in-peer-connection"
MEDIA_FLAGS = [*CALL_FLAGS, f"{DEVICES}=device-count=2,fps=5", LOOPBACK]

# Few and small pictures, and sound in large pieces, so that two cores carry a call; and the tracks are
# kept for the tests.
SMALL = r"""
if (navigator.mediaDevices) {
  const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
  window.opened = [];
  navigator.mediaDevices.getUserMedia = async (asked) => {
    const small = { width: 160, height: 90, frameRate: { max: 2 } };
    // One browser plays what another page of it says: its echo cancellation would take it for an echo.
    const plain = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    const video = asked.video && { ...asked.video, ...small };
    const stream = await ask({ video, audio: asked.audio && { ...asked.audio, ...plain } });
    window.opened.push(...stream.getTracks());
    for (const camera of stream.getVideoTracks()) {
      const apply = camera.applyConstraints.bind(camera);
      camera.applyConstraints = (wanted) => apply({ ...wanted, ...small });
    }
    return stream;
  };
}
window.AudioContext = class extends AudioContext {
  constructor(options) { super({ sampleRate: 8_000, latencyHint: 'playback', ...options }); }
};
const take = RTCPeerConnection.prototype.setRemoteDescription;
RTCPeerConnection.prototype.setRemoteDescription = function ({ type, sdp }) {
  return take.call(this, { type, sdp: sdp.replace(/;useinbandfec=1/, '$&;usedtx=1\r\na=ptime:60') });
};
"""

# Stub: every device fails as `window.fault` ([name, message]) says, as long as there is one.
FAILING = """
window.fault = FAULT;
const real = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
navigator.mediaDevices.getUserMedia = async (asked) => {
  if (window.fault) throw new DOMException(window.fault[1], window.fault[0]);
  return real(asked);
};
"""

# Stub: a screen of one moving colour with a tone, in place of the picker and a real screen.
SCREEN = """
navigator.mediaDevices.getDisplayMedia = async () => {
  const canvas = Object.assign(document.createElement('canvas'), { width: 320, height: 180 });
  const context = canvas.getContext('2d');
  let step = 0;
  setInterval(() => { context.fillStyle = step++ % 2 ? 'navy' : 'teal'; context.fillRect(0, 0, 320, 180); }, 200);
  const audio = new AudioContext();
  const out = audio.createMediaStreamDestination();
  const tone = new OscillatorNode(audio);
  tone.connect(out);
  tone.start();
  window.shared = new MediaStream([...canvas.captureStream(5).getTracks(), ...out.stream.getTracks()]);
  return window.shared;
};
"""

# The browser's questions stay open until the test answers: `asked` holds what does so.
UNANSWERED = """
window.asked = [];
for (const name of ['getUserMedia', 'getDisplayMedia']) {
  const ask = navigator.mediaDevices[name].bind(navigator.mediaDevices);
  navigator.mediaDevices[name] = async (wanted) => {
    await new Promise((answer) => asked.push(answer));
    return ask(wanted);
  };
}
"""

# Stub: a microphone with a tone that doesn't pause; Chromium's beeps once a second for a moment.
TONE = """
const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
navigator.mediaDevices.getUserMedia = async (asked) => {
  const stream = await ask(asked);
  const audio = new AudioContext();
  const out = audio.createMediaStreamDestination();
  const tone = new OscillatorNode(audio);
  tone.connect(out);
  tone.start();
  return new MediaStream([...stream.getVideoTracks(), ...(asked.audio ? out.stream.getAudioTracks() : [])]);
};
"""


# Camera and microphone are off at the first visit: for tests that aren't about them, since they cost most.
QUIET = """
if (location.pathname.startsWith('/room/')) {
  localStorage[location.pathname.replace('/room/', 'rtapp.call.for.')] ??= '{"audio":false,"video":false}';
}
"""


# A picture comes out of the clipboard.
PASTE = """async (width) => {
  const canvas = Object.assign(document.createElement('canvas'), { width, height: width / 2 });
  canvas.getContext('2d').fillRect(9, 9, 99, 99);
  const content = await new Promise((done) => canvas.toBlob(done));
  const clipboardData = new DataTransfer();
  clipboardData.items.add(new File([content], 'image.png', { type: 'image/png' }));
  const paste = new ClipboardEvent('paste', { clipboardData, bubbles: true, cancelable: true });
  document.querySelector('#chat-text').dispatchEvent(paste); }"""


PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


@pytest.fixture(scope="module")
def browsers(
    playwright: Playwright, certificate: Certificate
) -> Iterator[Callable[[bool], Browser]]:
    """A Chromium, the whole or not, with a fake camera and microphone, which are allowed. It takes
    one certificate as if somebody had accepted it."""
    known = f"--ignore-certificate-errors-spki-list={certificate.fingerprint}"
    made: dict[bool, Browser] = {}

    def get(is_whole: bool) -> Browser:
        if is_whole not in made:
            made[is_whole] = start_chromium(
                playwright, [*MEDIA_FLAGS, ALLOW, known], is_whole=is_whole
            )
        return made[is_whole]

    yield get
    for each in made.values():
        each.close()


@pytest.fixture
def browser(browsers: Callable[[bool], Browser], request: pytest.FixtureRequest) -> Browser:
    """The one that a test wants."""
    return browsers(LONG or request.node.get_closest_marker("whole") is not None)


class Someone(Visitor):
    """Somebody with a browser profile of their own, and the room's page in it."""

    def __init__(
        self, home: House, name: str, browser: Browser, scripts: list[str], **more: Any
    ) -> None:
        super().__init__(name)
        self.home = home
        size = {"width": 900, "height": 640}
        self.context: BrowserContext = new_context(browser, **{"viewport": size, **more})
        for script in [KEEP, SMALL, *scripts]:
            self.context.add_init_script(f"(() => {{ {script} }})()")
        self.page = self.tab()

    def tab(self) -> Page:
        return watch(self.context.new_page(), self.home.troubles)

    def own(self, session: str) -> Someone:
        """Be the client that made the room, so its host."""
        key = json.dumps(f"rtapp.room.{self.home.room}")
        self.context.add_init_script(f"localStorage.setItem({key}, {json.dumps(session)})")
        return self

    def timed(self) -> Self:
        """Let the test skip time on their pages."""
        self.page.clock.install()
        return self

    def skip(self, seconds: float) -> None:
        """So much time has passed; what was due happens once."""
        self.page.clock.fast_forward(int(seconds * 1_000))

    def open(self, query: str = "") -> Self:
        """The page of their room."""
        return super().open(self.home.url + query)

    def tile(self, other: Someone) -> Any:
        return self.page.locator(f'[data-tile][data-name="{other.name}"]')

    def reaches(self, *others: Someone) -> Someone:
        """Wait for the connections to some."""
        for other in others:
            expect(self.tile(other)).to_have_attribute("data-link", "connected")
        return self

    def sees(self, *others: Someone) -> Someone:
        """Wait for moving pictures of somebody."""
        self.reaches(*others)
        for other in others:
            expect(self.tile(other)).to_have_class(re.compile("with-picture"))
            until(
                self.page,
                """(name) => { const video = document.querySelector(`[data-tile][data-name="${name}"] video`);
                  const now = video.getVideoPlaybackQuality().totalVideoFrames;
                  video.seen ??= now; return now > video.seen; }""",
                other.name,
            )
        return self

    @property
    def said(self) -> Any:
        """What a screen reader is told."""
        return self.page.locator("[role=status].visually-hidden")

    def notice(self, code: str) -> Any:
        return self.page.locator(f'[data-notice="{code}"]')

    def menu(self, item: str) -> None:
        self.page.click("#more")
        self.page.click(f'#more-menu [data-item="{item}"]')

    def show_people(self) -> None:
        if self.page.locator("#people").is_visible():
            return
        if self.page.locator("#open-people").is_visible():
            self.page.click("#open-people")
        else:
            self.menu("people")

    def acts_on(self, other: Someone, item: str, sure: bool = False) -> None:
        """A host's action, from the list of people."""
        self.show_people()
        line = self.page.locator("#people-list .line", has_text=other.name)
        line.locator('button[aria-haspopup="menu"]').click()
        line.locator(f'[data-item="{item}"]').click()
        if sure:
            self.page.click("#ask-yes")


class House:
    """A server with a room, and the people who come."""

    def __init__(self, server: Server, browser: Browser, scheme: str = "http") -> None:
        self.server = server
        self.browser = browser
        self.scheme = scheme
        self.troubles: list[str] = []
        self.people: list[Someone] = []
        self.session = secrets.token_urlsafe(16)
        self.room = self.make()

    def make(self, **body: Any) -> str:
        answer = self.server.post(
            "/api/video/rooms", {"name": "Planning", "session": self.session, **body}
        )
        assert answer.status == 201, answer
        self.room = str(answer.json["roomId"])
        return self.room

    def change(self, **fields: Any) -> None:
        """The room, by an administrator's program."""
        answer = self.server.request("PATCH", f"/api/video/rooms/{self.room}", fields)
        assert answer.status == 200, answer

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server.port}/room/{self.room}"

    def guest(
        self, name: str, *scripts: str, browser: Browser | None = None, **more: Any
    ) -> Someone:
        made = Someone(self, name, browser or self.browser, list(scripts), **more)
        self.people.append(made)
        return made

    def host(self, name: str = "Ada", *scripts: str, **more: Any) -> Someone:
        return self.guest(name, *scripts, **more).own(self.session)

    def two(self, *scripts: str) -> tuple[Someone, Someone]:
        """A host, who can skip time, and a guest in the call."""
        ada = self.host("Ada", *scripts).timed()
        return ada.join(), self.guest("Bob", *scripts).join()

    def couple(self, *scripts: str) -> tuple[Someone, Someone]:
        """Two who see each other."""
        ada, bob = self.two(*scripts)
        return ada.sees(bob), bob.sees(ada)

    def close(self) -> None:
        for someone in self.people:
            someone.context.close()


@pytest.fixture
def house(server: Server, browser: Browser) -> Iterator[House]:
    made = House(server, browser)
    yield made
    made.close()
    assert made.troubles == []


# ---- before the call ---------------------------------------------------------------------------


def test_before_the_call_one_sees_and_hears_oneself_and_is_remembered(house: House) -> None:
    ada = house.guest("Ada").open()
    page = ada.page
    expect(page.locator("h1:visible")).to_have_text("Planning")
    until(page, "() => document.querySelector('#preview-video').videoWidth > 0")
    until(page, "() => document.querySelector('#level').value > 0.2")
    assert page.locator("#device-video option").all_text_contents() == [
        "fake_device_0",
        "fake_device_1",
    ]
    page.click("#join")
    expect(page.locator("#name-error")).to_have_text(re.compile("Enter your name"))
    assert focused(page) == "name"
    page.fill("#name", "Ada Lovelace")
    page.click("#door-video")
    expect(page.locator("#preview-note")).to_have_text("Your camera is off")
    until(
        page,
        "() => window.opened.filter((t) => t.kind === 'video').every((t) => t.readyState === 'ended')",
    )
    page.click("#door-audio")
    page.click("#join")
    ada.phase("joined")
    assert page.get_attribute("#audio", "aria-pressed") == "false"
    page.reload()
    expect(page.locator("#name")).to_have_value("Ada Lovelace")
    for switch in ("#door-video", "#door-audio"):
        expect(page.locator(switch)).to_have_attribute("aria-pressed", "false")
    first, house.room = house.room, ""
    house.make()
    page.goto(house.url)
    expect(page.locator("#door-video")).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#name")).to_have_value("Ada Lovelace")
    assert first != house.room


def test_what_one_types_takes_the_place_of_the_name_that_comes_late(house: House) -> None:
    """Whoever is signed in is offered that name, and may be about to write another one."""
    page = house.guest("Grace", QUIET).page
    asked: list[Route] = []
    page.route("**/api/auth/me", lambda route: asked.append(route))  # noqa: PLW0108
    page.goto(house.url)
    page.focus("#name")
    until(page, "() => document.querySelector('main[data-ready]')")
    wait_for(lambda: page.evaluate("1") and asked, "the question who one is")
    asked[0].fulfill(json={"authenticated": True, "username": "ada"})
    expect(page.locator("#name")).to_have_value("ada")
    page.keyboard.type("Grace")
    expect(page.locator("#name")).to_have_value("Grace")


@pytest.mark.whole
def test_devices_can_be_chosen_before_and_in_the_call(house: House) -> None:
    ada = house.guest("Ada").open()
    page = ada.page
    until(page, "() => document.querySelector('#preview-video').videoWidth > 0")
    label = "() => document.querySelector('#preview-video').srcObject?.getVideoTracks()[0]?.label"
    assert page.evaluate(label) == "fake_device_0"
    page.select_option("#device-video", label="fake_device_1")
    until(page, f"() => ({label})() === 'fake_device_1'")
    page.reload()
    until(page, f"() => ({label})() === 'fake_device_1'")
    page.click("#door-flip")
    until(page, f"() => ({label})() === 'fake_device_0'")
    ada.ask().phase("joined")
    bob = house.guest("Bob").join().sees(ada)
    ada.menu("settings")
    page.select_option("#device-video", label="fake_device_1")
    own = "() => document.querySelector('[data-self] video').srcObject?.getVideoTracks()[0]?.label"
    until(page, f"() => ({own})() === 'fake_device_1'")
    page.keyboard.press("Escape")
    ada.menu("flip")
    until(page, f"() => ({own})() === 'fake_device_0'")
    bob.page.evaluate(
        "document.querySelector('[data-tile]:not([data-self]) video').seen = undefined"
    )
    bob.sees(ada)


def test_a_silent_microphone_is_noticed_and_the_speaker_tested(house: House) -> None:
    """Stubs: a microphone that gives silence; the sink that a sound is played on is noted."""
    silent = """
      const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
      navigator.mediaDevices.getUserMedia = async (asked) => {
        const stream = await ask(asked);
        if (!asked.audio || window.loud) return stream;
        const quiet = new AudioContext().createMediaStreamDestination().stream;
        return new MediaStream([...stream.getVideoTracks(), ...quiet.getAudioTracks()]);
      };
      const play = HTMLMediaElement.prototype.play;
      window.played = [];
      HTMLMediaElement.prototype.play = function () {
        if (this instanceof HTMLAudioElement) window.played.push(this.sinkId);
        return play.call(this);
      };"""
    ada = house.guest("Ada", silent).timed().open()
    page = ada.page
    expect(page.locator("#level")).to_be_visible()
    expect(page.locator("#quiet")).to_be_hidden()
    ada.skip(7)
    expect(page.locator("#quiet")).to_be_visible()
    expect(page.locator("#quiet")).to_contain_text("We hear nothing")
    page.evaluate("window.loud = true")
    page.select_option("#device-audio", index=1)
    expect(page.locator("#quiet")).to_be_hidden()
    page.click("#test-speaker")
    expect(page.locator(".pickers")).to_contain_text("Heard nothing?")
    assert page.evaluate("window.played.length") == 1


# What `getUserMedia` throws, and the fault's name in the page.
FAULTS = {
    "none": ("NotFoundError", "Requested device not found"),
    "busy": ("NotReadableError", "Could not start video source"),
    "system": ("NotAllowedError", "Permission denied by system"),
    "dismissed": ("NotAllowedError", "Permission dismissed"),
    "denied": ("NotAllowedError", "The request is not allowed"),
    "policy": ("SecurityError", "Use of camera is not permitted"),
    "failed": ("AbortError", "Starting video failed"),
    "gone": ("OverconstrainedError", ""),
}


def test_each_fault_of_a_device_has_its_own_words_and_advice(
    house: House, browser: Browser
) -> None:
    """Stub: the browser's refusals are thrown one after the other; the words are the page's."""
    denied = "navigator.permissions.query = async () => ({ state: 'denied' });"
    said: dict[str, set[str]] = {}
    for language in ("en-GB", "tr-TR"):
        script = FAILING.replace("FAULT", json.dumps(FAULTS["none"])) + denied
        page = house.guest("Ada", script, locale=language).open().page
        said[language] = set()
        for fault, thrown in FAULTS.items():
            page.evaluate("(thrown) => { window.fault = thrown; }", list(thrown))
            page.click("#door-faults [data-retry]")
            shown = page.locator(f'#door-faults [data-notice="video-{fault}"]')
            expect(shown.locator(f'[data-also="audio-{fault}"]')).to_be_visible()
            said[language].add(shown.inner_text())
        assert len(said[language]) == len(FAULTS)
        # The page may have found by itself that they work again.
        page.evaluate(
            "window.fault = null; document.querySelector('#door-faults [data-retry]')?.click()"
        )
        expect(page.locator("#door-faults [data-retry]")).to_have_count(0)
        until(page, "() => document.querySelector('#preview-video').videoWidth > 0")
    assert said["en-GB"].isdisjoint(said["tr-TR"])


# Stub: a camera answers only if it is chosen by name, and is the one that `window.free` names.
SILENT = """
const answers = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
navigator.mediaDevices.getUserMedia = async (asked) => {
  const id = asked.video?.deviceId?.exact;
  if (asked.video && !id) {
    window.waiting = (window.waiting ?? 0) + 1;
    await new Promise(() => {});
  }
  if (asked.video && id !== window.free) throw new DOMException('', 'NotReadableError');
  return answers(asked);
};
"""


def test_other_cameras_are_offered_by_name(house: House) -> None:
    """Of one that never answers before the call, of one that is busy in it."""
    ada = house.guest("Ada", SILENT).timed()
    ada.context.grant_permissions(["camera", "microphone"])  # they have names then
    page = ada.page
    page.goto(house.url)
    until(page, "() => window.waiting")
    ada.skip(21)
    slow = ada.notice("video-slow")
    expect(slow).to_contain_text("The camera does not answer")
    expect(slow).to_contain_text("Look for a question of the browser")
    expect(slow.get_by_role("button", name=re.compile("Use.*fake_device_"))).to_have_count(2)
    offer = slow.get_by_role("button", name=re.compile("Use.*fake_device_1"))
    page.evaluate("(id) => { window.free = id; }", offer.get_attribute("data-use"))
    offer.click()
    expect(slow).to_have_count(0)
    until(page, "() => document.querySelector('#preview-video').videoWidth > 0")
    page.evaluate("window.free = 'none'")
    ada.ask().phase("joined")
    bob = house.guest("Bob").join()
    page.evaluate("""() => { const track = window.opened.findLast(({ kind }) => kind === 'video');
      track.stop(); track.dispatchEvent(new Event('ended')); }""")
    until(page, "() => window.waiting > 1")
    ada.skip(21)  # the system's choice still doesn't answer
    notice = ada.notice("video")
    expect(notice).to_contain_text("The camera does not answer")
    offer = notice.get_by_role("button", name=re.compile("Use.*fake_device_0"))
    page.evaluate("(id) => { window.free = id; }", offer.get_attribute("data-use"))
    offer.click()
    expect(notice).to_have_count(0)
    expect(bob.tile(ada)).to_have_class(re.compile("with-picture"))


def test_the_words_of_a_fault_stand_in_the_call_too(house: House) -> None:
    """Stub: what is switched on in a call can't be opened; each fault in its words, with advice."""
    denied = "navigator.permissions.query = async () => ({ state: 'denied' });"
    ada = house.guest("Ada", FAILING.replace("FAULT", "null"), denied).join()
    page = ada.page
    said = set()
    for fault, thrown in FAULTS.items():
        page.evaluate("(thrown) => { window.fault = thrown; }", list(thrown))
        page.click("#video")
        page.click("#video")
        words = ada.notice("video").locator(
            f'[data-fault="{fault}"] .banner, .banner[data-fault="{fault}"]'
        )
        expect(words.locator(".title")).to_contain_text(re.compile("camera|browser"))
        expect(words.locator("p.body")).not_to_be_empty()
        said.add(words.inner_text())
        page.evaluate("window.fault = null")
        words.locator("[data-retry]").click()
        expect(ada.notice("video")).to_have_count(0)
    assert len(said) == len(FAULTS)


def test_advice_is_for_the_system_at_hand(house: House) -> None:
    """Stub: the system refuses; the browser's name is another."""
    script = FAILING.replace("FAULT", json.dumps(FAULTS["system"]))
    agent = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Version/19 Safari/605"
    page = house.guest("Ada", script, user_agent=agent).open().page
    expect(page.locator('[data-notice="video-system"]')).to_contain_text("macOS: open System")


def test_without_a_secure_address_or_devices_it_says_so(house: House) -> None:
    """Stubs: what a page on plain http from elsewhere, or an old browser, is given."""
    insecure = "Object.defineProperty(window, 'isSecureContext', { value: false });"
    page = house.guest("Ada", insecure).open().page
    link = page.locator('[data-notice="video-insecure"] a')
    assert str(link.get_attribute("href")).startswith("https://127.0.0.1")
    old = "delete Navigator.prototype.mediaDevices;"
    ada = house.guest("Ada", old).open()
    expect(ada.notice("video-unsupported")).to_contain_text("up-to-date Chrome")
    ada.ask().phase("joined")
    expect(ada.page.locator("#screen")).to_be_hidden()


def test_a_browser_without_calls_says_so_before_joining(house: House) -> None:
    """Stub: what WebKitGTK, and browsers that were told so, lack. Nobody is met by a ghost."""
    ada = house.host().join()
    bob = house.guest("Bob", "delete window.RTCPeerConnection;").open()
    expect(bob.notice("no-calls")).to_contain_text("can’t make video calls")
    expect(bob.page.locator("#join")).to_have_attribute("aria-disabled", "true")
    bob.page.fill("#name", "Bob")
    bob.page.keyboard.press("Enter")
    bob.page.click("#join", force=True)
    people = house.server.request("GET", f"/api/video/rooms/{house.room}").json["participants"]
    assert [one["displayName"] for one in people] == ["Ada"]
    assert bob.page.evaluate("window.opened.length") == 0  # no camera's light for nothing
    assert ada


def test_without_camera_and_microphone_one_still_takes_part(
    house: House, playwright: Playwright
) -> None:
    """A real browser that has no device, and a real refusal: nothing is stubbed."""
    bare = start_chromium(playwright, [*FLAGS, ALLOW, LOOPBACK])
    refusing = start_chromium(playwright, [*MEDIA_FLAGS, f"{ALLOW}=deny"])
    ada = house.host().join()
    bob = house.guest("Bob", browser=bare).open()
    expect(bob.notice("video-none")).to_be_visible()
    bob.ask().phase("joined").sees(ada)
    expect(bob.notice("video")).to_be_visible()
    expect(ada.tile(bob).locator(".face")).to_have_text("B")
    cem = house.guest("Cem", browser=refusing).open()
    expect(cem.page.locator('#door-faults [data-notice^="video-"]')).to_be_visible()
    cem.context.close()
    bob.context.close()
    house.people = [ada]
    refusing.close()
    bare.close()


def test_devices_come_and_go_in_a_call(house: House) -> None:
    """Stub: the events that a pulled plug and a phone call give; the devices are Chromium's."""
    hold = """
      const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
      navigator.mediaDevices.getUserMedia = (asked) =>
        window.unplugged ? Promise.reject(new DOMException('', 'NotFoundError')) : ask(asked);"""
    ada = house.host("Ada", hold).join()
    bob = house.guest("Bob").join().sees(ada)
    page = ada.page
    last = "window.opened.filter((track) => track.kind === 'video').at(-1)"
    page.evaluate(
        f"() => {{ window.unplugged = true; const t = {last}; t.stop(); t.dispatchEvent(new Event('ended')); }}"
    )
    expect(ada.notice("video")).to_be_visible()
    expect(bob.tile(ada).locator(".face")).to_be_visible()
    page.evaluate(
        "() => { window.unplugged = false; navigator.mediaDevices.dispatchEvent(new Event('devicechange')); }"
    )
    expect(ada.notice("video")).to_have_count(0)
    expect(bob.tile(ada)).to_have_class(re.compile("with-picture"))
    mute = f"""() => {{ const track = {last};
      Object.defineProperty(track, 'muted', {{ value: true, configurable: true }});
      track.dispatchEvent(new Event('mute')); }}"""
    page.evaluate(mute)
    expect(ada.notice("interrupted").locator("[data-use]")).to_have_count(1)  # the other camera
    ada.notice("interrupted").get_by_role("button", name="Use it again").click()
    expect(ada.notice("interrupted")).to_have_count(0)
    held = "document.querySelector('[data-tile]:not([data-self]) audio')"
    page.evaluate(f"{held}.pause()")  # as a phone does with a page in the background
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    until(page, f"() => !{held}.paused")


def test_a_phone_has_two_cameras_and_is_turned(house: House) -> None:
    """Stub: cameras that tell where they look, as a phone's do."""
    facing = """
      const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
      navigator.mediaDevices.getUserMedia = async (asked) => {
        const stream = await ask({ ...asked, video: asked.video && true });
        const side = asked.video?.facingMode?.ideal;
        for (const track of stream.getVideoTracks()) {
          const settings = track.getSettings.bind(track);
          track.getSettings = () => ({ ...settings(), facingMode: side });
        }
        window.sides = [...(window.sides ?? []), side];
        return stream;
      };"""
    ada = house.guest("Ada", facing, **PHONE).timed().open()
    page, preview = ada.page, ada.page.locator("#preview-video")
    expect(preview).to_have_class("mirrored")
    page.tap("#door-flip")
    until(page, "() => window.sides.at(-1) === 'environment'")
    expect(preview).not_to_have_class("mirrored")
    ada.ask().phase("joined")
    bob = house.guest("Bob").join().sees(ada)
    page.tap("#more")
    page.tap("#more-menu [data-item=flip]")
    until(page, "() => window.sides.at(-1) === 'user'")
    forget(bob.page)
    bob.sees(ada)
    pin = ada.tile(bob).locator("[data-pin]")
    expect(pin).to_have_css("opacity", "0")  # nothing over the face
    ada.tile(bob).tap()
    expect(pin).to_have_css("opacity", "1")
    ada.skip(4)
    expect(pin).to_have_css("opacity", "0")
    for width, height in ((844, 390), (390, 844)):
        page.set_viewport_size({"width": width, "height": height})
        fits(page)
        inside = page.locator("#seats").bounding_box()
        assert inside
        until(
            page,
            """([right, bottom]) => [...document.querySelectorAll('[data-tile]')].every((tile) => {
              const box = tile.getBoundingClientRect();
              return box.width > 60 && box.right <= right + 1 && box.bottom <= bottom + 1; })""",
            [inside["x"] + inside["width"], inside["y"] + inside["height"]],
        )
    cem = house.guest("Cem").join()
    toast = page.locator(".toast").last
    expect(toast).to_have_text("Cem has joined")
    box, stage = toast.bounding_box(), page.locator("#stage").bounding_box()
    assert box and stage and box["y"] + box["height"] <= stage["y"], "over no picture"
    assert cem


# ---- the call ----------------------------------------------------------------------------------


def test_two_and_three_see_hear_pin_and_hide(house: House) -> None:
    ada, bob = house.couple(TONE)
    page = ada.page
    seats = page.locator("#seats")
    expect(seats).to_have_attribute("data-layout", "duet")
    until(
        page, "() => document.querySelector('[data-tile]:not([data-self]) audio').srcObject?.active"
    )
    expect(ada.tile(bob)).to_have_class(re.compile("speaking"))
    cem = house.guest("Cem").join()
    ada.sees(cem)
    expect(seats).to_have_attribute("data-layout", "grid")
    ada.tile(bob).locator("[data-pin]").click()
    expect(seats).to_have_attribute("data-layout", "focus")
    expect(ada.tile(bob).locator("[data-pin]")).to_have_attribute("aria-pressed", "true")
    wait_for(lambda: area(ada, bob) > 2 * area(ada, cem), "the pinned one is large")
    ada.tile(cem).dblclick()
    wait_for(lambda: area(ada, cem) > 2 * area(ada, bob), "the other is large")
    ada.tile(cem).dblclick()
    expect(seats).to_have_attribute("data-layout", "grid")
    ada.menu("view")
    page.check('[name="view"][value="sidebar"]')
    expect(seats).to_have_attribute("data-layout", "focus")
    page.keyboard.press("Escape")
    page.keyboard.press("w")
    expect(seats).to_have_attribute("data-layout", "grid")
    ada.menu("self")
    expect(ada.tile(ada)).to_be_hidden()
    ada.menu("self")
    expect(ada.tile(ada)).to_be_visible()
    cem.page.click("#leave")
    expect(ada.tile(cem)).to_have_count(0)
    expect(page.locator("#captions")).to_contain_text("Cem has left")


# Somebody is sent no picture: the limits of what one sends to each of the others.
SAVED = """() => made.some((one) => one.connectionState === 'connected'
  && one.getTransceivers()[1].sender.getParameters().encodings[0].active === false)"""


def test_one_chooses_how_the_pictures_stand_and_where_oneself_does(house: House) -> None:
    ada, bob = house.couple(TONE)
    page = ada.page
    seats, self = page.locator("#seats"), ada.tile(ada)

    def stands(corner: str) -> bool:
        """Whether one's own picture is whole, and in that corner."""
        box, stage = self.bounding_box(), seats.bounding_box()
        assert box and stage
        left, top = box["x"] - stage["x"], box["y"] - stage["y"]
        right, bottom = stage["width"] - left - box["width"], stage["height"] - top - box["height"]
        found = ("top" if top < bottom else "bottom", "left" if left < right else "right")
        return min(left, top, right, bottom) >= 0 and " ".join(found) == corner

    wait_for(lambda: stands("bottom right"), "where it stands first")
    self.focus()
    page.keyboard.press("ArrowUp")
    expect(ada.said).to_have_text("Top right")
    wait_for(lambda: stands("top right"), "by a key")
    box = self.bounding_box()
    assert box
    page.mouse.move(box["x"] + 9, box["y"] + 9)
    page.mouse.down()
    page.mouse.move(300, 500, steps=3)
    expect(self).to_have_class(re.compile("dragged"))
    page.mouse.up()
    wait_for(lambda: stands("bottom left"), "dragged")
    for size in ({"width": 390, "height": 844}, {"width": 844, "height": 390}):
        page.set_viewport_size(size)
        wait_for(lambda: stands("bottom left"), str(size))
    cem = house.guest("Cem").join()
    ada.sees(cem)
    page.keyboard.press("w")  # the speaker, who is Bob
    expect(seats).to_have_attribute("data-layout", "duet")
    expect(ada.tile(cem)).to_be_hidden()
    until(cem.page, SAVED)
    page.keyboard.press("w")
    expect(ada.tile(cem)).to_be_visible()
    until(cem.page, f"() => !({SAVED})()")
    cem.page.click("#leave")
    for number in range(7):
        path = f"/api/video/rooms/{house.room}/join"
        someone = {"displayName": f"Guest {number}", "session": secrets.token_urlsafe(16)}
        assert house.server.post(path, someone).status == 200
    expect(page.locator("[data-tile]")).to_have_count(9)
    page.set_viewport_size({"width": 560, "height": 340})
    expect(page.locator(".pager")).to_contain_text("1 /")
    expect(ada.tile(ada)).to_be_visible()
    first = page.locator("[data-tile]:visible").all_inner_texts()
    page.get_by_role("button", name="Next page of pictures").click()
    expect(page.locator(".pager")).to_contain_text("2 /")
    expect(ada.tile(ada)).to_be_visible()
    assert page.locator("[data-tile]:visible").all_inner_texts() != first
    page.keyboard.press("b")
    expect(page.locator(".pager")).to_contain_text("1 /")
    page.reload()
    ada.phase("prejoin").ask().phase("joined")
    expect(seats).to_have_attribute("data-layout", "focus")
    expect(seats).to_have_attribute("data-corner", "bottom left")


def test_a_small_window_shows_who_speaks_and_has_the_buttons(house: House, axe: str) -> None:
    ada, bob = house.couple(TONE, axe)
    page = ada.page
    with ada.context.expect_page() as opened:
        ada.menu("pip")
    small = watch(opened.value, house.troubles)
    small.set_viewport_size({"width": 360, "height": 260})
    expect(small.locator(".tag")).to_have_text("Bob")
    until(small, "() => [...document.querySelectorAll('video')].every((one) => one.videoWidth > 0)")
    assert small.evaluate("getComputedStyle(document.body).visibility") == "visible"
    # axe was there before the window's document, and asks the one of before for its title.
    assert [one for one in serious(small) if one[0] != "document-title"] == []
    assert small.title() == page.title()
    small.click("#audio")
    expect(page.locator("#audio")).to_have_attribute("aria-pressed", "false")
    expect(small.locator("#audio")).to_have_attribute("aria-pressed", "false")
    cem = house.guest("Cem").join()
    ada.sees(cem)
    page.keyboard.press("w")  # Bob speaks: nobody else is shown
    expect(ada.tile(cem)).to_be_hidden()
    until(cem.page, SAVED)
    bob.page.click("#leave")
    expect(small.locator(".tag")).to_have_text("Cem")
    small.close()  # by its own button
    with ada.context.expect_page() as opened:
        page.keyboard.press("o")
    again = watch(opened.value, house.troubles)
    expect(again.locator(".tag")).to_have_text("Cem")
    again.click("#leave")
    ada.phase("left")
    wait_for(again.is_closed, "the small window goes with the call")
    page.click("#rejoin")
    ada.phase("joined").sees(cem)
    with ada.context.expect_page() as opened:
        page.keyboard.press("o")
    expect(opened.value.locator(".tag")).to_have_text("Cem")


# Stub: a browser that has no windows for it, but a video's own; and what the Media Session was told.
OWN_PIP = """
delete window.documentPictureInPicture;
window.told = {};
const set = navigator.mediaSession.setActionHandler.bind(navigator.mediaSession);
navigator.mediaSession.setActionHandler = (name, act) => { told[name] = act; set(name, act); };
"""


def test_without_such_windows_it_is_a_video_s_own(house: House) -> None:
    ada, bob = house.couple(OWN_PIP)
    page = ada.page
    page.keyboard.press("o")
    until(page, "() => document.pictureInPictureElement && window.told.hangup")
    page.evaluate("window.told.togglemicrophone()")
    expect(page.locator("#audio")).to_have_attribute("aria-pressed", "false")
    bob.page.click("#video")
    bob.page.click("#leave")
    page.keyboard.press("o")
    until(page, "() => !document.pictureInPictureElement && window.told.hangup === null")


def area(viewer: Someone, other: Someone) -> float:
    box = viewer.tile(other).bounding_box()
    assert box
    return float(box["width"] * box["height"])


def test_one_is_heard_as_loud_as_the_hearer_likes(house: House) -> None:
    """By the keyboard alone; their screen's sound follows, and nobody is told."""
    ada, bob = house.host("Ada"), house.guest("Bob", SCREEN)
    page = ada.page
    page.route("**/room/hearing.js", lambda route: route.abort())
    ada.join()
    bob.join().page.click("#screen")
    expect(page.locator("[data-screen].with-picture")).to_have_count(1)
    heard = """(wanted) => { const all = [...document.querySelectorAll('.seat:not([data-self]) audio')];
      return all.length === 2 && all.every(({ volume, muted }) => JSON.stringify([volume, muted]) === wanted); }"""
    until(page, heard, "[1,false]")
    ada.tile(bob).locator("[data-ear]").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".toast").last).to_contain_text("can’t be reached")
    page.unroute("**/room/hearing.js")
    page.keyboard.press("Enter")
    page.get_by_label("Volume", exact=True).press("Home")
    expect(page.get_by_role("img", name="Muted for you")).to_have_count(2)  # the screen too
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    until(page, heard, "[0.15,false]")
    page.keyboard.press("Escape")
    assert page.evaluate("'ear' in document.activeElement.dataset")
    ada.acts_on(bob, "mute-here")
    until(page, heard, "[0.15,true]")
    expect(page.get_by_role("img", name="Muted for you")).to_have_count(3)
    expect(bob.page.get_by_role("img", name="Microphone off")).to_have_count(0)
    bob.page.click("#leave")
    expect(page.locator("[data-tile]")).to_have_count(1)
    bob.page.click("#rejoin")
    bob.phase("joined").sees(ada)
    assert page.evaluate("document.querySelector('.seat:not([data-self]) audio').muted")
    bob.acts_on(ada, "volume")  # also who isn't the host
    expect(bob.page.get_by_role("dialog")).to_contain_text("Sound of Ada")


RECEIVED = """async ([kind, from]) => { const rows = (await Promise.all(window.made.map((one) => one.getStats()))).flatMap((all) => [...all.values()]);
  const bytes = rows.filter((row) => row.type === from && row.kind === kind).map((row) => row.bytesReceived ?? row.bytesSent);
  return bytes.reduce((all, one) => all + one, 0); }"""


def rests(page: Page, *kind: str) -> None:
    """Wait until no more bytes of a kind come or go; packets on their way may."""
    still = f"""async (kind) => {{ const now = await ({RECEIVED})(kind); const was = window.was;
      window.was = now; if (now !== was) window.since = performance.now();
      return performance.now() - window.since > 2_000; }}"""
    until(page, still, kind)


def test_data_is_saved_by_small_pictures_or_none(house: House) -> None:
    """By what is really sent: bytes, and the encoder's limits."""
    ada, bob = house.host("Ada").join(), house.guest("Bob", SCREEN, LARGE).join()
    page = ada.page
    ada.sees(bob)
    limits = """(wanted) => { const encodings = window.made.flatMap((one) => one.getSenders()).filter(({ track }) => track).map((one) => one.getParameters().encodings[0]);
      return JSON.stringify(encodings.slice(0, 2).map(({ maxBitrate, active }) => active && maxBitrate)) === wanted; }"""
    ada.menu("settings")
    page.get_by_label("Data", exact=True).select_option("low")
    page.keyboard.press("Escape")
    expect(page.locator("#call-marks")).to_have_text("Low data")
    until(page, limits, "[24000,120000]")
    until(bob.page, limits, "[48000,120000]")
    ada.menu("audio-only")
    expect(page.locator("#call-marks")).to_have_text("Audio only")
    expect(ada.tile(bob)).not_to_have_class(re.compile("with-picture"))
    expect(bob.tile(ada)).not_to_have_class(re.compile("with-picture"))
    until(bob.page, limits, "[48000,false]")
    bob.page.click("#screen")
    show = page.get_by_role("button", name="Show the screen")
    expect(show).to_be_visible()
    for way in ("inbound-rtp", "outbound-rtp"):
        rests(page, "video", way)
    before = page.evaluate(RECEIVED, ["audio", "inbound-rtp"])
    until(page, f"async (before) => await ({RECEIVED})(['audio', 'inbound-rtp']) > before", before)
    show.click()
    expect(page.locator("[data-screen].with-picture")).to_have_count(1)
    expect(ada.tile(bob)).not_to_have_class(re.compile("with-picture"))
    page.keyboard.press("v")  # who wants to be seen has pictures again, as before
    expect(page.locator("#call-marks")).to_have_text("Low data")
    ada.sees(bob)
    bob.sees(ada)


def test_devices_stand_beside_their_buttons_and_the_sound_is_tuned(house: House) -> None:
    """By the keyboard; of a microphone whose sound can't be changed while it is open, as Chromium's."""
    ada, bob = house.host("Ada").join(), house.guest("Bob").join()
    page = ada.page
    ada.sees(bob)
    page.focus("#video-devices")
    page.keyboard.press("Enter")
    expect(page.locator("#video-menu [aria-checked=true]")).to_have_text("fake_device_0")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    own = "() => document.querySelector('[data-self] video').srcObject?.getVideoTracks()[0]?.label"
    until(page, f"() => ({own})() === 'fake_device_1'")
    assert focused(page) == "video-devices"
    page.click("#audio-devices")
    groups = page.locator("#audio-menu [role=group]")
    expect(groups).to_have_count(2)
    assert [one.get_attribute("aria-label") for one in groups.all()] == ["Microphone", "Speaker"]
    expect(page.locator("#audio-menu [aria-checked=true]")).to_have_count(2)
    page.evaluate(
        """() => { const camera = document.querySelector('[data-self] video').srcObject.getVideoTracks()[0];
          camera.getCapabilities = () => ({ backgroundBlur: [true, false] });
          camera.applyConstraints = async (asked) => (window.blurred = asked); }"""
    )
    page.keyboard.press("End")
    page.keyboard.press("Enter")
    sent = """(wanted) => window.made.flatMap((one) => one.getSenders()).some(({ track, getParameters }) => track?.kind === 'audio')
      && window.made.flatMap((one) => one.getSenders()).find(({ track }) => track?.kind === 'audio').getParameters().encodings[0].maxBitrate === wanted"""
    until(page, sent, 48_000)
    page.get_by_label("Sound of your microphone").select_option("music")
    expect(page.get_by_text("Use headphones")).to_be_visible()
    until(page, sent, 128_000)
    page.get_by_label("Blur my background").check()
    until(page, "() => window.blurred?.backgroundBlur === true && window.blurred.frameRate")
    page.set_viewport_size({"width": 700, "height": 640})
    page.keyboard.press("Escape")
    expect(page.locator("#audio-devices")).to_be_hidden()


def test_two_compare_words_that_nobody_between_them_could_make(house: House) -> None:
    ada, bob = house.two(QUIET)
    ada.reaches(bob)
    words = []
    for one, other in ((ada, bob), (bob, ada)):
        one.acts_on(other, "verify")
        expect(one.page.locator(".words li")).to_have_count(12)
        words.append(one.page.locator(".words li").all_text_contents())
    assert words[0] == words[1]
    assert len(set(words[0])) > 4
    ada.page.keyboard.press("Escape")
    bob.page.keyboard.press("Escape")
    bob.page.click("#leave")
    expect(ada.page.locator("[data-tile]")).to_have_count(1)
    bob.page.click("#rejoin")
    bob.phase("joined").reaches(ada)
    ada.acts_on(bob, "verify")
    expect(ada.page.locator(".words li")).to_have_count(12)
    assert ada.page.locator(".words li").all_text_contents() != words[0]  # of each connection


def test_switches_and_shortcuts(house: House) -> None:
    ada, bob = house.couple()
    page, mark = ada.page, bob.tile(ada).locator(".seat-marks .mark")
    expect(bob.said).to_have_text("You are in the call with 1 person")
    expect(ada.said).to_have_text("Bob has joined")
    page.click("#audio")
    expect(mark).to_have_count(1)
    expect(ada.said).to_have_text("Microphone off")
    page.keyboard.press("m")
    expect(mark).to_have_count(0)
    expect(ada.said).to_have_text("Microphone on")
    page.keyboard.press("v")
    expect(bob.tile(ada)).not_to_have_class(re.compile("with-picture"))
    page.keyboard.press("Control+e")
    expect(bob.tile(ada)).to_have_class(re.compile("with-picture"))
    page.keyboard.press("Control+d")
    expect(mark).to_have_count(1)
    page.focus("#stage")
    page.keyboard.down(" ")
    expect(mark).to_have_count(0)
    page.keyboard.up(" ")
    expect(mark).to_have_count(1)
    page.keyboard.press("c")
    expect(page.locator("#chat-text")).to_be_focused()
    page.keyboard.type("mmm")
    expect(page.locator("#chat-text")).to_have_value("mmm")
    expect(mark).to_have_count(1)
    page.keyboard.press("Escape")
    assert focused(page) == "open-chat"
    page.keyboard.press("?")
    expect(page.locator("#keys-dialog")).to_be_visible()
    expect(page.locator("#keys-list div")).to_have_count(15)
    page.uncheck("#single-keys")
    page.keyboard.press("Escape")
    page.keyboard.press("r")
    expect(page.locator("#hand")).to_have_attribute("aria-pressed", "false")
    page.keyboard.press("Control+d")
    expect(mark).to_have_count(0)


PRESS = """(event) => {
  const { on = 'body', ...more } = event;
  const made = new KeyboardEvent('keydown', { bubbles: true, cancelable: true, ...more });
  return document.querySelector(on).dispatchEvent(made); }"""


def test_letters_of_another_script_act_by_their_place(house: House) -> None:
    """Stub: the events of such layouts, and of a method that composes words."""
    ada = house.host().join()
    page = ada.page

    def state(which: str) -> bool:
        return page.get_attribute(f"#{which}", "aria-pressed") == "true"

    for which, event in (
        ("audio", {"key": "\u044c", "code": "KeyM"}),  # Cyrillic
        ("audio", {"key": "\u0432", "code": "KeyD", "ctrlKey": True}),
        ("video", {"key": "\u03c9", "code": "KeyV"}),  # Greek
        ("video", {"key": "\u062b", "code": "KeyE", "ctrlKey": True}),  # Arabic
        ("hand", {"key": "\u3131", "code": "KeyR"}),  # Korean
    ):
        before = state(which)
        page.evaluate(PRESS, event)
        wait_for(lambda: state(which) != before, str(event))  # noqa: B023
    before = state("audio")
    for event in (
        {"key": "\u0131", "code": "KeyM"},  # Latin, though not of ours
        {"key": ",", "code": "KeyM"},
        {"key": "\u044c", "code": "KeyM", "keyCode": 229},
    ):
        page.evaluate(PRESS, event)
        assert state("audio") == before, event
    page.click("#open-chat")
    page.fill("#chat-text", "\u304b\u306a")
    end = {"on": "#chat-text", "key": "Enter", "code": "Enter"}
    assert page.evaluate(PRESS, {**end, "keyCode": 229}), "it ends a word"
    assert page.evaluate(PRESS, {**end, "keyCode": 229, "key": "Escape"})
    expect(page.locator("#chat")).to_be_visible()
    expect(page.locator("#chat-text")).to_have_value("\u304b\u306a")
    assert not page.evaluate(PRESS, {**end, "keyCode": 13}), "it sends"
    expect(page.locator(".said .text")).to_have_text("\u304b\u306a")


def test_screens_are_shared_with_sound_by_several_at_once(house: House) -> None:
    """Stub: what the picker gives, since a headless browser's screen has no sound."""
    ada, bob = house.couple(SCREEN)
    bob.page.click("#screen")
    shared = ada.page.locator('[data-screen][data-name="Bob"]')
    expect(shared).to_have_class(re.compile("with-picture"))
    expect(ada.page.locator("#seats")).to_have_attribute("data-layout", "focus")
    until(ada.page, "() => document.querySelector('[data-screen] audio').srcObject?.active")
    expect(bob.notice("sharing")).to_be_visible()
    expect(bob.page.locator("[data-screen].own.nested.with-picture")).to_be_visible()
    cem = house.guest("Cem", SCREEN).join().sees(ada, bob)
    cem.page.click("#screen")
    expect(ada.page.locator("[data-screen].with-picture")).to_have_count(2)
    expect(bob.page.locator("[data-screen].with-picture")).to_have_count(2)
    bob.page.evaluate(
        "window.shared.getVideoTracks()[0].dispatchEvent(new Event('ended'))"
    )  # the browser's own button
    expect(shared).to_have_count(0)
    expect(bob.notice("sharing")).to_have_count(0)
    cem.notice("sharing").locator("button").click()
    expect(ada.page.locator("[data-screen]")).to_have_count(0)


def test_a_screen_is_sent_for_text_or_for_a_film(house: House) -> None:
    """What the browser is told, of the track and of its sender, by the menu's choice."""
    bob = house.couple(SCREEN)[1]
    sent = """() => {
      const senders = window.made.map((one) => one.getTransceivers()[2]?.sender);
      const sender = senders.find((one) => one?.track && one.getParameters().encodings[0].maxBitrate);
      const { encodings: [{ maxBitrate }], degradationPreference } = sender?.getParameters() ?? { encodings: [{}] };
      return [window.shared?.getVideoTracks()[0].contentHint, maxBitrate, degradationPreference].join(); }"""
    bob.page.click("#more")
    expect(bob.page.locator('#more-menu [data-item="motion"]')).to_have_count(0)  # of nothing
    bob.page.keyboard.press("Escape")
    bob.page.click("#screen")
    text = "detail,3000000,maintain-resolution"
    film = "motion,6000000,balanced"
    until(bob.page, f"() => ({sent})() === '{text}'")
    for chosen, is_film, said in ((film, "false", "smooth"), (text, "true", "sharp")):
        bob.page.click("#more")
        item = bob.page.locator('#more-menu [data-item="motion"]')
        expect(item).to_have_attribute("aria-checked", is_film)
        item.click()
        expect(bob.said).to_have_text(f"Your screen is sent {said}")
        until(bob.page, f"() => ({sent})() === '{chosen}'")
    bob.menu("motion")
    bob.page.click("#screen")
    bob.page.click("#screen")
    until(bob.page, f"() => ({sent})() === '{film}'")  # the next one too


# Stub: a camera of 640x360, drawn anew ten times a second.
LARGE = """
const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
navigator.mediaDevices.getUserMedia = async (asked) => {
  const stream = await ask(asked);
  const canvas = Object.assign(document.createElement('canvas'), { width: 640, height: 360 });
  const context = canvas.getContext('2d');
  let step = 0;
  setInterval(() => { context.fillStyle = `hsl(${step += 7} 60% 40%)`; context.fillRect(step % 600, 0, 40, 360); }, 100);
  return new MediaStream([...canvas.captureStream(10).getTracks(), ...stream.getAudioTracks()]);
};
"""


def test_cameras_step_down_while_a_screen_is_shared(house: House) -> None:
    """What the encoder of the camera sends, by the browser's statistics: lines, and its limit."""
    ada = house.host("Ada").join()
    bob = house.guest("Bob", SCREEN, LARGE).join()
    ada.sees(bob)
    sent = """async () => {
      const sender = window.made.map((one) => one.getTransceivers()[1]?.sender).find((one) => one?.track);
      const rows = [...(await sender.getStats()).values()];
      const { frameHeight } = rows.find(({ type }) => type === 'outbound-rtp');
      return [frameHeight, sender.getParameters().encodings[0].maxBitrate];
    }"""
    large = f"async () => {{ const [lines, limit] = await ({sent})(); return lines > 200 && limit >= 500_000; }}"
    small = f"async () => {{ const [lines, limit] = await ({sent})(); return lines <= 180 && limit <= 120_000; }}"
    until(bob.page, large)
    bob.page.click("#screen")
    expect(ada.page.locator("[data-screen].with-picture")).to_have_count(1)
    until(bob.page, small)
    bob.page.click("#screen")
    until(bob.page, large)


def test_raised_hands_have_an_order_and_a_sound(house: House) -> None:
    sounds = """
      window.sounds = 0;
      const start = OscillatorNode.prototype.start;
      OscillatorNode.prototype.start = function (...args) { window.sounds += 1; return start.apply(this, args); };"""
    ada = house.host("Ada", sounds, QUIET).join()
    bob, cem = (house.guest(name, QUIET).join() for name in ("Bob", "Cem"))
    expect(ada.tile(cem)).to_be_visible()
    expect(ada.page.locator("#captions")).to_contain_text("Cem has joined")
    before = ada.page.evaluate("window.sounds")
    cem.page.click("#hand")
    expect(ada.tile(cem).locator(".hand")).to_have_text("1")
    until(ada.page, "(before) => window.sounds > before", before)
    bob.page.click("#hand")
    expect(ada.tile(bob).locator(".hand")).to_have_text("2")
    expect(ada.page.locator("#captions")).to_contain_text("Bob raises a hand")
    ada.page.click("#open-people")
    expect(ada.page.locator("#people-list .name")).to_have_text(["Cem", "Bob", "Ada (you)"])
    cem.page.click("#hand")
    expect(ada.tile(bob).locator(".hand")).to_have_text("1")
    # Reactions: by the keyboard, over whoever sends them, said to the others, gone after a moment.
    ada.timed()
    ada.page.route("**/reactions.js", lambda route: route.abort())
    bob.page.route("**/reactions.js", lambda route: route.abort())

    def is_told() -> bool:  # for some seconds
        bob.page.keyboard.press("e")
        return "can’t be reached" in (bob.page.locator("#captions").text_content() or "")

    wait_for(is_told, "what can't be had")
    for one in (ada, bob):
        one.page.unroute("**/reactions.js")
    first = bob.page.locator("#reactions button").first

    def is_open() -> bool:  # by this, or by what was pressed before and had to wait
        if not first.is_visible():
            bob.page.keyboard.press("e")
        bob.page.wait_for_timeout(500)
        return first.is_visible()

    wait_for(is_open, "the reactions")
    expect(first).to_be_focused()
    bob.page.keyboard.press("ArrowLeft")
    bob.page.keyboard.press("ArrowLeft")
    bob.page.keyboard.press("Enter")
    for one, tile in ((ada, ada.tile(bob)), (bob, bob.page.locator("[data-self]"))):
        expect(tile.locator(".reaction")).to_have_text("🤔")
        expect(one.page.locator(".reaction")).to_have_count(1)
    expect(ada.said).to_have_text("Bob: Thinking")
    bob.page.route("**/reactions", lambda route: route.fulfill(status=429))

    def is_refused() -> bool:
        if "Too many" in (bob.said.text_content() or ""):
            return True
        bob.page.keyboard.press("Enter")
        return False

    wait_for(is_refused, "the refusal")
    bob.page.keyboard.press("Escape")
    expect(bob.page.locator("#react")).to_be_focused()
    ada.skip(4)
    expect(ada.page.locator(".reaction")).to_have_count(0)


def test_chat_with_unread_count_links_and_history(house: House) -> None:
    ada, bob = house.two(QUIET)
    hostile = "<img src=x onerror=alert(1)> https://example.org/a?b=1, and more"
    bob.page.click("#open-chat")
    bob.page.fill("#chat-text", hostile)
    bob.page.keyboard.press("Enter")
    expect(ada.page.locator("#open-chat")).to_have_attribute("data-count", "1")
    expect(ada.page).to_have_title(re.compile(r"^\(1\) Planning"))
    expect(ada.said).to_contain_text("Bob: <img")
    bob.page.fill("#chat-text", "second")
    bob.page.click("#chat-send")
    expect(ada.page.locator("#open-chat")).to_have_attribute(
        "aria-label", "Chat, 2 unread messages"
    )
    ada.page.click("#open-chat")
    expect(ada.page.locator("#open-chat[data-count]")).to_have_count(0)
    expect(ada.page.locator(".said .text")).to_have_text([hostile, "second"])
    expect(ada.page.locator(".said a")).to_have_attribute("href", "https://example.org/a?b=1")
    assert ada.page.locator(".said img").count() == 0
    ada.page.fill("#chat-text", "third")
    ada.page.keyboard.press("Enter")
    cem = house.guest("Cem", QUIET)
    held = hold(cem.page, "**/chat")
    cem.join().page.click("#open-chat")
    bob.page.fill("#chat-text", "fourth")
    bob.page.keyboard.press("Enter")
    expect(cem.page.locator(".said .text")).to_have_text("fourth")
    held[0].abort()  # what was said before comes later: it is asked for again
    cem.page.unroute("**/chat")
    expect(cem.page.locator(".said .text")).to_have_text([hostile, "second", "third", "fourth"])
    bob.page.route("**/chat", lambda route: route.abort())
    bob.page.fill("#chat-text", "lost?")
    bob.page.keyboard.press("Enter")
    expect(bob.page.locator("#chat-form .banner")).to_contain_text("can’t be reached")
    expect(bob.page.locator("#chat-text")).to_have_value("lost?")
    # An answer, by the keyboard: its line leads to what it answers. Marks are shown as what they mean.
    page = ada.page
    page.focus("#chat-text")
    page.keyboard.press("Shift+Tab")
    for _ in range(3):
        page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    expect(page.locator(".answering")).to_contain_text("Reply to Bob: <img")
    page.keyboard.type("**yes** ")
    page.click("#chat-emoji")
    expect(page.locator("#emoji button").first).to_be_focused()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(page.locator("#chat-text")).to_have_value("**yes** 😄")
    page.keyboard.press("Enter")
    expect(page.locator(".answering")).to_be_hidden()
    expect(cem.page.locator(".said strong")).to_have_text("yes")
    expect(cem.page.locator(".said .quote")).to_contain_text("Bob <img")
    cem.page.click(".said .quote")
    expect(cem.page.locator(".said").first).to_be_focused()
    # What one says is seen, wherever one has read.
    for number in range(6):
        page.fill("#chat-text", f"line {number}\n\n\n")
        page.keyboard.press("Enter")
        expect(page.locator("#chat-text")).to_have_value("")
    page.evaluate("document.querySelector('.said').scrollIntoView()")
    page.fill("#chat-text", "last")
    page.keyboard.press("Enter")
    expect(page.locator(".said").last).to_have_text(re.compile("last"))
    expect(page.locator(".said").last).to_be_in_viewport()
    page.click(".said >> nth=-1 >> .answer")
    page.keyboard.press("Escape")
    expect(page.locator(".answering")).to_be_hidden()
    expect(page.locator("#chat")).to_be_visible()


def test_names_turn_nothing_around_them_and_no_emoji_is_cut(house: House) -> None:
    """A name from right to left is isolated where it stands in a line with others."""
    family, name = "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\u05d3\u05e0\u05d4"
    ada = house.host("Ada", QUIET).join()
    dana = house.guest(f"{family} {name}", QUIET)
    dana.open().ask(name=f"\u202e{family} {name}\u2069").phase("joined")
    expect(ada.said).to_have_text(f"\u2068{dana.name}\u2069 has joined")
    expect(ada.tile(dana).locator("bdi")).to_have_text(dana.name)
    expect(ada.tile(dana).locator(".face")).to_have_text(f"{family}{name[0]}")
    dana.page.click("#open-chat")
    dana.page.fill("#chat-text", "x" * 118 + family + "y")
    dana.page.keyboard.press("Enter")
    news = f"\u2068{dana.name}\u2069: {'x' * 118}\u2026"
    expect(ada.said).to_have_text(news)
    ada.page.click("#open-chat")
    expect(ada.page.locator(".said .meta bdi")).to_have_text(dana.name)
    ada.show_people()
    line = ada.page.locator("#people-list .line", has_text=dana.name)
    expect(line.locator("bdi")).to_have_text(dana.name)
    expect(line.locator("button[aria-haspopup]")).to_have_attribute(
        "aria-label", re.compile(f"\u2068{dana.name}\u2069")
    )


def test_a_name_is_seen_and_two_of_one_are_told_apart(house: House) -> None:
    ada = house.host("Ada", QUIET).join()
    twin = house.guest("Ada", QUIET).open()
    twin.ask(name="\u200b\u2060")
    expect(twin.page.locator("#name-error")).to_contain_text("Enter your name")
    twin.ask(name="a\u200bda").phase("joined")
    second = ada.page.locator("[data-tile]:not([data-self])")
    expect(second.locator(".name")).to_have_text("ada (2)")
    expect(second).to_have_attribute("aria-label", "ada (2)")
    expect(ada.said).to_have_text("ada (2) has joined")
    first = twin.page.locator("[data-tile]:not([data-self]) .name")
    expect(first).to_have_text("Ada")
    expect(twin.page.locator("[data-self] .name")).to_have_text("ada (you)")
    twin.page.click("#open-chat")
    twin.page.fill("#chat-text", "hello")
    twin.page.keyboard.press("Enter")
    expect(ada.said).to_have_text("ada (2): hello")
    ada.page.click("#open-chat")
    expect(ada.page.locator(".said .meta bdi")).to_have_text("ada (2)")
    ada.page.click("#send-file")
    expect(ada.page.locator("#file-to option")).to_have_text(["Everybody in the room", "ada (2)"])
    ada.page.keyboard.press("Escape")
    ada.show_people()
    expect(ada.page.locator("#people-list .name")).to_have_text(["Ada (you)", "ada (2)"])


def offer(someone: Someone, folder: Path, name: str, content: bytes, to: str = "") -> None:
    path = folder / name
    path.write_bytes(content)
    if someone.page.locator("#chat").is_hidden():
        someone.page.click("#open-chat")
    someone.page.click("#send-file")
    someone.page.set_input_files("#file-input", path)
    if to:
        someone.page.select_option("#file-to", label=to)
    someone.page.click("#file-form button.primary")


def test_files_go_to_everyone_or_one_once_accepted(house: House, tmp_path: Path) -> None:
    ada, bob = house.two(QUIET)
    cem = house.guest("Cem", QUIET).join().reaches(ada, bob)
    ada.reaches(bob)
    sizes = """
      window.pieces = [];
      const send = RTCDataChannel.prototype.send;
      RTCDataChannel.prototype.send = function (data) {
        if (data.byteLength) window.pieces.push(data.byteLength);
        return send.call(this, data);
      };"""
    ada.page.evaluate(f"() => {{ {sizes} }}")
    content = secrets.token_bytes(700_001)
    offer(ada, tmp_path, "plan.bin", content)
    for other in (bob, cem):
        other.page.click("#open-chat")
        expect(other.page.locator(".file")).to_contain_text("plan.bin")
        expect(other.page.locator(".file .state")).to_have_text("")  # it is they who are asked
    assert ada.page.evaluate("window.pieces.length") == 0  # nothing before it is accepted
    bob.page.click('.file [data-act="room.files.accept"]')
    with bob.page.expect_download() as download:
        bob.page.click(".file a[download]")
    assert Path(download.value.path()).read_bytes() == content
    assert download.value.suggested_filename == "plan.bin"
    # One card for both: how many have it, and who.
    card = ada.page.locator(".file")
    expect(card.locator(".state")).to_have_text("1 of 2 have it")
    expect(card).to_have_attribute("data-status", "offered")
    ada.page.click(".file summary")
    expect(card.locator("li")).to_have_text(["Bob – Complete", "Cem – Waiting for an answer"])
    cem.page.click('.file [data-act="room.files.decline"]')
    expect(card.locator("li")).to_have_text(["Bob – Complete", "Cem – Declined"])
    expect(card.locator("details")).to_have_attribute("open", "")
    expect(card).to_have_attribute("data-status", "done")
    expect(card).to_have_count(1)
    pieces = ada.page.evaluate("window.pieces")
    assert max(pieces) == 16_384 and sum(pieces) == len(content) + 4 * len(pieces)
    offer(ada, tmp_path, "only.txt", b"for Cem", to="Cem")
    expect(cem.page.locator(".file").last).to_contain_text("only.txt")
    expect(bob.page.locator(".file")).to_have_count(1)
    cem.page.click("#leave")
    expect(ada.page.locator('.file[data-status="failed"]')).to_have_count(1)
    offer(ada, tmp_path, "empty.txt", b"")
    bob.page.click('.file [data-act="room.files.accept"]')
    expect(ada.page.locator('.file[data-status="done"]')).to_have_count(2)
    # A picture that is pasted is shown to all who are there, smaller, and nowhere kept.
    ada.page.evaluate(PASTE, 3_000)
    ada.page.fill("#picture-alt", "A plan")
    ada.page.keyboard.press("Enter")
    picture = bob.page.get_by_role("button").get_by_role("img", name="A plan")
    expect(picture).to_be_visible()
    assert picture.evaluate("(image) => image.naturalWidth") == 2_048
    expect(bob.said).to_contain_text("Ada: Picture")
    bob.page.locator(".picture-small").press("Enter")
    expect(bob.page.locator("#picture-dialog img")).to_have_attribute("alt", "A plan")
    expect(ada.page.locator(".picture-small")).to_have_count(1)
    assert ada.page.locator("#chat-form .pending").is_hidden()
    said = bob.page.evaluate(
        "fetch(`../api/video/rooms/${location.pathname.split('/').pop()}/chat`, { headers: { 'X-Session': localStorage.getItem(`rtapp.room.${location.pathname.split('/').pop()}`) } }).then((answer) => answer.json())"
    )
    assert said == []


def test_a_file_on_its_way_shows_progress_and_can_be_cancelled(
    house: House, tmp_path: Path
) -> None:
    """Stub: the sender's file is read slowly, so that there is a way to see."""
    slow = """
      const slice = Blob.prototype.slice;
      Blob.prototype.slice = function (...args) {
        const part = slice.apply(this, args);
        const read = part.arrayBuffer.bind(part);
        part.arrayBuffer = async () => { await new Promise((done) => setTimeout(done, 1500)); return read(); };
        return part;
      };"""
    ada, bob = house.two(slow, QUIET)
    ada.reaches(bob)
    offer(ada, tmp_path, "big.bin", secrets.token_bytes(6_000_000))
    bob.page.click("#open-chat")
    bob.page.click('.file [data-act="room.files.accept"]')
    until(
        bob.page,
        "() => { const bar = document.querySelector('.file progress'); return bar && bar.value > 0; }",
    )
    expect(bob.page.locator(".file .state")).to_contain_text("transferred")
    bob.page.click('.file [data-act="room.cancel"]')
    for one in (ada, bob):
        expect(one.page.locator('.file[data-status="cancelled"]')).to_have_count(1)


def test_a_strangers_control_texts_do_no_harm(house: House) -> None:
    """What a changed page could send over the data channel: bad texts, pieces never offered."""
    ada, bob = house.two(QUIET)
    bob.reaches(ada)
    bad = ["", "{", "null", "[]", '{"type":"constructor","id":1}', '{"type":"file-offer","id":1}']
    bad += [json.dumps({"type": "file-offer", "id": 1, "name": "../../a\u202etxt.exe", "size": 5})]
    bad += [json.dumps({"type": "file-offer", "id": 2, "name": "x", "size": 2**40})]
    bad += [
        json.dumps({"type": "file-accept", "id": 99}),
        json.dumps({"type": "file-cancel", "id": {}}),
    ]
    bob.page.evaluate(
        """(texts) => {
          const send = RTCDataChannel.prototype.send;
          RTCDataChannel.prototype.send = function (data) {
            if (this.label === 'data' && texts.length) {
              for (const text of texts.splice(0)) send.call(this, text);
              send.call(this, new Uint8Array(3));
              send.call(this, new Uint8Array([0, 0, 0, 77, 1, 2, 3]));
            }
            return send.call(this, data);
          };
        }""",
        bad,
    )
    bob.menu("record")  # says so on the channel, after what is above
    expect(ada.page.locator("#call-marks")).to_contain_text("Bob is recording")
    ada.page.click("#open-chat")
    expect(ada.page.locator(".file")).to_have_count(1)
    expect(ada.page.locator(".file .text")).to_contain_text("atxt.exe (5 bytes)")


def test_a_call_is_recorded_here_and_the_others_see_it(house: House, tmp_path: Path) -> None:
    ada = house.host(timezone_id="Pacific/Kiritimati").join()
    bob = house.guest("Bob").join().sees(ada)
    cem = house.guest("Cem").open()  # while nothing is recorded, which costs a core
    ada.menu("record")
    expect(ada.page.locator("#call-marks")).to_contain_text("You are recording")
    expect(bob.page.locator("#call-marks")).to_contain_text("Ada is recording")
    cem.ask().phase("joined")
    expect(cem.page.locator("#call-marks")).to_contain_text("Ada is recording")
    ada.page.wait_for_timeout(1500)  # something to record
    with ada.page.expect_download() as download:
        ada.menu("record")
    expect(bob.page.locator("#call-marks")).not_to_contain_text("recording")
    path = tmp_path / "call.webm"
    download.value.save_as(path)
    name = re.fullmatch(r"Call (\S+ \d\d)\.(\d\d)\.webm", download.value.suggested_filename)
    assert name, download.value.suggested_filename
    age = ada.page.evaluate("(time) => Date.now() - new Date(time)", f"{name[1]}:{name[2]}")
    assert 0 <= age < 600_000  # by the reader's clock
    expect(ada.said).to_have_text(re.compile(r"saved \([\d.,]+ [kM]B\)"))
    played = ada.page.evaluate(
        """async (text) => {
          const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
          const video = document.createElement('video');
          video.src = URL.createObjectURL(new Blob([bytes], { type: 'video/webm' }));
          await new Promise((done, fail) => { video.onloadeddata = done; video.onerror = () => fail(video.error); });
          const sound = await new AudioContext().decodeAudioData(bytes.buffer.slice(0));
          const loud = sound.getChannelData(0).some((sample) => Math.abs(sample) > 0.01);
          return [video.videoWidth, video.videoHeight, sound.duration, loud];
        }""",
        base64.b64encode(path.read_bytes()).decode(),
    )
    assert played[:2] == [1280, 720]
    assert played[2] > 1 and played[3]


LENGTH = """async (text) => {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const video = document.createElement('video');
  video.src = URL.createObjectURL(new Blob([bytes], { type: 'video/webm' }));
  await new Promise((done, fail) => { video.onloadedmetadata = done; video.onerror = () => fail(video.error); });
  return video.duration; }"""


def length_of(page: Page, download: Download) -> float:
    """In seconds, as a player finds it."""
    film = base64.b64encode(Path(download.path()).read_bytes()).decode()
    return float(page.evaluate(LENGTH, film))


def test_a_recording_has_a_length_and_outlives_its_page(house: House) -> None:
    ada = house.host().join()
    page = ada.page
    ada.menu("record")
    expect(page.locator("#call-marks")).to_contain_text("You are recording")
    page.wait_for_timeout(1_500)
    with page.expect_download() as download:
        ada.menu("record")
    assert 1 < length_of(page, download.value) < 8
    asked = []

    def leave(dialog: Dialog) -> None:
        asked.append(dialog.type)
        dialog.accept()

    page.on("dialog", leave)
    ada.menu("record")
    expect(page.locator("#call-marks")).to_contain_text("You are recording")
    page.wait_for_timeout(3_000)
    page.reload()
    assert asked == ["beforeunload"]
    cut = page.locator('[data-notice="recording-cut"]')
    expect(cut).to_contain_text("cut short")
    with page.expect_download() as download:
        cut.get_by_role("button", name="Save").click()
    assert 1 < length_of(page, download.value) < 8
    expect(cut).to_have_count(0)
    page.reload()
    expect(page.locator("main")).to_have_attribute("data-ready", "")
    ada.ask().phase("joined")
    expect(cut).to_have_count(0)  # it is saved
    page.reload()
    assert asked == ["beforeunload"]


def test_a_recording_in_mp4_says_its_length(house: House) -> None:
    """Stub: a browser without WebM, as Safari was. Chromium writes fragments, and of the film's
    length nothing: some players show none then."""
    ada = house.host(
        "Ada", "MediaRecorder.isTypeSupported = (type) => type === 'video/mp4';"
    ).join()
    ada.menu("record")
    expect(ada.page.locator("#call-marks")).to_contain_text("You are recording")
    ada.page.wait_for_timeout(1_500)
    with ada.page.expect_download() as download:
        ada.menu("record")
    assert download.value.suggested_filename.endswith(".mp4")
    assert 1 < length_of(ada.page, download.value) < 8
    film = Path(download.value.path()).read_bytes()
    for box in (b"mvhd", b"mdhd"):  # of the film, of its first track; both in version 1
        scale, length = struct.unpack_from(">IQ", film, film.index(box) + 24)
        assert 1 < length / scale < 8, box


# Whether all of a text of the page is to be seen: it is nowhere cut, nor outside of its window.
WHOLE = """(selector) => [...document.querySelectorAll(selector)].every((one) => {
  const box = one.getBoundingClientRect();
  const isCut = one.scrollWidth > one.clientWidth + 1 || one.scrollHeight > one.clientHeight + 1;
  return box.width > 0 && box.left >= 0 && box.right <= innerWidth && box.top >= 0 && !isCut; })"""


@pytest.mark.parametrize("width", [1000, 360])
def test_who_is_recorded_reads_so_whole(house: House, width: int) -> None:
    house.make(name=" ".join(["WWWW"] * 12))
    window = {"viewport": {"width": width, "height": 640}}
    ada, bob = house.host(**window).join(), house.guest("Bob Montgomery", **window).join()
    ada.sees(bob)
    ada.menu("record")
    for one in (ada, bob):
        expect(one.page.locator("#call-marks .record")).to_have_count(1)
        assert one.page.evaluate(WHOLE, "#call-marks .record span"), one.name
        fits(one.page)
    bob.menu("record")
    expect(ada.page.locator("#call-marks .record")).to_have_count(2)
    assert ada.page.evaluate(WHOLE, "#call-marks .record span")
    fits(ada.page)


@pytest.mark.parametrize(
    "window",
    [{}, PHONE, {**PHONE, "viewport": {"width": 740, "height": 360}}],
    ids=["desk", "phone", "sideways"],
)
def test_a_note_that_passes_covers_nothing(house: House, window: dict[str, Any]) -> None:
    """Neither the title, nor the card that invites, nor a picture; and nothing moves for it."""
    ada = house.host("Ada", QUIET, **window).timed().join()
    bob = house.guest("Bob", QUIET).join()
    expect(ada.tile(bob)).to_be_visible()
    ada.skip(6)
    expect(ada.page.locator(".toast")).to_have_count(0)
    before = ada.page.locator("#stage").bounding_box()
    bob.page.click("#leave")
    expect(ada.page.locator("#alone")).to_be_visible()
    expect(ada.page.locator(".toast")).to_have_text("Bob has left")
    note = ada.page.locator(".toast").bounding_box()
    assert note and before == ada.page.locator("#stage").bounding_box()
    for other in ("#call-title", "#alone", "#stage", "#controls", "#open-invite"):
        box = ada.page.locator(other).bounding_box()
        assert box, other
        is_beside = note["x"] + note["width"] <= box["x"] or box["x"] + box["width"] <= note["x"]
        is_above = note["y"] + note["height"] <= box["y"] or box["y"] + box["height"] <= note["y"]
        assert is_beside or is_above, (other, note, box)
    fits(ada.page)


def test_full_screen_and_staying_awake(house: House) -> None:
    awake = """
      window.locks = 0;
      const request = WakeLock.prototype.request;
      WakeLock.prototype.request = function (...args) { window.locks += 1; return request.apply(this, args); };"""
    ada = house.host("Ada", awake).join()
    until(ada.page, "() => window.locks === 1")
    ada.page.evaluate(
        "document.dispatchEvent(new Event('visibilitychange'))"
    )  # back from elsewhere
    until(ada.page, "() => window.locks === 2")
    ada.page.keyboard.press("f")
    until(ada.page, "() => document.fullscreenElement !== null")
    ada.menu("full")
    until(ada.page, "() => document.fullscreenElement === null")


def test_sound_that_the_browser_holds_back_is_unlocked_by_a_click(house: House) -> None:
    """Stub: Chromium's refusal to play before a gesture."""
    blocked = """
      const play = HTMLMediaElement.prototype.play;
      HTMLMediaElement.prototype.play = function () {
        if (window.isHeld && this.dataset.role === 'audio') return Promise.reject(new DOMException('', 'NotAllowedError'));
        return play.call(this);
      };
      Object.defineProperty(HTMLMediaElement.prototype, 'autoplay', { set() {}, get() { return false; } });"""
    ada = house.host("Ada", blocked).join()
    ada.page.evaluate("window.isHeld = true")
    house.guest("Bob").join()
    expect(ada.notice("blocked")).to_be_visible()
    ada.page.evaluate("window.isHeld = false")
    ada.notice("blocked").locator("button").click()
    expect(ada.notice("blocked")).to_have_count(0)


# Stub: the statistics say that packets are lost while `loses`, or late while `late`.
POOR = """
const real = RTCPeerConnection.prototype.getStats;
let lost = 0, received = 0;
RTCPeerConnection.prototype.getStats = async function () {
  const rows = new Map(await real.call(this));
  received += 400;
  lost += window.loses ? 100 : 0;
  for (const [id, row] of rows) {
    if (row.type === 'inbound-rtp') rows.set(id, { ...row, packetsLost: lost, packetsReceived: received, jitter: 0 });
    if (row.type === 'candidate-pair') rows.set(id, { ...row, currentRoundTripTime: window.late ? 0.9 : 0.01 });
  }
  return rows;
};
"""


def test_the_connection_is_told_in_words(house: House) -> None:
    """Stub: the statistics of the browser say that packets are lost, then that they are late."""
    ada, bob = house.couple(POOR)
    tile = ada.tile(bob)
    ada.page.clock.run_for(4_000)
    expect(tile.locator(".trouble")).to_be_hidden()
    ada.page.evaluate("window.loses = true")
    ada.page.clock.run_for(2_000)
    expect(tile.locator("[data-trouble]")).to_have_text(re.compile("part of the data is lost"))
    expect(tile).to_have_attribute("data-quality", "poor")
    ada.page.evaluate("() => { window.loses = false; window.late = true; }")
    ada.page.clock.run_for(14_000)  # what was lost is then too long ago
    expect(tile.locator("[data-trouble]")).to_have_text(re.compile("arrives late"))
    assert "ms" in str(tile.locator(".bars").get_attribute("title"))


def test_words_on_a_connection_leave_faces_alone_and_those_on_most_are_said_once(
    house: House,
) -> None:
    """On a phone held sideways there is an icon, and the words come at a tap."""
    sideways = {**PHONE, "viewport": {"width": 740, "height": 360}}
    ada = house.host("Ada", POOR, **sideways).timed().join()
    bob = house.guest("Bob").join().sees(ada)
    trouble = ada.tile(bob).locator("[data-trouble]")
    ada.page.evaluate("window.loses = true")
    ada.page.clock.run_for(4_000)
    expect(trouble).to_be_visible()
    box = trouble.bounding_box()
    assert box and box["width"] < 60 and box["height"] < 60, box
    ada.tile(bob).tap()
    wait_for(lambda: (trouble.bounding_box() or box)["width"] > 200, "the words")
    expect(trouble).to_have_text(re.compile("part of the data is lost"))
    cem = house.guest("Cem").join()
    ada.sees(cem)
    ada.page.clock.run_for(4_000)
    own = ada.notice("own-line")
    expect(own).to_contain_text("it is probably your own")
    for one in (bob, cem):
        expect(ada.tile(one).locator("[data-trouble]")).to_be_hidden()
        expect(ada.tile(one)).to_have_attribute("data-quality", "poor")
    ada.page.evaluate("window.loses = false")
    ada.page.clock.run_for(14_000)
    expect(own).to_have_count(0)


# ---- hosts, lobby, doors -------------------------------------------------------------------------


def test_a_host_mutes_hands_over_and_removes(house: House) -> None:
    ada, bob = house.couple()
    ada.acts_on(bob, "room.host.mute")
    expect(bob.notice("muted")).to_be_visible()
    until(ada.page, "() => !document.querySelector('[data-tile]:not([data-self]) audio').srcObject")
    ada.acts_on(bob, "room.host.unmute")
    expect(bob.notice("muted")).to_have_count(0)
    ada.acts_on(bob, "room.host.cameraOff")
    expect(bob.notice("camera-off")).to_be_visible()
    expect(ada.tile(bob)).not_to_have_class(re.compile("with-picture"))
    ada.acts_on(bob, "room.host.cameraOn")
    expect(ada.tile(bob)).to_have_class(re.compile("with-picture"))
    ada.acts_on(bob, "room.host.makeHost", sure=True)
    expect(ada.page.locator("#host-tools")).to_be_hidden()
    bob.acts_on(ada, "room.host.remove", sure=True)
    ada.phase("left")
    expect(ada.page.locator("#over-title")).to_have_text("You were removed from the call")
    expect(ada.page.locator("#rejoin")).to_be_hidden()
    assert focused(ada.page) == "over-title"
    until(ada.page, "() => window.opened.every((track) => track.readyState === 'ended')")
    ada.open().ask()
    expect(ada.page.locator("#over-title")).to_have_text("You were removed from the call")


def test_lock_password_and_end(house: House) -> None:
    ada = house.host("Ada", QUIET).join()
    page = ada.page
    page.click("#open-people")
    page.check("#room-lock")
    expect(page.locator("#call-marks")).to_contain_text("Locked")
    bob = house.guest("Bob").open()
    expect(bob.page.locator("#door-hint")).to_contain_text("locked")
    bob.ask()
    expect(bob.page.locator("#join-form .banner")).to_contain_text("has locked the room")
    page.click("#room-password button")
    expect(page.locator("#new-room-password-error")).to_have_text("Enter the new password")
    page.fill("#new-room-password", "saffron lantern")
    page.keyboard.press("Enter")
    expect(page.locator("#password-now")).to_have_text("The room has a password")
    page.uncheck("#room-lock")  # who waits for that is asked for the password
    expect(bob.page.locator("#password-error")).to_contain_text("has a password now")
    bob.ask(password="wrong")
    expect(bob.page.locator("#password-error")).to_have_text("This is not the room’s password")
    bob.ask(password="saffron lantern").phase("joined")
    page.click("#drop-password")
    expect(page.locator("#password-now")).to_have_text("The room has no password")
    page.click("#mute-all")
    expect(bob.notice("muted")).to_be_visible()
    page.click("#end-room")
    page.click("#ask-yes")
    for one in (ada, bob):
        one.phase("left")
        expect(one.page.locator("#over-title")).to_have_text("The call has ended")


def test_a_full_or_locked_room_is_waited_for(house: House) -> None:
    """It says so once, comes in when there is a place, and can be told not to wait."""
    house.make(maxParticipants=2)
    ada, bob = house.host("Ada", QUIET).join(), house.guest("Bob", QUIET).join()
    cem = house.guest("Cem", QUIET).timed().open()
    door = cem.page.locator("#door")
    expect(door.get_by_text("The room is full")).to_have_count(1)
    cem.ask()
    expect(cem.page.locator("#join-form .banner")).to_contain_text("as soon as you can")
    expect(door.get_by_text("The room is full").filter(visible=True)).to_have_count(1)
    cem.page.click("#join-form .banner button")
    expect(cem.page.locator("#join-form .banner")).to_have_count(0)
    assert focused(cem.page) == "join"
    expect(cem.page.locator("#join")).not_to_have_attribute("aria-disabled", "true")
    cem.page.click("#join")
    expect(cem.page.locator("#join-form .banner")).to_be_visible()
    house.change(locked=True)
    bob.page.click("#leave")
    expect(ada.page.locator("[data-tile]")).to_have_count(1)
    with cem.page.expect_response("**/api/video/rooms/*"):
        cem.skip(3)
    assert cem.page.get_attribute("main", "data-phase") != "joined"
    house.change(locked=False)
    wait_for(lambda: cem.skip(3) or cem.page.get_attribute("main", "data-phase") == "joined", "in")
    expect(ada.tile(cem)).to_be_visible()
    assert house.server.request("GET", f"/api/video/rooms/{house.room}").json["full"]


def test_who_waits_for_a_room_that_ends_is_told(house: House) -> None:
    house.change(locked=True)
    cem = house.guest("Cem").timed().open().ask()
    expect(cem.page.locator("#join-form .banner")).to_be_visible()
    assert house.server.request("DELETE", f"/api/video/rooms/{house.room}").status in (200, 204)
    cem.skip(3)
    expect(cem.page.locator("#over-title")).to_have_text("There is no such room")


def test_before_joining_one_sees_who_is_inside_as_far_as_it_is_told(house: House) -> None:
    """Stub: the server's answer, in each form that a setting of it gives. It is looked at again while
    one thinks about it."""
    forms: list[tuple[dict[str, Any], str]] = [
        (
            {"participants": ["Ada", "\u05d3\u05e0\u05d4"]},
            "In the room: Ada and \u05d3\u05e0\u05d4",
        ),
        ({"participants": [f"Bob {n}" for n in range(7)]}, "Bob 3, Bob 4 and 2 more"),
        ({"participantCount": 1}, "1 person is in the room"),
        ({"participantCount": 12}, "12 people are in the room"),
        ({"participantCount": 0}, "Nobody is in the room yet"),
        ({}, ""),
        ({"participantCount": 4}, "4 people are in the room"),
    ]
    cem = house.guest("Cem").timed()
    told: dict[str, Any] = {}
    inside, plain = cem.page.locator("#door-inside"), re.compile("[\u2068\u2069]")

    def tell(route: Route) -> None:
        door = route.fetch().json()
        for key in ("participants", "participantCount"):
            door.pop(key, None)
        route.fulfill(json={**door, **told})

    def says(words: str) -> bool:
        return inside.is_visible() == bool(words) and words in plain.sub("", inside.inner_text())

    cem.page.route("**/api/video/rooms/*", tell)
    for form, words in forms:
        told = form
        if form is forms[0][0]:
            cem.open()
            expect(cem.page.locator("#door-title")).to_have_text("Planning")
        else:
            cem.skip(10)
        wait_for(lambda words=words: says(words), words)


def test_a_setting_says_what_is_seen_of_those_inside(house: House) -> None:
    house.host("Ada").join()
    bob = house.guest("Bob").timed()
    for preview, said in (
        ("count", "1 person is in the room"),
        ("names", "In the room: Ada"),
        ("nothing", ""),
    ):
        setting = {"key": "room_preview", "value": preview}
        assert house.server.post("/api/settings", setting).status == 200
        bob.open()
        expect(bob.page.locator("#door-title")).to_have_text("Planning")
        expect(bob.page.locator("#door-inside")).to_have_text(said)


def test_the_lobby_shows_the_room_and_oneself_and_calls_one_back(house: House) -> None:
    sounds = """
      window.sounds = 0;
      const start = OscillatorNode.prototype.start;
      OscillatorNode.prototype.start = function (...args) { window.sounds += 1; return start.apply(this, args); };"""
    house.make(lobby=True)
    ada = house.host().join()
    bob = house.guest("Bob", sounds).open().ask().phase("waiting")
    lobby = bob.page.locator("#lobby")
    expect(lobby).to_contain_text("Planning")
    expect(lobby.locator("#preview-video")).to_be_visible()
    until(
        bob.page,
        """() => { const video = document.querySelector('#lobby video'); const now = video.getVideoPlaybackQuality().totalVideoFrames;
          video.seen ??= now; return now > video.seen; }""",
    )
    lobby.locator("#door-audio").click()
    expect(lobby.locator("#door-audio")).to_have_attribute("aria-pressed", "false")
    assert bob.page.evaluate("window.sounds") == 0
    ada.show_people()
    ada.page.click('#waiting-list [data-act="admit"]')
    bob.phase("joined").sees(ada)
    until(bob.page, "() => window.sounds > 0")
    expect(bob.page.locator("#audio")).to_have_attribute("aria-pressed", "false")
    bob.page.click("#leave")
    bob.phase("left")
    bob.open()
    expect(bob.page.locator("#door #preview-video")).to_be_visible()


def test_the_lobby_of_a_room_that_is_renamed_has_its_new_name(house: House) -> None:
    house.make(lobby=True)
    house.host("Ada", QUIET).join()
    bob = house.guest("Bob", QUIET).timed().open().ask().phase("waiting")
    expect(bob.page.locator("#lobby-room")).to_have_text("Planning")
    house.change(name="Budget")
    bob.skip(11)
    expect(bob.page.locator("#lobby-room")).to_have_text("Budget")
    assert house.server.request("DELETE", f"/api/video/rooms/{house.room}").status in (200, 204)
    expect(bob.phase("left").page.locator("main")).to_have_attribute("data-reason", "ended")


def test_a_full_room_that_is_locked_meanwhile_says_so(house: House) -> None:
    house.make(maxParticipants=2)
    house.host("Ada", QUIET).join()
    house.guest("Cem", QUIET).join()
    bob = house.guest("Bob", QUIET).timed().open().ask()
    banner = bob.page.locator("#join-form .banner")
    expect(banner).to_contain_text("full")
    banner.locator("button").focus()
    house.change(locked=True)
    bob.skip(4)
    expect(banner).to_contain_text("locked")
    assert bob.page.evaluate("document.activeElement.closest('.banner') !== null")
    banner.locator("button").click()
    expect(banner).to_have_count(0)


def test_the_lobby(house: House) -> None:
    house.make(lobby=True)
    ada = house.host().join()
    bob = house.guest("Bob", QUIET).open()
    expect(bob.page.locator("#door-hint")).to_contain_text("one by one")
    bob.ask().phase("waiting")
    expect(bob.page.locator("#lobby-title")).to_be_visible()
    ada.notice("waiting").locator("button").click()
    expect(ada.page.locator("#waiting-title")).to_have_text("1 person is waiting")
    ada.page.click('#waiting-list [data-act="admit"]')
    bob.phase("joined").sees(ada)
    assert focused(ada.page) == "people-title"  # the button that was pressed is gone
    cem = house.guest("Cem", QUIET).open().ask().phase("waiting")
    ada.page.click('#waiting-list [data-act="deny"]')
    cem.phase("left")
    expect(cem.page.locator("#over-title")).to_have_text("You were not let in")
    dia = house.guest("Dia", QUIET).open().ask().phase("waiting")
    eve = house.guest("Eve", QUIET).open().ask().phase("waiting")
    expect(ada.page.locator("#waiting-title")).to_have_text("2 people are waiting")
    eve.page.click("#lobby-leave")
    eve.phase("left")
    expect(ada.page.locator("#waiting-title")).to_have_text("1 person is waiting")
    eve.page.click("#rejoin")
    eve.phase("waiting")
    ada.page.click("#admit-all")
    dia.phase("joined")
    eve.phase("joined")


def test_nobody_waits_once_they_are_not_let_in_one_by_one(house: House) -> None:
    house.make(lobby=True)
    ada = house.host("Ada", QUIET).join()
    bob = house.guest("Bob", QUIET).open().ask().phase("waiting")
    ada.show_people()
    expect(ada.page.locator("#waiting-list li")).to_have_count(1)
    ada.page.uncheck("#room-lobby")
    bob.phase("joined")
    expect(ada.page.locator("#waiting")).to_be_hidden()
    house.change(lobby=True)
    cem = house.guest("Cem", QUIET).open().ask().phase("waiting")
    house.change(lobby=False)  # not by this page
    cem.phase("joined")


def test_invite_by_link_code_and_qr(house: House) -> None:
    ada = house.host("Ada", permissions=["clipboard-read", "clipboard-write"]).timed().join()
    page = ada.page
    expect(page.locator("#alone")).to_be_visible()
    page.click("#alone-invite")
    expect(page.locator("#invite-link")).to_have_text(house.url)
    expect(page.locator("#invite-code")).to_have_text(house.room)
    expect(page.locator("#invite-local")).to_be_visible()
    until(page, "() => document.querySelector('#invite-qr').naturalWidth > 0")
    page.click("#copy-link")
    expect(page.locator("#copy-link")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == house.url
    ada.skip(2)
    expect(page.locator("#copy-link")).to_have_text("Copy the link")
    page.click("#invite-dialog [data-close-dialog]")
    assert focused(page) == "alone-invite"


def test_the_invitation_of_a_server_that_is_not_shared_says_what_to_do(house: House) -> None:
    """Stub: what the server answers once it is shared, as there may be no network here."""
    ada = house.host("Ada", timezone_id="Asia/Tokyo").join()
    page = ada.page
    page.click("#open-invite")
    expect(page.locator("#invite-local")).to_contain_text("Ask whoever runs this server")
    for useless in ("#invite-qr", "#mail-link", "#invite-calendar", "#invite-share"):
        expect(page.locator(useless)).to_be_hidden()
    page.keyboard.press("Escape")
    account = {"username": NAME, "password": PASSWORD, "role": "admin"}
    assert house.server.post("/api/users", account).status in (200, 201)
    sign_in(ada.context, house.server)
    page.route(
        "**/api/network",
        lambda route: route.abort() if route.request.method == "POST" else route.fallback(),
    )
    page.click("#open-invite")
    expect(page.locator("#invite-share")).to_be_visible()
    expect(page.locator("#invite-local")).to_be_hidden()
    page.press("#invite-sharing", " ")
    expect(page.locator("#invite-share .banner")).to_contain_text("can’t be reached")
    expect(page.locator("#invite-sharing")).not_to_be_checked()
    page.route("**/api/network", lambda route: route.fulfill(json={"state": "on", "fault": None}))
    link = f"https://192.0.2.7:8443/room/{house.room}"
    room = f"**/api/video/rooms/{house.room}"
    page.route(room, lambda route: route.fulfill(json={**route.fetch().json(), "joinUrl": link}))
    page.press("#invite-sharing", " ")
    expect(page.locator("#invite-link")).to_have_text(link)
    expect(page.locator("#invite-qr")).to_be_visible()
    expect(page.locator("#invite-share")).to_be_hidden()
    expect(page.locator("#copy-link")).to_be_focused()
    address = urlsplit(page.get_attribute("#mail-link", "href") or "")
    fields = parse_qs(address.query)
    assert address.scheme == "mailto" and "Planning" in fields["subject"][0]
    assert f"\r\n{link}\r\n" in fields["body"][0]
    page.press("#invite-calendar summary", "Enter")
    page.fill("#invite-start", "2030-05-06T07:08")
    with page.expect_download() as download:
        page.press("#invite-start", "Enter")
    lines = Path(download.value.path()).read_bytes().decode().split("\r\n")
    assert {"DTSTART:20300505T220800Z", "SUMMARY:Planning", f"URL:{link}"} <= set(lines)


def test_whoever_looks_elsewhere_is_notified_if_they_want(house: House) -> None:
    """Stubs: the system's notifications, and a page that is hidden."""
    away = """
      Object.assign(window, { notes: [], away: false, asked: 0, answer: 'denied' });
      window.Notification = class {
        static permission = 'default';
        static async requestPermission() { window.asked += 1; return (Notification.permission = window.answer); }
        constructor(title, about) { window.notes.push(Object.assign(this, about, { title })); }
        close() { this.closed = true; }
      };
      Object.defineProperty(document, 'visibilityState', { get: () => (window.away ? 'hidden' : 'visible') });"""
    house.make(lobby=True)
    ada = house.host("Ada", away, QUIET).join()
    page = ada.page
    ada.menu("settings")
    box = page.locator("#notify")
    assert page.evaluate("asked") == 0
    box.click()
    expect(page.locator("#notify-hint")).to_contain_text("doesn’t allow")
    expect(box).not_to_be_checked()
    page.evaluate("answer = 'granted'")
    box.click()
    expect(box).to_be_checked()
    expect(page.locator("#notify-hint")).to_be_hidden()
    page.keyboard.press("Escape")
    bob = house.guest("Bob", QUIET).open().ask().phase("waiting")
    expect(page.locator("#open-people")).to_have_attribute("data-count", "1")
    page.evaluate("away = true")
    house.guest("Cem", QUIET).open().ask().phase("waiting")
    until(page, "() => notes.length === 1")
    note = page.evaluate("(({ title, body, tag }) => [title, body, tag])(notes[0])")
    assert note == ["Planning", "Cem would like to come in", "rtapp-people"]
    page.evaluate("notes[0].onclick()")
    expect(page.locator("#people")).to_be_visible()
    page.click('[data-act="admit"] >> nth=0')
    bob.phase("joined").page.click("#open-chat")
    bob.page.fill("#chat-text", "Are you there?")
    bob.page.keyboard.press("Enter")
    until(page, "() => notes.length === 2")
    assert page.evaluate("[notes[1].body, notes[1].closed]") == ["Bob: Are you there?", None]
    page.evaluate("away = false; document.dispatchEvent(new Event('visibilitychange'))")
    assert page.evaluate("notes.every(({ closed }) => closed)")
    bob.page.fill("#chat-text", "Ah")
    bob.page.keyboard.press("Enter")
    expect(ada.said).to_contain_text("Bob: Ah")
    assert page.evaluate("notes.length") == 2


def test_leaving_and_coming_back_here_or_elsewhere(house: House) -> None:
    house.make(maxParticipants=2)
    ada, bob = house.couple()
    bob.page.click("#leave")
    bob.phase("left")
    expect(bob.page.locator("#over-title")).to_have_text("You left the call")
    bob.page.click("#rejoin")
    bob.phase("joined").sees(ada)
    first = bob.page
    bob.page = bob.tab()
    bob.open()
    expect(bob.page.locator("#door-hint")).to_have_text("Check picture and sound, then join.")
    bob.ask().phase("joined").sees(ada)
    expect(first.locator("main")).to_have_attribute("data-reason", "elsewhere")
    first.click('[data-action="rejoin"]')
    expect(first.locator("main")).to_have_attribute("data-phase", "joined")
    expect(bob.page.locator("main")).to_have_attribute("data-reason", "elsewhere")
    house.room = "no-such-room-1234"
    bob.page.goto(house.url)
    expect(bob.page.locator("#over-title")).to_have_text("There is no such room")


def test_nothing_is_left_open_by_a_question_answered_after_the_end(house: House) -> None:
    closed = "(made) => made.length && made.every(({ readyState }) => readyState === 'ended')"
    eve = house.guest("Eve", UNANSWERED)
    held = hold(eve.page, "**/api/video/rooms/*")
    eve.page.goto(house.url.replace(house.room, "no-such-room-1234"))
    until(eve.page, "() => asked.length")
    held[0].continue_()
    expect(eve.page.locator("#over-title")).to_have_text("There is no such room")
    eve.page.evaluate("asked.forEach((answer) => answer())")
    until(eve.page, f"() => ({closed})(opened)")
    ada = house.host("Ada", SCREEN, UNANSWERED)
    ada.page.goto(house.url)
    until(ada.page, "() => asked.length")
    ada.page.evaluate("asked.splice(0).forEach((answer) => answer())")
    ada.ask().phase("joined")
    ada.page.click("#screen")
    ada.page.click("#screen")
    ada.page.click("#leave")
    ada.phase("left")
    assert ada.page.evaluate("asked.length") == 1
    ada.page.evaluate("asked[0]()")
    until(ada.page, f"() => window.shared && ({closed})(shared.getTracks())")


def test_advice_on_a_crowd_can_be_put_away(house: House) -> None:
    """Of people without a browser, who come and go at the server only."""
    ada = house.host().join()
    advice = ada.notice("load")
    sessions = [f"somebody-without-a-page-{number}" for number in range(8)]

    def go(way: str, *some: str) -> None:
        path = f"/api/video/rooms/{house.room}/{way}"
        for session in some:
            assert house.server.post(path, {"session": session, "displayName": "Bo"}).status == 200

    go("join", *sessions[:5])
    expect(advice).to_contain_text("smaller")
    advice.get_by_role("button", name="Close").click()
    expect(advice).to_have_count(0)
    assert focused(ada.page) == "stage"
    go("join", *sessions[5:])
    expect(advice).to_contain_text("More than eight")
    advice.get_by_role("button", name="Close").click()
    go("leave", sessions[0])
    expect(ada.page.locator("[data-tile]")).to_have_count(8)
    expect(advice).to_have_count(0)


def forget(page: Page) -> None:
    """Pictures are to move from now on."""
    page.evaluate("document.querySelector('[data-tile]:not([data-self]) video').seen = undefined")


def test_the_call_outlives_the_server_and_says_why(house: House) -> None:
    """The server is killed under a call, which goes on; what a page can find out of the cause is said.
    Stubs: silence in its place, a proxy's error, an answer without a stream (the real ones are a
    refused connection, and a browser that is offline)."""
    ada, bob = house.couple()
    page = ada.page
    house.server.kill()
    expect(page.locator("main")).to_have_attribute("data-signalling", "reconnecting")
    ada.skip(4)
    expect(ada.notice("signalling")).to_contain_text("The call goes on")
    page.context.set_offline(True)
    ada.skip(3)
    expect(ada.notice("signalling")).to_have_attribute("data-cause", "offline")
    page.context.set_offline(False)
    gone = ada.notice("address-changed")
    ada.skip(9)
    expect(gone).to_have_attribute("data-cause", "stopped")
    expect(gone.locator("button")).to_have_text("Load again")
    expect(gone.locator("a")).to_have_attribute("href", re.compile("/test$"))
    forget(page)
    ada.sees(bob)
    held = hold(page, "**/healthz")
    ada.skip(3)
    wait_for(lambda: page.evaluate("1") and held, "a look")
    ada.skip(2)
    held[0].abort()
    expect(gone).to_have_attribute("data-cause", "silent")
    page.unroute("**/healthz")
    page.route("**/healthz", lambda route: route.fulfill(status=502))
    ada.skip(3)
    expect(ada.notice("signalling")).to_have_attribute("data-cause", "trouble")
    expect(gone).to_have_count(0)
    page.unroute("**/healthz")
    page.route("**/healthz", lambda route: route.fulfill(json={"status": "ok"}))
    ada.skip(3)
    expect(ada.notice("signalling")).to_have_attribute("data-cause", "answers")
    house.server.start()
    ada.skip(31)  # the longest wait between two attempts
    expect(ada.notice("signalling")).to_have_count(0)
    expect(page.locator("main")).to_have_attribute("data-signalling", "open")


def test_an_attempt_to_come_back_gets_its_time(house: House) -> None:
    """A stream that is slow to open is not opened twice, though the server answers other calls."""
    ada, _ = house.couple()
    asked = hold(ada.page, "**/api/events?*")
    house.server.kill()
    house.server.start()
    ada.skip(1)  # the longest wait before the first attempt
    wait_for(lambda: ada.page.evaluate("1") and asked, "the next attempt")
    with ada.page.expect_response("**/healthz"):
        ada.skip(3)
    ada.page.evaluate("new Promise((resolve) => requestAnimationFrame(resolve))")
    assert len(asked) == 1
    asked[0].continue_()
    expect(ada.page.locator("main")).to_have_attribute("data-signalling", "open")


@pytest.mark.whole
def test_a_changed_certificate_is_said_and_can_be_accepted_in_another_tab(
    make_server: Callable[..., Server],
    browser: Browser,
    certificate: Certificate,
    tmp_path: Path,
) -> None:
    """The browser takes one certificate as if it had been accepted, and the server gets another."""
    folder = tmp_path / "tls"
    folder.mkdir()
    for path in (certificate.cert, certificate.key):
        shutil.copy(path, folder)
    server = make_server(tls_cert=folder / "cert.pem", tls_key=folder / "key.pem")
    house = House(server, browser, "https")
    ada, bob = house.couple()
    server.kill()
    Certificate(folder)
    server.start()
    told = ada.notice("address-changed")
    expect(ada.page.locator("main")).to_have_attribute("data-signalling", "reconnecting")
    ada.skip(13)
    expect(told).to_have_attribute("data-cause", "refused")
    expect(told).to_contain_text("its certificate")
    forget(ada.page)
    ada.sees(bob)
    with ada.page.expect_popup() as opened:
        told.locator("a").click()
    other = opened.value
    # A file of the cache, which came under the first certificate, would take the exception back:
    # to this browser, unlike a person's, that one is good, and a host that has one needs none.
    tool = other.context.new_cdp_session(other)
    tool.send("Network.enable")
    tool.send("Network.setCacheDisabled", {"cacheDisabled": True})
    other.locator("#details-button").click()
    other.locator("#proceed-link").click()
    ada.skip(31)  # the longest wait between two attempts
    expect(told).to_have_count(0)
    expect(ada.page.locator("main")).to_have_attribute("data-signalling", "open")
    house.close()
    assert house.troubles == []


def test_a_server_out_of_reach_before_the_call_can_be_tried_again(house: House) -> None:
    ada = house.guest("Ada")
    ada.page.route("**/api/video/rooms/**", lambda route: route.abort())
    ada.open()
    expect(ada.page.locator("#join-form .banner")).to_contain_text("can’t be reached")
    ada.page.unroute("**/api/video/rooms/**")
    ada.page.click("#join-form .banner button")
    expect(ada.page.locator("#door-title")).to_have_text("Planning")


def test_kiosk_enters_by_itself_where_it_is_allowed(
    make_server: Callable[..., Server], browser: Browser
) -> None:
    house = House(make_server(kiosk_join="true"), browser)
    house.guest("Wall").open("?name=Wall%20screen&join").phase("joined")
    expect(house.people[0].page.locator("[data-self]")).to_have_attribute(
        "data-name", "Wall screen"
    )
    house.close()
    assert house.troubles == []


def test_a_listed_site_may_show_a_room_in_a_frame(
    house: House, make_server: Callable[..., Server], tmp_path: Path
) -> None:
    frame = (
        f'<iframe src="{house.url}" allow="camera; microphone" width="800" height="600"></iframe>'
    )
    (tmp_path / "index.html").write_text(frame)
    intranet = f"http://localhost:{make_server(public=str(tmp_path)).port}"  # another site
    page = house.host("Ada").page
    page.goto(f"{intranet}/")
    until(page, "() => frames.length === 1")
    assert page.frames[1].url.startswith("chrome-error:")
    house.troubles.clear()  # the browser says that it refused
    listed = {"key": "frame_ancestors", "value": f"https://a.example.org,{intranet}"}
    assert house.server.post("/api/settings", listed).status == 200
    page.reload()
    inside = page.frame_locator("iframe")
    inside.locator("#name").fill("Ada")
    inside.locator("#join").click()
    expect(inside.locator("[data-self]")).to_have_attribute("data-name", "Ada")
    house.guest("Bob").join().sees(house.people[0])
    theirs = inside.locator('[data-tile][data-name="Bob"]')
    expect(theirs).to_have_attribute("data-link", "connected")
    other = house.server.get("/admin").headers["content-security-policy"]
    assert "frame-ancestors 'none'" in other


# ---- looks, languages, everybody -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "more"),
    [
        ([(360, 640), (740, 360)], {"has_touch": True, "is_mobile": True}),
        ([(1280, 720), (2560, 1400)], {}),
    ],
    ids=["phone", "desk"],
)
def test_everything_fits_and_is_in_turkish_too(
    house: House, sizes: list[tuple[int, int]], more: dict[str, Any]
) -> None:
    is_phone = "is_mobile" in more
    ada = house.host("Ada", locale="tr-TR", **more).open()
    page = ada.page
    assert page.get_attribute("html", "lang") == "tr"
    for width, height in sizes:
        page.set_viewport_size({"width": width, "height": height})
        fits(page)
    for video in page.locator("video").all():
        assert video.get_attribute("playsinline") is not None
    ada.ask().phase("joined")
    house.guest("Bob", QUIET).join()
    expect(page.locator("[data-tile]")).to_have_count(2)
    for width, height in reversed(sizes):
        page.set_viewport_size({"width": width, "height": height})
        fits(page)
        expect(page.get_by_role("button", name="Davet et")).to_have_count(1)
        for control in ("#audio", "#video", "#open-chat", "#more", "#leave"):
            box = page.locator(control).bounding_box()
            assert box and box["x"] >= 0 and box["x"] + box["width"] <= width, control
            assert box["y"] >= 0 and box["y"] + box["height"] <= height, control
            assert min(box["width"], box["height"]) >= 40, (control, box)
        page.click("#open-chat")
        fits(page)
        page.click("#open-chat")
        page.click("#more")
        fits(page)
        page.keyboard.press("Escape")
        page.keyboard.press("?")
        expect(page.locator("#keys-dialog")).to_be_visible()
        fits(page)
        page.keyboard.press("Escape")
        ada.show_people()
        page.keyboard.press("Escape")
        assert focused(page) == ("more" if is_phone else "open-people")
        page.click("#more")
        expect(page.locator("#more-menu [data-item=keys]")).to_have_count(0 if is_phone else 1)
        page.keyboard.press("Escape")


def test_focus_goes_in_reading_order_and_panels_give_it_back(house: House) -> None:
    ada = house.host().join()
    page = ada.page
    page.focus("#open-invite")
    reached = []
    for _ in range(14):
        page.keyboard.press("Tab")
        reached.append(focused(page))
    order = ["audio", "video", "screen", "hand", "open-chat", "open-people", "more", "leave"]
    assert [one for one in reached if one in order] == order
    page.focus("#more")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.dataset.item") == "flip"
    page.keyboard.press("ArrowUp")
    assert page.evaluate("document.activeElement.dataset.item") == "keys"
    page.keyboard.press("Escape")
    assert focused(page) == "more"
    page.click("#open-people")
    assert focused(page) == "people-title"
    page.keyboard.press("Escape")
    assert focused(page) == "open-people"


# What of a page lies over something else, or is cut by the window.
OVER = """([one, other]) => {
  const [a, b] = [one, other].map((what) => document.querySelector(what).getBoundingClientRect());
  return a.width && b.width && a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom; }"""
CUT = """() => [...document.querySelectorAll('#controls button, #more-menu button')].filter((one) => one.checkVisibility())
  .filter((one) => { const { left, right } = one.getBoundingClientRect(); return left < 0 || right > innerWidth; }).map(({ id, dataset }) => id || dataset.item)"""


def test_no_words_lie_over_a_face_and_large_text_fits(house: House) -> None:
    windows = [(390, 844), (320, 568), (844, 390), (1280, 720)]
    ada = house.host("Ada").join()
    page = ada.page
    for width, height in windows:
        page.set_viewport_size({"width": width, "height": height})
        until(page, f"() => !({OVER})(['#alone', '[data-self]'])")
        expect(page.locator("#alone-invite")).to_be_in_viewport(ratio=1)
    name = "Maximiliana Konstantinopolitanskaya-Vondervotteimittiss of the Third Floor"
    bob = house.guest(name).join()
    ada.sees(bob)
    for width, height in windows:
        page.set_viewport_size({"width": width, "height": height})
        until(page, f"() => !({OVER})(['[data-tile]:not([data-self]) .tag', '[data-self]'])")
        expect(page.locator("[data-self] .name")).to_be_hidden()
    page.evaluate("document.documentElement.style.fontSize = '200%'")
    for width, height in windows:
        page.set_viewport_size({"width": width, "height": height})
        page.click("#more")
        assert page.evaluate(CUT) == []
        page.keyboard.press("Escape")
    page.evaluate("document.documentElement.style.fontSize = ''")
    # No key leads to what a panel covers, and its own buttons can be reached.
    page.set_viewport_size({"width": 844, "height": 390})
    page.click("#open-chat")
    expect(page.locator("#chat-text")).to_be_focused()
    page.evaluate(PASTE, 600)
    expect(page.locator("#picture-alt")).to_be_focused()
    page.focus("#chat-send")
    expect(page.locator("#chat-send")).to_be_in_viewport(ratio=1)
    page.set_viewport_size({"width": 390, "height": 844})
    expect(page.locator("#chat")).to_be_visible()
    expect(page.locator("[data-pin]").first).to_be_hidden()


# What has the focus, where it is to be seen: its id or what else it is known by; '' if it is lost.
FOCUS = """() => {
  const one = document.activeElement;
  const { left, top, right, bottom } = one.getBoundingClientRect();
  const isSeen = one !== document.body && one.checkVisibility({ opacityProperty: true, visibilityProperty: true })
    && right > 0 && bottom > 0 && left < innerWidth && top < innerHeight;
  return isSeen ? one.id || one.dataset.action || one.dataset.item || one.value || one.ariaLabel || one.tagName : ''; }"""


def test_a_call_by_the_keyboard_alone(house: House) -> None:
    ada, bob = house.host("Ada", SCREEN).open(), house.guest("Bob").join()
    page = ada.page

    def at() -> str:
        """Never is the focus lost, or where nobody sees it."""
        return str(until(page, FOCUS).json_value())

    def press(*keys: str) -> str:
        for key in keys:
            page.keyboard.press(key)
        return at()

    def tab_to(wanted: str, key: str = "Tab") -> None:
        passed = []
        while not passed or passed[-1] != wanted:
            assert len(passed) < 40, passed
            passed.append(press(key))

    tab_to("name")
    page.keyboard.type("Ada")
    page.keyboard.press("Enter")
    ada.phase("joined").sees(bob)
    tab_to("open-chat")
    page.keyboard.press("Enter")
    expect(page.locator("#chat-text")).to_be_focused()
    page.keyboard.type("hello")
    press("Enter")
    expect(bob.said).to_contain_text("hello")
    assert press("Escape") == "open-chat"
    tab_to("react", "Shift+Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#reactions button").first).to_be_focused()
    press("ArrowRight", "Enter")
    expect(bob.page.locator(".reaction")).to_have_count(1)
    assert press("Escape") == "react"
    tab_to("more")
    page.keyboard.press("Enter")
    tab_to("view", "ArrowDown")
    page.keyboard.press("Enter")
    expect(page.locator("[name=view]:checked")).to_be_focused()
    assert press("ArrowDown") == "speaker"
    assert press("Escape") == "more"
    tab_to("video-devices", "Shift+Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#video-menu")).to_be_visible()
    press("ArrowDown", "Enter")
    expect(page.locator("#video-menu")).to_be_hidden()
    assert at() == "video-devices"
    tab_to("screen")
    press("Enter")
    expect(bob.page.locator("[data-screen].with-picture")).to_have_count(1)
    press("Enter")
    expect(bob.page.locator("[data-screen]")).to_have_count(0)
    tab_to("open-people")
    assert press("Enter") == "people-title"
    tab_to("Actions for Bob")
    press("Enter", "Escape")
    assert press("Escape") == "open-people"
    tab_to("leave")
    page.keyboard.press("Enter")
    ada.phase("left")
    assert at() == "over-title"
    tab_to("rejoin")
    page.keyboard.press("Enter")
    ada.phase("joined")
    at()


@pytest.mark.parametrize(
    ("themes", "locale", "window"),
    [(["dark", "light"], "tr-TR", {}), (["light"], "en-GB", PHONE)],
    ids=["desk", "phone"],
)
def test_no_serious_finding_of_axe(
    house: House, axe: str, themes: list[Any], locale: str, window: dict[str, Any]
) -> None:
    """Each part of the page, with its panels, menus and dialogs open."""
    house.make(lobby=True)
    failing = FAILING.replace("FAULT", json.dumps(FAULTS["busy"]))
    # Without transitions: a colour half-way is measured as poor.
    look = {"locale": locale, "reduced_motion": "reduce", **window}

    def look_at(page: Page) -> None:
        for theme in themes:
            page.emulate_media(color_scheme=theme)
            assert serious(page, only_colours=theme != themes[0]) == [], theme

    ada = house.host("Ada", failing, axe, **look).open()
    page = ada.page
    expect(page.locator("#door-faults .banner")).to_be_visible()
    look_at(page)
    page.evaluate("window.fault = null")
    page.click("#door-faults [data-retry]")
    ada.ask().phase("joined")
    look_at(page)
    bob = house.guest("Bob", axe, QUIET, **look).open().ask().phase("waiting")
    look_at(bob.page)
    ada.show_people()
    expect(page.locator("#waiting-list li")).to_have_count(1)
    look_at(page)
    page.click('[data-act="admit"]')
    bob.phase("joined")
    line = page.locator("#people-list .line", has_text="Bob")
    line.locator('button[aria-haspopup="menu"]').click()
    look_at(page)
    line.locator('[data-item="room.host.remove"]').click()
    look_at(page)
    page.keyboard.press("Escape")
    for item, shown in (("volume", "#hearing-volume"), ("verify", ".words")):
        ada.acts_on(bob, item)
        expect(page.locator(shown)).to_be_visible()
        look_at(page)
        page.keyboard.press("Escape")
    bob.page.click("#hand")
    bob.page.click("#open-chat")
    bob.page.fill("#chat-text", "Hello https://example.org")
    bob.page.keyboard.press("Enter")
    page.click("#open-chat")
    expect(page.locator(".said")).to_have_count(1)
    page.click(".answer")
    page.click("#chat-emoji")
    expect(page.locator("#emoji")).to_be_visible()
    look_at(page)
    page.click("#open-chat")
    page.keyboard.press("e")
    expect(page.locator("#reactions")).to_be_visible()
    look_at(page)
    page.keyboard.press("Escape")
    for item in ("invite", "settings", "file", "view", *(() if window else ("keys",))):
        ada.menu(item)  # a part that comes late would be there after Escape
        expect(page.locator("dialog[open]")).to_be_visible()
        look_at(page)
        page.keyboard.press("Escape")
        expect(page.locator("dialog[open]")).to_have_count(0)
    page.click("#more")
    look_at(page)
    page.keyboard.press("Escape")
    page.click("#leave")
    ada.phase("left")
    look_at(page)


@pytest.mark.parametrize("language", ["en-GB", "tr-TR"])
def test_the_page_is_small(house: House, language: str) -> None:
    """The page with its modules, as sent: at most 95 KB. What only the call needs comes while one
    is at the door, so that joining doesn't wait for it; the door, with its styles and texts: 60."""
    page = house.guest("Ada", locale=language).page
    done: list[Request] = []
    page.on("requestfinished", lambda request: done.append(request))  # noqa: PLW0108
    page.goto(house.url)
    expect(page.locator("main")).to_have_attribute("data-ready", "")
    whole = """() => { const [door] = performance.getEntriesByName('door');
      const all = performance.getEntriesByType('resource').filter(({ name }) => name.includes('/static/'));
      return all.some(({ name }) => name.endsWith('seats.js')) && all.some(({ name }) => name.endsWith('/rt.js'))
        && [all.filter(({ startTime }) => startTime < door.startTime).map(({ name }) => name), all.map(({ name }) => name)]; }"""
    before, everything = until(page, whole).json_value()
    wait_for(lambda: page.evaluate("1") and set(everything) <= {one.url for one in done}, "all")
    sent = {one.url: one.sizes()["responseBodySize"] for one in done}
    modules = {url for url in everything if url.endswith(".js")}
    size = {
        what: sum(sent[url] for url in {house.url, *urls})
        for what, urls in (("page", modules), ("door", before), ("all", everything))
    }
    print(language, size)
    assert 15 < len(before) < len(everything)
    assert any(url.endswith(f"i18n/room.{language[:2]}.json") for url in before)
    assert not [url for url in before if re.search("/(room|rt|peer|call|chat|files)[.]js", url)]
    assert len(modules) > 25
    assert size["page"] <= 95 * 1024, sent
    assert size["door"] <= 60 * 1024, sent


def test_a_call_that_could_not_be_loaded_is_asked_for_again(house: House) -> None:
    ada = house.guest("Ada")
    ada.page.route("**/room/inside.js", lambda route: route.abort())
    ada.open().ask()
    expect(ada.page.locator("#join-form .banner")).to_contain_text("can’t be reached")
    ada.page.unroute("**/room/inside.js")
    ada.ask().phase("joined")
