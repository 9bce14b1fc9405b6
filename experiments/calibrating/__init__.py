"""Prices from measurements: a real decoder that is timed, or published tables of kernel times.

``engine`` serves with the torch decoder, ``measure`` times its steps, ``fit`` makes a calibration;
``kernel_*`` make one of tables. ``decoder_vs_simulation`` and ``kv_cache_latency`` are the studies
that run on the wall clock.
"""
