"""The shape of the source: no import runs in a circle, and no class of an adapter is large."""

import ast
from pathlib import Path

import networkx as nx
import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = [init.parent for folder in (ROOT, ROOT / "adapters") for init in sorted(folder.glob("cggd*/__init__.py"))]
SOURCES = {
    ".".join(path.relative_to(folder.parent).with_suffix("").parts).removesuffix(".__init__"): path.read_text("utf-8")
    for folder in FOLDERS
    for path in sorted(folder.rglob("*.py"))
}
MOST_ATTRIBUTES = 12


def imports(sources):
    """Which module imports which, wherever the statement stands: in functions and under TYPE_CHECKING as well.

    Importing ``a.b`` also runs ``a/__init__.py``. That is no edge, since a package may list its modules' names.
    """
    graph = nx.DiGraph()
    graph.add_nodes_from(sources)
    for module, source in sources.items():
        for node in ast.walk(ast.parse(source)):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert not node.level, f"{module} has a relative import in line {node.lineno}; write it in full"
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            for name in names:
                while name and name not in sources:
                    name = name.rpartition(".")[0]
                if name:
                    graph.add_edge(module, name)
    return graph


def cycles(sources):
    graph = imports(sources)
    large = [sorted(part) for part in nx.strongly_connected_components(graph) if len(part) > 1]
    return large + [[module] for module in nx.nodes_with_selfloops(graph)]


def attributes(cls):
    """Fields of a class, and what its methods assign on self."""
    declared = [node for node in cls.body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)]
    fields = {node.target.id for node in declared if "ClassVar" not in ast.unparse(node.annotation)}
    stored = [node for node in ast.walk(cls) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)]
    return fields | {node.attr for node in stored if ast.unparse(node.value) == "self"}


def test_no_module_imports_in_a_circle():
    assert {
        "cggd",
        "cggd.space",
        "cggd_nas.tracer",
        "cggd_features.least_squares",
        "cggd_scheduling.hls.search",
    } <= set(SOURCES)
    assert not cycles(SOURCES)


@pytest.mark.parametrize(
    "back",
    [
        "from p.a import x",
        "import p.a",
        "from p import a",
        "def f():\n    from p.a import x",
        "if TYPE_CHECKING:\n    from p.a import x",
        "class C:\n    def f(self):\n        import p.a as other",
    ],
)
def test_every_kind_of_import_counts(back):
    sources = {"p": "from p.a import x", "p.a": "from p.b import y", "p.b": back, "p.c": "import p.b, os"}
    assert cycles(sources) == [["p.a", "p.b"]]
    assert not cycles({**sources, "p.b": "from os import path"})
    assert cycles({"p": "", "p.a": "from p.a import x"}) == [["p.a"]]


@pytest.mark.parametrize("module", list(SOURCES))
def test_classes_are_small(module):
    for node in ast.walk(ast.parse(SOURCES[module])):
        # scikit-learn's estimators keep each parameter and each result under its name, as its interface asks.
        if isinstance(node, ast.ClassDef) and "BaseEstimator" not in map(ast.unparse, node.bases):
            assert len(attributes(node)) <= MOST_ATTRIBUTES, node.name


def test_attributes_are_fields_and_what_methods_assign():
    source = """
class A:
    x: int
    shared: ClassVar[int] = 0
    def __init__(self):
        self.y, (self.z, other.w) = 1, (2, 3)
        self.y += 1
        self.x.v = 2
"""
    assert attributes(ast.parse(source).body[0]) == {"x", "y", "z"}
