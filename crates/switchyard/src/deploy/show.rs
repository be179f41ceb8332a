//! Deploys as text.

use serde::Serialize;

use super::remote::{Deploy, Stage};
use crate::output::{Ink, Table, ink, safe};

/// The colour of a state; the word always stands beside it.
pub fn colour(state: &str) -> Ink {
    match state {
        "succeeded" => Ink::Good,
        "waiting" => Ink::Waits,
        "failed" => Ink::Broken,
        "running" => Ink::Strong,
        "pending" | "skipped" => Ink::Faint,
        _ => Ink::Plain,
    }
}

pub fn table(deploys: &[Deploy]) -> Table {
    let mut table = Table::new(&["id", "pipeline", "state", "stage", "version", "reason"]);
    for deploy in deploys {
        table.row(vec![
            (deploy.id.clone(), Ink::Strong),
            (safe(&deploy.pipeline), Ink::Plain),
            (deploy.state.clone(), colour(&deploy.state)),
            (deploy.stage.clone().unwrap_or_else(|| "-".into()), Ink::Plain),
            (versions(deploy), Ink::Plain),
            (first_line(deploy.reason.as_deref().unwrap_or("")), Ink::Plain),
        ]);
    }
    table
}

fn first_line(text: &str) -> String {
    safe(text.lines().next().unwrap_or(""))
}

fn versions(deploy: &Deploy) -> String {
    let of = |version: &Option<String>| version.clone().unwrap_or_else(|| "-".into());
    format!("{} -> {}", of(&deploy.version.current), of(&deploy.version.new))
}

/// One deploy with its stages.
pub fn status(deploy: &Deploy, coloured: bool) -> String {
    let mut text = format!(
        "{} {} ({}): {}\n",
        ink(&deploy.id, Ink::Strong, coloured),
        safe(&deploy.pipeline),
        versions(deploy),
        ink(&deploy.state, colour(&deploy.state), coloured)
    );
    for (key, value) in &deploy.parameters {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        text.push_str(&format!("  {} = {}\n", safe(key), safe(&value)));
    }
    for stage in &deploy.stages {
        let state = ink(&format!("{:<9}", stage.state), colour(&stage.state), coloured);
        text.push_str(&format!("  {state}  {}\n", safe(&stage.name)));
    }
    if let Some(reason) = &deploy.reason {
        text.push_str(&format!("{}\n", safe(reason)));
    }
    if let Some(gate) = &deploy.gate {
        text.push_str(&format!("{}\n", safe(&gate.message)));
        for try_this in &gate.commands {
            text.push_str(&format!("  {}\n", safe(&try_this.command)));
        }
        text.push_str(&format!("  switchyard deploy approve {}    # {}\n", deploy.id, safe(&gate.ok)));
        text.push_str(&format!("  switchyard deploy abort {}\n", deploy.id));
    }
    text
}

/// A line of a deploy's log, taken apart.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct LogLine {
    time: String,
    level: String,
    stage: Option<String>,
    text: String,
}

/// `TIME LEVEL [STAGE] TEXT`; lines that begin with blanks belong to the text before them.
pub fn log_lines(log: &str) -> Vec<LogLine> {
    let mut lines: Vec<LogLine> = Vec::new();
    for line in log.lines() {
        if let (Some(more), Some(last)) = (line.strip_prefix("    "), lines.last_mut()) {
            last.text.push('\n');
            last.text.push_str(more);
            continue;
        }
        let (time, rest) = line.split_once(' ').unwrap_or(("", line));
        let (level, rest) = rest.split_once(' ').unwrap_or(("", rest));
        let rest = rest.trim_start();
        let (stage, text) = match rest.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
            Some((stage, text)) => (Some(stage.to_owned()), text),
            None => (None, rest),
        };
        lines.push(LogLine { time: time.to_owned(), level: level.to_owned(), stage, text: text.to_owned() });
    }
    lines
}

/// What a deploy says on its way, below its stages; what the stages' own lines say is left out.
pub fn progress(log: &str) -> Vec<String> {
    let is_state = |line: &LogLine| {
        let stage = line.stage.as_deref().unwrap_or_default();
        let rest = line.text.strip_prefix(stage).and_then(|rest| rest.strip_prefix(": "));
        rest.is_some_and(|rest| ["started", "succeeded"].contains(&rest) || rest.starts_with("waits for a person"))
    };
    let lines = log_lines(log).into_iter().filter(|line| !is_state(line));
    lines.map(|line| safe(&format!("{:11}{}", "", line.text.replace('\n', " ")))).collect()
}

/// What is said while a deploy is followed.
pub fn stage_line(deploy: &Deploy, stage: &Stage) -> String {
    let note = match (stage.state.as_str(), &deploy.gate) {
        ("waiting", Some(gate)) => format!(": {}", first_line(&gate.message)),
        _ => String::new(),
    };
    format!("{:<9}  {}{note}", stage.state, safe(&stage.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_taken_apart() {
        let log = "T1 info  [shift traffic (10%)] a [b] c\n    more\nT2 error plain\n";
        let line = |time: &str, level: &str, stage: Option<&str>, text: &str| LogLine {
            time: time.into(),
            level: level.into(),
            stage: stage.map(str::to_owned),
            text: text.into(),
        };
        let expected =
            [line("T1", "info", Some("shift traffic (10%)"), "a [b] c\nmore"), line("T2", "error", None, "plain")];
        assert_eq!(log_lines(log), expected);
    }
}
