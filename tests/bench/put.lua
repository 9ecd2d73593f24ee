-- wrk: writes of 256 B values to 10,000 keys. One request is one write, answered when durable.
--   wrk -t1 -c64 -d10s -s tests/bench/put.lua http://127.0.0.1:8500
local value = string.rep("x", 256)
local count = 0

request = function()
  count = count + 1
  return wrk.format("PUT", "/v1/kv/bench-" .. (count % 10000), nil, value)
end

dofile((debug.getinfo(1, "S").source:match("@(.*/)") or "./") .. "report.lua")
