"""The exception that means "the input is wrong, not the program", and helpers for the text of its message."""


class InputError(ValueError):
    """Says that something the user gave cannot be used.

    The message is one line: what was expected, what came, what to do. The command line prints it without a traceback
    and exits with code 2.
    """


def printable(text: str) -> str:
    """Returns the text with control characters escaped, so that text from a file cannot control a terminal."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def brief(value: object) -> str:
    """Returns a short, printable text for a value that was read from a file; huge values cost no extra work."""
    if isinstance(value, str):
        return repr(value[:60])
    if isinstance(value, float) or value is None or (isinstance(value, int) and value.bit_length() <= 64):
        return str(value)
    if isinstance(value, int):
        return "a huge number"
    if isinstance(value, tuple) and len(value) <= 10 and all(isinstance(part, (int, float, str)) for part in value):
        return f"({', '.join(map(brief, value))})"
    return f"a {type(value).__name__.strip('_')}"
