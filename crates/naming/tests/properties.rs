//! Binding against a naive reading of the rules, and live values against binding anew.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use names::{Dtab, NameTree, Path};
use naming::{Addr, Bound, BoundTree, ConfiguredInterpreter, Interpreter, Live, Name, Namer, NamerTree, Namers, State};
use proptest::{collection::vec, prelude::*};

/// `/#/n/up`, `/#/n/down`, `/#/n/slow`, `/#/n/bad`, `/#/n/again/x`: one of each answer.
struct Fixed;

fn answer(path: &Path) -> State<NamerTree> {
    let text = path.show();
    let rest = |n| path.drop_first(n);
    match text.split('/').nth(1).unwrap_or_default() {
        "up" => {
            let bound = Bound::new(read("/#/n/up"), rest(1), Live::constant(Addr::Neg));
            State::Ok(NameTree::Leaf(Name::Bound(bound)))
        }
        "again" => State::Ok(NameTree::Leaf(Name::Path(rest(1)))),
        "slow" => State::Pending,
        "bad" => State::Failed("bad".into()),
        _ => State::Ok(NameTree::Neg),
    }
}

impl Namer for Fixed {
    fn lookup(&self, path: &Path) -> Live<NamerTree> {
        Live::channel(answer(path)).1
    }
}

struct Global;

impl Namer for Global {
    fn lookup(&self, _: &Path) -> Live<NamerTree> {
        Live::constant(NameTree::Neg)
    }
}

fn read(text: &str) -> Path {
    Path::read(text).unwrap()
}

/// The rules of binding, one after the other, without a care for cost.
fn naive(dtab: &Dtab, depth: usize, tree: &NamerTree) -> State<BoundTree> {
    if depth > 100 {
        return State::Failed("Max recursion level: 100 reached in Namer lookup".into());
    }
    match tree {
        NameTree::Leaf(Name::Bound(bound)) => State::Ok(NameTree::Leaf(bound.clone())),
        NameTree::Leaf(Name::Path(path)) => match dtab.lookup(path) {
            NameTree::Neg if path.starts_with(&read("/#/n")) => match answer(&path.drop_first(2)) {
                State::Ok(tree) => naive(dtab, depth + 1, &tree),
                State::Pending => State::Pending,
                State::Failed(why) => State::Failed(why),
            },
            tree => naive(dtab, depth + 1, &tree.map(&mut |path| Name::Path(path.clone()))),
        },
        NameTree::Alt(trees) => {
            let results = trees.iter().map(|tree| naive(dtab, depth, tree));
            let answers: Vec<_> = results.collect();
            let first = answers.into_iter().find(|state| *state != State::Ok(NameTree::Neg));
            first.unwrap_or(State::Ok(NameTree::Neg))
        }
        NameTree::Union(branches) => {
            let states: Vec<_> = branches.iter().map(|b| (b.weight, naive(dtab, depth, &b.tree))).collect();
            let known = states
                .iter()
                .filter_map(|(weight, state)| Some(names::Weighted { weight: *weight, tree: state.clone().ok()? }));
            let known: Vec<_> = known.collect();
            if !known.is_empty() {
                return State::Ok(NameTree::Union(known).simplified());
            }
            let failed = states.into_iter().map(|(_, state)| state).find(|state| matches!(state, State::Failed(_)));
            failed.unwrap_or(State::Pending)
        }
        NameTree::Neg => State::Ok(NameTree::Neg),
        NameTree::Fail => State::Ok(NameTree::Fail),
        NameTree::Empty => State::Ok(NameTree::Empty),
    }
}

fn tree() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        3 => prop::sample::select(vec!["/a", "/b", "/c/d", "/"]).prop_map(str::to_owned),
        3 => prop::sample::select(vec!["/#/n/up", "/#/n/down", "/#/n/again/b", "/#/n/up/x"]).prop_map(str::to_owned),
        1 => prop::sample::select(vec!["/#/n/slow", "/#/n/bad", "!", "~", "$"]).prop_map(str::to_owned),
    ];
    leaf.prop_recursive(2, 6, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 2..4).prop_map(|trees| format!("({})", trees.join(" | "))),
            vec(inner, 2..4).prop_map(|trees| format!("({})", trees.join(" & 0.5*"))),
        ]
    })
}

/// Later prefixes lead only to earlier ones, mostly: few loops, so that the naive reading ends.
fn dtab() -> impl Strategy<Value = Dtab> {
    let prefix = prop::sample::select(vec!["/a", "/b", "/c", "/c/*", "/a/d"]);
    let entry = (prefix, tree()).prop_map(|(prefix, tree)| format!("{prefix} => {tree}"));
    vec(entry, 0..5).prop_map(|entries| Dtab::read(&entries.join(";")).unwrap())
}

/// Whether a naive reading would come to an end: no entry's leaf can lead back to its prefix.
fn ends(dtab: &Dtab) -> bool {
    fn leads(dtab: &Dtab, path: &Path, depth: usize, work: &mut usize) -> bool {
        *work += 1;
        if depth > 12 || *work > 2_000 {
            return false;
        }
        let mut ends = true;
        let again = path.starts_with(&read("/#/n/again")).then(|| path.drop_first(3));
        let next = dtab.lookup(path).map(&mut |leaf| ends &= leads(dtab, leaf, depth + 1, work));
        let _ = next;
        ends && again.is_none_or(|path| leads(dtab, &path, depth + 1, work))
    }
    let starts = ["/a", "/a/d/e", "/b/x", "/c/d", "/c"];
    starts.iter().all(|start| leads(dtab, &read(start), 0, &mut 0))
}

fn shown(state: &State<BoundTree>) -> String {
    match state {
        State::Ok(tree) => tree.show_with(&|bound| format!("{}[{}]", bound.id, bound.residual)),
        State::Pending => "pending".to_owned(),
        State::Failed(why) => format!("failed: {why}"),
    }
}

fn interpreter(own: Live<Dtab>) -> ConfiguredInterpreter {
    let namer: Arc<dyn Namer> = Arc::new(Fixed);
    ConfiguredInterpreter::new(Some(own), Namers::new(vec![(read("/#/n"), namer)], Arc::new(Global)))
}

async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn live_trees_are_what_binding_anew_would_give(
        own in vec(dtab().prop_filter("ends", ends), 1..5),
        local in dtab().prop_filter("ends", ends),
        name in prop::sample::select(vec!["/a", "/a/d/e", "/b/x", "/c/d", "/c", "/#/n/up/y", "/none"]),
    ) {
        prop_assume!(own.iter().all(|own| ends(&own.concat(&local))));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (publisher, live) = Live::channel(State::Pending);
            let interpreter = interpreter(live);
            let bound = interpreter.bind(&local, &read(name));
            let mut wanted = State::Pending;
            for own in own {
                let now = naive(&own.concat(&local), 0, &NameTree::Leaf(Name::Path(read(name))));
                if matches!(now, State::Ok(_)) || !matches!(wanted, State::Ok(_)) {
                    wanted = now;
                }
                publisher.set(State::Ok(own));
                settle().await;
                assert_eq!(shown(&bound.get()), shown(&wanted));
            }
        });
    }
}
