//! Under which name and with which arguments we were called.
//!
//! `linkerd`, `namerd` and `namerctl` are the originals' programs: called by their names, the one
//! binary takes their command lines. Go and Scala flags have one dash (`-validate`); they are
//! rewritten to two here, so that the rest of the program knows one style only.

use std::ffi::{OsStr, OsString};
use std::path::Path;

/// A command line, understood as far as its style goes.
#[derive(Debug, PartialEq, Eq)]
pub enum Invocation {
    /// `namerctl`, without its own name.
    Namerctl(Vec<OsString>),
    /// Everything else, as `switchyard COMMAND …`.
    Switchyard(Vec<OsString>),
}

const ROUTER_FLAGS: &[&str] = &["validate"];
const HELLOWORLD_SWITCHES: &[&str] = &["json"];
const HELLOWORLD_VALUES: &[&str] = &["addr", "text", "target", "latency", "failure-rate", "protocol"];

impl Invocation {
    pub fn of_this_process() -> Invocation {
        Invocation::of(std::env::args_os())
    }

    fn of(arguments: impl IntoIterator<Item = OsString>) -> Invocation {
        let mut arguments = arguments.into_iter();
        let program = arguments.next().unwrap_or_default();
        let mut rest: Vec<OsString> = arguments.collect();
        match Path::new(&program).file_name().and_then(OsStr::to_str) {
            Some("namerctl") => return Invocation::Namerctl(rest),
            Some("linkerd") => rest.insert(0, "router".into()),
            Some("namerd") => rest.insert(0, "namerd".into()),
            Some("helloworld") => rest.insert(0, "helloworld".into()),
            _ => {}
        }
        let rest = match rest.first().and_then(|command| command.to_str()) {
            Some("router" | "namerd") => two_dashes(rest, ROUTER_FLAGS, &[]),
            Some("helloworld") => two_dashes(rest, HELLOWORLD_SWITCHES, HELLOWORLD_VALUES),
            _ => rest,
        };
        Invocation::Switchyard(std::iter::once("switchyard".into()).chain(rest).collect())
    }
}

/// `-text x` → `--text x` for the flags named. The value of a flag is never touched, whatever it
/// looks like.
fn two_dashes(arguments: Vec<OsString>, switches: &[&str], values: &[&str]) -> Vec<OsString> {
    let mut result = Vec::with_capacity(arguments.len());
    let mut is_value = false;
    for argument in arguments {
        let flag = match argument.to_str() {
            Some(text) if !is_value => text.strip_prefix('-').filter(|rest| !rest.starts_with('-')),
            _ => None,
        };
        let name = flag.map(|flag| flag.split('=').next().unwrap_or(flag));
        let (takes_value, known) = match name {
            Some(name) => {
                let open = flag.is_some_and(|flag| !flag.contains('='));
                (open && values.contains(&name), values.contains(&name) || switches.contains(&name))
            }
            None => {
                let open = argument.to_str().and_then(|text| text.strip_prefix("--"));
                (!is_value && open.is_some_and(|name| values.contains(&name)), false)
            }
        };
        if known {
            let mut longer = OsString::from("-");
            longer.push(&argument);
            result.push(longer);
        } else {
            result.push(argument);
        }
        is_value = takes_value;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: &[&str]) {
        let expected = expected.iter().map(OsString::from).collect();
        let found = Invocation::of(line.split(' ').map(OsString::from));
        assert_eq!(found, Invocation::Switchyard(expected), "{line}");
    }

    #[test]
    fn originals_are_known_by_their_names() {
        check("/usr/bin/linkerd -validate -", &["switchyard", "router", "--validate", "-"]);
        check("namerd c.yaml", &["switchyard", "namerd", "c.yaml"]);
        check("switchyard dtab -o json", &["switchyard", "dtab", "-o", "json"]);
        let namerctl = Invocation::of(["namerctl", "dtab"].map(OsString::from));
        assert_eq!(namerctl, Invocation::Namerctl(vec!["dtab".into()]));
    }

    #[test]
    fn go_flags_get_a_second_dash_and_values_do_not() {
        check(
            "switchyard helloworld -addr :1 --text -json -json=false -target=w -x",
            &["switchyard", "helloworld", "--addr", ":1", "--text", "-json", "--json=false", "--target=w", "-x"],
        );
    }
}
