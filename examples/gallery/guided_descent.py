# %% [markdown]
# # A descent that is led back
#
# How the guide of the paper moves a selection into the limits, on two decisions.
# The task gradient points out of the feasible region all the time; the guide acts only while the limit is violated.

# %%
import matplotlib.pyplot as plt
import numpy as np

from cggd import Additive, ChoiceSpace, Guide

space = ChoiceSpace({"width": [16, 32, 64], "depth": [1, 2, 4]})
latency = Additive(space, [1.0, 2.0, 4.0, 1.0, 2.0, 4.0], name="latency", unit="ms")
guide = Guide([latency <= 4.5], rescale=1.5)
gradient = np.array([0.4, 0.0, -1.0, 0.4, 0.0, -0.6])  # of a loss that falls with width and depth

logits, values, acted = np.zeros(6), [], []
for _ in range(80):
    step = guide.step(gradient, logits=logits)
    values.append(step.seen.values[0])
    acted.append(not step.feasible)
    logits = logits - 0.05 * step.gradient
print(f"violated in {sum(acted)} of {len(acted)} steps; last selection {space.labels(step.seen.selection)}")

# %%
steps = np.arange(len(values))
fig, ax = plt.subplots(figsize=(6.4, 3))
ax.axhline(4.5, color="grey", linestyle="--", label="limit")
ax.step(steps, values, where="mid", color="tab:blue", label="latency of the selection [ms]")
ax.plot(steps[acted], np.array(values)[acted], "o", color="tab:orange", label="the guide acts")
ax.set(xlabel="step", ylabel="latency [ms]", ylim=(1, 10))
ax.legend(loc="upper right")
plt.show()
