"""What a user can do wrong, each with the remedy in its message.

Anything raised from here is shown to the user as one line. Everything else is a bug and keeps its traceback.
"""


class MatsegError(Exception):
    """A mistake that the user can mend; the message names the file, what is wrong and what to do.

    Parameters
    ----------
    message : str
        What cannot be printed in it, as names in damaged files may hold, is escaped: it stays one line.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__("".join(one if one.isprintable() else ascii(one)[1:-1] for one in message))


class InputError(MatsegError):
    """An image, a truth or an array that cannot be used."""


class ModelError(MatsegError):
    """A model that is unknown, damaged, or of the wrong kind."""


class SettingsError(MatsegError):
    """A setting or recipe that makes no sense."""


class OutputError(MatsegError):
    """A result that cannot be written where it was asked for."""
