"""Texts of the gallery about words: spaces, case, typing errors, long words, one word's cuts.

A text in brackets after ``cut`` is any other text; see ``entry.Sentence``. A condition names the
pieces, or compares the counts, that its sentence has.
"""

from webapp.gallery.entry import Entry, Group, Sentence

GERMAN_WORD = "Donaudampfschifffahrtsgesellschaft"

SPACES = Group(
    "spaces",
    "Spaces and case",
    "A word’s space belongs to it, and to the model a capital letter is another letter.",
    (
        Entry(
            "hello hello Hello HELLO",
            (
                Sentence(
                    "At the beginning of a text `hello` is token {cut[hello].id}, after a space it "
                    "is token {cut[ hello].id}: to the model they are two words.",
                    lambda this, cut: (
                        (cut["hello"].n, cut[" hello"].n) == (1, 1)
                        and this.ids[:2] == cut["hello"].ids + cut[" hello"].ids
                        and len(set(this.ids[:2])) == 2
                    ),
                ),
                Sentence(
                    "` Hello` is a third, {cut[ Hello].id}, and ` HELLO` is none: it takes "
                    "{cut[ HELLO].tokens}, `{cut[ HELLO].cuts}`.",
                    lambda this, cut: cut[" Hello"].n == 1 and cut[" HELLO"].n > 1,
                ),
            ),
            against="Hello hello hello HELLO",
        ),
        Entry(
            "The Cat Sat On The Mat",
            (
                Sentence(
                    "Written small it is {cut[the cat sat on the mat].tokens} too, and no token "
                    "is in both texts.",
                    lambda this, cut: (
                        this.n == cut["the cat sat on the mat"].n
                        and not set(this.ids) & set(cut["the cat sat on the mat"].ids)
                    ),
                ),
                Sentence(
                    "What the model knows of `{cut[ cat].cuts}` it has to learn again for "
                    "`{cut[ Cat].cuts}` and for `{cut[ CAT].cuts}`: three tokens, "
                    "{cut[ cat].id}, {cut[ Cat].id} and {cut[ CAT].id}.",
                    lambda this, cut: (
                        [cut[word].n for word in (" cat", " Cat", " CAT")] == [1, 1, 1]
                        and len({cut[word].id for word in (" cat", " Cat", " CAT")}) == 3
                    ),
                ),
            ),
            against="the cat sat on the mat",
        ),
        Entry(
            "nowhere now here",
            (
                Sentence(
                    "At the beginning of a text `nowhere` is cut into `{cut[nowhere].cuts}`.",
                    lambda this, cut: cut["nowhere"].pieces == ["now", "here"],
                ),
                Sentence(
                    "Only the space tells it from `now here`, `{cut[now here].cuts}`: the first "
                    "token is the same, the second another.",
                    lambda this, cut: (
                        cut["nowhere"].ids[0] == cut["now here"].ids[0]
                        and cut["now here"].pieces == ["now", "Ġhere"]
                    ),
                ),
            ),
            against="now here nowhere",
        ),
    ),
)

TRAILING = Group(
    "trailing",
    "A space at the end",
    "The best known trap of prompts.",
    (
        Entry(
            "Once upon a time ",
            (
                Sentence(
                    "The last space stands alone, as token {cut[ ].id}.",
                    lambda this, cut: this.pieces == ["Once", "Ġupon", "Ġa", "Ġtime", "Ġ"],
                ),
                Sentence(
                    "If a word follows, the space becomes part of it: `Once upon a time there` "
                    "ends with the one token `{cut[ there].cuts}`, so after a lone space the model "
                    "must go on with a word that has none.",
                    lambda this, cut: (
                        cut["Once upon a time there"].ids == this.ids[:-1] + cut[" there"].ids
                        and cut[" there"].n == 1
                    ),
                ),
            ),
            against="Once upon a time there",
        ),
        Entry(
            "Two  spaces",
            (
                Sentence(
                    "Of two spaces the second goes with the word and the first stays alone: "
                    "`{this.cuts}`.",
                    lambda this, cut: this.pieces == ["Two", "Ġ", "Ġspaces"],
                ),
                Sentence(
                    "A third costs one token more, {cut[Two   spaces].n} instead of {this.n}.",
                    lambda this, cut: cut["Two   spaces"].pieces == ["Two", "Ġ", "Ġ", "Ġspaces"],
                ),
            ),
            against="Two spaces",
        ),
    ),
)

TYPOS = Group(
    "typos",
    "Typing errors",
    "One wrong letter, and a word that the model knows falls into pieces of other words.",
    (
        Entry(
            "I definately agree",
            (
                Sentence(
                    "` definitely` is one token; ` definately` is {cut[ definately].n}, "
                    "`{cut[ definately].cuts}`.",
                    lambda this, cut: (
                        cut[" definitely"].n == 1
                        and cut[" definately"].pieces == ["Ġdefin", "ately"]
                    ),
                ),
                Sentence(
                    "The words around it stay as they are: `{cut[I].cuts}` and "
                    "`{cut[ agree].cuts}`.",
                    lambda this, cut: (
                        this.ids[:1] == cut["I"].ids and this.ids[-1:] == cut[" agree"].ids
                    ),
                ),
            ),
            against="I definitely agree",
        ),
        Entry(
            "the their thier",
            (
                Sentence(
                    "Two letters change places, and ` their`, token {cut[ their].id}, becomes "
                    "`{cut[ thier].cuts}`.",
                    lambda this, cut: (
                        cut[" their"].n == 1 and cut[" thier"].pieces == ["Ġth", "ier"]
                    ),
                ),
                Sentence(
                    "Right and wrong have no token in common, so the model must have seen the "
                    "error to understand it.",
                    lambda this, cut: not set(cut[" their"].ids) & set(cut[" thier"].ids),
                ),
            ),
            against="the their their",
        ),
    ),
)

LONG = Group(
    "long",
    "Long words",
    "A long word is cut where frequent pieces end, not where its parts do.",
    (
        Entry(
            "antidisestablishmentarianism",
            (
                Sentence(
                    "{this.characters} in {this.tokens}.",
                    lambda this, cut: (this.n_chars, this.n) == (28, 5),
                ),
                Sentence(
                    "`{this.cuts}`: `establishment` is found, the `anti` before it is not.",
                    lambda this, cut: "establishment" in this.pieces and "anti" not in this.pieces,
                ),
            ),
            against="anti dis establishment arian ism",
        ),
        Entry(
            GERMAN_WORD,
            (
                Sentence(
                    "{this.characters}, {this.tokens}; `internationalization` takes "
                    "{cut[internationalization].n} for its {cut[internationalization].n_chars}.",
                    lambda this, cut: (
                        cut["internationalization"].n == 2
                        and this.cost > 3 * cut["internationalization"].cost
                    ),
                ),
                Sentence(
                    "It begins with `Don`, not with the river `Donau`.",
                    lambda this, cut: this.pieces[0] == "Don",
                ),
            ),
            against="Donau dampf schiff fahrts gesellschaft",
        ),
    ),
)

THREE = Group(
    "three-cuts",
    "One word, three cuts",
    "The same word, by what stands before it and by how it is spelt.",
    (
        Entry(
            "strawberry strawberry Strawberry",
            (
                Sentence(
                    "First `{cut[strawberry].cuts}`, then one token, `{cut[ strawberry].cuts}`, "
                    "then another, `{cut[ Strawberry].cuts}`.",
                    lambda this, cut: (
                        this.pieces == ["st", "raw", "berry", "Ġstrawberry", "ĠStrawberry"]
                    ),
                ),
                Sentence(
                    "How many r it has cannot be read off token {cut[ strawberry].id}: the "
                    "letters are not in it.",
                    lambda this, cut: cut[" strawberry"].n == 1,
                ),
            ),
            against="Strawberry strawberry strawberry",
        ),
        Entry(
            "Café Cafe\u0301 Cafe",
            (
                Sentence(
                    "The first two look alike and are not: {cut[é].characters} for the "
                    "letter, `{cut[é].cuts}`, or {cut[e\u0301].n_chars}, `{cut[e\u0301].cuts}`, an "
                    "e and an accent.",
                    lambda this, cut: (
                        (cut["é"].n_chars, cut["é"].pieces) == (1, ["Ã©"])
                        and (cut["e\u0301"].n_chars, cut["e\u0301"].n) == (2, 3)
                    ),
                ),
                Sentence(
                    "After a space ` Café` and ` Cafe` are one token each; with the accent apart "
                    "it takes {cut[ Cafe\u0301].n}.",
                    lambda this, cut: (
                        (cut[" Café"].n, cut[" Cafe"].n, cut[" Cafe\u0301"].n) == (1, 1, 3)
                    ),
                ),
            ),
            against="Cafe\u0301 Café Cafe",
        ),
    ),
)
