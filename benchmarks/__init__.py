"""Benchmarks that print ratios and figures: of the engines (`python -m benchmarks`), and of planning."""
