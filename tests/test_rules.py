"""Rules between decisions: what they allow, their laws, and how they read in reports."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cggd import (
    Additive,
    ChoiceSpace,
    Function,
    Problem,
    Status,
    diagnose,
    find_feasible,
    maximize,
    minimize,
    portfolio,
    rules,
    smallest_bound,
    soft,
    sweep,
)
from cggd.io import parse_rule, read_problem, write_problem
from cggd.metrics import Excess, Interactions
from cggd.program.presolve import limits_of, possible
from cggd.testing import check_constraints, check_direction, check_expression, check_metric, check_state
from cggd.testing.strategies import choice_spaces


def literals(space):
    """A literal of one decision with one or several options, or of every decision that has an option."""

    def of(decision):
        labels = list(space.option_labels(decision))
        return st.one_of(
            st.sampled_from(labels).map(lambda o: (decision, o)),
            st.lists(st.sampled_from(labels), min_size=1, unique=True).map(lambda some: (decision, some)),
            st.sampled_from(labels).map(lambda o: ("*", o)),
        )

    return st.sampled_from(list(space.decisions)).flatmap(of)


def true(literal, selection):
    """How many decisions a literal holds for."""
    decision, options = literal
    options = options if isinstance(options, list) else [options]
    return sum(s in options for d, s in selection.items() if decision in ("*", d))


def chosen(literals, selection):
    """How many decisions take an option that some literal names."""
    return sum(any(true((d if x[0] == "*" else x[0], x[1]), {d: o}) for x in literals) for d, o in selection.items())


@st.composite
def drawn_rules(draw, space):
    """A rule, and a function of a labelled selection that says by plain Python whether it holds."""
    kind = draw(st.sampled_from(["implies", "forbid", "count", "different", "same", "only", "holds", "all"]))
    literal, some = literals(space), st.lists(literals(space), min_size=1, max_size=3)
    if kind == "implies":
        first, then = draw(some), draw(some)
        rule = rules.implies(first, then)
        return rule, lambda s: not all(true(x, s) for x in first) or any(true(x, s) for x in then)
    if kind == "forbid":
        parts = draw(some)
        return rules.forbid_together(*parts), lambda s: not all(true(x, s) for x in parts)
    if kind == "count":
        k, parts = draw(st.integers(0, 3)), draw(some)
        word = draw(st.sampled_from(["at_most", "at_least", "exactly"]))
        compare = {"at_most": int.__le__, "at_least": int.__ge__, "exactly": int.__eq__}[word]
        return getattr(rules, word)(k, parts), lambda s: compare(chosen(parts, s), k)
    decisions = draw(st.lists(st.sampled_from(list(space.decisions)), min_size=1, unique=True))
    if kind == "different":
        return rules.different(decisions), lambda s: len({s[d] for d in decisions}) == len(decisions)
    if kind == "same":
        return rules.same(decisions), lambda s: len({s[d] for d in decisions}) == 1
    if kind == "only":
        decision, condition = decisions[0], draw(literal)
        rest = draw(st.sampled_from(list(space.option_labels(decision))))
        rule = rules.only_when(decision, condition, otherwise=rest)
        return rule, lambda s: bool(true(condition, s)) or s[decision] == rest
    if kind == "holds":
        allowed = draw(st.sets(st.tuples(*[st.sampled_from(list(space.option_labels(d))) for d in decisions[:3]])))
        rule = rules.holds(lambda *given: given in allowed, decisions[:3], name="allowed")
        return rule, lambda s: tuple(s[d] for d in decisions[:3]) in allowed
    a, b = draw(literal), draw(literal)
    both = rules.all_of([rules.forbid_together(a, b), rules.different(decisions)])
    return both, lambda s: not (true(a, s) and true(b, s)) and len({s[d] for d in decisions}) == len(decisions)


@st.composite
def ruled_spaces(draw):
    space = draw(choice_spaces(max_decisions=4, max_options=4))
    return (space, *draw(drawn_rules(space)))


@given(ruled_spaces())
@settings(max_examples=300, deadline=None)
def test_a_rule_allows_what_it_says(drawn):
    space, rule, says = drawn
    constraint = rule.on(space)
    everything = space.enumerate()
    expected = np.array([bool(says(space.labels(row))) for row in everything])
    assert (constraint.holds(everything) == expected).all()


@pytest.mark.slow
@given(ruled_spaces())
@settings(max_examples=60, deadline=None)
def test_rules_keep_the_laws(drawn):
    space, rule, _ = drawn
    constraint = rule.on(space)
    check_metric(constraint.metric, n=5)
    check_state(constraint.metric, n=5)
    check_expression(constraint.metric, n=3)
    check_direction([constraint], n=5)


@given(ruled_spaces())
@settings(max_examples=100, deadline=None)
def test_presolve_keeps_every_option_of_an_allowed_selection(drawn):
    space, rule, says = drawn
    mask = possible(space, limits_of([rule.on(space)]))
    for row in space.enumerate():
        if says(space.labels(row)):
            assert mask is not None
            assert mask[space.layout.flat(row)].all()


@given(ruled_spaces(), st.integers(0, 2**16))
@settings(max_examples=100, deadline=None)
def test_optima_under_rules_are_those_of_brute_force(drawn, seed):
    space, rule, says = drawn
    cost = Additive(space, np.random.default_rng(seed).integers(0, 9, space.n_options))
    values = [cost(row) for row in space.enumerate() if says(space.labels(row))]
    for few in (True, False):
        improvers = None if few else [part for part in portfolio() if type(part).__name__ not in ("Enumerate",)]
        result = minimize(cost, [rule], improvers=improvers)
        if values:
            assert (result.status, result.value) == (Status.OPTIMAL, min(values))
        else:
            assert result.status is Status.INFEASIBLE


@given(st.integers(0, 2**16), st.integers(1, 6))
@settings(max_examples=60, deadline=None)
@pytest.mark.slow
def test_excess_keeps_the_laws(seed, n):
    rng = np.random.default_rng(seed)
    space = ChoiceSpace.from_sizes(rng.integers(1, 5, rng.integers(1, 5)))
    numbers = rng.integers(-2, 4, (n, space.n_options)) * (rng.random((n, space.n_options)) < 0.6)
    metric = Excess(space, numbers, rng.integers(-2, 5, n))
    slow = [np.maximum(numbers[:, space.layout.flat(row)].sum(1) - metric.most, 0).sum() for row in space.enumerate()]
    assert metric.evaluate(space.enumerate()).tolist() == slow
    check_metric(metric, n=5)
    check_state(metric, n=5)
    check_expression(metric, n=4)
    least, greatest = metric.limits()
    assert least <= min(slow) <= max(slow) <= greatest


@pytest.mark.slow
@given(st.integers(0, 2**16))
@settings(max_examples=60, deadline=None)
def test_stored_combinations_keep_the_laws(seed):
    rng = np.random.default_rng(seed)
    space = ChoiceSpace.from_sizes(rng.integers(1, 5, rng.integers(1, 5)))
    decisions = rng.permutation(space.n_decisions)[: rng.integers(1, 4)].tolist()
    values = rng.integers(-1, 3, space.sizes[decisions]) * rng.choice([1.0, 0.1])
    metric = Interactions(space, {tuple(decisions): values})
    slow = [values[tuple(row[decisions])] for row in space.enumerate()]
    assert (metric.minimum(), metric.maximum()) == metric.limits() == (min(slow), max(slow))
    assert metric.evaluate(space.enumerate()).tolist() == slow
    check_metric(metric, n=5)
    check_state(metric, n=5)
    check_expression(metric, n=4)


def test_the_value_of_a_function_is_the_number_of_changes_until_it_says_yes():
    space = ChoiceSpace.from_sizes([3, 3, 2])
    allowed = {(0, 0), (2, 2)}
    metric = rules.holds(lambda a, b: (a, b) in allowed, [0, 1]).on(space).metric
    slow = [
        min(sum(x != y for x, y in zip(row[:2], pair, strict=True)) for pair in allowed) for row in space.enumerate()
    ]
    assert metric.evaluate(space.enumerate()).tolist() == slow


COMPUTER = ChoiceSpace({"cpu": ["x", "y"], "board": ["x", "y"], "disk": ["none", "ssd"]})
PRICE = Additive(COMPUTER, [5, 3, 4, 2, 0, 1], name="price", unit="EUR")
FITS = rules.implies(("cpu", "x"), ("board", "x"))


def test_reports_name_the_rule():
    wrong = FITS.on(COMPUTER).report({"cpu": "x", "board": "y", "disk": "none"})
    assert str(wrong) == "cpu=x -> board=x: violated by 1"
    result = maximize(PRICE, [FITS, PRICE <= 8, rules.at_most(0, ("*", "ssd"))])
    lines = [str(row) for row in result.constraints]
    assert lines == ["cpu=x -> board=x: kept, 1 left", "price <= 8 EUR: 7, 1 left", "at most 0 of *=ssd: kept"]
    assert "at most 0 of *=ssd: kept" in result.summary()
    assert type(result).from_json(result.to_json()).summary() == result.summary()


def test_a_conflict_names_its_rules_in_the_words_of_the_user():
    wanted = [rules.at_least(1, ("cpu", "x"), name="cpu x is wanted"), rules.at_least(1, ("board", "y"))]
    found = diagnose([PRICE <= 20, FITS, *wanted])
    assert [str(c) for c in found.conflict] == ["cpu=x -> board=x", "cpu x is wanted", "at least 1 of board=y"]
    assert "cpu x is wanted" in str(found)
    assert "price" not in str(found)
    assert found.minimal


def test_functions_that_return_bools_are_rules():
    cheap = Function(COMPUTER, lambda s: s["cpu"] != s["board"], name="mixed")
    result = minimize(PRICE, [cheap])
    assert result.selection in ({"cpu": "x", "board": "y", "disk": "none"}, {"cpu": "y", "board": "x", "disk": "none"})
    assert str(result.constraints[0]) == "mixed: kept"
    with pytest.raises(Exception, match=r"must return bools, got 3\.5"):
        minimize(PRICE, [Function(COMPUTER, lambda s: 3.5)])
    with pytest.raises(TypeError, match="must return True or False, got 1"):
        minimize(PRICE, [rules.holds(lambda cpu: 1)])
    whole = rules.holds(lambda selection: selection["disk"] == "ssd", name="has a disk")
    assert minimize(PRICE, [whole]).value == 6


def test_sweeps_and_searches_for_feasible_selections_take_rules():
    front = sweep(PRICE, [FITS], PRICE, [7, 9], sense="maximize")
    assert [point.result.value for point in front.points] == [7, 9]
    assert find_feasible([PRICE <= 5, FITS]).feasible
    with pytest.raises(ValueError, match=r"does not know its choice space; give Rule.on\(space\)"):
        find_feasible([FITS])
    check_constraints(FITS.on(COMPUTER), PRICE <= 8)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: rules.implies("cpu=x", ("board", "x")), 'a literal must be a pair such as ("cpu", "x")'),
        (lambda: rules.implies(("cpu", "z"), ("board", "x")).on(COMPUTER), "has no option 'z'"),
        (lambda: rules.implies(("gpu", "x"), ("board", "x")).on(COMPUTER), "unknown decision 'gpu'"),
        (lambda: rules.at_most(1, ("*", "z")).on(COMPUTER), "no decision has the option 'z'"),
        (lambda: rules.at_most(-1, ("*", "x")), "k must be at least 0, got -1"),
        (lambda: rules.at_most(1, []), "is empty"),
        (lambda: rules.different("cpu"), "decisions must be a list of decisions"),
        (lambda: rules.same(["cpu", "cpu"]), "decisions must be different labels"),
        (lambda: rules.all_of([PRICE <= 3]), "all_of takes rules"),
        (lambda: rules.all_of([]), "rules is empty"),
        (lambda: rules.holds(3), "function must be a callable"),
        (lambda: rules.forbid_together(), "is empty"),
        (lambda: minimize(PRICE, [rules.holds(lambda gpu: True)]), "unknown decision 'gpu'"),
    ],
)
def test_wrong_rules_are_told(make, message):
    with pytest.raises((ValueError, TypeError)) as error:
        make()
    assert message in str(error.value)


def test_a_formula_with_too_many_clauses_is_refused():
    space = ChoiceSpace.from_sizes([2] * 40)
    parts = tuple(rules.Both((rules.Literal((2 * i,), (0,)), rules.Literal((2 * i + 1,), (0,)))) for i in range(20))
    with pytest.raises(ValueError, match="more than 4096 clauses"):
        rules.rows_of(rules.Either(parts), space)


def test_a_line_up_of_interchangeable_slots_is_proved():
    """The clique form: every player is one row, so the relaxation is tight although slots may be swapped."""
    rng = np.random.default_rng(3)
    slots, players = [f"slot{i}" for i in range(8)], [f"p{i}" for i in range(40)]
    space = ChoiceSpace(dict.fromkeys(slots, players))
    points, salary = rng.integers(5, 90, 40), rng.integers(20, 99, 40)
    metrics = [Additive(space, np.tile(numbers, 8), name=name) for numbers, name in ((points, "pt"), (salary, "sal"))]
    result = maximize(metrics[0], [metrics[1] <= 400, rules.different("*")])
    assert result.status is Status.OPTIMAL
    assert len(set(result.selection.values())) == 8
    best = np.full(401, -np.inf)  # dynamic programming over players, for every number of them
    table = [best.copy() for _ in range(9)]
    table[0][:] = 0
    for gain, cost in zip(points, salary, strict=True):
        for k in range(8, 0, -1):
            table[k][cost:] = np.maximum(table[k][cost:], table[k - 1][: 401 - cost] + gain)
    assert result.value == table[8][400]


def test_every_combination_of_rules_is_a_rule():
    """Pairs of rules, joined by all_of, allow what both allow."""
    space = ChoiceSpace({d: ["a", "b", "c"] for d in "pqr"})
    some = [
        rules.different("*"),
        rules.same(["p", "q"]),
        rules.implies(("p", "a"), ("q", "b")),
        rules.at_most(1, ("*", "c")),
    ]
    everything = space.enumerate()
    for one, other in itertools.combinations(some, 2):
        both = rules.all_of([one, other]).on(space).holds(everything)
        assert (both == (one.on(space).holds(everything) & other.on(space).holds(everything))).all()


# -- as text ----------------------------------------------------------------------------------------------------------

NUMBERS = ChoiceSpace({"bx": [8, 16], "by": [1, 2, 4], "A -> B": ["(y)", "or else", "QB-08"]})
SAID = {
    "bx=8": lambda s: s["bx"] == 8,
    "bx!=8 and by = 1|2": lambda s: s["bx"] != 8 and s["by"] in (1, 2),
    "not (bx=16 and by=4)": lambda s: not (s["bx"] == 16 and s["by"] == 4),
    "bx=8 -> by=1 or by=4": lambda s: s["bx"] != 8 or s["by"] in (1, 4),
    "bx=8 <-> by=1": lambda s: (s["bx"] == 8) == (s["by"] == 1),
    "bx=8 and by=2 or NOT bx=8 and by=1": lambda s: s["by"] == (2 if s["bx"] == 8 else 1),
    'bx=8 -> by=2 -> "A -> B"="(y)"': lambda s: s["bx"] != 8 or s["by"] != 2 or s["A -> B"] == "(y)",
    '"A -> B"="or else"|QB-08': lambda s: s["A -> B"] != "(y)",
    "at most 1 of bx=8, by=1|2": lambda s: (s["bx"] == 8) + (s["by"] in (1, 2)) <= 1,
    "At least 2  of *=8, by=1, by=2": lambda s: (s["bx"] == 8) + (s["by"] in (1, 2)) >= 2,
    "exactly 0 of *=1": lambda s: s["by"] != 1,
    "at most 0 of *=*": lambda s: False,
    "different: bx, by": lambda s: True,
    "same: bx, by": lambda s: False,
    "by only if bx=16": lambda s: s["bx"] == 16 or s["by"] == 1,
    "by only when bx=16 or bx!=8 else 4": lambda s: s["bx"] == 16 or s["by"] == 4,
    "*=8": lambda s: s["bx"] == 8,
    "not *=1": lambda s: s["by"] != 1,
}


@pytest.mark.parametrize("text", list(SAID))
def test_rules_of_text_say_what_they_read(text):
    constraint = parse_rule(text).on(NUMBERS)
    assert str(constraint) == " ".join(text.split())
    for row in NUMBERS.enumerate():
        assert constraint.holds(row[None])[0] == SAID[text](NUMBERS.labels(row)), NUMBERS.labels(row)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bx", "expected = and an option after 'bx', but it ends there"),
        ("bx=", "expected a option such as x, but it ends there"),
        ("bx=8 by=1", "decision 'bx' has no option"),
        ("bx=8)", "expected and, or, -> or the end, got ')'"),
        ("(bx=8", "expected a closing bracket"),
        ("bx=8 -> ", "expected a decision such as cpu"),
        ("at most 2 of", "expected = and an option after 'at most 2 of'"),
        ("at most two of *=8", "no option 'x'"),
        ("bz=8", "unknown decision 'bz'"),
        ("bx=9", "decision 'bx' has no option '9'"),
        ("different: bx,", "expected a decision"),
        ("", "expected a decision such as cpu, but it ends there"),
    ],
)
def test_wrong_texts_are_told(text, message):
    with pytest.raises(ValueError, match=r"rule|option|decision") as error:
        parse_rule(text).on(NUMBERS)
    if "two" not in text and "by=1" not in text:
        assert message in str(error.value)


def test_problems_in_json_have_rules(tmp_path):
    path = tmp_path / "problem.json"
    checked = rules.holds(lambda cpu, disk: cpu != "x" or disk == "ssd", name="x needs a disk")
    problem = Problem(PRICE, [FITS, rules.different(["cpu", "board"]), checked, (PRICE <= 9).named("cheap")])
    write_problem(problem, path)
    again = read_problem(path)
    everything = COMPUTER.enumerate()
    assert list(map(str, again.constraints)) == list(map(str, problem.constraints))
    for before, after in zip(problem.constraints, again.constraints, strict=True):
        assert (before.values(everything) == after.values(everything)).all()
    more = ', "rules": ["cpu=x -> disk=ssd", {"rule": "*=ssd", "name": "fast"}]}'
    text = path.read_text().rstrip().removesuffix("}") + more
    path.write_text(text)
    assert list(map(str, read_problem(path).constraints))[-2:] == ["cpu=x -> disk=ssd", "fast"]
    wrong = {'"cpu="': r"rules\[0\]: rule 'cpu='", '{"rul": 3}': r"rules\[0\] lacks", "3": r"rules\[0\]"}
    for rule, message in wrong.items():
        path.write_text(text.replace('"cpu=x -> disk=ssd"', rule))
        with pytest.raises(ValueError, match=message):
            read_problem(path)


def test_remedies_of_rules_say_what_would_be_violated():
    found = diagnose([rules.at_least(1, ("cpu", "x")), rules.at_least(1, ("board", "y")), FITS, PRICE >= 0])
    assert "  the rest works if this is violated by at least 1: cpu=x -> board=x" in str(found).splitlines()


@pytest.mark.parametrize("order", list(itertools.permutations("abc")))
def test_options_without_an_attribute_go_with_all_others_in_any_order(order):
    sizes = {"a": ["x", "n"], "b": ["x", "y"], "c": ["x", "y"]}
    space = ChoiceSpace(sizes, attributes={"sock": ["s1", "", "s1", "s2", "s1", "s2"]})
    rule = rules.same(list(order), by="sock").on(space)
    texts = np.array(space.attributes["sock"])
    for selection in space.enumerate():
        said = {text for text in texts[space.layout.flat(selection)].tolist() if text}
        assert bool(rule.satisfied(rule.metric(selection))) == (len(said) <= 1)


def test_a_soft_rule_and_a_tightest_bound_beside_a_rule():
    space = ChoiceSpace({"a": [1, 2, 3], "b": [1, 2, 3]})
    cost = Additive(space, [1.0, 2, 3, 3, 2, 1])
    assert smallest_bound(cost, [rules.same("*")]).value == 4
    with pytest.raises(TypeError, match=r"rule\.on\(space\)"):
        soft(rules.same("*"), 5)
