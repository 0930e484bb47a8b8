"""GET /inside/reading: four stories whose numbers are the views' own, told only where true."""

import threading
from dataclasses import replace

import pytest

from gpt2core.engine.events import Unavailable
from gpt2core.hparams import HParams
from gpt2core.inside.findings import Reading
from gpt2core.inside.reading import TEXTS
from gpt2core.store.reading import read_reading, search_model
from tests.helpers.inside import MAX_BYTES, TEXT, address, number_in, open_page
from tests.helpers.web import parse, write_small_model
from tests.helpers.webapp_fixtures import loaded_app
from webapp.inside.readings import Readings
from webapp.inside.recordings import Recordings

PATH = "/inside/reading"


@pytest.fixture
def found(demo) -> Reading:
    return read_reading(demo)


@pytest.fixture
def told(app, client, demo, monkeypatch):
    """``told(reading)``: the page of a model of which this is the reading."""

    def told(reading: Reading):
        readings = Readings(Recordings())
        monkeypatch.setattr("webapp.inside.readings.read_reading", lambda model: reading)
        monkeypatch.setitem(app.extensions, "readings", readings)
        return open_page(client, PATH)

    return told


def story(page, number: int):
    (heading,) = page.all("h2", id=f"story-{number}")
    return next(s for s in page.all("section") if heading in list(s))


def ways(page, number: int) -> list[str]:
    (links,) = story(page, number).all("p", "inside-ways")
    return [link.attributes["href"] for link in links.all("a")]


def numbers(page, number: int) -> list[float]:
    return [number_in(e.text) for e in story(page, number).all("b", "number")]


def row_of(page) -> list[float]:
    (row,) = page.all("ol", "inside-row")
    return [number_in(e.text) for e in row.all("span", "number")]


def pieces(element) -> list[str]:
    return [e.text for e in element.all(class_="piece")]


@pytest.mark.parametrize(("number", "name"), [(1, "previous"), (2, "copying")])
def test_a_story_of_a_head_shows_the_row_that_the_heads_view_shows(client, found, number, name):
    one = getattr(found, name)
    page = open_page(client, PATH)
    n_most, mean, *_, weight = numbers(page, number)
    assert n_most == one.habit.n_most
    assert mean == pytest.approx(one.habit.mean, abs=0.006)
    looked_at = one.position - 1 if number == 1 else one.followed
    assert weight == pytest.approx(one.row[looked_at], abs=0.006)
    assert f"head {one.head} of layer {one.layer}" in story(page, number).words.lower()
    (href,) = ways(page, number)
    view = parse(client.get(href).text)
    assert f"Layer {one.layer}, head {one.head}: where" in view.id("inside-one").words
    assert row_of(view)[: one.position + 1] == pytest.approx(row_of(story(page, number)), abs=0.006)
    (row,) = story(page, number).all("ol", "inside-row")
    assert pieces(row) == pieces(view.all("ol", "inside-row")[0])


def test_the_story_of_an_answer_shows_what_the_lens_shows(client, demo, found):
    one, page = found.settling, open_page(client, PATH)
    (href,) = ways(page, 3)
    (grid,) = parse(client.get(href).text).all("table", "inside-lens")
    column = [row.all("td")[-1] for row in grid.all("tbody")[0].all("tr")]
    piece = demo.encoder.decoder.__getitem__
    assert [pieces(cell)[0] for cell in column] == [piece(id) for id in one.path]
    (path,) = story(page, 3).all("ol", "inside-path")
    shown = pieces(path)
    assert shown == [piece(id) for i, id in enumerate(one.path) if i == 0 or id != one.path[i - 1]]
    assert f"{one.there:.2f}" in story(page, 3).words and f"{one.end:.2f}" in story(page, 3).words
    assert f"{one.there:.2f}" in column[one.n_layers].words
    (quote,) = story(page, 3).all("p", "inside-quote")
    assert TEXTS[one.text].startswith(quote.words.removesuffix(" …"))


def test_the_story_of_a_removal_shows_what_the_ablation_shows(client, demo, found):
    one, page = found.removal, open_page(client, PATH)
    off, share = ways(page, 4)
    view = parse(client.get(off).text)
    (table,) = view.all("table", "inside-compared")
    rows = {
        row.all("button")[0].attributes["value"]: row for row in table.all("tbody")[0].all("tr")
    }
    before, after = (number_in(e.text) for e in rows[str(one.token)].all("td", "number")[:2])
    assert numbers(page, 4)[:2] == pytest.approx([before, after], abs=0.006)
    likeliest = max(rows, key=lambda id: number_in(rows[id].all("td", "number")[1].text))
    assert likeliest == str(one.instead)
    assert demo.encoder.decoder[one.instead] in pieces(story(page, 4))
    for side, token in (("whole", one.token), ("without", one.instead)):
        assert view.id(f"text-{side}").text.startswith(demo.encoder.decode([token]))
    (lead,) = parse(client.get(share).text).all("p", "inside-lead")
    assert demo.encoder.decoder[one.token] in lead.words


@pytest.mark.parametrize("is_true", [True, False])
def test_a_story_is_told_as_true_only_where_it_was_found(told, found, is_true):
    n = found.previous.habit.n
    usual, rare = (replace(found.previous.habit, n_most=most) for most in (n, 0))
    habit = usual if is_true else rare
    settling = replace(found.settling, found=is_true)
    removal = replace(found.removal, instead=found.settling.path[0], token=262)
    if not is_true:
        removal = replace(removal, instead=removal.token)
    copying = replace(
        found.copying, habit=replace(habit, n=n), first=0.01, second=0.5 if is_true else 0.01
    )
    page = told(Reading(replace(found.previous, habit=habit), copying, settling, removal))
    none = ["This one has none", "This model has no such head", "No answer settled", "none changes"]
    for number, words in enumerate(none, start=1):
        assert (words in story(page, number).words) != is_true, number
    assert ("Nor does the model copy" in story(page, 2).words) != is_true
    looks = replace(copying, habit=usual, second=0.01)
    page = told(Reading(found.previous, looks, settling, removal))
    assert "But this model does not copy" in story(page, 2).words
    copies = replace(copying, habit=rare, second=0.5)
    page = told(Reading(found.previous, copies, settling, removal))
    assert "Something else in it copies" in story(page, 2).words


def test_the_head_of_two_stories_is_named_so(told, found):
    same = replace(found.removal, layer=found.copying.layer, head=found.copying.head)
    other = replace(same, layer=(same.layer + 1) % 2)
    for removal in (same, other):
        page = told(replace(found, removal=removal))
        assert ("the head of story 2" in story(page, 4).words) == (removal is same)


def test_the_page_is_small_and_leads_back_to_the_text(client):
    answer = client.get(address(PATH, prompt=TEXT))
    assert len(answer.data) <= MAX_BYTES and "style=" not in answer.text
    assert "data:" not in answer.text
    page = parse(answer.text)
    hrefs = {a.attributes["href"] for a in page.all("a")}
    assert {address("/inside/heads", prompt=TEXT), address("/inside", prompt=TEXT)} <= hrefs
    for href in ways(page, 1) + ways(page, 4):
        linked = parse(client.get(href).text)
        assert any(a.attributes["href"].startswith(PATH) for a in linked.all("a"))


def test_a_folder_without_the_file_is_searched_once(tmp_path, monkeypatch):
    hparams = HParams(n_vocab=50_257, n_ctx=32, n_embd=12, n_head=2, n_layer=2)
    write_small_model(tmp_path / "own", hparams)
    app = loaded_app(model="own", models_dir=str(tmp_path))
    searches = []

    def search(*args):
        searches.append(args)
        return search_model(*args)

    monkeypatch.setattr("webapp.inside.readings.search_model", search)
    client = app.test_client()
    cold = client.get(PATH)
    assert cold.status_code == 200 and cold.data == client.get(PATH).data
    assert len(searches) == 1 and not (tmp_path / "own" / "reading.json").exists()


def test_a_model_with_a_short_context_says_so(tmp_path):
    write_small_model(
        tmp_path / "short", HParams(n_vocab=50_257, n_ctx=10, n_embd=4, n_head=2, n_layer=1)
    )
    app = loaded_app(model="short", models_dir=str(tmp_path))
    answer = app.test_client().get(address(PATH, prompt="two words"))
    assert answer.status_code == 422
    assert "needs a context of 14 tokens" in parse(answer.text).words


def test_one_search_at_a_time_runs_and_others_are_told_when_to_come_again(demo, monkeypatch, found):
    started, done = threading.Event(), threading.Event()

    def search(*_):
        started.set()
        done.wait()
        return found

    monkeypatch.setattr("webapp.inside.readings.read_reading", lambda model: None)
    monkeypatch.setattr("webapp.inside.readings.search_model", search)
    readings = Readings(Recordings(), patience=0.01)
    thread = threading.Thread(target=readings.get, args=(demo,))
    thread.start()
    started.wait()
    with pytest.raises(Unavailable) as refused:
        readings.get(demo)
    assert refused.value.retry_after == 10
    done.set()
    thread.join()
    assert readings.get(demo) is found
