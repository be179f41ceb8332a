//! The file namer and the dtab file over real directories that change.

#![allow(clippy::unwrap_used)]

use std::{
    fs,
    path::Path as FilePath,
    sync::Arc,
    time::{Duration, Instant},
};

use discovery::{InterpreterConfig, NamerConfig, Precedence, Surroundings, build_namers};
use names::{Dtab, NameTree, Path};
use naming::{Addr, BoundTree, Live, Name, Namer, NamerTree, Namers, State};
use serde_json::json;

/// A change that the kernel tells of must be seen within this, with room for a slow machine.
const SOON: Duration = Duration::from_millis(1_000);

fn read(text: &str) -> Path {
    Path::read(text).unwrap()
}

fn fs_config(root: &FilePath) -> NamerConfig {
    serde_json::from_value(json!({ "kind": "io.l5d.fs", "rootDir": root })).unwrap()
}

fn namer(root: &FilePath) -> Arc<dyn Namer> {
    build_namers(&[fs_config(root)], Precedence::NoOverlap, &Surroundings::default()).unwrap().configured()[0].1.clone()
}

fn addr(state: &State<Addr>) -> String {
    match state {
        State::Ok(Addr::Bound { endpoints, .. }) => {
            let shown = endpoints.iter().map(|endpoint| match endpoint.weight {
                1.0 => endpoint.addr.to_string(),
                weight => format!("{}*{weight}", endpoint.addr),
            });
            shown.collect::<Vec<_>>().join(" ")
        }
        State::Ok(Addr::Neg) => "neg".to_owned(),
        State::Ok(Addr::Failed(why)) | State::Failed(why) => format!("failed: {why}"),
        State::Pending => "pending".to_owned(),
    }
}

fn tree(state: &State<NamerTree>) -> String {
    match state {
        State::Ok(tree) => tree.show_with(&|name| match name {
            Name::Path(path) => path.show(),
            Name::Bound(bound) => format!("{}[{}]", bound.id, bound.residual),
        }),
        State::Pending => "pending".to_owned(),
        State::Failed(why) => format!("failed: {why}"),
    }
}

fn address_of(live: &Live<NamerTree>) -> Live<Addr> {
    match live.get() {
        State::Ok(NameTree::Leaf(Name::Bound(bound))) => bound.addr,
        other => panic!("no leaf: {}", tree(&other)),
    }
}

/// Waits until `live` shows `wanted`.
async fn becomes<T: Clone + Send + Sync + 'static>(live: &Live<T>, show: fn(&State<T>) -> String, wanted: &str) {
    let mut live = live.clone();
    let waiting = async {
        while show(&live.take()) != wanted {
            live.changed().await.unwrap();
        }
    };
    let waited = tokio::time::timeout(SOON, waiting).await;
    assert!(waited.is_ok(), "still `{}`, wanted `{wanted}`", show(&live.get()));
}

/// As a careful writer does it.
fn replace(directory: &FilePath, name: &str, text: &str) {
    let new = directory.join(format!(".{name}.new"));
    fs::write(&new, text).unwrap();
    fs::rename(new, directory.join(name)).unwrap();
}

#[tokio::test]
async fn names_lead_through_directories_to_files() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("sub/inner")).unwrap();
    fs::write(root.path().join("web"), "127.0.0.1 80\n127.0.0.1 81 * 2.5\n127.0.0.1 80\n").unwrap();
    fs::write(root.path().join("sub/deep"), "").unwrap();
    fs::write(root.path().join("bad"), "127.0.0.1 80\nnonsense\n").unwrap();
    fs::write(root.path().join("odd name"), "::1 1").unwrap();
    let namer = namer(root.path());
    let cases = [
        ("/web", "/#/io.l5d.fs/web[/]", "127.0.0.1:80 127.0.0.1:81*2.5"),
        ("/web/x/y", "/#/io.l5d.fs/web[/x/y]", "127.0.0.1:80 127.0.0.1:81*2.5"),
        ("/sub/deep/r", "/#/io.l5d.fs/sub/deep[/r]", ""),
        ("/bad", "/#/io.l5d.fs/bad[/]", "failed: malformed address: nonsense"),
        ("/odd\\x20name", "/#/io.l5d.fs/\\x6f\\x64\\x64\\x20\\x6e\\x61\\x6d\\x65[/]", "[::1]:1"),
    ];
    for (path, wanted, addresses) in cases {
        let live = namer.lookup(&read(path));
        assert_eq!(tree(&live.get()), wanted);
        assert_eq!(addr(&address_of(&live).get()), addresses, "{path}");
    }
    for path in ["/", "/sub", "/sub/inner", "/sub/inner/x", "/nope", "/sub/nope"] {
        assert_eq!(tree(&namer.lookup(&read(path)).get()), "~", "{path}");
    }
    let names = namer.bound_names().get().ok().unwrap();
    assert!(names.contains(&read("/#/io.l5d.fs/web")) && names.len() == 3, "{names:?}");
}

#[tokio::test]
async fn comings_and_goings_change_the_tree_and_edits_only_the_addresses() {
    let root = tempfile::tempdir().unwrap();
    let namer = namer(root.path());
    let mut live = namer.lookup(&read("/web"));
    assert_eq!(tree(&live.get()), "~");
    replace(root.path(), "web", "127.0.0.1 80\n");
    becomes(&live, tree, "/#/io.l5d.fs/web[/]").await;
    let addresses = address_of(&live);
    becomes(&addresses, addr, "127.0.0.1:80").await;
    live.take();
    replace(root.path(), "web", "127.0.0.1 81\n127.0.0.1 82\n");
    becomes(&addresses, addr, "127.0.0.1:81 127.0.0.1:82").await;
    assert!(!live.has_changed());
    fs::remove_file(root.path().join("web")).unwrap();
    becomes(&live, tree, "~").await;
    becomes(&addresses, addr, "neg").await;
    replace(root.path(), "web", "127.0.0.1 83\n");
    becomes(&live, tree, "/#/io.l5d.fs/web[/]").await;
    becomes(&addresses, addr, "127.0.0.1:83").await;
    assert_eq!(address_of(&live).id(), addresses.id(), "the handle of a name that comes back is the same");
}

#[tokio::test]
async fn among_thousands_of_files_each_change_is_seen_and_touches_its_own_addresses() {
    let root = tempfile::tempdir().unwrap();
    for number in 0..3_000 {
        fs::write(root.path().join(format!("s{number}")), "127.0.0.1 80\n").unwrap();
    }
    let namer = namer(root.path());
    let look = |number: usize| address_of(&namer.lookup(&read(&format!("/s{number}"))));
    let (edited, mut other) = (look(7), look(8));
    assert_eq!(addr(&other.take()), "127.0.0.1:80");
    replace(root.path(), "s7", "127.0.0.1 81\n");
    becomes(&edited, addr, "127.0.0.1:81").await;
    // Together with a name that goes, and one that comes.
    fs::remove_file(root.path().join("s9")).unwrap();
    replace(root.path(), "s7", "127.0.0.1 82\n");
    replace(root.path(), "new", "127.0.0.1 83\n");
    becomes(&edited, addr, "127.0.0.1:82").await;
    becomes(&namer.lookup(&read("/s9")), tree, "~").await;
    becomes(&namer.lookup(&read("/new")), tree, "/#/io.l5d.fs/new[/]").await;
    assert!(!other.has_changed());
}

#[tokio::test]
async fn a_rename_is_seen_though_the_number_of_files_is_the_same() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("old"), "127.0.0.1 80\n").unwrap();
    let namer = namer(root.path());
    let (old, new) = (namer.lookup(&read("/old")), namer.lookup(&read("/new")));
    fs::rename(root.path().join("old"), root.path().join("new")).unwrap();
    becomes(&old, tree, "~").await;
    becomes(&new, tree, "/#/io.l5d.fs/new[/]").await;
}

#[tokio::test]
async fn a_directory_that_comes_with_its_files_is_seen() {
    let root = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir_in(root.path().parent().unwrap()).unwrap();
    let namer = namer(root.path());
    let live = namer.lookup(&read("/sub/deep"));
    fs::create_dir(elsewhere.path().join("sub")).unwrap();
    fs::write(elsewhere.path().join("sub/deep"), "127.0.0.1 80\n").unwrap();
    fs::rename(elsewhere.path().join("sub"), root.path().join("sub")).unwrap();
    becomes(&live, tree, "/#/io.l5d.fs/sub/deep[/]").await;
    replace(&root.path().join("sub"), "deep", "127.0.0.1 81\n");
    becomes(&address_of(&live), addr, "127.0.0.1:81").await;
}

#[tokio::test]
async fn trouble_takes_no_endpoints_away() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("web");
    fs::write(&file, "127.0.0.1 80\n").unwrap();
    fs::write(root.path().join("other"), "127.0.0.1 1\n").unwrap();
    let namer = namer(root.path());
    let (live, other) = (namer.lookup(&read("/web")), namer.lookup(&read("/other")));
    let addresses = address_of(&live);
    fs::write(&file, "127.0.0.1 80\n127.0.0.1\n").unwrap();
    let deadline = Instant::now() + SOON;
    while namer.state()["files"]["web"]["trouble"] != "malformed address: 127.0.0.1" {
        assert!(Instant::now() < deadline, "{}", namer.state());
        tokio::task::yield_now().await;
    }
    assert_eq!(addr(&addresses.get()), "127.0.0.1:80", "the last good ones");
    fs::write(&file, "127.0.0.1 82\n").unwrap();
    becomes(&addresses, addr, "127.0.0.1:82").await;
    assert_eq!(namer.state()["files"]["web"], json!({ "endpoints": 1 }));
    // The root is gone: that says nothing about endpoints. It comes back, and is followed again.
    fs::rename(root.path(), root.path().with_extension("away")).unwrap();
    replace_until_seen(&namer, root.path()).await;
    assert_eq!((tree(&live.get()), addr(&addresses.get())), ("/#/io.l5d.fs/web[/]".into(), "127.0.0.1:82".into()));
    fs::rename(root.path().with_extension("away"), root.path()).unwrap();
    fs::remove_file(root.path().join("other")).unwrap();
    let mut other = other;
    let gone = async {
        while tree(&other.take()) != "~" {
            other.changed().await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.expect("followed again");
}

/// Waits until the namer has noticed that its root is gone.
async fn replace_until_seen(namer: &Arc<dyn Namer>, root: &FilePath) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while namer.state()["trouble"] == json!([]) {
        assert!(Instant::now() < deadline, "{} is gone and nobody noticed", root.display());
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_file_that_is_truncated_and_written_never_shows_empty() {
    use std::io::Write;
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("web");
    fs::write(&file, "127.0.0.1 80\n").unwrap();
    let namer = namer(root.path());
    let mut addresses = address_of(&namer.lookup(&read("/web")));
    for port in 1..200u16 {
        let mut open = fs::File::create(&file).unwrap();
        open.write_all(format!("127.0.0.1 {port}\n").as_bytes()).unwrap();
        drop(open);
        let wanted = format!("127.0.0.1:{port}");
        let begin = Instant::now();
        loop {
            let now = addr(&addresses.take());
            assert!(now.starts_with("127.0.0.1:"), "`{now}` in between");
            if now == wanted {
                break;
            }
            assert!(begin.elapsed() < SOON, "still {now}, wanted {wanted}");
            addresses.changed().await.unwrap();
        }
    }
    fs::write(&file, "").unwrap();
    becomes(&addresses, addr, "").await;
}

#[tokio::test]
async fn host_names_are_resolved_and_unknown_ones_left_out() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("web"), "localhost 80\nno.such.host.invalid 81\n").unwrap();
    let namer = namer(root.path());
    let mut addresses = address_of(&namer.lookup(&read("/web")));
    let shown = tokio::time::timeout(Duration::from_secs(20), addresses.settled()).await.unwrap();
    let shown = addr(&shown);
    assert!(shown.contains("127.0.0.1:80") && !shown.contains("81"), "{shown}");
}

#[tokio::test]
async fn links_that_lead_back_are_not_followed_for_ever() {
    let root = tempfile::tempdir().unwrap();
    for name in ["one", "two"] {
        std::os::unix::fs::symlink(root.path(), root.path().join(name)).unwrap();
    }
    fs::write(root.path().join("web"), "127.0.0.1 80\n").unwrap();
    let namer = namer(root.path());
    assert_eq!(tree(&namer.lookup(&read("/web")).get()), "/#/io.l5d.fs/web[/]");
    assert_eq!(tree(&namer.lookup(&read("/one/web")).get()), "~");
}

fn bound(state: &State<BoundTree>) -> String {
    match state {
        State::Ok(tree) => tree.show_with(&|bound| bound.id.show()),
        State::Pending => "pending".to_owned(),
        State::Failed(why) => format!("failed: {why}"),
    }
}

#[tokio::test]
async fn a_dtab_file_is_followed_and_trouble_keeps_the_last_good_one() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("dtab");
    fs::write(&file, "/svc => /$/inet/1 ;\n").unwrap();
    let config: InterpreterConfig = serde_json::from_value(json!({ "kind": "io.l5d.fs", "dtabFile": file })).unwrap();
    let namers: Namers = build_namers(&[], Precedence::LastWins, &Surroundings::default()).unwrap();
    let interpreter = config.build(&namers, &Surroundings::default()).unwrap();
    let live = interpreter.bind(&Dtab::empty(), &read("/svc"));
    becomes(&live, bound, "/$/inet/1").await;
    fs::write(&file, "/svc => /$/inet/2 ;\n").unwrap();
    becomes(&live, bound, "/$/inet/2").await;
    for trouble in ["/svc => => ;\n", "gone"] {
        if trouble == "gone" {
            fs::remove_file(&file).unwrap();
        } else {
            fs::write(&file, trouble).unwrap();
        }
        let wanted = if trouble == "gone" { "cannot read" } else { "expected but" };
        let mut served = interpreter.served();
        let stale = async {
            while !served.take().ok().and_then(|served| served.stale).is_some_and(|why| why.contains(wanted)) {
                served.changed().await.unwrap();
            }
        };
        tokio::time::timeout(SOON, stale).await.expect("told");
        assert_eq!(bound(&live.get()), "/$/inet/2", "{trouble}");
    }
    replace(directory.path(), "dtab", "/svc => /$/inet/3");
    becomes(&live, bound, "/$/inet/3").await;
    // That all names follow the new table is told after they do.
    let mut served = interpreter.served();
    let mended = async {
        while served.take().ok().is_none_or(|served| served.stale.is_some()) {
            served.changed().await.unwrap();
        }
    };
    tokio::time::timeout(SOON, mended).await.expect("told");
}
