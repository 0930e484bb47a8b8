"""The style sheet's colours have the contrast that WCAG asks for; scripts hold no address."""

import re

import pytest

from tests.helpers.web import ROOT

CSS = (ROOT / "static" / "app.css").read_text(encoding="utf-8")


def colours() -> dict[str, dict[str, str]]:
    """The custom properties that are colours, and those of chips, for light and for dark."""
    named = r"(?:--|\.)([\w-]+)(?: \{\s+--tint)?: light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\);"
    both = re.findall(named, CSS)
    return {
        "light": {name: light for name, light, _ in both},
        "dark": {name: dark for name, _, dark in both},
    }


def luminance(colour: str) -> float:
    """Relative luminance, as WCAG 2.2 defines it."""
    shares = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_what_wcag_says():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_chip_can_be_read(scheme):
    named = colours()[scheme]
    chips = {name: colour for name, colour in named.items() if re.fullmatch(r"c\d+", name)}
    assert len(chips) >= 6
    low = {n: c for n, c in chips.items() if contrast(named["ink"], c) < 4.5}
    assert not low


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("ink", ["ink", "soft", "bad", "accent"])
@pytest.mark.parametrize("ground", ["ground", "panel"])
def test_every_text_can_be_read(scheme, ink, ground):
    named = colours()[scheme]
    assert contrast(named[ink], named[ground]) >= 4.5


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_buttons_and_problems_can_be_read(scheme):
    named = colours()[scheme]
    assert contrast(named["accent-ink"], named["accent"]) >= 4.5
    assert contrast(named["bad"], named["bad-ground"]) >= 4.5
    assert contrast(named["ink"], named["glow"]) >= 4.5  # a token that is lit


ADDRESS = re.compile(r"""["'`]/""")


@pytest.mark.parametrize(
    "path", sorted((ROOT / "static" / "js").glob("*.js")), ids=lambda p: p.name
)
def test_no_script_holds_an_address(path):
    """Scripts take addresses from the document, so that the page also works below a prefix."""
    assert not ADDRESS.findall(path.read_text(encoding="utf-8"))
