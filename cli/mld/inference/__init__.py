"""A finished run at work: sample, score, impute, information."""
