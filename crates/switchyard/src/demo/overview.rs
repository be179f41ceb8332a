//! What the demo says when it is ready: what runs where, and what to try.

use super::topology::Topology;

pub fn text(topology: &Topology) -> String {
    let directory = topology.directory.display();
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
  export PATH=\"{directory}/bin:$PATH\" NAMERCTL_BASE_URL={namerd}
{elsewhere}  curl {frontend}
  switchyard dtab get internal
  switchyard dtab explain internal /svc/world
  echo \"hal, open the pod bay doors\" > {directory}/repo/k8s-daemonset/helloworld/world.txt
  git -C {directory}/repo commit -qam \"A new text\"
  switchyard deploy start hello_world --until gate      # or the page {pipeline}
  curl -H 'l5d-dtab: /host/world => /tmp/world-v2' {frontend}
  switchyard deploy approve --until gate                # 10%, then 100%, then for good
  switchyard deploy abort                               # or back to where it was
  switchyard dtab history internal

Ctrl-C ends everything.

"
    )
}
