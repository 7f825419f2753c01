"""Run benchmarks by name: ``python -m benchmarks [NAME ...]``, all by default, the long ones in their quick form."""

import sys

from benchmarks import direction, grouped, noise, packaged, penalties, scale, suite

ALL = {
    "direction": direction.main,
    "packaged": packaged.main,
    "noise": noise.main,
    "grouped": grouped.main,
    "suite": lambda: suite.main(["--quick"]),
    "penalties": lambda: penalties.main(["--quick", "--out", "out/penalties"]),
    "scale": lambda: scale.main(["--out", "out/scale"]),
}


def main(names: list[str]) -> None:
    if unknown := [name for name in names if name not in ALL]:
        sys.exit(f"no benchmark {unknown[0]!r}; there are {', '.join(ALL)}")
    for name in names or ALL:
        ALL[name]()


if __name__ == "__main__":
    main(sys.argv[1:])
