"""The gate: the kernel rule that lets a VIP's packets pass, or not. One contract for all kinds.

Where there is no gate, ``NullGate`` stands in: everything passes, always, and every order is
carried out at once. So the claim has one order of steps with a gate and without.
"""

from __future__ import annotations


class NullGate:
    """No gate: whoever has the address is heard."""

    def open(self, instance: str) -> None:
        """Let the packets of the instance's VIPs pass."""

    def close(self, instance: str) -> None:
        """Stop the packets of the instance's VIPs; returns when the kernel has done it."""
