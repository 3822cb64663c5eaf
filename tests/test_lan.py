"""Sharing on the local network: the switch, certificates, the landing page, what phones see."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from support import Server


def network(server: Server) -> dict[str, Any]:
    answer = server.get("/api/network")
    assert answer.status == 200, answer
    found: dict[str, Any] = answer.json
    return found


# ---- the switch ----------------------------------------------------------------------------------


def test_the_switch_opens_and_closes_and_is_remembered(
    make_server: Callable[..., Server],
) -> None:
    server = make_server()
    assert network(server)["state"] == "off"
    answer = server.post("/api/network", {"share": True})
    assert answer.status == 200, answer
    assert answer.json["state"] == "on"
    assert server.get("/ca.crt").body.startswith(b"-----BEGIN CERTIFICATE-----")
    server.stop()
    server.start()
    assert network(server)["state"] == "on"
    assert server.post("/api/network", {"share": False}).json["state"] == "off"
    server.stop()
    server.start()
    assert network(server)["state"] == "off"


def test_only_an_administrator_at_the_computer_may_switch(server: Server) -> None:
    wish = {"share": True}
    assert server.post("/api/network", wish, token=None).code == "unauthorized"
    passed_on = {"X-Forwarded-For": "127.0.0.1"}
    assert server.post("/api/network", wish, headers=passed_on).code == "only_from_here"
    assert server.post("/api/network", {"share": "x"}).code == "invalid"
    assert server.post("/api/network", {"address": "192.0.2.77"}).code == "invalid"
    assert network(server)["state"] == "off"


def test_what_the_start_gives_can_not_be_switched(make_server: Callable[..., Server]) -> None:
    server = make_server("--lan")
    assert network(server)["source"] == "command line"
    assert server.post("/api/network", {"share": False}).code == "setting_fixed"
    assert network(server)["state"] == "on"
