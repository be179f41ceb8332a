//! Which elements of a path name a router, server, service, client or cause, and so are labels rather than
//! parts of a name.
//!
//! ```text
//!  rt/out/service/svc/web/failures/x   name rt:service:failures   rt=out service=svc/web exception=x
//!  http/route/GET /a/requests          name http:route:requests   route=GET /a
//! ```

/// A path taken apart.
#[derive(Debug)]
pub(crate) struct Scoped<'a> {
    /// `["rt", "service", "failures"]`
    pub name: Vec<&'a str>,
    pub labels: Vec<(&'static str, String)>,
    /// The path with a star for each label: `rt/*/service/*/failures/*`.
    pub shape: String,
}

impl<'a> Scoped<'a> {
    /// Scopes as labels; the rest is the name.
    pub(crate) fn new(path: &[&'a str]) -> Scoped<'a> {
        let mut scoped = Scoped { name: Vec::new(), labels: Vec::new(), shape: String::new() };
        let rest = scoped.take_scopes(path);
        scoped.name.extend(rest);
        scoped.add_shape(rest);
        scoped
    }

    /// Also failure causes and exception classes.
    pub(crate) fn with_causes(path: &[&'a str]) -> Scoped<'a> {
        let mut scoped = Scoped { name: Vec::new(), labels: Vec::new(), shape: String::new() };
        match scoped.take_scopes(path) {
            [group @ ("failures" | "exn"), causes @ ..] if !causes.is_empty() && scoped.labels.len() > 1 => {
                scoped.name.push(if *group == "exn" { "exceptions" } else { "failures" });
                scoped.labels.push(("exception", causes.join(":")));
                scoped.add_shape(&[group, "*"]);
            }
            rest => {
                scoped.name.extend(rest);
                scoped.add_shape(rest);
            }
        }
        scoped
    }

    /// Joined by `:`; whatever a metric's name cannot hold becomes `_`, as in the original.
    pub(crate) fn mangled(&self) -> String {
        mangled(&self.name)
    }

    /// Returns what is below the scopes: never nothing, of a path that is not empty.
    fn take_scopes<'p>(&mut self, path: &'p [&'a str]) -> &'p [&'a str] {
        // Of the pipeline server.
        if let [group @ ("http" | "deploys"), kind @ ("route" | "pipeline"), scope, below @ ..] = path
            && !below.is_empty()
        {
            self.name.push(group);
            self.add_shape(&[group]);
            self.take(kind, if *kind == "route" { "route" } else { "pipeline" }, scope);
            return below;
        }
        let ["rt", label, rest @ ..] = path else { return path };
        if rest.is_empty() {
            return path;
        }
        self.take("rt", "rt", label);
        let [kind, scope, below @ ..] = rest else { return rest };
        let Some(known) = ["server", "service", "client"].into_iter().find(|known| known == kind) else { return rest };
        if below.is_empty() {
            return rest;
        }
        self.take(kind, known, scope);
        match below {
            ["service", service, below @ ..] if known == "client" && !below.is_empty() => {
                self.take("service", "service", service);
                below
            }
            _ => below,
        }
    }

    fn take(&mut self, element: &'a str, label: &'static str, value: &str) {
        self.name.push(element);
        self.labels.push((label, value.to_owned()));
        self.add_shape(&[element, "*"]);
    }

    fn add_shape(&mut self, elements: &[&str]) {
        for element in elements {
            if !self.shape.is_empty() {
                self.shape.push('/');
            }
            self.shape.push_str(element);
        }
    }
}

pub(crate) fn mangled(name: &[&str]) -> String {
    let joined = name.join(":");
    joined.chars().map(|char| if char.is_ascii_alphanumeric() || char == ':' { char } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_become_labels_where_something_is_below_them() {
        let cases: [(&[&str], &str, &str, usize); 10] = [
            (&["http", "route", "GET /a", "status", "200"], "http:route:status:200", "http/route/*/status/200", 1),
            (&["deploys", "pipeline", "p", "failed"], "deploys:pipeline:failed", "deploys/pipeline/*/failed", 1),
            (&["rt", "out", "server", "s/1", "requests"], "rt:server:requests", "rt/*/server/*/requests", 2),
            (&["rt", "out", "client", "c", "service", "v", "x"], "rt:client:service:x", "rt/*/client/*/service/*/x", 3),
            (&["rt", "out", "client", "c", "service", "v"], "rt:client:service:v", "rt/*/client/*/service/v", 2),
            (&["rt", "out", "service", "v"], "rt:service:v", "rt/*/service/v", 1),
            (&["rt", "out"], "rt:out", "rt/out", 0),
            (&["rt", "out", "service", "v", "exn", "a", "b"], "rt:service:exceptions", "rt/*/service/*/exn/*", 3),
            (&["rt", "out", "failures", "a-b"], "rt:failures:a_b", "rt/*/failures/a-b", 1),
            (&["jvm", "num_cpus"], "jvm:num_cpus", "jvm/num_cpus", 0),
        ];
        for (path, name, shape, labels) in cases {
            let scoped = Scoped::with_causes(path);
            assert_eq!((scoped.mangled().as_str(), scoped.shape.as_str(), scoped.labels.len()), (name, shape, labels));
        }
        assert_eq!(Scoped::new(&["rt", "out", "service", "v", "exn", "a"]).mangled(), "rt:service:exn:a");
    }
}
