"""The tests on each Python version that is installed here: `nox`, `nox -s tests-3.12`, `nox -s tests -- -k space`."""

import nox

PYTHONS = nox.project.python_versions(nox.project.load_toml("pyproject.toml"), max_version="3.14")
nox.options.sessions = ["tests"]
nox.options.error_on_missing_interpreters = False


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Install the project with what its tests need, and run them."""
    session.install("-c", "constraints.txt", "-e", ".[test]")
    session.run("pytest", *(session.posargs or ("-n", "auto", "--dist", "worksteal")), env={"OMP_NUM_THREADS": "1"})


@nox.session(python=PYTHONS)
def core(session: nox.Session) -> None:
    """Install the core alone, and solve a problem of the packaged data."""
    session.install("-c", "constraints.txt", ".")
    session.chdir(session.create_tmp())  # away from the checkout, whose files would be imported instead
    session.run("python", "-m", "cggd", "version")
    session.run(
        "python",
        "-W",
        "error",
        "-c",
        "from cggd import maximize; from cggd.datasets import nats_topology as n;"
        "print(maximize(n().val12, [n().latency <= 5, n().energy <= 20]).summary())",
    )
