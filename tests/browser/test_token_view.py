"""The token view in a real Chromium: strip, details, highlighting, views, any text."""

import json
import re
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import expect

from gpt2core.hparams import HParams
from gpt2core.tokenizer.table import ENDOFTEXT, build_vocabulary
from gpt2core.tokenizer.vocabulary import VOCAB_PATH, read_merges
from tests.browser.test_page import TRICKY, copied_link, done, fill, generate, ids_in, type_prompt
from tests.helpers.web import (
    HEROES,
    ROBOT,
    STORY,
    STORY_IDS,
    STORY_PIECES,
    wait_until,
    write_small_model,
)

WIDE = {"viewport": {"width": 1400, "height": 1000}}
EXTRA_WIDE = {"viewport": {"width": 1920, "height": 1080}}
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
FAMILY = "\N{MAN}\u200d\N{WOMAN}\u200d\N{GIRL}\u200d\N{BOY}"
PROMPT = f"a{ROBOT}b na\u00efve {ROBOT} said"
# How many tokens a piece of running text shows.
N_TOKENS = "({dataset: {first, last}}) => last - first + 1"
TEXTS = {
    "Latin": "The quick brown fox, don't you think?",
    "Greek": "Η γρήγορη αλεπού",
    "Cyrillic": "Съешь же ещё этих мягких булок",
    "Armenian": "Բարեւ աշխարհ",
    "Hebrew": "דג סקרן שט בים מאוכזב",
    "Arabic": "نص حكيم له سر قاطع",
    "Devanagari": "ऋषियों को सताने वाले दुष्ट",
    "Thai": "เป็นมนุษย์สุดประเสริฐ",
    "Georgian": "გამარჯობა მსოფლიო",
    "Amharic": "ሰላም ለዓለም",
    "Japanese": "いろはにほへと チリヌルヲ 日本語",
    "Korean": "다람쥐 헌 쳇바퀴에 타고파",
    "Chinese": "天地玄黃宇宙洪荒",
    "emoji": f"{FAMILY} {ROBOT}{ROBOT} \N{WAVING HAND SIGN}\U0001f3fe 🇺🇳",
    "combining": "Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢L e\u0301 \u0301",
    "both directions": "abc שלום def \u202eevil\u202c 123",
    "controls": "a\x01b\x7f\u200b\ufeff\u2028c\u00a0\t\n\n ",
    "long word": "Donaudampfschifffahrt" * 20 + "=" * 300 + "\u3000" * 20,
    "markup": TRICKY,
}
# Records which chips are at the end of the strip, and which of them in a bracket.
WATCH_BRACKETS = """() => {
  const strip = document.getElementById("strip");
  window.seen = [];
  new MutationObserver(() => {
    const counts = (e) => [e.classList.contains("group"), e.querySelectorAll(".chip").length];
    seen.push([...strip.children].slice(-3).map(counts));
  }).observe(strip, {childList: true});
}"""
SELECTED = """() => {
  const area = document.getElementById("prompt");
  return area.value.slice(area.selectionStart, area.selectionEnd);
}"""

N_STORY = len(STORY_IDS)
both_sizes = pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])


def chip(page, strip: str, index: int):
    return page.locator(f'#{strip} .chip[data-index="{index}"]')


def facts(page) -> dict[str, str]:
    """What the open details say."""
    details = page.locator("#details")
    expect(details).to_be_visible()
    names = details.locator("dt").all_text_contents()
    return dict(zip(names, details.locator("dd").all_text_contents(), strict=True))


def unfold(page) -> None:
    """Show the prompt's part of the strip."""
    page.locator("#fold").click()
    expect(page.locator("#strip .chip").first).to_be_visible()


def lit(page, inside: str) -> list[str]:
    """The texts (of chips: the indexes) that are lit up inside."""
    return page.locator(f"#{inside} .lit").evaluate_all(
        "all => all.map(e => e.dataset.index ?? e.textContent)"
    )


def focused(page) -> str | None:
    """The index of the chip that has the focus."""
    return page.evaluate("() => document.activeElement.dataset.index ?? null")


def bytes_of(page, strip: str) -> bytes:
    """The bytes of all chips of a strip, joined."""
    chips = page.locator(f"#{strip} .chip")
    return bytes.fromhex(chips.evaluate_all("all => all.map(e => e.dataset.bytes).join('')"))


def scrolls_sideways(page) -> bool:
    return page.evaluate(
        "() => document.documentElement.scrollWidth > document.documentElement.clientWidth"
    )


def tabbable(page, strip: str) -> list[str]:
    return page.locator(f'#{strip} .chip[tabindex="0"]').evaluate_all(
        "all => all.map(e => e.dataset.index)"
    )


@pytest.fixture
def echo(servers):
    """The page with a model controlled by the prompt, without pacing."""
    return servers("echo", app="tests.helpers.paced:create_app()")


class TestDetails:
    def check_robot(self, page, encoder, index=1):
        id = encoder.encode(ROBOT)[0]
        assert facts(page) == {
            "Text": f"part of “{ROBOT}”",
            "Id": f"{id:,}",
            "Bytes": "f0 9f",
            "Code points": "U+1F916",
            "Characters": str(index + 1),  # counted from 1
            "Made by": f"merge rank {encoder.merge_rank(id):,} of 50,000",
        }

    def test_a_click_opens_them_and_the_button_closes_them(self, visit, server, encoder):
        page = visit(server.url, **WIDE)
        type_prompt(page, PROMPT)
        page.clock.install()
        chip(page, "prompt-strip", 1).hover()
        page.clock.fast_forward(1000)
        expect(page.locator("#details")).to_be_hidden()  # nothing opens under a resting pointer
        chip(page, "prompt-strip", 1).click()
        self.check_robot(page, encoder)
        page.get_by_role("button", name="Close").click()
        expect(page.locator("#details")).to_be_hidden()

    def test_with_a_column_of_their_own_they_follow_the_pointer(self, visit, server, encoder):
        page = visit(server.url, **EXTRA_WIDE)
        type_prompt(page, PROMPT)
        expect(page.locator("#details")).to_contain_text("Choose a token")
        chip(page, "prompt-strip", 1).hover()
        expect(page.locator("#details dt").first).to_be_visible()
        self.check_robot(page, encoder)
        chip(page, "prompt-strip", 4).click()
        page.clock.install()
        chip(page, "prompt-strip", 1).hover()
        page.clock.fast_forward(1000)
        assert facts(page)["Text"] == "“b”"  # opened on purpose, they stay

    def test_while_open_they_follow_the_focus(self, visit, server, encoder):
        page = visit(server.url, **WIDE)
        type_prompt(page, PROMPT)
        chip(page, "prompt-strip", 0).focus()
        page.keyboard.press("ArrowRight")
        expect(page.locator("#details")).to_be_hidden()
        page.keyboard.press("Enter")
        self.check_robot(page, encoder)
        page.keyboard.press("Escape")
        chip(page, "prompt-strip", 4).click()
        chip(page, "prompt-strip", 4).focus()
        for _ in range(3):
            page.keyboard.press("ArrowLeft")
        self.check_robot(page, encoder)

    def test_on_a_phone_they_are_a_sheet_at_the_bottom(self, visit, server, encoder):
        page = visit(server.url, **PHONE)
        type_prompt(page, PROMPT)
        chip(page, "prompt-strip", 1).tap()
        self.check_robot(page, encoder)
        assert lit(page, "prompt-strip") == ["1", "2", "3"]
        box = page.locator("#details").bounding_box()
        assert (box["x"], box["width"]) == (0, 390)
        assert round(box["y"] + box["height"]) == 844
        assert box["height"] < 0.6 * 844
        page.get_by_role("button", name="Close").tap()
        expect(page.locator("#details")).to_be_hidden()

    @pytest.mark.parametrize(
        ("width", "height"),
        [(320, 640), (390, 844), (960, 540), (1280, 720), (1366, 768), (1920, 1080)],
    )
    def test_they_never_cover_the_token_they_explain(self, visit, server, width, height):
        page = visit(server.url, viewport={"width": width, "height": height})
        generate(page, prompt=STORY * 4, n_tokens=60, seed=3)
        done(page)
        chips = [chip(page, "prompt-strip", at) for at in range(0, 28, 7)]
        chips += [page.locator("#strip .generated").nth(at) for at in range(0, 60, 10)]
        for one in chips:
            one.click()
            expect(page.locator("#details dt").first).to_be_visible()
            token, details = one.bounding_box(), page.locator("#details").bounding_box()
            is_beside = (
                token["x"] + token["width"] <= details["x"]
                or details["x"] + details["width"] <= token["x"]
            )
            assert is_beside or token["y"] + token["height"] <= details["y"]
            assert 0 <= token["y"] and token["y"] + token["height"] <= height + 1
            page.keyboard.press("Escape")

    @both_sizes
    def test_they_lead_to_how_bpe_made_the_token(self, visit, server, size):
        page = visit(server.url, **size)
        type_prompt(page, HEROES)
        heroes = chip(page, "prompt-strip", 2)
        heroes.tap() if size is PHONE else heroes.click()
        page.get_by_role("link", name="How BPE made this token").click()
        expect(page.locator("#bpe-text")).to_have_value(" heroes")
        assert parse_qs(urlsplit(page.url).query) == {"text": [" heroes"]}

    def test_they_lead_to_how_a_special_token_was_read(self, visit, server):
        page = visit(server.url, **WIDE)
        type_prompt(page, f"Hi{ENDOFTEXT}")
        page.get_by_role("checkbox", name="special token").check()
        end = page.locator('#prompt-strip .chip[data-id="50256"]')
        end.click()
        page.get_by_role("link", name="How BPE made this token").click()
        expect(page.locator("#bpe-text")).to_have_value(ENDOFTEXT)
        asked = {"text": [ENDOFTEXT], "special_tokens": ["1"]}
        assert parse_qs(urlsplit(page.url).query) == asked
        expect(page.locator("main")).to_contain_text("A token of its own")

    def test_a_word_of_the_text_opens_those_of_its_token(self, visit, server):
        page = visit(server.url, **WIDE)
        generate(page, prompt=STORY, n_tokens=5)
        done(page)
        word = page.locator("#text .made").nth(2)
        word.click()
        assert facts(page)["Text"].strip("“”").replace("␣", " ") == word.text_content()
        expect(page.locator("#details tbody tr.chosen")).to_have_count(1)

    def test_white_space_and_single_bytes_are_described_in_words(self, visit, server):
        page = visit(server.url, **WIDE)
        type_prompt(page, "a\n\n b\x00")
        said = []
        for at in range(len(ids_in(page, "#prompt-strip"))):
            chip(page, "prompt-strip", at).click()
            said.append((facts(page)["Text"], facts(page)["Code points"], facts(page)["Made by"]))
        assert ("“a”", "U+0061", "no merge: a single byte") in said
        assert any(text.startswith("“↵") for text, _, _ in said)
        assert ("“␀”", "U+0000", "no merge: a single byte") in said

    def test_the_end_of_a_text_stands_for_no_character(self, visit, echo):
        page = visit(echo.url, **WIDE)
        generate(page, prompt="End: well", n_tokens=9)
        done(page)
        page.locator("#strip .chip").last.click()
        assert facts(page)["Made by"] == "no merge: a special token"
        assert facts(page)["Characters"] == "none: it ends the text"


class TestOwnVocabulary:
    @pytest.fixture
    def few(self, servers, tmp_path_factory):
        """The page with a model whose vocabulary has a thousand merges."""
        models = tmp_path_factory.mktemp("models")
        merges = read_merges(VOCAB_PATH)[:1_000]
        hparams = HParams(n_vocab=1_257, n_ctx=64, n_embd=12, n_head=2, n_layer=1)
        write_small_model(models / "few", hparams)
        (models / "few" / "encoder.json").write_text(json.dumps(build_vocabulary(merges)))
        (models / "few" / "vocab.bpe").write_text(
            "".join(f"{left} {right}\n" for left, right in merges)
        )
        return servers("few", GPT2_MODEL="few", GPT2_MODELS_DIR=models)

    def test_the_page_shows_its_own_numbers(self, visit, few):
        page = visit(f"{few.url}/?prompt=the", **WIDE)
        page.locator("#prompt-strip .chip").last.click()
        assert facts(page)["Made by"].endswith(" of 1,000")
        expect(page.get_by_text("list of 1,257;")).to_be_visible()
        page.goto(f"{few.url}/bpe?text=<|endoftext|>")
        expect(page.get_by_text("1,000 times")).to_be_visible()
        expect(page.get_by_text("special token of that name, 1256,")).to_be_visible()


class TestStrip:
    @both_sizes
    def test_each_chip_has_its_piece_and_id(self, visit, server, size):
        page = visit(server.url, **size)
        type_prompt(page, STORY)
        assert ids_in(page, "#prompt-strip") == STORY_IDS
        chips = page.locator("#prompt-strip .chip").all_inner_texts()
        expected = [[p, str(i)] for p, i in zip(STORY_PIECES, STORY_IDS, strict=True)]
        assert [text.split() for text in chips] == expected

    @both_sizes
    def test_tokens_of_one_character_are_bracketed_under_it(self, visit, server, size):
        page = visit(server.url, **size)
        type_prompt(page, f"a{ROBOT}b {FAMILY}")
        groups = page.locator("#prompt-strip .group")
        expect(groups.first.locator(".shared")).to_have_text(ROBOT)
        assert groups.first.locator(".id").all_text_contents() == ["8582", "97", "244"]
        sign, members = (
            groups.first.locator(name).bounding_box() for name in (".shared", ".members")
        )
        assert sign["y"] + sign["height"] <= members["y"] + 1
        shown = "".join(
            page.locator("#prompt-strip .group").evaluate_all("all => all.map(e => e.dataset.text)")
        )
        assert [c for c in FAMILY if c != "\u200d"] == [c for c in shown if c in FAMILY[::2]]

    def test_a_streamed_character_is_bracketed_when_it_is_complete(self, visit, slow_server):
        page = visit(slow_server.url, **WIDE)
        page.evaluate(WATCH_BRACKETS)
        text = f" and {ROBOT}"
        generate(page, prompt=f"End:{text}{text}", n_tokens=40)
        done(page)
        seen = page.evaluate("() => window.seen")
        assert any(items[-2:] == [[False, 1], [False, 1]] for items in seen if len(items) > 2)
        assert any(items[-1] == [True, 3] for items in seen if items)
        # in the prompt and in the continuation: the space's token and the sign's
        expect(page.locator("#strip .group .shared").filter(has_text=ROBOT)).to_have_count(4)
        assert bytes_of(page, "strip") == f"End:{text * 4}<|endoftext|>".encode()

    def test_generated_chips_differ_by_more_than_colour(self, visit, server):
        page = visit(server.url, **WIDE)
        generate(page, prompt=STORY, n_tokens=3)
        done(page)
        expect(page.locator(".fold-line")).to_contain_text("how probable the model found it")
        looks = page.locator("#strip .chip").evaluate_all(
            "all => all.map(e => [getComputedStyle(e).backgroundImage,"
            " e.querySelector('.probability')?.textContent])"
        )
        assert all(look == ["none", None] for look in looks[: len(STORY_IDS)])
        assert all("gradient" in image and "%" in share for image, share in looks[len(STORY_IDS) :])

    @both_sizes
    def test_pieces_texts_or_ids_are_shown_and_the_choice_is_remembered(self, visit, server, size):
        page = visit(server.url, **size)
        type_prompt(page, HEROES)
        heroes = chip(page, "prompt-strip", 2)
        piece, plain, id = (heroes.locator(name) for name in (".piece", ".readable", ".id"))
        expect(piece).to_be_visible()
        expect(plain).to_be_hidden()
        for label, visible in (("readable", plain), ("ids", id), ("pieces", piece)):
            page.locator("#views").get_by_text(label).click()
            for part in (piece, plain):
                expect(part).to_be_visible() if part is visible else expect(part).to_be_hidden()
            expect(id).to_be_visible()
        page.get_by_label("readable").check()
        assert plain.text_content() == "␣heroes"
        page.reload()
        expect(page.get_by_label("readable")).to_be_checked()
        expect(page.locator("#prompt-strip .readable").first).to_be_visible()
        expect(page.locator("#prompt-strip .piece").first).to_be_hidden()

    @both_sizes
    def test_in_the_text_it_is_running_text_whose_tokens_open(self, visit, server, size):
        page = visit(server.url, **size)
        type_prompt(page, HEROES)
        places = [page.locator(f"#{id}").bounding_box() for id in ("tokens", "settings")]
        page.get_by_label("in the text").check()
        link = page.get_by_role("link", name="How BPE cut this text").bounding_box()
        assert page.locator("#prompt-running").bounding_box()["y"] < link["y"]
        now = [page.locator(f"#{id}").bounding_box() for id in ("tokens", "settings")]
        if size is WIDE:  # on a phone the chips stand in two rows
            assert now == places  # nothing moves with the view
        type_prompt(page, f"{HEROES}\n\nAll {ROBOT} said")
        expect(page.locator("#prompt-strip")).to_be_hidden()
        running = page.locator("#prompt-running")
        assert running.inner_text() == f"{HEROES}\n\nAll {ROBOT} said"
        assert running.locator("span").filter(has_text=ROBOT).count() == 1
        line = "e => Math.round(e.getClientRects()[0].top)"
        last = running.locator("span").last.evaluate(line)
        assert last > running.locator("span").first.evaluate(line) + 40  # a newline breaks
        colours = running.locator("span").evaluate_all(
            "all => all.map(e => getComputedStyle(e).backgroundColor)"
        )
        assert all(a != b for a, b in zip(colours, colours[1:], strict=False))
        word = running.locator("span").filter(has_text="heroes")
        word.tap() if size is PHONE else word.click()
        assert facts(page)["Text"] == "“␣heroes”"
        page.keyboard.press("Escape")
        generate(page, n_tokens=4)
        done(page)
        expect(page.locator("#strip")).to_be_hidden()
        made = page.locator("#text .made")
        assert made.first.evaluate("e => getComputedStyle(e).backgroundColor") in colours

    def test_candidates_and_details_are_readable_too(self, visit, server):
        page = visit(f"{server.url}/?prompt=Once+upon+a", **WIDE)
        expect(page.locator("#next .candidate")).to_have_count(10)
        page.get_by_label("readable").check()
        for text in page.locator("#next .candidate").all_inner_texts():
            assert "Ġ" not in text and text.startswith("␣")
        chip(page, "prompt-strip", 1).click()
        assert page.locator(".details-title").inner_text() == "␣upon"

    def test_bytes_and_invisible_characters_look_like_what_they_are(self, visit, server):
        page = visit(server.url, **WIDE)
        type_prompt(page, f"{ROBOT} \u200d \u3000 \u2066 \ufe0f")
        page.get_by_label("readable").check()
        chips = page.locator("#prompt-strip .chip").all_inner_texts()
        assert chips[0].startswith("⟨f0 9f⟩")
        assert all(text.split("\n")[0].strip() for text in chips)  # none is empty
        brackets = page.locator("#prompt-strip .shared").all_inner_texts()
        assert all(text.strip() for text in brackets)
        assert {"U+200D", "U+3000", "U+2066", "U+FE0F"} <= set(
            " ".join(brackets + chips).replace("␣", " ").split()
        )

    def test_without_javascript_it_is_complete(self, visit, echo):
        page = visit(echo.url, java_script_enabled=False, **PHONE)
        generate(page, prompt=f"End: a {ROBOT}", n_tokens=20)
        done(page)
        assert bytes_of(page, "strip") == f"End: a {ROBOT} a {ROBOT}<|endoftext|>".encode()
        expect(page.locator("#strip .group .shared").filter(has_text=ROBOT)).to_have_count(2)
        title = page.locator("#strip .group .chip").first.get_attribute("title")
        assert re.search(r"\b20 ?f0", title)
        expect(page.locator("#views")).to_be_hidden()  # it needs a script
        assert not scrolls_sideways(page)


class TestScores:
    def test_a_switch_shows_them_they_follow_the_text_and_it_hides_them(self, visit, server):
        page = visit(server.url, **WIDE, permissions=["clipboard-read", "clipboard-write"])
        type_prompt(page, STORY)
        scored = page.locator("#prompt-strip.scored .chip")
        switch = page.locator("#scores")
        expect(page.locator("#next [data-after] .candidate").first).to_be_visible()
        expect(switch).to_have_text("How surprising?")
        switch.click()
        expect(scored).to_have_count(N_STORY)
        expect(scored.locator(".place")).to_have_count(N_STORY - 1)
        expect(switch).to_be_focused()
        # Its style sheet comes with the scores.
        expect(scored.nth(1)).not_to_have_css("border-top-style", "none")
        # The chips are those of the strip: they open, and show in place of the running text.
        scored.nth(2).click()
        assert facts(page)
        page.keyboard.press("Escape")
        page.get_by_label("in the text").check()
        expect(scored.first).to_be_visible()
        expect(page.locator("#prompt-running")).to_be_hidden()
        page.locator("#prompt").focus()
        page.keyboard.press("End")
        page.keyboard.type(" now")
        expect(scored).to_have_count(N_STORY + 1)
        page.locator("#next [data-after] .candidate").first.click()
        link = parse_qs(urlsplit(copied_link(page)).query)  # of a text that goes on by hand
        assert "kept" in link and "scores" not in link
        switch.focus()
        page.keyboard.press("Enter")
        expect(page.locator("#prompt-running")).to_be_visible()
        expect(switch).to_have_text("How surprising?")
        expect(switch).to_be_focused()
        page.keyboard.press("Control+End")
        page.locator("#prompt").focus()
        page.keyboard.type(" then")
        expect(page.locator("#counts")).to_contain_text(f"{N_STORY + 2} tokens")
        expect(scored).to_have_count(0)


class TestHighlighting:
    def test_a_chip_of_the_prompt_highlights_its_characters(self, visit, server):
        page = visit(server.url, **WIDE)
        type_prompt(page, PROMPT)
        mark = page.locator("#mirror mark")
        for index, characters in ((0, "a"), (2, ROBOT), (4, "b")):
            chip(page, "prompt-strip", index).hover()
            expect(mark).to_have_text(characters)
        said = page.locator("#prompt-strip .chip").last
        said.hover()
        assert mark.text_content() == " said"
        assert page.locator("#mirror").text_content() == PROMPT + "\n"
        page.locator("#prompt-heading").hover()
        expect(mark).to_have_count(0)
        said.focus()
        assert mark.text_content() == " said"

    def test_the_highlight_lies_behind_the_characters_of_the_text_area(self, visit, server):
        page = visit(server.url, **PHONE)
        type_prompt(page, f"{STORY} {ROBOT}\n" * 12)
        page.locator("#prompt-strip .chip").first.focus()
        page.keyboard.press("End")
        sizes = page.evaluate(
            "() => ['prompt', 'mirror'].map(id => document.getElementById(id))"
            ".map(e => [e.clientWidth, e.scrollHeight, e.scrollTop, getComputedStyle(e).font])"
        )
        assert sizes[0] == sizes[1]
        page.locator("#prompt").evaluate("e => { e.scrollTop = 40; }")
        wait_until(
            lambda: page.locator("#mirror").evaluate("e => e.scrollTop") == 40, "the same scroll"
        )

    def test_a_click_on_a_chip_selects_its_characters(self, visit, server):
        page = visit(server.url, **WIDE)
        type_prompt(page, PROMPT)
        for index, characters in ((4, "b"), (3, ROBOT)):
            chip(page, "prompt-strip", index).click()
            expect(chip(page, "prompt-strip", index)).to_be_focused()
            expect(page.locator("#mirror mark")).to_have_text(characters)
            assert page.evaluate(SELECTED) == characters
        page.locator("#prompt-strip .chip").last.click()
        assert page.evaluate(SELECTED) == " said"
        page.locator("#prompt").press_sequentially(" wrote")  # over the selection
        expect(page.locator("#prompt")).to_have_value(PROMPT.replace(" said", " wrote"))
        expect(page.locator("#details")).to_be_hidden()

    def test_a_tap_on_a_chip_selects_without_opening_a_keyboard(self, visit, server):
        page = visit(server.url, **PHONE)
        type_prompt(page, PROMPT)
        page.locator("#prompt").blur()
        page.locator("#prompt-strip .chip").last.tap()
        assert page.evaluate(SELECTED) == " said"
        expect(page.locator("#prompt")).not_to_be_focused()

    def test_a_selection_in_the_text_area_highlights_chips(self, visit, server):
        page = visit(server.url, **WIDE)
        type_prompt(page, PROMPT)
        last = page.locator("#prompt-strip .chip").count() - 1
        page.locator("#prompt").focus()
        page.keyboard.press("Control+Home")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Shift+ArrowRight")  # over the robot
        wait_until(lambda: lit(page, "prompt-strip") == ["1", "2", "3"], "the robot's chips")
        page.keyboard.press("Control+End")
        for _ in range(4):
            page.keyboard.press("Shift+ArrowLeft")
        wait_until(lambda: lit(page, "prompt-strip") == [str(last)], "the last chip")
        page.mouse.move(700, 5)
        page.mouse.move(700, 900)
        assert lit(page, "prompt-strip") == [str(last)]  # it stays highlighted while it is selected
        page.keyboard.press("Control+a")
        wait_until(lambda: len(lit(page, "prompt-strip")) == last + 1, "all chips")
        page.keyboard.press("ArrowRight")
        wait_until(lambda: lit(page, "prompt-strip") == [], "none")

    @pytest.fixture
    def written(self, visit, echo):
        """A page with a finished text whose middle is an emoji."""

        def written(**size):
            page = visit(echo.url, **size)
            generate(page, prompt=f"End: one{ROBOT} two", n_tokens=20)
            done(page)
            unfold(page)
            return page

        return written

    def test_a_chip_of_the_result_highlights_its_text(self, written):
        page = written(**WIDE)
        texts = {0: "End", 2: " one", 3: ROBOT, 5: ROBOT, 6: " two", 7: " one", 9: ROBOT}
        for index, text in texts.items():
            chip(page, "strip", index).hover()
            assert lit(page, "text")[-1] == text, index
            assert lit(page, "strip") == [str(index)]
        page.locator("#result-heading").hover()
        assert lit(page, "text") == lit(page, "strip") == []

    def test_text_highlights_its_chips(self, written):
        page = written(**WIDE)
        page.locator("#continuation .made").filter(has_text=ROBOT).hover()
        assert lit(page, "strip") == ["8", "9", "10"]
        page.locator("#prompt-text span").filter(has_text=ROBOT).hover()
        ink = page.locator("body").evaluate("e => getComputedStyle(e).color")
        expect(page.locator("#text .lit")).to_have_css("color", ink)  # the prompt is lighter
        assert lit(page, "strip") == ["3", "4", "5"]
        assert lit(page, "text") == [ROBOT]
        page.locator("#result-heading").hover()
        assert lit(page, "strip") == []

    def test_selected_text_keeps_its_chips_highlighted(self, written):
        page = written(**WIDE)
        page.locator("#continuation .made").last.scroll_into_view_if_needed()
        page.locator("#continuation .made").filter(has_text="one").dblclick()
        wait_until(lambda: lit(page, "strip") == ["7"], "the chip of the word")
        page.locator("#result-heading").hover()
        assert lit(page, "strip") == ["7"]
        chip(page, "strip", 2).hover()
        assert lit(page, "strip") == ["2"]
        page.locator("#result-heading").click()
        wait_until(lambda: lit(page, "strip") == [], "nothing is selected any more")


class TestKeyboard:
    @pytest.fixture
    def long(self, visit, server):
        """A page with a prompt of several rows, in one of them a bracket."""
        page = visit(server.url, **WIDE)
        type_prompt(page, f"{STORY} the {ROBOT} and " * 6)
        return page

    def test_one_chip_of_a_strip_is_reached_with_tab_and_arrows_do_the_rest(self, long):
        last = long.locator("#prompt-strip .chip").count() - 1
        assert tabbable(long, "prompt-strip") == ["0"]
        long.locator("#tokens").get_by_role("button", name="curl").focus()
        long.keyboard.press("Tab")
        assert focused(long) == "0"
        walk = {"ArrowRight": 1, "End": last, "ArrowLeft": last - 1, "Home": 0}
        for key, index in walk.items():
            long.keyboard.press(key)
            assert focused(long) == str(index), key
            assert tabbable(long, "prompt-strip") == [str(index)]
        long.keyboard.press("ArrowLeft")  # there is nothing before the first
        assert focused(long) == "0"
        long.keyboard.press("ArrowRight")
        long.keyboard.press("Tab")
        assert focused(long) is None
        long.keyboard.press("Shift+Tab")
        assert focused(long) == "1"

    def test_up_and_down_go_to_the_row_above_and_below(self, long):
        rows = long.locator("#prompt-strip .chip").evaluate_all(
            "all => all.map(e => Math.round(e.closest('li').getBoundingClientRect().bottom))"
        )
        tops = sorted(set(rows))
        assert len(tops) >= 3
        chip(long, "prompt-strip", 1).click()
        chip(long, "prompt-strip", 1).focus()
        long.keyboard.press("Escape")
        chip(long, "prompt-strip", 1).focus()
        for top in tops[1:]:
            before = chip(long, "prompt-strip", int(focused(long))).bounding_box()
            long.keyboard.press("ArrowDown")
            assert rows[int(focused(long))] == top
            after = chip(long, "prompt-strip", int(focused(long))).bounding_box()
            assert abs(after["x"] - before["x"]) < 80
        long.keyboard.press("ArrowDown")
        assert rows[int(focused(long))] == tops[-1]
        for top in reversed(tops[:-1]):
            long.keyboard.press("ArrowUp")
            assert rows[int(focused(long))] == top

    @pytest.mark.parametrize("box", ["prompt-running", "text"])
    def test_in_the_text_tokens_are_reached_and_opened_too(self, visit, echo, box):
        page = visit(echo.url, **WIDE)
        type_prompt(page, f"Echo: a {ROBOT}\nwell\n")
        page.get_by_label("in the text").check()
        generate(page, n_tokens=24)
        done(page)
        pieces = page.locator(f"#{box} [data-first]")
        places = pieces.evaluate_all("all => all.map(e => e.dataset.first)")
        stops = page.locator(f"#{box} [tabindex='0']")
        expect(stops).to_have_count(1)
        stops.focus()
        at = "() => document.activeElement.dataset.first"
        line = "() => document.activeElement.getClientRects()[0].top"
        assert page.evaluate(at) == places[0]
        for key, place in {"ArrowRight": 1, "End": -1, "ArrowLeft": -2, "Home": 0}.items():
            page.keyboard.press(key)
            assert page.evaluate(at) == places[place], key
            assert stops.get_attribute("data-first") == places[place]
        top = page.evaluate(line)
        page.keyboard.press("ArrowDown")
        assert page.evaluate(line) > top
        page.keyboard.press("ArrowUp")
        assert page.evaluate(line) == top
        expect(page.get_by_role("button", name="space a, token 257").first).to_be_visible()
        robot = pieces.filter(has_text=ROBOT).first
        robot.focus()
        expect(robot).to_have_accessible_name(f"{ROBOT}, {robot.evaluate(N_TOKENS)} tokens")
        for key in ("Enter", " "):
            page.keyboard.press(key)
            expect(page.locator("#details .details-title")).to_be_focused()
            assert facts(page)["Text"] == f"part of “␣{ROBOT}”"
            page.keyboard.press("Escape")
            expect(robot).to_be_focused()
        page.get_by_label("readable").check()
        expect(page.locator(f"#{box} :is([role], [tabindex], [aria-label])")).to_have_count(0)

    def test_enter_opens_the_details_and_escape_returns_to_the_chip(self, long):
        chip(long, "prompt-strip", 0).focus()
        long.keyboard.press("ArrowRight")
        long.keyboard.press("Enter")
        expect(long.locator("#details .details-title")).to_be_focused()
        long.keyboard.press("Tab")  # to the button that closes them
        long.keyboard.press("Tab")
        expect(long.get_by_role("link", name="How BPE made this token")).to_be_focused()
        long.keyboard.press("Escape")
        expect(long.locator("#details")).to_be_hidden()
        assert focused(long) == "1"
        long.keyboard.press("Enter")
        long.get_by_role("link", name="How BPE made this token").press("Enter")
        expect(long.locator("#bpe-text")).to_have_value(" day")

    def test_escape_closes_the_details_before_it_stops_a_text(self, visit, slow_server):
        page = visit(slow_server.url, **WIDE)
        generate(page, prompt="Slow: and", n_tokens=240)
        expect(page.locator("#strip .generated").nth(1)).to_be_visible()
        page.locator("#strip .generated").first.focus()
        page.keyboard.press("Enter")
        expect(page.locator("#details tbody tr").nth(9)).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.locator("#details")).to_be_hidden()
        expect(page.locator("#stop")).to_be_visible()
        expect(page.locator("#status")).to_contain_text("Generating")
        page.keyboard.press("Escape")
        expect(page.locator("#status")).to_contain_text("Stopped")
        assert tabbable(page, "strip") == ["3"]

    def test_a_chip_that_becomes_part_of_a_bracket_keeps_the_focus(self, visit, slow_server):
        page = visit(slow_server.url, **WIDE)
        generate(page, prompt=f"Slow: and{ROBOT}", n_tokens=200)
        part = page.locator("#strip > li:not(.group) > .generated").filter(has_text="bytes f0 9f")
        part.first.focus()
        index = focused(page)
        grouped = page.locator(f'#strip .group .chip[data-index="{index}"]')
        expect(grouped).to_be_attached()
        expect(grouped).to_be_focused()
        page.keyboard.press("Enter")
        assert facts(page)["Text"] == f"part of “{ROBOT}”"
        assert tabbable(page, "strip") == [index]


class TestAnyText:
    def check(self, page, strip, text):
        wait_until(lambda: bytes_of(page, strip) == text.encode(), "the tokens of the text")
        spans = page.locator(f"#{strip} .chip").evaluate_all(
            "all => all.map(e => [Number(e.dataset.start), Number(e.dataset.end)])"
        )
        covered = {i for start, end in spans for i in range(start, end)}
        assert covered == set(range(len(text)))
        assert not scrolls_sideways(page)

    def test_the_prompt_strip_gives_back_the_bytes(self, visit, server):
        page = visit(server.url, viewport={"width": 320, "height": 700})
        title = page.title()
        for text in TEXTS.values():
            type_prompt(page, text)
            self.check(page, "prompt-strip", text)
            for at in (0, page.locator("#prompt-strip .chip").count() // 2):
                chip(page, "prompt-strip", at).focus()
                assert not scrolls_sideways(page)
        type_prompt(page, TEXTS["long word"])  # the candidates name its end
        expect(page.locator("#next .hint")).to_contain_text("U+3000U+3000")
        assert not scrolls_sideways(page)
        shown = page.locator("#prompt-strip, #details, #mirror")
        assert shown.locator("b, script, img, hx-partial").count() == 0
        assert page.title() == title

    def test_the_strip_and_the_text_of_the_result_give_back_the_bytes(self, visit, echo):
        page = visit(echo.url, viewport={"width": 320, "height": 700})
        for name in ("Hebrew", "Thai", "emoji", "combining", "both directions", "markup"):
            text = TEXTS[name][:60]
            generate(page, prompt=f"End:{text}", n_tokens=180)
            expect(page.locator("#continuation")).to_have_text(text, use_inner_text=False)
            done(page)
            whole = f"End:{text}{text}"
            assert bytes_of(page, "strip") == (whole + "<|endoftext|>").encode()
            assert page.locator("#text").evaluate("e => e.textContent") == whole
            spans = page.locator("#text [data-first]").evaluate_all(
                "all => all.map(e => [Number(e.dataset.first), Number(e.dataset.last)])"
            )
            covered = {i for first, last in spans for i in range(first, last + 1)}
            assert covered == set(range(page.locator("#strip .chip").count()))
            assert not scrolls_sideways(page)

    def test_half_a_surrogate_pair_becomes_the_replacement_character(self, visit, server):
        page = visit(server.url, **WIDE)
        before = page.locator("#counts").element_handle()
        page.locator("#prompt").evaluate(
            "e => { e.value = 'a\\ud83eb c';"
            " e.dispatchEvent(new Event('input', {bubbles: true})); }"
        )
        wait_until(lambda: not before.evaluate("e => e.isConnected"), "the tokens")
        self.check(page, "prompt-strip", "a\ufffdb c")
        page.locator("#prompt-strip .chip").last.click()
        where = page.locator("#prompt").evaluate("e => [e.selectionStart, e.selectionEnd]")
        assert where == [3, 5]

    def test_nul_is_shown_and_kept(self, visit, echo):
        page = visit(echo.url, **WIDE)
        fill(page, prompt="End: a\x00b", n_tokens=20)
        page.locator("#generate").click()
        done(page)
        assert bytes_of(page, "strip") == b"End: a\x00b a\x00b<|endoftext|>"
        assert page.locator("#text").text_content() == "End: a␀b a␀b"  # HTML cannot hold a NUL
        self.check(page, "prompt-strip", "End: a\x00b")
        page.locator("#strip .generated").nth(1).click()
        page.get_by_role("button", name="Cut the text after this token").click()
        page.get_by_role("button", name="Continue").click()
        done(page)
        expect(page.locator("#prompt")).to_have_value("End: a\x00b")
        assert bytes_of(page, "strip").startswith(b"End: a\x00b a\x00")

    def test_nul_and_line_ends_of_a_link_arrive_unchanged(self, visit, echo):
        page = visit(f"{echo.url}/?prompt=End:+a%00b%0Dc%0D%0Ad%0Ae&n_tokens=20", **WIDE)
        whole = "End: a\x00b\nc\nd\ne"  # a text area has one kind of line end only
        expect(page.locator("#prompt")).to_have_value(whole)
        self.check(page, "prompt-strip", whole)
        page.locator("#generate").click()
        done(page)
        assert bytes_of(page, "strip").decode() == whole + whole.removeprefix("End:") + ENDOFTEXT
        with page.expect_download() as download:
            page.locator('.take[data-of="text"]').get_by_role("button", name="JSON").click()
        with open(download.value.path(), encoding="utf-8") as file:
            assert json.load(file)["prompt"] == whole

    def test_nul_can_be_explained_and_exported(self, visit, echo):
        page = visit(f"{echo.url}/bpe?text=a%00b", **WIDE)
        expect(page.locator("#bpe-text")).to_have_value("a\x00b")
        with page.expect_download() as download:
            page.get_by_role("button", name="JSON", exact=True).click()
        with open(download.value.path(), encoding="utf-8") as file:
            assert json.load(file)["prompt"] == "a\x00b"

    def test_without_javascript_a_lost_nul_is_reported(self, visit, echo):
        for path in ("/?prompt=a%00b", "/bpe?text=a%00b"):
            page = visit(echo.url + path, java_script_enabled=False)
            expect(page.locator("noscript .hint")).to_be_visible()
            assert "cannot hold the character NUL" in page.locator("noscript .hint").inner_text()
        page = visit(f"{echo.url}/?prompt=ab", java_script_enabled=False)
        expect(page.locator("noscript .hint")).to_have_count(0)

    def test_ten_thousand_spaces_are_counted_whole_and_drawn_in_part(self, visit, server):
        page = visit(server.url, viewport={"width": 320, "height": 700})
        type_prompt(page, " " * 10_000)
        expect(page.locator("#counts")).to_contain_text("10,000 bytes")
        drawn = bytes_of(page, "prompt-strip")
        n_bytes = len(drawn)
        assert drawn == b" " * n_bytes and 1_000 <= n_bytes <= 10_000
        expect(page.locator("#tokens")).to_contain_text(f"{10_000 - n_bytes:,} more tokens")
        assert not scrolls_sideways(page)
