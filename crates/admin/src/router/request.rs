//! `/requests/ID`: why one request went where it went.

use askama::Template;

use super::{Attempt, Request};
use crate::explain::{Entry, Explained, Node};
use crate::parts::{Cmd, Icon, Mark, Src, Ver, width};
use crate::{Shell, format};

/// One request, its way and its times.
#[derive(Debug, Template)]
#[template(path = "router/request.html")]
pub struct RequestPage {
    pub shell: Shell,
    pub request: Request,
    /// The version that the router serves now; another than at the time means the explanation may differ.
    pub version_now: Option<String>,
    /// The dtab namespace of its router.
    pub namespace: Option<String>,
    /// The tree as it would be bound now, or why there is none.
    pub explained: Result<Node, String>,
    /// Entries that the request brought.
    pub overrides: Vec<Entry>,
}

/// The entries on the way that was taken.
struct Way {
    used: Vec<(Entry, bool)>,
    unused: Vec<(Entry, &'static str)>,
    transformers: Vec<String>,
}

impl RequestPage {
    fn tree(&self) -> Option<Explained> {
        self.explained.as_ref().ok().map(|node| Explained::new(node, &[], &self.overrides))
    }

    fn src(&self) -> Src {
        self.shell.src(&format!("/admin/requests/{}", self.request.id))
    }

    fn is_old(&self) -> bool {
        self.request.dtab_version.is_some()
            && self.version_now.is_some()
            && self.request.dtab_version != self.version_now
    }

    fn is_overridden(&self) -> bool {
        !self.request.local_dtab.is_empty()
    }

    /// The override decided, it was not only brought along.
    fn is_diverted(&self) -> bool {
        self.way().is_some_and(|way| way.used.iter().any(|(_, is_override)| *is_override))
    }

    fn hop_class(&self) -> &'static str {
        if self.is_diverted() { "hop new" } else { "hop" }
    }

    fn mark(&self) -> Mark {
        match (self.request.is_failed(), self.request.status) {
            (false, Some(status)) => Mark::new("succeeded", "ok", status.to_string()),
            (_, Some(status)) => Mark::new("failed", "bad", status.to_string()),
            (_, None) => Mark::new("failed", "bad", "no answer"),
        }
    }

    fn service(&self) -> String {
        self.request.name.as_deref().map_or_else(|| "no name".to_owned(), |name| format::tail(name).to_owned())
    }

    fn ver(&self, attempt: &Attempt) -> Ver {
        Ver { name: format::tail(&attempt.client).to_owned(), is_new: self.is_diverted() }
    }

    fn way(&self) -> Option<Way> {
        let attempt = self.request.last()?;
        let trace = self.explained.as_ref().ok()?.trace(&attempt.client)?;
        let used = trace.used.into_iter().map(|entry| {
            let is_override = self.overrides.iter().any(|known| known.is_same(&entry));
            (entry, is_override)
        });
        Some(Way { used: used.collect(), unused: trace.unused, transformers: trace.transformers })
    }

    fn sentence(&self) -> String {
        let request = &self.request;
        let Some(attempt) = request.last() else {
            let why = request.error.as_deref().unwrap_or("it never got to an endpoint");
            return format!("The request was not sent anywhere: {why}.");
        };
        let to = format::tail(&attempt.client);
        let tries = match request.attempts.len() {
            1 => String::new(),
            n => format!(", after {n} attempts"),
        };
        match (self.is_diverted(), self.is_overridden(), attempt.share) {
            (true, ..) => format!("Its override, not a share of the traffic, sent it to {to}{tries}."),
            (false, true, None) if self.way().is_some() => {
                format!("Its override was not used, and it went to {to}{tries} as every request for this name does.")
            }
            (false, true, None) => format!("It carried an override and went to {to}{tries}."),
            (false, _, Some(share)) => {
                format!("It was drawn into the {} that go to {to}{tries}.", format::percent(share))
            }
            (false, false, None) => format!("Every request for this name goes to {to}{tries}."),
        }
    }

    fn ours(&self) -> String {
        format::millis(self.request.our_micros as f64 / 1e3)
    }

    fn times(&self) -> Vec<(String, String, String, &'static str)> {
        let total = self.request.total_micros.max(1) as f64;
        let row = |name: String, micros: u64, class: &'static str| {
            (name, width(micros as f64 / total), format::millis(micros as f64 / 1e3), class)
        };
        let tries = self.request.attempts.iter().map(|attempt| {
            let name = attempt.endpoint.clone().unwrap_or_else(|| format::tail(&attempt.client).to_owned());
            row(name, attempt.micros, if self.is_diverted() { "c-new" } else { "c-cur" })
        });
        tries.chain([row("this router".to_owned(), self.request.our_micros, "c-b1")]).collect()
    }

    fn again(&self) -> Option<Cmd> {
        let name = self.request.name.as_ref()?;
        let namespace = self.namespace.as_ref()?;
        let mut command =
            format!("switchyard dtab explain {} {}", format::shell_word(namespace), format::shell_word(name));
        if self.is_overridden() {
            command.push_str(&format!(" --dtab {}", format::shell_word(&self.request.local_dtab)));
        }
        Some(Cmd::new(command, None))
    }

    fn explain_href(&self) -> Option<String> {
        let name = self.request.name.as_ref()?;
        let segment = crate::web::segment;
        let dtab =
            if self.is_overridden() { format!("&dtab={}", segment(&self.request.local_dtab)) } else { String::new() };
        Some(format!("/delegator?router={}&path={}{dtab}", segment(&self.request.router), segment(name)))
    }
}

impl Attempt {
    fn took(&self) -> String {
        format::millis(self.micros as f64 / 1e3)
    }

    fn answer(&self) -> String {
        match (&self.error, self.status) {
            (Some(error), _) => error.clone(),
            (None, Some(status)) => status.to_string(),
            (None, None) => "none".to_owned(),
        }
    }

    fn share_text(&self) -> Option<String> {
        self.share.map(format::percent)
    }
}
