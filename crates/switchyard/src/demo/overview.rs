//! What the demo says when it is ready: what runs where, and what to try.

use std::path::Path;

use super::topology::Topology;

/// A path as a word of a shell's command line, quoted only where it must be.
fn word(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/._-+,:@%".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

pub fn text(topology: &Topology) -> String {
    let directory = topology.directory.display();
    let (bin, repo) = (word(&topology.path("bin")), word(&topology.path("repo")));
    let text_file = word(&topology.path("repo/k8s-daemonset/helloworld/world.txt"));
    let (frontend, namerd, pipeline) = (topology.frontend(), topology.namerd(), topology.pipeline());
    let (router_admin, namerd_admin) = (topology.router_admin(), topology.namerd_admin());
    let (outgoing, incoming) = (topology.outgoing(), topology.incoming());
    let elsewhere =
        if topology.offset() == 0 { String::new() } else { format!("  export SWITCHYARD_PIPELINE={pipeline}\n") };
    format!(
        "
What runs where
  frontend (router external)   {frontend}
  routers outgoing, incoming   {outgoing}  {incoming}
  pipeline, page and API       {pipeline}
  router pages                 {router_admin}
  control plane pages          {namerd_admin}
  control plane API            {namerd}
  repository                   {directory}/repo
  logs                         {directory}/log
  all of it, for programs      {directory}/demo.json

What to try, in another terminal
  export PATH={bin}:\"$PATH\" NAMERCTL_BASE_URL={namerd}
{elsewhere}  curl {frontend}
  switchyard dtab get internal
  switchyard dtab explain internal /svc/world
  echo \"hal, open the pod bay doors\" > {text_file}
  git -C {repo} commit -qam \"A new text\"
  switchyard deploy start hello_world --until gate      # or the page {pipeline}
  curl -H 'l5d-dtab: /host/world => /tmp/world-v2' {frontend}
  switchyard deploy approve --until gate                # 10%, then 100%, then for good
  switchyard deploy abort                               # or back to where it was
  switchyard dtab history internal

Ctrl-C ends everything.
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_can_be_pasted_into_a_shell() {
        for path in ["/tmp/plain-1.x", "/tmp/o'dd \"d$ir` \\ ü;&"] {
            let line = format!("printf %s {}", word(Path::new(path)));
            let output = std::process::Command::new("sh").args(["-c", &line]).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), path, "{line}");
        }
        assert_eq!(word(Path::new("/tmp/plain-1.x")), "/tmp/plain-1.x");
    }
}
