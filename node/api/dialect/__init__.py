"""The dialect: what the paths that Consul's clients use have in common, and nothing of any one of them.

Words. A *flag* is a query parameter that counts by being there. A *mode* is how consistent a read has
to be. A *blocking read* waits until the index of its result has passed one that the client names. A
*question* is what a read asks: on which changes its result depends, its index, and its body.

texts.py      which paths speak it; the texts of errors that clients compare
forms.py      errors as plain text, with their statuses
heads.py      the headers of its answers
queries.py    flags, booleans, numbers, `?dc=`, the modes, `?index=` and `?wait=`
bodies.py     JSON bodies whose members are matched without regard to case
ids.py        UUIDs from text
filters.py    `?filter=`, and parameters that are patterns
crowds.py     reads that wait for the same many keys share their wait
questions.py  reads of the state, which wait where the client asks for that

Never here: what a path means. Above HTTP itself (`../http/`), below the handlers (`../consul/`).
"""
