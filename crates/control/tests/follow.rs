//! Routers that follow a control plane: trees, addresses, versions, acknowledgments; both sides real.

#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::router::{Router, addresses, becomes, shown, timed};
use common::{LIMIT, Namerd};
use names::{Dtab, Path};
use serde_json::json;
use testkit::until::until;

const DTAB: &[(&str, &str)] = &[("Content-Type", "application/dtab"), ("l5d-author", "alice")];

#[test]
fn trees_versions_and_acknowledgments_go_their_way() {
    let namerd = Namerd::with_namespaces(json!({ "internal": "/svc => /$/inet/127.0.0.1/7001" }));
    let router = Router::new(namerd.port(), "internal", "outgoing");
    let tree = router.bind("/svc/x");
    becomes(&tree, "/$/inet/127.0.0.1/7001[/x]");
    assert_eq!(addresses(&tree), ["127.0.0.1:7001"]);
    router.serves("AAAAAAAAAAE=");

    let answer = namerd.send(
        "PUT",
        "/api/1/dtabs/internal?wait=10s",
        DTAB,
        "/svc => 0.30000000000000004 * /$/inet/127.0.0.1/1 & 0.7 * /$/inet/127.0.0.1/2",
    );
    assert_eq!((answer.status, answer.header("l5d-fleet")), (204, Some("1")), "{}", answer.text());
    assert_eq!(answer.header("etag"), Some("AAAAAAAAAAI="));
    // No waiting here: what was answered is in force.
    assert_eq!(shown(&tree), "0.30000000000000004*/$/inet/127.0.0.1/1[/x] & 0.7*/$/inet/127.0.0.1/2[/x]");
    let local = router.bind_with("/svc => /other ; /other => /$/inet/127.0.0.1/9", "/svc/x");
    becomes(&local, "/$/inet/127.0.0.1/9[/x]");
    becomes(&router.bind_with("/svc => /svc", "/svc"), "failed: Max recursion level: 100 reached in Namer lookup");

    let fleet = namerd.get("/api/1/fleet").json();
    let member = &fleet["routers"][0];
    assert_eq!((member["router"].as_str(), member["state"].as_str()), (Some("outgoing"), Some("live")), "{fleet}");
    assert_eq!(member["namespaces"]["internal"]["version"], "AAAAAAAAAAI=");
    assert_eq!(member["namespaces"]["internal"]["current"], true);
    assert_eq!(member["admin"], "http://127.0.0.1:9990");
    assert_eq!(fleet["namespaces"]["internal"]["version"], "AAAAAAAAAAI=");

    let explained = router.runtime.block_on(async {
        let (dtab, path) = (Dtab::empty(), Path::read("/svc/x").unwrap());
        router.interpreter.explain(&dtab, &path).await.unwrap()
    });
    let text = naming::json::text(&naming::json::explain(&explained));
    assert_eq!(text, namerd.get("/api/1/delegate/internal?path=/svc/x").text());

    // Deletion is a version, too, and an empty dtab.
    let answer = namerd.send("DELETE", "/api/1/dtabs/internal?wait=10s", DTAB, "");
    assert_eq!((answer.status, answer.header("l5d-fleet")), (204, Some("1")));
    assert_eq!(shown(&tree), "~");
}

#[test]
fn names_that_nobody_reads_are_forgotten() {
    let namerd = Namerd::with_namespaces(json!({ "n": "/svc => /$/inet/127.0.0.1/1" }));
    let router = Router::new(namerd.port(), "n", "r");
    let tree = router.bind("/svc/x");
    becomes(&tree, "/$/inet/127.0.0.1/1[/x]");
    assert_eq!(router.interpreter.state()["bindings"], 1);
    drop(tree);
    until("forgotten", LIMIT, || match router.interpreter.state()["bindings"].as_u64() {
        Some(0) => Ok(()),
        other => Err(other),
    });
    namerd.put("n", "/svc => /$/inet/127.0.0.1/2");
    becomes(&router.bind("/svc/x"), "/$/inet/127.0.0.1/2[/x]");
}

#[test]
fn transformers_are_part_of_what_is_handed_over() {
    let namerd = Namerd::with_namespaces(json!({ "n": "/svc => /$/inet/127.0.0.1/1" }));
    let keys = json!({ "transformers": [{ "kind": "io.l5d.port", "port": 4141 }] });
    let router = Router::with(namerd.port(), "n", "r", keys, common::router::runtime());
    let tree = router.bind("/svc/x");
    becomes(&tree, "/%/io.l5d.port/4141/$/inet/127.0.0.1/1[/x]");
    until("an address", LIMIT, || match addresses(&tree) {
        found if found == ["127.0.0.1:4141"] => Ok(()),
        found => Err(found),
    });
    for port in 2..20 {
        let dtab = format!("/svc => /$/inet/127.0.0.1/{port}");
        assert_eq!(namerd.send("PUT", "/api/1/dtabs/n?wait=10s", DTAB, &dtab).status, 204);
        assert_eq!(shown(&tree), format!("/%/io.l5d.port/4141/$/inet/127.0.0.1/{port}[/x]"), "at once");
    }
    let explained = router
        .runtime
        .block_on(async { router.interpreter.explain(&Dtab::empty(), &Path::read("/svc/x").unwrap()).await.unwrap() });
    assert!(naming::json::text(&naming::json::explain(&explained)).contains("\"type\":\"transformation\""));
}

/// Each version names its own port, so that a tree tells which version it follows from.
#[test]
fn a_version_is_never_served_before_its_trees() {
    let namerd = Namerd::with_namespaces(json!({ "n": "/svc => /$/inet/127.0.0.1/1" }));
    let router = Router::new(namerd.port(), "n", "r");
    let trees: Vec<_> = (0..50).map(|number| router.bind(&format!("/svc/{number}"))).collect();
    trees.iter().enumerate().for_each(|(number, tree)| becomes(tree, &format!("/$/inet/127.0.0.1/1[/{number}]")));
    router.serves("AAAAAAAAAAE=");
    let served = router.interpreter.served();
    let watched = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut seen = 0;
            loop {
                // The version first: the trees are then at least as new.
                let version = served.get().ok().unwrap().version.unwrap();
                let number = u64::from_be_bytes(base64_bytes(&version));
                for tree in &trees {
                    let text = shown(tree);
                    let port: u64 = text["/$/inet/127.0.0.1/".len()..text.find('[').unwrap()].parse().unwrap();
                    assert!(port >= number, "serves {number}, but {text}");
                }
                seen += 1;
                if number == 300 {
                    return seen;
                }
            }
        });
        for port in 2..=300 {
            namerd.put("n", &format!("/svc => /$/inet/127.0.0.1/{port}"));
        }
        watcher.join().unwrap()
    });
    assert!(watched > 10);
}

/// Names come and go while versions do: a new name is never behind what was served before it was asked for.
#[test]
fn new_names_are_not_behind_what_is_served() {
    let namerd = Namerd::with_namespaces(json!({ "n": "/svc => /$/inet/127.0.0.1/1" }));
    let routers = [Router::new(namerd.port(), "n", "a"), Router::new(namerd.port(), "n", "b")];
    routers.iter().for_each(|router| router.serves("AAAAAAAAAAE="));
    let over = std::sync::atomic::AtomicBool::new(false);
    let bound = std::thread::scope(|scope| {
        let binders: Vec<_> = routers
            .iter()
            .enumerate()
            .map(|(seed, router)| {
                let over = &over;
                scope.spawn(move || {
                    let (mut kept, mut count) = (std::collections::VecDeque::new(), seed);
                    while !over.load(std::sync::atomic::Ordering::Relaxed) {
                        count += 1;
                        let version = u64::from_be_bytes(base64_bytes(&router.served().version.unwrap()));
                        // Both routers ask for the same names, so that they share evaluations.
                        let tree = router.bind(&format!("/svc/{}", count % 37));
                        router.runtime.block_on(async { tree.clone().settled().await });
                        let text = shown(&tree);
                        let port = text["/$/inet/127.0.0.1/".len()..text.find('[').unwrap()].parse::<u64>();
                        assert!(port.unwrap() >= version, "{version} was served, and then {text}");
                        kept.push_back(tree);
                        if kept.len() > count % 11 {
                            kept.pop_front();
                        }
                    }
                    count
                })
            })
            .collect();
        for port in 2..=200 {
            namerd.put("n", &format!("/svc => /$/inet/127.0.0.1/{port}"));
        }
        let version = store::Version::from_number(200).to_string();
        routers.iter().for_each(|router| router.serves(&version));
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        binders.into_iter().map(|binder| binder.join().unwrap()).sum::<usize>()
    });
    println!("{bound} names bound during 200 writes");
    assert!(bound > 20);
}

fn base64_bytes(text: &str) -> [u8; 8] {
    let version = store::Version::decode(text).unwrap().unwrap();
    version.number().to_be_bytes()
}

#[test]
fn known_names_outlive_the_control_plane() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("dtabs.db");
    let namerd = Namerd::on_disk(&file, 0);
    let port = namerd.port();
    namerd.put("n", "/svc => /$/inet/127.0.0.1/1");
    let router = Router::new(port, "n", "r");
    let tree = router.bind("/svc/x");
    becomes(&tree, "/$/inet/127.0.0.1/1[/x]");
    router.serves("AAAAAAAAAAE=");

    namerd.stop();
    until("stale", LIMIT, || match router.served().stale {
        Some(why) => Ok(why),
        None => Err("not stale"),
    });
    assert_eq!(shown(&tree), "/$/inet/127.0.0.1/1[/x]");
    assert_eq!(addresses(&tree), ["127.0.0.1:1"]);
    let new = router.bind("/svc/y");
    assert_eq!(shown(&new), "pending");

    let namerd = Namerd::on_disk(&file, port);
    // At once: the router that was there before counts, although it is not back yet.
    let (answer, time) = timed(|| namerd.send("PUT", "/api/1/dtabs/n?wait=10s", DTAB, "/svc => /$/inet/127.0.0.1/2"));
    assert_eq!((answer.status, answer.header("l5d-fleet")), (204, Some("1")), "{} {time:?}", answer.text());
    println!("back and in force after {time:?}");
    assert!(time < Duration::from_secs(5));
    assert_eq!(shown(&tree), "/$/inet/127.0.0.1/2[/x]");
    becomes(&new, "/$/inet/127.0.0.1/2[/y]");
    router.serves("AAAAAAAAAAI=");
}

/// A dtab under which a name fails leaves its tree in force, and the version is not served.
#[test]
fn a_version_under_which_a_name_fails_is_not_acknowledged() {
    let namerd = Namerd::with_namespaces(json!({ "n": "/svc => /$/inet/127.0.0.1/1" }));
    let port = namerd.port();
    let router = Router::new(port, "n", "r");
    let tree = router.bind("/svc/x");
    becomes(&tree, "/$/inet/127.0.0.1/1[/x]");
    router.serves("AAAAAAAAAAE=");
    let laggards = |namerd: &Namerd| {
        until("a laggard that says why", LIMIT, || {
            let answer = namerd.get("/api/1/dtabs/n/fleet?wait=100ms");
            match answer.json()["laggards"][0]["waitsFor"][0].as_str() {
                Some("/svc/x") if answer.status == 504 => Ok(()),
                _ => Err(answer.text()),
            }
        });
    };
    namerd.put("n", "/svc => /svc");
    laggards(&namerd);
    assert_eq!(
        (shown(&tree).as_str(), router.served().version.as_deref()),
        ("/$/inet/127.0.0.1/1[/x]", Some("AAAAAAAAAAE="))
    );
    namerd.stop();

    // The same, seen by a control plane that never had a tree of the name.
    let memory = json!({ "kind": "io.l5d.inMemory", "namespaces": { "n": "/svc => /svc" } });
    let namerd = Namerd::start(memory, json!([]), port);
    laggards(&namerd);
    assert_eq!(shown(&tree), "/$/inet/127.0.0.1/1[/x]");
    let version = namerd.put("n", "/svc => /$/inet/127.0.0.1/2");
    router.serves(&version);
    assert_eq!(shown(&tree), "/$/inet/127.0.0.1/2[/x]");
}

/// A peer that is there and says nothing more, as after a power cut.
#[test]
fn a_control_plane_that_falls_silent_is_noticed() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // Ends with the test's process.
    std::thread::spawn(move || {
        let mut streams = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let line = "{\"hello\":{\"keepAliveMs\":1000}}\n{\"version\":\"AAAAAAAAAAE=\"}\n";
            let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
            std::io::Write::write_all(&mut stream, format!("{head}{:x}\r\n{line}\r\n", line.len()).as_bytes()).unwrap();
            streams.push(stream);
        }
    });
    let router = Router::new(port, "n", "r");
    router.serves("AAAAAAAAAAE=");
    let (why, time) = timed(|| until("stale", LIMIT, || router.served().stale.ok_or("not stale")));
    assert!(why.contains("nothing heard for five seconds"), "{why}");
    assert!(time < Duration::from_secs(12), "{time:?}");
    router.serves("AAAAAAAAAAE=");
}

#[test]
fn against_the_originals_api_each_name_is_watched() {
    let memory = json!({ "kind": "io.l5d.inMemory", "namespaces": { "n": "/svc => 0.125*/$/inet/127.0.0.1/1 & 0.5*/$/inet/127.0.0.1/2" } });
    let namerd = Namerd::start_with(memory.clone(), json!([]), 0, |config| config.offers_follow = false);
    assert_eq!(namerd.send("POST", "/api/1/follow/n?router=r&process=p", &[], "").status, 404);
    let port = namerd.port();
    let router = Router::new(port, "n", "r");
    let tree = router.bind("/svc/x");
    becomes(&tree, "0.125*/$/inet/127.0.0.1/1[/x] & 0.5*/$/inet/127.0.0.1/2[/x]");
    assert_eq!(router.interpreter.state()["mode"], "watch");
    assert_eq!((router.served().version, router.served().stale), (None, None));
    namerd.put("n", "/svc => /$/inet/127.0.0.1/3");
    becomes(&tree, "/$/inet/127.0.0.1/3[/x]");
    assert_eq!(addresses(&tree), ["127.0.0.1:3"]);
    becomes(&router.bind_with("/svc => /svc", "/svc"), "failed: Max recursion level: 100 reached in Namer lookup");
    becomes(&router.bind_with("/svc => /$/inet/127.0.0.1/4", "/svc"), "/$/inet/127.0.0.1/4[/]");

    namerd.stop();
    until("stale", LIMIT, || router.served().stale.ok_or("not stale"));
    assert_eq!(shown(&tree), "/$/inet/127.0.0.1/3[/x]");
    // A newer control plane is followed.
    let namerd = Namerd::start(memory, json!([]), port);
    becomes(&tree, "0.125*/$/inet/127.0.0.1/1[/x] & 0.5*/$/inet/127.0.0.1/2[/x]");
    assert_eq!(router.interpreter.state()["mode"], "follow");
    router.serves("AAAAAAAAAAE=");
    drop(namerd);
}

#[test]
fn a_router_that_says_goodbye_is_not_waited_for() {
    let namerd = Namerd::with_namespaces(json!({ "n": "/svc => /$/inet/127.0.0.1/1" }));
    let router = Router::new(namerd.port(), "n", "r");
    let _tree = router.bind("/svc/x");
    router.serves("AAAAAAAAAAE=");
    assert!(router.runtime.block_on(router.farewell.say(LIMIT)));
    until("nobody is left", LIMIT, || match namerd.get("/api/1/fleet").json()["routers"].as_array().unwrap().len() {
        0 => Ok(()),
        count => Err(count),
    });
}

#[test]
fn one_write_reaches_two_hundred_routers() {
    let namerd = Namerd::with_namespaces(json!({ "n": "/svc => /$/inet/127.0.0.1/1" }));
    let runtime = common::router::runtime();
    let routers: Vec<_> = (0..200)
        .map(|number| Router::with(namerd.port(), "n", &format!("r{number}"), json!({}), runtime.clone()))
        .collect();
    let trees: Vec<_> = routers.iter().map(|router| router.bind("/svc/x")).collect();
    let all_serve = |version: &str| {
        until("all serve", LIMIT, || {
            let serve = routers.iter().filter(|router| router.served().version.as_deref() == Some(version)).count();
            if serve == routers.len() { Ok(()) } else { Err(serve) }
        });
    };
    all_serve("AAAAAAAAAAE=");
    let mut times = Vec::new();
    for port in 2..12 {
        let dtab = format!("/svc => /$/inet/127.0.0.1/{port}");
        let (answer, time) = timed(|| namerd.send("PUT", "/api/1/dtabs/n?wait=20s", DTAB, &dtab));
        assert_eq!((answer.status, answer.header("l5d-fleet")), (204, Some("200")), "{}", answer.text());
        assert!(trees.iter().all(|tree| shown(tree) == format!("/$/inet/127.0.0.1/{port}[/x]")));
        times.push(time);
    }
    times.sort();
    println!("one write in force on 200 routers: median {:?}, worst {:?}", times[5], times[9]);
}

#[test]
fn ten_thousand_names_share_a_stream() {
    let namerd = Namerd::with_namespaces(json!({ "n": "/svc => /$/inet/127.0.0.1/1" }));
    let router = Router::new(namerd.port(), "n", "r");
    let (trees, time) = timed(|| {
        let trees: Vec<_> = (0..10_000).map(|number| router.bind(&format!("/svc/{number}"))).collect();
        until("all are bound", LIMIT, || {
            // From the last on: looking at all of them all the time would be most of the work.
            let missing = trees.iter().rev().find(|tree| matches!(tree.get(), naming::State::Pending));
            missing.map_or(Ok(()), |tree| Err(shown(tree)))
        });
        trees
    });
    println!("10 000 names bound in {time:?}");
    let (answer, time) = timed(|| namerd.send("PUT", "/api/1/dtabs/n?wait=20s", DTAB, "/svc => /$/inet/127.0.0.1/2"));
    assert_eq!((answer.status, answer.header("l5d-fleet")), (204, Some("1")), "{}", answer.text());
    println!("one write in force on 10 000 names in {time:?}");
    assert!(trees.iter().all(|tree| shown(tree).starts_with("/$/inet/127.0.0.1/2")));
}
