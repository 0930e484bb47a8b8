"""Steps 1 to 3: from the text to bytes, merges and ids, before ``model.py`` begins.

Parts of /bpe, for the word in which the chosen token stands. A kept token was made by a
model, so byte-pair encoding never cut it; its bytes are shown all the same.
"""

from dataclasses import dataclass
from itertools import accumulate

from gpt2core.continuation import text_tokens
from gpt2core.tokenizer.explain import PreToken, explain_encoding
from webapp.chips import make_chip
from webapp.explanation import MAX_SYMBOLS, UniqueWord
from webapp.formatting import plural
from webapp.inside.labels import Label
from webapp.inside.source import listing
from webapp.inside.steps.common import choice_of, encoding
from webapp.inside.steps.step import Check, Content, Glance, Program, Step
from webapp.inside.view import View

OPENING = "from gpt2core import load_model\n\nmodel = load_model({!r})\nencoder = model.encoder\n"


@dataclass(frozen=True)
class Place:
    """The word in which the chosen token stands: its number from 1, and itself explained."""

    number: int
    n_words: int
    unique: UniqueWord

    # What the word's template asks of the whole explanation.
    unfolded_number = 1
    max_symbols = MAX_SYMBOLS


def words_of(view: View) -> list[PreToken]:
    """The words of the prompt, with their merges."""
    query = view.query
    return explain_encoding(view.model.encoder, query.prompt, MAX_SYMBOLS, query.special_tokens)


def place_of(view: View, words: list[PreToken]) -> Place | None:
    """The word of the chosen token; None where a model made the token."""
    if view.position >= view.query.n_prompt:
        return None
    ends = accumulate(len(word.ids) for word in words)
    index = next(i for i, end in enumerate(ends) if view.position < end)
    word, encoder = words[index], view.model.encoder
    chips = [make_chip(encoder, token) for token in text_tokens(encoder, word.text, word.ids)]
    return Place(
        index + 1, len(words), UniqueWord(1, word, chips, word.steps is not None, n_occurrences=1)
    )


def counted(number: int, noun: str) -> str:
    """``1 byte``, ``2,000 bytes``."""
    return f"{number:,} {plural(noun, number)}"


def bytes_glance(view: View) -> Glance:
    n_bytes = len(view.text.encode())
    figure = f"{counted(len(view.text), 'character')}: {counted(n_bytes, 'byte')}"
    return Glance("bytes", (n_bytes,), figure)


def bytes_content(view: View) -> Content:
    words = words_of(view)
    encoder, query = view.model.encoder, view.query
    data = encoder.token_bytes(view.chosen.id)
    joined = b"".join(encoder.token_bytes(id) for id in query.ids[: query.n_prompt])
    n_bytes = len(query.prompt.encode())
    figures = (
        (len(query.prompt), "character"),
        (len(words), "word"),
        (n_bytes, "byte"),
        (sum(word.n_merges for word in words), "merge"),
        (query.n_prompt, "token"),
    )
    sentence = f"The bytes of {counted(query.n_prompt, 'token')}, joined, are the prompt’s bytes."
    return Content(
        picture={"place": place_of(view, words), "data": data.hex(" "), "figures": figures},
        # Some tokenizers add to a text, or give white space to the token beside it.
        checks=(Check(sentence, joined == query.prompt.encode()),) * encoder.rules.keeps_text,
        program=Program(
            OPENING.format(view.model.name)
            + f"print(encoder.token_bytes({view.chosen.id}).hex(' '))\n",
            data.hex(" "),
        ),
    )


def merges_glance(view: View) -> Glance:
    words = words_of(view)
    n_bytes = sum(len(word.symbols) for word in words)
    figure = f"{counted(n_bytes, 'byte')} became {counted(view.query.n_prompt, 'token')}"
    return Glance("merges", (sum(word.n_merges for word in words),), figure)


def merges_content(view: View) -> Content:
    place = place_of(view, words_of(view))
    if not place:
        return Content(picture={"place": None})
    word, encoder = place.unique.word, view.model.encoder
    sentence = (
        f"{counted(len(word.symbols), 'byte')} − {counted(word.n_merges, 'merge')} = "
        f"{counted(len(word.ids), 'token')}."
    )
    return Content(
        picture={"place": place},
        checks=(Check(sentence, len(word.symbols) - word.n_merges == len(word.ids)),),
        program=Program(
            OPENING.format(view.model.name)
            + f"print(*(encoder.decoder[id] for id in encoder.{encoding(view, word.text)}))\n",
            " ".join(encoder.decoder[id] for id in word.ids),
        ),
    )


@dataclass(frozen=True)
class IdRow:
    """One token and where its number comes from."""

    label: Label
    rank: int | None


def ids_glance(view: View) -> Glance:
    n = len(view.query.ids)
    return Glance("inputs", (n,), f"token {view.chosen.at} is {view.chosen.id:,}")


def ids_content(view: View) -> Content:
    encoder, query = view.model.encoder, view.query
    again = encoder.encode(query.prompt, query.special_tokens)
    same = again == list(query.ids[: query.n_prompt])
    rows = [
        IdRow(view.labels[i], encoder.merge_rank(view.labels[i].id)) for i in view.window.positions
    ]
    decoded = encoder.decode([view.chosen.id])
    trace = view.recording.trace
    return Content(
        listings=(listing("gpt2", "gpt2", ["inputs"], trace, choice_of(view), until="inputs"),),
        picture={"rows": rows, "n_vocab": view.recording.n_vocab},
        checks=(
            Check(
                f"Cut once more, the prompt gives the same {counted(query.n_prompt, 'id')}.",
                same,
            ),
        ),
        program=Program(
            OPENING.format(view.model.name) + f"print(repr(encoder.decode([{view.chosen.id}])))\n",
            repr(decoded),
        ),
    )


BYTES = Step(
    1,
    "bytes",
    "Bytes",
    "The text is cut into words, and each word is written as bytes.",
    "UTF-8 writes any character of any script as one to four bytes, so 256 symbols are enough and "
    "no text is ever unknown. Each byte has a printable sign; the space’s is Ġ.",
    bytes_glance,
    bytes_content,
    chooses_layer=False,
    chooses_head=False,
    group="tokens",
)
MERGES = Step(
    2,
    "merges",
    "Merges",
    "Neighbouring bytes are glued together, best known pair first, until no pair is in the list.",
    "Frequent pieces of text become one token, so the model reads a few tokens instead of many "
    "letters. The list was made once, from what was frequent in its training text.",
    merges_glance,
    merges_content,
    chooses_layer=False,
    chooses_head=False,
)
IDS = Step(
    3,
    "ids",
    "Ids",
    "Each piece is looked up in the vocabulary: its number is all that the model gets.",
    "The numbers have an order but no meaning: first the 256 bytes, then one for each merge in "
    "the order in which the pairs were found.",
    ids_glance,
    ids_content,
    marks=("gpt2.inputs",),
    chooses_layer=False,
    chooses_head=False,
)
