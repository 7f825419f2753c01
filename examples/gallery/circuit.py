# %% [markdown]
# # A circuit within a latency
#
# The least chip area for an auto-regressive filter of 28 operations that ends within 62 ns.
# Each operation runs on a slow and small unit or on a fast and large one; the latency is the longest path through the
# graph of operations.

# %%
import matplotlib.pyplot as plt

from cggd import minimize
from cggd.datasets import arf
from cggd.plotting import plot_choices

circuit = arf()
result = minimize(circuit.area, [circuit.latency <= 62])
print(result.status.name, "area", result.value, "(published optimum:", circuit.optima["area", 62], ")")

# %% [markdown]
# Operations from left to right; the colour is the unit that carries out the operation.

# %%
plot_choices(circuit.space, result)
plt.show()
