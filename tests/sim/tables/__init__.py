"""What clients read and write, as the contract has it: in both layers the judge of real state machines.

`book` carries out committed commands in the simplest way, with a `page` for each index; `writing` is
what single commands do on one; `indexes` says what a client may be told as the index of an answer;
`judge` holds what nodes have against it. In the layer of cores `draws` makes commands, `nodes` gives
each node a real state machine, and `store` is where that keeps its records.
"""
