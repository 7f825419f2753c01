import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.utils.estimator_checks import parametrize_with_checks

from cggd_features import BudgetedSelector


# The checks give numbers of classes to selectors of every kind.
@pytest.mark.filterwarnings("ignore:y holds . different whole numbers:UserWarning")
@parametrize_with_checks(
    [
        BudgetedSelector(costs=1.0, budget=2, max_fits=60, path=()),
        BudgetedSelector(LogisticRegression(), costs=1.0, budget=2, max_fits=60, path=()),
        BudgetedSelector(LinearRegression(), costs=1.0, budget=1, cv=2, max_fits=30),
    ]
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)
