//! The call to the other service, through `http_proxy` by Go's rules.

use anyhow::{Context, bail};
use bytes::Bytes;
use hyper::HeaderMap;
use url::Url;

use crate::web;

/// Where to call.
#[derive(Debug)]
pub struct Upstream {
    client: reqwest::Client,
    url: Url,
}

impl Upstream {
    /// `environment` answers for `http_proxy` and `no_proxy`.
    pub fn new(target: &str, environment: impl Fn(&str) -> Option<String>) -> anyhow::Result<Upstream> {
        let url = Url::parse(&format!("http://{target}/")).with_context(|| format!("-target {target}: not a host"))?;
        let mut builder = reqwest::Client::builder().no_proxy().tls_backend_preconfigured(tls::client::nobody());
        if let Some(proxy) = proxy_for(&url, environment)? {
            builder = builder.proxy(reqwest::Proxy::http(proxy)?);
        }
        let client = builder.build().context("cannot set up the HTTP client")?;
        Ok(Upstream { client, url })
    }

    /// The target's answer, or the text of what went wrong.
    pub async fn call(&self, context: HeaderMap) -> Result<Bytes, String> {
        let request = self.client.get(self.url.clone()).headers(context);
        let response = request.send().await.map_err(|error| causes::chain(&error))?;
        let body = response.status();
        if body != reqwest::StatusCode::OK {
            return Err(format!("invalid response {}", body.as_u16()));
        }
        response.bytes().await.map_err(|error| causes::chain(&error))
    }
}

/// Go's `ProxyFromEnvironment`: small letters first, `HTTP_PROXY` not under CGI, never for this
/// machine, `no_proxy` with suffixes and ports.
fn proxy_for(url: &Url, environment: impl Fn(&str) -> Option<String>) -> anyhow::Result<Option<Url>> {
    let of = |small: &str, large: &str| {
        environment(small)
            .filter(|value| !value.is_empty())
            .or_else(|| environment(large).filter(|value| !value.is_empty()))
    };
    let in_cgi = environment("REQUEST_METHOD").is_some_and(|value| !value.is_empty());
    let Some(proxy) = environment("http_proxy")
        .filter(|value| !value.is_empty())
        .or_else(|| environment("HTTP_PROXY").filter(|value| !value.is_empty() && !in_cgi))
    else {
        return Ok(None);
    };
    if web::is_this_machine(url) || is_exempt(url, &of("no_proxy", "NO_PROXY").unwrap_or_default()) {
        return Ok(None);
    }
    let text = if proxy.contains("://") { proxy.clone() } else { format!("http://{proxy}") };
    let proxy = Url::parse(&text).with_context(|| format!("http_proxy={proxy}: not a URL"))?;
    if proxy.scheme() != "http" {
        bail!("http_proxy={proxy}: only http:// proxies are supported");
    }
    Ok(Some(proxy))
}

fn is_exempt(url: &Url, no_proxy: &str) -> bool {
    let host = url.host_str().unwrap_or("").to_ascii_lowercase();
    let port = url.port_or_known_default();
    no_proxy.split(',').map(str::trim).filter(|entry| !entry.is_empty()).any(|entry| {
        if entry == "*" {
            return true;
        }
        let (name, only_port) = match entry.rsplit_once(':') {
            Some((name, digits)) if digits.parse::<u16>().is_ok() => (name, digits.parse().ok()),
            _ => (entry, None),
        };
        let name = name.to_ascii_lowercase();
        let suffix = name.strip_prefix('*').unwrap_or(&name);
        let same = match suffix.strip_prefix('.') {
            Some(_) => host.ends_with(suffix),
            None => host == suffix || host.strip_suffix(suffix).is_some_and(|head| head.ends_with('.')),
        };
        same && only_port.is_none_or(|only| Some(only) == port)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(target: &str, environment: &[(&str, &str)], expected: Option<&str>) {
        let url = Url::parse(&format!("http://{target}/")).unwrap();
        let found = proxy_for(&url, |name| {
            environment.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string())
        });
        assert_eq!(found.unwrap().map(|url| url.to_string()).as_deref(), expected, "{target} {environment:?}");
    }

    #[test]
    fn the_proxy_is_chosen_as_go_does() {
        let proxy = ("http_proxy", "10.0.0.1:4140");
        let used = Some("http://10.0.0.1:4140/");
        check("world", &[], None);
        check("world", &[proxy], used);
        check("world", &[("HTTP_PROXY", "http://10.0.0.1:4140")], used);
        check("world", &[("HTTP_PROXY", "http://10.0.0.1:4140"), ("REQUEST_METHOD", "GET")], None);
        check("localhost:80", &[proxy], None);
        check("127.0.0.1:80", &[proxy], None);
        check("world", &[proxy, ("no_proxy", "x, world")], None);
        check("a.world", &[proxy, ("no_proxy", "world")], None);
        check("world", &[proxy, ("no_proxy", ".world")], used);
        check("aworld", &[proxy, ("no_proxy", "world")], used);
        check("world", &[proxy, ("no_proxy", "world:81")], used);
        check("world:81", &[proxy, ("no_proxy", "world:81")], None);
        check("world", &[proxy, ("no_proxy", "*")], None);
    }
}
