# %% [markdown]
# # A knapsack with ten resources
#
# One item from each of 100 groups, as valuable as possible, within the capacities of ten resources.
# The search gives a proved bound with its answer: no selection is worth more.

# %%
import matplotlib.pyplot as plt

from cggd import maximize
from cggd.datasets import mmkp
from cggd.plotting import plot_budgets

knapsack = mmkp("I07")
result = maximize(knapsack.value, knapsack.constraints, gap=2e-3)
print(result.status.name, result.value, "of at most", round(result.bound, 2))
print(f"gap {100 * result.gap:.3f} %")

# %% [markdown]
# How much of each capacity is used:

# %%
plot_budgets(result)
plt.show()
