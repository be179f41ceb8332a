//! The endpoint files of one directory: what each said when it was last good.

use std::{
    collections::HashMap,
    net::{IpAddr, ToSocketAddrs},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use names::Path;
use naming::{Addr, Endpoint, Live, Meta, Publisher, State};
use serde_json::json;

use super::{
    parse::{Host, Line, parse},
    walk::{Stamp, on_disk},
};
use crate::{
    address_set,
    watch::{SETTLING, Touched, Waker},
};

type Resolved = HashMap<String, Vec<IpAddr>>;

/// All files, by name relative to the root.
pub(super) struct Files {
    root: PathBuf,
    waker: Waker,
    files: HashMap<Path, File>,
    /// Answers of the threads that resolve host names, with the reading that they belong to.
    answers: Arc<Mutex<Vec<(Path, u64, Resolved)>>>,
    readings: u64,
}

struct File {
    exists: bool,
    stamp: Option<Stamp>,
    addr: Publisher<Addr>,
    /// Which reading of the file counts.
    reading: u64,
    /// The lines that host names are being resolved for.
    resolving: Option<Vec<Line>>,
    /// What was read, where it looks unfinished, and since when it has read so.
    unsettled: Option<(Vec<u8>, Instant)>,
    trouble: Option<String>,
}

impl File {
    fn new() -> File {
        let (addr, _) = Live::channel(State::Pending);
        File { exists: false, stamp: None, addr, reading: 0, resolving: None, unsettled: None, trouble: None }
    }

    fn was_good(&self) -> bool {
        matches!(self.addr.get(), State::Ok(Addr::Bound { .. }))
    }

    /// Trouble never takes endpoints away.
    fn fail(&mut self, name: &Path, why: String) {
        if self.trouble.as_ref() != Some(&why) {
            tracing::warn!(file = %name, %why, kept = self.was_good(), "bad endpoint file");
        }
        if !self.was_good() {
            self.addr.set(State::Ok(Addr::Failed(why.as_str().into())));
        }
        self.trouble = Some(why);
    }

    fn publish(&mut self, name: &Path, lines: &[Line], resolved: &Resolved) {
        if self.trouble.take().is_some() {
            tracing::info!(file = %name, "good again");
        }
        self.addr.publish(State::Ok(endpoints(lines, resolved)));
    }
}

impl Files {
    pub(super) fn new(root: PathBuf, waker: Waker) -> Files {
        Files { root, waker, files: HashMap::new(), answers: Arc::default(), readings: 0 }
    }

    /// The addresses of a file, live; the same handle when it comes back after it was gone.
    pub(super) fn addr(&mut self, name: &Path) -> Live<Addr> {
        self.files.entry(name.clone()).or_insert_with(File::new).addr.live()
    }

    /// Reads what changed. Says when to look again, where something looks unfinished.
    pub(super) fn update(&mut self, found: Vec<(Path, &Stamp)>, touched: &Touched) -> Option<Duration> {
        self.take_answers();
        self.files.values_mut().for_each(|file| file.exists = false);
        found.into_iter().for_each(|(name, stamp)| self.see(name, stamp, touched));
        self.files.retain(|_, file| {
            if !file.exists {
                // Whoever still holds the handle learns that the name is gone, also from itself.
                file.addr.set(State::Ok(Addr::Neg));
                file.stamp = None;
                file.unsettled = None;
                file.resolving = None;
            }
            file.exists || !file.addr.is_closed()
        });
        self.look_again()
    }

    /// Reads what changed of these files; the others are as they were.
    pub(super) fn look_at(&mut self, found: &[(Path, Stamp)], touched: &Touched) -> Option<Duration> {
        self.take_answers();
        found.iter().for_each(|(name, stamp)| self.see(name.clone(), stamp, touched));
        self.look_again()
    }

    fn see(&mut self, name: Path, stamp: &Stamp, touched: &Touched) {
        let file = self.files.entry(name.clone()).or_insert_with(File::new);
        file.exists = true;
        let path = on_disk(&self.root, &name);
        let unsettled = file.unsettled.is_some();
        if file.stamp.as_ref() != Some(stamp) || unsettled || touched.has(&path) {
            file.stamp = Some(stamp.clone());
            self.read(&name, &path);
        }
    }

    fn look_again(&self) -> Option<Duration> {
        self.files.values().any(|file| file.unsettled.is_some()).then_some(SETTLING)
    }

    fn read(&mut self, name: &Path, path: &std::path::Path) {
        let Some(file) = self.files.get_mut(name) else { return };
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) => {
                // Read again at the next look, whatever it looks like then.
                file.stamp = None;
                return file.fail(name, format!("cannot be read: {error}"));
            }
        };
        let parsed = parse(&bytes);
        let finished = bytes.ends_with(b"\n") && parsed.as_ref().is_ok_and(|lines| !lines.is_empty());
        if !finished && file.was_good() {
            let since = match file.unsettled.take() {
                Some((before, since)) if before == bytes => since,
                _ => Instant::now(),
            };
            if since.elapsed() < SETTLING {
                file.unsettled = Some((bytes, since));
                return;
            }
        }
        file.unsettled = None;
        self.readings += 1;
        file.reading = self.readings;
        file.resolving = None;
        match parsed {
            Err(why) => file.fail(name, why),
            Ok(lines) => {
                let hosts: Vec<String> = lines.iter().filter_map(host_name).collect();
                if hosts.is_empty() {
                    return file.publish(name, &lines, &Resolved::new());
                }
                file.resolving = Some(lines);
                self.resolve(name.clone(), self.readings, hosts);
            }
        }
    }

    /// On a thread of its own: a slow name server must not hold up the other files.
    fn resolve(&self, name: Path, reading: u64, hosts: Vec<String>) {
        let (answers, waker) = (self.answers.clone(), self.waker.clone());
        let work = move || {
            let resolve = |host: String| {
                let found = (host.as_str(), 0).to_socket_addrs();
                let found = found.inspect_err(|error| tracing::warn!(host, %error, "left out")).ok()?;
                let ips = found.map(|address| address.ip()).collect();
                Some((host, ips))
            };
            let resolved = hosts.into_iter().filter_map(resolve).collect();
            answers.lock().unwrap_or_else(PoisonError::into_inner).push((name, reading, resolved));
            waker.touch([]);
        };
        if let Err(error) = std::thread::Builder::new().name("resolve hosts".to_owned()).spawn(work) {
            tracing::warn!(%error, "cannot resolve host names");
        }
    }

    fn take_answers(&mut self) {
        let answers = std::mem::take(&mut *self.answers.lock().unwrap_or_else(PoisonError::into_inner));
        for (name, reading, resolved) in answers {
            let Some(file) = self.files.get_mut(&name).filter(|file| file.reading == reading) else { continue };
            if let Some(lines) = file.resolving.take() {
                file.publish(&name, &lines, &resolved);
            }
        }
    }

    pub(super) fn state(&self) -> serde_json::Value {
        let existing = self.files.iter().filter(|(_, file)| file.exists);
        let shown = existing.map(|(name, file)| {
            let mut state = match file.addr.get() {
                State::Ok(Addr::Bound { endpoints, .. }) => json!({ "endpoints": endpoints.len() }),
                _ => json!({ "endpoints": null }),
            };
            if let Some(why) = &file.trouble {
                state["trouble"] = json!(why);
            }
            (name.show().trim_start_matches('/').to_owned(), state)
        });
        serde_json::Value::Object(shown.collect::<std::collections::BTreeMap<_, _>>().into_iter().collect())
    }
}

fn host_name(line: &Line) -> Option<String> {
    match &line.host {
        Host::Ip(_) => None,
        Host::Name(name) => Some(name.clone()),
    }
}

/// Hosts that nobody knows have no addresses.
fn endpoints(lines: &[Line], resolved: &Resolved) -> Addr {
    let plain: Arc<Meta> = Arc::default();
    let of_line = |line: &Line| {
        let ips = match &line.host {
            Host::Ip(ip) => vec![*ip],
            Host::Name(name) => resolved.get(name).cloned().unwrap_or_default(),
        };
        let meta = match line.weight {
            Some(weight) => Arc::new(Meta::from([("endpoint_addr_weight".to_owned(), json!(weight))])),
            None => plain.clone(),
        };
        let weight = line.weight.unwrap_or(1.0);
        let port = line.port;
        ips.into_iter().map(move |ip| Endpoint { addr: (ip, port).into(), weight, meta: meta.clone() })
    };
    address_set::bound(lines.iter().flat_map(of_line).collect(), Arc::default())
}
