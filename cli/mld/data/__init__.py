"""Data: loading and validating a dataset's rows, encoding them, writing items."""
