"""Micrographs that are larger than the memory: segmented part by part into files, with the result of the whole.

`job` says what is to be done, `segmenting` does a band of it, `pieces` keeps what came out, `blocks` and `merging` give
objects their ids, and `stores` makes the result of it. `steps` is all of this.
"""
