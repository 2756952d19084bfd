"""A reverse proxy before an S3 store, which makes it slow or faulty, and counts: for measurements and for tests.

Requests and answers pass unchanged, the header Host too, so that signatures remain valid: to a client, the proxy's URL
is the store's. It is a process of its own, so that its work does not wait for its user's Python. A GET costs it
0.05 ms of a core when it is answered from memory, and 0.15 to 0.4 ms when the store is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from benchmarks.child_server import ChildServer
from benchmarks.s3_faults import Rule


@dataclass(frozen=True)
class Counts:
    """What a proxy has seen since it was started, or since its counts were last set to zero.

    Attributes
    ----------
    requests : dict of (str, str) to int
        By method and key; the key is without the bucket and decoded, ``""`` for requests of the bucket itself.
    faults : int
        Requests that a rule has hit.
    passed_on : int
        Requests that the store was asked.
    bytes_sent : int
        Bytes of bodies in answer to GETs of objects.
    requests_in_flight : int
        Most GETs of objects that were open at a time: from their arrival until the last byte was handed to the kernel.
    bytes_in_flight : int
        Most bytes of bodies that open GETs were to get, at a time. The store tells how many when it is asked, which is
        at once on arrival, whatever the delay; in memory they are known. What a client holds after that is its own.
    cpu_seconds : float
        Processor time of the proxy.
    """

    requests: dict[tuple[str, str], int]
    faults: int
    passed_on: int
    bytes_sent: int
    requests_in_flight: int
    bytes_in_flight: int
    cpu_seconds: float

    def total(self, method: str, *, objects_only: bool = True) -> int:
        """Return the number of requests of a method."""
        return sum(n for (name, key), n in self.requests.items() if name == method and (key or not objects_only))


class S3Proxy(ChildServer):
    """A running proxy. Use it in a ``with`` statement, or call :meth:`stop`.

    Parameters
    ----------
    upstream_url : str
        The store's URL, ``http://host:port``.
    delay_seconds : float
        Each GET, of objects and listings, is answered so long after its arrival, and no sooner; others are not delayed
        and do not wait for it. The store is asked at once, so that its own time is part of the delay.
    rules : sequence of Rule
        Faults to make.
    remember : bool
        Keep GET's answers in memory, and answer with them when the same object (the same range) is asked for again
        without conditions, until something else is done to the key through the proxy. The store is not asked then, and
        *checks no signature*. It is for measuring readers on a machine of few cores, where the store would take the
        cores from them.

    Attributes
    ----------
    url : str
        Where it answers: a free port of the loopback interface.
    """

    def __init__(
        self, upstream_url: str, *, delay_seconds: float = 0.0, rules: Sequence[Rule] = (), remember: bool = False
    ) -> None:
        settings = {"upstream": upstream_url, "delay": delay_seconds, "remember": remember}
        super().__init__("benchmarks.s3_proxy_server", {**settings, "rules": [asdict(rule) for rule in rules]})

    def set_delay(self, seconds: float) -> None:
        """Change the delay of the GETs that come from now on."""
        self.ask({"do": "set_delay", "seconds": seconds})

    def set_rules(self, rules: Sequence[Rule]) -> None:
        """Replace the rules, and forget how often each has hit."""
        self.ask({"do": "set_rules", "rules": [asdict(rule) for rule in rules]})

    def counts(self) -> Counts:
        """Return what has been counted."""
        answer = self.ask({"do": "counts"})
        requests = {(method, key): number for method, key, number in answer.pop("requests")}
        return Counts(requests=requests, **answer)

    def reset_counts(self) -> None:
        """Set the counts to zero; what is in flight now is not in them when it ends."""
        self.ask({"do": "reset_counts"})
