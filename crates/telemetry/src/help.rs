//! What metrics mean, by their path with a star for each scope.

/// One sentence. A path without one in the table is explained by where it stands.
pub(crate) fn help(shape: &str) -> String {
    let known = TABLE.iter().find(|(end, _)| shape == *end || shape.strip_suffix(end).is_some_and(is_scope));
    match known {
        Some((_, text)) => (*text).to_owned(),
        None if is_status(shape) => "Answers with this status.".to_owned(),
        None => format!("{shape} of /admin/metrics.json."),
    }
}

/// What may stand before an entry of the table.
fn is_scope(start: &str) -> bool {
    let is_router_part =
        matches!(start, "rt/*/" | "rt/*/server/*/" | "rt/*/service/*/" | "rt/*/client/*/" | "rt/*/client/*/service/*/");
    let interface = start.strip_prefix("interface/").and_then(|rest| rest.strip_suffix('/'));
    is_router_part || interface.is_some_and(|kind| !kind.contains('/')) || matches!(start, "admin/" | "server/")
}

/// `…/status/503`
fn is_status(shape: &str) -> bool {
    let status = shape.rsplit_once("/status/").map_or("", |(_, status)| status);
    status.len() == 3 && status.bytes().all(|digit| digit.is_ascii_digit())
}

const TABLE: &[(&str, &str)] = &[
    ("requests", "Requests that ended or are under way."),
    ("success", "Requests that the response classifier calls a success."),
    ("failures", "Requests that failed."),
    ("failures/*", "Requests that failed, by cause."),
    ("exn/*", "Exceptions, by class."),
    ("pending", "Requests under way."),
    ("request_latency_ms", "Milliseconds from a request's head to the end of its answer."),
    ("status/error", "Requests that ended without an answer."),
    ("status/1XX", "Answers with a status of 100 to 199."),
    ("status/2XX", "Answers with a status of 200 to 299."),
    ("status/3XX", "Answers with a status of 300 to 399."),
    ("status/4XX", "Answers with a status of 400 to 499."),
    ("status/5XX", "Answers with a status of 500 to 599."),
    ("time/error", "Milliseconds of requests that ended without an answer."),
    ("time/1XX", "Milliseconds until an answer with a status of 100 to 199."),
    ("time/2XX", "Milliseconds until an answer with a status of 200 to 299."),
    ("time/3XX", "Milliseconds until an answer with a status of 300 to 399."),
    ("time/4XX", "Milliseconds until an answer with a status of 400 to 499."),
    ("time/5XX", "Milliseconds until an answer with a status of 500 to 599."),
    ("nacks", "Requests that were refused so that they can be sent elsewhere."),
    ("idle", "Connections that were closed because nothing came for `idleTimeMs`."),
    ("lifetime", "Connections that were closed because they were older than `lifeTimeMs`."),
    ("read_timeout", "Connections that were closed because no bytes came in time."),
    ("write_timeout", "Connections that were closed because their bytes were not taken in time."),
    ("tls/connections", "TLS connections that are open."),
    ("full", "Times that connections had to wait for a place."),
    ("refused/admission", "Connections that were refused before they had a place."),
    ("refused/body_too_long", "Requests whose body was too long."),
    ("refused/body_too_late", "Requests whose body did not come in time."),
    ("refused/body_no_room", "Requests for whose body there was no room."),
    ("originator", "1 for a router with `originator: true`."),
    ("access_log/dropped_lines", "Lines of the access log that could not be written in time."),
    ("connects", "Connections that were opened."),
    ("connections", "Connections that are open."),
    ("closes", "Connections that were closed."),
    ("received_bytes", "Bytes received."),
    ("sent_bytes", "Bytes sent."),
    ("connection_duration", "Milliseconds that connections lasted."),
    ("connection_requests", "Requests per connection."),
    ("connection_received_bytes", "Bytes received per connection."),
    ("connection_sent_bytes", "Bytes sent per connection."),
    ("retries/total", "Requests that were tried again after an answer that the classifier calls retryable."),
    ("retries/per_request", "Retries per request."),
    ("retries/budget", "Retries that could be paid now."),
    ("retries/budget_exhausted", "Retries that were not made because the budget was empty."),
    ("retries/requeues", "Requests that were sent again because they had never been sent."),
    ("retries/requeues_per_request", "Requeues per request."),
    ("retries/request_limit", "Requests that used up the requeues that one request may have."),
    ("retries/cannot_retry", "Requests that could not be sent again."),
    ("retries/not_open", "Requests that were not sent again because no endpoint was open."),
    ("connect_latency_ms", "Milliseconds to connect to an endpoint."),
    ("failed_connect_latency_ms", "Milliseconds until an attempt to connect failed."),
    ("cancelled_connects", "Attempts to connect that nobody waited for any more."),
    ("service_creation/failures", "Times that no connection could be had."),
    ("pool_size", "Connections of the pool, busy and idle."),
    ("pool_cached", "Connections of the pool that are idle."),
    ("pool_waiters", "Requests that wait for a connection."),
    ("pool_num_waited", "Requests that had to wait for a connection."),
    ("pool_num_too_many_waiters", "Requests that failed because too many waited for a connection."),
    ("available", "1 if an endpoint is open."),
    ("loadbalancer/size", "Endpoints."),
    ("loadbalancer/available", "Endpoints that are open."),
    ("loadbalancer/busy", "Endpoints that are avoided."),
    ("loadbalancer/closed", "Endpoints that are known to take no connections."),
    ("loadbalancer/load", "Requests outstanding at endpoints."),
    ("loadbalancer/meanweight", "Mean weight of endpoints."),
    ("loadbalancer/num_weight_classes", "Different weights of endpoints."),
    ("loadbalancer/busy_weight_classes", "Classes of weights without an open endpoint, as many as there ever were."),
    ("loadbalancer/rebuilds", "Picks for which all endpoints were looked at."),
    ("loadbalancer/algorithm/p2c_least_loaded", "1 where this balancer is in use."),
    ("loadbalancer/algorithm/p2c_peak_ewma", "1 where this balancer is in use."),
    ("loadbalancer/algorithm/aperture_least_loaded", "1 where this balancer is in use."),
    ("loadbalancer/algorithm/heap_least_loaded", "1 where this balancer is in use."),
    ("loadbalancer/algorithm/round_robin", "1 where this balancer is in use."),
    ("loadbalancer/adds", "Endpoints that were added."),
    ("loadbalancer/removes", "Endpoints that were removed."),
    ("loadbalancer/updates", "Updates of the set of endpoints."),
    ("loadbalancer/max_effort_exhausted", "Picks that found no open endpoint in the tries that they had."),
    ("failure_accrual/removals", "Times that an endpoint was marked dead."),
    ("failure_accrual/revivals", "Times that an endpoint came back."),
    ("failure_accrual/probes", "Times that a dead endpoint could be probed."),
    ("failure_accrual/removed_for_ms", "Milliseconds for which endpoints were marked dead."),
    ("bindcache/path/misses", "Names that had to be bound."),
    ("failfast/marked_dead", "Times that an endpoint was avoided because a connection to it failed."),
    ("failfast/marked_available", "Times that such an endpoint came back."),
    ("nack_admission_control/dropped_requests", "Requests that were refused because the endpoints refuse most."),
    ("nack_admission_control/ema_value", "Share of requests that endpoints take, a moving average."),
    ("bindcache/path/evicts", "Names that went because there were too many."),
    ("bindcache/path/expires", "Names that went because nobody asked for them."),
    ("bindcache/path/oneshots", "Names that were bound for one request, because all others were in use."),
    ("bindcache/tree/misses", "Trees that had to be made ready."),
    ("bindcache/tree/evicts", "Trees that went because there were too many."),
    ("bindcache/tree/expires", "Trees that went because nobody asked for them."),
    ("bindcache/tree/oneshots", "Trees that were made for one request, because all others were in use."),
    ("bindcache/bound/misses", "Leaves of trees that had to be made ready."),
    ("bindcache/bound/evicts", "Leaves of trees that went because there were too many."),
    ("bindcache/bound/expires", "Leaves of trees that went because nobody asked for them."),
    ("bindcache/bound/oneshots", "Leaves of trees that were made for one request, because all others were in use."),
    ("bindcache/client/evicts", "Clients that went because there were too many."),
    ("bindcache/client/expires", "Clients that went because nobody used them."),
    ("bindcache/client/oneshots", "Clients that were made for one request, because all others were in use."),
    ("bindcache/client/misses", "Clients that had to be made."),
    ("http/route/*/requests", "Requests, by the route that answered."),
    ("deploys/pipeline/*/running", "Deploys of the journal that go on by themselves."),
    ("deploys/pipeline/*/waiting", "Deploys of the journal that wait at a gate."),
    ("deploys/pipeline/*/succeeded", "Deploys of the journal that succeeded."),
    ("deploys/pipeline/*/reverted", "Deploys of the journal that were reverted."),
    ("deploys/pipeline/*/failed", "Deploys of the journal that need a person."),
    ("gates/waiting", "Deploys that wait for a person at a gate."),
    ("gates/longest_wait_seconds", "Seconds for which the one that waits for longest has waited."),
    ("dtabstore/writes", "Changes of dtabs that were stored."),
    ("dtabstore/refused", "Changes of dtabs that were refused."),
    ("follow/opened", "Streams on which routers follow a namespace, since the start."),
    ("follow/trees", "Trees that were sent to routers."),
    ("follow/addrs", "Sets of endpoints that were sent to routers."),
    ("kubernetes/watches", "Watches of clusters."),
    ("kubernetes/failing_watches", "Watches of clusters that are in trouble."),
    ("kubernetes/oldest_confirmed_seconds", "Seconds since the watch that is furthest behind was last confirmed."),
    ("kubernetes/list_requests", "Lists that clusters were asked for."),
    ("kubernetes/watch_requests", "Watches that were begun, since the start."),
    ("kubernetes/events", "Changes that watches told of."),
    ("tls/stale", "Sections `tls` whose newest files are not in use."),
    ("tls/reloads", "Times that certificates were read anew."),
    ("tls/reload_failures", "Times that certificates could not be read anew."),
    ("tls/expires_in_seconds", "Seconds until the first certificate ends."),
    ("worker/pause_us", "Microseconds that work which is no request held a worker up."),
    ("worker/pause_cpu_us", "Microseconds of such work that the worker was on a processor."),
    ("process/resident_bytes", "Resident memory."),
    ("process/threads", "Threads."),
    ("process/open_fds", "Open file descriptors."),
    ("process/cpu_seconds", "Processor time used."),
    ("process/uptime_seconds", "Seconds since the start."),
    ("jvm/uptime", "Milliseconds since the start, under the original's name."),
    ("jvm/start_time", "When the process started, in milliseconds since 1970, under the original's name."),
    ("jvm/num_cpus", "Processors that the process may use, under the original's name."),
    ("telemetry/overflowed", "Names that came too late for a series of their own and share `overflow`."),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_has_a_sentence() {
        assert_eq!(help("rt/*/server/*/requests"), "Requests that ended or are under way.");
        assert_eq!(help("rt/*/client/*/failures/*"), "Requests that failed, by cause.");
        assert_eq!(help("jvm/num_cpus"), "Processors that the process may use, under the original's name.");
        assert_eq!(help("rt/*/service/*/my/requests"), "rt/*/service/*/my/requests of /admin/metrics.json.");
        assert_eq!(help("rt/*/server/*/status/503"), "Answers with this status.");
        assert_eq!(help("http/route/*/status/404"), "Answers with this status.");
        assert_eq!(help("interface/io.l5d.httpController/connections"), "Connections that are open.");
        assert_eq!(help("odd/pending"), "odd/pending of /admin/metrics.json.");
    }
}
