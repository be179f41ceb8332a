//! `/pipelines/NAME/build`: the parameters of a deploy, prefilled.

use askama::Template;

use super::{Deploy, Pipeline};
use crate::Shell;
use crate::format::shell_word;
use crate::parts::{Cmd, Icon};

/// The form, also as it was sent when something in it was wrong.
#[derive(Debug, Template)]
#[template(path = "pipeline/build.html")]
pub struct BuildPage {
    pub shell: Shell,
    pub pipeline: Pipeline,
    pub fields: Vec<BuildField>,
    /// Who builds, as typed; empty at first.
    pub actor: String,
    pub reason: String,
    /// The deploy that holds the entry now.
    pub holder: Option<Deploy>,
    /// What was refused and belongs to no field.
    pub error: Option<String>,
}

/// One parameter.
#[derive(Debug, Clone)]
pub struct BuildField {
    pub name: String,
    pub value: String,
    /// What it is without being changed.
    pub default: String,
    pub hint: Option<String>,
    /// Why its value was refused.
    pub error: Option<String>,
}

impl BuildPage {
    /// The form before anything was typed; `values` win over the pipeline's defaults.
    pub fn new(shell: Shell, pipeline: Pipeline, value: impl Fn(&str) -> Option<String>) -> BuildPage {
        let field = |parameter: &super::Parameter| BuildField {
            name: parameter.name.clone(),
            value: value(&parameter.name).unwrap_or_else(|| parameter.default.clone()),
            default: parameter.default.clone(),
            hint: parameter.description.clone(),
            error: None,
        };
        let fields = pipeline.parameters.iter().map(field).collect();
        let (actor, reason) = (String::new(), String::new());
        BuildPage { shell, pipeline, fields, actor, reason, holder: None, error: None }
    }

    fn changed(&self) -> impl Iterator<Item = &BuildField> {
        self.fields.iter().filter(|field| field.value != field.default)
    }

    fn cli(&self) -> Cmd {
        let mut command = format!("switchyard deploy start {}", shell_word(&self.pipeline.name));
        for field in self.changed() {
            command.push_str(&format!(" -p {}", shell_word(&format!("{}={}", field.name, field.value))));
        }
        Cmd { follows: Some("cli"), ..Cmd::new(format!("{command} --wait"), None) }
    }

    fn curl(&self) -> Cmd {
        let parameters = self.changed().map(|field| (field.name.clone(), field.value.clone().into()));
        let parameters = parameters.collect::<serde_json::Map<_, _>>();
        let body = serde_json::json!({ "pipeline": self.pipeline.name, "parameters": parameters });
        // The content type is the API's; without it curl would send a form.
        let command = format!(
            "curl {}/api/1/deploys -H 'content-type: application/json' -d {}",
            self.shell.api,
            shell_word(&body.to_string())
        );
        Cmd { follows: Some("curl"), ..Cmd::new(command, None) }
    }

    fn action(&self) -> String {
        super::build_href(&self.pipeline.name)
    }
}
