//! What stands around every page: the parts, who answers, what needs a person.

use axum::http::{HeaderMap, header};
use jiff::Timestamp;
use serde::{Deserialize, Deserializer};

use crate::format;
use crate::parts::Src;

/// The three parts, each of which may be another process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Pipeline,
    Router,
    Control,
}

/// Where the pages of the parts are, `http://localhost:9990`. A part without an address is not linked to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Links {
    #[serde(deserialize_with = "address")]
    pub pipeline: Option<String>,
    #[serde(deserialize_with = "address")]
    pub router: Option<String>,
    #[serde(deserialize_with = "address")]
    pub control: Option<String>,
}

/// Only an address of the web may become a link.
fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    if text.starts_with("http://") || text.starts_with("https://") {
        return Ok(Some(text.trim_end_matches('/').to_owned()));
    }
    Err(serde::de::Error::custom(format!("{text}: write an address that begins with http:// or https://")))
}

/// Something in this part that needs a look.
#[derive(Debug, Clone)]
pub struct Count {
    pub number: usize,
    /// `deploy waits for a person`
    pub what: String,
    /// Broken, not only waiting.
    pub is_bad: bool,
}

/// The frame of a page.
#[derive(Debug, Clone)]
pub struct Shell {
    pub part: Part,
    /// `pipeline · localhost:8080`
    pub who: String,
    pub links: Links,
    /// Host and port at which the endpoints behind this page answer, for the curls.
    pub api: String,
    pub now: Timestamp,
    pub count: Option<Count>,
}

/// One entry of the navigation.
#[derive(Debug)]
pub(crate) struct Tab<'a> {
    pub(crate) part: Part,
    pub(crate) href: &'a str,
    pub(crate) is_here: bool,
    pub(crate) count: Option<&'a Count>,
}

impl Shell {
    /// `name` is the process: `pipeline`, `namerd`. The address is the one the browser used.
    pub fn new(part: Part, name: &str, headers: &HeaderMap, links: Links) -> Shell {
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        Shell {
            part,
            who: if host.is_empty() { name.to_owned() } else { format!("{name} · {host}") },
            links,
            api: host.to_owned(),
            now: Timestamp::now(),
            count: None,
        }
    }

    pub fn version(&self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }

    pub(crate) fn tabs(&self) -> Vec<Tab<'_>> {
        let links = &self.links;
        let all = [(Part::Pipeline, &links.pipeline), (Part::Router, &links.router), (Part::Control, &links.control)];
        let tabs = all.into_iter().filter_map(|(part, link)| {
            let is_here = part == self.part;
            let href = if is_here { "/" } else { link.as_deref()? };
            Some(Tab { part, href, is_here, count: self.count.as_ref().filter(|_| is_here) })
        });
        tabs.collect()
    }

    /// The endpoint behind a card, whose press copies a curl.
    pub(crate) fn src(&self, path: &str) -> Src {
        let url = format!("{}{path}", self.api);
        Src { copy: format!("curl -s {}", format::shell_word(&url)), path: path.to_owned() }
    }

    pub(crate) fn asset(&self, name: &'static str) -> String {
        crate::assets::url(name).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_addresses_of_the_web() {
        let read = |text: &str| serde_json::from_str::<Links>(text).map_err(|error| error.to_string());
        let links = read(r#"{"control":"http://localhost:9991/"}"#).unwrap();
        assert_eq!(links.control.as_deref(), Some("http://localhost:9991"));
        assert!(read(r#"{"control":"javascript:alert(1)"}"#).unwrap_err().contains("http://"));
        assert!(read(r#"{"other":null}"#).unwrap_err().contains("unknown field"));
    }
}
