"""Benchmarks that print ratios and figures: `python -m benchmarks` the engines, `benchmarks.planning` the plan."""
