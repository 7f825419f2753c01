"""Run benchmarks by name: ``python -m benchmarks [NAME ...]``, all by default, the long ones in their quick form.

Some take options: ``python -m benchmarks features --help``.
"""

import sys

from benchmarks import (
    compress,
    costly,
    direction,
    engine,
    features,
    grouped,
    nas_cifar10,
    noise,
    packaged,
    penalties,
    pruning,
    scale,
    scheduling,
    suite,
)
from benchmarks.pruning import minilm

# Run alone, these take what follows their name.
WITH_OPTIONS = {
    "compress": compress.main,
    "costly": costly.main,
    "engine": engine.main,
    "features": features.main,
    "nas_cifar10": nas_cifar10.main,
    "pruning": pruning.main,
    "minilm": minilm.main,
    "scheduling": scheduling.main,
}

ALL = {
    "direction": direction.main,
    "packaged": packaged.main,
    "noise": noise.main,
    "grouped": grouped.main,
    "suite": lambda: suite.main(["--quick"]),
    "penalties": lambda: penalties.main(["--quick", "--out", "out/penalties"]),
    "scale": lambda: scale.main(["--out", "out/scale"]),
    "costly": lambda: costly.main(["--seeds", "2", "--budgets", "25,50,100", "--out", "out/costly"]),
    "engine": lambda: engine.main(["--quick"]),
    "features": lambda: features.main(["--quick"]),
    "compress": lambda: compress.main(["--quick", "--out", "out/compress/quick.csv"]),
    "scheduling": lambda: scheduling.main(["--quick", "--out", "out/scheduling_quick"]),
    "nas_cifar10": lambda: nas_cifar10.main(["--quick"]),
    "pruning": lambda: pruning.main(["--quick"]),
}


def main(arguments: list[str]) -> None:
    if arguments and arguments[0] in WITH_OPTIONS and not set(arguments[1:]) & ALL.keys():
        WITH_OPTIONS[arguments[0]](arguments[1:])
        return
    if unknown := [name for name in arguments if name not in ALL]:
        sys.exit(f"no benchmark {unknown[0]!r}; there are {', '.join(ALL)}")
    for name in arguments or ALL:
        ALL[name]()


if __name__ == "__main__":
    main(sys.argv[1:])
