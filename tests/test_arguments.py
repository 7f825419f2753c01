"""Texts of the command line: what they name, and what is asked of a file."""

from unicodedata import normalize

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cggd import Additive, ChoiceSpace
from cggd.arguments import Wishes, forbidden, further_objectives, listed, named_option, read_question
from cggd.testing import selections

labels = st.text("a1= é", min_size=1, max_size=4).map(str.strip).filter(bool) | st.integers(0, 12)
SPACE = ChoiceSpace({"cpu": ["slow", "fast"], 7: [1, 2], "a=b": ["c", "=d"]})
PRICE = Additive(SPACE, [1, 5, 2, 3, 4, 9], name="price")
SPEED = Additive(SPACE, [1, 9, 1, 2, 0, 1], name="speed")
METRICS = {"price": PRICE, "speed": SPEED}


options = st.lists(labels, min_size=1, max_size=3, unique_by=str)


@given(st.dictionaries(labels, options, min_size=1, max_size=3), st.data())
def test_every_option_is_named_by_its_text_or_the_text_is_ambiguous(options, data):
    assume(len({str(d) for d in options}) == len(options))
    decision = data.draw(st.sampled_from(list(options)))
    option = data.draw(st.sampled_from(options[decision]))
    text = f"{decision}={option}"
    readings = [(d, o) for d in options for o in options[d] if f"{d}={o}" == text]
    for written in (text, f" {decision}={option} ", normalize("NFD", text)):
        if len(readings) == 1:
            assert named_option(ChoiceSpace(options), written, "--require") == (decision, option)
        else:
            with pytest.raises(ValueError, match="several ways"):
                named_option(ChoiceSpace(options), written, "--require")


@given(st.data())
def test_wishes_are_constraints_on_the_selections_that_have_them(data):
    rows = data.draw(selections(SPACE))
    bound = data.draw(st.integers(0, 20))
    wishes = Wishes(limit=[f"price<={bound}", "2<=speed"], rule=["cpu=fast -> 7=1"], require=["a=b=c"])
    named = SPACE.labels(rows)
    expected = [
        PRICE(rows) <= bound,
        SPEED(rows) >= 2,
        named["cpu"] != "fast" or named[7] == 1,
        named["a=b"] == "c",
    ]
    assert [c.report(rows).satisfied for c in wishes.on(SPACE, METRICS)] == expected
    assert wishes.without_constraints.on(SPACE, METRICS) == []


def test_files_of_bounds_and_rules_name_the_line_that_is_wrong(tmp_path):
    bounds, rules = tmp_path / "bounds.txt", tmp_path / "rules.txt"
    bounds.write_text("price<=9\n\n# a comment\nspeed>=2\n")
    rules.write_text("not (cpu=fast and 7=2)\n")
    wishes = Wishes(limit=["speed<=10"], limits=[bounds], rules=[rules])
    assert wishes.bounds == ["speed<=10", "price<=9", "speed>=2"]
    assert len(wishes.on(SPACE, METRICS)) == 4
    bounds.write_text("price<=9\nweight<=2\n")
    with pytest.raises(ValueError, match=r"bounds\.txt, line 2: .*weight"):
        wishes.on(SPACE, METRICS)


def test_objectives_come_in_the_order_of_the_words(tmp_path):
    words = ["solve", "x.csv", "--then-maximize", "speed", "--then-minimize=price"]
    found = further_objectives(METRICS, ["price"], ["speed"], tmp_path, words)
    assert found == [(SPEED, "maximize"), (PRICE, "minimize")]
    assert further_objectives(METRICS, ["price"], ["speed"], tmp_path, []) == [(PRICE, "minimize"), (SPEED, "maximize")]


def test_forbidden_options_and_lists_of_labels():
    assert forbidden(SPACE, ["cpu=slow", "7=2", "cpu=fast"]) == {"cpu": ["slow", "fast"], 7: [2]}
    assert forbidden(SPACE, []) is None
    assert (listed(None), listed(" * "), listed("a, b")) == (None, "*", ["a", "b"])


@pytest.mark.parametrize(
    ("maximize", "minimize", "message"),
    [
        (None, None, "give either --maximize METRIC or --minimize METRIC"),
        ("price", "price", "give either"),
        ("weight", None, "has no metric 'weight'; it has price, speed"),
    ],
)
def test_wrong_questions(maximize, minimize, message, tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("decision,option,price,speed\na,x,1,2\na,y,3,4\n")
    with pytest.raises(ValueError, match=message):
        read_question(table, maximize, minimize, Wishes())
    with pytest.raises(ValueError, match="--require must be decision=option, got 'cpu'"):
        named_option(SPACE, "cpu", "--require")
    with pytest.raises(ValueError, match=r'--decimal must be "\." or ",", got ";"'.replace('";"', "';'")):
        Wishes(decimal=";")
