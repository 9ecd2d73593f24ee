"""The texts of the configurations: `$zone`, `$servers`, and what is the same for every cluster.

Each begins with the lines that install, reload and try it, as comments. What an option is for stands
beside it, with the figures that were measured; `docs/resolvers.md` and `docs/load-balancers.md` have
more of them. Nothing is filled in here.
"""

from __future__ import annotations

from string import Template

HEAD = Template("""\
$comment $title: questions for $zone go to the DNS servers of the hstore cluster.
$comment Servers: $whose.
$comment
""")

SYSTEMD_RESOLVED = Template("""\
# Install: hstore dns setup systemd-resolved | sudo tee /etc/systemd/resolved.conf.d/hstore.conf
#          (sudo mkdir -p /etc/systemd/resolved.conf.d first, where it is not there)
# Reload:  sudo systemctl restart systemd-resolved
# Try:     resolvectl query leader.$zone
#
# It takes systemd 246 or newer (systemctl --version): before, DNS= knew no ports. From 258 on the
# same lines below [Delegate] in /etc/systemd/dns-delegate.d/hstore.dns-delegate are better: then
# no other question is sent to hstore. Here some are, and get REFUSED at once. If another file has
# a DNS= without a domain of its own, use a delegate or dnsmasq: systemd-resolved takes all servers
# of DNS= for equals, and asks only one of them. While loopback is the only network of a machine,
# it answers nothing.
#
# Two of its numbers cannot be set: it waits 5 s for a server that is silent before it asks the
# next, and it repeats a SERVFAIL for 10 s without asking. So a leader whose machine goes silent may
# be missed for 5 s and more. Where that is too long, use dnsmasq or unbound.
[Resolve]
DNS=$servers
# The ~ makes it a route for these names, and no search domain. It is needed: names in .local go to
# multicast DNS unless there is such a line for them.
Domains=~$zone
# The zone is not signed. With DNSSEC=yes and a zone outside of .local, put its name into
# /etc/dnssec-trust-anchors.d/hstore.negative.
# Names of addresses (PTR) are optional: add ~$reverse and so on to Domains=.
""")

DNSMASQ = Template("""\
# Install: hstore dns setup dnsmasq | sudo tee /etc/dnsmasq.d/hstore.conf
# Reload:  sudo dnsmasq --test && sudo systemctl restart dnsmasq
# Try:     dig @127.0.0.1 leader.$zone && getent hosts leader.$zone
#
# /etc/dnsmasq.conf has to include the folder (conf-dir=/etc/dnsmasq.d; Debian does), and
# /etc/resolv.conf has to name dnsmasq (nameserver 127.0.0.1).
$servers
# All nodes are asked at once, and the first answer counts. Without it dnsmasq goes on asking the
# one that answered last, and when that is silent, nobody gets an answer. It holds for every name:
# where dnsmasq has other servers, these are all asked, too.
all-servers
# strict-order must not be set as well (grep -r strict-order /etc/dnsmasq*). all-servers wins in
# dnsmasq 2.90, but before 2.86 the first node would be asked alone, also when it is silent.
# Where stop-dns-rebind is set, answers with private addresses are dropped, but not these.
rebind-domain-ok=/$zone/
# Absent names are remembered for the zone's TTL (1 s) and no longer. Leave min-cache-ttl and
# use-stale-cache unset: they would keep a leader that has gone.
# Names of addresses (PTR) are optional: server=/$reverse/... as above.
""")

UNBOUND = Template("""\
# Install: hstore dns setup unbound | sudo tee /etc/unbound/unbound.conf.d/hstore.conf
# Reload:  sudo unbound-checkconf && sudo systemctl restart unbound
# Try:     dig @127.0.0.1 leader.$zone && getent hosts leader.$zone
#
# /etc/unbound/unbound.conf has to include the folder (Debian's does), and /etc/resolv.conf has to
# name unbound (nameserver 127.0.0.1).
server:
    # The zone is not signed, and the root says that it does not exist.
    domain-insecure: "$zone."
    # Wins over a local-zone for local. or another domain above, which would answer by itself.
    local-zone: "$zone." transparent
    # Where private-address is set, answers with such addresses are emptied, but not these.
    private-domain: "$zone."
    # Without it no server on this machine is ever asked.
    do-not-query-localhost: no
    # These two hold for every name. Where unbound-checkconf does not know one (before 1.14, or
    # without the security updates of 2024), take that line out.
    # A node without a leader answers once there is one. An answer that took longer than 1.9 s would
    # not be handed on, and whoever asked would wait for his own timeout.
    discard-timeout: 5000
    # So often a node is asked that is down, each time for twice as long, before the next one is:
    # for 1.5 s at most, in place of 3.1 s. Fewer would end in a SERVFAIL before there is a leader.
    outbound-msg-retry: 4

# A stub, not a forward: the nodes have the authority for the zone, and do not recurse.
stub-zone:
    name: "$zone."
$servers
    # A leader that has gone, or a SERVFAIL of an election, shall not be remembered: unbound's cache
    # keeps a TTL of 1 s for up to 2 s, and a SERVFAIL for 5 s. (Leave cache-min-ttl at 0 all the
    # same: it raises the TTL that whoever asks unbound goes by.)
    stub-no-cache: yes
# Names of addresses (PTR) are optional: for $reverse and so on the same stub-zone,
# the same domain-insecure, and a local-zone of type transparent.
""")

BIND = Template("""\
# Install: hstore dns setup bind | sudo tee /etc/bind/hstore.conf
#          then add this line to /etc/bind/named.conf.local:    include "/etc/bind/hstore.conf";
#          and these inside options { } of named.conf.options, because the zone is not signed
#          (BIND 9.13.3 or newer), and because a SERVFAIL would be repeated for 1 s, whatever the
#          nodes know by then:                                  validate-except { "$zone"; };
#                                                               servfail-ttl 0;
# Reload:  sudo named-checkconf && sudo rndc reconfig
# Try:     dig @127.0.0.1 leader.$zone && getent hosts leader.$zone
#
# A static-stub would suit an authority better, but its server-addresses take no ports.
zone "$zone" {
    type forward;
    forward only;
    forwarders {
$servers
    };
};
# With stale-answer-enable, named may give a leader that has gone.
# Names of addresses (PTR) are optional: the same zone for $reverse and so on.
""")

COREDNS = Template("""\
# Install: hstore dns setup coredns | sudo tee -a /etc/coredns/Corefile
# Reload:  by itself where the Corefile has `reload`, else: sudo pkill -USR1 coredns
# Try:     dig @127.0.0.1 leader.$zone
#
# No `cache` on purpose: a leader that has gone shall not be remembered.
$zone {
    errors
    forward . $servers {
        # A node that is down is left out until it answers again.
        health_check 1s
        max_fails 1
    }
}
# Names of addresses (PTR) are optional: the same block for $reverse and so on.
""")

MACOS = Template("""\
# Install: hstore dns setup macos | sudo tee /etc/resolver/$zone
#          (sudo mkdir -p /etc/resolver first, where it is not there)
# Reload:  sudo killall -HUP mDNSResponder
# Try:     dscacheutil -q host -a name leader.$zone
#          (dig and host do not look at /etc/resolver; scutil --dns shows whether it was read)
#
# The name of the file is the zone. Names in .local belong to multicast DNS (RFC 6762); should
# look-ups take seconds here, give the cluster another zone (hstore start --zone hstore.internal).
$servers
""")

KNOT = Template("""\
-- Install: hstore dns setup knot | sudo tee /etc/knot-resolver/hstore.conf
--          then add this line to the end of /etc/knot-resolver/kresd.conf:
--          dofile('/etc/knot-resolver/hstore.conf')
-- Reload:  sudo systemctl restart 'kresd@*'
-- Try:     kdig @127.0.0.1 leader.$zone && getent hosts leader.$zone
--
-- For Knot Resolver 5. It waits 2 s for a node that is down, killed or silent alike, before it asks
-- another; that cannot be set. Where it is too long, use dnsmasq or unbound.
local zone = policy.todnames({'$zone.'})
-- A leader that has gone shall not be remembered: else a TTL of 1 s lives as long as
-- cache.min_ttl(), which is 5 s unless it is set.
policy.add(policy.suffix(policy.FLAGS({'NO_CACHE'}), zone))
-- STUB does not validate, and the zone is not signed. With FORWARD in its place,
-- trust_anchors.set_insecure({'$zone.'}) is needed as well.
policy.add(policy.suffix(policy.STUB({
$servers
}), zone))
-- Names of addresses (PTR) are optional: the same for $reverse and so on.
""")

HAPROXY = Template("""\
# Install: hstore dns setup haproxy | sudo tee -a /etc/haproxy/haproxy.cfg
#          (after nodes came or went: the same, with the old lines taken out first)
# Reload:  sudo haproxy -c -f /etc/haproxy/haproxy.cfg && sudo systemctl reload haproxy
# Try:     curl http://127.0.0.1:8080/v1/health
#
# Every node answers every request. HAProxy finds them by their SRV records, and asks all nodes at
# once, so no resolver has to stand between. Clients that call the proxy by a name need that name in
# http.hosts of the nodes; by an IP literal or localhost they need nothing. (Tested with HAProxy 2.6.)
resolvers hstore-dns
$servers
    # How often it asks; every 10 s unless it is set.
    hold valid 1s
    # The default of 512 bytes has room for few nodes, and HAProxy does not ask again by TCP.
    accepted_payload_size 8192

frontend hstore
    mode http
    bind 127.0.0.1:8080
    # To a node on the same machine every client of the proxy is local: keep them from stopping it.
    http-request deny if { path_beg /v1/node/ /v1/leader/ /v1/config/ /v1/operator/ /v1/cluster/stop /v1/agent/leave /v1/agent/reload /v1/agent/token/ } !METH_GET
    default_backend hstore-nodes

# All live nodes, up to ten. One that is silent is out after two checks; what was asked of it fails
# then, too.
backend hstore-nodes
    mode http
    option httpchk GET /v1/health
    default-server check inter 500ms fall 2 rise 1 on-marked-down shutdown-sessions
    default-server resolvers hstore-dns init-addr none resolve-prefer $family
    server-template node 10 _hstore._tcp.$zone

# The leader alone: writes need no second hop, but when it is lost all wait for the next one.
backend hstore-leader
    mode http
    option httpchk GET /v1/health
    default-server check inter 500ms fall 2 rise 1 on-marked-down shutdown-sessions
    default-server resolvers hstore-dns init-addr none resolve-prefer $family
    server-template leader 1 _hstore-leader._tcp.$zone
""")

NO_IPV6 = """ No node has an IPv6 address, and were the question
    # for one to fail, nginx would answer 502, although it knows the other address."""

NGINX = Template("""\
# Install: hstore dns setup nginx | sudo tee /etc/nginx/conf.d/hstore.conf
# Reload:  sudo nginx -t && sudo systemctl reload nginx
# Try:     curl http://127.0.0.1:8080/v1/health
#
# It asks the resolver of this machine, which has to forward the zone: see hstore dns setup dnsmasq
# (or unbound, bind); for systemd-resolved write 127.0.0.53. It could ask the nodes themselves,
#     resolver $servers valid=1s$ipv6;
# but nginx asks them in turns, and waits 5 s for one that is down before it asks the next. It looks
# up addresses and no ports, so all nodes have to serve clients at the same port.
server {
    listen 127.0.0.1:8080;
    # Asked again after 1 s, whatever the TTL is.$no_ipv6
    resolver 127.0.0.1 valid=1s$ipv6;
    resolver_timeout 6s;

    # A name in a variable is looked up while nginx runs, any other only when it starts.
    # nodes.$zone spreads the requests over all nodes.
    set $$hstore_node leader.$zone:$port;
    # Clients that call the proxy by a name need that name in http.hosts of the nodes; by an IP
    # literal or localhost they need nothing.
    proxy_set_header Host $$http_host;
    proxy_connect_timeout 1s;
    # No request is sent to a second node: the first may have carried it out.
    proxy_next_upstream off;
    # A value of 1 MiB may take six times as much in JSON.
    client_max_body_size 7m;

    # To a node on the same machine every client of the proxy is local: keep them from stopping it.
    location ~ ^/v1/(node/|leader/|config/|operator/|cluster/stop|agent/(leave|reload|token/)) {
        limit_except GET { deny all; }
        proxy_pass http://$$hstore_node;
    }
    location / {
        proxy_pass http://$$hstore_node;
    }
}
""")
