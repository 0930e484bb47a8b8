"""How well a model's stories hold together, in a few counts, beside real stories.

Makes the table of coherence of ``gpt2core/demo/README.md``, with NumPy alone::

    python tools/judge_stories.py stories_valid.txt --model demo

Draws ``--samples`` stories with seeds 1, 2, 3 … from one prompt, and takes as many real
ones of the held-out text that begin with the same words. Both are at most as long as the
model's context, prompt included. :func:`judge` says what is counted in one story,
:func:`summary` what is made of the counts.

The counts need no model and know a few English words only. They miss most of what a
person sees (a cause without its effect, a ball that turns into a bird), so they compare
models with one another and with real stories. They replace no reading.

Invariant: the same weights, options and text give the same table.
"""

import argparse
import re
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

# The project is run from its checkout, and `python tools/…` does not look there.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from gpt2core.cli import DEMO_DEFAULTS
from gpt2core.engine.engine import Engine
from gpt2core.errors import GPT2Error, InputError
from gpt2core.generate import stream
from gpt2core.sampling import SamplingParams
from gpt2core.store.loader import Model, load_model
from tools.bits_per_byte import read_works

WORD = re.compile(r"[A-Za-z]+(?:'[A-Za-z]+)*")
# What stands between a word and the end of the sentence, or the opening quote, before it.
SENTENCE_START = re.compile(r'(?:^|[.!?:]["\']*|["\n])\s*["\']*$')
FEMALE = frozenset(
    "girl woman lady princess queen sister mom mommy mum mummy mother grandma".split()
)
MALE = frozenset("boy man prince king brother dad daddy father grandpa".split())
PRONOUNS = {"she": FEMALE, "her": FEMALE, "hers": FEMALE, "herself": FEMALE}
PRONOUNS |= {"he": MALE, "him": MALE, "his": MALE, "himself": MALE}
# Capitalised inside a sentence, and yet nobody's name.
NOT_NAMES = frozenset(
    "I I'm I'll I've I'd Mom Mommy Mum Mummy Mama Mother Dad Daddy Papa Father Grandma Grandpa "
    "Mr Mrs Ms Miss Dr God Christmas Halloween Easter TV OK Ok Monday Tuesday Wednesday "
    "Thursday Friday Saturday Sunday".split()
)


@dataclass(frozen=True)
class Story:
    """A text, and whether it came to its end within the model's context."""

    text: str
    ended: bool


@dataclass(frozen=True)
class Judgement:
    """What was counted in one story; see :func:`judge`."""

    ended: bool
    n_words: int
    n_names: int
    n_names_again: int
    first_name_stays: bool
    n_pronouns: int
    n_pronouns_agreeing: int
    n_four_grams: int
    n_four_grams_repeated: int


# --- counts -----------------------------------------------------------------------


def judge(story: Story) -> Judgement:
    """Count in one story:

    - *names*: words with a capital inside a sentence, except a few that are no names;
      *again* if they occur at least twice;
    - *first_name_stays*: the name that occurs first occurs in the last third of the words;
    - *pronouns*: ``he``, ``she`` and their forms, in a story with one person only (see
      :func:`only_person`); *agreeing* if they have that person's gender;
    - *four_grams*: runs of four words; *repeated* if the story had them before.
    """
    words = WORD.findall(story.text)
    lower = [word.lower() for word in words]
    bare = [word.removesuffix("'s") for word in words]
    counts = Counter(bare)
    names = names_in(story.text)
    first = next((word for word in bare if word in names), None)
    person = only_person(lower, names)
    pronouns = [PRONOUNS[word] for word in lower if word in PRONOUNS] if person else []
    four_grams = list(zip(*(lower[i:] for i in range(4)), strict=False))
    return Judgement(
        ended=story.ended,
        n_words=len(words),
        n_names=len(names),
        n_names_again=sum(counts[name] > 1 for name in names),
        first_name_stays=first in bare[2 * len(bare) // 3 :] if first else False,
        n_pronouns=len(pronouns),
        n_pronouns_agreeing=sum(gender is person for gender in pronouns),
        n_four_grams=len(four_grams),
        n_four_grams_repeated=len(four_grams) - len(set(four_grams)),
    )


def names_in(text: str) -> set[str]:
    """The words that have a capital where the language asks for none, so are names."""
    return {
        match.group().removesuffix("'s")
        for match in WORD.finditer(text)
        if match.group()[0].isupper()
        and match.group().removesuffix("'s") not in NOT_NAMES
        and not SENTENCE_START.search(text[max(0, match.start() - 8) : match.start()])
    }


def only_person(words: list[str], names: set[str]) -> frozenset[str] | None:
    """The gender (FEMALE or MALE) of a story's only person, None where that is unclear.

    Clear is a story that mentions one kind of person (``girl`` but no ``mom``) and at
    most one name.
    """
    persons = {word.removesuffix("'s") for word in words} & (FEMALE | MALE)
    if len(persons) != 1 or len(names) > 1:
        return None
    return FEMALE if persons <= FEMALE else MALE


def summary(judgements: list[Judgement]) -> list[tuple[str, str]]:
    """Rows of a table: what it is, and the share over all the stories together."""

    def total(field: str) -> int:
        return sum(getattr(judgement, field) for judgement in judgements)

    with_names = sum(judgement.n_names > 0 for judgement in judgements)
    with_pronouns = sum(judgement.n_pronouns > 0 for judgement in judgements)
    return [
        ("stories", f"{len(judgements)}"),
        ("words a story", f"{total('n_words') / len(judgements):.0f}"),
        ("end by themselves", share(total("ended"), len(judgements))),
        ("names that occur again", share(total("n_names_again"), total("n_names"))),
        ("first name still there in the last third", share(total("first_name_stays"), with_names)),
        ("stories with one person only, and pronouns", f"{with_pronouns}"),
        (
            "… their pronouns that agree with that person",
            share(total("n_pronouns_agreeing"), total("n_pronouns")),
        ),
        ("4-grams repeated", share(total("n_four_grams_repeated"), total("n_four_grams"))),
    ]


def share(part: int, whole: int) -> str:
    """``part`` of ``whole`` in words, a dash where there is nothing to share."""
    return f"{part / whole:.1%} ({part:,} of {whole:,})" if whole else "-"


# --- stories ----------------------------------------------------------------------


def sampled_stories(
    model: Model, prompt: str, seeds: Iterable[int], temperature: float, top_k: int
) -> list[Story]:
    """One story a seed, to ``<|endoftext|>`` or the end of the context."""
    ids = model.encoder.encode(prompt)
    engine = Engine(model.params, model.hparams)
    stories: list[Story] = []
    for seed in seeds:
        sampling = SamplingParams(temperature=temperature, top_k=top_k, seed=seed)
        tokens = list(stream(engine, ids, model.hparams.n_ctx, sampling))
        ended = tokens[-1].finish_reason == "endoftext"
        written = [token.id for token in (tokens[:-1] if ended else tokens)]
        stories.append(Story(model.encoder.decode(ids + written), ended))
    return stories


def real_stories(model: Model, works: list[str], prompt: str, n_stories: int) -> list[Story]:
    """The first ``n_stories`` that begin with ``prompt``, cut where the context would end.

    Raises InputError where there is none.
    """
    stories: list[Story] = []
    for work in works:
        if work.startswith(prompt) and len(stories) < n_stories:
            ids = model.encoder.encode(work.strip())
            n_ctx = model.hparams.n_ctx
            stories.append(Story(model.encoder.decode(ids[:n_ctx]), ended=len(ids) < n_ctx))
    if not stories:
        raise InputError(f"no story of the text begins with {prompt!r}: give another --prompt.")
    return stories


# --- the whole --------------------------------------------------------------------


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("text", type=Path, help="real stories, a line <|endoftext|> between them")
    add("--model", default="demo", help="a model's name or folder (demo)")
    add("--models-dir", default="models", help="folder of models (models)")
    add("--prompt", default="Once upon a time", help="what every story begins with")
    add("--samples", type=int, default=100, help="how many stories, seeds 1 to this (100)")
    temperature, top_k = DEMO_DEFAULTS["temperature"], int(DEMO_DEFAULTS["top_k"])
    add("--temperature", type=float, default=temperature, help=f"of sampling ({temperature})")
    add("--top-k", type=int, default=top_k, help=f"of sampling; 0: all tokens ({top_k})")
    add("--show", action="store_true", help="print the sampled stories too")
    args = parser.parse_args(argv)
    if args.samples < 1:
        parser.error(f"--samples must be at least 1, not {args.samples}.")
    return args


def report(args: argparse.Namespace) -> None:
    """Print the table. Raises GPT2Error for a text, model or option that cannot be used."""
    model = load_model(args.model, args.models_dir)
    real = real_stories(model, read_works(args.text), args.prompt, args.samples)
    seeds = range(1, args.samples + 1)
    sampled = sampled_stories(model, args.prompt, seeds, args.temperature, args.top_k)
    if args.show:
        for seed, story in zip(seeds, sampled, strict=True):
            print(f"--- seed {seed}, {'ended' if story.ended else 'cut'} ---\n{story.text}\n")
    print(f"| {args.prompt!r} | {model.name} | real |\n|---|---:|---:|")
    rows = [summary([judge(story) for story in stories]) for stories in (sampled, real)]
    for (name, of_model), (_, of_real) in zip(*rows, strict=True):
        print(f"| {name} | {of_model} | {of_real} |")


def main(argv: list[str] | None = None) -> int:
    args = parse_arguments(argv)
    try:
        report(args)
    except GPT2Error as error:
        print(f"judge_stories: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
