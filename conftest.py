"""What every test and doctest needs."""

import sys
from contextlib import chdir, nullcontext

import pytest
from hypothesis import settings

# `--hypothesis-profile slow` tries ten times as many examples, and `quick` (`make test`) a quarter.
settings.register_profile("quick", deadline=None, max_examples=50)
settings.register_profile("normal", deadline=None, max_examples=200)
settings.register_profile("slow", deadline=None, max_examples=2000)
settings.load_profile("normal")


def pytest_collection_modifyitems(items):
    """Tests with a number of examples of their own try the same share of it as the profile tries of 200."""
    share = settings.default.max_examples / settings.get_profile("normal").max_examples
    for function in {item.function for item in items if share != 1 and hasattr(item, "function")}:
        own = getattr(function, "_hypothesis_internal_use_settings", None)
        if own is not None and own.max_examples != settings.default.max_examples:
            number = max(5, round(share * own.max_examples))
            function._hypothesis_internal_use_settings = settings(own, max_examples=number)


@pytest.fixture(autouse=True)
def _no_figure_stays_open():
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.fixture(autouse=True)
def _doctests_write_into_a_folder_of_their_own(request, tmp_path_factory):
    is_doctest = isinstance(request.node, pytest.DoctestItem)
    with chdir(tmp_path_factory.mktemp("doctest")) if is_doctest else nullcontext():
        yield
