"""Proof that the judge bites: planted defects x checkers, on the reference stack.

catalogue   which checker must catch which defect, and what trouble makes it show
plan        which runs that takes
running     makes one run
matrix      what came of them, and whether that proves the judge
page, markdown, terminal: the matrix for people
"""
