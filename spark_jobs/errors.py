"""The error of a job that knows what went wrong."""

from __future__ import annotations


class JobError(Exception):
    """A problem with a known cause: the message names the input, what was expected and what to do.

    A job that raises it ends with the message alone as the last line of its standard error, with no stack trace.
    """
