"""One serving engine, step by step: who computes what, when each step ends, what became of whom.

Plain typed Python without numpy, so that it can be compiled (see ``hardware.compiled``): compiled
or not, it gives the same bytes. It knows no clock: whoever owns the time asks for steps.

Begin with ``loop``, the main loop, and ``scheduler``, the three calls that it makes. Then:

- who runs: ``running``, and its policies ``chunked_prefill`` (vLLM v1) and ``whole_prompts``;
  ``waiting`` is the queue, ``decoding`` counts those who decode, ``sequence`` is one request;
- what they hold: ``caches``, from ``kv_cache`` (blocks are counted) to ``prefix_cache`` (they are
  found again) and ``hybrid_cache`` (groups of layers); ``tiers`` behind them, with ``loads``;
- how long steps take: ``machine``, which asks ``hardware.steps.prices``;
- what is written: ``journal``;
- when a loop goes on: ``agenda``, ``replica``, ``arrivals``;
- variants of the loop: ``lockstep`` (ranks that end every step together) and ``stages`` (a
  pipeline); ``drafts`` is speculative decoding in all of these.
"""

from hardware.compiled import choose

choose(__path__[0])
