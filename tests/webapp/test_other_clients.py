"""Other programs that speak OpenAI's API: the Node client, lm-evaluation-harness.

Slow: they start interpreters, import a lot, or install a package. Run with ``pytest -m slow``
after ``pip install -r requirements-clients.txt``; the Node client needs npm.
"""

import json
import subprocess

import numpy as np
import pytest

from gpt2core import generate, gpt2
from gpt2core.sampling import log_softmax
from tests.helpers.web import HEROES, STORY, STORY_IDS, environment

pytestmark = pytest.mark.slow
NODE_CLIENT = "openai@6.49.0"
NODE_PROGRAM = """
import OpenAI from "openai";
const client = new OpenAI({ baseURL: process.argv[2], apiKey: "any", maxRetries: 0 });
const common = { model: "demo", prompt: process.argv[3], temperature: 0 };
const whole = await client.completions.create({ ...common, max_tokens: 8 });
let streamed = "";
const parts = await client.completions.create({ ...common, max_tokens: 8, stream: true });
for await (const chunk of parts) {
  streamed += chunk.choices[0].text;
}
const scoring = { ...common, max_tokens: 0, echo: true, logprobs: 1 };
const scored = await client.completions.create(scoring);
let error = null;
try {
  await client.completions.create({ ...common, best_of: 2 });
} catch (found) {
  error = { name: found.constructor.name, status: found.status, param: found.param };
}
const left = new AbortController();
const stream = await client.completions.create(
  { ...common, max_tokens: 200, stream: true }, { signal: left.signal });
for await (const chunk of stream) left.abort();
console.log(JSON.stringify({ text: whole.choices[0].text, streamed, error,
  logprobs: scored.choices[0].logprobs.token_logprobs }));
"""


def logprobs_of(demo, ids) -> np.ndarray:
    """Log-probabilities of ``ids[1:]``, from the readable model."""
    rows = gpt2(ids[:-1], **demo.params, n_head=demo.hparams.n_head)  # [n, n_vocab]
    return np.array([log_softmax(row)[id] for row, id in zip(rows, ids[1:], strict=True)])


def test_the_node_client_completes_streams_scores_fails_and_leaves(server, demo, tmp_path):
    (tmp_path / "program.mjs").write_text(NODE_PROGRAM)
    install = ["npm", "install", "--silent", "--no-audit", NODE_CLIENT]
    subprocess.run(install, cwd=tmp_path, check=True, timeout=300)
    run = subprocess.run(
        ["node", "program.mjs", f"{server.url}/v1", STORY],
        cwd=tmp_path, env=environment(), capture_output=True, check=True, timeout=120,
    )  # fmt: skip
    found = json.loads(run.stdout)
    ids = generate(list(STORY_IDS), demo.params, demo.hparams.n_head, 8)
    assert found["text"] == found["streamed"] == demo.encoder.decode(ids)
    assert found["error"] == {"name": "BadRequestError", "status": 400, "param": "best_of"}
    difference = np.array(found["logprobs"][1:]) - logprobs_of(demo, STORY_IDS)
    assert np.abs(difference).max() <= 1e-4
    server.wait_for_load(0)


class HarnessTokenizer:
    """The bundled model's tokenizer with the names that the harness calls."""

    def __init__(self, encoder):
        self.encode, self.decode, self.eot_token = encoder.encode, encoder.decode, encoder.endoftext

    def encode_batch(self, texts):
        return [self.encode(text) for text in texts]


def test_the_evaluation_harness_gets_the_models_log_likelihoods(server, demo):
    from lm_eval.api.instance import Instance
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    harness = LocalCompletionsAPI(
        base_url=f"{server.url}/v1/completions", model="demo", batch_size=3, max_retries=1,
        tokenizer_backend="None", max_length=demo.hparams.n_ctx,
    )  # fmt: skip
    # Its constructor takes a tokenizer of transformers only.
    harness.tokenizer = HarnessTokenizer(demo.encoder)
    harness.tokenizer_backend, harness.tokenized_requests = "tiktoken", True
    encode = demo.encoder.encode
    greedy = demo.encoder.decode(generate(encode(HEROES), demo.params, demo.hparams.n_head, 1))
    pairs = [(STORY, " to the park."), (STORY, " xylophonist"), ("The", " cat"), (HEROES, greedy)]
    asked = [Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(pairs)]
    for (context, ending), (total, is_greedy) in zip(
        pairs, harness.loglikelihood(asked), strict=True
    ):
        n = len(encode(ending))
        wanted = logprobs_of(demo, encode(context) + encode(ending))[-n:].sum()
        assert total == pytest.approx(wanted, abs=1e-3)
        likeliest = generate(encode(context), demo.params, demo.hparams.n_head, n)
        assert is_greedy == (likeliest == encode(ending))
    texts = [Instance("loglikelihood_rolling", {}, (STORY,), 0)]
    [total] = harness.loglikelihood_rolling(texts)
    wanted = logprobs_of(demo, [demo.encoder.endoftext, *STORY_IDS]).sum()
    assert total == pytest.approx(wanted, abs=1e-3)
    until = {"until": ["\n"], "max_gen_toks": 6, "temperature": 0}
    [text] = harness.generate_until([Instance("generate_until", {}, (STORY, until), 0)])
    ids = generate(list(STORY_IDS), demo.params, demo.hparams.n_head, 6)
    assert text == demo.encoder.decode(ids).split("\n")[0]
