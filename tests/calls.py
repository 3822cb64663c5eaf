"""People in a video call: real browsers on hosts of a network, and what they see and hear.

Nothing of the product is asked for what it believes: the browsers' own statistics count, and the
picture in the tile.
"""

from __future__ import annotations

import contextlib
import functools
import json
import secrets
import subprocess
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page, Playwright, Request

from browsers import ALLOW, CALL_FLAGS, DEVICES, KEEP, Visitor, new_context, start_chromium
from lan import Host, Lan
from support import LONG, PATIENCE, ROOT, Answer, Server

# Names of colours, as (Y, Cb, Cr) of a camera's file and as (R, G, B) of a tile that shows them.
COLOURS = {
    "red": ((82, 90, 240), (255, 0, 0)),
    "green": ((145, 54, 34), (0, 255, 0)),
    "blue": ((41, 240, 110), (0, 0, 255)),
    "yellow": ((210, 16, 146), (255, 255, 0)),
    "magenta": ((107, 202, 221), (255, 0, 255)),
    "cyan": ((170, 166, 16), (0, 255, 255)),
}

# Descriptions leave so late, in milliseconds, as the page says.
LATE = """
window.late ??= 0;
const real = window.fetch;
window.fetch = async (...args) => {
  if (late && /"(offer|answer)"/.test(args[1]?.body)) {
    await new Promise((resolve) => setTimeout(resolve, late));
    args[1] = { ...args[1], signal: undefined };
  }
  return real(...args);
};
"""
WATCH = KEEP + LATE
# Firefox makes up pictures as large, and as often, as it is asked for.
SMALL = """
if (navigator.mediaDevices) {
  const small = { width: 320, height: 180, frameRate: 10 };
  const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
  navigator.mediaDevices.getUserMedia = (wanted) =>
    open({ ...wanted, video: wanted.video && { ...wanted.video, ...small } });
  const { applyConstraints } = MediaStreamTrack.prototype;
  MediaStreamTrack.prototype.applyConstraints = function (wanted) {
    return applyConstraints.call(this, { ...wanted, ...(this.kind === 'video' && small) });
  };
}
"""

# The answer to an offer's POST comes so late that the other side's answer is there before it.
LATE_ANSWERS = """
const asks = window.fetch;
window.fetch = async (...args) => {
  const answer = await asks(...args);
  if (/"offer"/.test(args[1]?.body)) await new Promise((resolve) => setTimeout(resolve, 2_000));
  return answer;
};
"""

# Two cameras are listed; the one that is remembered can't be opened, nor can the system's choice.
DEAD_CAMERA = """
localStorage.setItem('rtapp.call.devices', '{"video":"dead"}');
const { mediaDevices } = navigator;
const list = mediaDevices.enumerateDevices.bind(mediaDevices);
const open = mediaDevices.getUserMedia.bind(mediaDevices);
window.asked = [];
mediaDevices.enumerateDevices = async () => {
  const others = (await list()).filter(({ kind }) => kind !== 'videoinput');
  const camera = (deviceId, label) => ({ kind: 'videoinput', deviceId, label, groupId: '' });
  return [...others, camera('dead', 'Dead camera'), camera('other', 'Other camera')];
};
mediaDevices.getUserMedia = async (wanted) => {
  const id = wanted.video && (wanted.video.deviceId?.exact ?? '');
  asked.push(id);
  if (wanted.video && id !== 'other') throw new DOMException('', 'NotReadableError');
  return open({ ...wanted, video: wanted.video && true });
};
"""

# Each picture of the camera ends as soon as it is there.
BRIEF_CAMERA = """
const brief = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
window.asked = 0;
navigator.mediaDevices.getUserMedia = async (wanted) => {
  asked += 1;
  const stream = await brief(wanted);
  for (const track of stream.getVideoTracks()) {
    setTimeout(() => {
      track.stop();
      track.dispatchEvent(new Event('ended'));
    }, 50);
  }
  return stream;
};
"""

# The camera says that it looks away from who holds the phone.
REAR_CAMERA = """
const { getSettings } = MediaStreamTrack.prototype;
MediaStreamTrack.prototype.getSettings = function () {
  return { ...getSettings.call(this), ...(this.kind === 'video' && { facingMode: 'environment' }) };
};
"""

# A client that doesn't hear what the host does to it, and so never obeys.
DEAF = """
const ask = window.fetch;
window.fetch = async (...args) => {
  const answer = await ask(...args);
  if (!answer.body) return answer;
  const decoder = new TextDecoder(), encoder = new TextEncoder();
  const forget = new TransformStream({
    transform(piece, out) {
      const text = decoder.decode(piece, { stream: true });
      out.enqueue(encoder.encode(text.replace(/"(muted|cameraOff)":true/g, '"$1":false')
        .replaceAll('room-left', 'room-gone')));
    },
  });
  const { status, headers } = answer;
  return new Response(answer.body.pipeThrough(forget), { status, headers });
};
"""

# What leaves a page by its open connections, of tracks that are not turned off (what leaves of
# those is black, and silence): pictures, and the energy of sound.
LEFT = """
async () => {
  const left = { frames: 0, energy: 0 };
  const open = made.filter((connection) => connection.connectionState === 'connected');
  const senders = open.flatMap((connection) => connection.getSenders());
  for (const sender of senders.filter(({ track }) => track?.enabled))
    for (const row of (await sender.getStats()).values()) {
      if (row.type === 'outbound-rtp') left.frames += row.framesSent ?? 0;
      if (row.type === 'media-source') left.energy += row.totalAudioEnergy ?? 0;
    }
  return left;
}
"""

# What comes of somebody, by the tracks that their tile plays.
HEARD = """
async (name) => {
  const tile = [...document.querySelectorAll('[data-tile]')].find((e) => e.dataset.name === name);
  const tracks = [...(tile?.querySelectorAll('video, audio') ?? [])]
    .flatMap((element) => element.srcObject?.getTracks() ?? []);
  const found = { video: {}, audio: {}, pair: {} };
  for (const connection of made) {
    for (const receiver of connection.getReceivers()) {
      if (!tracks.includes(receiver.track)) continue;
      const report = await connection.getStats();
      for (const row of (await receiver.getStats()).values())
        if (row.type === 'inbound-rtp') found[row.kind] = row;
      const transport = [...report.values()].find((row) => row.type === 'transport');
      const pair = report.get(transport?.selectedCandidatePairId) ??
        [...report.values()].find((row) => row.type === 'candidate-pair' && row.selected);
      if (pair) found.pair = {
        rtt: pair.currentRoundTripTime,
        local: report.get(pair.localCandidateId)?.candidateType,
        remote: report.get(pair.remoteCandidateId)?.candidateType,
        address: report.get(pair.remoteCandidateId)?.address,
      };
    }
  }
  return found;
}
"""

# What each of a page's open connections sends of the camera, and by which TURN credentials.
SENT = """
() => made.filter((c) => c.connectionState !== 'closed' && c.localDescription).map((connection) => {
  const camera = connection.getSenders().find(({ track }) => track?.kind === 'video');
  const user = connection.getConfiguration().iceServers.at(-1)?.username;
  return { ...camera.getParameters().encodings[0], user };
})
"""

# Looks for new ways by what the page has now; whether a relay is among its own.
RESTART = """
() => Promise.all(made.filter((c) => c.connectionState === 'connected').map(async (connection) => {
  const name = () => connection.localDescription.sdp.match(/ice-ufrag:(.*)/)[1];
  const before = name();
  connection.restartIce();
  const isDone = () => name() !== before && /typ relay/.test(connection.localDescription.sdp);
  for (let look = 0; !isDone(); look += 1) {
    if (look > 600) throw new Error(connection.localDescription.sdp);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}))
"""

# Statistics are looked at twenty times as often.
OFTEN = """
const every = window.setInterval;
window.setInterval = (act, ms, ...more) => every(act, ms === 2000 ? 100 : ms, ...more);
"""
# They say what the test wants of the encoder.
ENCODER = """
window.limitedBy = 'none';
const { getStats } = RTCPeerConnection.prototype;
RTCPeerConnection.prototype.getStats = async function (...args) {
  const rows = [...(await getStats.apply(this, args))];
  const isOut = (row) => row.type === 'outbound-rtp';
  return new Map(rows.map(([id, row]) => [
    id, isOut(row) ? { ...row, qualityLimitationReason: limitedBy } : row,
  ]));
};
"""

# Counts how often a page looks for new ways.
RESTARTS = """
() => {
  const { restartIce } = RTCPeerConnection.prototype;
  window.restarts = 0;
  RTCPeerConnection.prototype.restartIce = function () {
    restarts += 1;
    return restartIce.call(this);
  };
}
"""

TILE = """
(name) => [...document.querySelectorAll('[data-tile]')]
  .filter((tile) => tile.dataset.name === name)
  .map((tile) => ({ ...tile.dataset, trouble: tile.querySelector('[data-trouble]').textContent }))
"""

PIXEL = """
(name) => {
  const tile = [...document.querySelectorAll('[data-tile]')].find((e) => e.dataset.name === name);
  const video = tile?.querySelector('video[data-role="camera"]');
  if (!video?.videoWidth) return null;
  const canvas = new OffscreenCanvas(1, 1);
  const context = canvas.getContext('2d');
  const x = video.videoWidth / 2, y = video.videoHeight / 2;
  context.drawImage(video, x, y, 1, 1, 0, 0, 1, 1);
  return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3);
}
"""


def camera_file(
    folder: Path, colour: str, width: int = 320, height: int = 180, fps: int = 10
) -> Path:
    """A film of one colour (YUV4MPEG2), for Chromium's fake camera."""
    path = folder / f"{colour}-{width}x{height}@{fps}.y4m"
    if not path.exists():
        luma, blue, red = COLOURS[colour][0]
        size = width * height
        frame = bytes([luma]) * size + bytes([blue]) * (size // 4) + bytes([red]) * (size // 4)
        head = f"YUV4MPEG2 W{width} H{height} F{fps}:1 Ip A1:1 C420jpeg\n".encode()
        path.write_bytes(head + (b"FRAME\n" + frame) * fps)
    return path


def nearest_colour(pixel: list[int]) -> str:
    """What a pixel is called."""

    def distance(name: str) -> int:
        shown = COLOURS[name][1]
        return sum((one - other) ** 2 for one, other in zip(pixel, shown, strict=True))

    return min(COLOURS, key=distance)


class Home:
    """A host with a browser, whose camera shows one colour."""

    def __init__(
        self,
        playwright: Playwright,
        host: Host,
        folder: Path,
        colour: str,
        is_whole: bool = LONG,
        **size: int,
    ) -> None:
        """The whole browser, or its engine alone: see `start_chromium`."""
        self.host = host
        self.colour = colour
        camera = f"--use-file-for-fake-video-capture={camera_file(folder, colour, **size)}"
        flags = [*CALL_FLAGS, ALLOW, DEVICES, camera]
        self.browser: Browser = start_chromium(playwright, flags, host.command, is_whole=is_whole)


class Homes:
    """The homes on a network. A test leaves one to the next test as it was, or has its own."""

    def __init__(self, playwright: Playwright, lan: Lan, folder: Path) -> None:
        self._make = functools.partial(Home, playwright, folder=folder)
        self._lan = lan
        self._common: dict[tuple[Any, ...], Home] = {}

    def common(self, colour: str, **size: int) -> Home:
        """The one of a colour, unless its browser has ended."""
        key = colour, *size.items()
        if key not in self._common or not self._common[key].browser.is_connected():
            self._common[key] = self.new(colour, **size)
        return self._common[key]

    def new(self, colour: str, **size: int) -> Home:
        """Another one."""
        return self._make(host=self._lan.add(secrets.token_hex(4)), colour=colour, **size)

    def remove(self, home: Home) -> None:
        """Take one away, browser and host."""
        home.browser.close()
        self._lan.remove(home.host)

    def close(self) -> None:
        """Take all away that are common."""
        for home in self._common.values():
            self.remove(home)


class Person(Visitor):
    """Somebody at home."""

    def __init__(self, home: Home, **options: Any) -> None:
        super().__init__(home.colour.capitalize())
        self.colour = home.colour
        self.host = home.host
        size = {"width": 800, "height": 600}
        options = {"ignore_https_errors": True, "viewport": size, **options}
        self.context: BrowserContext = new_context(home.browser, **options)
        self.troubles: list[str] = []
        self.said: list[str] = []
        self.streams = 0
        self.page = self.tab()

    def tab(self) -> Page:
        """A page that is watched."""
        page = self.context.new_page()
        page.add_init_script(WATCH)
        page.on("pageerror", lambda error: self.troubles.append(str(error)))
        page.on("console", lambda message: self.said.append(message.text))
        page.on("request", self._count)
        self.page = page
        return page

    def _count(self, request: Request) -> None:
        """How many streams were opened."""
        self.streams += "/api/events?" in request.url

    def tile(self, other: Person) -> dict[str, str]:
        """What the tile of somebody says; empty where there is none."""
        found = self.page.evaluate(TILE, other.name)
        assert len(found) <= 1, found
        return dict(found[0]) if found else {}

    def tiles(self) -> list[str]:
        """The names on the tiles."""
        every = "[...document.querySelectorAll('[data-tile]')].map((e) => e.dataset.name)"
        return sorted(self.page.evaluate(every))

    def hears(self, other: Person) -> dict[str, Any]:
        """The statistics of what comes of somebody."""
        return dict(self.page.evaluate(HEARD, other.name))

    def sees_colour(self, other: Person) -> str | None:
        pixel = self.page.evaluate(PIXEL, other.name)
        return nearest_colour(pixel) if pixel else None

    def sends(self) -> list[dict[str, Any]]:
        """What is sent of the camera, to each of the others."""
        return list(self.page.evaluate(SENT))

    def lines_for(self, other: Person) -> float:
        """How high somebody's tile is, or how wide where that is less."""
        box = self.page.locator(f'[data-tile][data-name="{other.name}"]').bounding_box()
        return float(min(box["width"], box["height"]))

    def connections(self) -> int:
        """Media connections of the page that are open."""
        # One that is never connected lends tracks to the others.
        used = "made.filter((c) => c.connectionState !== 'closed' && c.localDescription).length"
        return int(self.page.evaluate(used))

    def crossed(self) -> int:
        """First offers that were given up, since the other's crossed them."""
        given_up = "c.connectionState === 'closed' && c.localDescription && !c.remoteDescription"
        return int(self.page.evaluate(f"made.filter((c) => {given_up}).length"))

    def delay_signals(self, ms: int) -> None:
        """Each description by HTTP leaves this browser so much later, from the next page on."""
        self.context.add_init_script(f"window.late = {ms};")

    def deafen(self) -> None:
        """Hear nothing of what the host forbids, nor of the own removal, from the next page on."""
        self.context.add_init_script(DEAF)

    def left(self) -> dict[str, float]:
        """What has left this browser so far: `frames` of pictures, `energy` of sound."""
        return dict(self.page.evaluate(LEFT))

    def close(self) -> None:
        self.context.close()


class FirefoxPage:
    """A page of Firefox, as far as these tests need one."""

    def __init__(self, host: Host | None, folder: Path, firefox: str) -> None:
        """On a host of the network, or here; `folder` has puppeteer-core."""
        driver = ["node", str(ROOT / "tests" / "firefox.mjs"), str(folder), firefox, WATCH + SMALL]
        where = host.command if host else []
        self.process = subprocess.Popen(
            [*where, *driver], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._answer()

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        answer = json.loads(self.process.stdout.readline() or '{"error": "Firefox ended"}')
        assert "error" not in answer, answer
        return answer.get("value")

    def _do(self, act: str, *args: Any) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"act": act, "args": args}) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def goto(self, url: str) -> None:
        self._do("goto", url)

    def wait_for_selector(self, selector: str, **_: str) -> None:
        self._do("wait", selector)

    def click(self, selector: str) -> None:
        self._do("click", selector)

    def fill(self, selector: str, text: str) -> None:
        self._do("fill", selector, text)

    def evaluate(self, source: str, argument: Any = None) -> Any:
        return self._do("evaluate", source.strip(), argument)

    def troubles(self) -> list[str]:
        """Errors of the page's scripts, and what its console told as one."""
        return list(self._do("troubles"))

    def close(self) -> None:
        """End the browser; its driver ends with it."""
        with contextlib.suppress(AssertionError, OSError):
            self._do("close")
        self.process.kill()
        self.process.wait(PATIENCE)


class FirefoxPerson(Person):
    """Somebody with Firefox, whose camera shows what Firefox makes up."""

    def __init__(self, host: Host, name: str, folder: Path, firefox: str) -> None:
        Visitor.__init__(self, name, FirefoxPage(host, folder, firefox))
        self.colour, self.host = "", host
        self.troubles, self.said = [], []

    def close(self) -> None:
        self.page.close()


Pair = tuple[Person, Person]


def pairs(people: list[Person]) -> list[Pair]:
    """Every directed pair: who sees, who is seen."""
    return [(one, other) for one in people for other in people if one is not other]


def figures(pair: Pair) -> tuple[int, float, float, float]:
    """Frames decoded, audio energy, concealed and all samples."""
    heard = pair[0].hears(pair[1])
    video, audio = heard["video"], heard["audio"]
    return (
        video.get("framesDecoded", 0),
        audio.get("totalAudioEnergy", 0.0),
        audio.get("concealedSamples", 0),
        audio.get("totalSamplesReceived", 0),
    )


def wait_first_picture(people: list[Person], seconds: float = PATIENCE) -> float:
    """Wait until everybody decodes everybody's picture; the seconds that it took."""
    start = time.monotonic()
    missing = pairs(people)
    while missing:
        missing = [pair for pair in missing if figures(pair)[0] < 1]
        if missing and time.monotonic() - start > seconds:
            raise AssertionError([describe(pair) for pair in missing])
        time.sleep(0.2)
    return time.monotonic() - start


STATES = """
[[...document.querySelectorAll('[data-notice]')].map((e) => e.innerText).join(),
...made.filter((each) => each.connectionState !== 'closed').map((connection) => [
  connection.signalingState, connection.connectionState,
  connection.getSenders().map((sender) => sender.track?.label).filter(Boolean),
  connection.localDescription?.sdp.match(/a=candidate.*/g),
  connection.remoteDescription?.sdp.match(/a=candidate.*/g),
])]
"""


def describe(pair: Pair) -> str:
    one, other = pair
    shown = one.tile(other), one.hears(other), one.page.evaluate(STATES), one.said[-10:]
    return f"{one.name} of {other.name}: {shown}"


def flow(
    people: list[Person], frames: int, seconds: float = PATIENCE, concealed: float = 0.2
) -> float:
    """Wait until on every directed pair so many frames more were decoded, audio energy has grown,
    and few of the samples since then were made up; the seconds that it took."""
    start = time.monotonic()
    before = {pair: figures(pair) for pair in pairs(people)}
    missing = list(before)
    while missing:
        time.sleep(0.2)
        now = {pair: figures(pair) for pair in missing}
        # Chromium counts from zero again when it has taken an offer of its own back.
        before.update({pair: (0, 0, 0, 0) for pair in missing if now[pair][3] < before[pair][3]})
        missing = [
            pair for pair in missing if not has_flown(before[pair], now[pair], frames, concealed)
        ]
        if missing and time.monotonic() - start > seconds:
            raise AssertionError([(describe(p), before[p], figures(p)) for p in missing])
    return time.monotonic() - start


def has_flown(
    then: tuple[int, float, float, float],
    now: tuple[int, float, float, float],
    frames: int,
    concealed: float,
) -> bool:
    samples = now[3] - then[3]
    return (
        now[0] - then[0] >= frames
        and now[1] > then[1]
        and samples > 0
        and (now[2] - then[2]) / samples < concealed
    )


def make_room(server: Server, host: Host, tls: Any, **body: Any) -> str:
    """A new room; its name."""
    answer = api(server, host, tls, "POST", "/api/video/rooms", {"name": "Standup", **body})
    assert answer.status == 201, answer
    return str(answer.json["roomId"])


def api(server: Server, host: Host, tls: Any, method: str, path: str, body: Any = None) -> Answer:
    """A call by the administrator, on the server's own host."""
    with host.inside():
        return server.request(method, path, body, tls=tls)
