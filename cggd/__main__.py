"""The program ``cggd`` as ``python -m cggd``."""

from cggd.cli import main

if __name__ == "__main__":
    main()
