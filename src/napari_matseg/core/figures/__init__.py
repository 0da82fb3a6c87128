"""Figures for a paper or a report, each with the numbers it is drawn from."""
