"""Suites: grids of experiments that run, resume and end in a leaderboard."""
