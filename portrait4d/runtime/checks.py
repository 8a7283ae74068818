"""Checks of values that a user gives, before any work is done."""

from flame.errors import InputError


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuses a value that is none of the choices."""
    if value not in choices:
        raise InputError(f"expected {name} to be one of {', '.join(choices)}, got {value!r}")


def check_range(name: str, value: float | None, low: float, high: float | None) -> None:
    """Refuses a value outside `low` to `high`; None as `high` sets no upper bound, None as value passes."""
    if value is None or (value >= low and (high is None or value <= high)):
        return
    bounds = f"at least {low:g}" if high is None else f"{low:g} to {high:g}"
    raise InputError(f"expected {name} to be {bounds}, got {value:g}")
