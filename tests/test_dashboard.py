"""The dashboard: what it asks of the API, and the page in a real Chromium on a real server."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import re
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, CDPSession, Page, Response, expect

from browsers import (
    NAME,
    PASSWORD,
    choose,
    fits,
    in_menu,
    new_context,
    serious,
    sign_in,
    stop_clock,
)
from calls import FirefoxPage
from support import LONG, PATIENCE, ROOT, Server, Stream, Swarm, wait_for

VENDOR = ROOT / "static" / "vendor"

THEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")


# ---- what it asks of the API ---------------------------------------------------------------------


def stats_of(stream: Stream) -> dict[str, object]:
    """The next statistics on a stream."""
    event = stream.take(1)[0]
    while event.get("event") != "stats":
        event = stream.take(1)[0]
    found: dict[str, object] = json.loads(event["data"])
    return found


def test_statistics_come_each_second_to_who_may_read_them(server: Server) -> None:
    with server.stream("channel=sys:stats&labels=1") as stream:
        first = stats_of(stream)
        assert first["activeConnections"] == 1 and first["transports"] == {"sse": 1}
        server.publish("counted")
        wait_for(lambda: stats_of(stream)["messagesSent"] == 1, "the message to be counted")
        assert stream.events[-1]["channel"] == "sys:stats" and "id" not in stream.events[-1]
    narrow = server.post("/api/tokens", {"name": "narrow", "scopes": ["publish"]}).json["token"]
    assert server.get("/api/events?channel=sys:stats", token=narrow).status == 403
    assert server.get("/api/events?channel=sys:stats", token=None).status == 401
    assert server.get("/api/events?channel=sys:other").code == "reserved_channel"
    assert server.post("/api/broadcast?channel=sys:stats", 1).code == "reserved_channel"


def test_an_open_server_tells_its_statistics_to_no_stranger(
    make_server: Callable[..., Server],
) -> None:
    server = make_server(access="open")
    assert server.get("/api/events?channel=sys:stats", token=None).status == 401


def test_the_event_log_is_counted_over_time(server: Server) -> None:
    for number in range(3):
        server.post("/api/settings", {"key": "x-note", "value": number})
    whole = server.get("/api/logs/histogram?buckets=4&q=Setting").json
    assert sum(span.get("INFO", 0) for span in whole["buckets"]) == 3
    assert 1 <= len(whole["buckets"]) <= 4 and whole["width"] >= 1
    entries = server.get("/api/logs?q=Setting").json
    assert len(entries) == 3
    newest = entries[0]["timestamp"]
    later = server.get(f"/api/logs?q=Setting&since={newest}").json
    assert entries[0] in later
    earlier = server.get(f"/api/logs?q=Setting&until={newest}").json
    assert entries[0] not in earlier and len(later) + len(earlier) == 3
    assert server.get("/api/logs/histogram?level=ERROR").json["buckets"] == []
    assert server.get("/api/logs?since=yesterday").code == "invalid"


def all_pages(server: Server, query: str) -> tuple[list[int], set[str]]:
    """The ids on the pages of the list of connections, and the totals that the pages tell."""
    ids: list[int] = []
    totals = set()
    path = f"?{query}"
    while path:
        page = server.get(f"/api/connections{path}")
        ids += [row["id"] for row in page.json]
        totals.add(page.headers["x-total-count"])
        path = page.headers.get("link", "").partition("<")[2].partition(">")[0]
    return ids, totals


def test_some_thousand_connections_are_paged_and_searched(server: Server) -> None:
    swarm = Swarm(server.port)
    for key in range(4_500):  # the server looks at 4,000, then at the others
        swarm.open(key, f"channel={key % 7}")
        if key % 50 == 49:
            swarm.pump(0)
    swarm.pump_until(lambda: len(swarm.last_ids) == 4_500, "all to be connected")
    ids, totals = all_pages(server, "limit=400")
    assert len(ids) == 4_500 and ids == sorted(set(ids)) and totals == {"4500"}
    assert all_pages(server, "limit=1000&transport=sse&q=127.0.0.1") == (ids, totals)
    assert all_pages(server, "transport=websocket") == ([], {"0"})
    late = server.get(f"/api/connections?cursor={ids[-3]}&limit=1").json[0]
    assert late["id"] == ids[-2]
    assert all_pages(server, f"q={late['clientId'].upper()}") == ([ids[-2]], {"1"})
    assert all_pages(server, "q=%20none") == ([], {"0"})  # who has no name isn't called None
    for key in range(0, 4_500, 2):
        swarm.close(key)
    wait_for(
        lambda: server.get("/api/connections?limit=1").headers["x-total-count"] == "2250",
        "half of them to be gone",
    )
    assert set(all_pages(server, "limit=1000")[0]) < set(ids)
    swarm.close_all()


def test_channels_are_listed_by_their_traffic(server: Server) -> None:
    with server.stream("channel=news&channel=quiet"), server.stream("channel=news&presence=1"):
        for number in range(3):
            server.publish(number, "channel=busy")
        server.publish("stored", "channel=news")
        server.publish("to who is there", "channel=news&volatile=1")
        server.publish("to everybody")
        answer = server.get("/api/channels")
        rows = [tuple(row.values()) for row in answer.json]
        assert rows == [("busy", 0, 3), ("news", 2, 2), ("quiet", 1, 0)]
        assert list(answer.json[0]) == ["name", "listeners", "messagesLastMinute"]
        first = server.get("/api/channels?limit=1")
        assert first.json == answer.json[:1] and first.headers["x-total-count"] == "3"
        on_news, on_quiet, on_none = (
            all_pages(server, f"channel={name}&limit=1") for name in ("news", "quiet", "new_s")
        )
        assert (on_news[1], on_quiet[1], on_none) == ({"2"}, {"1"}, ([], {"0"}))
        assert len(on_news[0]) == 2 and set(on_quiet[0]) < set(on_news[0])
        with server.stream("channel=sys:stats"):  # is the server's own
            assert server.get("/api/channels").json == answer.json
    for limit in ("0", "1001", "-1", "many"):
        assert server.get(f"/api/channels?limit={limit}").status == 422
    assert server.get("/api/connections?channel=no%20such").status == 422
    assert server.get("/api/channels", token=None).status == 401
    narrow = server.post("/api/tokens", {"name": "narrow", "scopes": ["publish"]}).json["token"]
    assert server.get("/api/channels", token=narrow).status == 403


def test_traffic_is_counted_within_a_bound() -> None:
    """Of a hundred thousand names a few thousand are kept, and the busy ones among them."""
    import rtapp

    stats = rtapp.Stats()
    for number in range(100_000):
        stats.topics[f"c/{number}"] += 1
        stats.topics["c/busy"] += 1
        stats.bound_topics()
        assert len(stats.topics) <= stats.NAMES
    assert stats.traffic()["c/busy"] == 100_000
    for _ in range(11):
        stats.sample()
        stats.topics["c/later"] += 1
    assert stats.traffic()["c/later"] == 11 and stats.traffic()["c/busy"]
    stats.sample()
    assert set(stats.traffic()) == {"c/later"}  # the first sample is more than a minute ago


def test_network_settings_change_only_on_the_servers_own_computer(server: Server) -> None:
    through = {"X-Forwarded-For": "192.0.2.7"}
    body = {"key": "public_url", "value": "https://chat.example.org"}
    refused = server.post("/api/settings", body, headers=through)
    assert refused.code == "only_from_here"
    where = "/api/settings/public_url"
    assert server.request("DELETE", where, headers=through).code == "only_from_here"
    rows = {row["key"]: row for row in server.get("/api/settings", headers=through).json}
    assert not rows["public_url"]["editable"] and rows["rate_limit"]["editable"]
    assert server.post("/api/settings", body).json["editable"]
    assert server.request("DELETE", where).status == 200


# ---- what is not ours ----------------------------------------------------------------------------


def checksums() -> dict[str, str]:
    """The files that others wrote, with what they must hash to."""
    lines = (VENDOR / "SHA256SUMS").read_text().splitlines()
    return {name: digest for digest, name in (line.split("  ", 1) for line in lines)}


def test_vendored_files_are_what_their_makers_published() -> None:
    found = {
        path.relative_to(VENDOR).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in VENDOR.glob("*/*")
        if path.name != "VERSION" and path.suffix != ".mts"
    }
    assert found == checksums()
    for folder in filter(Path.is_dir, VENDOR.iterdir()):
        assert (folder / "VERSION").is_file() and (folder / "LICENSE").is_file(), folder


def test_vendored_files_are_those_of_npm(npm_folder: Callable[..., Path]) -> None:
    packages = {
        "preact": "preact",
        "htm": "htm",
        "signals-core": "@preact/signals-core",
        "uplot": "uplot",
    }
    versions = {name: (VENDOR / name / "VERSION").read_text().strip() for name in packages}
    folder = npm_folder(*(f"{packages[name]}@{versions[name]}" for name in packages))
    for name, package in packages.items():
        for path in (VENDOR / name).iterdir():
            if path.name == "VERSION" or path.suffix == ".mts":
                continue
            own = folder / "node_modules" / package
            theirs = own / path.name if path.name == "LICENSE" else own / "dist" / path.name
            assert path.read_bytes() == theirs.read_bytes(), path


# ---- the page ------------------------------------------------------------------------------------

SECTIONS = ["overview", "connections", "messages", "rooms", "logs", "people", "settings", "system"]


@pytest.fixture
def site(server: Server) -> Server:
    """A server with an administrator."""
    made = server.post("/api/users", {"username": NAME, "password": PASSWORD, "role": "admin"})
    assert made.status == 201
    return server


def visit(page: Page, server: Server, section: str = "overview") -> Page:
    """The dashboard as an administrator sees it, connected."""
    sign_in(page.context, server)
    page.goto(f"http://127.0.0.1:{server.port}/admin#{section}")
    expect(page.locator("#state")).to_have_attribute("data-state", "open")
    return page


def shows(page: Page, place: str) -> None:
    """Wait for a section of the dashboard, to which one goes without loading the page again."""
    section = place.removeprefix("admin")
    expect(page.locator(".side [aria-current]")).to_have_attribute("href", section)


def confirm(page: Page) -> None:
    page.click("dialog[open] button[value=yes]")


def test_only_an_administrator_gets_in(page: Page, site: Server) -> None:
    site.post("/api/users", {"username": "grace", "password": PASSWORD})
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"http://127.0.0.1:{site.port}/admin")
    expect(page.locator("#app .narrow h2")).to_contain_text("for administrators")
    sign_in(page.context, site, "grace")
    page.reload()
    expect(page.locator("#app .narrow h2")).to_contain_text("not an administrator")
    assert [url for url in asked if "/api/" in url and not url.endswith("/auth/me")] == []
    page.context.clear_cookies()
    page.reload()
    page.click("#app a.button")
    page.fill("#login-username", NAME)
    page.fill("#login-password", PASSWORD)
    page.press("#login-password", "Enter")
    expect(page.locator("#section-title")).to_have_text("Overview")  # where it was wanted
    in_menu(page, "sign-out")
    expect(page.locator("#app .narrow h2")).to_contain_text("for administrators")


def test_figures_and_charts_live(page: Page, site: Server) -> None:
    visit(page, site)
    sent = page.locator(".tile", has_text="Messages since the start").locator(".value")
    expect(sent).to_have_text("0")
    with site.stream():
        site.publish("counted")
        expect(sent).to_have_text("1")
        connections = page.locator(".tile", has=page.locator("a[href='#connections']"))
        expect(connections.locator(".value")).to_have_text("2")
    expect(page.locator(".chart canvas")).to_have_count(6)
    expect(page.locator(".chart").first).to_contain_text("SSE 1")
    page.click("text=24 h")
    expect(page.locator("#app")).to_contain_text("There is no history yet")
    page.click("text=5 min >> nth=0")
    expect(page.locator(".chart canvas")).to_have_count(6)


def test_the_charts_are_full_at_once_and_share_cursor_and_zoom(page: Page, site: Server) -> None:
    """With what was before the dashboard was opened; by keys and by the mouse."""
    for _ in range(3):
        site.publish("before")
    wait_for(lambda: len(site.get("/api/stats?recent=1").json["recent"]) >= 3, "three seconds")
    visit(page, site)
    charts = page.get_by_role("slider")
    expect(charts).to_have_count(6)
    first, second = charts.nth(0), charts.nth(1)
    expect(first).to_have_attribute("aria-valuemax", re.compile(r"[3-9]|\d\d"))
    first.focus()
    page.keyboard.press("Home")
    for chart in (first, second):
        expect(chart).to_have_attribute("aria-valuenow", "0")
    expect(first).to_have_attribute("aria-valuetext", re.compile("SSE 0, WebSocket 0"))
    where = page.locator(".where")
    expect(where).to_have_text(re.compile(r"^\d\d:\d\d:\d\d$"))
    page.keyboard.press("ArrowRight")
    expect(second).to_have_attribute("aria-valuenow", "1")
    page.keyboard.press("+")
    expect(page.get_by_text("Whole range")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_text("Whole range")).to_have_count(0)
    expect(where).to_contain_text(" – ")
    over = page.locator(".u-over").nth(2)

    def tells() -> bool:
        over.hover()  # once more where what came above has moved it away
        return "SSE" in (first.get_attribute("aria-valuetext") or "")

    wait_for(tells, "the values under the pointer")
    box = over.bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] / 4, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, middle, steps=4)
    page.mouse.up()
    page.mouse.move(0, 0)
    expect(page.get_by_text("Whole range")).to_be_visible()
    page.get_by_label("Wider").click()
    page.get_by_label("Wider").click()
    expect(page.get_by_text("Whole range")).to_have_count(0)


def test_a_days_history(page: Page, site: Server) -> None:
    """Minutes of the day before, as they stand in the table."""
    counters = {
        "transports": {"sse": 1_234},
        "messagesPerSecond": 56.0,
        "deliveriesPerSecond": 789.0,
        "publishLatencyMs": {"p50": 1.5, "p99": 7.25},
        "memoryBytes": 50_000_000,
        "cpuPercent": 12.5,
    }
    now = int(time.time() // 60) * 60_000
    with contextlib.closing(sqlite3.connect(site.data / "rtapp.db", timeout=PATIENCE)) as database:
        for hours in (20, 10, 1):
            row = (now - hours * 3_600_000, "a-node", json.dumps(counters))
            database.execute("INSERT INTO stats_minutes VALUES (?, ?, ?)", row)
        database.commit()
    visit(page, site)
    page.click("text=24 h")
    charts = page.locator(".chart")
    expect(charts.first).to_contain_text("1,234")
    for text in ("56", "789"):
        expect(charts.filter(has_text=text).first).to_be_visible()
    page.click(".side a[href='#system']")
    with page.expect_request("**/api/stats/history*"):  # whoever comes back sees what is new
        page.click(".side a[href='#overview']")


def test_connections_are_found_shown_and_kicked(page: Page, site: Server) -> None:
    with site.stream("channel=news&channel=x"), site.stream("session=" + "s" * 22) as stream:
        site.publish("counted", "channel=news")
        visit(page, site)
        channels = page.locator(".channels tbody tr")
        expect(channels).to_have_text(["news11", "x10"])
        channels.get_by_text("news").click()
        rows = page.locator("tbody tr")
        expect(rows).to_have_count(1)
        expect(rows).to_contain_text("news +1")
        page.fill("#connection-channel", "no such")
        page.press("#connection-channel", "Enter")
        expect(page.locator("#connection-channel-error")).to_contain_text("A channel has up to 128")
        page.fill("#connection-channel", "")
        page.press("#connection-channel", "Enter")
        expect(rows).to_have_count(3)
        wanted = stream.hello["clientId"]
        page.fill("#connection-search", wanted)
        expect(rows).to_have_count(1)
        page.click(f"text={wanted}")
        expect(page.locator("dialog[open]")).to_contain_text("127.0.0.1")
        page.keyboard.press("Escape")
        expect(page.locator("dialog[open]")).to_have_count(0)
        rows.locator("button.danger").click()
        confirm(page)
        expect(page.locator("#notices")).to_contain_text("is disconnected")
        assert stream.ended()
        assert stream.events[-1]["event"] == "disconnect"
        expect(page.locator("#app")).to_contain_text("No such connection")


def test_connections_come_page_by_page(page: Page, site: Server) -> None:
    with contextlib.ExitStack() as streams:
        for _ in range(60):
            streams.enter_context(site.stream())
        visit(page, site, "connections")
        rows = page.locator("tbody tr")
        expect(rows).to_have_count(50)
        page.click("th >> text=Client")
        expect(page.locator("th[aria-sort=ascending]")).to_have_text("Client")
        shown = page.locator("tbody th code").all_text_contents()
        assert len(shown) == 50 and shown == page.evaluate(
            "names => names.toSorted(new Intl.Collator('en', { numeric: true }).compare)", shown
        )
        expect(page.locator("#app")).to_contain_text("Only the entries of this page are sorted")
        page.click("th >> text=Client")
        expect(page.locator("th[aria-sort=descending]")).to_have_count(1)
        page.click("th >> text=Client")
        expect(page.locator("th[aria-sort]")).to_have_count(0)
        expect(page.locator("tbody time[title]").first).to_have_text("now")
        page.click("text=Next")
        expect(rows).to_have_count(11)
        expect(page.locator(".pager")).to_contain_text("Page 2, 61 in all")
        page.click("text=Previous")
        expect(rows).to_have_count(50)


def test_a_message_is_composed_and_seen(page: Page, site: Server) -> None:
    visit(page, site, "messages")
    expect(page.locator("#app")).to_contain_text("No message is stored")
    page.fill("#compose-channel", "no such")
    page.fill("#compose-body", "{bad")
    page.click("#compose button.primary")
    expect(page.locator("#compose-channel-error")).to_contain_text("A channel has up to 128")
    expect(page.locator("#compose-body-error")).to_contain_text("not valid JSON")
    with site.stream("channel=news") as stream:
        page.fill("#compose-channel", "news")
        page.fill("#compose-event", "chat")
        page.fill("#compose-body", '{"text": "<b>İstanbul</b>"}')
        page.click("#compose button.primary")
        assert stream.take(1)[0]["event"] == "chat"
    expect(page.locator("#compose")).to_contain_text("Sent to 1 client")
    row = page.locator("tbody tr").first
    expect(row).to_contain_text("<b>İstanbul</b>")
    expect(row.locator(".badge.accent")).to_have_text("chat")
    site.publish("by itself")
    expect(page.locator("tbody tr").first).to_contain_text("by itself")
    page.fill("#message-channel", "news")
    page.press("#message-channel", "Enter")
    expect(page.locator("tbody tr")).to_have_count(1)


def test_the_event_log_is_filtered_followed_exported_and_cleared(page: Page, site: Server) -> None:
    visit(page, site, "logs")
    rows = page.locator("tbody tr")
    expect(rows.last).to_contain_text("Server started")
    expect(page.locator(".histogram rect").first).to_be_attached()
    page.fill("#log-text", "x-followed")
    expect(page.locator("#app")).to_contain_text("No such entry")
    site.post("/api/settings", {"key": "x-followed", "value": 1})
    expect(rows).to_have_count(1)
    page.select_option("#log-level", "WARN")
    expect(page.locator("#app")).to_contain_text("No such entry")
    page.select_option("#log-level", "INFO")
    expect(rows).to_have_count(1)
    choose(page, "language", "tr")
    expect(rows).to_contain_text("Ayar değiştirildi")
    choose(page, "language", "en")
    expect(rows).to_contain_text("Setting changed")
    with page.expect_download() as download:
        page.click("text=NDJSON")
    exported = Path(download.value.path()).read_text().splitlines()
    assert len(exported) == 1 and "x-followed" in exported[0]
    page.fill("#log-since", "2999-01-01T00:00")
    expect(page.locator("#app")).to_contain_text("No such entry")
    page.click("text=Clear filter")
    expect(page.locator("#log-text")).to_have_value("")
    page.click("text=Clear the log")
    page.click("dialog[open] button:not([value])")
    assert len(site.get("/api/logs").json) > 1
    page.click("text=Clear the log")
    confirm(page)
    expect(page.locator("#notices")).to_contain_text("is cleared")
    expect(rows.last).to_contain_text("Event log cleared")


def test_rooms_are_made_locked_and_ended(page: Page, site: Server) -> None:
    visit(page, site, "rooms")
    expect(page.locator("#app")).to_contain_text("No room is active")
    page.fill("#room-name", "Çay saati")
    page.click("form button.primary")
    row = page.locator("tbody tr")
    expect(row).to_contain_text("Çay saati")
    room = site.get("/api/video/rooms").json[0]
    assert room["pinned"]
    expect(row.locator("a.button")).to_have_attribute(
        "href", f"http://127.0.0.1:{site.port}/room/{room['roomId']}"
    )
    row.get_by_text("Lock", exact=True).click()
    expect(row).to_contain_text("locked")
    assert site.get("/api/video/rooms").json[0]["locked"]
    row.get_by_text("Unlock").click()
    expect(row).not_to_contain_text("locked")
    row.locator("button.danger").click()
    confirm(page)
    expect(page.locator("#notices")).to_contain_text("is ended")
    assert site.get("/api/video/rooms").json == []


def test_settings_are_a_form_of_the_servers_table(page: Page, site: Server) -> None:
    visit(page, site, "settings")
    known = site.get("/api/settings").json
    expect(page.locator(".setting")).to_have_count(len(known))
    page.fill("#setting-search", "rate_limit")
    field = page.locator("#setting-rate_limit")
    page.fill("#setting-rate_limit", "many")
    page.press("#setting-rate_limit", "Enter")
    expect(page.locator("#setting-rate_limit-error")).to_contain_text("is not a whole number")
    page.fill("#setting-rate_limit", "700")
    page.click(".side a[href='#messages']")
    expect(page.locator(".side .badge")).to_contain_text("1 unsaved change")
    page.click(".side a[href='#settings']")
    expect(field).to_have_value("700")
    expect(page.locator(".setting").first).to_contain_text("not saved")
    expect(page.locator(".setting label").first).to_have_text("Requests a minute")
    page.click(".setting button.primary")
    expect(page.locator(".setting").first).to_contain_text("changed")
    assert {row["key"]: row["value"] for row in site.get("/api/settings").json}["rate_limit"] == 700
    expect(page.locator(".side .badge")).to_have_count(0)
    page.click("text=Back to default")
    expect(field).to_have_value("600")
    page.fill("#setting-search", "durability")
    page.select_option("#setting-durability", "normal")
    page.click(".setting button.primary")
    expect(page.locator(".banner.warn")).to_contain_text("durability")
    page.fill("#setting-search", "port")
    expect(page.locator("#setting-port")).to_be_disabled()


def test_the_palette_finds_sections_actions_and_settings(page: Page, site: Server) -> None:
    """By keys alone; it is loaded when it is asked for."""
    visit(page, site)
    field, choices = page.locator("#palette-text"), page.locator(".palette [role=option]")
    page.route("**/palette.js", lambda route: route.abort())
    page.keyboard.press("Control+k")
    expect(page.locator("#notices")).to_contain_text("can’t be reached")
    page.unroute("**/palette.js")
    page.reload()
    expect(page.locator("#state")).to_have_attribute("data-state", "open")
    page.keyboard.press("Control+k")
    expect(field).to_be_focused()
    page.keyboard.type("event log")
    expect(choices.first).to_contain_text("Event log")
    expect(choices.nth(1)).to_contain_text("Export the event log (CSV)")
    field.dispatch_event("keydown", {"key": "Enter", "keyCode": 229})  # Safari: it ends a word
    expect(page.locator("dialog[open]")).to_be_visible()
    page.keyboard.press("Enter")
    expect(page.locator("#section-title")).to_have_text("Event log")
    page.keyboard.press("Control+k")
    expect(field).to_be_focused()
    page.keyboard.type("a minute")
    expect(choices).to_have_count(2)
    page.keyboard.press("ArrowDown")
    expect(field).to_have_attribute("aria-activedescendant", "palette-1")
    page.keyboard.press("Enter")
    expect(page.locator("#setting-publish_limit")).to_be_focused()
    page.keyboard.press("Control+k")
    expect(field).to_be_focused()
    page.keyboard.type("dark")
    page.keyboard.press("Enter")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.click("#palette")
    expect(field).to_be_focused()
    page.keyboard.type("no such thing")
    expect(page.locator("dialog[open]")).to_contain_text("Nothing by that name")
    page.keyboard.press("Escape")
    expect(page.locator("#palette")).to_be_focused()


def test_users_tokens_and_sessions_are_managed(page: Page, site: Server) -> None:
    visit(page, site, "people")
    page.click("text=Add a user")
    page.fill("#new-user", "grace hopper")
    page.fill("#new-user-password", "short")
    page.click("#make-user button.primary")
    expect(page.locator("#new-user-error")).to_contain_text("1 to 64 characters")
    page.fill("#new-user", "grace")
    page.fill("#new-user-password", PASSWORD)
    page.click("#make-user button.primary")
    expect(page.locator("tbody tr", has_text="grace")).to_have_count(1)
    change = page.locator("[aria-label='Change grace']")
    change.click()
    page.click("dialog[open] button:not(.primary)")
    expect(change).to_be_focused()
    change.click()
    page.select_option("#edit-role", "admin")
    page.click("dialog[open] button.primary")
    expect(page.locator("tbody tr", has_text="grace")).to_contain_text("administrator")
    expect(change).to_be_focused()
    page.click("[aria-label='Remove the user grace']")
    confirm(page)
    expect(page.locator("tbody tr", has_text="grace")).to_have_count(0)

    page.click("text=Create a token")
    page.fill("#token-name", "backend")
    page.fill("#token-channels", "news, sport")
    page.click("#make-token button.primary")
    secret = page.locator("#token-secret").text_content()
    expect(page.locator("#token-days")).to_have_value("365")  # for the next one
    assert site.get("/api/messages?channel=news", token=secret).status == 200
    assert site.get("/api/logs", token=secret).status == 403
    page.click("[aria-label='Revoke the token backend']")
    confirm(page)
    expect(page.locator("#token-secret")).to_have_count(0)
    assert site.get("/api/messages?channel=news", token=secret).status == 401

    login = {"username": NAME, "password": PASSWORD}
    assert site.post("/api/auth/login", login, token=None).status == 200
    page.reload()
    expect(page.locator("section[aria-labelledby=sessions-title] tbody tr")).to_have_count(2)
    page.click("text=End all others")
    expect(page.locator("section[aria-labelledby=sessions-title] tbody tr")).to_have_count(1)
    expect(page.locator("#notices .banner")).to_have_count(1)
    page.click(".side a[href='#system']")
    expect(page.locator("#notices .banner")).to_have_count(0)


def test_a_backup_is_downloaded(page: Page, site: Server) -> None:
    visit(page, site, "system")
    expect(page.locator("tbody tr")).to_contain_text("this one")
    with page.expect_download() as download:
        page.click("text=Download backup")
    assert Path(download.value.path()).read_bytes().startswith(b"SQLite format 3")
    assert download.value.suggested_filename.endswith(".db")
    assert not download.value.url.startswith("blob:")  # the tab never holds it


def test_what_needs_a_look_is_told(page: Page, site: Server) -> None:
    site.post("/api/settings", {"key": "max_connections", "value": 10})
    visit(page, site)
    warnings = page.locator(".warnings")
    expect(page.locator(".tile").first).to_be_visible()
    expect(warnings).to_have_count(0)
    with contextlib.ExitStack() as streams:
        for _ in range(8):
            streams.enter_context(site.stream())
        expect(warnings).to_contain_text("90% of the 10 connections")
        (found,) = site.get("/api/stats").json["warnings"]
        assert (found["kind"], found["value"]) == ("connections", 0.9)
        warnings.get_by_role("link").click()
        expect(page.locator("#section-title")).to_have_text("Connections")
        expect(warnings).to_be_visible()
        warnings.get_by_role("button").click()
        expect(warnings).to_have_count(0)


def test_a_lost_connection_is_told_with_its_reason(page: Page, site: Server) -> None:
    page.clock.install()
    visit(page, site)
    stop_clock(page)  # or the page came back by itself, and took the button away
    site.kill()
    banner = page.locator(".lost")
    expect(banner).to_contain_text("The connection to the server is lost")
    page.clock.fast_forward(6_000)  # the wait before the first attempt
    expect(banner).to_contain_text("does not answer")
    site.start()
    page.click(".lost button")
    expect(banner).to_have_count(0)
    expect(page.locator("#state")).to_have_attribute("data-state", "open")


def test_an_error_is_told_and_another_try_helps(page: Page, site: Server) -> None:
    page.route("**/api/users", lambda route: route.abort())
    visit(page, site, "people")
    expect(page.locator(".banner.error")).to_contain_text("can’t be reached")
    page.unroute("**/api/users")
    page.click("text=Try again")
    expect(page.locator("section[aria-labelledby=users-title] tbody tr")).to_have_count(1)
    expect(page.locator(".banner.error")).to_have_count(0)


# ---- what everybody gets -------------------------------------------------------------------------


def test_no_width_scrolls_sideways(page: Page, site: Server) -> None:
    site.publish({"text": "long " * 100}, "event=chat&channel=news")
    site.post("/api/video/rooms", {"name": "room " * 10})
    visit(page, site)
    for section in SECTIONS:
        page.goto(f"http://127.0.0.1:{site.port}/admin#{section}")
        for language in ("en", "tr"):
            choose(page, "language", language)
            expect(page.locator("html")).to_have_attribute("lang", language)
            expect(page.locator(".loading")).to_have_count(0)
            fits(page, 320, 768, 1280, 2560)


def test_axe_finds_nothing_serious(browser: Browser, site: Server, axe: str) -> None:
    """In either theme; without transitions, since a colour half-way is measured as poor."""
    site.publish({"text": "long " * 100}, "event=chat&channel=news")
    site.post("/api/tokens", {"name": "backend"})
    site.post("/api/video/rooms", {"name": "Room", "lobby": True})
    context = new_context(browser, bypass_csp=True, reduced_motion="reduce")
    context.add_init_script(axe)
    page = context.new_page()
    origin = f"http://127.0.0.1:{site.port}/"

    def look() -> None:
        for theme in THEMES:
            choose(page, "theme", theme)
            expect(page.locator("html")).to_have_attribute("data-theme", theme)
            assert serious(page, only_colours=theme != THEMES[0]) == [], (page.url, theme)

    page.goto(origin)
    expect(page.locator("#guest")).to_be_visible()
    page.click("#open-gate")
    expect(page.locator("#login")).to_be_visible()
    look()
    sign_in(context, site)
    for place in [
        "",
        "#console",
        *(f"admin#{section}" for section in SECTIONS),
        "api/docs",
        "docs/operator",
    ]:
        page.goto(origin + place)
        if place.startswith("admin#"):
            shows(page, place)
        expect(page.locator("html[data-ready]")).to_have_count(1)
        if place not in ("", "api/docs", "docs/operator"):
            expect(page.locator("#state")).to_have_attribute("data-state", "open")
        expect(page.locator(".loading")).to_have_count(0)
        look()
    context.close()


@pytest.mark.parametrize("language", ["en", "tr"])
def test_the_whole_page_is_small(page: Page, site: Server, language: str) -> None:
    """With every section looked at, as a server or proxy that compresses sends it."""
    page.add_init_script(f"localStorage.setItem('rtapp.language', '{language}')")
    sizes: dict[str, int] = {}

    def note(response: Response) -> None:
        if "/api/" not in response.url:
            sizes[response.url] = len(gzip.compress(response.body(), 9))

    page.on("response", note)
    visit(page, site)
    for section in SECTIONS:
        page.goto(f"http://127.0.0.1:{site.port}/admin#{section}")
        expect(page.locator("#section-title")).to_be_visible()
        page.wait_for_load_state("load")
    assert any(url.endswith(f"/{language}.json") for url in sizes)
    print(language, sum(sizes.values()))
    assert len(sizes) > 20 and sum(sizes.values()) <= 150 * 1024, sizes


def figure(cdp: CDPSession, name: str) -> float:
    """One of the browser's own counts of a page."""
    metrics = cdp.send("Performance.getMetrics")["metrics"]
    return float(next(each["value"] for each in metrics if each["name"] == name))


def pour(server: Server, times: int) -> Iterator[None]:
    """Publish so often twenty messages."""
    lines = b"\n".join(json.dumps({"n": n, "text": "some words " * 5}).encode() for n in range(20))
    headers = {"Content-Type": "application/x-ndjson"}
    for _ in range(times):
        assert server.post("/api/broadcast", lines, headers=headers).status == 200
        yield


def test_pages_stay_light_while_messages_pour_in(page: Page, site: Server) -> None:
    """At most 3,000 nodes of the DOM, by the browser's own count, garbage included, at any moment
    of some 300 messages on each page, 600 in the long form. (5,000 connections make no difference
    to it: a page of the list has 50.)"""
    page.clock.install()
    sign_in(page.context, site)
    cdp = page.context.new_cdp_session(page)
    cdp.send("Performance.enable")
    nodes: dict[str, float] = {}
    with contextlib.ExitStack() as streams:
        for _ in range(60):
            streams.enter_context(site.stream())
        for place in ["#console", *(f"admin#{section}" for section in SECTIONS)]:
            page.goto("about:blank")
            page.goto(f"http://127.0.0.1:{site.port}/{place}")
            expect(page.locator("#state")).to_have_attribute("data-state", "open")
            cdp.send("HeapProfiler.collectGarbage")  # the page before
            nodes[place] = 0
            for _ in pour(site, 30 if LONG else 15):
                page.clock.run_for(70)
                nodes[place] = max(nodes[place], figure(cdp, "Nodes"))
    assert max(nodes.values()) < 3_000, nodes


def test_the_start_page_draws_at_most_four_times_a_second(page: Page, site: Server) -> None:
    sign_in(page.context, site)
    page.goto(f"http://127.0.0.1:{site.port}/#console")
    expect(page.locator("#state")).to_have_attribute("data-state", "open")
    page.evaluate(
        """() => {
          window.began = performance.now();
          window.draws = 0;
          const count = () => (window.draws += 1);
          const list = document.getElementById('messages');
          new MutationObserver(count).observe(list, { childList: true });
        }"""
    )
    for _ in pour(site, 60):
        page.wait_for_timeout(20)
    expect(page.locator("#count")).to_contain_text("1,200")
    draws, seconds = page.evaluate("[window.draws, (performance.now() - window.began) / 1000]")
    assert 1 < draws <= 4 * seconds + 1


def test_a_row_that_is_read_stays(page: Page, site: Server) -> None:
    """Its elements show other messages later, and none of them opened."""
    site.publish({"text": "first " * 50})
    visit(page, site, "messages")
    follow = page.locator("button[aria-pressed]")
    page.click("tbody summary")
    expect(page.locator("tbody details[open] pre")).to_contain_text('"text": "first')
    expect(follow).to_have_attribute("aria-pressed", "false")
    for number in range(60):
        site.publish({"text": f"later {number} " * 50})
    follow.click()
    expect(page.locator("tbody tr").first).to_contain_text("later 59")
    expect(page.locator("tbody tr")).to_have_count(50)
    expect(page.locator("tbody details[open]")).to_have_count(0)
    page.locator("tbody summary").nth(1).click()
    expect(page.locator("tbody details[open] pre")).to_contain_text("later 58")


def heap(cdp: CDPSession) -> float:
    """Bytes in use by scripts once what is no longer needed is collected."""
    cdp.send("HeapProfiler.collectGarbage")
    return float(cdp.send("Runtime.getHeapUsage")["usedSize"])


# An hour's statistics on the dashboard, as fast as they are drawn.
HALF_AN_HOUR = """async () => {
  const [script] = document.querySelectorAll('script[type=module]');
  const { take, recent, stats } = await import(new URL('admin/stream.js', script.src).href);
  let at = window.at ?? Date.parse(stats.value.timestamp);
  for (let second = 1; second <= 1800; second += 1) {
    at += 1000;
    const messagesSent = stats.value.messagesSent + 200;
    take({ ...stats.value, timestamp: new Date(at).toISOString(), messagesSent });
    if (second % 20 === 0) await new Promise((drawn) => requestAnimationFrame(drawn));
  }
  window.at = at;
  return recent.value.length;
}"""


def test_an_hour_of_statistics_leaves_nothing_behind(
    page: Page, site: Server, note: Callable[[str, float], None]
) -> None:
    """The page keeps five minutes, whatever comes."""
    visit(page, site)
    expect(page.locator(".tile").first).to_be_visible()
    cdp = page.context.new_cdp_session(page)
    assert page.evaluate(HALF_AN_HOUR) == 300
    middle = heap(cdp)
    assert page.evaluate(HALF_AN_HOUR) == 300
    end = heap(cdp)
    note("heap at the half, KB", middle / 1000)
    note("heap at the end, KB", end / 1000)
    assert end < middle * 1.05, (middle, end)
    assert page.evaluate("document.querySelectorAll('*').length") < 3000


def test_an_hour_of_messages_leaves_nothing_behind(
    page: Page, site: Server, note: Callable[[str, float], None]
) -> None:
    """200 a second for an hour where there is time, three minutes of them else, over the wire."""
    count = 720 if LONG else 36
    lines = b'{"text": "some words some words some words some words some words"}\n' * 1000
    headers = {"Content-Type": "application/x-ndjson"}
    sign_in(page.context, site)
    page.goto(f"http://127.0.0.1:{site.port}/#console")
    expect(page.locator("#state")).to_have_attribute("data-state", "open")
    cdp = page.context.new_cdp_session(page)
    heaps = []
    for sent in range(1, count + 1):
        assert site.post("/api/broadcast", lines, headers=headers).status == 200
        if sent in (count // 2, count):
            expect(page.locator("#count")).to_contain_text(f"{sent * 1000:,}")
            heaps.append(heap(cdp))
            note("heap, KB", heaps[-1] / 1000)
    assert heaps[1] < heaps[0] * 1.1, heaps  # some bytes a message would be too many


# ---- readers who need it otherwise ---------------------------------------------------------------

# Whatever moves for longer than a blink: the element and how long.
MOVING = """() => [...document.querySelectorAll('*')]
  .flatMap((element) => ['', '::before', '::after']
  .map((part) => getComputedStyle(element, part || null))
  .flatMap((style) => `${style.animationDuration},${style.transitionDuration}`.split(','))
  .filter((length) => parseFloat(length) > 0.001)
  .map((length) => [element.outerHTML.slice(0, 80), length]))"""
# How the colours of a chart's lines stand out from what is behind them (WCAG 2.2, 1.4.11).
LINES = """() => {
  const paint = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const rgb = (color) => {
    paint.fillStyle = color;
    paint.fillRect(0, 0, 1, 1);
    return [...paint.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const linear = (part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
  const light = (color) => rgb(color).map((part) => linear(part / 255))
    .reduce((sum, part, at) => sum + part * [0.2126, 0.7152, 0.0722][at], 0);
  const contrast = (one, other) => {
    const [dark, bright] = [light(one), light(other)].sort((a, b) => a - b);
    return (bright + 0.05) / (dark + 0.05);
  };
  const chart = getComputedStyle(document.querySelector('.chart'));
  return ['--accent', '--info', '--warn', '--muted']
    .map((name) => [name, contrast(chart.getPropertyValue(name).trim(), chart.backgroundColor)]);
}"""
FOCUSED = """() => {
  const { outlineStyle, outlineWidth } = getComputedStyle(document.activeElement);
  return [document.activeElement.tagName, outlineStyle, parseFloat(outlineWidth)];
}"""


CONTRAST = """() => {
  const root = getComputedStyle(document.documentElement);
  const link = getComputedStyle(document.querySelector('.nav a'));
  return [...['--muted', '--text', '--line'].map((name) => root.getPropertyValue(name).trim()),
    link.textDecorationLine === 'underline'];
}"""


def test_forced_colors_and_reduced_motion(page: Page, site: Server) -> None:
    """Nothing moves; where the focus is, and the charts' lines, are seen."""
    sign_in(page.context, site)
    page.emulate_media(forced_colors="active", reduced_motion="reduce")
    for place in [*(f"admin#{section}" for section in SECTIONS), "#console"]:
        page.goto(f"http://127.0.0.1:{site.port}/{place}")
        if place != "#console":
            shows(page, place)
        expect(page.locator("#state")).to_have_attribute("data-state", "open")
        for scheme in THEMES:
            page.emulate_media(color_scheme=scheme)
            assert page.evaluate(MOVING) == [], place
            page.focus(".skip-link")
            for _ in range(12 if LONG or scheme == THEMES[0] else 3):
                page.keyboard.press("Tab")
                tag, style, width = page.evaluate(FOCUSED)
                assert tag == "BODY" or (style != "none" and width >= 2), (place, tag, style, width)
            if place == "admin#overview":
                expect(page.locator(".chart canvas")).to_have_count(6)
                for name, contrast in page.evaluate(LINES):
                    assert contrast >= 3, (name, contrast)


def test_more_contrast(browser: Browser, site: Server) -> None:
    """Who asks the system for it gets no grey text, thicker lines, links that are underlined."""
    for more in (False, True):
        context = new_context(browser, contrast="more" if more else "no-preference")
        page = context.new_page()
        sign_in(context, site)
        for place in ("#console", "admin"):
            page.goto(f"http://127.0.0.1:{site.port}/{place}")
            expect(page.locator("#state")).to_have_attribute("data-state", "open")
            muted, text, line, link = page.evaluate(CONTRAST)
            assert (muted == text, line == "2px", link) == (more, more, more)
        context.close()


# ---- another engine ------------------------------------------------------------------------------


def test_the_pages_in_firefox(site: Server, npm_folder: Callable[..., Path]) -> None:
    """Signing in, live figures, a message sent and seen; no error is told."""
    path = shutil.which("firefox-esr") or shutil.which("firefox")
    if path is None:
        pytest.skip("no Firefox is installed (Debian: firefox-esr)")
    page = FirefoxPage(None, npm_folder("puppeteer-core@24"), path)

    def until(condition: str) -> None:
        wait_for(lambda: page.evaluate(condition), condition)

    text = "(document.querySelector('{}')?.textContent ?? '')"
    tile = "[...document.querySelectorAll('.tile')].find((tile) => /start/.test(tile.textContent))"
    try:
        page.goto(f"http://127.0.0.1:{site.port}/?to=admin")
        page.wait_for_selector("#login:not([hidden]) button.primary")
        page.fill("#login-username", NAME)
        page.fill("#login-password", PASSWORD)
        page.click("#login button.primary")
        until("location.pathname === '/admin' && document.querySelectorAll('canvas').length === 6")
        until(f"{tile}?.querySelector('.value').textContent === '0'")
        with site.stream() as stream:
            site.publish("counted")
            stream.take(1)
            until(f"{tile}?.querySelector('.value').textContent === '1'")
        page.evaluate("location.hash = '#messages'")
        page.wait_for_selector("#compose-body")
        page.fill("#compose-body", '{"text": "İstanbul"}')
        page.click("#compose button.primary")
        until(f"{text.format('tbody tr')}.includes('İstanbul')")
        page.goto(f"http://127.0.0.1:{site.port}/#console")
        page.wait_for_selector("#state[data-state=open]")
        for number in range(120):
            site.publish(f"number {number}")
        until(f"{text.format('.message pre')} === '\"number 119\"'")
        assert page.evaluate("document.querySelectorAll('.message').length") == 100
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.troubles() == []
    finally:
        page.close()
