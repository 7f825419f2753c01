"""Pictures of an answer: the chosen options as a list."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cggd.plotting.axes import BAD, GOOD, INK, axes_for, label_words, number_text, write_note
from cggd.result import Result, percent_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Rows and answers that can be read in a figure of a column's width.
MOST_ROWS = 24
MOST_ANSWERS = 4


def plot_answer(result: Result, *, ax: Axes | None = None) -> Axes:
    """List the chosen option of each decision, with the objective and the proved bound above.

    Up to 24 decisions are listed; of larger spaces, first those whose option is not the default (`Result.not_default`).
    Of several answers, the first four have a column each, and options that differ from those of the first are coloured.

    Parameters
    ----------
    result : Result
        It may have been read from a file. If it has no feasible selection, the nearest one is listed.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes

    Examples
    --------
    >>> from cggd import Additive, ChoiceSpace, minimize
    >>> space = ChoiceSpace({"stem": ["small", "large"], "head": ["small", "large"]})
    >>> error = Additive(space, [9, 4, 7, 1], name="error", unit="%")
    >>> [text.get_text() for text in plot_answer(minimize(error)).texts]
    ['stem', 'large', 'head', 'large']
    """
    shown = [answer.selection or answer.nearest or {} for answer in (result, *result.alternatives)][:MOST_ANSWERS]
    decisions = list(shown[0])
    if len(decisions) > MOST_ROWS and result.not_default is not None:
        first = [decisions[at] for at in result.not_default.tolist()]
        decisions = first + [decision for decision in decisions if decision not in set(first)]
    listed = decisions[:MOST_ROWS]
    ax = axes_for(ax, (6.4, 1.1 + 0.22 * max(1, len(listed))))
    ax.set_axis_off()
    ax.set_title(_title(result), fontsize="medium", loc="left")
    if not listed:
        return write_note(ax, "no selection")
    left = len(decisions) - len(listed)
    height, width = 0.96 / max(12, len(listed) + (left > 0)), 0.66 / len(shown)
    style = {"transform": ax.transAxes, "va": "top", "fontsize": "small"}
    for row, decision in enumerate(listed):
        y = 0.96 - row * height
        ax.text(0, y, label_words(decision), color=INK, **style)
        for column, selection in enumerate(shown):
            color = GOOD if selection[decision] == shown[0][decision] else BAD
            ax.text(0.34 + column * width, y, label_words(selection[decision]), color=color, **style)
    if left:
        ax.text(0, 0.96 - len(listed) * height, f"and {left} more decisions", color=INK, style="italic", **style)
    return ax


def _title(result: Result) -> str:
    """The status, the values of the answers, and the proved bound."""
    status = result.status.value.split(":")[0]
    if result.value is None:
        return status if result.nearest is None else f"{status}; nearest selection, not feasible"
    values = [number_text(answer.value or 0.0, "") for answer in (result, *result.alternatives)][:MOST_ANSWERS]
    bound = "" if result.bound is None else f", bound {number_text(result.bound, '')}"
    gap = "" if not result.gap else f", gap {percent_text(result.gap)}"
    unit = f" {label_words(result.unit)}" if result.unit else ""
    return f"{status}: {label_words(result.objective, 40)} = {', '.join(values)}{unit}{bound}{gap}"
