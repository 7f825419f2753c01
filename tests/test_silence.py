"""What compiled code prints is kept from standard output, and what Python prints is not."""

import subprocess
import sys
import textwrap

import pytest


def output_of(text):
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(text)], capture_output=True, text=True, check=True)
    return done.stdout


def test_printing_from_c_is_silenced_and_printing_from_python_is_not():
    said = output_of("""
        import ctypes
        from cggd.program.silence import compiled_code_silenced
        libc = ctypes.CDLL(None)
        with compiled_code_silenced():
            with compiled_code_silenced():
                libc.puts(b"from the solver")
            libc.puts(b"from the solver")
            print("from python", flush=True)
        libc.puts(b"from C")
        libc.fflush(None)
    """)
    assert said.split("\n") == ["from python", "from C", ""]


@pytest.mark.parametrize("how", ["milp", "left behind"])
def test_a_solver_in_the_background_prints_nothing(how):
    said = output_of(f"""
        import ctypes
        from cggd.program.threads import background, run_interruptibly
        def work():
            ctypes.CDLL(None).puts(b"from the solver")
            return 1
        print(run_interruptibly(work, lambda: {how == "left behind"}))
        background.close()
        ctypes.CDLL(None).fflush(None)
    """)
    assert said in ("1\n", "None\n")
