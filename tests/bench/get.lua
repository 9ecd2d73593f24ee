-- wrk: linearizable reads of the keys that put.lua writes.
--   wrk -t1 -c64 -d10s --latency -s tests/bench/get.lua http://127.0.0.1:8500
local count = 0

request = function()
  count = count + 1
  return wrk.format("GET", "/v1/kv/bench-" .. (count % 10000))
end

done = function(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format("%.0f reads/s, p50 %.2f ms, p99 %.2f ms, errors %d\n",
    summary.requests / summary.duration * 1e6, latency:percentile(50) / 1000,
    latency:percentile(99) / 1000,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
