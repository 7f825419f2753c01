# %% [markdown]
# # A project with crews and a budget
#
# The shortest schedule of six activities with three workers and 1,500 EUR.
# Each activity can be done in one of several ways, and the way decides how long it takes and what it needs.

# %%
import matplotlib.pyplot as plt

from cggd_scheduling import Project, plot_gantt, plot_usage, schedule_project

project = Project(
    {
        "survey": {"one team": (3, {"crew": 1})},
        "trench": {"by hand": (6, {"crew": 2}), "digger": (2, {"crew": 1, "money": 900})},
        "pipes": {"buy": (1, {"money": 400}), "reuse": (4, {"crew": 1})},
        "lay": {"two": (4, {"crew": 2}), "three": (3, {"crew": 3})},
        "test": {"rented": (1, {"crew": 1, "money": 300}), "own": (2, {"crew": 1})},
        "close": {"by hand": (3, {"crew": 2}), "digger": (1, {"crew": 1, "money": 500})},
    },
    [("survey", "trench"), ("trench", "lay"), ("pipes", "lay"), ("lay", "test"), ("test", "close")],
    renewable={"crew": 3},
    nonrenewable={"money": 1500},
    unit="days",
)
schedule = schedule_project(project)
print(schedule.summary())

# %%
plot_gantt(schedule)
plt.show()

# %%
plot_usage(schedule)
plt.show()
