//! Single requests: get, create, replace, delete one object of the store's namespace.

use std::{sync::Arc, time::Duration};

use kube::{
    api::{DeleteParams, GetParams, PostParams, Preconditions},
    core::Request,
};
use kubernetes::{Cluster, Error, Resource};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::object::MANAGER;

/// An answer must be there within this time.
const WITHIN: Duration = Duration::from_secs(10);

fn by_us() -> PostParams {
    PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() }
}

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct Requests {
    pub(super) cluster: Cluster,
    /// Of the cluster, where the objects are.
    pub(super) namespace: Arc<str>,
}

impl Requests {
    fn at(&self, resource: Resource) -> Request {
        Request::new(resource.path(&self.namespace))
    }

    async fn send<T: DeserializeOwned>(
        &self,
        verb: &'static str,
        resource: Resource,
        request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<T, Error> {
        let request = request.map_err(kube::Error::BuildRequest);
        let send = async |client: kube::Client| client.request::<T>(request?).await;
        self.cluster.call(verb, resource, &self.namespace, WITHIN, send).await
    }

    /// `None` where there is no such object.
    pub(super) async fn get<T: DeserializeOwned>(&self, resource: Resource, name: &str) -> Result<Option<T>, Error> {
        match self.send("get", resource, self.at(resource).get(name, &GetParams::default())).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.code() == Some(404) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn create<T: Serialize + DeserializeOwned>(
        &self,
        resource: Resource,
        object: &T,
    ) -> Result<T, Error> {
        let body = serde_json::to_vec(object).map_err(|error| self.unreadable(resource, &error))?;
        self.send("create", resource, self.at(resource).create(&by_us(), body)).await
    }

    /// By the resource version that the object carries.
    pub(super) async fn replace<T: Serialize + DeserializeOwned>(
        &self,
        resource: Resource,
        name: &str,
        object: &T,
    ) -> Result<T, Error> {
        let body = serde_json::to_vec(object).map_err(|error| self.unreadable(resource, &error))?;
        self.send("update", resource, self.at(resource).replace(name, &by_us(), body)).await
    }

    pub(super) async fn delete(
        &self,
        resource: Resource,
        name: &str,
        resource_version: Option<String>,
    ) -> Result<(), Error> {
        let preconditions = Some(Preconditions { resource_version, uid: None });
        let parameters = DeleteParams { preconditions, ..DeleteParams::default() };
        self.send::<Value>("delete", resource, self.at(resource).delete(name, &parameters)).await.map(|_| ())
    }

    /// An object that cannot be written as JSON.
    pub(super) fn unreadable(&self, resource: Resource, error: &serde_json::Error) -> Error {
        Error {
            verb: "write",
            resource: resource.shown().into(),
            namespace: self.namespace.clone(),
            problem: kubernetes::Problem::Transport(error.to_string()),
        }
    }
}
