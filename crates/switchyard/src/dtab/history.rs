//! `history`, `diff` and `undo`: what was, what changed, and back again.

use anyhow::Context;
use clap::Args;
use names::Dtab;
use similar::{ChangeTag, TextDiff};

use super::Session;
use super::layout;
use super::remote::{Body, DTAB, Entry, Revision, Weights};
use super::write::{Input, NoteArguments};
use crate::exit::{Exit, Failure};
use crate::output::{self, Ink, Output, Table};

#[derive(Args, Debug)]
pub struct History {
    namespace: String,
    /// The newest N.
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
    /// With what each version changed.
    #[arg(short, long)]
    patch: bool,
}

#[derive(Args, Debug)]
pub struct Diff {
    namespace: String,
    /// A file to compare with what is stored; `-` is standard input.
    #[arg(required_unless_present = "from", conflicts_with_all = ["from", "to"])]
    file: Option<String>,
    /// The old version.
    #[arg(long, value_name = "VERSION")]
    from: Option<String>,
    /// The new version; the current one if not given.
    #[arg(long, value_name = "VERSION", requires = "from")]
    to: Option<String>,
    /// End with 7 if the two differ.
    #[arg(long)]
    exit_code: bool,
}

#[derive(Args, Debug)]
pub struct Undo {
    namespace: String,
    /// The version to put back; the one before the current if not given.
    #[arg(long, value_name = "VERSION")]
    to: Option<String>,
    #[command(flatten)]
    note: NoteArguments,
}

impl History {
    pub async fn run(&self, session: &Session) -> anyhow::Result<Exit> {
        // One more: what the oldest of them changed.
        let most = self.limit.saturating_add(usize::from(self.patch));
        let whole = session.control_plane.history(&self.namespace, most).await?;
        let revisions = &whole[..whole.len().min(self.limit)];
        match session.output {
            Output::Json => output::json(&revisions)?,
            Output::Text if self.patch => {
                for (n, revision) in revisions.iter().enumerate() {
                    println!("{}", heading(revision));
                    let older = whole.get(n + 1).map_or("", |older| older.dtab.as_str());
                    print!(
                        "{}",
                        Difference::new(&text_lines(older)?, &text_lines(&revision.dtab)?).show(output::coloured())
                    );
                }
            }
            Output::Text => table(revisions).print(),
        }
        Ok(Exit::Ok)
    }
}

fn heading(revision: &Revision) -> String {
    let comment = revision.comment.as_deref().map(|text| format!("  {text}")).unwrap_or_default();
    let Revision { version, time, author, action, .. } = revision;
    output::ink(
        &output::safe(&format!("{version}  {time}  {author}  {action}{comment}")),
        Ink::Strong,
        output::coloured(),
    )
}

fn table(revisions: &[Revision]) -> Table {
    let mut table = Table::new(&["version", "time", "author", "action", "comment"]);
    for revision in revisions {
        let comment = revision.comment.as_deref().unwrap_or("");
        table.row(vec![
            (revision.version.clone(), Ink::Strong),
            (revision.time.clone(), Ink::Plain),
            (output::safe(&revision.author), Ink::Plain),
            (revision.action.clone(), Ink::Plain),
            (output::safe(comment), Ink::Plain),
        ]);
    }
    table
}

impl Diff {
    pub async fn run(&self, session: &Session) -> anyhow::Result<Exit> {
        let control_plane = &session.control_plane;
        let old = match &self.from {
            Some(version) => control_plane.get_revision(&self.namespace, version).await?,
            None => control_plane.get(&self.namespace, Weights::Exact).await?,
        };
        let new = match (&self.file, &self.to) {
            (Some(file), _) => {
                let input = Input::read(file)?;
                if input.body.content_type == DTAB { text_lines(&input.body.text)? } else { json_lines(&input)? }
            }
            (None, Some(version)) => layout::lines(&control_plane.get_revision(&self.namespace, version).await?.dtab),
            (None, None) => layout::lines(&control_plane.get(&self.namespace, Weights::Exact).await?.dtab),
        };
        // Both through the same reading and showing, so that only what means something differs.
        let difference = Difference::new(&text_lines(&layout::lines(&old.dtab))?, &text_lines(&new)?);
        match session.output {
            Output::Json => output::json(&difference.lines)?,
            Output::Text => print!("{}", difference.show(output::coloured())),
        }
        Ok(if self.exit_code && difference.is_some() { Exit::Differs } else { Exit::Ok })
    }
}

fn json_lines(input: &Input) -> anyhow::Result<String> {
    let entries: Vec<Entry> = serde_json::from_str(&input.body.text)?;
    Ok(layout::lines(&entries))
}

/// Dtab text, one entry a line, weights exact. The columns are not aligned: an entry must not
/// differ because its neighbour's prefix got longer.
fn text_lines(text: &str) -> anyhow::Result<String> {
    let dtab = Dtab::read(text).map_err(|error| Failure::error(Exit::Usage, error.message))?;
    Ok(dtab.entries().iter().map(|entry| format!("{} => {} ;\n", entry.prefix, entry.dst.show_exact())).collect())
}

/// The lines of two texts, with what happened to each.
struct Difference {
    lines: Vec<Line>,
}

#[derive(serde::Serialize)]
struct Line {
    change: &'static str,
    entry: String,
}

impl Difference {
    fn new(old: &str, new: &str) -> Difference {
        let lines = TextDiff::from_lines(old, new)
            .iter_all_changes()
            .map(|change| Line {
                change: match change.tag() {
                    ChangeTag::Equal => "same",
                    ChangeTag::Delete => "removed",
                    ChangeTag::Insert => "added",
                },
                entry: change.value().trim_end().to_owned(),
            })
            .collect();
        Difference { lines }
    }

    fn is_some(&self) -> bool {
        self.lines.iter().any(|line| line.change != "same")
    }

    fn show(&self, coloured: bool) -> String {
        let mut text = String::new();
        for line in &self.lines {
            let (sign, colour) = match line.change {
                "removed" => ('-', Ink::Broken),
                "added" => ('+', Ink::Good),
                _ => (' ', Ink::Plain),
            };
            text.push_str(&output::ink(&format!("{sign} {}", line.entry), colour, coloured));
            text.push('\n');
        }
        text
    }
}

impl Undo {
    /// The current one, and those behind it as far as the one that is wanted.
    async fn revisions(&self, session: &Session) -> anyhow::Result<Vec<Revision>> {
        let mut most = if self.to.is_some() { 100 } else { 2 };
        loop {
            let revisions = session.control_plane.history(&self.namespace, most).await?;
            let is_there = self.to.as_ref().is_none_or(|to| revisions.iter().any(|revision| revision.version == *to));
            if is_there || revisions.len() < most {
                return Ok(revisions);
            }
            most = most.saturating_mul(10);
        }
    }

    pub async fn run(&self, session: &Session) -> anyhow::Result<Exit> {
        let revisions = self.revisions(session).await?;
        let current = revisions.first().context("this dtab has no history")?;
        let wanted = match &self.to {
            Some(version) => revisions
                .iter()
                .find(|revision| revision.version == *version)
                .with_context(|| format!("--to {version}: {} never had this version", self.namespace))?,
            None => revisions.get(1).with_context(|| {
                format!("{} has no earlier version; `switchyard dtab delete` takes it away", self.namespace)
            })?,
        };
        let mut note = self.note.note();
        if note.comment.is_none() {
            note.comment = Some(format!("back to {}", wanted.version));
        }
        if wanted.action == "delete" {
            return Err(Failure::error(
                Exit::Failed,
                format!("at {} {} was deleted; `switchyard dtab delete` does that", wanted.version, self.namespace),
            ));
        }
        let body = Body { content_type: DTAB, text: wanted.dtab.clone() };
        let written = if current.action == "delete" {
            session.control_plane.create(&self.namespace, body, &note).await?
        } else {
            session.control_plane.update(&self.namespace, Some(&current.version), body, &note).await?
        };
        session.report("Updated", &self.namespace, &written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_by_entry_and_not_by_layout() {
        let old = text_lines("/a=>/b;/longer/prefix=>/c").unwrap();
        let new = text_lines("/a   => /b ;\n/longer/prefix => 1 * /d & 9 * /c").unwrap();
        let difference = Difference::new(&old, &new);
        let changes: Vec<&str> = difference.lines.iter().map(|line| line.change).collect();
        assert_eq!(changes, ["same", "removed", "added"]);
        assert!(difference.show(false).starts_with("  /a => /b ;\n- /longer/prefix => /c ;\n+ /longer"));
    }
}
