"""The documentation site: pages of the checkout, and references written from the code."""
