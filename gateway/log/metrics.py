"""What the log counts. These equations hold whenever the event loop looks:

accepted = journaled + bypassed + dropped + queued
journaled + adopted + rewound = shipped - bypassed + lost + pending
journaled + taken over = archived + unarchived + released + vanished

The third one counts records, each once however often it was shipped. What is released has no archive to go to; what
was bypassed is in Redis alone until it is archived. A record that is erased from the journal keeps its place there: it
counts as shipped (kind `erased`) and archived where it would have been.
"""

from collections.abc import Callable
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge

from gateway.log.frames import Kind

DropReason = Literal["queue_full", "unencodable", "closed", "unflushed", "erased"]


class LogMetrics:
    """Counters and gauges of one process's log, registered on `registry`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str) -> Counter:
            return Counter(f"bestow_log_{name}", text, registry=registry)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"bestow_log_{name}", text, registry=registry)

        self.accepted = counter("accepted", "Records handed to the log, dropped ones included.")
        self.journaled = counter("journaled", "Records written to the local journal.")
        self.bypassed = counter("bypassed", "Records sent to Redis from memory, the journal being unwritable.")
        self.adopted = counter("adopted", "Unshipped records found in journals of dead processes.")
        self.rewound = counter("rewound", "Records to be shipped again, since Redis lost them.")
        self.taken_over = counter("taken_over", "Unarchived records found in journals of dead processes.")
        self.vanished = counter("vanished", "Journaled records whose file vanished before they were archived.")
        self.lost = counter("lost", "Journaled records whose file vanished before they were shipped.")
        self.torn = counter("torn_records", "Damaged stretches passed over in journals of dead processes.")
        self.ship_errors = counter("ship_errors", "Failed attempts to ship a batch.")
        self._shipped = Counter("bestow_log_shipped", "Records acknowledged by Redis.", ["kind"], registry=registry)
        self.erased = counter("erased", "Records that were erased from this process's journals.")
        self._dropped = Counter("bestow_log_dropped", "Records that were not kept.", ["reason"], registry=registry)
        self.queued = gauge("queued", "Records in memory, not in the journal yet.")
        self.pending = gauge("pending", "Journaled records that Redis has not acknowledged.")
        self.unarchived = gauge("unarchived", "Journaled records that the archive is not known to have.")
        self.archived = gauge("archived", "Records of this process's journals that the archive turned out to have.")
        self.released = gauge("released", "Records deleted from the journal (log.keep_bytes), there being no archive.")
        self.journal_bytes = gauge("journal_bytes", "Bytes of journal on disk, shipped segments included.")
        self.lag = gauge("ship_lag_seconds", "Age of the oldest journaled record that Redis has not acknowledged.")
        self.dropped_total = 0
        self._kinds = {kind: self._shipped.labels(kind.name.lower()) for kind in Kind}

    def drop(self, reason: DropReason, count: int = 1) -> None:
        self.dropped_total += count
        self._dropped.labels(reason).inc(count)

    def ship(self, kind: Kind, count: int) -> None:
        if count:
            self._kinds[kind].inc(count)

    def watch(
        self,
        *,
        queued: Callable[[], int],
        pending: Callable[[], int],
        unarchived: Callable[[], int],
        archived: Callable[[], int],
        released: Callable[[], int],
        size: Callable[[], int],
        lag: Callable[[], float],
    ) -> None:
        """Gauges are read when they are scraped."""
        self.queued.set_function(queued)
        self.pending.set_function(pending)
        self.unarchived.set_function(unarchived)
        self.archived.set_function(archived)
        self.released.set_function(released)
        self.journal_bytes.set_function(size)
        self.lag.set_function(lag)
