"""HiGHS: branch and cut on the linear form, default settings but for the gap at which it stops."""

from __future__ import annotations

import time

import highspy
import numpy as np
from scipy import sparse

from benchmarks.instances import Instance
from benchmarks.opponents.claim import Claim, Record
from benchmarks.opponents.linear_form import LinearForm, linear_form


def solve(instance: Instance, *, seed: int, seconds: float, threads: int, record: Record) -> Claim:
    began = time.perf_counter()
    form = linear_form(instance.problem)
    solver = highspy.Highs()
    solver.silent()
    solver.passModel(_model(form))
    # By default HiGHS calls a gap of 0.01 % optimal, which cggd and CP-SAT do not.
    options = {"threads": threads, "random_seed": seed, "mip_rel_gap": 0.0, "mip_abs_gap": 1e-6}
    for name, value in options.items():
        solver.setOptionValue(name, value)
    solver.cbMipImprovingSolution.subscribe(lambda event: record(form.selection(event.data_out.mip_solution)))
    solver.setOptionValue("time_limit", max(0.01, seconds - (time.perf_counter() - began)))
    solver.run()
    info, status = solver.getInfo(), solver.getModelStatus()
    if info.primal_solution_status == highspy.kSolutionStatusFeasible:
        record(form.selection(np.array(solver.getSolution().col_value)))
    bound = form.objective(info.mip_dual_bound)
    return Claim(
        status == highspy.HighsModelStatus.kOptimal,
        bound if np.isfinite(bound) else None,
        solver.modelStatusToString(status),
    )


def _model(form: LinearForm) -> highspy.HighsLp:
    n, groups = len(form.costs), form.groups.n_decisions
    one = sparse.csr_array((np.ones(n), (form.groups.owner, np.arange(n))), shape=(groups, n))
    matrix = sparse.csc_array(sparse.vstack([sparse.csr_array(form.weights), one]))
    model = highspy.HighsLp()
    model.num_col_, model.num_row_ = n, len(form.limits) + groups
    model.col_cost_ = form.costs
    model.col_lower_, model.col_upper_ = np.zeros(n), np.ones(n)
    model.row_lower_ = np.concatenate([np.full(len(form.limits), -highspy.kHighsInf), np.ones(groups)])
    model.row_upper_ = np.concatenate([form.limits, np.ones(groups)])
    model.integrality_ = [highspy.HighsVarType.kInteger] * n
    model.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    model.a_matrix_.start_ = matrix.indptr.astype(np.int32)
    model.a_matrix_.index_ = matrix.indices.astype(np.int32)
    model.a_matrix_.value_ = matrix.data.astype(float)
    return model
