"""The error of a job whose cause is known."""

from __future__ import annotations


class JobError(Exception):
    """A problem with a known cause. The message names the input, what was expected and what to do.

    The job then prints the message as the last line of its standard error, without a stack trace.
    """
