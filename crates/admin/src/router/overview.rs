//! `/`: this process, its routers, and the chosen one with all that it does.

use askama::Template;
use serde_json::{Value, json};

use super::{Addr, Client, Column, Figure, Figures, Overview, Request, Router, whole_millis};
use crate::explain::newest;
use crate::parts::{Dots, Icon, Mark, Name, Share, Spark, Src, Ver};
use crate::{Data, Shell, format};

/// Columns of ten minutes: what was before the process began is a gap.
const COLUMNS: usize = 120;

/// From here on the rest of a table is shown on demand.
const ROWS: usize = 30;

/// The overview of one process.
#[derive(Debug, Template)]
#[template(path = "router/overview.html")]
pub struct OverviewPage {
    pub shell: Shell,
    /// With the columns of the chosen router.
    pub overview: Overview,
    /// Label of the router shown below the table.
    pub chosen: String,
    /// Newest first, of the chosen router.
    pub requests: Vec<Request>,
    /// `failed`, `overridden`, `slow`, or empty.
    pub filter: String,
}

/// A service with the clients that it went to.
struct Service<'a> {
    figures: &'a Figures,
    clients: Vec<Via<'a>>,
}

/// A client of one service.
struct Via<'a> {
    client: &'a Client,
    share: Option<Share>,
}

impl OverviewPage {
    fn router(&self) -> Option<&Router> {
        self.overview.routers.iter().find(|router| router.label == self.chosen)
    }

    fn data(&self) -> Data {
        Data(self.router().and_then(Router::only_server).map_or(Value::Null, charts))
    }

    fn has_charts(&self) -> bool {
        self.router().and_then(Router::only_server).is_some_and(|server| server.columns.len() > 1)
    }

    /// The first line: what is broken, or that nothing is.
    fn health(&self) -> Mark {
        let without = self.overview.routers.iter().map(|router| router.without_endpoints).sum::<u64>();
        let requests =
            self.overview.routers.iter().flat_map(|router| &router.servers).filter_map(|server| server.requests);
        if without > 0 {
            Mark::new("failed", "bad", format!("{} without endpoints", format::counted(without, "client")))
        } else if requests.sum::<u64>() == 0 {
            Mark::new("idle", "ring", "Ready, no traffic")
        } else {
            Mark::new("healthy", "ok", "All clients have endpoints")
        }
    }

    fn up(&self) -> String {
        format::span_ms(self.overview.process.uptime_ms)
    }

    fn memory(&self) -> Option<String> {
        self.overview.process.resident_bytes.map(format::bytes)
    }

    /// Those that serve what they last knew, each with why.
    fn stale(&self) -> Vec<&Router> {
        self.overview.routers.iter().filter(|router| router.interpreter.stale.is_some()).collect()
    }

    fn explain_href(&self, path: &str) -> String {
        format!("/delegator?router={}&path={}", crate::web::segment(&self.chosen), crate::web::segment(path))
    }

    fn filters(&self) -> [(&'static str, &'static str); 4] {
        [("", "All"), ("failed", "Failed"), ("overridden", "Overridden"), ("slow", "Slow")]
    }

    fn filter_href(&self, filter: &str) -> String {
        format!("/?router={}&filter={filter}", crate::web::segment(&self.chosen))
    }

    fn src(&self, path: &str) -> Src {
        self.shell.src(&format!("{path}?router={}", crate::web::segment(&self.chosen)))
    }

    /// All services without their ten minutes, which of thousands would be most of it.
    fn all_src(&self) -> Src {
        self.shell.src(&format!("/admin/overview.json?router={}&columns=none", crate::web::segment(&self.chosen)))
    }

    fn is_new(&self, id: &str) -> bool {
        self.router().is_some_and(|router| router.is_newest(id))
    }

    fn went_to(&self, request: &Request) -> Option<Ver> {
        let attempt = request.last()?;
        Some(Ver { name: format::tail(&attempt.client).to_owned(), is_new: self.is_new(&attempt.client) })
    }
}

/// A value for each column, ending now.
fn ten_minutes(columns: &[Column], value: impl Fn(&Column) -> Option<f64>) -> Vec<Option<f64>> {
    let before = std::iter::repeat_n(None, COLUMNS.saturating_sub(columns.len()));
    before.chain(columns.iter().map(value)).collect()
}

/// Forty points: more cannot be seen in a table's cell.
fn spark(columns: &[Column]) -> Spark {
    let mean = |values: &[Option<f64>]| {
        let known = values.iter().flatten();
        let count = known.clone().count();
        (count > 0).then(|| known.sum::<f64>() / count as f64)
    };
    Spark(ten_minutes(columns, |column| column.per_second).chunks(COLUMNS / 40).map(mean).collect())
}

/// `{"rate","lat"}` for `Chart.lines` and `Chart.bands`.
fn charts(server: &Figures) -> Value {
    let columns = &server.columns;
    let rate = |count: fn(&Column) -> u64| {
        ten_minutes(columns, |column| (column.seconds > 0.0).then(|| count(column) as f64 / column.seconds))
    };
    let latency =
        |value: fn(&super::Latency) -> f64| ten_minutes(columns, |column| column.latency_ms.as_ref().map(value));
    let step = columns.last().map_or(5.0, |column| column.seconds.round());
    let (p50, p90, p99) = (latency(|at| at.p50), latency(|at| at.p90), latency(|at| at.p99));
    json!({
        "rate": {
            "series": [
                { "name": "succeeded", "v": rate(|column| column.requests - column.failures.min(column.requests)), "cls": "c-ok", "fill": 1 },
                { "name": "failed", "v": rate(|column| column.failures), "cls": "c-bad", "fill": 1, "hush": 1 },
            ],
            "unit": "rate", "step": step, "h": 150, "least": 1,
        },
        "lat": {
            "p50": p50, "p90": p90, "p99": p99, "step": step, "unit": "ms",
            "read": [{ "name": "p50", "v": p50 }, { "name": "p90", "v": p90 }, { "name": "p99", "v": p99 }],
        },
    })
}

impl Router {
    /// Latencies of several servers cannot be added up, so figures and charts are of the only one.
    fn only_server(&self) -> Option<&Figures> {
        match self.servers.as_slice() {
            [server] => Some(server),
            _ => None,
        }
    }

    fn href(&self) -> String {
        format!("/?router={}", crate::web::segment(&self.label))
    }

    /// `4 services, 5 clients`
    fn counts(&self) -> String {
        let services = format::counted(self.service_count as u64, "service");
        format!("{services}, {}", format::counted(self.client_count as u64, "client"))
    }

    /// Where not all services are listed.
    fn cut(&self) -> Option<String> {
        let (shown, all) = (self.services.len() as u64, self.service_count as u64);
        let text = || format!("The {} busiest of {}.", format::int(shown), format::counted(all, "service"));
        (shown < all).then(text)
    }

    fn listens(&self) -> String {
        self.servers.iter().map(|server| server.listens()).collect::<Vec<_>>().join(", ")
    }

    /// Of all servers together.
    fn total(&self) -> Column {
        let last = self.servers.iter().filter_map(|server| server.last.as_ref());
        let mut total = Column { seconds: 0.0, requests: 0, failures: 0, per_second: None, latency_ms: None };
        for column in last {
            total.requests += column.requests;
            total.failures += column.failures;
            total.per_second = Some(total.per_second.unwrap_or(0.0) + column.per_second.unwrap_or(0.0));
        }
        total.latency_ms = self.only_server().and_then(|server| server.last.as_ref()).and_then(|last| last.latency_ms);
        total
    }

    fn rate(&self) -> Figure {
        Figure::of(self.total().per_second, format::rate)
    }

    fn success(&self) -> Figure {
        Figure::of(self.total().success(), format::percent)
    }

    fn is_failing(&self) -> bool {
        self.total().success().is_some_and(|success| success < 0.99)
    }

    fn p50(&self) -> Figure {
        Figure::of(self.total().latency_ms.map(|latency| latency.p50), whole_millis)
    }

    fn p99(&self) -> Figure {
        Figure::of(self.total().latency_ms.map(|latency| latency.p99), whole_millis)
    }

    fn p90(&self) -> Figure {
        Figure::of(self.total().latency_ms.map(|latency| latency.p90), whole_millis)
    }

    fn failures(&self) -> u64 {
        self.total().failures
    }

    fn in_flight(&self) -> String {
        let pending = self.servers.iter().filter_map(|server| server.pending).collect::<Vec<_>>();
        match pending.is_empty() {
            true => "no requests yet".to_owned(),
            false => format!("{} in flight", format::int(pending.iter().sum::<f64>() as u64)),
        }
    }

    fn spark(&self) -> Option<Spark> {
        let columns = &self.only_server()?.columns;
        (!columns.is_empty()).then(|| spark(columns))
    }

    fn is_newest(&self, id: &str) -> bool {
        let services = self.clients_of_same(id);
        newest(services.into_iter()).as_deref() == Some(format::tail(id))
    }

    /// Tails of the clients that differ from this one only in their number.
    fn clients_of_same(&self, id: &str) -> Vec<&str> {
        let stem = |name: &str| name.trim_end_matches(|char: char| char.is_ascii_digit()).to_owned();
        let wanted = stem(format::tail(id));
        let tails = self.clients.iter().map(|client| format::tail(&client.figures.name));
        tails.filter(|tail| stem(tail) == wanted).collect()
    }

    /// Busiest first.
    fn by_service(&self) -> Vec<Service<'_>> {
        let mut services = self.services.iter().map(|figures| self.service(figures)).collect::<Vec<_>>();
        let rate = |service: &Service<'_>| service.figures.last().and_then(|last| last.per_second).unwrap_or(0.0);
        services.sort_by(|one, other| rate(other).total_cmp(&rate(one)));
        services
    }

    fn service<'a>(&'a self, figures: &'a Figures) -> Service<'a> {
        let serves = |client: &&Client| client.services.iter().any(|service| service.name == figures.name);
        let clients = self.clients.iter().filter(serves).collect::<Vec<_>>();
        // What a client did in the last minute is this service's only if it has no other.
        let is_own = clients.iter().all(|client| client.services.len() == 1);
        let last = |client: &Client| client.figures.last.as_ref().map_or(0, |last| last.requests);
        let sum = clients.iter().map(|client| last(client)).sum::<u64>();
        let via = |client: &'a Client| Via {
            client,
            share: (is_own && sum > 0).then(|| Share {
                share: last(client) as f64 / sum as f64,
                class: if self.is_newest(&client.figures.name) { "c-new" } else { "c-cur" },
            }),
        };
        Service { figures, clients: clients.into_iter().map(via).collect() }
    }
}

impl Service<'_> {
    fn spark(&self) -> Option<Spark> {
        let columns = &self.figures.columns;
        (!columns.is_empty()).then(|| spark(columns))
    }
}

impl Figures {
    /// `127.0.0.1:4140` of the metric scope `127.0.0.1/4140`.
    fn listens(&self) -> String {
        match self.name.rsplit_once('/') {
            Some((ip, port)) => format!("{}:{port}", ip.trim_start_matches('/')),
            None => self.name.clone(),
        }
    }

    fn since_start(&self) -> String {
        self.requests.map_or_else(|| format::NONE.to_owned(), format::int)
    }

    fn in_flight(&self) -> String {
        self.pending.map_or_else(|| format::NONE.to_owned(), |pending| format::int(pending as u64))
    }
}

impl Client {
    fn name(&self) -> Name {
        Name { path: self.figures.path(), href: None }
    }

    fn endpoints(&self) -> Vec<&str> {
        match &self.addr {
            Some(Addr::Bound { endpoints }) => endpoints.iter().map(|endpoint| endpoint.addr.as_str()).collect(),
            _ => Vec::new(),
        }
    }

    fn dots(&self) -> Dots {
        let good = self.endpoints().len();
        Dots { label: format::counted(good as u64, "endpoint"), good, ..Dots::default() }
    }

    fn mark(&self) -> Mark {
        match &self.addr {
            Some(Addr::Bound { endpoints }) if endpoints.is_empty() => Mark::new("failed", "bad", "No endpoint"),
            Some(Addr::Bound { endpoints }) => {
                Mark::new("healthy", "ok", format::counted(endpoints.len() as u64, "endpoint"))
            }
            Some(Addr::Neg) => Mark::new("failed", "bad", "Does not exist"),
            Some(Addr::Failed { .. }) => Mark::new("failed", "bad", "Failed"),
            Some(Addr::Pending) => Mark::new("stale", "clock", "Not known yet"),
            None => Mark::new("idle", "ring", "Not in use now"),
        }
    }

    fn cause(&self) -> &str {
        match &self.addr {
            Some(Addr::Failed { cause }) => cause,
            _ => "",
        }
    }
}
