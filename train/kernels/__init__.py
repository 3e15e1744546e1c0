"""Pieces of the losses that a GPU computes in one kernel each, with the plain form that every other device takes."""
