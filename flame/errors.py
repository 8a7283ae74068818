"""The one exception that means "the input is wrong, not the program", and text that is fit for its message."""


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message is one line: what was expected, what came, what to do. The command line prints it
    without a traceback and exits with code 2.
    """


def printable(text: str) -> str:
    """The text with control characters escaped: what comes out of a file must not steer a terminal or break a line."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def brief(value: object) -> str:
    """A value out of a file for a message: short, printable, and never more work than its own size."""
    if isinstance(value, str):
        return repr(value[:60])
    if isinstance(value, float) or value is None or (isinstance(value, int) and value.bit_length() <= 64):
        return str(value)
    if isinstance(value, int):
        return "a huge number"
    if isinstance(value, tuple) and len(value) <= 10 and all(isinstance(part, (int, float, str)) for part in value):
        return f"({', '.join(map(brief, value))})"
    return f"a {type(value).__name__.strip('_')}"
