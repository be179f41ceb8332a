//! What runs where: names, ports and places of the tutorial, moved by the offset.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::state;

/// How many hello and how many world.
pub const INSTANCES: u16 = 3;

/// The tutorial's namespaces, with files in place of Kubernetes.
pub const NAMESPACES: [(&str, &str); 2] = [
    ("internal", "/srv => /#/io.l5d.fs ; /host => /srv ; /tmp => /srv ; /svc => /host ; /host/world => /srv/world-v1"),
    ("external", "/host => /#/io.l5d.fs/hello ; /svc/* => /host"),
];

/// Ports that versions of world may take.
pub const WORLD_PORTS: (u16, u16) = (7721, 7899);

/// One demo: its directory and its ports.
#[derive(Debug)]
pub struct Topology {
    pub directory: PathBuf,
    offset: u16,
}

/// Who wants which port: the name of the process, and what for.
const PORTS: &[(u16, &str, &str)] = &[
    (4180, "namerd", "the control plane's API"),
    (9991, "namerd", "the control plane's admin pages"),
    (4140, "router", "the router outgoing"),
    (4141, "router", "the router incoming"),
    (4142, "router", "the router external"),
    (9990, "router", "the router's admin pages"),
    (8080, "pipeline", "the pipeline's pages and API"),
    (7711, "hello-1", "the first hello"),
    (7712, "hello-2", "the second hello"),
    (7713, "hello-3", "the third hello"),
];

impl Topology {
    /// The offset of a directory is fixed when it is first used: processes that run in it, and the
    /// names in its files, know their ports.
    pub fn new(directory: &Path, wanted: Option<u16>) -> anyhow::Result<Topology> {
        let file = directory.join("port-offset");
        let kept = match std::fs::read_to_string(&file) {
            Ok(text) => Some(text.trim().parse::<u16>().with_context(|| format!("{}", file.display()))?),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(error).with_context(|| format!("{}", file.display())),
        };
        let offset = match (kept, wanted) {
            (Some(kept), Some(wanted)) if kept != wanted => bail!(
                "--port-offset {wanted}: {} was begun with --port-offset {kept}; leave the flag out, or use another --dir",
                directory.display()
            ),
            (kept, wanted) => kept.or(wanted).unwrap_or(0),
        };
        Ok(Topology { directory: directory.to_owned(), offset })
    }

    /// From here on the directory has its offset. Not before the ports are known to be free: who
    /// was told to move them must be able to.
    pub fn keep_offset(&self) -> anyhow::Result<()> {
        let file = self.path("port-offset");
        std::fs::write(&file, format!("{}\n", self.offset)).with_context(|| format!("{}", file.display()))
    }

    pub fn port(&self, port: u16) -> u16 {
        port + self.offset
    }

    pub fn offset(&self) -> u16 {
        self.offset
    }

    fn url(&self, port: u16) -> String {
        format!("http://127.0.0.1:{}", self.port(port))
    }

    pub fn outgoing(&self) -> String {
        self.url(4140)
    }
    pub fn incoming(&self) -> String {
        self.url(4141)
    }
    pub fn frontend(&self) -> String {
        self.url(4142)
    }
    pub fn namerd(&self) -> String {
        self.url(4180)
    }
    pub fn namerd_admin(&self) -> String {
        self.url(9991)
    }
    pub fn router_admin(&self) -> String {
        self.url(9990)
    }
    pub fn pipeline(&self) -> String {
        self.url(8080)
    }

    pub fn hello_address(&self, number: u16) -> String {
        format!("127.0.0.1:{}", self.port(7710 + number))
    }
    pub fn world_port(&self, number: u16) -> u16 {
        self.port(WORLD_PORTS.0 - 1 + number)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
    pub fn processes(&self) -> PathBuf {
        self.path("processes")
    }
    pub fn pipeline_processes(&self) -> PathBuf {
        self.path("pipeline").join("processes")
    }
    pub fn log(&self, name: &str) -> PathBuf {
        self.path("log").join(format!("{name}.log"))
    }

    /// Whether every port is free, or held by the process of an earlier demo that we shall adopt.
    pub fn check_ports(&self) -> anyhow::Result<()> {
        let mut wanted: Vec<(u16, String, String, PathBuf)> = PORTS
            .iter()
            .map(|(port, name, what)| (self.port(*port), (*name).to_owned(), (*what).to_owned(), self.processes()))
            .collect();
        if !self.pipeline_processes().exists() {
            for number in 1..=INSTANCES {
                let name = format!("world-v1-{number}");
                wanted.push((self.world_port(number), name.clone(), name, self.pipeline_processes()));
            }
        }
        for (port, name, what, directory) in wanted {
            // As a server binds: what a server leaves behind in TIME_WAIT does not count.
            let Err(error) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) else {
                continue;
            };
            if error.kind() != std::io::ErrorKind::AddrInUse {
                return Err(error).with_context(|| format!("port {port}, wanted for {what}"));
            }
            if state::is_running(&directory, &name) {
                continue;
            }
            // The offset of a directory that was used before stays what it is.
            let elsewhere =
                if self.path("port-offset").exists() { "take another --dir and" } else { "move every port with" };
            bail!(
                "port {port} is in use; {what} wants it. End what uses it, or {elsewhere} --port-offset N \
                 (for example --port-offset {})",
                if self.offset == 10_000 { 20_000 } else { 10_000 }
            );
        }
        Ok(())
    }
}
