"""`mld export`: the networks of a finished run for other programs."""
