"""Python transforms of the orders pipeline."""
