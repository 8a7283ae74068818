"""The one exception that means "the input is wrong, not the program"."""


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message is one line: what was expected, what came, what to do. The command line prints it
    without a traceback and exits with code 2.
    """
