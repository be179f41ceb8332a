//! Thousands of deploys in a model world where anything fails or dies at any step.
//!
//! The world: a dtab store with versions and writes that land late, routers that lag, processes that
//! start and stop one by one, people who approve, abort and edit by hand. The machine's state is kept
//! as JSON in a journal; a crash loses everything else. Every seed is one history, and is printed.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{Random, tutorial};
use rollout::{Deploy, Effect, Event, Found, Numbered, Outcome, Plan, Share, State, Step};

const INSTANCES: usize = 3;
const SEEDS: u64 = 4000;

#[derive(Clone, Debug, Default)]
struct Version {
    instances: usize,
    registered: bool,
}

#[derive(Clone, Debug)]
struct Router {
    served: u64,
    text: String,
}

struct World {
    random: Random,
    entry: Option<String>,
    version: u64,
    /// Writes whose sender gave up on them: they may still land.
    under_way: Vec<(u64, String)>,
    routers: Vec<Router>,
    versions: BTreeMap<String, Version>,
    /// An entry of somebody else that names a version.
    other: Option<String>,
    faults: bool,
    hand_edits: bool,
    foreign: Option<Option<String>>,
    removed: BTreeSet<String>,
}

fn names(text: &str, version: &str) -> bool {
    text.split(|c: char| c == '/' || c.is_whitespace()).any(|label| label == version)
}

impl World {
    fn new(seed: u64) -> World {
        let mut random = Random(seed);
        let faults = !random.one_in(4);
        let hand_edits = random.one_in(4);
        let routers = 1 + random.below(3) as usize;
        let original = "/srv/world-v1".to_owned();
        let up = Version { instances: INSTANCES, registered: true };
        let mut versions = BTreeMap::from([("world-v1".to_owned(), up.clone())]);
        if random.one_in(5) {
            versions.insert("world-v2".to_owned(), Version { instances: 2, registered: random.one_in(2) });
        }
        let other = random.one_in(10).then(|| "/srv/world-v1".to_owned());
        World {
            entry: Some(original.clone()),
            version: 7,
            under_way: Vec::new(),
            routers: vec![Router { served: 7, text: original }; routers],
            versions,
            other,
            faults,
            hand_edits,
            foreign: None,
            removed: BTreeSet::new(),
            random,
        }
    }

    fn fault(&mut self, one_in: u64) -> bool {
        self.faults && self.random.one_in(one_in)
    }

    /// Things that happen by themselves.
    fn passes(&mut self, editable: bool) {
        for index in 0..self.routers.len() {
            if self.random.one_in(3) {
                self.routers[index] = Router { served: self.version, text: self.entry.clone().unwrap_or_default() };
            }
        }
        if !self.under_way.is_empty() && self.random.one_in(4) {
            let (etag, dst) = self.under_way.remove(0);
            if etag == self.version {
                self.put(Some(dst));
            }
        }
        // The one race that is not closed: an edit between the last look and the removal.
        if self.hand_edits && editable && self.foreign.is_none() && self.random.one_in(12) {
            let edits = ["/srv/world-v1", "/srv/world-v2", "2 * /tmp/world-v2 & 8 * /tmp/world-v1", "/srv/other", "!"];
            let edit = match self.random.below(6) {
                5 => None,
                n => Some(edits[n as usize].to_owned()),
            };
            // Nobody sends traffic by hand to what has just been taken away.
            let sane = edit.as_deref().is_none_or(|dst| !self.removed.iter().any(|gone| names(dst, gone)));
            if sane && edit != self.entry {
                self.put(edit.clone());
                self.foreign = Some(edit);
            }
        }
    }

    fn put(&mut self, dst: Option<String>) {
        self.version += 1;
        self.entry = dst;
    }

    /// No router may send requests to what is not there.
    fn check_routing(&self) {
        for router in &self.routers {
            for gone in &self.removed {
                assert!(!names(&router.text, gone) || self.foreign.is_some(), "{} still goes to {gone}", router.text);
            }
        }
    }

    fn user_of(&self, version: &str) -> Option<(String, String)> {
        if let Some(dst) = self.entry.as_ref().filter(|dst| names(dst, version)) {
            return Some(("/host/world".to_owned(), dst.clone()));
        }
        self.other.as_ref().filter(|dst| names(dst, version)).map(|dst| ("/host/other".to_owned(), dst.clone()))
    }

    /// One small step of an effect; `None`: not done yet. `progress` is lost in a crash.
    fn run(&mut self, effect: &Effect, progress: &mut u64) -> Option<Outcome> {
        let done = || Some(Outcome::Done { detail: "done".to_owned() });
        if self.fault(60) {
            return Some(Outcome::Failed { reason: "injected".to_owned() });
        }
        match effect {
            Effect::Fetch => Some(Outcome::Fetched { commit: None, text: "hal".to_owned() }),
            Effect::TakeLease | Effect::ReleaseLease => done(),
            Effect::Inspect => {
                let dst = self.entry.clone().unwrap_or_default();
                let existing: Vec<_> = self.versions.keys().cloned().collect();
                let leftovers =
                    existing.iter().filter(|v| *v == "world-v2" && self.user_of(v).is_none()).cloned().collect();
                Some(Outcome::Inspected(Found { dst, existing, leftovers }))
            }
            Effect::Write { expected, dst, fence } => self.write(expected, dst, *fence, progress),
            Effect::Start { version } => {
                self.removed.remove(version);
                let state = self.versions.entry(version.clone()).or_default();
                match state.instances < INSTANCES {
                    true => state.instances += 1,
                    false if !state.registered => state.registered = true,
                    false => return done(),
                }
                None
            }
            Effect::Test { version } => match self.versions.get(version).is_some_and(|state| state.registered) {
                true => done(),
                false => Some(Outcome::Failed { reason: "not there".to_owned() }),
            },
            Effect::AwaitFleet { dtab } => {
                let wanted: u64 = dtab.parse().expect("a model version");
                self.routers.iter().all(|router| router.served >= wanted).then(done).flatten()
            }
            Effect::Settle { unused } => {
                if let Some((entry, dst)) = self.user_of(unused) {
                    return Some(Outcome::StillUsed { entry, dst });
                }
                self.routers.iter().all(|router| router.served == self.version).then(done).flatten()
            }
            Effect::Remove { version } => self.remove(version, progress),
        }
    }

    fn write(&mut self, expected: &[String], dst: &str, fence: bool, progress: &mut u64) -> Option<Outcome> {
        let read = self.version;
        let Some(found) = self.entry.clone() else { return Some(Outcome::Foreign { found: None }) };
        if found == dst && !fence {
            return Some(Outcome::Written { version: read.to_string() });
        }
        if found != dst && !expected.contains(&found) {
            return Some(Outcome::Foreign { found: Some(found) });
        }
        if self.fault(8) {
            // The connection broke: the write may have happened, not, or may happen later.
            match self.random.below(3) {
                0 => self.put(Some(dst.to_owned())),
                1 => self.under_way.push((read, dst.to_owned())),
                _ => {}
            }
            *progress += 1;
            return (*progress > 2).then(|| Outcome::Failed { reason: "control plane does not answer".to_owned() });
        }
        self.put(Some(dst.to_owned()));
        Some(Outcome::Written { version: self.version.to_string() })
    }

    fn remove(&mut self, version: &str, progress: &mut u64) -> Option<Outcome> {
        if *progress == 0
            && let Some((entry, dst)) = self.user_of(version)
        {
            return Some(Outcome::StillUsed { entry, dst });
        }
        for router in &self.routers {
            assert!(!names(&router.text, version), "{version} removed while a router serves {}", router.text);
        }
        *progress += 1;
        self.removed.insert(version.to_owned());
        let Some(state) = self.versions.get_mut(version) else {
            return Some(Outcome::Done { detail: "gone".to_owned() });
        };
        match (state.registered, state.instances) {
            (true, _) => state.registered = false,
            (_, 0) => drop(self.versions.remove(version)),
            _ => state.instances -= 1,
        }
        None
    }
}

/// The deploy as a server runs it: memory that a crash takes, a journal that it does not.
struct Server {
    journal: String,
    deploy: Deploy,
    running: Option<(Numbered, u64)>,
    crashes: u32,
}

impl Server {
    fn new(plan: Plan) -> Server {
        let deploy = Deploy::new(plan);
        Server { journal: serde_json::to_string(&deploy).expect("state is JSON"), deploy, running: None, crashes: 0 }
    }

    fn crash(&mut self) {
        self.deploy = serde_json::from_str(&self.journal).expect("the journal reads back");
        self.running = None;
        self.crashes += 1;
    }

    /// Journal first, then believe. A crash may come before or after the write.
    fn event(&mut self, world: &mut World, event: Event) {
        let mut next = self.deploy.clone();
        if next.on(event).is_err() {
            return;
        }
        next.take_notes();
        if world.fault(25) {
            return self.crash();
        }
        self.journal = serde_json::to_string(&next).expect("state is JSON");
        self.deploy = next;
        if world.fault(25) {
            self.crash();
        }
    }

    fn step(&mut self, world: &mut World) {
        if world.fault(40) {
            self.crash();
        }
        let Some(wanted) = self.deploy.outstanding().cloned() else {
            self.running = None;
            return;
        };
        if self.running.as_ref().is_none_or(|(running, _)| *running != wanted) {
            self.running = Some((wanted.clone(), 0));
        }
        let Some((_, progress)) = &mut self.running else { return };
        if let Some(outcome) = world.run(&wanted.effect, progress) {
            self.event(world, Event::Outcome { id: wanted.id, outcome });
        }
    }
}

fn plan(random: &mut Random) -> Plan {
    let mut plan = tutorial();
    if random.one_in(3) {
        let more = Step { stage: "half".to_owned(), share: Share::Weights { new: 1.0, current: 1.0 }, gate: None };
        plan.steps.insert(1, more);
    }
    plan
}

fn history(seed: u64) -> (State, bool) {
    let mut world = World::new(seed);
    let mut server = Server::new(plan(&mut world.random));
    let abort_at = world.random.below(120);
    let aborts = world.random.one_in(3);
    for turn in 0..800 {
        if turn == 250 {
            world.faults = false;
        }
        if turn > 350 && world.foreign.is_none() {
            world.hand_edits = false;
        }
        let removing = matches!(server.deploy.outstanding().map(|o| &o.effect), Some(Effect::Remove { .. }));
        world
            .passes(!removing && server.deploy.state() != State::Succeeded && server.deploy.state() != State::Reverted);
        world.check_routing();
        server.step(&mut world);
        if aborts && turn == abort_at {
            server.event(&mut world, Event::Abort { actor: "ada".to_owned(), reason: None });
        }
        match server.deploy.state() {
            State::Waiting if world.random.one_in(3) => {
                let event = match world.random.one_in(8) {
                    true => Event::Abort { actor: "lin".to_owned(), reason: Some("no".to_owned()) },
                    false => Event::Approve { actor: "grace".to_owned(), reason: None, stage: None },
                };
                server.event(&mut world, event);
            }
            State::Waiting if world.fault(80) => {
                server.event(&mut world, Event::Trouble { reason: "crash loop".to_owned() });
            }
            State::Failed if world.random.one_in(5) && (turn < 600 || world.foreign.is_none()) => {
                server.event(&mut world, Event::Retry)
            }
            State::Succeeded | State::Reverted if turn > 40 => break,
            _ => {}
        }
    }
    // What was under way lands, at last.
    for (etag, dst) in std::mem::take(&mut world.under_way) {
        if etag == world.version {
            world.put(Some(dst));
        }
    }
    check_end(&world, &server.deploy);
    (server.deploy.state(), world.foreign.is_some())
}

fn check_end(world: &World, deploy: &Deploy) {
    let up = |name: &str| world.versions.get(name).is_some_and(|v| v.registered && v.instances == INSTANCES);
    let new = deploy.facts.new.clone().unwrap_or_else(|| "world-v2".to_owned());
    match deploy.state() {
        State::Succeeded => {
            if world.foreign.is_none() {
                assert_eq!(world.entry.as_deref(), Some(format!("/srv/{new}").as_str()));
            }
            assert!(up(&new), "{new} serves");
            let current = deploy.facts.current.as_deref().expect("a current version");
            let used = world.user_of(current).is_some();
            assert_eq!(world.versions.contains_key(current), used, "{current} is gone unless used");
        }
        State::Reverted => {
            match &world.foreign {
                None => assert_eq!(world.entry.as_deref(), Some("/srv/world-v1")),
                // Byte for byte what the deploy itself may have written: nobody can tell them apart.
                Some(Some(edit)) if *edit == format!("/srv/{new}") => {}
                Some(edit) => assert_eq!(&world.entry, edit, "a foreign edit is kept"),
            }
            assert!(up("world-v1"), "world-v1 serves as before");
            if deploy.facts.original.is_some() && deploy.facts.leftovers.is_empty() {
                let used = world.user_of(&new).is_some();
                assert!(used || !world.versions.contains_key(&new) || !deploy_started(deploy), "{new} is gone");
            }
            assert!(deploy.reason.is_some(), "it says why");
        }
        State::Failed => {
            assert!(world.foreign.is_some(), "only a foreign edit can stop both ways for good: {:?}", deploy.reason);
            assert!(deploy.reason.is_some(), "it says why");
            for version in ["world-v1", new.as_str()] {
                let used = world.entry.as_deref().is_some_and(|dst| names(dst, version));
                assert!(!used || !world.removed.contains(version), "{version} is used and was removed");
            }
        }
        state => panic!("a lost deploy: {state:?}, {:?}", deploy.outstanding()),
    }
}

/// A leftover of an earlier deploy that was never swept is not this deploy's to remove.
fn deploy_started(deploy: &Deploy) -> bool {
    deploy.stages[1].state == rollout::StageState::Succeeded
}

#[test]
fn every_history_ends_in_the_old_state_or_the_new_one() {
    let mut ends = BTreeMap::<String, u32>::new();
    for seed in 0..SEEDS {
        let result = std::panic::catch_unwind(|| history(seed));
        match result {
            Ok((state, foreign)) => *ends.entry(format!("{state:?}, hand edit {foreign}")).or_default() += 1,
            Err(_) => panic!("seed {seed}"),
        }
    }
    println!("{ends:#?}");
    for end in [
        "Succeeded, hand edit false",
        "Reverted, hand edit false",
        "Reverted, hand edit true",
        "Failed, hand edit true",
    ] {
        assert!(ends.get(end).is_some_and(|count| *count > 20), "too few histories end in {end}: {ends:?}");
    }
}
