"""The HTML of a notebook in a real Chromium: it looks as on the page, in the notebook's theme."""

import pytest

from gpt2core import show
from tests.helpers.web import HEROES

LOOK = """chip => [chip, chip.querySelector(".piece")].map(e => getComputedStyle(e)).map(style =>
  [style.backgroundColor, style.color, style.borderRadius, style.font, style.display])"""
# What a notebook's own style does to lists, tables and paragraphs.
OWN_STYLE = "<style>div.cell ol, .cell p { margin: 2em; padding-left: 2em; color: red }</style>"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_chip_looks_as_on_the_page_in_the_theme_of_the_notebook(visit, server, theme):
    other = {"light": "dark", "dark": "light"}[theme]
    page = visit(f"{server.url}/?prompt={HEROES}", color_scheme=theme)
    expected = page.locator("#prompt-strip .chip").evaluate_all(f"all => all.map({LOOK})")
    # The system prefers the other scheme; the notebook's own theme counts.
    notebook = visit("about:blank", color_scheme=other)
    is_light = str(theme == "light").lower()
    html = show(HEROES)._repr_html_()
    notebook.set_content(
        f'<body data-jp-theme-light="{is_light}">{OWN_STYLE}<div class="cell">{html}</div></body>'
    )
    chips = notebook.locator(".chip")
    assert chips.evaluate_all(f"all => all.map({LOOK})") == expected
    assert notebook.locator(".strip").evaluate("e => getComputedStyle(e).paddingLeft") == "0px"
