# %% [markdown]
# # Features within a budget
#
# Which of ten measurements predict the course of diabetes best, if they may cost at most 9 together?
# Prices are made up; blood values share the price of the sample.

# %%
import matplotlib.pyplot as plt
from sklearn.datasets import load_diabetes

from cggd_features import BudgetedSelector
from cggd_features.plotting import plot_budget_path, plot_costs

X, y = load_diabetes(return_X_y=True, as_frame=True)
costs = {"age": 0.1, "sex": 0.1, "bmi": 1, "bp": 2, "s1": 5, "s2": 5, "s3": 5, "s4": 6, "s5": 6, "s6": 4}
selector = BudgetedSelector(costs=costs, budget=9).fit(X, y)
print(list(selector.get_feature_names_out()), f"cost {selector.total_cost_:.1f}", selector.status_.name)

# %% [markdown]
# The best score for each budget, with the features that enter (+) and leave (−):

# %%
plot_budget_path(selector, unit="EUR")
plt.show()

# %%
plot_costs(selector, unit="EUR")
plt.show()
