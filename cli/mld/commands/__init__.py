"""The commands of the command line, each thin over what it calls."""
