"""One reading of all that a model's folder says of its tokenizer.

Used by the loader and by ``python -m gpt2core inspect``. Which file decides about pieces
and merges: ``tokenizer.json``; without it ``vocab.json`` and ``merges.txt``, or
``encoder.json`` and ``vocab.bpe``; without any of them GPT-2's own vocabulary, if nothing
in the folder speaks against it. The other files add tokens and settings.

Invariant: what is not supported and would change ids, and files that contradict each
other, raise ModelFileError with the file's name. No folder gets a tokenizer by default
that something in it speaks against.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt2core.errors import ModelFileError
from gpt2core.tokenizer.added import AddedToken, Rules
from gpt2core.tokenizer.added_table import AddedTable, check_names
from gpt2core.tokenizer.bpe import Encoder
from gpt2core.tokenizer.json_settings import JsonSettings, brief
from gpt2core.tokenizer.table import ENDOFTEXT, VocabularyError, check_ids
from gpt2core.tokenizer.tokenizer_json import TokenizerJson, read_tokenizer_json
from gpt2core.tokenizer.vocabulary import (
    FILE_PAIRS,
    VOCAB_PATH,
    Vocabulary,
    check_no_half,
    default_encoder,
    read_merges,
    read_vocabulary,
)

TOKENIZER_JSON = "tokenizer.json"
GPT2_OWN = "GPT-2's own vocabulary"
# Classes of transformers that read such folders as this module does.
GPT2_CLASSES = (
    "GPT2Tokenizer",
    "GPT2TokenizerFast",
    "PreTrainedTokenizerFast",
    "TokenizersBackend",
)
# Files of tokenizers that are not GPT-2's.
OTHER_TOKENIZERS = ("vocab.txt", "*.model", "*.tiktoken", "tekken.json", "bpe.codes")
# Some tools round the number of rows up to a multiple of 64, 128 or 1024.
LARGEST_ROUNDED_UP = 51_200


@dataclass(frozen=True)
class TokenizerReading:
    """A folder's tokenizer, and how it was found.

    ``source`` decided about pieces and merges; ``files`` were read; ``notes`` are sentences
    about what they changed.
    """

    encoder: Encoder
    source: str
    files: tuple[str, ...]
    notes: tuple[str, ...]


class Settings:
    """The files of a folder that add to the vocabulary, each empty if it is absent."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.tokenizer = JsonSettings(directory / "tokenizer_config.json")
        self.special = JsonSettings(directory / "special_tokens_map.json")
        self.added = JsonSettings(directory / "added_tokens.json")
        self.generation = JsonSettings(directory / "generation_config.json")
        self.model = JsonSettings(directory / "config.json")
        self.hparams = JsonSettings(directory / "hparams.json")

    @property
    def files(self) -> list[str]:
        """The names of those that are there and concern the tokenizer."""
        files = (self.tokenizer, self.special, self.added, self.generation, self.model)
        return [file.path.name for file in files if file.exists]

    @property
    def n_rows(self) -> int | None:
        """How many tokens the model has by its own account, or None if it does not say."""
        for file, name in ((self.hparams, "n_vocab"), (self.model, "vocab_size")):
            if file.values.get(name) is not None:
                return int(file.expect(file.values, name, int))
        return None


def encoder_from_directory(directory: Path) -> Encoder:
    """The tokenizer of a model's folder. Raises ModelFileError as :func:`read_tokenizer`."""
    return read_tokenizer(directory).encoder


def read_tokenizer(directory: Path) -> TokenizerReading:
    """All that a model's folder says of its tokenizer. Raises ModelFileError, see above."""
    settings = Settings(directory)
    check_settings(settings)
    path, stated = directory / TOKENIZER_JSON, None
    found: dict[str, Vocabulary] = {}  # the first decides
    if path.exists():
        stated = read_tokenizer_json(path)
        found[TOKENIZER_JSON] = (stated.merges, stated.vocabulary)
    for merges_name, ids_name in FILE_PAIRS:
        vocabulary = read_vocabulary(directory, merges_name, ids_name)
        if vocabulary:
            found[f"{ids_name} and {merges_name}"] = vocabulary
    if found:
        source = next(iter(found))
        merges, ids = found[source]
    else:
        check_no_half(directory)
        check_own_is_likely(settings)
        source, merges, ids = GPT2_OWN, None, default_encoder().encoder
    try:
        check_ids(ids)
        table = added_table(settings, ids, stated)
        check_agreement(directory, found, table)
        check_numbering(settings, stated, table)
        rules, notes = read_rules(settings, stated, table)
        encoder = default_encoder()
        if merges is not None or rules != encoder.rules:
            encoder = Encoder(merges or read_merges(VOCAB_PATH), ids, rules)
    except VocabularyError as error:
        raise ModelFileError(f"{directory}: {source}: {error}") from error
    return TokenizerReading(encoder, source, (*found, *settings.files), tuple(notes))


def check_settings(settings: Settings) -> None:
    """Raise ModelFileError for a setting that tells of another tokenizer than GPT-2's."""
    for file in (settings.tokenizer, settings.model):
        name = file.values.get("tokenizer_class")
        if name not in (None, *GPT2_CLASSES):
            raise file.error(f"tokenizer_class is {brief(name)}, which is not GPT-2's tokenizer.")
    for name in ("do_lower_case", "add_eos_token"):
        if settings.tokenizer.get(settings.tokenizer.values, name, bool, False):
            raise settings.tokenizer.refusal(name, True)


def check_own_is_likely(settings: Settings) -> None:
    """Raise ModelFileError if something speaks against GPT-2's own vocabulary."""
    directory, own = settings.directory, default_encoder()
    why = "so it has another tokenizer than GPT-2's, which this program cannot read"
    for pattern in OTHER_TOKENIZERS:
        for path in sorted(directory.glob(pattern)):
            raise ModelFileError(f"{directory} has {path.name} and no GPT-2 vocabulary, {why}.")
    n_rows = settings.n_rows
    if n_rows is not None and not own.n_vocab <= n_rows <= LARGEST_ROUNDED_UP:
        raise ModelFileError(
            f"{directory} has no vocabulary files, and its {n_rows:,} tokens are not those of "
            f"GPT-2's own vocabulary of {own.n_vocab:,}."
        )
    for file in (settings.generation, settings.model):
        for token_id in stated_end_ids(file):
            if token_id != own.endoftext:
                raise file.error(
                    f"eos_token_id is {token_id}, and {own.endoftext} in GPT-2's own vocabulary; "
                    f"{directory} has no other."
                )


def added_table(
    settings: Settings, vocabulary: dict[str, int], stated: TokenizerJson | None
) -> AddedTable:
    """The added tokens that all files state, over the vocabulary that was decided on."""
    table = AddedTable(vocabulary)
    path = settings.directory / TOKENIZER_JSON
    for token in stated.added_tokens if stated else ():
        table.add(token, path)
    table.add_decoder(settings.tokenizer)
    table.add_file(settings.added)
    table.add_endoftext(settings.directory)
    check_names(settings.tokenizer, settings.special)
    table.add_named(settings.tokenizer)
    table.add_named(settings.special)
    return table


def check_agreement(directory: Path, found: dict[str, Vocabulary], table: AddedTable) -> None:
    """Raise ModelFileError if two vocabularies in the folder differ, added tokens aside."""
    if not found:
        return
    added = {token.content: token.id for token in table.tokens}
    (first, (merges, ids)), *others = found.items()
    for other, (other_merges, other_ids) in others:
        if other_merges != merges:
            raise ModelFileError(f"{directory}: {other} and {first} have different merges.")
        for piece in {**ids, **other_ids}:
            one, another = (pieces.get(piece, added.get(piece)) for pieces in (ids, other_ids))
            if one != another:
                raise ModelFileError(
                    f"{directory}: {piece!r} has id {one} in {first} and {another} in {other}."
                )


def check_numbering(settings: Settings, stated: TokenizerJson | None, table: AddedTable) -> None:
    """Raise ModelFileError if fast tokenizers number added tokens otherwise, and no row decides.

    Slow tokenizers keep the ids that their files state, so a row for each is enough. A
    ``tokenizer.json`` is read by fast ones only. Its ids are right if the weights end with the
    row of its last token, as they do after an entry was taken out of the file.
    """
    renumbered, n_rows = table.renumbered(), settings.n_rows
    if not renumbered or n_rows is None:
        return
    ids = [token.id for token, _ in renumbered]
    rows_decide = ids[-1] + 1 == n_rows if stated else ids[-1] < n_rows
    if ids != sorted(ids) or not rows_decide:
        token, number = renumbered[-1]
        raise ModelFileError(
            f"{table.path_of(token)}: the added token {token.content!r} has id {token.id}, and "
            f"fast tokenizers give it {number}, because the ids have a gap or are out of order; "
            f"the {n_rows:,} rows of the weights do not show which is right."
        )


def read_rules(
    settings: Settings, stated: TokenizerJson | None, table: AddedTable
) -> tuple[Rules, list[str]]:
    """The rules beside BPE, and sentences about those that GPT-2 does not have."""
    tokens, config = table.tokens, settings.tokenizer
    own = [token for token in tokens if token.content != ENDOFTEXT]
    split_special = config.get(config.values, "split_special_tokens", bool, False)
    rules = Rules(
        tokens,
        add_prefix_space=read_prefix_space(config, stated),
        ignore_merges=stated is not None and stated.ignore_merges,
        first_ids=read_first_ids(settings, stated, table),
        reads_special_tokens=bool(own) and not split_special,
        end_ids=read_end_ids(settings, table),
    )
    return rules, describe(rules, own, table)


def describe(rules: Rules, own: list[AddedToken], table: AddedTable) -> list[str]:
    """Sentences about the rules that GPT-2 does not have, and about its ``own`` added tokens."""
    notes = []
    if own:
        names = ", ".join(token.content for token in own[:3]) + (" …" if len(own) > 3 else "")
        reads = (
            "; special ones are read unless a request says otherwise"
            if rules.reads_special_tokens
            else ""
        )
        notes.append(f"adds {len(own)} {'token' if len(own) == 1 else 'tokens'}: {names}{reads}")
    for token, number in table.renumbered()[:1]:
        notes.append(
            f"{token.content} keeps its id {token.id}, although the ids have a gap before it "
            f"(fast tokenizers read {number})"
        )
    if rules.add_prefix_space:
        notes.append("puts a space before a text (add_prefix_space)")
    if rules.ignore_merges:
        notes.append("takes whole words from the vocabulary (ignore_merges)")
    if rules.first_ids:
        notes.append(f"puts token {', '.join(map(str, rules.first_ids))} before a text")
    return notes


def read_prefix_space(config: JsonSettings, stated: TokenizerJson | None) -> bool:
    """``add_prefix_space``, which two files may state."""
    setting = config.get(config.values, "add_prefix_space", bool, None)
    if stated is None:
        return bool(setting)
    if setting not in (None, stated.add_prefix_space):
        raise config.error(
            f"add_prefix_space is {setting}, and {stated.add_prefix_space} in {TOKENIZER_JSON}."
        )
    return stated.add_prefix_space


def read_first_ids(
    settings: Settings, stated: TokenizerJson | None, table: AddedTable
) -> tuple[int, ...]:
    """The ids that precede every text: by a template, or without a tokenizer.json a setting."""
    config = settings.tokenizer
    if stated is not None:
        for content, token_id in stated.first_tokens:
            if table.id_of(content) != token_id:
                raise ModelFileError(
                    f"{settings.directory / TOKENIZER_JSON}: the template puts {brief(content)} "
                    f"first with id {brief(token_id)}, which is not its own."
                )
        return tuple(token_id for _, token_id in stated.first_tokens)
    if not config.get(config.values, "add_bos_token", bool, False):
        return ()
    bos = config.values.get("bos_token") or ENDOFTEXT
    content = bos["content"] if isinstance(bos, dict) else bos  # checked by AddedTable.add_named
    bos_id = table.id_of(content)
    if bos_id is None:
        raise config.error(f"add_bos_token is set, and bos_token is {brief(bos)}: no token.")
    return (bos_id,)


def read_end_ids(settings: Settings, table: AddedTable) -> frozenset[int]:
    """The ids that end a text: stated ones that are tokens, else that of ``<|endoftext|>``."""
    for file in (settings.generation, settings.model):
        known = [token_id for token_id in stated_end_ids(file) if table.has_id(token_id)]
        if known:
            return frozenset(known)
    endoftext = table.id_of(ENDOFTEXT)
    return frozenset() if endoftext is None else frozenset({endoftext})


def stated_end_ids(file: JsonSettings) -> list[int]:
    """``eos_token_id`` of a file: one id, or several, or none."""
    value = file.values.get("eos_token_id")
    ids: list[Any] = [] if value is None else value if isinstance(value, list) else [value]
    if not all(type(token_id) is int and token_id >= 0 for token_id in ids):
        raise file.error(f"eos_token_id is {brief(value)}; it must be one token id or several.")
    return ids
