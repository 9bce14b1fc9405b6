"""The paged KV cache of one replica, as a count of blocks.

    block_size = 4, a sequence of 10 tokens:   [t0 t1 t2 t3] [t4 t5 t6 t7] [t8 t9 .. ..]
    3 blocks are held; the next two tokens need none, the third needs one.

Which block holds which token does not matter to time or admission, so only counts are kept.
"""


class BlockPool:
    """``num_blocks`` blocks of ``block_size`` tokens.

    Raises:
        ValueError: no block at all, or a block of no token.
    """

    __slots__ = ("block_size", "free", "num_blocks")

    def __init__(self, num_blocks: int, block_size: int) -> None:
        if num_blocks < 1:
            raise ValueError(f"num_blocks = {num_blocks}, expected at least 1")
        if block_size < 1:
            raise ValueError(f"block_size = {block_size}, expected at least 1 token")
        self.num_blocks = num_blocks
        self.block_size = block_size
        self.free = num_blocks

    @property
    def held(self) -> int:
        """Blocks in use."""
        return self.num_blocks - self.free

    def blocks(self, tokens: int) -> int:
        """Blocks that hold ``tokens`` tokens."""
        return -(-tokens // self.block_size)

    def take(self, blocks: int) -> None:
        """Allocate ``blocks``.

        Raises:
            ValueError: fewer are free.
        """
        if blocks > self.free:
            raise ValueError(f"cannot take {blocks} blocks, {self.free} of {self.num_blocks} free")
        self.free -= blocks

    def give(self, blocks: int) -> None:
        """Return ``blocks`` to the pool.

        Raises:
            ValueError: more than are held.
        """
        free = self.free + blocks
        if free > self.num_blocks:
            raise ValueError(f"cannot give back {blocks} blocks, {self.held} are held")
        self.free = free

    def check_integrity(self, held_by_sequences: int) -> None:
        """Compare the count with what the sequences hold, added up one by one.

        Raises:
            AssertionError: names the numbers that disagree.
        """
        if self.held != held_by_sequences:
            raise AssertionError(
                f"{self.held} blocks are held, sequences hold {held_by_sequences}: expected equal"
            )
