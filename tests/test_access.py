"""Nobody enters who does not belong: one test per attack or right, through the wire."""

from __future__ import annotations

import base64
import functools
import hmac
import itertools
import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest

import rtapp
from conftest import Certificate
from support import (
    ADMIN,
    NDJSON,
    PATIENCE,
    POLLING,
    PROGRAM,
    UPGRADE,
    Answer,
    Server,
    Stream,
    change,
    cookie_of,
    get_request,
    hear,
    open_ws,
    rows_of,
    run_program,
    say,
    setup_token,
    wait_for,
)

PASSWORD = "correct horse battery"
OTHER = "another horse entirely"
JWT_KEY = "a shared secret of at least 32 bytes!"


def log_in(server: Server, name: str = "ada", password: str = PASSWORD) -> dict[str, str]:
    body = {"username": name, "password": password}
    return cookie_of(server.post("/api/auth/login", body, token=None))


@functools.cache
def hashed() -> str:
    """What is stored of the password: to hash it is meant to take its time."""
    return rtapp.hash_password(PASSWORD)


def with_users(server: Server) -> Server:
    """With the administrator ada and the user bob."""
    for name, role in (("ada", "admin"), ("bob", "user")):
        row = rtapp.user_row(name, hashed(), role)
        places = ", ".join("?" * len(row))
        sql = f"INSERT INTO users ({', '.join(row)}) VALUES ({places})"
        change(server.database_url, sql, *row.values())
    return server


@pytest.fixture
def home(server: Server) -> Server:
    """A server with users."""
    return with_users(server)


def at_once(server: Server, *requests: str) -> list[int]:
    """The statuses, sorted, of requests that arrive at the same moment."""
    socks = [socket.create_connection(("127.0.0.1", server.port)) for _ in requests]
    for sock, request in zip(socks, requests, strict=True):
        sock.sendall(request.encode())
    statuses = sorted(int(sock.recv(100)[9:12]) for sock in socks)
    for sock in socks:
        sock.close()
    return statuses


def posted(path: str, body: dict[str, str]) -> str:
    """A request without a credential."""
    text = json.dumps(body)
    head = f"Host: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(text)}"
    return f"POST {path} HTTP/1.1\r\n{head}\r\n\r\n{text}"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The same, for the tests that leave nothing behind."""
    with Server(tmp_path_factory.mktemp("shared") / "data") as server:
        yield with_users(server)


# First run


def test_first_run(fresh: Server) -> None:
    token = setup_token(fresh)
    assert fresh.get("/api/auth/me", token=None).json["setupNeeded"] is True
    body = {"token": token, "username": "Ada", "password": PASSWORD}
    weak = fresh.post("/api/auth/setup", {**body, "password": "password1"}, token=None)
    assert weak.code == "weak_password" and weak.json["errors"][0]["field"] == "password"
    made = fresh.post("/api/auth/setup", body, token=None)
    assert made.json == {"success": True, "username": "Ada", "role": "admin"}
    cookie = made.headers["set-cookie"]
    assert re.match(r"rtapp_[0-9a-f]{12}=", cookie) and str(fresh.port) not in cookie[:18]
    assert "HttpOnly" in cookie and "SameSite=Lax" in cookie
    me = fresh.get("/api/auth/me", headers=cookie_of(made), token=None).json
    assert me["role"] == "admin" and me["username"] == "Ada" and me["setupNeeded"] is False
    again = fresh.post("/api/auth/setup", body, token=None)
    assert again.status == 409 and again.code == "already_set_up"


@pytest.mark.parametrize("token", ["x", "", "0" * 43])
def test_setup_without_the_link_is_refused(fresh: Server, token: str) -> None:
    body = {"token": token, "username": "eve", "password": PASSWORD}
    assert fresh.post("/api/auth/setup", body, token=None).status in (403, 422)
    assert fresh.get("/api/auth/me", token=None).json["setupNeeded"] is True


def test_setup_link_expires(fresh: Server) -> None:
    token = setup_token(fresh)
    change(fresh.database_url, "UPDATE access_tokens SET expires_at = 1 WHERE kind = 'setup'")
    body = {"token": token, "username": "eve", "password": PASSWORD}
    assert fresh.post("/api/auth/setup", body, token=None).code == "invalid_link"


def test_each_start_and_setup_link_print_a_new_one(fresh: Server) -> None:
    first = setup_token(fresh)
    printed = fresh.command("setup-link")
    assert printed.code == 0, printed
    assert printed.stdout.startswith(f"http://127.0.0.1:{fresh.port}/#setup=")
    second = printed.stdout.strip().split("#setup=")[1]
    fresh.stop()
    fresh.start()
    third = setup_token(fresh)
    assert len({first, second, third}) == 3
    body = {"token": second, "username": "ada", "password": PASSWORD}
    assert fresh.post("/api/auth/setup", body, token=None).status == 200
    assert fresh.command("setup-link").code == 2
    fresh.stop()
    fresh.start()
    assert not any("#setup=" in line for line in fresh.output)


@pytest.mark.sqlite
def test_a_setup_link_leads_to_no_server_that_has_ended(fresh: Server) -> None:
    """One that was killed leaves word of where it was."""
    fresh.kill()
    printed = fresh.command("setup-link")
    assert (printed.code, printed.stdout) == (2, "") and "Start the server first" in printed.stderr


def test_a_name_that_is_taken_uses_up_no_setup_link(fresh: Server) -> None:
    assert fresh.command("user", "add", "bob", text=PASSWORD).code == 0
    body = {"token": setup_token(fresh), "username": "Bob", "password": PASSWORD}
    assert fresh.post("/api/auth/setup", body, token=None).code == "user_exists"
    assert fresh.post("/api/auth/setup", {**body, "username": "ada"}, token=None).status == 200


def test_an_administrators_token_as_secrets_come(
    make_server: Callable[..., Server], tmp_path: Path
) -> None:
    """With a newline at the end, as `echo` writes it into a file; and one that no header brings."""
    server = make_server(env={"RTAPP_ADMIN_TOKEN": f"{ADMIN}\n"})
    assert server.get("/api/settings").status == 200
    for token in ("ş" * 30, "short"):
        env: dict[str, str | None] = {"RTAPP_ADMIN_TOKEN": token}
        refused = run_program("--port", "0", "--data", str(tmp_path), env=env)
        assert refused.code == 2 and "24 or more printable ASCII characters" in refused.stderr


def test_two_who_open_the_setup_link_at_once(fresh: Server) -> None:
    """One of them is the administrator; each may have hashed a password by then."""
    token = setup_token(fresh)
    bodies = [{"token": token, "username": f"ada{n}", "password": PASSWORD} for n in range(2)]
    statuses = at_once(fresh, *(posted("/api/auth/setup", body) for body in bodies))
    assert statuses[0] == 200 and statuses[1] in (403, 409)
    names = [{"username": body["username"], "password": PASSWORD} for body in bodies]
    answers = [fresh.post("/api/auth/login", name, token=None) for name in names]
    assert sorted(answer.status for answer in answers) == [200, 401]


def test_a_sign_in_link_opened_twice_at_once(home: Server) -> None:
    """Nor is it one for something else."""
    for secret, kind in (("link", "signin"), ("other", "setup")):
        change(
            home.database_url,
            "INSERT INTO access_tokens (token_hash, kind, name, grants, address, agent, created_at,"
            f" expires_at) VALUES ('{rtapp.sha256(secret)}', '{kind}', '', '{{}}', '', '', 1,"
            " 9999999999999)",
        )
    assert home.post("/api/auth/redeem", {"token": "other"}, token=None).code == "invalid_link"
    assert at_once(home, *[posted("/api/auth/redeem", {"token": "link"})] * 3) == [200, 403, 403]
    sessions = home.get("/api/auth/sessions", headers=log_in(home), token=None).json
    assert len(sessions) == 2


# Passwords and sessions


def test_login_and_roles(home: Server) -> None:
    ada, bob = log_in(home), log_in(home, "BOB")
    assert home.get("/api/users", headers=ada, token=None).status == 200
    assert home.get("/api/users", headers=bob, token=None).code == "forbidden"
    assert home.get("/api/stats", headers=bob, token=None).status == 200
    body = {"username": "bob", "password": "wrong password"}
    assert home.post("/api/auth/login", body, token=None).code == "wrong_login"
    body = {"username": "nobody", "password": PASSWORD}
    assert home.post("/api/auth/login", body, token=None).code == "wrong_login"
    assert home.post("/api/users", {"username": "Bob", "password": PASSWORD}).code == "user_exists"


def test_a_refused_sign_in_names_what_is_taken(home: Server) -> None:
    """RFC 9110, 15.5.2: every 401 does."""
    answer = home.post("/api/auth/login", {"username": "ada", "password": "x"}, token=None)
    assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")


def test_logout_ends_the_session(home: Server) -> None:
    bob = log_in(home, "bob")
    with home.stream(headers=bob, token=None) as stream:
        out = home.post("/api/auth/logout", {}, headers=bob, token=None)
        assert "Max-Age=0" in out.headers["set-cookie"]
        assert stream.ended() and stream.events[-1]["event"] == "disconnect"
    assert home.get("/api/stats", headers=bob, token=None).code == "unauthorized"


def test_a_changed_password_ends_the_other_sessions(home: Server) -> None:
    old, other = log_in(home), log_in(home)
    body = {"current": "no, wrong", "password": OTHER}
    assert home.post("/api/auth/password", body, headers=old, token=None).code == "wrong_login"
    with home.stream(headers=other, token=None) as stream:
        changed = home.post(
            "/api/auth/password",
            {"current": PASSWORD, "password": OTHER},
            headers=old,
            token=None,
        )
        assert stream.ended()
    new = cookie_of(changed)
    for cookie, status in ((old, 401), (other, 401), (new, 200)):
        assert home.get("/api/stats", headers=cookie, token=None).status == status
    log_in(home, password=OTHER)


def test_sessions_are_listed_and_ended(home: Server) -> None:
    first, second, third = log_in(home), log_in(home), log_in(home)
    listed = home.get("/api/auth/sessions", headers=first, token=None).json
    assert len(listed) == 3 and [row["current"] for row in listed].count(True) == 1
    assert all(row["ipAddress"] == "127.0.0.1" for row in listed)
    mine = home.get("/api/auth/sessions", headers=second, token=None).json
    chosen = next(row["id"] for row in mine if row["current"])
    url = f"/api/auth/sessions/{chosen}"
    bob = log_in(home, "bob")
    assert home.request("DELETE", url, headers=bob, token=None).code == "not_found"
    assert home.request("DELETE", url, headers=first, token=None).status == 200
    assert home.get("/api/stats", headers=second, token=None).status == 401
    ended = home.request("DELETE", "/api/auth/sessions", headers=first, token=None)
    assert ended.json["ended"] == 1
    assert home.get("/api/stats", headers=third, token=None).status == 401
    assert home.get("/api/stats", headers=first, token=None).status == 200
    assert home.get("/api/auth/sessions").code == "forbidden"  # a token has none


def test_users_are_changed_and_removed(home: Server) -> None:
    users = {row["username"]: row for row in home.get("/api/users").json}
    bob, ada = users["bob"]["id"], users["ada"]["id"]
    cookie = log_in(home, "bob")
    raised = home.request("PATCH", f"/api/users/{bob}", {"role": "admin"})
    assert raised.json["role"] == "admin"
    assert home.get("/api/stats", headers=cookie, token=None).status == 401
    assert home.get("/api/users", headers=log_in(home, "bob"), token=None).status == 200
    assert home.request("DELETE", f"/api/users/{ada}").status == 200
    assert home.request("DELETE", f"/api/users/{bob}").code == "last_admin"
    assert home.request("PATCH", f"/api/users/{bob}", {"role": "user"}).code == "last_admin"
    for wrong in ("0", "x", "9" * 30, "%C2%B2"):
        assert home.request("DELETE", f"/api/users/{wrong}").code == "not_found"


def test_commands_work_while_the_server_runs(server: Server) -> None:
    added = server.command("user", "add", "ada", "--role", "admin", text=PASSWORD + "\n")
    assert added.code == 0 and added.stdout == "added ada (admin)\n", added
    cookie = log_in(server)
    weak = server.command("user", "add", "eve", text="12345678\n")
    assert weak.code == 2 and len(weak.stderr.splitlines()) == 1
    assert "ada: admin" in server.command("user", "list").stdout
    with server.stream(headers=cookie, token=None) as stream:
        assert server.command("user", "passwd", "ada", text=OTHER + "\n").code == 0
        assert stream.ended()
    assert server.get("/api/stats", headers=cookie, token=None).status == 401
    cookie = log_in(server, password=OTHER)
    assert server.command("user", "remove", "ada").code == 0
    assert server.get("/api/stats", headers=cookie, token=None).status == 401
    assert server.command("user", "remove", "ada").code == 2


def test_a_token_that_can_be_used_nowhere_is_not_made(server: Server) -> None:
    for option, value in (
        *(("--channel", channel) for channel in ("", "news/* chat", "a" * 129)),
        *(("--days", days) for days in ("0", "nan", "inf", "-1")),
        *(("--name", name) for name in ("", "a b", "\u00fc", "a" * 65)),
    ):
        made = server.command("token", "create", "--name", "ci", option, value)
        assert (made.code, made.stdout) == (2, ""), (option, value)
        assert f"{option} " in made.stderr and "must be" in made.stderr
        assert len(made.stderr.splitlines()) == 1
    assert server.get("/api/tokens").json == []


def test_what_is_no_text_is_told_in_a_line(server: Server) -> None:
    said = "rtapp: What was given is not valid UTF-8.\n"
    # PostgreSQL's driver is asked for the first two, and says it in its own way.
    others = "rtapp: A text must not hold the character U+0000 or half of a surrogate pair.\n"
    for command in (
        ("user", "remove", "\udcff"),
        ("token", "revoke", "\udcff"),
        ("token", "create", "--name", "ci", "--channel", "\udcff"),
    ):
        code, _, told = server.command(*command)
        assert code == 2 and told in (said, others)
    command = (sys.executable, str(PROGRAM), "user", "add", "ada", "--data", str(server.data))
    done = subprocess.run(command, input=b"caf\xe9 latin-1\n", capture_output=True, check=False)
    assert (done.returncode, done.stderr.decode()) == (2, said)


def test_a_mark_before_a_piped_password_is_no_part_of_it(server: Server) -> None:
    """PowerShell writes one."""
    added = server.command("user", "add", "ada", text=f"\ufeff{PASSWORD}\n")
    assert added.code == 0, added
    log_in(server)


def test_attempts_are_slowed_and_forgotten(home: Server) -> None:
    body = {"username": "bob", "password": "wrong password"}
    assert home.post("/api/auth/login", body, token=None).code == "wrong_login"

    def refused() -> Answer | None:
        answer = home.post("/api/auth/login", body, token=None)
        return answer if answer.status == 429 else None

    answer = wait_for(refused, "too many attempts")  # on a busy machine it takes some more
    assert answer.code == "too_many_attempts" and int(answer.headers["retry-after"]) >= 1


def test_a_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    now, buckets = 1000.0, rtapp.Buckets()
    monkeypatch.setattr(time, "monotonic", lambda: now)

    def wait(*charges: tuple[str, int]) -> int:
        """The seconds to wait, or 0: of two tokens a second, and ten at once."""
        try:
            buckets.charge(*(rtapp.Charge(key, 2, 10, n) for key, n in charges))
        except rtapp.Problem as problem:
            return int(problem.headers["Retry-After"])
        return 0

    assert [wait(("a", 1)) for _ in range(11)] == [0] * 10 + [1]
    assert [wait(("a", 7)) for _ in range(9)] == [4] * 9  # a refusal spends nothing
    assert wait(("b", 3), ("a", 2)) == 2 and wait(("b", 10)) == 0  # nor of the other bucket
    now += 4
    assert wait(("a", 7)) == 0
    now += 1000
    assert wait(("a", 10)) == 0  # no more than ten are kept
    assert wait(("c", 25)) == 0  # more than it holds, for it was full: 15 are owed
    assert wait(("c", 1)) == 9 and wait(("c", 25)) == 13
    now += 12.4
    assert wait(("c", 25)) == 1
    now += 0.1
    assert wait(("c", 25)) == 0
    give_back = buckets.charge(rtapp.Charge("d", 2, 10, 10), rtapp.Charge("e", 2, 10, 4))
    give_back()
    assert wait(("d", 10), ("e", 10)) == 0


# Tokens


def test_api_tokens(home: Server) -> None:
    made = home.post("/api/tokens", {"name": "ci", "channels": ["news/*"]})
    assert made.status == 201
    secret, number = made.json["token"], made.json["id"]
    assert secret not in home.get("/api/tokens").body.decode()
    assert home.publish(1, "channel=news/a", token=secret).status == 200
    assert home.post("/api/broadcast", 1, token=secret).code == "forbidden"
    assert home.post("/api/broadcast?to=abc", 1, token=secret).code == "forbidden"
    assert home.post("/api/tokens", {"name": "ci"}).code == "token_exists"
    used = next(row for row in home.get("/api/tokens").json if row["name"] == "ci")
    assert used["usedAt"]
    with home.stream("channel=news/a", token=secret) as stream:
        assert home.request("DELETE", f"/api/tokens/{number}").json == {"success": True}
        assert stream.ended() and stream.events[-1]["event"] == "disconnect"
    assert home.get("/api/events", token=secret).code == "unauthorized"


def test_a_token_revoked_by_a_command_closes_its_streams(server: Server) -> None:
    secret = server.command("token", "create", "--name", "x").stdout.strip()
    with server.stream(token=secret) as stream:
        assert server.command("token", "revoke", "x").code == 0
        assert stream.ended()


def test_tickets_are_for_once(home: Server) -> None:
    made = home.post("/api/auth/ticket", {}, headers=log_in(home, "bob"), token=None).json
    assert made["expiresIn"] == 30
    query = f"ticket={made['ticket']}"
    assert home.request("HEAD", f"/api/events?{query}", token=None).status == 200  # only looks
    with home.stream(query, token=None) as stream:
        row = next(r for r in home.get("/api/connections").json)
        assert row["username"] == "bob" and row["clientId"] == stream.hello["clientId"]
    assert Stream(home.port, query, token=None).status == 401
    assert home.request("HEAD", f"/api/events?{query}", token=None).status == 401
    assert home.post("/api/auth/ticket", {}, token=None).code == "unauthorized"


def test_a_ticket_for_a_session(make_server: Callable[..., Server]) -> None:
    """Its stream is that client's, and no address names the secret; the ticket can't be made
    another client's."""
    home = make_server(access="open")
    session, other = ("a-secret-of-somebody-0123456789", "of-somebody-else-0123456789-abc")
    own, victim = (rtapp.client_id_of(secret) for secret in (session, other))

    def get() -> str:
        return str(home.post("/api/auth/ticket", {"session": session}, token=None).json["ticket"])

    with (
        home.stream(f"ticket={get()}", token=None) as stream,
        open_ws(home, f"ticket={get()}", token=None) as ws,
    ):
        for hello in (stream.hello, hear(ws)):
            assert hello["clientId"] == own and "session" not in hello
        home.publish("hi", f"to={own}")
        assert stream.values(1) == ["hi"] and hear(ws)["data"] == "hi"
    changed = get().replace(own, victim)
    assert victim in changed and Stream(home.port, f"ticket={changed}", token=None).status == 401
    # Nor by a credential beside it, which counts alone.
    for query in (f"ticket=x.{victim}", f"ticket={get()}"):
        with home.stream(query) as stream:
            assert stream.hello["clientId"] not in (own, victim)
    assert home.post("/api/auth/ticket", {"session": "short"}, token=None).status == 422
    assert home.post("/api/auth/ticket", b"", headers={"Content-Type": ""}).status == 200
    described = home.get("/api/openapi.json").json["paths"]["/api/auth/ticket"]["post"]
    assert described["requestBody"]["required"] is False


@pytest.mark.waits
def test_a_ticket_stands_for_whoever_got_it(make_server: Callable[..., Server]) -> None:
    """Under the same name, for the same channels, and as long."""
    home = with_users(make_server(jwt_algorithm="HS256", jwt_key=JWT_KEY))
    made = home.post("/api/tokens", {"name": "bot", "channels": ["news"]}).json["token"]
    cookie = log_in(home, "bob")
    soon = signed(channels={"subscribe": ["news"]}, exp=time.time() + 4)
    for name, token, headers in (
        ("jwt:carol", soon, None),
        ("token:bot", made, None),
        ("bob", None, cookie),
        ("admin-token", ADMIN, None),
    ):
        own = home.post("/api/auth/ticket", {}, token=token, headers=headers).json["ticket"]
        is_narrow = name in ("token:bot", "jwt:carol")
        channel = "news" if is_narrow else "other"
        with home.stream(f"channel={channel}&ticket={own}", token=None) as stream:
            rows = home.get(f"/api/connections?q={stream.hello['clientId']}").json
            assert [row["username"] for row in rows] == [name]
            home.publish("to all")
            home.publish("there", f"channel={channel}")
            assert stream.values(1) == ["there" if is_narrow else "to all"]
            if name == "jwt:carol":
                assert stream.ended() and "expired" in stream.events[-1]["data"]
    other = home.post("/api/auth/ticket", {}, token=made).json["ticket"]
    assert Stream(home.port, f"channel=other&ticket={other}", token=None).status == 403


def test_a_ticket_used_twice_at_once(home: Server) -> None:
    ticket = home.post("/api/auth/ticket", {}).json["ticket"]
    request = f"GET /api/events?ticket={ticket} HTTP/1.1\r\nHost: localhost\r\n\r\n"
    assert at_once(home, *[request] * 3) == [200, 401, 401]


def test_a_ticket_ends_with_what_it_was_got_with(home: Server) -> None:
    by_call, by_command = (
        home.post("/api/tokens", {"name": name}).json["token"] for name in ("call", "command")
    )
    cookie = log_in(home, "bob")
    tickets = [
        home.post("/api/auth/ticket", {}, token=token, headers=headers).json["ticket"]
        for token, headers in ((by_call, None), (by_command, None), (None, cookie))
    ]
    assert home.request("DELETE", "/api/tokens/call").status == 200
    assert home.command("token", "revoke", "command").code == 0
    assert home.post("/api/auth/logout", {}, token=None, headers=cookie).status == 200
    for ticket in tickets:
        assert Stream(home.port, f"ticket={ticket}", token=None).status == 401


def test_two_administrators_who_remove_each_other_at_once(server: Server) -> None:
    """One of them stays. Asked at the same moment, so that both find another one there."""
    for name in ("ada", "bob"):
        body = {"username": name, "password": PASSWORD, "role": "admin"}
        assert server.post("/api/users", body).status == 201
    paths = [f"/api/users/{row['id']}" for row in server.get("/api/users").json]
    head = f"HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {ADMIN}\r\n\r\n"
    assert at_once(server, *(f"DELETE {path} {head}" for path in paths)) == [200, 409]


def signed(key: str = JWT_KEY, algorithm: str = "HS256", **claims: Any) -> str:
    base = {"sub": "carol", "exp": time.time() + 60}
    return jwt.encode({**base, **claims}, key, algorithm)


def signed_text(claims: str, head: str = '{"alg":"HS256","typ":"JWT"}') -> str:
    """A token of any text."""
    parts = [base64.urlsafe_b64encode(text.encode()).rstrip(b"=") for text in (head, claims)]
    mac = hmac.digest(JWT_KEY.encode(), b".".join(parts), "sha256")
    return b".".join([*parts, base64.urlsafe_b64encode(mac).rstrip(b"=")]).decode()


def test_json_web_tokens(make_server: Callable[..., Server]) -> None:
    server = make_server(jwt_algorithm="HS256", jwt_key=JWT_KEY, jwt_audience="rtapp")
    channels = {"subscribe": ["a", "b/*"], "publish": ["a"]}
    good = signed(aud="rtapp", channels=channels)
    with server.stream("channel=a&channel=b/1", token=good) as stream:
        server.publish("global")
        assert server.publish(1, "channel=a", token=good).status == 200
        assert stream.values(1) == [1]
    assert server.post("/api/broadcast?channel=b/1", 1, token=good).code == "forbidden"
    assert server.get("/api/events?channel=c", token=good).code == "forbidden"
    assert server.get("/api/logs", token=good).code == "forbidden"
    for bad in (
        signed(channels=channels),  # no audience
        signed(aud="other"),
        signed("another secret of at least 32 bytes!!", aud="rtapp"),
        signed(aud="rtapp", exp=time.time() - 10),
        signed(aud="rtapp", exp=None),
        signed(aud="rtapp", sub=None),
        signed(aud="rtapp", channels="all"),
        jwt.encode({"sub": "eve", "exp": time.time() + 60, "aud": "rtapp"}, None, "none"),
        good[:-4] + "AAAA",
        "a.b.c",
    ):
        assert server.get("/api/events", token=bad).code == "unauthorized"


@pytest.fixture(scope="module")
def claimed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    """Two servers that take JSON Web Tokens, with and without an audience."""
    folder, signing = tmp_path_factory.mktemp("jwt"), {"jwt_algorithm": "HS256", "jwt_key": JWT_KEY}
    with (
        Server(folder / "a", jwt_audience="rtapp", **signing) as strict,
        Server(folder / "b", **signing) as lax,
    ):
        yield [strict, lax]


ODD = ["9999999999", "1e10", "", [9999999999], {"at": 9999999999}, None, True, False]
ODD += [10**30, 1e300, float("inf"), float("nan"), "HUGE"]


@pytest.mark.parametrize(
    ("claim", "values"),
    [
        ("exp", [*ODD, 10**13]),
        ("nbf", ODD),
        ("iat", ODD),
        ("sub", ["", None, 7, True, ["carol"], {"name": "carol"}, "a\0", "a\n", "a\ud83d"]),
        ("aud", [None, 7, True, [7], ["rtapp", 7], {"rtapp": 1}]),
        ("channels", [None, 7, ["a"], {"subscribe": "a"}, {"subscribe": None}]),
        ("channels", [{"publish": [item]} for item in (7, None, "", "\ud83d")]),
        ("jti", [7, None, ["x"]]),
    ],
)
def test_claims_of_wrong_types(claimed: list[Server], claim: str, values: list[Any]) -> None:
    for server in claimed:
        base = {"aud": "rtapp", "sub": "carol", "exp": time.time() + 60}
        base["channels"] = {"subscribe": ["*"]}
        for value in values:
            text = json.dumps({**base, claim: value}).replace('"HUGE"', "1" * 5_000)
            token = signed_text(text)
            answer = Stream(server.port, token=token)
            assert answer.status == 401, (value, answer.head)


@pytest.mark.parametrize("text", ["[]", "7", '"x"', "null", "", "{", "[" * 40_000, "\xff"])
def test_payloads_that_are_no_claims(claimed: list[Server], text: str) -> None:
    assert claimed[0].get("/api/stats", token=signed_text(text)).code == "unauthorized"
    assert claimed[0].get("/api/stats", token=signed_text("{}", text)).code == "unauthorized"


def test_claims_of_right_types(claimed: list[Server]) -> None:
    now = time.time()
    for more in (
        {"exp": int(now) + 60},
        {"exp": 9_999_999_999},
        {"nbf": now - 5, "iat": int(now) - 5, "jti": "x", "iss": "y"},
        {"aud": ["other", "rtapp"], "nbf": 0},
    ):
        with claimed[0].stream(
            token=signed(**{"aud": "rtapp", "channels": {"subscribe": ["*"]}, **more})
        ):
            pass
    answer = claimed[0].get("/api/stats", token=signed(aud="rtapp", nbf=now + 600))
    assert answer.code == "unauthorized"


def test_a_clock_that_is_ahead_spoils_no_token(claimed: list[Server]) -> None:
    """When it was issued says nothing of its validity, and a little leeway is for clocks (RFC 7519,
    4.1.5 and 4.1.6)."""
    now = time.time()
    for more in ({"iat": now + 5}, {"nbf": now + 5}, {"iat": now + 5, "nbf": now + 5}):
        assert claimed[0].get("/api/stats", token=signed(aud="rtapp", **more)).status == 200


@pytest.mark.parametrize("odd", ["\\ud800", "\\u0000", "\\u001b[2J", "\\n"])
def test_what_a_token_says_of_itself_spoils_nothing(claimed: list[Server], odd: str) -> None:
    """What is not signed yet is told to its sender, and to the administrator, as text."""
    server = claimed[1]
    token = signed_text("{}", f'{{"alg":"HS256","crit":["{odd}"]}}')
    assert server.get("/api/stats", token=token).code == "unauthorized"
    with open_ws(server, "EIO=4&transport=websocket", "/socket.io/", token=None) as ws:
        ws.send("40" + json.dumps({"token": token}))
        assert [str(ws.recv(PATIENCE))[:2] for _ in range(2)] == ["0{", "44"]
    assert server.request("DELETE", "/api/logs").status == 200
    assert server.get("/api/logs").json[0]["message"] == "Event log cleared"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"exp": 1}, "Signature has expired"),
        ({"nbf": 9_999_999_999}, "not yet valid"),
        ({"aud": "other"}, "Audience doesn't match"),
        ({"exp": None}, '"exp" claim'),
        ({"key": "another secret of at least 32 bytes!!"}, "Signature verification failed"),
        ({"channels": {"publish": None}}, "$.channels"),
    ],
)
def test_why_a_token_is_not_valid_is_said(
    claimed: list[Server], more: dict[str, Any], said: str
) -> None:
    token = signed(**{"aud": "rtapp", **more})
    answer = claimed[0].get("/api/stats", token=token)
    assert answer.code == "unauthorized" and said in answer.json["detail"]


def test_a_server_that_takes_no_tokens_says_so(home: Server) -> None:
    assert "jwt_key" in home.get("/api/stats", token=signed()).json["detail"]


def test_a_public_key_is_no_shared_secret(make_server: Callable[..., Server]) -> None:
    """The algorithm is the setting's: a token signed with the public key as HS256 is refused."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    server = make_server(jwt_algorithm="RS256", env={"RTAPP_JWT_KEY": pem.decode()})
    claims = {"sub": "carol", "exp": time.time() + 60, "channels": {"subscribe": ["*"]}}
    with server.stream(token=jwt.encode(claims, key, "RS256")) as stream:
        server.publish("to all")
        assert stream.values(1) == ["to all"]
    import base64
    import hashlib
    import hmac

    parts = [{"alg": "HS256", "typ": "JWT"}, claims]
    text = ".".join(
        base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts
    )
    mac = hmac.new(pem, text.encode(), hashlib.sha256).digest()
    forged = f"{text}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"
    assert server.get("/api/events", token=forged).code == "unauthorized"


@pytest.mark.waits
def test_a_stream_ends_with_its_token(make_server: Callable[..., Server]) -> None:
    server = make_server(jwt_algorithm="HS256", jwt_key=JWT_KEY)
    token = signed(exp=time.time() + 2, channels={"subscribe": ["*"]})
    with server.stream(token=token) as stream:
        assert stream.ended()
        assert "expired" in stream.events[-1]["data"]


# The table of routes

ARGUMENTS = {
    "client_id": "nobody",
    "key": "history_hours",
    "session_id": "0" * 16,
    "user_id": "999",
    "token_id": "nothing",
    "path": "css/base.css",
    "name": "socket.io.js",
    "room_id": "nowhere",
    "number": "1",
}
# Who may call the routes of each role, and who also may with access=open. The desktop's owner is
# nobody where there is no desktop.
ADMINS = {"admin", "admin token", "environment's token"}
HEARS = {"reader", "user", "jwt", *ADMINS}
ALLOWED = {
    "public": {"anonymous", "owner", "guest", "writer", "metrics token", *HEARS},
    "room": {"anonymous", "owner", "guest", "writer", "metrics token", *HEARS},
    "stream": {"guest", *HEARS},
    "subscribe": HEARS,
    "publish": {"writer", "user", "jwt", *ADMINS},
    "publish or emit": {"writer", "user", "jwt", *ADMINS},
    "guest": {"guest", *HEARS},
    "user": HEARS,
    "session": {"writer", "metrics token", *HEARS},
    "metrics": {"metrics token", *ADMINS},
    "admin": ADMINS,
}
STRANGERS = {"anonymous", "owner", "guest"}
OPEN = dict.fromkeys(("stream", "subscribe", "publish", "publish or emit"), STRANGERS)


@pytest.mark.waits
@pytest.mark.parametrize("access", ["private", "open"])
def test_every_route_as_each_kind(make_server: Callable[..., Server], access: str) -> None:
    """Who isn't allowed is answered 401 or 403, everybody else something else; a route whose
    role is not in the table above fails."""
    assert ALLOWED.keys() == {row.role for row in rtapp.ROUTES}
    assert rtapp.ROLES.keys() - ALLOWED.keys() == {"emit"}  # asked of each message
    metrics = "a-token-of-24-characters"
    signing = {"jwt_algorithm": "HS256", "jwt_key": JWT_KEY, "metrics_token": metrics}
    home = with_users(make_server(access=access, rate_limit=0, **signing))
    room = home.post("/api/video/rooms", {"name": "theirs"}).json["roomId"]
    guest = {"X-Session": "session-of-a-guest-0123456789"}
    joined = home.post(f"/api/video/rooms/{room}/join", {"session": guest["X-Session"]}, token=None)
    assert joined.status == 200, joined
    (own,) = rows_of(home.database_url, "SELECT value FROM meta WHERE key = 'id'")
    change(
        home.database_url,
        "INSERT INTO access_tokens (token_hash, kind, name, grants, address, agent, created_at,"
        f" expires_at) VALUES ('{rtapp.sha256('owner')}', 'session', 'this computer',"
        ' \'{"scopes":["subscribe","publish","admin"]}\', \'\', \'\', 1, 9999999999999)',
    )
    headers = {
        "anonymous": {},
        "owner": {"Cookie": f"rtapp_{own[0]}=owner"},
        "guest": guest,
        "user": log_in(home, "bob"),
        "admin": log_in(home),
    }
    everything = {"subscribe": ["*"], "publish": ["*"]}
    tokens = {
        "metrics token": metrics,
        "jwt": signed(channels=everything),
        "environment's token": ADMIN,
    }
    scopes = {"reader": "subscribe", "writer": "publish", "admin token": "admin"}
    for name, scope in scopes.items():
        body = {"name": scope, "scopes": [scope]}
        tokens[name] = home.post("/api/tokens", body).json["token"]

    def caller(name: str) -> dict[str, Any]:
        """Signed in again when a route has ended the session."""
        if name in tokens:
            return {"token": tokens[name]}
        if name in ("user", "admin"):
            me = home.get("/api/auth/me", headers=headers[name], token=None).json
            if not me["authenticated"]:
                headers[name] = log_in(home, "bob" if name == "user" else "ada")
        return {"token": None, "headers": headers[name]}

    for row in rtapp.ROUTES:
        path = re.sub(r"<(\w+)(?::\w+)?>", lambda m: ARGUMENTS[m[1]], row.path)
        method = "HEAD" if row.path == "/api/events" else row.method
        body = {} if row.method in ("POST", "PATCH") else None
        allowed = ALLOWED[row.role] | (OPEN.get(row.role, set()) if access == "open" else set())
        for name in (*headers, *tokens):
            answer = home.request(method, path, body, **caller(name))
            refused = answer.status in (401, 403)
            known = answer.status == 403 and (
                row.path == "/api/auth/setup"
                or row.role == "session"
                or (row.role == "room" and answer.code == "not_in_room")
            )
            assert refused != (name in allowed) or known, (row.method, row.path, name, answer)
            assert answer.status != 500, (row.method, row.path, name, answer)


def test_open_access_opens_no_administration(make_server: Callable[..., Server]) -> None:
    server = make_server(access="open")
    with server.stream(token=None) as stream:
        server.publish("hello", token=None)
        assert stream.values(1) == ["hello"]
    for path in ("/api/connections", "/api/logs", "/api/settings", "/api/users", "/api/messages"):
        assert server.get(path, token=None).code == "unauthorized"


# Limits, proxies, hosts


def test_requests_of_an_address_are_limited(make_server: Callable[..., Server]) -> None:
    server = make_server(rate_limit=5, access="open")
    answers = [server.post("/api/broadcast", 1, token=None) for _ in range(7)]
    assert [answer.status for answer in answers[:5]] == [200] * 5
    assert answers[-1].code == "rate_limited" and int(answers[-1].headers["retry-after"]) >= 1
    assert server.publish(1).status == 200  # an administrator's token is not limited
    assert server.get("/api/events", token="wrong").code == "rate_limited"  # nor free guessing
    with server.stream(token=None):
        pass


def from_address(number: int) -> dict[str, str]:
    """A header that a trusted proxy adds for a client of its own."""
    return {"X-Forwarded-For": f"203.0.113.{number}"}


def account_server(make_server: Callable[..., Server], **settings: Any) -> Server:
    """A server behind a proxy whose users come with JSON Web Tokens."""
    signing = {"jwt_algorithm": "HS256", "jwt_key": JWT_KEY}
    return make_server(trusted_proxies="127.0.0.1", **signing, **settings)


def test_requests_of_an_account_are_limited(make_server: Callable[..., Server]) -> None:
    server = account_server(make_server, rate_limit=5)
    everything = {"publish": ["*"]}
    carol, dave = signed(channels=everything), signed(sub="dave", channels=everything)

    def ask(number: int, token: str) -> Answer:
        return server.post("/api/broadcast", 1, token=token, headers=from_address(number))

    answers = [ask(number, carol) for number in range(7)]
    assert [answer.status for answer in answers] == [200] * 5 + [429] * 2
    assert ask(1, dave).status == 200  # neither its address nor another account suffers


def test_messages_are_limited_whichever_way_they_come(make_server: Callable[..., Server]) -> None:
    server = make_server(publish_limit=6, access="open")
    server.publish_lines([1, 2, 3], token=None)
    with open_ws(server, token=None) as ws:
        for ref in range(3, 7):
            say(ws, type="publish", data=ref, ref=ref)
        frames = [hear(ws) for _ in range(8)]
    assert [f["ref"] for f in frames if f["type"] == "ack"] == [3, 4, 5]
    (error,) = (f for f in frames if f["type"] == "error")
    assert (error["code"], error["ref"]) == ("rate_limited", 6)
    assert server.post("/api/broadcast", b"7", headers=NDJSON, token=None).code == "rate_limited"
    assert server.post("/api/broadcast?volatile=1", 8, token=None).code == "rate_limited"
    assert server.publish(9).status == 200  # an administrator's token is not limited


@pytest.mark.waits
@pytest.mark.parametrize("query", ["", "volatile=1"])
def test_a_batch_is_counted_whole_or_not_at_all(
    make_server: Callable[..., Server], query: str
) -> None:
    server = make_server(publish_limit=600, access="open")

    def send(count: int, last: bytes = b"1") -> Answer:
        body = b"1\n" * (count - 1) + last
        return server.post(f"/api/broadcast?{query}", body, headers=NDJSON, token=None)

    assert send(600, b"{").code == "malformed_json"  # nothing of it was taken
    assert send(590).status == 200
    refused = [send(60) for _ in range(5)]  # five seconds early, or thirty if these counted
    assert {answer.code for answer in refused} == {"rate_limited"}
    wait = int(refused[-1].headers["retry-after"])
    assert 1 <= wait <= 5 and f"{wait} seconds" in refused[-1].json["detail"]
    time.sleep(wait)
    assert send(60).status == 200


@pytest.mark.waits
def test_a_batch_of_more_than_a_minutes_messages(make_server: Callable[..., Server]) -> None:
    """It is taken when nothing else was for a minute, and what it is over is owed."""
    server = make_server(publish_limit=1_200, access="open")
    body = b"1\n" * 1_300  # five seconds more than a minute's
    assert server.post("/api/broadcast", body, headers=NDJSON, token=None).status == 200
    answer = server.post("/api/broadcast", 1, token=None)
    assert answer.code == "rate_limited" and 1 <= int(answer.headers["retry-after"]) <= 6
    time.sleep(int(answer.headers["retry-after"]))
    assert server.post("/api/broadcast", 1, token=None).status == 200
    again = server.post("/api/broadcast", body, headers=NDJSON, token=None)
    assert again.code == "rate_limited" and 30 < int(again.headers["retry-after"]) <= 61


def test_an_account_is_counted_with_its_address_or_not_at_all(
    make_server: Callable[..., Server],
) -> None:
    server = account_server(make_server, publish_limit=10)
    everything = {"publish": ["*"]}
    carol, dave = signed(channels=everything), signed(sub="dave", channels=everything)

    def send(address: int, token: str, count: int) -> int:
        headers = {**NDJSON, **from_address(address)}
        return server.post("/api/broadcast", b"1\n" * count, token=token, headers=headers).status

    assert send(1, carol, 8) == 200
    assert send(2, carol, 8) == 429  # the account's, which costs the address nothing
    assert send(2, dave, 10) == 200


def test_streams_of_an_account_are_limited(make_server: Callable[..., Server]) -> None:
    server = account_server(make_server, max_connections_per_account=1)
    everything = {"subscribe": ["*"], "publish": ["*"]}
    carol, dave = signed(channels=everything), signed(sub="dave", channels=everything)
    with server.stream(token=carol, headers=from_address(1)):
        full = server.get("/api/events", token=carol, headers=from_address(2))
        assert full.code == "too_many_connections"
        with server.stream(token=dave):
            pass
        opened = server.get(POLLING, token=None)
        session = f"{POLLING}&sid={json.loads(opened.body[1:])['sid']}"
        auth = json.dumps({"token": carol})
        assert server.post(session, f"40{auth}".encode(), token=None).status == 200
        assert server.get(session, token=None).body.startswith(b"44")


def test_a_proxy_counts_only_when_trusted(make_server: Callable[..., Server]) -> None:
    forwarded = {"X-Forwarded-For": "6.6.6.6, 203.0.113.9", "X-Forwarded-Proto": "https"}
    server = make_server()
    with server.stream(headers=forwarded):
        assert server.get("/api/connections").json[0]["ipAddress"] == "127.0.0.1"
    assert "strict-transport-security" not in server.get("/", headers=forwarded).headers
    wait_for(lambda: any("trusted_proxies" in line for line in server.output), "a warning")
    trusting = make_server(trusted_proxies="127.0.0.0/8, 10.0.0.1", max_connections_per_address=1)
    with trusting.stream(headers=forwarded) as stream:
        assert stream.status == 200
        assert trusting.get("/api/connections").json[0]["ipAddress"] == "203.0.113.9"
        full = trusting.get("/api/events", headers=forwarded)
        assert full.code == "too_many_connections"


def test_streams_of_an_ipv6_network_count_as_one_address(
    make_server: Callable[..., Server],
) -> None:
    """Whoever has one address of a network of 64 bits has all of them (RFC 4291, 2.5.1)."""
    server = make_server(trusted_proxies="127.0.0.1", max_connections_per_address=1)
    with server.stream(headers={"X-Forwarded-For": "2001:db8:0:1::1"}):
        for address, is_full in (("2001:db8:0:1:ffff::2", True), ("2001:db8:0:2::1", False)):
            answer = server.raw(
                get_request("/api/connections", {"X-Forwarded-For": address, "Connection": "close"})
            )
            assert answer.startswith(b"HTTP/1.1 200 "), "requests are not streams"
            stream = Stream(server.port, headers={"X-Forwarded-For": address})
            assert stream.status == (503 if is_full else 200)


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that trusts its proxies."""
    folder = tmp_path_factory.mktemp("behind") / "data"
    with Server(folder, trusted_proxies="127.0.0.1, 10.0.0.0/8, 2001:DB8:1::/48") as server:
        yield server


@pytest.mark.parametrize(
    ("forwarded", "address"),
    [
        ("203.0.113.9:41001", "203.0.113.9"),
        ("203.0.113.9:_port", "203.0.113.9"),
        ('"203.0.113.9"', "203.0.113.9"),
        (" 203.0.113.9 ,", "203.0.113.9"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("[::FFFF:203.0.113.9]:80", "203.0.113.9"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ('"[2001:db8::1]:443"', "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("6.6.6.6, 203.0.113.9:1", "203.0.113.9"),
        ("6.6.6.6, 203.0.113.9, 10.0.0.1:5, [2001:db8:1::5]:80", "203.0.113.9"),
        ("10.0.0.2, 10.0.0.1", "10.0.0.2"),
        # What is no address is the proxy's that wrote it.
        ("unknown", "127.0.0.1"),
        ("_hidden", "127.0.0.1"),
        ("6.6.6.6, unknown", "127.0.0.1"),
        ("6.6.6.6, _hidden, 10.0.0.1", "10.0.0.1"),
        ("unknown, 203.0.113.9", "203.0.113.9"),
        ("proxy.example.org", "127.0.0.1"),
        ("203.0.113.999", "127.0.0.1"),
        ("", "127.0.0.1"),
    ],
)
def test_who_a_proxy_speaks_for(behind: Server, forwarded: str, address: str) -> None:
    with behind.stream(headers={"X-Forwarded-For": forwarded}) as stream:
        rows = behind.get(f"/api/connections?q={stream.hello['clientId']}").json
        assert [row["ipAddress"] for row in rows] == [address]


@pytest.mark.parametrize(
    ("forwarded", "scheme"),
    [
        ("https", "https"),
        ("HTTPS", "https"),
        ("wss", "https"),
        ("Wss ", "https"),
        ('"https"', "https"),
        ("https,http", "https"),
        ("https, https", "https"),
        ("http, https", "http"),
        ("http", "http"),
        ("ws", "http"),
        ("httpsx", "http"),
        ("", "http"),
    ],
)
def test_how_a_proxy_was_asked(behind: Server, forwarded: str, scheme: str) -> None:
    """As `for` the proxy's own client, which is the first of several."""
    for more in ({}, {"X-Forwarded-For": "203.0.113.9"}):
        headers = {"X-Forwarded-Proto": forwarded, **more}
        room = behind.post("/api/video/rooms", {"name": "x"}, headers=headers)
        assert room.json["joinUrl"].startswith(f"{scheme}://127.0.0.1:{behind.port}/"), room


def test_ports_of_a_proxys_client_are_one_address(make_server: Callable[..., Server]) -> None:
    server = make_server(trusted_proxies="127.0.0.1", max_connections_per_address=1)
    one, two = ({"X-Forwarded-For": f"203.0.113.9:4100{n}"} for n in (1, 2))
    with server.stream(headers=one):
        assert Stream(server.port, headers=two).status == 503


def statuses(server: Server, headers: dict[str, str]) -> set[int]:
    """What a page is answered on each guarded way in."""
    client = next(CLIENTS)  # attempts of an address and of a name are slowed down
    headers = {"X-Forwarded-For": f"203.0.113.{client}", **headers}
    wrong = {"username": f"ada{client}", "password": "wrong password"}
    login = server.post("/api/auth/login", wrong, token=None, headers=headers)
    if login.status == 403:
        assert login.code == "foreign_origin" and "public_url" in login.json["detail"]
    found = {200 if login.code == "wrong_login" else login.status}
    sent = {**headers}
    host = sent.pop("Host", f"127.0.0.1:{server.port}")
    for path, more in (("/api/events", {}), (POLLING, {}), ("/ws", UPGRADE)):
        with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as sock:
            sock.sendall(get_request(path, {**sent, **more}, host=host))
            status = int(sock.recv(100).split()[1])
            found.add(200 if status == 101 else status)
    return found


CLIENTS = itertools.count()
PUBLIC = "https://chat.example.org"
TLS = {"X-Forwarded-Proto": "https"}
APP = {**TLS, "Origin": "https://app.example.org"}
TRAEFIK = {  # what it tells in TLS, `wss` of a WebSocket
    "Host": "app.example.org",
    "Origin": "https://app.example.org",
    "X-Forwarded-Host": "app.example.org",
    "X-Forwarded-Port": "443",
    "X-Forwarded-Server": "edge-1",
    "X-Real-Ip": "203.0.113.250",
}


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that is known by other names than its proxies ask it by."""
    settings = {"public_url": f"{PUBLIC}/sub", "trusted_proxies": "127.0.0.1", "rate_limit": 0}
    folder = tmp_path_factory.mktemp("proxied") / "data"
    with Server(folder, allowed_hosts="app.example.org", **settings) as server:
        yield server


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({**TLS, "Origin": PUBLIC}, 200),
        ({"Origin": "HTTPS://Chat.Example.org:443"}, 200),
        ({"Origin": PUBLIC, "Host": "chat.example.org:443"}, 200),
        ({**TLS, "Origin": PUBLIC, "Host": "chat.example.org:443"}, 200),
        ({**APP, "Host": "app.example.org"}, 200),
        ({**APP, "Host": "app.example.org:443"}, 200),
        ({**APP, "X-Forwarded-Host": "App.Example.org"}, 200),
        ({**APP, "X-Forwarded-Host": "app.example.org, 127.0.0.1:8000"}, 200),
        ({**APP, "X-Forwarded-Host": "app.example.org", "X-Forwarded-Port": "443"}, 200),
        (
            {
                **TLS,
                "Origin": "https://app.example.org:8443",
                "X-Forwarded-Host": "app.example.org",
                "X-Forwarded-Port": "8443",
            },
            200,
        ),
        (
            {
                **TLS,
                "Origin": "https://app.example.org:8443",
                "X-Forwarded-Host": "app.example.org:8443",
                "X-Forwarded-Port": "443",
            },
            200,
        ),
        ({**TRAEFIK, "X-Forwarded-Proto": "https"}, 200),
        ({**TRAEFIK, "X-Forwarded-Proto": "wss"}, 200),
        ({**TRAEFIK, "X-Forwarded-Proto": "wss", "Origin": "https://evil.example"}, 403),
        ({**TLS, "Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin"}, 200),
        ({**TLS, "Origin": "https://evil.example"}, 403),
        ({**TLS, "Origin": "null"}, 403),
        ({**TLS, "Origin": "http://chat.example.org"}, 403),
        ({**TLS, "Origin": f"{PUBLIC}:8443"}, 403),
        ({**TLS, "Origin": "https://chat.example.org.evil.example"}, 403),
        ({**TLS, "Origin": PUBLIC, "Sec-Fetch-Site": "same-site"}, 403),
        ({**TLS, "Origin": PUBLIC, "Sec-Fetch-Site": "cross-site"}, 403),
        ({**APP, "Origin": "http://app.example.org", "X-Forwarded-Host": "app.example.org"}, 403),
        ({**APP, "X-Forwarded-Host": "app.example.org:8443"}, 403),
        ({**APP, "X-Forwarded-Host": "app.example.org", "X-Forwarded-Port": "8443x"}, 200),
        # A name that leads here by DNS rebinding is nobody's, whoever passes it on.
        ({"Origin": "http://evil.example", "X-Forwarded-Host": "evil.example"}, 403),
        ({**APP, "X-Forwarded-Host": ", ".join(["x"] * 5_000)}, 403),
    ],
    ids=lambda value: str(value)[:120],
)
def test_whose_page_it_is(proxied: Server, headers: dict[str, str], status: int) -> None:
    assert statuses(proxied, headers) == {status}


def test_an_unknown_proxy_names_no_host(shared: Server) -> None:
    headers = {**APP, "X-Forwarded-Host": "app.example.org", "X-Forwarded-Port": "443"}
    assert statuses(shared, headers) == {403}


def test_what_a_proxy_passes_on_is_not_from_here(behind: Server) -> None:
    for name in ("X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-For", "Via", "X-Real-IP"):
        body = {"key": "public_url", "value": "https://chat.example.org"}
        answer = behind.post("/api/settings", body, headers={name: "http"})
        assert answer.code == "only_from_here", name


@pytest.mark.parametrize("other", ["a/b=c", "foo[bar]=1", '{"a":1}', "\xfc=1", "flag", "=", 'x="'])
def test_other_programs_cookies_do_no_harm(shared: Server, other: str) -> None:
    """Cookies ignore the port, so those of every other program of the machine come along."""
    own = log_in(shared)["Cookie"]
    for cookie in (f"{other}; {own}", f"{own}; {other}"):
        assert shared.get("/api/stats", headers={"Cookie": cookie}, token=None).status == 200
    assert shared.get("/api/stats", headers={"Cookie": other}, token=None).status == 401


@pytest.mark.sqlite
def test_a_cookie_is_its_databases(home: Server, tmp_path: Path) -> None:
    """A browser sends every server of a host the same cookies, whatever their ports."""
    ours = log_in(home)
    with Server(tmp_path / "other") as other:
        theirs = log_in(with_users(other))
        names = [cookie["Cookie"].partition("=")[0] for cookie in (ours, theirs)]
        assert names[0] != names[1]
        both = {"Cookie": "; ".join(cookie["Cookie"] for cookie in (ours, theirs))}
        for server in (home, other):
            assert server.get("/api/stats", headers=both, token=None).status == 200
        other.post("/api/auth/logout", {}, headers=both, token=None)
        assert other.get("/api/stats", headers=both, token=None).status == 401
    assert home.get("/api/stats", headers=both, token=None).status == 200
    old = {"Cookie": ours["Cookie"].replace(names[0], f"rtapp_{home.port}")}
    assert home.get("/api/stats", headers=old, token=None).status == 401
    copy = tmp_path / "copy.db"
    assert home.command("backup", str(copy)).code == 0
    home.stop()
    home.port = 0
    home.start()
    assert home.get("/api/stats", headers=ours, token=None).status == 200  # on another port too
    with Server(tmp_path / "copied") as copied:
        copied.stop()
        assert copied.command("restore", str(copy)).code == 0
        copied.start()
        assert log_in(copied)["Cookie"].partition("=")[0] not in names
        assert copied.get("/api/stats", headers=ours, token=None).status == 401


def test_cookies_are_secure_over_tls(
    make_server: Callable[..., Server], certificate: Certificate
) -> None:
    server = make_server(env={"RTAPP_ADMIN_TOKEN": None}, **certificate.settings)
    body = {"token": setup_token(server), "username": "ada", "password": PASSWORD}
    made = server.post("/api/auth/setup", body, token=None, tls=certificate.trusting)
    assert "; Secure" in made.headers["set-cookie"]
    assert "strict-transport-security" not in made.headers  # it would bind the host's other ports


def test_https_is_demanded_only_when_asked_for(
    make_server: Callable[..., Server], certificate: Certificate
) -> None:
    name = "strict-transport-security"
    server = make_server(hsts=3600, **certificate.settings)
    for path in ("/", "/healthz", "/api/auth/me"):
        by_tls = server.get(path, tls=certificate.trusting)
        assert by_tls.headers[name] == "max-age=3600"
        assert name not in server.get(path).headers  # RFC 6797, 7.2
    assert server.post("/api/settings", {"key": "hsts", "value": 0}).code == "setting_fixed"
    proxied = make_server(trusted_proxies="127.0.0.1")
    assert name not in proxied.get("/", headers=TLS).headers
    assert proxied.post("/api/settings", {"key": "hsts", "value": 60}).status == 200
    assert proxied.get("/", headers=TLS).headers[name] == "max-age=60"
    assert name not in proxied.get("/", headers={"X-Forwarded-Proto": "http"}).headers
    assert proxied.post("/api/settings", {"key": "hsts", "value": -1}).code == "invalid"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("192.168.7.7:9999", 200),
        ("[::1]:8000", 200),
        ("localhost:1", 200),
        ("laptop.local", 200),
        ("evil.example", 421),
        ("localhost.evil.example", 421),
        ("a_b.example:", 421),
        ("evil.example:127.0.0.1", 421),
        ("[::1", 421),
        ("[]", 421),
        ("::1", 421),
        ("", 421),
        (":80", 421),
        ("a b", 421),
        ("me@localhost", 421),
        ("localhost/", 421),
        ("localhost:80x", 421),
        ("http://localhost", 421),
    ],
)
def test_dns_rebinding_is_refused(shared: Server, host: str, status: int) -> None:
    answer = shared.raw(get_request("/healthz", {"Connection": "close"}, token=None, host=host))
    assert int(answer.split()[1]) == status
    if status == 421:
        assert b"allowed_hosts" in answer


def test_two_hosts_are_none(server: Server) -> None:
    request = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\n\r\n"
    assert server.raw(request).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("method", ["POST", "DELETE"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_cross_site_requests_are_refused(
    shared: Server, method: str, headers: dict[str, str]
) -> None:
    cookie = log_in(shared)
    path = "/api/broadcast" if method == "POST" else "/api/logs"
    body = {} if method == "POST" else None
    answer = shared.request(method, path, body, headers={**headers, **cookie}, token=None)
    assert answer.code == "foreign_origin"
    assert shared.get("/api/events", headers={**headers, **cookie}, token=None).status == 403


def test_a_link_from_another_site_leads_to_a_page(shared: Server) -> None:
    cookie = log_in(shared)
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", **cookie}

    def ask(path: str, method: str = "GET", **more: str) -> int:
        headers = {**link, **{name.replace("_", "-"): text for name, text in more.items()}}
        body = {} if method in ("POST", "PATCH") else None
        return shared.request(method, path, body, headers=headers, token=None).status

    for path in ("/", "/admin", "/room/a", "/api/docs", "/api/docs?x=1"):
        assert ask(path) == ask(path, Sec_Fetch_Site="same-site") == 200
    for mode in ("cors", "no-cors", "same-origin", "websocket", "Navigate", "navigate, cors", ""):
        assert ask("/api/docs", Sec_Fetch_Mode=mode) == 403
    for origin in ("https://evil.example", "null"):  # no link sends one
        assert ask("/api/docs", Origin=origin) == 403
    for path in ("/api/messages", "/api/events", "/api/logs/export", "/api/backup", "/ws"):
        assert ask(path) == 403
    for method, path in (("POST", "/api/broadcast"), ("DELETE", "/api/logs")):
        assert ask(path, method) == 403


def test_a_foreign_form_cannot_post(home: Server) -> None:
    cookie = log_in(home)
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        headers = {**cookie, "Content-Type": kind}
        answer = home.post("/api/broadcast", b'{"a":1}', headers=headers, token=None)
        assert answer.code == "not_json"
        assert home.post("/api/auth/ticket", b"", headers=headers, token=None).code == "not_json"


def test_secrets_are_in_no_log_and_no_output(home: Server) -> None:
    """All outputs and the whole database are searched for the secrets that were used."""
    cookie = log_in(home)
    made = home.post("/api/tokens", {"name": "seek"}).json["token"]
    ticket = home.post("/api/auth/ticket", {}, headers=cookie, token=None).json["ticket"]
    session = "secret-session-0123456789"
    home.get(f"/api/events?token=wrong-{made}&session={session}", token=None)
    home.post("/api/auth/login", {"username": "ada", "password": OTHER}, token=None)
    with home.stream(f"session={session}", token=made):
        pass
    logs = home.get("/api/logs?limit=1000").body.decode()
    output = "\n".join(home.output)
    home.stop()
    stored = b"".join(path.read_bytes() for path in home.data.iterdir())
    for secret in (made, ticket, session, PASSWORD, OTHER, ADMIN, cookie["Cookie"].split("=")[1]):
        assert secret not in logs and secret not in output, secret
        assert secret.encode() not in stored, secret


def test_the_browser_is_opened_without_a_secret_on_a_command_line(
    make_server: Callable[..., Server], tmp_path: Path
) -> None:
    """What is there leads this user's browser on, once; the link it leads to works once, and signs
    the administrator in."""
    opened = tmp_path / "opened"
    script = tmp_path / "browser"
    script.write_text(f'#!/bin/sh\necho "$1" > {opened}.tmp && mv {opened}.tmp {opened}\n')
    script.chmod(0o700)
    server = make_server("--open-browser", env={"BROWSER": f"{script} %s", "DISPLAY": ":0"})
    body = {"username": "ada", "password": PASSWORD, "role": "admin"}
    assert server.post("/api/users", body).status == 201
    wait_for(opened.exists, "the browser to be opened")
    argument = opened.read_text().strip()
    assert argument.startswith(f"http://127.0.0.1:{server.port}/open/")
    path = "/" + argument.split("/", 3)[3]
    found = re.search(r"#signin=([\w-]+)", server.get(path, token=None).headers["location"])
    assert found and found[1] not in argument
    assert server.get(path, token=None).code == "not_found"
    signed_in = server.post("/api/auth/redeem", {"token": found[1]}, token=None)
    assert signed_in.json["username"] == "ada"
    assert server.get("/api/users", headers=cookie_of(signed_in), token=None).status == 200
    again = server.post("/api/auth/redeem", {"token": found[1]}, token=None)
    assert again.code == "invalid_link"
