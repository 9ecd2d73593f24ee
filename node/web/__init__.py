"""The dashboard: the files that a browser loads from `/ui/` of any node.

Words. The *shell* is what every page has: the heading, the links, the state of the stream. A *page* is
one module in `pages/`, with a title and `mount`. The *stream* brings the cluster and the newest figures
to all tabs of a browser; a *tab* is one open dashboard. A *token* is a design token: a colour or a
distance with a name, in `base.css`.

files.py  the files, read once when the process starts

    index.html   the document: links and places, no script or style in it
    base.css     design tokens, light and dark, and the looks of all parts
    app.js       the shell: which page is shown, the state of the stream, the switch of the theme
    api.js       requests to this node; errors that say what to do
    token.js     the token of a sign-in, in memory, handed to new tabs by a BroadcastChannel
    signin.js    the form that asks for it where a node refuses what goes without
    stream.js    the stream as a page sees it, through the worker of all tabs or by itself
    worker.js    the SharedWorker that holds the one stream of a browser
    follow.js    one stream: asks for it again with pauses of 1 s
    dom.js       elements made from text, never from HTML
    format.js    numbers with their units, times, ages
    parts.js     tables, dialogs, badges, sparklines
    browse.css   the looks of lists that one opens, and of values
    browse.js    long lists by pages, one after the other
    kv.js        one key over HTTP
    values.js    values as bytes, text, JSON and hex, without a byte lost
    transfer.js  export and import of keys
    charts.js    charts by uPlot with one cursor over all of them
    pages/       cluster (with members, alarms), statistics, services, keys, sessions, dns
    vendor/      uPlot with its licence, as its authors publish it

Never here: what a request means or who may make it (`node/api/`), a request to another origin, a script
or a style inside HTML, a name or a value that becomes HTML.
"""
