# %% [markdown]
# # Noisy measurements
#
# A limit on a latency that is measured with an error of 10 %.
# A search picks the selections whose errors flatter them; a bound at a confidence level guards against this.

# %%
import matplotlib.pyplot as plt
import numpy as np

from cggd import Descent, Function, Start, maximize
from cggd.datasets import nats_topology

nats = nats_topology()
LIMIT = 5.31


def true_latency(seed, level=None):
    """Latency of the network that a search under noise finds."""
    noise = np.random.default_rng(seed)
    measured = Function(nats.space, lambda s: nats.latency(s) * noise.normal(1.0, 0.1), repeats=4, name="measured")
    limit = measured <= LIMIT
    search = Descent(steps=40, starts=[Start(weights="confidence")])
    limit = limit if level is None else limit.at_confidence(level)
    result = maximize(nats.val12, [limit], improvers=[search], seed=seed)
    return np.nan if result.selection is None else nats.latency(result.selection)


plain = [true_latency(seed) for seed in range(8)]
careful = [true_latency(seed, 0.95) for seed in range(8)]
print("mean of four measurements:", np.round(plain, 2))
print("bound at 95 % confidence: ", np.round(careful, 2))

# %%
fig, ax = plt.subplots(figsize=(6.4, 2.4))
ax.axvline(LIMIT, color="grey", linestyle="--", label="limit")
ax.plot(plain, np.ones(len(plain)), "o", label="mean of four")
ax.plot(careful, np.zeros(len(careful)), "o", label="at 95 % confidence")
ax.set(yticks=[], ylim=(-0.7, 2.4), xlabel="true latency of the network found [ms]")
ax.legend(ncols=3, loc="upper left")
plt.show()
