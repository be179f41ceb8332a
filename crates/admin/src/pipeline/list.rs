//! `/`: what waits for a person, the pipelines, the deploys.

use askama::Template;

use super::{Deploy, DeployState, Pipeline, StageState};
use crate::Shell;
use crate::format;
use crate::parts::{Cmd, Icon};

/// The pipeline's first page.
#[derive(Debug, Template)]
#[template(path = "pipeline/list.html")]
pub struct ListPage {
    pub shell: Shell,
    pub pipelines: Vec<Pipeline>,
    /// Newest first.
    pub deploys: Vec<Deploy>,
}

impl ListPage {
    /// Failed ones first: they are broken now.
    fn asks(&self) -> Vec<&Deploy> {
        let in_state = |state: DeployState| self.deploys.iter().filter(move |deploy| deploy.state == state);
        in_state(DeployState::Failed).chain(in_state(DeployState::Waiting)).collect()
    }
}

impl Deploy {
    fn is_failed(&self) -> bool {
        self.state == DeployState::Failed
    }

    /// The question, what happens now, or why it ended.
    fn in_words(&self) -> String {
        let gate = self.gate.as_ref().map(|gate| gate.message.clone());
        let doing = self.doing.as_ref().map(|doing| match &doing.trouble {
            Some(trouble) => format!("{}: {trouble}", doing.what),
            None => doing.what.clone(),
        });
        match self.state {
            DeployState::Waiting => gate.or(self.reason.clone()),
            DeployState::Running => self.reason.clone().or(doing),
            _ => self.reason.clone().or(self.note.clone()),
        }
        .unwrap_or_default()
    }

    /// Class of each stage in the small row of segments.
    fn segments(&self) -> Vec<&'static str> {
        let class = |state: StageState| match state {
            StageState::Succeeded => "d",
            StageState::Running => "r",
            StageState::Waiting => "w",
            StageState::Failed if self.state == DeployState::Reverted || self.reverting => "b",
            StageState::Failed => "f",
            StageState::Pending | StageState::Skipped => "",
        };
        self.stages.iter().map(|stage| class(stage.state)).collect()
    }

    fn segments_label(&self) -> String {
        let done = self.stages.iter().filter(|stage| stage.state == StageState::Succeeded).count();
        format!("{done} of {} stages done", self.stages.len())
    }
}

impl Pipeline {
    fn build_href(&self) -> String {
        super::build_href(&self.name)
    }

    fn last_dots(&self) -> LastDots<'_> {
        LastDots(self)
    }

    fn start(&self) -> Cmd {
        Cmd::new(format!("switchyard deploy start {} --wait", format::shell_word(&self.name)), None)
    }

    fn footer(&self) -> String {
        let gates = self.stages.iter().filter(|stage| stage.gated).count() as u64;
        let stages = format::counted(self.stages.len() as u64, "stage");
        format!("{stages}, {}", format::counted(gates, "gate"))
    }
}

/// The last deploys in their order, so not counted as `Dots` are.
#[derive(Template)]
#[template(
    source = r#"<span class="dots" role="img" aria-label="{{ self.label() }}">{% for state in self.0.last %}<i{% match state %}{% when DeployState::Succeeded %}{% when DeployState::Reverted %} class="off"{% when DeployState::Failed %} class="out"{% else %} class="lag"{% endmatch %}></i>{% endfor %}</span>"#,
    ext = "html"
)]
struct LastDots<'a>(&'a Pipeline);

impl askama::filters::HtmlSafe for LastDots<'_> {}

impl LastDots<'_> {
    fn label(&self) -> String {
        let count = |state: DeployState| self.0.last.iter().filter(|last| **last == state).count();
        let parts = [
            (count(DeployState::Succeeded), "succeeded"),
            (count(DeployState::Reverted), "reverted"),
            (count(DeployState::Failed), "failed"),
            (count(DeployState::Running) + count(DeployState::Waiting), "in progress"),
        ];
        let parts = parts.into_iter().filter(|(count, _)| *count > 0);
        parts.map(|(count, what)| format!("{count} {what}")).collect::<Vec<_>>().join(", ")
    }
}
