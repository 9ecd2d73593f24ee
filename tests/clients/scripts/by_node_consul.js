// The npm package `consul`: keys, blocking reads, watches, sessions, locks, transactions, events, services.
// Says one JSON line a test, as harness.py does.
"use strict";

const assert = require("node:assert");
const Consul = require("consul");

const [host, port] = process.argv[2].split(":");
const c = new Consul({ host, port: Number(port) });
const UNKNOWN = "11111111-1111-1111-1111-111111111111";

function soon(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

async function until(look, what) {
  for (let n = 0; n < 500; n++) {
    if (look()) return;
    await soon(10);
  }
  throw new Error("did not happen in 5 s: " + what);
}

const checks = {
  async missing_key() {
    assert.strictEqual(await c.kv.get("nothing"), undefined);
  },

  async set_get_delete() {
    assert.strictEqual(await c.kv.set("hello", "world"), true);
    const data = await c.kv.get("hello");
    const keys = ["CreateIndex", "Flags", "Key", "LockIndex", "ModifyIndex", "Value"];
    assert.deepStrictEqual(Object.keys(data).sort(), keys);
    assert.strictEqual(data.Value, "world");
    const raw = await c.kv.get({ key: "hello", raw: true });
    assert.deepStrictEqual(raw, Buffer.from("world"));
    assert.strictEqual(await c.kv.del("hello"), true);
    assert.strictEqual(await c.kv.get("hello"), undefined);
  },

  async null_value() {
    assert.strictEqual(await c.kv.set("one", null), true);
    assert.strictEqual((await c.kv.get("one")).Value, null);
  },

  async keys_with_separator() {
    for (const key of ["a/x/1", "a/y/2", "a/z/3"]) await c.kv.set(key, "1");
    assert.deepStrictEqual(await c.kv.keys({ key: "a/", separator: "/" }), ["a/x/", "a/y/", "a/z/"]);
    assert.strictEqual((await c.kv.keys()).length, 3);
  },

  async a_read_waits_for_a_change() {
    await c.kv.set("hello", "1");
    const got = await c.kv.get("hello");
    const waiting = c.kv.get({ key: "hello", index: got.ModifyIndex, wait: "3s" });
    await c.kv.set("hello", "2");
    assert.strictEqual((await waiting).Value, "2");
  },

  async a_watch_sees_each_change_and_does_not_spin() {
    let answers = 0;
    const watch = c.watch({
      method: function (options) {
        answers++;
        return c.kv.get.call(this, options);
      },
      options: { key: "watched", wait: "30s" },
    });
    const seen = [];
    const errors = [];
    watch.on("change", (data) => seen.push(data && data.Value));
    watch.on("error", (error) => errors.push(error));
    try {
      for (let n = 1; n <= 3; n++) {
        await until(() => seen.length === n, `change ${n}`);
        await c.kv.set("watched", String(n));
      }
      await until(() => seen.length === 4, "the last change");
      await c.kv.set("another", "x");
      await soon(200);
    } finally {
      watch.end();
    }
    assert.deepStrictEqual(errors, []);
    assert.deepStrictEqual(seen, [undefined, "1", "2", "3"]);
    // One for each answer, and the one that waits.
    assert.ok(answers <= 5, `${answers} requests`);
  },

  async a_watch_ends_at_a_400() {
    const watch = c.watch({ method: c.kv.get, options: { key: "" } });
    const errors = [];
    watch.on("error", (error) => errors.push(error));
    await until(() => errors.length === 1, "an error");
    await soon(50);
    assert.strictEqual(watch.isRunning(), false);
  },

  async session_life() {
    const { ID } = await c.session.create({ name: "mine", ttl: "20s", behavior: "delete" });
    const info = await c.session.get(ID);
    assert.strictEqual(info.Name, "mine");
    assert.strictEqual(info.TTL, "20s");
    assert.strictEqual((await c.session.renew(ID))[0].ID, ID);
    assert.strictEqual((await c.session.node(info.Node)).length, 1);
    assert.deepStrictEqual(await c.session.node("nobody-has-this-name"), []);
    await c.session.destroy(ID);
    assert.ok(!(await c.session.get(ID)));
    await assert.rejects(c.session.renew(UNKNOWN));
  },

  async lock() {
    const one = (await c.session.create({ lockdelay: "1s" })).ID;
    const two = (await c.session.create({ lockdelay: "1s" })).ID;
    assert.strictEqual(await c.kv.set({ key: "lock", value: "1", acquire: one }), true);
    // What is refused is given as undefined.
    assert.ok(!(await c.kv.set({ key: "lock", value: "2", acquire: two })));
    assert.strictEqual((await c.kv.get("lock")).Session, one);
    assert.strictEqual(await c.kv.set({ key: "lock", value: "1", release: one }), true);
    assert.strictEqual(await c.kv.set({ key: "lock", value: "2", acquire: two }), true);
    await assert.rejects(c.kv.set({ key: "lock", value: "x", acquire: "nonsense" }));
  },

  async transaction() {
    const set = (Key, text) => ({
      KV: { Verb: "set", Key, Value: Buffer.from(text).toString("base64") },
    });
    const done = await c.transaction.create([set("key1", "value1"), set("key2", "value2")]);
    const keys = ["CreateIndex", "Flags", "Key", "LockIndex", "ModifyIndex", "Value"];
    for (const row of done.Results) assert.deepStrictEqual(Object.keys(row.KV).sort(), keys);
    assert.strictEqual((await c.kv.get("key2")).Value, "value2");
    const refused = [set("key3", "x"), { KV: { Verb: "get", Key: "nothing" } }];
    await assert.rejects(c.transaction.create(refused), (error) => error.statusCode === 409);
    assert.strictEqual(await c.kv.get("key3"), undefined);
  },

  async events() {
    const name = "event-" + process.pid;
    const fired = await c.event.fire(name, '{"hello":"world"}');
    const filters = ["ID", "LTime", "Name", "NodeFilter", "Payload", "ServiceFilter", "TagFilter"];
    assert.deepStrictEqual(Object.keys(fired).sort(), [...filters, "Version"]);
    const events = await c.event.list(name);
    assert.deepStrictEqual(events.map((e) => [e.ID, e.Payload]), [[fired.ID, '{"hello":"world"}']]);
  },

  async a_service_with_its_check() {
    const check = { ttl: "10s", notes: "simple check" };
    await c.agent.service.register({ name: "web", id: "web/1", tags: ["a"], port: 80, check });
    const services = await c.agent.services();
    assert.deepStrictEqual(Object.keys(services), ["web/1"]);
    assert.deepStrictEqual(services["web/1"].Tags, ["a"]);
    assert.strictEqual((await c.agent.check.list())["service:web/1"].Notes, "simple check");
    await c.agent.check.pass("service:web/1");
    await c.agent.service.maintenance({ id: "web/1", enable: true });
    assert.ok((await c.agent.checks())["_service_maintenance:web/1"]);
    await c.agent.service.deregister("web/1");
    assert.deepStrictEqual(await c.agent.services(), {});
    await assert.rejects(c.agent.service.deregister("web/1"), (error) => error.statusCode === 404);
  },

  async a_watch_of_a_service_sees_each_change() {
    await c.agent.service.register({ name: "web", check: { ttl: "10m" } });
    let answers = 0;
    const watch = c.watch({
      method: function (options) {
        answers++;
        return c.health.service.call(this, options);
      },
      options: { service: "web", passing: true, wait: "30s" },
    });
    const seen = [];
    const errors = [];
    watch.on("change", (data) => seen.push(data.length));
    watch.on("error", (error) => errors.push(error));
    try {
      await until(() => seen.length === 1, "the first answer");
      await c.agent.check.pass("service:web");
      await until(() => seen.length === 2, "it passes");
      await c.agent.check.fail("service:web");
      await until(() => seen.length === 3, "it fails");
      await c.agent.service.register("another");
      await soon(200);
    } finally {
      watch.end();
    }
    assert.deepStrictEqual(errors, []);
    assert.deepStrictEqual(seen, [0, 1, 0]);
    assert.ok(answers <= 4, `${answers} requests`);
  },

  async status() {
    assert.ok((await c.status.peers()).includes(await c.status.leader()));
  },
};

async function wipe() {
  try {
    await c.kv.del({ recurse: true });
    for (const id of Object.keys(await c.agent.services())) await c.agent.service.deregister(id);
    for (const one of await c.session.list()) await c.session.destroy(one.ID);
  } catch {
    // The check that comes next will say what is wrong.
  }
}

// A read that waits may be refused before anybody awaits it.
process.on("unhandledRejection", () => {});

(async () => {
  for (const [name, check] of Object.entries(checks)) {
    await wipe();
    let fault = "";
    try {
      await check();
    } catch (error) {
      fault = String(error && error.message).replace(/\s+/g, " ").slice(0, 400) || "no reason given";
    }
    console.log(JSON.stringify({ name, fault }));
  }
  await wipe();
  process.exit(0);
})();
