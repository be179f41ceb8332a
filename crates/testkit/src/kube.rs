//! A real Kubernetes control plane for tests: etcd, API server and controllers, without nodes.
//!
//! One for each test binary, started at the first use (five seconds) and ended when the process ends, however
//! it ends. Tests keep apart by namespace; those that hurt the API server take a control plane of their own.
//! The programs are built once per machine by `xtask/kube/build`, which `cargo xtask test` runs.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use serde_json::{Value, json};

use crate::http;
use crate::process::{Finished, run};
use crate::until::until;

/// A running control plane.
pub struct ControlPlane {
    directory: tempfile::TempDir,
    kubectl: PathBuf,
    /// Runs `down` when its standard input ends, which is when this process does.
    end: Mutex<Child>,
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../xtask/kube")
}

/// The control plane of this test binary.
pub fn control_plane() -> &'static ControlPlane {
    static SHARED: OnceLock<ControlPlane> = OnceLock::new();
    SHARED.get_or_init(ControlPlane::start)
}

impl ControlPlane {
    /// Starts another one, for a test that hurts it.
    pub fn start() -> ControlPlane {
        // Sockets lie below it: the path must be short.
        let directory = tempfile::Builder::new().prefix("kube").tempdir_in("/tmp").expect("a directory in /tmp");
        let state = directory.path().join("s");
        let end = Command::new("sh")
            .args(["-c", "cat >/dev/null; \"$0\" \"$1\"; rm -rf \"$2\""])
            .args([scripts().join("down").as_path(), &state, directory.path()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh starts");
        let up = run(Command::new(scripts().join("up")).arg("envtest").arg(&state), b"");
        assert_eq!(
            up.code, 0,
            "no Kubernetes for this test:\n{}\nxtask/kube/build makes its programs, once per machine (as cargo xtask test does)",
            up.stderr
        );
        let bin = up.stdout.lines().find_map(|line| line.strip_prefix("export KUBEBUILDER_ASSETS='"));
        let kubectl = Path::new(bin.expect("up tells where its programs are").trim_end_matches('\'')).join("kubectl");
        ControlPlane { directory, kubectl, end: Mutex::new(end) }
    }

    fn state(&self) -> PathBuf {
        self.directory.path().join("s")
    }

    /// Helm, which `xtask/kube/helm` puts beside the cluster's programs.
    pub fn helm(&self) -> Command {
        let assets = self.kubectl.parent().and_then(Path::parent).expect("kubectl is in bin");
        let helm = assets.join("helm");
        assert!(helm.exists(), "no {}: xtask/kube/helm makes it (as cargo xtask test does)", helm.display());
        Command::new(helm)
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.state().join("kubeconfig")
    }

    /// A kubeconfig that is changed on the way: another server, a user's token instead of the certificate.
    pub fn kubeconfig_with(&self, server: Option<SocketAddr>, token: Option<&str>) -> PathBuf {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let text = fs::read_to_string(self.kubeconfig()).expect("a kubeconfig");
        let line = |line: &str| {
            let indent = &line[..line.len() - line.trim_start().len()];
            match (server, token) {
                (Some(server), _) if line.contains("server: ") => format!("{indent}server: https://{server}"),
                (_, Some(_)) if line.contains("client-key-data") => String::new(),
                (_, Some(token)) if line.contains("client-certificate-data") => format!("{indent}token: {token}"),
                _ => line.to_owned(),
            }
        };
        let text: Vec<String> = text.lines().map(line).collect();
        let file = self.directory.path().join(format!("kubeconfig{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
        fs::write(&file, text.join("\n")).expect("a file is written");
        file
    }

    /// The certificate of its authority.
    pub fn authority(&self) -> PathBuf {
        self.state().join("pki/ca.crt")
    }

    /// Where the API server listens.
    pub fn address(&self) -> SocketAddr {
        let text = fs::read_to_string(self.kubeconfig()).expect("a kubeconfig");
        let server = text.lines().find_map(|line| line.trim().strip_prefix("server: https://"));
        server.and_then(|server| server.parse().ok()).expect("the kubeconfig names the server")
    }

    /// Runs `kubectl` as the administrator; it must succeed.
    #[track_caller]
    pub fn kubectl(&self, arguments: &[&str], stdin: &str) -> String {
        let Finished { code, stdout, stderr } = self.try_kubectl(arguments, stdin);
        assert_eq!(code, 0, "kubectl {arguments:?}: {stderr}\n{stdin}");
        stdout
    }

    pub fn try_kubectl(&self, arguments: &[&str], stdin: &str) -> Finished {
        run(&mut self.kubectl_command(arguments), stdin.as_bytes())
    }

    /// `kubectl ARGUMENTS` as the administrator, to be started.
    pub fn kubectl_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.kubectl);
        command.arg("--kubeconfig").arg(self.kubeconfig()).args(arguments);
        command
    }

    /// Creates or changes objects, which may be several (a `List`).
    #[track_caller]
    pub fn apply(&self, object: &Value) {
        self.kubectl(&["apply", "--server-side", "--force-conflicts", "-f", "-"], &object.to_string());
    }

    /// A new namespace with a name that begins so.
    #[track_caller]
    pub fn namespace(&self, name: &str) -> String {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let name = format!("{name}-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        self.kubectl(&["create", "namespace", &name], "");
        name
    }

    /// Kills the API server; what is returned starts it again, at the same address.
    pub fn kill_api(&self) -> Dead {
        let text = fs::read_to_string(self.state().join("pid/kube-apiserver")).expect("the API server has a pid");
        let pid: u32 = text.split_whitespace().next().and_then(|pid| pid.parse().ok()).expect("a pid");
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).expect("the API server runs");
        let arguments = String::from_utf8(arguments).expect("text");
        let arguments = arguments.trim_end_matches('\0').split('\0').map(str::to_owned).collect();
        run(Command::new("kill").args(["-9", &pid.to_string()]), b"");
        until("the API server is gone", SOON, || match TcpStream::connect(self.address()) {
            Ok(_) => Err("it still answers"),
            Err(_) => Ok(()),
        });
        Dead { arguments, state: self.state(), address: self.address() }
    }

    /// Makes etcd forget all versions before now.
    pub fn compact(&self, dead: &Dead) {
        let etcd = dead.arguments.iter().find_map(|argument| argument.strip_prefix("--etcd-servers=http://"));
        let etcd: SocketAddr = etcd.and_then(|address| address.parse().ok()).expect("etcd's address");
        // A read of a key that is not there answers with the revision.
        let read = http::post(&format!("http://{etcd}/v3/kv/range"), &json!({ "key": "AA==" })).json();
        let compaction = json!({ "revision": read["header"]["revision"], "physical": true });
        let compacted = http::post(&format!("http://{etcd}/v3/kv/compaction"), &compaction);
        assert_eq!(compacted.status, 200, "{}", compacted.text());
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        let mut end = self.end.lock().expect("no panic under this lock");
        drop(end.stdin.take());
        // It says nothing that matters; the directory goes after it.
        let _ = end.wait();
    }
}

/// An API server that was killed.
pub struct Dead {
    arguments: Vec<String>,
    state: PathBuf,
    address: SocketAddr,
}

impl Dead {
    /// Starts it again, and waits until it answers.
    pub fn start(&self) {
        let log = fs::File::create(self.state.join("log/kube-apiserver.again.log")).expect("a log");
        let mut command = Command::new("setsid");
        command.args(&self.arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let mut child = command.spawn().expect("the API server starts");
        // As `up` notes it, for `down`: the pid, and when that process was born.
        let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).expect("it runs");
        let born = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(19)).unwrap_or_default().to_owned();
        let note = format!("{} {born}\n", child.id());
        fs::write(self.state.join("pid/kube-apiserver"), note).expect("its pid is noted");
        std::thread::spawn(move || child.wait());
        until("the API server answers", 6 * SOON, || TcpStream::connect(self.address));
    }
}

/// A TCP relay that can be made to hang or to refuse, as networks do.
pub struct Relay {
    address: SocketAddr,
    mode: Arc<AtomicU8>,
    /// Connections that were made.
    pub connections: Arc<AtomicU64>,
}

const SOON: Duration = Duration::from_secs(10);

const FORWARD: u8 = 0;
const HANG: u8 = 1;
const REFUSE: u8 = 2;

impl Relay {
    /// Relays to `target` from a port of its own.
    pub fn start(target: SocketAddr) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let (mode, connections) = (Arc::new(AtomicU8::new(FORWARD)), Arc::new(AtomicU64::new(0)));
        let (relayed, counted) = (mode.clone(), connections.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                counted.fetch_add(1, Ordering::Relaxed);
                if relayed.load(Ordering::Relaxed) == REFUSE {
                    continue;
                }
                let Ok(server) = TcpStream::connect(target) else { continue };
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (from, to) = (from.try_clone().expect("a socket"), to.try_clone().expect("a socket"));
                    let mode = relayed.clone();
                    std::thread::spawn(move || pass(from, to, &mode));
                }
            }
        });
        Relay { address, mode, connections }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Nothing passes any more, in either direction, and nobody is told; not for ever: connections made after
    /// `forward` work, those from before do not.
    pub fn hang(&self) {
        self.mode.store(HANG, Ordering::Relaxed);
    }

    /// Connections end, and new ones end at once.
    pub fn refuse(&self) {
        self.mode.store(REFUSE, Ordering::Relaxed);
    }

    pub fn forward(&self) {
        self.mode.store(FORWARD, Ordering::Relaxed);
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, mode: &AtomicU8) {
    from.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout can be set");
    let mut buffer = [0; 64 * 1024];
    let mut hangs = false;
    loop {
        match mode.load(Ordering::Relaxed) {
            HANG => hangs = true,
            REFUSE => break,
            _ => {}
        }
        match from.read(&mut buffer) {
            Ok(0) => break,
            // Swallowed: the connection looks alive and is dead.
            Ok(_) if hangs => {}
            Ok(length) if to.write_all(&buffer[..length]).is_ok() => {}
            Ok(_) => break,
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
    }
    // Somebody may have closed it already.
    let _ = from.shutdown(std::net::Shutdown::Both);
    let _ = to.shutdown(std::net::Shutdown::Both);
}
