//! Binding over values that change: what readers see, and what they cost.

#![allow(clippy::unwrap_used)]

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use names::{Dtab, NameTree, Path};
use naming::{
    Addr, Bound, BoundTree, ConfiguredInterpreter, Interpreter, Live, Name, Namer, NamerTree, Namers, Publisher, State,
};

/// A namer whose answers the test writes.
#[derive(Default)]
struct Written {
    answers: Mutex<HashMap<Path, Publisher<NamerTree>>>,
}

impl Written {
    fn publisher<R>(&self, path: &str, write: impl FnOnce(&Publisher<NamerTree>) -> R) -> R {
        let mut answers = self.answers.lock().unwrap();
        let publisher = answers.entry(read(path)).or_insert_with(|| Live::channel(State::Pending).0);
        write(publisher)
    }

    fn say(&self, path: &str, state: State<NamerTree>) {
        self.publisher(path, |publisher| publisher.put(state));
    }

    fn is_read(&self, path: &str) -> bool {
        self.publisher(path, |publisher| !publisher.is_closed())
    }
}

struct Shared(Arc<Written>);

impl Namer for Shared {
    fn lookup(&self, path: &Path) -> Live<NamerTree> {
        self.0.publisher(&path.show(), Publisher::live)
    }
}

struct Nothing;

impl Namer for Nothing {
    fn lookup(&self, _: &Path) -> Live<NamerTree> {
        Live::constant(NameTree::Neg)
    }
}

fn read(path: &str) -> Path {
    Path::read(path).unwrap()
}

fn dtab(text: &str) -> Dtab {
    Dtab::read(text).unwrap()
}

fn leaf(id: &str, residual: &str) -> NamerTree {
    let addr = Live::constant(Addr::Neg);
    NameTree::Leaf(Name::Bound(Bound::new(read(id), read(residual), addr)))
}

fn with_namer() -> (Arc<Written>, Namers) {
    let written = Arc::new(Written::default());
    let namer: Arc<dyn Namer> = Arc::new(Shared(written.clone()));
    (written, Namers::new(vec![(read("/#/n"), namer)], Arc::new(Nothing)))
}

fn shown(state: &State<BoundTree>) -> String {
    match state {
        State::Ok(tree) => tree.show_with(&|bound| format!("{}[{}]", bound.id, bound.residual)),
        State::Pending => "pending".to_owned(),
        State::Failed(why) => format!("failed: {why}"),
    }
}

/// On the test's one thread: lets every task do all that it can do.
async fn settle() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_change_of_the_dtab_or_a_namer_is_published() {
    let (written, namers) = with_namer();
    let (own, live) = Live::channel(State::Ok(dtab("/svc => /#/n/a")));
    let interpreter = ConfiguredInterpreter::new(Some(live), namers);
    let bound = interpreter.bind(&Dtab::empty(), &read("/svc"));
    settle().await;
    assert_eq!(shown(&bound.get()), "pending");
    written.say("/a", State::Ok(leaf("/#/n/a", "/")));
    settle().await;
    assert_eq!(shown(&bound.get()), "/#/n/a[/]");
    written.say("/a", State::Ok(NameTree::Neg));
    settle().await;
    assert_eq!(shown(&bound.get()), "~");
    written.say("/b", State::Ok(leaf("/#/n/b", "/")));
    own.set(State::Ok(dtab("/svc => /#/n/a | /#/n/b")));
    settle().await;
    assert_eq!(shown(&bound.get()), "/#/n/b[/]");
}

#[tokio::test]
async fn a_change_of_only_the_residual_is_published() {
    let (written, namers) = with_namer();
    written.say("/a", State::Ok(leaf("/#/n/a", "/x")));
    let interpreter = ConfiguredInterpreter::new(None, namers);
    let bound = interpreter.bind(&Dtab::empty(), &read("/#/n/a"));
    settle().await;
    written.say("/a", State::Ok(leaf("/#/n/a", "/y")));
    settle().await;
    assert_eq!(shown(&bound.get()), "/#/n/a[/y]");
}

#[tokio::test]
async fn an_equal_tree_is_published_only_with_another_source_of_addresses() {
    let (written, namers) = with_namer();
    let answer = leaf("/#/n/a", "/");
    written.say("/a", State::Ok(answer.clone()));
    let interpreter = ConfiguredInterpreter::new(None, namers);
    let mut bound = interpreter.bind(&Dtab::empty(), &read("/#/n/a"));
    settle().await;
    bound.take();
    written.say("/a", State::Ok(answer));
    settle().await;
    assert!(!bound.has_changed(), "nothing new");
    written.say("/a", State::Ok(leaf("/#/n/a", "/")));
    settle().await;
    assert!(bound.has_changed(), "the old addresses are fed no longer");
}

#[tokio::test]
async fn trouble_after_a_good_tree_keeps_it_and_is_told() {
    let (written, namers) = with_namer();
    let (own, live) = Live::channel(State::Ok(dtab("/svc => /#/n/a")));
    let interpreter = ConfiguredInterpreter::new(Some(live), namers);
    let bound = interpreter.bind(&Dtab::empty(), &read("/svc"));
    written.say("/a", State::Failed("early".into()));
    settle().await;
    assert_eq!(shown(&bound.get()), "failed: early", "before anything good, trouble shows at once");
    written.say("/a", State::Ok(leaf("/#/n/a", "/")));
    settle().await;
    let troubles: [(&str, &dyn Fn()); 4] = [
        ("namer down", &|| written.say("/a", State::Failed("namer down".into()))),
        ("waiting for a dtab or a namer", &|| written.say("/a", State::Pending)),
        ("store down", &|| own.set(State::Failed("store down".into()))),
        ("waiting for a dtab or a namer", &|| own.set(State::Pending)),
    ];
    for (why, cause) in troubles {
        cause();
        settle().await;
        assert_eq!(shown(&bound.get()), "/#/n/a[/]", "{why}");
        assert_eq!(interpreter.state()["stale"][0]["why"], why);
    }
    written.say("/a", State::Ok(NameTree::Neg));
    own.set(State::Ok(dtab("/svc => /#/n/a")));
    settle().await;
    assert_eq!(shown(&bound.get()), "~", "an answer counts, also when it is no");
    assert_eq!(interpreter.state()["stale"], serde_json::json!([]));
}

#[tokio::test]
async fn nothing_is_read_after_the_last_reader_and_equal_names_are_read_once() {
    let (written, namers) = with_namer();
    written.say("/a", State::Ok(leaf("/#/n/a", "/")));
    let interpreter = ConfiguredInterpreter::new(None, namers);
    let bind = |path: &str, local: &str| interpreter.bind(&dtab(local), &read(path));
    let (one, two) = (bind("/svc", "/svc=>/#/n/a"), bind("/svc", "/svc=>/#/n/a"));
    let (other_dtab, other_path) = (bind("/svc", "/svc=>/#/n/b"), bind("/svc/x", "/svc=>/#/n/a"));
    settle().await;
    assert_eq!(one.id(), two.id());
    assert_eq!(interpreter.state()["bindings"], 3);
    drop((other_dtab, other_path, one));
    settle().await;
    assert!(written.is_read("/a"));
    assert_eq!(interpreter.state()["bindings"], 1);
    drop(two);
    settle().await;
    assert!(!written.is_read("/a"));
    assert_eq!(interpreter.state()["bindings"], 0);
    assert_eq!(shown(&bind("/svc", "/svc=>/#/n/a").settled().await), "/#/n/a[/]", "and again");
}

#[tokio::test]
async fn a_lookup_that_no_longer_counts_is_not_read_on() {
    let (written, namers) = with_namer();
    let (own, live) = Live::channel(State::Ok(dtab("/svc => /#/n/a")));
    let interpreter = ConfiguredInterpreter::new(Some(live), namers);
    let _bound = interpreter.bind(&Dtab::empty(), &read("/svc"));
    settle().await;
    assert!(written.is_read("/a"));
    own.set(State::Ok(dtab("/svc => /#/n/b")));
    settle().await;
    assert!(!written.is_read("/a") && written.is_read("/b"));
}

#[tokio::test]
async fn the_dtab_is_told_after_all_that_follows_from_it() {
    let (written, namers) = with_namer();
    written.say("/a", State::Ok(leaf("/#/n/a", "/")));
    let (own, live) = Live::channel(State::Ok(dtab("/svc => /#/n/a")));
    let interpreter = ConfiguredInterpreter::new(Some(live), namers);
    let (tree, under) = interpreter.bind_under(&Dtab::empty(), &read("/svc"));
    settle().await;
    assert_eq!(under.get(), State::Ok(dtab("/svc => /#/n/a")));
    own.set(State::Ok(dtab("/svc => /#/n/b")));
    settle().await;
    assert_eq!(under.get(), State::Ok(dtab("/svc => /#/n/a")), "nobody knows /b yet: the old tree serves");
    assert_eq!(shown(&tree.get()), "/#/n/a[/]");
    written.say("/b", State::Ok(leaf("/#/n/b", "/")));
    settle().await;
    assert_eq!(under.get(), State::Ok(dtab("/svc => /#/n/b")));
    assert_eq!(shown(&tree.get()), "/#/n/b[/]");
    own.set(State::Ok(dtab("/svc => /svc")));
    settle().await;
    assert_eq!(under.get(), State::Ok(dtab("/svc => /#/n/b")), "a loop fails: the old tree serves");
    assert_eq!(shown(&tree.get()), "/#/n/b[/]");
}

#[tokio::test]
async fn work_is_bounded_in_all() {
    let interpreter = ConfiguredInterpreter::new(None, Namers::new(vec![], Arc::new(Nothing)));
    // Each doubles or trebles its own work at every level.
    let hostile = ["/svc => /svc & /svc", "/svc => /svc & ~ & /svc", "/svc => (/svc | /x) & (/svc | /y) & $"];
    for entry in hostile {
        let begin = Instant::now();
        let state = interpreter.bind(&dtab(entry), &read("/svc")).settled().await;
        let text = shown(&state);
        assert!(text.contains("more than 10000 lookups for one name"), "{entry}: {}", &text[..text.len().min(200)]);
        assert!(begin.elapsed() < Duration::from_secs(5), "{entry}: {:?}", begin.elapsed());
        let explained = interpreter.explain(&dtab(entry), &read("/svc")).await.unwrap();
        assert!(naming::json::text(&naming::json::explain(&explained)).len() < 20_000_000, "{entry}");
    }
}

/// A tree with `depth` parentheses around `inner` that do not simplify away.
fn nested(depth: usize, inner: &str) -> String {
    (0..depth).fold(
        inner.to_owned(),
        |tree, level| {
            if level % 2 == 0 { format!("(/x | {tree})") } else { format!("($ & {tree})") }
        },
    )
}

#[tokio::test]
async fn nesting_is_bounded_so_that_the_stack_is_enough() {
    let interpreter = ConfiguredInterpreter::new(None, Namers::new(vec![], Arc::new(Nothing)));
    let chain: Vec<_> = (0..90).map(|n| format!("/n{n} => {}", nested(190, &format!("/n{}", n + 1)))).collect();
    let dtab = dtab(&chain.join(" ; "));
    // On the smallest stack that something of ours runs on: that of a tokio worker.
    let (interpreter, moved) = (interpreter.clone(), dtab.clone());
    let explained = tokio::spawn({
        let (interpreter, dtab) = (interpreter.clone(), moved);
        async move {
            interpreter.explain(&dtab, &read("/n0")).await.map(|tree| naming::json::text(&naming::json::explain(&tree)))
        }
    });
    assert!(explained.await.unwrap().unwrap().contains("trees nested more than 400 deep"));
    let state = interpreter.bind(&dtab, &read("/n0")).settled().await;
    assert!(matches!(state, State::Ok(_)), "the branches that are not too deep: {}", shown(&state));
}

#[tokio::test]
async fn a_weight_that_stood_above_a_leaf_is_shown_though_its_siblings_fell_away() {
    let (written, namers) = with_namer();
    written.say("/a", State::Ok(leaf("/#/n/a", "/")));
    written.say("/none", State::Ok(NameTree::Neg));
    let interpreter = ConfiguredInterpreter::new(None, namers);
    let weight = async |entry: &str| match interpreter.bind(&dtab(entry), &read("/svc")).settled().await {
        State::Ok(NameTree::Leaf(bound)) => bound.weight,
        other => panic!("{}", shown(&other)),
    };
    assert_eq!(weight("/svc => 0.3*/#/n/a & /#/n/none").await, Some(0.3));
    assert_eq!(weight("/svc => /#/n/a").await, None);
    assert_eq!(weight("/svc => 3*/mid & ~ ; /mid => /#/n/a").await, Some(3.0));
}
