"""The instruments in a real Chromium: with scripts and without, by keyboard, at any width."""

import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.browser.test_page import HOLD_ENDS, settle
from tests.helpers.inside import ODD_TEXTS, STORY, TEXT, address

N_STATES = 7  # of the bundled model: the embedding, and after each of six layers
INSTRUMENTS = (
    "heads",
    "lens",
    "attribution",
    "sampling",
    "neurons",
    "neighbours",
    "ablate",
    "patch",
)
each_instrument = pytest.mark.parametrize("name", INSTRUMENTS)
VARIANTS = {
    "heads": ({}, {"measure": "copies", "show": "moves"}, {"measure": "norm", "at": 1}),
    "lens": ({}, {"half": 1}),
    "attribution": ({"part": "1.attn"}, {"part": "2.mlp", "against": 262}),
    "sampling": ({}, {"temperature": 1, "top_k": 0}),
    "neurons": ({"layer": 1},),
    "neighbours": ({"layer": 1},),
    "patch": ({},),
    "ablate": ({"parts": "2.mlp,3.1", "n_tokens": 6, "sweep": 1},),
}
# Fields without which an instrument has few numbers or none, for the page's usual text.
CHOSEN = {
    "ablate": {"parts": "2.mlp,3.1", "n_tokens": 6},
    "patch": {"other": "The dog sat on the mat because it", "carry": "3.2"},
}
CHANGED = re.compile(r"50,2\d\d of 50,257 logits changed")  # a few may agree by chance
TEXTS_SAID = re.compile("^(The texts part at token|Both texts are the same)")
WIDTHS = "() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
LONG = STORY[:600]  # more than 64 tokens, fewer than 256
# Each answer waits: `asked` are the addresses of the requests in order, `answer(i)` lets the
# answer of one through, and `ended` counts those that htmx is done with.
HOLD_ANSWERS = """() => {
  const { fetch } = window;
  const gates = [];
  window.asked = [];
  window.ended = 0;
  document.addEventListener("htmx:finally:request", () => (window.ended += 1));
  window.answer = (i) => gates[i]();
  window.fetch = async (address, options) => {
    const answer = fetch(address, options);
    answer.catch(() => {});  // an aborted request is htmx's business, later
    if (!address.startsWith("/inside")) return answer;
    asked.push(address);
    await new Promise((pass) => gates.push(pass));
    return answer;
  };
}"""


def open_at(visit, server, name, text=TEXT, fields=None, **options):
    path = address(f"/inside/{name}", prompt=text, **(fields or {}))
    return visit(f"{server.url}{path}", **options)


def go_to(page, server, name, text, fields):
    """Another view in the same page; it must be a view, not a refusal."""
    page.goto(f"{server.url}{address(f'/inside/{name}', prompt=text, **fields)}")
    expect(page.locator(".inside-strip")).to_be_visible()


def said(page):
    return page.locator("#inside-said")


@each_instrument
def test_axe_finds_nothing_in_the_way_of_anyone(visit, server, name):
    page = open_at(visit, server, name, reduced_motion="reduce")
    for text in (LONG, ODD_TEXTS[0]):
        for fields in VARIANTS[name]:
            go_to(page, server, name, text, fields)
            for scheme in ("light", "dark"):
                page.emulate_media(color_scheme=scheme)
                results = Axe().run(page)
                assert results.violations_count == 0, f"{fields}: {results.generate_report()}"


@each_instrument
def test_nothing_scrolls_sideways(visit, server, name):
    page = open_at(visit, server, name)
    for text in (LONG, ODD_TEXTS[0], "=" * 64):
        for fields in VARIANTS[name]:
            go_to(page, server, name, text, fields)
            for width in (320, 390, 768, 1440, 3840):
                page.set_viewport_size({"width": width, "height": 900})
                inside, outside = page.evaluate(WIDTHS)
                assert inside <= outside, (width, text, fields)


def test_the_guided_reading_is_read_by_anyone_and_leads_to_a_view_and_back(visit, server):
    page = visit(f"{server.url}/inside/reading", java_script_enabled=False, reduced_motion="reduce")
    for width in (320, 1440):
        page.set_viewport_size({"width": width, "height": 900})
        inside, outside = page.evaluate(WIDTHS)
        assert inside <= outside
    for way in range(page.locator(".inside-ways a").count()):
        page.locator(".inside-ways a").nth(way).click()
        expect(page.locator(".inside-strip")).to_be_visible()
        page.get_by_role("link", name="Guided reading").click()
        expect(page.locator("#story-4")).to_be_visible()
    page = visit(f"{server.url}/inside/reading", reduced_motion="reduce")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        results = Axe().run(page)
        assert results.violations_count == 0, results.generate_report()


@each_instrument
@pytest.mark.parametrize("media", ["print", "forced"])
def test_every_number_is_there_in_print_and_in_forced_colours(visit, server, name, media):
    page = open_at(visit, server, name, fields=CHOSEN.get(name))
    numbers = page.locator("#inside td:visible, #inside .number:visible").all_inner_texts()
    if media == "print":
        page.emulate_media(media="print")
    else:
        page.emulate_media(forced_colors="active")
    again = page.locator("#inside td:visible, #inside .number:visible").all_inner_texts()
    assert again == numbers and len(numbers) > 10


# Without scripts


def test_without_scripts_a_head_is_chosen_from_table_thumbnail_and_row(visit, server):
    page = open_at(visit, server, "heads", java_script_enabled=False)
    page.get_by_role("button", name="moves most").click()
    page.locator(".inside-heads button").nth(4).click()
    expect(page.locator("#inside-one")).to_contain_text("Layer 1, head 1:")
    expect(page.get_by_role("button", name="moves most")).to_have_attribute("aria-current", "true")
    page.locator(".inside-thumbnails button").nth(2).click()
    expect(page.locator("#inside-one")).to_contain_text("Layer 1, head 2:")
    page.get_by_role("button", name="what moves it").click()
    expect(page.locator("#inside-one")).to_contain_text("Layer 1, head 2: what moves")
    page.locator(".inside-row button").nth(1).click()
    expect(page.locator(".inside-row [aria-current] .piece")).to_have_text("Ġcat")
    expect(page.locator("#inside-one")).to_contain_text("Layer 1, head 2: what moves")


def test_choosing_another_token_drops_the_key_that_it_may_not_see(visit, server):
    page = open_at(visit, server, "heads", fields={"key": 7}, java_script_enabled=False)
    page.locator(".inside-chip").nth(2).click()
    expect(page.locator("#inside-one")).to_contain_text("where “Ġsat” looks")
    assert "key=" not in page.url


def test_without_scripts_the_lens_is_whole(visit, server):
    page = open_at(visit, server, "lens", java_script_enabled=False)
    expect(page.locator("#lens-rows tr")).to_have_count(N_STATES)
    page.get_by_role("button", name="half steps too").click()
    expect(page.locator("#lens-rows tr")).to_have_count(2 * N_STATES - 1)
    page.locator(".inside-chip").nth(2).click()
    expect(page.locator(".inside-lens thead th")).to_have_count(3)
    expect(page.locator("#lens-rows tr")).to_have_count(2 * N_STATES - 1)


def test_without_scripts_a_sum_is_opened_and_compared(visit, server):
    page = open_at(visit, server, "attribution", java_script_enabled=False)
    page.get_by_role("button", name="layer 2, MLP").click()
    expect(page.locator(".inside-ledger").nth(1)).to_contain_text("758 others together")
    other = page.locator("#inside-choices option").nth(1).get_attribute("value")
    page.get_by_label("rather than").fill(other)
    page.get_by_role("button", name="Show").click()
    expect(page.locator(".inside-lead")).to_contain_text("rather than")
    expect(page.locator(".inside-ledger").nth(1)).to_contain_text("758 others together")
    page.get_by_role("button", name="layer 0, attention").click()
    page.get_by_role("button", name="head 2", exact=True).click()
    expect(page.get_by_role("heading", name="Head 2: by the token it looks at")).to_be_visible()


def test_without_scripts_seed_after_seed_is_drawn(visit, server):
    page = open_at(visit, server, "sampling", java_script_enabled=False)
    page.get_by_label("Temperature").fill("2")
    page.get_by_role("button", name="Draw", exact=True).click()
    first = page.locator(".inside-equation").text_content()
    page.get_by_role("button", name="Next seed").click()
    expect(page.get_by_label("Seed")).to_have_value("1")
    expect(page.get_by_label("Temperature")).to_have_value("2")
    assert page.locator(".inside-equation").text_content() != first


def test_without_scripts_parts_are_turned_off_and_both_texts_are_whole(visit, server):
    page = open_at(visit, server, "ablate", java_script_enabled=False)
    page.get_by_label("layer 3, head 1").check()
    page.get_by_label("layer 2, MLP").check()
    page.get_by_role("button", name="Turn off").click()
    expect(page.locator("#n-changed")).to_have_text(CHANGED)
    expect(page.locator("#inside-texts-said")).to_have_text(TEXTS_SAID)
    expect(page.locator("#text-without")).not_to_be_empty()
    expect(page.get_by_label("layer 2, MLP")).to_be_checked()
    page.locator("#sweep-run").click()
    page.locator("#sweep-rows [value='1.2']").click()
    expect(page.get_by_label("layer 1, head 2")).to_be_checked()
    expect(page.get_by_label("layer 2, MLP")).not_to_be_checked()
    page.get_by_role("link", name="All on again").click()
    expect(page.locator(".inside-boxes :checked")).to_have_count(0)


# With scripts


def test_arrow_keys_walk_the_table_and_enter_opens_a_head(visit, server):
    page = open_at(visit, server, "heads", fields={"cell": "1.1"})
    chosen = page.locator(".inside-heads [aria-current]")
    chosen.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(page.locator("#inside-one")).to_contain_text("Layer 2, head 2:")
    expect(page.locator(".inside-heads [value='2.2']")).to_be_focused()
    expect(said(page)).to_contain_text("Layer 2, head 2: “Ġit” looks most at")
    assert "layer=2&head=2" in page.url
    page.keyboard.press("Tab")  # one stop a table
    expect(page.locator(".inside-heads button:focus")).to_have_count(0)


@each_instrument
def test_choosing_a_token_swaps_the_view_and_keeps_focus_and_address(visit, server, name):
    page = open_at(visit, server, name)
    page.evaluate("window.same = true")
    page.locator(".inside-chip").nth(3).click()
    expect(page.locator(".inside-chip").nth(3)).to_have_attribute("aria-current", "true")
    expect(page.locator(".inside-chip").nth(3)).to_be_focused()
    expect(page).to_have_url(re.compile("at=4"))
    assert page.evaluate("window.same") is True  # the page was not loaded again
    expect(said(page)).not_to_be_empty()


def test_the_rows_of_the_lens_arrive_after_a_swap_and_leave_the_focus_alone(visit, server):
    page = open_at(visit, server, "lens")
    expect(page.locator("#lens-rows tr")).to_have_count(N_STATES)
    whole = page.locator("#lens-rows").inner_text()
    page.get_by_role("button", name="half steps too").click()
    expect(page.locator("#lens-rows tr")).to_have_count(2 * N_STATES - 1)
    expect(page.locator("#lens-rows tr").last).to_contain_text("= the answer")
    expect(page.get_by_role("button", name="half steps too")).to_be_focused()
    page.get_by_role("button", name="whole layers").click()
    expect(page.locator("#lens-rows tr")).to_have_count(N_STATES)
    assert page.locator("#lens-rows").inner_text() == whole


def test_another_choice_while_rows_arrive_shows_only_its_own(visit, server):
    page = open_at(visit, server, "lens", text=LONG)
    for at in (30, 12, 3):
        page.locator(f".inside-chip[data-at='{at}']").click()
        expect(page.locator(".inside-lens thead th").last).to_have_attribute("data-at", str(at))
    expect(page.locator("#lens-rows tr")).to_have_count(N_STATES)
    assert page.locator("#lens-rows td").count() == 3 * N_STATES


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 2, 1)])
def test_the_newest_choice_counts_whatever_is_answered_first(visit, server, order):
    page = open_at(visit, server, "attribution")
    page.evaluate(HOLD_ANSWERS)
    page.locator(".inside-chip[data-at='5']").click()
    page.locator(".inside-chip[data-at='2']").click()
    page.evaluate("answer(0)")  # when a request that was replaced ends, htmx forgets the newer
    page.wait_for_function("ended === 1")
    page.locator(".inside-chip[data-at='4']").click()
    page.get_by_role("button", name="layer 3, MLP").click()  # in a form of its own
    for n, answer in enumerate(order, 2):
        page.evaluate("i => answer(i)", answer)
        page.wait_for_function("n => ended === n", arg=n)
    expect(page.get_by_role("heading", name="Layer 3, MLP: neuron by neuron")).to_be_visible()
    expect(page).to_have_url(re.compile("part=3.mlp"))


def test_what_a_view_still_loads_ends_with_it(visit, slow_server):
    page = open_at(visit, slow_server, "ablate", text="Slow: one two three")
    page.evaluate(HOLD_ANSWERS)
    page.get_by_text("How the two texts are written").click()
    page.get_by_label("Tokens", exact=True).fill("200")
    page.get_by_label("layer 2, MLP").check()
    page.locator("#off-run").click()
    page.evaluate("answer(0)")
    page.wait_for_function("() => asked.length === 2")  # the texts
    slow_server.wait_for_load(2)
    page.get_by_label("layer 2, MLP").uncheck()
    page.locator("#off-run").click()
    page.evaluate("answer(2)")
    expect(page.locator(".inside-two")).to_have_count(0)
    slow_server.wait_for_load(0)  # long before 200 tokens at a quarter of a second each
    page.evaluate("answer(1)")
    settle(page)


def test_a_sum_is_compared_with_any_token_that_is_typed(visit, server):
    page = open_at(visit, server, "attribution")
    page.get_by_label("rather than").fill(" the")
    page.get_by_label("rather than").press("Enter")
    expect(page.get_by_label("rather than")).to_have_value("Ġthe")
    expect(page.locator(".inside-equation")).to_contain_text("− logit of")
    expect(said(page)).to_contain_text("attention adds")
    expect(page).to_have_url(re.compile("against="))
    page.get_by_role("button", name="layer 3, MLP").click()
    expect(page.get_by_role("heading", name="Layer 3, MLP: neuron by neuron")).to_be_visible()
    expect(page).to_have_url(re.compile("against=.*part=3.mlp"))


def test_pointing_at_a_token_lights_it_up_wherever_it_stands(visit, server):
    page = open_at(visit, server, "attribution", fields={"part": "1.attn.0"})
    page.locator(".inside-ledger tr[data-at='3']").hover()
    expect(page.locator(".inside-chip[data-at='3']")).to_have_class(re.compile(r"\blit\b"))
    page.keyboard.press("Escape")
    expect(page.locator(".lit")).to_have_count(0)


def test_boxes_are_walked_by_arrow_keys_and_both_texts_stream(visit, server):
    whole = open_at(visit, server, "ablate", fields={"parts": "3.1"}, java_script_enabled=False)
    expected = [whole.locator(f"#text-{side}").inner_text() for side in ("whole", "without")]
    page = open_at(visit, server, "ablate")
    page.locator(".inside-boxes input").first.focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowDown", "ArrowRight", "Space"):
        page.keyboard.press(key)
    expect(page.get_by_label("layer 3, head 1")).to_be_checked()
    page.locator("#off-run").press("Enter")
    expect(page.locator("#inside-texts-said")).to_have_text(TEXTS_SAID)
    for side, text in zip(("whole", "without"), expected, strict=True):
        expect(page.locator(f"#text-{side}")).to_have_text(text)
    expect(page.locator("#off-run")).to_be_focused()
    expect(page).to_have_url(re.compile("parts=3.1$"))
    expect(said(page)).to_contain_text("Without layer 3, head 1: logit of")
    page.keyboard.press("Tab")  # the link beside it; a table is one stop
    expect(page.get_by_role("link", name="All on again")).to_be_focused()


def test_both_texts_are_stopped_by_a_button_that_is_there_while_they_are_written(
    visit, slow_server
):
    page = open_at(visit, slow_server, "ablate", text="Slow: one two three")
    page.get_by_label("layer 2, MLP").check()
    page.locator("#off-run").click()
    expect(page.locator("#text-without")).to_contain_text("one")
    expect(page.locator("#texts-writing")).to_have_text("Writing…")
    page.get_by_role("button", name="Stop").press("Enter")
    slow_server.wait_for_load(0)  # long before 40 tokens at a quarter of a second each
    expect(page.locator("#texts-writing")).to_have_text("Stopped.")
    expect(page.locator("#texts-stop")).to_be_hidden()
    expect(page.locator("#off-run")).to_be_focused()
    written = page.locator("#text-whole").inner_text()
    assert 0 < len(written.split()) < 40
    page.get_by_text("How the two texts are written").click()
    page.get_by_label("Tokens", exact=True).fill("2")
    page.locator("#off-run").press("Enter")
    expect(page.locator("#inside-texts-said")).to_have_text(TEXTS_SAID)
    expect(page.locator("#texts-stop")).to_be_hidden()
    expect(page.locator("#texts-writing")).to_be_empty()


def test_texts_that_are_done_cannot_be_stopped(visit, server):
    page = open_at(visit, server, "ablate", fields=CHOSEN["ablate"])
    page.add_init_script(HOLD_ENDS)
    page.reload()
    page.get_by_label("layer 2, MLP").uncheck()
    page.locator("#off-run").click()
    expect(page.locator("#inside-texts-said")).to_have_text(TEXTS_SAID)
    expect(page.locator("#texts-writing")).to_be_empty()
    expect(page.locator("#texts-stop")).to_be_hidden()
    page.evaluate("endStreams()")
    settle(page)
    expect(page.locator("#texts-writing")).to_be_empty()


def test_the_rows_of_a_sweep_arrive_one_by_one_and_a_cell_turns_its_head_off(visit, server):
    page = open_at(visit, server, "ablate")
    page.locator("#sweep-run").click()
    expect(page.locator("#sweep-rows tr")).to_have_count(6)
    expect(page.locator("#inside-sweep-said")).to_contain_text("The most: layer")
    page.locator("#sweep-rows [value='5.0']").click()
    expect(page.locator("#inside-compared + p")).to_contain_text("layer 5, head 0")
    expect(page.locator("#sweep-rows [value='5.0']")).to_have_attribute("aria-current", "true")


def test_a_state_is_carried_over_from_a_grid_that_arrives_row_by_row(visit, server):
    page = open_at(visit, server, "patch")
    page.get_by_label("The other text").fill("too short")
    page.get_by_label("The other text").press("Enter")
    expect(page.locator("#other + [role=alert]")).to_contain_text("has 8 tokens, the other 2")
    page.get_by_label("The other text").fill("The dog sat on the mat because it")
    page.get_by_label("The other text").press("Enter")
    expect(page.locator("#patch-rows tr")).to_have_count(6)
    expect(page.get_by_label("The other text")).to_be_focused()
    results = Axe().run(page)
    assert results.violations_count == 0, results.generate_report()
    page.locator("#patch-rows [value='3.2']").click()
    expect(page.locator("#n-changed")).to_have_text(CHANGED)
    expect(page.locator("#patch-rows .inside-cone")).to_have_count(3 * 7)
    expect(said(page)).to_contain_text("Before layer 3, “Ġdog” in place of “Ġcat”")
    page.set_viewport_size({"width": 320, "height": 800})
    inside, outside = page.evaluate(
        "() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    assert inside <= outside
