"""A chat room: who comes and goes, who is typing, what is said."""

from __future__ import annotations

from typing import Any

from rtapp import fetch_sockets, on


def named() -> list[str]:
    """Who has a name, on every node."""
    return [name for one in fetch_sockets() if (name := one.data.get("name"))]


@on("enter")
def enter(client: Any, name: str) -> int:
    client.data["name"] = name
    client.broadcast("joined", name, count := len(named()))
    return count


@on("say")
def say(client: Any, text: str) -> None:
    client.broadcast("said", client.data["name"], text)


@on("typing")
def typing(client: Any, is_typing: bool) -> None:
    client.broadcast("typing", client.data["name"], is_typing, volatile=True)


@on("disconnect")
def disconnect(client: Any, reason: str) -> None:
    if name := client.data.get("name"):
        client.broadcast("left", name, len(named()))
