"""Which datagrams of a member are new: the guard against replays, old lives and twins.

Per sender, and always after the proof:

1. **Incarnations only grow.** A higher one replaces the lower at once and for ever; what the lower
   one sent is OLD_INCARNATION from then on.
2. **One sequence number, one effect.** A window of ``WIDTH`` numbers below the highest one heard
   remembers which were heard. New ones are admitted in any order (several paths reorder), older
   ones than the window never. Each datagram travels on every path to its receiver: what came by
   another path before is a COPY, what came by the *same* path before is a REPLAY.
3. **Two lives at once are two hosts.** The same incarnation with another nonce is a DUPLICATE_NODE.
   So is a replaced incarnation that goes on speaking: when numbers that it never used before
   arrive in turn with those of its successor, ``TURNS`` times. Fewer can be datagrams that were
   on their way when their sender died. After its tombstone it has no new numbers.

A receiver that restarts has forgotten all this. That is why acting messages repeat its nonce.
"""

from __future__ import annotations

from collections.abc import Hashable

from vipd.members import ChannelDiscard, Owner

WIDTH = 1024
TURNS = 3

_MASK = (1 << WIDTH) - 1


class ReplayWindow:
    """The numbers heard lately. Bit n of ``_heard``: ``highest - n`` was heard."""

    __slots__ = ("_heard", "highest")

    def __init__(self) -> None:
        self.highest = 0
        self._heard = 0

    def admit(self, sequence: int) -> bool:
        """True the first time; False for what was heard, or is too old to know."""
        ahead = sequence - self.highest
        if ahead > 0:
            # A jump by more than the window must not become a shift by 2**64 bits.
            self._heard = (self._heard << ahead & _MASK if ahead < WIDTH else 0) | 1
            self.highest = sequence
            return True
        bit = 1 << -ahead if -ahead < WIDTH else 0
        if not bit or self._heard & bit:
            return False
        self._heard |= bit
        return True


class _Life:
    """One incarnation of a sender: what was heard of it, in all and by each path."""

    def __init__(self, owner: Owner) -> None:
        self.owner = owner
        self.window = ReplayWindow()
        self.paths: dict[Hashable, ReplayWindow] = {}

    def judge(self, sequence: int, path: Hashable) -> ChannelDiscard | None:
        on_path = self.paths.get(path)
        if on_path is None:
            on_path = self.paths[path] = ReplayWindow()
        new_here = on_path.admit(sequence)
        too_old = sequence + WIDTH <= self.window.highest
        if self.window.admit(sequence):
            return None
        return ChannelDiscard.COPY if new_here and not too_old else ChannelDiscard.REPLAY


class SenderGuard:
    """Judges the datagrams of one sender."""

    def __init__(self) -> None:
        self._life: _Life | None = None
        self._replaced: _Life | None = None
        self._turns = 0
        self._successor_spoke = False

    def judge(self, owner: Owner, sequence: int, path: Hashable) -> ChannelDiscard | None:
        """None: admitted, and never again."""
        life = self._life
        if life is None or owner.incarnation > life.owner.incarnation:
            self._replaced, self._life = life, _Life(owner)
            self._turns, self._successor_spoke = 0, True
            return self._life.judge(sequence, path)
        if owner.incarnation < life.owner.incarnation:
            return self._judge_replaced(owner, sequence)
        if owner.nonce != life.owner.nonce:
            return ChannelDiscard.DUPLICATE_NODE
        verdict = life.judge(sequence, path)
        self._successor_spoke |= verdict is None
        return verdict

    def _judge_replaced(self, owner: Owner, sequence: int) -> ChannelDiscard:
        replaced = self._replaced
        if replaced is None or replaced.owner != owner or sequence <= replaced.window.highest:
            return ChannelDiscard.OLD_INCARNATION
        replaced.window.admit(sequence)
        if self._successor_spoke:
            self._turns += 1
            self._successor_spoke = False
        return (
            ChannelDiscard.DUPLICATE_NODE
            if self._turns >= TURNS
            else ChannelDiscard.OLD_INCARNATION
        )
