//! Names that the reference vectors leave out: odd forms under `/$/`, patterns, depths, transformers.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use discovery::{InterpreterConfig, Precedence, Surroundings, build_namers, global, rewrite};
use names::{Dtab, Path, PathMatcher};
use naming::{Bound, BoundTree, ConfiguredInterpreter, Interpreter, Live, Name, Namer, NamerTree, Namers, State, json};
use serde_json::{Value, json};

fn read(text: &str) -> Path {
    Path::read(text).unwrap()
}

fn bound_name(bound: &Bound) -> String {
    if bound.residual.is_empty() { bound.id.show() } else { format!("{}[{}]", bound.id, bound.residual) }
}

fn looked_up(live: &Live<NamerTree>) -> String {
    match live.get() {
        State::Ok(tree) => tree.show_with(&|name: &Name| match name {
            Name::Path(path) => path.show(),
            Name::Bound(bound) => bound_name(bound),
        }),
        State::Failed(why) => format!("failed: {why}"),
        State::Pending => "pending".to_owned(),
    }
}

fn bound(state: &State<BoundTree>) -> String {
    match state {
        State::Ok(tree) => tree.show_with(&bound_name),
        State::Failed(why) => format!("failed: {why}"),
        State::Pending => "pending".to_owned(),
    }
}

#[tokio::test]
async fn forms_under_the_global_prefix() {
    let global = global::namer();
    let cases = [
        ("/$/fixedinet/80", "/$/fixedinet/80"),
        ("/$/fixedinet/80/r", "/$/fixedinet/80[/r]"),
        ("/$/fixedinet", "failed: Unknown namer: fixedinet for path: /$/fixedinet"),
        ("/$/inet/h/\\x2b80", "/$/inet/h/\\x2b\\x38\\x30"),
        ("/$/inet/2147483648", "failed: Unknown namer: inet for path: /$/inet/2147483648"),
        // Read as text, what is no UTF-8 is replaced; what is only passed on is not.
        ("/$/inet/h/80/\\xff", "/$/inet/h/80[/\\xef\\xbf\\xbd]"),
        ("/$/io.buoyant.http.anyMethod/GET/\\xff", "/\\xef\\xbf\\xbd"),
        ("/$/io.buoyant.http.anyHostPfx/\\xfe/h/r", "/\\xef\\xbf\\xbd/r"),
        ("/$/no.x/\\xff", "failed: Unknown namer: no.x for path: /$/no.x/\\xff"),
        ("/$", "~"),
        ("/", "~"),
    ];
    for (path, wanted) in cases {
        assert_eq!(looked_up(&global.lookup(&read(path))), wanted, "{path}");
    }
}

#[test]
fn a_slash_at_the_end_of_a_pattern_counts_for_nothing() {
    for pattern in ["/a/{x}", "/a/{x}/", "a/{x}//"] {
        let captures = PathMatcher::new(pattern).captures(&read("/a/b/c")).unwrap();
        assert_eq!(json!(captures), json!({ "x": "b" }), "{pattern}");
    }
    assert_eq!(PathMatcher::new("/a//b").captures(&read("/a/b")), None, "but one in between does");
    let config = json!({ "prefix": "/p", "pattern": "/{x}/", "name": "/y/{x}" });
    let config: rewrite::Config = serde_json::from_value(config).unwrap();
    assert_eq!(looked_up(&config.build().lookup(&read("/q/r"))), "/y/q");
}

fn interpreter() -> ConfiguredInterpreter {
    ConfiguredInterpreter::new(None, Namers::new(Vec::new(), global::namer()))
}

/// As JSON; the message where there is no tree.
async fn explained(dtab: &str, path: &str) -> Value {
    match interpreter().explain(&Dtab::read(dtab).unwrap(), &read(path)).await {
        Ok(tree) => json::value(&json::explain(&tree)),
        Err(error) => json!(error.to_string()),
    }
}

/// `/a0 => /a1 ; … => /aN`, then `last`, which says what becomes of `/aN`.
fn chain(length: usize, last: &str) -> String {
    let entries = (0..length).map(|n| format!("/a{n} => /a{};", n + 1));
    entries.chain([format!("/a{length} => {last}")]).collect()
}

#[tokio::test]
async fn explaining_follows_a_hundred_names_as_binding_does() {
    const TOO_DEEP: &str = "Max recursion level reached.";
    // `/a0` to `/a99` are a hundred lookups; the name that the last leads to would be one more.
    let deepest = explained(&chain(99, "!"), "/a0").await;
    assert_eq!(deepest["type"], "delegate");
    assert!(deepest.to_string().ends_with(&"}".repeat(100)), "all of them are shown");
    for last in ["/x", "/$/inet/1", "/$/no.x"] {
        assert_eq!(explained(&chain(99, last), "/a0").await, json!(TOO_DEEP), "{last}");
    }
    // Too deep is the name itself, however many entries it has: not each of them.
    let twice = format!("{};/x => !;/x => ~", chain(98, "/b | $")) + ";/b => /x";
    let text = explained(&twice, "/a0").await.to_string();
    assert_eq!(text.matches(TOO_DEEP).count(), 1, "{text}");
}

#[tokio::test]
async fn the_empty_name_is_explained_as_a_written_neg() {
    let entry = json!({ "prefix": "/a", "dst": "/" });
    let wanted =
        json!({ "type": "delegate", "path": "/a", "delegate": { "type": "neg", "path": "~", "dentry": entry } });
    assert_eq!(explained("/a => /", "/a").await, wanted);
    assert_eq!(explained("", "/").await, json!({ "type": "neg", "path": "~" }));
}

fn transformed(transformers: Value) -> Arc<dyn Interpreter> {
    let namers = build_namers(&[], Precedence::LastWins, &Surroundings::default()).unwrap();
    let config = json!({ "kind": "default", "transformers": transformers });
    serde_json::from_value::<InterpreterConfig>(config).unwrap().build(&namers, &Surroundings::default()).unwrap()
}

async fn bound_by(transformers: Value, dtab: &str) -> String {
    let live = transformed(transformers).bind(&Dtab::read(dtab).unwrap(), &read("/svc/r"));
    bound(&live.clone().settled().await)
}

#[tokio::test]
async fn transformers_put_their_prefix_before_ids_and_replacements_bring_their_own_residual() {
    let dtab = "/svc => 0.3*/$/inet/127.0.0.1/80 & 0.7*$";
    let replace = json!({ "kind": "io.l5d.replace", "path": "/$/inet/127.0.0.1/81/q" });
    let constant = json!({ "kind": "io.l5d.const", "path": "/$/inet/127.0.0.1/81/q" });
    let port = json!({ "kind": "io.l5d.port", "port": 4141 });
    let local = json!({ "kind": "io.l5d.localhost", "prefix": "/here" });
    let cases = [
        (json!([port]), dtab, "0.30*/%/io.l5d.port/4141/$/inet/127.0.0.1/80[/r] & 0.70*$"),
        (json!([port, local]), "/svc => /$/inet/1", "/%/here/%/io.l5d.port/4141/$/inet/1[/r]"),
        (json!([replace]), dtab, "0.30*/%/io.l5d.replace/$/inet/127.0.0.1/81/q[/q] & 0.70*$"),
        (json!([replace]), "/svc => ~", "~"),
        (json!([constant]), "/svc => ~", "/%/io.l5d.const/$/inet/127.0.0.1/81/q[/q]"),
    ];
    for (transformers, dtab, wanted) in cases {
        assert_eq!(bound_by(transformers.clone(), dtab).await, wanted, "{transformers} {dtab}");
    }
}

#[tokio::test]
async fn transformers_show_in_explain_trees_where_they_can() {
    let port = transformed(json!([{ "kind": "io.l5d.port", "port": 4141 }]));
    let dtab = Dtab::read("/svc => /$/inet/127.0.0.1/80").unwrap();
    let tree = json::value(&json::explain(&port.explain(&dtab, &read("/svc")).await.unwrap()));
    let step = &tree["delegate"];
    assert_eq!((&step["type"], &step["path"]), (&json!("transformation"), &json!("/$/inet/127.0.0.1/80")));
    assert_eq!(step["name"], "DelegatingNameTreeTransformer$");
    assert_eq!(step["bound"]["addr"]["addrs"][0]["port"], 80);
    assert_eq!(step["tree"]["path"], "/%/io.l5d.port/4141/$/inet/127.0.0.1/80");
    assert_eq!(step["tree"]["bound"]["addr"]["addrs"][0]["port"], 4141);
    let replaced = transformed(json!([{ "kind": "io.l5d.replace", "path": "/$/inet/1" }]));
    assert!(replaced.explain(&dtab, &read("/svc")).await.is_err());
}
