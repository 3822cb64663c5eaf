"""Take the README's pictures from the running program: ``python tests/screenshots.py``.

Four people meet in a call, each with a drawn face in place of a camera; then an administrator looks
at the dashboard while messages are published.
"""

# ruff: noqa: E501 - what runs in the page stays on its own lines

from __future__ import annotations

import itertools
import tempfile
import threading
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from browsers import ALLOW, NAME, PASSWORD, sign_in, start_chromium
from support import ROOT, Server
from test_roompage import MEDIA_FLAGS, House

PICTURES = ROOT / ".github"
WINDOW = {"width": 1280, "height": 720}

# Stub: somebody before a coloured wall, who nods; drawn, so nobody's face is shown.
FACE = """
const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
navigator.mediaDevices.getUserMedia = async (asked) => {
  const stream = await ask(asked);
  if (!asked.video) return stream;
  const canvas = Object.assign(document.createElement('canvas'), { width: 640, height: 360 });
  const c = canvas.getContext('2d');
  const blob = (fill, ...ellipse) => { c.fillStyle = fill; c.beginPath(); c.ellipse(...ellipse); c.fill(); };
  let step = 0;
  setInterval(() => {
    const nod = 4 * Math.sin(step++ / 5);
    const wall = c.createLinearGradient(0, 0, 640, 360);
    wall.addColorStop(0, `hsl(${HUE} 35% 62%)`);
    wall.addColorStop(1, `hsl(${HUE + 40} 40% 32%)`);
    c.fillStyle = wall;
    c.fillRect(0, 0, 640, 360);
    blob(`hsl(${HUE + 180} 45% 38%)`, 320, 400, 150, 140, 0, 0, 7);
    blob('SKIN', 320, 275, 34, 46, 0, 0, 7);
    blob('HAIR', 320, 158 + nod, 88, 96, 0, 0, 7);
    blob('SKIN', 320, 180 + nod, 70, 86, 0, 0, 7);
    blob('#222', 294, 172 + nod, 6, 8, 0, 0, 7);
    blob('#222', 346, 172 + nod, 6, 8, 0, 0, 7);
    c.strokeStyle = '#822';
    c.lineWidth = 5;
    c.beginPath();
    c.arc(320, 200 + nod, 26, 0.5, 2.6);
    c.stroke();
  }, 100);
  return new MediaStream([...canvas.captureStream(10).getTracks(), ...stream.getAudioTracks()]);
};
"""
PEOPLE = (
    ("Ada", 205, "#e8b48f", "#5a3420"),
    ("Grace", 130, "#8d5b3e", "#1d1512"),
    ("Alan", 25, "#f0c6a4", "#8a5a2b"),
    ("Hedy", 280, "#d9a27c", "#2b1a14"),
)


def face(hue: int, skin: str, hair: str) -> str:
    return FACE.replace("HUE", str(hue)).replace("SKIN", skin).replace("HAIR", hair)


def take_call(server: Server, browser: Browser) -> None:
    """Four in a call with the chat open, as the host sees them."""
    house = House(server, browser)
    first, *others = PEOPLE
    ada = house.host(first[0], face(*first[1:]), viewport=WINDOW, color_scheme="dark").join()
    guests = [house.guest(name, face(*looks)).join() for name, *looks in others]
    ada.sees(*guests)
    guests[1].page.click("#hand")
    ada.page.wait_for_timeout(3_000)
    ada.page.screenshot(path=PICTURES / "call.png")
    house.close()


def take_dashboard(server: Server, browser: Browser) -> None:
    """The overview after half a minute of messages to some streams."""
    server.post("/api/users", {"username": NAME, "password": PASSWORD, "role": "admin"})
    ended = threading.Event()

    def publish() -> None:
        for number in itertools.count():
            server.publish({"number": number}, f"channel={'news' if number % 3 else 'scores'}")
            if ended.wait(0.02 + 0.03 * (number // 40 % 3)):
                break

    streams = [server.stream(f"channel={name}") for name in ("news", "scores") * 12]
    publisher = threading.Thread(target=publish)
    publisher.start()
    context = browser.new_context(viewport=WINDOW, locale="en-GB", color_scheme="light")
    sign_in(context, server)
    page = context.new_page()
    page.goto(f"http://127.0.0.1:{server.port}/admin")
    page.wait_for_timeout(40_000)
    page.screenshot(path=PICTURES / "dashboard.png")
    ended.set()
    publisher.join()
    context.close()
    for stream in streams:
        stream.close()


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        Server(Path(folder)) as server,
        sync_playwright() as playwright,
    ):
        browser = start_chromium(playwright, [*MEDIA_FLAGS, ALLOW])
        take_call(server, browser)
        take_dashboard(server, browser)
        browser.close()


if __name__ == "__main__":
    main()
