"""Flexible job shops: machine choice and sequence."""

from cggd_scheduling.jobshop.problem import JobShop, read
from cggd_scheduling.jobshop.search import schedule_jobs

__all__ = ["JobShop", "read", "schedule_jobs"]
