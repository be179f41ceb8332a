//! The names that the control plane's namers can list.

use std::sync::Arc;

use http_body_util::BodyExt;
use names::Path;
use naming::{Fed, State};

use super::connection::{Backoff, Dst, get};
use crate::follow::lines::Lines;

/// Keeps the list for as long as somebody reads it.
pub(super) async fn keep(dst: Arc<Dst>, fed: Arc<Fed<Arc<[Path]>, ()>>) {
    let mut backoff = Backoff::default();
    loop {
        if let Err(why) = follow(&dst, &fed, &mut backoff).await {
            tracing::debug!(dst = dst.shown(), why, "cannot follow the list of bound names");
        }
        tokio::time::sleep(backoff.pause()).await;
    }
}

async fn follow(dst: &Dst, fed: &Fed<Arc<[Path]>, ()>, backoff: &mut Backoff) -> Result<(), String> {
    let (response, _) = dst.send(get("/api/1/bound-names?watch=true")?).await?;
    if !response.status().is_success() {
        return Err(response.status().to_string());
    }
    let mut lines = Lines::new(response.into_body().into_data_stream());
    while let Some(line) = lines.next().await.map_err(|error| error.to_string())? {
        let names: Vec<String> = serde_json::from_slice(&line).map_err(|error| error.to_string())?;
        // The original's list of no names is one empty text.
        let names = names.iter().filter(|name| !name.is_empty());
        let names = names.map(|name| Path::read(name).map_err(|error| error.to_string()));
        fed.value.set(State::Ok(names.collect::<Result<Arc<[Path]>, _>>()?));
        backoff.reset();
    }
    Err("the stream ended".to_owned())
}
