"""The paged KV cache of one replica, as a count of blocks.

    block_size = 4, a sequence of 10 tokens:   [t0 t1 t2 t3] [t4 t5 t6 t7] [t8 t9 .. ..]
    3 blocks are held; the next two tokens need none, the third needs one.

Which block holds which token does not matter to time or admission, so only counts are kept. A cache
that finds the blocks of other requests (``prefix_cache``) is told by its scheduler what
becomes of each sequence; here that changes nothing but the count.
"""

from sim.engine.decoding import DecodeSet
from sim.engine.sequence import Sequence


class BlockPool:
    """``num_blocks`` blocks of ``block_size`` tokens.

    Raises:
        ValueError: no block at all, or a block of no token.
    """

    def __init__(self, num_blocks: int, block_size: int) -> None:
        if num_blocks < 1:
            raise ValueError(f"num_blocks = {num_blocks}, expected at least 1")
        if block_size < 1:
            raise ValueError(f"block_size = {block_size}, expected at least 1 token")
        self.num_blocks = num_blocks
        self.block_size = block_size
        self.free = num_blocks
        self.in_order = False
        """Whether some give blocks back while they run: when blocks fall short, it matters in which
        order requests are served."""
        self.tells_late = False
        """Whether it need not be told of answers before a request ``concerns`` them."""
        self.remembers = False
        """Whether free blocks keep what is in them: when others are thrown out, it matters which of
        them are taken before the next one is."""

    @property
    def held(self) -> int:
        """Blocks in use."""
        return self.num_blocks - self.free

    def blocks(self, tokens: int) -> int:
        """Blocks that hold ``tokens`` tokens."""
        return (tokens + self.block_size - 1) // self.block_size

    def room(self, tokens: int) -> int:
        """Tokens that the blocks of so many tokens hold."""
        return (tokens + self.block_size - 1) // self.block_size * self.block_size

    def decode_set(self, windows: tuple[int | None, ...]) -> DecodeSet:
        """Return an empty set of decoding sequences, which counts the blocks that they take."""
        return DecodeSet(self.block_size, windows)

    def longest_tokens(self, blocks: int) -> int:
        """Tokens of the longest request that so many blocks hold."""
        return blocks * self.block_size

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

    def arrive(self, sequence: Sequence) -> None:
        """A sequence is queued."""

    def find(self, sequence: Sequence) -> int:
        """Look for blocks of its first tokens; return how many tokens they hold."""
        return 0

    def may_find_more(self) -> bool:
        """Whether those who decode may fill blocks that the sequence just looked for lacks."""
        return False

    def lacks(self, tokens: int) -> int:
        """Free blocks that the sequence just looked for takes up to that many tokens."""
        return self.blocks(tokens)

    def asks(self, whole_tokens: int, tokens: int) -> int:
        """Free blocks that must be there for who was just looked for to start.

        Args:
            whole_tokens: of which all must fit; 0: it does not matter.
            tokens: of which it takes blocks.
        """
        return self.lacks(whole_tokens or tokens)

    def load_asks(self, tokens: int, loaded: int, whole: bool) -> int:
        """Free blocks that the sequence just looked for takes up to ``tokens`` tokens, of which
        ``loaded`` come from elsewhere; ``whole``: no more than it holds at a time."""
        return self.lacks(tokens)

    def remaining(self, target_tokens: int, held_tokens: int) -> int:
        """Blocks that a prompt still needs, of which some tokens have theirs."""
        return self.blocks(target_tokens) - self.blocks(held_tokens)

    def hold(self, sequence: Sequence, tokens: int) -> None:
        """That sequence holds what was found, and blocks of ``tokens`` in all; none is full yet."""
        self.free -= self.blocks(tokens)

    def start(self, sequence: Sequence, tokens: int) -> None:
        """The same, and these tokens are in the coming step."""
        self.free -= self.blocks(tokens)

    def seat(self, sequence: Sequence) -> None:
        """One that holds its blocks already begins to run."""

    def grow(self, sequence: Sequence, past: int, tokens: int) -> int:
        """Blocks that one that runs takes for ``tokens`` tokens behind ``past``.

        Called once for each step that it is in; what it has left behind is given back."""
        return self.blocks(past + tokens) - self.blocks(past)

    def cut(self, sequence: Sequence, past: int, tokens: int) -> int:
        """Return how many of the tokens behind ``past`` of a prompt, for which there is room, are
        in one step; 0: none yet. It runs, or was just looked for."""
        return tokens

    def needs(self, sequence: Sequence, past: int, tokens: int) -> int:
        """Blocks that ``grow`` would return; it changes nothing."""
        return self.blocks(past + tokens) - self.blocks(past)

    def begin_step(self) -> None:
        """A step is planned from now on."""

    def planned(self) -> None:
        """A step was planned, and everybody in it has blocks: which of them are free is asked."""

    def rest(self, sequence: Sequence) -> None:
        """One that runs is in no step for once."""

    def ready(self, sequence: Sequence) -> None:
        """One that decoded has taken its block of a step that it will not be in."""

    def fill(self, sequence: Sequence, tokens: int) -> None:
        """A sequence has its blocks of ``tokens`` tokens, which are in the coming step."""

    def fill_in_turn(self, sequence: Sequence, tokens: int) -> None:
        """``fill`` of a prompt that goes on, before or after those that decode in the step."""
        self.fill(sequence, tokens)

    def concerns(self, sequence: Sequence) -> bool:
        """Whether somebody else's answer goes on with a text of this one."""
        return False

    def tell(self, step: int, coming: int) -> None:
        """Answers have grown: so far in the decode steps done, and in the coming one, if it has
        its blocks (1, else 0)."""

    def end(self, sequences: list[Sequence], step: int) -> None:
        """These let go of their blocks, after so many decode steps."""
        blocks = 0
        for sequence in sequences:
            blocks += self.blocks(max(sequence.kv_tokens, sequence.slots))
            sequence.slots = 0
        self.give(blocks)

    def cut_short(self, sequence: Sequence) -> None:
        """One that runs is given up while a step is computed: it is to end before that counts."""

    def stay(self, sequence: Sequence, step: int) -> None:
        """One has ended, and keeps its blocks for others who read them, until it ends here."""

    def throw_out(self, sequence: Sequence, held_tokens: int, step: int) -> None:
        """One that has not ended lets go of the blocks of ``held_tokens`` tokens."""
        self.lose(sequence, held_tokens, step)
        self.release(sequence, held_tokens)

    def lose(self, sequence: Sequence, held_tokens: int, step: int) -> None:
        """The same, but that its blocks stay where they are until ``release``."""

    def release(self, sequence: Sequence, held_tokens: int) -> None:
        """The blocks of one that is here no more are free from now on."""
        self.give(self.blocks(held_tokens))

    def release_late(self, sequence: Sequence, held_tokens: int) -> None:
        """The same of one that was here no more while a step that it was in was computed."""
        self.release(sequence, held_tokens)

    def check_integrity(self, held_by_sequences: int) -> None:
        """Compare the count with what the sequences hold, added up one by one.

        Raises:
            AssertionError: names the numbers that disagree.
        """
        if self.held != held_by_sequences:
            raise AssertionError(
                f"{self.held} blocks are held, sequences hold {held_by_sequences}: expected equal"
            )
