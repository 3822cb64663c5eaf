"""static/docs/client.md: each recipe runs as it stands, in Chromium or Node, and bundled by what
people have; and the types of `rt.js`. `python tests/test_rt_guide.py --write` makes them anew."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import rtapp
from browsers import until
from gate import Gate
from support import ADMIN, PATIENCE, ROOT, Server, wait_for
from test_clients import Program
from test_units import found_node

JS = ROOT / "static" / "js"
# Apart: beside the modules they would stand in their place when the pages are checked.
DECLARED = JS / "types"
TEXT = (ROOT / "static" / "docs" / "client.md").read_text("utf-8")
RECIPES = dict(re.findall(r"^## (.+?)$(?:(?!^## ).)*?^```\w+\n(.*?)^```", TEXT, re.S | re.M))
ADDRESS = "//rt.example.org/"
TYPESCRIPT = "typescript@7.0.2"
PACKAGES = (
    "esbuild@0.28.2",
    "react@19",
    "react-dom@19",
    "vite@8.3.8",
    "vue@3",
    "webpack@5",
    "webpack-cli@7",
)
TYPES = ("rt.d.ts", "rt-types.d.ts")
# What uses the React recipe: StrictMode runs each effect twice.
REACT_APP = """
import { createElement as h, StrictMode } from 'react';
import { createRoot } from 'react-dom/client';
import { rt, useChannel, useConnection } from './recipe.jsx';

function News() {
  const texts = useChannel('news').map(({ id, data }) => h('li', { key: id }, data));
  return h('ul', { title: useConnection() }, texts);
}
const root = createRoot(document.querySelector('main'));
Object.assign(window, { rt, root });
root.render(h(StrictMode, null, h(News)));
"""
VUE_APP = """
import { createApp, h } from 'vue';
import { useChannel } from './recipe.js';

const app = createApp({
  setup() {
    const { messages, publish } = useChannel('news');
    window.publish = publish;
    return () => h('ul', messages.value.map(({ id, data }) => h('li', { key: id }, data)));
  },
});
app.mount('main');
window.app = app;
"""
# What makes `out/` of an entry: as their users type it.
BUNDLERS = {
    "esbuild": ["esbuild", "{entry}", "--bundle", "--format=esm", "--splitting", "--outdir=out"],
    "vite": ["vite", "build", "--logLevel=warn"],
    "webpack": ["webpack", "./{entry}", "--mode=development", "--devtool=false", "-o", "out"],
}
TYPED = """
import { connect, Client, RtError } from 'rtapp-client';
import type { Detail, Meta, Options, State } from 'rtapp-client';

interface Events {
  chat: { from: string; text: string };
  typing: null;
}
const options: Options = { channels: ['a'], getToken: async () => 'x', debug: console.log };
const rt: Client<Events> = connect<Events>('https://rt.example.org/', options);
const remove: () => void = rt.on('chat', ({ text }, { id }: Meta) => text.toUpperCase() + id);
rt.once('closed', ({ reason, error }: Detail) => [reason, error?.code.length]);
rt.on('*', (data, meta) => [data, meta.channel]);
rt.off('chat');
remove();
// @ts-expect-error a misspelt name
rt.on('chta', () => {});
// @ts-expect-error other data
rt.on('chat', ({ size }) => size);
// @ts-expect-error other data
void rt.emit('chat', { text: 1 });
const news = rt.channel('news');
const off: () => void = news.on('chat', ({ from }) => from.length);
async function all(signal: AbortSignal): Promise<State> {
  const to = { channel: 'a', to: 'x', volatile: true };
  const { id } = await rt.emit('chat', { from: 'a', text: 'b' }, to);
  await rt.emit('typing', null, { timeout: 1000, signal, retries: 2 });
  await rt.subscribe('a', 'b', { since: rt.lastEventId });
  await rt.unsubscribe('a');
  await news.publish('chat', { from: 'a', text: String(id) });
  const [first] = await news.history({ limit: 1, before: 7 });
  const people: unknown[] = await news.presence();
  const same: Client<Events> = await rt.ready;
  same.retryNow();
  try {
    rt.close();
  } catch (error) {
    if (error instanceof RtError) return `${error.code}${error.status}${error.final}` as State;
  }
  return [first, people, rt.clientId, rt.session, rt.state, off].length ? rt.state : 'open';
}
void all;
const loose = connect();
loose.on('anything', (data) => data.whatever);
void loose.emit('anything', [1]);
"""


def declarations(tsc: Path, folder: Path) -> dict[str, str]:
    """The types as TypeScript reads them out of the comments."""
    command = ["--allowJs", "--declaration", "--emitDeclarationOnly", "--stripInternal"]
    command += ["--target", "ES2022", "--module", "ES2022", "--moduleResolution", "bundler"]
    command += ["--lib", "ES2022,DOM,DOM.Iterable,DOM.AsyncIterable", "--types", ""]
    done = subprocess.run(
        ["node", str(tsc), *command, "--outDir", str(folder), str(JS / "rt.js")],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return {name: (folder / name).read_text("utf-8") for name in TYPES}


def tsc_of(folder: Path) -> Path:
    return folder / "node_modules" / "typescript" / "bin" / "tsc"


def test_the_types_are_those_of_the_code(npm_folder: Callable[..., Path], tmp_path: Path) -> None:
    found = declarations(tsc_of(npm_folder(TYPESCRIPT)), tmp_path)
    for name, text in found.items():
        assert (DECLARED / name).read_text("utf-8") == text, (
            "run: python tests/test_rt_guide.py --write <TypeScript's tsc>"
        )


def test_a_strict_project_elsewhere_takes_the_types(
    npm_folder: Callable[..., Path], tmp_path: Path
) -> None:
    """And all calls; what is wrong in it is found."""
    (tmp_path / "node_modules").mkdir()
    shutil.copytree(
        JS, tmp_path / "node_modules" / "rtapp-client", ignore=lambda *_: ["admin", "room"]
    )
    (tmp_path / "use.ts").write_text(TYPED)
    command = ["node", str(tsc_of(npm_folder(TYPESCRIPT))), "--noEmit", "--strict"]
    command += ["--target", "ES2022", "--lib", "ES2022,DOM", "--module", "NodeNext", "--types", ""]
    done = subprocess.run(
        [*command, "use.ts"], cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout


def test_the_package_says_what_it_is() -> None:
    package = json.loads((JS / "package.json").read_text())
    assert package["version"] == rtapp.__version__
    loaded = {"rt.js"}
    while (
        more := {
            name
            for file in loaded
            for name in re.findall(r"'\./(rt[\w-]*\.js)'", (JS / file).read_text("utf-8"))
        }
        - loaded
    ):
        loaded |= more
    assert {*package["files"]} == loaded - {"rt-types.js"} | {"types"}


def test_the_guide_has_these_recipes() -> None:
    assert [*RECIPES] == [
        "A plain page",
        "React",
        "Vue",
        "A worker in Node",
        "A service that publishes",
        "In Python",
    ]
    assert len(RECIPES["React"].strip().splitlines()) <= 25
    assert len(RECIPES["In Python"].strip().splitlines()) <= 32


# ---- pages ---------------------------------------------------------------------------------------


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    folder = tmp_path / "pages"
    folder.mkdir()
    return folder


@pytest.fixture
def site(make_server: Callable[..., Server], pages: Path) -> Server:
    return make_server("--public", str(pages), access="open")


def shown(page: Page) -> Any:
    return page.evaluate("[...document.querySelectorAll('li')].map((item) => item.textContent)")


def wait_shown(page: Page, wanted: list[str]) -> None:
    until(page, "(count) => document.querySelectorAll('li').length >= count", len(wanted))
    assert shown(page) == wanted


def test_the_plain_page(site: Server, pages: Path, page: Page) -> None:
    (pages / "index.html").write_text(RECIPES["A plain page"])
    page.goto(f"http://127.0.0.1:{site.port}/")
    until(page, "() => document.title === 'News: open'")
    site.publish({"text": "first"}, "channel=news")
    wait_shown(page, ["first"])
    page.fill("input", "second")
    page.click("button")
    wait_shown(page, ["second", "first"])
    until(page, "() => document.querySelector('input').value === ''")


@pytest.fixture(scope="module")
def project(npm_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with what its users have, and the client as `npm install` puts it there."""
    found_node()
    packages = npm_folder(*PACKAGES)
    folder = tmp_path_factory.mktemp("project")
    (folder / "package.json").write_text('{"type": "module", "private": true}')
    command = ["npm", "install", "--offline", "--no-audit", "--no-fund", str(JS)]
    done = subprocess.run(command, cwd=folder, capture_output=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    for path in (packages / "node_modules").iterdir():
        target = folder / "node_modules" / path.name
        if not target.exists():
            target.symlink_to(path)
    return folder


def bundle(project: Path, bundler: str, address: str, language: str = "jsx") -> Path:
    """What a bundler makes of a recipe and the application that uses it."""
    recipe, app = ("React", REACT_APP) if language == "jsx" else ("Vue", VUE_APP)
    folder = Path(tempfile.mkdtemp(dir=project, prefix=f"{bundler}-"))
    (folder / f"recipe.{language}").write_text(RECIPES[recipe].replace(ADDRESS, address))
    (folder / "app.js").write_text(app)
    (folder / "index.html").write_text(
        '<!doctype html><main></main><script type="module" src="./app.js"></script>'
    )
    (folder / "vite.config.js").write_text(
        "export default { base: './', build: { outDir: 'out', rollupOptions: {} } };"
    )
    command = [part.format(entry="app.js") for part in BUNDLERS[bundler]]
    command[0] = str(project / "node_modules" / ".bin" / command[0])
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    out = folder / "out"
    if not (out / "index.html").exists():
        name = "main.js" if bundler == "webpack" else "app.js"
        (out / "index.html").write_text(
            f'<!doctype html><main></main><script type="module" src="{name}"></script>'
        )
    return out


@pytest.fixture
def bundled(
    make_server: Callable[..., Server], project: Path, tmp_path: Path
) -> Iterator[Callable[..., tuple[Server, str]]]:
    """A server that also serves what was bundled for it, and where."""
    folder = tmp_path / "bundles"
    folder.mkdir()
    server = make_server("--public", str(folder), access="open")

    def make(bundler: str, language: str = "jsx") -> tuple[Server, str]:
        origin = f"http://127.0.0.1:{server.port}/"
        made = bundle(project, bundler, origin, language)
        shutil.copytree(made, folder / f"{bundler}-{language}")
        return server, f"{origin}{bundler}-{language}/"

    yield make


@pytest.mark.parametrize("bundler", BUNDLERS)
def test_the_react_hook_bundled(
    bundled: Callable[..., tuple[Server, str]], context: BrowserContext, bundler: str
) -> None:
    """StrictMode leaves the channel and takes it again: it is not lost."""
    server, url = bundled(bundler)
    page = context.new_page()
    page.goto(url)
    until(page, "() => document.querySelector('ul')?.title === 'open'")
    until(page, "() => rt.channels.has('news')")
    wait_for(lambda: server.get("/api/connections").json[0]["channels"] == ["news"], "the channel")
    server.publish("one", "channel=news")
    wait_shown(page, ["one"])
    page.evaluate("root.unmount()")
    wait_for(lambda: server.get("/api/connections").json[0]["channels"] == [], "it to be left")


@pytest.mark.parametrize("bundler", BUNDLERS)
def test_the_vue_composable_bundled(
    bundled: Callable[..., tuple[Server, str]], context: BrowserContext, bundler: str
) -> None:
    server, url = bundled(bundler, "js")
    page = context.new_page()
    page.goto(url)
    wait_for(
        lambda: [row["channels"] for row in server.get("/api/connections").json] == [["news"]],
        "the channel",
    )
    page.evaluate("publish('one')")
    wait_shown(page, ["one"])
    page.evaluate("app.unmount()")
    wait_for(lambda: server.get("/api/connections").json[0]["channels"] == [], "it to be left")


def test_bundled_without_an_address_it_says_what_to_give(
    project: Path, make_server: Callable[..., Server], tmp_path: Path, context: BrowserContext
) -> None:
    folder = tmp_path / "bundles"
    folder.mkdir()
    (folder / "in.js").write_text(
        "import { connect } from 'rtapp-client';\n"
        "try { connect({ channels: ['a'] }); } catch (error) { document.title = error.message; }"
    )
    esbuild = project / "node_modules" / ".bin" / "esbuild"
    command = [str(esbuild), "--bundle", "--format=iife", "--outfile=static/js/app.js", "in.js"]
    environment = {**os.environ, "NODE_PATH": str(project / "node_modules")}
    subprocess.run(
        command, cwd=folder, env=environment, check=True, capture_output=True, timeout=60
    )
    server = make_server("--public", str(folder), access="open")
    (folder / "index.html").write_text(
        f"<script>{(folder / 'static/js/app.js').read_text()}</script>"
    )
    page = context.new_page()
    page.goto(f"http://127.0.0.1:{server.port}/")
    until(page, '() => document.title.includes("connect(\'https://")')


# ---- services ------------------------------------------------------------------------------------


@pytest.fixture
def service(tmp_path: Path) -> Path:
    """A folder of a program that has the client as a package."""
    found_node()
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "rtapp-client").symlink_to(JS)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    return tmp_path


def known(server: Server | Gate, token: str) -> dict[str, str]:
    return {**os.environ, "RTAPP_URL": f"http://127.0.0.1:{server.port}", "RTAPP_TOKEN": token}


def wait_lines(program: Program, wanted: list[str]) -> None:
    wait_for(lambda: len(program.lines) >= len(wanted), f"{wanted[-1]} to be printed")
    assert [line.strip() for line in program.lines] == wanted


def test_the_worker_in_node(server: Server, service: Path) -> None:
    """It goes on behind the last job after a crash of its own, and across a cut."""
    (service / "worker.js").write_text(RECIPES["A worker in Node"])
    gate = Gate(server.port)

    def start() -> Program:
        before = len(gate.streams())
        made = Program([found_node(), "worker.js"], cwd=service, env=known(gate, ADMIN))
        wait_for(lambda: len(gate.streams()) > before, "it to connect")
        wait_for(lambda: len(server.get("/api/connections").json) == 1, "its stream")
        return made

    worker = start()
    server.publish(1, "channel=jobs&event=job")
    wait_lines(worker, ["done: 1"])
    gate.cut()
    server.publish(2, "channel=jobs&event=job")
    wait_lines(worker, ["done: 1", "done: 2"])
    wait_for(lambda: (service / "position").read_text().endswith("-2"), "it to be noted")
    worker.close()
    server.publish(3, "channel=jobs&event=job")
    wait_for(lambda: server.get("/api/connections").json == [], "its end")
    again = start()
    server.publish(4, "channel=jobs&event=job")
    wait_lines(again, ["done: 3", "done: 4"])
    again.process.terminate()
    assert again.process.wait(PATIENCE) == 0
    gate.close()


def test_the_service_that_publishes(server: Server, service: Path) -> None:
    made = {"name": "shop", "scopes": ["publish"], "channels": ["orders/*"]}
    token = server.post("/api/tokens", made).json["token"]
    recipe = RECIPES["A service that publishes"]
    for text, code in ((recipe, 0), (recipe.replace("'orders/4711'", "'others'"), 1)):
        (service / "shop.js").write_text(text)
        done = subprocess.run(
            [found_node(), "shop.js"],
            cwd=service,
            env=known(server, token),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == code, done.stderr
        assert ("stored as" in done.stdout) != ("forbidden" in done.stderr)
    stored = server.get("/api/messages?channel=orders/4711").json
    assert [message["content"] for message in stored] == [{"order": 4711}]


@pytest.mark.skipif(not importlib.util.find_spec("httpx"), reason="needs httpx")
def test_the_python_recipe(server: Server, tmp_path: Path) -> None:
    """It resumes behind the last message, and ends at a refusal."""
    (tmp_path / "listen.py").write_text(RECIPES["In Python"])
    gate = Gate(server.port)
    program = Program([sys.executable, "listen.py"], cwd=tmp_path, env=known(gate, ADMIN))
    wait_for(lambda: len(server.get("/api/connections").json) == 1, "it to listen")
    server.publish("not for it")
    server.publish([1], "channel=jobs")
    wait_for(lambda: program.lines, "the first")
    gate.cut()
    server.publish([2], "channel=jobs")
    server.publish([3], "channel=jobs")
    wait_for(lambda: len(program.lines) == 3, "the rest")
    assert [line.split(maxsplit=1)[1].strip() for line in program.lines] == ["[1]", "[2]", "[3]"]
    program.close()
    refused = subprocess.run(
        [sys.executable, "listen.py"],
        cwd=tmp_path,
        env=known(server, "not-a-token-at-all"),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert refused.returncode and b"401" in refused.stderr
    gate.close()


if __name__ == "__main__" and "--write" in sys.argv:
    with tempfile.TemporaryDirectory() as made:
        for file, types in declarations(Path(sys.argv[-1]), Path(made)).items():
            (DECLARED / file).write_text(types, "utf-8")
