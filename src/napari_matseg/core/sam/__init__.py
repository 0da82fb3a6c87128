"""Promptable networks: segment-anything's prompt encoder and mask decoder on one of several image encoders."""
