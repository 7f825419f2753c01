"""Files: option tables as CSV, problems as JSON, and the text formats of two classical benchmarks.

What is wrong with a file raises a ValueError that names the file, the line where there is one, and what was expected.
Every reader takes gzip as well; what is written to a path that ends in ``.gz`` is compressed.
"""

from cggd.entries import check_keys
from cggd.io.bounds import parse_bound, parse_bounds
from cggd.io.instances import read_gap, read_mmkp
from cggd.io.problems import read_metrics, read_problem, write_problem
from cggd.io.rules import parse_rule, read_rules
from cggd.io.tables import read_options, write_answers, write_options, write_selection
from cggd.io.text import csv_cell
from cggd.io.tuning import read_t4, write_t4

__all__ = [
    "check_keys",
    "csv_cell",
    "parse_bound",
    "parse_bounds",
    "parse_rule",
    "read_gap",
    "read_metrics",
    "read_mmkp",
    "read_options",
    "read_problem",
    "read_rules",
    "read_t4",
    "write_answers",
    "write_options",
    "write_problem",
    "write_selection",
    "write_t4",
]
