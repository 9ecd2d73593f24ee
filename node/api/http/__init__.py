"""HTTP/1.1 on Trio and httptools: bytes to requests, answers to bytes.

Words. A *connection* turns bytes into whole requests or one refusal. A connection is *served* by a
task, or *parked*: watched by the poller, without a task. A *router* leads from a request to its
handler; the server is given one. An *exchange* is the node as the handlers of one connection see
it. An *answer* is bytes, or a *streaming* that makes its body while it is sent. A *barrier* is the
wait after which a local read is linearizable. A *listing* walks over many keys as of one moment. A
*slice* is what is made and sent of a large answer in one turn of the event loop.

server.py       listeners, and each connection from its beginning to its end
room.py         how many connections there may be, and which one makes room for another
trial.py        connections for which only a reserved place is left
parked.py       connections that need a task only at times
serving.py      one connection served by a task
sending.py      the body of a streaming answer, piece by piece
held.py         a read that waits for a change, and a task that waits for it
waiting.py      all reads that wait for a change: their number, their times, their end
dispatch.py     from what a handler began to its answer; errors to answers
exchange.py     what a handler may ask, under the rules of one connection
connection.py   the parser: bytes in, whole requests or one refusal out; no I/O
known_heads.py  plain requests whose header lines have come before
answers.py      heads and bodies as bytes
params.py       what users write into paths, queries and bodies
guard.py        keeps out what a web page makes a browser send
listing.py      answers that walk over many keys
looks.py        small listings that readers who wait for them share
large.py        large values in answers, made piece by piece
unsent.py       what clients have not taken, and which of them is cut off
idempotency.py  the `Idempotency-Key` header

Never here: what a path means, or who may use it.
"""
