"""Files of rows: tables on disk."""
