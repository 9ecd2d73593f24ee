-- wrk: each of some requests once, by one thread and some connections for each member.
--
--   wrk -t3 -c63 -d60s -s tests/bench/register.lua http://127.0.0.1:8500 -- \
--       SYSTEM FILES ADDRESS...
--
-- There is a thread for each ADDRESS, `HOST:PORT`; its requests are in the file FILES-N, N from 0 on, one
-- after the other with a zero byte behind each. SYSTEM is hstore or etcd. Of etcd each of them is a put that
-- needs a lease: the thread asks for one first, and writes its ID over the `LEASE` in the request.
--
-- A thread that is done says `done ANSWERED REFUSED BEGUN ENDED`, times in seconds of one clock.

local ffi = require("ffi")
ffi.cdef [[
typedef struct { long seconds; long nanoseconds; } hstore_time;
int clock_gettime(int clock, hstore_time *time);
]]

local MONOTONIC = 1
-- As many characters as an ID has at most: a request may not become longer.
local PLACE = "LEASE" .. string.rep(" ", 20)

local function now()
  local time = ffi.new("hstore_time")
  ffi.C.clock_gettime(MONOTONIC, time)
  return tonumber(time.seconds) + tonumber(time.nanoseconds) / 1e9
end

local threads = 0

function setup(thread)
  thread:set("number", threads)
  threads = threads + 1
end

local requests, sent, answered, refused, begun = {}, 0, 0, 0, nil
local leases, grant = {}, nil

function init(args)
  local address = args[3 + number]
  local host, port = address:match("^(.+):(%d+)$")
  wrk.thread.addr = wrk.lookup(host, port)[1]
  for one in io.open(args[2] .. "-" .. number, "rb"):read("*a"):gmatch("([^%z]+)%z") do
    requests[#requests + 1] = one
  end
  if args[1] == "etcd" then
    local body = '{"TTL":"600"}'
    grant = "POST /v3/lease/grant HTTP/1.1\r\nHost: " .. address
      .. "\r\nContent-Length: " .. #body .. "\r\n\r\n" .. body
  end
end

local function next_request()
  -- When all were sent, some are still under way. A connection that is free sends the first once more: at
  -- most as many as there are connections, of either system.
  sent = sent + 1
  return requests[sent] or requests[1]
end

function request()
  begun = begun or now()
  if grant == nil then return next_request() end
  local lease = table.remove(leases)
  if lease == nil then return grant end
  local whole = next_request()
  local at = whole:find(PLACE, 1, true)
  return whole:sub(1, at - 1) .. lease .. string.rep(" ", #PLACE - #lease) .. whole:sub(at + #PLACE)
end

function response(status, _, body)
  if status ~= 200 then refused = refused + 1 end
  if grant ~= nil then
    local lease = body:match('"ID":"(%d+)"')
    if lease ~= nil then
      leases[#leases + 1] = '"' .. lease .. '"'
      return
    end
  end
  answered = answered + 1
  if answered == #requests then
    io.write(string.format("done %d %d %.6f %.6f\n", answered, refused, begun, now()))
    io.flush()
    wrk.thread:stop()
  end
end
