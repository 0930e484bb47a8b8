"""Every number of the inside views is an array's, every sum is seen, every program runs."""

import contextlib
import io
import json
import re

import numpy as np
import pytest

from gpt2core.inside.attribution import attribution, logit_direction
from gpt2core.inside.heads import head_shares
from gpt2core.inside.recording import replay_block, replay_unembed
from gpt2core.tokenizer.vocabulary import default_encoder
from tests.helpers.inside_pages import ODD, PATHS, close, number
from tests.helpers.web import JSON
from webapp.inside.page import EXAMPLE

# Which calls each step lists, {l} being the chosen layer's block.
CALLS = {
    3: ["gpt2"],
    4: ["gpt2"],
    5: ["{l}.layer_norm"],
    6: ["{l}.mha"],
    7: ["{l}.mha.attention"],
    8: ["{l}.mha", "{l}.mha.attention"],
    9: ["{l}.mha.attention.softmax", "{l}.mha.attention"],
    10: ["{l}.mha.attention"],
    11: ["{l}.mha"],
    12: ["{l}"],
    13: ["{l}.ffn", "{l}.ffn.gelu", "{l}"],
    14: ["gpt2", "{l}"],
    15: ["gpt2.unembed", "gpt2.unembed.layer_norm"],
    16: ["gpt2.unembed"],
}


class TestNumbers:
    @pytest.mark.parametrize("step", CALLS)
    @pytest.mark.parametrize(
        "fields", [{}, {"at": 3, "layer": 2, "head": 1}], ids=["first", "other"]
    )
    def test_what_stands_beside_a_line_is_that_lines_array(self, look, record, step, fields):
        recording = record(EXAMPLE)
        layer = fields.get("layer", 0)
        traces = [*recording.trace, *replay_block(recording, layer).trace]
        traces += replay_unembed(recording)
        page = look(f"/inside/{step}", prompt=EXAMPLE, **fields)
        listings = page.all("ol", class_="inside-code")
        calls = [path.format(l=f"blocks[{layer}]") for path in CALLS[step]]
        assert len(listings) == len(calls)
        n_shown = 0
        for listing, call in zip(listings, calls, strict=True):
            for line in listing.all("li"):
                for shown in line.all(class_="inside-value"):
                    at = int(line.all(class_="inside-number")[0].words)
                    self.compare(shown, [v for v in traces if (v.call.path, v.line) == (call, at)])
                    n_shown += 1
        assert n_shown

    @staticmethod
    def compare(shown, values):
        """One of ``values`` has the name, the shape and, in that row, the numbers shown."""
        name = shown.all("b")[0].text.replace("returned", "return")
        shape = json.loads(shown.all(class_="inside-shape")[0].text)
        index = shown.all(class_="inside-index")[0].text.removesuffix(" =").strip("[]").split(", ")
        row = tuple(slice(None) if part == ":" else int(part) for part in index)
        numbers = [element.text for element in shown.all(class_="number")]
        found = [v for v in values if v.name == name and list(v.array.shape) == shape]
        assert any(
            all(close(s, x) for s, x in zip(numbers, np.atleast_1d(v.array[row]), strict=False))
            for v in found
        ), (name, shape, numbers)

    @pytest.mark.parametrize("at", [1, 5, 8])
    def test_the_matrix_is_the_heads_pattern(self, look, record, at):
        pattern = record(EXAMPLE).patterns[3][2]
        page = look("/inside/9", prompt=EXAMPLE, layer=3, head=2, at=at)
        (matrix,) = page.all("table", class_="inside-matrix")
        rows = matrix.all("tbody")[0].all("tr")
        for query, row in enumerate(rows):
            cells = [number(cell.text) for cell in row.all("td")]
            assert cells == pytest.approx(pattern[query, : query + 1].tolist(), abs=6e-4)
        (chips,) = page.all("ol", class_="inside-row")
        shown = [number(cell.all(class_="number")[0].text) for cell in chips.all("li")]
        assert shown == pytest.approx(pattern[at - 1, :at].tolist(), abs=6e-4)

    def test_vectors_have_the_length_and_the_extremes_of_their_arrays(self, look, record, demo):
        recording = record(EXAMPLE)
        page = look("/inside/12", prompt=EXAMPLE, layer=1, at=4)
        before, after = recording.residual[1][3], recording.residual_mid[1][3]
        added = replay_block(recording, 1).array("mha.return")[3]
        figures = page.all("p", class_="inside-figures")
        for figure, array in zip(figures, (before, added, after), strict=True):
            (length,) = figure.all("b", class_="number")
            assert close(length.text, np.linalg.norm(array))
            low, high = re.search(r"from (\S+) to (\S+)", figure.words).groups()
            assert close(low, array.min()) and close(high, array.max())
            for index, value in re.findall(r"\[(\d+)\] ([+−][\d.]+)", figure.words):
                assert close(value, array[int(index)])

    def test_the_products_of_query_and_key_add_up_to_the_score(self, look, record):
        page = look("/inside/7", prompt=EXAMPLE, layer=2, head=1)
        block = replay_block(record(EXAMPLE), 2)
        table = page.all("table", class_="inside-table")[0]
        rows = [row.all("td") for row in table.all("tbody")[0].all("tr")]
        total = sum(number(cells[-1].text) for cells in rows)
        (end,) = table.all("tfoot")[0].all("td")
        assert total == pytest.approx(number(end.text), abs=2e-2)
        key = int(table.all("caption")[0].all(class_="inside-token")[1].attributes["data-at"]) - 1
        score = block.array("mha.attention.scores")[1, 7, key]
        assert number(end.text) / 8 == pytest.approx(float(score), rel=1e-3)

    def test_the_ten_likeliest_are_the_models(self, look, record):
        logits = record(EXAMPLE).last_logits
        rows = look("/inside/16", prompt=EXAMPLE).all("tbody")[0].all("tr")
        ids = [int(row.all("td")[0].text) for row in rows]
        assert ids == np.argsort(-logits, kind="stable")[:10].tolist()
        for row, id in zip(rows, ids, strict=True):
            assert number(row.all("td")[1].text) == pytest.approx(float(logits[id]), abs=6e-4)

    @pytest.mark.parametrize("seed", range(12))
    def test_the_token_that_is_said_to_be_drawn_is_the_one_generate_draws(self, look, client, seed):
        fields = {"prompt": EXAMPLE, "seed": seed, "temperature": 1.5, "top_k": 50, "top_p": 0.95}
        page = look("/inside/18", **fields)
        (row,) = page.all("tr", class_="chosen")
        answer = client.post("/generate", json={**fields, "n_tokens": 1}, headers=JSON).get_json()
        assert row.all(class_="piece")[0].text == answer["tokens"][0]["piece"]

    def test_the_end_says_what_moved_the_answer_and_where_its_heads_looked(self, look, record):
        recording = record(EXAMPLE)
        page = look("/inside/18", prompt=EXAMPLE, temperature=0)
        (row,) = page.all("tr", class_="chosen")
        drawn = row.all(class_="piece")[0].text
        words = page.words
        (table,) = page.all("table", class_="inside-lookback")
        token = int(recording.last_logits.argmax())
        assert drawn == default_encoder().decoder[token]
        found = attribution(recording, 7, token)
        assert f"is {found.logit:.3f}, a sum over all parts" in words
        largest = sorted((abs(part.value) for part in found.parts), reverse=True)[:3]
        said = words.split("The largest shares: ")[1].split(". All shares")[0].split("; ")
        assert [abs(number(one.split()[-1])) for one in said] == pytest.approx(largest, abs=6e-4)
        shares = head_shares(recording, 7, logit_direction(recording, 7, token))
        shown = []
        for line in table.all("tbody")[0].all("tr"):
            layer, head = map(int, re.findall(r"\d+", line.all("th")[0].words))
            share, _, weight = (cell.words for cell in line.all("td"))
            pattern = recording.patterns[layer][head, 7]
            assert number(share) == pytest.approx(shares[layer, head], abs=6e-4)
            assert int(line.attributes["data-at"]) == pattern.argmax() + 1
            assert number(weight) == pytest.approx(float(pattern.max()), abs=6e-4)
            shown.append(abs(shares[layer, head]))
        assert shown == sorted(abs(shares).ravel(), reverse=True)[:3]


class TestSums:
    @pytest.mark.parametrize("n_tokens", [1, 2, 24, 25, 64, 65, 256])
    def test_a_row_adds_up_to_one_on_the_page(self, look, story, n_tokens):
        page = look("/inside/9", prompt=story(n_tokens))
        (chips,) = page.all("ol", class_="inside-row")
        cells = [number(c.all(class_="number")[0].text) for c in chips.all("li")]
        assert len(cells) == min(n_tokens, 64) + (n_tokens > 64)
        assert sum(cells) == pytest.approx(1, abs=6e-4 * len(cells))
        table = page.all("table", class_="inside-table")[0]
        weights = [number(row.all("td")[-1].text) for row in table.all("tbody")[0].all("tr")]
        assert sum(weights) == pytest.approx(1, abs=6e-5 * len(weights))
        assert table.all("tfoot")[0].all("td")[-1].text == "1.0000"

    def test_a_window_says_what_it_leaves_out(self, look, story):
        words = look("/inside/9", prompt=story(256), at=100).words
        assert "… 36 earlier" in words and "156 later tokens are not drawn" in words
        assert "36 earlier tokens are not drawn" in look("/inside/7", prompt=story(100)).words

    @pytest.mark.parametrize("path", PATHS[1:])
    @pytest.mark.parametrize(
        "fields", [{}, {"at": 1, "layer": 3, "head": 2}], ids=["last", "first"]
    )
    def test_every_check_holds(self, look, story, path, fields):
        for text in (EXAMPLE, ODD, story(70)):
            page = look(path, prompt=text, **fields)
            assert page.all("li", class_="holds"), "a step without a check"
            assert not page.all("li", class_="fails")


class TestPrograms:
    @pytest.mark.parametrize("path", PATHS[1:])
    @pytest.mark.parametrize("fields", [{}, {"kept": "11,2576", "at": 9, "layer": 2, "head": 1}])
    def test_the_same_in_python_prints_the_same(self, look, path, fields):
        programs = look(path, prompt=EXAMPLE, **fields).all("pre", class_="inside-program")
        if not programs:
            assert path == "/inside/2" and fields, "only a token that no text was cut for has none"
            return
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            exec(compile(programs[-2].text, path, "exec"), {})
        printed, shown = output.getvalue().split(), programs[-1].text.split()
        assert len(printed) == len(shown)
        for one, other in zip(printed, shown, strict=True):
            assert one == other or float(one) == pytest.approx(float(other), abs=2e-3)
