//! Reads pipeline files, and says what is wrong with one: file, key path, the fix.

use std::path::Path;

use crate::config::{Config, ConfigError};
use crate::file::{File, GateConfig, KubernetesTarget, Manifests, ProcessTarget, SourceConfig, TargetConfig};
use crate::template::{self, TemplateError};
use crate::{manifests, plan};

/// Placeholders of a deploy; those of an instance come on top.
const FACTS: &[&str] =
    &["service", "entry", "live", "marker", "namespace", "current", "new", "text", "frontend", "pipeline"];
const INSTANCE: &[&str] = &["port", "address", "name", "switchyard"];
/// Of a pod; the first is its IP alone.
const POD: &[&str] = &["address", "name"];
/// One instance per port, and a person who mistyped.
const MOST_INSTANCES: u32 = 100;
/// Shorter than this a slow renewal loses it; longer than a day no control plane grants it.
const LEASE_SECONDS: std::ops::RangeInclusive<u64> = 5..=86_400;

/// All pipelines of a server, with the server's own defaults.
pub(crate) fn read_all(config: &Config) -> Result<Vec<File>, ConfigError> {
    let mut files: Vec<File> = Vec::new();
    for path in &config.pipelines {
        let mut file = read(path)?;
        if files.iter().any(|other| other.name == file.name) {
            return Err(error(path, "name", format!("{:?} is the name of another pipeline already", file.name)));
        }
        for parameter in &mut file.parameters {
            if let Some(value) = config.defaults.get(&file.name).and_then(|of| of.get(&parameter.name)) {
                parameter.default.clone_from(value);
            }
        }
        plan::with_defaults(&file).map_err(|wrong| error(path, &wrong.path, wrong.message))?;
        if matches!(file.target, TargetConfig::Process(_)) {
            let keys =
                [("processes", &config.processes), ("logs", &config.logs), ("registrations", &config.registrations)];
            if let Some((key, _)) = keys.into_iter().find(|(_, directory)| directory.is_none()) {
                let message =
                    format!("missing: the pipeline {} has the target `process`, which needs this directory", file.name);
                return Err(ConfigError { file: "pipeline server".to_owned(), path: key.to_owned(), message });
            }
        }
        files.push(file);
    }
    for (pipeline, defaults) in &config.defaults {
        let wrong = |path: String, message: String| ConfigError { file: "pipeline server".to_owned(), path, message };
        let Some(file) = files.iter().find(|file| file.name == *pipeline) else {
            let known: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
            return Err(wrong(
                format!("defaults.{pipeline}"),
                format!("no such pipeline; there are: {}", known.join(", ")),
            ));
        };
        if let Some(name) = defaults.keys().find(|name| !file.parameters.iter().any(|known| known.name == **name)) {
            return Err(wrong(format!("defaults.{pipeline}.{name}"), format!("{pipeline} has no such parameter")));
        }
    }
    Ok(files)
}

fn read(path: &Path) -> Result<File, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| error(path, "", format!("cannot be read: {source}")))?;
    let mut file = parse(&text).map_err(|(key, message)| error(path, &key, message))?;
    if let TargetConfig::Kubernetes(target) = &mut file.target {
        load(path, &mut target.manifests).map_err(|message| error(path, "target.manifests", message))?;
    }
    check(&file).map_err(|(key, message)| error(path, &key, message))?;
    Ok(file)
}

/// A file of manifests becomes what is in it: a deploy goes on with what it was started with.
fn load(pipeline: &Path, manifests: &mut Manifests) -> Result<(), String> {
    let objects = match manifests {
        Manifests::Objects(objects) => manifests::flat(std::mem::take(objects)),
        Manifests::File(file) => {
            let file = pipeline.parent().unwrap_or(Path::new(".")).join(file);
            let failed = |error: String| format!("{}: {error}", file.display());
            let text = std::fs::read_to_string(&file).map_err(|error| failed(format!("cannot be read: {error}")))?;
            manifests::parse(&text).map_err(failed)?
        }
    };
    *manifests = Manifests::Objects(objects);
    Ok(())
}

fn error(file: &Path, path: &str, message: String) -> ConfigError {
    let path = if path.is_empty() || path == "." { "the document" } else { path };
    ConfigError { file: file.display().to_string(), path: path.to_owned(), message }
}

/// Key path and message.
type Wrong = (String, String);

fn parse(text: &str) -> Result<File, Wrong> {
    let mut path = String::new();
    let read = serde_saphyr::with_deserializer_from_str(text, |reader| {
        serde_path_to_error::deserialize(reader).map_err(|error| {
            path = error.path().to_string();
            error.into_inner()
        })
    });
    read.map_err(|error| {
        let error = error.without_snippet();
        let line = error.location().map(|location| format!(" (line {})", location.line())).unwrap_or_default();
        let text = error.to_string();
        let mut message = text.lines().next().unwrap_or("").trim_start_matches("error: ").to_owned();
        if let Some(start) = message.find(" at line ") {
            message.truncate(start);
        }
        (path, message + &line)
    })
}

/// Everything but the plan.
fn check(file: &File) -> Result<(), Wrong> {
    let wrong = |path: &str, message: String| Err((path.to_owned(), message));
    if file.name.is_empty() || !file.name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c)) {
        return wrong("name", format!("{:?}: use letters, digits, `-` and `_`", file.name));
    }
    for (index, parameter) in file.parameters.iter().enumerate() {
        let (name, path) = (&parameter.name, format!("parameters[{index}].name"));
        if !template::is_name(name) {
            return wrong(&path, format!("{name:?}: begin with a letter, then letters, digits, `-` and `_`"));
        }
        if FACTS.contains(&name.as_str()) || INSTANCE.contains(&name.as_str()) {
            return wrong(&path, format!("{{{name}}} means something already; call it something else"));
        }
        if file.parameters[..index].iter().any(|earlier| earlier.name == *name) {
            return wrong(&path, format!("{name:?} stands here twice"));
        }
    }
    let ready_seconds = match &file.target {
        TargetConfig::Process(target) => {
            check_process(target)?;
            target.ready.timeout_seconds
        }
        TargetConfig::Kubernetes(target) => {
            check_kubernetes(file, target)?;
            target.ready.timeout_seconds
        }
    };
    let SourceConfig::Git { timeout_seconds, .. } = &file.source;
    for (path, seconds) in [
        ("source.timeoutSeconds", *timeout_seconds),
        ("target.ready.timeoutSeconds", ready_seconds),
        ("limits.fleetSeconds", file.limits.fleet_seconds),
        ("limits.controlPlaneSeconds", file.limits.control_plane_seconds),
        ("limits.clusterSeconds", file.limits.cluster_seconds),
    ] {
        if seconds == 0 {
            return wrong(path, "0: must be at least one second".to_owned());
        }
    }
    if !LEASE_SECONDS.contains(&file.limits.lease_seconds) {
        return wrong("limits.leaseSeconds", format!("{}: must be 5 to 86400", file.limits.lease_seconds));
    }
    if !(1..=1000).contains(&file.test.requests) {
        return wrong("test.requests", format!("{}: must be 1 to 1000", file.test.requests));
    }
    for (index, step) in file.steps.iter().enumerate() {
        if step.weights.is_some() == step.failover {
            return wrong(
                &format!("steps[{index}]"),
                "give either `weights: {new: 1, current: 9}` or `failover: true`".to_owned(),
            );
        }
    }
    check_placeholders(file)
}

fn check_process(target: &ProcessTarget) -> Result<(), Wrong> {
    let wrong = |path: &str, message: String| Err((path.to_owned(), message));
    if !(1..=MOST_INSTANCES).contains(&target.instances) {
        return wrong("target.instances", format!("{}: must be 1 to {MOST_INSTANCES}", target.instances));
    }
    if target.argv.first().is_none_or(String::is_empty) {
        return wrong("target.argv", "name a program, and its arguments after it".to_owned());
    }
    if !target.ready.url.starts_with("http://") {
        return wrong("target.ready.url", "must be a plain URL such as http://{address}/".to_owned());
    }
    Ok(())
}

fn check_kubernetes(file: &File, target: &KubernetesTarget) -> Result<(), Wrong> {
    let wrong = |path: &str, message: String| Err((path.to_owned(), message));
    let ends = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.ends_with(|c: char| c.is_ascii_alphanumeric())
    };
    if file.name.len() > 63 || !ends(&file.name) {
        return wrong(
            "name",
            format!(
                "{:?}: is a label of objects, so at most 63 characters, a letter or digit first and last",
                file.name
            ),
        );
    }
    if target.replicas.is_some_and(|replicas| !(1..=MOST_INSTANCES).contains(&replicas)) {
        return wrong("target.replicas", format!("must be 1 to {MOST_INSTANCES}"));
    }
    if target.ready.broken_seconds == 0 {
        return wrong("target.ready.brokenSeconds", "0: must be at least one second".to_owned());
    }
    let Manifests::Objects(objects) = &target.manifests else {
        return wrong("target.manifests", "the file was not read".to_owned());
    };
    let parameters = file.parameters.iter().map(|parameter| parameter.name.as_str());
    let known: Vec<String> = parameters.chain(FACTS.iter().copied()).map(str::to_owned).collect();
    let under = |path: String, message| (format!("target.manifests{path}"), message);
    manifests::check(objects, &file.service, target.replicas, &known).map_err(|(path, message)| under(path, message))
}

fn check_placeholders(file: &File) -> Result<(), Wrong> {
    let parameters: Vec<&str> = file.parameters.iter().map(|parameter| parameter.name.as_str()).collect();
    let with = |more: &[&[&'static str]]| -> Vec<String> {
        parameters.iter().copied().chain(more.concat()).map(str::to_owned).collect()
    };
    let of_target = match &file.target {
        TargetConfig::Process(_) => INSTANCE,
        TargetConfig::Kubernetes(_) => POD,
    };
    let (own, facts, instance) = (with(&[]), with(&[FACTS]), with(&[FACTS, of_target]));
    let SourceConfig::Git { repository, branch, file: source, .. } = &file.source;
    let mut texts: Vec<(String, &str, &[String])> = vec![
        ("dtab.namespace".to_owned(), &file.dtab.namespace, &own),
        ("dtab.entry".to_owned(), &file.dtab.entry, &own),
        ("dtab.live".to_owned(), &file.dtab.live, &own),
        ("dtab.marker".to_owned(), &file.dtab.marker, &own),
        ("source.repository".to_owned(), repository, &own),
        ("source.branch".to_owned(), branch, &own),
        ("source.file".to_owned(), source, &own),
        ("test.url".to_owned(), &file.test.url, &facts),
        ("test.proof".to_owned(), &file.test.proof, &instance),
    ];
    match &file.target {
        TargetConfig::Process(ProcessTarget { argv, environment, ready, .. }) => {
            texts.push(("target.ready.url".to_owned(), &ready.url, &instance));
            texts.extend(argv.iter().enumerate().map(|(n, text)| (format!("target.argv[{n}]"), &**text, &*instance)));
            let environment = environment.iter();
            texts.extend(environment.map(|(name, text)| (format!("target.environment.{name}"), &**text, &*instance)));
        }
        // The manifests were looked through already.
        TargetConfig::Kubernetes(target) => texts.push(("target.namespace".to_owned(), &target.namespace, &own)),
    }
    let steps = file.steps.iter().enumerate().map(|(n, step)| (format!("steps[{n}].gate"), &step.gate));
    let gates: Vec<(String, &GateConfig)> = std::iter::once(("test.gate".to_owned(), &file.test.gate))
        .chain(steps)
        .filter_map(|(path, gate)| Some((path, gate.as_ref()?)))
        .collect();
    for (path, gate) in &gates {
        texts.push((format!("{path}.message"), &gate.message, &facts));
        texts.push((format!("{path}.ok"), &gate.ok, &facts));
        texts.extend(
            gate.commands.iter().enumerate().map(|(n, text)| (format!("{path}.commands[{n}]"), &**text, &*facts)),
        );
    }
    for (path, text, known) in texts {
        let unknown = |error: TemplateError| (path.clone(), error.to_string());
        for name in template::names(text).map_err(unknown)? {
            if !known.iter().any(|other| other == name) {
                let known: Vec<String> = known.iter().map(|name| format!("{{{name}}}")).collect();
                return Err((path, format!("{{{name}}} is not known here; there are {}", known.join(" "))));
            }
        }
    }
    let proof = template::names(&file.test.proof).unwrap_or_default();
    if !["address", "port", "name", "new"].iter().any(|wanted| proof.contains(wanted)) {
        return Err((
            "test.proof".to_owned(),
            format!(
                "{:?}: must hold {{address}}, {{port}}, {{name}} or {{new}}, or it proves nothing",
                file.test.proof
            ),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TUTORIAL: &str = include_str!("../../../examples/pipelines/hello_world.yaml");

    fn problem(text: &str) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let read = read(file.path()).and_then(|read| {
            plan::with_defaults(&read).map_err(|wrong| error(file.path(), &wrong.path, wrong.message))?;
            Ok(())
        });
        match read {
            Ok(()) => "ok".to_owned(),
            Err(error) => error.to_string().replace(&file.path().display().to_string(), "FILE"),
        }
    }

    #[test]
    fn the_tutorial_is_read() {
        assert_eq!(problem(TUTORIAL), "ok");
    }

    /// The tutorial's, with another target.
    fn in_a_cluster(target: &str) -> String {
        let (begin, rest) = TUTORIAL.split_once("target:").unwrap();
        format!("{begin}target:\n{target}\n\ntest:{}", rest.split_once("\ntest:").unwrap().1)
    }

    const TARGET: &str = "  kind: kubernetes
  namespace: \"{namerdNamespace}\"
  manifests:
  - {apiVersion: v1, kind: Service, spec: {ports: [{port: 80}]}}
  - {apiVersion: apps/v1, kind: Deployment, spec: {template: {}}}";

    #[test]
    fn a_target_in_a_cluster_is_checked() {
        let cases = [
            ("", "", "ok"),
            ("{namerdNamespace}", "{new}", "FILE: target.namespace: {new} is not known here"),
            ("{namerdNamespace}", "A b", "FILE: target.namespace: \"A b\" is no namespace of a cluster"),
            ("manifests:", "replicas: 0\n  manifests:", "FILE: target.replicas: must be 1 to 100"),
            ("manifests:", "replicas: 3\n  manifests:", "ok"),
            ("manifests:", "ready: {brokenSeconds: 0}\n  manifests:", "FILE: target.ready.brokenSeconds: 0: must be"),
            ("manifests:", "instances: 3\n  manifests:", "unknown field `instances`"),
            ("kind: Service,", "kind: Service, metadata: {name: x},", "FILE: target.manifests[0].metadata.name: \"x\""),
            ("kind: Deployment,", "kind: DaemonSet,", "ok"),
        ];
        for (old, new, expected) in cases {
            let found = problem(&in_a_cluster(&TARGET.replacen(old, new, 1)));
            assert!(found.contains(expected), "{new}\n gives {found}\n  not {expected}");
        }
        let found = problem(&in_a_cluster(TARGET).replace("{text} ({address})", "{port}"));
        assert!(found.contains("FILE: test.proof: {port} is not known here"), "{found}");
    }

    #[test]
    fn manifests_may_stand_in_a_file_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let (begin, objects) = TARGET.split_once("manifests:").unwrap();
        std::fs::write(directory.path().join("world.yaml"), objects).unwrap();
        let file = directory.path().join("pipeline.yaml");
        std::fs::write(&file, in_a_cluster(&format!("{begin}manifests: world.yaml"))).unwrap();
        std::fs::write(directory.path().join("world.yaml"), objects.replace("  - ", "---\n")).unwrap();
        let TargetConfig::Kubernetes(target) = read(&file).unwrap().target else { panic!("another target") };
        let Manifests::Objects(objects) = target.manifests else { panic!("not read") };
        assert_eq!(objects.len(), 2);
        std::fs::remove_file(directory.path().join("world.yaml")).unwrap();
        let error = read(&file).unwrap_err().to_string();
        assert!(error.contains("target.manifests: ") && error.contains("world.yaml: cannot be read"), "{error}");
    }

    #[test]
    fn errors_name_file_key_and_fix() {
        let cases = [
            ("instances: 3", "instances: 0", "FILE: target.instances: 0: must be 1 to 100"),
            ("instances: 3", "instances: three", "FILE: target"),
            ("instances: 3", "instance: 3", "unknown field `instance`"),
            ("service: world", "service: \"wor ld\"", "FILE: service: use letters, digits"),
            ("service: world", "service: world\nservice: x", "duplicate"),
            ("{text} ({address})", "{text}", "FILE: test.proof: \"{text}\": must hold {address}"),
            ("--text={text}", "--text={txt}", "FILE: target.argv[3]: {txt} is not known here; there are {gitRepo}"),
            ("\"{gitBranch}\"", "\"{new}\"", "FILE: source.branch: {new} is not known here"),
            ("entry: /host/world", "entry: host/world", "FILE: dtab.entry: "),
            ("entry: /host/world", "entry: \"/host/wor ld\"", "FILE: dtab.entry: "),
            ("marker: /tmp", "marker: /srv", "FILE: dtab.marker: must differ from dtab.live"),
            ("    failover: true\n", "", "FILE: steps[1]: give either `weights: {new: 1, current: 9}`"),
            ("    failover: true\n", "    failover: true\n    weights: {new: 1, current: 1}\n", "FILE: steps[1]: give"),
            ("new: 1, current: 9", "new: 0, current: 9", "FILE: steps[0].weights.new: 0: must be"),
            ("new: 1, current: 9", "new: 1, old: 9", "unknown field `old`"),
            ("shift traffic (100%)", "shift traffic (10%)", "stages need names of their own"),
            ("name: gitRepo", "name: text", "FILE: parameters[0].name: {text} means something already"),
            ("name: gitRepo", "name: gitBranch", "FILE: parameters[1].name: \"gitBranch\" stands here twice"),
            ("kind: git", "kind: svn", "svn"),
            ("url: http://{address}/", "url: https://{address}/", "FILE: target.ready.url: must be a plain URL"),
            ("default: internal", "default: \"a b\"", "FILE: dtab.namespace: "),
        ];
        for (old, new, expected) in cases {
            assert!(TUTORIAL.contains(old), "{old}");
            let found = problem(&TUTORIAL.replacen(old, new, 1));
            assert!(found.contains(expected), "{new}\n gives {found}\n  not {expected}");
        }
    }
}
