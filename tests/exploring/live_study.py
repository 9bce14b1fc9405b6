"""The study that the live page is tried with."""

from pathlib import Path

from tests.page_study import page_study

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "a-secret"
STUDY = page_study("{workload.arrivals.rate_per_s: [4, 8]}", requests=1500)
