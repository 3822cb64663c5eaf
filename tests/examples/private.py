"""Private messages: who comes back with its secret is who it was, in all of its tabs."""

from __future__ import annotations

import secrets
from typing import Any

from rtapp import Refused, fetch_sockets, on, use

people: dict[str, dict[str, str]] = {}  # by their secrets
said: list[dict[str, str]] = []


@use
def known(client: Any) -> None:
    secret, name = client.auth.get("secret"), client.auth.get("name")
    if secret not in people:
        if not name:
            raise Refused("Who are you?")
        secret = secrets.token_hex(16)
        people[secret] = {"id": secrets.token_hex(8), "name": name}
    client.data.update(people[secret], secret=secret)


@on("connection")
def connection(client: Any) -> None:
    me = client.data["id"]
    client.join(me)
    client.emit("welcome", client.data["secret"], client.data["name"])
    for person in people.values():
        if person["id"] != me:
            both = {me, person["id"]}
            past = [m for m in said if {m["from"], m["to"]} == both]
            client.emit("person", person, bool(fetch_sockets(to=person["id"])), past)
    client.broadcast("person", people[client.data["secret"]], True, exclude=me)


@on("message")
def message(client: Any, to: str, text: str) -> None:
    said.append({"from": client.data["id"], "to": to, "text": text})
    client.broadcast("message", said[-1], to=[to, client.data["id"]])


@on("disconnect")
def disconnect(client: Any, reason: str) -> None:
    if not fetch_sockets(to=client.data["id"]):  # its last tab
        client.broadcast("person", people[client.data["secret"]], False)
