"""The one exception that means "the input is wrong, not the program", and text that is fit for its message."""


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message is one line: what was expected, what came, what to do. The command line prints it
    without a traceback and exits with code 2.
    """


def printable(text: str) -> str:
    """The text with control characters escaped: what comes out of a file must not steer a terminal or break a line."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)
