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
from collections.abc import Iterable, Sequence

from sim.kv_cache import BlockPool


class Block:
    """A block with an identity, or a run of free blocks without."""

    __slots__ = ("holders", "key")

    def __init__(self, key: int, holders: int) -> None:
        self.key = key
        self.holders = holders
        """Requests that hold the block; 0: it is free."""


class PrefixCache(BlockPool):
    """A pool whose free blocks can be found again by their identities."""

    __slots__ = ("_copies", "_found", "_queue", "_queued", "unhashed_first")

    def __init__(self, num_blocks: int, block_size: int, unhashed_first: bool = False) -> None:
        super().__init__(num_blocks, block_size)
        self.unhashed_first = unhashed_first
        self._found: dict[int, Block] = {}  # the oldest block of each identity
        self._copies: dict[int, list[Block]] = {}  # the younger ones
        self._queue: OrderedDict[Block, int] = OrderedDict()  # free blocks, first to go first
        self._queue[Block(-1, 0)] = num_blocks
        self._queued = num_blocks  # blocks in the queue; more than free: some were taken since

    def find(self, keys: Sequence[int], most: int) -> list[Block]:
        """Return the blocks of the longest known beginning of ``keys``, at most ``most``."""
        self._settle()
        known, found = self._found, []
        for key in keys[:most]:
            block = known.get(key)
            if block is None:
                break
            found.append(block)
        return found

    def free_among(self, blocks: Iterable[Block]) -> int:
        """How many of ``blocks`` would have to be taken from the free ones to hold them all."""
        return sum(not block.holders for block in blocks)

    def hold(self, blocks: Iterable[Block]) -> None:
        """One more request holds blocks that were just found."""
        queue, taken = self._queue, 0
        for block in blocks:
            if not block.holders:
                del queue[block]
                taken += 1
            block.holders += 1
        self._queued -= taken
        self.take(taken)

    def name(self, blocks: list[Block], keys: Sequence[int], stop: int) -> None:
        """Give taken blocks their identities: the next of ``blocks``, up to block ``stop``."""
        known = self._found
        for key in keys[len(blocks) : stop]:
            block = Block(key, 1)
            blocks.append(block)
            if key in known:
                self._copies.setdefault(key, []).append(block)
            else:
                known[key] = block

    def release(self, blocks: list[Block], unnamed: int, unhashed: int) -> None:
        """A request lets go of its blocks.

        They are the named ones, ``unnamed`` full ones behind them, and ``unhashed`` at the end.
        """
        self._settle()
        queue, freed = self._queue, unnamed + unhashed
        if unhashed and self.unhashed_first:
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

    def check_cache(self, held: Iterable[list[Block]]) -> None:
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
