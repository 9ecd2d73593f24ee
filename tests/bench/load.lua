-- wrk: all loads of the benchmark, for both systems, so that both are asked by the same code.
--
--   wrk -t1 -c64 -d10s -s tests/bench/load.lua http://127.0.0.1:8500 -- \
--       SYSTEM OPERATION [VALUE_BYTES] [KEYS] [PREFIX] [FIRST] [FILE]
--
-- SYSTEM is hstore or etcd (its HTTP gateway, which wants base64 in JSON). OPERATION:
--
--   put      writes, key after key                get      linearizable reads, key after key
--   stale    reads of the node's own copy         mixed    nine reads, then a write
--   recurse  all keys with the prefix             scatter  writes all over the keys
--   fill     each key from FIRST on once, scattered; says how far it is, and `filled` at the end
--   txn      writes of four keys in one step
--   service  the passing instances of services, any of them; of etcd all keys below the service
--   create   sessions, or leases                  renew    each of those named in FILE, in turn
--   pass     a word that each check named in FILE passes; leases are kept alive
--
-- Requests are made before the load and kept: the load generator must not be what is measured.
-- Only `scatter` and `fill` make theirs on the way, since a million of them would not fit. Values
-- are random bytes, another for each key: what repeats itself would be compressed away.

local KEYS = 10000
local POOL_BYTES = 256 * 1024
local STRIDE = 7919  -- prime, and no divisor of a number of keys: all keys are met, none twice
local VALUE_STRIDE = 1009
local PROGRESS = 50000

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

-- Gives a function that returns `bytes` of what `draw` draws, others for each number of a key.
local function values_of(bytes, draw)
  local pool
  return function(number)
    if not pool then
      math.randomseed(1)
      local pieces = {}
      for i = 1, POOL_BYTES + bytes do pieces[i] = draw() end
      pool = table.concat(pieces)
    end
    local at = number * VALUE_STRIDE % POOL_BYTES
    return pool:sub(at + 1, at + bytes)
  end
end

local function any_letter()
  local at = math.random(1, 64)
  return alphabet:sub(at, at)
end

-- Gives a function that returns the base64 of some bytes, others for each number of a key: any letters
-- are that of some bytes, and the last ones say how many bytes are meant.
local function base64_of(value_bytes)
  local letters = math.floor(value_bytes / 3) * 4 + (value_bytes % 3 == 0 and 0 or value_bytes % 3)
  local ending = ({ [0] = "", "A==", "A=" })[value_bytes % 3]
  local letters_of = values_of(letters, any_letter)
  return function(number) return letters_of(number) .. ending end
end

local function any_byte()
  return string.char(math.random(0, 255))
end

-- How many keys one transaction writes.
local IN_ONE_STEP = 4

local function four(number, make)
  local parts = {}
  for k = 0, IN_ONE_STEP - 1 do parts[k + 1] = make((number + k) % KEYS) end
  return table.concat(parts, ",")
end

-- Each gives functions that make a request of the number of a key.
local makers = {}

function makers.hstore(value_bytes, prefix)
  local value = values_of(value_bytes, any_byte)
  local host = " HTTP/1.1\r\nHost: " .. wrk.headers["Host"]
  local function key(number) return string.format("%s%06d", prefix, number) end
  local function get(flag)
    return function(number)
      return "GET /v1/kv/" .. key(number) .. flag .. host .. "\r\n\r\n"
    end
  end
  local encoded = base64_of(value_bytes)
  local function with_body(path, body)
    return "PUT " .. path .. host .. "\r\nContent-Length: " .. #body .. "\r\n\r\n" .. body
  end
  local sized = host .. "\r\nContent-Length: " .. value_bytes .. "\r\n\r\n"
  return {
    put = function(number) return "PUT /v1/kv/" .. key(number) .. sized .. value(number) end,
    get = get(""),
    stale = get("?stale"),
    recurse = function() return "GET /v1/kv/" .. prefix .. "?recurse" .. host .. "\r\n\r\n" end,
    txn = function(first)
      return with_body("/v1/txn", "[" .. four(first, function(number)
        return '{"KV":{"Verb":"set","Key":"' .. key(number) .. '","Value":"' .. encoded(number) .. '"}}'
      end) .. "]")
    end,
    service = function(number)
      return "GET /v1/health/service/" .. key(number) .. "?passing" .. host .. "\r\n\r\n"
    end,
    create = function() return with_body("/v1/session/create", '{"TTL":"600s"}') end,
    renew = function(name) return with_body("/v1/session/renew/" .. name, "") end,
    pass = function(name) return with_body("/v1/agent/check/pass/" .. name, "") end,
  }
end

function makers.etcd(value_bytes, prefix)
  -- The key is put together from pieces whose base64 has no remainder.
  assert(#prefix % 3 == 0, "the length of the prefix has to be a multiple of three")
  local digits = {}
  for i = 0, 999 do digits[i] = base64(string.format("%03d", i)) end
  local start = base64(prefix)
  local function key(number)
    return start .. digits[math.floor(number / 1000)] .. digits[number % 1000]
  end

  local value = base64_of(value_bytes)

  local function post(path, body)
    return "POST /v3/" .. path .. " HTTP/1.1\r\nHost: " .. wrk.headers["Host"]
      .. "\r\nContent-Length: " .. #body .. "\r\n\r\n" .. body
  end
  local function get(flag)
    return function(number) return post("kv/range", '{"key":"' .. key(number) .. '"' .. flag .. "}") end
  end
  local behind = prefix:sub(1, -2) .. string.char(prefix:byte(-1) + 1)
  return {
    put = function(number)
      return post("kv/put", '{"key":"' .. key(number) .. '","value":"' .. value(number) .. '"}')
    end,
    get = get(""),
    stale = get(',"serializable":true'),
    recurse = function()
      return post("kv/range", '{"key":"' .. start .. '","range_end":"' .. base64(behind) .. '"}')
    end,
    txn = function(first)
      return post("kv/txn", '{"success":[' .. four(first, function(number)
        return '{"request_put":{"key":"' .. key(number) .. '","value":"' .. value(number) .. '"}}'
      end) .. "]}")
    end,
    service = function(number)
      local range = '{"key":"' .. key(number) .. base64("/") .. '","range_end":"'
      return post("kv/range", range .. key(number) .. base64("0") .. '"}')
    end,
    create = function() return post("lease/grant", '{"TTL":"600"}') end,
    renew = function(name) return post("lease/keepalive", '{"ID":"' .. name .. '"}') end,
    pass = function(name) return post("lease/keepalive", '{"ID":"' .. name .. '"}') end,
  }
end

local function all_made(keys, make)
  local requests = {}
  for number = 0, keys - 1 do requests[number] = make(number) end
  return requests
end

-- Each gives the function that wrk asks for the next request.
local operations = {}

local function in_turn(name)
  return function(make, keys)
    local requests = all_made(keys, make[name])
    local count = 0
    return function()
      count = count + 1
      return requests[count % keys]
    end
  end
end

operations.put = in_turn("put")
operations.get = in_turn("get")
operations.stale = in_turn("stale")
operations.txn = in_turn("txn")

function operations.service(make, keys)
  local requests = all_made(keys, make.service)
  math.randomseed(1)
  return function() return requests[math.random(0, keys - 1)] end
end

function operations.create(make)
  local whole = make.create()
  return function() return whole end
end

local function of_each_named(operation)
  return function(make, _, _, file)
    local requests = {}
    for name in io.lines(file) do requests[#requests + 1] = make[operation](name) end
    local count = 0
    return function()
      count = count + 1
      return requests[count % #requests + 1]
    end
  end
end

operations.renew = of_each_named("renew")
operations.pass = of_each_named("pass")

function operations.mixed(make, keys)
  local puts = all_made(keys, make.put)
  local gets = all_made(keys, make.get)
  local count = 0
  return function()
    count = count + 1
    return (count % 10 == 0 and puts or gets)[count % keys]
  end
end

function operations.recurse(make)
  local whole = make.recurse()
  return function() return whole end
end

function operations.scatter(make, keys)
  local count = 0
  return function()
    count = count + 1
    return make.put(count * STRIDE % keys)
  end
end

function operations.fill(make, keys, first)
  local total = keys - first
  local asked, answered, failed = 0, 0, 0
  -- Each connection may have one on the way when the last is asked for: some more are written anew.
  local goal = total + 2000
  response = function(status)
    answered = answered + 1
    if status ~= 200 then failed = failed + 1 end
    if answered % PROGRESS == 0 then
      io.write("progress ", math.min(answered, total), "\n")
      io.flush()
    end
    if answered == goal then
      io.write("filled ", failed, "\n")
      io.flush()
      wrk.thread:stop()
    end
  end
  return function()
    asked = asked + 1
    return make.put(first + asked * STRIDE % total)
  end
end

function init(args)
  local value_bytes = tonumber(args[3]) or 256
  local keys = tonumber(args[4]) or KEYS
  local prefix = args[5] or "bench-"
  local make = makers[args[1]](value_bytes, prefix)
  request = operations[args[2]](make, keys, tonumber(args[6]) or 0, args[7])
end

-- One line of figures that tests/bench/wrk.py reads.
function done(summary, latency, _)
  local errors = summary.errors
  io.write(string.format("figures %d %.6f %.3f %.3f %d %d %d %d %d\n",
    summary.requests, summary.duration / 1e6,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000,
    errors.connect, errors.read, errors.write, errors.status, errors.timeout))
end
