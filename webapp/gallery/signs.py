"""Texts of the gallery about signs: numbers, code, glitch tokens, marks of special tokens.

As in ``words``. Source of the glitch tokens: Rumbelow and Watkins, "SolidGoldMagikarp (plus,
prompt generation)" (2023).
"""

from webapp.gallery.entry import Entry, Group, Sentence

RAW = "rawdownloadcloneembedreportprint"
MAGIKARP = " SolidGoldMagikarp"
SPACED_CODE, TABBED_CODE = "if x:\n    y = 1", "if x:\n\ty = 1"

NUMBERS = Group(
    "numbers",
    "Numbers",
    "Digits are glued like letters: by how often they stood together, not by their place.",
    (
        Entry(
            "12345 + 67890",
            (
                Sentence(
                    "The first number is `{cut[12345].cuts}`, the second `{cut[ 67890].cuts}`: "
                    "both have five digits, cut at other places.",
                    lambda this, cut: (
                        this.pieces == ["123", "45", "Ġ+", "Ġ6", "78", "90"]
                        and this.ids == cut["12345"].ids + cut[" +"].ids + cut[" 67890"].ids
                    ),
                ),
                Sentence(
                    "Without the space `67890` is `{cut[67890].cuts}`, so even the same number "
                    "does not always look the same. No wonder that sums go wrong.",
                    lambda this, cut: cut["67890"].pieces == ["678", "90"],
                ),
            ),
            against="12345+67890",
        ),
        Entry(
            "2019 2020 2021 2022 2023",
            (
                Sentence(
                    "The years up to 2022 are one token each; 2023 takes {cut[ 2023].n}, "
                    "`{cut[ 2023].cuts}`.",
                    lambda this, cut: (
                        [cut[year].n for year in ("2019", " 2020", " 2021", " 2022")] == [1] * 4
                        and this.pieces[-2:] == ["Ġ20", "23"]
                    ),
                ),
                Sentence(
                    "At the beginning of a text it is so from 2021 on, which is "
                    "`{cut[2021].cuts}` there.",
                    lambda this, cut: (cut["2019"].n, cut["2020"].n, cut["2021"].n) == (1, 1, 2),
                ),
            ),
            against="2020 2021 2022 2023",
        ),
        Entry(
            "1000000 1,000,000",
            (
                Sentence(
                    "Six zeros are one token, so a million is `{cut[1000000].cuts}`.",
                    lambda this, cut: cut["1000000"].pieces == ["1", "000000"],
                ),
                Sentence(
                    "With commas it is easier for people and longer for the model: "
                    "{cut[1,000,000].tokens} instead of {cut[1000000].n}.",
                    lambda this, cut: (cut["1,000,000"].n, cut["1000000"].n) == (5, 2),
                ),
            ),
        ),
    ),
)

CODE = Group(
    "code",
    "Code and indentation",
    "GPT-2’s vocabulary was made from web pages, not from programs.",
    (
        Entry(
            SPACED_CODE,
            (
                Sentence(
                    "Of the four spaces three are a token each, and the fourth goes with `y`.",
                    lambda this, cut: this.pieces[4:8] == ["Ġ", "Ġ", "Ġ", "Ġy"],
                ),
                Sentence(
                    "Indented twice as far, a line has seven such tokens before its first word: "
                    "`        y` is {cut[        y].tokens}.",
                    lambda this, cut: cut["        y"].pieces == ["Ġ"] * 7 + ["Ġy"],
                ),
            ),
            against=TABBED_CODE,
        ),
        Entry(
            TABBED_CODE,
            (
                Sentence(
                    "A tab is one token, so this takes {this.n} where four spaces take "
                    "{cut[if x:\n    y = 1].n}.",
                    lambda this, cut: this.n < cut[SPACED_CODE].n and this.pieces[4] == "ĉ",
                ),
                Sentence(
                    "Two tabs are {cut[\t\t].tokens}, but two line breaks are only "
                    "{cut[\n\n].n}: that pair was frequent enough to be glued.",
                    lambda this, cut: (cut["\t\t"].n, cut["\n\n"].n) == (2, 1),
                ),
            ),
            against="if x:\n\t\ty = 1",
        ),
        Entry(
            "-" * 32,
            (
                Sentence(
                    "{this.characters} and {this.tokens}: frequent enough to be glued.",
                    lambda this, cut: (this.n_chars, this.n) == (32, 1),
                ),
                Sentence(
                    "One sign less, and it takes {cut[" + "-" * 31 + "].tokens}.",
                    lambda this, cut: cut["-" * 31].n == 2,
                ),
            ),
            against="-" * 31,
        ),
    ),
)

GLITCH = Group(
    "glitch",
    "Glitch tokens",
    "Strings that were frequent where the vocabulary came from and rare in what the models then "
    "read. Rumbelow and Watkins found in 2023 that models stumble over them.",
    (
        Entry(
            "Say SolidGoldMagikarp",
            (
                Sentence(
                    "`{cut[ SolidGoldMagikarp].cuts}`, {cut[ SolidGoldMagikarp].characters}, is "
                    "one token: {cut[ SolidGoldMagikarp].id}.",
                    lambda this, cut: this.ids[1:] == cut[MAGIKARP].ids and cut[MAGIKARP].n == 1,
                ),
                Sentence(
                    "In small letters it is cut as any odd word: `{cut[ solidgoldmagikarp].cuts}`.",
                    lambda this, cut: (
                        cut[MAGIKARP.lower()].pieces == ["Ġsolid", "gold", "mag", "ikarp"]
                    ),
                ),
            ),
            against="Say solidgoldmagikarp",
        ),
        Entry(
            "by petertodd and TheNitromeFan",
            (
                Sentence(
                    "Two names of users, one token each: {cut[ petertodd].id} and "
                    "{cut[ TheNitromeFan].id}.",
                    lambda this, cut: (
                        (cut[" petertodd"].n, cut[" TheNitromeFan"].n) == (1, 1) and this.n == 4
                    ),
                ),
                Sentence(
                    "With one letter changed they are ordinary again: ` Petertodd` is "
                    "`{cut[ Petertodd].cuts}`.",
                    lambda this, cut: cut[" Petertodd"].pieces == ["ĠPet", "ertodd"],
                ),
            ),
            against="by Petertodd and thenitromefan",
        ),
        Entry(
            RAW,
            (
                Sentence(
                    "{this.characters} in {this.tokens}, {this.id}: no word of English letters in "
                    "the vocabulary is longer.",
                    lambda this, cut: this.n == 1 and this.n_chars == cut.longest_word,
                ),
                Sentence(
                    f"After a space it is cut: `{{cut[ {RAW}].cuts}}`.",
                    lambda this, cut: cut[f" {RAW}"].n == 3,
                ),
            ),
            against=f" {RAW}",
        ),
    ),
)

SPECIAL = Group(
    "special",
    "Text that looks like a special token",
    "What marks the end of a text inside the model can also be typed. It must not be the same.",
    (
        Entry(
            "The end.<|endoftext|>",
            (
                Sentence(
                    "Typed, it is ordinary text: {cut[<|endoftext|>].tokens} when it stands alone.",
                    lambda this, cut: cut["<|endoftext|>"].n == 7,
                ),
                Sentence(
                    "Here its first sign is even glued to the full stop, `.<`.",
                    lambda this, cut: ".<" in this.pieces,
                ),
            ),
            against="The end. <|endoftext|>",
        ),
        Entry(
            "The end.<|endoftext|>",
            (
                Sentence(
                    "The same text with special tokens read: the last token is {this.ids[3]}, "
                    "`{this.pieces[3]}`, which ends a text.",
                    lambda this, cut: this.pieces == ["The", "Ġend", ".", "<|endoftext|>"],
                ),
                Sentence(
                    "It makes {this.tokens} instead of {cut[The end.<|endoftext|>].n}. A "
                    "program decides whether its users may write it.",
                    lambda this, cut: this.n < cut[this.text].n,
                ),
            ),
            special_tokens=True,
        ),
        Entry(
            "<|im_start|>user",
            (
                Sentence(
                    "A mark of later chat models, which GPT-2 never had: here it is "
                    "{cut[<|im_start|>].tokens} of plain text.",
                    lambda this, cut: cut["<|im_start|>"].n == 7,
                ),
                Sentence(
                    "With special tokens read it would be the same, because GPT-2 has one of "
                    "them only.",
                    lambda this, cut: cut.specials == ["<|endoftext|>"] and this.n == 8,
                ),
            ),
            against="<|endoftext|>user",
        ),
    ),
)
