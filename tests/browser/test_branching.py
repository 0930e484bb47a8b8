"""Candidates, branches, continuing and cutting back, in a real Chromium."""

import re
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import expect

from tests.browser.test_page import copied_link, done, generate, ids_in, pieces_in, type_prompt
from tests.browser.test_token_view import PHONE, WIDE, both_sizes, bytes_of, chip, facts
from tests.helpers.web import ROBOT, STORY, STORY_IDS, wait_until

N_PROMPT = len(STORY_IDS)
# Records at each redraw of the table the id of its drawn token and that of the newest chip.
WATCH_CHOSEN = """() => {
  window.redraws = [];
  new MutationObserver(() => {
    const drawn = document.querySelector("#next .chosen .candidate");
    const newest = [...document.querySelectorAll("#strip .generated")].at(-1);
    if (drawn) redraws.push([drawn.dataset.id, newest.dataset.id]);
  }).observe(document.getElementById("next"), {childList: true});
}"""

# The left and right edges of the first bar in a row, of its number, and of the second bar.
EDGES = """row => {
  const number = document.createRange();
  number.selectNodeContents(row.cells[2]);
  const [first, second] = row.querySelectorAll("meter");
  return [first, number, second].map((e) => e.getBoundingClientRect())
    .map(({left, right}) => [left, right]);
}"""


def next_bars(page) -> list[tuple[str, str, str]]:
    """Rows of "What comes next?": piece, the model's share, the share with the settings."""
    return [
        tuple(row)
        for row in page.locator("#next tbody tr").evaluate_all(
            "all => all.map(row => [row.querySelector('.piece').textContent,"
            " row.cells[2].textContent, row.cells[4].textContent])"
        )
    ]


def change(page, **fields) -> list[tuple[str, str, str]]:
    """The rows after these fields were changed."""
    before = page.locator("#next > *").first.element_handle()
    for name, value in fields.items():
        page.locator(f"#{name}").fill(str(value))
    wait_until(lambda: not before.evaluate("e => e.isConnected"), "new candidates")
    return next_bars(page)


def settled(page) -> None:
    """Wait for the candidates of the first visit, so that later ones can be distinguished."""
    expect(page.locator("#next tbody tr")).to_have_count(10)


def finished(page, n_chips: int) -> list[int]:
    """The ids of the strip once it has so many chips and the text is done."""
    expect(page.locator("#strip .chip")).to_have_count(n_chips)
    done(page)
    return ids_in(page, "#strip")


def seed(page) -> int:
    return int(re.search(r"seed (\d+)", page.locator("#progress").inner_text())[1])


def open_details(page, index: int):
    """Open the details of a chip of the result; the rows of candidates in them."""
    target = chip(page, "strip", index)
    target.tap() if page.viewport_size["width"] < 500 else target.click()
    return page.locator("#details tbody tr")


@pytest.fixture
def written(visit, server):
    """A page with twelve tokens after the beginning of a story."""

    def written(url=None, **options):
        page = visit(url or server.url, **{**WIDE, **options})
        generate(page, prompt=STORY, n_tokens=12, temperature=1, seed=5)
        finished(page, N_PROMPT + 12)
        return page

    return written


class TestNextToken:
    def test_candidates_appear_when_typing_pauses(self, visit, server):
        page = visit(f"{server.url}/?prompt=", **WIDE)
        expect(page.locator("#next")).to_contain_text("once there is a text")
        page.locator("#prompt").press_sequentially("Once upon a")
        settled(page)
        answer = server.generate_json(prompt="Once upon a", n_tokens=1, temperature=0)
        assert next_bars(page)[0][0] == answer["tokens"][0]["piece"]

    def test_candidates_disappear_with_their_prompt(self, visit, server):
        page = visit(server.url, **WIDE)
        settled(page)
        assert change(page, prompt="") == []
        settled_again = change(page, prompt="The king")
        assert len(settled_again) == 10
        assert change(page, temperature="hot") == []
        expect(page.locator("#error-temperature")).to_be_empty()  # nobody pressed Generate

    def test_each_control_changes_the_sampling_probabilities(self, visit, server):
        page = visit(f"{server.url}/?prompt=Lily+saw+a&temperature=1&top_k=0&top_p=1", **WIDE)
        settled(page)
        plain = next_bars(page)
        model = [(piece, share) for piece, share, _ in plain]
        assert [share for _, share, _ in plain] == [after for _, _, after in plain]

        cold, hot = change(page, temperature=0.5), change(page, temperature=2)
        number = lambda text: float(text.strip("<%"))  # noqa: E731
        assert number(cold[0][2]) > number(plain[0][2]) > number(hot[0][2])
        greedy = change(page, temperature=0)
        assert [after for _, _, after in greedy] == ["100%"] + ["cut off"] * 9
        three = change(page, temperature=1, top_k=3)
        assert [after == "cut off" for _, _, after in three] == [False] * 3 + [True] * 7
        assert 99 <= sum(number(after) for _, _, after in three[:3]) <= 101
        narrow = change(page, top_k=0, top_p=0.01)
        assert [after for _, _, after in narrow] == ["100%"] + ["cut off"] * 9
        for rows in (cold, hot, greedy, three, narrow):  # the model's own probabilities stay
            assert [(piece, share) for piece, share, _ in rows] == model

    @both_sizes
    def test_a_chosen_candidate_is_written_and_nothing_else(self, visit, server, size):
        page = visit(f"{server.url}/?prompt=Once+upon+a&n_tokens=40", **size)
        written = []
        for n in range(1, 4):
            settled(page)
            row = page.locator("#next tbody tr").nth(2)
            piece, share = row.locator(".piece").text_content(), row.locator("td").nth(1)
            share = share.text_content()
            button = row.get_by_role("button")
            button.tap() if size is PHONE else button.press("Enter")
            expect(page.locator("#strip .generated")).to_have_count(n)
            written.append(piece)
            assert pieces_in(page, "#strip")[3:] == written
            last = page.locator("#strip .generated").last
            expect(last.locator(".probability")).to_have_text(share)
            expect(last).to_have_css("outline-style", "dotted")
            expect(last).to_have_accessible_name(re.compile("chosen by hand$"))
            expect(page.locator("#next [data-after]")).to_have_attribute(
                "data-after", ",".join(map(str, ids_in(page, "#strip")[3:]))
            )
            if size is WIDE:  # the same place of the new list
                expect(page.locator("#next .candidate").nth(2)).to_be_focused()
        expect(page.locator("#strip [aria-label*='chosen by hand']")).to_have_count(3)
        assert page.locator("#text").text_content().startswith("Once upon a")
        expect(page.locator("#status")).to_contain_text("Written by hand")

    def test_candidates_always_follow_the_text_that_is_shown(self, visit, slow_server):
        page = visit(slow_server.url, **WIDE)

        def follow(made: int) -> None:
            ids = ids_in(page, "#strip")[-made:] if made else []
            after = page.locator("#next [data-after]")
            expect(after).to_have_attribute("data-after", ",".join(map(str, ids)))
            end = page.locator("#text").text_content()[-12:] if made else "king"
            expect(page.locator("#next .hint")).to_contain_text(f"{end}”")

        type_prompt(page, "Echo: the king")
        follow(0)
        page.evaluate(WATCH_CHOSEN)
        generate(page, n_tokens=60)
        expect(page.locator("#next-heading")).to_have_text("Chosen just now")
        done(page)
        redraws = page.evaluate("() => redraws")
        assert len(redraws) > 5 and all(drawn == newest for drawn, newest in redraws)
        expect(page.locator("#next-heading")).to_have_text("What comes next?")
        follow(60)
        page.locator("#n_tokens").fill("5")
        page.get_by_role("button", name="Continue").click()
        expect(page.locator("#strip .generated")).to_have_count(65)
        done(page)
        follow(65)
        page.locator("#strip .generated").nth(6).click()
        page.get_by_role("button", name="Cut the text after this token").click()
        follow(7)
        page.get_by_role("button", name="Undo").click()
        follow(65)
        earlier, heading = page.locator("#earlier"), page.locator("#next-heading")
        expect(earlier).to_be_hidden()
        type_prompt(page, "Slow: the king")
        expect(earlier).to_be_visible()
        follow(0)
        expect(heading).to_have_text("What comes after the new prompt?")
        expect(page.locator("#text")).to_have_css("filter", "grayscale(1)")
        page.locator("#prompt").fill("Echo: the king")
        expect(earlier).to_be_hidden()
        follow(65)
        expect(heading).to_have_text("What comes next?")
        generate(page, prompt="Slow: the king", n_tokens=200)
        expect(page.locator("#strip .generated").nth(3)).to_be_attached()
        expect(earlier).to_be_hidden()
        page.locator("#stop").click()
        follow(page.locator("#strip .generated").count())

    def test_a_hand_written_token_can_be_undone(self, visit, server):
        page = visit(f"{server.url}/?prompt=Once+upon+a&n_tokens=4", **WIDE)
        generate(page)
        before = finished(page, 3 + 4)
        settled(page)
        page.locator("#next tbody button").first.click()
        expect(page.locator("#strip .chip")).to_have_count(3 + 5)
        page.locator("#text").focus()
        page.keyboard.press("Control+z")
        expect(page.locator("#strip .chip")).to_have_count(3 + 4)
        assert ids_in(page, "#strip") == before
        expect(page.locator("#status")).to_contain_text("Done")
        expect(page.get_by_role("button", name="Undo")).to_be_hidden()

    def test_a_candidate_of_another_prompt_begins_another_text(self, visit, server):
        page = visit(f"{server.url}/?prompt=Once+upon&n_tokens=4", **WIDE)
        generate(page)
        before = finished(page, 2 + 4)
        change(page, prompt="The old king")
        page.locator("#next tbody button").first.click()
        expect(page.locator("#strip .chip")).to_have_count(3 + 1)
        assert chip(page, "strip", 3).get_attribute("data-candidates")
        page.get_by_role("button", name="Undo").click()
        assert ids_in(page, "#strip") == before
        expect(page.locator("#prompt")).to_have_value("The old king")

    def test_a_busy_model_is_a_hint_and_no_error(self, visit, own_server):
        with own_server(app="tests.helpers.paced:create_app()", GPT2_MAX_BATCH=1) as server:
            other = visit(server.url, **WIDE)
            settled(other)  # one request at a time
            page = visit(server.url, **WIDE)
            settled(page)
            generate(other, prompt="Slow: and", n_tokens=200)
            expect(other.locator("#strip .generated").first).to_be_attached()
            page.locator("#temperature").fill("2")
            expect(page.locator("#next")).to_contain_text("Others are generating")
            other.keyboard.press("Escape")
            settled(page)  # by itself, once there is room

    def test_what_a_bad_setting_spoils_says_so(self, visit, server):
        page = visit(server.url, **WIDE)
        settled(page)
        slider, error = page.locator('[data-for="temperature"]'), page.locator("#error-temperature")
        before = slider.input_value()
        page.locator("#temperature").fill("hot")
        expect(page.locator("#next")).to_contain_text("Temperature: 'hot' is not a number.")
        expect(error).to_be_empty()  # it may not be finished
        page.keyboard.press("Tab")
        expect(error).to_have_text("Temperature: 'hot' is not a number.")
        expect(page.locator("#temperature")).to_have_attribute("aria-invalid", "true")
        assert slider.input_value() == before  # no number, no place
        page.locator("#temperature").fill("0.5")
        expect(error).to_be_empty()
        page.locator("#seed").focus()
        settled(page)
        expect(page.locator("[aria-invalid]")).to_have_count(0)

    def test_both_bars_of_a_candidate_have_one_scale(self, visit, server):
        page = visit(f"{server.url}/?prompt=Once+upon+a&temperature=1&top_k=0&top_p=1", **WIDE)
        settled(page)
        widths = page.locator("#next tbody meter").evaluate_all(
            "all => all.map(e => e.clientWidth)"
        )
        assert len(set(widths)) == 1
        bar, number, other = page.locator("#next tbody tr").first.evaluate(EDGES)
        assert number[0] - bar[1] < 12  # a number stands beside its own bar
        assert other[0] - number[1] > 24


class TestBranching:
    @both_sizes
    def test_an_alternative_replaces_the_token_and_is_continued(self, written, server, size):
        page = written(**size)
        before = ids_in(page, "#strip")
        at = N_PROMPT + 4
        alternatives = open_details(page, at)
        assert alternatives.count() in (10, 11)  # the drawn one is always there
        shares = page.locator("#details td:nth-child(3)").all_text_contents()
        assert all(re.fullmatch(r"(<0\.1|\d+(\.\d)?)%", share) for share in shares)
        expect(page.locator("#details .chosen")).to_have_count(1)
        numbers = [float(share.split("%")[0].strip("<")) for share in shares]
        assert numbers == sorted(numbers, reverse=True) and sum(numbers) < 102
        other = page.locator("#details tbody tr:not(.chosen)").nth(1)
        piece = other.locator(".piece").text_content()
        kept = {
            i: chip(page, "strip", i).get_attribute("data-candidates")
            for i in range(N_PROMPT, at + 1)
        }
        share = other.locator("td").nth(1).text_content()
        other.get_by_role("button").click()
        after = finished(page, at + 1 + 12)
        assert after[:at] == before[:at] and after[at] != before[at]
        assert pieces_in(page, "#strip")[at] == piece
        expect(page.locator("#details")).to_be_hidden()
        by_hand = page.locator("#strip [aria-label*='chosen by hand']")
        expect(by_hand).to_have_count(1)
        expect(by_hand).to_have_attribute("data-index", str(at))
        for i, candidates in kept.items():  # the candidates there are carried over
            assert chip(page, "strip", i).get_attribute("data-candidates") == candidates
            expect(chip(page, "strip", i).locator(".probability")).to_contain_text("%")
        expect(chip(page, "strip", at).locator(".probability")).to_have_text(share)
        made = ",".join(map(str, after[N_PROMPT : at + 1]))
        answer = server.generate_json(
            prompt=STORY, kept=made, n_tokens=12, temperature=1, seed=seed(page)
        )
        assert after[at + 1 :] == [token["id"] for token in answer["tokens"]]

    def test_the_details_show_the_numbers_as_the_server_spelled_them(self, written):
        page = written()
        candidate = {
            "id": 13, "piece": ".", "readable": ".", "note": "", "drawn": "", "probability": 0.125,
            "percent": "12%", "level": 1, "sampling": 0.25, "sampling_percent": "25%",
        }  # fmt: skip
        chip(page, "strip", N_PROMPT).evaluate(
            "(e, candidate) => { e.dataset.candidates = JSON.stringify([candidate]); }", candidate
        )
        (row,) = open_details(page, N_PROMPT).all()
        assert row.locator(".piece").text_content() == "."
        assert row.locator("td").all_text_contents() == ["", "12%", "", "25%"]  # scripts round up
        values = row.locator("meter").evaluate_all("all => all.map(e => e.value)")
        assert values == [0.125, 0.25]

    def test_the_drawn_token_is_always_among_the_candidates_with_its_rank(self, visit, server):
        page = visit(server.url, **WIDE)
        generate(page, prompt=STORY, n_tokens=60, temperature=3, top_k=0, seed=2)
        finished(page, N_PROMPT + 60)
        n_beyond = 0
        for one in page.locator("#strip .generated").all():
            one.click()
            chosen = page.locator("#details tr.chosen")
            expect(chosen).to_have_count(1)
            assert chosen.locator(".piece").text_content() == one.locator(".piece").text_content()
            share = one.locator(".probability").text_content()
            assert chosen.locator("td").nth(1).text_content() == share
            if page.locator("#details tbody tr").count() == 11:
                n_beyond += 1
                text = chosen.locator(".drawn").text_content()
                rank = re.fullmatch(r"([\d,]+)(st|nd|rd|th), drawn", text)[1]
                assert int(rank.replace(",", "")) > 10
        assert n_beyond > 5

    def test_with_the_keyboard_alone(self, written):
        page = written()
        page.locator("#strip .generated").first.focus()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Enter")
        for _ in range(3):  # the button that closes, the first and the second alternative
            page.keyboard.press("Tab")
        chosen = page.evaluate("() => document.activeElement.querySelector('.piece').textContent")
        page.keyboard.press("Enter")
        finished(page, N_PROMPT + 2 + 12)
        assert pieces_in(page, "#strip")[N_PROMPT + 1] == chosen
        expect(page.locator("#text")).to_be_focused()

    def test_a_branch_belongs_to_its_prompt(self, written):
        page = written()
        type_prompt(page, "Something else altogether")
        open_details(page, N_PROMPT + 2).nth(3).get_by_role("button").click()
        ids = finished(page, N_PROMPT + 3 + 12)
        assert ids[:N_PROMPT] == STORY_IDS
        expect(page.locator("#prompt")).to_have_value(STORY)
        expect(page.locator("#prompt-strip .chip")).to_have_count(N_PROMPT)

    def test_a_text_can_be_branched_off_while_it_is_generated(self, visit, slow_server):
        page = visit(slow_server.url, **WIDE)
        generate(page, prompt="Slow: and", n_tokens=200)
        expect(page.locator("#strip .generated").nth(3)).to_be_attached()
        page.locator("#n_tokens").fill("2")
        alternatives = open_details(page, 4)
        expect(alternatives.nth(9)).to_be_visible()
        piece = alternatives.nth(2).locator(".piece").text_content()
        alternatives.nth(2).get_by_role("button").click()
        finished(page, 5 + 2)
        assert pieces_in(page, "#strip")[4] == piece
        slow_server.wait_for_load(0)


class TestContinuingAndCutting:
    def test_continue_adds_to_what_is_there(self, written):
        page = written()
        before, thoughts = ids_in(page, "#strip"), page.locator("#strip [data-candidates]")
        page.get_by_role("button", name="Continue").click()
        after = finished(page, N_PROMPT + 24)
        assert after[: N_PROMPT + 12] == before
        expect(thoughts).to_have_count(24)
        expect(page.locator("#status")).to_contain_text("12 tokens")

    def test_regenerate_takes_another_seed(self, written):
        page = written()
        assert seed(page) == 5
        page.get_by_role("button", name="Regenerate").click()
        expect(page.locator("#progress")).not_to_contain_text(re.compile(r"seed 5$"))
        ids = finished(page, N_PROMPT + 12)
        assert ids[:N_PROMPT] == STORY_IDS
        assert seed(page) != 5
        expect(page.locator("#seed")).to_have_value("")  # which 5 would contradict

    def test_regenerate_keeps_what_the_run_began_with(self, written):
        page = written()
        before = ids_in(page, "#strip")
        page.get_by_role("button", name="Continue").click()
        finished(page, N_PROMPT + 24)
        type_prompt(page, "Something else")
        page.get_by_role("button", name="Regenerate").click()
        expect(page.locator("#progress")).not_to_contain_text(re.compile(r"seed 5$"))
        assert finished(page, N_PROMPT + 24)[: N_PROMPT + 12] == before
        expect(page.locator("#prompt")).to_have_value(STORY)

    @pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
    def test_regenerate_keeps_a_quotation_mark_whose_id_is_one(self, visit, server, scripts):
        address = f"{server.url}/?prompt=He+said&kept=1&n_tokens=3&seed=7"
        page = visit(address, java_script_enabled=scripts, **WIDE)
        assert finished(page, 2 + 1 + 3)[2] == 1
        page.get_by_role("button", name="Regenerate").click()
        expect(page.locator("#progress")).not_to_contain_text(re.compile(r"seed 7$"))
        assert finished(page, 2 + 1 + 3)[2] == 1

    def test_a_stopped_text_is_regenerated_after_what_it_began_with(self, visit, slow_server):
        page = visit(f"{slow_server.url}/?prompt=Slow:+and&kept=1&n_tokens=200", **WIDE)
        page.locator("#generate").click()
        expect(page.locator("#strip .generated").nth(3)).to_be_attached()
        page.locator("#stop").click()
        page.locator("#n_tokens").fill("2")
        page.get_by_role("button", name="Regenerate").click()
        assert finished(page, 3 + 1 + 2)[3] == 1

    def test_a_text_can_be_cut_and_continued(self, written):
        page = written()
        before, at = ids_in(page, "#strip"), N_PROMPT + 5
        spans = page.locator("#text .made").all_text_contents()
        open_details(page, at)
        page.get_by_role("button", name="Cut the text after this token").click()
        assert ids_in(page, "#strip") == before[: at + 1]
        assert page.locator("#continuation").text_content() == "".join(spans[:6])
        expect(page.locator("#status")).to_contain_text("6 generated tokens")
        expect(chip(page, "strip", at)).to_be_focused()
        page.get_by_role("button", name="Continue").click()
        after = finished(page, at + 1 + 12)
        assert after[: at + 1] == before[: at + 1]

    def test_a_cut_inside_a_character_leaves_no_bracket(self, visit, slow_server):
        page = visit(slow_server.url, **WIDE)
        generate(page, prompt=f"Echo:a{ROBOT}", n_tokens=4)
        done(page)
        first = page.locator("#strip .generated").nth(1)
        first.click()
        expect(page.locator("#details")).to_contain_text(f"part of “{ROBOT}”")
        page.get_by_role("button", name="Cut the text after this token").click()
        assert page.locator("#continuation").text_content() == "a"
        assert bytes_of(page, "strip") == f"Echo:a{ROBOT}a".encode() + b"\xf0\x9f"
        expect(page.locator("#strip .group .generated")).to_have_count(0)
        first.click()
        assert facts(page)["Text"] == "not a whole character"

    def test_a_stopped_text_can_be_continued(self, visit, slow_server):
        page = visit(slow_server.url, **WIDE)
        generate(page, prompt="Slow: and", n_tokens=200)
        expect(page.locator("#strip .generated").nth(1)).to_be_attached()
        page.locator("#stop").click()
        made = ids_in(page, "#strip")
        page.locator("#n_tokens").fill("2")
        page.get_by_role("button", name="Continue").click()
        assert finished(page, len(made) + 2)[: len(made)] == made
        expect(page.get_by_role("button", name="Regenerate")).to_be_visible()

    def test_the_link_of_a_branch_gives_its_text_again(self, written):
        page = written(permissions=["clipboard-read", "clipboard-write"])
        open_details(page, N_PROMPT + 2).nth(4).get_by_role("button").click()
        ids = finished(page, N_PROMPT + 3 + 12)
        text = page.locator("#text").text_content()
        link = copied_link(page)
        kept = parse_qs(urlsplit(link).query)["kept"]
        assert kept == [",".join(map(str, ids[N_PROMPT : N_PROMPT + 3]))]
        page.goto(link)
        assert finished(page, N_PROMPT + 3 + 12) == ids
        assert page.locator("#text").text_content() == text

    def test_a_candidate_continues_the_kept_tokens_of_a_link(self, visit, server):
        kept = ",".join(map(str, STORY_IDS[3:]))
        page = visit(f"{server.url}/?prompt=One+day,&kept={kept}&n_tokens=2", **WIDE)
        settled(page)
        row = page.locator("#next tbody tr").nth(1)
        piece = row.locator(".piece").text_content()
        row.get_by_role("button").click()
        expect(page.locator("#strip .chip")).to_have_count(N_PROMPT + 1)
        assert ids_in(page, "#strip")[:N_PROMPT] == STORY_IDS
        assert pieces_in(page, "#strip")[N_PROMPT] == piece
        # Chips that a link kept have no candidates, but the text can be cut there all the same.
        open_details(page, N_PROMPT - 2)
        page.get_by_role("button", name="Cut the text after this token").click()
        assert ids_in(page, "#strip") == STORY_IDS[:-1]


class TestKeptTokensOfALink:
    KEPT = ",".join(map(str, STORY_IDS[3:]))

    @pytest.fixture
    def linked(self, visit, server):
        """The page of a link that keeps the last two thirds of the story's beginning."""
        address = f"{server.url}/?prompt=One+day,&kept={self.KEPT}&n_tokens=2"
        return lambda **options: visit(address, **{**WIDE, **options})

    @pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
    def test_it_is_shown_before_anything_is_generated(self, linked, scripts):
        page = linked(java_script_enabled=scripts)
        assert ids_in(page, "#strip") == STORY_IDS
        assert page.locator("#text").text_content() == STORY
        made = page.locator("#strip .generated")
        expect(made).to_have_count(len(STORY_IDS) - 3)
        expect(made.first).to_have_css("background-image", "none")  # its probability is unknown
        expect(page.get_by_text("The bar: how probable")).to_be_hidden()
        expect(page.locator("#shared")).to_contain_text("A shared text")
        expect(page.get_by_role("button", name="Copy link")).to_be_visible(visible=scripts)
        page.get_by_role("button", name="Regenerate").click()
        assert finished(page, 3 + 2)[:3] == STORY_IDS[:3]
        expect(page.locator("#shared")).to_have_count(0)

    def test_one_kept_token_is_singular(self, visit, server):
        page = visit(f"{server.url}/?prompt=Not&kept=477", **WIDE)
        expect(page.locator("#kept")).to_contain_text("1 generated token that")

    @pytest.mark.parametrize("by", ["typing", "an example"])
    def test_another_prompt_drops_it(self, linked, by):
        page = linked()
        if by == "typing":
            type_prompt(page, "The king")
        else:
            page.get_by_text("Examples").click()
            page.get_by_text("Once upon a time, there was a little").click()
        expect(page.locator("#kept")).to_be_empty()
        page.locator("#generate").click()
        finished(page, {"typing": 2, "an example": 9}[by] + 2)

    def test_the_same_prompt_keeps_it(self, linked):
        page = linked()
        page.locator("#prompt").press("End")
        page.locator("#n_tokens").fill("3")
        page.locator("#generate").click()
        assert finished(page, N_PROMPT + 3)[:N_PROMPT] == STORY_IDS

    @pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
    def test_it_can_be_continued(self, linked, scripts):
        page = linked(java_script_enabled=scripts)
        page.get_by_role("button", name="Continue").click()
        assert finished(page, N_PROMPT + 2)[:N_PROMPT] == STORY_IDS

    def test_starting_from_the_prompt_leaves_the_settings(self, linked):
        page = linked()
        page.get_by_role("link", name="Start from the prompt instead").click()
        expect(page.locator("#kept")).to_be_empty()
        expect(page.locator("#strip .chip")).to_have_count(0)
        for name, value in {"prompt": "One day,", "n_tokens": "2"}.items():
            expect(page.locator(f"#{name}")).to_have_value(value)

    def test_one_can_branch_off_from_it(self, linked):
        page = linked()
        open_details(page, N_PROMPT - 2)
        page.get_by_role("button", name="Cut the text after this token").click()
        assert ids_in(page, "#strip") == STORY_IDS[:-1]
        page.get_by_role("button", name="Continue").click()
        assert finished(page, N_PROMPT - 1 + 2)[: N_PROMPT - 1] == STORY_IDS[:-1]


class TestWithoutJavaScript:
    def test_continue_regenerate_and_the_link_work(self, written, server):
        page = written(java_script_enabled=False, **PHONE)
        before = ids_in(page, "#strip")
        page.get_by_role("button", name="Continue").click()
        after = finished(page, N_PROMPT + 24)
        assert after[: N_PROMPT + 12] == before
        page.get_by_role("link", name="Link to this").click()
        expect(page.locator("#shared")).to_be_visible()  # the server generates what it describes
        assert finished(page, N_PROMPT + 24) == after
        page.get_by_role("button", name="Regenerate").click()
        expect(page.locator("#progress")).not_to_contain_text(re.compile(r"seed 5$"))
        again = finished(page, N_PROMPT + 24)
        assert again[: N_PROMPT + 12] == before  # what the link keeps stays
