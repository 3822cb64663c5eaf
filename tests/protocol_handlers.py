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


class Echo(rtapp.EngineConversation):
    """Engine.IO alone: every message comes back."""

    def __init__(self, engine: Any, subscriber: Any, framing: Any, call: Any) -> None:
        super().__init__(engine, subscriber, framing)

    def message(self, data: str | bytes) -> None:
        if isinstance(data, str):
            self.reply(rtapp.text_frame("4" + data))
        else:
            self.reply(rtapp.Frame(rtapp.Opcode.BINARY, data).serialize(mask=False))


@rtapp.route("GET", "/engine.io/", "public", "Engine.IO alone")
@rtapp.route("POST", "/engine.io/", "public", "Engine.IO alone")
@rtapp.route("PUT", "/engine.io/", "public", "Engine.IO alone")
def engine_io(app: Any, call: Any) -> Any:
    return app.engine.answer(call, Echo)
