# %% [markdown]
# # Limits that conflict
#
# Which limits exclude each other, and which ones would work?
# `diagnose` finds a smallest set of limits that cannot be satisfied together.

# %%
import matplotlib.pyplot as plt

from cggd import diagnose, smallest_bound
from cggd.datasets import nats_topology
from cggd.plotting import plot_tradeoff

nats = nats_topology()
wishes = [nats.val12 >= 84.0, nats.latency <= 3.5, nats.energy <= 30.0]
print(diagnose(wishes))

# %% [markdown]
# The smallest latency for each of three accuracies:

# %%
for accuracy in (80.0, 82.0, 84.0):
    print(f"accuracy {accuracy:.0f} % needs a latency of", smallest_bound(nats.latency, [nats.val12 >= accuracy]).value)

# %%
ax = plot_tradeoff(nats.val12, nats.latency, constraints=wishes[:2])
ax.set_ylim(70, 90)
plt.show()
