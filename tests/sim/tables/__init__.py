"""What clients read and write, as the contract has it: in both layers the judge of real state machines.

`book` carries out committed commands in the simplest way, with a `page` for each index; `writing`,
`services_writing` and `members_writing` are what single commands do on one, and `services_looking` what
they look up. `indexes` says what a client may be told as the index of an answer, and `catalog` what a
page shows of services, checks and nodes. `judge` and `catalog_judge` hold what nodes have against it.
In the layer of cores `draws` and `services_draws` make commands, `nodes` gives each node a real state
machine, and `store` is where that keeps its records.
"""
