//! Single objects of kinds that are known at run time only: what a manifest names is what is asked for.
//!
//! One request each, no retries; an answer has a time limit. Objects are JSON, as the API has them.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResourceList;
use kube::{
    api::{DeleteParams, GetParams, ListParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy},
    core::{Request, request},
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{Cluster, Error};

/// A kind of object as the cluster serves it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind {
    /// `apps/v1`; `v1` for the core group.
    pub api: String,
    /// `Deployment`
    pub kind: String,
    /// `deployments`
    pub plural: String,
    /// False: it is the cluster's, not a namespace's.
    pub is_namespaced: bool,
}

/// What becomes of an object that others depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dependents {
    /// It stays until those that it owns are gone.
    First,
    /// They go in their own time.
    Later,
}

/// Objects in one page of a list.
const PAGE: u32 = 500;

impl Kind {
    fn path(&self, namespace: &str) -> String {
        let root = if self.api.contains('/') { "apis" } else { "api" };
        format!("/{root}/{}/namespaces/{namespace}/{}", self.api, self.plural)
    }

    /// `deployments.apps`, as a role and `kubectl` name it.
    pub fn shown(&self) -> String {
        match self.api.split_once('/') {
            Some((group, _)) => format!("{}.{group}", self.plural),
            None => self.plural.clone(),
        }
    }
}

/// The objects of one namespace.
#[derive(Clone)]
pub struct Objects {
    cluster: Cluster,
    namespace: String,
    /// Each request has this long.
    within: Duration,
    /// As whom the API server notes our changes.
    manager: &'static str,
}

impl Objects {
    pub fn new(cluster: &Cluster, namespace: &str, within: Duration, manager: &'static str) -> Objects {
        Objects { cluster: cluster.clone(), namespace: namespace.to_owned(), within, manager }
    }

    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// What `kind` of this API is called there; `None`: the cluster does not serve it.
    ///
    /// # Errors
    /// As the server or the connection has it.
    pub async fn kind(&self, api: &str, kind: &str) -> Result<Option<Kind>, Error> {
        let send = async |client: kube::Client| match api.contains('/') {
            true => client.list_api_group_resources(api).await,
            false => client.list_core_api_resources(api).await,
        };
        let list: APIResourceList = match self.cluster.ask("get", api, "", self.within, send).await {
            Ok(list) => list,
            Err(error) if error.code() == Some(404) => return Ok(None),
            Err(error) => return Err(error),
        };
        // Subresources have a slash in their names.
        let found = list.resources.into_iter().find(|found| found.kind == kind && !found.name.contains('/'));
        Ok(found.map(|found| Kind {
            api: api.to_owned(),
            kind: found.kind,
            plural: found.name,
            is_namespaced: found.namespaced,
        }))
    }

    /// `None` where there is no such object.
    ///
    /// # Errors
    /// As the server or the connection has it; so for the others.
    pub async fn get(&self, kind: &Kind, name: &str) -> Result<Option<Value>, Error> {
        match self.send("get", kind, self.at(kind).get(name, &GetParams::default())).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.code() == Some(404) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All that these labels select; by field, too, where `fields` is not empty.
    pub async fn list(&self, kind: &Kind, labels: &str, fields: &str) -> Result<Vec<Value>, Error> {
        let mut parameters = ListParams::default().labels(labels).limit(PAGE);
        if !fields.is_empty() {
            parameters = parameters.fields(fields);
        }
        let mut all = Vec::new();
        loop {
            let mut page: Value = self.send("list", kind, self.at(kind).list(&parameters)).await?;
            if let Some(Value::Array(items)) = page.get_mut("items").map(Value::take) {
                all.extend(items);
            }
            match page.pointer("/metadata/continue").and_then(Value::as_str) {
                Some(token) if !token.is_empty() => parameters.continue_token = Some(token.to_owned()),
                _ => return Ok(all),
            }
        }
    }

    /// A new object; 409 where one has its name already.
    pub async fn create(&self, kind: &Kind, object: &Value) -> Result<Value, Error> {
        let parameters = PostParams { field_manager: Some(self.manager.to_owned()), ..PostParams::default() };
        self.send("create", kind, self.at(kind).create(&parameters, object.to_string().into_bytes())).await
    }

    /// Server-side apply, never by force: 409 where a field of it is somebody else's.
    pub async fn apply(&self, kind: &Kind, name: &str, object: &Value) -> Result<Value, Error> {
        let parameters = PatchParams::apply(self.manager);
        self.send("patch", kind, self.at(kind).patch(name, &parameters, &Patch::Apply(object))).await
    }

    /// The same by force, for an object in which nobody else has set anything: what its creation set is this
    /// manager's, too, but under another operation, and counts as somebody else's where the server added
    /// defaults to it. The object must have a `metadata.resourceVersion`, so that nobody else comes in between.
    pub async fn apply_over(&self, kind: &Kind, name: &str, object: &Value) -> Result<Value, Error> {
        let parameters = PatchParams::apply(self.manager).force();
        self.send("patch", kind, self.at(kind).patch(name, &parameters, &Patch::Apply(object))).await
    }

    /// Deletes the object with this uid; well if it is not there any more.
    pub async fn delete(&self, kind: &Kind, name: &str, uid: &str, dependents: Dependents) -> Result<(), Error> {
        let parameters = DeleteParams {
            propagation_policy: Some(match dependents {
                Dependents::First => PropagationPolicy::Foreground,
                Dependents::Later => PropagationPolicy::Background,
            }),
            preconditions: Some(Preconditions { uid: Some(uid.to_owned()), resource_version: None }),
            ..DeleteParams::default()
        };
        match self.send::<Value>("delete", kind, self.at(kind).delete(name, &parameters)).await {
            Ok(_) => Ok(()),
            // Gone, or another one has its name.
            Err(error) if matches!(error.code(), Some(404 | 409)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn at(&self, kind: &Kind) -> Request {
        Request::new(kind.path(&self.namespace))
    }

    async fn send<T: DeserializeOwned>(
        &self,
        verb: &'static str,
        kind: &Kind,
        request: Result<http::Request<Vec<u8>>, request::Error>,
    ) -> Result<T, Error> {
        let request = request.map_err(kube::Error::BuildRequest);
        let send = async |client: kube::Client| client.request::<T>(request?).await;
        self.cluster.ask(verb, &kind.shown(), &self.namespace, self.within, send).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_found_where_the_api_has_them() {
        let kind = |api: &str, plural: &str| Kind {
            api: api.to_owned(),
            kind: String::new(),
            plural: plural.to_owned(),
            is_namespaced: true,
        };
        let (deployments, services) = (kind("apps/v1", "deployments"), kind("v1", "services"));
        assert_eq!(deployments.path("a"), "/apis/apps/v1/namespaces/a/deployments");
        assert_eq!(services.path("a"), "/api/v1/namespaces/a/services");
        assert_eq!((deployments.shown(), services.shown()), ("deployments.apps".to_owned(), "services".to_owned()));
    }
}
