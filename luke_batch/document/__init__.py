"""A document on its way through the stages, and its Arrow form."""
