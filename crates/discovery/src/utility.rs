//! The utility namers: pure rewrites under `/$/` and the class name that they have in the original.
//!
//! Input that is too short or does not fit is neg, so that alternates go on.

use names::Path;

/// What a utility namer makes of the path behind its class name.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    /// No such class.
    Unknown,
    Neg,
    Failed(String),
    /// Looked up again.
    Rewrite(Path),
    /// `rinet`: an id below the class name, and where it leads.
    Inet {
        below: Path,
        host: String,
        port: String,
        residual: Path,
    },
}

pub(crate) fn lookup(class: &str, path: &Path) -> Answer {
    match class {
        "io.buoyant.http.anyMethod" => element(path, 0, is_method, |_| Some(vec![])),
        "io.buoyant.http.anyMethodPfx" => element(path, 1, is_method, |_| Some(vec![])),
        "io.buoyant.http.anyHost" => element(path, 0, is_host, |_| Some(vec![])),
        "io.buoyant.http.anyHostPfx" => element(path, 1, is_host, |_| Some(vec![])),
        "io.buoyant.http.subdomainOf" => subdomain(path, 0),
        "io.buoyant.http.subdomainOfPfx" => subdomain(path, 1),
        "io.buoyant.http.domainToPath" => element(path, 0, is_host, domain_labels),
        "io.buoyant.http.domainToPathPfx" => element(path, 1, is_host, domain_labels),
        "io.buoyant.hostportPfx" => element(path, 1, |_| true, |text| host_and_port(text).map(|(h, p)| vec![h, p])),
        "io.buoyant.porthostPfx" => element(path, 1, |_| true, |text| host_and_port(text).map(|(h, p)| vec![p, h])),
        "io.buoyant.rinet" => reversed_inet(path),
        "io.buoyant.namer.zk.leader" => Answer::Failed(format!("{class} is not supported yet")),
        _ => Answer::Unknown,
    }
}

/// Replaces the element number `at` by what `change` makes of it; neg where it does not fit.
fn element(
    path: &Path,
    at: usize,
    fits: impl Fn(&str) -> bool,
    change: impl Fn(&str) -> Option<Vec<String>>,
) -> Answer {
    let Some(label) = path.labels().get(at) else { return Answer::Neg };
    let text = String::from_utf8_lossy(label);
    let Some(labels) = Some(&*text).filter(|text| fits(text)).and_then(change) else { return Answer::Neg };
    match Path::from_labels(&labels) {
        Some(middle) => Answer::Rewrite(path.take(at).concat(&middle).concat(&path.drop_first(at + 1))),
        None => Answer::Failed(format!("requirement failed: empty element in `{text}`")),
    }
}

fn is_method(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_uppercase())
}

fn is_host(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b':' | b'_' | b'-');
    !text.is_empty() && text.bytes().all(fits)
}

/// `/DOMAIN/…/SUB.DOMAIN:PORT/…`, the domain in front of `between` elements that stay.
fn subdomain(path: &Path, between: usize) -> Answer {
    let [domain, ..] = path.labels() else { return Answer::Neg };
    let domain = format!(".{}", String::from_utf8_lossy(domain));
    element(&path.drop_first(1), between, is_host, |text| {
        let host = match text.find(':') {
            Some(colon) if colon > 0 => &text[..colon],
            _ => text,
        };
        let sub = host.strip_suffix(&domain).filter(|sub| !sub.is_empty())?;
        Some(vec![sub.to_owned()])
    })
}

/// The labels from the top-level domain down. Trailing dots do not count, other empty labels are errors.
fn domain_labels(text: &str) -> Option<Vec<String>> {
    let text = text.trim_end_matches('.');
    if text.is_empty() {
        return Some(Vec::new());
    }
    Some(text.rsplit('.').map(str::to_owned).collect())
}

fn host_and_port(text: &str) -> Option<(String, String)> {
    let mut parts = text.trim_end_matches(':').split(':');
    let (host, port) = (parts.next()?, parts.next()?);
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_port = port.len() <= 63 && !port.starts_with('-') && !port.is_empty() && port.bytes().all(fits);
    (parts.next().is_none() && is_port).then(|| (host.to_owned(), port.to_owned()))
}

/// `/PORT/HOST/…`. The id is read back from the text, as in the original: what needs escapes fails.
fn reversed_inet(path: &Path) -> Answer {
    let [port, host, ..] = path.labels() else { return Answer::Neg };
    let (port, host) = (String::from_utf8_lossy(port).into_owned(), String::from_utf8_lossy(host).into_owned());
    match Path::read(&format!("/{port}/{host}")) {
        Ok(below) => Answer::Inet { below, host, port, residual: path.drop_first(2) },
        Err(error) => Answer::Failed(error.to_string()),
    }
}
