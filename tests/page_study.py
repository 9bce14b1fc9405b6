"""The study that pages are tried with: a small model's traffic, of as many requests as it takes."""


def page_study(sweep: str, requests: int, description: str = "") -> str:
    """Return the file; ``sweep`` is that of the study, in one line."""
    told = f"description: {description}\n" if description else ""
    return f"""
name: small
{told}model: llama-3-8b
cluster: {{gpu: a100-80gb-sxm}}
workload:
  arrivals: {{process: poisson, rate_per_s: 4}}
  lengths:
    prompt: {{distribution: constant, value: 300}}
    output: {{distribution: lognormal, mean: 60, cv: 1}}
  num_requests: {requests}
slo: {{ttft_s: 0.5, tpot_s: 0.03, attainment: 0.9}}
seeds: 3
sweep: {sweep}
"""
