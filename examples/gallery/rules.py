# %% [markdown]
# # Rules between decisions
#
# A computer from parts that must fit each other, for the least money.
# A rule is a constraint: it stands in the same list, and the exact solver takes it into account.

# %%
import matplotlib.pyplot as plt

from cggd import Additive, ChoiceSpace, minimize, rules
from cggd.plotting import plot_choices

space = ChoiceSpace(
    {
        "board": ["small", "standard", "server"],
        "processor": ["4 cores", "8 cores", "32 cores"],
        "graphics": ["none", "card", "two cards"],
        "supply": ["300 W", "600 W", "1000 W"],
        "cooling": ["fan", "water"],
    }
)
price = Additive(
    space,
    {
        "board": {"small": 60, "standard": 90, "server": 240},
        "processor": {"4 cores": 80, "8 cores": 190, "32 cores": 620},
        "graphics": {"none": 0, "card": 310, "two cards": 640},
        "supply": {"300 W": 40, "600 W": 75, "1000 W": 140},
        "cooling": {"fan": 25, "water": 110},
    },
    name="price",
    unit="EUR",
)
speed = Additive(space, [0, 0, 0, 10, 18, 55, 0, 40, 75, 0, 0, 0, 0, 0], name="speed")
fits = [
    rules.implies(("processor", "32 cores"), ("board", "server")),
    rules.implies(("graphics", "two cards"), ("supply", "1000 W")),
    rules.forbid_together(("board", "small"), ("graphics", ["card", "two cards"])),
    rules.implies(("processor", "32 cores"), ("cooling", "water")),
    rules.implies(("graphics", "card"), ("supply", ["600 W", "1000 W"])),
]
result = minimize(price, [speed >= 80, *fits])
print(result.summary())

# %%
plot_choices(space, result)
plt.show()
