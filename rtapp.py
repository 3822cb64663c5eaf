#!/usr/bin/env python3
"""rtapp: a whole real-time server in one module.

It takes messages over HTTP, WebSocket and Socket.IO, stores them durably and fans them out to
Server-Sent Events, WebSocket and Socket.IO clients without a gap or a duplicate across reconnects,
restarts and crashes.

The parts, top to bottom; a part uses only the parts above it:

    Basics          time, small helpers
    Settings        the table of settings and where their values come from
    Errors          the table of error codes; one class that is raised and translated once
    Storage         models, migrations, the one writer with its group commit, the readers
    Observability   the event log and the counters
    Log             append, read after a position, topics, retention, epoch: the head
    Encodings       a message's bytes for each kind of stream, nothing else
    Hub             subscribers, ring, poller, sweep, catch-up, slow consumers: live connections
    Nodes           the other processes on the same database: doorbell, heartbeat, who is where
    Access          who is asking, and may they
    Rooms           video rooms: who is in them, moderation, signalling, ICE servers
    HTTP            the routes: parse, guard, call, answer
    Sockets         who speaks on its connection: /ws, Engine.IO, Socket.IO, handlers
    Network         the listener: plain and TLS on one port, deadlines, handing sockets over
    Lifecycle       build, start, jobs, graceful stop
    Desktop         a window or the browser, one instance, log file, staying awake
    Command line    `serve`, `desktop`, `setup-link`, `user`, `token`, `backup`, `restore`,
                    `migrate`, `doctor`

The way of a message, from a POST to the first byte on a stream:

    Connection.serve    reads the request from its socket, and asks
    Web.answer          who that is and whether they may; it calls the route's handler,
    broadcast           which checks the body once, makes an entry, and waits in
    Log.store           for its commit:
    Storage.write       the one writer, a thread on SQLite, commits all that waits as one;
    Storage._deliver    on the loop again, tells the log and wakes who answers the POST;
    Log.committed       advances the head over the entries, in the order of their ids, into
    Hub.advance         the ring, marks the views of their topics, and has the loop call
    Hub._sweep          which sends each subscriber what lies between its cursor and the head,
    transport.send      much of it in one call to its socket.
"""

from __future__ import annotations

import signal
import sys

# Whoever presses Ctrl-C before `main` has begun ends the program without a word.
if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

# Patching must come before anything imports socket, ssl or threading, and only in the program
# itself: `import rtapp` in somebody else's process patches nothing. The window's own process
# stays as it is, for a window's loop lets no greenlet run.
if __name__ == "__main__" and sys.argv[1:2] != ["--window"]:
    try:
        from gevent import monkey
    except ModuleNotFoundError as error:
        sys.exit(
            f"rtapp needs Python 3.10 or newer and the packages of requirements.txt ({error}):"
            " python3 -m venv .venv && .venv/bin/pip install -r requirements.txt, then"
            " .venv/bin/python rtapp.py; README.md has it for Windows."
        )
    monkey.patch_all()

import _queue
import _socket
import argparse
import asyncio
import atexit
import base64
import bisect
import codecs
import contextlib
import csv
import ctypes
import difflib
import email.utils
import enum
import errno
import functools
import gc
import getpass
import gzip
import hashlib
import heapq
import hmac
import http.client
import importlib
import importlib.machinery
import importlib.util
import inspect
import io
import ipaddress
import itertools
import json
import locale
import logging.handlers
import mimetypes
import operator
import os
import random
import re
import secrets
import shutil
import socket
import sqlite3
import ssl
import string
import struct
import subprocess
import tempfile
import threading
import time
import traceback
import typing
import unicodedata
import urllib.parse
import webbrowser
from collections import Counter, UserDict, deque
from collections.abc import (
    Callable,
    Collection,
    Coroutine,
    Generator,
    Hashable,
    Iterable,
    Iterator,
    Sequence,
)
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from fnmatch import fnmatchcase
from functools import cache, cached_property, partial
from html import escape
from pathlib import Path, PurePath
from types import ModuleType, NoneType, SimpleNamespace, UnionType
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Protocol, TypedDict, TypeVar, cast

import bottle
import gevent
import gevent.baseserver
import gevent.event
import gevent.hub
import gevent.lock
import gevent.queue
import gevent.server
import gevent.socket
import jwt
import msgspec
import peewee
import platformdirs
import psutil
import psycopg2
import psycopg2.extensions
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from gevent.monkey import get_original
from websockets.frames import Close, CloseCode, Frame, Opcode
from websockets.protocol import Protocol as WebSocketProtocol
from websockets.protocol import Side
from websockets.utils import accept_key

__version__ = "1.0.0"

T = TypeVar("T")
V = TypeVar("V", bound=msgspec.Struct)


# ----------------------------------------------------------------------------------------------
# Basics
# ----------------------------------------------------------------------------------------------


def now_ms() -> int:
    """Milliseconds since 1970, the form in which every table keeps its times."""
    return time.time_ns() // 1_000_000


def ticks_ms() -> int:
    """Milliseconds of a clock that nobody sets, for waits: the other one may jump."""
    return time.monotonic_ns() // 1_000_000


@functools.lru_cache(maxsize=256)  # what comes together has the same time
def iso(ms: int) -> str:
    """A time of the tables as ISO 8601 in UTC with milliseconds: `2026-01-31T12:00:00.000Z`."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(ms // 1000)) + f".{ms % 1000:03d}Z"


Moment = Annotated[
    str,
    msgspec.Meta(extra_json_schema={"format": "date-time"}, examples=["2026-01-31T12:00:00.000Z"]),
]

as_json = msgspec.json.decode  # of a column


def plain_value(value: Any) -> Any:
    """What an heir of a plain type holds, as numpy's float64 or a template's text. Raises TypeError
    for what can't be JSON."""
    if isinstance(value, str):
        return str.__str__(value)  # what an enum's member is, not its name
    kinds: tuple[Any, ...] = int, float, bytes
    for plain in kinds:
        if isinstance(value, plain):
            return plain(value)
    raise TypeError(f"Encoding objects of type {type(value).__name__} is unsupported")


def to_json(value: Any) -> str:
    return msgspec.json.encode(value, enc_hook=plain_value).decode()


@cache
def columns_of(kind: Hashable) -> list[tuple[str, Callable[[Any], Any]]]:
    """The fields of a view, each with what converts a column to it."""
    converters: dict[Any, Callable[[Any], Any]] = {
        bool: bool,
        Moment: iso,
        Moment | None: lambda ms: iso(ms) if ms else None,
        list[str]: as_json,
    }
    fields = msgspec.structs.fields(cast(Any, kind))
    return [(field.name, converters.get(field.type, lambda value: value)) for field in fields]


def view_of(kind: type[V], row: Any, **more: Any) -> V:
    """A row as the API shows it: `more`, and its columns of the same names."""
    for name, convert_column in columns_of(cast(Hashable, kind)):
        if name not in more and hasattr(row, name):
            more[name] = convert_column(getattr(row, name))
    return kind(**more)


def words_of(error: BaseException) -> str:
    """What an exception says, also where that is no whole text, or can't be said."""
    try:
        return str(error).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    except Exception as another:
        return f"{type(error).__name__}, whose words fail with {type(another).__name__}"


def sha256(text: str) -> str:
    """The hex SHA-256 of a text: what is stored instead of a secret."""
    return hashlib.sha256(text.encode()).hexdigest()


IS_FROZEN = bool(getattr(sys, "frozen", False))  # built by PyInstaller
BUNDLE = str(getattr(sys, "_MEIPASS", ""))  # where the executable's files are
UNPACKED = Path(BUNDLE) if Path(BUNDLE).name.startswith("_MEI") else None  # by a one-file one
PROGRAM = Path(sys.executable if IS_FROZEN else __file__).resolve()
PROGRAM_COMMAND = [str(PROGRAM)] if IS_FROZEN else [sys.executable, str(PROGRAM)]
STARTED_BY = os.getppid()  # known before it may go
STATIC = Path(__file__).resolve().parent / "static"

# The executable's loader leads this process to the libraries that it has with it. Whoever else is
# started, such as a browser, is to find the system's; only this program's own processes get these.
OWN_LIBRARIES: dict[str, str] = {}
if BUNDLE and BUNDLE in os.environ.get("LD_LIBRARY_PATH", ""):
    OWN_LIBRARIES["LD_LIBRARY_PATH"] = os.environ.pop("LD_LIBRARY_PATH")
    if "LD_LIBRARY_PATH_ORIG" in os.environ:
        os.environ["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH_ORIG"]


def write_private(path: Path, text: str) -> None:
    """Write a file that only this user can read, all of it or nothing."""
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        with open(part, "x", encoding="utf-8", opener=partial(os.open, mode=0o600)) as file:
            file.write(text)
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def make_private(path: Path) -> None:
    """Make a file, where there is none, that only this user can read."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))


@functools.lru_cache(maxsize=4_096)
def as_ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The IP address that a text is, without its zone and not mapped into IPv6; else None."""
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


@functools.lru_cache(maxsize=4_096)
def network_of(address: str) -> str:
    """Whom limits count as one: of an IPv6 address its network of 64 bits, since whoever has one of
    its addresses has all of them (RFC 4291, 2.5.1); else the address."""
    found = as_ip(address)
    if found is None or found.version == 4:
        return str(found or address)
    return str(ipaddress.ip_network((found, 64), strict=False))


def plain_host(name: str) -> str:
    """A host as hosts are compared, empty where it is none: in lower case, its letters as browsers
    write them in ASCII (UTS 46), without a last dot."""
    with contextlib.suppress(ValueError):
        literal = name[:1] == "[" and name[-1:] == "]"
        return str(ipaddress.ip_address(name[1:-1] if literal else name))
    name = unicodedata.normalize("NFKC", name).lower().replace("\u3002", ".")
    name = name[:1] + name[1:].removesuffix(".")
    labels = (x if x.isascii() else f"xn--{x.encode('punycode').decode()}" for x in name.split("."))
    return (re.match(r"[a-z0-9._-]{1,253}\Z", ".".join(labels)) or [""])[0]


_URL = re.compile(
    r"([a-z][a-z0-9+.-]*)://([^\s/?#@:[\]]+|\[[^\s\]]+\])(?::(\d{0,5}))?(/[^\s?#]*)?", re.IGNORECASE
)


@functools.lru_cache(maxsize=256)
def plain_url(text: str) -> str:
    """An address as addresses are compared, empty where it is none: with a plain host, without the
    scheme's own port."""
    found = _URL.fullmatch(text)
    host = plain_host(found[2]) if found else ""
    if not found or not host or int(found[3] or 0) > 65_535:
        return ""
    scheme, port = found[1].lower(), int(found[3] or 0)
    host = f"[{host}]" if ":" in host else host
    host = f"{host}:{port}" if port and port != {"http": 80, "https": 443}.get(scheme) else host
    return f"{scheme}://{host}{found[4] or ''}"


def plain_origin(text: str) -> str:
    """An origin as origins are compared (RFC 6454, 5), empty where it is none."""
    found = plain_url(text) if len(text) <= 300 else ""
    return found if found.count("/") == 2 else ""


def chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


# ----------------------------------------------------------------------------------------------
# Settings
# ----------------------------------------------------------------------------------------------


def plain_network(text: str) -> str:
    """An IP address or network in lower case, not mapped into IPv6; empty where it is none."""
    text = text.lower().removeprefix("::ffff:")
    with contextlib.suppress(ValueError):
        ipaddress.ip_network(text, strict=False)
        return text
    return ""


def like(pattern: str, plain: Callable[[str], str] = str) -> Callable[[str], str]:
    """Keeps a text, as `plain` makes it, where that matches a pattern."""
    return lambda text: (re.fullmatch(pattern, plain(text)) or [""])[0]


# What makes a text as it is kept, empty where it is refused; what such a text is.
URL = like("https?://.+", plain_url), "an address like https://example.org"
ORIGIN = (
    lambda text: text if text == "*" else plain_origin(text),
    "an origin like https://app.example.org, without a path, nor *",
)
HOST = (
    lambda text: plain_host(text) or plain_host(re.sub(r":\d+$", "", text)),  # one with a port, too
    "a host's name like chat.example.org",
)
FRAME = plain_origin, "an origin like https://intranet.example.org, without a path"
NETWORK = plain_network, "an IP address or a network like 10.0.0.0/8"
STUN = like(r"none|stuns?:\S+"), "like stun:stun.example.org, nor none"
TURN = like(r"turns?:\S+"), "like turn:turn.example.org"
BEARER = like("[ -~]+"), "of ASCII letters, digits and signs"  # what a header can bring
SIGNING_KEY = (
    lambda text: text if len(text.encode()) >= 32 else "",
    "a secret of 32 bytes or more, nor a PEM public key",
)


class Setting(NamedTuple):
    """A row of the table of settings: everything that is known about one of them."""

    key: str
    kind: str  # int, float, bool, text, list, choice
    default: Any
    group: str
    description: str
    low: float | None = None  # the smallest value that a number may have
    high: float | None = None
    choices: tuple[str, ...] = ()
    start_only: bool = False  # is given by the command line or the environment, never saved
    switched: bool = False  # is saved by a route of its own: the start page has a switch for it
    next_start: bool = False  # what is saved takes effect at the next start
    secret: bool = False
    # What a text, or each of a list, must be: see URL. Empty is always allowed.
    form: tuple[Callable[[str], str], str] | None = None

    @property
    def has_option(self) -> bool:
        """Whether it has a command-line option of its own besides --set."""
        return self.start_only or self.switched


# fmt: off
SETTINGS: dict[str, Setting] = {row.key: row for row in (
    # key, kind, default, group, description, then what bounds or marks it
    Setting("host", "text", "127.0.0.1", "network", "Address to listen on. Leaving loopback needs "
            "an administrator, and TLS or insecure_http.", start_only=True),
    Setting("port", "int", 8000, "network", "TCP port to listen on; 0 picks a free one.",
            0, 65535, start_only=True),
    Setting("lan", "bool", False, "network", "Share on the local network: HTTPS with certificates "
            "made here on every address, once there is an administrator. The switch on the start "
            "page sets it while the server runs.", switched=True),
    Setting("lan_address", "text", "", "network", "Address of this machine in the link and the "
            "code for guests; empty means the likeliest one."),
    Setting("data", "text", "", "storage", "Folder of the database; empty means the platform's "
            "folder for user data, or rtapp-data beside the program where a file named portable "
            "lies there.", start_only=True),
    Setting("database", "text", "", "storage", "Database URL; empty means the file rtapp.db in the "
            "data folder (sqlite:///PATH). DATABASE_URL in the environment gives it, too; "
            "RTAPP_DATABASE wins.", start_only=True, secret=True),
    Setting("open_browser", "bool", False, "network", "Open the start page in the browser once the "
            "server listens.", start_only=True),
    Setting("insecure_http", "bool", False, "network", "Allow plain HTTP on an address that others "
            "can reach. Passwords and tokens then cross the network unprotected.", start_only=True),
    Setting("tls_cert", "text", "", "network", "PEM file with the certificate chain; turns TLS on, "
            "on the same port.", next_start=True),
    Setting("tls_key", "text", "", "network", "PEM file with the certificate's private key.",
            next_start=True),
    Setting("hsts", "int", 0, "network", "Seconds for which browsers that came by https ask for "
            "every port of this host by https only (HSTS); 0 means that they are not told so.",
            0, 315_360_000),
    Setting("public_url", "text", "", "network", "The address under which others reach this "
            "server, as https://chat.example.org.", form=URL),
    Setting("allowed_hosts", "list", (), "network", "Host names that requests may be addressed to, "
            "besides IP addresses, localhost, this machine's own names, *.local and public_url's "
            "host; separated by commas.", form=HOST),
    Setting("allowed_origins", "list", (), "network", "Origins of other sites' pages that may call "
            "this server (CORS), as https://app.example.org; separated by commas. * lets any "
            "site's pages call it, but without the cookie of who is signed in.", form=ORIGIN),
    Setting("frame_ancestors", "list", (), "network", "Origins of other sites' pages that may show "
            "a video room in a frame, as https://intranet.example.org; separated by commas.",
            form=FRAME),
    Setting("access", "choice", "private", "access", "private: a credential is needed. open: "
            "whoever reaches the port may subscribe and publish, as in the guide; administration "
            "is never open.", choices=("private", "open")),
    Setting("rate_limit", "int", 600, "access", "Requests a minute from one address, and of one "
            "account; not counted: administrators, API tokens, static files, opening streams. 0 "
            "means no limit.", 0, 1_000_000),
    Setting("publish_limit", "int", 12_000, "access", "Messages a minute from one address, and of "
            "one account, whichever way they come; not counted: administrators, API tokens. 0 "
            "means no limit.", 0, 10_000_000),
    Setting("jwt_algorithm", "choice", "none", "access", "Accept JSON Web Tokens signed so by your "
            "own back end. Always this one, whatever a token says of itself.",
            choices=("none", "HS256", "RS256")),
    Setting("jwt_key", "text", "", "access", "The shared secret of HS256 (32 bytes or more), or "
            "the PEM public key of RS256.", secret=True, form=SIGNING_KEY),
    Setting("jwt_audience", "text", "", "access", "The audience (aud) that a JSON Web Token must "
            "name; empty means any."),
    Setting("trusted_proxies", "list", (), "network", "Addresses or networks of reverse proxies "
            "whose X-Forwarded-For, -Proto, -Host and -Port count; separated by commas.",
            form=NETWORK),
    Setting("metrics_token", "text", "", "access", "Bearer token with which /metrics may be read; "
            "empty means that only administrators read it.", secret=True, form=BEARER),
    Setting("max_connections", "int", 10_000, "limits", "Streams that may be open at once; the "
            "next one is answered 503.", 1, 1_000_000),
    Setting("max_connections_per_address", "int", 0, "limits", "Streams that one address outside "
            "loopback may hold open; 0 means no limit.", 0, 1_000_000),
    Setting("max_connections_per_account", "int", 0, "limits", "Streams that one account may hold "
            "open; 0 means no limit.", 0, 1_000_000),
    Setting("max_sockets", "int", 0, "limits", "Connections of any kind that may be open at once; "
            "0 means as many as the system allows open files, less 512.", 0, 1_000_000),
    Setting("max_sockets_per_address", "int", 0, "limits", "Connections of any kind that one "
            "address (of IPv6: one network of 64 bits) may hold open, but for loopback and trusted "
            "proxies; 0 means no limit.", 0, 1_000_000),
    Setting("max_message_bytes", "int", 1_048_576, "limits", "Largest body of one message, in "
            "bytes.", 1, 67_108_864),
    Setting("max_batch_bytes", "int", 16_777_216, "limits", "Largest body of an NDJSON batch, in "
            "bytes.", 1, 268_435_456),
    Setting("ring_bytes", "int", 67_108_864, "limits", "Memory for the newest messages, from which "
            "streams are served, in bytes. Whoever is further behind is served from the database.",
            65_536, 17_179_869_184),
    Setting("ping_interval", "float", 25.0, "streams", "Seconds between the heartbeats of a "
            "stream.", 0.2, 3600),
    Setting("ping_timeout", "float", 20.0, "streams", "Seconds that a peer may take to acknowledge "
            "what was sent before it counts as gone.", 0.2, 3600),
    Setting("slow_consumer_seconds", "float", 30.0, "streams", "A stream that takes nothing for "
            "this many seconds is closed; it resumes later.", 0.2, 3600),
    Setting("relay_events", "bool", True, "streams", "Without handlers (app), publish what a "
            "Socket.IO client emits to everybody."),
    Setting("socketio_recovery_seconds", "float", 0.0, "streams", "Seconds after which a "
            "Socket.IO client that lost its connection can no longer recover it; 0 turns "
            "recovery off.", 0, 86_400, next_start=True),
    Setting("socketio_recovery_skips_middlewares", "bool", False, "streams", "Who recovers a "
            "Socket.IO connection does not pass the handlers' @use again."),
    Setting("socketio_connect_seconds", "float", 45.0, "streams", "Seconds that a Socket.IO "
            "connection has to join its first namespace.", 0.2, 3600),
    Setting("public", "text", "", "network", "Folder of your own pages, served at /.",
            start_only=True),
    Setting("guests", "bool", True, "video", "Whoever holds the link of a video room may join it "
            "without an account."),
    Setting("room_max_participants", "int", 10, "video", "Participants that a video room takes "
            "when its maker names no number.", 2, 100),
    Setting("room_silent_seconds", "float", 25.0, "video", "A participant unheard for so many "
            "seconds counts as reconnecting.", 0.2, 3600),
    Setting("room_gone_seconds", "float", 55.0, "video", "A participant unheard for so many "
            "seconds has left.", 0.4, 3600),
    Setting("room_empty_seconds", "float", 300.0, "video", "An empty room that is not pinned ends "
            "after so many seconds.", 0.2, 86_400),
    Setting("room_waiting_seconds", "float", 600.0, "video", "Seconds that somebody may wait in a "
            "lobby to be let in.", 0.2, 86_400),
    Setting("video_max_height", "int", 720, "video", "Lines of the largest picture that a "
            "participant sends.", 90, 2160),
    Setting("video_max_fps", "int", 30, "video", "Pictures a second that a participant sends at "
            "most.", 1, 60),
    Setting("room_preview", "choice", "count", "video", "What who holds a room's link sees of the "
            "people inside before joining. Behind a password it is their number at most.",
            choices=("names", "count", "nothing")),
    Setting("kiosk_join", "bool", False, "video", "A link to a room with ?name=…&join enters "
            "without asking: for devices without a person."),
    Setting("ice_servers", "list", (), "video", "URLs of STUN servers, as stun:stun.example.org; "
            "separated by commas. Empty means Google's; none means no server at all.", form=STUN),
    Setting("candidate_siblings", "bool", False, "video", "Add the address that the server sees to "
            "ICE candidates that browsers hide as NAME.local; always on in LAN mode."),
    Setting("turn_url", "list", (), "video", "URLs of your TURN server, as turn:turn.example.org; "
            "separated by commas.", form=TURN),
    Setting("turn_secret", "text", "", "video", "The secret shared with it (coturn's "
            "static-auth-secret), from which time-limited credentials are made.", secret=True),
    Setting("turn_seconds", "int", 43_200, "video", "Seconds that these credentials are good for; "
            "a call gets new ones before.", 10, 604_800),
    Setting("turn_username", "text", "", "video", "The fixed user of a TURN server without such a "
            "secret; whoever is in a room is told it, with its password."),
    Setting("turn_password", "text", "", "video", "That user's password.", secret=True),
    Setting("app", "text", "", "streams", "Python file with the handlers of Socket.IO events.",
            start_only=True),
    Setting("history_hours", "float", 24.0, "storage", "Hours that a message is kept.",
            0.001, 87_600),
    Setting("history_messages", "int", 100_000, "storage", "Messages that are kept at most.",
            1, 1_000_000_000),
    Setting("log_days", "float", 14.0, "storage", "Days that an entry of the event log is kept.",
            0.001, 3650),
    Setting("durability", "choice", "full", "storage", "full: an acknowledged message survives a "
            "power cut. normal: it survives a crash of the program; after a power cut clients are "
            "told to reset.", choices=("full", "normal"), next_start=True),
)}
# fmt: on

_BOOLS = dict.fromkeys(("", "0", "false", "no", "off"), False)
_BOOLS |= dict.fromkeys(("1", "true", "yes", "on"), True)
_WHOLE, _FRACTION = like("-?[0-9]{1,300}"), like(r"-?[0-9]{1,300}(\.[0-9]+)?")
# kind: how a text is read, what one is that can't be
_KINDS: dict[str, tuple[Callable[[str], Any], str]] = {
    "int": (lambda text: int(_WHOLE(text)), "not a whole number in plain digits"),
    "float": (lambda text: float(_FRACTION(text)), "not a number in plain digits"),
    "bool": (lambda text: _BOOLS[text.lower()], "neither true nor false"),
    "list": (lambda text: tuple(part for x in text.split(",") if (part := x.strip())), ""),
    "text": (str, ""),
    "choice": (str, ""),
}


def parse_setting(row: Setting, text: str, name: str = "") -> Any:
    """The value that a text gives a setting. Raises ValueError with a sentence that says its key,
    or `name`, and what it takes."""
    name, (parse, fault) = name or row.key, _KINDS[row.kind]
    try:
        value = parse(text.strip())
    except (ValueError, KeyError):
        raise ValueError(f"{name}: {text!r} is {fault}") from None
    if row.choices and value not in row.choices:
        raise ValueError(f"{name}: {text!r} is not one of {', '.join(row.choices)}")
    high = value if row.high is None else row.high
    if row.low is not None and not row.low <= value <= high:
        raise ValueError(f"{name}: {text} is not between {row.low} and {row.high}")
    if row.form is None:
        return value
    plain, words = row.form
    parts = value if row.kind == "list" else (value,)
    for part in parts:
        if part and not plain(part):
            raise ValueError(f"{name}: {'this' if row.secret else repr(part)} is not {words}")
    return tuple(map(plain, parts)) if row.kind == "list" else plain(value)


class Settings:
    """The values in force: command line before environment before saved before default."""

    def __init__(self, given: dict[str, str], environ: dict[str, str]) -> None:
        """Take the texts of the command line and the process's environment. Raises ValueError for
        an unknown key or a value that its row refuses."""
        self._fixed: dict[str, tuple[str, Any]] = {}  # key: where from, value
        names = {"DATABASE_URL": "database"} | {f"RTAPP_{key.upper()}": key for key in SETTINGS}
        for name in environ:
            if name.startswith("RTAPP_") and name not in names and not OTHER_VARIABLES.match(name):
                raise ValueError(f"{name} in the environment: {unknown_setting(name, names)}")
        for name, key in names.items():  # of two names the later one counts
            text = environ.get(name)
            # Kubernetes sets RTAPP_PORT so for a service that is called rtapp.
            if text is not None and not re.match("(tcp|udp)://", text):
                value = parse_setting(SETTINGS[key], text, f"{name} in the environment")
                self._fixed[key] = "environment", value
        for key, text in given.items():
            if key not in SETTINGS:
                raise ValueError(f"{key}: {unknown_setting(key)}")
            self._fixed[key] = "command line", parse_setting(SETTINGS[key], text)
        self.load(())

    def __getitem__(self, key: str) -> Any:
        return self._values[key][1]

    def source(self, key: str) -> str:
        """Where a value comes from: `command line`, `environment`, `saved` or `default`."""
        return self._values[key][0]

    def load(self, saved: Iterable[tuple[str, str]]) -> list[str]:
        """Replace the saved values, given as keys and texts. Returns the keys whose text is wrong,
        which count as unset. What only the start may give isn't taken: a file of handlers would
        run."""
        values, refused = {key: ("default", row.default) for key, row in SETTINGS.items()}, []
        for key, text in saved:
            try:
                if key in SETTINGS and not SETTINGS[key].start_only:
                    values[key] = "saved", parse_setting(SETTINGS[key], text)
            except ValueError:
                refused.append(key)
        self._values = values | self._fixed
        return refused

    def folder(self, usual: Callable[..., str] = platformdirs.user_data_dir) -> Path:
        """The folder that holds everything this server keeps; with `user_log_dir` the one of the
        log file of a program without a terminal."""
        # A macOS application is a folder itself.
        bundle = next((parent for parent in PROGRAM.parents if parent.suffix == ".app"), PROGRAM)
        is_portable = bundle.with_name("portable").is_file()
        own = bundle.with_name("rtapp-data") if is_portable else usual("rtapp", appauthor=False)
        return Path(self["data"] or own)


# What may stand in the environment beside settings: secrets and switches that are none, what the
# tests, `build.spec` and clients read, what Docker and Kubernetes say of a service called rtapp.
OTHER_VARIABLES = re.compile(
    r"RTAPP_(ADMIN_TOKEN|POLLER|WINDOW_\w+|BUILD|LONG|SOAK|FIGURES|TEST_\w+|TOKEN|NAME|ENV_\w+"
    r"|SERVICE_(HOST|PORT)\w*|PORT_\d+_(TCP|UDP)\w*)\Z"
)


def unknown_setting(key: str, known: Iterable[str] = SETTINGS) -> str:
    """Why a key is refused, with the name that was probably meant."""
    near = difflib.get_close_matches(key, known, 1)
    return "there is no such setting" + (f"; {near[0]} is the nearest" if near else "")


# ----------------------------------------------------------------------------------------------
# Errors
# ----------------------------------------------------------------------------------------------

# code: (HTTP status, title). The code is stable; clients may rely on it.
ERRORS: dict[str, tuple[int, str]] = {
    "malformed": (400, "Malformed request"),
    "malformed_json": (400, "Malformed JSON"),
    "unauthorized": (401, "A credential is needed"),
    "wrong_login": (401, "Wrong user name or password"),
    "forbidden": (403, "Not allowed"),
    "foreign_origin": (403, "Request from another site"),
    "invalid_link": (403, "Link used or expired"),
    "https_required": (403, "HTTPS is required"),
    "only_from_here": (403, "Only on the computer itself"),
    "reserved_channel": (403, "Reserved channel"),
    "not_found": (404, "Not found"),
    "method_not_allowed": (405, "Method not allowed"),
    "too_slow": (408, "Too slow"),
    "other_version": (412, "The file is another version"),
    "too_large": (413, "Body too large"),
    "not_json": (415, "The body must be JSON"),
    "range_not_satisfiable": (416, "No such part of the file"),
    "wrong_host": (421, "Unknown host name"),
    "invalid": (422, "Invalid values"),
    "reserved_type": (422, "Reserved type"),
    "reserved_event": (422, "Reserved event"),
    "idempotency_mismatch": (422, "Idempotency key used with another body"),
    "too_many_connections": (503, "Too many connections"),
    "storage_unavailable": (503, "Storage unavailable"),
    "outcome_unknown": (503, "Outcome unknown"),
    "not_on_postgresql": (409, "Not with PostgreSQL"),
    "port_in_use": (409, "The port is in use"),
    "overloaded": (503, "Overloaded"),
    "stopping": (503, "Shutting down"),
    "not_in_room": (403, "Not in this room"),
    "not_host": (403, "Only the host may"),
    "room_locked": (403, "Room is locked"),
    "wrong_password": (403, "Wrong password"),
    "removed": (403, "Removed from this room"),
    "peer_gone": (404, "The other one is gone"),
    "call_running": (409, "A call is running"),
    "room_exists": (409, "Room exists"),
    "room_full": (409, "Room is full"),
    "lobby_full": (409, "Too many are waiting"),
    "already_set_up": (409, "There is an administrator already"),
    "user_exists": (409, "User exists"),
    "token_exists": (409, "Token exists"),
    "last_admin": (409, "The last administrator"),
    "weak_password": (422, "Password too common"),
    "rate_limited": (429, "Too many requests"),
    "too_many_attempts": (429, "Too many attempts"),
    "setting_fixed": (409, "Setting fixed at the start"),
    "unknown_setting": (422, "Unknown setting"),
    "unknown_type": (422, "Unknown message type"),
    "upgrade_required": (426, "Upgrade required"),
    "internal": (500, "Internal error"),
}


class Problem(Exception):
    """A named error of the table; HTTP answers it as problem+json (RFC 9457)."""

    def __init__(
        self,
        code: str,
        detail: str = "",
        errors: Sequence[tuple[str, str]] = (),
        retry_after: int | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        """Take a code of `ERRORS`, a sentence, `(field, message)` pairs, and seconds to wait."""
        words = "; ".join(f"{field} {fault}".strip() for field, fault in errors)
        super().__init__(detail or (words and f"{words}.") or ERRORS[code][1])
        self.status, self.title = ERRORS[code]
        self.code, self.detail, self.errors = code, detail, errors
        self.headers = dict(headers or {})
        if wait := retry_after or (2 if self.status in (429, 503) else 0):
            self.headers["Retry-After"] = str(wait)
        if self.status == 401:  # RFC 9110, 15.5.2
            self.headers["WWW-Authenticate"] = "Bearer"


class StartError(Exception):
    """Why the program can't start, in one sentence for the person at the terminal."""


class InUse(StartError):
    """Another rtapp has the data folder."""


# ----------------------------------------------------------------------------------------------
# Storage
# ----------------------------------------------------------------------------------------------

# Topics are typed, so that no user's name meets the server's: a channel, who comes to it and leaves
# it, one client's direct messages, a video room (by its row's id: a later one of the same name is
# another), a Socket.IO room (see `room_topic`).
EVERYONE, HUB_TOPIC = "*", "sys/hub"
RESERVED_CHANNELS = ("client:", "room:", "sys:")  # how the server's own begin
CHANNEL, PRESENCE, DIRECT, VIDEO_ROOM, ROOM_PREFIX = "c/", "p/", "u/", "r/", "i/"
MESSAGE, SIGNAL, SYSTEM, CONTROL = "message", "signal", "system", "control"
VIDEO = "video"  # what happens in a video room
UNNAMED = (SIGNAL, VIDEO)  # their `type` says what they are; only Socket.IO needs a name


def room_topic(namespace: str, room: str) -> str:
    """The topic of a Socket.IO room; the room "" is the whole namespace."""
    return f"{ROOM_PREFIX}{namespace}#{room}"


def channel_of(topic: str) -> str | None:
    return topic[len(CHANNEL) :] if topic.startswith(CHANNEL) else None


def excluded_topics(exclude: str | None) -> frozenset[str]:
    """Whose subscribers a row leaves out: of one client, or of a JSON array of topics."""
    if exclude is None:
        return frozenset()
    if exclude.startswith("["):
        return msgspec.json.decode(exclude, type=frozenset[str])
    return frozenset((DIRECT + exclude,))


class Entry(msgspec.Struct, eq=False):
    """A message from its making to the last socket: a row of the log, and what the hub adds to it.
    The writer gives it `batch` and `id`, which grows for ever and never repeats within an epoch."""

    topic: str
    kind: str
    event: str | None
    content: str  # JSON
    attachments: bytes | None = None  # of a Socket.IO event: see Arguments
    sender: str | None = None
    exclude: str | None = None
    recipient_count: int = 0
    expires_at: int | None = None
    sent_at: int = 0
    batch: str = ""
    id: int = 0  # it stays so for what is volatile
    # Not in the table:
    left_out: frozenset[str] = frozenset()  # topics whose subscribers don't get it
    frames: dict[str, bytes] = {}  # its bytes by the key of an encoding, made at most once each

    def __post_init__(self) -> None:
        if self.exclude is not None:
            self.left_out = excluded_topics(self.exclude)

    @property
    def cost(self) -> int:
        """Bytes of memory that it takes, roughly; more with each frame that is made."""
        size = 800 + sys.getsizeof(self.content) + len(self.attachments or b"")
        return size + sum(map(len, self.frames.values()))

    def is_for(self, topics: frozenset[str], own: str) -> bool:
        """Whether a subscriber of these topics isn't one who is left out."""
        left_out = self.left_out
        return not left_out or (own not in left_out and left_out.isdisjoint(topics))


COLUMNS = Entry.__struct_fields__[:-2]
_SELECTED = ", ".join(COLUMNS)
# The log's last id. Not a sequence's: what one gives to a transaction that fails leaves a hole, and
# its state shows ids that are not committed yet. Retention notes the head when it takes rows.
LAST_ID = (
    "(SELECT coalesce(max(id), 0) FROM (SELECT max(id) AS id FROM messages UNION ALL"
    " SELECT CAST(value AS BIGINT) FROM meta WHERE key = 'head') AS ids)"
)
PAGE_BYTES = 8_388_608  # at which a page of the log ends: messages may be large
Page = tuple[list[Entry], int]  # entries in order, and the id up to which they are all


def take_page(rows: Iterable[Any], limit: int) -> tuple[list[Entry], bool]:
    """Entries of rows that a read gives, and whether there may be others behind them."""
    found: list[Entry] = []
    size = 0
    for entry in itertools.starmap(Entry, rows):
        found.append(entry)
        size += len(entry.content.encode()) + len(entry.attachments or b"")  # as PostgreSQL counts
        if size >= PAGE_BYTES:
            return found, True
    return found, len(found) == limit


class Table(peewee.Model):
    """Base of the models: class `VideoRoom` is table `video_rooms`. Times are integers,
    milliseconds since 1970."""

    id: Any  # peewee adds it where no other key is declared

    class Meta:
        table_function = staticmethod(
            lambda model: re.sub(r"\B(?=[A-Z])", "_", model.__name__).lower() + "s"
        )


class Message(Table):
    """A row of the log, for queries; see Entry."""

    topic = peewee.TextField()
    kind = peewee.TextField()
    event = peewee.TextField(null=True)
    content = peewee.TextField()
    attachments = peewee.BlobField(null=True)
    sender = peewee.TextField(null=True)
    exclude = peewee.TextField(null=True)
    batch = peewee.TextField()
    recipient_count = peewee.IntegerField()
    expires_at = peewee.BigIntegerField(null=True)
    sent_at = peewee.BigIntegerField()


class Topic(Table):
    """What retention took of a topic: a position from `trimmed_id` to the head is complete."""

    topic = peewee.TextField(primary_key=True)
    trimmed_id = peewee.BigIntegerField()


class EventLog(Table):
    timestamp = peewee.BigIntegerField(index=True)
    level = peewee.TextField()
    message = peewee.TextField()
    metadata = peewee.TextField()


class ServerSetting(Table):
    """A saved setting, or a value of the administrator's own (`x-…`)."""

    key = peewee.TextField(primary_key=True)
    value = peewee.TextField()
    description = peewee.TextField(null=True)
    updated_at = peewee.BigIntegerField()


class StatsMinute(Table):
    """The counters of a minute, as JSON: what is counted may grow without a migration."""

    minute = peewee.BigIntegerField()
    node = peewee.TextField()
    counters = peewee.TextField()

    class Meta:
        primary_key = peewee.CompositeKey("minute", "node")


class User(Table):
    username = peewee.TextField()
    username_key = peewee.TextField(unique=True)  # case-folded: Ada and ada are one
    password_hash = peewee.TextField()
    role = peewee.TextField()  # user, admin
    created_at = peewee.BigIntegerField()


class AccessToken(Table):
    """Setup and sign-in links, browser sessions, API tokens, stream tickets; secrets as hashes."""

    token_hash = peewee.TextField(primary_key=True)
    kind = peewee.TextField()  # setup, signin, owner, session, api, ticket
    name = peewee.TextField(default="")
    user_id = peewee.BigIntegerField(null=True)
    password_tag = peewee.TextField(null=True)  # of the password it was made under
    grants = peewee.TextField()  # JSON: see Grants
    ip_address = peewee.TextField(default="", column_name="address")
    user_agent = peewee.TextField(default="", column_name="agent")
    created_at = peewee.BigIntegerField()
    expires_at = peewee.BigIntegerField()
    used_at = peewee.BigIntegerField(null=True)
    # Of a ticket: the credential that it was got with, what that stands for, and when that ends.
    parent = peewee.TextField(null=True)
    parent_kind = peewee.TextField(null=True)
    parent_expires_at = peewee.BigIntegerField(null=True)

    @property
    def id(self) -> str:
        """What it is called in public, and revoked by."""
        return str(self.token_hash)[:16]


class IdempotencyKey(Table):
    """The first answer to a publish that carried an `Idempotency-Key`."""

    key_hash = peewee.TextField(primary_key=True)
    body_hash = peewee.TextField()
    answer = peewee.TextField()
    created_at = peewee.BigIntegerField(index=True)


class SocketSession(Table):
    """What a Socket.IO client was in a namespace, so that it can recover a lost connection."""

    pid_hash = peewee.TextField(primary_key=True)
    namespace = peewee.TextField()
    client_id = peewee.TextField()
    owner = peewee.TextField()
    state = peewee.TextField()
    position = peewee.TextField()
    node = peewee.TextField()  # where it is, or was last, connected
    left_at = peewee.BigIntegerField(null=True, index=True)


class VideoRoom(Table):
    """A video room. Of those with the same name at most one is active; flags are 0 or 1."""

    room_id = peewee.TextField()
    name = peewee.TextField()
    description = peewee.TextField()
    host_id = peewee.TextField()  # JSON: a label that the maker gave
    owner_client = peewee.TextField()  # who is host whenever there: a session's clientId
    owner_account = peewee.TextField()  # or an account
    handed = peewee.IntegerField(default=0)  # to that owner: host_id has no right any more
    max_participants = peewee.IntegerField()
    password_hash = peewee.TextField(null=True)
    locked = peewee.IntegerField(default=0)
    lobby = peewee.IntegerField()
    pinned = peewee.IntegerField()
    listed = peewee.IntegerField(default=0)  # guests see it before they have its link
    created_at = peewee.BigIntegerField(default=now_ms)
    empty_since = peewee.BigIntegerField(null=True, default=now_ms)
    ended_at = peewee.BigIntegerField(null=True)


class VideoParticipant(Table):
    room = peewee.BigIntegerField(column_name="room_id")
    client_id = peewee.TextField()
    connection_id = peewee.TextField()  # a new one with each join of the same client
    account = peewee.TextField()
    user_id = peewee.TextField()  # JSON: a label
    display_name = peewee.TextField()
    is_host = peewee.IntegerField()
    status = peewee.TextField()  # waiting, connected, reconnecting
    state = peewee.TextField()  # JSON: microphone, camera, screen, hand
    node = peewee.TextField()  # which judges its silence: see Attendance
    beats = peewee.IntegerField(default=0)  # it says that it is there; an open stream is no sign
    joined_at = peewee.BigIntegerField(default=now_ms)


class RoomBan(Table):
    room = peewee.BigIntegerField(column_name="room_id")
    who = peewee.TextField()  # may not return: `client:…`, `account:…`; returns so: `kept muted …`

    class Meta:
        primary_key = peewee.CompositeKey("room", "who")


class Fact(Table):
    """Facts about the database itself: schema version, epoch, how the last run ended."""

    key = peewee.TextField(primary_key=True)
    value = peewee.TextField()

    class Meta:
        table_name = "meta"


@functools.lru_cache(maxsize=16)
def insertion(table: str, columns: tuple[str, ...], count: int) -> str:
    row = f"({', '.join('?' * len(columns))})"
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES {', '.join([row] * count)}"


def upsert(database: peewee.Database, model: type[Table], **row: Any) -> None:
    """Insert a row, or overwrite the one with the same primary key: by hand, for to build the query
    of `on_conflict` takes many times as long as to run it."""
    keys = [key.name for key in model._meta.get_primary_keys()]
    sets = ", ".join(f"{name} = excluded.{name}" for name in row if name not in keys)
    insert = insertion(model._meta.table_name, tuple(row), 1)
    sql = f"{insert} ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {sets}"
    database.execute_sql(sql, tuple(row.values()))


# Migration n takes a database from version n to n + 1. They are SQL, not models: a model changes
# later, what a released migration did does not.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
        "CREATE TABLE messages (id {logid}, topic TEXT NOT NULL, kind TEXT NOT NULL, event TEXT,"
        " content TEXT NOT NULL, attachments {blob}, sender TEXT, exclude TEXT, batch TEXT NOT"
        " NULL, recipient_count INTEGER NOT NULL, expires_at BIGINT, sent_at BIGINT NOT NULL)",
        "CREATE INDEX messages_topic_id ON messages (topic, id)",
        "CREATE INDEX messages_expires_at ON messages (expires_at) WHERE expires_at IS NOT NULL",
        "CREATE TABLE topics (topic TEXT PRIMARY KEY, last_id BIGINT NOT NULL,"
        " trimmed_id BIGINT NOT NULL)",
        "CREATE INDEX topics_last_id ON topics (last_id)",
        "CREATE TABLE event_logs (id {autoid}, timestamp BIGINT NOT NULL, level TEXT NOT NULL,"
        " message TEXT NOT NULL, metadata TEXT NOT NULL)",
        "CREATE INDEX event_logs_timestamp ON event_logs (timestamp)",
        "CREATE TABLE users (id {autoid}, username TEXT NOT NULL, username_key TEXT NOT NULL"
        " UNIQUE, password_hash TEXT NOT NULL, role TEXT NOT NULL, created_at BIGINT NOT NULL)",
        "CREATE TABLE access_tokens (token_hash TEXT PRIMARY KEY, kind TEXT NOT NULL,"
        " name TEXT NOT NULL, user_id BIGINT, password_tag TEXT, grants TEXT NOT NULL,"
        " address TEXT NOT NULL, agent TEXT NOT NULL, created_at BIGINT NOT NULL,"
        " expires_at BIGINT NOT NULL, used_at BIGINT)",
        "CREATE INDEX access_tokens_user_id ON access_tokens (user_id)",
        "CREATE TABLE server_settings (key TEXT PRIMARY KEY, value TEXT NOT NULL,"
        " description TEXT, updated_at BIGINT NOT NULL)",
        "CREATE TABLE stats_minutes (minute BIGINT NOT NULL, node TEXT NOT NULL,"
        " counters TEXT NOT NULL, PRIMARY KEY (minute, node))",
        "CREATE TABLE idempotency_keys (key_hash TEXT PRIMARY KEY, body_hash TEXT NOT NULL,"
        " answer TEXT NOT NULL, created_at BIGINT NOT NULL)",
        "CREATE INDEX idempotency_keys_created_at ON idempotency_keys (created_at)",
    ),
    (
        "CREATE TABLE nodes (id TEXT PRIMARY KEY, name TEXT NOT NULL, started BIGINT NOT NULL,"
        " heartbeat BIGINT NOT NULL, audience TEXT NOT NULL)",
        "CREATE TABLE connections (id BIGINT NOT NULL, node TEXT NOT NULL, client_id TEXT NOT NULL,"
        " transport TEXT NOT NULL, ip_address TEXT NOT NULL, user_agent TEXT NOT NULL,"
        " username TEXT, channels TEXT NOT NULL, connected_at BIGINT NOT NULL,"
        " last_ping BIGINT NOT NULL, message_count BIGINT NOT NULL, bytes_sent BIGINT NOT NULL,"
        " lag BIGINT NOT NULL, status TEXT NOT NULL, PRIMARY KEY (node, id))",
        "CREATE INDEX connections_client_id ON connections (client_id)",
        "CREATE TABLE socket_sessions (pid_hash TEXT PRIMARY KEY, namespace TEXT NOT NULL,"
        " client_id TEXT NOT NULL, owner TEXT NOT NULL, state TEXT NOT NULL,"
        " position TEXT NOT NULL, node TEXT NOT NULL, left_at BIGINT)",
        "CREATE INDEX socket_sessions_left_at ON socket_sessions (left_at)",
    ),
    (
        "CREATE TABLE video_rooms (id {autoid}, room_id TEXT NOT NULL, name TEXT NOT NULL,"
        " description TEXT NOT NULL, host_id TEXT NOT NULL, owner_client TEXT NOT NULL,"
        " owner_account TEXT NOT NULL, handed INTEGER NOT NULL, max_participants INTEGER NOT NULL,"
        " password_hash TEXT, locked INTEGER NOT NULL, lobby INTEGER NOT NULL, pinned INTEGER NOT"
        " NULL, created_at BIGINT NOT NULL, empty_since BIGINT, ended_at BIGINT)",
        "CREATE UNIQUE INDEX video_rooms_active ON video_rooms (room_id) WHERE ended_at IS NULL",
        "CREATE TABLE video_participants (id {autoid}, room_id BIGINT NOT NULL,"
        " client_id TEXT NOT NULL, connection_id TEXT NOT NULL, account TEXT NOT NULL,"
        " user_id TEXT NOT NULL, display_name TEXT NOT NULL, is_host INTEGER NOT NULL,"
        " status TEXT NOT NULL, state TEXT NOT NULL, node TEXT NOT NULL, heard_at BIGINT NOT NULL,"
        " beats INTEGER NOT NULL, joined_at BIGINT NOT NULL)",
        "CREATE UNIQUE INDEX video_participants_room ON video_participants (room_id, client_id)",
        "CREATE INDEX video_participants_client ON video_participants (client_id)",
        "CREATE TABLE room_bans (room_id BIGINT NOT NULL, who TEXT NOT NULL,"
        " PRIMARY KEY (room_id, who))",
    ),
    (
        "INSERT INTO meta (key, value)"
        " SELECT 'head', CAST(coalesce(max(last_id), 0) AS TEXT) FROM topics",
        "DELETE FROM topics WHERE trimmed_id = 0",
        "DROP INDEX topics_last_id",
        "ALTER TABLE topics DROP COLUMN last_id",
    ),
    (
        "DELETE FROM access_tokens WHERE kind = 'ticket'",
        "ALTER TABLE access_tokens ADD COLUMN parent TEXT",
        "ALTER TABLE access_tokens ADD COLUMN parent_kind TEXT",
        "ALTER TABLE access_tokens ADD COLUMN parent_expires_at BIGINT",
        "CREATE INDEX access_tokens_parent ON access_tokens (parent)",
    ),
    ("ALTER TABLE video_participants DROP COLUMN heard_at",),
    ("ALTER TABLE video_rooms ADD COLUMN listed INTEGER NOT NULL DEFAULT 0",),
)
SCHEMA_VERSION = "SELECT value FROM meta WHERE key = 'schema_version'"
DATABASE_FAULTS = (peewee.DatabaseError, peewee.InterfaceError)
DATABASE_AWAY = ("storage_unavailable", "outcome_unknown")
USE_PG_DUMP = "Save a PostgreSQL database with pg_dump and bring it back with pg_restore."


class Transaction:
    """What a unit of work sees, and must not keep: the writer's database and a way into the log.
    Entries get their ids at once and are inserted together."""

    def __init__(self, database: LogDatabase) -> None:
        self.database = database
        self.batch = secrets.token_hex(16)
        self.entries: list[Entry] = []
        self.next_id = database.last_id + 1  # of the next message, if it carries its own
        self.finished = False  # nothing is left but the commit
        self._staged = 0  # entries that are inserted

    def append(self, entries: Sequence[Entry]) -> list[int]:
        """Put messages into the log; their ids, which are final once the transaction commits."""
        for number, entry in enumerate(entries, self.next_id):
            entry.id, entry.batch = number, self.batch
        self.next_id += len(entries)
        self.entries += entries
        return [entry.id for entry in entries]

    def perform(self, work: Work, careful: bool) -> None:
        """Do a work and keep its answer. An error of a unit is its own: it runs in a savepoint, as
        plain entries do with `careful`."""
        work.error, entries, next_id = None, len(self.entries), self.next_id
        try:
            if work.is_plain and not careful:
                work.value = work.unit(self)
                return
            self.insert()
            with self.database.savepoint():
                work.value = work.unit(self)
                self.insert()
        except Exception as error:
            if not self.database.is_sound():
                raise  # the fault took the whole transaction with it
            del self.entries[entries:]
            self._staged, self.next_id = min(self._staged, entries), next_id
            work.error = storage_problem(error)

    def insert(self, is_last: bool = False) -> None:
        """Put what was appended into the table; with `is_last` only the commit is left."""
        rest = self.entries[self._staged :]
        rows = [msgspec.structs.astuple(entry)[: len(COLUMNS)] for entry in rest]
        self.database.insert(rows, is_last)
        self._staged, self.finished = len(self.entries), is_last


class Work(msgspec.Struct, eq=False):
    """Something given to the writer, where its giver waits, and what that hears."""

    waiter: gevent.hub.Waiter
    unit: Callable[[Transaction], Any]
    is_plain: bool  # it puts entries into the log and does nothing else
    value: Any = None
    error: BaseException | None = None


Rows = Sequence[tuple[Any, ...]]
Take = Callable[[Iterable[Any]], T]  # makes something of the rows of a read


class Fate(enum.Enum):
    """What became of a transaction that failed."""

    GONE = "rolled back; a second try makes sense"
    AWAY = "nothing is written, and nothing can be now"
    COMMITTED = "committed, although the answer was lost"
    UNKNOWN = "committed or not: the database can't be asked"


def storage_problem(error: BaseException, fate: Fate = Fate.GONE) -> BaseException:
    """A fault of the database as the problem that a client is told; other errors as they are."""
    if isinstance(error, (peewee.DataError, UnicodeEncodeError)):
        return Problem("invalid", f"The database can't hold what was given: {error}.")
    is_own = isinstance(error, (peewee.IntegrityError, peewee.ProgrammingError))
    if is_own or not isinstance(error, DATABASE_FAULTS):
        return error
    code = "storage_unavailable"
    detail = "The database can't be used at the moment, and nothing was stored; try again."
    if fate is Fate.UNKNOWN:
        code = "outcome_unknown"
        detail = (
            "The database went away while it stored this: it may be stored or not. Send it again "
            "with the same Idempotency-Key to learn which."
        )
    problem = Problem(code, detail, retry_after=5)
    problem.__cause__ = error
    return problem


def schema_version(database: peewee.Database) -> int:
    """The version that a database is of; 0 when it is empty."""
    if not database.table_exists("meta"):
        return 0
    return int(database.execute_sql(SCHEMA_VERSION).fetchone()[0])


class Engine:
    """What SQLite and PostgreSQL do each in its own way. Raw SQL has `?` for a parameter."""

    name: str  # for people; without secrets
    folder: Path  # where the program's files are
    durability = "full"
    shared = False  # other processes may serve the same log
    remedy: str  # what to do when it can't be used
    types: ClassVar[dict[str, str]]  # of columns, for migrations
    size_sql: str  # for the bytes that the database takes
    timeline_sql = "SELECT ''"  # for what changes where a failover may have lost transactions
    queue: Any = staticmethod(gevent.queue.SimpleQueue)  # of what the writer does
    spawn: Any = staticmethod(gevent.spawn)  # runs the writer
    connect: Callable[[], peewee.Database]  # a connection of its own; raises peewee's errors
    open_writer: Callable[[], LogDatabase]  # the writer's, which mends itself: see `after_fault`
    open_readers: Callable[[], peewee.Database]  # what short reads on the loop go to
    read_long: Callable[[str, Sequence[Any], Take[T]], T]  # for a read that may take a while
    close: Callable[[], Any]  # the readers, and lets others claim it

    def redacted(self, text: str) -> str:
        return text

    def claim(self) -> None:
        """Make sure that this process may serve this database. Raises StartError."""

    def prepare(self, database: peewee.Database) -> None:
        """Look for damage as far as that is quick, and bring the database to this program's
        version. Raises StartError when it is newer than the program, peewee.DatabaseError."""
        version = schema_version(database)
        if version > len(MIGRATIONS):
            copy = Path(f"{self.name}.v{len(MIGRATIONS)}.bak")  # SQLite's
            back = f", or go back to {copy}, made before the migration" if copy.exists() else ""
            raise StartError(
                f"The database {self.name} is of version {version}, newer than this program "
                f"(version {len(MIGRATIONS)}): use the newer program{back}."
            )
        if not version and database.get_tables():
            raise StartError(f"{self.name} is another program's database: choose another one.")
        for number, statements in enumerate(MIGRATIONS[version:], version + 1):
            with database.atomic("IMMEDIATE"):
                for statement in statements:
                    database.execute_sql(statement.format(**self.types))
                upsert(database, Fact, key="schema_version", value=str(number))

    def page_sql(self, where: str, limit: int, order: str) -> str:
        return f"SELECT {_SELECTED} FROM messages WHERE {where} ORDER BY id {order} LIMIT {limit}"

    def read_page(
        self, where: str, parameters: Sequence[Any], limit: int, order: str = "ASC"
    ) -> tuple[list[Entry], bool]:
        """At most `limit` entries and some `PAGE_BYTES`, by id; whether there may be more."""
        take = partial(take_page, limit=limit)
        return self.read_long(self.page_sql(where, limit, order), parameters, take)

    def tidy(self) -> None:
        """Give back what the database no longer needs; called at leisure."""

    def wal_bytes(self) -> int | None:
        """What SQLite's write-ahead log takes; others have none."""
        return None


class Sqlite(peewee.SqliteDatabase):
    @property
    def last_id(self) -> int:
        """The log's last id, in a transaction that has begun."""
        row = self.execute_sql(f"SELECT {LAST_ID}").fetchone()  # type: ignore[no-untyped-call]
        return int(row[0])

    def insert(self, rows: Rows, is_last: bool) -> None:
        try:
            cursor = self.cursor()  # type: ignore[no-untyped-call]
            cursor.executemany(insertion("messages", COLUMNS, 1), rows)
        except sqlite3.Error as error:  # the driver's own cursor: peewee's names don't apply
            raise peewee.OperationalError(str(error)) from error

    def is_sound(self) -> bool:
        """Whether a transaction is open and sound."""
        return bool(self.connection().in_transaction)  # type: ignore[no-untyped-call]

    def after_fault(self, transaction: Transaction | None) -> Fate:
        """Clean up after a failed transaction, and learn what became of it."""
        with contextlib.suppress(*DATABASE_FAULTS):
            if self.is_sound():
                self.rollback()
        return Fate.AWAY if transaction is None else Fate.GONE


class SqliteEngine(Engine):
    """SQLite: one process, one file. The writer is a thread: its fsync would stop the loop."""

    remedy = "If it is damaged, move it away and restore a backup."
    NUMBERED = "INTEGER PRIMARY KEY AUTOINCREMENT"
    types = {"logid": NUMBERED, "autoid": NUMBERED, "blob": "BLOB"}
    size_sql = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
    queue = staticmethod(_queue.SimpleQueue)  # C's own: real locks even when patched
    spawn = staticmethod(lambda main: get_original("_thread", "start_new_thread")(main, ()))
    LONG_READS = 3  # at a time
    LOG_BYTES = 67_108_864  # of the write-ahead log, to which it shrinks again

    def __init__(self, path: Path, durability: str = "full") -> None:
        self.path = path
        self.name = str(path)
        self.folder = path.parent
        self.durability = durability
        self._idle: gevent.queue.SimpleQueue  # the connections that long reads take turns on
        self._held = contextlib.ExitStack()
        self.close = self._held.close

    def claim(self) -> None:
        # SQLite's own lock works on every platform, and goes when the process dies.
        folder = self.folder
        try:
            lock = sqlite3.connect(folder / "rtapp.lock", timeout=0, isolation_level=None)
            lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise InUse(
                    f"The data folder {folder} is in use by another rtapp. Stop that one, or "
                    "choose another folder with --data."
                ) from None
            raise StartError(f"The data folder {folder} can't be written: {error}.") from None
        self._held.callback(lock.close)
        for left in folder.glob("backup-*.tmp*"):  # by a kill during its download
            with contextlib.suppress(OSError):
                left.unlink()

    def connect(self) -> Sqlite:
        pragmas = {"journal_mode": "wal", "journal_size_limit": self.LOG_BYTES}
        pragmas |= {"synchronous": self.durability, "busy_timeout": 10_000, "foreign_keys": 1}
        # As safe for threads, peewee would open a connection for each greenlet.
        database = Sqlite(str(self.path), pragmas, thread_safe=False, check_same_thread=False)
        database.connect()
        return database

    open_writer = connect

    def prepare(self, database: peewee.Database) -> None:
        if self.path.stat().st_size < 64 * 1024 * 1024:
            verdict = database.execute_sql("PRAGMA quick_check(1)").fetchone()[0]
            if verdict != "ok":
                raise peewee.DatabaseError(verdict)
        if 0 < (version := schema_version(database)) < len(MIGRATIONS):
            copy_database(self.path, Path(f"{self.path}.v{version}.bak"))
        super().prepare(database)

    def open_readers(self) -> peewee.Database:
        closing = [contextlib.closing(self.connect()) for _ in range(1 + self.LONG_READS)]
        reader, *idle = map(self._held.enter_context, closing)
        self._idle = gevent.queue.SimpleQueue(items=idle)
        return reader

    def read_long(self, sql: str, parameters: Sequence[Any], take: Take[T]) -> T:
        database = self._idle.get()
        try:
            read = partial(database.execute_sql, sql, parameters)
            return gevent.get_hub().threadpool.apply(lambda: take(read()))  # type: ignore[no-any-return]
        finally:
            self._idle.put(database)

    def tidy(self) -> None:
        # A long reader has let the write-ahead log grow. What is copied from it here, beside
        # whoever writes, needs no room any more: the next transaction begins a new one.
        if self.wal_bytes() > self.LOG_BYTES:
            self.read_long("PRAGMA wal_checkpoint(PASSIVE)", (), list)

    def wal_bytes(self) -> int:
        with contextlib.suppress(OSError):
            return Path(f"{self.path}-wal").stat().st_size
        return 0


def looked_up(url: str) -> dict[str, str]:
    """The addresses of the host that a URL names, as libpq takes them: it would stop the loop while
    it looks a name up, for ten seconds where no name server answers. Several hosts are left to it.
    Raises psycopg2.OperationalError."""
    given = psycopg2.extensions.parse_dsn(url)
    host = given.get("host", "")
    if not re.fullmatch(r"[\w.-]*[a-zA-Z][\w.-]*", host) or "hostaddr" in given:
        return {}  # an address, a socket's folder
    try:
        host.encode("idna")  # as the resolver does, in a thread that would print what is wrong
        found = gevent.socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise psycopg2.OperationalError(f"{host} has no address: {error}") from error
    addresses = list(dict.fromkeys(str(row[4][0]) for row in found))
    return {"host": ",".join([host] * len(addresses)), "hostaddr": ",".join(addresses)}


class PostgresLink(psycopg2.extensions.connection):
    """A connection on which no wait is without an end."""

    patience = 15.0  # seconds without a word, after which it counts as lost


class Postgres(peewee.PostgresqlDatabase):
    """One connection to PostgreSQL, which doesn't stop the loop while it waits."""

    CONNECT_SECONDS = 5
    OPTIONS: ClassVar = {"application_name": "rtapp", "connect_timeout": CONNECT_SECONDS}
    OPTIONS |= {"keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3}
    OPTIONS |= {"tcp_user_timeout": 10_000}
    # Whoever holds the lock of the log and doesn't go on is put out by the server.
    HELD_SECONDS = 10

    def __init__(self, url: str) -> None:
        self._url = url
        self._state: Any  # its `conn` is psycopg2's connection
        super().__init__("rtapp", thread_safe=False)

    def _connect(self) -> Any:
        away = psycopg2.OperationalError("no answer while connecting")
        # libpq's own connect_timeout doesn't count while it is polled from outside.
        with gevent.Timeout(self.CONNECT_SECONDS, away):
            given = looked_up(self._url) | self.OPTIONS
            connection = psycopg2.connect(self._url, connection_factory=PostgresLink, **given)
        connection.autocommit = True
        return connection

    def execute_sql(self, sql: str, params: Any = None) -> Any:
        """Run a statement whose parameters are `?`, ours, or `%s`, peewee's. Raises Problem
        `invalid` for a text that PostgreSQL can't hold."""
        detail = "A text must not hold the character U+0000 or half of a surrogate pair."
        try:
            return super().execute_sql(sql.replace("?", "%s"), params)  # type: ignore[no-untyped-call]
        except ValueError:  # the driver's, before anything is sent
            raise Problem("invalid", detail) from None

    @property
    def is_lost(self) -> bool:
        return self._state.conn is None or bool(self._state.conn.closed)

    def lose(self) -> None:
        with contextlib.suppress(psycopg2.Error, *DATABASE_FAULTS):
            if self._state.conn is not None:
                self._state.conn.close()
        self._state.reset()


class PostgresWriter(Postgres):
    """The writer's connection: a transaction begins with the log's lock and a look at its end."""

    LOCK = 7_274_870_112  # the number of the advisory lock: any that others don't take
    INSERT_ROWS = 1_000  # of a statement
    DOUBT_SECONDS = 8.0  # for which the fate of a commit is asked after
    mark: Any = None  # what to know the transaction by when its fate is unknown
    last_id = 0  # the log's, when it began
    last: tuple[str, Rows] = "", ()  # a statement that goes with the commit, and its rows

    def begin(self, isolation_level: Any = None) -> None:
        """A commit is never acknowledged before it is on the disk, even where the server's default
        says so. Each statement must see what was committed before it, not before the lock."""
        held = f"{self.HELD_SECONDS}s"
        self.mark, self.last_id = self.execute_sql(
            "BEGIN ISOLATION LEVEL READ COMMITTED;"
            f"SELECT set_config('lock_timeout', '{held}', true),"
            f"set_config('idle_in_transaction_session_timeout', '{held}', true),"
            "set_config('synchronous_commit', replace(current_setting("
            "'synchronous_commit'), 'off', 'on'), true);"
            f"SELECT pg_advisory_xact_lock(?); SELECT txid_current(), {LAST_ID}",
            (self.LOCK,),
        ).fetchone()
        self.last = "", ()

    def commit(self) -> None:
        """Commit, in one round trip with what was to be last."""
        if self.is_lost:  # a new connection would commit nothing, and say that it did
            raise peewee.OperationalError("the connection was lost")
        self._run(self.last[0] + "COMMIT", self.last[1])

    def _run(self, sql: str, rows: Rows) -> None:
        """Run statements of the log itself: each of their faults is the database's."""
        try:
            self.execute_sql(sql, [value for row in rows for value in row])
        except (psycopg2.Error, peewee.DatabaseError) as error:
            raise peewee.OperationalError(str(error)) from error

    def insert(self, rows: Rows, is_last: bool) -> None:
        """The last ones of a transaction wait for the commit, which takes them along."""
        pages = list(chunks(rows, self.INSERT_ROWS))
        if is_last and pages:
            self.last = insertion("messages", COLUMNS, len(pages[-1])) + ";", pages.pop()
        for page in pages:
            self._run(insertion("messages", COLUMNS, len(page)), page)

    def is_sound(self) -> bool:
        status = self._state.conn.info.transaction_status
        return bool(status == psycopg2.extensions.TRANSACTION_STATUS_INTRANS)

    def after_fault(self, transaction: Transaction | None) -> Fate:
        was_open = not self.is_closed()
        if not self.is_lost:
            with contextlib.suppress(*DATABASE_FAULTS):
                self.rollback()
        if not self.is_lost:
            return Fate.GONE
        self.lose()
        in_doubt = transaction if transaction is not None and transaction.finished else None
        if not was_open and in_doubt is None:
            return Fate.AWAY  # it could not be reached to begin with
        deadline = time.monotonic() + (self.DOUBT_SECONDS if in_doubt else 0)
        while True:
            try:
                self.connect(reuse_if_open=True)
                is_in = in_doubt is not None and self._was_committed(in_doubt)
                return Fate.COMMITTED if is_in else Fate.GONE
            except DATABASE_FAULTS:
                self.lose()
                if time.monotonic() > deadline:
                    return Fate.UNKNOWN if in_doubt else Fate.AWAY
                gevent.sleep(0.1 + random.random() / 5)

    def _was_committed(self, transaction: Transaction) -> bool:
        asked: tuple[Any, ...] = (self.mark,)
        sql = "SELECT txid_status(?) = 'committed'"
        if transaction.entries:
            sql = "SELECT count(*) > 0 FROM messages WHERE id = ? AND batch = ?"
            asked = transaction.entries[0].id, transaction.batch
        with self.atomic():  # waits until the server has ended the other one
            return bool(self.execute_sql(sql, asked).fetchone()[0])


class PostgresReaders(Postgres):
    """A bounded set of connections. Each statement takes one for as long as it runs: the driver
    has all rows when it ends, so nothing is held between statements."""

    SIZE = 8
    WAIT_SECONDS = 10.0

    def __init__(self, url: str) -> None:
        super().__init__(url)
        # The last one used is the next, so no more are connected than were ever needed at once.
        self._idle = gevent.queue.LifoQueue(items=[Postgres(url) for _ in range(self.SIZE)])

    def execute_sql(self, sql: str, params: Any = None) -> Any:
        """Run one statement by itself; twice when a lost connection ended the first, so it must
        be one that may be repeated. Raises Problem `storage_unavailable`."""
        try:
            database = self._idle.get(timeout=self.WAIT_SECONDS)
        except gevent.queue.Empty:
            raise Problem("storage_unavailable", "The database is slow to answer.") from None
        try:
            if not database.is_closed():
                with contextlib.suppress(peewee.OperationalError, peewee.InterfaceError):
                    return database.execute_sql(sql, params)
                database.lose()
                self.close()  # one was lost, so probably all were
            return database.execute_sql(sql, params)
        except BaseException as error:
            database.lose()  # a timeout may have left it in the middle of an answer
            if isinstance(error, (peewee.OperationalError, peewee.InterfaceError)):
                raise storage_problem(error) from error
            raise
        finally:
            self._idle.put(database)

    def close(self) -> bool:
        """Close the connections that are not in use."""
        for database in self._idle.queue:
            database.lose()
        return True


def make_cooperative() -> None:
    """Let psycopg2 wait on gevent's loop, and give bytes as bytes."""

    def wait(connection: Any) -> None:
        patience = getattr(connection, "patience", None)  # a handler's own connection has none
        silent = psycopg2.OperationalError("PostgreSQL has not answered in time")
        while (state := connection.poll()) != psycopg2.extensions.POLL_OK:
            is_read = state == psycopg2.extensions.POLL_READ
            wait_for = gevent.socket.wait_read if is_read else gevent.socket.wait_write
            wait_for(connection.fileno(), patience, silent)

    def as_bytes(value: Any, cursor: Any) -> bytes | None:
        return None if value is None else bytes(psycopg2.BINARY(value, cursor))

    psycopg2.extensions.set_wait_callback(wait)
    kind = psycopg2.extensions.new_type(psycopg2.BINARY.values, "BYTES", as_bytes)
    psycopg2.extensions.register_type(kind)


class PostgresEngine(Engine):
    """PostgreSQL: several processes, each with a writer. A writing transaction takes one lock
    first, so the order of ids is the order of commits; nothing newer than version 13 is used."""

    shared = True
    remedy = "Check the URL, and that the server runs and lets this user in."
    types = {"logid": "BIGINT PRIMARY KEY", "autoid": "BIGSERIAL PRIMARY KEY", "blob": "BYTEA"}
    size_sql = "SELECT pg_database_size(current_database())"
    timeline_sql = "SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)"
    MIGRATION_SECONDS = 3_600  # for one statement: it may have to read a long table

    def __init__(self, url: str, folder: Path) -> None:
        make_cooperative()
        self.url = url
        parts = urllib.parse.urlsplit(url)
        self.name = f"postgresql://{parts.hostname or ''}{parts.path}"
        self.folder = folder
        self._readers = PostgresReaders(url)
        self.open_readers = lambda: self._readers
        self.close = self._readers.close

    def redacted(self, text: str) -> str:
        password = urllib.parse.urlsplit(self.url).password
        text = text.replace(self.url, self.name)
        return text.replace(password, "***") if password else text

    def connect(self) -> peewee.Database:
        database = Postgres(self.url)
        database.connect()
        return database

    def open_writer(self) -> PostgresWriter:
        return PostgresWriter(self.url)

    def prepare(self, database: peewee.Database) -> None:
        """In one transaction, and one at a time: several processes may start at once."""
        with database.atomic():
            # Who falls silent meanwhile would hold up every node.
            held = f"SET LOCAL idle_in_transaction_session_timeout = '{Postgres.HELD_SECONDS}s'"
            database.execute_sql(f"{held}; SELECT pg_advisory_xact_lock({PostgresWriter.LOCK})")
            if 0 < schema_version(database) < len(MIGRATIONS):  # it may have to read a long table
                database.connection().patience = self.MIGRATION_SECONDS
            super().prepare(database)

    def read_long(self, sql: str, parameters: Sequence[Any], take: Take[T]) -> T:
        return take(self._readers.execute_sql(sql, parameters))

    def page_sql(self, where: str, limit: int, order: str) -> str:
        """The driver takes all rows at once, so the server counts their bytes."""
        size = "octet_length(content) + coalesce(octet_length(attachments), 0)"
        page = super().page_sql(where, limit, order)
        return (
            f"SELECT {_SELECTED} FROM (SELECT *, sum({size}) OVER (ORDER BY id {order}) - ({size})"
            f" AS before FROM ({page}) AS page) AS sized"
            f" WHERE before < {PAGE_BYTES} ORDER BY id {order}"
        )

    def set_sequences(self, database: peewee.Database) -> None:
        """Let ids go on after those of rows that were copied."""
        for table in ("event_logs", "users", "video_rooms", "video_participants"):
            database.execute_sql(
                f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), max(id)) FROM {table}"
            )


LogDatabase = Sqlite | PostgresWriter  # what a transaction is of


@contextlib.contextmanager
def needing(engine: Engine) -> Iterator[None]:
    """Tell the person at the terminal, as StartError, that the database is away."""
    try:
        yield
    except (peewee.OperationalError, peewee.InterfaceError, Problem) as error:
        if isinstance(error, Problem) and error.status != 503:
            raise
        lines = str(error.__cause__ or error).strip().splitlines() or ["no answer"]
        raise StartError(
            f"The database {engine.name} can't be used: {engine.redacted(lines[0])}. "
            f"{engine.remedy}"
        ) from None


def prepare_database(engine: Engine) -> None:
    """Check a database, or make it, and bring it to this version. Raises StartError."""
    try:
        with needing(engine), contextlib.closing(engine.connect()) as database:
            engine.prepare(database)
    except (peewee.DatabaseError, ValueError, TypeError):
        raise StartError(
            f"The database {engine.name} is damaged or is none of rtapp's: move it away and "
            "restore a backup (rtapp restore FILE), or choose another one."
        ) from None


class Storage:
    """The database: one writer, with group commit, and readers that never wait for it."""

    QUEUE = 20_000  # works that may wait for the writer
    BATCH = 2_000  # of them in a transaction

    def __init__(self, engine: Engine) -> None:
        """Open or create the database. Raises StartError when it is damaged, newer than the
        program, in use, or can't be reached."""
        self.engine, self.folder = engine, engine.folder
        self.fault: str | None = None  # why the last transaction failed, if it did
        self._size = 0
        engine.claim()
        prepare_database(engine)
        self.reader = engine.open_readers()
        for model in Table.__subclasses__():
            model.bind(self.reader)
        self._works = engine.queue()  # None ends it
        self._database: LogDatabase | None = None  # the writer's own
        self._done: deque[tuple[list[Entry], list[Work]]] = deque()  # one without works ends it
        self._bell = gevent.event.Event()
        self._async = gevent.get_hub().loop.async_()

    # Writing

    def start(self, log_committed: Callable[[list[Entry]], None]) -> None:
        """Start the writer. `log_committed` is called with the entries of each commit, before
        those who wait in `write` go on."""
        self._async.start(self._bell.set)
        self._deliverer = gevent.spawn(self._deliver, log_committed)
        self.engine.spawn(self._write_on)

    def stop(self) -> None:
        """Write what waits and close."""
        self._works.put(None)
        self._deliverer.join(timeout=10)
        self._async.stop()
        self.engine.close()

    def write(self, unit: Callable[[Transaction], T], is_plain: bool = False) -> T:
        """Run `unit`, which is plain if it only appends entries, in the writer's next transaction;
        its result, after the commit. Raises what the unit raises, or Problem `storage_unavailable`,
        `outcome_unknown` or `overloaded`."""
        if self._works.qsize() >= self.QUEUE:
            raise Problem("overloaded", "Too many writes are waiting.")
        work = Work(gevent.hub.Waiter(), unit, is_plain)
        self._works.put(work)
        return work.waiter.get()  # type: ignore[no-any-return]

    def _write_on(self) -> None:
        """The writer: a thread or a greenlet, as its engine needs; it takes all that waits."""
        for first in iter(self._works.get, None):
            works = [first]
            with contextlib.suppress(_queue.Empty):
                while works[-1] is not None and len(works) < self.BATCH:
                    works.append(self._works.get_nowait())
            if works[-1] is None:
                self._works.put(works.pop())  # for the next time
            self._done.append((self._commit(works), works))
            self._async.send()  # to the loop
        if self._database is not None:
            self._database.close()
        self._done.append(([], []))
        self._async.send()

    def _commit(self, works: list[Work]) -> list[Entry]:
        """Run works in one transaction; what it stored. When it fails, for a lost connection or
        since the database refuses what one of them holds, a second time: then each by itself."""
        for careful in (False, True):
            transaction, fate = None, Fate.AWAY
            try:
                self._database = self._database or self.engine.open_writer()
                with self._database.atomic("IMMEDIATE"):
                    transaction = Transaction(self._database)
                    for work in works:
                        transaction.perform(work, careful)
                    transaction.insert(is_last=True)
                return transaction.entries
            except Exception as error:
                fault = error
                if self._database is not None:
                    fate = self._database.after_fault(transaction)
            if transaction is not None and fate is Fate.COMMITTED:
                return transaction.entries
            if fate is not Fate.GONE:
                break
        for work in works:  # a full disk, a lost database: everybody is told
            work.error = storage_problem(fault, fate)
        return []

    def _deliver(self, log_committed: Callable[[list[Entry]], None]) -> None:
        """Have the log advance over what was stored, and wake who waits for it."""
        run_callback = gevent.get_hub().loop.run_callback
        while self._bell.wait():
            self._bell.clear()
            while self._done:
                entries, works = self._done.popleft()
                if not works:
                    return
                if entries:
                    log_committed(entries)
                self.fault = None
                for work in works:
                    wake = work.waiter.switch if work.error is None else work.waiter.throw
                    run_callback(wake, work.value if work.error is None else work.error)
                    if isinstance(work.error, Problem) and work.error.code in DATABASE_AWAY:
                        self.fault = str(work.error.__cause__)

    def backup(self, target: Path) -> None:
        """Copy the database to a file while it is in use. Raises Problem `not_on_postgresql`."""
        if not isinstance(self.engine, SqliteEngine):
            raise Problem("not_on_postgresql", USE_PG_DUMP)
        gevent.get_hub().threadpool.apply(copy_database, (self.engine.path, target))

    # Reading

    def read(self, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
        """Rows of a short read. Raises Problem `storage_unavailable` when PostgreSQL is away."""
        return list(self.reader.execute_sql(sql, parameters).fetchall())

    def read_long(self, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
        """Rows of a read that may take a while, without stopping the loop."""
        return self.engine.read_long(sql, parameters, list)

    def size(self) -> int:
        """Bytes that the database takes; the last known while it is away."""
        with contextlib.suppress(Problem):
            self._size = int(self.read(self.engine.size_sql)[0][0])
        return self._size

    def meta(self, key: str) -> str | None:
        row = Fact.get_or_none(Fact.key == key)
        return row.value if row else None


def note_facts(database: peewee.Database, facts: dict[str, str]) -> None:
    for key, value in facts.items():
        upsert(database, Fact, key=key, value=value)


def copy_database(source: Path, target: Path) -> None:
    """Copy an SQLite database that may be in use; only this user can read the copy."""
    make_private(target)
    with (
        contextlib.closing(sqlite3.connect(source)) as old,
        contextlib.closing(sqlite3.connect(target)) as new,
    ):
        old.backup(new)


def check_backup(path: Path) -> None:
    """Raise StartError unless a file is a sound database that this program can open."""
    if not path.is_file():  # who opens a pipe waits for its writer
        raise StartError(f"There is no file {path}.")
    address = f"{Path(os.path.realpath(path)).as_uri()}?mode=ro"
    try:
        with contextlib.closing(sqlite3.connect(address, uri=True)) as db:
            verdict = db.execute("PRAGMA quick_check(1)").fetchone()[0]
            version = int(db.execute(SCHEMA_VERSION).fetchone()[0])
    except (sqlite3.Error, TypeError, ValueError) as error:
        raise StartError(f"{path} is not a backup of rtapp: {error}.") from None
    if verdict != "ok":
        raise StartError(f"{path} is damaged: {verdict}.")
    if version > len(MIGRATIONS):
        raise StartError(f"{path} was made by a newer rtapp (version {version}).")


# ----------------------------------------------------------------------------------------------
# Observability
# ----------------------------------------------------------------------------------------------


def paced(items: Iterable[T]) -> Iterator[T]:
    """The same items; each time that they have taken some milliseconds, others have their turn."""
    until = ticks_ms() + 4
    for item in items:
        yield item
        if ticks_ms() >= until:
            gevent.sleep(0.001)  # 0 would not look at sockets
            until = ticks_ms() + 4


class Stats:
    """Counters. Whoever does the thing counts it; nothing is formatted on the way."""

    SAMPLE_SECONDS = 5.0
    WINDOW = 12  # samples that rates are taken over: a minute
    NAMES = 4_000  # of topics whose messages are counted between two samples: those with most

    def __init__(self) -> None:
        self._started = time.monotonic()
        self.total_connections = self.messages_sent = self.deliveries = self.bytes_sent = 0
        self._latencies: deque[float] = deque(maxlen=1_000)
        self._process = psutil.Process()
        self._samples: deque[tuple[float, int, int]] = deque(maxlen=self.WINDOW)
        self._traffic: deque[Counter[str]] = deque(maxlen=self.WINDOW)
        self.sample()

    def _now(self) -> tuple[float, int, int]:
        return time.monotonic(), self.messages_sent, self.deliveries

    def published(self, count: int, seconds: float) -> None:
        """Messages were stored, `seconds` after they had come."""
        self.messages_sent += count
        self._latencies.append(seconds * 1000)

    def work(self) -> int:
        """A number that stays as it is while nothing is published, brought or connected."""
        return self.messages_sent + self.deliveries + self.total_connections

    def sample(self) -> None:
        self._samples.append(self._now())
        self.topics = Counter[str]()  # whoever brings a message counts it here
        self._traffic.append(self.topics)
        self.cpu_percent = self._process.cpu_percent(None)

    def bound_topics(self) -> None:
        """To be called when they have grown."""
        if len(self.topics) > self.NAMES:
            self.topics = Counter(dict(self.topics.most_common(self.NAMES // 2)))
            self._traffic[-1] = self.topics

    def traffic(self) -> Counter[str]:
        """The messages of each topic in the last minute."""
        counts = Counter[str]()
        for topics in paced(list(self._traffic)):
            counts.update(topics)
        return counts

    def view(self) -> dict[str, Any]:
        then, now = self._samples[0], self._now()
        seconds = max(now[0] - then[0], 0.001)
        latencies = sorted(self._latencies) or [0.0]
        p50, p99 = (latencies[int(share * (len(latencies) - 1))] for share in (0.5, 0.99))
        return {
            "total_connections": self.total_connections,
            "messages_sent": self.messages_sent,
            "deliveries": self.deliveries,
            "bytes_sent": self.bytes_sent,
            "uptime": int(time.monotonic() - self._started),
            "messages_per_second": round((now[1] - then[1]) / seconds, 1),
            "deliveries_per_second": round((now[2] - then[2]) / seconds, 1),
            "publish_latency_ms": {"p50": round(p50, 2), "p99": round(p99, 2)},
            "cpu_percent": self.cpu_percent,
            "memory_bytes": self._process.memory_info().rss,
        }


class Journal:
    """The event log. Entries wait in memory and are written together once a second."""

    BUFFER = 500  # entries a second; the rest of that second is counted, not kept
    PRINTED = 100  # of them
    LETTERS = 10_000  # of a text: its beginning, of a traceback its end
    UNSHOWN = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # a terminal may obey, or no text

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._waiting: list[tuple[int, str, str, str]] = []  # time, level, message, metadata
        self._skipped: Counter[str] = Counter()
        self._printed = 0
        self.errors = 0  # since the start

    def add(self, level: str, message: str, **metadata: Any) -> None:
        """Note that something happened; `level` is INFO, CONN, MSG, WARN or ERROR."""
        self.errors += level == "ERROR"
        message = self.UNSHOWN.sub("?", " ".join(message[: self.LETTERS].split()))
        for name, value in metadata.items():
            if isinstance(value, str):
                part = slice(-self.LETTERS, None) if name == "traceback" else slice(self.LETTERS)
                metadata[name] = value[part].encode(errors="replace").decode()
        if level in ("WARN", "ERROR") and self._printed < self.PRINTED:
            self._printed += 1
            print(f"rtapp {level.lower()}: {message}", file=sys.stderr, flush=True)
        if len(self._waiting) < self.BUFFER:
            self._waiting.append((now_ms(), level, message, to_json(metadata)))
        else:
            self._skipped[level] += 1

    def flush(self) -> None:
        """Write what waits. A database that is away is waited for, within the buffer's bound."""
        self._printed = 0
        rows, self._waiting = self._waiting, []
        for level, n in self._skipped.items():
            rows.append((now_ms(), level, f"{n} more of this kind", to_json({"skipped": n})))
        self._skipped.clear()
        if not rows:
            return
        fields = [EventLog.timestamp, EventLog.level, EventLog.message, EventLog.metadata]
        try:
            self._storage.write(lambda tx: EventLog.insert_many(rows, fields).execute(tx.database))
        except Problem:
            self._waiting = (rows + self._waiting)[: self.BUFFER]


# ----------------------------------------------------------------------------------------------
# Log
# ----------------------------------------------------------------------------------------------

_POSITION = re.compile(r"([0-9a-f]{8})-(\d{1,18})")
Trimmed = tuple[dict[str, int], int, bool]  # highest ids of topics, floor, is there more?
CONTROL_MS = 3_600_000  # for a node that the database is away from: it comes to them afterwards


def control_draft(event: str, **content: Any) -> Entry:
    """A control entry: what each hub does when its turn comes in the log."""
    now = now_ms()
    until = now + CONTROL_MS
    return Entry(HUB_TOPIC, CONTROL, event, to_json(content), expires_at=until, sent_at=now)


class Stand(NamedTuple):
    """Where the log stands in the database."""

    head: int
    epoch: str
    timeline: str
    trimmed: dict[str, int]  # topic: the highest id that retention took of it
    floor: int  # what retention took up to here is not known by topic any more


class Log:
    """The one log: store first, then tell. Owns the head and the epoch."""

    READ_PAGE = 1_000  # rows of one read at start
    TRIM_PAGE = 1_000  # rows that one transaction of the retention deletes
    TOPICS = 50_000  # of which it is known one by one what retention took

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._hub_advance: Callable[[list[Entry]], None] = lambda entries: None
        self.queries = 0  # catch-up reads, for tests and metrics
        self.begin_at(Stand(0, "", "", {}, 0))

    def start(self, hub_advance: Callable[[list[Entry]], None]) -> None:
        """Begin; `Hub.advance` hears of new entries in the order of their ids."""
        self._hub_advance = hub_advance
        self.begin_at(self.read_stand())

    def begin_at(self, stand: Stand) -> None:
        """Go on from there."""
        self.head, self.epoch, self._timeline, self._trimmed, self._floor = stand

    def read_stand(self) -> Stand:
        """Where the log stands now, for `begin_at`; stores that a run is under way."""
        return self._storage.write(self._settle)

    def _settle(self, tx: Transaction) -> Stand:
        """Note a new epoch where ids that clients have seen may be gone, and the database's own id
        where it has none. Of several nodes the first one's counts."""
        timeline = tx.database.execute_sql(self._storage.engine.timeline_sql).fetchone()[0]
        stored = dict(Fact.select(Fact.key, Fact.value).tuples().execute(tx.database))
        lost = stored.get("clean") == "0" and stored.get("durability") == "normal"
        moved = (stored.get("timeline") or timeline) != timeline  # SQLite has none
        epoch = stored.get("epoch")
        if epoch is None or moved or (lost and stored.get("boot") != boot_id()):
            epoch = secrets.token_hex(4)
        facts = {"epoch": epoch, "timeline": timeline, "boot": boot_id(), "clean": "0"}
        own = {"id": stored.get("id") or secrets.token_hex(6)}
        note_facts(tx.database, {**facts, **own, "durability": self._storage.engine.durability})
        trimmed = dict(Topic.select(Topic.topic, Topic.trimmed_id).tuples().execute(tx.database))
        return Stand(tx.next_id - 1, epoch, timeline, trimmed, int(stored.get("floor") or 0))

    def has_moved(self) -> bool:
        """Whether the database is not the one of before: a failover, another epoch."""
        timeline = self._storage.read(self._storage.engine.timeline_sql)[0][0]
        return (timeline, self._storage.meta("epoch")) != (self._timeline, self.epoch)

    def stop(self) -> None:
        """Note that this run ended as it should."""
        self._storage.write(lambda tx: note_facts(tx.database, {"clean": "1"}))

    # Positions

    def position(self, number: int) -> str:
        """An id as clients see it: `<epoch>-<n>`."""
        return f"{self.epoch}-{number}"

    def find(self, position: str) -> int | None:
        """The id in a client's position; None when it is not of this log. It may be of another
        node's answer, just now: then the log advances, so ask what depends on it afterwards."""
        match = _POSITION.fullmatch(position)
        number = int(match[2]) if match else 0
        if match and match[1] == self.epoch and number > self.head:
            with contextlib.suppress(Problem):
                self.poll()
        return number if match and match[1] == self.epoch and number <= self.head else None

    def complete(self, after: int, topics: Collection[str]) -> bool:
        """Whether everything of `topics` after the id `after` is still held."""
        trimmed = self._trimmed
        return after >= self._floor and all(trimmed.get(topic, 0) <= after for topic in topics)

    # Writing

    def store(self, entries: Sequence[Entry]) -> list[int]:
        """Put messages into the log, and wait for that; their ids. Raises as `Storage.write`."""
        return self._storage.write(lambda tx: tx.append(entries), is_plain=True)

    def control(self, event: str, **content: Any) -> None:
        """Tell every hub, in the order of the log, of a change to live connections."""
        self.store([control_draft(event, **content)])

    def committed(self, entries: list[Entry]) -> None:
        """Advance the head over what has just been committed.

        Ids missing before it are read first: with several nodes they are other nodes' rows.
        Reading may let `poll` go first; what either has done, the other leaves out.
        """
        with contextlib.suppress(Problem):  # the database is away: `poll` comes to them later
            self.poll(entries[0].id)
            for some in chunks(entries, self.READ_PAGE):
                self._advance(some, len(some) == self.READ_PAGE)

    def poll(self, before: int = 2**62) -> None:
        """Advance over rows that another process has committed: a command, another node."""
        more = True
        while more and self.head + 1 < before:  # an id that is missing then is so for ever
            sql = self._storage.engine.page_sql("id > ? AND id < ?", self.READ_PAGE, "ASC")
            page, more = take_page(self._storage.read(sql, (self.head, before)), self.READ_PAGE)
            self._advance(page, more)

    def _advance(self, entries: Sequence[Entry], is_page: bool) -> None:
        new = [entry for entry in entries if entry.id > self.head]
        if new:
            self.head = new[-1].id
            self._hub_advance(new)
        if is_page:
            gevent.sleep(0.001)  # others have their turn; 0 would not look at sockets

    # Reading

    def newest(self, upto: int, size: int) -> tuple[list[Entry], int]:
        """The newest entries up to an id that together cost at most `size` bytes, oldest first,
        and the id after which they are all that is held."""
        found: list[Entry] = []
        before, more = upto + 1, True
        while more:
            entries, more = self._storage.engine.read_page(
                "id < ? AND kind <> ?", (before, CONTROL), self.READ_PAGE, "DESC"
            )
            for entry in entries:
                size -= entry.cost
                if size < 0:
                    return found[::-1], entry.id
                found.append(entry)
                before = entry.id
        return found[::-1], 0

    def page(self, after: int, upto: int, topics: Collection[str], limit: int) -> Page:
        """At most `limit` entries of `topics` with `after` < id <= `upto`."""
        self.queries += 1
        marks = ", ".join("?" * len(topics))
        where = f"topic IN ({marks}) AND id > ? AND id <= ?"
        entries, more = self._storage.engine.read_page(where, (*topics, after, upto), limit)
        # Asked afterwards: who misses a row here must find that retention took it.
        sql = f"SELECT topic, trimmed_id FROM topics WHERE topic IN ({marks})"
        trimmed = dict(self._storage.read_long(sql, tuple(topics)))
        self.note_trimmed(trimmed, int(self._storage.meta("floor") or 0))
        return entries, entries[-1].id if more else upto

    # Retention

    def trim(self, hours: float, messages: int) -> None:
        """Delete what is older than `hours` or beyond the newest `messages`, and the expired."""
        oldest = now_ms() - int(hours * 3_600_000)
        sql = "SELECT id FROM messages WHERE kind NOT IN (?, ?) ORDER BY id DESC LIMIT 1 OFFSET ?"
        rows = self._storage.read_long(sql, (CONTROL, SIGNAL, messages))
        beyond, more = rows[0][0] if rows else 0, True
        while more:
            gone, floor, more = self._storage.write(lambda tx: self._trim_page(tx, oldest, beyond))
            self.note_trimmed(gone, floor)

    def note_trimmed(self, topics: dict[str, int], floor: int) -> None:
        """Learn the highest id that retention took of each topic, here or on another node."""
        for topic, number in topics.items():
            self._trimmed[topic] = max(number, self._trimmed.get(topic, 0))
        if floor > self._floor:
            self._floor = floor
            self._trimmed = {t: number for t, number in self._trimmed.items() if number > floor}

    def _trim_page(self, tx: Transaction, oldest: int, beyond: int) -> Trimmed:
        """Delete what has expired, and the log's beginning as far as it is old, a page at most. It
        stops at the first row that stays, so a clock that went backwards leaves no hole."""
        note_facts(tx.database, {"head": str(tx.next_id - 1)})
        Message.delete().where(Message.expires_at < now_ms()).execute(tx.database)
        query = Message.select(Message.id, Message.topic, Message.sent_at, Message.kind)
        page = list(query.order_by(Message.id).limit(self.TRIM_PAGE).tuples().execute(tx.database))
        rows = list(itertools.takewhile(lambda row: row[2] < oldest or row[0] <= beyond, page))
        if not rows:
            return {}, self._floor, False
        gone = {topic: number for number, topic, _, kind in rows if kind not in (CONTROL, SIGNAL)}
        Message.delete().where(Message.id <= rows[-1][0]).execute(tx.database)
        for topic, number in gone.items():
            upsert(tx.database, Topic, topic=topic, trimmed_id=number)
        floor = self._forget_topics(tx)
        if gone and self._storage.engine.shared:
            tx.append([control_draft("trimmed", topics=gone, floor=floor)])
        return gone, floor, len(rows) == self.TRIM_PAGE

    def _forget_topics(self, tx: Transaction) -> int:
        """Bound the table: of topics trimmed longest ago only the highest id stays, the floor."""
        ids = Topic.select(Topic.trimmed_id).order_by(Topic.trimmed_id.desc())
        floor = ids.offset(self.TOPICS).limit(1).scalar(tx.database)
        if floor is None:
            return self._floor
        Topic.delete().where(Topic.trimmed_id <= floor).execute(tx.database)
        note_facts(tx.database, {"floor": str(floor)})
        return int(floor)


def boot_id() -> str:
    """What tells this boot of the machine from the one before."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return str(round(psutil.boot_time() / 60))


# ----------------------------------------------------------------------------------------------
# Encodings
# ----------------------------------------------------------------------------------------------


class Arguments(NamedTuple):
    """What a Socket.IO event carries when that isn't one JSON value: a JSON array with a
    placeholder for each attachment, and the attachments."""

    text: str
    attachments: list[bytes]
    namespace: str = ""  # of an event for one client; a room's topic names its own

    @classmethod
    def of(cls, entry: Entry) -> Arguments:
        """What an entry carries."""
        if entry.attachments is None:
            return cls(f"[{content_of(entry)}]", [])
        namespace, attachments = msgspec.msgpack.decode(entry.attachments)
        return cls(entry.content, attachments, namespace)

    def put_into(self, draft: Entry) -> Entry:
        """Let a draft carry them; one JSON value alone is carried as it is."""
        values = msgspec.json.decode(self.text, type=list[msgspec.Raw])
        if len(values) == 1 and not self.attachments and not self.namespace:
            draft.content = bytes(values[0]).decode()
        else:
            draft.content = self.text
            draft.attachments = msgspec.msgpack.encode((self.namespace, self.attachments))
        return draft

    def inlined(self) -> str:
        """The array for who can't take attachments: each as base64 in its first placeholder. Once
        only, or a short text could grow without bound; and whatever a row holds, it can be read."""
        if not self.attachments:
            return self.text
        left = {n: {"base64": base64.b64encode(d).decode()} for n, d in enumerate(self.attachments)}
        value = msgspec.json.decode(self.text)
        empty = {"_placeholder": True}
        return to_json(fill_placeholders(value, lambda n: {**empty, "num": n, **left.pop(n, {})}))


EMPTY = Arguments("", [])


def fill_placeholders(value: Any, fill: Callable[[int], Any]) -> Any:
    """A JSON value with each `{"_placeholder":true,"num":n}` replaced by `fill(n)`."""
    if isinstance(value, list):
        return [fill_placeholders(item, fill) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get("_placeholder") is True and type(value.get("num")) is int:
        return fill(value["num"])
    return {key: fill_placeholders(item, fill) for key, item in value.items()}


class Stamps(msgspec.Struct):
    """What an object that is published gets where it has none."""

    id: Any = msgspec.UNSET
    timestamp: Any = msgspec.UNSET


def content_of(entry: Entry) -> str:
    """An entry's content as its receivers get it, as JSON: what was published with its stamps."""
    text = entry.content
    if entry.attachments is not None:
        return Arguments.of(entry).inlined()
    is_published = entry.id and entry.kind == MESSAGE and not entry.topic.startswith(ROOM_PREFIX)
    if not is_published or not text.startswith("{"):
        return text
    present = msgspec.json.decode(text, type=Stamps)  # passes over all else
    parts = [text[1:-1].strip()] if len(text) > 2 else []
    if present.id is msgspec.UNSET:
        parts.append(f'"id":{entry.id}')
    if present.timestamp is msgspec.UNSET:
        parts.append(f'"timestamp":"{iso(entry.sent_at)}"')
    return "{" + ",".join(parts) + "}"


def chunk(data: bytes) -> bytes:
    """A chunk of a body whose length isn't known (RFC 9112, 7.1); the last one is empty."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def data_frame(data: str | bytes) -> bytes:
    """An unmasked frame of data (RFC 6455, 5.6): a server's frame is the same for every client."""
    kind, payload = (Opcode.TEXT, data.encode()) if isinstance(data, str) else (Opcode.BINARY, data)
    return Frame(kind, payload).serialize(mask=False)


def close_frame(code: int, reason: str = "") -> bytes:
    """A close frame (RFC 6455, 5.5.1)."""
    return Frame(Opcode.CLOSE, Close(code, reason[:120]).serialize()).serialize(mask=False)


class SseEncoding:
    """Server-Sent Events (WHATWG HTML 9.2). Content is JSON on one line, so `data` is one line.
    With `labels` a message of a channel has a field `channel`, which an EventSource ignores. Over
    HTTP/1.1 each event is a chunk, and only a stream that is ended on purpose has a last one: so a
    client knows a lost connection from the end. HTTP/1.0 has no chunks (RFC 9112, 6.1)."""

    name = "sse"  # of the transport

    def __init__(self, labels: bool, chunks: bool) -> None:
        # Of the form: who has the same one is sent the same bytes.
        self.key = f"sse{'+label' * labels}{'+chunk' * chunks}"
        self._labels, self._chunks = labels, chunks

    def text(self, text: str) -> bytes:
        """Some lines of the stream."""
        return chunk(text.encode()) if self._chunks else text.encode()

    def message(self, entry: Entry, position: str) -> bytes:
        """A message. One that is not in the log has no id: its position is its receiver's."""
        number = f"id: {position}\n" if entry.id else ""  # it moves the client's `lastEventId`
        channel = channel_of(entry.topic) if self._labels else None
        label = f"channel: {channel}\n" if channel else ""
        name = f"event: {entry.event}\n" if entry.event and entry.kind not in UNNAMED else ""
        return self.text(f"{number}{label}{name}data: {content_of(entry)}\n\n")

    def notice(self, event: str | None, body: dict[str, Any], position: str | None) -> bytes:
        """Something that the server itself says, with the position served so far."""
        number = f"id: {position}\n" if position else ""
        name = f"event: {event}\n" if event else ""
        last = chunk(b"") if self._chunks and event == "disconnect" else b""
        return self.text(f"{number}{name}data: {to_json(body)}\n\n") + last

    def farewell(self, retry_ms: int, code: int = CloseCode.GOING_AWAY, reason: str = "") -> bytes:
        """The last words to a client that may come back: when, or why by a close code."""
        return self.text(f"retry: {retry_ms}\n\n")


class WebSocketEncoding:
    """`/ws`: a JSON object in a text frame. A message is told with where it came from."""

    name = key = "websocket"
    PING = Frame(Opcode.PING, b"").serialize(mask=False)  # a browser answers it by itself

    def message(self, entry: Entry, position: str) -> bytes:
        content = content_of(entry)
        if entry.kind in UNNAMED:
            return data_frame(f'{content[:-1]},"id":"{position}"}}')
        if entry.kind != MESSAGE:
            return data_frame(content)
        number = f'"id":"{position}",' if entry.id else ""
        where = f'"channel":{to_json(channel_of(entry.topic))},"event":{to_json(entry.event)}'
        return data_frame(f'{{"type":"message",{number}{where},"data":{content}}}')

    def notice(self, event: str | None, body: dict[str, Any], position: str | None) -> bytes:
        frame = data_frame(to_json({**body, "id": position} if position else body))
        if event == "disconnect":
            return frame + self.farewell(0, CloseCode.POLICY_VIOLATION, body["reason"])
        return frame + self.PING if event == "ping" else frame

    def farewell(self, retry_ms: int, code: int = CloseCode.GOING_AWAY, reason: str = "") -> bytes:
        return close_frame(code, reason)


class SocketIoEncoding(WebSocketEncoding):
    """Socket.IO v5 in Engine.IO v4, each packet in a frame of a WebSocket; for the transport
    "polling", which fetches a "payload", with a separator behind it. The parser is "json", or
    "msgpack" for clients with `socket.io-msgpack-parser`. With `offsets` every event ends with the
    position, by which a client recovers."""

    name = "socket.io"
    SEPARATOR = b"\x1e"

    def __init__(self, transport: str, parser: str, offsets: bool) -> None:
        self.key, self.polls = f"socket.io+{transport}+{parser}", transport == "polling"
        self.transport, self.parser, self.offsets = transport, parser, offsets

    def engine(self, packet: str | bytes) -> bytes:
        """A packet of Engine.IO, text or binary."""
        if not self.polls:
            return data_frame(packet)
        data = packet.encode() if isinstance(packet, str) else b"b" + base64.b64encode(packet)
        return data + self.SEPARATOR

    @staticmethod
    def packets(payload: bytes) -> Iterator[str | bytes]:
        """The packets of what is sent or posted as one by polling. Raises ValueError."""
        for packet in payload.decode().split("\x1e"):
            yield base64.b64decode(packet[1:], validate=True) if packet[:1] == "b" else packet

    def packet(self, kind: int, namespace: str, given: Arguments = EMPTY, ack: str = "") -> bytes:
        """A packet of Socket.IO (protocol v5); with attachments its binary form."""
        payload, attachments, _ = given
        if self.parser == "msgpack":
            body: dict[str, Any] = {"type": kind, "nsp": namespace}
            if payload:  # MessagePack has no numbers of more than 64 bits, JavaScript of fewer
                body["data"] = json.loads(
                    payload, parse_int=lambda n: int(n) if len(n) < 19 else float(n)
                )
            if attachments:
                left = dict(enumerate(attachments))  # as `Arguments.inlined`: each of them once
                body["data"] = fill_placeholders(body["data"], lambda n: left.pop(n, None))
            if ack:
                body["id"] = int(ack)
            return self.engine(msgspec.msgpack.encode(body))
        form = f"{kind + 3}{len(attachments)}-" if attachments else kind
        where = "" if namespace == "/" else namespace + ("," if payload else "")
        text = self.engine(f"4{form}{where}{ack}{payload}")
        return b"".join([text, *map(self.engine, attachments)])

    def message(self, entry: Entry, position: str) -> bytes:
        """An event of the namespace that the topic belongs to; channels belong to the main one.
        A client that recovers takes whatever text comes last for the offset."""
        arguments, topic = Arguments.of(entry), entry.topic
        room = topic[len(ROOM_PREFIX) :] if topic.startswith(ROOM_PREFIX) else "/"
        namespace = arguments.namespace or room.split("#", 1)[0]
        return self.event(namespace, entry.event, arguments, position)

    def event(
        self, namespace: str, event: str | None, arguments: Arguments, position: str, ack: str = ""
    ) -> bytes:
        """An EVENT or BINARY_EVENT packet; one that asks for an `ack` carries no offset."""
        offset = f'"{position}"' if self.offsets and not ack else ""
        parts = filter(None, (to_json(event or "message"), arguments.text[1:-1], offset))
        return self.packet(2, namespace, arguments._replace(text=f"[{','.join(parts)}]"), ack)

    def notice(self, event: str | None, body: dict[str, Any], position: str | None) -> bytes:
        if event == "ping":
            return self.engine("2")
        if event == "disconnect":
            last = self.farewell(0, CloseCode.POLICY_VIOLATION, body["reason"])
            return self.packet(1, "/") + last
        return self.event("/", event, Arguments(f"[{to_json(body)}]", []), position or "")

    def farewell(self, retry_ms: int, code: int = CloseCode.GOING_AWAY, reason: str = "") -> bytes:
        return self.engine("1") if self.polls else close_frame(code, reason)


SSE = {form: SseEncoding(*form) for form in itertools.product((False, True), repeat=2)}
WEBSOCKET = WebSocketEncoding()
Encoding = SseEncoding | WebSocketEncoding  # how a kind of stream writes what it is told


# ----------------------------------------------------------------------------------------------
# Hub
# ----------------------------------------------------------------------------------------------

_by_id = operator.attrgetter("id")
READ, WRITE = 1, 2  # gevent's own numbers for the directions of a watcher


class Poller:
    """Readiness of many sockets: `ready` hears of one that is, with READ unless there is only
    room. This one, which works everywhere, has a watcher of the loop for each socket."""

    def __init__(self, ready: Callable[[int, int], None]) -> None:
        self._ready = ready
        self._watchers: dict[int, Any] = {}

    def watch(self, fd: int, events: int) -> None:
        """Watch a socket from now on for READ, WRITE, both or neither."""
        self.remove(fd)
        if events:
            watcher = self._watchers[fd] = gevent.get_hub().loop.io(fd, events)
            # It doesn't tell which direction is ready; trying both is cheap and harmless.
            watcher.start(self._ready, fd, events)

    def remove(self, fd: int) -> None:
        """Forget a socket; call it before the socket is closed."""
        watcher = self._watchers.pop(fd, None)
        if watcher is not None:
            watcher.stop()
            watcher.close()

    def close(self) -> None:
        for fd in list(self._watchers):
            self.remove(fd)


class EpollPoller(Poller):
    """Linux: one epoll for all sockets, itself one watcher of the loop. 200 bytes a socket."""

    IN, OUT = 1, 4  # EPOLLIN, EPOLLOUT: fixed by Linux

    def __init__(self, ready: Callable[[int, int], None]) -> None:
        import select

        self._ready = ready
        # gevent's patch takes epoll out of the module; get_original still has it.
        self._epoll = (getattr(select, "epoll", None) or get_original("select", "epoll"))()
        self._watcher = gevent.get_hub().loop.io(self._epoll.fileno(), READ)
        self._watcher.start(self._wait)

    def watch(self, fd: int, events: int) -> None:
        wanted = (self.IN if events & READ else 0) | (self.OUT if events & WRITE else 0)
        try:
            self._epoll.modify(fd, wanted)
        except FileNotFoundError:
            self._epoll.register(fd, wanted)

    def remove(self, fd: int) -> None:
        with contextlib.suppress(OSError):
            self._epoll.unregister(fd)

    def _wait(self) -> None:
        for fd, mask in self._epoll.poll(0, 1024):
            # A hang-up or an error counts as readable: reading tells which.
            self._ready(fd, READ if mask & ~self.OUT else WRITE)

    def close(self) -> None:
        self._watcher.stop()
        self._watcher.close()
        self._epoll.close()


def make_poller(ready: Callable[[int, int], None]) -> Poller:
    """The best poller here; RTAPP_POLLER=watchers forces the portable one."""
    if os.environ.get("RTAPP_POLLER") != "watchers":
        with contextlib.suppress(AttributeError, ImportError):
            return EpollPoller(ready)
    return Poller(ready)


class PlainTransport(_socket.socket):
    """A TCP socket that never blocks: C's own class, so that a send costs no Python frame and an
    idle connection no watcher (gevent's two would be 660 bytes).

    `send` gives the bytes taken; it raises BlockingIOError when none can be, then the very same
    object must be offered again; any other OSError means that the connection is gone.
    """

    __slots__ = ()

    def __init__(self, fd: int) -> None:
        super().__init__(fileno=fd)
        self.setblocking(False)

    def receive(self) -> bytes | None:
        """What has come; None when nothing has, `b""` at the end."""
        try:
            return self.recv(65_536)
        except BlockingIOError:
            return None

    def end_output(self) -> None:
        """Say that no more is sent; the peer may still send."""
        with contextlib.suppress(OSError):
            self.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close the socket; what was sent still goes out: unread input would make it a reset."""
        with contextlib.suppress(OSError):
            self.recv(65_536)
        super().close()


class TlsTransport:
    """A TLS connection: the very same bytes object must be offered again, for it is begun."""

    __slots__ = ("_sock", "_ssl", "fileno", "setsockopt")
    MOST = 16  # records, of 16 KiB or less, that are read at once

    def __init__(self, sock: Any) -> None:
        """Take gevent's SSLSocket over; it must not be used any more."""
        self._ssl, self._sock = sock._sslobj, sock._sock
        self.fileno, self.setsockopt = self._sock.fileno, self._sock.setsockopt
        self._sock.setblocking(False)
        sock._sslobj = None
        sock._detach_socket("detached")  # drops its watchers, leaves the descriptor open

    def send(self, data: bytes) -> int:
        try:
            return int(self._ssl.write(data))
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
            raise BlockingIOError from None

    def receive(self) -> bytes | None:
        # Reads until want-read: decrypted bytes wake no poller. But not for ever, from who sends
        # as fast as this reads: of a record nothing is left, and what comes after it does wake one.
        parts: list[bytes] = []
        try:
            with contextlib.suppress(ssl.SSLZeroReturnError):
                while len(parts) < self.MOST and (part := self._ssl.read(65_536)):
                    parts.append(part)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return b"".join(parts) or None
        return b"".join(parts)

    def end_output(self) -> None:
        # Says close_notify where that doesn't block (RFC 8446, 6.1).
        with contextlib.suppress(OSError, ValueError):
            self._ssl.shutdown()
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.end_output()
        with contextlib.suppress(OSError):
            self._sock.recv(65_536)
        self._sock.close()


class QueueTransport:
    """The outgoing side of a connection that is fetched by requests (Engine.IO's polling): whole
    packets, each with its separator, wait here, bounded in bytes."""

    LIMIT = 1_048_576
    _numbers = itertools.count(1 << 40)  # no descriptor is as high

    def __init__(self) -> None:
        self._number = next(self._numbers)
        self._packets = bytearray()
        self.ready = gevent.event.Event()

    def send(self, data: bytes) -> int:
        if self._packets and len(self._packets) + len(data) > self.LIMIT:
            raise BlockingIOError
        self._packets += data
        if data:
            self.ready.set()
        return len(data)

    def receive(self) -> bytes | None:
        return None

    def fetch(self) -> bytes:
        """All that waits, which makes room."""
        data, self._packets = bytes(self._packets), bytearray()
        self.ready.clear()
        return data

    def fileno(self) -> int:
        return self._number

    def end_output(self) -> None:
        self.ready.set()

    close = end_output


Transport = PlainTransport | TlsTransport | QueueTransport


class Session(Protocol):
    """What stands behind a connection on which the client speaks too, or behind several. Its
    methods are called from the loop: they must not wait."""

    def received(self, subscriber: Subscriber, data: bytes) -> None: ...
    def connection_ended(self, subscriber: Subscriber, reason: str) -> None: ...
    def revoked(self, credentials: set[str]) -> None: ...  # nothing of what these gave may stay


def tune(transport: PlainTransport | TlsTransport, settings: Settings) -> None:
    """Set a stream's socket so that a peer that vanished is noticed, and little waits unsent."""
    answered = settings["ping_interval"] + settings["ping_timeout"]
    seconds = max(answered, settings["slow_consumer_seconds"])
    options = {"SO_KEEPALIVE": 1, "TCP_NOTSENT_LOWAT": 131_072}
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        options["TCP_USER_TIMEOUT"] = int(seconds * 1000)
    else:
        every = max(1, int(seconds / 4))
        options |= {"TCP_KEEPIDLE": every, "TCP_KEEPINTVL": every, "TCP_KEEPCNT": 3}
    for name, value in options.items():
        level = socket.SOL_SOCKET if name == "SO_KEEPALIVE" else socket.IPPROTO_TCP
        with contextlib.suppress(AttributeError, OSError):
            transport.setsockopt(level, getattr(socket, name), value)


class TopicRing(msgspec.Struct, eq=False):
    """The ring's entries of one topic, in order, and who wants them."""

    evicted: int  # the ring has every entry of this topic after this id
    excluded: int = 0  # the newest id in the ring that leaves this topic's subscribers out
    # There is a ring for each client, nearly always empty: empty collections are shared.
    views: set[View] = cast("set[View]", frozenset())
    entries: list[Entry] = cast("list[Entry]", ())
    start: int = 0  # of the entries that are still in the ring
    owners: list[Subscriber] = []  # whose own topic this is

    def evict(self) -> None:
        self.evicted = self.entries[self.start].id
        self.start += 1
        if self.start > 64 and self.start * 2 > len(self.entries):
            del self.entries[: self.start]
            self.start = 0

    def after(self, cursor: int, limit: int) -> list[Entry]:
        """The first `limit` entries after an id."""
        at = bisect.bisect_right(self.entries, cursor, self.start, key=_by_id)
        return self.entries[at : at + limit]

    @property
    def last(self) -> int:
        """The id of the newest entry, 0 without one."""
        return self.entries[-1].id if len(self.entries) > self.start else 0


class Ring:
    """The newest entries of the log, after the id `floor`, by topic, and the bytes of each send.
    `size` is what they cost, with the frames that were made of them."""

    BURST_BYTES = 65_536  # what one send carries at most, unless one message is larger
    BURST_ENTRIES = 512

    def __init__(self, position: Callable[[int], str]) -> None:
        """`position` gives an id as clients see it."""
        self._position = position
        self.fill((), 0)

    def fill(self, entries: Iterable[Entry], floor: int) -> None:
        """Begin anew, with nobody on any topic."""
        self.floor, self.size = floor, 0
        self.by_topic: dict[str, TopicRing] = {}
        self.entries: deque[Entry] = deque()
        for entry in entries:
            self.add(entry)

    def of(self, topic: str) -> TopicRing:
        """A topic's ring, made where there is none."""
        return self.by_topic.get(topic) or self.by_topic.setdefault(topic, TopicRing(self.floor))

    def release(self, topic: str) -> None:
        """Forget a ring that nobody would miss."""
        ring = self.by_topic[topic]
        if not (ring.last or ring.excluded or ring.views or ring.owners):
            del self.by_topic[topic]

    def add(self, entry: Entry) -> None:
        self.entries.append(entry)
        self.size += entry.cost
        ring = self.of(entry.topic)
        ring.entries = ring.entries or []
        ring.entries.append(entry)
        for topic in entry.left_out:
            self.of(topic).excluded = entry.id

    def evict(self, limit: int) -> None:
        """Drop the oldest entries until the rest cost at most `limit`."""
        while self.size > limit and self.entries:
            entry = self.entries.popleft()
            self.size -= entry.cost
            self.floor = entry.id
            self.by_topic[entry.topic].evict()
            for topic in {entry.topic, *entry.left_out}:
                if self.by_topic[topic].excluded == entry.id:
                    self.by_topic[topic].excluded = 0
                self.release(topic)

    def page(self, after: int, upto: int, topics: Iterable[str], limit: int) -> Page | None:
        """What `Log.page` gives; None when some of it may have left the ring."""
        parts: list[list[Entry]] = []
        for topic in topics:
            ring = self.by_topic.get(topic)
            if (ring.evicted if ring else self.floor) > after:
                return None
            if ring and (newer := ring.after(after, limit)):
                parts.append(newer)
        found = parts[0] if len(parts) == 1 else sorted(itertools.chain(*parts), key=_by_id)
        if len(found) >= limit:
            upto = min(upto, found[limit - 1].id)
        return [entry for entry in found if entry.id <= upto], upto

    def next_burst(self, subscriber: Subscriber, span: Span) -> Burst | None:
        """What a subscriber is sent next; None when the ring does not reach back so far."""
        view, after = subscriber.view, span.after
        if not (span.is_earlier or subscriber.later or subscriber.own_last > after):
            return self.shared_burst(view, view.alike(after)[0], span.upto)
        page = self.page(after, span.upto, span.topics, self.BURST_ENTRIES)
        return self.burst_of(page, subscriber, span) if page else None

    def shared_burst(self, view: View, cursor: int, head: int) -> Burst | None:
        """What all of a view are sent next who are at a cursor and have nothing of their own. It is
        kept with the view: whoever asks has the sweep come to that, which forgets it."""
        burst = view.bursts.get(cursor)
        if burst is None:
            page = self.page(cursor, head, view.topics, self.BURST_ENTRIES)
            if page is None:
                return None
            found, upto = page
            mine = [e for e in found if e.left_out.isdisjoint(view.topics)]
            if len(view.bursts) > 64:
                view.bursts.clear()
            burst = view.bursts[cursor] = self._burst(view.encoding, mine, upto)
        return burst

    def burst_of(self, page: Page, subscriber: Subscriber, span: Span) -> Burst:
        """The first part of a span, of a page for it or for a wider one."""
        view, own, (found, upto) = subscriber.view, subscriber.own_topic, page
        first = bisect.bisect_right(found, span.after, key=_by_id)
        found = [e for e in found[first:] if e.id <= upto and e.topic in span.topics]
        topics = view.topics | span.topics
        mine = [entry for entry in found if entry.is_for(topics, own)]
        # What is older than a stream's position must not move it back. In Socket.IO each
        # namespace's client has a position of its own.
        stays = span.is_earlier and not isinstance(view.encoding, SocketIoEncoding)
        position = self._position(subscriber.cursor) if stays else None
        return self._burst(view.encoding, mine, upto, position)

    def _burst(
        self, encoding: Encoding, entries: list[Entry], upto: int, position: str | None = None
    ) -> Burst:
        """Frames for one send, with their own positions or one for all; `upto` when all fit."""
        frames: list[bytes] = []
        size = 0
        for entry in entries:
            frame = None if position else entry.frames.get(encoding.key)
            if frame is None:
                frame = encoding.message(entry, position or self._position(entry.id))
                if not position:
                    entry.frames[encoding.key] = frame
                    if entry.id > self.floor:  # else it was read for this once
                        self.size += len(frame)
            if frames and size + len(frame) > self.BURST_BYTES:
                return Burst(b"".join(frames), entries[len(frames) - 1].id, len(frames))
            frames.append(frame)
            size += len(frame)
        return Burst(b"".join(frames), upto, len(frames))


class View(msgspec.Struct, eq=False):
    """Subscribers that are sent the same bytes: one encoding, one set of shared topics."""

    encoding: Encoding
    topics: Topics
    newest: int  # id of its topics: a cursor there lacks nothing of them
    members: dict[Subscriber, None] = {}
    waiting: list[Subscriber] = []  # those of them whom the sweep has yet to come to
    is_marked: bool = False  # it has to come to everybody once more
    resting: tuple[int, int] = (0, 0)  # cursors of who lacked nothing when it was last at rest
    bursts: dict[int, Burst] = {}  # cursor: what a member there is sent next

    def mark(self, number: int) -> None:
        """An entry of its topics has come."""
        if not (self.is_marked or self.waiting):
            self.resting = self.newest, number
        self.newest, self.is_marked = number, True
        self.bursts.clear()

    def alike(self, cursor: int) -> tuple[int, int]:
        """From where on and before what a cursor lacks the same: pings move those at rest apart."""
        low, high = self.resting
        return self.resting if low <= cursor < high else (cursor, cursor + 1)


class Burst(NamedTuple):
    """Frames put together: the bytes, the id up to which they are all, how many."""

    data: bytes
    cursor: int
    messages: int


class Change(NamedTuple):
    """A connection's topics from an id on; of new ones also what came after the id `since`."""

    number: int
    topics: Topics
    since: int


class Span(NamedTuple):
    """What a subscriber is to be sent next: of `topics`, its own one included, what came after one
    id, up to another. `is_earlier`: on new ones before its position, which stays as it is."""

    topics: Topics
    after: int
    upto: int
    is_earlier: bool


class State(enum.Enum):
    """What is done with a subscriber."""

    LIVE = "sent from the ring what it lacks"
    BLOCKED = "its socket did not take all: the rest is pinned, and sent before anything else"
    BEHIND = "what it lacks has left the ring, and is read from the log"
    ENDING = "brought nothing more: its last words are sent or wait, then it is closed"
    GONE = "closed"


class Subscriber(msgspec.Struct, eq=False):
    """A connection that is served from the log: a cursor and the topics it wants."""

    client_id: str
    encoding: Encoding
    cursor: int  # served up to this id
    address: str
    agent: str
    state: State = State.LIVE
    username: str | None = None
    credential: str = ""  # what the stream was opened with, to be revoked by
    id: int = 0
    fd: int = -1
    view: View = cast("View", None)  # until it is attached
    transport: Transport = cast("Transport", None)  # until it is attached
    session: Session | None = None  # hears what the client says
    is_paused: bool = False  # not read from: there is enough to do
    pending: Burst | None = None  # pinned: what its socket has yet to take
    queue: bytearray | None = None  # for it alone, sent once `pending` is taken
    own_last: int = 0  # newest id that concerns this client alone (direct, excluded)
    later: tuple[Change, ...] = ()  # changes of its topics that it has not come to, oldest first
    reason: str = ""  # why it ends
    answer_by: int = 0  # when it counts as gone unless it answers its ping, by ticks_ms(); or 0
    closes_at: int = 0  # when it is closed in any case, by ticks_ms(); or 0
    expires_at: int = 0  # when its credential ends, by now_ms(); 0 without an end
    blocked_at: float = 0.0
    connected_at: int = msgspec.field(default_factory=now_ms)
    last_ping: int = msgspec.field(default_factory=now_ms)  # as the API shows it
    pinged_at: int = msgspec.field(default_factory=ticks_ms)  # the next one is due after it
    messages: int = 0  # sent to it
    bytes_sent: int = 0

    @property
    def is_open(self) -> bool:
        """Whether there is more to come."""
        return self.state is not State.GONE and self.state is not State.ENDING

    @property
    def own_topic(self) -> str:
        """The topic of its direct messages."""
        return DIRECT + self.client_id

    @property
    def channels(self) -> list[str]:
        """The channels it is subscribed to, sorted."""
        return sorted(name for t in self.topics if (name := channel_of(t)) is not None)

    @property
    def topics(self) -> Topics:
        """The shared topics it has asked for."""
        return self.later[-1].topics if self.later else self.view.topics

    def lacks(self, upto: int) -> bool:
        """Whether anything for it may lie between its cursor and the id `upto`."""
        return self.cursor < min(upto, max(self.view.newest, self.own_last))

    def has_all(self, head: int) -> bool:
        """Whether it is LIVE and has had all that there is for it."""
        return self.state is State.LIVE and not (self.later or self.lacks(head))

    def next_span(self, head: int) -> Span | None:
        """What it lacks before its next topics, or before the head."""
        topics, later = self.view.topics, self.later
        upto = later[0].number if later else head
        if self.lacks(upto):
            return Span(topics | {self.own_topic}, self.cursor, upto, False)
        if later and later[0].since < upto and (added := later[0].topics - topics):
            return Span(added, later[0].since, upto, True)
        return None


UNHEARD = TopicRing(0)  # of a topic that nobody is on, and of which nothing is held
Topics = frozenset[str]  # shared ones, of a view


class Audience:
    """Who is on what topic here, and how many elsewhere: each subscriber is in one view, and one of
    its own topic's owners. What nobody is on, and nothing is held of, is not kept."""

    def __init__(self, ring: Ring) -> None:
        self._ring = ring
        self.views: dict[tuple[str, Topics], View] = {}
        self.elsewhere: dict[str, int] = {}  # topic: subscribers on other nodes; see Nodes

    def enter(self, subscriber: Subscriber, topics: Topics) -> None:
        """A subscriber is on these topics from now on, and on its own."""
        own = self._ring.of(subscriber.own_topic)
        own.owners.append(subscriber)
        subscriber.own_last = max(own.last, own.excluded, own.evicted)
        key = (subscriber.encoding.key, topics)
        view = self.views.get(key)
        if view is None:
            rings = [self._ring.of(topic) for topic in topics]
            newest = max((max(ring.last, ring.evicted) for ring in rings), default=0)
            view = self.views[key] = View(subscriber.encoding, topics, newest)
            for ring in rings:
                ring.views = ring.views or set()
                ring.views.add(view)
        view.members[subscriber] = None
        subscriber.view = view

    def leave(self, subscriber: Subscriber) -> None:
        """It is on none."""
        view, own = subscriber.view, subscriber.own_topic
        self._ring.by_topic[own].owners.remove(subscriber)
        self._ring.release(own)
        del view.members[subscriber]
        if not view.members:
            del self.views[view.encoding.key, view.topics]
            for topic in view.topics:
                self._ring.by_topic[topic].views.discard(view)
                self._ring.release(topic)

    def of_client(self, client_id: str) -> list[Subscriber]:
        """A client's connections."""
        return self.owners((DIRECT + client_id,))

    def owners(self, topics: Iterable[str]) -> list[Subscriber]:
        """The subscribers whose own topics are among these."""
        return [s for topic in topics for s in self._ring.by_topic.get(topic, UNHEARD).owners]

    def present(self, topic: str) -> list[Subscriber]:
        """Who is on a topic, or has it as its own."""
        ring = self._ring.by_topic.get(topic, UNHEARD)
        return [*ring.owners, *(member for view in ring.views for member in view.members)]

    def size(self, topic: str, exclude: str | None = None) -> int:
        """How many subscribers a message to `topic` would reach now, on any node."""
        ring, left_out = self._ring.by_topic.get(topic, UNHEARD), excluded_topics(exclude)
        views = {view for view in ring.views if left_out.isdisjoint(view.topics)}
        reached = self.elsewhere.get(topic, 0) + len(ring.owners)
        reached += sum(len(view.members) for view in views)
        for subscriber in self.owners(left_out):
            reached -= subscriber.view in views or topic == subscriber.own_topic
        return reached

    def sizes(self) -> dict[str, int]:
        """How many are on each shared topic."""
        counts: Counter[str] = Counter()
        for view in paced(list(self.views.values())):
            counts.update(dict.fromkeys(view.topics, len(view.members)))
        return counts

    def by_transport(self) -> dict[str, int]:
        """Open connections of each kind."""
        counts: Counter[str] = Counter()
        for view in self.views.values():
            counts[view.encoding.name] += len(view.members)
        return counts

    def is_heard(self, topic: str) -> bool:
        """Whether somebody is on a topic, or something of it is held."""
        return topic in self._ring.by_topic


Wanted = tuple[View, Topics | None]  # of a view's messages, or what is older of its new topics
Source = Callable[[Subscriber, Span], Burst | None]  # the next part of a span, or none of it


class CatchUp:
    """Those who lack what has left the ring. One read of the log serves all that want the same."""

    PAGE = 1_000  # rows of one read
    OWN_TOPICS = 5_000  # own topics that one read asks for

    def __init__(
        self, log: Log, ring: Ring, journal: Journal, serve: Callable[[Subscriber, Source], None]
    ) -> None:
        """`serve` hears whose wait is over, and what was read for it."""
        self._log, self._ring, self._journal, self._serve = log, ring, journal, serve
        self.waiting: dict[Wanted, dict[Subscriber, Span]] = {}
        self._bell = gevent.event.Event()
        self._is_in_order = True  # the next pages are of who has waited longest

    def add(self, subscriber: Subscriber, span: Span) -> None:
        """One more, and what it lacks."""
        wanted = subscriber.view, span.topics if span.is_earlier else None
        self.waiting.setdefault(wanted, {})[subscriber] = span
        self._bell.set()

    def run(self) -> None:
        """Read and serve, in a greenlet of its own."""
        while self._bell.wait():
            self._bell.clear()
            gevent.sleep(0.02)  # after a restart many come at once: one read serves them all
            while self.waiting:
                self._is_in_order = not self._is_in_order
                for wanted, group in list(self.waiting.items()):
                    try:
                        self._read_for(wanted, group)
                    except Exception as error:  # the database is away: they stay and wait
                        self._journal.add("WARN", f"A catch-up read failed: {error}")
                        gevent.sleep(1)
                    if not group:
                        del self.waiting[wanted]

    def _read_for(self, wanted: Wanted, group: dict[Subscriber, Span]) -> None:
        """Read a page of the log, and serve whom it helps."""
        view, topics = wanted
        for subscriber in [s for s in group if s.state is not State.BEHIND or s.view is not view]:
            del group[subscriber]
            self._serve(subscriber, lambda *_: None)  # who is behind in another view comes again
        some = list(itertools.islice(group.items(), self.OWN_TOPICS))
        if not some:
            return
        # Who is furthest behind meets the others on its way. As newcomers may be behind them for
        # ever, every second page is of who has waited longest.
        afters = [span.after for _, span in some]
        after, floor = afters[0] if self._is_in_order else min(afters), self._ring.floor
        asked = topics or {*view.topics, *(subscriber.own_topic for subscriber, _ in some)}
        found, upto = self._log.page(after, floor, asked, self.PAGE)
        private = {topic for entry in found for topic in (entry.topic, *entry.left_out)}
        shared: dict[tuple[int, int], Burst] = {}

        def of_page(subscriber: Subscriber, span: Span) -> Burst | None:
            # It may want something else by now, or be another's; of another log all is.
            wants = subscriber.view, span.topics if span.is_earlier else None
            if wants != wanted or not span.topics <= asked or not after <= span.after < upto:
                return None
            # Those that have nothing of their own in the page are sent the same bytes.
            made = {} if topics or subscriber.own_topic in private else shared
            key = (span.after, min(upto, span.upto))
            if key not in made:
                if len(made) > 64:
                    made.clear()
                made[key] = self._ring.burst_of((found, key[1]), subscriber, span)
            return made[key]

        for subscriber, _ in some:
            at = group[subscriber].after
            if after <= at and (at < upto or upto == floor):  # else it keeps its place
                del group[subscriber]
                self._serve(subscriber, of_page)
                gevent.sleep(0)


class Hub:
    """Owns the live connections, and brings to them what the log gets.

    `Ring` has the newest entries and makes the bytes, `Audience` knows who is on which topic, and
    `CatchUp` reads the log for who is further behind; what is done with a connection is changed
    here. A sweep runs in a callback of the loop and must not block: it never reads the database.

    What holds between any two steps (test_hub.py asserts each):

    1. A subscriber is in one state. BLOCKED is who has pinned bytes; who is ENDING may have some;
       nobody else has any.
    2. What is pinned is offered again as it is, before anything else, and the cursor moves when
       all of it is taken.
    3. Entries are applied one by one, and `head` is the last one. Nobody's cursor is beyond it,
       and no position is told that is beyond what was sent.
    4. The ring has all entries after its floor, and its size is what they cost.
    5. Who is open is in one view, and is an owner of its own topic; nobody else is.
    6. Who is LIVE and lacks something is urgent. If it is only of its view's topics, the view may
       be dirty instead, and the sweep has yet to come to this one.
    7. Who is BEHIND waits for a page of the log.

    A connection ends (`_end`), so that it is brought nothing more, and is closed (`_close`):

    - Its socket ends or fails (`_read`, `_push`), or what is done when it is ready does (`_ready`).
    - Somebody disconnects it or removes it from a room, its credential is revoked or expires, the
      network is shared no longer: it is served what there is, told why, and closed (`disconnect`).
    - Its session ends: it has its last words and `LINGER_MS` to read them (`close_after`).
    - It is slow: it takes nothing for slow_consumer_seconds (`_close_stalled`; with a session it
      has as long again to read why), or `REPLY_BYTES` or `LATER` changes of topics wait for it.
    - It is silent: who has a session must answer pings within ping_timeout (`_ping`), an SSE
      stream's system what was sent (`tune`).
    - Its client upgrades, and it goes on as another one (`adopt`); the server stops (`drain`), or
      finds another database in the middle of a message (`restart`).
    """

    REPLY_BYTES = 2_097_152  # answers and events for one connection alone that wait
    STALLED = "took nothing for too long"
    LINGER_MS = 2_000  # how long a client's end is awaited after ours
    SLICE = 0.002  # seconds that a sweep takes before others have their turn
    TOGETHER = 32  # members served before the clock is looked at
    LATER = 100  # changes of topics that wait for one connection
    VOLATILE = 1_000  # messages that wait to be sent once

    def __init__(
        self, log: Log, stats: Stats, journal: Journal, settings: Settings, first_id: int = 1
    ) -> None:
        """Connections are numbered from `first_id`."""
        self._log, self.stats, self._journal, self._settings = log, stats, journal, settings
        self._loop = gevent.get_hub().loop
        self._poller = make_poller(self._ready)
        self._by_fd: dict[int, Subscriber] = {}
        self._networks: Counter[str] = Counter()
        self._ids = itertools.count(first_id)
        # Hears whose topics or name are others now, and the topics before.
        self.on_moved: Callable[..., None] = lambda subscriber, before, now: None
        self._timer = self._loop.timer(self.SLICE / 2)
        self._loaded = False  # messages come faster than they are brought
        self._ring = Ring(log.position)
        audience = self.audience = Audience(self._ring)
        self._catch_up = CatchUp(log, self._ring, journal, self._serve_behind)
        # Nobody is served beyond it, whatever the log holds already: see 3.
        self.head = log.head
        self._dirty: dict[View, None] = {}
        self._urgent: deque[Subscriber] = deque()
        self._volatile: deque[tuple[Entry, Iterator[Subscriber]]] = deque(maxlen=self.VOLATILE)
        self._scheduled = False
        # Hears of control entries of a kind: their ids and contents. Other parts add theirs.
        self.controls: dict[str, Callable[[int, dict[str, Any]], None]] = {
            "kick": lambda _, do: self.disconnect(audience.of_client(do["clientId"]), do["reason"]),
            "revoke": self._revoke,
            "topics": self.change_topics,
        }

    def start(self) -> None:
        """Fill the ring from the log's end and begin."""
        head = -1
        while head != self._log.head:  # else it went on meanwhile
            head = self._log.head
            newest = self._log.newest(head, self._settings["ring_bytes"])
        self._ring.fill(*newest)
        self.head = head
        gevent.spawn(self._tick)
        gevent.spawn(self._catch_up.run)

    def restart(self, stand: Stand) -> None:
        """The log is another one: forget the old one's entries and tell everybody to reset."""
        newest = self._log.newest(stand.head, self._settings["ring_bytes"])
        # Nothing waits from here on: a position of one log must not be told under the other's name.
        self._log.begin_at(stand)
        everybody = {subscriber: subscriber.topics for subscriber in self.subscribers()}
        for subscriber in everybody:
            self.audience.leave(subscriber)
        self._ring.fill(*newest)
        self.head = stand.head
        for subscriber, topics in everybody.items():
            subscriber.cursor, subscriber.later = self.head, ()
            self.audience.enter(subscriber, topics)
            if subscriber.state is State.BLOCKED:  # in a message of the old log: told when back
                self._close(subscriber, "the database is another one")
            else:
                subscriber.state = State.LIVE
                self._reset(subscriber)

    # Who is there

    @property
    def count(self) -> int:
        """Open streams; connections that only ask over HTTP are `Front`'s."""
        return len(self._by_fd)

    @property
    def sockets(self) -> int:
        """Those of them that have a socket of their own."""
        return sum(not isinstance(s.transport, QueueTransport) for s in self._by_fd.values())

    def count_from(self, address: str) -> int:
        """Open connections from one address, or of IPv6 from its network."""
        return self._networks[network_of(address)]

    def subscribers(self) -> list[Subscriber]:
        """Everybody, oldest first."""
        return sorted((s for s in self._by_fd.values() if s.is_open), key=_by_id)

    def position(self, subscriber: Subscriber) -> str:
        """Up to where a connection will have been served before what `reply` sends next."""
        return self._log.position((subscriber.pending or subscriber).cursor)

    def lag(self, subscriber: Subscriber) -> int:
        """How many ids of the log a subscriber is behind; 0 when it lacks nothing."""
        return self.head - subscriber.cursor if subscriber.lacks(self.head) else 0

    def memory(self) -> dict[str, int]:
        """Figures about the ring, for metrics."""
        behind = sum(map(len, self._catch_up.waiting.values()))
        return {"bytes": self._ring.size, "entries": len(self._ring.entries), "behind": behind}

    # Coming and going

    def attach(
        self, subscriber: Subscriber, topics: Topics, transport: Transport, head: bytes, rest: bytes
    ) -> None:
        """Take a connection over. `head` is sent first; `rest` is what the client sent in the same
        segment as its handshake. The cursor must be complete for the topics."""
        subscriber.transport, subscriber.fd = transport, transport.fileno()
        subscriber.id = next(self._ids)
        if not isinstance(transport, QueueTransport):  # that has no socket
            tune(transport, self._settings)
        who = {"clientId": subscriber.client_id, "ipAddress": subscriber.address}
        self._journal.add("CONN", "Stream opened", **who, transport=subscriber.encoding.name)
        self._by_fd[subscriber.fd] = subscriber
        self._networks[network_of(subscriber.address)] += 1
        self.stats.total_connections += 1
        self._heed(subscriber)
        self.audience.enter(subscriber, topics)
        self.on_moved(subscriber, frozenset(), topics)
        self._push(subscriber, Burst(head, subscriber.cursor, 0))
        self._receive(subscriber, rest)
        self._read(subscriber)  # TLS may hold decrypted bytes that wake no poller
        self._serve_soon(subscriber)

    def _end(self, subscriber: Subscriber, reason: str) -> None:
        """Bring nothing more of the log to a subscriber."""
        subscriber.state, subscriber.reason = State.ENDING, reason
        if subscriber.session is not None:
            subscriber.session.connection_ended(subscriber, reason)
        self.on_moved(subscriber, subscriber.view.topics, frozenset())
        self.audience.leave(subscriber)
        network = network_of(subscriber.address)
        self._networks[network] -= 1
        if not self._networks[network]:
            del self._networks[network]

    def adopt(self, subscriber: Subscriber, other: Subscriber) -> None:
        """Give a polling connection the socket and the encoding of another one, which ends thereby.
        What waits to be fetched goes the new way, whole: packets are taken as a whole or not."""
        queue = cast("QueueTransport", subscriber.transport)
        pinned = subscriber.pending or Burst(b"", subscriber.cursor, 0)
        waiting = queue.fetch() + pinned.data + bytes(subscriber.queue or b"")
        encoding = cast("SocketIoEncoding", other.encoding)
        packets = encoding.packets(waiting[:-1]) if waiting else ()
        begun = other.pending.data if other.pending else b""
        data = b"".join([begun, *map(encoding.engine, packets)])
        self.become(subscriber, encoding=encoding, pending=None, queue=None)
        self._pin(subscriber, pinned._replace(data=data), 0)
        del self._by_fd[subscriber.fd], self._by_fd[other.fd]
        self._end(other, "upgraded")
        subscriber.transport, subscriber.fd = other.transport, other.fd
        other.state, other.fd, other.pending = State.GONE, -1, None
        self._by_fd[subscriber.fd] = subscriber
        self.flush(subscriber)
        queue.close()

    def drain(self) -> None:
        """Tell everybody when to come back, and close."""
        for subscriber in self.subscribers():
            retry_ms = 1_000 + secrets.randbelow(4_000)  # spread, or they all come at once
            self.reply(subscriber, subscriber.encoding.farewell(retry_ms))
            self._close(subscriber, "server stopping")
        self._poller.close()

    # What one connection is told alone

    def reply(self, subscriber: Subscriber, data: bytes) -> None:
        """Send what concerns one connection alone. Who doesn't take its answers is closed."""
        if not subscriber.is_open or not data:
            return
        if subscriber.state is not State.BLOCKED:
            self._push(subscriber, Burst(data, subscriber.cursor, 0))
            return
        queue = subscriber.queue = subscriber.queue or bytearray()
        queue += data
        if len(queue) > self.REPLY_BYTES:
            self._close(subscriber, "did not take its answers")

    def close_after(self, subscriber: Subscriber, last: bytes, reason: str) -> None:
        """Send the last words, and close once the client has had time to read them."""
        self.reply(subscriber, last)
        if subscriber.is_open:
            self._end(subscriber, reason)
            self._half_close(subscriber)

    def _half_close(self, subscriber: Subscriber) -> None:
        # If the client has sent more, a full close would be a reset: the last words would be lost.
        if subscriber.state is State.ENDING and subscriber.pending is None:
            subscriber.transport.end_output()
            subscriber.closes_at = ticks_ms() + self.LINGER_MS

    def _close(self, subscriber: Subscriber, reason: str) -> None:
        """Close a connection and forget it."""
        if subscriber.state is State.GONE:
            return
        if subscriber.is_open:
            self._end(subscriber, reason)
        if not isinstance(subscriber.transport, QueueTransport):
            self._poller.remove(subscriber.fd)
        del self._by_fd[subscriber.fd]
        subscriber.state, subscriber.fd, subscriber.pending = State.GONE, -1, None
        subscriber.transport.close()
        who = {"clientId": subscriber.client_id, "ipAddress": subscriber.address}
        self._journal.add("CONN", "Stream closed", **who, reason=subscriber.reason)

    # Sending

    def _push(self, subscriber: Subscriber, burst: Burst) -> bool:
        """Send, whether all was taken: then the cursor moves; else the rest waits, pinned."""
        data, cursor, messages = burst
        try:
            taken = subscriber.transport.send(data) if data else 0
        except BlockingIOError:
            taken = 0
        except OSError as error:
            self._close(subscriber, f"connection lost ({error.strerror or error})")
            return False
        subscriber.bytes_sent += taken
        self.stats.bytes_sent += taken
        if taken < len(data):
            self._pin(subscriber, burst, taken)
            return False
        subscriber.cursor = cursor
        subscriber.messages += messages
        self.stats.deliveries += messages
        return True

    def _pin(self, subscriber: Subscriber, burst: Burst, taken: int) -> None:
        """Keep what the socket did not take; one that is gone shows when it is offered again."""
        if taken or subscriber.pending is None:
            subscriber.blocked_at = time.monotonic()
        subscriber.pending = burst._replace(data=burst.data[taken:]) if taken else burst
        if subscriber.is_open:
            subscriber.state = State.BLOCKED
        self._heed(subscriber)

    def flush(self, subscriber: Subscriber) -> None:
        """Offer the pinned bytes again: there may be room."""
        if subscriber.pending is None or not self._push(subscriber, subscriber.pending):
            return
        subscriber.pending = None
        if subscriber.is_open:
            subscriber.state = State.LIVE
        if subscriber.answer_by:  # its ping waited: it has had no time to answer
            self._expect_answer(subscriber, ticks_ms())
        self._heed(subscriber)
        queue, subscriber.queue = bytes(subscriber.queue or b""), None
        self._push(subscriber, Burst(queue, subscriber.cursor, 0))
        self._half_close(subscriber)
        self._serve_soon(subscriber)

    # Receiving

    def _heed(self, subscriber: Subscriber) -> None:
        """Hear from now on of what comes, unless it is paused, and of room for what is pinned."""
        if not isinstance(subscriber.transport, QueueTransport):  # that has no readiness
            reading = 0 if subscriber.is_paused else READ
            writing = 0 if subscriber.pending is None else WRITE
            self._poller.watch(subscriber.fd, reading | writing)

    def pause(self, subscriber: Subscriber, is_paused: bool = True) -> None:
        """Read no more from a connection, so that the network holds its sender back; or again."""
        if subscriber.state is not State.GONE:
            subscriber.is_paused = is_paused
            self._heed(subscriber)
            if not is_paused:
                if subscriber.answer_by and subscriber.is_open:  # its answer may wait to be read
                    self._expect_answer(subscriber, ticks_ms())
                self._loop.run_callback(self._read, subscriber)  # TLS may hold decrypted bytes

    def _ready(self, fd: int, events: int) -> None:
        subscriber = self._by_fd.get(fd)
        if subscriber is not None:
            with self._alone(subscriber):
                if events & READ:
                    self._read(subscriber)
                self.flush(subscriber)

    @contextlib.contextmanager
    def _alone(self, subscriber: Subscriber) -> Iterator[Subscriber]:
        """An error ends this connection, not the others' turn; its client goes on where it was.
        Else its readiness would come for ever, or it would lack a message and nobody would know."""
        try:
            yield subscriber
        except Exception:
            self._close(subscriber, "internal error")
            self._journal.add("ERROR", "A stream failed", traceback=traceback.format_exc())

    def _read(self, subscriber: Subscriber) -> None:
        if subscriber.state is State.GONE:
            return
        try:
            data = subscriber.transport.receive()
        except OSError as error:
            self._close(subscriber, f"connection lost ({error.strerror or error})")
            return
        if data == b"":
            self._close(subscriber, "closed by the client")
        elif data:
            self._receive(subscriber, data)

    def _receive(self, subscriber: Subscriber, data: bytes) -> None:
        """What a client says on its stream; on SSE it has nothing to say."""
        if data and subscriber.session is not None and subscriber.is_open:
            subscriber.session.received(subscriber, data)

    # Other topics, another name, another position, the end

    def set_topics(
        self, subscriber: Subscriber, topics: Iterable[str], since: int | None = None
    ) -> None:
        """Change a connection's topics as of the head; of new ones also what came after `since`."""
        earlier, since = subscriber.later, self.head if since is None else since
        if earlier and earlier[-1].number == self.head <= earlier[-1].since:
            earlier = earlier[:-1]
        subscriber.later = (*earlier, Change(self.head, frozenset(topics), since))
        if len(earlier) >= self.LATER:
            self._close(subscriber, "changed its topics too often")
        else:
            self._serve_soon(subscriber)

    def become(self, subscriber: Subscriber, topics: Topics | None = None, **changed: Any) -> None:
        """Let a connection go on with other topics or fields: as another client's (`client_id`), in
        another `encoding`."""
        before = subscriber.view.topics
        topics = before if topics is None else topics
        self.audience.leave(subscriber)
        for name, value in changed.items():
            setattr(subscriber, name, value)
        self.audience.enter(subscriber, topics)
        self.on_moved(subscriber, before, topics)
        self._serve_soon(subscriber)

    def rewind(self, subscriber: Subscriber, topics: Topics, cursor: int) -> None:
        """Begin a connection, which has had no messages yet, at an earlier position."""
        pending = subscriber.pending and subscriber.pending._replace(cursor=cursor)
        self.become(subscriber, topics, cursor=cursor, later=(), pending=pending)

    def disconnect(self, subscribers: list[Subscriber], reason: str) -> None:
        """Serve what there is, tell the clients not to come back as they were, and close."""
        for subscriber in subscribers:
            self._serve(subscriber)
            body = {"type": "disconnect", "reason": reason}
            self.reply(subscriber, subscriber.encoding.notice("disconnect", body, None))
            self._close(subscriber, reason)

    # What the log tells

    def advance(self, entries: list[Entry]) -> None:
        """Apply new entries of the log, in order, and bring them to whom they concern."""
        self._loaded = bool(self._dirty)  # more has come before what was there is brought
        counts = self.stats.topics
        for entry in entries:
            self._ring.add(entry)
            if entry.topic.startswith(CHANNEL):
                counts[entry.topic] += 1
            for view in self._ring.by_topic[entry.topic].views:
                view.mark(entry.id)
                self._dirty[view] = None
            for subscriber in self.audience.owners((entry.topic, *entry.left_out)):
                subscriber.own_last = entry.id
                self._urgent.append(subscriber)
            self.head = entry.id
            act = self.controls.get(entry.event or "") if entry.kind == CONTROL else None
            if act is not None:  # a newer node may know more kinds
                with reported(self._journal, f"The control entry {entry.event} failed"):
                    act(entry.id, msgspec.json.decode(entry.content))
        self.stats.bound_topics()
        self._ring.evict(self._settings["ring_bytes"])
        self._wake()

    def _revoke(self, number: int, order: dict[str, Any]) -> None:
        gone = set(order["credentials"])
        for subscriber in self.subscribers():
            if subscriber.credential in gone:
                self.disconnect([subscriber], REVOKED)
            elif subscriber.session is not None:
                subscriber.session.revoked(gone)

    def change_topics(self, number: int, order: dict[str, Any]) -> None:
        """Change the topics of a client's connections, as a control entry says."""
        for subscriber in self.audience.of_client(order["clientId"]):
            topics = (subscriber.topics | set(order["add"])) - set(order["remove"])
            self.set_topics(subscriber, topics, order.get("since"))

    # The sweep

    def _wake(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.run_callback(self._sweep)

    def _serve_soon(self, subscriber: Subscriber) -> None:
        self._urgent.append(subscriber)
        self._wake()

    def _sweep(self) -> None:
        """Serve whom there is something for, for a slice of time; go on later with the rest."""
        self._scheduled = False
        until = time.perf_counter() + self.SLICE
        if self._dirty:  # each begins with another view: nobody starves behind a busy one
            view = next(iter(self._dirty))
            self._dirty[view] = self._dirty.pop(view)
        with reported(self._journal, "A sweep failed"):
            while self._urgent or self._volatile or self._dirty:
                if self._urgent:
                    with self._alone(self._urgent.popleft()) as subscriber:
                        self._serve(subscriber)
                elif self._volatile:
                    self._send_volatile()
                else:
                    self._serve_some(self._dirty.popitem()[0])
                if time.perf_counter() > until:
                    break
        if self._urgent or self._volatile or (self._dirty and not self._loaded):
            self._wake()
        elif self._dirty:
            # Publishers have a turn as long as the sweep's: when messages come faster than they
            # are brought, each send then carries more of them.
            self._scheduled = True
            self._timer.start(self._sweep, update=True)
        else:
            self._loaded = False
            self._ring.evict(self._settings["ring_bytes"])  # frames were made

    def _serve_some(self, view: View) -> None:
        """The hot path: to a few of a dirty view one send each, of the bytes that they all lack,
        with as few steps as Python allows. Now that nobody is urgent, nobody has anything of its
        own before them. Who can't take them whole goes on alone."""
        if not view.waiting and view.is_marked:
            view.waiting, view.is_marked = list(view.members), False
        some = view.waiting[-self.TOGETHER :]
        del view.waiting[-self.TOGETHER :]
        live = State.LIVE
        low = high = size = bytes_sent = deliveries = 0
        for subscriber in some:
            if subscriber.state is not live or subscriber.view is not view:
                continue
            if not low <= subscriber.cursor < high:
                if subscriber.cursor >= view.newest:
                    continue
                low, high = view.alike(subscriber.cursor)
                shared = self._ring.shared_burst(view, low, self.head)
                if shared is None:
                    high = 0
                    self._urgent.append(subscriber)
                    continue
                data, cursor, messages = burst = shared
                size = len(data)
                view.is_marked |= cursor < view.newest  # it carries no more
            try:
                taken = subscriber.transport.send(data) if size else 0
            except OSError:
                taken = 0
            bytes_sent += taken
            subscriber.bytes_sent += taken
            if taken == size:
                deliveries += messages
                subscriber.cursor = cursor
                subscriber.messages += messages
            else:
                self._pin(subscriber, burst, taken)
        self.stats.bytes_sent += bytes_sent
        self.stats.deliveries += deliveries
        if view.is_marked or view.waiting:
            self._dirty[view] = None  # the last one, so the next that is served
        else:
            view.bursts.clear()

    def _serve(self, subscriber: Subscriber) -> None:
        """Bring a subscriber to the head, or until its socket takes no more."""
        for _ in range(16):
            if subscriber.state is not State.LIVE:
                return
            span = subscriber.next_span(self.head)
            if span is not None:
                if span.is_earlier and not self._log.complete(span.after, span.topics):
                    self._reset(subscriber, span)
                    return
                burst = self._ring.next_burst(subscriber, span)
                if burst is None:
                    subscriber.state = State.BEHIND
                    self._catch_up.add(subscriber, span)
                    return
                if subscriber.view.bursts:
                    self._dirty[subscriber.view] = None  # the sweep clears them
                self._bring(subscriber, span.is_earlier, burst)
            elif subscriber.later:  # it has been served up to there
                change, *later = subscriber.later
                cursor = max(subscriber.cursor, change.number)
                self.become(subscriber, change.topics, cursor=cursor, later=tuple(later))
            else:
                return
        self._serve_soon(subscriber)  # much to send: others have their turn first

    def _serve_behind(self, subscriber: Subscriber, source: Source) -> None:
        """Serve who was behind, if it still is, of what was read for it."""
        if subscriber.state is not State.BEHIND:
            return
        subscriber.state = State.LIVE
        self._serve_soon(subscriber)  # of the ring, or of another page
        while subscriber.state is State.LIVE and (span := subscriber.next_span(self.head)):
            burst = source(subscriber, span)
            if burst is None:
                return
            if self._log.complete(span.after, span.topics):
                self._bring(subscriber, span.is_earlier, burst)
            else:
                self._reset(subscriber, span)

    def _bring(self, subscriber: Subscriber, is_earlier: bool, burst: Burst) -> None:
        """Send a part of a span."""
        if is_earlier:
            change, *later = subscriber.later
            subscriber.later = (change._replace(since=burst.cursor), *later)
            burst = burst._replace(cursor=subscriber.cursor)
        self._push(subscriber, burst)

    def _reset(self, subscriber: Subscriber, span: Span | None = None) -> None:
        """Some of what it lacks is gone: say so and go on, at the head, or with its new topics."""
        is_earlier, number = span is not None and span.is_earlier, self.head
        if not is_earlier:  # its cursor will be beyond all changes of its topics
            subscriber.later = tuple(c._replace(since=number) for c in subscriber.later)
        position = self._log.position(subscriber.cursor if is_earlier else number)
        frame = subscriber.encoding.notice("reset", RESET, position)
        self._bring(subscriber, is_earlier, Burst(frame, number, 0))
        self._serve_soon(subscriber)

    # Volatile messages

    def volatile(self, entry: Entry) -> int:
        """Send a message that is not stored to who is there and ready; how many are addressed."""
        if entry.topic.startswith(CHANNEL):
            self.stats.topics[entry.topic] += 1
            self.stats.bound_topics()
        here = self.audience.present(entry.topic)
        chosen = [member for member in here if entry.is_for(member.view.topics, member.own_topic)]
        if chosen:
            self._volatile.append((entry, iter(chosen)))  # in the place of the oldest of too many
            self._wake()
        return len(chosen)

    def _send_volatile(self) -> None:
        """Send the oldest one to one more subscriber."""
        entry, rest = self._volatile[0]
        subscriber = next(rest, None)
        if subscriber is None:
            self._volatile.popleft()
            return
        if not subscriber.has_all(self.head):
            self._serve(subscriber)
        # It may carry a position: not to who still lacks something, or for the past.
        if subscriber.has_all(self.head):
            key = f"{subscriber.encoding.key} {self.head}"
            if key not in entry.frames:
                position = self._log.position(self.head)
                entry.frames[key] = subscriber.encoding.message(entry, position)
            self._push(subscriber, Burst(entry.frames[key], self.head, 1))

    # Time

    def _tick(self) -> None:
        """Pings, and an end to who takes nothing or whose time is over."""
        while True:
            gevent.sleep(min(0.5, self._settings["ping_interval"] / 4))
            with reported(self._journal, "The heartbeat failed"):
                self._close_stalled()
                self._ping()

    def _close_stalled(self) -> None:
        limit = time.monotonic() - self._settings["slow_consumer_seconds"]
        for subscriber in [s for s in self._by_fd.values() if s.pending and s.blocked_at < limit]:
            if subscriber.session is None or subscriber.state is State.ENDING:
                self._close(subscriber, self.STALLED)
                continue
            # A WebSocket that is read again soon gets the rest of what was begun, and these words.
            subscriber.queue = None
            last = subscriber.encoding.farewell(0, CloseCode.TRY_AGAIN_LATER)
            self.close_after(subscriber, last, self.STALLED)
            subscriber.blocked_at = time.monotonic()

    def _expect_answer(self, subscriber: Subscriber, due: int) -> None:
        """Count a client as gone unless it answers a ping that was due at a time."""
        timeout = int(self._settings["ping_timeout"] * 1000)
        subscriber.answer_by = max(due + timeout, ticks_ms() + timeout // 2)

    def _ping(self) -> None:
        now, ticks = now_ms(), ticks_ms()
        due = ticks - int(self._settings["ping_interval"] * 1000)
        frames: dict[Hashable, bytes] = {}
        for subscriber in paced(list(self._by_fd.values())):
            answer_by = 0 if subscriber.is_paused else subscriber.answer_by  # it is not read
            if 0 < subscriber.expires_at <= now and subscriber.is_open:
                self.disconnect([subscriber], "The credential expired")
            elif 0 < (subscriber.closes_at or answer_by) <= ticks:
                if subscriber.pending is None:  # else its ping waits too: see _close_stalled
                    self._close(subscriber, "ping timeout")
            elif subscriber.pinged_at <= due and subscriber.is_open:
                self._ping_one(subscriber, frames)

    def _ping_one(self, subscriber: Subscriber, frames: dict[Hashable, bytes]) -> None:
        """Ping who lacks nothing, or waits for the database; to the others data is on its way."""
        due = subscriber.pinged_at + int(self._settings["ping_interval"] * 1000)
        subscriber.last_ping, subscriber.pinged_at = now_ms(), ticks_ms()
        body = {"type": "ping", "timestamp": iso(subscriber.last_ping)}
        if isinstance(subscriber.encoding, SocketIoEncoding):  # Engine.IO: always
            if not subscriber.answer_by:
                self._expect_answer(subscriber, due)
            self.reply(subscriber, subscriber.encoding.notice("ping", body, None))
            return
        if subscriber.has_all(self.head):
            subscriber.cursor = self.head
        elif subscriber.state is not State.BEHIND:
            return
        span = subscriber.next_span(self.head)  # what is older on new topics has no position
        position = None if span and span.is_earlier else self._log.position(subscriber.cursor)
        key = (subscriber.encoding.key, position)
        if key not in frames:
            frames[key] = subscriber.encoding.notice("ping", body, position)
        if subscriber.session is not None and not subscriber.answer_by:
            self._expect_answer(subscriber, due)
        self._push(subscriber, Burst(frames[key], subscriber.cursor, 0))


REVOKED = "The credential was revoked"
RESET = {
    "type": "reset",
    "message": "Messages after the asked position are no longer held; reload what you show.",
}


@contextlib.contextmanager
def reported(journal: Journal, what: str) -> Iterator[None]:
    """Let a job go on after an error that nobody expected, and say so in the event log."""
    try:
        yield
    except (Exception, SystemExit) as error:
        if not (isinstance(error, Problem) and error.code == "storage_unavailable"):
            journal.add("ERROR", f"{what}: {words_of(error)}", traceback=traceback.format_exc())


# ----------------------------------------------------------------------------------------------
# Nodes
# ----------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Doorbell:
    """`NOTIFY` between nodes: it says that there is something to read, never what. A bell that is
    lost costs latency only, since each node looks once a second anyway. The second channel carries
    volatile messages, which are nowhere else."""

    BELL, LETTERS = "rtapp", "rtapp_volatile"
    GATHER_SECONDS = 0.02
    LETTER_BYTES = 7_900  # PostgreSQL takes fewer than 8,000

    _storage: Storage
    _on_bell: Callable[[], None]
    _on_letter: Callable[[str], None]
    _own = 0  # the ringing connection's process on the server

    def __post_init__(self) -> None:
        # When it is set the other nodes are told, together by whoever rings now.
        self.bell, self._letters_bell = gevent.event.Event(), gevent.event.Event()
        self._letters: deque[bytes] = deque(maxlen=1_000)

    def start(self) -> None:
        for run in (self._ring_on, self._listen, self._post_on):
            gevent.spawn(self._for_ever, run)

    def post(self, letter: bytes) -> None:
        """Send a JSON value to the other nodes; one that is too long stays here."""
        if len(letter) < self.LETTER_BYTES:
            self._letters.append(letter)
            self._letters_bell.set()

    @staticmethod
    def _for_ever(run: Callable[[], None]) -> None:
        wait = 0.2
        while True:
            started = time.monotonic()
            with contextlib.suppress(Problem, OSError, psycopg2.Error, *DATABASE_FAULTS):
                run()
            wait = 0.2 if time.monotonic() - started > 60 else min(wait * 2, 10)
            gevent.sleep(wait * random.random())

    def _ring_on(self) -> None:
        # On a connection of its own: NOTIFY in a transaction takes a lock that all commits of the
        # server queue for. Nothing is lost with a bell, so it need not wait for the disk.
        with contextlib.closing(self._storage.engine.connect()) as database:
            self._own = database.connection().info.backend_pid
            while self.bell.wait():
                self.bell.clear()
                database.execute_sql(
                    f"BEGIN; SET LOCAL synchronous_commit TO off; NOTIFY {self.BELL}; COMMIT"
                )

    def _post_on(self) -> None:
        while self._letters_bell.wait():
            gevent.sleep(self.GATHER_SECONDS)
            self._letters_bell.clear()
            while self._letters:
                text = self._letters.popleft()
                while self._letters and len(text) + len(self._letters[0]) + 1 < self.LETTER_BYTES:
                    text += b"\n" + self._letters.popleft()
                self._storage.read("SELECT pg_notify(?, ?)", (self.LETTERS, text.decode()))

    def _listen(self) -> None:
        with contextlib.closing(self._storage.engine.connect()) as database:
            database.execute_sql(f"LISTEN {self.BELL}; LISTEN {self.LETTERS}")
            self._on_bell()  # for what was missed
            connection = database.connection()
            while True:
                gevent.socket.wait_read(connection.fileno())
                connection.poll()
                notes, connection.notifies[:] = list(connection.notifies), []
                if any(n.channel == self.BELL and n.pid != self._own for n in notes):
                    self._on_bell()
                letters = [n.payload.split("\n") for n in notes if n.channel == self.LETTERS]
                for letter in itertools.chain.from_iterable(letters):
                    self._on_letter(letter)


class Connected(msgspec.Struct, frozen=True, rename="camel"):
    """A connection of any node. Its fields are the columns of the table, and what the API shows."""

    id: int
    client_id: str
    transport: str
    ip_address: str
    user_agent: str
    username: str | None
    channels: str  # JSON
    connected_at: int
    last_ping: int
    message_count: int
    bytes_sent: int
    lag: int
    status: str
    node: str


class NodeView(msgspec.Struct, rename="camel"):
    """A server process; of another, connections are as of its last heartbeat (5 s)."""

    id: str
    name: str
    current: bool
    connections: int
    started_at: Moment
    heartbeat_at: Moment


def _channel_like(channel: str | None) -> str:
    """The pattern of connections' channels, as JSON, that have one; without it, of all."""
    return f'%"{channel}"%'.replace("_", "\\_") if channel else "%"


class Nodes:
    """The processes that serve the same log; on SQLite only this one, and nothing is written."""

    BEATS = 10  # half seconds between two heartbeats
    SILENT_MS = 12_000  # after which a node counts as dead
    ROWS = 1_000  # that one unit writes: whoever publishes waits meanwhile
    # A volatile message for the other nodes: its node, topic, event, content, exclude, attachments.
    LETTER = msgspec.json.Decoder(tuple[str, str, str | None, str, str | None, bytes | None])

    _NOW = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
    _COLUMNS = ", ".join(Connected.__struct_fields__)
    _SELECT = f"SELECT {_COLUMNS} FROM connections WHERE node <> ? "
    # As JSON they take half the time that they take as parameters. A node that was taken for dead
    # writes none before it has signed again: nobody would take them away.
    _UPSERT = (
        "WITH gone AS (DELETE FROM connections WHERE node = ? AND id = ANY(?))"
        f" INSERT INTO connections ({_COLUMNS}) SELECT {_COLUMNS}"
        " FROM json_populate_recordset(NULL::connections, ?)"
        " WHERE node IN (SELECT id FROM nodes) ON CONFLICT (node, id) DO UPDATE SET "
        + ", ".join(f"{name} = excluded.{name}" for name in Connected.__struct_fields__)
    )

    is_away = False  # the database, as far as is known
    _beat_count = 0
    _judges_from = 0.0  # by time.monotonic()

    def __init__(self, storage: Storage, log: Log, hub: Hub, journal: Journal) -> None:
        self._storage, self._log, self._hub, self._journal = storage, log, hub, journal
        self.are_several = storage.engine.shared
        self.name = socket.gethostname()
        self.id = f"{self.name}-{secrets.token_hex(3)}" if self.are_several else self.name
        self.is_first = not self.are_several  # the one that does what only one need do
        self.started = now_ms()
        self._doorbell = Doorbell(storage, self._on_bell, self._on_letter)
        self._moved: dict[int, Subscriber] = {}  # came, changed or left since the last beat
        self._written: dict[int, Connected] = {}  # connection: its row as last written
        self._others: dict[str, int] = {}  # node: its connections
        self._transports = Counter[str]()  # of the connections of the other nodes
        self._presence: list[Entry] = []  # joins and leaves to be told
        hub.on_moved = self.moved

    def start(self) -> None:
        """Begin to be one of several."""
        if self.are_several:
            self.beat()
            self._doorbell.start()
            self._doorbell.bell.set()  # so that the others learn of this one

    def leave(self) -> None:
        """Take this node's rows away, at the end. Raises as `Storage.write` does."""
        if self.are_several:
            held = "WITH held AS (DELETE FROM connections WHERE node = ?)"
            self._write(f"{held} DELETE FROM nodes WHERE id = ?", self.id, self.id)

    def ring(self) -> None:
        """Tell the other nodes, if there are any, that the log went on."""
        if self._others:
            self._doorbell.bell.set()

    def _on_bell(self) -> None:
        if not self._others:  # it was another one's bell
            self._beat_count = 0
        with contextlib.suppress(Problem):
            self._log.poll()

    def _read(self, sql: str, *parameters: Any) -> list[Any]:
        """Rows of what the nodes share; none on SQLite."""
        return self._storage.read(sql, parameters) if self.are_several else []

    def _write(self, sql: str, *parameters: Any) -> list[Any]:
        """Run a statement as a unit of its own; the rows that it returns."""

        def unit(tx: Transaction) -> list[Any]:
            cursor = tx.database.execute_sql(sql, parameters)
            return list(cursor.fetchall()) if cursor.description else []

        return self._storage.write(unit)

    # The heartbeat

    def beat(self) -> None:
        """Every half second: tell which connections came, changed their topics or left. Every
        second: look for the database and for dead nodes. At each heartbeat: sign, tell all that has
        changed, learn who is on the other nodes."""
        if not self.are_several:
            return
        try:
            if is_second := self.is_away or self._beat_count % 2 == 0:
                self._check_database()
            is_heartbeat = self._beat_count % self.BEATS == 0
            self._beat_count += 1
            if is_heartbeat:
                self._write_heartbeat()
                self._moved.update((s.id, s) for s in self._hub.subscribers())
            if (is_second and self._release_dead()) or is_heartbeat:
                self._read_others()
            moved, self._moved = self._moved, {}
            self._write_rows(list(moved.values()))
        except Problem as problem:
            if not self.is_away:
                self._journal.add("WARN", f"The database is away: {problem.__cause__ or problem}")
            self.is_away = True
            self._written, self._moved = {}, {}  # what it holds isn't known: all is written anew

    def _check_database(self) -> None:
        """Notice that the database is back, and whether it is still the same one."""
        if self._storage.fault:
            self._storage.write(lambda tx: None)
        if self._log.has_moved():
            self._hub.restart(self._log.read_stand())
            self._journal.add("WARN", "The database is another one now: clients are told to reset")
        if self.is_away:
            self._journal.add("INFO", "The database is back")
            self.is_away = False
            self._beat_count = 0
            # It was away from the others as well, who sign again within their next beats.
            self._judges_from = time.monotonic() + self.SILENT_MS / 1000

    def _write_heartbeat(self) -> None:
        [(is_new,)] = self._write(
            "INSERT INTO nodes (id, name, started, heartbeat, audience)"
            f" VALUES (?, ?, {self._NOW}, {self._NOW}, ?) ON CONFLICT (id) DO UPDATE"
            " SET heartbeat = excluded.heartbeat, audience = excluded.audience RETURNING xmax = 0",
            *(self.id, self.name, to_json(self._hub.audience.sizes())),
        )
        if is_new or not self._written:  # perhaps it was taken for dead
            self._written.clear()
            self._write("DELETE FROM connections WHERE node = ?", self.id)

    def _release_dead(self) -> bool:
        """Take away what nodes that are silent held; whether there were any."""
        silent = f"FROM nodes WHERE heartbeat < {self._NOW} - {self.SILENT_MS} AND id <> ?"
        if time.monotonic() < self._judges_from or not self._read(f"SELECT 1 {silent}", self.id):
            return False
        rows = self._write(
            f"WITH dead AS (DELETE {silent} RETURNING id), held AS (DELETE FROM connections"
            " USING dead WHERE node = dead.id RETURNING node, client_id, username, channels)"
            " SELECT dead.id, client_id, username, channels"
            " FROM dead LEFT JOIN held ON node = dead.id",
            self.id,
        )
        for node in {row[0] for row in rows}:
            self._journal.add("WARN", "A silent node was released", node=node)
        for _, client_id, username, channels in rows:
            if client_id is not None and not self._hub.audience.of_client(client_id):
                for channel in msgspec.json.decode(channels):
                    self._note_presence("presence-leave", channel, client_id, username)
        return bool(rows)

    def _read_others(self) -> None:
        """Who is on the other nodes, as of their last heartbeat."""
        of_node = "FROM connections WHERE node = nodes.id AND node <> ?"
        held = f"ARRAY(SELECT client_id {of_node}), ARRAY(SELECT transport {of_node})"
        sql = f"SELECT id, audience, {held} FROM nodes ORDER BY started, id"
        rows = self._read(sql, self.id, self.id)
        self.is_first = [row[0] for row in rows[:1]] == [self.id]
        others, counts, kinds = {}, Counter[str](), Counter[str]()
        for node, audience, clients, transports in rows:
            if node != self.id:
                others[node] = len(clients)
                counts.update(msgspec.json.decode(audience))
                counts.update(DIRECT + client for client in clients)
                kinds.update(transports)
        self._others, self._hub.audience.elsewhere, self._transports = others, counts, kinds

    def _write_rows(self, subscribers: Sequence[Subscriber]) -> None:
        """Write the rows that are others than when they were last written, of who left none."""
        for part in paced(chunks(subscribers, self.ROWS)):
            written = self._written
            rows = [row for s in part if s.is_open and (row := self.row(s)) != written.get(s.id)]
            gone = [s.id for s in part if s.id in written and not s.is_open]
            written.update((row.id, row) for row in rows)
            for number in gone:
                del written[number]
            if rows or gone:
                text = to_json([msgspec.structs.asdict(row) for row in rows])
                self._write(self._UPSERT, self.id, gone, text)

    def row(self, subscriber: Subscriber) -> Connected:
        s = subscriber
        who = s.id, s.client_id, s.encoding.name, s.address, s.agent, s.username
        figures = s.connected_at, s.last_ping, s.messages, s.bytes_sent, self._hub.lag(s)
        status = "reconnecting" if s.state is State.BLOCKED else "connected"
        return Connected(*who, to_json(s.channels), *figures, status, self.id)

    # Who is where

    def counts(self) -> dict[str, int]:
        """Each node's connections, this one's first."""
        return {self.id: self._hub.count, **self._others}

    def described(self) -> list[NodeView]:
        """Each node as the API shows it, in order of age."""
        counts, own = self.counts(), (self.id, self.name, self.started, now_ms())
        rows = self._read("SELECT id, name, started, heartbeat FROM nodes ORDER BY started, id")
        return [
            NodeView(node, name, node == self.id, counts.get(node, 0), iso(started), iso(heartbeat))
            for node, name, started, heartbeat in rows or [own]
        ]

    def _rows(self, here: Iterable[Subscriber], where: str, *chosen: Any) -> list[Connected]:
        """Connections of this node, and those that a condition chooses of the others."""
        away = self._read(self._SELECT + where, self.id, *chosen)
        return [*map(self.row, here), *itertools.starmap(Connected, away)]

    def page(
        self, text: str, transport: str | None, channel: str | None, cursor: int, limit: int
    ) -> tuple[list[Connected], int]:
        """At most `limit` connections of any node with ids above `cursor`, in their order, and how
        many there are in all: of a transport, on a channel, with `text` in what is known of the
        client."""
        needle, chosen = text.lower(), list[Subscriber]()
        here = self._hub.audience.present(CHANNEL + channel) if channel else self._hub.subscribers()
        for s in paced(sorted(here, key=_by_id)):
            known = f"{s.client_id} {s.address} {s.agent} {s.username or ''}" if needle else ""
            if s.is_open and transport in (None, s.encoding.name) and needle in known.lower():
                chosen.append(s)
        here = [s for s in chosen if s.id > cursor][:limit]
        known = "lower(concat_ws(' ', client_id, ip_address, user_agent, username))"
        where = f"AND transport = coalesce(?, transport) AND strpos({known}, ?) > 0"
        where += " AND channels LIKE ?"
        asked = transport, needle, _channel_like(channel)
        count = f"SELECT count(*) FROM connections WHERE node <> ? {where}"
        total = len(chosen) + sum(n for (n,) in self._read(count, self.id, *asked))
        where += " AND id > ? ORDER BY id LIMIT ?"
        rows = self._rows(here, where, *asked, cursor, limit)
        return sorted(rows, key=lambda row: row.id)[:limit], total

    def channels(self, limit: int) -> tuple[list[tuple[str, int, int]], int]:
        """Those with most messages in the last minute, then with most listeners on all nodes: name,
        listeners, messages; and how many have any of either."""
        messages, listeners = self._hub.stats.traffic(), Counter(self._hub.audience.elsewhere)
        listeners.update(self._hub.audience.sizes())
        names = {topic: channel_of(topic) for topic in paced({**listeners, **messages})}
        found = [
            (name, listeners[topic], messages[topic])
            for topic, name in paced(names.items())
            if name is not None and not name.startswith(RESERVED_CHANNELS)
        ]
        return heapq.nsmallest(limit, paced(found), key=lambda f: (-f[2], -f[1], f[0])), len(found)

    def by_transport(self) -> dict[str, int]:
        """Open connections of each kind, here and, as last told, on the other nodes."""
        return Counter(self._hub.audience.by_transport()) + self._transports

    def newest(self, limit: int) -> list[Connected]:
        """The connections that were opened last, on any node, newest first."""
        here = self._hub.subscribers()[-limit:]
        rows = self._rows(here, "ORDER BY connected_at DESC LIMIT ?", limit)
        return sorted(rows, key=lambda row: (row.connected_at, row.id), reverse=True)[:limit]

    def of_client(self, client_id: str) -> list[Connected]:
        """A client's connections, on any node."""
        return self._rows(self._hub.audience.of_client(client_id), "AND client_id = ?", client_id)

    def present(self, channel: str) -> list[Connected]:
        """The connections on a channel, a client once."""
        here = self._hub.audience.present(CHANNEL + channel)
        rows = self._rows(here, "AND channels LIKE ?", _channel_like(channel))
        return list({row.client_id: row for row in rows}.values())

    # Volatile messages

    def volatile(self, entry: Entry) -> int:
        """Send a message that is not stored to who is there on any node; how many that is."""
        if self.are_several:
            letter = self.id, entry.topic, entry.event, entry.content, entry.exclude
            self._doorbell.post(msgspec.json.encode((*letter, entry.attachments)))
        return self._hub.volatile(entry) + self._hub.audience.elsewhere.get(entry.topic, 0)

    def _on_letter(self, text: str) -> None:
        """Whoever may connect to the database can send what is none; the next is heard anyway."""
        with reported(self._journal, "A letter of another node"):
            node, topic, event, content, exclude, attachments = self.LETTER.decode(text)
            if node == self.id:
                return
            if topic == HUB_TOPIC:  # for the node, and not worth a row
                self._hub.controls[event or ""](0, msgspec.json.decode(content))
                return
            kind = VIDEO if topic.startswith(VIDEO_ROOM) else MESSAGE
            self._hub.volatile(Entry(topic, kind, event, content, attachments, exclude=exclude))

    # Presence

    def moved(self, subscriber: Subscriber, before: frozenset[str], now: frozenset[str]) -> None:
        """A connection here has other topics, or another client's name: who hears its client for
        the first or last time?"""
        if self.are_several:
            self._moved[subscriber.id] = subscriber
        client_id, name = subscriber.client_id, subscriber.username
        others = [s for s in self._hub.audience.of_client(client_id) if s is not subscriber]
        for event, topics in (("presence-leave", before - now), ("presence-join", now - before)):
            for topic in topics:
                channel = channel_of(topic)
                if channel is not None and not any(topic in s.view.topics for s in others):
                    self._note_presence(event, channel, client_id, name)

    def _note_presence(self, event: str, channel: str, client_id: str, name: str | None) -> None:
        """Remember a join or leave, to be told where somebody listens on any node."""
        # Another node's listeners show in what is held of the topic before they are counted.
        topic, now = PRESENCE + channel, now_ms()
        if self._hub.audience.is_heard(topic) or topic in self._hub.audience.elsewhere:
            who = {"type": event, "channel": channel, "clientId": client_id, "username": name}
            told = Entry(topic, SYSTEM, event, to_json(who), expires_at=now + 60_000, sent_at=now)
            self._presence.append(told)

    def tell_presence(self) -> None:
        """Put the joins and leaves since the last call into the log, together."""
        entries, self._presence = self._presence, []
        try:
            if entries:
                self._log.store(entries)
        except Problem:
            self._presence = (entries + self._presence)[:1_000]
            raise


# ----------------------------------------------------------------------------------------------
# Access
# ----------------------------------------------------------------------------------------------


SCOPES = ("subscribe", "publish", "emit", "admin")


class Role(NamedTuple):
    """Who may call a route, besides administrators, who may call all."""

    scope: str | None  # that a credential needs; "": any one will do; None: nobody needs one
    has_guests: bool = False  # also whoever is in a room
    is_open: bool = False  # also anybody, where the setting access is open
    other: str = ""  # a scope that will do as well


ROLES = {
    "public": Role(None),
    "room": Role(None),  # `Rooms` decides
    "stream": Role("subscribe", has_guests=True, is_open=True),
    "subscribe": Role("subscribe", is_open=True),
    "publish": Role("publish", is_open=True),
    "emit": Role("emit"),
    "publish or emit": Role("publish", is_open=True, other="emit"),
    "guest": Role("subscribe", has_guests=True),
    "user": Role("subscribe"),  # who may hear something may list it
    "session": Role(""),  # the route looks for the user
    "metrics": Role("metrics"),
    "admin": Role("admin"),
}


class Grants(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a credential lets its holder do. Patterns are shell patterns; None means all channels
    and the global broadcasts, which `*` also stands for."""

    scopes: tuple[str, ...] = SCOPES[:2]
    subscribe: tuple[str, ...] | None = None
    publish: tuple[str, ...] | None = None


# Who may ask: nobody known, the guest of a room, a user or the desktop's owner by a session, and
# whoever has an API token, a JSON Web Token, RTAPP_ADMIN_TOKEN or the setting metrics_token.
Kind = Literal[
    "anonymous", "guest", "user", "owner", "token", "jwt", "admin-token", "metrics-token"
]


class Principal(NamedTuple):
    """Who is asking, by which credential."""

    kind: Kind
    subject: str  # a name among those of its kind
    grants: Grants
    credential: str = ""  # its public id, by which it is revoked
    expires_at: int | None = None
    user_id: int | None = None
    address: str = ""  # where the request came from

    @property
    def name(self) -> str:
        """What it is called in tables and logs, and by others: no two kinds share a name."""
        # No user's name has a colon, or a space.
        return f"{self.kind}:{self.subject}" if self.kind in ("token", "jwt") else self.subject

    @property
    def role(self) -> str:
        """anonymous, guest, user or admin."""
        if not self.account:
            return self.kind
        return "admin" if "admin" in self.grants.scopes else "user"

    @property
    def is_person(self) -> bool:
        """Whether its account is one person's; a program's token may stand for many."""
        return self.kind in ("user", "owner", "jwt")

    @property
    def account(self) -> str:
        """What is limited as one, wherever it asks from; empty for anybody, and for guests."""
        return "" if self.kind in ("anonymous", "guest") else self.name

    @property
    def unlimited(self) -> bool:
        """Whether nobody counts its requests: administrators and API tokens."""
        return self.kind == "token" or self.role == "admin"

    def may_use(self, act: str, channel: str | None) -> bool:
        """Whether it may `publish` to a channel or hear it; None is the global broadcast."""
        patterns = self.grants.publish if act == "publish" else self.grants.subscribe
        if patterns is None or "*" in patterns:
            return True
        return channel is not None and any(fnmatchcase(channel, p) for p in patterns)


WINDOW = "window"  # a scope that tells the desktop's own window, in which no call is held
USER_GRANTS, ADMIN_GRANTS = Grants(), Grants(SCOPES)
WINDOW_GRANTS = Grants((*SCOPES, WINDOW))
ANONYMOUS = Principal("anonymous", "anonymous", Grants(()))
GUEST = Principal("guest", "guest", Grants(()))
ADMIN_TOKEN = Principal("admin-token", "admin-token", ADMIN_GRANTS)
METRICS_TOKEN = Principal("metrics-token", "metrics-token", Grants(("metrics",), (), ()))
OWNER = "this computer"  # the only name of its kind

# Names of who has no account; a user of such a name would be taken for them.
NOBODYS_NAMES = (ANONYMOUS.name, GUEST.name)
OWN_NAMES = (*NOBODYS_NAMES, ADMIN_TOKEN.name, METRICS_TOKEN.name)
_SESSION = re.compile(r"[A-Za-z0-9_-]{22,64}")
LINK_SECONDS, SESSION_SECONDS = 30 * 60, 30 * 86_400
as_network = functools.lru_cache(maxsize=256)(partial(ipaddress.ip_network, strict=False))
one_copy = functools.lru_cache(maxsize=1_000)(str)  # of what thousands of connections have
Storable = Annotated[str, msgspec.Meta(pattern=r"\A[^\x00-\x1f\x7f\ud800-\udfff]+\Z")]


def client_id_of(session: str) -> str:
    """The public `clientId` of a client's secret `session`."""
    digest = hashlib.sha256(session.encode()).digest()
    return base64.urlsafe_b64encode(digest).decode()[:21]


@functools.lru_cache(maxsize=4_096)
def is_loopback(address: str) -> bool:
    found = as_ip(address)
    return address == "localhost" if found is None else found.is_loopback


@functools.lru_cache(maxsize=256)
def name_of(host: str) -> str:
    """The name in a Host header without its port, empty for none."""
    return urllib.parse.urlsplit(plain_origin(f"http://{host}")).hostname or ""


def new_token(
    kind: str, grants: Grants, seconds: float, suffix: str = "", **more: Any
) -> tuple[str, dict[str, Any]]:
    """A new secret, and the row of `access_tokens` that is stored for it. What the secret ends with
    is as true as the whole: only that has its hash."""
    secret, now = secrets.token_urlsafe(32) + suffix, now_ms()
    row = {"token_hash": sha256(secret), "kind": kind, "grants": to_json(grants), **more}
    return secret, {**row, "created_at": now, "expires_at": now + int(seconds * 1000)}


# Passwords

USERNAME = r"[A-Za-z0-9_.@-]{1,64}"
_COMMON = (
    "password password1 password12 password123 passw0rd p@ssw0rd p@ssword 12345678 123456789 "
    "1234567890 87654321 987654321 11111111 00000000 88888888 12341234 11223344 1q2w3e4r "
    "1q2w3e4r5t 1qaz2wsx qwertyui qwertyuiop qwerty123 qwerty12 qwertz123 asdfghjk asdfghjkl "
    "zxcvbnm1 abcd1234 abc12345 a1b2c3d4 iloveyou sunshine princess football baseball superman "
    "starwars trustno1 whatever computer internet letmein1 welcome1 welcome123 admin123 "
    "admin1234 administrator changeme secret12 test1234 testtest default1 master12 dragon12 "
    "galatasaray fenerbahce besiktas trabzonspor istanbul turkiye1 sifre123 parola123"
)
COMMON_PASSWORDS = frozenset(_COMMON.split())
NOBODYS_HASH = f"scrypt${'00' * 16}${'00' * 32}"  # for names that don't exist: same time, no match


def check_password(password: str, username: str) -> None:
    """Refuse passwords that are guessed first. Raises Problem `weak_password` or `invalid`."""
    if len(password) < 8 or len(password) > 1024:
        raise Problem("invalid", errors=[("password", "must have 8 to 1024 characters")])
    plain = password.lower()
    if plain in COMMON_PASSWORDS or plain == username.lower() or len(set(plain)) < 3:
        raise Problem("weak_password", errors=[("password", "is among the first that are guessed")])


def hash_password(password: str, salt: bytes = b"") -> str:
    """What is stored of a password (RFC 7914): 16 MiB and some 50 ms, in a thread of its own."""
    secret, salt = unicodedata.normalize("NFKC", password).encode(), salt or secrets.token_bytes(16)
    found = hashlib.scrypt(secret, salt=salt, n=2**14, r=8, p=1, dklen=32)
    return f"scrypt${salt.hex()}${found.hex()}"


def verify_password(password: str, stored: str) -> bool:
    salt = bytes.fromhex(stored.split("$")[1])
    return hmac.compare_digest(hash_password(password, salt), stored)


def revoke(tx: Transaction, credentials: Sequence[str]) -> None:
    """Delete tokens by their public ids, their tickets too; streams opened with any are closed."""
    for credential in credentials:
        own = AccessToken.token_hash.between(credential, credential + "g")  # behind all its digits
        gone = own | (AccessToken.parent == credential)
        AccessToken.delete().where(gone).execute(tx.database)
    tx.append([control_draft("revoke", credentials=credentials)])


def user_row(username: str, hashed: str, role: str) -> dict[str, Any]:
    row = {"username": username, "username_key": username.casefold(), "role": role}
    return {**row, "password_hash": hashed, "created_at": now_ms()}


# What is said of a single-use token that there isn't, by its kind.
REFUSALS = {
    "setup": "Start the program again, or run rtapp setup-link: it prints a new link.",
    "signin": "Sign in with your name and password.",
    "ticket": "The ticket was used or has expired.",
}


class SignedIn(msgspec.Struct):
    """Who is signed in now; who sits at the desktop has no name."""

    success: bool
    username: str | None
    role: str


class Charge(NamedTuple):
    """`n` tokens of a bucket that holds `burst` and gets `rate` a second."""

    key: Hashable
    rate: float
    burst: float
    n: float = 1


GiveBack = Callable[[], None]


class Buckets:
    """Token buckets: each key may do `burst` at once and `rate` a second in the long run."""

    KEYS = 50_000  # remembered; then the full ones, which say nothing, are forgotten

    def __init__(self) -> None:
        self._full_at: dict[Hashable, float] = {}

    def charge(self, *charges: Charge, code: str = "rate_limited") -> GiveBack:
        """Take all tokens or none; what gives them back. More than a bucket holds are taken when
        it is full, and owed. Raises Problem `code` with the seconds until they are there."""
        now, wait = time.monotonic(), 1e-6  # less is rounding
        for key, rate, burst, n in charges:
            owed = max(self._full_at.get(key, now) - now, 0)
            wait = max(wait, owed + (min(n, burst) - burst) / rate)
        if wait > 1e-6:
            raise Problem(code, f"Wait {int(wait) + 1} seconds.", retry_after=int(wait) + 1)
        if len(self._full_at) >= self.KEYS:
            kept = {key: when for key, when in self._full_at.items() if when > now}
            self._full_at = kept if len(kept) < self.KEYS else {}
        for key, rate, _, n in charges:
            self._full_at[key] = max(now, self._full_at.get(key, 0)) + n / rate

        def give_back() -> None:
            for key, rate, _, n in charges:
                if key in self._full_at:
                    self._full_at[key] -= n / rate

        return give_back


Seconds = Annotated[float, msgspec.Meta(lt=8.64e12)]  # ECMAScript knows no later time


class Claims(msgspec.Struct):
    """What a JSON Web Token says (RFC 7519, 4.1); PyJWT takes a time also as a text."""

    sub: Storable
    exp: Seconds
    nbf: Seconds = 0
    iat: Seconds = 0
    aud: str | list[str] = ""
    channels: dict[str, tuple[Storable, ...]] = {}


# Requests

# A parameter of Content-Type, without its quotes (RFC 9110, 5.6.6).
CHARSET = re.compile(r"""(?i);\s*charset\s*=\s*"?([^\s;"]*)""")


def field_list(value: str) -> set[str]:
    """What a field lists that is compared without case, as Connection, Upgrade and Expect do."""
    return {part.strip().lower() for part in value.split(",")} - {""}


class Call(msgspec.Struct, eq=False, dict=True):
    """A request: who asks, from where, for what. The front reads it; what the guard finds out
    about its sender is added to it."""

    method: str
    target: str
    version: str  # as "1.1"
    headers: dict[str, str]  # by their names in lower case
    address: str  # a trusted proxy's client in the place of the proxy
    scheme: str  # of the client's own connection
    connection: Connection
    path: str = ""
    raw_query: str = ""
    is_kept: bool = True  # whether the connection is, for another request
    is_proxied: bool = False  # by a trusted proxy
    principal: Principal = ANONYMOUS
    bound: str = ""  # the clientId that its ticket was made for
    arguments: dict[str, Any] = {}
    reply: dict[str, str] = {}  # headers of its answer

    def __post_init__(self) -> None:
        target = self.target
        if not target.isascii():  # some clients send letters as they are: each byte is one here
            target = urllib.parse.quote(target, safe=string.punctuation, encoding="latin-1")
        path, _, self.raw_query = target.partition("?")
        # What isn't UTF-8 leads nowhere.
        self.path = urllib.parse.unquote_to_bytes(path).decode(errors="surrogateescape")

    @property
    def agent(self) -> str:
        return self.headers.get("user-agent", "")

    @property
    def content_type(self) -> str:
        """The body's media type without parameters."""
        return self.headers.get("content-type", "").split(";")[0].strip().lower()

    @property
    def origin(self) -> str:
        """The scheme, host and port that the request was addressed to."""
        return f"{self.scheme}://{self.headers.get('host') or 'rtapp'}"

    @cached_property
    def query(self) -> dict[str, list[str]]:
        """What the query string gives. Raises Problem `malformed`."""
        parse = partial(urllib.parse.parse_qs, self.raw_query, keep_blank_values=True)
        try:
            return parse(errors="strict") if self.raw_query else {}
        except ValueError:
            given = parse(errors="surrogateescape").items()
            name = next(name for name, values in given if NOT_UTF8.search(name + "".join(values)))
            detail = f"The query string is not valid UTF-8 in its field {ascii(name)}."
            raise Problem("malformed", detail) from None

    @property
    def session(self) -> str | None:
        """The client's secret from the header `X-Session`. Raises Problem `invalid`."""
        session = self.headers.get("x-session")
        if session is not None and not _SESSION.fullmatch(session):
            raise Problem("invalid", errors=[("X-Session", "must be 22-64 URL-safe characters")])
        return session

    def body(self, limit: int) -> bytes:
        """The whole body, of at most `limit` bytes. Raises Problem `not_json` for one that says it
        isn't UTF-8, or is packed, `too_large` as soon as it is known to be, `too_slow`,
        `malformed`."""
        for charset in CHARSET.findall(self.headers.get("content-type", "")):
            if charset.lower() not in ("utf-8", "utf8"):
                raise Problem("not_json", f"It must be UTF-8, not {charset[:40]}.")
        if self.headers.get("content-encoding", "").lower() not in ("", "identity"):
            plain = {"Accept-Encoding": "identity"}  # RFC 9110, 15.5.16
            raise Problem("not_json", "Send it without Content-Encoding.", headers=plain)
        try:
            raw = self.connection.body(limit)
            if raw is not None:
                return raw
            fault = "too_large", f"At most {limit} bytes are taken here."
        except TimeoutError:
            fault = "too_slow", "The body took too long to come."
        except (OSError, ValueError):
            fault = "malformed", "The body ended early or is framed wrongly."
        raise Problem(*fault, headers={"Connection": "close"})

    def json_body(self, limit: int) -> bytes:
        """The body of a request that must be JSON: what other sites' pages may send without being
        asked is of other types. Raises Problem `not_json`."""
        if self.content_type != "application/json":
            raise Problem("not_json", "Send it with Content-Type: application/json.")
        return self.body(limit)


# What users may not say, on any way in, so that nobody can forge what the server says.
STATS_CHANNEL = "sys:stats"  # a message a second for who may read the statistics
RESERVED_TYPES = {"connection", "ping", "reset", "disconnect", "webrtc-signal"}
RESERVED_PREFIXES = ("participant-", "room-")
SOCKETIO_EVENTS = frozenset(
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"]
)  # that the protocol's clients raise by themselves
RESERVED_EVENTS = SOCKETIO_EVENTS | RESERVED_TYPES
RESERVED_EVENT_PREFIXES = (*RESERVED_PREFIXES, "presence-")


def check_words(event: str, value: Any) -> None:
    """Raise Problem `reserved_event` or `reserved_type` for what only the server may say."""
    if event in RESERVED_EVENTS or event.startswith(RESERVED_EVENT_PREFIXES):
        raise Problem("reserved_event", f"The event name {event} is the server's.")
    kind = value.get("type") if isinstance(value, dict) else None
    if isinstance(kind, str) and (kind in RESERVED_TYPES or kind.startswith(RESERVED_PREFIXES)):
        raise Problem("reserved_type", f"The type {kind} is a system message's.")


@dataclass(eq=False)
class Access:
    """Who is asking, and may they: tokens, sessions, hosts and origins."""

    SESSIONS = 100  # of a user
    HASHED, WAITING = 2, 48  # passwords at once: a flood costs bounded memory
    CLOCK_SECONDS = 60  # by which an issuer's clock may be ahead of ours (RFC 7519, 4.1.5)
    _storage: Storage
    _settings: Settings
    _journal: Journal
    _admin_token: str | None
    has_desktop = False  # whether somebody sits at this computer: the Desktop part says so

    def __post_init__(self) -> None:
        self._own_names = {"localhost", socket.gethostname().lower()}
        self._turns = gevent.lock.Semaphore(self.HASHED)
        self._limits = {"rate_limit": Buckets(), "publish_limit": Buckets()}
        self._attempts = Buckets()
        self._strangers: set[str] = set()  # who spoke as a proxy and is none
        self._used: dict[str, int] = {}  # token: when it was last used, not yet written
        self.guarded: list[str] = []  # topics whose hearers get nothing from strangers

    def start(self, guest_of: Callable[[str], Principal]) -> None:
        """Begin to know who asks. `guest_of` tells what a client is by its `session` alone."""
        self._guest_of = guest_of
        self._cookie_name = "rtapp_" + str(self._storage.meta("id"))  # on all nodes the same

    @property
    def has_admin(self) -> bool:
        """Whether somebody can administer this server without a setup link."""
        return self._admin_token is not None or bool(User.get_or_none(User.role == "admin"))

    # Credentials

    def authenticate(self, call: Call, is_stream: bool) -> Principal:
        """Who sends a request: bearer token, a stream's `?token=` or `?ticket=`, cookie, in this
        order. Raises Problem `unauthorized` for a credential that is not valid."""
        header = call.headers.get("authorization", "")
        if header[:7].lower() == "bearer ":
            return self.by_token(header[7:].strip())
        given = call.query if is_stream else {}
        if token := given.get("token", [""])[-1]:
            return self.by_token(token)
        if ticket := given.get("ticket", [""])[-1]:
            row = self.redeem(ticket, "ticket", only_looks=call.method == "HEAD")
            call.bound = ticket.partition(".")[2]
            grants = msgspec.json.decode(row.grants, type=Grants)
            credential, ends = row.parent, row.parent_expires_at
            return Principal(row.parent_kind, row.name, grants, credential, ends, row.user_id)
        principal = self._by_cookie(call)
        if principal is not ANONYMOUS:
            return principal
        # Who has no credential but the `session` that it joined a room with.
        session = given.get("session", [call.headers.get("x-session", "")])[-1]
        return self._guest_of(session) if session else ANONYMOUS

    def by_token(self, token: str) -> Principal:
        """Whom a bearer token stands for: ours, an API token, a JWT. Raises `unauthorized`."""
        own = (self._admin_token, ADMIN_TOKEN), (self._settings["metrics_token"], METRICS_TOKEN)
        for secret, principal in own:
            if secret and hmac.compare_digest(token.encode(), secret.encode()):
                return principal
        if token.count(".") == 2:
            return self._by_jwt(token)
        row = self._live_token(token, "api")
        if row is None:
            raise Problem("unauthorized", "The access token is not valid.")
        self._used[row.token_hash] = now_ms()
        grants = msgspec.json.decode(row.grants, type=Grants)
        return Principal("token", row.name, grants, row.id, row.expires_at)

    def _by_jwt(self, token: str) -> Principal:
        """The principal of a JSON Web Token (RFC 7519). The algorithm is the setting's: one that
        the token may choose is an attack (RFC 8725, 3.1)."""
        names = ("jwt_key", "jwt_algorithm", "jwt_audience")
        key, algorithm, audience = (self._settings[name] for name in names)
        options: Any = {"require": ["exp", "sub"], "verify_aud": bool(audience)}
        # When it was issued says nothing of its validity; the issuer's clock may be a little ahead.
        options |= {"verify_iat": False, "verify_nbf": False}
        try:
            if algorithm == "none" or not key:
                raise jwt.InvalidTokenError("jwt_algorithm or jwt_key is not set")
            claims = jwt.decode(token, key, [algorithm], options, audience=audience or None)
            found = msgspec.convert(claims, Claims)
            if found.nbf > time.time() + self.CLOCK_SECONDS:
                raise jwt.ImmatureSignatureError("The token is not yet valid (nbf)")
        except (jwt.PyJWTError, ValueError, TypeError, ArithmeticError, RecursionError) as error:
            is_told = isinstance(error, (jwt.PyJWTError, msgspec.ValidationError))
            # It may quote what is not signed.
            why = f": {Journal.UNSHOWN.sub('?', str(error)[:100])}" if is_told else ""
            raise Problem("unauthorized", f"The JSON Web Token is not valid{why}.") from None
        hears, speaks = (found.channels.get(act, ()) for act in SCOPES[:2])
        grants, ends = Grants(subscribe=hears, publish=speaks), int(found.exp * 1000)
        return Principal("jwt", found.sub, grants, sha256(token)[:16], ends)

    def _by_cookie(self, call: Call) -> Principal:
        # Other programs' cookies come along; http.cookies gives all up at one that it dislikes.
        pairs = (pair.strip().partition("=") for pair in call.headers.get("cookie", "").split(";"))
        secret = next((value for name, _, value in pairs if name == self._cookie_name), "")
        row = self._live_token(secret, "session") if secret else None
        if row is None:
            return ANONYMOUS
        self._used[row.token_hash] = now_ms()
        if row.user_id is None:
            grants = msgspec.json.decode(row.grants, type=Grants)
            owner = Principal("owner", OWNER, grants, row.id, row.expires_at)
            return owner if self.is_at_desktop(call) else ANONYMOUS
        user = User.get_or_none(User.id == row.user_id)
        if user is None or row.password_tag != sha256(user.password_hash)[:16]:
            return ANONYMOUS
        grants = ADMIN_GRANTS if user.role == "admin" else USER_GRANTS
        return Principal("user", user.username, grants, row.id, row.expires_at, user.id)

    def is_at_desktop(self, call: Call) -> bool:
        return self.has_desktop and is_loopback(call.address)

    @staticmethod
    def _live_token(secret: str, *kinds: str) -> Any:
        row = AccessToken.get_or_none(AccessToken.token_hash == sha256(secret))
        return row if row and row.kind in kinds and row.expires_at > now_ms() else None

    def make_token(
        self, kind: str, seconds: float, grants: Grants = ADMIN_GRANTS, **more: Any
    ) -> str:
        """The secret of a new token. Of a link's, `setup` makes the first administrator, `signin`
        signs the first administrator in, `owner` whoever sits at the desktop."""
        secret, row = new_token(kind, grants, seconds, **more)
        self._storage.write(lambda tx: AccessToken.insert(**row).execute(tx.database))
        return secret

    def redeem(self, secret: str, *kinds: str, only_looks: bool = False) -> Any:
        """The row of a single-use token of one of these kinds, which is deleted: of two who come
        with it at once, one gets it. Raises Problem `invalid_link`, `unauthorized` of a ticket."""
        row = self._live_token(secret, *kinds)
        used = AccessToken.delete().where(AccessToken.token_hash == sha256(secret))
        is_there = only_looks or self._storage.write(lambda tx: used.execute(tx.database))
        if row is None or not is_there:
            code = "unauthorized" if "ticket" in kinds else "invalid_link"
            raise Problem(code, REFUSALS[kinds[0]])
        return row

    # Users

    def add_user(self, username: str, password: str, role: str, link: str | None = None) -> Any:
        """Make a user; the first administrator by a setup link's token. Raises Problem `invalid`,
        `weak_password`, `user_exists`, `already_set_up`, `invalid_link`."""
        if link is not None:
            if User.get_or_none(User.role == "admin"):
                raise Problem("already_set_up", "Sign in with your name and password.")
            if self._live_token(link, "setup") is None:  # before the password costs its time
                raise Problem("invalid_link", REFUSALS["setup"])
        if username.casefold() in OWN_NAMES:
            raise Problem("invalid", errors=[("username", "is a name of the program's own")])
        check_password(password, username)
        taken = Problem("user_exists", f"There is a user {username} already.")
        if User.get_or_none(User.username_key == username.casefold()):  # before the link is used up
            raise taken
        row = user_row(username, self.hashed(hash_password, password), role)
        if link is not None:
            self.redeem(link, "setup")
        try:
            number = self._storage.write(lambda tx: User.insert(**row).execute(tx.database))
        except peewee.IntegrityError:
            raise taken from None
        return User.get_by_id(number)

    def hashed(self, function: Callable[..., T], *arguments: Any) -> T:
        """`function(*arguments)`, a password's hash, beside the loop. Raises `overloaded`."""
        if self._turns.linkcount() >= self.WAITING:
            raise Problem("overloaded", "Too many sign-ins at once.")
        with self._turns:
            return gevent.get_hub().threadpool.apply(function, arguments)  # type: ignore[no-any-return]

    def change_user(
        self, user: Any, password: str | None = None, role: str | None = None, removes: bool = False
    ) -> None:
        """Change a password or a role, or remove a user, whose sessions end with the old one.
        Raises Problem `last_admin`, `invalid`, `weak_password`."""
        changed: dict[str, Any] = {}
        if password is not None:
            check_password(password, user.username)
            changed["password_hash"] = self.hashed(hash_password, password)
        if role not in (None, user.role):
            changed["role"] = role
        query = User.delete() if removes else User.update(**changed)
        others = User.select().where((User.role == "admin") & (User.id != user.id))

        def unit(tx: Transaction) -> None:
            # In the same unit: two administrators who remove each other can't both succeed.
            ends_role = user.role == "admin" and (removes or "role" in changed)
            if ends_role and not others.exists(tx.database):
                raise Problem("last_admin", "Make somebody else an administrator first.")
            query.where(User.id == user.id).execute(tx.database)

        if removes or changed:
            self._storage.write(unit)
            self.revoke([row.id for row in self.sessions(user.id)])

    def log_in(self, username: str, password: str, address: str) -> Any:
        """The user of a name and password. Attempts are counted for the address and for the name;
        what is counted decays, so nobody is locked out for good. Raises Problem `wrong_login`,
        `too_many_attempts`."""
        give_back = self._attempts.charge(
            Charge(("address", network_of(address)), 1 / 10, 10),
            # A name takes more than an address may send: nobody alone can keep its owner out.
            Charge(("name", username.casefold()), 1 / 4, 30),
            code="too_many_attempts",
        )
        user = User.get_or_none(User.username_key == username.casefold())
        stored = user.password_hash if user else NOBODYS_HASH
        if not self.hashed(verify_password, password, stored) or user is None:
            raise Problem("wrong_login", "This user name and password don't belong together.")
        give_back()
        return user

    # Sessions

    def sign_in(self, call: Call, user: Any, grants: Grants = USER_GRANTS) -> SignedIn:
        """A new session, in a cookie, of a user, of whom the oldest of too many end; without one,
        of who sits at the desktop."""
        whose = {"name": OWNER}
        if user is not None:
            whose = {"user_id": user.id, "password_tag": sha256(user.password_hash)[:16]}
        where = {"ip_address": call.address, "user_agent": call.agent[:256]}
        secret = self.make_token("session", SESSION_SECONDS, grants, **whose, **where)
        self.set_cookie(call, secret)
        if user is None:
            return SignedIn(True, None, "admin")
        self.revoke([old.id for old in self.sessions(user.id)[self.SESSIONS :]])
        self._journal.add("INFO", "Signed in", username=user.username, ipAddress=call.address)
        return SignedIn(True, user.username, user.role)

    def set_cookie(self, call: Call, secret: str, seconds: int = SESSION_SECONDS) -> None:
        """Give a browser its session's secret; for 0 seconds, take it away."""
        more = "; Secure" if call.scheme == "https" else ""
        lasting = f"Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{more}"
        call.reply["Set-Cookie"] = f"{self._cookie_name}={secret}; {lasting}"

    def sessions(self, user_id: int) -> list[Any]:
        where = (AccessToken.kind == "session") & (AccessToken.user_id == user_id)
        return list(AccessToken.select().where(where).order_by(AccessToken.created_at.desc()))

    def revoke(self, credentials: Sequence[str]) -> None:
        """Delete tokens by their public ids, and close the streams opened with them."""
        if credentials:
            self._storage.write(lambda tx: revoke(tx, credentials))

    def flush(self) -> None:
        """Write when tokens were last used, and delete what has expired."""
        used, self._used = self._used, {}

        def unit(tx: Transaction) -> None:
            for token_hash, when in used.items():
                query = AccessToken.update(used_at=when)
                query.where(AccessToken.token_hash == token_hash).execute(tx.database)
            AccessToken.delete().where(AccessToken.expires_at <= now_ms()).execute(tx.database)

        self._storage.write(unit)

    # Rights

    def require(self, principal: Principal, role: str) -> None:
        """Raise Problem `unauthorized` or `forbidden` unless the principal has the role."""
        row = ROLES[role]
        if row.scope is None or principal.role == "admin":
            return
        if not principal.account:
            is_known = row.has_guests and principal.kind == "guest"
            if not is_known and not (row.is_open and self._settings["access"] == "open"):
                raise Problem("unauthorized", "Sign in, or send an access token.")
        elif row.scope and not {row.scope, row.other} & {*principal.grants.scopes}:
            raise Problem("forbidden", f"This needs a credential with the scope {row.scope}.")

    def check_channel(self, principal: Principal, act: str, channel: str | None) -> None:
        """Raise Problem `reserved_channel`, `forbidden` or `unauthorized` unless it may
        `subscribe`, `publish` or `read` what is stored there; None: to all."""
        if (act, channel) == ("subscribe", STATS_CHANNEL):
            self.require(principal, "user")
        elif channel is not None and channel.startswith(RESERVED_CHANNELS):
            names = ", ".join(RESERVED_CHANNELS)
            raise Problem("reserved_channel", f"Channels that begin with {names} are the server's.")
        elif not principal.may_use(act, channel):
            what = f"the channel {channel}" if channel else "global broadcasts"
            raise Problem("forbidden", f"This credential does not cover {what}.")

    def limit_request(self, who: Principal, name: str = "rate_limit", n: int = 1) -> GiveBack:
        """Count requests or, by the setting `publish_limit`, messages of an address and an account,
        all or none; what takes it back. Raises Problem `rate_limited`."""
        buckets, a_minute = self._limits[name], self._settings[name]
        if who.unlimited or not a_minute:
            return lambda: None
        keys = [("address", network_of(who.address))]
        keys += [("account", who.account)] if who.account else []
        return buckets.charge(*(Charge(key, a_minute / 60, a_minute, n) for key in keys))

    # Where a request comes from

    def is_trusted_proxy(self, address: str) -> bool:
        found, trusted = as_ip(address), map(as_network, self._settings["trusted_proxies"])
        return found is not None and any(found in network for network in trusted)

    def see_through(self, call: Call) -> None:
        """Put the client in the place of a trusted reverse proxy: of `X-Forwarded-For`, the last
        address that no trusted proxy is. What stands before it was written by the client; what is
        none is its proxy's."""
        forwarded, peer = call.headers.get("x-forwarded-for"), call.address
        if self.is_trusted_proxy(peer):
            call.is_proxied = True
            # Of several schemes in which proxies were asked, the first one is the client's.
            said = call.headers.get("x-forwarded-proto", "").split(",")[0].strip(' \t"').lower()
            schemes = {"http": "http", "ws": "http", "https": "https", "wss": "https"}
            call.scheme = schemes.get(said, call.scheme)
            chain = [part for part in (forwarded or "").split(",") if part.strip()]
            while chain and self.is_trusted_proxy(call.address):
                text = chain.pop().strip(' \t"')  # proxies also write ports, brackets and quotes
                found = re.fullmatch(r"\[([^]]+)\](?::.*)?|([^:]+):[^:]*", text)
                address = as_ip(found[1] or found[2] if found else text)
                if address is None:
                    break
                call.address = str(address)
        elif forwarded is not None and peer not in self._strangers and len(self._strangers) < 100:
            self._strangers.add(peer)
            advice = "if it is your reverse proxy, add it to the setting trusted_proxies"
            self._journal.add("WARN", f"{peer} sends X-Forwarded-For and is not trusted: {advice}")

    def is_own_host(self, host: str) -> bool:
        """Whether this server may be asked under what a Host header says."""
        name = name_of(host) if len(host) <= 300 else ""  # those that are read are kept
        if as_ip(name) or name in self._own_names or name.endswith((".local", ".localhost")):
            return True
        public = urllib.parse.urlsplit(self._settings["public_url"]).hostname
        return bool(name) and name in (public, *self._settings["allowed_hosts"])

    def check_host(self, call: Call) -> None:
        """Raise Problem `wrong_host` for foreign names (DNS rebinding); HTTP/1.0 needs none."""
        host = call.headers.get("host", "")
        if (host or call.version != "1.0") and not self.is_own_host(host):
            advice = "Add the name to the setting allowed_hosts to use this server under it."
            raise Problem("wrong_host", advice)

    def _own_origins(self, call: Call) -> set[str]:
        """The origins of this server's pages: what `Host`, a trusted proxy and public_url say.
        A page of https can't call plain http: where it does, an unknown proxy has ended TLS."""
        hosts = [call.headers.get("host", "")]
        if call.is_proxied:
            named = call.headers.get("x-forwarded-host", "").split(",", 8)[:8]
            hosts += [host for host in map(str.strip, named) if self.is_own_host(host)]
            hosts += [f"{host}:{call.headers.get('x-forwarded-port', '')}" for host in hosts]
        schemes = {call.scheme, "https"}
        own = {plain_origin(f"{scheme}://{host}") for scheme in schemes for host in hosts}
        return {*own, "/".join(self._settings["public_url"].split("/")[:3])} - {""}

    def admit_page(
        self, call: Call, is_link: bool = False, is_guarded: bool = False, sets_cookie: bool = False
    ) -> None:
        """Let pages of the sites that `allowed_origins` names see the answer (CORS); those that
        only `*` allows call without the cookie, and not at all what sets it (`sets_cookie`). Raises
        Problem `foreign_origin` for others' where the call `is_guarded`."""
        origin, site = call.headers.get("origin", ""), call.headers.get("sec-fetch-site", "")
        # A browser that sends the second knows best, whatever a proxy made of Host, and lets no
        # page set it; `same-site` is foreign: other ports and subdomains are other people's.
        is_near = is_link or site in ("", "none")
        allowed = self._settings["allowed_origins"]
        shared = {"Access-Control-Expose-Headers": "Link, Retry-After, X-Total-Count"}
        if allowed:
            call.reply["Vary"] = "Origin"  # also where it is absent: a cache may keep this answer
        if origin and plain_origin(origin) in allowed:
            shared["Access-Control-Allow-Credentials"] = "true"
            call.reply |= {"Access-Control-Allow-Origin": origin, **shared}
        elif site == "same-origin" or (
            is_near and (not origin or plain_origin(origin) in self._own_origins(call))
        ):
            return
        elif "*" in allowed and not sets_cookie:
            call.headers.pop("cookie", None)  # browsers add it to requests that any page may send
            call.reply |= {"Access-Control-Allow-Origin": "*", **shared}
        elif is_guarded:
            raise Problem(
                "foreign_origin",
                "If the page is this server's own, set public_url to its address; if it is another "
                "site's that may call this server, add its origin to the setting allowed_origins.",
            )


def existing(value: T | None, otherwise: str) -> T:
    """What was looked for. Raises Problem `not_found`, with a sentence, where there is none."""
    if not value:
        raise Problem("not_found", otherwise)
    return value


class Parsed(NamedTuple):
    """A JSON value and its text on one line, which keeps the sender's own numbers."""

    value: Any
    text: str


MAX_DEPTH = 200  # of JSON
_PAIR = rb"u[dD][89abAB][\da-fA-F]{2}\\u[dD][c-fC-F][\da-fA-F]{2}"
_ESCAPES = re.compile(rb"\\(?:" + _PAIR + rb"|(u[dD][89a-fA-F][\da-fA-F]{2})|.)", re.DOTALL)
NOT_UTF8 = re.compile("[\udc80-\udcff]")  # in what was decoded with "surrogateescape"


def whole_characters(raw: bytes) -> bytes:
    """JSON without escapes of half a character, which become U+FFFD: JavaScript writes them where
    a text was cut in the middle of an emoji, and no database holds them (RFC 8259, 8.2)."""
    if b"\\ud" not in raw and b"\\uD" not in raw:
        return raw
    return _ESCAPES.sub(lambda found: rb"\ufffd" if found[1] else found[0], raw)


def parse_json(raw: bytes) -> Parsed:
    """A JSON text as it is stored. Raises Problem `malformed_json`."""
    sent, raw = raw, whole_characters(raw.removeprefix(codecs.BOM_UTF8))  # RFC 8259, 8.1
    if b"\0" in raw[:2] or raw[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        raise Problem("malformed_json", "It is UTF-16 or UTF-32: JSON is sent as UTF-8.")
    try:
        value = msgspec.json.decode(raw)
        text = msgspec.json.format(raw, indent=-1).decode()
        if raw.count(b"[") + raw.count(b"{") > MAX_DEPTH and depth(value) > MAX_DEPTH:
            raise RecursionError
    except RecursionError:
        raise Problem("malformed_json", f"It is nested deeper than {MAX_DEPTH} levels.") from None
    except UnicodeDecodeError:
        valid = NOT_UTF8.split(sent.decode(errors="surrogateescape"), maxsplit=1)[0]
        place = f"at byte {len(valid.encode())} (the first one is 0)"
        raise Problem("malformed_json", f"It is not valid UTF-8 {place}.") from None
    except msgspec.DecodeError as error:
        raise Problem("malformed_json", f"{error if raw.strip() else 'It is empty'}.") from None
    return Parsed(value, text)


def depth(value: Any) -> int:
    level, current = 0, [value]
    while current:
        level += 1
        nested = (each for each in current if isinstance(each, (dict, list)))
        inner = (each.values() if isinstance(each, dict) else each for each in nested)
        current = list(itertools.chain.from_iterable(inner))
    return level


# ----------------------------------------------------------------------------------------------
# Rooms
# ----------------------------------------------------------------------------------------------

WAITING, CONNECTED, RECONNECTING, GONE = "waiting", "connected", "reconnecting", "gone"
# What a participant says, since when its hand is up, and what the host says of it: receivers obey.
STATE = {"audio": False, "video": False, "screen": False, "hand": False, "handAt": None}
FORCED = "muted", "cameraOff"
STATE |= dict.fromkeys(FORCED, False)
# To do what somebody must be in a room, or in it or its lobby, or its host.
Right = Literal["take part", "stay", "moderate"]
GOOGLE_STUN = "stun:stun.l.google.com:19302"
NO_ROOM = "There is no such room, or it has ended."
IS_ACTIVE = VideoRoom.ended_at.is_null()


class Visitor(NamedTuple):
    """Who acts in a room: a client, by a credential. Without a client it is the participant who
    joined with that account."""

    client_id: str
    principal: Principal
    connection_id: str | None = None  # the one it believes to be the participant's

    @property
    def account(self) -> str:
        """The credential's; empty for guests."""
        return self.principal.account

    def owns(self, room: Any) -> bool:
        """Whether this is who made a room, whom it was handed to, or whom its `hostId` names: an
        account, or a JSON Web Token's subject."""
        label = None if room.handed else as_json(room.host_id)
        is_named = label is not None and str(label) == self.principal.subject
        return bool(
            (room.owner_client and room.owner_client == self.client_id)
            or (room.owner_account and room.owner_account == self.account)
            or (is_named and self.principal.is_person)
        )


class Target(NamedTuple):
    """Whom a signal is for: by client, or by the label `userId`; and which of its connections."""

    client_id: str | None = None
    user_id: Any = None
    connection_id: str | None = None


# Names

# What shows nothing by itself, or turns what stands around it: controls, directions, no widths,
# blank letters, tags (UAX 44, Default_Ignorable_Code_Point).
_INVISIBLE = (
    "\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f\u2028-\u202e"
    "\u2060-\u206f\u2800\u3164\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e00ff\U000e01f0-\U000e0fff"
)
_VARIANTS = "\u180b-\u180d\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef"  # of what is before them
# Scripts with joined letters, and pictures.
_SCRIPTS = "\u0600-\u0dff\u1000-\u109f\u1780-\u18af\ua840-\uabff\U00010a00-\U00011fff"
_PICTURES = "\u2190-\u2bff\U0001f000-\U0001faff"
# A character of a name, or what does something to one, as Python's and ECMA-262's expressions say.
NAME_SIGN = (
    "(?:\U0001f3f4[\U000e0030-\U000e007a]{3,6}\U000e007f"
    f"|[^{_INVISIBLE}{_VARIANTS}\u200c\u200d]"
    f"|(?<=[^\\sA-Za-z{_INVISIBLE}{_VARIANTS}\u200c\u200d])[{_VARIANTS}]"
    f"|(?<=[{_SCRIPTS}])[\u200c\u200d](?=[{_SCRIPTS}])"
    f"|(?<=[{_PICTURES}\ufe0f])\u200d(?=[{_PICTURES}]))"
)


def shown_name(text: str, most: int = 100) -> str:
    """A person's name without what isn't seen, in one line; no letter loses its marks at the end,
    no emoji a part. Empty if there is nothing to see."""
    text = " ".join("".join(re.findall(NAME_SIGN, text)).split())
    if len(text) > most:
        flags = re.search("[\U0001f1e6-\U0001f1ff]*$", text[:most])
        most -= len(flags[0]) % 2 if flags else 0  # two letters make one
    while 0 < most < len(text) and (
        unicodedata.category(text[most]) in ("Mn", "Mc", "Me", "Cf", "Sk")
        or text[most - 1] == "\u200d"
    ):
        most -= 1
    return text[:most].rstrip()


# Rows


def change(tx: Transaction, row: Any, /, **fields: Any) -> None:
    """Change a row, stored and in hand."""
    model = type(row)
    if fields:
        model.update(**fields).where(model.id == row.id).execute(tx.database)
    for name, value in fields.items():
        setattr(row, name, value)


def active_room(database: peewee.Database, room_id: str) -> Any:
    """The active room of that name, or None."""
    return VideoRoom.select().where(IS_ACTIVE & (VideoRoom.room_id == room_id)).first(database)


def people_in(database: peewee.Database, room: Any, waits: bool = False) -> list[Any]:
    """Who is in a room, or who waits in its lobby; the longest there first."""
    status = VideoParticipant.status
    where = (VideoParticipant.room == room.id) & (status == WAITING if waits else status != WAITING)
    order = VideoParticipant.joined_at, VideoParticipant.id
    return list(VideoParticipant.select().where(where).order_by(*order).execute(database))


def check_place(found: Any, who: Visitor, may: Right = "take part") -> None:
    """Raise Problem `not_in_room` unless somebody has a participant, with that connection, who is
    in the room or, where that will do, in its lobby."""
    if found is None:
        raise Problem("not_in_room", "Join the room first.")
    if who.connection_id not in (None, found.connection_id):
        raise Problem("not_in_room", "The room was opened elsewhere with the same session.")
    if found.status == WAITING and may != "stay":
        raise Problem("not_in_room", "Wait until the host lets you in.")


def banned_as(client_id: str, account: str) -> list[str]:
    """What a removal bars: the client, and the account, which counts for persons alone."""
    return ["client:" + client_id, *(["account:" + account] if account else [])]


# What is told


class ParticipantView(msgspec.Struct, rename="camel"):
    """Somebody in a room, or at its door; `handAt` is since when its hand is up."""

    id: int
    client_id: str
    connection_id: str
    user_id: str | int | None
    display_name: str | None
    is_host: bool
    status: str
    joined_at: Moment
    audio: bool
    video: bool
    screen: bool
    hand: bool
    hand_at: Moment | None
    muted: bool
    camera_off: bool


def participant_view(row: Any) -> ParticipantView:
    state = STATE | as_json(row.state)
    told = {"hand_at": state.pop("handAt"), "camera_off": state.pop("cameraOff"), **state}
    return view_of(ParticipantView, row, user_id=as_json(row.user_id), **told)


class RoomView(msgspec.Struct, rename="camel"):
    """A room without its secrets, with the address of its page as others reach it."""

    id: int
    room_id: str
    name: str
    description: str
    host_id: str | int | None
    is_active: bool
    max_participants: int
    locked: bool
    has_password: bool
    lobby: bool
    pinned: bool
    listed: bool
    participant_count: int
    created_at: Moment
    ended_at: Moment | None
    join_url: str


def room_view(kind: type[V], room: Any, count: int, base: str | None = None, **more: Any) -> V:
    """A room as the API shows it; without a `base` of links, as everybody in it is told."""
    more |= {"host_id": as_json(room.host_id), "is_active": room.ended_at is None}
    more |= {"has_password": room.password_hash is not None, "participant_count": count}
    more["join_url"] = msgspec.UNSET if base is None else f"{base}/room/{room.room_id}"
    return view_of(kind, room, **more)


def room_event(
    room: Any, name: str, /, to: str | None = None, exclude: str | None = None, **content: Any
) -> Entry:
    """An event for everybody in a room, but one client; or for one alone, kept for a minute."""
    text, now = to_json({"type": name, "roomId": room.room_id, **content}), now_ms()
    if to is not None:
        until = now + 60_000
        return Entry(DIRECT + to, SIGNAL, name, text, expires_at=until, sent_at=now)
    return Entry(f"{VIDEO_ROOM}{room.id}", VIDEO, name, text, exclude=exclude, sent_at=now)


def tell(tx: Transaction, room: Any, name: str, /, **content: Any) -> None:
    tx.append([room_event(room, name, **content)])


# Who is there


class Participant(msgspec.Struct):
    """What each node has in memory of somebody in a room or its lobby: the room's name, columns of
    `video_participants`, and what this node heard."""

    room_id: str
    id: int
    room: int
    client_id: str
    connection_id: str
    account: str
    user_id: str
    status: str
    node: str
    beats: int
    display_name: str = ""
    heard_at: int = 0  # by the clock of Attendance, as is the next
    waits_since: int = 0
    is_fresh: bool = False  # a sign of life has come since the last look

    @property
    def is_in(self) -> bool:
        """Whether it is in the room, and not only in its lobby."""
        return self.status in (CONNECTED, RECONNECTING)


KNOWN = Participant.__struct_fields__[1:-3]


def participant_draft(room: Any, row: Any, grace: int | None = None, **changed: Any) -> Entry:
    """The control entry by which each node knows a participant as it is now: heard at this moment,
    or gone if it isn't heard within `grace` milliseconds."""
    known = {name: getattr(row, name) for name in KNOWN} | changed
    return control_draft("participant", grace=grace, room_id=room.room_id, **known)


@dataclass(eq=False)
class Attendance:
    """Who is in which room and who of them is heard, in the memory of each node.

    Everybody is known on every node, by the table at the start and then by the control entries
    `participant`: so a signal, a guest's request and a stream's topics read nothing. Who has just
    come on another node may not be known yet: `catch_up` makes sure.

    The table gets nothing while nobody changes. When somebody was heard is in memory alone, and the
    node that the row names judges it: where the participant joined, came back or last changed its
    state. What others hear reaches the judge by a letter (any request) or a heartbeat (an open
    stream). Whom it doesn't hear it puts to `reconnecting`; a node that hears such a one, or one
    whose judge is gone, puts it back and judges it from then on. Whom nobody hears and nobody
    judges, the first node does. The unit that does what was judged looks whether the row is still
    as it was known.

    Silence is measured by a clock that runs only while this node listens: it stands while the
    process is stopped, the machine asleep or the database away. After a restart everybody is
    reconnecting, with the whole grace from then on.
    """

    LATE_MS = 2_000  # at most so much passes between two looks
    LETTER = 250  # clients in one
    _log: Log
    _hub: Hub
    _nodes: Nodes
    _settings: Settings

    def __post_init__(self) -> None:
        # By their rows' ids: all, those of a client, those of a room by its name.
        self._groups: dict[tuple[str, str], dict[int, Participant]] = {}
        self._clock, self._looked_at = 0, ticks_ms()
        self.epoch = ""  # of the log that it is known from
        self._hub.controls |= {"participant": self._apply, "heard": self._apply_heard}

    def load(self) -> None:
        """Begin with what the table holds."""
        columns = [getattr(VideoParticipant, name) for name in KNOWN]
        query = VideoParticipant.select(VideoRoom.room_id, *columns)
        query = query.join(VideoRoom, on=VideoParticipant.room == VideoRoom.id).tuples()
        head, rows = -1, list[Any]()
        while head != self._log.head:  # else another node changed something meanwhile
            head, self.epoch = self._log.head, self._log.epoch
            rows = list(query.clone())
        self._groups = {}
        for row in rows:
            self._take(Participant(*row))

    def _take(self, new: Participant) -> Participant | None:
        """Know somebody from now on, or no more; as it was known before."""
        new.heard_at = new.waits_since = self._clock
        for key in ("all", ""), ("client", new.client_id), ("room", new.room_id):
            group = self._groups.setdefault(key, {})
            old = group.pop(new.id, None)
            if new.status != GONE:
                group[new.id] = new
            elif not group:
                del self._groups[key]
        return old

    def _apply(self, number: int, order: dict[str, Any]) -> None:
        """A control entry: somebody came, is different, or went."""
        new = msgspec.convert(order, Participant)
        old = self._take(new)
        if order["grace"] is not None:
            new.heard_at += order["grace"] - self.limit("gone")
        if old is not None and old.status == WAITING:
            new.waits_since = old.waits_since
        if new.is_in != (old is not None and old.is_in):
            topics = {f"{VIDEO_ROOM}{new.room}"}
            for subscriber in self._hub.audience.of_client(new.client_id):
                before = subscriber.topics
                self._hub.set_topics(subscriber, before | topics if new.is_in else before - topics)

    # Asked

    def _group(self, kind: str, name: str = "") -> Collection[Participant]:
        return self._groups.get((kind, name), {}).values()

    def all(self) -> Collection[Participant]:
        """Everybody, on whichever node."""
        return self._group("all")

    def catch_up(self) -> bool:
        """Know what other nodes have stored by now; whether there may be any."""
        if self._nodes.are_several:
            self._log.poll()
        return self._nodes.are_several

    def of_client(self, client_id: str) -> Collection[Participant]:
        """A client's participants, also of who has just come on another node."""
        if not self._group("client", client_id):
            self.catch_up()
        return self._group("client", client_id)

    def topics(self, client_id: str) -> frozenset[str]:
        """The topics that each of a client's connections has, whenever it is opened."""
        people = self._group("client", client_id)
        return frozenset(f"{VIDEO_ROOM}{person.room}" for person in people if person.is_in)

    def count(self) -> Counter[int]:
        """How many are in each room, by its row's id."""
        return Counter(person.room for person in self.all() if person.is_in)

    def parties(self, who: Visitor, room_id: str, target: Target) -> tuple[Any, list[Participant]]:
        """Who acts in a room, or None, and which others in it are meant; none for an older page."""
        people = self._group("room", room_id)
        mine = ("client_id", who.client_id) if who.client_id else ("account", who.account)
        own = [person for person in people if mine[1] and getattr(person, mine[0]) == mine[1]]
        sender = max(own, key=lambda person: person.id, default=None)
        if sender is None or who.connection_id not in (None, sender.connection_id):
            return sender, []
        client_id, user_id, connection_id = target
        meant = (
            person
            for person in people
            if connection_id in (None, person.connection_id)
            and client_id in (None, person.client_id)
            and user_id in (None, as_json(person.user_id))
        )
        return sender, [person for person in meant if person is not sender and person.is_in]

    # Heard

    def limit(self, name: str) -> int:
        """Milliseconds after which somebody is silent, gone, or has waited too long."""
        return int(self._settings[f"room_{name}_seconds"] * 1000)

    def heard(self, client_id: str) -> None:
        """A request or a message of a client has come."""
        for person in self._group("client", client_id):
            person.is_fresh = True

    def _apply_heard(self, number: int, order: dict[str, Any]) -> None:
        for client_id in order["clients"]:
            for person in self._group("client", client_id):
                if person.node == self._nodes.id:
                    person.is_fresh = True

    def look(self) -> list[tuple[Participant, str]]:
        """Once a second: whose status is another one now, and why."""
        now = ticks_ms()
        if not self._nodes.is_away:
            self._clock += min(now - self._looked_at, self.LATE_MS)
        self._looked_at = now
        alive = self._nodes.counts()
        verdicts, letter = [], set()
        for person in self.all():
            has_spoken, person.is_fresh = person.is_fresh, False
            is_here, is_elsewhere = has_spoken, False
            if not person.beats:  # else a stream says nothing: a phone that vanished leaves one
                is_here = is_here or bool(self._hub.audience.of_client(person.client_id))
                is_elsewhere = DIRECT + person.client_id in self._hub.audience.elsewhere
            if is_here or is_elsewhere:
                person.heard_at = self._clock
            if reason := self._verdict(person, is_here, person.node in alive):
                verdicts.append((person, reason))
            elif has_spoken and person.node != self._nodes.id:
                letter.add(person.client_id)
        for clients in chunks(sorted(letter), self.LETTER):
            self._nodes.volatile(control_draft("heard", clients=clients))
        return verdicts

    def _verdict(self, person: Participant, is_here: bool, has_judge: bool) -> str | None:
        if is_here and (person.status == RECONNECTING or not has_judge):
            return "heard"
        if not has_judge:
            return "node lost" if self._nodes.is_first else None
        if person.node != self._nodes.id:
            return None
        silence, wait = self._clock - person.heard_at, self._clock - person.waits_since
        if silence > self.limit("gone"):
            return "connection lost"
        if person.status == WAITING and wait > self.limit("waiting"):
            return "not admitted"
        return "silent" if person.status == CONNECTED and silence > self.limit("silent") else None


# Candidates

HIDDEN_CANDIDATE = re.compile(
    r"^((?:a=)?candidate:\S+ \d+ udp) (\d{1,10}) [0-9a-z-]+\.local (\d+ typ host[^\r\n]*)",
    re.IGNORECASE | re.MULTILINE,
)


def is_local_network(address: str) -> bool:
    """Whether an address is one of a local network, as others there reach it."""
    found = as_ip(address)
    if found is None:
        return False
    shared = found.version == 4 and found in ipaddress.ip_network("100.64.0.0/10")
    own = found.is_loopback or found.is_unspecified or (found.version == 6 and found.is_link_local)
    return (found.is_private or shared) and not own


def with_siblings(signal: Any, address: str) -> list[Any]:
    """A signal, and a second one where it is a host candidate that is hidden as `NAME.local`
    (RFC 8839, 5.1): with the address, and to be tried after the browser's own. A list of candidates
    gets one more for each, a description a line."""

    def sibling(hidden: re.Match[str]) -> str:
        return f"{hidden[1]} {int(hidden[2]) - 1} {address} {hidden[3]}"

    def with_sibling(one: Any) -> list[Any]:
        hidden = (
            HIDDEN_CANDIDATE.match(str(one.get("candidate"))) if isinstance(one, dict) else None
        )
        return [one, {**one, "candidate": sibling(hidden)}] if hidden else [one]

    if isinstance(signal, list):
        return [[found for one in signal for found in with_sibling(one)]]
    if isinstance(signal, dict) and isinstance(sdp := signal.get("sdp"), str):
        return [{**signal, "sdp": HIDDEN_CANDIDATE.sub(lambda h: f"{h[0]}\r\n{sibling(h)}", sdp)}]
    return with_sibling(signal)


# A room, who came, who is in it then, and the log's id of that moment.
Joined = tuple[Any, ParticipantView, list[ParticipantView], int]


class IceView(msgspec.Struct, rename="camel", kw_only=True):
    """What an RTCPeerConnection is to use; a TURN server's credentials for `iceTtl` seconds."""

    ice_servers: list[dict[str, Any]]
    ice_ttl: int | msgspec.UnsetType = msgspec.UNSET


@dataclass(eq=False)
class Rooms:
    """Video rooms. Their truth is in the database, each act is one unit of the writer, and what
    anybody hears of it is in the log: so they outlive a restart and span nodes."""

    # Unknown rooms and wrong passwords of an address. Whoever is right gets the attempt back, so
    # the first number is also how many may be looking at once.
    ATTEMPTS: ClassVar[dict[str, int]] = {"room": 30, "password": 10}
    ATTEMPT_RATE = 1 / 10
    SIGNALS, SIGNAL_RATE = 300, 30  # of a client, one for each receiver
    SIGNALED_BYTES, SIGNALED_BYTE_RATE = 2_000_000, 200_000  # the same
    REACTIONS, REACTION_RATE = 5, 5 / 3  # of a participant
    LOBBY = 20  # who may wait for a room
    ROOMS, ROOMS_OF_ONE = 10_000, 200  # active at once: of all, and of one user
    LISTED = 50  # rooms that guests are shown
    SOON_MS = 8_000  # a page that is loaded anew is back by then
    JUDGED = "id", "status", "node", "connection_id"  # what is as it was when it was judged
    LETTERS = "abcdefghijkmnpqrstuvwxyz23456789"  # of a room's name: none is taken for another
    _storage: Storage
    _log: Log
    _hub: Hub
    _nodes: Nodes
    _access: Access
    _settings: Settings
    _journal: Journal
    is_lan = False  # guests are on this network, which may have no way out

    def __post_init__(self) -> None:
        self._attempts, self._signals = Buckets(), Buckets()
        self.attendance = Attendance(self._log, self._hub, self._nodes, self._settings)

    def start(self) -> None:
        """Take the rooms up where the last run left them; whoever was there, and is on no node that
        lives, is reconnecting until heard again."""
        self.attendance.load()
        self._judge([(person, "node lost") for person in self.attendance.all()])

    # Rooms

    def create(self, who: Visitor, room_id: str | None, **fields: Any) -> Any:
        """Make a room; without a name for it, one that can't be guessed. Raises Problem
        `room_exists`, `overloaded`, `forbidden`, `invalid` for a name that a route has."""
        if room_id == "listed":
            raise Problem("invalid", errors=[("roomId", "is a name of the program's own")])
        name = room_id or "".join(secrets.choice(self.LETTERS) for _ in range(12))
        row = {"room_id": name, **self._columns(who, fields), "host_id": to_json(fields["host_id"])}
        row["max_participants"] = row["max_participants"] or self._settings["room_max_participants"]
        row |= {"owner_client": who.client_id, "owner_account": who.account}

        def unit(tx: Transaction) -> Any:
            active = VideoRoom.select().where(IS_ACTIVE)
            if active.count(tx.database) >= self.ROOMS:
                raise Problem("overloaded", "There are too many rooms.")
            if who.principal.is_person and who.principal.role != "admin":
                mine = active.where(VideoRoom.owner_account == who.account)
                if mine.count(tx.database) >= self.ROOMS_OF_ONE:
                    detail = f"You have {self.ROOMS_OF_ONE} rooms: end some first."
                    raise Problem("overloaded", detail)
            VideoRoom.insert(**row).execute(tx.database)
            return active_room(tx.database, name)

        try:
            room = self._storage.write(unit)
        except peewee.IntegrityError:
            raise Problem("room_exists", f"There is a room {name} already.") from None
        self._journal.add("INFO", "Room made", roomId=name, by=who.principal.name)
        return room

    def _columns(self, who: Visitor, fields: dict[str, Any]) -> dict[str, Any]:
        """What is stored of a room's fields. Raises `forbidden` for a lasting one of nobody's."""
        if fields.get("pinned") and not who.account:
            raise Problem("forbidden", "Sign in to make a room that stays when it is empty.")
        if "password" in fields:
            password = fields.pop("password")
            hashed = self._access.hashed(hash_password, password) if password else None
            fields["password_hash"] = hashed
        return fields

    def active(self, after: int, limit: int, session: str | None = None) -> list[Any]:
        """Active rooms, oldest first: of a client's `session` only those that it is in."""
        where = IS_ACTIVE & (VideoRoom.id > after)
        if session is not None:
            mine = VideoParticipant.client_id == client_id_of(session)
            where &= VideoRoom.id.in_(VideoParticipant.select(VideoParticipant.room).where(mine))
        return list(VideoRoom.select().where(where).order_by(VideoRoom.id).limit(limit))

    def listed(self) -> list[Any]:
        """Rooms that guests may find without a link: listed and not locked, the newest first."""
        is_shown = IS_ACTIVE & (VideoRoom.listed == 1) & (VideoRoom.locked == 0)
        newest = VideoRoom.select().where(is_shown).order_by(VideoRoom.id.desc())
        return list(newest.limit(self.LISTED))

    def count(self) -> int:
        return int(VideoRoom.select().where(IS_ACTIVE).count())

    def participants(self, room: Any, waits: bool = False) -> list[ParticipantView]:
        """Who is in a room, or who waits to be let in; the longest there first."""
        return list(map(participant_view, people_in(self._storage.reader, room, waits)))

    def find(self, room_id: str, who: Visitor) -> Any:
        """The active room of that name. Strangers who try names are slowed down. Raises Problem
        `not_found`, `too_many_attempts`."""
        give_back = None if who.account else self._attempt("room", who)
        room = existing(active_room(self._storage.reader, room_id), NO_ROOM)
        if give_back:
            give_back()
        return room

    def _attempt(self, what: str, who: Visitor) -> Callable[[], None]:
        key = what, network_of(who.principal.address)
        charge = Charge(key, self.ATTEMPT_RATE, self.ATTEMPTS[what])
        return self._attempts.charge(charge, code="too_many_attempts")

    def is_client_of(self, who: Visitor) -> bool:
        """Whether a client joined a room, or opened a connection, by this credential."""
        if not who.account or who.account.casefold() in NOBODYS_NAMES:
            return False
        people = self.attendance.of_client(who.client_id)
        return any(person.account == who.account for person in people) or any(
            row.username == who.account for row in self._nodes.of_client(who.client_id)
        )

    def is_guest_of(self, session: str) -> Principal:
        """What a client is by its `session` alone: guest of a room that it joined, or nobody."""
        if not self._settings["guests"] or not _SESSION.fullmatch(session):
            return ANONYMOUS
        client_id = client_id_of(session)
        if all(person.account for person in self.attendance.of_client(client_id)):
            return ANONYMOUS
        if self._settings["access"] == "open":
            return GUEST
        return GUEST._replace(grants=Grants((), (), ()), credential=f"guest:{client_id}")

    # Coming and going

    def join(
        self, who: Visitor, room_id: str, name: str | None, label: Any, password: str | None
    ) -> Joined:
        """Enter a room, or its lobby; once more makes the same participant's connection anew.
        Raises Problem `not_found`, `removed`, `room_locked`, `wrong_password`, `room_full`,
        `lobby_full`, `too_many_attempts`."""
        proof = self.find(room_id, who).password_hash
        if proof and password is not None:  # wrong ones are counted
            give_back = self._attempt("password", who)
            if not self._access.hashed(verify_password, password, proof):
                raise Problem("wrong_password", "Ask the host for the room's password.")
            give_back()
        proof = password and proof  # the stored one that the given one matches
        shown = shown_name(name or "")

        def unit(tx: Transaction) -> Joined:
            room = existing(active_room(tx.database, room_id), NO_ROOM)
            row = self._participant(tx.database, room, who)
            if row is None:
                row = self._enter(tx, room, who, shown, to_json(label), proof)
            else:  # a reloaded page, a second tab: the older one is told
                about = {"connectionId": row.connection_id, "reason": "opened elsewhere"}
                tell(tx, room, "room-left", to=row.client_id, **about)
                fields = {"connection_id": secrets.token_urlsafe(9), "beats": 0}
                fields["display_name"] = shown or row.display_name
                status = WAITING if row.status == WAITING else CONNECTED
                change(tx, row, node=self._nodes.id, status=status, **fields)
            self._announce(tx, room, row)
            people = list(map(participant_view, people_in(tx.database, room)))
            return room, participant_view(row), people, tx.next_id - 1

        _, view, _, _ = joined = self._storage.write(unit)
        what = "Waits for a room" if view.status == WAITING else "Joined a room"
        about = {"roomId": room_id, "clientId": view.client_id}
        self._journal.add("CONN", what, **about, ipAddress=who.principal.address)
        return joined

    def _enter(
        self, tx: Transaction, room: Any, who: Visitor, name: str, label: str, proof: Any
    ) -> Any:
        """Make somebody new a participant, whom the door lets in; the row."""
        keys = banned_as(who.client_id, who.account if who.principal.is_person else "")
        marks = {f"kept {what} {who.client_id}": what for what in FORCED}
        where = (RoomBan.room == room.id) & RoomBan.who.in_([*keys, *marks])
        noted = {row.who for row in RoomBan.select().where(where).execute(tx.database)}
        if not noted.isdisjoint(keys):
            raise Problem("removed", "The host removed you from this room.")
        is_host = who.owns(room)
        is_free = is_host or who.principal.role == "admin"
        if room.locked and not is_free:
            raise Problem("room_locked", "The host has locked the room.")
        if room.password_hash not in (None, proof) and not is_free:
            raise Problem("wrong_password", "Ask the host for the room's password.")
        waits = bool(room.lobby) and not is_free
        self._check_space(tx, room)
        if waits and len(people_in(tx.database, room, waits=True)) >= self.LOBBY:
            raise Problem("lobby_full", f"{self.LOBBY} are waiting already.", retry_after=30)
        own_name = who.principal.subject if who.principal.is_person else who.account
        if noted:  # its state has them from now on
            RoomBan.delete().where(where).execute(tx.database)
        VideoParticipant.insert(
            room=room.id,
            client_id=who.client_id,
            connection_id=secrets.token_urlsafe(9),
            account=who.account,
            user_id=label,
            display_name=name or shown_name(own_name) or "Guest",
            is_host=is_host,
            status=WAITING if waits else CONNECTED,
            state=to_json(STATE | {marks[mark]: True for mark in noted}),
            node=self._nodes.id,
        ).execute(tx.database)
        return self._participant(tx.database, room, who)

    @staticmethod
    def _check_space(tx: Transaction, room: Any) -> None:
        """In the unit that lets somebody in: two who come at once can't overfill a room."""
        if len(people_in(tx.database, room)) >= room.max_participants:
            raise Problem("room_full", f"At most {room.max_participants} can take part.")

    def _announce(self, tx: Transaction, room: Any, row: Any) -> None:
        """Tell who has come, or come back."""
        tx.append([participant_draft(room, row)])
        name = "participant-waiting"
        if row.status != WAITING:
            change(tx, room, empty_since=None)
            name = "participant-joined"
        self._tell_of(tx, room, row, name, participant=participant_view(row))

    @staticmethod
    def _tell_of(tx: Transaction, room: Any, row: Any, name: str, **content: Any) -> None:
        """What others hear of somebody: of who waits the hosts, who may let in, else everybody."""
        if row.status != WAITING:
            tell(tx, room, name, exclude=row.client_id, **content)
            return
        for other in people_in(tx.database, room):
            if other.is_host:
                tell(tx, room, name, to=other.client_id, **content)

    @staticmethod
    def _participant(database: peewee.Database, room: Any, who: Visitor) -> Any:
        """The participant who acts, or None."""
        mine = VideoParticipant.client_id == who.client_id
        if not who.client_id:
            mine = (VideoParticipant.account == who.account) & (VideoParticipant.account != "")
        rows = VideoParticipant.select().where(mine & (VideoParticipant.room == room.id))
        return rows.order_by(VideoParticipant.id.desc()).first(database)

    def may_moderate(self, database: peewee.Database, room: Any, who: Visitor) -> bool:
        """Whether this is a host or owner of a room, or an administrator."""
        if who.principal.role == "admin" or who.owns(room):
            return True
        row = self._participant(database, room, who)
        return row is not None and bool(row.is_host)

    def actor(
        self, database: peewee.Database, room_id: str, who: Visitor, may: Right
    ) -> tuple[Any, Any]:
        """A room, and the participant who acts in it, if it may; None for one who moderates. Of who
        must be there, a stranger learns nothing, not even whether there is such a room. Raises
        Problem `not_in_room`; to moderate, `not_found`, `not_host`."""
        room = active_room(database, room_id)
        if may == "moderate":
            if not self.may_moderate(database, existing(room, NO_ROOM), who):
                raise Problem("not_host", "Ask the host of the room.")
            return room, None
        row = None if room is None else self._participant(database, room, who)
        check_place(row, who, may)
        return room, row

    def perform(
        self, who: Visitor, room_id: str, may: Right, act: Callable[[Transaction, Any, Any], T]
    ) -> T:
        """Do in one unit what somebody may who has that right. Raises as `actor` and `find`."""
        if may == "moderate":
            self.find(room_id, who)
        return self._storage.write(lambda tx: act(tx, *self.actor(tx.database, room_id, who, may)))

    def leave(self, who: Visitor, room_id: str, soon: bool = False) -> None:
        """Leave a room or its lobby; `soon`: if not heard in `SOON_MS`. Raises `not_in_room`."""

        def act(tx: Transaction, room: Any, row: Any) -> None:
            if soon:
                self._update(tx, room, row, self.SOON_MS, status=RECONNECTING)
            else:
                self._remove(tx, room, row, "left")

        self.perform(who, room_id, "stay", act)
        self._journal.add("CONN", "Left a room", roomId=room_id, clientId=who.client_id)

    def _update(
        self, tx: Transaction, room: Any, row: Any, grace: int | None = None, **changed: Any
    ) -> None:
        """Change a participant and tell what is different, and a host's act always. With a `status`
        this node judges its silence from now on; who waits in the lobby goes on waiting."""
        known, view = participant_draft(room, row).content, participant_view(row)
        if "status" in changed:
            changed["node"] = self._nodes.id
            changed["status"] = WAITING if row.status == WAITING else changed["status"]
        change(tx, row, **changed)
        draft = participant_draft(room, row, grace)
        if draft.content != known:
            tx.append([draft])
        now, is_act = participant_view(row), "status" not in changed
        if row.status != WAITING and (is_act or now != view):
            tell(tx, room, "participant-state", participant=now)

    def _remove(self, tx: Transaction, room: Any, row: Any, reason: str) -> None:
        """Take somebody out of a room or its lobby, and tell. What a host forbade lasts until the
        room is empty, whose time begins then; who has been there longest is host where there is
        none any more."""
        about = {"connectionId": row.connection_id, "reason": reason}
        tell(tx, room, "room-left", to=row.client_id, **about)
        about |= {"participantId": row.id, "clientId": row.client_id}
        about |= {"userId": as_json(row.user_id), "displayName": row.display_name}
        self._tell_of(tx, room, row, "participant-left", **about)
        self._take_out(tx, room, row)
        rest = people_in(tx.database, room)
        if rest:
            forced = [what for what in FORCED if as_json(row.state).get(what)]
            self._note(tx, room, [f"kept {what} {row.client_id}" for what in forced])
        elif row.status != WAITING:
            change(tx, room, empty_since=now_ms())
            kept = (RoomBan.room == room.id) & RoomBan.who.startswith("kept ")
            RoomBan.delete().where(kept).execute(tx.database)
        if rest and row.is_host and not any(other.is_host for other in rest):
            heir = next((other for other in rest if other.status == CONNECTED), rest[0])
            self._update(tx, room, heir, is_host=1)

    @staticmethod
    def _note(tx: Transaction, room: Any, notes: Iterable[str]) -> None:
        """Note how somebody may not come back: see `RoomBan`."""
        for note in notes:
            query = RoomBan.insert(room=room.id, who=note)
            query.on_conflict_ignore().execute(tx.database)

    @staticmethod
    def _take_out(tx: Transaction, room: Any, row: Any) -> None:
        """Delete a participant; its connections lose the room, and a guest's last right ends."""
        VideoParticipant.delete().where(VideoParticipant.id == row.id).execute(tx.database)
        tx.append([participant_draft(room, row, status=GONE)])
        others = VideoParticipant.select().where(VideoParticipant.client_id == row.client_id)
        if not row.account and not others.exists(tx.database):
            revoke(tx, [f"guest:{row.client_id}"])

    # What a host may do

    def update(self, who: Visitor, room_id: str, fields: dict[str, Any]) -> Any:
        """Change a room; only its host may. A `password` is hashed, None takes it away. Raises
        Problem `not_found`, `not_host`, `forbidden`."""
        if "password" in fields:
            self.perform(who, room_id, "moderate", lambda *_: None)  # before it costs its time
        fields = self._columns(who, fields)

        def act(tx: Transaction, room: Any, _: Any) -> Any:
            change(tx, room, **fields)
            if not (room.lobby or room.locked):  # nobody is let in one by one any more
                free = max(0, room.max_participants - len(people_in(tx.database, room)))
                for row in people_in(tx.database, room, waits=True)[:free]:
                    self._admit(tx, room, row)
            view = room_view(RoomView, room, len(people_in(tx.database, room)))
            tell(tx, room, "room-updated", room=view)
            return room

        return self.perform(who, room_id, "moderate", act)

    def end(self, tx: Transaction, room: Any, reason: str) -> None:
        """End a room, within a unit."""
        tell(tx, room, "room-ended", reason=reason)
        for row in people_in(tx.database, room, waits=True):
            tell(tx, room, "room-ended", to=row.client_id, reason=reason)
            self._take_out(tx, room, row)
        for row in people_in(tx.database, room):
            self._take_out(tx, room, row)
        RoomBan.delete().where(RoomBan.room == room.id).execute(tx.database)
        change(tx, room, ended_at=now_ms(), password_hash=None)

    def moderate(self, who: Visitor, room_id: str, number: int, action: str) -> None:
        """Do what `ACTIONS` names to a participant. A host may, the room's owner and administrators
        (`may_moderate`). Raises Problem `not_found`, `not_host`, `room_full`,
        `too_many_attempts`."""

        def act(tx: Transaction, room: Any, _: Any) -> None:
            waits, what = self.ACTIONS[action]
            people = people_in(tx.database, room, waits)
            row = next((row for row in people if row.id == number), None)
            what(self, tx, room, existing(row, "There is no such participant."))

        self.perform(who, room_id, "moderate", act)
        about = {"roomId": room_id, "participantId": number, "by": who.principal.name}
        about |= {"ipAddress": who.principal.address}
        self._journal.add("INFO", f"Host's action: {action}", **about)

    def _set_by_host(self, tx: Transaction, room: Any, row: Any, **forced: bool) -> None:
        """Say of somebody's microphone or camera what their own page, and everybody's, obeys."""
        self._update(tx, room, row, state=to_json(as_json(row.state) | forced))

    def _throw_out(self, tx: Transaction, room: Any, row: Any) -> None:
        """For the room's life: the client, and the account of a person."""
        self._note(tx, room, banned_as(row.client_id, row.account))
        if row.is_host:  # an administrator's doing: the room is somebody else's now
            change(tx, room, owner_client="", owner_account="", handed=1)
        self._remove(tx, room, row, "removed")
        kick = {"clientId": row.client_id, "reason": "Removed from the room"}
        tx.append([control_draft("kick", **kick)])

    def _admit(self, tx: Transaction, room: Any, row: Any) -> None:
        self._check_space(tx, room)
        change(tx, row, status=CONNECTED, joined_at=now_ms())
        self._announce(tx, room, row)
        tell(tx, room, "room-admitted", to=row.client_id, participantId=row.id)

    def _make_host(self, tx: Transaction, room: Any, row: Any) -> None:
        """Whoever was host is none any more; whom it was handed to stays it after a return."""
        for other in people_in(tx.database, room):
            if other.is_host and other.id != row.id:
                self._update(tx, room, other, is_host=0)
        change(tx, room, owner_client=row.client_id, owner_account=row.account, handed=1)
        self._update(tx, room, row, is_host=1)

    # action: whether for who waits in the lobby, else for who is in the room; what
    ACTIONS: ClassVar[dict[str, tuple[bool, Callable[[Rooms, Transaction, Any, Any], None]]]] = {
        "mute": (False, partial(_set_by_host, muted=True)),
        "unmute": (False, partial(_set_by_host, muted=False)),
        "camera-off": (False, partial(_set_by_host, cameraOff=True)),
        "camera-on": (False, partial(_set_by_host, cameraOff=False)),
        "remove": (False, _throw_out),
        "make-host": (False, _make_host),
        "admit": (True, _admit),
        "deny": (True, partial(_remove, reason="denied")),
    }

    # What a participant says

    def set_state(self, who: Visitor, room_id: str, changes: dict[str, bool]) -> ParticipantView:
        """Take a participant's state, which also says that it is there; the participant. Nothing
        is written where nothing changes. Raises Problem `not_in_room`."""
        _, row = self.actor(self._storage.reader, room_id, who, "stay")
        is_same = as_json(row.state) == as_json(row.state) | changes
        if is_same and row.beats and row.status != RECONNECTING:
            return participant_view(row)

        def act(tx: Transaction, room: Any, row: Any) -> ParticipantView:
            state = as_json(row.state)
            after = state | changes
            if after["hand"] != state["hand"]:
                after["handAt"] = iso(now_ms()) if after["hand"] else None
            self._update(tx, room, row, status=CONNECTED, state=to_json(after), beats=1)
            return participant_view(row)

        return self.perform(who, room_id, "stay", act)

    def react(self, who: Visitor, room_id: str, emoji: str) -> None:
        """Show the others how one feels, for a moment: nothing is stored. Raises Problem
        `not_in_room`, `rate_limited`."""
        room, row = self.actor(self._storage.reader, room_id, who, "take part")
        self._signals.charge(Charge((row.id, "reactions"), self.REACTION_RATE, self.REACTIONS))
        about = {"clientId": row.client_id, "emoji": emoji}
        self._nodes.volatile(room_event(room, "room-reaction", exclude=row.client_id, **about))

    # Signals

    def ice(self, client_id: str, is_in: bool) -> IceView:
        """What a client's RTCPeerConnection is to use. TURN comes with credentials that coturn can
        check (its `use-auth-secret`: HMAC-SHA1 of a user name that tells when it ends), or with
        fixed ones, which don't end, for who is in a room alone."""
        settings = self._settings
        given = list(settings["ice_servers"]) or ([] if self.is_lan else [GOOGLE_STUN])
        # A browser throws at a turn: URL without credentials, and then there is no call at all.
        stun = [url for url in given if url.startswith(("stun:", "stuns:"))]
        servers: list[dict[str, Any]] = [{"urls": stun}] if stun else []
        username, credential, ttl = settings["turn_username"], settings["turn_password"], 0
        if settings["turn_secret"]:
            ttl = settings["turn_seconds"]
            username = f"{now_ms() // 1000 + ttl}:{client_id}"
            digest = hmac.digest(settings["turn_secret"].encode(), username.encode(), "sha1")
            credential = base64.b64encode(digest).decode()
        if not (settings["turn_url"] and username and credential and (ttl or is_in)):
            return IceView(ice_servers=servers)
        turn = {"urls": list(settings["turn_url"]), "username": username, "credential": credential}
        return IceView(ice_servers=[*servers, turn], ice_ttl=ttl or msgspec.UNSET)

    def signal(self, who: Visitor, room_id: str, target: Target, kind: str, signal: Any) -> None:
        """Bring a signal to another participant of the same room; without a target, to all others.
        Who they are is known without a read. Raises Problem `not_in_room`, `peer_gone`,
        `rate_limited`."""
        sender, receivers = self.attendance.parties(who, room_id, target)
        if not receivers and self.attendance.catch_up():
            sender, receivers = self.attendance.parties(who, room_id, target)
        try:
            check_place(sender, who)
        except Problem:
            self._access.limit_request(who.principal)  # else a stranger's would not be counted
            raise
        client_id, n = sender.client_id, max(1, len(receivers))
        size = n * len(msgspec.json.encode(signal))
        self._signals.charge(
            Charge((client_id, "signals"), self.SIGNAL_RATE, self.SIGNALS, n),
            Charge((client_id, "bytes"), self.SIGNALED_BYTE_RATE, self.SIGNALED_BYTES, size),
        )
        if not receivers:
            raise Problem("peer_gone", "The other participant has left or connected anew.")
        address = self._seen_address(who, target)
        # Who sent it is what the server knows, not what it was told.
        about = {"fromUserId": as_json(sender.user_id), "fromClientId": client_id}
        about |= {"fromConnectionId": sender.connection_id, "signalType": kind}
        drafts = []
        for each in with_siblings(signal, address) if address else [signal]:
            for person in receivers:
                about |= {"signal": each, "toConnectionId": person.connection_id}
                drafts.append(room_event(sender, "webrtc-signal", to=person.client_id, **about))
        self._log.store(drafts)

    def _seen_address(self, who: Visitor, target: Target) -> str | None:
        """The local network's address of a sender, if it has one: for one on this machine that at
        which the receiver's connections arrived."""
        if not (self.is_lan or self._settings["candidate_siblings"]):
            return None
        addresses = [who.principal.address]
        if is_loopback(addresses[0]) and target.client_id:
            addresses = []
            for subscriber in self._hub.audience.of_client(target.client_id):
                if not isinstance(subscriber.transport, QueueTransport):  # it has no socket
                    with contextlib.suppress(OSError):
                        sock = _socket.socket(fileno=socket.dup(subscriber.fd))
                        addresses.append(str(as_ip(sock.getsockname()[0])))
                        sock.close()
        return next((address for address in addresses if is_local_network(address)), None)

    # Time

    def tick(self) -> None:
        """Once a second: judge who is heard and who is not, end rooms that are empty."""
        if self.attendance.epoch != self._log.epoch:  # the database is another one
            self.start()
        self._judge(self.attendance.look())
        if not self._nodes.is_first:
            return
        where = IS_ACTIVE & (VideoRoom.pinned == 0)
        where &= VideoRoom.empty_since < now_ms() - self.attendance.limit("empty")

        def unit(tx: Transaction) -> list[str]:
            rooms = list(VideoRoom.select().where(where).execute(tx.database))
            for room in rooms:
                self.end(tx, room, "empty")
            return [room.room_id for room in rooms]

        if VideoRoom.get_or_none(where):
            for room_id in self._storage.write(unit):
                self._journal.add("INFO", "Room ended", roomId=room_id, by="being empty")

    def _judge(self, verdicts: list[tuple[Participant, str]]) -> None:
        """Change the status of whom `Attendance.look` names, or take them out."""
        grace = self.attendance.limit("gone") - self.attendance.limit("silent")

        def unit(tx: Transaction) -> list[dict[str, str]]:
            alive = {row[0] for row in tx.database.execute_sql("SELECT id FROM nodes").fetchall()}
            lost = []
            for known, reason in verdicts:
                if reason == "node lost" and known.node in alive:  # a new one, not yet met
                    continue
                same = (getattr(VideoParticipant, k) == getattr(known, k) for k in self.JUDGED)
                row = VideoParticipant.select().where(*same).first(tx.database)
                if row is None:
                    continue
                room = VideoRoom.select().where(VideoRoom.id == row.room).first(tx.database)
                if reason == "heard":
                    self._update(tx, room, row, status=CONNECTED)
                    continue
                if reason in ("silent", "node lost"):
                    self._update(tx, room, row, grace, status=RECONNECTING)
                else:
                    self._remove(tx, room, row, reason)
                about = {"roomId": known.room_id, "clientId": known.client_id, "reason": reason}
                lost.append(about)
            return lost

        for about in self._storage.write(unit) if verdicts else ():
            self._journal.add("CONN", "Lost from a room", **about)


# ----------------------------------------------------------------------------------------------
# HTTP
# ----------------------------------------------------------------------------------------------

JSON, EVENT_STREAM, NDJSON = "application/json", "text/event-stream", "application/x-ndjson"
HTML, SVG, TEXT = "text/html", "image/svg+xml", "text/plain"
SQLITE = "application/vnd.sqlite3"
Attach = Callable[[Transport, bytes, bytes], None]


class Answer(msgspec.Struct):
    """What a route returns when JSON with status 200 isn't all. `attach` takes the connection
    over: it gets the transport, the head to send first, and what the client sent early."""

    body: Any = b""
    status: int = 200
    headers: dict[str, str] = {}
    attach: Attach | None = None
    # For who takes gzip. Only what is the same for everybody: to compress what is secret beside
    # what an attacker chooses gives it away (BREACH).
    compress: bool = False


class WrongField(msgspec.Struct):
    """A field, and what it must be."""

    field: str
    message: str


class ProblemView(msgspec.Struct, omit_defaults=True):
    """An error as RFC 9457 writes it: `code` is stable, `detail` is for a person."""

    type: str
    title: str
    status: int
    code: Annotated[str, msgspec.Meta(extra_json_schema={"enum": sorted(ERRORS)})]
    detail: str = ""
    errors: list[WrongField] = []


def problem_answer(problem: Problem) -> Answer:
    errors = [WrongField(*each) for each in problem.errors]
    view = view_of(ProblemView, problem, type="about:blank", errors=errors)
    headers = {"Content-Type": "application/problem+json", **problem.headers}
    return Answer(msgspec.json.encode(view), problem.status, headers)


# Files are few, and each is compressed once.
gzipped = cache(partial(gzip.compress, mtime=0))


def takes_gzip(accepted: str) -> bool:
    """Whether an Accept-Encoding header allows gzip (RFC 9110, section 12.5.3)."""
    codings = {}
    for part in accepted.lower().split(","):
        name, _, weight = part.partition(";")
        codings[name.strip()] = re.fullmatch(r"\s*q=0(\.0*)?\s*", weight) is None
    return codings.get("gzip", codings.get("*", False))


ROUTES: list[Route] = []
F = TypeVar("F", bound=Callable[..., Any])


@dataclass
class Route:
    """A row of the table of routes, and the decorator that puts it there. What a call takes and
    gives is said by the handler's signature: the types of `query` and `body`, of which it gets
    values, and of what it returns, also as the body of an `Answer`; None is answered by `DONE`. It
    may take `app`, `call`, what is in the path, and `who` acts in a room; what else it takes are
    fields of the query of a GET, of any other's body."""

    method: str
    path: str
    role: str
    summary: str
    limit: int | str = 20_000  # of the body, in bytes; or the setting that says it
    takes: str = ""  # media types of the body
    may_lack: bool = False  # the body may, of who sends a credential that no browser adds
    gives: dict[int, str] | str = JSON  # media types, by statuses of success where it isn't 200

    def __call__(self, handler: F) -> F:
        """Declare that it is answered so."""
        self.handler: Callable[..., Any] = handler
        ROUTES.append(self)
        return handler

    @cached_property
    def answers(self) -> dict[int, str]:
        """The statuses of success, and their media types."""
        return {200: self.gives} if isinstance(self.gives, str) else self.gives

    @cached_property
    def hints(self) -> dict[str, Any]:
        """The handler's signature. It is read late: it names what stands further down."""
        return typing.get_type_hints(self.handler, include_extras=True)

    @cached_property
    def asked(self) -> dict[str, Any]:
        """The types of the query and the body, where they are taken."""
        kinds = {name: kind for name, kind in self.hints.items() if name in ("query", "body")}
        part = "query" if self.method in ("GET", "DELETE") else "body"
        if "who" in self.hints and part == "body":
            kinds.setdefault(part, RoomCall)
        own = {"app", "call", "query", "body", "who", "return", *re.findall(r"<(\w+)", self.path)}
        if types := [(name, kind) for name, kind in self.hints.items() if name not in own]:
            name = f"{self.handler.__name__}_{part}".title().replace("_", "")
            given = inspect.signature(self.handler).parameters.values()
            told = {p.name: p.default for p in given if p.default is not p.empty}
            told["__doc__"] = self.summary
            base = (kinds[part],) if part in kinds else ()
            kinds[part] = msgspec.defstruct(
                name, types, bases=base, namespace=told, rename="camel", kw_only=True
            )
        return kinds

    @cached_property
    def lists(self) -> set[str]:
        """The fields of the query that may be given several times. Asking msgspec is slow."""
        fields = msgspec.structs.fields(self.asked["query"])
        return {field.encode_name for field in fields if element_of(field.type) is not None}

    @property
    def shown(self) -> list[Any]:
        """The types of what it gives as JSON."""
        given = self.hints["return"]
        kinds = typing.get_args(given) if typing.get_origin(given) is UnionType else (given,)
        return [Success if kind is NoneType else kind for kind in kinds if kind is not Answer]


route = Route


# Types of requests. What they say of themselves is in the OpenAPI, and told to who sent something
# else; patterns are written for msgspec.


def pattern(text: str, words: str) -> msgspec.Meta:
    """What a text must match as a whole, and what that is called."""
    whole = f"^{text}$(?!\\n)"  # Python's own $ also matches before a last newline
    return msgspec.Meta(pattern=whole, description=words)


MAX_CHANNELS = 256
LARGE = "max_message_bytes"  # the limit of what may hold that many of them, or a long value
LETTERS = "letters (A-Z, a-z), digits"
Channel = Annotated[str, pattern(r"[A-Za-z0-9_.:/-]{1,128}", f"1-128 {LETTERS} and _.:/-")]
ONE_LINE = "1-128 characters in one line"
EventName = Annotated[str, pattern(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029]{1,128}", ONE_LINE)]
ClientId = Annotated[str, pattern(r"[A-Za-z0-9_-]{1,64}", f"1-64 {LETTERS}, _ and -")]
RoomName = ClientId
SocketRoom = Annotated[str, pattern(r"[^\x00]{1,256}", "1-256 characters, none of them NUL")]
SocketNamespace = Annotated[
    str, pattern(r"/[^\x00-\x20#,]{0,255}", "a slash and at most 255 characters without # and ,")
]
# PostgreSQL's text takes no NUL.
SearchText = Annotated[str, pattern(r"[^\x00]{0,200}", "at most 200 characters, none of them NUL")]
Description = Annotated[str, pattern(r"[^\x00]{0,500}", "at most 500 characters, none of them NUL")]
SessionKey = Annotated[str, pattern(r"[A-Za-z0-9_-]{22,64}", "22-64 URL-safe characters")]
Limit = Annotated[int, msgspec.Meta(ge=1, le=1000)]
RowId = Annotated[int, msgspec.Meta(ge=0, le=2**62, description="an id, which is a whole number")]
Position = Annotated[str, msgspec.Meta(max_length=64)]
Channels = Annotated[tuple[Channel, ...], msgspec.Meta(max_length=MAX_CHANNELS)]
SettingKey = Annotated[
    str, pattern(r"[a-z][a-z0-9_.-]{0,63}", "1-64 letters (a-z), digits and _.-, a letter first")
]
UserRole = Literal["user", "admin"]
Username = Annotated[str, pattern(USERNAME, f"1-64 {LETTERS} and _.@-")]
Secret = Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]
Pattern = Annotated[str, pattern(r"[^\s]{1,128}", "1-128 characters without a space")]
Patterns = Annotated[tuple[Pattern, ...], msgspec.Meta(max_length=MAX_CHANNELS)]
TokenName = Annotated[str, pattern(r"[A-Za-z0-9_.-]{1,64}", f"1-64 {LETTERS} and _.-")]
Scopes = Annotated[
    tuple[Literal["subscribe", "publish", "emit", "admin"], ...],
    msgspec.Meta(min_length=1, description="a list of at least one"),
]
Days = Annotated[
    float, msgspec.Meta(gt=0, le=36_500, description="a number above 0, at most 36500")
]


def convert(values: Any, kind: type[T], strict: bool = True) -> T:
    """`values` as a request type. Raises Problem `invalid` that names every wrong field."""
    try:
        return msgspec.convert(values, kind, strict=strict)
    except msgspec.ValidationError:  # of the first of them
        raise Problem("invalid", errors=list(faults(values, kind, strict))) from None


def faults(values: Any, kind: Any, strict: bool = True) -> Iterator[tuple[str, str]]:
    """Each wrong field of a request with what it must be."""
    if not isinstance(values, dict):
        yield "", "must be an object"
        return
    for field in msgspec.structs.fields(kind):
        if field.encode_name in values:
            if found := fault(values[field.encode_name], field.type, strict):
                yield field.encode_name, found
        elif field.required:
            yield field.encode_name, "is required"


def fault(value: Any, kind: Any, strict: bool) -> str:
    """What a value must be to be of a type, empty if it is; of a list its first wrong element."""
    if kind is msgspec.Raw:
        return ""
    try:
        msgspec.convert(value, kind, strict=strict)
        return ""
    except msgspec.ValidationError:
        element = element_of(kind) if isinstance(value, list) else None
        for place, each in enumerate(value if element else ()):
            if words := fault(each, element, strict):
                return f"[{place}] {words}"
        return f"must be {in_words(kind)}"


def element_of(kind: Any) -> Any:
    """The type of the elements of a list; None for a type that is none."""
    if typing.get_origin(kind) is tuple:
        return typing.get_args(kind)[0]
    return next(filter(None, map(element_of, typing.get_args(kind))), None)


NAMES = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    tuple: "a list",
    datetime: "a time such as 2026-01-31T12:00:00Z",
}


def in_words(kind: Any) -> str:
    """What a type takes, for somebody who hasn't the source."""
    origin, inner = typing.get_origin(kind) or kind, typing.get_args(kind)
    if origin is Annotated:
        bare, meta = inner
        if meta.description or meta.max_length is None:
            return meta.description or f"{in_words(bare)} from {meta.ge} to {meta.le}"
        length = f"{f'{meta.min_length} to' if meta.min_length else 'at most'} {meta.max_length}"
        return f"{length} characters" if bare is str else f"{in_words(bare)} of {length}"
    if origin is Literal:
        return f"one of {', '.join(inner)}"
    if inner and origin is not tuple:
        return " or ".join(in_words(k) for k in inner if k not in (NoneType, msgspec.UnsetType))
    return NAMES.get(origin, "an object")


class Success(msgspec.Struct):
    """What was asked for is done."""

    success: bool


DONE = Success(True)


def paged(call: Call, views: list[T], total: int, limit: int, cursor: str) -> list[T]:
    """A page of a list: `X-Total-Count` says how many there are in all; behind a full one `Link`
    (RFC 8288) leads on, relative to the request."""
    call.reply["X-Total-Count"] = str(total)
    if len(views) == limit:
        pairs = dict(urllib.parse.parse_qsl(call.raw_query))
        pairs[cursor] = cast(Any, views[-1]).id
        call.reply["Link"] = f'<?{urllib.parse.urlencode(pairs)}>; rel="next"'
    return views


# Streams


class EventsQuery(msgspec.Struct, rename="camel"):
    """What a stream is asked for."""

    channel: Channels = ()
    session: SessionKey | None = None
    last_event_id: Position | None = None
    token: Annotated[str, msgspec.Meta(max_length=4096)] | None = None
    ticket: Annotated[str, msgspec.Meta(max_length=200)] | None = None
    presence: bool = False
    labels: bool = False


@route("GET", "/api/events", "stream", "Open a stream of Server-Sent Events", gives=EVENT_STREAM)
def events(app: Application, call: Call, query: EventsQuery) -> Answer:
    """WHATWG HTML 9.2. The socket is handed to the hub once the head is written."""
    head = {"Content-Type": EVENT_STREAM, "Cache-Control": "no-store, no-transform"}
    head["X-Accel-Buffering"] = "no"  # nginx would keep it back
    has_chunks = call.version != "1.0"
    # No `Connection: close` beside chunks: some clients take whatever end then for the last one.
    head |= {"Transfer-Encoding": "chunked"} if has_chunks else {"Connection": "close"}
    return Answer(headers=head, attach=open_stream(app, call, query, SSE[query.labels, has_chunks]))


def open_stream(
    app: Application,
    call: Call,
    query: EventsQuery,
    encoding: Encoding,
    converse: Callable[[Subscriber], Session] | None = None,
) -> Attach:
    """What makes a connection the stream that is asked for, a subscriber with its first bytes;
    `converse` makes who hears it. Raises Problem when it may not be, or there is no room."""
    principal, agent = call.principal, call.agent
    for name in query.channel:
        app.access.check_channel(principal, "subscribe", name)
    check_capacity(app, principal)
    given = query.session or call.session
    session, is_new = given or secrets.token_urlsafe(16), not (given or call.bound)
    client_id = call.bound or client_id_of(session)
    app.rooms.attendance.heard(client_id)
    last_event_id = call.headers.get("last-event-id") or query.last_event_id
    shared = {CHANNEL + name for name in query.channel}
    if principal.may_use("subscribe", None):  # who is limited to channels gets no global broadcasts
        shared.add(EVERYONE)
    if query.presence:
        shared |= {PRESENCE + name for name in query.channel}

    def attach(transport: Transport, head: bytes, early: bytes) -> None:
        after = app.log.find(last_event_id or "")
        topics = app.rooms.attendance.topics(client_id) | shared  # as of where the log now is
        wanted = topics | {DIRECT + client_id}
        if after is not None and (after > app.hub.head or not app.log.complete(after, wanted)):
            after = None
        cursor = app.hub.head if after is None else after
        subscriber = new_subscriber(principal, agent, encoding, client_id, cursor)
        position = app.log.position(cursor)
        hello = {
            "type": "connection",
            "clientId": client_id,
            "message": f"Connected to {'SSE' if encoding.name == 'sse' else 'WebSocket'}",
            "recovered": after is not None,
            "lastEventId": position,
            "pingInterval": app.settings["ping_interval"],
            "pingTimeout": app.settings["ping_timeout"],
            "channels": sorted({*query.channel}),
            "version": __version__,
        }
        if is_new:
            hello["session"] = session
        if isinstance(encoding, SseEncoding):
            head += encoding.text(f"retry: {2_000 + secrets.randbelow(2_001)}\n")
        head += encoding.notice(None, hello, position)
        if last_event_id and after is None:
            head += encoding.notice("reset", RESET, position)
        if converse is not None:
            subscriber.session = converse(subscriber)
        app.hub.attach(subscriber, topics, transport, head, early)

    return attach


def new_subscriber(
    principal: Principal, agent: str, encoding: Encoding, client_id: str, cursor: int
) -> Subscriber:
    """Who is served on a new stream."""
    address, agent = one_copy(principal.address[:256]), one_copy(agent[:256])
    made = Subscriber(client_id, encoding, cursor, address, agent)
    made.username, made.credential = principal.name, principal.credential
    made.expires_at = principal.expires_at or 0
    return made


def check_capacity(app: Application, principal: Principal, is_open: bool = False) -> None:
    """Raise Problem `too_many_connections` when there is no room for another stream, or, for one
    that `is_open`, in the account that it is to be of."""

    def check(name: str, count: Callable[[], int]) -> None:
        if app.settings[name] and count() >= app.settings[name]:
            code, wait = "too_many_connections", 2 + secrets.randbelow(9)
            raise Problem(code, f"The setting {name} is reached.", retry_after=wait)

    if not is_open:
        check("max_connections", lambda: app.hub.count)
        if not is_loopback(principal.address):
            check("max_connections_per_address", partial(app.hub.count_from, principal.address))
    if principal.account and not principal.unlimited:
        names = (subscriber.username for subscriber in app.hub.subscribers())
        check("max_connections_per_account", lambda: sum(name == principal.name for name in names))


class TopicsView(Success, rename="camel"):
    """The channels that a client's streams have now."""

    client_id: str
    channels: list[str]


@route("POST", "/api/events/topics", "subscribe", "Change a stream's channels", limit=LARGE)
def change_topics(
    app: Application,
    call: Call,
    session: SessionKey,
    add: Channels = (),
    remove: Channels = (),
    since: Position | None = None,
) -> TopicsView:
    """The change has a place in the log: what was published before it belongs to the old set.
    With `since`, a `lastEventId`, what came on the added channels after it is sent first, in order,
    or `reset` where it is no longer held; the stream's own position stays where it is."""
    for name in (*add, *remove):
        app.access.check_channel(call.principal, "subscribe", name)
    client_id = client_id_of(session)
    rows = existing(app.nodes.of_client(client_id), "This session has no stream.")
    held = [as_json(row.channels) for row in rows]
    if len(set().union(*held, add).difference(remove)) > MAX_CHANNELS:
        raise Problem("invalid", errors=[("add", f"makes more than {MAX_CHANNELS} channels")])
    order: dict[str, Any] = {"add": [CHANNEL + name for name in add]}
    order["remove"] = [CHANNEL + name for name in remove]
    if since is not None:
        number = app.log.find(since)
        order["since"] = -1 if number is None else number  # of another log: told as `reset`
    app.log.control("topics", clientId=client_id, **order)
    channels = sorted({name for s in app.hub.audience.of_client(client_id) for name in s.channels})
    return TopicsView(True, client_id, channels)


# Messages


class MessageView(msgspec.Struct, rename="camel"):
    """A stored message; one that isn't stored has no id."""

    id: int | None
    type: str
    content: msgspec.Raw
    channel: str | None
    event: str | None
    sent_at: Moment
    recipient_count: int


class Published(Success, rename="camel"):
    """That a message was taken, and to how many it goes."""

    recipient_count: int
    message: MessageView


class BatchPublished(Success, rename="camel"):
    """That a batch was taken; volatile messages have no ids."""

    count: int
    first_id: int | None
    last_id: int | None


class BroadcastQuery(msgspec.Struct):
    """To whom a message goes, and how."""

    channel: Channel | None = None
    to: ClientId | None = None
    event: EventName | None = None
    exclude: ClientId | None = None
    volatile: bool = False
    session: SessionKey | None = None
    namespace: SocketNamespace | None = None
    room: SocketRoom | None = None


@route("POST", "/api/broadcast", "publish or emit", "Publish a message", takes=f"{JSON}, {NDJSON}")
def broadcast(
    app: Application, call: Call, query: BroadcastQuery
) -> Answer | Published | BatchPublished:
    """Answers after the commit. `application/x-ndjson` is a message a line, all or nothing. With
    `namespace` or `room` it is an event of that namespace for Socket.IO clients alone, as a
    handler's `emit`, and needs the scope `emit`."""
    session = query.session or call.session
    sender = client_id_of(session) if session else None
    if call.content_type == NDJSON:
        raw = call.body(app.settings["max_batch_bytes"])
        drafts, parsed = batch_drafts(app, call.principal, query, raw, sender), None
        content = hashlib.sha256(raw).hexdigest()
    else:
        parsed = parse_json(call.json_body(app.settings["max_message_bytes"]))
        drafts, content = [make_draft(app, call.principal, query, parsed, sender)], parsed.text

    def answer() -> Published | BatchPublished:
        if parsed is None:
            return BatchPublished(True, len(drafts), drafts[0].id or None, drafts[-1].id or None)
        view = message_view(drafts[0], parsed)
        return Published(True, view.recipient_count, view)

    if query.volatile:
        for draft in paced(drafts):
            draft.recipient_count = app.nodes.volatile(draft)
        return answer()
    if "idempotency-key" in call.headers:
        return Answer(append_once(app, call, drafts, content, answer).encode())
    append(app, drafts)
    return answer()


def batch_drafts(
    app: Application, principal: Principal, query: BroadcastQuery, raw: bytes, sender: str | None
) -> list[Entry]:
    """A message a line; a bad line refuses the whole batch and is named."""
    parts = iter(partial(io.BytesIO(raw).readlines, 65_536), [])  # not all at once: each byte
    numbered = enumerate(itertools.chain.from_iterable(paced(parts)), 1)  # may be a line
    filled = ((number, line.rstrip(b"\n")) for number, line in numbered if line.strip())
    lines = list(itertools.islice(filled, 10_001))
    if not 1 <= len(lines) <= 10_000:
        raise Problem("invalid", "A batch has 1 to 10,000 lines.")
    give_back = app.access.limit_request(principal, "publish_limit", len(lines))
    limit, drafts = app.settings["max_message_bytes"], list[Entry]()
    for number, line in paced(lines):
        try:
            if len(line) > limit:
                raise Problem("too_large", f"A message has at most {limit} bytes.")
            parsed = parse_json(line)
            drafts.append(make_draft(app, principal, query, parsed, sender, counted=True))
        except Problem as problem:
            give_back()
            problem.errors = problem.errors or [(f"line {number}", str(problem))]
            raise
    return drafts


def make_draft(
    app: Application,
    principal: Principal,
    query: BroadcastQuery,
    parsed: Parsed,
    sender: str | None,
    counted: bool = False,
    is_let_in: bool = False,
) -> Entry:
    """A message as it will be stored, whichever way it came, after every check of who publishes
    what; the limit is charged unless it was `counted` with its batch. Where a middleware decides
    which Socket.IO clients join, a stranger's message reaches none of them, unless the middleware
    has let the stranger in."""
    emits = query.namespace is not None or query.room is not None
    app.access.require(principal, "emit" if emits else "publish")
    if not emits:
        app.access.check_channel(principal, "publish", query.channel)
    check_words(query.event or "", parsed.value)
    if not counted:
        app.access.limit_request(principal, "publish_limit")
    if (query.to is not None) + (query.channel is not None) + emits > 1:
        raise Problem("invalid", errors=[("to", "can't be given together with channel or room")])
    topic = EVERYONE
    if emits:
        topic = room_topic(query.namespace or "/", query.room or "")
    elif query.to:
        topic = DIRECT + query.to
    elif query.channel:
        topic = CHANNEL + query.channel
    exclude = query.exclude
    if app.access.guarded and principal.kind == ANONYMOUS.kind and not is_let_in:
        exclude = to_json([*app.access.guarded, *excluded_topics(exclude)])
    draft = Entry(topic, MESSAGE, query.event, parsed.text, sender=sender, exclude=exclude)
    draft.recipient_count, draft.sent_at = app.hub.audience.size(topic, exclude), now_ms()
    return draft


def append(
    app: Application, drafts: Sequence[Entry], unit: Callable[[Transaction], Any] | None = None
) -> Any:
    """Put messages into the log, or run a unit that does so and more. Returns their ids, or what
    the unit returned, after the commit."""
    started = time.perf_counter()
    given = app.storage.write(unit) if unit else app.log.store(drafts)
    app.stats.published(len(drafts), time.perf_counter() - started)
    return given


def append_once(
    app: Application, call: Call, drafts: list[Entry], content: str, answer: Callable[[], Any]
) -> str:
    """Store messages; the answer as JSON. An `Idempotency-Key` that was used within a day gives the
    first answer again: it is an account's; of the anonymous a session's, else an address's. Raises
    Problem `idempotency_mismatch` when the content is another one."""
    key = call.headers["idempotency-key"]
    if not re.fullmatch(r"[\x21-\x7e]{1,255}", key):
        raise Problem("invalid", errors=[("Idempotency-Key", "must be 1-255 visible characters")])
    stranger = drafts[0].sender or call.principal.address
    key_hash = sha256(f"{call.principal.account or f'{ANONYMOUS.name} {stranger}'} {key}")
    body_hash = sha256(f"{call.raw_query} {content}")

    def unit(tx: Transaction) -> str:
        earlier = IdempotencyKey.select().where(IdempotencyKey.key_hash == key_hash)
        row = earlier.first(tx.database)
        if row is not None and row.created_at > now_ms() - 86_400_000:
            if row.body_hash != body_hash:
                raise Problem("idempotency_mismatch", "Use a new key for a new message.")
            return str(row.answer)
        tx.append(drafts)
        kept = {"key_hash": key_hash, "body_hash": body_hash, "answer": to_json(answer())}
        upsert(tx.database, IdempotencyKey, **kept, created_at=now_ms())
        return kept["answer"]

    return str(append(app, drafts, unit))


def message_view(entry: Entry, parsed: Parsed) -> MessageView:
    kind = parsed.value.get("type") if isinstance(parsed.value, dict) else None
    return MessageView(
        entry.id or None,
        kind if isinstance(kind, str) else "message",
        msgspec.Raw(parsed.text.encode()),
        channel_of(entry.topic),
        entry.event,
        iso(entry.sent_at),
        entry.recipient_count,
    )


@route("GET", "/api/messages", "user", "List stored messages")
def messages(
    app: Application,
    call: Call,
    channel: Channel | None = None,
    before: RowId | None = None,
    after: RowId | None = None,
    limit: Limit = 100,
) -> list[MessageView]:
    """Newest first, with `after` oldest first. Direct messages and signals are never listed."""
    app.access.check_channel(call.principal, "read", channel)
    chosen = (Message.topic == EVERYONE) | Message.topic.startswith(CHANNEL)
    if channel:
        chosen = Message.topic == CHANNEL + channel
    where = (Message.kind == MESSAGE) & chosen
    total, views = count_rows(app, Message, where), stored_views(app, where, limit, before, after)
    return paged(call, views, total, limit, "before" if after is None else "after")


def count_rows(app: Application, model: Any, where: Any) -> int:
    """How many rows a condition leaves."""
    query = model.select(peewee.fn.COUNT(model.id)).where(where)
    return int(app.storage.read_long(*query.sql())[0][0])


def page_of(
    app: Application, query: Any, limit: int, before: int | None = None, after: int | None = None
) -> Iterator[Any]:
    """Rows of a table that may be long, the newest first, those `after` an id oldest first."""
    number = query.model.id
    if before is not None:
        query = query.where(number < before)
    if after is not None:
        query = query.where(number > after)
    ordered = query.order_by(number.desc() if after is None else number)
    return paced(app.storage.read_long(*ordered.limit(limit).sql()))


def stored_views(app: Application, where: Any, limit: int, *span: int | None) -> list[MessageView]:
    """Messages of the log as the API shows them; `span` as `page_of` takes it."""
    query = Message.select(*(getattr(Message, name) for name in COLUMNS)).where(where)
    entries = itertools.starmap(Entry, page_of(app, query, limit, *span))
    return [message_view(each, Parsed(as_json(each.content), each.content)) for each in entries]


# Connections


class ConnectionView(Connected, frozen=True):
    """An open connection."""

    channels: list[str]  # type: ignore[assignment]
    connected_at: Moment  # type: ignore[assignment]
    last_ping: Moment  # type: ignore[assignment]


@route("GET", "/api/connections", "admin", "List open connections")
def connections(
    app: Application,
    call: Call,
    q: SearchText = "",
    transport: Literal["sse", "websocket", "socket.io"] | None = None,
    channel: Channel | None = None,
    limit: Limit = 100,
    cursor: RowId = 0,
) -> list[ConnectionView]:
    """Oldest first, a page at a time; `cursor` is the last id of the page before. Who came to
    another node, left it or changed its channels there is known here within a second; the figures
    of its connections are as of its last heartbeat (5 s)."""
    page, total = app.nodes.page(q, transport, channel, cursor, limit)
    return paged(call, [view_of(ConnectionView, row) for row in page], total, limit, "cursor")


@route("DELETE", "/api/connections/<client_id>", "admin", "Disconnect a client")
def disconnect(app: Application, call: Call, client_id: str) -> None:
    """The client is told not to come back, on whichever node holds it."""
    existing(app.nodes.of_client(client_id), "No such client is connected.")
    app.log.control("kick", clientId=client_id, reason="Disconnected by an administrator")
    app.audit(call, "Client disconnected", clientId=client_id)


class ChannelView(msgspec.Struct, rename="camel"):
    """A channel: its listeners now, its messages of the last minute."""

    name: str
    listeners: int
    messages_last_minute: int


@route("GET", "/api/channels", "admin", "List the channels in use")
def channels(app: Application, call: Call, limit: Limit = 100) -> list[ChannelView]:
    """Those with most messages in the last minute first, then those with most listeners, of all
    nodes: listeners elsewhere as of the last heartbeat (5 s), messages as they are counted, every
    five seconds. Where thousands have messages, the quietest of them are not counted."""
    found, total = app.nodes.channels(limit)
    call.reply["X-Total-Count"] = str(total)
    return list(itertools.starmap(ChannelView, found))


class PresenceView(msgspec.Struct, rename="camel"):
    """A client that is on a channel."""

    client_id: str
    username: str | None
    connected_at: Moment


@route("GET", "/api/presence", "user", "List who is on a channel")
def presence(app: Application, call: Call, channel: Channel) -> list[PresenceView]:
    """Each client once, however many connections it has."""
    app.access.check_channel(call.principal, "read", channel)
    return [view_of(PresenceView, row) for row in app.nodes.present(channel)]


# Video


class RoomCall(msgspec.Struct, rename="camel"):
    """Who acts in a room: a `session`, or a credential; and which connection it believes to be."""

    session: SessionKey | None = None
    client_id: ClientId | None = None
    connection_id: ClientId | None = None


Label = Annotated[str, pattern(r"[^\x00-\x1f\x7f]{1,128}", ONE_LINE)] | int | None
Title = Annotated[
    str, pattern(rf"(?!\s*$){NAME_SIGN}{{1,100}}", "1-100 visible characters in one line")
]
PersonName = Annotated[str, pattern(r"[^\x00-\x1f\x7f]{1,100}", "1-100 characters in one line")]
Size = Annotated[int, msgspec.Meta(ge=2, le=100)]
SignalType = Literal["offer", "answer", "ice-candidate"]
SIGNAL_BYTES = 65_536
ROOM = "/api/video/rooms/<room_id>"
Act = Literal["mute", "unmute", "camera-off", "camera-on", "remove", "make-host", "admit", "deny"]
ChatText = Annotated[str, msgspec.Meta(min_length=1, max_length=2000)]
Emoji = Literal["👍", "❤️", "😂", "👏", "🎉", "😮", "🤔", "👎"]


class RoomChange(RoomCall, kw_only=True):
    """What changes of a room; a password of null takes it away."""

    name: Title | msgspec.UnsetType = msgspec.UNSET
    description: Description | msgspec.UnsetType = msgspec.UNSET
    max_participants: Size | msgspec.UnsetType = msgspec.UNSET
    locked: bool | msgspec.UnsetType = msgspec.UNSET
    lobby: bool | msgspec.UnsetType = msgspec.UNSET
    pinned: bool | msgspec.UnsetType = msgspec.UNSET
    listed: bool | msgspec.UnsetType = msgspec.UNSET
    password: Secret | None | msgspec.UnsetType = msgspec.UNSET


class MakeRoomBody(RoomCall, kw_only=True):
    """Make a video room"""

    name: Title
    room_id: RoomName | None = None
    description: Description = ""
    host_id: Label = None
    max_participants: Size | None = None
    password: Secret | None = None
    lobby: bool = False
    pinned: bool = False
    listed: bool = False


class StateBody(RoomCall, kw_only=True):
    """What a participant sends at the moment; what is left out stays as it was."""

    audio: bool | msgspec.UnsetType = msgspec.UNSET
    video: bool | msgspec.UnsetType = msgspec.UNSET
    screen: bool | msgspec.UnsetType = msgspec.UNSET
    hand: bool | msgspec.UnsetType = msgspec.UNSET


def given_fields(body: RoomCall) -> dict[str, Any]:
    """What a body says besides who acts."""
    fields = msgspec.structs.asdict(body).items()
    about = RoomCall.__struct_fields__
    return {name: v for name, v in fields if name not in about and v is not msgspec.UNSET}


def visitor(app: Application, call: Call, asked: Any) -> Visitor:
    """Who acts: by its `session`, or by the credential that a clientId's stream was opened with.
    Raises Problem `forbidden` for somebody else's clientId, `unauthorized` without `guests`."""
    if not app.settings["guests"]:
        app.access.require(call.principal, "stream")
    body = asked if isinstance(asked, RoomCall) else RoomCall()
    session = body.session or call.session
    client_id = client_id_of(session) if session else body.client_id or ""
    who = Visitor(client_id, call.principal, body.connection_id)
    if client_id and not session and not app.rooms.is_client_of(who):
        raise Problem("forbidden", "Send the session of this clientId.")
    app.rooms.attendance.heard(client_id)
    return who


class WholeRoom(RoomView, kw_only=True):
    """A room as who is in it or has an account sees it; who waits is its host's to see."""

    full: bool
    kiosk_join: bool
    participants: list[ParticipantView]
    waiting: list[ParticipantView] | msgspec.UnsetType = msgspec.UNSET


class Named(msgspec.Struct, rename="camel"):
    """Somebody in a room, as who stands before its door sees it."""

    display_name: str


class RoomDoor(msgspec.Struct, rename="camel"):
    """What a page needs to know of a room before somebody joins it; who is inside as far as
    `room_preview` lets one see it."""

    room_id: str
    name: str
    is_active: bool
    has_password: bool
    locked: bool
    lobby: bool
    full: bool
    join_url: str
    kiosk_join: bool
    participant_count: int | msgspec.UnsetType = msgspec.UNSET
    participants: list[Named] | msgspec.UnsetType = msgspec.UNSET


@route("POST", "/api/video/rooms", "publish", "Make a video room", gives={201: JSON})
def make_room(app: Application, call: Call, who: Visitor, body: MakeRoomBody) -> RoomView:
    """201 with the room. Its maker, by session or account, is its host."""
    return shared_rooms(app, call, [app.rooms.create(who, **given_fields(body))])[0]


@route("GET", "/api/video/rooms", "guest", "List the active video rooms")
def list_rooms(
    app: Application, call: Call, after: RowId = 0, limit: Limit = 100
) -> list[RoomView]:
    """Oldest first; a guest sees its own."""
    session = call.session if call.principal.role == "guest" else None
    rooms = app.rooms.active(after, limit, session)
    total = len(rooms) if session else app.rooms.count()
    return paged(call, shared_rooms(app, call, rooms), total, limit, "after")


def shared_rooms(app: Application, call: Call, rooms: Sequence[Any]) -> list[RoomView]:
    """Rooms as the API shows them, with links to where the request was addressed."""
    counts, base = app.rooms.attendance.count(), app.network.link_base(call.origin)
    return [room_view(RoomView, room, counts[room.id], base) for room in rooms]


def whole_room(app: Application, call: Call, room: Any, who: Visitor) -> tuple[WholeRoom, bool]:
    """A room, and whether somebody is in it."""
    people = app.rooms.participants(room)
    inside = any(view.client_id == who.client_id for view in people)
    about = {"participants": people, "kiosk_join": app.settings["kiosk_join"]}
    about["full"] = not inside and len(people) >= room.max_participants
    base = app.network.link_base(call.origin)
    return room_view(WholeRoom, room, len(people), base, **about), inside


def room_door(app: Application, room: WholeRoom) -> RoomDoor:
    """What a stranger sees of a room."""
    preview = app.settings["room_preview"]
    door = view_of(RoomDoor, room, participants=msgspec.UNSET)
    if preview == "names" and not room.has_password:
        door.participants = [Named(person.display_name or "") for person in room.participants]
    if preview == "nothing":
        door.participant_count = msgspec.UNSET
    return door


@route("GET", "/api/video/rooms/listed", "room", "List the rooms that guests may find")
def list_listed_rooms(app: Application, call: Call, who: Visitor) -> list[RoomDoor]:
    """Those that are `listed` and not locked, the newest first."""
    found = app.rooms.listed()
    return [room_door(app, whole_room(app, call, room, who)[0]) for room in found]


@route("GET", ROOM, "room", "Show a video room")
def show_room(app: Application, call: Call, room_id: str, who: Visitor) -> WholeRoom | RoomDoor:
    """Who is not in it and has no account learns only what the page needs before joining."""
    room = app.rooms.find(room_id, who)
    whole, inside = whole_room(app, call, room, who)
    if not who.account and not inside:
        return room_door(app, whole)
    if app.rooms.may_moderate(app.storage.reader, room, who):
        whole.waiting = app.rooms.participants(room, waits=True)
    return whole


@route("PATCH", ROOM, "room", "Change a video room")
def change_room(
    app: Application, call: Call, room_id: str, who: Visitor, body: RoomChange
) -> RoomView:
    """Name, lock, limit, password; by its host."""
    return shared_rooms(app, call, [app.rooms.update(who, room_id, given_fields(body))])[0]


@route("DELETE", ROOM, "room", "End a video room")
def end_room(app: Application, room_id: str, who: Visitor) -> None:
    """Everybody in it is told; by its host."""
    end = partial(app.rooms.end, reason="ended by the host")
    app.rooms.perform(who, room_id, "moderate", lambda tx, room, _: end(tx, room))
    app.journal.add("INFO", "Room ended", roomId=room_id, by=who.principal.name)


@route("GET", f"{ROOM}/qr.svg", "room", "A room's link as a QR code", gives=SVG)
def room_qr(app: Application, call: Call, room_id: str, who: Visitor) -> Answer:
    """ISO/IEC 18004."""
    room = app.rooms.find(room_id, who)
    return qr_code(f"{app.network.link_base(call.origin)}/room/{room.room_id}")


def qr_code(text: str) -> Answer:
    import segno

    image = io.BytesIO()
    segno.make(text).save(image, "svg", scale=8, border=4)
    return Answer(image.getvalue(), headers={"Content-Type": SVG})


class Entered(IceView, kw_only=True):
    """Somebody is in a room."""

    status: str
    participant: ParticipantView
    last_event_id: str
    participants: list[ParticipantView]
    waiting: list[ParticipantView]
    room: RoomView
    video_max_height: int
    video_max_fps: int


class Waits(msgspec.Struct, rename="camel"):
    """Somebody waits in a room's lobby."""

    status: str
    participant: ParticipantView
    last_event_id: str
    code: Literal["waiting"]
    participants: list[ParticipantView]


@route("POST", f"{ROOM}/join", "room", "Join a video room", gives={200: JSON, 202: JSON})
def join_room(
    app: Application,
    call: Call,
    room_id: str,
    who: Visitor,
    user_id: Label = None,
    display_name: PersonName | None = None,
    password: Secret | None = None,
) -> Answer | Entered | Waits:
    """202 while the host has to let one in. Open the stream from `lastEventId`: nothing is
    missed. `iceServers` are good for `iceTtl` seconds, where they end; a participant's `handAt`
    is since when its hand is up, or null."""
    if not who.client_id:
        needed = "is required: 22-64 random URL-safe characters"
        raise Problem("invalid", errors=[("session", needed)])
    view = join_answer(app, call.origin, who, room_id, display_name, user_id, password)
    return view if isinstance(view, Entered) else Answer(view, 202)


def join_answer(app: Application, origin: str, who: Visitor, *asked: Any) -> Entered | Waits:
    """What somebody is told who joins, or waits; `Rooms.join` says what is `asked` and raised."""
    room, view, people, number = app.rooms.join(who, *asked)
    position = app.log.position(number)
    if view.status == WAITING:
        return Waits(view.status, view, position, "waiting", [])
    return Entered(
        status=view.status,
        participant=view,
        last_event_id=position,
        participants=people,
        waiting=app.rooms.participants(room, waits=True) if view.is_host else [],
        room=room_view(RoomView, room, len(people), app.network.link_base(origin)),
        video_max_height=app.settings["video_max_height"],
        video_max_fps=app.settings["video_max_fps"],
        **msgspec.structs.asdict(app.rooms.ice(view.client_id, is_in=True)),
    )


@route("POST", f"{ROOM}/leave", "room", "Leave a video room")
def leave_room(app: Application, room_id: str, who: Visitor, soon: bool = False) -> None:
    """Also out of its lobby. A page that is closed or loaded anew can't tell which: `soon`."""
    app.rooms.leave(who, room_id, soon)


@route("POST", f"{ROOM}/participants/<number:int>", "room", "Mute, remove, let in, hand over")
def act_in_room(app: Application, room_id: str, number: int, who: Visitor, action: Act) -> None:
    """By a host, the room's owner or an administrator. The server isn't in the media's path:
    receivers obey."""
    app.rooms.moderate(who, room_id, number, action)


class StateView(Success):
    """A participant after it told its state."""

    participant: ParticipantView


@route("POST", f"{ROOM}/state", "room", "Tell one's state in a room")
def tell_state(app: Application, room_id: str, who: Visitor, body: StateBody) -> StateView:
    """Microphone, camera, screen, hand. Sent every ten seconds it also says: I am here. Others
    hear `participant-state`, with `handAt` as the order in which hands went up."""
    return StateView(True, app.rooms.set_state(who, room_id, given_fields(body)))


class Said(Success):
    """A text was said; its id is its place in the log."""

    id: int


@route("POST", f"{ROOM}/chat", "room", "Say something in a room")
def say_in_room(
    app: Application, room_id: str, who: Visitor, text: ChatText, reply_to: RowId | None = None
) -> Said:
    """Plain text, to everybody in the room: `room-chat` with the answer's `id` as `messageId`, and
    `replyTo`, the `messageId` of what it answers, or null."""

    def say(tx: Transaction, room: Any, row: Any) -> int:
        about = {"clientId": row.client_id, "displayName": row.display_name}
        about |= {"messageId": tx.next_id, "text": text}
        about |= {"sentAt": iso(now_ms()), "replyTo": reply_to}
        answered = said_in(room).where(Message.id == reply_to)
        if reply_to is not None and not answered.exists(tx.database):
            raise Problem("invalid", errors=[("replyTo", "is no message of this chat")])
        return tx.append([room_event(room, "room-chat", **about)])[0]

    return Said(True, app.rooms.perform(who, room_id, "take part", say))


def said_in(room: Any) -> Any:
    """What was said in a room, as a query."""
    where = (Message.topic == f"{VIDEO_ROOM}{room.id}") & (Message.event == "room-chat")
    return Message.select(Message.id, Message.content).where(where)


class ChatView(TypedDict):
    """What somebody said in a room."""

    id: int
    messageId: int
    type: str
    roomId: str
    clientId: str
    displayName: str
    text: str
    sentAt: Moment
    replyTo: int | None


@route("GET", f"{ROOM}/chat", "room", "List what was said")
def list_chat(
    app: Application, room_id: str, who: Visitor, before: RowId = 2**62, limit: Limit = 100
) -> list[ChatView]:
    """The newest, oldest of them first, each with its `messageId`; for participants."""
    room, _ = app.rooms.actor(app.storage.reader, room_id, who, "take part")
    rows = reversed(list(page_of(app, said_in(room), limit, before)))
    told = {"replyTo": None}  # what was said by an earlier version has none
    said = [{"id": number, "messageId": number, **told, **as_json(text)} for number, text in rows]
    return cast("list[ChatView]", said)


@route("POST", f"{ROOM}/reactions", "room", "Show the others an emoji for a moment")
def react_in_room(app: Application, room_id: str, who: Visitor, emoji: Emoji) -> None:
    """`room-reaction` with `clientId` and `emoji` to the others who are there; it is not kept."""
    app.rooms.react(who, room_id, emoji)


@route("POST", "/api/webrtc/signal", "room", "Signal to another participant", limit=SIGNAL_BYTES)
def send_signal(
    app: Application,
    who: Visitor,
    type: SignalType,
    signal: Any,
    room_id: RoomName,
    target_client_id: ClientId | None = None,
    target_connection_id: ClientId | None = None,
    target_user_id: Label = None,
) -> None:
    """W3C WebRTC: a description or a candidate, as the browser gave it, or a list of candidates."""
    target = Target(target_client_id, target_user_id, target_connection_id)
    if target.client_id is None and target.user_id is None:
        raise Problem("invalid", errors=[("targetClientId", "or targetUserId is required")])
    app.rooms.signal(who, room_id, target, type, signal)


@route("GET", "/api/ice", "guest", "The ICE servers to use")
def list_ice_servers(app: Application, call: Call) -> IceView:
    """Where there is a TURN server, with credentials that are good for `iceTtl` seconds."""
    client_id = client_id_of(call.session) if call.session else call.principal.name
    people = app.rooms.attendance.of_client(client_id)
    is_in = any(person.is_in for person in people)
    if call.principal.role == "guest" and not is_in:
        raise Problem("not_in_room", "Wait until the host lets you in.")
    return app.rooms.ice(client_id, is_in)


# System


class NodeLoad(msgspec.Struct):
    """A node's connections."""

    node: str
    connections: int


class WarningView(msgspec.Struct, omit_defaults=True):
    """What an administrator should look at. By its kind `value` is, of a node's `connections`, how
    much of what it takes, `errors` of the last five minutes, bytes that are free on the `disk`, or
    of SQLite's write-ahead log (`wal`); a `node` that is gone has none."""

    kind: Literal["connections", "errors", "disk", "wal", "node"]
    value: float = 0
    node: str = ""


class SecondView(msgspec.Struct, rename="camel", kw_only=True):
    """What charts draw of a moment; the counters are since the node's start."""

    transports: dict[str, int]
    messages_sent: int
    deliveries: int
    publish_latency_ms: dict[str, float]
    cpu_percent: float
    memory_bytes: int


class MinuteView(SecondView, kw_only=True):
    """Counters since the node's start, and rates of the last minute."""

    active_connections: int
    bytes_sent: int
    messages_per_second: float
    deliveries_per_second: float
    video_participants: int
    active_video_rooms: int


class RecentView(SecondView, kw_only=True):
    """The statistics of a second: also the errors noted since the start, and each node's
    connections."""

    timestamp: Moment
    errors: int
    nodes: list[NodeLoad]


class StatsView(MinuteView, kw_only=True):
    """The statistics of this moment; `walBytes` is SQLite's write-ahead log, else null,
    `diskFreeBytes` of the data folder's disk, `maxConnections` of one node, `errors` how many were
    noted since the start, `recent` the last five minutes of this node, where asked for."""

    total_connections: int
    max_connections: int
    uptime: int
    database_bytes: int
    wal_bytes: int | None
    disk_free_bytes: int
    errors: int
    catch_up_reads: int
    nodes: list[NodeLoad]
    warnings: list[WarningView] = []
    version: str
    recent: list[RecentView] | msgspec.UnsetType = msgspec.UNSET


class StatsMinuteView(MinuteView, kw_only=True):
    """The statistics of a node at a minute's end."""

    minute: Moment
    node: str


def warnings_of(now: StatsView, recent: Collection[RecentView]) -> list[WarningView]:
    """What needs a look by the statistics of this moment and of the last five minutes."""
    loads = ((load.connections / now.max_connections, load.node) for load in now.nodes)
    found = [WarningView("connections", share, node) for share, node in loads if share >= 0.9]
    if errors := now.errors - min((row.errors for row in recent), default=now.errors):
        found.append(WarningView("errors", errors))
    if now.disk_free_bytes < 1e9:
        found.append(WarningView("disk", now.disk_free_bytes))
    if (now.wal_bytes or 0) > 4 * SqliteEngine.LOG_BYTES:
        found.append(WarningView("wal", now.wal_bytes or 0))
    gone = {load.node for row in recent for load in row.nodes} - {load.node for load in now.nodes}
    return found + [WarningView("node", node=node) for node in sorted(gone)]


@route("GET", "/api/stats", "user", "Statistics of this moment")
def stats(app: Application, recent: bool = False) -> StatsView:
    """Rates are over the last minute. With `recent` also what each second of the last five minutes
    was, oldest first."""
    view = app.stats_view()
    view.recent = list(app.recent) if recent else msgspec.UNSET
    return view


@route("GET", "/api/stats/history", "user", "Statistics, a row per minute")
def stats_history(
    app: Application, minutes: Annotated[int, msgspec.Meta(ge=1, le=20_160)] = 60
) -> Answer | list[StatsMinuteView]:
    """Oldest first."""
    since = now_ms() - minutes * 60_000
    rows = StatsMinute.select().where(StatsMinute.minute >= since).order_by(StatsMinute.minute)
    parts = [  # two weeks are 8 MB: the counters, which are JSON, are not read and written again
        f'{{"minute":"{iso(minute)}","node":{to_json(node)},{counters[1:]}'
        for minute, node, counters in paced(app.storage.read_long(*rows.sql()))
    ]
    return Answer(f"[{','.join(parts)}]".encode())


class LogFilter(msgspec.Struct, kw_only=True):
    """What of the event log is asked for; times are RFC 3339."""

    level: Literal["INFO", "CONN", "MSG", "WARN", "ERROR"] | None = None
    q: SearchText = ""
    since: datetime | None = None
    until: datetime | None = None

    def condition(self, app: Application) -> Any:
        """The same as a condition of a query, before which what waits is written."""
        app.journal.flush()
        found = EventLog.id > 0
        if self.since:
            found &= EventLog.timestamp >= to_ms(self.since)
        if self.until:
            found &= EventLog.timestamp < to_ms(self.until)
        if self.level:
            found &= EventLog.level == self.level
        if self.q:
            found &= EventLog.message.contains(self.q) | EventLog.metadata.contains(self.q)
        return found


def to_ms(moment: datetime) -> int:
    """Milliseconds since 1970; without a time zone it is UTC."""
    return int(moment.replace(tzinfo=moment.tzinfo or timezone.utc).timestamp() * 1000)


class LogView(msgspec.Struct):
    """An entry of the event log."""

    id: int
    timestamp: Moment
    level: str
    message: str
    metadata: Annotated[msgspec.Raw, msgspec.Meta(extra_json_schema={"type": "object"})]


def log_views(app: Application, where: Any, before: int | None, limit: int) -> list[LogView]:
    """A page of the event log as the API shows it, newest first."""
    rows = page_of(app, EventLog.select().where(where), limit, before)
    return [
        LogView(number, iso(at), level, message, msgspec.Raw(more.encode()))
        for number, at, level, message, more in rows
    ]


@route("GET", "/api/logs", "admin", "List the event log")
def logs(
    app: Application, call: Call, query: LogFilter, before: RowId | None = None, limit: Limit = 100
) -> list[LogView]:
    """Newest first."""
    where = query.condition(app)
    total = count_rows(app, EventLog, where)
    return paged(call, log_views(app, where, before, limit), total, limit, "before")


class LogSpan(msgspec.Struct, omit_defaults=True):
    """A span of time, and how many entries of each level lie in it."""

    timestamp: Moment
    INFO: int = 0
    CONN: int = 0
    MSG: int = 0
    WARN: int = 0
    ERROR: int = 0


class LogHistogram(msgspec.Struct):
    """The event log over time; `width` is a span's milliseconds."""

    since: Moment
    width: int
    buckets: list[LogSpan]


@route("GET", "/api/logs/histogram", "admin", "Count the event log over time")
def log_histogram(
    app: Application, query: LogFilter, buckets: Annotated[int, msgspec.Meta(ge=1, le=500)] = 60
) -> LogHistogram:
    """How many entries of each level lie in each of as many equal spans; by default from the oldest
    entry that the filter leaves until now. Spans without an entry are left out."""
    where = query.condition(app)
    first = EventLog.select(peewee.fn.MIN(EventLog.timestamp)).where(where)
    ((oldest,),) = app.storage.read_long(*first.sql())
    until = to_ms(query.until) if query.until else now_ms() + 1
    since = to_ms(query.since) if query.since else oldest or until - 1
    width = max(1, -(-(until - since) // buckets))
    bucket = ((EventLog.timestamp - since) / width).alias("bucket")
    chosen = EventLog.select(bucket, EventLog.level, peewee.fn.COUNT(EventLog.id)).where(where)
    grouped = chosen.group_by(bucket, EventLog.level)
    spans: dict[int, LogSpan] = {}
    for at, level, number in app.storage.read_long(*grouped.sql()):
        span = spans.setdefault(int(at), LogSpan(iso(since + int(at) * width)))
        setattr(span, level, number)
    return LogHistogram(iso(since), width, [spans[at] for at in sorted(spans)])


@route("DELETE", "/api/logs", "admin", "Clear the event log")
def clear_logs(app: Application, call: Call) -> None:
    """One entry remains: who did it."""
    app.journal.flush()
    app.storage.write(lambda tx: EventLog.delete().execute(tx.database))
    app.audit(call, "Event log cleared")
    app.journal.flush()


@route("GET", "/api/logs/export", "admin", "Download the event log", gives=f"text/csv, {NDJSON}")
def export_logs(
    app: Application, query: LogFilter, format: Literal["csv", "ndjson"] = "csv"
) -> Answer:
    """All of it that the filter leaves, newest first."""
    kind = "text/csv; charset=utf-8" if format == "csv" else NDJSON
    name = f'attachment; filename="rtapp-logs.{format}"'

    def parts() -> Iterator[bytes]:
        before, where = None, query.condition(app)
        rows = csv_rows if format == "csv" else msgspec.json.Encoder().encode_lines
        if format == "csv":
            yield b"id,timestamp,level,message,metadata\r\n"
        while views := log_views(app, where, before, 1000):
            yield rows(views)
            before = views[-1].id

    return Answer(parts(), headers={"Content-Type": kind, "Content-Disposition": name})


def csv_rows(views: list[LogView]) -> bytes:
    """For spreadsheets: RFC 4180, and no cell that they would take for a formula."""
    text = io.StringIO(newline="")
    for view in views:
        cells = (*msgspec.structs.astuple(view)[:-1], bytes(view.metadata).decode())
        safe = [f"'{cell}" if str(cell)[:1] in tuple("=+-@\t\r") else cell for cell in cells]
        csv.writer(text).writerow(safe)
    return text.getvalue().encode()


MASK = "********"  # instead of a secret


class SettingView(msgspec.Struct, rename="camel", kw_only=True):
    """A setting, where its value comes from, and what it takes; secrets are masked."""

    key: str
    value: Any
    type: str
    default: Any
    description: str | None
    group: str
    choices: list[str] | msgspec.UnsetType = msgspec.UNSET
    minimum: float | None | msgspec.UnsetType = msgspec.UNSET
    maximum: float | None | msgspec.UnsetType = msgspec.UNSET
    editable: bool
    restart: bool
    source: str
    updated_at: Moment | None


def is_from_here(call: Call) -> bool:
    """Whether a request comes from this machine. What a proxy passes on may be anybody's."""
    proxied = {"x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip"}
    return is_loopback(call.address) and {*proxied, "forwarded", "via"}.isdisjoint(call.headers)


def setting_view(app: Application, call: Call, key: str, saved: Any) -> SettingView:
    """A setting of the program, or a value of the administrator's own."""
    row = SETTINGS.get(key)
    if row is None:
        own = {"value": as_json(saved.value), "type": "json", "default": None, "group": "own"}
        return view_of(SettingView, saved, **own, editable=True, restart=False, source="saved")
    value = app.settings[key]
    return view_of(
        SettingView,
        row,
        value=MASK if row.secret and value else value,
        type=row.kind,
        minimum=row.low,
        maximum=row.high,
        restart=row.start_only or row.next_start,
        editable=setting_fault(app, call, row) is None,
        source=app.settings.source(key),
        updated_at=iso(saved.updated_at) if saved else None,
    )


def setting_fault(
    app: Application, call: Call, row: Setting, by_switch: bool = False
) -> Problem | None:
    """Why a setting can't be changed, if so: it is fixed at the start, but for what the page of the
    network has a switch for; or it would open the server wider, which who reaches it by the network
    may not."""
    source = app.settings.source(row.key)
    if source in ("command line", "environment"):
        return Problem("setting_fixed", f"{row.key} was given when the program started ({source}).")
    if row.has_option and not by_switch:
        how = "by POST /api/network" if row.switched else "when the program starts"
        return Problem("setting_fixed", f"{row.key} is given {how}.")
    if row.group == "network" and not is_from_here(call):
        return Problem("only_from_here", f"{row.key} can be changed on the server's own computer.")
    return None


@route("GET", "/api/settings", "admin", "List the settings")
def list_settings(app: Application, call: Call) -> list[SettingView]:
    """Every setting with its value, where that comes from, and what it takes."""
    saved = {row.key: row for row in ServerSetting.select()}
    return [setting_view(app, call, key, saved.get(key)) for key in {**SETTINGS, **saved}]


@route("POST", "/api/settings", "admin", "Change a setting", limit=LARGE)
def change_setting(
    app: Application,
    call: Call,
    key: SettingKey,
    value: Any,
    description: Description | None = None,
) -> SettingView:
    """In force at once, on every node, but for what says `restart`: that is at the next start. A
    value of your own has a key that begins with `x-`."""
    if key.startswith("x-"):
        return save_setting(app, call, key, to_json(value), description)
    row = SETTINGS.get(key)
    if row is None:
        why = f"{key}: {unknown_setting(key)}. A key of your own begins with x-."
        raise Problem("unknown_setting", why)
    if fault := setting_fault(app, call, row):
        raise fault
    try:
        text = setting_text(value)
        if row.secret and text == MASK:
            raise ValueError(f"{key}: {MASK} is shown in its place, and is not kept")
        parse_setting(row, text)
    except ValueError as error:
        raise Problem("invalid", errors=[("value", str(error))]) from None
    return save_setting(app, call, key, text, description)


def save_setting(
    app: Application, call: Call, key: str, text: str, description: str | None, **told: Any
) -> SettingView:
    """Save a setting for every node; the event log is `told` of it."""
    saved = {"key": key, "value": text, "description": description, "updated_at": now_ms()}
    app.storage.write(lambda tx: upsert(tx.database, ServerSetting, **saved))
    app.settings_changed()
    app.audit(call, "Setting changed", key=key, **told)
    return setting_view(app, call, key, ServerSetting.get_by_id(key))


def setting_text(value: Any) -> str:
    """A setting's value as the text that `parse_setting` takes; None is none. Raises ValueError."""
    if isinstance(value, (list, tuple)) and all(isinstance(part, str) for part in value):
        value = ",".join(value)
    if isinstance(value, (list, tuple, dict)) or "\0" in str(value):  # PostgreSQL takes no NUL
        raise ValueError("must be a text without NUL, a number, a list of texts, true or false")
    return "" if value is None else str(value)


@route("DELETE", "/api/settings/<key>", "admin", "Set a setting back to its default")
def reset_setting(app: Application, call: Call, key: str) -> SettingView | Success:
    """Also removes a value of one's own."""
    row = SETTINGS.get(key)
    if row is not None and (fault := setting_fault(app, call, row)):
        raise fault
    query = ServerSetting.delete().where(ServerSetting.key == key)
    removed = app.storage.write(lambda tx: query.execute(tx.database))
    if not removed and row is None:
        raise Problem("not_found", f"{key}: {unknown_setting(key)}.")
    app.settings_changed()
    app.audit(call, "Setting set back", key=key)
    return DONE if row is None else setting_view(app, call, key, None)


@route("GET", "/api/nodes", "admin", "List the nodes")
def list_nodes(app: Application) -> list[NodeView]:
    """The server processes on this database, oldest first; on SQLite there is only this one."""
    return app.nodes.described()


class DashboardView(msgspec.Struct):
    """Statistics, and the newest of each list."""

    stats: StatsView
    connections: list[ConnectionView]
    messages: list[MessageView]
    logs: list[LogView]
    rooms: list[RoomView]
    settings: list[SettingView]


@route("GET", "/api/admin/dashboard", "admin", "What a dashboard shows first, in one call")
def dashboard(app: Application, call: Call) -> DashboardView:
    """Statistics, and the newest of each list."""
    where = (Message.kind == MESSAGE) & ~Message.topic.startswith(DIRECT)
    return DashboardView(
        app.stats_view(),
        [view_of(ConnectionView, row) for row in app.nodes.newest(20)],
        stored_views(app, where, 20),
        log_views(app, LogFilter().condition(app), None, 20),
        shared_rooms(app, call, app.rooms.active(0, 20)),
        list_settings(app, call),
    )


@route("GET", "/api/backup", "admin", "Download a backup of the database", gives=SQLITE)
def backup(app: Application, call: Call) -> Answer:
    """A consistent copy, made while the server runs. It holds everything, token hashes too."""
    app.journal.flush()
    path = app.storage.folder / f"backup-{secrets.token_hex(8)}.tmp"
    app.storage.backup(path)
    app.audit(call, "Backup downloaded")
    stamp, size = time.strftime("%Y%m%d-%H%M%S", time.gmtime()), path.stat().st_size
    name = f'attachment; filename="rtapp-{stamp}.db"'
    headers = {"Content-Type": SQLITE, "Content-Disposition": name, "Content-Length": str(size)}

    def parts() -> Iterator[bytes]:
        try:
            yield from file_parts(open(path, "rb"), 0, size)  # noqa: SIM115 - closes it
        finally:
            path.unlink(missing_ok=True)

    return Answer(parts(), headers=headers)


@route("GET", "/metrics", "metrics", "Metrics for Prometheus", gives=TEXT)
def metrics(app: Application) -> Answer:
    """For administrators, or with the setting metrics_token as bearer token."""
    from prometheus_client import core, generate_latest  # slow to import

    now, memory = app.stats_view(), app.hub.memory()
    gauge, total = core.GaugeMetricFamily, core.CounterMetricFamily
    latency = now.publish_latency_ms
    live = gauge("rtapp_live_connections", "Now", labels=["transport"])
    for transport, count in app.hub.audience.by_transport().items():
        live.add_metric([transport], count)
    families = [
        gauge("rtapp_ring_bytes", "Memory of the newest messages", memory["bytes"]),
        gauge("rtapp_ring_entries", "Messages in memory", memory["entries"]),
        gauge("rtapp_uptime_seconds", "Since the start", now.uptime),
        gauge("rtapp_memory_bytes", "Resident memory", now.memory_bytes),
        gauge("rtapp_database_bytes", "Size of the database", now.database_bytes),
        gauge("rtapp_log_head", "Newest id of the log", app.log.head),
        gauge("rtapp_video_rooms", "Active video rooms", now.active_video_rooms),
        gauge("rtapp_video_participants", "People in them", now.video_participants),
        gauge("rtapp_publish_latency_p50_ms", "Median time to store", latency["p50"]),
        gauge("rtapp_publish_latency_p99_ms", "99th percentile of it", latency["p99"]),
        total("rtapp_connections", "Streams opened", now.total_connections),
        total("rtapp_messages", "Messages published", now.messages_sent),
        total("rtapp_deliveries", "Messages delivered", now.deliveries),
        total("rtapp_sent_bytes", "Bytes sent to streams", now.bytes_sent),
        total("rtapp_catch_up_reads", "Pages read for streams behind the ring", now.catch_up_reads),
        live,
    ]
    text = generate_latest(cast(Any, SimpleNamespace(collect=lambda: families)))
    return Answer(text, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})


# Signing in


@route("POST", "/api/auth/setup", "public", "Make the first administrator")
def setup(
    app: Application, call: Call, username: Username, password: Secret, token: Secret
) -> SignedIn:
    """By the token of the link that the program printed; it is used up."""
    user = app.access.add_user(username, password, "admin", token)
    app.audit(call, "First administrator made", username=user.username)
    return app.access.sign_in(call, user)


@route("POST", "/api/auth/redeem", "public", "Sign in by a link of the program")
def redeem(app: Application, call: Call, token: Secret) -> SignedIn:
    """For the browser that the program itself opens; the token is used up."""
    may_own = ["owner"] if app.access.is_at_desktop(call) else []
    link = app.access.redeem(token, "signin", *may_own)
    if link.kind == "owner":
        return app.access.sign_in(call, None, msgspec.json.decode(link.grants, type=Grants))
    user = User.select().where(User.role == "admin").order_by(User.id).first()
    if user is None:
        raise Problem("invalid_link", REFUSALS["signin"])
    return app.access.sign_in(call, user)


@route("POST", "/api/auth/login", "public", "Sign in")
def login(app: Application, call: Call, username: Username, password: Secret) -> SignedIn:
    """By name and password."""
    try:
        user = app.access.log_in(username, password, call.address)
    except Problem as problem:
        about = {"username": username, "ipAddress": call.address}
        app.journal.add("WARN", f"Sign-in refused: {problem.title}", **about)
        raise
    return app.access.sign_in(call, user)


class Me(msgspec.Struct, rename="camel"):
    """Who asks, and what it may be offered."""

    authenticated: bool
    role: str
    username: str | None
    access: str
    guests: bool
    setup_needed: bool
    in_window: bool


@route("GET", "/api/auth/me", "public", "Who is signed in")
def me(app: Application, call: Call) -> Me:
    """Never an error: a page asks this to know what to offer."""
    principal = call.principal
    known = bool(principal.account)
    return Me(
        authenticated=known,
        role=principal.role,
        username=principal.name if known and principal.kind != "owner" else None,
        access=app.settings["access"],
        guests=app.settings["guests"],
        setup_needed=not known and not app.access.has_admin,
        in_window=WINDOW in principal.grants.scopes,
    )


@route("POST", "/api/auth/logout", "public", "Sign out")
def logout(app: Application, call: Call) -> None:
    """Ends the session of the request's cookie."""
    if call.principal.kind in ("user", "owner"):
        app.access.revoke([call.principal.credential])
    app.access.set_cookie(call, "", 0)


def own_user(call: Call) -> Any:
    """The user who is signed in. Raises Problem `forbidden` for tokens."""
    if call.principal.user_id is None:
        raise Problem("forbidden", "Sign in with a name and a password for this.")
    return User.get_by_id(call.principal.user_id)


@route("POST", "/api/auth/password", "session", "Change one's own password")
def change_password(app: Application, call: Call, current: Secret, password: Secret) -> SignedIn:
    """Ends the other sessions; this one goes on in a new one."""
    user = own_user(call)
    app.access.log_in(user.username, current, call.address)
    app.access.change_user(user, password=password)
    app.audit(call, "Password changed")
    return app.access.sign_in(call, User.get_by_id(user.id))


class SessionView(msgspec.Struct, rename="camel"):
    """A sign-in that lasts; `current` is the one that asks."""

    id: str
    current: bool
    ip_address: str
    user_agent: str
    created_at: Moment
    used_at: Moment | None
    expires_at: Moment


@route("GET", "/api/auth/sessions", "session", "List one's own sessions")
def list_sessions(app: Application, call: Call) -> list[SessionView]:
    """Newest first."""
    own, rows = call.principal.credential, app.access.sessions(own_user(call).id)
    return [view_of(SessionView, row, current=row.id == own) for row in rows]


class SessionsEnded(Success):
    """How many sessions were ended."""

    ended: int


@route("DELETE", "/api/auth/sessions", "session", "End all of one's other sessions")
def end_other_sessions(app: Application, call: Call) -> SessionsEnded:
    """This one stays."""
    ended = [session.id for session in list_sessions(app, call) if not session.current]
    app.access.revoke(ended)
    return SessionsEnded(True, len(ended))


@route("DELETE", "/api/auth/sessions/<session_id>", "session", "End one of one's own sessions")
def end_session(app: Application, call: Call, session_id: str) -> None:
    """Its streams are closed."""
    own = [session.id for session in list_sessions(app, call) if session.id == session_id]
    app.access.revoke(existing(own, "You have no such session."))


class TicketView(msgspec.Struct, rename="camel"):
    """What opens a stream once, within so many seconds."""

    ticket: str
    expires_in: int


@route("POST", "/api/auth/ticket", "stream", "Get a ticket for a stream", may_lack=True)
def ticket(app: Application, call: Call, session: SessionKey | None = None) -> TicketView:
    """For EventSource and WebSocket, which can't send headers: 30 seconds, single use. Of a
    `session` the stream has the `clientId`, so that the secret stands in no address."""
    who = call.principal
    whose = {"name": who.subject, "user_id": who.user_id, "parent": who.credential}
    whose |= {"parent_kind": who.kind, "parent_expires_at": who.expires_at}
    whose |= {"suffix": f".{client_id_of(session)}"} if session else {}
    return TicketView(app.access.make_token("ticket", 30, who.grants, **whose), 30)


# Users and tokens


class UserView(msgspec.Struct, rename="camel"):
    """A user."""

    id: int
    username: str
    role: str
    created_at: Moment


@route("GET", "/api/users", "admin", "List the users")
def list_users(app: Application, call: Call) -> list[UserView]:
    """By name."""
    return [view_of(UserView, row) for row in User.select().order_by(User.username_key)]


def some_user(number: int) -> Any:
    """The user that a path names. Raises Problem `not_found`."""
    return existing(User.get_or_none(User.id == min(number, 2**62)), "There is no such user.")


@route("POST", "/api/users", "admin", "Make a user", gives={201: JSON})
def make_user(
    app: Application, call: Call, username: Username, password: Secret, role: UserRole = "user"
) -> UserView:
    """201 with the user."""
    user = app.access.add_user(username, password, role)
    app.audit(call, "User made", username=user.username, role=user.role)
    return view_of(UserView, user)


@route("PATCH", "/api/users/<user_id:int>", "admin", "Change a user's password or role")
def change_user(
    app: Application,
    call: Call,
    user_id: int,
    password: Secret | None = None,
    role: UserRole | None = None,
) -> UserView:
    """Ends the user's sessions."""
    user = some_user(user_id)
    app.access.change_user(user, password, role)
    app.audit(call, "User changed", username=user.username)
    return view_of(UserView, User.get_by_id(user.id))


@route("DELETE", "/api/users/<user_id:int>", "admin", "Remove a user")
def remove_user(app: Application, call: Call, user_id: int) -> None:
    """Ends the user's sessions. The last administrator stays."""
    user = some_user(user_id)
    app.access.change_user(user, removes=True)
    app.audit(call, "User removed", username=user.username)


class TokenView(msgspec.Struct, rename="camel"):
    """An API token; without `channels` it is good for all."""

    id: str
    name: str
    scopes: tuple[str, ...]
    channels: tuple[str, ...] | None
    created_at: Moment
    used_at: Moment | None
    expires_at: Moment


class NewToken(TokenView):
    """An API token with its secret."""

    token: str


@route("GET", "/api/tokens", "admin", "List the API tokens")
def list_api_tokens(app: Application, call: Call) -> list[TokenView]:
    """By name; the secrets are not kept."""
    app.access.flush()
    rows = AccessToken.select().where(AccessToken.kind == "api").order_by(AccessToken.name)
    return [token_view(TokenView, row) for row in rows]


def token_view(kind: type[V], row: Any, **more: Any) -> V:
    grants = msgspec.json.decode(row.grants, type=Grants)
    return view_of(kind, row, scopes=grants.scopes, channels=grants.subscribe, **more)


@route("POST", "/api/tokens", "admin", "Make an API token", gives={201: JSON})
def make_api_token(
    app: Application,
    call: Call,
    name: TokenName,
    scopes: Scopes = ("subscribe", "publish"),
    channels: Patterns | None = None,
    days: Days = 365.0,
) -> NewToken:
    """201 with the secret, which is shown this once."""
    if AccessToken.get_or_none((AccessToken.kind == "api") & (AccessToken.name == name)):
        raise Problem("token_exists", f"There is a token {name} already.")
    grants = Grants(scopes, channels, channels)
    secret = app.access.make_token("api", days * 86_400, grants, name=name)
    app.audit(call, "API token made", name=name)
    return token_view(NewToken, AccessToken.get_by_id(sha256(secret)), token=secret)


@route("DELETE", "/api/tokens/<token_id>", "admin", "Revoke an API token")
def revoke_api_token(app: Application, call: Call, token_id: str) -> None:
    """Streams that were opened with it are closed."""
    rows = [row for row in list_api_tokens(app, call) if token_id in (row.id, row.name)]
    app.access.revoke([row.id for row in existing(rows, "There is no such token.")])
    app.audit(call, "API token revoked", name=rows[0].name)


# Health and pages


@route("GET", "/healthz", "public", "Whether the process is alive")
def healthz() -> dict[str, str]:
    """For a supervisor: answers as long as the loop turns."""
    return {"status": "ok", "version": __version__}


@route("GET", "/readyz", "public", "Whether requests can be served")
def readyz(app: Application) -> dict[str, str]:
    """For a load balancer: 503 while stopping, or when the database is away or stores nothing."""
    if app.stopping:
        raise Problem("stopping")
    if app.storage.fault or app.nodes.is_away:
        raise Problem("storage_unavailable")
    return {"status": "ready"}


@route("GET", "/", "public", "The start page", gives=HTML)
def start_page(app: Application, call: Call) -> Answer:
    """Live messages, and how to send some."""
    return own_page(app, call, "") if app.settings["public"] else app.static.page("index.html")


@route("GET", "/admin", "public", "The dashboard", gives=HTML)
def admin_page(app: Application) -> Answer:
    """A page of public calls: what it shows, it asks for as the administrator who signed in."""
    return app.static.page("admin.html")


@route("GET", "/room/<room_id>", "public", "A video room's page", gives=HTML)
def room_page(app: Application, call: Call, room_id: str) -> Answer:
    """The same for every room: the page itself asks for it. The desktop's window holds no call,
    and shows instead that the browser does."""
    if WINDOW in call.principal.grants.scopes:
        return Answer(b"", 303, {"Location": f"../desktop#call={urllib.parse.quote(room_id)}"})
    answer = app.static.page("room.html", "../")
    if origins := app.settings["frame_ancestors"]:
        name = "Content-Security-Policy"
        policy = PAGE_HEADERS[name].replace("ancestors 'none'", f"ancestors {' '.join(origins)}")
        answer.headers = {**PAGE_HEADERS, name: policy}
    return answer


@route("GET", "/api/docs", "public", "The API as a page", gives=HTML)
def docs_page(app: Application) -> Answer:
    """Shows /api/openapi.json; works offline."""
    return app.static.page("docs.html", "../")


@route("GET", "/docs", "public", "The list of guides", gives=HTML)
def guides_page(app: Application, call: Call) -> Answer:
    return guide_page(app, call, "")


@route("GET", "/docs/<name>", "public", "A guide", gives=HTML)
def guide_page(app: Application, call: Call, name: str) -> Answer:
    """Shows `static/docs/NAME.md`, offline; a folder `docs` of your own pages is served instead."""
    if (own := app.settings["public"]) and (Path(own) / "docs").exists():
        return own_page(app, call, f"docs/{name}".rstrip("/"))
    app.static.file(f"docs/{name or 'README'}.md")
    return app.static.page("guides.html", "../" if name else "")


@route("GET", "/static/<path:path>", "public", "A static file", gives="*/*")
def static_file(app: Application, call: Call, path: str) -> Answer:
    """Under the folder's hash it never changes, so browsers keep it for ever; else they ask."""
    return app.static.file(path, call.headers.get("if-none-match", ""))


def own_page(app: Application, call: Call, path: str) -> Answer:
    """A file of the setting `public`; a folder's is its `index.html`. Raises Problem `not_found`,
    `range_not_satisfiable`."""
    root, has_slash = Path(app.settings["public"]).resolve(), path[-1:] in ("", "/")
    try:
        if PurePath(path).anchor:  # of another machine, on Windows: not even to be looked for
            raise Problem("not_found")
        is_folder = (root / path).is_dir()
        found = (root / path / ("index.html" if is_folder else "")).resolve()
        # Hidden, as .git or .env, also where a link leads; Kubernetes' lead through ..data.
        asked, led_to = "/".join(PurePath(path).parts), found.relative_to(root).as_posix()
        is_hidden = re.search(r"(^|/)\.", asked) or re.search(r"(^|/)\.[^.]", led_to)
        if is_hidden or not found.is_file() or (has_slash and not is_folder):  # a pipe would wait
            raise Problem("not_found")
        if is_folder and not has_slash:  # its links are relative to it
            query = f"?{call.raw_query}" if call.raw_query else ""
            where = f"./{urllib.parse.quote(PurePath(path).name)}/{query}"
            return Answer(b"", 308, {"Location": where})
        return file_answer(call, found)
    except (OSError, ValueError, RuntimeError):  # the last: links in a circle, before Python 3.13
        raise Problem("not_found") from None


def is_known(known: str, tag: str) -> bool:
    """Whether a client has what is of a tag, by If-None-Match (RFC 9110, 13.1.2)."""
    return known.strip() == "*" or tag in re.findall(r'"[^"]*"', known)


def file_answer(call: Call, path: Path) -> Answer:
    """A file as it is asked for: all of it or a part (RFC 9110, 14), or that the client has it as
    it is (RFC 9110, 13). Raises OSError, Problem `other_version`, `range_not_satisfiable`."""
    status = path.stat()
    size, changed = status.st_size, int(status.st_mtime)
    tag, date = f'"{status.st_mtime_ns:x}-{size:x}"', email.utils.formatdate(changed, usegmt=True)
    headers = {"Cache-Control": "no-cache", "ETag": tag, "Last-Modified": date}
    wanted, until = (call.headers.get(f"if-{name}") for name in ("match", "unmodified-since"))
    if wanted is not None:
        is_wanted = wanted.strip() == "*" or tag in map(str.strip, wanted.split(","))
    else:
        latest = bottle.parse_date(until or "")
        is_wanted = latest is None or changed <= latest
    if not is_wanted:
        raise Problem("other_version", headers=headers)
    known, since = (call.headers.get(f"if-{name}") for name in ("none-match", "modified-since"))
    latest = bottle.parse_date(since or "") or -1
    if is_known(known, tag) if known is not None else changed <= latest:
        return Answer(b"", 304, headers)
    headers |= {"Content-Type": media_type(path.name), "Accept-Ranges": "bytes"}
    part = None
    if call.method == "GET" and call.headers.get("if-range", tag) in (tag, date):
        part = asked_range(call.headers.get("range", ""), size)
    start, end = part or (0, size)
    if part is not None:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    headers["Content-Length"] = str(end - start)
    body = file_parts(open(path, "rb"), start, end)  # noqa: SIM115 - closes it
    return Answer(body, 206 if part else 200, headers)


def asked_range(text: str, size: int) -> tuple[int, int] | None:
    """From and up to where a Range field asks for (RFC 9110, 14.1.2); None for all of it, also
    where it names several parts or none. Raises Problem `range_not_satisfiable`."""
    found = re.fullmatch(r"(?i:bytes)=[ \t]*(\d{0,18})-(\d{0,18})[ \t]*", text)
    first, last = found.groups() if found else ("", "")
    if not first + last or (first and last and int(first) > int(last)):
        return None
    start = int(first) if first else max(0, size - int(last))
    if start >= size:
        raise Problem("range_not_satisfiable", headers={"Content-Range": f"bytes */{size}"})
    return start, min(int(last) + 1, size) if first and last else size


def file_parts(file: io.BufferedReader, start: int, end: int) -> Iterator[bytes]:
    """A file's bytes, in pieces. Raises OSError when it has become shorter than was announced."""
    with file:
        file.seek(start)
        for at in paced(range(start, end, 262_144)):
            wanted = min(end - at, 262_144)
            part = file.read(wanted)
            if len(part) < wanted:
                raise OSError(f"{file.name} became shorter while it was sent")
            yield part


# Declared last and only where there are such pages, since it answers for every path.
OWN_PAGES = Route("GET", "/<path:path>", "public", "Your own pages", gives="*/*")
OWN_PAGES.handler = own_page

PAGE_HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Cache-Control": "no-cache",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
        "media-src 'self' blob:; connect-src 'self'; font-src 'self'; frame-ancestors 'none'; "
        "base-uri 'none'; form-action 'self'; manifest-src 'self'"
    ),
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(self), microphone=(self), display-capture=(self)",
    "Cross-Origin-Opener-Policy": "same-origin",
}
TYPES = {  # of our own files; what Windows says of some is whatever was installed there last
    ".css": "text/css",
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".json": JSON,
    ".svg": SVG,
    ".html": HTML,
    ".woff2": "font/woff2",
    ".png": "image/png",
    ".txt": TEXT,
    ".md": "text/markdown",
}


def media_type(name: str) -> str:
    """What a file is, by its name; of one that is packed it is the packing, as of `a.tar.gz`."""
    kind, packing = mimetypes.guess_type(name)
    if packing:
        kind = "application/gzip" if packing == "gzip" else f"application/x-{packing}"
    kind = TYPES.get(PurePath(name).suffix.lower(), kind) or "application/octet-stream"
    return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind


class Static:
    """The files of `static/`, read once: they are few and small."""

    # What begins the keys of a room's texts: its page is opened on a phone, by a link.
    ROOM_TEXTS = (
        *("copy.", "error.", "form.", "notice.", "page.", "password.", "room.", "theme."),
        *("signin.button", "test.link"),
    )
    PRELOAD = '  <link rel="modulepreload" href="static/{}">\n'

    def __init__(self, folder: Path) -> None:
        self._files = {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.suffix in TYPES
        }
        head, header = (self._files.pop(f"head{end}.html").decode() for end in ("", "er"))
        names = [*self._files]
        languages = [name[5:-5] for name in names if re.fullmatch(r"i18n/\w+\.json", name)]
        for language in languages:
            texts = msgspec.json.decode(self._files[f"i18n/{language}.json"], type=dict[str, str])
            part = {key: text for key, text in texts.items() if key.startswith(self.ROOM_TEXTS)}
            self._files[f"i18n/room.{language}.json"] = msgspec.json.encode(part)
        for name in names:
            if name.endswith(".html"):
                page = self._files[name].decode()
                page = page.replace("<html", f'<html data-languages="{" ".join(languages)}"')
                loads = "".join(map(self.PRELOAD.format, self._modules(page)))
                page = page.replace("  <!-- head -->\n", head).replace("</head>", f"{loads}</head>")
                here = re.compile(f'(?:hidden )?data-page="{name[:-5]}"')
                above = here.sub('aria-current="page"', header)
                page = page.replace("  <!-- header -->\n", above)
                self._files[name] = page.encode()
        whole = hashlib.sha256()
        for name, content in self._files.items():
            whole.update(name.encode() + b"\0" + content)
        self.version = whole.hexdigest()[:12]

    def _modules(self, page: str) -> list[str]:
        """Its script and all that this needs at once: a browser need not find them one by one."""
        names = re.findall(r'(?s)<!-- head -->.*"module" src="static/([^"]+)"', page)
        lines = re.compile(r"^(?:import|export) (?:[^;'(=]+ from )?'(\.[^']+)'", re.MULTILINE)
        for name in names:  # which grow meanwhile
            for other in lines.findall(self._files[name].decode()):
                if (path := urllib.parse.urljoin(name, other)) not in names:
                    names.append(path)
        return names

    def page(self, name: str, up: str = "") -> Answer:
        """A page with links to this version's files; `up` leads from its folder to the root."""
        content = self._files[name].replace(b'"static/', f'"{up}static/{self.version}/'.encode())
        return Answer(content, headers=PAGE_HEADERS, compress=True)

    def file(self, path: str, known: str = "") -> Answer:
        """A file by `<version>/<name>` or `<name>`, of which the client may have versions. Raises
        Problem `not_found`."""
        name = path.removeprefix(f"{self.version}/")
        if name not in self._files or name.endswith(".html"):
            raise Problem("not_found")
        cache = "public, max-age=31536000, immutable" if name != path else "no-cache"
        # Weak, as it is the same where the bytes are packed.
        headers = {"Cache-Control": cache, "ETag": f'W/"{self.version}"'}
        if is_known(known, f'"{self.version}"'):
            return Answer(b"", 304, headers, compress=True)
        headers["Content-Type"] = media_type(name)
        return Answer(self._files[name], headers=headers, compress=True)


# The API as OpenAPI 3.1


HEADERS = {  # what calls take besides the query
    "/api/events": {"Last-Event-ID": {"type": "string"}},
    "/api/broadcast": {"Idempotency-Key": {"type": "string", "pattern": "^[!-~]{1,255}$"}},
}
EXAMPLES: dict[Any, Any] = {  # by the name of a field, else by its type
    "clientId": "pmWkWSBCL51Bfkhn79xPu",
    "displayName": "Ada",
    "ipAddress": "192.168.1.20",
    "joinUrl": "https://rtapp.example/room/stand-up",
    "lastEventId": "k3x9q-42",
    "path": "/admin",
    "role": "user",
    "roomId": "stand-up",
    "session": "Zm9ydHktdHdvLWJ5dGVzLQ",
    "transport": "sse",
    "username": "ada",
    "version": "1.0.0",
    "boolean": True,
    "integer": 42,
    "number": 1.5,
    "string": "text",
    None: {"message": "Hello"},
}


@route("GET", "/api/openapi.json", "public", "The API as OpenAPI 3.1")
@cache
def openapi() -> dict[str, Any]:
    """Made from the table of routes, so that it says what the server does."""
    kinds = [kind for row in ROUTES for kind in (*row.asked.values(), *row.shown)] + [ProblemView]
    where = "#/components/schemas/{name}"
    found, shared = msgspec.json.schema_components(kinds, ref_template=where)
    schemas = dict(zip(kinds, found, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for row in ROUTES:
        path = re.sub(r"<(\w+)(?::\w+)?>", r"{\1}", row.path)
        paths.setdefault(path, {})[row.method.lower()] = operation(row, path, schemas, shared)
    schemes = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "cookie": {"type": "apiKey", "in": "cookie", "name": "rtapp_<id>"},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "rtapp", "version": __version__, "description": "A real-time server."},
        "paths": paths,
        "components": {"schemas": shared, "securitySchemes": schemes},
    }


def operation(row: Route, path: str, schemas: dict[Any, Any], shared: Any) -> dict[str, Any]:
    asked, shown = row.asked, row.shown
    query = shared[asked["query"].__name__] if "query" in asked else {"properties": {}}
    parameter = ("name", "in", "required", "schema")
    types, in_path = {"int": "integer"}, re.findall(r"<(\w+):?(\w*)>", row.path)
    taken = [
        *[(name, "path", True, {"type": types.get(kind, "string")}) for name, kind in in_path],
        *[(n, "query", n in query["required"], kind) for n, kind in query["properties"].items()],
        *[(name, "header", False, kind) for name, kind in HEADERS.get(path, {}).items()],
    ]

    def content(media: str, kinds: Sequence[Any]) -> dict[str, Any]:
        """Bodies by their media types: JSON with its schema and an example."""
        found: dict[str, Any] = {kind: {"schema": {}} for kind in media.split(", ") if kind}
        if JSON in found and kinds:
            each = [schemas[kind] for kind in kinds]
            schema = each[0] if len(each) == 1 else {"anyOf": each}
            found[JSON] = {"schema": schema, "example": example(schema, shared)}
        return found

    apart = len(shown) == len(row.answers)  # else each status may have any of them
    problem = {"application/problem+json": {"schema": schemas[ProblemView]}}
    responses = {"default": {"description": "A problem", "content": problem}}
    for at, (status, media) in enumerate(row.answers.items()):
        given = content(media, [shown[at]] if apart else shown)
        responses[str(status)] = {"description": http.client.responses[status], "content": given}
    described: dict[str, Any] = {
        "operationId": row.handler.__name__,
        "summary": row.summary,
        "description": inspect.getdoc(row.handler),
        "x-role": row.role,
        "parameters": [dict(zip(parameter, each, strict=True)) for each in taken],
        "responses": responses,
    }
    if row.role != "public":
        described["security"] = [{"bearer": []}, {"cookie": []}]
    body = [asked["body"]] if "body" in asked else []
    if media := row.takes or (JSON if body else ""):
        described["requestBody"] = {"required": not row.may_lack, "content": content(media, body)}
    return described


def example(schema: dict[str, Any], shared: dict[str, Any], name: str = "") -> Any:
    """A value that a schema allows."""
    if "$ref" in schema:
        return example(shared[schema["$ref"].rpartition("/")[2]], shared)
    if "anyOf" in schema:
        return example(schema["anyOf"][0], shared, name)
    kind = schema.get("type")
    if kind == "object":
        fields = schema.get("properties", {}).items()
        return {name: example(field, shared, name) for name, field in fields}
    if kind == "array":
        return [example(schema.get("items", {}), shared)]
    known = schema.get("examples", schema.get("enum", ()))
    return next(iter(known), EXAMPLES[name if kind == "string" and name in EXAMPLES else kind])


def allow_header(methods: set[str]) -> str:
    """`Allow` (RFC 9110, 10.2.1): who answers GET answers HEAD too."""
    return ", ".join(sorted(methods | {"HEAD"} if "GET" in methods else methods))


class Web:
    """Answers requests: Bottle finds the route; it is guarded here, and its answer or error put
    into HTTP. Not by Bottle's request and response, which are looked up anew for each thing that
    is asked or said of them: that took a quarter of a request's time."""

    # Opening a stream is bounded by their number, signals by a bucket of each client.
    UNCOUNTED = ("/api/events", "/api/webrtc/signal")
    # Where no person looks for a page.
    PROGRAMS = ("/api/", "/ws", "/socket.io/", "/engine.io/")
    # What sets or takes away the cookie.
    SIGNING_IN = tuple(f"/api/auth/{name}" for name in ("setup", "redeem", "login", "logout"))
    # A list of names as a browser asks for them; not `*`, which would be all.
    FIELD_NAMES = re.compile(r"[!#$%&'+.^_`|~\w-]+(?:[ \t]*,[ \t]*[!#$%&'+.^_`|~\w-]+)*", re.ASCII)

    def __init__(self, app: Application) -> None:
        self._app = app
        self._router = bottle.Router()
        self._rows = [*ROUTES, OWN_PAGES] if app.settings["public"] else ROUTES
        for row in self._rows:
            self._router.add(row.path, row.method, partial(self._serve, row))
        # RFC 9110, 9.3.7: "*" is all of it.
        for path in ("*", *dict.fromkeys(row.path for row in self._rows)):
            self._router.add(path, "OPTIONS", partial(self._options, path))

    def answer(self, call: Call) -> Answer:
        """A request's answer: its body as bytes, or as parts where its length isn't known."""
        call.reply["X-Content-Type-Options"] = "nosniff"
        path = call.path if call.path != "/socket.io" else "/socket.io/"  # as some clients ask
        try:
            if NOT_UTF8.search(path):
                raise Problem("not_found")
            # Bottle would take them for ours in any case (RFC 9110, 9.1).
            method = call.method if call.method.isupper() else "-"
            asked = {"REQUEST_METHOD": method, "PATH_INFO": path}
            serve, call.arguments = self._router.match(asked)
            return self._finished(serve(call), call)
        except Exception as error:
            return self._finished(self._problem(error, call), call)

    def _serve(self, row: Route, call: Call) -> Answer:
        """Who asks, from where, and may they; then for what: its handler gets what it names."""
        self._guard(row, call)
        given, asked = {"app": self._app, "call": call, **call.arguments}, None
        for part, kind in row.asked.items():
            if part == "query":
                values = {key: v if key in row.lists else v[-1] for key, v in call.query.items()}
            else:
                limit = row.limit if isinstance(row.limit, int) else self._app.settings[row.limit]
                is_bare = row.may_lack and "authorization" in call.headers and not call.content_type
                values = {} if is_bare else parse_json(call.json_body(limit)).value
                if not isinstance(values, dict):
                    raise Problem("invalid", "The body must be a JSON object.")
            given[part] = asked = convert(values, kind, strict=part == "body")
        if "who" in row.hints:
            given["who"] = visitor(self._app, call, asked)
        names = [name for name in row.hints if name != "return"]
        result = row.handler(**{n: given[n] if n in given else getattr(asked, n) for n in names})
        if isinstance(result, Answer):
            return result
        return Answer(DONE if result is None else result, next(iter(row.answers)))

    def _guard(self, row: Route, call: Call) -> None:
        """Find out who asks and from where, and refuse who may not. Requests are counted, failed
        ones too, but for whom nobody limits."""
        access = self._app.access
        access.check_host(call)
        guarded = row.path.startswith(self.PROGRAMS)
        guarded = guarded and row.path != "/socket.io/<name>"  # a script, for any site's pages
        is_link = call.headers.get("sec-fetch-mode") == "navigate" and HTML in row.answers.values()
        access.admit_page(call, is_link, guarded, row.path in self.SIGNING_IN)
        if (seconds := self._app.settings["hsts"]) and call.scheme == "https":
            call.reply["Strict-Transport-Security"] = f"max-age={seconds}"
        try:
            principal = access.authenticate(call, row.asked.get("query") is EventsQuery)
        except Problem:
            access.limit_request(ANONYMOUS._replace(address=call.address))
            raise
        call.principal = principal._replace(address=call.address)
        if row.path.startswith("/api/") and row.path not in self.UNCOUNTED:
            access.limit_request(call.principal)
        access.require(call.principal, row.role)

    def _finished(self, answer: Answer, call: Call) -> Answer:
        """An answer with its body in bytes and all its headers."""
        body, headers = answer.body, call.reply
        if isinstance(body, Iterator):
            body = self._parts(body, call)
            next(body)  # what goes wrong in its first part is the answer
        elif not isinstance(body, bytes):
            body = msgspec.json.encode(body)
        if answer.status != 101:
            headers["Cache-Control"] = "no-store"
            if answer.status not in (204, 304):
                headers["Content-Type"] = JSON
        headers.update(answer.headers)
        if answer.compress:
            headers["Vary"] = ", ".join(filter(None, (headers.get("Vary"), "Accept-Encoding")))
            takes = takes_gzip(call.headers.get("accept-encoding", ""))
            if takes and len(gzipped(body)) < len(body):
                headers["Content-Encoding"] = "gzip"
                body = gzipped(body)
        return Answer(body, answer.status, headers, answer.attach)

    def _parts(self, parts: Iterator[bytes], call: Call) -> Iterator[bytes]:
        """A body's parts, behind an empty one; a later fault breaks the connection off."""
        with contextlib.closing(cast("Generator[bytes, None, None]", parts)):
            first = next(parts, b"")
            yield b""
            yield first
            try:
                yield from parts
            except Exception as error:
                self._unexpected(error, call)
                raise ConnectionAbortedError from None

    def _problem(self, error: Exception, call: Call) -> Answer:
        """The answer to a request that failed, and a note of it for the administrator."""
        if isinstance(error, bottle.HTTPError):  # of the router
            if "Allow" in error.headers:
                methods = {"OPTIONS", *error.headers["Allow"].split(",")}
                call.reply["Allow"] = allow_header(methods)
            codes = {404: "not_found", 405: "method_not_allowed"}
            error = Problem(codes.get(error.status_code, "malformed"))
            self._app.access.admit_page(call)  # who may call this server may hear that, too
        problem = error if isinstance(error, Problem) else self._unexpected(error, call)
        if problem.status not in (401, 404, 503):
            about = {"code": problem.code, "detail": problem.detail[:300], "path": call.path[:300]}
            about |= {"ipAddress": call.address}  # a stranger may fill the log with lines alone
            self._app.journal.add("INFO", f"Refused: {problem.title}", **about)
        is_page = call.method in ("GET", "HEAD") and not call.path.startswith(self.PROGRAMS)
        if problem.status == 404 and is_page and HTML in call.headers.get("accept", ""):
            depth = call.target.partition("?")[0].count("/") - 1
            answer = self._app.static.page("missing.html", "../" * depth)
            answer.status = 404
            return answer
        return problem_answer(problem)

    def _unexpected(self, error: Exception, call: Call) -> Problem:
        """Say nothing outside and everything in the log; the number connects the two."""
        number = secrets.token_hex(4)
        text = "".join(traceback.format_exception(error))
        self._app.journal.add(
            "ERROR", f"Request failed ({number}): {error!r}", traceback=text, path=call.path[:300]
        )
        return Problem("internal", f"Look for {number} in the server's log.")

    def _options(self, path: str, call: Call) -> Answer:
        """Which methods a path has; for other sites' pages, what they may send (CORS)."""
        self._app.access.check_host(call)
        found = (row.method for row in self._rows if path in (row.path, "*"))
        call.reply["Allow"] = methods = allow_header({"OPTIONS", *found})
        self._app.access.admit_page(call, sets_cookie=path in self.SIGNING_IN)
        if "Access-Control-Allow-Origin" in call.reply:
            call.reply["Access-Control-Allow-Methods"] = methods
            call.reply["Access-Control-Max-Age"] = "600"
            call.reply["Vary"] += ", Access-Control-Request-Headers"
            asked = call.headers.get("access-control-request-headers", "")
            if len(asked) <= 4_096 and self.FIELD_NAMES.fullmatch(asked):
                call.reply["Access-Control-Allow-Headers"] = asked
        return Answer(status=204)


# ----------------------------------------------------------------------------------------------
# Sockets
# ----------------------------------------------------------------------------------------------


def upgrade(call: Call, attach: Attach) -> Answer:
    """Answer a WebSocket handshake (RFC 6455, 4.2). Raises Problem `upgrade_required`."""
    field, headers = call.headers.get, {"Upgrade": "websocket"}
    key = field("sec-websocket-key", "")
    if (
        "websocket" not in field_list(field("upgrade", ""))
        or "upgrade" not in field_list(field("connection", ""))
        or call.version == "1.0"
        or field("sec-websocket-version") != "13"
        or not re.fullmatch(r"[A-Za-z0-9+/]{22}==", key)
        or call.method != "GET"
    ):
        headers["Sec-WebSocket-Version"] = "13"
        raise Problem("upgrade_required", "This is a WebSocket (RFC 6455).", headers=headers)
    headers |= {"Connection": "Upgrade", "Sec-WebSocket-Accept": accept_key(key)}
    offered = re.match(r"[\w!#$%&'*+.^`|~-]+", field("sec-websocket-protocol", ""))
    if offered:  # a browser fails where none is taken
        headers["Sec-WebSocket-Protocol"] = offered[0]
    return Answer(b"", 101, headers, attach)


class Framing:
    """The incoming side of a WebSocket (RFC 6455): bytes become whole messages."""

    __slots__ = ("_begun", "_is_text", "_protocol")

    def __init__(self, limit: int) -> None:
        self._protocol = WebSocketProtocol(Side.SERVER, max_size=limit)
        self._is_text, self._begun = True, bytearray()  # a message that comes in fragments

    def take(self, data: bytes) -> list[str | bytes]:
        """The messages that these bytes complete. Fragments are joined as they come: a list of them
        has no bound, since they may be empty."""
        self._protocol.receive_data(data)
        messages: list[str | bytes] = []
        for frame in cast("list[Frame]", self._protocol.events_received()):
            if frame.opcode in (Opcode.TEXT, Opcode.BINARY):
                self._is_text, self._begun = frame.opcode == Opcode.TEXT, bytearray()
            elif frame.opcode != Opcode.CONT:
                continue
            self._begun += frame.data
            if frame.fin:
                whole, self._begun = bytes(self._begun), bytearray()
                try:
                    if self._is_text:  # a byte order mark is no part of it (RFC 8259, 8.1)
                        messages.append(whole_characters(whole).decode().removeprefix("\ufeff"))
                    else:
                        messages.append(whole)
                except UnicodeDecodeError:
                    self._protocol.fail(CloseCode.INVALID_DATA, "not UTF-8")
        return messages

    def answer(self, hub: Hub, subscriber: Subscriber, reason: str) -> None:
        """Send pongs, and the close frame once either side has closed."""
        answers = b"".join(self._protocol.data_to_send())
        if self._protocol.close_expected():
            hub.close_after(subscriber, answers, reason)
        else:
            hub.reply(subscriber, answers)


@contextlib.contextmanager
def contained(journal: Journal, what: str) -> Iterator[None]:
    """As `reported`; a Timeout of gevent, or a kill, ends no more than this either."""
    with reported(journal, what):
        try:
            yield
        except (gevent.Timeout, gevent.GreenletExit, KeyboardInterrupt) as error:
            raise RuntimeError(repr(error)) from error


class Conversation:
    """What a client says, done in order by a greenlet that lives only while there is something.
    Who says more than is done is read from no further until half of it is done."""

    __slots__ = ("_size", "_waiting", "app", "subscriber")
    MOST = 256  # messages that wait before reading pauses
    MOST_BYTES = 2_097_152  # of theirs, also of the one that is being done

    def __init__(self, app: Application, subscriber: Subscriber) -> None:
        self.app = app
        self.subscriber = subscriber
        # None while there is nothing to do, as with thousands.
        self._waiting: deque[tuple[Callable[[], None], int]] | None = None
        self._size = 0

    def later(self, act: Callable[[], None], size: int = 0) -> None:
        """Do something that may wait, and holds so many bytes, after all that came before it."""
        if self._waiting is None:
            self._waiting = deque()
            Turn.spawn(self._work)
        self._waiting.append((act, size))
        self._hold(size)

    def apart(self, act: Callable[[], None], size: int) -> None:
        """Do something at once and out of order: a handler that runs may be waiting for it."""
        self._hold(size)
        Turn.spawn(self._perform, act, size)

    def _work(self) -> None:
        done = 0
        while self._waiting:
            self._perform(*self._waiting.popleft())
            done += 1
            if done % self.MOST == 0:  # none of them may have waited for anything
                gevent.sleep(0.001)
        self._waiting = None

    def _perform(self, act: Callable[[], None], size: int) -> None:
        with contained(self.app.journal, "A client's message failed"):
            act()
        self._hold(-size)

    def _hold(self, size: int) -> None:
        self._size += size
        count, is_paused = len(self._waiting or ()), self.subscriber.is_paused
        if not is_paused and (count > self.MOST or self._size > self.MOST_BYTES):
            self.app.hub.pause(self.subscriber)
        elif is_paused and count <= self.MOST // 2 and self._size <= self.MOST_BYTES // 2:
            self.app.hub.pause(self.subscriber, False)

    def connection_ended(self, subscriber: Subscriber, reason: str) -> None: ...
    def revoked(self, credentials: set[str]) -> None: ...  # not what its connection was opened by


def changed_channels(
    app: Application, principal: Principal, topics: frozenset[str], names: Channels, adds: bool
) -> frozenset[str]:
    """A connection's topics with these channels added or removed. Raises as `check_channel`, and
    Problem `invalid` when they are too many."""
    changed = frozenset(CHANNEL + name for name in names)
    if not adds:
        return topics - changed
    for name in names:
        app.access.check_channel(principal, "subscribe", name)
    if sum(channel_of(topic) is not None for topic in topics | changed) > MAX_CHANNELS:
        raise Problem("invalid", f"At most {MAX_CHANNELS} channels.")
    return topics | changed


# /ws


class Referred(msgspec.Struct):
    """A frame that can't be taken, of which only this is of use."""

    ref: str | int | None = None


class WsFrame(Referred, rename="camel", kw_only=True):
    """What a client says on `/ws`."""

    type: str
    channels: Channels = ()
    channel: Channel | None = None
    event: EventName | None = None
    to: ClientId | None = None
    volatile: bool = False
    data: msgspec.Raw = msgspec.Raw()
    room_id: RoomName | None = None
    display_name: PersonName | None = None
    password: Secret | None = None
    target_client_id: ClientId | None = None
    target_connection_id: ClientId | None = None
    signal_type: SignalType | None = None
    signal: Any = None


class WebSocketConversation(Conversation):
    """`/ws`: JSON objects in text frames."""

    __slots__ = ("_bad", "_framing", "_origin", "_room", "_visitor")
    MOST_BAD = 3
    COUNTED = ("join-room", "leave-room")  # as requests: everybody in the room hears of them

    def __init__(
        self, app: Application, principal: Principal, origin: str, subscriber: Subscriber
    ) -> None:
        super().__init__(app, subscriber)
        self._framing = Framing(app.settings["max_message_bytes"])
        self._visitor = Visitor(subscriber.client_id, principal)
        self._origin = origin
        self._bad = 0
        self._room = ""  # the one that was joined here last

    def received(self, subscriber: Subscriber, data: bytes) -> None:
        self.subscriber.answer_by = 0
        for message in self._framing.take(data):
            self.later(partial(self._handle, message), len(message))
        reason = "closed by the client or for its frames"
        self._framing.answer(self.app.hub, self.subscriber, reason)

    def _say(self, **body: Any) -> None:
        """Send an object, without a `ref` that there isn't."""
        if body.get("ref", "") is None:
            del body["ref"]
        self.app.hub.reply(self.subscriber, data_frame(to_json(body)))

    def _handle(self, message: str | bytes) -> None:
        heard = Referred()
        try:
            try:
                frame = heard = msgspec.json.decode(message, type=WsFrame)
            except (msgspec.DecodeError, RecursionError):
                with contextlib.suppress(msgspec.DecodeError, RecursionError):
                    heard = msgspec.json.decode(message, type=Referred)  # who need not wait on
                value = parse_json(message.encode() if isinstance(message, str) else message).value
                raise Problem("invalid", errors=list(faults(value, WsFrame))) from None
            self.app.rooms.attendance.heard(self.subscriber.client_id)
            if frame.type not in self.ACTS:
                raise Problem("unknown_type", f"Known are {', '.join(self.ACTS)}.")
            if frame.type in self.COUNTED:
                self.app.access.limit_request(self._visitor.principal)
            acknowledged = self.ACTS[frame.type](self, frame)
            if acknowledged is not None and frame.ref is not None:
                self._say(type="ack", ref=frame.ref, **acknowledged)
            self._bad = 0
        except Problem as problem:
            self._say(type="error", code=problem.code, message=str(problem), ref=heard.ref)
            is_bad = problem.code in ("malformed_json", "invalid", "unknown_type")
            self._bad = self._bad + 1 if is_bad else 0
            if self._bad >= self.MOST_BAD:
                last = close_frame(CloseCode.POLICY_VIOLATION, "three bad frames in a row")
                self.app.hub.close_after(self.subscriber, last, "three bad frames in a row")

    # What is done: what it gives is acknowledged, if that was asked for.

    def _change_channels(self, frame: WsFrame) -> dict[str, Any]:
        before, adds = self.subscriber.topics, frame.type == "subscribe"
        topics = changed_channels(self.app, self._visitor.principal, before, frame.channels, adds)
        self.app.hub.set_topics(self.subscriber, topics)
        return {}

    def _publish(self, frame: WsFrame) -> dict[str, Any]:
        if not frame.data:
            raise Problem("invalid", "data is required.")
        query, who = BroadcastQuery(frame.channel, frame.to, frame.event), self._visitor
        parsed = parse_json(bytes(frame.data))
        draft = make_draft(self.app, who.principal, query, parsed, who.client_id)
        if frame.volatile:
            self.app.nodes.volatile(draft)
            return {"id": None}
        return {"id": append(self.app, [draft])[0]}

    def _join_room(self, frame: WsFrame) -> None:
        room_id = frame.room_id or ""
        asked = room_id, frame.display_name, None, frame.password
        view = join_answer(self.app, self._origin, self._visitor, *asked)
        self._room = room_id
        about: dict[str, Any] = {"roomId": room_id, "isHost": view.participant.is_host}
        about |= {"participantCount": len(view.participants), **msgspec.to_builtins(view)}
        kind = "room-waiting" if isinstance(view, Waits) else "room-joined"
        self._say(type=kind, ref=frame.ref, **about)

    def _leave_room(self, frame: WsFrame) -> None:
        """The event `room-left` comes from the log, as for every other way of leaving."""
        self.app.rooms.leave(self._visitor, frame.room_id or self._room)

    def _signal(self, frame: WsFrame) -> dict[str, Any]:
        if len(to_json(frame.signal)) > SIGNAL_BYTES:
            raise Problem("too_large", f"A signal has at most {SIGNAL_BYTES} bytes.")
        kind: str | None = frame.signal_type
        if kind is None:  # a candidate has no `type`
            given = frame.signal.get("type") if isinstance(frame.signal, dict) else None
            kind = given if given in ("offer", "answer") else "ice-candidate"
        target = Target(frame.target_client_id, None, frame.target_connection_id)
        room_id = frame.room_id or self._room
        self.app.rooms.signal(self._visitor, room_id, target, kind, frame.signal)
        return {}

    def _ping(self, _: WsFrame) -> None:
        self._say(type="pong", timestamp=iso(now_ms()))

    ACTS: ClassVar[dict[str, Callable[[Any, WsFrame], dict[str, Any] | None]]] = {
        "subscribe": _change_channels,
        "unsubscribe": _change_channels,
        "publish": _publish,
        "join-room": _join_room,
        "leave-room": _leave_room,
        "webrtc-signal": _signal,
        "ping": _ping,
    }


@route("GET", "/ws", "stream", "Open a WebSocket with JSON messages", gives={101: ""})
def web_socket(app: Application, call: Call, query: EventsQuery) -> Answer:
    """RFC 6455, without compression."""
    converse = partial(WebSocketConversation, app, call.principal, call.origin)
    return upgrade(call, open_stream(app, call, query, WEBSOCKET, converse))


# Socket.IO

_PACKET = re.compile(r"(?:([0-4])|([56])(\d{1,4})-)(?:(/[^,]*)(?:,|$))?(\d*)(.*)", re.DOTALL)
SIO_CONNECT, SIO_DISCONNECT, SIO_EVENT, SIO_ACK, SIO_CONNECT_ERROR = range(5)


class MsgpackPacket(msgspec.Struct):
    """The same as a client with `socket.io-msgpack-parser` has it."""

    type: Literal[0, 1, 2, 3]
    nsp: Annotated[str, msgspec.Meta(pattern=r"^/[^,]*$")]
    data: Any = None
    id: int | None = None


def _extension(_: int, data: memoryview) -> Any:
    """What JavaScript has and MessagePack doesn't: undefined, a Date, other arrays of bytes."""
    if len(data) == 8:
        return iso(int.from_bytes(data, "big", signed=True))
    value = bytes(data)
    return None if value == b"\0" else value


UNPACK = msgspec.msgpack.Decoder(MsgpackPacket, ext_hook=_extension)


class SioPacket(msgspec.Struct):
    """A Socket.IO packet (protocol v5) of a client."""

    kind: int
    namespace: str
    payload: Any  # a dict, a list of raw JSON texts, or None where it can't be taken
    ack: str
    expected: int  # attachments
    size: int  # bytes that it holds while it waits
    event: str = ""
    attached: int = 0  # bytes of its attachments
    attachments: list[bytes] = []
    packed: bytes = b""  # the whole, of MessagePack: `payload` is empty then

    def values(self) -> list[Any]:
        """The arguments as Python values. Raises ValueError for a placeholder without its
        attachment."""
        if self.packed:
            packed: list[Any] = UNPACK.decode(self.packed).data
            return packed[1:] if self.kind == SIO_EVENT else packed
        values = [msgspec.json.decode(raw) for raw in self.payload]
        try:
            if self.expected:
                values = fill_placeholders(values, dict(enumerate(self.attachments)).__getitem__)
        except KeyError:
            raise ValueError("a placeholder of no attachment") from None
        return values


def parse_packet(text: str) -> SioPacket:
    """A packet's text. Raises ValueError for what the protocol has not."""
    match = _PACKET.fullmatch(text)
    if match is None:
        raise ValueError("not a packet")
    plain, binary, count, namespace, ack, payload = match.groups()
    kind = int(plain) if plain else int(binary) - 3  # it has attachments
    if (kind == SIO_ACK) > bool(ack) or len(ack) > 18:
        raise ValueError("which packet is acknowledged?")
    found = SioPacket(kind, namespace or "/", None, ack, int(count or 0), len(text))
    if kind == SIO_CONNECT:
        found.payload = msgspec.json.decode(payload or "{}", type=dict[str, Any])
    elif kind in (SIO_EVENT, SIO_ACK):
        if payload[-1:] != "]":
            raise ValueError("not a list")
        with contextlib.suppress(RecursionError):  # too deep, perhaps all right: not taken
            found.payload = msgspec.json.decode(payload, type=list[msgspec.Raw])
    elif kind != SIO_DISCONNECT or payload:
        raise ValueError("not for a server")
    if kind == SIO_EVENT and found.payload is not None:  # a number is its name as text
        if not found.payload:
            raise ValueError("an event without a name")
        raw = found.payload.pop(0)
        name = msgspec.json.decode(raw, type=str | int | float)
        found.event = name if isinstance(name, str) else bytes(raw).decode()
        if found.event in SOCKETIO_EVENTS:
            raise ValueError("a reserved event")
    return found


def parse_msgpack(data: bytes) -> SioPacket:
    """A packet in MessagePack, which must be what is one as text. Raises as `parse_packet`, and
    RecursionError."""
    try:
        found = UNPACK.decode(data)
        payload = "" if found.data is None else to_json(found.data)
    except (msgspec.EncodeError, TypeError, OverflowError, OSError) as error:
        raise ValueError(str(error)) from None
    number = "" if found.id is None else found.id
    packet = parse_packet(f"{found.type}{found.nsp},{number}{payload}")
    if isinstance(packet.payload, list):
        packet.payload, packet.packed, packet.size = [], data, len(data)
    return packet


def text_name(name: Any, what: str) -> str:
    """A name that the application gives, an enum's member too. Raises TypeError for what is no
    text."""
    if not isinstance(name, str):
        raise TypeError(f"{what}'s name is a text, not {name!r}.")
    return str.__str__(name)


def pack_event(event: str, values: Sequence[Any]) -> tuple[str, Arguments]:
    """An event of the application. Raises as `text_name` and `pack_arguments`, and ValueError for a
    name that would cost each client its connection."""
    if (name := text_name(event, "An event")) in SOCKETIO_EVENTS:
        raise ValueError(f"The event {name} is Socket.IO's own; choose another name.")
    return name, pack_arguments(values)


def pack_arguments(values: Sequence[Any]) -> Arguments:
    """What an event carries, or an acknowledgement: binary values become attachments. Raises
    TypeError for what can't be JSON."""
    attachments: list[bytes] = []

    def strip(value: Any) -> Any:
        if isinstance(value, BINARY):
            attachments.append(bytes(value))
            return {"_placeholder": True, "num": len(attachments) - 1}
        if isinstance(value, list):
            return [strip(item) for item in value]
        if isinstance(value, dict):
            return {key: strip(item) for key, item in value.items()}
        return value

    stripped = strip(plain_arguments(values))
    try:
        return Arguments(to_json(stripped), attachments)
    except UnicodeEncodeError:  # half a character, as of a file's name: as where clients send one
        whole = json.loads(whole_characters(json.dumps(stripped).encode()))
        return Arguments(to_json(whole), attachments)


BINARY = (bytes, bytearray, memoryview)


def plain_arguments(values: Sequence[Any]) -> list[Any]:
    """Values as lists, objects, texts, numbers and binary ones. Raises TypeError for others."""
    plain = partial(msgspec.to_builtins, builtin_types=BINARY, str_keys=True)
    return cast("list[Any]", plain(list(values), enc_hook=plain_value))


def plain_seconds(timeout: float) -> float:
    """How long the application wants to wait. Raises TypeError for what is no such number."""
    if not isinstance(timeout, (int, float)) or not 0 <= timeout < float("inf"):
        raise TypeError(f"timeout is a number of seconds, not {timeout!r}.")
    return float(timeout)


class Refused(Exception):
    """Raised by a middleware of the application to refuse a client, or an event:
    `Refused(message, data)`. Raises TypeError for what can't be JSON."""

    def __init__(self, message: str = "refused", data: Any = None) -> None:
        to_json([message, data])
        self.args = (message,) if data is None else (message, data)


Function = Callable[..., Any]  # of the application


class EventListener:
    """A function of the application, called as JavaScript would: what was not sent is None, what it
    doesn't take is left out. With a parameter `ack` it answers by itself, when it will."""

    __slots__ = ("_least", "_most", "acknowledges", "function", "once")

    def __init__(self, function: Function, once: bool = False) -> None:
        """Raises TypeError for what can't be called so."""
        kinds = inspect.Parameter
        try:
            found = dict(inspect.signature(function).parameters)
        except ValueError:  # some that are written in C tell nothing
            found = {"values": kinds("values", kinds.VAR_POSITIONAL)}
        ack, counted = found.get("ack"), (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)
        plain = [p for p in found.values() if p.kind in counted and p is not ack]
        any_number = any(p.kind is kinds.VAR_POSITIONAL for p in found.values())
        is_named = ack is None or ack.kind is kinds.KEYWORD_ONLY
        if not is_named and (any_number or [*found][len(plain)] != "ack"):
            raise TypeError(f"{function!r}: ack must be the last parameter.")
        self.function, self.once, self.acknowledges = function, once, ack is not None
        self._least = sum(p.default is p.empty for p in plain)
        self._most = sys.maxsize if any_number else len(plain)

    def __call__(
        self, namespace: str, event: str, *values: Any, ack: Function | None = None
    ) -> Any:
        """What the function returns for what happened in a namespace."""
        missing = [None] * (self._least - len(values))
        named = {"ack": ack or (lambda *_: None)} if self.acknowledges else {}
        turn = gevent.getcurrent()
        before = turn.turn_to((namespace, event)) if isinstance(turn, Turn) else None
        try:
            result = self.function(*[*values, *missing][: self._most], **named)
            if inspect.iscoroutine(result):
                awaited = self._await(result)
                return asyncio.run_coroutine_threadsafe(awaited, HANDLERS.asyncio_loop).result()
            return result
        finally:
            if isinstance(turn, Turn):  # not one that the application has made
                turn.turn_to(before)

    @staticmethod
    async def _await(coroutine: Coroutine[Any, Any, Any]) -> Any:
        try:
            return await coroutine
        except (SystemExit, KeyboardInterrupt) as error:  # they would end the loop, and the program
            raise RuntimeError(repr(error)) from error


class EventListeners:
    """What is declared for a namespace, or by one client: functions by the event that they wait
    for, in the order in which they were declared."""

    OTHER = "*"  # an event that has none
    TOLD = frozenset({"disconnecting", "disconnect"})  # of Socket.IO's own

    def __init__(self) -> None:
        self._of: dict[str, list[EventListener]] = {}
        self.any: list[EventListener] = []
        self.middlewares: list[EventListener] = []

    def on(self, event: str, listener: Function, once: bool = False) -> None:
        """Call a function with the values of an event of this client, or with the reason of
        `disconnecting` and `disconnect`. What it returns counts as a handler's."""
        name = text_name(event, "An event")
        if name in SOCKETIO_EVENTS - self.TOLD:
            words = f'no event {name} ever comes: @on("connection") is for who has joined, @use for'
            raise ValueError(f"{words} who wants to and may be refused.")
        self._of.setdefault(name, []).append(EventListener(listener, once))

    def once(self, event: str, listener: Function) -> None:
        """As `on`, for the next one only."""
        self.on(event, listener, once=True)

    def off(self, event: str | None = None, listener: Function | None = None) -> None:
        """Take back `on`: of a function, of all of an event, or of all."""
        for name in list(self._of) if event is None else [event]:
            kept = [f for f in self._of.pop(name, ()) if listener not in (None, f.function)]
            if kept:
                self._of[name] = kept

    def on_any(self, listener: Function) -> None:
        """Call a function with the name and the values of each event, before its handlers."""
        self.any.append(EventListener(listener))

    def off_any(self, listener: Function | None = None) -> None:
        """Take back `on_any`, of a function or of all."""
        self.any = [found for found in self.any if listener not in (None, found.function)]

    def use(self, middleware: Function) -> None:
        """Show a function the name and the values of each event first: what it raises keeps the
        event from the handlers, and from an acknowledgement."""
        self.middlewares.append(EventListener(middleware))

    @property
    def hears(self) -> bool:
        return bool(self._of or self.any)

    def take(self, event: str) -> list[EventListener]:
        found = self._of.get(event, [])
        if any(listener.once for listener in found):
            self._of[event] = [listener for listener in found if not listener.once]
        return found


NamespaceName = str | re.Pattern[str] | Callable[[str, dict[str, Any]], bool]


def plain_namespace(name: str) -> str:
    """A namespace's name as clients send it. Raises as `text_name`."""
    return name if text_name(name, "A namespace")[:1] == "/" else f"/{name}"


class Handlers:
    """What the application's file (`--app`) has declared."""

    MOST_LETTERS = 256  # of a namespace's name

    def __init__(self) -> None:
        self.app: Application = cast("Any", None)  # until it serves
        self.hub: Any = None  # gevent's, of the thread that serves
        self.namespaces: dict[NamespaceName, EventListeners] = {"/": EventListeners()}
        self.server_side = EventListeners()
        self.slow: dict[tuple[str, str], float] = {}  # until when one isn't named again

    def namespace(self, name: NamespaceName) -> EventListeners:
        """What is declared for a namespace; it exists from now on."""
        is_plain = not (isinstance(name, re.Pattern) or callable(name))
        if name == "*":
            raise ValueError('all namespaces are re.compile(".*"), not "*".')
        key = plain_namespace(cast(str, name)) if is_plain else name
        return self.namespaces.setdefault(key, EventListeners())

    def find(self, name: str, auth: dict[str, Any]) -> EventListeners | None:
        """What is declared for the namespace that a client names; None where nothing is."""
        if name in self.namespaces or len(name) > self.MOST_LETTERS or "#" in name:
            return self.namespaces.get(name)
        for pattern, declared in list(self.namespaces.items()):  # a function may wait
            is_meant: Any = isinstance(pattern, re.Pattern) and pattern.search(name)
            if callable(pattern):
                is_meant = EventListener(pattern)(name, "namespace", name, auth)
            if is_meant:
                return declared
        return None

    @property
    def has_handlers(self) -> bool:
        """Whether any namespace has some; if none has, clients' events are published."""
        return any(declared.hears for declared in self.namespaces.values())

    @property
    def gated(self) -> list[str]:
        """The namespaces of which a middleware decides who joins."""
        return [n for n, of in self.namespaces.items() if isinstance(n, str) and of.middlewares]

    def load(self, path: str) -> None:
        """Run the application's file. Raises StartError."""
        if not Path(path).is_file():
            raise StartError(f"app: there is no file {path}.")
        sys.path.insert(0, str(Path(path).resolve().parent))
        loader = importlib.machinery.SourceFileLoader("rtapp_handlers", os.path.abspath(path))
        module = sys.modules[loader.name] = ModuleType(loader.name)
        module.__file__ = loader.path
        try:
            loader.exec_module(module)
        except Exception as error:
            raise StartError(f"The handlers {path} can't be loaded: {error!r}.") from error

    @cached_property
    def asyncio_loop(self) -> asyncio.AbstractEventLoop:
        """Of what is declared by `async def`. It waits as every greenlet does."""
        # Not the platform's default: Windows' has no selector, which gevent could replace.
        loop = asyncio.SelectorEventLoop()
        gevent.spawn(loop.run_forever)
        return loop


HANDLERS = Handlers()


class Turn(gevent.Greenlet):
    """A greenlet that runs handlers, and names one that goes on for a second from one wait to the
    next: nobody else has a turn then. Waiting isn't counted, and costs a look at the clock."""

    LONGEST, PAUSE = 1.0, 60.0  # seconds; the same one isn't named again during the second
    doing: tuple[str, str] | None = None  # the handler's namespace and event
    began = 0.0

    def switch(self, *values: Any) -> Any:
        self.began = time.monotonic()
        return super().switch(*values)

    def throw(self, *error: Any) -> Any:
        self.began = time.monotonic()
        return super().throw(*error)

    def switch_out(self) -> None:
        """Before each wait; gevent calls it."""
        now, slow = time.monotonic(), HANDLERS.slow
        held, self.began = now - self.began, now
        if self.doing and held >= self.LONGEST and now > slow.get(self.doing, 0.0):
            # A client may choose the names: those whose time is over are held no longer.
            HANDLERS.slow = {doing: until for doing, until in slow.items() if until > now}
            HANDLERS.slow[self.doing] = now + self.PAUSE
            namespace, event = self.doing
            words = f"The handler of {event} held everybody else up for {held:.1f} s: what takes "
            words += "long belongs into gevent's threadpool"
            about = {"event": event, "namespace": namespace, "seconds": round(held, 2)}
            HANDLERS.app.journal.add("WARN", words, **about)

    def turn_to(self, doing: tuple[str, str] | None) -> tuple[str, str] | None:
        """Run another handler, which one may call, or none; what ran before."""
        self.switch_out()
        before, self.doing = self.doing, doing
        return before


def from_any_thread(function: F) -> F:
    """Let it be called in the application's own threads too, which wait for its end."""

    @functools.wraps(function)
    def call(*values: Any, **named: Any) -> Any:
        if HANDLERS.hub is None:
            words = "is for when the server runs: call it in a handler, as of @on('connection')"
            raise RuntimeError(f"{function.__name__} {words}.")
        if get_original("_thread", "get_ident")() == HANDLERS.hub.thread_ident:
            return function(*values, **named)
        ended: _queue.SimpleQueue[gevent.Greenlet[..., Any]] = _queue.SimpleQueue()
        HANDLERS.hub.loop.run_callback_threadsafe(
            lambda: gevent.spawn(function, *values, **named).link(ended.put)
        )
        return ended.get().get()

    return cast("F", call)


def declaring(add: Callable[[F], None]) -> Callable[[F], F]:
    """A decorator that declares a function and leaves it as it is."""

    def declare(function: F) -> F:
        add(function)
        return function

    return declare


def on(event: str, namespace: NamespaceName = "/") -> Callable[[F], F]:
    """Declare a handler of an event: `@on("message")` above `def message(client, data): …`. Several
    are called in turn; `@on("*")`, as `def other(client, event, data): …`, for an event that has
    none. A namespace is a name, a compiled pattern or a function of a name and `auth`.

    `connection`, `disconnecting` and `disconnect` (with a reason) are events too. The first
    value that isn't None is the acknowledgement; a tuple is several values; if all return None it
    is empty. A handler that takes `ack` calls it with the values instead, later or never. If one
    raises, nothing is acknowledged.
    """
    return declaring(partial(HANDLERS.namespace(namespace).on, text_name(event, "An event")))


def use(middleware: F | None = None, *, namespace: NamespaceName = "/") -> Any:
    """Declare what looks at each new client first and may raise, or return False: `@use`. The
    client is told the words of the exception, and of `Refused` also the data. It alone decides who
    joins."""
    declare = declaring(HANDLERS.namespace(namespace).use)
    return declare if middleware is None else declare(middleware)


def on_server_side(event: str) -> Callable[[F], F]:
    """Declare what `server_side_emit` of another node calls: `@on_server_side("reload")`."""
    return declaring(partial(HANDLERS.server_side.on, text_name(event, "An event")))


RoomKey = str | int  # 7 is the room "7"
RoomNames = RoomKey | Iterable[RoomKey] | None  # a client's id is a room too


class Everybody:
    """Of a namespace: what `to` says by its absence, and nothing else."""


Recipients = RoomNames | type[Everybody]


@from_any_thread
def emit(
    event: str,
    *values: Any,
    to: Recipients = Everybody,
    namespace: str = "/",
    exclude: RoomNames = None,
    volatile: bool = False,
) -> None:
    """Send an event to a namespace, or to rooms of it: to each client once, and to none in the
    rooms of `exclude`. A `to` that names no room, such as None, is nobody.

    Returns after the commit; `volatile` sends without storing. Raises ValueError for a reserved
    event and TypeError for what is no room or can't be JSON.
    """
    app, (event, arguments) = HANDLERS.app, pack_event(event, values)
    namespace = plain_namespace(namespace)
    named = arguments._replace(namespace=namespace)  # a client's own topic doesn't tell which
    left_out = [topic for room in each_room(exclude) for topic in room_topics(namespace, room)]
    drafts = []
    for room in each_room(to):
        for topic in room_topics(namespace, room, app.hub.audience):
            others = to_json(left_out) if left_out else None
            draft = Entry(topic, MESSAGE, event, "", exclude=others, sent_at=now_ms())
            draft.recipient_count = app.hub.audience.size(topic, others)
            drafts.append((named if topic == DIRECT + room else arguments).put_into(draft))
            left_out.append(topic)  # who has it doesn't get the next one's
    if volatile:
        for draft in drafts:
            app.nodes.volatile(draft)
    elif drafts:
        append(app, drafts)


def each_room(rooms: Recipients) -> list[str]:
    """The rooms that are named, each once: None and "" name none, and everybody is in the one that
    has no name. Raises TypeError for what is no name."""
    if rooms is Everybody:
        return [""]
    is_one = isinstance(rooms, (str, int, NoneType, bytes, bytearray, memoryview, dict))
    found = dict[str, None]()
    for room in [rooms] if is_one else cast("Iterable[RoomKey]", rooms):
        if isinstance(room, bool) or not isinstance(room, (str, int, NoneType)):
            raise TypeError(f"A room's name is a text, not {room!r}.")
        if room not in (None, ""):
            found[str(plain_value(room))] = None
    return list(found)


_SID = re.compile(r"[A-Za-z0-9_-]{21}")


def room_topics(namespace: str, room: str, heard_by: Audience | None = None) -> list[str]:
    """The topics that a name may stand for: a room's, and of one client its own; with an audience
    only those that somebody hears, or will once it is back.

    A client's own room is the topic of its direct messages: a topic more for each client would be
    a view more for each, and nothing would be joined once for all.
    """
    topic, own = room_topic(namespace, room), DIRECT + room
    if not _SID.fullmatch(room):
        return [topic]
    if heard_by is not None:  # who is away or on another node isn't known here
        is_room, is_client = bool(heard_by.size(topic)), bool(heard_by.of_client(room))
        if is_room != is_client:
            return [topic] if is_room else [own]
    return [topic, own]


class KeptData(dict[str, Any]):
    """What a client that may recover is given again: JSON, or TypeError where it is set."""

    def __setitem__(self, key: str, value: Any) -> None:
        to_json({key: value})
        super().__setitem__(key, value)

    def __ior__(self, other: Any) -> KeptData:  # type: ignore[override,misc]
        self.update(other)
        return self

    # These two set each key by itself, a dict's own don't.
    setdefault, update = UserDict.setdefault, UserDict.update


@dataclass(eq=False, repr=False)
class Client(EventListeners):
    """A Socket.IO client as handlers see it, in one namespace."""

    MOST_ACKS = 1_000
    CALL_SECONDS = 60.0

    session: SocketIoSession
    namespace: str
    _declared: EventListeners
    auth: dict[str, Any]
    principal: Principal
    recovered = False
    connected = False
    pid = ""  # the client's secret by which it recovers
    saved = ""  # its state as it was stored last
    position = ""  # where it goes on when it names no offset
    _keeps_soon = False
    _numbers = itertools.count()  # of questions; a late answer is to none of a later connection

    def __post_init__(self) -> None:
        super().__init__()
        self.id = self.session.subscriber.client_id
        self.auth = {key: self.auth[key] for key in self.auth if key not in ("pid", "offset")}
        self.handshake = {**self.session.handshake, "auth": self.auth}
        self.rooms: set[str] = {self.id}
        self.data: dict[str, Any] = KeptData() if self.session.recovery.seconds else {}
        self.channels: frozenset[str] = frozenset()  # topics of the main namespace
        self._acks: dict[int, Function] = {}  # by the number of an event: who hears
        self._left = gevent.event.Event()

    @property
    def topics(self) -> set[str]:
        """What it hears of the log."""
        rooms = {"", *self.rooms} - {self.id}
        return {room_topic(self.namespace, room) for room in rooms} | self.channels

    # What it is told

    @from_any_thread
    def emit(
        self, event: str, *values: Any, ack: Function | None = None, volatile: bool = False
    ) -> None:
        """Send an event to this client; `ack` is called with what it answers. With recovery on,
        one without `ack` is stored and sent after its commit. `volatile`, without `ack`: only if
        it can be sent now. Raises as `emit` of the module."""
        app, (event, arguments) = self.session.app, pack_event(event, values)
        if ack is not None:
            self._ask(event, arguments, partial(EventListener(ack), self.namespace, event))
        elif volatile or self.pid:
            draft = Entry(DIRECT + self.id, MESSAGE, event, "", recipient_count=1, sent_at=now_ms())
            arguments._replace(namespace=self.namespace).put_into(draft)
            if volatile:
                app.nodes.volatile(draft)
            else:
                append(app, [draft])
        else:
            self.session.emit(self.namespace, event, arguments)

    @from_any_thread
    def call(self, event: str, *values: Any, timeout: float = CALL_SECONDS) -> Any:
        """Send an event and wait for the client's answer: a value, a tuple of several, or None.
        Raises TimeoutError after `timeout` seconds, and when the client goes."""
        answer, timeout = gevent.event.AsyncResult(), plain_seconds(timeout)
        event, arguments = pack_event(event, values)
        number = self._ask(event, arguments, lambda *values: answer.set(values))
        try:
            gevent.wait([answer, self._left], timeout, count=1)
        finally:
            self._acks.pop(number, None)
        if not answer.ready():
            late = f"No answer to {event} within {timeout:g} seconds."
            raise TimeoutError("The client is gone." if self._left.is_set() else late)
        found = answer.get()
        return found[0] if len(found) == 1 else found or None

    def _ask(self, event: str, arguments: Arguments, ack: Function) -> int:
        if not self.connected:
            raise TimeoutError("The client is not connected.")
        if len(self._acks) >= self.MOST_ACKS:
            del self._acks[next(iter(self._acks))]
        number = next(self._numbers)
        self._acks[number] = ack
        self.session.emit(self.namespace, event, arguments, str(number))
        return number

    @from_any_thread
    def join(self, room: RoomNames) -> None:
        """Enter a room of the namespace, or several."""
        self.rooms.update(each_room(room))
        self._moved()

    @from_any_thread
    def leave(self, room: RoomNames) -> None:
        """Leave a room, or several."""
        self.rooms.difference_update(each_room(room))
        self._moved()

    def _moved(self) -> None:
        self.session.renew_topics()
        if self.pid and not self._keeps_soon:  # perhaps by another client's handler
            self._keeps_soon = True
            self.session.later(self.keep)

    def broadcast(
        self,
        event: str,
        *values: Any,
        to: Recipients = Everybody,
        exclude: RoomNames = None,
        volatile: bool = False,
    ) -> None:
        """Send an event to everybody else, in the namespace or in rooms of it, as `emit` does."""
        others = [self.id, *each_room(exclude)]
        emit(event, *values, to=to, namespace=self.namespace, exclude=others, volatile=volatile)

    @from_any_thread
    def disconnect(self, close: bool = False) -> None:
        """Put the client out of the namespace, or with `close` out of all of its connection; it
        does not come back by itself."""
        for each in list(self.session.clients.values()) if close else [self]:
            each.depart("server namespace disconnect", is_told=True)
        if close:
            self.session.close("forced server close")

    # What it says

    def receive(self, packet: SioPacket) -> None:
        if packet.payload is None:
            raise Problem("invalid", "An event is nested too deeply.")
        acknowledge = partial(self._acknowledge, [packet.ack] if packet.ack else [])
        if HANDLERS.has_handlers or self.hears:
            values, results = packet.values(), []
            with contextlib.suppress(Refused):
                for middleware in self.middlewares:
                    middleware(self.namespace, packet.event, packet.event, *values)
                results = self.hear(packet.event, values, acknowledge)
        else:
            results = [act_without_handlers(self, packet)]
        self.keep()
        if results:
            result = next((result for result in results if result is not None), ())
            acknowledge(*(result if isinstance(result, tuple) else [result]))

    @from_any_thread
    def _acknowledge(self, due: list[str], *values: Any) -> None:
        """Answer the client, if an answer is due; the second one isn't."""
        given = pack_arguments(values)
        self.keep()  # before the answer: what was acknowledged survives
        if due and self.connected:
            self.session.reply(SIO_ACK, self.namespace, given, due.pop())

    def hear(self, event: str, values: Sequence[Any], ack: Function | None = None) -> list[Any]:
        """Call the handlers of an event; with `ack` it is one that the client sent. What those
        return that don't take `ack`; nothing where one fails: errors are logged."""
        is_sent, take, journal = ack is not None, self._declared.take, self.session.app.journal
        for listener in self.any if is_sent else ():
            with contained(journal, "A function given to on_any failed"):
                listener(self.namespace, event, event, *values)
        is_declared = not is_sent or event not in ("connection", self.OTHER)
        calls = [(each, [self, *values]) for each in (take(event) if is_declared else ())]
        calls += [(listener, [*values]) for listener in self.take(event)]
        if is_sent and not calls:
            calls = [(each, [self, event, *values]) for each in take(self.OTHER)]
        results = []
        for listener, given in calls:
            with contained(journal, f"The handler of {event} failed"):
                results.append(listener(self.namespace, event, *given, ack=ack))
        if len(results) < len(calls):
            return []
        return [r for r, (each, _) in zip(results, calls, strict=True) if not each.acknowledges]

    def take_answer(self, packet: SioPacket) -> None:
        """Give an answer to who asked: at once, for what is being done may wait for it."""
        ack = self._acks.pop(int(packet.ack), None)

        def give(ack: Function) -> None:
            ack(*packet.values())
            self.keep()

        if ack is not None and packet.payload is not None:
            self.session.apart(partial(give, ack), packet.size)

    # Coming and going

    def keep(self) -> None:
        """Store what it is while it is here, so that it can recover."""
        self._keeps_soon = False
        if self.session.clients.get(self.namespace) is self:
            self.session.recovery.keep(self)

    def gone(self) -> None:
        self.connected = False
        self._acks.clear()
        self._left.set()

    def depart(self, reason: str, is_told: bool = False, is_lost: bool = False) -> None:
        """Leave the namespace, unless it has left; one that `is_lost` may recover."""
        if self.session.remove(self, is_told):
            self.departed(reason, is_lost)

    def departed(self, reason: str, is_lost: bool = False) -> None:
        """It has left: its handlers hear it."""
        if self.pid and not is_lost:
            self.session.recovery.forget(self)
        elif self.pid and reason != RECOVERED:  # else another connection is it now
            self.session.recovery.lost(self)
        for event in ("disconnecting", "disconnect"):
            self.hear(event, [reason])


class ChannelNames(msgspec.Struct):
    channels: Annotated[tuple[Channel, ...], msgspec.Meta(min_length=1, max_length=MAX_CHANNELS)]


def act_without_handlers(client: Client, packet: SioPacket) -> dict[str, Any]:
    """Join and leave channels, and publish, by the rules of HTTP; what is acknowledged."""
    app = client.session.app
    try:
        if packet.event in ("join", "leave"):
            names = convert({"channels": packet.values()}, ChannelNames).channels
            before, adds = client.channels, packet.event == "join"
            client.channels = changed_channels(app, client.principal, before, names, adds)
            client.session.renew_topics()
            return {"success": True}
        if not app.settings["relay_events"]:
            raise Problem("forbidden", "The setting relay_events is off.")
        text = f"[{','.join(bytes(raw).decode() for raw in packet.payload)}]"
        attachments = packet.attachments
        if packet.packed:
            text, attachments, _ = pack_arguments(packet.values())
        if len(text) > app.settings["max_message_bytes"]:  # MessagePack is shorter
            raise Problem("too_large", "An event is too large as JSON.")
        query = convert({"event": packet.event}, BroadcastQuery)
        parsed = parse_json(text.encode())
        numbers: list[int] = []
        fill_placeholders(parsed.value, numbers.append)
        if attachments and sorted(numbers) != list(range(len(attachments))):
            # Of one that stands a thousand times every receiver would get a thousand copies.
            raise Problem("invalid", "Each attachment has one placeholder.")
        lone = Parsed(parsed.value[0], "") if len(parsed.value) == 1 else parsed
        draft = make_draft(app, client.principal, query, lone, client.id, is_let_in=True)
        append(app, [Arguments(parsed.text, attachments).put_into(draft)])
        return {"success": True}
    except Problem as problem:
        return {"success": False, "code": problem.code, "message": str(problem)}


# Of many clients, on any node


class Order(msgspec.Struct):
    """What every node does with its clients of a namespace, in the order of the log: those of some
    rooms, or all, but not those of others."""

    act: str
    arguments: list[Any]
    namespace: str = "/"
    rooms: Sequence[str] | None = None  # of everybody
    exclude: Sequence[str] = ()
    origin: str = ""  # the node that asks
    number: int = 0  # of the question, when it waits for answers

    def __post_init__(self) -> None:
        self.namespace = plain_namespace(self.namespace)
        if self.rooms == [""]:
            self.rooms = None  # so it stands in the log since the first version

    def is_for(self, client: Client) -> bool:
        is_in = self.rooms is None or not client.rooms.isdisjoint(self.rooms)
        return is_in and client.rooms.isdisjoint(self.exclude)


class NotAnswered(TimeoutError):
    """Some of those who were asked gave no answer in time; `answers` are the others'."""

    def __init__(self, missing: int, answers: list[Any]) -> None:
        super().__init__(f"{missing} of those who were asked gave no answer in time.")
        self.answers = answers


class RemoteClient(msgspec.Struct):
    """A client of any node, as it was when it was asked for."""

    id: str
    namespace: str
    rooms: set[str]
    data: dict[str, Any]
    handshake: dict[str, Any]

    def emit(self, event: str, *values: Any) -> None:
        """Send it an event."""
        emit(event, *values, to=self.id, namespace=self.namespace)

    def call(self, event: str, *values: Any, timeout: float = Client.CALL_SECONDS) -> Any:
        """Send it an event and wait for its answer, `timeout` seconds. Raises NotAnswered."""
        found = call(event, *values, to=self.id, namespace=self.namespace, timeout=timeout)
        if not found:
            raise NotAnswered(1, [])  # it has gone
        return found[0]

    def join(self, room: RoomNames) -> None:
        """Let it enter a room, or several."""
        sockets_join(room, to=self.id, namespace=self.namespace)

    def leave(self, room: RoomNames) -> None:
        """Let it leave a room, or several."""
        sockets_leave(room, to=self.id, namespace=self.namespace)

    def disconnect(self, close: bool = False) -> None:
        """Put it out, as `Client.disconnect`."""
        disconnect_sockets(close, to=self.id, namespace=self.namespace)


@from_any_thread
def sockets_join(room: RoomNames, to: Recipients = Everybody, namespace: str = "/") -> None:
    """Let clients of any node enter a room, or several: they get what is sent there from now on."""
    HANDLERS.app.sockets.tell(Order("join", [each_room(room)], namespace, each_room(to)))


@from_any_thread
def sockets_leave(room: RoomNames, to: Recipients = Everybody, namespace: str = "/") -> None:
    """Let clients of any node leave a room, or several."""
    HANDLERS.app.sockets.tell(Order("leave", [each_room(room)], namespace, each_room(to)))


@from_any_thread
def disconnect_sockets(
    close: bool = False, to: Recipients = Everybody, namespace: str = "/"
) -> None:
    """Put clients of any node out of the namespace, or with `close` out of their connections."""
    HANDLERS.app.sockets.tell(Order("disconnect", [close], namespace, each_room(to)))


@from_any_thread
def fetch_sockets(
    to: Recipients = Everybody, namespace: str = "/", timeout: float = 5.0
) -> list[RemoteClient]:
    """The clients of a namespace, or of rooms of it, on all nodes. Raises NotAnswered when a node
    is silent for `timeout` seconds."""
    rows = HANDLERS.app.sockets.ask(Order("fetch", [], namespace, each_room(to)), timeout)
    return [msgspec.convert(row, RemoteClient) for row in rows]


@from_any_thread
def call(
    event: str,
    *values: Any,
    to: Recipients = Everybody,
    namespace: str = "/",
    exclude: RoomNames = None,
    timeout: float = Client.CALL_SECONDS,
) -> list[Any]:
    """Send an event to clients of any node and wait for what each answers. Raises NotAnswered when
    some don't within `timeout` seconds, and as `emit`."""
    arguments = [pack_event(event, values)[0], plain_arguments(values), plain_seconds(timeout)]
    order = Order("call", arguments, namespace, each_room(to), each_room(exclude))
    # Each node waits so long for its clients, and this one a little longer for the nodes.
    return HANDLERS.app.sockets.ask(order, timeout + 5)


@from_any_thread
def server_side_emit(event: str, *values: Any) -> None:
    """Call the functions that the other nodes have for an event: see `on_server_side`."""
    HANDLERS.app.sockets.tell(Order("server", [text_name(event, "An event"), values]))


@from_any_thread
def server_side_call(event: str, *values: Any, timeout: float = 5.0) -> list[Any]:
    """As `server_side_emit`, and wait for what the functions of each node return. Raises
    NotAnswered when one fails, or takes more than `timeout` seconds."""
    order = Order("server", [text_name(event, "An event"), values])
    return HANDLERS.app.sockets.ask(order, timeout)


RECOVERED = "recovered by another connection"


class ClientState(msgspec.Struct):
    """What a recovered client gets back."""

    rooms: set[str] = set()
    channels: set[str] = set()
    data: dict[str, Any] = {}


class Recovery:
    """Socket.IO's connection state recovery: what clients were, kept for a while after they lost
    their connection, also over a restart. What they missed is in the log."""

    MOST_DUE = 50_000  # rows that wait to be written while the database is away

    def __init__(self, app: Application) -> None:
        self._app = app
        # A pid's hash: the fields of its row that are not yet written, none when it goes. What
        # could not be written stays.
        self._due: dict[str, dict[str, Any]] = {}
        # That a client has to come back, as of the start; 0 when it can't.
        self.seconds: float = app.settings["socketio_recovery_seconds"]

    def start(self) -> None:
        """Who was connected when the last run ended has lost its connection now."""
        if not self._app.storage.engine.shared:
            self._do(SocketSession.update(left_at=now_ms()).where(SocketSession.left_at.is_null()))

    def _do(self, query: Any) -> None:
        self._app.storage.write(lambda tx: query.execute(tx.database))

    def keep(self, client: Client, since: int | None = None) -> None:
        """Store what a client is, if that has changed, and return after the commit; `since` is
        where it goes on."""
        state = client.saved
        with contained(self._app.journal, "A client's data can't be kept"):
            if client.pid:
                rooms, channels = client.rooms - {client.id}, set(client.channels)
                state = to_json(ClientState(rooms, channels, client.data))
        if state == client.saved:
            return
        client.saved = state
        subscriber = client.session.subscriber
        # What was sent may not have arrived, and then the client comes back without an offset.
        if not client.position or not subscriber.messages:
            cursor = subscriber.cursor if since is None else since
            client.position = self._app.log.position(cursor)
        row = {"owner": client.principal.name, "node": self._app.nodes.id, "left_at": None}
        row |= {"namespace": client.namespace, "client_id": client.id}
        self._write({sha256(client.pid): {**row, "state": state, "position": client.position}})

    def recover(self, client: Client, auth: dict[str, Any]) -> int | None:
        """Make a client what it was, if it may be and nothing that it missed is gone: the id of
        the log to go on after."""
        session, log, pid, row = client.session, self._app.log, auth.get("pid"), None
        if self.seconds and isinstance(pid, str):
            row = SocketSession.get_or_none(SocketSession.pid_hash == sha256(pid))
        if row is None or (row.namespace, row.owner) != (client.namespace, client.principal.name):
            return None
        due = self._due.get(row.pid_hash, {"left_at": row.left_at})
        for field, value in due.items():
            setattr(row, field, value)
        is_late = now_ms() - (row.left_at or now_ms()) > self.seconds * 1000
        is_another = session.clients and row.client_id != session.subscriber.client_id
        if is_late or is_another or not due:
            return None
        since = log.find(str(auth.get("offset", row.position)))
        since = log.find(row.position) if since is None else since
        state = msgspec.json.decode(row.state, type=ClientState)
        may_use = client.principal.may_use
        channels = {t for t in state.channels if may_use("subscribe", channel_of(t))}
        channels |= client.channels & state.channels  # a middleware's
        topics = {room_topic(client.namespace, room) for room in ("", *state.rooms)}
        topics |= channels | {DIRECT + row.client_id}
        if since is None or not log.complete(since, topics) or not session.subscriber.is_open:
            return None
        client.id, client.data, client.recovered = row.client_id, KeptData(state.data), True
        client.rooms, client.channels = {client.id, *state.rooms}, frozenset(channels)
        self.replace(client)
        return since

    def replace(self, client: Client) -> None:
        """End other connections of a client that has recovered: lost, and not yet noticed."""
        for other in self._app.hub.audience.of_client(client.id):
            if other is not client.session.subscriber:
                self._app.hub.close_after(other, b"", RECOVERED)

    def lost(self, client: Client) -> None:
        """A client's connection is gone."""
        pid_hash = sha256(client.pid)
        self._due[pid_hash] = self._due.get(pid_hash, {}) | {"left_at": now_ms()}
        if len(self._due) > self.MOST_DUE:
            del self._due[next(iter(self._due))]

    def forget(self, client: Client) -> None:
        """A client left, or was put out: it begins anew."""
        pid_hash, client.pid = sha256(client.pid), ""  # what its handler changes is kept no more
        self._write({pid_hash: {}})

    def flush(self) -> None:
        """Write what is due, and delete who didn't come back."""
        if self._app.storage.engine.shared and self._app.nodes.is_first:  # whose node is gone
            connected = SocketSession.left_at.is_null()
            lost = connected & peewee.SQL("node NOT IN (SELECT id FROM nodes)")
            self._do(SocketSession.update(left_at=now_ms()).where(lost))
        if self._due:
            self._write(dict(self._due))
        late = SocketSession.left_at < now_ms() - int(self.seconds * 1000)
        if SocketSession.select().where(late).exists():
            self._do(SocketSession.delete().where(late))

    def _write(self, due: dict[str, dict[str, Any]]) -> None:
        """Write rows; those of a write that fails are written by the next `flush`."""
        self._due |= due

        def unit(tx: Transaction) -> None:
            for pid_hash, row in due.items():
                where = SocketSession.pid_hash == pid_hash
                if not row:
                    SocketSession.delete().where(where).execute(tx.database)
                elif row["left_at"] is None:
                    upsert(tx.database, SocketSession, pid_hash=pid_hash, **row)
                else:
                    # Who came back on another node was lost here all the same, when that was
                    # noticed.
                    where &= SocketSession.node == self._app.nodes.id
                    SocketSession.update(**row).where(where).execute(tx.database)

        self._app.storage.write(unit)
        for pid_hash, row in due.items():
            if self._due.get(pid_hash) is row:
                del self._due[pid_hash]


class EngineFault(Exception):
    """An error of Engine.IO, in one of these words."""

    CODES: ClassVar[dict[str, int]] = {
        "Transport unknown": 0,
        "Session ID unknown": 1,
        "Bad handshake method": 2,
        "Bad request": 3,
        "Forbidden": 4,
        "Unsupported protocol version": 5,
    }


def payload_answer(payload: bytes) -> Answer:
    """Packets as the answer to a poll, of which the last one needs no separator."""
    body = payload.removesuffix(SocketIoEncoding.SEPARATOR)
    return Answer(body, headers={"Content-Type": "text/plain; charset=UTF-8"})


class EngineSession(Conversation):
    """A session of Engine.IO v4 over polling requests, a WebSocket, or one and then the other."""

    __slots__ = ("_engine", "_framing", "_principal", "_probe", "_requests", "clients", "sid")
    PROBE_MS = 10_000
    # After so long a probe is answered, so that a client can join and speak at once by polling, and
    # a poll beside it ends: as in Node, on which its clients count.
    PROBE_SECONDS = 0.1
    message: Callable[[str | bytes], None]  # one of the client; raises ValueError for what is none

    def __init__(self, engine: EngineIo, subscriber: Subscriber, call: Call) -> None:
        super().__init__(engine.app, subscriber)
        self.sid = secrets.token_urlsafe(15)
        self.clients: dict[str, Client] = {}  # by the namespace that each has joined
        self._engine = engine
        self._principal = call.principal
        self._requests: set[str] = set()  # by kind: a poll or a probe waits; a POST is being taken
        self._probe: Subscriber | None = None  # a WebSocket that is tried
        self._framing: Framing  # of that one, or of its own
        if not self._encoding.polls:
            self._framing = Framing(self.app.settings["max_message_bytes"])

    @property
    def _encoding(self) -> SocketIoEncoding:
        return cast("SocketIoEncoding", self.subscriber.encoding)

    def close(self, reason: str, last: bytes | None = None) -> None:
        """Close the session; a client that isn't told otherwise comes back."""
        last = self._encoding.farewell(0, CloseCode.NORMAL_CLOSURE) if last is None else last
        self.app.hub.close_after(self.subscriber, last, reason)

    def connection_ended(self, subscriber: Subscriber, reason: str) -> None:
        """The session is over; or a WebSocket that was tried is gone or has become its own."""
        if subscriber is self._probe:
            self._probe = None
            return
        transport, last = self.subscriber.transport, b""
        if isinstance(transport, QueueTransport) and "polls" not in self._requests:
            last = transport.fetch()
        self._engine.forget(self.sid, last)
        self.lost(reason)

    def lost(self, reason: str) -> None: ...  # the client is gone

    # What comes in

    def received(self, subscriber: Subscriber, data: bytes) -> None:
        """Bytes of its WebSocket, or of one that is tried until there is the packet "upgrade"."""
        hub = self.app.hub
        for packet in self._framing.take(data):
            if self._probe is None:
                self.take(packet)
            elif packet == "2probe":
                if "probe" not in self._requests:
                    self._requests.add("probe")
                    gevent.spawn_later(self.PROBE_SECONDS, self._welcome, self._probe)
            elif packet == "5" and self.subscriber.is_open:
                self._probe.encoding = self._engine.encodings["websocket", self._encoding.parser]
                hub.adopt(self.subscriber, self._probe)
            else:
                hub.close_after(self._probe, close_frame(CloseCode.PROTOCOL_ERROR), "not a probe")
                return
        self._framing.answer(hub, self._probe or self.subscriber, "transport close")

    def _welcome(self, probe: Subscriber) -> None:
        """Answer a probe. From then on the client says nothing until its poll has ended."""
        self._requests.discard("probe")
        if probe is self._probe:
            self.app.hub.reply(probe, data_frame("3probe"))
            cast("QueueTransport", self.subscriber.transport).ready.set()

    def take(self, packet: str | bytes) -> None:
        """A packet of the client, who loses the session by what is none."""
        polls = self._encoding.polls
        if not self.subscriber.is_open:
            return
        if packet == "1":
            # A poll that waits is answered with what says nothing.
            self.close("transport close", self._encoding.engine("6") if polls else None)
        elif packet[:1] == "3":
            self.subscriber.answer_by = 0
        else:
            try:
                # In base64 it is of a WebSocket with `forceBase64`.
                if isinstance(packet, str) and packet[:1] == "b":
                    packet = base64.b64decode(packet[1:], validate=True)
                if isinstance(packet, str) and packet[:1] != "4":
                    raise ValueError("unknown packet")
                self.message(packet if isinstance(packet, bytes) else packet[1:])
            except (ValueError, RecursionError):
                # The POST is told; a poll that waits too.
                self.close("parse error", b"" if polls and "polls" not in self._requests else None)

    # Polling

    def answer(self, call: Call) -> Answer:
        """Answer a polling request; a second one of its kind beside it ends the session."""
        kind = "posts" if call.method == "POST" else "polls"
        if kind in self._requests:
            self.close(f"two {kind} at once")
            raise EngineFault("Bad request")
        if not self._encoding.polls:
            raise EngineFault("Bad request")
        self._requests.add(kind)
        try:
            return payload_answer(self._post(call) if kind == "posts" else self._poll(call))
        finally:
            self._requests.discard(kind)

    def _poll(self, call: Call) -> bytes:
        """What waits for the client, as soon as there is something."""
        queue, settings = cast("QueueTransport", self.subscriber.transport), self.app.settings
        seconds = settings["ping_interval"] + settings["ping_timeout"]
        due = self.subscriber.answer_by or self.subscriber.pinged_at + int(seconds * 1000)
        if due <= ticks_ms() and not self.subscriber.is_paused:  # the hub may not have looked yet
            self.close("ping timeout", b"")
            raise EngineFault("Session ID unknown")
        with call.connection.noting_end(partial(self.close, "the poll was cancelled", b"")):
            queue.ready.wait(self.PROBE_SECONDS if self._probe else None)
        if queue is not self.subscriber.transport:
            raise EngineFault("Bad request")
        payload = queue.fetch()
        self.app.hub.flush(self.subscriber)
        if not self.subscriber.is_open:  # its last words can't be fetched by another poll
            payload += queue.fetch()
        return payload or b"6"

    def _post(self, call: Call) -> bytes:
        """Take the packets of a body, of which a client sends one after the other."""
        try:
            payload = whole_characters(call.body(self.app.settings["max_message_bytes"]))
            for packet in paced(SocketIoEncoding.packets(payload)):
                self.take(packet)
                if not self.subscriber.is_open and packet != "1":
                    raise EngineFault("Bad request")
                while self.subscriber.is_paused and self.subscriber.is_open:
                    gevent.sleep(0.01)
        except ValueError:
            self.take("")
            raise EngineFault("Bad request") from None
        return b"ok"

    # Upgrade

    def probe(self, call: Call, encoding: SocketIoEncoding) -> Answer:
        """Let a WebSocket be tried beside the polling; a second one is closed at once."""
        principal, client_id = self._principal._replace(credential=""), secrets.token_urlsafe(16)

        def attach(transport: Transport, head: bytes, early: bytes) -> None:
            cursor = self.subscriber.cursor
            tried = new_subscriber(principal, call.agent, encoding, client_id, cursor)
            tried.closes_at = ticks_ms() + self.PROBE_MS
            tried.pinged_at = tried.closes_at  # is not pinged
            is_second = self._probe is not None or not self._encoding.polls
            if not is_second:
                self._framing = Framing(self.app.settings["max_message_bytes"])
                tried.session, self._probe = self, tried
            self.app.hub.attach(tried, frozenset(), transport, head, early)
            if is_second:
                last = close_frame(CloseCode.POLICY_VIOLATION, "there is one already")
                self.app.hub.close_after(tried, last, "a second WebSocket")

        return upgrade(call, attach)


# Why a connection ended, in the words that Socket.IO has for it.
REASONS = {
    "closed by the client": "transport close",
    "server stopping": "server shutting down",
    "The credential expired": "server namespace disconnect",
    REVOKED: "server namespace disconnect",
    **{same: same for same in ("transport close", "ping timeout", "parse error", RECOVERED)},
}


class SocketIoSession(EngineSession):
    """Socket.IO v5 in a session of Engine.IO: a client in each namespace that was joined."""

    __slots__ = ("_joining", "_partial", "_timer", "handshake", "recovery")
    MOST_CLIENTS = 100  # namespaces that one connection joins

    def __init__(self, engine: EngineIo, subscriber: Subscriber, call: Call) -> None:
        super().__init__(engine, subscriber, call)
        self.recovery = engine.recovery
        self._joining: Client | None = None
        self._partial: SioPacket | None = None  # attachments of it are to come
        seconds = self.app.settings["socketio_connect_seconds"]
        self._timer = gevent.get_hub().loop.timer(seconds)  # less than a greenlet for each
        self._timer.start(self._end_silent)
        self.handshake: dict[str, Any] = {}  # what handlers may know of the first request
        if HANDLERS.has_handlers or HANDLERS.gated:
            now, query = datetime.now(timezone.utc), urllib.parse.parse_qsl(call.raw_query, True)
            self.handshake = {
                "headers": call.headers,
                "time": now.strftime("%a, %d %b %Y %H:%M:%S GMT"),
                "address": call.address,
                "xdomain": "origin" in call.headers,
                "secure": call.scheme == "https",
                "issued": int(now.timestamp() * 1000),
                "url": call.target,
                "query": dict(query),
            }

    def _end_silent(self) -> None:
        self._timer.close()  # what is freed before crashes the loop of Windows
        if not self.clients:
            self.close("no CONNECT came")

    def reply(self, kind: int, namespace: str, given: Arguments = EMPTY, ack: str = "") -> None:
        """Send a packet of Socket.IO to this client alone."""
        self.app.hub.reply(self.subscriber, self._encoding.packet(kind, namespace, given, ack))

    def emit(self, namespace: str, event: str, arguments: Arguments, ack: str = "") -> None:
        """Send an event to this client alone."""
        position = self.app.hub.position(self.subscriber)
        data = self._encoding.event(namespace, event, arguments, position, ack)
        self.app.hub.reply(self.subscriber, data)

    def message(self, data: str | bytes) -> None:
        """A packet of Socket.IO, or an attachment of the one before. Raises ValueError."""
        packet = self._parse(data) if self._partial is None else self._attach(self._partial, data)
        self._partial = packet if len(packet.attachments) < packet.expected else None
        if self._partial is not None:
            return
        if packet.kind != SIO_ACK:
            self.later(partial(self._handle, packet), packet.size)
        elif (client := self.clients.get(packet.namespace)) is not None:
            client.take_answer(packet)

    def _attach(self, packet: SioPacket, data: str | bytes) -> SioPacket:
        if isinstance(data, str):
            raise ValueError("attachments are missing")
        packet.attachments.append(data)
        packet.attached += len(data)
        packet.size += len(data)
        if packet.attached > self.app.settings["max_message_bytes"]:
            raise ValueError("attachments that are too large")
        return packet

    def _parse(self, data: str | bytes) -> SioPacket:
        """Who begins in MessagePack is answered so."""
        parser, begins = self._encoding.parser, not self.clients
        if parser == "json" and isinstance(data, str):
            return parse_packet(data)
        if isinstance(data, str) or (parser == "json" and not begins):
            raise ValueError("not of its parser, or an attachment of nothing")
        try:
            packet = parse_msgpack(data)
        except ValueError:
            if begins:
                why = "it has a parser of its own; there are the default one and msgpack"
                self._engine.note(why, self.subscriber.address)
            raise
        if parser == "json":
            encoding = self._engine.encodings[self._encoding.transport, "msgpack"]
            self.app.hub.become(self.subscriber, encoding=encoding)
        return packet

    def lost(self, reason: str) -> None:
        """Each client's handler hears why, after what came before the end."""
        self._timer.close()
        is_fault = reason.startswith("connection lost")
        words = REASONS.get(reason, "transport error" if is_fault else "forced server close")
        for client in self.clients.values():
            client.gone()
            self.later(partial(client.depart, words, is_lost=True))

    def _handle(self, packet: SioPacket) -> None:
        client = self.clients.get(packet.namespace)
        if packet.kind == SIO_CONNECT and client is None:
            self._connect(packet.namespace, packet.payload)
        elif client is None or packet.kind == SIO_CONNECT:
            self.close("a namespace that was not joined, or twice")
        elif packet.kind == SIO_DISCONNECT:
            client.depart("client namespace disconnect")
        else:
            client.receive(packet)

    def _connect(self, namespace: str, auth: dict[str, Any]) -> None:
        try:
            declared = HANDLERS.find(namespace, auth)
            if declared is None or len(self.clients) >= self.MOST_CLIENTS:
                raise Refused("Invalid namespace")
            is_gated = bool(declared.middlewares)
            principal = self._authenticate(auth, is_gated)
            client = self._joining = Client(self, namespace, declared, auth, principal)
            if namespace == "/" and (is_gated or principal.may_use("subscribe", None)):
                client.channels = frozenset({EVERYONE})
            skips = self.app.settings["socketio_recovery_skips_middlewares"]
            since = self.recovery.recover(client, auth) if skips else None
            if since is None:
                for middleware in declared.middlewares:
                    if middleware(namespace, "use", client) is False:
                        raise Refused
        except Problem as problem:
            self._refuse(namespace, Refused("unauthorized"))
            self._note_refusal(problem)
        except BaseException as error:
            self._refuse(namespace, error)
            if not isinstance(error, Refused):
                raise
        else:
            self._admit(client, auth, since)
        finally:
            self._joining = None

    def _authenticate(self, auth: dict[str, Any], is_gated: bool) -> Principal:
        """Who connects: `auth.token`, else the first request's cookie or header. Where a
        middleware decides, the token may be the application's."""
        principal, access = self._principal, self.app.access
        if isinstance(auth.get("token"), str) and self.app.settings["access"] != "open":
            try:
                principal = access.by_token(auth["token"])._replace(address=principal.address)
            except Problem:
                if not is_gated:
                    raise
            check_capacity(self.app, principal, is_open=True)
        if not is_gated:
            access.require(principal, "subscribe")
        return principal

    def _refuse(self, namespace: str, error: BaseException) -> None:
        """Tell a client why it can't join, whatever was raised; it would wait else."""
        words = words_of(error) if isinstance(error, Exception) else ""
        body = to_json({"message": words or "internal error"})
        if isinstance(error, Refused):  # an heir of it may hold what can't be told
            with contained(self.app.journal, "What a middleware refuses with can't be sent"):
                given = error.args or ("refused",)
                body = to_json(dict(zip(("message", "data"), given, strict=False)))
        self.reply(SIO_CONNECT_ERROR, namespace, Arguments(body, []))

    def _note_refusal(self, problem: Problem) -> None:
        """Tell the administrator, and count it as a refused request is."""
        address, way_out = self.subscriber.address, "Send auth.token, sign in, or set access=open."
        try:
            self.app.access.limit_request(ANONYMOUS._replace(address=address))
        except Problem:
            self.close("too many CONNECTs were refused")
        else:
            words = f"Socket.IO CONNECT refused: {problem.detail} {way_out}"
            self.app.journal.add("WARN", words, ipAddress=address)

    def _admit(self, client: Client, auth: dict[str, Any], since: int | None) -> None:
        hub, subscriber, recovery = self.app.hub, self.subscriber, self.recovery
        is_first = not self.clients
        if is_first:
            subscriber.username = client.principal.name
        if (at := client.principal.expires_at) is not None:  # the earliest of its namespaces'
            subscriber.expires_at = min(at, subscriber.expires_at or at)
        since = recovery.recover(client, auth) if since is None else since
        if recovery.seconds:
            client.pid = auth["pid"] if client.recovered else secrets.token_urlsafe(24)
            try:
                recovery.keep(client, since)
            except Exception:
                self.close("it can't be stored")  # so it tries again
                recovery.lost(client)
                raise
        if not subscriber.is_open:
            if client.pid:
                recovery.lost(client)
            return
        body = {"sid": client.id, "pid": client.pid} if client.pid else {"sid": client.id}
        self.clients[client.namespace], self._joining = client, None
        client.connected = True
        if client.id != subscriber.client_id:  # from here on it hears what is sent to its id
            recovery.replace(client)  # by which of two that came at once
            hub.become(subscriber, client_id=client.id)
        self.reply(SIO_CONNECT, client.namespace, Arguments(to_json(body), []))
        if since is not None and is_first:
            hub.rewind(subscriber, frozenset(client.topics), since)
        else:
            self.renew_topics(since)
        client.hear("connection", [])
        client.keep()

    def renew_topics(self, since: int | None = None) -> None:
        """Hear what the namespaces' clients want to hear, what is new also from an id on."""
        if self.subscriber.is_open:
            wanted = (client.topics for client in self.clients.values())
            self.app.hub.set_topics(self.subscriber, frozenset().union(*wanted), since)

    def remove(self, client: Client, is_told: bool) -> bool:
        """Let a client hear and answer no more from here on; whether it did before."""
        if self.clients.get(client.namespace) is not client:
            return False
        self.clients.pop(client.namespace).gone()
        self.renew_topics()
        if is_told:
            self.reply(SIO_DISCONNECT, client.namespace)
        return True

    def revoked(self, credentials: set[str]) -> None:
        """Put out who joined by these, and nobody joins by them any more."""
        if self._principal.credential in credentials:
            self._principal = ANONYMOUS._replace(address=self._principal.address)
        clients, joining = list(self.clients.values()), self._joining
        gone = [client for client in clients if client.principal.credential in credentials]
        if joining is not None and joining.principal.credential in credentials:
            self.close(REVOKED)
        elif gone and gone == clients:
            self.app.hub.disconnect([self.subscriber], REVOKED)
        for client in gone if self.subscriber.is_open else ():
            self.remove(client, is_told=True)
            # What may wait comes later.
            self.later(partial(client.departed, "server namespace disconnect"))


class EngineIo:
    """The sessions of Engine.IO (protocol v4), and what every node does with its clients."""

    SESSION: type[EngineSession] = SocketIoSession
    ENDED_SECONDS = 30  # how long the last packets of a polling session are kept
    MOST_ENDED = 1_000
    # What is done with each client of an order. A client is put out after what it said before.
    ACTS: ClassVar[dict[str, Callable[..., None]]] = {
        "join": Client.join,
        "leave": Client.leave,
        "disconnect": lambda one, close: one.session.later(partial(one.disconnect, close)),
    }

    def __init__(self, app: Application) -> None:
        self.app = app
        self.recovery = Recovery(app)
        offsets = self.recovery.seconds > 0
        forms = itertools.product(("websocket", "polling"), ("json", "msgpack"))
        self.encodings = {form: SocketIoEncoding(*form, offsets) for form in forms}
        self._sessions: dict[str, EngineSession] = {}
        self._ended: dict[str, bytes] = {}  # what has not been fetched, and tells of the end
        # Of `ask`, that wait.
        self._questions: dict[int, gevent.queue.Queue[list[Any]]] = {}
        self._numbers = itertools.count(1)
        app.hub.controls["sockets"] = self._obey
        self._noted: dict[str, int] = {}  # why clients were refused; told anew from then on

    def note(self, why: str, address: str) -> None:
        """Tell the administrator of clients that can't be served; of each kind once a minute."""
        if self._noted.get(why, 0) <= ticks_ms():
            self._noted[why] = ticks_ms() + 60_000
            words = f"A Socket.IO client was refused: {why}."
            self.app.journal.add("WARN", words, ipAddress=address)

    def answer(self, call: Call) -> Answer:
        given = dict(urllib.parse.parse_qsl(call.raw_query, keep_blank_values=True))
        transport, sid = given.get("transport", ""), given.get("sid", "")
        encoding = self.encodings.get((transport, "json"))  # until the client says otherwise
        try:
            if given.get("EIO") != "4":
                self.note("it speaks EIO 3; use socket.io-client 3 or 4", call.address)
                raise EngineFault("Unsupported protocol version")
            if encoding is None:
                raise EngineFault("Transport unknown")
            if "sid" not in given:
                if call.method != "GET":
                    raise EngineFault("Bad handshake method")
                check_capacity(self.app, call.principal)
                return self._begin(call, given, encoding)
            if sid in self._ended:
                return payload_answer(self._ended.pop(sid))
            if sid not in self._sessions:
                raise EngineFault("Session ID unknown")
            session = self._sessions[sid]
            return session.answer(call) if encoding.polls else session.probe(call, encoding)
        except EngineFault as fault:
            words = str(fault)
            return Answer({"code": fault.CODES[words], "message": words}, 400)

    def _begin(self, call: Call, given: dict[str, str], encoding: SocketIoEncoding) -> Answer:
        """Open a session; its answer is the packet "open"."""
        app, settings = self.app, self.app.settings
        # What the request's credential gives is for who joins a namespace by it.
        principal, session = call.principal._replace(credential=""), given.get("session", "")
        client_id = client_id_of(session if _SESSION.fullmatch(session) else secrets.token_hex(16))

        def attach(transport: Transport, head: bytes, early: bytes) -> None:
            cursor = app.hub.head
            subscriber = new_subscriber(principal, call.agent, encoding, client_id, cursor)
            made = subscriber.session = self.SESSION(self, subscriber, call)
            self._sessions[made.sid] = made
            opening = {
                "sid": made.sid,
                "upgrades": ["websocket"] if encoding.polls else [],
                "pingInterval": int(settings["ping_interval"] * 1000),
                "pingTimeout": int(settings["ping_timeout"] * 1000),
                "maxPayload": settings["max_message_bytes"],
            }
            first = head + encoding.engine("0" + to_json(opening))
            app.hub.attach(subscriber, frozenset(), transport, first, early)

        if not encoding.polls:
            return upgrade(call, attach)
        queue = QueueTransport()
        attach(queue, b"", b"")
        return payload_answer(queue.fetch())

    def forget(self, sid: str, last: bytes) -> None:
        """A session is over. Its last packets can be fetched for a while, where they say so."""
        del self._sessions[sid]
        if last.split(SocketIoEncoding.SEPARATOR)[-2:-1] in ([b"1"], [b"6"]):
            self._ended[sid] = last
            gevent.spawn_later(self.ENDED_SECONDS, self._ended.pop, sid, None)
            if len(self._ended) > self.MOST_ENDED:
                del self._ended[next(iter(self._ended))]

    # What every node does

    def tell(self, order: Order) -> None:
        """Let every node do something with its clients, this one too; returns after the commit."""
        order.origin = self.app.nodes.id
        self._tell(order)

    def ask(self, order: Order, timeout: float) -> list[Any]:
        """As `tell`, and what all nodes answer, together. Raises NotAnswered after so many seconds,
        and as `plain_seconds`."""
        timeout = plain_seconds(timeout)
        order.number, silent = next(self._numbers), len(self.app.nodes.described())
        waiting = self._questions[order.number] = gevent.queue.Queue()
        found = list[list[Any]]()
        try:
            self.tell(order)
            with gevent.Timeout(timeout, False):
                while silent:
                    found += waiting.get()
                    silent -= 1
        finally:
            del self._questions[order.number]
        answers = [each[0] for each in found if each]
        if missing := silent + len(found) - len(answers):
            raise NotAnswered(missing, answers)
        return answers

    def _tell(self, order: Order, is_for_here: bool = False) -> None:
        # What is no data is told of by its words.
        text = base64.b64encode(msgspec.msgpack.encode(order, enc_hook=str)).decode()
        if is_for_here:
            self._obey(0, {"order": text})
        else:
            self.app.log.control("sockets", order=text)

    def _obey(self, _: int, content: dict[str, Any]) -> None:
        order = msgspec.msgpack.decode(base64.b64decode(content["order"]), type=Order)
        here = (session.clients.get(order.namespace) for session in self._sessions.values())
        clients = [client for client in here if client is not None and order.is_for(client)]
        if order.act in self.ACTS:
            for client in clients:
                self.ACTS[order.act](client, *order.arguments)
        elif order.act != "answers":
            gevent.spawn(self._answer_order, order, clients)
        elif order.origin == self.app.nodes.id and order.number in self._questions:
            self._questions[order.number].put(order.arguments)

    def _answer_order(self, order: Order, clients: list[Client]) -> None:
        """Tell who asks what is known of clients here, what they say, or what this node says: each
        answer in a list, which is empty where there is none."""
        is_own, journal = order.origin == self.app.nodes.id, self.app.journal

        def pack(answer: Any) -> list[msgspec.Raw]:
            found = list[msgspec.Raw]()
            with contained(journal, f"An answer to all nodes ({order.act}) can't be sent"):
                packed = msgspec.msgpack.encode(answer, enc_hook=str)
                msgspec.msgpack.decode(b"\x91" * 30 + packed)  # the order holds it, deeper still
                found.append(msgspec.Raw(packed))
            return found

        def ask(client: Client, event: str, values: list[Any], timeout: float) -> list[Any]:
            with contextlib.suppress(TimeoutError):
                return pack(client.call(event, *values, timeout=timeout))
            return []

        def call(event: str, values: list[Any]) -> list[Any]:
            listeners, results = HANDLERS.server_side.take(event), list[Any]()
            for listener in listeners:
                with contained(journal, f"The handler of {event} failed"):
                    results.append(listener("", event, *values))
            first = next((result for result in results if result is not None), None)
            return pack(first) if results and len(results) == len(listeners) else []

        with contained(journal, f"A question to all nodes ({order.act}) failed"):
            if order.act == "fetch":
                fields = RemoteClient.__struct_fields__
                answers = [pack({name: getattr(one, name) for name in fields}) for one in clients]
            elif order.act == "call":
                asked = [gevent.spawn(ask, client, *order.arguments) for client in clients]
                answers = [each.value or [] for each in gevent.joinall(asked)]
            else:
                answers = [] if is_own else [call(*order.arguments)]
            if order.number:
                order = msgspec.structs.replace(order, act="answers", arguments=answers)
                self._tell(order, is_for_here=is_own)


_POLL, _SEND = "Open or poll a Socket.IO connection", "Send packets on a polling connection"


@route("GET", "/socket.io/", "public", _POLL, gives={200: TEXT, 101: ""})
@route("POST", "/socket.io/", "public", _SEND, takes=TEXT, gives=TEXT)
@route("PUT", "/socket.io/", "public", "Refused, as the protocol says", gives={400: JSON})
def socket_io(app: Application, call: Call) -> Answer:
    """Engine.IO v4 and Socket.IO v5; a credential is asked for when a namespace is joined."""
    return app.sockets.answer(call)


@route(
    "GET", "/socket.io/<name>", "public", "The browser client of Socket.IO", gives="text/javascript"
)
def socket_io_client(app: Application, call: Call, name: str) -> Answer:
    """`socket.io.js` and its kinds `min`, `esm.min` and `msgpack.min`, as the original has them."""
    known = call.headers.get("if-none-match", "")
    return app.static.file(f"vendor/socket.io/{name}", known)


# ----------------------------------------------------------------------------------------------
# Network
# ----------------------------------------------------------------------------------------------


class HeadFault(ValueError):
    """A head that is refused with another status than 400: that, and why."""


# Its target is anything but controls, spaces and a fragment; which form it has is looked at later.
REQUEST_LINE = re.compile(
    r"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}) ([!\"$-~\x80-\xff]+) HTTP/([0-9]\.[0-9])\r?\n"
)
AUTHORITY = re.compile(r"[^/?@]+:[0-9]+")
ABSOLUTE = re.compile(r"(?i:https?)://([^/?@]+)(/[^?]*)?(\?.*)?")  # RFC 9110, 4.2: without "@"
# A field, its name a token (RFC 9110, 5.6.2) and its value in one line; or a line that is none.
FIELD = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}):[ \t]*([^\r\n\0]*)\r?\n|[^\n]*\n")
ONCE = {"content-length", "transfer-encoding", "host"}  # two are two readings of a request
MOST_FIELDS = 100


def header_fields(head: str, at: int) -> dict[str, str]:
    """The fields of a head by their names in lower case (RFC 9112, 5), from `at` to the empty line
    at its end. Raises ValueError for what a proxy before us may read otherwise than we do: that is
    how requests are smuggled (RFC 9112, 6.3, 11.2)."""
    fields: dict[str, str] = {}
    found = FIELD.findall(head, at)[:-1]
    if len(found) > MOST_FIELDS:
        raise HeadFault(431, "it has too many header fields")
    for given, text in found:
        name, value = given.lower(), text.rstrip(" \t")
        if not name:
            raise ValueError("a line of it is not a header field")
        if name in fields:
            if name in ONCE:
                raise ValueError(f"it has {name} twice")
            value = fields[name] + ("; " if name == "cookie" else ",") + value
        fields[name] = value
    length, coding = fields.get("content-length"), fields.get("transfer-encoding")
    if length is not None and (coding is not None or not re.fullmatch("[0-9]{1,18}", length)):
        raise ValueError("its length is in doubt")
    if coding is not None and coding.lower() != "chunked":
        raise ValueError("its Transfer-Encoding is not chunked alone")
    return fields


def plain_target(method: str, target: str, fields: dict[str, str]) -> str:
    """The path and query that a target of any form asks for (RFC 9112, 3.2); what an absolute one
    says of the host counts instead of Host. Raises ValueError."""
    if method == "CONNECT":
        if AUTHORITY.fullmatch(target):
            raise HeadFault(501, "CONNECT is for proxies")
    elif target[0] == "/" or (method == "OPTIONS" and target == "*"):
        return target
    elif absolute := ABSOLUTE.fullmatch(target):
        fields["host"], path, query = absolute.groups("")
        return (path or ("*" if method == "OPTIONS" and not query else "/")) + query
    raise ValueError(f"{target[:100]!r} is not a target of {method}")


# A time, in seconds since 1970, as HTTP writes it (RFC 9110, section 5.6.7).
http_date = functools.lru_cache(maxsize=2)(partial(email.utils.formatdate, usegmt=True))


def pack_head(status: int, headers: dict[str, str]) -> bytes:
    """An answer's head. Raises ValueError for a value that would end its line and begin another."""
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if not lines.count("\n") == lines.count("\r") == len(headers):
        raise ValueError("a header field has a line's end in it")
    return f"HTTP/1.1 {status} {http.client.responses[status]}\r\n{lines}\r\n".encode("latin-1")


class Connection:
    """A client's connection: its requests are read and answered, one after the other, until one
    of them makes it a stream, to which goes what else was read. `Front` keeps its deadlines."""

    IDLE_SECONDS = 75.0  # between two requests of a connection
    HEAD_SECONDS = 10.0  # from a request's first byte to the end of its head
    HEAD_BYTES = 65_536
    LINE_END, HEAD_END = re.compile(rb"\n"), re.compile(rb"\n\r?\n")
    CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[^\r\n]*)?\r\n")  # how one begins
    LINE_BYTES = 4_096  # of that, and of a trailer
    UNWANTED = 1_048_576  # bytes of a body that are read for the sake of the next request
    EMPTY_LINES = 4  # that may stand before a request (RFC 9112, 2.2)
    SEND_SECONDS = 120  # for an answer: a client that stops reading holds nobody
    HANDSHAKE_SECONDS = 10.0

    def __init__(self, transport: Any, address: str, app: Application) -> None:
        self.transport = transport  # None once it is a stream's
        self._watcher = gevent.get_hub().loop.io(transport.fileno(), READ)
        self._waiter: gevent.hub.Waiter | None = None  # of who waits for input
        self._gone: Callable[[], None] | None = None  # of who only asks whether it ends
        self._data = bytearray()  # what came and isn't used
        self.deadline = 0.0  # until when what is waited for must be there
        self.is_idle = False  # whether that is a next request, which may be none
        self.body_left: int | None = 0  # of a request: its bytes, None for chunks; -1: in doubt
        self.is_awaited = False  # it comes after `100 Continue`, or without (RFC 9110, 10.1.1)
        self.address = address
        self.scheme = "http"
        self.is_ending = False  # no further request is answered
        self.greenlet = gevent.getcurrent()
        self._app = app

    # What it reads

    def limit(self, seconds: float, is_idle: bool = False) -> None:
        """What is read from now on must be there within this time."""
        self.deadline, self.is_idle = time.monotonic() + seconds, is_idle

    def interrupt(self, error: OSError) -> None:
        """Raise an error in whoever waits for input."""
        if self._waiter is not None:
            gevent.get_hub().loop.run_callback(self._waiter.throw, error)
            self._waiter = None

    def _wait(self) -> None:
        """Wait until something came, or the end. Raises OSError when it takes too long."""
        waiter = self._waiter = gevent.hub.Waiter()
        if not self._watcher.active:
            self._watcher.start(self._came)
        waiter.get()

    def _came(self) -> None:
        """In the loop: there is something to read."""
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.switch(None)
            return
        part: bytes | None = b""
        if self._gone is not None:
            with contextlib.suppress(OSError):
                part = self.transport.receive()
            if part is None:  # of a record of TLS, such as that of its end, the rest is to come
                return
            self._data += part
            if not part:
                self._gone()
        # Stopped only now: to stop and start it for each request would be two system calls.
        self._watcher.stop()

    def _fill(self) -> None:
        """Read more. Raises OSError where there is none, TimeoutError where it takes too long."""
        part = None
        while part is None:
            self._wait()  # first: there is seldom something already
            part = self.transport.receive()
        if not part:
            raise ConnectionError("it ends too soon")
        self._data += part

    def take(self, size: int | None = None) -> bytes:
        """Use so many bytes of what came, or all."""
        taken = bytes(self._data[:size])
        del self._data[:size]
        return taken

    def _begin(self) -> None:
        """Wait for a request's first byte. Raises OSError."""
        for _ in range(self.EMPTY_LINES + 1):
            if not self._data:
                self.limit(self.IDLE_SECONDS, is_idle=True)
                self._fill()
            if not self._data.startswith((b"\n", b"\r\n")):
                break
            self.take(self._data.index(b"\n") + 1)

    def _end_of(self, end: re.Pattern[bytes], most: int, why: tuple[int, str], at: int = 0) -> int:
        """How many bytes there are up to an end, which is looked for from `at` on. Raises OSError,
        a HeadFault where they are more than `most`."""
        while (found := end.search(self._data, at, most)) is None:
            if len(self._data) >= most:
                raise HeadFault(*why)
            at = max(at, len(self._data) - 2)
            self._fill()
        return found.end()

    def _read_call(self) -> Call:
        """The next request, whose head is about to come. Raises OSError, ValueError for what is
        none."""
        self.limit(self.HEAD_SECONDS)
        fault = "its head is too large"
        size = self._end_of(self.LINE_END, self.HEAD_BYTES, (414, fault))
        first = self._data[:size].decode("latin-1")
        line = REQUEST_LINE.fullmatch(first)  # what is none isn't waited for
        if line is None:
            raise ValueError(f"{first[:-1][:100]!r} asks for nothing")
        method, target, version = line.groups()
        if version[0] != "1":
            raise HeadFault(505, f"it is HTTP/{version}")
        end = self._end_of(self.HEAD_END, self.HEAD_BYTES, (431, fault), size - 1)
        fields = header_fields(self.take(end).decode("latin-1"), size)
        has_chunks = "transfer-encoding" in fields  # no other coding is let through
        if version != "1.0" and "host" not in fields:
            raise ValueError("it has no Host")
        if version == "1.0" and has_chunks:
            raise ValueError("HTTP/1.0 has no Transfer-Encoding")  # RFC 9112, 6.1
        target = plain_target(method, target, fields)
        call = Call(method, target, version, fields, self.address, self.scheme, self)
        wishes = field_list(fields["connection"]) if "connection" in fields else ()
        call.is_kept = "close" not in wishes and (version != "1.0" or "keep-alive" in wishes)
        expect = fields.get("expect", "") if version != "1.0" else ""
        if expect and field_list(expect) != {"100-continue"}:
            raise HeadFault(417, "it expects something else than 100-continue")
        self.body_left = None if has_chunks else int(fields.get("content-length", 0))
        self.is_awaited = bool(expect) and self.body_left != 0
        return call

    def body(self, limit: int, seconds: float = 30.0) -> bytes | None:
        """A request's whole body, once; None when that is more than `limit` bytes. Raises OSError,
        and ValueError when it is framed wrongly (RFC 9112, 6)."""
        length, self.body_left = self.body_left, -1
        if (length or 0) > limit:
            return None
        if self.is_awaited:
            self.is_awaited = False
            self.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.limit(seconds + (length or 0) / 16_384)
        raw = self._chunks(limit) if length is None else self._read(length)
        self.body_left = -1 if raw is None else 0
        return raw

    def _chunks(self, limit: int) -> bytes | None:
        """A body in chunks (RFC 9112, 7.1)."""
        body, size = bytearray(), -1
        while size:
            line = self.CHUNK.fullmatch(self._line())
            if line is None:
                raise ValueError("it is not in chunks")
            size = int(line[1], 16)
            if len(body) + size > limit:
                return None
            body += self._read(size)
            if size and self._read(2) != b"\r\n":
                raise ValueError("a chunk is longer than it says")
        for _ in range(MOST_FIELDS):
            if self._line() == b"\r\n":  # the trailer's end; nobody wants it
                return bytes(body)
        raise ValueError("its trailer is too long")

    def _line(self) -> bytes:
        fault = 400, "a line of it has no end"
        return self.take(self._end_of(self.LINE_END, self.LINE_BYTES, fault))

    def _read(self, size: int) -> bytes:
        while len(self._data) < size:
            self._fill()
        return self.take(size)

    @contextlib.contextmanager
    def noting_end(self, gone: Callable[[], None]) -> Iterator[None]:
        """Call `gone`, from the loop, if the client goes away meanwhile."""
        self._gone = gone
        if not self._watcher.active:
            self._watcher.start(self._came)
        try:
            yield
        finally:
            self._gone = None

    # What it answers

    def serve(self, refusal: Problem | None) -> None:
        """Answer until the end, or only that there are too many."""
        try:
            own = str(as_ip(self.transport.getsockname()[0]))
            context = self._app.network.certificates.context(own)
            if refusal is not None:
                if context is None:  # else it may want a handshake first
                    self._send(problem_answer(refusal))
                return
            self.transport.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if context is not None:
                self._secure(context)
            while not self.is_ending and self._serve_one():
                pass
        except OSError:
            pass  # the client is gone, or takes its time
        finally:
            self._watcher.close()
            if self.transport is not None:
                self.transport.close()

    def _secure(self, context: ssl.SSLContext) -> None:
        """Speak TLS if the client does: it begins with a byte of 0x16. Raises OSError."""
        self.limit(self.IDLE_SECONDS, is_idle=True)
        self._wait()
        if self.transport.recv(1, socket.MSG_PEEK) != b"\x16":
            return
        sock = gevent.socket.socket(fileno=self.transport.detach())
        try:
            with gevent.Timeout(self.HANDSHAKE_SECONDS, TimeoutError("it took too long")):
                secured = context.wrap_socket(sock, server_side=True)
        except OSError as error:  # SSLError is one: a refused certificate, a port scan
            self._app.journal.add("INFO", f"TLS handshake failed: {error}", ipAddress=self.address)
            sock.close()
            raise
        self.transport, self.scheme = TlsTransport(secured), "https"

    def _serve_one(self) -> bool:
        """Answer a request; whether another may follow."""
        self._begin()
        try:
            call = self._read_call()
        except (OSError, ValueError) as error:
            status, fault = error.args if isinstance(error, HeadFault) else (400, error)
            why = f"Refused: not a request ({fault})"[:300]
            self._app.journal.add("INFO", why, ipAddress=self.address)
            return self._send(Answer(b"", status, {}))
        answer = answer_call(self._app, call)
        answer.headers["Date"] = http_date(int(time.time()))
        if answer.attach is None or call.method == "HEAD":
            return self._send(answer, call.is_kept, call.method, call.version)
        head, early = pack_head(answer.status, answer.headers), self.take()
        self._watcher.close()
        transport, self.transport = self.transport, None
        answer.attach(transport, head, early)
        return False

    def _end(self) -> None:
        """Send no more, and let what is on its way come, within bounds: closing on unread input
        would reset the connection, and what was sent last with it."""
        self.transport.end_output()
        self.limit(5.0)
        with contextlib.suppress(OSError):
            for _ in range(512):
                self._data.clear()
                self._fill()

    def _send(
        self, answer: Answer, is_kept: bool = False, method: str = "GET", version: str = "1.1"
    ) -> bool:
        """Send an answer to a request; whether another one may follow."""
        headers, body = answer.headers, answer.body
        is_whole = type(body) is bytes
        chunked = not is_whole and "Content-Length" not in headers and version != "1.0"
        if is_whole and answer.status not in (204, 304) and answer.attach is None:
            headers["Content-Length"] = str(len(body))
        elif chunked:
            headers["Transfer-Encoding"] = "chunked"
        elif "Content-Length" not in headers and answer.status not in (204, 304):
            is_kept = False  # its end is the body's
        if not is_kept or self.is_awaited:
            headers["Connection"] = "close"
        elif version == "1.0":
            headers.setdefault("Connection", "keep-alive")
        head = pack_head(answer.status, headers)
        has_body = method != "HEAD" and answer.status != 204
        if is_whole:
            # In one: two would wait for the peer's delayed ACK.
            self.sendall(head + body if has_body else head)
        else:
            with contextlib.closing(body):
                for part in filter(None, body if has_body else ()):  # as it is made
                    self.sendall(head + (chunk(part) if chunked else part))
                    head = b""
            self.sendall(head + (chunk(b"") if chunked and has_body else b""))
        is_kept = headers.get("Connection") != "close"
        if is_kept and self.body_left not in (0, -1):  # nobody wanted it
            with contextlib.suppress(OSError, ValueError):
                self.body(self.UNWANTED, 5.0)
        if is_kept and self.body_left == 0:
            return True
        self._end()
        return False

    def sendall(self, data: bytes) -> None:
        """Send it all. Raises OSError."""
        left: bytes | memoryview = data
        until = time.monotonic() + self.SEND_SECONDS
        while left:
            try:
                sent = self.transport.send(left)
                left = memoryview(left)[sent:] if sent < len(left) else b""  # nearly always
            except BlockingIOError:  # the same is offered again
                seconds, fault = max(0, until - time.monotonic()), TimeoutError("it reads nothing")
                gevent.socket.wait_write(self.transport.fileno(), seconds, fault)


class Listener(gevent.baseserver.BaseServer):
    """Takes who connects, without gevent's own socket: its two watchers cost 10 us each time. A
    connection closes itself; a stream's lives on."""

    def do_read(self) -> tuple[PlainTransport, Any] | None:
        try:
            fd, address = self.socket._sock._accept()
        except BlockingIOError:
            return None
        return PlainTransport(fd), address


def raise_file_limit() -> int:
    """Allow as many open files as the system lets us; how many that are."""
    with contextlib.suppress(ImportError):
        import resource  # not on Windows

        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        for wanted in (hard, 10_240):  # macOS says that there is no limit, and takes no more
            with contextlib.suppress(OSError, ValueError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
                break
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return sys.maxsize if soft == resource.RLIM_INFINITY else soft
    return sys.maxsize


class Front:
    """Serves who connects: how many may, and how long those that are no streams are waited for."""

    REFUSED = 100  # at once, that are told why; who comes beside them is closed
    NOTE_SECONDS = 60.0  # between two entries of the event log about it

    def __init__(self, app: Application) -> None:
        self.app = app
        self._files = raise_file_limit()
        self._open: set[Connection] = set()
        self._refused: set[Connection] = set()  # those that are told that they are too many
        self._addresses: Counter[str] = Counter()  # or networks, of those that are open
        self._noted_at = -self.NOTE_SECONDS

    def listen(self, sock: Any) -> Listener:
        """Begin to take who connects to a socket."""
        server = Listener(sock, self._serve)
        server.start()
        return server

    def end(self, seconds: float, chosen: Callable[[Connection], bool]) -> None:
        """End connections; who is being answered has this many seconds, who only waits has none."""
        ended = [connection for connection in self._open | self._refused if chosen(connection)]
        for connection in ended:
            connection.is_ending = True
            if connection.is_idle:
                connection.interrupt(ConnectionAbortedError("it is stopped"))
        greenlets = [connection.greenlet for connection in ended]
        gevent.joinall(greenlets, seconds)
        gevent.killall(greenlets)

    def _serve(self, transport: PlainTransport, peer: Any) -> None:
        address = str(as_ip(peer[0]))
        self.app.network.arrived(address)
        counted = network_of(address)  # IPv6 by networks
        full = self._full(address, counted)
        if full and len(self._refused) >= self.REFUSED:
            transport.close()
            return
        why = f"The setting {full} is reached."
        if full and time.monotonic() > self._noted_at + self.NOTE_SECONDS:
            self._noted_at = time.monotonic()
            self.app.journal.add("WARN", f"Connections are refused: {why}")
        connection = Connection(transport, address, self.app)
        among = self._refused if full else self._open
        among.add(connection)
        self._addresses[counted] += not full
        try:
            with reported(self.app.journal, "Serving a connection failed"):
                connection.serve(Problem("too_many_connections", why) if full else None)
        finally:
            among.discard(connection)
            self._addresses[counted] -= not full
            if not self._addresses[counted]:
                del self._addresses[counted]

    def _full(self, address: str, counted: str) -> str:
        """The setting that allows no further connection; empty when it may be."""
        settings, hub = self.app.settings, self.app.hub
        # What the system allows, less what the program needs for itself.
        most = settings["max_sockets"] or max(self._files - 512, self._files // 2)
        count = len(self._open)
        if count + hub.count >= most and count + hub.sockets >= most:
            return "max_sockets"
        most = settings["max_sockets_per_address"]
        if not most or is_loopback(address) or self.app.access.is_trusted_proxy(address):
            return ""
        count = self._addresses[counted] + hub.count_from(address)
        return "max_sockets_per_address" if count >= most else ""

    def look(self) -> None:
        """Once a second: end those that are too slow."""
        now = time.monotonic()
        for connection in self._open | self._refused:
            if connection.deadline < now:
                connection.interrupt(TimeoutError("it came too slowly"))


def listen(host: str, port: int, is_alone: bool = True) -> Any:
    """A listening socket; of IPv6, where it `is_alone`, for IPv4 too if the system does so. Raises
    StartError with a sentence that says what to do."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = gevent.socket.socket(family, socket.SOCK_STREAM)
        if not is_alone and family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if os.name == "posix":  # on Windows it would let a second program take the port
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(4096)
        return sock
    except (OSError, OverflowError, TypeError) as error:  # the last: it can't be a name
        is_name = isinstance(error, (socket.gaierror, TypeError))
        may_not = PermissionError if isinstance(error, PermissionError) else None
        kind = socket.gaierror if is_name else may_not
        words: dict[Any, str] = {
            socket.gaierror: f"The host {host!r} is not an address of this machine.",
            PermissionError: f"The system does not let this user listen on port {port}. Choose "
            "another one with --port, 1024 or higher, and let a reverse proxy listen there.",
            errno.EADDRINUSE: f"Port {port} is in use by another program. Choose another one with "
            "--port, or --port 0 for any free one.",
            errno.EADDRNOTAVAIL: f"{host} is not an address of this machine. Choose one of its own "
            "with --host, or 0.0.0.0 for all of them.",
        }
        unknown = f"Can't listen on {host} port {port}: {error}."
        raise StartError(words.get(kind or getattr(error, "errno", None), unknown)) from None


LOOPBACK = "127.0.0.1", "::1"  # `localhost` is either
HOSTS = {"localhost": LOOPBACK, LOOPBACK[0]: LOOPBACK, LOOPBACK[1]: LOOPBACK[::-1]}


def listen_on(host: str | None, *ports: int) -> list[Any]:
    """The listening sockets of a host, None for all addresses, on the first port that is free; of
    several addresses those after the first where they are to be had. Raises StartError."""
    first, *others = ("0.0.0.0", "::") if host is None else HOSTS.get(host, (host,))
    socks: list[Any] = []
    for port in ports[:-1]:
        with contextlib.suppress(StartError):
            socks = [listen(first, port)]
            break
    socks = socks or [listen(first, ports[-1])]
    for other in others:
        with contextlib.suppress(StartError):
            socks.append(listen(other, socks[0].getsockname()[1], is_alone=False))
    return socks


# Addresses of this machine

# Interfaces that no phone in the room is on: containers, virtual machines, tunnels.
VPN = r"^(tun|tap|utun|wg|ppp|ipsec)|vpn|wireguard|tailscale|zerotier"
VIRTUAL = re.compile(
    rf"{VPN}|^(docker|br-[0-9a-f]{{8}}|veth|virbr|vmnet|vboxnet|vnet|vethernet|lxc|lxd|podman|cni"
    r"|flannel|cali|kube|zt|ham|gif|stf|awdl|llw|anpi)|virtualbox|vmware|hyper-v|wsl|bluetooth",
    re.IGNORECASE,
)
# Kinds of local networks, in the order in which their addresses are offered.
KINDS = {
    "private": ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"),
    "shared": ("100.64.0.0/10",),
    "unique-local": ("fc00::/7",),
    "self-assigned": ("169.254.0.0/16", "fe80::/10"),
    "loopback": ("127.0.0.0/8", "::1/128"),
}
NETWORKS = {ipaddress.ip_network(net): kind for kind, nets in KINDS.items() for net in nets}


class AddressView(msgspec.Struct):
    """An address of this machine, and the link for guests by it."""

    address: str
    interface: str
    kind: str
    virtual: bool
    link: str


def find_addresses(port: int) -> tuple[list[AddressView], bool]:
    """This machine's addresses but loopback and what browsers can't open, the likeliest first:
    physical and private; whether a VPN takes what goes to the rest of the world."""
    sources, is_vpn = set(), False
    # Towards addresses that nobody has (RFC 5737, 3849). Nothing is sent: UDP only looks for the
    # way.
    for family, far in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect((far, 9))
            sources.add(str(as_ip(sock.getsockname()[0])))
    up = {name for name, status in psutil.net_if_stats().items() if status.isup}
    found: dict[str, tuple[tuple[Any, ...], AddressView]] = {}
    for name, rows in psutil.net_if_addrs().items():
        for row in rows if name in up else ():
            text = row.address  # link-local IPv6 comes with a zone, on Windows without
            is_ip = row.family in (socket.AF_INET, socket.AF_INET6)
            if not is_ip or is_loopback(text) or text.lower().startswith("fe80:"):
                continue
            address, virtual = ipaddress.ip_address(text), bool(VIRTUAL.search(name))
            kind = next((kind for net, kind in NETWORKS.items() if address in net), "public")
            place, is_default = [*KINDS, "public"].index(kind), text in sources
            is_vpn = is_vpn or (is_default and bool(re.search(VPN, name, re.IGNORECASE)))
            link = f"http://{f'[{text}]' if address.version == 6 else text}:{port}/"
            rank = virtual, place, not is_default, address.version, text
            found[text] = rank, AddressView(text, name, kind, virtual, link)
    return [view for _, view in sorted(found.values())], is_vpn


def own_names() -> list[str]:
    host = socket.gethostname().lower()
    first = host.partition(".")[0]
    names = dict.fromkeys((host, first, f"{first}.local", "localhost"))
    return [name for name in names if re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)*", name)]


WARNINGS = {
    "no_address": "This machine is on no network: connect it to one, or open a hotspot.",
    "address_gone": "The chosen address is no longer there; another one is used.",
    "outside_constraints": "The address for guests is not one of a private network: people on the "
    "internet may reach it, and its certificate warns even where ca.crt is installed.",
    "vpn_default_route": "A VPN takes this machine's traffic; guests may not reach it meanwhile.",
    "self_assigned": "The network gave no address, so this machine took one itself: guests reach "
    "it only if theirs did the same.",
    "nothing_arrived": "Nothing has ever arrived from the network: allow the program in this "
    "machine's firewall, and check that the Wi-Fi does not keep devices apart.",
    "clock": "The clock is wrong: browsers will refuse the certificate.",
}


def address_warnings(
    addresses: Sequence[AddressView], is_vpn: bool, chosen: str, is_silent: bool
) -> list[str]:
    """What may keep guests from coming by these addresses, the first of which they are told, or
    has kept them until now: keys of `WARNINGS`."""
    if not addresses:
        return ["no_address"]
    told = next((a for a in addresses if a.address == chosen), addresses[0])
    found = {
        "address_gone": bool(chosen) and told.address != chosen,
        "outside_constraints": told.kind == "public",
        "vpn_default_route": is_vpn,
        "self_assigned": told.kind == "self-assigned",
        "clock": is_clock_behind(),
        "nothing_arrived": is_silent,
    }
    return [code for code, is_so in found.items() if is_so]


MDNS = "224.0.0.251", 5353  # RFC 6762


def answers_to(name: str, address: str) -> bool:
    """Whether some responder says over multicast DNS that this name is this address's: then
    guests can type it. Asks the local network alone, never a name server."""
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    question = bytes(4) + b"\0\1" + bytes(6) + labels + b"\0\0\1\0\1"
    with contextlib.suppress(OSError, ValueError), gevent.socket.socket(type=2) as sock:
        own = socket.inet_aton(address)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, own)
        sock.bind((address, 0))
        sock.settimeout(1.0)
        sock.sendto(question, MDNS)
        for _ in range(10):
            answer, _ = sock.recvfrom(9_000)
            if answer[6:8] != b"\0\0" and labels[1:].lower() in answer.lower() and own in answer:
                return True
    return False


# Certificates for a local network


def tls_context(cert: str, key: str) -> ssl.SSLContext | None:
    """The TLS context of a certificate, None without one. Raises StartError."""
    if not cert and not key:
        return None
    for name, path, other in (("tls_cert", cert, "tls_key"), ("tls_key", key, "tls_cert")):
        if not path:
            raise StartError(f"{other} is set without {name}: set both.")
        if not Path(path).is_file():
            raise StartError(f"{name}: there is no file {path}.")
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        # Given no password, OpenSSL would ask the terminal, and stop the loop until it has one.
        context.load_cert_chain(cert, key, "")
        return context
    except ssl.SSLError as error:
        words = f"tls_cert {cert} and tls_key {key} are not both PEM files."
        if "KEY_VALUES_MISMATCH" in str(error):
            words = f"The key {key} does not belong to the certificate {cert}."
        elif "ENCRYPTED" in Path(key).read_text("latin-1"):
            words = f"The key {key} is locked by a password: write one without, "
            words += f"by openssl pkey -in {key} -out NEW."
        raise StartError(words) from None
    except OSError as error:
        raise StartError(f"{cert} or {key} can't be read: {error.strerror}.") from None


class Certificates:
    """What connections are encrypted with: the certificate of the settings or, once this server
    is shared, one for each own address and name that somebody asks for.

    Those vouch for what is on the local network and, by the constraints of the authority that
    signs them (RFC 5280, 4.2.1.10), for nothing else. A root signed that authority once, in
    memory, and is gone: devices that install the root (`ca.crt`) trust this machine, and no
    stolen file can vouch for more.
    """

    SUFFIXES = ("localhost", "local", "home.arpa", "lan", "internal")
    DAYS, LEAF_DAYS = 3_650, 397

    def __init__(
        self, settings: Settings, folder: Path, journal: Journal, in_call: Callable[[], bool]
    ) -> None:
        """`in_call` tells whether somebody would be hurt by a change. Raises StartError for a
        certificate of the settings that is no use."""
        self._settings, self._folder = settings, folder
        self._journal, self._in_call = journal, in_call
        self._paths = settings["tls_cert"], settings["tls_key"]
        self._own, self._seen = tls_context(*self._paths), self._marks()
        self._leaves: dict[str, tuple[ssl.SSLContext, x509.Certificate]] = {}
        self.root = b""  # what devices may install, as PEM; empty until this server is shared
        self.fingerprint = ""

    # The certificate of the settings

    def _marks(self) -> list[tuple[int, int]]:
        found = (os.stat(path) for path in self._paths if os.path.isfile(path))
        return [(status.st_mtime_ns, status.st_size) for status in found]

    @property
    def own(self) -> ssl.SSLContext | None:
        """The context of the settings' certificate, read again when a file changes."""
        if self._own is not None and (marks := self._marks()) != self._seen:
            self._seen = marks
            try:
                self._own = tls_context(*self._paths)
                self._journal.add("INFO", "The certificate was read again")
            except StartError as error:
                self._journal.add("WARN", f"The certificate of before stays in use: {error}")
        return self._own

    # Those for a local network

    def prepare(self) -> None:
        """Read the authority, or make it where there is none of use. Raises OSError."""
        if self.root:
            return
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(OSError, ValueError, InvalidSignature):
            self._read()
            return
        root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        # No two have the same name: browsers would mix them up.
        name = f"rtapp on {socket.gethostname()[:40]} {secrets.token_hex(3)}"
        suffixes = map(x509.DNSName, dict.fromkeys((*self.SUFFIXES, *own_names())))
        limits = x509.NameConstraints([*suffixes, *map(x509.IPAddress, NETWORKS)], None)
        root = build_cert(name, root_key, (), self.DAYS, depth=1)
        cert = build_cert(f"{name} (in use)", key, (root, root_key), self.DAYS, 0, limits)
        write_private(self._folder / "authority.pem", pem_of(key) + pem_of(cert))
        write_private(self._folder / "ca.crt", pem_of(root))
        self._read()

    def _read(self) -> None:
        pem = (self._folder / "authority.pem").read_bytes()
        self._key: Any = serialization.load_pem_private_key(pem, None)
        self._authority = x509.load_pem_x509_certificate(pem)
        content = (self._folder / "ca.crt").read_bytes()
        root = x509.load_pem_x509_certificate(content)
        self._authority.verify_directly_issued_by(root)
        if not 0 < life_left(self._authority) <= 1:
            raise ValueError("it has expired")
        self.root, self.fingerprint = content, root.fingerprint(hashes.SHA256()).hex(":").upper()

    def context(self, address: str) -> ssl.SSLContext | None:
        """What to encrypt with for who came to an address of this machine; None without TLS.
        Raises OSError."""
        return self.own or (self._leaf(address) if self.root else None)

    def _leaf(self, name: str) -> ssl.SSLContext:
        """The context for a name or address. Its certificate is kept for two thirds of its life,
        and as long as it is valid during a call: browsers of guests who clicked through the
        warning of one would refuse another in silence."""
        # An authority's own: it says what is within its constraints.
        mark = self.fingerprint.replace(":", "")[:16].lower()
        path = self._folder / f"leaf-{mark}-{name.replace(':', '_')}.pem"
        found = self._leaves.get(name)
        with contextlib.suppress(OSError, ValueError):  # there is none, or it is damaged
            found = found or self._load(path)
        left = life_left(found[1]) if found else 0
        if found is None or not 0 < left <= 1 or (left < 1 / 3 and not self._in_call()):
            write_private(path, self._issue(name))
            found = self._load(path)
        self._leaves[name] = found
        return found[0]

    def _load(self, path: Path) -> tuple[ssl.SSLContext, x509.Certificate]:
        cert = x509.load_pem_x509_certificate(path.read_bytes())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        context.sni_callback = self._by_name
        return context, cert

    def _by_name(self, sock: Any, name: str | None, context: Any) -> None:
        """A client that asks for a name of this machine gets that name's certificate."""
        public = urllib.parse.urlsplit(self._settings["public_url"]).hostname
        if name and name.lower() in (*own_names(), *self._settings["allowed_hosts"], public):
            with contextlib.suppress(OSError):
                sock.context = self._leaf(name.lower())

    def _issue(self, name: str) -> str:
        """Key and chain for one name or address, as PEM. What is outside the constraints gets a
        certificate that signs itself: in the chain it would make all of it invalid."""
        limits = self._authority.extensions.get_extension_for_class(x509.NameConstraints).value
        address, key = as_ip(name), ec.generate_private_key(ec.SECP256R1())
        alone: Any = x509.DNSName(name) if address is None else x509.IPAddress(address)
        near = [x.value for x in limits.permitted_subtrees or () if isinstance(x, type(alone))]
        allowed = any(address in x if address else f".{name}".endswith(f".{x}") for x in near)
        by = (self._authority, self._key) if allowed else ()
        names = x509.SubjectAlternativeName([alone])
        cert = build_cert(f"rtapp at {name}"[:64], key, by, self.LEAF_DAYS, None, names)
        return "".join(map(pem_of, (key, cert, *by[:1])))


def is_clock_behind() -> bool:
    """Whether this program is newer than the clock says that it is now."""
    return time.time() < PROGRAM.stat().st_mtime - 86_400


def life_left(cert: x509.Certificate) -> float:
    """The part of a certificate's life that is left: from 1 to 0 while it is valid. A clock that is
    behind knows nothing of that, and devices keep what they have accepted or installed."""
    begin, end = cert.not_valid_before_utc.timestamp(), cert.not_valid_after_utc.timestamp()
    return 1.0 if is_clock_behind() else (end - time.time()) / (end - begin)


def build_cert(
    title: str, key: Any, by: Sequence[Any], days: float, depth: int | None, more: Any = None
) -> x509.Certificate:
    """A certificate for `key`, `by` an issuer's and its key or, without them, by itself. With a
    `depth` it signs others, that many levels deep; `more` is an extension. It begins two days back,
    for guests whose clock is behind; where it is this machine's that is, it counts from this
    program's own time."""
    issuer, signing_key = by or (None, key)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, title)])
    now = PROGRAM.stat().st_mtime if is_clock_behind() else time.time()
    begin = datetime.fromtimestamp(now, timezone.utc) - timedelta(days=2)
    end = begin + timedelta(days=days)
    is_ca, above = depth is not None, signing_key.public_key()
    server = x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH])
    # It signs handshakes; an authority's certificates, and lists of those that are revoked.
    usage = x509.KeyUsage(not is_ca, False, False, False, False, is_ca, is_ca, False, False)
    extensions = (
        (x509.BasicConstraints(is_ca, depth), True),
        (usage, True),
        (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
        (by and x509.AuthorityKeyIdentifier.from_issuer_public_key(above), False),
        (None if is_ca and not by else server, False),
        (more, is_ca),
    )
    builder = x509.CertificateBuilder(
        subject_name=subject,
        issuer_name=issuer.subject if issuer else subject,
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=begin,
        not_valid_after=min(end, issuer.not_valid_after_utc) if issuer else end,
    )
    for value, critical in extensions:
        builder = builder.add_extension(value, critical) if value else builder
    return builder.sign(signing_key, hashes.SHA256())


def pem_of(thing: Any) -> str:
    """A certificate or a private key as PEM."""
    pem = serialization.Encoding.PEM
    if isinstance(thing, x509.Certificate):
        return thing.public_bytes(pem).decode()
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return str(thing.private_bytes(pem, *form).decode())


# Sharing


def in_one_piece(name: str) -> str:
    """A page of `static/` with its styles, scripts and icons in itself, for where nothing else can
    be loaded."""

    def content(found: re.Match[str]) -> str:
        tag = found[1] or "style"
        return f"<{tag}>{(STATIC / found[2]).read_text('utf-8')}</{tag}>"

    page = (STATIC / name).read_text("utf-8")
    icon = base64.b64encode((STATIC / "img" / "icon.svg").read_bytes()).decode()
    page = page.replace("static/img/icon.svg", f"data:image/svg+xml;base64,{icon}")
    linked = r'<(?:link rel="stylesheet" href|(script) src)="static/([^"]+)">(?:</script>)?'
    return re.sub(linked, content, page)


def filled(page: str, **values: str) -> str:
    """A page with values for its placeholders, such as `{{language}}`."""
    return re.sub(r"\{\{(\w+)\}\}", lambda found: escape(values[found[1]]), page)


LANGUAGES = {"en": "English", "tr": "Türkçe"}
# What is not for people who look for a page.
NO_PAGE = re.compile(r"/(api|ws|socket\.io|engine\.io|static|metrics|healthz|readyz)(/|$)")


@cache
def landing_page() -> tuple[str, str]:
    """The page that explains a browser's warning before it comes, and the policy for it."""
    page = in_one_piece("landing.html")
    policy = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; "
    policy += "form-action 'none'; img-src data: {image}"
    for tag in ("style", "script"):  # by their hashes
        policy += f"; {tag}-src"
        for content in re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL):
            digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
            policy += f" 'sha256-{digest}'"
    return page, policy


def answer_call(app: Application, call: Call) -> Answer:
    """A request's answer. Where TLS is to be had, plain HTTP from outside is not answered by the
    whole program: pages by one that leads to https, the rest by a refusal. No credential is looked
    at, no body read."""
    network, connection = app.network, call.connection
    app.access.see_through(call)
    is_safe = "https" in (call.scheme, connection.scheme) or is_loopback(connection.address)
    if is_safe or not (network.is_shared or network.certificates.own):
        return app.web.answer(call)
    try:
        answer = landing(app, call)
    except Problem as problem:
        answer = problem_answer(problem)
    own = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    return Answer(answer.body, answer.status, {**own, **answer.headers, "Connection": "close"})


def landing(app: Application, call: Call) -> Answer:
    """Raises Problem `https_required`, `wrong_host`, `not_found`."""
    if call.method not in ("GET", "HEAD") or NO_PAGE.match(call.path):
        raise Problem("https_required", "Use https:// for this address.")
    if call.path == "/ca.crt":
        return ca_certificate(app)
    app.access.check_host(call)
    host = call.headers.get("host", "")
    if not re.fullmatch(r"[\w.:\[\]-]+", host, re.ASCII):
        raise Problem("wrong_host")
    pairs = urllib.parse.parse_qsl(call.raw_query, keep_blank_values=True)
    # The chosen language, else the first that the browser names and there is.
    accepted = call.headers.get("accept-language", "").lower()
    wanted = dict(pairs).get("lang"), *re.findall(r"(?:^|,)\s*([a-z]+)", accepted)
    language = next((each for each in wanted if each in LANGUAGES), "en")
    other = next(each for each in LANGUAGES if each != language)
    rest = [pair for pair in pairs if pair[0] != "lang"]
    path = urllib.parse.quote(call.path, errors="surrogateescape")
    page, policy = landing_page()
    page = filled(
        page,
        language=language,
        link=f"https://{host}{path}{'?' if rest else ''}{urllib.parse.urlencode(rest)}",
        other=other,
        otherLink="?" + urllib.parse.urlencode([*rest, ("lang", other)]),
        otherName=LANGUAGES[other],
        fingerprint=app.network.certificates.fingerprint,
    )
    image = "https:" if "[" in host else f"https://{host}"  # a policy can't name IPv6
    headers = {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": policy.format(image=image),
        "Referrer-Policy": "no-referrer",
        "Vary": "Accept-Language",
    }
    return Answer(page.encode(), headers=headers)


class Network:
    """Who reaches this server from elsewhere: its certificates, the listeners that the setting
    `lan` opens and closes, the addresses and the link to give to guests."""

    PATIENCE_MS = 60_000  # in which somebody should have come
    NAME_SECONDS = 60.0  # how often it is asked whether the system answers to its name
    LISTED = 50  # of those who came from the network

    def __init__(self, app: Application) -> None:
        """Raises StartError for a certificate of the settings that is no use."""
        self._app, folder = app, app.storage.folder / "tls"
        self.certificates = Certificates(
            app.settings, folder, app.journal, lambda: bool(app.rooms.attendance.count())
        )
        self._servers: list[Listener] = []
        self.addresses: list[AddressView] = []
        self.is_vpn = False  # whether one takes this machine's traffic
        self.name: dict[str, str] | None = None  # NAME.local, if the system answers to it
        self._name_asked_at = -self.NAME_SECONDS
        self._noted: Any = None
        self._told: str | None = None  # the link that was printed last; None: none is to be
        self.fault: str | None = None  # why it could not be opened
        self.shared_at: int | None = None
        self.arrived_at: int | None = None  # when somebody came from the network for the last time

    @property
    def is_shared(self) -> bool:
        """Whether others on the network reach this server."""
        return self.shared_at is not None

    def arrived(self, address: str) -> None:
        """Somebody connected from an address."""
        if not is_loopback(address) and all(a.address != address for a in self.addresses):
            self.arrived_at = now_ms()

    # Opening and closing

    def start(self, socks: Sequence[Any]) -> None:
        """Begin, with the sockets of the setting `host`."""
        self._servers = list(map(self._app.front.listen, socks))
        self.apply()
        self.note_changes()

    def tick(self) -> None:
        """Once a second: open when the first administrator exists, see what changed."""
        self.apply()
        if self.is_shared:
            self.look()
            is_due = time.monotonic() > self._name_asked_at + self.NAME_SECONDS
            if is_due and self.address is not None:
                self._name_asked_at = time.monotonic()
                name = socket.gethostname().lower().partition(".")[0] + ".local"
                found = {"name": name, "link": f"http://{name}:{self._app.port}/"}
                self.name = found if answers_to(name, self.address.address) else None
        self.note_changes()

    def apply(self) -> None:
        """Do what the setting `lan` says."""
        app, host = self._app, self._app.settings["host"]
        wanted = app.settings["lan"] and app.access.has_admin
        if wanted == self.is_shared:
            return
        if not wanted:
            self.shared_at, app.rooms.is_lan = None, False
            if is_loopback(host):
                self._listen_on(host)
                app.front.end(1, lambda connection: not is_loopback(connection.address))
            guests = [s for s in app.hub.subscribers() if not is_loopback(s.address)]
            app.hub.disconnect(guests, "It is no longer shared on the network")
            app.journal.add("INFO", "No longer shared on the network")
            return
        try:
            self.certificates.prepare()
            if is_loopback(host):
                self._listen_on(None)
        except (StartError, OSError) as error:
            if str(error) != self.fault:
                self.fault = str(error)
                app.journal.add("WARN", f"Can't share on the network: {error}")
            return
        self.shared_at, self.fault, app.rooms.is_lan = now_ms(), None, True
        self.look()
        app.journal.add("INFO", "Shared on the network", link=self.link)

    def _listen_on(self, host: str | None) -> None:
        """Listen there instead. Linux lets nobody listen on all addresses while somebody listens
        on the same port of one. Raises StartError, and then all is as the setting `host` says."""
        for server in self._servers:
            server.stop()
        try:
            socks = listen_on(host, self._app.port)
        except StartError:
            if host is None:
                self._listen_on(self._app.settings["host"])
            raise
        self._servers = list(map(self._app.front.listen, socks))

    def stop(self) -> None:
        """Take no more connections, and end those that there are."""
        for server in self._servers:
            server.stop()
        self._app.front.end(2, lambda connection: True)

    # What guests are told

    def look(self) -> None:
        """See which addresses there are."""
        before = {each.address for each in self.addresses}
        self.addresses, self.is_vpn = find_addresses(self._app.port)
        found = [each.address for each in self.addresses]
        if before and before != set(found):
            self._app.journal.add("INFO", "The addresses of this machine changed", now=found)

    @property
    def address(self) -> AddressView | None:
        """The address for guests: the chosen one if it is there, else the likeliest."""
        chosen = self._app.settings["lan_address"]
        named = [each for each in self.addresses if each.address == chosen]
        return next(iter(named or self.addresses), None)

    @property
    def link(self) -> str | None:
        """The link for guests, by http: the landing page explains what comes next."""
        return self.address.link if self.is_shared and self.address else None

    def link_base(self, origin: str) -> str:
        """What links to this server begin with; `origin` is where one was asked for."""
        public = self._app.settings["public_url"]
        if public or not self.is_shared:
            return str(public or origin).rstrip("/")
        host = urllib.parse.urlsplit(origin).hostname or ""
        if is_loopback(host):
            return (self.link or origin).rstrip("/")
        return origin if self.certificates.own else "http://" + origin.partition("://")[2]

    def note_changes(self) -> None:
        """Leave word of where the server is when something changed, for commands such as
        `setup-link` and a second start."""
        app, has_arrived = self._app, self.arrived_at is not None
        network = {"shared": self.is_shared, "link": self.link, "arrived": has_arrived}
        key = app.desktop.key if app.desktop else ""
        note = Runtime(os.getpid(), app.port, app.url, __version__, key, network)
        if note != self._noted:
            self._noted = note
            with reported(app.journal, "Noting where the server is failed"):  # a full disk
                write_private(app.storage.folder / RUNTIME, to_json(note))
        if self._told is not None and self.link and self.link != self._told:
            self.tell()

    def tell(self) -> None:
        """Print the link for guests, with its code where a person looks on; and again whenever it
        changes."""
        self._told = link = self.link or ""
        if link:
            print(f"on this network: {link}", flush=True)
        if link and sys.stdout.isatty():
            import segno

            segno.make(link).terminal(compact=True)

    def guests(self) -> tuple[list[GuestView], int]:
        """Those who came last from the network, and how many did, each once."""
        everybody = paced(self._app.hub.subscribers())
        newest = {s.client_id: s for s in everybody if not is_loopback(s.address)}
        last = list(itertools.islice(reversed(newest.values()), self.LISTED))
        people = {p.client_id: p.display_name for p in self._app.rooms.attendance.all()}

        def view(s: Subscriber) -> GuestView:
            about = {"ip_address": s.address, "display_name": people.get(s.client_id)}
            return view_of(GuestView, s, user_agent=s.agent, **about)

        return list(map(view, last)), len(newest)


class GuestView(msgspec.Struct, rename="camel"):
    """A client from the network."""

    client_id: str
    ip_address: str
    username: str | None
    user_agent: str
    connected_at: Moment
    display_name: str | None


class NetworkView(msgspec.Struct, rename="camel"):
    """How others on the network reach this; `connected` are those who came last."""

    share: bool
    state: Literal["on", "off", "waiting", "failed"]
    fault: str | None
    source: str
    port: int
    address: str | None
    chosen: str | None
    link: str | None
    addresses: list[AddressView]
    name: dict[str, str] | None
    authority: dict[str, str] | None
    shared_at: Moment | None
    arrived_at: Moment | None
    connected: list[GuestView]
    connected_count: int
    warnings: list[dict[str, str]]
    editable: bool


@route("GET", "/api/network", "admin", "Whether and how others on the network reach this")
def show_network(app: Application, call: Call) -> NetworkView:
    """The link for guests, this machine's addresses, who is connected from elsewhere."""
    network, settings, warnings = app.network, app.settings, []
    if network.shared_at is None:
        network.look()
        state = "off" if not settings["lan"] else "failed" if network.fault else "waiting"
    else:
        is_silent = network.shared_at <= now_ms() - Network.PATIENCE_MS and not network.arrived_at
        about = network.is_vpn, settings["lan_address"], is_silent
        state, warnings = "on", address_warnings(network.addresses, *about)
    connected, count = network.guests()
    mark = network.certificates.fingerprint
    return view_of(
        NetworkView,
        network,
        share=bool(settings["lan"]),
        state=state,
        source=settings.source("lan"),
        port=app.port,
        address=network.address.address if network.address else None,
        chosen=settings["lan_address"] or None,
        authority={"url": "/ca.crt", "fingerprint": mark} if mark else None,
        connected=connected,
        connected_count=count,
        warnings=[{"code": code, "detail": WARNINGS[code]} for code in warnings],
        editable=is_from_here(call),
    )


@route("POST", "/api/network", "admin", "Share on the network, or stop")
def change_network(
    app: Application,
    call: Call,
    share: bool | msgspec.UnsetType = msgspec.UNSET,
    address: Annotated[str, msgspec.Meta(max_length=64)] | None | msgspec.UnsetType = msgspec.UNSET,
) -> NetworkView:
    """By which address is for guests' links, null for the likeliest. Only on the computer itself.
    Who is connected from elsewhere is disconnected by a stop."""
    if not is_from_here(call):
        raise Problem("only_from_here", "Open this server by http://127.0.0.1 on its own computer.")
    known = {row.address for row in show_network(app, call).addresses}
    if isinstance(address, str) and address not in known:
        raise Problem("invalid", errors=[("address", "is not an address of this machine")])
    wanted = {}
    if share is not msgspec.UNSET:
        wanted["lan"] = "yes" if share else "no"
    if address is not msgspec.UNSET:
        wanted["lan_address"] = address or ""
    for key in wanted:  # all of them before any is saved
        if refused := setting_fault(app, call, SETTINGS[key], by_switch=True):
            raise refused
        if app.storage.engine.shared:
            raise Problem("not_on_postgresql", "It would share every node: use --lan on one.")
    for key, text in wanted.items():
        save_setting(app, call, key, text, None, value=text)
    app.network.apply()
    if share is True and (fault := app.network.fault):
        save_setting(app, call, "lan", "no", None, value="no")
        raise Problem("port_in_use", fault)
    return show_network(app, call)


@route("GET", "/api/network/qr.svg", "admin", "The link for guests as a QR code", gives=SVG)
def network_code(
    app: Application,
    call: Call,
    path: Annotated[str, pattern(r"/[!-~]{0,300}", "a path of this server, /…")] = "/",
) -> Answer:
    """With the http address: a phone's camera opens the landing page."""
    return qr_code(app.network.link_base(call.origin) + path)


@route("GET", "/test", "public", "The connection test", gives=HTML)
def test_page(app: Application, call: Call) -> Answer:
    """What a call needs, looked at by the guest's own browser."""
    return app.static.page("test.html")


X509 = "application/x-x509-ca-cert"


@route("GET", "/ca.crt", "public", "What makes devices trust this server", gives=X509)
def ca_certificate(app: Application) -> Answer:
    """A certificate as PEM; compare its fingerprint with the one that the start page shows."""
    root = app.network.certificates.root
    if not root:
        raise Problem("not_found")
    return Answer(root, headers={"Content-Type": X509})


# ----------------------------------------------------------------------------------------------
# Lifecycle
# ----------------------------------------------------------------------------------------------


class Application:
    """Everything, built from the settings. `start` and `stop` bracket its life.

    Built first is the storage: what follows goes by the settings that are saved there. Started last
    is the network, which lets clients in. Stopped first are the desktop's window and the network,
    whose requests get two seconds; `run` has nine for the whole.
    """

    def __init__(self, settings: Settings, ports: Sequence[int] = ()) -> None:
        """`ports` are tried in turn instead of the setting's. Raises StartError with a sentence
        for the person at the terminal."""
        self.settings = settings
        self.stopping = False
        self.end_wanted = gevent.event.Event()  # set by whoever wants the program to end
        self.desktop: Desktop | None = None  # set by the Desktop part
        self.links: dict[str, str] = {}  # what is opened in a browser, by what leads there once
        self.port = 0
        self.recent: deque[RecentView] = deque(maxlen=300)  # the last five minutes, by seconds
        self._told_fault: str | None = None
        self._noted = {"messages": 0, "deliveries": 0}  # that the event log knows of
        admin_token = os.environ.get("RTAPP_ADMIN_TOKEN")
        if admin_token is not None:
            admin_token = admin_token.strip()  # a file of a secret often ends with a newline
            if not re.fullmatch("[ -~]{24,}", admin_token):  # no header could bring another
                raise StartError("RTAPP_ADMIN_TOKEN must be 24 or more printable ASCII characters.")
        self.storage = storage = Storage(make_engine(settings))
        with needing(storage.engine):
            settings.load(storage.read(SAVED_SETTINGS))  # what follows is built by them
        self.journal = journal = Journal(storage)
        self.access = Access(storage, settings, journal, admin_token)
        self.network = Network(self)
        self._refuse_exposure()
        if not storage.engine.shared:
            storage.engine.durability = settings["durability"]  # nothing is written before
        self._sockets = listen_on(settings["host"], *(ports or [settings["port"]]))
        self.port = self._sockets[0].getsockname()[1]
        self.stats = Stats()
        self.log = Log(storage)
        # Where several nodes number their connections, each does so from another place.
        first_id = secrets.randbelow(2**20) << 32 if storage.engine.shared else 1
        self.hub = Hub(self.log, self.stats, journal, settings, first_id)
        self.nodes = Nodes(storage, self.log, self.hub, journal)
        # A control entry is applied while the head advances: whatever may wait comes later.
        self.hub.controls["setting"] = lambda _, order: gevent.spawn(self._apply_settings)
        self.hub.controls["trimmed"] = lambda _, order: self.log.note_trimmed(**order)
        self.rooms = Rooms(storage, self.log, self.hub, self.nodes, self.access, settings, journal)
        self.sockets = EngineIo(self)
        if settings["app"]:
            HANDLERS.load(settings["app"])
        self.access.guarded = [room_topic(namespace, "") for namespace in HANDLERS.gated]
        if settings["public"] and not Path(settings["public"]).is_dir():
            raise StartError(f"public: there is no folder {settings['public']}.")
        self.static = Static(STATIC)
        landing_page()  # is read now: a one-file program's folder may be gone later
        self.web = Web(self)
        self.front = Front(self)

    def _refuse_exposure(self) -> None:
        if is_loopback(self.settings["host"]):
            return
        if not self.access.has_admin:
            raise StartError(
                f"Listening on {self.settings['host']} lets others in, so there must be an "
                "administrator first: run rtapp user add NAME --role admin, or set "
                "RTAPP_ADMIN_TOKEN (at least 24 characters)."
            )
        has_tls = self.network.certificates.own or self.settings["lan"]
        if not has_tls and not self.settings["insecure_http"]:
            raise StartError(
                f"Listening on {self.settings['host']} without TLS sends secrets unprotected: "
                "add --lan, set tls_cert and tls_key, or accept that with --insecure-http."
            )

    @property
    def url(self) -> str:
        """The address to open on this machine."""
        host = self.settings["host"]
        host = "127.0.0.1" if host in ("0.0.0.0", "::", "") else host
        host = f"[{host}]" if ":" in host else host
        scheme = "https" if self.network.certificates.own else "http"
        return f"{scheme}://{host}:{self.port}"

    # Life

    def start(self) -> None:
        """Begin to serve."""
        # Two threads share the interpreter. By default the writer, back from its fsync, waits up to
        # 5 ms for the loop to let it go on: a third of the publishes per second was lost to that.
        sys.setswitchinterval(0.0001)
        self.storage.start(self._committed)
        self.log.start(self.hub.advance)
        self._load_settings()  # what another node changes from here on is told by the log
        self.access.start(self.rooms.is_guest_of)
        self.hub.start()
        self.rooms.start()
        self.sockets.recovery.start()
        HANDLERS.app, HANDLERS.hub = self, gevent.get_hub()
        for seconds, *jobs in (
            (0.1, self.nodes.tell_presence),
            (0.5, self.nodes.beat),
            (1.0, self._tell_faults, self.journal.flush, self._note_second, self.log.poll),
            (1.0, self.sockets.recovery.flush, self.rooms.tick, self.network.tick, self.front.look),
            (60.0, self._note_minute, self.access.flush, self._retention),
            (self.stats.SAMPLE_SECONDS, self.stats.sample),
        ):
            for job in jobs:
                gevent.spawn(self.repeat, seconds, job)
        self.nodes.start()
        self.network.start(self._sockets)
        self.journal.add("INFO", "Server started", version=__version__)
        for check in check_exposure, check_turn:
            try:
                check(self.settings)
            except Doubt as doubt:
                self.journal.add("WARN", f"{check.__name__[6:]}: {doubt}")

    def repeat(self, seconds: float, job: Callable[[], None]) -> None:
        """Do a job every so many seconds, until the end; a failure is noted and forgiven."""
        gevent.sleep(seconds)
        while not self.stopping:  # looked at last: nothing is done after `stop` has
            with reported(self.journal, f"The job {job.__name__} failed"):
                job()
            gevent.sleep(seconds)

    # What others ask of the whole

    def stats_view(self) -> StatsView:
        """The statistics of this moment."""
        counters = self._counters()
        view = StatsView(
            active_connections=sum(node.connections for node in counters["nodes"]),
            video_participants=sum(self.rooms.attendance.count().values()),
            active_video_rooms=self.rooms.count(),
            max_connections=self.settings["max_connections"],
            database_bytes=self.storage.size(),
            wal_bytes=self.storage.engine.wal_bytes(),
            disk_free_bytes=shutil.disk_usage(self.storage.folder).free,
            catch_up_reads=self.log.queries,
            version=__version__,
            **counters,
        )
        view.warnings = warnings_of(view, self.recent)
        return view

    def _counters(self) -> dict[str, Any]:
        """Of the statistics what costs nothing to ask for."""
        nodes = list(itertools.starmap(NodeLoad, self.nodes.counts().items()))
        own = {"transports": self.nodes.by_transport(), "errors": self.journal.errors}
        return {"nodes": nodes, **own, **self.stats.view()}

    def _note_second(self) -> None:
        """Keep it for the charts, and tell who listens here; each node tells its own."""
        counters = SimpleNamespace(**self._counters())
        self.recent.append(view_of(RecentView, counters, timestamp=iso(now_ms())))
        topic = CHANNEL + STATS_CHANNEL
        if self.hub.audience.is_heard(topic):
            view = msgspec.to_builtins(self.stats_view())
            view |= {"timestamp": iso(now_ms()), "head": self.log.head}
            self.hub.volatile(Entry(topic, MESSAGE, "stats", to_json(view)))

    def audit(self, call: Call, message: str, **metadata: Any) -> None:
        """Note in the event log what an administrator did: who, and from where."""
        who = {"by": call.principal.name, "ipAddress": call.address}
        self.journal.add("INFO", message, **who, **metadata)

    def settings_changed(self) -> None:
        """Make every node load the saved settings again; when this returns, this one has."""
        self.log.control("setting")
        self._load_settings()

    def _apply_settings(self) -> None:
        with reported(self.journal, "Reading the settings"):
            self._load_settings()
            self.network.apply()

    def _committed(self, entries: list[Entry]) -> None:
        with reported(self.journal, "Telling of new messages failed"):
            self.log.committed(entries)
        self.nodes.ring()

    def _load_settings(self) -> None:
        for key in self.settings.load(self.storage.read(SAVED_SETTINGS)):
            self.journal.add("WARN", f"The saved value of {key} is not valid and is not used")

    def _note_minute(self) -> None:
        view = self.stats_view()
        view.active_connections, view.transports = self.hub.count, self.hub.audience.by_transport()
        minute, counters = now_ms() // 60_000 * 60_000, to_json(view_of(MinuteView, view))
        row = {"minute": minute, "node": self.nodes.id, "counters": counters}
        self.storage.write(lambda tx: upsert(tx.database, StatsMinute, **row))
        # An entry for each message would cost as much as the message.
        before, now = self._noted, {"messages": view.messages_sent, "deliveries": view.deliveries}
        if now != before:
            counted = {key: count - before[key] for key, count in now.items()}
            self.journal.add("MSG", "Messages published and delivered", **counted)
            self._noted = now

    def _tell_faults(self) -> None:
        """Say when storing begins to fail and when it works again. The entry waits to be written,
        so that the database is tried each second until it works."""
        fault, before = self.storage.fault, self._told_fault
        if fault and not before:
            self.journal.add("ERROR", f"Nothing can be stored: {fault}")
        elif before and not fault:
            self.journal.add("WARN", "Messages are stored again")
        self._told_fault = fault

    def _retention(self) -> None:
        self.storage.engine.tidy()
        if not self.nodes.is_first:
            return
        self.log.trim(self.settings["history_hours"], self.settings["history_messages"])
        times = EventLog.timestamp, VideoRoom.ended_at, StatsMinute.minute
        days = {IdempotencyKey.created_at: 1, **dict.fromkeys(times, self.settings["log_days"])}

        def forget(tx: Transaction) -> None:
            for time_of, kept in days.items():
                old = time_of < now_ms() - int(kept * 86_400_000)
                time_of.model.delete().where(old).execute(tx.database)

        self.storage.write(forget)

    def stop(self) -> None:
        """Take no more, tell everybody, write what waits."""
        self.stopping = True
        if self.desktop is not None:
            self.desktop.end()
        self.network.stop()
        self.hub.drain()
        self.journal.add("INFO", "Server stopped")
        with reported(self.journal, "Stopping"):
            self._note_minute()
            self.access.flush()
            self.sockets.recovery.flush()
            self.journal.flush()
            self.log.stop()
            self.nodes.leave()
        self.storage.stop()


SAVED_SETTINGS = "SELECT key, value FROM server_settings"
RUNTIME = "runtime.json"


class Runtime(msgspec.Struct):
    """What the file `runtime.json` says of the server that runs, or ran last."""

    pid: int
    port: int
    url: str
    version: str = ""
    key: str = ""  # with which a second start may ask a desktop to show itself
    network: dict[str, Any] = {}  # whether it is shared, the link, whether anybody ever came


def read_runtime(folder: Path) -> Runtime | None:
    """Where the server of a data folder is, or was."""
    try:
        return msgspec.json.decode((folder / RUNTIME).read_bytes(), type=Runtime)
    except (OSError, msgspec.DecodeError):
        return None


class Doubt(Exception):
    """What is not wrong, but worth a look, and what to do about it."""


def check_exposure(settings: Settings, *_: Any) -> str:
    """Nothing is open that need not be. Raises Doubt."""
    is_alone = is_loopback(settings["host"])
    where = "the local network" if is_alone else settings["host"]
    if is_alone and not settings["lan"]:
        return f"only this machine reaches {settings['host']}"
    if settings["access"] == "open":
        raise Doubt(
            f"whoever reaches {where} may publish and make video rooms. "
            "Set access=private unless that is meant."
        )
    if settings["insecure_http"]:
        raise Doubt("secrets cross the network unprotected. Set tls_cert and tls_key.")
    if not is_alone and not settings["max_connections_per_address"]:
        raise Doubt("one address may open all connections. Set max_connections_per_address to 200.")
    guests = "; guests join rooms by link (guests)" if settings["guests"] else ""
    return f"TLS, private, bounded{guests}"


def check_turn(settings: Settings, *_: Any) -> str:
    """A TURN server that is named can be used. Raises Doubt."""
    if not settings["turn_url"]:
        return "none"
    if settings["turn_secret"] or (settings["turn_username"] and settings["turn_password"]):
        return ", ".join(settings["turn_url"])
    raise Doubt("turn_url is not used. Set turn_secret, or turn_username and turn_password.")


def make_engine(settings: Settings, create: bool = True) -> Engine:
    """The engine of the database that the settings name. With `create` its folder is made, which
    also holds the program's own files, and an empty file where there is none. Raises StartError."""
    url = settings["database"]
    is_sqlite = not url or url.startswith("sqlite:///")
    if not is_sqlite and not url.startswith(("postgresql://", "postgres://")):
        scheme = url.split(":")[0]
        raise StartError(
            f"The database URL begins with {scheme!r}; use sqlite:///PATH or postgresql://HOST/NAME."
        )
    own = settings.folder() / "rtapp.db"
    path = Path(url.removeprefix("sqlite:///")) if url and is_sqlite else own
    try:
        if create:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if create and is_sqlite:
            make_private(path)  # its -wal and -shm too
        path = Path(os.path.realpath(path))  # Path.resolve raises RuntimeError for a loop of links
    except OSError as error:
        words = f"The database {path} can't be written: {error.strerror}."
        for file in filter(Path.is_file, path.parents):
            words = f"{file} is a file, not a folder: choose another with --data."
        raise StartError(words) from None
    if is_sqlite:
        return SqliteEngine(path, settings["durability"])
    try:
        return PostgresEngine(url, path.parent)
    except ValueError:  # its words may hold a part of the password
        words = "The database URL is not of the form postgresql://USER@HOST/NAME."
        raise StartError(words) from None


class Garbage:
    """Chooses the moments of Python's full collections. Each looks at every object there is, so
    with a full ring and a thousand connections it holds the loop for a tenth of a second; left to
    Python they come while messages do, since it is messages that make objects. The collections of
    young objects, a millisecond or less, stay Python's."""

    LATEST = 60.0  # seconds for which a quiet moment is waited for

    def __init__(self, stats: Stats) -> None:
        """From now on nobody else begins a full collection. What is there stays: looking through
        it again would be a waste."""
        self.stats = stats
        self._work = 0
        self._collected = time.monotonic()
        gc.collect()
        gc.freeze()
        gc.set_threshold(*gc.get_threshold()[:2], 2**30)

    def tick(self) -> None:
        """Collect when there is something to look at and nothing else to do, or it is time."""
        work = self.stats.work()
        is_quiet, self._work = work == self._work, work
        now = time.monotonic()
        if (is_quiet and gc.get_count()[2]) or now > self._collected + self.LATEST:
            gc.collect()
            # glibc keeps free memory: after a rush of slow readers more than half of what it had.
            if sys.platform == "linux":
                with contextlib.suppress(AttributeError):  # musl keeps none
                    ctypes.CDLL(None).malloc_trim(0)
            self._collected = now


# Imported where they are used, so that the program starts quickly. A one-file program imports them
# at its start: what it has unpacked lies in a temporary folder, and systems clean those up.
LATE = "encodings.idna", "encodings.punycode", "prometheus_client.core", "segno"


def run(app: Application, started: Callable[[], None]) -> None:
    """Serve until somebody wants an end: a signal, a route, the desktop."""
    if UNPACKED is not None:
        for name in LATE:
            importlib.import_module(name)
        gevent.spawn(follow_parent, app, UNPACKED)

    def end(*_: Any) -> None:
        if app.end_wanted.is_set():
            os._exit(130)
        app.end_wanted.set()

    for name in ("SIGTERM", "SIGINT"):
        gevent.signal_handler(getattr(signal, name), end)
    with needing(app.storage.engine):
        app.start()
    started()
    gevent.spawn(app.repeat, 1.0, Garbage(app.stats).tick)
    app.end_wanted.wait()
    with gevent.Timeout(9, False):
        app.stop()


def follow_parent(app: Application, unpacked: Path) -> None:
    """End when the process that unpacked a one-file program does, however it does: nobody else
    would end this one, and it would keep the port."""
    is_there = True
    while is_there:  # and runs this program's file, as far as the system tells
        gevent.sleep(0.5)
        try:
            program = Path(psutil.Process(STARTED_BY).exe())
            is_there = os.getppid() == STARTED_BY and program.samefile(sys.executable)
        except psutil.AccessDenied:
            is_there = os.getppid() == STARTED_BY != 1
        except (psutil.Error, OSError):
            is_there = False
    app.journal.add("WARN", "The process that started this one is gone")
    app.end_wanted.set()
    if os.name == "posix":  # elsewhere a file in use can't be deleted
        atexit.register(shutil.rmtree, unpacked, ignore_errors=True)


# ----------------------------------------------------------------------------------------------
# Desktop
# ----------------------------------------------------------------------------------------------

OPENING_SECONDS = 60.0  # that a browser, or a window, gets to open
WINDOW_TOKEN, WINDOW_FAULT = "RTAPP_WINDOW_TOKEN", "RTAPP_WINDOW_FAULT"
WINDOW_SAYS = "@window "  # how a line begins that the window's process tells the server's


def has_screen() -> bool:
    """Whether a browser's window would be seen; without one some systems start a text browser."""
    always = sys.platform in ("win32", "darwin")
    return always or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))


def open_browser(app: Application, link: str) -> None:
    """Open a link in the default browser, by way of another one, in which nothing is secret for
    long. A file of this user's would hide it better, but not every browser may read one: those
    of Ubuntu's snaps see no hidden folder."""
    key = secrets.token_urlsafe(24)
    app.links[key] = link
    gevent.spawn_later(OPENING_SECONDS, app.links.pop, key, None)
    gevent.spawn(webbrowser.open, f"{app.url}/open/{key}")


@route("GET", "/open/<key>", "public", "What the program opens in the browser", gives={303: ""})
def follow_opened(app: Application, call: Call, key: str) -> Answer:
    """Once, within a minute, for a program of this user's on this computer."""
    if key not in app.links or not is_own_program(call):
        raise Problem("not_found")
    headers = {"Location": app.links[key], "Cache-Control": "no-store"}
    if call.method == "GET":
        del app.links[key]
    return Answer(b"", 303, headers)


def is_own_program(call: Call) -> bool:
    """Whether a request comes from this computer and, where the system tells (Linux), from a
    program of the same user: any other user may read what is on a browser's command line."""
    if not is_from_here(call):
        return False
    ends = []  # as the tables have them: words of 32 bits in this machine's order
    with socket.socket(fileno=socket.dup(call.connection.transport.fileno())) as sock:
        for address, port, *_ in (sock.getpeername(), sock.getsockname()):
            packed = cast(Any, as_ip(address)).packed  # IPv4 has a table of its own
            words = struct.unpack(f"={len(packed) // 4}I", packed)
            ends.append("".join(f"{word:08X}" for word in words) + f":{port:04X}")
    tables = [path for path in map(Path, ("/proc/net/tcp", "/proc/net/tcp6")) if path.exists()]
    for row in (line.split() for table in tables for line in table.read_text().splitlines()):
        if row[1:3] == ends:  # whose end, and of which user
            return int(row[7]) == os.getuid()
    return not tables


def spoken_language() -> str:
    """That of whoever sits here, where no browser tells it."""
    spoken = os.environ.get("LC_ALL") or os.environ.get("LANG") or locale.getlocale()[0] or ""
    return "tr" if spoken.lower().startswith(("tr", "turkish")) else "en"  # Turkish_… on Windows


def ended_page(part: str, detail: str = "") -> str:
    """The page for when there is no server, whole in itself: `stopped` or `failed`."""
    page = in_one_piece("ended.html")
    return filled(page, language=spoken_language(), part=part, detail=detail)


class WindowProcess:
    """The process of the window: pywebview, and nothing of the server.

    On its standard input come orders, `show` and `load URL` and `close`; that it ends means that
    the server has.
    """

    def __init__(self, url: str, storage: str, *again: str) -> None:
        """Take the page's address, a folder for what the web view keeps, and the arguments with
        which the program was started."""
        self._url, self._storage, self._again = url, storage, again
        self._fault = os.environ.pop(WINDOW_FAULT, "")  # why there is no server, if so
        self._closes = bool(self._fault)  # whether closing the window closes it, or asks the server
        self._last_page = ended_page("stopped")  # read while the files are there
        self._window: Any = None

    def run(self) -> int:
        """Show the window until it is closed; the process's exit code."""
        os.environ.setdefault("PYWEBVIEW_LOG", "critical")  # it would print tracebacks
        try:
            self._show()
        except Exception as error:  # a toolkit may raise anything
            self._say("failed " + " ".join(str(error).split()))
            return 3
        return 0

    def _show(self) -> None:
        import webview
        from webview.menu import Menu, MenuAction

        page: Any = {"html": ended_page("failed", self._fault)}
        if not self._fault:
            page = {"url": f"{self._url}#signin={os.environ.pop(WINDOW_TOKEN, '')}"}
        window: Any = webview.create_window(
            "rtapp", **page, width=1160, height=760, min_size=(380, 480), text_select=True
        )
        self._window = window
        window.events.initialized += self._use
        window.events.loaded += lambda: self._say("loaded")
        window.events.closing += self._closing
        texts = json.loads((STATIC / "i18n" / f"{spoken_language()}.json").read_bytes())
        acts = {
            "nav.home": lambda: window.load_url(self._url),
            "desktop.openBrowser": lambda: self._say(f"browser {window.get_current_url() or ''}"),
            "desktop.quit": lambda: self._say("closing"),
        }
        menu = Menu("rtapp", [MenuAction(texts[key], act) for key, act in acts.items()])
        webview.settings["ALLOW_DOWNLOADS"] = True
        webview.start(
            None if self._fault else self._listen,
            private_mode=False,
            storage_path=self._storage,
            icon=str(STATIC / "img" / "icon.png"),
            menu=[] if self._fault else [menu],
        )

    def _use(self, renderer: str) -> None:
        if renderer == "mshtml":  # it can't run our pages
            self._say("failed Windows has Internet Explorer only: install Edge's WebView2")
            os._exit(3)
        if renderer == "qtwebengine":
            qt: Any = importlib.import_module("webview.platforms.qt")

            def save(view: Any, download: Any) -> None:
                proposed = Path(platformdirs.user_downloads_dir(), download.downloadFileName())
                chosen, _ = qt.QFileDialog.getSaveFileName(view, "rtapp", str(proposed))
                if chosen:
                    download.setDownloadDirectory(str(Path(chosen).parent))
                    download.setDownloadFileName(Path(chosen).name)
                    download.accept()

            qt.BrowserView.on_download_requested = save  # its own is written for Qt 5

    @staticmethod
    def _say(what: str) -> None:
        print(WINDOW_SAYS + what, flush=True)

    def _closing(self) -> bool:
        if not self._closes:
            self._say("closing")
        return self._closes

    def _listen(self) -> None:
        window = self._window
        window.events.shown.wait()  # pywebview gives orders up that come long before
        for line in sys.stdin or ():
            order, _, rest = line.rstrip("\n").partition(" ")
            if order == "load":
                window.load_url(rest)
            elif order == "close":
                self._closes = True
                window.destroy()
                return
            else:
                window.restore()
                window.show()
                window.on_top = True  # most systems let a program come forward only so
                window.on_top = False
        if sys.stdin:
            self._closes = True
            window.expose(self.start_again)
            window.load_html(self._last_page)

    def start_again(self) -> None:
        """Start the program anew; the page without a server calls this."""
        subprocess.Popen(
            [*PROGRAM_COMMAND, *self._again],
            # A one-file program would else use the files that the old one has unpacked.
            env={**os.environ, "PYINSTALLER_RESET_ENVIRONMENT": "1"},
            # What this process has for output leads to the dead one.
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        # The web view may wait for this call's page to take its answer, and that page goes now.
        end = threading.Timer(5.0, os._exit, (0,))
        end.daemon = True
        end.start()
        self._window.destroy()


def start_own(
    arguments: Sequence[str], environ: dict[str, str], stderr: int | None = None
) -> subprocess.Popen[str]:
    """Start this program in another process. Its input is a pipe from here, whose end tells it that
    this process is gone, however that went."""
    return subprocess.Popen(
        [*PROGRAM_COMMAND, *arguments],
        env={**os.environ, **OWN_LIBRARIES, **environ},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        encoding="utf-8",
        errors="replace",
    )


def open_window(url: str, folder: Path, secret: dict[str, str]) -> subprocess.Popen[str]:
    """Start the window's process, with a folder for what the web view keeps."""
    arguments = ["--window", url, str(folder / "window"), *sys.argv[1:]]
    return start_own(arguments, secret, subprocess.STDOUT)


class Desktop:
    """The program as somebody at a desk has it: in a window, or else in the browser."""

    KEEPERS: ClassVar = {  # of the machine, that it doesn't sleep until their input ends
        "linux": ["systemd-inhibit", "--what=idle:sleep", "--who=rtapp", "--why=Guests", "cat"],
        "darwin": ["caffeinate", "-is", "cat"],
    }

    def __init__(self, app: Application, moved_from: int | None) -> None:
        """`moved_from` is the port of before, if it is another one now."""
        self.key = secrets.token_urlsafe(32)
        self.why = "" if importlib.util.find_spec("webview") else "none"  # why there is no window
        self.app = app
        self.moved_from = moved_from
        self.awake = False  # whether the machine is kept so
        self._window: Any = None  # and what keeps the machine awake: processes
        self._keeper: Any = None
        app.desktop = self
        app.access.has_desktop = True

    def start(self) -> None:
        """Show it, once the server listens."""
        print(f"rtapp {__version__}, data in {self.app.settings.folder()}", flush=True)
        print(f"rtapp listening on {self.app.url}", flush=True)
        self.show()
        gevent.spawn(self.app.repeat, 2.0, self._stay_awake)

    def show(self, part: str = "") -> None:
        """Bring the window forward, or open it; `part` is where on its page. Where there is no
        window, open the browser."""
        if self._window is not None and self._window.poll() is None:
            if part:
                self._order(f"load {self.app.url}/desktop#{part}")
            self._order("show")
        elif self.why != "none" and has_screen():
            token = self.app.access.make_token("owner", OPENING_SECONDS, WINDOW_GRANTS)
            url, folder = f"{self.app.url}/desktop", self.app.storage.folder
            self._window = open_window(url, folder, {WINDOW_TOKEN: token})
            gevent.spawn(self._follow, self._window)
        else:
            self.open_page(f"/desktop#{part}")

    def open_page(self, path: str) -> None:
        """Open one of our pages in the default browser, which gets the window's identity."""
        token = self.app.access.make_token("owner", OPENING_SECONDS)
        leads_to = urllib.parse.urlencode({"signin": token, "to": path})
        link = f"{self.app.url}/desktop#{leads_to}"
        if has_screen():
            open_browser(self.app, link)
        else:
            print(f"open: {link}", file=sys.__stdout__, flush=True)  # never into the log file

    def _order(self, order: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # the window has just ended
            self._window.stdin.write(order + "\n")
            self._window.stdin.flush()

    def _follow(self, window: subprocess.Popen[str]) -> None:
        """Do what the window asks for; when it is gone, go on in the browser."""
        fault, was_shown = "", False
        late = gevent.spawn_later(OPENING_SECONDS, window.kill)  # showing nothing is no window
        for line in window.stdout or ():
            if not line.startswith(WINDOW_SAYS):
                print(f"window: {line}", end="", file=sys.stderr)
                continue
            match line.removeprefix(WINDOW_SAYS).rstrip("\n").split(" ", 1):
                case ["loaded"]:
                    was_shown = True
                    late.kill()
                case ["failed", rest]:
                    fault = rest
                case ["browser", rest]:
                    self.open_page(urllib.parse.urlsplit(rest).path or "/desktop")
                case ["closing"] if self.people:  # who would lose something, so it asks
                    self.show("quit")
                case ["closing"]:
                    self.app.end_wanted.set()
        code = window.wait()
        if not self.app.end_wanted.is_set():
            self.why = "died" if was_shown else "none"
            fault = fault or f"it ended with code {code}"
            self.app.journal.add("WARN", f"No window, so in the browser: {fault}")
            self.open_page("/desktop")

    def end(self) -> None:
        """The program ends: so does the window."""
        self._stay_awake()
        if self._window is not None and self._window.poll() is None:
            self._order("close")
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._window.wait(3.0)
            self._window.kill()

    @property
    def people(self) -> int:
        """How many are in calls."""
        return sum(self.app.rooms.attendance.count().values())

    def _stay_awake(self) -> None:
        """While guests are connected, until the end."""
        addresses = {subscriber.address for subscriber in self.app.hub.subscribers()}
        wanted = self.people > 0 or not all(map(is_loopback, addresses))
        wanted = wanted and not self.app.stopping
        if wanted == self.awake:
            return
        self.awake = wanted
        command = self.KEEPERS.get(sys.platform, ["none"])
        if sys.platform == "win32":
            continuous, system_required = 0x80000000, 0x00000001
            flags = continuous | (system_required if wanted else 0)
            ctypes.windll.kernel32.SetThreadExecutionState(flags)
        elif self._keeper is not None:
            with contextlib.suppress(OSError):
                self._keeper.stdin.close()
            self._keeper = None
        elif wanted and shutil.which(command[0]):
            pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
            self._keeper = subprocess.Popen(command, stdin=pipe, stdout=nowhere, stderr=nowhere)


def desktop_of(app: Application, call: Call | None = None) -> Desktop:
    """The desktop; with a call, for its owner alone. Raises Problem `not_found`, `forbidden`."""
    if app.desktop is None:
        raise Problem("not_found", "This server was not started as a desktop program.")
    if call is not None and call.principal.kind != "owner":
        raise Problem("forbidden", "Only who sits at this computer may do this.")
    return app.desktop


_PAGE = r"/(?:[A-Za-z0-9_.~-]+(?:/[A-Za-z0-9_.~-]+)*/?)?(?:[?#][A-Za-z0-9_.~=&%-]*)?"
PagePath = Annotated[str, pattern(_PAGE, "a path of this server, /…")]


@route("GET", "/desktop", "public", "The start page of the desktop program", gives=HTML)
def desktop_page(app: Application, call: Call) -> Answer:
    """Calls, sharing, the program's end."""
    desktop_of(app)
    return app.static.page("desktop.html")


class DesktopView(msgspec.Struct, rename="camel"):
    """The desktop program."""

    version: str
    in_window: bool
    why: str
    port: int
    moved_from: int | None
    people: int
    awake: bool
    has_admin: bool
    shared: bool
    data_folder: str
    log_folder: str


@route("GET", "/api/desktop", "admin", "What the desktop program's page shows")
def show_desktop(app: Application, call: Call) -> DesktopView:
    """For whoever sits at this computer."""
    desktop = desktop_of(app, call)
    return view_of(
        DesktopView,
        desktop,
        version=__version__,
        in_window=WINDOW in call.principal.grants.scopes,
        port=app.port,
        has_admin=app.access.has_admin,
        shared=app.network.is_shared,
        data_folder=str(app.storage.folder),
        log_folder=str(app.settings.folder(platformdirs.user_log_dir)),
    )


@route("POST", "/api/desktop/show", "public", "Show the program that runs")
def second_start(app: Application, call: Call, key: Secret) -> None:
    """For a second start, which knows the key in `runtime.json`."""
    desktop = desktop_of(app)
    is_known = hmac.compare_digest(key.encode(), desktop.key.encode())
    if not is_loopback(call.address) or not is_known:
        raise Problem("forbidden", "The key is not that of runtime.json.")
    desktop.show()


@route("POST", "/api/desktop/open", "admin", "Open a page in the default browser")
def open_in_browser(app: Application, call: Call, path: PagePath) -> None:
    """The browser gets the window's identity."""
    desktop_of(app, call).open_page(path)


@route("POST", "/api/desktop/quit", "admin", "End the program")
def quit_desktop(app: Application, call: Call, force: bool = False) -> None:
    """With people in calls only by `force`."""
    desktop = desktop_of(app, call)
    if desktop.people and not force:
        raise Problem("call_running", f"{desktop.people} people are in calls.")
    gevent.spawn_later(0.3, app.end_wanted.set)  # the answer goes out first


class LogFile(logging.handlers.RotatingFileHandler):
    """The log file, of bounded size. A full disk ends nothing, nor does an old file that somebody
    reads, which Windows then lets nobody rename: this one grows meanwhile."""

    def doRollover(self) -> None:
        with contextlib.suppress(OSError):
            super().doRollover()

    def handleError(self, record: logging.LogRecord) -> None:
        """Do without."""


class Printed(io.TextIOBase):
    """What the program prints: on the terminal, if there is one, and each line in the log file."""

    def __init__(self, log: logging.Handler, terminal: Any) -> None:
        self._log = log
        self._terminal = terminal
        self._line = ""  # that has not ended

    def write(self, text: str) -> int:
        if self._terminal is not None:
            self._terminal.write(text)
            self._terminal.flush()
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            self._log.handle(logging.makeLogRecord({"msg": f"{iso(now_ms())} {line}"}))
        return len(text)


def settings_of(options: argparse.Namespace) -> Settings:
    """The settings that the command line and the environment give. Raises StartError."""
    given = {key: value for key in SETTINGS if (value := getattr(options, key, None)) is not None}
    for pair in getattr(options, "pairs", None) or ():
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise StartError(f"--set {pair}: write it as --set key=value.")
        given[key] = value
    try:
        return Settings(given, dict(os.environ))
    except ValueError as error:
        raise StartError(f"{error}.") from None


def ask_here(port: int, path: str, body: str | None = None) -> bytes:
    """What an HTTP server on a port of this machine answers with 200; empty where none does."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(connection):
        headers = {"Content-Type": "application/json"}
        connection.request("POST" if body else "GET", path, body, headers)
        answer = connection.getresponse()
        return answer.read(1_000) if answer.status == 200 else b""
    return b""


def desktop_command(options: argparse.Namespace) -> None:
    """Serve with a window, or the browser; a second start shows the first one's."""
    settings = settings_of(options)
    folder = make_engine(settings).folder
    before, ports = read_runtime(folder), [settings["port"]]
    if settings.source("port") == "default":  # that of last time: old links go on working
        last = before.port if before else ports[0]
        ports = [*range(last, min(last + 50, 65_536)), 0]
    deadline = time.monotonic() + 15
    while True:
        try:
            app = Application(settings, ports)
            break
        except InUse:  # by one that runs, is starting or is ending
            if show_first(folder):
                return
            if time.monotonic() > deadline:
                raise
            gevent.sleep(0.5)
    logs = settings.folder(platformdirs.user_log_dir)  # a double click has no terminal
    try:
        logs.mkdir(parents=True, exist_ok=True, mode=0o700)
        log = LogFile(logs / "rtapp.log", maxBytes=1_000_000, backupCount=3, encoding="utf-8")
    except OSError as error:
        raise StartError(f"The log in {logs} can't be written: {error.strerror}.") from None
    sys.stdout = sys.stderr = Printed(log, sys.__stdout__)
    old_port = before.port if before and len(ports) > 1 else app.port
    run(app, Desktop(app, old_port if old_port != app.port else None).start)


def show_first(folder: Path) -> bool:
    """Have the program that has a data folder come forward; False where none answers."""
    first = read_runtime(folder)
    if first is None or b'"version"' not in ask_here(first.port, "/healthz"):
        return False
    if first.key and not ask_here(first.port, "/api/desktop/show", to_json({"key": first.key})):
        return False
    print(f"rtapp {first.version} is running already: {first.url}")
    return True


def tell_failure(message: str) -> None:
    """Say in a window, or in the browser, why the program can't start."""
    if importlib.util.find_spec("webview"):
        with tempfile.TemporaryDirectory("rtapp", ignore_cleanup_errors=True) as folder:
            window = open_window("about:blank", Path(folder), {WINDOW_FAULT: message})
            if WINDOW_SAYS + "loaded" in window.communicate()[0]:  # and closed again
                return
    fetched = gevent.event.Event()
    head = pack_head(200, {"Content-Type": "text/html; charset=utf-8", "Connection": "close"})
    page = ended_page("failed", message)

    def give(sock: Any, _: Any) -> None:
        sock.recv(65_536)
        sock.sendall(head + page.encode())
        fetched.set()

    server = gevent.server.StreamServer(("127.0.0.1", 0), give)
    server.start()
    webbrowser.open(f"http://127.0.0.1:{server.server_port}/")
    fetched.wait(OPENING_SECONDS)
    server.stop(1)


# ----------------------------------------------------------------------------------------------
# Command line
# ----------------------------------------------------------------------------------------------

DEFAULT_COMMAND = "desktop" if IS_FROZEN else "serve"  # a double click gives none
IS_API_TOKEN = AccessToken.kind == "api"


def make_parser() -> argparse.ArgumentParser:
    """The commands, each with the options that it takes."""
    parser = argparse.ArgumentParser(
        prog="rtapp",
        description="A real-time server in one module.",
        epilog=f"Without a command it does `{DEFAULT_COMMAND}`; rtapp COMMAND --help says more.",
    )
    parser.add_argument("--version", action="version", version=f"rtapp {__version__}")
    where = settings_options("data", "database")
    every = settings_options(*(row.key for row in SETTINGS.values() if row.has_option))
    option = every.add_argument
    option("--no-browser", dest="open_browser", action="store_const", const="no", help="Open none.")
    about = "Give any setting a value; may be repeated."
    option("--set", dest="pairs", action="append", metavar="KEY=VALUE", help=about)

    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    add_command(commands, "serve", serve, every)
    add_command(commands, "desktop", desktop_command, every)
    add_command(commands, "backup", backup_command, where)("file", type=Path, help="to write")
    add_command(commands, "restore", restore_command, where)("file", type=Path, help="to read")
    add_command(commands, "setup-link", setup_link_command, where)
    about = "Who may sign in; also while the server runs."
    add_user_commands(commands.add_parser("user", help=about, description=about), where)
    about = "Tokens for programs that use the API; also while the server runs."
    add_token_commands(commands.add_parser("token", help=about, description=about), where)
    option = add_command(commands, "migrate", migrate_command, settings_options("data"))
    option("--from", dest="source", required=True, metavar="URL", help="sqlite:///FILE")
    option("--to", dest="target", required=True, metavar="URL", help="postgresql://HOST/NAME")
    add_command(commands, "doctor", doctor_command, every)
    return parser


def add_user_commands(parser: argparse.ArgumentParser, where: argparse.ArgumentParser) -> None:
    users = parser.add_subparsers(metavar="ACTION", required=True)
    add_command(users, "list", user_list, where)
    argument = add_command(users, "add", user_add, where)
    argument("name", help="1-64 letters, digits and _ . @ -")
    argument("--role", default="user", choices=["user", "admin"], help="what it may do (user)")
    add_command(users, "passwd", user_passwd, where)("name")
    add_command(users, "remove", user_remove, where)("name")


def add_token_commands(parser: argparse.ArgumentParser, where: argparse.ArgumentParser) -> None:
    tokens = parser.add_subparsers(metavar="ACTION", required=True)
    add_command(tokens, "list", token_list, where)
    option = add_command(tokens, "create", token_create, where)
    option("--name", required=True, help="what it is for")
    option("--scope", action="append", choices=SCOPES, help="what it may do; may be repeated")
    option("--channel", action="append", help="pattern of channels, as news/*; may be repeated")
    option("--days", type=float, default=365, help="how long it is valid (365)")
    add_command(tokens, "revoke", token_revoke, where)("name")


def add_command(
    group: Any, name: str, run: Callable[[Any], int | None], options: argparse.ArgumentParser
) -> Callable[..., Any]:
    """A command that takes some settings; gives what adds arguments of its own."""
    about = inspect.getdoc(run) or ""
    made = group.add_parser(name, help=about, description=about, parents=[options])
    made.set_defaults(run=run, parser=made)
    add_argument: Callable[..., Any] = made.add_argument
    return add_argument


def settings_options(*keys: str) -> argparse.ArgumentParser:
    """The options of some settings, for the parsers of commands."""
    parser = argparse.ArgumentParser(add_help=False)
    for key in keys:
        row, name = SETTINGS[key], "--" + key.replace("_", "-")
        shape: dict[str, Any] = {"action": "store_const", "const": "yes"}
        shape = shape if row.kind == "bool" else {"metavar": row.kind.upper()}
        parser.add_argument(name, help=row.description.replace("%", "%%"), **shape)
    return parser


def serve(options: argparse.Namespace) -> None:
    """Serve until SIGTERM or Ctrl-C; a second Ctrl-C ends at once."""
    app = Application(settings_of(options))
    run(app, lambda: announce(app))


def existing_database(options: argparse.Namespace) -> Engine:
    """The database that a command works on. Raises StartError when there is none yet."""
    engine = make_engine(settings_of(options), create=False)
    if isinstance(engine, SqliteEngine) and not engine.path.exists():
        raise StartError(
            f"There is no database at {engine.path}: start the server once first, or name "
            "its folder with --data."
        )
    return engine


def backup_command(options: argparse.Namespace) -> None:
    """Copy the database to a file, also while the server runs."""
    target, engine = options.file, existing_database(options)
    if not isinstance(engine, SqliteEngine):
        raise StartError(USE_PG_DUMP)
    if target.exists():
        raise StartError(f"{target} exists already.")
    try:
        copy_database(engine.path, target)
    except (sqlite3.Error, OSError) as error:
        raise StartError(f"The backup {target} could not be written: {error}.") from None
    print(f"saved {target} ({target.stat().st_size:,} bytes)")


def restore_command(options: argparse.Namespace) -> None:
    """Replace the database by a backup, while no server runs."""
    source = options.file
    check_backup(source)
    engine = make_engine(settings_of(options))
    if not isinstance(engine, SqliteEngine):
        raise StartError(USE_PG_DUMP)
    if engine.path.exists() and engine.path.samefile(source):
        raise StartError(f"{source} is the database itself.")
    engine.claim()
    try:
        copy_database(source, engine.path)
        with contextlib.closing(sqlite3.connect(engine.path)) as database, database:
            # Ids that clients have seen since that backup mean other messages from now on; and
            # where the original goes on, this is another database.
            database.execute("DELETE FROM meta WHERE key IN ('epoch', 'id')")
    except (sqlite3.Error, OSError) as error:
        raise StartError(f"{engine.path} could not be restored: {error}.") from None
    print(f"restored {engine.path} from {source}; clients that come back are told to reset")


def migrate_command(options: argparse.Namespace) -> None:
    """Copy a database of SQLite's into an empty one of PostgreSQL's, while no server runs."""
    given = argparse.Namespace(database=options.source, data=options.data)
    source = existing_database(given)
    given.database = options.target
    target = make_engine(settings_of(given), create=False)
    if not isinstance(source, SqliteEngine) or not isinstance(target, PostgresEngine):
        raise StartError("migrate takes --from sqlite:///FILE --to postgresql://USER@HOST/NAME.")
    source.claim()
    models = Table.__subclasses__()  # what only a run has are none; bound to the target below
    with opened(source) as old, opened(target) as new:
        for model in models:
            if model is not Fact and model.select().exists():
                raise StartError(f"{target.name} is not empty: {model._meta.table_name} has rows.")
        with new.atomic():
            Fact.delete().execute()
            for model in models:
                copy_table(old, new, model)
            target.set_sequences(new)
            Fact.delete().where(Fact.key == "id").execute()
    print(f"copied {source.name} to {target.name}; connected clients resume where they were")


def copy_table(old: peewee.Database, new: peewee.Database, model: type[Table]) -> None:
    """Copy a table's rows, and compare counts and the sums of lengths. Raises StartError."""
    table, columns = model._meta.table_name, tuple(model._meta.columns)
    total = old.execute_sql(f"SELECT count(*) FROM {table}").fetchone()[0]
    cursor, done = old.execute_sql(f"SELECT {', '.join(columns)} FROM {table}"), 0
    while rows := cursor.fetchmany(2_000):
        values = list(itertools.chain.from_iterable(rows))
        new.execute_sql(insertion(table, columns, len(rows)), values)
        done += len(rows)
        print(f"{table}: {done:,} of {total:,}", flush=True)
    texts = [name for name in columns if name != "attachments"]
    sums = ", ".join(f"sum(length(CAST({name} AS TEXT)))" for name in texts)
    check = f"SELECT count(*), {sums} FROM {table}"
    if list(old.execute_sql(check).fetchone()) != list(new.execute_sql(check).fetchone()):
        raise StartError(f"The copy of {table} differs from the original; nothing was kept.")


def token_list(options: argparse.Namespace) -> None:
    """List the tokens, without their secrets."""
    with opened(existing_database(options)):
        for row in AccessToken.select().where(IS_API_TOKEN).order_by(AccessToken.name):
            grants = msgspec.json.decode(row.grants, type=Grants)
            covers = "all channels" if grants.subscribe is None else " ".join(grants.subscribe)
            until = iso(row.expires_at)[:10]
            print(f"{row.name}: {' '.join(grants.scopes)}; {covers}; until {until}")


def token_create(options: argparse.Namespace) -> None:
    """Make a token, whose secret is printed this once."""
    for option, kind in (("name", TokenName), ("channel", Patterns | None), ("days", Days)):
        if wrong := fault(getattr(options, option), kind, strict=True):
            raise StartError(f"token create: --{option} {wrong}.")
    covers = None if options.channel is None else tuple(options.channel)
    grants = Grants(tuple(options.scope or SCOPES[:2]), covers, covers)
    secret, row = new_token("api", grants, options.days * 86_400, name=options.name)
    with opened(existing_database(options)):
        if AccessToken.get_or_none(IS_API_TOKEN & (AccessToken.name == options.name)):
            raise StartError(f"There is a token {options.name} already; revoke it first.")
        AccessToken.insert(**row).execute()
    print(secret)


def token_revoke(options: argparse.Namespace) -> None:
    """End a token, and the streams that were opened with it."""
    with opened(existing_database(options)):
        if not revoke_where(IS_API_TOKEN & (AccessToken.name == options.name)):
            raise StartError(f"There is no token {options.name!r}; see token list.")
    print(f"revoked {options.name}")


@contextlib.contextmanager
def opened(engine: Engine) -> Iterator[peewee.Database]:
    """A database for a command; a server may be using it meanwhile."""
    prepare_database(engine)
    with needing(engine), contextlib.closing(engine.open_writer()) as database:
        database.connect(reuse_if_open=True)
        for model in Table.__subclasses__():
            model.bind(database)
        yield database


def revoke_where(condition: Any) -> bool:
    """Delete tokens, and tell a running server by the log to close their streams; whether there
    were any."""
    database = AccessToken._meta.database
    if found := [row.id for row in AccessToken.select().where(condition)]:
        with database.atomic("IMMEDIATE"):
            transaction = Transaction(database)
            revoke(transaction, found)
            transaction.insert(is_last=True)
    return bool(found)


def new_hash(username: str) -> str:
    """The hash of a new password: asked for twice at a terminal, else the first line of the input.
    Raises StartError when they differ or it is too weak."""
    if sys.stdin is None:  # closed, as a service may have it
        raise StartError("The password is read from the input, which is closed.")
    if sys.stdin.isatty():
        password = getpass.getpass("Password: ")
        if getpass.getpass("Again: ") != password:
            raise StartError("The two passwords differ.")
    else:
        password = sys.stdin.readline().rstrip("\n").removeprefix("\ufeff")  # PowerShell's mark
    try:
        check_password(password, username)
    except Problem as problem:
        raise StartError(f"The password {problem.errors[0][1]}.") from None
    return hash_password(password)


def user_list(options: argparse.Namespace) -> None:
    """List the users and their roles."""
    with opened(existing_database(options)):
        for row in User.select().order_by(User.username_key):
            print(f"{row.username}: {row.role}")


def user_add(options: argparse.Namespace) -> None:
    """Add a user; asks for a password, or reads it from the input's first line. Users may come
    before the server's first start."""
    name = options.name
    if not re.fullmatch(USERNAME, name):
        raise StartError(f"The name {name!r} is not of 1-64 letters, digits and _ . @ - alone.")
    if name.casefold() in OWN_NAMES:
        raise StartError(f"{name} is a name of the program's own: choose another.")
    with opened(make_engine(settings_of(options))):
        if User.get_or_none(User.username_key == name.casefold()):
            raise StartError(f"There is a user {name} already.")
        User.insert(**user_row(name, new_hash(name), options.role)).execute()
    print(f"added {name} ({options.role})")


def user_passwd(options: argparse.Namespace) -> None:
    """Give a user another password, as by `user add`, and end the user's sessions."""
    with user_named(options) as user:
        user.password_hash = new_hash(user.username)
        user.save(only=[User.password_hash])
    print(f"changed the password of {user.username}")


def user_remove(options: argparse.Namespace) -> None:
    """Remove a user, and end the user's sessions."""
    with user_named(options) as user:
        user.delete_instance()
    print(f"removed {user.username}")


@contextlib.contextmanager
def user_named(options: argparse.Namespace) -> Iterator[Any]:
    """A user to change, whose sessions then end. Raises StartError."""
    with opened(existing_database(options)):
        user = User.get_or_none(User.username_key == options.name.casefold())
        if user is None:
            raise StartError(f"There is no user {options.name}; see user list.")
        yield user
        revoke_where(AccessToken.user_id == user.id)


def setup_link_command(options: argparse.Namespace) -> None:
    """Print a new link to make the first administrator, while the server runs."""
    engine = existing_database(options)
    with opened(engine):
        if User.get_or_none(User.role == "admin"):
            raise StartError("There is an administrator already; see user list, user passwd.")
        runtime = read_runtime(engine.folder)
        if isinstance(engine, SqliteEngine):
            with contextlib.suppress(InUse):
                engine.claim()
                runtime = None  # of a server that has ended
        if runtime is None:
            raise StartError("Start the server first: it prints a link by itself.")
        secret, row = new_token("setup", ADMIN_GRANTS, LINK_SECONDS)
        AccessToken.insert(**row).execute()
    print(f"{runtime.url}/#setup={secret}")


def doctor_command(options: argparse.Namespace) -> int:
    """Check the installation and say what to do about what is wrong."""
    try:
        settings = settings_of(options)
        engine = make_engine(settings, create=False)
    except (StartError, ValueError) as error:
        print(f"FAIL  settings: {error}")
        return 1
    with contextlib.suppress(*DATABASE_FAULTS):  # `check_database` says why
        if isinstance(engine, SqliteEngine):
            database: Any = peewee.SqliteDatabase(f"{engine.path.as_uri()}?mode=ro", uri=True)
        else:
            database = engine.connect()
        with contextlib.closing(database):
            settings.load(database.execute_sql(SAVED_SETTINGS).fetchall())
    verdicts = []
    checks = (check_data_folder, check_database, check_port, check_clock, check_disk)
    for check in (*checks, check_open_files, check_exposure, check_turn, check_network):
        try:
            verdict, text = "ok", check(settings, engine)
        except (Doubt, OSError, sqlite3.Error, StartError, ValueError) as error:
            verdict, text = "warn" if isinstance(error, Doubt) else "FAIL", str(error)
        verdicts.append(verdict)
        print(f"{verdict:5} {check.__name__[6:].replace('_', ' ')}: {text}")
    return int("FAIL" in verdicts)


# Each check of `doctor` gives what it found. Raises Doubt for what is worth a look, StartError for
# what is broken, each with what to do about it.


def check_data_folder(settings: Settings, engine: Engine) -> str:
    folder = engine.folder
    if not folder.exists() and next(p for p in folder.parents if p.exists()).is_dir():
        raise Doubt(f"{folder} is not there yet. The first start makes it.")
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"x" * 65_536)
    except OSError as error:
        raise StartError(
            f"{folder} takes no files ({error.strerror}). "
            "Give this user the right to write there, or choose another with --data."
        ) from None
    return str(folder)


def check_database(settings: Settings, engine: Engine) -> str:
    """The database is sound and of a version that this program opens; nothing is changed."""
    if not isinstance(engine, SqliteEngine):
        try:
            with contextlib.closing(engine.connect()) as server:
                number, version = server.server_version, schema_version(server)
        except DATABASE_FAULTS as error:
            raise StartError(f"{engine.redacted(str(error).strip())} Start it.") from None
        if number < 130_000 or version > len(MIGRATIONS):
            raise StartError(
                f"PostgreSQL {number // 10_000}, schema {version}. "
                "PostgreSQL 13 or newer is needed, and a program as new as the schema."
            )
        return f"{engine.name}, PostgreSQL {number // 10_000}"
    path = engine.path
    if not path.exists() or not path.stat().st_size:
        raise Doubt("none yet. The first start makes it.")
    try:
        check_backup(path)
    except StartError as error:
        advice = "Stop the server, move the file away, and run: restore BACKUP."
        raise StartError(f"{error} {advice}") from None
    size = engine.wal_bytes()
    if size > 4 * SqliteEngine.LOG_BYTES:
        raise Doubt(
            f"its write-ahead log {path}-wal has grown to {size:,} bytes. A program that reads it "
            "for long, such as a copy, keeps it so; when that has ended it shrinks by itself while "
            "the server runs."
        )
    return f"{path} is sound ({path.stat().st_size:,} bytes)"


def check_port(settings: Settings, engine: Engine) -> str:
    host, port = settings["host"], settings["port"]
    try:
        listen(host, port).close()
    except StartError:
        if b'"version"' in ask_here(port, "/healthz"):
            return f"an rtapp is listening on {port}"
        raise
    return f"{port} is free"


def check_clock(settings: Settings, engine: Engine) -> str:
    files = [PROGRAM, *([engine.path] if isinstance(engine, SqliteEngine) else [])]
    newest = max(path.stat().st_mtime for path in files if path.exists())
    if time.time() < newest - 60:
        raise StartError(
            f"it shows {iso(now_ms())}, earlier than files written before. "
            "Set the clock; turn on time synchronization."
        )
    return iso(now_ms())


def check_disk(settings: Settings, engine: Engine) -> str:
    folders = engine.folder, *engine.folder.parents
    free = shutil.disk_usage(next(path for path in folders if path.exists())).free
    text = f"{free / 1e9:.1f} GB free"
    if free < 50_000_000:
        raise StartError(f"{text}. Make room: publishing answers 503 when it is full.")
    if free < 1_000_000_000:
        raise Doubt(f"{text}. Make room soon.")
    return text


def check_open_files(settings: Settings, engine: Engine) -> str:
    allowed, wanted = raise_file_limit(), settings["max_connections"] + 100
    if allowed < wanted:
        raise StartError(
            f"{allowed} allowed, max_connections needs {wanted}. Raise it (ulimit -n, or "
            "LimitNOFILE= in a systemd unit), or lower max_connections."
        )
    return f"{allowed} allowed" if allowed < sys.maxsize else "no limit on this system"


def check_network(settings: Settings, engine: Engine) -> str:
    running = read_runtime(engine.folder)
    note = running.network if running else {}
    if not settings["lan"] and not note.get("shared"):
        return "not shared"
    addresses, is_vpn = find_addresses(settings["port"])
    is_silent = bool(note.get("shared")) and not note.get("arrived")
    if found := address_warnings(addresses, is_vpn, settings["lan_address"], is_silent):
        raise Doubt(" ".join(WARNINGS[code] for code in found))
    return f"guests come by {note.get('link') or addresses[0].link}"


def announce(app: Application) -> None:
    """Say where the server is and how to sign in."""
    print(f"rtapp {__version__}, data in {app.settings.folder()}", flush=True)
    if not app.access.has_admin:
        link = f"{app.url}/#setup={app.access.make_token('setup', LINK_SECONDS)}"
        print(f"set up (once, within 30 minutes): {link}", flush=True)
        if app.settings["lan"]:
            print("others on the network are let in once that account exists", flush=True)
    print(f"rtapp listening on {app.url}", flush=True)
    app.network.tell()
    first = app.settings["lan"] and app.settings.source("open_browser") == "default"
    if (app.settings["open_browser"] or (first and not app.access.has_admin)) and has_screen():
        kind = "signin" if app.access.has_admin else "setup"
        open_browser(app, f"{app.url}/#{kind}={app.access.make_token(kind, OPENING_SECONDS)}")


class ChildServer:
    """A server for another program, in a process of its own: `with rtapp.create_server(
    access="open") as server: print(server.url)`. The settings are those of the command line;
    patches nothing here. Raises StartError for one that there isn't."""

    def __init__(self, **settings: Any) -> None:
        for key in settings:
            if key not in SETTINGS:
                raise StartError(f"{key}: {unknown_setting(key)}.")
        # By the environment: what is on a command line can be read by everybody on the machine.
        given = {"port": 0, **settings}.items()
        self._given = {f"RTAPP_{key.upper()}": setting_text(value) for key, value in given}
        self._child: subprocess.Popen[str] | None = None
        self.url = ""

    def start(self) -> ChildServer:
        """Start it and wait until it listens; `url` is where. Raises StartError."""
        self._child = child = start_own(["serve"], self._given)

        def pass_on() -> None:
            for line in child.stdout or ():
                print(line, end="", flush=True)

        for line in child.stdout or ():
            if line.startswith("rtapp listening on "):
                self.url = line.split()[-1]
                threading.Thread(target=pass_on, daemon=True).start()
                return self
        raise StartError(f"The server ended with code {child.wait()}.")

    def stop(self) -> None:
        """End it as SIGTERM does."""
        if self._child is not None:
            self._child.terminate()
            self._child.wait(15)
            self._child = None

    __enter__ = start

    def __exit__(self, *_: object) -> None:
        self.stop()


create_server = ChildServer


def parse(given: list[str]) -> argparse.Namespace:
    """What the words of a command line say; without a command it is the usual one. Ends the process
    with a sentence for what can't be."""
    parser = make_parser()
    if not given or (given[0].startswith("-") and given[0] not in ("-h", "--help", "--version")):
        words = parser.parse_known_args([DEFAULT_COMMAND, *given])[1]
        if words and not words[0].startswith("-"):  # a command behind its options
            at = given.index(words[0])
            given = [*given[at:], *given[:at]]
        else:
            given = [DEFAULT_COMMAND, *given]
    options, unknown = parser.parse_known_args(given)
    if unknown:
        options.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    return options


OUTPUT_FAULTS = (errno.EPIPE, errno.ENOSPC, errno.EIO)  # where no file is named


def why_failed(error: Exception) -> str | None:
    """Why a command failed, in a sentence; None for a fault of the program's own."""
    if isinstance(error, (StartError, Problem)):
        return str(error)
    if isinstance(error, UnicodeError):
        is_given = isinstance(error, UnicodeDecodeError)  # of bytes that are no text
        is_given |= getattr(error, "reason", "") == "surrogates not allowed"
        return "What was given is not valid UTF-8." if is_given else None
    if isinstance(error, OSError) and (error.filename or error.errno in OUTPUT_FAULTS):
        return f"{error.filename or 'The output'}: {error.strerror}."
    return None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the process's exit code."""
    sys.modules.setdefault("rtapp", sys.modules[__name__])  # handlers import the running module
    if isinstance(sys.stdout, io.TextIOWrapper):  # like errors', whatever letters the output takes
        sys.stdout.reconfigure(errors="backslashreplace")
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["--window"]:
        return WindowProcess(*given[1:]).run()
    options = parse(given)
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        code = options.run(options) or 0
        print(end="", flush=True)
        return code
    except (KeyboardInterrupt, EOFError):  # at a question
        return 130
    except Exception as error:
        said = why_failed(error)
        if said is None:
            raise
        if isinstance(error, OSError) and not error.filename:  # for what is left to flush
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):  # its reader has seen enough, as `head` has
            return 141
        print(f"rtapp: {said}", file=sys.stderr)
        if isinstance(error, StartError) and options.run is desktop_command and has_screen():
            tell_failure(said)
        return 2


if __name__ == "__main__":
    sys.exit(main())
