"""A store of payloads in memory, in the place of the broker's."""

from __future__ import annotations

from fl_core.errors import BrokerUnavailable, MissingBlob, PayloadLost


class FakeBlobs(dict[str, bytes]):
    """Payloads by name, fetched as a coordinator fetches them.

    Attributes:
        is_away: the store does not answer.
        lost_payloads: names of payloads that were there and are lost for good.
        fetched: the names that were asked for, in order.

    >>> blobs = FakeBlobs({"update-1": b"abc"})
    >>> bytes(blobs.fetch("update-1", 3)), blobs.fetched
    (b'abc', ['update-1'])
    """

    def __init__(self, payloads: dict[str, bytes] | None = None) -> None:
        super().__init__(payloads or {})
        self.is_away = False
        self.lost_payloads: set[str] = set()
        self.fetched: list[str] = []

    def fetch(self, name: str, num_bytes: int) -> memoryview:
        """The payload of that name.

        Args:
            name: the blob's.
            num_bytes: how long it is said to be; a store may use it as a bound, and this one does not.

        Raises:
            BrokerUnavailable: the store is away.
            PayloadLost: it is among ``lost_payloads``.
            MissingBlob: there is none of that name.
        """
        self.fetched.append(name)
        if self.is_away:
            raise BrokerUnavailable("reading a blob: the broker does not answer.")
        if name in self.lost_payloads:
            raise PayloadLost(name)
        if name not in self:
            raise MissingBlob(name)
        return memoryview(self[name])
