//! The answer to a TRACE whose way ends here, and what it tells about that way.

use std::net::SocketAddr;

use naming::Explain;
use tokio::io::AsyncWriteExt;

use crate::classify::Class;
use crate::connection::Next;
use crate::exchange::{End, Exchange, Stop};
use crate::name::Drawn;

/// Explaining evaluates the whole name once more; nobody waits longer for it.
const EXPLAIN_LIMIT: std::time::Duration = std::time::Duration::from_secs(2);

impl Exchange<'_> {
    /// A TRACE whose way ends here. With `l5d-add-context` it tells where it would have gone.
    pub(crate) async fn answer_trace(&mut self) -> Result<(End, Next), Stop> {
        let mut body = String::new();
        if self.request.wants_context {
            let drawn = self.drawn().await?;
            let now = self.connection.worker.now();
            let selected = drawn.leaf.client.pick(now).map(|picked| picked.endpoint.address);
            body = self.context(&drawn, selected).await;
        }
        self.out.clear();
        let keep_alive = self.request.keep_alive && !self.connection.is_leaving();
        let extra: &[u8] = if keep_alive { b"" } else { b"connection: close\r\n" };
        http1::write_error(&mut self.out, 200, extra, body.as_bytes());
        let written = self.connection.stream.write_all(&self.out).await;
        self.connection.sent(self.out.len());
        let nanos = self.connection.worker.now().saturating_sub(self.request.started);
        let end = End::Answered { status: 200, class: Class::Success, nanos };
        Ok((end, if written.is_ok() && keep_alive { Next::Request } else { Next::Close }))
    }

    /// What `l5d-add-context` asks for, with the blank line before it.
    pub(crate) async fn context(&self, drawn: &Drawn, selected: Option<SocketAddr>) -> String {
        let (router, name) = (&self.connection.server.router, &self.request.name);
        let client = &drawn.leaf.client;
        let now = self.connection.worker.now();
        let addresses = client.addresses();
        let mut text = format!(
            "\n\n--- Router: {} ---\nrequest duration: {} ms\nservice name: {}\nclient name: {}\naddresses: \
             [{addresses}]\nselected address: {}\ndtab resolution:\n",
            router.settings.label,
            now.saturating_sub(self.request.started) / 1_000_000,
            name.service.name,
            client.id,
            selected.map(|address| address.to_string()).unwrap_or_default(),
        );
        let path = names::Path::read(&name.service.name).unwrap_or_else(|_| names::Path::empty());
        let explaining = router.interpreter.explain(&name.under, &path);
        let steps = match tokio::time::timeout(EXPLAIN_LIMIT, explaining).await {
            Ok(Ok(tree)) => steps(&tree, &client.id).unwrap_or_default(),
            _ => Vec::new(),
        };
        let steps = steps.iter().map(|step| format!("  {step}")).collect::<Vec<_>>();
        text.push_str(&steps.join("\n"));
        text.push('\n');
        text
    }
}

/// The steps from the root to the leaf with this id.
fn steps(tree: &Explain, id: &str) -> Option<Vec<String>> {
    let (path, dentry, rest) = match tree {
        Explain::Leaf { path, dentry, bound, .. } if bound.id.show() == id => (path, dentry, Vec::new()),
        Explain::Delegate { path, dentry, next } => (path, dentry, steps(next, id)?),
        Explain::Alt { path, dentry, alternatives } => {
            (path, dentry, alternatives.iter().find_map(|tree| steps(tree, id))?)
        }
        Explain::Union { path, dentry, branches } => {
            (path, dentry, branches.iter().find_map(|(_, tree)| steps(tree, id))?)
        }
        _ => return None,
    };
    let first = match dentry {
        Some(dentry) => format!("{path} ({dentry})"),
        None => path.to_string(),
    };
    Some(std::iter::once(first).chain(rest).collect())
}
