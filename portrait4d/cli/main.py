"""Entry point of the command `portrait4d`: runs a command and turns errors into one line and an exit code.

Exit codes: 0 done, 1 some batch items failed or the doctor found something missing, 2 unusable input or options,
70 a bug, 130 stopped by Ctrl-C, 143 terminated.
"""

import importlib
import os
import signal
import sys
from types import FrameType

from portrait4d.cli.console import fail, tell_stop

COMPLETION = "_PORTRAIT4D_COMPLETE"
"""Set by a shell that completes a command line; the values `source_bash`, `source_zsh` and `source_fish` print the
script that makes a shell do so."""

INPUT_ERROR, INTERNAL_ERROR, INTERRUPTED, TERMINATED = 2, 70, 130, 143


def main() -> None:
    """Runs the command line of this process."""
    start("portrait4d", "portrait4d.cli.app")


def start(program: str, module: str) -> None:
    """Runs the command line of a program and ends the process.

    Args:
        program: its name.
        module: that holds its `build_app`; loaded when signals are set.
    """
    arguments = sys.argv[1:]
    is_debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    sys.exit(run(arguments, is_debug=is_debug, program=program, module=module))


def run(
    arguments: list[str], *, is_debug: bool = False, program: str = "portrait4d", module: str = "portrait4d.cli.app"
) -> int:
    """Runs one command and returns its exit code; `is_debug` lets tracebacks through."""
    signal.signal(signal.SIGTERM, _terminate)
    # Read when numpy is loaded. Stages run in parallel: more threads for small products double the CPU time.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Read when torch is loaded. Its threads would spin while they wait and slow down our other threads.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from flame.errors import InputError

    try:
        build_app = importlib.import_module(module).build_app
        if COMPLETION in os.environ:
            from typer.completion import completion_init

            completion_init()
        words = None if COMPLETION in os.environ else arguments
        build_app(words)(args=arguments, prog_name=program)
    except SystemExit as ending:
        return ending.code if isinstance(ending.code, int) else int(bool(ending.code))
    except InputError as error:
        if is_debug:
            raise
        fail(str(error))
        return INPUT_ERROR
    except KeyboardInterrupt as stop:
        tell_stop(stop)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone, as in `portrait4d ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if is_debug:
            raise
        reason = (str(error).strip().splitlines() or ["no message"])[0]
        fail(f"unexpected {type(error).__name__}: {reason} (run again with --debug for the traceback)")
        return INTERNAL_ERROR
    return 0


def _terminate(number: int, frame: FrameType | None) -> None:
    """Ends the program by an exception, so that half-written files are removed."""
    raise SystemExit(TERMINATED)


if __name__ == "__main__":
    main()
