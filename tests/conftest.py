"""What tests of the command line share."""

import pytest

from cggd import cli


@pytest.fixture
def cggd(capsys):
    """Run the program `cggd` with arguments: its exit status, standard output and standard error."""

    def run(*arguments):
        with pytest.raises(SystemExit) as left:
            cli.main([str(a) for a in arguments])
        captured = capsys.readouterr()
        return left.value.code, captured.out, captured.err

    return run
