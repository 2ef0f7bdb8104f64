"""Files, digests, locks, run directories and the weight store."""
