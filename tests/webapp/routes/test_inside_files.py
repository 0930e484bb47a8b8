"""The numbers of the inside views as files: JSON, NumPy arrays, a table."""

import csv
import io

import numpy as np
import pytest

from gpt2core.inside.document import document, select
from gpt2core.inside.recording import replay_block
from tests.helpers.web import parse
from webapp.inside.page import EXAMPLE


class TestFiles:
    def test_json_is_the_document_of_the_same_recording(self, client, record, demo):
        recording = record(EXAMPLE)
        selection = select(recording, 5, 1, 2, 373)
        found = client.get(
            "/inside.json",
            query_string={"prompt": EXAMPLE, "at": 5, "layer": 1, "head": 2, "for": 373},
        ).get_json()
        tokens = [{k: v for k, v in token.items() if k != "index"} for token in found["tokens"]]
        assert found == document(
            recording, selection, demo.name, tokens, demo.encoder.decoder.__getitem__
        )
        assert [t["id"] for t in tokens] == demo.encoder.encode(EXAMPLE)

    def test_npz_has_the_arrays_under_their_names(self, client, record):
        recording = record(EXAMPLE)
        answer = client.get("/inside.npz", query_string={"prompt": EXAMPLE, "layer": 2})
        with np.load(io.BytesIO(answer.data), allow_pickle=False) as arrays:
            assert np.array_equal(arrays["last_logits"], recording.last_logits)
            assert np.array_equal(arrays["gpt2.x[2]"], recording.residual[2])
            scores = replay_block(recording, 2).array("mha.attention.scores")
            assert np.array_equal(arrays["blocks[2].mha.attention.scores"], scores)

    def rows(self, client, **fields) -> list[list[str]]:
        """The lines of a table, without its head."""
        text = client.get("/inside.csv", query_string={"prompt": EXAMPLE, **fields}).text
        return list(csv.reader(io.StringIO(text)))[1:]

    def test_a_head_is_a_table_of_pairs(self, client, record):
        pattern = record(EXAMPLE).patterns[5][1]
        rows = self.rows(client, head=1)
        assert len(rows) == 8 * 9 // 2
        for layer, head, query, _, key, _, weight in rows:
            assert (layer, head) == ("5", "1")
            assert float(weight) == pytest.approx(float(pattern[int(query) - 1, int(key) - 1]))

    def test_lens_and_attribution_are_tables_too(self, client):
        found = client.get("/inside.json", query_string={"prompt": EXAMPLE}).get_json()
        lens = self.rows(client, table="lens")
        assert [int(row[2]) for row in lens[-10:]] == [top["id"] for top in found["top"]]
        parts = self.rows(client, table="attribution")
        total = sum(float(value) for *_, value in parts)
        assert total == pytest.approx(found["attribution"]["logit"], rel=1e-4)

    def test_any_piece_is_one_cell(self, client, demo):
        text = 'a,"b"\n\x00,'
        rows = self.rows(client, prompt=text)
        assert [row[5] for row in rows[-len(demo.encoder.encode(text)) :]] == [
            demo.encoder.decoder[id] for id in demo.encoder.encode(text)
        ]

    def test_a_table_that_is_none_is_refused(self, client):
        answer = client.get("/inside.csv", query_string={"prompt": EXAMPLE, "table": "heads"})
        assert answer.status_code == 422
        assert "attention, lens, attribution" in parse(answer.text).id("inside-error").words
