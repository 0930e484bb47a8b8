"""Texts of the gallery about other languages, scripts and emoji, and what they cost.

As in ``words``.
"""

from webapp.gallery.entry import Entry, Group, Sentence

ENGLISH = "Good morning, how are you?"
GERMAN = "Guten Morgen, wie geht es Ihnen?"
RUSSIAN = "Доброе утро, как вы?"
CHINESE = "早上好，你好吗？"
HINDI = "सुप्रभात, आप कैसे हैं?"
FAMILY = "👨\u200d👩\u200d👧\u200d👦"

SCRIPTS = Group(
    "scripts",
    "Other languages and scripts",
    "A price in tokens for each character. What was rare on the web is paid for in bytes.",
    (
        Entry(
            ENGLISH,
            (
                Sentence(
                    "{this.characters}, {this.tokens}: {this.per_character} for each character.",
                    lambda this, cut: this.cost < 0.3,
                ),
                Sentence(
                    "Every word is one token.",
                    lambda this, cut: (
                        this.pieces == ["Good", "Ġmorning", ",", "Ġhow", "Ġare", "Ġyou", "?"]
                    ),
                ),
            ),
            against=GERMAN,
        ),
        Entry(
            GERMAN,
            (
                Sentence(
                    "The same letters, another language: {this.per_character} tokens for each "
                    f"character, where English has {{cut[{ENGLISH}].per_character}}.",
                    lambda this, cut: this.cost > cut[ENGLISH].cost,
                ),
                Sentence(
                    "The cuts know no German: `Guten` is `{cut[Guten].cuts}`, ` geht` "
                    "is `{cut[ geht].cuts}`.",
                    lambda this, cut: (
                        cut["Guten"].pieces == ["G", "uten"]
                        and cut[" geht"].pieces == ["Ġge", "ht"]
                        and this.ids[:2] == cut["Guten"].ids
                    ),
                ),
            ),
            against=ENGLISH,
        ),
        Entry(
            RUSSIAN,
            (
                Sentence(
                    "{this.characters} are {this.bytes} and {this.tokens}: "
                    "{this.per_character} for each character.",
                    lambda this, cut: (this.n_chars, this.n_bytes, this.n) == (20, 35, 21),
                ),
                Sentence(
                    "Frequent letters such as `е` are one token, `{cut[е].cuts}`; `Д` is cut into "
                    "its two bytes, `{cut[Д].cuts}`.",
                    lambda this, cut: (
                        (cut["е"].n, cut["Д"].n, cut["Д"].n_bytes) == (1, 2, 2)
                        and this.ids[:2] == cut["Д"].ids
                    ),
                ),
            ),
            against=ENGLISH,
        ),
        Entry(
            CHINESE,
            (
                Sentence(
                    "Short to write and long to read: {this.characters} are {this.tokens}.",
                    lambda this, cut: (this.n_chars, this.n) == (8, 17),
                ),
                Sentence(
                    "That is {this.per_character} for each character. `上` is one token, "
                    "`好` takes {cut[好].n}.",
                    lambda this, cut: (cut["上"].n, cut["好"].n) == (1, 2),
                ),
            ),
            against=ENGLISH,
        ),
        Entry(
            HINDI,
            (
                Sentence(
                    "{this.per_character} tokens for each character, "
                    f"where English has {{cut[{ENGLISH}].per_character}}: "
                    "as much meaning fills far more of the context.",
                    lambda this, cut: this.cost > 5 * cut[ENGLISH].cost,
                ),
                Sentence(
                    "A letter is three bytes, and most are two tokens: the first is the "
                    "same for many, `{cut[क].pieces[0]}`, the second says which letter.",
                    lambda this, cut: (
                        cut["क"].n_bytes == 3
                        and cut["क"].n == 2
                        and cut["क"].ids[0] == cut["प"].ids[0]
                        and cut["क"].ids[1] != cut["प"].ids[1]
                    ),
                ),
            ),
            against=ENGLISH,
        ),
    ),
)

EMOJI = Group(
    "emoji",
    "Emoji, alone and joined",
    "What looks like one sign may be several characters, and each of them several tokens.",
    (
        Entry(
            "😀🤖",
            (
                Sentence(
                    "Both are {cut[😀].bytes}; the smiley is {cut[😀].tokens}, the robot "
                    "{cut[🤖].n}.",
                    lambda this, cut: (
                        cut["😀"].n_bytes == cut["🤖"].n_bytes == 4
                        and (cut["😀"].n, cut["🤖"].n) == (2, 3)
                    ),
                ),
                Sentence(
                    "No token of the robot is a character by itself; the bracket shows which "
                    "belong together.",
                    lambda this, cut: [len(g.chips) for g in this.groups()] == [2, 3],
                ),
            ),
            against="😀🤗",
        ),
        Entry(
            "👍👍🏽",
            (
                Sentence(
                    "The second thumb is {cut[👍🏽].characters}: the first one’s, and a skin tone "
                    "that is {cut[🏽].tokens} by itself.",
                    lambda this, cut: (
                        (cut["👍"].n_chars, cut["👍🏽"].n_chars) == (1, 2)
                        and cut["👍🏽"].text.startswith("👍")
                        and cut["🏽"].n == 3
                    ),
                ),
                Sentence(
                    "So it begins with the same tokens, {cut[👍].id}, and takes {cut[👍🏽].n} "
                    "instead of {cut[👍].n}.",
                    lambda this, cut: (
                        this.ids == cut["👍"].ids + cut["👍🏽"].ids
                        and (cut["👍"].n, cut["👍🏽"].n) == (2, 5)
                    ),
                ),
            ),
            against="👍👍",
        ),
        Entry(
            FAMILY,
            (
                Sentence(
                    "One picture, {this.characters} and {this.tokens}: four people and three "
                    "invisible joiners.",
                    lambda this, cut: (
                        this.text.count("\u200d") == 3 and (this.n_chars, this.n) == (7, 14)
                    ),
                ),
                Sentence(
                    f"A sentence of English, `{ENGLISH}`, costs only {{cut[{ENGLISH}].n}}.",
                    lambda this, cut: this.n > cut[ENGLISH].n,
                ),
            ),
            against="👨👩👧👦",
        ),
    ),
)
