//! The invariants of `ARCHITECTURE.md` that a machine can check.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn crates() -> Vec<String> {
    let found = std::fs::read_dir(root().join("crates")).unwrap();
    let mut names: Vec<String> = found.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert!(names.len() > 10, "{names:?}");
    names
}

/// Names under `[dependencies]`.
fn dependencies(name: &str) -> BTreeSet<String> {
    let text = std::fs::read_to_string(root().join("crates").join(name).join("Cargo.toml")).unwrap();
    let section = text.split("[dependencies]").nth(1).unwrap_or("");
    let section = section.split("\n[").next().unwrap();
    section.lines().filter_map(|line| Some(line.split_once('=')?.0.trim().to_owned())).collect()
}

/// Every Rust file below a directory.
fn sources(directory: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

#[test]
fn pure_crates_have_no_io_clock_or_randomness() {
    let forbidden = ["tokio", "std::net", "std::fs", "Instant::now", "SystemTime::now", "fastrand"];
    for name in ["names", "balance", "http1", "rollout"] {
        let allowed = ["serde", "thiserror", "itoa", "memchr", "hashbrown"];
        let found: Vec<String> =
            dependencies(name).into_iter().filter(|dependency| !allowed.contains(&dependency.as_str())).collect();
        assert!(found.is_empty(), "{name} depends on {found:?}");
        let mut files = Vec::new();
        sources(&root().join("crates").join(name).join("src"), &mut files);
        assert!(!files.is_empty());
        for file in files {
            let text = std::fs::read_to_string(&file).unwrap();
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            for line in code {
                let found = forbidden.iter().find(|word| line.contains(*word));
                assert!(found.is_none(), "{}: {line}", file.display());
            }
        }
    }
}

#[test]
fn arrows_lead_where_the_architecture_says() {
    let all = crates();
    let inner =
        |name: &str| -> BTreeSet<String> { dependencies(name).into_iter().filter(|d| all.contains(d)).collect() };
    let forbidden = [
        ("proxy", &["store", "discovery", "control", "pipeline"][..]),
        ("control", &["proxy", "pipeline"]),
        ("pipeline", &["proxy", "control", "store", "discovery"]),
        ("discovery", &["proxy", "store", "control"]),
        ("store", &["discovery", "naming", "proxy", "control"]),
        ("naming", &["discovery", "store", "proxy", "control"]),
        ("names", &["naming"]),
    ];
    for (from, to) in forbidden {
        let arrows = inner(from);
        let wrong: Vec<&&str> = to.iter().filter(|to| arrows.contains(**to)).collect();
        assert!(wrong.is_empty(), "{from} depends on {wrong:?}");
    }
    for name in &all {
        assert!(!inner(name).contains("testkit"), "{name} ships testkit");
    }
}

#[test]
fn every_crate_is_in_the_architecture_and_every_file_says_what_it_is() {
    let architecture = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    for name in crates() {
        assert!(architecture.contains(&format!("| `{name}` |")), "ARCHITECTURE.md does not know {name}");
        let mut files = Vec::new();
        sources(&root().join("crates").join(&name), &mut files);
        for file in files {
            let text = std::fs::read_to_string(&file).unwrap();
            assert!(text.starts_with("//!"), "{} does not say what it is", file.display());
            let is_test = file.components().any(|part| part.as_os_str() == "tests");
            assert!(is_test || text.lines().count() <= 800, "{}: split it by idea", file.display());
        }
    }
}
