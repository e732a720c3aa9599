"""Benchmarks that print ratios and figures; each runs on its own."""
