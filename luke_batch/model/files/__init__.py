"""A checkpoint on disk: what it holds, and whether it fits."""
