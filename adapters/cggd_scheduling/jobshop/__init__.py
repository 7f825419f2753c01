"""Flexible job shops: machine choice and sequence."""

from cggd_scheduling.jobshop.files import is_classical, read, read_shops, write
from cggd_scheduling.jobshop.problem import JobShop
from cggd_scheduling.jobshop.search import schedule_jobs

__all__ = ["JobShop", "is_classical", "read", "read_shops", "schedule_jobs", "write"]
