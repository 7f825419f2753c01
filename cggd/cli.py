"""The program ``cggd``. What needs no parser is answered before the parser and the commands are imported."""

from __future__ import annotations

import sys
from contextlib import suppress

from cggd import __version__


def main(arguments: list[str] | None = None) -> None:
    """Run the program and leave with its exit status."""
    asked = sys.argv[1:] if arguments is None else arguments
    if asked in (["version"], ["--version"]):
        with suppress(OSError):  # the commands report an output that cannot be written
            print(f"cggd {__version__}", flush=True)
            sys.exit(0)
    try:
        from cggd.commands import run
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(run(asked))


if __name__ == "__main__":
    main()
