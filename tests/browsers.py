"""Real browsers for the tests, and what every test of a page shares.

The fixtures are there in each file: conftest.py names this one as a plugin. A page that was made by
`page`, or is watched by `watch`, fails its test when a script of it failed, broke the policy, or
lacked a text.
"""

from __future__ import annotations

import atexit
import functools
import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from support import LONG, PATIENCE, Server

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page, Playwright, Route
    from typing_extensions import Self

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"
# The same engine without windows, bars and extensions, which cost two thirds of a processor's time.
SHELL = os.environ.get("CHROMIUM") or shutil.which("chromium-headless-shell") or CHROMIUM
# A container's root has no sandbox, and its pages may not need the graphics card.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# A call's sound waits for no click, and it goes on where nobody looks.
CALL_FLAGS = [
    *FLAGS,
    "--autoplay-policy=no-user-gesture-required",
    "--disable-background-timer-throttling",
    "--disable-renderer-backgrounding",
    "--disable-backgrounding-occluded-windows",
]
DEVICES = "--use-fake-device-for-media-stream"
ALLOW = "--use-fake-ui-for-media-stream"  # whoever is asked says yes

# Keeps every media connection that a page makes.
KEEP = """
window.made = [];
window.RTCPeerConnection = class extends RTCPeerConnection {
  constructor(...args) { super(...args); made.push(this); }
};
"""


# Each window has a page for its address bar and one for questions to an assistant, which nobody
# sees and which took a quarter of a profile's time. Chromium heeds the last list of features alone,
# and Playwright has one: a script adds to it.
UNSEEN = "WebUIOmniboxPopup,WebUIOmniboxAimPopup,WebUIOmniboxFullPopup"
SCRIPT = """#!/bin/sh
for one; do
  shift
  case $one in --disable-features=*) one=$one,{unseen} ;; esac
  set -- "$@" "$one"
done
exec {command} "$@"
"""


@functools.cache
def chromium_script(*command: str) -> Path:
    """What starts Chromium, by its command."""
    folder = Path(tempfile.mkdtemp(prefix="rtapp-chromium-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = folder / "chromium"
    path.write_text(SCRIPT.format(unseen=UNSEEN, command=shlex.join(command)))
    path.chmod(0o755)
    return path


def start_chromium(
    playwright: Playwright,
    flags: Sequence[str],
    command: Sequence[str] = (),
    is_whole: bool = LONG,
    **more: Any,
) -> Browser:
    """A Chromium; with a `command` that its command line begins with, such as one that leads to
    another host. The long form has the `whole` browser, and what needs a user's profile."""
    path = chromium_script(*command, CHROMIUM if is_whole else SHELL)
    return playwright.chromium.launch(executable_path=path, args=list(flags), **more)


def new_context(browser: Browser, **options: Any) -> BrowserContext:
    """A browser's profile of its own, in English unless `options` say otherwise."""
    made = browser.new_context(**{"locale": "en-GB", **options})
    made.set_default_timeout(PATIENCE * 1000)
    return made


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    """What drives Chromium; skips by name where none is installed."""
    if not Path(CHROMIUM).exists():
        pytest.skip("no Chromium is installed (Debian: chromium)")
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=PATIENCE * 1000)
    with sync_playwright() as started:
        yield started


@pytest.fixture(scope="session")
def browser(playwright: Playwright) -> Iterator[Browser]:
    """A Chromium."""
    made = start_chromium(playwright, FLAGS)
    yield made
    made.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A profile of its own."""
    made = new_context(browser)
    yield made
    made.close()


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    """A page that is watched."""
    troubles: list[str] = []
    yield watch(context.new_page(), troubles)
    assert troubles == []


def watch(page: Page, troubles: list[str]) -> Page:
    """Note what must not happen on a page: an error of a script, a text that is missing, what the
    policy forbids."""
    page.on("pageerror", lambda error: troubles.append(str(error)))

    def hear(message: Any) -> None:
        if re.search("Content Security Policy|i18n:", message.text):
            troubles.append(message.text)

    page.on("console", hear)
    return page


# ---- what is asked of a page ---------------------------------------------------------------------


NAME, PASSWORD = "ada", "saffron-lantern-42-ferry"  # of throwaway servers


def sign_in(context: BrowserContext, server: Server, name: str = NAME) -> None:
    """Give a profile the session of a user, without the page for it."""
    origin = f"http://127.0.0.1:{server.port}"
    login = {"username": name, "password": PASSWORD}
    path, headers = f"{origin}/api/auth/login", {"Origin": origin}
    assert context.request.post(path, data=login, headers=headers).ok


def until(page: Page, condition: str, argument: Any = None) -> Any:
    """Wait until a function of the page gives something true."""
    return page.wait_for_function(condition, arg=argument, timeout=PATIENCE * 1000, polling=50)


def focused(page: Page) -> str:
    """The id of the element that has the focus."""
    return str(page.evaluate("document.activeElement.id"))


def choose(page: Page, what: str, value: str) -> None:
    """Set the `language` or the `theme`, also where its switch is put away in the menu."""
    page.select_option(f"[data-{what}-switch]", value, force=True)


def in_menu(page: Page, button: str) -> None:
    """Press a button of the header's menu, by its id."""
    page.click("#menu > summary")
    page.click(f"#{button}")


def fits(page: Page, *widths: int) -> None:
    """Nothing is wider than the window, in each of some widths."""
    for width in widths or (0,):
        if width:
            page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (
            page.viewport_size,
            page.url,
        )


def hold(page: Page, path: str) -> list[Route]:
    """What is asked there waits until the test lets it go on."""
    held: list[Route] = []

    def keep(route: Route) -> None:
        held.append(route)

    page.route(path, keep)
    return held


def hurry(times: int) -> str:
    """A script with which a page waits so many times shorter, as if time passed sooner."""
    return HURRY.replace("TIMES", str(times))


HURRY = """
const now = performance.now.bind(performance);
performance.now = () => TIMES * now();
for (const name of ['setTimeout', 'setInterval']) {
  const wait = window[name];
  window[name] = (act, ms, ...more) => wait(act, ms / TIMES, ...more);
}
"""


def stop_clock(page: Page) -> None:
    """From now on no time passes in the pages of a context whose clock is installed, but for what
    the test lets pass."""
    page.clock.pause_at(page.evaluate("Date.now()") / 1_000 + 1)


SERIOUS = """async (only) => {
  const found = await axe.run(document, { resultTypes: ['violations'], ...only });
  return found.violations.filter(({ impact }) => ['serious', 'critical'].includes(impact))
    .map(({ id, nodes }) => [id, ...nodes.slice(0, 3).map(({ html }) => html.slice(0, 200))]);
}"""


@pytest.fixture
def axe(npm_folder: Callable[..., Path]) -> str:
    """A script with which each page of a context can be asked what is `serious`."""
    return (npm_folder("axe-core@4") / "node_modules/axe-core/axe.min.js").read_text("utf-8")


def serious(page: Page, only_colours: bool = False) -> list[list[str]]:
    """What axe-core finds of impact serious or critical; of another theme the colours suffice."""
    rules = ["color-contrast", "link-in-text-block"]
    return list(page.evaluate(SERIOUS, {"runOnly": rules} if only_colours else {}))


class Visitor:
    """Somebody with a name before a room's page."""

    def __init__(self, name: str, page: Any = None) -> None:
        self.name = name
        self.page = page

    def open(self, url: str) -> Self:
        """The page, up to where one may join."""
        self.page.goto(url)
        self.page.wait_for_selector("main[data-ready]", state="attached")
        return self

    def press(self, action: str) -> None:
        self.page.click(f'[data-action="{action}"]')

    def ask(self, **fields: str) -> Self:
        """Fill in the name and what else is wanted, and press Join."""
        for field, value in {"name": self.name, **fields}.items():
            self.page.fill(f'[data-field="{field}"]', value)
        self.press("join")
        return self

    def phase(self, name: str) -> Self:
        """Wait for a phase of the stay."""
        self.page.wait_for_selector(f'main[data-phase="{name}"]', state="attached")
        return self

    def join(self, url: str = "") -> Self:
        """Into the call."""
        return self.open(url).ask().phase("joined")
