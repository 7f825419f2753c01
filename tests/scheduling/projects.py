"""Projects that tests share, and slow ways to schedule them."""

from itertools import permutations, product

from hypothesis import strategies as st

from cggd_scheduling import Project


@st.composite
def projects(draw, *, most=5, modes=3, least=0, longest=4, renewable=2, nonrenewable=2, oversized=False):
    """Small projects; every mode fits into the capacities unless `oversized`."""
    capacities = {f"R{k}": draw(st.integers(1, 4)) for k in range(draw(st.integers(0, renewable)))}
    n_budgets = draw(st.integers(0, nonrenewable))
    demands = st.fixed_dictionaries(
        {r: st.integers(0, c + oversized) for r, c in capacities.items()}
        | {f"N{k}": st.integers(0, 4) for k in range(n_budgets)}
    )
    mode = st.tuples(st.integers(0, longest), demands)
    drawn = draw(st.lists(st.lists(mode, min_size=1, max_size=modes), min_size=least, max_size=most))
    edges = draw(st.lists(st.tuples(st.integers(0, most - 1), st.integers(0, most - 1)), max_size=5))
    names = draw(st.permutations("abcdefgh"[: len(drawn)]))
    precedence = [(names[min(e)], names[max(e)]) for e in edges if e[0] != e[1] and max(e) < len(drawn)]
    budgets = {f"N{k}": draw(st.integers(0, 3 * max(len(drawn), 1))) for k in range(n_budgets)}
    return Project(dict(zip(names, drawn, strict=True)), precedence, capacities, budgets)


def selections(project):
    """Every choice of modes that meets the budgets and fits into the capacities."""
    for chosen in product(*(modes.items() for modes in project.activities.values())):
        modes = [mode for _, mode in chosen]
        fits = all(m.demands.get(r, 0) <= c or not m.duration for m in modes for r, c in project.renewable.items())
        paid = all(sum(m.demands.get(r, 0) for m in modes) <= b for r, b in project.budgets.items())
        if fits and paid:
            yield {a: label for a, (label, _) in zip(project.activities, chosen, strict=True)}


def orders(project):
    """Every topological order."""
    for order in permutations(project.activities):
        if all(order.index(a) < order.index(b) for a, b in project.precedence):
            yield order


def serial_by_hand(project, order, modes):
    """Starts of the serial scheme, unit of time by unit of time."""
    taken, start = {}, {}
    for a in order:
        mode = project.activities[a][modes[a]]
        at = max((start[p] + project.activities[p][modes[p]].duration for p in project.graph.pred[a]), default=0)
        while any(
            taken.get((r, t), 0) + mode.demands.get(r, 0) > c
            for r, c in project.renewable.items()
            for t in range(at, at + mode.duration)
        ):
            at += 1
        start[a] = at
        for r in project.renewable:
            for t in range(at, at + mode.duration):
                taken[r, t] = taken.get((r, t), 0) + mode.demands.get(r, 0)
    return start


def makespan(project, start, modes):
    return max((s + project.activities[a][modes[a]].duration for a, s in start.items()), default=0)


def shortest(project):
    """The least makespan: the serial scheme over all orders and modes holds an optimal schedule; None without one."""
    found = [
        makespan(project, serial_by_hand(project, order, modes), modes)
        for modes in selections(project)
        for order in orders(project)
    ]
    return min(found, default=None)
