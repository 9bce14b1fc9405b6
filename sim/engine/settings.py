"""What a scheduler is told of the engine that it serves."""

from dataclasses import dataclass

from sim.engine.drafts.drafting import Drafting


@dataclass(frozen=True)
class Settings:
    """Numbers, with every default of the engine's version.

    Which of them a policy looks at, beyond seats, budget and watermark, its ``reads`` says.
    """

    max_num_seqs: int
    """Most sequences that hold blocks at the same time."""
    token_budget: int
    """Most tokens of one step (``max_num_batched_tokens``)."""
    watermark_blocks: int = 0
    """Blocks that stay free when somebody is admitted."""
    windows: tuple[int | None, ...] = (None,)
    """Of each class of KV cache, how many tokens it attends; None: all."""
    ahead: bool = False
    """Whether steps are planned while the one before is computed (``async_scheduling``)."""
    long_prefill_token_threshold: int = 0
    """Longest chunk of one prompt in one step; 0 is no limit but the budget."""
    long_prefill_limits_alone: bool = True
    """Whether that limits a request that is alone, too."""
    scheduler_reserve_full_isl: bool = False
    """Whether a request starts only when blocks for all of its tokens are free."""
    serves_behind_victim: bool = False
    """Whether one that is thrown out for its own sake, as the least important of all, lets those
    behind it have their tokens in the same step (vLLM 0.33 on); else it ends the round."""
    misses_behind_victim: bool = False
    """Whether one that is thrown out for another one's sake, and was passed over before in this
    step, costs the one behind that its turn (vLLM before 0.28, ``policy: priority``)."""
    drafting: Drafting | None = None
    """How drafts are made and verified; None: there are none."""
    spacing: int = 0
    """With pipeline stages: steps from one token of a request to the next; 0: as soon as that is
    there."""
    batch_timeout_s: float = 0.0
    """How long the next in line waits at most for its batch to fill."""
