"""KV blocks that outlive their requests: vLLM v1's prefix cache, as counts and a queue.

    a request of 11 tokens, block_size = 4:   [k0] [k1] [ ]      k: identity of a full block
    another one that begins with 9 of them:   [k0] [k1] [ ]      shares k0 and k1

A full block has an identity, which stands for all tokens from the request's first up to its end. A
block that nobody holds is free, and keeps its identity and content until it is taken for something
else: the block that became free first is taken first, and of one request the last block first.
Two blocks may have the same identity, as in vLLM: the older one is found.

Blocks that nobody can look for (partial ones, answers) have no identity here. They are counted and
not named, and lie in the queue as runs, so that a request costs no more than its named blocks.

vLLM gives every full block an identity (a hash). With ``unhashed_first``, as since 0.24, those that
are not full go to the front of the queue.
"""

from collections import OrderedDict
from collections.abc import Callable

from sim.engine.kv_cache import BlockPool
from sim.engine.sequence import Block, Sequence

SPAN = 1 << 24
"""Blocks of one stream that have different identities; far more than any context has."""


class PrefixCache(BlockPool):
    """A pool whose free blocks can be found again by their identities, as with vLLM v1's
    ``enable_prefix_caching``.

    - Full blocks only. The last token of a prompt is always computed, and with it its block.
    - A block can be found as soon as it is in a step: a prompt may share what one before it in the
      same step computes.
    - A preempted request finds what is left of its own blocks.
    - So it is with answers that later prompts have in common with it (streams that go beyond the
      prompt): their blocks are named when somebody looks for one.
    - Ahead, the token of the step in progress is not known yet, and its block has no identity.

    Args:
        keys_of: identities of the blocks that lie wholly in a request's known text, from the first
            on; of two streams, or places in one, they differ (see ``SPAN``).
        unhashed_first: whether free blocks that are not full are taken before all others.
        ahead: whether steps are planned while the one before is computed.
    """

    def __init__(
        self,
        num_blocks: int,
        block_size: int,
        keys_of: Callable[[int], list[int]] | None = None,
        unhashed_first: bool = False,
        ahead: bool = False,
    ) -> None:
        super().__init__(num_blocks, block_size)
        self._ahead = ahead
        self._tellers: dict[Sequence, None] = {}  # who runs, with streams beyond the prompt
        self._keys_of = keys_of
        self._unhashed_first = unhashed_first
        self._admissions = 0
        self.hits: list[Block] = []
        """What the last search found."""
        self._idle = 0  # how many of them are free
        self._found: dict[int, Block] = {}  # the oldest block of each identity
        self._copies: dict[int, list[Block]] = {}  # the younger ones
        self._queue: OrderedDict[Block, int] = OrderedDict()  # free blocks, first to go first
        self._queue[Block(-1, 0)] = num_blocks
        self._queued = num_blocks  # blocks in the queue; more than free: some were taken since

    def arrive(self, sequence: Sequence) -> None:
        """A sequence is queued: name the blocks that it may share."""
        sequence.blocks = []
        sequence.keys = [] if self._keys_of is None else self._keys_of(sequence.request)

    def find(self, sequence: Sequence) -> int:
        """Find the blocks of the longest known beginning; return how many tokens they hold."""
        self._settle()
        known = self._found
        hits: list[Block] = []
        idle, most = 0, (sequence.target_tokens - 1) // self.block_size
        for key in sequence.keys:
            if len(hits) == most:
                break
            block = known.get(key)
            if block is None:
                break
            if not block.holders:
                idle += 1
            hits.append(block)
        self.hits, self._idle = hits, idle
        return len(hits) * self.block_size

    def lacks(self, tokens: int) -> int:
        """Free blocks that the sequence just looked for takes, those it found included."""
        return self.blocks(tokens) - len(self.hits) + self._idle

    def start(self, sequence: Sequence, tokens: int) -> None:
        """That sequence starts: it holds what was found, and blocks of ``tokens`` in all."""
        hits, queue = self.hits, self._queue
        for block in hits:
            if not block.holders:
                del queue[block]
            block.holders += 1
        self._queued -= self._idle
        self.free -= self.lacks(tokens)
        sequence.blocks = hits
        if not sequence.preemptions:
            sequence.cached_tokens = len(hits) * self.block_size
        self._admissions += 1
        sequence.admission = self._admissions
        if len(sequence.keys) * self.block_size > sequence.prompt_tokens:
            self._tellers[sequence] = None
        self.fill(sequence, tokens)

    def fill(self, sequence: Sequence, tokens: int) -> None:
        """Give taken blocks their identities, as far as they are full with ``tokens`` tokens."""
        blocks, keys, known = sequence.blocks, sequence.keys, self._found
        full = min(tokens // self.block_size, len(keys))
        for place in range(len(blocks), full):
            key = keys[place]
            block = Block(key, 1)
            blocks.append(block)
            if key not in known:
                known[key] = block
            elif key in self._copies:
                self._copies[key].append(block)
            else:
                self._copies[key] = [block]

    def tell(self, step: int, coming: int) -> None:
        """Name the full blocks of answers, in the order in which they were filled."""
        if not self._tellers:
            return
        size = self.block_size
        filled: list[tuple[int, int, int, Sequence]] = []
        for sequence in self._tellers:
            known = self._known_tokens(sequence, step + coming)
            for block in range(len(sequence.blocks), min(known // size, len(sequence.keys))):
                age = known - (block + 1) * size
                filled.append((-age, sequence.admission, block + 1, sequence))
        filled.sort(key=lambda each: each[:3])
        for _, _, blocks, sequence in filled:
            self.fill(sequence, blocks * size)

    def _known_tokens(self, sequence: Sequence, step: int) -> int:
        """Tokens of a running sequence whose full blocks have identities."""
        known = sequence.kv_tokens
        if sequence.finish_step >= 0:
            known += step - sequence.joined_step
        if self._ahead:
            return max(known - 1, min(known, sequence.target_tokens))
        return known

    def end(self, sequences: list[Sequence], step: int) -> None:
        """Free the blocks of those who ended, in order of admission."""
        self.tell(step, 0)
        for sequence in sorted(sequences, key=lambda each: each.admission):
            self._release(sequence, sequence.kv_tokens)

    def throw_out(self, sequence: Sequence, held_tokens: int, step: int) -> None:
        """As any; but what was computed can be found again, by this request alone if need be."""
        if self._ahead and sequence.kv_tokens > sequence.target_tokens:
            sequence.kv_tokens = held_tokens - 1
        keys = sequence.keys
        own = -(sequence.request + 1) * SPAN
        keys.extend(range(own + len(keys), own + sequence.kv_tokens // self.block_size))
        self.tell(step, 0)
        self._release(sequence, held_tokens)

    def _release(self, sequence: Sequence, held_tokens: int) -> None:
        """Free named blocks, full ones without a name behind them, and what is not full."""
        self._tellers.pop(sequence, None)
        self.fill(sequence, sequence.kv_tokens)
        self._settle()
        queue, blocks = self._queue, sequence.blocks
        sequence.blocks = []
        full = sequence.kv_tokens // self.block_size
        unnamed, unhashed = full - len(blocks), self.blocks(held_tokens) - full
        freed = unnamed + unhashed
        if unhashed and self._unhashed_first:
            first = Block(-1, 0)
            queue[first] = unhashed
            queue.move_to_end(first, last=False)
        else:
            unnamed += unhashed
        if unnamed:
            queue[Block(-1, 0)] = unnamed
        for block in reversed(blocks):
            block.holders -= 1
            if not block.holders:
                queue[block] = 1
                freed += 1
        self._queued += freed
        self.give(freed)

    def _settle(self) -> None:
        """Let the blocks that were taken leave the queue, with their identities.

        ``take`` only counts, so that decoding costs what it costs without a cache.
        """
        queue = self._queue
        surplus = self._queued - self.free
        self._queued = self.free
        while surplus:
            block, count = queue.popitem(last=False)
            if block.key != -1 or count <= surplus:
                surplus -= count
                if block.key != -1:
                    self._forget(block)
            else:
                queue[block] = count - surplus
                queue.move_to_end(block, last=False)
                surplus = 0

    def _forget(self, block: Block) -> None:
        copies = self._copies.get(block.key)
        if copies is None:
            del self._found[block.key]
            return
        if self._found[block.key] is block:
            self._found[block.key] = copies.pop(0)
        else:
            copies.remove(block)
        if not copies:
            del self._copies[block.key]

    def check_cache(self, held: list[list[Block]]) -> None:
        """Compare holders and queue with what the requests hold, block by block.

        Args:
            held: the named blocks of every request that holds any.

        Raises:
            AssertionError: names the numbers that disagree.
        """
        self._settle()
        holders: dict[Block, int] = {}
        for blocks in held:
            for block in blocks:
                holders[block] = holders.get(block, 0) + 1
        for block, count in holders.items():
            if block.holders != count or block in self._queue:
                raise AssertionError(
                    f"block {block.key} counts {block.holders} holders, {count} requests hold it"
                )
        queued = sum(self._queue.values())
        if not queued == self._queued == self.free:
            raise AssertionError(f"{queued} blocks are queued, {self.free} are free")
        known = {*self._found.values(), *(one for each in self._copies.values() for one in each)}
        named = {block for block in self._queue if block.key != -1}
        if known != named | set(holders):
            raise AssertionError(
                f"{len(known)} blocks can be found, {len(named)} free and {len(holders)} held ones "
                "have an identity: expected the same blocks"
            )
