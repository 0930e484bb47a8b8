"""The command line: ``python -m gpt2core "prompt"``, and commands for models and tokens.

A thin layer over the loader, the tokenizer and :func:`gpt2core.generate.stream`. It
behaves like a Unix tool: only the result goes to standard output; an error is one sentence
on standard error with status 1 (2: wrong usage); a prompt may come from standard input;
Ctrl-C (status 130) and a closed pipe (141) print nothing.

Invariant: text appears as it is generated, in complete characters.
"""

import argparse
import io
import os
import sys
from typing import Any, get_args

from gpt2core import score_report
from gpt2core.cli_models import (
    Command,
    add_models_dir,
    convert_command,
    download_command,
    inspect_command,
    models_command,
)
from gpt2core.continuation import Continuation, text_tokens, tokens_to_json
from gpt2core.engine.packed import Precision
from gpt2core.errors import GPT2Error
from gpt2core.generate import check_n_tokens, stream
from gpt2core.hparams import MODEL_SIZES, check_prompt
from gpt2core.inside.command import DESCRIPTION, add_options, look_inside
from gpt2core.sampling import SamplingParams, fresh_seed
from gpt2core.scoring import engine_scorer
from gpt2core.settings import Settings
from gpt2core.stopping import MAX_STOPS, check_stops
from gpt2core.store.loader import (
    DEMO_NAME,
    Model,
    get_encoder,
    get_hparams,
    load_model,
    model_state,
    prepare_model,
)
from gpt2core.terminal import ProgressBar, chip, has_colour, print_json, printable
from gpt2core.tokenizer.bpe import Encoder

# The bundled model soon repeats itself if it always takes the likeliest token. Its defaults
# are those of the page's controls.
DEMO_DEFAULTS = {"temperature": 0.7, "top_k": 40}

EPILOG = """\
A first word that is exactly one of these is a command, anything else the prompt:

  generate [PROMPT]     the same as above; for a prompt that is a command's name
  tokenize [TEXT]       how GPT-2 cuts a text: piece, id and bytes of each token
  inside [TEXT]         how a model computes its next token: lens, attribution, attention
  score [TEXT]          how probable a model finds each token of a text; perplexity
  download SIZE         make one of OpenAI's models ready: 124M, 355M, 774M or 1558M
  convert MODEL         turn a folder's TensorFlow checkpoint into model.safetensors
  models                what is here, its size and state
  inspect FOLDER        what lies in a model's folder, and whether it loads or why not

`python -m gpt2core COMMAND --help` describes each. Without PROMPT or TEXT, or if it is -,
the text is read from standard input; its final line end is dropped.
"""


def main(argv: list[str]) -> int:
    """Run one command; returns the exit status."""
    is_command = bool(argv) and argv[0] in COMMANDS
    command = argv[0] if is_command else "generate"
    parser = argparse.ArgumentParser(
        prog=f"python -m gpt2core {command}" if is_command else "python -m gpt2core",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    run = COMMANDS[command](parser)
    args = parser.parse_args(argv[1:] if is_command else argv)
    if sys.stdout is None:  # the parent process closed it, so nothing can be printed
        return 1
    if isinstance(sys.stdout, io.TextIOWrapper):
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
    """Print an error; returns the exit status ``status``."""
    sys.stdout.flush()
    print(f"gpt2core: {message}", file=sys.stderr)
    return status


def drop_output() -> None:
    """Point standard output at the null device, so that flushing it at exit cannot fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


# --- what several commands share --------------------------------------------------


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """``--model_size`` and ``--models_dir``."""
    parser.add_argument(
        "--model_size",
        default=DEMO_NAME,
        metavar="MODEL",
        help=f"{', '.join(MODEL_SIZES)}, a folder under --models_dir, or a directory "
        f"(default: {DEMO_NAME}, the small model that is always there)",
    )
    add_models_dir(parser)


def add_weights(parser: argparse.ArgumentParser) -> None:
    """``--weights``: the precision of the weights that the engine computes with."""
    parser.add_argument(
        "--weights",
        choices=get_args(Precision),
        default=Settings.from_environment("weights").weights,
        help="float32, or int8: faster, a quarter of the memory, a little less exact "
        "(default: $GPT2_WEIGHTS, else float32)",
    )


def add_special_tokens(parser: argparse.ArgumentParser) -> None:
    """``--special_tokens``; None if it is not given."""
    parser.add_argument(
        "--special_tokens",
        action=argparse.BooleanOptionalAction,
        help="read <|endoftext|> and other special tokens in the text as tokens, not as "
        "characters (default: only if the model's folder adds tokens of its own)",
    )


def read_text(argument: str | None, parser: argparse.ArgumentParser) -> str:
    """The text of the command line, or of standard input if it is absent or ``-``."""
    if argument is not None and argument != "-":
        return argument
    if sys.stdin is None or (argument is None and sys.stdin.isatty()):
        parser.error("there is no prompt: put it in quotes, or pipe it in")
    text = sys.stdin.buffer.read().decode("utf-8", errors="replace")
    return text.removesuffix("\n").removesuffix("\r")


# --- generate ---------------------------------------------------------------------


def generate_command(parser: argparse.ArgumentParser) -> Command:
    """The options of ``generate``; returns the function that runs it."""
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
        "--top_p",
        type=float,
        default=1.0,
        help="keep the likeliest tokens with probability p together (1: all)",
    )
    parser.add_argument(
        "--seed", type=int, help="with a temperature: the same seed gives the same text again"
    )
    parser.add_argument(
        "--stop",
        action="append",
        default=[],
        metavar="TEXT",
        help=f"end before this text; may be given {MAX_STOPS} times",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    add_weights(parser)
    add_special_tokens(parser)
    add_model_options(parser)

    def run(args: argparse.Namespace) -> None:
        sampling = chosen_sampling(args)
        prompt = read_text(args.prompt, parser)
        name, models_dir = args.model_size, args.models_dir
        check_n_tokens(args.n_tokens_to_generate)
        check_stops(args.stop)
        if model_state(name, models_dir).status != "ready":
            # stream() checks the prompt too, but only after half a gigabyte is downloaded.
            encoder, hparams = get_encoder(name, models_dir), get_hparams(name, models_dir)
            check_prompt(
                encoder.encode(prompt, args.special_tokens), hparams.n_vocab, hparams.n_ctx
            )
        with ProgressBar() as bar:
            prepare_model(name, models_dir, bar)
        model = load_model(name, models_dir)
        generate_text(model, prompt, sampling, args)

    return run


def chosen_sampling(args: argparse.Namespace) -> SamplingParams:
    """The sampling options, with the model's defaults for those that are not given."""
    defaults = DEMO_DEFAULTS if args.model_size == DEMO_NAME else {"temperature": 0.0, "top_k": 0}
    given = {name: getattr(args, name) for name in defaults if getattr(args, name) is not None}
    values: dict[str, Any] = {**defaults, **given}
    seed = fresh_seed() if args.seed is None else args.seed
    return SamplingParams(**values, top_p=args.top_p, seed=seed)


def generate_text(
    model: Model, prompt: str, sampling: SamplingParams, args: argparse.Namespace
) -> None:
    """Stream the continuation to standard output, or print all of it as JSON."""
    n_tokens, as_json = args.n_tokens_to_generate, args.json
    ids = model.encoder.encode(prompt, args.special_tokens)
    engine = model.engine(precision=args.weights)
    tokens = stream(engine, ids, n_tokens, sampling, model.encoder.rules.end_ids)
    continuation = Continuation(model.encoder, prompt, ids, stop=args.stop)
    for token in tokens:
        text = "".join(step.text for step in continuation.add(token))
        if text and not as_json:
            sys.stdout.write(printable(text, sys.stdout))
            sys.stdout.flush()
        if continuation.finish_reason:
            break
    if as_json:
        print_json(continuation.to_json(model.name, sampling.seed, args.weights))
        return
    print()
    if continuation.finish_reason == "context":
        print(
            f"gpt2core: stopped: the context of {model.hparams.n_ctx:,} tokens is full.",
            file=sys.stderr,
        )


# --- tokenize ---------------------------------------------------------------------


def tokenize_command(parser: argparse.ArgumentParser) -> Command:
    """The options of ``tokenize``; returns the function that runs it."""
    parser.description = "Print piece, id and bytes of each token of a text. Needs no weights."
    parser.add_argument("text", nargs="?", metavar="TEXT")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_special_tokens(parser)
    add_model_options(parser)

    def run(args: argparse.Namespace) -> None:
        encoder = get_encoder(args.model_size, args.models_dir)
        text = read_text(args.text, parser)
        ids = encoder.encode(text, args.special_tokens)
        if args.json:
            print_json(tokens_to_json(text_tokens(encoder, text, ids)))
        else:
            print_tokens(encoder, ids)

    return run


def print_tokens(encoder: Encoder, ids: list[int]) -> None:
    """One line a token, in columns."""
    # Every symbol of the byte alphabet is one column wide, so len() is the width.
    width = max((len(encoder.decoder[token_id]) for token_id in ids), default=0)
    colour = has_colour(sys.stdout)
    for position, token_id in enumerate(ids):
        piece = encoder.decoder[token_id]
        shown = chip(piece, position) if colour else piece
        padding = " " * (width - len(piece))
        print(f"{shown}{padding}  {token_id:5}  {encoder.token_bytes(token_id).hex(' ')}")


# --- inside -----------------------------------------------------------------------


def inside_command(parser: argparse.ArgumentParser) -> Command:
    """The options of ``inside``; returns the function that runs it."""
    parser.description = DESCRIPTION
    parser.add_argument("text", nargs="?", metavar="TEXT")
    add_options(parser)
    add_special_tokens(parser)
    add_model_options(parser)

    def run(args: argparse.Namespace) -> None:
        text = read_text(args.text, parser)
        with ProgressBar() as bar:
            prepare_model(args.model_size, args.models_dir, bar)
        print(look_inside(load_model(args.model_size, args.models_dir), text, args))

    return run


# --- score ------------------------------------------------------------------------


def score_command(parser: argparse.ArgumentParser) -> Command:
    """The options of ``score``; returns the function that runs it."""
    parser.description = score_report.DESCRIPTION
    parser.add_argument("text", nargs="?", metavar="TEXT")
    score_report.add_options(parser)
    add_weights(parser)
    add_special_tokens(parser)
    add_model_options(parser)

    def run(args: argparse.Namespace) -> None:
        if args.files and args.text is not None:
            parser.error("give a text or --files, not both")
        texts = {str(path): score_report.read_file(path) for path in args.files or ()}
        texts = texts or {"": read_text(args.text, parser)}
        with ProgressBar() as bar:
            prepare_model(args.model_size, args.models_dir, bar)
        model = load_model(args.model_size, args.models_dir)
        score = engine_scorer(model.engine(precision=args.weights))
        for title, text in texts.items():
            print(score_report.score_report(model, score, text, args, title), flush=True)

    return run


COMMANDS = {
    "generate": generate_command,
    "tokenize": tokenize_command,
    "inside": inside_command,
    "score": score_command,
    "download": download_command,
    "convert": convert_command,
    "models": models_command,
    "inspect": inspect_command,
}
