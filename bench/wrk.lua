-- The request of every closed loop, and what wrk found out as one line of JSON (times in microseconds).
-- BENCH_BODY: send that many bytes with POST instead of a GET.
wrk.headers["Host"] = "web.bench"
wrk.headers["User-Agent"] = "bench/1"
wrk.headers["Accept"] = "*/*"
wrk.headers["Accept-Encoding"] = "gzip"
wrk.headers["X-Request-Id"] = "0b9a7e52-61d4-4f7e-9c36-2f8d1c40aa17"

local body = os.getenv("BENCH_BODY")
if body then
  wrk.method = "POST"
  wrk.body = ("b"):rep(tonumber(body))
end

done = function(summary, latency)
  local failed = 0
  for _, count in pairs(summary.errors) do failed = failed + count end
  print(("RESULT {\"requests\":%d,\"seconds\":%.6f,\"p50\":%d,\"p99\":%d,\"p999\":%d,\"errors\":%d}"):format(
    summary.requests, summary.duration / 1e6,
    latency:percentile(50), latency:percentile(99), latency:percentile(99.9), failed))
end
