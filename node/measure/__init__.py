"""What the rooms of a node count with: plain numbers, which are read when somebody asks.

histogram.py  how many observations were at most so large, in fixed buckets
"""
