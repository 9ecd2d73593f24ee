-- wrk: one line of figures that tests/bench/compare.py reads.
done = function(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format("figures %.1f %.3f %.3f %d\n",
    summary.requests / summary.duration * 1e6, latency:percentile(50) / 1000,
    latency:percentile(99) / 1000,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
