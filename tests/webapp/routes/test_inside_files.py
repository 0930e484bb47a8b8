"""The numbers of the inside views as files: JSON, NumPy arrays, a table."""

import io

import numpy as np
import pytest

from gpt2core.inside.document import document, select
from gpt2core.inside.recording import replay_block
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

    def test_csv_has_a_row_for_each_pair_of_tokens(self, client, record):
        pattern = record(EXAMPLE).patterns[3][1]
        text = client.get("/inside.csv", query_string={"prompt": EXAMPLE, "head": 1}).text
        rows = [line.split(",") for line in text.split()[1:]]
        assert len(rows) == 8 * 9 // 2
        for layer, head, query, _, key, _, weight in rows:
            assert (layer, head) == ("3", "1")
            assert float(weight) == pytest.approx(float(pattern[int(query) - 1, int(key) - 1]))
