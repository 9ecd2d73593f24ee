"""The language of `?filter=`: Boolean expressions over the objects of an answer.

The grammar and its meaning are in the contract of services, section 2.7; the witness is
`hashicorp/go-bexpr` v0.1.2, which Consul uses.

Words. A *selector* is the way to a field of an object, a *match* one question about it. The *fields*
are what the objects of an answer have, with their types. A *predicate* says of an object whether it
fits.

fields.py     what a field can be: texts, numbers, lists, maps, objects
syntax.py     from a text to a tree
patterns.py   regular expressions whose time and memory are bounded
predicate.py  from a tree and the fields to a predicate

Never here: I/O, a clock, requests, or which answer has which fields.
"""
