"""BudgetedSelector: the best subset of features within budgets, as a scikit-learn selector."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from functools import partial
from inspect import signature
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone, is_classifier
from sklearn.feature_selection import SelectorMixin
from sklearn.linear_model import LinearRegression
from sklearn.metrics import check_scoring
from sklearn.metrics._scorer import _PassthroughScorer
from sklearn.model_selection import RepeatedKFold, RepeatedStratifiedKFold, check_cv
from sklearn.pipeline import Pipeline
from sklearn.utils import check_array, check_random_state, get_tags
from sklearn.utils.metadata_routing import (
    MetadataRouter,
    MethodMapping,
    _raise_for_params,
    _routing_enabled,
    process_routing,
)
from sklearn.utils.validation import (
    _check_sample_weight,
    check_consistent_length,
    check_is_fitted,
    column_or_1d,
    has_fit_parameter,
    validate_data,
)

from cggd.budget import Budget
from cggd.checks import as_number, check_time_limit, whole
from cggd_features import criteria, linear, logistic, wrapper
from cggd_features.arguments import Arguments, Variables
from cggd_features.engine_result import EngineResult
from cggd_features.gram import Gram
from cggd_features.interactions import interactions
from cggd_features.models import date_columns, empty, model_of, numbers_of, outputs_of
from cggd_features.path import path_of, ranking

# Repeats of the 5 folds on which the wrapper scores the best subsets again.
REPEATS = 3

ENGINES = ("auto", "gram", "wrapper", "gates")

# Shares of the budget in a path of few features; for many, the path has the subsets that the search visits anyway.
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.25, 1.5, 2.0)


class BudgetedSelector(MetaEstimatorMixin, SelectorMixin, BaseEstimator):
    """Select the features that predict best within budgets.

    Parameters
    ----------
    estimator : estimator, optional
        The model that will use the features. By default `LinearRegression` if y is numeric and `LogisticRegression` if
        it holds labels. With ``engine="gates"``, a torch module with one input per feature, or a function that makes
        one from the numbers of inputs and outputs.
    costs : number, array-like of shape (n_features,), mapping, or callable
        What each feature costs: the same number for every variable; a number per feature; or a mapping by feature name
        or number. For columns chosen together, the mapping may have the label of the group with one price for all of
        them (otherwise their prices add up). A callable takes a bool mask of shape (n_features,) and returns the total
        cost of that subset. With several budgets, a mapping of their names to any of these.
    budget : number, or mapping of name to number
        Upper bound on the total cost: ``100``, or ``{"usd": 100, "ms": 5, "n": 10}``. ``"n"`` without costs of its own
        counts variables.
    discounted : mapping of label to mapping of feature to number, optional
        Groups that share a price, such as blood tests that share the sample: what each member costs once another member
        of its group is selected. `cggd_features.prices` reads `costs` and `discounted` from a table. With several
        budgets, a mapping of their names to such mappings.
    groups : array-like of shape (n_features,), or mapping of label to features, optional
        Columns of one variable, such as one-hot columns, that are chosen together: a label for each column (None for a
        single column), or for each label a list of columns or a pattern of their names, ``{"cp": "cp_*"}``. Members
        that X lacks, such as a level that no sample of a fold has, are ignored with a warning, and so are their prices.
        Patterns ignore them without a warning.
    must_include, must_exclude : list of features
        By name or number, or by the label of a group.
    at_most, at_least : mapping of tuple of features to int, optional
        ``{("ecg", "echo"): 1}``: at most (at least) so many of these features are selected. A key may also be the label
        of a discounted group.
    engine : {"auto", "gram", "wrapper", "gates"}
        ``"gram"`` works on the Gram matrix, without refits: for `LinearRegression`, `Ridge` and `LogisticRegression`
        with a ridge penalty. ``"wrapper"`` takes any estimator and scoring, by cross-validation. ``"gates"`` trains a
        torch module with stochastic gates on its inputs. ``"auto"`` is the gram engine if it supports the estimator and
        neither `scoring` nor `cv` is given, and otherwise the wrapper.
    scoring, cv
        For the wrapper, as in scikit-learn. Without `cv`, subsets are compared on 5 shuffled folds, and the best ones
        are scored again on other shuffles of the data, up to 3 times 5 folds. The best one of the search stays unless
        another one is ahead by more than a standard error. With `cv`, the best subset on its splits is returned.
    criterion : {"aic", "bic", "ebic"}, optional
        Information criterion of the gram engine. Its score on the training data only rises with more features, so by
        default it adds every feature that improves the score and fits the budget. With a criterion, it minimises
        ``n log(1 - R^2) + penalty * n_columns``, or the deviance with that penalty, within the budget; the penalty is
        2, log n, or log n + 2 log p (Chen & Chen, 2008). Use one if the budget pays for more features than the data can
        tell from noise; on 2,000 features ``"ebic"`` was the best.
    path : "auto", or list of numbers
        Further shares of the budget to search, for `path_`. ``"auto"`` is a dozen shares from 0.1 to 2 if there are at
        most 40 columns; otherwise `path_` has the subsets that the search visits.
    max_fits : int
        Largest number of fits of the estimator by the wrapper. The best subset found by then is returned.
    time_limit : number, optional
        Seconds after which the best subset found so far is returned.
    n_jobs : int, optional
        Parallel jobs of the wrapper.
    random_state : int, RandomState or None
    verbose : int

    Attributes
    ----------
    support_ : bool array of shape (n_features,)
        Which features are selected. Of subsets with equal scores, the cheapest, then the smallest, then the one with
        the lowest column numbers. The wrapper prefers, before the cheapest, the one with the best BIC of least squares,
        as many subsets have equal scores once an AUC or an accuracy is 1.
    total_cost_ : float, or dict of budget name to float
        Total cost of the selected features.
    feature_costs_ : float array of shape (n_features,), or dict of budget name to it
        What each feature costs alone; for columns chosen together, what all of them cost.
    score_ : float
        Score of the selected features. Gram, least squares: R^2 on the training data as in `sklearn.metrics.r2_score`,
        averaged over outputs; for ridge regression, the penalty counts as an error. Gram, classes: the share of the
        deviance on the training data that the fitted model explains, `sklearn.metrics.d2_log_loss_score`, with the
        weights of samples and classes; the search maximises it less a ridge penalty, but this score has no penalty.
        Wrapper: mean cross-validated score, without `cv` on the other shuffles; scores in `path_` are those of the
        search. Gates: see `cggd_features.gates`.
    status_ : cggd.Status
        OPTIMAL if it is proved that no subset within the budgets scores more. This is possible only for least squares,
        on at most 40 columns or with budgets that pay for everything. A column that is a combination of others up to
        the rounding of its numbers counts as a combination; if rounding hides whether it is, nothing is proved.
    bound_ : float or None
        Upper bound on the score of every subset within the budgets, if one is known: for least squares on up to 1,000
        columns. With more than 400, no column may be nearly a combination of others.
    path_ : list of PathPoint
        Subsets of increasing cost and score, including the selected one; each is the best found at its cost.
    cost_path_ : float array of shape (n_points,), or (n_points, n_budgets)
        Costs of the points of `path_`.
    ranking_ : int array of shape (n_features,)
        Number of the first point of the path, from 1, that has the feature; the number of points plus 1 if none has it.
    engine_ : str
        The engine that was used.
    n_fits_ : int
        Fits of the estimator that the wrapper made.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    Notes
    -----
    A budget that no selection satisfies is an error that names the least possible cost. The wrapper leaves out columns
    that hold no value at all. Costs are evaluated again before the selection is returned.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> X, y = load_diabetes(return_X_y=True, as_frame=True)
    >>> costs = dict.fromkeys(X.columns, 10.0) | {"age": 1.0, "sex": 1.0, "bmi": 1.0, "bp": 1.0}
    >>> selector = BudgetedSelector(costs=costs, budget=15).fit(X, y)
    >>> selector.get_feature_names_out()
    array(['age', 'sex', 'bmi', 'bp', 's5'], dtype=object)
    >>> selector.total_cost_, round(selector.score_, 3), selector.status_.name
    (14.0, 0.487, 'OPTIMAL')
    """

    n_features_in_: int

    def __init__(
        self,
        estimator=None,
        *,
        costs,
        budget,
        discounted=None,
        groups=None,
        must_include=(),
        must_exclude=(),
        at_most=None,
        at_least=None,
        engine="auto",
        scoring=None,
        cv=None,
        criterion=None,
        path="auto",
        max_fits=2000,
        time_limit=None,
        n_jobs=None,
        random_state=None,
        verbose=0,
    ):
        self.estimator = estimator
        self.costs = costs
        self.budget = budget
        self.discounted = discounted
        self.groups = groups
        self.must_include = must_include
        self.must_exclude = must_exclude
        self.at_most = at_most
        self.at_least = at_least
        self.engine = engine
        self.scoring = scoring
        self.cv = cv
        self.criterion = criterion
        self.path = path
        self.max_fits = max_fits
        self.time_limit = time_limit
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X, y, sample_weight=None, groups=None, **params):
        """Find the features.

        Parameters
        ----------
        X : array-like, sparse matrix or DataFrame of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            The wrapper also takes a structured array, such as events and times of a survival analysis.
        sample_weight : array-like of shape (n_samples,), optional
            For the gram and gates engines, and for the wrapper's estimator.
        groups : array-like of shape (n_samples,), optional
            Groups of samples for the splits of the wrapper.
        **params : dict
            Metadata for the wrapper's estimator, scorer and splitter, with ``enable_metadata_routing``.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            If an argument is wrong, or no selection satisfies the budgets; the message has the least possible cost.
        """
        shares = self._checked()
        dates = self._dates(X)
        frame = X if hasattr(X, "iloc") and self.engine in ("auto", "wrapper") else None
        X = X.astype(dict.fromkeys(dates, object)) if dates and frame is not None else X
        how: dict[str, Any] = {
            "accept_sparse": ("csc", "csr"),
            "dtype": "numeric" if frame is None else None,
            "ensure_all_finite": not self._allows_nan(),
            "ensure_min_samples": 2,
        }
        if getattr(getattr(y, "dtype", None), "names", None):  # a structured target, such as events and times
            X = validate_data(self, X, **how)
            check_consistent_length(X, y)
        else:
            checked: Any = validate_data(self, X, y, multi_output=True, **how)
            X, y = checked
            labels = y.dtype.kind not in "fiu" or (hasattr(self.estimator, "fit") and is_classifier(self.estimator))
            if labels and y.ndim == 2 and y.shape[1] == 1:
                y = column_or_1d(y, warn=True)
        model = model_of(self.estimator, y, self.engine, plain=self.scoring is None and self.cv is None)
        if model.engine != "wrapper" and frame is not None:
            X = check_array(X, accept_sparse=True)
        if model.engine != "gram" and self.criterion is not None:
            raise ValueError(f"criterion is for engine='gram', got {self.criterion!r} with engine {model.engine!r}")
        if model.engine != "wrapper":
            _raise_for_params(params, self, "fit")
            if self.scoring is not None or self.cv is not None:
                raise ValueError(
                    f"scoring and cv are for engine='wrapper', got scoring={self.scoring!r} and cv={self.cv!r} with "
                    f"engine={self.engine!r}"
                )
        weights = sample_weight
        if weights is not None:
            weights = _check_sample_weight(weights, X, dtype=float, ensure_non_negative=True)
        arguments = self._arguments()
        start = arguments.start()
        if isinstance(shares, str):
            shares = SHARES if len(arguments.variables.owner) <= linear.PROVABLE and model.engine == "gram" else ()
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        how = {"shares": shares, "seed": seed, "clock": Budget(self.time_limit)}
        if model.engine == "gram":
            found = self._by_gram(model, X, y, weights, arguments, start, how)
        elif model.engine == "gates":
            found = self._by_gates(model, X, y, weights, arguments, start, how)
        else:
            metadata = {**params, "sample_weight": sample_weight, "groups": groups}
            found = self._by_wrapper(model, X if frame is None else frame, y, weights, arguments, start, metadata, how)
        self._keep(arguments, found)
        self.engine_ = model.engine
        if self.verbose:
            print(
                f"[BudgetedSelector] {self.support_.sum()} features, cost {self.total_cost_}: score {self.score_:.6g}"
            )
        return self

    # -- engines ----------------------------------------------------------------------------------------------------

    def _by_gram(self, model, X, y, weights, arguments, start, how) -> EngineResult:
        X = X if sparse.issparse(X) else np.asarray(X, dtype=float)
        columns, limits = arguments.variables.columns, arguments.limits
        penalty = criteria.penalty(self.criterion, X.shape[0], X.shape[1])
        intercept = model.estimator.fit_intercept
        if model.labels:
            classes, weights = model.classes(y), model.weights(weights, y)
            two = classes.max() == 1
            kind = logistic.Likelihood if two else logistic.Multinomial
            known = classes.astype(float) if two else classes
            likelihood = kind(arguments.variables.space, columns, X, known, weights, model.alpha, intercept)
            return logistic.solve(likelihood, limits, start, penalty=penalty, **how)
        target = model.outputs(y)
        gram = Gram.of(X, target, columns, weights=weights, alpha=model.alpha, intercept=intercept)
        return linear.solve(gram, limits, start, penalty=penalty / X.shape[0], **how)

    def _by_wrapper(self, model, X, y, weights, arguments, start, metadata, how) -> EngineResult:
        metadata = {name: value for name, value in metadata.items() if value is not None}
        estimator = model.estimator
        classes = model.classes(y) if model.labels and y.ndim == 1 else None
        scorer, cv = check_scoring(estimator, scoring=self.scoring), self._splitter(y, estimator)
        if _routing_enabled():
            routed = process_routing(self._with(estimator), "fit", **metadata)
            fit_params, score_params = routed.estimator.fit, routed.scorer.score
            split_params = routed.splitter.split
        else:
            _raise_for_params({n: v for n, v in metadata.items() if n not in ("sample_weight", "groups")}, self, "fit")
            fit_params, score_params = {}, {}
            split_params = {"groups": metadata["groups"]} if "groups" in metadata else {}
            if "sample_weight" in metadata:
                step, last = estimator.steps[-1] if isinstance(estimator, Pipeline) else ("", estimator)
                if not has_fit_parameter(last, "sample_weight"):
                    raise TypeError(f"sample_weight was given, but {last!r} takes none")
                fit_params = {f"{step}__sample_weight" if step else "sample_weight": weights}
                score_params = {"sample_weight": weights} if _takes_weights(scorer, estimator) else {}
        splits, fresh = list(cv.split(X, y, **split_params)), []
        if self.cv is None and "groups" not in split_params:
            kind = RepeatedStratifiedKFold if is_classifier(estimator) and y.ndim == 1 else RepeatedKFold
            drawn = list(kind(n_splits=5, n_repeats=1 + REPEATS, random_state=how["seed"]).split(X, y))
            splits, fresh = drawn[:5], drawn[5:]
        validation = wrapper.CrossValidation(estimator, X, y, scorer, splits, fit_params, score_params)
        metric = wrapper.CrossValidated(arguments.variables, validation, self.max_fits, self.n_jobs)
        if self.max_fits < 2 * metric.n_splits:
            raise ValueError(f"max_fits must pay for two subsets on {metric.n_splits} splits, got {self.max_fits}")
        if classes is not None:
            target = logistic.indicators(classes, np.ones(len(y)) if weights is None else weights)
        else:
            target = outputs_of(y)
        variables, numbers = arguments.variables, numbers_of(X)
        gram = Gram.of(numbers, target, variables.columns, weights=weights)
        limits = arguments.limits.without(variables.all_of(empty(X)) & ~start)
        pairs = partial(interactions, numbers, target, variables.owner, len(variables))
        return wrapper.solve(metric, limits, start, gram, pairs, fresh=fresh, verbose=self.verbose, **how)

    def _by_gates(self, model, X, y, weights, arguments, start, how) -> EngineResult:
        from cggd_features import gates  # imports torch

        X = X.toarray() if sparse.issparse(X) else np.asarray(X, dtype=float)
        target = model.classes(y) if model.labels else model.outputs(y)
        return gates.solve(
            self.estimator,
            X,
            target,
            weights,
            arguments.variables,
            arguments.limits,
            start,
            verbose=self.verbose,
            **how,
        )

    # -- what scikit-learn asks -------------------------------------------------------------------------------------

    def _get_support_mask(self) -> Any:
        check_is_fitted(self)
        return self.support_

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.target_tags.multi_output = True
        tags.input_tags.sparse = self.engine == "gates" or self.estimator is None or self._of_estimator("sparse")
        tags.input_tags.allow_nan = self._allows_nan()
        return tags

    def get_metadata_routing(self) -> MetadataRouter:
        """Metadata for the selector itself, and for the wrapper's estimator, splitter and scorer."""
        estimator = self.estimator if hasattr(self.estimator, "fit") else LinearRegression()
        return (
            MetadataRouter(owner=self)
            .add_self_request(self)
            .add(estimator=estimator, method_mapping=MethodMapping().add(caller="fit", callee="fit"))
            .add(
                splitter=self._splitter(None, estimator),
                method_mapping=MethodMapping().add(caller="fit", callee="split"),
            )
            .add(
                scorer=check_scoring(estimator, scoring=self.scoring),
                method_mapping=MethodMapping().add(caller="fit", callee="score"),
            )
        )

    def _with(self, estimator) -> BudgetedSelector:
        """The same selector, with `estimator` in place of None."""
        if self.estimator is not None:
            return self
        other: Any = clone(self)
        return other.set_params(estimator=estimator)

    def _splitter(self, y, estimator) -> Any:
        return check_cv(5 if self.cv is None else self.cv, y, classifier=is_classifier(estimator))

    def _dates(self, X) -> list[Any]:
        """Columns that hold dates, which only the wrapper with a pipeline as its estimator takes."""
        dates = date_columns(X)
        if dates and not (self.engine in ("auto", "wrapper") and isinstance(self.estimator, Pipeline)):
            first = dates[0]
            raise ValueError(
                f"X holds dates in {', '.join(map(repr, dates))}; turn them into numbers, for example "
                f"X[{first!r}] = (X[{first!r}] - X[{first!r}].min()).dt.days, or let the first step of a pipeline do "
                "so, which engine='wrapper' takes as its estimator"
            )
        return dates

    def _allows_nan(self) -> bool:
        """Whether the estimator takes missing values; the gram engine and gates take none."""
        used = self.engine == "wrapper" or (self.engine == "auto" and self.estimator is not None)
        return used and self._of_estimator("allow_nan")

    def _of_estimator(self, tag: str) -> bool:
        """An input tag of the estimator; a pipeline takes what its first step takes."""
        first = self.estimator.steps[0][1] if isinstance(self.estimator, Pipeline) else self.estimator
        return hasattr(first, "fit") and bool(getattr(get_tags(first).input_tags, tag))

    # -- arguments and results --------------------------------------------------------------------------------------

    def _checked(self) -> str | Sequence[float]:
        """Check the arguments that do not depend on the data, and return the shares of the path."""
        if self.engine not in ENGINES:
            raise ValueError(f"engine must be one of {', '.join(map(repr, ENGINES))}, got {self.engine!r}")
        if self.criterion is not None and self.criterion not in criteria.CRITERIA:
            known = ", ".join(map(repr, criteria.CRITERIA))
            raise ValueError(f"criterion must be None or one of {known}, got {self.criterion!r}")
        whole(self.max_fits, "max_fits", least=1)
        check_time_limit(self.time_limit, finite=True)
        path: Any = self.path
        if isinstance(path, str) and path == "auto":
            return path
        if isinstance(path, str) or not isinstance(path, Iterable):
            wanted = "path must be 'auto' or a list of shares of the budget"
            raise (ValueError if isinstance(path, str) else TypeError)(f"{wanted}, got {path!r}")
        shares = [as_number(share, "path") for share in path]
        if any(share <= 0 for share in shares):
            raise ValueError(f"path must hold shares of the budget greater than 0, got {self.path!r}")
        return shares

    def _arguments(self) -> Arguments:
        names = getattr(self, "feature_names_in_", None)
        variables = Variables.of(self.n_features_in_, None if names is None else list(names), self.groups)
        return Arguments.of(
            variables,
            self.costs,
            self.budget,
            self.discounted,
            self.must_include,
            self.must_exclude,
            self.at_most,
            self.at_least,
        )

    def _keep(self, arguments: Arguments, found: EngineResult) -> None:
        """Check the selection against the limits, and set the fitted attributes."""
        if not arguments.limits.holds(found.selected):
            raise RuntimeError(
                "the selection violates a bound when it is evaluated again; does a cost change its answer?"
            )
        self._arguments_ = arguments
        self.support_ = arguments.variables.support(found.selected)
        self.total_cost_ = arguments.cost(found.selected)
        self.feature_costs_ = arguments.alone()
        self.score_, self.status_, self.bound_ = found.score, found.status, found.bound
        self.path_ = path_of(arguments, (found.selected, found.score), found.visited)
        costs = [list(p.cost.values()) if isinstance(p.cost, Mapping) else p.cost for p in self.path_]
        self.cost_path_ = np.array(costs, dtype=float)
        self.ranking_ = ranking(self.path_, self.n_features_in_)
        self.n_fits_ = found.n_fits

    def cost_of(self, support) -> float | dict[Hashable, float]:
        """The cost of another subset.

        Parameters
        ----------
        support : bool array of shape (n_features,), or list of features
            A variable counts if any of its columns is in it.

        Returns
        -------
        float, or dict of budget name to float
        """
        check_is_fitted(self)
        variables = self._arguments_.variables
        mask = np.asarray(support)
        if mask.dtype == bool:
            if mask.shape != (self.n_features_in_,):
                raise ValueError(f"support must have shape ({self.n_features_in_},), got {mask.shape}")
            support = np.flatnonzero(mask).tolist()
        return self._arguments_.cost(variables.some(support, "support"))


def _takes_weights(scorer: Any, estimator: Any) -> bool:
    """Whether a scorer of scikit-learn, or the estimator's own score, weighs samples."""
    of_metric = hasattr(scorer, "_score_func") and "sample_weight" in signature(scorer._score_func).parameters
    of_estimator = isinstance(scorer, _PassthroughScorer) and "sample_weight" in signature(estimator.score).parameters
    return of_metric or of_estimator
