"""The part of the page's style sheets that a piece of HTML needs, for a notebook's output.

Invariants: every rule applies inside the element of class ``SCOPE`` only, by CSS nesting, so that
the notebook's own look stays; colours follow the notebook's theme where it says which it has.
"""

import re
from functools import lru_cache

from webapp.assets import asset

SCOPE = "glyph-shown"
SHEETS = ("app.css", "inside.css", "instruments.css")
COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
# A prelude and its block, in which blocks may stand: @media (…) { .chip { … } }
RULE = re.compile(r"\s*([^{}]+?)\s*\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}")
CLASS = re.compile(r"\.([a-z][\w-]*)")
USED_CLASSES = re.compile(r'\bclass="([^"]*)"')
CHOICE = re.compile(r":is\(([^)]*)\)")
ONLY_ON_PAGES = ("#", "[data-view", ":root", ":hover")  # ids, and what scripts and pointers set
KEPT_MEDIA = ("forced-colors",)  # of the conditions, those that a notebook can meet too
# JupyterLab and VS Code say on <body> which theme they have; elsewhere the system decides.
FRAME = f"""
.{SCOPE} {{ color-scheme: light dark; color: var(--ink); background: var(--panel);
  padding: 0.6rem; border-radius: var(--radius); font: 1rem/1.5 system-ui, "Segoe UI", Roboto,
  "Noto Sans", sans-serif;
  font-variant-numeric: tabular-nums; }}
.{SCOPE} :is(p, ul, ol) {{ margin: 0; }}
.{SCOPE} .chip {{ display: inline-block; }}
.{SCOPE} :is(ul, ol) {{ padding-left: 0 !important; }}
body:is([data-jp-theme-light="true"], .vscode-light) .{SCOPE} {{ color-scheme: light; }}
body:is([data-jp-theme-light="false"], .vscode-dark) .{SCOPE} {{ color-scheme: dark; }}
"""


def style_for(html: str) -> str:
    """A ``<style>`` element with the rules for the classes of ``html``."""
    used = {name for names in USED_CLASSES.findall(html) for name in names.split()}
    rules = "\n".join(kept for sheet in SHEETS if (kept := kept_rules(sheet_text(sheet), used)))
    return f"<style>{FRAME}.{SCOPE} {{\n{rules}\n}}</style>"


@lru_cache(maxsize=len(SHEETS))
def sheet_text(name: str) -> str:
    """A style sheet without its comments."""
    return COMMENT.sub("", (asset("static") / name).read_text(encoding="utf-8"))


def kept_rules(css: str, used: set[str]) -> str:
    """The rules of ``css`` whose classes are all in ``used``, and the colours of ``:root``."""
    kept = []
    for prelude, block in RULE.findall(css):
        if prelude.startswith("@"):
            inner = kept_rules(block, used)
            if inner and any(name in prelude for name in KEPT_MEDIA):
                kept.append(f"{prelude} {{\n{inner}\n}}")
        elif prelude == ":root":
            kept.append(f"& {{{block}}}")
        elif selectors := [one for one in selectors_of(prelude) if applies(one, used)]:
            kept.append(f"{', '.join(selectors)} {{{block}}}")
    return "\n".join(kept)


def selectors_of(prelude: str) -> list[str]:
    """The selectors of a list; a comma in brackets belongs to one of them."""
    return [one.strip() for one in re.split(r",(?![^(]*\))", prelude)]


def applies(selector: str, used: set[str]) -> bool:
    """Whether a selector has classes and the HTML uses them: of ``:is(.a, .b)`` one is enough."""
    if any(sign in selector for sign in ONLY_ON_PAGES) or not CLASS.search(selector):
        return False
    choices = [choice.split(",") for choice in CHOICE.findall(selector)]
    return classes(CHOICE.sub("", selector)) <= used and all(
        any(classes(one) <= used for one in choice) for choice in choices
    )


def classes(selector: str) -> set[str]:
    return set(CLASS.findall(selector))
