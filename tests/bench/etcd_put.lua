-- wrk: the writes of put.lua for etcd's HTTP gateway, which wants base64 in JSON.
local alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

local function base64(text)
  local out = {}
  for i = 1, #text, 3 do
    local a, b, c = text:byte(i, i + 2)
    local n = a * 65536 + (b or 0) * 256 + (c or 0)
    local quad = ""
    for shift = 3, 0, -1 do
      local digit = math.floor(n / 64 ^ shift) % 64
      quad = quad .. alphabet:sub(digit + 1, digit + 1)
    end
    if not c then quad = quad:sub(1, 3) .. "=" end
    if not b then quad = quad:sub(1, 2) .. "==" end
    out[#out + 1] = quad
  end
  return table.concat(out)
end

local value = base64(string.rep("x", 256))
local requests = {}
local count = 0

-- Each request is made once and kept: the load generator must not be what is measured.
request = function()
  count = count + 1
  local key = count % 10000
  if not requests[key] then
    local body = string.format('{"key":"%s","value":"%s"}', base64("bench-" .. key), value)
    requests[key] = wrk.format("POST", "/v3/kv/put", nil, body)
  end
  return requests[key]
end

dofile((debug.getinfo(1, "S").source:match("@(.*/)") or "./") .. "report.lua")
