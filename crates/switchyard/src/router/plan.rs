//! The router's document with the parts that the data plane does not know: namers and interpreters.

use std::sync::Arc;

use control::client::{self, Identity};
use discovery::{ConfigError, InterpreterConfig, NamerConfig, Surroundings};
use naming::Namers;
use proxy::config::{self, Config, Problem, Raw};
use serde_json::Value;

use super::ingress;

/// A whole document, without problems as far as they show without files and sockets.
#[derive(Debug)]
pub struct Plan {
    pub config: Config,
    /// In the order of the document.
    pub namers: Vec<NamerConfig>,
    /// One for each router.
    pub interpreters: Vec<Interpreter>,
}

/// One router's `interpreter`.
#[derive(Debug)]
pub enum Interpreter {
    /// Binds here, by the document's namers.
    Local(InterpreterConfig),
    /// Asks a control plane.
    Namerd(Box<client::Config>),
}

impl Interpreter {
    pub fn kind(&self) -> &'static str {
        match self {
            Interpreter::Local(config) => config.kind(),
            Interpreter::Namerd(config) => config.kind.name(),
        }
    }

    /// Whether the document's namers matter to it. Where a control plane is may be a name of theirs.
    pub fn needs_namers(&self) -> bool {
        match self {
            Interpreter::Local(_) => true,
            Interpreter::Namerd(config) => {
                !config.dst.to_string().starts_with("/$/") || !config.transformers.is_empty()
            }
        }
    }

    /// `identity` is what a control plane gets to know of the router.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn build(
        &self,
        namers: &Namers,
        identity: Identity,
        surroundings: &Surroundings,
    ) -> Result<Arc<dyn naming::Interpreter>, ConfigError> {
        match self {
            Interpreter::Local(config) => config.build(namers, surroundings),
            Interpreter::Namerd(config) => config.build(identity, namers, surroundings),
        }
    }
}

impl Plan {
    /// # Errors
    /// Everything that is wrong with the document.
    pub fn read(document: &Value) -> Result<Plan, Vec<Problem>> {
        let draft = config::read(document);
        let mut problems = Vec::new();
        let mut note = |more: Vec<Problem>| problems.extend(more);
        let namers = draft.namers.iter().filter_map(|raw| namer(raw).map_err(&mut note).ok()).collect();
        let interpreters =
            draft.interpreters.iter().filter_map(|raw| interpreter(raw).map_err(&mut note).ok()).collect();
        let config = draft.finish(problems)?;
        let problems: Vec<_> =
            ingress::places(&config.settings).filter_map(|place| ingress::read(place).err()).flatten().collect();
        if problems.is_empty() { Ok(Plan { config, namers, interpreters }) } else { Err(problems) }
    }
}

fn namer(raw: &Raw) -> Result<NamerConfig, Vec<Problem>> {
    let (kind, rest) = kind(raw)?;
    let config = match kind.as_str() {
        "io.l5d.fs" => NamerConfig::Fs(config::typed(&raw.path, &rest)?),
        "io.l5d.rewrite" => NamerConfig::Rewrite(config::typed(&raw.path, &rest)?),
        "io.l5d.k8s" => NamerConfig::Kubernetes(config::typed(&raw.path, &rest)?),
        "io.l5d.k8s.ns" => NamerConfig::KubernetesNamespace(config::typed(&raw.path, &rest)?),
        "io.l5d.k8s.external" => NamerConfig::KubernetesExternal(config::typed(&raw.path, &rest)?),
        _ => by_kind("namer", &kind, raw, "io.l5d.fs, io.l5d.rewrite or io.l5d.k8s")?,
    };
    config.check().and_then(|()| config.check_experimental()).map_err(|error| vec![problem(&error, &raw.path)])?;
    Ok(config)
}

fn interpreter(raw: &Raw) -> Result<Interpreter, Vec<Problem>> {
    let (kind, rest) = kind(raw)?;
    let refuse = |error: ConfigError| vec![problem(&error, &raw.path)];
    let config = match kind.as_str() {
        client::Config::KIND => {
            let config: client::Config = config::typed(&raw.path, &rest)?;
            config.check().map_err(refuse)?;
            return Ok(Interpreter::Namerd(Box::new(config)));
        }
        client::Namerd::KIND => {
            let config: client::Namerd = config::typed(&raw.path, &rest)?;
            return Ok(Interpreter::Namerd(Box::new(config.config().map_err(refuse)?)));
        }
        client::Mesh::KIND => {
            let config: client::Mesh = config::typed(&raw.path, &rest)?;
            return Ok(Interpreter::Namerd(Box::new(config.config().map_err(refuse)?)));
        }
        "default" => InterpreterConfig::Default(config::typed(&raw.path, &rest)?),
        "io.l5d.fs" => InterpreterConfig::Fs(config::typed(&raw.path, &rest)?),
        _ => by_kind("interpreter", &kind, raw, "default, io.l5d.fs or io.l5d.namerd.http")?,
    };
    config.check().map_err(refuse)?;
    Ok(Interpreter::Local(config))
}

/// `kind`, and the other keys.
fn kind(raw: &Raw) -> Result<(String, Value), Vec<Problem>> {
    let refuse = |path: String, message: String| Err(vec![Problem { path, message }]);
    let Value::Object(entries) = &raw.value else {
        return refuse(raw.path.clone(), format!("expected a mapping, not `{}`", raw.value));
    };
    let mut rest = entries.clone();
    match rest.shift_remove("kind") {
        Some(Value::String(kind)) => Ok((kind, Value::Object(rest))),
        Some(other) => refuse(format!("{}.kind", raw.path), format!("expected a text, not `{other}`")),
        None => refuse(format!("{}.kind", raw.path), "is missing".to_owned()),
    }
}

/// A kind that is known by name only, and will be refused by its own check; or nobody's kind.
fn by_kind<T: serde::de::DeserializeOwned>(what: &str, kind: &str, raw: &Raw, known: &str) -> Result<T, Vec<Problem>> {
    T::deserialize(&raw.value).map_err(|_| {
        let message = format!("unknown {what} `{kind}`: use {known}");
        vec![Problem { path: format!("{}.kind", raw.path), message }]
    })
}

/// A part's own error, its path below `path`; that of a list begins with `[0]`.
pub fn problem(error: &ConfigError, path: &str) -> Problem {
    let dot = if error.path.is_empty() || error.path.starts_with('[') { "" } else { "." };
    Problem { path: format!("{path}{dot}{}", error.path), message: error.message.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(lines: &str, expected: &str) {
        let text = format!("routers:\n- protocol: http\n  servers: [{{}}]\n{lines}");
        let document = crate::document::Located::parse(&text).unwrap();
        let problems = Plan::read(&document.value).expect_err(&text);
        let found: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(found.join("\n"), expected, "{text}");
    }

    #[test]
    fn errors_of_namers_and_interpreters_name_their_keys() {
        check(
            "  interpreter: {kind: io.l5d.k8s.istio}",
            "routers[0].interpreter.kind: the interpreter `io.l5d.k8s.istio` is not supported yet",
        );
        check("  interpreter: {kind: io.l5d.mesh, root: /a}", "routers[0].interpreter.dst: is missing");
        check(
            "  interpreter: {kind: io.l5d.mesh, root: /a/b, dst: /$/inet/a/1}",
            "routers[0].interpreter.root: Invalid root: `/a/b` must have exactly one segment: the namespace",
        );
        check(
            "  interpreter: {kind: io.l5d.namerd, dst: /$/inet/a/1, failureThreshold: {}}",
            "routers[0].interpreter.failureThreshold: is not supported: take it out; HTTP is spoken here, which does not need it",
        );
        check(
            "  interpreter: {kind: nope}",
            "routers[0].interpreter.kind: unknown interpreter `nope`: use default, io.l5d.fs or io.l5d.namerd.http",
        );
        check("  interpreter: {kind: io.l5d.fs}", "routers[0].interpreter.dtabFile: is missing");
        check("  interpreter: {kind: io.l5d.namerd.http}", "routers[0].interpreter.dst: is missing");
        check(
            "  interpreter: {kind: io.l5d.namerd.http, dst: /$/inet/a/1, namespase: b, retry: {baseSeconds: x}, tls: {}}",
            "routers[0].interpreter.namespase: unknown key, expected one of `dst`, `namespace`, `retry`, `tls`, \
             `transformers`, `experimental`\n\
             routers[0].interpreter.retry.baseSeconds: invalid type: string \"x\", expected a number",
        );
        check("  interpreter: 3", "routers[0].interpreter: expected a mapping, not `3`");
        check(
            "  interpreter: {transformers: [{kind: io.l5d.k8s.daemonset, namespace: a, service: b/c, port: c}]}",
            "routers[0].interpreter.transformers[0].service: `b/c` cannot be the name of a service",
        );
        check(
            "namers: [{kind: io.l5d.consul, host: x}, {kind: io.l5d.fs, rootdir: x, prefix: bad}, {rootDir: x}, {kind: 3}]",
            "namers[0].kind: the namer `io.l5d.consul` is not supported yet\n\
             namers[1].rootdir: unknown key, expected one of `rootDir`, `prefix`, `transformers`, `experimental`\n\
             namers[1].prefix: invalid path `bad`: '/' expected but 'b' found at '[b]ad'\n\
             namers[1].rootDir: is missing\n\
             namers[2].kind: is missing\n\
             namers[3].kind: expected a text, not `3`",
        );
        check(
            "  lable: x\n  interpreter: {kind: io.l5d.fs, dtabFile: d, x: 1}\nnamers: [{kind: io.l5d.rewrite, prefix: /, pattern: /a, name: /b}]",
            "routers[0].lable: unknown key, expected one of `protocol`, `label`, `servers`, `dtab`, `dstPrefix`, `client`, \
             `service`, `interpreter`, `bindingTimeoutMs`, `bindingCache`, `originator`, `announcers`, `experimental`, \
             `identifier`, `httpAccessLog`, `httpAccessLogRollPolicy`, `httpAccessLogAppend`, `httpAccessLogRotateCount`, \
             `maxHeadersKB`, `maxInitialLineKB`, `streamAfterContentLengthKB`, `streamingEnabled`, `maxErrResponseKB`, \
             `compressionLevel`, `tracePropagator`\n\
             namers[0].prefix: `/` cannot be a namer's prefix: it needs at least one label\n\
             routers[0].interpreter.x: unknown key, expected one of `dtabFile`, `transformers`, `experimental`",
        );
    }
}
