//! The lease on the entry: taken, renewed in the background, given back.

use std::time::Duration;

use rollout::Outcome;

use super::Job;
use crate::api;
use crate::control::{Claim, Lease, Trouble};

/// A lease that is not given back ends by itself.
const RELEASE_LIMIT: Duration = Duration::from_secs(5);

impl Job {
    fn lease_seconds(&self) -> u64 {
        self.story.head.file.limits.lease_seconds
    }

    async fn put_lease(&self) -> Result<Result<Lease, Lease>, Trouble> {
        let head = &self.story.head;
        let reason = format!("{}, started by {}", head.file.name, head.actor);
        let claim = Claim { owner: &self.owner(), seconds: self.lease_seconds(), reason: &reason };
        self.deploys.control().take_lease(self.namespace(), self.entry(), claim).await
    }

    fn show_lease(&self, lease: &Lease) {
        self.slot.set_lease(Some(api::Lease { owner: lease.owner.clone(), expires: lease.expires.clone() }));
    }
}

pub(super) async fn take(job: &Job) -> Result<Outcome, String> {
    let patience = job.patience();
    loop {
        match patience.ask(|| job.put_lease()).await? {
            Ok(lease) => {
                job.show_lease(&lease);
                let until = lease.expires.as_deref().unwrap_or("it is given back");
                return Ok(Outcome::Done { detail: format!("lease on {} taken, until {until}", job.entry()) });
            }
            // Our own, of a deploy that is over: its release got lost.
            Err(lease) if job.deploys.is_over(&lease.owner) => {
                let control = job.deploys.control();
                patience.ask(|| control.release_lease(job.namespace(), job.entry(), &lease.owner)).await?;
            }
            Err(lease) => return Err(held(job.namespace(), job.entry(), &lease)),
        }
    }
}

/// `the entry /host/world of internal is held by …`
pub(crate) fn held(namespace: &str, entry: &str, lease: &Lease) -> String {
    let because = lease.reason.as_deref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    let until = lease.expires.as_deref().map(|time| format!(", until {time} if it is not renewed")).unwrap_or_default();
    format!("the entry {entry} of {namespace} is held by {}{because}{until}", lease.owner)
}

pub(super) async fn release(job: &Job) -> Result<Outcome, String> {
    let (control, owner) = (job.deploys.control(), job.owner());
    let patience = job.patience().at_most(RELEASE_LIMIT);
    let released = patience.ask(|| control.release_lease(job.namespace(), job.entry(), &owner)).await;
    job.slot.set_lease(None);
    released?;
    Ok(Outcome::Done { detail: format!("lease on {} given back", job.entry()) })
}

/// Renews until somebody else has it: then says so. While the control plane is away it goes on trying;
/// an expired lease that nobody took is simply taken again.
pub(crate) async fn keep(job: Job) -> String {
    let pause = Duration::from_secs(job.lease_seconds()) / 3;
    loop {
        match job.put_lease().await {
            Ok(Ok(lease)) => {
                job.show_lease(&lease);
                tokio::time::sleep(pause).await;
            }
            Ok(Err(lease)) => {
                job.slot.set_lease(Some(api::Lease { owner: lease.owner.clone(), expires: lease.expires.clone() }));
                return format!("the lease was lost: {}", held(job.namespace(), job.entry(), &lease));
            }
            Err(trouble) => {
                tracing::warn!(deploy = job.story.id(), %trouble, "cannot renew the lease");
                tokio::time::sleep(pause.min(Duration::from_secs(1))).await;
            }
        }
    }
}
