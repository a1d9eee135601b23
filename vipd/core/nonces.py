"""The numbers that prove an acting message to be an answer to what we said lately.

Every heartbeat tells the nonce of the moment; who wants us to act must repeat it. It changes every
``period_ns``, and the one before it is accepted, too: so a message that was held back, or recorded
and played again, is worth nothing after two periods (QUORUM §7).

They follow from the seed of this life, which nobody else knows: no randomness in here.
"""

from __future__ import annotations

import hashlib

from vipd.members import NONCE_LENGTH, Nonce
from vipd.model import Duration, Instant


class Nonces:
    def __init__(self, seed: bytes, period_ns: Duration, now: Instant) -> None:
        self.period_ns = period_ns
        # A second cluster section in one life must not tell the nonces of the first one again.
        self._seed = seed + now.to_bytes(8, "big", signed=True)
        self._count = 0
        self._changes_at = now + period_ns
        self.current: Nonce = self._draw()
        self._previous: Nonce = self.current

    def _draw(self) -> Nonce:
        self._count += 1
        counted = self._seed + self._count.to_bytes(8, "big")
        return hashlib.sha256(counted).digest()[:NONCE_LENGTH]

    def turn(self, now: Instant) -> None:
        """Call it before a nonce is told or judged. After a long sleep both are new."""
        while now >= self._changes_at:
            slept = now - self._changes_at >= self.period_ns
            self._previous, self.current = self.current, self._draw()
            # Who slept for a period or longer comes round once more.
            self._changes_at = now if slept else self._changes_at + self.period_ns

    def accepts(self, nonce: Nonce) -> bool:
        return nonce in (self.current, self._previous)
