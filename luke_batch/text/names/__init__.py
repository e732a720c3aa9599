"""Names that a text is searched for: gazetteers and the alias table."""
