"""Rows of data: loading, validation, encoding."""
