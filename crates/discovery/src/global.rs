//! Names that need no configuration: `/$/inet/HOST/PORT`, `/$/fixedinet`, `/$/nil`, `/$/fail`, and the
//! utility namers under their class names. What is nobody's is neg.

use std::{borrow::Cow, sync::Arc};

use names::{NameTree, Path};
use naming::{Addr, Bound, Live, Name, Namer, NamerTree};

use crate::{
    dns::{Dns, Keep},
    utility::{self, Answer},
};

/// The global namer. It gets whole paths.
///
/// # Panics
/// Outside a tokio runtime.
pub fn namer() -> Arc<dyn Namer> {
    Arc::new(Global { dns: Dns::new() })
}

struct Global {
    dns: Dns,
}

impl Namer for Global {
    fn lookup(&self, path: &Path) -> Live<NamerTree> {
        let texts: Vec<Cow<'_, str>> = path.labels().iter().map(|label| String::from_utf8_lossy(label)).collect();
        let texts: Vec<&str> = texts.iter().map(|text| &**text).collect();
        let constant = |tree| Live::constant(tree);
        match texts.as_slice() {
            ["$", kind @ ("inet" | "fixedinet"), host, port, residual @ ..] if number(port).is_some() => {
                let keep = if *kind == "inet" { Keep::Refreshed } else { Keep::Forever };
                let addr = self.dns.addr(host, number(port).unwrap_or_default(), keep);
                constant(leaf(path.take(4), residual, addr))
            }
            ["$", "inet" | "fixedinet", port, residual @ ..] if number(port).is_some() => {
                let addr = self.dns.addr("", number(port).unwrap_or_default(), Keep::Forever);
                constant(leaf(path.take(3), residual, addr))
            }
            ["$", "fail", ..] => constant(NameTree::Fail),
            ["$", "nil", ..] => constant(NameTree::Empty),
            ["$", class, rest @ ..] => self.utility(class, path, &from_texts(rest)),
            _ => constant(NameTree::Neg),
        }
    }
}

impl Global {
    /// `path` as a whole, and `rest` of it as the namer of that class sees it.
    fn utility(&self, class: &str, path: &Path, rest: &Path) -> Live<NamerTree> {
        match utility::lookup(class, rest) {
            Answer::Unknown => Live::failed(format!("Unknown namer: {class} for path: {path}")),
            Answer::Neg => Live::constant(NameTree::Neg),
            Answer::Rewrite(path) => Live::constant(NameTree::Leaf(Name::Path(path))),
            Answer::Failed(why) => Live::failed(why),
            Answer::Inet { below, host, port, residual } => {
                let addr = match port.parse() {
                    Ok(port) => self.dns.addr(&host, port, Keep::Refreshed),
                    Err(_) => Live::constant(Addr::Failed(format!("invalid port: {port}").into())),
                };
                let id = path.take(2).concat(&below);
                Live::constant(NameTree::Leaf(Name::Bound(Bound::new(id, residual, addr))))
            }
        }
    }
}

fn leaf(id: Path, residual: &[&str], addr: Live<Addr>) -> NamerTree {
    NameTree::Leaf(Name::Bound(Bound::new(id, from_texts(residual), addr)))
}

/// Labels that were read as text: what is no UTF-8 stays replaced, as in the original.
fn from_texts(labels: &[&str]) -> Path {
    Path::from_labels(labels).unwrap_or_else(|| unreachable!("labels of a path, read as text, are not empty"))
}

/// As Java reads an `int`: a sign is fine, the range is checked later.
fn number(text: &str) -> Option<i32> {
    text.parse().ok()
}
