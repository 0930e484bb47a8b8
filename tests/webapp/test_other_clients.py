"""Other programs that speak OpenAI's API: the Node client, lm-evaluation-harness.

Slow: they start interpreters, import a lot, or install a package. Run with ``pytest -m slow``
after ``pip install -r requirements-clients.txt``; the Node client needs npm.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gpt2core import generate, gpt2
from gpt2core.sampling import log_softmax
from gpt2core.tokenizer.vocabulary import VOCAB_PATH, read_merges
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


def logprobs_of(readable, ids) -> np.ndarray:
    """Log-probabilities of ``ids[1:]``, from the readable model."""
    rows = gpt2(ids[:-1], **readable.params, n_head=readable.hparams.n_head)  # [n, n_vocab]
    return np.array([log_softmax(row)[id] for row, id in zip(rows, ids[1:], strict=True)])


def test_the_node_client_completes_streams_scores_fails_and_leaves(
    served, readable, tolerance, tmp_path
):
    (tmp_path / "program.mjs").write_text(NODE_PROGRAM)
    install = ["npm", "install", "--silent", "--no-audit", NODE_CLIENT]
    subprocess.run(install, cwd=tmp_path, check=True, timeout=300)
    run = subprocess.run(
        ["node", "program.mjs", f"{served.url}/v1", STORY],
        cwd=tmp_path, env=environment(), capture_output=True, check=True, timeout=120,
    )  # fmt: skip
    found = json.loads(run.stdout)
    ids = generate(list(STORY_IDS), readable.params, readable.hparams.n_head, 8)
    assert found["text"] == found["streamed"] == readable.encoder.decode(ids)
    assert found["error"] == {"name": "BadRequestError", "status": 400, "param": "best_of"}
    difference = np.array(found["logprobs"][1:]) - logprobs_of(readable, STORY_IDS)
    assert np.abs(difference).max() <= tolerance
    served.wait_for_load(0)


MODELS_OF_LLM = """
- model_id: here
  model_name: demo
  api_base: {url}/v1
  completion: true
- model_id: here-whole
  model_name: demo
  api_base: {url}/v1
  completion: true
  can_stream: false
"""


def test_the_llm_command_completes_and_streams(served, readable, tmp_path):
    (tmp_path / "extra-openai-models.yaml").write_text(MODELS_OF_LLM.format(url=served.url))

    def llm(*arguments) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "llm", *arguments],
            env=environment(LLM_USER_PATH=tmp_path), capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    options = ["-o", "temperature", "0", "-o", "max_tokens", "8"]
    wanted = readable.encoder.decode(
        generate(list(STORY_IDS), readable.params, readable.hparams.n_head, 8)
    )
    for model in (["here"], ["here", "--no-stream"], ["here-whole"]):
        assert llm("-m", *model, *options, STORY) == f"{wanted}\n"
    # Its own log has what the server said.
    assert llm("-m", "here", *options, "-o", "logprobs", "1", STORY) == f"{wanted}\n"
    [newest] = json.loads(llm("logs", "--json", "-n", "1"))
    assert newest["response"] == wanted
    said = newest["response_json"]
    assert said["usage"]["total_tokens"] == len(STORY_IDS) + 8
    assert "".join(one["text"] for one in said["logprobs"]) == wanted
    served.wait_for_load(0)


# Three tasks of the harness, one for each kind of request. Its tokenizer reads a local folder.
TASKS = {
    "choice": {
        "output_type": "multiple_choice",
        "doc_to_text": "{{context}}",
        "doc_to_choice": "choices",
        "doc_to_target": "answer",
        "metric_list": [{"metric": "acc"}],
    },
    "rolling": {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{text}}",
        "metric_list": [{"metric": "bits_per_byte"}],
    },
    "writing": {
        "output_type": "generate_until",
        "doc_to_text": "{{context}}",
        "doc_to_target": "{{target}}",
        "generation_kwargs": {"until": ["\n"], "max_gen_toks": 6, "temperature": 0},
        "metric_list": [{"metric": "exact_match"}],
    },
}
CHOICES = [
    {"context": STORY, "choices": ["the park.", "xylophonist"], "answer": 0},
    {"context": "The", "choices": ["cat", "cats are animals"], "answer": 0},
]
TEXTS = [STORY, f"{HEROES} {STORY}"]


def write_tasks(directory: Path, documents: dict[str, list[dict]]) -> None:
    """A YAML file for each task, which JSON is, and its documents."""
    directory.mkdir()
    for name, task in TASKS.items():
        data = directory / f"{name}.json"
        data.write_text("\n".join(map(json.dumps, documents[name])))
        files = {"data_files": {"test": str(data)}}
        common = {"task": name, "dataset_path": "json", "dataset_kwargs": files}
        task = {**common, "test_split": "test", "metadata": {"version": 1}, **task}
        (directory / f"{name}.yaml").write_text(json.dumps(task))


def write_tokenizer(directory: Path, encoder) -> None:
    """The folder of a tokenizer as transformers reads it."""
    directory.mkdir()
    vocabulary = {piece: id for id, piece in encoder.decoder.items()}
    (directory / "vocab.json").write_text(json.dumps(vocabulary))
    (directory / "merges.txt").write_text("\n".join(map(" ".join, read_merges(VOCAB_PATH))))
    special = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>")
    config = {"tokenizer_class": "GPT2Tokenizer", **special}
    (directory / "tokenizer_config.json").write_text(json.dumps(config))


def run_harness(url: str, directory: Path, max_length: int) -> dict[str, list[dict]]:
    """The answers to each task's documents, as the harness logs them."""
    model = {
        "model": "demo", "base_url": f"{url}/v1/completions", "tokenizer": directory / "tokenizer",
        "tokenizer_backend": "huggingface", "max_length": max_length, "max_retries": 1,
    }  # fmt: skip
    command = [
        *(
            sys.executable,
            "-m",
            "lm_eval",
            "run",
            "--model",
            "local-completions",
            "--batch_size",
            "3",
        ),
        *("--model_args", ",".join(f"{name}={value}" for name, value in model.items())),
        *("--include_path", directory / "tasks", "--tasks", ",".join(TASKS)),
        *("--log_samples", "--output_path", directory / "out"),
    ]
    offline = {"HF_HUB_OFFLINE": 1, "HF_HOME": directory / "home"}
    done = subprocess.run(
        command, cwd=directory, env=environment(**offline), capture_output=True, text=True,
        timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = {}
    for name in TASKS:
        [log] = (directory / "out").rglob(f"samples_{name}_*.jsonl")
        samples = map(json.loads, log.read_text().splitlines())
        found[name] = sorted(samples, key=lambda sample: sample["doc_id"])
    return found


def test_the_evaluation_harness_gets_the_models_log_likelihoods(
    served, readable, tolerance, tmp_path
):
    n_ctx, encode = readable.hparams.n_ctx, readable.encoder.encode
    of_sum = 10 * tolerance  # for the log-probability of a whole text

    def likeliest(text, n) -> list[int]:
        return generate(encode(text), readable.params, readable.hparams.n_head, n)

    word = readable.encoder.decode(likeliest(HEROES, 1)).strip()
    documents = {
        "choice": [*CHOICES, {"context": HEROES, "choices": [word, "zebra"], "answer": 0}],
        "rolling": [{"text": text} for text in TEXTS],
        "writing": [{"context": STORY, "target": "unknown"}],
    }
    write_tasks(tmp_path / "tasks", documents)
    write_tokenizer(tmp_path / "tokenizer", readable.encoder)
    found = run_harness(served.url, tmp_path, n_ctx - 1)
    for document, sample in zip(documents["choice"], found["choice"], strict=True):
        for choice, (answer,) in zip(document["choices"], sample["resps"], strict=True):
            total, is_greedy = answer
            ids, n = encode(f"{document['context']} {choice}"), len(encode(f" {choice}"))
            assert float(total) == pytest.approx(logprobs_of(readable, ids)[-n:].sum(), abs=of_sum)
            assert (str(is_greedy) == "True") == (likeliest(document["context"], n) == ids[-n:])
    for text, sample in zip(TEXTS, found["rolling"], strict=True):
        wanted = logprobs_of(readable, [readable.encoder.endoftext, *encode(text)]).sum()
        [[total]] = sample["resps"]
        assert float(total) == pytest.approx(wanted, abs=of_sum)
    [[text]] = found["writing"][0]["resps"]
    assert text == readable.encoder.decode(likeliest(STORY, 6)).split("\n")[0]
    served.wait_for_load(0)
