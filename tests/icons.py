"""Draw the PNGs of the program's icon from `static/img/icon.svg`: ``python tests/icons.py``.

Browsers take the SVG for a tab; a system that installs the pages as an app wants PNGs: as they are,
and one that fills its square, out of which it cuts the shape of its own icons.
"""

from __future__ import annotations

from playwright.sync_api import sync_playwright

from browsers import FLAGS, start_chromium
from support import ROOT

FOLDER = ROOT / "static" / "img"
PAGE = "<style>body { margin: 0 } svg { display: block; width: 100vw; height: 100vh }</style>"


def filling(svg: str) -> str:
    """The icon without its round corners, its sign within what each shape leaves (80 %)."""
    svg = svg.replace('rx="7" ', "")
    head, _, rest = svg.partition("<circle")
    return (
        head
        + '<g transform="translate(4 4) scale(0.75)"><circle'
        + rest.replace("</svg>", "</g></svg>")
    )


def main() -> None:
    svg = (FOLDER / "icon.svg").read_text("utf-8")
    icons = {"icon": (svg, 256), "icon-192": (svg, 192), "icon-512": (svg, 512)}
    icons["icon-fills"] = filling(svg), 512
    with sync_playwright() as playwright:
        page = start_chromium(playwright, FLAGS).new_page()
        for name, (drawing, size) in icons.items():
            page.set_viewport_size({"width": size, "height": size})
            page.set_content(PAGE + drawing)
            page.screenshot(path=FOLDER / f"{name}.png", omit_background=True)


if __name__ == "__main__":
    main()
