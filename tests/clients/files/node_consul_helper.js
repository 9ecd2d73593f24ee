// Stands in place of node-consul's own test/acceptance/helper.js, which starts Consul: the node runs
// already, on Consul's ports.
"use strict";

require("should");
const Consul = require("consul");

async function before(test) {
  for (let i = 1; i <= 3; i++) {
    test["c" + i] = new Consul({ host: "127.0.0.1", defaults: { token: "root" } });
  }
}

exports.describe = describe;
exports.before = before;
exports.after = async function () {};
