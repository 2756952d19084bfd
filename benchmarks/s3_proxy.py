"""A reverse proxy in front of an S3 store, for measurements and tests: it delays requests, injects faults, and counts.

It forwards requests and responses unchanged, including the header Host, so that signatures stay valid: clients use the
proxy's URL as the store's. It runs in a separate process, so that it does not compete for its user's interpreter. A GET
takes 0.05 ms of CPU time from the cache, and 0.15 to 0.4 ms from the store.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from benchmarks.child_server import ChildServer
from benchmarks.s3_faults import Rule


@dataclass(frozen=True)
class Counts:
    """The counts of a proxy since its start or the last reset.

    Attributes
    ----------
    requests : dict of (str, str) to int
        Number of requests by method and key. The key is decoded and without the bucket; it is ``""`` for requests for
        the bucket itself.
    faults : int
        Number of injected faults.
    passed_on : int
        Number of requests forwarded to the store.
    bytes_sent : int
        Bytes of response bodies to GETs of objects.
    requests_in_flight : int
        Maximum number of concurrent GETs of objects. A GET is open from its arrival until its last byte is passed to
        the kernel.
    bytes_in_flight : int
        Maximum total body size of the concurrent GETs. The size is known when the store has responded, which does not
        wait for the delay, or at once from the cache. Bytes that a client has received are not included.
    cpu_seconds : float
        CPU time of the proxy.
    """

    requests: dict[tuple[str, str], int]
    faults: int
    passed_on: int
    bytes_sent: int
    requests_in_flight: int
    bytes_in_flight: int
    cpu_seconds: float

    def total(self, method: str, *, objects_only: bool = True) -> int:
        """Return the number of requests with a method; by default only those for objects."""
        return sum(n for (name, key), n in self.requests.items() if name == method and (key or not objects_only))


class S3Proxy(ChildServer):
    """A running proxy. Use it in a ``with`` statement, or call :meth:`stop`.

    Parameters
    ----------
    upstream_url : str
        The store's URL, ``http://host:port``.
    delay_seconds : float
        Minimum time between the arrival of a GET, of an object or a listing, and its response. Other requests are not
        delayed. The request is forwarded at once, so that the delay includes the store's time.
    rules : sequence of Rule
        Faults to inject.
    cache : bool
        Cache the responses to unconditional GETs of objects, by key and range. Any other request that changes the key
        deletes its cached responses. A cached response is sent without the store, so *no signature is checked*. This is
        for measurements of readers on few cores, where the store would compete with them.

    Attributes
    ----------
    url : str
        URL of the proxy, on a free port of the loopback interface.
    """

    def __init__(
        self, upstream_url: str, *, delay_seconds: float = 0.0, rules: Sequence[Rule] = (), cache: bool = False
    ) -> None:
        settings = {"upstream": upstream_url, "delay": delay_seconds, "cache": cache}
        super().__init__("benchmarks.s3_proxy_server", {**settings, "rules": [asdict(rule) for rule in rules]})

    def set_delay(self, seconds: float) -> None:
        """Change the delay of future GETs."""
        self.ask({"do": "set_delay", "seconds": seconds})

    def set_rules(self, rules: Sequence[Rule]) -> None:
        """Replace the rules, and reset their counts."""
        self.ask({"do": "set_rules", "rules": [asdict(rule) for rule in rules]})

    def counts(self) -> Counts:
        """Return the counts."""
        answer = self.ask({"do": "counts"})
        requests = {(method, key): number for method, key, number in answer.pop("requests")}
        return Counts(requests=requests, **answer)

    def reset_counts(self) -> None:
        """Set the counts to zero. Requests that are open at this time are not counted."""
        self.ask({"do": "reset_counts"})
