"""The study that the live page is tried with."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "a-secret"
STUDY = """
name: small
model: llama-3-8b
cluster: {gpu: a100-80gb-sxm}
workload:
  arrivals: {process: poisson, rate_per_s: 4}
  lengths:
    prompt: {distribution: constant, value: 300}
    output: {distribution: lognormal, mean: 60, cv: 1}
  num_requests: 1500
slo: {ttft_s: 0.5, tpot_s: 0.03, attainment: 0.9}
seeds: 3
sweep: {workload.arrivals.rate_per_s: [4, 8]}
"""
