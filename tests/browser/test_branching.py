"""Candidates, branches, continuing and cutting back, in a real Chromium."""

import re
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import expect

from tests.browser.test_page import done, generate, ids_in, pieces_in, type_prompt
from tests.browser.test_token_view import PHONE, WIDE, both_sizes, bytes_of, chip, facts
from tests.helpers.web import HEROES, HEROES_IDS, ROBOT, wait_until

N_PROMPT = len(HEROES_IDS)


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


def open_card(page, index: int):
    """Open the card of a chip of the result; the alternatives in it."""
    target = chip(page, "strip", index)
    target.tap() if page.viewport_size["width"] < 500 else target.click()
    return page.locator("#card .alternatives li")


@pytest.fixture
def written(visit, server):
    """A page with twelve tokens after the heroes."""

    def written(url=None, **options):
        page = visit(url or server.url, **{**WIDE, **options})
        generate(page, prompt=HEROES, n_tokens=12, temperature=1, seed=5)
        finished(page, N_PROMPT + 12)
        return page

    return written


class TestNextToken:
    def test_candidates_appear_when_typing_pauses(self, visit, server):
        page = visit(f"{server.url}/?prompt=", **WIDE)
        expect(page.locator("#next")).to_contain_text("once there is a prompt")
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
        page = visit(f"{server.url}/?prompt=Once+upon+a&temperature=1&top_k=0&top_p=1", **WIDE)
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
    def test_a_chosen_candidate_is_continued(self, visit, server, size):
        page = visit(f"{server.url}/?prompt=Once+upon+a&n_tokens=4&seed=3", **size)
        settled(page)
        row = page.locator("#next tbody tr").nth(2)
        piece = row.locator(".piece").text_content()
        row.get_by_role("button").click()
        ids = finished(page, 3 + 1 + 4)
        assert pieces_in(page, "#strip")[3] == piece
        answer = server.generate_json(prompt="Once upon a", kept=str(ids[3]), n_tokens=4, seed=3)
        assert ids[4:] == [token["id"] for token in answer["tokens"]]

    def test_a_candidate_chosen_for_another_prompt_inherits_no_candidates(self, visit, server):
        page = visit(f"{server.url}/?prompt=Once+upon&n_tokens=4&seed=3", **WIDE)
        generate(page)
        finished(page, 2 + 4)
        change(page, prompt="The old king")
        page.locator("#next tbody button").first.click()
        finished(page, 3 + 1 + 4)
        assert chip(page, "strip", 3).get_attribute("data-candidates") is None
        assert chip(page, "strip", 4).get_attribute("data-candidates")

    def test_a_busy_model_is_a_hint_and_no_error(self, visit, own_server):
        with own_server(app="tests.helpers.paced:create_app()", GPT2_MAX_BATCH=1) as server:
            page = visit(server.url, **WIDE)
            settled(page)
            generate(page, prompt="Slow: and", n_tokens=200)
            expect(page.locator("#strip .generated").first).to_be_attached()
            page.locator("#temperature").fill("2")
            expect(page.locator("#next")).to_contain_text("Others are generating")
            page.keyboard.press("Escape")
            server.wait_for_load(0)
            assert len(change(page, temperature=1)) == 10


class TestBranching:
    @both_sizes
    def test_an_alternative_replaces_the_token_and_is_continued(self, written, server, size):
        page = written(**size)
        before = ids_in(page, "#strip")
        at = N_PROMPT + 4
        alternatives = open_card(page, at)
        expect(alternatives).to_have_count(10)
        shares = page.locator("#card .alternatives li > span").all_text_contents()
        assert all(re.fullmatch(r"(<0\.1|\d+(\.\d)?)%( chosen)?", share) for share in shares)
        assert sum("chosen" in share for share in shares) <= 1
        numbers = [float(share.split("%")[0].strip("<")) for share in shares]
        assert numbers == sorted(numbers, reverse=True) and sum(numbers) < 102
        other = page.locator("#card .alternatives li:not(.chosen)").nth(1)
        piece = other.locator(".piece").text_content()
        kept = {
            i: chip(page, "strip", i).get_attribute("data-candidates")
            for i in range(N_PROMPT, at + 1)
        }
        share = other.locator("> span").text_content()
        other.get_by_role("button").click()
        after = finished(page, at + 1 + 12)
        assert after[:at] == before[:at] and after[at] != before[at]
        assert pieces_in(page, "#strip")[at] == piece
        expect(page.locator("#card.pinned")).to_be_hidden()
        for i, candidates in kept.items():  # the candidates there are carried over
            assert chip(page, "strip", i).get_attribute("data-candidates") == candidates
            expect(chip(page, "strip", i).locator(".probability")).to_contain_text("%")
        expect(chip(page, "strip", at).locator(".probability")).to_have_text(share)
        made = ",".join(map(str, after[N_PROMPT : at + 1]))
        answer = server.generate_json(
            prompt=HEROES, kept=made, n_tokens=12, temperature=1, seed=seed(page)
        )
        assert after[at + 1 :] == [token["id"] for token in answer["tokens"]]

    def test_the_card_shows_the_numbers_as_the_server_spelled_them(self, written):
        page = written()
        candidates = [{"id": 13, "piece": ".", "probability": 0.125, "percent": "12%", "level": 1}]
        chip(page, "strip", N_PROMPT).evaluate(
            "(e, candidates) => { e.dataset.candidates = JSON.stringify(candidates); }", candidates
        )
        (row,) = open_card(page, N_PROMPT).all()
        assert row.locator(".piece").text_content() == "."
        assert row.locator("> span").text_content() == "12%"  # JavaScript rounds 12.5 to 13
        assert row.locator("meter").get_attribute("aria-label") == "12%"

    def test_with_the_keyboard_alone(self, written):
        page = written()
        page.locator("#strip .chip").first.focus()
        for _ in range(N_PROMPT + 1):
            page.keyboard.press("ArrowRight")
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")  # from the link to the first alternative
        page.keyboard.press("Tab")
        chosen = page.evaluate("() => document.activeElement.textContent")
        page.keyboard.press("Enter")
        finished(page, N_PROMPT + 2 + 12)
        assert pieces_in(page, "#strip")[N_PROMPT + 1] == chosen
        expect(page.locator("#text")).to_be_focused()

    def test_a_branch_belongs_to_its_prompt(self, written):
        page = written()
        type_prompt(page, "Something else altogether")
        open_card(page, N_PROMPT + 2).nth(3).get_by_role("button").click()
        ids = finished(page, N_PROMPT + 3 + 12)
        assert ids[:N_PROMPT] == HEROES_IDS
        expect(page.locator("#prompt")).to_have_value(HEROES)
        expect(page.locator("#prompt-strip .chip")).to_have_count(N_PROMPT)

    def test_a_text_can_be_branched_off_while_it_is_generated(self, visit, slow_server):
        page = visit(slow_server.url, **WIDE)
        generate(page, prompt="Slow: and", n_tokens=200)
        expect(page.locator("#strip .generated").nth(3)).to_be_attached()
        page.locator("#n_tokens").fill("2")
        alternatives = open_card(page, 4)
        expect(alternatives).to_have_count(10)
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
        assert ids[:N_PROMPT] == HEROES_IDS
        assert seed(page) != 5
        expect(page.locator("#seed")).to_have_value("5")

    def test_regenerate_keeps_what_the_run_began_with(self, written):
        page = written()
        before = ids_in(page, "#strip")
        page.get_by_role("button", name="Continue").click()
        finished(page, N_PROMPT + 24)
        type_prompt(page, "Something else")
        page.get_by_role("button", name="Regenerate").click()
        expect(page.locator("#progress")).not_to_contain_text(re.compile(r"seed 5$"))
        assert finished(page, N_PROMPT + 24)[: N_PROMPT + 12] == before
        expect(page.locator("#prompt")).to_have_value(HEROES)

    @pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
    def test_regenerate_keeps_a_quotation_mark_whose_id_is_one(self, visit, server, scripts):
        address = f"{server.url}/?prompt=He+said&kept=1&n_tokens=3&seed=7"
        page = visit(address, java_script_enabled=scripts, **WIDE)
        page.locator("#generate").click()
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
        open_card(page, at)
        page.get_by_role("button", name="Cut the text after this token").click()
        assert ids_in(page, "#strip") == before[: at + 1]
        assert page.locator("#continuation").text_content() == "".join(spans[:6])
        expect(page.locator("#status")).to_contain_text("6 generated tokens")
        expect(chip(page, "strip", at)).to_be_focused()
        page.get_by_role("button", name="Continue from here").click()
        after = finished(page, at + 1 + 12)
        assert after[: at + 1] == before[: at + 1]

    def test_a_cut_inside_a_character_leaves_no_bracket(self, visit, slow_server):
        page = visit(slow_server.url, **WIDE)
        generate(page, prompt=f"Echo:a{ROBOT}", n_tokens=4)
        done(page)
        first = page.locator("#strip .generated").nth(1)
        first.click()
        expect(page.locator("#card")).to_contain_text(f"part of “{ROBOT}”")
        page.get_by_role("button", name="Cut the text after this token").click()
        assert page.locator("#continuation").text_content() == "a"
        assert bytes_of(page, "strip") == f"Echo:a{ROBOT}a".encode() + b"\xf0\x9f"
        expect(page.locator("#strip .group .generated")).to_have_count(0)
        chip(page, "strip", 0).focus()
        first.focus()
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
        page = written()
        open_card(page, N_PROMPT + 2).nth(4).get_by_role("button").click()
        ids = finished(page, N_PROMPT + 3 + 12)
        text = page.locator("#text").text_content()
        page.get_by_role("link", name="Link to this").click()
        expect(page.locator("#kept")).to_contain_text("3 generated tokens")
        kept = parse_qs(urlsplit(page.url).query)["kept"]
        assert kept == [",".join(map(str, ids[N_PROMPT : N_PROMPT + 3]))]
        settled(page)
        page.locator("#generate").click()
        assert finished(page, N_PROMPT + 3 + 12) == ids
        assert page.locator("#text").text_content() == text

    def test_a_candidate_continues_the_kept_tokens_of_a_link(self, visit, server):
        kept = ",".join(map(str, HEROES_IDS[3:]))
        page = visit(f"{server.url}/?prompt=Not+all+heroes&kept={kept}&n_tokens=2", **WIDE)
        settled(page)
        row = page.locator("#next tbody tr").nth(1)
        piece = row.locator(".piece").text_content()
        row.get_by_role("button").click()
        ids = finished(page, N_PROMPT + 1 + 2)
        assert ids[:N_PROMPT] == HEROES_IDS
        assert pieces_in(page, "#strip")[N_PROMPT] == piece
        # Chips that a link kept have no candidates, but the text can be cut there all the same.
        open_card(page, N_PROMPT - 2)
        page.get_by_role("button", name="Cut the text after this token").click()
        assert ids_in(page, "#strip") == HEROES_IDS[:-1]


class TestKeptTokensOfALink:
    KEPT = ",".join(map(str, HEROES_IDS[3:]))

    @pytest.fixture
    def linked(self, visit, server):
        """The page of a link that keeps the second half of the heroes' sentence."""
        address = f"{server.url}/?prompt=Not+all+heroes&kept={self.KEPT}&n_tokens=2&seed=7"
        return lambda **options: visit(address, **{**WIDE, **options})

    @pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
    def test_it_is_shown_before_anything_is_generated(self, linked, scripts):
        page = linked(java_script_enabled=scripts)
        assert ids_in(page, "#strip") == HEROES_IDS
        assert page.locator("#text").text_content() == HEROES
        made = page.locator("#strip .generated")
        expect(made).to_have_count(4)
        expect(made.first).to_have_css("background-image", "none")  # its probability is unknown

    def test_one_kept_token_is_singular(self, visit, server):
        page = visit(f"{server.url}/?prompt=Not&kept=477", **WIDE)
        expect(page.locator("#kept")).to_contain_text("1 generated token that")

    @pytest.mark.parametrize("by", ["typing", "an example"])
    def test_another_prompt_drops_it(self, linked, by):
        page = linked()
        if by == "typing":
            type_prompt(page, "The king")
        else:
            page.get_by_text("Lily and Tom went to the park. They", exact=True).click()
        expect(page.locator("#kept")).to_be_empty()
        page.locator("#generate").click()
        finished(page, {"typing": 2, "an example": 10}[by] + 2)

    def test_the_same_prompt_keeps_it(self, linked):
        page = linked()
        page.locator("#prompt").press("End")
        page.locator("#n_tokens").fill("3")
        page.locator("#generate").click()
        assert finished(page, N_PROMPT + 3)[:N_PROMPT] == HEROES_IDS

    def test_starting_from_the_prompt_leaves_the_settings(self, linked):
        page = linked()
        page.get_by_role("link", name="Start from the prompt instead").click()
        expect(page.locator("#kept")).to_be_empty()
        expect(page.locator("#strip .chip")).to_have_count(0)
        for name, value in {"prompt": "Not all heroes", "n_tokens": "2", "seed": "7"}.items():
            expect(page.locator(f"#{name}")).to_have_value(value)

    def test_one_can_branch_off_from_it(self, linked):
        page = linked()
        open_card(page, N_PROMPT - 2)
        page.get_by_role("button", name="Cut the text after this token").click()
        assert ids_in(page, "#strip") == HEROES_IDS[:-1]
        page.get_by_role("button", name="Continue from here").click()
        assert finished(page, N_PROMPT - 1 + 2)[: N_PROMPT - 1] == HEROES_IDS[:-1]


class TestWithoutJavaScript:
    def test_continue_regenerate_and_the_link_work(self, written, server):
        page = written(java_script_enabled=False, **PHONE)
        before = ids_in(page, "#strip")
        page.get_by_role("button", name="Continue").click()
        after = finished(page, N_PROMPT + 24)
        assert after[: N_PROMPT + 12] == before
        page.get_by_role("link", name="Link to this").click()
        expect(page.locator("#kept")).to_contain_text("12 generated tokens")
        page.locator("#generate").click()
        assert finished(page, N_PROMPT + 24) == after
        page.get_by_role("button", name="Regenerate").click()
        expect(page.locator("#progress")).not_to_contain_text(re.compile(r"seed 5$"))
        again = finished(page, N_PROMPT + 24)
        assert again[: N_PROMPT + 12] == before  # what the link keeps stays
