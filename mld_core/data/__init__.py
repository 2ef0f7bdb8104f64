"""Files of rows: tables on disk, and regular files alone."""
