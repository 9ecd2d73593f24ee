#!/bin/sh
# The npm package consul gives undefined, not false, for a lock or a write that Consul refused.
#
# Software: consul 2.0.1 for Node.js (node-consul, the newest).
#
# Consul answers `true` or `false` to ?acquire=, ?release= and ?cas=. The package's types say the same:
# `type SetResult = boolean`. But papi, its library for HTTP, hands an answer on only if it counts as true
# (`else if (!value && maybeValue)` in its pipeline), so the answer `false` is lost on the way.
# `if (!result)` works; `result === false`, a switch over true and false, a default value
# (`result ?? true`), or JSON of it, in which the member is then missing, take a refused lock for
# something else, and no type checker says so.
# Seen: a server that answers false; kv.set({acquire}) and kv.set({cas}) give undefined, true stays true.
# The cure: compare with true, never with false.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
echo '{"private": true}' >package.json
npm install --silent --no-audit --no-fund consul@2.0.1
grep -H "type SetResult" node_modules/consul/lib/kv.d.ts
cat >seen.js <<'EOF2'
const http = require("node:http");
const Consul = require("consul");

const server = http.createServer((request, response) => {
  request.resume();
  request.on("end", () => {
    response.setHeader("Content-Type", "application/json");
    response.end(request.url.includes("first") ? "true" : "false");
  });
});

server.listen(0, "127.0.0.1", async () => {
  const consul = new Consul({ host: "127.0.0.1", port: server.address().port });
  const acquire = "11111111-1111-1111-1111-111111111111";
  const given = [
    await consul.kv.set({ key: "first", value: "x", acquire }),
    await consul.kv.set({ key: "second", value: "x", acquire }),
    await consul.kv.set({ key: "third", value: "x", cas: 1 }),
  ];
  console.log(`consul ${require("consul/package.json").version}, Node.js ${process.version}`);
  console.log(`the server says true, false, false; the client gives ${given.map(String).join(", ")}`);
  const isSo = given[0] === true && given[1] === undefined && given[2] === undefined;
  console.log(isSo ? "so" : "this has changed");
  process.exit(isSo ? 0 : 1);
});
EOF2
node seen.js
