"""Problems as mixed-integer programs, bounds on them, and their solvers."""
