//! The processes of the demo, as the supervisor wants them told.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use supervise::{Ready, Spec};

use super::topology::{INSTANCES, Topology};

pub struct Specs<'a> {
    pub topology: &'a Topology,
    /// This program.
    pub executable: &'a Path,
    /// In a temporary directory nobody could find them again.
    pub die_with_us: bool,
}

impl Specs<'_> {
    pub fn namerd(&self) -> Spec {
        let arguments = ["namerd", "namerd.yaml"].map(str::to_owned);
        self.spec("namerd", 4180, &arguments, Ready::Http(format!("{}/admin/ping", self.topology.namerd_admin())))
    }

    pub fn router(&self) -> Spec {
        let arguments = ["router", "linkerd.yaml"].map(str::to_owned);
        self.spec("router", 4140, &arguments, Ready::Http(format!("{}/admin/ping", self.topology.router_admin())))
    }

    pub fn pipeline(&self) -> Spec {
        let arguments = ["pipeline", "pipeline.yaml"].map(str::to_owned);
        self.spec("pipeline", 8080, &arguments, Ready::Http(format!("{}/api/1/deploys", self.topology.pipeline())))
    }

    pub fn hello(&self, number: u16) -> Spec {
        let address = self.topology.hello_address(number);
        let arguments =
            ["helloworld", &format!("--addr={address}"), "--text=Hello", "--target=world"].map(str::to_owned);
        // Each of its answers needs world, and the router; hello itself is up before.
        let mut spec = self.spec(&format!("hello-{number}"), 7710 + number, &arguments, Ready::Started);
        spec.env =
            BTreeMap::from([("http_proxy".to_owned(), self.topology.outgoing()), ("POD_IP".to_owned(), address)]);
        spec
    }

    /// The first version of world, for the pipeline to find: as if it had deployed it.
    pub fn seed_world(&self) -> anyhow::Result<()> {
        let place = self.topology.pipeline_processes();
        if place.exists() {
            return Ok(());
        }
        // All or none: a demo that is killed in between must not go on with fewer.
        let parent = place.parent().context("the processes have no place")?;
        let new = tempfile::Builder::new().prefix(".processes-").tempdir_in(parent).context("the specs of world-v1")?;
        let directory = new.path().join("processes");
        std::fs::create_dir_all(&directory).with_context(|| format!("{}", directory.display()))?;
        for number in 1..=INSTANCES {
            let port = self.topology.world_port(number);
            let address = format!("127.0.0.1:{port}");
            let arguments = ["helloworld", &format!("--addr={address}"), "--text=world"].map(str::to_owned);
            let name = format!("world-v1-{number}");
            let mut spec = self.spec(&name, 0, &arguments, Ready::Http(format!("http://{address}/")));
            spec.port = Some(port);
            spec.group = Some("world-v1".to_owned());
            spec.owner = Some("demo".to_owned());
            spec.env = BTreeMap::from([("POD_IP".to_owned(), address)]);
            // They are the pipeline's: its death is no reason to stop answering.
            spec.dies_with_supervisor = false;
            spec.write(&directory)?;
        }
        std::fs::rename(&directory, &place).with_context(|| format!("{}", place.display()))
    }

    fn spec(&self, name: &str, port: u16, arguments: &[String], ready: Ready) -> Spec {
        let executable = self.executable.display().to_string();
        Spec {
            name: name.to_owned(),
            group: None,
            owner: Some("demo".to_owned()),
            argv: std::iter::once(executable).chain(arguments.iter().cloned()).collect(),
            env: BTreeMap::new(),
            cwd: Some(self.topology.directory.clone()),
            log: self.topology.log(name),
            port: Some(self.topology.port(port)),
            ready,
            generation: 0,
            grace_ms: 12_000,
            dies_with_supervisor: self.die_with_us,
        }
    }
}
