"""How fast the engines are, on one thread and on real text: `python -m benchmarks`."""
