"""The command line in processes, on pipes and on a terminal."""

import json
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from dataclasses import replace
from pathlib import Path

import pytest

import gpt2core
from gpt2core.cli import main
from gpt2core.hparams import HParams
from gpt2core.store.folder import DATA_FILE, OPENAI_FILES, WEIGHTS_FILE
from gpt2core.store.loader import load_model
from gpt2core.store.weights import save_params
from tests.helpers.model_folders import SHAPE, write_model
from tests.helpers.openai_layout import SMALL, Answer, ReleaseServer, seeded_params, small_release
from tests.helpers.paths import ROOT
from tests.helpers.tokenizer_folders import N
from webapp.forms import DEFAULTS

PROMPT = "Once upon a time"


def start(*args, **options) -> subprocess.Popen:
    """``python -m gpt2core`` with these arguments, in a process of its own."""
    # Buffered as usual, whatever this machine has set: the command must flush by itself.
    env = {**os.environ, "PYTHONUNBUFFERED": "", **options.pop("env", {})}
    files = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(
        [sys.executable, "-m", "gpt2core", *args],
        cwd=ROOT,
        env=env,
        bufsize=0,  # reading one byte must not take others from communicate()
        # A job in the background of a script ignores Ctrl-C, and its children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        **{**files, **options},
    )


def run(*args, input: bytes = b"", **options) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of a whole run."""
    process = start(*args, **{"stdin": subprocess.PIPE, **options})
    out, err = process.communicate(input, timeout=120)
    return process.returncode, (out or b"").decode(), (err or b"").decode()


def continuation(text: str, n: int, demo) -> str:
    """What the bundled model writes after ``text``."""
    ids = gpt2core.generate(demo.encoder.encode(text), demo.params, demo.hparams.n_head, n)
    return demo.encoder.decode(ids)


def save_model(params: dict, folder: Path, hparams: HParams = SMALL) -> None:
    """A model, ready to load."""
    folder.mkdir(exist_ok=True)
    (folder / "hparams.json").write_text(json.dumps(hparams.to_dict()))
    save_params(folder / WEIGHTS_FILE, params)


def save_model_that_says(token_id: int, folder: Path, hparams: HParams = SMALL) -> None:
    """A model that answers ``token_id`` to everything."""
    params = seeded_params(hparams)
    params["wte"][token_id] = 10
    params["ln_f"]["g"][:], params["ln_f"]["b"][:] = 0, 1
    save_model(params, folder, hparams)


@pytest.fixture
def long_run(tmp_path) -> list[str]:
    """Arguments of a run that says `` the`` four thousand times: seconds, on any machine."""
    token_id = gpt2core.get_encoder().encoder["Ġthe"]
    save_model_that_says(token_id, tmp_path, replace(SMALL, n_ctx=5000))
    return [PROMPT, "--model_size", str(tmp_path), "--n_tokens_to_generate", "4000"]


# --- generate ---------------------------------------------------------------------


def test_a_prompt_is_continued_and_only_the_continuation_printed(demo, capfd):
    assert main([PROMPT, "--n_tokens_to_generate", "8", "--temperature", "0"]) == 0
    captured = capfd.readouterr()
    assert captured.out == continuation(PROMPT, 8, demo) + "\n"
    assert captured.err == ""


def test_greedy_by_default(tmp_path, capfd):
    save_model(seeded_params(SMALL), tmp_path)
    arguments = [PROMPT, "--model_size", str(tmp_path), "--n_tokens_to_generate", "8"]
    assert main(arguments) == 0
    assert capfd.readouterr().out == continuation(PROMPT, 8, load_model(str(tmp_path))) + "\n"


def test_the_bundled_model_has_the_defaults_of_the_page(capfd):
    page = {name: value for name, value in DEFAULTS.items() if name in ("temperature", "top_k")}
    spelled_out = [f"--{name}={value}" for name, value in page.items()]
    texts = []
    for options in ([], spelled_out, ["--top_k", "1"]):
        assert main([PROMPT, "--seed", "3", *options]) == 0
        texts.append(capfd.readouterr().out)
    assert texts[0] == texts[1] != texts[2]


def test_forty_tokens_by_default(capfd):
    assert main([PROMPT, "--json"]) == 0
    assert len(json.loads(capfd.readouterr().out)["tokens"]) == 40


def test_json_holds_the_whole_result(demo, capfd):
    options = "--json --n_tokens_to_generate 5 --temperature 0.9 --top_k 50 --top_p 0.95 --seed 7"
    assert main([PROMPT, *options.split()]) == 0
    result = json.loads(capfd.readouterr().out)
    assert list(result) == [
        "model", "prompt", "prompt_tokens", "text", "tokens", "finish_reason", "seed",
        "weights", "tokens_per_second",
    ]  # fmt: skip
    assert result["model"] == "demo" and result["prompt"] == PROMPT
    assert result["prompt_tokens"] == len(demo.encoder.encode(PROMPT))
    ids = [token["id"] for token in result["tokens"]]
    assert len(ids) == 5 and demo.encoder.decode(ids) == result["text"]
    for token in result["tokens"]:
        assert demo.encoder.encoder[token["piece"]] == token["id"]
        assert bytes.fromhex(token["bytes"]) == demo.encoder.token_bytes(token["id"])
        assert token["logprob"] <= 0
    assert result["finish_reason"] == "length" and result["seed"] == 7
    assert result["weights"] == "float32"
    assert result["tokens_per_second"] > 0


def test_a_seed_repeats_a_text_and_another_does_not(capfd):
    texts = []
    for seed in ("1", "1", "2"):
        options = "--temperature 1 --n_tokens_to_generate 12 --seed".split()
        assert main([PROMPT, *options, seed]) == 0
        texts.append(capfd.readouterr().out)
    assert texts[0] == texts[1] != texts[2]


def test_without_a_seed_the_json_holds_the_random_one(capfd):
    options = "--json --temperature 1 --n_tokens_to_generate 12".split()
    assert main([PROMPT, *options]) == 0
    first = json.loads(capfd.readouterr().out)
    assert main([PROMPT, *options, "--seed", str(first["seed"])]) == 0
    assert json.loads(capfd.readouterr().out)["text"] == first["text"]


def test_a_full_context_is_reported(capfd, tmp_path):
    save_model(seeded_params(SMALL), tmp_path)
    assert main([PROMPT, "--model_size", str(tmp_path), "--n_tokens_to_generate", "100"]) == 0
    assert capfd.readouterr().err == "gpt2core: stopped: the context of 64 tokens is full.\n"


def test_endoftext_ends_the_text_and_is_not_printed(capfd, tmp_path):
    save_model_that_says(50256, tmp_path)
    assert main([PROMPT, "--model_size", str(tmp_path), "--json"]) == 0
    result = json.loads(capfd.readouterr().out)
    assert result["text"] == "" and result["finish_reason"] == "endoftext"
    assert [token["id"] for token in result["tokens"]] == [50256]


def test_text_appears_as_it_is_generated(long_run):
    process = start(*long_run)
    shown = process.stdout.read(1)
    process.send_signal(signal.SIGSTOP)  # and look what has come by now
    os.set_blocking(process.stdout.fileno(), False)
    shown += process.stdout.read() or b""
    assert (b" the" * 4000).startswith(shown)
    assert len(shown) < 4 * 2000, "the first text came late"
    process.kill()
    process.communicate()


def test_an_unfinished_character_is_shown_at_the_end(capfd, tmp_path):
    token_id = gpt2core.get_encoder().encoder["Ã"]  # the byte c3, which begins a character
    save_model_that_says(token_id, tmp_path)
    assert main([PROMPT, "--model_size", str(tmp_path), "--n_tokens_to_generate", "2"]) == 0
    assert capfd.readouterr().out == "\ufffd\ufffd\n"


@pytest.mark.parametrize("arguments", [[], ["-"]])
def test_a_prompt_from_standard_input(arguments, demo):
    options = ["--n_tokens_to_generate", "4", "--temperature", "0"]
    status, out, err = run(*arguments, *options, input=f"{PROMPT}\n".encode())
    assert (status, out, err) == (0, continuation(PROMPT, 4, demo) + "\n", "")


def test_a_command_name_can_be_a_prompt(demo, capfd):
    options = ["--n_tokens_to_generate", "3", "--temperature", "0"]
    assert main(["generate", "models", *options]) == 0
    assert capfd.readouterr().out == continuation("models", 3, demo) + "\n"
    assert main(["tokenize me", *options]) == 0
    assert capfd.readouterr().out == continuation("tokenize me", 3, demo) + "\n"


# --- pipes, signals, errors -------------------------------------------------------


def test_a_closed_pipe_is_silent(long_run):
    process = start(*long_run)
    process.stdout.read(1)
    process.stdout.close()
    with process.stderr as errors:
        assert errors.read() == b""
    assert process.wait(timeout=60) == 141


def test_ctrl_c_is_silent(long_run):
    process = start(*long_run)
    process.stdout.read(1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and err == b"" and not out.endswith(b"\n")


def test_a_full_device_is_one_sentence():
    with open("/dev/full", "wb") as full:
        status, _, err = run("tokenize", "text", stdout=full)
    assert status == 1 and err == "gpt2core: writing the result failed: No space left on device\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([PROMPT, "--top_p", "2"], "Top-p is 2.0; it must be"),
        ([PROMPT, "--temperature", "-1"], "Temperature is -1.0; it must be"),
        ([PROMPT, "--n_tokens_to_generate", "0"], "Tokens to generate is 0; ask for "),
        (["", "--n_tokens_to_generate", "1"], "The prompt is empty"),
        (["word " * 3000], "The prompt is 3,001 tokens long; this model's context holds "),
        ([PROMPT, "--model_size", "unknown"], "there is no model 'unknown'"),
        (["tokenize", "x", "--model_size", "unknown"], "there is no model 'unknown'"),
        (["convert", "unknown"], "there is nothing to convert: models/unknown is not a folder."),
    ],
)
def test_an_error_is_one_sentence_and_status_1(arguments, sentence, capfd):
    assert main(arguments) == 1
    captured = capfd.readouterr()
    assert captured.out == "" and captured.err.startswith(f"gpt2core: {sentence}")
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [["", "--n_tokens_to_generate", "1"], [PROMPT, "--n_tokens_to_generate", "0"], ["no " * 1024]],
)
def test_invalid_input_is_an_error_before_the_download(arguments, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("GPT2_BASE_URL", "http://127.0.0.1:9/unreachable")
    assert main([*arguments, "--model_size", "124M", "--models_dir", str(tmp_path)]) == 1
    assert "unreachable" not in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [[PROMPT, "--n_tokens_to_generate", "few"], [PROMPT, "--nonsense"], ["download", "12M"],
     ["download"], ["convert"], [PROMPT, "and another"]],
)  # fmt: skip
def test_wrong_usage_is_status_2(arguments, capfd):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: python -m gpt2core" in capfd.readouterr().err


def test_without_a_prompt_on_a_terminal_the_usage_is_printed():
    status, out = on_a_terminal()
    assert status == 2 and "there is no prompt" in out


@pytest.mark.parametrize(
    "command", ["generate", "tokenize", "download", "convert", "models", "inspect"]
)
def test_every_command_has_its_help(command, capfd):
    for arguments in ([command, "--help"], ["--help"]):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 0
    assert f"  {command} " in capfd.readouterr().out  # and is in the list of them


# --- tokenize ---------------------------------------------------------------------


def test_tokens_in_columns(capfd):
    assert main(["tokenize", "Not all heroes wear capes."]) == 0
    assert capfd.readouterr().out == (
        "Not       3673  4e 6f 74\n"
        "Ġall       477  20 61 6c 6c\n"
        "Ġheroes  10281  20 68 65 72 6f 65 73\n"
        "Ġwear     5806  20 77 65 61 72\n"
        "Ġcap      1451  20 63 61 70\n"
        "es         274  65 73\n"
        ".           13  2e\n"
    )


def test_tokens_as_json(capfd):
    assert main(["tokenize", "--json", "Ah 🦉"]) == 0
    result = json.loads(capfd.readouterr().out)
    assert result["n_tokens"] == len(result["tokens"]) == 4
    assert result["tokens"][0] == {
        "id": 10910,
        "piece": "Ah",
        "bytes": "4168",
        "start": 0,
        "end": 2,
    }
    assert result["tokens"][1] == {
        "id": 12520, "piece": "ĠðŁ", "bytes": "20f09f", "start": 2, "end": 4
    }  # fmt: skip
    assert b"".join(bytes.fromhex(t["bytes"]) for t in result["tokens"]).decode() == "Ah 🦉"


def test_a5_special_tokens_are_read_on_request(capfd):
    assert main(["tokenize", "--json", "Hi there<|endoftext|>"]) == 0
    assert json.loads(capfd.readouterr().out)["n_tokens"] == 9
    assert main(["tokenize", "--json", "--special_tokens", "Hi there<|endoftext|>"]) == 0
    tokens = json.loads(capfd.readouterr().out)["tokens"]
    assert [token["id"] for token in tokens] == [17250, 612, 50256]
    assert [(token["start"], token["end"]) for token in tokens] == [(0, 2), (2, 8), (8, 21)]


def test_a4_a_folder_that_adds_tokens_has_them_read_by_default(capfd, tmp_path):
    write_model(tmp_path, "added_json", replace(SHAPE, n_vocab=N + 3))
    for option, n_tokens in (([], 6), (["--no-special_tokens"], 11)):
        arguments = ["--model_size", str(tmp_path), "--json", *option]
        assert main(["tokenize", "<|user|>Hello für", *arguments]) == 0
        tokenized = json.loads(capfd.readouterr().out)
        assert main(["generate", "<|user|>Hello für", *arguments]) == 0
        generated = json.loads(capfd.readouterr().out)
        assert tokenized["n_tokens"] == generated["prompt_tokens"] == n_tokens
        assert tokenized["tokens"][-1]["piece"] == "für"


def test_a5_a_folder_as_dialogpts_holds_a_dialogue(capfd, tmp_path):
    """Each turn ends with ``<|endoftext|>``, the user's and the model's."""
    write_model(tmp_path, "dialogue_config")
    model = load_model(str(tmp_path))
    prompt, ids = "", []
    for line in ("Hi there", "Not all, owls"):
        prompt += f"{line}<|endoftext|>"
        ids += [*model.encoder.encode(line), N - 1]
        options = ["--special_tokens", "--model_size", str(tmp_path), "--json"]
        assert main([prompt, *options, "--n_tokens_to_generate", "5"]) == 0
        answer = json.loads(capfd.readouterr().out)
        assert answer["prompt_tokens"] == len(ids)
        new = gpt2core.generate(ids, model.params, model.hparams.n_head, 5)
        assert [token["id"] for token in answer["tokens"]] == new
        prompt += f"{answer['text']}<|endoftext|>"
        ids += [*model.encoder.encode(answer["text"]), N - 1]


def test_tokens_of_standard_input_even_if_it_is_not_utf_8():
    status, out, err = run("tokenize", input=b"caf\xe9\n")
    assert (status, err) == (0, "")
    assert out.splitlines()[-1].endswith("ef bf bd")  # U+FFFD


def test_tokenizing_needs_no_weights(capfd, tmp_path):
    assert main(["tokenize", "Not", "--model_size", "1558M", "--models_dir", str(tmp_path)]) == 0
    assert capfd.readouterr().out == "Not   3673  4e 6f 74\n"
    assert list(tmp_path.iterdir()) == []


def test_no_text_has_no_tokens(capfd):
    assert main(["tokenize", ""]) == 0
    assert capfd.readouterr().out == ""


def test_colours_on_a_terminal_and_only_there():
    status, out = on_a_terminal("tokenize", "Not all")
    assert status == 0 and out.count("\x1b[48;5;") == 2
    chips = [line.split("m", 1)[0] for line in out.splitlines()]
    assert chips[0] != chips[1]  # neighbours differ
    for env in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        status, out = on_a_terminal("tokenize", "Not all", env=env)
        assert status == 0 and "\x1b" not in out
    assert "\x1b" not in run("tokenize", "Not all")[1]


def on_a_terminal(*args, env=None) -> tuple[int, str]:
    """Exit status and all that a terminal shows of a run."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    clean = {"NO_COLOR": "", "TERM": "xterm-256color", **(env or {})}
    process = start(*args, stdin=theirs, stdout=theirs, stderr=theirs, env=clean)
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 4096):
            shown += piece
    except OSError:  # how Linux says that the other side has closed
        pass
    os.close(ours)
    return process.wait(timeout=60), shown.decode().replace("\r\n", "\n")


# --- models -----------------------------------------------------------------------


def test_the_list_of_models(capfd, tmp_path):
    folder = tmp_path / "mine"
    save_model(seeded_params(SMALL), folder)
    (tmp_path / ".cache").mkdir()
    (tmp_path / "notes.txt").write_text("not a model")
    (tmp_path / "124M").mkdir()
    (tmp_path / "124M" / f"{DATA_FILE}.part").write_bytes(bytes(5000))
    assert main(["models", "--models_dir", str(tmp_path), "--json"]) == 0
    models = {model["name"]: model for model in json.loads(capfd.readouterr().out)["models"]}
    assert list(models) == ["demo", "124M", "355M", "774M", "1558M", "mine"]
    assert models["demo"]["state"] == models["mine"]["state"] == "ready"
    assert models["mine"]["n_params"] == SMALL.n_params
    assert models["mine"]["bytes"] == (folder / WEIGHTS_FILE).stat().st_size
    assert models["124M"]["state"] == "partial" and models["124M"]["bytes"] == 5000
    assert models["1558M"]["state"] == "missing"
    assert models["1558M"]["n_params"] == 1_557_611_200

    assert main(["models", "--models_dir", str(tmp_path)]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert len(lines) == 6
    assert lines[1].split()[:5] == ["124M", "124,439,808", "parameters", "5", "kB"]
    assert str(folder) in lines[5] and "ready" in lines[5]


def test_the_models_folder_may_come_from_the_environment(capfd, tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    monkeypatch.setenv("GPT2_MODELS_DIR", str(tmp_path))
    assert main(["models"]) == 0
    assert "mine" in capfd.readouterr().out


# --- download to text -------------------------------------------------------------


def test_inspect_describes_a_folder_and_ends_with_its_refusal(capfd, tmp_path):
    write_model(tmp_path / "good"), write_model(tmp_path / "bad", "lowercase")
    assert main(["inspect", "good", "--models_dir", str(tmp_path)]) == 0
    assert capfd.readouterr().out.splitlines()[-1] == "result      the folder loads."
    assert main(["inspect", str(tmp_path / "bad")]) == 1
    out, err = capfd.readouterr()
    assert out.splitlines()[-1] == "result      the folder is refused."
    assert err.startswith(f"gpt2core: {tmp_path / 'bad' / 'tokenizer.json'}: normalizer is")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with ReleaseServer(small_release(tmp_path_factory).parent) as server:
        yield server


def test_a_killed_download_is_resumed_by_one_of_two_processes_and_used(server, tmp_path, stand_in):
    size = 4 * SMALL.n_params
    ours = {"GPT2_BASE_URL": server.url}
    arguments = [PROMPT, "--model_size", "124M", "--models_dir", str(tmp_path)]
    arguments += ["--n_tokens_to_generate", "6"]
    encoder, params = gpt2core.get_encoder(), seeded_params(SMALL)
    ids = gpt2core.generate(encoder.encode(PROMPT), params, SMALL.n_head, 6)

    server.answers[DATA_FILE] = [Answer(hold=int(0.7 * size))]
    first = start(*arguments, env=ours)
    part = tmp_path / "124M" / f"{DATA_FILE}.part"
    deadline = time.monotonic() + 60
    while not part.exists() or part.stat().st_size < 0.6 * size:
        assert time.monotonic() < deadline and first.poll() is None
        time.sleep(0.01)
    first.kill()
    first.communicate()
    server.requests.clear()
    server.always[DATA_FILE] = Answer(slow=0.05)  # so that the second one finds the first

    both = [start(*arguments, env=ours), start(*arguments, env=ours)]
    for process in both:
        out, err = process.communicate(timeout=120)
        assert (process.returncode, out.decode()) == (0, encoder.decode(ids) + "\n"), err.decode()
    [request] = server.requests  # one of the two, and only for the rest
    assert request.name == DATA_FILE and request.status == 206
    assert {path.name for path in (tmp_path / "124M").iterdir()} == {
        WEIGHTS_FILE,
        *OPENAI_FILES,
    }

    # From now on: no server, no TensorFlow, no waiting.
    gone = {"GPT2_BASE_URL": "http://127.0.0.1:9", "PYTHONPATH": stand_in}
    assert run(*arguments, env=gone) == (0, encoder.decode(ids) + "\n", "")
    status, out, err = run("download", "124M", "--models_dir", str(tmp_path), env=gone)
    assert (status, err) == (0, "")
    assert out == (
        f"{tmp_path}/124M is ready (2 MB).\nIts model.ckpt.* files (2 MB) are no longer needed.\n"
    )


@pytest.fixture
def stand_in(tmp_path_factory) -> str:
    """A folder with a TensorFlow that must not be imported, for PYTHONPATH."""
    folder = tmp_path_factory.mktemp("path")
    (folder / "tensorflow.py").write_text("raise SystemExit('tensorflow was imported')")
    return str(folder)


def test_a_download_that_fails_is_one_sentence(server, tmp_path):
    status, out, err = run(
        "download", "355M", "--models_dir", str(tmp_path), env={"GPT2_BASE_URL": server.url}
    )
    assert (status, out) == (1, "")
    assert err == (
        f"gpt2core: {server.url}/355M/hparams.json answered 404 Not Found. "
        "Is GPT2_BASE_URL right?\n"
    )


def test_a_bar_on_a_terminal_and_only_notes_elsewhere(server, tmp_path):
    """Without TensorFlow, which ends it before the conversion but costs no ten seconds."""
    (tmp_path / "tensorflow.py").write_text("raise ImportError('none here')")
    env = {"GPT2_BASE_URL": server.url, "PYTHONPATH": str(tmp_path)}
    server.answers["checkpoint"] = [Answer(status=503)]
    status, shown = on_a_terminal("download", "124M", "--models_dir", f"{tmp_path}/a", env=env)
    assert status == 1 and "pip install tensorflow" in shown
    assert "download: 100%" in shown and "MB/s" in shown
    server.answers["checkpoint"] = [Answer(status=503)]
    status, out, err = run("download", "124M", "--models_dir", f"{tmp_path}/b", env=env)
    assert (status, out) == (1, "")
    note, sentence = err.splitlines()
    assert note.endswith("checkpoint answered 503 Service Unavailable; trying again in 1 s.")
    assert sentence.startswith("gpt2core: OpenAI's checkpoint files can only be read by Tens")


def test_control_characters_of_a_model_do_not_reach_a_terminal(tmp_path):
    save_model_that_says(gpt2core.get_encoder().encode("\x1b")[0], tmp_path)
    arguments = [PROMPT, "--model_size", str(tmp_path), "--n_tokens_to_generate", "2"]
    status, shown = on_a_terminal(*arguments)
    assert status == 0 and "\x1b" not in shown and "\ufffd\ufffd" in shown
    assert run(*arguments)[1] == "\x1b\x1b\n"  # a pipe gets what was generated
