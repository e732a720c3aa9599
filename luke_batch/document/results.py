"""The columns that say something of a text as a whole, as rows that their contract describes."""

RESULTS = ("sequence", "tokens", "answers", "choice", "cloze")
"""Null for a document that its head has not looked at."""
