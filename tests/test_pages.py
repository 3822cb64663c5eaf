"""The pages in a real Chromium on a real server: signing in, live messages, sending, looks."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from support import PATIENCE, Server, wait_for

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"
pytestmark = pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="no Chromium here")

expect.set_options(timeout=PATIENCE * 1000)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # A container's root has no sandbox, and its pages may not need the graphics card.
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
        arguments += ["--disable-background-networking", "--disable-component-update"]
        arguments += ["--disable-sync"]
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield found
        found.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    made = browser.new_context(locale="en-GB")
    made.set_default_timeout(PATIENCE * 1000)
    yield made
    made.close()


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    """A page; the test fails when a script of it fails, or breaks the policy, or lacks a text."""
    made = context.new_page()
    troubles: list[str] = []
    made.on("pageerror", lambda error: troubles.append(str(error)))
    made.on(
        "console",
        lambda message: (
            troubles.append(message.text)
            if re.search("Content Security Policy|i18n:", message.text)
            else None
        ),
    )
    yield made
    assert troubles == []


@pytest.fixture
def fresh(make_server: Callable[..., Server]) -> Server:
    """A server that has no administrator, so it prints a link."""
    return make_server(env={"RTAPP_ADMIN_TOKEN": None})


def home(server: Server) -> str:
    return f"http://127.0.0.1:{server.port}/"


def printed_link(server: Server) -> str:
    found = re.search(r"http\S+#setup=\S+", "\n".join(server.output))
    assert found, server.output
    return found[0]


def state(page: Page, name: str) -> None:
    expect(page.locator("#state")).to_have_attribute("data-state", name)


def signed_in(page: Page, server: Server) -> Page:
    page.goto(printed_link(server))
    state(page, "open")
    return page


def publish(page: Page, body: str, event: str = "", channel: str = "") -> None:
    page.fill("#event", event)
    page.fill("#channel", channel)
    page.fill("#body", body)
    page.click("#send-button")


# ---- signing in ----------------------------------------------------------------------------------


def test_the_printed_link_signs_in_and_leaves_the_address_bar(page: Page, fresh: Server) -> None:
    signed_in(page, fresh)
    assert page.url == home(fresh)
    assert "setup" not in str(page.evaluate("history.length && location.href"))
    expect(page.locator("#who")).to_contain_text("Signed in")
    page.reload()
    state(page, "open")


def test_the_link_works_in_a_tab_that_shows_the_page_already(page: Page, fresh: Server) -> None:
    page.goto(home(fresh))
    state(page, "closed")
    page.goto(printed_link(fresh))
    state(page, "open")
    assert page.url == home(fresh)
    expect(page.locator("#notices .banner")).to_have_count(0)


def test_a_used_link_is_explained(browser: Browser, page: Page, fresh: Server) -> None:
    signed_in(page, fresh)
    other = browser.new_context(locale="tr-TR")
    late = other.new_page()
    late.goto(printed_link(fresh))
    expect(late.locator("#notices")).to_contain_text("kullanılmış ya da süresi dolmuş")
    assert late.url == home(fresh)
    other.close()


def test_without_a_right_the_page_explains_and_does_not_ask_again(
    page: Page, server: Server
) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(home(server))
    state(page, "closed")
    expect(page.locator("#notices")).to_contain_text("You need to sign in")
    page.wait_for_timeout(2500)  # longer than the first reconnect would take
    assert len([url for url in asked if url.endswith("api/events")]) == 1


# ---- live messages -------------------------------------------------------------------------------


def test_a_sent_message_arrives_as_text(page: Page, fresh: Server) -> None:
    signed_in(page, fresh)
    expect(page.locator("#empty")).to_be_visible()
    publish(page, '{"message": "<b>Merhaba</b> İstanbul"}', event="chat")
    message = page.locator(".message").first
    expect(message.locator("pre")).to_contain_text('"message": "<b>Merhaba</b> İstanbul"')
    expect(message.locator(".badge")).to_have_text("chat")
    expect(message.locator("code")).to_have_text(re.compile(r"^[0-9a-f]{8}-\d+$"))
    expect(page.locator("#result")).to_contain_text("Sent to 1 client,")


def test_a_channel_arrives_where_it_is_listened_to(page: Page, fresh: Server) -> None:
    signed_in(page, fresh)
    publish(page, '"unheard"', channel="news")
    expect(page.locator("#result")).to_contain_text("Sent to 0 clients")
    page.fill("#channels", "news, sport")
    page.press("#channels", "Enter")
    expect(page.locator("#state")).to_have_attribute("data-state", "open")
    publish(page, '"heard"', channel="news")
    expect(page.locator(".message pre").first).to_have_text('"heard"')


def test_wrong_input_is_said_at_the_field(page: Page, fresh: Server) -> None:
    signed_in(page, fresh)
    publish(page, "{bad")
    expect(page.locator("#body")).to_have_attribute("aria-invalid", "true")
    expect(page.locator("#body-error")).to_contain_text("not valid JSON")
    assert page.evaluate("document.activeElement.id") == "body"
    publish(page, "1", event="ping")
    expect(page.locator("#send-error .banner")).to_be_visible()


def test_a_restart_of_the_server_loses_nothing(page: Page, fresh: Server) -> None:
    signed_in(page, fresh)
    publish(page, '"before"')
    expect(page.locator(".message")).to_have_count(1)
    fresh.kill()
    state(page, "reconnecting")
    fresh.start()
    state(page, "open")
    publish(page, '"after"')
    expect(page.locator(".message pre").first).to_have_text('"after"')
    expect(page.locator(".message")).to_have_count(2)
    expect(page.locator(".message .banner")).to_have_count(0)


def test_the_list_keeps_the_last_hundred_in_order(page: Page, fresh: Server) -> None:
    signed_in(page, fresh)
    page.evaluate(
        """async () => {
          for (let at = 0; at < 250; at += 1) {
            const headers = { 'Content-Type': 'application/json' };
            await fetch('api/broadcast', { method: 'POST', headers, body: String(at) });
          }
        }"""
    )
    expect(page.locator(".message pre").first).to_have_text("249")
    shown = page.locator(".message pre").all_text_contents()
    assert shown == [str(at) for at in range(249, 149, -1)]
    expect(page.locator("#count")).to_contain_text("250 messages received")


def test_paused_messages_wait(page: Page, fresh: Server) -> None:
    signed_in(page, fresh)
    page.click("#pause")
    publish(page, '"held"')
    expect(page.locator("#count")).to_contain_text("1 new message is waiting")
    expect(page.locator(".message")).to_have_count(0)
    page.click("#pause")
    expect(page.locator(".message")).to_have_count(1)


def test_snippets_say_what_the_form_says(page: Page, fresh: Server) -> None:
    page.goto(home(fresh))
    page.fill("#channel", "news")
    page.fill("#event", "chat")
    page.select_option("#format", "text")
    page.fill("#body", "it's")
    expect(page.locator("#curl")).to_contain_text(
        f"{home(fresh)}api/broadcast?channel=news&event=chat"
    )
    expect(page.locator("#curl")).to_contain_text("""-d '"it'\\''s"'""")
    expect(page.locator("#fetch")).to_contain_text("fetch('/api/broadcast?channel=news&event=chat'")
    expect(page.locator("#eventsource")).to_contain_text("EventSource('/api/events?channel=news')")
    expect(page.locator("#eventsource")).to_contain_text("addEventListener('chat'")


def test_copy_puts_the_snippet_into_the_clipboard(page: Page, fresh: Server) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(home(fresh))
    page.click("[data-copy=fetch]")
    expect(page.locator("[data-copy=fetch]")).to_have_text("Copied")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == page.locator("#fetch").text_content()


# ---- language, theme, size -----------------------------------------------------------------------


def test_language_and_theme_are_chosen_and_remembered(page: Page, fresh: Server) -> None:
    signed_in(page, fresh)
    page.select_option("[data-language-switch]", "tr")
    expect(page.locator("#state")).to_have_text("Bağlı")
    page.select_option("[data-theme-switch]", "dark")
    page.reload()
    expect(page.locator("html")).to_have_attribute("lang", "tr")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    expect(page).to_have_title("rtapp – gerçek zamanlı sunucu")


def test_a_browser_that_forbids_storage_gets_the_page(page: Page, fresh: Server) -> None:
    page.add_init_script(
        "Object.defineProperty(window, 'localStorage',"
        " { get() { throw new DOMException('no', 'SecurityError'); } })"
    )
    page.goto(home(fresh))
    page.select_option("[data-language-switch]", "tr")
    page.select_option("[data-theme-switch]", "dark")
    expect(page.locator("h1")).to_contain_text("Gerçek zamanlı")


@pytest.mark.parametrize("language", ["en", "tr"])
def test_no_width_scrolls_sideways(browser: Browser, server: Server, language: str) -> None:
    context = browser.new_context(locale=language)
    page = context.new_page()
    page.goto(home(server))
    state(page, "closed")
    for width in (320, 360, 768, 1280, 2560):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    context.close()


def test_everything_is_reached_by_keyboard(page: Page, server: Server) -> None:
    page.goto(home(server))
    state(page, "closed")
    page.keyboard.press("Tab")
    expect(page.locator(".skip-link")).to_be_focused()
    reached: set[str] = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id"))
    wanted = {"channel", "event", "format", "body", "send-button", "channels", "connect", "pause"}
    assert wanted | {"clear", "curl", "fetch", "eventsource"} <= reached


# ---- the parser, without a network ---------------------------------------------------------------


def test_the_parser_follows_the_standard(page: Page, server: Server) -> None:
    """WHATWG HTML 9.2.6: every line end, comments, several data lines, text cut anywhere."""
    page.goto(home(server))
    state(page, "closed")
    # The policy forbids an evaluated string of code, not a function that imports the module.
    text = "\r\nretry: 12\r\n: c\rid: 1\nevent: x\r\ndata: a\ndata:b\r\n\r\nid: 2\n\ndata:  c\n\n"
    parsed = page.evaluate(
        """async (text) => {
          const [script] = document.querySelectorAll('script[type=module]');
          const { createParser } = await import(new URL('stream.js', script.src).href);
          const seen = [];
          const see = (what) => seen.push(what);
          const feed = createParser({ onEvent: see, onRetry: see });
          for (const letter of text) feed(letter);
          return seen;
        }""",
        text,
    )
    assert parsed == [
        12,
        {"event": "x", "data": "a\nb", "id": "1"},
        {"event": "message", "data": "", "id": "2"},
        {"event": "message", "data": " c", "id": "2"},
    ]


# ---- the API reference ---------------------------------------------------------------------------


def open_docs(page: Page, server: Server) -> None:
    if server.get("/api/docs").status == 404:
        pytest.skip("this server has no /api/docs yet")
    page.goto(f"{home(server)}api/docs")
    expect(page.locator(".operation").first).to_be_visible()


def test_docs_show_every_operation_and_filter_them(page: Page, server: Server) -> None:
    open_docs(page, server)
    paths = server.get("/api/openapi.json").json["paths"]
    methods = {"get", "post", "put", "patch", "delete", "head", "options"}
    count = sum(len(methods & set(item)) for item in paths.values())
    expect(page.locator(".operation")).to_have_count(count)
    page.keyboard.press("/")
    page.keyboard.type("post broadcast")
    expect(page.locator(".operation:visible .path").first).to_contain_text("/api/broadcast")
    page.fill("#filter", "no such operation")
    expect(page.locator("#nothing")).to_be_visible()
    page.press("#filter", "Escape")
    expect(page.locator(".operation:visible")).to_have_count(count)


def test_docs_open_at_a_link_and_tell_an_error(page: Page, server: Server) -> None:
    open_docs(page, server)
    page.goto(f"{home(server)}api/docs#post-api-broadcast")
    expect(page.locator("#post-api-broadcast .content")).to_be_visible()
    page.route("**/api/openapi.json", lambda route: route.abort())
    page.reload()
    expect(page.locator("#operations .banner")).to_contain_text("can’t be reached")
    page.unroute("**/api/openapi.json")
    page.click("#operations button")
    wait_for(lambda: page.locator(".operation").count() > 0, "operations after another try")


# The guide's own lines, as a newcomer pastes them into the console of a page of the server.
GUIDE_CLIENT = """
const eventSource = new EventSource('/api/events');
eventSource.onmessage = (event) => { const data = JSON.parse(event.data); console.log('received:', data); };
fetch('/api/broadcast', { method: 'POST', headers: { 'Content-Type': 'application/json' },
  body: JSON.stringify({ message: 'Hello!' }) });
window.heard = [];
eventSource.addEventListener('message', (event) => window.heard.push(JSON.parse(event.data)));
"""
GUIDE_BROADCAST = """
await fetch('/api/broadcast', { method: 'POST', headers: { 'Content-Type': 'application/json' },
  body: JSON.stringify({ type: 'notification', message: 'A new update is available!' }) });
"""
GUIDE_SETTINGS = """
await fetch('/api/settings', { method: 'POST', headers: { 'Content-Type': 'application/json' },
  body: JSON.stringify({ key: 'max_connections', value: '1000', description: 'Maximum concurrent connections' }) });
"""
GUIDE_LISTS = """
return [(await (await fetch('/api/connections')).json()).length,
  (await (await fetch('/api/logs')).json()).length,
  (await (await fetch('/api/settings')).json()).find((row) => row.key === 'max_connections').value,
  (await (await fetch('/api/stats')).json()).activeConnections,
  (await fetch('/api/logs', { method: 'DELETE' })).status];
"""


def run_lines(page: Page, lines: str) -> Any:
    """What a console does with pasted lines."""
    return page.evaluate(f"async () => {{ {lines} }}")


def test_the_guides_lines_work_unchanged_and_survive_a_crash(
    browser: Browser, fresh: Server
) -> None:
    """A native EventSource, the server killed under it, messages published while it is away."""
    context = browser.new_context()
    page = context.new_page()
    signed_in(page, fresh)
    page.evaluate(f"() => {{ {GUIDE_CLIENT} }}")
    wait_in(page, "() => window.heard.some((data) => data.message === 'Hello!')")
    run_lines(page, GUIDE_BROADCAST)
    wait_in(page, "() => window.heard.some((data) => data.type === 'notification')")
    run_lines(page, GUIDE_SETTINGS)
    connections, logs, limit, active, cleared = run_lines(page, GUIDE_LISTS)
    assert connections == active == 2 and logs > 0 and limit == 1000 and cleared == 200
    fresh.kill()
    fresh.start()
    run_lines(page, GUIDE_BROADCAST.replace("A new update", "Another update"))
    wait_in(page, "() => window.heard.some((data) => data.message?.startsWith('Another'))")
    ids = page.evaluate("() => window.heard.filter((data) => data.id).map((data) => data.id)")
    assert len(ids) == 3 and ids == sorted(set(ids))
    context.close()


def wait_in(page: Page, condition: str) -> None:
    """Wait until a function of the page gives true."""
    page.wait_for_function(condition, timeout=PATIENCE * 1000)
