"""The files of `static/`, checked without a server: texts, references, policy, colours."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable
from html.parser import HTMLParser
from pathlib import Path

import pytest

import rtapp

STATIC = Path(__file__).parent.parent / "static"
OURS = [
    path
    for path in sorted(STATIC.rglob("*"))
    if path.is_file() and "vendor" not in path.parts and path.suffix != ".png"
]
PAGES = [path for path in OURS if path.suffix == ".html"]
SCRIPTS = [path for path in OURS if path.suffix == ".js"]
STYLES = [path for path in OURS if path.suffix == ".css"]
LANGUAGES = ["en", "tr"]
PLURAL = re.compile(r"\.(zero|one|two|few|many|other)$")
# What a namespace of SVG is called isn't loaded from anywhere.
NAMESPACES = ("http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink")


def name(path: Path) -> str:
    return path.relative_to(STATIC).as_posix()


def catalogue(language: str) -> dict[str, str]:
    def once(pairs: list[tuple[str, str]]) -> dict[str, str]:
        keys = [key for key, _ in pairs]
        assert len(keys) == len(set(keys)), "a key stands twice"
        return dict(pairs)

    text = (STATIC / "i18n" / f"{language}.json").read_text("utf-8")
    texts: dict[str, str] = json.loads(text, object_pairs_hook=once)
    return texts


class Page(HTMLParser):
    """The start tags of a page, with their attributes; and the text inside scripts and styles."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.inline = ""
        self._open = ""
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {key: value or "" for key, value in attrs}))
        self._open = tag

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open in ("script", "style"):
            self.inline += data.strip()

    def values(self, attribute: str) -> list[str]:
        return [attributes[attribute] for _, attributes in self.tags if attribute in attributes]


def without_comments(script: str) -> str:
    return re.sub(r"/\*.*?\*/|(?<![:\w'\"])//[^\n]*", "", script, flags=re.DOTALL)


def keys_in_pages(pages: list[Path] = PAGES) -> set[str]:
    keys: set[str] = set()
    for path in pages:
        page = Page(path)
        keys.update(page.values("data-i18n"))
        for value in page.values("data-i18n-attr"):
            keys.update(pair.split(":")[1] for pair in value.split())
    return keys


def strings_in_scripts(scripts: Iterable[Path] = SCRIPTS) -> set[str]:
    texts = (without_comments(path.read_text("utf-8")) for path in scripts)
    return {found[1] for text in texts for found in re.finditer(r"'([\w.-]+)'", text)}


def known_keys() -> set[str]:
    """The keys as code asks for them: a plural without its category."""
    return {PLURAL.sub("", key) for key in catalogue("en")}


# ---- heads and languages -------------------------------------------------------------------------

WHOLE = {"landing.html", "ended.html"}  # in one piece, where nothing else can be loaded


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_the_head_stands_once(path: Path) -> None:
    """A room's page says more of its window, and nothing of an app, so it has lines itself."""
    if path.name in WHOLE | {"head.html", "header.html"}:
        return
    page = path.read_text("utf-8")
    lines = (STATIC / "head.html").read_text("utf-8").splitlines()
    if path.name == "room.html":
        other = re.compile("viewport|theme-color|manifest|apple")
        assert [line for line in lines if not other.search(line) and line not in page] == []
    else:
        assert page.count("  <!-- head -->\n") == 1
        assert [line for line in lines if line in page] == []


@pytest.mark.parametrize("page", ["admin", "desktop", "docs", "guides", "index"])
def test_the_header_stands_once_and_marks_the_page(page: str) -> None:
    text = (STATIC / f"{page}.html").read_text("utf-8")
    assert text.count("  <!-- header -->\n") == 1
    assert 'class="nav"' not in text
    assert 'id="main"' in text  # where its skip link leads
    body = rtapp.Static(STATIC).page(f"{page}.html").body
    assert isinstance(body, bytes)
    [nav] = re.findall(r'<nav class="nav".*?</nav>', body.decode(), re.DOTALL)
    marked = re.findall(r'<a ([^>]*)aria-current="page" data-href="([^"]*)"', nav)
    places = {"admin": ["admin"], "desktop": [], "docs": ["api/docs"], "guides": ["docs"]}
    assert [place for _, place in marked] == places.get(page, [""])
    assert all("hidden" not in attributes for attributes, _ in marked)


def test_a_page_names_the_modules_that_it_needs_at_once() -> None:
    page = rtapp.Static(STATIC).page("index.html").body
    assert isinstance(page, bytes)
    links = re.findall(r'modulepreload" href="static/\w+/(.*?)"', page.decode())
    assert len(links) == len(set(links)) > 10
    assert {"js/index.js", "js/i18n.js", "js/share.js"} <= set(links)
    assert {"js/console.js", "js/rt.js"} & set(links) == set()  # asked for later
    assert all((STATIC / link).is_file() for link in links)


def test_a_language_is_there_by_its_file(tmp_path: Path) -> None:
    folder = tmp_path / "static"
    shutil.copytree(STATIC, folder)
    shutil.copy(folder / "i18n/en.json", folder / "i18n/de.json")
    static = rtapp.Static(folder)
    for page in ("index.html", "room.html"):
        body = static.page(page).body
        assert isinstance(body, bytes)
        assert b'<html data-languages="de en tr"' in body
    assert static.file("i18n/room.de.json").body


def test_no_style_is_for_what_is_nowhere() -> None:
    """What the styles name stands in a page or a script, and each custom property is used."""
    css = "".join(re.sub(r"/\*.*?\*/", "", path.read_text("utf-8"), flags=re.S) for path in STYLES)
    selectors = " ".join(re.findall(r"([^{}]+)\{", css))
    named = set(re.findall(r"[.#]([A-Za-z][\w-]*)", selectors))
    used = set(re.findall(r"[\w-]+", "".join(p.read_text("utf-8") for p in (*PAGES, *SCRIPTS))))
    elsewhere = {"u-select", "u-cursor-x", "depth-1", "depth-2", "depth-3"}  # uPlot; put together
    assert named - used == elsewhere
    defined = set(re.findall(r"(--[\w-]+):", css))
    assert [one for one in sorted(defined) if f"var({one}" not in css and one not in used] == []


# ---- texts ---------------------------------------------------------------------------------------


def test_catalogues_have_the_same_keys_in_the_same_order() -> None:
    assert list(catalogue("en")) == list(catalogue("tr"))


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_text_is_empty_and_every_plural_has_the_rest(language: str) -> None:
    texts = catalogue(language)
    assert [key for key, text in texts.items() if not text.strip()] == []
    plurals = {PLURAL.sub("", key) for key in texts if PLURAL.search(key)}
    assert [key for key in plurals if f"{key}.other" not in texts] == []


def test_both_languages_have_the_same_parameters() -> None:
    def parameters(text: str) -> set[str]:
        return set(re.findall(r"\{(\w+)\}", text))

    turkish = catalogue("tr")
    english = catalogue("en")
    assert [key for key in english if parameters(english[key]) != parameters(turkish[key])] == []


def test_every_text_is_used() -> None:
    assert known_keys() - keys_in_pages() - strings_in_scripts() == set()


def test_every_key_that_is_asked_for_has_a_text() -> None:
    areas = {key.split(".")[0] for key in known_keys()}
    files = (".html", ".js", ".json", ".css", ".svg")
    looks_like_keys = {
        text
        for text in strings_in_scripts()
        if "." in text and text.split(".")[0] in areas and not text.endswith(files)
    }
    assert (keys_in_pages() | looks_like_keys) - known_keys() == set()


def with_imports(script: Path, found: set[Path] | None = None) -> set[Path]:
    """A module and all that it leads to, also what is loaded later."""
    found = set() if found is None else found
    if script not in found:
        found.add(script)
        for other in re.findall(
            r"(?:from |import\()'(\.[^']+)'", without_comments(script.read_text("utf-8"))
        ):
            with_imports((script.parent / other).resolve(), found)
    return found


def test_the_rooms_part_of_the_texts_has_all_that_its_page_asks_for() -> None:
    scripts = with_imports(STATIC / "js/room/main.js")
    assert STATIC / "js/room/chat.js" in scripts
    asked = keys_in_pages([STATIC / "room.html"]) | (strings_in_scripts(scripts) & known_keys())
    assert [key for key in asked if not key.startswith(rtapp.Static.ROOM_TEXTS)] == []


@pytest.mark.parametrize("path", SCRIPTS, ids=name)
def test_keys_are_never_put_together(path: Path) -> None:
    """Else the two tests above couldn't see them."""
    assert re.findall(r"\bt\((?:`|'[^']*'\s*\+)", path.read_text("utf-8")) == []


def test_every_description_of_a_setting_has_a_translation() -> None:
    """The server's own are English: each setting needs a line in `i18n/settings.tr.json`."""
    import rtapp

    texts = json.loads((STATIC / "i18n" / "settings.tr.json").read_text("utf-8"))
    assert list(texts) == list(rtapp.SETTINGS)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_setting_has_a_name_in_words(language: str) -> None:
    texts = json.loads((STATIC / "i18n" / f"labels.{language}.json").read_text("utf-8"))
    assert list(texts) == list(rtapp.SETTINGS)
    assert len(set(texts.values())) == len(texts)


def logged() -> set[str]:
    """What the server writes into its event log, `{}` for what is different in each."""
    found = set()
    for call in ast.walk(ast.parse((STATIC.parent / "rtapp.py").read_text("utf-8"))):
        name = ast.unparse(call.func) if isinstance(call, ast.Call) else ""
        is_entry = name.endswith(("journal.add", ".audit")) or name == "reported"
        if isinstance(call, ast.Call) and is_entry and call.args[1:]:
            words = call.args[1]
            if isinstance(words, ast.JoinedStr):
                parts = (
                    ast.unparse(p) if isinstance(p, ast.Constant) else None for p in words.values
                )
                found.add(
                    "".join("{}" if part is None else ast.literal_eval(part) for part in parts)
                )
            elif isinstance(words, ast.Constant) and isinstance(words.value, str):
                found.add(words.value)
    return found


def test_every_entry_of_the_event_log_has_a_translation() -> None:
    """The server's own are English; what it puts together of others' words is said by its parts."""
    texts = json.loads((STATIC / "i18n" / "log.tr.json").read_text("utf-8"))
    assert len(logged()) > 50
    assert logged() - set(texts) == {"{}: {}"}
    assert [key for key, text in texts.items() if text.count("{}") != key.count("{}")] == []


def test_turkish_is_turkish() -> None:
    """The commonest slips: a dotted capital lost, an English quotation, a decomposed letter."""
    for key, text in catalogue("tr").items():
        assert not re.search(r"\b(Iste|Icer|Iptal|Indir|Isim|Ileti|Isteg)", text), key
        assert "\u0307" not in text, key
        assert "'" not in text, key


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_every_control_of_a_page_is_named(path: Path) -> None:
    page = Page(path)
    labelled = set(page.values("for"))
    for tag, attributes in page.tags:
        if tag in ("input", "select", "textarea"):
            named = attributes.get("id") in labelled
            assert named or "aria-label:" in attributes.get("data-i18n-attr", ""), attributes


# ---- policy --------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_no_inline_script_or_style(path: Path) -> None:
    page = Page(path)
    assert page.inline == ""
    assert [tag for tag, _ in page.tags if tag in ("style", "base")] == []
    names = {attribute for _, attributes in page.tags for attribute in attributes}
    assert {one for one in names if one == "style" or one.startswith("on")} == set()
    assert [
        tag for tag, attributes in page.tags if tag == "script" and "src" not in attributes
    ] == []


@pytest.mark.parametrize("path", SCRIPTS, ids=name)
def test_scripts_need_no_unsafe_rule_and_make_no_html(path: Path) -> None:
    script = without_comments(path.read_text("utf-8"))
    forbidden = (
        r"\beval\(|new Function\(|innerHTML|outerHTML|insertAdjacentHTML|document\.write"
        r"|setAttribute\(\s*['\"](style|on)|javascript:"
    )
    assert re.findall(forbidden, script) == []


@pytest.mark.parametrize("path", OURS, ids=name)
def test_nothing_comes_from_outside(path: Path) -> None:
    text = path.read_text("utf-8")
    for namespace in NAMESPACES:
        text = text.replace(namespace, "")
    if path.suffix == ".md":  # what a guide shows as code is read, not loaded
        text = re.sub(r"^ *```.*?^ *```$|`[^`]*`", "", text, flags=re.MULTILINE | re.DOTALL)
        text = re.sub(r"^<!-- settings:.*?<!-- /settings -->$", "", text, flags=re.M | re.DOTALL)
    assert re.findall(r"(?:https?:|wss?:|url\(\s*['\"]?|src=\"|href=\")//[\w.]+", text) == []
    assert path.suffix == ".js" or "@import" not in text  # in JavaScript it names a type


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_a_page_refers_only_to_files_that_exist(path: Path) -> None:
    """And in the one way that the server puts the version into: `"static/`."""
    page = Page(path)
    text = path.read_text("utf-8")
    references = [*page.values("src"), *page.values("href")]
    for reference in references:
        if reference.startswith("#"):
            assert reference[1:] in page.values("id") or path.name == "header.html"
        elif "{{" not in reference and reference != "/ca.crt":  # those the server fills
            assert reference.startswith("static/"), reference
            assert f'"{reference}"' in text
            assert (STATIC.parent / reference).is_file(), reference


@pytest.mark.parametrize("path", SCRIPTS, ids=name)
def test_modules_import_each_other_relatively(path: Path) -> None:
    script = without_comments(path.read_text("utf-8"))
    for reference in re.findall(r"(?:from|import) '([^']+)'", script):
        assert reference.startswith("."), reference
        assert (path.parent / reference).is_file(), reference


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_ids_are_unique_and_those_referred_to_exist(path: Path) -> None:
    page = Page(path)
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    for attribute in ("for", "aria-labelledby", "aria-describedby", "aria-controls", "data-copy"):
        for value in page.values(attribute):
            assert set(value.split()) <= set(ids), (attribute, value)


# ---- colours -------------------------------------------------------------------------------------

WRITTEN_ON = [
    *[
        (ink, ground)
        for ink in ("text", "muted", "accent")
        for ground in ("bg", "surface", "sunken")
    ],
    *[("text", f"{kind}-soft") for kind in ("info", "ok", "warn", "error", "accent")],
    *[(kind, f"{kind}-soft") for kind in ("info", "ok", "warn", "error", "accent")],
    *[(kind, "surface") for kind in ("ok", "warn", "error")],
    ("accent-hover", "bg"),
    ("accent-hover", "surface"),
    ("on-accent", "accent"),
    ("on-accent", "accent-hover"),
]
# Borders of fields, the focus ring, and dots of states: WCAG 1.4.11 asks for 3.
SEEN_ON = [
    (mark, ground)
    for mark in ("border-strong", "accent", "ok", "warn", "error")
    for ground in ("bg", "surface")
]


def themes() -> dict[str, dict[str, str]]:
    """The blocks of base.css that set colours: light, dark by the system, dark by choice."""
    css = (STATIC / "css" / "base.css").read_text("utf-8")
    blocks = re.findall(r"color-scheme: (?:light|dark);([^}]*)\}", css)
    named = zip(("light", "dark by the system", "dark by choice"), blocks, strict=True)
    return {key: dict(re.findall(r"--([\w-]+): ([^;]+);", block)) for key, block in named}


def luminance(color: str) -> float:
    channels = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark by choice"])
def test_contrast(theme: str) -> None:
    colors = themes()[theme]
    pairs = [*((*pair, 4.5) for pair in WRITTEN_ON), *((*pair, 3.0) for pair in SEEN_ON)]
    poor = {
        f"{ink} on {ground}": round(contrast(colors[ink], colors[ground]), 2)
        for ink, ground, least in pairs
        if contrast(colors[ink], colors[ground]) < least
    }
    assert poor == {}


def test_the_two_dark_themes_are_the_same() -> None:
    light, by_system, by_choice = themes().values()
    assert by_system == by_choice
    assert set(light) == set(by_choice)


@pytest.mark.parametrize("path", STYLES, ids=name)
def test_colours_stand_only_in_the_themes(path: Path) -> None:
    css = re.sub(
        r"/\*.*?\*/|color-scheme: (light|dark);[^}]*\}",
        "",
        path.read_text("utf-8"),
        flags=re.DOTALL,
    )
    assert re.findall(r"#[0-9a-fA-F]{3,8}\b|\b(?:rgb|hsl|oklch)\(", css) == []


def test_every_custom_property_in_use_is_defined() -> None:
    css = "".join(path.read_text("utf-8") for path in STYLES)
    defined = set(re.findall(r"(--[\w-]+):", css))
    assert set(re.findall(r"var\((--[\w-]+)", css)) <= defined


def test_the_types_of_the_pages_hold(npm_folder: Callable[..., Path]) -> None:
    """tsc finds nothing wrong with what the modules' JSDoc says."""
    tsc = npm_folder("typescript@7.0.2") / "node_modules" / "typescript" / "bin" / "tsc"
    command = ["node", str(tsc), "--noEmit", "-p", str(Path(__file__).with_name("tsconfig.json"))]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout
