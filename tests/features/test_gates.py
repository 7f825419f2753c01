import numpy as np
import pytest

torch = pytest.importorskip("torch")

from cggd_features import BudgetedSelector  # noqa: E402


def products(n=600, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, 8))
    return X, np.sign(X[:, 2] * X[:, 5]) + 0.8 * X[:, 7] + 0.1 * rng.standard_normal(n)


@pytest.mark.slow
def test_gates_find_an_interaction_that_least_squares_does_not():
    X, y = products()
    how = {"costs": [1, 1, 1, 1, 1, 1, 1, 5], "budget": 7, "random_state": 0}
    selector = BudgetedSelector(engine="gates", **how).fit(X, y)
    assert selector.get_support(indices=True).tolist() == [2, 5, 7]
    assert selector.total_cost_ == 7
    assert 0.5 < selector.score_ <= 1
    again = BudgetedSelector(engine="gates", **how).fit(X, y)
    assert again.score_ == selector.score_


def test_modules_weights_groups_and_classes():
    X, _ = products(n=200)
    module = torch.nn.Linear(8, 2)
    before = module.weight.detach().clone()
    selector = BudgetedSelector(
        module, costs=1, budget=2, groups={"pair": [6, 7]}, must_include=["pair"], engine="gates", time_limit=2
    )
    selector.fit(X, np.where(X[:, 3] > 0, "a", "b"), sample_weight=np.ones(200))
    assert selector.support_[[6, 7]].all()
    assert selector.total_cost_ <= 2
    assert torch.equal(module.weight, before)  # a copy is trained


def test_a_function_makes_the_module_and_anything_else_is_an_error():
    X, y = products(n=60)
    made = []

    def make(n_inputs, n_outputs):
        made.append((n_inputs, n_outputs))
        return torch.nn.Linear(n_inputs, n_outputs)

    BudgetedSelector(make, costs=1, budget=2, engine="gates", time_limit=1).fit(X, y)
    assert made == [(8, 1)]
    for wrong in ("mlp", lambda n_inputs, n_outputs: 3):
        with pytest.raises(TypeError, match="torch module"):
            BudgetedSelector(wrong, costs=1, budget=2, engine="gates").fit(X, y)
