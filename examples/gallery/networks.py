# %% [markdown]
# # Networks within limits
#
# The most accurate of 15,625 neural networks that runs within 5 ms and 20 mJ.
# All of them were measured (NATS-Bench and HW-NAS-Bench), so the picture shows every network.

# %%
import matplotlib.pyplot as plt

from cggd import maximize
from cggd.datasets import nats_topology
from cggd.plotting import plot_choices, plot_tradeoff

nats = nats_topology()
limits = [nats.latency <= 5.0, nats.energy <= 20.0]
result = maximize(nats.val12, limits)
print(result.summary())

# %% [markdown]
# The network as a graph: each connection has the colour of its operation.

# %%
plot_choices(nats.space, result)
plt.show()

# %% [markdown]
# Every network by latency and accuracy, with the one that was found.

# %%
plot_tradeoff(nats.val12, nats.latency, constraints=limits, results=result)
plt.show()
