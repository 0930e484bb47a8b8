"""What a visitor does with the main page, for any engine."""

import json
from collections.abc import Callable
from typing import Any

from tests.browser.engines.engine import Engine, EngineError
from tests.helpers.web import STORY, STORY_IDS, wait_until

# Collects what goes wrong in scripts from now on.
WATCH = """(window.said = [],
  addEventListener("error", event => said.push(event.message)),
  addEventListener("unhandledrejection", event => said.push(String(event.reason))), 0)"""
DETAILS = "#details.open tbody tr"


def equal(expected: Any) -> Callable[[Any], bool]:
    return lambda found: bool(found == expected)


class Visit:
    """An engine at the page, with waiting: every question is asked until its answer is right."""

    def __init__(self, engine: Engine):
        self.engine = engine

    def open(self, url: str) -> None:
        self.engine.open(url)
        self.engine.evaluate(WATCH)

    def until(self, expression: str, what: str, is_right: Callable[[Any], bool] = bool) -> Any:
        """The value of ``expression`` once it is right; during a navigation it has none."""
        values: list[Any] = []

        def asked() -> bool:
            try:
                values.append(self.engine.evaluate(expression))
            except EngineError:
                return False
            return is_right(values[-1])

        try:
            wait_until(asked, what)
        except AssertionError as error:
            raise AssertionError(f"{error}, but {values[-1:]}") from None
        return values[-1]

    def click(self, selector: str) -> None:
        """Click an element as soon as it can be seen and stays where it is."""
        one = f"document.querySelector({json.dumps(selector)})"
        places: list[Any] = [None]

        def stays(place: Any) -> bool:
            places.append(place)
            return bool(place) and places[-2] == place

        self.until(f"{one}?.getClientRects()[0]", selector, stays)
        self.engine.click(selector)

    def type(self, **fields: str) -> None:
        for name, text in fields.items():
            self.engine.type(f"#{name}", text)

    def open_settings(self) -> None:
        """Unfold the settings, which are folded on a phone."""
        if not self.engine.evaluate("document.getElementById('settings').open"):
            self.click("#settings summary")

    def ids(self, strip: str, chips: str = ".chip") -> str:
        """The expression for the ids in a strip."""
        selector = json.dumps(f"#{strip} {chips}")
        return f"[...document.querySelectorAll({selector})].map(chip => Number(chip.dataset.id))"

    def wait_for_ids(self, strip: str, expected: list[int]) -> None:
        self.until(self.ids(strip), f"the ids in {strip}", lambda ids: ids == expected)

    def wait_for_status(self, word: str) -> None:
        self.until("document.getElementById('status').textContent", word, lambda t: word in t)

    def wait_for_candidates(self, kept: list[int]) -> None:
        """The candidates after these generated tokens; when they come, what is below moves."""
        after = ",".join(map(str, kept))
        shown = "document.querySelector('#next:not([inert]) [data-after]')?.dataset.after"
        self.until(shown, "candidates for the text", equal(after))

    def errors(self) -> list[str]:
        """What scripts have thrown since the page was opened."""
        found: list[str] = self.engine.evaluate("window.said")
        return found


def type_and_generate(visit: Visit, url: str, n_tokens: int) -> list[int]:
    """From an empty page to a text; the ids that were generated."""
    visit.open(f"{url}/?prompt=")
    visit.click('label:has([value="full"])')
    visit.type(prompt=STORY)
    visit.wait_for_ids("prompt-strip", STORY_IDS)
    visit.wait_for_candidates([])
    visit.open_settings()
    visit.type(n_tokens=str(n_tokens), seed="1")
    visit.click("#generate")
    visit.wait_for_status("Done")
    ids = visit.engine.evaluate(visit.ids("strip", ".generated"))
    assert len(ids) == n_tokens
    assert visit.engine.evaluate(visit.ids("strip")) == STORY_IDS + ids
    visit.wait_for_candidates(ids)
    return ids


def branch(visit: Visit, ids: list[int]) -> int:
    """Open the card of the first generated token and go on with another candidate; its id."""
    visit.click("#strip .generated")
    visit.until(f"document.querySelectorAll('{DETAILS}').length", "candidates", lambda n: n >= 10)
    other = visit.engine.evaluate(
        f"document.querySelector('{DETAILS}:not(.chosen) [data-id]').dataset.id"
    )
    visit.click(f'#details .candidate[data-id="{other}"]')
    first = f"{visit.ids('strip', '.generated')}[0]"
    visit.until(first, "the other branch", equal(int(other)))
    assert int(other) != ids[0]
    # The token is kept, and as many as before follow it.
    n_shown = len(ids) + 1
    branched = visit.until(
        visit.ids("strip", ".generated"), "the other text", lambda found: len(found) == n_shown
    )
    visit.wait_for_candidates(branched)
    visit.engine.press("Escape")
    visit.until("!document.querySelector('#details.open')", "closed details")
    return int(other)


def copy_and_paste(visit: Visit, kept: int) -> None:
    """Copy the prompt's ids and the link to the text, and paste them."""
    for button, expected in (
        ('#tokens [data-take="ids"]', ", ".join(map(str, STORY_IDS))),
        ("[data-link]", f"&kept={kept}"),
    ):
        visit.engine.evaluate("(document.getElementById('said').textContent = '')")
        visit.click(button)
        visit.until("document.getElementById('said').textContent", "Copied", equal("Copied"))
        visit.type(stops="")
        visit.engine.press("Paste")
        visit.until(
            "document.getElementById('stops').value",
            "the copy",
            lambda text, e=expected: text.endswith(e),
        )
        visit.type(stops="")


def stop(visit: Visit) -> None:
    """Stop a text that would take a minute."""
    visit.type(prompt="Slow: one two")
    first = "document.querySelector('#prompt-strip .piece')?.textContent"
    visit.until(first, "the new tokens", equal("Slow"))
    visit.type(n_tokens="200")
    visit.click("#generate")
    visit.until(f"{visit.ids('strip', '.generated')}.length", "two tokens", lambda n: n >= 2)
    visit.click("#stop")
    visit.until("document.getElementById('stop').hidden", "a stopped text")
    visit.wait_for_status("Stopped")


def look_inside(visit: Visit) -> None:
    """From the tokens to the model's inside."""
    visit.click('#tokens a[href^="/inside"]')
    visit.until("location.pathname", "the inside", equal("/inside"))
    visit.until("!!document.querySelector('#inside h1')", "its heading")


def without_scripts(visit: Visit, url: str) -> None:
    """Cut a text and generate by forms alone."""
    visit.engine.open(f"{url}/?prompt=")
    assert visit.engine.evaluate("matchMedia('(scripting: none)').matches")
    visit.type(prompt=STORY)
    visit.click("noscript button")
    visit.wait_for_ids("prompt-strip", STORY_IDS)
    visit.type(n_tokens="5")
    visit.click("#generate")
    visit.until(f"{visit.ids('strip', '.generated')}.length", "five tokens", equal(5))
