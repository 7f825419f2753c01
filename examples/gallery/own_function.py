# %% [markdown]
# # A function of your own
#
# The strongest beam that weighs at most 60 kg, computed by a Python function that cggd knows nothing about.
# Any function of a selection will do: a simulation, a call of a program, a measurement.

# %%
import matplotlib.pyplot as plt

from cggd import ChoiceSpace, Function, minimize
from cggd.plotting import plot_search, plot_tradeoff

space = ChoiceSpace(
    {
        "material": ["steel", "aluminium", "titanium"],
        "height": list(range(40, 161, 10)),  # mm
        "width": list(range(20, 101, 10)),  # mm
        "wall": [2, 3, 4, 6, 8],  # mm
    }
)
DENSITY = {"steel": 7850.0, "aluminium": 2700.0, "titanium": 4430.0}  # kg/m3
STIFFNESS = {"steel": 210e9, "aluminium": 69e9, "titanium": 114e9}  # Pa
LENGTH, FORCE = 3.0, 2000.0  # m, N


def hollow(s, power):
    h, w, t = s["height"] / 1000, s["width"] / 1000, s["wall"] / 1000
    return w * h**power - (w - 2 * t) * (h - 2 * t) ** power


def sag(s):  # mm, in the middle of a beam on two supports
    return 1000 * FORCE * LENGTH**3 / (48 * STIFFNESS[s["material"]] * hollow(s, 3) / 12)


deflection = Function(space, sag, name="deflection", unit="mm")
weight = Function(space, lambda s: DENSITY[s["material"]] * LENGTH * hollow(s, 1), name="weight", unit="kg")
result = minimize(deflection, [weight <= 10.0, weight >= 2.0], seed=0, max_evaluations=600)
print(result.summary())

# %% [markdown]
# The search: dots are selections that satisfy the limits, the line is the best one so far.

# %%
plot_search(result)
plt.show()

# %%
ax = plot_tradeoff(deflection, weight, constraints=[weight <= 10.0], results=result)
ax.set_yscale("log")
plt.show()
