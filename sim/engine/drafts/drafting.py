"""What an engine is told of its drafts: how many, what they take, and which of them were right."""

from dataclasses import dataclass

from mypy_extensions import mypyc_attr


@dataclass(frozen=True)
class Drafting:
    """How a draft is made and verified (vLLM's ``speculative_config``)."""

    tokens: int
    """Drafts of a sequence in each step (``num_speculative_tokens``)."""
    lookahead: int = 0
    """KV slots that the drafter writes behind those of the step (``num_lookahead_tokens``)."""
    slots: int = 0
    """Of the token budget, what each request takes beside its rows
    (``max_num_new_slots_for_drafting``)."""
    drops_block: bool = False
    """Whether the last block that the prefix cache finds is computed again, since the drafter needs
    the target's hidden states (``use_eagle_block_drop``)."""
    tells_at_end: bool = False
    """Whether blocks that a step fills can be found from its end on, not from the next plan on, if
    steps are not planned ahead (vLLM 0.33 on)."""
    by_sequences: tuple[int, ...] = ()
    """Drafts that follow a step of so many sequences, from 0; empty: always ``tokens``."""
    max_model_len: int = 1 << 60
    """No position lies behind it."""
    chosen: tuple[bool, ...] = (False,)
    """Of each class of cache, whether each row attends positions of its own."""

    def proposed(self, sequences: int) -> int:
        """Drafts of each sequence behind a step of so many."""
        if not self.by_sequences:
            return self.tokens
        return self.by_sequences[min(sequences, len(self.by_sequences) - 1)]


@mypyc_attr(allow_interpreted_subclasses=True)
class Acceptance:
    """Which drafts are right. It depends on the text alone, so neither on batches nor on time."""

    def of(self, request: int) -> bytes:
        """How many drafts in a row are right behind each output token of a request, from 0.

        One byte for each of its output tokens: place g is looked at when g tokens are generated.
        """
        raise NotImplementedError
