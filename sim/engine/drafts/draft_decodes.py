"""Sequences that decode with drafts: in each step one gains as many tokens as were right, and one.

::

    verified together:  [last token] [draft 1] [draft 2] [draft 3]      1 + k rows
    right:                             yes       yes       no           2 drafts accepted
    gained:             draft 1, draft 2, and the target's own token behind them

Every one advances by a number of its own, so that a step touches all of them, once: when it ends
(``advance``). That pass also adds up what the coming step wants: rows, blocks, positions attended.
What was rejected leaves no trace but the blocks that were taken for it, which are kept.
"""

from sim.engine.caches.kv_cache import BlockPool
from sim.engine.decoding import DecodeSet
from sim.engine.drafts.drafting import Acceptance, Drafting
from sim.engine.reach import ALL_POSITIONS
from sim.engine.sequence import Batch, Sequence


class DraftDecodes(DecodeSet):
    """Sequences that decode together, up to date after every step (``step`` stays 0).

    Args:
        pool: of KV blocks.
        windows: of every class of cache; None: all positions.
        drafting: of the engine.
        acceptance: of the requests.
        ahead: whether steps are planned while the one before is computed.

    Attributes:
        members: who decodes, in order of joining.
        rows: that all of them want in the coming step.
        pairs: of its rows and positions that they attend.
        short: who lacks blocks.
        whole: whether these sums hold, and all have the rows that they want.
        stuck: how many have no room for a row, should all drafts under way be right.
        proposed: drafts that wait to be verified, of each that was in the last step.
        gained: tokens of the last step.
        drafted: drafts that were verified in it.
    """

    __slots__ = (
        "acceptance",
        "ahead",
        "chosen",
        "cut",
        "drafted",
        "drafting",
        "gained",
        "members",
        "pairs",
        "pool",
        "proposed",
        "rows",
        "short",
        "stuck",
        "whole",
        "windowed",
    )

    def __init__(
        self,
        pool: BlockPool,
        windows: tuple[int | None, ...],
        drafting: Drafting,
        acceptance: Acceptance,
        ahead: bool,
    ) -> None:
        super().__init__(pool.block_size, windows)
        self.pool = pool
        self.chosen = drafting.chosen
        self.windowed = any(reach.window < ALL_POSITIONS for reach in self.reaches)
        self.drafting = drafting
        self.acceptance = acceptance
        self.ahead = ahead
        self.members: dict[Sequence, None] = {}
        self.rows = 0
        self.pairs = 0
        self.short: list[Sequence] = []
        self.stuck = 0
        self.whole = True
        self.proposed = drafting.tokens
        self.gained = 0
        self.drafted = 0
        self.cut: dict[Sequence, int] = {}  # given up in the step that ends: what was known then

    def join(self, sequence: Sequence) -> None:
        """Let a prefilled sequence, with at least one token to go, decode from the next step on."""
        kv_tokens = sequence.kv_tokens
        sequence.joined_step = sequence.finish_step = 0
        sequence.accepts = self.acceptance.of(sequence.request)
        padded_tokens = sequence.planned_tokens if self.ahead else 0
        sequence.planned_tokens = max(kv_tokens, padded_tokens)
        sequence.proposed = self.proposed
        sequence.told_tokens = kv_tokens
        sequence.next_told_tokens = kv_tokens if self.ahead else kv_tokens + 1
        self.members[sequence] = None
        self.count += 1
        self.tokens += kv_tokens + 1
        sequence.rows = self.wanted(sequence)
        self._count(sequence, 1)

    def leave(self, sequence: Sequence) -> None:
        """Take a sequence out before it has finished."""
        if self.whole:
            self._count(sequence, -1)
        sequence.finish_step = -1
        del self.members[sequence]
        self.count -= 1
        self.tokens -= sequence.kv_tokens + 1

    def wanted(self, sequence: Sequence) -> int:
        """Rows of a sequence in the coming step, whatever the budget: none behind the last
        position."""
        room = self.drafting.max_model_len - sequence.planned_tokens - 1
        return max(0, min(1 + sequence.proposed, room))

    def lacks(self, sequence: Sequence, rows: int) -> int:
        """Blocks that a sequence has to take for so many rows."""
        most, slots = self.slots_of(sequence, rows), sequence.slots
        return self.pool.blocks(most) - self.pool.blocks(slots) if most > slots else 0

    def slots_of(self, sequence: Sequence, rows: int) -> int:
        """Tokens that its blocks have to hold for so many rows."""
        most = sequence.planned_tokens + rows + self.drafting.lookahead
        return min(most, self.drafting.max_model_len)

    def _count(self, sequence: Sequence, sign: int) -> None:
        """Add what one wants, or take it away."""
        rows = sequence.rows
        self.rows += sign * rows
        self.stuck += sign if not rows else 0
        self.pairs += sign * (rows * sequence.kv_tokens + rows * (rows + 1) // 2)
        if self.slots_of(sequence, rows) > sequence.slots:
            if sign > 0:
                self.short.append(sequence)
            else:
                self.short.remove(sequence)

    def cut_short(self, sequences: list[Sequence]) -> None:
        """See ``DecodeSet``."""
        if not self.ahead:
            for sequence in sequences:
                if sequence in self.members and sequence.rows:
                    self.cut[sequence] = sequence.next_told_tokens

    def settle(self) -> None:
        """Nothing is under way: what all have is known."""
        for sequence in self.members:
            kv_tokens = sequence.kv_tokens
            sequence.planned_tokens = sequence.told_tokens = kv_tokens
            sequence.next_told_tokens = kv_tokens + 1
        self.want_again()

    def want_again(self) -> None:
        """Add up what all want, whatever they were given in the step before."""
        self.rows = self.pairs = self.stuck = 0
        self.short = []
        self.whole = True
        for sequence in self.members:
            sequence.rows = self.wanted(sequence)
            self._count(sequence, 1)

    def take(self) -> int:
        """Let all have the blocks that they want; return how many that are."""
        blocks = 0
        for sequence in self.short:
            blocks += self.lacks(sequence, sequence.rows)
            sequence.slots = self.pool.room(self.slots_of(sequence, sequence.rows))
        self.short = []
        return blocks

    def needed(self) -> int:
        """Blocks that the coming step takes."""
        return sum([self.lacks(sequence, sequence.rows) for sequence in self.short])

    def tell(self, batch: Batch) -> None:
        """Put all who were given rows into a batch, and what they attend."""
        if self.whole and not self.windowed:
            batch.decodes, batch.rows, batch.most_rows = self.count, self.rows, self._most_rows()
            batch.reads[0] = self.tokens - self.count + self.rows
            batch.pairs[0] = self.pairs
            return
        batch.decodes = batch.rows = batch.most_rows = 0
        for place in range(len(batch.reads)):
            batch.reads[place] = batch.pairs[place] = 0
        for sequence in self.members:
            if sequence.rows:
                batch.decodes += 1
                self.add(batch, sequence)

    def _most_rows(self) -> int:
        """Of all members."""
        most = 1 + self.drafting.tokens
        if self.count and self.rows == self.count * most:
            return most
        return max([sequence.rows for sequence in self.members], default=0)

    def add(self, batch: Batch, sequence: Sequence) -> None:
        """Add the rows of a sequence to a batch, and what they attend in each class of cache.

        Rows share the positions that they read, unless each attends chosen ones.
        """
        rows, kv_tokens = sequence.rows, sequence.kv_tokens
        batch.rows += rows
        batch.most_rows = max(batch.most_rows, rows)
        for place, reach in enumerate(self.reaches):
            window = reach.window
            if kv_tokens + rows <= window:
                pairs = rows * kv_tokens + rows * (rows + 1) // 2
                read = kv_tokens + rows
            else:
                pairs = 0
                for row in range(1, rows + 1):
                    pairs += min(kv_tokens + row, window)
                read = min(kv_tokens + rows, window + rows - 1)
            batch.pairs[place] += pairs
            batch.reads[place] += pairs if self.chosen[place] else read

    def step_done(self, sequences: int) -> list[Sequence]:
        """A step of so many sequences has ended: who was in it gains tokens.

        Return who finishes, in order of joining. ``gained`` is what all of them got.
        """
        drafting, ahead = self.drafting, self.ahead
        tells_at_end = drafting.tells_at_end
        self.proposed = proposed = drafting.proposed(sequences)
        lookahead, last = drafting.lookahead, drafting.max_model_len - 1
        finished: list[Sequence] = []
        total = drafted = all_rows = all_pairs = stuck = 0
        short: list[Sequence] = []
        for sequence in self.members:
            before, rows, planned = sequence.kv_tokens, sequence.rows, sequence.planned_tokens
            kv_tokens = before
            if rows:
                generated = sequence.generated_tokens
                gained = sequence.accepts[generated] + 1
                if gained > rows:
                    gained = rows
                left = sequence.output_tokens - generated
                if gained >= left:
                    gained = left
                    finished.append(sequence)
                    sequence.goes_on = ahead and left > 1
                total += gained
                drafted += rows - 1
                sequence.generated_tokens = generated + gained
                sequence.kv_tokens = kv_tokens = before + gained
                sequence.proposed = proposed
                if ahead:
                    planned = before + rows
                    sequence.told_tokens, sequence.next_told_tokens = before, before + 1
                else:
                    planned = kv_tokens
                    sequence.told_tokens = kv_tokens if tells_at_end else before + 1
                    sequence.next_told_tokens = kv_tokens + 1
            elif ahead:
                planned = before  # nothing of it is under way
                sequence.told_tokens, sequence.next_told_tokens = before, before + 1
            sequence.planned_tokens = planned
            wanted = 1 + sequence.proposed
            if wanted > last - planned:
                wanted = max(0, last - planned)
                stuck += not wanted
            sequence.rows = wanted
            all_rows += wanted
            all_pairs += wanted * kv_tokens + wanted * (wanted + 1) // 2
            if min(planned + wanted + lookahead, last + 1) > sequence.slots:
                short.append(sequence)
        self.tokens += total
        self.gained, self.drafted, self.stuck = total, drafted, stuck
        self.rows, self.pairs, self.short = all_rows, all_pairs, short
        self.whole = True
        for sequence, known in self.cut.items():
            sequence.told_tokens = min(sequence.told_tokens, known)
        self.cut.clear()
        self._leave_all(finished)
        return finished

    def _leave_all(self, finished: list[Sequence]) -> None:
        """They have finished: in step, others find no more of them than was told."""
        for sequence in finished:
            self.leave(sequence)
            if not self.ahead:
                sequence.kv_tokens = sequence.told_tokens
