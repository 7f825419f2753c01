"""Scheduling under latency and resource bounds."""

from cggd_scheduling.charts import plot_gantt, plot_network, plot_usage
from cggd_scheduling.formats import read_project, write_project
from cggd_scheduling.hls import DataFlowGraph, FunctionalUnit, Synthesis, UnitLibrary, synthesize
from cggd_scheduling.jobshop import JobShop, schedule_jobs
from cggd_scheduling.makespan import Makespan
from cggd_scheduling.modes import select_modes
from cggd_scheduling.multimode import schedule_project
from cggd_scheduling.placement import Device, Operator, Placement, place
from cggd_scheduling.project import Project
from cggd_scheduling.schedule import Alternative, Requirements, Schedule, ScheduleError
from cggd_scheduling.tasks import schedule_tasks

__all__ = [
    "Alternative",
    "DataFlowGraph",
    "Device",
    "FunctionalUnit",
    "JobShop",
    "Makespan",
    "Operator",
    "Placement",
    "Project",
    "Requirements",
    "Schedule",
    "ScheduleError",
    "Synthesis",
    "UnitLibrary",
    "place",
    "plot_gantt",
    "plot_network",
    "plot_usage",
    "read_project",
    "schedule_jobs",
    "schedule_project",
    "schedule_tasks",
    "select_modes",
    "synthesize",
    "write_project",
]
