"""The pages in a real Chromium on a real server: the way in, live messages, sending, looks."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect

from browsers import (
    NAME,
    PASSWORD,
    choose,
    fits,
    focused,
    in_menu,
    new_context,
    sign_in,
    until,
)
from support import ROOT, Server, wait_for

NEW_PASSWORD = "walnut-harbour-17-violet"


def home(server: Server) -> str:
    return f"http://127.0.0.1:{server.port}/"


def printed_link(server: Server) -> str:
    found = re.search(r"http\S+#setup=\S+", "\n".join(server.output))
    assert found, server.output
    return found[0]


def inside(page: Page) -> None:
    """Whoever is here may use the page."""
    expect(page.locator("#workspace")).to_be_visible()


def state(page: Page, name: str) -> None:
    """The connection of the console, which is opened first."""
    if name == "open":
        inside(page)
        if page.locator("#console").is_hidden():
            page.click("#nav-console")
    expect(page.locator("#state")).to_have_attribute("data-state", name)


def fill_in(page: Page, form: str, username: str = NAME, password: str = PASSWORD) -> None:
    """Fill in the `setup` or the `login` form, and send it."""
    page.fill(f"#{form}-username", username)
    page.fill(f"#{form}-password", password)
    page.press(f"#{form}-password", "Enter")


def asks_who(page: Page, server: Server) -> None:
    """The start page as a guest finds it, and the form on it to sign in."""
    page.goto(home(server))
    page.click("#open-gate")


def set_up(server: Server) -> None:
    """Make the administrator, unless there is one."""
    if server.get("/api/auth/me", token=None).json["setupNeeded"]:
        token = printed_link(server).partition("#setup=")[2]
        account = {"username": NAME, "password": PASSWORD, "token": token}
        assert server.post("/api/auth/setup", account, token=None).status == 200


def signed_in(page: Page, server: Server) -> Page:
    """A page as it is for an administrator."""
    set_up(server)
    sign_in(page.context, server)
    page.goto(home(server))
    state(page, "open")
    return page


@pytest.fixture
def elsewhere(browser: Browser) -> Iterator[Page]:
    """A page in another browser, in Turkish."""
    made = new_context(browser, locale="tr-TR")
    yield made.new_page()
    made.close()


def change_password(page: Page, current: str, chosen: str) -> None:
    in_menu(page, "change-password")
    page.fill("#current-password", current)
    page.fill("#new-password", chosen)
    page.press("#new-password", "Enter")


def publish(page: Page, body: str, event: str = "", channel: str = "") -> None:
    page.fill("#event", event)
    page.fill("#channel", channel)
    page.fill("#body", body)
    page.click("#send-button")


# ---- the first run -------------------------------------------------------------------------------


def test_the_printed_link_makes_the_administrator(page: Page, fresh: Server) -> None:
    page.goto(printed_link(fresh))
    expect(page.locator("#setup")).to_be_visible()
    assert page.url == home(fresh)
    assert "setup" not in page.evaluate("location.href + JSON.stringify(history.state)")
    stored = "JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie])"
    assert printed_link(fresh).partition("=")[2] not in page.evaluate(stored)
    fill_in(page, "setup")
    inside(page)
    expect(page.locator("#who")).to_have_text("Signed in as ada (administrator)")
    expect(page.locator("#gate")).to_be_hidden()
    assert focused(page) == "main"
    page.reload()
    inside(page)


def test_without_the_link_the_first_run_is_explained(page: Page, fresh: Server) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(home(fresh))
    expect(page.locator("#first-run")).to_contain_text("#setup=")
    expect(page.locator("#first-run pre")).to_have_text("python rtapp.py setup-link")
    expect(page.locator("#workspace")).to_be_hidden()
    assert [url for url in asked if url.endswith("api/events")] == []
    page.goto(printed_link(fresh))  # changes only the fragment of the page that is there
    expect(page.locator("#setup")).to_be_visible()
    expect(page.locator("#first-run")).to_be_hidden()
    assert page.url == home(fresh)


def test_the_setup_says_what_is_wrong_at_the_field(page: Page, fresh: Server) -> None:
    page.goto(printed_link(fresh))
    fill_in(page, "setup", "ada lovelace", "short")
    expect(page.locator("#setup-username-error")).to_contain_text("1 to 64 characters")
    expect(page.locator("#setup-password-error")).to_contain_text("at least 8 characters")
    assert focused(page) == "setup-username"
    fill_in(page, "setup", NAME, "password123")
    expect(page.locator("#setup-password-error")).to_contain_text("among the first")
    expect(page.locator("#setup-password")).to_have_attribute("aria-invalid", "true")
    expect(page.locator("#setup-username")).not_to_have_attribute("aria-invalid", "true")
    assert focused(page) == "setup-password"
    choose(page, "language", "tr")
    expect(page.locator("#setup-password-error")).to_contain_text("ilk denenenler arasında")
    fill_in(page, "setup")  # the link is good until it is used
    state(page, "open")


def test_the_servers_words_about_a_field_stand_at_it(page: Page, fresh: Server) -> None:
    page.goto(printed_link(fresh))
    fill_in(page, "setup", NAME, "long " * 300)
    expect(page.locator("#setup-password-error")).to_contain_text("1024")
    expect(page.locator("#setup-password-error")).to_have_attribute("lang", "en")


def test_a_wrong_setup_link_is_explained(page: Page, fresh: Server) -> None:
    """Before anything is filled in; and no account was made by asking."""
    page.goto(f"{home(fresh)}#setup=used-or-expired-0123456789")
    expect(page.locator("#gate-note")).to_contain_text("has been used or has expired")
    expect(page.locator("#first-run")).to_contain_text("print a new link")
    expect(page.locator("#setup")).to_be_hidden()
    page.goto(printed_link(fresh))
    expect(page.locator("#setup")).to_be_visible()
    expect(page.locator("#gate-note")).to_be_empty()
    assert fresh.get("/api/auth/me", token=None).json["setupNeeded"]


def test_a_used_setup_link_leads_to_the_sign_in(page: Page, elsewhere: Page, fresh: Server) -> None:
    elsewhere.goto(printed_link(fresh))
    signed_in(page, fresh)
    fill_in(elsewhere, "setup")  # somebody was faster
    expect(elsewhere.locator("#gate-note")).to_contain_text("kurulumu zaten yapılmış")
    fill_in(elsewhere, "login")
    state(elsewhere, "open")
    page.goto(printed_link(fresh))  # no use to who is signed in
    inside(page)
    expect(page.locator("#gate")).to_be_hidden()
    assert page.url == home(fresh)


# ---- signing in ----------------------------------------------------------------------------------


def test_a_wrong_password_and_the_right_one(page: Page, fresh: Server) -> None:
    set_up(fresh)
    asks_who(page, fresh)
    expect(page.locator("#login-username")).to_be_focused()
    page.press("#login-username", "Enter")
    expect(page.locator("#login-username-error")).to_have_text("Enter your user name")
    fill_in(page, "login", NAME, "not-the-password")
    expect(page.locator("#login-password-error")).to_contain_text("is wrong")
    expect(page.locator("#login-username-error")).to_be_empty()
    assert focused(page) == "login-password"
    fill_in(page, "login")
    state(page, "open")
    expect(page.locator("#who")).to_contain_text("Signed in as ada")
    assert page.input_value("#login-password") == ""


def test_a_password_can_be_looked_at(page: Page, fresh: Server) -> None:
    page.goto(printed_link(fresh))
    field, button = page.locator("#setup-password"), page.locator("[data-reveal=setup-password]")
    expect(field).to_have_attribute("type", "password")
    button.click()
    expect(field).to_have_attribute("type", "text")
    expect(button).to_have_attribute("aria-label", "Hide password")
    page.press("#setup-password", "Enter")
    expect(field).to_have_attribute("type", "password")  # a browser would remember a text


def test_a_sign_in_link_signs_in(page: Page, fresh: Server) -> None:
    """The program makes such a link only for the browser that it opens: a login stands for it."""
    set_up(fresh)
    sent: list[Any] = []

    def redeem(route: Route) -> None:
        sent.append(route.request.post_data_json)
        login = {"username": NAME, "password": PASSWORD}
        url = f"{home(fresh)}api/auth/login"
        route.fulfill(response=route.fetch(url=url, post_data=json.dumps(login)))

    page.route("**/api/auth/redeem", redeem)
    page.goto(f"{home(fresh)}#signin=a-token-of-the-program")
    inside(page)
    assert sent == [{"token": "a-token-of-the-program"}]
    assert page.url == home(fresh)
    expect(page.locator("#gate")).to_be_hidden()


def test_a_sign_in_link_that_is_no_good_leads_to_the_form(page: Page, fresh: Server) -> None:
    signed_in(page, fresh)
    in_menu(page, "sign-out")
    expect(page.locator("#guest")).to_be_visible()
    page.goto(f"{home(fresh)}#signin=used-or-expired-0123456789")
    expect(page.locator("#gate-note")).to_contain_text("has been used or has expired")
    assert page.url == home(fresh)
    fill_in(page, "login")
    state(page, "open")


def test_too_many_attempts_are_counted_down(page: Page, make_server: Callable[..., Server]) -> None:
    """The page's wait passes sooner; the server's goes on for the address that has to wait."""
    server = make_server(trusted_proxies="127.0.0.1", env={"RTAPP_ADMIN_TOKEN": None})
    set_up(server)
    page.clock.install()
    one, other = ({"X-Forwarded-For": f"192.0.2.{number}"} for number in (1, 2))
    page.set_extra_http_headers(one)
    asks_who(page, server)
    guess = {"username": "nobody", "password": "wrong-password"}
    more: dict[str, Any] = {"headers": one, "token": None}
    wait_for(lambda: server.post("/api/auth/login", guess, **more).status == 429, "a refusal")
    fill_in(page, "login")
    expect(page.locator("#login .form-error")).to_have_text(
        re.compile(r"^Too many attempts in a short time\. Try again in \d+ seconds?\.$")
    )
    button = page.locator("#login button.primary")
    expect(button).to_have_attribute("aria-disabled", "true")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url.rpartition("/")[2]))
    page.press("#login-password", "Enter")
    page.clock.run_for(4_000)
    expect(page.locator("#login .form-error")).to_contain_text("Try again in")
    page.clock.run_for(8_000)
    expect(page.locator("#login .form-error")).to_have_text("You can try again now.")
    assert set(asked) <= {"listed"}  # what the page looks at anyway
    expect(button).not_to_have_attribute("aria-disabled", "true")
    page.set_extra_http_headers(other)
    fill_in(page, "login")
    state(page, "open")


def test_a_long_wait_is_told_in_minutes(elsewhere: Page, fresh: Server) -> None:
    set_up(fresh)
    elsewhere.route(
        "**/api/auth/login", lambda route: route.fulfill(status=429, headers={"Retry-After": "125"})
    )
    asks_who(elsewhere, fresh)
    fill_in(elsewhere, "login")
    expect(elsewhere.locator("#login .form-error")).to_contain_text("2 dakika 4 saniye sonra")


def test_signing_out_leaves_nothing_behind(page: Page, fresh: Server) -> None:
    signed_in(page, fresh)
    publish(page, '"secret plans"')
    expect(page.locator(".message")).to_have_count(1)
    page.fill("#body", '"a draft"')
    page.click("#nav-start")
    page.fill("#room-name", "A secret call")
    in_menu(page, "sign-out")
    expect(page.locator("#guest")).to_be_visible()
    expect(page.locator("#login")).to_be_hidden()
    expect(page.locator("#account")).to_be_hidden()
    expect(page.locator("#workspace")).to_be_hidden()
    expect(page.locator("#gate-note")).to_be_empty()
    state(page, "closed")
    assert focused(page) == "main"
    assert page.locator(".message").count() == 0
    assert page.input_value("#room-name") == ""
    assert "draft" not in page.input_value("#body")
    page.reload()
    expect(page.locator("#guest")).to_be_visible()


def test_a_new_password_ends_the_sessions_elsewhere(
    page: Page, elsewhere: Page, fresh: Server
) -> None:
    signed_in(page, fresh)
    signed_in(elsewhere, fresh)
    publish(page, '"before"')
    change_password(page, "not-the-password", NEW_PASSWORD)
    expect(page.locator("#current-password-error")).to_contain_text("not your current password")
    page.press("#current-password", "Escape")
    change_password(page, PASSWORD, "short")
    expect(page.locator("#new-password-error")).to_contain_text("at least 8 characters")
    page.fill("#new-password", NEW_PASSWORD)
    page.press("#new-password", "Enter")
    expect(page.locator("#notices")).to_contain_text("Your password is changed")
    expect(page.locator("#password-dialog")).to_be_hidden()

    expect(elsewhere.locator("#gate-note")).to_contain_text("Oturumunuz sona erdi")
    expect(elsewhere.locator("#login")).to_be_visible()
    assert elsewhere.input_value("#login-username") == NAME
    assert focused(elsewhere) == "login-password"
    fill_in(elsewhere, "login", NAME, NEW_PASSWORD)
    state(elsewhere, "open")

    state(page, "open")  # its own session goes on in a new one
    publish(page, '"after"')
    for each in (page, elsewhere):
        expect(each.locator(".message pre")).to_have_text(['"after"', '"before"'])
    expect(page.locator("#notices .banner")).to_have_count(1)
    page.click("#notices button")
    expect(page.locator("#notices .banner")).to_have_count(0)


def test_tabs_of_one_browser_follow_each_other(
    page: Page, context: BrowserContext, fresh: Server
) -> None:
    other = context.new_page()
    other.goto(home(fresh))
    expect(other.locator("#first-run")).to_be_visible()
    page.bring_to_front()
    page.goto(printed_link(fresh))
    fill_in(page, "setup")
    for each in (page, other):
        state(each, "open")
    change_password(page, PASSWORD, NEW_PASSWORD)
    expect(page.locator("#notices")).to_contain_text("Your password is changed")
    publish(page, '"to both"')
    expect(other.locator(".message pre")).to_have_text('"to both"')
    expect(other.locator("#notices .banner")).to_have_count(0)
    in_menu(page, "sign-out")
    expect(other.locator("#guest")).to_be_visible()


def test_a_stream_refused_later_says_that_the_session_ended(page: Page, fresh: Server) -> None:
    """Found out by a reconnect or by sending, not by the server's goodbye."""
    signed_in(page, fresh)
    page.click("#connect")
    state(page, "closed")
    page.context.clear_cookies()
    page.click("#connect")
    expect(page.locator("#gate-note")).to_contain_text("Your session has ended")
    fill_in(page, "login")
    state(page, "open")
    page.click("#connect")
    page.context.clear_cookies()
    publish(page, '"too late"')
    expect(page.locator("#gate-note")).to_contain_text("Your session has ended")
    fill_in(page, "login")
    expect(page.locator("#body")).to_have_value('"too late"')


def test_a_browser_that_keeps_no_cookie_is_told(page: Page, fresh: Server) -> None:
    set_up(fresh)

    def without_cookie(route: Route) -> None:
        answer = route.fetch()
        headers = {key: value for key, value in answer.headers.items() if key != "set-cookie"}
        page.context.clear_cookies()  # fetch() put it there
        route.fulfill(status=answer.status, headers=headers, body=answer.body())

    page.route("**/api/auth/login", without_cookie)
    asks_who(page, fresh)
    fill_in(page, "login")
    expect(page.locator("#gate-note")).to_contain_text("Allow cookies")


def test_an_open_server_works_without_signing_in(
    page: Page, make_server: Callable[..., Server]
) -> None:
    server = make_server("--set", "access=open", env={"RTAPP_ADMIN_TOKEN": None})
    page.goto(home(server))
    state(page, "open")
    expect(page.locator("#gate")).to_be_hidden()
    button = page.locator("#open-gate")
    button.click()
    expect(page.locator("#first-run")).to_be_visible()
    expect(button).to_have_attribute("aria-expanded", "true")
    button.click()
    expect(page.locator("#gate")).to_be_hidden()
    signed_in(page, server)
    expect(button).to_be_hidden()
    publish(page, '"mine"')
    expect(page.locator(".message")).to_have_count(1)
    in_menu(page, "sign-out")
    expect(button).to_be_visible()
    expect(page.locator(".message")).to_have_count(0)
    state(page, "open")


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
    page.clock.install()
    signed_in(page, fresh)
    publish(page, '"before"')
    expect(page.locator(".message")).to_have_count(1)
    fresh.kill()
    state(page, "reconnecting")
    fresh.start()
    page.clock.fast_forward(10_000)
    state(page, "open")
    publish(page, '"after"')
    expect(page.locator(".message pre").first).to_have_text('"after"')
    expect(page.locator(".message")).to_have_count(2)
    expect(page.locator(".message .banner")).to_have_count(0)


def test_the_list_keeps_the_last_hundred_in_order(page: Page, fresh: Server) -> None:
    signed_in(page, fresh)
    page.evaluate(
        """() => {
          const headers = { 'Content-Type': 'application/x-ndjson' };
          const body = [...Array(250).keys()].join('\\n');
          return fetch('api/broadcast', { method: 'POST', headers, body });
        }"""
    )
    expect(page.locator(".message pre").first).to_have_text("249")
    shown = page.locator(".message pre").all_text_contents()
    assert shown == [str(at) for at in range(249, 149, -1)]
    expect(page.locator("#count")).to_contain_text("250 messages received")


def test_a_message_is_a_line_until_it_is_opened(page: Page, fresh: Server) -> None:
    """And a hundred of them are one stop of the Tab key."""
    signed_in(page, fresh)
    for word in ("first", "second"):
        publish(page, f'{{"word": "{word} {"long " * 100}"}}')
        expect(page.locator(".message pre").first).to_contain_text(word)
    lines, bodies = page.locator(".message summary"), page.locator(".message pre")
    expect(lines.first.locator(".glance")).to_contain_text('{"word":"second long')
    expect(bodies.first).to_be_hidden()
    assert lines.first.evaluate("(line) => line.clientHeight") < 50
    assert lines.evaluate_all("(all) => all.map((line) => line.tabIndex)") == [0, -1]
    lines.first.press("ArrowDown")
    expect(lines.nth(1)).to_be_focused()
    lines.nth(1).press("Enter")
    expect(bodies.nth(1)).to_be_visible()
    page.evaluate(
        """() => {
          const headers = { 'Content-Type': 'application/x-ndjson' };
          const body = [...Array(120).keys()].join('\\n');
          return fetch('api/broadcast', { method: 'POST', headers, body });
        }"""
    )
    expect(bodies.first).to_have_text("119")
    expect(page.locator(".message [open]")).to_have_count(0)  # another message has its elements now


def test_a_token_is_made_in_place_and_works_in_the_line(page: Page, fresh: Server) -> None:
    signed_in(page, fresh)
    expect(page.locator("#curl")).to_contain_text("Bearer $RTAPP_TOKEN")
    page.click("#make-token")
    expect(page.locator("#token-note")).to_contain_text("30 days")
    expect(page.locator("#make-token")).to_be_hidden()
    line = page.locator("#curl").text_content() or ""
    done = subprocess.run(["sh", "-c", line], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["recipientCount"] == 1, done.stdout
    expect(page.locator(".message pre")).to_contain_text("Hello!")
    in_menu(page, "sign-out")
    expect(page.locator("#guest")).to_be_visible()
    assert "$RTAPP_TOKEN" in (page.locator("#curl").text_content() or "")


def test_the_console_that_could_not_be_loaded_says_so(page: Page, fresh: Server) -> None:
    set_up(fresh)
    sign_in(page.context, fresh)
    page.route("**/js/console.js", lambda route: route.abort())
    page.goto(f"{home(fresh)}#console")
    expect(page.locator("#notices .banner")).to_be_visible()
    page.unroute("**/js/console.js")
    page.click("#notices button")
    state(page, "open")
    expect(page.locator("#notices .banner")).to_have_count(0)


def test_paused_messages_wait(page: Page, fresh: Server) -> None:
    signed_in(page, fresh)
    page.click("#pause")
    publish(page, '"held"')
    expect(page.locator("#count")).to_contain_text("1 new message is waiting")
    expect(page.locator(".message")).to_have_count(0)
    page.click("#pause")
    expect(page.locator(".message")).to_have_count(1)


def test_snippets_say_what_the_form_says(page: Page, fresh: Server) -> None:
    signed_in(page, fresh)
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
    expect(page.locator("#socketio")).to_contain_text("socket.emit('join', 'news')")
    expect(page.locator("#rtjs")).to_contain_text("connect({ channels: ['news'] })")
    expect(page.locator("#rtjs")).to_contain_text("rt.emit('chat', \"it's\", { channel: 'news' })")


def test_the_snippet_of_rt_js_works_as_it_stands(page: Page, fresh: Server) -> None:
    signed_in(page, fresh)
    lines = page.locator("#rtjs").text_content() or ""
    first, *rest = lines.splitlines()
    module = re.search(r"'(.*)'", first)
    assert module
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    run_lines(page, f"const {{ connect }} = await import('{module[1]}');" + "\n".join(rest))
    expect(page.locator(".message")).to_have_count(1)
    wait_for(lambda: any("-1" in text for text in said), "the listener to be called")


def test_a_room_is_made_or_joined(page: Page, fresh: Server) -> None:
    signed_in(page, fresh)
    page.click("#nav-start")
    page.fill("#room-id", "what is this")
    page.press("#room-id", "Enter")
    expect(page.locator("#room-id-error")).to_contain_text("neither a room’s link")
    page.fill("#room-name", "Tea")
    page.press("#room-name", "Enter")
    page.wait_for_url("**/room/*")
    room = page.url.rpartition("/")[2].removesuffix("#new")
    link = f"{home(fresh)}room/{room}"
    spelled = f" {room[:4].upper()} {room[4:].upper()}"
    for typed in (f"{link}?name=Ada", f"Come: {link} code {room}", f"“{room}\u200b”", spelled):
        page.goto(home(fresh))
        page.fill("#room-id", typed)
        page.press("#room-id", "Enter")
        page.wait_for_url(f"**/room/{room}")


@pytest.mark.parametrize("channel", ["undefined", "class { constructor() { throw Error('no') } }"])
def test_a_browser_that_lets_no_tab_tell_another_shows_the_page(
    page: Page, fresh: Server, channel: str
) -> None:
    """An old one has no `BroadcastChannel`; one that keeps no cookies may forbid it."""
    page.add_init_script(f"window.BroadcastChannel = {channel};")
    page.goto(home(fresh))
    expect(page.locator("h1")).not_to_be_empty()
    expect(page.locator("#first-run")).to_be_visible()


def test_a_guest_finds_the_calls_that_are_open(
    page: Page, elsewhere: Page, make_server: Callable[..., Server]
) -> None:
    """What others see whom an administrator gave the server's address, and not that of a call."""
    fresh = make_server()
    page.clock.install()
    page.goto(home(fresh))
    expect(page.locator("h1")).to_have_text("Join a call")
    expect(page.locator("#no-calls")).to_have_text("No call is open to everybody right now.")
    for part in "#login", "#workspace":
        expect(page.locator(part)).to_be_hidden()
    hidden, tea = ({"name": name, "listed": name == "Tea"} for name in ("Secret", "Tea"))
    assert fresh.post("/api/video/rooms", hidden).status == 201
    made = fresh.post("/api/video/rooms", tea).json["roomId"]
    secret = {"name": "<b>\u05d0</b>", "listed": True, "password": "secret word"}
    assert fresh.post("/api/video/rooms", secret).status == 201
    page.clock.run_for(10_000)
    calls = page.locator(".open-call")
    expect(calls).to_have_count(2)
    expect(calls.nth(0)).to_contain_text("<b>\u05d0</b>")
    expect(calls.nth(0)).to_contain_text("nobody inside yet · with a password")
    body = {"displayName": "Ada", "session": "session-of-ada-at-tea-1"}
    assert fresh.post(f"/api/video/rooms/{made}/join", body, token=None).status == 200
    page.clock.run_for(10_000)
    expect(calls.nth(1)).to_contain_text("1 person inside")
    calls.nth(1).get_by_role("link", name="Join Tea").click()
    page.wait_for_url(f"**/room/{made}")
    elsewhere.goto(home(fresh))
    expect(elsewhere.locator(".open-call")).to_have_count(2)
    elsewhere.fill("#room-id", made)
    elsewhere.press("#room-id", "Enter")
    elsewhere.wait_for_url(f"**/room/{made}")


@pytest.mark.parametrize("path", ["nothing-here", "a/b/c?d=/e/f", "api", "static/css/none.css"])
def test_a_mistyped_address_gives_a_page_that_leads_on(
    page: Page, server: Server, path: str
) -> None:
    answer = page.goto(home(server) + path)
    assert answer is not None and answer.status == 404
    expect(page.locator("h1")).to_have_text("There is nothing at this address")
    page.click("main a.button")
    expect(page).to_have_url(home(server))
    as_program = server.get(f"/{path}")
    assert as_program.status == 404 and as_program.code == "not_found"


def test_without_guests_the_first_page_asks_who_comes(
    page: Page, make_server: Callable[..., Server]
) -> None:
    page.goto(home(make_server(guests="false")))
    expect(page.locator("#login")).to_be_visible()
    expect(page.locator("#guest")).to_be_hidden()


def test_an_administrator_finds_the_dashboard_and_the_share_panel(
    page: Page, fresh: Server
) -> None:
    signed_in(page, fresh)
    page.click("#nav-start")
    expect(page.locator("#share")).to_be_visible()
    page.click("#nav-admin")
    expect(page.locator("#section-title")).to_be_visible()
    page.go_back()
    in_menu(page, "sign-out")
    expect(page.locator("#guest")).to_be_visible()
    expect(page.locator("#nav-admin")).to_be_hidden()
    expect(page.locator("#share")).to_be_empty()


def test_copy_puts_the_snippet_into_the_clipboard(page: Page, fresh: Server) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    signed_in(page, fresh)
    page.click("[data-copy=fetch]")
    expect(page.locator("[data-copy=fetch]")).to_have_text("Copied")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == page.locator("#fetch").text_content()


def test_the_pages_can_be_installed(page: Page, fresh: Server) -> None:
    """As Chromium reads it; it wants no service worker for that since 2023."""
    page.goto(home(fresh))
    cdp = page.context.new_cdp_session(page)
    found = cdp.send("Page.getAppManifest")
    assert found["errors"] == []
    manifest = json.loads(found["data"])
    for key in ("start_url", "scope"):
        assert urllib.parse.urljoin(found["url"], manifest[key]) == home(fresh)
    for icon in manifest["icons"]:
        size = page.evaluate(
            """async (src) => {
              const image = new Image();
              image.src = src;
              await image.decode();
              return `${image.naturalWidth}x${image.naturalHeight}`;
            }""",
            found["url"].rpartition("/")[0] + "/" + icon["src"],
        )
        assert icon["sizes"] in (size, "any"), icon


def test_texts_that_could_not_be_loaded_are_asked_for_again(page: Page, fresh: Server) -> None:
    """Nothing can be read without: that is said in both languages, and it goes on by itself."""
    page.clock.install()
    page.route("**/i18n/*.json", lambda route: route.abort())
    page.goto(home(fresh))
    sorry = page.locator(".sorry")
    expect(sorry).to_be_visible()
    expect(sorry).to_contain_text("it tries again")
    expect(sorry).to_contain_text("yeniden deniyor")
    page.unroute("**/i18n/*.json")
    page.clock.run_for(20_000)
    expect(page.locator("#first-run")).to_be_visible()
    expect(sorry).to_have_count(0)


# ---- language, theme, size -----------------------------------------------------------------------


def test_language_and_theme_are_chosen_and_remembered(page: Page, fresh: Server) -> None:
    signed_in(page, fresh)
    choose(page, "language", "tr")
    expect(page.locator("#state")).to_have_text("Bağlı")
    choose(page, "theme", "dark")
    page.reload()
    expect(page.locator("html")).to_have_attribute("lang", "tr")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    expect(page).to_have_title("Konsol – rtapp")
    page.click("#nav-start")
    expect(page).to_have_title("rtapp – gerçek zamanlı sunucu")


def test_a_browser_that_forbids_storage_gets_the_page(page: Page, fresh: Server) -> None:
    page.add_init_script(
        "Object.defineProperty(window, 'localStorage',"
        " { get() { throw new DOMException('no', 'SecurityError'); } })"
    )
    page.goto(home(fresh))
    choose(page, "language", "tr")
    choose(page, "theme", "dark")
    expect(page.locator("h1")).to_contain_text("Gerçek zamanlı")


def test_no_width_scrolls_sideways(page: Page, fresh: Server) -> None:
    def fits_in_each_language() -> None:
        for language in ("tr", "en"):
            choose(page, "language", language)
            expect(page.locator("html")).to_have_attribute("lang", language)
            fits(page, 320, 360, 768, 1280, 2560)

    page.goto(home(fresh))
    expect(page.locator("#first-run")).to_be_visible()
    fits_in_each_language()
    page.goto(printed_link(fresh))
    fill_in(page, "setup", "no name", "short")
    expect(page.locator("#setup-password-error")).not_to_be_empty()
    fits_in_each_language()
    fill_in(page, "setup", "a" * 64)
    state(page, "open")
    fits_in_each_language()
    in_menu(page, "change-password")
    fits_in_each_language()
    page.keyboard.press("Escape")
    in_menu(page, "sign-out")
    expect(page.locator("#guest")).to_be_visible()
    fits_in_each_language()
    page.click("#open-gate")
    page.click("#login summary")
    fits_in_each_language()


def reached_by_tab(page: Page, presses: int) -> set[str]:
    """The ids that the Tab key comes to, from the top of the page."""
    page.focus(".skip-link")
    return tabbed(page, presses)


def tabbed(page: Page, presses: int) -> set[str]:
    """Those that it comes to from where the focus is."""
    reached: set[str] = set()
    for _ in range(presses):
        page.keyboard.press("Tab")
        reached.add(focused(page))
    return reached


def test_the_console_is_offered_to_whom_the_server_has_answered(page: Page, fresh: Server) -> None:
    signed_in(page, fresh)
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/api/auth/me", hold)
    page.goto(home(fresh))
    expect(page.locator("#nav-start")).not_to_be_empty()
    expect(page.locator("#nav-console")).to_be_hidden()
    held[0].continue_()
    expect(page.locator("#nav-console")).to_be_visible()


def test_everything_is_reached_by_keyboard(page: Page, fresh: Server) -> None:
    signed_in(page, fresh)
    page.goto(home(fresh))
    inside(page)
    page.keyboard.press("Tab")
    expect(page.locator(".skip-link")).to_be_focused()
    assert {"nav-start", "nav-console", "room-name", "room-id"} <= reached_by_tab(page, 20)
    state(page, "open")
    expect(page.locator("#heading")).to_be_focused()
    wanted = {"channel", "event", "format", "body", "send-button", "channels", "connect", "pause"}
    wanted |= {"clear", "make-token", "curl", "fetch", "eventsource", "nav-start"}
    assert wanted <= reached_by_tab(page, 40)
    button = page.locator("#menu > summary")
    button.press("Enter")
    menu = {"change-password", "sign-out", "menu-language", "menu-theme"}
    assert tabbed(page, 4) == menu
    # Over what the page says it has a ground of its own, as every card.
    grounds = "(cards) => cards.map((card) => getComputedStyle(card).backgroundColor)"
    assert "rgba(0, 0, 0, 0)" not in page.locator("#menu > .card, .card:visible").evaluate_all(
        grounds
    )
    button.press("Escape")
    expect(page.locator("#menu-language")).to_be_hidden()
    expect(button).to_be_focused()
    button.press("Enter")
    page.focus("#change-password")
    page.keyboard.press("Enter")
    expect(page.locator("#current-password")).to_be_focused()
    page.keyboard.press("Escape")
    expect(button).to_be_focused()
    button.press("Enter")
    page.focus("#sign-out")
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    page.focus("#open-gate")
    page.keyboard.press("Enter")
    expect(page.locator("#login-username")).to_be_focused()
    assert {"room-id"} <= reached_by_tab(page, 15)
    assert {"login-username", "login-password"} <= reached_by_tab(page, 15)


# ---- the API reference ---------------------------------------------------------------------------


def open_docs(page: Page, server: Server) -> None:
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
    page.dispatch_event("#filter", "keydown", {"key": "Escape", "keyCode": 229})  # of a word
    expect(page.locator("#filter")).to_have_value("no such operation")
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


# ---- the guides ----------------------------------------------------------------------------------


def test_guides_lead_to_each_other_in_the_readers_language(page: Page, server: Server) -> None:
    page.goto(f"{home(server)}docs")
    expect(page.locator("#guide h1")).to_have_text("The guides")
    expect(page.locator("#contents")).to_be_hidden()
    page.click("#guide a >> text=Running a server")
    expect(page).to_have_title("Running a server – rtapp")
    assert page.url == f"{home(server)}docs/operator"
    page.click("#titles a >> text=TURN")
    expect(page.locator("h2#turn")).to_be_in_viewport()
    page.click("#guide >> text=Türkçe")
    expect(page.locator("#guide h1")).to_have_text("Sunucu işletmek")
    expect(page.locator("html")).to_have_attribute("lang", "tr")
    page.click("#guide a >> text=Bütün kılavuzlar")
    page.click("#guide a >> text=Katkıda bulunmak")
    expect(page.locator("#guide h1")).to_have_text("Katkıda bulunmak")
    shown = "[...document.querySelectorAll('#guide img')].map((image) => image.naturalWidth)"
    until(page, f"() => {shown}.join() === '680,680'")
    page.goto(f"{home(server)}docs/call-host#masaüstü-programı")
    expect(page.locator("h2#masaüstü-programı")).to_be_in_viewport()


def test_a_guide_that_does_not_come_is_tried_again(page: Page, server: Server) -> None:
    page.route("**/docs/developer.md", lambda route: route.abort())
    page.goto(f"{home(server)}docs/developer")
    expect(page.locator("#guide .banner")).to_contain_text("could not be loaded")
    page.unroute("**/docs/developer.md")
    page.click("#guide button")
    expect(page.locator("#guide h1")).to_have_text("For developers")
    # What a language lacks is shown in English.
    page.route("**/docs/developer.tr.md", lambda route: route.fulfill(status=404))
    choose(page, "language", "tr")
    expect(page.locator(".nav [aria-current]")).to_have_text("Kılavuzlar")
    expect(page.locator("#guide h1")).to_have_text("For developers")


# The guide's own lines, as a newcomer pastes them into the console of a page of the server.
GUIDE_CLIENT = """
const eventSource = new EventSource('/api/events');
eventSource.onmessage = (event) => { const data = JSON.parse(event.data); console.log('received:', data); };
window.heard = [];
eventSource.addEventListener('message', (event) => window.heard.push(JSON.parse(event.data)));
"""  # noqa: E501 - the guide's lines stay as they are
# The next line of the guide; pasted with the one above, it could arrive before the stream is open.
GUIDE_HELLO = """
fetch('/api/broadcast', { method: 'POST', headers: { 'Content-Type': 'application/json' },
  body: JSON.stringify({ message: 'Hello!' }) });
"""
GUIDE_BROADCAST = """
await fetch('/api/broadcast', { method: 'POST', headers: { 'Content-Type': 'application/json' },
  body: JSON.stringify({ type: 'notification', message: 'A new update is available!' }) });
"""
GUIDE_SETTINGS = """
await fetch('/api/settings', { method: 'POST', headers: { 'Content-Type': 'application/json' },
  body: JSON.stringify({ key: 'max_connections', value: '1000', description: 'Maximum concurrent connections' }) });
"""  # noqa: E501
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


def test_the_guides_lines_work_unchanged_and_survive_a_crash(page: Page, fresh: Server) -> None:
    """A native EventSource, the server killed under it, messages published while it is away."""
    readme = (ROOT / "README.md").read_text("utf-8")
    assert "\n".join(GUIDE_CLIENT.strip().splitlines()[:2]) + GUIDE_HELLO in readme
    signed_in(page, fresh)
    page.evaluate(f"() => {{ {GUIDE_CLIENT} }}")
    until(page, "() => heard.some((data) => data.type === 'connection')")
    run_lines(page, GUIDE_HELLO)
    until(page, "() => heard.some((data) => data.message === 'Hello!')")
    run_lines(page, GUIDE_BROADCAST)
    until(page, "() => heard.some((data) => data.type === 'notification')")
    run_lines(page, GUIDE_SETTINGS)
    connections, logs, limit, active, cleared = run_lines(page, GUIDE_LISTS)
    assert connections == active == 2 and logs > 0 and limit == 1000 and cleared == 200
    fresh.kill()
    fresh.start()
    run_lines(page, GUIDE_BROADCAST.replace("A new update", "Another update"))
    until(page, "() => heard.some((data) => data.message?.startsWith('Another'))")
    ids = page.evaluate("() => window.heard.filter((data) => data.id).map((data) => data.id)")
    assert len(ids) == 3 and ids == sorted(set(ids))
