"""The developer's own files (`--public`): as a browser, a video player and a proxy ask for them."""

from __future__ import annotations

import contextlib
import gzip
import os
import re
import socket
import threading
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path

import psutil
import pytest

from support import PATIENCE, Answer, Server

MOVIE = bytes(range(250)) * 4
CHANGED = 1_700_000_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pages")
    for name, content in {
        "index.html": b"home",
        "a.mp4": MOVIE,
        "empty.txt": b"",
        "page.js": b"let x",
        "a.tar.gz": gzip.compress(b"tar"),
        "data.json.gz": gzip.compress(b"{}"),
        "a.svg.bz2": b"BZh",
        "unknown.abcxyz": b"?",
        "sub/index.html": b"sub",
        "sub/other.txt": b"other",
        "sub:2/index.html": b"sub 2",
        "çay/index.html": b"tea",
        "bare/file.txt": b"file",
        ".env": b"secret",
        ".git/config": b"secret",
        "sub/.hidden/index.html": b"secret",
    }.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, (CHANGED, CHANGED))
    outside = folder.with_name("outside.txt")
    outside.write_bytes(b"secret")
    (folder / "link.txt").symlink_to(outside)
    (folder / "shown").symlink_to(folder / ".git")
    (folder / "away").mkdir()
    (folder / "away/index.html").symlink_to(outside)
    (folder / "circle").symlink_to("circle")
    (folder / "map/..2026_12").mkdir(parents=True)  # as Kubernetes shows a ConfigMap
    (folder / "map/..2026_12/index.html").write_bytes(b"mapped")
    (folder / "map/..data").symlink_to("..2026_12")
    (folder / "map/index.html").symlink_to("..data/index.html")
    os.mkfifo(folder / "pipe")
    return folder


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("site") / "data"
    with Server(data, "--public", str(folder)) as server:
        yield server


def get(site: Server, path: str, method: str = "GET", **headers: str) -> Answer:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return site.request(method, path, headers=fields, token=None)


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-1", 0, 2),
        ("bytes=10-", 10, 1000),
        ("bytes=-3", 997, 1000),
        ("bytes=-5000", 0, 1000),
        ("bytes=990-5000", 990, 1000),
        ("Bytes=999-999 ", 999, 1000),
    ],
)
def test_a_part_is_sent(site: Server, asked: str, start: int, end: int) -> None:
    """RFC 9110, 14: a player that seeks."""
    answer = get(site, "/a.mp4", Range=asked)
    assert (answer.status, answer.body) == (206, MOVIE[start:end])
    assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/1000"
    assert answer.headers["content-length"] == str(end - start)
    assert answer.headers["content-type"] == "video/mp4"


@pytest.mark.parametrize("asked", ["bytes=1000-", "bytes=2000-3000", "bytes=-0"])
def test_a_part_that_there_is_not(site: Server, asked: str) -> None:
    answer = get(site, "/a.mp4", Range=asked)
    assert (answer.status, answer.code) == (416, "range_not_satisfiable")
    assert answer.headers["content-range"] == "bytes */1000"
    assert get(site, "/empty.txt", Range="bytes=0-").status == 416


@pytest.mark.parametrize(
    "asked",
    [
        *("bytes=", "bytes=-", "bytes=5-2", "bytes=a-b", "bytes=1", "lines=0-1", "bytes=0-1,4-5"),
        *("bytes=+1-2", "bytes=1_0-20", f"bytes=0-{'9' * 30}", "bytes 0-1", ""),
    ],
)
def test_what_is_no_range_of_one_part_is_ignored(site: Server, asked: str) -> None:
    answer = get(site, "/a.mp4", Range=asked)
    assert (answer.status, answer.body) == (200, MOVIE)
    assert answer.headers["accept-ranges"] == "bytes"
    assert "content-range" not in answer.headers


def test_a_range_is_for_get_alone(site: Server) -> None:
    answer = get(site, "/a.mp4", "HEAD", Range="bytes=0-1")
    assert (answer.status, answer.headers["content-length"], answer.body) == (200, "1000", b"")


def test_a_player_of_another_site_may_ask_for_a_part(
    make_server: Callable[..., Server], folder: Path
) -> None:
    """Its browser asks first, by OPTIONS."""
    origin = "https://films.example"
    server = make_server("--public", str(folder), allowed_origins=origin)
    asked = {"Origin": origin, "Access-Control-Request-Method": "GET"}
    asked["Access-Control-Request-Headers"] = "range"
    for path in ("/a.mp4", "/sub/other.txt"):
        answer = server.request("OPTIONS", path, headers=asked, token=None)
        assert (answer.status, answer.headers["allow"]) == (204, "GET, HEAD, OPTIONS")
        assert answer.headers["access-control-allow-headers"] == "range"
    assert (
        server.request("OPTIONS", "/docs/none", token=None).headers["allow"] == "GET, HEAD, OPTIONS"
    )
    assert (
        server.request("OPTIONS", "/api/broadcast", token=None).headers["allow"] == "OPTIONS, POST"
    )


def test_a_part_of_what_has_changed_is_all_of_it(site: Server) -> None:
    whole = get(site, "/a.mp4").headers
    for same in (whole["etag"], whole["last-modified"]):
        assert get(site, "/a.mp4", Range="bytes=0-1", If_Range=same).status == 206
    for other in ('"x"', f"W/{whole['etag']}", formatdate(CHANGED - 1, usegmt=True), "x"):
        answer = get(site, "/a.mp4", Range="bytes=0-1", If_Range=other)
        assert (answer.status, answer.body) == (200, MOVIE), other


def test_what_the_client_has_is_not_sent_again(site: Server) -> None:
    whole = get(site, "/a.mp4").headers
    assert whole["etag"].startswith('"') and whole["cache-control"] == "no-cache"
    assert whole["last-modified"] == formatdate(CHANGED, usegmt=True)
    for known in (whole["etag"], f"W/{whole['etag']}", f'"x", {whole["etag"]}', "*"):
        answer = get(site, "/a.mp4", If_None_Match=known)
        assert (answer.status, answer.body) == (304, b""), known
        assert answer.headers["etag"] == whole["etag"]
        assert {"content-length", "content-type"}.isdisjoint(answer.headers)
    for since in (0, 1, 86_400):
        date = formatdate(CHANGED + since, usegmt=True)
        assert get(site, "/a.mp4", If_Modified_Since=date).status == 304
        assert get(site, "/a.mp4", "HEAD", If_Modified_Since=date).status == 304
    for date in (formatdate(CHANGED - 1, usegmt=True), "yesterday", ""):
        assert get(site, "/a.mp4", If_Modified_Since=date).status == 200
    # Who names a tag is judged by it alone (RFC 9110, 13.2.2).
    newer = formatdate(CHANGED + 1, usegmt=True)
    answer = get(site, "/a.mp4", If_None_Match='"x"', If_Modified_Since=newer)
    assert (answer.status, answer.body) == (200, MOVIE)


def test_another_version_is_not_what_was_asked_for(site: Server) -> None:
    """RFC 9110, 13.1.1 and 13.1.4: what goes on with a download by parts."""
    tag = get(site, "/a.mp4").headers["etag"]
    for known in (tag, f'"x", {tag}', "*"):
        assert get(site, "/a.mp4", If_Match=known, Range="bytes=0-1").status == 206
    for known in ('"x"', f"W/{tag}", "x"):
        answer = get(site, "/a.mp4", If_Match=known, If_None_Match=tag, Range="bytes=0-1")
        assert (answer.status, answer.code) == (412, "other_version"), known
        assert answer.headers["etag"] == tag
    for since, status in ((-1, 412), (0, 200), (1, 200)):
        date = formatdate(CHANGED + since, usegmt=True)
        assert get(site, "/a.mp4", If_Unmodified_Since=date).status == status
        assert get(site, "/a.mp4", If_Match=tag, If_Unmodified_Since=date).status == 200
    assert get(site, "/a.mp4", If_Unmodified_Since="yesterday").status == 200
    assert get(site, "/a.mp4", If_Unmodified_Since=formatdate(0, usegmt=True)).status == 412


def test_a_changed_file_has_another_tag(site: Server, folder: Path) -> None:
    path = folder / "page.js"
    tags = []
    for content in (b"let y", b"let z"):
        path.write_bytes(content)
        os.utime(path, ns=(CHANGED * 10**9, CHANGED * 10**9 + len(tags)))
        tags.append(get(site, "/page.js").headers["etag"])
    assert tags[0] != tags[1]
    assert get(site, "/page.js", If_None_Match=tags[0]).body == b"let z"


def test_a_kept_connection_goes_on_behind_304_and_206(site: Server) -> None:
    lines = "GET {} HTTP/1.1\r\nHost: localhost\r\n{}\r\n\r\n"
    asked = [
        lines.format("/a.mp4", "If-None-Match: *"),
        lines.format("/a.mp4", "Range: bytes=0-1"),
        lines.format("/sub/other.txt", "Connection: close"),
    ]
    found = site.raw("".join(asked).encode())
    assert re.findall(rb"HTTP/1\.1 (\d+)", found) == [b"304", b"206", b"200"]
    assert found.endswith(b"other")


@pytest.mark.parametrize(
    ("path", "where"),
    [
        ("/sub", "./sub/"),
        ("/sub?a=1&b=%2F", "./sub/?a=1&b=%2F"),
        ("/sub:2", "./sub%3A2/"),
        ("/%C3%A7ay", "./%C3%A7ay/"),
    ],
)
def test_a_folder_has_its_slash(site: Server, path: str, where: str) -> None:
    """Its links are relative to it. Relative itself, so that it holds below a proxy's path."""
    answer = get(site, path)
    assert (answer.status, answer.headers["location"]) == (308, where)


def test_folders_and_files(site: Server) -> None:
    assert get(site, "/").body == b"home"
    assert get(site, "/sub/").body == b"sub"
    assert get(site, "/sub/other.txt").body == b"other"
    assert get(site, "/map/").body == get(site, "/map/index.html").body == b"mapped"
    for path in ("/bare", "/bare/", "/sub/other.txt/", "/a.mp4/x", "/nothing", "/pipe", "/%00"):
        assert get(site, path).code == "not_found", path


@pytest.mark.parametrize(
    "path",
    [
        *("/.env", "/.git/config", "/sub/.hidden/", "/sub/.hidden", "/shown/config", "/link.txt"),
        *("/sub/../.env", "/../outside.txt", "/%2e%2e/outside.txt", "/sub/%2e%2e/%2eenv", "//etc"),
        *("/away/", "/away", "/away/index.html", "/circle", "/map/..data/index.html"),
    ],
)
def test_what_is_hidden_or_elsewhere_is_not_there(site: Server, path: str) -> None:
    assert get(site, path).code == "not_found"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("page.js", "text/javascript; charset=utf-8"),
        ("empty.txt", "text/plain; charset=utf-8"),
        ("sub/", "text/html; charset=utf-8"),
        ("a.tar.gz", "application/gzip"),
        ("data.json.gz", "application/gzip"),
        ("a.svg.bz2", "application/x-bzip2"),
        ("unknown.abcxyz", "application/octet-stream"),
    ],
)
def test_what_a_file_is(site: Server, name: str, kind: str) -> None:
    """One that is packed is given as it is, under its packing's name."""
    answer = get(site, f"/{name}", Accept_Encoding="gzip")
    assert answer.headers["content-type"] == kind
    assert "content-encoding" not in answer.headers


def test_large_files_hold_nobody_up(make_server: Callable[..., Server], tmp_path: Path) -> None:
    """Sent in pieces: four clients that stop reading cost no memory, and nobody waits."""
    size = 1_000_000_000
    (tmp_path / "large").touch()
    os.truncate(tmp_path / "large", size)
    site = make_server("--public", str(tmp_path))
    assert get(site, "/large", "HEAD").headers["content-length"] == str(size)
    process = psutil.Process(site.pid)
    before = process.memory_info().rss
    socks = [socket.create_connection(("127.0.0.1", site.port), PATIENCE) for _ in range(4)]
    got = [0] * len(socks)

    def read(at: int, until: int) -> None:
        while got[at] < until and (part := socks[at].recv(1_048_576)):
            got[at] += len(part)

    try:
        for sock in socks:
            sock.sendall(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
        readers = [threading.Thread(target=read, args=(at, 50_000_000)) for at in range(len(socks))]
        for reader in readers:
            reader.start()
        while any(reader.is_alive() for reader in readers):
            assert get(site, "/healthz").status == 200
        assert min(got) >= 50_000_000
        assert process.memory_info().rss - before < 20_000_000
    finally:
        for sock in socks:
            sock.close()


def test_a_file_that_becomes_shorter_is_not_whole(
    make_server: Callable[..., Server], tmp_path: Path
) -> None:
    """The connection is cut: what came would pass for all of it, and the next answer for it."""
    path = tmp_path / "large"
    path.touch()
    os.truncate(path, 100_000_000)
    site = make_server("--public", str(tmp_path))
    with socket.create_connection(("127.0.0.1", site.port), PATIENCE) as sock:
        ask = b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n"
        sock.sendall(ask + ask)
        got = len(sock.recv(1_000))
        os.truncate(path, 1_000_000)
        with contextlib.suppress(ConnectionResetError):
            while part := sock.recv(1_048_576):
                got += len(part)
    assert got < 100_000_000


def test_a_folder_of_this_name_comes_before_the_guides(
    make_server: Callable[..., Server], tmp_path: Path
) -> None:
    pages = tmp_path / "pages"
    pages.mkdir()
    server = make_server("--public", str(pages))
    for path in ("/docs", "/docs/operator"):
        assert b"guides.js" in server.get(path, token=None).body
    for path in ("/docs/none", "/docs/", "/docs/operator.tr.md", "/docs/..%2Fdocs%2Foperator"):
        assert server.get(path, token=None).status == 404, path
    (pages / "docs").mkdir()
    (pages / "docs" / "index.html").write_bytes(b"mine")
    (pages / "docs" / "operator.html").write_bytes(b"too")
    assert server.get("/docs", token=None).status == 308
    assert server.get("/docs/", token=None).body == b"mine"
    assert server.get("/docs/operator.html", token=None).body == b"too"
    assert server.get("/docs/operator", token=None).status == 404
