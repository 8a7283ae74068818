"""Loading of tensors into a module, all or none: what is missing, extra or misshapen is listed in one error."""

from collections.abc import Callable, Mapping

import torch

from flame.errors import InputError, printable

_NUM_SHOWN = 5


class CheckpointMismatch(InputError):  # noqa: N818  (the word says what is wrong)
    """The tensors are not those of the module. The message shortens long lists; the attributes hold them whole."""

    def __init__(
        self,
        missing: list[str],
        extra: list[str],
        misshapen: list[str],
        *,
        claim: str = "the checkpoint does not fit the network",
        cure: str = "build the network from the checkpoint's own config",
    ) -> None:
        self.missing, self.extra, self.misshapen = missing, extra, misshapen
        lists = {"missing": missing, "extra": extra, "misshapen": misshapen}
        parts = [f"{len(names)} {word}: {_shorten(names)}" for word, names in lists.items() if names]
        super().__init__(f"{claim} ({'; '.join(parts)}): {cure}")


def load_strict(module: torch.nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    """Copies `tensors` into the parameters and persistent buffers of `module`.

    Raises:
        CheckpointMismatch: names, shapes or kinds of numbers differ; the module is then unchanged.
    """
    own = module.state_dict()
    check_names(own, tensors)
    module.load_state_dict(dict(tensors), strict=True)


def check_fits(build: Callable[[], torch.nn.Module], tensors: Mapping[str, torch.Tensor]) -> None:
    """Compares tensors with a network before any memory is allocated for it, whatever sizes its config claims.

    Args:
        build: makes the network.
        tensors: by state-dict name.

    Raises:
        CheckpointMismatch: names, shapes or kinds of numbers differ.
        InputError: no network can be built from the config.
    """
    try:
        with torch.device("meta"):
            expected = build().state_dict()
    except InputError:
        raise
    except (ValueError, TypeError, RuntimeError, ArithmeticError) as error:
        reason = printable(str(error).partition("\n")[0][:100])
        raise InputError(
            f"no network can be built from the checkpoint's config ({reason}): convert it again"
        ) from error
    check_names(expected, tensors)


def check_names(expected: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor]) -> None:
    """Compares names, shapes and kinds of numbers (floats may be of any width).

    Raises:
        CheckpointMismatch: they differ.
    """
    missing = [name for name in expected if name not in found]
    extra = [name for name in found if name not in expected]
    misshapen = [
        f"{name} {_describe(found[name])}, expected {_describe(tensor)}"
        for name, tensor in expected.items()
        if name in found and not _fits(tensor, found[name])
    ]
    if missing or extra or misshapen:
        raise CheckpointMismatch(missing, extra, misshapen)


def _fits(expected: torch.Tensor, found: torch.Tensor) -> bool:
    is_same_kind = expected.dtype == found.dtype or (expected.is_floating_point() and found.is_floating_point())
    return is_same_kind and tuple(expected.shape) == tuple(found.shape)


def _describe(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"


def _shorten(names: list[str]) -> str:
    shown = printable(", ".join(names[:_NUM_SHOWN]))
    return f"{shown} and {len(names) - _NUM_SHOWN} more" if len(names) > _NUM_SHOWN else shown
