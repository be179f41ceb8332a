//! The cluster of the tutorial: started with `xtask/kube`, given images and a volume, ended whatever happens.

use std::net::SocketAddr;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use crate::dist::image::{self, Image};
use crate::needs;

/// Who the pods run as.
const USER: u32 = 65_532;
/// The names that the page calls the binary by.
const NAMES: [&str; 2] = ["switchyard", "namerctl"];

/// What a machine needs, and does not have.
pub struct Missing {
    pub what: &'static str,
    pub how: &'static str,
}

pub fn missing() -> Vec<Missing> {
    let has = |program: &str| needs::find(&[program]).is_some();
    let installs = has("apt-get");
    let checks = [
        (needs::is_root(), "root", "run it as root: containers, network interfaces and iptables rules are made"),
        (makes_control_groups(), "control groups", "mount them at /sys/fs/cgroup, so that they can be written"),
        (
            makes_namespaces(),
            "namespaces and mounts",
            "inside a container it must be a privileged one: `unshare --mount --net --pid --fork` must work",
        ),
        (installs || has("containerd"), "containerd", "install containerd, runc and the CNI plugins"),
        (installs || has("iptables"), "iptables", "install iptables and iproute2"),
        (
            !Path::new("/sys/class/net/kube-node0").exists(),
            "a machine without another such cluster",
            "one is up already; its directory stands in /sys/class/net/kube-node0/ifalias: end it with xtask/kube/down",
        ),
    ];
    checks.into_iter().filter(|(there, _, _)| !there).map(|(_, what, how)| Missing { what, how }).collect()
}

/// Whether a control group can be made (v1: one for memory).
fn makes_control_groups() -> bool {
    let root = Path::new("/sys/fs/cgroup");
    let v1 = root.join("memory");
    let group = if v1.is_dir() { v1 } else { root.to_owned() }.join(format!("switchyard-{}", std::process::id()));
    std::fs::create_dir(&group).and_then(|()| std::fs::remove_dir(&group)).is_ok()
}

/// Whether what makes a container can be made: namespaces, and a mount in one.
fn makes_namespaces() -> bool {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--net", "--pid", "--fork", "--mount-proc"]);
    command.args(["mount", "-t", "tmpfs", "tmpfs", "/mnt"]).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

pub struct Cluster {
    scripts: PathBuf,
    /// The state of the cluster, and beside it what is ours.
    directory: PathBuf,
    assets: PathBuf,
    keep: bool,
}

impl Cluster {
    pub fn start(root: &Path, binary: Option<&Path>, keep: bool) -> anyhow::Result<Cluster> {
        let scripts = root.join("xtask/kube");
        let built = Command::new(scripts.join("build")).arg("--node").status().context("xtask/kube/build")?;
        ensure!(built.success(), "xtask/kube/build --node ended with {built}, see above");
        let binary = match binary {
            Some(binary) => binary.to_owned(),
            None => debug_build(root)?,
        };
        let directory = std::env::temp_dir().join(format!("tutorial.{}", std::process::id()));
        std::fs::create_dir_all(directory.join("bin")).with_context(|| directory.display().to_string())?;
        let mut cluster = Cluster { scripts, directory, assets: PathBuf::new(), keep };
        let stripped = cluster.directory.join("bin/switchyard");
        // Nothing in the images reads a debug build's tables.
        let status = Command::new("strip").arg("-g").arg("-o").arg(&stripped).arg(&binary).status();
        if !status.is_ok_and(|status| status.success()) {
            std::fs::copy(&binary, &stripped).with_context(|| format!("cannot copy {}", binary.display()))?;
        }
        for name in NAMES.iter().filter(|name| **name != "switchyard") {
            std::os::unix::fs::symlink("switchyard", cluster.directory.join("bin").join(name))?;
        }
        cluster.up()?;
        cluster.load_images(&stripped)?;
        cluster.make_volume()?;
        Ok(cluster)
    }

    fn state(&self) -> PathBuf {
        self.directory.join("kube")
    }

    fn up(&mut self) -> anyhow::Result<()> {
        let output = Command::new(self.scripts.join("up"))
            .arg("node")
            .arg(self.state())
            .stderr(Stdio::inherit())
            .output()
            .context("xtask/kube/up")?;
        let status = output.status;
        ensure!(status.success(), "xtask/kube/up ended with {status}, see above: the tutorial was NOT followed");
        let text = String::from_utf8(output.stdout)?;
        let assets = text.lines().find_map(|line| line.strip_prefix("export KUBEBUILDER_ASSETS='"));
        self.assets = assets.context("up does not tell where its programs are")?.trim_end_matches('\'').into();
        Ok(())
    }

    fn load_images(&self, binary: &Path) -> anyhow::Result<()> {
        let version = env!("CARGO_PKG_VERSION");
        for (name, with_git) in [("switchyard", false), ("switchyard-git", true)] {
            let file = self.directory.join("image.tar");
            let tag = format!("{name}:{version}");
            image::build(binary, &file, &Image { tag: &tag, program: "switchyard", with_git })?;
            let mut import = Command::new("ctr");
            import.arg("-a").arg(self.state().join("containerd.sock"));
            import.args(["-n", "k8s.io", "images", "import"]).arg(&file).stdout(Stdio::null());
            let status = import.status().context("ctr")?;
            ensure!(status.success(), "ctr ended with {status}");
            std::fs::remove_file(&file)?;
        }
        Ok(())
    }

    /// There is no provisioner: the pipeline's claim gets a directory of this machine.
    fn make_volume(&self) -> anyhow::Result<()> {
        let directory = self.state().join("volume");
        std::fs::create_dir(&directory)?;
        chown(&directory, Some(USER), Some(USER))?;
        let volume = serde_json::json!({
            "apiVersion": "v1", "kind": "PersistentVolume", "metadata": { "name": "pipeline" },
            "spec": { "capacity": { "storage": "1Gi" }, "accessModes": ["ReadWriteOnce"],
                      "hostPath": { "path": directory } },
        });
        let file = self.directory.join("volume.json");
        std::fs::write(&file, volume.to_string())?;
        self.kubectl(&["apply", "-f", &file.display().to_string()]).map(drop)
    }

    /// For the page's shell.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let path = std::env::var("PATH").unwrap_or_default();
        let bin = self.directory.join("bin");
        vec![
            ("KUBECONFIG", self.state().join("kubeconfig").display().to_string()),
            ("PATH", format!("{}:{}:{path}", bin.display(), self.assets.display())),
            ("USER", "tutorial".to_owned()),
        ]
    }

    fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new(self.assets.join("kubectl"));
        command.arg("--kubeconfig").arg(self.state().join("kubeconfig")).args(arguments);
        let output = command.output().context("kubectl")?;
        if !output.status.success() {
            bail!("kubectl {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// There is no load balancer either: the Service's own address is written where one would write its own.
    pub fn balance(&self) -> anyhow::Result<()> {
        let address = self.frontend()?.ip();
        let status = serde_json::json!({ "status": { "loadBalancer": { "ingress": [{ "ip": address }] } } });
        let patch = status.to_string();
        let merge = ["patch", "service", "l5d-external", "--subresource=status", "--type=merge", "-p", &patch];
        self.kubectl(&merge).map(drop)
    }

    /// The way in.
    pub fn frontend(&self) -> anyhow::Result<SocketAddr> {
        let address = self.kubectl(&["get", "service", "l5d-external", "-o", "jsonpath={.spec.clusterIP}"])?;
        Ok(SocketAddr::new(address.parse().context("the address of l5d-external")?, 80))
    }

    /// What each pod's containers use, as the kubelet has it. Nothing where it cannot be asked.
    pub fn memory(&self) -> Vec<String> {
        let text = self.kubectl(&["get", "--raw", "/api/v1/nodes/node1/proxy/stats/summary"]).unwrap_or_default();
        let summary: Value = serde_json::from_str(&text).unwrap_or_default();
        let of_pod = |pod: &Value| {
            let name = pod.pointer("/podRef/name")?.as_str()?;
            let megabytes = |key: &str| Some(pod.pointer(&format!("/memory/{key}"))?.as_f64()? / 1e6);
            Some(format!("{name}: {:.1} MB (RSS {:.1})", megabytes("workingSetBytes")?, megabytes("rssBytes")?))
        };
        let mut lines: Vec<String> = summary["pods"].as_array().into_iter().flatten().filter_map(of_pod).collect();
        lines.sort();
        lines
    }

    /// What there is to know after something went wrong.
    pub fn tell(&self) {
        let about: [&[&str]; 6] = [
            &["get", "pods", "-o", "wide"],
            &["get", "events", "--field-selector=type!=Normal"],
            &["logs", "deployment/pipeline", "--tail=40"],
            &["logs", "deployment/namerd", "--tail=20"],
            &["logs", "daemonset/l5d", "--tail=20"],
            &["get", "dtabs", "-o", "yaml"],
        ];
        for arguments in about {
            eprintln!("== kubectl {}", arguments.join(" "));
            match self.kubectl(arguments) {
                Ok(text) => eprintln!("{text}"),
                Err(error) => eprintln!("{error:#}"),
            }
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.keep {
            println!("== the cluster goes on: . {}/env", self.state().display());
            println!("== to end it: {} {}", self.scripts.join("down").display(), self.state().display());
            return;
        }
        if self.state().exists() {
            let status = Command::new(self.scripts.join("down")).arg(self.state()).status();
            if !status.is_ok_and(|status| status.success()) {
                eprintln!("the cluster did not end in good order: {}", self.state().display());
                return;
            }
        }
        if let Err(error) = std::fs::remove_dir_all(&self.directory) {
            eprintln!("{} is left: {error}", self.directory.display());
        }
    }
}

fn debug_build(root: &Path) -> anyhow::Result<PathBuf> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let status = cargo.current_dir(root).args(["build", "--package", "switchyard"]).status().context("cargo")?;
    ensure!(status.success(), "cargo build ended with {status}");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    Ok(target.join("debug/switchyard"))
}
