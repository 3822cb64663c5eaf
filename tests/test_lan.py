"""Sharing on the local network: the switch, certificates, the landing page, what phones see.

The network is made of namespaces without a way out; the browsers on it are real.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import hashlib
import http.client
import ipaddress
import json
import os
import re
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from playwright.sync_api import Browser, Page, Playwright, expect
from playwright.sync_api import Error as PlaywrightError

import rtapp
from browsers import ALLOW, DEVICES, FLAGS, hurry, new_context, start_chromium, until
from calls import FirefoxPage, Home, Person, api, flow
from conftest import Certificate
from lan import Host, Lan, obstacle, run
from support import ADMIN, PATIENCE, PROGRAM, Answer, Server, Stream, setup_token, wait_for
from test_desktop import copied_program

HOST = "oldname"


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
    assert server.get("/ca.crt").status == 404
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


def test_a_damaged_authority_is_made_anew(tmp_path: Path) -> None:
    """One bit of its signature: it can be read, and vouches for nothing."""
    before = prepared(tmp_path).fingerprint
    file = tmp_path / "authority.pem"
    cert = x509.load_pem_x509_certificate(file.read_bytes()).public_bytes(Encoding.DER)
    wrong = base64.encodebytes(cert[:-1] + bytes([cert[-1] ^ 1])).decode()
    key = file.read_text().partition("-----BEGIN CERTIFICATE")[0]
    file.write_text(f"{key}-----BEGIN CERTIFICATE-----\n{wrong}-----END CERTIFICATE-----\n")
    assert prepared(tmp_path).fingerprint != before


def prepared(folder: Path) -> rtapp.Certificates:
    """The certificates that a folder holds."""
    settings: Any = {"tls_cert": "", "tls_key": ""}
    made = rtapp.Certificates(settings, folder, cast(Any, None), lambda: False)
    made.prepare()
    return made


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


# ---- a network of three --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lan() -> Iterator[Lan]:
    """A server's host and two others, without a way out."""
    if reason := obstacle():
        pytest.skip(reason)
    with Lan("server", "ada", "bob") as made:
        for host in made.hosts.values():
            host.ip("route", "delete", "default")
        yield made


def on_host(
    host: Host,
    data: Path,
    *arguments: str,
    name: str = HOST,
    **more: Any,
) -> Server:
    """A server on a host of the network that has a name of its own."""
    return Server(data, *arguments, namespace=host.namespace, hostname=name, **more)


@pytest.fixture
def shared(lan: Lan, tmp_path: Path) -> Iterator[Server]:
    """A server on the network that is shared."""
    with on_host(lan["server"], tmp_path / "data", "--lan") as server:
        yield server


def from_host(
    host: Host,
    server: Server,
    path: str,
    address: str,
    tls: ssl.SSLContext | None = None,
    method: str = "GET",
    body: Any = None,
    **headers: str,
) -> Answer:
    """A request from a host of the network."""
    with host.inside():
        if tls is None:
            connection = http.client.HTTPConnection(address, server.port, timeout=PATIENCE)
        else:
            connection = http.client.HTTPSConnection(
                address, server.port, timeout=PATIENCE, context=tls
            )
        try:
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, sent)
            got = connection.getresponse()
            found = {name.lower(): value for name, value in got.getheaders()}
            return Answer(got.status, found, got.read())
        finally:
            connection.close()


def at_home(lan: Lan, server: Server) -> contextlib.AbstractContextManager[None]:
    """What is asked of the server meanwhile comes from its own computer."""
    return lan["server"].inside()


def addresses(lan: Lan, server: Server) -> list[str]:
    """Those that the server has seen on its computer."""
    with at_home(lan, server):
        return [row["address"] for row in network(server)["addresses"]]


def failed_handshakes(lan: Lan, server: Server) -> list[str]:
    """What the event log says of them."""
    with at_home(lan, server):
        return [entry["message"] for entry in server.get("/api/logs?q=handshake").json]


def trusting(server: Server) -> ssl.SSLContext:
    """The context of a device that has installed the certificate."""
    return ssl.create_default_context(cafile=str(server.data / "tls" / "ca.crt"))


def careless() -> ssl.SSLContext:
    """The context of somebody who clicks every warning away."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


# ---- plain HTTP ----------------------------------------------------------------------------------


def test_pages_over_plain_http_lead_to_https(lan: Lan, shared: Server) -> None:
    here = f"10.77.0.1:{shared.port}"
    answer = from_host(lan["ada"], shared, "/room/a-b?name=%C4%B0&x=%22", "10.77.0.1")
    page = answer.body.decode()
    assert answer.status == 200
    assert answer.headers["cache-control"] == "no-store"
    assert "set-cookie" not in answer.headers and "location" not in answer.headers
    assert f'href="https://{here}/room/a-b?name=%C4%B0&amp;x=%22"' in page
    assert "One more step" in page and '<html lang="en"' in page
    assert network_fingerprint(lan, shared) in page
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert f"img-src data: https://{here};" in policy
    for tag, content in re.findall(r"<(style|script)>(.*?)</\1>", page, re.S):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy, tag
    assert not re.search(
        r'(src|href)="(?!data:|https://10\.77\.0\.1|/ca\.crt|\?lang=|\?name)', page
    )


def network_fingerprint(lan: Lan, server: Server) -> str:
    with at_home(lan, server):
        return str(network(server)["authority"]["fingerprint"])


def test_the_landing_page_speaks_the_guests_language(lan: Lan, shared: Server) -> None:
    def language(path: str, accepts: str = "") -> str:
        page = from_host(lan["ada"], shared, path, "10.77.0.1", Accept_Language=accepts)
        found = re.search(r'<html lang="(\w+)"', page.body.decode())
        assert found
        return found[1]

    assert language("/", "tr-TR,tr;q=0.9,en;q=0.8") == "tr"
    assert language("/", "de,fr;q=0.5") == "en"
    assert language("/?lang=en", "tr") == "en"
    assert language("/?lang=xx", "tr") == "tr"


def test_calls_over_plain_http_are_refused_and_not_read(lan: Lan, shared: Server) -> None:
    ask = lan["ada"]
    for method, path in (
        ("GET", "/api/stats"),
        ("GET", "/api/events"),
        ("GET", "/ws"),
        ("GET", "/socket.io/?EIO=4&transport=polling"),
        ("POST", "/"),
        ("GET", "/static/img/icon.svg"),
        ("GET", "/metrics"),
    ):
        secret = f"Bearer {ADMIN}"
        answer = from_host(ask, shared, path, "10.77.0.1", method=method, Authorization=secret)
        assert answer.code == "https_required", path
    # What is announced is not waited for, and the answer arrives all the same.
    with ask.inside(), socket.create_connection(("10.77.0.1", shared.port), PATIENCE) as sock:
        head = "POST /api/broadcast HTTP/1.1\r\nHost: 10.77.0.1\r\nContent-Length: 1000000000\r\n"
        sock.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + b"x" * 30_000)
        answer_bytes = b""
        with contextlib.suppress(ConnectionResetError):
            while part := sock.recv(65_536):
                answer_bytes += part
        assert b"403 Forbidden" in answer_bytes and b"https_required" in answer_bytes
    assert from_host(ask, shared, "/ca.crt", "10.77.0.1").headers["content-type"] == (
        "application/x-x509-ca-cert"
    )
    evil = from_host(ask, shared, "/", "10.77.0.1", Host="evil.example")
    assert evil.code == "wrong_host"


def test_the_computer_itself_may_stay_plain(lan: Lan, shared: Server) -> None:
    with at_home(lan, shared):
        assert shared.get("/api/stats").status == 200
    assert from_host(lan["server"], shared, "/healthz", "127.0.0.1", trusting(shared)).status == 200


# ---- certificates --------------------------------------------------------------------------------

PRIVATE = {
    "10/8": "10.77.0.1",
    "172.16/12": "172.20.3.4",
    "192.168/16": "192.168.44.5",
    "100.64/10": "100.99.1.2",
    "169.254/16": "169.254.7.8",
    "fc00::/7": "fd12:3456::7",
}
LINK_LOCAL = "fe80::7:1"
PUBLIC = {"public IPv4": "203.0.113.9", "global IPv6": "2001:db8::9"}


@pytest.fixture
def many(lan: Lan) -> Iterator[None]:
    """The server's host has an address of every kind, and the others find the way to each."""
    more = [a for a in (*PRIVATE.values(), *PUBLIC.values()) if a != "10.77.0.1"]
    length = {True: 128, False: 32}
    for address in more:
        wide = f"{address}/{length[':' in address]}"
        extra = ["nodad"] if ":" in address else []
        lan["server"].ip("address", "add", wide, "dev", "eth0", *extra)
        for name in ("ada", "bob"):
            lan[name].ip("route", "add", wide, "dev", "eth0")
    for host in lan.hosts.values():  # hosts find each other's IPv6 addresses by these
        local = f"{LINK_LOCAL[:-1]}{host.number}/64"
        host.ip("address", "replace", local, "dev", "eth0", "nodad")
    yield
    for address in more:
        wide = f"{address}/{length[':' in address]}"
        lan["server"].ip("address", "delete", wide, "dev", "eth0")
        for name in ("ada", "bob"):
            lan[name].ip("route", "delete", wide, "dev", "eth0")


def certificate_at(host: Host, server: Server, address: str, name: str = "") -> x509.Certificate:
    """What somebody is shown at an address."""
    with (
        host.inside(),
        socket.create_connection((address, server.port), PATIENCE) as plain,
        careless().wrap_socket(plain, server_hostname=name or None) as sock,
    ):
        der = sock.getpeercert(True)
    assert der
    return x509.load_der_x509_certificate(der)


def named_in(certificate: x509.Certificate) -> list[str]:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [str(each.value) for each in names]


@pytest.mark.usefixtures("many")
def test_an_address_of_every_kind_gets_a_certificate_of_use(lan: Lan, shared: Server) -> None:
    """Verified by OpenSSL; Chromium's and Firefox's own opinions are below."""
    with lan["server"].inside():
        scope = socket.if_nametoindex("eth0")
    for address in PRIVATE.values():
        answer = from_host(lan["server"], shared, "/healthz", address, trusting(shared))
        assert answer.status == 200, address
        assert named_in(certificate_at(lan["server"], shared, address)) == [address]
    with lan["server"].inside(), socket.socket(socket.AF_INET6) as plain:
        plain.connect((LINK_LOCAL, shared.port, 0, scope))
        with trusting(shared).wrap_socket(plain, server_hostname=LINK_LOCAL) as sock:
            assert sock.version()
    for address in PUBLIC.values():
        leaf = certificate_at(lan["server"], shared, address)
        assert named_in(leaf) == [address]
        assert leaf.issuer == leaf.subject  # by itself: it makes no chain invalid
        with pytest.raises(ssl.SSLCertVerificationError, match="self-signed|self signed"):
            from_host(lan["server"], shared, "/healthz", address, trusting(shared))
    with at_home(lan, shared):
        seen = network(shared)
    order = [row["kind"] for row in seen["addresses"]]
    assert order == sorted(
        order, key=["private", "shared", "unique-local", "self-assigned", "public"].index
    )
    assert seen["address"] in PRIVATE.values()


@pytest.mark.usefixtures("many")
def test_the_openssl_command_takes_the_chain_of_each_kind_of_address(
    lan: Lan, shared: Server
) -> None:
    if not shutil.which("openssl"):
        pytest.skip("no openssl is installed (Debian: openssl)")
    trusted = ["-CAfile", str(shared.data / "tls" / "ca.crt"), "-verify_return_error"]

    def verdict(address: str) -> str:
        bare = address.partition("%")[0]
        place = f"[{address}]" if ":" in address else address
        connect = ["-connect", f"{place}:{shared.port}", "-verify_ip", bare, *trusted]
        done = subprocess.run(
            [*lan["server"].command, "openssl", "s_client", *connect],
            input="",
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        found = re.search(r"Verif.*: (OK|error.*)", done.stdout + done.stderr)
        return found[1] if found else done.stderr

    for address in (*PRIVATE.values(), f"{LINK_LOCAL}%eth0"):
        assert verdict(address) == "OK", address
    for address in PUBLIC.values():
        assert "self-signed" in verdict(address) or "self signed" in verdict(address)


def test_what_is_stolen_vouches_for_nothing_else(shared: Server) -> None:
    """The folder holds no key that could sign for other names, and openssl agrees."""
    folder = shared.data / "tls"
    pem = (folder / "authority.pem").read_bytes()
    authority = x509.load_pem_x509_certificate(pem)
    root = x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes())
    basic = authority.extensions.get_extension_for_class(x509.BasicConstraints)
    assert basic.critical and basic.value.path_length == 0
    assert authority.extensions.get_extension_for_class(x509.NameConstraints).critical
    keys = [p for p in folder.iterdir() if b"PRIVATE KEY" in p.read_bytes()]
    assert {p.stat().st_mode & 0o777 for p in keys} == {0o600}
    for path in keys:
        found = x509.load_pem_x509_certificate(path.read_bytes())
        assert found.public_key() != root.public_key()
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

    key = ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName([x509.DNSName("bank.example")])
    by = authority, load_pem_private_key(pem, None)
    forged = rtapp.build_cert("forged", key, by, 90, None, names)
    verifier = (
        PolicyBuilder().store(Store([root])).build_server_verifier(x509.DNSName("bank.example"))
    )
    with pytest.raises(VerificationError):
        verifier.verify(forged, [authority])


def test_a_renamed_computer(lan: Lan, tmp_path: Path) -> None:
    data = tmp_path / "data"
    with on_host(lan["server"], data, "--lan") as server:
        for name in (HOST, f"{HOST}.local", "localhost"):
            assert named_in(certificate_at(lan["ada"], server, "10.77.0.1", name)) == [name]
            context = trusting(server)
            with lan["ada"].inside(), socket.create_connection(("10.77.0.1", server.port)) as plain:
                context.wrap_socket(plain, server_hostname=name).close()
        before = certificate_at(lan["ada"], server, "10.77.0.1")
        server.stop()
    with on_host(lan["server"], data, "--lan", name="newname") as server:
        assert certificate_at(lan["ada"], server, "10.77.0.1") == before  # guests accepted it
        inside = certificate_at(lan["ada"], server, "10.77.0.1", "newname.local")
        assert named_in(inside) == ["newname.local"] and inside.issuer != inside.subject
        outside = certificate_at(lan["ada"], server, "10.77.0.1", "newname")
        assert named_in(outside) == ["newname"] and outside.issuer == outside.subject
        assert certificate_at(lan["ada"], server, "10.77.0.1", "bank.example") == before


def test_a_leaf_is_renewed_late_and_never_during_a_call(lan: Lan, tmp_path: Path) -> None:
    data = tmp_path / "data"
    with on_host(lan["server"], data, "--lan") as server:
        certificate_at(lan["ada"], server, "10.77.0.1")
        server.stop()
    old = make_leaf(data, "10.77.0.1", days=2.9)  # after two thirds of its life, not at its end
    with on_host(lan["server"], data, "--lan") as server:
        with at_home(lan, server):
            room = server.post("/api/video/rooms", {"name": "Call"}).json["roomId"]
        session = json.dumps({"session": "a" * 22})
        more: dict[str, Any] = {"method": "POST", "Content_Type": "application/json"}
        join = f"/api/video/rooms/{room}/join"
        # The room was asked for by loopback, so that no certificate was looked at before.
        with at_home(lan, server):
            assert server.post(join, {"session": "a" * 22}).status == 200
        assert certificate_at(lan["ada"], server, "10.77.0.1") == old
        leave = f"/api/video/rooms/{room}/leave"
        gone = from_host(lan["ada"], server, leave, "10.77.0.1", careless(), body=session, **more)
        assert gone.status == 200, gone
        renewed = certificate_at(lan["ada"], server, "10.77.0.1")
        assert renewed != old
        life = renewed.not_valid_after_utc - renewed.not_valid_before_utc
        assert life <= datetime.timedelta(days=397)
        server.stop()
    ended = make_leaf(data, "10.77.0.1", days=1.9)  # no use even in a call
    with on_host(lan["server"], data, "--lan") as server:
        assert certificate_at(lan["ada"], server, "10.77.0.1") not in (old, ended)


def make_leaf(data: Path, address: str, days: float) -> x509.Certificate:
    """Put a certificate of another age in the place of an address's own."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    pem = (data / "tls" / "authority.pem").read_bytes()
    issuer, signing = x509.load_pem_x509_certificate(pem), load_pem_private_key(pem, None)
    key = ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
    made: x509.Certificate = rtapp.build_cert("old", key, (issuer, signing), days, None, names)
    parts = (rtapp.pem_of(key), rtapp.pem_of(made), rtapp.pem_of(issuer))
    place = next((data / "tls").glob(f"leaf-*-{address}.pem"))
    place.write_text("".join(parts))
    return made


class Clock:
    """A clock for servers, which can be wrong."""

    def __init__(self, folder: Path) -> None:
        self._offset = folder / "offset"
        self.set(0)
        customize = folder / "clock" / "sitecustomize.py"
        customize.parent.mkdir()
        said = f"float(open({str(self._offset)!r}).read())"
        lines = "import time", "real = time.time", f"time.time = lambda: real() + {said}"
        customize.write_text("\n".join(lines))
        self.env = {"PYTHONPATH": str(customize.parent)}

    def set(self, days: float) -> None:
        """How many days it is ahead."""
        new = self._offset.with_suffix(".new")
        new.write_text(str(days * 86_400))
        new.replace(self._offset)


def test_a_clock_that_is_behind_is_told_and_spoils_no_certificate(
    lan: Lan, playwright: Playwright, tmp_path: Path
) -> None:
    """As of a computer without a battery, until it hears what time it is."""
    clock, program = Clock(tmp_path), copied_program(tmp_path)
    clock.set(-1_000)
    more: dict[str, Any] = {"program": program, "env": clock.env}
    browser = chromium_on(playwright, lan["server"], tmp_path / "home")
    with on_host(lan["server"], tmp_path / "data", "--lan", **more) as server:

        def is_warned() -> bool:
            with at_home(lan, server):
                return "clock" in [row["code"] for row in network(server)["warnings"]]

        assert is_warned()
        bearer = {"Authorization": f"Bearer {ADMIN}"}
        for language in ("en", "tr"):
            with page_of(browser, locale=language, extra_http_headers=bearer) as page:
                page.goto(f"http://127.0.0.1:{server.port}/")
                expect(page.locator("#share")).to_contain_text(Words(language)["share.warn.clock"])
        reached = from_host(lan["ada"], server, "/healthz", "10.77.0.1", trusting(server))
        assert reached.status == 200  # by somebody whose clock is right
        before = certificate_at(lan["ada"], server, "10.77.0.1")
        clock.set(0)
        assert certificate_at(lan["ada"], server, "10.77.0.1") == before
        assert not is_warned()
        server.stop()
        clock.set(-1_000)  # once more: who installed or accepted what there is keeps it
        server.start()
        assert certificate_at(lan["ada"], server, "10.77.0.1") == before
        assert from_host(lan["ada"], server, "/", "10.77.0.1", trusting(server)).status == 200
    browser.close()


def test_certificates_of_a_clock_that_was_ahead_are_made_anew(lan: Lan, tmp_path: Path) -> None:
    clock = Clock(tmp_path)
    clock.set(100)
    with on_host(lan["server"], tmp_path / "data", "--lan", env=clock.env) as server:
        with pytest.raises(ssl.SSLCertVerificationError, match="not yet valid"):
            from_host(lan["ada"], server, "/", "10.77.0.1", trusting(server))
        clock.set(0)
        begin = certificate_at(lan["ada"], server, "10.77.0.1").not_valid_before_utc
        assert begin < datetime.datetime.now(datetime.timezone.utc)
        server.stop()
        server.start()
        assert from_host(lan["ada"], server, "/", "10.77.0.1", trusting(server)).status == 200


def test_refused_handshakes_cost_a_line_each(lan: Lan, shared: Server) -> None:
    for _ in range(3):
        with pytest.raises(ssl.SSLCertVerificationError):
            from_host(lan["ada"], shared, "/", "10.77.0.1", ssl.create_default_context())
    with lan["ada"].inside(), socket.create_connection(("10.77.0.1", shared.port)) as sock:
        sock.sendall(b"\x16\x03\x01\x00\x05hello")
        sock.recv(100)

    wait_for(lambda: len(failed_handshakes(lan, shared)) == 4, "a line for each")
    assert not [line for line in shared.output if "Traceback" in line or "Error" in line]


def test_own_certificate_is_read_again_when_it_changes(
    make_server: Callable[..., Server], tmp_path: Path
) -> None:
    """As after its renewal: nobody is disconnected, and a bad one is not taken."""
    old, new = (Certificate(made_folder(tmp_path / name)) for name in ("old", "new"))
    used = Certificate(made_folder(tmp_path / "used"))

    def put(cert: Path, key: Path) -> None:
        for source, target in ((cert, used.cert), (key, used.key)):
            copy = target.with_suffix(".new")
            copy.write_bytes(source.read_bytes())
            copy.replace(target)

    def served() -> x509.Certificate:
        with (
            socket.create_connection(("127.0.0.1", server.port), PATIENCE) as plain,
            careless().wrap_socket(plain) as sock,
        ):
            der = sock.getpeercert(True)
        assert der
        return x509.load_der_x509_certificate(der)

    def expected(made: Certificate) -> x509.Certificate:
        return x509.load_pem_x509_certificate(made.cert.read_bytes())

    put(old.cert, old.key)
    server = make_server(**used.settings)
    assert served() == expected(old)
    with Stream(server.port, tls=old.trusting) as stream:
        stream.next()
        put(new.cert, old.key)  # they don't belong together
        assert served() == expected(old)
        put(new.cert, new.key)
        assert served() == expected(new)
        used.key.unlink()
        assert served() == expected(new)
        sent = server.request("POST", "/api/broadcast", {"n": 1}, tls=new.trusting)
        assert sent.status == 200, sent
        assert stream.values(1)[0]["n"] == 1
    logs = server.request("GET", "/api/logs?q=certificate", tls=new.trusting).json
    said = [(entry["level"], entry["message"].partition(":")[0]) for entry in logs]
    kept_before = ("WARN", "The certificate of before stays in use")
    assert said.count(kept_before) == 2 and ("INFO", "The certificate was read again") in said


def made_folder(path: Path) -> Path:
    path.mkdir()
    return path


# ---- coming and going ----------------------------------------------------------------------------


def test_without_an_administrator_it_waits_for_one(lan: Lan, tmp_path: Path) -> None:
    env: dict[str, str | None] = {"RTAPP_ADMIN_TOKEN": None}
    with on_host(lan["server"], tmp_path / "data", "--lan", env=env) as server:
        with pytest.raises(ConnectionRefusedError):
            from_host(lan["ada"], server, "/", "10.77.0.1")
        link = next(line for line in server.output if "#setup=" in line)
        assert "others on the network are let in once that account exists" in server.output
        account = {"username": "ada", "password": "correct horse", "token": link.split("=")[-1]}
        with at_home(lan, server):
            assert server.post("/api/auth/setup", account, token=None).status == 200

        def is_open() -> bool:
            with contextlib.suppress(ConnectionRefusedError):
                return from_host(lan["ada"], server, "/", "10.77.0.1").status == 200
            return False

        wait_for(is_open, "the network to be open")
        wait_for(lambda: any("http://10.77.0.1" in line for line in server.output), "the link")


def test_it_is_withdrawn_with_the_last_administrator(lan: Lan, tmp_path: Path) -> None:
    """Nobody could switch it off any more."""
    env: dict[str, str | None] = {"RTAPP_ADMIN_TOKEN": None}
    with on_host(lan["server"], tmp_path / "data", "--lan", env=env) as server:

        def is_open() -> bool:
            with contextlib.suppress(OSError):
                return from_host(lan["ada"], server, "/", "10.77.0.1").status == 200
            return False

        for _ in range(2):
            added = server.command("user", "add", "ada", "--role", "admin", text="correct horse")
            assert added.code == 0, added
            wait_for(is_open, "the network to be open")
            assert server.command("user", "remove", "ada").code == 0
            wait_for(lambda: not is_open(), "the network to be closed")


def test_a_stop_disconnects_the_network_only(lan: Lan, tmp_path: Path) -> None:
    with on_host(lan["server"], tmp_path / "data") as server:
        with pytest.raises(ConnectionRefusedError):
            from_host(lan["ada"], server, "/", "10.77.0.1")
        with at_home(lan, server):
            own = server.stream()
            assert server.post("/api/network", {"share": True}).json["link"] == (
                f"http://10.77.0.1:{server.port}/"
            )
        with lan["ada"].inside():
            far = Stream(server.port, host="10.77.0.1", tls=careless())
            far.next()
        with at_home(lan, server):
            seen = network(server)
            assert [row["ipAddress"] for row in seen["connected"]] == ["10.77.0.2"]
            assert seen["arrivedAt"]
            assert server.post("/api/network", {"share": False}).json["state"] == "off"
        assert far.ended()
        assert "disconnect" in [event.get("event") for event in far.events]
        with pytest.raises(ConnectionRefusedError):
            from_host(lan["ada"], server, "/", "10.77.0.1")
        with at_home(lan, server):
            server.publish({"still": "here"})
            assert own.values(1)[0]["still"] == "here"
            assert server.post("/api/network", {"share": True}).json["state"] == "on"
        assert from_host(lan["ada"], server, "/", "10.77.0.1").status == 200


def test_plain_http_is_served_again_after_sharing(lan: Lan, tmp_path: Path) -> None:
    """Where it was before: on a server that accepts to listen everywhere without TLS."""
    with on_host(
        lan["server"], tmp_path / "data", "--host", "0.0.0.0", "--insecure-http"
    ) as server:

        def is_plain() -> bool:
            return from_host(lan["ada"], server, "/healthz", "10.77.0.1").status == 200

        assert is_plain()
        for share, plain in ((True, False), (False, True), (True, False)):
            with at_home(lan, server):
                assert server.post("/api/network", {"share": share}).status == 200
            assert is_plain() == plain


def test_who_is_at_the_computer_stays_connected_while_the_switch_is_thrown(
    lan: Lan, tmp_path: Path
) -> None:
    """A stream, a connection that waits for a next request, and whoever comes anew."""
    with on_host(lan["server"], tmp_path / "data") as server, at_home(lan, server):
        stream = server.stream()
        kept = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
        for share in (True, False) * 3:
            assert server.post("/api/network", {"share": share}).status == 200
            kept.request("GET", "/healthz")
            assert kept.getresponse().read()
            assert server.get("/healthz").status == 200
            server.publish({"share": share})
        assert [value["share"] for value in stream.values(6)] == [True, False] * 3
        kept.close()


def test_a_port_that_another_program_has_is_not_shared(lan: Lan, tmp_path: Path) -> None:
    """Nobody at the computer notices the attempt."""
    with on_host(lan["server"], tmp_path / "data") as server, at_home(lan, server):
        stream = server.stream()
        with socket.create_server(("10.77.0.1", server.port)):
            assert server.post("/api/network", {"share": True}).code == "port_in_use"
            assert server.get("/healthz").status == 200
        assert server.post("/api/network", {"share": True}).json["state"] == "on"
        server.publish({"n": 1})
        assert stream.values(1)[0]["n"] == 1


def test_a_connection_without_a_word_is_no_failed_handshake(lan: Lan, shared: Server) -> None:
    """Browsers open some before they know what to ask."""
    with lan["ada"].inside():
        for end in (socket.SHUT_WR, socket.SHUT_RDWR):
            with socket.create_connection(("10.77.0.1", shared.port), PATIENCE) as sock:
                sock.shutdown(end)
                with contextlib.suppress(OSError):
                    assert sock.recv(100) == b""
        with socket.create_connection(("10.77.0.1", shared.port), PATIENCE) as sock:
            reset = struct.pack("ii", 1, 0)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        with socket.create_connection(("10.77.0.1", shared.port), PATIENCE) as sock:
            sock.sendall(b"\x16\x03\x01\x00\x05hello")
            sock.recv(100)

    wait_for(lambda: failed_handshakes(lan, shared), "the line about who said hello")
    assert len(failed_handshakes(lan, shared)) == 1


def test_one_address_does_not_take_all_sockets(lan: Lan, tmp_path: Path) -> None:
    limit = "max_sockets_per_address=3"
    with on_host(lan["server"], tmp_path / "data", "--lan", "--set", limit) as server:
        where = {"host": "10.77.0.1", "tls": careless()}
        with contextlib.ExitStack() as stack, lan["ada"].inside():
            streams = [stack.enter_context(Stream(server.port, **where)) for _ in range(3)]
            with pytest.raises(OSError):  # before it is known whether it would speak TLS
                Stream(server.port, **where)
            with lan["bob"].inside():
                stack.enter_context(Stream(server.port, **where)).next()
            with at_home(lan, server):
                for _ in range(3):
                    stack.enter_context(server.stream())
            streams.pop().close()
            wait_for(lambda: connects(server.port), "room for another")


def connects(port: int) -> bool:
    """Whether one more stream from here is taken."""
    with contextlib.suppress(OSError), Stream(port, host="10.77.0.1", tls=careless()):
        return True
    return False


def test_of_many_guests_the_panel_is_told_the_last(lan: Lan, shared: Server) -> None:
    """As many as there are, but not a row for each."""
    most, more = rtapp.Network.LISTED, 3
    with contextlib.ExitStack() as stack, lan["ada"].inside():
        for number in range(most + more):
            headers = {"User-Agent": f"Guest {number}"}
            where = {"host": "10.77.0.1", "tls": careless(), "headers": headers}
            stack.enter_context(Stream(shared.port, **where)).next()
        with at_home(lan, shared):
            seen = network(shared)
    assert seen["connectedCount"] == most + more
    told = [row["userAgent"] for row in seen["connected"]]
    assert told == [f"Guest {number}" for number in reversed(range(more, most + more))]


def test_an_address_that_comes_and_goes_hurts_nobody(lan: Lan, shared: Server) -> None:
    with lan["ada"].inside():
        stream = Stream(shared.port, host="10.77.0.1", tls=careless())
        stream.next()
    lan["server"].ip("address", "add", "10.77.0.201/24", "dev", "eth0")

    wait_for(lambda: "10.77.0.201" in addresses(lan, shared), "the new address to be seen")
    context = trusting(shared)
    assert from_host(lan["bob"], shared, "/healthz", "10.77.0.201", context).status == 200
    with at_home(lan, shared):
        chosen = shared.post("/api/network", {"address": "10.77.0.201"}).json
        assert chosen["link"] == f"http://10.77.0.201:{shared.port}/"
        shared.publish({"n": 1})
    assert stream.values(1)[0]["n"] == 1
    lan["server"].ip("address", "delete", "10.77.0.201/24", "dev", "eth0")
    wait_for(lambda: "10.77.0.201" not in addresses(lan, shared), "the address to be gone")
    with at_home(lan, shared):
        seen = network(shared)
        assert seen["link"] == f"http://10.77.0.1:{shared.port}/"
        assert "address_gone" in [row["code"] for row in seen["warnings"]]
        shared.publish({"n": 2})
    assert stream.values(1)[0]["n"] == 2


# ---- browsers ------------------------------------------------------------------------------------


def chromium_on(
    playwright: Playwright,
    host: Host,
    home: Path,
    authority: Path | None = None,
    flags: Sequence[str] = (DEVICES, ALLOW),
) -> Browser:
    """A Chromium on a host; with an `authority` installed, as on one's own device."""
    home.mkdir(exist_ok=True)
    if authority is not None:
        if not shutil.which("certutil"):
            pytest.skip("no certutil is installed (Debian: libnss3-tools)")
        database = home / ".pki" / "nssdb"
        database.mkdir(parents=True)
        tool = ["certutil", "-d", f"sql:{database}"]
        subprocess.run([*tool, "-N", "--empty-password"], check=True, timeout=PATIENCE)
        trusted = ["-A", "-t", "C,,", "-n", "rtapp", "-i", str(authority)]
        subprocess.run([*tool, *trusted], check=True, timeout=PATIENCE)
    env = {**os.environ, "HOME": str(home)}
    return start_chromium(playwright, [*FLAGS, *flags], host.command, is_whole=True, env=env)


@contextlib.contextmanager
def page_of(browser: Browser, **options: Any) -> Iterator[Page]:
    """A page in a profile of its own."""
    context = new_context(browser, **options)
    yield context.new_page()
    context.close()


@pytest.fixture(scope="module")
def guest(
    playwright: Playwright, lan: Lan, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Home]:
    """Another host's browser, which knows no certificate."""
    made = Home(playwright, lan["ada"], tmp_path_factory.mktemp("guest"), "blue", is_whole=True)
    yield made
    made.browser.close()


def click_through(page: Page) -> None:
    """What the landing page says of Chromium's warning."""
    page.locator("#details-button").click()
    page.locator("#proceed-link").click()


SECURE = "() => isSecureContext && !!navigator.mediaDevices && location.protocol === 'https:'"


def wait_until_secure(page: Page | FirefoxPage) -> None:
    """Until a page is open over https that may use a camera."""

    def is_secure() -> bool:
        with contextlib.suppress(PlaywrightError, AssertionError):  # asked between two pages
            return bool(page.evaluate(SECURE))
        return False

    wait_for(is_secure, "a page over https")


GREY = """
async (picture) => {
  const bytes = Uint8Array.from(atob(picture), (letter) => letter.charCodeAt(0));
  const shot = await createImageBitmap(new Blob([bytes]));
  const context = new OffscreenCanvas(shot.width, shot.height).getContext('2d');
  context.drawImage(shot, 0, 0);
  const { data } = context.getImageData(0, 0, shot.width, shot.height);
  return [shot.height, shot.width, data.filter((_, at) => at % 4 === 1).join()];
}
"""


def scan(page: Page, selector: str) -> str:
    """What a phone's camera reads in the code that a page shows."""
    import zxingcpp

    code = page.locator(selector)
    wait_for(lambda: code.evaluate("(image) => image.naturalWidth > 0"), "the code")
    shot = base64.b64encode(code.screenshot()).decode()
    height, width, pixels = page.evaluate(GREY, shot)
    grey = bytes(int(pixel) for pixel in pixels.split(","))
    found = zxingcpp.read_barcode(memoryview(grey).cast("B", shape=[height, width]))
    assert found, "no code in the picture"
    return str(found.text)


class Phone(Person):
    """Somebody whose browser knows no certificate, and who minds the warning."""

    def __init__(self, home: Home) -> None:
        size = {"width": 1280, "height": 720}
        super().__init__(home, ignore_https_errors=False, viewport=size)
        self.context.add_init_script(hurry(5))


class CallByCode:
    """A call of the server's own computer and a guest who scanned its code."""

    def __init__(self, owner: Person, guest: Person) -> None:
        self.owner, self.guest = owner, guest
        self.people = [owner, guest]
        self.link = self.scanned = ""
        self.asked: list[str] = []  # by the guest's browser
        guest.context.on("request", lambda request: self.asked.append(request.url))

    def begin(self, server: Server, room: str) -> None:
        """Both join, the guest by the code that the owner's page shows."""
        self.link = f"http://10.77.0.1:{server.port}/room/{room}"
        self.owner.join(f"http://127.0.0.1:{server.port}/room/{room}")
        self.owner.page.click("#alone-invite")
        self.scanned = scan(self.owner.page, "#invite-qr")
        self.owner.page.click("#invite-dialog [data-close-dialog]")
        page = self.guest.page
        page.goto(self.scanned + "?x=1#kept")
        assert page.locator("h1").inner_text() == "One more step"
        first = page.locator("#browsers tr").first
        assert "Proceed to" in first.inner_text() and first.get_attribute("aria-current")
        assert [page.locator(f"{part} tr").count() for part in ("#browsers", "#others")] == [1, 7]
        assert page.locator("#others tr").first.is_hidden()
        page.locator("#continue").click()
        click_through(page)
        page.wait_for_selector("main[data-ready]", state="attached")
        assert page.evaluate("location.search + location.hash") == "?x=1#kept"
        self.guest.ask()
        self.guest.phase("joined")


@pytest.fixture
def call(
    lan: Lan, shared: Server, playwright: Playwright, guest: Home, tmp_path: Path
) -> Iterator[CallByCode]:
    """Two people who see and hear each other. The owner's browser is another one each time: what
    tests do to the server's addresses reaches a browser there seconds later, and ends requests."""
    with at_home(lan, shared):
        room = shared.post("/api/video/rooms", {"name": "Call"}).json["roomId"]
    home = Home(playwright, lan["server"], tmp_path, "red")
    people = Phone(home), Phone(guest)
    try:
        made = CallByCode(*people)
        made.begin(shared, room)
        flow(made.people, 10)
        yield made
    finally:
        for person in people:
            person.close()
        home.browser.close()


def test_from_the_code_to_a_call_by_one_explained_click(
    lan: Lan, shared: Server, call: CallByCode
) -> None:
    """Picture and sound both ways, signalled over the accepted certificate, also while an address
    comes and goes."""
    page, owner = call.guest.page, call.owner.page
    assert call.scanned == call.link
    assert page.url == call.link.replace("http:", "https:") + "?x=1#kept"
    wait_for(lambda: call.guest.sees_colour(call.owner) == "red", "the owner's picture")
    wait_for(lambda: call.owner.sees_colour(call.guest) == "blue", "the guest's picture")
    page.click("#open-chat")
    page.fill("#chat-text", "Hello from the phone")
    page.keyboard.press("Enter")
    owner.click("#open-chat")
    owner.locator(".said", has_text="Hello from the phone").wait_for()

    before = call.guest.connections(), certificate_at(lan["bob"], shared, "10.77.0.1")
    lan["server"].ip("address", "add", "10.77.0.202/24", "dev", "eth0")
    wait_for(lambda: "10.77.0.202" in addresses(lan, shared), "the new address to be seen")
    assert named_in(certificate_at(lan["bob"], shared, "10.77.0.202")) == ["10.77.0.202"]
    flow(call.people, 10)
    lan["server"].ip("address", "delete", "10.77.0.202/24", "dev", "eth0")
    wait_for(lambda: "10.77.0.202" not in addresses(lan, shared), "the address to be gone")
    flow(call.people, 10)
    assert before == (call.guest.connections(), certificate_at(lan["bob"], shared, "10.77.0.1"))
    assert call.owner.troubles + call.guest.troubles == []
    # Who accepted it before sees no explanation again.
    again = call.guest.tab()
    again.goto(call.link + "?y=2#kept")
    wait_until_secure(again)
    assert again.evaluate("location.search + location.hash") == "?y=2#kept"
    asked = {url.split("/")[2] for url in call.asked if url.startswith(("http", "ws"))}
    assert asked == {f"10.77.0.1:{shared.port}"}


def test_from_an_empty_folder_to_a_call_in_eight_clicks(
    lan: Lan, playwright: Playwright, guest: Home, tmp_path: Path, note: Callable[..., None]
) -> None:
    """Those of both sides together: from the page that a first start opens to two people who see
    each other. Whoever has just made a call is offered the invitation, until somebody comes."""
    home = Home(playwright, lan["server"], tmp_path, "red")
    owner, other = Phone(home), Phone(guest)
    clicks: list[str] = []

    def click(page: Page, selector: str) -> None:
        page.click(selector)
        clicks.append(selector)

    def enters(person: Person) -> None:
        person.page.fill("#name", person.name)
        click(person.page, "#join")
        person.phase("joined")

    data, env = tmp_path / "data", {"RTAPP_ADMIN_TOKEN": None}
    with on_host(lan["server"], data, env=env) as server:
        try:
            start = time.monotonic()
            page = owner.page
            page.goto(f"http://127.0.0.1:{server.port}/#setup={setup_token(server)}")
            page.fill("#setup-username", "ada")
            page.fill("#setup-password", "correct horse 9")
            click(page, "#setup button.primary")
            click(page, "#make-room button")
            enters(owner)
            click(page, "#invite-sharing")
            page.locator("#invite-link", has_text="10.77.0.1").wait_for()
            link = scan(page, "#invite-qr")
            assert link.startswith(f"http://10.77.0.1:{server.port}/room/") and "#" not in link
            phone = other.page
            phone.goto(link)
            for selector in ("#continue", "#details-button", "#proceed-link"):
                click(phone, selector)
            phone.wait_for_selector("main[data-ready]", state="attached")
            enters(other)
            wait_for(lambda: other.sees_colour(owner) == "red", "the owner's picture")
            wait_for(lambda: owner.sees_colour(other) == "blue", "the guest's picture")
            note("seconds from the first page", time.monotonic() - start)
            page.locator("#invite-dialog").wait_for(state="hidden")
            assert len(clicks) <= 8, clicks
            page.reload()  # nothing is offered any more
            owner.ask()
            owner.phase("joined")
            assert page.locator("#invite-dialog[open]").count() == 0
            assert owner.troubles + other.troubles == []
        finally:
            owner.close()
            other.close()
            home.browser.close()


@pytest.fixture
def second_way(lan: Lan) -> Iterator[str]:
    """The server's host is on the network twice, as by a cable and by Wi-Fi; its other address."""
    home, address = lan["server"], "10.77.0.203"
    home.ip("link", "add", "eth1", "type", "veth", "peer", "name", "p1b", "netns", lan.switch)
    home.ip("link", "set", "eth1", "addrgenmode", "none")
    run("ip", "-n", lan.switch, "link", "set", "p1b", "master", "br0", "up")
    home.ip("address", "add", f"{address}/24", "dev", "eth1")
    home.ip("link", "set", "eth1", "up")
    yield address
    home.ip("link", "delete", "eth1")
    home.ip("address", "replace", f"{home.address}/24", "dev", "eth0")


def test_a_call_outlives_the_address_that_it_began_with(
    lan: Lan, second_way: str, call: CallByCode
) -> None:
    """Media takes the other way by itself. The guest's page, which has lost the server, says so;
    the owner's shows the new code, which leads back in."""
    home, page, owner = lan["server"], call.guest.page, call.owner.page
    home.ip("address", "delete", f"{home.address}/24", "dev", "eth0")
    flow(call.people, 10, 3 * PATIENCE)
    page.locator('[data-cause="silent"]').wait_for()
    flow(call.people, 10)
    new = call.link.replace(home.address, second_way)

    def offered() -> str:
        """The link in the owner's invitation, opened anew."""
        owner.click("#open-invite")
        with contextlib.suppress(PlaywrightError):
            owner.locator("#invite-link", has_text=new).wait_for(timeout=2_000)
        code = scan(owner, "#invite-qr")
        owner.click("#invite-dialog [data-close-dialog]")
        return code

    wait_for(lambda: offered() == new, "the new link")
    page.close()
    call.guest.name = "Back"  # the server may still wait for the one of before
    again = call.guest.tab()
    again.goto(new)
    again.locator("#continue").click()
    click_through(again)
    again.wait_for_selector("main[data-ready]", state="attached")
    call.guest.ask()
    call.guest.phase("joined")
    flow(call.people, 10)


@pytest.mark.usefixtures("many")
def test_with_the_certificate_installed_there_is_no_warning(
    lan: Lan, shared: Server, playwright: Playwright, tmp_path: Path
) -> None:
    """Chromium takes the chain at every private address; others it lets through by a click."""
    authority = shared.data / "tls" / "ca.crt"
    browser = chromium_on(playwright, lan["bob"], tmp_path / "home", authority)
    with page_of(browser) as page:
        for address in PRIVATE.values():
            host = f"[{address}]" if ":" in address else address
            page.goto(f"http://{host}:{shared.port}/#kept")  # goes on by itself
            wait_until_secure(page)
            assert page.evaluate("location.hash") == "#kept"
        for address in PUBLIC.values():
            host = f"[{address}]" if ":" in address else address
            with pytest.raises(PlaywrightError, match="ERR_CERT_AUTHORITY_INVALID"):
                page.goto(f"https://{host}:{shared.port}/")
            click_through(page)
            wait_until_secure(page)
    browser.close()


EVERYTHING = """
async (token) => {
  const headers = { Authorization: 'Bearer ' + token, 'Content-Type': 'application/json' };
  const post = (path, body) => fetch(path, { method: 'POST', headers, body });
  const ticket = async () => (await (await post('/api/auth/ticket', '{}')).json()).ticket;
  const next = (source, mark) => new Promise((done) => {
    source.addEventListener('message', ({ data }) => data.includes(mark) && done(true));
  });
  const open = (source) => new Promise((done, failed) => {
    source.addEventListener('open', done);
    source.addEventListener('error', failed);
  });
  const wss = 'wss://' + location.host;
  const [one, two] = [await ticket(), await ticket()];
  const events = new EventSource('/api/events?channel=lan&ticket=' + one);
  const ws = new WebSocket(wss + '/ws?channel=lan&ticket=' + two);
  await Promise.all([open(events), open(ws)]);
  const heard = [next(events, 'over tls'), next(ws, 'over tls')];
  await post('/api/broadcast?channel=lan', '"over tls"');
  const [sse, socket] = await Promise.all(heard);
  const polled = await (await fetch('/socket.io/?EIO=4&transport=polling')).text();
  const engine = next(new WebSocket(wss + '/socket.io/?EIO=4&transport=websocket'), '"sid"');
  const { io } = await import('/static/vendor/socket.io/socket.io.esm.min.js');
  const namespace = (transport) => new Promise((done, failed) => {
    const client = io('/lan', { transports: [transport], auth: { token }, forceNew: true });
    client.on('connect_error', failed);
    client.on('hello', (name) => client.emit('double', name, (twice) => {
      done(client.io.engine.transport.name + twice);
    }));
  });
  const names = [await namespace('polling'), await namespace('websocket')];
  return { sse, socket, polling: polled.startsWith('0{"sid"'), engine: await engine, names };
}
"""


HANDLERS = """
from rtapp import on

@on("connection", namespace="/lan")
def connection(client): client.emit("hello", client.namespace)

@on("double", namespace="/lan")
def double(client, text): return text + text
"""


def test_everything_works_over_the_accepted_certificate(
    lan: Lan, guest: Home, tmp_path: Path
) -> None:
    handlers = tmp_path / "handlers.py"
    handlers.write_text(HANDLERS)
    more = ("--lan", "--app", str(handlers))
    with on_host(lan["server"], tmp_path / "data", *more) as server, page_of(guest.browser) as page:
        page.goto(f"http://10.77.0.1:{server.port}/")
        page.locator("#continue").click()
        click_through(page)
        wait_until_secure(page)
        done = page.evaluate(EVERYTHING, ADMIN)
        names = ["polling/lan/lan", "websocket/lan/lan"]
        worked = {"sse": True, "socket": True, "polling": True, "engine": True, "names": names}
        assert done == worked


def test_firefox(
    lan: Lan,
    shared: Server,
    tmp_path: Path,
    npm_folder: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It stays on the landing page until it knows the authority, then goes on by itself."""
    path = shutil.which("firefox-esr") or shutil.which("firefox")
    if path is None or not shutil.which("certutil"):
        pytest.skip("needs Firefox and certutil (Debian: firefox-esr, libnss3-tools)")
    folder = npm_folder("puppeteer-core@24")
    link = f"http://10.77.0.1:{shared.port}/#kept"
    profile = tmp_path / "profile"
    profile.mkdir()
    monkeypatch.setenv("FIREFOX_PROFILE", str(profile))
    page = FirefoxPage(lan["bob"], folder, path)
    try:
        page.goto(link)
        row = page.evaluate("document.querySelector('[aria-current]').dataset.browser")
        assert (row, page.evaluate("location.protocol")) == ("firefox", "http:")
        with pytest.raises(AssertionError, match="SEC_ERROR_UNKNOWN_ISSUER|INSECURE|insecure"):
            page.goto(link.replace("http:", "https:"))
    finally:
        page.close()
    tool = ["certutil", "-d", f"sql:{profile}", "-A", "-t", "C,,", "-n", "rtapp"]
    authority = shared.data / "tls" / "ca.crt"
    subprocess.run([*tool, "-i", str(authority)], check=True, timeout=PATIENCE)
    page = FirefoxPage(lan["bob"], folder, path)
    try:
        with contextlib.suppress(AssertionError):  # it may be on its way to the next page
            page.goto(link)
        wait_until_secure(page)
        assert page.evaluate("location.hash") == "#kept"
    finally:
        page.close()


class Words:
    """The catalogue of a language."""

    def __init__(self, language: str) -> None:
        path = PROGRAM.parent / "static" / "i18n" / f"{language}.json"
        self._texts: dict[str, str] = json.loads(path.read_text("utf-8"))

    def __getitem__(self, key: str) -> str:
        return self._texts[key]


@contextlib.contextmanager
def vpn(host: Host) -> Iterator[None]:
    """A tunnel that takes whatever leaves the network."""
    host.ip("link", "add", "wg0", "type", "veth", "peer", "name", "wg0far")
    for end in ("wg0", "wg0far"):  # see Host.connect
        host.ip("link", "set", end, "addrgenmode", "none")
    host.ip("link", "set", "wg0far", "up")
    host.ip("link", "set", "wg0", "up")
    host.ip("address", "add", "10.99.0.2/24", "dev", "wg0")
    host.ip("route", "add", "default", "dev", "wg0")
    try:
        yield
    finally:
        host.ip("link", "delete", "wg0")


@pytest.mark.parametrize(("language", "scheme"), [("en", "light"), ("tr", "dark")])
def test_the_panel_in_a_browser(
    lan: Lan, playwright: Playwright, tmp_path: Path, language: str, scheme: Any
) -> None:
    """From the switch to the switch: link, code, another address, who is there, what is wrong."""
    home, words = lan["server"], Words(language)
    home.ip("address", "replace", "10.77.0.204/24", "dev", "eth0")
    browser = chromium_on(playwright, home, tmp_path / "home")
    bearer = {"Authorization": f"Bearer {ADMIN}"}
    more = {"locale": language, "color_scheme": scheme, "extra_http_headers": bearer}
    with (
        vpn(home),
        on_host(home, tmp_path / "data") as server,
        page_of(browser, **more) as page,
    ):
        page.add_init_script(hurry(4))
        page.goto(f"http://127.0.0.1:{server.port}/")
        panel = page.locator("#share")
        switch, link = panel.get_by_role("switch"), panel.locator(".share-link")
        expect(panel).to_contain_text(words["share.state.off"])
        switch.click()
        expect(panel).to_contain_text(words["share.state.on"])
        expect(switch).to_have_attribute("aria-checked", "true")
        expect(panel).to_contain_text(words["share.warn.vpn"])
        expect(link).to_have_text(f"http://10.77.0.1:{server.port}/")
        assert scan(page, "#share .share-code") == link.inner_text()
        expect(panel).to_contain_text(f"http://10.77.0.1:{server.port}/test")
        expect(panel).to_contain_text(words["share.nobody"])
        panel.get_by_role("button", name=words["share.callStart"]).click()
        expect(link).to_have_text(re.compile(rf"^http://10\.77\.0\.1:{server.port}/room/\w+$"))
        assert scan(page, "#share .share-code") == link.inner_text()
        room = link.inner_text().rpartition("/")[2]
        expect(page.locator(".open-call a")).to_have_attribute("href", re.compile(f"/room/{room}$"))
        if "RTAPP_TEST_SHOTS" in os.environ:
            panel.screenshot(path=f"{os.environ['RTAPP_TEST_SHOTS']}/panel-call-{language}.png")
        api(server, home, None, "DELETE", f"/api/video/rooms/{room}")
        expect(link).to_have_text(f"http://10.77.0.1:{server.port}/")
        panel.locator("select").select_option("10.77.0.204")
        expect(link).to_have_text(f"http://10.77.0.204:{server.port}/")
        assert scan(page, "#share .share-code") == link.inner_text()
        with lan["ada"].inside():
            guest = Stream(server.port, host="10.77.0.204", tls=careless())
            guest.next()
        expect(panel.locator(".share-people li")).to_contain_text("10.77.0.2 ")
        if "RTAPP_TEST_SHOTS" in os.environ:
            panel.screenshot(path=f"{os.environ['RTAPP_TEST_SHOTS']}/panel-{language}.png")
        home.ip("address", "delete", "10.77.0.204/24", "dev", "eth0")
        expect(panel).to_contain_text(words["share.warn.addressGone"])
        expect(panel).to_contain_text(words["share.newLink"])
        expect(link).to_have_text(f"http://10.77.0.1:{server.port}/")
        switch.click()
        expect(panel).to_contain_text(words["share.stopQuestion.one"].replace("{count}", "1"))
        panel.get_by_role("button", name=words["share.stop"]).click()
        expect(panel).to_contain_text(words["share.state.off"])
        expect(switch).to_have_attribute("aria-checked", "false")
        expect(link).to_have_count(0)
    browser.close()


SHORTER = """
const wait = window.setTimeout;
window.setTimeout = (act, ms, ...more) => wait(act, ms === 8000 ? 1000 : ms, ...more);
"""


def found_by_test(page: Page, address: str) -> tuple[dict[str, list[str]], str]:
    """What the connection test's report says of each thing, and all that its page says. Its
    patience is shortened where nothing will come."""
    page.add_init_script(SHORTER)
    page.goto(f"{address}/test")
    page.locator("#start").click()
    page.locator("#checks li").nth(8).wait_for()
    return checked(page), page.inner_text("main")


def checked(page: Page) -> dict[str, list[str]]:
    """What was found of each thing: how it is, and what is said of it."""
    rows = """(all) => all.map(({ dataset }) => [dataset.check, dataset.verdict, dataset.say]
      .map((word) => word.replace('test.', '')))"""
    return {name: found for name, *found in page.locator("#checks li").evaluate_all(rows)}


def test_the_connection_test_says_what_does_not_work(
    lan: Lan, playwright: Playwright, guest: Home, tmp_path: Path
) -> None:
    if not shutil.which("nft"):
        pytest.skip("needs nft (Debian: nftables)")
    words, host = Words("tr"), lan["ada"]
    more = {"turn_url": "turn:10.77.0.9", "turn_secret": "a-secret-of-this-test", "lan": "yes"}
    bearer = {"Authorization": f"Bearer {ADMIN}"}
    options = {"ignore_https_errors": True, "locale": "tr-TR", "extra_http_headers": bearer}
    with on_host(lan["server"], tmp_path / "data", **more) as server:
        address = f"https://10.77.0.1:{server.port}"
        # Neither devices nor UDP.
        none = chromium_on(playwright, host, tmp_path / "none", flags=[ALLOW])
        host.filter("meta l4proto udp drop")
        try:
            with page_of(none, **options) as page:
                found, said = found_by_test(page, address)
        finally:
            host.filter()
        none.close()
        assert found["camera"] == found["microphone"] == ["warn", "deviceNone"]
        assert found["relay"] == ["warn", "relayNo"]
        assert found["direct"] == ["error", "directNo"]
        for key in ("test.deviceNone", "test.relayNo", "test.directNo"):
            assert words[key] in said
        assert words["test.troubles.one"].replace("{count}", "1") in said
        # Devices that are refused.
        deny = [f"{ALLOW}=deny", DEVICES]
        refusing = chromium_on(playwright, host, tmp_path / "deny", flags=deny)
        with at_home(lan, server):
            room = server.post("/api/video/rooms", {"name": "Call"}).json["roomId"]
        with page_of(refusing, **options) as page:
            page.goto(f"{address}/room/{room}")
            to_test = page.locator("#door-faults").get_by_role("link", name=words["test.link"])
            expect(to_test).to_have_attribute("href", f"{address}/test")
            found, said = found_by_test(page, address)
        refusing.close()
        assert found["camera"] == found["microphone"] == ["error", "deviceRefused"]
        assert words["test.deviceRefused"] in said
    open_to_all = "--host", "0.0.0.0", "--insecure-http"
    with on_host(lan["server"], tmp_path / "plain", *open_to_all) as server:
        with page_of(guest.browser) as page:
            found, said = found_by_test(page, f"http://10.77.0.1:{server.port}")
        assert found["secure"] == ["error", "secureNo"]
        assert found["camera"] == found["microphone"] == ["error", "deviceHidden"]
        assert Words("en")["test.secureNo"] in said


def test_the_connection_test_says_what_works(shared: Server, guest: Home) -> None:
    bearer = {"Authorization": f"Bearer {ADMIN}"}
    options = {"ignore_https_errors": True, "locale": "tr-TR", "extra_http_headers": bearer}
    with page_of(guest.browser, **options) as page:
        page.goto(f"https://10.77.0.1:{shared.port}/")
        page.get_by_role("link", name=Words("tr")["test.link"]).click()
        page.wait_for_url("**/test")
        page.locator("#start").click()
        page.locator("#progress", has_text="Görüşmeye engel bir şey yok.").wait_for()
        report = page.locator("#report").inner_text()
        assert f"{Words('tr')['test.browser']}: {Words('tr')['test.ok']}." in report
        until(page, "() => document.querySelector('#picture').videoWidth > 0")
        until(page, "() => document.querySelector('#level').value > 0.1")
        page.click("#stop")
        assert page.locator("#live").is_hidden()
        found = {name: verdict for name, (verdict, _) in checked(page).items()}
        looked_at = ("browser", "secure", "camera", "microphone", "server", "websocket")
        names = (*looked_at, "stream", "relay", "direct")
        assert found == dict.fromkeys(names, "ok"), report


# ---- what else the network sees ------------------------------------------------------------------


class Capture:
    """Every packet that a host sends or gets, as (is_sent, destination) pairs."""

    OUTGOING = 4

    def __init__(self, host: Host) -> None:
        with host.inside():
            self._sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.ntohs(3))
        self.sent: set[str] = set()
        self._sock.settimeout(0.2)
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)

    def _read(self) -> None:
        while not self._ends.is_set():
            with contextlib.suppress(TimeoutError):
                packet, (interface, protocol, kind, *_) = self._sock.recvfrom(65_535)
                if interface == "lo" or kind != self.OUTGOING:
                    continue
                if protocol == 0x0800:
                    self.sent.add(socket.inet_ntop(socket.AF_INET, packet[16:20]))
                elif protocol == 0x86DD:
                    self.sent.add(socket.inet_ntop(socket.AF_INET6, packet[24:40]))

    def __enter__(self) -> Capture:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()
        self._sock.close()


@contextlib.contextmanager
def way_out(host: Host) -> Iterator[None]:
    """A way to the rest of the world, where nobody answers: what is sent there is seen."""
    host.ip("route", "add", "default", "via", "10.77.0.254")
    host.ip("neighbor", "replace", "10.77.0.254", "lladdr", "02:00:00:00:00:fe", "dev", "eth0")
    yield
    host.ip("route", "delete", "default")


def test_nothing_but_the_network_is_contacted(lan: Lan, tmp_path: Path, guest: Home) -> None:
    """Not even where there is a way out. Its own name is asked for on the network alone."""
    server_host = lan["server"]
    with (
        way_out(server_host),
        Capture(server_host) as capture,
        on_host(server_host, tmp_path / "data", "--lan") as server,
    ):
        with page_of(guest.browser, ignore_https_errors=True) as page:
            asked: list[str] = []
            page.on("request", lambda request: asked.append(request.url))
            for path in ("/", "/test", "/room/some-room"):
                page.goto(f"https://10.77.0.1:{server.port}{path}")
            page.goto(f"http://10.77.0.1:{server.port}/")
            wait_until_secure(page)
        with at_home(lan, server):
            assert server.get("/api/ice").json == {"iceServers": []}
        wait_for(lambda: "224.0.0.251" in capture.sent, "the question for its name")
    assert "10.77.0.2" in capture.sent
    foreign = {
        address
        for address in capture.sent
        if not address.startswith("10.77.0.") and not ipaddress.ip_address(address).is_multicast
    }
    assert foreign == set()
    assert {url.split("/")[2] for url in asked} == {f"10.77.0.1:{server.port}"}


class Responder:
    """A multicast DNS responder (RFC 6762) that knows one name."""

    def __init__(self, host: Host, name: str) -> None:
        self._answer = b"".join(bytes([len(p)]) + p.encode() for p in name.split(".")) + b"\0"
        self._answer += b"\0\1\x80\1" + bytes([0, 0, 0, 120, 0, 4]) + socket.inet_aton(host.address)
        member = socket.inet_aton("224.0.0.251") + socket.inet_aton(host.address)
        with host.inside():
            self._sock = socket.socket(type=socket.SOCK_DGRAM)
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._sock.bind(("", 5353))
            self._sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                question, client = self._sock.recvfrom(9_000)
                head = question[:2] + b"\x84\0" + bytes([0, 0, 0, 1, 0, 0, 0, 0])
                self._sock.sendto(head + self._answer, client)

    def close(self) -> None:
        self._sock.close()


def test_the_name_is_offered_where_the_system_answers_to_it(lan: Lan, tmp_path: Path) -> None:
    responder = Responder(lan["server"], f"{HOST}.local")
    with on_host(lan["server"], tmp_path / "data", "--lan") as server:

        def name() -> Any:
            with at_home(lan, server):
                return network(server)["name"]

        link = f"http://{HOST}.local:{server.port}/"
        assert wait_for(name, "the name") == {"name": f"{HOST}.local", "link": link}
    responder.close()


def test_doctor_says_what_is_in_the_way(lan: Lan, tmp_path: Path) -> None:
    data = tmp_path / "data"
    newer = copied_program(tmp_path)  # than the clock says that it is
    os.utime(newer, (time.time() + 3 * 86_400,) * 2)

    def doctor(program: Path = PROGRAM) -> str:
        command = [*lan["server"].command, sys.executable, str(program), "doctor"]
        done = subprocess.run(
            [*command, "--data", str(data)], capture_output=True, text=True, check=False
        )
        return next(line for line in done.stdout.splitlines() if " network: " in line)

    assert doctor() == "ok    network: not shared"
    with on_host(lan["server"], data, "--lan") as server:
        assert "Nothing has ever arrived" in doctor()
        from_host(lan["ada"], server, "/", "10.77.0.1")
        wait_for(lambda: f"guests come by http://10.77.0.1:{server.port}/" in doctor(), "the link")
        assert "The clock is wrong" in doctor(newer)
        with vpn(lan["server"]):
            assert "A VPN takes this machine's traffic" in doctor()
