"""A clock that goes as a test tells it."""


class FakeClock:
    """Time that passes only by work, and can be read only after a sync, as on a GPU.

    ``time`` may be moved on directly, too.
    """

    def __init__(self) -> None:
        self.time = 0.0
        self.queued = 0.0

    def stamp(self) -> float:
        return self.time + self.queued

    def sync(self) -> None:
        self.time, self.queued = self.time + self.queued, 0.0

    def seconds(self, start: float, end: float) -> float:
        assert start <= end <= self.time, "read before the device was there"
        return end - start

    def work(self, seconds: float) -> None:
        self.queued += seconds
