"""Imports packages that are extras, and explains what to do when one, or its weights, is missing."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from typing import Any

import torch

from flame.errors import InputError, printable
from preprocess.files.offline import offline_variable


def import_extra(module: str, extra: str, *, otherwise: str = "use what is built in") -> Any:
    """Imports the module of an extra.

    Args:
        module: its full name.
        extra: of the project.
        otherwise: what the user can do without it.

    Raises:
        InputError: the module, or a package that it needs, is not installed or does not load.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise InputError(
            f'{extra} needs the package {error.name}: pip install "portrait4d[{extra}]", or {otherwise}'
        ) from error
    except ImportError as error:  # a compiled part that does not fit this Python or this system
        raise InputError(
            f"{extra}: {module} does not load ({_first_line(error)}): "
            f'pip install --force-reinstall "portrait4d[{extra}]"'
        ) from error


@contextmanager
def explained_weights(
    what: str, explain: Callable[[], str], *, are_here: Callable[[], bool] = lambda: True
) -> Iterator[None]:
    """Reports any failure of a library to fetch or read weights as an error of one line.

    Nothing is fetched where the user forbids the network.

    Args:
        what: names the weights.
        explain: says after a failure where they are looked for and what to do.
        are_here: whether the library would find them without a network.

    Raises:
        InputError: in place of any exception but lack of memory; or the weights would have to be fetched, and must not.
    """
    if (variable := offline_variable()) and not are_here():
        raise InputError(f"{variable} is set, so {what} cannot be fetched: unset it, or {explain()}")
    try:
        with redirect_stdout(sys.stderr):  # stdout is for results; some libraries print there what they fetch
            yield
    except (InputError, torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:  # urllib, requests, torch.hub, onnxruntime and assertions, each with its own classes
        raise InputError(f"cannot load {what} ({type(error).__name__}: {_first_line(error)}): {explain()}") from error


def _first_line(error: BaseException) -> str:
    return printable((str(error).strip().splitlines() or ["no message"])[0][:160])
