"""The command line: ``python -m gpt2core "prompt"``, and commands for models and tokens.

A thin shell around the loader, the tokenizer and :func:`gpt2core.generate.stream`. It
behaves as a Unix tool: the result on standard output and nothing else there, errors as
one sentence on standard error with status 1 (2: wrong usage), a prompt from standard
input, silence on Ctrl-C (130) and on a closed pipe (141).

Invariant: text appears as it is generated, in whole characters.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

from gpt2core.errors import GPT2Error
from gpt2core.files import file_size, format_bytes
from gpt2core.generate import check_n_tokens, stream
from gpt2core.hparams import MODEL_SIZES, check_prompt
from gpt2core.inside.command import DESCRIPTION, add_options, look_inside
from gpt2core.sampling import SamplingParams, fresh_seed
from gpt2core.settings import Settings
from gpt2core.store.checkpoint import convert_checkpoint
from gpt2core.store.folder import WEIGHTS_FILE, read_hparams
from gpt2core.store.loader import (
    DEMO_NAME,
    get_encoder,
    get_hparams,
    load_model,
    model_directory,
    model_state,
    prepare_model,
)
from gpt2core.terminal import ProgressBar, chip, has_colour, printable
from gpt2core.tokenizer.decoding import StreamDecoder, token_spans

# Always taking the likeliest token, the bundled model soon goes round in circles. It starts
# from what the page's controls start from.
DEMO_DEFAULTS = {"temperature": 0.8, "top_k": 40}

EPILOG = """\
A first word that is exactly one of these is a command, anything else the prompt:

  generate [PROMPT]     the same as above; for a prompt that is a command's name
  tokenize [TEXT]       how GPT-2 cuts a text: piece, id and bytes of each token
  inside [TEXT]         how a model computes its next token: lens, attribution, attention
  download SIZE         make one of OpenAI's models ready: 124M, 355M, 774M or 1558M
  convert MODEL         turn a folder's TensorFlow checkpoint into model.safetensors
  models                what is here, its size and state

`python -m gpt2core COMMAND --help` tells more of each. Without PROMPT or TEXT, or where
it is -, standard input is read, without its last line's end.
"""


def main(argv: list[str]) -> int:
    """Run one command; the exit status."""
    is_command = bool(argv) and argv[0] in COMMANDS
    command = argv[0] if is_command else "generate"
    parser = argparse.ArgumentParser(
        prog=f"python -m gpt2core {command}" if is_command else "python -m gpt2core",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    run = COMMANDS[command](parser)
    args = parser.parse_args(argv[1:] if is_command else argv)
    if sys.stdout is None:  # closed by whoever started us: there is nobody to tell
        return 1
    sys.stdout.reconfigure(encoding="utf-8", errors="replace")
    try:
        run(args)
        sys.stdout.flush()
        return 0
    except GPT2Error as error:
        return fail(str(error), 1)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        drop_output()
        return 141
    except OSError as error:
        drop_output()
        what = error.filename or "writing the result failed"
        return fail(f"{what}: {error.strerror or error}", 1)


def fail(message: str, status: int) -> int:
    """Tell what went wrong; the exit status."""
    sys.stdout.flush()
    print(f"gpt2core: {message}", file=sys.stderr)
    return status


def drop_output() -> None:
    """Send what is still buffered nowhere, so that Python does not stumble over it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


# --- what several commands share --------------------------------------------------


def add_model_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model_size",
        default=DEMO_NAME,
        metavar="MODEL",
        help=f"{', '.join(MODEL_SIZES)}, a folder under --models_dir, or a directory "
        f"(default: {DEMO_NAME}, the small model that is always there)",
    )
    add_models_dir(parser)


def add_models_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--models_dir",
        default=Settings.from_environment("models_dir").models_dir,
        metavar="DIR",
        help="where models are kept (default: $GPT2_MODELS_DIR, else models)",
    )


def read_text(argument: str | None, parser: argparse.ArgumentParser) -> str:
    """The text of the command line, or of standard input where it is absent or ``-``."""
    if argument not in (None, "-"):
        return argument
    if sys.stdin is None or (argument is None and sys.stdin.isatty()):
        parser.error("there is no prompt: put it in quotes, or pipe it in")
    text = sys.stdin.buffer.read().decode("utf-8", errors="replace")
    return text.removesuffix("\n").removesuffix("\r")


def print_json(value) -> None:
    print(json.dumps(value, ensure_ascii=False))


# --- generate ---------------------------------------------------------------------


def generate_command(parser: argparse.ArgumentParser):
    """Continue a prompt, and print the continuation as it comes."""
    parser.description = "Continue a prompt, and print the continuation as it comes."
    parser.epilog = EPILOG
    parser.add_argument("prompt", nargs="?", metavar="PROMPT")
    parser.add_argument(
        "--n_tokens_to_generate", type=int, default=40, metavar="N", help="at most (default: 40)"
    )
    parser.add_argument(
        "--temperature",
        type=float,
        help="0: always the likeliest token "
        f"(default: 0; {DEMO_NAME}: {DEMO_DEFAULTS['temperature']})",
    )
    parser.add_argument(
        "--top_k",
        type=int,
        help="keep the k likeliest tokens; 0: all "
        f"(default: 0; {DEMO_NAME}: {DEMO_DEFAULTS['top_k']})",
    )
    parser.add_argument(
        "--top_p", type=float, default=1.0, help="keep the likeliest share p (1: all)"
    )
    parser.add_argument(
        "--seed", type=int, help="with a temperature: the same seed gives the same text again"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    add_model_options(parser)

    def run(args: argparse.Namespace) -> None:
        sampling = chosen_sampling(args)
        prompt = read_text(args.prompt, parser)
        name, models_dir = args.model_size, args.models_dir
        check_n_tokens(args.n_tokens_to_generate)
        if model_state(name, models_dir).status != "ready":
            # stream() checks the prompt too, but that would be half a gigabyte later.
            encoder, hparams = get_encoder(name, models_dir), get_hparams(name, models_dir)
            check_prompt(encoder.encode(prompt), hparams.n_vocab, hparams.n_ctx)
        with ProgressBar() as bar:
            prepare_model(name, models_dir, bar)
        model = load_model(name, models_dir)
        generate_text(model, prompt, args.n_tokens_to_generate, sampling, args.json)

    return run


def chosen_sampling(args: argparse.Namespace) -> SamplingParams:
    """The options about sampling, with the model's defaults for what was not given."""
    defaults = DEMO_DEFAULTS if args.model_size == DEMO_NAME else {"temperature": 0.0, "top_k": 0}
    given = {name: getattr(args, name) for name in defaults if getattr(args, name) is not None}
    seed = fresh_seed() if args.seed is None else args.seed
    return SamplingParams(**{**defaults, **given}, top_p=args.top_p, seed=seed)


def generate_text(
    model, prompt: str, n_tokens: int, sampling: SamplingParams, as_json: bool
) -> None:
    """Stream the continuation to standard output, or print all of it as JSON."""
    encoder, decoder = model.encoder, StreamDecoder()
    ids = encoder.encode(prompt)
    endoftext = encoder.endoftext
    text, tokens, times = "", [], []
    for token in stream(model.engine(), ids, n_tokens, sampling, endoftext):
        tokens.append(token)
        times.append(time.perf_counter())
        piece = "" if token.id == endoftext else decoder.feed(encoder.token_bytes(token.id))
        if token.finish_reason:
            piece += decoder.flush()
        text += piece
        if not as_json:
            sys.stdout.write(printable(piece, sys.stdout))
            sys.stdout.flush()
    if not as_json:
        print()
        if tokens[-1].finish_reason == "context":
            print(
                f"gpt2core: stopped: the context of {model.hparams.n_ctx:,} tokens is full.",
                file=sys.stderr,
            )
        return
    # Of decoding, as the web page tells it; one token has no speed.
    speed = (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else None
    print_json(
        {
            "model": model.name,
            "prompt": prompt,
            "prompt_tokens": len(ids),
            "text": text,
            "tokens": [
                token_json(encoder, token.id) | {"logprob": round(token.logprob, 6)}
                for token in tokens
            ],
            "finish_reason": tokens[-1].finish_reason,
            "seed": sampling.seed,
            "tokens_per_second": round(speed, 1) if speed else None,
        }
    )


def token_json(encoder, id: int) -> dict:
    """A token as JSON, the same as the web page's."""
    return {"id": id, "piece": encoder.decoder[id], "bytes": encoder.token_bytes(id).hex()}


# --- tokenize ---------------------------------------------------------------------


def tokenize_command(parser: argparse.ArgumentParser):
    """Print the tokens of a text."""
    parser.description = "Print piece, id and bytes of each token of a text. Needs no weights."
    parser.add_argument("text", nargs="?", metavar="TEXT")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_model_options(parser)

    def run(args: argparse.Namespace) -> None:
        encoder = get_encoder(args.model_size, args.models_dir)
        text = read_text(args.text, parser)
        ids = encoder.encode(text)
        if args.json:
            spans = token_spans(text, [encoder.token_bytes(id) for id in ids])
            tokens = [
                token_json(encoder, id) | {"start": start, "end": end}
                for id, (start, end) in zip(ids, spans, strict=True)
            ]
            print_json({"n_tokens": len(ids), "tokens": tokens})
        else:
            print_tokens(encoder, ids)

    return run


def print_tokens(encoder, ids: list[int]) -> None:
    """One line a token, in columns."""
    # Every symbol of the byte alphabet is one column wide, so len() aligns.
    width = max((len(encoder.decoder[id]) for id in ids), default=0)
    colour = has_colour(sys.stdout)
    for position, id in enumerate(ids):
        piece = encoder.decoder[id]
        shown = chip(piece, position) if colour else piece
        padding = " " * (width - len(piece))
        print(f"{shown}{padding}  {id:5}  {encoder.token_bytes(id).hex(' ')}")


# --- inside -----------------------------------------------------------------------


def inside_command(parser: argparse.ArgumentParser):
    """Show how a model computes its next token."""
    parser.description = DESCRIPTION
    parser.add_argument("text", nargs="?", metavar="TEXT")
    add_options(parser)
    add_model_options(parser)

    def run(args: argparse.Namespace) -> None:
        text = read_text(args.text, parser)
        with ProgressBar() as bar:
            prepare_model(args.model_size, args.models_dir, bar)
        print(look_inside(load_model(args.model_size, args.models_dir), text, args))

    return run


# --- models -----------------------------------------------------------------------


def download_command(parser: argparse.ArgumentParser):
    """Download and convert one of OpenAI's models."""
    parser.description = (
        "Make one of OpenAI's models ready: download its files, from $GPT2_BASE_URL or OpenAI, "
        "and convert them. A download that broke off goes on where it was."
    )
    parser.add_argument("size", choices=MODEL_SIZES)
    add_models_dir(parser)

    def run(args: argparse.Namespace) -> None:
        with ProgressBar() as bar:
            prepare_model(args.size, args.models_dir, bar)
        tell_ready(model_directory(args.size, args.models_dir))

    return run


def convert_command(parser: argparse.ArgumentParser):
    """Convert a TensorFlow checkpoint."""
    parser.description = (
        "Turn the TensorFlow checkpoint in a folder (hparams.json and model.ckpt.*) into "
        "model.safetensors beside it. The checkpoint is left as it is."
    )
    parser.add_argument(
        "model", metavar="MODEL", help="a folder under --models_dir, or a directory"
    )
    add_models_dir(parser)

    def run(args: argparse.Namespace) -> None:
        directory = model_directory(args.model, args.models_dir)
        if not directory.is_dir():
            raise GPT2Error(f"there is nothing to convert: {directory} is not a folder.")
        with ProgressBar() as bar:
            convert_checkpoint(directory, bar)
        tell_ready(directory)

    return run


def tell_ready(directory: Path) -> None:
    """Say that a model is ready, and what is not needed any more."""
    print(f"{directory} is ready ({format_bytes(file_size(directory / WEIGHTS_FILE))}).")
    checkpoint = sum(file.stat().st_size for file in directory.glob("model.ckpt.*"))
    if checkpoint:
        print(f"Its model.ckpt.* files ({format_bytes(checkpoint)}) are no longer needed.")


def models_command(parser: argparse.ArgumentParser):
    """List the models."""
    parser.description = "List the models that are here or can be downloaded: size, state, folder."
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_models_dir(parser)

    def run(args: argparse.Namespace) -> None:
        models = [describe_model(name, args.models_dir) for name in model_names(args.models_dir)]
        if args.json:
            print_json({"models": models})
            return
        for model in models:
            n_params = f"{model['n_params']:,}" if model["n_params"] else "?"
            here = format_bytes(model["bytes"]) if model["bytes"] else "-"
            print(
                f"{model['name']:12}  {n_params:>13} parameters  {here:>8}  "
                f"{model['state']:16}  {model['directory']}"
            )

    return run


def model_names(models_dir: str) -> list[str]:
    """The bundled model, the released sizes, and every other folder under ``models_dir``."""
    root = Path(models_dir)
    folders = sorted(root.glob("[!.]*/")) if root.is_dir() else []
    return list(dict.fromkeys([DEMO_NAME, *MODEL_SIZES, *(folder.name for folder in folders)]))


def describe_model(name: str, models_dir: str) -> dict:
    """One line of the list of models."""
    directory = model_directory(name, models_dir)
    try:
        hparams = read_hparams(directory)
    except GPT2Error:
        hparams = MODEL_SIZES.get(name)
    state = model_state(name, models_dir)
    return {
        "name": name,
        "n_params": hparams.n_params if hparams else None,
        "bytes": state.bytes_done,
        "state": state.status,
        "directory": str(directory),
    }


COMMANDS = {
    "generate": generate_command,
    "tokenize": tokenize_command,
    "inside": inside_command,
    "download": download_command,
    "convert": convert_command,
    "models": models_command,
}
