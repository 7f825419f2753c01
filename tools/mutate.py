"""Mutation testing: small changes of a module that its tests do not notice.

    python -m tools.mutate cggd/constraints.py tests/test_constraints.py --sample 100

Each mutant is the module with one change: another comparison, operator, number or truth value, or one statement left
out. It is tested in a process of its own, forked from one that has imported the libraries, until the first test fails.
Mutants are tried in random order, so that a sample says something of all. Survivors are printed for a person to judge:
some change nothing that anybody could observe.
"""

from __future__ import annotations

import argparse
import ast
import copy
import importlib.util
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

# The other comparison with the same numbers on a side, and the negation.
COMPARED: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
OPERATED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
SURVIVED, KILLED = 0, 1


@dataclass(frozen=True)
class Mutant:
    """A module with one change."""

    line: int
    before: str
    after: str
    tree: ast.Module


def mutants(source: str) -> list[Mutant]:
    """All mutants of a module.

    Examples
    --------
    >>> [f"{mutant.before} -> {mutant.after}" for mutant in mutants("x = a < 2")]
    ['a < 2 -> a <= 2', 'a < 2 -> a >= 2', '2 -> 3']
    """
    tree = ast.parse(source)
    found = []
    for number, node in enumerate(_nodes(tree)):
        for after in _changes(node):
            changed = copy.deepcopy(tree)
            place = _nodes(changed)[number]
            _replace(changed, place, after)
            line = getattr(node, "lineno", 0)
            found.append(Mutant(line, ast.unparse(node), ast.unparse(after), ast.fix_missing_locations(changed)))
    return found


def _nodes(tree: ast.AST) -> list[ast.AST]:
    """The nodes that may be changed: no annotations, docstrings, messages of errors, or imports for types."""
    found: list[ast.AST] = []
    for name, value in ast.iter_fields(tree):
        if name in ("annotation", "returns", "decorator_list"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or isinstance(child, ast.Raise | ast.JoinedStr | ast.ImportFrom):
                continue
            if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
                continue
            found += [child, *_nodes(child)]
    return found


def _changes(node: ast.AST) -> Iterator[ast.AST]:
    """What stands in the place of a node, one after another."""
    if isinstance(node, ast.Compare):
        for at, operator in enumerate(node.ops):
            for other in COMPARED[type(operator)]:
                yield ast.Compare(node.left, [*node.ops[:at], other(), *node.ops[at + 1 :]], node.comparators)
    elif isinstance(node, ast.BinOp) and type(node.op) in OPERATED:
        yield ast.BinOp(node.left, OPERATED[type(node.op)](), node.right)
    elif isinstance(node, ast.AugAssign) and type(node.op) in OPERATED:
        yield ast.AugAssign(node.target, OPERATED[type(node.op)](), node.value)
    elif isinstance(node, ast.BoolOp):
        yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Not):
        yield node.operand
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield ast.Constant(not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        yield ast.Constant(node.value + 1 if abs(node.value) < 1e15 else 2 * node.value)
    elif isinstance(node, ast.If | ast.IfExp | ast.While) and not isinstance(node.test, ast.Compare | ast.BoolOp):
        changed = copy.copy(node)
        changed.test = ast.UnaryOp(ast.Not(), node.test)
        yield changed
    elif isinstance(node, ast.Continue | ast.Break) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Call | ast.YieldFrom)
    ):
        yield ast.Pass()


def _replace(tree: ast.AST, old: ast.AST, new: ast.AST) -> None:
    for parent in ast.walk(tree):
        for name, value in ast.iter_fields(parent):
            if value is old:
                setattr(parent, name, ast.copy_location(new, old))
            elif isinstance(value, list) and any(child is old for child in value):
                setattr(parent, name, [ast.copy_location(new, old) if child is old else child for child in value])


class _Mutated(MetaPathFinder, Loader):
    """Imports the mutant under the module's name."""

    def __init__(self, name: str, path: Path, tree: ast.Module) -> None:
        self.name, self.path, self.tree = name, path, tree

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        return importlib.util.spec_from_loader(fullname, self, origin=str(self.path)) if fullname == self.name else None

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self.tree, str(self.path), "exec"), module.__dict__)


def run_tests(path: Path, tree: ast.Module, tests: list[str], seconds: float | None = None) -> tuple[int, float]:
    """Run tests against a module in a forked process: whether one failed, and the processor seconds it took."""
    child = os.fork()
    if child == 0:
        status = KILLED
        try:
            with open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), 1)
                os.dup2(nowhere.fileno(), 2)
            if seconds is not None:
                signal.setitimer(signal.ITIMER_VIRTUAL, seconds)  # what runs for ever is killed
            name = ".".join(path.with_suffix("").parts).removeprefix("adapters.")
            sys.meta_path.insert(0, _Mutated(name, path, tree))
            import pytest

            options = ["-x", "-q", "-p", "no:cacheprovider", "--hypothesis-profile", "mutate"]
            options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # hypothesis is imported already
            status = SURVIVED if pytest.main([*options, *tests]) == 0 else KILLED
        finally:
            os._exit(status)
    _, status, used = os.wait4(child, 0)
    return (SURVIVED if status == 0 else KILLED), used.ru_utime + used.ru_stime


def main() -> None:
    """Test the mutants of a module, and print those that survive."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("module", type=Path, help="file of the module, from the root of the checkout")
    parser.add_argument("tests", nargs="+", help="tests that should notice, as for pytest")
    parser.add_argument("--sample", type=int, help="how many mutants are tried, of all")
    parser.add_argument("--skip", type=int, default=0, help="how many are left out first, as tried before")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="seconds after which no other is tried")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--line", type=int, action="append", help="only mutants of this line; may be repeated")
    given = parser.parse_args()

    # What tests import is imported once; the package under test is not.
    import hypothesis
    import networkx  # noqa: F401
    import numpy  # noqa: F401
    import pytest  # noqa: F401
    import scipy.optimize  # noqa: F401

    phases = (hypothesis.Phase.explicit, hypothesis.Phase.reuse, hypothesis.Phase.generate)
    hypothesis.settings.register_profile("mutate", deadline=None, max_examples=40, phases=phases, database=None)
    source = given.module.read_text(encoding="utf-8")
    status, seconds = run_tests(given.module, ast.parse(source), given.tests)
    if status != SURVIVED:
        raise SystemExit(f"the tests fail without any change: {' '.join(given.tests)}")
    known = [mutant for mutant in mutants(source) if given.line is None or mutant.line in given.line]
    random.Random(given.seed).shuffle(known)
    started, tried, survivors = time.monotonic(), 0, []
    for mutant in known[given.skip :][: given.sample]:
        if time.monotonic() - started > given.seconds:
            break
        tried += 1
        if run_tests(given.module, mutant.tree, given.tests, 5 * seconds + 10)[0] == SURVIVED:
            survivors.append(mutant)
            before, after = (text.partition("\n")[0] for text in (mutant.before, mutant.after))
            print(f"{given.module}:{mutant.line}: {before}  ->  {after}", flush=True)
    killed = tried - len(survivors)
    print(f"{given.module}: {tried} of {len(known)} mutants tried, {killed} killed, {len(survivors)} survived")


if __name__ == "__main__":
    main()
