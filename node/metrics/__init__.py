"""The figures of one node for other programs: read from the rooms that count, when somebody asks.

Words. A *figure* is a value as of now, a *total* one that only rises. A *series* is a figure with a name
and labels, as Prometheus has it.

figures.py     reads what the rooms have counted
`statistics/`  the same over time, kept for seven days

Never here: counting. Each room counts for itself, in plain numbers (`measure/`).
"""
