"""What the rooms of a node count with: plain numbers, which are read when somebody asks.

Words. An *observation* is one measured value. A *bucket* counts the observations that were at most its
*bound*, and more than the bound before it. A *reading* is what a histogram held at one moment.

answered.py   answers of an HTTP server, by route, method and status
histogram.py  how many observations were at most so large, in fixed buckets

Never here: names of series, formats, clocks, or who reads the figures.
"""
