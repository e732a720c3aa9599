"""Which part of a document a window shows."""
