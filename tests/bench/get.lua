-- wrk: linearizable reads of the keys that put.lua writes.
--   wrk -t1 -c64 -d10s -s tests/bench/get.lua http://127.0.0.1:8500
local count = 0

request = function()
  count = count + 1
  return wrk.format("GET", "/v1/kv/bench-" .. (count % 10000))
end

dofile((debug.getinfo(1, "S").source:match("@(.*/)") or "./") .. "report.lua")
