import sys

from benchmarks.penalties.report import main

main(sys.argv[1:])
