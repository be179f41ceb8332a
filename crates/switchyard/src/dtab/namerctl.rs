//! `namerctl`: the original's command line, output and exit codes, word for word where scripts can
//! see them. Its usage texts are ours.
//!
//! Flags may stand anywhere; a flag that a command does not know is an error, as is a namespace
//! too many. Every error goes to standard error with the usage and once more to standard output,
//! and ends with 255.

use std::ffi::OsString;

use super::layout;
use super::remote::{ControlPlane, Note, Weights};
use super::write::Input;
use super::{config_file, go_json};
use crate::exit::{Exit, Failure};
use crate::web::{self, Trust};

/// Runs the command; what is left to do is to end with the code.
pub fn main(arguments: &[OsString]) -> Exit {
    web::die_of_broken_pipes();
    let words: Vec<String> = arguments.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let (line, result) = match Line::read(&words) {
        Ok(line) => {
            let result = run(&line);
            (line, result)
        }
        Err(message) => (Line::default(), Err(Failure::error(Exit::Namerctl, message))),
    };
    match result {
        Ok(()) => Exit::Ok,
        Err(error) => {
            let message = match error.downcast_ref::<Failure>() {
                Some(failure) => failure.message.clone(),
                None => format!("{error:#}"),
            };
            eprint!("Error: {message}\n{}", usage(line.command()));
            println!("{message}");
            Exit::Namerctl
        }
    }
}

/// The command line, taken apart.
#[derive(Debug, Default)]
struct Line {
    words: Vec<String>,
    base_url: Option<String>,
    json: bool,
    compact: bool,
    version: String,
    help: bool,
}

/// A command by any of its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    List,
    Get,
    Create,
    Update,
    Delete,
}

const VERBS: &[(Verb, &[&str])] = &[
    (Verb::List, &["list", "ls"]),
    (Verb::Get, &["get", "cat"]),
    (Verb::Create, &["create", "new"]),
    (Verb::Update, &["update", "up"]),
    (Verb::Delete, &["delete", "del", "rm"]),
];

impl Line {
    fn read(words: &[String]) -> Result<Line, String> {
        let mut line = Line::default();
        let mut rest = words.iter();
        while let Some(word) = rest.next() {
            if word == "--" {
                line.words.extend(rest.by_ref().cloned());
            } else if word == "-h" || word == "--help" {
                line.help = true;
            } else if let Some(flag) = word.strip_prefix("--") {
                let (name, value) = match flag.split_once('=') {
                    Some((name, value)) => (name, Some(value.to_owned())),
                    None => (flag, None),
                };
                line.flag(name, value, &mut || rest.next().cloned())?;
            } else if word.starts_with('-') && word != "-" {
                return Err(format!("unknown shorthand flag: {:?} in {word}", word.chars().nth(1).unwrap_or('-')));
            } else {
                line.words.push(word.clone());
            }
        }
        Ok(line)
    }

    fn flag(
        &mut self,
        name: &str,
        value: Option<String>,
        next: &mut dyn FnMut() -> Option<String>,
    ) -> Result<(), String> {
        let needed = || format!("flag needs an argument: --{name}");
        match name {
            "base-url" => self.base_url = Some(value.or_else(next).ok_or_else(needed)?),
            // Read and forgotten: a later step of the original resets it.
            "config" => drop(value.or_else(next).ok_or_else(needed)?),
            "version" => self.version = value.or_else(next).ok_or_else(needed)?,
            "json" => self.json = switch(name, value)?,
            "pretty" => self.compact = !switch(name, value)?,
            _ => return Err(format!("unknown flag: --{name}")),
        }
        Ok(())
    }

    fn command(&self) -> Option<Verb> {
        let [dtab, verb, ..] = self.words.as_slice() else {
            return None;
        };
        let named = |(_, names): &&(Verb, &[&str])| names.contains(&verb.as_str());
        VERBS.iter().find(named).filter(|_| dtab == "dtab").map(|(verb, _)| *verb)
    }
}

fn switch(name: &str, value: Option<String>) -> Result<bool, String> {
    match value.as_deref() {
        None | Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        Some(other) => Err(format!("invalid argument {other:?} for \"--{name}\" flag: not a boolean")),
    }
}

fn run(line: &Line) -> anyhow::Result<()> {
    match (line.words.first().map(String::as_str), line.command()) {
        (None | Some("dtab" | "help"), None) => {
            print!("{}", usage(None));
            Ok(())
        }
        (Some(other), None) => fail(format!("unknown command {other:?} for \"namerctl\"")),
        (_, Some(verb)) if line.help => {
            print!("{}", usage(Some(verb)));
            Ok(())
        }
        (_, Some(verb)) => web::block_on(command(verb, line)),
    }
}

async fn command(verb: Verb, line: &Line) -> anyhow::Result<()> {
    let arguments = &line.words[2..];
    let remote =
        || -> anyhow::Result<ControlPlane> { ControlPlane::new(base_url(line)?, &Trust::of_the_environment()?) };
    match (verb, arguments) {
        (Verb::List, []) => {
            let names = remote()?.list().await?;
            println!("{}", if line.json { go_json::strings(&names) } else { names.join("\n") });
        }
        (Verb::List, _) => return fail("list does not take arguments"),
        (Verb::Get, [namespace]) => {
            let dtab = remote()?.get(namespace, Weights::Original).await?;
            match (line.json, line.compact) {
                (true, _) => println!("{}", go_json::versioned(&dtab)),
                (false, true) => println!("{}", layout::compact(&dtab.dtab)),
                (false, false) => print!("{}", layout::pretty(&dtab)),
            }
        }
        (Verb::Get, _) => return fail("get requires a name argument"),
        (Verb::Create, [namespace, file]) => {
            let remote = remote()?;
            let input = input(file)?;
            remote.create(namespace, input.body, &Note::default()).await?;
            println!("Created {namespace}");
        }
        (Verb::Create, _) => return fail("create requires a name and file path"),
        (Verb::Update, [namespace, file]) => {
            let remote = remote()?;
            let input = input(file)?;
            let version = input.version.or_else(|| Some(line.version.clone()).filter(|version| !version.is_empty()));
            remote.update(namespace, version.as_deref(), input.body, &Note::default()).await?;
            println!("Updated {namespace}");
        }
        (Verb::Update, _) => return fail("update requires a name and file path"),
        (Verb::Delete, [namespace]) => {
            remote()?.delete(namespace, &Note::default()).await?;
            println!("Deleted {namespace}");
        }
        (Verb::Delete, _) => return fail("delete requires one argument"),
    }
    Ok(())
}

fn input(file: &str) -> anyhow::Result<Input> {
    if file.is_empty() {
        return fail("empty dtab path");
    }
    Input::read(file)
}

/// The flag, the environment, a file in this directory or one above it.
fn base_url(line: &Line) -> anyhow::Result<url::Url> {
    // As in the original a flag counts although it is empty, a variable does not.
    let variable = || std::env::var("NAMERCTL_BASE_URL").ok().filter(|text| !text.is_empty());
    let text = match line.base_url.clone().or_else(variable) {
        Some(text) => text,
        None => config_file::base_url()?.unwrap_or_default(),
    };
    if text.is_empty() {
        return fail("empty base URL");
    }
    match url::Url::parse(&text) {
        Ok(url) if url.has_host() => Ok(url),
        _ => fail(format!("invalid base URL: {text}")),
    }
}

fn fail<T>(message: impl Into<String>) -> anyhow::Result<T> {
    Err(Failure::error(Exit::Namerctl, message))
}

fn usage(verb: Option<Verb>) -> String {
    let line = match verb {
        None => {
            return "\
Reads and writes the dtabs of a namerd.

Usage:
  namerctl dtab [command]

Commands:
  list (ls)                        print the names of all namespaces
  get (cat) NAMESPACE              print a dtab
  create (new) NAMESPACE FILE|-    create a namespace
  update (up) NAMESPACE FILE|-     replace a dtab
  delete (del, rm) NAMESPACE       delete a namespace

Flags:
      --base-url URL   namerd's HTTP API (or NAMERCTL_BASE_URL, or base-url in a .namerctl file)
      --config FILE    has no effect
      --json           print JSON
"
            .to_owned();
        }
        Some(Verb::List) => "namerctl dtab list [--json]",
        Some(Verb::Get) => "namerctl dtab get NAMESPACE [--json] [--pretty=false]",
        Some(Verb::Create) => "namerctl dtab create NAMESPACE FILE|-",
        Some(Verb::Update) => "namerctl dtab update NAMESPACE FILE|- [--version VERSION]",
        Some(Verb::Delete) => "namerctl dtab delete NAMESPACE",
    };
    format!("Usage:\n  {line}\n\nFlags:\n      --base-url URL   namerd's HTTP API\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Result<Line, String> {
        Line::read(&text.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn flags_stand_anywhere() {
        let read = line("--base-url http://a dtab --json up n f --version=v --pretty=false").unwrap();
        assert_eq!(read.words, ["dtab", "up", "n", "f"]);
        assert_eq!((read.command(), read.json, read.compact), (Some(Verb::Update), true, true));
        assert_eq!((read.base_url.as_deref(), read.version.as_str()), (Some("http://a"), "v"));
        assert_eq!(line("dtab get n --nope").unwrap_err(), "unknown flag: --nope");
        assert_eq!(line("dtab get n --version").unwrap_err(), "flag needs an argument: --version");
        assert_eq!(line("dtab up n -").unwrap().words.len(), 4);
    }
}
