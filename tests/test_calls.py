"""Video calls of real browsers on hosts of a local network."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Playwright, sync_playwright

import lan as network
from calls import CHROMIUM, COLOURS, Person, flow, make_room, pairs, wait_first_picture
from conftest import Certificate
from lan import Lan
from support import PROGRAM, Server

FIRST = f"{network.NETWORK}.1"


@pytest.fixture(scope="module", autouse=True)
def _possible() -> None:
    reason = network.obstacle()
    if reason:
        pytest.skip(reason)
    if not Path(CHROMIUM).exists():
        pytest.skip("no Chromium is installed (Debian: chromium)")


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as found:
        yield found


@pytest.fixture
def lan() -> Iterator[Lan]:
    with Lan("server") as made:
        yield made


class Office:
    """A server on a network, and the people who meet there."""

    def __init__(self, playwright: Playwright, lan: Lan, folder: Path) -> None:
        self.playwright = playwright
        self.lan = lan
        self.folder = folder
        self.certificate = Certificate(folder, FIRST)
        self.people: list[Person] = []
        self.server = Server(folder / "data")

    def serve(self, **settings: object) -> Office:
        launcher = [*self.lan["server"].command, sys.executable, str(PROGRAM)]
        more = {"ice_servers": "", **self.certificate.settings, **settings}
        self.server = Server(self.folder / "data", "--host", "0.0.0.0", launcher=launcher, **more)
        self.server.start()
        return self

    def room(self, **body: object) -> str:
        """A new room; its page's address."""
        tls = self.certificate.trusting
        room = make_room(self.server, self.lan["server"], tls, **body)
        return f"https://{FIRST}:{self.server.port}/room/{room}"

    def person(self, colour: str, **size: int) -> Person:
        host = self.lan.add(colour)
        person = Person(self.playwright, host, self.folder, colour, **size)
        self.people.append(person)
        return person

    def some(self, count: int, **size: int) -> list[Person]:
        return [self.person(colour, **size) for colour in list(COLOURS)[:count]]

    def close(self) -> None:
        for person in self.people:
            person.close()
        self.server.kill()


@pytest.fixture
def office(playwright: Playwright, lan: Lan, tmp_path: Path) -> Iterator[Office]:
    made = Office(playwright, lan, tmp_path)
    yield made
    made.close()
    assert [trouble for person in made.people for trouble in person.troubles] == []


both_transports = pytest.mark.parametrize("transport", ["sse", "websocket"])


@both_transports
def test_two_meet(office: Office, transport: str, note: Callable[..., None]) -> None:
    url = f"{office.serve().room()}?transport={transport}"
    one, other = office.some(2)
    one.join(url)
    other.join(url)
    note("first picture", wait_first_picture([one, other]))
    note("30 frames", flow([one, other], 30))
    for seer, seen in pairs([one, other]):
        assert seer.sees_colour(seen) == seen.colour
