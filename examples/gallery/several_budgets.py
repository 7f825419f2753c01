# %% [markdown]
# # What a looser limit would buy
#
# The best accuracy for each of twelve limits on latency, in one call.
# Proofs and selections found under one limit are used for the others.

# %%
import matplotlib.pyplot as plt

from cggd import sweep
from cggd.datasets import nats_topology
from cggd.plotting import plot_front, plot_tradeoff

nats = nats_topology()
front = sweep(nats.val12, [nats.energy <= 30], nats.latency, 12, sense="maximize")
print(front.summary())

# %% [markdown]
# The curve, drawn over all networks. A full point is proved to be optimal.

# %%
ax = plot_tradeoff(nats.val12, nats.latency, constraints=nats.energy <= 30)
plot_front(front, ax=ax)
ax.set_ylim(55, 90)
plt.show()
