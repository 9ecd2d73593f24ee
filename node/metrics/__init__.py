"""The figures of one node for other programs: read from the rooms that count, when somebody asks.

Words. A *figure* is a value as of now, a *total* one that only rises. A *series* is a figure with a name
and labels, as Prometheus has it.

sources.py     the rooms that count
figures.py     totals and gauges that metrics and statistics share
series.py      every series, group by group
process.py     those of the process itself
families.py    plain numbers as families of prometheus-client
exposition.py  Prometheus' text, OpenMetrics
consul_form.py Consul's JSON
`statistics/`  the same over time, kept for seven days

Never here: counting. Each room counts for itself, in plain numbers (`measure/`).
"""
