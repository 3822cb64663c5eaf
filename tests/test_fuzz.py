"""Random requests made from the server's own OpenAPI: nothing gives a 500, every refusal is a
problem. `RTAPP_LONG=1` tries twenty times as many."""

from __future__ import annotations

import json
import os
import re
import urllib.parse
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support import Answer, Server

EXAMPLES = 200 * (20 if os.environ.get("RTAPP_LONG") else 1)

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
near = st.sampled_from(["", "0", "-1", "1", "true", "*", "..", "a" * 200, "%", "\x00", "ş", "a/b"])
texts = near | st.text(max_size=60)
# What no test may do to the server that the next example needs.
KEPT = {"max_connections", "rate_limit", "max_message_bytes", "allowed_origins", "access"}


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """Each operation of a description, with OPTIONS and HEAD beside it."""
    found = []
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            found.append((method.upper(), path, operation))
        found.append(("OPTIONS", path, {}))
        if "get" in methods:
            found.append(("HEAD", path, methods["get"]))
    return found


@st.composite
def bodies(draw: st.DrawFn, operation: dict[str, Any], schemas: dict[str, Any]) -> bytes | None:
    """A body: none, random bytes, random JSON, or an object with the right names."""
    content = operation.get("requestBody", {}).get("content", {})
    kind = draw(st.sampled_from(["none", "bytes", "json", "near", "near"]))
    if kind == "none":
        return None
    if kind == "bytes":
        return draw(st.binary(max_size=300))
    if kind == "json" or "application/json" not in content:
        return json.dumps(draw(values)).encode()
    schema = content["application/json"]["schema"]
    names = schemas.get(schema.get("$ref", "").rsplit("/", 1)[-1], {}).get("properties", {})
    body = {name: draw(scalars | texts | st.lists(texts, max_size=3)) for name in names}
    if str(body.get("key")) in KEPT:
        body["key"] = "x-" + str(body["key"])
    return json.dumps(body).encode()


@st.composite
def requests(draw: st.DrawFn, document: dict[str, Any]) -> tuple[str, str, bytes | None, Any]:
    """A request that is more or less like what is described."""
    method, path, operation = draw(st.sampled_from(operations(document)))
    path = re.sub(r"{\w+}", lambda _: urllib.parse.quote(draw(texts), safe=""), path)
    names = [p["name"] for p in operation.get("parameters", []) if p["in"] == "query"]
    pairs = [(draw(st.sampled_from(names)), draw(texts)) for _ in range(3) if names]
    query = urllib.parse.urlencode([(k, v.encode("utf-8", "surrogatepass")) for k, v in pairs])
    body = draw(bodies(operation, document["components"]["schemas"]))
    headers = {
        name: draw(st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=30))
        for name in draw(st.sets(st.sampled_from(HEADERS), max_size=2))
    }
    return method, f"{path}?{query}" if query else path, body, headers


HEADERS = ("X-Session", "Last-Event-ID", "Idempotency-Key", "Content-Type", "Range", "Cookie")


def check(method: str, path: str, answer: Answer) -> None:
    """No failure of ours, and every refusal is a problem with a code, except where Engine.IO has
    a form of its own."""
    if path.startswith("/socket.io/"):
        assert answer.status < 500, answer
        return
    assert answer.status < 500 or answer.code == "too_many_connections", answer
    if answer.status >= 400 and method != "HEAD":
        assert answer.code


def test_nothing_that_is_described_fails(server: Server) -> None:
    document = server.get("/api/openapi.json").json
    kept = server.publish("kept").json["message"]

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
    @given(requests(document))
    def one(request: tuple[str, str, bytes | None, dict[str, str]]) -> None:
        method, path, body, headers = request
        if path.startswith("/api/events") and method == "GET":
            method = "HEAD"  # a stream would not end
        check(method, path, server.request(method, path, body, headers=headers))

    one()
    found = server.get(f"/api/messages?after={kept['id'] - 1}&limit=1").json
    assert found == [kept]
    assert not [line for line in server.output if "Request failed" in line]
