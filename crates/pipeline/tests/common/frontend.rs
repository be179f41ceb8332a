//! Where requests enter: `/svc/world` by the fake control plane's dtab and the request's override,
//! down to the files of the registrations, and on to one of their addresses.

use std::path::{Path, PathBuf};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use names::{Dtab, NameTree, Path as Name};

use super::control::FakeControl;
use super::node::Node;

#[derive(Clone)]
struct Frontend {
    control: FakeControl,
    registrations: PathBuf,
    node: Option<Node>,
}

/// What a name comes to.
enum Bound {
    Neg,
    Fail,
    Addresses(Vec<String>),
}

/// With `node`, `/#/io.l5d.k8s/NAMESPACE/http/SERVICE` are its endpoints.
pub fn start(control: FakeControl, registrations: &Path, node: Option<Node>) -> String {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let frontend = Frontend { control, registrations: registrations.to_owned(), node };
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            axum::serve(listener, Router::new().fallback(answer).with_state(frontend)).await.unwrap();
        });
    });
    url
}

async fn answer(State(frontend): State<Frontend>, headers: HeaderMap) -> (StatusCode, String) {
    let own = headers.get("l5d-dtab").map(|value| Dtab::read(value.to_str().unwrap()).unwrap());
    let dtab = frontend.control.dtab("internal").concat(&own.unwrap_or_else(Dtab::empty));
    let Bound::Addresses(addresses) = frontend.bind(&dtab, &Name::read("/svc/world").unwrap(), 0) else {
        return (StatusCode::BAD_GATEWAY, "no hosts are available".to_owned());
    };
    if addresses.is_empty() {
        return (StatusCode::BAD_GATEWAY, "no hosts are available".to_owned());
    }
    let first = fastrand::usize(..addresses.len());
    for turn in 0..addresses.len() {
        // Refused connections are tried elsewhere, as a router does.
        let address = &addresses[(first + turn) % addresses.len()];
        if let Some(node) = &frontend.node {
            match node.answer(address) {
                Some(text) => return (StatusCode::OK, format!("Hello (frontend) {text}!")),
                None => continue,
            }
        }
        let client = reqwest::Client::builder().no_proxy().tls_backend_preconfigured(tls::client::nobody());
        let client = client.build().unwrap();
        if let Ok(response) = client.get(format!("http://{address}/")).send().await {
            let status = StatusCode::from_u16(response.status().as_u16()).unwrap();
            return (status, format!("Hello (frontend) {}!", response.text().await.unwrap_or_default()));
        }
    }
    (StatusCode::BAD_GATEWAY, "connection refused".to_owned())
}

impl Frontend {
    fn bind(&self, dtab: &Dtab, name: &Name, depth: u32) -> Bound {
        if depth > 50 {
            return Bound::Fail;
        }
        let shown = name.show();
        if let Some(file) = shown.strip_prefix("/#/io.l5d.fs/") {
            let file = file.split('/').next().unwrap();
            return match std::fs::read_to_string(self.registrations.join(file)) {
                Ok(text) => Bound::Addresses(text.lines().map(|line| line.replace(' ', ":")).collect()),
                Err(_) => Bound::Neg,
            };
        }
        if let (Some(rest), Some(node)) = (shown.strip_prefix("/#/io.l5d.k8s/"), &self.node) {
            let service = rest.rsplit('/').next().unwrap();
            return node.endpoints(service).map_or(Bound::Neg, Bound::Addresses);
        }
        self.tree(dtab, &dtab.lookup(name), depth)
    }

    fn tree(&self, dtab: &Dtab, tree: &NameTree<Name>, depth: u32) -> Bound {
        match tree {
            NameTree::Leaf(name) => self.bind(dtab, name, depth + 1),
            NameTree::Neg => Bound::Neg,
            NameTree::Fail => Bound::Fail,
            NameTree::Empty => Bound::Addresses(Vec::new()),
            NameTree::Alt(trees) => {
                let mut bound = trees.iter().map(|tree| self.tree(dtab, tree, depth + 1));
                bound.find(|bound| !matches!(bound, Bound::Neg)).unwrap_or(Bound::Neg)
            }
            NameTree::Union(branches) => {
                let live: Vec<(f64, Vec<String>)> = branches
                    .iter()
                    .filter_map(|branch| match self.tree(dtab, &branch.tree, depth + 1) {
                        Bound::Addresses(addresses) => Some((branch.weight, addresses)),
                        _ => None,
                    })
                    .collect();
                let total: f64 = live.iter().map(|(weight, _)| weight).sum();
                let mut drawn = fastrand::f64() * total;
                for (weight, addresses) in live {
                    drawn -= weight;
                    if drawn <= 0.0 {
                        return Bound::Addresses(addresses);
                    }
                }
                Bound::Neg
            }
        }
    }
}
