"""The application that the official protocol suites expect: see protocol_server.py."""

from __future__ import annotations

from typing import Any

import rtapp
from rtapp import on


@on("connection")
@on("connection", namespace="/custom")
def connection(client: Any) -> None:
    client.emit("auth", client.auth)


@on("message")
def message(client: Any, *values: Any) -> None:
    client.emit("message-back", *values)


@on("message-with-ack")
def message_with_ack(client: Any, *values: Any) -> tuple[Any, ...]:
    return values


class Echo(rtapp.EngineSession):
    """Engine.IO alone: every message comes back."""

    def message(self, data: str | bytes) -> None:
        packet = "4" + data if isinstance(data, str) else data
        self.app.hub.reply(self.subscriber, self._encoding.engine(packet))


class EchoEngine(rtapp.EngineIo):
    """Its sessions."""

    SESSION = Echo


engines: list[EchoEngine] = []


@rtapp.route("GET", "/engine.io/", "public", "Engine.IO alone")
@rtapp.route("POST", "/engine.io/", "public", "Engine.IO alone")
@rtapp.route("PUT", "/engine.io/", "public", "Engine.IO alone")
def engine_io(app: Any, call: Any) -> Any:
    engines[:] = engines or [EchoEngine(app)]
    return engines[0].answer(call)
