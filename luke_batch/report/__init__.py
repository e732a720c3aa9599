"""What a person gets to see of a run: the summary at its end, and excerpts of what was annotated."""
