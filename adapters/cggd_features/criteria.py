"""Information criteria: which features to leave out although the budget pays for them."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

Criterion = Literal["aic", "bic", "ebic"]

CRITERIA = get_args(Criterion)


def penalty(criterion: Criterion | None, n_samples: int, n_features: int) -> float:
    """Penalty per column on the deviance, by AIC (Akaike, 1974), BIC (Schwarz, 1978) or EBIC with gamma = 1.

    The extended BIC (Chen & Chen, 2008) accounts for the number of models of each size.

    Examples
    --------
    >>> penalty(None, 100, 10), penalty("aic", 100, 10), round(penalty("ebic", 100, 10), 2)
    (0.0, 2.0, 9.21)
    """
    penalties = {"aic": 2.0, "bic": np.log(n_samples), "ebic": np.log(n_samples) + 2 * np.log(n_features)}
    return 0.0 if criterion is None else float(penalties[criterion])
