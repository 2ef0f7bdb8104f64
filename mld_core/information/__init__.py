"""Log-densities and information measures of a trained network."""
