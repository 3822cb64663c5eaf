"""A whiteboard: each stroke goes to everybody else."""

from __future__ import annotations

from typing import Any

from rtapp import on


@on("stroke")
def stroke(client: Any, *where: float) -> None:
    client.broadcast("stroke", *where)
