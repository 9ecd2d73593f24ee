-- wrk: the reads of get.lua for etcd's HTTP gateway. They are linearizable unless asked otherwise.
dofile((debug.getinfo(1, "S").source:match("@(.*/)") or "./") .. "etcd_put.lua")
local put = request
local requests = {}
local count = 0

request = function()
  count = count + 1
  local key = count % 10000
  if not requests[key] then
    local body = put():gsub(',"value":"[^"]*"', "")
    local json = body:match("{.*}")
    requests[key] = wrk.format("POST", "/v3/kv/range", nil, json)
  end
  return requests[key]
end
