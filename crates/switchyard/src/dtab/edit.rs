//! `edit`: a dtab in an editor, or single entries by flag; always against the version read.

use std::io::Write;
use std::process::Command;

use anyhow::{Context, bail};
use clap::Args;
use names::Dtab;

use super::Session;
use super::layout;
use super::remote::{Body, DTAB, VersionedDtab, Weights};
use super::write::NoteArguments;
use crate::exit::{Exit, Failure};
use crate::output::{self, Output};

#[derive(Args, Debug)]
pub struct Edit {
    namespace: String,
    /// Set an entry without an editor: `--set '/host/world => /srv/world-v2'`. The last entry with
    /// that prefix is replaced; without one, a new entry is added at the end.
    #[arg(long, value_name = "ENTRY")]
    set: Vec<String>,
    /// Remove all entries with this prefix, without an editor.
    #[arg(long, value_name = "PREFIX")]
    unset: Vec<String>,
    #[command(flatten)]
    note: NoteArguments,
}

impl Edit {
    pub async fn run(&self, session: &Session) -> anyhow::Result<Exit> {
        let before = session.control_plane.get(&self.namespace, Weights::Exact).await?;
        let by_flags = !self.set.is_empty() || !self.unset.is_empty();
        let text = if by_flags { self.changed(&before)? } else { in_editor(&self.namespace, &before)? };
        let after = Dtab::read(&text).map_err(|error| Failure::error(Exit::Usage, error.message))?;
        if after.show_exact() == read(&before)?.show_exact() {
            match session.output {
                Output::Text => eprintln!("nothing changed"),
                Output::Json => {
                    let version = &before.version;
                    let nothing = serde_json::json!({
                        "namespace": self.namespace, "action": "unchanged", "version": version, "fleet": null, "laggards": null,
                    });
                    output::json(&nothing)?;
                }
            }
            return Ok(Exit::Ok);
        }
        let body = Body { content_type: DTAB, text: after.show_exact() };
        let version = Some(before.version.as_str()).filter(|version| !version.is_empty());
        match session.control_plane.update(&self.namespace, version, body, &self.note.note()).await {
            Ok(written) => session.report("Updated", &self.namespace, &written),
            Err(error) => {
                if !by_flags {
                    let kept = keep(&self.namespace, &text)?;
                    eprintln!("your text is kept in {}", kept.display());
                }
                Err(error).context("the dtab was not changed")
            }
        }
    }

    fn changed(&self, before: &VersionedDtab) -> anyhow::Result<String> {
        let mut entries = before.dtab.clone();
        for text in &self.unset {
            let prefix = shown_prefix(text)?;
            let length = entries.len();
            entries.retain(|entry| entry.prefix != prefix);
            if entries.len() == length {
                bail!("--unset {text}: there is no such entry in {}", self.namespace);
            }
        }
        for text in &self.set {
            let dentry = names::Dentry::read(text.trim().trim_end_matches(';'))
                .map_err(|error| Failure::error(Exit::Usage, format!("--set {text}: {error}")))?;
            let entry = super::remote::Entry { prefix: dentry.prefix.to_string(), dst: dentry.dst.show_exact() };
            match entries.iter_mut().rfind(|old| old.prefix == entry.prefix) {
                Some(old) => *old = entry,
                None => entries.push(entry),
            }
        }
        Ok(layout::lines(&entries))
    }
}

/// A prefix as the server shows it.
fn shown_prefix(text: &str) -> anyhow::Result<String> {
    let prefix =
        names::Prefix::read(text).map_err(|error| Failure::error(Exit::Usage, format!("--unset {text}: {error}")))?;
    Ok(prefix.to_string())
}

/// The dtab as a value.
pub fn read(dtab: &VersionedDtab) -> anyhow::Result<Dtab> {
    Dtab::read(&layout::lines(&dtab.dtab)).context("the stored dtab does not read")
}

/// Opens the editor until the text reads, or the person gives up.
fn in_editor(namespace: &str, before: &VersionedDtab) -> anyhow::Result<String> {
    let editor = ["VISUAL", "EDITOR"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.trim().is_empty()))
        .unwrap_or_else(|| "vi".to_owned());
    let mut file = tempfile::Builder::new().prefix("dtab-").suffix(".dtab").tempfile()?;
    let heading = format!("# {namespace}: the last entry that matches wins\n");
    file.write_all((heading + &layout::pretty(before)).as_bytes())?;
    file.flush()?;
    // The variable may hold arguments (`code --wait`), so a shell takes it apart, as everywhere.
    let status = Command::new("sh")
        .args(["-c", &format!("{editor} \"$1\""), "sh"])
        .arg(file.path())
        .status()
        .with_context(|| format!("cannot start the editor {editor}"))?;
    if !status.success() {
        bail!("the editor {editor} ended with {status}: nothing is changed");
    }
    let text = std::fs::read_to_string(file.path())?;
    if let Err(error) = Dtab::read(&text) {
        let kept = keep(namespace, &text)?;
        return Err(Failure::error(
            Exit::Usage,
            format!("{error}; nothing is changed, your text is kept in {}", kept.display()),
        ));
    }
    Ok(text)
}

fn keep(namespace: &str, text: &str) -> anyhow::Result<std::path::PathBuf> {
    let safe: String = namespace.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let mut file = tempfile::Builder::new().prefix(&format!("{safe}-")).suffix(".dtab").tempfile()?;
    file.write_all(text.as_bytes())?;
    Ok(file.keep()?.1)
}
