"""The one exception that is meant for people: a message that says what is wrong and what to do."""


class LimnerError(Exception):
    """Something outside the program's reach is missing or broken; the message names it and the remedy.

    The command prints the message as one line and exits with status 2.
    """
