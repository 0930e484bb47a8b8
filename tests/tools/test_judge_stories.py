"""The counts of coherence, on stories whose counts can be made by eye."""

import pytest

from gpt2core.store.loader import load_model
from tools import judge_stories
from tools.judge_stories import Story, judge, names_in, summary

TOM = (
    "Once upon a time, there was a boy named Tom. He had a red ball. One day Tom lost his ball.\n\n"
    '"Where is it?" said Tom. He looked under the bed, and the ball was there. Tom was happy.'
)


@pytest.fixture(scope="module")
def model():
    return load_model("demo")


def judged(text: str):
    return judge(Story(text, ended=True))


# Names


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("A boy named Tom saw Lily's cat.", {"Tom", "Lily"}),
        ("Then they ran. Birds sang! What? Nothing.", set()),
        ('She said, "Hello" and "Thank you."', set()),
        ("A new line\nBegins here.\n\nAnother one.", set()),
        ("He told his Mom that I was late on Monday.", set()),
        ("Tom ran. Then he met Tom again.", {"Tom"}),
        ("Once Tom, Max and Mrs Fox sat down.", {"Tom", "Max", "Fox"}),
    ],
)
def test_names_are_words_with_a_capital_inside_a_sentence(text, names):
    assert names_in(text) == names


def test_a_name_that_is_dropped_counts_as_not_named_again():
    judgement = judged("There was a girl named Lily. She met a boy named Tom. Lily went home.")
    assert (judgement.n_names, judgement.n_names_again) == (2, 1)


def test_the_first_name_stays_only_where_the_last_third_has_it():
    lost = "One day Tom went out. A cat sat on a mat. The cat was fat. The mat was flat."
    assert not judged(lost).first_name_stays
    assert judged(lost + " So Tom sang.").first_name_stays
    assert judged(lost + " It was Tom's cat.").first_name_stays
    assert not judged("A cat sat on a mat.").first_name_stays


# Pronouns


def test_pronouns_agree_with_the_only_person():
    judgement = judged(TOM)
    assert (judgement.n_pronouns, judgement.n_pronouns_agreeing) == (3, 3)


def test_a_pronoun_of_the_other_gender_does_not_agree():
    judgement = judged(TOM.replace("He looked", "She looked"))
    assert (judgement.n_pronouns, judgement.n_pronouns_agreeing) == (3, 2)
    girl = judged("There was a girl. She hurt her foot. He cried.")
    assert (girl.n_pronouns, girl.n_pronouns_agreeing) == (3, 2)


@pytest.mark.parametrize(
    "text",
    [
        "There was a boy. His mom saw him.",
        "There was a boy named Tom and his friend, whom they called Sam. He ran.",
        "There was a fox. He ran.",
    ],
)
def test_pronouns_of_several_persons_or_of_animals_are_not_counted(text):
    assert judged(text).n_pronouns == 0


# Repeated runs of words


def test_a_run_of_four_words_said_again_is_repeated():
    judgement = judged("The cat sat down here. The cat sat down there.")
    assert (judgement.n_four_grams, judgement.n_four_grams_repeated) == (7, 1)
    assert judged(TOM).n_four_grams_repeated == 0
    assert judged("Too short").n_four_grams == 0


# The table


def test_the_table_adds_up_stories_of_all_kinds():
    stories = [Story(TOM, True), Story("A cat sat on a mat.", False)]
    table = dict(summary([judge(story) for story in stories]))
    n_words = [len(judge_stories.WORD.findall(story.text)) for story in stories]
    assert table == {
        "stories": "2",
        "words a story": f"{sum(n_words) / 2:.0f}",
        "end by themselves": "50.0% (1 of 2)",
        "names that occur again": "100.0% (1 of 1)",
        "first name still there in the last third": "100.0% (1 of 1)",
        "stories with one person only, and pronouns": "1",
        "… their pronouns that agree with that person": "100.0% (3 of 3)",
        "4-grams repeated": f"0.0% (0 of {n_words[0] + n_words[1] - 6})",
    }


def test_where_there_is_nothing_to_count_there_is_a_dash():
    table = dict(summary([judge(Story("A cat.", False))]))
    assert table["names that occur again"] == table["4-grams repeated"] == "-"
    assert table["end by themselves"] == "0.0% (0 of 1)"


# Where the stories come from


def test_a_seed_always_gives_the_same_story(model):
    def sampled(seeds):
        return judge_stories.sampled_stories(model, "Once upon a time", seeds, 0.8, 40)

    first, again, other = sampled([3, 3, 4])
    assert first == again != other
    for story in (first, other):
        assert story.text.startswith("Once upon a time")
        assert "<|endoftext|>" not in story.text
        n_tokens = len(model.encoder.encode(story.text))
        assert n_tokens < 256 if story.ended else n_tokens > 200


def test_real_stories_are_cut_where_the_models_context_ends(model):
    works = ["Once there was a cat.", "No.", "Once " + "and on " * 200, "Once more.", "Once again."]
    short, long, more = judge_stories.real_stories(model, works, "Once", 3)
    assert short == Story("Once there was a cat.", ended=True)
    assert not long.ended and len(model.encoder.encode(long.text)) == 256
    assert more.text == "Once more."


def test_the_command_prints_the_model_beside_real_stories(tmp_path, capsys):
    path = tmp_path / "real.txt"
    path.write_text(f"{TOM}\n<|endoftext|>\nA cat.\n<|endoftext|>\n", encoding="utf-8")
    assert judge_stories.main([str(path), "--samples", "2", "--show"]) == 0
    output = capsys.readouterr().out
    assert output.count("--- seed ") == 2
    rows = [line.strip("| ").split(" | ") for line in output.splitlines() if line[:2] == "| "]
    assert rows[0] == ["'Once upon a time'", "demo", "real"]
    assert rows[1] == ["stories", "2", "1"]
    assert rows[3][0] == "end by themselves" and rows[3][2] == "100.0% (1 of 1)"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["no_such.txt"], "the text no_such.txt cannot be read"),
        (["{text}", "--prompt", "Twice"], "no story of the text begins with 'Twice'"),
        (["{text}", "--model", "no_such_model"], "no_such_model"),
        (["{text}", "--temperature", "-1"], "emperature"),
        (["{text}", "--samples", "0"], "--samples must be at least 1, not 0"),
    ],
)
def test_wrong_arguments_are_told_in_a_sentence(tmp_path, capsys, arguments, sentence):
    path = tmp_path / "real.txt"
    path.write_text(TOM, encoding="utf-8")
    try:
        status = judge_stories.main([part.format(text=path) for part in arguments])
    except SystemExit as exit:  # argparse's own way
        status = exit.code
    assert status == 2
    assert sentence in capsys.readouterr().err
