"""`mld serve`: a page in the browser that samples from a finished run."""
