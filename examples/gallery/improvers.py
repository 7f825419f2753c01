# %% [markdown]
# # Improvers, one by one
#
# The same knapsack, solved by the descent alone, by tabu search alone, and by the default list.
# Each improver yields selections or bounds, and a list of them shares what they find.

# %%
import matplotlib.pyplot as plt

from cggd import Descent, Multipliers, Switches, maximize, portfolio
from cggd.datasets import mmkp

knapsack = mmkp("I02")
lists = {
    "descent": [Descent(steps=150, starts=2)],
    "tabu search": [Switches()],
    "multipliers": [Multipliers()],
    "default": portfolio(),
}
found = {}
for name, improvers in lists.items():
    result = maximize(knapsack.value, knapsack.constraints, improvers=improvers, seed=0, time_limit=2)
    found[name] = result
    print(f"{name:12} {result.status.name:9} value {result.value}, bound {result.bound}")

# %%
shares = [100 * (found[name].value or 0) / knapsack.best_known for name in lists]
fig, ax = plt.subplots(figsize=(6.4, 2.4))
bars = ax.barh(list(lists), shares, color="tab:blue")
ax.bar_label(bars, fmt="%.2f %%", padding=3)
ax.set(xlim=(90, 102), xlabel="share of the best known value [%]")
ax.invert_yaxis()
plt.show()
